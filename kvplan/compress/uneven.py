"""Heads of a layer that hold different numbers of tokens: end to end in memory, side by side while they are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvplan.compress.forms import Bits


@dataclass
class Uneven:
    """Heads that hold different numbers of tokens: those of all heads end to end, then what came since to every head.

    What is stored are the tensors of `inner` twice: [batch, 1, tokens of all heads, ...], [batch, heads, tokens, ...].
    """

    inner: Bits  #: how elements are written
    counts: Tensor  #: tokens of each head that stand end to end, [batch, heads]

    @property
    def alive(self) -> Tensor:
        """Which slots of the heads hold something, [batch, heads, most of any head]; each head's are its first ones."""
        places = torch.arange(int(self.counts.max()), device=self.counts.device)
        return places < self.counts[..., None]

    def slots(self, stored: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the tensors of `inner` with a slot of every head for each token: [batch, heads, slots, ...]."""
        flat, new = stored[: len(stored) // 2], stored[len(stored) // 2 :]
        batch, heads = self.counts.shape
        first = self.counts.cumsum(1) - self.counts
        where = (first[..., None] + torch.arange(self.alive.shape[-1], device=first.device)).flatten(1)
        each = [
            _taken(t, where.clamp(max=t.shape[2] - 1)[:, None]).reshape(batch, heads, -1, t.shape[-1]) for t in flat
        ]
        return tuple(_joined(pair) for pair in zip(each, new, strict=True))

    def add(self, stored: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """Return what is stored once the tokens `x` have come to every head."""
        half, packed = len(stored) // 2, self.inner.pack(x)
        return (*stored[:half], *(_joined(pair) for pair in zip(stored[half:], packed, strict=True)))

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what `inner` stores."""
        return self.inner.pack(x)

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return what was stored, a slot of every head for each token; slots without a token mean nothing."""
        return self.inner.unpack(self.slots(packed), like)


def _taken(t: Tensor, where: Tensor) -> Tensor:
    """Return tokens of [batch, heads, tokens, ...] by their place; 8-bit floats are moved as the bytes they are."""
    raw = t.view(torch.uint8) if t.dtype.is_floating_point and t.element_size() == 1 else t
    return raw.gather(2, where[..., None].expand(*where.shape, t.shape[-1])).view(t.dtype)


def _joined(pair: Sequence[Tensor]) -> Tensor:
    a, b = pair
    return torch.cat([a, b], 2)


def uneven(bits: Bits, stored: Sequence[Tensor], kept: Tensor) -> tuple[Uneven, tuple[Tensor, ...]]:
    """Return how the kept slots of every head are written end to end, and what is stored then.

    `kept` is of [batch, heads, slots]; rows with fewer tokens than the longest have slots at the end that mean nothing.
    """
    inner, slots = (bits.inner, bits.slots(stored)) if isinstance(bits, Uneven) else (bits, tuple(stored))
    counts, heads = kept.sum(-1), kept.shape[1]
    most = int(counts.sum(1).max())
    order = torch.argsort(~kept.flatten(1), dim=1, stable=True)[:, None, :most]
    flat = [_taken(t.flatten(1, 2)[:, None], order) for t in slots]
    empty = [t.new_empty(t.shape[0], heads, 0, t.shape[-1]) for t in slots]
    return Uneven(inner, counts), (*(t.contiguous() for t in flat), *empty)


def seen_by(bits: Bits, slots: int, count: int, queries: int) -> Tensor:
    """Return which of the heads' slots the last `count` tokens see, bool [batch, query heads, count, slots]."""
    assert isinstance(bits, Uneven)
    alive = bits.alive
    since = slots - alive.shape[-1]
    order = torch.ones(count, since, dtype=torch.bool, device=alive.device).tril(since - count)
    batch, heads, _ = alive.shape
    both = torch.cat([alive[:, :, None].expand(-1, -1, count, -1), order.expand(batch, heads, -1, -1)], -1)
    return both.repeat_interleave(queries // heads, 1)


def held_by(bits: Bits, slots: int, dead: Tensor, heads: int) -> Tensor:
    """Return which slots of each head hold a token: bool [batch, heads, slots]; without drops all but `dead` first."""
    if not isinstance(bits, Uneven):
        places = torch.arange(slots, device=dead.device)
        return (places >= dead[:, None])[:, None].expand(-1, heads, -1)
    since = slots - bits.alive.shape[-1]
    return torch.nn.functional.pad(bits.alive, (0, since), value=True)
