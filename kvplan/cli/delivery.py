"""Where answers go: to stdout in the format asked for, to a page beside it, one line of what went wrong to stderr."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from os import environ

import click

from kvplan.catalog.files import path_of, write_whole
from kvplan.cli.flags import flagged, spoken
from kvplan.cli.pager import page, paged
from kvplan.errors import KvplanError, WrongUse, one_line
from kvplan.report.blocks import Json, Page
from kvplan.report.formats import Report, Screen, render

#: columns below which nothing can be laid out, and where nobody says how many there are
NARROWEST, USUAL = 40, 100
#: digits of the widest page
MOST_DIGITS = 4
#: of rules, bars and charts
DRAWN = "─█▞"
#: where the file of --html and the words of the command line are kept
HTML, WORDS = "kvplan.html", "kvplan.words"
#: where --plain is kept
PLAIN = "kvplan.plain"


def deliver(report: Report, form: str, refusal: str = "", aside: bool = False) -> None:
    """Write an answer in a format, `aside` to stderr; then leave with a 'no' if there is one."""
    whole = beside(report)
    if text := render(whole, form, screen()):
        put(text, form, aside)
    if refusal:
        raise KvplanError(refusal)


def beside(report: Report) -> Report:
    """Return an answer that names this command's flags, its page written where --html asks for one."""
    command = click.get_current_context().command

    def said(page: Callable[[], Page]) -> Callable[[], Page]:
        return lambda: page().worded(lambda text: flagged(text, command))

    def document() -> Json:
        document: Json = spoken(report.document(), command)
        return document

    rows, first = report.rows, report.first
    whole = replace(
        report,
        page=said(report.page),
        document=document,
        first=said(first) if first else None,
        rows=(lambda: spoken(rows(), command)) if rows else None,
    )
    if (file := click.get_current_context().meta.get(HTML)) is not None:
        if file == "-":
            raise WrongUse("--html: - is no file; write its name, or --format html to print the page instead")
        write_whole(path_of(file), render(whole, "html", screen()))
    return whole


def put(text: str, form: str, aside: bool) -> None:
    """Write an answer; one for people that is longer than their screen goes through a pager."""
    if form == "text" and not aside and sys.stdout.isatty():
        from shutil import get_terminal_size  # loads three compressors

        if paged(text, get_terminal_size().lines):
            page(text)
            return
    click.echo(text, file=sys.stderr if aside else sys.stdout)


def say(message: str, who: str = "kvplan") -> None:
    """Tell the user something on stderr, on one line; parameters it names are the command's flags."""
    context = click.get_current_context(silent=True)
    click.echo(one_line(f"{who}: {flagged(message, context.command) if context else message}"), file=sys.stderr)


def screen() -> Screen:
    """Return where stdout goes: a terminal's width in colour, else COLUMNS where it is set, else 100, uncoloured."""
    context = click.get_current_context()
    bare = bool(context.meta.get(PLAIN)) or not draws()
    if sys.stdout.isatty():
        from shutil import get_terminal_size  # loads three compressors

        width = get_terminal_size().columns
        colour = not (bare or environ.get("NO_COLOR") or environ.get("TERM") == "dumb")
    else:
        columns = environ.get("COLUMNS", "")
        colour = False
        width = int(columns) if columns.isascii() and columns.isdecimal() and len(columns) <= MOST_DIGITS else 0
        width = width if width >= NARROWEST else USUAL
    return Screen(width, colour, command=context.info_name or "", asked=typed(context), plain=bare)


def draws() -> bool:
    """Return whether stdout's encoding has what rules and charts are drawn with: else they would be question marks."""
    try:
        return bool(DRAWN.encode(sys.stdout.encoding or "utf-8"))
    except (UnicodeEncodeError, LookupError):
        return False


def typed(context: click.Context) -> str:
    """Return the command line as it can be typed again, but for where this answer goes."""
    return shlex.join(["kvplan", *context.find_root().meta.get(WORDS, ())])
