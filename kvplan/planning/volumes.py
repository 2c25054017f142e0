"""The volumes at which an API costs what hosting does: bounds of what the search would answer at any volume.

A replica keeps the limits of time up to some rate of requests, whatever the volume. With that rate of a configuration
its fewest replicas, and what they cost, are known at every volume. The API is cheaper where it costs less than the
cheapest configuration could; hosting is where a plan costs less that the search finds there.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.money.api import MOST, BreakEven, Curve, Tokens, api_cost, between_bounds, lowest_volume
from kvplan.planning.demand import Demand
from kvplan.planning.plan import TIE
from kvplan.planning.searching.certainty import behind
from kvplan.planning.searching.configurations import Pair
from kvplan.planning.searching.converting import converting
from kvplan.planning.searching.offloading import kept_cost
from kvplan.planning.searching.search import CERTAINTY, GPUS, Candidates, keeps_times, usd_per_query
from kvplan.specs.money import ApiPrice
from kvplan.units import DAY

Array = Any
#: rates that are tried of each configuration at once, between one that keeps the limits and one that breaks them,
#: and how often
SECTIONS, ROUNDS = 16, 2
#: configurations of a GPU, the cheapest of few and of many replicas, whose plans hosting is taken to have
SHOWN = 8
#: what rounding leaves of a whole number of replicas
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """Configurations on one GPU and the rates at which a replica of each keeps the limits of time."""

    demand: Demand  #: what is to be served; its volume does not matter
    one: Candidates  #: the candidates on the GPU
    rows: Array  #: which of its configurations
    usable: Array  #: loads of each that fit, and keep the limits where the load is offline
    keeps: Array  #: a rate that keeps the limits, as one that waits are planned for [1/s]
    breaks: Array  #: the least that is known to break them, or to be too many for memory [1/s]
    timed: bool = False  #: whether those rates are known; before, `keeps` is the rate at which the API costs as much

    def taken(self, which: Array) -> "Volumes":
        """Return some of the configurations."""
        arrays = {name: getattr(self, name)[which] for name in ("rows", "usable", "keeps", "breaks")}
        return replace(self, **arrays)

    @cached_property
    def besides(self) -> tuple[Array, Array]:
        """What each configuration pays a day for its conversion, and for prefixes kept beside a GPU. [USD/s]"""
        each, shapes = replace(self.demand, mean=1.0), [self.one.grid.configurations[k] for k in self.rows]
        kept = kept_cost(each, shapes, np.ones((len(shapes), 1)), self.one.site)
        return converting(each, self.one.grid, self.one.site)[self.rows], kept

    def least(self, per_day: Array) -> Array:
        """Return what each configuration costs at the least at these volumes. [USD/s]"""
        grid, full = self.one.grid, self.one.crowd.steady[0].cycle / self.one.requests
        seconds = np.where(self.usable, full[self.rows], np.inf).min(axis=1) * grid.each[self.rows, 0]
        return self._usd(per_day, self.breaks, seconds[:, None] * per_day / DAY)

    def most(self, per_day: Array) -> Array:
        """Return what a plan of each costs at the most, as plans are compared; its GPUs are always at work. [USD/s]"""
        return self._usd(per_day, self.keeps, np.inf) * self.one.site.margin * (1 + TIE)

    def _usd(self, per_day: Array, rates: Array, working: Array) -> Array:
        """Return the cost of configurations at volumes, no more GPUs at work than there are. [USD/s]"""
        demand, one, steady = self.demand, self.one, self.one.crowd.steady[0]
        loads, cycle = one.requests[self.rows], steady.cycle[self.rows]
        peak = demand.peak / demand.mean * (1 + demand.headroom) * np.asarray(per_day) / DAY
        flight = demand.crowd(peak * cycle[:, :, None]) / loads[:, :, None]
        filled = np.where(self.usable[:, :, None], flight, np.inf).min(axis=1)
        timed = demand.waits_at[0] * peak / rates[:, None]
        replicas = np.maximum(np.ceil(np.maximum(filled, timed) - ROUNDING), 1.0)
        gpus = (replicas + demand.spares) * one.grid.each[self.rows]
        converted, kept = self.besides
        usd = usd_per_query(replace(demand, mean=1.0), one.site.cost, gpus, np.minimum(working, gpus))
        usd = usd + converted + kept * gpus
        bound = np.inf if demand.limits.gpus is None else demand.limits.gpus
        return np.where(gpus <= bound, usd, np.inf)


def keeping(g: Volumes, rates: Array, full: bool) -> Array:
    """Return whether a replica of each configuration keeps the limits of time at a rate. [1/s]

    The search takes the prefixes that stay in memory to be those beside the requests of the load it looks at: the most
    are kept at the least load that brings so many, the fewest in a `full` replica.
    """
    one, loads = g.one, np.arange(g.usable.shape[1])
    if not len(g.rows):
        return np.zeros(0, bool)
    enough = g.usable & (full_rates(g) >= rates[:, None] * (1 - ROUNDING))
    last = np.where(g.usable, loads, -1).max(axis=1)
    columns = last if full else np.where(enough.any(axis=1), np.argmax(enough, axis=1), last)
    with np.errstate(all="ignore"):
        replicas = one.crowd.rate(1.0) / rates
        ttft, tpot, *_ = one.crowd.at((g.rows, columns), replicas)
        return np.asarray(keeps_times(g.demand, one.crowd, g.rows, replicas, ttft, tpot))


def full_rates(g: Volumes) -> Array:
    """Return the rate that each load of a replica comes to, as one that waits are planned for. [1/s]"""
    one = g.one
    return (one.requests / one.crowd.steady[0].cycle)[g.rows] * g.demand.waits_at[0]


def growing(demand: Demand, one: Candidates, pairs: Collection[Pair], charge: float) -> Volumes:
    """Return the configurations on a GPU that may cost less than a query's charge where there are many replicas.

    The others do not fit so many requests. Limits of time are left out until `timed`. `charge` in USD.
    """
    usable = one.fits & one.of(pairs)
    if demand.workload.offline:
        for name, met in one.meets.items():
            usable = usable & (met | (name in (GPUS, CERTAINTY)))
    rows = np.flatnonzero(usable.any(axis=1))
    each, shapes, gpus = replace(demand, mean=1.0), [one.grid.configurations[k] for k in rows], one.grid.each[rows]
    assert one.site.cost is not None
    usd = (gpus * one.site.cost.rate(None) + kept_cost(each, shapes, gpus, one.site))[:, 0]
    enough = demand.peak / demand.mean * (1 + demand.headroom) * demand.waits_at[0] * usd / charge
    g = Volumes(demand=demand, one=one, rows=rows, usable=usable[rows], keeps=enough, breaks=enough)
    most = np.where(g.usable, full_rates(g), 0.0).max(axis=1)
    g = replace(g, breaks=most).taken(enough < most)
    if not demand.workload.offline:
        return g
    slowest = behind(demand.limits.confidence, one.site.calibration.tpot)
    return replace(g, keeps=g.breaks / slowest, breaks=g.breaks / slowest, timed=True)


def timed(g: Volumes) -> Volumes:
    """Return the configurations that keep the limits of time where they cost what the API does, and their rates."""
    g = g.taken(keeping(g, g.keeps, full=False))
    if not len(g.rows):
        return g
    low, breaks = narrowed(g, g.keeps, g.breaks, full=False)
    shares = g.demand.prefix_cache and g.demand.workload.prefix_share > 0
    keeps = narrowed(g, g.keeps / 2, breaks, full=True)[0] if shares else low
    return replace(g, keeps=keeps, breaks=breaks, timed=True)


def narrowed(g: Volumes, low: Array, high: Array, full: bool) -> tuple[Array, Array]:
    """Return rates that keep and that break the limits, closer than those between which they lie. [1/s]"""
    part = np.arange(SECTIONS + 2) / (SECTIONS + 1)
    each, rows = g.taken(np.repeat(np.arange(len(g.rows)), SECTIONS)), np.arange(len(g.rows))
    for _ in range(ROUNDS):
        tried = low[:, None] * (high / low)[:, None] ** part
        good = keeping(each, tried[:, 1:-1].ravel(), full).reshape(len(rows), SECTIONS)
        first = np.where(good.all(axis=1), SECTIONS, np.argmin(good, axis=1))
        low, high = tried[rows, first], tried[rows, first + 1]
    return low, high


def even_volumes(
    demand: Demand, candidates: Iterable[Candidates], pairs: Collection[Pair], charged: Sequence[ApiPrice],
    tokens: Tokens,
) -> list[BreakEven]:  # fmt: skip
    """Return, for each API, the volume up to which it is cheaper, and that from which hosting is.

    They hold for the cheapest plan that the search would answer at any volume, on the same GPUs under the same limits.
    """
    dearest = max((api_cost(price, tokens) or 0.0 for price in charged), default=0.0)
    if dearest <= 0:
        return [between_bounds(_lowest((), "least"), _lowest((), "most"), MOST, price, tokens) for price in charged]
    able = [growing(demand, one, pairs, dearest) for one in candidates if one.site.cost is not None]
    able = binding([g for g in able if len(g.rows)], dearest / DAY)
    best = [g.taken(_cheapest(g)) for g in able if g.timed]
    return [between_bounds(_lowest(able, "least"), _lowest(best, "most"), MOST, price, tokens) for price in charged]


def binding(some: Sequence[Volumes], daily: float) -> list[Volumes]:
    """Return the configurations of every GPU, timed where the volume up to which the API is cheaper rests on them.

    `daily` is what it charges for one query a day. [USD/s]
    """
    able = list(some)
    while able:
        first = lowest_volume(_lowest(able, "least"), daily, MOST)
        at = np.array([MOST if first is None else first])
        k = int(np.argmin([g.least(at).min() for g in able]))
        if able[k].timed:
            break
        able[k] = timed(able[k])
        able = [g for g in able if len(g.rows)]
    return able


def _cheapest(g: Volumes) -> Array:
    """Return which configurations are the cheapest of few replicas, or of many."""
    usd = g.most(np.geomspace(volume_of_one(g), MOST, 4))
    return np.unique(np.argsort(usd, axis=0)[:SHOWN])


def volume_of_one(g: Volumes) -> float:
    """Return the volume that one replica takes, of the configuration that takes the most. [1/day]"""
    peak = g.demand.peak / g.demand.mean * (1 + g.demand.headroom) * g.demand.waits_at[0]
    return float(g.keeps.max()) / peak * DAY


def _lowest(some: Sequence[Volumes], end: str) -> Curve:
    """Return the least of an end of the cost over configurations, infinite without any, as a function of volumes."""

    def usd(per_day: Sequence[float]) -> Sequence[float]:
        volumes = np.asarray(per_day, float)
        curves = [getattr(g, end)(volumes).min(axis=0) for g in some]
        return [float(x) for x in np.min([*curves, np.full(len(volumes), np.inf)], axis=0)]

    return usd
