"""One GPU's memory as lines that sum to the total: weights, activations, runtime, KV cache."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

from kvplan.architectures.quantization import COMPUTE, FORMATS, tensor_bits
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import Incompatible, SpecError, shown
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.paging import Paging, paging
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import Layer, ModelSpec, Quantization, Weight
from kvplan.units import show_bytes


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a budget or a bill; `basis` says in words where it comes from."""

    name: str
    amount: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a replica is spread: tensor x attention-data x pipeline parallel GPUs.

    Attention-data-parallel ranks hold all weights but the experts, which are divided over tensor x data GPUs, and serve
    different sequences. `expert` GPUs hold whole experts (0: all of them under data parallelism, else none).
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 0

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def expert_ranks(self) -> int:
        """GPUs that hold different whole experts; the others slice each expert."""
        return self.expert or (self.tensor * self.data if self.data > 1 else 1)

    def __str__(self) -> str:
        sizes = (("tp", self.tensor), ("dp", self.data), ("ep", self.expert), ("pp", self.pipeline))
        return "".join(f"{name}{size}" for name, size in sizes if size > 1 or name == "tp")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An engine on a GPU and how it is run. None leaves a choice to the engine (or, for weights, to the checkpoint).

    `compacts` grants the engine a cache that frees what techniques evict head by head.
    """

    engine: Engine
    gpu: Gpu | None = None
    parallel: Parallel = Parallel()
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


def stages(layers: int, pipeline: int) -> list[tuple[int, int]]:
    """Return the layer ranges of the pipeline stages, as even as they go."""
    cuts = [round(layers * i / pipeline) for i in range(pipeline + 1)]
    return list(pairwise(cuts))


def weight_format(model: ModelSpec, wanted: str | None) -> tuple[float, Quantization | None]:
    """Return (bits of unquantised tensors, quantisation): the checkpoint's own, or `wanted`.

    `wanted` is one of bf16, fp8, int8, int4, mxfp4, nvfp4.
    """
    dtype = min(DTYPE_BITS[model.dtype], 16.0)
    if wanted is None:
        return dtype, model.quantization
    if wanted not in FORMATS:
        raise Incompatible(f"weights {shown(wanted)}: write one of {', '.join(FORMATS)}")
    bits = FORMATS[wanted]
    return (
        (bits, None) if bits >= 16 else (dtype, Quantization(method=wanted, bits=bits, compute=COMPUTE.get(wanted, 16)))
    )


@dataclass(frozen=True)
class Sizes:
    """Bytes of one layer, or of the tensors outside layers, by what tensor parallelism divides them by."""

    by_split: tuple[tuple[str, float], ...]
    routed: float

    def per_gpu(self, parallel: Parallel, kv_heads: int) -> float:
        tensor = parallel.tensor
        ways = {"none": 1, "kv": min(tensor, kv_heads), "expert": tensor * parallel.data}
        return sum(amount / ways.get(split, tensor) for split, amount in self.by_split)

    @property
    def total(self) -> float:
        return sum(amount for _, amount in self.by_split)


class Weights:
    """A model's tensors in one format, added up once. `layers[i]` and `outer` are Sizes."""

    def __init__(self, model: ModelSpec, wanted: str | None):
        self.model = model
        self.dtype_bits, self.how = weight_format(model, wanted)
        if self.how is not None and self.how.problem:
            raise SpecError(self.how.problem)
        patterns = (*self.how.skip, *(p for p, _ in self.how.overrides)) if self.how else ()
        numbered = any(any(ch.isdigit() for ch in p) for p in patterns)
        made: dict[object, Sizes] = {}
        self.layers: list[Sizes] = []
        for index, layer in enumerate(model.layers):
            key: object = index if numbered else id(layer)
            if key not in made:
                made[key] = self._layer(index, layer)
            self.layers.append(made[key])
        self._per_gpu: dict[Parallel, float] = {}
        self.outer = self._sizes([(w.name, w) for w in model.outer])
        self.kv_heads = max((m.kv_heads for m in model.mixers() if hasattr(m, "kv_heads")), default=1)

    def _layer(self, index: int, layer: Layer) -> Sizes:
        return self._sizes([(f"model.layers.{index}.{w.name}", w) for w in layer.weights])

    def _sizes(self, named: list[tuple[str, Weight]]) -> Sizes:
        found: dict[str, float] = {}
        routed = 0.0
        for name, w in named:
            amount = self.bytes_of(name, w)
            found[w.split] = found.get(w.split, 0.0) + amount
            routed += amount if w.split == "expert" else 0.0
        return Sizes(tuple(found.items()), routed)

    def bytes_of(self, name: str, w: Weight) -> float:
        return w.parameters * tensor_bits(name, w, self.dtype_bits, self.how) / 8

    @cached_property
    def total(self) -> float:
        return sum(s.total for s in self.layers) + self.outer.total

    def per_gpu(self, parallel: Parallel) -> float:
        """Return the bytes of weights on the fullest GPU, remembered. [B]"""
        if parallel not in self._per_gpu:
            self._per_gpu[parallel] = self._fullest(parallel)
        return self._per_gpu[parallel]

    def _fullest(self, parallel: Parallel) -> float:
        """Embeddings and head sit on the outer stages."""
        outer = self.outer.per_gpu(parallel, self.kv_heads)
        each = {sizes: sizes.per_gpu(parallel, self.kv_heads) for sizes in set(self.layers)}
        held = [each[sizes] for sizes in self.layers]
        sums = [sum(held[a:b]) for a, b in stages(len(held), parallel.pipeline)]
        if parallel.pipeline > 1:
            return max(max(sums[0], sums[-1]) + outer / (1 if self.model.tied else 2), *sums)
        return sums[0] + outer


@lru_cache(maxsize=64)
def weights(model: ModelSpec, wanted: str | None = None) -> Weights:
    """Return a model's tensors in a format, added up (and remembered)."""
    return Weights(model, wanted)


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


def check_parallel(model: ModelSpec, parallel: Parallel) -> str:
    """Return why a replica cannot be spread this way, '' when it can."""
    tensor = parallel.tensor
    for heads, kv_heads in sorted(model.head_counts):
        if heads % tensor:
            return f"tensor parallelism {tensor} does not divide the model's {heads} attention heads"
        if kv_heads % tensor and tensor % kv_heads:
            return f"tensor parallelism {tensor} and the model's {kv_heads} key/value heads do not divide each other"
    if parallel.pipeline > len(model.layers):
        return f"{parallel.pipeline} pipeline stages are more than the model's {len(model.layers)} layers"
    return ""


def stage_layout(layout: KVLayout, layers: int, pipeline: int) -> KVLayout:
    """Return the fullest pipeline stage's part of a layout."""
    if pipeline == 1:
        return layout

    def cut(g: Group, first: int, last: int) -> Group:
        return replace(g, layers=tuple(i for i in g.layers if first <= i < last))

    parts = [replace(layout, groups=tuple(cut(g, a, b) for g in layout.groups)) for a, b in stages(layers, pipeline)]
    return max(parts, key=lambda part: part.stored(4096))


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


def replica_shapes(model: ModelSpec, layout: KVLayout, gpu: Gpu) -> list[Parallel]:
    """Return the replica shapes worth trying, smallest first: powers of two in a node, then pipelines of whole nodes.

    Where every tensor-parallel rank would store a cache whole (a latent), attention data parallelism is tried too.
    """
    node = min(gpu.gpus_per_node, 8)
    sizes = [t for t in (1, 2, 4, 8) if t <= node]
    found = [Parallel(tensor=t) for t in sizes]
    if any(g.split == 1 and g.vectors for g in layout.groups):
        found += [Parallel(tensor=t, data=d) for d in sizes for t in sizes if d > 1 and t * d <= node]
    found += [Parallel(tensor=node, pipeline=p) for p in (2, 4, 8) if node * p <= 64]
    return sorted((p for p in found if not check_parallel(model, p)), key=lambda p: p.gpus)
