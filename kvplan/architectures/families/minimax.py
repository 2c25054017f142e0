"""MiniMax: lightning attention (Text-01, M1), ordinary attention (M2)."""

from kvplan.architectures.attention import attends, full, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, moe
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Recurrent


@family("minimax")
def minimax(c: Config) -> Body:
    """MiniMax-Text-01 and M1: lightning attention, with softmax attention in some layers.

    Those where attn_type_list says 1 or layer_types says full.
    """
    hidden, heads, count = c.size("hidden_size"), c.size("num_attention_heads"), layer_count(c)
    listed = c.per_layer("attn_type_list", count)
    kinds = layer_kinds(
        c, lambda i: ("full" if listed[i] else "linear") if listed else "full" if (i + 1) % 2 else "linear"
    )
    a = gqa(c)
    inner = heads * a.key_dim
    weights = linear("self_attn.qkv_proj", 3 * inner, hidden, split="heads") + linear(
        "self_attn.out_proj", hidden, inner, split="heads"
    )
    weights += (*linear("self_attn.output_gate", inner, hidden, split="heads"), vector("self_attn.norm", inner))
    state = Recurrent(
        name="lightning", conv_channels=0, conv_kernel=1, state=heads * a.key_dim**2, transformers_bits=None
    )
    experts = moe(c, hidden, c.size("intermediate_size"))
    return decoder(
        c,
        kinds,
        lambda k: attends(hidden, a) if k == "full" else ((state,), weights),
        ["moe"] * count,
        lambda _: experts,
    )


@family("minimax_m2")
def minimax_m2(c: Config) -> Body:
    """Read MiniMax-M2: experts in every layer, norms over all heads of q and k."""
    return sparse(c, *full(c), always, moe(c, c.size("hidden_size"), c.size("intermediate_size")), qk_norm="full")
