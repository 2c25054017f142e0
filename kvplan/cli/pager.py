"""A pager for answers that are longer than the screen, where a person reads them: as git does."""

import os
import sys

import click

#: where --no-pager is kept
NO_PAGER = "kvplan.no-pager"
#: the pager's command; empty for none
PAGER = "KVPLAN_PAGER"
#: what less is asked where the user asks nothing: keep colours, leave the text on the screen, end where it fits
LESS = "FRX"


def paged(text: str, lines: int) -> bool:
    """Return whether a text goes through a pager: it is longer than the screen, a person reads, and one is wanted."""
    at_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    unwanted = click.get_current_context().meta.get(NO_PAGER) or os.environ.get(PAGER) == ""
    return at_terminal and not unwanted and text.count("\n") + 1 >= lines


def page(text: str) -> None:
    """Show a text in the user's pager (KVPLAN_PAGER, PAGER), less where there is none."""
    if wanted := os.environ.get(PAGER):
        os.environ["PAGER"] = wanted
    os.environ.setdefault("LESS", LESS)
    click.echo_via_pager(text)
