"""Reading what published drafts of speculative decoding yield, of the shelf."""

from functools import cache

from kvplan.catalog.fields import ValueRange, count, number, one_of, shelf_rows, text
from kvplan.catalog.files import Document
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError
from kvplan.specs.drafts import Acceptance
from kvplan.specs.source import Source

FIELDS = ("draft", "model", "family", "drafted", "tokens", "task", "source")
KINDS = ("eagle3", "mtp")
#: tokens that may be drafted for a step, and those that a step may yield
DRAFTED, TOKENS = ValueRange(1, 64), ValueRange(1.0, 65.0)


@cache
def acceptances() -> tuple[Acceptance, ...]:
    """Return what published drafts yield; raise SpecError where a file of the shelf cannot be understood."""
    return tuple(row for name in names("drafts") for row in draft_file(name))


def draft_file(word: str) -> tuple[Acceptance, ...]:
    """Return the rows of one file of drafts, by name or path."""
    rows = shelf_rows("drafts", word, FIELDS, FIELDS[:6])
    return tuple(_acceptance(row, source, place) for row, place, source in rows)


def _acceptance(row: Document, source: Source, location: str) -> Acceptance:
    drafted = count(row["drafted"], f"{location}: drafted", DRAFTED)
    tokens = number(row["tokens"], f"{location}: tokens", TOKENS)
    if tokens >= drafted + 1:
        raise SpecError(f"{location}: tokens: {drafted} drafted tokens yield less than {drafted + 1}, got {tokens:g}")
    return Acceptance(
        draft=one_of(row["draft"], f"{location}: draft", KINDS), drafted=drafted, tokens=tokens, source=source,
        **{key: text(row, key, location) for key in ("model", "family", "task")},
    )  # fmt: skip
