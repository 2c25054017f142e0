"""80 % intervals of predictions from rows held out of the fit, shrunk toward general ones where rows are few."""

from collections.abc import Sequence
from math import exp

import numpy as np

from kvplan.measuring.serving.holdout import HeldOut
from kvplan.measuring.serving.problem import Array
from kvplan.measuring.serving.rows import ServerRow
from kvplan.specs.calibration import Range
from kvplan.specs.serving_profile import SEEN, ServingProfile, family, stood_on

#: rows of one server that weigh as much as all others in its interval
SHRINK = 20
#: intervals of TPOT and TTFT where nothing at all was measured
ANY = (Range(low=0.5, high=2.0), Range(low=0.33, high=3.0))


def ranges_of(held_out: Sequence[HeldOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return the middle 80 % of measured over predicted, by what predictions rest on, and by server for the best.

    What no row tells is as the shipped profile has it. Less support never gives a narrower interval.
    """
    ranges: dict[str, tuple[Range, Range]] = {}
    for part in held_out:
        known = shipped.ranges.get(part.basis, ANY)
        every = middles(part, np.ones(len(part.rows), bool), np.log([(r.low, r.high) for r in known]), 0)
        ranges[part.basis] = as_ranges(every)
        names = np.array([stood_on(part.basis, r.identity) for r in part.rows])
        servers = np.array([stood_on(part.basis, r.identity, own=True) for r in part.rows])
        for name in sorted(set(names.tolist())):
            mine = names == name
            general = middles(part, mine, every, SHRINK)
            ranges[name] = as_ranges(general)
            for server in sorted(set(servers[mine].tolist())) if part.basis == SEEN else ():
                ranges[server] = as_ranges(middles(part, mine & (servers == server), general, SHRINK, alike=True))
    return ranges


def intervals_of_own(held_out: Sequence[HeldOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return intervals by server: own rows held out in turn, shrunk toward what the shipped profile says of them."""
    ranges: dict[str, tuple[Range, Range]] = {}
    for part in held_out[:2]:
        known = np.array([[np.log((r.low, r.high)) for r in shipped.interval(row.identity)] for row in part.rows])
        servers = np.array([stood_on(part.basis, r.identity, own=True) for r in part.rows])
        for server in sorted(set(servers.tolist())):
            mine = servers == server
            ranges[server] = as_ranges(middles(part, mine, known[mine].mean(0), SHRINK, alike=True))
    return ranges


def middles(part: HeldOut, mine: Array, general: Array, shrink: int, alike: bool = False) -> Array:
    """Return the middle 80 % of TPOT and TTFT of some rows, shrunk toward general ones when few.

    [time, end; logarithm]. Rows weigh the same where they are `alike`, else as `cell_weights` says.
    """
    weights = np.ones(len(part.rows)) if alike else cell_weights(part.rows)
    return np.array([shrunk(part.log_ratio[mine, j], general[j], shrink, weights[mine]) for j in range(2)])


def cell_weights(rows: Sequence[ServerRow]) -> Array:
    """Return weights of rows under which a server's model counts by the root of its rows: many do not drown few."""
    cells = [(r.gpu.name, r.engine, family(r.model)) for r in rows]
    counts = {cell: cells.count(cell) for cell in set(cells)}
    return np.array([counts[cell] ** -0.5 for cell in cells])


def shrunk(ratio: Array, general: Sequence[float], shrink: int, weights: Array) -> tuple[float, float]:
    """Return the middle 80 % of some rows, shrunk toward a general one when they are few. [logarithm]"""
    own, count = middle(ratio, weights), int((~np.isnan(ratio)).sum())
    share = count / (count + shrink) if count else 0.0
    low, high = (share * o + (1 - share) * g for o, g in zip(own or general, general, strict=True))
    return float(low), float(high)


def middle(ratio: Array, weights: Array) -> tuple[float, float] | None:
    """Return the ends of the middle 80 % of weighted values, None of nothing."""
    known = ~np.isnan(ratio)
    if not known.any():
        return None
    order = np.argsort(ratio[known])
    values, heavy = ratio[known][order], weights[known][order]
    share = (np.cumsum(heavy) - heavy / 2) / heavy.sum()
    return float(np.interp(0.1, share, values)), float(np.interp(0.9, share, values))


def as_ranges(ends: Array) -> tuple[Range, Range]:
    """Return the ranges of TPOT and TTFT, which hold 1, from the ends of their middles. [time, end; logarithm]"""
    tpot, ttft = (Range(low=min(exp(low), 1.0), high=max(exp(high), 1.0)) for low, high in ends.tolist())
    return tpot, ttft
