"""A mixed fleet for several workloads: the cheapest replicas on the GPUs that can be had, against simpler fleets.

Simpler fleets: one GPU type alone, and one configuration for each workload as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from kvplan.planning.demand import Demand
from kvplan.planning.fleet.options import BucketGroup, FleetWorkload, Option, groups, options
from kvplan.planning.fleet.program import ASIDE, Bucket, Solution, Use, choose, covered
from kvplan.planning.plan import Book
from kvplan.planning.site import Site
from kvplan.quality.loss import Quality
from kvplan.units import show_time

#: the solver's time for the whole fleet [s], and by how much a better one may remain unfound, as a share of its cost
SECONDS, GAP = 20.0, 0.001
UNSERVED = "no replica can be had"
UNFOUND = "the solver found none within its time"


@dataclass(frozen=True, kw_only=True)
class Simpler:
    """A fleet under a restriction: `usd` [USD/s] with the GPUs there are, `unlimited` with any number of them.

    None where there is none, and `reason` says why. `gpu` is '' where types mix.
    """

    gpu: str
    usd: float | None
    unlimited: float | None
    needs: int | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """The answer: what serves what, what it costs, and what simpler fleets would.

    `uses` is empty where there is no fleet, and `reason` says why. No fleet of these columns costs below `bound`
    [USD/s]; `stopped` tells that the solver ran out of time.
    """

    tasks: tuple[FleetWorkload, ...]
    stock: Mapping[str, int]
    buckets: int
    uses: tuple[Use, ...]
    bound: float
    stopped: bool
    singles: tuple[Simpler, ...]
    separate: Simpler
    seconds: float
    reason: str = ""

    @property
    def usd(self) -> float | None:
        """What the fleet costs. [USD/s]"""
        return sum(u.usd for u in self.uses) if self.uses else None

    @property
    def gap(self) -> float | None:
        """By how much a fleet of these columns could at most be cheaper, as a share of the cost."""
        return max(1 - self.bound / self.usd, 0.0) if self.usd else None

    @property
    def gpus(self) -> dict[str, int]:
        """GPUs taken, by type."""
        taken = dict.fromkeys(self.stock, 0)
        for u in self.uses:
            taken[u.option.site.gpu.name] += u.gpus
        return taken

    @property
    def best_single(self) -> Simpler | None:
        """The cheapest type that serves all alone with the GPUs there are, None where none does."""
        able = [s for s in self.singles if s.usd is not None]
        return min(able, key=lambda s: s.usd or 0.0, default=None)

    @property
    def saving(self) -> float | None:
        """How much cheaper than the best single type, as a share of that; None where no type serves all alone."""
        best = self.best_single
        return None if best is None or not best.usd or self.usd is None else 1 - self.usd / best.usd


def task(
    name: str,
    demand: Demand,
    wanted: Sequence[str],
    qualities: Mapping[str, Quality],
    sites: Sequence[Site],
    losses: Mapping[str | None, Quality] | None = None,
) -> FleetWorkload:
    """Return a workload with the techniques and weight formats its limits allow; `losses` are those of the formats."""
    left_out = Book(demand, qualities, losses or {}).barred((t, form) for t in wanted for form in demand.forms)
    every = {t: [(t, form) for form in demand.forms] for t in wanted}
    barred = {t: left_out[pairs[0]] for t, pairs in every.items() if all(pair in left_out for pair in pairs)}
    return FleetWorkload(
        name=name,
        demand=demand,
        techniques=tuple(t for t in wanted if t not in barred),
        barred=barred,
        sites=tuple(sites),
        left_out=frozenset(left_out),
    )


def plan(
    tasks: Sequence[FleetWorkload],
    stock: Mapping[str, int],
    buckets: int,
    *,
    seconds: float = SECONDS,
    gap: float = GAP,
) -> FleetPlan:
    """Return the cheapest fleet of at most `stock` GPUs of each type, requests cut into buckets of input length."""
    cut = [group for t in tasks for group in groups(t, buckets)]
    found = [(group, *options(group)) for group in cut]
    able = [c for _, each, _ in found for c in each]
    asked = sorted({(g.task.name, b) for g in cut for b in (g.first, g.last)})
    why = {(g.task.name, g.first): (g, reasons) for g, _, reasons in found if g.first == g.last}
    singles = tuple(single(gpu, tasks, able, asked, stock, why, seconds * ASIDE, gap) for gpu in stock)
    separate = choose(
        [c for c in able if c.group.whole], asked, stock, seconds=seconds * ASIDE, gap=gap, at_once=True
    )  # fmt: skip
    mixed = choose(able, asked, stock, seconds=seconds, gap=gap)
    known = [c for c in (mixed, separate, *(choice for _, choice in singles)) if c.uses is not None]
    best = min(known, key=lambda c: c.usd, default=None)
    return FleetPlan(
        tasks=tuple(tasks),
        stock=dict(stock),
        buckets=buckets,
        uses=ordered(best.uses or ()) if best else (),
        bound=mixed.bound,
        stopped=mixed.stopped,
        singles=tuple(s for s, _ in singles),
        separate=Simpler(
            gpu="", usd=separate.usd if separate.uses else None, unlimited=None, needs=None,
            reason="" if separate.uses else unfound(separate, "no single pool serves a whole workload here"),
        ),
        seconds=seconds,
        reason="" if best else none_because(mixed, able, asked, stock, why, seconds * ASIDE, gap),
    )  # fmt: skip


def ordered(uses: Sequence[Use]) -> tuple[Use, ...]:
    """Return what serves what, by workload, shortest requests first."""

    def key(u: Use) -> tuple[str, int, int, str, float]:
        group = u.option.group
        return group.task.name, group.first, group.last, u.option.site.gpu.name, -u.share

    return tuple(sorted(uses, key=key))


# -- one type alone -------------------------------------------------------------------------------

Why = Mapping[Bucket, tuple[BucketGroup, Mapping[str, str]]]


def single(
    gpu: str, tasks: Sequence[FleetWorkload], able: Sequence[Option], asked: Sequence[Bucket], stock: Mapping[str, int],
    why: Why, seconds: float, gap: float,
) -> tuple[Simpler, Solution]:  # fmt: skip
    """Return what a GPU type alone costs, with as many as there are and with any number of them."""
    nothing = Solution(uses=None, bound=0.0, stopped=False)
    mine = [c for c in able if c.site.gpu.name == gpu]
    lacking = unserved(mine, asked)
    if lacking:
        group, reasons = why[lacking[0]]
        reason = f"{place(group)}: {reasons.get(gpu) or UNSERVED}"
        return Simpler(gpu=gpu, usd=None, unlimited=None, needs=None, reason=reason), nothing
    each = [
        choose([c for c in mine if c.group.task.name == t.name], [b for b in asked if b[0] == t.name], {},
               seconds=seconds / len(tasks), gap=gap)
        for t in tasks
    ]  # fmt: skip
    if not all(c.uses for c in each):  # with any number of GPUs only time can lack
        return Simpler(gpu=gpu, usd=None, unlimited=None, needs=None, reason=UNFOUND), nothing
    uses = tuple(u for c in each for u in c.uses or ())
    whole = Solution(uses=uses, bound=sum(c.bound for c in each), stopped=any(c.stopped for c in each))
    needs = sum(u.gpus for u in uses)
    shared = Simpler(gpu=gpu, usd=whole.usd, unlimited=whole.usd, needs=needs)
    if needs <= stock[gpu]:
        return shared, whole
    # one type: the cheapest fleet is that of the fewest GPUs, so its bound may already say that they do not suffice
    fewest = ceil(whole.bound / (whole.usd / needs) - 1e-6)
    within = nothing if fewest > stock[gpu] else choose(mine, asked, {gpu: stock[gpu]}, seconds=seconds, gap=gap)
    if within.uses is not None:
        return replace(shared, usd=within.usd), within
    return replace(shared, usd=None, reason=unfound(within, f"{needs:,} are needed, {stock[gpu]:,} available")), nothing


def unfound(choice: Solution, proven: str) -> str:
    """Return why there is no solution: the solver's time, or the reason that it proves."""
    return UNFOUND if choice.stopped else proven


# -- reasons --------------------------------------------------------------------------------------


def unserved(able: Sequence[Option], asked: Sequence[Bucket]) -> list[Bucket]:
    """Return the buckets that no column serves."""
    served = {b for c in able for b in covered(c)}
    return [b for b in asked if b not in served]


def place(group: BucketGroup) -> str:
    """Return which requests a group holds."""
    low, high = group.tokens
    return group.task.name if group.whole else f"{group.task.name}, prompts of {low:,.0f} to {high:,.0f} tokens"


def none_because(
    mixed: Solution, able: Sequence[Option], asked: Sequence[Bucket], stock: Mapping[str, int], why: Why,
    seconds: float, gap: float,
) -> str:  # fmt: skip
    """Return why there is no fleet: a limit no GPU keeps, or which GPUs are missing."""
    lacking = unserved(able, asked)
    if lacking:
        group, reasons = why[lacking[0]]
        causes = list(dict.fromkeys(reasons.values()))
        said = causes[0] if len(causes) == 1 else "; ".join(f"{gpu}: {cause}" for gpu, cause in reasons.items())
        return f"{place(group)}: {said or UNSERVED}"
    if mixed.stopped:
        return (
            f"the solver neither found a fleet in {show_time(seconds / ASIDE)} nor ruled it out; give it more seconds"
        )
    lent = {gpu: choose(able, asked, stock, seconds=seconds, gap=0.0, lend=gpu) for gpu in stock}
    enough = {gpu: c for gpu, c in lent.items() if c.uses is not None}
    if not enough:
        return "too few GPUs are available, and more of a single type would not be enough"
    least = [f"{'at most ' * c.stopped}{c.extra:,} more {gpu}" for gpu, c in enough.items()]
    return f"too few GPUs are available: {' or '.join(least)} would be enough"
