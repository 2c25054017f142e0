"""Moonshine: speech of any length read without padding by an encoder, and a decoder that attends to it."""

from kvplan.architectures.attention import attention_weights
from kvplan.architectures.config import Config
from kvplan.architectures.encoders import cross, repeated, stated_count, table
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Layer, Weight

#: (elements a convolution sees, elements from one of its places to the next), one after the other on samples
CONVOLUTIONS = ((127, 64), (7, 3), (3, 2))
#: samples of the longest speech it was trained on: 30 s at 16 kHz (arXiv 2410.15608, section 3.2)
SAMPLES = 30 * 16_000


def frames(samples: int) -> int:
    """Return the tokens that the encoder makes of a count of samples."""
    for seen, step in CONVOLUTIONS:
        samples = (samples - seen) // step + 1
    return samples


@family("moonshine")
def moonshine(c: Config) -> Body:
    """Read Moonshine: norms without a bias, a plain feed-forward in the encoder and a gated one in the decoder."""
    hidden, inner = c.size("hidden_size", 288), c.size("intermediate_size", 1152)
    biased = c.flag("attention_bias")

    def heads(side: str) -> Attention:
        count = stated_count(c, f"{side}_num_attention_heads")
        if hidden % count:
            raise SpecError(f"{c.place}: {side}_num_attention_heads {count} must divide hidden_size {hidden}")
        kept = c.optional(f"{side}_num_key_value_heads") or count
        return Attention(heads=count, kv_heads=kept, key_dim=hidden // count, value_dim=hidden // count)

    def attends(a: Attention, prefix: str = "self_attn") -> tuple[Weight, ...]:
        return attention_weights(hidden, a, qkv_bias=biased, prefix=prefix)

    own = heads("decoder")
    layer = Layer(
        mixers=(own, cross(own, frames(SAMPLES))),
        weights=attends(own)
        + attends(own, "encoder_attn")
        + mlp(hidden, inner, bias=True)
        + (vector("norms", hidden, 3),),
    )
    inside = (*attends(heads("encoder")), *mlp(hidden, inner, gated=False, bias=True), vector("norms", hidden, 2))
    outer = (
        *repeated("encoder.layers", inside, stated_count(c, "encoder_num_hidden_layers")),
        *linear("encoder.conv1", hidden, 127),
        *linear("encoder.conv2", 2 * hidden, 7 * hidden, bias=True),
        *linear("encoder.conv3", hidden, 3 * 2 * hidden, bias=True),
        vector("encoder.norms", hidden, 3),
        vector("norm", hidden),
        table("embed_tokens", c.size("vocab_size"), hidden),
    )
    if not c.flag("tie_word_embeddings", True):
        outer += (table("lm_head", c.size("vocab_size"), hidden),)
    return Body((layer,) * stated_count(c, "decoder_num_hidden_layers"), outer)
