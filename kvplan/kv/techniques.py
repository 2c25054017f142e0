"""Every technique: one function from a cache layout to a cache layout, and what it says of itself.

Adding a technique is one `@technique(...)` function here; spelling, help, listing and the general tests follow.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from kvplan.docstrings import summary
from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import Group, Keep, KVLayout
from kvplan.specs.source import Source
from kvplan.units import parse_tokens

Apply = Callable[[KVLayout, str], KVLayout]


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A family of techniques: how it is written, the factor it acts on, and its fine print."""

    name: str  #: what its spellings begin with
    spelling: str  #: pattern of its spellings, 'h2o:P%|N'
    title: str  #: as reports print it
    factor: str  #: of the five, the one it acts on; two that act on the same one exclude each other
    example: str  #: a spelling
    granularity: str  #: smallest thing it drops or rounds, and what that means for pages
    needs: str  #: of the model, the engine or a kernel
    quality: str  #: what is published of its accuracy
    risk: str  #: the same in a few words
    engines: tuple[str, ...]  #: those that serve it today
    retained: tuple[tuple[float, float], ...]  #: published (share of tokens kept, share of LongBench retained), of 1
    compared: tuple[str, ...]  #: spellings that `estimate` shows when none is named
    searched: tuple[str, ...]  #: spellings that `recommend` tries when none is named
    source: Source  #: its paper
    summary: str  #: what it does, in one line
    apply: Apply  #: (layout, what follows the name) -> layout


TECHNIQUES: dict[str, Technique] = {}


def technique(
    name: str,
    *,
    spelling: str,
    title: str,
    factor: str,
    example: str,
    granularity: str,
    needs: str,
    quality: str,
    risk: str,
    source: Source,
    engines: tuple[str, ...] = (),
    retained: tuple[tuple[float, float], ...] = (),
    compared: tuple[str, ...] = (),
    searched: tuple[str, ...] = (),
) -> Callable[[Apply], Apply]:
    """Register a technique; the arguments are the fields of Technique."""

    def register(apply: Apply) -> Apply:
        TECHNIQUES[name] = Technique(
            name=name,
            spelling=spelling,
            title=title,
            factor=factor,
            example=example,
            granularity=granularity,
            needs=needs,
            quality=quality,
            risk=risk,
            engines=engines,
            retained=retained,
            compared=compared,
            searched=searched or compared,
            source=source,
            summary=summary(apply),
            apply=apply,
        )
        return apply

    return register


def paper(title: str, date: str) -> Source:
    """Return a paper as a source; `date` is that of its first version."""
    return Source(kind="paper", ref=title, date=date)


def require_groups(layout: KVLayout, suits: Callable[[Group], bool], refusal: str) -> None:
    """Refuse when no group of the layout is one the technique can act on."""
    if not any(g.count and suits(g) for g in layout.groups):
        raise Incompatible(refusal)


def has_heads(g: Group) -> bool:
    """Whether the layers store keys and values per head, which a latent and a state do not."""
    return g.kind in ("full", "sliding", "chunked") and g.vectors > 0


# -- heads ----------------------------------------------------------------------------------------


def shared_heads(layout: KVLayout, heads: int, spelled: str) -> KVLayout:
    """Keep `heads` key/value heads per layer."""
    require_groups(
        layout, has_heads, f"{spelled}: this model stores no key/value heads (its cache is a latent or a state)"
    )
    most = max(g.vectors for g in layout.groups if has_heads(g))
    if heads >= most:
        raise Incompatible(
            f"{spelled}: this model already shares keys and values down to {most} heads; "
            f"write gqa:N with N below {most}"
        )
    for g in layout.groups:
        if has_heads(g) and heads < g.vectors and g.vectors % heads:
            near = max(n for n in range(1, heads + 1) if g.vectors % n == 0)
            raise Incompatible(
                f"{spelled}: {heads} does not divide this model's {g.vectors} key/value heads; write gqa:{near}"
            )
    return layout.each(lambda g: replace(g, vectors=heads, split=heads) if has_heads(g) and g.vectors > heads else g)


@technique(
    "gqa",
    spelling="gqa:N",
    title="GQA",
    factor="heads",
    example="gqa:8",
    granularity="whole model",
    needs="uptraining on about 5 % of pre-training tokens",
    risk="uptrain first",
    quality="MHA to GQA-8: 0.1 point (T5-XXL, uptrained) to 4 MMLU points (7B from scratch)",
    source=paper("GQA, arXiv 2305.13245, Table 1", "2023-05-22"),
)
def gqa(layout: KVLayout, argument: str) -> KVLayout:
    """Share keys and values between query heads: N key/value heads per layer."""
    if not re.fullmatch(r"[1-9]\d{0,4}", argument, re.ASCII):
        raise UnknownName(
            "technique", f"gqa:{argument}", ["gqa:8"], "write gqa:N with a number of key/value heads, as in gqa:8"
        )
    return shared_heads(layout, int(argument), f"gqa:{argument}")


@technique(
    "mqa",
    spelling="mqa",
    title="MQA",
    factor="heads",
    example="mqa",
    granularity="whole model",
    needs="uptraining on about 5 % of pre-training tokens",
    risk="uptrain first",
    quality="MHA to MQA: 0.6 point (T5-XXL, uptrained) to 7 MMLU points (7B from scratch)",
    source=paper("MQA, arXiv 1911.02150; GQA, arXiv 2305.13245, Table 1", "2019-11-06"),
)
def mqa(layout: KVLayout, argument: str) -> KVLayout:
    """Keep one key/value head per layer, shared by all query heads."""
    return shared_heads(layout, 1, "mqa")


# -- width ----------------------------------------------------------------------------------------

#: width of the decoupled rotary part an absorbed latent carries beside it
#: (DeepSeek-V2, arXiv 2405.04434, section 2.1.3)
ROPE_PART = 64
FORMS = ("absorbed", "fused", "reconstruct")
#: a number this small is taken for a forgotten x or %
SMALLEST_RANK = 16
SMALLEST_BUDGET = 100


@technique(
    "mhc",
    spelling="mhc:4x|8x|RANK[:absorbed|fused|reconstruct]",
    title="MHC (latent KV)",
    factor="width",
    example="mhc:4x",
    granularity="whole model",
    needs="low-rank factors (SVD) and, for most models, fine-tuning",
    risk="fine-tune first",
    quality="MLA retrofits: LongBench -0.5 % after fine-tuning (Llama-2-7B); untuned ones break",
    compared=("mhc:4x", "mhc:8x"),
    searched=("mhc:2x", "mhc:4x", "mhc:8x"),
    source=paper("Palu, arXiv 2407.21118; MHA2MLA, arXiv 2502.14837", "2024-07-30"),
)
def mhc(layout: KVLayout, argument: str) -> KVLayout:
    """Keep keys and values as a learned low-rank latent, 4x to 8x narrower.

    absorbed: attention on the latent itself, its up-projections folded into q and o; rotated keys need 64 more
    elements. fused: keys rebuilt tile by tile inside the kernel, values absorbed. reconstruct: both rebuilt in
    memory, then plain attention. Costs per cached token: docs/techniques.md. One latent serves all heads, so every
    tensor-parallel rank stores it whole, as with MLA.
    """
    size, _, form = argument.partition(":")
    if not re.fullmatch(r"([1-9]\d{0,2}(\.\d{1,3})?x|[1-9]\d{0,5})", size, re.ASCII) or (form and form not in FORMS):
        raise UnknownName(
            "technique",
            f"mhc:{argument}",
            ["mhc:4x", "mhc:8x", "mhc:512", *(f"mhc:4x:{f}" for f in FORMS)],
            "write mhc:4x, mhc:8x, mhc:512 or mhc:4x:absorbed",
        )
    if any(g.kind == "latent" and g.count for g in layout.groups):
        raise Incompatible(
            f"mhc:{argument}: this model already caches a latent (MLA); it can go narrower only by retraining. "
            "Combine it with fp8, int8 or h2o instead"
        )
    require_groups(layout, has_heads, f"mhc:{argument}: this model stores no key/value heads to compress")
    if size.isdigit() and int(size) <= SMALLEST_RANK:
        raise UnknownName("technique", f"mhc:{argument}", [f"mhc:{size}x"])
    extra = sum(g.count * added_parameters(g, size, form) for g in layout.groups if has_heads(g))
    return replace(
        layout.each(lambda g: latent_group(g, size, form, argument) if has_heads(g) else g),
        parameters=layout.parameters + extra,
    )


def latent_rank(g: Group, size: str) -> float:
    """Return the elements of the latent that '4x' or a rank stands for, per token and layer."""
    elements = g.vectors * g.width
    return elements / float(size[:-1]) if size.endswith("x") else float(size)


def added_parameters(g: Group, size: str, form: str) -> float:
    """Return the up-projections one layer gains; the down-projections take the place of k_proj and v_proj.

    Absorbed, keys and values share one latent; in the other forms each has half of it.
    """
    joint = (form or default_form(g)) == "absorbed"
    return latent_rank(g, size) * g.vectors * g.width / (1 if joint else 2)


def default_form(g: Group) -> str:
    """Return how a latent is read where no form was named: rotated keys cannot be absorbed."""
    return "fused" if g.rope else "absorbed"


def latent_group(g: Group, size: str, form: str, argument: str) -> Group:
    """Return the group after compression, with the extra work its form costs per cached token."""
    rank, full = latent_rank(g, size), g.vectors * g.width
    if not 1 <= rank < full:
        raise Incompatible(
            f"mhc:{argument}: rank {rank:g} must be from 1 to below the {full:g} elements a layer stores per token; "
            "write mhc:4x"
        )
    form = form or default_form(g)
    keys, values = g.key_width, g.width - g.key_width
    per_head = 2.0 * g.query_heads
    rope = ROPE_PART if form == "absorbed" and g.rope else 0
    flops, rereads = {
        "absorbed": (per_head * (2 * rank + rope), 0.0),
        "fused": (rank * g.vectors * keys + per_head * (keys + rank / 2), 0.0),
        "reconstruct": (rank * full + per_head * (keys + values), 2 * full * g.bits / 8),
    }[form]
    return replace(
        g,
        vectors=1,
        split=1,
        width=rank + rope,
        key_width=rank + rope if form == "absorbed" else rank / 2,
        flops=flops,
        rereads=rereads,
        before=replace(g, before=None),
    )


# -- bits -----------------------------------------------------------------------------------------

#: elements that share one bf16 scale and one bf16 zero point in int8 and int4 caches (quanto, hqq)
GROUP = 64


def quantised(layout: KVLayout, bits: float, spelled: str, group: int = 0) -> KVLayout:
    """Store elements in `bits`, with 32 bits of scale and zero point per `group` elements of a key or a value."""
    require_groups(
        layout, lambda g: g.token_bytes > 0, f"{spelled}: this model stores no keys and values, only a recurrent state"
    )

    def change(g: Group) -> Group:
        if not g.vectors:
            return g
        if g.bits <= bits:
            raise Incompatible(f"{spelled}: the cache is already stored in {g.bits:g} bits")
        groups = g.vectors * (ceil(g.key_width / group) + ceil((g.width - g.key_width) / group)) if group else 0
        alone = change(g.alone) if g.alone is not None else None
        return replace(g, bits=bits, side=g.side + groups * 32 / 8, alone=alone)

    return layout.each(change)


@technique(
    "fp8",
    spelling="fp8",
    title="fp8",
    factor="bits",
    example="fp8",
    granularity="element",
    needs="nothing (one scale per tensor)",
    risk="small",
    engines=("vLLM", "SGLang", "TensorRT-LLM"),
    quality="no published figure in kvplan's sources; 4-bit caches retain 0.97 to 1.00 of LongBench",
    compared=("fp8",),
    source=paper("FP8 Formats for Deep Learning, arXiv 2209.05433", "2022-09-12"),
)
def fp8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit floats, one scale per tensor."""
    return quantised(layout, 8.0, "fp8")


@technique(
    "int8",
    spelling="int8",
    title="int8",
    factor="bits",
    example="int8",
    granularity="group of 64 elements",
    needs="nothing",
    risk="small",
    engines=("TensorRT-LLM", "LMDeploy"),
    quality="no published figure in kvplan's sources; 4-bit caches retain 0.97 to 1.00 of LongBench",
    searched=("int8",),
    source=paper("KIVI, arXiv 2402.02750; group scales as in quanto and hqq", "2024-02-05"),
)
def int8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit integers with a scale and zero point per 64 elements."""
    return quantised(layout, 8.0, "int8", GROUP)


@technique(
    "int4",
    spelling="int4",
    title="int4",
    factor="bits",
    example="int4",
    granularity="group of 64 elements",
    needs="a kernel that dequantises (slower per byte)",
    risk="0 to 3 % lost",
    engines=("LMDeploy",),
    quality="LongBench retained 1.00 (KIVI-4bit) to 0.97 (per-token keys); 1B models 0.34 with 2-bit values",
    compared=("int4",),
    source=paper(
        "KIVI, arXiv 2402.02750; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527", "2024-02-05"
    ),
)
def int4(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 4-bit integers with a scale and zero point per 64 elements (4.5 bits in all)."""
    return quantised(layout, 4.0, "int4", GROUP)


# -- tokens ---------------------------------------------------------------------------------------


def evicting(
    layout: KVLayout, keep: Callable[[Keep], Keep], spelled: str, *, scores: bool, shareable: bool
) -> KVLayout:
    """Keep part of the tokens of every layer that stores the sequence's own."""
    require_groups(
        layout,
        lambda g: g.kind in ("full", "sliding", "chunked", "latent") and g.token_bytes > 0,
        f"{spelled}: this model keeps no tokens to evict, only a recurrent state",
    )

    def change(g: Group) -> Group:
        if g.kind not in ("full", "sliding", "chunked", "latent", "index") or not g.token_bytes:
            return g
        changed = replace(g, keep=keep(g.keep), shareable=shareable, before=replace(g.before or g, before=None))
        if not scores or g.kind == "index":
            return changed
        heads = g.split
        return replace(
            changed,
            alone=g,
            side=g.side + 4 * heads,
            rereads=g.rereads + 4 * heads + 4 * g.query_heads,
            flops=g.flops + 2 * g.query_heads,
        )

    return layout.each(change)


@technique(
    "h2o",
    spelling="h2o:P%|N",
    title="H2O",
    factor="tokens",
    example="h2o:20%",
    granularity="token per KV head: a paged cache frees nothing until a whole block is empty",
    needs="a kernel that also returns scores; a compacting cache",
    risk="drops tokens",
    retained=((0.125, 0.963), (1 / 6, 0.969), (0.25, 0.976), (0.5, 0.991)),
    quality="LongBench retained 0.99 at 50 %, 0.98 at 25 %, 0.96 at 12.5 % (Llama-3-8B); "
    "poor where any token may be asked for",
    compared=("h2o:20%",),
    searched=("h2o:50%", "h2o:20%"),
    source=paper(
        "H2O, arXiv 2306.14048; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527", "2023-06-24"
    ),
)
def h2o(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the heavy hitters and the most recent tokens: P per cent of the sequence, or N tokens.

    Stores one fp32 score per token and KV head and adds it up every step (4 bytes read and 4 written, and the fp16
    logits of each query head written and read), scores the prompt with a second pass over the keys (half of
    attention again), and holds one layer's whole prompt until it is evicted.
    """
    share, budget = None, None
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)%", argument, re.ASCII)
    if match and 0 < Fraction(match[1]) <= 100:
        share = Fraction(match[1]) / 100
    elif re.fullmatch(r"\d[\d,]*[kK]?", argument, re.ASCII) and int(re.sub(r"[,kK]", "", argument)) > 0:
        budget = parse_tokens(argument, "h2o")
        if budget <= SMALLEST_BUDGET:
            raise UnknownName("technique", f"h2o:{argument}", [f"h2o:{budget}%"])
    else:
        raise UnknownName("technique", f"h2o:{argument}", ["h2o:20%", "h2o:4096"], "write h2o:20% or h2o:4096")
    changed = evicting(
        layout,
        lambda k: replace(k, share=share, budget=budget, per_head=True),
        f"h2o:{argument}",
        scores=True,
        shareable=False,
    )
    return replace(changed, prefill_flops=layout.prefill_flops * 1.5)


@technique(
    "streaming",
    spelling="streaming:S,W",
    title="StreamingLLM",
    factor="tokens",
    example="streaming:4,4096",
    granularity="token, the same for all heads: a ring buffer frees whole blocks",
    needs="a ring buffer; positions inside the cache",
    risk="drops tokens",
    engines=("TensorRT-LLM",),
    retained=((0.125, 0.669), (0.25, 0.747), (0.5, 0.817)),
    quality="LongBench retained 0.82 at 50 %, 0.75 at 25 % (Llama-3-8B); "
    "never for retrieval: what left the window is gone",
    compared=("streaming:4,4096",),
    source=paper(
        "StreamingLLM, arXiv 2309.17453; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527",
        "2023-09-29",
    ),
)
def streaming(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the first S tokens (attention sinks) and the last W."""
    match = re.fullmatch(r"(\d{1,7}),(\d{1,9}[kK]?)", argument, re.ASCII)
    if not match or int(re.sub(r"[kK]", "", match[2])) == 0:
        raise UnknownName(
            "technique",
            f"streaming:{argument}",
            ["streaming:4,4096"],
            "write streaming:S,W with sinks and a window, as in streaming:4,4096",
        )
    budget = int(match[1]) + parse_tokens(match[2], "streaming")
    return evicting(layout, lambda k: replace(k, budget=budget), f"streaming:{argument}", scores=False, shareable=False)


@technique(
    "window",
    spelling="window:W",
    title="sliding window",
    factor="tokens",
    example="window:4096",
    granularity="token, the same for all heads: whole blocks are freed",
    needs="a model trained with a window",
    risk="drops tokens, loss unknown",
    quality="unknown for a model trained without one; "
    "perplexity collapses once the first tokens leave (StreamingLLM, section 3)",
    source=paper("Longformer, arXiv 2004.05150; Mistral 7B, arXiv 2310.06825", "2020-04-10"),
)
def window(layout: KVLayout, argument: str) -> KVLayout:
    """Keep the last W tokens."""
    if not re.fullmatch(r"[1-9][\d,]{0,10}[kK]?", argument, re.ASCII):
        raise UnknownName(
            "technique",
            f"window:{argument}",
            ["window:4096"],
            "write window:W with a number of tokens, as in window:4096",
        )
    budget = parse_tokens(argument, "window")
    return evicting(layout, lambda k: replace(k, budget=budget), f"window:{argument}", scores=False, shareable=False)
