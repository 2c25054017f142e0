"""LFM2-VL: SigLIP 2 sees images as they come, and a projector joins the patches of a square."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import eye
from kvplan.architectures.towers import part, tensors, tower, transformer
from kvplan.specs.model import Vision, Weight


def lfm2_sight(outer: Config) -> Vision:
    """Return how it sees: downsample_factor patches on a side to a token."""
    return Vision(patch=eye(outer).size("patch_size", 16), merge=outer.size("downsample_factor", 2))


@tower("lfm2", "lfm2_vl", sees=lfm2_sight)
def lfm2_vl_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """SigLIP 2, with or without a head that pools, and a projector of two matrices, normalised before or not."""
    c = part(outer, "vision_config", "siglip2_vision_model")
    d, inner, between = c.size("hidden_size"), c.size("intermediate_size"), outer.size("projector_hidden_size")
    wide, bias = d * outer.size("downsample_factor") ** 2, int(outer.flag("projector_bias"))
    head = tensors(
        "vision_tower.head", attention=(4 * d, d + 1), fc1=(inner, d + 1), fc2=(d, inner + 1), norm=(2, d), probe=(d,)
    )
    return (
        *tensors(
            "vision_tower",
            patch=(d, c.size("num_channels") * c.size("patch_size") ** 2 + 1),
            positions=(c.size("num_patches"), d),
            norm=(2, d),
        ),
        *transformer("vision_tower.layers", d, inner, c.size("num_hidden_layers")),
        *(head if c.flag("vision_use_head") else ()),
        *tensors(
            "multi_modal_projector",
            norm=(2 * outer.flag("projector_use_layernorm"), wide),
            up=(between, wide + bias),
            down=(text.size("hidden_size"), between + bias),
        ),
    )
