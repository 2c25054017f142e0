"""What one pass of a model takes on one thread of a CPU by its profile: operators one after the other.

What a framework takes for itself is not in it, nor what a profile has no operator for (unpacking, ranking tokens).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from kvplan.kv.layout import Group, KVLayout
from kvplan.measuring.samples import time_of
from kvplan.specs.model import ModelSpec, Weight

#: bytes of an element, by the name that groups of operators end with
SIZES = {"float32": 4, "bfloat16": 2}
#: what attention is measured in on a CPU
ATTENTION = "float32"


@dataclass(frozen=True, kw_only=True)
class ModelPass:
    """New tokens of some sequences, behind tokens that are cached."""

    batch: int  #: sequences
    tokens: int  #: new ones of each: the prompt, or 1 [token]
    length: int  #: cached before, and new [token]

    @property
    def reads_prompt(self) -> bool:
        """Whether a prompt is read, else a token decoded."""
        return self.tokens > 1


@dataclass(frozen=True)
class Priced:
    """An operator as a profile knows it: its group, and what it moves and does."""

    group: str  #: of the profile
    bytes: float  #: read and written [B]
    flops: float  #: floating-point operations [FLOP]
    weights: float = 0.0  #: elements that a product of several rows packs


def pass_time(groups: Mapping[str, Any], spec: ModelSpec, layout: KVLayout, dtype: str, one: ModelPass) -> float | None:
    """Return what a profile's operators take for a pass, None where it has no operator of a kind that is needed. [s]"""
    total = 0.0
    for priced in (*products(spec, dtype, one), *attention(layout, groups, one)):
        group = groups.get(priced.group)
        if group is None:
            return None
        has = {"bytes": priced.bytes, "flops": priced.flops, "weights": priced.weights}
        total += time_of(has, group["coefficients"])
    return total


def products(spec: ModelSpec, dtype: str, one: ModelPass) -> Iterator[Priced]:
    """Yield the matrix products of a pass: those of every layer, and the head for the last token of each sequence."""
    for layer in spec.layers:
        for weight in layer.weights:
            if weight.matmul and len(weight.shape) > 1:
                yield from multiplied(weight, dtype, one.batch * one.tokens)
    yield product(one.batch, spec.vocab, spec.hidden, dtype)


def multiplied(weight: Weight, dtype: str, rows: int) -> Iterator[Priced]:
    """Yield the products of `rows` tokens with a tensor; of experts each that is picked, with its part of the rows."""
    picked = min(weight.copies, max(1, round(rows * weight.used))) if weight.copies > 1 else 1
    each = max(1, round(rows * weight.used / picked)) if weight.copies > 1 else rows
    for _ in range(picked):
        yield product(each, prod(weight.shape[:-1]), weight.shape[-1], dtype)


def product(m: int, n: int, k: int, dtype: str) -> Priced:
    """Return a product of [m, k] by [k, n]."""
    moved = SIZES[dtype] * (m * k + k * n + m * n)
    return Priced(f"{'gemv' if m == 1 else 'gemm'} {dtype}", moved, 2.0 * m * n * k, 0.0 if m == 1 else float(n) * k)


def attention(layout: KVLayout, groups: Mapping[str, Any], one: ModelPass) -> Iterator[Priced]:
    """Yield the attention of every layer: over what is cached, or of a prompt over itself."""
    for g in layout.groups:
        if not g.query_heads or not g.vectors:
            continue
        for _ in g.layers:
            if one.reads_prompt:
                moved = 2.0 * one.batch * one.tokens * (g.query_heads * g.key_width + g.vectors * g.width)
                yield Priced(f"prefill {ATTENTION}", moved, one.batch * g.pair_flops * g.keep.pairs(one.tokens))
            else:
                kept = min(g.keep.tokens(one.length), g.reads or one.length)
                moved = float(one.batch * g.read(one.length))
                yield Priced(decoding(g, groups), moved, one.batch * kept * g.flops)


def decoding(g: Group, groups: Mapping[str, Any]) -> str:
    """Return the group of decode attention nearest to a layer's: latent, or by the queries that share a head."""
    if g.kind == "latent":
        return f"decode latent {ATTENTION}"
    if g.query_heads == g.vectors:
        return f"decode mha {ATTENTION}"
    known = [name for name in groups if name.startswith("decode gqa ")]
    return min(known, key=lambda name: abs(int(name.split()[2].partition("x")[0]) - g.vectors), default="decode gqa")
