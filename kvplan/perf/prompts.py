"""The prompts of a server as classes: the steps that read them, and what each class takes of an engine's time.

Prompts are a mixture: a hit of the prefix cache computes few tokens, a miss all of them, and lengths spread. Everything
works on floats and on arrays of one shape; classes stand side by side in tuples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.amounts import TINY, Amount, exponential, larger, logarithm, smaller
from kvplan.perf.operators import Attended, Operator, attended_at, forward
from kvplan.perf.operators import attention as attention_of
from kvplan.perf.serving import Steps
from kvplan.perf.step_time import device_time, step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec


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


def mates_of(classes: Sequence[PromptClass]) -> Callable[[Amount], Amount]:
    """Return what tells, of the time that one is in flight [s], how many questions to its prefix run beside it.

    They follow each other at random, so seconds / between run beside one in a long row of them, and in a short one no
    more than all the others. Counted by those that find a prefix for every one that brings it.
    """
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
    attention, bent = over_lengths(p.classes, [device_time(each, c, True) for each in p.attention])
    return PromptSteps(
        sizes=p.sizes,
        decode=decode - saved,
        mixed=tuple(step_time(o, c, batch, True) - saved for o in p.mixed),
        alone=tuple(step_time(o, c, 0.0, True) for o in p.alone),
        attention=attention,
        squares=bent,
    )


@cache
def neighbours(totals: tuple[int, ...], between: tuple[float | None, ...]) -> tuple[int | None, ...]:
    """Return which class of prompts is next to each in length and finds a prefix as it does, the shorter one if any.

    None where no other does. Classes of which a cache holds as much follow each other by length.
    """
    follows = [False, *(between[i] == between[i + 1] and totals[i] < totals[i + 1] for i in range(len(totals) - 1))]
    last = len(totals) - 1
    return tuple(k - 1 if follows[k] else k + 1 if k < last and follows[k + 1] else None for k in range(last + 1))


def squares(classes: Sequence[PromptClass], attention: Sequence[Amount]) -> tuple[Amount, ...]:
    """Return the part of the attention of a prompt of each class that grows as the square of its length. [s]

    A line and a parabola through no prompt at all, a prompt of the class, and one of the class beside it.
    """
    found: list[Amount] = []
    near = neighbours(tuple(k.total for k in classes), tuple(k.between for k in classes))
    for k, time, other in zip(classes, attention, near, strict=True):
        if other is None:
            found.append(0.0 * time)
            continue
        long = classes[other].total
        bent = (time / k.total - attention[other] / long) / (k.total - long)
        found.append(larger(bent * k.total**2, 0.0))
    return tuple(found)


def over_lengths(
    classes: Sequence[PromptClass], attention: Sequence[Amount]
) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    """Return the attention of a prompt of each class on average over its lengths, and `squares` of it. [s]

    A mean of squares is the square of the mean, and as much again times the squared coefficient of variation.
    """
    bent = squares(classes, attention)
    means = tuple(time + k.varied * more for k, time, more in zip(classes, attention, bent, strict=True))
    return means, bent


def place(sizes: Sequence[float], size: float) -> tuple[int, float]:
    """Return the place of the first of ascending sizes that is no smaller, and how far to it a size is, of 1."""
    k = next(i for i, s in enumerate(sizes) if size <= s * (1 + 1e-12))
    return k, (size - sizes[k - 1]) / (sizes[k] - sizes[k - 1]) if k else 1.0


def between(sizes: Sequence[float], times: Sequence[Amount], size: float) -> Amount:
    """Return the time of a step with so many tokens of prompts, on straight lines between those worked out. [s]"""
    k, part = place(sizes, size)
    return (1 - part) * times[k - 1] + part * times[k] if k else times[0]


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
