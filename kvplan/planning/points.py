"""Techniques at points that can be compared: a lone query, the same load on the same GPUs, the same limits.

A full replica is another load for every technique: what fits more sequences shows longer times, though it is faster.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isclose

from kvplan.planning.evaluation import Evaluation, OperatingPoint, Timing
from kvplan.planning.replica import Case, at_load, timed
from kvplan.planning.site import Limits, Query

#: the limit of TTFT where none is given: what a reader of a chat waits, and a second for every so many prompt tokens
PATIENCE, READ = 2.0, 8192
#: the limit of TPOT where none is given: 20 tokens a second, about four times as fast as people read (Brysbaert, "How
#: many words do we read per minute?", Journal of Memory and Language 109, 2019) [s]
READING = 0.05

#: what times a full replica under a load of so many requests
Loads = Callable[[Timing, int], Timing]
#: every so many tries an interpolation gives way to halving
SLOW = 4


def usual_limits(query: Query) -> Limits:
    """Return the latency limits that stand where none is given. [s]"""
    return Limits(ttft=PATIENCE + round(query.prompt / READ), tpot=READING)


def compared(case: Case, rows: Sequence[Evaluation], limits: Limits) -> list[Evaluation]:
    """Return the rows of one site with their points; the GPUs and the load are those of the first row that fits.

    Of its replicas the one that is cheapest within the limits counts, so that a lone query is one on the GPUs that the
    limits ask for; the best full one where none keeps them.
    """
    first = next((row for row in rows if row.feasible), None)
    if first is None:
        return list(rows)
    loads = loads_of(case, first)
    kept = cheapest_within(first.full, limits, loads)
    parallel = kept.parallel if kept else first.parallel
    shown = next(t for t in first.full if t.parallel == parallel)
    return [
        with_points(case, row, shown, limits, loads if row is first else loads_of(case, row)) if row.feasible else row
        for row in rows
    ]


def with_points(case: Case, row: Evaluation, shown: Timing, limits: Limits, at: Loads) -> Evaluation:
    """Return a row at the three points: the first two on the replica and at the load of `shown`."""
    layout, parallel = row.layout, shown.parallel
    assert layout is not None
    known = {t.parallel: t for t in row.full}
    held = known[parallel].sequences if parallel in known else case.sequences(layout, parallel)
    lone = same = None
    if held:
        whole = known.get(parallel) or timed(case, layout, parallel, held)
        lone, same = at(whole, 1), at(whole, shown.batch) if shown.batch <= whole.batch else None
    points = (lone, same, cheapest_within(row.full, limits, at))
    price = case.site.price.price if case.site.price else None
    lone_point, same_load, same_limits = (None if t is None else point_of(t, price) for t in points)
    return replace(row, lone=lone_point, same_load=same_load, same_limits=same_limits)


def loads_of(case: Case, row: Evaluation) -> Loads:
    """Return what times a row's replica under any load; each load is worked out once."""
    layout = row.layout
    assert layout is not None
    seen = {(t.parallel, t.batch): t for t in row.full}

    def at(full: Timing, batch: int) -> Timing:
        key = full.parallel, batch
        if key not in seen:
            seen[key] = at_load(case, layout, full.parallel, full.sequences, batch, full.lines)
        return seen[key]

    return at


def point_of(t: Timing, price: float | None) -> OperatingPoint:
    """Return a replica's load as a point, at a price of a GPU [USD/s]."""
    return OperatingPoint(
        parallel=t.parallel,
        batch=t.batch,
        ttft=t.served.ttft,
        tpot=t.served.tpot,
        gpu_seconds=t.gpu_seconds,
        usd=None if price is None else price * t.gpu_seconds,
    )


def cheapest_within(full: Sequence[Timing], limits: Limits, at: Loads) -> Timing | None:
    """Return the replica on which a query costs least at the largest load within limits, None where none keeps them.

    A query takes least of a replica that is full, so what costs more than the best one so far even then is not tried.
    Neither are copies of a smaller replica: data-parallel ranks that share nothing cost the same.
    """
    cheapest: Timing | None = None
    before = 0.0
    for t in sorted(full, key=lambda t: (round(t.gpu_seconds, 9), t.parallel.gpus)):
        if cheapest is not None and t.gpu_seconds >= cheapest.gpu_seconds:
            break
        if isclose(t.gpu_seconds, before):
            continue
        before = t.gpu_seconds
        one = largest_within(t, limits, at)
        if one is not None and (cheapest is None or one.gpu_seconds < cheapest.gpu_seconds):
            cheapest = one
    return cheapest


def largest_within(full: Timing, limits: Limits, at: Loads) -> Timing | None:
    """Return a replica at its largest load within limits, None where not even a lone query keeps them.

    Times grow with the load: interpolation finds where they cross a limit, halving where it is slow.
    """
    if full.keeps(limits):
        return full
    low, high, tries = at(full, 1), full, 0
    if not low.keeps(limits):
        return None
    while high.batch - low.batch > 1:
        tries += 1
        guess = crossing(low, high, limits) if tries % SLOW else (low.batch + high.batch) // 2
        tried = at(full, min(max(guess, low.batch + 1), high.batch - 1))
        low, high = (tried, high) if tried.keeps(limits) else (low, tried)
    return low


def crossing(low: Timing, high: Timing, limits: Limits) -> int:
    """Return the load at which the first limit is reached, as if times grew evenly between two loads."""
    shares = [1.0]
    for name in ("ttft", "tpot"):
        limit, least, most = getattr(limits, name), getattr(low.served, name), getattr(high.served, name)
        if limit is not None and most > limit:
            shares.append((limit - least) / (most - least))
    return int(low.batch + min(shares) * (high.batch - low.batch))
