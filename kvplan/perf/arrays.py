"""Many passes side by side: operators of arrays, which the formulas of `perf` take as they are."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import numpy as np

from kvplan.perf.operators import Operator
from kvplan.perf.step_time import device_time, host_time
from kvplan.specs.calibration import Calibration

Array = Any
#: of arrays, element by element
maximum, minimum, exponentials = np.maximum, np.minimum, np.exp
#: the amounts of every operator, and those that few have
FIELDS = ("bytes", "flops", "bits", "launches", "messages", "message", "ranks")
FEW = ("dense", "unpacks", "lags", "fixed", "fetched")
#: width of the operands of an operator a pass does not have [bit]
NONE_BITS = 16.0


def stack(lists: Sequence[Sequence[Operator]], loads: int | None = None) -> list[Operator]:
    """Return operators of the same name side by side, [list] or, over `loads` loads each, [list, load or 1].

    A list without one has zeros. An amount that no load changes keeps one column, and one that no list has none.
    """
    size = (len(lists),) if loads is None else (len(lists), 1)
    first: dict[str, Operator] = {}
    operators: dict[str, dict[str, Array]] = {}
    for i, row in enumerate(lists):
        for o in row:
            if o.name not in operators:
                first[o.name] = o
                operators[o.name] = {f: np.zeros(size) for f in FIELDS} | {"bits": np.full(size, NONE_BITS)}
            columns = operators[o.name]
            for f in (*FIELDS, *FEW):
                amount = getattr(o, f)
                if f not in columns:
                    if not (np.any(amount) if np.ndim(amount) else amount):
                        continue
                    columns[f] = np.zeros(size)
                if loads is not None and np.ndim(amount) and columns[f].shape[1] == 1:
                    columns[f] = np.repeat(columns[f], loads, axis=1)
                columns[f][i] = amount
    return [first[name]._replace(**columns) for name, columns in operators.items()]


@dataclass(frozen=True, kw_only=True)
class SharedOperators:
    """Operators that several rows share: each different list once, and which of them each row has."""

    row: Array  #: of each row, the place of its list among the operators
    operators: list[Operator]  #: [list, load or 1]

    def spread(self, times: Any) -> Any:
        """Return times of the different lists as times of the rows."""
        return times[self.row] if np.ndim(times) else times

    def device(self, c: Calibration, prompts: bool = False) -> Any:
        """Return how long the device takes for each row's operators. [s]"""
        return self.spread(device_time(self.operators, c, prompts))

    def host(self, c: Calibration) -> Any:
        """Return how long the host takes to launch them. [s]"""
        return self.spread(host_time(self.operators, c))


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


def below(values: Sequence[Any]) -> Array:
    """Return numbers, or arrays of one shape, below each other."""
    return np.stack(np.broadcast_arrays(*[np.atleast_1d(value) for value in values]))


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
def prompt_columns(fresh: tuple[int, ...], chunk: float, sizes: tuple[float, ...]) -> PromptColumns:
    """Return classes with so many tokens to compute [token], `chunk` a step at most, as columns."""
    chunks = [ceil(tokens / chunk) for tokens in fresh]
    each = [tokens / n for tokens, n in zip(fresh, chunks, strict=True)]
    above = [
        0 if size <= sizes[0] else next(i for i, s in enumerate(sizes) if size <= s * (1 + 1e-12)) for size in each
    ]
    part = [
        (size - sizes[k - 1]) / (sizes[k] - sizes[k - 1]) if k else 1.0 for size, k in zip(each, above, strict=True)
    ]
    share = [tokens / chunk for tokens in fresh]
    tokens, whole, shares, parts = (np.array(x, float)[:, None] for x in (fresh, chunks, share, part))
    return PromptColumns(fresh=tokens, chunks=whole, share=shares, above=np.array(above), part=parts)
