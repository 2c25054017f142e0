"""One plan for a workload: a technique, a GPU count and a cost per query, with reasons and a range."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.prices import rank
from kvplan.api.sites import ENGINES, ON_DEMAND, PUBLISHED, compared, gpus_of, one_price, price_list, site, with_power
from kvplan.api.vary import axes_of, varied
from kvplan.errors import KvplanError, SpecError
from kvplan.kv import spelling
from kvplan.kv.replica import native_formats
from kvplan.money.gpu_cost import GpuCost, rent
from kvplan.money.offers import caveat
from kvplan.planning.demand import Demand
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.hosting import Tenure, tenures
from kvplan.planning.recommend import Recommendation, Variation, best_of
from kvplan.planning.recommend import recommend as chosen
from kvplan.planning.remedies import Remedy, surest
from kvplan.planning.site import CONFIDENCE, OBJECTIVES, Limits, Site
from kvplan.planning.suitability import check_context, read_by
from kvplan.quality.loss import Quality, checked
from kvplan.quality.loss import quality as loss_of
from kvplan.quality.weights import FREE, weight_loss
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import QualityTable
from kvplan.specs.source import Source
from kvplan.specs.workload import Arrivals, Quantiles, Slo, Workload
from kvplan.units import show_percent

#: more replicas than stand in for others
MOST_SPARES = 64
#: what asks for every engine whose servers were measured
ANY = "any"
#: what a volume may be multiplied by
LEAST_LOAD, MOST_LOAD = 1e-6, 1e6


def recommend(
    workload: str | None,
    model: str,
    *,
    isl: int | str | None = None,
    osl: int | str | None = None,
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
    confidence: float | str | None = None,
    prefix_cache: bool = True,
    term: str = ON_DEMAND,
    price: float | str | None = None,
    prices: str | Iterable[str] = (),
    own: str | None = None,
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
    engine: str = "vllm",
    load: float | str = 1.0,
    vary: Mapping[str, Iterable[Any]] | str | Iterable[str] = (),
) -> Recommendation:
    """Return the best plan under the limits, and why; without one, what it fails on.

    Without a workload (None) every request has `isl` tokens in and `osl` out. Limits of time are in seconds at the
    `percentile` of the requests (the workload's own where none is given, 'none' lifts one), `max_quality_drop` is a
    share, `confidence` is how sure the limits must be kept: 90 % unless it is given, or as sure as a plan can be where
    none is that sure but one is surer than a coin. `price` is USD per GPU-hour, `prices` are files of your own prices,
    `own` a file of what owning takes. One spare replica is paid for unless nobody waits (an offline workload) or
    `spares` says otherwise. `engine` 'any' tries all whose servers were measured, `load` multiplies the volume, and
    `vary` asks again with other values, as in {"load": [1, 3], "price": ["1.99/h", "2.49/h"]} or "load=1,3". Raises
    KvplanError for names and values that cannot be understood.

        >>> found = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> found.plan.technique, found.plan.gpu
        ('fp8', 'h100-sxm')
    """
    again = dict(locals())
    spec, day, own_rent = catalog.model(values.word(model, "model")), values.day(on), values.price(price)
    aim = values.one_of(objective, "objective", OBJECTIVES)
    wanted_forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    owned = values.given(values.word, own, "own")
    asked = demanded(
        spoken_of(workload, isl, osl, day), spec, values.per_day(queries_per_day, rate),
        values.number(load, "load", LEAST_LOAD, MOST_LOAD),
    )  # fmt: skip
    stands = int(not asked.offline) if spares is None else values.count(spares, "spares", 0, MOST_SPARES)
    axes = axes_of(vary, again)
    engines = ENGINES if engine == ANY else (values.engine(engine, "engine", (*ENGINES, ANY)),)
    limits = Limits(
        ttft=values.limit(ttft, asked.slo.ttft, "ttft"),
        tpot=values.limit(tpot, asked.slo.tpot, "tpot"),
        e2e=values.limit(e2e, asked.slo.e2e, "e2e"),
        percentile=percentile_of(percentile, asked),
        quality=None if max_quality_drop in (None, "none") else values.share(max_quality_drop, "max_quality_drop"),
        gpus=values.given(values.count, max_gpus, "max_gpus", 1, values.MOST_REQUESTS),
        confidence=CONFIDENCE if confidence is None else values.bounded_share(confidence, "confidence", 0.05, 0.99),
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
    own_tables = [checked(catalog.quality_file(word)) for word in values.several(quality, "quality")]
    formats = formats_of(spec, asked.task, context, wanted_forms, own_tables)
    demand = demand_of(
        spec,
        asked,
        limits,
        forms=formats.searched,
        native=not wanted_forms,
        headroom=values.share(headroom, "headroom"),
        spares=stands,
        prefix_cache=values.flag(prefix_cache, "prefix_cache"),
    )
    losses = {
        name: loss_of(name, spec, asked.task, context, catalog.quality_table(), *own_tables)
        for name in dict.fromkeys((*names, *spelling.searched()))
    }

    def answered(word: str, sure: float = limits.confidence) -> Recommendation:
        places = {
            gpu.name: site(
                gpu, spec, day, price=own_rent, listed=listed, term=offered, owned=owned, power=True, engine=word,
                profile=servers,
            )
            for gpu in found.values()
        }  # fmt: skip
        places = places if named else compared(places)
        priced, unpriced = split(places, aim, named, owned, offered, day)
        alone = named and not own_rent and owned is None
        elsewhere = others(spec, found, day, offered, servers, word) if alone else ()
        return chosen(
            replace(demand, engine=catalog.engine(word), limits=replace(limits, confidence=sure)),
            names,
            priced,
            losses,
            objective=aim,
            apis=catalog.apis(),
            day=day,
            guesses=named,
            absent=unpriced,
            losses=formats.losses,
            unsearched=formats.left,
            others=elsewhere,
        )

    answer = best_of([answered(word) for word in engines])
    if answer.plan is None and confidence is None and (odds := surest(answer.remedies)):
        others_found = tuple(remedy for remedy in answer.remedies if "confidence" not in remedy.parameters)
        answer = replace(
            best_of([answered(word, odds) for word in engines]), remedies=others_found, sought=limits.confidence
        )
    if answer.plan is None and not answer.remedies:
        answer = smaller(answer, again)
    return replace(
        answer,
        warnings=warned(answer, spec, context, day),
        terms=terms_of(answer, listed, owned or catalog.DEFAULT, servers, day),
        named=len(found) if named else 0,
        variations=tuple(
            Variation(changed=tuple(changed.items()), answer=recommend(**varied(again, changed))) for changed in axes
        ),
    )


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


def smaller(answer: Recommendation, asked: Mapping[str, Any]) -> Recommendation:
    """Return an answer without a plan or a remedy with the largest smaller model of the series that has a plan."""
    model = answer.demand.model
    series = f"{model.name.split('-')[0]}-"
    lighter = [catalog.model(name) for name in catalog.names("models") if name.startswith(series)]
    for spec in sorted((m for m in lighter if m.parameters < model.parameters), key=lambda m: -m.parameters):
        try:
            found = recommend(**varied(asked, {"model": spec.name}))
        except KvplanError:  # it cannot be asked: its context is too short
            continue
        if found.plan is not None:
            return replace(
                answer, remedies=(Remedy(change=f"model={spec.name}", plan=found.plan, demand=found.demand),)
            )
        if not found.remedies:  # it has looked at all that are smaller still
            return answer
        if found.remedies[0].change.startswith("model="):
            return replace(answer, remedies=found.remedies)
    return answer


def spoken_of(workload: str | None, isl: int | str | None, osl: int | str | None, day: str) -> str | Workload:
    """Return the name of a workload, or one of requests that are all alike."""
    read, written = values.optional_tokens(isl, "isl"), values.optional_tokens(osl, "osl")
    if read is None and written is None:
        if workload is None:
            raise SpecError("workload: name one, or give isl= and osl= (tokens in and out) and rate= instead")
        return values.word(workload, "workload")
    if workload is not None or read is None or written is None:
        raise SpecError("workload, isl, osl: give either a workload, or both isl and osl")
    return alike(read, written, day)


def alike(isl: int, osl: int, day: str) -> Workload:
    """Return a workload of equal requests that come at random and at one rate all day; its volume is not known."""
    source = Source(
        kind="assumption", ref="requests as asked for, Poisson arrivals, one rate all day", date="2026-11-28"
    )
    return Workload(
        name=f"{isl}-{osl}",
        title=f"Requests of {isl:,} input and {osl:,} output tokens",
        task="chat",
        offline=False,
        input=Quantiles(((0.0, isl), (1.0, isl))),
        output=Quantiles(((0.0, osl), (1.0, osl))),
        arrivals=Arrivals(queries_per_day=0.0, hours=(1.0,) * 24, burstiness=1.0, busiest_minute=1.0),
        slo=Slo(ttft=None, tpot=None, e2e=None, percentile=0.95),
        source=source,
        sources={},
    )


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Weight formats to search, what each loses, and why others are left out."""

    searched: tuple[str | None, ...]
    losses: dict[str | None, Quality]
    left: dict[str, str]


def formats_of(
    model: ModelSpec, task: str, context: int, named: Sequence[str], own: Sequence[QualityTable] = ()
) -> Formats:
    """Return the formats asked for, else the checkpoint's and those it can be converted to at next to no loss."""

    def loss(form: str | None) -> Quality:
        return weight_loss(form, model, task, context, catalog.quality_table(), *own)

    if named:
        forms: tuple[str | None, ...] = tuple(dict.fromkeys(named))
        return Formats(searched=forms, losses={form: loss(form) for form in forms}, left={})
    losses = {form: loss(form) for form in (None, *native_formats(model))}
    left = {form: why for form, found in losses.items() if form and (why := too_lossy(form, found))}
    return Formats(searched=tuple(form for form in losses if form not in left), losses=losses, left=left)


def too_lossy(form: str, loss: Quality) -> str:
    """Return why a weight format is not searched unasked, '' where it may be."""
    if loss.drop is None:
        return f"their quality loss is not known ({loss.basis}); use weights={form} to plan with them"
    if loss.drop > FREE:
        return f"they lose {show_percent(loss.drop, 1)} on {loss.task}; use weights={form} to plan with them"
    return ""


def others(
    model: ModelSpec, asked: Mapping[str, Gpu], day: str, term: str, profile: str, engine: str
) -> tuple[Site, ...]:
    """Return the GPUs with a price that were not asked about and on which servers were measured."""
    rest = (gpu for name, gpu in gpus_of(()).items() if name not in asked)
    found = (site(gpu, model, day, term=term, power=True, engine=engine, profile=profile) for gpu in rest)
    return tuple(place for place in found if place.cost is not None and place.calibration.grounded)


def demanded(word: str | Workload, model: ModelSpec, per_day: float | None, load: float = 1.0) -> Workload:
    """Return a workload at the volume asked for, times `load`, its images read as the model reads them."""
    found = read_by(model, catalog.workload(word) if isinstance(word, str) else word, catalog.all_models)
    volume = load * (found.arrivals.queries_per_day if per_day is None else per_day)
    if not volume:
        raise SpecError(
            "rate, queries_per_day: give one of them; requests without a workload have no volume of their own"
        )
    return replace(found, arrivals=replace(found.arrivals, queries_per_day=volume))


def percentile_of(value: float | str | None, workload: Workload) -> float:
    """Return the share of requests that keep the limits."""
    found = workload.slo.percentile if value is None else values.share(value, "percentile")
    if not 0.5 <= found < 1:
        raise SpecError("percentile: expected a share from 50% to below 100%, as in 95%")
    return found


def demand_of(
    model: ModelSpec, workload: Workload, limits: Limits, *, forms: Iterable[str | None] = (), native: bool = False,
    headroom: float = 0.0, spares: int = 0, prefix_cache: bool = True,
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
        native=native,
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
