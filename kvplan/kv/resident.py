"""What an engine keeps of a model on a GPU beside the checkpoint's bytes: padding, rotary tables, absorbed matrices.

And what its allocator rounds tensors up by: 78 MiB of Qwen2.5-72B on each of two GPUs (67.80 GiB in a vLLM 0.19 log).

Towers are divided by tensor parallelism like the rest: Mistral-Small-3.1 in 8 bits takes 24.07 GiB on one H100 and
12.11 GiB on each of two (vLLM 0.19 logs).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from kvplan.architectures.formats import FORMATS
from kvplan.kv.replica import Parallel, Weights, weights
from kvplan.specs.hardware import BEFORE_HOPPER, Engine, Gpu
from kvplan.specs.model import Attention, Latent, Layer, ModelSpec, Weight


@dataclass(frozen=True)
class Rules:
    """What one engine keeps besides."""

    padding: int  #: MXFP4 experts' inner width on a GPU is padded to a multiple of it
    angle: float  #: of an element of a rotary table [B]
    absorbed: float  #: of an element of a latent's up-projection, kept a second time [B]
    images: int = 1  #: tables of rotary positions of images (M-RoPE) have so many times the positions
    step: float = 0.0  #: large tensors take multiples of it, 0: as they are [B]
    width: int = 1  #: the width of the model in MXFP4 experts is padded to a multiple of it
    scale: float = 0.0  #: of an FP4 expert's scale beside its packed one [B]
    #: of a scale of BLOCK FP8 weights of an expert, where a checkpoint has one for BLOCK x BLOCK [B]
    block: float = 0.0


def rules(engine: Engine, gpu: Gpu | None = None) -> Rules:
    """Return what an engine keeps besides on a GPU: FP4 experts' scales a second time where it has no FP4 units.

    And of FP8 experts as many scales as Marlin's kernels want, which serve NVIDIA's GPUs without FP8 units.
    """
    scale = engine.expert_scale_bytes if gpu is not None and not gpu.fp4 else 0.0
    block = engine.block_scale_bytes if gpu is not None and gpu.vendor == "nvidia" and not gpu.fp8 else 0.0
    marlin = gpu is not None and gpu.architecture in BEFORE_HOPPER and engine.marlin_padding
    return Rules(
        padding=engine.marlin_padding if marlin else engine.expert_padding,
        width=engine.marlin_width if marlin else 1,
        angle=engine.rope_table_bytes,
        absorbed=engine.absorbed_bytes,
        images=engine.image_positions,
        step=engine.allocation_step,
        scale=scale,
        block=block,
    )


@lru_cache(maxsize=1024)
def resident(model: ModelSpec, form: str | None, parallel: Parallel, index: int, kept: Rules) -> float:
    """Return the bytes a stage's GPU holds beyond the checkpoint's; negative where towers are divided. [B]"""
    held, tensor = weights(model, form), parallel.tensor
    start, end = parallel.cuts(len(model.layers))[index]
    stage = model.layers[start:end]
    per_layer = {
        id(layer): _padding(layer, held, parallel, kept.padding, kept.width)
        + _rounding(layer, held, parallel, kept.step)
        + _scales(layer, held, parallel, kept.scale)
        + _blocks(layer, held, parallel, kept.block)
        for layer in model.distinct_layers
    }
    absorbed = sum(
        m.heads / tensor * m.rank * (m.nope_dim + m.value_dim)
        for layer in stage
        for m in layer.mixers
        if isinstance(m, Latent)
    )
    towers = sum(held.bytes_of(w.name, w) for w in model.outer if _of_tower(w.name)) * (1 - 1 / tensor)
    outer = 1 if parallel.pipeline == 1 or model.tied else 0.5
    tables = rope_elements(model, kept.images) * kept.angle
    return sum(per_layer[id(layer)] for layer in stage) + absorbed * kept.absorbed + tables - towers * outer


def _of_tower(name: str) -> bool:
    tower, _, part = name.partition(".")
    return tower.endswith("_tower") and part.startswith("layers")


def _padding(layer: Layer, held: Weights, parallel: Parallel, multiple: int, across: int) -> float:
    """Return the bytes a layer's MXFP4 experts are padded by on one GPU. [B]"""
    how = held.how
    if max(multiple, across) == 1 or how is None or how.method != "mxfp4":
        return 0.0
    downs = (w.shape for w in layer.weights if w.split == "expert" and w.name.endswith("down_proj"))
    width, inner = next((shape for shape in downs if len(shape) == 2), (0, 0))
    if not inner:
        return 0.0
    sliced = 1 if parallel.expert_ranks > 1 else parallel.tensor
    grown = ceil(inner / sliced / multiple) * multiple * sliced / inner * ceil(width / across) * across / width - 1
    experts = sum(
        held.bytes_of(f"model.layers.0.{w.name}", w) for w in layer.weights if w.split == "expert" and len(w.shape) == 2
    )
    return grown * experts / (parallel.tensor * parallel.data)


#: bits of an element of FP4 experts with an 8-bit scale for every GROUP of them
FP4, GROUP = 4.25, 32


def _scales(layer: Layer, held: Weights, parallel: Parallel, each: float) -> float:
    """Return the bytes that a layer's FP4 experts have of scales a second time on one GPU. [B]

    Only where a checkpoint stores its experts so and the rest otherwise (DeepSeek-V4).
    """
    if not each or held.how is None or held.how.method == "mxfp4":
        return 0.0
    experts = [w for w in layer.weights if w.split == "expert" and len(w.shape) == 2]
    packed = (w for w in experts if abs(held.bytes_of(f"model.layers.0.{w.name}", w) * 8 / w.parameters - FP4) < 0.01)
    return sum(w.parameters for w in packed) / GROUP * each / (parallel.tensor * parallel.data)


#: FP8 weights whose scales are of BLOCK x BLOCK of them, and the bits of one with its part of the scale
BLOCK = 128
FP8 = FORMATS["fp8"].bits


def _blocks(layer: Layer, held: Weights, parallel: Parallel, each: float) -> float:
    """Return the bytes that the scales of a layer's FP8 experts take more than the checkpoint's on one GPU. [B]"""
    if not each or held.how is None:
        return 0.0
    experts = (w for w in layer.weights if w.split == "expert" and len(w.shape) == 2)
    scaled = (w for w in experts if abs(held.bytes_of(f"model.layers.0.{w.name}", w) * 8 / w.parameters - FP8) < 1e-4)
    return sum(w.parameters for w in scaled) / BLOCK * each / (parallel.tensor * parallel.data)


#: PyTorch's allocator gives a tensor of this size a segment of its own, and what is left of that and larger than the
#: second to other tensors (c10/cuda/CUDACachingAllocator: kMinLargeAlloc, kRoundLarge, kSmallSize) [B]
OWN_SEGMENT, REUSED = 10 * 2**20, 2**20
#: matrices that engines hold as one
MERGED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj",
          "up_proj": "gate_up_proj"}  # fmt: skip


def _rounding(layer: Layer, held: Weights, parallel: Parallel, step: float) -> float:
    """Return the bytes that a layer's matrices are rounded up by on one GPU. [B]"""
    if not step:
        return 0.0
    sizes: dict[str, float] = {}
    for w in layer.weights:
        block, _, part = w.name.rpartition(".")
        whole = f"{block}.{MERGED.get(part, part)}"
        sizes[whole] = sizes.get(whole, 0.0) + _share(w, held, parallel)
    left = (ceil(size / step) * step - size for size in sizes.values() if size >= OWN_SEGMENT)
    return sum(rest for rest in left if rest <= REUSED)


def _share(w: Weight, held: Weights, parallel: Parallel) -> float:
    """Return the bytes of a layer's tensor on one GPU. [B]"""
    ways = {"none": 1, "kv": min(parallel.tensor, held.kv_heads), "expert": parallel.tensor * parallel.data}
    return held.bytes_of(f"model.layers.0.{w.name}", w) / ways.get(w.split, parallel.tensor)


@lru_cache(maxsize=256)
def rope_elements(model: ModelSpec, images: int = 1) -> float:
    """Return the elements of the tables of cosines and sines, which every GPU holds: positions x rotated width.

    One table for each width, base and scaling: linear scaling multiplies the positions, rotary positions of images
    (M-RoPE) take `images` times as many. Gemma 3 has two, of 8 x 131,072 and of 131,072 positions.
    """
    text = model.config.get("text_config")
    config: Mapping[str, Any] = text if isinstance(text, Mapping) else model.config
    positions = model.max_context or 0
    tables: set[tuple[object, ...]] = set()
    total = 0.0
    for mixer in {m for layer in model.distinct_layers for m in layer.mixers}:
        if not isinstance(mixer, Latent) and not (isinstance(mixer, Attention) and mixer.rope):
            continue
        width, scaling = _rotated(mixer, config, model.model_type)
        kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
        longer = _number(scaling, "factor", 1) if kind in ("linear", "dynamic") else 1.0
        longer *= images if "mrope_section" in scaling else 1
        if (table := (width, kind, longer, str(scaling.get("rope_theta")))) not in tables:
            tables.add(table)
            total += positions * longer * width
    return total


def _rotated(mixer: Attention | Latent, config: Mapping[str, Any], model_type: str) -> tuple[float, Mapping[str, Any]]:
    """Return the elements of a head that a layer rotates, and how it scales their positions."""
    if isinstance(mixer, Latent):
        return float(mixer.rope_dim), _scaling(config, "full_attention")
    local = mixer.window is not None and not mixer.chunked
    scaling = _scaling(config, "sliding_attention" if local else "full_attention")
    if local and ("rope_local_base_freq" in config or model_type.startswith("gemma3")):
        scaling = {}
    partial = _number(scaling, "partial_rotary_factor", _number(config, "partial_rotary_factor", 1))
    return mixer.key_dim * partial, scaling


def _scaling(config: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return how a config scales positions of a kind of layer, {} where it does not say."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(scaling, Mapping) and isinstance(scaling.get(kind), Mapping):
        scaling = scaling[kind]
    return scaling if isinstance(scaling, Mapping) else {}


def _number(scaling: Mapping[str, Any], key: str, default: float) -> float:
    value = scaling.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else default
