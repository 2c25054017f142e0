"""Techniques that store fewer vectors: key/value heads shared by query heads."""

import re
from dataclasses import replace

from kvplan.errors import Incompatible, UnknownName
from kvplan.kv.layout import KVLayout
from kvplan.kv.techniques.technique import has_heads, paper, require_groups, technique


def shared_heads(layout: KVLayout, heads: int, spelled: str) -> KVLayout:
    """Keep `heads` key/value heads per layer."""
    require_groups(
        layout, has_heads, f"{spelled}: this model stores no key/value heads (its cache is a latent or a state)"
    )
    most = max(g.vectors for g in layout.groups if has_heads(g))
    if heads >= most:
        raise Incompatible(
            f"{spelled}: this model already shares keys and values down to {most} heads; "
            f"write gqa:N with N below {most}"
        )
    for g in layout.groups:
        if has_heads(g) and heads < g.vectors and g.vectors % heads:
            near = max(n for n in range(1, heads + 1) if g.vectors % n == 0)
            raise Incompatible(
                f"{spelled}: {heads} does not divide this model's {g.vectors} key/value heads; write gqa:{near}"
            )
    return layout.each(lambda g: replace(g, vectors=heads, split=heads) if has_heads(g) and g.vectors > heads else g)


@technique(
    "gqa",
    spelling="gqa:N",
    title="GQA",
    factor="heads",
    example="gqa:8",
    granularity="whole model",
    needs="uptraining on about 5 % of pre-training tokens",
    heals=100e9,  # 5 % of two trillion
    risk="uptrain first",
    quality="MHA to GQA-8: 0.1 point (T5-XXL, uptrained) to 4 MMLU points (7B from scratch)",
    source=paper("GQA, arXiv 2305.13245, Table 1", "2023-05-22"),
)
def gqa(layout: KVLayout, argument: str) -> KVLayout:
    """Share keys and values between query heads: N key/value heads per layer."""
    if not re.fullmatch(r"[1-9]\d{0,4}", argument, re.ASCII):
        raise UnknownName(
            "technique", f"gqa:{argument}", ["gqa:8"], "write gqa:N with a number of key/value heads, as in gqa:8"
        )
    return shared_heads(layout, int(argument), f"gqa:{argument}")


@technique(
    "mqa",
    spelling="mqa",
    title="MQA",
    factor="heads",
    example="mqa",
    granularity="whole model",
    needs="uptraining on about 5 % of pre-training tokens",
    heals=100e9,  # 5 % of two trillion
    risk="uptrain first",
    quality="MHA to MQA: 0.6 point (T5-XXL, uptrained) to 7 MMLU points (7B from scratch)",
    source=paper("MQA, arXiv 1911.02150; GQA, arXiv 2305.13245, Table 1", "2019-11-06"),
)
def mqa(layout: KVLayout, argument: str) -> KVLayout:
    """Keep one key/value head per layer, shared by all query heads."""
    return shared_heads(layout, 1, "mqa")
