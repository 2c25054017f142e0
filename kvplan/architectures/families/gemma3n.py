"""Gemma 3n: text, vision and audio."""

from collections.abc import Hashable

from kvplan.architectures.attention import attention_weights, every, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.images import tiled
from kvplan.architectures.parts import Body, Part, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.architectures.towers import pair, part, tensors, tower
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.model import Weight


@family("gemma3n_text")
def gemma3n(c: Config) -> Body:
    """Gemma 3n: AltUp, LAuReL, per-layer embeddings; the last num_kv_shared_layers read earlier caches."""
    hidden, count, bias = c.size("hidden_size"), layer_count(c), c.flag("attention_bias")
    kinds = layer_kinds(c, every(5, "sliding"))
    first_shared = count - c.size("num_kv_shared_layers", 0, low=0)
    streams, rank, small = (
        c.size("altup_num_inputs", 4),
        c.size("laurel_rank", 64),
        c.size("hidden_size_per_layer_input", 256),
    )
    attention, bias = windowed(c, kinds), c.flag("attention_bias")
    readers = windowed(c, kinds, stored=False)
    inner = c.get("intermediate_size")
    widths = inner if isinstance(inner, list) else [inner] * count
    if len(widths) != count:
        raise SpecError(f"{c.place}: intermediate_size has {len(widths)} entries for {count} layers")

    def mix(key: Hashable) -> Part:
        assert isinstance(key, tuple)
        kind, shared = key
        a = readers(kind) if shared else attention(kind)
        altup = (vector("altup", streams**2 + streams**3 + (streams + 2) * hidden),)
        laurel = linear("laurel.linear_left", rank, hidden) + linear("laurel.linear_right", hidden, rank)
        per_layer = linear("per_layer_input_gate", small, hidden) + linear("per_layer_projection", hidden, small)
        return (a,), attention_weights(
            hidden, a, qkv_bias=bias, o_bias=bias, qk_norm="head"
        ) + altup + laurel + per_layer

    def ffn(width: Hashable) -> tuple[Weight, ...]:
        assert isinstance(width, int)
        return mlp(hidden, width)

    table = c.size("vocab_size_per_layer_input", 262144)
    extra = (
        Weight(name="embed_tokens_per_layer", shape=(table, count * small), matmul=False),
        *linear("per_layer_model_projection", count * small, hidden),
        vector("per_layer_projection_norm", small),
        *linear("altup_projections", 2 * (streams - 1) * hidden, hidden),
    )
    return decoder(
        c,
        list(zip(kinds, [i >= first_shared for i in range(count)], strict=True)),
        mix,
        [c.whole("intermediate_size", w) for w in widths],
        ffn,
        norms=6,
        extra=extra,
    )


#: parameters of timm's MobileNet-V5 (counted from timm 1.0.31): the only vision encoder Gemma 3n has
MOBILENET_V5 = {"mobilenetv5_300m_enc": 294_126_912}


@tower("gemma3n_text", "gemma3n", sees=tiled(768, 48, tokens=256))
def gemma3n_tower(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return the vision and audio towers of Gemma 3n and what embeds both; UnknownName for another vision encoder."""
    vision, audio, hidden = (
        part(outer, "vision_config", "gemma3n_vision"),
        part(outer, "audio_config", "gemma3n_audio"),
        text.size("hidden_size"),
    )
    encoder = vision.text("architecture", "mobilenetv5_300m_enc")
    if encoder not in MOBILENET_V5:
        raise UnknownName(
            "vision architecture", encoder, MOBILENET_V5, f"{vision.place}: known: {', '.join(MOBILENET_V5)}"
        )
    weights = tensors("vision_tower", mobilenet=(MOBILENET_V5[encoder],)) + gemma3n_audio(audio)
    for name, c in (("vision", vision), ("audio", audio)):
        d = c.size("hidden_size")
        weights += tensors(
            f"multi_modal_projector.{name}", embedding=(c.size("vocab_size"), d), norms=(2, d), projection=(hidden, d)
        )
    return weights


def conformer(d: int, dim: int, kernel: int, layers: int) -> tuple[Weight, ...]:
    """Return Conformer layers: two MLPs four times as wide, attention with relative positions, a gated convolution."""
    return tensors(
        "audio_tower.layers",
        layers,
        attention=(5 * d, d),
        per_dim_scale=(dim,),
        mlps=(2 * 2 * 4 * d, d),
        gated=(2 * d, d),
        pointwise=(d, d),
        convolution=(d, kernel),
        norms=(9, d),
    )


def gemma3n_audio(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of Gemma 3n's audio tower; SpecError where the input is too small for its kernels."""
    d, heads = c.size("hidden_size"), c.size("conf_num_attention_heads")
    kernels = grid(c, "sscp_conv_kernel_size", [[3, 3], [3, 3]])
    strides = grid(c, "sscp_conv_stride_size", [[2, 2], [2, 2]])
    first, second = pair(c, "sscp_conv_channel_size")
    width = c.size("input_feat_size")
    for kernel, stride in zip(kernels, strides, strict=True):  # one column of padding on either side
        width = (width + 2 - kernel[1]) // stride[1] + 1
    if width < 1:
        raise SpecError(f"{c.place}: input_feat_size {c.get('input_feat_size')} is too small for sscp_conv_kernel_size")
    return (
        *tensors(
            "audio_tower",
            conv_0=(first, kernels[0][0] * kernels[0][1] + 1),
            conv_1=(second, first * kernels[1][0] * kernels[1][1] + 1),
            input=(d, second * width),
        ),
        *conformer(d, d // heads, c.size("conf_conv_kernel_size"), c.size("conf_num_hidden_layers")),
    )


def grid(c: Config, name: str, default: list[list[int]]) -> list[tuple[int, int]]:
    """Return two (time, frequency) pairs."""
    value = c.entries(name, default) or default
    if len(value) != 2 or not all(isinstance(v, (list, tuple)) and len(v) == 2 for v in value):
        raise SpecError(f"{c.place}: {name} must be two pairs such as [[3, 3], [3, 3]], got {shown(value)}")
    return [(c.whole(name, v[0]), c.whole(name, v[1])) for v in value]
