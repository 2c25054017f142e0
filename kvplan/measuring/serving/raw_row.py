"""An end-to-end row as its file holds it: words by column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.measuring.serving.rows import LARGEST
from kvplan.units import parse


@dataclass(frozen=True)
class RawRow:
    """A row as its file holds it."""

    values: Mapping[str, Any]  #: column -> what stands there

    def text(self, column: str) -> str:
        """Return a column's text without blanks around it, '' where there is none."""
        return str(self.values.get(column) or "").strip()

    def size(self, column: str, default: float | None = None) -> float:
        """Return a column's number above zero; a `default` stands for an empty column and for 0."""
        if not self.text(column) and default is not None:
            return default
        number = parse(self.text(column), "1", column)
        if not 0 <= number <= LARGEST or (number == 0 and default is None):
            got = shown(self.text(column))
            raise SpecError(f"{column}: expected a number above zero and up to {LARGEST:,}, got {got}")
        return number or (default or 0.0)

    def loosely(self, column: str) -> float:
        """Return a column's number, 0 for any other text: files say 'inf', 'saturating' or 'not published' too."""
        try:
            number = float(self.text(column))
        except ValueError:
            return 0.0
        return number if 0 < number <= LARGEST else 0.0
