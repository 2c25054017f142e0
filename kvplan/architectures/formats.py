"""Weight formats: the bits an element takes, the width its products compute in, and every name a format goes by."""

import re
from dataclasses import dataclass, replace

from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec, Quantization


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """A format that weights are stored in."""

    name: str  #: as options and files spell it
    bits: float  #: bits per element, scales and zero points included [bit]
    compute: int = 16  #: width of the operands of matrix products; formats that are not multiplied are unpacked [bit]
    searched: bool = False  #: whether `recommend` tries it unasked
    vendors: tuple[str, ...] = ()  #: GPUs it is for, any where none is named
    everywhere: bool = False  #: whether the embedding and the output head are stored so too
    #: modules that published checkpoints of models with routed experts leave in 16 bits
    beside_experts: tuple[str, ...] = ()
    #: the same of models whose linear attention stands beside routed experts
    beside_states: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  #: other names in checkpoints, benchmark files and model names, in lower case
    outer_bits: float | None = None  #: of the embedding and the output head, None: as the rest [bit]
    seen: tuple[float, float] | None = None  #: least and most that files of this name held, None: one rule [bit]
    experts: float | None = None  #: bits an element of routed experts takes, None: as the rest [bit]
    books: float = 0.0  #: of the codebooks of each matrix, whose rows have scales of 16 bits then [bit]
    averaged: bool = False  #: whether a mixture's average is counted whatever share its embedding and head are

    @property
    def quantization(self) -> Quantization | None:
        """How a checkpoint of this format stores its matrices, None for formats of 16 bits and more."""
        if self.bits >= 16:
            return None
        outer = self.outer_bits
        apart = (("mlp.experts", self.experts),) if self.experts else ()
        return Quantization(
            method=self.name,
            bits=self.bits,
            matrix_bits=self.books,
            row_bits=16.0 if self.books else 0.0,
            compute=self.compute,
            overrides=((("embed_tokens", outer), ("lm_head", outer)) if self.everywhere else (("lm_head", outer),))
            if outer
            else apart,
            head=self.everywhere or outer is not None,
            embedding=self.everywhere,
        )

    def stored(self, model: ModelSpec) -> Quantization | None:
        """Return how a checkpoint of a model in this format stores its matrices, None for 16 bits and more."""
        how = self.quantization
        linear = any(".linear_attn." in name for name, _ in model.weights())
        beside = (linear and self.beside_states) or self.beside_experts
        if how is not None and self.name in EMBEDDED and (model.tied or not self.averaged):
            apart = (("embed_tokens", EMBEDDED[self.name]), ("lm_head", OUTPUT))
            return replace(how, bits=_inside(self), overrides=(("embed_tokens", OUTPUT),) if model.tied else apart)
        routed = how is not None and beside and any(w.split == "expert" for _, w in model.weights())
        return replace(how, skip=beside) if how is not None and routed else how

    def native(self, gpu: Gpu) -> bool:
        """Return whether a GPU multiplies the format as it is stored, or 16-bit operands unpacked from it."""
        rates = {4: gpu.fp4, 8: gpu.fp8}
        return bool(rates.get(self.compute, gpu.wide)) and (not self.vendors or gpu.vendor in self.vendors)


#: every format a plan can ask for, by name. Adding one is one line here.
#: int4: one 16-bit scale and one 4-bit zero point per 128 (AWQ, arXiv 2306.00978); fp8: one 32-bit scale per 128 x 128
#: (DeepSeek-V3, arXiv 2412.19437); mxfp4: 8-bit scale per 32 (OCP MX 1.0); nvfp4: 8-bit scale per 16 (NVIDIA Blackwell)
#: NVIDIA's NVFP4 checkpoints of models with experts leave attention alone: nvidia/MiniMax-M2.5-NVFP4 holds
#: 2,730,491,904 elements of it in full and its experts in 112,340,238,336 bytes (tensor counts on the hub, 2026-06)
#: int4 uploads of Qwen3.5's and 3.6's 35B-A3B pack routed experts alone: Qwen's own GPTQ block lists the rest, and
#: safetensors of QuantTrio, cyankiwi and palmfuture are 22.7 to 23.7 GiB with the MTP layer (headers, 2026-09)
FORMATS = {
    form.name: form
    for form in (
        WeightFormat(name="fp32", bits=32.0, aliases=("float32",)),
        WeightFormat(name="bf16", bits=16.0, aliases=("bfloat16",)),
        WeightFormat(name="fp16", bits=16.0, aliases=("float16", "half")),
        WeightFormat(
            name="fp8",
            bits=8 + 32 / 128**2,
            compute=8,
            searched=True,
            aliases=("fp8-block", "fp8-e4m3", "fp8-dynamic", "fp8-static"),
        ),
        WeightFormat(name="int8", bits=8 + 16 / 128, aliases=("int8-wo", "w8a8")),
        WeightFormat(
            name="int4",
            bits=4 + (16 + 4) / 128,
            searched=True,
            beside_states=("linear_attn", "self_attn", "shared_experts"),
            aliases=("int4-wo", "awq", "gptq", "w4a16"),
        ),
        WeightFormat(name="mxfp4", bits=4 + 8 / 32, compute=4, searched=True, aliases=("w4a16-mxfp4",)),
        WeightFormat(
            name="nvfp4",
            bits=4 + 8 / 16,
            compute=4,
            searched=True,
            vendors=("nvidia",),
            beside_experts=("self_attn",),
            aliases=("fp4",),
        ),
    )
}
#: bits per element of GGUF's mixtures: averages that llama.cpp prints for Llama 3.1 8B (its quantize tool's README)
GGUF = {
    "iq1-s": 2.00, "iq1-m": 2.15, "iq2-xxs": 2.38, "iq2-xs": 2.59, "iq2-s": 2.74, "iq2-m": 2.93, "iq3-xxs": 3.25,
    "iq3-xs": 3.50, "iq3-s": 3.66, "iq3-m": 3.76, "iq4-nl": 4.68, "q2-k-s": 2.97, "q2-k": 3.16, "q3-k-s": 3.64,
    "q3-k-m": 4.00, "q3-k-l": 4.30, "iq4-xs": 4.46, "q4-0": 4.66, "q4-1": 5.12, "q4-k-s": 4.67, "q4-k-m": 4.89,
    "q5-0": 5.59, "q5-1": 6.06, "q5-k-s": 5.57, "q5-k-m": 5.70, "q6-k": 6.56, "q8-0": 8.50,
}  # fmt: skip
#: bits an element takes in the embedding of a mixture, and in its output head (Q6_K), which a model whose two are one
#: table stores it as (llama.cpp's llama_tensor_get_type). The two are a larger part of the model that averages are of
#: than of larger ones: Llama 3.1 70B in Q4_0 is 37.22 GiB as llama.cpp prints it (ollama/ollama#6279), not 38.3
EMBEDDED = {
    "q3-k-s": 3.4375, "q3-k-m": 3.4375, "q3-k-l": 3.4375, "q4-0": 4.5, "q4-1": 5.0, "q4-k-s": 4.5, "q4-k-m": 4.5,
    "q5-0": 5.5, "q5-1": 6.0, "q5-k-s": 5.5, "q5-k-m": 5.5, "iq4-xs": 4.25, "iq4-nl": 4.5,
}  # fmt: skip
OUTPUT = 6.5625
#: elements of Llama 3.1 8B, over which GGUF's averages are, and of its embedding, which is as large as its head
AVERAGED, EACH = 8.0303e9, 0.5253e9


def _inside(form: WeightFormat) -> float:
    """Return the bits an element takes in a mixture's layers: what its average leaves beside embedding and head."""
    return (form.bits * AVERAGED - (EMBEDDED[form.name] + OUTPUT) * EACH) / (AVERAGED - 2 * EACH)


#: mixtures whose embedding and output head are stored in 8.5 bits (Q8_0), as bartowski's cards say of them: bits of the
#: rest, which is what the averages above leave for it in Llama 3.1 8B, where 1.05 of 8.03 B elements are those two.
#: Such files of it are 3.69, 4.78, 5.31, 6.06 and 6.85 GB (the card of bartowski/Meta-Llama-3.1-8B-Instruct-GGUF)
WIDE_ENDS = {"q2-k-l": 2.94, "q3-k-xl": 4.19, "q4-k-l": 4.80, "q5-k-l": 5.65, "q6-k-l": 6.56}
#: Unsloth's dynamic mixtures, whose widths are chosen for each model: (bits, the least and the most seen), from sizes
#: of files over elements: DeepSeek-R1 (IQ1_S 140.2, IQ2_XXS 196.2, Q2_K_XL 226.6 GB), V3-0324 (IQ2_XXS 219, Q4_K_XL
#: 405), V3.1 (Q2_K_XL 256, Q5_K_XL 485), QwQ-32B (Q4_K_XL 20.1, Q8_K_XL 38.7), Qwen3-30B-A3B-2507 (Q4_K_XL 17.69),
#: Qwen3.6-27B (Q6_K_XL 25.6), Ministral 3 3B (Q3_K_XL 1.9) and Qwen3.8-2.4T (3 bits: 956) on the hub, 2025 and 2026
DYNAMIC = {
    "ud-iq1-s": (1.67, 1.6, 2.0), "ud-iq2-xxs": (2.5, 2.3, 2.6), "ud-q2-k-xl": (2.9, 2.7, 3.1),
    "ud-q3-k-xl": (3.6, 3.1, 4.4), "ud-q4-k-xl": (4.8, 4.6, 4.9), "ud-q5-k-xl": (5.8, 5.6, 6.0),
    "ud-q6-k-xl": (7.2, 6.6, 7.6), "ud-q8-k-xl": (9.5, 9.0, 10.5),
}  # fmt: skip
#: formats a plan cannot ask for but uploads come in: bits per element, scales included. bitsandbytes: 32-bit scale per
#: 64 (QLoRA, arXiv 2305.14314)
UPLOADED = {
    "bnb-4bit": WeightFormat(name="bnb-4bit", bits=4.5),
    "bnb-8bit": WeightFormat(name="bnb-8bit", bits=8.0),
    "mxfp8": WeightFormat(name="mxfp8", bits=8 + 8 / 32, compute=8),
    # AQLM (arXiv 2401.06118): codebooks x bits of an index into one; groups of 8, of 16 where an element takes one bit
    "aqlm-1x16": WeightFormat(name="aqlm-1x16", bits=2.0, books=2**16 * 8 * 16),
    "aqlm-2x8": WeightFormat(name="aqlm-2x8", bits=2.0, books=2 * 2**8 * 8 * 16),
    "aqlm-1bit": WeightFormat(name="aqlm-1bit", bits=1.0, books=2**16 * 16 * 16),
    # GGUF's MXFP4_MOE: experts alone, Q8_0 for the rest (llama.cpp: LLAMA_FTYPE_MOSTLY_MXFP4_MOE). gpt-oss-20b takes
    # 11,536 MiB in it, as LM Studio prints (lmstudio-bug-tracker#900)
    "mxfp4-moe": WeightFormat(name="mxfp4-moe", bits=8.5, experts=FORMATS["mxfp4"].bits, everywhere=True),
    "w8a8": WeightFormat(name="w8a8", bits=8 + 32 / 8192, compute=8),  # a scale a row
    **{name: WeightFormat(name=name, bits=bits, everywhere=True) for name, bits in GGUF.items()},
    **{name: WeightFormat(name=name, bits=bits, everywhere=True, outer_bits=8.5) for name, bits in WIDE_ENDS.items()},
    **{
        name: WeightFormat(name=name, bits=b, everywhere=True, seen=(low, high))
        for name, (b, low, high) in DYNAMIC.items()
    },
}
_BY_NAME = {name: form for form in FORMATS.values() for name in (form.name, *form.aliases)}
#: a model's name that ends with a format: 'Qwen3-32B-NVFP4', 'qwen3-32b-fp8-dynamic', 'qwen3-32b-gptq-int4'
_ENDING = re.compile(rf"-({'|'.join(sorted(_BY_NAME, key=len, reverse=True))})(-dynamic|-static|-int4|-quantized.*)?$")


def format_named(word: str) -> WeightFormat | None:
    """Return the format of a name or alias, however its words are joined; None for a word that names none."""
    return _BY_NAME.get(word.strip().lower().replace("_", "-"))


def split_format(name: str) -> tuple[str, WeightFormat] | None:
    """Return (the model's name, its format) of a name such as 'Qwen3-32B-FP8'; None where it ends with no format.

    Words may be joined with - or _.
    """
    match = _ENDING.search(name.lower().replace("_", "-"))
    return (name[: match.start()], _BY_NAME[match[1]]) if match else None
