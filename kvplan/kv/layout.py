"""The five factors: KV bytes = sum over layers of kept tokens x vectors x width x bits / 8.

A layout is a tuple of groups of layers that cache alike, each a function of the sequence's length. Four byte
counts stay apart: stored at steady state, read per decode step, peak during prefill, shareable between requests.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

#: a scale and a zero point of 16 bits, for a channel of those keys that are rounded together [B]
KEY_SCALES = 4


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which tokens of a sequence a layer keeps.

    A sequence is its prompt followed by the tokens generated. What is selected once, after the prompt (SnapKV), acts on
    the prompt alone and keeps every token generated; what is selected at each step (H2O) has one budget over both.
    """

    every: int = 1  #: tokens that become one vector, which is what the other rules then count [token]
    rest: int | None = None  #: only those after the last multiple of it [token]
    window: int | None = None  #: the most recent tokens that are visible at all [token]
    chunk: bool = False  #: whether the window restarts at multiples of itself
    share: Fraction | None = None  #: kept of prompt and generated tokens together, of 1
    budget: int | None = None  #: kept of prompt and generated tokens together [token]
    prompt_share: Fraction | None = None  #: kept of the prompt, of 1
    prompt_budget: int | None = None  #: kept of the prompt [token]
    answer_budget: int | None = None  #: kept of the tokens generated [token]
    others: int | None = None  #: kept by those heads that are not among the `share` which keep all [token]
    prompt: int | None = None  #: tokens of the prompt; None: the whole sequence is prompt [token]
    fixed: int | None = None  #: tokens of an encoder, whatever the sequence [token]
    per_head: bool = False  #: whether heads keep different tokens

    def of_prompt(self, length: int) -> int:
        """Return the tokens of the prompt in a sequence of `length`; the others were generated. [token]"""
        return length if self.prompt is None else min(self.prompt, length)

    def tokens(self, length: int) -> int:
        """Return how many of `length` tokens are kept. [token]"""
        if self.fixed is not None:
            return self.fixed
        if self.rest is not None:
            return length % self.rest
        if self.every > 1:
            return self.of_vectors.tokens(length // self.every)
        prompt = self.of_prompt(length)
        kept = _capped(prompt, self.prompt_share, self.prompt_budget)
        kept += _capped(length - prompt, None, self.answer_budget)
        kept = kept if self.window is None else min(kept, self.window)
        if self.others is not None and self.share is not None:
            few = min(kept, self.others)
            return few + int((kept - few) * self.share)
        return min(kept, _capped(length, self.share, self.budget))

    def pairs(self, length: int) -> float:
        """Return how many (query, visible token) pairs a causal prefill of `length` tokens computes, eviction aside."""
        if self.fixed is not None:
            return float(length * self.fixed)
        if self.every > 1:
            return length * (length + 1) / 2 / self.every
        if self.window is None or self.window >= length:
            return length * (length + 1) / 2
        return length * self.window / 2 if self.chunk else length * self.window - self.window * (self.window - 1) / 2

    def growth(self, length: int) -> float:
        """Return the tokens kept of one token more, on average. [token]"""
        if self.fixed is not None or self.rest is not None:
            return 0.0
        if self.every > 1:
            return self.of_vectors.growth(length // self.every) / self.every
        if self.others is not None and self.share is not None:
            if self.window is not None and length >= self.window:
                return 0.0
            return float(self.share) if length >= self.others else 1.0
        if self.selects_prompt and length > self.of_prompt(length):
            return self._answer_growth(length)
        caps = (self.window, self.budget, self.prompt_budget)
        if any(cap is not None and length >= cap for cap in caps):
            return 0.0
        share = self.prompt_share if self.share is None else self.share
        return 1.0 if share is None else float(share)

    def _answer_growth(self, length: int) -> float:
        """Return the tokens kept of one more token generated, where the prompt's were selected. [token]"""
        if self.answer_budget is not None and length - self.of_prompt(length) >= self.answer_budget:
            return 0.0
        return 0.0 if self.window is not None and self.tokens(length) >= self.window else 1.0

    @property
    def of_vectors(self) -> "Keep":
        """The rule as it counts vectors of `every` tokens each."""
        return replace(self, every=1, prompt=self.prompt and self.prompt // self.every)

    @property
    def evicts(self) -> bool:
        """Whether tokens within the window are dropped."""
        return self.share is not None or self.budget is not None or self.selects_prompt

    @property
    def selects_prompt(self) -> bool:
        """Whether what is kept depends on where the prompt ends."""
        return (self.prompt_share, self.prompt_budget, self.answer_budget) != (None, None, None)

    @property
    def by_score(self) -> bool:
        """Whether what is dropped is known only once the whole prompt has been read."""
        return self.per_head or self.selects_prompt

    @property
    def unevicted(self) -> "Keep":
        """The rule without its eviction: what a cache keeps that cannot free tokens head by head."""
        return Keep(every=self.every, rest=self.rest, window=self.window, chunk=self.chunk, fixed=self.fixed)


def _capped(tokens: int, share: Fraction | None, budget: int | None) -> int:
    """Return how many of some tokens a share (at least one token) and a budget leave, None being no limit."""
    if share is not None:
        tokens = min(tokens, max(1, int(tokens * share)))
    return tokens if budget is None else min(tokens, budget)


@dataclass(frozen=True)
class Unpacking:
    """What unpacking one cached token takes a decode kernel in one layer, reading its bytes aside."""

    work: float = 0.0  #: of a whole GPU's processors, as long as one of them would take alone [s]
    by_query: bool = False  #: whether each query head unpacks it anew, else all heads of a group once
    #: of one sequence whatever else runs: a kernel cuts its cache into so many parts and reads each token by token [s]
    lag: float = 0.0
    fixed: float = 0.0  #: of a layer's step, for kernels that rotate and store [s]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that cache alike: vectors x width elements of `bits` bits per kept token, and what goes with them."""

    kind: str  #: full, sliding, chunked, latent, index, cross, state, or shared (reads another layer's cache)
    layers: tuple[int, ...]  #: places in the model, from 0
    vectors: int = 0  #: stored per token and layer: key/value heads, 1 for a latent
    width: float = 0.0  #: elements of a vector, keys and values together
    key_width: float = 0.0  #: elements of it that are keys
    bits: float = 16.0  #: per element, scales aside [bit]
    keep: Keep = field(default_factory=Keep)  #: which tokens
    recent: int = 0  #: the last tokens, kept in `full_bits` [token]
    together: int = 1  #: tokens whose keys share scales, channel by channel, and so wait for each other [token]
    full_bits: float = 16.0  #: of an element of those tokens [bit]
    side: float = 0.0  #: scales and scores beside a token's elements [B]
    constant: float = 0.0  #: recurrent state of a sequence, whatever its length [B]
    state: int = 0  #: elements of that state
    column: float = 0.0  #: what a drafted token adds to it [B]
    split: int = 1  #: ways tensor parallelism can divide it
    query_heads: int = 0  #: heads that attend to it
    flops: float = 0.0  #: of a decode step per cached token, of the heads that attend to it [FLOP]
    rebuilds: float = 0.0  #: of dense products per cached token that rebuild keys and values from a latent [FLOP]
    pair_flops: float = 0.0  #: of a prefill per (query, visible token) pair [FLOP]
    rereads: float = 0.0  #: read by a decode step per cached token, beyond the token's own bytes [B]
    unpacks: Unpacking = Unpacking()  #: what unpacking a cached token takes
    reads: int | None = None  #: the most tokens a decode step reads (sparse attention) [token]
    host: float = 0.0  #: of a kept token, in the host's memory; of those read a step fetches it [B]
    rope: bool = True  #: whether cached keys are rotated
    page: int | None = None  #: tokens of a page an engine gives it, None: as many as any [token]
    fp8_side: float = 0.0  #: scales and 16-bit elements that engines hold beside an fp8 vector's bytes [B]
    shareable: bool = True  #: whether another request with the same prefix can use it
    before: "Group | None" = None  #: as it was before tokens were evicted or vectors narrowed: held during prefill
    alone: "Group | None" = None  #: as it is without eviction, for windows too short for scores to pay

    @property
    def count(self) -> int:
        """Layers of the group."""
        return len(self.layers)

    @property
    def token_bytes(self) -> float:
        """Bytes one kept token takes in one layer. [B]"""
        return self.vectors * self.width * self.bits / 8 + self.side

    @property
    def full_bytes(self) -> float:
        """Bytes one of the recent tokens takes in one layer. [B]"""
        return self.vectors * self.width * self.full_bits / 8

    def held(self, kept: int) -> float:
        """Return the bytes of so many kept tokens, the recent ones unrounded. [B]"""
        fresh = min(kept, self.recent)
        more = self.vectors * self.key_width * ((self.full_bits - self.bits) / 8 - KEY_SCALES / self.together)
        waiting = (kept - fresh) % self.together  # their values are rounded, their keys not yet
        return (kept - fresh) * self.token_bytes + fresh * self.full_bytes + waiting * more

    def at(self, length: int) -> "Group":
        """Return the group as it is kept at this length: left alone where evicting would store no less."""
        if self.alone is None:
            return self
        evicted = self.held(self.keep.tokens(length)) + self.constant
        return self if evicted < self.alone.stored(length) else self.alone

    def stored(self, length: int) -> float:
        """Return the bytes one layer holds for a sequence of `length` tokens. [B]"""
        group = self.at(length)
        return group.held(group.keep.tokens(length)) + group.constant

    def read(self, length: int) -> float:
        """Return the bytes one layer reads (and rewrites) for the sequence's next token. [B]"""
        if (group := self.at(length)) is not self:
            return group.read(length)
        kept = self.keep.tokens(length)
        seen = min(kept, self.reads or kept)
        return self.held(seen) + seen * self.rereads + 2 * self.constant

    def fetched(self, length: int) -> float:
        """Return the bytes one layer fetches from the host's memory for the sequence's next token. [B]"""
        kept = self.keep.tokens(length)
        return min(kept, self.reads or kept) * self.host

    def peak(self, prompt: int) -> float:
        """Return the bytes one layer holds at worst while a prompt is read in one pass. [B]"""
        if (group := self.at(prompt)) is not self:
            return group.peak(prompt)
        whole = self.before.stored(prompt) + prompt * self.side if self.before is not None else 0.0
        return max(self.stored(prompt), whole)

    def waiting(self, prompt: int, chunk: int) -> float:
        """Return the bytes one layer holds, as all do, before the last chunk of a prompt is read. [B]

        What is dropped by score stays until then; what is dropped by place goes chunk by chunk.
        """
        if (group := self.at(prompt)) is not self:
            return group.waiting(prompt, chunk)
        if not self.keep.evicts:
            return self.stored(prompt)
        kept = self.keep.tokens(prompt) + chunk
        tokens = self.keep.unevicted.tokens(prompt) if self.keep.by_score else min(prompt, kept)
        return self.held(tokens) + self.constant


@dataclass(frozen=True, kw_only=True)
class KVLayout:
    """The cache of one sequence."""

    groups: tuple[Group, ...]  #: layers that cache alike
    parameters: float = 0.0  #: weights that techniques add to the model
    prefill_flops: float = 1.0  #: attention FLOPs of a prefill over those without techniques
    offloads: str = ""  #: tier that keeps prefixes beside the GPU, '' for none
    encoder_flops: float = 0.0  #: of encoding the images of one request before its prompt is read [FLOP]
    encoder_bytes: float = 0.0  #: weights of the encoder that does it [B]
    visual: float = 0.0  #: share of a prompt's tokens that images and frames became, of 1

    @property
    def end(self) -> int:
        """One more than the last layer's place."""
        return max((g.layers[-1] + 1 for g in self.groups if g.layers), default=0)

    def beside(self, other: "KVLayout", place: int) -> "KVLayout":
        """Return this layout with another's layers after it, the first at `place`."""
        moved = (replace(g, layers=tuple(i + place for i in g.layers)) for g in other.groups)
        return replace(self, groups=(*self.groups, *moved))

    def stored(self, length: int) -> float:
        """Return the bytes held at steady state. [B]"""
        return sum(g.count * g.stored(length) for g in self.groups)

    def read(self, length: int) -> float:
        """Return the bytes read per decode step. [B]"""
        return sum(g.count * g.read(length) for g in self.groups)

    def hosted(self, length: int) -> float:
        """Return the bytes held in the host's memory at steady state. [B]"""
        return sum(g.count * g.keep.tokens(length) * g.host for g in self.groups)

    def flops(self, length: int) -> float:
        """Return the attention FLOPs of a decode step. [FLOP]"""
        groups = (g.at(length) for g in self.groups)
        return sum(g.count * min(g.keep.tokens(length), g.reads or length) * (g.flops + g.rebuilds) for g in groups)

    def prefill(self, length: int) -> float:
        """Return the attention FLOPs of a prefill of `length` tokens. [FLOP]"""
        sums = (
            g.count * g.pair_flops * min(g.keep.pairs(length), g.reads * length if g.reads else g.keep.pairs(length))
            for g in self.groups
        )
        return self.prefill_flops * sum(sums)

    def peak(self, length: int, chunk: int | None = None) -> float:
        """Return the most bytes a sequence of `length` tokens ever holds. [B]

        As it ends; or while its prompt is prefilled. Read in one pass (no `chunk`, or one that holds the prompt), every
        layer is as stored but one, still as it was before eviction. Read chunk by chunk, no layer can drop by score
        before the last chunk: all of them hold the prompt. One that drops nothing may still be as before narrowing.
        """
        prompt = self.of_prompt(length)
        layers = [g for g in self.groups if g.count]
        if chunk is None or prompt <= chunk:
            worst = max((g.peak(prompt) - g.stored(prompt) for g in layers), default=0.0)
            return max(self.stored(length), self.stored(prompt) + worst)
        held = sum(g.count * g.waiting(prompt, chunk) for g in layers)
        wide = max((g.peak(prompt) - g.stored(prompt) for g in layers if not g.keep.evicts), default=0.0)
        return max(self.stored(length), held + wide)

    def of_prompt(self, length: int) -> int:
        """Return the tokens of the prompt in a sequence of `length`: all where no prompt was told. [token]"""
        return min((g.keep.of_prompt(length) for g in self.groups), default=length)

    def settled(self, length: int) -> "KVLayout":
        """Return the layout an engine makes pages of for sequences of this length.

        Pages of all layers are equal and set beforehand: where evicting saves nothing in any layer none holds scores,
        else all do.
        """
        groups = tuple(g.at(length) for g in self.groups)
        evicts = any(g.alone is not None and kept is g for g, kept in zip(self.groups, groups, strict=True))
        return self if evicts else replace(self, groups=groups)

    def with_prompt(self, prompt: int) -> "KVLayout":
        """Return the layout of sequences whose tokens after the first `prompt` are generated.

        The very same layout where nothing it keeps depends on that.
        """
        if not any(g.keep.selects_prompt for g in self.groups):
            return self
        return self.each(lambda g: replace(g, keep=replace(g.keep, prompt=prompt)) if g.keep.selects_prompt else g)

    def with_source(self, tokens: int) -> "KVLayout":
        """Return the layout of requests whose encoder makes so many tokens, which cross-attention reads."""
        fixed = Keep(fixed=tokens)
        return self.each(lambda g: replace(g, keep=fixed) if g.kind == "cross" else g)

    def shared(self, length: int) -> float:
        """Return the bytes another request with the same prefix of `length` tokens need not store again. [B]"""
        groups = (g.at(length) for g in self.groups)
        return sum(g.count * g.held(g.keep.tokens(length)) for g in groups if g.shareable)

    def growth(self, length: int) -> float:
        """Return the bytes one token more takes at this length. [B/token]"""
        groups = (g.at(length) for g in self.groups)
        return sum(
            g.count * g.keep.growth(length) * (g.full_bytes if length < g.recent else g.token_bytes) for g in groups
        )

    @property
    def latent(self) -> bool:
        """Whether some layers keep one latent for all heads (MLA)."""
        return any(g.kind == "latent" and g.count for g in self.groups)

    def part(self, *kinds: str) -> "KVLayout":
        """Return the layout of some kinds of group only."""
        return replace(self, groups=tuple(g for g in self.groups if g.kind in kinds))

    def each(self, change: Callable[[Group], Group]) -> "KVLayout":
        """Return the layout with every group changed."""
        return replace(self, groups=tuple(change(g) for g in self.groups))

    def per_layer(self, length: int) -> list[tuple[int, str, int, float]]:
        """Return (layer, kind, kept tokens, bytes) for every cache, in layer order."""
        rows = [(i, g.kind, g.at(length).keep.tokens(length), g.stored(length)) for g in self.groups for i in g.layers]
        return sorted(rows, key=lambda row: row[0])


def equation(layout: KVLayout, length: int) -> Iterable[str]:
    """Yield the sum with its numbers, a line a group, ending in the total."""
    for g in (g.at(length) for g in layout.groups):
        kept = g.keep.tokens(length)
        if g.constant:
            yield f"{g.kind:8} {g.count} layers x {g.constant:,.0f} B of state = {g.count * g.stored(length):,.0f} B"
        elif g.vectors or g.side:
            side = f" + {g.side:g} B" if g.side else ""
            token = f"({g.vectors} x {g.width:g} x {g.bits:g} bit / 8{side})" if g.vectors else f"{g.side:g} B of state"
            yield f"{g.kind:8} {g.count} layers x {kept:,} tokens x {token} = {g.count * g.stored(length):,.0f} B"
        elif g.count:
            yield f"{g.kind:8} {g.count} layers read another layer's cache = 0 B"
    yield f"total    {layout.stored(length):,.0f} B"
