"""What is known of how a collection of measured servers was run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of measured servers, and what running them that way does to their rows."""

    name: str  #: who made it
    marks: Mapping[str, str]  #: column of a row -> words that it holds there
    empty: tuple[str, ...] = ()  #: columns that its files have and its rows leave empty
    resends: bool = False  #: whether an open loop's prompts are sent more than once to a server
    once: str = ""  #: words of a `group` whose prompts no memory holds, '': none
    prompts: int = 0  #: prompts sent again, found where the memory holds all; 0: found whatever it holds
    first_rate: float | None = None  #: rate of the first time, which finds nothing; None: every rate finds [requests/s]
    in_process: bool = False  #: whether its rows were taken inside the engine's process
    own_runs: bool = False  #: whether those who collected rows took these themselves, with lengths as stated
    source: Source  #: of what is known

    def has(self, values: Mapping[str, Any]) -> bool:
        """Return whether a row is of the collection, by its columns."""
        left = all(column in values and not str(values[column] or "").strip() for column in self.empty)
        return left and all(words in str(values.get(column) or "") for column, words in self.marks.items())

    def finds(self, group: str, rate: float, holds: bool) -> bool:
        """Return whether an engine with a prefix cache has a row's prompts; `holds`: its memory holds all of them."""
        if not self.resends or (self.once and self.once in group):
            return False
        return rate != self.first_rate and (holds or not self.prompts)
