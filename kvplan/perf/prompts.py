"""The prompts of a server as classes: the steps that read them, and what each class takes of an engine's time.

Prompts are a mixture: a hit of the prefix cache computes few tokens, a miss all of them, and lengths spread. Everything
works on floats and on arrays of one shape; classes stand side by side in tuples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.class_lengths import over_lengths
from kvplan.perf.operators import (
    Amount,
    Attended,
    Operator,
    attended_at,
    exponential,
    forward,
    larger,
    smaller,
)
from kvplan.perf.operators import attention as attention_of
from kvplan.perf.serving import Load, PromptTimes, Steps, company
from kvplan.perf.step_time import device_time, step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec

#: keeps quotients of nothing finite
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class PromptClass:
    """Prompts that are alike: a share of all, their length, and what the prefix cache leaves to compute."""

    weight: Amount  #: share of the prompts
    total: int  #: length [token]
    fresh: int  #: tokens to compute [token]
    #: mean time from one prompt to the next that finds its prefix, for those that find one; None for the others [s]
    between: float | None = None
    longest: float = 0.0  #: of its prompts, 0 where that is not known [token]
    varied: float = 0.0  #: squared coefficient of variation of their lengths

    def chunks(self, chunk: float) -> int:
        """Return the engine steps over which it is computed, `chunk` tokens at most in each."""
        return ceil(self.fresh / chunk)

    def part(self, chunk: float) -> float:
        """Return the tokens of one of these steps. [token]"""
        return self.fresh / self.chunks(chunk)


def mean(classes: Sequence[PromptClass], amounts: Sequence[Amount]) -> Amount:
    """Return the mean of an amount over the classes."""
    return sum(k.weight * x for k, x in zip(classes, amounts, strict=True))


def logarithm(x: Amount) -> Amount:
    """Return the natural logarithm of a number from 1, as a slightly larger bound for arrays and floats alike."""
    power = 1 / 64
    return (x**power - 1) / power


def mates(classes: Sequence[PromptClass], seconds: Amount) -> Amount:
    """Return how many questions to the same prefix run beside one, on average, that is in flight for so long.

    They follow each other at random, so seconds / between run beside one in a long row of them, and in a short one no
    more than all the others. Counted by those that find a prefix for every one that brings it.
    """
    return mates_of(classes)(seconds)


def mates_of(classes: Sequence[PromptClass]) -> Callable[[Amount], Amount]:
    """Return what tells `mates` of the time that one is in flight."""
    between = next((k.between for k in classes if k.between), None)
    if between is None:
        return lambda _: 0.0
    found = sum(k.weight for k in classes if k.between)
    others = found / larger(sum(k.weight for k in classes if not k.between), TINY)

    def beside(seconds: Amount) -> Amount:
        near = seconds / between
        return near * others / (near + others + TINY)

    return beside


def longer_prompt(classes: Sequence[PromptClass], z: float) -> Amount:
    """Return how much longer than the mean a prompt is at z standard deviations, over the mean: as of a lognormal.

    Of the classes that find no prefix, whose lengths are told apart best.
    """
    some = [k for k in classes if not k.between]
    whole = larger(sum(k.weight for k in some), TINY)
    average = sum(k.weight * k.total for k in some) / whole
    squared = sum(k.weight * k.total**2 for k in some) / whole / (average * average)
    sigma = logarithm(larger(squared, 1.0)) ** 0.5
    return exponential(z * sigma - sigma * sigma / 2) - 1


def slots_shared(
    classes: Sequence[PromptClass], output: float, beside: Amount, *, slots: Amount, most: Amount
) -> Amount:  # fmt: skip
    """Return how many requests run at once where `slots` do that share nothing, and as many mates run `beside` each.

    1 + `beside` questions to a prefix hold it once, as engines share its blocks; `most` is the engine's limit.
    """
    found = [k for k in classes if k.between]
    if not found:
        return slots
    weight = larger(sum(k.weight for k in found), TINY)
    common = sum(k.weight * (k.total - k.fresh) / (k.total + output) for k in found) / weight
    return larger(smaller(slots / (1.0 - common * beside / (1.0 + beside)), most), slots)


# -- steps ----------------------------------------------------------------------------------------


def sizes(classes: Sequence[PromptClass], chunk: float) -> tuple[float, ...]:
    """Return the prompt tokens a step at which its time is worked out: the least part, the middle, a whole chunk."""
    least = min(k.part(chunk) for k in classes)
    most = max(k.part(chunk) for k in classes)
    middle = (max(least, 1.0) * chunk) ** 0.5
    tried = {least, most, float(chunk)} | ({middle} if most > 1.5 * least else set())
    return tuple(sorted(tried))


@dataclass(frozen=True, kw_only=True)
class PromptSteps:
    """Steps with prompts in them: a decode step, and at each of `sizes` tokens of prompts with and without decoding.

    Attention of prompts is left out of these; `attention` is that of a whole prompt of each class. [s]
    """

    sizes: tuple[float, ...]  #: tokens of prompts in a step, ascending, the last a whole chunk [token]
    decode: Amount  #: a step without prompts [s]
    mixed: tuple[Amount, ...]  #: by size, beside the batch that decodes [s]
    alone: tuple[Amount, ...]  #: by size, by themselves [s]
    attention: tuple[Amount, ...]  #: of a whole prompt, by class, on average over its lengths [s]
    squares: tuple[Amount, ...] = ()  #: the part of it that grows as the square of a length, where that is known [s]


@dataclass(frozen=True, kw_only=True)
class PromptPasses:
    """The operators of `PromptSteps`: one list a step."""

    sizes: tuple[float, ...]  #: tokens of prompts in a step, ascending, the last a whole chunk [token]
    decode: list[Operator]  #: of a step without prompts
    mixed: tuple[list[Operator], ...]  #: by size, beside the batch that decodes
    alone: tuple[list[Operator], ...]  #: by size, by themselves
    attention: tuple[list[Operator], ...]  #: of a whole prompt, by class
    classes: tuple[PromptClass, ...]  #: the classes


def prompt_attention(
    base: KVLayout, layout: KVLayout, tensor: int, classes: Sequence[PromptClass]
) -> tuple[list[Operator], ...]:
    """Return the attention of a whole prompt of each class on one GPU; only `layout.prefill_flops` counts of that."""

    def whole(k: PromptClass) -> list[Operator]:
        each = attended_at(layout, base, tensor, k.total, k.total, k.total - k.fresh)
        return attention_of(Attended(decode=(), prompt=each.prompt), 0.0, 1.0)

    return tuple(whole(k) for k in classes)


def halfway(classes: Sequence[PromptClass], output: float) -> int:
    """Return the length of the mean sequence when half of its answer is there. [token]"""
    return int(mean(classes, [float(k.total) for k in classes]) + output / 2)


def decode_attention(
    base: KVLayout, layout: KVLayout, tensor: int, classes: Sequence[PromptClass], output: float, batch: Amount
) -> list[Operator]:
    """Return the attention on one GPU of a step in which `batch` sequences decode: what a layout changes of it."""
    return attention_of(attended_at(layout, base, tensor, halfway(classes, output), 0), batch, None)


def prompt_passes(
    model: ModelSpec, base: KVLayout, layout: KVLayout, held: Weights, parallel: Parallel, *, batch: Amount,
    classes: Sequence[PromptClass], output: float, chunk: float, attention: tuple[list[Operator], ...] = (),
) -> PromptPasses:  # fmt: skip
    """Return the steps of one rank and stage that runs `batch` requests with prompts of these classes.

    `attention` is `prompt_attention`, where it has been worked out before.
    """
    prompt, fresh = (mean(classes, [float(getattr(k, of)) for k in classes]) for of in ("total", "fresh"))
    middle = halfway(classes, output)
    decoding = attended_at(layout, base, parallel.tensor, middle, 0)
    bare = Attended(decode=decoding.decode, prompt=())
    widths = sizes(classes, chunk)

    def one(decode: Amount, tokens: float) -> list[Operator]:
        read: dict[str, Any] = {"prefill": tokens, "prompt": prompt, "cached": prompt - fresh} if tokens else {}
        return forward(model, layout, held, parallel, decode=decode, length=middle, attended=bare, **read)

    return PromptPasses(
        sizes=widths,
        decode=one(batch, 0.0),
        mixed=tuple(one(batch, size) for size in widths),
        alone=tuple(one(0.0, size) for size in widths),
        attention=attention or prompt_attention(base, layout, parallel.tensor, classes),
        classes=tuple(classes),
    )


def prompt_steps(p: PromptPasses, c: Calibration, batch: Amount) -> PromptSteps:
    """Return the times of these steps; speculative decoding takes fewer steps a token."""
    decode = step_time(p.decode, c, batch)
    saved = decode - decode / c.accepted
    attention, bent = over_lengths(p.classes, [attention_time(each, c) for each in p.attention])
    return PromptSteps(
        sizes=p.sizes,
        decode=decode - saved,
        mixed=tuple(step_time(o, c, batch, True) - saved for o in p.mixed),
        alone=tuple(step_time(o, c, 0.0, True) for o in p.alone),
        attention=attention,
        squares=bent,
    )


def attention_time(operators: Sequence[Operator], c: Calibration) -> Amount:
    """Return how long the attention of a whole prompt takes. [s]"""
    return device_time(operators, c, True)


def between(sizes: Sequence[float], times: Sequence[Amount], size: float) -> Amount:
    """Return the time of a step with so many tokens of prompts, on straight lines between those worked out. [s]"""
    if len(sizes) == 1 or size <= sizes[0]:
        return times[0]
    k = next(i for i, s in enumerate(sizes) if size <= s * (1 + 1e-12))
    part = (size - sizes[k - 1]) / (sizes[k] - sizes[k - 1])
    return (1 - part) * times[k - 1] + part * times[k]


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

    def square(self) -> Amount:
        """Return the mean square of what a prompt takes from all others. [s^2]"""
        return self.mean(self.varied(self.extra, 2))

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


def mixture(classes: Sequence[PromptClass], s: PromptSteps, c: Calibration, load: Load) -> Mixture:
    """Return what the prompts of each class take at a load.

    Many short prompts share a step: they divide its fixed part, as `serve` has it for prompts that are alike.
    """
    separate, others, weights = 1.0 - c.mixes, company(load), None
    if dims := getattr(s.decode, "ndim", 0):  # all classes at once: many small arrays take longer than one
        from kvplan.perf.arrays import below, prompt_columns

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


def slim(s: PromptSteps) -> Steps:
    """Return the steps as `serve` needs them beside the means of prompts that differ."""
    return Steps(decode=s.decode, mixed=s.mixed[-1], alone=s.alone[-1], full=s.mixed[-1], full_alone=s.alone[-1])


def percentile_class(classes: Sequence[PromptClass], share: float) -> int:
    """Return the class of the prompt that takes as long as a share of them do at most: by the tokens to compute."""
    order, below = sorted(range(len(classes)), key=lambda k: classes[k].fresh), 0.0
    for k in order:
        below += classes[k].weight
        if below >= share - TINY:
            return k
    return order[-1]


def alone_times(classes: Sequence[PromptClass], s: PromptSteps, chunk: float) -> tuple[Amount, ...]:
    """Return what the prompts of each class take where nothing decodes, or their part of a shared step if less. [s]"""
    return tuple(
        attended + smaller(k.chunks(chunk) * between(s.sizes, s.alone, k.part(chunk)), k.fresh / chunk * s.alone[-1])
        for k, attended in zip(classes, s.attention, strict=True)
    )
