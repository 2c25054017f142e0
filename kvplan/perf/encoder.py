"""What a vision tower does with the images of a request before its prompt is read."""

from collections.abc import Sequence
from dataclasses import replace

from kvplan.kv.layout import KVLayout
from kvplan.specs.model import VIDEO, ModelSpec, Weight
from kvplan.specs.workload import Part, Workload

#: bytes of a tower's parameter: engines keep towers in 16 bits, whatever the language model is stored in [B]
WIDTH = 2.0

#: tensors of a tower that no patch is multiplied by
ASIDE = {
    "positions", "class_embedding", "norm", "norms", "qk_norm", "scales", "gates", "tokens", "tile_positions",
    "tile_embeddings", "head",
}  # fmt: skip


def with_images(layout: KVLayout, model: ModelSpec, workload: Workload) -> KVLayout:
    """Return the layout of a workload's requests: what its images fill, and what encoding them takes."""
    if model.vision is None:
        return layout
    layout = layout.with_source(round(workload.visual_tokens))
    if not workload.visual:
        return layout
    read = sum(p.tokens for p in workload.parts)
    seen = sum(p.tokens for p in workload.parts if p.visual)
    flops = sum(encoding(model, part) for part in workload.visual)
    held = sum(w.parameters for w in model.outer if w.name.startswith(("vision_tower", "multi_modal_projector")))
    share = seen / read if read else 0.0
    return replace(layout, encoder_flops=flops, encoder_bytes=WIDTH * held, visual=share)


def encoding(model: ModelSpec, part: Part) -> float:
    """Return the FLOPs of encoding the images of a part of one request. [FLOP]

    Every patch passes the tower's layers and attends to all patches of its image (windows, which a few towers have,
    aside); every token passes the projector and, in a cross-attention model, the keys and values of the layers that
    attend to it. A convolutional tower counts as if every weight served each output place once.
    """
    assert model.vision is not None
    see, images = model.vision, part.images / (model.vision.frames if part.modality == VIDEO else 1)
    if not images:
        return 0.0
    tokens = part.tokens / images
    patches = float(see.patches(*part.size)) if part.size else see.patches_behind(tokens)
    tiles = see.grids(*part.size) if part.size else 1
    tower = [w for w in model.outer if w.name.startswith("vision_tower.") and not set(w.name.split(".")) & ASIDE]
    passed = 2.0 * sum(w.parameters for w in tower) * patches
    return images * (passed + attention(model, tower, patches, tiles) + 2.0 * for_each_token(model) * tokens)


def attention(model: ModelSpec, tower: Sequence[Weight], patches: float, tiles: int) -> float:
    """Return what the patches of one image take to attend to each other, those of each tile by themselves. [FLOP]"""
    depth = sum({w.name.rpartition(".")[0]: w.shape[0] for w in tower if "layers." in w.name}.values())
    width = next((w.shape[1] for w in tower if w.name == "vision_tower.patch"), 0)
    return 4.0 * depth * width * patches * patches / tiles


def for_each_token(model: ModelSpec) -> float:
    """Return the parameters that a token of an image passes: the projector, and keys and values of cross-attention."""
    projector = sum(w.parameters for w in model.outer if w.name.startswith("multi_modal_projector"))
    names = ("cross_attn.k_proj", "cross_attn.v_proj")
    return projector + sum(w.parameters for layer in model.layers for w in layer.weights if w.name in names)
