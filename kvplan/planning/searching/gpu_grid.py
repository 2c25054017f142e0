"""Configurations installed on one GPU: what fits, and how fast it is when full, whatever requests come."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.perf.mixture import mixture
from kvplan.perf.prompts import PromptClass, PromptSteps, slim
from kvplan.perf.queueing import serve_open
from kvplan.perf.serving import Load, Served, serve
from kvplan.planning.demand import Demand
from kvplan.planning.prompts import prompt_classes
from kvplan.planning.searching.configurations import Configuration
from kvplan.planning.searching.fitting import rooms, run_by
from kvplan.planning.searching.grid import AlikePrompts, SearchGrid, grid_of
from kvplan.planning.searching.offloading import fetched, offloaded
from kvplan.planning.site import Limits, Site
from kvplan.specs.workload import Arrivals, Slo

Array = Any
#: what rates, limits and prices do not change
STEADY = ("most", "slots", "part", "requests", "batch", "fits", "busy", "steps", "ideal", "crowds")


@dataclass(frozen=True, kw_only=True)
class GpuGrid:
    """The configurations of a grid on one GPU; how many requests come, and how they come, does not matter here.

    Arrays are of (configuration, load).
    """

    demand: Demand  #: what is to be served
    site: Site  #: the GPU with its rates and prices
    grid: SearchGrid  #: configurations and loads
    room: Array  #: mean requests that fit one replica, as a column

    def under(self, demand: Demand, site: Site) -> "GpuGrid":
        """Return the same with other rates, limits and prices, and what does not depend on these as it was."""
        one = replace(self, demand=demand, site=site)
        for name in STEADY:
            one.__dict__[name] = getattr(self, name)
        return one

    def of(self, site: Site) -> bool:
        """Return whether a place has this GPU, as fast, under this engine."""
        mine = self.site
        return mine.gpu is site.gpu and mine.calibration == site.calibration and mine.engine == site.engine

    @cached_property
    def crowds(self) -> deque[Any]:
        """The replicas under what was asked last, the newest first: `Crowd`s, which know more of them."""
        return deque(maxlen=3)

    @cached_property
    def most(self) -> int:
        """Requests that the engine runs at once on a rank."""
        return self.demand.engine.limits(self.site.gpu)[0]

    @cached_property
    def slots(self) -> Array:
        """Requests that memory and engine let run at once, as a column."""
        return np.minimum(self.room, self.most * self.grid.ranks)

    @cached_property
    def part(self) -> Array:
        """How far each load is from the one before to itself, of 1: the first that is too large stops at the slots."""
        loads = self.grid.requests
        before = np.concatenate([np.zeros_like(loads[:, :1]), loads[:, :-1]], axis=1)
        over = (loads > self.slots) & (before < self.slots) & (before > 0)
        return np.where(over, (self.slots - before) / (loads - before), 1.0)

    @cached_property
    def requests(self) -> Array:
        """Requests in flight on one replica: the grid's, and all slots in place of the first load beyond them."""
        loads = self.grid.requests
        return np.where(self.part < 1, self.slots + 0.0 * loads, loads)

    @cached_property
    def batch(self) -> Array:
        """The same of one attention-data-parallel rank, at least 1."""
        return np.maximum(self.requests / self.grid.ranks, 1.0)

    @cached_property
    def fits(self) -> Array:
        """Whether memory, engine, node and weight format allow a candidate."""
        grid, gpu = self.grid, self.site.gpu
        inside = (self.requests >= grid.ranks) & (self.requests <= self.room)  # no room where a node is too small
        return inside & (self.batch <= self.most) & run_by(self.demand, grid.configurations, gpu)

    @cached_property
    def beside(self) -> Array:
        """Mean requests whose prefixes a tier beside the GPUs keeps, as a column."""
        return offloaded(self.demand, self.grid.configurations, self.site)

    @cached_property
    def fetching(self) -> Array:
        """Time until a prefix has come from its tier, as a column. [s]"""
        return fetched(self.grid.configurations, self.site)

    @cached_property
    def busy(self) -> Array:
        """Attention-data-parallel ranks that have a request."""
        return np.minimum(self.grid.ranks, self.requests)

    @cached_property
    def steps(self) -> tuple[PromptSteps, ...]:
        """Times of the steps of each group of rows. [s]"""
        return tuple(g.steps(self.site.calibration, self.grid.batch[g.rows]) for g in self.grid.groups)

    @cached_property
    def ideal(self) -> Served:
        """Means of full replicas from whose caches no prefix was evicted."""
        return self.full(np.ones(self.grid.requests.shape))

    def full(self, kept: Array) -> Served:
        """Return the means of replicas that run `requests` requests; those of an offline load always do."""
        whole = {f.name: np.zeros(self.grid.requests.shape) for f in fields(Served)}
        for group, steps in zip(self.grid.groups, self.steps, strict=True):
            served = self.group_full(group, steps, kept[group.rows])
            for name, values in whole.items():
                values[group.rows] = getattr(served, name)
        return Served(**whole)

    def group_full(self, group: AlikePrompts, steps: PromptSteps, kept: Array) -> Served:
        """Return the means of a group's replicas that run `requests` requests."""
        c, batch = self.site.calibration, self.batch[group.rows]
        opened = 0.0 if self.demand.workload.offline else 1.0
        load = Load(
            prompt=1.0, output=self.demand.output, batch=batch, offered=batch, open=opened,
            short=self.demand.workload.output.short,
        )  # fmt: skip
        steps = stopped(steps, self.part[group.rows])
        m = mixture(self.classes(group, kept), steps, c, load)
        return serve_open(load, steps, c, m) if opened else serve(load, slim(steps), c, m.times)

    def classes(self, group: AlikePrompts, kept: Array) -> tuple[PromptClass, ...]:
        """Return the classes of a group's prompts where some of the shared prefixes were evicted."""
        return prompt_classes(self.demand.workload, True, kept) if group.shared else group.classes


def stopped(s: PromptSteps, part: Array) -> PromptSteps:
    """Return steps of which some loads are only a `part` of the way from the one before. [s]"""
    if (part == 1).all():
        return s

    def between(times: Array) -> Array:
        if np.ndim(times) == 0 or times.shape[1] == 1:
            return times
        before = np.concatenate([times[:, :1], times[:, :-1]], axis=1)
        return np.where(part < 1, before + (times - before) * part, times)

    return replace(s, decode=between(s.decode), mixed=tuple(map(between, s.mixed)), alone=tuple(map(between, s.alone)))


#: what was installed last: questions about a model often differ in GPUs, loads, limits and prices alone
INSTALLED: deque[tuple[Any, list[GpuGrid]]] = deque(maxlen=8)
#: fewer configurations are not kept: those of a plan, which are soon worked out
MANY = 4


def gpu_grids(demand: Demand, shapes: Sequence[Configuration], sites: Sequence[Site], most: int) -> list[GpuGrid]:
    """Return configurations on every GPU, up to `most` requests on a rank."""
    asked = still(demand), tuple(shapes), most
    homes = next((homes for known, homes in tuple(INSTALLED) if known == asked), None)
    if homes is None:
        homes = []
        if len(shapes) >= MANY:
            INSTALLED.append((asked, homes))
    missing = [site for site in sites if not any(home.of(site) for home in homes)]
    homes += installed(demand, shapes, missing, most, {home.site.calibration.chunk: home.grid for home in homes})
    return [next(home for home in homes if home.of(site)).under(demand, site) for site in sites]


def still(demand: Demand) -> Demand:
    """Return a demand without what does not matter to a full replica: rates, limits, and what is kept free."""
    arrivals = Arrivals(queries_per_day=1.0, hours=(1.0,), burstiness=1.0, busiest_minute=1.0)
    limits = Slo(ttft=None, tpot=None, e2e=None, percentile=1.0)
    workload = replace(demand.workload, arrivals=arrivals, slo=limits)
    return replace(demand, workload=workload, peak=1.0, mean=1.0, limits=Limits(), headroom=0.0, spares=0)


def installed(
    demand: Demand, shapes: Sequence[Configuration], sites: Sequence[Site], most: int,
    grids: dict[float, SearchGrid],
) -> list[GpuGrid]:  # fmt: skip
    """Return configurations on GPUs, worked out but for the `grids` that are there, by the tokens of a step."""
    for chunk in dict.fromkeys(site.calibration.chunk for site in sites):
        if chunk not in grids:
            grids = {**grids, chunk: grid_of(demand, shapes, chunk, most)}
    held = rooms(demand, shapes, [site.gpu for site in sites])
    return [
        GpuGrid(demand=demand, site=site, grid=grids[site.calibration.chunk], room=room)
        for site, room in zip(sites, held, strict=True)
    ]
