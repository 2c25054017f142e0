"""Jais."""

from kvplan.architectures.attention import gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family


@family("jais")
def jais(c: Config) -> Body:
    """Read Jais (arXiv 2308.16149): GPT-2 with ALiBi and, mostly, a gated feed-forward; biases everywhere."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    alibi = c.text("position_embedding_type", "learned") == "alibi"
    return plain(
        c,
        ["full"] * layer_count(c),
        lambda _: gqa(c, dim=hidden // heads, groups=heads, rope=False),
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        gated=c.text("activation_function", "gelu") == "swiglu",
        norm=2,
        positions=0 if alibi else c.size("max_position_embeddings"),
        inner=c.optional("intermediate_size") or 4 * hidden,
    )
