"""Arrays below each other, and rows that share parts."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

Array = Any


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
