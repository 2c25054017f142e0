"""`kvplan fleet`: a mixed fleet for several workloads, with the GPUs that can be had."""

from dataclasses import replace

import click

from kvplan.cli.common import deliver, examples, json_option
from kvplan.cli.estimate import checked_day, quoted
from kvplan.cli.serving_profiles import calibrated
from kvplan.errors import SpecError
from kvplan.kv import techniques
from kvplan.money.gpu_cost import GpuCost, rent
from kvplan.specs import catalog, catalog_fleet, catalog_quality
from kvplan.specs.fleet import Stock

#: techniques tried when none is named, the plainest first
TRIED = (techniques.BASELINE, "fp8", "int8", "int4", "mhc:4x", "h2o:20%")


def cost_of(stock: Stock, term: str, day: str) -> GpuCost:
    """Return what a GPU costs: the file's price, else the median of the day's offers."""
    if stock.price is not None:
        price = quoted(stock.gpu, stock.price, day)
        return rent(replace(price, source=replace(price.source, ref="the fleet file")))
    offers = catalog.offers(stock.gpu.name, day, term)
    if not offers:
        name = stock.gpu.name
        raise SpecError(f"{name}: no {term} price on {day}; write one, as in {name}: {{count: 8, price: 2.49 USD/h}}")
    return rent(offers[(len(offers) - 1) // 2])


@click.command("fleet")
@click.argument("file")
@click.option("--technique", "-t", "wanted", multiple=True, help="Only these techniques. Default: every family.")
@click.option("--any-technique", is_flag=True, help="Also plan with techniques that no stock engine serves.")
@click.option("--term", default="on-demand", metavar="TERM", help="Rental term: on-demand, reserved-3y, spot ...")
@click.option(
    "--profile",
    default="published",
    metavar="FILE",
    help="A profile of your own: of servers (kvplan calibrate) or kernels (kvplan profile).",
)
@click.option("--on", "day", metavar="DATE", help="Use the prices of this day (YYYY-MM-DD). Default: today.")
@click.option("--seconds", type=click.FloatRange(0.1, 3e3), default=20.0, show_default=True, help="The solver's time.")
@json_option
@examples("kvplan fleet ./fleet.yaml", "kvplan fleet ./fleet.yaml --technique baseline --json")
def command(
    file: str, wanted: tuple[str, ...], any_technique: bool, term: str, profile: str, day: str | None, seconds: float,
    as_json: bool,
) -> None:  # fmt: skip
    """The cheapest mixed fleet for a file's workloads: which requests go to which GPUs, and what one type costs."""
    from kvplan.planning.fleet import plan, task
    from kvplan.planning.quality import quality
    from kvplan.planning.search import Demand, Limits, Site

    asked, today = catalog_fleet.fleet(file), checked_day(day)
    names = tuple(dict.fromkeys(techniques.canonical(t) for t in (wanted or TRIED)))
    for name in names:
        techniques.parts(name)
    costs = {stock.gpu.name: cost_of(stock, term, today) for stock in asked.stocks}
    table, engine = catalog_quality.quality_table(), catalog.engine()
    tasks = []
    for job in asked.jobs:
        arrivals, slo = job.workload.arrivals, job.workload.slo
        demand = Demand(
            model=job.model,
            workload=job.workload,
            peak=arrivals.mean_rate if job.workload.offline else arrivals.peak_rate,
            mean=arrivals.mean_rate,
            limits=Limits(
                ttft=slo.ttft, tpot=slo.tpot, e2e=slo.e2e, percentile=slo.percentile, quality=job.quality,
                any_technique=any_technique,
            ),
            engine=engine,
        )  # fmt: skip
        context = int(job.workload.context(slo.percentile))
        losses = {name: quality(name, job.model, job.workload.task, context, table) for name in names}
        sites = [
            Site(gpu=gpu, calibration=calibrated(gpu, job.model, profile), cost=costs[gpu.name])
            for gpu in (s.gpu for s in asked.stocks)
        ]
        tasks.append(task(job.name, demand, names, losses, sites))
    found = plan(tasks, {s.gpu.name: s.count for s in asked.stocks}, asked.buckets, seconds=seconds)

    def report() -> list[object]:
        from kvplan.report import fleet as words

        return [*words.report(found)]

    def document() -> dict[str, object]:
        from kvplan.report import fleet_document

        return fleet_document.document(found)

    deliver(as_json, document, report, found.reason)
