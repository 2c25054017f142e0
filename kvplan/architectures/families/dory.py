"""Dory: windows and full attention without norms, whose middle layers run several times over."""

from collections.abc import Hashable
from dataclasses import replace

from kvplan.architectures.attention import attention_weights, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError


@family("dory")
def dory(c: Config) -> Body:
    """Read Dory: each pass through a recurrent layer keeps a cache of its own, unless only the last one writes."""
    c = paired(c)
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    first, loops = c.size("n_input_layers", 8, low=0), c.size("n_recurrent_loops", 2)
    after = c.size("n_output_layers", 8, low=0)
    repeated = c.optional("n_recurrent_layers") or count - first - after
    if first + repeated + after != count:
        raise SpecError(f"{c.place}: n_input_layers, n_recurrent_layers and n_output_layers must add up to {count}")
    passes = loops if c.text("recurrent_kv_cache_mode", "per_loop") == "per_loop" else 1
    kinds = layer_kinds(c, lambda i: "sliding" if (i + 1) % 4 else "full")
    attention, bias = windowed(c, kinds), c.flag("attention_bias")

    def mix(kind: Hashable) -> Part:
        assert isinstance(kind, tuple)
        a = attention(kind[0])
        width = a.heads * a.value_dim
        gate = (*linear("self_attn.gate_proj", width, hidden, split="heads"), vector("self_attn.scales", width, 2))
        return (a,) * kind[1], attention_weights(hidden, a, qkv_bias=bias, o_bias=bias) + gate

    dense = (*mlp(hidden, inner, bias=c.flag("mlp_bias")), vector("mlp.scales", inner, 2), vector("lambdas", hidden, 2))
    body = decoder(
        c,
        [(kind, passes if first <= i < first + repeated else 1) for i, kind in enumerate(kinds)],
        mix,
        ["mlp"] * count,
        lambda _: dense,
        norms=0,
        norm=0,
        final_norm=False,
        extra=(vector("lm_head.logit_scale", c.size("vocab_size")),),
    )
    note = f"{repeated} layers run {loops} times over" + (", each time with a cache of their own" if passes > 1 else "")
    return replace(body, notes=(f"{note}; times count their weights once",) if loops > 1 else ())


def paired(c: Config) -> Config:
    """Return a config whose layers are attention and MLP together: released files list the two apart."""
    listed = c.entries("layer_types")
    if not listed or "mlp" not in listed:
        return c
    counts = ("num_hidden_layers", "n_input_layers", "n_recurrent_layers", "n_output_layers")
    halved = {name: c.size(name, low=0) // 2 for name in counts if c.get(name, None) is not None}
    return Config({**c.raw, "layer_types": listed[::2], **halved}, c.place, {c.model_type: None}, c.parent, c.classes)
