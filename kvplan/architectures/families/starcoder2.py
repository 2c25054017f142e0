"""StarCoder 2."""

from kvplan.architectures.attention import uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("starcoder2")
def starcoder2(c: Config) -> Body:
    """Read StarCoder 2: biases everywhere and a feed-forward of two matrices."""
    bias = c.flag("use_bias", True)
    return plain(c, *uniform(c), qkv_bias=bias, o_bias=bias, mlp_bias=bias, gated=False, norm=2)
