"""The fewest replicas that keep the limits of time, between those that two loads of a search ask for.

A candidate has the replicas that its requests in flight fill. Where those of one load keep the limits and the fewer
of the next do not, or where even one request on each is too many, the numbers between are tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvplan.planning.searching.crowd import Crowd

Array = Any
#: numbers of replicas that are tried of each configuration at once, and how often
SECTIONS, ROUNDS = 24, 6
#: the most replicas that are tried, over those on which one request runs at a time
MOST = 64.0


@dataclass(frozen=True, kw_only=True)
class Sized:
    """Candidates with other replicas than their requests in flight fill, one a configuration: where, and how fast."""

    at: tuple[Array, Array]  #: their places: configurations, loads
    replicas: Array  #: that keep the limits, without spares
    ttft: Array  #: at the percentile [s]
    tpot: Array  #: at the percentile [s/token]
    mean_ttft: Array  #: [s]
    mean_tpot: Array  #: [s/token]
    kept: Array  #: share of the shared prefixes still in memory


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Configurations whose fewest replicas lie between `low`, which break the limits, and `high`, which keep them."""

    rows: Array  #: configurations
    columns: Array  #: the load of `low`
    low: Array  #: those of the next load, which break the limits; of the least load where none keeps them
    high: Array  #: the fewest replicas of a load that keep the limits; infinite where none does

    def taken(self, which: Array) -> "Bracket":
        """Return some of them."""
        return Bracket(rows=self.rows[which], columns=self.columns[which], low=self.low[which], high=self.high[which])


def bracket(crowd: Crowd, keeps: Array, most: Array) -> Bracket:
    """Return where fewer replicas than those that keep the limits may do: on fewer GPUs than `most`, by row."""
    home, (_, replicas, _) = crowd.gpu_grid, crowd.steady
    rows, loads = np.arange(len(keeps)), np.arange(keeps.shape[1])
    high = np.where(keeps, replicas, np.inf).min(axis=1)
    last = np.where(keeps & (replicas == high[:, None]), loads, -1).max(axis=1)
    after = home.fits & ~keeps & (loads > last[:, None]) & (replicas < high[:, None])
    columns = np.argmax(after, axis=1)
    low = np.where(after.any(axis=1), replicas[rows, columns], 0.0)
    least = (low + 1 + crowd.demand.spares) * home.grid.each[:, 0]
    there = (low > 0) & (high > low + 1) & (least < most)
    return Bracket(rows=rows, columns=columns, low=low, high=high).taken(there)


def sections(b: Bracket) -> Array:
    """Return numbers of replicas between low and high, as (configuration, number); all of them where they are few."""
    part = np.arange(1, SECTIONS + 1) / (SECTIONS + 1)
    high = np.where(np.isfinite(b.high), b.high, MOST * b.low)[:, None]
    low = b.low[:, None]
    even = low * (high / low) ** part
    tried = np.where(high - low <= SECTIONS + 1, low + np.arange(1, SECTIONS + 1), np.rint(even))
    return np.clip(tried, low + 1, np.where(np.isfinite(b.high)[:, None], high - 1, high))


def sized(
    crowd: Crowd, keeps: Array, quick: Callable[[Array, Array, Array, Array], Array], most: Array
) -> Sized | None:
    """Return the candidates that keep the limits on fewer replicas than those of a load, None where none do.

    `keeps` are the candidates that do, `quick` tells it of times and replicas of some configurations, `most` are GPUs
    by row.
    """
    b = bracket(crowd, keeps, most)
    lone = ~np.isfinite(b.high)
    if lone.any():
        hopeful = lone.copy()
        hopeful[lone] = quick(b.rows[lone], *crowd.lone(b.rows[lone]), MOST * b.low[lone])
        b = b.taken(hopeful | ~lone)
    found: dict[int, tuple[Array, ...]] = {}
    for _ in range(ROUNDS):
        b = b.taken(b.high - b.low > 1)
        if not b.rows.size:
            break
        tried = sections(b)
        rows, columns = (np.repeat(x, tried.shape[1]) for x in (b.rows, b.columns))
        figures = crowd.at((rows, columns), tried.ravel())
        good = np.asarray(quick(rows, figures[0], figures[1], tried.ravel())).reshape(tried.shape)
        first = np.where(good.any(axis=1), np.argmax(good, axis=1), tried.shape[1])
        high, low = b.high.copy(), b.low.copy()
        for k, n in enumerate(first):
            low[k] = tried[k, n - 1] if n else low[k]
            if n < tried.shape[1]:
                high[k] = tried[k, n]
                place = k * tried.shape[1] + n
                found[int(b.rows[k])] = (b.columns[k], tried[k, n], *(f[place] for f in figures))
        b = Bracket(rows=b.rows, columns=b.columns, low=low, high=high).taken(np.isfinite(high))
    if not found:
        return None
    where, replicas, ttft, tpot, mean_ttft, mean_tpot, kept = map(np.array, zip(*found.values(), strict=True))
    return Sized(
        at=(np.array(list(found)), where), replicas=replicas, ttft=ttft, tpot=tpot, mean_ttft=mean_ttft,
        mean_tpot=mean_tpot, kept=kept,
    )  # fmt: skip
