"""`kvplan evaluate`: run a real model under techniques; measure answers and cache."""

import sys
import time
from typing import Any

import click

from kvplan.api.evaluate import DTYPES, MOST_ASKED, MOST_TEXTS, POSITIONS, QUESTIONS, TASKS, TECHNIQUES, evaluate
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.options import examples, path
from kvplan.report.formats import Report

#: longest that a progress bar reckons with [s]
FOREVER = 1e6


@click.command("evaluate")
@click.option("--model", "-m", required=True, metavar="FOLDER", help="A folder with weights, or recall (shipped).")
@click.option(
    "--technique", "-t", "techniques", multiple=True, metavar="NAME",
    help="mhc:4x, h2o:20%, random:20% (a control) ...; repeatable.",
)  # fmt: skip
@click.option(
    "--tasks", default=",".join(TASKS), show_default=True, metavar="NAMES",
    help="Also agreement, divergence, perplexity, copy, speculation.",
)  # fmt: skip
@click.option("--lengths", default="480", show_default=True, metavar="TOKENS", help="Of the texts: 512,4k.")
@click.option("--question", type=OneOf(QUESTIONS), default="unseen", help="Before compression. Default: unseen.")
@click.option("--samples", type=click.IntRange(2, MOST_TEXTS), default=24, show_default=True, help="Texts of a length.")
@click.option("--questions", type=click.IntRange(1, MOST_ASKED), default=4, show_default=True, help="To each text.")
@click.option("--batch", "-b", type=click.IntRange(1, MOST_ASKED), default=1, show_default=True, help="Texts together.")
@click.option("--positions", type=OneOf(POSITIONS), help="Of StreamingLLM: in the cache, or in the text.")
@click.option("--latents", type=path, metavar="FOLDER", help="What kvplan compress wrote. Default: learned now.")
@click.option("--text", type=path, metavar="FILE", help="Running text for perplexity. Default: the answers.")
@click.option("--dtype", type=OneOf(DTYPES), help="Of the weights. Default: the file's.")
@click.option("--profile", type=path, metavar="FILE", help="Of kvplan profile --device cpu: its times beside these.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of texts and intervals.")
@click.option("--output", "-o", type=path, metavar="FILE", help="Where recommend finds the scores: quality.yaml.")
@format_option
@examples(
    "kvplan evaluate --model ./my-model -t h2o:20% --samples 4 -o quality.yaml",
    "kvplan evaluate -m recall -t h2o:20% -t random:20% --samples 6",
)
def command(form: str, techniques: tuple[str, ...], **options: Any) -> None:
    """Run a real model under techniques and measure its answers and its cache.

    Needs the extra hf (torch, transformers). Ctrl-C keeps what is measured.
    """
    from kvplan.report import evaluate as words
    from kvplan.report.progress import bar

    if sys.stderr.isatty():
        say("loads torch and the model")
    with bar(time.monotonic, time.monotonic() + FOREVER, say) as progress:
        result = evaluate(techniques=techniques or TECHNIQUES, progress=progress, **options)
    deliver(Report.of(words, result), form)
    if result.outcome.stopped:
        raise click.exceptions.Exit(130)
