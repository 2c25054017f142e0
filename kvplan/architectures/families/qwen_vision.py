"""The vision towers of Qwen2-VL to Qwen3.5, and the audio towers of Qwen2.5-Omni and Qwen3-Omni."""

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
    return qwen2_5_eyes(part(outer, "vision_config", "qwen2_5_vl_vision"))


def qwen2_5_eyes(c: Config) -> tuple[Weight, ...]:
    """Return the vision tower and patch merger that Qwen2.5-VL and Qwen2.5-Omni share."""
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
    omni = outer.model_type == "qwen3_omni_moe_thinker"
    c = part(outer, "vision_config", "qwen3_omni_moe_vision_encoder" if omni else f"{outer.model_type}_vision")
    d, out = c.size("hidden_size"), c.size("out_hidden_size")
    wide = d * c.size("spatial_merge_size") ** 2
    stacks = len(c.entries("deepstack_visual_indexes") or ()) if omni or outer.model_type.startswith("qwen3_vl") else 0
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c, "in_channels") + 1), positions=(c.size("num_position_embeddings"), d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("depth")),
        *qwen_merger("merger", wide, out, 2 * d),
        *qwen_merger("deepstack", wide, out, 2 * wide, stacks),
    )


def listener(outer: Config, sizes: str) -> tuple[Config, tuple[Weight, ...]]:
    """Return the audio part, and the layers of its encoder, which are Whisper's."""
    c = part(outer, "audio_config", sizes)
    d, inner = c.size("d_model"), c.size("encoder_ffn_dim")
    layers = transformer("audio_tower.layers", d, inner, c.size("encoder_layers"))
    return c, (*layers, *tensors("audio_tower", norm=(2, d)))


@tower("qwen2_5_omni_text", "qwen2_5_omni_thinker", sees=native(14, frames=2))
def qwen2_5_omni_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the thinker's towers: Qwen2.5-VL's eyes, and Whisper's encoder whose keys have no bias."""
    c, layers = listener(outer, "qwen2_5_omni_audio_encoder")
    d, out = c.size("d_model"), c.size("output_dim")
    biases = tuple(w for w in layers if w.name.endswith(".attention"))
    layers = tuple(w for w in layers if w not in biases) + tensors(
        "audio_tower.layers", c.size("encoder_layers"), attention=(4 * d, d), biases=(3, d)
    )
    first = tensors("audio_tower", conv1=(d, 3 * c.size("num_mel_bins") + 1), conv2=(d, 3 * d + 1))
    last = tensors("audio_tower", marks=(2, out), projection=(out, d + 1))
    return (*layers, *first, *last, *qwen2_5_eyes(part(outer, "vision_config", "qwen2_5_omni_vision_encoder")))


@tower("qwen3_omni_moe_text", "qwen3_omni_moe_thinker", sees=native(16, frames=2))
def qwen3_omni_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the thinker's towers: Qwen3-VL's eyes, and its ears."""
    return (*qwen3_ears(outer, "qwen3_omni_moe_audio_encoder"), *qwen3_vl_tower(outer, text))


@tower("qwen3", "qwen3_asr", "qwen3_asr_thinker")
def qwen3_asr_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the ears alone: Qwen3-ASR's language model is Qwen3."""
    return qwen3_ears(outer, "qwen3_asr_encoder")


def qwen3_ears(outer: Config, sizes: str) -> tuple[Weight, ...]:
    """Return an encoder behind three convolutions that halve the bands."""
    c, layers = listener(outer, sizes)
    d, wide, bands = c.size("d_model"), c.size("downsample_hidden_size"), c.size("num_mel_bins")
    for _ in range(3):
        bands = (bands + 1) // 2
    convolutions = tensors(
        "audio_tower", conv1=(wide, 9 + 1), conv2=(2 * wide, 9 * wide + 1), merge=(d, wide * bands),
        proj1=(d, d + 1), proj2=(c.size("output_dim"), d + 1),
    )  # fmt: skip
    return (*layers, *convolutions)
