"""`kvplan compress`: learn the latents of a model's keys and values, and write them."""

import sys
import time
from typing import Any

import click

from kvplan.api.compress import FROM, MOST_STEPS, compress
from kvplan.api.evaluate import DTYPES
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples, path
from kvplan.report.formats import Report

#: longest that a progress bar reckons with [s]
FOREVER = 1e6


@click.command("compress")
@click.option("--model", "-m", required=True, metavar="FOLDER", help="A folder with weights, or recall (shipped).")
@click.option("--technique", "-t", required=True, metavar="NAME", help="One with latents: mhc:4x, mhc:4x+h2o:20%.")
@click.option("--output", "-o", required=True, type=path, metavar="FOLDER", help="Where the latents go.")
@click.option("--from", "learn_from", type=OneOf(FROM), default="texts", show_default=True, help="Learned from.")
@click.option("--energy", metavar="SHARE", help="As narrow as keeps 95% of the variance; -t mhc then.")
@click.option(
    "--heal", type=click.IntRange(0, MOST_STEPS), default=0, metavar="STEPS", help="Distil for so many steps."
)
@click.option("--dtype", type=OneOf(DTYPES), help="Of the weights. Default: the file's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the calibration texts.")
@format_option
@examples(
    "kvplan compress --model ./my-model -t mhc:4x -o my-latents", "kvplan compress -m recall -t mhc:2x -o latents"
)
def command(form: str, **options: Any) -> None:
    """Learn the latents of a model's keys and values (MHC) and write them beside it.

    Needs the extra hf (torch, transformers). The model's own weights stay as they are.
    """
    from kvplan.report import compress as words
    from kvplan.report.progress import bar

    if sys.stderr.isatty():
        say("loads torch and the model")
    with bar(time.monotonic, time.monotonic() + FOREVER, say) as progress:
        result = compress(progress=progress, **options)
    deliver(Report.of(words, result), form)
