"""ERNIE 4.5, dense and with experts."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain, sparse
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, layer_count, vector
from kvplan.architectures.registry import family


@family("ernie4_5")
def ernie(c: Config) -> Body:
    """Read dense ERNIE 4.5: one switch for all biases."""
    bias = c.flag("use_bias")
    return plain(c, *full(c), qkv_bias=bias, o_bias=bias, mlp_bias=bias)


@family("ernie4_5_moe")
def ernie_moe(c: Config) -> Body:
    """Read ERNIE 4.5 MoE: experts from a first to a last layer at an interval, shared ones among them."""
    hidden, bias, count = c.size("hidden_size"), c.flag("use_bias"), layer_count(c)
    first, step = c.size("moe_layer_start_index", 1, low=0), c.size("moe_layer_interval", 1)
    last = c.optional("moe_layer_end_index")
    inner = c.size("moe_intermediate_size")
    experts = (
        *moe(c, hidden, inner, shared=inner * c.size("moe_num_shared_experts", 0, low=0), shared_bias=bias),
        vector("mlp.gate.correction", c.size("num_experts")),
    )

    def is_moe(i: int) -> bool:
        return (i + 1) % step == 0 and first <= i <= (count - 1 if last is None else last)

    return sparse(
        c,
        *full(c),
        is_moe,
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        head_bias=bias,
    )
