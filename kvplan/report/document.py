"""Results as JSON documents: schema 1, base units (bytes, seconds, USD, tokens), unknown figures null."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvplan.kv import techniques
from kvplan.kv.budget import Budget
from kvplan.kv.layout import equation
from kvplan.perf.operators import Operator
from kvplan.perf.step_time import ENGINE_ITSELF, bound, operator_time, overhead, reach, step_time
from kvplan.planning.answer import Estimate
from kvplan.planning.estimate import Row
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

if TYPE_CHECKING:
    from kvplan.planning.memory import Memory

SCHEMA = 1
Json = dict[str, Any]


def source(s: Source) -> Json:
    return {"kind": s.kind, "ref": s.ref, "date": s.date}


def about(model: ModelSpec) -> Json:
    return {
        "name": model.name,
        "title": model.title,
        "architecture": model.model_type,
        "layers": len(model.layers),
        "max_context": model.max_context,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "active_parameters": round(model.active_parameters),
        "notes": list(model.notes),
        "source": source(model.source),
    }


def row(r: Row) -> Json:
    """Return one technique's figures under the fixed spellings."""
    low, high = r.spread
    cost = r.cost
    times: Json = {"ttft": r.ttft, "tpot": r.tpot, "tokens_per_second": r.tokens_per_second}
    for name, ends in (("ttft", r.ttft_spread), ("tpot", r.spread)):
        for end, factor in zip(("low", "high"), ends, strict=True):
            times[f"{name}_{end}"] = times[name] * factor if times[name] is not None else None
    money: Json = {
        "usd_per_query": cost.per_query if cost else None,
        "usd_per_million_tokens": cost.per_million_tokens if cost else None,
        "usd_per_million_output_tokens": cost.per_million_output_tokens if cost else None,
        "usd_per_query_low": cost.per_query * low if cost else None,
        "usd_per_query_high": cost.per_query * high if cost else None,
        "usd_lines": [{"name": line.name, "usd": line.amount, "basis": line.basis} for line in cost.lines]
        if cost
        else [],
    }
    return {
        "technique": r.technique,
        "gpu": r.gpu,
        **cache(r),
        "gpus": r.gpus,
        "fewest_gpus": r.fewest_gpus,
        "parallel": str(r.parallel) if r.parallel else None,
        "max_sequences": r.sequences,
        "batch": r.batch,
        **times,
        **money,
        "quality": r.quality,
        "quality_risk": r.risk,
        "needs": list(r.needs),
        "parts": [part(kind) for kind, _ in techniques.parts(r.technique)],
        "feasible": r.feasible,
        "reason": r.reason,
    }


def cache(r: Row) -> Json:
    """Return the bytes a technique stores, reads, peaks at and can share, and the work it adds.

    Null where it cannot act.
    """
    held, n = r.layout, r.context
    return {
        "kv_bytes_per_token": held.growth(n) if held else None,
        "kv_bytes_per_sequence": held.stored(n) if held else None,
        "reduction": r.reduction,
        "kv_bytes_read_per_step": held.read(n) if held else None,
        "kv_bytes_peak_prefill": held.peak(n) if held else None,
        "kv_bytes_shareable": held.shared(n) if held else None,
        "attention_flops_per_step": held.flops(n) if held else None,
        "prefill_attention_factor": held.prefill_flops if held else None,
        "extra_parameters": held.parameters if held else None,
    }


def part(kind: techniques.Kind) -> Json:
    """Return what one technique says of itself; it excludes every other that acts on the same factor."""
    others = [k.name for k in techniques.KINDS.values() if k.factor == kind.factor]
    return {
        "name": kind.name,
        "acts_on": kind.factor,
        "granularity": kind.granularity,
        "needs": kind.needs,
        "excludes": others,
        "source": source(kind.source),
    }


def price(p: Price | None) -> Json | None:
    return (
        None
        if p is None
        else {
            "gpu": p.gpu,
            "provider": p.provider,
            "term": p.term,
            "usd_per_second": p.price,
            "from": p.start,
            "to": p.end,
            "note": p.note,
            "source": source(p.source),
        }
    )


def calibration(c: Calibration) -> Json:
    return {
        "gpu": c.name,
        "tier": c.tier,
        "interval": {"tpot": [c.tpot.low, c.tpot.high], "ttft": [c.ttft.low, c.ttft.high]},
        "doubt": c.doubt,
        "sources": [source(s) for s in c.sources],
    }


def operators(found: Sequence[Operator], c: Calibration, sequences: float, prompts: bool) -> list[Json]:
    """Return where a step's time goes; the shares sum to 1."""
    whole = step_time(found, c, sequences, prompts)
    shown: list[Json] = [
        {
            "name": o.name,
            "seconds": operator_time(o, c, prompts),
            "share": operator_time(o, c, prompts) / whole,
            "bound": bound(o, c, prompts),
            "of_limit": reach(o, c, prompts),
            "bytes": o.bytes,
            "flops": o.flops,
            "messages": o.messages,
            "message_bytes": o.message,
        }
        for o in found
    ]
    rest = overhead(c, sequences)
    return [*shown, {"name": ENGINE_ITSELF, "seconds": rest, "share": rest / whole, "bytes": 0.0, "flops": 0.0}]


def estimate(e: Estimate, explained: bool) -> Json:
    """Return the document of `kvplan estimate`."""
    rows = [row(r) for r in e.rows]
    if explained:
        for shown, r in zip(rows, e.rows, strict=True):
            if r.layout is not None:
                c = e.site(r).calibration
                lines = list(equation(r.layout, e.query.context))
                shown["explain"] = {
                    "equation": lines,
                    "decode": operators(r.decode, c, r.each, False),
                    "prefill": operators(r.prefill, c, 0.0, True),
                }
    query = {"context_tokens": e.query.context, "input_tokens": e.query.prompt, "output_tokens": e.query.output}
    return {
        "schema": SCHEMA,
        "command": "estimate",
        "answer": e.answer,
        "warnings": list(e.warnings),
        "model": about(e.model),
        "query": query,
        "calibration": [calibration(s.calibration) for s in e.sites],
        "prices": [price(s.price) for s in e.sites],
        "engine": {"name": e.sites[0].engine.name, "version": e.sites[0].engine.version},
        "rows": rows,
        "where": [row(r) for r in e.where],
    }


def budget(b: Budget) -> Json:
    return {
        "total": b.total,
        **{line.name: line.amount for line in b.lines},
        "kv_tokens": b.kv_tokens,
        "lines": [{"name": line.name, "bytes": line.amount, "basis": line.basis} for line in b.lines],
    }


def memory(model: ModelSpec, m: "Memory") -> Json:
    """Return the document of `kvplan memory`."""
    rows = [{"layer": c.layer, "kind": c.kind, "tokens": c.tokens, "bytes": c.bytes} for c in m.per_layer]
    kv = {
        "attention_bytes": m.attention,
        "cross_attention_bytes": m.sum("cross"),
        "state_bytes": m.sum("state"),
        "padding_bytes": m.padding,
        "total_bytes": m.total,
        "bytes_per_token": m.bytes_per_token,
        "per_layer": rows,
    }
    size = {"parameters": model.parameters, "active_parameters": round(model.active_parameters)}
    asked = {"context": m.ask.context, "batch": m.ask.batch, "layout": m.ask.reading, "technique": m.ask.technique}
    found: Json = {"schema": SCHEMA, "command": "memory", "model": about(model), **asked}
    found |= {"weights": {**size, "bytes": m.weight_bytes}, "kv": kv}
    if m.budget is not None:
        found |= {"budget": budget(m.budget), "max_sequences": m.sequences}
        found |= {"feasible": not m.reason, "reason": m.reason}
    return found
