"""Options that name a range of what a Prometheus server kept."""

from collections.abc import Callable

import click

from kvplan.cli.options import Command, stacked


def prometheus_options(hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds the server, the range and the series."""
    return stacked(
        click.option("--prometheus", metavar="URL", hidden=hidden, help="A Prometheus server that kept the metrics."),
        click.option(
            "--from", "since", metavar="TIME", hidden=hidden, help="First moment: now-2h, 2026-11-29T10:00 (UTC)."
        ),
        click.option("--to", "until", metavar="TIME", hidden=hidden, help="Last moment. [default: now]"),
        click.option(
            "--select", multiple=True, metavar="LABEL=VALUE", hidden=hidden, help="Only such series; repeatable."
        ),
    )
