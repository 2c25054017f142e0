"""One JSON document: schema 1, base units, unknown figures null."""

from json import dumps

from kvplan.report.blocks import Json
from kvplan.report.formats import Report, Screen


def render(report: Report, screen: Screen) -> str:
    """Return the report's document on one line."""
    return dumps(report.document(), allow_nan=False)


def indented(document: Json) -> str:
    """Return a document as people read it, a field a line."""
    return dumps(document, indent=2, allow_nan=False)
