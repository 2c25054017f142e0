"""Snowflake Arctic."""

from kvplan.architectures.attention import attends, full
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, decoder, vector
from kvplan.architectures.registry import family


@family("arctic")
def arctic(c: Config) -> Body:
    """Read Arctic: experts beside a dense feed-forward as wide as the model, which has a norm of its own."""
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    kinds, attention = full(c)
    inner, step = c.size("intermediate_size"), c.size("moe_layer_frequency", 2)
    experts = moe(c, hidden, inner)
    if c.flag("parallel_attn_mlp_res"):
        experts += (*mlp(hidden, hidden, prefix="residual_mlp"), vector("residual_layernorm", hidden))
    dense = mlp(hidden, inner)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, attention(k), bias),
        ["moe" if (i + 1) % step == 0 else "mlp" for i in range(len(kinds))],
        lambda block: experts if block == "moe" else dense,
    )
