"""The vision towers of Qwen2-VL to Qwen3.5."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import native
from kvplan.architectures.towers import part, pixels, tensors, tower, transformer
from kvplan.specs.model import Weight


def qwen_merger(name: str, wide: int, out: int, norm: int, count: int = 1) -> tuple[Weight, ...]:
    """Return `count` mergers of neighbouring patches, each a norm and a two-layer MLP."""
    return tensors(f"multi_modal_projector.{name}", count, norm=(norm,), fc1=(wide, wide + 1), fc2=(out, wide + 1))


@tower("qwen2_vl_text", "qwen2_vl", tied="either", flat=True, sees=native(14, frames=2))
def qwen2_vl_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and patch merger of Qwen2-VL."""
    c = part(outer, "vision_config", "qwen2_vl_vision")
    d = c.size("embed_dim")
    inner, wide = int(d * c.real("mlp_ratio")), d * c.size("spatial_merge_size") ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels"))),
        *transformer("vision_tower.layers", d, inner, c.size("depth")),
        *qwen_merger("merger", wide, c.size("hidden_size"), 2 * d),
    )


@tower("qwen2_5_vl_text", "qwen2_5_vl", tied="either", flat=True, sees=native(14, frames=2))
def qwen2_5_vl_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and patch merger of Qwen2.5-VL."""
    c = part(outer, "vision_config", "qwen2_5_vl_vision")
    d, inner = c.size("hidden_size"), c.size("intermediate_size")
    wide = d * c.size("spatial_merge_size") ** 2
    return (
        *tensors("vision_tower", patch=(d, pixels(c, "in_channels"))),
        *tensors(
            "vision_tower.layers",
            c.size("depth"),
            attention=(4 * d, d + 1),
            norms=(2, d),
            gate_up=(2 * inner, d + 1),
            down=(d, inner + 1),
        ),
        *qwen_merger("merger", wide, c.size("out_hidden_size"), d),
    )


@tower("qwen3_vl_text", "qwen3_vl", sees=native(16, frames=2))
@tower("qwen3_vl_moe_text", "qwen3_vl_moe", sees=native(16, frames=2))
@tower("qwen3_5_text", "qwen3_5", sees=native(16, frames=2))
@tower("qwen3_5_moe_text", "qwen3_5_moe", sees=native(16, frames=2))
def qwen3_vl_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Qwen3-VL and Qwen3.5; Qwen3-VL has a merger for each of deepstack_visual_indexes too."""
    c = part(outer, "vision_config", f"{outer.model_type}_vision")
    d, out = c.size("hidden_size"), c.size("out_hidden_size")
    wide = d * c.size("spatial_merge_size") ** 2
    stacks = len(c.entries("deepstack_visual_indexes") or ()) if outer.model_type.startswith("qwen3_vl") else 0
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c, "in_channels") + 1), positions=(c.size("num_position_embeddings"), d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("depth")),
        *qwen_merger("merger", wide, out, 2 * d),
        *qwen_merger("deepstack", wide, out, 2 * wide, stacks),
    )
