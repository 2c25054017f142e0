"""What questions to the same prefix add to the wait of all: a long prompt brings others as long soon after it.

Everything works on floats and on arrays of one shape; classes stand side by side, or as the rows of an array.
"""

from functools import cache
from typing import Any

from kvplan.perf.operators import Amount, exponential, larger
from kvplan.perf.prompts import TINY, Mixture


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
    """Return the same as indices of those that bring prefixes, and a matrix of 1 for each that finds one of them."""
    import numpy as np

    both = pairs(totals, finds)
    matrix = np.zeros((len(both), len(totals)))
    for at, (_, found) in enumerate(both):
        matrix[at, list(found)] = 1.0
    return np.array([k for k, _ in both]), matrix


def again(m: Mixture, rate: Amount, busy: Amount, wait: Amount) -> Amount:
    """Return what the mean wait for a turn is longer since questions to a prefix follow each other. [s]

    A prompt that takes S lengthens all waits by S until the server would have been idle for as long: on average by
    d = S - (1 - busy) (1 - exp(-u S)) / t when the next comes, at a rate t, which takes S' and adds S' d / (1 - busy)
    to the area under the work that waits. u is that of a busy period, u = t + rate (1 - E[exp(-u S)]), to the second
    moment by the mean `wait` of a queue without them; in sum n questions follow, as if at 1 / (n x time between them).
    Exact for pairs in front of a server that is otherwise M/G/1. Source: Takacs, Introduction to the Theory of Queues,
    1962 (busy periods; the transform of the work that waits, Pollaczek and Khinchine).
    """
    between = next((k.between for k in m.classes if k.between), None)
    if between is None:
        return 0.0
    totals, finds = tuple(k.total for k in m.classes), tuple(bool(k.between) for k in m.classes)
    left = 1 - busy
    found = sum(k.weight for k in m.classes if k.between)
    each = found / larger(sum(k.weight for k in m.classes if not k.between), TINY)
    t = 1 / larger(each * between, TINY)
    u = 2 * t / (left * (1 + (1 + 4 * wait * t / left) ** 0.5))

    def longer(first: Amount, next_one: Amount, varied: Amount) -> Amount:
        gone = exponential(-u * first)
        lasts = larger(first - left / t * (1 - gone), 0.0)
        power = first * (1 - left / t * u * gone) / larger(lasts, TINY)
        return next_one * lasts * (1 + varied * power * (1 + power) / 2)

    if m.weights is None:
        total: Amount = 0.0
        for k, those in pairs(totals, finds):
            some = sum(m.classes[j].weight for j in those)
            follows = sum(m.classes[j].weight * m.service[j] for j in those) / larger(some, TINY)
            total = total + m.classes[k].weight * longer(m.service[k], follows, m.uneven[k])
    else:
        first, matrix = rows(totals, finds)
        follows = matrix @ (m.weights * m.service) / larger(matrix @ (m.weights + 0.0 * m.service), TINY)
        total = (m.weights[first] * longer(m.service[first], follows, m.uneven[first])).sum(axis=0)
    return rate * each * total / left
