"""A replica: how a model is spread over GPUs, which shapes are worth trying, and the weights each GPU holds."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

from kvplan.architectures.formats import FORMATS
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.architectures.tensor_formats import tensor_bits
from kvplan.errors import Incompatible, SpecError, shown
from kvplan.kv.layout import Group, KVLayout
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import Layer, ModelSpec, Quantization, Weight

#: a format of this share of another's bits holds fewer
FEWER = 0.9


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a replica is spread over GPUs: tensor x attention-data x pipeline parallel.

    Attention-data-parallel ranks hold all weights but the experts, which are divided over tensor x data GPUs, and serve
    different sequences.
    """

    tensor: int = 1  #: GPUs that divide each layer's matrices
    pipeline: int = 1  #: stages of layers
    data: int = 1  #: ranks that attend to different sequences
    expert: int = 0  #: GPUs that hold whole experts; 0: all of them under data parallelism, else none
    split: tuple[int, ...] = ()  #: layers of each pipeline stage; (): as even as they go

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tensor * self.pipeline * self.data

    @property
    def expert_ranks(self) -> int:
        """GPUs that hold different whole experts; the others slice each expert."""
        return self.expert or (self.tensor * self.data if self.data > 1 else 1)

    def cuts(self, layers: int) -> tuple[tuple[int, int], ...]:
        """Return the (first, end) layers of the pipeline stages; `end` is not in the stage."""
        ends = (
            accumulate(self.split)
            if self.split
            else (round(layers * (i + 1) / self.pipeline) for i in range(self.pipeline))
        )
        return tuple(pairwise((0, *ends)))

    def __str__(self) -> str:
        sizes = (("tp", self.tensor), ("dp", self.data), ("ep", self.expert), ("pp", self.pipeline))
        return "".join(f"{name}{size}" for name, size in sizes if size > 1 or name == "tp")


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
    if parallel.split and sum(parallel.split) != len(model.layers):
        stages = ",".join(map(str, parallel.split))
        return f"pp_layers {stages} are {sum(parallel.split)} layers; {model.title} has {len(model.layers)}"
    return ""


def check_ranks(model: ModelSpec, parallel: Parallel, ranks: int) -> str:
    """Return why decode context parallelism has no GPUs with the same heads to divide tokens over, '' when it has."""
    heads = max((kv for _, kv in model.head_counts), default=1)
    if ranks == 1 or parallel.tensor % (heads * ranks) == 0:
        return ""
    return (
        f"decode context parallelism {ranks} divides tokens over GPUs that hold the same key/value heads, of which "
        f"{model.title} has {heads}; write tp={heads * ranks}"
    )


def stage_layouts(layout: KVLayout, cuts: tuple[tuple[int, int], ...]) -> list[KVLayout]:
    """Return each pipeline stage's part of a layout; `cuts` are the (first, end) layers of the stages."""

    def cut(g: Group, first: int, last: int) -> Group:
        return replace(g, layers=tuple(i for i in g.layers if first <= i < last))

    return [replace(layout, groups=tuple(cut(g, a, b) for g in layout.groups)) for a, b in cuts]


def replica_shapes(model: ModelSpec, layout: KVLayout, gpu: Gpu) -> list[Parallel]:
    """Return the replica shapes worth trying, smallest first: powers of two in a node, then pipelines of whole nodes.

    Where every tensor-parallel rank would store a cache whole (a latent), attention data parallelism is tried too.
    """
    node = min(gpu.gpus_per_node, 8)
    sizes = [t for t in (1, 2, 4, 8) if t <= node]
    shapes = [Parallel(tensor=t) for t in sizes]
    if any(g.split == 1 and g.vectors for g in layout.groups):
        shapes += [Parallel(tensor=t, data=d) for d in sizes for t in sizes if d > 1 and t * d <= node]
    shapes += [Parallel(tensor=node, pipeline=p) for p in (2, 4, 8) if node * p <= 64]
    return sorted((p for p in shapes if not check_parallel(model, p)), key=lambda p: p.gpus)


def weight_format(model: ModelSpec, form: str | None) -> tuple[float, Quantization | None]:
    """Return (bits of unquantised tensors [bit], quantisation) of a model in a format of FORMATS.

    None is the checkpoint's own format. Raises Incompatible for a name that is no format.
    """
    dtype = min(DTYPE_BITS[model.dtype], 16.0)
    if form is None:
        return dtype, model.quantization
    if form not in FORMATS:
        raise Incompatible(f"weights {shown(form)}: write one of {', '.join(FORMATS)}")
    quantization = FORMATS[form].stored(model)
    return (FORMATS[form].bits if quantization is None else dtype), quantization


def bits_of(model: ModelSpec, form: str | None) -> float:
    """Return the bits a format stores an element of a matrix in, of the checkpoint for None. [bit]"""
    dtype, how = weight_format(model, form)
    return dtype if how is None or how.bits is None else how.bits


def native_formats(model: ModelSpec) -> tuple[str, ...]:
    """Return the formats that engines convert a checkpoint to and store in fewer bits than it."""
    held = bits_of(model, None)
    return tuple(name for name, form in FORMATS.items() if form.searched and form.bits < FEWER * held)


@dataclass(frozen=True)
class Sizes:
    """Bytes of one layer, or of the tensors outside layers, by what tensor parallelism divides them by."""

    by_split: tuple[tuple[str, float], ...]  #: (Weight.split, bytes) pairs [B]
    routed: float  #: of the experts among them [B]

    def per_gpu(self, parallel: Parallel, kv_heads: int) -> float:
        """Return the bytes on each GPU of a stage; `kv_heads` bounds the ways key/value projections divide. [B]"""
        tensor = parallel.tensor
        ways = {"none": 1, "kv": min(tensor, kv_heads), "expert": tensor * parallel.data}
        return sum(amount / ways.get(split, tensor) for split, amount in self.by_split)

    @property
    def total(self) -> float:
        """Bytes of all of them, each counted once. [B]"""
        return sum(amount for _, amount in self.by_split)


class Weights:
    """A model's tensors in one format, added up once. `layers[i]` and `outer` are Sizes.

    Raises SpecError where the checkpoint does not say how its weights are stored.
    """

    def __init__(self, model: ModelSpec, form: str | None):
        self.model = model
        self.dtype_bits, self.how = weight_format(model, form)
        if self.how is not None and self.how.problem:
            raise SpecError(self.how.problem)
        patterns = (*self.how.skip, *(p for p, _ in self.how.overrides)) if self.how else ()
        numbered = any(any(ch.isdigit() for ch in p) for p in patterns)
        sizes: dict[object, Sizes] = {}
        self.layers: list[Sizes] = []
        for index, layer in enumerate(model.layers):
            key: object = index if numbered else id(layer)
            if key not in sizes:
                sizes[key] = self._layer(index, layer)
            self.layers.append(sizes[key])
        self._per_stage: dict[Parallel, tuple[float, ...]] = {}
        self.outer = self._sizes([(w.name, w) for w in model.outer])
        self.kv_heads = max((m.kv_heads for m in model.mixers if hasattr(m, "kv_heads")), default=1)

    def _layer(self, index: int, layer: Layer) -> Sizes:
        return self._sizes([(f"model.layers.{index}.{w.name}", w) for w in layer.weights])

    def _sizes(self, named: list[tuple[str, Weight]]) -> Sizes:
        by_split: dict[str, float] = {}
        routed = 0.0
        for name, w in named:
            amount = self.bytes_of(name, w)
            by_split[w.split] = by_split.get(w.split, 0.0) + amount
            routed += amount if w.split == "expert" else 0.0
        return Sizes(tuple(by_split.items()), routed)

    def bytes_of(self, name: str, w: Weight) -> float:
        """Return the bytes of one tensor, or of all copies of it. [B]"""
        return w.parameters * tensor_bits(name, w, self.dtype_bits, self.how) / 8

    @cached_property
    def total(self) -> float:
        """Bytes of the whole model, each tensor counted once. [B]"""
        return sum(s.total for s in self.layers) + self.outer.total

    def per_gpu(self, parallel: Parallel) -> float:
        """Return the bytes of weights on the fullest GPU. [B]"""
        return max(self._stages(parallel))

    def stage(self, parallel: Parallel, index: int) -> float:
        """Return the bytes of weights on each GPU of a pipeline stage. [B]"""
        return self._stages(parallel)[index]

    def _stages(self, parallel: Parallel) -> tuple[float, ...]:
        """Return the bytes on a GPU of each stage, remembered. Embeddings and head sit on the outer stages."""
        if parallel not in self._per_stage:
            outer = self.outer.per_gpu(parallel, self.kv_heads)
            per_layer = {sizes: sizes.per_gpu(parallel, self.kv_heads) for sizes in set(self.layers)}
            amounts = [per_layer[sizes] for sizes in self.layers]
            sums = [sum(amounts[a:b]) for a, b in parallel.cuts(len(amounts))]
            if len(sums) == 1:
                sums[0] += outer
            else:
                part = outer / (1 if self.model.tied else 2)
                sums[0] += part
                sums[-1] += part
            self._per_stage[parallel] = tuple(sums)
        return self._per_stage[parallel]


@lru_cache(maxsize=64)
def weights(model: ModelSpec, form: str | None = None) -> Weights:
    """Return a model's tensors in a format (None: the checkpoint's own), added up and remembered."""
    return Weights(model, form)
