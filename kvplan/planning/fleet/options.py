"""The ways a fleet may serve parts of its workloads: request-size buckets x GPU types x replica configurations.

Requests of a workload are cut into buckets by input length. Neighbouring buckets may share replicas, so every run of
neighbours is a group with a demand of its own; all of them together are the workload, as `recommend` plans it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.planning.demand import Demand
from kvplan.planning.remedies import reason as reason_of
from kvplan.planning.search import Candidates, Configuration, Pair, search
from kvplan.planning.site import Site
from kvplan.specs.fleet import Slice, cuts

Array = Any
#: replicas may be this much short of the requests in flight, as in `search`
SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class FleetWorkload:
    """A workload of the fleet: what is asked, with which techniques, at what GPUs.

    `barred` says why other techniques may not be used, `left_out` are techniques with weights that may not.
    """

    name: str
    demand: Demand
    techniques: tuple[str, ...]
    barred: Mapping[str, str]
    sites: tuple[Site, ...]
    left_out: Collection[Pair] = ()

    @property
    def pairs(self) -> list[Pair]:
        """Techniques and weight formats that may be used."""
        every = ((name, form) for name in self.techniques for form in self.demand.forms)
        return [pair for pair in every if pair not in self.left_out]


@dataclass(frozen=True, kw_only=True)
class BucketGroup:
    """Buckets `first` to `last` of a workload: `start` to `end` of its requests, shortest first, as a demand."""

    task: FleetWorkload
    first: int
    last: int
    start: float
    end: float
    demand: Demand

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
    """Replicas of one configuration on one GPU type, serving a group within its limits."""

    group: BucketGroup
    site: Site
    configuration: Configuration
    #: requests in flight on one replica
    requests: float
    #: time that a request occupies its slot [s]
    cycle: float
    #: replicas that serve the whole group
    full: int
    #: times at the percentile [s]
    ttft: float
    tpot: float
    e2e: float
    #: probability that the latency limits are kept
    sure: float

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.configuration.parallel.gpus

    @cached_property
    def usd(self) -> float:
        """Cost of one replica, always at work. [USD/s]"""
        assert self.site.cost is not None
        return self.gpus * self.site.cost.rate("")

    def carried(self, replicas: Array) -> Array:
        """Return the share of the group's load that so many replicas carry, fluctuation included: 1 at `full`.

        Grows faster than the replicas: larger pools need less room for fluctuation.
        """
        return carried(self.group.demand, self.cycle, self.requests, replicas)

    def needed(self, share: float) -> int:
        """Return the replicas that carry a share of the group's load."""
        flight = float(self.group.demand.in_flight(self.cycle * share))
        return max(int(np.ceil(flight / self.requests - SLACK)), 1)


def carried(demand: Demand, cycle: Array, requests: Array, replicas: Array) -> Array:
    """Return the share of a demand that replicas carry: `Demand.in_flight` read backwards, by bisection."""
    room = (np.asarray(replicas, float) + SLACK) * requests
    low, high = np.zeros(np.shape(room + cycle)), np.ones(np.shape(room + cycle))
    for _ in range(48):
        middle = (low + high) / 2
        within = demand.in_flight(cycle * middle) <= room
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.where(demand.in_flight(np.asarray(cycle * 1.0)) <= room, 1.0, low)


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


def options(group: BucketGroup) -> tuple[list[Option], dict[str, str]]:
    """Return the configurations worth choosing from on each GPU, and why a GPU has none."""
    task = group.task
    found, refused = search(group.demand, task.techniques, task.sites, task.left_out) if task.techniques else ([], {})
    kept, reasons = [], {}
    for one in found:
        mine = undominated(list(feasible(group, one)))
        kept += mine
        if not mine:
            reasons[one.site.gpu.name] = reason_of(one, group.demand, task.pairs, guesses=True)
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in {**refused, **task.barred}.items())
        reasons = {site.gpu.name: f"no technique may be used ({why})" for site in task.sites}
    return kept, reasons


def feasible(group: BucketGroup, one: Candidates) -> Iterator[Option]:
    """Yield of each shape the load that needs the fewest replicas for all, and the one where one carries most."""
    single = carried(group.demand, one.served.cycle, one.requests, np.ones(np.shape(one.requests)))
    for i in range(len(one.grid.configurations)):
        able = [int(j) for j in np.flatnonzero(one.feasible[i])]
        if able:
            fewest = min(able, key=lambda j: (one.replicas[i, j], one.requests[i, j]))
            most = max(able, key=lambda j: (round(float(single[i, j]), 9), -one.requests[i, j]))
            yield from (column(group, one, i, j) for j in sorted({fewest, most}))


def column(group: BucketGroup, one: Candidates, i: int, j: int) -> Option:
    """Return one candidate as a column."""
    return Option(
        group=group,
        site=one.site,
        configuration=one.grid.configurations[i],
        requests=float(one.requests[i, j]),
        cycle=float(one.served.cycle[i, j]),
        full=int(one.replicas[i, j]),
        ttft=float(one.ttft[i, j]),
        tpot=float(one.tpot[i, j]),
        e2e=float(one.e2e[i, j]),
        sure=float(one.sure[i, j]),
    )


def undominated(found: Sequence[Option]) -> list[Option]:
    """Return the columns of one GPU that no other carries as much as, whatever the number of GPUs."""
    most = max((c.full * c.gpus for c in found), default=0)
    amounts = np.unique(np.concatenate([np.arange(1, 65), np.geomspace(64, max(most, 64), 64).round()]))
    curves = [c.carried(amounts // c.gpus) * (amounts >= c.gpus) for c in found]
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: -float(curves[i].sum())):
        if not any(np.all(curves[k] >= curves[i] - SLACK) for k in kept):
            kept.append(i)
    return [found[i] for i in sorted(kept)]
