"""Molmo 2."""

from kvplan.architectures.attention import full
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family
from kvplan.specs.model import Weight


@family("molmo2_text")
def molmo(c: Config) -> Body:
    """Read the text of Molmo 2: a plain decoder, with rows of the embedding that the head does not have."""
    norm = "full" if c.get("qk_norm_type", "qwen3") == "olmo" else "head"
    body = plain(c, *full(c), qkv_bias=c.flag("attention_bias"), qk_norm=norm)
    extra = Weight(
        name="embed_tokens.extra",
        shape=(c.size("additional_vocab_size", 128, low=0), c.size("hidden_size")),
        split="vocab",
        matmul=False,
    )
    return Body(body.layers, (*body.outer, extra), body.notes)
