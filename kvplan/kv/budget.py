"""One GPU's memory as lines that sum to the total: weights, activations, runtime, KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kvplan.kv.layout import KVLayout
from kvplan.kv.paging import Paging, paging
from kvplan.kv.replica import Parallel, Weights, stage_layout, weights
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import Layer, ModelSpec
from kvplan.units import show_bytes, show_percent


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a budget or a bill."""

    name: str  #: what it is for, as documents spell it
    amount: float  #: in the unit of the list it stands in [B], [USD], [USD/s] or [J]
    basis: str  #: where it comes from, in words


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An engine on a GPU and how it is run. None leaves a choice to the engine (or, for weights, to the checkpoint)."""

    engine: Engine  #: whose rules divide the memory
    gpu: Gpu | None = None  #: None where no budget is asked for
    parallel: Parallel = field(default_factory=Parallel)  #: how the replica is spread
    weights: str | None = None  #: weight format, one of FORMATS
    utilization: float | None = None  #: share of the GPU's memory that the engine may use, of 1
    block_size: int | None = None  #: tokens of a page [token]
    max_num_seqs: int | None = None  #: sequences of one step
    max_num_batched_tokens: int | None = None  #: tokens of one step [token]
    compacts: bool = False  #: whether the engine frees what techniques evict head by head; stock engines do not

    @property
    def use(self) -> float:
        """Share of the GPU's memory that the engine uses, its default where none is set, of 1."""
        return self.engine.utilization if self.utilization is None else self.utilization

    @property
    def limits(self) -> tuple[int, int]:
        """Sequences and tokens of one engine step."""
        sequences, tokens = self.engine.limits(self.gpu)
        return self.max_num_seqs or sequences, self.max_num_batched_tokens or tokens

    def pages(self, layout: KVLayout) -> Paging:
        """Return how the engine pages a layout on one GPU."""
        return paging(layout, self.engine, self.parallel.tensor, self.block_size, self.limits[1], self.compacts)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Memory of the fullest GPU of a replica."""

    amounts: Mapping[str, float]  #: weights, activations, runtime [B]
    total: float  #: what the engine may use of one GPU [B]
    paging: Paging  #: pages of the fullest pipeline stage
    length: int  #: of the sequences that `kv_tokens` counts [token]
    deployment: Deployment  #: the engine, the GPU, and how the replica is spread
    held: Weights  #: the replica's weights
    form: str  #: their format
    binding: str  #: what takes most of the activations, in words

    @property
    def parallel(self) -> Parallel:
        """How the replica is spread."""
        return self.deployment.parallel

    @property
    def kv_cache(self) -> float:
        """Room for caches on the GPU, negative where weights and activations alone do not fit. [B]"""
        return self.total - sum(self.amounts.values())

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Weights, activations, runtime and kv_cache, which may be negative; they sum to `total`."""
        gpus = f"{self.parallel.gpus} GPU{'s' * (self.parallel.gpus > 1)}, replicated tensors counted on each"
        whole = self.deployment.gpu.visible_memory if self.deployment.gpu else self.total
        used = show_percent(self.deployment.use)
        basis = {
            "weights": f"{self.form}, {show_bytes(self.held.total)} over {gpus}",
            "activations": self.binding,
            "runtime": "CUDA context, NCCL and other memory outside the allocator",
            "kv_cache": f"what is left of the {used} of {show_bytes(whole)} the engine may use",
        }
        amounts = {**self.amounts, "kv_cache": self.kv_cache}
        return tuple(Line(name=name, amount=amount, basis=basis[name]) for name, amount in amounts.items())

    def line(self, name: str) -> float:
        """Return the amount of the line of this name. [B]"""
        return next(line.amount for line in self.lines if line.name == name)

    @property
    def kv_tokens(self) -> int:
        """Capacity of the cache as the engine logs it. [token]"""
        return self.paging.tokens(max(self.kv_cache, 0.0), self.length)

    def sequences(self, length: int, peak: float = 0.0) -> int:
        """Return how many requests of `length` tokens a replica holds.

        `peak` bytes are kept free for the one being prefilled.
        """
        return self.paging.sequences(max(self.kv_cache - peak, 0.0), length) * self.parallel.data

    def shortfall(self, length: int, peak: float = 0.0) -> float:
        """Return the bytes missing for one request of `length` tokens; 0 when it fits. [B]"""
        return max(0.0, self.paging.reserved(length) + peak - self.kv_cache)


def activation_bytes(model: ModelSpec, deployment: Deployment) -> tuple[float, str]:
    """Return the peak of the engine's profiling run, and which part of it binds. [B]

    Hidden states of a full prefill step, plus the larger of the sampler (max_num_seqs rows of logits, sorted and
    accumulated) and the widest feed-forward of the step.
    """
    sequences, tokens = deployment.limits
    hidden = tokens * model.hidden * 2.0
    sampler = sequences * model.vocab * deployment.engine.sampler_bytes_per_logit
    feed = (
        tokens * 2.0 * max((_widest(layer, deployment.parallel.tensor) for layer in model.distinct_layers), default=0.0)
    )
    if sampler < feed:
        return hidden + feed, f"feed-forward of {tokens:,} tokens"
    per_logit = deployment.engine.sampler_bytes_per_logit
    basis = f"sampler: {sequences:,} sequences x {model.vocab:,} logits x {per_logit:g} B, and {tokens:,} hidden states"
    return hidden + sampler, basis


def _widest(layer: Layer, tensor: int) -> float:
    """Return the live elements per token of a layer's feed-forward: both projections, their product, the residual."""
    width = 0.0
    for w in layer.weights:
        if w.matmul and (w.split in ("inner", "expert")) and len(w.shape) == 2:
            rows, cols = w.shape
            width = max(
                width,
                (w.used if w.copies > 1 else 1.0) * (1.5 * rows / tensor if rows > cols else cols / tensor + rows),
            )
    return width


def memory_budget(model: ModelSpec, layout: KVLayout, deployment: Deployment, length: int) -> Budget:
    """Return how the fullest GPU of a replica spends the engine's share of its memory."""
    assert deployment.gpu is not None
    parallel, engine, held = deployment.parallel, deployment.engine, weights(model, deployment.weights)
    weight = held.per_gpu(parallel) + layout.parameters * 2.0 / (parallel.tensor * parallel.pipeline)
    activation, binding = activation_bytes(model, deployment)
    runtime = engine.runtime_bytes(parallel.tensor * parallel.data)
    return Budget(
        amounts={"weights": weight, "activations": activation, "runtime": runtime},
        total=deployment.gpu.visible_memory * deployment.use,
        paging=deployment.pages(stage_layout(layout.settled(length), len(model.layers), parallel.pipeline)),
        length=length,
        deployment=deployment,
        held=held,
        form=deployment.weights or (model.quantization.method if model.quantization else model.dtype),
        binding=binding,
    )
