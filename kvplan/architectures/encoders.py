"""What encoder-decoders share: the decoder caches its own tokens, and the encoder's once per request.

The length of the encoder's input is a property of a request; the default is the longest the config states.
"""

from dataclasses import replace

from kvplan.architectures.config import Config
from kvplan.architectures.parts import MAX_LAYERS
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Cross, Weight


def repeated(prefix: str, weights: tuple[Weight, ...], count: int) -> tuple[Weight, ...]:
    """Return the tensors of `count` alike layers, one Weight per kind of tensor."""
    return tuple(replace(w, name=f"{prefix}.{w.name}", shape=(count, *w.shape)) for w in weights)


def cross(a: Attention, tokens: int) -> Cross:
    """Return cross-attention of the sizes of `a` to `tokens` encoder tokens."""
    return Cross(heads=a.heads, kv_heads=a.kv_heads, key_dim=a.key_dim, value_dim=a.value_dim, tokens=tokens)


def stated_count(c: Config, name: str, low: int = 1) -> int:
    """Return a number of layers or heads the file itself must state."""
    if c.parent is None and c.raw.get(name) is None:
        raise SpecError(f"{c.place}: missing {name}; a {c.model_type} config must state it")
    value = c.size(name, low=low)
    if value > MAX_LAYERS:
        raise SpecError(f"{c.place}: {name} must be from {low} to {MAX_LAYERS:,}, got {value}")
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
