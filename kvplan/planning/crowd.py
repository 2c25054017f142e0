"""Replicas on one GPU under the demand's own load: how many there are, what stays cached, percentiles of times."""

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.perf.prompts import PromptClass, PromptSteps, mixture
from kvplan.perf.queueing import first_token, open_loop, open_memory, serve_open, token_time
from kvplan.perf.serving import Load, Served
from kvplan.planning.demand import Demand
from kvplan.planning.gpu_grid import GpuGrid
from kvplan.planning.grid import AlikePrompts, Between
from kvplan.planning.prompts import kept_prefixes

Array = Any
#: candidates of one group that fit: their rows in the group, and their loads
Places = tuple[Array, Array]


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The replicas of one GPU, as many requests coming to each as the fleet gets a replica.

    Arrays are of (configuration, load).
    """

    demand: Demand  #: what is to be served
    gpu_grid: GpuGrid  #: configurations on the GPU

    @cached_property
    def steady(self) -> tuple[Served, Array, Array]:
        """Means of full replicas, how many carry the demand without spares, and the share of prefixes they keep."""
        served = self.gpu_grid.ideal
        replicas = self.replicas(served)
        kept = self.kept(served, replicas)
        if (kept < 1).any():
            served = self.gpu_grid.full(kept)
            replicas = self.replicas(served)
        return served, replicas, kept

    def rate(self, replicas: Array) -> Array:
        """Return the requests that come to a replica at the rate waits are planned for. [1/s]"""
        return self.demand.waits_at[0] * self.demand.peak * (1 + self.demand.headroom) / replicas

    def replicas(self, served: Served) -> Array:
        """Return how many replicas carry the demand, without spares."""
        return np.maximum(np.ceil(self.demand.in_flight(served.cycle) / self.gpu_grid.grid.requests - 1e-9), 1.0)

    def kept(self, served: Served, replicas: Array) -> Array:
        """Return the share of shared prefixes that stay in memory beside the requests that run on average."""
        rate = self.rate(replicas)
        room = np.maximum(self.gpu_grid.room - np.minimum(rate * served.cycle, self.gpu_grid.grid.requests), 0.0)
        return np.asarray(kept_prefixes(self.demand.workload, room=room, rate=rate))

    def times(self) -> tuple[Array, Array, Served]:
        """Return the percentiles of TTFT and TPOT of candidates that fit, means of the others, and the means. [s]"""
        (served, replicas, kept), gpu_grid = self.steady, self.gpu_grid
        ttft, tpot, mean_ttft, mean_tpot = (
            np.array(served.ttft), np.array(served.tpot), np.array(served.ttft), np.array(served.tpot)
        )  # fmt: skip
        for group, steps in zip(gpu_grid.grid.groups, gpu_grid.steps, strict=True):
            at: Places = np.nonzero(gpu_grid.fits[group.rows])  # type: ignore[assignment]
            if at[0].size and not self.demand.workload.offline:
                here = (group.rows[at[0]], at[1])
                ttft[here], tpot[here], mean_ttft[here], mean_tpot[here] = self.group_times(
                    group, steps, served, replicas[here], at, kept[here]
                )
        return ttft, tpot, replace(served, ttft=mean_ttft, tpot=mean_tpot)

    def group_times(
        self, group: AlikePrompts, steps: PromptSteps, served: Served, replicas: Array, at: Places, kept: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Return percentile and mean of TTFT and TPOT of those candidates that fit, one after the other. [s]"""
        home = self.gpu_grid
        c, rows = home.site.calibration, group.rows[at[0]]
        here = (rows, at[1])
        classes = home.classes(group, kept)
        ranks, slots = home.busy[here], home.slots[rows, 0]
        between = Between(steps=steps, row=at[0], batches=home.grid.batch[group.rows])
        burst, share = self.demand.waits_at[1], self.demand.limits.percentile
        rate, z = self.rate(replicas), NormalDist().inv_cdf(share)
        state = open_loop(
            between.at, classes, c, rate=rate / ranks, output=self.demand.output, most=slots / ranks
        )  # fmt: skip
        running = state.running * ranks
        swung = np.clip(running + z * np.sqrt(running * (1 + burst**2) / 2), 1e-4, slots) / ranks
        crowded = self.running(between, classes, swung).tpot
        requests = home.grid.requests[rows]
        most_rate = rate_at(requests, requests / served.cycle[rows], slots)
        if (evicted := kept < 1).any():  # what a full replica would do with as many prefixes in memory
            most_rate = np.where(evicted, slots / self.running(between, classes, slots / ranks).cycle, most_rate)
        memory = open_memory(running, slots, rate, most_rate, burst)
        ttft = first_token(state.mixture, state.served, c, state.load, memory, burst)
        tpot = token_time(state.served, state.mixture, self.demand.output, z, crowded, ttft.queue)
        return ttft.quantile(share), tpot, ttft.mean, state.served.tpot

    def running(self, between: Between, classes: tuple[PromptClass, ...], running: Array) -> Served:
        """Return the means when so many requests run on a rank."""
        c = self.gpu_grid.site.calibration
        batch = np.maximum(running, 1.0)
        load = Load(prompt=1.0, output=self.demand.output, batch=batch, offered=running, open=1.0)
        steps = between.at(batch)
        return serve_open(load, steps, c, mixture(classes, steps, c, load))


def rate_at(requests: Array, rates: Array, slots: Array) -> Array:
    """Return the rate of each row when all its slots run, on straight lines between its loads. [1/s]"""
    last = requests.shape[1] - 1
    upper = np.clip((requests < slots[:, None]).sum(axis=1), min(1, last), last)
    lower, one = np.maximum(upper - 1, 0), np.arange(len(slots))
    low, high = requests[one, lower], requests[one, upper]
    part = np.clip((slots - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    return (1 - part) * rates[one, lower] + part * rates[one, upper]
