"""Comma-separated values for spreadsheets: the answer's main rows, in base units, under the names they have in JSON."""

import csv
from collections.abc import Iterator
from io import StringIO
from json import dumps
from typing import Any

from kvplan.report.blocks import Json
from kvplan.report.formats import Report, Screen

#: lists of a document that hold its rows, in the order in which they are looked for
ROWS = ("rows", "uses", "loads", "claims", "groups", "prices", "lines")


def render(report: Report, screen: Screen) -> str:
    """Return the report's main rows; lists inside a row stay JSON."""
    flat = [dict(flattened(row)) for row in (report.rows() if report.rows else rows_of(report.document()))]
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in flat)
    return out.getvalue().rstrip("\n")


def rows_of(document: Json) -> list[Json]:
    """Return a document's rows: its first list of objects, else itself."""
    named = [document[name] for name in ROWS if name in document]
    lists = [value for value in (*named, *document.values()) if isinstance(value, list)]
    first = next((rows for rows in lists if rows and all(isinstance(row, dict) for row in rows)), None)
    return first if first is not None else [{k: v for k, v in document.items() if k not in ("schema", "command")}]


def flattened(row: Json, before: str = "", lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of an object and the objects in it; lists as JSON, or not at all."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{before}{name}.", lists)
        elif not isinstance(value, list | tuple):
            yield before + name, value
        elif lists:
            yield before + name, dumps(value)


def harmless(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: text that begins like one is quoted by an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
