"""The five factors: KV bytes = sum over layers of kept tokens x vectors x width x bits / 8.

A layout is a tuple of groups of layers that cache alike, each a function of the sequence's length. Four byte
counts stay apart: stored at steady state, read per decode step, peak during prefill, shareable between requests.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from kvplan.architectures.reader import DTYPE_BITS
from kvplan.specs.model import Attention, Cross, Latent, Mixer, ModelSpec, Recurrent


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which tokens of a sequence a layer keeps: at most `window`, of those at most `share` of all and `budget`.

    `fixed` tokens (an encoder's) do not depend on the sequence at all. `chunk` marks windows that restart, `per_head`
    that heads keep different tokens.
    """

    window: int | None = None
    chunk: bool = False
    share: Fraction | None = None
    budget: int | None = None
    fixed: int | None = None
    per_head: bool = False

    def tokens(self, length: int) -> int:
        """Return how many of `length` tokens are kept. [token]"""
        if self.fixed is not None:
            return self.fixed
        kept = length if self.window is None else min(length, self.window)
        if self.share is not None:
            kept = min(kept, max(1, int(length * self.share)))
        return kept if self.budget is None else min(kept, self.budget)

    def pairs(self, length: int) -> float:
        """Return how many (query, visible token) pairs a causal prefill of `length` tokens computes, eviction aside."""
        if self.fixed is not None:
            return float(length * self.fixed)
        if self.window is None or self.window >= length:
            return length * (length + 1) / 2
        return length * self.window / 2 if self.chunk else length * self.window - self.window * (self.window - 1) / 2

    def growth(self, length: int) -> float:
        """Return the tokens kept of one token more, on average. [token]"""
        if self.fixed is not None or length >= min(self.window or length + 1, self.budget or length + 1):
            return 0.0
        return float(self.share) if self.share is not None else 1.0

    @property
    def evicts(self) -> bool:
        return self.share is not None or self.budget is not None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that cache alike.

    vectors x width elements of `bits` bits per kept token, `side` bytes beside them (scales, scores), and
    `constant` bytes per sequence. `split` is how many ways tensor parallelism can divide it. Per cached token a
    decode step reads `rereads` further bytes and does `flops`; `reads` caps the tokens read (sparse attention).
    `pair_flops` is the work of one query on one visible token during prefill. `before` is the group as it was before
    tokens were evicted or vectors narrowed: what prefill holds at its peak. `alone` is what it is without eviction:
    a layer whose window is so short that scores take more than eviction saves is left alone.
    """

    kind: str
    layers: tuple[int, ...]
    vectors: int = 0
    width: float = 0.0
    key_width: float = 0.0
    bits: float = 16.0
    keep: Keep = field(default_factory=Keep)
    side: float = 0.0
    constant: float = 0.0
    split: int = 1
    query_heads: int = 0
    flops: float = 0.0
    pair_flops: float = 0.0
    rereads: float = 0.0
    reads: int | None = None
    rope: bool = True
    shareable: bool = True
    before: "Group | None" = None
    alone: "Group | None" = None

    @property
    def count(self) -> int:
        return len(self.layers)

    @property
    def token_bytes(self) -> float:
        """Bytes one kept token takes in one layer. [B]"""
        return self.vectors * self.width * self.bits / 8 + self.side

    def at(self, length: int) -> "Group":
        """Return the group as it is kept at this length: left alone where evicting would store no less."""
        if self.alone is None:
            return self
        evicted = self.keep.tokens(length) * self.token_bytes + self.constant
        return self if evicted < self.alone.stored(length) else self.alone

    def stored(self, length: int) -> float:
        """Bytes one layer holds for a sequence of `length` tokens. [B]"""
        held = self.at(length)
        return held.keep.tokens(length) * held.token_bytes + held.constant

    def read(self, length: int) -> float:
        """Bytes one layer reads (and rewrites) for the sequence's next token. [B]"""
        if (held := self.at(length)) is not self:
            return held.read(length)
        kept = self.keep.tokens(length)
        return min(kept, self.reads or kept) * (self.token_bytes + self.rereads) + 2 * self.constant

    def peak(self, length: int) -> float:
        """Bytes one layer holds at worst while the prompt is prefilled. [B]"""
        if (held := self.at(length)) is not self:
            return held.peak(length)
        whole = self.before.stored(length) + length * self.side if self.before is not None else 0.0
        return max(self.stored(length), whole)


@dataclass(frozen=True, kw_only=True)
class KVLayout:
    """The cache of one sequence, as groups of layers; `parameters` are weights a technique adds to the model."""

    groups: tuple[Group, ...]
    parameters: float = 0.0
    prefill_flops: float = 1.0

    def stored(self, length: int) -> float:
        """Bytes held at steady state. [B]"""
        return sum(g.count * g.stored(length) for g in self.groups)

    def read(self, length: int) -> float:
        """Bytes read per decode step. [B]"""
        return sum(g.count * g.read(length) for g in self.groups)

    def flops(self, length: int) -> float:
        """Attention FLOPs per decode step. [FLOP]"""
        held = (g.at(length) for g in self.groups)
        return sum(g.count * min(g.keep.tokens(length), g.reads or length) * g.flops for g in held)

    def prefill(self, length: int) -> float:
        """Attention FLOPs of a prefill of `length` tokens. [FLOP]"""
        sums = (
            g.count * g.pair_flops * min(g.keep.pairs(length), g.reads * length if g.reads else g.keep.pairs(length))
            for g in self.groups
        )
        return self.prefill_flops * sum(sums)

    def peak(self, length: int) -> float:
        """Bytes at worst during prefill: every layer as stored, one of them still as it was before eviction. [B]"""
        worst = max((g.peak(length) - g.stored(length) for g in self.groups if g.count), default=0.0)
        return self.stored(length) + worst

    def shared(self, length: int) -> float:
        """Bytes another request with the same prefix of `length` tokens need not store again. [B]"""
        held = (g.at(length) for g in self.groups)
        return sum(g.count * g.keep.tokens(length) * g.token_bytes for g in held if g.shareable)

    def growth(self, length: int) -> float:
        """Bytes one token more takes at this length. [B/token]"""
        held = (g.at(length) for g in self.groups)
        return sum(g.count * g.keep.growth(length) * g.token_bytes for g in held)

    def part(self, *kinds: str) -> "KVLayout":
        """Return the layout of some kinds of group only."""
        return replace(self, groups=tuple(g for g in self.groups if g.kind in kinds))

    def each(self, change: Callable[[Group], Group]) -> "KVLayout":
        return replace(self, groups=tuple(change(g) for g in self.groups))

    def per_layer(self, length: int) -> list[tuple[int, str, int, float]]:
        """Return (layer, kind, kept tokens, bytes) for every cache, in layer order."""
        rows = [(i, g.kind, g.at(length).keep.tokens(length), g.stored(length)) for g in self.groups for i in g.layers]
        return sorted(rows, key=lambda row: row[0])


#: kinds whose bytes grow with the sequence's own tokens
ATTENTION_KINDS = ("full", "sliding", "chunked", "latent", "index")


@lru_cache(maxsize=64)
def kv_layout(model: ModelSpec, bits: float, *, reading: str = "architecture") -> KVLayout:
    """Return a model's cache as the architecture needs it, or as Hugging Face's cache holds it after a prefill.

    transformers 5 differs from the architecture: sliding layers keep window - 1 tokens, convolutions one column
    more, recurrent states are fp32, and some models store more heads (measured, transformers 5.23). Remembered.
    """
    dtype = DTYPE_BITS[model.dtype]
    made: dict[tuple[Group, ...], list[int]] = {}
    for index, layer in enumerate(model.layers):
        for mixer in layer.mixers:
            made.setdefault(_groups(mixer, bits, dtype, reading == "transformers"), []).append(index)
    return KVLayout(groups=tuple(replace(g, layers=tuple(places)) for groups, places in made.items() for g in groups))


def _groups(mixer: Mixer, bits: float, dtype: float, hugging: bool) -> tuple[Group, ...]:
    if isinstance(mixer, Attention):
        return (_attention(mixer, bits, hugging),)
    if isinstance(mixer, Latent):
        return _latent(mixer, bits)
    if isinstance(mixer, Cross):
        return (
            Group(
                kind="cross",
                layers=(),
                vectors=mixer.kv_heads,
                width=mixer.key_dim + mixer.value_dim,
                key_width=mixer.key_dim,
                bits=bits,
                keep=Keep(fixed=mixer.tokens),
                split=mixer.kv_heads,
                query_heads=mixer.heads,
                flops=2.0 * mixer.heads * (mixer.key_dim + mixer.value_dim),
                pair_flops=2.0 * mixer.heads * (mixer.key_dim + mixer.value_dim),
                shareable=False,
            ),
        )
    return (_state(mixer, dtype, hugging),)


def _attention(a: Attention, bits: float, hugging: bool) -> Group:
    if not a.stored:
        return Group(kind="shared", layers=(), query_heads=a.heads, reads=a.window)
    held = a.in_transformers if hugging and a.in_transformers else a
    window = held.window
    if hugging and window is not None:
        window = window - 1 or None  # a window of 1 slices [-0:], which trims nothing
    return Group(
        kind=held.kind,
        layers=(),
        vectors=held.kv_heads,
        width=held.key_dim + held.value_dim,
        key_width=held.key_dim,
        bits=bits,
        keep=Keep(window=window, chunk=a.chunked),
        split=a.kv_heads,
        query_heads=a.heads,
        flops=2.0 * a.heads * (a.key_dim + a.value_dim),
        pair_flops=2.0 * a.heads * (a.key_dim + a.value_dim),
        rope=a.rope,
    )


def _latent(m: Latent, bits: float) -> tuple[Group, ...]:
    """MLA in its absorbed form: every query head meets the same vector (DeepSeek-V2, arXiv 2405.04434)."""
    main = Group(
        kind="latent",
        layers=(),
        vectors=1,
        width=m.elements,
        key_width=m.rank,
        bits=bits,
        query_heads=m.heads,
        flops=2.0 * m.heads * (2 * m.rank + m.rope_dim),
        pair_flops=2.0 * m.heads * (m.nope_dim + m.rope_dim + m.value_dim),
        reads=m.index_top or None,
    )
    if not m.index_dim:
        return (main,)
    return (
        main,
        Group(
            kind="index",
            layers=(),
            vectors=1,
            width=m.index_dim,
            key_width=m.index_dim,
            bits=bits,
            query_heads=m.index_heads,
            flops=2.0 * m.index_heads * m.index_dim,
            pair_flops=2.0 * m.index_heads * m.index_dim,
        ),
    )


def _state(r: Recurrent, dtype: float, hugging: bool) -> Group:
    if hugging and not r.in_transformers:
        return Group(kind="state", layers=(), split=1)
    columns = r.conv_kernel if hugging and r.conv_channels else r.conv_kernel - 1
    wide = r.transformers_bits if hugging else r.state_bits
    constant = (r.conv_channels * columns * dtype + r.state * (wide or dtype)) / 8
    return Group(kind="state", layers=(), constant=constant, split=1_000_000, shareable=False)


def equation(layout: KVLayout, length: int) -> Iterable[str]:
    """Yield the sum with its numbers, a line a group, ending in the total."""
    for g in (g.at(length) for g in layout.groups):
        kept = g.keep.tokens(length)
        if g.constant:
            yield f"{g.kind:8} {g.count} layers x {g.constant:,.0f} B of state = {g.count * g.stored(length):,.0f} B"
        elif g.vectors:
            side = f" + {g.side:g} B" if g.side else ""
            token = f"({g.vectors} x {g.width:g} x {g.bits:g} bit / 8{side})"
            yield f"{g.kind:8} {g.count} layers x {kept:,} tokens x {token} = {g.count * g.stored(length):,.0f} B"
        elif g.count:
            yield f"{g.kind:8} {g.count} layers read another layer's cache = 0 B"
    yield f"total    {layout.stored(length):,.0f} B"
