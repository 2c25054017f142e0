"""`kvplan estimate`: compare techniques and GPUs: memory, speed, cost."""

from typing import Any

import click

from kvplan.api.estimate import at_contexts, estimate
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import (
    as_option,
    context_option,
    day_option,
    engine_option,
    examples,
    gpus_option,
    model_option,
    price_option,
    prices_option,
    profile_option,
    replica_options,
    techniques_option,
)
from kvplan.cli.server_options import running_options
from kvplan.report.formats import Report


@click.command("estimate")
@model_option
@as_option
@context_option
@gpus_option
@techniques_option
@click.option(
    "--output",
    "--osl",
    metavar="TOKENS",
    help="Generated tokens, of the context. [default: 512]",
)
@click.option("--ttft", metavar="TIME", help="Limit of the mean TTFT, or none. [default: by the prompt]")
@click.option("--tpot", metavar="TIME", help="Limit of the mean TPOT, or none. [default: 50ms]")
@replica_options
@engine_option
@running_options()
@price_option
@prices_option
@day_option
@click.option("--explain", is_flag=True, help="The memory equation, and where a step's time goes.")
@profile_option
@format_option
@examples(
    "kvplan estimate --model llama3.1-70b --context 128k",
    "kvplan estimate -m ./config.json -c 32k -g h200 -t mhc:4x+h2o:20%",
)
def command(explain: bool, form: str, **options: Any) -> None:
    """Every technique at one context: bytes, GPUs, time, money, quality.

    Without --gpu all are compared, and the cheapest measured one is shown.
    """
    from kvplan.report import estimate as words
    from kvplan.report.drawings import what_if

    result = estimate(**options)
    report = Report(
        lambda: words.page(result, explain),
        lambda: words.document(result, explain),
        lambda: [what_if(at_contexts(options, result), result)],
    )
    deliver(report, form, "" if result.feasible else f"no technique can be served: {result.rows[0].reason}")
