"""One plan for a workload: a technique, a GPU count and a cost per query, with reasons and a range."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.confirm import confirmations, why_not_simulated
from kvplan.api.demands import LEAST_LOAD, MOST_LOAD, arrival_notes, paced, users_note, workload_at, workload_named
from kvplan.api.idle import SERVED_ANYHOW, UNSHARED, Call, idle
from kvplan.api.markets import Market, market_of
from kvplan.api.questions import Question, draftings_of, engines_of, limits_of, question_of
from kvplan.api.sites import ON_DEMAND, PUBLISHED, word_of
from kvplan.api.terms import terms_of
from kvplan.api.vary import axes_of, each, with_changes
from kvplan.errors import KvplanError
from kvplan.kv.profiling import graph_warnings
from kvplan.kv.runners import caches
from kvplan.planning.confirm import Confirmation
from kvplan.planning.estimate import context_warnings, no_bf16, old_price
from kvplan.planning.plan import Plan, admits
from kvplan.planning.planned import trust
from kvplan.planning.recommend import Recommendation, Variation, best_of, best_plan
from kvplan.planning.remedies import STEP, Remedy, surest
from kvplan.planning.searching.search import Progress
from kvplan.planning.speculation import not_started
from kvplan.planning.suitability import check_context
from kvplan.units import show_odds

#: volumes at which users who wait for answers are tried, and how far what they ask may be from what is planned for
PACES, SETTLED = 8, 0.01
#: by how much less is tried where no plan is for a volume
LESS = 0.8
#: options that may change nothing of a workload, a model or an engine
OPTIONS = ("prefix_cache", "any_technique")


def recommend(
    workload: str | None,
    model: str,
    *,
    isl: int | str | None = None,
    osl: int | str | None = None,
    queries_per_day: float | str | None = None,
    rate: float | str | None = None,
    users: float | str | None = None,
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
    speculative: str | None = None,
    load: float | str = 1.0,
    vary: Mapping[str, Iterable[Any]] | str | Iterable[str] = (),
    simulate: bool = False,
    progress: Progress | None = None,
) -> Recommendation:
    """Return the best plan under the limits, and why; without one, what it fails on.

    Without a workload (None) every request has `isl` tokens in and `osl` out. The volume is `queries_per_day`, a
    `rate`, or that of so many `users` at work in the busiest hour, as `load` counts them. Limits of time are in seconds
    at the `percentile` of the requests (the workload's own where none is given, 'none' lifts one), `max_quality_drop`
    is a share, `confidence` is how sure the limits must be kept: 90 % unless it is given, or as sure as a plan can be
    where none is that sure but one is surer than a coin. `price` is USD per GPU-hour, `prices` are files of your own
    prices, `own` a file of what owning takes. One spare replica is paid for unless nobody waits (an offline workload)
    or `spares` says otherwise. `engine` 'any' tries all whose servers were measured, `load` multiplies the volume, and
    `vary` asks again with other values, as in {"load": [1, 3], "price": ["1.99/h", "2.49/h"]} or "load=1,3".
    `speculative` also tries speculative decoding: mtp, eagle3 or a draft model, with as many tokens drafted a step as
    named (eagle3:3) or as come out best, and as many yielded as measured (eagle3:3=2.4) or published. `simulate`
    replays the workload's busiest hour on the best plan and the runner-up. `progress` hears (share searched, what is
    next). Raises KvplanError for names and values that cannot be understood.

        >>> best = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on="2026-11-24")
        >>> best.plan.technique, best.plan.gpu
        ('fp8', 'h100-sxm')
    """
    call = dict(locals())
    listener = values.given(values.called, progress, "progress")
    axes = axes_of(vary, call)
    each(call, axes, read_call)  # what cannot be read is said before anything is planned
    question, market, engines, day = read_call(call)
    answer = best_answer(question, market, engines, listener, lowers=confidence is None)
    answer = at_users_pace(call, answer, listener)
    if answer.plan is None and not answer.remedies:
        answer = with_smaller_model(answer, call)
    simulates = values.flag(simulate, "simulate")
    simulated = confirmations(answer, day, market.profile, **market.paid) if simulates else ()
    not_simulated = why_not_simulated(answer) if simulates else ""
    return replace(
        answer,
        warnings=(
            *([not_simulated] if not_simulated else ()),
            *contradictions(simulated),
            *([users_note(users_of(call), answer.demand, answer.plan)] if asks_by_users(call, axes) else ()),
            *warnings_of(answer, question, day),
            *idle(recommend, OPTIONS, call, inputs, why_unused),
        ),
        terms=terms_of(answer, market.listed, market.owned or catalog.DEFAULT, market.profile, day),
        named=len(market.gpus) if market.named else 0,
        confirmed=simulated,
        variations=tuple(
            Variation(changed=tuple(changed.items()), answer=varied)
            for changed, varied in zip(axes, each(call, axes, lambda asked: recommend(**asked)), strict=True)
        ),
    )


def read_call(call: Mapping[str, Any]) -> tuple[Question, Market, tuple[str, ...], str]:
    """Return what the values of a call ask: the question, GPUs and prices, engines, and the day of the prices.

    Raises KvplanError for names and values that cannot be understood.
    """
    spec = catalog.model(values.word(call["model"], "model"))
    day = values.day(call["on"])
    engines = engines_of(call["engine"])
    traffic = workload_at(
        workload_named(call["workload"], call["isl"], call["osl"], day), spec,
        values.per_day(call["queries_per_day"], call["rate"]),
        values.number(call["load"], "load", LEAST_LOAD, MOST_LOAD), values.given(values.users, call["users"]),
    )  # fmt: skip
    limits = limits_of(
        traffic, quality=call["max_quality_drop"], gpus=call["max_gpus"],
        **{name: call[name] for name in ("ttft", "tpot", "e2e", "percentile", "confidence", "any_technique")},
    )  # fmt: skip
    longer = values.flag(call["allow_long_context"], "allow_long_context")
    check_context(spec, int(traffic.context(limits.percentile)), longer, "workload")
    searched = ("techniques", "weights", "quality", "objective", "headroom", "spares", "prefix_cache")
    question = question_of(
        spec,
        traffic,
        limits,
        drafting=draftings_of(call["speculative"], spec),
        **{name: call[name] for name in searched},
    )
    offered = {name: call[name] for name in ("price", "prices", "own", "term", "profile")}
    market = market_of(call["gpus"], day, **offered)
    return question, market, market.served_by(engines), day


def users_of(call: Mapping[str, Any]) -> float | None:
    """Return the number of users asked for, times the load; None where the volume is given otherwise."""
    users = values.given(values.users, call["users"])
    return None if users is None else users * values.number(call["load"], "load", LEAST_LOAD, MOST_LOAD)


def asks_by_users(call: Mapping[str, Any], axes: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the volume of a call, or of one of its what-ifs, is that of users."""
    return call["users"] is not None or any("users" in changed for changed in axes)


def at_users_pace(call: Mapping[str, Any], first: Recommendation, progress: Progress | None) -> Recommendation:
    """Return the answer at the volume of users none of whom asks again before an answer is there.

    `first` is for all who ask at the workload's interval. Where an answer takes longer they ask less, and how much less
    follows from the plan for it: of those tried, the least volume that is no less than its plan's users ask for.
    Progress begins anew with each.
    """
    if users_of(call) is None:
        return first
    demand = first.demand
    between, every = demand.workload.between_questions, volume_of(first)
    best = tried = first
    for _ in range(PACES):
        plan = tried.plan or next((remedy.plan for remedy in tried.remedies), None)
        if plan is None:
            break
        volume, asked = volume_of(tried), paced(every, between, plan.answered(demand.output))
        enough = tried.plan is not None and asked <= volume * (1 + SETTLED)
        if enough and (best.plan is None or volume < volume_of(best)):
            best = tried
        if tried.plan is None and tried is not first:  # a plan that takes longer may do for less
            asked = min(asked, LESS * volume)
        if abs(asked - volume) <= SETTLED * volume:
            break
        # less to do is done sooner, and then more is asked: from the second on, halfway
        asked = asked if tried is first else (asked * volume) ** 0.5
        question, market, engines, _ = read_call(with_changes(call, {"queries_per_day": asked, "load": 1.0}))
        tried = best_answer(question, market, engines, progress, lowers=call["confidence"] is None)
    return best


def volume_of(r: Recommendation) -> float:
    """Return the mean volume that an answer is for. [1/day]"""
    return r.demand.workload.arrivals.queries_per_day


def inputs(call: Call) -> tuple[object, ...]:
    """Return all that OPTIONS may change of a search: what prefix caches hold, and which techniques may be used."""
    question, _, engines, _ = read_call(call)
    found = []
    for demand in (question.on(word, question.demand.limits.confidence) for word in engines):
        kept = caches(demand.engine, demand.model, demand.prefix_cache or None)
        shared = demand.workload.prefix_share if demand.prefix_cache else 0.0
        found.append((kept, shared, [admits(demand, name) for name in question.techniques]))
    return tuple(found)


def why_unused(option: str) -> str:
    """Return why an option of a search changes nothing."""
    return SERVED_ANYHOW if option.startswith("any_technique=") else UNSHARED


def best_answer(
    question: Question, market: Market, engines: Sequence[str], progress: Progress | None, lowers: bool
) -> Recommendation:
    """Return the best answer on any of the engines; with `lowers` as sure a plan as there is, where none is as sure."""
    parts = [part_of_progress(progress, done, len(engines)) for done in range(len(engines))]
    answer = best_of([market.answered(question, word, progress=p) for word, p in zip(engines, parts, strict=True)])
    odds = surest(answer.remedies) if answer.plan is None and lowers else None
    if not odds:
        return answer
    above = [plans[0] for word in engines for plans in market.ranked([question], word, odds + STEP) if plans]
    below = [market.answered(question, word, odds) for word in engines]
    return at_lower_confidence(answer, below, best_plan(question.objective, above))


def part_of_progress(progress: Progress | None, done: int, of: int) -> Progress | None:
    """Return the progress of one of several parts of the work, as progress of the whole."""
    return progress and (lambda share, text: progress((done + share) / of, text))


def at_lower_confidence(answer: Recommendation, again: Sequence[Recommendation], surer: Plan | None) -> Recommendation:
    """Return the best of the answers that keep the limits less surely than was sought; `surer` is a step above."""
    others = tuple(remedy for remedy in answer.remedies if "confidence" not in remedy.parameters)
    return replace(best_of(again), remedies=others, sought=answer.demand.limits.confidence, surer=surer)


def with_smaller_model(answer: Recommendation, call: Mapping[str, Any]) -> Recommendation:
    """Return an answer without a plan or a remedy with what would do for a smaller model of the series."""
    model = answer.demand.model
    series = f"{model.name.split('-')[0]}-"
    lighter = [catalog.model(name) for name in catalog.names("models") if name.startswith(series)]
    for spec in sorted((m for m in lighter if m.parameters < model.parameters), key=lambda m: -m.parameters):
        try:
            other = recommend(**with_changes(call, {"model": spec.name}))
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


#: difference in the probability of keeping the limits that is more than rounding and luck
ODDS_MARGIN = 0.1
#: factors of the load that a page may ask about
LOADS = (0.5, 1.0, 2.0, 4.0)


def at_loads(call: Mapping[str, Any], answer: Recommendation) -> list[tuple[float, tuple[Plan, ...]]]:
    """Return (factor, plans, the best first) at other loads, on the recommended GPU and engine; none without a plan.

    The limits are to be kept as surely as in the answer; nothing but plans is worked out.
    """
    if answer.plan is None or answer.site is None:
        return []
    usual = dict(recommend.__kwdefaults__ or {})
    gpu = word_of(answer.plan.gpu, call.get("gpus") or ())
    fixed = {**usual, **call, "gpus": [gpu], "queries_per_day": volume_of(answer), "rate": None, "users": None}
    asked = [read_call(with_changes(fixed, {"load": factor})) for factor in LOADS]
    _, market, engines, _ = asked[0]
    engine = next(word for word in engines if word.partition("@")[0] == answer.plan.engine)
    plans = market.ranked([question for question, *_ in asked], engine, answer.demand.limits.confidence)
    return list(zip(LOADS, plans, strict=True))


def contradictions(rows: Sequence[Confirmation]) -> Iterator[str]:
    """Yield what a simulation says against the plan's odds, nothing where it confirms them."""
    if rows and rows[0].odds < rows[0].plan.slo_probability - ODDS_MARGIN:
        best = rows[0]
        odds = f"{show_odds(best.odds)} probability, not {show_odds(best.plan.slo_probability)}"
        many = "no number of replicas" if best.replicas is None else f"{best.replicas} replicas"
        yield (
            f"a simulation of the busiest hour keeps the limits with {odds}: it takes {many} to be as sure as was asked"
        )


def warnings_of(r: Recommendation, question: Question, day: str) -> tuple[str, ...]:
    """Return what the reader must know first: a context beyond the model's, scores of others, an old price ..."""
    model = question.demand.model
    counted = r.plan is not None and r.plan.drafting is not None and r.plan.drafting.draft.kind == "mtp"
    notes = [note for note in model.notes if not (counted and "multi-token" in note)]
    stated = (*context_warnings(model, question.context), *question.warnings, *notes)
    warnings = [*stated, *arrival_notes(r.demand.workload)]
    if r.site is not None:
        warnings += [*old_price(r.site, day), *no_bf16(r.site.gpu, model)]
        if r.plan is not None:
            placed = replace(r.site, weights=r.plan.form).deployment(r.plan.parallel)
            warnings += [*graph_warnings(model, placed, optional=False), *trust(r.demand, r.plan, r.site)]
    engine = r.demand.engine
    if r.plan is not None and engine.launch is None and (told := catalog.described_releases(engine.name)):
        unknown = f"the options of {engine.title} {engine.version} are not known, so no command starts this plan"
        warnings.append(f"{unknown}; they are from engine={told[0]} on")
    drafts = {not_started(r.demand.engine, model, d.draft): d.draft.kind for d in question.demand.drafting}
    warnings += [f"planned without speculative decoding: {reason}" for reason in drafts if reason]
    return tuple(warnings)
