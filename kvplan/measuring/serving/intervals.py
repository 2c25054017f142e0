"""80 % intervals of predictions from rows held out of the fit, shrunk toward general ones where rows are few."""

from collections.abc import Sequence
from math import exp

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped,unused-ignore]

from kvplan.measuring.serving.holdout import HeldOut
from kvplan.measuring.serving.problem import NOISE, Array
from kvplan.measuring.serving.rows import ServerRow
from kvplan.specs.calibration import Range
from kvplan.specs.identity import family
from kvplan.specs.serving_profile import PART, RELEASE, SEEN, SERVER, SIBLING, ServingProfile, stood_on

#: rows of one server that weigh as much as all others in its interval
SHRINK = 20
#: models on GPUs that weigh as much as all engines' in the interval of one engine's
FEW_SERVERS = 8
#: what predictions rest on whose intervals differ by engine: those of a server seen do by pair, and where neither half
#: was measured no engine is known
MEASURED_ENGINES = (RELEASE, SIBLING, SERVER, PART)
#: rows of one's own that the interval published for a server weighs in how far such rows scatter: few, so that three
#: that disagree are believed
BELIEVED = 2
#: intervals of TPOT and TTFT where nothing at all was measured
ANY = (Range(low=0.5, high=2.0), Range(low=0.33, high=3.0))


def ranges_of(held_out: Sequence[HeldOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return the middle 80 % of measured over predicted, by what predictions rest on, and by server for the best.

    What no row tells is as the shipped profile has it.
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
            if part.basis in MEASURED_ENGINES:
                ranges.update(by_engine(part, mine, general))
            for server in sorted(set(servers[mine].tolist())) if part.basis == SEEN else ():
                ranges[server] = as_ranges(middles(part, mine & (servers == server), general, SHRINK, alike=True))
    return ranges


def by_engine(part: HeldOut, mine: Array, general: Array) -> dict[str, tuple[Range, Range]]:
    """Return intervals of each engine's rows among some, shrunk toward those of all of them, `general`.

    Rows of one server's model are off alike, so that models count, not rows.
    """
    weights = cell_weights(part.rows)
    names = np.array([stood_on(part.basis, r.identity, engine=True) for r in part.rows])
    cells = np.array([f"{r.gpu.name} {family(r.model)}" for r in part.rows])
    ranges = {}
    for name in sorted(set(names[mine].tolist())):
        its = mine & (names == name)
        share = len(set(cells[its].tolist())) / (len(set(cells[its].tolist())) + FEW_SERVERS)
        ends = general.copy()
        for j in range(2):
            own = middle(part.log_ratio[its, j], weights[its])
            ends[j] = share * np.array(own) + (1 - share) * general[j] if own else general[j]
        ranges[name] = as_ranges(ends)
    return ranges


def intervals_of_own(held_out: Sequence[HeldOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return intervals by server: own rows held out in turn, shrunk toward what the shipped profile says of them.

    Rows that disagree among each other widen them, see `widened`; only rows that agree make one narrower.
    """
    ranges: dict[str, tuple[Range, Range]] = {}
    for part in held_out:
        known = np.array([[np.log((r.low, r.high)) for r in shipped.interval(row.identity)] for row in part.rows])
        servers = np.array([stood_on(part.basis, r.identity, own=True) for r in part.rows])
        for server in sorted(set(servers.tolist())) if part.basis in (SEEN, RELEASE) else ():
            mine = servers == server
            told = known[mine].mean(0)
            narrowed = middles(part, mine, told, SHRINK, alike=True)
            ends = [widened(part.log_ratio[mine, j], told[j], narrowed[j], NOISE[j]) for j in range(2)]
            ranges[server] = as_ranges(np.array(ends))
    return ranges


def told_before(
    rows: Sequence[ServerRow], seen: ServingProfile, shipped: ServingProfile
) -> dict[str, tuple[Range, Range]]:
    """Return intervals by server of own rows that now are `seen`: what the shipped profile said of them.

    Rows of which none can be held out, a single one, tell nothing of how far such rows scatter: their interval must not
    become that of the servers of the shipped profile, which many rows were held out of.
    """
    told: dict[str, list[Array]] = {}
    for row in rows:
        basis = seen.basis(row.identity)
        if basis in (SEEN, RELEASE) and basis != shipped.basis(row.identity):
            ends = np.array([np.log((r.low, r.high)) for r in shipped.interval(row.identity)])
            told.setdefault(stood_on(basis, row.identity, own=True), []).append(ends)
    return {server: as_ranges(np.mean(ends, axis=0)) for server, ends in told.items()}


def widened(ratio: Array, told: Array, narrowed: Array, scatter: float) -> Array:
    """Return the 80 % interval of one's own rows: wider than `told` where they disagree, else `narrowed`. [logarithm]

    How far rows scatter has a scaled inverse chi-squared prior of BELIEVED rows at the interval told; the squares of
    rows held out are added, and what then holds 8 of 10 is Student's t. Rows that scatter more than rows alike do
    (`scatter`) narrow nothing. Source: Gelman et al., Bayesian Data Analysis, 2013, 2.6 and 3.2.
    """
    missed = ratio[~np.isnan(ratio)]
    half = (told[1] - told[0]) / 2
    if not len(missed) or half <= 0:
        return narrowed
    squares = float((missed**2).sum())
    if squares <= len(missed) * scatter**2:
        return narrowed
    before = half / student.ppf(0.9, BELIEVED)
    count = BELIEVED + len(missed)
    scale = ((BELIEVED * before**2 + squares) / count) ** 0.5
    wider = told * max(float(student.ppf(0.9, count)) * scale / half, 1.0)
    return np.array([min(wider[0], narrowed[0]), max(wider[1], narrowed[1])])


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
