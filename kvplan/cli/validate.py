"""`kvplan validate`: predictions against the measured times of a file."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from kvplan.cli.common import deliver, examples, json_option, path
from kvplan.cli.kernel_rows import (
    holds_servers,
    kind_option,
    load,
    predictor,
    profile_option,
    refuse_settings,
    set_option,
)
from kvplan.measuring.residuals import Residuals, by_kernel

HEADINGS = ["GPU", "engine", "kernel", "dtype", "rows", "median", "mean", "P90", "bias", "in 80%"]
#: longest kernel name a table has room for
KERNEL_WIDTH = 18


def line(found: Residuals) -> list[str]:
    """Return a group's errors as a table shows them."""
    shares = (found.median, found.mean, found.p90)
    shown = [*(f"{100 * s:.1f}%" for s in shares), f"{100 * found.bias:+.1f}%", f"{100 * found.coverage:.0f}%"]
    gpu, engine, kernel, dtype = found.group
    short = kernel if len(kernel) <= KERNEL_WIDTH else f"{kernel[: KERNEL_WIDTH - 2]}.."
    return [gpu, engine, short, dtype.replace("bfloat16", "bf16"), f"{found.rows:,}", *shown]


def table(title: str, groups: Sequence[Residuals]) -> list[object]:
    """Return a report's table of errors by group."""
    from kvplan.report import tables

    sides = ["left"] * 4 + ["right"] * (len(HEADINGS) - 4)
    made = tables.grid(*zip(HEADINGS, sides, strict=True), title=title)
    for found in groups:
        made.add_row(*line(found))
    return [made]


@click.command("validate")
@click.argument("rows", type=path)
@kind_option
@set_option
@profile_option
@json_option
@examples("kvplan validate gemm.csv", "kvplan validate serving.csv", "kvplan validate result.json --set gpu=h100")
def command(rows: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool) -> None:
    """Compare predictions with the measured times of a file, by GPU, engine, and kernel and dtype or model.

    Errors are predicted over measured, minus one; "in 80%" counts rows inside their 80 % interval. Beside end-to-end
    rows stands the median error of a plain roofline: bytes and FLOPs over the datasheet's rates, nothing fitted.
    """
    if holds_servers(rows, kind):
        validate_servers(rows, kind, given, profiles, as_json)
        return
    refuse_settings(given)
    found, _, _, parsed = load(rows, kind, measured=True)
    oracle = predictor(profiles)
    groups = by_kernel([(row, oracle.predict(row.shape)) for row in parsed])

    def document() -> dict[str, object]:
        return {"schema": 1, "command": "validate", "kind": found.name, "groups": [asdict(g) for g in groups]}

    deliver(as_json, document, lambda: table(f"{found.name}: predicted against measured", groups))


SERVER_HEADINGS = ["GPU", "engine", "model", "rows", "median", "mean", "P90", "bias", "in 80%", "roofline"]


def validate_servers(
    word: str, kind: str | None, given: dict[str, str], profiles: tuple[str, ...], as_json: bool
) -> None:
    """Compare end-to-end rows with their predictions and with a plain roofline."""
    from kvplan.cli.server_rows import profile_of, read_table, usable
    from kvplan.measuring.serving_check import by_server
    from kvplan.specs import catalog

    profile = profile_of(profiles)
    rows, left = usable([read_table(word, kind, given, measured=True)])
    metrics = by_server(rows, profile, catalog.engine())

    def document() -> dict[str, object]:
        errors = {name: [asdict(g) for g in groups] for name, groups in metrics.items()}
        said = {"schema": 1, "command": "validate", "kind": "e2e", "profile": profile.name}
        return {**said, "left_out": left, "metrics": errors}

    def report() -> list[object]:
        parts = []
        for name, groups in metrics.items():
            lines = [server_line(g.group, g, g.roofline) for g in groups]
            parts += server_table(f"{name}: predicted against measured", SERVER_HEADINGS, lines)
        return [*parts, *left_lines(left)]

    deliver(as_json, document, report)


def server_line(group: Sequence[str], found: Residuals, *more: float) -> list[str]:
    """Return a group's errors as a table shows them, and more shares after them."""
    shares = (found.median, found.mean, found.p90)
    shown = [*(f"{100 * s:.1f}%" for s in shares), f"{100 * found.bias:+.1f}%"]
    return [*group, f"{found.rows:,}", *shown, f"{100 * found.coverage:.0f}%", *(f"{100 * s:.0f}%" for s in more)]


def server_table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[object]:
    from kvplan.report import tables

    texts = headings.index("rows")
    made = tables.grid(*zip(headings, ["left"] * texts + ["right"] * (len(headings) - texts), strict=True), title=title)
    for cells in lines:
        made.add_row(*cells)
    return [made]


def left_lines(left: Sequence[str]) -> list[object]:
    """Return what rows were left out for, the first few."""
    shown = [f"{len(left):,} rows left out: they cannot be compared"] if left else []
    return [*shown, *left[:5], *(["..."] if len(left) > 5 else [])]
