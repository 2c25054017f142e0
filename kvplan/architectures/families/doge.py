"""Doge."""

from math import isqrt

from kvplan.architectures.attention import attends, uniform
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, head_dim, kv_heads, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Weight


@family("doge")
def doge(c: Config) -> Body:
    """Read Doge: dynamic masks made from values, learned residuals, and a window where the config has one.

    With experts (is_moe) each is two vectors, chosen by the products of two short lists of keys (arXiv 2412.11834).
    """
    bias, dim, groups = c.flag("attention_bias"), head_dim(c), kv_heads(c)
    masks = groups + groups * groups * dim + groups * bias
    hidden, (kinds, attention) = c.size("hidden_size"), uniform(c)
    ffn, extra = mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias")), 2 * hidden + masks
    if c.flag("is_moe"):
        ffn += experts(c, hidden)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, attention(k), bias, qk_norm="head"),
        ["mlp"] * len(kinds),
        lambda _: (*ffn, vector("extra", extra)),
    )


def experts(c: Config, hidden: int) -> tuple[Weight, ...]:
    """Return the experts beside the feed-forward, and the gate that retrieves them."""
    count = c.size("num_experts", 16384)
    used = c.size("num_experts_per_tok", 64)
    if used > count:
        raise SpecError(f"{c.place}: num_experts_per_tok {used} is larger than the number of experts {count}")
    gate = linear("mlp.router_gate", 2 * isqrt(count), hidden)
    return (*gate, Weight(name="mlp.experts", shape=(2, hidden), split="expert", copies=count, used=used, matmul=False))
