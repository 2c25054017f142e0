"""Floats and arrays of one shape alike: what the formulas of `perf` need beyond `+ - * / **`.

numpy is loaded where an array comes; a single plan starts without it.
"""

from collections.abc import Callable
from math import e as EULER
from math import exp, pi
from typing import Any

#: a float, or an array of them
Amount = Any

#: keeps quotients of nothing finite
TINY = 1e-12
#: factor of Winitzki's approximation of the error function
ERF = 0.147
#: halvings before a root is found on straight lines, and those lines
FIRST, LINES = 4, 6


def larger(a: Amount, b: Amount) -> Amount:
    """Return the larger of two amounts, element by element."""
    if getattr(a, "ndim", 0) or getattr(b, "ndim", 0):
        import numpy as np

        return np.maximum(a, b)
    return a if a >= b else b


def smaller(a: Amount, b: Amount) -> Amount:
    """Return the smaller of two amounts, element by element."""
    if getattr(a, "ndim", 0) or getattr(b, "ndim", 0):
        import numpy as np

        return np.minimum(a, b)
    return a if a <= b else b


def chosen(which: Any, a: Amount, b: Amount) -> Amount:
    """Return one amount where something holds, else another, element by element."""
    if getattr(which, "ndim", 0):
        import numpy as np

        return np.where(which, a, b)
    return a if which else b


def taken(a: Amount, which: Any) -> Amount:
    """Return some rows of an array, a number as it is."""
    return a[which] if getattr(a, "ndim", 0) else a


def exponential(x: Amount) -> Amount:
    """Return e to the power of an amount, element by element."""
    if getattr(x, "ndim", 0):
        import numpy as np

        return np.exp(x)
    return exp(x)


def logarithm(x: Amount) -> Amount:
    """Return the natural logarithm of a number from 1, as a slightly larger bound for arrays and floats alike."""
    power = 1 / 64
    return (x**power - 1) / power


def logarithm_to_2(amount: Amount) -> Amount:
    """Return the logarithm of a number from 1 to 2, floats and arrays alike: a Pade approximant, off by 1e-4."""
    x = amount - 1.0
    return x * (6 + x) / (6 + 4 * x)


def gamma(x: Amount) -> Amount:
    """Return the gamma function of 1 + x, by Stirling's series at 4 + x (to 1e-6), floats and arrays alike."""
    z = x + 4.0
    series = 1 + 1 / (12 * z) + 1 / (288 * z * z) - 139 / (51840 * z**3)
    return (2 * pi / z) ** 0.5 * (z / EULER) ** z * series / ((x + 1) * (x + 2) * (x + 3))


def deviations(share: Amount) -> Amount:
    """Return how many standard deviations a share of a normal distribution stays below, within 0.05 from 0.01 to 0.99.

    Source: Winitzki, A handy approximation for the error function and its inverse, 2008.
    """
    x = 2 * share - 1
    less = -logarithm(1 / larger(1 - x * x, TINY))
    t = 2 / (pi * ERF) + less / 2
    return ((x > 0) * 1.0 - (x < 0) * 1.0) * (2 * larger((t * t - less / ERF) ** 0.5 - t, 0.0)) ** 0.5


def below_deviations(z: Amount) -> Amount:
    """Return the share of a normal distribution below so many standard deviations, within 0.0002 (as `deviations`)."""
    half = z * z / 2
    part = 1 - exponential(-half * (4 / pi + ERF * half) / (1 + ERF * half))
    away = larger(part, 0.0) ** 0.5
    return (1 + chosen(z > 0, away, -away)) / 2


def root(
    excess: Callable[[Amount], Amount], low: Amount, high: Amount, first: int = FIRST, lines: int = LINES,
    less: Amount | None = None,
) -> Amount:  # fmt: skip
    """Return where a growing function passes 0 between two amounts: halvings, then straight lines (Illinois).

    `less` is its value at the lower one, where that is known.
    """
    less, more, side = excess(low) if less is None else less, excess(high), 0.0 * low
    for _ in range(first):
        middle = (low + high) / 2
        value = excess(middle)
        over = value > 0
        low, high = chosen(over, low, middle), chosen(over, middle, high)
        less, more = chosen(over, less, value), chosen(over, value, more)
    for _ in range(lines):
        at = low - less * (high - low) / larger(more - less, TINY)
        at = smaller(larger(at, low), high)
        value = excess(at)
        over = value > 0
        now = chosen(over, 1.0, -1.0)
        kept = 1 - 0.5 * (side == now)  # of the other end, where the same one moves again
        less, more = chosen(over, less * kept, value), chosen(over, value, more * kept)
        low, high, side = chosen(over, low, at), chosen(over, at, high), now
    return at
