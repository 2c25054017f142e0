"""A recommendation in words and tables: the answer first, then the money, the reasons, the others."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvplan.planning.plans import Plan
from kvplan.planning.quality import Quality
from kvplan.planning.recommend import Recommendation
from kvplan.report.tables import NARROW, brief, console, grid, notes
from kvplan.units import MILLION, MONTH, show_time, show_usd

#: rows of the tables of other plans
SHOWN = 10
#: characters of the longest bar
BAR = 18


def report(r: Recommendation, titles: Mapping[str, str]) -> list[RenderableType]:
    """Return the report of `kvplan recommend`."""
    demand = r.demand
    noted = [Text(f"Note: {warning}", style="yellow") for warning in r.warnings]
    parts: list[RenderableType] = [Text(answer(r, titles), style="bold"), *noted, Text(asked(r), style="dim")]
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
        title = "Runners-up, the best of each technique and GPU" if r.plan else "Plans that something else bars"
        shown = [*([r.plan] if r.plan else []), *r.alternatives[:SHOWN]]
        parts += [plans_table(title, shown), *legend(shown), Text()]
    if len(r.front) > 1:
        parts += [plans_table("Not beaten in all of cost, quality and latency", r.front[:SHOWN]), Text()]
    parts += notes(refusals(r), "Not possible")
    if r.plan is not None and r.plan.quality.caveats:
        parts += notes(r.plan.quality.caveats, "Quality")
    lines = [f"workload: {brief(demand.workload.source)}", f"model: {brief(demand.model.source)}"]
    if r.site is not None:
        lines += [f"times: {s}" for s in r.site.calibration.sources]
        lines += [f"price: {line.basis}" for line in (r.bill.kinds if r.bill else ())]
    return [*parts, *notes(lines, "Sources")]


def refusals(r: Recommendation) -> list[str]:
    """Return each reason once, behind the techniques and GPUs it stands against."""
    found: dict[str, list[str]] = {}
    for x in r.rejected:
        found.setdefault(x.reason, []).append(x.technique or x.gpu)
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def legend(plans: Sequence[Plan]) -> list[RenderableType]:
    """Return what the marks in a table of plans mean."""
    said = ["sure: the probability that the latency limits are kept"]
    if not all(p.grounded for p in plans):
        said.append("* no server on this GPU was measured: its times are a guess")
    if not all(p.served_by_engine for p in plans):
        said.append("+ the engine does not serve this technique")
    return [Text("; ".join(said), style="dim")]


def answer(r: Recommendation, titles: Mapping[str, str]) -> str:
    """Return the one line to take away."""
    p, demand = r.plan, r.demand
    head = f"{demand.workload.title} on {demand.model.title}"
    if p is None:
        return f"{head}: {r.lacking}."
    how = "uncompressed" if p.technique == "baseline" else f"with {p.technique}"
    where = f"{p.gpus}x {titles.get(p.gpu, p.gpu)} ({p.replicas} replica{'s' * (p.replicas > 1)} of {p.parallel})"
    money = ""
    if p.usd is not None:
        span = f" (80 % range {show_usd(r.usd[0])} to {show_usd(r.usd[2])})" if r.usd else ""
        money = f", {show_usd(p.usd)} a query{span}, {show_usd(p.usd * demand.mean * MONTH)} a month"
    sure = f"limits kept with {p.slo_probability:.0%} probability" if has_limits(r) else "no latency limit"
    return f"{head}: {where} {how}{money}; {sure}."


def has_limits(r: Recommendation) -> bool:
    limits = r.demand.limits
    return any(x is not None for x in (limits.ttft, limits.tpot, limits.e2e))


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
    wide = console().width >= NARROW
    bars = [("", "left")] if wide else []
    headings = [("a query costs", "left"), ("USD", "right"), ("share", "right"), *bars, ("a month", "right")]
    table = grid(*headings, ("basis", "wrap"), title="Where each dollar goes")
    per_query, months = r.bill.lines_per("query") or (), r.bill.lines_per("month") or ()
    total = sum(line.amount for line in per_query) or 1.0
    for line, month in zip(per_query, months, strict=True):
        if line.amount / total < 0.0005:
            continue
        bar = ["█" * max(1, round(BAR * line.amount / total))] if wide else []
        cells = (show_usd(line.amount), f"{line.amount / total:.0%}", *bar, show_usd(month.amount))
        table.add_row(line.name, *cells, line.basis)
    tokens, output = r.demand.prompt + r.demand.output, r.demand.output
    each = (
        f"{show_usd(total / count * MILLION)} per million {what}"
        for count, what in ((tokens, "tokens"), (output, "out"))
    )
    monthly = show_usd(sum(m.amount for m in months))
    table.add_row("total", show_usd(total), "100%", *([""] if wide else []), monthly, ", ".join(each), style="bold")
    return table


def swing_table(r: Recommendation) -> Table:
    """Return what moves the cost, as bars around it."""
    assert r.plan is not None and r.plan.usd is not None
    base, wide = r.plan.usd, console().width >= NARROW
    bars = [("a query", "left")] if wide else []
    headings = [("what moves", "wrap"), ("from", "right"), ("to", "right"), *bars, ("basis", "wrap")]
    table = grid(*headings, title="What it depends on")
    widest = max(abs(x - base) for s in r.swings for x in (s.low, s.high)) or 1.0
    half = BAR // 2
    for s in r.swings:
        low, high = min(s.low, s.high), max(s.low, s.high)
        left = round(half * max(base - low, 0.0) / widest)
        right = round(half * max(high - base, 0.0) / widest)
        bar = [" " * (half - left) + "█" * left + "|" + "█" * right] if wide else []
        table.add_row(s.name, show_usd(s.low), show_usd(s.high), *bar, s.basis)
    return table


def plans_table(title: str, plans: Sequence[Plan]) -> Table:
    """Return plans side by side."""
    wide = console().width >= NARROW
    words = "left" if wide else "fold"  # rather two lines than a name cut short
    table = grid(
        ("technique", words), ("GPU", words), ("replicas", "right"), *([("GPUs", "right")] if wide else []),
        ("TTFT", "right"), ("TPOT", "right"), ("$ / query", "right"), ("quality loss" if wide else "loss", "left"),
        ("sure", "right"), title=title,
    )  # fmt: skip
    for n, p in enumerate(plans):
        name, gpu = f"{p.technique}{'' if p.served_by_engine else ' +'}", f"{p.gpu}{'' if p.grounded else ' *'}"
        money = show_usd(p.usd) if p.usd is not None else "no price"
        size = (f"{p.replicas} x {p.parallel}", *([f"{p.gpus}"] if wide else []))
        cells = (*size, show_time(p.ttft), show_time(p.tpot), money, loss(p.quality, wide), f"{p.slo_probability:.0%}")
        table.add_row(name, gpu, *cells, style="green" if n == 0 and title.startswith("Runners") else "")
    return table


def loss(q: Quality, wide: bool) -> str:
    """Return a quality loss, with its range where there is room."""
    if q.drop is None:
        return "unknown"
    if q.drop == q.low == q.high == 0:
        return "none"
    return f"{q.drop:.1%} ({q.low:.1%} to {q.high:.1%})" if wide else f"{q.drop:.1%}"
