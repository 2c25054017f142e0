"""Every way to serve a workload, at once: techniques x weights x replica shapes x loads on each GPU, as arrays.

What configurations share is worked out once for all GPUs (`grid`, `fitting`); a GPU then only multiplies arrays
(`crowd`). The time of a search grows linearly with its candidates.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.money.gpu_cost import GpuCost
from kvplan.perf.serving import Served
from kvplan.planning.demand import Demand
from kvplan.planning.replica import NODE
from kvplan.planning.searching.certainty import behind, certainty, chance
from kvplan.planning.searching.configurations import Pair, configurations
from kvplan.planning.searching.converting import converting
from kvplan.planning.searching.crowd import Crowd, Places, crowd_of
from kvplan.planning.searching.gpu_grid import GpuGrid, gpu_grids
from kvplan.planning.searching.grid import SearchGrid, most_requests
from kvplan.planning.searching.offloading import kept_cost
from kvplan.planning.searching.sizing import sized
from kvplan.planning.site import EVEN, Limits, Site
from kvplan.specs.workload import Workload

Array = Any
#: hears the share of the work that is done, and what is next
Progress = Callable[[float, str], object]
#: the limit that both latency limits are kept with enough probability
CERTAINTY = "certainty"
#: and that of the number of GPUs
GPUS = "GPUs"
#: what rounding leaves of a whole number of replicas, so little that their odds are not lower for it
ROUNDED = 1e-9


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All candidates on one GPU, as arrays of (configuration, load)."""

    crowd: Crowd  #: the configurations on the GPU, under the demand's load
    workload: Workload  #: what is served, as this GPU serves it
    served: Served  #: times of a replica in steady state
    requests: Array  #: requests in flight that one replica may have
    running: Array  #: requests that one runs at once, as many as the load asks for
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
    #: probability that the latency limits are kept, at most that replicas keep up
    sure: Array
    #: share of the shared prefixes still in memory when they are asked for again
    kept: Array
    #: limit -> whether it is kept
    meets: Mapping[str, Array]

    @property
    def gpu_grid(self) -> GpuGrid:
        """The configurations on the GPU, and what each holds."""
        return self.crowd.gpu_grid

    @property
    def site(self) -> Site:
        """The GPU with its rates and prices."""
        return self.gpu_grid.site

    @property
    def grid(self) -> SearchGrid:
        """Configurations and loads."""
        return self.gpu_grid.grid

    @property
    def room(self) -> Array:
        """Mean requests that fit one replica, as a column."""
        return self.gpu_grid.room

    @property
    def fits(self) -> Array:
        """Whether memory and engine allow it."""
        return self.gpu_grid.fits

    @cached_property
    def feasible(self) -> Array:
        """Which candidates fit and keep every limit, as an array of (configuration, load)."""
        both = self.fits.copy()
        for met in self.meets.values():
            both &= met
        return both

    @cached_property
    def cached(self) -> Array:
        """Share of the input tokens that the prefix cache holds, evicted prefixes left out."""
        classes = self.workload.prefix_classes
        least = min(share for _, share in classes)
        whole = sum(weight * (share - least) for weight, share in classes)
        held = np.array([s.cached > 0 for s in self.grid.configurations])[:, None]
        return held * (least + whole * self.kept)

    def of(self, pairs: Collection[Pair]) -> Array:
        """Return which configurations, as a column, are of one of these techniques and weight formats."""
        return of_pairs(self.grid, pairs)

    def undrafted(self) -> "Candidates":
        """Return the same candidates of which those that decode speculatively are not feasible."""
        plain = np.array([not s.drafts for s in self.grid.configurations], bool)[:, None]
        return replace(self, meets={**self.meets, "no drafts": plain & np.ones(self.requests.shape, bool)})

    def under(self, demand: Demand) -> "Candidates":
        """Return the same candidates, with the replicas they have, judged by the limits of another demand.

        An offline load has as many as keep up as surely as is asked there.
        """
        if demand.workload.offline:
            return limited(demand, self.crowd)
        times = (self.ttft, self.tpot, self.e2e)
        sure = certain(demand, self.crowd, self.replicas, self.ttft, self.tpot)
        return replace(self, sure=sure, meets=within(demand.limits, times, self.gpus, sure))


def candidates(demand: Demand, gpu_grid: GpuGrid) -> Candidates:
    """Return what the configurations on one GPU come to under the demand's load and limits."""
    return limited(demand, crowd_of(demand, gpu_grid))


def limited(demand: Demand, crowd: Crowd) -> Candidates:
    """Return what the configurations on one GPU come to under limits of time, GPUs and odds.

    The demand has the crowd's load; times that were worked out for other limits hold, the percentile being the same.
    """
    if demand.limits.percentile != crowd.demand.limits.percentile:
        crowd = Crowd(demand=demand, gpu_grid=crowd.gpu_grid)
    gpu_grid, (_, replicas, kept) = crowd.gpu_grid, crowd.steady
    if demand.workload.offline:  # as many as keep up as surely as is asked: those that it fills may fall behind
        slower = behind(max(demand.limits.confidence, EVEN), gpu_grid.site.calibration.tpot)
        replicas = np.maximum(replicas, np.ceil(crowd.filled(np.ones_like(replicas)) * slower - ROUNDED))
    ttft, tpot, served = crowd.times
    one = judged(
        demand, crowd, served=replace(served, busy=crowd.full.busy), requests=gpu_grid.requests,
        running=crowd.full.running, gpu_seconds=crowd.full.gpu_seconds, replicas=replicas, ttft=ttft, tpot=tpot,
        sure=certain(demand, crowd, replicas, ttft, tpot), kept=kept,
    )  # fmt: skip
    return one if demand.workload.offline else between_loads(demand, crowd, one)


def certain(
    demand: Demand, crowd: Crowd, replicas: Array, ttft: Array, tpot: Array, rows: Array | None = None
) -> Array:  # fmt: skip
    """Return the probability that the limits of time are kept, at most that replicas keep up.

    Of all configurations, or of some `rows` one by one. Where steps take longer than predicted by what a replica has
    left of its load, it falls behind, and waits grow without end.
    """
    c = crowd.gpu_grid.site.calibration
    return np.minimum(certainty(demand, c, ttft, tpot), chance(crowd.filled(replicas, rows), 1.0, c.tpot))


def judged(
    demand: Demand, crowd: Crowd, *, served: Served, replicas: Array, gpu_seconds: Array, ttft: Array, tpot: Array,
    sure: Array, **others: Array,
) -> Candidates:  # fmt: skip
    """Return candidates with the GPUs, the cost and the limits that follow from their replicas, times and odds."""
    gpus = (replicas + demand.spares) * crowd.gpu_grid.grid.each
    e2e = ttft + tpot * demand.workload.output.quantile(demand.limits.percentile)
    return Candidates(
        crowd=crowd, workload=demand.workload, served=served, replicas=replicas, gpus=gpus, gpu_seconds=gpu_seconds,
        usd=usd_of(demand, crowd.gpu_grid, gpus, gpu_seconds), ttft=ttft, tpot=tpot, e2e=e2e, sure=sure,
        meets=within(demand.limits, (ttft, tpot, e2e), gpus, sure), **others,
    )  # fmt: skip


def usd_of(demand: Demand, home: GpuGrid, gpus: Array, gpu_seconds: Array) -> Array:
    """Return what a query costs: GPUs, a model that is converted, and the tiers that prefixes are kept on. [USD]"""
    usd = usd_per_query(demand, home.site.cost, gpus, gpu_seconds) + converting(demand, home.grid, home.site)
    return usd + kept_cost(demand, home.grid.configurations, gpus, home.site)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What candidates that fit reach, one after the other: under their part of the load, then with hardly any load."""

    ttft: Array  #: at the percentile [s]
    tpot: Array  #: at the percentile [s]
    e2e: Array  #: at the percentile [s]
    sure: Array  #: probability that the limits of time are kept


def reachable(one: Candidates, demand: Demand, fits: Array) -> Reach:
    """Return what candidates reach, however many replicas there are: with enough of them each runs a request alone."""
    known = Reach(ttft=one.ttft[fits], tpot=one.tpot[fits], e2e=one.e2e[fits], sure=one.sure[fits])
    if demand.workload.offline:
        return known
    ttft, tpot = one.crowd.lone(np.flatnonzero(fits.any(axis=1)))
    e2e = ttft + tpot * demand.workload.output.quantile(demand.limits.percentile)
    sure = certainty(demand, one.site.calibration, ttft, tpot)
    alone = Reach(ttft=ttft, tpot=tpot, e2e=e2e, sure=sure)
    return Reach(**{f.name: np.concatenate([getattr(known, f.name), getattr(alone, f.name)]) for f in fields(Reach)})


def rated(candidates: Iterable[Candidates], guesses: bool) -> list[Candidates]:
    """Return those on GPUs that may be recommended: where servers were measured, or on any with `guesses`."""
    return [one for one in candidates if guesses or one.site.rated]


def of_pairs(grid: SearchGrid, pairs: Collection[Pair]) -> Array:
    """Return which configurations, as a column, are of one of these techniques and weight formats."""
    found = np.zeros((len(grid.configurations), 1), bool)
    for pair in pairs:
        if pair in grid.of_pair:
            found |= grid.of_pair[pair]
    return found


def between_loads(demand: Demand, crowd: Crowd, one: Candidates) -> Candidates:
    """Return candidates some of which, that broke the limits, have as many more replicas as keep them."""
    keeps = one.fits.copy()
    for name, met in one.meets.items():
        keeps &= met | (name == GPUS)

    def quick(rows: Array, ttft: Array, tpot: Array, replicas: Array) -> Array:
        return keeps_times(demand, crowd, rows, replicas, ttft, tpot)

    found = sized(crowd, keeps, quick, fewest_gpus(demand, one))
    if found is None:
        return one
    at, work = found.at, crowd.at_work(found.at[0], found.replicas)
    served = replace(
        one.served, ttft=placed(one.served.ttft, at, found.mean_ttft),
        tpot=placed(one.served.tpot, at, found.mean_tpot), busy=placed(one.served.busy, at, work.busy),
    )  # fmt: skip
    return judged(
        demand, crowd, served=served, requests=placed(one.requests, at, work.running),
        running=placed(one.running, at, work.running), replicas=placed(one.replicas, at, found.replicas),
        gpu_seconds=placed(one.gpu_seconds, at, work.gpu_seconds), ttft=placed(one.ttft, at, found.ttft),
        tpot=placed(one.tpot, at, found.tpot), kept=placed(one.kept, at, found.kept),
        sure=placed(one.sure, at, certain(demand, crowd, found.replicas, found.ttft, found.tpot, at[0])),
    )  # fmt: skip


def keeps_times(demand: Demand, crowd: Crowd, rows: Array, replicas: Array, ttft: Array, tpot: Array) -> Array:
    """Return which times of replicas at the percentile keep every limit but that of the number of GPUs. [s]"""
    e2e = ttft + tpot * demand.workload.output.quantile(demand.limits.percentile)
    sure = certain(demand, crowd, replicas, ttft, tpot, rows)
    met = within(demand.limits, (ttft, tpot, e2e), np.zeros(np.shape(ttft)), sure)
    return np.logical_and.reduce([met[name] for name in met if name != GPUS])


def placed(values: Array, at: Places, others: Array) -> Array:
    """Return an array with other values at some places."""
    values = np.array(values)
    values[at] = others
    return values


def fewest_gpus(demand: Demand, one: Candidates) -> Array:
    """Return, by configuration, the fewest GPUs of feasible ones of its technique and weights, drafting or not."""
    shapes, gpus = one.grid.configurations, np.where(one.feasible, one.gpus, np.inf).min(axis=1)
    bound = np.inf if demand.limits.gpus is None else demand.limits.gpus + 1.0
    kinds = [(*shape.pair, shape.drafts) for shape in shapes]
    least: dict[tuple[Any, ...], float] = {}
    for kind, n in zip(kinds, gpus, strict=True):
        least[kind] = min(least.get(kind, bound), float(n))
    return np.array([least[kind] for kind in kinds])


def within(limits: Limits, times: tuple[Array, Array, Array], gpus: Array, sure: Array) -> dict[str, Array]:
    """Return which candidates keep each limit, by its name; `times` are TTFT, TPOT and end-to-end."""
    ttft, tpot, e2e = times
    bounded = (
        ("TTFT", ttft, limits.ttft), ("TPOT", tpot, limits.tpot), ("end-to-end", e2e, limits.e2e),
        (GPUS, gpus, limits.gpus),
    )  # fmt: skip
    keeps = {name: np.asarray(value <= (np.inf if limit is None else limit)) for name, value, limit in bounded}
    return {**keeps, CERTAINTY: np.asarray(sure >= limits.confidence)}


def usd_per_query(demand: Demand, cost: GpuCost | None, gpus: Array, gpu_seconds: Array) -> Array:
    """Return what a query costs: GPUs that are there, and what those at work draw in addition. [USD]"""
    if cost is None:
        return np.full(np.shape(gpus), np.inf)
    waiting, working = cost.rate(None), cost.rate("")
    return cost.whole(gpus) * waiting / demand.mean + gpu_seconds * (working - waiting)


def least_usd(demand: Demand, crowd: Crowd, pairs: Collection[Pair]) -> float:
    """Return what a query of some pairs costs at the least as plans are compared, limits of time left out. [USD]

    Infinite where nothing fits. Where more replicas are needed than requests fill, each runs between this load and the
    one before, and GPUs work as long as at one of them or between.
    """
    grid, site, seconds = crowd.gpu_grid.grid, crowd.gpu_grid.site, crowd.full.gpu_seconds
    seconds = np.minimum(seconds, np.concatenate([seconds[:, :1], seconds[:, :-1]], axis=1))
    gpus = (crowd.steady[1] + demand.spares) * grid.each
    usd = usd_of(demand, crowd.gpu_grid, gpus, seconds)
    able = crowd.gpu_grid.fits & of_pairs(grid, pairs)
    return float(usd[able].min()) * site.margin if able.any() else np.inf


def search(
    demand: Demand, wanted: Sequence[str], sites: Sequence[Site], left_out: Collection[Pair] = (),
    progress: Progress | None = None,
) -> tuple[list[Candidates], dict[str, str]]:  # fmt: skip
    """Return every candidate on every GPU, some pairs left out, and why some techniques could not be tried.

    `progress` hears of every GPU before it is searched.
    """
    node = max((min(site.gpu.gpus_per_node, NODE) for site in sites), default=1)
    shapes, refused = configurations(demand, wanted, node, left_out)
    if not shapes or not sites:
        return [], refused
    homes = gpu_grids(demand, shapes, sites, most_requests(demand.engine, sites))
    by_gpu = []
    for done, home in enumerate(homes):
        if progress is not None:
            progress(done / len(homes), f"{demand.engine.title} on {home.site.gpu.title}")
        by_gpu.append(candidates(demand, home))
    return by_gpu, refused
