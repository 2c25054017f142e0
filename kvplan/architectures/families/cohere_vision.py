"""Aya Vision and Command A Vision."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import tiled
from kvplan.architectures.towers import tensors, tower
from kvplan.architectures.vision import eyes
from kvplan.specs.model import Weight


@tower("cohere2", "aya_vision", "cohere2_vision", fixed=False, sees=tiled(364, 14, merge=2, tiles=12, overview=True))
def cohere_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Aya Vision and Command A Vision: SwiGLU projectors; only Aya's has a norm."""
    c, weights = eyes(outer, "siglip_vision_model")
    hidden, width = text.size("hidden_size"), c.size("hidden_size") * outer.size("downsample_factor", 2) ** 2
    inner = outer.size("alignment_intermediate_size", hidden)
    aya = outer.model_type == "aya_vision"
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            norm=(2 * aya, width),
            linear_1=(inner, width + 1),
            linear_2=(hidden, inner // 2 + 1),
        ),
    )
