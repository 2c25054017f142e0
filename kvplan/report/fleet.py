"""A fleet: the answer first, then what serves what, one type alone, what it rests on, and the same as JSON."""

from collections.abc import Iterator
from dataclasses import replace

from kvplan.planning.demand import Demand
from kvplan.planning.fleet.plan import FleetPlan, Simpler
from kvplan.planning.fleet.program import Use
from kvplan.report.blocks import Column, Json, Page, Table, Text, notes, record, schema, table
from kvplan.units import HOUR, MONTH, show_percent, show_time, show_usd

#: a difference in cost that simplicity may be worth
CLOSE = 0.05
#: a gap that is none
PROVEN = 5e-5
LEGEND = (
    "prompts: input tokens of the requests served there. share: of the workload's requests. TTFT and TPOT: at the "
    "workload's percentile, with the replicas as full as planned. kept: the probability that the latency limits "
    "are kept."
)


def hourly(usd: float | None) -> float | None:
    """Return USD an hour of USD a second."""
    return None if usd is None else usd * HOUR


def gpu_cell(u: Use) -> str:
    """Return the GPU, marked * where no server on it was measured."""
    site = u.option.site
    return site.gpu.name if site.calibration.grounded else f"{site.gpu.name} *"


def prompts_cell(u: Use) -> str:
    """Return the prompt lengths of the requests. [token]"""
    low, high = u.option.group.tokens
    return "all" if u.option.group.whole else f"{low:,.0f}-{high:,.0f}"


#: a pool of replicas
USE = (
    Column[Use](key="workload", heading="workload", value=lambda u: u.option.group.task.name, align="left"),
    Column[Use](key="model", value=lambda u: u.option.group.task.demand.model.name),
    Column[Use](key="bucket.first", value=lambda u: u.option.group.first + 1),
    Column[Use](key="bucket.last", value=lambda u: u.option.group.last + 1),
    Column[Use](
        key="bucket.input_tokens", heading="prompts", value=lambda u: list(u.option.group.tokens), cell=prompts_cell
    ),
    Column[Use](key="bucket.share", value=lambda u: u.option.group.weight),
    Column[Use](
        key="share", heading="share", value=lambda u: u.share * u.option.group.weight, show=lambda x: show_percent(x, 1)
    ),
    Column[Use](key="gpu", heading="GPU", value=lambda u: u.option.site.gpu.name, cell=gpu_cell, align="left"),
    Column[Use](
        key="replicas", heading="replicas", value=lambda u: u.replicas,
        cell=lambda u: f"{u.replicas:,} x {u.option.configuration.parallel}",
    ),
    Column[Use](key="tp", value=lambda u: u.option.configuration.parallel.tensor),
    Column[Use](key="dp", value=lambda u: u.option.configuration.parallel.data),
    Column[Use](key="technique", heading="technique", value=lambda u: u.option.configuration.technique, align="left"),
    Column[Use](
        key="weights", heading="weights", value=lambda u: u.option.configuration.form, absent="-", align="left"
    ),
    Column[Use](key="gpus", value=lambda u: u.gpus),
    Column[Use](key="requests_in_flight", value=lambda u: int(u.option.requests)),
    Column[Use](key="ttft", heading="TTFT", value=lambda u: u.option.ttft, show=show_time),
    Column[Use](key="tpot", heading="TPOT", value=lambda u: u.option.tpot, show=show_time),
    Column[Use](key="e2e", value=lambda u: u.option.e2e, show=show_time),
    Column[Use](key="slo_probability", heading="kept", value=lambda u: u.option.sure, show=show_percent),
    Column[Use](key="usd_per_hour", heading="$ / h", value=lambda u: u.usd * HOUR, show=show_usd),
)  # fmt: skip
#: a simpler fleet's own figures
SIMPLER = (
    Column[Simpler](key="usd_per_hour", value=lambda s: hourly(s.usd)),
    Column[Simpler](key="unlimited_usd_per_hour", value=lambda s: hourly(s.unlimited)),
    Column[Simpler](key="needs", value=lambda s: s.needs),
    Column[Simpler](key="reason", value=lambda s: s.reason),
)


# -- the page -------------------------------------------------------------------------------------


def page(p: FleetPlan) -> Page:
    """Return the report of `kvplan fleet`."""
    return Page.of(
        Text(answer(p), "answer"),
        Text(asked(p), "quiet"),
        (table("Assignment of workloads to GPUs", columns(p), p.uses, keys=2), Text(LEGEND, "quiet"))
        if p.uses
        else None,
        comparison(p),
        notes("Notes", remarks(p)),
    )


def assigned(p: FleetPlan) -> Table:
    """Return what serves what."""
    return table("Assignment of workloads to GPUs", columns(p), p.uses, keys=2)


def columns(p: FleetPlan) -> tuple[Column[Use], ...]:
    """Return the columns of the pools: times by their percentile, the end-to-end time where one is limited."""
    shares = {t.demand.limits.percentile for t in p.tasks}
    at = f"P{100 * min(shares):g} " if len(shares) == 1 else ""
    headings = {"ttft": f"{at}TTFT", "tpot": f"{at}TPOT"}
    if any(t.demand.limits.e2e is not None for t in p.tasks):
        headings["e2e"] = f"{at}end to end"
    return tuple(replace(c, heading=headings.get(c.key, c.heading)) for c in USE)


def answer(p: FleetPlan) -> str:
    """Return the answer in one or two sentences."""
    if p.usd is None:
        return f"No fleet serves this: {p.reason}."
    taken = [f"{n:,} {gpu}" for gpu, n in p.gpus.items() if n]
    listed = f"{', '.join(taken[:-1])} and {taken[-1]}" if len(taken) > 1 else taken[0]
    whole = f"the {len(p.tasks)} workloads" if len(p.tasks) > 1 else p.tasks[0].name
    verb = "serves" if sum(p.gpus.values()) == 1 else "serve"
    text = f"{listed} {verb} {whole} at {show_usd(p.usd * HOUR)} an hour ({show_usd(p.usd * MONTH)} a month)"
    best, saving = p.best_single, p.saving
    if best is None or saving is None:
        return f"{text}. No GPU type alone is enough with the GPUs that are available."
    if saving < 0.0005:
        return f"{text}. No mix of types is cheaper than {best.gpu} alone."
    return f"{text}, {show_percent(saving, 1)} less than with {best.gpu} alone."


def asked(p: FleetPlan) -> str:
    """Return what was asked."""
    there = ", ".join(f"{n:,} {gpu}" for gpu, n in p.stock.items())
    return f"Available: {there}. {' '.join(demand(t.name, t.demand) for t in p.tasks)}"


def demand(name: str, d: Demand) -> str:
    """Return what a workload demands, in a sentence."""
    limits = d.limits
    times = [
        f"{n} {show_time(t)}"
        for n, t in (("TTFT", limits.ttft), ("TPOT", limits.tpot), ("end to end", limits.e2e))
        if t
    ]
    kept = f", {', '.join(times)} at P{100 * limits.percentile:g}" if times else ""
    quality = f", quality loss at most {show_percent(limits.quality, 1)}" if limits.quality is not None else ""
    return f"{name}: {d.model.title}, {d.workload.arrivals.queries_per_day:,.0f} queries a day{kept}{quality}."


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
            yield f"{site.gpu.name}: {site.cost.fixed[0].basis}"
    barred: dict[str, dict[str, None]] = {}
    for t in p.tasks:
        for name, reason in t.barred.items():
            barred.setdefault(name, {})[reason] = None
    yield from (f"Not used: {name}: {'; '.join(reasons)}." for name, reasons in barred.items())
    yield "The length of an answer is assumed not to depend on its prompt. Spare replicas are not counted."


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
    if p.usd is not None:
        fleet = {
            "gpus": p.gpus,
            "usd_per_hour": p.usd * HOUR,
            "usd_per_month": p.usd * MONTH,
            "assignments": [assignment(u, p) for u in p.uses],
        }
    best = p.best_single
    return schema(
        "fleet",
        fleet=fleet,
        reason=p.reason,
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
                "techniques": list(t.techniques), "barred": dict(t.barred),
            }
            for t in p.tasks
        ],
        available=dict(p.stock),
        buckets=p.buckets,
        solver={"time_limit": p.seconds, "stopped": p.stopped, "gap": p.gap},
    )  # fmt: skip


def assignment(u: Use, p: FleetPlan) -> Json:
    """Return one pool of replicas; `share` is of the workload's requests."""
    found = record(USE, u)
    found["bucket"]["of"] = p.buckets
    return found
