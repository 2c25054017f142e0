"""Qwen4-Exp: gated delta nets and attention that an indexer thins, several residual streams, embeddings of n-grams."""

from collections.abc import Hashable, Iterator
from itertools import count, islice
from math import isqrt

from kvplan.architectures.attention import attends, every, gqa, layer_kinds
from kvplan.architectures.config import Config
from kvplan.architectures.families.qwen import delta_net
from kvplan.architectures.feed_forward import moe
from kvplan.architectures.parts import Body, Part, decoder, linear, vector
from kvplan.architectures.registry import family
from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Recurrent, Weight


@family("qwen4_exp_text")
def qwen4(c: Config) -> Body:
    """Read Qwen4-Exp: an indexer caches one key a token in every attention layer, whatever layer_types calls it.

    What attention reads is not thinned here: times of long contexts are on the safe side.
    """
    hidden, streams, rank = c.size("hidden_size"), c.size("hc_count", 4), c.size("hc_lowrank", 320)
    kinds = layer_kinds(c, every(c.size("full_attention_interval", 4), "linear", "indexed"))
    mixing = streams * hidden * (1 + 2 * rank)
    state, keys = delta_net(c, hidden, fused=False), indexer(c)
    placed = sorted({c.whole("ple_layer_ids", i) for i in c.entries("ple_layer_ids") or []})

    def mix(kind: Hashable) -> Part:
        assert isinstance(kind, tuple)
        mixers, weights = state
        if kind[0] != "linear":
            mixers, weights = attends(hidden, gqa(c), c.flag("attention_bias"), qk_norm="head", gated=True)
            if keys:
                mixers += (keys,)
                weights += linear("self_attn.indexer.qk_proj", (keys.heads + 1) * keys.key_dim, hidden)
                weights += (vector("self_attn.indexer.norms", keys.key_dim, 2),)
        if kind[1]:
            more, tables = ngrams(c, hidden * streams, hidden, placed.index(kind[1]))
            mixers, weights = mixers + more, weights + tables
        return mixers, (*weights, vector("hyper_connections", mixing + streams * streams * hidden, 2))

    experts = moe(
        c, hidden, c.size("moe_intermediate_size"),
        shared=c.size("shared_expert_intermediate_size"), shared_gate=True,
    )  # fmt: skip
    notes = ("sparse attention: what attention reads is not thinned, so times at long contexts are on the safe side",)
    return decoder(
        c,
        [(kind, i + 1 if i + 1 in placed else 0) for i, kind in enumerate(kinds)],
        mix,
        ["moe"] * len(kinds),
        lambda _: experts,
        norms=0,
        final_norm=False,
        extra=(vector("hyper_connection_mixer", mixing),),
        notes=notes if keys and set(kinds) != {"linear"} else (),
    )


def indexer(c: Config) -> Attention | None:
    """Return the keys that the indexer caches for each token, None for a file without one."""
    heads = c.optional("indexer_n_heads")
    return Attention(heads=heads, kv_heads=1, key_dim=c.size("indexer_head_dim"), value_dim=0) if heads else None


def ngrams(c: Config, wide: int, hidden: int, index: int) -> Part:
    """Return a layer's embedding of n-grams, in tables of prime sizes, and the convolution behind it."""
    longest, each = c.size("ngram_size", 3, low=2), c.size("heads_per_ngram", 8)
    heads, width = (longest - 1) * each, c.size("ple_embed_dim", hidden)
    if width % heads:
        raise SpecError(f"{c.place}: ple_embed_dim {width} must be a multiple of (ngram_size - 1) x heads_per_ngram")
    kernel, step = c.size("ple_conv_kernel_size", 4), c.size("make_ngram_vocab_size_divisible_by", 128)
    sizes = islice(primes(c.size("ngram_vocab_size_base", 20_000_000)), index * heads, (index + 1) * heads)
    rows = -(-sum(sizes) // step) * step
    weights: tuple[Weight, ...] = (
        Weight(name="ple.ngram_embedding", shape=(rows, width // heads), split="vocab", matmul=False),
    )
    weights += linear("ple.key_proj", wide, width) + linear("ple.value_proj", hidden, width)
    weights += (vector("ple.norms", wide, 3), Weight(name="ple.conv1d", shape=(wide, kernel), matmul=False))
    tail = (kernel - 1) * longest * wide  # a convolution whose taps are `longest` tokens apart
    return (Recurrent(name="conv", conv_channels=0, conv_kernel=1, state=tail, transformers_bits=None),), weights


def primes(least: int) -> Iterator[int]:
    """Yield the primes from `least` on."""
    return (n for n in count(max(least, 2)) if all(n % d for d in range(2, isqrt(n) + 1)))
