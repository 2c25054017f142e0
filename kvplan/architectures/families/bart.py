"""BART and its kin, Whisper among them: an encoder, and a decoder that attends to it."""

from kvplan.architectures.attention import attention_weights
from kvplan.architectures.config import Config
from kvplan.architectures.encoders import cross, embeddings, repeated, stated_count, table
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Layer, Weight

#: BART itself and those that differ from it by training alone
LIKE_BART = ("bart", "mvp", "plbart")


@family(*LIKE_BART, "mbart", "pegasus", "m2m_100", "blenderbot", "blenderbot-small", "marian", "whisper")
def bart(c: Config) -> Body:
    """BART and its kin: LayerNorms and biases throughout; they differ in positions, embedding norms and final norms."""
    t, hidden = c.model_type, c.size("hidden_size")
    a, encoder = bart_attention(c, "decoder_attention_heads"), bart_attention(c, "encoder_attention_heads")
    speech = t == "whisper"
    tokens = c.size("max_source_positions" if speech else "max_position_embeddings")
    targets = c.size("max_target_positions") if speech else tokens
    first = t in (*LIKE_BART, "mbart", "blenderbot-small")
    norms = 2 * (first + (t not in (*LIKE_BART, "blenderbot-small", "marian")))  # on embeddings, after the last layer

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
        extra = 2 if t in (*LIKE_BART, "mbart") else 0
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
        raise SpecError(f"{c.place}: {name} {heads} must divide d_model {hidden}")
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
