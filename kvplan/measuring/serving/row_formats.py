"""The formats of weights and of the cache that an end-to-end row names, in the words of those who measured."""

import re
from dataclasses import replace

from kvplan.architectures.formats import FORMATS, UPLOADED, WeightFormat, format_named
from kvplan.architectures.reader import DTYPE_BITS
from kvplan.errors import SpecError, shown
from kvplan.specs.identity import stored_bits
from kvplan.specs.model import ModelSpec

#: words of formats inside longer ones, as files of checkpoints write them
INSIDE = (("w4a16", "int4"), ("int4", "int4"), ("w8a16", "int8"), ("int8", "int8"), ("fp8", "fp8"))
#: widths of a cache by words inside its name; those of llama.cpp with a 16-bit scale (and minimum) per 32 [bit]
KV_BITS = (
    ("fp8", 8.0), ("int8", 8.0), ("nvfp4", 4.0), ("int4", 4.0), ("turbo", 4.0), ("bf16", 16.0), ("fp16", 16.0),
    ("q8_0", 8.5), ("q5_1", 6.0), ("q5_0", 5.5), ("q4_1", 5.0), ("q4_0", 4.5), ("iq4_nl", 4.5), ("f16", 16.0),
    ("f32", 32.0),
)  # fmt: skip
#: bits per weight, as llama.cpp counts them
BPW = re.compile(r"(\d{1,2}(?:\.\d+)?) ?bpw")


def with_weights(model: ModelSpec, word: str) -> tuple[ModelSpec, str | None]:
    """Return a model and the format of weights a row names; one that only uploads come in becomes the model's own."""
    low = word.strip().lower()
    counted = BPW.fullmatch(low)
    form = WeightFormat(name="gguf", bits=float(counted[1]), everywhere=True) if counted else None
    form = form or UPLOADED.get(low.replace("_", "-"))
    if form is None or format_named(low):
        return model, weight_format_of(model, word)
    if form.bits < 1:
        raise SpecError(f"gemm_quant: expected from 1 bpw, got {shown(word)}")
    return replace(model, quantization=form.stored(model)), None


def weight_format_of(model: ModelSpec, word: str) -> str | None:
    """Return the format of weights a row names, None for the checkpoint's own, also where it comes in one of its kind.

    Formats within 0.6 bits of each other are of one kind.
    """
    low = word.lower()
    if not low or "checkpoint" in low:
        return None
    within = (FORMATS[name] for inside, name in INSIDE if inside in low.split("/")[0])
    form = format_named(low) or next(within, None)
    if form is None:
        raise SpecError(f"gemm_quant: {shown(word)} is not known; write one of {', '.join(FORMATS)}, or leave it empty")
    own = model.quantization.bits if model.quantization and model.quantization.bits else None
    return None if own and abs(own - form.bits) < 0.6 else form.name


def weight_bits(model: ModelSpec, form: str | None) -> float:
    """Return the width of weights in a format, the checkpoint's own for None, 16 where it has none. [bit]"""
    return FORMATS[form].bits if form else stored_bits(model)


def kv_bits_of(word: str, model: ModelSpec, engine: str) -> float | None:
    """Return the width of the cache a row states, None where it leaves it to the engine and the checkpoint. [bit]"""
    low = word.lower()
    if low in ("", "unknown", "per conf") or (low == "auto" and engine == "trtllm"):
        return None
    if low == "auto":
        return kv_bits_kept(model, None)
    return sum(each := [kv_width(part, word) for part in low.split("/")]) / len(each)


def kv_bits_kept(model: ModelSpec, form: str | None) -> float:
    """Return the width of the cache that engines keep unless told: the checkpoint's where it fixes one, else 16. [bit]

    `form`: the format of weights that a row names, None for the checkpoint's own. Source: `kv_cache_dtype=auto` of
    vLLM and SGLang, `kv_cache_config.dtype: auto` of TensorRT-LLM, `cache_type_k=f16` of llama.cpp.
    """
    own = model.quantization.kv_bits if model.quantization and form is None else None
    return float(own or min(DTYPE_BITS[model.dtype], 16.0))


def kv_width(part: str, word: str) -> float:
    """Return the width of one format of a cache; keys and values may have one each, as in q8_0/q4_0. [bit]"""
    bits = next((bits for name, bits in KV_BITS if name in part), DTYPE_BITS.get(part))
    if bits is None:
        raise SpecError(f"kv_dtype: expected auto, fp8, bf16, q8_0 or the like, got {shown(word)}")
    return float(bits)
