"""How far predictions of end-to-end rows lie from measurements: by server and model, and beside a plain roofline."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, isnan

from kvplan.errors import SpecError
from kvplan.measuring.residuals import Compared, Residuals, compare, quantile
from kvplan.measuring.serving.holdout import HeldOut
from kvplan.measuring.serving.predict import PredictedRow, predict, roofline
from kvplan.measuring.serving.rows import ServerRow
from kvplan.specs.calibration import Range
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import SUPPORT, ServingProfile, named_range

METRICS = ("TPOT", "TTFT")
#: time of a whole batch, which some tools measure alone
E2E = "E2E"


@dataclass(frozen=True, kw_only=True)
class Beside(Residuals):
    """Errors of a group, and the median error of a plain roofline on the same rows."""

    roofline: float  #: median size of a plain roofline's errors on the same rows, of 1


def by_server(rows: Sequence[ServerRow], profile: ServingProfile, engine: Engine) -> Mapping[str, list[Beside]]:
    """Return errors of TPOT and TTFT by GPU, engine and model, all rows last. [metric][group]"""
    predicted = [p for p in predict(rows, profile, engine) if isinstance(p, PredictedRow)]
    if not predicted:
        raise SpecError("no row can be predicted; kvplan predict says why in each row's note")
    pairs = list(zip(predicted, roofline([p.row for p in predicted], engine), strict=True))
    groups: dict[tuple[str, ...], list[tuple[PredictedRow, tuple[float, float]]]] = {}
    for p, ideal in pairs:
        groups.setdefault((p.row.gpu.name, p.row.engine, p.row.model.name), []).append((p, ideal))
    ordered = [*((group, groups[group]) for group in sorted(groups)), (("all", "", ""), pairs)]
    errors: dict[str, list[Beside]] = {}
    for metric in (*METRICS, E2E):
        cases = [(group, [_compared(metric, p, ideal) for p, ideal in mine]) for group, mine in ordered]
        measured = [(group, [c for c in each if c[0][0] > 0]) for group, each in cases]
        errors[metric] = [_beside(group, each) for group, each in measured if each]
    return {metric: groups for metric, groups in errors.items() if groups}


def _compared(metric: str, p: PredictedRow, ideal: tuple[float, float]) -> tuple[Compared, float]:
    if metric == "TPOT":
        return (p.row.tpot or 0.0, p.tpot, *p.tpot_range), ideal[1]
    if metric == E2E:
        whole = ideal[0] + (p.row.output - 1) * ideal[1]
        return (p.row.latency or 0.0, p.latency, *p.latency_range), whole
    return (p.row.ttft or 0.0, p.ttft, *p.ttft_range), ideal[0]


def _beside(group: tuple[str, ...], cases: Sequence[tuple[Compared, float]]) -> Beside:
    plain = quantile([abs(ideal / c[0] - 1) for c, ideal in cases], 0.5)
    return Beside(**asdict(compare(group, [c for c, _ in cases])), roofline=plain)


def held_out_errors(
    parts: Sequence[HeldOut], ranges: Mapping[str, tuple[Range, Range]], engine: Engine
) -> dict[str, list[Beside]]:
    """Return errors of TPOT and TTFT on rows held out, coverage of the intervals they led to, and a roofline's error.

    [metric][group]. A group is (what else was measured, in words,) for all rows, and (the same, GPU, engine, model).
    """
    errors: dict[str, list[Beside]] = {}
    for part in parts:
        if not part.rows:
            continue
        plain = roofline(part.rows, engine)
        for j, metric in enumerate(METRICS):
            groups: dict[tuple[str, ...], list[tuple[Compared, float]]] = {(): []}
            for row, ratio, ideal in zip(part.rows, part.log_ratio[:, j].tolist(), plain, strict=True):
                if isnan(ratio):
                    continue
                interval = named_range(ranges, part.basis, row.identity)[j]
                measured = (row.tpot, row.ttft)[j] or 1.0
                case = ((exp(ratio), 1.0, interval.low, interval.high), exp(ratio) * ideal[1 - j] / measured)
                groups[()].append(case)
                groups.setdefault((row.gpu.name, row.engine, row.model.name), []).append(case)
            words = SUPPORT[part.basis]
            errors.setdefault(metric, []).extend(_beside((words, *g), groups[g]) for g in sorted(groups) if groups[g])
    return errors
