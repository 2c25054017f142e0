"""Replicas on one GPU under the demand's own load: how many there are, what stays cached, percentiles of times."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.perf.crowding import crowd_longer, held, open_memory, steps_beside, surge
from kvplan.perf.prompts import PromptSteps, alone_times, mean, percentile_class, slots_shared
from kvplan.perf.queueing import open_loop
from kvplan.perf.serving import BUSIEST, Served, receiving
from kvplan.perf.token_times import Fetch, first_token, token_time
from kvplan.planning.demand import Demand
from kvplan.planning.prompts import kept_prefixes
from kvplan.planning.searching.gpu_grid import GpuGrid
from kvplan.planning.searching.grid import AlikePrompts, Between

Array = Any
#: a rate that is as good as none [1/s]
TINY = 1e-12
#: candidates of one group that fit: their rows in the group, and their loads
Places = tuple[Array, Array]


#: what limits other than the percentile do not change
STEADY = ("steady", "full", "most_rate", "times")


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """What replicas run of the load."""

    running: Array  #: requests that one runs at once
    gpu_seconds: Array  #: time of a GPU at work that a query takes [s]
    busy: Array  #: share of that time which prompts take


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The replicas of one GPU, as many requests coming to each as the fleet gets a replica.

    Arrays are of (configuration, load).
    """

    demand: Demand  #: what is to be served
    gpu_grid: GpuGrid  #: configurations on the GPU

    def alike(self, other: "Crowd") -> bool:
        """Return whether the same requests come to the same GPU, with as much beside it for their prefixes."""
        mine, theirs = (
            (d.peak, d.headroom, d.workload.arrivals, d.limits.percentile) for d in (self.demand, other.demand)
        )
        home, there = self.gpu_grid, other.gpu_grid
        beside = (home.beside, there.beside), (home.fetching, there.fetching)
        return mine == theirs and all(np.array_equal(a, b) for a, b in beside)

    @cached_property
    def steady(self) -> tuple[Served, Array, Array]:
        """Means of full replicas, how many carry the demand without spares, and the share of prefixes they keep."""
        served = self.gpu_grid.ideal
        replicas = self.replicas(served)
        kept = self.kept(served, replicas)
        if (kept < 1).any():
            served = self.gpu_grid.full(kept)
            replicas = self.replicas(served)
            kept = self.kept(served, replicas)
        return served, replicas, kept

    @cached_property
    def full(self) -> AtWork:
        """What the replicas run of the load that they are for; those of an offline load are full."""
        home, (served, replicas, _) = self.gpu_grid, self.steady
        if self.demand.workload.offline:
            seconds = served.cycle / home.requests * home.grid.each
            return AtWork(running=home.requests, gpu_seconds=seconds, busy=served.busy)
        rows = np.broadcast_to(np.arange(len(replicas))[:, None], replicas.shape)
        found = self.at_work(rows.ravel(), replicas.ravel())
        return AtWork(**{f.name: getattr(found, f.name).reshape(replicas.shape) for f in fields(AtWork)})

    def at_work(self, rows: Array, replicas: Array) -> AtWork:
        """Return what each of so many replicas of configurations runs of the load, whatever more it might.

        The least load of the grid that needs no more replicas is their upper bound: the requests in flight then, over
        the replicas, run on each, as long as on the line from the load before.
        """
        home, (served, needed, _) = self.gpu_grid, self.steady
        enough = (needed[rows] <= replicas[:, None]) & home.grid.usable[rows]
        at = rows, np.argmax(enough, axis=1)
        before = rows, np.maximum(at[1] - 1, 0)
        whole = self.demand.in_flight(served.cycle[at]) / replicas
        held = np.maximum(np.ceil(whole - 1e-9), np.maximum(home.grid.ranks[rows, 0], 1.0))
        low, high = home.requests[before], home.requests[at]
        part = np.where(high > low, np.clip((held - low) / np.maximum(high - low, 1e-9), 0.0, 1.0), 1.0)
        cycle, busy = ((1 - part) * x[before] + part * x[at] for x in (served.cycle, served.busy))
        return AtWork(running=held, gpu_seconds=cycle / held * home.grid.each[rows, 0], busy=busy)

    def rate(self, replicas: Array) -> Array:
        """Return the requests that come to a replica at the rate waits are planned for. [1/s]"""
        return self.demand.waits_at[0] * self.demand.peak * (1 + self.demand.headroom) / replicas

    def replicas(self, served: Served) -> Array:
        """Return how many replicas carry the demand, without spares."""
        return np.maximum(np.ceil(self.demand.in_flight(served.cycle) / self.gpu_grid.requests - 1e-9), 1.0)

    def filled(self, replicas: Array, rows: Array | None = None) -> Array:
        """Return the load over the most that so many replicas work off: of all rows, or of some one by one."""
        load = self.demand.peak * (1 + self.demand.headroom) if self.demand.workload.offline else self.rate(1.0)
        return load / np.maximum(replicas * (self.most_rate if rows is None else self.most_rate[rows, 0]), TINY)

    @cached_property
    def most_rate(self) -> Array:
        """The requests a second that a full replica of each configuration serves, as a column. [1/s]"""
        home, (served, _, _) = self.gpu_grid, self.steady
        return np.where(home.fits, home.requests / served.cycle, 0.0).max(axis=1, keepdims=True)

    def kept(self, served: Served, replicas: Array) -> Array:
        """Return the share of shared prefixes that stay in memory beside the requests that run on average."""
        home, rate = self.gpu_grid, self.rate(replicas)
        room = np.maximum(home.room - np.minimum(rate * served.cycle, home.requests), home.beside)
        return np.asarray(kept_prefixes(self.demand.workload, room=room, rate=rate))

    def at(self, places: Places, replicas: Array) -> tuple[Array, ...]:
        """Return percentiles and means of TTFT and TPOT [s] and the prefixes kept, other replicas serving.

        Of candidates at these places of the grid, one after the other.
        """
        home, (served, _, _), (rows, columns) = self.gpu_grid, self.steady, places
        rate = self.rate(replicas)
        running = np.minimum(rate * served.cycle[places], home.requests[places])
        room = np.maximum(home.room[rows, 0] - running, home.beside[rows, 0])
        kept = kept_prefixes(self.demand.workload, room=room, rate=rate) + 0.0 * rate
        found = np.zeros((4, len(rows)))
        for group, steps in zip(home.grid.groups, home.steps, strict=True):
            mine = np.flatnonzero(np.isin(rows, group.rows))
            if mine.size:
                inside = np.searchsorted(group.rows, rows[mine]), columns[mine]
                found[:, mine] = self.group_times(group, steps, replicas[mine], inside, kept[mine])
        return (*found, kept)

    def lone(self, rows: Array) -> tuple[Array, Array]:
        """Return the least TTFT and TPOT of configurations, at the percentile: those of requests without others. [s]"""
        home, share = self.gpu_grid, self.demand.limits.percentile
        c, least = home.site.calibration, np.zeros((2, len(rows)))
        for group, steps in zip(home.grid.groups, home.steps, strict=True):
            mine = np.flatnonzero(np.isin(rows, group.rows))
            if mine.size:
                row, most = np.searchsorted(group.rows, rows[mine]), percentile_class(group.classes, share)
                alone = replace(steps, attention=(steps.attention[most],))
                own = alone_times((group.classes[most],), alone, c.chunk)[0]
                times = (receiving(c, mean(group.classes, [k.total for k in group.classes])) + own, steps.decode)
                least[:, mine] = [np.broadcast_to(t, steps.decode.shape)[row, 0] for t in times]
        return least[0], least[1]

    @cached_property
    def times(self) -> tuple[Array, Array, Served]:
        """The percentiles of TTFT and TPOT of candidates that fit, means of the others, and the means. [s]"""
        (served, replicas, kept), gpu_grid = self.steady, self.gpu_grid
        ttft, tpot, mean_ttft, mean_tpot = (
            np.array(served.ttft), np.array(served.tpot), np.array(served.ttft), np.array(served.tpot)
        )  # fmt: skip
        for group, steps in zip(gpu_grid.grid.groups, gpu_grid.steps, strict=True):
            at: Places = np.nonzero(gpu_grid.fits[group.rows])  # type: ignore[assignment]
            if at[0].size and not self.demand.workload.offline:
                here = (group.rows[at[0]], at[1])
                ttft[here], tpot[here], mean_ttft[here], mean_tpot[here] = self.group_times(
                    group, steps, replicas[here], at, kept[here]
                )
        return ttft, tpot, replace(served, ttft=mean_ttft, tpot=mean_tpot)

    def fetched(self, places: Places, rate: Array, kept: Array) -> Fetch | None:
        """Return how often a prefix comes from the tier beside the GPUs of candidates, and how long it takes.

        As often as it is found there and not on the GPUs, which the tier holds what they do; one comes after the other
        (M/D/1).
        """
        home, w = self.gpu_grid, self.demand.workload
        seconds = home.fetching[places[0], 0]
        if not seconds.any():
            return None
        running = np.minimum(rate * self.steady[0].cycle[places], home.requests[places])
        near = kept_prefixes(w, room=np.maximum(home.room[places[0], 0] - running, 0.0), rate=rate)
        share = np.clip(1 - near / np.maximum(kept, TINY), 0.0, 1.0) * (seconds > 0)
        again = 1 - w.prefix_classes[0][0]  # requests that share a prefix with one before
        busy = np.minimum(rate * again * kept * share * seconds, BUSIEST)
        return Fetch(share=share, seconds=seconds * (1 + busy / (2 * (1 - busy))))

    def group_times(
        self, group: AlikePrompts, steps: PromptSteps, replicas: Array, at: Places, kept: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Return percentile and mean of TTFT and TPOT of those candidates that fit, one after the other. [s]"""
        home = self.gpu_grid
        c, rows = home.site.calibration, group.rows[at[0]]
        here = (rows, at[1])
        classes = home.classes(group, kept)
        ranks, slots = home.busy[here], home.slots[rows, 0]
        between = Between(steps=steps, row=at[0], loads=home.grid.requests[0], ranks=home.grid.ranks[rows, 0])
        burst, share, output = self.demand.waits_at[1], self.demand.limits.percentile, self.demand.workload.output
        rate, z = self.rate(replicas), NormalDist().inv_cdf(share)
        state = open_loop(
            between.at, classes, c, rate=rate / ranks, output=self.demand.output, most=slots / ranks, short=output.short
        )  # fmt: skip
        most = np.maximum(home.most * home.grid.ranks[rows, 0], slots)
        shared = slots_shared(classes, self.demand.output, state.mates, slots=slots, most=most)
        longer = crowd_longer(
            between.decode, state.load, state.served, surge(rate / ranks, state.mixture, burst, beside=state.mates),
            most=shared / ranks, mates=state.mates, classes=classes, z=z,
        )  # fmt: skip
        memory = open_memory(
            state.mixture, rate=rate, slots=shared, decode=between.decode, output=self.demand.output,
            squared=output.squared, burstiness=burst, ranks=ranks, beside=state.mates,
        )  # fmt: skip
        beside = steps_beside(between.decode, state.load.batch, state.mates)
        means = held(state.served, state.load, memory, rate, beside)
        ttft = first_token(state.mixture, means, c, state.load, memory.wait, burst)
        ttft = replace(ttft, fetch=self.fetched(here, rate, kept))
        tpot = token_time(means, state.mixture, state.load, z, longer, ttft.queue, output.points)
        return ttft.quantile(share), tpot, ttft.mean, means.tpot


def crowd_of(demand: Demand, gpu_grid: GpuGrid) -> Crowd:
    """Return the replicas of a GPU under a demand; what is known of the same load under other limits is kept."""
    one = Crowd(demand=demand, gpu_grid=gpu_grid)
    known = next((other for other in tuple(gpu_grid.crowds) if one.alike(other)), None)
    if known is not None:
        one.__dict__.update({name: vars(known)[name] for name in STEADY if name in vars(known)})
    gpu_grid.crowds.appendleft(one)
    return one
