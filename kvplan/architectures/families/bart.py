"""BART and its kin, Whisper among them: an encoder, and a decoder that attends to it."""

from kvplan.architectures.attention import attention_weights
from kvplan.architectures.config import Config
from kvplan.architectures.encoders import cross, embeddings, repeated, stated_count, table
from kvplan.architectures.feed_forward import mlp, moe
from kvplan.architectures.parts import Body, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Layer, Weight

#: BART itself and those that differ from it by training alone
LIKE_BART = ("bart", "mvp", "plbart")
#: those whose positions are sinusoids that nobody stores
COMPUTED = ("m2m_100", "nllb-moe", "pegasus_x")
#: what their files call the longest input of the encoder, and of the decoder where it has one of its own
LENGTHS = {
    "whisper": ("max_source_positions", "max_target_positions"),
    "led": ("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
}


@family(*LIKE_BART, "mbart", "pegasus", "m2m_100", "blenderbot", "blenderbot-small", "marian", "whisper")
@family("nllb-moe", "bigbird_pegasus", "pegasus_x", "led")
def bart(c: Config) -> Body:
    """BART and its kin: LayerNorms and biases throughout; they differ in positions, embedding norms and final norms."""
    t, hidden = c.model_type, c.size("hidden_size")
    a, encoder = bart_attention(c, "decoder_attention_heads"), bart_attention(c, "encoder_attention_heads")
    speech = t == "whisper"
    biased = {"bigbird_pegasus": c.flag("use_bias"), "pegasus_x": False}.get(t, True)
    sources, outputs = LENGTHS.get(t, ("max_position_embeddings", "max_position_embeddings"))
    tokens, targets = c.size(sources), c.size(outputs)
    first = t in (*LIKE_BART, "mbart", "blenderbot-small", "led")
    last = t not in (*LIKE_BART, "blenderbot-small", "marian", "led")
    norms = 2 * (first + last)  # on embeddings, after the last layer

    def attends(heads: Attention, prefix: str = "self_attn") -> tuple[Weight, ...]:
        weights = attention_weights(hidden, heads, qkv_bias=biased, o_bias=biased, prefix=prefix)
        return tuple(w for w in weights if not (speech and w.name.endswith("k_proj.bias")))

    def routed(side: str) -> list[bool]:
        """Return which layers of a side have experts: NLLB's at an interval."""
        step = c.size(f"{side}_sparse_step", 4, low=0) if t == "nllb-moe" else 0
        return [step > 0 and (i + 1) % step == 0 for i in range(stated_count(c, f"{side}_layers"))]

    def ffn(side: str, experts: bool) -> tuple[Weight, ...]:
        inner = c.size(f"{side}_ffn_dim")
        if experts:
            return moe(c, hidden, inner, used=2, gated=False, bias=True, router_bias=c.flag("router_bias"))
        return mlp(hidden, inner, gated=False, bias=True)

    def inside() -> tuple[Weight, ...]:
        """Return an encoder layer's attention: of tokens, and of the global ones that long inputs have."""
        weights = attends(encoder)
        if t == "led":
            weights += attention_weights(hidden, encoder, qkv_bias=True, prefix="self_attn.global")[:-1]
        return (*weights, vector("norms", hidden, 6 if t == "pegasus_x" else 4))

    both = attends(a) + attends(a, "encoder_attn") + (vector("norms", hidden, 6),)
    kinds = {
        experts: Layer(mixers=(a, cross(a, tokens)), weights=both + ffn("decoder", experts))
        for experts in set(routed("decoder"))
    }
    outer: tuple[Weight, ...] = ()
    for experts in sorted(set(routed("encoder"))):
        outer += repeated("encoder.layers", inside() + ffn("encoder", experts), routed("encoder").count(experts))
    if t not in COMPUTED:  # the others' tables are stored (sinusoids too)
        extra = 2 if t in (*LIKE_BART, "mbart") else 0
        outer += (
            table("encoder.embed_positions", tokens + extra, hidden, "none"),
            table("embed_positions", targets + extra, hidden, "none"),
        )
    if t == "pegasus_x":
        outer += (table("encoder.embed_global", c.size("num_global_tokens", 32), hidden, "none"),)
    if norms:
        outer += (vector("encoder.norm", hidden, norms), vector("norm", hidden, norms))
    return Body(tuple(kinds[experts] for experts in routed("decoder")), outer + bart_embeddings(c, hidden))


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
