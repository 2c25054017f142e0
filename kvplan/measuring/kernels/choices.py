"""Choosing a kernel's model by cross-validation: tiles and splits, and which optional coefficients to keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from kvplan.measuring.kernels.least_squares import (
    PartRows,
    begin,
    cross_validated,
    free_names,
    neutral,
    optional,
    score,
    solve,
)
from kvplan.perf import kernel_time as kt

#: folds that decide between choices
DECIDING = 4
#: a term stays when leaving it out makes the cross-validated error this much worse
WORTH = 1.004
#: fewer shapes than this cannot tell one library's tiles from another's: the usual ones are taken
DECISIVE = 20
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


@dataclass(frozen=True)
class Model:
    """Choices made, coefficients to start from and those to fit."""

    start: Any  #: coefficients a fit starts from; those not in `free` stay
    free: tuple[str, ...]  #: names of the coefficients that are fitted


def choose(part: PartRows, bits: float) -> Model:
    """Return the discrete choices and the optional terms that predict left-out rows best."""
    options = CHOICES[part.kind.name]
    if len({tuple(row.shape.sizes.values()) for row in part.rows}) < DECISIVE:
        options = {name: values[:1] for name, values in options.items()}
    best: tuple[float, Model] | None = None
    for values in product(*options.values()):
        start = begin(part.kind, part.gpu, bits, dict(zip(options, values, strict=True)))
        work = part.work(start)
        free = free_names(part, start, work)
        start = replace(start, **neutral(part.kind, [n for n in optional(part.kind) if n not in free]))
        fitted, _ = solve(part, work, start, free)
        start = anchored(fitted, start, free)
        reached = score(cross_validated(part, start, free, DECIDING, 0))
        if best is None or reached < best[0] / 1.001:
            best = reached, Model(start, free)
    assert best is not None
    return prune(part, *best)


def anchored(fitted: Any, start: Any, free: Sequence[str]) -> Any:
    """Return a fit's result as a start for refits, kept within reach of a sensible value."""
    return replace(
        start, **{n: float(np.clip(getattr(fitted, n), getattr(start, n) / 1e2, getattr(start, n) * 1e2)) for n in free}
    )


def prune(part: PartRows, reached: float, model: Model) -> Model:
    """Leave out optional terms, one at a time, as long as left-out rows are predicted as well without."""
    while True:
        trials = []
        for name in model.free:
            if name in optional(part.kind):
                start = replace(model.start, **neutral(part.kind, [name]))
                trial = Model(start, tuple(n for n in model.free if n != name))
                trials.append((score(cross_validated(part, trial.start, trial.free, DECIDING, 0)), trial))
        best = min(trials, key=lambda t: t[0], default=None)
        if best is None or best[0] > reached * WORTH:
            return model
        reached, model = min(reached, best[0]), best[1]
