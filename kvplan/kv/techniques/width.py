"""Techniques that store narrower vectors: a low-rank latent of keys and values."""

import re
from dataclasses import replace

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.techniques.technique import has_heads, paper, require_groups, technique

#: width of the decoupled rotary part an absorbed latent carries beside it
#: (DeepSeek-V2, arXiv 2405.04434, section 2.1.3)
ROPE_PART = 64
FORMS = ("absorbed", "fused", "reconstruct")

#: a number this small is taken for a forgotten x or %
SMALLEST_RANK = 16


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
