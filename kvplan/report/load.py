"""A server under load: the largest load first, then times and throughput by load, a chart, and the same as JSON."""

from collections.abc import Iterator, Sequence

from kvplan.kv.spelling import clause
from kvplan.planning.load import Largest, Point, Survey, Times
from kvplan.planning.server import Server
from kvplan.planning.site import Limits
from kvplan.report.blocks import (
    Chart,
    Column,
    Json,
    Page,
    Series,
    Text,
    notes,
    record,
    records,
    schema,
    sentence,
    table,
    warned,
)
from kvplan.report.sources import about, assumed, brief, calibration, graph_rule, price, price_source, standing
from kvplan.units import show_count, show_number, show_percent, show_percentile, show_time, show_usd, show_usd_each


def times(name: str, of: str) -> Iterator[Column[Point]]:
    """Yield the columns of TTFT or TPOT: mean and percentiles. [s]"""
    for heading, key in (("mean", "mean"), ("P50", "p50"), ("P95", "p95"), ("P99", "p99"), (None, "at_percentile")):

        def value(p: Point, key: str = key) -> float:
            times: Times = getattr(p, of)
            return float(getattr(times, key))

        shown = f"{name} {heading}" if heading else None
        yield Column(key=f"{of}.{key}", heading=shown, value=value, show=show_time)


def dollars(key: str, heading: str) -> Column[Point]:
    """Return a column of money. [USD]"""
    return Column(
        key=key, heading=heading, value=lambda p: getattr(p, key), show=show_usd, absent="no price",
        per_query=key == "usd_per_query",
    )  # fmt: skip


IN_FLIGHT = Column[Point](key="in_flight", heading="in flight", value=lambda p: p.in_flight, show=show_number)
TIMES = (IN_FLIGHT, *times("TTFT", "ttft"), *times("TPOT", "tpot"))
THROUGHPUT = (
    IN_FLIGHT,
    Column[Point](key="running", heading="running", value=lambda p: p.running, show=show_number),
    Column[Point](
        key="queued_seconds", heading="queueing time", value=lambda p: p.queued,
        show=lambda t: show_time(t) if t >= 1e-3 else "none",
    ),
    Column[Point](key="requests_per_second", heading="requests/s", value=lambda p: p.rate, show=show_number),
    Column[Point](key="request_seconds", value=lambda p: p.cycle),
    Column[Point](
        key="tokens_per_second", heading="tokens/s", value=lambda p: p.tokens_per_second, show=lambda x: f"{x:,.0f}"
    ),
    Column[Point](
        key="kv_occupancy", heading="KV in use", value=lambda p: p.occupancy, show=lambda x: show_percent(x, 1)
    ),
    dollars("usd_per_query", "$ / query"),
    dollars("usd_per_million_tokens", "$ / Mtok"),
)  # fmt: skip
POINT = (*TIMES, *THROUGHPUT)


# -- the page -------------------------------------------------------------------------------------


def page(survey: Survey) -> Page:
    """Return the report of `kvplan load`."""
    s = survey.server
    return Page.of(
        (Text(line, "answer") for line in answer(survey)),
        warned(survey.warnings),
        Text(f"{standing(s.site.calibration)} Percentiles were not measured.", "quiet"),
        table("Times by load", TIMES, survey.points),
        table("Throughput and cost by load", THROUGHPUT, survey.points, like=survey.per_query),
        charts(survey.points) if len(survey.points) > 1 else None,
        Text(" ".join(legend(survey)), "quiet"),
        notes("Sources", sources(s)),
    )


def title(s: Server) -> str:
    """Return the server and its requests in words."""
    split = (
        f", {show_count(s.split[0], 'prefill replica')} and {show_count(s.split[1], 'decode replica')}"
        if s.split
        else ""
    )
    held = f", {s.cached:,} of them cached" if s.cached else ""
    served = f"{s.model.title}{clause(s.technique, s.site.weights)}"
    server = f"{served} on {s.gpus}x {s.site.gpu.title} ({s.parallel}{split})"
    return f"{server} with {s.site.engine.title}, {s.prompt:,} input tokens{held}, {s.output:,} output tokens"


def answer(survey: Survey) -> list[str]:
    """Return what was asked for, in a line or two."""
    s = survey.server
    if survey.concurrency is None or survey.rate is None:
        p = survey.points[-1]
        if not survey.opened and len(survey.points) > 1:
            return [f"{title(s)}: {most(s, p)}."]
        load = f"{p.rate:.3g} requests/s and {p.in_flight:,.3g} in flight"
        kept = ""
        if survey.bounded:
            at = show_percentile(s.percentile)
            kept = f"; {survey.refusal or f'{are_kept(limit(survey.limits))} at {at}'}"
        return [f"{title(s)}: {load}{kept}."]
    lines = [f"{title(s)}; limits: {limit(survey.limits)} at {show_percentile(s.percentile)}."]
    if survey.refusal:
        return [*lines, sentence(survey.refusal)]
    found = (("concurrency", survey.concurrency), ("rate", survey.rate))
    return [*lines, *(words(name, x, survey.per_query) for name, x in found)]


def most(s: Server, full: Point) -> str:
    """Return the most that a server finishes, and the rate of arrivals beyond which waits have no end, if less."""
    closed, opened = show_number(full.rate), show_number(s.most_rate)
    said = f"at most {closed} requests/s, {full.tokens_per_second:,.0f} tokens/s"
    return said if closed == opened else f"{said}; arrivals at random may be at most {opened} requests/s"


def words(name: str, largest: Largest, like: float | None) -> str:
    """Return a largest load and what binds it, costs at the scale of one `like` this. [USD]"""
    p = largest.point
    if p is None:
        return f"Largest {name}: none; {largest.binding} is over its limit even without load."
    load = f"{p.in_flight:.0f} in flight" if name == "concurrency" else f"{p.rate:.3g}/s ({p.in_flight:.3g} in flight)"
    cost = f", {show_usd_each(p.usd_per_query, like)}" if p.usd_per_query is not None else ""
    return f"Largest {name}: {load}, {p.tokens_per_second:,.0f} tokens/s{cost}; {largest.binding} limits it."


def limit(limits: Limits) -> str:
    """Return the limits of times in words: 'TTFT <= 2.0 s and TPOT <= 50.0 ms'."""
    return " and ".join(f"{name} <= {show_time(value)}" for name, value in limits.times)


def are_kept(limits: str) -> str:
    """Return that one limit is kept, or that several are."""
    return f"{limits} {'are' if ' and ' in limits else 'is'} kept"


def charts(points: Sequence[Point]) -> Iterator[Chart]:
    """Yield tokens per second by load, and times by load."""
    loads = tuple(p.in_flight for p in points)
    rates = Series("output", loads, tuple(p.tokens_per_second for p in points))
    yield Chart("Throughput by load", "requests in flight", "tokens/s", (rates,))
    times = tuple(
        Series(f"{name} {at.upper()}", loads, tuple(1e3 * getattr(getattr(p, of), at) for p in points))
        for name, of in (("TTFT", "ttft"), ("TPOT", "tpot"))
        for at in ("p50", "p95", "p99")
    )
    yield Chart("TTFT and TPOT by load", "requests in flight", "ms", times, picture=True)


def legend(survey: Survey) -> Iterator[str]:
    """Yield what the columns mean and what was assumed."""
    s = survey.server
    yield "running: requests admitted to memory; the others wait in the queue, and TTFT includes the wait."
    yield "$: the price of all GPUs of the server at this load. Mtok: million tokens, input and output."
    yield lengths(s)
    if not survey.opened:
        yield "Closed loop: as many requests in flight at any time, each followed by the next."
    if survey.opened or survey.rate is not None:
        kind = "Poisson arrivals" if survey.burstiness == 1 else f"arrivals with a CV of {survey.burstiness:g}"
        yield f"Open loop: {kind}, first come, first served; requests wait for the prompts before theirs (M/G/1)."
    if s.speculation is not None:
        x = s.speculation
        draft = f"drafting takes {show_percent(x.draft)} of the time of verification"
        yield f"Speculative decoding: {x.drafted} tokens drafted and {x.accepted:g} accepted per step; {draft}."
    if s.cached:
        yield f"The prefix cache holds {show_percent(s.cached / s.prompt)} of every prompt, as asked: none is evicted."
        yield "All requests are counted with that mean; memory as if each stored its own prefix."
    if s.split is not None:
        yield f"A prompt's KV cache moves to a decode replica in {show_time(s.transfer)}, over the GPUs' own link."
    most = f"{s.site.calibration.chunk:,.0f} tokens of prompts at most"
    yield f"Memory, and what a step takes ({most}), follow the rules of {s.site.engine.title}, {s.site.engine.version}."


def lengths(s: Server) -> str:
    """Return how long answers are."""
    if not s.spread:
        return f"All answers have {s.output:,} tokens, as asked: those that started together stay in step."
    low, high = (round(s.output * (1 + way * s.spread / 2)) for way in (-1, 1))
    return f"Answers have {low:,} to {high:,} tokens, as published benchmarks send them; lengths=exact makes all alike."


def sources(s: Server) -> list[str]:
    """Return where the numbers come from."""
    cost = price_source(s.site.gpu.name, s.site.price)
    return [
        f"model: {brief(s.model.source)}",
        *assumed(s.site.gpu),
        cost,
        *(f"times: {x}" for x in s.site.calibration.sources),
        *graph_rule(s.model, s.site.deployment(s.parallel)),
    ]


# -- JSON -----------------------------------------------------------------------------------------


def document(survey: Survey) -> Json:
    """Return the document of `kvplan load`."""
    s = survey.server
    return schema(
        "load",
        warnings=list(survey.warnings),
        model=about(s.model),
        server=served(s),
        calibration=calibration(s.site.calibration),
        price=price(s.site.price),
        loop="open" if survey.opened else "closed",
        burstiness=survey.burstiness,
        limits={"ttft": survey.limits.ttft, "tpot": survey.limits.tpot, "percentile": s.percentile},
        loads=records(POINT, survey.points),
        largest_concurrency=largest(survey.concurrency),
        largest_rate=largest(survey.rate),
        max_requests_per_second=s.most_rate,
        feasible=not survey.refusal,
        reason=survey.refusal,
    )


def served(s: Server) -> Json:
    """Return the server as a JSON object."""
    spec, split = s.speculation, s.split
    return {
        "gpu": s.site.gpu.name,
        "engine": s.site.calibration.engine,
        "technique": s.technique,
        "weights": s.site.weights,
        "parallel": str(s.parallel),
        "gpus": s.gpus,
        "disaggregated": {"prefill": split[0], "decode": split[1], "transfer": s.transfer} if split else None,
        "speculative": {"accepted": spec.accepted, "draft_share": spec.draft, "draft_tokens": spec.drafted}
        if spec
        else None,
        "input_tokens": s.prompt,
        "cached_tokens": s.cached,
        "output_tokens": s.output,
        "length_spread": s.spread,
        "max_sequences": s.room * s.decoders,
        "max_batch": s.slots * s.decoders,
    }


def largest(limit: Largest | None) -> Json | None:
    """Return the largest load and what binds it; `load` is null where none keeps the limits."""
    if limit is None:
        return None
    return {"binding": limit.binding, "load": record(POINT, limit.point) if limit.point else None}
