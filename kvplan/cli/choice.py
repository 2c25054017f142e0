"""A parameter that is one of a few words: a wrong one is refused with the nearest right one."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from kvplan.errors import meant, shown


class OneOf(click.Choice[str]):
    """One of a few words, which shells complete."""

    def __init__(self, words: Iterable[str], also: Mapping[str, str] | None = None):
        super().__init__(tuple(words))
        self.also = also or {}  #: other names of the words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word that a value is, or is another name of."""
        return super().convert(self.also.get(str(value).lower().replace("_", "-"), value), param, ctx)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return what there is in place of a wrong word, and which one was meant."""
        return f"{shown(value)} is not one of {', '.join(self.choices)}{meant(value, self.choices)}"
