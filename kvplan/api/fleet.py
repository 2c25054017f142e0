"""A mixed fleet for several workloads, with the GPUs that can be had."""

from collections.abc import Iterable
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.demands import MOST_SPARES, arrival_notes, confidence_of, demand_of, spares_of
from kvplan.api.idle import SERVED_ANYHOW, Call, idle
from kvplan.api.losses import formats_of, losses_of
from kvplan.api.markets import no_price
from kvplan.api.sites import ON_DEMAND, PUBLISHED, price_list, site
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.fleet.options import FleetWorkload, task
from kvplan.planning.fleet.plan import SECONDS, FleetPlan, plan, surest
from kvplan.planning.plan import Book, admits
from kvplan.planning.planned import trust
from kvplan.planning.site import Limits, Site
from kvplan.planning.suitability import check_context, read_by
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
    spares: int | None = None,
    term: str = ON_DEMAND,
    prices: str | Iterable[str] = (),
    own: str | None = None,
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
    seconds: float = SECONDS,
) -> FleetPlan:
    """Return the cheapest mixed fleet for a YAML file's workloads: which requests go to which GPUs.

    `weights` restricts the weight formats, `confidence` is how sure the limits must be kept (unasked 90 %, or the
    surest there is from 50 % on), `seconds` bounds the solver, `prices` are files of your own prices, `own` a file of
    what owning takes. Every pool of a workload for which somebody waits has one spare replica unless `spares` says
    otherwise. Raises KvplanError for a file, names and values that cannot be understood.

        >>> kvplan.fleet("one.yaml", techniques="baseline", on="2026-11-24").reason
        ''
    """
    call = dict(locals())
    request = catalog.fleet(values.word(file, "file"))
    day = values.day(on)
    jobs = [replace(job, workload=read_by(job.model, job.workload, catalog.all_models)) for job in request.jobs]
    at_most = values.number(seconds, "seconds", LEAST_SECONDS, MOST_SECONDS)
    long = values.flag(allow_long_context, "allow_long_context")
    warnings: dict[str, None] = {}
    for job in jobs:
        longest = int(job.workload.context(job.workload.slo.percentile))
        check_context(job.model, longest, long, f"{request.name}: {job.name}")
        model_notes = (*context_warnings(job.model, longest), *job.model.notes, *arrival_notes(job.workload))
        warnings |= {f"for {job.name}: {line}": None for line in model_notes}
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    listed = price_list(None, prices)
    owned = values.given(values.word, own, "own")
    names = values.technique_names(techniques, spelling.searched())
    stands = values.given(values.count, spares, "spares", 0, MOST_SPARES)
    forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    limits = Limits(
        confidence=confidence_of(confidence),
        any_technique=values.flag(any_technique, "any_technique"),
    )
    tasks = []
    for job in jobs:
        sites = [site_of(s, job.model, offered, day, servers, listed, owned) for s in request.stocks]
        for home in sites:
            warnings |= dict.fromkeys((*old_price(home, day), *no_bf16(home.gpu, job.model)))
        tasks.append(fleet_workload(job, names, sites, limits, forms, stands))
    stock = {s.gpu.name: s.count for s in request.stocks}
    answer = (surest if confidence is None else plan)(tasks, stock, request.buckets, seconds=at_most)
    for u in answer.uses:
        notes = trust(u.option.group.demand, u.option.plan, u.option.site)
        warnings |= dict.fromkeys(f"for {u.option.group.task.name}: {line}" for line in notes)

    def usable(other: Call) -> list[bool]:
        at = replace(limits, any_technique=other["any_technique"])
        return [admits(replace(t.demand, limits=at), name) for t in tasks for name in names]

    unused = idle(fleet, ("any_technique",), call, usable, lambda _: SERVED_ANYHOW)
    return replace(answer, warnings=(*warnings, *unused))


def site_of(
    stock: Stock, model: ModelSpec, term: str, day: str, profile: str, listed: tuple[Price, ...] = (),
    owned: str | None = None,
) -> Site:  # fmt: skip
    """Return a type of GPU that can be had: at the file's price, owned, else at the day's offers."""
    name = stock.gpu.name
    if owned is not None and stock.price is not None:
        raise SpecError(f"{name}, own: the file gives a price; leave out one of them")
    place = site(
        stock.gpu, model, day, price=stock.price, listed=listed, term=term, owned=owned, profile=profile
    )  # fmt: skip
    if place.cost is None:
        if owned is not None:
            raise SpecError(f"{name}: {no_price([name], owned, term, day)}")
        raise SpecError(f"{name}: no {term} price on {day}; write one, as in {name}: {{count: 8, price: 2.49 USD/h}}")
    return place


def fleet_workload(
    job: Job, names: tuple[str, ...], sites: list[Site], bounds: Limits, forms: tuple[str, ...], spares: int | None
) -> FleetWorkload:
    """Return one workload of the file with the techniques and weight formats its limits allow."""
    slo = job.workload.slo
    limits = replace(
        bounds, ttft=slo.ttft, tpot=slo.tpot, e2e=slo.e2e, percentile=slo.percentile, quality=job.quality
    )  # fmt: skip
    context = int(job.workload.context(slo.percentile))
    losses = losses_of((*names, *spelling.searched()), job.model, job.workload, context)
    formats = formats_of(job.model, job.workload.task, context, forms)
    demand = demand_of(
        job.model, job.workload, limits, forms=formats.searched, native=not forms,
        spares=spares_of(spares, job.workload),
    )  # fmt: skip
    book = Book(demand, losses, formats.losses)
    return task(job.name, demand, names, book, sites, formats=tuple(formats.left), others=tuple(losses))
