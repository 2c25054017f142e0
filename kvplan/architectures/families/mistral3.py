"""Mistral 3 with Pixtral's vision tower."""

from kvplan.architectures.config import Config
from kvplan.architectures.images import native
from kvplan.architectures.towers import tensors, tower
from kvplan.architectures.vision import eyes, llava_projector
from kvplan.specs.model import Weight


@tower("mistral", "mistral3", fixed=False, sees=native(14))
def mistral3_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Pixtral's tower, whose patches are merged spatial_merge_size by spatial_merge_size."""
    c, weights = eyes(outer, "pixtral")
    d = c.size("hidden_size")
    merge = tensors("multi_modal_projector", norm=(d,), patch_merger=(d, d * outer.size("spatial_merge_size", 2) ** 2))
    return weights + merge + llava_projector(outer, text, d)
