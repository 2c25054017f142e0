"""`kvplan predict`: predict the times of every kernel call or server load in a file."""

from typing import Any

import click

from kvplan.api.predict import predict
from kvplan.catalog.rows.tables import is_stdout
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.options import examples, path, profiles_option
from kvplan.cli.row_options import kind_option, set_option
from kvplan.errors import SpecError
from kvplan.report.formats import Report


@click.command("predict")
@click.argument("rows", type=path)
@click.option("--output", "-o", required=True, type=path, help="Where the predicted rows go; - is stdout.")
@kind_option
@set_option
@profiles_option
@format_option
@examples(
    "kvplan predict gemm.csv -o predicted.csv",
    "kvplan predict serving.csv -o predicted.csv",
    "kvplan predict result.json --set gpu=h100 --set tp=4 -o predicted.csv",
)
def command(output: str, form: str, **options: Any) -> None:
    """Predict the times of every kernel call, or of every load of a server, in a file.

    Rows keep their order and columns; latency_us or ttft_ms and tpot_ms, each with *_low and *_high (80 % interval),
    and note are added. Measured times in the input are ignored. A result file of a benchmark holds loads.
    """
    aside = is_stdout(output)
    if aside and form != TEXT:
        raise SpecError("--json, --format: the predicted rows go to stdout (-o -); write them to a file")
    from kvplan.report import predict as words

    result = predict(output=output, **options)
    deliver(Report.of(words, result), form, aside=aside)
