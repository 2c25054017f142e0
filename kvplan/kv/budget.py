"""One GPU's memory as lines that sum to the total: weights, activations, runtime, CUDA graphs, KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from kvplan.kv.layout import KVLayout
from kvplan.kv.paging import Paging, paging
from kvplan.kv.profiling import activation_bytes, form_of, graph_bytes
from kvplan.kv.replica import Parallel, Weights, stage_layouts, weights
from kvplan.kv.resident import resident, rules
from kvplan.kv.runners import caches, flashes, own_share, rules_for
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.units import show_bytes, show_percent


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a budget or a bill."""

    name: str  #: what it is for, as documents spell it
    amount: float  #: in the unit of the list it stands in [B], [USD], [USD/s] or [J]
    basis: str  #: where it comes from, in words


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What drafts tokens for a model to verify: its own next-token layers, a head (EAGLE), or a smaller model."""

    kind: str  #: mtp, eagle3 or model
    model: ModelSpec  #: its layers, and tensors outside them that it does not share with the model it drafts for
    form: str | None = None  #: format of its weights, None for its checkpoint's
    note: str = ""  #: what is assumed of it
    drafted: int = 1  #: tokens drafted for a step [token]


@dataclass(frozen=True, kw_only=True)
class Running:
    """Options of an engine that change how a GPU's memory is used."""

    graphs: bool = True  #: whether memory is set aside for CUDA graphs, where the engine does so
    compiles: bool = True  #: whether the engine compiles the model as it starts, as without a compile cache
    profiles_images: bool = True  #: whether the profiling run encodes the largest image, where the engine does so
    flashinfer: bool = False  #: whether FlashInfer samples, where the engine leaves it to what is installed
    #: whether prefixes are cached, which pins more pages of recurrent states; None: as the engine does for the model
    prefix_caching: bool | None = None
    hybrid: bool = True  #: whether layers that see a window free what they no longer see
    context_ranks: int = 1  #: GPUs of a tensor-parallel group that divide a request's tokens (decode context parallel)
    kv_bytes: float | None = None  #: fixed size of the cache on a GPU, whatever the share [B]
    offloaded: float = 0.0  #: weights that a GPU leaves in the host's memory [B]


@dataclass(frozen=True, kw_only=True)
class Deployment(Running):
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
    draft: "Draft | None" = None  #: what drafts tokens

    @property
    def use(self) -> float:
        """Share of the memory that the engine takes, its default where none is set, of 1."""
        if self.utilization is not None:
            return self.utilization
        return self.engine.share(self.gpu, self.parallel.tensor, self.parallel.pipeline)

    @property
    def limits(self) -> tuple[int, int]:
        """Sequences and tokens of one engine step."""
        sequences, tokens = self.engine.limits(self.gpu)
        return self.max_num_seqs or sequences, self.max_num_batched_tokens or tokens

    def serving(self, model: ModelSpec, length: int) -> "Deployment":
        """Return what a model is served with: its runner's rules, and the step of an engine that cuts no prompts."""
        whole = self.engine.window_share is not None and not any(
            m in model.model_type for m in self.engine.window_models
        )
        caching = caches(self.engine, model, self.prefix_caching)
        rules = rules_for(self.engine, model, caching, flashes(self.engine, self.gpu))
        if self.flashinfer and rules.flashinfer_bytes_per_logit:
            rules = replace(rules, sampler_bytes_per_logit=rules.flashinfer_bytes_per_logit)
        served = replace(self, engine=rules, hybrid=self.hybrid and not whole, prefix_caching=caching)
        if self.utilization is None and self.gpu is not None and self.engine.reserve is not None:
            share = own_share(self.engine, model, self.gpu, self.parallel.tensor, self.parallel.pipeline)
            served = replace(served, utilization=share)
        step = self.limits[1]
        if self.max_num_batched_tokens is not None or (uncut := self.engine.uncut(step, length)) == step:
            return served
        return replace(served, max_num_batched_tokens=uncut)

    def pages(self, layout: KVLayout) -> Paging:
        """Return how the engine pages a layout on one GPU."""
        ahead = self.limits[1] * self.engine.steps_ahead
        return paging(
            layout, self.engine, self.parallel.tensor, self.block_size, ahead, self.compacts,
            state_pages=1 if self.prefix_caching is False else self.engine.state_pages,
            ranks=self.context_ranks, hybrid=self.hybrid, drafted=self.draft.drafted if self.draft else 0,
            even=self.engine.capacity == "even",
        )  # fmt: skip


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
