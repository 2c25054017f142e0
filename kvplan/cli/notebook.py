"""Results for those who call Python: the document, rows and report of a result, in the words of its command."""

from importlib import import_module
from json import loads
from textwrap import shorten
from typing import Any

import click

from kvplan.cli.flags import spoken
from kvplan.errors import KvplanError
from kvplan.report import fragments
from kvplan.report.blocks import Text
from kvplan.report.formats import Report, Screen, csv, render
from kvplan.specs.result import Result

#: characters of the line that a result is shown as
LONGEST = 200
NEEDS = "to_pandas needs pandas: pip install 'kvplan[pandas]'"


def report(result: Result) -> Report:
    """Return the report of a result, whatever its question."""
    words = import_module(f"kvplan.report.{result.answers}")
    return Report.of(words, result)


def document(result: Result) -> dict[str, Any]:
    """Return the document of a result as its command writes it: the same names, plain values, the same words."""
    from kvplan.cli import group

    plain: dict[str, Any] = loads(render(report(result), "json", Screen()))
    command = group.get_command(click.Context(group), plain["command"])
    spelled: dict[str, Any] = spoken(plain, command) if command else plain
    return spelled


def frame(result: Result) -> Any:
    """Return the main rows of a result as a DataFrame, those that its report chose or its document's, one value a cell.

    Raises KvplanError where pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError:
        raise KvplanError(NEEDS) from None
    words = import_module(f"kvplan.report.{result.answers}")
    return DataFrame(words.rows(result) if hasattr(words, "rows") else flat(document(result)))


def flat(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the main rows of a document without the lists in them; nested names are joined with dots."""
    return [dict(csv.flattened(row, lists=False)) for row in csv.rows_of(document)]


def fragment(result: Result) -> str:
    """Return the report of a result as a fragment of a page."""
    return fragments.fragment(report(result).page())


def line(result: Result) -> str:
    """Return the first words of a result's report, cut where they are many."""
    texts = [block for block in report(result).page().blocks if isinstance(block, Text)]
    summary = [block.text for block in texts if block.tone == "answer"] or [block.text for block in texts[:1]]
    return shorten(" ".join(summary), LONGEST, placeholder=" ...")
