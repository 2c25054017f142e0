"""`kvplan validate`: predictions against the measured times of a file."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.cli.kernel_rows import kind_option, load, predictor, profile_option
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
@click.argument("rows", type=click.Path())
@kind_option
@profile_option
@json_option
@examples("kvplan validate gemm.csv")
def command(rows: str, kind: str | None, profiles: tuple[str, ...], as_json: bool) -> None:
    """Compare predictions with the measured times of a CSV file, by GPU, engine, kernel and dtype.

    Errors are predicted over measured, minus one; the last column counts rows inside their 80 % interval.
    """
    found, _, _, parsed = load(rows, kind, measured=True)
    oracle = predictor(profiles)
    groups = by_kernel([(row, oracle.predict(row.shape)) for row in parsed])

    def document() -> dict[str, object]:
        return {"schema": 1, "command": "validate", "kind": found.name, "groups": [asdict(g) for g in groups]}

    deliver(as_json, document, lambda: table(f"{found.name}: predicted against measured", groups))
