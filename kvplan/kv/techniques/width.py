"""Techniques that store narrower vectors: a low-rank latent of keys and values."""

import re
from dataclasses import dataclass, replace

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.techniques.technique import ANY, Speed, has_heads, paper, require_groups, technique

#: width of the decoupled rotary part an absorbed latent carries beside it
#: (DeepSeek-V2, arXiv 2405.04434, section 2.1.3)
ROPE_PART = 64
FORMS = ("absorbed", "fused", "reconstruct")
#: heads that share a latent where none is named: Palu's G-LRD, whose latents tensor parallelism can divide
GROUPED = 4
JOINT = "joint"

#: Palu's kernel took 0.53 to 0.59 of plain attention (Llama-2-7B, RTX 4090, 64k tokens), where 0.95 is expected: its
#: products are counted at the rate of 32-bit accumulation, a half of that of 16 bits on such GPUs
REBUILT = Speed(low=0.5, high=1.4)
#: a number this small is taken for a forgotten x or %
SMALLEST_RANK = 16


@dataclass(frozen=True)
class Latents:
    """What a spelling of MHC says: how narrow, how many heads a latent serves, and how it is read."""

    size: str  #: 4x, or elements per token and layer
    heads: int | None = GROUPED  #: key/value heads that share a latent, None for all
    form: str = ""  #: one of FORMS, '' for the model's own

    def groups(self, g: Group) -> int:
        """Return the latents a layer stores: for each run of `heads` key/value heads, or of fewer that divide them."""
        most = g.vectors if self.heads is None else min(self.heads, g.vectors)
        return g.vectors // max(n for n in range(1, most + 1) if g.vectors % n == 0)

    def rank(self, g: Group) -> float:
        """Return the elements of one latent per token."""
        elements = g.vectors * g.width
        total = elements / float(self.size[:-1]) if self.size.endswith("x") else float(self.size)
        return total / self.groups(g)

    def rotates_apart(self, g: Group) -> bool:
        """Whether one rotated key of all heads stands beside several absorbed latents, whole on every rank."""
        return g.rope and self.read_as(g) == "absorbed" and self.groups(g) > 1

    def read_as(self, g: Group) -> str:
        """Return how a latent is read where no form was named: rotated keys cannot be absorbed."""
        return self.form or ("fused" if g.rope else "absorbed")


def spelled(argument: str) -> Latents:
    """Return what follows `mhc:`; UnknownName says what to write."""
    size, *options = argument.split(":")
    heads = [o for o in options if o == JOINT or re.fullmatch(r"g[1-9]\d{0,3}", o, re.ASCII)]
    forms = [o for o in options if o in FORMS]
    sized = re.fullmatch(r"([1-9]\d{0,2}(\.\d{1,3})?x|[1-9]\d{0,5})", size, re.ASCII)
    if not sized or len(heads) > 1 or len(forms) > 1 or len(heads) + len(forms) < len(options):
        raise UnknownName(
            "technique",
            f"mhc:{argument}",
            ["mhc:4x", "mhc:8x", "mhc:512", "mhc:4x:g4", "mhc:4x:joint", *(f"mhc:4x:{f}" for f in FORMS)],
            "write mhc:4x, mhc:8x, mhc:512, mhc:4x:g1, mhc:4x:joint or mhc:4x:absorbed",
        )
    if size.isdigit() and int(size) <= SMALLEST_RANK:
        raise UnknownName("technique", f"mhc:{argument}", [f"mhc:{size}x"])
    shared = None if heads == [JOINT] else int(heads[0][1:]) if heads else GROUPED
    return Latents(size, shared, forms[0] if forms else "")


@technique(
    "mhc",
    spelling="mhc:4x|8x|RANK[:gN|joint][:absorbed|fused|reconstruct]",
    title="MHC (latent KV)",
    factor="width",
    example="mhc:4x",
    implied=f":g{GROUPED}",
    heals=6e9,  # TransMLA: on par after 6 billion tokens (Llama-2-7B, 7 % of the cache)
    granularity="whole model",
    needs="low-rank factors (SVD) and fine-tuning on some billion tokens",
    risk="fine-tune first",
    quality="LongBench retained 0.98 to 1.00 at a quarter to a half after distillation (X-EcoMLA, 1B and 3B), MMLU "
    "0.88 to 0.93 at 11 to 16 % (8B); untrained, Palu's latents of 4 heads keep 0.95 of short tasks at a half (8B)",
    compared=("mhc:4x", "mhc:8x"),
    searched=("mhc:2x", "mhc:4x", "mhc:8x"),
    speed={ANY: REBUILT},
    source=paper("Palu, arXiv 2407.21118; MHA2MLA, arXiv 2502.14837; X-EcoMLA, arXiv 2503.11132", "2024-07-30"),
)
def mhc(layout: KVLayout, argument: str) -> KVLayout:
    """Keep keys and values as learned low-rank latents, one for every 4 heads, 2x to 8x narrower.

    g4: a latent per 4 key/value heads, which tensor parallelism divides; g1: one per head; joint: one for all heads,
    which every rank stores whole, as with MLA. absorbed: attention on the latent itself, its up-projections folded into
    q and o; rotated keys need 64 more elements. fused: keys rebuilt tile by tile inside the kernel, values absorbed.
    reconstruct: both rebuilt in memory, then plain attention. Costs per cached token: docs/techniques.md.
    """
    how = spelled(argument)
    if any(g.kind == "latent" and g.count for g in layout.groups):
        raise Incompatible(
            f"mhc:{argument}: this model already caches a latent (MLA); it can go narrower only by retraining. "
            "Combine it with fp8, int8 or h2o instead"
        )
    require_groups(layout, has_heads, f"mhc:{argument}: this model stores no key/value heads to compress")
    extra = sum(g.count * added_parameters(g, how) for g in layout.groups if has_heads(g))
    changed = layout.each(lambda g: latent_group(g, how, argument) if has_heads(g) else g)
    keys = tuple(rotary_group(g, how) for g in layout.groups if has_heads(g) and how.rotates_apart(g))
    return replace(changed, groups=(*changed.groups, *keys), parameters=layout.parameters + extra)


def added_parameters(g: Group, how: Latents) -> float:
    """Return the up-projections one layer gains; the down-projections take the place of k_proj and v_proj.

    Absorbed, keys and values share one latent; in the other forms each has half of it.
    """
    return how.rank(g) * g.vectors * g.width / (1 if how.read_as(g) == "absorbed" else 2)


def latent_group(g: Group, how: Latents, argument: str) -> Group:
    """Return the group after compression, with the extra work its form costs per cached token.

    A latent of rank r serves g.vectors / latents heads. Rebuilding is a dense product and so runs at its rate; what
    every query head does with latents is part of attention.
    """
    rank, full, latents = how.rank(g), g.vectors * g.width, how.groups(g)
    if not 1 <= rank < full / latents:
        raise Incompatible(
            f"mhc:{argument}: rank {rank * latents:g} must be from {latents} to below the {full:g} elements a layer "
            "stores per token; write mhc:4x"
        )
    form = how.read_as(g)
    keys, values = g.key_width, g.width - g.key_width
    per_head = 2.0 * g.query_heads
    rope = ROPE_PART if form == "absorbed" and g.rope and latents == 1 else 0
    flops, rebuilds, rereads = {
        "absorbed": (per_head * (2 * rank + rope), 0.0, 0.0),
        "fused": (per_head * (keys + rank / 2), rank * g.vectors * keys, 0.0),
        "reconstruct": (per_head * (keys + values), rank * full, 2 * full * g.bits / 8),
    }[form]
    return replace(
        g,
        vectors=latents,
        split=latents,
        width=rank + rope,
        key_width=rank + rope if form == "absorbed" else rank / 2,
        flops=flops,
        rebuilds=rebuilds,
        rereads=rereads,
        before=replace(g, before=None),
    )


def rotary_group(g: Group, how: Latents) -> Group:
    """Return the rotated key beside a layer's absorbed latents: one for all heads, as in MLA."""
    width = float(ROPE_PART)
    return replace(
        g, vectors=1, split=1, width=width, key_width=width, flops=2.0 * g.query_heads * width, pair_flops=0.0
    )
