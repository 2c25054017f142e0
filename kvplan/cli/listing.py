"""`kvplan list`: list what is in the catalogue."""

import click

from kvplan.api.listing import listed
from kvplan.cli.options import deliver, examples, format_option
from kvplan.report.formats import Report


@click.command("list")
@click.argument("kind", metavar="KIND")
@format_option
@examples("kvplan list models", "kvplan list gpus --json")
def command(kind: str, form: str) -> None:
    """List models, gpus, workloads, prices, techniques, engines, profiles or architectures."""
    from kvplan.report import listing as words

    found = listed(kind)
    said = (found.kind, found.things, found.day)
    deliver(Report(lambda: words.page(*said), lambda: words.document(*said)), form)
