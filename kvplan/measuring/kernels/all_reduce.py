"""Fitting all-reduce: NCCL first, from every engine's largest messages too, then the engine's own kernels beside it."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from kvplan.measuring.kernels.choices import DECIDING, Model
from kvplan.measuring.kernels.least_squares import PartRows, begin, cross_validated, group, neutral, score, solve
from kvplan.measuring.kernels.results import enough, finish
from kvplan.measuring.kernels.rows import KernelRow
from kvplan.perf import kernel_time as kt
from kvplan.perf.kernel_profile import Fitted, Kind
from kvplan.specs.hardware import Gpu

#: largest messages an engine's own all-reduce may take, tried [B]
OWN_LIMITS = tuple(2.0**p for p in (19, 20, 21, 22, 23, 24, 25, 26, 40))
#: messages beyond this take NCCL whichever engine sends them [B]
NCCL_BEYOND = 2.0**25


def nccl_names() -> tuple[str, ...]:
    """Return the names of the coefficients of NCCL's protocols."""
    names = [f.name for f in fields(kt.AllReduceCoefficients) if "choice" not in f.metadata]
    return tuple(n for n in names if not n.startswith(("one_shot", "two_shot")))


def own_names() -> tuple[str, ...]:
    """Return the names of the coefficients of an engine's own all-reduce kernels."""
    return tuple(f.name for f in fields(kt.AllReduceCoefficients) if f.name.startswith(("one_shot", "two_shot")))


def nccl_model(part: PartRows) -> Model:
    """Return the model of NCCL alone; a bulk rate stays fixed where no row has that many GPUs."""
    start = begin(part.kind, part.gpu, 16, {"own_up_to": 0.0})
    start = replace(start, **neutral(part.kind, own_names()))
    present = {row.shape.sizes["n_gpus"] for row in part.rows}
    missing = [f"bulk_bandwidth_{n}" for n in (2, 4, 8) if n not in present]
    return Model(start, tuple(n for n in nccl_names() if n not in missing))


def own_model(part: PartRows, nccl: Any) -> Model:
    """Return the engine's own kernels beside a fitted NCCL, up to the message size that predicts best."""
    guess = begin(part.kind, part.gpu, 16, {})
    start = replace(nccl, **{name: getattr(guess, name) for name in own_names()})
    trials = []
    for limit in OWN_LIMITS:
        trial = Model(replace(start, own_up_to=limit), own_names())
        trials.append((score(cross_validated(part, trial.start, trial.free, DECIDING, 0)), trial))
    return min(trials, key=lambda t: t[0])[1]


def is_nccl(row: KernelRow) -> bool:
    """Return whether a row's all-reduce is NCCL's: it says so, or the message is too large for other kernels."""
    bits = 2  # bytes an element of a 16-bit message
    return row.shape.engine == "nccl" or row.shape.sizes["message_size"] * bits > NCCL_BEYOND


def fit_nccl(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow]) -> Any:
    """Return NCCL's coefficients on one GPU from its own rows and every engine's largest messages."""
    part = group(kind, gpu, [row for row in rows if is_nccl(row)] or list(rows))
    model = nccl_model(part)
    return solve(part, part.work(model.start), model.start, model.free)[0]


def fit_all_reduce(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow], nccl: Any) -> dict[str, Fitted]:
    """Return the one fitted part of an all-reduce, over coefficients `nccl` already has; {} for too few rows."""
    part = group(kind, gpu, rows)
    if not enough(part):
        return {}
    if rows[0].shape.engine == "nccl":
        model = nccl_model(part)
        return {"all": finish(part, Model(replace(model.start, **vars(nccl)), model.free))}
    return {"all": finish(part, own_model(part, nccl))}
