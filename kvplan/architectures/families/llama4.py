"""Llama 4: text, and the vision tower beside it."""

from kvplan.architectures.attention import gqa, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import sparse
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.images import tiled
from kvplan.architectures.parts import Body, layer_count
from kvplan.architectures.registry import family
from kvplan.architectures.towers import part, patches, pixels, tensors, tower, transformer
from kvplan.errors import SpecError
from kvplan.specs.model import Weight


@family("llama4_text")
def llama4(c: Config) -> Body:
    """Llama 4: chunked layers (with RoPE) and full ones (without); experts every interleave_moe_layer_step layers."""
    hidden, count, inner = c.size("hidden_size"), layer_count(c), c.size("intermediate_size")
    rotated = c.entries("no_rope_layers")
    period = c.size("no_rope_layer_interval", 4)
    if rotated and len(rotated) != count:
        raise SpecError(f"{c.place}: no_rope_layers has {len(rotated)} entries for {count} layers")
    kinds = layer_kinds(c, lambda i: "chunked" if (rotated[i] if rotated else (i + 1) % period) else "full")
    chunked = windowed(c, kinds)
    step = c.size("interleave_moe_layer_step", 1)
    listed = c.entries("moe_layers")
    bias = c.flag("attention_bias")
    # one shared expert as wide as a routed one
    experts = moe(c, hidden, inner, shared=inner)
    return sparse(
        c,
        kinds,
        lambda kind: chunked(kind) if kind == "chunked" else gqa(c, rope=False),
        (lambda i: i in listed) if listed is not None else (lambda i: (i + 1) % step == 0),
        experts,
        dense=c.size("intermediate_size_mlp", inner),
        qkv_bias=bias,
        o_bias=bias,
    )


@tower("llama4_text", "llama4", tied="text", sees=tiled(336, 14, merge=2, tiles=16, overview=True))
def llama4_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision tower, adapter and projector of Llama 4."""
    c = part(outer, "vision_config", "llama4_vision_model")
    d, wide = c.size("hidden_size"), c.size("projector_output_dim")
    return (
        *tensors(
            "vision_tower", patch=(d, pixels(c)), positions=(patches(c) + 1, d), class_embedding=(d,), norms=(4, d)
        ),
        *transformer("vision_tower.layers", d, c.size("intermediate_size"), c.size("num_hidden_layers")),
        *tensors(
            "vision_tower.adapter", fc1=(c.size("projector_input_dim"), c.size("intermediate_size")), fc2=(wide, wide)
        ),
        *tensors("multi_modal_projector", linear=(text.size("hidden_size"), c.size("vision_output_dim"))),
    )
