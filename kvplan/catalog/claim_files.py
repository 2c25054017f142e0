"""Reading claims: those kvplan ships, and a YAML file of the user's own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

from kvplan import catalog
from kvplan.architectures.formats import FORMATS
from kvplan.catalog.fields import known_fields, mapping, read_source
from kvplan.catalog.files import read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import shipped
from kvplan.catalog.workloads import workload
from kvplan.errors import KvplanError, SpecError, UnknownName, shown
from kvplan.specs.claims import CASE_FIELDS, Case, Claim, Claims
from kvplan.specs.quality import SHORT, task_named
from kvplan.specs.source import Source
from kvplan.specs.workload import Factor
from kvplan.units import parse, parse_tokens, show_tokens

FIELDS = ("name", "title", "source", "claims")
CLAIM = ("id", "about", "claim", "check", "claimed", "tolerance", "cases", "needs", "note", "source")
#: how an arithmetic check combines its factors
HOWS = ("product", "sum", "quotient")
EXAMPLE = "{id: size, claim: 40 GB each, check: kv_bytes, claimed: 40 GB, cases: {model: llama3-70b, context: 128k}}"
#: cases of one claim beyond which nobody reads them
MOST = 200


def claim_list(word: str) -> Claims:
    """Return a file of claims: a shipped one by name, or the user's by path."""
    path = as_path(word)
    if path is not None:
        return _read(path.stem, read_text(path, path.name), path.name)
    name = resolve("claims", word, "claims file")
    return _read(name, shipped("claims", name), f"{name}.yaml")


def _read(name: str, text: str, where: str) -> Claims:
    raw = read_yaml(text, where, typed=False)
    known_fields(raw, FIELDS, where)
    source = read_source(raw.get("source"), where)
    entries = _list(raw.get("claims"), f"{where}: claims", f"[{EXAMPLE}]")
    found: list[Claim] = []
    about = ""
    for number, entry in enumerate(entries, 1):
        claim = _claim(entry, source, about, f"{where}: claim {number}")
        about = claim.about
        if any(c.id == claim.id for c in found):
            raise SpecError(f"{claim.where}: id {shown(claim.id)} stands twice; every claim needs one of its own")
        found.append(claim)
    titles = {"name": str(raw.get("name", name)), "title": str(raw.get("title", name))}
    return Claims(**titles, source=source, claims=tuple(found))


def _claim(raw: object, source: Source, about: str, where: str) -> Claim:
    """Return one claim; its heading holds for those after it too."""
    found = mapping(raw, where, EXAMPLE)
    known_fields(found, (*CLAIM, *HOWS), where)
    for key in ("id", "claim", "check"):
        if not isinstance(found.get(key), str) or not found[key].strip():
            raise SpecError(f"{where}: {key} is missing, as in {EXAMPLE}")
    place = f"{where.rsplit(':', 1)[0]}: {found['id']}"
    source = read_source(found["source"], place) if "source" in found else source
    how = [key for key in HOWS if key in found]
    if len(how) > 1:
        raise SpecError(f"{place}: write one of {', '.join(HOWS)}, not several")
    return Claim(
        id=found["id"],
        about=str(found.get("about", about)),
        claim=found["claim"],
        check=found["check"],
        claimed=str(found.get("claimed", "")),
        tolerance=_share(found["tolerance"], f"{place}: tolerance") if "tolerance" in found else None,
        cases=_cases(found.get("cases", {}), f"{place}: cases"),
        how=how[0] if how else "",
        factors=_factors(found[how[0]], source, f"{place}: {how[0]}") if how else (),
        needs=str(found.get("needs", "")),
        note=str(found.get("note", "")),
        source=source,
        where=place,
    )


# -- cases ----------------------------------------------------------------------------------------


def _cases(raw: object, where: str) -> tuple[Case, ...]:
    """Return a case for every combination of the values its fields list."""
    given = mapping(raw, where, "{model: llama3-70b, context: [8k, 128k], technique: mhc:4x}")
    known_fields(given, tuple(CASE_FIELDS), where)
    choices = []
    for field, value in given.items():
        options = value if isinstance(value, list) else [value]
        if not options:
            raise SpecError(f"{where}: {field}: the list is empty; write a value, or leave the field out")
        choices.append([_option(field, option, where) for option in options])
    if (count := _product(len(c) for c in choices)) > MOST:
        raise SpecError(f"{where}: {count:,} cases are more than {MOST}; list fewer values")
    found = []
    for picked in product(*choices):
        case = Case(words=dict(zip(given, (word for word, _ in picked), strict=True)))
        values = dict(zip(given, (value for _, value in picked), strict=True))
        found.append(replace(case, **values))  # type: ignore[arg-type]
    return tuple(found)


def _product(counts: Any) -> int:
    total = 1
    for count in counts:
        total *= count
    return total


def _option(field: str, raw: object, where: str) -> tuple[str, object]:
    """Return a value as people write it, and what it stands for."""
    place = f"{where}: {field}"
    if not isinstance(raw, str):
        raise SpecError(f"{place}: expected {CASE_FIELDS[field]}, got {shown(raw)}")
    read = READERS.get(field)
    try:
        value = read(raw, place) if read else raw
    except KvplanError as refusal:
        said = str(refusal)
        raise SpecError(said if said.startswith(place) else f"{place}: {said}") from None
    word = show_tokens(value) if field in ("context", "output") and isinstance(value, int) else raw
    return getattr(value, "name", word), value


def _share(raw: object, where: str) -> float:
    """Read 0.5 or 50 %."""
    text = str(raw).strip()
    number = parse(text[:-1] if text.endswith("%") else text, "1", where) / (100 if text.endswith("%") else 1)
    if not 0 < number <= 1:
        raise SpecError(f"{where}: must be above 0 and at most 100 %, as in 50 %, got {shown(raw)}")
    return number


def _whole(raw: str, where: str) -> int:
    number = parse(raw, "1", where)
    if number != int(number) or not 1 <= number <= 1e6:
        raise SpecError(f"{where}: must be a whole number from 1 to 1,000,000, got {shown(raw)}")
    return int(number)


def _size(raw: str, where: str) -> float:
    number = parse(raw[:-1], "1", where) * 1e9 if raw.endswith("B") else parse(raw, "1", where)
    if not 0 < number < 1e15:
        raise SpecError(f"{where}: expected a number of parameters such as 7B or 7e9, got {shown(raw)}")
    return number


def _word(*known: str) -> Callable[[str, str], str]:
    def read(raw: str, where: str) -> str:
        if raw not in known:
            raise UnknownName("value", raw, known, f"known: {', '.join(known)}", where)
        return raw

    return read


def _price(raw: str, where: str) -> float:
    """Read 2.49/h, $2.49/h or 2.49 USD/h. [USD/s]"""
    amount, slash, per = raw.strip().lstrip("$").partition("/")
    found = parse(f"{amount.replace('USD', '').strip()} USD{slash}{per}", "USD/s", where)
    if not 0 < found < 1e6:
        raise SpecError(f"{where}: must be above zero, as in 2.49/h, got {shown(raw)}")
    return found


READERS: dict[str, Callable[[str, str], object]] = {
    "model": lambda text, _: catalog.model(text),
    "gpu": lambda text, _: catalog.gpu(text),
    "against_gpu": lambda text, _: catalog.gpu(text),
    "workload": lambda text, _: workload(text),
    "against_workload": lambda text, _: workload(text),
    "context": parse_tokens,
    "output": parse_tokens,
    "kv_heads": _whole,
    "batch": _whole,
    "tp": _whole,
    "price": _price,
    "load": _share,
    "size": _size,
    "weights": _word(*FORMATS),
    "measure": _word("ttft", "tpot", "e2e"),
    "task": lambda text, where: text if text == SHORT else task_named(text, where),
}


# -- factors --------------------------------------------------------------------------------------


def _factors(raw: object, source: Source, where: str) -> tuple[tuple[Factor, ...], ...]:
    """Return the factors of an arithmetic check, a tuple for every combination of the values they list."""
    example = "[{value: 10, of: seconds}, {value: [24, 30], of: frames a second}]"
    rows = []
    for entry in _list(raw, where, example):
        found = mapping(entry, where, "{value: 10, of: seconds}")
        known_fields(found, ("value", "of", "source"), where)
        of = str(found.get("of", ""))
        if not of or "value" not in found:
            raise SpecError(f"{where}: a factor needs value and of, as in {{value: 10, of: seconds}}")
        values = found["value"] if isinstance(found["value"], list) else [found["value"]]
        own = read_source(found["source"], f"{where}: {of}") if "source" in found else source
        rows.append([Factor(value=_number(v, f"{where}: {of}"), of=of, source=own) for v in values])
    return tuple(product(*rows))


def _number(raw: object, where: str) -> float:
    text = str(raw).strip()
    number = parse(text[:-1] if text.endswith("%") else text, "1", where)
    return number / 100 if text.endswith("%") else number


# -- shapes ---------------------------------------------------------------------------------------


def _list(raw: object, where: str, example: str) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise SpecError(f"{where}: expected a list, as in {example}")
    return raw
