"""Reading what published drafts of speculative decoding yield, of the shelf."""

from functools import cache

from kvplan.catalog.fields import (
    ValueRange,
    count,
    listed,
    number,
    one_of,
    read_source,
    required,
    shelf_document,
    source_of,
    text,
)
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
    raw, _, location = shelf_document("drafts", word, "drafts")
    default = read_source(raw.get("source"), location)
    required(raw, ("name", "title", "source", "rows"), ("rows",), location, "drafts")
    rows = listed(raw["rows"], f"{location}: rows")
    return tuple(_row(row, default, f"{location}: rows[{i}]") for i, row in enumerate(rows))


def _row(raw: object, default: Source, location: str) -> Acceptance:
    row = required(raw, FIELDS, FIELDS[:6], location, "drafts")
    drafted = count(row["drafted"], f"{location}: drafted", DRAFTED)
    tokens = number(row["tokens"], f"{location}: tokens", TOKENS)
    if tokens >= drafted + 1:
        raise SpecError(f"{location}: tokens: {drafted} drafted tokens yield less than {drafted + 1}, got {tokens:g}")
    return Acceptance(
        draft=one_of(row["draft"], f"{location}: draft", KINDS), drafted=drafted, tokens=tokens,
        source=source_of(raw, default, location),
        **{key: text(row, key, location) for key in ("model", "family", "task")},
    )  # fmt: skip
