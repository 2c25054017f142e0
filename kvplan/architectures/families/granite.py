"""Granite with experts, Granite 4 and Bamba with Mamba-2 layers."""

from kvplan.architectures.attention import attends, full, gqa, layer_kinds, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, mlp, moe
from kvplan.architectures.parts import Body, decoder
from kvplan.architectures.recurrence import named_mamba2
from kvplan.architectures.registry import family


@family("granitemoe", "granitemoeshared", "granitemoe_swa")
def granite_moe(c: Config) -> Body:
    """Read Granite MoE: experts in every layer, shared ones and windows where its variants have them."""
    bias = c.flag("attention_bias")
    shared = c.size("shared_intermediate_size", 0, low=0) if c.model_type != "granitemoe" else 0
    swa = c.model_type == "granitemoe_swa"
    kinds, attention = mixed(c, lambda i: "full" if i % 4 == 0 else "sliding") if swa else full(c)
    return sparse(
        c,
        kinds,
        attention,
        always,
        moe(c, c.size("hidden_size"), c.size("intermediate_size"), shared=shared),
        qkv_bias=bias,
        o_bias=bias,
        sinks=c.size("num_attention_heads") if swa else 0,
    )


@family("granitemoehybrid")
def granite_hybrid(c: Config) -> Body:
    """Granite 4: Mamba-2 or attention, routed experts (when num_local_experts > 0) and a shared MLP.

    Some have no Mamba layer.
    """
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    kinds = layer_kinds(c, lambda i: "mamba")
    shared = mlp(hidden, c.size("shared_intermediate_size"), prefix="shared_mlp")
    experts = moe(c, hidden, inner) if c.size("num_experts", 0, low=0) else ()
    state = named_mamba2(c, hidden) if any(k != "full" for k in kinds) else ((), ())
    return decoder(
        c,
        kinds,
        lambda k: (
            attends(hidden, gqa(c, rope=c.get("position_embedding_type", "rope") == "rope"), c.flag("attention_bias"))
            if k == "full"
            else state
        ),
        ["ffn"] * len(kinds),
        lambda _: experts + shared,
    )


@family("bamba")
def bamba(c: Config) -> Body:
    """Read Bamba: Mamba-2 layers, attention at attn_layer_indices."""
    hidden = c.size("hidden_size")
    places = c.entries("attn_layer_indices") or []
    kinds = layer_kinds(c, lambda i: "full" if i in places else "mamba")
    inner = mlp(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    state = named_mamba2(c, hidden)
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, gqa(c), c.flag("attention_bias")) if k == "full" else state,
        ["mlp"] * len(kinds),
        lambda _: inner,
    )
