"""The towers of Nemotron Omni: RADIO sees, Parakeet's conformer hears, beside Nemotron-H."""

from math import log2

from kvplan.architectures.config import Config
from kvplan.architectures.images import native
from kvplan.architectures.towers import part, tensors, tower, transformer
from kvplan.specs.model import Weight


@tower("nemotron_h", "nemotron_h_omni", sees=native(16, frames=2))
def nemotron_omni_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Patches of images and of two frames have projections of their own, four a token; the ears may be missing.

    Beside a language model with layers that predict further tokens, what is seen is normalised once more.
    """
    c, hidden = part(outer, "vision_config", "radio"), text.size("hidden_size")
    d, patch = c.size("hidden_size"), c.size("num_channels") * c.size("patch_size") ** 2
    shuffled = d * int(1 / float(outer.get("downsample_ratio"))) ** 2
    seen = (
        *tensors(
            "vision_tower",
            patch=(d, patch),
            frames=(d, outer.size("video_temporal_patch_size", 2) * patch),
            positions=((c.size("max_img_size") // c.size("patch_size")) ** 2, d),
            registers=(c.size("num_cls_tokens") + c.size("num_registers"), d),
            norm=(2 * (text.size("num_nextn_predict_layers", 0, low=0) > 0), d),
        ),
        *transformer("vision_tower.layers", d, int(float(c.get("mlp_ratio")) * d), c.size("num_hidden_layers")),
        *tensors("vision_tower.layers", c.size("num_hidden_layers"), scales=(2, d)),
        *_projector("vision", shuffled, outer.size("projector_hidden_size"), hidden),
    )
    if outer.get("audio_config", None) is None:
        return seen
    c = part(outer, "audio_config", "parakeet_encoder")
    bias = int(c.flag("projection_bias"))
    return (
        *seen,
        *parakeet(c),
        *_projector("audio", c.size("hidden_size"), c.size("projection_hidden_size"), hidden, bias),
    )


def _projector(name: str, before: int, between: int, after: int, bias: int = 0) -> tuple[Weight, ...]:
    return tensors(
        f"multi_modal_projector.{name}", norm=(before,), up=(between, before + bias), down=(after, between + bias)
    )


def parakeet(c: Config) -> tuple[Weight, ...]:
    """Return Parakeet's encoder: convolutions that divide the bands by 2 and again, and layers of a conformer."""
    d, inner, wide = c.size("hidden_size"), c.size("intermediate_size"), c.size("subsampling_conv_channels")
    halvings, area = int(log2(c.size("subsampling_factor"))), c.size("subsampling_conv_kernel_size") ** 2
    bands = c.size("num_mel_bins") // c.size("subsampling_conv_stride") ** halvings
    bias, kernel = int(c.flag("attention_bias")), c.size("conv_kernel_size")
    more = int(c.flag("convolution_bias"))
    return (
        *tensors("audio_tower", first=(wide, area + 1), input=(d, wide * bands + 1)),
        *tensors("audio_tower.halving", halvings - 1, own=(wide, area + 1), across=(wide, wide + 1)),
        *tensors(
            "audio_tower.layers",
            c.size("num_hidden_layers"),
            up=(2 * inner, d + bias),
            down=(2 * d, inner + bias),
            attention=(4 * d, d + bias),
            relative=(d, d),
            biases=(2, d),
            gated=(2 * d, d + more),
            convolution=(d, kernel + more),
            pointwise=(d, d + more),
            norms=(2 * 6, d),
        ),
    )
