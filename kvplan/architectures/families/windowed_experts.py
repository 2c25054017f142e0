"""Mellum, Kolibri, Beam and Flint: windows as layer_types lists them, norms on heads, routed experts."""

from collections.abc import Callable

from kvplan.architectures.attention import every, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.families.qwen import stepped
from kvplan.architectures.feed_forward import always, first_dense, moe
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family


@family("mellum", "kolibri1", "beam", "flint")
def windowed_experts(c: Config) -> Body:
    """Read attention with windows and experts; Beam gates attention, Flint has sinks, Kolibri and Beam four norms."""
    t, heads, bias = c.model_type, c.size("num_attention_heads"), c.flag("attention_bias")
    hidden, inner = c.size("hidden_size"), c.size("moe_intermediate_size")
    shared = c.size("shared_expert_intermediate_size", 0, low=0) if t in ("kolibri1", "flint") else 0
    return sparse(
        c,
        *mixed(c, windows(c)),
        dense_layers(c),
        moe(c, hidden, inner, shared=shared),
        dense=c.size("intermediate_size", inner),
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="head",
        norms=4 if t in ("kolibri1", "beam") else 2,
        sinks=heads if t in ("flint", "beam") else 0,  # Beam's are the biases of its gate
        attention_gate=t == "beam",
    )


def windows(c: Config) -> Callable[[int], str]:
    """Return the rule for files that list no layer_types."""
    last = layer_count(c) - 1
    return {
        "mellum": lambda _: "full",
        "kolibri1": every(5, "sliding"),
        "beam": lambda i: "full" if i == last or (i + 1) % 6 == 0 else "sliding",
        "flint": lambda i: "full" if i < 2 or i % 4 == 1 or i == last else "sliding",
    }[c.model_type]


def dense_layers(c: Config) -> Callable[[int], bool]:
    """Return which layers have experts: as mlp_layer_types or mlp_only_layers say, else by the class's rule."""
    if c.model_type == "flint":
        rule, only = stepped(c), c.entries("mlp_only_layers")
        return rule if only is not None else lambda i: i > 1 and rule(i)
    if c.get("mlp_layer_types", None) is not None:
        return first_dense(c)
    return (lambda i: i > 2) if c.model_type == "beam" else always
