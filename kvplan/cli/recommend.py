"""`kvplan recommend`: a technique, a GPU count and a cost per query for a workload, with reasons and a range."""

from typing import TYPE_CHECKING, Any

import click

from kvplan import catalog
from kvplan.architectures.formats import FORMATS
from kvplan.cli.options import (
    any_technique_option,
    day_option,
    deliver,
    examples,
    format_option,
    gpus_option,
    long_context_option,
    model_option,
    price_option,
    profile_option,
    spoken,
    techniques_option,
    term_option,
)
from kvplan.planning.site import OBJECTIVES
from kvplan.report.formats import Report

if TYPE_CHECKING:
    from kvplan.planning.recommend import Recommendation

#: where the words of the command line are kept
WORDS = "kvplan.words"
#: options that say where the answer goes or how it is written, each with a value
HANDED_OVER = ("--save", "--format")


class Remembered(click.Command):
    """A command that remembers the words it was called with, so that they can be saved and asked again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words in the context, then parse them; click.UsageError as any command."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)


def question(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that ask, without those that say where the answer goes and how it is written."""
    kept, skip = [], False
    for word in words:
        if not skip and word.partition("=")[0] not in (*HANDED_OVER, "--json"):
            kept.append(word)
        skip = word in HANDED_OVER and not skip
    return tuple(kept)


def answer(**asked: Any) -> "Recommendation":
    """Return the recommendation for the parameters of the command line."""
    from kvplan.api.recommend import recommend

    return recommend(**asked)


@click.command("recommend", cls=Remembered)
@click.option("--workload", "-w", required=True, help="A name or YAML file.")
@model_option
@click.option("--queries-per-day", metavar="Q", help="Mean queries a day. Default: the workload's.")
@click.option("--rate", metavar="R", help="The same a second, as in 2.5/s.")
@click.option("--ttft", metavar="TIME", help="Limit of the first token: 5s; none: no limit.")
@click.option("--tpot", metavar="TIME", help="Limit of the time per token, as in 50ms.")
@click.option("--e2e", metavar="TIME", help="Limit of a whole request.")
@click.option("--percentile", metavar="P", help="Share of requests that keep the limits.")
@click.option("--max-quality-drop", metavar="P", help="Greatest loss, as in 1%.")
@click.option("--quality", multiple=True, metavar="FILE", help="Scores of your own model; they win.")
@gpus_option
@techniques_option
@any_technique_option
@click.option("--weights", multiple=True, type=click.Choice(sorted(FORMATS)), help="Weight formats to try.")
@click.option("--objective", type=click.Choice(OBJECTIVES), default="cost", help="What to make small.")
@click.option("--max-gpus", type=click.IntRange(1), metavar="N", help="GPUs that can be had.")
@click.option("--spares", type=click.IntRange(0, 64), default=0, metavar="N", help="Replicas to stand in.")
@click.option("--headroom", default="0", metavar="P", help="Load kept free beyond the peak.")
@click.option("--confidence", default="0.5", metavar="P", help="How sure each limit must be kept.")
@click.option("--no-prefix-cache", "prefix_cache", is_flag=True, flag_value=False, default=True,
              help="Compute every prompt whole.")  # fmt: skip
@term_option
@price_option
@click.option("--own", is_flag=False, flag_value="default", metavar="[FILE]", help="Owned instead of rented.")
@profile_option
@day_option
@click.option("--save", metavar="FILE", help="Keep the answer as JSON, for kvplan compare.")
@long_context_option
@format_option
@examples(
    "kvplan recommend -w doc-qa -m llama3.1-70b --queries-per-day 40000 --ttft 5s",
    "kvplan recommend -w legal-contracts -m qwen3-32b -g h100 -g h200 --own",
)
def command(save: str | None, form: str, **asked: Any) -> None:
    """One plan for a workload: technique, GPUs, cost per query, how sure, and why."""
    from kvplan.report import recommend as wording

    found = answer(**asked)
    words = question(click.get_current_context().meta[WORDS])
    report = Report(lambda: wording.page(found), lambda: wording.document(found, words))
    if save:
        catalog.save_plan(save, spoken(report.document(), click.get_current_context().command))
    deliver(report, form, found.lacking)
