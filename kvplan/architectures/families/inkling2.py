"""Inkling 2: Inkling's windows and convolutions with gates, sinks and attention over blocks of layers; its loops."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from kvplan.architectures.attention import attention_weights, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.families.inkling import local
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Recurrent, Weight


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
    """Return a layer's attention and its convolutions, whose last inputs are kept."""
    sliding = kind == "hybrid_sliding"
    own = "swa_" if sliding else ""
    heads, groups = c.size(f"{own}num_attention_heads"), c.size(f"{own}num_key_value_heads")
    dim, window = c.size(f"{own}head_dim"), c.size("sliding_window_size", c.get("sliding_window", None))
    a = Attention(
        heads=heads, kv_heads=groups, key_dim=dim, value_dim=dim, window=window if sliding else None, rope=False
    )
    kernel, far = c.size("conv_kernel_size", c.get("sconv_kernel_size", None)), c.size("rel_extent", 1024)
    narrow, wide = c.size("d_rel", 16), 2 * groups * dim
    weights = attention_weights(hidden, a)
    weights += linear("self_attn.gate_proj", heads * dim, hidden, split="heads")
    weights += linear("self_attn.sink_proj", heads, hidden, split="heads")
    weights += linear("self_attn.relative.linear", heads * narrow, hidden, split="heads")
    weights += (
        vector("self_attn.scales", heads * (dim + narrow)),
        Weight(name="self_attn.relative.proj", shape=(narrow, window if sliding else far), matmul=False),
        Weight(name="convolutions", shape=(wide + 2 * hidden, kernel), matmul=False),
    )
    if not sliding:
        weights += linear("self_attn.sconv.weight_proj", 2 * groups * kernel, hidden)
    conv = Recurrent(name="conv", conv_channels=wide + 2 * hidden, conv_kernel=kernel, state=0, conv_bits=32)
    return (a, conv), weights
