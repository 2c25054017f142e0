"""MiMo and MiMo-V2."""

from collections.abc import Hashable

from kvplan.architectures.attention import attention_weights, layer_kinds, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.families.flat import alone
from kvplan.architectures.families.qwen import upper
from kvplan.architectures.feed_forward import first_dense, mlp, moe
from kvplan.architectures.parts import Body, Part, decoder, layer_count
from kvplan.architectures.registry import family
from kvplan.specs.model import Attention


@family("mimo")
def mimo_dense(c: Config) -> Body:
    """Read MiMo-7B: Qwen2 with layers that draft tokens, which are not counted."""
    return plain(c, *mixed(c, upper(c)), qkv_bias=c.flag("attention_bias", True))


@family("mimo_v2_flash", "mimo_v2")
def mimo(c: Config) -> Body:
    """MiMo-V2: full and window layers differ in KV heads; keys and values in width. Sinks on window layers.

    MiMo-V2.5 is the same, with the encoders of images and sound beside it in one flat file.
    """
    hidden, count = c.size("hidden_size"), layer_count(c)
    pattern = c.per_layer("hybrid_layer_pattern", count)
    kinds = layer_kinds(
        c,
        lambda i: (
            ("sliding" if pattern[i] else "full") if pattern else "full" if i == 0 or (i + 1) % 6 == 0 else "sliding"
        ),
    )
    size = c.optional("sliding_window_size")
    window = size + 1 if size else c.optional("sliding_window")

    def attention(kind: Hashable) -> Attention:
        swa = "swa_" if kind == "sliding" else ""
        groups = c.size("num_key_value_heads") * (
            2 if swa else 1
        )  # a file saved by transformers does not say: its class doubles them
        return Attention(
            heads=c.size(f"{swa}num_attention_heads", c.size("num_attention_heads")),
            kv_heads=c.size(f"{swa}num_key_value_heads", groups),
            key_dim=c.size(f"{swa}head_dim", c.size("head_dim")),
            value_dim=c.size(f"{swa}v_head_dim", c.size("v_head_dim")),
            window=window if swa else None,
        )

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        on = (
            c.flag("add_swa_attention_sink_bias", True) if kind == "sliding" else c.flag("add_full_attention_sink_bias")
        )
        return (a,), attention_weights(hidden, a, qkv_bias=c.flag("attention_bias"), extra=a.heads if on else 0)

    experts = moe(c, hidden, c.size("moe_intermediate_size"))
    is_moe = first_dense(c) if c.stated("mlp_layer_types") or c.stated("moe_layer_freq") else (lambda i: i > 0)
    return decoder(
        c,
        kinds,
        mix,
        ["moe" if is_moe(i) else "mlp" for i in range(count)],
        lambda b: experts if b == "moe" else mlp(hidden, c.size("intermediate_size")),
        notes=alone(c) if c.stated("vision_config") else (),
    )
