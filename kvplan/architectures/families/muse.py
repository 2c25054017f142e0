"""Muse Glimmer and Muse Spark: windows between full layers, gated attention; Spark's experts work on pooled vectors."""

from kvplan.architectures.attention import mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, first_dense, moe
from kvplan.architectures.parts import Body, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Weight


@family("muse_glimmer_text", "muse_spark_text")
def muse(c: Config) -> Body:
    """Read a layer of full attention in four, counted back from the last; norms of q and k have no parameters."""
    hidden, last, bias = c.size("hidden_size"), layer_count(c) - 1, c.flag("attention_bias")
    spark = c.model_type == "muse_spark_text"
    listed = c.get("mlp_layer_types", None) is not None
    return sparse(
        c,
        *mixed(c, lambda i: "sliding" if (last - i) % 4 else "full"),
        (first_dense(c) if listed else always) if spark else lambda _: False,
        pooled(c, hidden) if spark else (),
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        norms=5 if spark else 4,  # Spark: three norms, and two gates of the residual stream
        attention_gate=True,
    )


def pooled(c: Config, hidden: int) -> tuple[Weight, ...]:
    """Return experts that work on vectors of moe_hidden_size, between projections to it and back."""
    width = c.size("moe_hidden_size")
    return (
        *moe(c, hidden, c.size("moe_intermediate_size"), experts=c.size("num_local_experts"), read=width),
        *linear("mlp.pre_expert_proj", width, hidden),
        *linear("mlp.post_expert_proj", hidden, width),
        vector("mlp.expert_norms", width, 2),
    )
