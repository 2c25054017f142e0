"""Aria's language model."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("aria_text")
def aria(c: Config) -> Body:
    """Read Aria's language model: experts in every layer, and shared ones that are as wide as several of them."""
    hidden, inner, bias = c.size("hidden_size"), c.size("intermediate_size"), c.flag("attention_bias")
    shared = inner * c.size("moe_num_shared_experts", 2, low=0)
    experts = moe(c, hidden, inner, shared=shared, shared_bias=c.flag("mlp_bias"))
    return sparse(c, *full(c), always, experts, qkv_bias=bias, o_bias=bias)
