"""A recommendation as a JSON document: the plan, its lines, what else there is, what was rejected, and why."""

from collections.abc import Sequence
from typing import Any

from kvplan.money.draw import query_energy
from kvplan.planning.doubt import Swing
from kvplan.planning.plans import Plan
from kvplan.planning.recommend import Recommendation, Rejected
from kvplan.report.money_document import break_even, source
from kvplan.specs.source import Source
from kvplan.units import MILLION, MONTH

Json = dict[str, Any]
SCHEMA = 1


def plan(p: Plan, r: Recommendation) -> Json:
    """Return one plan; money per query, million tokens (input and output) and month."""
    demand = r.demand
    tokens = demand.prompt + demand.output
    return {
        "technique": p.technique,
        "gpu": p.gpu,
        "tp": p.parallel.tensor,
        "dp": p.parallel.data,
        "pp": p.parallel.pipeline,
        "weights": p.form,
        "replicas": p.replicas,
        "gpus": p.gpus,
        "requests_in_flight": p.in_flight,
        "ttft": p.ttft,
        "tpot": p.tpot,
        "e2e": p.e2e,
        "percentile": demand.limits.percentile,
        "mean_ttft": p.mean_ttft,
        "mean_tpot": p.mean_tpot,
        "usd_per_query": p.usd,
        "usd_per_million_tokens": None if p.usd is None else p.usd / tokens * MILLION,
        "usd_per_month": None if p.usd is None else p.usd * demand.mean * MONTH,
        "gpu_seconds_per_query": p.gpu_seconds,
        "joules_per_query": p.joules,
        "prefill_share": p.prompt_share,
        "slo_probability": p.slo_probability,
        "quality": {
            "drop": p.quality.drop,
            "low": p.quality.low,
            "high": p.quality.high,
            "known": p.quality.known,
            "basis": p.quality.basis,
            "caveats": list(p.quality.caveats),
        },
        "served_by_engine": p.served_by_engine,
        "measured_gpu": p.grounded,
    }


def rejected(x: Rejected) -> Json:
    return {"technique": x.technique or None, "gpu": x.gpu or None, "reason": x.reason}


def swing(s: Swing) -> Json:
    return {"name": s.name, "usd_per_query": [s.low, s.high], "basis": s.basis}


def document(r: Recommendation, question: Sequence[str] = (), day: str = "") -> Json:
    """Return the document of `kvplan recommend`; `question` are the words it was asked with, on a day."""
    demand, limits = r.demand, r.demand.limits
    chosen: Json | None = None
    if r.plan is not None:
        chosen = plan(r.plan, r)
        low, middle, high = r.usd or (None, None, None)
        chosen["usd_per_query"] = {"expected": r.plan.usd, "p10": low, "p50": middle, "p90": high}
        lines = r.bill.lines_per("query") if r.bill else None
        chosen["lines"] = [{"name": x.name, "usd_per_query": x.amount, "basis": x.basis} for x in lines or ()]
        kinds = r.bill.lines_per("query", "kind") if r.bill else None
        chosen["kinds"] = [{"name": x.name, "usd_per_query": x.amount, "basis": x.basis} for x in kinds or ()]
        used = query_energy(r.bill.load.parts, r.draw) if r.bill and r.draw else ()
        chosen["energy"] = [{"name": x.name, "joules_per_query": x.amount, "basis": x.basis} for x in used]
    return {
        "schema": SCHEMA,
        "command": "recommend",
        "question": list(question),
        "day": day,
        "model": demand.model.name,
        "workload": {
            "name": demand.workload.name,
            "task": demand.workload.task,
            "queries_per_day": demand.workload.arrivals.queries_per_day,
            "mean_rate": demand.mean,
            "peak_rate": demand.peak,
            "input_tokens": demand.prompt,
            "output_tokens": demand.output,
            "prefix_share": demand.workload.prefix_share if demand.prefix_cache else 0.0,
        },
        "limits": {
            "ttft": limits.ttft,
            "tpot": limits.tpot,
            "e2e": limits.e2e,
            "percentile": limits.percentile,
            "max_quality_drop": limits.quality,
            "gpus": limits.gpus,
            "confidence": limits.confidence,
        },
        "objective": r.objective,
        "candidates": r.tried,
        "recommended": chosen,
        "alternatives": [plan(p, r) for p in r.alternatives],
        "front": [plan(p, r) for p in r.front],
        "rejected": [rejected(x) for x in r.rejected],
        "why": list(r.why),
        "warnings": list(r.warnings),
        "sensitivity": [swing(s) for s in r.swings],
        "break_even": [
            {"provider": price.provider, "model": price.model, **break_even(even)} for price, even in r.break_even
        ],
        "reason": r.lacking,
        "calibration": None if r.site is None else calibration(r),
    }


def calibration(r: Recommendation) -> Json:
    """Return what the times rest on."""
    assert r.site is not None
    c = r.site.calibration
    sources: list[Source] = [*c.sources, *(r.plan.quality.source if r.plan else ())]
    return {
        "tier": c.tier,
        "doubt": c.doubt,
        "interval": {"tpot": [c.tpot.low, c.tpot.high], "ttft": [c.ttft.low, c.ttft.high]},
        "sources": [source(s) for s in dict.fromkeys(sources)],
    }
