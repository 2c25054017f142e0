"""`kvplan calibrate` in words, tables and JSON: what was fitted and written, or the errors on rows left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.measuring.residuals import Residuals
from kvplan.report.blocks import Block, Json, Page, Text, records, schema
from kvplan.report.validate import ERRORS, KERNEL, ROOFLINE, error_table, left_out

#: rows left out of a fit, and the errors on them
Checks = Sequence[tuple[str, Sequence[Residuals]]]


@dataclass(frozen=True, kw_only=True)
class FittedServers:
    """A fit of servers: where its profile is (nowhere when it was only tested) and the errors on rows left out.

    `shipped` is the profile it stands on, '' for none; `speculative` the engine versions with speculative decoding.
    """

    rows: int
    output: str | None
    shipped: str
    speculative: Sequence[str] | None
    metrics: Mapping[str, Sequence[Residuals]]
    left: Sequence[str]


def page(kernels: int, rows: int, output: str) -> Page:
    """Return the report of a fit of kernels."""
    return Page.of(
        Text(f"{kernels} kernels from {rows:,} rows in {output}; predict with --profile {output}.", "answer")
    )


def document(fitted: Sequence[Json], output: str) -> Json:
    """Return the document of a fit of kernels: each part with its errors on rows left out."""
    return schema("calibrate", output=output, fitted=list(fitted))


def check_page(checks: Checks) -> Page:
    """Return the report of `kvplan calibrate --check` on rows of kernels."""
    return Page.of(*(error_table(name, KERNEL, groups) for name, groups in checks))


def check_document(checks: Checks) -> Json:
    """Return the document of `kvplan calibrate --check` on rows of kernels."""
    found = [{"left_out": name, "groups": records(ERRORS, groups)} for name, groups in checks]
    return schema("calibrate", checks=found)


def server_page(found: FittedServers) -> Page:
    """Return the report of a fit of servers, or of its test."""
    under = f" on top of {found.shipped}" if found.shipped else ""
    said = f"{found.rows:,} rows{under} in {found.output}; predict with --profile {found.output}."
    tables: list[Block] = [
        error_table(
            f"{metric}: rows left out of the fit",
            ("what was measured",),
            [g for g in groups if len(g.group) == 1],
            ROOFLINE,
        )
        for metric, groups in found.metrics.items()
    ]
    return Page.of(Text(said, "answer") if found.output else None, *tables, left_out(found.left))


def server_document(found: FittedServers) -> Json:
    """Return the document of a fit of servers."""
    errors: dict[str, Any] = {metric: records((*ERRORS, *ROOFLINE), groups) for metric, groups in found.metrics.items()}
    return schema(
        "calibrate",
        kind="e2e",
        output=found.output,
        rows=found.rows,
        speculative=None if found.speculative is None else list(found.speculative),
        not_used=list(found.left),
        left_out=errors,
    )
