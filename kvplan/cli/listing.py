"""`kvplan list`: list what is in the catalogue."""

import click

from kvplan.api.listing import KINDS, listed
from kvplan.cli.delivery import deliver
from kvplan.cli.options import examples, format_option
from kvplan.report.formats import Report


@click.command("list")
@click.argument("kind", metavar="KIND", required=False)
@format_option
@examples("kvplan list models", "kvplan list gpus --json")
def command(kind: str | None, form: str) -> None:
    """List models, gpus, workloads, prices, techniques, engines, profiles or architectures."""
    if kind is None:
        raise click.UsageError(f"name what to list: {', '.join(KINDS)}")
    from kvplan.report import listing as words

    listing = listed(kind)
    arguments = (listing.kind, listing.things, listing.day)
    deliver(Report(lambda: words.page(*arguments), lambda: words.document(*arguments)), form)
