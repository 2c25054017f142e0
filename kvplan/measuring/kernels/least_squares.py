"""One fit of a kernel's coefficients to rows: relative error, robust, bounded, from fixed starts; cross-validation.

Robust is soft L1 on log measured over predicted. The same rows always give the same coefficients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import log
from typing import Any

import numpy as np
from scipy.optimize import least_squares  # type: ignore[import-untyped,unused-ignore]

from kvplan.measuring.kernels.rows import KernelRow
from kvplan.perf.kernel_profile import Kind, operand_bits, part_of, scale_of
from kvplan.specs.hardware import Gpu

#: log residuals beyond this count linearly, not squared
ROBUST = 0.03
#: how many times faster than memory a cache in the L2 may be read, at most
L2_SPEED = 6.0

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PartRows:
    """Rows of one part of one kernel on one GPU, and their measured times [s]."""

    kind: Kind  #: kind of kernel
    gpu: Gpu  #: the GPU they ran on
    rows: tuple[KernelRow, ...]  #: its rows
    times: Array  #: their measured times [s, row]

    def take(self, chosen: Array) -> "PartRows":
        """Return the group with only the rows chosen by a mask. [row]"""
        index = np.flatnonzero(chosen)
        return PartRows(self.kind, self.gpu, tuple(self.rows[i] for i in index), self.times[index])

    def work(self, coefficients: Any) -> Any:
        """Return the counted work of all rows, every amount an array. [row]"""
        return stack([self.kind.work(row.shape, self.gpu, coefficients) for row in self.rows])


def group(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow]) -> PartRows:
    """Return rows of one kernel on one GPU as a group; each row has a measured time."""
    return PartRows(kind, gpu, tuple(rows), np.array([row.time for row in rows], float))


def stack(works: Sequence[Any]) -> Any:
    """Return one work whose quantities are arrays over the works."""
    first = works[0]
    if is_dataclass(first):
        made: Callable[..., Any] = first.__class__
        return made(*(stack([getattr(w, f.name) for w in works]) for f in fields(first)))
    if isinstance(first, tuple):
        return tuple(stack(column) for column in zip(*works, strict=True))
    return np.array(works, float)


def begin(kind: Kind, gpu: Gpu, bits: float, choices: Mapping[str, Any]) -> Any:
    """Return the coefficients a fit starts from: shares of the GPU's datasheet, and plain times."""
    values = {
        f.name: f.metadata["start"] * scale_of(f.metadata["scale"], gpu, bits)
        for f in fields(kind.coefficients)
        if "choice" not in f.metadata
    }
    return kind.coefficients(**values, **choices)


def most(part: PartRows, free: Sequence[str]) -> Array:
    """Return the logarithms of the largest sensible values: no kernel beats its datasheet, except out of the L2."""
    bits = operand_bits(part.rows[0].shape)
    nearby = L2_SPEED if part_of(part.rows[0].shape, part.gpu).endswith("l2") else 1.0
    bounds = []
    for f in fields(part.kind.coefficients):
        if f.name in free:
            factor = nearby if f.metadata["scale"] == "bandwidth" else 1.0
            bounds.append(log(f.metadata["most"] * factor * scale_of(f.metadata["scale"], part.gpu, bits)))
    return np.array(bounds)


def neutral(kind: Kind, names: Sequence[str]) -> dict[str, Any]:
    """Return the values with which named coefficients have no effect, by name."""
    return {f.name: f.default for f in fields(kind.coefficients) if f.name in names}


def solve(part: PartRows, work: Any, start: Any, free: Sequence[str]) -> tuple[Any, float]:
    """Return coefficients with `free` fitted in their logarithms, and the robust cost."""
    top = most(part, free)
    guess = np.minimum(np.log([getattr(start, name) for name in free]), top - 1e-3)
    bounds = (guess - 8, np.minimum(guess + 8, top))
    target = np.log(part.times)

    def residuals(z: Array) -> Array:
        values = dict(zip(free, np.exp(z).tolist(), strict=True))
        return np.asarray(np.log(part.kind.algebra(work, replace(start, **values))) - target)

    def slopes(z: Array) -> Array:
        moved = np.vstack([z, z + np.diag(steps(z, *bounds))])
        values = dict(zip(free, np.exp(moved).T[:, :, None], strict=True))
        times = np.log(part.kind.algebra(work, replace(start, **values)))
        reached = np.broadcast_to(times, (len(moved), len(target))) - target
        return np.asarray(((reached[1:] - reached[0]) / (np.diagonal(moved[1:]) - z)[:, None]).T)

    fit = least_squares(residuals, guess, slopes, bounds=bounds, loss="soft_l1", f_scale=ROBUST, max_nfev=150)
    return replace(start, **dict(zip(free, np.exp(fit.x).tolist(), strict=True))), float(fit.cost)


def steps(z: Array, low: Array, high: Array) -> Array:
    """Return how far each logarithm moves for its slope: the root of the machine's precision, within the bounds.

    All slopes come from one evaluation of the model; scipy's own would take one a coefficient.
    """
    step = np.finfo(float).eps ** 0.5 * np.where(z >= 0, 1.0, -1.0) * np.maximum(1.0, np.abs(z))
    outside = (z + step < low) | (z + step > high)
    return np.where(outside & (np.abs(step) <= np.maximum(z - low, high - z)), -step, step)


def errors(part: PartRows, coefficients: Any) -> Array:
    """Return log measured over predicted."""
    predicted = part.kind.algebra(part.work(coefficients), coefficients)
    return np.asarray(np.log(part.times) - np.log(predicted))


def folds(count: int, parts: int, seed: int) -> Array:
    """Return the fold of each of `count` rows, 0 to `parts` - 1, drawn at random from a seed. [row]"""
    return np.asarray(np.random.default_rng(seed).permutation(count) % parts)


def cross_validated(part: PartRows, start: Any, free: Sequence[str], parts: int, seed: int) -> Array:
    """Return log measured over predicted of every row, predicted by a fit without its fold."""
    work = part.work(start)
    fold = folds(len(part.rows), min(parts, len(part.rows)), seed)
    left = np.zeros(len(part.rows))
    for n in range(fold.max() + 1):
        chosen = fold != n
        fitted, _ = solve(part.take(chosen), sliced(work, chosen), start, free)
        predicted = part.kind.algebra(sliced(work, ~chosen), fitted)
        left[~chosen] = np.log(part.times[~chosen]) - np.log(predicted)
    return left


def sliced(work: Any, chosen: Array) -> Any:
    """Return work with only the chosen rows in each of its arrays, nested parts included."""
    if is_dataclass(work):
        made: Callable[..., Any] = work.__class__
        return made(*(sliced(getattr(work, f.name), chosen) for f in fields(work)))
    return tuple(sliced(amounts, chosen) for amounts in work) if isinstance(work, tuple) else work[chosen]


def score(left: Array) -> float:
    """Return what choices are compared by: the median and the mean absolute error count."""
    size = np.abs(np.expm1(-left))
    return float(2 * np.median(size) + np.minimum(size, 0.5).mean())


def optional(kind: Kind) -> list[str]:
    """Return the names of the coefficients a kernel may do without."""
    return [f.name for f in fields(kind.coefficients) if f.metadata.get("optional")]


def free_names(part: PartRows, start: Any, work: Any) -> tuple[str, ...]:
    """Return the coefficients that can matter for these rows and choices at all."""
    times = part.kind.algebra(work, start)
    inert = {
        name
        for name in optional(part.kind)
        if np.array_equal(part.kind.algebra(work, replace(start, **neutral(part.kind, [name]))), times)
    }
    return tuple(f.name for f in fields(part.kind.coefficients) if "choice" not in f.metadata and f.name not in inert)
