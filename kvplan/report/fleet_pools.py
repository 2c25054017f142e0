"""The pools of a fleet: what serves what, with how many replicas and at which times."""

from dataclasses import replace

from kvplan.planning.fleet.plan import FleetPlan
from kvplan.planning.fleet.program import Use
from kvplan.report.blocks import Column, Json, Table, record, table
from kvplan.report.losses import CHANCE
from kvplan.units import HOUR, short_odds, show_percent, show_time, show_usd

LEGEND = (
    "prompts: input tokens of the requests served there. share: of the workload's requests. replicas: those that serve "
    "+ spares. TTFT and TPOT: at the workload's percentile, with the replicas as full as planned. The chance: "
    "that every latency limit is kept. own: the checkpoint's weights."
)


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
        key="weights", heading="weights", value=lambda u: u.option.plan.form, absent="own", align="left"
    ),
    Column[Use](key="gpus", value=lambda u: u.gpus),
    Column[Use](key="requests_in_flight", value=lambda u: int(u.option.requests)),
    Column[Use](key="ttft", heading="TTFT", value=lambda u: u.option.plan.ttft, show=show_time),
    Column[Use](key="tpot", heading="TPOT", value=lambda u: u.option.plan.tpot, show=show_time),
    Column[Use](key="e2e", value=lambda u: u.option.plan.e2e, show=show_time),
    Column[Use](
        key="slo_probability", heading=CHANCE, value=lambda u: u.option.plan.slo_probability, show=short_odds
    ),
    Column[Use](key="usd_per_hour", heading="$ / h", value=lambda u: u.usd * HOUR, show=show_usd),
)  # fmt: skip


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


def assignment(u: Use, p: FleetPlan) -> Json:
    """Return one pool of replicas; `share` is of the workload's requests."""
    use = record(USE, u)
    use["bucket"]["of"] = p.buckets
    return use
