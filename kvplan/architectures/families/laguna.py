"""Laguna."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import attention_weights, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family


@family("laguna")
def laguna(c: Config) -> Body:
    """Laguna: query heads by layer, windows between full layers, a gate a head (or a number), one shared expert."""
    hidden, count, heads = c.size("hidden_size"), layer_count(c), c.size("num_attention_heads")
    kinds = layer_kinds(c, lambda _: "full")
    attention = windowed(c, kinds)
    stated = c.per_layer("num_attention_heads_per_layer", count) or [heads] * count
    own = [c.whole(f"num_attention_heads_per_layer.{i}", each) for i, each in enumerate(stated)]
    wide, bias = c.get("gating", True) not in (True, "per-head"), c.flag("attention_bias")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, rows = key
        a = replace(attention(kind), heads=rows)
        gate = linear("self_attn.g_proj", rows * (a.value_dim if wide else 1), hidden, split="heads")
        return (a,), attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head") + gate

    shared = c.size("shared_expert_intermediate_size", 0, low=0)
    experts = (
        *moe(c, hidden, c.size("moe_intermediate_size"), shared=shared),
        vector("mlp.expert_bias", c.size("num_experts")),
    )
    is_moe = first_dense(c) if c.stated("mlp_layer_types") else (lambda i: i > 0)
    return decoder(
        c,
        list(zip(kinds, own, strict=True)),
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else mlp(hidden, c.size("intermediate_size")),
    )
