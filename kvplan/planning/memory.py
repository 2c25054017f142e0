"""`kvplan memory`: weights, cache by layer, and what a GPU's memory is divided into."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.budget import Budget, memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.drafts import mtp
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import ATTENTION_KINDS, kv_layout
from kvplan.kv.paging import Paging
from kvplan.kv.profiling import graph_warnings, image_warnings, shared_warnings
from kvplan.kv.replica import check_parallel, check_ranks, weights
from kvplan.planning.estimate import context_warnings
from kvplan.planning.replica import default_kv_bits
from kvplan.planning.suitability import lengthened
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.result import Result
from kvplan.units import show_bytes, show_tokens

LAYOUTS = ("architecture", "engine", "transformers")
#: element types of a cache by their spellings (vLLM's included)
KV_DTYPES = {
    "auto": None,
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
    "fp32": "fp32",
    "float32": "fp32",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "int8": "int8",
    "int4": "int4",
}


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """One cache of one layer, for the whole batch. [B]"""

    layer: int  #: position in the model, from 0
    kind: str  #: what the layer keeps: full, sliding, latent, state, ...
    tokens: int  #: tokens it keeps of one sequence
    bytes: float  #: cache of the whole batch [B]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked of a model's memory. `technique` includes the element type of the cache, if one was asked for."""

    context: int  #: tokens of one sequence
    batch: int = 1  #: sequences
    technique: str = spelling.BASELINE  #: in its one spelling, with the cache's element type where one is given
    kv_bits: float | None = None  #: bits of a cache element, None for the model's own
    reading: str = "architecture"  #: architecture, engine or transformers
    encoder_tokens: int | None = None  #: tokens that the encoder reads, None for the model's most
    max_model_len: int | None = None  #: longest sequence the engine admits, None for the context [token]


@dataclass(frozen=True, kw_only=True)
class Room:
    """The room that one release of the engine leaves for the cache on a GPU."""

    release: str  #: the first release of those that leave it
    kv_cache: float  #: room for the cache, 0 where what else it takes does not fit [B]
    kv_tokens: int  #: its capacity as the engine logs it [token]


#: rooms of releases that differ by less are not told apart, of 1
ALIKE = 0.02


@dataclass(frozen=True, kw_only=True)
class Memory(Result, of="memory"):
    """A model's memory at one context and batch, in one reading. Cache bytes are of the whole replica and batch."""

    model: ModelSpec  #: the model read
    ask: Ask  #: context, batch, technique and reading
    layout: KVLayout  #: what each layer keeps
    weight_bytes: float  #: weights of all ranks, the draft model's included [B]
    per_layer: tuple[LayerCache, ...]  #: caches of all layers
    padding: float  #: layers that the engine pads its groups with [B]
    bytes_per_token: float  #: growth of a sequence's cache by one more token [B/token]
    deployment: Deployment  #: the GPU, the engine and the ranks
    budget: Budget | None = None  #: how a GPU's memory is divided, None without a GPU
    reason: str = ""  #: why it does not fit, '' where it does
    rooms: tuple[Room, ...] = ()  #: of the engine's releases, oldest first, where none was named and they differ
    idle: tuple[str, ...] = ()  #: options that were given and change nothing, and why

    @property
    def figures(self) -> tuple[object, ...]:
        """Everything that an option may change."""
        b = self.budget
        at = self.ask.context
        divided = (tuple(b.amounts.items()), b.kv_cache, b.sequences(at), b.paging.reserved(at)) if b else ()
        return (
            self.model.max_context,
            self.weight_bytes,
            self.per_layer,
            self.padding,
            self.bytes_per_token,
            self.stages,
            divided,
            self.reason,
            self.warnings,
        )

    def sum(self, *kinds: str) -> float:
        """Return the cache of layers of some kinds. [B]"""
        return sum(c.bytes for c in self.per_layer if c.kind in kinds)

    @property
    def attention(self) -> float:
        """Cache of attention layers. [B]"""
        return self.sum(*ATTENTION_KINDS)

    @property
    def total(self) -> float:
        """Cache of all layers, padding included. [B]"""
        return sum(c.bytes for c in self.per_layer) + self.padding

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know: what a long context takes, how the file was read, what a prefill step holds."""
        longest = max(self.ask.context, self.ask.max_model_len or 0)
        of_budget = (*graph_warnings(self.model, self.deployment), *shared_warnings(self.deployment))
        of_budget += image_warnings(self.model, self.deployment)
        refused = self.deployment.engine.refuses(self.model.model_type)
        served = () if self.ask.reading != "engine" and not self.budget else (refused,) * bool(refused)
        of_model = context_warnings(self.model, longest)
        return (*served, *of_model, *(of_budget if self.budget else ()), *step_warning(self))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings and the model's notes; of next-token layers what they would add, nothing where they draft."""
        drafting = self.deployment.draft is not None and self.deployment.draft.kind == "mtp"
        notes = (n for n in self.model.notes if not (drafting and UNCOUNTED in n))
        return *self.warnings, *self.idle, *(n + with_drafts(self) if UNCOUNTED in n else n for n in notes)

    @property
    def stages(self) -> tuple[tuple[int, float], ...]:
        """(layers, cache) of each pipeline stage. [B]"""
        cuts = self.deployment.parallel.cuts(len(self.model.layers))
        return tuple((b - a, sum(c.bytes for c in self.per_layer if a <= c.layer < b)) for a, b in cuts)

    @property
    def sequences(self) -> int | None:
        """How many such sequences a replica holds, None without a GPU."""
        return self.budget.sequences(self.ask.context) if self.budget else None


#: a cache that grows by more than this with twice the tokens of a prefill step is worth a word
STEP_SHARE = 1.5


#: part of the note that next-token layers are not counted
UNCOUNTED = "multi-token-prediction"


def with_drafts(memory: Memory) -> str:
    """Return what a sequence's next token adds where a model's own next-token layers draft, '' where none can."""
    model, deployment = memory.model, memory.deployment
    if deployment.draft is not None:
        return ""
    try:
        draft = mtp(model, deployment.weights)
    except Incompatible:
        return ""
    at = replace(deployment, draft=draft)
    if memory.ask.reading == "engine":
        layout = drafted(model, memory.ask, at)
        growth = at.pages(layout.settled(memory.ask.context)).growth(memory.ask.context) * at.parallel.tensor
    else:
        growth = drafted(model, memory.ask, at).growth(memory.ask.context)
    return f"; with speculative=mtp one more token adds {growth:,.0f} B"


def step_warning(memory: Memory) -> tuple[str, ...]:
    """Return what windows of an engine hold for a prefill step, where its length was not given and weighs much.

    A window pins its own tokens and those of the step; so do the pages of DeepSeek-V4's compressors.
    """
    ask, deployment = memory.ask, memory.deployment
    if ask.reading != "engine" or deployment.max_num_batched_tokens:
        return ()
    pages = deployment.pages(memory.layout.settled(ask.context))
    more = replace(pages, prefill_tokens=2 * pages.prefill_tokens).blocks(ask.context)
    if more <= STEP_SHARE * pages.blocks(ask.context):
        return ()
    grown = more / pages.blocks(ask.context)
    return (
        f"windows hold the {pages.prefill_tokens:,} tokens of a prefill step besides their own; with twice as many a "
        f"request reserves {grown:.1f} times as much: state max_num_batched_tokens=N as the server runs",
    )


#: element types a cache can simply be declared in, and their bits
PLAIN_BITS = {"bf16": 16.0, "fp16": 16.0, "fp32": 32.0}


def with_kv_dtype(technique: str, kv_dtype: str | None) -> tuple[str, float | None]:
    """Return (technique, plain bits): fp8, int8 and int4 are techniques, since they bring scales."""
    kv_dtype = KV_DTYPES[kv_dtype] if kv_dtype else None
    if kv_dtype is None or kv_dtype in PLAIN_BITS:
        return spelling.canonical(technique), PLAIN_BITS.get(kv_dtype or "")
    names = spelling.parts(technique)
    if any(kind.factor == "bits" for kind, _ in names):
        raise Incompatible(f"kv_dtype={kv_dtype} and technique={technique} both set the width of elements; keep one")
    return spelling.canonical(f"{technique}+{kv_dtype}" if names else kv_dtype), None


def cache_layout(model: ModelSpec, ask: Ask) -> KVLayout:
    """Return the model's layout in one reading, under the technique asked for."""
    hugging = ask.reading == "transformers"
    bits = ask.kv_bits or (DTYPE_BITS[model.dtype] if hugging else default_kv_bits(model))
    if bits < 16 and any(kind.factor == "bits" for kind, _ in spelling.parts(ask.technique)):
        bits = 16.0  # the element type asked for replaces the checkpoint's own
    layout = kv_layout(model, bits, reading="transformers" if hugging else "architecture")
    if ask.encoder_tokens is not None:
        layout = layout.with_source(ask.encoder_tokens)
    return spelling.apply(ask.technique, layout)


def drafted(model: ModelSpec, ask: Ask, deployment: Deployment) -> KVLayout:
    """Return the model's layout with that of what drafts its tokens beside it."""
    layout = cache_layout(model, ask)
    if deployment.draft is None:
        return layout
    return layout.beside(cache_layout(deployment.draft.model, ask), len(model.layers))


def draft_bytes(deployment: Deployment) -> float:
    """Return the bytes of what drafts tokens. [B]"""
    return 0.0 if deployment.draft is None else weights(deployment.draft.model, deployment.draft.form).total


def memory(model: ModelSpec, ask: Ask, deployment: Deployment) -> Memory:
    """Return what a model holds at one context and batch; with a GPU, also how its memory is divided."""
    model = lengthened(model, deployment.engine)
    parallel = deployment.parallel
    if refusal := check_parallel(model, parallel) or check_ranks(model, parallel, deployment.context_ranks):
        raise Incompatible(refusal)
    layout = drafted(model, ask, deployment)
    # engines serve a 32-bit checkpoint in 16 bits; transformers loads it as it is
    own = "fp32" if ask.reading == "transformers" and model.dtype == "float32" else None
    deployment = deployment.serving(model, ask.max_model_len or ask.context)
    if ask.reading == "engine":
        rows, total, growth = reserved(deployment.pages(layout.settled(ask.context)), ask, deployment.parallel.tensor)
    else:
        rows = tuple(
            LayerCache(layer=i, kind=kind, tokens=kept, bytes=size * ask.batch)
            for i, kind, kept, size in layout.per_layer(ask.context)
        )
        total, growth = sum(r.bytes for r in rows), layout.growth(ask.context)
    answer = Memory(
        model=model,
        ask=ask,
        layout=layout,
        weight_bytes=weights(model, deployment.weights or own).total + layout.parameters * 2 + draft_bytes(deployment),
        deployment=deployment,
        per_layer=rows,
        padding=total - sum(r.bytes for r in rows),
        bytes_per_token=growth,
    )
    if deployment.gpu is None:
        return answer
    length = ask.max_model_len or ask.context
    budget = memory_budget(model, drafted(model, replace(ask, reading="architecture"), deployment), deployment, length)
    return replace(answer, budget=budget, reason=why_not(budget, ask, length, deployment.gpu))


def rooms(model: ModelSpec, ask: Ask, deployment: Deployment, engines: Iterable[Engine]) -> tuple[Room, ...]:
    """Return what each of an engine's releases leaves for the cache, those alike in one; none where all are."""
    found: list[Room] = []
    for engine in engines:
        budget = memory(model, ask, replace(deployment, engine=engine)).budget
        if budget is None:
            return ()
        room = Room(release=engine.release, kv_cache=max(budget.kv_cache, 0.0), kv_tokens=budget.kv_tokens)
        if not found or not alike(found[-1], room):
            found.append(room)
    return tuple(found) if len(found) > 1 else ()


def alike(one: Room, other: Room) -> bool:
    """Whether two releases leave as much room, and count as many tokens in it."""
    pairs = ((one.kv_cache, other.kv_cache), (float(one.kv_tokens), float(other.kv_tokens)))
    return all(abs(a - b) <= ALIKE * max(abs(a), abs(b)) for a, b in pairs)


def reserved(pages: Paging, ask: Ask, tensor: int) -> tuple[tuple[LayerCache, ...], float, float]:
    """Return each layer's pages on all tensor-parallel GPUs, their total with padding layers, and growth per token."""
    context, copies = ask.context, ask.batch * tensor
    alone = len(pages.specs) == 1  # one block table for all layers, each with its own page size
    rows = []
    for index, (group, page) in enumerate(pages.pages):
        blocks = pages.spec_blocks(pages.specs[0 if alone else index], context)
        kept, size = group.keep.tokens(context), blocks * page * copies
        rows += [LayerCache(layer=i, kind=group.kind, tokens=kept, bytes=size) for i in group.layers]
    return tuple(sorted(rows, key=lambda r: r.layer)), pages.reserved(context) * copies, pages.growth(context) * tensor


#: what sums of a budget's lines may be off by [B]
ROUNDING = 1.0
#: bytes of a parameter above which fp8 weights are lighter, scales and tensors in 16 bits included
MORE_THAN_FP8 = 1.1


def why_not(budget: Budget, ask: Ask, length: int, gpu: Gpu) -> str:
    """Return why the sequences asked for do not fit, '' when they do."""
    short, gpus = budget.shortfall(length), budget.parallel.gpus
    if ask.context > length:
        return f"a context of {ask.context:,} tokens is longer than max_model_len={length:,}"
    graphs = budget.amounts.get("cuda_graphs", 0.0)
    if 0 < short <= graphs:
        return (
            f"one sequence of {show_tokens(length)} does not fit {gpus}x {gpu.name} beside the {show_bytes(graphs)} "
            "that the engine sets aside by its own estimate for CUDA graphs; use without=graphs "
            "(VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0)"
        )
    asked = budget.deployment.kv_bytes
    if asked is not None and 0 <= budget.kv_cache < asked - ROUNDING:
        return (
            f"a cache of kv_cache_memory_bytes={show_bytes(asked)} does not fit {gpus}x {gpu.name}: "
            f"{show_bytes(budget.kv_cache)} per GPU are left beside weights and a step's activations; ask for no more"
        )
    if budget.kv_cache < 0 and budget.amounts["activations"] > budget.amounts["weights"]:
        return (
            f"a step's activations do not fit {gpus}x {gpu.name} beside the weights: short by "
            f"{show_bytes(-budget.kv_cache)} per GPU before any KV cache; take a smaller max_num_seqs=N or "
            "max_num_batched_tokens=N, or add GPUs"
        )
    if budget.kv_cache < 0:
        lighter = " or use weights=fp8" if budget.held.total > MORE_THAN_FP8 * budget.held.model.parameters else ""
        return (
            f"the weights do not fit {gpus}x {gpu.name}: short by {show_bytes(-budget.kv_cache)} per GPU before any "
            f"KV cache; add GPUs{lighter}"
        )
    if short > 0:
        return (
            f"one sequence of {show_tokens(length)} does not fit {gpus}x {gpu.name}: "
            f"short by {show_bytes(short)} per GPU; add GPUs, shorten the context, or use kv_dtype=fp8"
        )
    most, slots = budget.deployment.limits[0], budget.paging.slots(budget.kv_cache)
    engine = budget.deployment.engine
    if engine.needs_slots and budget.paging.stateful and most > slots:
        return (
            f"the engine does not start: max_num_seqs={most} exceeds the {slots:,} pages of recurrent states "
            f"({engine.title} {engine.version}); use max_num_seqs={slots}"
        )
    held = budget.sequences(ask.context)
    if held < ask.batch:
        holds = "which holds" if gpus == 1 else "which hold"
        return (
            f"{ask.batch:,} sequences of {show_tokens(ask.context)} do not fit {gpus}x {gpu.name}, {holds} {held:,}; "
            "add GPUs, or use kv_dtype=fp8"
        )
    return ""
