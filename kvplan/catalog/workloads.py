"""Reading workloads: a name on the shelf or a YAML file of the user's own."""

from functools import cache
from itertools import pairwise

from kvplan.catalog.fields import (
    SOURCE,
    ValueRange,
    complete,
    duration,
    known_fields,
    listed,
    mapping,
    number,
    one_of,
    percentile,
    queries,
    read_source,
    shelf_document,
    source_of,
    stated,
    text,
    titles,
    yes,
)
from kvplan.catalog.files import Document
from kvplan.catalog.lookup import as_path, named, resolve, swapped
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, UnknownName
from kvplan.specs.model import IMAGE, MODALITIES, TEXT
from kvplan.specs.quality import QUERIES, task_named
from kvplan.specs.source import Source
from kvplan.specs.workload import (
    ALL,
    BETWEEN,
    WIDEST,
    Arrivals,
    Factor,
    Lengths,
    Lognormal,
    Part,
    Quantiles,
    Slo,
    Workload,
)
from kvplan.units import MAX_TOKENS

FIELDS = (
    "name", "title", "aliases", "task", "offline", "source", "input", "output", "arrivals", "slo", "item",
    "requests_per_item", "between_questions", "question", "notes",
)  # fmt: skip
#: fields of a workload that must be there, those of lengths that are derived, and those of a factor: with an example
NEEDED = {
    "source": SOURCE,
    "task": "chat",
    "input": "{quantiles: {0: 10, 50: 900, 100: 8000}}",
    "output": "{quantiles: {0: 10, 50: 200, 100: 900}}",
    "arrivals": "{queries_per_day: 40000}",
    "slo": "{ttft: 5s}",
}
DERIVED = {"p95": "1.5 (times the mean)", "low": "100", "high": "8000"}
FACTOR = {"value": "100", "of": "pages"}
#: what no workload has, but files of models; a workload that messages name
MODEL, EXAMPLE = ("config", "model_type", "architectures"), "chat"
LENGTHS = ("parts", "p95", "low", "high", "quantiles", "reused", "source")
#: what a factor or a rate, a length or a ratio, a weight, and a share of 1 or of 100 may be
SOME, ONE, WEIGHT = ValueRange(open=True, most=MAX_TOKENS), ValueRange(1, MAX_TOKENS), ValueRange(0, MAX_TOKENS)
PIXELS = ValueRange(1, 100_000)
SHARE, PERCENT = ValueRange(0, 1), ValueRange(0, 100)


def workload(word: str) -> Workload:
    """Return a workload by name, alias or YAML file; raise SpecError, UnknownName."""
    if as_path(word):
        return _read(word)
    try:
        return _named(resolve("workloads", word, "workload"))
    except UnknownName:
        if named("models", word):
            raise swapped(word, "model", "workload", EXAMPLE) from None
        raise


def all_workloads() -> tuple[Workload, ...]:
    """Return every workload on the shelf."""
    return tuple(_named(name) for name in names("workloads"))


@cache
def _named(name: str) -> Workload:
    return _read(name)


def _read(word: str) -> Workload:
    raw, name, location = shelf_document("workloads", word, "workload")
    if not raw.keys().isdisjoint(MODEL):
        raise swapped(word, "model", "workload", EXAMPLE)
    known_fields(raw, FIELDS, location, "workload")
    complete(raw, NEEDED, location)
    source = read_source(raw.get("source"), location)
    sources = _sources(raw, source, location)
    asked = mapping(raw.get("input"), f"{location}: input", "{parts: [...], p95: 1.5, low: 100, high: 8000}")
    given = mapping(raw.get("output"), f"{location}: output", "{parts: [...], p95: 1.5, low: 10, high: 2000}")
    parts, lengths = _lengths(asked, f"{location}: input", sources["input"])
    answer, outputs = _lengths(given, f"{location}: output", sources["output"])
    reused = asked.get("reused")
    return Workload(
        **titles(raw, name, location),
        task=task_named(text(raw, "task", location, ""), f"{location}: task"),
        offline=yes(raw.get("offline", "no"), f"{location}: offline"),
        input=lengths,
        output=outputs,
        parts=parts,
        beside=(),
        answer=answer,
        reused=None if reused is None else number(reused, f"{location}: input: reused", SHARE),
        arrivals=_arrivals(raw.get("arrivals"), f"{location}: arrivals"),
        slo=_slo(raw.get("slo"), f"{location}: slo"),
        item=text(raw, "item", location, ""),
        requests_per_item=_requests_per_item(raw, source, location),
        between_questions=_between_questions(raw, source, location),
        question=one_of(raw["question"], f"{location}: question", QUERIES) if "question" in raw else "",
        notes=tuple(str(n) for n in listed(raw.get("notes", []), f"{location}: notes", "[one sentence]")),
        source=source,
        sources=sources,
        defaults=_defaults(raw),
    )


def _sources(raw: Document, source: Source, location: str) -> dict[str, Source]:
    """Return who says what, by part of the workload; `source` is the file's."""
    parts = ("input", "output", "arrivals", "slo")
    sources = {name: source_of(raw.get(name), source, f"{location}: {name}") for name in parts}
    for name, field in (("item", "requests_per_item"), ("between_questions", "between_questions")):
        if field in raw:
            _, sources[name] = stated(raw[field], source, f"{location}: {field}")
    return sources


def _requests_per_item(raw: Document, source: Source, location: str) -> float:
    """Return how many requests an item takes, 1 where the file does not say."""
    if "requests_per_item" not in raw:
        return 1.0
    place = f"{location}: requests_per_item"
    each = number(stated(raw["requests_per_item"], source, place)[0], place, ONE, example="8")
    if each > 1 and not text(raw, "item", location, ""):
        raise SpecError(f"{place}: say of what, as in item: contract")
    return each


def _between_questions(raw: Document, source: Source, location: str) -> float:
    """Return the mean time between two questions of a session. [s]"""
    if "between_questions" not in raw:
        return BETWEEN
    place = f"{location}: between_questions"
    return duration(stated(raw["between_questions"], source, place)[0], place)


def _defaults(raw: Document) -> tuple[str, ...]:
    """Return the names of the figures that a file, already read, does not state."""
    places = {"": ("title", "offline"), "arrivals": ("hours", "burstiness", "busiest_minute"), "slo": ("percentile",)}
    return tuple(
        name for place, names in places.items() for name in names if name not in (raw[place] if place else raw)
    )


# -- lengths --------------------------------------------------------------------------------------


def _lengths(raw: Document, location: str, source: Source) -> tuple[tuple[Part, ...], Lengths]:
    """Return the parts of a prompt or an answer, none where a log gave quantiles, and its distribution."""
    known_fields(raw, LENGTHS, location)
    if ("quantiles" in raw) == ("parts" in raw):
        raise SpecError(f"{location}: write either parts (a derivation) or quantiles (a log's)")
    if "quantiles" in raw:
        return (), _quantiles(raw["quantiles"], f"{location}: quantiles")
    complete(raw, DERIVED, location)
    given = listed(raw["parts"], f"{location}: parts", "[{name: ..., factors: []}]")
    parts = tuple(_part(p, location, source) for p in given)
    mean = sum(p.tokens for p in parts)
    low, high = (number(raw[end], f"{location}: {end}", ONE, example=DERIVED[end]) for end in ("low", "high"))
    ratio = number(raw["p95"], f"{location}: p95", SOME, example=DERIVED["p95"])
    if not low < mean < high:
        raise SpecError(
            f"{location}: its parts come to {mean:,.0f} tokens, which must lie between low {low:,.0f} and "
            f"high {high:,.0f}"
        )
    if not 1 < ratio <= WIDEST:
        raise SpecError(f"{location}: p95 is a multiple of the mean above 1 and up to {WIDEST:.2f}, got {ratio:g}")
    return parts, Lognormal(mean, mean * ratio, low, high)


def _quantiles(raw: object, location: str) -> Quantiles:
    example = "{0: 10, 50: 400, 95: 2000, 100: 8000}"
    known = []
    for share, length in mapping(raw, location, example).items():
        known.append((number(share, location, PERCENT) / 100, number(length, f"{location}: {share}", SOME)))
    known.sort()
    if len(known) < 2 or known[0][0] != 0 or known[-1][0] != 1:
        raise SpecError(f"{location}: must go from 0 (shortest) to 100 (longest), as in {example}")
    for (_, a), (q, b) in pairwise(known):
        if b < a:
            raise SpecError(f"{location}: {100 * q:g} must not be shorter than a lower one ({b:g} < {a:g} tokens)")
    return Quantiles(tuple(known))


def _part(raw: object, location: str, source: Source) -> Part:
    fields = mapping(raw, f"{location}: parts", "{name: document, factors: [{value: 100, of: pages}]}")
    name = text(fields, "name", f"{location}: parts", "")
    place = f"{location}: {name or 'a part'}"
    known_fields(fields, ("name", "factors", "requests", "modality", "size", "visual"), place)
    factors = listed(fields.get("factors"), f"{place}: factors", "[{value: 100, of: pages}]")
    if not name or not factors:
        raise SpecError(f"{place}: needs a name and factors, as in {{name: document, factors: [...]}}")
    requests = fields.get("requests", "1")
    return Part(
        name=name,
        factors=tuple(_factor(f, f"{place}: factors", source) for f in factors),
        requests=ALL if requests == "all" else number(requests, f"{place}: requests", ONE),
        modality=_modality(fields, place),
        size=_size(fields["size"], f"{place}: size") if "size" in fields else None,
    )


def _modality(raw: Document, location: str) -> str:
    """Return what a part is of; `visual: yes`, as files had it before, stands for images."""
    usual = IMAGE if yes(raw.get("visual", "no"), f"{location}: visual") else TEXT
    kind = text(raw, "modality", location, usual)
    if kind not in MODALITIES:
        raise UnknownName("modality", kind, MODALITIES, f"known: {', '.join(MODALITIES)}", location)
    return kind


def _size(raw: object, location: str) -> tuple[int, int]:
    pair = [number(side, location, PIXELS) for side in listed(raw, location, "[width, height]")]
    if len(pair) != 2:
        raise SpecError(f"{location}: expected a width and a height in pixels, as in [1280, 720]")
    return int(pair[0]), int(pair[1])


def _factor(raw: object, location: str, source: Source) -> Factor:
    fields = mapping(raw, location, "{value: 100, of: pages}")
    known_fields(fields, ("value", "of", "source"), location)
    complete(fields, FACTOR, location)
    of = text(fields, "of", location)
    value = number(fields["value"], f"{location}: {of}", SOME)
    return Factor(value=value, of=of, source=source_of(fields, source, location))


# -- arrivals and limits --------------------------------------------------------------------------


def _arrivals(raw: object, location: str) -> Arrivals:
    fields = mapping(raw, location, "{queries_per_day: 40000, burstiness: 1, busiest_minute: 1.5, hours: [24 weights]}")
    known_fields(fields, ("queries_per_day", "burstiness", "busiest_minute", "hours", "source"), location)
    hours = listed(fields.get("hours", ["1"] * 24), f"{location}: hours", "24 weights, midnight first")
    weights = tuple(number(h, f"{location}: hours", WEIGHT) for h in hours)
    if len(weights) != 24 or not sum(weights):
        raise SpecError(f"{location}: hours: expected 24 weights, midnight first, not all zero; got {len(weights)}")
    return Arrivals(
        queries_per_day=queries(fields.get("queries_per_day"), f"{location}: queries_per_day", SOME),
        hours=weights,
        burstiness=number(fields.get("burstiness", "1"), f"{location}: burstiness", WEIGHT),
        busiest_minute=number(fields.get("busiest_minute", "1"), f"{location}: busiest_minute", ONE),
    )


def _slo(raw: object, location: str) -> Slo:
    fields = mapping(raw, location, "{ttft: 5s, tpot: 50ms, percentile: 95}")
    known_fields(fields, ("ttft", "tpot", "e2e", "percentile", "source"), location)
    limits = {k: duration(fields[k], f"{location}: {k}") if k in fields else None for k in ("ttft", "tpot", "e2e")}
    if not any(limits.values()):
        raise SpecError(f"{location}: name at least one of ttft, tpot and e2e, as in ttft: 5s")
    return Slo(**limits, percentile=percentile(fields.get("percentile", "95"), f"{location}: percentile"))
