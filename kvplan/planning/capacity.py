"""Capacity asked the other way round: the most queries a day that so many GPUs serve within limits, and what binds."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import floor, log10

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Book, Plan
from kvplan.planning.remedies import STEP, Impasse, Remedy, remedies
from kvplan.planning.searching.certainty import chance
from kvplan.planning.searching.configurations import Pair, configurations
from kvplan.planning.searching.gpu_grid import GpuGrid, gpu_grids
from kvplan.planning.searching.grid import most_requests
from kvplan.planning.searching.search import GPUS, Candidates, candidates
from kvplan.planning.site import EVEN, Site
from kvplan.specs.result import Result
from kvplan.units import show_count

#: doublings until a volume is too much or small enough, halvings between, and digits a volume is rounded down to
DOUBLINGS, HALVINGS, DIGITS = 40, 14, 4
#: how much more is too much
MORE = 1.01
#: a volume that a replica serves one by one [queries a day]
RARE = 1.0
#: what binds where GPUs would serve if no replica were a spare
SPARE = "the spare replica"
#: what binds an offline load
THROUGHPUT = "throughput"
#: changes that a message names
REMEDIES = 3


@dataclass(frozen=True, kw_only=True)
class Capacity(Result, of="capacity"):
    """What GPUs serve at most: the demand at its greatest volume, the plan for it, and what more would break."""

    demand: Demand  #: with the greatest volume, where there is a plan
    site: Site  #: the GPU, its rates and prices
    gpus: int  #: GPUs that can be had
    plan: Plan | None  #: the plan on the fewest GPUs at that volume, None where none keeps the limits at any
    #: what more would break: TTFT, TPOT, end-to-end, THROUGHPUT, memory, the engine's limit of sequences, or SPARE
    bound_by: str
    warnings: tuple[str, ...] = ()  #: what to know first
    sought: float | None = None  #: the probability that was sought, where no volume reaches it
    remedies: tuple[Remedy, ...] = ()  #: changes that let a query now and then be served, where none is

    @property
    def queries_per_day(self) -> float:
        """Mean queries a day, 0 without a plan."""
        return self.demand.workload.arrivals.queries_per_day if self.plan else 0.0

    @cached_property
    def users(self) -> float | None:
        """Users at work in the busiest hour (Little's law), None where nobody waits: each asks at every interval.

        Nobody asks again before the answer is there.
        """
        if self.demand.workload.offline or self.plan is None:
            return None
        return self.demand.peak * max(self.demand.workload.between_questions, self.answered)

    @property
    def answered(self) -> float:
        """Mean time until a whole answer of the plan is there, 0 without a plan. [s]"""
        return self.plan.answered(self.demand.output) if self.plan else 0.0

    @property
    def refusal(self) -> str:
        """Why the answer is a 'no', '' when it is none."""
        if self.plan is not None:
            return ""
        keep = "keeps" if self.gpus == 1 else "keep"
        why = f"{show_count(self.gpus, 'GPU')} {keep} the limits at no volume: "
        if self.bound_by == SPARE:
            why += f"with {show_count(self.demand.spares, 'replica')} to spare none is left that serves"
            why += "; use spares=0 to plan without"
        else:
            why += f"{self.bound_by} binds even a query now and then"
        ways = [f"{x.change} ({x.plan.label}, {show_count(x.plan.gpus, 'GPU')})" for x in self.remedies[:REMEDIES]]
        return f"{why}. The least change that lets them serve one now and then: {', or '.join(ways)}" if ways else why


def surest(
    demand: Demand, book: Book, site: Site, techniques: Collection[str], gpus: int, formats: Sequence[str] = ()
) -> Capacity:
    """Return `capacity`, or where no volume is kept surely enough, at the surest: from even odds on, as `recommend`."""
    around = looked_at(demand, book, site, techniques, gpus)
    best = most(around, book, site)
    if best.plan is not None or around.home is None:
        return best
    rare = candidates(at_volume(around.surely(0.0).demand, RARE), around.home)
    sure = rare.sure[rare.feasible & rare.of(around.pairs)]
    share = floor(float(sure.max()) / STEP + 1e-9) * STEP if sure.size else 0.0
    again = best if share < EVEN else most(around.surely(round(share, 2)), book, site)
    if again.plan is None:
        return replace(best, remedies=changes(around, book, formats))
    return replace(again, sought=demand.limits.confidence)


def capacity(
    demand: Demand, book: Book, site: Site, techniques: Collection[str], gpus: int, formats: Sequence[str] = ()
) -> Capacity:
    """Return the most that GPUs serve under the demand's limits; its volume is where the search begins.

    Where they serve nothing it names what would let them; `formats` are weight formats that might.
    """
    around = looked_at(demand, book, site, techniques, gpus)
    best = most(around, book, site)
    return best if best.plan else replace(best, remedies=changes(around, book, formats))


@dataclass(frozen=True, kw_only=True)
class Around:
    """What is the same at every volume and every confidence."""

    demand: Demand  #: on so many GPUs
    gpus: int  #: GPUs that can be had
    pairs: set[Pair]  #: techniques and weight formats that may be used
    home: GpuGrid | None  #: the shapes on the GPU, None where no technique applies

    def surely(self, confidence: float) -> "Around":
        """Return the same for limits that are kept with another probability."""
        return replace(self, demand=replace(self.demand, limits=replace(self.demand.limits, confidence=confidence)))


def most(around: Around, book: Book, site: Site) -> Capacity:
    """Return the most that GPUs serve, remedies left out where it is nothing."""
    limited, pairs, home = around.demand, around.pairs, around.home

    @cache
    def at(volume: float) -> Candidates | None:
        return candidates(at_volume(limited, volume), home) if home else None

    def served(volume: float) -> bool:
        tried = at(volume)
        return tried is not None and bool((tried.feasible & tried.of(pairs)).any())

    volume = greatest(served, limited.workload.arrivals.queries_per_day)
    over = at(MORE * volume)
    binds = binding(over, pairs, limited) if over else "memory"
    there = at_volume(limited, volume)
    tried = at(volume)
    plans = replace(book, demand=there).choices([tried], pairs, "gpus") if tried else []
    return Capacity(demand=there, site=site, gpus=around.gpus, plan=plans[0] if plans else None, bound_by=binds)


def changes(around: Around, book: Book, formats: Sequence[str]) -> tuple[Remedy, ...]:
    """Return what lets GPUs that keep the limits at no volume serve a query now and then."""
    if around.home is None:
        return ()
    demand = at_volume(around.demand, RARE)
    stuck = Impasse(
        demand=demand, book=replace(book, demand=demand), candidates=[candidates(demand, around.home)],
        pairs=sorted(around.pairs, key=str), barred=(), objective="gpus", guesses=True, formats=formats,
    )  # fmt: skip
    ways = sorted(remedies(stuck), key=lambda way: way.plan.gpus)
    return tuple(replace(way, change=way.change.replace("max_gpus=", "gpus=")) for way in ways)


def looked_at(demand: Demand, book: Book, site: Site, techniques: Collection[str], gpus: int) -> Around:
    """Return the demand on so many GPUs, what may be used, and the shapes there."""
    limited = replace(demand, limits=replace(demand.limits, gpus=gpus))
    shapes, _ = configurations(limited, list(techniques), site.gpu.gpus_per_node)
    known = {shape.pair for shape in shapes}
    homes = gpu_grids(limited, shapes, [site], most_requests(demand.engine, [site])) if shapes else [None]
    return Around(demand=limited, gpus=gpus, pairs=known - set(book.barred(known, limited)), home=homes[0])


def at_volume(demand: Demand, per_day: float) -> Demand:
    """Return a demand with another volume, its day of the same shape."""
    arrivals = demand.workload.arrivals
    more = per_day / arrivals.queries_per_day
    workload = replace(demand.workload, arrivals=replace(arrivals, queries_per_day=per_day))
    return replace(demand, workload=workload, peak=more * demand.peak, mean=more * demand.mean)


def greatest(served: Callable[[float], bool], start: float) -> float:
    """Return the greatest volume that is served, in so many digits; the least that was tried where none is.

    Less is taken to be easier: fewer run, waits are shorter, and a prefix stays in memory for a time that grows as
    fewer others come. Of 74 volumes around each of seven answers all below the greatest were served
    (benchmarks/NOTES.md).
    """
    low, high, least = start, start, start / 2.0 ** (DOUBLINGS - 1)
    if not served(start) and not served(least):  # less is easier to serve: no volume between them is
        return least / 2
    for _ in range(DOUBLINGS):
        if served(low):
            break
        low, high = low / 2, low
    for _ in range(DOUBLINGS):
        if low < high or not served(2 * high):
            break
        low = high = 2 * high
    high = max(high, 2 * low)
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if served(middle) else (low, middle)
    for _ in range(DOUBLINGS):  # a plan of another shape may serve a little more
        if not served(MORE * in_few_digits(low, served)):
            break
        low = MORE * in_few_digits(low, served)
    return in_few_digits(low, served)


def in_few_digits(volume: float, served: Callable[[float], bool]) -> float:
    """Return a volume that is served as a report gives it: in its first digits where those are served."""
    short = rounded_down(volume)
    return short if served(short) else volume


def rounded_down(volume: float) -> float:
    """Return a volume in its first digits, none of them more than it is."""
    step = 10.0 ** (floor(log10(volume)) + 1 - DIGITS)
    return floor(volume / step * (1 + 1e-12)) * step


def binding(one: Candidates, pairs: Collection[Pair], demand: Demand) -> str:
    """Return what a volume breaks: the latency limit that is least sure where GPUs suffice, else what fills them."""
    limits, c = demand.limits, one.site.calibration
    able = one.fits & one.of(pairs)
    few = able & one.meets[GPUS]
    if not few.any():
        serving = one.gpus - demand.spares * one.grid.each
        if limits.gpus is not None and (able & (serving <= limits.gpus) & (one.replicas == 1)).any():
            return SPARE
        if demand.workload.offline and demand.limits.confidence > EVEN and able.any():
            return THROUGHPUT  # GPUs that it just fills would do if steps took no longer than predicted
        full = (one.room < demand.engine.limits(one.site.gpu)[0])[able.any(axis=1)]
        return "memory" if not full.size or full.all() else "the engine's limit of sequences"
    if demand.workload.offline:
        return THROUGHPUT
    at = divmod(int((one.sure * few).argmax()), few.shape[1])
    odds = {
        "TTFT": chance(one.ttft[at], limits.ttft, c.ttft),
        "TPOT": chance(one.tpot[at], limits.tpot, c.tpot),
        "end-to-end time": chance(one.e2e[at], limits.e2e, c.tpot),
    }
    return min(odds, key=lambda name: float(odds[name]))
