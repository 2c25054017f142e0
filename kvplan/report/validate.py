"""`kvplan validate` in words, tables and JSON: errors of predictions by group, which `kvplan calibrate` shows too."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvplan.measuring.residuals import Residuals
from kvplan.report.blocks import Column, Json, Notes, Page, Table, notes, records, schema, table

#: what names a group of rows of kernels, and of end-to-end rows
KERNEL = ("GPU", "engine", "kernel", "dtype")
SERVER = ("GPU", "engine", "model")
#: rows left out of a comparison that the text names
NAMED = 5


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


ERRORS = (
    Column[Residuals](key="group", value=lambda r: list(r.group)),
    Column[Residuals](key="rows", heading="rows", value=lambda r: r.rows, show=lambda n: f"{n:,}"),
    Column[Residuals](key="median", heading="median", value=lambda r: r.median, show=percent),
    Column[Residuals](key="mean", heading="mean", value=lambda r: r.mean, show=percent),
    Column[Residuals](key="p90", heading="P90", value=lambda r: r.p90, show=percent),
    Column[Residuals](key="bias", heading="bias", value=lambda r: r.bias, show=lambda x: f"{100 * x:+.1f}%"),
    Column[Residuals](key="coverage", heading="in 80 %", value=lambda r: r.coverage, show=lambda x: f"{100 * x:.0f}%"),
)
#: the median error of a plain roofline on the same rows
ROOFLINE = (
    Column[Any](key="roofline", heading="roofline", value=lambda r: r.roofline, show=lambda x: f"{100 * x:.0f}%"),
)
LEGEND = (
    "Errors are predicted over measured, minus one: median, mean and P90 of their size; bias is the median with its "
    "sign; in 80 % is the share of rows inside their 80 % interval."
)
BESIDE = "Roofline is the median error of bytes and FLOPs over the datasheet's rates, with nothing fitted."


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
    return notes(f"{len(left):,} {'row was' if len(left) == 1 else 'rows were'} left out, for these reasons", shown)


def page(kind: str, groups: Sequence[Residuals]) -> Page:
    """Return the report of `kvplan validate` on rows of kernels."""
    return Page.of(error_table(f"{kind}: predicted against measured", KERNEL, groups), notes("", [LEGEND]))


def document(kind: str, groups: Sequence[Residuals]) -> Json:
    """Return the document of `kvplan validate` on rows of kernels."""
    return schema("validate", kind=kind, groups=records(ERRORS, groups))


def server_page(metrics: Mapping[str, Sequence[Residuals]], left: Sequence[str]) -> Page:
    """Return the report of `kvplan validate` on end-to-end rows, a table a metric."""
    return Page.of(
        *(error_table(f"{name}: predicted against measured", SERVER, g, ROOFLINE) for name, g in metrics.items()),
        notes("", [LEGEND, BESIDE]),
        left_out(left),
    )


def server_document(profile: str, metrics: Mapping[str, Sequence[Residuals]], left: Sequence[str]) -> Json:
    """Return the document of `kvplan validate` on end-to-end rows."""
    found = {name: records((*ERRORS, *ROOFLINE), groups) for name, groups in metrics.items()}
    return schema("validate", kind="e2e", profile=profile, left_out=list(left), metrics=found)
