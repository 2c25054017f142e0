"""Gemma 3 and PaliGemma: text, and the vision tower beside it."""

from kvplan.architectures.attention import every, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.images import eye, tile, tiled
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family
from kvplan.architectures.towers import tensors, tower
from kvplan.architectures.vision import eyes
from kvplan.specs.model import Vision, Weight


@family("gemma3_text")
def gemma3(c: Config) -> Body:
    """Read the text of Gemma 3: one full layer in sliding_window_pattern, norms on q and k, four norms a layer."""
    bias = c.flag("attention_bias")
    period = c.size("sliding_window_pattern", 6)
    return plain(c, *mixed(c, every(period, "sliding")), qk_norm="head", qkv_bias=bias, o_bias=bias, norms=4)


def gemma3_sight(outer: Config) -> Vision:
    """Return how Gemma 3 sees: an image, resized, becomes mm_tokens_per_image tokens."""
    side, patch = tile(eye(outer), 896, 14)
    return Vision(side=side, patch=patch, fixed=outer.size("mm_tokens_per_image", 256))


@tower("gemma3_text", "gemma3", sees=gemma3_sight)
def gemma3_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of Gemma 3."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *tensors(
            "multi_modal_projector",
            projection=(c.size("hidden_size"), text.size("hidden_size")),
            norm=(c.size("hidden_size"),),
        ),
    )


@tower("gemma", "paligemma", fixed=False, sees=tiled(224, 14))
def paligemma_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower and projector of PaliGemma."""
    c, weights = eyes(outer, "siglip_vision_model")
    return (
        *weights,
        *tensors("multi_modal_projector", linear=(outer.size("projection_dim"), c.size("hidden_size") + 1)),
    )
