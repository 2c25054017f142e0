"""A fleet: the answer first, then what serves what, one type alone, what it rests on, and the same as JSON."""

from collections.abc import Iterator
from dataclasses import replace

from kvplan.planning.fleet.plan import FleetPlan, Simpler
from kvplan.planning.fleet.remedies import FleetRemedy
from kvplan.planning.site import Site
from kvplan.report.blocks import (
    Bars,
    Column,
    Json,
    Measure,
    Page,
    Table,
    Text,
    notes,
    record,
    records,
    schema,
    table,
    warned,
)
from kvplan.report.fleet_cost import COST, LINE, money
from kvplan.report.fleet_headline import answer, asked, taken
from kvplan.report.fleet_pools import LEGEND, assigned, assignment
from kvplan.units import HOUR, MONTH, show_percent, show_time, show_usd

#: a difference in cost that simplicity may be worth
CLOSE = 0.05
#: a gap that is none
PROVEN = 5e-5


def hourly(usd: float | None) -> float | None:
    """Return USD an hour of USD a second."""
    return None if usd is None else usd * HOUR


#: a simpler fleet's own figures
SIMPLER = (
    Column[Simpler](key="usd_per_hour", value=lambda s: hourly(s.usd)),
    Column[Simpler](key="unlimited_usd_per_hour", value=lambda s: hourly(s.unlimited)),
    Column[Simpler](key="needs", value=lambda s: s.needs),
    Column[Simpler](key="reason", value=lambda s: s.reason),
)


REMEDY = (
    Column[FleetRemedy](key="change", heading="change", value=lambda r: r.change, align="left", wraps=True),
    Column[FleetRemedy](key="gpus", value=lambda r: dict(r.gpus)),
    Column[FleetRemedy](heading="GPUs", value=lambda r: taken(r.gpus), align="left", wraps=True),
    Column[FleetRemedy](key="usd_per_hour", heading="$ / h", value=lambda r: r.usd * HOUR, show=show_usd),
    Column[FleetRemedy](key="usd_per_month", heading="a month", value=lambda r: r.usd * MONTH, show=show_usd),
)


# -- the page -------------------------------------------------------------------------------------


def page(p: FleetPlan) -> Page:
    """Return the report of `kvplan fleet`."""
    return Page.of(
        Text(answer(p), "answer"),
        warned(p.warnings),
        Text(asked(p), "quiet"),
        table(f"What would {change_for(p)}", REMEDY, p.remedies) if p.remedies else None,
        (assigned(p), Text(LEGEND, "quiet")) if p.uses else None,
        money(p),
        spent(p),
        comparison(p),
        notes("Notes", remarks(p)),
    )


def change_for(p: FleetPlan) -> str:
    """Return what the remedies are for."""
    if p.sought is None:
        return "make a fleet possible"
    return f"keep the limits with {show_percent(p.sought)} probability"


def spent(p: FleetPlan) -> Iterator[Bars]:
    """Yield what each workload costs, and what this fleet and simpler ones cost."""
    if p.bill is None or p.usd is None:
        return
    each = tuple(Measure(w.task.name, w.usd * MONTH, show_usd(w.usd * MONTH)) for w in p.bill.workloads)
    yield Bars("Cost of each workload", "USD a month", each)
    fleets = [("this fleet", p.usd), ("one pool per workload", p.separate.usd)]
    fleets += [(f"{s.gpu} alone", s.usd) for s in p.singles]
    yield Bars(
        "Cost of this fleet and of simpler ones",
        "USD an hour",
        tuple(
            Measure(name, usd * HOUR, show_usd(usd * HOUR), tone="best" if name == "this fleet" else "plain")
            for name, usd in fleets
            if usd is not None
        ),
    )


def comparison(p: FleetPlan) -> Table:
    """Return what simpler fleets cost beside this one."""
    this = Simpler(gpu="this fleet", usd=p.usd, unlimited=None, needs=sum(p.gpus.values()))
    once = replace(p.separate, gpu="one pool per workload", unlimited=None, needs=None)
    alone = [replace(s, gpu=f"{s.gpu} alone") for s in p.singles]
    stock = {f"{gpu} alone": n for gpu, n in p.stock.items()}
    columns = (
        Column[Simpler](heading="fleet", value=lambda s: s.gpu, align="left"),
        Column[Simpler](heading="$ / h", value=lambda s: hourly(s.usd), show=show_usd, absent=""),
        Column[Simpler](heading="GPUs", value=lambda s: s.needs, show=lambda n: f"{n:,}", absent=""),
        Column[Simpler](heading="available", value=lambda s: stock.get(s.gpu), show=lambda n: f"{n:,}", absent=""),
        Column[Simpler](heading="$ / h, any number", value=lambda s: hourly(s.unlimited), show=show_usd, absent=""),
        Column[Simpler](heading="why not possible", value=lambda s: s.reason, align="left", wraps=True),
    )
    rows = [*([this] if p.usd is not None else []), once, *alone]
    return table("Comparison with simpler fleets", columns, rows, tone=lambda s: "best" if s is this else "plain")


def remarks(p: FleetPlan) -> Iterator[str]:
    """Yield what the answer rests on."""
    yield solved(p)
    if p.usd and p.separate.usd and 0 < p.separate.usd / p.usd - 1 < CLOSE:
        more = p.separate.usd / p.usd - 1
        yield f"One pool per workload, which is simpler to operate, would cost {show_percent(more, 1)} more."
    sites = {s.gpu.name: s for t in p.tasks for s in t.sites}.values()
    for site in sites:
        if not site.calibration.grounded:
            yield f"* No server on {site.gpu.name} was measured; its times are extrapolated."
    for site in sites:
        if site.cost is not None:
            yield f"{site.gpu.name}: {site.cost.fixed[0].basis}{offered(site)}"
    yield from unused(p)
    yield "The length of an answer is assumed not to depend on its prompt."


def unused(p: FleetPlan) -> Iterator[str]:
    """Yield the techniques that may not be used, by reason, and for which workloads where not for all."""
    barred: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    reasons = dict.fromkeys((name, reason) for t in p.tasks for name, reason in t.barred.items())
    for name, reason in reasons:
        tasks = tuple(t.name for t in p.tasks if t.barred.get(name) == reason)
        barred.setdefault((reason, tasks), []).append(name)
    for (reason, tasks), names in barred.items():
        where = "" if len(tasks) == len(p.tasks) else f" for {' and '.join(tasks)}"
        yield f"Not used{where}: {', '.join(names)}: {reason}."


def offered(site: Site) -> str:
    """Return how many offers a price rests on, '' where it is yours or owned."""
    if site.price is None or site.price.yours:
        return ""
    return "; one offer is known" if site.lone_offer else f"; the median of {len(site.offers)} offers"


def solved(p: FleetPlan) -> str:
    """Return how far the solver proved its answer."""
    if p.gap is None:
        return ""
    if p.stopped:
        left = f"a fleet up to {show_percent(p.gap, 1)} cheaper may exist"
        return f"The solver stopped at its limit of {show_time(p.seconds)}; {left}."
    if p.gap < PROVEN:
        return "The solver proved that no choice of these replicas is cheaper."
    return f"The solver proved that no choice of these replicas is more than {show_percent(p.gap, 2)} cheaper."


# -- JSON -----------------------------------------------------------------------------------------


def document(p: FleetPlan) -> Json:
    """Return the document of `kvplan fleet`; money per hour and month, times at each workload's percentile."""
    fleet: Json | None = None
    costs: dict[str, Json] = {}
    if p.usd is not None and p.bill is not None:
        low, middle, high = (x * MONTH for x in p.bill.usd)
        fleet = {
            "gpus": p.gpus,
            "gpus_paid": p.bill.paid,
            "usd_per_hour": p.usd * HOUR,
            "usd_per_month": p.usd * MONTH,
            "usd_per_month_range": {"p10": low, "p50": middle, "p90": high},
            "lines": records(LINE, p.bill.lines),
            "assignments": [assignment(u, p) for u in p.uses],
        }
        costs = {w.task.name: {**record(COST, w), "lines": records(LINE, w.lines)} for w in p.bill.workloads}
    best = p.best_single
    return schema(
        "fleet",
        fleet=fleet,
        reason=p.lacking,
        warnings=list(p.warnings),
        remedies=records(REMEDY, p.remedies),
        single=[{"gpu": s.gpu, "available": p.stock[s.gpu], **record(SIMPLER, s)} for s in p.singles],
        best_single=best.gpu if best else None,
        saving=p.saving,
        per_workload={"usd_per_hour": hourly(p.separate.usd), "reason": p.separate.reason},
        workloads=[
            {
                "name": t.name, "workload": t.demand.workload.name, "model": t.demand.model.name,
                "queries_per_day": t.demand.workload.arrivals.queries_per_day, "peak_rate": t.demand.peak,
                "ttft": t.demand.limits.ttft, "tpot": t.demand.limits.tpot, "e2e": t.demand.limits.e2e,
                "percentile": t.demand.limits.percentile, "max_quality_drop": t.demand.limits.quality,
                "confidence": t.demand.limits.confidence,
                "confidence_sought": p.sought or t.demand.limits.confidence,
                "spares": t.demand.spares, "cost": costs.get(t.name),
                "techniques": list(t.techniques), "barred": dict(t.barred),
            }
            for t in p.tasks
        ],
        available=dict(p.stock),
        buckets=p.buckets,
        solver={"time_limit": p.seconds, "stopped": p.stopped, "gap": p.gap},
    )  # fmt: skip
