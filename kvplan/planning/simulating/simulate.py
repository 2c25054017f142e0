"""Replays of requests against a fleet, and the fewest replicas that keep the limits of time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from kvplan.perf.simulate import buckets, compiled
from kvplan.perf.simulate import tally as counts
from kvplan.perf.simulate.phases import parted
from kvplan.perf.simulate.run import Piece, Simulation
from kvplan.perf.simulate.state import ASKED, FETCHED, FOUND, LEAPS, PREEMPTED, STEPS, Ruleset
from kvplan.perf.simulate.tables import Shelf, StepTable
from kvplan.planning.simulating.results import FOREVER, SHARES_SHOWN, Asked, Bin, OfPriority, Percentiles, Replayed
from kvplan.planning.simulating.scaling import Scaler, failures
from kvplan.planning.simulating.server import (
    LaneMemory,
    closed_span,
    lanes_of,
    memory_of,
    parting_of,
    rules_of,
    shares_of,
    shelves_of,
    steps_of,
)
from kvplan.units import MINUTE, show_count

#: most bins of the time series
MOST_BINS = 240
#: most priorities whose times are told apart
MOST_RANKS = 8
#: how much longer a time series may be than a closed loop is thought to take
ROOMY = 1.5
#: requests from which on compiled code is worth the second of its start, and half a minute of compilation
WORTH, COMPILING = 50_000, 500_000
#: most replicas that are tried
MOST_REPLICAS = 4096
#: a minute of so many times the mean rate is a burst
BURST = 2.0


def bin_of(seconds: float) -> tuple[float, int]:
    """Return the length of a bin, whole minutes from a minute on, and how many there are."""
    each = MINUTE
    if seconds < 3 * MINUTE:
        each = max(seconds / 20, 0.05)
    elif seconds / MINUTE > MOST_BINS:
        each = MINUTE * -(-seconds // (MINUTE * MOST_BINS))
    return each, max(int(-(-seconds // each)), 1)


def simulate(
    asked: Asked, replicas: int, known: tuple[LaneMemory, StepTable] | None = None, fast: bool | None = None
) -> Replayed:
    """Return what becomes of the requests on so many replicas."""
    s, x = asked.server, asked.extent
    memory, steps = known or (memory_of(s), steps_of(s, x))
    rules, tiers, bins = ruled(asked, replicas, memory, steps)
    quick = worth(x.requests) if fast is None else fast
    if quick and not compiled.at_hand() and asked.told is not None:
        asked.told("compiling the simulator, which takes half a minute once (later runs find it on disk)")
    scaler = Scaler(asked.autoscale, s.ranks, replicas) if asked.autoscale else None
    run = Simulation(
        rules=rules, steps=steps, tiers=tiers, fast=quick, concurrency=asked.concurrency, control=scaler,
        events=(*failures(asked.failures, s.ranks), *(scaler.first() if scaler else ())),
        interval=scaler.interval if scaler else FOREVER,
    )  # fmt: skip
    t = counts.tally(quick, bins, x.ranks if 1 < len(x.ranks) <= MOST_RANKS else ())
    early, pieces = parting_of(s, x, memory, rules, asked.concurrency), asked.source()
    if early:
        pieces = parted(pieces, early, many=asked.concurrency, lanes=rules.lanes, seed=asked.seed)
    end = played(asked, run, t, pieces, replicas)
    return outcome(asked, run, t, replicas if scaler is None else scaler.highest, end, scaler, memory, early)


def ruled(
    asked: Asked, replicas: int, memory: LaneMemory, steps: StepTable
) -> tuple[Ruleset, tuple[Shelf, ...], int]:  # fmt: skip
    """Return the rules of a simulation, the tiers beside its lanes' memory, and the bins that are counted."""
    s, x = asked.server, asked.extent
    most = max(replicas, asked.autoscale.most) if asked.autoscale else replicas
    if asked.concurrency:
        span = ROOMY * closed_span(s, x, memory, steps, lanes_of(s, replicas), asked.concurrency)
    else:
        span = min(asked.until, x.span + 1.0) - asked.warm
    width, bins = bin_of(max(span, 1.0))
    shared = shares_of(s, x, memory, asked.prefix_cache)
    tiers = shelves_of(s, memory, asked.tiers, lanes_of(s, most)) if shared else ()
    rules = rules_of(
        s, x, memory, steps, tiers=len(tiers), replicas=most, router=asked.router, bin=width,
        bins=bins + int(asked.warm // width) + 2, concurrency=asked.concurrency, prefix_cache=asked.prefix_cache,
        leaping=asked.leaping,
    )  # fmt: skip
    return rules, tiers, bins


def played(asked: Asked, run: Simulation, t: counts.Tally, pieces: Iterable[Piece], replicas: int) -> float:
    """Run a simulation to its end, count the requests that leave, and return when the last one left. [s]"""
    limits, end, left = asked.limits, 0.0, 0
    bounds = [limit if limit is not None else inf for limit in (limits.ttft, limits.tpot, limits.e2e)]
    for records, n in run.finished(pieces):
        run.calls["counted"](t, records, n, asked.warm, asked.until, run.rules.bin, *bounds)
        end = max(end, float(max(records.end[:n])))
        left += n
        if asked.watch is not None:
            asked.watch(records, n)
        if asked.progress is not None:
            of = asked.extent.requests
            asked.progress(left / of, f"{left:,} of {of:,} requests, {show_count(replicas, 'replica')}")
    return end


def worth(requests: int) -> bool:
    """Return whether compiled code is used: it is installed, and worth its start, or even its compilation."""
    least = 0 if compiled.ready() else WORTH if compiled.at_hand() else COMPILING
    return requests >= least and compiled.available()


def outcome(
    asked: Asked, run: Simulation, t: counts.Tally, replicas: int, end: float, scaler: Scaler | None,
    memory: LaneMemory, early: float,
) -> Replayed:  # fmt: skip
    """Return the counts of a simulation that is over as what they mean."""
    r, at, s = run.rules, asked.limits.percentile, asked.server
    counted = asked.until < FOREVER
    seconds = (asked.until if counted else end) - asked.warm
    many = sum(s.split) if s.split else replicas
    total = int(t.sums[counts.COUNTED])
    held = sum(run.fleet.used)
    paid = scaler.paid(asked.warm, asked.warm + seconds) if scaler else many * seconds
    active = (scaler.paid(0.0, end) if scaler else many * end) * s.ranks
    both = [int(a) + int(b) for a, b in zip(t.miss, t.hit, strict=True)]
    count = run.fleet.count
    return Replayed(
        asked=asked, rules=r, memory=memory, steps=run.steps, parted=early, replicas=many,
        requests=total, completed=total - int(t.sums[counts.REFUSED]), refused=int(t.sums[counts.REFUSED]),
        preemptions=int(count[PREEMPTED]), ttft=Percentiles.of(both, at), ttft_hit=Percentiles.of(t.hit, at),
        ttft_miss=Percentiles.of(t.miss, at), tpot=Percentiles.of(t.tpot, at),
        itl=Percentiles.of(run.fleet.gaps, at), e2e=Percentiles.of(t.e2e, at), queued=Percentiles.of(t.queued, at),
        within=int(t.sums[counts.WITHIN]), input_tokens=int(t.sums[counts.READ]),
        output_tokens=int(t.sums[counts.WRITTEN]), hit_rate=int(count[FOUND]) / max(int(count[ASKED]), 1),
        fetched=int(count[FETCHED]) / max(int(count[ASKED]), 1),
        peak=max(run.lanes.peak) / max(r.room, 1), occupancy=float(held / max(active * r.room, 1e-9)),
        busy_seconds=float(sum(run.lanes.busy)) * min(seconds / max(end, 1e-9), 1.0), seconds=float(seconds),
        end=float(end), replica_seconds=float(paid), engine_steps=int(count[STEPS]), events=int(count[LEAPS]),
        courses={"first token": course(both), "whole answer": course(t.e2e)},
        classes=classes_of(t, at), bins=bins_of(asked, run, t, end, scaler),
        scaled=after(scaler.history(), asked.warm) if scaler else (),
    )  # fmt: skip


def after(changes: tuple[tuple[float, int], ...], warm: float) -> tuple[tuple[float, int], ...]:
    """Return (time, replicas from then on) from the end of the warm-up on, which is time 0."""
    begun = [n for at, n in changes if at <= warm][-1]
    return ((0.0, begun), *((at - warm, n) for at, n in changes if at > warm))


def classes_of(t: counts.Tally, share: float) -> tuple[OfPriority, ...]:
    """Return the times of every priority, none where all are alike."""

    def times(histogram: Any, i: int) -> Percentiles:
        return Percentiles.of(histogram[i * buckets.BUCKETS : (i + 1) * buckets.BUCKETS], share)

    return tuple(
        OfPriority(priority=int(n), ttft=times(t.ttft_of, i), tpot=times(t.tpot_of, i), e2e=times(t.e2e_of, i))
        for i, n in enumerate(t.ranks)
    )


def course(histogram: Any) -> tuple[float, ...]:
    """Return the times that the SHARES_SHOWN of requests do not exceed. [s]"""
    return buckets.quantiles(histogram, SHARES_SHOWN)


def bins_of(asked: Asked, run: Simulation, t: counts.Tally, end: float, scaler: Scaler | None) -> tuple[Bin, ...]:
    """Return the time series of what is counted; shares are of the replicas that are up where they come and go."""
    width, lanes = run.rules.bin, run.rules.lanes
    first, bins = int(asked.warm // width), []
    for i in range(len(t.came)):
        if asked.warm + i * width > end:
            break
        many = int(t.came[i])
        answered, at = max(many, 1), first + i
        within = at < len(run.fleet.used)
        up = scaler.serving(at * width, (at + 1) * width) * asked.server.ranks if scaler else width * lanes
        up = max(up, 1e-9)
        room = up * max(run.rules.room, 1)
        bins.append(
            Bin(
                start=i * width, seconds=width, came=many, late=int(t.late[i]), ttft=float(t.first[i]) / answered,
                slowest=float(t.slowest[i]), queued=float(t.waited[i]) / width, read=float(t.read[i]),
                found=float(t.found[i]),
                occupancy=min(float(run.fleet.used[at]) / room, 1.0) if within else 0.0,
                busy=min(float(run.fleet.worked[at]) / up, 1.0) if within else 0.0,
                serving=up / width / asked.server.ranks,
            )
        )  # fmt: skip
    return tuple(bins)


# -- the fewest replicas --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Search:
    """The fewest replicas that keep the limits, and what one less does."""

    smallest: Replayed | None  #: with the fewest, None where no number tried keeps the limits
    less: Replayed | None  #: with one less, None where one is the fewest
    seen: dict[int, Replayed]  #: every simulation, by replicas

    @property
    def tried(self) -> tuple[tuple[int, float], ...]:
        """(replicas, margin) of every simulation, in the order of replicas."""
        return tuple((n, self.seen[n].margin) for n in sorted(self.seen))


def kept(o: Replayed) -> bool:
    """Return whether a simulation keeps all limits."""
    return o.kept


def fewest(
    asked: Asked, start: int = 1, most: int = MOST_REPLICAS, keeps: Callable[[Replayed], bool] = kept,
    seen: dict[int, Replayed] | None = None, below: int = 0,
) -> Search:  # fmt: skip
    """Return the fewest replicas that keep the limits: more hardly ever make it worse, so halving finds them.

    Under a router that does not look at loads fewer may do by chance: `below` more numbers in a row have to fail, then.
    Requests that no memory holds end the search at once, and so does a limit that one request alone breaks. `seen` are
    simulations of an earlier search, to which this one adds its own.
    """
    known = memory_of(asked.server), steps_of(asked.server, asked.extent)
    seen = {} if seen is None else seen

    def at(n: int) -> Replayed:
        if n not in seen:
            seen[n] = simulate(replace(asked, watch=None), n, known)
        return seen[n]

    low, high = 0, max(min(start, most), 1)
    while not keeps(at(high)):
        if seen[high].refused or high >= most or hopeless(seen):
            return Search(smallest=None, less=seen[high], seen=seen)
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(at(middle)) else (middle, high)
    while below and (fewer := next((n for n in range(high - 1, max(high - 2 - below, 0), -1) if keeps(at(n))), 0)):
        high = fewer
    return Search(smallest=seen[high], less=seen.get(high - 1), seen=seen)


def through_burst(asked: Asked, search: Search) -> Search | None:
    """Return the search for the fewest replicas that keep the limits in the busiest minute too, None if it is calm."""
    o = search.smallest
    if o is None or not o.measured or o.surge < BURST or o.rules.bin < MINUTE:
        return None
    return fewest(asked, start=o.replicas, keeps=lambda x: x.kept_in_busiest, seen=search.seen)


def hopeless(seen: dict[int, Replayed]) -> bool:
    """Return whether the last two doublings of the replicas changed nothing: a limit is broken by requests alone."""
    margins = [seen[n].margin for n in sorted(seen)[-3:]]
    return len(margins) == 3 and max(margins) - min(margins) < 1e-3
