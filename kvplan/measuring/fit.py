"""Fitting kernels: rows in, named coefficients out, with the error on rows left out and an interval from it.

Relative error, robust (soft L1 on log measured over predicted), bounded, from fixed starts: the same rows always give
the same coefficients. Discrete choices (tiles, splits) and which optional coefficients to keep are decided by
cross-validation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from math import inf, log
from typing import Any

import numpy as np
from scipy.optimize import least_squares  # type: ignore[import-untyped,unused-ignore]

from kvplan.measuring.rows import KernelRow
from kvplan.perf import kernel_time as kt
from kvplan.perf.kernel_profile import KINDS, Fitted, Kind, operand_bits, part_of, scale_of
from kvplan.specs.hardware import Gpu
from kvplan.units import parse, spell

#: log residuals beyond this count linearly, not squared
ROBUST = 0.03
#: folds that decide between choices, and folds whose residuals are reported
DECIDING, REPORTING = 4, 10
#: a term stays when leaving it out makes the cross-validated error this much worse
WORTH = 1.004
#: a coefficient is not identified when taking it out changes no prediction by more than this share
NOTICEABLE = 2e-3
#: fewer rows than this for each coefficient are too few to fit
ROWS_PER_COEFFICIENT = 1.5
#: fewer shapes than this cannot tell one library's tiles from another's: the usual ones are taken
DECISIVE = 20
#: the share of left-out rows inside an 80 % interval: a little more, since choices were made on the same rows
COVERED = 0.82
#: choices tried for each kind of kernel
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "decode_attention": {
        "split": ("balanced", "never", "fill", "flash-attention", "from 512 tokens", "from 1024 tokens"),
        "blocks_per_sm": (1, 2),
    },
    "mla_decode_attention": {
        "split": ("balanced", "fill", "flash-attention", "4 parts"),
        "blocks_per_sm": (1, 2),
        "head_tile": kt.HEAD_TILES,
    },
    "prefill_attention": {},
    "gemm": {"tiles": kt.TILES, "split_k": ("1", "1 2 4")},
    "all_reduce": {},
}
#: how many times faster than memory a cache in the L2 may be read, at most
L2_SPEED = 6.0
#: largest messages an engine's own all-reduce may take, tried [B]
OWN_LIMITS = tuple(2.0**p for p in (19, 20, 21, 22, 23, 24, 25, 26, 40))
#: messages beyond this take NCCL whichever engine sends them [B]
NCCL_BEYOND = 2.0**25

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


# -- one least-squares fit --------------------------------------------------------------------------


def begin(kind: Kind, gpu: Gpu, bits: float, choices: Mapping[str, Any]) -> Any:
    """Return the coefficients a fit starts from: shares of the GPU's datasheet, and plain times."""
    values = {
        f.name: f.metadata["start"] * scale_of(f.metadata["scale"], gpu, bits)
        for f in fields(kind.coefficients)
        if "choice" not in f.metadata
    }
    return kind.coefficients(**values, **choices)


def most(found: PartRows, free: Sequence[str]) -> Array:
    """Return the logarithms of the largest sensible values: no kernel beats its datasheet, except out of the L2."""
    bits = operand_bits(found.rows[0].shape)
    nearby = L2_SPEED if part_of(found.rows[0].shape, found.gpu).endswith("l2") else 1.0
    bounds = []
    for f in fields(found.kind.coefficients):
        if f.name in free:
            factor = nearby if f.metadata["scale"] == "bandwidth" else 1.0
            bounds.append(log(f.metadata["most"] * factor * scale_of(f.metadata["scale"], found.gpu, bits)))
    return np.array(bounds)


def neutral(kind: Kind, names: Sequence[str]) -> dict[str, Any]:
    """Return the values with which named coefficients have no effect, by name."""
    return {f.name: f.default for f in fields(kind.coefficients) if f.name in names}


def solve(found: PartRows, work: Any, start: Any, free: Sequence[str]) -> tuple[Any, float]:
    """Return coefficients with `free` fitted in their logarithms, and the robust cost."""
    top = most(found, free)
    guess = np.minimum(np.log([getattr(start, name) for name in free]), top - 1e-3)
    bounds = (guess - 8, np.minimum(guess + 8, top))
    target = np.log(found.times)

    def residuals(z: Array) -> Array:
        values = dict(zip(free, np.exp(z).tolist(), strict=True))
        return np.asarray(np.log(found.kind.algebra(work, replace(start, **values))) - target)

    def slopes(z: Array) -> Array:
        moved = np.vstack([z, z + np.diag(steps(z, *bounds))])
        values = dict(zip(free, np.exp(moved).T[:, :, None], strict=True))
        times = np.log(found.kind.algebra(work, replace(start, **values)))
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


def errors(found: PartRows, coefficients: Any) -> Array:
    """Return log measured over predicted."""
    predicted = found.kind.algebra(found.work(coefficients), coefficients)
    return np.asarray(np.log(found.times) - np.log(predicted))


def folds(count: int, parts: int, seed: int) -> Array:
    """Return the fold of each of `count` rows, 0 to `parts` - 1, drawn at random from a seed. [row]"""
    return np.asarray(np.random.default_rng(seed).permutation(count) % parts)


def cross_validated(found: PartRows, start: Any, free: Sequence[str], parts: int, seed: int) -> Array:
    """Return log measured over predicted of every row, predicted by a fit without its fold."""
    work = found.work(start)
    fold = folds(len(found.rows), min(parts, len(found.rows)), seed)
    left = np.zeros(len(found.rows))
    for part in range(fold.max() + 1):
        chosen = fold != part
        fitted, _ = solve(found.take(chosen), sliced(work, chosen), start, free)
        predicted = found.kind.algebra(sliced(work, ~chosen), fitted)
        left[~chosen] = np.log(found.times[~chosen]) - np.log(predicted)
    return left


def sliced(work: Any, chosen: Array) -> Any:
    """Return work with only the chosen rows in each of its arrays, nested parts included."""
    if is_dataclass(work):
        made: Callable[..., Any] = work.__class__
        return made(*(sliced(getattr(work, f.name), chosen) for f in fields(work)))
    return tuple(sliced(part, chosen) for part in work) if isinstance(work, tuple) else work[chosen]


def score(left: Array) -> float:
    """Return what choices are compared by: the median and the mean absolute error count."""
    size = np.abs(np.expm1(-left))
    return float(2 * np.median(size) + np.minimum(size, 0.5).mean())


# -- choosing a model -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """Choices made, coefficients to start from and those to fit."""

    start: Any  #: coefficients a fit starts from; those not in `free` stay
    free: tuple[str, ...]  #: names of the coefficients that are fitted


def choose(found: PartRows, bits: float) -> Model:
    """Return the discrete choices and the optional terms that predict left-out rows best."""
    options = CHOICES[found.kind.name]
    if len({tuple(row.shape.sizes.values()) for row in found.rows}) < DECISIVE:
        options = {name: values[:1] for name, values in options.items()}
    best: tuple[float, Model] | None = None
    for values in product(*options.values()):
        start = begin(found.kind, found.gpu, bits, dict(zip(options, values, strict=True)))
        work = found.work(start)
        free = free_names(found, start, work)
        start = replace(start, **neutral(found.kind, [n for n in optional(found.kind) if n not in free]))
        fitted, _ = solve(found, work, start, free)
        start = anchored(fitted, start, free)
        reached = score(cross_validated(found, start, free, DECIDING, 0))
        if best is None or reached < best[0] / 1.001:
            best = reached, Model(start, free)
    assert best is not None
    return prune(found, *best)


def anchored(fitted: Any, start: Any, free: Sequence[str]) -> Any:
    """Return a fit's result as a start for refits, kept within reach of a sensible value."""
    return replace(
        start, **{n: float(np.clip(getattr(fitted, n), getattr(start, n) / 1e2, getattr(start, n) * 1e2)) for n in free}
    )


def optional(kind: Kind) -> list[str]:
    """Return the names of the coefficients a kernel may do without."""
    return [f.name for f in fields(kind.coefficients) if f.metadata.get("optional")]


def free_names(found: PartRows, start: Any, work: Any) -> tuple[str, ...]:
    """Return the coefficients that can matter for these rows and choices at all."""
    times = found.kind.algebra(work, start)
    inert = {
        name
        for name in optional(found.kind)
        if np.array_equal(found.kind.algebra(work, replace(start, **neutral(found.kind, [name]))), times)
    }
    return tuple(f.name for f in fields(found.kind.coefficients) if "choice" not in f.metadata and f.name not in inert)


def prune(found: PartRows, reached: float, model: Model) -> Model:
    """Leave out optional terms, one at a time, as long as left-out rows are predicted as well without."""
    while True:
        trials = []
        for name in model.free:
            if name in optional(found.kind):
                start = replace(model.start, **neutral(found.kind, [name]))
                trial = Model(start, tuple(n for n in model.free if n != name))
                trials.append((score(cross_validated(found, trial.start, trial.free, DECIDING, 0)), trial))
        best = min(trials, key=lambda t: t[0], default=None)
        if best is None or best[0] > reached * WORTH:
            return model
        reached, model = min(reached, best[0]), best[1]


# -- all-reduce: NCCL first, then the engine's own kernels ------------------------------------------


def nccl_names() -> tuple[str, ...]:
    """Return the names of the coefficients of NCCL's protocols."""
    names = [f.name for f in fields(kt.AllReduceCoefficients) if "choice" not in f.metadata]
    return tuple(n for n in names if not n.startswith(("one_shot", "two_shot")))


def own_names() -> tuple[str, ...]:
    """Return the names of the coefficients of an engine's own all-reduce kernels."""
    return tuple(f.name for f in fields(kt.AllReduceCoefficients) if f.name.startswith(("one_shot", "two_shot")))


def nccl_model(found: PartRows) -> Model:
    """Return the model of NCCL alone; a bulk rate stays fixed where no row has that many GPUs."""
    start = begin(found.kind, found.gpu, 16, {"own_up_to": 0.0})
    start = replace(start, **neutral(found.kind, own_names()))
    present = {row.shape.sizes["n_gpus"] for row in found.rows}
    missing = [f"bulk_bandwidth_{n}" for n in (2, 4, 8) if n not in present]
    return Model(start, tuple(n for n in nccl_names() if n not in missing))


def own_model(found: PartRows, nccl: Any) -> Model:
    """Return the engine's own kernels beside a fitted NCCL, up to the message size that predicts best."""
    guess = begin(found.kind, found.gpu, 16, {})
    start = replace(nccl, **{name: getattr(guess, name) for name in own_names()})
    trials = []
    for limit in OWN_LIMITS:
        trial = Model(replace(start, own_up_to=limit), own_names())
        trials.append((score(cross_validated(found, trial.start, trial.free, DECIDING, 0)), trial))
    return min(trials, key=lambda t: t[0])[1]


# -- a whole kernel ---------------------------------------------------------------------------------


def finish(found: PartRows, model: Model) -> Fitted:
    """Return the final fit, its cross-validated residuals and its intervals."""
    work = found.work(model.start)
    fitted, _ = solve(found, work, model.start, model.free)
    unknown = unidentified(found, fitted, model.free)
    free = [name for name in model.free if name not in unknown]
    fitted = rounded(replace(fitted, **neutral(found.kind, unknown)))
    left = cross_validated(found, anchored(fitted, model.start, free), free, REPORTING, 1)
    possible = free_names(found, begin(found.kind, found.gpu, operand_bits(found.rows[0].shape), chosen(fitted)), work)
    absent = [n for n in optional(found.kind) if n in possible and getattr(fitted, n) in (0.0, inf)]
    return Fitted(
        coefficients=fitted,
        interval=intervals(found, left),
        range=extent(found),
        residuals=residuals(left, len(free)),
        not_identified=() if found.kind.name == "all_reduce" else (*held(found, fitted, free), *absent),
    )


def held(found: PartRows, fitted: Any, free: Sequence[str]) -> tuple[str, ...]:
    """Return the coefficients at their bound: the rows only say that they bind nowhere below the datasheet."""
    top = np.exp(most(found, free))
    return tuple(n for n, bound in zip(free, top.tolist(), strict=True) if getattr(fitted, n) >= 0.999 * bound)


def chosen(coefficients: Any) -> dict[str, Any]:
    """Return the discrete choices among coefficients."""
    return {f.name: getattr(coefficients, f.name) for f in fields(coefficients) if "choice" in f.metadata}


def unidentified(found: PartRows, fitted: Any, free: Sequence[str]) -> list[str]:
    """Return the optional coefficients whose absence no prediction notices."""
    names: list[str] = []
    for name in free:
        if name in optional(found.kind) and not name.startswith(("one_shot", "two_shot")):
            without = replace(fitted, **neutral(found.kind, [*names, name]))
            if np.abs(errors(found, without) - errors(found, fitted)).max() < NOTICEABLE:
                names.append(name)
    return names


def rounded(coefficients: Any) -> Any:
    """Return the coefficients as a profile's text gives them back."""
    values = {
        f.name: parse(spell(getattr(coefficients, f.name), f.metadata["unit"]), f.metadata["unit"])
        for f in fields(coefficients)
        if "choice" not in f.metadata and getattr(coefficients, f.name) not in (0.0, inf)
    }
    return replace(coefficients, **values)


def residuals(left: Array, parameters: int) -> dict[str, float]:
    """Return statistics of predicted over measured, minus one, on rows left out of the fit."""
    error = np.expm1(-left)
    size = np.abs(error)
    return {
        "rows": len(left),
        "parameters": parameters,
        "median": round(float(np.median(size)), 5),
        "mean": round(float(size.mean()), 5),
        "p90": round(float(np.quantile(size, 0.9)), 5),
        "bias": round(float(np.median(error)), 5),
    }


def intervals(found: PartRows, left: Array) -> dict[str, tuple[float, float]]:
    """Return the interval of measured over predicted in each regime, from the rows left out."""
    regimes = np.array([found.kind.regime(row.shape.sizes) for row in found.rows])
    tails = ((1 - COVERED) / 2, (1 + COVERED) / 2)
    made = {}
    for regime in sorted(set(regimes)):
        seen = left[regimes == regime] if (regimes == regime).sum() >= 15 else left
        low, high = np.exp(np.quantile(seen, tails))
        made[str(regime)] = (round(min(float(low), 0.999), 4), round(max(float(high), 1.001), 4))
    return made


def extent(found: PartRows) -> dict[str, tuple[int, int]]:
    """Return the smallest and largest value of every size in a group's rows."""
    sizes = [row.shape.sizes for row in found.rows]
    return {name: (min(s[name] for s in sizes), max(s[name] for s in sizes)) for name in found.kind.sizes}


def enough(found: PartRows) -> bool:
    """Return whether a group has enough rows for its required coefficients."""
    needed = sum(
        1 for f in fields(found.kind.coefficients) if "choice" not in f.metadata and not f.metadata["optional"]
    )
    return len(found.rows) >= max(8, ROWS_PER_COEFFICIENT * needed)


# -- all rows ---------------------------------------------------------------------------------------

Place = tuple[str, str, str, str]
Progress = Callable[[int, int, str], None]


def places(rows: Sequence[KernelRow]) -> dict[Place, list[KernelRow]]:
    """Return the rows by (GPU, engine, kind, kernel and dtypes), sorted."""
    found: dict[Place, list[KernelRow]] = {}
    for row in rows:
        s = row.shape
        found.setdefault((s.gpu, s.engine, s.kind, s.key), []).append(row)
    return dict(sorted(found.items()))


def fit(
    rows: Sequence[KernelRow], gpus: Callable[[str], Gpu], progress: Progress | None = None
) -> Iterator[tuple[Place, str, dict[str, Fitted]]]:
    """Yield (place, engine version, parts) of every kernel in the rows that has enough of them."""
    found = places(rows)
    nccl: dict[str, Any] = {}
    for step, (place, mine) in enumerate(found.items()):
        if progress:
            progress(step, len(found), " ".join(place))
        gpu, kind = gpus(place[0]), KINDS[place[2]]
        if kind.name == "all_reduce":
            if place[0] not in nccl:
                nccl[place[0]] = fit_nccl(
                    kind, gpu, [r for p, rs in found.items() if p[0::2] == place[0::2] for r in rs]
                )
            parts = fit_all_reduce(kind, gpu, mine, nccl[place[0]])
        else:
            parts = fit_parts(kind, gpu, mine)
        if parts:
            versions = sorted({row.shape.version for row in mine})
            yield place, ", ".join(versions), parts


def fit_parts(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow]) -> dict[str, Fitted]:
    """Return the fitted parts of one kernel; a part with too few rows is left out."""
    apart: dict[str, list[KernelRow]] = {}
    for row in rows:
        apart.setdefault(part_of(row.shape, gpu), []).append(row)
    made = {}
    for name, mine in sorted(apart.items()):
        found = group(kind, gpu, mine)
        if enough(found):
            made[name] = finish(found, choose(found, operand_bits(mine[0].shape)))
    return made


def is_nccl(row: KernelRow) -> bool:
    """Return whether a row's all-reduce is NCCL's: it says so, or the message is too large for other kernels."""
    bits = 2  # bytes an element of a 16-bit message
    return row.shape.engine == "nccl" or row.shape.sizes["message_size"] * bits > NCCL_BEYOND


def fit_nccl(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow]) -> Any:
    """Return NCCL's coefficients on one GPU from its own rows and every engine's largest messages."""
    found = group(kind, gpu, [row for row in rows if is_nccl(row)] or list(rows))
    model = nccl_model(found)
    return solve(found, found.work(model.start), model.start, model.free)[0]


def fit_all_reduce(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow], nccl: Any) -> dict[str, Fitted]:
    """Return the one fitted part of an all-reduce, over coefficients `nccl` already has; {} for too few rows."""
    found = group(kind, gpu, rows)
    if not enough(found):
        return {}
    if rows[0].shape.engine == "nccl":
        model = nccl_model(found)
        return {"all": finish(found, Model(replace(model.start, **vars(nccl)), model.free))}
    return {"all": finish(found, own_model(found, nccl))}


# -- writing ----------------------------------------------------------------------------------------


def entry(version: str, parts: Mapping[str, Fitted]) -> dict[str, Any]:
    """Return one kernel as a profile's document holds it: coefficients in units, never rows."""
    return {"version": version, **{name: _part(part) for name, part in parts.items()}}


def _part(part: Fitted) -> dict[str, Any]:
    c = part.coefficients
    values: dict[str, Any] = {}
    for f in fields(c):
        value = getattr(c, f.name)
        if "choice" in f.metadata:
            values[f.name] = spell(value, "B", 12) if f.name == "own_up_to" else value
        elif value not in (0.0, inf):
            text = spell(value, f.metadata["unit"])
            values[f.name] = float(text) if f.metadata["unit"] == "1" else text
    return {
        "coefficients": values,
        "residuals": dict(part.residuals),
        "interval": {name: list(pair) for name, pair in part.interval.items()},
        "range": {name: list(pair) for name, pair in part.range.items()},
        "not_identified": list(part.not_identified),
    }


def document(
    heading: Mapping[str, Any], made: Sequence[tuple[Place, str, Mapping[str, Fitted]]], tier: str
) -> dict[str, Any]:
    """Return a whole profile: heading, then GPU, engine, kind, 'kernel dtype'."""
    tree: dict[str, Any] = {}
    for (gpu, engine, kind, key), version, parts in made:
        tree.setdefault(gpu, {}).setdefault(engine, {}).setdefault(kind, {})[key] = entry(version, parts)
    return {**heading, "tier": tier, "kernels": tree}
