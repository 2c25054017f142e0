"""`kvplan estimate` in words, tables and JSON: the answer, every technique, every GPU, where the time goes."""

from collections.abc import Iterator, Sequence

from kvplan.kv import spelling
from kvplan.kv.layout import equation
from kvplan.perf.step_parts import Step
from kvplan.planning.estimate import Estimate
from kvplan.planning.replica import Evaluation
from kvplan.planning.site import Site
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
    sentence,
    table,
)
from kvplan.report.evaluations import GPU, TECHNIQUE
from kvplan.report.operators import documents, step_table
from kvplan.report.sources import about, brief, calibration, interval, price
from kvplan.units import HOUR, show_bytes, show_percent, show_tokens, show_usd

#: rows of the table of GPUs
SHOWN = 12
LEGEND = (
    "GPUs: size of the replica with the lowest cost per query; in brackets the smallest that holds one sequence. "
    "seqs: sequences it holds at once. TTFT, TPOT and cost are those of a replica that is always full, without prefix "
    "caching."
)
PREDICTED = (
    "Measured servers used 16-bit or quantised caches only; times of all other techniques are model predictions."
)
EQUATION = "KV bytes = layers x kept tokens x vectors x width x bits / 8"
UNMEASURED = "* No server on this GPU was measured; its times are extrapolated"


# -- the page -------------------------------------------------------------------------------------


def page(e: Estimate, explained: bool = False) -> Page:
    """Return the report of `kvplan estimate`."""
    return Page.of(
        Text(answer(e), "answer"),
        (Text(f"Note: {sentence(w)}", "warning") for w in e.warnings),
        Text(standing(e), "quiet"),
        (technique_table(e, site) for site in e.sites),
        Text(" ".join(legend(e)), "quiet"),
        notes("Techniques that cannot be used", merged((r.technique, r.reason) for r in e.rows if r.reason)),
        gpu_table(e.where),
        notes("What the techniques need", dict.fromkeys(n for r in e.rows if r.feasible for n in r.needs)),
        notes("Sources", source_lines(e)),
        explain(e) if explained else None,
    )


def answer(e: Estimate) -> str:
    """Say what fits where, which technique the engine serves helps most, and at what cost."""
    head = f"{e.model.title} at {show_tokens(e.query.context)} needs {show_bytes(e.stored)} of KV cache per sequence."
    titles, base, chosen = {s.gpu.name: s.gpu.title for s in e.sites}, e.uncompressed, e.served
    if e.overall is None:
        return f"{head} It cannot be served this way: {next(r.reason for r in e.rows if r.reason)}."
    if chosen is None:
        unserved = f"with {e.overall.technique}, which {e.engine.title} does not serve"
        return f"{head} Uncompressed it does not fit; {capacity(e.overall, titles)} {unserved}."
    if base is None:
        fitting = f"{capacity(chosen, titles)} with {chosen.technique}{price_of(chosen)}"
        return f"{head} Uncompressed it does not fit; {fitting}."
    return f"{head} {capacity(base, titles)} uncompressed{price_of(base)}. {compressed(base, chosen, e)}"


def compressed(base: Evaluation, chosen: Evaluation, e: Estimate) -> str:
    """Return what the best technique that the engine serves changes, and which unmeasured GPU looks cheaper."""
    if base.cost is None:
        return "Costs are not compared, because no price is known."
    if chosen.technique == spelling.BASELINE:
        return f"No compression technique that {e.engine.title} serves is cheaper.{cheaper_guess(e)}"
    if chosen.gpu == base.gpu:
        gpus = "one GPU holds" if chosen.gpus == 1 else f"{chosen.gpus} GPUs hold"
    else:
        gpus = f"{chosen.gpus}x {chosen.gpu} hold{'s' * (chosen.gpus == 1)}"
    sequences = f"{chosen.sequences:,} sequence{'s' * (chosen.sequences != 1)}"
    change = chosen.cost.per_query / base.cost.per_query - 1 if chosen.cost else 0.0
    cost = f"at {show_percent(abs(change))} {'lower' if change < 0 else 'higher'} cost per query"
    return f"With {chosen.technique}, {gpus} {sequences} {cost}.{cheaper_guess(e)}"


def capacity(row: Evaluation, titles: dict[str, str]) -> str:
    """Return how many sequences a replica holds, as a clause."""
    many = f"{row.sequences:,} such sequence{'s' * (row.sequences != 1)}"
    return f"{row.gpus}x {titles[row.gpu]} hold{'s' * (row.gpus == 1)} {many}"


def price_of(row: Evaluation) -> str:
    """Return the cost of a query with its 80 % interval, '' where no price is known."""
    if row.cost is None or row.usd_range is None:
        return ""
    low, high = map(show_usd, row.usd_range)
    return f" at {show_usd(row.cost.per_query)} a query ({low} to {high})"


def cheaper_guess(e: Estimate) -> str:
    """Return a sentence on the GPU that looks cheaper but was never measured, '' where there is none."""
    if e.guess is None or e.guess.cost is None:
        return ""
    return f" {e.guess.gpu} would cost {show_usd(e.guess.cost.per_query)} a query, but no server was measured on it."


def standing(e: Estimate) -> str:
    """Say what each GPU's times and costs stand on, and the interval to expect."""
    found = ["KV cache sizes follow exactly from the model's config."]
    for site in e.sites:
        c, where = site.calibration, f" on {site.gpu.name}" if len(e.sites) > 1 else ""
        found.append(f"Times and costs{where} ({c.tier}): {c.doubt}. {interval(c)}.")
    return " ".join(found)


def legend(e: Estimate) -> Iterator[str]:
    """Yield what the columns mean, and which techniques no measured server ran."""
    yield LEGEND
    kinds = [kind for row in e.rows for kind, _ in spelling.parts(row.technique)]
    if any(kind.factor != "bits" for kind in kinds):
        yield PREDICTED


def technique_table(e: Estimate, site: Site) -> Table:
    """Return one GPU's rows: technique, memory, capacity, time, money, quality."""
    per_hour = f", {show_usd(site.price.price * HOUR)} per GPU-hour" if site.price else ""
    per_hour += " (one offer)" if site.lone_offer else ""
    title = f"{site.gpu.title}{per_hour}: {e.query.prompt:,} input tokens, {e.query.output:,} output tokens"
    rows = [r for r in e.rows if r.gpu == site.gpu.name]
    cheapest = e.cheapest(site.gpu.name)

    def tone(r: Evaluation) -> Tone:
        return "best" if r is cheapest else "plain" if r.feasible else "quiet"

    return table(title, TECHNIQUE, rows, tone=tone)


def gpu_table(rows: Sequence[Evaluation]) -> Iterator[Block]:
    """Yield the baseline on the GPUs that serve it cheapest."""
    fit = sorted((r for r in rows if r.feasible and r.cost), key=lambda r: r.cost.per_query if r.cost else 0.0)
    if not rows:
        return
    yield table("Uncompressed, by GPU", GPU, fit[:SHOWN])
    more = len(rows) - len(fit[:SHOWN])
    yield Text(f"{UNMEASURED}.{' The JSON answer lists every GPU.' if more > 0 else ''}", "quiet")


def source_lines(e: Estimate) -> Iterator[str]:
    """Yield where a report's numbers come from, in short; `kvplan show` has the whole of it."""
    yield f"model: {brief(e.model.source)}"
    for site in e.sites:
        g, p = site.gpu, site.price
        yield f"{g.name}: bandwidth {brief(g.sources['bandwidth'])}" if "bandwidth" in g.sources else g.name
        if p is None:
            yield f"price: none known for {g.name}"
        else:
            ends = f"{show_usd(site.offers[0].price * HOUR)} to {show_usd(site.offers[-1].price * HOUR)}; "
            span = f"median of {len(site.offers)} on-demand offers, {ends}" if len(site.offers) > 1 else ""
            note = f"; {p.note}" if p.note else ""
            yield f"price: {span}{p.provider}, from {p.start}{note}; {brief(p.source)}"
    engine = e.engine
    yield from (f"times: {s}" for s in e.sites[0].calibration.sources)
    yield f"memory rules: {engine.title}, {engine.version}; {engine.sources['sampler_bytes_per_logit']}"


# -- where the time goes --------------------------------------------------------------------------


def steps(e: Estimate, row: Evaluation) -> tuple[Step, Step]:
    """Return a row's decode step and the part of a prompt that one pass reads."""
    c = e.site(row).calibration
    return (
        Step(operators=row.decode, calibration=c, sequences=row.each, prompts=False),
        Step(operators=row.prefill, calibration=c, sequences=0.0, prompts=True),
    )


def explain(e: Estimate) -> Iterator[Block]:
    """Yield each technique's memory equation with its numbers, and where its steps' time goes."""
    for row in e.rows:
        if row.layout is None:
            continue
        yield notes(
            f"{row.technique}: {EQUATION}, at {show_tokens(e.query.context)}", equation(row.layout, e.query.context)
        )
        if row.decode:
            decode, prefill = steps(e, row)
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
        query={"context_tokens": e.query.context, "input_tokens": e.query.prompt, "output_tokens": e.query.output},
        calibration=[calibration(s.calibration) for s in e.sites],
        prices=[price(s.price) for s in e.sites],
        engine={"name": engine.name, "version": engine.version},
        rows=[row(e, r, explained) for r in e.rows],
        where=[row(e, r, False) for r in e.where],
    )


def row(e: Estimate, r: Evaluation, explained: bool) -> Json:
    """Return one technique's figures under the fixed spellings."""
    found = record(TECHNIQUE, r)
    if explained and r.layout is not None:
        decode, prefill = steps(e, r)
        lines = list(equation(r.layout, e.query.context))
        found["explain"] = {"equation": lines, "decode": documents(decode), "prefill": documents(prefill)}
    return found
