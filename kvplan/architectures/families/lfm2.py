"""LFM2 and LFM3."""

from collections.abc import Hashable

from kvplan.architectures.attention import attends, attention_weights, gqa, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Recurrent


@family("lfm2", "lfm2_moe")
def lfm2(c: Config) -> Body:
    """LFM2: gated short convolutions with a few attention layers."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    places = c.entries("full_attn_idxs")
    kinds = layer_kinds(c, lambda i: "full" if places is None or i in places else "conv")
    kernel, bias = c.size("conv_L_cache"), c.flag("conv_bias")
    weights = linear("conv.in_proj", 3 * hidden, hidden, split="inner", bias=bias) + linear(
        "conv.out_proj", hidden, hidden, split="inner", bias=bias
    )
    weights += (vector("conv.conv", kernel + bias, hidden),)
    state = Recurrent(name="short convolution", conv_channels=hidden, conv_kernel=kernel, state=0)
    inner = c.size("intermediate_size") if not c.stated("block_ff_dim") else c.size("block_ff_dim")
    if c.model_type == "lfm2" and c.flag("block_auto_adjust_ff_dim", True):
        multiple = c.size("block_multiple_of", 256)
        inner = int(c.real("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
        inner = multiple * -(-inner // multiple)
    dense = mlp(hidden, inner, prefix="feed_forward")
    experts = (
        moe(c, hidden, c.size("moe_intermediate_size"), prefix="feed_forward") if c.model_type == "lfm2_moe" else dense
    )
    first = c.size("num_dense_layers", 0, low=0) if c.model_type == "lfm2_moe" else count
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), qk_norm="head") if k == "full" else ((state,), weights),
        ["moe" if i >= first else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else dense,
    )


@family("lfm3")
def lfm3(c: Config) -> Body:
    """LFM3: short convolutions beside windowed and full attention with a gate a head, norms before and after blocks."""
    hidden, kernel, bias = c.size("hidden_size"), c.size("conv_L_cache"), c.flag("conv_bias")
    kinds = layer_kinds(c, lambda _: "conv")
    attention = windowed(c, kinds)
    state = Recurrent(name="short convolution", conv_channels=hidden, conv_kernel=kernel, state=0)
    conv = (
        linear("conv.in_proj", 3 * hidden, hidden, split="inner", bias=bias)
        + linear("conv.out_proj", hidden, hidden, split="inner", bias=bias)
        + (vector("conv.conv", kernel + bias, hidden),)
    )

    def mix(kind: Hashable) -> Part:
        if kind == "conv":
            return (state,), conv
        a = attention(kind)
        gate = linear("self_attn.g_proj", a.heads, hidden, split="heads") if c.flag("use_attention_gate", True) else ()
        own = c.flag("attention_bias")
        return (a,), attention_weights(hidden, a, qkv_bias=own, o_bias=own, qk_norm="head") + gate

    dense = mlp(hidden, c.size("intermediate_size"), prefix="feed_forward")
    return decoder(
        c, kinds, mix, ["mlp"] * len(kinds), lambda _: dense, norms=4 if c.flag("use_sandwich_norm", True) else 2
    )
