"""`kvplan show`: show one item, every value with its source."""

from typing import Any

import click

from kvplan.api.show import shipped_file, show
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import HTML, deliver
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.options import examples, online_option, path
from kvplan.errors import WrongUse
from kvplan.perf.kernel_profile import KINDS
from kvplan.report.formats import Report


@click.command("show")
@click.argument("kind")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option(
    "--kernels",
    type=OneOf(KINDS),
    metavar="KIND",
    help=f"Of a profile, only {', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}.",
)
@click.option("--rows", type=path, help="Of a profile, draw a file's measured times against its predictions.")
@click.option("--yaml", is_flag=True, help="Of a workload or gpu, its file, to change: --yaml > mine.yaml.")
@online_option
@format_option
@examples(
    "kvplan show gpu h200",
    "kvplan show workload chat --yaml",
    "kvplan show technique mhc:4x+h2o:20%",
    "kvplan show profile h100-sxm h200 --kernels gemm",
    "kvplan show profile published",
)
def command(yaml: bool, form: str, **options: Any) -> None:
    """Show one model, gpu, workload, technique, engine, price or profile: every value with its source.

    Two names of profiles are compared.
    """
    from kvplan.report import show as words

    if yaml:
        others = (form != TEXT, options["kernels"], options["rows"], click.get_current_context().meta.get(HTML))
        if any(others):
            raise WrongUse("yaml: prints a file as it is; leave out the other options")
        click.echo(shipped_file(options["kind"], options["names"]), nl=False)
        return
    result = show(**options)
    deliver(Report.of(words, result), form)
