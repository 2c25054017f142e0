"""Where a number came from."""

from dataclasses import dataclass

#: how a number was obtained, most trustworthy first
KINDS = ("measured", "config", "datasheet", "paper", "code", "quote", "assumption")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Provenance of one number or of a file of them."""

    kind: str
    ref: str
    date: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.ref} ({self.date})"
