"""What lengths that differ within a class of prompts make of its times: means, and how far they vary.

The steps of a prompt take time as its length, its attention in part as the square of it. Everything works on floats
and on arrays of one shape.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from kvplan.perf.operators import Amount, larger


@cache
def beside(totals: tuple[int, ...], between: tuple[float | None, ...]) -> tuple[int | None, ...]:
    """Return which class of prompts is next to each in length and finds a prefix as it does, the shorter one if any.

    None where no other does. Classes of which a cache holds as much follow each other by length.
    """
    follows = [False, *(between[i] == between[i + 1] and totals[i] < totals[i + 1] for i in range(len(totals) - 1))]
    last = len(totals) - 1
    return tuple(k - 1 if follows[k] else k + 1 if k < last and follows[k + 1] else None for k in range(last + 1))


def squares(classes: Sequence[Any], attention: Sequence[Amount]) -> tuple[Amount, ...]:
    """Return the part of the attention of a prompt of each class that grows as the square of its length. [s]

    A line and a parabola through no prompt at all, a prompt of the class, and one of the class beside it.
    """
    found: list[Amount] = []
    near = beside(tuple(k.total for k in classes), tuple(k.between for k in classes))
    for k, time, other in zip(classes, attention, near, strict=True):
        if other is None:
            found.append(0.0 * time)
            continue
        long = classes[other].total
        bent = (time / k.total - attention[other] / long) / (k.total - long)
        found.append(larger(bent * k.total**2, 0.0))
    return tuple(found)


def over_lengths(classes: Sequence[Any], attention: Sequence[Amount]) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    """Return the attention of a prompt of each class on average over its lengths, and `squares` of it. [s]

    A mean of squares is the square of the mean, and as much again times the squared coefficient of variation.
    """
    bent = squares(classes, attention)
    means = tuple(time + k.varied * more for k, time, more in zip(classes, attention, bent, strict=True))
    return means, bent
