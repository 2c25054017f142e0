"""`kvplan audit`: check published claims: what holds, and the arithmetic."""

import click

from kvplan.api.audit import ARTICLE, audit
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, examples
from kvplan.cli.waiting import waiting
from kvplan.report.formats import Report


@click.command("audit")
@click.argument("claims", required=False, default=ARTICLE)
@click.option("--full", is_flag=True, help="List every claim. Default: counts, and the ten that matter most.")
@day_option
@format_option
@examples("kvplan audit", "kvplan audit ./claims.yaml --full", "kvplan audit --on 2026-11-24 --json")
def command(claims: str, full: bool, on: str | None, form: str) -> None:
    """Check the claims of an article or a vendor with kvplan itself: those of a YAML file, or the built-in ones."""
    from kvplan.report import audit as report

    with waiting() as progress:
        answer = audit(claims, on=on, progress=progress)
    deliver(Report.of(report, answer, full=full), form)
