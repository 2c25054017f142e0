"""`kvplan estimate` in words, tables and JSON: the answer, every technique, every GPU, where the time goes."""

from collections.abc import Iterator, Sequence

from kvplan.kv import spelling, techniques
from kvplan.kv.layout import equation
from kvplan.planning.estimate import Estimate
from kvplan.planning.replica import Row, best
from kvplan.planning.site import Site
from kvplan.report.blocks import Block, Column, Json, Page, Table, Text, Tone, merged, notes, record, schema, table
from kvplan.report.operators import Step, documents, step_table
from kvplan.report.sources import about, brief, calibration, interval, price, source
from kvplan.units import HOUR, show_bytes, show_time, show_tokens, show_usd

#: rows of the table of GPUs
SHOWN = 12
LEGEND = (
    "GPUs: the replica that serves a query at the lowest cost; in brackets the fewest GPUs that hold one sequence. "
    "seqs: sequences it holds at once. TTFT, TPOT and cost: the replica always full, no prefix shared between queries."
)
EQUATION = "KV bytes = layers x kept tokens x vectors x width x bits / 8"
UNMEASURED = "* no server on this GPU was measured: its times are extrapolated"


# -- figures --------------------------------------------------------------------------------------


def bounded(r: Row, time: float | None, end: int, ttft: bool = False) -> float | None:
    """Return an end of the 80 % interval of a time. [s]"""
    return None if time is None else time * (r.ttft_spread if ttft else r.spread)[end]


def usd(r: Row, factor: float = 1.0) -> float | None:
    return r.cost.per_query * factor if r.cost else None


def part(kind: techniques.Technique) -> Json:
    """Return what one technique says of itself; it excludes every other that acts on the same factor."""
    others = [k.name for k in techniques.TECHNIQUES.values() if k.factor == kind.factor]
    return {
        "name": kind.name,
        "acts_on": kind.factor,
        "granularity": kind.granularity,
        "needs": kind.needs,
        "excludes": others,
        "source": source(kind.source),
    }


def gpus_cell(r: Row) -> str:
    if not r.feasible:
        return "does not fit"
    return f"{r.gpus}" if r.gpus == r.fewest_gpus else f"{r.gpus} ({r.fewest_gpus})"


def sequences_cell(r: Row) -> str:
    return f"{r.sequences:,}" if r.feasible else "-"


def gpu_cell(r: Row) -> str:
    return r.gpu if r.grounded else f"{r.gpu} *"


def usd_cell(r: Row) -> str:
    return "-" if not r.feasible else show_usd(r.cost.per_query) if r.cost else "no price"


#: figures of a replica at work, in every table of rows
TIMES = (
    Column[Row](key="gpus", heading="GPUs", value=lambda r: r.gpus, cell=gpus_cell),
    Column[Row](key="fewest_gpus", value=lambda r: r.fewest_gpus),
    Column[Row](key="parallel", value=lambda r: str(r.parallel) if r.parallel else None),
    Column[Row](key="max_sequences", heading="seqs", value=lambda r: r.sequences, cell=sequences_cell),
    Column[Row](key="batch", value=lambda r: r.batch),
    Column[Row](key="ttft", heading="TTFT", value=lambda r: r.ttft, show=show_time),
    Column[Row](key="tpot", heading="TPOT", value=lambda r: r.tpot, show=show_time),
    Column[Row](key="tokens_per_second", value=lambda r: r.tokens_per_second),
    Column[Row](key="ttft_low", value=lambda r: bounded(r, r.ttft, 0, True)),
    Column[Row](key="ttft_high", value=lambda r: bounded(r, r.ttft, 1, True)),
    Column[Row](key="tpot_low", value=lambda r: bounded(r, r.tpot, 0)),
    Column[Row](key="tpot_high", value=lambda r: bounded(r, r.tpot, 1)),
    Column[Row](key="usd_per_query", heading="$ / query", value=usd, cell=usd_cell),
    Column[Row](key="usd_per_million_tokens", value=lambda r: r.cost and r.cost.per_million_tokens),
    Column[Row](key="usd_per_million_output_tokens", value=lambda r: r.cost and r.cost.per_million_output_tokens),
    Column[Row](key="usd_per_query_low", value=lambda r: usd(r, r.spread[0])),
    Column[Row](key="usd_per_query_high", value=lambda r: usd(r, r.spread[1])),
    Column[Row](
        key="usd_lines",
        value=lambda r: [{"name": n.name, "usd": n.amount, "basis": n.basis} for n in (r.cost.lines if r.cost else ())],
    ),
)  # fmt: skip
#: bytes a technique stores, reads, peaks at and can share, and the work it adds; unknown where it cannot act
CACHE = (
    Column[Row](key="kv_bytes_per_sequence", heading="KV / seq.", value=lambda r: r.stored, show=show_bytes),
    Column[Row](key="reduction", heading="saved", value=lambda r: r.reduction, show=lambda x: f"{x:.0%}"),
    Column[Row](key="kv_bytes_per_token", value=lambda r: r.layout.growth(r.context) if r.layout else None),
    Column[Row](key="kv_bytes_read_per_step", value=lambda r: r.layout.read(r.context) if r.layout else None),
    Column[Row](key="kv_bytes_peak_prefill", value=lambda r: r.layout.peak(r.context) if r.layout else None),
    Column[Row](key="kv_bytes_shareable", value=lambda r: r.layout.shared(r.context) if r.layout else None),
    Column[Row](key="attention_flops_per_step", value=lambda r: r.layout.flops(r.context) if r.layout else None),
    Column[Row](key="prefill_attention_factor", value=lambda r: r.layout.prefill_flops if r.layout else None),
    Column[Row](key="extra_parameters", value=lambda r: r.layout.parameters if r.layout else None),
)
#: a technique's row
TECHNIQUE = (
    Column[Row](key="technique", heading="technique", value=lambda r: r.technique, align="left"),
    Column[Row](key="gpu", value=lambda r: r.gpu),
    *CACHE,
    *TIMES,
    Column[Row](key="quality", value=lambda r: r.quality),
    Column[Row](
        key="quality_risk", heading="LongBench loss", value=lambda r: r.risk, align="left", wraps=True,
        cell=lambda r: r.risk if r.layout else "not for this model",
    ),
    Column[Row](key="needs", value=lambda r: list(r.needs)),
    Column[Row](key="parts", value=lambda r: [part(kind) for kind, _ in spelling.parts(r.technique)]),
    Column[Row](key="feasible", value=lambda r: r.feasible),
    Column[Row](key="reason", value=lambda r: r.reason),
)  # fmt: skip
#: a GPU's row
GPU = (
    Column[Row](
        heading="GPU", value=lambda r: r.gpu, cell=lambda r: r.gpu if r.grounded else f"{r.gpu} *", align="left"
    ),
    *TIMES,
)


# -- the page -------------------------------------------------------------------------------------


def page(e: Estimate, explained: bool = False) -> Page:
    """Return the report of `kvplan estimate`."""
    return Page.of(
        Text(answer(e), "answer"),
        (Text(f"Note: {w}", "warning") for w in e.warnings),
        Text(standing(e), "quiet"),
        (technique_table(e, site) for site in e.sites),
        Text(LEGEND, "quiet"),
        notes("Not possible", merged((r.technique, r.reason) for r in e.rows if r.reason)),
        gpu_table(e.where),
        notes("What the techniques need", dict.fromkeys(n for r in e.rows if r.feasible for n in r.needs)),
        notes("Sources", source_lines(e)),
        explain(e) if explained else None,
    )


def answer(e: Estimate) -> str:
    """Say what fits where, which technique the engine serves helps most, and at what cost."""
    size = next(r.stored for r in e.rows if r.technique == spelling.BASELINE)
    head = f"{e.model.title} at {show_tokens(e.query.context)} needs {show_bytes(size or 0)} of KV cache per sequence."
    titles, engine = {s.gpu.name: s.gpu.title for s in e.sites}, e.sites[0].engine
    base = best(r for r in e.rows if r.technique == spelling.BASELINE)
    chosen = best(r for r in e.rows if spelling.served_by(r.technique, engine.name))
    if chosen is None:
        other = best(e.rows)
        if other is None:
            return f"{head} Nothing fits: {next(r.reason for r in e.rows if r.reason)}"
        unserved = f"with {other.technique}, which {engine.title} does not serve"
        return f"{head} Uncompressed it does not fit; {capacity(other, titles)} {unserved}."
    if base is None:
        held = f"{capacity(chosen, titles)} with {chosen.technique}{price_of(chosen)}"
        return f"{head} Uncompressed it does not fit; {held}."
    said = f"{head} {capacity(base, titles)} uncompressed{price_of(base)}{cheaper_guess(base, e.where)}"
    if base.cost is None:
        return f"{said}; no price is known, so costs are not compared."
    if chosen.technique == spelling.BASELINE:
        return f"{said}; no technique that {engine.title} serves is cheaper."
    change = f" at {chosen.cost.per_query / base.cost.per_query - 1:+.0%} cost" if chosen.cost else ""
    return f"{said}; with {chosen.technique}, {chosen.gpus} hold {chosen.sequences:,}{change}."


def capacity(row: Row, titles: dict[str, str]) -> str:
    return f"{row.gpus}x {titles[row.gpu]} hold{'s' if row.gpus == 1 else ''} {row.sequences:,} such sequences"


def price_of(row: Row) -> str:
    if row.cost is None:
        return ""
    low, high = (row.cost.per_query * factor for factor in row.spread)
    return f" at {show_usd(row.cost.per_query)} a query ({show_usd(low)} to {show_usd(high)})"


def cheaper_guess(base: Row, where: Sequence[Row]) -> str:
    """Return the mention of a GPU that looks cheaper but was never measured."""
    found = best(r for r in where if r.cost)
    if found is None or found.cost is None or base.cost is None or found.cost.per_query >= base.cost.per_query:
        return ""
    return f" ({found.gpu} would be {show_usd(found.cost.per_query)}, but nothing was measured on it)"


def standing(e: Estimate) -> str:
    """Say what each GPU's times and costs stand on, and the interval to expect."""
    found = ["KV bytes follow exactly from the config."]
    for site in e.sites:
        c, where = site.calibration, f" on {site.gpu.name}" if len(e.sites) > 1 else ""
        found.append(f"Times and costs{where} ({c.tier}): {c.doubt}. {interval(c)}.")
    return " ".join(found)


def technique_table(e: Estimate, site: Site) -> Table:
    """Return one GPU's rows: technique, memory, capacity, time, money, quality."""
    per_hour = f", {show_usd(site.price.price * HOUR)} per GPU-hour" if site.price else ""
    title = f"{site.gpu.title}{per_hour}: {e.query.prompt:,} tokens in, {e.query.output:,} out"
    rows = [r for r in e.rows if r.gpu == site.gpu.name]
    cheapest = min((r.cost.per_query for r in rows if r.cost), default=None)

    def tone(r: Row) -> Tone:
        return "best" if r.cost and r.cost.per_query == cheapest else "plain" if r.feasible else "quiet"

    return table(title, TECHNIQUE, rows, tone=tone)


def gpu_table(rows: Sequence[Row]) -> Iterator[Block]:
    """Yield the baseline on the GPUs that serve it cheapest."""
    fit = sorted((r for r in rows if r.feasible and r.cost), key=lambda r: r.cost.per_query if r.cost else 0.0)
    if not rows:
        return
    yield table("Uncompressed, by GPU", GPU, fit[:SHOWN])
    more = len(rows) - len(fit[:SHOWN])
    yield Text(f"{UNMEASURED}{f'; {more} more GPUs in the JSON answer' if more > 0 else ''}.", "quiet")


def source_lines(e: Estimate) -> Iterator[str]:
    """Yield where a report's numbers come from, in short; `kvplan show` has the whole of it."""
    yield f"model: {brief(e.model.source)}"
    for site in e.sites:
        g, p = site.gpu, site.price
        yield f"{g.name}: bandwidth {brief(g.sources['bandwidth'])}" if "bandwidth" in g.sources else g.name
        if p is None:
            yield f"price: none known for {g.name}; give one with price=2.49/h"
        else:
            ends = f"{show_usd(site.offers[0].price * HOUR)} to {show_usd(site.offers[-1].price * HOUR)}; "
            span = f"median of {len(site.offers)} on-demand offers, {ends}" if len(site.offers) > 1 else ""
            note = f"; {p.note}" if p.note else ""
            yield f"price: {span}{p.provider}, from {p.start}{note}; {brief(p.source)}"
    c, engine = e.sites[0].calibration, e.sites[0].engine
    yield from (f"times: {s}" for s in c.sources)
    yield f"memory rules: {engine.title}, {engine.version}; {engine.sources['sampler_bytes_per_logit']}"


# -- where the time goes --------------------------------------------------------------------------


def steps(e: Estimate, row: Row) -> tuple[Step, Step]:
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
        factors = "KV bytes = layers x kept tokens x vectors x width x bits / 8"
        yield notes(
            f"{row.technique}: {factors}, at {show_tokens(e.query.context)}", equation(row.layout, e.query.context)
        )
        if row.decode:
            decode, prefill = steps(e, row)
            many = f"{row.batch:,} sequences" if row.batch > 1 else "1 sequence"
            yield step_table(f"{row.technique}: one decode step on {row.parallel}, {many}", decode)
            said = f"one of {row.chunks} parts of a prompt" if row.chunks > 1 else "one prompt"
            yield step_table(f"{row.technique}: {said} on {row.parallel}", prefill)


# -- JSON -----------------------------------------------------------------------------------------


def document(e: Estimate, explained: bool = False) -> Json:
    """Return the document of `kvplan estimate`."""
    engine = e.sites[0].engine
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


def row(e: Estimate, r: Row, explained: bool) -> Json:
    """Return one technique's figures under the fixed spellings."""
    found = record(TECHNIQUE, r)
    if explained and r.layout is not None:
        decode, prefill = steps(e, r)
        lines = list(equation(r.layout, e.query.context))
        found["explain"] = {"equation": lines, "decode": documents(decode), "prefill": documents(prefill)}
    return found
