"""The options of commands that read rows: their kind, what they do not say themselves, and where a server's are."""

from collections.abc import Callable

import click

from kvplan.api import values
from kvplan.cli.choice import OneOf
from kvplan.cli.options import Command, online_option, stacked
from kvplan.errors import SpecError


def settings(_ctx: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    """Return what a user says of end-to-end rows."""
    try:
        return values.settings(words)
    except SpecError as wrong:
        raise click.BadParameter(str(wrong).removeprefix("settings: ")) from None


set_option = stacked(
    click.option(
        "--set", "settings", multiple=True, callback=settings, metavar="COLUMN=VALUE",
        help="Say what end-to-end rows or a result file do not: gpu=h100, tp=4, engine=vllm; repeatable.",
    ),
    online_option,
)  # fmt: skip


def kind_option(command: Command) -> Command:
    """Add --kind; only commands that read rows load what there is."""
    from kvplan.api.kernel_rows import ROWS

    kinds = f"What the rows are: {', '.join(ROWS)}. Default: by their columns."
    return click.option("--kind", type=OneOf(ROWS), metavar="KIND", help=kinds)(command)


def prometheus_options(hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds a Prometheus server, the range of what it kept, and the series."""
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


def settable(refusal: click.NoSuchOption) -> click.NoSuchOption:
    """Return the refusal of an option that is none; a column that --set says is told so."""
    from kvplan.measuring.benchmarks.fields import SETTABLE

    column = refusal.option_name.lstrip("-").replace("-", "_")
    sets = refusal.ctx is not None and any("--set" in p.opts for p in refusal.ctx.command.params)
    if not sets or column not in SETTABLE:
        return refusal
    said = f"No such option {refusal.option_name!r}; write --set {column}=..."
    return click.NoSuchOption(refusal.option_name, said, (), refusal.ctx)
