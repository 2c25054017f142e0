"""A kernel's final fit: its coefficients, its errors on rows left out, its intervals, and what the rows cannot tell."""

from collections.abc import Sequence
from dataclasses import fields, replace
from math import inf
from typing import Any

import numpy as np

from kvplan.measuring.kernels.choices import Model, anchored
from kvplan.measuring.kernels.least_squares import (
    Array,
    PartRows,
    begin,
    cross_validated,
    errors,
    free_names,
    most,
    neutral,
    optional,
    solve,
)
from kvplan.perf.kernel_profile import Fitted, operand_bits
from kvplan.units import parse, spell

#: folds whose residuals are reported
REPORTING = 10
#: a coefficient is not identified when taking it out changes no prediction by more than this share
NOTICEABLE = 2e-3
#: fewer rows than this for each coefficient are too few to fit
ROWS_PER_COEFFICIENT = 1.5
#: the share of left-out rows inside an 80 % interval: a little more, since choices were made on the same rows
COVERED = 0.82


def finish(part: PartRows, model: Model) -> Fitted:
    """Return the final fit, its cross-validated residuals and its intervals."""
    work = part.work(model.start)
    fitted, _ = solve(part, work, model.start, model.free)
    unknown = unidentified(part, fitted, model.free)
    free = [name for name in model.free if name not in unknown]
    fitted = rounded(replace(fitted, **neutral(part.kind, unknown)))
    left = cross_validated(part, anchored(fitted, model.start, free), free, REPORTING, 1)
    possible = free_names(part, begin(part.kind, part.gpu, operand_bits(part.rows[0].shape), chosen(fitted)), work)
    absent = [n for n in optional(part.kind) if n in possible and getattr(fitted, n) in (0.0, inf)]
    return Fitted(
        coefficients=fitted,
        interval=intervals(part, left),
        range=extent(part),
        residuals=residuals(left, len(free)),
        not_identified=() if part.kind.name == "all_reduce" else (*held(part, fitted, free), *absent),
    )


def held(part: PartRows, fitted: Any, free: Sequence[str]) -> tuple[str, ...]:
    """Return the coefficients at their bound: the rows only say that they bind nowhere below the datasheet."""
    top = np.exp(most(part, free))
    return tuple(n for n, bound in zip(free, top.tolist(), strict=True) if getattr(fitted, n) >= 0.999 * bound)


def chosen(coefficients: Any) -> dict[str, Any]:
    """Return the discrete choices among coefficients."""
    return {f.name: getattr(coefficients, f.name) for f in fields(coefficients) if "choice" in f.metadata}


def unidentified(part: PartRows, fitted: Any, free: Sequence[str]) -> list[str]:
    """Return the optional coefficients whose absence no prediction notices."""
    names: list[str] = []
    for name in free:
        if name in optional(part.kind) and not name.startswith(("one_shot", "two_shot")):
            without = replace(fitted, **neutral(part.kind, [*names, name]))
            if np.abs(errors(part, without) - errors(part, fitted)).max() < NOTICEABLE:
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


def intervals(part: PartRows, left: Array) -> dict[str, tuple[float, float]]:
    """Return the interval of measured over predicted in each regime, from the rows left out."""
    regimes = np.array([part.kind.regime(row.shape.sizes) for row in part.rows])
    tails = ((1 - COVERED) / 2, (1 + COVERED) / 2)
    made = {}
    for regime in sorted(set(regimes)):
        seen = left[regimes == regime] if (regimes == regime).sum() >= 15 else left
        low, high = np.exp(np.quantile(seen, tails))
        made[str(regime)] = (round(min(float(low), 0.999), 4), round(max(float(high), 1.001), 4))
    return made


def extent(part: PartRows) -> dict[str, tuple[int, int]]:
    """Return the smallest and largest value of every size in a group's rows."""
    sizes = [row.shape.sizes for row in part.rows]
    return {name: (min(s[name] for s in sizes), max(s[name] for s in sizes)) for name in part.kind.sizes}


def enough(part: PartRows) -> bool:
    """Return whether a group has enough rows for its required coefficients."""
    needed = sum(1 for f in fields(part.kind.coefficients) if "choice" not in f.metadata and not f.metadata["optional"])
    return len(part.rows) >= max(8, ROWS_PER_COEFFICIENT * needed)
