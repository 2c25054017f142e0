"""What a fleet costs: every pool billed as a plan of its own, whole servers, and how sure the sums are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum

from kvplan.money.bill import Bill
from kvplan.planning.demand import Demand
from kvplan.planning.fleet.options import FleetWorkload
from kvplan.planning.fleet.program import Unused, Use, unused
from kvplan.planning.hosting import bill_of, per_million
from kvplan.planning.plan import Plan
from kvplan.planning.sensitivity import CostRange, combined
from kvplan.planning.site import Site
from kvplan.specs.line import Line

#: P10, the cost with every input at its middle, P90
Percentiles = tuple[float, float, float]
#: the line of GPUs that come with the servers of others
UNUSED = "unused"
#: who shares a quantity's error: all pools alike, those on one GPU type, those of one workload
SHARED = {"pace": "all", "price": "gpu", "load": "workload", "length": "workload"}


def one_by_one(site: Site) -> Site:
    """Return a site whose GPUs are paid for one by one: servers are rounded up over all pools together."""
    offers = tuple(replace(p, gpus=1) for p in site.offers)
    return replace(site, offers=offers, owned=replace(site.owned, unit=1) if site.owned else None)


@dataclass(frozen=True)
class Pool:
    """A pool as a plan of its own: what it is asked, what serves that, and where."""

    use: Use  #: replicas, and the share of a group they serve

    @cached_property
    def demand(self) -> Demand:
        """What is sent there."""
        whole, share = self.use.option.group.demand, self.use.share
        arrivals = whole.workload.arrivals
        sent = replace(arrivals, queries_per_day=arrivals.queries_per_day * share)
        return replace(
            whole, workload=replace(whole.workload, arrivals=sent), peak=whole.peak * share, mean=whole.mean * share
        )

    @cached_property
    def site(self) -> Site:
        """Where it is served, servers left out."""
        return one_by_one(self.use.option.site)

    @cached_property
    def plan(self) -> Plan:
        """What serves it."""
        u = self.use
        return replace(u.option.plan, replicas=u.all_replicas, gpus=u.gpus, usd=u.usd / self.demand.mean)

    @cached_property
    def bill(self) -> Bill:
        """Its bill, GPUs of servers that nothing uses left out."""
        bill = bill_of(self.demand, self.plan, self.site)
        assert bill is not None
        return bill

    @cached_property
    def range(self) -> CostRange:
        """How its cost moves."""
        return CostRange(self.demand, self.plan, self.site)


@dataclass(frozen=True, kw_only=True)
class WorkloadCost:
    """What serving one workload costs, its part of GPUs that nothing uses included."""

    task: FleetWorkload  #: the workload
    usd: float  #: all of it [USD/s]
    per_query: Percentiles  #: one query [USD]
    per_million: tuple[float, float]  #: a million input tokens, a million output tokens [USD]
    spares: int  #: GPUs that stand in when others fail
    gpus: int  #: GPUs of its pools, spares included
    sure: float  #: least probability over its pools that the latency limits are kept
    lines: tuple[Line, ...]  #: sum to `usd` [USD/s]

    @property
    def per_item(self) -> float | None:
        """What one document, contract or review costs, None where a query is one. [USD]"""
        workload = self.task.demand.workload
        return self.per_query[1] * workload.requests_per_item if workload.item else None


@dataclass(frozen=True, kw_only=True)
class FleetBill:
    """What a fleet costs: `lines` sum to its cost, and so do its workloads'."""

    workloads: tuple[WorkloadCost, ...]  #: by workload
    lines: tuple[Line, ...]  #: by what the GPUs do [USD/s]
    usd: Percentiles  #: all of it [USD/s]
    paid: dict[str, int]  #: GPUs that are paid for, by type


def billed(tasks: Sequence[FleetWorkload], uses: Sequence[Use]) -> FleetBill:
    """Return the bill of pools."""
    pools = [Pool(u) for u in uses]
    left = {x.site.gpu.name: x for x in unused(uses)}
    taken: dict[str, int] = {}
    for u in uses:
        taken[u.option.site.gpu.name] = taken.get(u.option.site.gpu.name, 0) + u.gpus

    def part(pool: Pool) -> float:
        """Return a pool's part of the GPUs of its type that nothing uses. [USD/s]"""
        gpu = pool.site.gpu.name
        return left[gpu].usd * pool.use.gpus / taken[gpu] if gpu in left else 0.0

    each = tuple(
        workload_cost(t, [(p, part(p)) for p in pools if p.use.option.group.task is t])
        for t in tasks
    )  # fmt: skip
    return FleetBill(
        workloads=each,
        lines=summed(pools, left.values()),
        usd=spread([(p, part(p)) for p in pools]),
        paid={gpu: n + (left[gpu].gpus if gpu in left else 0) for gpu, n in taken.items()},
    )


def workload_cost(task: FleetWorkload, pools: Sequence[tuple[Pool, float]]) -> WorkloadCost:
    """Return what a workload's pools cost, each with its part of GPUs that nothing uses [USD/s]."""
    rate = fsum(pool.demand.mean for pool, _ in pools)
    own = [Line(name=UNUSED, amount=fsum(extra for _, extra in pools), basis="")]
    lines = merged([line for pool, _ in pools for line in pool.bill.lines] + own)
    return WorkloadCost(
        task=task,
        usd=fsum(pool.use.usd + extra for pool, extra in pools),
        per_query=spread(pools, each=rate),
        per_million=tokens_cost(pools),
        spares=sum(p.use.option.spares * p.use.option.gpus for p, _ in pools),
        gpus=sum(p.use.gpus for p, _ in pools),
        sure=min(p.plan.slo_probability for p, _ in pools),
        lines=lines,
    )


def tokens_cost(pools: Sequence[tuple[Pool, float]]) -> tuple[float, float]:
    """Return the cost of a million input and of a million output tokens, over the tokens of all pools. [USD]"""
    sums: list[list[float]] = [[], [], [], []]
    for pool, extra in pools:
        demand = pool.demand
        plan = replace(pool.plan, usd=(pool.use.usd + extra) / demand.mean)
        for k, (usd, tokens) in enumerate(zip(per_million(demand, plan), (demand.prompt, demand.output), strict=True)):
            sums[2 * k].append((usd or 0.0) * tokens * demand.mean)
            sums[2 * k + 1].append(tokens * demand.mean)
    read, given, written, answered = map(fsum, sums)
    return read / given, written / answered


def merged(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Return lines of one name as one, in order; those of nothing are left out."""
    amounts: dict[str, list[float]] = {}
    for line in lines:
        amounts.setdefault(line.name, []).append(line.amount)
    return tuple(Line(name=name, amount=fsum(parts), basis="") for name, parts in amounts.items() if fsum(parts))


def summed(pools: Sequence[Pool], left: Iterable[Unused]) -> tuple[Line, ...]:
    """Return the lines of all pools and of GPUs that nothing uses, with what they rest on. [USD/s]"""
    spared = [p.use.option for p in pools if p.use.option.spares]
    gpus = sum(c.spares * c.gpus for c in spared)
    idle = list(left)
    servers = ", ".join(f"{x.gpus} {x.site.gpu.name} of servers of {x.site.cost.unit}" for x in idle if x.site.cost)
    bases = {
        "idle": "GPUs wait while the load is below its peak",
        "spares": f"{gpus:,} GPU{'s' * (gpus != 1)} in {len(spared)} pool{'s' * (len(spared) != 1)} "
        "to stand in when others fail",
        UNUSED: f"{servers}, which are paid for whole",
    }  # fmt: skip
    extra = [Line(name=UNUSED, amount=fsum(x.usd for x in idle), basis="")]
    lines = merged([line for p in pools for line in p.bill.lines] + extra)
    return tuple(replace(line, basis=bases.get(line.name, "")) for line in lines)


# -- the range ------------------------------------------------------------------------------------


def spread(pools: Sequence[tuple[Pool, float]], each: float = 0.0) -> Percentiles:
    """Return P10, the point and P90 of what pools cost [USD/s], or of one of `each` queries a second [USD].

    kvplan's error moves all pools together, the rent those on one GPU type, load and lengths those of one workload.
    GPUs that nothing uses (each pool's part of them, USD/s) follow the rent alone.
    """
    point = fsum(pool.use.usd + extra for pool, extra in pools)
    moved: dict[tuple[str, str], tuple[float, float]] = {}
    for pool, extra in pools:
        place = {"all": "", "gpu": pool.site.gpu.name, "workload": pool.use.option.group.task.name}
        middle = float(pool.range.cost())
        for what, move in pool.range.moves().items():
            ends = []
            for factor in (move.low, move.high):
                # more queries cost more, each of them less
                volume = factor if what == "load" and not each else 1.0
                cost = (volume * float(pool.range.cost(**{what: factor})) - middle) * pool.demand.mean
                rest = (factor - 1) * extra if what == "price" else 0.0
                if what == "load" and each:
                    rest = (1 / factor - 1) * extra
                ends.append(cost + rest)
            key = what, place[SHARED[what]]
            low, high = moved.get(key, (0.0, 0.0))
            moved[key] = low + ends[0], high + ends[1]
    low, point, high = combined(point, ((point + a, point + b) for a, b in moved.values()))
    scale = 1 / each if each else 1.0
    return low * scale, point * scale, high * scale
