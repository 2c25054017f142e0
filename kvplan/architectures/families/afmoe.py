"""Trinity (AFMoE)."""

from kvplan.architectures.attention import every, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, vector
from kvplan.architectures.registry import family


@family("afmoe")
def afmoe(c: Config) -> Body:
    """Trinity: gated attention, four norms a layer, first num_dense_layers dense."""
    hidden, inner, first = c.size("hidden_size"), c.size("moe_intermediate_size"), c.size("num_dense_layers", 0, low=0)
    experts = (
        *moe(c, hidden, inner, shared=inner * c.size("num_shared_experts", 0, low=0)),
        vector("mlp.expert_bias", c.size("num_experts")),
    )
    bias = c.flag("attention_bias")
    return sparse(
        c,
        *mixed(c, every(c.size("global_attn_every_n_layers", 4), "sliding")),
        lambda i: i >= first,
        experts,
        dense=c.size("intermediate_size"),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="head",
        norms=4,
        attention_gate=True,
    )
