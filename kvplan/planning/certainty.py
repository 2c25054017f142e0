"""How likely limits are kept: the errors of predicted TTFT and TPOT as lognormal distributions."""

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
NORMAL = np.array([NormalDist().cdf(float(z)) for z in NORMAL_AT])
#: a time that nothing keeps [s]
TINY = 1e-12
#: slices of the error in TPOT over which a limit of both times together is averaged
SLICES = 32


def expected(found: Range) -> float:
    """Return the median of true over predicted."""
    return float(np.exp(lognormal(found)[0]))


def lognormal(found: Range) -> tuple[float, float]:
    """Return mean and standard deviation of the logarithm of true over predicted."""
    low, high = np.log(found.low), np.log(found.high)
    return float(low + high) / 2, max(float(high - low) / (2 * Z80), 1e-6)


def normal(z: Array) -> Array:
    """Return the standard normal distribution of every element."""
    return np.interp(z, NORMAL_AT, NORMAL)


def chance(median: Array, limit: Array | None, found: Range) -> Array:
    """Return the probability that the true value is within a limit: a lognormal as wide as the 80 % range."""
    if limit is None:
        return np.ones(np.shape(median))
    return normal(np.log(np.asarray(limit) / np.asarray(median)) / lognormal(found)[1])


def certainty(demand: Demand, c: Calibration, ttft: Array, tpot: Array) -> Array:
    """Return the probability that all latency limits are kept; the errors of TTFT and TPOT count as independent.

    Errors that go together, as those of one server do, would make it greater.
    """
    limits = demand.limits
    within = chance(tpot, limits.tpot, c.tpot)
    if limits.e2e is None:
        return chance(ttft, limits.ttft, c.ttft) * within
    output = demand.workload.output.quantile(limits.percentile)
    total = np.zeros(np.shape(tpot))
    for k in range(SLICES):  # of the errors of TPOT, equally likely; those that keep its limit leave TTFT the rest
        part = np.clip(within - k / SLICES, 0.0, 1 / SLICES)
        error = NormalDist().inv_cdf((k + 0.5) / SLICES) * lognormal(c.tpot)[1]
        left = limits.e2e - output * tpot * np.exp(error)
        bound = np.minimum(left, np.inf if limits.ttft is None else limits.ttft)
        total += part * chance(ttft, np.maximum(bound, TINY), c.ttft)
    return total
