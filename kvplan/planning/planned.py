"""One replica of a plan under its part of the load, and how far the plan's percentile of TTFT can be trusted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.perf.mixture import mixture
from kvplan.perf.queueing import serve_open
from kvplan.perf.serving import Load
from kvplan.planning.demand import Demand
from kvplan.planning.percentiles import jump, near_full, sides
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.searching.crowd import Crowd
from kvplan.planning.searching.gpu_grid import GpuGrid, gpu_grids
from kvplan.planning.searching.grid import Between, most_requests
from kvplan.planning.site import Site

Array = Any


@dataclass(frozen=True, kw_only=True)
class PlannedReplica:
    """One replica of a plan under its part of the load, as the search had it."""

    demand: Demand  #: what is to be served
    plan: Plan  #: how
    site: Site  #: the plan's GPU

    @cached_property
    def home(self) -> GpuGrid:
        """Its configuration at all loads."""
        shape = configuration_of(self.demand, self.plan)
        return gpu_grids(self.demand, [shape], [self.site], most_requests(self.demand.engine, [self.site]))[0]

    @cached_property
    def crowd(self) -> Crowd:
        """The replica under the load."""
        return Crowd(demand=self.demand, gpu_grid=self.home)

    @cached_property
    def column(self) -> int:
        """The first load of the grid with as many requests in flight."""
        row = self.home.requests[0]
        return min(int(np.searchsorted(row, self.plan.in_flight)), len(row) - 1)

    @cached_property
    def serving(self) -> Array:
        """Replicas of the plan, spares left out, as an array."""
        return np.array([float(self.plan.replicas - self.demand.spares)])

    def ttft(self, share: float) -> float:
        """Return the TTFT that a share of the requests keep. [s]"""
        limits = replace(self.demand.limits, percentile=share)
        crowd = replace(self.crowd, demand=replace(self.demand, limits=limits))
        return float(crowd.at((np.array([0]), np.array([self.column])), self.serving)[0][0])

    @property
    def fullness(self) -> float:
        """Its requests a second over the most that it can serve, all slots taken."""
        grid, c, group = self.home.grid, self.site.calibration, self.home.grid.groups[0]
        ranks = grid.ranks[:, 0]
        batch = np.maximum(self.home.slots[:, 0] / ranks, 1.0)
        steps = Between(steps=self.home.steps[0], row=np.array([0]), loads=grid.requests[0], ranks=ranks).at(batch)
        load = Load(
            prompt=1.0, output=self.demand.output, batch=batch, offered=batch, open=1.0,
            short=self.demand.workload.output.short,
        )  # fmt: skip
        m = mixture(self.home.classes(group, self.crowd.steady[2][:, self.column]), steps, c, load)
        most = batch * ranks / serve_open(load, steps, c, m).cycle
        return float((self.crowd.rate(self.serving) / most)[0])

    def notes(self) -> Iterator[str]:
        """Yield what to know of its percentile of TTFT."""
        share = self.demand.limits.percentile
        low, high = (self.ttft(side) for side in sides(share))
        yield from filter(None, (jump(share, low, high), near_full(self.fullness)))


def trust(demand: Demand, plan: Plan, site: Site) -> tuple[str, ...]:
    """Return what to know of a plan's percentile of TTFT, nothing where nobody waits."""
    return () if demand.workload.offline else tuple(PlannedReplica(demand=demand, plan=plan, site=site).notes())
