"""`kvplan validate` in words, tables and JSON: errors of predictions by group, which `kvplan calibrate` shows too."""

from collections.abc import Callable, Sequence
from typing import Any

from kvplan.api.validate import KernelErrors, ServerErrors
from kvplan.measuring.residuals import Residuals
from kvplan.measuring.serving.predict import PredictedRow
from kvplan.report.blocks import Column, Json, Notes, Page, Table, Text, notes, records, schema, table
from kvplan.units import show_count, show_percent, show_time

#: what names a group of rows of kernels, and of end-to-end rows
KERNEL = ("GPU", "engine", "kernel", "dtype")
SERVER = ("GPU", "engine", "model")
#: rows left out of a comparison that the text names
NAMED = 5


def percent(share: float) -> str:
    """Return a share in percent, with one digit."""
    return show_percent(share, 1)


ERRORS = (
    Column[Residuals](key="group", value=lambda r: list(r.group)),
    Column[Residuals](key="rows", heading="rows", value=lambda r: r.rows, show=lambda n: f"{n:,}"),
    Column[Residuals](key="median", heading="median", value=lambda r: r.median, show=percent),
    Column[Residuals](key="mean", heading="mean", value=lambda r: r.mean, show=percent),
    Column[Residuals](key="p90", heading="P90", value=lambda r: r.p90, show=percent),
    Column[Residuals](key="bias", heading="bias", value=lambda r: r.bias, show=lambda x: show_percent(x, 1, True)),
    Column[Residuals](key="coverage", heading="in 80 %", value=lambda r: r.coverage, show=show_percent),
)
#: the median error of a plain roofline on the same rows
ROOFLINE = (Column[Any](key="roofline", heading="roofline", value=lambda r: r.roofline, show=show_percent),)
LEGEND = (
    "An error is predicted over measured, minus one. median, mean and P90: of its absolute value; bias: its median "
    "with the sign; in 80 %: the share of rows inside their 80 % interval."
)
BESIDE = "roofline: the median error of bytes and FLOPs divided by the datasheet's rates, with nothing fitted."


def named(names: Sequence[str]) -> tuple[Column[Residuals], ...]:
    """Return the columns that name a group."""

    def column(n: int, name: str) -> Column[Residuals]:
        return Column(heading=name, value=lambda r: r.group[n].replace("bfloat16", "bf16"), align="left")

    return tuple(column(n, name) for n, name in enumerate(names))


def error_table(
    title: str, names: Sequence[str], groups: Sequence[Residuals], more: Sequence[Column[Any]] = ()
) -> Table:
    """Return errors by group."""
    return table(title, (*named(names), *ERRORS, *more), groups, keys=len(names))


def left_out(left: Sequence[str]) -> Notes:
    """Return why rows were left out of a comparison, the first few."""
    shown = [*left[:NAMED], *(["..."] if len(left) > NAMED else [])]
    return notes(
        f"{show_count(len(left), 'row')} {'was' if len(left) == 1 else 'were'} not compared, for these reasons", shown
    )


def times(
    name: str, pick: Callable[[PredictedRow], tuple[float | None, float, tuple[float, float]]]
) -> list[Column[PredictedRow]]:
    """Return the columns of a measured and a predicted time, its 80 % interval as factors. [s]"""
    key = name.lower()

    def predicted(p: PredictedRow) -> str:
        _, value, (low, high) = pick(p)
        return f"{show_time(value)} ({low / value:.2f} to {high / value:.2f})"

    return [
        Column(key=f"{key}.measured", heading=name, value=lambda p: pick(p)[0], show=show_time, absent=""),
        Column(key=f"{key}.predicted", heading=f"{name} predicted (80 %)", value=lambda p: pick(p)[1], cell=predicted),
        Column(key=f"{key}.low", value=lambda p: pick(p)[2][0]),
        Column(key=f"{key}.high", value=lambda p: pick(p)[2][1]),
    ]


def load(p: PredictedRow) -> str:
    """Return a row's tokens, both means rounded down, and its load: requests in flight, or a second."""
    row = p.row
    offered = f"{row.rate:g}/s" if row.rate and not row.concurrency else f"{row.concurrency:g}"
    return f"{row.prompt:,} + {int(row.output):,}, {offered}"


#: a row beside its prediction
ROW = (
    Column[PredictedRow](key="line", heading="row", value=lambda p: p.row.line, align="left"),
    Column[PredictedRow](key="model", heading="model", value=lambda p: p.row.model.name, align="left"),
    Column[PredictedRow](key="gpu", value=lambda p: p.row.gpu.name),
    Column[PredictedRow](key="engine", value=lambda p: p.row.engine),
    Column[PredictedRow](key="basis", value=lambda p: p.basis),
    Column[PredictedRow](heading="tokens, load", value=load, align="left"),
    *times("TTFT", lambda p: (p.row.ttft, p.ttft, p.ttft_range)),
    *times("TPOT", lambda p: (p.row.tpot, p.tpot, p.tpot_range)),
)


def answer(what: str, whole: Residuals) -> Text:
    """Return how far predictions of all rows are off, and how often their intervals hold; of one row, whether."""
    if whole.rows == 1:
        way = "low" if whole.bias < 0 else "high"
        where = "inside" if whole.coverage else "outside"
        off = f"is {percent(whole.median)} too {way}, the measured time"
        return Text(f"{what}: the prediction {off} {where} its 80 % interval.", "answer")
    side = "" if not whole.bias else ", most too low" if whole.bias < 0 else ", most too high"
    return Text(
        f"{what}: predictions are {percent(whole.median)} off the {show_count(whole.rows, 'measured time')} at the "
        f"median, {percent(whole.p90)} at P90{side}; {show_percent(whole.coverage)} are inside their 80 % interval.",
        "answer",
    )


def page(errors: KernelErrors | ServerErrors) -> Page:
    """Return the report of `kvplan validate`: a table of kernels, or few rows of servers and a table a metric."""
    if isinstance(errors, KernelErrors):
        title = f"{errors.kind}: predicted against measured"
        table_of_errors = error_table(title, KERNEL, errors.groups)
        return Page.of(answer(errors.kind, errors.groups[-1]), table_of_errors, notes("", [LEGEND]))
    return Page.of(
        (answer(name, g[-1]) for name, g in errors.metrics.items() if g),
        table("measured and predicted", ROW, errors.few) if errors.few else None,
        *(
            error_table(f"{name}: predicted against measured", SERVER, g, ROOFLINE)
            for name, g in errors.metrics.items()
        ),
        notes("", [LEGEND, BESIDE]),
        left_out(errors.left),
    )


def document(errors: KernelErrors | ServerErrors) -> Json:
    """Return the document of `kvplan validate`."""
    if isinstance(errors, KernelErrors):
        return schema("validate", kind=errors.kind, groups=records(ERRORS, errors.groups))
    metrics = {name: records((*ERRORS, *ROOFLINE), groups) for name, groups in errors.metrics.items()}
    return schema(
        "validate",
        kind="e2e",
        profile=errors.profile,
        left_out=list(errors.left),
        metrics=metrics,
        rows=records(ROW, errors.few),
    )
