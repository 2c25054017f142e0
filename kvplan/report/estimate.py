"""`kvplan estimate` in words, tables and JSON: the answer, every technique, every GPU, where the time goes."""

from collections.abc import Iterator, Sequence

from kvplan.kv import spelling
from kvplan.kv.layout import equation
from kvplan.planning.estimate import Estimate
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.points import PATIENCE, READ
from kvplan.planning.site import Site
from kvplan.report import drawings
from kvplan.report.blocks import (
    Block,
    Json,
    Page,
    Table,
    Text,
    Tone,
    merged,
    notes,
    record,
    schema,
    table,
    warned,
)
from kvplan.report.evaluations import GPU, NAME, TECHNIQUE, limits_cell, same_gpus
from kvplan.report.operators import documents, step_table, steps_of
from kvplan.report.sources import about, assumed, brief, calibration, graph_rule, price, rules, standing, whose
from kvplan.units import (
    HOUR,
    priced_by,
    show_bytes,
    show_count,
    show_percent,
    show_time,
    show_tokens,
    show_usd,
    show_usd_each,
    written_above,
)

#: rows of the table of GPUs
SHOWN = 12
LEGEND = (
    "GPUs: the replica on which a query costs least at its largest load within the limits; batch: requests in "
    "flight. Times are means in steady state, without prefix caching. "
    "Quality loss: expected, with the most it may be, on questions that come after the cache was compressed; "
    "kvplan techniques shows that of a workload's own tasks."
)
PREDICTED = (
    "Measured servers used 16-bit or quantised caches only; times of all other techniques are model predictions."
)
EQUATION = "KV bytes = layers x kept tokens x vectors x width x bits / 8"
#: what stands for the GPUs of a row that has none
MARKS = {
    "too slow": "not even a lone query keeps the limits",
    "not applicable": "the technique is not for this model",
    "cannot run": "below it says why",
}
UNMEASURED = "* No server on this GPU was measured; its times are extrapolated"


# -- the page -------------------------------------------------------------------------------------


def page(e: Estimate, explained: bool = False) -> Page:
    """Return the report of `kvplan estimate`."""
    return Page.of(
        Text(answer(e), "answer"),
        warned(e.warnings),
        Text(" ".join(rests_on(e)), "quiet"),
        Text(limits_said(e) if e.feasible else "", "quiet"),
        drawings.of_estimate(e),
        (block for site in e.sites for block in technique_tables(e, site)),
        Text(" ".join(legend(e)) if e.feasible else "", "quiet"),
        notes("Techniques that cannot be used", merged((r.technique, r.reason) for r in e.rows if r.reason)),
        gpu_table(e.by_gpu, e.per_query),
        notes("What the techniques need", dict.fromkeys(n for r in e.rows if r.feasible for n in r.needs)),
        notes("Sources", source_lines(e)),
        explain(e) if explained else None,
    )


def answer(e: Estimate) -> str:
    """Say what a query costs within the limits uncompressed, and with the technique that helps most."""
    served = f"{e.model.title}{spelling.clause(spelling.BASELINE, e.weights)}"
    head = f"{served} at {show_tokens(e.query.context)} needs {show_bytes(e.stored)} of KV cache per sequence."
    if not e.feasible:
        return f"{head} It cannot be served this way: {next(r.reason for r in e.rows if r.reason)}."
    if e.overall is None:
        return f"{head} {no_load(e)}"
    if e.served is None:
        unserved = f"only with {spelling.in_words(e.overall.technique)}, which {e.engine.title} does not serve"
        return f"{head} {within(e)}, it can be served {unserved}: {at_limits(e, e.overall)}."
    if e.uncompressed is None:
        cause = "does not fit" if not e.rows[0].feasible else "does not keep these limits"
        chosen = f"with {spelling.in_words(e.served.technique)}, {at_limits(e, e.served)}"
        return f"{head} {within(e)}, {chosen}. Uncompressed it {cause}."
    return (
        f"{head} {within(e)}, uncompressed, {at_limits(e, e.uncompressed)}. {compressed(e, e.uncompressed, e.served)}"
    )


def within(e: Estimate) -> str:
    """Return the limits as the beginning of a sentence."""
    limits = " and ".join(limits_of(e))
    return f"Within {limits}" if limits else "Without limits"


def limits_of(e: Estimate) -> list[str]:
    """Return the limits there are."""
    return [f"a mean {name} of {show_time(limit)}" for name, limit in e.limits.times]


def at_limits(e: Estimate, row: Evaluation) -> str:
    """Return what a row serves within the limits, as a clause."""
    p = row.same_limits
    assert p is not None
    place = f"{p.gpus}x {e.site(row).gpu.title}"
    many = f"{show_count(p.batch, 'request')} at once on {place}"
    if p.usd is None:
        return f"the largest load is {many}; no price of these GPUs is known"
    queries, _, costs = priced_by(e.per_query or p.usd)
    low, high = (show_usd(queries * end) for end in row.limited_range or (p.usd, p.usd))
    return f"{costs} {show_usd(queries * p.usd)} ({low} to {high}), with {many}"


def no_load(e: Estimate) -> str:
    """Say that no load keeps the limits, what a lone query takes, and which limits that would keep."""
    row = next((r for r in e.rows if r.lone), None)
    alone, others = "", "ttft=none or tpot=none"
    if row is not None and row.lone is not None:
        place = f"{row.lone.gpus}x {e.site(row).gpu.title}"
        alone = f": alone on {place}, a query has a TTFT of {show_time(row.lone.ttft)}"
        alone += f" and a TPOT of {show_time(row.lone.tpot)}"
        times = (("ttft", row.lone.ttft, e.limits.ttft), ("tpot", row.lone.tpot, e.limits.tpot))
        kept = [f"{name}={written_above(time)}" for name, time, limit in times if limit is not None and time > limit]
        others = " and ".join(kept) or others
    return f"No replica keeps {' and '.join(limits_of(e))}{alone}. Give other limits, as in {others}."


def compressed(e: Estimate, base: Evaluation, chosen: Evaluation) -> str:
    """Return what the best technique that the engine serves changes, and which unmeasured GPU looks cheaper."""
    old, new = base.same_limits, chosen.same_limits
    assert old is not None and new is not None
    if old.usd is None or new.usd is None:
        return "Costs are not compared, because no price is known."
    if chosen.technique == spelling.BASELINE:
        return f"{unserved(e, base)}{cheaper_guess(e)}"
    return f"{spelling.in_words(chosen.technique)} costs {less(e, base, chosen)}.{cheaper_guess(e)}"


def less(e: Estimate, base: Evaluation, row: Evaluation) -> str:
    """Return how much less a query costs with a row than with the uncompressed one, and where, as a clause."""
    old, new = base.same_limits, row.same_limits
    assert old is not None and new is not None and old.usd is not None and new.usd is not None
    place = "" if (new.gpus, row.gpu) == (old.gpus, base.gpu) else f" on {new.gpus}x {e.site(row).gpu.title}"
    money = show_usd(priced_by(old.usd)[0] * new.usd)
    share = show_percent(1 - new.usd / old.usd, 0)
    return f"{share} less, {money}, with {show_count(new.batch, 'request')} at once{place}"


def unserved(e: Estimate, base: Evaluation) -> str:
    """Say that no technique the engine serves is cheaper, or what one costs where it serves none of those asked."""
    engine, best = e.engine.title, e.overall
    others = [r.technique for r in e.rows if r.technique != spelling.BASELINE]
    if not others:
        return "No compression was asked about."
    if best is None or any(map(e.serves, others)):
        return f"No compression technique that {engine} serves is cheaper."
    if best.technique == spelling.BASELINE or best.same_limits is None or best.same_limits.usd is None:
        return f"No technique that was asked about is cheaper, and {engine} serves none of them."
    return f"{spelling.in_words(best.technique)} would cost {less(e, base, best)}, but {engine} does not serve it."


def cheaper_guess(e: Estimate) -> str:
    """Return a sentence on the GPU that looks cheaper but was never measured, '' where there is none."""
    if e.guess is None or e.guess.cost is None:
        return ""
    cost = show_usd_each(e.guess.cost.per_query, e.per_query)
    return f" Kept full, uncompressed, {e.guess.gpu} looks cheaper ({cost}), but no server was measured on it."


def rests_on(e: Estimate) -> Iterator[str]:
    """Yield what each GPU's times and costs stand on, and the interval to expect."""
    yield "KV cache sizes follow exactly from the model's config."
    for site in e.sites:
        yield standing(site.calibration, f"Times and costs{f' on {site.gpu.name}' if len(e.sites) > 1 else ''}")


def legend(e: Estimate) -> Iterator[str]:
    """Yield what the columns mean, and which techniques no measured server ran."""
    yield LEGEND
    cells = {limits_cell(row) for row in e.rows}
    yield from (f"{mark[:1].upper()}{mark[1:]}: {meaning}." for mark, meaning in MARKS.items() if mark in cells)
    kinds = [kind for row in e.rows for kind, _ in spelling.parts(row.technique)]
    if any(kind.factor != "bits" for kind in kinds):
        yield PREDICTED


def limits_said(e: Estimate) -> str:
    """Say which limits rows are compared at, and why."""
    limits = " and ".join(limits_of(e)) or "none"
    why = ""
    if e.usual:
        why = (
            f" (the defaults: TTFT {show_time(PATIENCE)} plus 1 s for every {READ:,} prompt tokens; TPOT 20 tokens a "
            "second, about four times as fast as people read)"
        )
    return f"Limits: {limits}{why}. Give others, as in ttft=5s or tpot=30ms."


def technique_tables(e: Estimate, site: Site) -> Iterator[Table]:
    """Yield one GPU's rows: memory, quality and cost within the limits; times of the same GPUs under the same load."""
    per_hour = f", {show_usd(site.price.price * HOUR)} per GPU-hour" if site.price else ""
    per_hour += " (one offer)" if site.lone_offer else ""
    query = f"{e.query.prompt:,} input tokens, {e.query.output:,} output tokens"
    rows = [r for r in e.rows if r.gpu == site.gpu.name]
    cheapest = e.cheapest(site.gpu.name)

    def tone(r: Evaluation) -> Tone:
        return "best" if r is cheapest else "plain" if r.feasible else "quiet"

    title = f"{site.gpu.title}{per_hour}: {query}; the largest load within the limits"
    yield table(title, TECHNIQUE, rows, tone=tone, like=e.per_query)
    first = next((r for r in rows if r.lone and r.same_load), None)
    if first is None or first.lone is None or first.same_load is None:
        return
    fills = f"{'' if first.technique == spelling.BASELINE else 'with '}{spelling.in_words(first.technique)}"
    place = f"the same {show_count(first.lone.gpus, 'GPU')} ({first.lone.parallel})"
    title = f"{site.gpu.title}: a lone query, and as many as fit {fills} ({first.same_load.batch:,}), on {place}"
    columns = (*NAME, *same_gpus(first.same_load.batch))
    feasible = [r for r in rows if r.feasible]
    yield table(title, columns, feasible, tone=tone, like=e.per_query)


def gpu_table(rows: Sequence[Evaluation], like: float | None) -> Iterator[Block]:
    """Yield the baseline on the GPUs that serve it cheapest, costs at the scale of one `like` this. [USD]"""
    fit = sorted((r for r in rows if r.feasible and r.cost), key=lambda r: r.cost.per_query if r.cost else 0.0)
    if not rows:
        return
    yield table("Uncompressed, by GPU, each replica kept full", GPU, fit[:SHOWN], like=like)
    yield Text(" ".join(gpu_legend(rows, fit[:SHOWN])), "quiet")


def gpu_legend(rows: Sequence[Evaluation], shown: Sequence[Evaluation]) -> Iterator[str]:
    """Yield what the table of GPUs shows: full replicas, whatever they take, and the marks that occur."""
    yield "These replicas are full, so that a query costs least: their times may be over the limits above."
    if any(r.gpus != r.fewest_gpus for r in shown):
        yield "In brackets: the fewest GPUs that hold a request."
    if not all(r.grounded for r in shown):
        yield f"{UNMEASURED}."
    if len(rows) > len(shown):
        yield "The JSON answer lists all that have a price."


def source_lines(e: Estimate) -> Iterator[str]:
    """Yield where a report's numbers come from, in short; `kvplan show` has the whole of it."""
    yield f"model: {brief(e.model.source)}"
    for site in e.sites:
        g, p = site.gpu, site.price
        yield f"{g.name}: bandwidth {brief(g.sources['bandwidth'])}" if "bandwidth" in g.sources else g.name
        yield from assumed(g)
        yield f"{g.name}: a step takes {site.calibration.chunk:,.0f} tokens of prompts at most"
        if p is None:
            yield f"price: none known for {g.name}"
        else:
            ends = f"{show_usd(site.offers[0].price * HOUR)} to {show_usd(site.offers[-1].price * HOUR)}; "
            span = f"median of {len(site.offers)} on-demand offers, {ends}" if len(site.offers) > 1 else ""
            note = f"; {p.note}" if p.note else ""
            yield f"price: {span}{p.provider}, from {p.start}{note}; {brief(p.source)}"
    engine = e.engine
    yield from (f"times: {s}" for s in e.sites[0].calibration.sources)
    yield rules(engine)
    budgets = (row.budget for row in e.rows if row.budget)
    yield from dict.fromkeys(line for b in budgets for line in graph_rule(e.model, b.deployment))


# -- where the time goes --------------------------------------------------------------------------


def explain(e: Estimate) -> Iterator[Block]:
    """Yield each technique's memory equation with its numbers, and where its steps' time goes."""
    for row in e.rows:
        if row.layout is None:
            continue
        yield notes(
            f"{row.technique}: {EQUATION}, at {show_tokens(e.query.context)}", equation(row.layout, e.query.context)
        )
        if row.decode:
            decode, prefill = steps_of(row, e.site(row).calibration)
            many = f"{row.batch:,} sequences" if row.batch > 1 else "1 sequence"
            yield step_table(f"{row.technique}: one decode step on {row.parallel}, {many}", decode)
            part = f"one of {row.chunks} chunks of a prompt" if row.chunks > 1 else "one prompt"
            yield step_table(f"{row.technique}: {part} on {row.parallel}", prefill)


# -- JSON -----------------------------------------------------------------------------------------


def document(e: Estimate, explained: bool = False) -> Json:
    """Return the document of `kvplan estimate`."""
    engine = e.engine
    return schema(
        "estimate",
        answer=answer(e),
        warnings=list(e.warnings),
        model=about(e.model),
        weights=e.weights,
        query={"context_tokens": e.query.context, "input_tokens": e.query.prompt, "output_tokens": e.query.output},
        limits={"ttft": e.limits.ttft, "tpot": e.limits.tpot, "usual": e.usual},
        calibration=[calibration(s.calibration) for s in e.sites],
        prices=[price(s.price) for s in e.sites],
        engine=whose(engine),
        rows=[row(e, r, explained) for r in e.rows],
        where=[row(e, r, False) for r in e.by_gpu],
    )


def row(e: Estimate, r: Evaluation, explained: bool) -> Json:
    """Return one technique's figures under the fixed spellings."""
    document = record(TECHNIQUE, r)
    document["weights"] = e.weights
    if explained and r.layout is not None:
        decode, prefill = steps_of(r, e.site(r).calibration)
        lines = list(equation(r.layout, e.query.context))
        document["explain"] = {"equation": lines, "decode": documents(decode), "prefill": documents(prefill)}
    return document
