"""One plan for a workload: a technique, a GPU count and a cost per query, with reasons and a range."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kvplan import catalog
from kvplan.api import values
from kvplan.api.sites import ON_DEMAND, PUBLISHED, gpus_of, one_price, site
from kvplan.errors import SpecError
from kvplan.kv import spelling
from kvplan.planning.demand import Demand
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.recommend import Recommendation
from kvplan.planning.recommend import recommend as chosen
from kvplan.planning.site import CONFIDENCE, OBJECTIVES, Limits, Site
from kvplan.planning.suitability import check_context
from kvplan.quality.loss import Quality, checked
from kvplan.quality.loss import quality as loss_of
from kvplan.quality.weights import FREE, native_formats, weight_loss
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import QualityTable
from kvplan.specs.workload import Workload
from kvplan.units import show_percent

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
    spares: int = 0,
    headroom: float | str = 0.0,
    confidence: float | str = CONFIDENCE,
    prefix_cache: bool = True,
    term: str = ON_DEMAND,
    price: float | str | None = None,
    own: str | None = None,
    profile: str = PUBLISHED,
    on: str | None = None,
    allow_long_context: bool = False,
) -> Recommendation:
    """Return the best plan under the limits, and why; without one, what it fails on.

    Limits of time are in seconds at the `percentile` of the requests (the workload's own where none is given, 'none'
    lifts one), `max_quality_drop` is a share. `price` is USD per GPU-hour, `own` a file of what owning takes. Raises
    KvplanError for names and values that cannot be understood.

        >>> found = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> found.plan.technique, found.plan.gpu
        ('fp8', 'h100-sxm')
    """
    spec, day, rent = catalog.model(values.word(model, "model")), values.day(on), values.price(price)
    aim = values.one_of(objective, "objective", OBJECTIVES)
    wanted_forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    owned = values.given(values.word, own, "own")
    standing = values.count(spares, "spares", 0, MOST_SPARES)
    asked = demanded(values.word(workload, "workload"), spec, values.per_day(queries_per_day, rate))
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
    if rent and owned:
        raise SpecError("price, own: give one of them; the price of an owned server stands in the file of own=")
    one_price(rent, found, named)
    places = {
        gpu.name: site(gpu, spec, day, price=rent, term=offered, owned=owned, power=True, profile=servers)
        for gpu in found.values()
    }
    priced, unpriced = split(places, aim, named, owned, offered, day)
    own_tables = [checked(catalog.quality_file(word)) for word in values.several(quality, "quality")]
    formats = formats_of(spec, asked.task, context, wanted_forms, own_tables)
    answer = chosen(
        demand_of(
            spec,
            asked,
            limits,
            forms=formats.searched,
            native=not wanted_forms,
            headroom=values.share(headroom, "headroom"),
            spares=standing,
            prefix_cache=values.flag(prefix_cache, "prefix_cache"),
        ),
        names,
        priced,
        {
            name: loss_of(name, spec, asked.task, context, catalog.quality_table(), *own_tables)
            for name in dict.fromkeys((*names, *spelling.searched()))
        },
        objective=aim,
        apis=catalog.apis(),
        day=day,
        guesses=named,
        absent=unpriced,
        losses=formats.losses,
        unsearched=formats.left,
        others=others(spec, found, day, offered, servers) if named and not rent and owned is None else (),
    )
    return replace(answer, warnings=warned(answer, spec, context, day), named=len(found) if named else 0)


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


def others(model: ModelSpec, asked: Mapping[str, Gpu], day: str, term: str, profile: str) -> tuple[Site, ...]:
    """Return the GPUs with a price that were not asked about and on which servers were measured."""
    rest = (gpu for name, gpu in gpus_of(()).items() if name not in asked)
    found = (site(gpu, model, day, term=term, power=True, profile=profile) for gpu in rest)
    return tuple(place for place in found if place.cost is not None and place.calibration.grounded)


def demanded(word: str, model: ModelSpec, per_day: float | None) -> Workload:
    """Return a workload at the volume asked for, its images read as the model reads them."""
    found = catalog.workload(word)
    if any(mixer.kind == "cross" for mixer in model.mixers()):
        found = found.cross_attended()
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
