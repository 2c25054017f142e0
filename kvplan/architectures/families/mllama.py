"""Llama 3.2 Vision: a decoder that attends to vision tokens, and the tower they come from."""

from collections.abc import Hashable

from kvplan.architectures.attention import attention_weights, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.images import eye, tile
from kvplan.architectures.parts import Body, Part, decoder, layer_count, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import part, patches, pixels, tensors, text_only, tower
from kvplan.specs.model import Cross, Vision, Weight


@family("mllama_text_model")
def mllama_text(c: Config) -> Body:
    """Llama 3.2 Vision's decoder: cross_attention_layers attend to vision tokens only, and cache only those."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    crossing = c.entries("cross_attention_layers")
    places = [3, 8, 13, 18, 23, 28, 33, 38] if crossing is None else crossing
    tokens = 0
    if c.parent is not None and not text_only(c.parent):  # every tile has its patches and one class token
        vision = part(c.parent, "vision_config", "mllama_vision_model")
        tokens = (patches(vision) + 1) * vision.size("max_num_tiles")
    a = gqa(c)
    own = (a,), attention_weights(hidden, a)
    vision_cache = Cross(heads=a.heads, kv_heads=a.kv_heads, key_dim=a.key_dim, value_dim=a.value_dim, tokens=tokens)
    crossed = (
        (vision_cache,),
        (*attention_weights(hidden, a, qk_norm="head", prefix="cross_attn"), vector("cross_attn.gates", 2)),
    )

    def mix(kind: Hashable) -> Part:
        return crossed if kind == "cross" else own

    # eight more rows than the vocabulary, for the image tokens
    extra = (Weight(name="embed_tokens.image", shape=(8, hidden), matmul=False),)
    return decoder(
        c,
        ["cross" if i in places else "full" for i in range(count)],
        mix,
        ["mlp"] * count,
        lambda _: mlp(hidden, inner),
        extra=extra,
    )


def mllama_sight(outer: Config) -> Vision:
    """Return how Llama 3.2 Vision sees: up to max_num_tiles tiles, each its patches and a class token."""
    c = eye(outer)
    side, patch = tile(c, 560, 14)
    return Vision(side=side, patch=patch, fixed=(side // patch) ** 2 + 1, tiles=c.size("max_num_tiles", 4))


@tower("mllama_text_model", "mllama", sees=mllama_sight)
def mllama_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Llama 3.2 Vision: tiles with gated position tables for each aspect ratio, local then gated global layers."""
    c = part(outer, "vision_config", "mllama_vision_model")
    d, inner, tiles, count = c.size("hidden_size"), c.size("intermediate_size"), c.size("max_num_tiles"), patches(c) + 1
    ratios = len(c.entries("supported_aspect_ratios") or range(8)) + 1
    layer = {"attention": (4 * d, d), "norms": (4, d), "fc1": (inner, d + 1), "fc2": (d, inner + 1)}
    return (
        *tensors(
            "vision_tower",
            patch=(d, pixels(c)),
            positions=(count, d),
            class_embedding=(d,),
            gates=(3,),
            norms=(4, d),
            tile_positions=(ratios, tiles * count * d),
            tile_embeddings=(2 * ratios, tiles * d),
        ),
        *tensors("vision_tower.layers", c.size("num_hidden_layers"), **layer),
        *tensors("vision_tower.global_layers", c.size("num_global_layers"), gates=(2,), **layer),
        *tensors("multi_modal_projector", linear=(text.size("hidden_size"), c.size("vision_output_dim") + 1)),
    )
