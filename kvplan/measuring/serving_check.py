"""How far predictions of end-to-end rows lie from measurements: by server and model, and beside a plain roofline."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, isnan

from kvplan.errors import SpecError
from kvplan.measuring.residuals import Compared, Residuals, compare, quantile
from kvplan.measuring.servers import ServerRow
from kvplan.measuring.serving_fit import LeftOut
from kvplan.measuring.serving_predict import PredictedRow, predict, roofline
from kvplan.specs.calibration import Range
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import SEEN, SUPPORT, ServingProfile, stood_on

METRICS = ("TPOT", "TTFT")


@dataclass(frozen=True, kw_only=True)
class Beside(Residuals):
    """Errors of a group, and the median error of a plain roofline on the same rows."""

    roofline: float  #: median size of a plain roofline's errors on the same rows, of 1


def by_server(rows: Sequence[ServerRow], profile: ServingProfile, engine: Engine) -> Mapping[str, list[Beside]]:
    """Return errors of TPOT and TTFT by GPU, engine and model, all rows last."""
    found = [p for p in predict(rows, profile, engine) if isinstance(p, PredictedRow)]
    if not found:
        raise SpecError("no row can be predicted; kvplan predict says why in each row's note")
    plain = roofline([p.row for p in found], engine)
    groups: dict[tuple[str, ...], list[tuple[PredictedRow, tuple[float, float]]]] = {}
    for p, ideal in zip(found, plain, strict=True):
        groups.setdefault((p.row.gpu.name, p.row.engine, p.row.model.name), []).append((p, ideal))
    ordered = [(g, groups[g]) for g in sorted(groups)]
    ordered.append((("all", "", ""), list(zip(found, plain, strict=True))))
    made: dict[str, list[Beside]] = {}
    for metric in METRICS:
        compared = [(group, [_compared(metric, p, ideal) for p, ideal in mine]) for group, mine in ordered]
        told = [(group, [c for c in cases if c[0][0] > 0]) for group, cases in compared]
        made[metric] = [_beside(group, cases) for group, cases in told if cases]
    return {metric: groups for metric, groups in made.items() if groups}


def _compared(metric: str, p: PredictedRow, ideal: tuple[float, float]) -> tuple[Compared, float]:
    if metric == "TPOT":
        return (p.row.tpot or 0.0, p.tpot, *p.tpot_range), ideal[1]
    return (p.row.ttft or 0.0, p.ttft, *p.ttft_range), ideal[0]


def _beside(group: tuple[str, ...], cases: Sequence[tuple[Compared, float]]) -> Beside:
    plain = quantile([abs(ideal / c[0] - 1) for c, ideal in cases], 0.5)
    return Beside(**asdict(compare(group, [c for c, _ in cases])), roofline=plain)


def held_out(
    found: Sequence[LeftOut], ranges: Mapping[str, tuple[Range, Range]], engine: Engine
) -> dict[str, list[Beside]]:
    """Return errors of TPOT and TTFT on rows left out, coverage of the intervals they led to, and a roofline's error.

    A group is (what else was measured, in words,) for all rows, and (the same, GPU, engine, model).
    """
    made: dict[str, list[Beside]] = {}
    for out in found:
        if not out.rows:
            continue
        plain = roofline(out.rows, engine)
        for j, metric in enumerate(METRICS):
            groups: dict[tuple[str, ...], list[tuple[Compared, float]]] = {(): []}
            for row, ratio, ideal in zip(out.rows, out.ratio[:, j].tolist(), plain, strict=True):
                if isnan(ratio):
                    continue
                own = ranges.get(stood_on(out.what, row.who, own=True)) if out.what == SEEN else None
                between = (own or ranges.get(stood_on(out.what, row.who)) or ranges[out.what])[j]
                measured = (row.tpot, row.ttft)[j] or 1.0
                case = ((exp(ratio), 1.0, between.low, between.high), exp(ratio) * ideal[1 - j] / measured)
                groups[()].append(case)
                groups.setdefault((row.gpu.name, row.engine, row.model.name), []).append(case)
            words = SUPPORT[out.what]
            made.setdefault(metric, []).extend(_beside((words, *g), groups[g]) for g in sorted(groups) if groups[g])
    return made
