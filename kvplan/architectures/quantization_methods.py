"""Bits per element of a checkpoint's matrices by quantisation method, scales and zero points included."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kvplan.architectures.formats import FORMATS, UPLOADED
from kvplan.architectures.tensor_formats import checked_pattern
from kvplan.errors import SpecError, shown

#: a quantization_config
Block = Mapping[str, Any]

#: methods of 8 bits, with a scale for a block of a matrix where they state its size
BY_BLOCK = ("fp8", "fbgemm_fp8", "finegrained_fp8")
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


def grouped(bits: float, group: object, extra: float) -> float:
    """Return bits per element with `extra` bits of scale and zero point per group (a group of -1 is a whole row)."""
    return bits + (extra / group if isinstance(group, int) and group > 0 else 0.0)


def method_bits(block: Block, method: str, place: str) -> float | None:
    """Return bits per element of the matrices, None when the block does not say how they are stored."""
    if read := METHODS.get(method):
        return read(block, place)
    if method.startswith("modelopt") or block.get("quant_algo"):
        named = str(block.get("quant_algo", "")).upper()
        return MODELOPT.get(named, FORMATS["nvfp4"].bits if "fp4" in method else None)
    read = WITHOUT_ALGORITHM.get(method)
    return read(block, place) if read else None


def _scaled_blocks(block: Block, place: str) -> float:
    """Return the bits of an fp8 element and its part of a 32-bit scale per block of [rows, columns], if any."""
    size = block.get("weight_block_size")
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size):
        return 8 + 32 / float(size[0] * size[1])
    return 8.0


def _integers(block: Block, place: str) -> float:
    """Return the bits of AWQ's, GPTQ's and AutoRound's integers: a scale and a zero point, or a bias, a group."""
    bits = number(block, ("bits", "w_bit"), 4, place)
    beside = 32 if block.get("packing_format") == "mlx" else 16 + bits
    return grouped(bits, block.get("group_size", 128), beside)


def _bitsandbytes(block: Block, place: str) -> float:
    """Return the bits of bitsandbytes' elements (QLoRA, arXiv 2305.14314, section 3)."""
    if block.get("load_in_8bit") or block.get("_load_in_8bit"):
        return 8.0
    return 4 + 0.127 if block.get("bnb_4bit_use_double_quant") else 4.5


def _average(block: Block, place: str) -> float:
    """Return the bits that EXL2 and EXL3 state: an average, scales included."""
    return number(block, ("bits",), 4, place)


def _marlin(block: Block, place: str) -> float:
    return grouped(number(block, ("bits",), 4, place), block.get("group_size", 128), 16)


def _aqlm(block: Block, place: str) -> float:
    books, width, group = _additive(block, place)
    return books * width / group


def _hqq(block: Block, place: str) -> float:
    stated = block.get("quant_config")
    inner = stated.get("weight_quant_params") if isinstance(stated, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else {}
    return grouped(number(inner, ("nbits",), 4, place), inner.get("group_size", 64), 32)


def _fp_quant(block: Block, place: str) -> float:
    return FORMATS.get(str(block.get("forward_dtype", "nvfp4")).lower(), FORMATS["nvfp4"]).bits


def _higgs(block: Block, place: str) -> float:
    return grouped(number(block, ("bits",), 4, place), block.get("group_size", 256), 16)


def _named_type(block: Block, place: str) -> float | None:
    """Return the bits that the name of torchao's or quanto's type stands for, such as int4_weight_only or float8."""
    named = str(block.get("quant_type", block.get("weights", ""))).lower()
    by_word = {"int4": FORMATS["int4"].bits, "int8": 8.0, "float8": 8.0, "fp8": 8.0, "int2": 2.5}
    return next((bits for word, bits in by_word.items() if word in named), None)


def rounded(change: object, block: Mapping[str, Any], place: str) -> float | None:
    """Return bits per element of a module that AutoRound lists in its extra_config, 16 where it is left alone."""
    if not isinstance(change, Mapping):
        return None
    bits = number(change, ("bits",), number(block, ("bits",), 4, place), place)
    return 16.0 if bits >= 16 else grouped(bits, change.get("group_size", block.get("group_size", 128)), 16 + bits)


def group_bits(weights: Mapping[str, Any], place: str) -> float:
    """Return bits per element of one compressed-tensors scheme."""
    bits = number(weights, ("num_bits",), 8, place)
    if weights.get("type") == "float" and bits == 4:
        return FORMATS["nvfp4"].bits if weights.get("group_size") == 16 else FORMATS["mxfp4"].bits
    return grouped(bits, weights.get("group_size"), 16 + (0 if weights.get("symmetric", True) else bits))


def quark(block: Mapping[str, Any], place: str) -> tuple[float | None, list[tuple[str, float]]]:
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


def _additive(block: Mapping[str, Any], place: str) -> tuple[float, float, float]:
    """Return AQLM's codebooks of a matrix, the bits of an index into one, and the elements that an entry stands for."""
    usual = {"num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8, "out_group_size": 1}
    books, width, inner, outer = (number(block, (name,), size, place) for name, size in usual.items())
    return books, width, inner * outer


def codebooks(block: Mapping[str, Any], place: str) -> float:
    """Return the bits that AQLM's codebooks take beside the indices of each matrix: 16 an element (arXiv 2401.06118).

    One of 16 bits for groups of 8 is 1 MiB, a scale of 16 bits a row besides: Llama 3 8B in 2 bits is 4.1 GB.
    """
    books, width, group = _additive(block, place)
    return books * 2**width * group * 16


def number(block: Block, names: tuple[str, ...], default: float, place: str) -> float:
    """Return the first number that a block states under one of the names; raise SpecError outside 1 to 32."""
    for name in names:
        value = block.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 32:
                raise SpecError(f"{place}: quantization_config: {name} must be from 1 to 32, got {shown(value)}")
            return float(value)
    return default


#: method -> its reader of bits per element
METHODS: Mapping[str, Callable[[Block, str], float | None]] = {
    **dict.fromkeys(BY_BLOCK, _scaled_blocks),
    **dict.fromkeys(("awq", "gptq", "auto-round", "autoround", "gptq_marlin", "awq_marlin"), _integers),
    **dict.fromkeys(("bitsandbytes", "bnb"), _bitsandbytes),
    **dict.fromkeys(("exl2", "exl3"), _average),
    "marlin": _marlin,
    "aqlm": _aqlm,
    "quark": lambda block, place: quark(block, place)[0],
    "hqq": _hqq,
}
#: the same of methods beside which a quant_algo counts before them
WITHOUT_ALGORITHM: Mapping[str, Callable[[Block, str], float | None]] = {
    "fp_quant": _fp_quant,
    "higgs": _higgs,
    **dict.fromkeys(("torchao", "quanto"), _named_type),
    "mxfp4": lambda block, place: FORMATS["mxfp4"].bits,
    "eetq": lambda block, place: 8.0,
    "bitnet": lambda block, place: 2.0,
}
