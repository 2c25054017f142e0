"""`kvplan compare`: two saved recommendations side by side, or a saved one and the same question asked again."""

from typing import Any

import click

from kvplan import catalog
from kvplan.cli.options import day_option, deliver, examples, format_option
from kvplan.cli.recommend import answer, question
from kvplan.cli.recommend import command as recommend
from kvplan.errors import SpecError
from kvplan.report.formats import Report

#: words that would print the help of another command
HELP = {"--help", "-h"}


@click.command("compare")
@click.argument("before")
@click.argument("after", required=False)
@day_option
@format_option
@examples("kvplan compare plan.json", "kvplan compare rented.json owned.json")
def command(before: str, after: str | None, on: str | None, form: str) -> None:
    """What changed between two plans of kvplan recommend --save, or between one and today's answer."""
    from kvplan.planning.compare import compare

    if after and on:
        raise SpecError("on: is for asking again; give one file, or two files without a day")
    first = catalog.saved_plan(before)
    second = catalog.saved_plan(after) if after else again(first, before, on)
    found = compare(first, second, labels(before, after or f"on {second['day']}"))

    from kvplan.report import compare as words

    deliver(Report(lambda: words.page(found), lambda: words.document(found)), form)


def again(saved: dict[str, Any], where: str, on: str | None) -> dict[str, Any]:
    """Return today's answer to the question of a saved one; whatever day it named is left out."""
    words = tuple(saved["question"])
    if HELP & set(words):
        raise SpecError(f"{where}: question: asks for help, not for a plan; save it again")
    try:
        asked = recommend.make_context("recommend", list(words)).params
    except click.UsageError as wrong:
        raise SpecError(f"{where}: question: {wrong.format_message()}; save it again") from None
    options = {name: value for name, value in asked.items() if name not in ("save", "form")}
    from kvplan.report import recommend as wording

    return wording.document(answer(**{**options, "on": on}), question(words))


def labels(before: str, after: str) -> tuple[str, str]:
    """Return short names of two files, without their folders where that tells them apart."""
    short = (before.replace("\\", "/").rsplit("/", 1)[-1], after.replace("\\", "/").rsplit("/", 1)[-1])
    return short if short[0] != short[1] else (before, after)
