"""The steps in which prompts end, where others may be read, too."""

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

from kvplan.perf.operators import Amount


@dataclass(frozen=True, kw_only=True)
class LastSteps:
    """The steps in which prompts end, where others may be read, too; of every class, and means over prompts."""

    steps: Any  #: steps that a prompt takes, by class
    rooms: Any  #: tokens that its last one leaves free, over those of a step, by class
    each: Any  #: what one of them takes from all others, by class [s]
    room: Amount  #: tokens that a last step leaves free on average, over those of a step
    mean: Amount  #: what a step of a prompt takes from all others, on average [s]
    free: Amount  #: what a prompt takes from all others, times the room it leaves, on average [s]


@cache
def last_steps(fresh: tuple[int, ...], chunk: float) -> tuple[Any, Any]:
    """Return the steps of prompts with so many tokens to compute, and the room their last ones leave, of 1."""
    steps = [ceil(tokens / chunk) for tokens in fresh]
    return steps, [n - tokens / chunk for n, tokens in zip(steps, fresh, strict=True)]


@cache
def last_columns(fresh: tuple[int, ...], chunk: float, dims: int) -> tuple[Any, Any]:
    """Return the same below each other, for arrays of so many dimensions."""
    from kvplan.perf.arrays import below

    steps, rooms = last_steps(fresh, chunk)
    return below(steps, dims), below(rooms, dims)
