"""One GPU's memory as lines that sum to the total: weights, activations, runtime, CUDA graphs, KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from kvplan.kv.deployment import Deployment
from kvplan.kv.layout import KVLayout
from kvplan.kv.paging import Paging
from kvplan.kv.profiling import activation_bytes, form_of, graph_bytes
from kvplan.kv.replica import Parallel, Weights, stage_layouts, weights
from kvplan.kv.resident import resident, rules
from kvplan.specs.line import Line
from kvplan.specs.model import ModelSpec
from kvplan.units import show_bytes, show_percent


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Memory of the GPU of a replica that holds the fewest tokens: of the pipeline stage that binds."""

    amounts: Mapping[str, float]  #: every line but kv_cache [B]
    total: float  #: what the lines sum to: what the engine may use of one GPU [B]
    paging: Paging  #: pages of the pipeline stage
    length: int  #: of the sequences that `kv_tokens` counts [token]
    deployment: Deployment  #: the engine, the GPU, and how the replica is spread
    held: Weights  #: the replica's weights
    form: str  #: their format
    binding: str  #: what takes most of the activations, in words
    stage: int = 0  #: which pipeline stage it is, from 0
    layers: int = 0  #: layers of the stage
    stages: tuple["Budget", ...] = ()  #: of every different pipeline stage, itself included; () without a pipeline

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
        """Weights, activations, runtime and kv_cache, which may be negative, and what else the engine takes.

        They sum to `total`.
        """
        gpus = f"{self.parallel.gpus} GPU{'s' * (self.parallel.gpus > 1)}, replicated tensors counted on each"
        pool, gpu = self.deployment.engine.pool, self.deployment.gpu
        whole, used = show_bytes(gpu.visible_memory if gpu else self.total), show_percent(self.deployment.use)
        room = {
            "profiled": f"what is left of the {used} of {whole} the engine may use",
            "static": f"{used} of what is free before weights, less weights",
            "free": f"{used} of what is free after weights and activations",
        }
        if self.deployment.kv_bytes is not None:
            room[pool] = f"of {show_bytes(self.deployment.kv_bytes)} asked for"
        gpus += f"; {show_bytes(self.deployment.offloaded)} left in the host's memory" * (self.deployment.offloaded > 0)
        apart = "; CUDA graphs have a line of their own" * ("cuda_graphs" in self.amounts)
        basis = {
            "weights": f"{self.form}, {show_bytes(self.held.total)} over {gpus}",
            "activations": self.binding,
            "runtime": f"CUDA context, NCCL and other memory outside the allocator{apart}",
            "cuda_graphs": "the engine's own estimate of CUDA graphs, subtracted from the pool",
            "kv_cache": room[pool],
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

    @property
    def whole_tokens(self) -> int:
        """Tokens of all requests of `length` tokens that the cache holds, the last one's in part. [token]"""
        return self.paging.whole_tokens(max(self.kv_cache, 0.0), self.length)

    def sequences(self, length: int, peak: float = 0.0) -> int:
        """Return how many requests of `length` tokens a replica holds.

        `peak` bytes are kept free for the one being prefilled.
        """
        return self.paging.sequences(max(self.kv_cache - peak, 0.0), length) * self.parallel.data

    def shortfall(self, length: int, peak: float = 0.0) -> float:
        """Return the bytes missing for one request of `length` tokens; 0 when it fits. [B]"""
        return max(0.0, self.paging.taken(length) + peak - self.kv_cache)


def memory_budget(model: ModelSpec, layout: KVLayout, deployment: Deployment, length: int) -> Budget:
    """Return how the GPU of a replica that holds the fewest tokens spends the engine's share of its memory."""
    parallel, held = deployment.parallel, weights(model, deployment.weights)
    deployment = deployment.serving(model, length)
    settled = layout.settled(length)
    cuts = parallel.cuts(len(model.layers))
    if len(cuts) == 1:
        return _stage(model, settled, deployment, length, held, 0, cuts)
    drafting = settled.end - cuts[-1][1]  # a draft's layers stand on the last stage
    parts = stage_layouts(settled, (*cuts[:-1], (cuts[-1][0], cuts[-1][1] + drafting)))
    # stages in the middle differ only in their layers: the fullest stands for all
    middle = sorted(range(1, len(cuts) - 1), key=lambda i: parts[i].stored(4096))[-1:]
    chosen = range(len(cuts)) if parallel.split else (0, *middle, len(cuts) - 1)
    stages = [_stage(model, parts[i], deployment, length, held, i, cuts) for i in chosen]
    return replace(min(stages, key=lambda b: (b.kv_tokens, b.kv_cache)), stages=tuple(stages))


def _stage(
    model: ModelSpec,
    layout: KVLayout,
    deployment: Deployment,
    length: int,
    held: Weights,
    index: int,
    cuts: tuple[tuple[int, int], ...],
) -> Budget:
    """Return the budget of one pipeline stage."""
    assert deployment.gpu is not None
    parallel, engine, visible = deployment.parallel, deployment.engine, deployment.gpu.visible_memory
    start, end = cuts[index]
    weight = _stage_weights(model, layout, deployment, held, index, last=index == len(cuts) - 1)
    weight = max(weight - deployment.offloaded, 0.0)
    activation, binding = activation_bytes(model, deployment, length, first=index == 0, last=index == len(cuts) - 1)
    runtime = engine.runtime_bytes(parallel.tensor * parallel.data, parallel.pipeline, deployment.gpu)
    amounts = {"weights": weight, "activations": activation, "runtime": runtime}
    total = visible * deployment.use if engine.pool == "profiled" else visible
    if engine.pool == "static":
        amounts["activations"] = (1 - deployment.use) * (visible - runtime)
        binding = "set aside for activations and CUDA graphs"
    elif engine.pool == "free":
        total -= (1 - deployment.use) * max(visible - weight - activation - runtime, 0.0)
    if deployment.kv_bytes is not None:
        left = visible - weight - activation - runtime
        amounts = {"weights": weight, "activations": activation, "runtime": runtime}
        total = visible - max(left - deployment.kv_bytes, 0.0)
    elif graphs := graph_bytes(model, deployment, end - start, _cache_bits(layout)):
        amounts["cuda_graphs"] = graphs
    return Budget(
        amounts=amounts,
        total=total,
        paging=deployment.pages(layout),
        length=length,
        deployment=deployment,
        held=held,
        form=form_of(model, deployment),
        binding=binding,
        stage=index,
        layers=end - start,
    )


def _cache_bits(layout: KVLayout) -> float:
    """Return the bits of an element of the layers that store tokens, the fewest of any."""
    return min((g.bits for g in layout.groups if g.token_bytes), default=16.0)


def _stage_weights(
    model: ModelSpec, layout: KVLayout, deployment: Deployment, held: Weights, index: int, *, last: bool
) -> float:
    """Return the weights on a GPU of a pipeline stage: the model's, a technique's, on the last one a draft's. [B]

    What the engine keeps beside a checkpoint's tensors (`resident`) counts as well.
    """
    parallel = deployment.parallel
    own = held.stage(parallel, index) + layout.parameters * 2.0 / (parallel.tensor * parallel.pipeline)
    own += resident(model, deployment.weights, parallel, index, rules(deployment.engine, deployment.gpu))
    if deployment.draft is None or not last:
        return own
    drafts = weights(deployment.draft.model, deployment.draft.form)
    return own + drafts.per_gpu(Parallel(tensor=parallel.tensor, data=parallel.data))
