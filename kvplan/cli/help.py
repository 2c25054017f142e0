"""Help in as few lines as there can be, and without rare options, so that a command's fits a screen."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

#: the function of a command, before click makes a command of it
Command = TypeVar("Command", bound=Callable[..., object])
#: columns of names in the help, at the least
NARROW = 12
#: what click says of a range of numbers, alone or behind a default
RANGE = re.compile(r"  \[(?:\d+<=)?x[<>]=\d+\]$|; (?:\d+<=)?x[<>]=\d+(?=\]$)")


class Compact(click.HelpFormatter):
    """Help in as few lines as there can be: options stand beside their text where that is shorter."""

    def write_dl(self, rows: Iterable[tuple[str, str | None]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and their text in the width of the first column that takes the fewest lines.

        Ranges of numbers are left out: whoever is out of one is told it.
        """
        short = [(name, RANGE.sub("", text or "")) for name, text in rows]
        tried = []
        for column in range(col_max, NARROW - 1, -1):
            whole = click.HelpFormatter(width=self.width)
            whole.current_indent = self.current_indent
            whole.write_dl(short, column, col_spacing)
            tried.append(whole.getvalue())
        self.write(min(tried, key=lambda text: text.count("\n")))


class Spoken(click.Context):
    """A context whose help is compact."""

    formatter_class = Compact


def hidden(option: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return an option that is understood, but left out of the help: a page of the docs has it."""

    def add(command: Command) -> Command:
        added: Command = option(command)
        added.__click_params__[-1].hidden = True  # type: ignore[attr-defined]
        return added

    return add
