"""`kvplan validate`: compare predictions with the measured times of a file."""

from typing import Any

import click

from kvplan.api.validate import validate
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples, path, profiles_option
from kvplan.cli.row_options import kind_option, set_option
from kvplan.report.formats import Report


@click.command("validate")
@click.argument("rows", type=path)
@kind_option
@set_option
@profiles_option
@format_option
@examples("kvplan validate gemm.csv", "kvplan validate serving.csv", "kvplan validate result.json --set gpu=h100")
def command(form: str, **options: Any) -> None:
    """Compare predictions with the measured times of a file, by GPU, engine, and kernel and dtype or model.

    Errors are predicted over measured, minus one; "in 80 %" counts rows inside their 80 % interval. Beside end-to-end
    rows stands the median error of a plain roofline: bytes and FLOPs over the datasheet's rates, nothing fitted.
    """
    from kvplan.report import validate as words

    result = validate(**options)
    deliver(Report.of(words, result), form)
