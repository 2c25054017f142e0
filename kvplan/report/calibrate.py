"""`kvplan calibrate` in words, tables and JSON: what was fitted and written, or the errors on rows left out."""

from typing import Any

from kvplan.api.calibrate import Calibrated, CheckedKernels, FittedKernels, FittedServers
from kvplan.report import profile
from kvplan.report.blocks import Block, Json, Page, Text, records, schema
from kvplan.report.validate import ERRORS, KERNEL, ROOFLINE, error_table, left_out
from kvplan.units import show_count


def page(answer: Calibrated) -> Page:
    """Return the report of a fit, or of its test; samples of `kvplan profile` read as it says them."""
    if isinstance(answer, FittedKernels):
        fitted = f"{show_count(answer.kernels, 'kernel')} fitted to {show_count(answer.rows, 'row')}"
        return Page.of(Text(f"{fitted} and written to {answer.output}. It is a profile for kvplan predict.", "answer"))
    if isinstance(answer, CheckedKernels):
        return Page.of(*(error_table(name, KERNEL, groups) for name, groups in answer.checks))
    return server_page(answer) if isinstance(answer, FittedServers) else profile.page(answer)


def document(answer: Calibrated) -> Json:
    """Return the document of a fit, or of its test."""
    if isinstance(answer, FittedKernels):
        return schema("calibrate", output=answer.output, fitted=list(answer.parts))
    if isinstance(answer, CheckedKernels):
        checks = [{"left_out": name, "groups": records(ERRORS, groups)} for name, groups in answer.checks]
        return schema("calibrate", checks=checks)
    return server_document(answer) if isinstance(answer, FittedServers) else profile.document(answer)


def server_page(fitted_servers: FittedServers) -> Page:
    """Return the report of a fit of servers, or of its test."""
    prior = f", starting from profile {fitted_servers.shipped}," if fitted_servers.shipped else ""
    rows = show_count(fitted_servers.rows, "row")
    fitted = f"Fitted to {rows}{prior} and written to {fitted_servers.output}."
    text = f"{fitted} It is a profile for kvplan estimate, recommend and predict."
    tables: list[Block] = [
        error_table(
            f"{metric}: errors on held-out rows",
            ("what was measured",),
            [g for g in groups if len(g.group) == 1],
            ROOFLINE,
        )
        for metric, groups in fitted_servers.metrics.items()
    ]
    return Page.of(Text(text, "answer") if fitted_servers.output else None, *tables, left_out(fitted_servers.left))


def server_document(fitted_servers: FittedServers) -> Json:
    """Return the document of a fit of servers."""
    errors: dict[str, Any] = {
        metric: records((*ERRORS, *ROOFLINE), groups) for metric, groups in fitted_servers.metrics.items()
    }
    return schema(
        "calibrate",
        kind="e2e",
        output=fitted_servers.output,
        rows=fitted_servers.rows,
        speculative=None if fitted_servers.speculative is None else list(fitted_servers.speculative),
        not_used=list(fitted_servers.left),
        left_out=errors,
    )
