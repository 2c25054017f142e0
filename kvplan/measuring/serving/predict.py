"""End-to-end rows under a serving profile, all at once: times, intervals, and what each prediction rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from kvplan.errors import KvplanError
from kvplan.measuring.serving.arrays import EXACT, RowArrays, side_by_side
from kvplan.measuring.serving.load import (
    RankLoad,
    cycles_before,
    in_a_run,
    in_flight,
    load_of,
    loads_at,
    mixes,
    room_of,
)
from kvplan.measuring.serving.rows import OPEN, Refused, ServerRow
from kvplan.perf.serving import Served, serve, steps
from kvplan.specs.calibration import ALL, COUNT, SCHEDULING
from kvplan.specs.eras import launch_of
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import (
    NOWHERE,
    PART,
    RELEASE,
    SEEN,
    SERVER,
    SIBLING,
    ServingProfile,
    calibration,
    wider,
)

#: terms of a plain roofline: shares and factors of 1, and no kernel, no queue and no time for anything else; its pace
#: bends no share, and is 1 once they are known
IDEAL = {t.name: 0.0 if t.unit or t.kind in (COUNT, SCHEDULING) else 1.0 for t in ALL} | {"pace": inf}
#: numbers of requests in flight that are tried for an open loop
GRID = 14
#: a load this much outside the measured ones is noted, as a factor
SLACK = 1.05

#: a row that can be predicted, and its load
Pair = tuple[ServerRow, RankLoad]


@dataclass(frozen=True, kw_only=True)
class PredictedRow:
    """A row's predicted times, the 80 % intervals around them, and what they rest on."""

    row: ServerRow  #: the row as it was read
    ttft: float  #: predicted mean or median TTFT, as the row states it [s]
    tpot: float  #: predicted TPOT [s]
    ttft_range: tuple[float, float]  #: ends of its 80 % interval [s]
    tpot_range: tuple[float, float]  #: ends of its 80 % interval [s]
    basis: str  #: what the prediction rests on, one of WAYS of serving_profile.py
    notes: tuple[str, ...]  #: what was assumed, or is beyond what was measured

    @property
    def latency(self) -> float:
        """Predicted time of a whole request. [s]"""
        return self.ttft + (self.row.output - 1) * self.tpot

    @property
    def latency_range(self) -> tuple[float, float]:
        """Ends of its 80 % interval, as if the errors of both times were one. [s]"""
        low, high = zip(self.ttft_range, self.tpot_range, strict=True)
        return low[0] + (self.row.output - 1) * low[1], high[0] + (self.row.output - 1) * high[1]


def predict(
    rows: Sequence[ServerRow | Refused], profile: ServingProfile, engine: Engine
) -> list[PredictedRow | Refused]:
    """Return a prediction of every row, or why there is none, in the order of the rows."""
    each = [with_load(row, engine, profile) for row in rows]
    pairs = [pair for pair in each if not isinstance(pair, Refused)]
    if not pairs:
        return [refused for refused in each if isinstance(refused, Refused)]
    arrays, served = _served(pairs, term_values([row for row, _ in pairs], profile))
    times = zip(arrays.ttft(served).tolist(), served.tpot.tolist(), strict=True)
    return [pair if isinstance(pair, Refused) else _timed(*pair, profile, *next(times)) for pair in each]


def roofline(rows: Sequence[ServerRow], engine: Engine) -> list[tuple[float, float]]:
    """Return TTFT and TPOT of rows with a load, by datasheets alone: nothing fitted, drafted, no overheads. [s]"""
    rows = [replace(row, verified=1.0) for row in rows]
    flying = [in_flight(row) or row.concurrency or 1.0 if row.arrival == OPEN else None for row in rows]
    pairs = [(row, load_of(row, engine, each)) for row, each in zip(rows, flying, strict=True)]
    terms = {name: np.full(len(pairs), value) for name, value in IDEAL.items()}
    _, served = _served(pairs, terms, ideal=True)
    return list(zip(served.ttft.tolist(), served.tpot.tolist(), strict=True))


def term_values(rows: Sequence[ServerRow], profile: ServingProfile) -> dict[str, Any]:
    """Return the values a profile gives every row's terms, as arrays. [term][row]"""
    known: dict[Any, dict[str, float]] = {}
    for r in rows:
        if (r.identity, r.speculation_gain) not in known:
            known[r.identity, r.speculation_gain] = values_of(r, profile)
    each = [known[r.identity, r.speculation_gain] for r in rows]
    return {t.name: np.array([values[t.name] for values in each]) for t in ALL}


def values_of(row: ServerRow, profile: ServingProfile) -> dict[str, float]:
    """Return the values of a row's terms; what it states of speculative decoding comes before what its run had."""
    gain = row.speculation_gain
    values = profile.values(row.identity, gain == 0.0 or (gain is None and profile.speculates(row.identity)))
    return {**values, "accepted": gain} if gain else values


def with_load(row: ServerRow | Refused, engine: Engine, profile: ServingProfile | None = None) -> Pair | Refused:
    """Return a row with its load and passes, or why there are none; an open loop's load follows from its rate."""
    if isinstance(row, Refused):
        return row
    try:
        if row.arrival == OPEN and not row.concurrency and profile is not None:
            return row, open_loop_load(row, engine, profile)
        return row, load_of(row, engine, in_flight(row))
    except KvplanError as error:
        return Refused(line=row.line, reason=str(error))
    except ArithmeticError:
        return Refused(line=row.line, reason="its numbers are too large to compute with")


def open_loop_load(row: ServerRow, engine: Engine, profile: ServingProfile) -> RankLoad:
    """Return an open loop in its steady state: as many requests in flight as make as many leave as come.

    Where more come than can leave, a request waits for those that filled the slots before it.
    """
    room, _ = room_of(row, engine)
    ranks = row.parallel.data * row.parallel.pipeline
    most = max(min(room, row.max_num_seqs * ranks) / ranks, 1.0)
    grid = np.geomspace(min(0.1, most / 2), most, GRID)
    c = calibration(
        values_of(row, profile), gpu=row.gpu, engine=row.engine, mixes=float(mixes(row)), tpot=EXACT, ttft=EXACT,
        launch=launch_of(row.engine, row.version, row.gpu.architecture), chunk=row.chunk, name="", tier="",
    )  # fmt: skip
    trial = loads_at(row, grid)
    served = serve(trial.load, steps(trial.passes, c, grid), c)
    cycle = served.ttft + row.output * served.tpot
    leaving = ranks * grid / cycle
    seldom = min(row.rate / leaving[0], 1.0)  # below the least that was tried, in proportion
    running = float(np.interp(row.rate, leaving, grid) * seldom) * ranks
    load = load_of(row, engine, in_a_run(running, row.requests))
    if row.rate <= leaving[-1]:
        return load
    late = cycles_before(row, most * ranks) * max(float(cycle[-1]) - most * ranks / row.rate, 0.0)
    waits = "those beyond wait" if row.requests else "no wait is counted, since no number of requests is given"
    beyond = f"{row.rate:g} requests a second come and {float(leaving[-1]):.3g} can leave; {waits}"
    return replace(load, late=late, notes=(*load.notes, beyond))


def _served(pairs: Sequence[Pair], terms: Mapping[str, Any], ideal: bool = False) -> tuple[RowArrays, Served]:
    arrays = side_by_side([row for row, _ in pairs], [load for _, load in pairs])
    c = arrays.calibrated(terms)
    if ideal:  # narrow caches are read as fast as wide ones, the host costs nothing, and nobody shares PCIe
        across = np.array([row.parallel.tensor * row.parallel.data for row, _ in pairs]) > arrays.gpus.joined
        links = c.moved(link=np.where(across, c.bridge, c.link), pace=1.0)
        c = replace(links, narrowed=False, launch=0.0, joined=inf)
    with np.errstate(all="ignore"):
        return arrays, arrays.served(c)


def _timed(row: ServerRow, load: RankLoad, profile: ServingProfile, ttft: float, tpot: float) -> PredictedRow | Refused:
    if not (0 < ttft < np.inf and 0 < tpot < np.inf):
        return Refused(line=row.line, reason="its numbers are too large to compute with")
    basis = profile.basis(row.identity)
    tpots, ttfts = profile.interval(row.identity)
    outside = outside_measured(row, profile)
    if outside:
        tpots, ttfts = wider(tpots), wider(ttfts)
    notes = (support_note(basis, row), *outside, *row.notes, *load.notes)
    return PredictedRow(
        row=row,
        ttft=ttft,
        tpot=tpot,
        ttft_range=(ttft * ttfts.low, ttft * ttfts.high),
        tpot_range=(tpot * tpots.low, tpot * tpots.high),
        basis=basis,
        notes=tuple(note for note in notes if note),
    )


def outside_measured(row: ServerRow, profile: ServingProfile) -> list[str]:
    """Return how a load lies outside those that were measured, a note each."""
    notes = []
    for name, amount in (("prompt", row.prompt), ("output", row.output), ("concurrency", row.concurrency)):
        low, high = profile.loads.get(name, (0.0, inf))
        if amount and not low / SLACK <= amount <= high * SLACK:
            stated = f"{amount:,.0f}" if amount >= 1 else f"{amount:.2g}"
            notes.append(f"{name} {stated} is outside the measured {low:,.0f} to {high:,.0f}")
    return notes


def support_note(basis: str, row: ServerRow) -> str:
    """Return what a prediction rests on, in words; '' where like rows were measured."""
    gpu, engine, model = row.gpu.name, row.engine, row.model.name
    release = f"release {row.version}" if row.version else "the release, which is not stated,"
    return {
        SEEN: "",
        RELEASE: f"{model} was measured on {gpu} under other releases of {engine}; {release} was not",
        SIBLING: f"{model} was not measured on {gpu} under {engine}, but on other GPUs",
        SERVER: f"{model} was not measured under {engine}; other models were, on {gpu}",
        PART: f"{model} was not measured under {engine}, nor {engine} on {gpu}",
        NOWHERE: f"no server on {gpu} and none under {engine} was measured: the datasheet times what others reach",
    }[basis]
