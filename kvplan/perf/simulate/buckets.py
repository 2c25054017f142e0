"""Histograms of times whose buckets are alike in ratio: any percentile within RELATIVE of the value itself.

As HdrHistogram has it: memory does not grow with what is counted.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Any

from kvplan.perf.simulate.compiled import inner

Array = Any

#: greatest relative error of a percentile
RELATIVE = 0.005
#: shortest time told from none, and the longest [s]
LEAST, MOST = 1e-6, 1e8
#: buckets to a factor of e
PER_E = 1 / (2 * RELATIVE)
#: buckets: one for all below LEAST, and those up to MOST
BUCKETS = int(log(MOST / LEAST) * PER_E) + 2


@inner
def bucket(value: float) -> int:
    """Return the bucket of a time."""
    if value < LEAST:
        return 0
    return min(int(log(value / LEAST) * PER_E) + 1, BUCKETS - 1)


def middle(i: int) -> float:
    """Return the time that stands for a bucket: the middle of its ends, as ratios go. [s]"""
    return 0.0 if i == 0 else LEAST * exp((i - 0.5) / PER_E)


def quantile(histogram: Array, share: float) -> float:
    """Return the time that a share of those counted do not exceed, 0 where none was. [s]"""
    return quantiles(histogram, (share,))[0]


def quantiles(histogram: Array, shares: Sequence[float]) -> tuple[float, ...]:
    """Return the times that growing shares of those counted do not exceed, 0 where none was. [s]"""
    total, seen, values = int(sum(histogram)), 0, list[float]()
    for i, count in enumerate(histogram):
        seen += int(count)
        while count and len(values) < len(shares) and seen >= shares[len(values)] * total:
            values.append(middle(i))
    return (*values, *[0.0] * (len(shares) - len(values)))
