"""How a checkpoint's quantization_config stores its matrices: bits per element, scales and zero points included."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kvplan.architectures.formats import FORMATS, UPLOADED
from kvplan.architectures.tensor_formats import checked_pattern, renamed
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Quantization


def grouped(bits: float, group: object, extra: float) -> float:
    """Return bits per element with `extra` bits of scale and zero point per group (a group of -1 is a whole row)."""
    return bits + (extra / group if isinstance(group, int) and group > 0 else 0.0)


#: methods of 8 bits, with a scale for a block of a matrix where they state its size
BY_BLOCK = ("fp8", "fbgemm_fp8", "finegrained_fp8")


def read_quantization(config: Mapping[str, Any], place: str) -> Quantization | None:
    """Return the checkpoint's weight format, or None when it is not quantised."""
    block = config.get("quantization_config") or config.get("compression_config") or config.get("quantization")
    if block is None:
        return None
    if not isinstance(block, Mapping):
        raise SpecError(f"{place}: quantization_config must be an object, got {shown(block)}")
    if "quant_method" not in block and "bits" in block and "group_size" in block:
        return _mlx(block, place)
    inner = block.get("quantization")
    if isinstance(inner, Mapping) and "quant_algo" in inner:  # as modelopt writes it into hf_quant_config.json
        block = {"quant_method": "modelopt", **inner}
    method = str(block.get("quant_method") or block.get("quant_type") or "").lower().removeprefix("intel/")
    algorithm = str(block.get("quant_algo") or "").lower()
    skip, overrides = _skipped(block, place), _overrides(block, method, place)
    if method in ("compressed-tensors", "compressed_tensors"):
        bits = next((bits for pattern, bits in overrides if pattern == "Linear"), None)
        sized = True
    elif algorithm == "mixed_precision" and isinstance(block.get("quantized_layers"), Mapping):
        based = method in BY_BLOCK  # what is not listed stays as in the fp8 checkpoint it was made of: DeepSeek-V4
        bits, sized, skip = _bits(block, method, place) if based else None, True, () if based else skip
        overrides += _listed(block["quantized_layers"], _modelopt_layer, place)
    else:
        bits = _bits(block, method, place)
        sized = bits is not None
    if str(config.get("expert_dtype") or block.get("expert_dtype")).lower() == "fp4":
        overrides.append(("mlp.experts", FORMATS["mxfp4"].bits))
    head = block.get("lm_head") is True
    if method in ("exl2", "exl3"):
        head = True
        overrides.append(("lm_head", _number(block, ("head_bits",), 6, place)))
    named = f"has quant_method {shown(method)}, which kvplan cannot size" if method else "names no quant_method"
    named += f" with quant_algo {shown(algorithm)}" if method.startswith("modelopt") and algorithm else ""
    problem = (
        f"{place}: quantization_config {named}; "
        f"say how weights are stored with weights={', '.join(f.name for f in FORMATS.values() if f.quantization)}"
    )
    return Quantization(
        method=algorithm or method,
        bits=bits,
        matrix_bits=_codebooks(block, place) if method == "aqlm" else 0.0,
        row_bits=16.0 if method == "aqlm" else 0.0,
        compute=_compute(method, algorithm, block),
        skip=skip,
        overrides=tuple(pair for pair in overrides if pair[0] != "Linear"),
        head=head,
        kv_bits=_kv_bits(block),
        problem="" if sized else problem,
    )


def _mlx(block: Mapping[str, Any], place: str) -> Quantization:
    """Return MLX's format: a 16-bit scale and bias a group, the embedding and the head among what it stores so.

    Modules listed by name have sizes of their own, or none where they are left alone (false).
    """

    def sized(value: object) -> float | None:
        if not isinstance(value, Mapping):
            return 16.0 if value is False else None
        mode = str(value.get("mode", block.get("mode", "affine"))).lower()
        if mode in FORMATS:
            return FORMATS[mode].bits
        bits = _number({**block, **value}, ("bits",), 4, place)
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


def _quark(block: Mapping[str, Any], place: str) -> tuple[float | None, list[tuple[str, float]]]:
    """Return AMD Quark's bits per element, and (pattern, bits) of its layers stored otherwise."""
    everywhere, pairs = _quark_bits(block.get("global_quant_config"), place), []
    for key in ("layer_type_quant_config", "layer_quant_config"):
        layers = block.get(key)
        for name, scheme in layers.items() if isinstance(layers, Mapping) else ():
            bits = _quark_bits(scheme, place)
            if bits is not None and bits != everywhere:
                pairs.append((checked_pattern("Linear" if str(name) == "nn.Linear" else str(name), place), bits))
    return everywhere, pairs


def _quark_bits(scheme: object, place: str) -> float | None:
    """Return bits per element of one of AMD Quark's schemes; one of two steps is stored as its last one says."""
    stated = scheme.get("weight") if isinstance(scheme, Mapping) else None
    if isinstance(stated, list) and stated:
        stated = stated[0]
    if not isinstance(stated, Mapping):
        return None
    named = str(stated.get("dtype", "")).lower()
    width = re.search(r"(?:fp|int|mx|float)_?(?:fp|int)?(\d{1,2})", named)
    if width is None or int(width[1]) not in (2, 3, 4, 6, 8, 16):
        return None
    bits = float(width[1])
    scale = 8 if "e8m0" in str(stated.get("scale_format", "")) or (bits in (4, 6) and "fp" in named) else 16
    by_group = named.startswith("mx") or "group" in str(stated.get("qscheme", ""))
    return grouped(bits, stated.get("group_size") or 32 if by_group else None, scale)


def _compute(method: str, algorithm: str, block: Mapping[str, Any]) -> int:
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


def _skipped(block: Mapping[str, Any], place: str) -> tuple[str, ...]:
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


def _overrides(block: Mapping[str, Any], method: str, place: str) -> list[tuple[str, float]]:
    """Return (pattern, bits) of modules stored otherwise than the rest: compressed-tensors' groups, GPTQ's rules."""
    pairs: list[tuple[str, float]] = []
    groups = block.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            targets = group.get("targets") or ["Linear"]
            bits = _group_bits(weights, place)
            pairs += [(checked_pattern(str(t), place), bits) for t in targets] if isinstance(targets, list) else []
    if method == "quark":
        pairs += _quark(block, place)[1]
    extra = block.get("extra_config")
    if isinstance(extra, Mapping) and method in ("auto-round", "autoround"):
        pairs += _listed(extra, lambda change: _rounded(change, block, place), place)
    dynamic = block.get("dynamic")
    for rule, change in dynamic.items() if isinstance(dynamic, Mapping) and method.startswith("gptq") else ():
        if isinstance(change, Mapping) and not str(rule).startswith("-:"):
            bits = _number(change, ("bits",), _number(block, ("bits",), 4, place), place)
            size = change.get("group_size", block.get("group_size", 128))
            pairs.append((checked_pattern(f"re:{str(rule).removeprefix('+:')}", place), grouped(bits, size, 16 + bits)))
    return pairs


def _rounded(change: object, block: Mapping[str, Any], place: str) -> float | None:
    """Return bits per element of a module that AutoRound lists in its extra_config, 16 where it is left alone."""
    if not isinstance(change, Mapping):
        return None
    bits = _number(change, ("bits",), _number(block, ("bits",), 4, place), place)
    return 16.0 if bits >= 16 else grouped(bits, change.get("group_size", block.get("group_size", 128)), 16 + bits)


def _group_bits(weights: Mapping[str, Any], place: str) -> float:
    """Return bits per element of one compressed-tensors scheme."""
    bits = _number(weights, ("num_bits",), 8, place)
    if weights.get("type") == "float" and bits == 4:
        return FORMATS["nvfp4"].bits if weights.get("group_size") == 16 else FORMATS["mxfp4"].bits
    return grouped(bits, weights.get("group_size"), 16 + (0 if weights.get("symmetric", True) else bits))


def _bits(block: Mapping[str, Any], method: str, place: str) -> float | None:
    """Return bits per element of the matrices, None when the block does not say how they are stored."""
    if method in BY_BLOCK:
        return 8 + _block_scale(block.get("weight_block_size"))
    if method in ("awq", "gptq", "auto-round", "autoround", "gptq_marlin", "awq_marlin"):
        bits = _number(block, ("bits", "w_bit"), 4, place)
        beside = 32 if block.get("packing_format") == "mlx" else 16 + bits  # a scale and a bias, or a zero point
        return grouped(bits, block.get("group_size", 128), beside)
    if method in ("bitsandbytes", "bnb"):
        if block.get("load_in_8bit") or block.get("_load_in_8bit"):
            return 8.0
        return 4 + 0.127 if block.get("bnb_4bit_use_double_quant") else 4.5  # QLoRA, arXiv 2305.14314, section 3
    if method in ("exl2", "exl3", "marlin"):
        bits = _number(block, ("bits",), 4, place)
        return bits if method != "marlin" else grouped(bits, block.get("group_size", 128), 16)
    if method == "aqlm":
        books, width, group = _additive(block, place)
        return books * width / group
    if method == "quark":
        return _quark(block, place)[0]
    if method == "hqq":
        stated = block.get("quant_config")
        inner = stated.get("weight_quant_params") if isinstance(stated, Mapping) else None
        inner = inner if isinstance(inner, Mapping) else {}
        bits = _number(inner, ("nbits",), 4, place)
        return grouped(bits, inner.get("group_size", 64), 32)
    if method.startswith("modelopt") or block.get("quant_algo"):
        named = str(block.get("quant_algo", "")).upper()
        return MODELOPT.get(named, FORMATS["nvfp4"].bits if "fp4" in method else None)
    if method == "fp_quant":
        return FORMATS.get(str(block.get("forward_dtype", "nvfp4")).lower(), FORMATS["nvfp4"]).bits
    if method == "higgs":
        return grouped(_number(block, ("bits",), 4, place), block.get("group_size", 256), 16)
    named = str(block.get("quant_type", block.get("weights", ""))).lower()
    by_method = {"mxfp4": FORMATS["mxfp4"].bits, "eetq": 8.0, "bitnet": 2.0}
    return by_method.get(method, _by_name(named) if method in ("torchao", "quanto") else None)


def _additive(block: Mapping[str, Any], place: str) -> tuple[float, float, float]:
    """Return AQLM's codebooks of a matrix, the bits of an index into one, and the elements that an entry stands for."""
    usual = {"num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8, "out_group_size": 1}
    books, width, inner, outer = (_number(block, (name,), size, place) for name, size in usual.items())
    return books, width, inner * outer


def _codebooks(block: Mapping[str, Any], place: str) -> float:
    """Return the bits that AQLM's codebooks take beside the indices of each matrix: 16 an element (arXiv 2401.06118).

    One of 16 bits for groups of 8 is 1 MiB, a scale of 16 bits a row besides: Llama 3 8B in 2 bits is 4.1 GB.
    """
    books, width, group = _additive(block, place)
    return books * 2**width * group * 16


def _quark_cache(block: Mapping[str, Any]) -> float | None:
    """Return the bits of the cache that AMD Quark's export fixes: those of the keys' and values' outputs."""
    cached = block.get("kv_cache_quant_config") or block.get("layer_quant_config")
    for name, scheme in cached.items() if isinstance(cached, Mapping) else ():
        out = scheme.get("output_tensors") if isinstance(scheme, Mapping) else None
        if re.search(r"[kv]_proj", str(name)) and isinstance(out, Mapping) and "8" in str(out.get("dtype", "")):
            return 8.0
    return None


#: bits by modelopt's quant_algo
MODELOPT = {
    "FP8": 8.0,
    "FP8_PB_WO": FORMATS["fp8"].bits,
    "NVFP4": FORMATS["nvfp4"].bits,
    "W4A16_AWQ": FORMATS["int4"].bits,
    "W4A8_AWQ": FORMATS["int4"].bits,
    "INT4_AWQ": FORMATS["int4"].bits,
    "NVFP4_AWQ": FORMATS["nvfp4"].bits,
    "W4A16_NVFP4": FORMATS["nvfp4"].bits,
    "W4A8_NVFP4_FP8": FORMATS["nvfp4"].bits,
    "MXFP4": FORMATS["mxfp4"].bits,
    "W4A8_MXFP4_FP8": FORMATS["mxfp4"].bits,
    "MXFP8": UPLOADED["mxfp8"].bits,
    "FP8_PER_CHANNEL_PER_TOKEN": 8.0,
    "W8A8_SQ_PER_CHANNEL": 8.0,
    "W8A16": 8.0,
    "MIXED_PRECISION": 8.0,
}


def _by_name(named: str) -> float | None:
    """Return the bits a name such as int4_weight_only or float8 stands for."""
    for word, bits in (("int4", FORMATS["int4"].bits), ("int8", 8.0), ("float8", 8.0), ("fp8", 8.0), ("int2", 2.5)):
        if word in named:
            return bits
    return None


def _block_scale(size: object) -> float:
    """Return the bits per element of one 32-bit scale per block of [rows, columns]."""
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size):
        area: int = size[0] * size[1]
        return 32 / area
    return 0.0


def _number(block: Mapping[str, Any], names: tuple[str, ...], default: float, place: str) -> float:
    for name in names:
        value = block.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 32:
                raise SpecError(f"{place}: quantization_config: {name} must be from 1 to 32, got {shown(value)}")
            return float(value)
    return default


def _kv_bits(block: Mapping[str, Any]) -> float | None:
    scheme = block.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and scheme.get("num_bits") in (4, 8, 16):
        return float(scheme["num_bits"])
    stated = {"FP8": 8.0, "NVFP4": FORMATS["nvfp4"].bits}.get(str(block.get("kv_cache_quant_algo", "")).upper())
    return stated or _quark_cache(block)
