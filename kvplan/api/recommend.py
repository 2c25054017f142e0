"""One plan for a workload: a technique, a GPU count and a cost per query, with reasons and a range."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.prices import rank
from kvplan.api.sites import ON_DEMAND, PUBLISHED, compared, gpus_of, one_price, price_list, site, with_power
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.money.gpu_cost import GpuCost, rent
from kvplan.money.offers import caveat
from kvplan.planning.demand import Demand
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.hosting import Tenure, tenures
from kvplan.planning.recommend import Recommendation
from kvplan.planning.recommend import recommend as chosen
from kvplan.planning.site import OBJECTIVES, Limits, Site
from kvplan.planning.suitability import check_context, read_by
from kvplan.quality.loss import checked
from kvplan.quality.loss import quality as loss_of
from kvplan.specs.hardware import Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload

#: more replicas than stand in for others
MOST_SPARES = 64


def recommend(
    workload: str,
    model: str,
    *,
    queries_per_day: float | str | None = None,
    rate: float | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    e2e: float | str | None = None,
    percentile: float | str | None = None,
    max_quality_drop: float | str | None = None,
    quality: str | Iterable[str] = (),
    gpus: str | Iterable[str] = (),
    techniques: str | Iterable[str] = (),
    any_technique: bool = False,
    weights: str | Iterable[str] = (),
    objective: str = "cost",
    max_gpus: int | None = None,
    spares: int | None = None,
    headroom: float | str = 0.0,
    confidence: float | str = 0.5,
    prefix_cache: bool = True,
    term: str = ON_DEMAND,
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    own: str | None = None,
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
) -> Recommendation:
    """Return the best plan under the limits, and why; without one, what it fails on.

    Limits of time are in seconds at the `percentile` of the requests (the workload's own where none is given, 'none'
    lifts one), `max_quality_drop` is a share. `price` is USD per GPU-hour, `prices` are files of your own prices,
    `own` a file of what owning takes. One spare replica is paid for unless nobody waits (an offline workload) or
    `spares` says otherwise. Raises KvplanError for names and values that cannot be understood.

        >>> found = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> found.plan.technique, found.plan.gpu
        ('fp8', 'h100-sxm')
    """
    spec, day, own_rent = catalog.model(values.word(model, "model")), values.day(on), values.price(price)
    aim = values.one_of(objective, "objective", OBJECTIVES)
    forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    owned = values.given(values.word, own, "own")
    asked = demanded(values.word(workload, "workload"), spec, values.per_day(queries_per_day, rate))
    stands = int(not asked.offline) if spares is None else values.count(spares, "spares", 0, MOST_SPARES)
    limits = Limits(
        ttft=values.limit(ttft, asked.slo.ttft, "ttft"),
        tpot=values.limit(tpot, asked.slo.tpot, "tpot"),
        e2e=values.limit(e2e, asked.slo.e2e, "e2e"),
        percentile=percentile_of(percentile, asked),
        quality=None if max_quality_drop is None else values.share(max_quality_drop, "max_quality_drop"),
        gpus=values.given(values.count, max_gpus, "max_gpus", 1, values.MOST_REQUESTS),
        confidence=values.bounded_share(confidence, "confidence", 0.05, 0.99),
        any_technique=values.flag(any_technique, "any_technique"),
    )
    context = int(asked.context(limits.percentile))
    check_context(spec, context, values.flag(allow_long_context, "allow_long_context"), "workload")
    names = values.technique_names(techniques, spelling.searched())
    named, found = bool(values.several(gpus, "gpus")), gpus_of(gpus)
    if own_rent and owned:
        raise SpecError("price, own: give one of them; the price of an owned server stands in the file of own=")
    one_price(own_rent, found, named)
    listed = price_list(price, prices)
    places = {
        gpu.name: site(
            gpu, spec, day, price=own_rent, listed=listed, term=offered, owned=owned, power=True, profile=servers
        )
        for gpu in found.values()
    }
    places = places if named else compared(places)
    priced, unpriced = split(places, aim, named, owned, offered, day)
    table = catalog.quality_table()
    own_tables = [checked(catalog.quality_file(word)) for word in values.several(quality, "quality")]
    answer = chosen(
        demand_of(
            spec,
            asked,
            limits,
            forms=forms,
            headroom=values.share(headroom, "headroom"),
            spares=stands,
            prefix_cache=values.flag(prefix_cache, "prefix_cache"),
        ),
        names,
        priced,
        {name: loss_of(name, spec, asked.task, context, table, *own_tables) for name in names},
        objective=aim,
        apis=catalog.apis(),
        day=day,
        guesses=named,
        absent=unpriced,
    )
    offered_here = terms_of(answer, listed, owned or catalog.DEFAULT, servers, day)
    return replace(answer, warnings=warned(answer, spec, context, day), terms=offered_here)


def terms_of(
    answer: Recommendation, listed: tuple[Price, ...], owned: str, profile: str, day: str
) -> tuple[Tenure, ...]:
    """Return what the plan costs at its price, on every other term its GPU is offered, owned, and what APIs charge."""
    if answer.plan is None or answer.site is None or answer.site.cost is None:
        return ()
    here, gpu = answer.site, answer.site.gpu
    used = here.price
    costs: dict[tuple[str, str], tuple[GpuCost, str]] = {}
    if used is not None:
        costs[used.term, used.provider] = rent(used), said_of(here)
    terms = dict.fromkeys(p.term for p in (*listed, *catalog.prices()) if p.gpu == gpu.name)
    for term in sorted(terms, key=lambda t: (rank(t), t)):
        place = replace(here, owned=None, offers=catalog.offers(gpu.name, day, term, listed))
        if not term.startswith("owned") and place.price is not None and (used is None or term != used.term):
            costs[term, place.price.provider] = rent(place.price), said_of(place)
    mine = here.owned or with_power(here, owned, profile).owned
    if mine is not None:
        costs["owned", ""] = mine, f"servers of {mine.unit} GPUs, bought whole"
    return tenures(answer.demand, answer.plan, costs, answer.break_even)


def said_of(place: Site) -> str:
    """Return what the price of a rented GPU rests on, in words."""
    price = place.price
    assert price is not None
    several = f"median of {len(place.offers)} offers" if len(place.offers) > 1 else "one offer"
    together = f", in servers of {price.gpus} GPUs" if price.gpus > 1 else ""
    warning = caveat(price.term)
    return f"{'your price' if price.yours else several}{together}{f'; {warning}' if warning else ''}"


def demanded(word: str, model: ModelSpec, per_day: float | None) -> Workload:
    """Return a workload at the volume asked for, its images read as the model reads them."""
    found = read_by(model, catalog.workload(word), catalog.all_models)
    if per_day is None:
        return found
    return replace(found, arrivals=replace(found.arrivals, queries_per_day=per_day))


def percentile_of(value: float | str | None, workload: Workload) -> float:
    """Return the share of requests that keep the limits."""
    found = workload.slo.percentile if value is None else values.share(value, "percentile")
    if not 0.5 <= found < 1:
        raise SpecError("percentile: expected a share from 50% to below 100%, as in 95%")
    return found


def demand_of(
    model: ModelSpec, workload: Workload, limits: Limits, *, forms: Iterable[str] = (), headroom: float = 0.0,
    spares: int = 0, prefix_cache: bool = True,
) -> Demand:  # fmt: skip
    """Return what a workload demands: an offline one its mean rate, any other that of its busiest hour."""
    arrivals = workload.arrivals
    return Demand(
        model=model,
        workload=workload,
        peak=arrivals.mean_rate if workload.offline else arrivals.peak_rate,
        mean=arrivals.mean_rate,
        limits=limits,
        engine=catalog.engine(),
        forms=tuple(dict.fromkeys(forms)) or (None,),
        headroom=headroom,
        spares=spares,
        prefix_cache=prefix_cache,
    )


def split(
    places: Mapping[str, Site], objective: str, named: bool, owned: str | None, term: str, day: str
) -> tuple[list[Site], dict[str, str]]:
    """Return the GPUs to plan with, and why the others are left out: no price of them is known."""
    unpriced = [name for name, place in places.items() if place.cost is None]
    if len(unpriced) == len(places) and objective == "cost":
        raise SpecError(no_price(unpriced if named else [], owned, term, day))
    kept = [p for p in places.values() if p.cost is not None or (named and objective != "cost")]
    left = [name for name in unpriced if name not in {p.gpu.name for p in kept}]
    return kept, {name: no_price([], owned, term, day) for name in left}


def no_price(names: list[str], owned: str | None, term: str, day: str) -> str:
    """Return what is missing, and what to write, where GPUs have no price."""
    which = ", ".join(names) or "it"
    if owned is not None:
        missing = f"what a server with {which} costs, or its power, is unknown"
        return f"{missing}; write it under servers: in a file for own=FILE"
    if not names:
        return f"no {term} price on {day}; give one with gpus= and price=, or another term="
    return f"no {term} price of {which} on {day}; give one with price=2.49/h, or another term= or on="


def warned(r: Recommendation, model: ModelSpec, context: int, day: str) -> tuple[str, ...]:
    """Return what the reader must know first: a context beyond the model's, an old price, a missing number format."""
    found = [*context_warnings(model, context), *model.notes]
    if r.site is not None:
        found += [*old_price(r.site, day), *no_bf16(r.site.gpu, model)]
    return tuple(found)
