"""Every way to serve a workload, at once: techniques x weights x replica shapes x loads on each GPU, as arrays.

A shape (technique, weights, parallelism) is turned into operators once, for a whole row of loads; a GPU then only
multiplies arrays. The time of a search grows linearly with its candidates.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.architectures.formats import FORMATS
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.budget import Deployment, memory_budget
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, check_parallel, replica_shapes, weights
from kvplan.money.gpu_cost import GpuCost
from kvplan.perf.arrays import stack
from kvplan.perf.serving import Load, Passes, Served, passes, serve, steps
from kvplan.planning.certainty import certainty, expected
from kvplan.planning.demand import Demand
from kvplan.planning.percentiles import percentiles
from kvplan.planning.replica import NODE
from kvplan.planning.site import Limits, Site
from kvplan.specs.hardware import Engine, Gpu

Array = Any
#: a technique and a weight format, None for the checkpoint's own
Pair = tuple[str, str | None]
#: requests in flight on one replica that are tried: 1, 2, 3, 4, 6, 8 ... up to the engine's limit
LOADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
#: a prompt's longest part that a prefix cache may hold
MOST_CACHED = 0.98
#: a quantile of prompts that a single sequence must fit at
LONGEST = 0.99
#: the limit that both latency limits are kept with enough probability
CERTAINTY = "certainty"
#: and that of the number of GPUs
GPUS = "GPUs"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A technique in a weight format on one replica shape."""

    technique: str
    form: str | None
    parallel: Parallel
    layout: KVLayout
    cached: int

    @property
    def pair(self) -> Pair:
        """Its technique and its weight format."""
        return self.technique, self.form

    @property
    def name(self) -> str:
        """The configuration in a few words."""
        return f"{self.technique} {self.form or 'checkpoint'} {self.parallel}"


@dataclass(frozen=True, kw_only=True)
class SearchGrid:
    """Shapes side by side: their operators and loads, as arrays of (shape, load)."""

    configurations: tuple[Configuration, ...]
    load: Load
    passes: Passes
    requests: Array
    usable: Array


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All candidates on one GPU, as arrays of (configuration, load)."""

    site: Site
    grid: SearchGrid
    served: Served
    #: requests in flight on one replica
    requests: Array
    #: mean requests that fit one replica
    room: Array
    replicas: Array
    #: GPUs of all replicas, spares included
    gpus: Array
    #: time of a GPU at work that a query takes [s]
    gpu_seconds: Array
    #: cost of a query, infinite without a price [USD]
    usd: Array
    #: times at the percentile, medians of the prediction [s]
    ttft: Array
    tpot: Array
    e2e: Array
    #: whether memory and engine allow it
    fits: Array
    #: probability that the latency limits are kept
    sure: Array
    #: limit -> whether it is kept
    meets: Mapping[str, Array]

    @cached_property
    def feasible(self) -> Array:
        """Which candidates fit and keep every limit, as an array of (configuration, load)."""
        found = self.fits.copy()
        for met in self.meets.values():
            found &= met
        return found

    def of(self, pairs: Collection[Pair]) -> Array:
        """Return which shapes, as a column, are of one of these techniques and weight formats."""
        return np.array([s.pair in pairs for s in self.grid.configurations], bool)[:, None]

    def under(self, demand: Demand) -> "Candidates":
        """Return the same candidates judged by the limits of another demand."""
        times = (self.ttft, self.tpot, self.e2e)
        sure = certainty(demand, self.site.calibration, self.ttft, self.tpot)
        return replace(self, sure=sure, meets=kept(demand.limits, times, self.gpus, sure))


def configurations(
    demand: Demand, wanted: Sequence[str], node: int, left_out: Collection[Pair] = ()
) -> tuple[list[Configuration], dict[str, str]]:
    """Return every shape to try, and why some techniques cannot be applied at all."""
    found, refused = [], {}
    largest = Gpu(
        name="", title="", memory=0.0, visible_memory=0.0, bandwidth=0.0, fp16=0.0, link=0.0, gpus_per_node=node
    )
    for name in wanted:
        try:
            layout = spelling.apply(name, demand.base).with_prompt(demand.prompt)
        except Incompatible as refusal:
            refused[name] = str(refusal).removeprefix(f"{name}: ")
            continue
        cached = cached_tokens(demand, layout)
        for parallel in replica_shapes(demand.model, layout, largest):
            if parallel.pipeline > 1 or check_parallel(demand.model, parallel):
                continue
            found += [
                Configuration(technique=name, form=form, parallel=parallel, layout=layout, cached=cached)
                for form in demand.forms
                if (name, form) not in left_out
            ]
    return found, refused


def cached_tokens(demand: Demand, layout: KVLayout) -> int:
    """Return how many tokens of the mean prompt a prefix cache already holds."""
    shared = demand.prefix_cache and layout.shared(demand.prompt)
    return int(demand.prompt * min(demand.workload.prefix_share, MOST_CACHED)) if shared else 0


def grid_of(demand: Demand, shapes: Sequence[Configuration], chunk: float, most: int) -> SearchGrid:
    """Return shapes as arrays over the loads one replica may carry."""
    ranks = np.array([s.parallel.data for s in shapes], float)[:, None]
    requests = np.array([[n for n in LOADS if n <= most * ranks.max()] for _ in shapes], float)
    batch = np.maximum(requests / ranks, 1.0)
    each = []
    for shape, row in zip(shapes, batch, strict=True):
        held = weights(demand.model, shape.form)
        each.append(
            passes(
                demand.model, demand.base, shape.layout, held, shape.parallel, batch=row, prompt=demand.prompt,
                output=demand.output, chunk=chunk, cached=shape.cached,
            )
        )  # fmt: skip
    stacked = {f: stack([getattr(p, f) for p in each], batch.shape[1]) for f in Passes.__dataclass_fields__}
    fresh = np.array([demand.prompt - s.cached for s in shapes], float)[:, None] * np.ones_like(batch)
    load = Load(
        prompt=fresh, output=np.full_like(batch, demand.output), batch=batch, offered=batch, waves=np.zeros_like(batch),
        chunks=np.ceil(fresh / chunk),
    )  # fmt: skip
    return SearchGrid(
        configurations=tuple(shapes), load=load, passes=Passes(**stacked), requests=requests, usable=requests >= ranks
    )


# -- one GPU --------------------------------------------------------------------------------------


def candidates(demand: Demand, grid: SearchGrid, site: Site) -> Candidates:
    """Return what every shape and load comes to on one GPU."""
    c, limits, requests = site.calibration, demand.limits, grid.requests
    served = serve(grid.load, steps(grid.passes, c, grid.load.batch), c)
    served = replace(served, cycle=served.cycle * expected(c.tpot))  # money rests on the middle of the error too
    room = np.array([capacity(demand, shape, site.gpu) for shape in grid.configurations], float)[:, None]
    ranks = np.array([s.parallel.data for s in grid.configurations], float)[:, None]
    each = np.array([s.parallel.gpus for s in grid.configurations], float)[:, None]
    flight = demand.in_flight(served.cycle)
    replicas = np.maximum(np.ceil(flight / requests - 1e-9), 1.0)
    gpus = (replicas + demand.spares) * each
    gpu_seconds = served.cycle / (served_ranks(grid, ranks) * grid.load.batch) * each
    lengths = demand.workload.input
    longer = max(lengths.quantile(limits.percentile) / lengths.mean, 1.0)
    ttft, tpot = percentiles(served, percentile=limits.percentile, longer=longer, output=demand.output)
    ttft, tpot = ttft * expected(c.ttft), tpot * expected(c.tpot)
    e2e = ttft + tpot * demand.workload.output.quantile(limits.percentile)
    small = (each <= min(site.gpu.gpus_per_node, NODE)) & (grid.load.batch <= demand.engine.limits(site.gpu)[0])
    sure = certainty(demand, c, ttft, tpot)
    return Candidates(
        site=site, grid=grid, served=served, requests=requests, room=room, replicas=replicas, gpus=gpus,
        gpu_seconds=gpu_seconds, usd=usd_per_query(demand, site.cost, gpus, gpu_seconds), ttft=ttft, tpot=tpot, e2e=e2e,
        fits=grid.usable & (requests <= room) & small & run_by(demand, grid, site.gpu), sure=sure,
        meets=kept(limits, (ttft, tpot, e2e), gpus, sure),
    )  # fmt: skip


def run_by(demand: Demand, grid: SearchGrid, gpu: Gpu) -> Array:
    """Return which shapes, as a column, have weights that a GPU may be planned with."""
    named = (shape.form for shape in grid.configurations)
    return np.array([not (demand.native and form) or FORMATS[form].native(gpu) for form in named], bool)[:, None]


def kept(limits: Limits, times: tuple[Array, Array, Array], gpus: Array, sure: Array) -> dict[str, Array]:
    """Return which candidates keep each limit, by its name; `times` are TTFT, TPOT and end-to-end."""
    ttft, tpot, e2e = times
    bounded = (
        ("TTFT", ttft, limits.ttft), ("TPOT", tpot, limits.tpot), ("end-to-end", e2e, limits.e2e),
        (GPUS, gpus, limits.gpus),
    )  # fmt: skip
    found = {name: np.asarray(value <= (np.inf if limit is None else limit)) for name, value, limit in bounded}
    return {**found, CERTAINTY: np.asarray(sure >= limits.confidence)}


def served_ranks(grid: SearchGrid, ranks: Array) -> Array:
    """Return how many attention-data-parallel ranks have a request of their own to serve."""
    return np.minimum(ranks, grid.requests)


def capacity(demand: Demand, shape: Configuration, gpu: Gpu) -> int:
    """Return how many mean requests a replica holds, 0 when the longest ones do not fit."""
    if shape.parallel.gpus > min(gpu.gpus_per_node, NODE):
        return 0
    where = Deployment(engine=demand.engine, gpu=gpu, parallel=shape.parallel, weights=shape.form, compacts=True)
    mean = max(2, int(demand.prompt + demand.output))
    longest = int(demand.workload.input.quantile(LONGEST) + demand.workload.output.quantile(LONGEST))
    budget = memory_budget(demand.model, shape.layout, where, mean)
    tensor = shape.parallel.tensor
    layout = shape.layout.with_prompt(int(demand.workload.input.quantile(LONGEST)))
    room = budget if layout is shape.layout else memory_budget(demand.model, layout, where, longest)
    chunk = demand.engine.limits(gpu)[1]
    peak = (layout.peak(longest, chunk) - layout.stored(longest)) / tensor
    if not room.sequences(longest, peak):
        return 0
    mean_peak = (shape.layout.peak(mean, chunk) - shape.layout.stored(mean)) / tensor
    return budget.sequences(mean, mean_peak)


def usd_per_query(demand: Demand, cost: GpuCost | None, gpus: Array, gpu_seconds: Array) -> Array:
    """Return what a query costs: GPUs that are there, and what those at work draw in addition. [USD]"""
    if cost is None:
        return np.full(np.shape(gpus), np.inf)
    waiting, working = cost.rate(None), cost.rate("")
    return cost.whole(gpus) * waiting / demand.mean + gpu_seconds * (working - waiting)


def most_requests(engine: Engine, sites: Sequence[Site]) -> int:
    """Return the most requests an engine runs at once on any of the GPUs."""
    return max((engine.limits(site.gpu)[0] for site in sites), default=1)


def search(
    demand: Demand, wanted: Sequence[str], sites: Sequence[Site], left_out: Collection[Pair] = ()
) -> tuple[list[Candidates], dict[str, str]]:
    """Return every candidate on every GPU, some pairs left out, and why some techniques could not be tried."""
    node = max((min(site.gpu.gpus_per_node, NODE) for site in sites), default=1)
    shapes, refused = configurations(demand, wanted, node, left_out)
    if not shapes or not sites:
        return [], refused
    grid = grid_of(demand, shapes, sites[0].calibration.chunk, most_requests(demand.engine, sites))
    return [candidates(demand, grid, site) for site in sites], refused
