"""The most that GPUs serve: queries a day, users, what binds, and the plan that serves them."""

from kvplan.planning.capacity import Capacity
from kvplan.report.blocks import Json, Page, Text, record, schema, sentence, warned
from kvplan.report.plans import PLAN
from kvplan.report.sources import about, calibration, price, standing
from kvplan.units import (
    MONTH,
    show_count,
    show_number,
    show_odds,
    show_percent,
    show_percentile,
    show_time,
    show_usd,
    show_usd_each,
)


def page(capacity: Capacity) -> Page:
    """Return the report of `kvplan load` for a workload and a number of GPUs."""
    return Page.of(
        Text(answer(capacity), "answer"),
        warned(capacity.warnings),
        (Text(line, "quiet") for line in basis(capacity)),
    )


def answer(capacity: Capacity) -> str:
    """Return the volume, the users and what binds."""
    demand, plan = capacity.demand, capacity.plan
    head = f"{demand.workload.title} on {demand.model.title}, {capacity.gpus}x {capacity.site.gpu.title}"
    if plan is None:
        return f"{head}: {sentence(capacity.refusal)}"
    users = "" if capacity.users is None else f", {whole_users(capacity.users)} at work in the busiest hour"
    peak = f"{show_number(demand.peak)}/s in the busiest hour"
    rate = f"{capacity.queries_per_day:,.0f} queries a day at most ({peak}){users}"
    kept = (
        f"TTFT {show_time(plan.ttft)} and TPOT {show_time(plan.tpot)} at {show_percentile(demand.limits.percentile)}, "
        f"limits kept with {show_odds(plan.slo_probability)} probability"
    )
    sought = (
        ""
        if capacity.sought is None
        else f" No volume keeps the latency limits with {show_percent(capacity.sought)} probability."
    )
    bound = f"More is bound by {capacity.bound_by}"
    money = (
        "" if plan.usd is None else f" at {show_usd_each(plan.usd)}, {show_usd(plan.usd * demand.mean * MONTH)} a month"
    )
    return f"{head}: {rate}. {bound}. The plan: {plan.label}, {plan.gpus} GPUs{money}; {kept}.{sought}"


def whole_users(users: float) -> str:
    """Return a number of users in words: none is not what a service with a query now and then has."""
    return "less than one user" if users < 1 else show_count(round(users), "user")


def basis(capacity: Capacity) -> list[str]:
    """Return what the answer rests on."""
    demand, c = capacity.demand, capacity.site.calibration
    times = ", ".join(f"{name} {show_time(limit)}" for name, limit in demand.limits.times) or "none"
    spare = {0: "no replica is a spare", 1: "one replica is a spare"}.get(
        demand.spares, f"{demand.spares} replicas are spares"
    )
    lines = [
        f"Limits: {times} at {show_percentile(demand.limits.percentile)}, kept with at least"
        f" {show_percent(demand.limits.confidence)} probability; {spare}."
    ]
    if capacity.users is not None:
        w = demand.workload
        source = w.sources.get("between_questions")
        whence = f" ({source.kind}: {source.ref})" if source else " (an assumption)"
        asks = f"Users: each asks every {show_time(w.between_questions)} on average{whence}"
        waits = (
            f", but not before the answer is there, which takes {show_time(capacity.answered)} on average; users = rate"
            " x that longer time"
        )
        lines.append(f"{asks}{waits if capacity.answered > w.between_questions else '; users = rate x that time'}.")
    lines.append(standing(c))
    return lines


def document(capacity: Capacity) -> Json:
    """Return the same as a document."""
    demand, limits = capacity.demand, capacity.demand.limits
    return schema(
        "capacity",
        warnings=list(capacity.warnings),
        model=about(demand.model),
        workload=demand.workload.name,
        gpu=capacity.site.gpu.name,
        gpus=capacity.gpus,
        limits={
            "ttft": limits.ttft, "tpot": limits.tpot, "e2e": limits.e2e, "percentile": limits.percentile,
            "confidence": limits.confidence, "confidence_sought": capacity.sought or limits.confidence,
        },
        spares=demand.spares,
        seconds_between_questions=demand.workload.between_questions,
        queries_per_day=capacity.queries_per_day,
        peak_rate=demand.peak if capacity.plan else 0.0,
        users=capacity.users,
        bound_by=capacity.bound_by,
        remedies=[{"change": x.change, "plan": record(PLAN, x.plan)} for x in capacity.remedies],
        plan=record(PLAN, capacity.plan) if capacity.plan else None,
        calibration=calibration(capacity.site.calibration),
        price=price(capacity.site.price),
        feasible=not capacity.refusal,
        reason=capacity.refusal,
    )  # fmt: skip
