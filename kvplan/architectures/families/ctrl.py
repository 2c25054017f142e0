"""CTRL and XGLM: every head its own key and value, biases and LayerNorms throughout."""

from kvplan.architectures.attention import gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family


@family("ctrl", "xglm")
def ctrl(c: Config) -> Body:
    """Read CTRL, whose head has a bias, and XGLM; positions of both are computed."""
    old = c.model_type == "ctrl"
    a = gqa(c, groups=c.size("num_attention_heads"), rope=False)
    return plain(
        c,
        ["full"] * layer_count(c),
        lambda _: a,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=False,
        norm=2,
        head_bias=old,
        inner=c.size("dff") if old else c.size("intermediate_size"),
    )
