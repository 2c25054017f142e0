"""`kvplan audit`: check published claims: what holds, and the arithmetic."""

import click

from kvplan.api.audit import ARTICLE, audit
from kvplan.cli.options import day_option, deliver, examples, format_option
from kvplan.report.formats import Report


@click.command("audit")
@click.argument("claims", required=False, default=ARTICLE)
@day_option
@format_option
@examples("kvplan audit", "kvplan audit ./claims.yaml", "kvplan audit --on 2026-11-24 --json")
def command(claims: str, on: str | None, form: str) -> None:
    """Check the claims of an article or a vendor with kvplan itself: those of a YAML file, or the built-in ones."""
    from kvplan.report import audit as words

    found = audit(claims, on=on)
    deliver(Report(lambda: words.page(found), lambda: words.document(found)), form)
