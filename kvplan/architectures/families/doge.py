"""Doge."""

from kvplan.architectures.attention import uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, head_dim, kv_heads
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


@family("doge")
def doge(c: Config) -> Body:
    """Read Doge: dynamic masks made from values, learned residuals, and a window where the config has one."""
    if c.flag("is_moe"):
        raise SpecError(f"{c.place}: kvplan reads Doge without experts only; is_moe is true")
    bias, dim, groups = c.flag("attention_bias"), head_dim(c), kv_heads(c)
    masks = groups + groups * groups * dim
    extra = 2 * c.size("hidden_size") + masks
    return plain(
        c, *uniform(c), qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), qk_norm="head", extra_norm=extra
    )
