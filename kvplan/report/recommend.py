"""A recommendation in words and tables: the answer first, then the money, the reasons, the others."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvplan.planning.quality import Quality
from kvplan.planning.recommend import Plan, Recommendation
from kvplan.report.tables import brief, grid, notes
from kvplan.units import MILLION, MONTH, show_time, show_usd

#: rows of the tables of other plans
SHOWN = 10
#: characters of the longest bar
BAR = 24


def report(r: Recommendation, titles: Mapping[str, str]) -> list[RenderableType]:
    """Return the report of `kvplan recommend`."""
    demand = r.demand
    parts: list[RenderableType] = [Text(answer(r, titles), style="bold"), Text(asked(r), style="dim")]
    if r.site is not None and r.plan is not None:
        c = r.site.calibration
        parts.append(Text(f"Times: {c.tier}; {c.doubt}.", style="dim" if c.grounded else "yellow"))
    parts.append(Text())
    if r.bill is not None and r.plan is not None:
        parts += [bill_table(r), Text()]
    parts += notes((f"- {line}" for line in r.why), "Why")
    if r.swings and r.plan is not None:
        parts += [swing_table(r), Text()]
    if r.alternatives:
        title = "Runners-up, the best of each technique and GPU" if r.plan else "What would be cheapest without the bar"
        parts += [plans_table(title, [*([r.plan] if r.plan else []), *r.alternatives[:SHOWN]]), Text()]
        parts.append(Text("* the engine does not serve this technique", style="dim"))
    if len(r.front) > 1:
        parts += [plans_table("Not beaten in all of cost, quality and latency", r.front[:SHOWN]), Text()]
    parts += notes((f"{x.technique or x.gpu}: {x.reason}" for x in r.rejected), "Not possible")
    if r.plan is not None and r.plan.quality.caveats:
        parts += notes(r.plan.quality.caveats, "Quality")
    lines = [f"workload: {brief(demand.workload.source)}", f"model: {brief(demand.model.source)}"]
    if r.site is not None:
        lines += [f"times: {s}" for s in r.site.calibration.sources]
        lines += [f"price: {line.basis}" for line in (r.bill.kinds if r.bill else ())]
    return [*parts, *notes(lines, "Sources")]


def answer(r: Recommendation, titles: Mapping[str, str]) -> str:
    """Return the one line to take away."""
    p, demand = r.plan, r.demand
    head = f"{demand.workload.title} on {demand.model.title}"
    if p is None:
        return f"{head}: no plan keeps every limit; {len(r.rejected)} reasons below."
    how = "uncompressed" if p.technique == "baseline" else f"with {p.technique}"
    where = f"{p.gpus}x {titles.get(p.gpu, p.gpu)} ({p.replicas} replicas of {p.parallel})"
    money = ""
    if p.usd is not None:
        span = f" (80 % range {show_usd(r.usd[0])} to {show_usd(r.usd[2])})" if r.usd else ""
        money = f", {show_usd(p.usd)} a query{span}, {show_usd(p.usd * demand.mean * MONTH)} a month"
    sure = f"limits kept with {p.slo_probability:.0%} probability" if has_limits(r) else "no latency limit"
    return f"{head}: {where} {how}{money}; {sure}."


def has_limits(r: Recommendation) -> bool:
    return any(x is not None for x in (r.demand.limits.ttft, r.demand.limits.tpot))


def asked(r: Recommendation) -> str:
    """Return what was asked, in a line."""
    demand, limits = r.demand, r.demand.limits
    w = demand.workload
    times = [f"{n} {show_time(t)}" for n, t in (("TTFT", limits.ttft), ("TPOT", limits.tpot), ("e2e", limits.e2e)) if t]
    kept = f"{', '.join(times)} at P{100 * limits.percentile:g}" if times else "no latency limit"
    share = w.prefix_share if demand.prefix_cache else 0.0
    reuse = f", {share:.0%} of input in the prefix cache" if share else ""
    quality = f", at most {limits.quality:.1%} quality lost" if limits.quality is not None else ""
    volume = f"{w.arrivals.queries_per_day:,.0f} queries a day (peak {demand.peak / demand.mean:.1f}x)"
    tokens = f"{demand.prompt:,} tokens in, {demand.output:,.0f} out on average"
    return f"{volume}, {tokens}{reuse}; {kept}{quality}. {r.tried:,} candidates tried."


def bill_table(r: Recommendation) -> Table:
    """Return where each dollar goes."""
    assert r.bill is not None and r.plan is not None
    table = grid(
        ("a query costs", "left"), ("USD", "right"), ("share", "right"), ("", "left"), ("a month", "right"), ("basis", "wrap"),
        title="Where each dollar goes",
    )  # fmt: skip
    per_query, months = r.bill.lines_per("query") or (), r.bill.lines_per("month") or ()
    total = sum(line.amount for line in per_query) or 1.0
    for line, month in zip(per_query, months, strict=True):
        if line.amount / total < 0.0005:
            continue
        bar = "█" * max(1, round(BAR * line.amount / total))
        cells = (show_usd(line.amount), f"{line.amount / total:.0%}", bar, show_usd(month.amount))
        table.add_row(line.name, *cells, line.basis)
    tokens = r.demand.prompt + r.demand.output
    said = f"{show_usd(total / tokens * MILLION)} per million tokens, {show_usd(total / r.demand.output * MILLION)} per million out"
    table.add_row("total", show_usd(total), "100%", "", show_usd(sum(m.amount for m in months)), said, style="bold")
    return table


def swing_table(r: Recommendation) -> Table:
    """Return what moves the cost, as bars around it."""
    assert r.plan is not None and r.plan.usd is not None
    base = r.plan.usd
    table = grid(
        ("what moves", "left"), ("from", "right"), ("to", "right"), ("a query", "left"), ("basis", "wrap"), title="What it depends on"
    )  # fmt: skip
    widest = max(abs(x - base) for s in r.swings for x in (s.low, s.high)) or 1.0
    half = BAR // 2
    for s in r.swings:
        low, high = min(s.low, s.high), max(s.low, s.high)
        left = round(half * max(base - low, 0.0) / widest)
        right = round(half * max(high - base, 0.0) / widest)
        bar = " " * (half - left) + "█" * left + "|" + "█" * right
        table.add_row(s.name, show_usd(s.low), show_usd(s.high), bar, s.basis)
    return table


def plans_table(title: str, plans: Sequence[Plan]) -> Table:
    """Return plans side by side."""
    table = grid(
        ("technique", "left"), ("GPU", "left"), ("replicas", "right"), ("GPUs", "right"), ("TTFT", "right"), ("TPOT", "right"),
        ("$ / query", "right"), ("quality loss", "left"), ("sure", "right"), title=title,
    )  # fmt: skip
    for n, p in enumerate(plans):
        name = p.technique if p.served_by_engine else f"{p.technique} *"
        shape = f"{p.replicas} x {p.parallel}"
        money = show_usd(p.usd) if p.usd is not None else "no price"
        cells = (
            shape,
            f"{p.gpus}",
            show_time(p.ttft),
            show_time(p.tpot),
            money,
            loss(p.quality),
            f"{p.slo_probability:.0%}",
        )
        table.add_row(name, p.gpu, *cells, style="green" if n == 0 and title.startswith("Runners") else "")
    return table


def loss(q: Quality) -> str:
    """Return a quality loss with its range."""
    if q.drop is None:
        return "unknown"
    if q.drop == q.low == q.high == 0:
        return "none"
    return f"{q.drop:.1%} ({q.low:.1%} to {q.high:.1%})"
