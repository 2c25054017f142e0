"""`kvplan recommend`: one plan for a workload: technique, GPUs, cost per query."""

from typing import Any

import click
from click.core import ParameterSource

from kvplan import catalog
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver
from kvplan.cli.flags import spoken
from kvplan.cli.format_options import format_option
from kvplan.cli.help import hidden
from kvplan.cli.options import (
    any_technique_option,
    confidence_option,
    day_option,
    examples,
    gpus_option,
    long_context_option,
    model_option,
    own_option,
    price_option,
    prices_option,
    profile_option,
    spares_option,
    techniques_option,
    term_option,
    weights_option,
)
from kvplan.cli.waiting import waiting
from kvplan.planning.site import OBJECTIVES
from kvplan.report.formats import Report

#: options that say where the answer goes, and how it is written
HANDED_OVER = ("save", "form", "full")


def question() -> dict[str, Any]:
    """Return the call this command line stands for, as a saved plan keeps it: a function and the values given."""
    context = click.get_current_context()
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in context.params.items()
        if name not in HANDED_OVER and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return {"function": "recommend", "values": {"workload": None, **given}}


def kept_in(word: str) -> str:
    """Read where an answer is to be kept; refuse what is no file of JSON before the question is asked."""
    catalog.plan_path(word)
    return word


@click.command("recommend")
@click.option("--workload", "-w", help="A name or YAML file.")
@model_option
@click.option("--isl", metavar="TOKENS", help="Without a workload: tokens of a prompt,")
@click.option("--osl", metavar="TOKENS", help="and of every answer.")
@click.option("--queries-per-day", metavar="Q", help="Mean queries a day. Default: the workload's.")
@click.option("--rate", metavar="R", help="The same a second, as in 2.5/s.")
@click.option("--users", metavar="N", help="Or users at work in the busiest hour.")
@click.option("--ttft", metavar="TIME", help="Limit of the first token: 5s, or none.")
@click.option("--tpot", metavar="TIME", help="Limit of the time per token, as in 50ms.")
@click.option("--e2e", metavar="TIME", help="Limit of a whole request.")
@hidden(click.option("--percentile", metavar="P", help="Share of requests that keep the limits."))
@click.option("--max-quality-drop", metavar="P", help="Greatest loss, as in 1%.")
@hidden(click.option("--quality", multiple=True, metavar="FILE", help="Scores of your own model; they win."))
@gpus_option
@techniques_option
@any_technique_option
@weights_option
@click.option("--objective", type=OneOf(OBJECTIVES), default="cost", metavar="WHAT",
              help=f"To make small: {', '.join(OBJECTIVES)}.")  # fmt: skip
@click.option("--max-gpus", type=click.IntRange(1), metavar="N", help="GPUs that can be had.")
@hidden(spares_option)
@hidden(click.option("--headroom", default="0", metavar="P", help="Load kept free beyond the peak."))
@confidence_option
@hidden(click.option("--no-prefix-cache", "prefix_cache", is_flag=True, flag_value=False, default=True,
                     help="Compute every prompt whole."))  # fmt: skip
@term_option
@price_option
@prices_option
@own_option
@click.option("--engine", default="vllm", metavar="NAME", show_default=True, help="vllm, sglang, trtllm, any.")
@click.option("--speculative", metavar="DRAFT", help="Also try mtp, eagle3, a draft model; eagle3:3=2.4.")
@click.option("--vary", multiple=True, metavar="NAME=A,B", help="What if, as load=1,3,10 or price=2,3.")
@click.option("--simulate", is_flag=True, help="Replay the requests on the two best plans.")
@profile_option
@day_option
@click.option("--full", is_flag=True, help="The whole report. Default: one to two screens.")
@click.option("--save", type=kept_in, metavar="FILE", help="Keep the answer as JSON, for kvplan compare.")
@hidden(long_context_option)
@format_option
@examples(
    "kvplan recommend -w doc-qa -m llama3.1-70b --queries-per-day 40000 --ttft 10s",
    "kvplan recommend -w legal-contracts -m llama3.1-70b -g h100 -g h200 --own",
)
def command(save: str | None, full: bool, form: str, **options: Any) -> None:
    """One plan for a workload, and why (docs/recommend.md has more options)."""
    from kvplan.api.recommend import at_loads, recommend
    from kvplan.report import first_screen
    from kvplan.report import recommend as wording
    from kvplan.report.plan_drawings import what_if

    with waiting() as progress:
        result = recommend(**options, progress=progress)
        call = question()
    report = Report(
        lambda: wording.page(result),
        lambda: wording.document(result, call),
        lambda: what_if(at_loads(options, result), result),
        None if full else lambda: first_screen.page(result),
        lambda: wording.plan_rows(result),
    )
    if save:
        catalog.save_plan(save, spoken(report.document(), click.get_current_context().command))
    deliver(report, form, result.lacking)
