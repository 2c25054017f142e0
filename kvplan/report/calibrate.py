"""`kvplan calibrate` in words, tables and JSON: what was fitted and written, or the errors on rows left out."""

from typing import Any

from kvplan.api.calibrate import Calibrated, CheckedKernels, FittedKernels, FittedServers
from kvplan.report import profile
from kvplan.report.blocks import Block, Json, Page, Text, records, schema
from kvplan.report.validate import ERRORS, KERNEL, ROOFLINE, error_table, left_out


def page(found: Calibrated) -> Page:
    """Return the report of a fit, or of its test; samples of `kvplan profile` read as it says them."""
    if isinstance(found, FittedKernels):
        said = f"{found.kernels} kernels from {found.rows:,} rows in {found.output}"
        return Page.of(Text(f"{said}, a profile for kvplan predict.", "answer"))
    if isinstance(found, CheckedKernels):
        return Page.of(*(error_table(name, KERNEL, groups) for name, groups in found.checks))
    return server_page(found) if isinstance(found, FittedServers) else profile.page(found)


def document(found: Calibrated) -> Json:
    """Return the document of a fit, or of its test."""
    if isinstance(found, FittedKernels):
        return schema("calibrate", output=found.output, fitted=list(found.parts))
    if isinstance(found, CheckedKernels):
        checks = [{"left_out": name, "groups": records(ERRORS, groups)} for name, groups in found.checks]
        return schema("calibrate", checks=checks)
    return server_document(found) if isinstance(found, FittedServers) else profile.document(found)


def server_page(found: FittedServers) -> Page:
    """Return the report of a fit of servers, or of its test."""
    under = f" on top of {found.shipped}" if found.shipped else ""
    said = f"{found.rows:,} rows{under} in {found.output}, a profile for kvplan estimate, recommend and predict."
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
