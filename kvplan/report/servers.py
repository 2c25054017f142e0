"""Profiles of servers as text: terms with their meaning, values by GPU and engine, intervals, what was measured."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from kvplan.report.tables import brief, grid, notes
from kvplan.specs.calibration import ALL, FACTOR, TERMS, Range, Term
from kvplan.specs.serving_profile import Identity, ServingProfile
from kvplan.units import show_time

Json = dict[str, Any]
#: servers side by side in one table
ABREAST = 4
#: terms that differ between GPUs, engines or both
OWN = tuple(term for term in TERMS if term.kind != FACTOR)


def shown(term: Term, reached: float) -> str:
    return show_time(reached) if term.unit == "s" else f"{reached:.3g}"


def base(profile: ServingProfile) -> dict[str, float]:
    """Return the value of every term before anything is known of GPU and engine."""
    return profile.values(Identity(gpu="", engine=""), speculative=True)


def between(found: tuple[Range, Range]) -> list[str]:
    return [f"{r.low:.2f} to {r.high:.2f}" for r in found]


def report(profile: ServingProfile) -> list[RenderableType]:
    """Return a profile's terms, their values by server, its intervals, and what was measured."""
    values = base(profile)
    terms = grid(("term", "left"), ("value", "right"), ("meaning", "wrap"))
    for term in ALL:
        terms.add_row(term.name, shown(term, values[term.name]), term.meaning)
    heading = f"{profile.title or profile.name} (servers {profile.tier})"
    parts: list[RenderableType] = [Text(heading, style="bold"), Text(), terms, Text()]
    pairs = list(profile.measured)
    for first in range(0, len(pairs), ABREAST):
        parts += [side_by_side(profile, pairs[first : first + ABREAST]), Text()]
    spread = grid(("80 % of measured / predicted", "left"), ("TPOT", "left"), ("TTFT", "left"))
    for who, found in profile.ranges.items():
        spread.add_row(who, *between(found))
    rows = grid(("measured", "left"), ("rows", "right"), ("models", "wrap"))
    for (gpu, engine), models in profile.measured.items():
        rows.add_row(f"{gpu} {engine}", f"{profile.rows.get((gpu, engine), 0):,}", ", ".join(models))
    said = [f"{', '.join(profile.speculative)}: with speculative decoding"] if profile.speculative else []
    count = sum(map(bool, profile.moves.get("releases", {}).values()))
    said.append(f"launches are the same on all servers; {count} engine versions have factors of their own")
    return [*parts, spread, Text(), rows, Text(), *notes(said, "Notes"), *notes([brief(profile.source)], "Source")]


def side_by_side(profile: ServingProfile, pairs: Sequence[tuple[str, str]]) -> RenderableType:
    table = grid(("term", "left"), *((f"{gpu} {engine}", "right") for gpu, engine in pairs))
    each = [profile.values(Identity(gpu=gpu, engine=engine)) for gpu, engine in pairs]
    for term in OWN:
        table.add_row(term.name, *(shown(term, values[term.name]) for values in each))
    return table


def servers(profile: ServingProfile) -> Iterator[Json]:
    for (gpu, engine), models in profile.measured.items():
        yield {
            "gpu": gpu,
            "engine": engine,
            "rows": profile.rows.get((gpu, engine), 0),
            "models": list(models),
            "values": profile.values(Identity(gpu=gpu, engine=engine)),
        }


def document(profile: ServingProfile) -> Json:
    """Return the same as a JSON document."""
    values, source = base(profile), profile.source
    made = {
        "name": profile.name,
        "title": profile.title,
        "tier": profile.tier,
        "of": "servers",
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
        "terms": [
            {"term": t.name, "value": values[t.name], "unit": t.unit, "meaning": t.meaning, "share": t.share}
            for t in ALL
        ],
        "servers": list(servers(profile)),
        "intervals_80": {
            who: {"tpot": [tpot.low, tpot.high], "ttft": [ttft.low, ttft.high]}
            for who, (tpot, ttft) in profile.ranges.items()
        },
        "speculative": list(profile.speculative),
    }
    return {"schema": 1, "command": "show", "kind": "profile", "profiles": [made]}
