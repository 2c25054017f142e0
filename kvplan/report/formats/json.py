"""One JSON document: schema 1, base units, unknown figures null."""

from json import dumps

from kvplan.report.formats import Report, Screen


def render(report: Report, screen: Screen) -> str:
    """Return the report's document on one line."""
    return dumps(report.document(), allow_nan=False)
