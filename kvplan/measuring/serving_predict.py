"""End-to-end rows under a serving profile, all at once: times, intervals, and what each prediction rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from kvplan.errors import KvplanError
from kvplan.measuring.servers import Asked, Refused, Server, asked, side_by_side
from kvplan.perf.serving import Served
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import ALL, ELSEWHERE, NOWHERE, SEEN, SERVER, ServingProfile, wider

#: terms of a plain roofline: shares and factors of 1, and no time for anything else
IDEAL = {t.name: 0.0 if t.unit or t.name.startswith("kernels") else 1.0 for t in ALL}
IDEAL |= {"wait": 0.0, "burst": 0.0, "jitter": 0.0}
#: a load this much outside the measured ones is noted, as a factor
SLACK = 1.05

Pair = tuple[Server, Asked]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A row's predicted times [s], the 80 % intervals around them, and what they rest on."""

    row: Server
    ttft: float
    tpot: float
    ttft_range: tuple[float, float]
    tpot_range: tuple[float, float]
    basis: str
    notes: tuple[str, ...]


def predict(found: Sequence[Server | Refused], profile: ServingProfile, engine: Engine) -> list[Timed | Refused]:
    """Return a prediction of every row, or why there is none, in the order of the rows."""
    each = [ask(row, engine) for row in found]
    pairs = [pair for pair in each if not isinstance(pair, Refused)]
    if not pairs:
        return [refused for refused in each if isinstance(refused, Refused)]
    served = _served(pairs, terms_of([row for row, _ in pairs], profile))
    times = zip(served.ttft.tolist(), served.tpot.tolist(), strict=True)
    return [pair if isinstance(pair, Refused) else _timed(*pair, profile, *next(times)) for pair in each]


def roofline(rows: Sequence[Server], engine: Engine) -> list[tuple[float, float]]:
    """Return TTFT and TPOT of rows that can be asked, by datasheets alone: nothing fitted, no overheads. [s]"""
    pairs = [(row, asked(row, engine)) for row in rows]
    terms = {name: np.full(len(pairs), value) for name, value in IDEAL.items()}
    served = _served(pairs, terms, ideal=True)
    return list(zip(served.ttft.tolist(), served.tpot.tolist(), strict=True))


def terms_of(rows: Sequence[Server], profile: ServingProfile) -> dict[str, Any]:
    """Return the values a profile gives every row's terms, as arrays."""
    known: dict[tuple[str, str, str], dict[str, float]] = {}
    for r in rows:
        key = (r.gpu.name, r.engine, r.version)
        if key not in known:
            known[key] = profile.values(*key, profile.speculates(r.engine, r.version), r.gpu.architecture)
    each = [known[r.gpu.name, r.engine, r.version] for r in rows]
    return {t.name: np.array([values[t.name] for values in each]) for t in ALL}


def ask(row: Server | Refused, engine: Engine) -> Pair | Refused:
    """Return a row with its load and passes, or why there are none."""
    if isinstance(row, Refused):
        return row
    try:
        return row, asked(row, engine)
    except KvplanError as error:
        return Refused(line=row.line, reason=str(error))
    except ArithmeticError:
        return Refused(line=row.line, reason="its numbers are too large to compute with")


def _served(pairs: Sequence[Pair], terms: Mapping[str, Any], ideal: bool = False) -> Served:
    many = side_by_side([row for row, _ in pairs], [a for _, a in pairs])
    c = many.calibrated(terms)
    if ideal:  # narrow caches are read as fast as wide ones
        c = replace(c, cache8=c.cache16, cache4=c.cache16)
    with np.errstate(all="ignore"):
        return many.served(c)


def _timed(row: Server, a: Asked, profile: ServingProfile, ttft: float, tpot: float) -> Timed | Refused:
    if not (0 < ttft < np.inf and 0 < tpot < np.inf):
        return Refused(line=row.line, reason="its numbers are too large to compute with")
    names = (row.model.name, row.model.longer)
    basis = profile.basis(row.gpu.name, row.engine, names)
    tpots, ttfts = profile.interval(row.gpu.name, row.engine, names, row.gpu.architecture)
    outside = beyond(row, profile)
    if outside:
        tpots, ttfts = wider(tpots), wider(ttfts)
    said = (said_of(basis, row, profile), *outside, *row.notes, *a.notes)
    return Timed(
        row=row,
        ttft=ttft,
        tpot=tpot,
        ttft_range=(ttft * ttfts.low, ttft * ttfts.high),
        tpot_range=(tpot * tpots.low, tpot * tpots.high),
        basis=basis,
        notes=tuple(note for note in said if note),
    )


def beyond(row: Server, profile: ServingProfile) -> list[str]:
    """Return how a load lies outside those that were measured."""
    said = []
    for what, amount in (("prompt", row.prompt), ("output", row.output), ("concurrency", row.concurrency)):
        low, high = profile.loads.get(what, (0.0, inf))
        if not low / SLACK <= amount <= high * SLACK:
            said.append(f"{what} {amount:,.0f} is outside the measured {low:,.0f} to {high:,.0f}")
    return said


def said_of(basis: str, row: Server, profile: ServingProfile) -> str:
    """Return what a prediction rests on, in words; '' where like rows were measured."""
    gpu, engine = row.gpu.name, row.engine
    known = any(engine == e for _, e in profile.measured)
    other = "" if known else f"; no server under {engine} was measured: taken for an average engine"
    return {
        SEEN: "",
        SERVER: f"{row.model.name} was not measured on {gpu} under {engine}",
        ELSEWHERE: f"{engine} was not measured on {gpu}{other}",
        NOWHERE: f"no server on {gpu} was measured: its datasheet times what others reach of theirs{other}",
    }[basis]
