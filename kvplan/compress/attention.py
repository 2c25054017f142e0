"""Attention over a cache that drops tokens: the output, and what each cached token drew, without a full matrix.

The output comes from PyTorch's SDPA; sums over queries of the attention each key draws are computed again, a block of
queries at a time. What SDPA cannot do (soft caps, attention sinks, positions inside the cache) is computed in blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

#: queries whose attention is held at once
BLOCK = 256


@dataclass(frozen=True)
class AttentionPass:
    """One pass of attention: what the model hands over."""

    queries: Tensor  #: [batch, query heads, queries, width]
    keys: Tensor  #: [batch, key heads, keys, width]
    values: Tensor  #: [batch, key heads, keys, width of values]
    seen: Tensor | None  #: which keys a query sees, bool [batch, 1 or query heads, queries, keys]; None: causal
    scale: float  #: of the products
    softcap: float | None = None  #: logits are held below it by a tanh (Gemma 2)
    sinks: Tensor | None = None  #: a logit a head that takes attention and gives nothing (gpt-oss)
    correct: Callable[[Tensor, Tensor, int], Tensor] | None = None  #: changes a block of logits, from a first query on

    @property
    def plain(self) -> bool:
        """Whether SDPA can do it."""
        return self.softcap is None and self.sinks is None and self.correct is None

    def mask(self, start: int, stop: int) -> Tensor:
        """Return which keys queries from `start` to `stop` see."""
        if self.seen is not None:
            return self.seen[:, :, start:stop]
        count, total = self.queries.shape[2], self.keys.shape[2]
        places = torch.arange(total, device=self.keys.device)
        own = torch.arange(total - count + start, total - count + stop, device=self.keys.device)
        return (places <= own[:, None])[None, None]

    def weights(self, start: int, stop: int) -> Tensor:
        """Return the attention of queries from `start` to `stop`: fp32 [batch, query heads, queries, keys]."""
        queries = self.queries[:, :, start:stop]
        keys = self.keys.repeat_interleave(queries.shape[1] // self.keys.shape[1], 1)
        logits = (queries @ keys.mT) * self.scale
        if self.correct is not None:
            logits = self.correct(logits, queries, start)
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        logits = logits.float().masked_fill(~self.mask(start, stop), torch.finfo(torch.float32).min)
        if self.sinks is None:
            return logits.softmax(-1)
        sink = self.sinks.float().view(1, -1, 1, 1).expand(logits.shape[0], -1, logits.shape[2], 1)
        return torch.cat([logits, sink], -1).softmax(-1)[..., :-1]


def attended(asked: AttentionPass) -> Tensor:
    """Return the output of attention, [batch, queries, query heads, width of values]."""
    shared = asked.queries.shape[1] // asked.keys.shape[1]
    if asked.plain:
        keys, values = (t.repeat_interleave(shared, 1) for t in (asked.keys, asked.values))
        count = asked.queries.shape[2]
        causal = asked.seen is None and count == keys.shape[2]  # the form that needs no mask in memory
        seen = None if causal or (asked.seen is None and count == 1) else asked.mask(0, count)
        return scaled_dot_product_attention(
            asked.queries, keys, values, attn_mask=seen, scale=asked.scale, is_causal=causal
        ).transpose(1, 2)  # fmt: skip
    values = asked.values.repeat_interleave(shared, 1)
    blocks = [asked.weights(a, b).to(values.dtype) @ values for a, b in blocks_of(0, asked.queries.shape[2])]
    return torch.cat(blocks, 2).transpose(1, 2)


def drawn(asked: AttentionPass, last: int, heads: int) -> Tensor:
    """Return the attention that each key drew from the `last` queries, summed: fp32 [batch, heads, keys].

    Query heads that read one stored head are added up. A query that sees nothing (padding) gives nothing.
    """
    count = asked.queries.shape[2]
    total = asked.keys.new_zeros(asked.keys.shape[0], heads, asked.keys.shape[2], dtype=torch.float32)
    for start, stop in blocks_of(count - last, count):
        sees = asked.mask(start, stop)
        weights = asked.weights(start, stop) * sees
        total += weights.sum(2).unflatten(1, (heads, -1)).sum(2)
    return total


def greatest(asked: AttentionPass, keys: int, heads: int) -> Tensor:
    """Return the most attention that each of the first `keys` drew from any query: fp32 [batch, heads, keys]."""
    most = asked.keys.new_zeros(asked.keys.shape[0], heads, keys, dtype=torch.float32)
    for start, stop in blocks_of(0, asked.queries.shape[2]):
        weights = asked.weights(start, stop)[..., :keys] * asked.mask(start, stop)[..., :keys]
        most = torch.maximum(most, weights.amax(2).unflatten(1, (heads, -1)).amax(2))
    return most


def blocks_of(start: int, stop: int) -> list[tuple[int, int]]:
    """Return (first, behind the last) query of each block."""
    return [(a, min(a + BLOCK, stop)) for a in range(start, stop, BLOCK)]
