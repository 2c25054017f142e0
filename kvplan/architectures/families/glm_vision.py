"""The vision towers of GLM-4.1V, 4.5V and 4.6V."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import native
from kvplan.architectures.towers import part, patches, pixels, tensors, tower
from kvplan.specs.model import Weight


@tower("glm4v_text", "glm4v", tied="either", sees=native(14, frames=2))
@tower("glm4v_moe_text", "glm4v_moe", tied="either", sees=native(14, frames=2))
@tower("glm4v_text", "glm46v", fixed=False, sees=native(14, frames=2))
def glm4v_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """GLM-4.1V, 4.5V and 4.6V: patches are convolved together and pass a wide MLP."""
    c = part(outer, "vision_config", "glm4v_vision" if outer.model_type == "glm46v" else f"{outer.model_type}_vision")
    d, out, inner = c.size("hidden_size"), c.size("out_hidden_size"), c.size("intermediate_size")
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels") + 1), positions=(patches(c), d), norms=(2, d)),
        *tensors(
            "vision_tower.layers",
            c.size("depth"),
            qkv=(3 * d, d + c.flag("attention_bias")),
            proj=(d, d),
            norms=(2, d),
            mlp=(3 * out, d),
        ),
        *tensors(
            "multi_modal_projector",
            downsample=(out, d * c.size("spatial_merge_size") ** 2 + 1),
            proj=(out, out),
            norm=(2, out),
            mlp=(3 * inner, out),
        ),
    )
