"""Inkling 2: Inkling's windows and convolutions with gates, sinks and attention over blocks of layers; its loops."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from kvplan.architectures.attention import attention_weights, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.families.inkling import local, parts
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Weight


@family("inkling2_text", "inkling2_loop_text")
def inkling2(c: Config) -> Body:
    """Read Inkling 2: experts in every layer; a looped layer keeps a cache of its own for each pass."""
    hidden, count = c.size("hidden_size"), layer_count(c)
    kinds = layer_kinds(c, local(c, count))
    experts = (*moe(c, hidden, c.size("moe_intermediate_size")), vector("mlp_input", hidden))
    first, last, passes, rank = loops(c, count) if c.model_type == "inkling2_loop_text" else (0, 0, 1, 0)
    looped = last - first

    def mix(kind: Hashable) -> Part:
        assert isinstance(kind, tuple)
        mixers, weights = attention(c, hidden, kind[0])
        if kind[1]:  # sees the blocks before it
            weights += (vector("attention_input", hidden, 3 if kind[0] == "hybrid" else 1),)
        if not kind[2]:
            return mixers, weights
        gate = linear("message_gate.down_proj", rank, 2 * hidden) + linear("message_gate.gates", 2 * hidden, rank)
        return mixers * passes, weights + gate * 4

    body = decoder(
        c,
        [(kind, i > 0, first <= i < last) for i, kind in enumerate(kinds)],
        mix,
        ["moe"] * count,
        lambda _: experts,
        norms=lambda kind: 4 if isinstance(kind, tuple) and kind[0] == "hybrid" else 2,
        extra=(vector("embed_norm", hidden), vector("final_input", hidden))
        + ((vector("message_input", hidden, 4 * looped),) if looped else ()),
    )
    rows = c.size("unpadded_vocab_size", c.size("vocab_size"))
    head = tuple(replace(w, shape=(rows, hidden)) if w.name == "lm_head" else w for w in body.outer)
    note = (
        f"{looped} layers run {passes} times over, each time with a cache of their own; times count their weights once"
    )
    return replace(body, outer=head, notes=(note,) if passes > 1 else ())


def loops(c: Config, count: int) -> tuple[int, int, int, int]:
    """Return the first looped layer, the one after the last, how often they run, and the rank of their gates."""
    nested = c.get("loop_config", None)
    stated: Mapping[str, Any] = nested if isinstance(nested, Mapping) else {}

    def value(name: str, field: str, least: int) -> int:
        return c.whole(f"loop_config.{name}", stated[name]) if name in stated else c.size(field, low=least)

    first, last = value("core_start", "loop_layer_index_start", 0), value("core_end", "loop_layer_index_end", 0)
    if not 0 <= first <= last <= count:
        raise SpecError(
            f"{c.place}: layers {first} to {last} cannot be looped, there are {count}; state loop_layer_index_end"
        )
    return first, last, value("num_passes", "loop_num_passes", 1), value("gate_rank", "loop_gate_rank", 1)


def attention(c: Config, hidden: int, kind: str) -> Part:
    """Return a layer's attention and its weights: gated, with sinks and relative positions."""
    p = parts(c, hidden, kind)
    heads, wide = p.attention.heads, p.attention.heads * p.attention.key_dim
    weights = attention_weights(hidden, p.attention)
    weights += linear("self_attn.gate_proj", wide, hidden, split="heads")
    weights += linear("self_attn.sink_proj", heads, hidden, split="heads")
    weights += linear("self_attn.relative.linear", heads * p.narrow, hidden, split="heads")
    weights += (
        vector("self_attn.scales", wide + heads * p.narrow),
        Weight(name="self_attn.relative.proj", shape=(p.narrow, p.reach), matmul=False),
        p.convolutions,
    )
    if kind != "hybrid_sliding":
        weights += linear("self_attn.sconv.weight_proj", 2 * p.attention.kv_heads * p.conv.conv_kernel, hidden)
    return (p.attention, p.conv), weights
