"""A fleet in words and tables: the answer first, then what serves what, one type alone, and what it rests on."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvplan.planning.fleet import FleetPlan
from kvplan.planning.search import Demand
from kvplan.report.tables import grid, notes
from kvplan.units import HOUR, MONTH, show_time, show_usd

#: a difference in cost that simplicity may be worth
CLOSE = 0.05
#: a gap that is none
PROVEN = 5e-5


def report(p: FleetPlan) -> list[RenderableType]:
    """Return the report of `kvplan fleet`."""
    parts: list[RenderableType] = [Text(answer(p), style="bold"), Text(asked(p), style="dim"), Text()]
    if p.uses:
        parts += [uses_table(p), Text(), Text(LEGEND, style="dim"), Text()]
    parts += [singles_table(p), Text()]
    parts += notes(remarks(p), "Notes")
    return parts


LEGEND = (
    "prompts: input tokens of the requests sent there; share: of the workload's requests. TTFT and TPOT: at the "
    "workload's percentile, the replicas as full as planned."
)


def answer(p: FleetPlan) -> str:
    """Return the answer in one or two sentences."""
    if p.usd is None:
        return f"No fleet: {p.reason}."
    taken = [f"{n:,} {gpu}" for gpu, n in p.gpus.items() if n]
    listed = f"{', '.join(taken[:-1])} and {taken[-1]}" if len(taken) > 1 else taken[0]
    whole = f"all {len(p.tasks)} workloads" if len(p.tasks) > 1 else p.tasks[0].name
    found = f"{listed} serve {whole} at {show_usd(p.usd * HOUR)}/h ({show_usd(p.usd * MONTH)} a month)"
    best, saving = p.best_single, p.saving
    if best is None or saving is None:
        return f"{found}. No single type can, with the GPUs there are."
    if saving < 0.0005:
        return f"{found}; no mix is cheaper than {best.gpu} alone."
    return f"{found}, {saving:.1%} below {best.gpu} alone."


def asked(p: FleetPlan) -> str:
    """Return what was asked."""
    there = ", ".join(f"{n:,} {gpu}" for gpu, n in p.stock.items())
    return f"Available: {there}. {' '.join(demand(t.name, t.demand) for t in p.tasks)}"


def demand(name: str, d: Demand) -> str:
    limits = d.limits
    times = [f"{n} {show_time(t)}" for n, t in (("TTFT", limits.ttft), ("TPOT", limits.tpot), ("e2e", limits.e2e)) if t]
    kept = f", {', '.join(times)} at P{100 * limits.percentile:g}" if times else ""
    quality = f", at most {limits.quality:.1%} quality lost" if limits.quality is not None else ""
    return f"{name}: {d.model.title}, {d.workload.arrivals.queries_per_day:,.0f} queries a day{kept}{quality}."


def uses_table(p: FleetPlan) -> Table:
    """Return what serves what."""
    table = grid(
        ("workload", "left"), ("prompts", "right"), ("share", "right"), ("GPU", "left"), ("replicas", "right"),
        ("technique", "left"), ("TTFT", "right"), ("TPOT", "right"), ("$ / h", "right"), title="What serves what",
    )  # fmt: skip
    last = ""
    for u in p.uses:
        c, group = u.column, u.column.group
        low, high = group.tokens
        name = group.task.name
        table.add_row(
            name if name != last else "",
            "all" if group.whole else f"{low:,.0f}-{high:,.0f}",
            f"{u.share * group.weight:.1%}",
            c.site.gpu.name if c.site.calibration.grounded else f"{c.site.gpu.name} *",
            f"{u.replicas:,} x {c.shape.parallel}",
            c.shape.technique,
            show_time(c.ttft),
            show_time(c.tpot),
            show_usd(u.usd * HOUR),
        )
        last = name
    return table


def singles_table(p: FleetPlan) -> Table:
    """Return what simpler fleets cost."""
    table = grid(
        ("fleet", "left"), ("$ / h", "right"), ("GPUs", "right"), ("there are", "right"),
        ("$ / h, any number", "right"), ("why not", "wrap"), title="Against simpler fleets",
    )  # fmt: skip
    if p.usd is not None:
        table.add_row("this one", show_usd(p.usd * HOUR), f"{sum(p.gpus.values()):,}", "", "", "", style="green")
    once = p.separate
    table.add_row("one plan a workload", "" if once.usd is None else show_usd(once.usd * HOUR), "", "", "", once.reason)
    for s in p.singles:
        table.add_row(
            f"{s.gpu} alone",
            "" if s.usd is None else show_usd(s.usd * HOUR),
            "" if s.needs is None else f"{s.needs:,}",
            f"{p.stock[s.gpu]:,}",
            "" if s.unlimited is None else show_usd(s.unlimited * HOUR),
            s.reason,
        )
    return table


def remarks(p: FleetPlan) -> Iterator[str]:
    """Yield what the answer rests on."""
    if p.gap is not None:
        if p.stopped:
            left = f"a fleet up to {p.gap:.1%} cheaper is not ruled out"
            yield f"The solver stopped after {show_time(p.seconds)}: {left}."
        elif p.gap < PROVEN:
            yield "The solver ran to its end: no choice of these replicas is cheaper."
        else:
            yield f"The solver ran to its end: no choice of these replicas is more than {p.gap:.2%} cheaper."
    if p.usd and p.separate.usd and 0 < p.separate.usd / p.usd - 1 < CLOSE:
        more = p.separate.usd / p.usd - 1
        yield f"One configuration for each workload, which is less to run, would cost {more:.1%} more."
    for site in {s.gpu.name: s for t in p.tasks for s in t.sites}.values():
        if not site.calibration.grounded:
            yield f"* {site.gpu.name}: no server on it was measured; its times are a guess."
    for site in {s.gpu.name: s for t in p.tasks for s in t.sites}.values():
        if site.cost is not None:
            yield f"{site.gpu.name}: {site.cost.fixed[0].basis}"
    barred: dict[str, dict[str, None]] = {}
    for t in p.tasks:
        for name, reason in t.barred.items():
            barred.setdefault(name, {})[reason] = None
    yield from (f"Not used: {name}: {'; '.join(reasons)}." for name, reasons in barred.items())
    yield "Answers are taken to be as long whatever the prompt; replicas that stand in for failed ones are not counted."
