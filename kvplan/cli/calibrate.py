"""`kvplan calibrate`: fit kernels or servers to measured rows and write a profile."""

from typing import Any

import click

from kvplan.api.calibrate import TIERS, calibrate
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples, path
from kvplan.cli.row_options import kind_option, prometheus_options, set_option
from kvplan.cli.waiting import waiting
from kvplan.report.formats import Report


@click.command("calibrate")
@click.argument("rows", nargs=-1, type=path)
@click.option("--metrics", metavar="URL", help="A live server's metrics, one row; --prometheus URL: docs/loop.md.")
@prometheus_options(hidden=True)
@click.option("--window", default="30s", metavar="TIME", help="How long it is watched. [default: 30s]")
@click.option("--output", "-o", type=path, help="Where the profile goes (YAML).")
@click.option("--check", is_flag=True, help="Report errors on rows and shapes left out of the fit; no profile.")
@kind_option
@click.option("--gpu", "-g", help="Only the rows of this GPU.")
@click.option("--name", help="Name of the profile. Default: the output file's.")
@click.option("--title", help="One line that says what it is.")
@click.option("--ref", help="Where the rows come from. Default: the files' names.")
@click.option("--on", metavar="DATE", help="Day the rows were obtained (YYYY-MM-DD). Default: today.")
@click.option("--tier", type=OneOf(TIERS), default=TIERS[1], help="Where they were measured.")
@set_option
@click.option("--from-scratch", is_flag=True, help="End-to-end rows: do not start from the shipped profile.")
@click.option(
    "--speculative",
    multiple=True,
    metavar='"ENGINE VERSION"',
    help="End-to-end rows: a version that ran speculative decoding. Default, from scratch: found by its times.",
)
@format_option
@examples(
    "kvplan calibrate serving.csv -o mine.yaml",
    "kvplan calibrate gemm.csv decode_attention.csv -o mine.yaml",
    "kvplan predict gemm.csv -o predicted.csv --profile mine.yaml",
)  # fmt: skip
def command(output: str | None, check: bool, form: str, **options: Any) -> None:
    """Fit kernels or servers to measured rows and write a profile for --profile.

    A profile holds coefficients with their meaning, never rows. The same rows give the same file, and so do the samples
    of `kvplan profile`, which are fitted as it fits them. End-to-end rows move the shipped profile's servers; a few of
    your own are enough.
    """
    if (output is None) != check:
        raise click.UsageError("give -o FILE to write a profile, or --check to test the fit")
    from kvplan.report import calibrate as words

    with waiting() as progress:

        def counted(done: int, total: int, name: str) -> None:
            if progress is not None:
                progress(done / total, f"{done} of {total}: {name}")

        result = calibrate(output=output, progress=counted, told=say, **options)
    deliver(Report.of(words, result), form)
