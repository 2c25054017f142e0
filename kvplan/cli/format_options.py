"""The options that say in what form an answer is given."""

import click

from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import HTML, PLAIN
from kvplan.cli.options import stacked
from kvplan.cli.pager import NO_PAGER
from kvplan.report.formats import names

#: the format that stands where none is named, and where `--json` is kept until the format is known
TEXT, JSON = "text", "kvplan.json"
#: formats that have no option of their own
SHORT = (TEXT, *(name for name in names() if name not in (TEXT, "html", "json")))


def chosen(ctx: click.Context, _param: click.Parameter, form: str | None) -> str:
    """Return the format of the answer: --json is --format json."""
    if ctx.meta.get(JSON) and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form}: give one of them", ctx)
    return "json" if ctx.meta.get(JSON) else form or TEXT


format_option = stacked(
    click.option(
        "--format", "form", type=OneOf(names()), callback=chosen, metavar="FORMAT",
        help=f"{', '.join(SHORT)}; --json, --html FILE, --plain.",
    ),
    click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, hidden=True,
        callback=lambda ctx, _, value: ctx.meta.update({JSON: value}),
        help="--format json: schema 1, base units.",
    ),
    click.option(
        "--html", metavar="FILE", expose_value=False, callback=lambda ctx, _, value: ctx.meta.update({HTML: value}),
        hidden=True, help="Also write a page with charts.",
    ),
    click.option("--plain", is_flag=True, hidden=True, expose_value=False,
                 callback=lambda ctx, _, value: ctx.meta.update({PLAIN: value}), help="Text without drawings."),
    click.option("--no-pager", is_flag=True, hidden=True, expose_value=False,
                 callback=lambda ctx, _, value: ctx.meta.update({NO_PAGER: value}), help="Print long answers at once."),
)  # fmt: skip
