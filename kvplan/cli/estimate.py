"""`kvplan estimate`: the lay of the land, no GPU needed."""

from datetime import date

import click

from kvplan.cli.common import (
    context_option,
    deliver,
    examples,
    json_option,
    model_option,
    parallel,
    replica_options,
    tokens,
)
from kvplan.cli.common import price as price_type
from kvplan.cli.serving_profiles import calibrated
from kvplan.errors import SpecError, shown
from kvplan.kv import techniques
from kvplan.planning.answer import survey
from kvplan.planning.estimate import Query, Site
from kvplan.specs import catalog
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.source import Source

#: tokens generated per query when the user does not say
OUTPUT = 512


@click.command("estimate")
@model_option
@context_option
@click.option(
    "--gpu",
    "-g",
    "gpus",
    multiple=True,
    help="A GPU name, alias or YAML file; repeat to compare. Default: all, the cheapest measured one in detail.",
)
@click.option(
    "--technique",
    "-t",
    "wanted",
    multiple=True,
    help="mhc:4x, h2o:20%, fp8, int4, ..., joined with +; repeat to compare. Default: the usual ones.",
)
@click.option(
    "--output",
    type=tokens("--output"),
    metavar="TOKENS",
    help="Tokens generated per query, part of the context. [default: 512, at most half the context]",
)
@replica_options
@click.option(
    "--price",
    type=price_type,
    metavar="PRICE",
    help="USD per GPU-hour, as in 2.49/h. Default: the median of the dated on-demand prices.",
)
@click.option(
    "--on", "day", default=None, metavar="DATE", help="Use the prices of this day (YYYY-MM-DD). Default: today."
)
@click.option(
    "--explain", is_flag=True, help="Print the memory equation with its numbers, and where a step's time goes."
)
@click.option(
    "--profile",
    metavar="FILE",
    default="published",
    help="A profile of your own: of servers (kvplan calibrate) or kernels (kvplan profile).",
)
@json_option
@examples(
    "kvplan estimate --model llama3-70b --context 128k",
    "kvplan estimate --model ./config.json --context 32k --gpu h200 --technique mhc:4x+h2o:20%",
)
def command(
    model: str,
    context: int,
    gpus: tuple[str, ...],
    wanted: tuple[str, ...],
    output: int | None,
    tp: int | None,
    pp: int | None,
    dp: int | None,
    form: str | None,
    utilization: float | None,
    price: float | None,
    day: str | None,
    explain: bool,
    profile: str,
    as_json: bool,
) -> None:
    """Every technique at one context: bytes, GPUs, time, money, quality."""
    spec = catalog.model(model)
    query = Query(context=context, output=output or min(OUTPUT, max(context // 2, 1)))
    today = checked_day(day)
    wanted = wanted or techniques.USUAL
    for text in wanted:
        techniques.parts(text)
    chosen = {gpu.name: gpu for gpu in map(catalog.gpu, gpus)}
    if price and len(chosen) != 1:
        raise SpecError("--price: name the one GPU it is for with --gpu")

    def site(gpu: Gpu) -> Site:
        return Site(
            gpu=gpu,
            calibration=calibrated(gpu, spec, profile),
            offers=(quoted(gpu, price, today),) if price else catalog.offers(gpu.name, today),
            engine=catalog.engine(),
            parallel=parallel(tp, pp, dp),
            weights=form,
            utilization=utilization,
        )

    sites = [site(gpu) for gpu in chosen.values() or map(catalog.gpu, catalog.names("gpus"))]
    found = survey(spec, query, sites, wanted, today=today, named=bool(chosen))

    def report() -> list[object]:
        from kvplan.report import tables

        return [*tables.estimate(found), *(tables.explain(found) if explain else ())]

    def document() -> dict[str, object]:
        from kvplan.report import document as doc

        return doc.estimate(found, explain)

    deliver(as_json, document, report, "" if found.feasible else f"nothing fits: {found.rows[0].reason}")


def checked_day(day: str | None) -> str:
    if day is None:
        return date.today().isoformat()
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise SpecError(f"--on: expected a date such as 2026-11-23, got {shown(day)}") from None


def quoted(gpu: Gpu, price: float, day: str) -> Price:
    """Return the user's own price."""
    source = Source(kind="quote", ref="--price", date=day)
    return Price(
        gpu=gpu.name, provider="yours", term="as given", price=price, start=day, end=None, note="", source=source
    )
