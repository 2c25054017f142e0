"""Lengths within a class of prompts, and questions to one prefix, against slow and obvious twins."""

import math
import random
from statistics import fmean

import numpy as np
import pytest
from test_queueing import made, simulated

from kvplan.perf.mixture import Mixture
from kvplan.perf.prompts import PromptClass, over_lengths, squares
from kvplan.perf.sessions import again, sessions
from kvplan.planning.load import at_rate


def classes_of(lengths: list[list[int]], between: float | None = None) -> list[PromptClass]:
    """Return a class of each list of lengths, as often as the list is long."""
    every, found = sum(map(len, lengths)), []
    for part in lengths:
        total = round(fmean(part))
        varied = fmean(x * x for x in part) / fmean(part) ** 2 - 1
        found.append(
            PromptClass(weight=len(part) / every, total=total, fresh=total, between=between, varied=varied)
        )  # fmt: skip
    return found


LENGTHS = [[1_000, 2_000, 3_000], [8_000, 10_000, 12_000], [30_000, 36_000, 60_000]]


def test_attention_is_a_mean_over_lengths_not_that_of_the_mean_length() -> None:
    """A line and a square, worked out length by length; a class by itself tells neither."""
    line, square = 2e-6, 3e-10
    classes = classes_of(LENGTHS)
    at_mean = [line * k.total + square * k.total**2 for k in classes]
    means, bent = over_lengths(classes, at_mean)
    assert bent == pytest.approx([square * k.total**2 for k in classes])
    assert means == pytest.approx([fmean(line * x + square * x * x for x in part) for part in LENGTHS])
    assert squares(classes[:1], at_mean[:1]) == (0.0,)
    only_line = [line * k.total for k in classes]
    assert over_lengths(classes, only_line)[0] == pytest.approx(only_line)


def test_classes_that_find_a_prefix_tell_nothing_of_those_that_bring_one() -> None:
    classes = [*classes_of(LENGTHS[:2]), *classes_of(LENGTHS[:1], between=30.0)]
    assert squares(classes, [1.0, 30.0, 7.0]) == pytest.approx((1.25, 31.25, 0.0))


def test_mean_squares_of_times_are_those_over_all_lengths() -> None:
    """Prompts that take a line and a square of their length, in classes that vary by a few percent."""
    line, square, rng = 2e-6, 3e-10, random.Random(2)
    lengths = [[round(x * rng.uniform(0.8, 1.2)) for _ in range(2_000)] for x in (1_000, 10_000, 40_000)]
    classes = classes_of(lengths)
    means, bent = over_lengths(classes, [line * k.total + square * k.total**2 for k in classes])
    m = Mixture(classes=tuple(classes), own=means, extra=means, service=means, squares=bent)
    times = [line * x + square * x * x for part in lengths for x in part]
    assert m.moment(1) == pytest.approx(fmean(times), rel=1e-4)
    assert m.moment(2) == pytest.approx(fmean(t * t for t in times), rel=0.002)
    assert m.moment(3) == pytest.approx(fmean(t**3 for t in times), rel=0.02)


# -- questions to the same prefix -----------------------------------------------------------------

TIMES, SHARES, FOUND = (0.2, 1.0, 4.0, 8.0), (0.7, 0.2, 0.07, 0.03), 0.4


def pairs_of(between: float) -> Mixture:
    """Return prompts of these times, each followed by one that takes FOUND of it."""
    classes = [
        PromptClass(weight=w / 2, total=round(1000 * x), fresh=round(1000 * x), between=each)
        for each in (None, between) for x, w in zip(TIMES, SHARES, strict=True)
    ]  # fmt: skip
    times = (*TIMES, *(FOUND * x for x in TIMES))
    return Mixture(classes=tuple(classes), own=times, extra=times, service=times)


def longer(m: Mixture, rate: float, busy: float, wait: float) -> float:
    """Return what the mean wait of these prompts is longer since some follow each other. [s]"""
    return again(m, sessions(m), rate, busy, wait)


def work_waiting(rate: float, between: float, sessions: int, follow: bool) -> float:
    """Return the mean work before a server to which pairs come, event by event; or each of them by itself. [s]"""
    rng, at, coming = random.Random(5), 0.0, []
    for _ in range(sessions):
        at += rng.expovariate(rate / 2)
        first = rng.choices(TIMES, SHARES)[0]
        coming.append((at, first))
        later = at + rng.expovariate(1 / between) if follow else rng.uniform(0, sessions / rate * 2)
        coming.append((later, FOUND * first))
    work = last = area = 0.0
    for now, takes in sorted(coming):
        idle_from = min(now - last, work)
        area += idle_from * (work - idle_from / 2)
        work, last = work - idle_from + takes, now
    return area / last


@pytest.mark.parametrize("between", [1.0, 10.0, 30.0])
@pytest.mark.parametrize("busy", [0.3, 0.6])
def test_long_prompts_that_follow_each_other_make_all_wait(busy: float, between: float) -> None:
    """The difference that pairs make, from the same prompts at random: within a seventh of it."""
    m = pairs_of(between)
    rate = busy / m.moment(1)
    alone = rate * m.moment(2) / (2 * (1 - busy))
    paired, apart = (work_waiting(rate, between, 120_000, follow) for follow in (True, False))
    assert apart == pytest.approx(alone, rel=0.04)
    assert longer(m, rate, busy, alone) == pytest.approx(paired - apart, rel=1 / 7)


def test_pairs_that_come_at_once_are_one_prompt_and_those_far_apart_are_two() -> None:
    """Together E[2 S S'] more in the second moment; at first as 1 / the time between them."""
    m, rate, busy, wait = pairs_of(1e-9), 0.5, 0.4, 0.7
    whole = sum(w / 2 * FOUND * x * x for x, w in zip(TIMES, SHARES, strict=True))
    assert longer(m, rate, busy, wait) == pytest.approx(rate * whole / (1 - busy), rel=1e-4)
    far = longer(pairs_of(1e6), rate, busy, wait)
    square = sum(w / 2 * FOUND * x * (x * x / 2 + x * wait) for x, w in zip(TIMES, SHARES, strict=True))
    assert far == pytest.approx(rate * square / 1e6 / (1 - busy) ** 2, rel=1e-3)
    nobody = Mixture(classes=tuple(classes_of(LENGTHS)), own=TIMES[:3], extra=TIMES[:3], service=TIMES[:3])
    assert longer(nobody, rate, busy, wait) == 0.0


def test_arrays_of_sessions_are_those_of_each() -> None:
    m = pairs_of(20.0)
    column = np.array([*TIMES, *(FOUND * x for x in TIMES)])
    for shape in ((2,), (3, 2)):
        rows = column.reshape(-1, *(1 for _ in shape)) * np.ones(shape)
        weights = np.array([k.weight for k in m.classes]).reshape(-1, *(1 for _ in shape))
        many = Mixture(classes=m.classes, own=rows, extra=rows, service=rows, weights=weights)
        found = longer(many, np.full(shape, 0.5), np.full(shape, 0.4), np.full(shape, 0.7))
        assert found.shape == shape and np.allclose(found, longer(m, 0.5, 0.4, 0.7))


@pytest.mark.parametrize(("sessions", "mean"), [(False, 0.06), (True, 0.04)])
def test_agents_wait_as_in_a_simulation_in_which_both_questions_of_a_session_are_long(
    sessions: bool, mean: float
) -> None:
    """Llama 3.1 8B on one H200 at half its rate: 4 % more by lengths within classes, 5 % by sessions."""
    s = made("agents", "llama3.1-8b", "h200", 1, 1.0, sessions)
    p = at_rate(s, 0.5 * s.most_rate)
    runs = [simulated("agents", s, p.rate, 20_000, seed=k, sessions=sessions)[0] for k in range(4)]
    assert math.isclose(p.ttft.mean, fmean(map(fmean, runs)), rel_tol=mean)
