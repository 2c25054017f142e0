"""`kvplan doctor`: what this machine has and lacks."""

import click

from kvplan.api.doctor import doctor
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, examples
from kvplan.report.formats import Report


@click.command("doctor")
@day_option
@format_option
@examples("kvplan doctor", "kvplan doctor --json")
def command(on: str | None, form: str) -> None:
    """What is installed, which GPUs there are, how old prices are, and what to add.

    Nothing is measured and no connection is opened.
    """
    from kvplan.report import doctor as words

    result = doctor(on)
    deliver(Report.of(words, result), form)
