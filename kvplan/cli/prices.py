"""`kvplan prices`: show prices of GPUs and APIs with date, source and age."""

from typing import Any

import click

from kvplan import catalog
from kvplan.api.prices import prices, refreshed
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import format_option
from kvplan.cli.options import day_option, examples, path
from kvplan.errors import WrongUse
from kvplan.report.formats import Report


@click.command("prices")
@click.option("--gpu", "-g", "gpus", multiple=True, metavar="GPU", help="Only this GPU; repeatable.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; repeatable.")
@click.option("--term", "terms", multiple=True, metavar="TERM", help="Only on-demand, spot, reserved-3y ...")
@click.option("--apis", is_flag=True, help="Show what APIs charge per million tokens instead.")
@click.option(
    "--own",
    is_flag=False,
    flag_value=catalog.DEFAULT,
    metavar="[FILE]",
    help="Show what owning takes and costs an hour instead; your own figures from a file.",
)
@click.option(
    "--prices",
    "files",
    multiple=True,
    type=path,
    metavar="FILE",
    help="A price file of your own, with --apis an API's; repeatable.",
)
@day_option
@click.option("--refresh", is_flag=True, help="Load today's offers through gpuhunt into the file -o names.")
@click.option("-o", "output", type=path, metavar="FILE", help="Where --refresh writes; show it with --prices.")
@format_option
@examples(
    "kvplan prices --gpu h100",
    "kvplan prices --term spot --on 2026-06-01",
    "kvplan prices --apis --json",
    "kvplan prices --own --gpu h100",
    "kvplan prices --refresh -o today.yaml",
)  # fmt: skip
def command(files: tuple[str, ...], refresh: bool, output: str | None, form: str, **options: Any) -> None:
    """Show dated prices of GPUs by provider and term, or of APIs; old ones are marked."""
    if output is not None and not refresh:
        raise WrongUse("-o: only --refresh writes a file")
    if refresh:
        if options["own"] or options["apis"]:
            raise WrongUse("--refresh: loads what GPUs rent for; leave --own and --apis out")
        if output is None:
            raise WrongUse("--refresh: name the file to write with -o, as in -o prices.yaml")
        say(refreshed(output))
        files = (*files, output)
    from kvplan.report import prices as words

    result = prices(files=files, **options)
    deliver(Report.of(words, result), form, result.refusal)
