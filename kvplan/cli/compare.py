"""`kvplan compare`: two saved plans side by side: what changed, by how much."""

from typing import TYPE_CHECKING, Any

import click

from kvplan import catalog
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, examples
from kvplan.errors import SpecError
from kvplan.report.formats import Report

if TYPE_CHECKING:
    from kvplan.planning.recommend import Recommendation

#: words that would print the help of another command
HELP = {"--help", "-h"}


@click.command("compare")
@click.argument("before")
@click.argument("after", required=False)
@day_option
@click.option(
    "--fail-above", multiple=True, metavar="P",
    help="Exit with 1 where a query or a month costs more by this share, as in 5%; query=5%, month=5%: one of them.",
)  # fmt: skip
@format_option
@examples("kvplan compare plan.json", "kvplan compare rented.json owned.json --format md --fail-above month=5%")
def command(before: str, after: str | None, on: str | None, fail_above: tuple[str, ...], form: str) -> None:
    """What changed between two plans of kvplan recommend --save, or between one and today's answer."""
    from kvplan.api import values
    from kvplan.api.compare import compare, gates_of

    values.day(on)  # what is none of its kind is said before a question is asked again
    gates_of(fail_above)
    old = None if after else answer_to_words(before, on)
    comparison = compare(before, old or after, on=None if old else on, fail_above=fail_above)

    from kvplan.report import compare as words

    deliver(Report.of(words, comparison), form, comparison.breach)


def answer_to_words(before: str, on: str | None) -> "Recommendation | None":
    """Return the answer to a question that was saved as the words of a command line, None for one saved as a call."""
    from kvplan.api.recommend import recommend
    from kvplan.cli.recommend import HANDED_OVER
    from kvplan.cli.recommend import command as asking

    words: Any = catalog.saved_plan(before)["question"]
    if not isinstance(words, list):
        return None
    if HELP & set(words):
        raise SpecError(f"{before}: question: asks for help, not for a plan; save it again")
    try:
        options = asking.make_context("recommend", list(words)).params
    except click.UsageError as wrong:
        raise SpecError(f"{before}: question: {wrong.format_message()}; save it again") from None
    return recommend(**{name: value for name, value in options.items() if name not in HANDED_OVER} | {"on": on})
