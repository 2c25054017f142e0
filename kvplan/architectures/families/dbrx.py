"""DBRX."""

from kvplan.architectures.attention import gqa
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


@family("dbrx")
def dbrx(c: Config) -> Body:
    """DBRX nests attn_config and ffn_config; its LayerNorms have no bias."""
    attention, ffn = c.nested("attn_config", model_type="dbrx"), c.nested("ffn_config", model_type="dbrx")
    heads = c.size("num_attention_heads")
    groups = attention.whole("kv_n_heads", attention.get("kv_n_heads", 1))
    if heads % groups:
        raise SpecError(f"{c.place}: kv_n_heads {groups} must divide n_heads {heads}")
    experts = moe(
        c,
        c.size("hidden_size"),
        ffn.whole("ffn_hidden_size", ffn.get("ffn_hidden_size", 3584)),
        experts=ffn.whole("moe_num_experts", ffn.get("moe_num_experts", 4)),
        used=ffn.whole("moe_top_k", ffn.get("moe_top_k", 1)),
    )
    return sparse(c, ["full"] * layer_count(c), lambda _: gqa(c, groups=groups), always, experts)
