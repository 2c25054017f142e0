"""Techniques that store fewer bits an element."""

from dataclasses import replace
from math import ceil

from kvplan.errors import Incompatible
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.techniques.technique import paper, require_groups, technique

#: elements that share one bf16 scale and one bf16 zero point in int8 and int4 caches (quanto, hqq)
GROUP = 64


def quantised(layout: KVLayout, bits: float, spelled: str, group: int = 0) -> KVLayout:
    """Store elements in `bits`, with 32 bits of scale and zero point per `group` elements of a key or a value."""
    require_groups(
        layout, lambda g: g.token_bytes > 0, f"{spelled}: this model stores no keys and values, only a recurrent state"
    )

    def change(g: Group) -> Group:
        if not g.vectors:
            return g
        if g.bits <= bits:
            raise Incompatible(f"{spelled}: the cache is already stored in {g.bits:g} bits")
        groups = g.vectors * (ceil(g.key_width / group) + ceil((g.width - g.key_width) / group)) if group else 0
        alone = change(g.alone) if g.alone is not None else None
        return replace(g, bits=bits, side=g.side + groups * 32 / 8, alone=alone)

    return layout.each(change)


@technique(
    "fp8",
    spelling="fp8",
    title="fp8",
    factor="bits",
    example="fp8",
    granularity="element",
    needs="nothing (one scale per tensor)",
    risk="small",
    engines=("vLLM", "SGLang", "TensorRT-LLM"),
    quality="no published figure in kvplan's sources; 4-bit caches retain 0.97 to 1.00 of LongBench",
    compared=("fp8",),
    source=paper("FP8 Formats for Deep Learning, arXiv 2209.05433", "2022-09-12"),
)
def fp8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit floats, one scale per tensor."""
    return quantised(layout, 8.0, "fp8")


@technique(
    "int8",
    spelling="int8",
    title="int8",
    factor="bits",
    example="int8",
    granularity="group of 64 elements",
    needs="nothing",
    risk="small",
    engines=("TensorRT-LLM", "LMDeploy"),
    quality="no published figure in kvplan's sources; 4-bit caches retain 0.97 to 1.00 of LongBench",
    searched=("int8",),
    source=paper("KIVI, arXiv 2402.02750; group scales as in quanto and hqq", "2024-02-05"),
)
def int8(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 8-bit integers with a scale and zero point per 64 elements."""
    return quantised(layout, 8.0, "int8", GROUP)


@technique(
    "int4",
    spelling="int4",
    title="int4",
    factor="bits",
    example="int4",
    granularity="group of 64 elements",
    needs="a kernel that dequantises (slower per byte)",
    risk="0 to 3 % lost",
    engines=("LMDeploy",),
    quality="LongBench retained 1.00 (KIVI-4bit) to 0.97 (per-token keys); 1B models 0.34 with 2-bit values",
    compared=("int4",),
    source=paper(
        "KIVI, arXiv 2402.02750; KV Cache Compression, But What Must We Give in Return?, arXiv 2407.01527", "2024-02-05"
    ),
)
def int4(layout: KVLayout, argument: str) -> KVLayout:
    """Store keys and values as 4-bit integers with a scale and zero point per 64 elements (4.5 bits in all)."""
    return quantised(layout, 4.0, "int4", GROUP)
