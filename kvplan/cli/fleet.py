"""`kvplan fleet`: a mixed fleet for several workloads, with the GPUs at hand."""

from typing import Any

import click

from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import (
    any_technique_option,
    confidence_option,
    day_option,
    examples,
    long_context_option,
    own_option,
    prices_option,
    profile_option,
    spares_option,
    techniques_option,
    term_option,
    weights_option,
)
from kvplan.report.formats import Report


@click.command("fleet")
@click.argument("file")
@techniques_option
@any_technique_option
@weights_option
@confidence_option
@spares_option
@term_option
@prices_option
@own_option
@profile_option
@day_option
@click.option("--seconds", type=click.FloatRange(0.1, 3e3), default=20.0, show_default=True, help="The solver's time.")
@long_context_option
@format_option
@examples("kvplan fleet ./fleet.yaml", "kvplan fleet ./fleet.yaml --technique baseline --json")
def command(form: str, **options: Any) -> None:
    """The cheapest mixed fleet for a file's workloads: which requests go to which GPUs, and what one type costs."""
    from kvplan.api.fleet import fleet
    from kvplan.report import fleet as words

    plan = fleet(**options)
    deliver(Report.of(words, plan), form, plan.lacking)
