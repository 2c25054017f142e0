"""One GPU's memory as lines that sum to the total: weights, activations, runtime, KV cache."""

from dataclasses import dataclass, field

from kvplan.kv.layout import KVLayout
from kvplan.kv.paging import Paging, paging
from kvplan.kv.replica import Parallel, stage_layout, weights
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import Layer, ModelSpec
from kvplan.units import show_bytes


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a budget or a bill; `basis` says in words where it comes from."""

    name: str
    amount: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An engine on a GPU and how it is run. None leaves a choice to the engine (or, for weights, to the checkpoint).

    `compacts` grants the engine a cache that frees what techniques evict head by head.
    """

    engine: Engine
    gpu: Gpu | None = None
    parallel: Parallel = field(default_factory=Parallel)
    weights: str | None = None
    utilization: float | None = None
    block_size: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    compacts: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """Sequences and tokens of one engine step."""
        sequences, tokens = self.engine.limits(self.gpu)
        return self.max_num_seqs or sequences, self.max_num_batched_tokens or tokens

    def pages(self, layout: KVLayout) -> Paging:
        return paging(layout, self.engine, self.parallel.tensor, self.block_size, self.limits[1], self.compacts)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Memory of the fullest GPU of a replica. The lines sum to `total`; a negative KV line means it does not fit."""

    lines: tuple[Line, ...]
    total: float
    paging: Paging
    length: int
    parallel: Parallel

    def line(self, name: str) -> float:
        return next(line.amount for line in self.lines if line.name == name)

    @property
    def kv_cache(self) -> float:
        return self.line("kv_cache")

    @property
    def kv_tokens(self) -> int:
        return self.paging.tokens(max(self.kv_cache, 0.0), self.length)

    def sequences(self, length: int, peak: float = 0.0) -> int:
        """Return how many requests of `length` tokens a replica holds.

        `peak` bytes are kept free for the one being prefilled.
        """
        return self.paging.sequences(max(self.kv_cache - peak, 0.0), length) * self.parallel.data

    def shortfall(self, length: int, peak: float = 0.0) -> float:
        """Return the bytes missing for one request of `length` tokens; 0 when it fits. [B]"""
        return max(0.0, self.paging.reserved(length) + peak - self.kv_cache)


def activation_bytes(model: ModelSpec, where: Deployment) -> tuple[float, str]:
    """Return the peak of the engine's profiling run, and which part of it binds. [B]

    Hidden states of a full prefill step, plus the larger of the sampler (max_num_seqs rows of logits, sorted and
    accumulated) and the widest feed-forward of the step.
    """
    sequences, tokens = where.limits
    hidden = tokens * model.hidden * 2.0
    sampler = sequences * model.vocab * where.engine.sampler_bytes_per_logit
    feed = tokens * 2.0 * max((_widest(layer, where.parallel.tensor) for layer in model.distinct_layers), default=0.0)
    if sampler < feed:
        return hidden + feed, f"feed-forward of {tokens:,} tokens"
    per_logit = where.engine.sampler_bytes_per_logit
    said = f"sampler: {sequences:,} sequences x {model.vocab:,} logits x {per_logit:g} B, and {tokens:,} hidden states"
    return hidden + sampler, said


def _widest(layer: Layer, tensor: int) -> float:
    """Return the live elements per token of a layer's feed-forward: both projections, their product, the residual."""
    wide = 0.0
    for w in layer.weights:
        if w.matmul and (w.split in ("inner", "expert")) and len(w.shape) == 2:
            rows, cols = w.shape
            wide = max(
                wide, (w.used if w.copies > 1 else 1.0) * (1.5 * rows / tensor if rows > cols else cols / tensor + rows)
            )
    return wide


def memory_budget(model: ModelSpec, layout: KVLayout, where: Deployment, length: int) -> Budget:
    """Return how the fullest GPU of a replica spends the engine's share of its memory."""
    assert where.gpu is not None
    parallel, engine = where.parallel, where.engine
    use = engine.utilization if where.utilization is None else where.utilization
    total = where.gpu.visible_memory * use
    held = weights(model, where.weights)
    weight = held.per_gpu(parallel) + layout.parameters * 2.0 / (parallel.tensor * parallel.pipeline)
    activation, binding = activation_bytes(model, where)
    runtime = engine.runtime_bytes(parallel.tensor * parallel.data)
    form = where.weights or (model.quantization.method if model.quantization else model.dtype)
    spread = f"{parallel.gpus} GPU{'s' * (parallel.gpus > 1)}, replicated tensors counted on each"
    rest = f"the rest of {use:.0%} of {show_bytes(where.gpu.visible_memory)}"
    lines = (
        Line(name="weights", amount=weight, basis=f"{form}, {show_bytes(held.total)} over {spread}"),
        Line(name="activations", amount=activation, basis=binding),
        Line(name="runtime", amount=runtime, basis="CUDA context, NCCL and other memory outside the allocator"),
        Line(name="kv_cache", amount=total - weight - activation - runtime, basis=rest),
    )
    pages = where.pages(stage_layout(layout, len(model.layers), parallel.pipeline))
    return Budget(lines=lines, total=total, paging=pages, length=length, parallel=parallel)
