"""Inkling: windows with heads of their own, and four short convolutions a layer, of keys, values and both blocks."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from kvplan.architectures.attention import attention_weights, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Attention, Recurrent, Weight


@family("inkling_text")
def inkling(c: Config) -> Body:
    """Read Inkling: five of six layers see a window, unless local_layer_ids or layer_types say which."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    kinds = layer_kinds(c, local(c, count))
    wide = c.optional("dense_intermediate_size")  # then intermediate_size is the experts'
    inner = c.size("intermediate_size") if wide else c.size("moe_intermediate_size")
    shared = c.size("n_shared_experts", 2, low=0)
    experts = (*moe(c, hidden, inner, shared=inner * shared, idle=shared), vector("mlp.gate.global_scale", 1))
    dense = (*mlp(hidden, wide or c.size("intermediate_size")), vector("mlp.global_scale", 1))
    listed, first = c.per_layer("mlp_layer_types", count), c.optional("dense_mlp_idx") or 0
    sparse = [listed[i] == "sparse" if listed else i >= first for i in range(count)]
    parts = {kind: attention(c, hidden, kind) for kind in set(kinds)}
    return decoder(
        c,
        kinds,
        lambda kind: parts[str(kind)],
        ["moe" if s else "mlp" for s in sparse],
        lambda block: experts if block == "moe" else dense,
        extra=(vector("embed_norm", hidden),),
    )


def local(c: Config, count: int) -> Callable[[int], str]:
    """Return the rule of files without layer_types."""
    listed = c.entries("local_layer_ids")
    near = {c.whole("local_layer_ids", i, 0) for i in listed or []}
    if listed is None:
        near = {i for i in range(count) if (i + 1) % 6}
    return lambda i: "hybrid_sliding" if i in near else "hybrid"


@dataclass(frozen=True, kw_only=True)
class Mixers:
    """What attention of all releases is made of."""

    attention: Attention  #: the heads of the layer's kind
    conv: Recurrent  #: what its convolutions keep
    convolutions: Weight  #: the weights of all four
    narrow: int  #: width of what is projected to relative positions
    reach: int  #: relative positions that are told apart [token]


def parts(c: Config, hidden: int, kind: Hashable) -> Mixers:
    """Return a layer's attention, and its convolutions, whose last inputs are kept."""
    sliding = kind == "hybrid_sliding"
    own = "swa_" if sliding else ""
    heads, groups = c.size(f"{own}num_attention_heads"), c.size(f"{own}num_key_value_heads")
    dim, window = c.size(f"{own}head_dim"), c.size("sliding_window_size", c.get("sliding_window", None))
    kernel, far = c.size("conv_kernel_size", c.get("sconv_kernel_size", None)), c.size("rel_extent", 1024)
    channels = 2 * groups * dim + 2 * hidden
    return Mixers(
        attention=Attention(
            heads=heads, kv_heads=groups, key_dim=dim, value_dim=dim, window=window if sliding else None, rope=False
        ),
        conv=Recurrent(name="conv", conv_channels=channels, conv_kernel=kernel, state=0, conv_bits=32),
        convolutions=Weight(name="convolutions", shape=(channels, kernel), matmul=False),
        narrow=c.size("d_rel", 16),
        reach=window if sliding else far,
    )


def attention(c: Config, hidden: int, kind: Hashable) -> Part:
    """Return a layer's attention and its weights."""
    p = parts(c, hidden, kind)
    weights = attention_weights(hidden, p.attention, qk_norm="head")
    weights += linear("self_attn.r_proj", p.attention.heads * p.narrow, hidden, split="heads")
    weights += (
        Weight(name="self_attn.rel_logits_proj", shape=(p.narrow, p.reach), matmul=False),
        p.convolutions,
    )
    return (p.attention, p.conv), weights
