"""Options that are understood and left out of the help, so that it fits a screen: a page of the docs has them."""

from collections.abc import Callable
from typing import Any

from kvplan.cli.options import Command


def hidden(option: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return an option that is understood, but left out of the help."""

    def add(command: Command) -> Command:
        added: Command = option(command)
        added.__click_params__[-1].hidden = True  # type: ignore[attr-defined]
        return added

    return add
