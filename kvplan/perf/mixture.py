"""What the prompts of each class take of an engine at one load.

Everything works on floats and on arrays of one shape; classes stand side by side in tuples, or below each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil
from typing import Any

from kvplan.perf.amounts import TINY, Amount, larger, smaller
from kvplan.perf.prompts import PromptClass, PromptSteps, between, mean, place
from kvplan.perf.serving import Load, PromptTimes, company
from kvplan.specs.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What the prompts of each class take at one load, by class: numbers, or the rows of an array. [s]"""

    classes: tuple[PromptClass, ...]  #: the classes
    own: Sequence[Amount]  #: from a prompt's first step to its first token, by class [s]
    extra: Sequence[Amount]  #: what a prompt takes from all others, by class [s]
    service: Sequence[Amount]  #: for how long a prompt keeps others waiting, by class [s]
    weights: Amount | None = None  #: shares of the classes below each other, where times are rows of an array
    squares: Sequence[Amount] = ()  #: the part of each time that grows as the square of a length, where known [s]

    def mean(self, amounts: Any) -> Amount:
        """Return the mean of an amount over the classes."""
        if self.weights is None:
            return mean(self.classes, amounts)
        return (self.weights * amounts).sum(axis=0)

    def column(self, amounts: Sequence[float]) -> Any:
        """Return a number of each class so that it goes with times: as they are, or below each other."""
        if self.weights is None:
            return amounts
        from kvplan.perf.arrays import below

        return below(amounts, self.dims)

    @property
    def dims(self) -> int:
        """Dimensions of the arrays that stand below each other, where they do."""
        return getattr(self.service, "ndim", 1) - 1

    def each(self, of: Callable[..., Amount], *columns: Any) -> Any:
        """Return what comes of the columns' values, class by class."""
        return [of(*x) for x in zip(*columns, strict=True)] if self.weights is None else of(*columns)

    def at_most(self, most: Amount) -> Amount:
        """Return the mean of what a prompt takes from all others, no more than so much of any. [s]"""
        return self.mean(self.each(lambda taken: smaller(taken, most), self.extra))

    @cached_property
    def times(self) -> PromptTimes:
        """Means over the classes, as `serve` needs them."""
        extra = self.mean(self.extra)
        service = self.mean(self.service)
        squared = self.moment(2) / larger(service * service, TINY**2)
        own = self.mean(self.own)
        whole = mean(self.classes, [k.total for k in self.classes])
        return PromptTimes(own=own, extra=extra, service=service, squared=squared, whole=whole)

    def moment(self, power: int) -> Amount:
        """Return a moment of the time for which a prompt keeps others waiting, the first to third. [s^power]"""
        return self.mean(self.varied(self.service, power))

    @cached_property
    def uneven(self) -> Any:
        """Squared coefficients of variation, by class, of the times for which prompts keep others waiting.

        Those of the lengths, and more where a part of the time grows as their square.
        """
        varied = self.column([k.varied for k in self.classes])
        if not len(self.squares):
            return self.each(lambda time, v: v + 0.0 * time, self.service, varied)
        return self.each(
            lambda time, v, bent: v * (1 + bent / larger(time, TINY)) ** 2, self.service, varied, self.squares
        )  # fmt: skip

    def varied(self, amounts: Any, power: int) -> Any:
        """Return powers of times, by class, as they are on average over the lengths in a class: 1 + n (n - 1) / 2 v.

        Exact for squares of what grows as a length; of others the first term of a series in the variation v.
        """
        more = power * (power - 1) / 2
        return self.each(lambda time, v: time**power * (1 + more * v), amounts, self.uneven) if more else amounts


def powers(amounts: Any, power: int) -> Any:
    """Return a power of each of some numbers, or of the rows of an array."""
    return amounts**power if hasattr(amounts, "shape") else [x**power for x in amounts]


@dataclass(frozen=True, kw_only=True)
class PromptColumns:
    """Classes of prompts below each other, as columns: their steps, and where those lie between the ones worked out."""

    fresh: Any  #: tokens to compute [token]
    chunks: Any  #: engine steps over which a prompt is computed
    share: Any  #: the same in whole steps' tokens, in fractions
    above: Any  #: the next larger size of a step that was worked out
    part: Any  #: how far a step's tokens are from the size before to that one, of 1

    def between(self, times: Any) -> Any:
        """Return the times of each class's steps from those of all sizes, below each other. [s]"""
        return (1 - self.part) * times[self.above - 1] + self.part * times[self.above]


@cache
def prompt_columns(fresh: tuple[int, ...], chunk: float, sizes: tuple[float, ...], dims: int = 1) -> PromptColumns:
    """Return classes with so many tokens to compute [token], `chunk` a step at most, for arrays of `dims`."""
    import numpy as np

    from kvplan.perf.arrays import below

    chunks = [ceil(tokens / chunk) for tokens in fresh]
    above, part = zip(*(place(sizes, tokens / n) for tokens, n in zip(fresh, chunks, strict=True)), strict=True)
    share = [tokens / chunk for tokens in fresh]
    tokens, whole, shares, parts = (below(x, dims) for x in (fresh, chunks, share, part))
    return PromptColumns(fresh=tokens, chunks=whole, share=shares, above=np.array(above), part=parts)


def mixture(classes: Sequence[PromptClass], s: PromptSteps, c: Calibration, load: Load) -> Mixture:
    """Return what the prompts of each class take at a load.

    Many short prompts share a step: they divide its fixed part, as `serve` has it for prompts that are alike.
    """
    separate, others, weights = 1.0 - c.mixes, company(load), None
    if dims := getattr(s.decode, "ndim", 0):  # all classes at once: many small arrays take longer than one
        from kvplan.perf.arrays import below

        weights = below([k.weight for k in classes], dims)
        columns = prompt_columns(tuple(k.fresh for k in classes), c.chunk, s.sizes, dims)
        fresh = (weights * columns.fresh).sum(axis=0)
    else:
        fresh = mean(classes, [float(k.fresh) for k in classes])
    fill = (load.batch * fresh / c.chunk) ** 4
    crowded = fill / (1.0 + fill)
    shared = c.mixes * others

    def taking(n: Amount, share: Amount, steps: tuple[Amount, Amount], attended: Amount) -> tuple[Amount, ...]:
        mixed, alone = (n * step + attended for step in steps)
        whole, lone = (share * times[-1] + attended for times in (s.mixed, s.alone))
        least = c.mixes * larger(whole - share * s.decode, 0.0) + separate * lone
        apart = c.mixes * (mixed - n * s.decode) + separate * alone
        taken = crowded * smaller(apart, least) + (1.0 - crowded) * apart
        # `wait` was fitted to closed loops, where a prompt keeps others waiting for no decode steps
        return shared * mixed + (1.0 - shared) * alone, taken, taken + load.open * c.mixes * share * s.decode

    if weights is not None:
        steps = tuple(columns.between(below(times, dims)) for times in (s.mixed, s.alone))
        own, extra, service = taking(columns.chunks, columns.share, steps, below(s.attention, dims))
        bent: Any = below(s.squares, dims) if s.squares else ()
    else:
        own, extra, service = zip(*(
            taking(
                k.chunks(c.chunk), k.fresh / c.chunk,
                tuple(between(s.sizes, times, k.part(c.chunk)) for times in (s.mixed, s.alone)), attended,
            )
            for k, attended in zip(classes, s.attention, strict=True)
        ), strict=True)  # fmt: skip
        bent = s.squares
    return Mixture(classes=tuple(classes), own=own, extra=extra, service=service, weights=weights, squares=bent)
