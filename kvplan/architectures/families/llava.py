"""LLaVA and its kin, InternVL, Idefics 3 and SmolVLM: the towers beside a language model of another family."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import eye, tile, tiled
from kvplan.architectures.towers import part, patches, pixels, tensors, tower
from kvplan.architectures.vision import eyes, llava_projector
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Vision, Weight


@tower("llama", "llava", fixed=False, tied="either", sees=tiled(336, 14))
def llava_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of LLaVA."""
    c, weights = eyes(outer, "clip_vision_model")
    return weights + llava_projector(outer, text, c.size("hidden_size"))


@tower("llama", "llava_next", fixed=False, sees=tiled(336, 14, tiles=4, overview=True))
def llava_next_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return LLaVA's tensors and the vector that LLaVA-NeXT writes at the end of a row of an image."""
    return (*llava_tower(outer, text), *tensors("multi_modal_projector", image_newline=(text.size("hidden_size"),)))


@tower("qwen2", "llava_onevision", fixed=False, tied="either", sees=tiled(384, 14, tiles=9, overview=True))
def llava_onevision_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower, projector and end-of-row vector of LLaVA-OneVision."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *llava_projector(outer, text, c.size("hidden_size")),
        *tensors("multi_modal_projector", image_newline=(text.size("hidden_size"),)),
    )


@tower("qwen2", "internvl", fixed=False, sees=tiled(448, 14, merge=2, tiles=12, overview=True))
def internvl_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of InternVL; SpecError for a downsample_ratio outside (0, 1]."""
    c, weights = eyes(outer, "internvl_vision", fixed=True)
    ratio = outer.real("downsample_ratio", 0.5)
    if not 0 < ratio <= 1:
        raise SpecError(f"{outer.place}: downsample_ratio must be above 0 and at most 1, got {shown(ratio)}")
    width, hidden = c.size("hidden_size") * int(1 / ratio) ** 2, text.size("hidden_size")
    return (
        *weights,
        *tensors("multi_modal_projector", norm=(2, width), linear_1=(hidden, width + 1), linear_2=(hidden, hidden + 1)),
    )


@tower(
    "qwen2", "internvl_chat", fixed=False, tied="text", nest="llm_config",
    sees=tiled(448, 14, merge=2, tiles=12, overview=True),
)  # fmt: skip
def internvl_chat_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return InternViT (arXiv 2312.14238) and the projector under the names of InternVL's own files."""
    c = part(outer, "vision_config", "intern_vit_6b")
    d, inner, count = c.size("hidden_size"), c.size("intermediate_size"), c.size("num_hidden_layers")
    rms, normed = c.text("norm_type", "layer_norm") == "rms_norm", c.flag("qk_normalization")
    width = d * int(1 / min(max(outer.real("downsample_ratio", 0.5), 0.01), 1.0)) ** 2
    hidden = text.size("hidden_size")
    return (
        *tensors("vision_tower", patch=(d, pixels(c) + 1), positions=(patches(c) + 1, d), first=(d,)),
        *tensors(
            "vision_tower.layers", count, qkv=(3 * d, d + c.flag("qkv_bias", True)), projection=(d, d + 1),
            norms=(2 if rms else 4, d), qk_norm=(2 * normed, d), scales=(2, d), fc1=(inner, d + 1), fc2=(d, inner + 1),
        ),
        *tensors("multi_modal_projector", norm=(2, width), linear_1=(hidden, width + 1), linear_2=(hidden, hidden + 1)),
    )  # fmt: skip


def idefics3_sight(outer: Config) -> Vision:
    """Return how Idefics 3 and SmolVLM see: up to 16 tiles and the whole image, scale_factor patches to a token."""
    side, patch = tile(eye(outer), 364, 14)
    return Vision(side=side, patch=patch, merge=outer.size("scale_factor", 2), tiles=16, overview=True)


@tower("llama", "idefics3", "smolvlm", fixed=False, sees=idefics3_sight)
def idefics3_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of Idefics 3 and SmolVLM."""
    c, weights = eyes(outer, f"{outer.model_type}_vision", fixed=True)
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            proj=(text.size("hidden_size"), c.size("hidden_size") * outer.size("scale_factor", 2) ** 2),
        ),
    )
