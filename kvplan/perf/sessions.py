"""What questions to the same prefix add to the wait of all: a long prompt brings others as long soon after it.

Everything works on floats and on arrays of one shape; classes stand side by side, or as the rows of an array.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from kvplan.perf.amounts import TINY, Amount, exponential, larger
from kvplan.perf.mixture import Mixture


@cache
def pairs(totals: tuple[int, ...], finds: tuple[bool, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return (a class that brings prefixes, classes of the prompts that find them): those as long, or else all."""
    found = [k for k, finding in enumerate(finds) if finding]
    return tuple(
        (k, tuple(j for j in found if totals[j] == total) or tuple(found))
        for k, total in enumerate(totals)
        if not finds[k]
    )


@cache
def rows(totals: tuple[int, ...], finds: tuple[bool, ...]) -> tuple[Any, Any]:
    """Return the same as rows of an array: of those that bring prefixes, and 1 for each that finds one of them."""
    import numpy as np

    both = pairs(totals, finds)
    each = [[1.0 * (k in found) for k in range(len(totals))] for _, found in both]
    return np.array([k for k, _ in both]), np.array(each)


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Questions to a prefix: by class of the prompts that bring one, as numbers or as the rows of an array."""

    between: Amount  #: mean time from one to the next, as many times as follow one [s]
    first: Any  #: for how long a prompt that brings a prefix keeps others waiting [s]
    follows: Any  #: the same of the prompts that find it, times how many do and the share of the first ones [s]
    varied: Any  #: `first` times its squared coefficient of variation within its class [s]


def sessions(m: Mixture) -> Sessions | None:
    """Return the questions to a prefix of a mixture, None where nobody finds one."""
    between = next((k.between for k in m.classes if k.between), None)
    if between is None:
        return None
    totals, finds = tuple(k.total for k in m.classes), tuple(bool(k.between) for k in m.classes)
    found = sum(k.weight for k in m.classes if k.between)
    each = found / larger(sum(k.weight for k in m.classes if not k.between), TINY)
    between = larger(each * between, TINY)
    if m.weights is None:
        both = pairs(totals, finds)

        def follow(k: int, those: tuple[int, ...]) -> Amount:
            some = sum(m.classes[j].weight for j in those)
            service = sum(m.classes[j].weight * m.service[j] for j in those) / larger(some, TINY)
            return each * m.classes[k].weight * service

        return Sessions(
            between=between, first=[m.service[k] for k, _ in both], follows=[follow(*x) for x in both],
            varied=[m.uneven[k] * m.service[k] for k, _ in both],
        )  # fmt: skip
    at, matrix = rows(totals, finds)
    service, some = (product(matrix, x) for x in (m.weights * m.service, m.weights))
    follows = each * m.weights[at] * service / larger(some, TINY)
    first = m.service[at]
    return Sessions(between=between, first=first, follows=follows, varied=m.uneven[at] * first)


def product(matrix: Any, rows: Any) -> Any:
    """Return a matrix times rows that are arrays of any shape."""
    return (matrix @ rows.reshape(len(rows), -1)).reshape(-1, *rows.shape[1:])


def again(m: Mixture, those: Sessions | None, rate: Amount, busy: Amount, wait: Amount) -> Amount:
    """Return what the mean wait for a turn is longer since `those` questions to a prefix follow each other. [s]

    A prompt that takes S lengthens all waits by S until the server would have been idle for as long: on average by
    d = S - (1 - busy) (1 - exp(-u S)) / t when the next comes, at a rate t, which takes S' and adds S' d / (1 - busy)
    to the area under the work that waits. u is that of a busy period, u = t + rate (1 - E[exp(-u S)]), to the second
    moment by the mean `wait` of a queue without them; in sum n questions follow, as if at 1 / (n x time between them).
    Exact for pairs in front of a server that is otherwise M/G/1. Source: Takacs, Introduction to the Theory of Queues,
    1962 (busy periods; the transform of the work that waits, Pollaczek and Khinchine).
    """
    if those is None:
        return 0.0
    left, t = 1 - busy, 1 / those.between
    u = 2 * t / (left * (1 + (1 + 4 * wait * t / left) ** 0.5))
    idle = left / t

    def longer(first: Amount, follows: Amount, varied: Amount) -> Amount:
        far = u * first
        gone = idle * exponential(-far)
        ends = u * gone  # 1 - its slope; `varied` adds half the second derivative of S S' d
        return follows * (first - idle + gone + varied * (1 - ends + far * ends / 2))

    every = m.each(longer, those.first, those.follows, those.varied)
    return rate * (sum(every) if m.weights is None else every.sum(axis=0)) / left
