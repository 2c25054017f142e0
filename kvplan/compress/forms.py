"""How a kept token is stored: which vectors of it (heads, width), and how their elements are written (bits)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from kvplan.compress.rotation import Turn

#: elements that share a scale and a zero point, both bf16, as the planner reckons int8 and int4
GROUP = 64
#: the largest value of an 8-bit float with four bits of exponent (OCP FP8, arXiv 2209.05433)
LARGEST = 448.0


class Form(Protocol):
    """From the keys and values of a model to two tensors that are stored, and back."""

    @property
    def needs_turn(self) -> bool:
        """Whether keys are stored as they were before they were rotated."""

    def narrow(self, keys: Tensor, values: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return what is stored of [batch, heads, tokens, width] keys and values."""

    def widen(self, first: Tensor, second: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return keys and values as the model's attention expects them."""


@dataclass(frozen=True)
class Whole:
    """All vectors as they are: the baseline, and what techniques of tokens and bits store."""

    needs_turn: bool = False  #: rotated keys are stored

    def narrow(self, keys: Tensor, values: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return both."""
        return keys, values

    def widen(self, first: Tensor, second: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return both."""
        return first, second


@dataclass(frozen=True)
class PooledHeads:
    """Heads pooled by their mean into fewer (GQA, arXiv 2305.13245, section 2.1).

    Heads at one position are rotated alike, so the mean of rotated keys is the rotated mean.
    """

    heads: int  #: that are stored
    repeats: int  #: heads of the model that share one
    needs_turn: bool = False  #: rotated keys are stored

    def narrow(self, keys: Tensor, values: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return the means of neighbouring heads."""
        return self._pooled(keys), self._pooled(values)

    def _pooled(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.heads, self.repeats)).mean(2)

    def widen(self, first: Tensor, second: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return each head as often as the model has heads for it."""
        return first.repeat_interleave(self.repeats, 1), second.repeat_interleave(self.repeats, 1)


@dataclass(frozen=True)
class Basis:
    """Directions of the vectors of groups of heads: what is stored is how far they go along each."""

    directions: Tensor  #: [groups, heads of a group x width, rank], orthonormal unless healed
    mean: Tensor  #: [groups, heads of a group x width]
    rebuilding: Tensor | None = None  #: from latents back, of the same shape; None: the directions themselves

    def narrow(self, x: Tensor) -> Tensor:
        """Return latents [batch, groups, tokens, rank] of [batch, heads, tokens, width]."""
        groups = len(self.mean)
        joined = x.unflatten(1, (groups, -1)).transpose(2, 3).flatten(3)
        return (joined - self.mean[:, None].to(x)) @ self.directions.to(x)

    def widen(self, latent: Tensor, width: int) -> Tensor:
        """Return vectors [batch, heads, tokens, width] of latents."""
        back = self.directions if self.rebuilding is None else self.rebuilding
        joined = latent @ back.to(latent).mT + self.mean[:, None].to(latent)
        return joined.unflatten(3, (-1, width)).transpose(2, 3).flatten(1, 2)

    def handed(self, latent: Tensor, width: int) -> Tensor:
        """Return latents as values of the heads they serve, a one behind each: [batch, heads, tokens, rank + 1]."""
        heads = self.mean.shape[1] // width
        ones = latent.new_ones((*latent.shape[:-1], 1))
        return torch.cat([latent, ones], -1).repeat_interleave(heads, 1)

    def read(self, out: Tensor, width: int) -> Tensor:
        """Return what attention over vectors gives, [batch, queries, query heads, width], from that over `handed` ones.

        Sums over tokens and the way back from latents commute; the ones have summed up what the mean counts for.
        """
        back = self.directions if self.rebuilding is None else self.rebuilding
        each = back.unflatten(1, (-1, width)).flatten(0, 1)
        mean = self.mean.reshape(-1, width)
        shared = out.shape[2] // len(mean)
        each, mean = (t.repeat_interleave(shared, 0).to(out) for t in (each, mean))
        return torch.einsum("bqhr,hwr->bqhw", out[..., :-1], each) + out[..., -1:] * mean


@dataclass(frozen=True)
class LatentForm:
    """MHC: keys before their rotation, and values, as low-rank latents of groups of heads.

    Keys are rebuilt and rotated when they are read (Palu, arXiv 2407.21118). Values are not where they are `absorbed`:
    attention sums up latents, and what is read back is its output, a vector a query instead of one a token.
    """

    keys: Basis  #: of keys before rotation
    values: Basis  #: of values
    key_width: int  #: elements of a key of one head
    value_width: int  #: elements of a value of one head
    needs_turn: bool = True  #: False where the model rotates nothing
    absorbed: bool = False  #: whether attention is over latents of values; its output needs `read` then

    def read(self, out: Tensor) -> Tensor:
        """Return the output of attention as the model expects it."""
        return self.values.read(out, self.value_width) if self.absorbed else out

    def narrow(self, keys: Tensor, values: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return the latents of keys and of values."""
        plain = keys if turn is None else turn.undo(keys)
        return self.keys.narrow(plain), self.values.narrow(values)

    def widen(self, first: Tensor, second: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor]:
        """Return keys rebuilt and rotated, and values rebuilt or as they are read without that."""
        keys = self.keys.widen(first, self.key_width)
        values = (self.values.handed if self.absorbed else self.values.widen)(second, self.value_width)
        if turn is None:
            return keys, values
        if turn.cos.ndim == 4:  # groups of heads hold different tokens
            turn = turn.repeated(keys.shape[1] // turn.cos.shape[1])
        return turn.apply(keys), values


# -- bits -----------------------------------------------------------------------------------------


class Bits(Protocol):
    """How elements are written: one tensor becomes several, all with tokens in the last dimension but one."""

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that are stored of [batch, heads, tokens, width]."""

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return what was stored in the type and width of `like`."""


@runtime_checkable
class Growing(Bits, Protocol):
    """Bits whose stored tensors do not grow by a slot for each token."""

    def add(self, stored: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """Return what is stored once the tokens `x` have come."""


def added(bits: Bits, stored: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """Return what is stored once the tokens `x` have come; () is what a new cache stores."""
    if isinstance(bits, Growing):
        return bits.add(stored, x)
    packed = bits.pack(x)
    return tuple(torch.cat(pair, -2) for pair in zip(stored, packed, strict=True)) if stored else packed


@dataclass
class AsIs:
    """Elements of the model's own type."""

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the tensor itself, as a copy where it is a view of a larger one."""
        alone = x.untyped_storage().nbytes() == x.numel() * x.element_size()
        return (x.contiguous() if alone else x.clone(memory_format=torch.contiguous_format),)

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return it."""
        return packed[0]


@dataclass
class Float8:
    """8-bit floats with one scale per tensor, set by the first tokens with half of the range left for later ones."""

    scale: float = 0.0  #: what stored elements are multiplied by, 0 until the first tokens came

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the rounded elements; larger ones than can be told are held at the largest."""
        if not self.scale:
            self.scale = max(float(x.abs().max()), 1e-12) * 2 / LARGEST
        return ((x.float() / self.scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn),)

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return the elements times the scale."""
        return (packed[0].to(torch.float32) * self.scale).to(like.dtype)


@dataclass
class Integers:
    """Integers of 8, 4 or 2 bits; 64 elements of a vector share a bf16 scale and zero point, rounded before their use.

    Two elements of 4 bits share a byte, or four of 2: a vector that does not fill its last byte takes all of it.
    """

    bits: int  #: 8, 4 or 2
    group: int = GROUP  #: elements that share a scale; 0: those of a vector, which is one token's of one head

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (elements, scales, zero points)."""
        size = self.group or x.shape[-1]
        padded = torch.nn.functional.pad(x.float(), (0, -x.shape[-1] % size), value=float("nan"))
        grouped = padded.unflatten(-1, (-1, size))
        low = grouped.nan_to_num(torch.inf).amin(-1)
        high = grouped.nan_to_num(-torch.inf).amax(-1)
        zero = low.to(torch.bfloat16)
        spread = torch.maximum(high - zero.float(), torch.full_like(high, 1e-6))
        scale = (spread / (2**self.bits - 1)).to(torch.bfloat16)
        rounded = ((grouped - zero.float()[..., None]) / scale.float()[..., None]).round().nan_to_num(0.0)
        levels = rounded.clamp(0, 2**self.bits - 1).to(torch.uint8).flatten(-2)[..., : x.shape[-1]]
        return self._joined(levels), scale, zero

    def _joined(self, levels: Tensor) -> Tensor:
        each = 8 // self.bits
        if each == 1:
            return levels.contiguous()
        even = torch.nn.functional.pad(levels, (0, -levels.shape[-1] % each)).unflatten(-1, (-1, each))
        return (even << self._shifts(levels)).sum(-1, dtype=torch.uint8)

    def _shifts(self, levels: Tensor) -> Tensor:
        return torch.arange(0, 8, self.bits, dtype=torch.uint8, device=levels.device)

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return elements x scale + zero point."""
        stored, scale, zero = packed
        if self.bits < 8:
            split = (stored[..., None] >> self._shifts(stored)) & (2**self.bits - 1)
            stored = split.flatten(-2)[..., : like.shape[-1]]
        size = self.group or like.shape[-1]
        each = [t.float().repeat_interleave(size, -1)[..., : like.shape[-1]] for t in (scale, zero)]
        return (stored.float() * each[0] + each[1]).to(like.dtype)


#: KIVI: tokens of a channel, or elements of a value, that share a scale, and the last tokens left as they are
#: (arXiv 2402.02750, section 4.1; the planner reckons the same)
TOGETHER, UNROUNDED = 32, 128


@dataclass
class Recent:
    """KIVI: the last 128 tokens as they are; of those before them 32 keys of a channel, or of a value, share a scale.

    Keys are rounded 32 tokens at a time, so that up to 31 tokens more stand as they came. What is stored are elements,
    scales and zero points of the rounded tokens, then the others: tokens are in the third dimension of each.
    """

    bits: int  #: 4 or 2
    channels: bool  #: whether the elements of a group are of one channel (keys), else of one token (values)

    @property
    def _rounded(self) -> Integers:
        return Integers(self.bits, TOGETHER)

    def add(self, stored: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """Return what is stored once the tokens `x` have come."""
        *old, fresh = stored if stored else (x[:, :, :0],)
        fresh = torch.cat([fresh, x], 2)
        over = max(fresh.shape[2] - UNROUNDED, 0)
        if self.channels:
            over -= over % TOGETHER
        packed = self._rounded.pack(self._grouped(fresh[:, :, :over]))
        whole = [torch.cat(pair, 2) for pair in zip(old, packed, strict=True)] if old else packed
        return (*whole, fresh[:, :, over:].clone(memory_format=torch.contiguous_format))

    def _grouped(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, TOGETHER)).transpose(3, 4) if self.channels else x

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what is stored of a first pass."""
        return self.add((), x)

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return what was stored."""
        *rounded, fresh = packed
        wide = like.new_empty(0, TOGETHER) if self.channels else like
        back = self._rounded.unpack(rounded, wide).to(like.dtype)
        return torch.cat([back.transpose(3, 4).flatten(2, 3) if self.channels else back, fresh], 2)


#: magnitudes of a 4-bit float with two bits of exponent and one of mantissa (OCP microscaling formats, 1.0)
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: elements that share an fp8 scale in NVFP4
BLOCK = 16


@dataclass
class Float4:
    """NVFP4: 4-bit floats, an fp8 scale for 16 of them, and one scale per tensor, set by the first tokens."""

    scale: float = 0.0  #: what the blocks' scales are multiplied by, 0 until the first tokens came

    def pack(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return (elements, two a byte; scales of blocks)."""
        if not self.scale:
            self.scale = max(float(x.abs().max()), 1e-12) * 2 / FP4[-1] / LARGEST
        padded = torch.nn.functional.pad(x.float(), (0, -x.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        scales = (padded.abs().amax(-1) / FP4[-1] / self.scale).clamp(max=LARGEST).to(torch.float8_e4m3fn)
        each = scales.float().mul(self.scale).clamp(min=1e-30)[..., None]
        table = x.new_tensor(FP4, dtype=torch.float32)
        edges = (table[1:] + table[:-1]) / 2
        levels = torch.bucketize((padded / each).abs().contiguous(), edges).to(torch.uint8)
        signed = (levels | ((padded < 0).to(torch.uint8) << 3)).flatten(-2)[..., : x.shape[-1]]
        even = torch.nn.functional.pad(signed, (0, signed.shape[-1] % 2))
        return even[..., 0::2] | (even[..., 1::2] << 4), scales

    def unpack(self, packed: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return elements x scales of blocks x scale."""
        stored, scales = packed
        codes = torch.stack([stored & 15, stored >> 4], -1).flatten(-2)[..., : like.shape[-1]].long()
        table = torch.tensor([*FP4, *(-v for v in FP4)], device=stored.device)
        each = scales.float().repeat_interleave(BLOCK, -1)[..., : like.shape[-1]]
        return (table[codes] * each * self.scale).to(like.dtype)
