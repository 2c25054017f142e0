"""MiniMax: lightning attention (Text-01, M1), ordinary attention (M2), attention that an indexer thins (M3)."""

from collections.abc import Hashable

from kvplan.architectures.attention import attends, attention_weights, full, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import always, first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import part, pixels, tensors, tower, transformer
from kvplan.specs.model import Attention, Recurrent, Weight


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


@family("minimax_m3_vl_text", "minimax_m3")
def minimax_m3(c: Config) -> Body:
    """Read MiniMax-M3: in sparse layers an indexer caches one key a token, by which blocks of tokens are chosen.

    What attention reads is not thinned here: times of long contexts are on the safe side.
    """
    hidden, count = c.size("hidden_size"), layer_count(c)
    sparse = c.nested("sparse_attention_config", model_type=c.model_type)
    listed = sparse.per_layer("sparse_attention_freq", count)
    kinds = layer_kinds(c, lambda i: "indexed" if listed and listed[i] else "full")
    a, heads = gqa(c), sparse.size("sparse_num_index_heads", c.size("index_n_heads", 4))
    dim = sparse.size("sparse_index_dim", c.size("index_head_dim", 128))
    keys = Attention(heads=heads, kv_heads=1, key_dim=dim, value_dim=0)

    def mix(kind: Hashable) -> Part:
        weights = attention_weights(hidden, a, qk_norm="head")
        if kind == "full":
            return (a,), weights
        index = linear("self_attn.indexer.q_proj", heads * dim, hidden) + linear(
            "self_attn.indexer.k_proj", dim, hidden
        )
        return (a, keys), weights + index + (vector("self_attn.indexer.norms", dim, 2),)

    experts = moe(c, hidden, c.size("intermediate_size"), shared=c.size("shared_intermediate_size"))
    dense = mlp(hidden, c.size("dense_intermediate_size"))
    is_moe = first_dense(c)
    notes = ("sparse attention: what attention reads is not thinned, so times at long contexts are on the safe side",)
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda block: experts if block == "moe" else dense,
        notes=notes if "indexed" in kinds else (),
    )


@tower("minimax_m3_vl_text", "minimax_m3_vl", tied="either")
def minimax_m3_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return MiniMax-M3's vision tower, its projector and the merger of neighbouring patches."""
    c = part(outer, "vision_config", "minimax_m3_vl_vision")
    d, hidden, wide = c.size("hidden_size"), text.size("hidden_size"), outer.size("projector_hidden_size")
    merged = hidden * c.size("spatial_merge_size", 2) ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c)), norm=(2, d)),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("num_hidden_layers")),
        *tensors("multi_modal_projector", linear_1=(wide, d + 1), linear_2=(hidden, wide + 1)),
        *tensors("multi_modal_projector.merge", linear_1=(wide, merged + 1), linear_2=(hidden, wide + 1)),
    )
