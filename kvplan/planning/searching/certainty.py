"""How likely limits are kept: the errors of predicted TTFT and TPOT as lognormal distributions of one server."""

from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.planning.demand import Demand
from kvplan.specs.calibration import Calibration, Range

Array = Any
#: standard deviations from the median to the 90th percentile
Z80 = NormalDist().inv_cdf(0.9)
#: the standard normal distribution as a table, between whose rows a line errs by less than 1e-6
NORMAL_AT = np.linspace(-8.0, 8.0, 8001)
NORMAL = np.array(list(map(NormalDist().cdf, NORMAL_AT.tolist())))
#: a time that nothing keeps [s]
TINY = 1e-12
#: correlation of the errors of TTFT and TPOT of one server, at the low end of what rows held out show, where odds are
#: stated low: Kendall's tau is 0.26 over all, -0.02 (this very model was measured on that server) to 0.40
#: (benchmarks/odds.py)
TOGETHER = 0.2
#: slices of the error in TPOT over which a probability is averaged
SLICES = 32
#: the error in TPOT of each slice, in standard deviations
ERRORS = tuple(NormalDist().inv_cdf((k + 0.5) / SLICES) for k in range(SLICES))


def normal(z: Array) -> Array:
    """Return the standard normal distribution of every element."""
    return np.interp(z, NORMAL_AT, NORMAL)


def standard(times: Array, interval: Range) -> Array:
    """Return how many standard deviations true over predicted times are from their median, which is 1.

    The logarithm has a normal distribution to either side of it, as wide as that side of the 80 % range.
    """
    log = np.log(np.asarray(times))
    below, above = (max(abs(float(np.log(x))) / Z80, 1e-6) for x in (interval.low, interval.high))
    return log / np.where(log < 0, below, above)


def chance(median: Array, limit: Array | None, interval: Range) -> Array:
    """Return the probability that the true value is within a limit, `median` being the predicted one."""
    if limit is None:
        return np.ones(np.shape(median))
    return normal(standard(np.asarray(limit) / np.asarray(median), interval))


def behind(sure: float, interval: Range) -> float:
    """Return how many times longer than predicted a time is at the most with a probability: `chance` read backwards."""
    z = NormalDist().inv_cdf(sure)
    side = interval.low if z < 0 else interval.high
    return float(np.exp(abs(np.log(side)) / Z80 * z))


def certainty(demand: Demand, c: Calibration, ttft: Array, tpot: Array) -> Array:
    """Return the probability that all latency limits are kept; errors of TTFT and TPOT of a server go together.

    Both are normal in their own widths with the correlation TOGETHER. It is averaged over the error of TPOT, in slices
    that are equally likely: those that keep its limit leave TTFT the rest.
    """
    limits = demand.limits
    within = chance(tpot, limits.tpot, c.tpot)
    if limits.e2e is None and limits.ttft is None:
        return within
    output = demand.workload.output.quantile(limits.percentile)
    below, above = np.log(c.tpot.low) / -Z80, np.log(c.tpot.high) / Z80
    total, bound = np.zeros(np.shape(tpot)), np.inf if limits.ttft is None else limits.ttft
    always = standard(np.maximum(bound, TINY) / ttft, c.ttft)

    def in_slice(k: int, within: Array, always: Array, ttft: Array, tpot: Array) -> Array:
        error, z = ERRORS[k], always
        if limits.e2e is not None:
            left = limits.e2e - output * tpot * np.exp(error * (below if error < 0 else above))
            z = standard(np.maximum(np.minimum(left, bound), TINY) / ttft, c.ttft)
        part = np.minimum(np.maximum(within - k / SLICES, 0.0), 1 / SLICES)
        return part * normal((z - TOGETHER * error) / np.sqrt(1 - TOGETHER**2))

    times = within, always, np.asarray(ttft), np.asarray(tpot)
    total += in_slice(0, *times)
    some = np.asarray(within > 1 / SLICES)  # the others have no part in the further slices
    further = [x[some] for x in times]
    total[some] = sum((in_slice(k, *further) for k in range(1, SLICES)), total[some])
    return total
