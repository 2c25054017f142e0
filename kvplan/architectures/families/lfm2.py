"""LFM2."""

from kvplan.architectures.attention import attends, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
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
