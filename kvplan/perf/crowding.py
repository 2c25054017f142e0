"""Waits for memory in an open loop: how often all slots of a replica are taken, and for how long.

While prompts are read next to nothing is decoded, so time is counted on a clock that runs only while nothing is read.
On it requests come in surges: a prompt, and those that came while it and others before it were read. Between surges n
requests leave one by one at the rate of n tokens a step, whose time grows with n. Everything works on floats and on
arrays of one shape.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from math import ceil, erf, log
from typing import Any

from kvplan.perf.amounts import TINY, Amount, larger, smaller, taken
from kvplan.perf.mixture import Mixture, powers
from kvplan.perf.prompts import PromptClass, longer_prompt
from kvplan.perf.queueing import Wait
from kvplan.perf.serving import BUSIEST, Load, Served

#: slots up to which requests are counted one by one, and the stretches that more of them are cut into
EACH, STRETCHES = 128, 24
#: elements of an array up to which its arithmetic takes no longer than its call
AT_ONCE = 4096
#: squared coefficient of variation of waits for memory: what blocked requests of simulated replicas had, at 70 to 85 %
#: of the largest rate 0.52 to 0.59 (benchmarks/NOTES.md)
SPREAD = 0.6
#: a chance that is none
NONE = 1e-30
#: the least room that is left, as a share of what leaves a full replica
LEAST = 1e-4


@dataclass(frozen=True, kw_only=True)
class Surge:
    """Requests that come at once on the clock of decoding: one, and with chance `more` a geometric number besides."""

    rate: Amount  #: surges a second of that clock [1/s]
    more: Amount  #: chance of more than one
    again: Amount  #: chance of still another after the second
    mean: Amount  #: mean number of requests
    squared: Amount  #: mean of the number's square


def together(squared: float) -> float:
    """Return how much longer requests that came together run together than with exponential answers, which is 1.

    Of answers with this squared coefficient of variation, taken as lognormal, the shorter of two takes 1 - G of the
    mean, G being Gini's coefficient; of exponential ones half. The number that runs varies by it (the variance of an
    infinite server with arrivals in groups). Source: Takagi, Queueing Analysis 1, 1991; Aitchison and Brown, The
    Lognormal Distribution, 1957.
    """
    return 2 * (1 - erf(log(1 + max(squared, 0.0)) ** 0.5 / 2))  # rounding leaves less than 0 of equal lengths


def surge(rate: Amount, m: Mixture, burstiness: float, alike: float = 1.0, beside: Amount = 0.0) -> Surge:
    """Return the surges of prompts: the customers of an M/G/1 busy period, mean and variance.

    Arrivals burstier than Poisson come in groups of geometric size with their index of dispersion. `rate` is that of
    one rank, `alike` how much longer than with exponential answers those of a surge stay `together`. As many questions
    to the same prefix as run `beside` one add as much to the variance of those that run over their mean.
    Source: Takacs, Introduction to the Theory of Queues, 1962.
    """
    group = max((burstiness**2 + 1) / 2, 1.0)
    extra = m.mean(m.extra)
    uneven = m.mean(powers(m.extra, 2)) / larger(extra * extra, TINY**2)
    busy = smaller(rate * extra, BUSIEST)
    one = 1 / (1 - busy)
    variance = group * (busy * (1 - busy) + busy**2 * uneven) * one**3 + (group * group - group) * one * one
    many = group * one
    variance = variance + (alike - 1) * (variance + many * many - many)
    variance = variance + 2 * beside * many
    beyond = larger(many - 1, TINY)
    second = (variance + (many - 1) ** 2) / beyond
    again = smaller(larger((second - 1) / (second + 1), 0.0), 1 - TINY)
    return Surge(
        rate=rate / group, more=beyond * (1 - again), again=again, mean=many, squared=variance + many * many
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Crowded:
    """How often a request finds all slots taken, how many must leave before it is read, and how many run."""

    chance: Amount  #: share of the requests that find all slots taken
    ahead: Amount  #: requests that must leave first, on average
    running: Amount  #: requests that run while nothing is read, on average; 0 where it was not counted


def crowded(s: Surge, slots: Amount, leaving: Callable[..., Amount], waiting: Surge | None = None) -> Crowded:
    """Return how often all slots are taken; `leaving` is the rate at which n requests leave while nothing is read.

    Of arrays it takes besides which elements are meant.
    Up crossings of every level balance down crossings: s.rate (p(n) + more W(n)) = leaving(n + 1) p(n + 1), where W(n),
    the sum of p(k) again^(n-1-k) below n, goes on as W(n + 1) = again W(n) + p(n). Those that wait came in surges as
    they are (`waiting`), whatever keeps those of one surge together once they run.
    """
    full = smaller(s.rate * s.mean / leaving(slots), 1 - LEAST)  # load of full slots
    each = full / s.mean  # surges for each that leaves
    total, last, behind, running = below_slots(s, slots, leaving)
    # beyond the slots nothing changes with n: sums of the recursion
    ahead = moved_by(waiting or s, each, full, last, behind)
    beyond = each * started(s, last, behind) / (1 - full)
    share = beyond / larger(total + beyond, TINY) / full
    return Crowded(
        chance=smaller(larger(share, TINY), 1.0), ahead=larger(ahead, 1.0),
        running=(running + (running > 0) * slots * beyond) / larger(total + beyond, TINY),
    )  # fmt: skip


def started(s: Surge, last: Amount, behind: Amount) -> Amount:
    """Return the sum of p at the slots and below, each times the requests of a surge that go beyond the slots."""
    return last * (1 + s.more / (1 - s.again)) + s.more / (1 - s.again) * behind


def moved_by(s: Surge, each: Amount, full: Amount, last: Amount, behind: Amount) -> Amount:
    """Return how many requests must leave before one that finds all slots taken is read, on average."""
    again, more = s.again, s.more
    beyond = each * started(s, last, behind) / (1 - full)
    later = (behind + last + beyond) / (1 - again)
    moved = each * (last + beyond + more * (later + (again * later + last + beyond) / (1 - again)))
    return moved / (1 - full) / larger(beyond, TINY**4)


def below_slots(s: Surge, slots: Amount, leaving: Callable[..., Amount]) -> tuple[Amount, ...]:
    """Return the sum of p up to the slots, p there, W there and the sum of n p, each as suits the number of slots."""
    if isinstance(slots, float | int):
        return counted(s, slots, leaving) if slots <= EACH else estimated(s, slots, leaving)
    whole = [0.0 * slots for _ in range(4)]
    for which, way in ((slots <= EACH, counted), (slots > EACH, estimated)):
        if which.any():
            some = Surge(**{f.name: taken(getattr(s, f.name), which) for f in fields(Surge)})
            for values, found in zip(whole, way(some, slots[which], partial(leaving, which=which)), strict=True):
                values[which] = found
    return tuple(whole)


def counted(s: Surge, slots: Amount, leaving: Callable[[Amount], Amount]) -> tuple[Amount, ...]:
    """Return the sum of p up to the slots, p there, W there and the sum of n p, request by request, p(0) being 1."""
    last, behind = 1.0 + 0.0 * slots, 0.0 * slots
    total, running = last, behind
    most = slots if isinstance(slots, float | int) else slots.max() if slots.size else 0
    levels = range(min(ceil(most), EACH))
    rates = at_each([n + 1.0 for n in levels], slots, lambda n: leaving(smaller(n, slots)))
    for n, rate in zip(levels, rates, strict=True):
        there = 1.0 * (n < slots)
        following = s.rate * (last + s.more * behind) / rate
        behind = there * (s.again * behind + last) + (1 - there) * behind
        last = there * following + (1 - there) * last
        total, running = total + there * last, running + there * (n + 1) * last
    return total, last, behind, running


def at_each(numbers: Sequence[float], slots: Amount, of: Callable[[Amount], Amount]) -> Iterator[Amount]:
    """Yield what comes of each number, of small arrays of slots at several numbers at once."""
    if isinstance(slots, float | int):
        yield from map(of, numbers)
        return
    from kvplan.perf.arrays import below

    each = max(AT_ONCE // max(slots.size, 1), 1)
    for first in range(0, len(numbers), each):
        yield from of(below(numbers[first : first + each]))


def estimated(s: Surge, slots: Amount, leaving: Callable[[Amount], Amount]) -> tuple[Amount, ...]:
    """Return the same for many slots, n p left out and p at the slots being 1, in stretches of a like growth.

    The factor z solves s.rate (1 + more / (z - again)) = leaving z, and the root below is how far p follows it as z
    moves (the first correction of a slowly varying recursion, as in WKB).
    """
    wide = slots / STRETCHES

    def growth(n: Amount) -> Amount:
        each = s.rate / leaving(n)
        middle = s.again + each
        return (middle + larger(middle**2 - 4 * each * (s.again - s.more), 0.0) ** 0.5) / 2

    def follows(z: Amount) -> Amount:
        y = larger(z - s.again, TINY)
        return y / (y * y + 2 * s.more * y + s.more * s.again) ** 0.5

    top = growth(slots)
    reach = before = 1.0 + 0.0 * slots
    total, middles = 0.5 * reach, [k + 0.5 for k in range(STRETCHES)]
    shrinks = at_each(middles, slots, lambda k: growth(slots - k * wide + 0.5) ** wide)
    ends = at_each(middles, slots, lambda k: follows(growth(larger(slots - k * wide - wide / 2, 0.5))))
    for shrink, end in zip(shrinks, ends, strict=True):
        reach = reach / (shrink + NONE * reach)  # 1 / (shrink / reach + NONE), which a reach of 0 may take
        here = reach * end / follows(top)
        total = total + wide * (before + 4 * (before * here) ** 0.5 + here) / 6
        before = here
    return total, 1.0 + 0.0 * slots, 1 / larger(top - s.again, TINY), 0.0 * slots


@dataclass(frozen=True, kw_only=True)
class HeldSlots:
    """What a replica's slots make of an open loop."""

    wait: Wait  #: of those that find all slots taken, until they are read themselves
    running: Amount  #: requests that run while nothing is read, on average; 0 where slots are too many to matter


def open_memory(
    m: Mixture, *, rate: Amount, slots: Amount, decode: Callable[..., Amount], output: Amount, squared: float,
    burstiness: float, ranks: Amount = 1.0, beside: Amount = 0.0,
) -> HeldSlots:  # fmt: skip
    """Return the wait for memory of an open loop, and the requests that run.

    `decode` is a step's time by the requests of one of the `ranks`, of arrays also of `which` elements. Of every
    request before it a prompt is read and another leaves; answers that are more alike than exponential ones (`squared`,
    the squared coefficient of variation of their lengths) leave more evenly. Source: Lee and Longton, Operational
    Research Quarterly 10(1), 1959.
    """

    def leaving(n: Amount, which: Any = None) -> Amount:
        return n / (output * (decode(n / ranks) if which is None else decode(n / taken(ranks, which), which)))

    alone = surge(rate / ranks, m, burstiness)
    near = beside * smaller(alone.rate * alone.mean * ranks / leaving(slots), 1.0)
    each, plain = (surge(rate / ranks, m, burstiness, x, near) for x in (together(squared), 1.0))
    crowd = crowded(replace(each, rate=each.rate * ranks), slots, leaving, plain)
    one = 1 / leaving(slots) + m.mean(m.extra) / ranks
    wait = Wait(chance=crowd.chance, mean=crowd.chance * crowd.ahead * one * (1 + squared) / 2, squared=SPREAD)
    return HeldSlots(wait=wait, running=crowd.running)


def held(served: Served, load: Load, memory: HeldSlots, rate: Amount, beside: Amount = 0.0) -> Served:
    """Return the means of an open loop whose slots bound the requests that run; `rate` is that of all ranks.

    A step takes `beside` longer for the questions to the same prefix that run beside a request. [s]

    While nothing is read a request decodes for running / rate (Little), and those that came while it waited and was
    read delay it besides, unless they find all slots taken.
    """
    counted, left = 1.0 * (memory.running > 0), 1 - served.busy
    longer = load.output * beside / left
    even = counted * (memory.running / rate + longer) + (1 - counted) * load.output * served.step / left
    met = served.busy * (served.queue + served.own) * (1 - memory.wait.chance) / left
    return replace(
        served, tpot=(even + load.short * met) / load.output, cycle=served.own + even + met,
        step=even * left / load.output,
    )  # fmt: skip


def steps_beside(decode: Callable[[Amount], Amount], batch: Amount, mates: Amount) -> Amount:
    """Return by how much a step of a batch is longer for the questions to the same prefix in it. [s]

    Those of other sessions that run meanwhile run longer too, by as much as a step is longer than that of one request.
    """
    whole = decode(batch)
    return larger(whole - decode(larger(batch - mates, 1.0)), 0.0) * whole / decode(1.0 + 0.0 * batch)


def crowd_longer(
    decode: Callable[[Amount], Amount], load: Load, served: Served, each: Surge, *, most: Amount, mates: Amount,
    classes: Sequence[PromptClass], z: float,
) -> Amount:  # fmt: skip
    """Return by how much a step of an open loop is longer when as many run as at z standard deviations. [s]

    `served` are its means as if slots bounded nobody; `most` requests run on a rank, and `mates` of one prefix.
    """
    away = swing(load, served, each, decode(1.0 + 0.0 * load.batch), mates)
    there = smaller(larger(gamma_at(load.batch, away, z), 1.0), larger(most, 1.0))
    return steps_longer(decode, load, there, mates, classes, z)


def steps_longer(
    decode: Callable[[Amount], Amount], load: Load, there: Amount, mates: Amount, classes: Sequence[PromptClass],
    z: float,
) -> Amount:  # fmt: skip
    """Return by how much a step is longer at z standard deviations from its mean, which lasts a request's life. [s]

    As many requests run as `there`, and the own prompt, which the `mates` share, is as long as there, independently.
    """
    batch = load.batch
    crowd, own = decode(there) - decode(batch), decode(batch) - decode(larger(batch - mates - 1.0, 1.0))
    return (crowd * crowd + (own * longer_prompt(classes, z)) ** 2) ** 0.5


def swing(load: Load, served: Served, each: Surge, least: Amount, mates: Amount) -> Amount:
    """Return the standard deviation of the requests that run on a rank of an open loop.

    They come in surges and leave at a rate that grows less than they do, as a step is longer for more of them; `least`
    is a step's time for one. Of a linear noise approximation. Source: van Kampen, Stochastic Processes, 1981.
    """
    held = smaller(least / served.step, 1.0)
    return ((load.offered + mates) * (1 + each.squared / each.mean) / 2 / held) ** 0.5


def gamma_at(middle: Amount, away: Amount, z: float) -> Amount:
    """Return where a gamma distribution of this mean and deviation is at z standard deviations of a normal one.

    Source: Wilson and Hilferty, PNAS 17, 1931.
    """
    apart = (away / middle) ** 2 / 9
    return middle * larger(1 - apart + z * apart**0.5, 0.0) ** 3
