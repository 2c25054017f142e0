"""A simulation: what users felt, the worst minute and why, how it went over time, and the same as JSON."""

from collections.abc import Callable, Iterator, Sequence
from math import inf

from kvplan.api.simulate import Simulated
from kvplan.kv.tiers import TIERS
from kvplan.perf.simulate.buckets import RELATIVE
from kvplan.planning.simulating.results import SHARES_SHOWN, Bin, Percentiles, Replayed
from kvplan.report.blocks import (
    Chart,
    Column,
    Json,
    Page,
    Series,
    Table,
    Text,
    grid,
    notes,
    record,
    records,
    schema,
    sentence,
    table,
    warned,
)
from kvplan.report.simulate_headline import answer
from kvplan.report.sources import about, assumed, brief, calibration, price, price_source, standing
from kvplan.units import (
    HOUR,
    MINUTE,
    show_count,
    show_energy,
    show_number,
    show_percent,
    show_time,
    show_usd,
    show_usd_each,
)

#: from so many times a limit on, a time beyond it is said as a multiple: hundreds of percent tell nothing
FAR = 10.0
#: a row of the table of times: its name, its percentiles and the limit they must keep [s]
Timed = tuple[str, Percentiles, float | None]


def seconds(name: str, key: str) -> Column[Timed]:
    """Return a column of one percentile. [s]"""
    return Column(
        key=key, heading=name, value=lambda row: getattr(row[1], key) if row[1].count else None, show=show_time
    )


TIMES = (
    Column[Timed](heading="", value=lambda row: row[0], align="left"),
    seconds("P50", "p50"), seconds("P90", "p90"), seconds("P95", "p95"), seconds("P99", "p99"),
    Column[Timed](heading="limit", value=lambda row: row[2], show=show_time, absent="none"),
)  # fmt: skip
BINS = (
    Column[Bin](key="start", value=lambda b: b.start),
    Column[Bin](key="length", value=lambda b: b.seconds),
    Column[Bin](key="requests", value=lambda b: b.came),
    Column[Bin](key="over_limit", value=lambda b: b.late),
    Column[Bin](key="ttft_mean", value=lambda b: b.ttft),
    Column[Bin](key="ttft_max", value=lambda b: b.slowest),
    Column[Bin](key="queued", value=lambda b: b.queued),
    Column[Bin](key="prompt_tokens_computed", value=lambda b: b.read),
    Column[Bin](key="prompt_tokens_found", value=lambda b: b.found),
    Column[Bin](key="kv_occupancy", value=lambda b: b.occupancy),
    Column[Bin](key="busy", value=lambda b: b.busy),
)


# -- the page -------------------------------------------------------------------------------------


def page(s: Simulated) -> Page:
    """Return the report of `kvplan simulate`."""
    o = s.outcome
    return Page.of(
        (Text(line, "answer") for line in answer(s)),
        warned(s.warnings),
        Text(standing(o.asked.server.site.calibration), "quiet"),
        table("Times of requests", TIMES, times(o)),
        grid("Totals over all requests", ("quantity", "value"), ((name, value) for name, value in sums(o))),
        Text(worst(o)),
        tried(s),
        *charts(o),
        Text(" ".join(legend(s)), "quiet"),
        notes("Sources", sources(o)),
    )


def times(o: Replayed) -> list[Timed]:
    """Return the rows of the table of times; hits and misses apart where there are both, and priorities."""
    limits = o.asked.limits

    def each(name: str) -> list[Timed]:
        return [(f"  priority {c.priority}", getattr(c, name), None) for c in o.classes]

    rows: list[Timed] = [("TTFT", o.ttft, limits.ttft)]
    if o.ttft_hit.count and o.ttft_miss.count:
        rows += [("  prefix hit", o.ttft_hit, None), ("  prefix miss", o.ttft_miss, None)]
    rows += [*each("ttft"), ("waiting", o.queued, None), ("TPOT", o.tpot, limits.tpot), *each("tpot")]
    return [*rows, ("ITL", o.itl, None), ("end to end", o.e2e, limits.e2e), *each("e2e")]


def sums(o: Replayed) -> Iterator[tuple[str, str]]:
    """Yield names and figures of the whole simulation."""
    done = f"{o.completed:,} of {o.requests:,} completed"
    yield "requests", done + (f", {o.refused:,} sent away" if o.refused else "")
    share = o.within / o.requests if o.requests else 0.0
    yield (
        "goodput",
        f"{show_number(o.goodput)} requests/s" + (f", {show_percent(share, 1)} keep all limits" if o.measured else ""),
    )
    yield "throughput", f"{o.output_tokens / o.seconds:,.0f} output tokens/s" if o.seconds else "-"
    yield "preemptions", f"{o.preemptions:,}"
    if o.rules.sharing:
        yield "prefix hits", f"{show_percent(o.hit_rate, 1)} of prompt tokens"
    if o.rules.tiers:
        yield "from tiers", f"{show_percent(o.fetched, 1)} of prompt tokens ({tiers(o)})"
    yield "KV in use", f"{show_percent(o.occupancy, 1)} on average, {show_percent(o.peak, 1)} at most"
    yield "GPU time", f"{show_number(o.gpu_seconds / HOUR)} GPU-hours, {show_percent(o.busy)} of them busy"
    if o.usd is not None and o.usd_per_query is not None:
        yield "cost", f"{show_usd(o.usd)}, {show_usd_each(o.usd_per_query)}"
    if o.joules is not None:
        yield "energy", f"{show_energy(o.joules)}, {show_energy(o.joules / max(o.completed, 1))} a query"


def tiers(o: Replayed) -> str:
    """Return the tiers that keep prefixes, in words."""
    *others, last = (TIERS[name].title for name in o.asked.tiers)
    return f"{', '.join(others)} and {last}" if others else last


def worst(o: Replayed) -> str:
    """Return the worst minute, and what was different in it."""
    b = o.worst
    if b is None or sum(bool(x.came) for x in o.bins) < 2:
        return ""
    span = "minute" if b.seconds == MINUTE else f"stretch of {show_time(b.seconds)}"
    when = f"{int(b.start // HOUR)}:{int(b.start % HOUR // MINUTE):02d}:{int(b.start % MINUTE):02d}"
    late = f"{b.late:,} of its requests beyond a limit, " if o.measured and b.late else ""
    return (
        f"The worst {span} began at {when} (h:mm:ss): {late}"
        f"mean TTFT {show_time(b.ttft)}, longest {show_time(b.slowest)}. "
        f"{sentence(', '.join(different(o, b)))}"
    )


def different(o: Replayed, b: Bin) -> Iterator[str]:
    """Yield what was different in a stretch of time: who came and with what, who served, what was in use."""
    came, read = sum(x.came for x in o.bins), sum(x.read for x in o.bins if x.came)
    yield f"{show_count(b.came, 'request')} came, {often(b.came * len(o.bins) / came)}"
    tokens = read / came
    if tokens and abs(b.read / b.came / tokens - 1) > 0.1:
        yield f"with {b.read / b.came:,.0f} prompt tokens to compute each instead of {tokens:,.0f}"
    up = f"{show_number(b.serving, 2)} of {o.replicas:,} replicas were up and" if o.scaled else "replicas"
    yield f"{up} worked {show_percent(b.busy)} of the time"
    begun = b.start + o.asked.warm
    down = {f.replica for f in o.asked.failures if f.at <= begun + b.seconds and f.at + f.lasts > begun}
    yield from (f"replica {n} failed or was down" for n in sorted(down))
    waited = f"{show_number(b.queued, 2)} requests waited"
    yield f"{show_percent(b.occupancy)} of the KV cache was in use and {waited}"


def often(times: float) -> str:
    """Return how many came, against the average."""
    return "as many as on average" if f"{times:.2g}" == "1" else f"{show_number(times, 2)} times the average"


def room(margin: float) -> str:
    """Return the room below the nearest limit, or how far beyond it a time is."""
    if margin >= 0:
        return show_percent(margin)
    times = 1 - margin
    return f"broken by {show_percent(-margin)}" if times < FAR else f"broken, {show_number(times)} times the limit"


def tried(s: Simulated) -> Table | None:
    """Return the table of the replicas that were tried, None where their number was given."""
    if s.search is None or len(s.search.tried) < 2:
        return None
    seen = s.search.seen
    rows = ((f"{n:,}", "requests sent away" if seen[n].refused else room(m)) for n, m in s.search.tried)
    return grid("Replicas tried", ("replicas", "room below the nearest limit"), rows)


def charts(o: Replayed) -> Iterator[Chart]:
    """Yield charts: times by the share of requests that take no longer, and the course of the simulation."""
    if o.completed:
        shares = tuple(100 * x for x in SHARES_SHOWN)
        times = tuple(Series(name, shares, course) for name, course in o.courses.items())
        yield Chart("Times by share of requests", "share of requests [%]", "time [s]", times, log=False, picture=True)
    if len(o.bins) >= 3:
        yield from over_time(o)


def over_time(o: Replayed) -> Iterator[Chart]:
    """Yield charts over time: waits, load, memory, and replicas where they come and go."""

    def chart(title: str, unit: str, *series: Series) -> Chart:
        return Chart(title, "time [min]", unit, series, log=False)

    def course(name: str, figure: Callable[[Bin], float], bins: Sequence[Bin] = o.bins) -> Series:
        return Series(name, tuple(b.start / MINUTE for b in bins), tuple(figure(b) for b in bins))

    asked = [b for b in o.bins if b.came]  # nobody waits for a first token while none come
    waits = course("mean", lambda b: b.ttft, asked), course("longest", lambda b: b.slowest, asked)
    yield chart("TTFT by arrival time", "TTFT [s]", *waits)
    arrivals = course("arrivals [1/s]", lambda b: b.came / b.seconds)
    yield chart(
        "Arrivals and queue", "requests/s; requests", arrivals, course("waiting [requests]", lambda b: b.queued)
    )
    shares = [course("KV in use", lambda b: 100 * b.occupancy), course("busy", lambda b: 100 * b.busy)]
    if o.rules.sharing:
        shares.append(course("prefix hits", lambda b: 100 * b.found / max(b.found + b.read, 1.0)))
    yield chart("Shares over time", "%", *shares)
    if len(o.scaled) > 1:
        yield chart("Replicas", "replicas", stairs("replicas", o.scaled, o.bins[-1].start + o.bins[-1].seconds))


def stairs(name: str, changes: tuple[tuple[float, int], ...], end: float) -> Series:
    """Return a number that stays as it is until it changes, up to a time. [s]"""
    ends = [*(at for at, _ in changes[1:]), max(end, changes[-1][0])]
    points = [(t / MINUTE, float(n)) for (at, n), until in zip(changes, ends, strict=True) for t in (at, until)]
    return Series(name, tuple(t for t, _ in points), tuple(n for _, n in points))


def legend(s: Simulated) -> Iterator[str]:
    """Yield what the figures mean, how exact they are, and what is left out."""
    o = s.outcome
    yield f"Percentiles are exact within {show_percent(RELATIVE, 1)}: they are counted in buckets."
    yield (
        "ITL: time between two tokens of a request; waiting: to its first admission to memory, with the scheduler's "
        "delay, which servers without a queue have too."
    )
    error = "exactly" if o.steps.error < 1e-6 else f"within {show_percent(o.steps.error, 1)}"
    yield f"Step times are interpolated linearly over batch sizes and contexts, and match the calibrated ones {error}."
    leaps = f"{o.engine_steps:,} engine steps were simulated in {o.events:,} events: equal steps are taken together"
    yield f"{leaps}. Routing: {o.asked.router}."
    c = o.rules
    kind = "prompts share steps with decoding" if c.mixed else "decoding pauses while prompts are read"
    copied = ", on decode replicas copied to the host and back" if c.reload else ""
    again = "no request is preempted" if c.reserving else f"preempted requests are recomputed{copied}"
    yield f"At most {c.chunk:,} tokens and {c.most:,} sequences a step; {kind}; {again}."
    if o.asked.extent.ranked:
        apart = "" if o.classes else f"; {len(o.asked.extent.ranks):,} of them are too many to tell their times apart"
        yield f"Priorities: the lowest number is admitted first, and preempted last{apart}."
    if o.asked.warm:
        yield f"{show_time(o.asked.warm)} before these requests warm up queues and caches and are not counted."
    if o.asked.prefix_cache and not o.asked.extent.chain:
        yield "No request says what it shares with another: every prompt is computed whole."
    if o.asked.extent.chain and not o.asked.server.split:
        yield "A prefix can be reused from the prefill of the first request that has it."
    if o.rules.sharing:
        yield "Prefix hit: a request that found at least half of what it may share with others in the cache."


def sources(o: Replayed) -> list[str]:
    """Return where the numbers come from."""
    s = o.asked.server
    return [
        f"model: {brief(s.model.source)}",
        *assumed(s.site.gpu),
        price_source(s.site.gpu.name, s.site.price),
        *([f"power: {s.site.draw.basis}"] if s.site.draw else []),
        *(f"times: {x}" for x in s.site.calibration.sources),
    ]


# -- JSON -----------------------------------------------------------------------------------------


def document(s: Simulated) -> Json:
    """Return the document of `kvplan simulate`."""
    o, limits = s.outcome, s.outcome.asked.limits
    server, best = o.asked.server, s.search
    named = {"ttft": o.ttft, "ttft_hit": o.ttft_hit, "ttft_miss": o.ttft_miss, "tpot": o.tpot, "itl": o.itl,
             "e2e": o.e2e, "queued": o.queued}  # fmt: skip
    return schema(
        "simulate",
        warnings=list(s.warnings),
        model=about(server.model),
        gpu=server.site.gpu.name,
        engine=server.site.calibration.engine,
        technique=server.technique,
        weights=server.site.weights,
        parallel=str(server.parallel),
        calibration=calibration(server.site.calibration),
        price=price(server.site.price),
        stream=stream(o),
        limits={"ttft": limits.ttft, "tpot": limits.tpot, "e2e": limits.e2e, "percentile": limits.percentile},
        requests=o.requests,
        completed=o.completed,
        sent_away=o.refused,
        preemptions=o.preemptions,
        **{name: percentiles(p) for name, p in named.items()},
        priorities=[
            {"priority": c.priority, "requests": c.ttft.count, "ttft": percentiles(c.ttft),
             "tpot": percentiles(c.tpot), "e2e": percentiles(c.e2e)}
            for c in o.classes
        ],
        relative_error=RELATIVE,
        goodput=o.goodput,
        within_limits=o.within / o.requests if o.requests else None,
        prefix_hit_rate=o.hit_rate,
        prefix_fetched_rate=o.fetched if o.rules.tiers else None,
        tiers=list(o.asked.tiers) if o.rules.tiers else [],
        kv_occupancy={"mean": o.occupancy, "max": o.peak},
        busy=o.busy,
        gpu_hours=o.gpu_seconds / HOUR,
        usd=o.usd,
        usd_per_query=o.usd_per_query,
        joules=o.joules,
        joules_per_query=None if o.joules is None else o.joules / max(o.completed, 1),
        replicas=o.replicas,
        gpus=o.gpus,
        router=o.asked.router,
        disaggregated=list(server.split) if server.split else None,
        margin=o.margin if o.margin < inf else None,
        binding=o.binding,
        busiest=busiest(s),
        tried=[{"replicas": n, "margin": m} for n, m in best.tried] if best else [],
        replicas_over_time=[{"start": t, "replicas": n} for t, n in o.scaled],
        bins=records(BINS, o.bins),
        worst=record(BINS, o.worst) if o.worst else None,
        step_time_error=o.steps.error,
        engine_steps=o.engine_steps,
        simulated_seconds=o.end,
        wall_seconds=s.wall,
        feasible=not s.refusal,
        reason=s.refusal,
    )  # fmt: skip


def stream(o: Replayed) -> Json:
    """Return the requests as a JSON object."""
    x = o.asked.extent
    return {
        "title": o.asked.title, "requests": x.requests, "left_out": x.failed, "span": x.span,
        "input_tokens_mean": x.prompt, "output_tokens_mean": x.output, "longest": x.longest,
        "busiest_minute": x.busiest, "concurrency": o.asked.concurrency or None,
    }  # fmt: skip


def busiest(s: Simulated) -> Json | None:
    """Return the busiest stretch of time and the replicas it needs as a JSON object, None without one."""
    b = s.outcome.busiest
    if b is None:
        return None
    needed = s.burst.smallest if s.burst else None
    return {
        "start": b.start, "length": b.seconds, "times_the_mean": s.outcome.surge,
        "within_limits": 1 - b.late / b.came, "replicas": needed.replicas if needed else None,
    }  # fmt: skip


def percentiles(p: Percentiles) -> Json:
    """Return percentiles as a JSON object, null where nothing was counted."""
    return {name: getattr(p, name) if p.count else None for name in ("p50", "p90", "p95", "p99")}
