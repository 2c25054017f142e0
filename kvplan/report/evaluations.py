"""The columns of techniques and GPUs in `kvplan estimate`: figures of a replica at work, for tables and JSON."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvplan.kv import spelling, techniques
from kvplan.planning.evaluation import Evaluation, OperatingPoint
from kvplan.report.blocks import Column, Json
from kvplan.report.losses import at_most, loss
from kvplan.report.sources import source
from kvplan.units import show_bytes, show_percent, show_time, show_usd


def end(interval: tuple[float, float] | None, n: int) -> float | None:
    """Return an end of an interval, None where it is unknown."""
    return interval and interval[n]


def usd(r: Evaluation) -> float | None:
    """Return the cost of a query. [USD]"""
    return r.cost.per_query if r.cost else None


def part(kind: techniques.Technique) -> Json:
    """Return what one technique says of itself; it excludes every other that acts on the same factor."""
    others = [k.name for k in techniques.TECHNIQUES.values() if k.factor == kind.factor]
    return {
        "name": kind.name,
        "acts_on": kind.factor,
        "granularity": kind.granularity,
        "needs": kind.needs,
        "excludes": others,
        "source": source(kind.source),
    }


def cannot(r: Evaluation) -> str:
    """Return in two words why a technique cannot be served."""
    return "not applicable" if r.layout is None else "does not fit" if r.short else "cannot run"


def gpus_cell(r: Evaluation) -> str:
    """Return the GPUs of the replica, and in brackets the fewest that hold a sequence."""
    if not r.feasible:
        return cannot(r)
    return f"{r.gpus}" if r.gpus == r.fewest_gpus else f"{r.gpus} ({r.fewest_gpus})"


def usd_cell(r: Evaluation) -> str:
    """Return the cost of a query."""
    return "-" if not r.feasible else show_usd(r.cost.per_query) if r.cost else "no price"


def of_point(key: str, figure: Callable[[OperatingPoint], Any], **how: Any) -> Column[Evaluation]:
    """Return a column of one of a row's points, by its dotted key; unknown where the row has no such point."""
    name = key.partition(".")[0]

    def value(r: Evaluation) -> Any:
        point = getattr(r, name)
        return None if point is None else figure(point)

    return Column[Evaluation](key=key, value=value, **how)


#: how the cost of a query is written where it is known
MONEY: Any = {"show": show_usd, "per_query": True}


def limits_cell(r: Evaluation) -> str:
    """Return the GPUs on which a query costs least within the limits."""
    return f"{r.same_limits.gpus}" if r.same_limits else "too slow" if r.feasible else cannot(r)


def limits_usd(r: Evaluation) -> str:
    """Return the cost of a query within the limits."""
    p = r.same_limits
    return "-" if p is None else "no price" if p.usd is None else show_usd(p.usd)


def lone_usd(r: Evaluation) -> str:
    """Return the cost of a lone query."""
    p = r.lone
    return "-" if p is None else "no price" if p.usd is None else show_usd(p.usd)


#: the largest load within the limits
LIMITS = (
    of_point("same_limits.batch", lambda p: p.batch, heading="batch", show=lambda n: f"{n:,}"),
    of_point("same_limits.ttft", lambda p: p.ttft, heading="TTFT", show=show_time),
    of_point("same_limits.tpot", lambda p: p.tpot, heading="TPOT", show=show_time),
    of_point("same_limits.usd_per_query", lambda p: p.usd, heading="$ / query", cell=limits_usd, **MONEY),
    Column[Evaluation](key="same_limits.usd_per_query_low", value=lambda r: end(r.limited_range, 0)),
    Column[Evaluation](key="same_limits.usd_per_query_high", value=lambda r: end(r.limited_range, 1)),
)


def same_gpus(batch: int) -> tuple[Column[Evaluation], ...]:
    """Return the columns of a lone query and of a load of `batch` requests, on the same GPUs."""
    many = f"batch {batch:,}"
    return (
        of_point("lone.gpus", lambda p: p.gpus, heading="GPUs", absent="does not fit"),
        of_point("lone.ttft", lambda p: p.ttft, heading="batch 1\nTTFT", show=show_time),
        of_point("lone.tpot", lambda p: p.tpot, heading="batch 1\nTPOT", show=show_time),
        of_point("lone.usd_per_query", lambda p: p.usd, heading="batch 1\n$ / query", cell=lone_usd, **MONEY),
        of_point("same_load.batch", lambda p: p.batch),
        of_point("same_load.gpus", lambda p: p.gpus),
        of_point("same_load.ttft", lambda p: p.ttft, heading=f"{many}\nTTFT", show=show_time, absent="does not fit"),
        of_point("same_load.tpot", lambda p: p.tpot, heading=f"{many}\nTPOT", show=show_time),
    )


#: figures of a replica at work, in every table of rows
TIMES = (
    Column[Evaluation](key="gpus", heading="GPUs", value=lambda r: r.gpus, cell=gpus_cell),
    Column[Evaluation](key="fewest_gpus", value=lambda r: r.fewest_gpus),
    Column[Evaluation](key="parallel", value=lambda r: str(r.parallel) if r.parallel else None),
    Column[Evaluation](key="max_sequences", value=lambda r: r.sequences),
    Column[Evaluation](key="batch", heading="batch", value=lambda r: r.batch),
    Column[Evaluation](key="ttft", heading="TTFT", value=lambda r: r.ttft, show=show_time),
    Column[Evaluation](key="tpot", heading="TPOT", value=lambda r: r.tpot, show=show_time),
    Column[Evaluation](key="tokens_per_second", value=lambda r: r.tokens_per_second),
    Column[Evaluation](key="ttft_low", value=lambda r: end(r.ttft_range, 0)),
    Column[Evaluation](key="ttft_high", value=lambda r: end(r.ttft_range, 1)),
    Column[Evaluation](key="tpot_low", value=lambda r: end(r.tpot_range, 0)),
    Column[Evaluation](key="tpot_high", value=lambda r: end(r.tpot_range, 1)),
    Column[Evaluation](key="usd_per_query", heading="$ / query", value=usd, cell=usd_cell, **MONEY),
    Column[Evaluation](key="usd_per_million_tokens", value=lambda r: r.cost and r.cost.per_million_tokens),
    Column[Evaluation](
        key="usd_per_million_output_tokens", value=lambda r: r.cost and r.cost.per_million_output_tokens
    ),
    Column[Evaluation](key="usd_per_query_low", value=lambda r: end(r.usd_range, 0)),
    Column[Evaluation](key="usd_per_query_high", value=lambda r: end(r.usd_range, 1)),
    Column[Evaluation](
        key="usd_lines",
        value=lambda r: [{"name": n.name, "usd": n.amount, "basis": n.basis} for n in (r.cost.lines if r.cost else ())],
    ),
)  # fmt: skip
#: bytes a technique stores, reads, peaks at and can share, and the work it adds; unknown where it cannot act
CACHE = (
    Column[Evaluation](key="kv_bytes_per_sequence", heading="KV / seq.", value=lambda r: r.stored, show=show_bytes),
    Column[Evaluation](key="reduction", heading="saved", value=lambda r: r.reduction, show=show_percent),
    Column[Evaluation](key="kv_bytes_per_token", value=lambda r: r.layout.growth(r.context) if r.layout else None),
    Column[Evaluation](key="kv_bytes_read_per_step", value=lambda r: r.layout.read(r.context) if r.layout else None),
    Column[Evaluation](key="kv_bytes_peak_prefill", value=lambda r: r.peak),
    Column[Evaluation](key="kv_bytes_shareable", value=lambda r: r.layout.shared(r.context) if r.layout else None),
    Column[Evaluation](key="attention_flops_per_step", value=lambda r: r.layout.flops(r.context) if r.layout else None),
    Column[Evaluation](key="prefill_attention_factor", value=lambda r: r.layout.prefill_flops if r.layout else None),
    Column[Evaluation](key="extra_parameters", value=lambda r: r.layout.parameters if r.layout else None),
)
#: a technique's row
TECHNIQUE = (
    Column[Evaluation](key="technique", heading="technique", value=lambda r: r.technique, align="left"),
    Column[Evaluation](key="gpu", value=lambda r: r.gpu),
    *CACHE,
    *(replace(column, heading=None) for column in (*TIMES, *same_gpus(1))),
    Column[Evaluation](
        key="same_limits.gpus", heading="GPUs", value=lambda r: r.same_limits and r.same_limits.gpus, cell=limits_cell
    ),
    *LIMITS,
    Column[Evaluation](key="quality", value=lambda r: r.quality),
    Column[Evaluation](
        key="quality_risk", heading="quality loss", value=lambda r: r.loss and loss(r.loss), align="left", wraps=True,
        cell=lambda r: "not for this model" if r.layout is None else at_most(r.loss) if r.loss else "",
    ),
    Column[Evaluation](key="quality_loss.drop", value=lambda r: r.loss and r.loss.drop),
    Column[Evaluation](key="quality_loss.low", value=lambda r: r.loss and r.loss.low),
    Column[Evaluation](key="quality_loss.high", value=lambda r: r.loss and r.loss.high),
    Column[Evaluation](key="quality_loss.known", value=lambda r: r.loss and r.loss.known),
    Column[Evaluation](key="quality_loss.basis", value=lambda r: r.loss and r.loss.basis),
    Column[Evaluation](key="needs", value=lambda r: list(r.needs)),
    Column[Evaluation](key="parts", value=lambda r: [part(kind) for kind, _ in spelling.parts(r.technique)]),
    Column[Evaluation](key="feasible", value=lambda r: r.feasible),
    Column[Evaluation](key="reason", value=lambda r: r.reason),
)  # fmt: skip
#: what names a technique's row
NAME = TECHNIQUE[:1]
#: a GPU's row
GPU = (
    Column[Evaluation](
        heading="GPU", value=lambda r: r.gpu, cell=lambda r: r.gpu if r.grounded else f"{r.gpu} *", align="left"
    ),
    *TIMES,
)
