"""Encoder-decoders: the decoder caches its own tokens, and the encoder's once per request.

The length of the encoder's input is a property of a request; the default is the longest the config states.
"""

from collections.abc import Hashable

from kvplan.architectures.config import Config
from kvplan.architectures.multimodal import Tower
from kvplan.architectures.parts import (
    MAX_LAYERS,
    Body,
    Part,
    attention_weights,
    decoder,
    every,
    gqa,
    layer_count,
    layer_kinds,
    linear,
    mlp,
    vector,
    windowed,
)
from kvplan.architectures.registry import TOWERS, family
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Attention, Cross, Layer, Weight

#: encoder tokens when a T5 config states no length (its positions are relative): what the published T5s were trained on
T5_TOKENS = 512


def repeated(prefix: str, weights: tuple[Weight, ...], count: int) -> tuple[Weight, ...]:
    """Return the tensors of `count` alike layers, one Weight per kind of tensor."""
    return tuple(
        Weight(name=f"{prefix}.{w.name}", shape=(count, *w.shape), split=w.split, matmul=w.matmul) for w in weights
    )


def cross(a: Attention, tokens: int) -> Cross:
    """Return cross-attention of the sizes of `a` to `tokens` encoder tokens."""
    return Cross(heads=a.heads, kv_heads=a.kv_heads, key_dim=a.key_dim, value_dim=a.value_dim, tokens=tokens)


def stated_count(c: Config, name: str, low: int = 1) -> int:
    """Return a number of layers or heads the file itself must state."""
    if c.parent is None and c.raw.get(name) is None:
        raise SpecError(f"{c.where}: missing {name}; a {c.model_type} config must state it")
    value = c.size(name, low=low)
    if value > MAX_LAYERS:
        raise SpecError(f"{c.where}: {name} must be from {low} to {MAX_LAYERS:,}, got {value}")
    return value


def table(name: str, rows: int, width: int, split: str = "vocab") -> Weight:
    """Return a table of `rows` vectors that are looked up, never multiplied: embeddings, positions."""
    return Weight(name=name, shape=(rows, width), split=split, matmul=False)


def embeddings(c: Config, hidden: int, *, encoder_vocab: int | None = None) -> tuple[Weight, ...]:
    """Return one table shared by encoder, decoder and head; untied files have one for each beside the shared one."""
    vocab = c.size("vocab_size")
    if c.flag("tie_word_embeddings", True):
        return (table("embed_tokens", vocab, hidden),)
    return (
        table("shared", vocab, hidden),
        table("encoder.embed_tokens", encoder_vocab or vocab, hidden),
        table("embed_tokens", vocab, hidden),
        table("lm_head", vocab, hidden),
    )


@family("t5", "mt5", "umt5", "longt5")
def t5(c: Config) -> Body:
    """T5: num_layers counts the encoder; no attention biases, relative positions in the first layer (UMT5: in all)."""
    t, hidden, heads, dim = c.model_type, c.size("hidden_size"), stated_count(c, "num_heads"), c.size("d_kv")
    encoders = stated_count(c, "num_layers")
    count = encoders if c.get("num_decoder_layers", None) is None else stated_count(c, "num_decoder_layers")
    a = Attention(heads=heads, kv_heads=heads, key_dim=dim, value_dim=dim, rope=False)
    own, ffn = (
        attention_weights(hidden, a),
        mlp(hidden, c.size("d_ff"), gated=c.text("feed_forward_proj").startswith("gated")),
    )
    bias = vector("self_attn.relative_attention_bias", heads, c.size("relative_attention_num_buckets"))
    everywhere = (bias,) if t == "umt5" else ()
    layer = Layer(
        mixers=(a, cross(a, c.size("max_position_embeddings", T5_TOKENS))),
        weights=own
        + attention_weights(hidden, a, prefix="encoder_attn")
        + ffn
        + everywhere
        + (vector("norms", hidden, 3),),
    )
    reach = c.text("encoder_attention_type", "local") if t == "longt5" else "local"
    if reach not in ("local", "transient-global"):
        raise SpecError(f"{c.where}: encoder_attention_type must be local or transient-global, got {shown(reach)}")
    outside = reach == "transient-global"
    outer = repeated(
        "encoder.layers", own + ffn + everywhere + (vector("norms", hidden, 3 if outside else 2),), encoders
    )
    outer += (
        vector("encoder.norm", hidden),
        vector("norm", hidden),
        table("embed_tokens", c.size("vocab_size"), hidden),
    )
    if (
        not everywhere
    ):  # the first layer's table serves all; long inputs have one more, for the distances to global tokens
        outer += (
            vector("relative_attention_bias", heads, (3 if outside else 2) * c.size("relative_attention_num_buckets")),
        )
    return Body((layer,) * count, outer)


@family("bart", "mbart", "pegasus", "m2m_100", "blenderbot", "marian", "whisper")
def bart(c: Config) -> Body:
    """BART and its kin: LayerNorms and biases throughout; they differ in positions, embedding norms and final norms."""
    t, hidden = c.model_type, c.size("hidden_size")
    a, encoder = bart_attention(c, "decoder_attention_heads"), bart_attention(c, "encoder_attention_heads")
    speech = t == "whisper"
    tokens = c.size("max_source_positions" if speech else "max_position_embeddings")
    targets = c.size("max_target_positions") if speech else tokens
    norms = 2 * (
        (t in ("bart", "mbart")) + (t not in ("bart", "marian"))
    )  # on the embeddings, and after the last layer

    def attends(heads: Attention, prefix: str = "self_attn") -> tuple[Weight, ...]:
        weights = attention_weights(hidden, heads, qkv_bias=True, o_bias=True, prefix=prefix)
        return tuple(w for w in weights if not (speech and w.name.endswith("k_proj.bias")))

    def ffn(name: str) -> tuple[Weight, ...]:
        return mlp(hidden, c.size(name), gated=False, bias=True)

    layer = Layer(
        mixers=(a, cross(a, tokens)),
        weights=attends(a) + attends(a, "encoder_attn") + ffn("decoder_ffn_dim") + (vector("norms", hidden, 6),),
    )
    outer = repeated(
        "encoder.layers",
        attends(encoder) + ffn("encoder_ffn_dim") + (vector("norms", hidden, 4),),
        stated_count(c, "encoder_layers"),
    )
    if t != "m2m_100":  # its sinusoids are computed, the others' tables are stored (sinusoids too)
        extra = 2 if t in ("bart", "mbart") else 0
        outer += (
            table("encoder.embed_positions", tokens + extra, hidden, "none"),
            table("embed_positions", targets + extra, hidden, "none"),
        )
    if norms:
        outer += (vector("encoder.norm", hidden, norms), vector("norm", hidden, norms))
    return Body((layer,) * stated_count(c, "decoder_layers"), outer + bart_embeddings(c, hidden))


def bart_attention(c: Config, name: str) -> Attention:
    """Return the attention of a BART-like stack whose head count the field `name` holds.

    Raises SpecError where it does not divide d_model.
    """
    hidden, heads = c.size("hidden_size"), stated_count(c, name)
    if hidden % heads:
        raise SpecError(f"{c.where}: {name} {heads} must divide d_model {hidden}")
    return Attention(heads=heads, kv_heads=heads, key_dim=hidden // heads, value_dim=hidden // heads, rope=False)


def bart_embeddings(c: Config, hidden: int) -> tuple[Weight, ...]:
    """Return token tables: one shared, except Whisper (no text goes in) and Marian with two vocabularies."""
    vocab, tied = c.size("vocab_size"), c.flag("tie_word_embeddings", True)
    if c.model_type == "whisper":
        mel = c.size("num_mel_bins")
        convolutions = linear("encoder.conv1", hidden, 3 * mel, bias=True) + linear(
            "encoder.conv2", hidden, 3 * hidden, bias=True
        )
        return (*convolutions, table("embed_tokens", vocab, hidden)) + (
            () if tied else (table("lm_head", vocab, hidden),)
        )
    if c.model_type == "marian" and not c.flag("share_encoder_decoder_embeddings", True):
        target = c.optional("decoder_vocab_size") or vocab
        return (table("encoder.embed_tokens", vocab, hidden), table("embed_tokens", target, hidden)) + (
            () if tied else (table("lm_head", target, hidden),)
        )
    return embeddings(c, hidden)


# -- T5Gemma: two Gemma 2 stacks ------------------------------------------------------------------


@family("t5_gemma_module")
def t5gemma_decoder(c: Config) -> Body:
    """T5Gemma's decoder: Gemma 2 with cross-attention, which reads vectors as wide as the encoder's."""
    if c.parent is None:
        raise SpecError(f"{c.where}: a t5_gemma_module is half a model; give the whole t5gemma config")
    hidden, bias, inner = c.size("hidden_size"), c.flag("attention_bias"), c.size("intermediate_size")
    encoder = c.parent.nested("encoder", model_type="t5_gemma_module")
    kinds = layer_kinds(c, every(2, "sliding"))
    attention = windowed(c, kinds)
    tokens, source = encoder.size("max_position_embeddings"), encoder.size("hidden_size")

    def mix(kind: Hashable) -> Part:
        a = attention(kind)
        weights = attention_weights(hidden, a, qkv_bias=bias, o_bias=bias)
        return (a, cross(a, tokens)), weights + attention_weights(
            hidden, a, qkv_bias=bias, o_bias=bias, prefix="encoder_attn", source=source
        )

    return decoder(c, kinds, mix, ["mlp"] * len(kinds), lambda _: mlp(hidden, inner), norms=6)


def t5gemma_encoder(outer: Config, text: Config) -> tuple[Weight, ...]:
    """Return T5Gemma's encoder, which has token embeddings of its own."""
    c = outer.nested("encoder", model_type="t5_gemma_module")
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    weights = (
        attention_weights(hidden, gqa(c), qkv_bias=bias, o_bias=bias)
        + mlp(hidden, c.size("intermediate_size"))
        + (vector("norms", hidden, 4),)
    )
    return (
        *repeated("encoder.layers", weights, layer_count(c)),
        vector("encoder.norm", hidden),
        table("encoder.embed_tokens", c.size("vocab_size"), hidden),
    )


TOWERS.known["t5gemma"] = Tower(text="t5_gemma_module", weights=t5gemma_encoder, nest="decoder")
