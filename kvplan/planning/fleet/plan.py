"""A mixed fleet for several workloads: the cheapest replicas on the GPUs that can be had, against simpler fleets.

Simpler fleets: one GPU type alone, and one configuration for each workload as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from kvplan.planning.fleet.bill import FleetBill, billed
from kvplan.planning.fleet.options import BucketGroup, FleetWorkload, Looked, Option, groups, options
from kvplan.planning.fleet.program import ASIDE, Bucket, Solution, Use, choose, covered, unused
from kvplan.planning.fleet.remedies import FleetImpasse, FleetRemedy, fleet_remedies
from kvplan.planning.remedies import STEP
from kvplan.planning.site import EVEN
from kvplan.specs.result import Result
from kvplan.units import HOUR, show_time, show_usd

#: the solver's time for the whole fleet [s], and by how much a better one may remain unfound, as a share of its cost
SECONDS, GAP = 20.0, 0.001
#: costs that differ by less are alike, and one pool for each workload is simpler to operate
ALIKE = 5e-4
#: changes that a message names
REMEDIES = 3
UNSERVED = "no replica can be had"
UNFOUND = "the solver found none within its time"
TOO_FEW = "too few GPUs are available for all workloads at once"


@dataclass(frozen=True, kw_only=True)
class Simpler:
    """A fleet under a restriction."""

    gpu: str  #: the one type, '' where types mix
    usd: float | None  #: cost with the GPUs there are, None where they are not enough [USD/s]
    unlimited: float | None  #: cost with any number of GPUs, None where there is no fleet or that was not asked [USD/s]
    needs: int | None  #: GPUs that it then takes
    reason: str = ""  #: why there is no fleet, '' where there is one


@dataclass(frozen=True, kw_only=True)
class FleetPlan(Result, of="fleet"):
    """The answer: what serves what, what it costs, and what simpler fleets would."""

    tasks: tuple[FleetWorkload, ...]  #: what is served
    stock: Mapping[str, int]  #: GPUs that can be had, by type
    buckets: int  #: into how many requests of a workload were cut by length
    uses: tuple[Use, ...]  #: what serves what, () where there is no fleet
    bound: float  #: no fleet of these columns costs less [USD/s]
    stopped: bool  #: whether the solver ran out of time
    singles: tuple[Simpler, ...]  #: every type alone
    separate: Simpler  #: one configuration for each workload as a whole
    seconds: float  #: the solver's time [s]
    reason: str = ""  #: why there is no fleet, '' where there is one
    remedies: tuple[FleetRemedy, ...] = ()  #: changes that would be enough, the cheapest fleet first
    warnings: tuple[str, ...] = ()  #: what the reader must know first
    #: the probability that was sought, where no replica reaches it for some workloads and the surest serve them
    sought: float | None = None

    @property
    def unsure(self) -> tuple[FleetWorkload, ...]:
        """Workloads that are served with less than the probability that was sought."""
        return tuple(t for t in self.tasks if self.sought and t.demand.limits.confidence < self.sought)

    @property
    def usd(self) -> float | None:
        """What the fleet costs. [USD/s]"""
        return sum(u.usd for u in self.uses) + sum(x.usd for x in unused(self.uses)) if self.uses else None

    @cached_property
    def bill(self) -> FleetBill | None:
        """Its bill, None without a fleet."""
        return billed(self.tasks, self.uses) if self.uses else None

    @property
    def lacking(self) -> str:
        """Why there is no fleet and what to write instead, '' where there is one."""
        if self.uses:
            return ""
        if not self.remedies:
            return (
                f"{self.reason}; no change of one limit, technique, weight format or GPU type that was tried is enough"
            )
        ways = [f"{r.change} ({show_usd(r.usd * HOUR)} an hour)" for r in self.remedies[:REMEDIES]]
        return f"{self.reason}. The cheapest change that is enough: {', or '.join(ways)}"

    @property
    def gap(self) -> float | None:
        """By how much a fleet of these columns could at most be cheaper, as a share of the cost."""
        return max(1 - self.bound / self.usd, 0.0) if self.usd else None

    @property
    def gpus(self) -> dict[str, int]:
        """GPUs taken, spares included, by type."""
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


def plan(
    tasks: Sequence[FleetWorkload],
    stock: Mapping[str, int],
    buckets: int,
    *,
    seconds: float = SECONDS,
    gap: float = GAP,
    looked: Looked | None = None,
) -> FleetPlan:
    """Return the cheapest fleet of at most `stock` GPUs of each type, requests cut into buckets of input length.

    `looked` holds candidates that were looked at before, under other latency limits.
    """
    seen = looked or Looked()
    known = columns_of(tasks, buckets, seen)
    aside = seconds * ASIDE
    singles = tuple(single(gpu, tasks, known, stock, aside, gap) for gpu in stock)
    wholes = [c for c in known.able if c.group.whole]
    separate = choose(wholes, known.asked, stock, seconds=aside, gap=gap, at_once=True)
    mixed = choose(known.able, known.asked, stock, seconds=seconds, gap=gap)
    found = [c for c in (mixed, separate, *(choice for _, choice in singles)) if c.uses is not None]
    best = min(found, key=lambda c: c.usd, default=None)
    if best is not None and separate.uses is not None and separate.usd <= best.usd * (1 + ALIKE):
        best = separate
    reason, cures = "", tuple[FleetRemedy, ...]()
    if best is None:
        by_task = {t.name: [c for c in known.able if c.group.task.name == t.name] for t in tasks}
        impasse = FleetImpasse(
            tasks=tasks, stock=stock, buckets=buckets, columns=by_task, asked=known.asked,
            lacking=unserved(known.able, known.asked), seconds=aside, gap=gap, looked=seen,
        )  # fmt: skip
        reason, cures = none_because(mixed, impasse, known.why), fleet_remedies(impasse)
    return FleetPlan(
        tasks=tuple(tasks), stock=dict(stock), buckets=buckets, uses=ordered(best.uses or ()) if best else (),
        bound=mixed.bound, stopped=mixed.stopped, singles=tuple(s for s, _ in singles),
        separate=one_pool_each(separate, known), seconds=seconds, reason=reason, remedies=cures,
    )  # fmt: skip


#: a bucket by itself, and why GPU types do not serve it
Why = Mapping[Bucket, tuple[BucketGroup, Mapping[str, str]]]


@dataclass(frozen=True, kw_only=True)
class FleetColumns:
    """What a fleet is chosen from, and what it has to serve."""

    able: Sequence[Option]  #: replicas that keep the limits of some buckets
    asked: Sequence[Bucket]  #: buckets that must be served
    why: Why  #: of each bucket, why GPU types do not serve it


def columns_of(tasks: Sequence[FleetWorkload], buckets: int, looked: Looked) -> FleetColumns:
    """Return what a fleet for workloads cut into so many buckets is chosen from."""
    choices = [(group, *options(group, looked)) for t in tasks for group in groups(t, buckets)]
    return FleetColumns(
        able=[c for _, each, _ in choices for c in each],
        asked=sorted({(g.task.name, b) for g, _, _ in choices for b in (g.first, g.last)}),
        why={(g.task.name, g.first): (g, reasons) for g, _, reasons in choices if g.first == g.last},
    )


def surest(
    tasks: Sequence[FleetWorkload],
    stock: Mapping[str, int],
    buckets: int,
    *,
    seconds: float = SECONDS,
    gap: float = GAP,
) -> FleetPlan:
    """Return `plan`, or where no replica keeps the limits of some workloads surely enough, with the surest for those.

    Their changes of limits stand among the remedies. Where GPUs are short the answer stays a no, as in `recommend`.
    """
    looked = Looked()
    answer = plan(tasks, stock, buckets, seconds=seconds, gap=gap, looked=looked)
    lower = [likely(t, buckets, looked) for t in tasks] if not answer.uses else []
    changed = [t for t in lower if t is not None]
    if len(changed) < len(tasks) or [t.demand.limits for t in changed] == [t.demand.limits for t in tasks]:
        return answer
    again = plan(changed, stock, buckets, seconds=seconds, gap=gap)
    if not again.uses:
        return answer
    more = tuple(r for r in answer.remedies if "confidence" not in r.change)
    return replace(again, remedies=more, sought=max(t.demand.limits.confidence for t in tasks))


def likely(t: FleetWorkload, buckets: int, looked: Looked) -> FleetWorkload | None:
    """Return a workload at the greatest probability at which replicas serve all of it, None below even odds."""
    asked = {(t.name, b) for g in groups(t, buckets) for b in (g.first, g.last)}
    share = t.demand.limits.confidence
    while share >= EVEN - 1e-9:
        less = t.under(confidence=round(share, 2))
        served = {b for g in groups(less, buckets) for c in options(g, looked)[0] for b in covered(c)}
        if asked <= served:
            return less
        share -= STEP
    even, anew = t.under(confidence=EVEN), Looked()
    served = {b for g in groups(even, buckets) for c in options(g, anew)[0] for b in covered(c)}
    return even if asked <= served and t.demand.limits.confidence > EVEN else None


def ordered(uses: Sequence[Use]) -> tuple[Use, ...]:
    """Return what serves what, by workload, shortest requests first."""

    def key(u: Use) -> tuple[str, int, int, str, float]:
        group = u.option.group
        return group.task.name, group.first, group.last, u.option.site.gpu.name, -u.share

    return tuple(sorted(uses, key=key))


# -- one type alone -------------------------------------------------------------------------------


def single(
    gpu: str, tasks: Sequence[FleetWorkload], known: FleetColumns, stock: Mapping[str, int], seconds: float, gap: float
) -> tuple[Simpler, Solution]:
    """Return what a GPU type alone costs, with as many as there are and with any number of them."""
    nothing = Solution(uses=None, bound=0.0, stopped=False)
    none = Simpler(gpu=gpu, usd=None, unlimited=None, needs=None)
    mine = [c for c in known.able if c.site.gpu.name == gpu]
    if lacking := unserved(mine, known.asked):
        group, reasons = known.why[lacking[0]]
        return replace(none, reason=f"{place(group)}: {reasons.get(gpu) or UNSERVED}"), nothing
    whole = unlimited(mine, tasks, known.asked, seconds, gap)
    if whole is None:  # with any number of GPUs only time can lack
        return replace(none, reason=UNFOUND), nothing
    needs = sum(u.gpus for u in whole.uses or ())
    shared = Simpler(gpu=gpu, usd=whole.usd, unlimited=whole.usd, needs=needs)
    if needs <= stock[gpu]:
        return shared, whole
    # no fewer GPUs can be had at its bound: they may be known not to suffice
    cost = mine[0].site.cost
    assert cost is not None
    if ceil(whole.bound / cost.rate("") - 1e-6) > cost.whole(stock[gpu]):
        within = nothing
    else:
        within = choose(mine, known.asked, {gpu: stock[gpu]}, seconds=seconds, gap=gap)
    if within.uses is not None:
        return replace(shared, usd=within.usd), within
    return replace(shared, usd=None, reason=unfound(within, f"{needs:,} are needed, {stock[gpu]:,} available")), nothing


def unlimited(
    mine: Sequence[Option], tasks: Sequence[FleetWorkload], asked: Sequence[Bucket], seconds: float, gap: float
) -> Solution | None:
    """Return the cheapest pools on any number of GPUs, workload by workload, None where the solver's time ran out."""
    each = [
        choose([c for c in mine if c.group.task.name == t.name], [b for b in asked if b[0] == t.name], {},
               seconds=seconds / len(tasks), gap=gap, servers=False)
        for t in tasks
    ]  # fmt: skip
    if not all(c.uses for c in each):
        return None
    uses = tuple(u for c in each for u in c.uses or ())
    return Solution(uses=uses, bound=sum(c.bound for c in each), stopped=any(c.stopped for c in each))


def one_pool_each(separate: Solution, known: FleetColumns) -> Simpler:
    """Return what one configuration for each workload costs, or why there is none."""
    if separate.uses:
        return Simpler(gpu="", usd=separate.usd, unlimited=None, needs=None)
    reason = unfound(separate, not_whole(known.able, known.asked))
    return Simpler(gpu="", usd=None, unlimited=None, needs=None, reason=reason)


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


def unkept(group: BucketGroup, reasons: Mapping[str, str]) -> str:
    """Return why no GPU serves some requests."""
    causes = list(dict.fromkeys(reasons.values()))
    summary = causes[0] if len(causes) == 1 else ", ".join(f"{gpu}: {cause}" for gpu, cause in reasons.items())
    return f"{place(group)}: {summary or UNSERVED}"


def none_because(mixed: Solution, i: FleetImpasse, why: Why) -> str:
    """Return why there is no fleet: a limit no GPU keeps, or that GPUs are missing."""
    if i.lacking:
        first = dict(reversed([(name, (name, bucket)) for name, bucket in i.lacking]))
        return "; ".join(unkept(*why[first[t.name]]) for t in i.tasks if t.name in first)
    if mixed.stopped:
        given = show_time(i.seconds / ASIDE)
        return f"the solver neither found a fleet in {given} nor ruled it out; give it more seconds"
    return TOO_FEW


def not_whole(able: Sequence[Option], asked: Sequence[Bucket]) -> str:
    """Return why no fleet has one pool for each workload: some are served in parts alone, else GPUs are missing."""
    parts = dict.fromkeys(name for name, _ in unserved([c for c in able if c.group.whole], asked))
    return f"no single pool serves all of {', '.join(parts)}" if parts else TOO_FEW
