"""Grok 1 and 2."""

from kvplan.architectures.attention import attends, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, decoder, layer_count
from kvplan.architectures.registry import family


@family("grok-1")
def grok(c: Config) -> Body:
    """Read Grok: experts in every layer, beside a dense feed-forward in Grok 2 (residual_moe), four norms a layer."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    inner = c.size("moe_intermediate_size", c.size("intermediate_size"))
    ffn = moe(c, hidden, inner)
    if c.flag("residual_moe"):
        ffn += mlp(hidden, c.size("intermediate_size"), prefix="residual_mlp")
    a = gqa(c)
    return decoder(c, ["full"] * count, lambda _: attends(hidden, a), ["moe"] * count, lambda _: ffn, norms=4)
