"""How a checkpoint's quantization_config stores its matrices: bits per element, scales and zero points included."""

from collections.abc import Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.specs.model import ModelSpec, Quantization, Weight

#: bits per element of the weight formats a plan can ask for. [bit]
#: int4: one 16-bit scale and one 4-bit zero point per 128 (AWQ, arXiv 2306.00978); fp8: one 32-bit scale per 128 x 128
#: (DeepSeek-V3, arXiv 2412.19437); mxfp4: 8-bit scale per 32 (OCP MX 1.0); nvfp4: 8-bit scale per 16
#: (NVIDIA Blackwell).
FORMATS = {
    "fp32": 32.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8 + 32 / 128**2,
    "int8": 8 + 16 / 128,
    "int4": 4 + (16 + 4) / 128,
    "mxfp4": 4 + 8 / 32,
    "nvfp4": 4 + 8 / 16,
}

#: operand width of the matrix products by format: fp8 and nvfp4 multiply as they are,
#: the others are unpacked to 16 bits first
COMPUTE = {"fp8": 8, "nvfp4": 4, "mxfp4": 4}

#: methods whose files keep embeddings, norms, routers and the output head as they are
_ALWAYS = ("embed", "norm", "lm_head", "router")


def grouped(bits: float, group: object, extra: float) -> float:
    """Return bits per element with `extra` bits of scale and zero point per group (a group of -1 is a whole row)."""
    return bits + (extra / group if isinstance(group, int) and group > 0 else 0.0)


def read_quantization(config: Mapping[str, Any], where: str) -> Quantization | None:
    """Return the checkpoint's weight format, or None when it is not quantised."""
    block = config.get("quantization_config") or config.get("compression_config")
    if block is None:
        return None
    if not isinstance(block, Mapping):
        raise SpecError(f"{where}: quantization_config must be an object, got {block!r}")
    method = str(block.get("quant_method") or block.get("quant_type") or "").lower()
    bits = _bits(block, method, where)
    if bits is None:
        raise SpecError(
            f"{where}: quantization_config has quant_method {method!r}, which kvplan cannot size; "
            "use --weights fp8|int8|int4|mxfp4|nvfp4"
        )
    skip = []
    for key in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "skip_modules", "exclude"):
        listed = block.get(key) or []
        if not isinstance(listed, (list, tuple)):
            raise SpecError(f"{where}: quantization_config: {key} must be a list of module names, got {listed!r}")
        skip += [str(name) for name in listed]
    algorithm = str(block.get("quant_algo", "")).lower()
    compute = COMPUTE.get(
        algorithm,
        8
        if method in ("fp8", "fbgemm_fp8", "finegrained_fp8") or algorithm.startswith("fp8")
        else 4
        if "fp4" in method
        else 16,
    )
    return Quantization(
        method=algorithm or method,
        bits=bits,
        compute=compute,
        skip=tuple(skip),
        kv_bits=_kv_bits(block),
    )


def _bits(block: Mapping[str, Any], method: str, where: str) -> float | None:
    if method in ("fp8", "fbgemm_fp8", "finegrained_fp8"):
        size = block.get("weight_block_size")
        area = (
            size[0] * size[1]
            if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(s, int) and s > 0 for s in size)
            else 0
        )
        return 8 + (32 / area if area else 0.0)
    if method == "mxfp4":
        return FORMATS["mxfp4"]
    if method in ("awq", "gptq", "auto-round", "autoround", "gptq_marlin", "awq_marlin"):
        bits = _number(block, ("bits", "w_bit"), 4, where)
        return grouped(bits, block.get("group_size", 128), 16 + bits)
    if method in ("bitsandbytes", "bnb"):
        if block.get("load_in_8bit") or block.get("_load_in_8bit"):
            return 8.0
        return 4 + 0.127 if block.get("bnb_4bit_use_double_quant") else 4.5  # QLoRA, arXiv 2305.14314, section 3
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed(block, where)
    if method.startswith("modelopt") or block.get("quant_algo"):
        named = str(block.get("quant_algo", "")).upper()
        return {
            "FP8": 8.0,
            "NVFP4": FORMATS["nvfp4"],
            "W4A16_AWQ": FORMATS["int4"],
            "W4A8_AWQ": FORMATS["int4"],
            "MIXED_PRECISION": 8.0,
            "FP8_PB_WO": FORMATS["fp8"],
        }.get(named, FORMATS["nvfp4"] if "fp4" in method else None)
    if method in ("hqq", "quanto", "aqlm", "torchao", "eetq", "higgs", "vptq", "spqr", "quark"):
        return {"eetq": 8.0}.get(method)
    return None


def _compressed(block: Mapping[str, Any], where: str) -> float | None:
    groups = block.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return None
    first = next(iter(groups.values()))
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return None
    bits = _number(weights, ("num_bits",), 8, where)
    if weights.get("type") == "float" and bits == 4:
        return FORMATS["nvfp4"] if weights.get("group_size") == 16 else FORMATS["mxfp4"]
    return grouped(bits, weights.get("group_size"), 16 + (0 if weights.get("symmetric", True) else bits))


def _number(block: Mapping[str, Any], names: tuple[str, ...], default: float, where: str) -> float:
    for name in names:
        value = block.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 32:
                raise SpecError(f"{where}: quantization_config: {name} must be from 1 to 32, got {value!r}")
            return float(value)
    return default


def _kv_bits(block: Mapping[str, Any]) -> float | None:
    scheme = block.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and isinstance(scheme.get("num_bits"), int):
        return float(scheme["num_bits"])
    return {"FP8": 8.0}.get(str(block.get("kv_cache_quant_algo", "")).upper())


def is_quantised(name: str, weight: Weight, how: Quantization) -> bool:
    """Whether checkpoints of this kind store the named tensor in the low-bit format."""
    if not weight.matmul or any(word in name for word in _ALWAYS):
        return False
    if how.only:
        return any(word in name for word in how.only)
    return not any(_matches(pattern, name) for pattern in how.skip)


def _matches(pattern: str, name: str) -> bool:
    """Match an ignore entry: a module name or part of one, with * or 're:' patterns as the formats write them."""
    from fnmatch import fnmatchcase

    if pattern.startswith("re:"):
        pattern = pattern[3:].replace(".*", "*").replace("\\.", ".").rstrip("$").lstrip("^")
        return fnmatchcase(name, f"*{pattern.strip('*')}*")
    plain = (
        pattern.replace("model.language_model.", "model.")
        .replace("language_model.model.", "model.")
        .replace("language_model.", "")
        .replace("backbone.", "model.")
    )
    if any(mark in plain for mark in "*?["):
        return fnmatchcase(name, f"*{plain}*") or fnmatchcase(name, plain)
    return (
        name == plain
        or name.startswith(f"{plain}.")
        or (not plain.startswith("model.") and f".{plain}." in f".{name}.")
    )


def weight_bytes(model: ModelSpec, name: str, weight: Weight, dtype_bits: float, how: Quantization | None) -> float:
    """Return the stored bytes of one tensor (all its copies). [B]"""
    bits = how.bits if how is not None and is_quantised(name, weight, how) else dtype_bits
    return weight.parameters * bits / 8
