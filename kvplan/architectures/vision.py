"""Vision towers that several models choose by model_type."""

from collections.abc import Callable

from kvplan.architectures.config import Config
from kvplan.architectures.towers import features, part, patches, pixels, tensors, transformer
from kvplan.errors import UnknownName
from kvplan.specs.model import Weight


def clip(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of a CLIP vision tower."""
    d = c.size("hidden_size")
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c)), positions=(patches(c) + 1, d), class_embedding=(d,), norms=(4, d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("num_hidden_layers")),
    )


def siglip(c: Config) -> tuple[Weight, ...]:
    """SigLIP; its pooling head is built unless vision_use_head is false. Idefics 3 and SmolVLM have none."""
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    head = tensors(
        "vision_tower.head", probe=(d,), attention=(4 * d, d + 1), norm=(2, d), fc1=(inner, d + 1), fc2=(d, inner + 1)
    )
    return (
        *tensors("vision_tower", patch=(d, pixels(c) + 1), positions=(patches(c), d), norm=(2, d)),
        *transformer("vision_tower.layers", d, inner, c.size("num_hidden_layers")),
        *(head if c.model_type == "siglip_vision_model" and c.flag("vision_use_head", True) else ()),
    )


def pixtral(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of a Pixtral vision tower."""
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    return (
        *tensors("vision_tower", patch=(d, pixels(c)), norm=(d,)),
        *tensors(
            "vision_tower.layers", c.size("num_hidden_layers"), attention=(4 * d, d), mlp=(3 * inner, d), norms=(2, d)
        ),
    )


def internvl_vision(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of an InternVL vision tower."""
    d, inner, norm = (
        c.size("hidden_size"),
        c.size("intermediate_size"),
        1 if c.text("norm_type", "layer_norm") == "rms_norm" else 2,
    )
    marks = 1 + c.flag("use_mask_token")
    positions = patches(c) + 1 if c.flag("use_absolute_position_embeddings", True) else 0
    return (
        *tensors(
            "vision_tower",
            patch=(d, pixels(c) + 1),
            positions=(positions, d),
            tokens=(marks, d),
            norm=(0 if c.flag("use_mean_pooling", True) else 2, d),
        ),
        *tensors(
            "vision_tower.layers",
            c.size("num_hidden_layers"),
            qkv=(3 * d, d + c.flag("attention_bias")),
            projection=(d, d + 1),
            scales=(2, d),
            qk_norm=(2 * c.flag("use_qk_norm"), d),
            norms=(2 * norm, d),
            fc1=(inner, d + 1),
            fc2=(d, inner + 1),
        ),
    )


#: vision model_type -> its tensors
VISION: dict[str, Callable[[Config], tuple[Weight, ...]]] = {
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
    "idefics3_vision": siglip,
    "smolvlm_vision": siglip,
    "pixtral": pixtral,
    "internvl_vision": internvl_vision,
}


def eyes(outer: Config, default: str, *, fixed: bool = False) -> tuple[Config, tuple[Weight, ...]]:
    """Return the vision part and its tensors; its model_type chooses them unless `fixed`."""
    c = part(outer, "vision_config", default) if fixed else outer.nested("vision_config", model_type=default)
    if c.model_type not in VISION:
        raise UnknownName("vision architecture", c.model_type, VISION, f"{c.place}: known: {', '.join(sorted(VISION))}")
    return c, VISION[c.model_type](c)


def llava_projector(outer: Config, text: Config, width: int) -> tuple[Weight, ...]:
    """Return LLaVA's projector of two matrices, from vision features of `width` to the text."""
    hidden, bias = text.size("hidden_size"), outer.flag("multimodal_projector_bias", True)
    return tensors(
        "multi_modal_projector", linear_1=(hidden, width * features(outer) + bias), linear_2=(hidden, hidden + bias)
    )
