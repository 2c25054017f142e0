"""`kvplan load`: load a server: percentiles, cost, largest load within limits."""

from typing import Any

import click
from click.core import ParameterSource

from kvplan.api.capacity import capacity
from kvplan.api.load import load
from kvplan.api.values import MOST_REQUESTS
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.help import hidden
from kvplan.cli.options import (
    confidence_option,
    day_option,
    engine_option,
    examples,
    long_context_option,
    model_option,
    price_option,
    prices_option,
    profile_option,
    replica_options,
    spares_option,
)
from kvplan.cli.server_options import (
    closed_option,
    drafting_options,
    limit_options,
    running_options,
    split_option,
    technique_option,
)
from kvplan.errors import WrongUse
from kvplan.report.formats import Report


@click.command("load")
@model_option
@click.option("--gpu", "-g", required=True, help="A GPU name, alias or YAML file.")
@click.option("--isl", metavar="TOKENS", help="Tokens of a prompt.")
@click.option("--osl", metavar="TOKENS", help="Tokens of an answer.")
@click.option("--lengths", default="spread", metavar="KIND", help="spread, or exact: answers alike.", hidden=True)
@click.option("--workload", "-w", help="Instead: a workload, served by --gpus GPUs,")
@click.option("--gpus", type=click.IntRange(1, MOST_REQUESTS), metavar="N", help="for the queries a day they serve.")
@closed_option("Closed loop: requests in flight.")
@click.option("--rate", metavar="R", help="Open loop: requests per second, 2.5/s.")
@click.option("--burstiness", metavar="CV", help="Spread of arrivals, 1 for Poisson. [default: 1]")
@engine_option
@running_options(hidden=True)
@technique_option
@replica_options
@click.option("--prefix-hit", default="0", metavar="P", help="Share of a prompt found in the cache.")
@drafting_options(hidden=True)
@split_option
@limit_options
@click.option("--e2e", metavar="TIME", help="Limit of a whole request, of a workload.", hidden=True)
@click.option("--percentile", default="95%", show_default=True, metavar="P", help="Share that keeps the limits.")
@confidence_option
@hidden(spares_option)
@profile_option
@price_option
@prices_option
@day_option
@hidden(long_context_option)
@format_option
@examples(
    "kvplan load -m llama3.1-70b -g h200 --isl 4000 --osl 500 --ttft 2s",
    "kvplan load -w doc-qa -m llama3.1-70b -g h200 --gpus 32 -t fp8 --ttft 20s",
)
def command(form: str, workload: str | None, gpus: int | None, **options: Any) -> None:
    """One server under load, or the most of a workload that GPUs serve.
    More options: docs/serving.md, and docs/memory.md.
    """
    if workload is not None or gpus is not None:
        serve_workload(form, workload, gpus, options)
        return
    for name in ("confidence", "spares", "e2e"):
        if options.pop(name) is not None:
            raise WrongUse(f"{name}: is for a workload, with workload= and gpus=; leave it out")
    for name in ("isl", "osl"):
        if options[name] is None:
            raise WrongUse(f"{name}: give isl= and osl= (tokens in and out), or workload= and gpus=")
    from kvplan.report import load as words

    survey = load(**options)
    deliver(Report.of(words, survey), form, survey.refusal)


#: options that a workload on a number of GPUs is asked with
ASKED = ("technique", "weights", "ttft", "tpot", "e2e", "percentile", "confidence", "spares", "engine", "price",
         "prices", "profile", "on", "allow_long_context")  # fmt: skip


def serve_workload(form: str, workload: str | None, gpus: int | None, asked: dict[str, Any]) -> None:
    """Answer how much of a workload so many GPUs serve."""
    from kvplan.report import capacity as words

    if workload is None or gpus is None:
        raise WrongUse("workload, gpus: give both, as in workload=doc-qa gpus=8")
    source = click.get_current_context().get_parameter_source
    given = {k: v for k, v in asked.items() if source(k) not in (ParameterSource.DEFAULT, None)}
    if wrong := [name for name in given if name not in (*ASKED, "model", "gpu")]:
        raise WrongUse(f"{', '.join(wrong)}: a workload's replicas, lengths and arrivals are its own; leave it out")
    answer = capacity(workload, gpus=gpus, **given)
    deliver(Report.of(words, answer), form, answer.refusal)
