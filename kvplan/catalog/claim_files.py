"""Reading claims: those kvplan ships, and a YAML file of the user's own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import prod

from kvplan.architectures.formats import FORMATS
from kvplan.catalog.checkpoints.models import model
from kvplan.catalog.costs.rents import rent
from kvplan.catalog.fields import (
    ValueRange,
    count,
    known_fields,
    listed,
    mapping,
    named,
    number,
    read_source,
    share,
    shelf_document,
    source_of,
    text,
    titles,
    yes,
)
from kvplan.catalog.hardware.gpus import gpu
from kvplan.catalog.workloads import workload
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.claims import CASE_FIELDS, Claim, ClaimCase, Claims
from kvplan.specs.quality import SHORT, task_named
from kvplan.specs.source import Source
from kvplan.specs.workload import Factor
from kvplan.units import parse_tokens, show_tokens

FIELDS = ("name", "title", "source", "claims")
CLAIM = ("id", "about", "claim", "check", "claimed", "tolerance", "cases", "needs", "note", "headline", "source")
#: how an arithmetic check combines its factors
HOWS = ("product", "sum", "quotient")
EXAMPLE = "{id: size, claim: 40 GB each, check: kv_bytes, claimed: 40 GB, cases: {model: llama3-70b, context: 128k}}"
#: tokens that a step of speculative decoding may yield
ACCEPTED = ValueRange(1, 65)
#: cases of one claim beyond which nobody reads them
MOST = 200


def claim_list(word: str) -> Claims:
    """Return a file of claims: a shipped one by name, or the user's by path; raise SpecError, UnknownName."""
    raw, name, location = shelf_document("claims", word, "claims file")
    known_fields(raw, FIELDS, location, "claims")
    source = read_source(raw.get("source"), location)
    entries = listed(raw.get("claims"), f"{location}: claims", f"[{EXAMPLE}]", fewest=1)
    claims: list[Claim] = []
    about = ""
    for n, entry in enumerate(entries, 1):
        claim = _claim(entry, source, about, f"{location}: claim {n}")
        about = claim.about
        if any(c.id == claim.id for c in claims):
            raise SpecError(f"{claim.place}: id {shown(claim.id)} stands twice; every claim needs one of its own")
        claims.append(claim)
    return Claims(**titles(raw, name, location), source=source, claims=tuple(claims))


def _claim(raw: object, source: Source, about: str, location: str) -> Claim:
    """Return one claim; its heading holds for those after it too."""
    entry = mapping(raw, location, EXAMPLE)
    known_fields(entry, (*CLAIM, *HOWS), location)
    words = {key: text(entry, key, location, example=EXAMPLE) for key in ("id", "claim", "check")}
    place = f"{location.rsplit(':', 1)[0]}: {words['id']}"
    source = source_of(entry, source, place)
    how = [key for key in HOWS if key in entry]
    if len(how) > 1:
        raise SpecError(f"{place}: write one of {', '.join(HOWS)}, not several")
    return Claim(
        **words,
        about=text(entry, "about", place, about),
        claimed=text(entry, "claimed", place, ""),
        tolerance=_share(entry["tolerance"], f"{place}: tolerance") if "tolerance" in entry else None,
        cases=_cases(entry.get("cases", {}), f"{place}: cases"),
        how=how[0] if how else "",
        factors=_factors(entry[how[0]], source, f"{place}: {how[0]}") if how else (),
        needs=text(entry, "needs", place, ""),
        note=text(entry, "note", place, ""),
        headline=yes(entry.get("headline", "no"), f"{place}: headline"),
        source=source,
        place=place,
    )


# -- cases ----------------------------------------------------------------------------------------


def _cases(raw: object, location: str) -> tuple[ClaimCase, ...]:
    """Return a case for every combination of the values its fields list."""
    given = mapping(raw, location, "{model: llama3-70b, context: [8k, 128k], technique: mhc:4x}")
    known_fields(given, tuple(CASE_FIELDS), location)
    choices = []
    for field, value in given.items():
        options = value if isinstance(value, list) else [value]
        if not options:
            raise SpecError(f"{location}: {field}: the list is empty; write a value, or leave the field out")
        choices.append([_option(field, option, location) for option in options])
    if (combinations := prod(len(c) for c in choices)) > MOST:
        raise SpecError(f"{location}: {combinations:,} cases are more than {MOST}; list fewer values")
    cases = []
    for choice in product(*choices):
        case = ClaimCase(words=dict(zip(given, (word for word, _ in choice), strict=True)))
        values = dict(zip(given, (value for _, value in choice), strict=True))
        cases.append(replace(case, **values))  # type: ignore[arg-type]
    return tuple(cases)


def _option(field: str, raw: object, location: str) -> tuple[str, object]:
    """Return a value as people write it, and what it stands for."""
    place = f"{location}: {field}"
    if not isinstance(raw, str):
        raise SpecError(f"{place}: expected {CASE_FIELDS[field]}, got {shown(raw)}")
    read = READERS.get(field)
    value = named(lambda word: read(word, place), raw, place) if read else raw
    word = show_tokens(value) if field in ("context", "output") and isinstance(value, int) else raw
    return getattr(value, "name", word), value


def _whole(raw: str, location: str) -> int:
    return count(raw, location, ValueRange(1, 1e6))


def _accepted(raw: str, location: str) -> float:
    return number(raw, location, ACCEPTED)


def _share(raw: object, location: str) -> float:
    return share(raw, location, ValueRange(0, 1, open=True))


def _word(*known: str) -> Callable[[str, str], str]:
    def read(raw: str, location: str) -> str:
        """Return a word that is known; raise UnknownName."""
        if raw not in known:
            raise UnknownName("value", raw, known, f"known: {', '.join(known)}", location)
        return raw

    return read


READERS: dict[str, Callable[[str, str], object]] = {
    "model": lambda text, _: model(text),
    "gpu": lambda text, _: gpu(text),
    "against_gpu": lambda text, _: gpu(text),
    "workload": lambda text, _: workload(text),
    "against_workload": lambda text, _: workload(text),
    "context": parse_tokens,
    "output": parse_tokens,
    "kv_heads": _whole,
    "batch": _whole,
    "tp": _whole,
    "price": rent,
    "load": _share,
    "prefix_cache": _word("no", "ideal"),
    "accepted": _accepted,
    "draft": _share,
    "weights": _word(*FORMATS),
    "measure": _word("ttft", "tpot", "e2e"),
    "task": lambda text, location: text if text == SHORT else task_named(text, location),
}


# -- factors --------------------------------------------------------------------------------------


def _factors(raw: object, source: Source, location: str) -> tuple[tuple[Factor, ...], ...]:
    """Return the factors of an arithmetic check, a tuple for every combination of the values they list."""
    example = "[{value: 10, of: seconds}, {value: [24, 30], of: frames a second}]"
    rows = []
    for entry in listed(raw, location, example, fewest=1):
        factor = mapping(entry, location, "{value: 10, of: seconds}")
        known_fields(factor, ("value", "of", "source"), location)
        of = text(factor, "of", location, example="{value: 10, of: seconds}")
        values = factor.get("value")
        own = source_of(factor, source, f"{location}: {of}")
        rows.append(
            [
                Factor(value=share(v, f"{location}: {of}", example="10"), of=of, source=own)
                for v in (values if isinstance(values, list) else [values])
            ]
        )
    return tuple(product(*rows))
