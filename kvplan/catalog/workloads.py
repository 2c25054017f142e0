"""Reading workloads: a name on the shelf or a YAML file of the user's own."""

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from kvplan.catalog.fields import known_fields, mapping, read_source
from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import names, shipped
from kvplan.errors import SpecError, shown
from kvplan.specs.quality import task_named
from kvplan.specs.source import Source
from kvplan.specs.workload import ALL, WIDEST, Arrivals, Factor, Lengths, Lognormal, Part, Quantiles, Slo, Workload
from kvplan.units import MAX_TOKENS, parse

FIELDS = ("name", "title", "aliases", "task", "offline", "source", "input", "output", "arrivals", "slo", "notes")
LENGTHS = ("parts", "p95", "low", "high", "quantiles", "reused", "source")


def workload(word: str) -> Workload:
    """Return a workload by name, alias or YAML file."""
    path = as_path(word)
    if path is None:
        return _named(resolve("workloads", word, "workload"))
    return _read(path.stem, read_text(path, path.name), path.name)


def all_workloads() -> tuple[Workload, ...]:
    """Return every workload on the shelf."""
    return tuple(_named(name) for name in names("workloads"))


@cache
def _named(name: str) -> Workload:
    return _read(name, shipped("workloads", name), f"{name}.yaml")


def _read(name: str, text: str, where: str) -> Workload:
    raw = read_yaml(text, where, typed=False)
    known_fields(raw, FIELDS, where)
    source = read_source(raw.get("source"), where)
    sources = {k: _source(raw.get(k), source, f"{where}: {k}") for k in ("input", "output", "arrivals", "slo")}
    asked = mapping(raw.get("input"), f"{where}: input", "{parts: [...], p95: 1.5, low: 100, high: 8000}")
    given = mapping(raw.get("output"), f"{where}: output", "{parts: [...], p95: 1.5, low: 10, high: 2000}")
    parts, lengths = _lengths(asked, f"{where}: input", sources["input"])
    answer, outputs = _lengths(given, f"{where}: output", sources["output"])
    reused = asked.get("reused")
    return Workload(
        name=str(raw.get("name", name)),
        title=str(raw.get("title", name)),
        task=task_named(str(raw.get("task", "")), f"{where}: task"),
        offline=_yes(raw.get("offline", "no"), f"{where}: offline"),
        input=lengths,
        output=outputs,
        parts=parts,
        answer=answer,
        reused=None if reused is None else _number(reused, f"{where}: input: reused", most=1.0, least=0.0),
        arrivals=_arrivals(raw.get("arrivals"), f"{where}: arrivals"),
        slo=_slo(raw.get("slo"), f"{where}: slo"),
        notes=tuple(str(n) for n in _list(raw.get("notes", []), f"{where}: notes", "[one sentence]")),
        source=source,
        sources=sources,
    )


# -- lengths --------------------------------------------------------------------------------------


def _lengths(raw: Document, where: str, source: Source) -> tuple[tuple[Part, ...], Lengths]:
    """Return the parts of a prompt or an answer, none where a log gave quantiles, and its distribution."""
    known_fields(raw, LENGTHS, where)
    if ("quantiles" in raw) == ("parts" in raw):
        raise SpecError(f"{where}: write either parts (a derivation) or quantiles (a log's)")
    if "quantiles" in raw:
        return (), _quantiles(raw["quantiles"], f"{where}: quantiles")
    parts = tuple(_part(p, where, source) for p in _list(raw["parts"], f"{where}: parts", "[{name: ..., factors: []}]"))
    mean = sum(p.tokens for p in parts)
    low = _number(raw.get("low"), f"{where}: low", least=1.0, example="100")
    high = _number(raw.get("high"), f"{where}: high", least=1.0, example="8000")
    ratio = _number(raw.get("p95"), f"{where}: p95", example="1.5 (times the mean)")
    if not low < mean < high:
        raise SpecError(
            f"{where}: its parts come to {mean:,.0f} tokens, which must lie between low {low:,.0f} and high {high:,.0f}"
        )
    if not 1 < ratio <= WIDEST:
        raise SpecError(f"{where}: p95 is a multiple of the mean above 1 and up to {WIDEST:.2f}, got {ratio:g}")
    return parts, Lognormal(mean, mean * ratio, low, high)


def _quantiles(raw: object, where: str) -> Quantiles:
    example = "{0: 10, 50: 400, 95: 2000, 100: 8000}"
    known = []
    for share, length in mapping(raw, where, example).items():
        known.append((_number(share, where, least=0.0, most=100.0) / 100, _number(length, f"{where}: {share}")))
    known.sort()
    if len(known) < 2 or known[0][0] != 0 or known[-1][0] != 1:
        raise SpecError(f"{where}: must go from 0 (shortest) to 100 (longest), as in {example}")
    for (_, a), (q, b) in pairwise(known):
        if b < a:
            raise SpecError(f"{where}: {100 * q:g} must not be shorter than a lower one ({b:g} < {a:g} tokens)")
    return Quantiles(tuple(known))


def _part(raw: object, where: str, source: Source) -> Part:
    found = mapping(raw, f"{where}: parts", "{name: document, factors: [{value: 100, of: pages}]}")
    name = str(found.get("name", ""))
    place = f"{where}: {name or 'a part'}"
    known_fields(found, ("name", "factors", "requests", "visual"), place)
    factors = _list(found.get("factors"), f"{place}: factors", "[{value: 100, of: pages}]")
    if not name or not factors:
        raise SpecError(f"{place}: needs a name and factors, as in {{name: document, factors: [...]}}")
    requests = found.get("requests", "1")
    return Part(
        name=name,
        factors=tuple(_factor(f, f"{place}: factors", source) for f in factors),
        requests=ALL if requests == "all" else _number(requests, f"{place}: requests", least=1.0),
        visual=_yes(found.get("visual", "no"), f"{place}: visual"),
    )


def _factor(raw: object, where: str, source: Source) -> Factor:
    found = mapping(raw, where, "{value: 100, of: pages}")
    known_fields(found, ("value", "of", "source"), where)
    of = str(found.get("of", ""))
    if not of:
        raise SpecError(f"{where}: of is missing, as in {{value: 100, of: pages}}")
    return Factor(value=_number(found.get("value"), f"{where}: {of}"), of=of, source=_source(found, source, where))


# -- arrivals and limits --------------------------------------------------------------------------


def _arrivals(raw: object, where: str) -> Arrivals:
    found = mapping(raw, where, "{queries_per_day: 40000, burstiness: 1, busiest_minute: 1.5, hours: [24 weights]}")
    known_fields(found, ("queries_per_day", "burstiness", "busiest_minute", "hours", "source"), where)
    hours = _list(found.get("hours", ["1"] * 24), f"{where}: hours", "24 weights, midnight first")
    weights = tuple(_number(h, f"{where}: hours", least=0.0) for h in hours)
    if len(weights) != 24 or not sum(weights):
        raise SpecError(f"{where}: hours: expected 24 weights, midnight first, not all zero; got {len(weights)}")
    return Arrivals(
        queries_per_day=_number(found.get("queries_per_day"), f"{where}: queries_per_day", example="40000"),
        hours=weights,
        burstiness=_number(found.get("burstiness", "1"), f"{where}: burstiness", least=0.0),
        busiest_minute=_number(found.get("busiest_minute", "1"), f"{where}: busiest_minute", least=1.0),
    )


def _slo(raw: object, where: str) -> Slo:
    found = mapping(raw, where, "{ttft: 5s, tpot: 50ms, percentile: 95}")
    known_fields(found, ("ttft", "tpot", "e2e", "percentile", "source"), where)
    limits: dict[str, float | None] = {"ttft": None, "tpot": None, "e2e": None}
    for name in limits:
        if name in found:
            limits[name] = parse(found[name], "s", f"{where}: {name}")
            if not limits[name] or limits[name] < 0:  # type: ignore[operator]
                raise SpecError(f"{where}: {name} must be above zero, as in 50ms, got {shown(found[name])}")
    if not any(limits.values()):
        raise SpecError(f"{where}: name at least one of ttft, tpot and e2e, as in ttft: 5s")
    percentile = parse(found.get("percentile", "95"), "1", f"{where}: percentile")
    if not 0 < percentile < 100:
        raise SpecError(
            f"{where}: percentile must be above 0 and below 100, as in 95, got {shown(found['percentile'])}"
        )
    return Slo(**limits, percentile=percentile / 100)


# -- values ---------------------------------------------------------------------------------------


def _list(raw: object, where: str, example: str) -> list[Any]:
    if not isinstance(raw, list):
        raise SpecError(f"{where}: expected a list, as in {example}, got {shown(raw)}")
    return raw


def _number(
    raw: object, where: str, *, least: float | None = None, most: float = MAX_TOKENS, example: str = ""
) -> float:
    """Read a plain number from `least` (None: above zero) to `most`."""
    if raw is None:
        raise SpecError(f"{where} is missing, as in {where.rsplit(': ', 1)[-1]}: {example or '1'}")
    number = parse(raw, "1", where)
    if number > most or number < (least or 0.0) or (least is None and number == 0):
        bounds = "above zero" if least is None else f"at least {least:g}"
        raise SpecError(f"{where}: must be {bounds} and at most {most:,.0f}, got {shown(raw)}")
    return number


def _yes(raw: object, where: str) -> bool:
    if str(raw).lower() not in ("yes", "no", "true", "false"):
        raise SpecError(f"{where}: must be yes or no, got {shown(raw)}")
    return str(raw).lower() in ("yes", "true")


def _source(raw: object, default: Source, where: str) -> Source:
    return read_source(raw["source"], where) if isinstance(raw, Mapping) and "source" in raw else default
