"""One plan for a workload: a technique, a GPU count and a cost per query, with reasons and a range."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.confirm import confirmed
from kvplan.api.demands import LEAST_LOAD, MOST_LOAD, MOST_SPARES, demand_of, demanded, percentile_of, spoken_of
from kvplan.api.forms import formats_of
from kvplan.api.places import others, split
from kvplan.api.sites import ENGINES, ON_DEMAND, PUBLISHED, compared, gpus_of, one_price, price_list, site
from kvplan.api.tenure import terms_of
from kvplan.api.vary import axes_of, varied
from kvplan.errors import KvplanError, SpecError
from kvplan.kv import spelling
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.recommend import Recommendation, Variation, best_of
from kvplan.planning.recommend import recommend as chosen
from kvplan.planning.remedies import Remedy, surest
from kvplan.planning.site import CONFIDENCE, OBJECTIVES, Limits
from kvplan.planning.suitability import check_context
from kvplan.quality.loss import checked
from kvplan.quality.loss import quality as loss_of
from kvplan.specs.model import ModelSpec

#: what asks for every engine whose servers were measured
ANY = "any"


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
    simulate: bool = False,
) -> Recommendation:
    """Return the best plan under the limits, and why; without one, what it fails on.

    Without a workload (None) every request has `isl` tokens in and `osl` out. Limits of time are in seconds at the
    `percentile` of the requests (the workload's own where none is given, 'none' lifts one), `max_quality_drop` is a
    share, `confidence` is how sure the limits must be kept: 90 % unless it is given, or as sure as a plan can be where
    none is that sure but one is surer than a coin. `price` is USD per GPU-hour, `prices` are files of your own prices,
    `own` a file of what owning takes. One spare replica is paid for unless nobody waits (an offline workload) or
    `spares` says otherwise. `engine` 'any' tries all whose servers were measured, `load` multiplies the volume, and
    `vary` asks again with other values, as in {"load": [1, 3], "price": ["1.99/h", "2.49/h"]} or "load=1,3";
    `simulate` replays the workload's busiest hour on the best plan and the runner-up. Raises KvplanError for names and
    values that cannot be understood.

        >>> best = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> best.plan.technique, best.plan.gpu
        ('fp8', 'h100-sxm')
    """
    again = dict(locals())
    spec, day, own_rent = catalog.model(values.word(model, "model")), values.day(on), values.price(price)
    aim = values.one_of(objective, "objective", OBJECTIVES)
    wanted_forms = tuple(values.weight_format(form) for form in values.several(weights, "weights"))
    offered, servers = values.word(term, "term"), values.word(profile, "profile")
    owned = values.given(values.word, own, "own")
    traffic = demanded(
        spoken_of(workload, isl, osl, day), spec, values.per_day(queries_per_day, rate),
        values.number(load, "load", LEAST_LOAD, MOST_LOAD),
    )  # fmt: skip
    stands = int(not traffic.offline) if spares is None else values.count(spares, "spares", 0, MOST_SPARES)
    axes = axes_of(vary, again)
    engines = ENGINES if engine == ANY else (values.engine(engine, "engine", (*ENGINES, ANY)),)
    limits = Limits(
        ttft=values.limit(ttft, traffic.slo.ttft, "ttft"),
        tpot=values.limit(tpot, traffic.slo.tpot, "tpot"),
        e2e=values.limit(e2e, traffic.slo.e2e, "e2e"),
        percentile=percentile_of(percentile, traffic),
        quality=None if max_quality_drop in (None, "none") else values.share(max_quality_drop, "max_quality_drop"),
        gpus=values.given(values.count, max_gpus, "max_gpus", 1, values.MOST_REQUESTS),
        confidence=CONFIDENCE if confidence is None else values.bounded_share(confidence, "confidence", 0.05, 0.99),
        any_technique=values.flag(any_technique, "any_technique"),
    )
    context = int(traffic.context(limits.percentile))
    check_context(spec, context, values.flag(allow_long_context, "allow_long_context"), "workload")
    names = values.technique_names(techniques, spelling.searched())
    named, candidates = bool(values.several(gpus, "gpus")), gpus_of(gpus)
    if own_rent and owned:
        raise SpecError("price, own: give one of them; the price of an owned server stands in the file of own=")
    one_price(own_rent, candidates, named)
    listed = price_list(price, prices)
    own_tables = [checked(catalog.quality_file(word)) for word in values.several(quality, "quality")]
    formats = formats_of(spec, traffic.task, context, wanted_forms, own_tables)
    demand = demand_of(
        spec,
        traffic,
        limits,
        forms=formats.searched,
        native=not wanted_forms,
        headroom=values.share(headroom, "headroom"),
        spares=stands,
        prefix_cache=values.flag(prefix_cache, "prefix_cache"),
    )
    losses = {
        name: loss_of(name, spec, traffic.task, context, catalog.quality_table(), *own_tables)
        for name in dict.fromkeys((*names, *spelling.searched()))
    }

    def answered(word: str, sure: float = limits.confidence) -> Recommendation:
        places = {
            gpu.name: site(
                gpu, spec, day, price=own_rent, listed=listed, term=offered, owned=owned, power=True, engine=word,
                profile=servers,
            )
            for gpu in candidates.values()
        }  # fmt: skip
        places = places if named else compared(places)
        priced, unpriced = split(places, aim, named, owned, offered, day)
        alone = named and not own_rent and owned is None
        elsewhere = others(spec, candidates, day, offered, servers, word) if alone else ()
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
        named=len(candidates) if named else 0,
        confirmed=confirmed(answer, day, servers) if values.flag(simulate, "simulate") else (),
        variations=tuple(
            Variation(changed=tuple(changed.items()), answer=recommend(**varied(again, changed))) for changed in axes
        ),
    )


def smaller(answer: Recommendation, call: Mapping[str, Any]) -> Recommendation:
    """Return an answer without a plan or a remedy with what would do for a smaller model of the series."""
    model = answer.demand.model
    series = f"{model.name.split('-')[0]}-"
    lighter = [catalog.model(name) for name in catalog.names("models") if name.startswith(series)]
    for spec in sorted((m for m in lighter if m.parameters < model.parameters), key=lambda m: -m.parameters):
        try:
            other = recommend(**varied(call, {"model": spec.name}))
        except KvplanError:  # it cannot be asked: its context is too short
            continue
        if other.plan is not None:
            return replace(
                answer, remedies=(Remedy(change=f"model={spec.name}", plan=other.plan, demand=other.demand),)
            )
        # it has looked at all that are smaller still
        named = (
            r if "model" in r.parameters else replace(r, change=f"model={spec.name} and {r.change}")
            for r in other.remedies
        )
        return replace(answer, remedies=tuple(named))
    return answer


def warned(r: Recommendation, model: ModelSpec, context: int, day: str) -> tuple[str, ...]:
    """Return what the reader must know first: a context beyond the model's, an old price, a missing number format."""
    warnings = [*context_warnings(model, context), *model.notes]
    if r.site is not None:
        warnings += [*old_price(r.site, day), *no_bf16(r.site.gpu, model)]
    return tuple(warnings)
