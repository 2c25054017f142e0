"""Fields of data files: every kind of value is read, and refused, in one place.

A refusal says where, what was expected and what stands there: `h200.yaml: memory: expected a size such as '80 GB', got
'80 GB/s'`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import inf
from typing import Any

from kvplan.catalog.files import Document, called, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import document
from kvplan.errors import ECHOED, KvplanError, SpecError, UnknownName, meant, shown
from kvplan.specs.source import KINDS, Source
from kvplan.units import parse, written

SOURCE = "{kind: datasheet, ref: https://..., date: 2026-11-23}"
#: no figure of a GPU, price ... is larger in base units
LARGEST = 1e21
#: what a file of each kind is called, and the field that only this kind has
MARKS = {
    "claims": ("a file of claims, which `kvplan audit` reads", "claims"),
    "fleet": ("a fleet, which `kvplan fleet` reads", "workloads"),
    "workload": ("a workload, which `kvplan recommend` reads", "arrivals"),
    "quality": ("a table of quality scores, which `kvplan recommend` reads", "rows"),
    "ownership": ("a file of what owning takes, which `kvplan prices` reads", "servers"),
    "prices": ("a price list, which `kvplan prices` reads", "prices"),
    "gpu": ("a GPU, which `kvplan estimate` reads", "bandwidth"),
    "engine": ("an engine's memory rules, for `kvplan show engine`", "block_size"),
    "model": ("a model, which `kvplan estimate` reads", "config"),
    "serving": ("a profile of servers, which `kvplan estimate` reads", "measured"),
    "calibration": ("a profile of kernels, which `kvplan predict` reads", "kernels"),
}


# -- documents and their fields -------------------------------------------------------------------


def shelf_document(kind: str, word: str, noun: str) -> tuple[Document, str, str]:
    """Return a shipped or a user's document, its name, and its file's name for messages; raise SpecError, UnknownName.

    A user's document is all text, a shipped one as its shelf is parsed.
    """
    path = as_path(word)
    if path is not None:
        return read_yaml(read_text(path, called(path)), called(path), typed=False), path.stem, called(path)
    name = resolve(kind, word, noun)
    return document(kind, name), name, f"{name}.yaml"


def known_fields(raw: Mapping[str, Any], known: Iterable[str], location: str, kind: str = "") -> None:
    """Refuse a field that is none of the known ones, with the nearest.

    `kind` (a key of MARKS) says what a whole file should be: one of another kind is called by its kind.
    """
    known = tuple(known)
    wrong = next((key for key in raw if key not in known), None)
    if wrong is None:
        return
    others = (hint for hint, mark in MARKS.values() if mark in raw and mark not in known)
    if kind and (other := next(others, None)):
        raise SpecError(f"{location}: is {other}; expected {MARKS[kind][0].split(', ')[0]}")
    raise UnknownName("field", wrong, known, f"known: {', '.join(known)}", location)


def mapping(raw: object, location: str, example: str = "") -> Document:
    """Return fields, or refuse what is none, with an example to copy."""
    if not isinstance(raw, dict):
        raise SpecError(f"{location}: expected fields{_as_in(example)}, got {'nothing' if raw is None else shown(raw)}")
    return raw


def required(raw: object, fields: Iterable[str], needed: Iterable[str], location: str, kind: str = "") -> Document:
    """Return fields that hold all of the needed ones and none but the known ones; raise SpecError, UnknownName."""
    document = mapping(raw, location)
    known_fields(document, fields, location, kind)
    if missing := [f for f in needed if f not in document]:
        raise SpecError(f"{location}: missing {enumerated(missing)}")
    return document


def complete(raw: Mapping[str, Any], examples: Mapping[str, str], location: str) -> None:
    """Refuse fields that lack any of those of `examples` (field -> what it may hold), and name all that lack."""
    missing = [field for field in examples if raw.get(field) in (None, "")]
    if missing:
        wanted = ", ".join(f"{field}: {examples[field]}" for field in missing)
        raise SpecError(f"{location}: missing {enumerated(missing)}, as in {wanted}")


def enumerated(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: 'a', 'a and b', 'a, b and c'."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def listed(raw: object, location: str, example: str = "", fewest: int = 0) -> list[Any]:
    """Return a list of at least `fewest` entries, or refuse what is none."""
    if not isinstance(raw, list) or len(raw) < fewest:
        raise SpecError(f"{location}: expected a list{_as_in(example)}, got {shown(raw)}")
    return raw


def _as_in(example: str) -> str:
    return f", as in {example}" if example else ""


def named(read: Any, word: str, location: str) -> Any:
    """Return what a name stands for (`read` of it); a refusal says where the name stands."""
    try:
        return read(word)
    except KvplanError as refusal:
        message = str(refusal)
        raise SpecError(message if message.startswith(location) else f"{location}: {message}") from None


# -- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueRange:
    """The values a figure may have: from `least`, itself left out when `open`, to `most`, left out when `below`."""

    least: float = 0.0  #: the smallest
    most: float = inf  #: the largest
    open: bool = False  #: whether `least` itself is refused
    below: bool = False  #: whether `most` itself is refused

    def __contains__(self, value: float) -> bool:
        low = value > self.least if self.open else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def said(self, percent: bool = False) -> str:
        """Return the range as a message says it: 'from 1 to 5', 'above zero', as shares or as percentages."""
        low = "zero" if self.open and not self.least else _figure(self.least, percent)
        high = _figure(self.most, percent)
        if self.most == inf:
            return f"{'above' if self.open else 'at least'} {low}"
        if self.open:
            return f"above {low} and {'below' if self.below else 'at most'} {high}"
        return f"from {low} to {'below ' if self.below else ''}{high}"


POSITIVE = ValueRange(open=True, most=LARGEST)
#: what a GPU may cost [USD/s]
RENT = ValueRange(open=True, most=1e3)
ANY = ValueRange(-inf)


def _figure(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:g} %"
    return f"{value:,.0f}" if value == int(min(value, LARGEST)) else f"{value:g}"


def number(
    raw: object,
    location: str,
    within: ValueRange = POSITIVE,
    unit: str = "1",
    *,
    whole: bool = False,
    example: str = "",
) -> float:
    """Return a quantity in base units of `unit`; raise SpecError where it is missing, is none or lies outside."""
    if raw is None:
        raise SpecError(f"{location} is missing, as in {location.rsplit(': ', 1)[-1]}: {example or '1'}")
    value = parse(raw, unit, location)
    if value not in within or (whole and value != int(value)):
        bounds = "above zero and finite" if within is POSITIVE and not whole else within.said()
        raise SpecError(
            f"{location}: must be {'a whole number ' if whole else ''}{bounds}{_as_in(example)}, got {shown(raw)}"
        )
    return value


def count(raw: object, location: str, within: ValueRange, example: str = "") -> int:
    """Return a whole number; raise SpecError."""
    return int(number(raw, location, within, whole=True, example=example))


def queries(raw: object, location: str, within: ValueRange) -> float:
    """Return a number of queries such as 40000 or 40k; raise SpecError."""
    return number(raw, location, within, "queries", example="40000")


def share(raw: object, location: str, within: ValueRange = ANY, example: str = "50%") -> float:
    """Return a share that is written 0.5 or 50 %; raise SpecError."""
    text = raw.strip() if isinstance(raw, str) else raw
    percent = isinstance(text, str) and text.endswith("%")
    fraction = parse(written(text).removesuffix("%") if percent else text, "1", location) / (100 if percent else 1)
    if fraction not in within:
        raise SpecError(f"{location}: must be {within.said(percent=True)}, as in {example}, got {shown(raw)}")
    return fraction


def percentile(raw: object, location: str, least: float = 0.0) -> float:
    """Return a percentile that is written 95, 95 % or 0.95 as a share; raise SpecError."""
    fraction = share(raw, location)
    fraction = fraction / 100 if fraction >= 1 and not str(raw).strip().endswith("%") else fraction
    within = ValueRange(100 * least, 100, open=not least, below=True)
    if 100 * fraction not in within:
        raise SpecError(f"{location}: must be {within.said()}, as in 95, got {shown(raw)}")
    return fraction


def duration(raw: object, location: str) -> float:
    """Return a time above zero, such as 50ms. [s]"""
    return number(raw, location, ValueRange(open=True), "s", example="5s or 50ms")


# -- words ----------------------------------------------------------------------------------------


def text(raw: Mapping[str, Any], key: str, location: str, default: str | None = None, example: str = "") -> str:
    """Return the text of a field, `default` where it is missing (None: it must be there); raise SpecError."""
    value = raw.get(key)
    value = default if value is None else value
    if value is None or (default is None and not str(value).strip()):
        raise SpecError(f"{location}: {key} is missing{_as_in(example)}")
    if isinstance(value, (dict, list)):
        raise SpecError(f"{location}: {key}: expected text, got {shown(value)}")
    return str(value)


def titles(raw: Mapping[str, Any], name: str, location: str) -> dict[str, str]:
    """Return the name and title of a document, its file's name where it gives none."""
    return {key: text(raw, key, location, name) for key in ("name", "title")}


def one_of(raw: object, location: str, known: Iterable[str]) -> str:
    """Return a word that is one of the known ones; raise SpecError."""
    known = tuple(known)
    if not isinstance(raw, str) or raw not in known:
        raise SpecError(f"{location}: must be one of {', '.join(known)}, got {shown(raw)}{meant(raw, known)}")
    return raw


def yes(raw: object, location: str) -> bool:
    """Return whether a field says yes or true; raise SpecError where it does not say no or false either."""
    answer = written(raw).lower()
    if answer not in ("yes", "no", "true", "false"):
        raise SpecError(f"{location}: must be yes or no, got {shown(raw)}")
    return answer in ("yes", "true")


def day(raw: object, location: str) -> str:
    """Return a date such as 2026-11-23; raise SpecError."""
    try:
        return date.fromisoformat(str(raw)[:ECHOED]).isoformat()
    except ValueError:
        raise SpecError(f"{location}: expected a date such as 2026-11-23, got {shown(raw)}") from None


# -- sources --------------------------------------------------------------------------------------


def read_source(raw: object, location: str) -> Source:
    """Return a source; raise SpecError where it lacks its kind, reference or date."""
    if not isinstance(raw, Mapping) or not all(isinstance(raw.get(k), (str, date)) for k in ("kind", "ref", "date")):
        missing = "missing source; " if raw is None else ""
        raise SpecError(f"{location}: {missing}source must say kind, ref and date, as in source: {SOURCE}")
    kind = one_of(raw["kind"], f"{location}: source: kind", KINDS)
    return Source(kind=kind, ref=str(raw["ref"]), date=day(raw["date"], f"{location}: source: date"))


def source_of(entry: object, default: Source, location: str) -> Source:
    """Return the source that an entry names, its file's where it names none."""
    return read_source(entry["source"], location) if isinstance(entry, Mapping) and "source" in entry else default


def shelf_rows(
    kind: str, word: str, fields: Sequence[str], needed: Sequence[str]
) -> Iterator[tuple[Document, str, Source]]:
    """Yield the rows of a document of a shelf, each with its place for messages and its source.

    A row without a source has the document's. Raises SpecError and UnknownName as `required` does.
    """
    raw, _, location = shelf_document(kind, word, kind)
    default = read_source(raw.get("source"), location)
    required(raw, ("name", "title", "source", "rows"), ("rows",), location)
    for i, item in enumerate(listed(raw["rows"], f"{location}: rows")):
        place = f"{location}: rows[{i}]"
        row = required(item, fields, needed, place)
        yield row, place, source_of(row, default, place)


def stated(raw: object, default: Source, location: str) -> tuple[object, Source]:
    """Return a figure and its source: a plain value, or {value: ..., source: ...}."""
    if isinstance(raw, Mapping):
        return raw.get("value"), read_source(raw.get("source"), location)
    return raw, default


def figures(raw: Document, units: Mapping[str, str], location: str, kind: str) -> tuple[Document, dict[str, Source]]:
    """Return the values of a text document in base units, and the source of each field.

    `units` gives each field's unit: '' is text, '#' a whole number.
    """
    default = read_source(raw.get("source"), location)
    known_fields(raw, (*units, "name", "aliases", "source"), location, kind)
    values: Document = {}
    sources: dict[str, Source] = {}
    for field, unit in units.items():
        if field in raw:
            place = f"{location}: {field}"
            value, sources[field] = stated(raw[field], default, place)
            values[field] = text({field: value}, field, location) if unit == "" else _quantity(value, unit, place)
    return values, sources


def _quantity(value: object, unit: str, location: str) -> float | int:
    return count(value, location, POSITIVE) if unit == "#" else number(value, location, POSITIVE, unit)
