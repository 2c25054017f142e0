"""A mixed fleet for several workloads, with the GPUs that can be had."""

from collections.abc import Iterable
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.recommend import demand_of, formats_of
from kvplan.api.sites import ON_DEMAND, PUBLISHED, price_list, site
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.planning.fleet.options import FleetWorkload
from kvplan.planning.fleet.plan import SECONDS, FleetPlan, plan, task
from kvplan.planning.site import CONFIDENCE, Limits, Site
from kvplan.planning.suitability import check_context, read_by
from kvplan.quality.loss import quality
from kvplan.specs.fleet import Job, Stock
from kvplan.specs.hardware import Price
from kvplan.specs.model import ModelSpec

#: bounds of the solver's time [s]
LEAST_SECONDS, MOST_SECONDS = 0.1, 3e3


def fleet(
    file: str,
    *,
    techniques: str | Iterable[str] = (),
    any_technique: bool = False,
    weights: str | Iterable[str] = (),
    confidence: float | str | None = None,
    term: str = ON_DEMAND,
    prices: str | Iterable[str] = (),
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
    seconds: float = SECONDS,
) -> FleetPlan:
    """Return the cheapest mixed fleet for a YAML file's workloads: which requests go to which GPUs.

    `weights` restricts the weight formats, `confidence` is how sure the latency limits must be kept, `seconds` bounds
    the solver, `prices` are files of your own prices. Raises KvplanError for a file, names and values that cannot be
    understood.

        >>> kvplan.fleet("one.yaml", techniques="baseline", on="2026-11-24").reason
        ''
    """
    asked, day = catalog.fleet(values.word(file, "file")), values.day(on)
    jobs = [replace(job, workload=read_by(job.model, job.workload, catalog.all_models)) for job in asked.jobs]
    at_most = values.number(seconds, "seconds", LEAST_SECONDS, MOST_SECONDS)
    long = values.flag(allow_long_context, "allow_long_context")
    for job in jobs:
        longest = int(job.workload.context(job.workload.slo.percentile))
        check_context(job.model, longest, long, f"{asked.name}: {job.name}")
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    listed = price_list(None, prices)
    names = values.technique_names(techniques, spelling.searched())

    forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    limits = Limits(
        confidence=CONFIDENCE if confidence is None else values.bounded_share(confidence, "confidence", 0.05, 0.99),
        any_technique=values.flag(any_technique, "any_technique"),
    )

    def place(stock: Stock, model: ModelSpec) -> Site:
        return stocked(stock, model, offered, day, servers, listed)

    tasks = [demanded(job, names, [place(s, job.model) for s in asked.stocks], limits, forms) for job in jobs]
    return plan(tasks, {s.gpu.name: s.count for s in asked.stocks}, asked.buckets, seconds=at_most)


def stocked(stock: Stock, model: ModelSpec, term: str, day: str, profile: str, listed: tuple[Price, ...] = ()) -> Site:
    """Return a type of GPU that can be had: at the file's price, else at the day's offers."""
    found = site(stock.gpu, model, day, price=stock.price, listed=listed, term=term, profile=profile)
    if found.price is None:
        name = stock.gpu.name
        raise SpecError(f"{name}: no {term} price on {day}; write one, as in {name}: {{count: 8, price: 2.49 USD/h}}")
    return found


def demanded(
    job: Job, names: tuple[str, ...], sites: list[Site], asked: Limits, forms: tuple[str, ...]
) -> FleetWorkload:
    """Return one workload of the file with the techniques and weight formats its limits allow."""
    slo = job.workload.slo
    limits = replace(
        asked, ttft=slo.ttft, tpot=slo.tpot, e2e=slo.e2e, percentile=slo.percentile, quality=job.quality
    )  # fmt: skip
    context, table = int(job.workload.context(slo.percentile)), catalog.quality_table()
    qualities = {name: quality(name, job.model, job.workload.task, context, table) for name in names}
    found = formats_of(job.model, job.workload.task, context, forms)
    demand = demand_of(job.model, job.workload, limits, forms=found.searched, native=not forms)
    return task(job.name, demand, names, qualities, sites, found.losses)
