"""ModernBERT as a decoder."""

from kvplan.architectures.attention import attends, layer_kinds, windowed
from kvplan.architectures.config import Config
from kvplan.architectures.feed_forward import mlp
from kvplan.architectures.parts import Body, decoder, layer_count, linear, vector
from kvplan.architectures.registry import family
from kvplan.specs.model import Weight


@family("modernbert-decoder")
def modernbert(c: Config) -> Body:
    """Read ModernBERT's decoder: every third layer is full, the others see half of local_attention.

    The class sets sliding_window from local_attention; a file that states another says what was saved.
    """
    hidden, count, width = c.size("hidden_size"), layer_count(c), 1 + c.flag("norm_bias")
    period = c.size("global_attn_every_n_layers", 3)
    kinds = layer_kinds(c, lambda i: "sliding" if i % period else "full")
    local = c.size("local_attention", 128)
    own = {**c.raw, "sliding_window": c.get("sliding_window", None) or local // 2}
    attention = windowed(Config(own, c.place, {c.model_type: None}, c.parent, c.classes), kinds)
    bias, inner = c.flag("attention_bias"), c.size("intermediate_size")
    mlp_bias = c.flag("mlp_bias")
    head = (
        *linear("lm_head.dense", hidden, hidden, bias=c.flag("classifier_bias")),
        vector("lm_head.norm", hidden, width),
        vector("embed_norm", hidden, width),
        vector("final_norm", hidden, width),
    )
    if c.flag("decoder_bias", True):
        head += (Weight(name="decoder.bias", shape=(c.size("vocab_size"),), split="vocab", matmul=False),)
    return decoder(
        c,
        [(kind, i == 0) for i, kind in enumerate(kinds)],
        lambda key: attends(hidden, attention(key[0]), bias),  # type: ignore[index]
        ["mlp"] * count,
        lambda _: mlp(hidden, inner, bias=mlp_bias),
        norms=lambda key: 1 if key[1] else 2,  # type: ignore[index]
        norm=width,
        final_norm=False,
        extra=head,
    )
