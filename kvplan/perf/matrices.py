"""What a model multiplies by: its tensors by part of a layer, in one weight format."""

from dataclasses import dataclass
from functools import lru_cache

from kvplan.kv.replica import Weights
from kvplan.specs.model import Layer, ModelSpec, Weight


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """A model's tensors of one part, divided alike: bytes stored, parameters multiplied by, layers that hold them."""

    part: str  #: part of a layer: projections, mlp, experts, ...
    split: str  #: over what tensor parallelism splits them: none, kv, heads, expert, ...
    copies: int  #: experts of a layer, 1 for other tensors
    used: float  #: experts a token uses, 1 for other tensors
    bits: float  #: width of the operands they are multiplied in [bit]
    bytes: float  #: stored, over all layers [B]
    parameters: float  #: multiplied by, over all layers [parameter]


def part_of(weight: Weight) -> str:
    """Return the part of a layer a tensor belongs to."""
    if weight.split == "expert":
        return "experts"
    if "shared" in weight.name:
        return "shared experts"
    if weight.split == "none" and weight.name.rsplit(".", 1)[-1] in ("gate", "router"):
        return "router"
    mixing = weight.split in ("heads", "kv") or "attn" in weight.name or "mixer" in weight.name
    return "projections" if mixing else "mlp"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A model in one weight format, as `forward` needs it: tensors by part, and in how many layers each part is."""

    matrices: tuple[Matrices, ...]  #: tensors of every part
    layers: dict[str, int]  #: part -> layers that have it
    normed: int  #: layers that normalise queries and keys
    normed_across: int  #: those of them that normalise over all heads, hence over ranks
    quantised: int  #: activations quantised in a pass, over all layers


def alike_layers(held: Weights) -> list[tuple[int, Layer, int]]:
    """Return (index, layer, how many) of layers that are one object, stored alike: the first of each stands for all."""
    found: dict[tuple[int, int], tuple[int, Layer, int]] = {}
    for index, (layer, sizes) in enumerate(zip(held.model.layers, held.layers, strict=True)):
        first, _, count = found.get((id(layer), id(sizes)), (index, layer, 0))
        found[id(layer), id(sizes)] = (first, layer, count + 1)
    return list(found.values())


@lru_cache(maxsize=256)
def parts(held: Weights) -> Parts:
    """Return a model's tensors by part, added up once."""
    sums: dict[tuple[str, str, int, float, float], list[float]] = {}
    layers: dict[str, int] = {}
    quantised: set[str] = set()
    for index, layer, count in alike_layers(held):
        for weight in layer.weights:
            part = part_of(weight)
            stored = held.bytes_of(f"model.layers.{index}.{weight.name}", weight)
            bits = narrow_bits(held, weight, stored)
            if bits is not None:
                quantised.add(part)
            width = 16.0 if not weight.matmul else held.dtype_bits if bits is None else bits
            routed = (weight.copies, float(weight.used)) if part == "experts" else (1, 1.0)
            entry = sums.setdefault((part, weight.split, *routed, width), [0.0, 0.0])
            entry[0] += count * stored
            entry[1] += count * weight.parameters * (weight.matmul or part == "router")
        for part in {part_of(w) for w in layer.weights}:
            layers[part] = layers.get(part, 0) + count
    matrices = [
        Matrices(part=part, split=split, copies=copies, used=used, bits=bits, bytes=stored, parameters=parameters)
        for (part, split, copies, used, bits), (stored, parameters) in sums.items()
    ]
    normed, across = normed_layers(held.model)
    return Parts(
        matrices=tuple(matrices), layers=layers, normed=normed, normed_across=across,
        quantised=sum(2 * layers[part] for part in quantised),
    )  # fmt: skip


def narrow_bits(held: Weights, weight: Weight, stored: float) -> float | None:
    """Return the width of the operands of a tensor stored in fewer bits than the checkpoint's, None of others. [bit]"""
    if held.how is None or 8 * stored >= (held.dtype_bits - 0.01) * weight.parameters:
        return None
    return float(held.how.compute)


def normed_layers(model: ModelSpec) -> tuple[int, int]:
    """Return the layers that normalise queries and keys, and those of them that do so over all heads."""
    norms = [[w for w in x.weights if "qk_norm" in w.name or "q_norm" in w.name] for x in model.layers]
    wide = max((m.key_dim for m in model.mixers if hasattr(m, "key_dim")), default=0)
    return sum(map(bool, norms)), sum(any(w.shape[-1] > 2 * wide for w in layer) for layer in norms)
