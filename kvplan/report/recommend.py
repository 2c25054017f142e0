"""A recommendation: the answer first, then the money, the reasons, the others, and the same as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import isfinite

from kvplan.kv.spelling import BASELINE, in_words
from kvplan.money.api import BreakEven
from kvplan.planning.confirm import ROUTER
from kvplan.planning.hosting import per_million
from kvplan.planning.outcome import Rejected
from kvplan.planning.plan import Plan, first_of
from kvplan.planning.recommend import Recommendation
from kvplan.report import launch
from kvplan.report.blocks import (
    Block,
    Column,
    Json,
    Page,
    Text,
    merged,
    notes,
    record,
    records,
    schema,
    warned,
)
from kvplan.report.confirm import confirmed_records, confirmed_table, confirmed_words
from kvplan.report.cost import BASIS, SWING, TERM, TERM_BASIS, bill_table, billed, swing_table, terms_table
from kvplan.report.headline import answer, asked, rests_on
from kvplan.report.plan_drawings import of_plans
from kvplan.report.plans import (
    BARRED,
    FRONT,
    GPUS,
    KINDS,
    PLAN,
    engines_table,
    legend,
    off_front,
    plans_table,
    remedies_table,
    remedies_words,
    variations_table,
)
from kvplan.report.sources import assumed, brief, calibration, graph_rule, price, source
from kvplan.specs.line import Line
from kvplan.units import MILLION, MONTH, show_percent, show_time

#: rows of the tables of other plans
SHOWN = 10


# -- figures --------------------------------------------------------------------------------------


LINE = (
    Column[Line](key="name", value=lambda x: x.name),
    Column[Line](key="usd_per_query", value=lambda x: x.amount),
    Column[Line](key="basis", value=lambda x: x.basis),
)
ENERGY = (LINE[0], Column[Line](key="joules_per_query", value=lambda x: x.amount), LINE[2])
REJECTED = (
    Column[Rejected](key="technique", value=lambda x: x.technique or None),
    Column[Rejected](key="gpu", value=lambda x: x.gpu or None),
    Column[Rejected](key="weights", value=lambda x: x.weights or None),
    Column[Rejected](key="reason", value=lambda x: x.reason),
)
#: figures of a plan that stand in a data frame, and not in every table
ALSO = (
    "tp", "dp", "pp", "weights", "requests_in_flight", "ttft", "tpot", "e2e", "gpu_seconds_per_query",
    "joules_per_query", "engine", "served_by_engine", "measured_gpu", "speculative.draft",
)  # fmt: skip


# -- the page -------------------------------------------------------------------------------------


def page(r: Recommendation) -> Page:
    """Return the report of `kvplan recommend`."""
    return Page.of(
        Text(answer(r), "answer"),
        warned(r.warnings),
        Text(asked(r), "quiet"),
        Text(waiting(r, r.plan) if r.plan else "", "quiet"),
        rests_on(r),
        launch.started(r),
        of_plans(r, by_gpu(r), by_kind(r)) if r.plan else None,
        remedies_table(r),
        remedies_words(r),
        variations_table(r),
        engines_table(r),
        confirmed_table(r.confirmed),
        confirmed_words(r.confirmed, r.demand),
        bill_table(r),
        billed(r),
        terms_table(r),
        notes("Why", (f"- {line}" for line in r.why)),
        swing_table(r),
        others(r),
        notes("What cannot be used", merged((named(x), x.reason) for x in r.rejected)),
        notes("Speculative decoding", speculative(r.plan)),
        notes("Quality", r.plan.quality.caveats if r.plan else ()),
        notes("Sources", sources(r)),
    )


def plans(r: Recommendation) -> list[Plan]:
    """Return all plans, the recommended one first."""
    return [*([r.plan] if r.plan else []), *r.alternatives]


def by_gpu(r: Recommendation, most: int = SHOWN) -> tuple[Plan, ...]:
    """Return the best plan on each GPU: on all that were named, else on `most` of them."""
    served = [p for p in plans(r) if p.served_by_engine or r.plan is None]
    return first_of(served, lambda p: p.gpu)[: max(most, r.named)]


def by_kind(r: Recommendation) -> tuple[Plan, ...]:
    """Return the best plan with each of the first techniques and weight formats."""
    return first_of(plans(r), lambda p: (p.technique, p.form))[:SHOWN]


def others(r: Recommendation) -> Iterator[Block]:
    """Yield plans side by side: by GPU, by technique and weights, and those that no other beats."""
    limits, gpus, kinds = r.demand.limits, by_gpu(r), by_kind(r)
    if r.alternatives and gpus:
        yield plans_table(GPUS if r.plan else BARRED, gpus, limits, r.plan, r.per_query)
    if r.plan and len(kinds) > 1:
        yield plans_table(KINDS, kinds, limits, r.plan, r.per_query)
    if r.alternatives:
        yield legend([*gpus[:SHOWN], *kinds], limits)
        yield Text(priced_once(r, [*gpus, *(kinds if r.plan else ())]), "quiet")
    if len(r.front) > 1:
        yield plans_table(FRONT, r.front[:SHOWN], limits, r.plan, r.per_query)
        if remark := off_front(r.plan, r.front, r.objective):
            yield remark


def priced_once(r: Recommendation, shown: Sequence[Plan]) -> str:
    """Return that what may not be used was tried with one weight format alone, '' where that hides nothing."""
    barred = {(x.technique, x.weights or None) for x in r.rejected if x.technique and not x.gpu}
    forms = r.demand.forms
    if len(forms) < 2 or not any(p.pair in barred for p in shown):
        return ""
    first = f"{forms[0]} weights" if forms[0] else "the checkpoint's own weights"
    return f"What may not be used is priced with {first} alone; with others it may cost less."


def named(x: Rejected) -> str:
    """Return what a reason is about: a technique, its weights, or a GPU."""
    if x.weights:
        return (
            f"{x.weights} weights" if x.technique == BASELINE else f"{in_words(x.technique)} with {x.weights} weights"
        )
    return in_words(x.technique) if x.technique else x.gpu


def speculative(p: Plan | None) -> Iterator[str]:
    """Yield what the speculative decoding of a plan rests on."""
    if p is None or p.drafting is None:
        return
    used = p.drafting
    yield f"{used.words[:1].upper()}{used.words[1:]}; a step yields {used.accepted:.2f} on average: {used.basis}."
    if used.draft.note:
        yield f"Assumed: {used.draft.note}."
    yield (
        "Its weights and its cache are counted in the memory of every GPU. A step takes the pass that verifies the "
        "drafted tokens and one pass of the draft for each of them, at the same rates; no server was measured so."
    )
    yield (
        "The probability of keeping the limits leaves out how far the acceptance of your requests differs: engines log "
        f"how many tokens a step yields; give them, as in speculative={used.spelled}=2.4."
    )


def waiting(r: Recommendation, plan: Plan) -> str:
    """Return what waits and the prefix cache of a plan rest on."""
    w = r.demand.workload
    if w.offline:
        arrivals = "A closed loop: every replica is full until the batch is done."
    else:
        surge, burstiness = r.demand.waits_at
        kind = "Poisson arrivals" if burstiness == 1 else f"arrivals whose gaps have a CV of {burstiness:g}"
        minute = f" at {surge:g}x the rate of the busiest hour (its busiest minute)" if surge > 1 else ""
        sent = "" if plan.replicas - r.demand.spares <= 1 else ", sent to replicas at random"
        arrivals = f"Waits: {kind}{minute}{sent}, first come, first served."
    if not plan.cached_share:
        return arrivals
    hit = f"Prefix-cache hit rate: {show_percent(plan.cached_share)} of the input tokens"
    if len(w.prefix_classes) == 1:
        return f"{arrivals} {hit}; every request begins with them."
    most = f"{hit} ({show_percent(w.prefix_share)} if nothing were evicted)"
    how = (
        "The least recently used prefix is evicted first, running requests take memory before prefixes, and the next "
        f"question to a prefix follows {show_time(w.between_questions)} later on average, at the same replica."
    )
    return f"{arrivals} {most}. {how}"


def sources(r: Recommendation) -> Iterator[str]:
    """Yield where the numbers come from."""
    yield f"workload: {brief(r.demand.workload.source)}"
    yield f"model: {brief(r.demand.model.source)}"
    if r.site is not None:
        yield from assumed(r.site.gpu)
        yield from (f"times: {s}" for s in r.site.calibration.sources)
        yield from (f"price: {line.basis}" for line in (r.bill.kinds if r.bill else ()))
        if r.plan is not None:
            placed = replace(r.site, weights=r.plan.form).deployment(r.plan.parallel)
            yield from graph_rule(r.demand.model, placed)


# -- JSON -----------------------------------------------------------------------------------------


def plan(p: Plan, r: Recommendation) -> Json:
    """Return one plan; money also per million tokens (input and output) and month."""
    demand = r.demand
    document = record(PLAN, p)
    document["percentile"] = demand.limits.percentile
    document["usd_per_million_tokens"] = None if p.usd is None else p.usd / (demand.prompt + demand.output) * MILLION
    document["usd_per_million_input_tokens"], document["usd_per_million_output_tokens"] = per_million(demand, p)
    document["usd_per_month"] = None if p.usd is None else p.usd * demand.mean * MONTH
    document["spares"] = demand.spares
    document["router"] = ROUTER
    if item := demand.workload.item:
        each = demand.workload.requests_per_item
        document |= {
            "item": item,
            "requests_per_item": each,
            "usd_per_item": None if p.usd is None else p.usd * each,
        }
    return document


def rows(r: Recommendation) -> list[Json]:
    """Return the plans as one table for data frames, the recommended one first: what tells them apart, on one level."""
    shown = [c for c in PLAN if c.heading is not None or c.key in ALSO]
    return [{"recommended": p is r.plan} | {c.key: c.value(p) for c in shown} for p in plans(r)]


def plan_rows(r: Recommendation) -> list[Json]:
    """Return the plans under one set of names, the recommended one first and marked: what all of them have in JSON."""
    return [{"recommended": p is r.plan} | plan(p, r) for p in plans(r)]


def chosen(p: Plan, r: Recommendation) -> Json:
    """Return the recommended plan: as any, and its range, bill and energy."""
    low, middle, high = r.usd or (None, None, None)
    return {
        **plan(p, r),
        "confidence": r.demand.limits.confidence,
        "confidence_sought": r.sought or r.demand.limits.confidence,
        "usd_per_query": {
            "expected": p.usd,
            "p10": low,
            "p50": middle,
            "p90": high,
            "median": r.median,
            "smooth_arrivals": r.smooth,
        },
        "lines": records(LINE, (r.bill.lines_per("query") if r.bill else None) or ()),
        "kinds": records(LINE, (r.bill.lines_per("query", "kind") if r.bill else None) or ()),
        "energy": records(ENERGY, r.energy),
        "gpus_paid": r.bill.gpus if r.bill else None,
        "price": price(r.site.price) if r.site else None,
        "offers": [price(offer) for offer in r.site.offers] if r.site else [],
        "terms": records((*TERM, TERM_BASIS), r.terms),
        "launch": launch.document(r.launch),
        "server": asdict(r.needs) if r.needs else None,
        "promise": asdict(r.promise) if r.promise else None,
    }


def document(r: Recommendation, question: Json | None = None) -> Json:
    """Return the document of `kvplan recommend`; `question` is the call it was asked with."""
    demand, limits = r.demand, r.demand.limits
    return schema(
        "recommend",
        question=question or {},
        day=r.day,
        model=demand.model.name,
        workload={
            "name": demand.workload.name,
            "task": demand.workload.task,
            "queries_per_day": demand.workload.arrivals.queries_per_day,
            "mean_rate": demand.mean,
            "peak_rate": demand.peak,
            "input_tokens": demand.prompt,
            "output_tokens": demand.output,
            "prefix_share": demand.workload.prefix_share if demand.prefix_cache else 0.0,
        },
        limits={
            "ttft": limits.ttft,
            "tpot": limits.tpot,
            "e2e": limits.e2e,
            "percentile": limits.percentile,
            "max_quality_drop": limits.quality,
            "gpus": limits.gpus,
            "confidence": limits.confidence,
        },
        objective=r.objective,
        candidates=r.tried,
        recommended=chosen(r.plan, r) if r.plan else None,
        alternatives=[plan(p, r) for p in r.alternatives],
        simulated=confirmed_records(r.confirmed),
        front=[plan(p, r) for p in r.front],
        rejected=records(REJECTED, r.rejected),
        remedies=[{"change": x.change, "plan": plan(x.plan, r)} for x in r.remedies],
        why=list(r.why),
        warnings=list(r.warnings),
        sensitivity=records((*SWING, BASIS), r.swings),
        break_even=[{"provider": api.provider, "model": api.model, **break_even(even)} for api, even in r.break_even],
        reason=r.lacking,
        engine=demand.engine.name,
        engines=[engine_document(x) for x in r.engines],
        variations=[
            {
                "changed": dict(v.changed),
                "recommended": plan(v.answer.plan, v.answer) if v.answer.plan else None,
                "reason": v.answer.lacking,
            }
            for v in r.variations
        ],
        calibration=None if r.site is None else standing_document(r),
    )


def engine_document(r: Recommendation) -> Json:
    """Return the best plan on one engine, and what its times rest on."""
    return {
        "engine": r.demand.engine.name,
        "recommended": plan(r.plan, r) if r.plan else None,
        "reason": r.lacking,
        "calibration": None if r.site is None else standing_document(r),
    }


def break_even(volumes: BreakEven) -> Json:
    """Return the volumes between which an API and hosting cost the same."""
    return {
        "queries_per_day": volumes.queries_per_day,
        "first": volumes.first,
        "until": volumes.until if isfinite(volumes.until) else None,
        "api_usd_per_query": volumes.api_per_query,
        "reason": volumes.reason,
    }


def standing_document(r: Recommendation) -> Json:
    """Return what the times and the quality rest on."""
    assert r.site is not None
    document = calibration(r.site.calibration)
    document["sources"] += [source(s) for s in (r.plan.quality.source if r.plan else ())]
    document["sources"] = [dict(pairs) for pairs in dict.fromkeys(tuple(s.items()) for s in document["sources"])]
    return document
