"""A recommendation: the answer first, then the money, the reasons, the others, and the same as JSON."""

from collections.abc import Iterator
from math import isfinite

from kvplan.kv.budget import Line
from kvplan.kv.spelling import BASELINE
from kvplan.money.api import BreakEven
from kvplan.planning.hosting import Tenure, per_million
from kvplan.planning.plan import Plan, first_of
from kvplan.planning.recommend import Recommendation, Rejected, Variation
from kvplan.planning.remedies import STEP, Remedy
from kvplan.planning.sensitivity import Swing
from kvplan.report.blocks import (
    Bar,
    Column,
    Json,
    Page,
    Span,
    Table,
    Text,
    merged,
    notes,
    record,
    records,
    schema,
    sentence,
    table,
)
from kvplan.report.plans import BARRED, FRONT, GPUS, KINDS, PLAN, legend, loss, plans_table
from kvplan.report.sources import assumed, brief, calibration, interval, price, source
from kvplan.specs.workload import Workload
from kvplan.units import HOUR, MILLION, MONTH, show_percent, show_time, show_usd

#: rows of the tables of other plans
SHOWN = 10
#: an API so many times cheaper than the plan is named with the plan
FAR = 2.0
#: and bursts, where they are this share of the cost
DRIVES = 0.1
#: lines of a bill below this share of it are left out of its table
TRIFLE = 0.0005


# -- figures --------------------------------------------------------------------------------------


LINE = (
    Column[Line](key="name", value=lambda x: x.name),
    Column[Line](key="usd_per_query", value=lambda x: x.amount),
    Column[Line](key="basis", value=lambda x: x.basis),
)
ENERGY = (LINE[0], Column[Line](key="joules_per_query", value=lambda x: x.amount), LINE[2])
SWING = (
    Column[Swing](key="name", heading="quantity", value=lambda s: s.name, align="left", wraps=True),
    Column[Swing](key="usd_per_query", value=lambda s: [s.low, s.high]),
    Column[Swing](heading="cost from", value=lambda s: s.low, show=show_usd),
    Column[Swing](heading="to", value=lambda s: s.high, show=show_usd),
)
BASIS = Column[Swing](key="basis", heading="basis", value=lambda s: s.basis, align="left", wraps=True)
TERM = (
    Column[Tenure](key="term", heading="term", value=lambda t: t.term, align="left"),
    Column[Tenure](
        key="provider", heading="provider", value=lambda t: t.provider or None, align="left", wraps=True, absent=""
    ),
    Column[Tenure](key="usd_per_gpu_hour", heading="$ / GPU-h", value=lambda t: t.gpu_hour, show=show_usd, absent=""),
    Column[Tenure](key="gpus", heading="GPUs", value=lambda t: t.gpus or None, absent=""),
    Column[Tenure](key="usd_per_query", heading="$ / query", value=lambda t: t.usd, show=show_usd, absent="no price"),
    Column[Tenure](
        key="usd_per_month", heading="a month", value=lambda t: t.per_month, show=show_usd, absent="no price"
    ),
)
TERM_BASIS = Column[Tenure](key="basis", heading="basis", value=lambda t: t.basis, align="left", wraps=True)
REJECTED = (
    Column[Rejected](key="technique", value=lambda x: x.technique or None),
    Column[Rejected](key="gpu", value=lambda x: x.gpu or None),
    Column[Rejected](key="weights", value=lambda x: x.weights or None),
    Column[Rejected](key="reason", value=lambda x: x.reason),
)


# -- the page -------------------------------------------------------------------------------------


def page(r: Recommendation) -> Page:
    """Return the report of `kvplan recommend`."""
    plans = [*([r.plan] if r.plan else []), *r.alternatives]
    gpus = first_of([p for p in plans if p.served_by_engine or r.plan is None], lambda p: p.gpu)
    kinds = first_of(plans, lambda p: (p.technique, p.form))
    limits = r.demand.limits
    marked = [*gpus[:SHOWN], *kinds[:SHOWN]]
    return Page.of(
        Text(answer(r), "answer"),
        (Text(f"Note: {sentence(warning)}", "warning") for warning in r.warnings),
        Text(asked(r), "quiet"),
        Text(waiting(r, r.plan), "quiet") if r.plan else None,
        standing(r),
        remedies_table(r),
        variations_table(r),
        engines_table(r),
        bill_table(r),
        billed(r),
        terms_table(r),
        notes("Why", (f"- {line}" for line in r.why)),
        swing_table(r),
        plans_table(GPUS if r.plan else BARRED, gpus[: max(SHOWN, r.named)], limits)
        if r.alternatives and gpus
        else None,
        plans_table(KINDS, kinds[:SHOWN], limits) if r.plan and len(kinds) > 1 else None,
        legend(marked, limits) if r.alternatives else None,
        plans_table(FRONT, r.front[:SHOWN], limits) if len(r.front) > 1 else None,
        notes("What cannot be used", merged((named(x), x.reason) for x in r.rejected)),
        notes("Quality", r.plan.quality.caveats if r.plan else ()),
        notes("Sources", sources(r)),
    )


def named(x: Rejected) -> str:
    """Return what a reason is about: a technique, its weights, or a GPU."""
    if x.weights:
        return f"{x.weights} weights" if x.technique == BASELINE else f"{x.technique} with {x.weights} weights"
    return x.technique or x.gpu


def answer(r: Recommendation) -> str:
    """Return the lines to take away: the plan, its cost, its odds, what it loses, and what would be far cheaper."""
    p, demand = r.plan, r.demand
    head = f"{demand.workload.title} on {demand.model.title}"
    if p is None or r.site is None:
        return f"{head}: {r.lacking}."
    how = "uncompressed" if p.technique == BASELINE else f"with {p.technique}"
    if p.form:
        how += f" with {p.form} weights" if p.technique == BASELINE else f" on the KV cache and {p.form} weights"
    replicas = f"{p.gpus}x {r.site.gpu.title} ({p.replicas} replica{'s' * (p.replicas > 1)} of {p.parallel})"
    if r.bill and r.bill.gpus > p.gpus:
        replicas += f", {r.bill.gpus:g} GPUs paid for in servers of {r.bill.unit},"
    money = ""
    if p.usd is not None:
        interval = f" (P50; P10 {show_usd(r.usd[0])}, P90 {show_usd(r.usd[2])})" if r.usd else ""
        money = f", at {show_usd(p.usd)} a query{interval} and {show_usd(p.usd * demand.mean * MONTH)} a month"
        money += priced(r) + item_cost(p.usd, demand.workload)
    certainty = "No latency limit is set."
    if has_limits(r):
        certainty = f"The latency limits are kept with {show_percent(p.slo_probability)} probability."
        if r.sought is not None:
            kept, sought = show_percent(p.slo_probability), show_percent(r.sought)
            certainty = (
                f"No plan keeps the latency limits with {sought} probability; this one keeps them with {kept}, none "
                f"with {show_percent(STEP)} more."
            )
    more = "".join(f" {line}" for line in (quality_line(p), api_line(r), burst_line(r)) if line)
    engine = f" on {demand.engine.title}" if r.engines else ""
    return f"{head}: {replicas} {how}{engine}{money}. {certainty}{more}"


def quality_line(p: Plan) -> str:
    """Return the quality a plan is expected to lose, '' where it loses none."""
    if p.quality.drop == p.quality.high == 0:
        return ""
    if p.quality.drop is None:
        return "What it loses in quality is not known."
    return f"Expected quality loss: {loss(p.quality)}."


def api_line(r: Recommendation) -> str:
    """Return that an API of this very model is far cheaper, '' where none is."""
    assert r.plan is not None
    same = [(price, e) for price, e in r.break_even if price.serves == r.demand.model.name and e.api_per_query]
    if not same or r.plan.usd is None:
        return ""
    price, even = min(same, key=lambda pair: pair[1].api_per_query or 0.0)
    times = r.plan.usd / (even.api_per_query or 1.0)
    if times < FAR:
        return ""
    charge = show_usd((even.api_per_query or 0.0) * r.demand.mean * MONTH)
    return f"An API is {times:.3g} times cheaper: {price.model} from {price.provider} would charge {charge} a month."


def burst_line(r: Recommendation) -> str:
    """Return what drives the cost where bursts do, '' elsewhere."""
    assert r.plan is not None
    if r.smooth is None or r.plan.usd is None or r.smooth > (1 - DRIVES) * r.plan.usd:
        return ""
    smooth = show_usd(r.smooth * r.demand.mean * MONTH)
    return f"Bursts drive the cost: with smooth arrivals it would be {smooth} a month."


def variations_table(r: Recommendation) -> Table | None:
    """Return the plan for other values of what was varied, None where nothing was."""
    if not r.variations:
        return None

    def changed(k: int) -> Column[Variation]:
        name = r.variations[0].changed[k][0]
        return Column[Variation](heading=name.replace("_", " "), value=lambda v: v.changed[k][1], align="left")

    def monthly(v: Variation) -> float | None:
        plan = v.answer.plan
        return None if plan is None or plan.usd is None else plan.usd * v.answer.demand.mean * MONTH

    columns = (
        *map(changed, range(len(r.variations[0].changed))),
        Column[Variation](
            heading="plan", value=lambda v: v.answer.plan.label if v.answer.plan else v.answer.lacking, align="left",
            wraps=True,
        ),
        Column[Variation](heading="GPUs", value=lambda v: v.answer.plan and v.answer.plan.gpus),
        Column[Variation](heading="$ / query", value=lambda v: v.answer.plan and v.answer.plan.usd, show=show_usd),
        Column[Variation](heading="a month", value=monthly, show=show_usd),
        Column[Variation](
            heading="limits kept", value=lambda v: v.answer.plan and v.answer.plan.slo_probability, show=show_percent
        ),
    )  # fmt: skip
    return table("What if", columns, r.variations, keys=len(r.variations[0].changed))


def engines_table(r: Recommendation) -> Table | None:
    """Return the best plan on every engine that was tried, and what its times rest on; None for one engine."""
    if not r.engines:
        return None
    columns = (
        Column[Recommendation](heading="engine", value=lambda x: x.demand.engine.title, align="left"),
        Column[Recommendation](
            heading="plan", value=lambda x: x.plan.label if x.plan else x.lacking, align="left", wraps=True
        ),
        Column[Recommendation](heading="$ / query", value=lambda x: x.plan and x.plan.usd, show=show_usd),
        Column[Recommendation](
            heading="limits kept", value=lambda x: x.plan and x.plan.slo_probability, show=show_percent
        ),
        Column[Recommendation](
            heading="times rest on", value=lambda x: x.site and x.site.calibration.doubt, align="left", wraps=True
        ),
    )
    return table("Best plan on each engine", columns, r.engines, tone=lambda x: "best" if x.plan is r.plan else "plain")


def remedies_table(r: Recommendation) -> Table | None:
    """Return what would make a plan possible or sure enough, the cheapest first; None where nothing is needed."""
    if not r.remedies:
        return None
    month = r.demand.mean * MONTH
    columns = (
        Column[Remedy](heading="change", value=lambda x: x.change, align="left"),
        Column[Remedy](heading="plan", value=lambda x: x.plan.label, align="left", wraps=True),
        Column[Remedy](heading="GPUs", value=lambda x: x.plan.gpus),
        Column[Remedy](
            heading="a month", value=lambda x: None if x.plan.usd is None else x.plan.usd * month, show=show_usd,
            absent="no price",
        ),
        Column[Remedy](heading="limits kept", value=lambda x: x.plan.slo_probability, show=show_percent),
    )  # fmt: skip
    wanted = (
        "make a plan possible" if r.sought is None else f"keep the limits with {show_percent(r.sought)} probability"
    )
    return table(f"What would {wanted}", columns, r.remedies)


def priced(r: Recommendation) -> str:
    """Return what the price of a rented GPU rests on, '' for an owned one."""
    if r.site is None or r.site.price is None:
        return ""
    count, hourly = len(r.site.offers), f"{show_usd(r.site.price.price * HOUR)} per GPU-hour"
    if r.site.price.yours:
        return f", at your price of {hourly}"
    return f", at {hourly}, {f'the median of {count} offers' if count > 1 else 'which rests on one offer'}"


def item_cost(usd: float, w: Workload) -> str:
    """Return a sentence with what one item costs, '' where an item is one request."""
    if w.requests_per_item <= 1:
        return ""
    return f". One {w.item} takes {w.requests_per_item:g} queries: {show_usd(usd * w.requests_per_item)} a {w.item}"


def has_limits(r: Recommendation) -> bool:
    """Whether any latency limit is set."""
    limits = r.demand.limits
    return any(x is not None for x in (limits.ttft, limits.tpot, limits.e2e))


def asked(r: Recommendation) -> str:
    """Return what was asked, in a line."""
    demand, limits = r.demand, r.demand.limits
    w = demand.workload
    times = [
        f"{n} {show_time(t)}"
        for n, t in (("TTFT", limits.ttft), ("TPOT", limits.tpot), ("end to end", limits.e2e))
        if t
    ]
    kept = f"{', '.join(times)} at P{100 * limits.percentile:g}" if times else "no latency limit"
    share = w.prefix_share if demand.prefix_cache else 0.0
    reuse = f", {show_percent(share)} of the input shared with earlier requests" if share else ""
    quality = f", quality loss at most {show_percent(limits.quality, 1)}" if limits.quality is not None else ""
    volume = f"{w.arrivals.queries_per_day:,.0f} queries a day (peak {demand.peak / demand.mean:.1f}x)"
    tokens = f"{demand.prompt:,} input and {demand.output:,.0f} output tokens on average"
    return f"{volume}, {tokens}{reuse}. Limits: {kept}{quality}. {r.tried:,} candidates were searched."


def waiting(r: Recommendation, plan: Plan) -> str:
    """Return what waits and the prefix cache of a plan rest on."""
    w = r.demand.workload
    if w.offline:
        arrivals = "A closed loop: every replica is full until the batch is done."
    else:
        surge, burstiness = r.demand.waits_at
        kind = "Poisson arrivals" if burstiness == 1 else f"arrivals whose gaps have a CV of {burstiness:g}"
        minute = f" at {surge:g}x the rate of the busiest hour (its busiest minute)" if surge > 1 else ""
        arrivals = f"Waits: {kind}{minute}, first come, first served."
    if not plan.cached_share:
        return arrivals
    hit = f"{show_percent(plan.cached_share)} of the input tokens are found in the prefix cache"
    if w.reused is not None:
        return f"{arrivals} {hit}, as was measured with nothing evicted; every request is counted with that mean."
    if len(w.prefix_classes) == 1:
        return f"{arrivals} {hit}: every request begins with them."
    of = show_percent(w.prefix_share)
    how = (
        f"of {of} if nothing were evicted: the least recently used prefix leaves first, requests that run come before"
        f" prefixes, questions to one follow after {show_time(w.between_questions)} on average and go to one replica"
    )
    return f"{arrivals} {hit}, {how}."


def standing(r: Recommendation) -> Text | None:
    """Return what the plan's times stand on, None without a plan."""
    if r.site is None or r.plan is None:
        return None
    c = r.site.calibration
    return Text(f"Times ({c.tier}): {c.doubt}. {interval(c)}.", "quiet" if c.grounded else "warning")


def bill_table(r: Recommendation) -> Table | None:
    """Return where each dollar goes, None without a bill."""
    if r.bill is None or r.plan is None:
        return None
    per_query, months = r.bill.lines_per("query") or (), r.bill.lines_per("month") or ()
    whole = sum(line.amount for line in per_query) or 1.0
    columns = (
        Column[tuple[Line, Line]](heading="a query costs", value=lambda x: x[0].name, align="left"),
        Column[tuple[Line, Line]](heading="USD", value=lambda x: x[0].amount, show=show_usd),
        Column[tuple[Line, Line]](heading="share", value=lambda x: x[0].amount / whole, show=show_percent),
        Column[tuple[Line, Line]](
            heading="",
            value=lambda x: x[0].amount / whole,
            cell=lambda x: Bar(x[0].amount / whole),
            align="left",
            picture=True,
        ),
        Column[tuple[Line, Line]](heading="a month", value=lambda x: x[1].amount, show=show_usd),
        Column[tuple[Line, Line]](heading="basis", value=lambda x: x[0].basis, align="left", wraps=True),
    )
    apart = zip(per_million(r.demand, r.plan), ("input", "output"), strict=True)
    each = f"{', '.join(f'{show_usd(usd)} per million {what} tokens' for usd, what in apart if usd is not None)}"
    total = ("total", show_usd(whole), show_percent(1.0), "", show_usd(sum(m.amount for m in months)), each)
    rows = [pair for pair in zip(per_query, months, strict=True) if pair[0].amount / whole >= TRIFLE]
    return table("Where each dollar goes", columns, rows, total=total)


def billed(r: Recommendation) -> Text | None:
    """Return what the figures of the bill are, None without a range."""
    if r.bill is None or r.usd is None:
        return None
    rented = "the median offer, " if r.site is not None and r.site.price is not None else ""
    middle = f"{rented}times at the middle of their error, the expected load and lengths"
    combined = "P10 and P90 combine what each quantity under Sensitivity does alone, as independent errors"
    return Text(f"The bill is at P50: {middle}. {combined}.", "quiet")


def terms_table(r: Recommendation) -> Table | None:
    """Return what the same plan costs rented, reserved and owned, and what APIs charge; None where one is known."""
    return table("The same load under other terms", (*TERM, TERM_BASIS), r.terms) if len(r.terms) > 1 else None


def swing_table(r: Recommendation) -> Table | None:
    """Return what moves the cost, as bars around it; None where nothing does."""
    if not r.swings or r.plan is None or r.plan.usd is None:
        return None
    ends = [x for s in r.swings for x in (s.low, s.high)]
    base, least, most = r.plan.usd, min(ends), max(ends)

    def span(s: Swing) -> Span:
        return Span(min(s.low, s.high), base, max(s.low, s.high), least, most)

    drawn = Column[Swing](heading="a query", value=lambda s: s.low, cell=span, align="left", picture=True)
    return table("Sensitivity of the cost of a query", (*SWING, drawn, BASIS), r.swings)


def sources(r: Recommendation) -> Iterator[str]:
    """Yield where the numbers come from."""
    yield f"workload: {brief(r.demand.workload.source)}"
    yield f"model: {brief(r.demand.model.source)}"
    if r.site is not None:
        yield from assumed(r.site.gpu)
        yield from (f"times: {s}" for s in r.site.calibration.sources)
        yield from (f"price: {line.basis}" for line in (r.bill.kinds if r.bill else ()))


# -- JSON -----------------------------------------------------------------------------------------


def plan(p: Plan, r: Recommendation) -> Json:
    """Return one plan; money also per million tokens (input and output) and month."""
    demand = r.demand
    found = record(PLAN, p)
    found["percentile"] = demand.limits.percentile
    found["usd_per_million_tokens"] = None if p.usd is None else p.usd / (demand.prompt + demand.output) * MILLION
    found["usd_per_million_input_tokens"], found["usd_per_million_output_tokens"] = per_million(demand, p)
    found["usd_per_month"] = None if p.usd is None else p.usd * demand.mean * MONTH
    found["spares"] = demand.spares
    if item := demand.workload.item:
        each = demand.workload.requests_per_item
        found |= {
            "item": item,
            "requests_per_item": each,
            "usd_per_item": None if p.usd is None else p.usd * each,
        }
    return found


def chosen(p: Plan, r: Recommendation) -> Json:
    """Return the recommended plan: as any, and its range, bill and energy."""
    low, middle, high = r.usd or (None, None, None)
    return {
        **plan(p, r),
        "confidence": r.demand.limits.confidence,
        "confidence_sought": r.sought or r.demand.limits.confidence,
        "usd_per_query": {"expected": p.usd, "p10": low, "p50": middle, "p90": high, "smooth_arrivals": r.smooth},
        "lines": records(LINE, (r.bill.lines_per("query") if r.bill else None) or ()),
        "kinds": records(LINE, (r.bill.lines_per("query", "kind") if r.bill else None) or ()),
        "energy": records(ENERGY, r.energy),
        "gpus_paid": r.bill.gpus if r.bill else None,
        "price": price(r.site.price) if r.site else None,
        "offers": [price(offer) for offer in r.site.offers] if r.site else [],
        "terms": records((*TERM, TERM_BASIS), r.terms),
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


def break_even(found: BreakEven) -> Json:
    """Return the volumes between which an API and hosting cost the same."""
    return {
        "queries_per_day": found.queries_per_day,
        "first": found.first,
        "until": found.until if isfinite(found.until) else None,
        "api_usd_per_query": found.api_per_query,
        "reason": found.reason,
    }


def standing_document(r: Recommendation) -> Json:
    """Return what the times and the quality rest on."""
    assert r.site is not None
    found = calibration(r.site.calibration)
    found["sources"] += [source(s) for s in (r.plan.quality.source if r.plan else ())]
    found["sources"] = [dict(pairs) for pairs in dict.fromkeys(tuple(s.items()) for s in found["sources"])]
    return found
