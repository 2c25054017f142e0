"""A fleet: the answer first, then what serves what, one type alone, what it rests on, and the same as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from kvplan.kv.budget import Line
from kvplan.planning.demand import Demand
from kvplan.planning.fleet.bill import WorkloadCost
from kvplan.planning.fleet.plan import FleetPlan, Simpler
from kvplan.planning.fleet.program import Use
from kvplan.planning.fleet.remedies import FleetRemedy
from kvplan.planning.site import Site
from kvplan.report.blocks import (
    Bar,
    Bars,
    Block,
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
    sentence,
    table,
)
from kvplan.units import HOUR, MONTH, show_percent, show_time, show_usd

#: a difference in cost that simplicity may be worth
CLOSE = 0.05
#: lines of a bill below this share of it are left out of its table
TRIFLE = 0.0005
#: a gap that is none
PROVEN = 5e-5
LEGEND = (
    "prompts: input tokens of the requests served there. share: of the workload's requests. replicas: those that serve "
    "+ spares. TTFT and TPOT: at the workload's percentile, with the replicas as full as planned. kept: "
    "the probability that the latency limits are kept."
)
MONEY = (
    "P10, P50 and P90: the 10th, 50th and 90th percentile of a cost. kvplan's error in time moves all pools together, "
    "rents those on one GPU type, load and lengths those of one workload. Spare replicas and GPUs of servers that "
    "nothing uses are part of every figure."
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
        key="replicas", heading="replicas", value=lambda u: u.all_replicas,
        cell=lambda u: f"{u.replicas:,}{f' + {u.option.spares}' * (u.option.spares > 0)} x {u.option.plan.parallel}",
    ),
    Column[Use](key="spares", value=lambda u: u.option.spares),
    Column[Use](key="tp", value=lambda u: u.option.plan.parallel.tensor),
    Column[Use](key="dp", value=lambda u: u.option.plan.parallel.data),
    Column[Use](key="technique", heading="technique", value=lambda u: u.option.plan.technique, align="left"),
    Column[Use](
        key="weights", heading="weights", value=lambda u: u.option.plan.form, absent="-", align="left"
    ),
    Column[Use](key="gpus", value=lambda u: u.gpus),
    Column[Use](key="requests_in_flight", value=lambda u: int(u.option.requests)),
    Column[Use](key="ttft", heading="TTFT", value=lambda u: u.option.plan.ttft, show=show_time),
    Column[Use](key="tpot", heading="TPOT", value=lambda u: u.option.plan.tpot, show=show_time),
    Column[Use](key="e2e", value=lambda u: u.option.plan.e2e, show=show_time),
    Column[Use](
        key="slo_probability", heading="kept", value=lambda u: u.option.plan.slo_probability, show=show_percent
    ),
    Column[Use](key="usd_per_hour", heading="$ / h", value=lambda u: u.usd * HOUR, show=show_usd),
)  # fmt: skip
#: a simpler fleet's own figures
SIMPLER = (
    Column[Simpler](key="usd_per_hour", value=lambda s: hourly(s.usd)),
    Column[Simpler](key="unlimited_usd_per_hour", value=lambda s: hourly(s.unlimited)),
    Column[Simpler](key="needs", value=lambda s: s.needs),
    Column[Simpler](key="reason", value=lambda s: s.reason),
)


#: what a workload costs
COST = (
    Column[WorkloadCost](key="name", heading="workload", value=lambda w: w.task.name, align="left"),
    Column[WorkloadCost](key="gpus", heading="GPUs", value=lambda w: w.gpus),
    Column[WorkloadCost](key="spare_gpus", heading="of them spare", value=lambda w: w.spares or None, absent=""),
    Column[WorkloadCost](key="slo_probability", value=lambda w: w.sure),
    Column[WorkloadCost](key="usd_per_hour", value=lambda w: w.usd * HOUR),
    Column[WorkloadCost](key="usd_per_month", heading="a month", value=lambda w: w.usd * MONTH, show=show_usd),
    Column[WorkloadCost](key="usd_per_query.p50", heading="$ / query", value=lambda w: w.per_query[1], show=show_usd),
    Column[WorkloadCost](key="usd_per_query.p10", heading="P10", value=lambda w: w.per_query[0], show=show_usd),
    Column[WorkloadCost](key="usd_per_query.p90", heading="P90", value=lambda w: w.per_query[2], show=show_usd),
    Column[WorkloadCost](key="item", value=lambda w: w.task.demand.workload.item or None),
    Column[WorkloadCost](key="requests_per_item", value=lambda w: w.task.demand.workload.requests_per_item),
    Column[WorkloadCost](
        key="usd_per_item", heading="$ / item", value=lambda w: w.per_item, absent="",
        cell=lambda w: "" if w.per_item is None else f"{show_usd(w.per_item)} a {w.task.demand.workload.item}",
    ),
    Column[WorkloadCost](
        key="usd_per_million_input_tokens", heading="$ / M input", value=lambda w: w.per_million[0], show=show_usd
    ),
    Column[WorkloadCost](
        key="usd_per_million_output_tokens", heading="$ / M output", value=lambda w: w.per_million[1], show=show_usd
    ),
)  # fmt: skip
LINE = (
    Column[Line](key="name", value=lambda x: x.name),
    Column[Line](key="usd_per_hour", value=lambda x: x.amount * HOUR),
    Column[Line](key="basis", value=lambda x: x.basis),
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
        (Text(f"Note: {sentence(warning)}", "warning") for warning in p.warnings),
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


def odds(p: FleetPlan) -> str:
    """Return which workloads are served less surely than was sought, '' where none is."""
    if p.sought is None or p.bill is None:
        return ""
    sure = {w.task.name: w.sure for w in p.bill.workloads}
    if len(p.unsure) == 1:
        each = f"them with {show_percent(sure[p.unsure[0].name])} probability"
    else:
        each = " and ".join(f"those of {t.name} with {show_percent(sure[t.name])}" for t in p.unsure)
    return (
        f" No replica keeps the latency limits of {' and '.join(t.name for t in p.unsure)} with "
        f"{show_percent(p.sought)} probability: this fleet keeps {each}."
    )


def assigned(p: FleetPlan) -> Table:
    """Return what serves what."""
    return table("Assignment of workloads to GPUs", columns(p), p.uses, keys=2)


def money(p: FleetPlan) -> tuple[Block, ...]:
    """Return what each workload costs and where each dollar goes, () without a fleet."""
    if p.bill is None:
        return ()
    lines = [x for x in p.bill.lines if x.amount >= TRIFLE * p.bill.usd[1]]
    whole = p.bill.usd[1]
    columns = (
        Column[Line](heading="the fleet costs", value=lambda x: x.name, align="left"),
        Column[Line](heading="$ / h", value=lambda x: x.amount * HOUR, show=show_usd),
        Column[Line](heading="share", value=lambda x: x.amount / whole, show=show_percent),
        Column[Line](
            heading="",
            value=lambda x: x.amount / whole,
            cell=lambda x: Bar(x.amount / whole),
            align="left",
            picture=True,
        ),
        Column[Line](heading="a month", value=lambda x: x.amount * MONTH, show=show_usd),
        Column[Line](heading="basis", value=lambda x: x.basis, align="left", wraps=True),
    )
    total = ("total", show_usd(whole * HOUR), show_percent(1.0), "", show_usd(whole * MONTH), "")
    cost = [c for c in COST if any(c.write(w) for w in p.bill.workloads)]
    return (
        table("What each workload costs", cost, p.bill.workloads),
        Text(MONEY, "quiet"),
        table("Where each dollar goes", columns, lines, total=total),
    )


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


def columns(p: FleetPlan) -> tuple[Column[Use], ...]:
    """Return the columns of the pools: times by their percentile, the end-to-end time where one is limited."""
    shares = {t.demand.limits.percentile for t in p.tasks}
    at = f"P{100 * min(shares):g} " if len(shares) == 1 else ""
    headings = {"ttft": f"{at}TTFT", "tpot": f"{at}TPOT"}
    if any(t.demand.limits.e2e is not None for t in p.tasks):
        headings["e2e"] = f"{at}end to end"
    return tuple(replace(c, heading=headings.get(c.key, c.heading)) for c in USE)


def taken(gpus: Mapping[str, int]) -> str:
    """Return numbers of GPUs in words: '3 h100-sxm, 2 h200 and 1 mi300x'."""
    each = [f"{n:,} {gpu}" for gpu, n in gpus.items() if n]
    return f"{', '.join(each[:-1])} and {each[-1]}" if len(each) > 1 else "".join(each)


def answer(p: FleetPlan) -> str:
    """Return the answer in a few sentences: the GPUs, their cost and its range, and what is simpler."""
    if p.usd is None or p.bill is None:
        return f"No fleet serves this: {p.lacking}."
    low, middle, high = (x * MONTH for x in p.bill.usd)
    whole = f"the {len(p.tasks)} workloads" if len(p.tasks) > 1 else p.tasks[0].name
    verb = "serves" if sum(p.gpus.values()) == 1 else "serve"
    spread = f"{show_usd(middle)} a month (P50; P10 {show_usd(low)}, P90 {show_usd(high)})"
    text = f"{taken(p.gpus)} {verb} {whole} at {show_usd(p.usd * HOUR)} an hour, {spread}"
    best, saving = p.best_single, p.saving
    if best is None or saving is None:
        text += ". No GPU type alone is enough with the GPUs that are available."
    elif saving < 0.0005:
        text += f". No mix of GPU types is cheaper than {best.gpu} alone."
    else:
        text += f", {show_percent(saving, 1)} less than with {best.gpu} alone."
    return f"{text}{servers(p)}{spares(p)}{odds(p)}"


def servers(p: FleetPlan) -> str:
    """Return which GPUs are paid for beside those that are used, '' where none are."""
    assert p.bill is not None
    more = {gpu: n for gpu, n in p.bill.paid.items() if n > p.gpus[gpu]}
    return f" In whole servers, {taken(more)} are paid for." if more else ""


def spares(p: FleetPlan) -> str:
    """Return how many of the GPUs are spare, '' where none are."""
    count = sum(u.option.spares * u.option.gpus for u in p.uses)
    verb = "is" if count == 1 else "are"
    return f" {count:,} of the GPUs {verb} spare, to stand in when others fail." if count else ""


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
            yield f"{site.gpu.name}: {site.cost.fixed[0].basis}{offered(site)}"
    barred: dict[str, dict[str, None]] = {}
    for t in p.tasks:
        for name, reason in t.barred.items():
            barred.setdefault(name, {})[reason] = None
    yield from (f"Not used: {name}: {'; '.join(reasons)}." for name, reasons in barred.items())
    yield "The length of an answer is assumed not to depend on its prompt."


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


def assignment(u: Use, p: FleetPlan) -> Json:
    """Return one pool of replicas; `share` is of the workload's requests."""
    found = record(USE, u)
    found["bucket"]["of"] = p.buckets
    return found
