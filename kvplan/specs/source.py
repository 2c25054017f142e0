"""Where a number came from."""

from dataclasses import dataclass
from datetime import date

#: how a number was obtained, most trustworthy first
KINDS = ("measured", "config", "datasheet", "paper", "code", "quote", "assumption")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Provenance of one number or of a file of them."""

    kind: str  #: one of KINDS
    ref: str  #: address, paper, file, or command that produced it
    date: str  #: day it was read or measured, YYYY-MM-DD; '' where nobody says

    def age(self, day: str) -> int | None:
        """Return the days from the source's date to a day (YYYY-MM-DD), 0 when it is later, None without a date."""
        if not self.date:
            return None
        return max((date.fromisoformat(day) - date.fromisoformat(self.date)).days, 0)

    def __str__(self) -> str:
        return f"{self.kind}: {self.ref} ({self.date or 'no date'})"
