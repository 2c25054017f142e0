"""The ways a fleet may serve parts of its workloads: request-size buckets x GPU types x replica configurations.

Requests of a workload are cut into buckets by input length. Neighbouring buckets may share replicas, so every run of
neighbours is a group with a demand of its own; all of them together are the workload, as `recommend` plans it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Book, Plan
from kvplan.planning.remedies import reason as reason_of
from kvplan.planning.searching.configurations import Pair
from kvplan.planning.searching.search import Candidates, search
from kvplan.planning.site import Site
from kvplan.specs.fleet import Slice, cuts

Array = Any
#: replicas may be this much short of the requests in flight, as in `search`
SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class FleetWorkload:
    """A workload of the fleet: what is asked, with which techniques, at what GPUs."""

    name: str  #: as the file calls it
    demand: Demand  #: its requests and limits
    techniques: tuple[str, ...]  #: that may be used
    barred: Mapping[str, str]  #: technique that was asked about -> why it may not be used
    sites: tuple[Site, ...]  #: GPUs that may serve it
    book: Book  #: what techniques and weight formats lose
    left_out: Collection[Pair] = ()  #: techniques with weight formats that may not be used
    formats: tuple[str, ...] = ()  #: weight formats that were not asked about and might do instead
    others: tuple[str, ...] = ()  #: techniques likewise

    @property
    def wanted(self) -> list[str]:
        """Techniques that were asked about."""
        return [*self.techniques, *self.barred]

    def asked(self, demand: Demand, *more: str) -> "FleetWorkload":
        """Return the workload under another demand, with some techniques more."""
        wanted = list(dict.fromkeys((*self.wanted, *more)))
        return task(self.name, demand, wanted, self.book, self.sites, formats=self.formats, others=self.others)

    def under(self, **limits: object) -> "FleetWorkload":
        """Return the workload under other limits."""
        return self.asked(replace(self.demand, limits=replace(self.demand.limits, **limits)))  # type: ignore[arg-type]

    @property
    def pairs(self) -> list[Pair]:
        """Techniques and weight formats that may be used."""
        every = ((name, form) for name in self.techniques for form in self.demand.forms)
        return [pair for pair in every if pair not in self.left_out]


def task(
    name: str,
    demand: Demand,
    wanted: Sequence[str],
    book: Book,
    sites: Sequence[Site],
    *,
    formats: Sequence[str] = (),
    others: Sequence[str] = (),
) -> FleetWorkload:
    """Return a workload with the techniques and weight formats its limits allow, which a book judges."""
    left_out = book.barred(((t, form) for t in wanted for form in demand.forms), demand)
    every = {t: [(t, form) for form in demand.forms] for t in wanted}
    barred = {t: left_out[pairs[0]] for t, pairs in every.items() if all(pair in left_out for pair in pairs)}
    return FleetWorkload(
        name=name,
        demand=demand,
        techniques=tuple(t for t in wanted if t not in barred),
        barred=barred,
        sites=tuple(sites),
        book=replace(book, demand=demand),
        left_out=frozenset(left_out),
        formats=tuple(formats),
        others=tuple(others),
    )


@dataclass(frozen=True, kw_only=True)
class BucketGroup:
    """Neighbouring buckets of a workload as a demand."""

    task: FleetWorkload  #: the workload
    first: int  #: first bucket, of the shortest prompts
    last: int  #: last bucket
    start: float  #: share of the requests that are shorter
    end: float  #: share of the requests up to its longest
    demand: Demand  #: its requests and limits

    @property
    def whole(self) -> bool:
        """Whether the group holds all requests of its workload."""
        return self.start == 0 and self.end == 1

    @property
    def weight(self) -> float:
        """Share of the workload's requests."""
        return self.end - self.start

    @property
    def tokens(self) -> tuple[float, float]:
        """Shortest and longest prompt. [token]"""
        lengths = self.demand.workload.input
        return lengths.quantile(0.0), lengths.quantile(1.0)


@dataclass(frozen=True, kw_only=True)
class Option:
    """Replicas of one configuration on one GPU type, serving a group within its limits; `plan` is that of all of it."""

    group: BucketGroup  #: what it serves
    site: Site  #: where
    plan: Plan  #: how it would serve all of the group
    requests: float  #: requests in flight on one replica
    cycle: float  #: time that a request occupies its slot [s]

    @property
    def spares(self) -> int:
        """Replicas that stand in when others fail."""
        return self.group.demand.spares

    @property
    def full(self) -> int:
        """Replicas that serve the whole group, spares left out."""
        return self.plan.replicas - self.spares

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.plan.parallel.gpus

    @cached_property
    def usd(self) -> float:
        """Cost of one replica that waits. [USD/s]"""
        assert self.site.cost is not None
        return self.gpus * self.site.cost.rate(None)

    @cached_property
    def work(self) -> float:
        """What the GPUs draw in addition while they serve the whole group. [USD/s]"""
        assert self.site.cost is not None
        return self.group.demand.mean * self.plan.gpu_seconds * (self.site.cost.rate("") - self.site.cost.rate(None))

    def carried(self, replicas: Array) -> Array:
        """Return the share of the group's load that so many replicas carry, fluctuation included: 1 at `full`.

        Grows faster than the replicas: larger pools need less room for fluctuation. It leaves out that no replica may
        get more than 1 / `full` of the load, at which its times were planned.
        """
        return carried(self.group.demand, self.cycle, self.requests, replicas)

    def needed(self, share: float) -> int:
        """Return the replicas that carry a share of the group's load, none more than its part of the whole."""
        flight = float(self.group.demand.in_flight(self.cycle * share))
        return max(int(np.ceil(max(flight / self.requests, share * self.full) - SLACK)), 1)


def carried(demand: Demand, cycle: Array, requests: Array, replicas: Array) -> Array:
    """Return the share of a demand that replicas carry: `Demand.in_flight` read backwards."""
    room = (np.asarray(replicas, float) + SLACK) * requests
    mean = demand.peak * (1 + demand.headroom) * np.asarray(cycle, float)
    return np.minimum(demand.sustained(room) / mean, 1.0)


def groups(task: FleetWorkload, buckets: int) -> tuple[BucketGroup, ...]:
    """Return every run of neighbouring buckets."""
    edges = cuts(task.demand.workload.input, buckets)
    runs = [(i, j) for i in range(buckets) for j in range(i, buckets) if edges[j + 1] > edges[i]]
    return tuple(
        BucketGroup(task=task, first=i, last=j, start=edges[i], end=edges[j + 1],
              demand=sliced(task.demand, edges[i], edges[j + 1]))
        for i, j in runs
    )  # fmt: skip


def sliced(demand: Demand, start: float, end: float) -> Demand:
    """Return the demand of the requests between two quantiles of input length.

    Picking a share p of a stream at random leaves its squared variation at 1 + p (CV^2 - 1) (a renewal stream thinned).
    """
    share, whole = end - start, demand.workload
    if share == 1:
        return demand
    spread = max(1 + share * (whole.arrivals.burstiness**2 - 1), 0.0) ** 0.5
    arrivals = replace(
        whole.arrivals, queries_per_day=whole.arrivals.queries_per_day * share, burstiness=spread
    )  # fmt: skip
    workload = replace(whole, input=Slice(whole.input, start, end), arrivals=arrivals)
    return replace(demand, workload=workload, peak=demand.peak * share, mean=demand.mean * share)


@dataclass(frozen=True)
class Looked:
    """Candidates of the groups that were looked at: other latency limits judge the same candidates anew."""

    #: what was looked at -> its candidates on every GPU, and why some techniques could not be tried
    searched: dict[Any, tuple[list[Candidates], dict[str, str]]] = field(default_factory=dict)

    def candidates(self, group: BucketGroup) -> tuple[list[Candidates], dict[str, str]]:
        """Return the candidates of a group on every GPU, and why some techniques could not be tried."""
        task, demand = group.task, group.demand
        if not task.techniques:
            return [], {}
        used = (task.techniques, frozenset(task.left_out), demand.forms)
        key = (task.name, group.start, group.end, demand.limits.percentile, used)
        if key in self.searched:
            candidates, refused = self.searched[key]
            return [one.under(demand) for one in candidates], refused
        self.searched[key] = search(demand, task.techniques, task.sites, task.left_out)
        return self.searched[key]


def options(group: BucketGroup, looked: Looked | None = None) -> tuple[list[Option], dict[str, str]]:
    """Return the configurations worth choosing from on each GPU, and why a GPU has none."""
    task = group.task
    candidates, refused = (looked or Looked()).candidates(group)
    kept, reasons = [], {}
    for one in candidates:
        mine = undominated(list(feasible(group, one)))
        kept += mine
        if not mine:
            reasons[one.site.gpu.name] = reason_of(one, group.demand, task.pairs, guesses=True)
    if not candidates:
        why = "; ".join(f"{name}: {reason}" for name, reason in {**refused, **task.barred}.items())
        reasons = {site.gpu.name: f"no technique may be used ({why})" for site in task.sites}
    return kept, reasons


def feasible(group: BucketGroup, one: Candidates) -> Iterator[Option]:
    """Yield of each shape the load that needs the fewest replicas for all, and the one where one carries most.

    Of owned GPUs, whose electricity follows their work, also the load of fewest replicas that takes the least of it.
    """
    single = carried(group.demand, one.served.cycle, one.requests, np.ones(np.shape(one.requests)))
    single = np.minimum(single, 1 / one.replicas)
    drawing = one.site.cost is not None and one.site.cost.draw is not None
    for i in range(len(one.grid.configurations)):
        able = [int(j) for j in np.flatnonzero(one.feasible[i])]
        if able:
            fewest = min(able, key=lambda j: (one.replicas[i, j], one.requests[i, j]))
            most = max(able, key=lambda j: (round(float(single[i, j]), 9), -one.requests[i, j]))
            thrifty = min(able, key=lambda j: (one.replicas[i, j], one.gpu_seconds[i, j])) if drawing else fewest
            for j in sorted({fewest, most, thrifty}):
                yield Option(
                    group=group,
                    site=one.site,
                    plan=group.task.book.plan(one, i, j),
                    requests=float(one.requests[i, j]),
                    cycle=float(one.served.cycle[i, j]),
                )


def undominated(all_options: Sequence[Option]) -> list[Option]:
    """Return the columns of one GPU that no other carries as much as, whatever the number of GPUs, spares included.

    Nor for as little electricity, where it follows the work.
    """
    most = max(((c.full + c.spares) * c.gpus for c in all_options), default=0)
    amounts = np.unique(np.concatenate([np.arange(1, 65), np.geomspace(64, max(most, 64), 64).round()]))

    def curve(c: Option) -> Array:
        serving = amounts // c.gpus - c.spares
        return np.clip(np.minimum(c.carried(np.maximum(serving, 1)), serving / c.full), 0.0, 1.0)

    curves = [curve(c) for c in all_options]
    kept: list[int] = []
    for i in sorted(range(len(all_options)), key=lambda i: -float(curves[i].sum())):
        mine = all_options[i].work * (1 + SLACK)
        if not any(np.all(curves[k] >= curves[i] - SLACK) and all_options[k].work <= mine for k in kept):
            kept.append(i)
    return [all_options[i] for i in sorted(kept)]
