"""Linear fits of operator times: start + bytes / bandwidth + flops / rate (+ weights / packing), robust, not negative.

Chosen over a maximum of terms and over a soft maximum: it predicts shapes left out better, and is convex and exact.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped,unused-ignore]

from kvplan.units import parse, spell

Array = np.ndarray[Any, np.dtype[Any]]
#: how many robust deviations count squared before a residual counts linearly
HUBER = 1.345
ROUNDS = 12
#: a term that is nowhere more than this share of the time is not identified
NOTICEABLE = 2e-3
FOLDS, REPEATS = 5, 4
#: the share of measured over predicted times inside an interval
COVERED = 0.8
#: fewer shapes than this, or than three a term, are too few
FEWEST = 6
#: (name, the quantity it divides; None: it is a time itself)
TERMS = (("start", None), ("bandwidth", "bytes"), ("rate", "flops"), ("packing", "weights"))
UNITS = {"start": "s", "bandwidth": "B/s", "rate": "FLOP/s", "packing": "1"}


def terms_of(rows: Sequence[Mapping[str, float]]) -> list[tuple[str, Array]]:
    """Return (name, quantity of every row) of the terms these rows can have."""
    terms = []
    for name, quantity in TERMS:
        column = np.array([1.0 if quantity is None else row.get(quantity, 0.0) for row in rows])
        if column.any():
            terms.append((name, column))
    return terms


def solve(columns: Array, times: Array) -> Array:
    """Return the non-negative factors of the columns [rows, terms] that fit the times best, in relative error."""
    relative = columns / times[:, None]
    size = np.linalg.norm(relative, axis=0)
    size[size == 0] = 1.0
    relative = relative / size
    weight = np.ones(len(times))
    factors = np.zeros(columns.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        factors = nnls(relative * root[:, None], root)[0]
        off = np.abs(relative @ factors - 1)
        limit = HUBER * max(1.4826 * float(np.median(off)), 1e-6)
        weight = np.minimum(1.0, limit / np.maximum(off, 1e-12))
    noticed = (relative * factors).max(0) > NOTICEABLE
    return np.asarray(np.where(noticed, factors, 0.0) / size)


def held_out(columns: Array, times: Array) -> Array:
    """Return predicted over measured minus one of every row, by fits without its fold; several seeded divisions."""
    parts = min(FOLDS, len(times))
    errors = []
    for seed in range(REPEATS):
        fold = np.random.default_rng(seed).permutation(len(times)) % parts
        for part in range(parts):
            out = fold == part
            errors.append(columns[out] @ solve(columns[~out], times[~out]) / times[out] - 1)
    return np.concatenate(errors)


def left_out(columns: Array, times: Array) -> tuple[Array, Array]:
    """Return measured over predicted of every row by a fit without it, and these fits' factors [rows, terms]."""
    keep = ~np.eye(len(times), dtype=bool)
    factors = np.array([solve(columns[k], times[k]) for k in keep])
    predicted = np.maximum((columns * factors).sum(1), 1e-3 * times)
    return times / predicted, factors


def interval(ratios: Array) -> list[float]:
    """Return the interval of measured over predicted, widened for how few rows its quantiles stand on."""
    tail = (1 - COVERED) / 2 * (1 - 1 / len(ratios)) - 0.5 / len(ratios)
    low, high = np.quantile(ratios, [max(tail, 0.0), min(1 - tail, 1.0)])
    return [round(min(float(low), 0.999), 4), round(max(float(high), 1.001), 4)]


def statistics(errors: Array, terms: int, rows: int) -> dict[str, float]:
    """Return how far predictions of rows left out were off: predicted over measured minus one."""
    size = np.abs(errors)
    return {
        "rows": rows,
        "parameters": terms,
        "median": round(float(np.median(size)), 5),
        "mean": round(float(size.mean()), 5),
        "p90": round(float(np.quantile(size, 0.9)), 5),
        "bias": round(float(np.median(errors)), 5),
    }


def quantity(factor: float, name: str, digits: int = 5) -> str:
    """Return a factor as a profile states it: a time, or the rate that is its inverse."""
    text = spell(factor if name == "start" else 1 / factor, UNITS[name], digits)
    return f"{text} elements/s" if name == "packing" else text


def number(name: str, text: str) -> float:
    """Return what `quantity` wrote in base units."""
    return parse(text.removesuffix(" elements/s"), UNITS[name])


def fit_group(rows: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """Fit one group of rows (time [s], bytes, flops, weights); None when they are too few."""
    terms = terms_of(rows)
    times = np.array([row["time"] for row in rows])
    if len(rows) < max(FEWEST, 3 * len(terms)):
        return None
    columns = np.stack([column for _, column in terms], axis=1)
    factors = solve(columns, times)
    ratios, others = left_out(columns, times)
    known = [(i, name) for i, (name, _) in enumerate(terms) if factors[i] > 0]
    return {
        "coefficients": {name: quantity(factors[i], name) for i, name in known},
        "not_identified": [name for i, (name, _) in enumerate(terms) if factors[i] == 0],
        "spread": {name: between(factors[i], others[:, i], name) for i, name in known},
        "residuals": statistics(columns @ factors / times - 1, len(known), len(rows)),
        "held_out": statistics(held_out(columns, times), len(known), len(rows)),
        "interval": interval(ratios),
    }


def between(factor: float, others: Array, name: str) -> list[str]:
    """Return the jackknife's 80 % interval of a coefficient, low to high."""
    count = len(others)
    half = 1.282 * float(np.sqrt((count - 1) / count * ((others - others.mean()) ** 2).sum()))
    ends = [max(factor - half, factor * 1e-3), factor + half]
    return [quantity(end, name) for end in (ends if name == "start" else reversed(ends))]
