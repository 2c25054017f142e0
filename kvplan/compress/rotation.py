"""Rotary positions (RoPE) as they pass by: keys turned back to what they were before, and turned again.

Inside a model a cache is given keys that are rotated already, and no positions. Hooks see the cosines and sines on
their way into attention, and the positions they were made of. Rotating is multiplying by [[cos, -sin], [sin, cos]]
(RoFormer, arXiv 2104.09864, section 3.2.2), so its transpose over cos^2 + sin^2 undoes it, also where a scaling of the
context makes that sum more than 1 (YaRN, arXiv 2309.00071).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


def half_turned(x: Tensor) -> Tensor:
    """Return (-second half, first half) of the last dimension."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def doubled(cos: Tensor, width: int, half: bool) -> Tensor:
    """Return cosines for each rotated element; some models hand over one for each pair (`half`)."""
    return torch.cat([cos, cos], dim=-1) if half else cos[..., :width]


@dataclass(frozen=True)
class Turn:
    """How far tokens are rotated: cosines and sines of [batch, tokens, rotated width], in the order of the tokens."""

    cos: Tensor  #: [batch, tokens, rotated width]
    sin: Tensor  #: of the same shape

    def apply(self, x: Tensor) -> Tensor:
        """Rotate [batch, heads, tokens, width]; elements behind the rotated width pass."""
        return self._turned(x, self.cos, self.sin)

    def undo(self, x: Tensor) -> Tensor:
        """Return what was rotated: the transposed rotation over cos^2 + sin^2."""
        norm = self.cos.square() + self.sin.square()
        return self._turned(x, self.cos / norm, -self.sin / norm)

    def back(self, x: Tensor) -> Tensor:
        """Rotate the other way by the angle alone, whatever the cosines are scaled by."""
        norm = (self.cos.square() + self.sin.square()).sqrt()
        return self._turned(x, self.cos / norm, -self.sin / norm)

    def repeated(self, count: int) -> "Turn":
        """Return the turn of `count` heads for each, where heads have their own tokens."""
        return Turn(self.cos.repeat_interleave(count, 1), self.sin.repeat_interleave(count, 1))

    @staticmethod
    def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        width = cos.shape[-1]
        part, rest = x[..., :width].float(), x[..., width:]
        cos, sin = (t.float().unsqueeze(1) if t.ndim == 3 else t.float() for t in (cos, sin))
        turned = (part * cos + half_turned(part) * sin).to(x.dtype)
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


@dataclass
class Angles:
    """The angle of every position seen so far, of layers that rotate alike; shared by all sequences and layers."""

    half: bool = False  #: whether the model hands over one cosine for each pair of elements
    cos: Tensor = field(default_factory=lambda: torch.empty(0))  #: [positions, rotated width]
    sin: Tensor = field(default_factory=lambda: torch.empty(0))  #: of the same shape

    def see(self, cos: Tensor, sin: Tensor, positions: Tensor) -> Turn:
        """Remember the angles of these tokens and return their turn. Shapes [batch or 1, tokens, ...]."""
        width = 2 * cos.shape[-1] if self.half else cos.shape[-1]
        cos, sin = doubled(cos, width, self.half), doubled(sin, width, self.half)
        most = int(positions.max()) + 1
        if most > len(self.cos):
            self.cos, self.sin = (_grown(old, new, most) for old, new in ((self.cos, cos), (self.sin, sin)))
        where = positions.expand(cos.shape[0], -1).reshape(-1)
        self.cos[where], self.sin[where] = cos.reshape(-1, width), sin.reshape(-1, width)
        return Turn(cos, sin)

    def at(self, positions: Tensor) -> Turn:
        """Return the turn of positions seen before, of any shape; of [batch, heads, tokens] each head has its own."""
        return Turn(self.cos[positions], self.sin[positions])


def _grown(old: Tensor, new: Tensor, length: int) -> Tensor:
    grown = new.new_zeros(max(length, 2 * len(old)), new.shape[-1])
    if len(old):
        grown[: len(old)] = old
    return grown
