"""Reading how collections of measured servers were run, of the shelf."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from kvplan.catalog.fields import (
    POSITIVE,
    ValueRange,
    count,
    listed,
    mapping,
    number,
    shelf_rows,
    text,
    yes,
)
from kvplan.catalog.shelves import names
from kvplan.specs.collection import Collection

#: prompts that may be sent again
PROMPTS = ValueRange(1, 1e6)
FLAGS = ("resends", "in_process", "own_runs")
FIELDS = ("collection", "in", "resends", "once", "prompts", "first_rate", "in_process", "empty", "own_runs", "source")


@cache
def collections() -> tuple[Collection, ...]:
    """Return the collections that are known; raise SpecError where a file of the shelf cannot be understood."""
    return tuple(one for name in names("collections") for one in collection_file(name))


def collection_of(values: Mapping[str, Any]) -> Collection | None:
    """Return the collection that a row is of, by its columns; None for one that is not known."""
    return next((one for one in collections() if one.has(values)), None)


def collection_file(word: str) -> tuple[Collection, ...]:
    """Return the collections of one file, by name or path; raise SpecError where it cannot be understood."""
    return tuple(
        Collection(
            name=text(row, "collection", place),
            marks={k: str(v) for k, v in mapping(row["in"], f"{place}: in", "{source: NAME}").items()},
            empty=tuple(map(str, listed(row.get("empty") or [], f"{place}: empty"))),
            once=text(row, "once", place, ""),
            prompts=count(row["prompts"], f"{place}: prompts", PROMPTS) if "prompts" in row else 0,
            first_rate=number(row["first_rate"], f"{place}: first_rate", POSITIVE) if "first_rate" in row else None,
            source=source,
            **{flag: yes(row[flag], f"{place}: {flag}") for flag in FLAGS if flag in row},
        )
        for row, place, source in shelf_rows("collections", word, FIELDS, ("collection", "in"))
    )
