"""Gemma 4: text, vision and audio; and DiffusionGemma, which writes blocks by diffusion."""

from collections.abc import Hashable

from kvplan.architectures.attention import attention_weights, every, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.families.gemma3n import conformer
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.images import eye
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import pair, part, tensors, tower
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Vision, Weight


@family("gemma4_text", "gemma4_unified_text", "diffusion_gemma_text")
def gemma4(c: Config) -> Body:
    """Gemma 4: full layers with own head width and KV heads, shared caches, per-layer inputs, optional experts.

    DiffusionGemma always has experts and shares keys and values, and is conditioned on its own last answer by an MLP.
    """
    hidden, count = c.size("hidden_size"), layer_count(c)
    kinds = layer_kinds(c, every(6, "sliding"))
    kinds[-1] = "full"
    shared_from = count - c.size("num_kv_shared_layers", 0, low=0)
    window, small = c.optional("sliding_window"), per_layer(c)
    diffuses = c.model_type == "diffusion_gemma_text"
    equal = diffuses or c.flag("attention_k_eq_v")
    sizes = gemma4_sizes(c, kinds, equal)
    inner, bias = c.size("intermediate_size"), c.flag("attention_bias")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, shared, dim, groups = key
        is_full = kind == "full"
        a = gqa(c, window=None if is_full else window, dim=dim, groups=groups, stored=not shared)
        weights = attention_weights(hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head")
        if is_full and equal:  # keys serve as values: one projection
            weights = tuple(w for w in weights if w.name not in ("self_attn.v_proj", "self_attn.v_proj.bias"))
        if small:
            weights += (
                linear("per_layer_input_gate", small, hidden)
                + linear("per_layer_projection", hidden, small)
                + (vector("post_per_layer_input_norm", hidden),)
            )
        return (a,), weights

    def ffn(double: Hashable) -> tuple[Weight, ...]:
        weights = mlp(hidden, inner * 2 if double else inner)
        if diffuses or c.flag("enable_moe_block"):
            weights += moe(c, hidden, c.size("moe_intermediate_size"), prefix="moe")
            weights += (
                vector("moe.router_scale", hidden),
                vector("moe.per_expert_scale", c.size("num_experts")),
                vector("moe_norms", hidden, 3),
            )
        return weights

    extra: tuple[Weight, ...] = ()
    if diffuses:
        extra = (*mlp(hidden, inner, prefix="self_conditioning"), vector("self_conditioning.norm", hidden))
    if small:
        table = c.size("vocab_size_per_layer_input", c.size("vocab_size"))
        extra = (
            Weight(name="embed_tokens_per_layer", shape=(table, count * small), matmul=False),
            *linear("per_layer_model_projection", count * small, hidden),
            vector("per_layer_projection_norm", small),
        )
    shared = [i >= shared_from for i in range(count)]
    keys = [(kind, s, *size) for kind, s, size in zip(kinds, shared, sizes, strict=True)]
    return decoder(c, keys, mix, [s and c.flag("use_double_wide_mlp") for s in shared], ffn, norms=4, extra=extra)


def per_layer(c: Config) -> int:
    """Return the width of the inputs each layer has of its own, 0 without; the unified models have none."""
    return 0 if c.model_type != "gemma4_text" else c.size("hidden_size_per_layer_input", 0, low=0)


def gemma4_sizes(c: Config, kinds: list[str], equal: bool) -> list[tuple[int | None, int | None]]:
    """Return each layer's own head width and KV heads (None: the config's).

    Google's files give global_* sizes for full layers; transformers writes them out as per_layer_config.
    """
    stated = c.get("per_layer_config", None)
    if stated is None:
        wide = c.size("global_head_dim", 512)
        groups = c.optional("num_global_key_value_heads") if equal else None
        return [(wide, groups) if kind == "full" else (None, None) for kind in kinds]
    if not isinstance(stated, dict) or not all(
        str(layer).isdecimal() and isinstance(own, dict) for layer, own in stated.items()
    ):
        raise SpecError(f"{c.place}: per_layer_config must map layers to objects, got {shown(stated)}")
    numbered = {int(layer): own for layer, own in stated.items()}  # written '05' where there are ten or more
    owns = [numbered.get(i, {}) for i in range(len(kinds))]
    return [
        tuple(
            c.whole(f"per_layer_config.{i}.{name}", own[name]) if own.get(name) is not None else None
            for name in ("head_dim", "num_key_value_heads")
        )  # type: ignore[misc]
        for i, own in enumerate(owns)
    ]


def gemma4_sight(outer: Config) -> Vision | None:
    """Return how Gemma 4 sees: an image becomes vision_soft_tokens_per_image tokens, each of 3 x 3 patches."""
    if outer.get("vision_config", None) is None:
        return None
    tokens = outer.size("vision_soft_tokens_per_image", 280)
    return Vision(patch=eye(outer).size("patch_size", 16), merge=3, fixed=tokens)


@tower("diffusion_gemma_text", "diffusion_gemma", sees=gemma4_sight)
@tower("gemma4_text", "gemma4", sees=gemma4_sight)
def gemma4_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Gemma 4: either tower may be missing or null (its clipping bounds are buffers, not parameters)."""
    hidden = text.size("hidden_size")
    weights: tuple[Weight, ...] = ()
    if "vision_config" in outer.raw:
        c = part(outer, "vision_config", "gemma4_vision")
        d, dim, inner = c.size("hidden_size"), c.size("head_dim"), c.size("intermediate_size")
        heads, groups = c.size("num_attention_heads"), c.size("num_key_value_heads")
        weights += tensors(
            "vision_tower",
            patch=(d, 3 * c.size("patch_size") ** 2),
            positions=(2 * c.size("position_embedding_size"), d),
        )
        weights += tensors(
            "vision_tower.layers",
            c.size("num_hidden_layers"),
            qkv=((heads + 2 * groups) * dim, d),
            o=(d, heads * dim),
            qk_norm=(2, dim),
            norms=(4, d),
            mlp=(3 * inner, d),
        )
        weights += tensors("multi_modal_projector.vision", projection=(hidden, d))
    if "audio_config" in outer.raw:
        c = part(outer, "audio_config", "gemma4_audio")
        d, heads, out = c.size("hidden_size"), c.size("num_attention_heads"), c.size("output_proj_dims")
        first, second = pair(c, "subsampling_conv_channels")
        weights += tensors(
            "audio_tower",
            conv_0=(first, 9 + 1),
            conv_1=(second, 9 * first + 1),
            input=(d, first // 4 * second),
            output=(out, d + 1),
        )
        weights += conformer(d, d // heads, c.size("conv_kernel_size"), c.size("num_hidden_layers"))
        weights += tensors("multi_modal_projector.audio", projection=(hidden, out))
    return weights
