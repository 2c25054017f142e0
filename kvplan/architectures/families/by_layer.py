"""OpenELM, DeciLM and Ouro: caches that no single count of key/value heads or layers tells."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import attends, attention_weights, full, gqa
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Layer, Weight


@family("openelm")
def openelm(c: Config) -> Body:
    """Read OpenELM (arXiv 2404.14619): heads and feed-forwards that widen with depth, norms on q and k."""
    hidden, count, dim = c.size("hidden_size"), layer_count(c), c.size("head_dim")
    queries, keys = sizes(c, "num_query_heads", count), sizes(c, "num_kv_heads", count)
    step, gated = c.size("ffn_dim_divisor", 256), c.flag("ffn_with_glu", True)
    qk_norm = "head" if c.flag("normalize_qk_projections", True) else ""
    widths = [rounded(hidden * number(c, m), step) for m in given(c, "ffn_multipliers", count)]

    def mix(kind: Hashable) -> Part:
        heads, kv = next(pair for pair in pairs if pair == kind)
        a = Attention(heads=heads, kv_heads=kv, key_dim=dim, value_dim=dim)
        return (a,), attention_weights(hidden, a, qk_norm=qk_norm)

    def ffn(width: Hashable) -> tuple[Weight, ...]:
        return mlp(hidden, int(str(width)), gated=gated)

    pairs = list(zip(queries, keys, strict=True))
    if wrong := next(((q, kv) for q, kv in pairs if q % kv), None):
        raise SpecError(f"{c.place}: num_kv_heads {wrong[1]} must divide num_query_heads {wrong[0]}")
    return decoder(c, pairs, mix, widths, ffn)


@family("deci")
def deci(c: Config) -> Body:
    """Read DeciLM: Llama with a number of key/value heads a layer."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    keys = sizes(c, "num_key_value_heads_per_layer", layer_count(c))
    if wrong := next((kv for kv in keys if heads % kv), None):
        raise SpecError(f"{c.place}: num_key_value_heads_per_layer {wrong} must divide num_attention_heads {heads}")
    block = mlp(hidden, c.size("intermediate_size"))
    bias = c.flag("attention_bias")
    return decoder(
        c,
        keys,
        lambda kv: attends(hidden, gqa(c, groups=int(str(kv))), bias),
        ["mlp"] * len(keys),
        lambda _: block,
    )


@family("ouro")
def ouro(c: Config) -> Body:
    """Read Ouro (arXiv 2510.25741): layers run total_ut_steps times a token, each run with a cache of its own."""
    hidden, rounds = c.size("hidden_size"), c.size("total_ut_steps", 4)
    kinds, attention = full(c)
    block = mlp(hidden, c.size("intermediate_size"))
    body = decoder(
        c,
        kinds,
        lambda k: attends(hidden, attention(k)),
        ["mlp"] * len(kinds),
        lambda _: block,
        norms=4,
        extra=linear("early_exit_gate", 1, hidden, bias=True),
    )
    again = tuple(Layer(mixers=layer.mixers, weights=()) for layer in body.layers) * (rounds - 1)
    note = f"its layers run {rounds} times a token; times count their matrices once"
    return replace(body, layers=body.layers + again, notes=(note,))


def given(c: Config, name: str, count: int) -> list[object]:
    """Return a list with an entry a layer; raise SpecError where the file has none."""
    values = c.per_layer(name, count)
    if values is None:
        raise SpecError(f"{c.place}: missing {name}; a {c.model_type} config lists one a layer")
    return values


def sizes(c: Config, name: str, count: int) -> list[int]:
    """Return a list of whole numbers, one a layer."""
    return [c.whole(name, value) for value in given(c, name, count)]


def number(c: Config, value: object) -> float:
    """Return a multiplier of the feed-forward's width."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1000:
        raise SpecError(f"{c.place}: ffn_multipliers must be positive numbers, got {value!r:.40}")
    return float(value)


def rounded(width: float, step: int) -> int:
    """Return a width as its code rounds it: to the nearest multiple of a step, at most a tenth less than it was."""
    near = max(step, int(width + step / 2) // step * step)
    return near + step if near < 0.9 * width else near
