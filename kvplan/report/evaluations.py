"""The columns of techniques and GPUs in `kvplan estimate`: figures of a replica at work, for tables and JSON."""

from kvplan.kv import spelling, techniques
from kvplan.planning.replica import Evaluation
from kvplan.report.blocks import Column, Json
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


def gpus_cell(r: Evaluation) -> str:
    """Return the GPUs of the replica, and in brackets the fewest that hold a sequence."""
    if not r.feasible:
        return "does not fit"
    return f"{r.gpus}" if r.gpus == r.fewest_gpus else f"{r.gpus} ({r.fewest_gpus})"


def sequences_cell(r: Evaluation) -> str:
    """Return the sequences that the replica holds."""
    return f"{r.sequences:,}" if r.feasible else "-"


def gpu_cell(r: Evaluation) -> str:
    """Return the GPU, marked * where no server on it was measured."""
    return r.gpu if r.grounded else f"{r.gpu} *"


def usd_cell(r: Evaluation) -> str:
    """Return the cost of a query."""
    return "-" if not r.feasible else show_usd(r.cost.per_query) if r.cost else "no price"


#: figures of a replica at work, in every table of rows
TIMES = (
    Column[Evaluation](key="gpus", heading="GPUs", value=lambda r: r.gpus, cell=gpus_cell),
    Column[Evaluation](key="fewest_gpus", value=lambda r: r.fewest_gpus),
    Column[Evaluation](key="parallel", value=lambda r: str(r.parallel) if r.parallel else None),
    Column[Evaluation](key="max_sequences", heading="seqs", value=lambda r: r.sequences, cell=sequences_cell),
    Column[Evaluation](key="batch", value=lambda r: r.batch),
    Column[Evaluation](key="ttft", heading="TTFT", value=lambda r: r.ttft, show=show_time),
    Column[Evaluation](key="tpot", heading="TPOT", value=lambda r: r.tpot, show=show_time),
    Column[Evaluation](key="tokens_per_second", value=lambda r: r.tokens_per_second),
    Column[Evaluation](key="ttft_low", value=lambda r: end(r.ttft_range, 0)),
    Column[Evaluation](key="ttft_high", value=lambda r: end(r.ttft_range, 1)),
    Column[Evaluation](key="tpot_low", value=lambda r: end(r.tpot_range, 0)),
    Column[Evaluation](key="tpot_high", value=lambda r: end(r.tpot_range, 1)),
    Column[Evaluation](key="usd_per_query", heading="$ / query", value=usd, cell=usd_cell),
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
    *TIMES,
    Column[Evaluation](key="quality", value=lambda r: r.quality),
    Column[Evaluation](
        key="quality_risk", heading="LongBench loss", value=lambda r: r.risk, align="left", wraps=True,
        cell=lambda r: r.risk if r.layout else "not for this model",
    ),
    Column[Evaluation](key="needs", value=lambda r: list(r.needs)),
    Column[Evaluation](key="parts", value=lambda r: [part(kind) for kind, _ in spelling.parts(r.technique)]),
    Column[Evaluation](key="feasible", value=lambda r: r.feasible),
    Column[Evaluation](key="reason", value=lambda r: r.reason),
)  # fmt: skip
#: a GPU's row
GPU = (
    Column[Evaluation](
        heading="GPU", value=lambda r: r.gpu, cell=lambda r: r.gpu if r.grounded else f"{r.gpu} *", align="left"
    ),
    *TIMES,
)
