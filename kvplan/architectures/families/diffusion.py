"""Models that write by diffusion: LLaDA and Dream fill masked places of the whole answer, SDAR of one block at a time.

LLaDA's and Dream's own code reads all places at every step and keeps no KV cache; engines that cache blocks keep one of
the decoder's shape, which is what is counted and said.
"""

from dataclasses import replace

from kvplan.architectures.attention import uniform
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family

#: what is said of a model whose own code keeps nothing
NOTE = (
    "it writes by diffusion and its own code keeps no KV cache: what an engine that caches finished blocks keeps is "
    "counted"
)


@family("llada")
def llada(c: Config) -> Body:
    """Read LLaDA: Llama's blocks under OLMo's names (arXiv 2502.09992)."""
    bias = c.flag("include_bias")
    inner = c.size("mlp_hidden_size", 4 * c.size("hidden_size"))
    body = plain(c, *uniform(c), qkv_bias=bias or c.flag("include_qkv_bias"), o_bias=bias, mlp_bias=bias, inner=inner)
    return replace(body, notes=(NOTE,))


@family("Dream")
def dream(c: Config) -> Body:
    """Read Dream: Qwen2.5's blocks (arXiv 2508.15487)."""
    return replace(plain(c, *uniform(c), qkv_bias=True), notes=(NOTE,))


@family("sdar")
def sdar(c: Config) -> Body:
    """Read SDAR: Qwen3's blocks, whose finished blocks are cached (arXiv 2510.06303)."""
    return plain(c, *uniform(c), qk_norm="head")
