"""How far predictions lie from measurements: errors and interval coverage by group."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from kvplan.measuring.kernels.rows import KernelRow
from kvplan.perf.kernel_profile import Prediction


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Errors of a group: predicted over measured minus one; coverage: share of rows inside their interval."""

    group: tuple[str, ...]  #: what its rows have in common: GPU, engine, kernel, ...
    rows: int  #: rows compared
    median: float  #: median of the errors' sizes, of 1
    mean: float  #: mean of the errors' sizes, of 1
    p90: float  #: 90th percentile of the errors' sizes, of 1
    bias: float  #: median of the errors with their signs, of 1
    coverage: float  #: share of rows inside their 80 % interval


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation of the sorted values."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[floor(place)], ordered[ceil(place)]
    return low + (high - low) * (place - floor(place))


#: what is compared: measured, predicted, and the ends of its interval
Compared = tuple[float, float, float, float]


def compare(group: tuple[str, ...], cases: Sequence[Compared]) -> Residuals:
    """Return the errors of a group, at least one row."""
    errors = [predicted / measured - 1 for measured, predicted, _, _ in cases]
    sizes = [abs(e) for e in errors]
    inside = sum(low <= measured <= high for measured, _, low, high in cases)
    return Residuals(
        group=group,
        rows=len(errors),
        median=quantile(sizes, 0.5),
        mean=sum(sizes) / len(sizes),
        p90=quantile(sizes, 0.9),
        bias=quantile(errors, 0.5),
        coverage=inside / len(errors),
    )


def summary(group: tuple[str, ...], pairs: Sequence[tuple[KernelRow, Prediction]]) -> Residuals:
    """Return the errors of a group's rows that have a measured time, at least one."""
    return compare(group, [(row.time, p.time, p.low, p.high) for row, p in pairs if row.time])


def by_kernel(pairs: Sequence[tuple[KernelRow, Prediction]]) -> list[Residuals]:
    """Return errors by GPU, engine, kernel and dtype, all rows last."""
    groups: dict[tuple[str, ...], list[tuple[KernelRow, Prediction]]] = {}
    for row, prediction in pairs:
        s = row.shape
        groups.setdefault((s.gpu, s.version, s.kernel, "/".join(s.dtypes)), []).append((row, prediction))
    return [*(summary(g, groups[g]) for g in sorted(groups)), summary(("all", "", "", ""), pairs)]
