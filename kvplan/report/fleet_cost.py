"""What a fleet costs: each workload, and where each dollar goes."""

from kvplan.planning.fleet.bill import WorkloadCost
from kvplan.planning.fleet.plan import FleetPlan
from kvplan.report.blocks import Bar, Block, Column, Text, table
from kvplan.specs.line import Line
from kvplan.units import HOUR, MONTH, show_percent, show_usd

#: lines of a bill below this share of it are left out of its table
TRIFLE = 0.0005
MONEY = (
    "Costs are those with every input at its middle, P10 and P90 the 10th and 90th percentile. kvplan's error in time "
    "moves all pools together, rents those on one GPU type, load and lengths those of one workload. Spare replicas and "
    "GPUs of servers that nothing uses are part of every figure."
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
