"""A server under load as a JSON document: schema 1, base units, unknown figures null."""

from typing import Any

from kvplan.planning.load import Largest, Point, Server, Survey, Times
from kvplan.report.document import SCHEMA, about, calibration, price

Json = dict[str, Any]


def document(found: Survey) -> Json:
    """Return the document of `kvplan load`."""
    s = found.server
    return {
        "schema": SCHEMA,
        "command": "load",
        "warnings": list(found.warnings),
        "model": about(s.model),
        "server": served(s),
        "calibration": calibration(s.site.calibration),
        "price": price(s.site.price),
        "loop": "open" if found.opened else "closed",
        "burstiness": found.burstiness,
        "limits": {"ttft": found.limits.ttft, "tpot": found.limits.tpot, "percentile": s.percentile},
        "loads": [point(p) for p in found.points],
        "largest_concurrency": largest(found.concurrency),
        "largest_rate": largest(found.rate),
        "max_requests_per_second": s.most_rate,
        "feasible": not found.refusal,
        "reason": found.refusal,
    }


def served(s: Server) -> Json:
    spec = s.speculation
    return {
        "gpu": s.site.gpu.name,
        "engine": s.site.calibration.engine,
        "technique": s.technique,
        "weights": s.site.weights,
        "parallel": str(s.parallel),
        "gpus": s.gpus,
        "disaggregated": {"prefill": s.split[0], "decode": s.split[1], "transfer": s.transfer} if s.split else None,
        "speculative": {"accepted": spec.accepted, "draft_share": spec.draft, "draft_tokens": spec.drafted}
        if spec
        else None,
        "input_tokens": s.prompt,
        "cached_tokens": s.cached,
        "output_tokens": s.output,
        "max_sequences": s.room * s.decoders,
        "max_batch": s.slots * s.decoders,
    }


def times(t: Times) -> Json:
    return {"mean": t.mean, "p50": t.p50, "p95": t.p95, "p99": t.p99, "at_percentile": t.asked}


def point(p: Point) -> Json:
    return {
        "in_flight": p.in_flight,
        "running": p.running,
        "requests_per_second": p.rate,
        "request_seconds": p.cycle,
        "queued_seconds": p.queued,
        "ttft": times(p.ttft),
        "tpot": times(p.tpot),
        "tokens_per_second": p.tokens_per_second,
        "kv_occupancy": p.occupancy,
        "usd_per_query": p.usd_per_query,
        "usd_per_million_tokens": p.usd_per_million_tokens,
    }


def largest(found: Largest | None) -> Json | None:
    """Return the largest load and what binds it; `load` is null where none keeps the limits."""
    return None if found is None else {"binding": found.binding, "load": point(found.point) if found.point else None}
