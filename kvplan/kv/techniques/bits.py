"""Techniques that store fewer bits an element, with a scale per tensor, group, token and head, or channel."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import KEY_SCALES, Group, KVLayout, Unpacking
from kvplan.kv.techniques.technique import Speed, paper, require_groups, served, technique

#: elements that share one bf16 scale and one bf16 zero point in int8 and int4 caches (quanto, hqq)
GROUP = 64
#: of a scale per token and head in vLLM's caches, for keys and for values [B]
HEAD_SCALE = 4
#: elements that share one fp8 scale in an NVFP4 cache
BLOCK = 16
#: KIVI: tokens or elements that share a scale and a zero point of 16 bits each, and the last tokens left unrounded
KIVI_GROUP, KIVI_RECENT = 32, 128
#: vLLM leaves so many layers at either end in 16 bits under TurboQuant, but for hybrid models
BOUNDARY = 2
#: bytes beside the elements of one vector, and bits of an element, of a group
Side = Callable[[Group], float]


def quantised(
    layout: KVLayout, bits: float, spelled: str, group: int = 0, *, side: Side | None = None, speed: Speed | None = None
) -> KVLayout:
    """Store elements in `bits`, with 32 bits of scale and zero point per `group` elements of a key or a value.

    `side` gives the bytes beside a token's elements in another way, `speed` what unpacking them takes.
    """
    require_groups(
        layout, lambda g: g.token_bytes > 0, f"{spelled}: this model stores no keys and values, only a recurrent state"
    )

    def grouped(g: Group) -> float:
        return g.vectors * (ceil(g.key_width / group) + ceil((g.width - g.key_width) / group)) * 4.0 if group else 0.0

    def change(g: Group) -> Group:
        if not g.vectors:
            return g
        if g.bits <= bits:
            raise Incompatible(f"{spelled}: the cache is already stored in {g.bits:g} bits")
        alone = change(g.alone) if g.alone is not None else None
        unpacks = unpacking(g, speed) if speed else g.unpacks
        return replace(g, bits=bits, side=g.side + (side or grouped)(g), alone=alone, unpacks=unpacks)

    changed = layout.each(change)
    return replace(changed, prefill_flops=changed.prefill_flops * (speed.prefill if speed else 1.0))


def unpacking(g: Group, speed: Speed) -> Unpacking:
    """Return what unpacking one token of a group takes."""
    heads = max(g.query_heads, g.vectors) if speed.by_query else g.vectors
    return Unpacking(work=heads * g.width * speed.work, by_query=speed.by_query, lag=speed.lag, fixed=speed.fixed)


def per_head(g: Group) -> float:
    """Return the scales of a token: one for the keys and one for the values of each head. [B]"""
    return 2 * HEAD_SCALE * g.vectors


def per_block(g: Group) -> float:
    """Return NVFP4's scales of a token: one byte for 16 elements of a key or a value. [B]"""
    return float(g.vectors * (ceil(g.key_width / BLOCK) + ceil((g.width - g.key_width) / BLOCK)))


def rotated(bits: float) -> Side:
    """Return what TurboQuant stores beside a token: norms, scales, zeros, and the bytes that round vectors up. [B]"""

    def side(g: Group) -> float:
        keys, values = g.key_width, g.width - g.key_width
        slot = ceil(keys * bits / 8) + 2 + (ceil(values * bits / 8) + 4 if values else 0)
        return g.vectors * (slot + slot % 2 - g.width * bits / 8)

    return side


#: vLLM's Triton kernel cuts a sequence into 16 parts and unpacks for all heads of a group at once
TOKEN = Speed(
    work=6e-11, lag=9.3e-9, prefill=2.3, low=0.75, high=1.2,
    measured="vLLM 0.23 on RTX 3090, Qwen3.5-27B and Qwen3.6-27B, 1k to 128k tokens, one sequence",
)  # fmt: skip
#: its kernel for TurboQuant cuts into 32 parts, and unpacks keys and values anew for every query head
TURBO4 = Speed(
    work=1.1e-10, by_query=True, lag=12.8e-9, fixed=20e-6, low=0.7, high=1.55,
    measured="vLLM 0.19 to 0.23 on RTX 3090, A100 and H100, seven models, 128 to 41k tokens, 1 to 80 sequences",
)  # fmt: skip
TURBO3 = replace(TURBO4, work=1.5e-10, lag=17e-9)
FP8 = Speed(
    low=0.85, high=1.35,
    measured="vLLM 0.19 on H100 and 0.23 on RTX 3090, Llama-3.1-8B, gpt-oss-20b and Qwen3.6-27B",
)  # fmt: skip
#: nobody published times of NVFP4 on the GPUs whose units multiply it; on RTX PRO 6000 steps took 1.18 times fp8's, on
#: GB10 1.3 times (vLLM pull request 46329, SGLang issue 36797)
NVFP4 = Speed(low=0.7, high=2.5)
#: integers in groups: LMDeploy 2023 took 1.07 times the 16-bit step on A800, llama.cpp 1.28 times at 55k on RTX 3090,
#: LMDeploy 0.4 served 1.3 times the requests: taken for a kernel that unpacks while it reads, as wide as those
GROUPED = Speed(work=6e-11, low=0.6, high=3.0)
#: 4-bit integers in kernels like those of `TOKEN`
TOKEN4 = replace(TOKEN, low=0.6, high=2.0, measured="")


@technique(
    "fp8",
    spelling="fp8",
    title="fp8",
    factor="bits",
    example="fp8",
    granularity="element",
    needs="nothing (one scale per tensor)",
    risk="small",
    engines=(
        served("vllm", "0.3", "2024-01-28", "kv_cache_dtype=fp8", ref="https://github.com/vllm-project/vllm/pull/2279"),
        served("sglang", "0.4.2", "2025-01-27", "kv_cache_dtype=fp8_e4m3"),
        served("trtllm", "0.6", "2023-12-04", "kv_cache_config.dtype=fp8"),
    ),
    quality="MRCR retained 0.975 (70B, 128k), 0.93 to 0.98 (30B-A3B, 256k), 1.00 (27B, 1M); reasoning 0.97 and more",
    compared=("fp8",),
    speed={"": FP8},
    source=paper("FP8 Formats for Deep Learning, arXiv 2209.05433", "2022-09-12"),
)
def fp8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit floats, one scale per tensor."""
    return quantised(layout, 8.0, "fp8")


@technique(
    "nvfp4",
    spelling="nvfp4",
    title="NVFP4",
    factor="bits",
    example="nvfp4",
    granularity="block of 16 elements",
    needs="a GPU with 4-bit floats (Blackwell)",
    native="fp4",
    risk="small",
    engines=(
        served(
            "trtllm",
            "1.1",
            "2025-09-24",
            "kv_cache_config.dtype=nvfp4",
            ref="https://github.com/NVIDIA/TensorRT-LLM/pull/6244",
        ),
        served(
            "vllm", "0.21", "2026-05-01", "kv_cache_dtype=nvfp4", ref="https://github.com/vllm-project/vllm/pull/40177"
        ),
        served(
            "sglang",
            "0.5.6",
            "2025-12-02",
            "kv_cache_dtype=fp4_e2m1",
            ref="https://github.com/sgl-project/sglang/pull/12612",
        ),
    ),
    quality="less than 1 % lost on RULER 64k, LiveCodeBench, MBPP and MMLU-Pro (Qwen3-Coder-480B, NVIDIA's own)",
    searched=("nvfp4",),
    speed={"": NVFP4},
    source=paper("Optimizing Inference for Long Context with NVFP4 KV Cache, NVIDIA developer blog", "2025-12-08"),
)
def nvfp4(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 4-bit floats with an fp8 scale per 16 elements (4.5 bits in all)."""
    return quantised(layout, 4.0, "nvfp4", side=per_block)


def scaled(argument: str, name: str) -> bool:
    """Return whether an argument asks for a scale per token and head; UnknownName for any other."""
    if argument not in ("", "token"):
        raise UnknownName("technique", f"{name}:{argument}", [f"{name}:token", name], f"write {name} or {name}:token")
    return argument == "token"


@technique(
    "int8",
    spelling="int8[:token]",
    title="int8",
    factor="bits",
    example="int8",
    granularity="group of 64 elements, or a token's head",
    needs="a kernel that dequantises",
    risk="small",
    engines=(
        served(
            "vllm",
            "0.20",
            "2026-04-27",
            "kv_cache_dtype=int8_per_token_head",
            only="token",
            ref="https://github.com/vllm-project/vllm/pull/38378",
        ),
        served("trtllm", "0.5", "2023-10-19", "int8_kv_cache", until="1.2", only=""),
        served(
            "lmdeploy",
            "0.4",
            "2024-04-23",
            "quant_policy=8",
            only="",
            ref="https://github.com/InternLM/lmdeploy/pull/1377",
        ),
        served("llamacpp", "b1480", "2023-12-07", "cache_type_k=q8_0, cache_type_v=q8_0", only=""),
    ),
    quality="GSM8K retained 1.00 with a scale per token and head (35B-A3B); 4-bit caches 0.97 to 1.00 of LongBench",
    searched=("int8", "int8:token"),
    speed={"": GROUPED, "token": TOKEN},
    source=paper("KIVI, arXiv 2402.02750; group scales as in quanto and hqq; vLLM pull request 38378", "2024-02-05"),
)
def int8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit integers: a scale and zero point per 64, or a scale per token and head."""
    if scaled(argument, "int8"):
        return quantised(layout, 8.0, "int8:token", side=per_head, speed=TOKEN)
    return quantised(layout, 8.0, "int8", GROUP, speed=GROUPED)


@technique(
    "int4",
    spelling="int4[:token]",
    title="int4",
    factor="bits",
    example="int4",
    granularity="group of 64 elements, or a token's head",
    needs="a kernel that dequantises (slower per byte)",
    risk="0 to 3 % lost",
    engines=(
        served("lmdeploy", "0.4", "2024-04-23", "quant_policy=4", only="", ref="https://github.com/InternLM/lmdeploy/pull/1377"),
        served("vllm", "0.25", "2026-07-11", "kv_cache_dtype=int4_per_token_head", only="token", ref="https://github.com/vllm-project/vllm/pull/40835"),
        served("llamacpp", "b1480", "2023-12-07", "cache_type_k=q4_0, cache_type_v=q4_0", only=""),
    ),
    quality="LongBench retained 1.00 (KIVI-4bit) to 0.97 (per-token keys), GSM8K 1.01 (35B-A3B, scale per token and "
    "head); 1B models 0.34 with 2-bit values",
    compared=("int4",),
    searched=("int4", "int4:token"),
    speed={"": GROUPED, "token": TOKEN4},
    source=paper(
        "KIVI, arXiv 2402.02750; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527; vLLM pull "
        "request 40835", "2024-02-05"
    ),
)  # fmt: skip
def int4(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 4-bit integers: a scale and zero point per 64, or a scale per token and head."""
    if scaled(argument, "int4"):
        return quantised(layout, 4.0, "int4:token", side=per_head, speed=TOKEN4)
    return quantised(layout, 4.0, "int4", GROUP, speed=GROUPED)


@technique(
    "kivi",
    spelling="kivi:2|4",
    title="KIVI",
    factor="bits",
    example="kivi:2",
    granularity="group of 32 tokens of a channel (keys), of 32 elements (values)",
    needs="kernels that dequantise; the last 128 tokens stay in 16 bits",
    risk="0 to 4 % lost",
    quality="LongBench retained 1.00 at 4 bits, 0.96 to 0.99 at 2; passage retrieval 0.90 at 2 (Mistral-7B)",
    speed={"2": GROUPED, "4": GROUPED},
    source=paper("KIVI, arXiv 2402.02750", "2024-02-05"),
)
def kivi(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys rounded per channel and values per token in 2 or 4 bits; a scale and zero point per 32 of them."""
    if argument not in ("2", "4"):
        raise UnknownName("technique", f"kivi:{argument}", ["kivi:2", "kivi:4"], "write kivi:2 or kivi:4")

    def side(g: Group) -> float:
        return g.vectors * KEY_SCALES * (g.key_width / KIVI_GROUP + ceil((g.width - g.key_width) / KIVI_GROUP))

    rounded = quantised(
        layout, float(argument), f"kivi:{argument}", side=side, speed=GROUPED,
    )  # fmt: skip

    def change(old: Group, g: Group) -> Group:
        if not g.vectors or old.recent:
            return g
        return replace(g, recent=KIVI_RECENT, together=KIVI_GROUP, full_bits=old.bits)

    return replace(rounded, groups=tuple(map(change, layout.groups, rounded.groups)))


@technique(
    "turboquant",
    spelling="turboquant:3|4",
    title="TurboQuant",
    factor="bits",
    example="turboquant:4",
    granularity="a token's head, rotated",
    needs="kernels that rotate and look up",
    risk="8 % (4 bits) to 32 % (3 bits) of MRCR lost",
    engines=(
        served(
            "vllm",
            "0.20",
            "2026-04-27",
            "kv_cache_dtype=turboquant_4bit_nc, turboquant_3bit_nc",
            ref="https://github.com/vllm-project/vllm/pull/38479",
        ),
    ),
    quality="MRCR retained 0.92 at 4 bits, 0.68 at 3 (30B-A3B, 256k); reasoning 0.96 at 4",
    searched=("turboquant:4",),
    speed={"3": TURBO3, "4": TURBO4},
    source=paper("TurboQuant, arXiv 2504.19874; vLLM pull request 38479", "2025-04-28"),
)
def turboquant(layout: KVLayout, argument: str) -> KVLayout:
    """Store rotated keys as 3 or 4 bits and a norm, values as 3 or 4 bits, a scale and a zero; ends of the model whole.

    Of dense models the first and last two layers stay in 16 bits, as in vLLM.
    """
    if argument not in ("3", "4"):
        raise UnknownName(
            "technique",
            f"turboquant:{argument}",
            ["turboquant:4", "turboquant:3"],
            "write turboquant:3 or turboquant:4",
        )
    bits, name = float(argument), f"turboquant:{argument}"
    speed = TURBO4 if argument == "4" else TURBO3
    hybrid = any(g.kind == "state" for g in layout.groups)
    ends = {*range(BOUNDARY), *range(layout.end - BOUNDARY, layout.end)} if not hybrid else set()
    inner, outer = (
        [replace(g, layers=tuple(i for i in g.layers if (i in ends) is whole)) for g in layout.groups]
        for whole in (False, True)
    )
    packed = quantised(replace(layout, groups=tuple(inner)), bits, name, side=rotated(bits), speed=speed)
    return replace(packed, groups=(*packed.groups, *(g for g in outer if g.layers)))
