"""Arrays in place of floats: what the formulas of `perf` need of them, and rows that share parts."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import numpy as np

Array = Any
#: how one is made, and of arrays, element by element
array, maximum, minimum, exponentials, where = np.array, np.maximum, np.minimum, np.exp, np.where


def alike_rows(
    rows: Sequence[Any], key: Callable[[Any], Hashable], make: Callable[[Any], Any]
) -> tuple[Array, list[Any]]:
    """Return which different part each row has, and what is made of the first row of each."""
    places: dict[Hashable, int] = {}
    made: list[Any] = []
    at = []
    for row in rows:
        place = places.setdefault(key(row), len(made))
        if place == len(made):
            made.append(make(row))
        at.append(place)
    return np.array(at), made


def below(values: Sequence[Any], dims: int = 1) -> Array:
    """Return numbers, or arrays of one shape, below each other: numbers for arrays of so many dimensions."""
    shape = next((value.shape for value in values if getattr(value, "ndim", 0)), None)
    if shape is None:
        return np.array(values, float).reshape(-1, *(1,) * dims)
    rows = np.empty((len(values), *shape))
    for i, value in enumerate(values):  # `np.stack` takes several times as long for the small arrays of a search
        rows[i] = value
    return rows


@dataclass(frozen=True, kw_only=True)
class PromptColumns:
    """Classes of prompts below each other, as columns: their steps, and where those lie between the ones worked out."""

    fresh: Array  #: tokens to compute [token]
    chunks: Array  #: engine steps over which a prompt is computed
    share: Array  #: the same in whole steps' tokens, in fractions
    above: Array  #: the next larger size of a step that was worked out
    part: Array  #: how far a step's tokens are from the size before to that one, of 1

    def between(self, times: Array) -> Array:
        """Return the times of each class's steps from those of all sizes, below each other. [s]"""
        return (1 - self.part) * times[self.above - 1] + self.part * times[self.above]


@cache
def prompt_columns(fresh: tuple[int, ...], chunk: float, sizes: tuple[float, ...], dims: int = 1) -> PromptColumns:
    """Return classes with so many tokens to compute [token], `chunk` a step at most, for arrays of `dims`."""
    chunks = [ceil(tokens / chunk) for tokens in fresh]
    each = [tokens / n for tokens, n in zip(fresh, chunks, strict=True)]
    above = [
        0 if size <= sizes[0] else next(i for i, s in enumerate(sizes) if size <= s * (1 + 1e-12)) for size in each
    ]
    part = [
        (size - sizes[k - 1]) / (sizes[k] - sizes[k - 1]) if k else 1.0 for size, k in zip(each, above, strict=True)
    ]
    share = [tokens / chunk for tokens in fresh]
    tokens, whole, shares, parts = (below(x, dims) for x in (fresh, chunks, share, part))
    return PromptColumns(fresh=tokens, chunks=whole, share=shares, above=np.array(above), part=parts)
