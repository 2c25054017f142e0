"""How a checkpoint's quantization_config stores its matrices: bits per element, scales and zero points included."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvplan.architectures.formats import FORMATS
from kvplan.architectures.quantization_methods import (
    BY_BLOCK,
    MODELOPT,
    Block,
    codebooks,
    group_bits,
    grouped,
    method_bits,
    number,
    quark,
    rounded,
)
from kvplan.architectures.tensor_formats import checked_pattern, renamed
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Quantization

#: methods whose matrices have an average of bits, their output head more
AVERAGED = ("exl2", "exl3")


def read_quantization(config: Mapping[str, Any], place: str) -> Quantization | None:
    """Return the checkpoint's weight format, or None when it is not quantised."""
    block = _stated(config, place)
    if block is None:
        return None
    if "quant_method" not in block and "bits" in block and "group_size" in block:
        return _mlx(block, place)
    method = str(block.get("quant_method") or block.get("quant_type") or "").lower().removeprefix("intel/")
    algorithm = str(block.get("quant_algo") or "").lower()
    overrides = _overrides(config, block, method, place)
    bits, sized = _bits(block, method, overrides, place)
    based = _mixed(block) is not None and method in BY_BLOCK
    additive = method == "aqlm"
    return Quantization(
        method=algorithm or method,
        bits=bits,
        matrix_bits=codebooks(block, place) if additive else 0.0,
        row_bits=16.0 if additive else 0.0,
        compute=_compute(method, algorithm, block),
        skip=() if based else _skipped(block, place),
        overrides=tuple(pair for pair in overrides if pair[0] != "Linear"),
        head=method in AVERAGED or block.get("lm_head") is True,
        kv_bits=_kv_bits(block),
        problem="" if sized else _unsized(method, algorithm, place),
    )


def _bits(block: Block, method: str, overrides: Sequence[tuple[str, float]], place: str) -> tuple[float | None, bool]:
    """Return bits per element of what no override names, None for 16, and whether the block tells all sizes."""
    if method in ("compressed-tensors", "compressed_tensors"):
        return next((bits for pattern, bits in overrides if pattern == "Linear"), None), True
    if _mixed(block) is not None:  # what is not listed stays as in the fp8 checkpoint it was made of: DeepSeek-V4
        return method_bits(block, method, place) if method in BY_BLOCK else None, True
    bits = method_bits(block, method, place)
    return bits, bits is not None


def _stated(config: Mapping[str, Any], place: str) -> Block | None:
    """Return a config's block on quantisation, modelopt's own file unpacked, None without one; raise SpecError."""
    block = config.get("quantization_config") or config.get("compression_config") or config.get("quantization")
    if block is not None and not isinstance(block, Mapping):
        raise SpecError(f"{place}: quantization_config must be an object, got {shown(block)}")
    inner = block.get("quantization") if block else None
    if isinstance(inner, Mapping) and "quant_algo" in inner:  # as modelopt writes it into hf_quant_config.json
        return {"quant_method": "modelopt", **inner}
    return block


def _unsized(method: str, algorithm: str, place: str) -> str:
    """Return what to say of a checkpoint whose bytes its block does not tell."""
    named = f"has quant_method {shown(method)}, which kvplan cannot size" if method else "names no quant_method"
    named += f" with quant_algo {shown(algorithm)}" if method.startswith("modelopt") and algorithm else ""
    known = ", ".join(form.name for form in FORMATS.values() if form.quantization)
    return f"{place}: quantization_config {named}; say how weights are stored with weights={known}"


def _mlx(block: Block, place: str) -> Quantization:
    """Return MLX's format: a 16-bit scale and bias a group, the embedding and the head among what it stores so.

    Modules listed by name have sizes of their own, or none where they are left alone (false).
    """

    def sized(value: object) -> float | None:
        if not isinstance(value, Mapping):
            return 16.0 if value is False else None
        mode = str(value.get("mode", block.get("mode", "affine"))).lower()
        if mode in FORMATS:
            return FORMATS[mode].bits
        bits = number({**block, **value}, ("bits",), 4, place)
        return grouped(bits, value.get("group_size", block.get("group_size")), 32)

    listed = {str(name): value for name, value in block.items() if isinstance(value, Mapping) or value is False}
    return Quantization(
        method="mlx",
        bits=sized(block),
        overrides=tuple(_listed(listed, sized, place)),
        head=True,
        embedding=True,
    )


def _listed(modules: Mapping[str, Any], sized: Callable[[Any], float | None], place: str) -> list[tuple[str, float]]:
    """Return (pattern, bits) of modules listed one by one, one pattern for those alike in all layers but the number.

    Experts, which stand in one tensor here, are taken together.
    """
    alike: dict[tuple[str, float], list[str]] = {}
    for name, value in modules.items():
        bits = sized(value)
        if bits is None:
            continue
        layer = _LAYER.match(renamed(str(name)))
        number, rest = (layer[1], layer[2]) if layer else ("", renamed(str(name)).removeprefix("model."))
        rest = re.sub(r"\.experts\..*", ".experts", rest)
        places = alike.setdefault((rest, bits), [])
        if number not in places[-1:]:
            places.append(number)
    pairs = []
    for (rest, bits), numbers in alike.items():
        if numbers == [""]:
            pairs.append((checked_pattern(rest, place), bits))
        else:
            several = "|".join(sorted({n for n in numbers if n}, key=int))
            pairs.append((checked_pattern(rf"re:model\.layers\.(?:{several})\.{re.escape(rest)}(?:\.|$)", place), bits))
    return pairs


#: a module of a numbered layer, as kvplan names it
_LAYER = re.compile(r"model\.layers\.(\d{1,4})\.(.+)")


def _modelopt_layer(value: object) -> float | None:
    """Return bits per element of one entry of modelopt's quantized_layers, None for one without an algorithm."""
    named = value.get("quant_algo") if isinstance(value, Mapping) else None
    return MODELOPT.get(str(named).upper())


def _compute(method: str, algorithm: str, block: Block) -> int:
    """Return the width of the operands a format multiplies in."""
    if algorithm in FORMATS:
        return FORMATS[algorithm].compute
    scheme = block.get("global_quant_config") if method == "quark" else None
    acts = scheme.get("input_tensors") if isinstance(scheme, Mapping) else None
    narrow = str(acts.get("dtype", "")).lower() if isinstance(acts, Mapping) else ""
    if "fp4" in narrow or "fp8" in narrow:
        return 4 if "fp4" in narrow else 8
    if method in BY_BLOCK or algorithm.startswith("fp8"):
        return 8
    return 4 if "fp4" in method else 16


#: where methods list the modules they leave alone
SKIP_KEYS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "skip_modules",
    "exclude",
    "llm_int8_skip_modules",
    "linear_weights_not_to_quantize",
)


def _skipped(block: Block, place: str) -> tuple[str, ...]:
    """Return the modules left alone: listed by name or pattern, or by GPTQ's '-:' rules."""
    patterns = []
    for key in SKIP_KEYS:
        listed = block.get(key) or []
        if not isinstance(listed, (list, tuple)):
            raise SpecError(f"{place}: quantization_config: {key} must be a list of module names, got {shown(listed)}")
        patterns += [checked_pattern(str(name).removesuffix(".weight"), place) for name in listed]
    dynamic = block.get("dynamic")
    if isinstance(dynamic, Mapping):
        patterns += [checked_pattern(f"re:{str(rule)[2:]}", place) for rule in dynamic if str(rule).startswith("-:")]
    return tuple(patterns)


def _mixed(block: Block) -> Block | None:
    """Return the modules whose formats modelopt lists one by one, None where it does not."""
    layers = block.get("quantized_layers")
    mixed = str(block.get("quant_algo") or "").lower() == "mixed_precision"
    return layers if mixed and isinstance(layers, Mapping) else None


def _overrides(config: Mapping[str, Any], block: Block, method: str, place: str) -> list[tuple[str, float]]:
    """Return (pattern, bits) of modules stored otherwise than the rest; the first that a module matches holds."""
    pairs = _groups(block, place)
    if method == "quark":
        pairs += quark(block, place)[1]
    extra = block.get("extra_config")
    if isinstance(extra, Mapping) and method in ("auto-round", "autoround"):
        pairs += _listed(extra, lambda change: rounded(change, block, place), place)
    if method.startswith("gptq"):
        pairs += _rules(block, place)
    if (layers := _mixed(block)) is not None:
        pairs += _listed(layers, _modelopt_layer, place)
    if str(config.get("expert_dtype") or block.get("expert_dtype")).lower() == "fp4":
        pairs.append(("mlp.experts", FORMATS["mxfp4"].bits))
    if method in AVERAGED:
        pairs.append(("lm_head", number(block, ("head_bits",), 6, place)))
    return pairs


def _groups(block: Block, place: str) -> list[tuple[str, float]]:
    """Return (pattern, bits) of compressed-tensors' groups."""
    pairs: list[tuple[str, float]] = []
    groups = block.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            targets = group.get("targets") or ["Linear"]
            bits = group_bits(weights, place)
            pairs += [(checked_pattern(str(t), place), bits) for t in targets] if isinstance(targets, list) else []
    return pairs


def _rules(block: Block, place: str) -> list[tuple[str, float]]:
    """Return (pattern, bits) of GPTQ's '+:' rules."""
    pairs: list[tuple[str, float]] = []
    dynamic = block.get("dynamic")
    for rule, change in dynamic.items() if isinstance(dynamic, Mapping) else ():
        if isinstance(change, Mapping) and not str(rule).startswith("-:"):
            bits = number(change, ("bits",), number(block, ("bits",), 4, place), place)
            size = change.get("group_size", block.get("group_size", 128))
            pairs.append((checked_pattern(f"re:{str(rule).removeprefix('+:')}", place), grouped(bits, size, 16 + bits)))
    return pairs


def _quark_cache(block: Block) -> float | None:
    """Return the bits of the cache that AMD Quark's export fixes: those of the keys' and values' outputs."""
    cached = block.get("kv_cache_quant_config") or block.get("layer_quant_config")
    for name, scheme in cached.items() if isinstance(cached, Mapping) else ():
        out = scheme.get("output_tensors") if isinstance(scheme, Mapping) else None
        if re.search(r"[kv]_proj", str(name)) and isinstance(out, Mapping) and "8" in str(out.get("dtype", "")):
            return 8.0
    return None


def _kv_bits(block: Block) -> float | None:
    scheme = block.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and scheme.get("num_bits") in (4, 8, 16):
        return float(scheme["num_bits"])
    stated = {"FP8": 8.0, "NVFP4": FORMATS["nvfp4"].bits}.get(str(block.get("kv_cache_quant_algo", "")).upper())
    return stated or _quark_cache(block)
