"""Every way to serve a workload, at once: techniques x weights x replica shapes x loads on each GPU, as arrays.

A shape (technique, weights, parallelism) is turned into operators once, for a whole row of loads; a GPU then only
multiplies arrays. The time of a search grows linearly with its candidates.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.architectures.formats import FORMATS
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.budget import Deployment, Line, memory_budget
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, check_parallel, replica_shapes, weights
from kvplan.money.conversion import conversion
from kvplan.money.gpu_cost import GpuCost
from kvplan.perf.arrays import stack
from kvplan.perf.prompts import (
    PromptClass,
    PromptPasses,
    PromptSteps,
    mixture,
    prompt_attention,
    prompt_passes,
    prompt_steps,
    slim,
)
from kvplan.perf.queueing import first_token, open_loop, open_memory, serve_open, token_time
from kvplan.perf.serving import Load, Served, serve
from kvplan.planning.certainty import certainty
from kvplan.planning.demand import Demand
from kvplan.planning.prompts import kept_prefixes, prompt_classes
from kvplan.planning.replica import NODE
from kvplan.planning.site import Limits, Site
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.workload import Workload

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

    technique: str  #: in its one spelling
    form: str | None  #: weight format, None for the checkpoint's own
    parallel: Parallel  #: the ranks of one replica
    layout: KVLayout  #: what each layer keeps of a prompt and an answer
    cached: int  #: tokens of the prompt that are in the prefix cache

    @property
    def pair(self) -> Pair:
        """Its technique and its weight format."""
        return self.technique, self.form

    @property
    def name(self) -> str:
        """The configuration in a few words."""
        return f"{self.technique} {self.form or 'checkpoint'} {self.parallel}"


@dataclass(frozen=True, kw_only=True)
class AlikePrompts:
    """Configurations to which the prompts fall into the same classes: their rows in the grid, and operators."""

    rows: Array  #: of the grid
    classes: tuple[PromptClass, ...]  #: prompts of like length, and their shares
    #: whether they share prefixes
    shared: bool
    passes: PromptPasses  #: operators of a prompt of each class


@dataclass(frozen=True, kw_only=True)
class SearchGrid:
    """Shapes side by side: their operators and loads, as arrays of (shape, load)."""

    configurations: tuple[Configuration, ...]  #: one a row
    groups: tuple[AlikePrompts, ...]  #: rows by the classes of their prompts
    requests: Array  #: in flight on one replica
    #: requests of one attention-data-parallel rank, at least 1
    batch: Array
    usable: Array  #: whether every rank has a request


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All candidates on one GPU, as arrays of (configuration, load)."""

    site: Site  #: the GPU with its rates and prices
    workload: Workload  #: what is served, as this GPU serves it
    grid: SearchGrid  #: configurations and loads
    served: Served  #: times of a replica in steady state
    #: requests in flight on one replica
    requests: Array
    #: mean requests that fit one replica
    room: Array
    replicas: Array  #: that carry the demand, without spares
    #: GPUs of all replicas, spares included
    gpus: Array
    #: time of a GPU at work that a query takes [s]
    gpu_seconds: Array
    #: cost of a query, infinite without a price [USD]
    usd: Array
    #: times at the percentile, medians of the prediction [s]
    ttft: Array
    tpot: Array  #: [s/token]
    e2e: Array  #: [s]
    #: whether memory and engine allow it
    fits: Array
    #: probability that the latency limits are kept
    sure: Array
    #: share of the shared prefixes still in memory when they are asked for again
    kept: Array
    #: limit -> whether it is kept
    meets: Mapping[str, Array]

    @cached_property
    def feasible(self) -> Array:
        """Which candidates fit and keep every limit, as an array of (configuration, load)."""
        found = self.fits.copy()
        for met in self.meets.values():
            found &= met
        return found

    @cached_property
    def cached(self) -> Array:
        """Share of the input tokens that the prefix cache holds, evicted prefixes left out."""
        classes = self.workload.prefix_classes
        least = min(share for _, share in classes)
        whole = sum(weight * (share - least) for weight, share in classes)
        held = np.array([s.cached > 0 for s in self.grid.configurations])[:, None]
        return held * (least + whole * self.kept)

    def of(self, pairs: Collection[Pair]) -> Array:
        """Return which shapes, as a column, are of one of these techniques and weight formats."""
        return np.array([s.pair in pairs for s in self.grid.configurations], bool)[:, None]

    def under(self, demand: Demand) -> "Candidates":
        """Return the same candidates judged by the limits of another demand."""
        times = (self.ttft, self.tpot, self.e2e)
        sure = certainty(demand, self.site.calibration, self.ttft, self.tpot)
        return replace(self, sure=sure, meets=within(demand.limits, times, self.gpus, sure))


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
    held = np.array([s.cached > 0 for s in shapes])
    groups = (alike(demand, shapes, batch, chunk, np.flatnonzero(held == shared), shared) for shared in (True, False))
    return SearchGrid(
        configurations=tuple(shapes), groups=tuple(g for g in groups if g.rows.size), requests=requests, batch=batch,
        usable=requests >= ranks,
    )  # fmt: skip


def alike(
    demand: Demand, shapes: Sequence[Configuration], batch: Array, chunk: float, rows: Array, shared: bool
) -> AlikePrompts:
    """Return the rows of shapes whose prompts share a prefix, or of those whose prompts do not."""
    classes = prompt_classes(demand.workload, shared)
    known: dict[tuple[float, int], Any] = {}
    for i in rows:
        layout, tensor = shapes[i].layout, shapes[i].parallel.tensor
        if (layout.prefill_flops, tensor) not in known:
            known[layout.prefill_flops, tensor] = prompt_attention(demand.base, layout, tensor, classes)
    each = [
        prompt_passes(
            demand.model, demand.base, shapes[i].layout, weights(demand.model, shapes[i].form), shapes[i].parallel,
            batch=batch[i], classes=classes, output=demand.output, chunk=chunk,
        )
        for i in rows
    ]  # fmt: skip
    if not each:
        return AlikePrompts(rows=rows, classes=classes, shared=shared, passes=PromptPasses(
            sizes=(), decode=[], mixed=(), alone=(), attention=()))  # fmt: skip
    loads = batch.shape[1]

    def side_by_side(part: str) -> Any:
        return tuple(stack(lists, loads) for lists in zip(*(getattr(p, part) for p in each), strict=True))

    passes = PromptPasses(
        sizes=each[0].sizes, decode=stack([p.decode for p in each], loads), mixed=side_by_side("mixed"),
        alone=side_by_side("alone"), attention=side_by_side("attention"),
    )  # fmt: skip
    return AlikePrompts(rows=rows, classes=classes, shared=shared, passes=passes)


# -- one GPU --------------------------------------------------------------------------------------


def candidates(demand: Demand, grid: SearchGrid, site: Site) -> Candidates:
    """Return what every shape and load comes to on one GPU."""
    limits, requests = demand.limits, grid.requests
    room = np.array([capacity(demand, shape, site.gpu) for shape in grid.configurations], float)[:, None]
    ranks = np.array([s.parallel.data for s in grid.configurations], float)[:, None]
    each = np.array([s.parallel.gpus for s in grid.configurations], float)[:, None]
    most = demand.engine.limits(site.gpu)[0]
    small = (each <= min(site.gpu.gpus_per_node, NODE)) & (grid.batch <= most)
    fits = grid.usable & (requests <= room) & small & run_by(demand, grid, site.gpu)
    crowd = Crowd(demand=demand, site=site, requests=requests, batch=grid.batch, ranks=np.minimum(ranks, requests),
                  slots=np.minimum(room, most * ranks), room=room, fits=fits)  # fmt: skip
    ideal = np.ones(requests.shape)
    steps = [prompt_steps(group.passes, site.calibration, grid.batch[group.rows]) for group in grid.groups]
    served = merged(grid, [crowd.full(*pair, ideal) for pair in zip(grid.groups, steps, strict=True)])
    replicas = np.maximum(np.ceil(demand.in_flight(served.cycle) / requests - 1e-9), 1.0)
    kept = crowd.kept(served, replicas)
    if (kept < ideal).any():
        served = merged(grid, [crowd.full(*pair, kept) for pair in zip(grid.groups, steps, strict=True)])
        replicas = np.maximum(np.ceil(demand.in_flight(served.cycle) / requests - 1e-9), 1.0)
    gpus = (replicas + demand.spares) * each
    gpu_seconds = served.cycle / (served_ranks(grid, ranks) * grid.batch) * each
    ttft, tpot, means = (np.array(served.ttft), np.array(served.tpot), [np.array(served.ttft), np.array(served.tpot)])
    for group, own in zip(grid.groups, steps, strict=True):
        at: tuple[Array, Array] = np.nonzero(fits[group.rows])  # type: ignore[assignment]
        here = (group.rows[at[0]], at[1])
        if here[0].size and not demand.workload.offline:
            found = crowd.times(group, own, served, replicas, at, kept)
            ttft[here], tpot[here], means[0][here], means[1][here] = found
    served = replace(served, ttft=means[0], tpot=means[1])
    e2e = ttft + tpot * demand.workload.output.quantile(limits.percentile)
    sure = certainty(demand, site.calibration, ttft, tpot)
    return Candidates(
        site=site, workload=demand.workload, grid=grid, served=served, requests=requests, room=room, replicas=replicas,
        gpus=gpus, gpu_seconds=gpu_seconds,
        usd=usd_per_query(demand, site.cost, gpus, gpu_seconds) + converting(demand, grid, site),
        ttft=ttft, tpot=tpot, e2e=e2e,
        fits=fits, sure=sure, kept=kept, meets=within(limits, (ttft, tpot, e2e), gpus, sure),
    )  # fmt: skip


def merged(grid: SearchGrid, found: Sequence[Served]) -> Served:
    """Return the times of all groups of rows as one."""
    whole = {f.name: np.zeros(grid.requests.shape) for f in fields(Served)}
    for group, served in zip(grid.groups, found, strict=True):
        for name, values in whole.items():
            values[group.rows] = getattr(served, name)
    return Served(**whole)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The replicas of one GPU under the demand's own load: as many requests come to each as the fleet gets a replica.

    Arrays are of (shape, load); `ranks` counts the attention-data-parallel ranks that have a request.
    """

    demand: Demand  #: what is to be served
    site: Site  #: the GPU with its rates and prices
    requests: Array  #: in flight on one replica
    batch: Array  #: sequences in one step of a rank
    ranks: Array  #: attention-data-parallel ranks that have a request
    #: requests that memory and engine let run at once
    slots: Array
    #: mean requests that fit one replica
    room: Array
    fits: Array  #: whether memory and engine allow it

    def kept(self, served: Served, replicas: Array) -> Array:
        """Return the share of shared prefixes that stay in memory beside the requests that run on average."""
        demand = self.demand
        rate = demand.waits_at[0] * demand.peak * (1 + demand.headroom) / replicas
        room = np.maximum(self.room - np.minimum(rate * served.cycle, self.requests), 0.0)
        return np.asarray(kept_prefixes(demand.workload, room=room, rate=rate))

    def full(self, group: AlikePrompts, steps: PromptSteps, kept: Array) -> Served:
        """Return the means of replicas that run `requests` requests; those of an offline load always do."""
        classes = self.classes(group, kept[group.rows])
        c, batch = self.site.calibration, self.batch[group.rows]
        opened = 0.0 if self.demand.workload.offline else 1.0
        load = Load(prompt=1.0, output=self.demand.output, batch=batch, offered=batch, open=opened)
        m = mixture(classes, steps, c, load)
        if opened:
            return serve_open(load, steps, c, m)
        return serve(load, slim(steps), c, m.times)

    def classes(self, group: AlikePrompts, kept: Array) -> tuple[PromptClass, ...]:
        """Return the classes of a group's prompts where some of the shared prefixes were evicted."""
        return prompt_classes(self.demand.workload, True, kept) if group.shared else group.classes

    def times(
        self,
        group: AlikePrompts,
        steps: PromptSteps,
        served: Served,
        replicas: Array,
        at: tuple[Array, Array],
        kept: Array,
    ) -> tuple[Array, Array, Array, Array]:
        """Return P-th percentile and mean of TTFT and TPOT of those candidates that fit, one after the other. [s]"""
        demand, c, rows = self.demand, self.site.calibration, group.rows[at[0]]
        here = (rows, at[1])
        classes = self.classes(group, kept[here])
        ranks, slots = self.ranks[here], self.slots[rows, 0]
        between = Between(steps=steps, row=at[0], batches=self.batch[rows])
        (surge, burst), share = demand.waits_at, demand.limits.percentile
        rate = surge * demand.peak * (1 + demand.headroom) / replicas[here]
        z = NormalDist().inv_cdf(share)
        state = open_loop(
            between.at, classes, c, rate=rate / ranks, output=demand.output, most=slots / ranks
        )  # fmt: skip
        running = state.running * ranks
        swung = np.clip(running + z * np.sqrt(running * (1 + burst**2) / 2), 1e-4, slots) / ranks
        crowded = self.running(between, classes, swung).tpot
        most_rate = rate_at(self.requests[rows], self.requests[rows] / served.cycle[rows], slots)
        if (evicted := kept[here] < 1).any():  # what a full replica would do with as many prefixes in memory
            most_rate = np.where(evicted, slots / self.running(between, classes, slots / ranks).cycle, most_rate)
        memory = open_memory(running, slots, rate, most_rate, burst)
        ttft = first_token(state.mixture, state.served, c, state.load, memory, burst)
        tpot = token_time(state.served, state.mixture, demand.output, z, crowded, ttft.queue)
        return ttft.quantile(share), tpot, ttft.mean, state.served.tpot

    def running(self, between: "Between", classes: tuple[PromptClass, ...], running: Array) -> Served:
        """Return the means when so many requests run on a rank."""
        c = self.site.calibration
        batch = np.maximum(running, 1.0)
        load = Load(prompt=1.0, output=self.demand.output, batch=batch, offered=running, open=1.0)
        steps = between.at(batch)
        return serve_open(load, steps, c, mixture(classes, steps, c, load))


@dataclass(frozen=True, kw_only=True)
class Between:
    """Steps at any batch, on straight lines between those of the grid's loads."""

    steps: PromptSteps  #: those of the grid's loads
    #: of each candidate, its row in `steps` and the batches that row knows
    row: Array
    batches: Array  #: the loads they stand at

    def at(self, batch: Array) -> PromptSteps:
        """Return the steps at a batch of each candidate."""
        last = self.batches.shape[1] - 1
        upper = np.clip((self.batches < batch[:, None]).sum(axis=1), 1, last) if last else np.zeros(len(batch), int)
        lower = np.maximum(upper - 1, 0)
        one = np.arange(len(batch))
        low, high = self.batches[one, lower], self.batches[one, upper]
        part = (batch - low) / np.where(high > low, high - low, 1.0)

        def mid(times: Array) -> Array:
            if np.ndim(times) == 0:
                return times
            wide = times if times.shape[1] > 1 else None
            if wide is None:
                return times[self.row, 0]
            return (1 - part) * wide[self.row, lower] + part * wide[self.row, upper]

        s = self.steps
        return PromptSteps(
            sizes=s.sizes, decode=mid(s.decode), mixed=tuple(map(mid, s.mixed)), alone=tuple(map(mid, s.alone)),
            attention=tuple(map(mid, s.attention)),
        )  # fmt: skip


def rate_at(requests: Array, rates: Array, slots: Array) -> Array:
    """Return the rate of each row when all its slots run, on straight lines between its loads. [1/s]"""
    last = requests.shape[1] - 1
    upper = np.clip((requests < slots[:, None]).sum(axis=1), min(1, last), last)
    lower, one = np.maximum(upper - 1, 0), np.arange(len(slots))
    low, high = requests[one, lower], requests[one, upper]
    part = np.clip((slots - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    return (1 - part) * rates[one, lower] + part * rates[one, upper]


def run_by(demand: Demand, grid: SearchGrid, gpu: Gpu) -> Array:
    """Return which shapes, as a column, have weights and a cache that a GPU may be planned with."""
    able = {s.technique: not spelling.runs_on(s.technique, gpu) for s in grid.configurations}
    weights_run = (not (demand.native and s.form) or FORMATS[s.form].native(gpu) for s in grid.configurations)
    return np.array(
        [runs and able[s.technique] for runs, s in zip(weights_run, grid.configurations, strict=True)], bool
    )[:, None]


def within(limits: Limits, times: tuple[Array, Array, Array], gpus: Array, sure: Array) -> dict[str, Array]:
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


def conversion_of(demand: Demand, technique: str, site: Site) -> Line | None:
    """Return what converting the model takes as a line of a bill, None where nothing is to be converted or no price."""
    tokens = spelling.heals(technique)
    if site.cost is None or not tokens:
        return None
    return conversion(demand.model.active_parameters, tokens, site.gpu.rate(16), site.cost)


def converting(demand: Demand, grid: SearchGrid, site: Site) -> Array:
    """Return what the conversion of each shape's model adds to a query, as a column. [USD]"""
    lines = (conversion_of(demand, shape.technique, site) for shape in grid.configurations)
    return np.array([line.amount / demand.mean if line else 0.0 for line in lines])[:, None]


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
