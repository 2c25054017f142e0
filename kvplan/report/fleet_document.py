"""A fleet as a JSON document: what serves what, at what cost, against simpler fleets."""

from typing import Any

from kvplan.planning.fleet import FleetPlan, Simpler
from kvplan.planning.fleet_milp import Use
from kvplan.units import HOUR, MONTH

Json = dict[str, Any]
SCHEMA = 1


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
    return {
        "schema": SCHEMA,
        "command": "fleet",
        "fleet": fleet,
        "reason": p.reason,
        "single": [{"gpu": s.gpu, "available": p.stock[s.gpu], **simpler(s)} for s in p.singles],
        "best_single": best.gpu if best else None,
        "saving": p.saving,
        "per_workload": {"usd_per_hour": hourly(p.separate.usd), "reason": p.separate.reason},
        "workloads": [
            {
                "name": t.name, "workload": t.demand.workload.name, "model": t.demand.model.name,
                "queries_per_day": t.demand.workload.arrivals.queries_per_day, "peak_rate": t.demand.peak,
                "ttft": t.demand.limits.ttft, "tpot": t.demand.limits.tpot, "e2e": t.demand.limits.e2e,
                "percentile": t.demand.limits.percentile, "max_quality_drop": t.demand.limits.quality,
                "techniques": list(t.techniques), "barred": dict(t.barred),
            }
            for t in p.tasks
        ],
        "available": dict(p.stock),
        "buckets": p.buckets,
        "solver": {"time_limit": p.seconds, "stopped": p.stopped, "gap": p.gap},
    }  # fmt: skip


def assignment(u: Use, p: FleetPlan) -> Json:
    """Return one pool of replicas; `share` is of the workload's requests."""
    c, group = u.column, u.column.group
    low, high = group.tokens
    return {
        "workload": group.task.name,
        "model": group.task.demand.model.name,
        "bucket": {
            "first": group.first + 1, "last": group.last + 1, "of": p.buckets, "input_tokens": [low, high],
            "share": group.weight,
        },
        "gpu": c.site.gpu.name,
        "tp": c.shape.parallel.tensor,
        "dp": c.shape.parallel.data,
        "technique": c.shape.technique,
        "replicas": u.replicas,
        "gpus": u.gpus,
        "requests_in_flight": int(c.requests),
        "share": u.share * group.weight,
        "ttft": c.ttft,
        "tpot": c.tpot,
        "e2e": c.e2e,
        "slo_probability": c.sure,
        "usd_per_hour": u.usd * HOUR,
    }  # fmt: skip


def simpler(s: Simpler) -> Json:
    return {
        "usd_per_hour": hourly(s.usd),
        "unlimited_usd_per_hour": hourly(s.unlimited),
        "needs": s.needs,
        "reason": s.reason,
    }


def hourly(usd: float | None) -> float | None:
    return None if usd is None else usd * HOUR
