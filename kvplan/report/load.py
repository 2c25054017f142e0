"""A server under load as text: the largest load first, then times and throughput by load, and a chart."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvplan.planning.load import Largest, Limits, Point, Server, Survey, Times
from kvplan.report.profiles import chart
from kvplan.report.tables import brief, grid, notes
from kvplan.units import HOUR, show_time, show_usd


def report(found: Survey) -> list[RenderableType]:
    """Return the report of `kvplan load`."""
    s = found.server
    parts: list[RenderableType] = [Text(line, style="bold") for line in answer(found)]
    parts += [Text(f"Note: {w}", style="yellow") for w in found.warnings]
    parts += [Text(standing(s), style="dim"), Text(), times_table(found), Text(), throughput_table(found), Text()]
    if len(found.points) > 1:
        parts += [load_chart(found.points), Text()]
    parts += [Text(legend(found), style="dim"), Text()]
    return [*parts, *notes(sources(s), "Sources")]


def title(s: Server) -> str:
    """Return the server and its requests in words."""
    split = f", {s.split[0]} to prefill and {s.split[1]} to decode" if s.split else ""
    held = f", {s.cached:,} of them cached" if s.cached else ""
    technique = f", {s.technique}" if s.technique != "baseline" else ""
    where = f"{s.model.title}{technique} on {s.gpus}x {s.site.gpu.title} ({s.parallel}{split})"
    return f"{where} under {s.site.calibration.engine}, {s.prompt:,} tokens in{held}, {s.output:,} out"


def answer(found: Survey) -> list[str]:
    """Return what was asked for, in a line or two."""
    s = found.server
    if found.concurrency is None or found.rate is None:
        p = found.points[-1]
        if not found.opened and len(found.points) > 1:
            return [f"{title(s)}: at most {s.most_rate:.3g} requests/s, {p.tokens_per_second:,.0f} tokens/s."]
        said = f"{p.rate:.3g} requests/s and {p.in_flight:,.3g} in flight"
        kept = ""
        if found.bounded:
            kept = f"; {found.refusal}" if found.refusal else f"; {limit(found.limits)} is kept at {asked(s)}"
        return [f"{title(s)}: {said}{kept}."]
    lines = [f"{title(s)}, {limit(found.limits)} at {asked(s)}:"]
    if found.refusal:
        return [*lines, f"{found.refusal}."]
    return [*lines, *(words(name, x) for name, x in (("concurrency", found.concurrency), ("rate", found.rate)))]


def words(name: str, found: Largest) -> str:
    """Return a largest load and what binds it."""
    p = found.point
    if p is None:
        return f"largest {name}: none; {found.binding} is over its limit even without load"
    load = f"{p.in_flight:.0f} in flight" if name == "concurrency" else f"{p.rate:.3g}/s ({p.in_flight:.3g} in flight)"
    money = f", {show_usd(p.usd_per_query)} a query" if p.usd_per_query is not None else ""
    return f"largest {name}: {load}, {p.tokens_per_second:,.0f} tokens/s{money}; bound by {found.binding}"


def asked(s: Server) -> str:
    return f"P{s.percentile * 100:g}"


def limit(limits: Limits) -> str:
    named = (("TTFT", limits.ttft), ("TPOT", limits.tpot))
    return " and ".join(f"{name} <= {show_time(value)}" for name, value in named if value is not None)


def standing(s: Server) -> str:
    """Return what the times stand on."""
    c = s.site.calibration
    tpot, ttft = (f"{r.low:.2f}x to {r.high:.2f}x" for r in (c.tpot, c.ttft))
    spread = f"Expect {tpot} of TPOT and cost, {ttft} of TTFT, 8 times in 10; percentiles were not measured."
    return f"Times ({c.tier}): {c.doubt}. {spread}"


def times_table(found: Survey) -> Table:
    """Return TTFT and TPOT by load."""
    heads = [f"{name} {of}" for name in ("TTFT", "TPOT") for of in ("mean", "P50", "P95", "P99")]
    table = grid(("in flight", "right"), *((h, "right") for h in heads))
    for p in found.points:
        table.add_row(flight(p, found), *cells(p.ttft), *cells(p.tpot))
    return table


def cells(t: Times) -> tuple[str, str, str, str]:
    return show_time(t.mean), show_time(t.p50), show_time(t.p95), show_time(t.p99)


def flight(p: Point, found: Survey) -> str:
    return f"{p.in_flight:,.3g}" if found.opened else f"{p.in_flight:,.0f}"


def throughput_table(found: Survey) -> Table:
    """Return throughput, memory and money by load."""
    heads = ("in flight", "running", "wait for memory", "requests/s", "tokens/s", "KV in use", "$ / query", "$ / Mtok")
    table = grid(*((h, "right") for h in heads))
    for p in found.points:
        usd = [show_usd(x) if x is not None else "no price" for x in (p.usd_per_query, p.usd_per_million_tokens)]
        table.add_row(
            flight(p, found), f"{p.running:,.3g}" if p.running < 100 else f"{p.running:,.0f}",
            show_time(p.queued) if p.queued >= 1e-3 else "-", f"{p.rate:,.3g}", f"{p.tokens_per_second:,.0f}",
            f"{p.occupancy:.1%}", *usd,
        )  # fmt: skip
    return table


def load_chart(points: Sequence[Point]) -> Text:
    """Return TPOT and tokens per second by load."""
    loads = [p.in_flight for p in points]
    rates = ("tokens/s", loads, [p.tokens_per_second for p in points], "")
    steps = ("TPOT [ms]", loads, [p.tpot.mean * 1e3 for p in points], "")
    return chart("Throughput and time per token", "requests in flight", "tokens/s, ms", [rates, steps])


def legend(found: Survey) -> str:
    """Return what the columns mean and what was assumed."""
    s = found.server
    said = ["running: requests that hold memory; the others wait for it, in TTFT too."]
    said.append("$: all GPUs of the server, paid at this load; Mtok: million tokens, in and out.")
    if found.opened or found.rate is not None:
        kind = "Poisson arrivals" if found.burstiness == 1 else f"arrivals with a CV of {found.burstiness:g}"
        said.append(f"Open loop: {kind}, waits x (1 + CV^2) / 2.")
    if s.speculation is not None:
        x = s.speculation
        said.append(
            f"Speculation: {x.drafted} drafted, {x.accepted:g} tokens a step of (1 + {x.draft:.0%}) x its verification."
        )
    if s.cached:
        said.append("Cached prefixes save time; memory counts every request whole.")
    if s.split is not None:
        said.append(
            f"A prompt's cache moves to a decoding replica in {show_time(s.transfer)}, over the GPUs' own link."
        )
    if s.site.calibration.engine != s.site.engine.name:
        said.append(f"What fits in memory follows the rules of {s.site.engine.title}.")
    return " ".join(said)


def sources(s: Server) -> list[str]:
    """Return where the numbers come from."""
    p = s.site.price
    if p is None:
        money = f"price: none known for {s.site.gpu.name}; give one with --price"
    else:
        money = f"price: {show_usd(p.price * HOUR)} per GPU-hour, {p.provider}, from {p.start}; {brief(p.source)}"
    return [f"model: {brief(s.model.source)}", money, *(f"times: {x}" for x in s.site.calibration.sources)]
