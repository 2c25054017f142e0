"""`kvplan techniques`: techniques for a model and a workload: bytes, speed, losses."""

from typing import Any

import click
from click.core import ParameterSource

from kvplan.api.listing import listed
from kvplan.api.techniques import techniques
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, engine_option, examples, online_option, profile_option, techniques_option
from kvplan.report.formats import Report

#: options that say nothing without a model, and how they are written
ALONE = {
    "techniques": "--technique", "gpu": "--gpu", "tp": "--tp", "engine": "--engine", "quality": "--quality",
    "trace": "--trace", "profile": "--profile",
}  # fmt: skip


def given(parameter: str) -> bool:
    """Return whether the command line says what a parameter is."""
    return click.get_current_context().get_parameter_source(parameter) == ParameterSource.COMMANDLINE


@click.command("techniques")
@click.option("--model", "-m", help="A name, hub id (--online), config.json.")
@online_option
@click.option("--workload", "-w", help="A name or YAML file.")
@techniques_option
@click.option("--gpu", "-g", default="h100", metavar="GPU", help="A name or YAML file. [default: h100]")
@click.option("--tp", type=click.IntRange(1), metavar="N", help="Tensor parallelism. Default: the cheapest.")
@engine_option
@click.option("--quality", multiple=True, metavar="FILE", help="Scores of your own model; they win.")
@click.option("--trace", metavar="FILE", help="Requests whose prefixes fill memories beside the GPU.")
@day_option
@profile_option
@format_option
@examples(
    "kvplan techniques",
    "kvplan techniques --model llama3.1-70b --workload doc-qa",
    "kvplan techniques -m llama3.1-8b -w rag -t snapkv:25% -t fp8 --json",
)
def command(model: str | None, workload: str | None, form: str, **options: Any) -> None:
    """Every technique for one model and one workload: bytes, step time, who serves it, what it loses.

    Without a model and a workload: what each technique is, as `kvplan list techniques` prints it.
    """
    if (model is None) is not (workload is None):
        raise click.UsageError("--model and --workload go together, as in --model llama3.1-8b --workload doc-qa")
    if model is None and (lone := next(filter(given, ALONE), None)):
        raise click.UsageError(f"{ALONE[lone]} is of a model and a workload; give --model and --workload with it")
    if model is None or workload is None:
        from kvplan.report import listing as known

        listing = listed("techniques")
        arguments = (listing.kind, listing.things, listing.day)
        deliver(Report(lambda: known.page(*arguments), lambda: known.document(*arguments)), form)
        return
    from kvplan.report import techniques as words

    answer = techniques(model, workload, **options)
    refusal = "" if answer.estimate.feasible else f"no technique can be served: {answer.rows[0].row.reason}"
    deliver(Report.of(words, answer), form, refusal)
