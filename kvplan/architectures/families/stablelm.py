"""StableLM."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("stablelm")
def stablelm(c: Config) -> Body:
    """Read StableLM: norms with biases, one of them a layer where attention and feed-forward run side by side."""
    return plain(
        c,
        *full(c),
        qkv_bias=c.flag("use_qkv_bias"),
        norms=1 if c.flag("use_parallel_residual") else 2,
        norm=2,
        qk_norm="heads" if c.flag("qk_layernorm") else "",
    )
