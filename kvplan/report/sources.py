"""What every report says of its inputs: models, prices, calibrations and where each of them is from."""

from collections.abc import Iterator

from kvplan.kv.deployment import Deployment
from kvplan.kv.profiling import doubtful_graphs, logged_size
from kvplan.report.blocks import Json
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine, Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source
from kvplan.units import HOUR, show_usd


def brief(source: Source) -> str:
    """Return a source without the remarks in brackets after its reference, but for a second-hand one's."""
    ref = source.ref.split(" (")[0]
    second = " (second-hand)" if "second-hand" in source.ref and "second-hand" not in ref else ""
    return f"{source.kind}: {ref}{second} ({source.date or 'no date'})"


def assumed(gpu: Gpu) -> Iterator[str]:
    """Yield a line that says what a GPU's file does not state and what it was taken for; none where it states all."""
    if gpu.assumed:
        yield f"{gpu.name}: its file does not state these; assumed: {'; '.join(gpu.assumed)}"


def source(s: Source) -> Json:
    """Return a source as a JSON object."""
    return {"kind": s.kind, "ref": s.ref, "date": s.date or None}


def rules(e: Engine) -> str:
    """Return whose memory rules a report stands on, and where they come from."""
    return f"memory rules: {e.title}, {e.version}; {brief(e.sources['sampler_bytes_per_logit'])}"


def graph_rule(model: ModelSpec, deployment: Deployment) -> Iterator[str]:
    """Yield the one log that the estimate of graphs of NVFP4 experts stands on, nothing where it does not count."""
    if doubtful_graphs(model, deployment) and logged_size(model, deployment.engine):
        yield f"CUDA graphs of data-parallel NVFP4 experts: {brief(deployment.engine.sources['rank_graph_bytes'])}"


def whose(e: Engine) -> Json:
    """Return an engine's release as a JSON object."""
    return {"name": e.name, "release": e.release, "version": e.version}


def about(model: ModelSpec) -> Json:
    """Return what identifies a model, as a JSON object."""
    return {
        "name": model.name,
        "title": model.title,
        "architecture": model.model_type,
        "layers": len(model.layers),
        "max_context": model.max_context,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "active_parameters": round(model.active_parameters),
        "assumed": list(model.assumed),
        "notes": list(model.notes),
        "source": source(model.source),
    }


def price(p: Price | None) -> Json | None:
    """Return a rental price [USD/s] as a JSON object, None where none is known."""
    if p is None:
        return None
    return {
        "gpu": p.gpu,
        "provider": p.provider,
        "term": p.term,
        "usd_per_second": p.price,
        "from": p.start,
        "to": p.end,
        "note": p.note,
        "gpus": p.gpus,
        "source": source(p.source),
    }


def calibration(c: Calibration) -> Json:
    """Return what times rest on, with their 80 % interval as factors, as a JSON object."""
    return {
        "gpu": c.name,
        "tier": c.tier,
        "interval": {"tpot": [c.tpot.low, c.tpot.high], "ttft": [c.ttft.low, c.ttft.high]},
        "chunk": int(c.chunk),
        "doubt": c.evidence,
        "sources": [source(s) for s in c.sources],
    }


def interval(c: Calibration) -> str:
    """Return the 80 % interval of a calibration in words."""
    tpot, ttft = (f"{r.low:.2f}-{r.high:.2f}x" for r in (c.tpot, c.ttft))
    return f"80 % interval, cross-validated on held-out measurements: TPOT and cost {tpot}, TTFT {ttft}"


def standing(c: Calibration, what: str = "Times") -> str:
    """Return what figures of a calibration stand on, and the interval to expect."""
    return f"{what} ({c.tier}): {c.evidence}. {interval(c)}."


def price_source(gpu: str, p: Price | None) -> str:
    """Return a GPU's price and where it is from, in a line."""
    if p is None:
        return f"price: none known for {gpu}"
    note = f"; {p.note}" if p.note else ""
    return f"price: {show_usd(p.price * HOUR)} per GPU-hour, {p.provider}, from {p.start}{note}; {brief(p.source)}"
