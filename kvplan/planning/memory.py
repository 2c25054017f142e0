"""`kvplan memory`: weights, cache by layer, and what a GPU's memory is divided into."""

from dataclasses import dataclass, replace

from kvplan.errors import Incompatible
from kvplan.kv import techniques
from kvplan.kv.budget import Budget, Parallel, check_parallel, memory_budget, weights
from kvplan.kv.engine import Paging, paging
from kvplan.kv.layout import ATTENTION_KINDS, Keep, KVLayout, kv_layout
from kvplan.planning.estimate import default_kv_bits
from kvplan.specs.hardware import Engine, Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.reader import DTYPE_BITS
from kvplan.units import show_bytes, show_tokens

LAYOUTS = ("architecture", "engine", "transformers")
KV_DTYPES = ("bf16", "fp16", "fp32", "fp8", "int8", "int4")


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """One cache of one layer, for the whole batch. [B]"""

    layer: int
    kind: str
    tokens: int
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A model's memory at one context and batch, in one reading. Bytes are of the whole replica and batch."""

    parameters: int
    active_parameters: float
    weight_bytes: float
    layout: KVLayout
    reading: str
    context: int
    batch: int
    per_layer: tuple[LayerCache, ...]
    padding: float
    bytes_per_token: float
    budget: Budget | None
    reason: str = ""

    def sum(self, *kinds: str) -> float:
        return sum(c.bytes for c in self.per_layer if c.kind in kinds)

    @property
    def attention(self) -> float:
        return self.sum(*ATTENTION_KINDS)

    @property
    def total(self) -> float:
        return sum(c.bytes for c in self.per_layer) + self.padding


def cache_layout(
    model: ModelSpec, technique: str, kv_dtype: str | None, reading: str, encoder_tokens: int | None = None
) -> KVLayout:
    """Return the model's layout under a technique; `kv_dtype` is a technique too where it needs scales."""
    hugging = reading == "transformers"
    bits = DTYPE_BITS[model.dtype] if hugging else default_kv_bits(model)
    bits = {"bf16": 16.0, "fp16": 16.0, "fp32": 32.0, None: bits}.get(kv_dtype, min(bits, 16.0) if bits > 8 else 16.0)
    layout = kv_layout(model, bits, reading="transformers" if hugging else "architecture")
    if encoder_tokens is not None:
        layout = layout.each(lambda g: replace(g, keep=Keep(fixed=encoder_tokens)) if g.kind == "cross" else g)
    wanted = technique
    if kv_dtype in techniques.KINDS:
        if any(kind.factor == "bits" for kind, _ in techniques.parts(technique)):
            raise Incompatible(
                f"--kv-dtype {kv_dtype} and --technique {technique} both set the width of elements; keep one"
            )
        wanted = techniques.canonical(f"{technique}+{kv_dtype}" if techniques.parts(technique) else kv_dtype)
    return techniques.apply(wanted, layout)


def memory(
    model: ModelSpec,
    *,
    context: int,
    batch: int = 1,
    technique: str = techniques.BASELINE,
    kv_dtype: str | None = None,
    reading: str = "architecture",
    encoder_tokens: int | None = None,
    engine: Engine,
    gpu: Gpu | None = None,
    parallel: Parallel | None = None,
    wanted: str | None = None,
    utilization: float | None = None,
    max_model_len: int | None = None,
    block_size: int | None = None,
    sequences: int | None = None,
    tokens: int | None = None,
) -> Memory:
    """Return what a model holds at one context and batch; with a GPU, also how its memory is divided."""
    parallel = parallel or Parallel()
    refusal = check_parallel(model, parallel)
    if refusal:
        raise Incompatible(refusal)
    layout = cache_layout(model, technique, kv_dtype, reading, encoder_tokens)
    held = weights(model, wanted)
    pages = paging(layout, engine, gpu, tensor_parallel=parallel.tensor, block_size=block_size, prefill_tokens=tokens)
    if reading == "engine":
        rows, total = reserved_rows(pages, context, batch * parallel.tensor)
        growth = (pages.reserved(context + 4096) - pages.reserved(context)) / 4096 * parallel.tensor
    else:
        rows = tuple(
            LayerCache(layer=i, kind=kind, tokens=kept, bytes=size * batch)
            for i, kind, kept, size in layout.per_layer(context)
        )
        total, growth = sum(r.bytes for r in rows), layout.growth(context)
    budget, reason = None, ""
    if gpu is not None:
        length = max_model_len or context
        budget = memory_budget(
            model,
            layout
            if reading != "transformers"
            else cache_layout(model, technique, kv_dtype, "architecture", encoder_tokens),
            gpu,
            engine,
            parallel=parallel,
            wanted=wanted,
            length=length,
            utilization=utilization,
            block_size=block_size,
            sequences=sequences,
            tokens=tokens,
        )
        reason = fits(budget, length, gpu, parallel)
    return Memory(
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        weight_bytes=held.total + layout.parameters * 2,
        layout=layout,
        reading=reading,
        context=context,
        batch=batch,
        per_layer=rows,
        padding=total - sum(r.bytes for r in rows),
        bytes_per_token=growth,
        budget=budget,
        reason=reason,
    )


def reserved_rows(pages: Paging, context: int, copies: int) -> tuple[tuple[LayerCache, ...], float]:
    """Return what each layer's pages take on `copies` GPUs, and the total with padding layers."""
    alone = len(pages.specs) == 1  # one block table for all layers, each with its own page size
    rows = []
    for index, (group, page) in enumerate(pages.pages):
        blocks = pages.blocks(context) if alone else pages.spec_blocks(pages.specs[index], context)
        rows += [
            LayerCache(layer=i, kind=group.kind, tokens=group.keep.tokens(context), bytes=blocks * page * copies)
            for i in group.layers
        ]
    return tuple(sorted(rows, key=lambda r: r.layer)), pages.reserved(context) * copies


def fits(budget: Budget, length: int, gpu: Gpu, parallel: Parallel) -> str:
    """Return why one sequence does not fit, '' when it does."""
    short = budget.shortfall(length)
    if short <= 0:
        return ""
    if budget.kv_cache <= 0:
        return (
            f"the weights do not fit {parallel.gpus}x {gpu.name}: "
            f"short by {show_bytes(short)} per GPU before any cache; add GPUs (--tp) or use --weights fp8"
        )
    return (
        f"one sequence of {show_tokens(length)} does not fit {parallel.gpus}x {gpu.name}: "
        f"short by {show_bytes(short)} per GPU; add GPUs (--tp), shorten it, or use --kv-dtype fp8"
    )
