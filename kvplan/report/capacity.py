"""The most that GPUs serve: queries a day, users, what binds, and the plan that serves them."""

from kvplan.planning.capacity import Capacity
from kvplan.report.blocks import Json, Page, Text, record, schema, sentence
from kvplan.report.plans import PLAN
from kvplan.report.sources import about, calibration, interval, price
from kvplan.units import show_odds, show_percent, show_time


def page(found: Capacity) -> Page:
    """Return the report of `kvplan load` for a workload and a number of GPUs."""
    return Page.of(
        Text(answer(found), "answer"),
        (Text(f"Note: {sentence(w)}", "warning") for w in found.warnings),
        (Text(line, "quiet") for line in basis(found)),
    )


def answer(found: Capacity) -> str:
    """Return the volume, the users and what binds."""
    demand, plan = found.demand, found.plan
    head = f"{demand.workload.title} on {demand.model.title}, {found.gpus}x {found.site.gpu.title}"
    if plan is None:
        return f"{head}: {sentence(found.refusal)}"
    users = "" if found.users is None else f", {found.users:,.0f} users at work in the busiest hour"
    rate = f"{found.queries_per_day:,.0f} queries a day at most ({demand.peak:.3g}/s in the busiest hour){users}"
    kept = (
        f"TTFT {show_time(plan.ttft)} and TPOT {show_time(plan.tpot)} at P{100 * demand.limits.percentile:g}, limits"
        f" kept with {show_odds(plan.slo_probability)} probability"
    )
    sought = (
        ""
        if found.sought is None
        else f" No volume keeps the latency limits with {show_percent(found.sought)} probability."
    )
    return (
        f"{head}: {rate}. More is bound by {found.bound_by}. The plan: {plan.label}, {plan.gpus} GPUs; {kept}.{sought}"
    )


def basis(found: Capacity) -> list[str]:
    """Return what the answer rests on."""
    demand, c = found.demand, found.site.calibration
    limits = (("TTFT", demand.limits.ttft), ("TPOT", demand.limits.tpot), ("end to end", demand.limits.e2e))
    times = ", ".join(f"{name} {show_time(limit)}" for name, limit in limits if limit) or "none"
    spare = "one replica is a spare" if demand.spares == 1 else f"{demand.spares} replicas are spares"
    lines = [
        f"Limits: {times} at P{100 * demand.limits.percentile:g}, kept with at least"
        f" {show_percent(demand.limits.confidence)} probability; {spare}."
    ]
    if found.users is not None:
        w = demand.workload
        told = w.sources.get("between_questions")
        whence = f" ({told.kind}: {told.ref})" if told else " (an assumption)"
        lines.append(
            f"Users: each asks every {show_time(w.between_questions)} on average{whence}; users = rate x that time."
        )
    lines.append(f"Times ({c.tier}): {c.evidence}. {interval(c)}.")
    return lines


def document(found: Capacity) -> Json:
    """Return the same as a document."""
    demand, limits = found.demand, found.demand.limits
    return schema(
        "capacity",
        warnings=list(found.warnings),
        model=about(demand.model),
        workload=demand.workload.name,
        gpu=found.site.gpu.name,
        gpus=found.gpus,
        limits={
            "ttft": limits.ttft, "tpot": limits.tpot, "e2e": limits.e2e, "percentile": limits.percentile,
            "confidence": limits.confidence, "confidence_sought": found.sought or limits.confidence,
        },
        spares=demand.spares,
        seconds_between_questions=demand.workload.between_questions,
        queries_per_day=found.queries_per_day,
        peak_rate=demand.peak if found.plan else 0.0,
        users=found.users,
        bound_by=found.bound_by,
        remedies=[{"change": x.change, "plan": record(PLAN, x.plan)} for x in found.remedies],
        plan=record(PLAN, found.plan) if found.plan else None,
        calibration=calibration(found.site.calibration),
        price=price(found.site.price),
        feasible=not found.refusal,
        reason=found.refusal,
    )  # fmt: skip
