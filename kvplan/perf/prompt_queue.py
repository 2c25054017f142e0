"""Prompts in front of one engine, first come, first served: how long one waits for its turn, at any rate of requests.

Everything works on floats and on arrays of one shape.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil
from typing import Any

from kvplan.perf.amounts import TINY, Amount, larger, smaller
from kvplan.perf.mixture import Mixture
from kvplan.perf.prompts import PromptSteps
from kvplan.perf.serving import BUSIEST, PromptTimes
from kvplan.perf.sessions import Sessions, again, sessions
from kvplan.specs.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class LastSteps:
    """The steps in which prompts end, where others may be read, too; of every class, and means over prompts."""

    steps: Any  #: steps that a prompt takes, by class
    rooms: Any  #: tokens that its last one leaves free, over those of a step, by class
    each: Any  #: what one of them takes from all others, by class [s]
    room: Amount  #: tokens that a last step leaves free on average, over those of a step
    mean: Amount  #: what a step of a prompt takes from all others, on average [s]
    free: Amount  #: what a prompt takes from all others, times the room it leaves, on average [s]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What others find of the steps of a prompt; by class, as numbers or as the rows of an array."""

    met: Amount  #: mean of what a prompt takes from all others, no more than a last step has room for [s]
    alone: Any  #: whether a prompt is read in one step
    before: Any  #: for how long others come before its last step, but in the first one and unseen [s]
    room: Any  #: what its last step has room for [s]


@dataclass(frozen=True, kw_only=True)
class PromptQueue:
    """Prompts in front of one engine. What no rate changes is worked out once."""

    mixture: Mixture  #: what the prompts of each class take of the engine
    steps: PromptSteps  #: times of its steps [s]
    calibration: Calibration  #: what the GPU and the engine reach

    @property
    def times(self) -> PromptTimes:
        """Means over the prompts."""
        return self.mixture.times

    @cached_property
    def sessions(self) -> Sessions | None:
        """Questions to the same prefix among them, None where nobody finds one."""
        return sessions(self.mixture)

    @cached_property
    def last(self) -> LastSteps:
        """The steps in which prompts end."""
        m, chunk = self.mixture, self.calibration.chunk
        fresh = tuple(k.fresh for k in m.classes)
        steps, rooms = last_columns(fresh, chunk, m.dims) if m.weights is not None else last_steps(fresh, chunk)
        each = m.each(lambda taken, n: taken / n, m.extra, steps)
        free = m.mean(m.each(lambda taken, room: taken * room, m.extra, rooms))
        return LastSteps(steps=steps, rooms=rooms, each=each, room=m.mean(rooms), mean=m.mean(each), free=free)

    @cached_property
    def crossing(self) -> Crossing:
        """What others find of the steps of prompts."""
        m, s, c, last = self.mixture, self.steps, self.calibration, self.last
        whole = larger(s.mixed[-1] - s.decode, 0.0)
        return Crossing(
            met=m.at_most(last.room * whole),
            alone=m.each(lambda steps: 1.0 * (steps < 2), last.steps),
            before=m.each(
                lambda steps, each: larger(steps - 1 - c.poll, 0.0) * (each + c.mixes * s.decode), last.steps, last.each
            ),
            room=m.each(lambda room: room * whole, last.rooms),
        )

    def turn(self, rate: Amount) -> Amount:
        """Return the mean wait for a prompt's turn: M/G/1, and those behind it that are read in its last step. [s]

        Steps are gates: what comes in one is read in the next. So the decode step in which a prompt ends passes even
        where it ends alone (`free` of it), as in a gated queue with vacations. The calibration's `wait` is of closed
        loops, whose requests come in step with each other; Poisson arrivals do not.
        Source: Takagi, Queueing Analysis 1, 1991 (Pollaczek and Khinchine's formula, and its gated form).
        """
        times, s = self.times, self.steps
        busy = smaller(rate * times.service, BUSIEST)
        alone = self.calibration.mixes * 2 * s.decode * self.last.free / larger(times.service, TINY)
        ahead = busy * (times.service * times.squared + alone) / (2 * (1 - busy))
        ahead = ahead + again(self.mixture, self.sessions, rate, busy, ahead)
        return ahead + self.behind(rate, ahead + s.decode / 2)

    def behind(self, rate: Amount, before: Amount) -> Amount:
        """Return the mean time of those behind a prompt that are read in its last step, `before` its first. [s]

        Of a prompt of one step they come before that begins, and what is ahead in the same step comes after its begin;
        of one of several steps they come also in those before the last, but the `poll` ones from which nobody is seen
        in time. No more of any of them is read than has room.
        """
        m, last, way = self.mixture, self.last, self.crossing
        gate = smaller(rate * last.mean, BUSIEST)
        met, later = rate * way.met, 1.0 / (1 + gate * last.room) - 1.0

        def read(alone: Amount, before_last: Amount, room: Amount) -> Amount:
            came = met * (before * (1.0 + alone * later) + before_last)
            return came * room / (came + room + TINY)

        return m.mean(m.each(read, way.alone, way.before, way.room))

    def seen_later(self, rate: Amount, wait: Amount, polled: Amount) -> Amount:
        """Return a wait for a prompt's turn where requests are seen `polled` [s] after the step they come in. [s]

        Steps until then take longer by what they read of others, unless that is a prompt of several steps, ahead
        anyway. Where a part of those that come in a step is seen with it and the others a step later, fewer are read at
        once: the mean square of a step, and the wait with it, is less, as of a branching process with two parents.
        """
        part, half = self.calibration.poll % 1.0, self.steps.decode / 2
        gate = smaller(rate * self.last.mean, BUSIEST)
        even, twice = part * part + (1 - part) * (1 - part), (gate * self.last.room) ** 2
        fewer = (1 - twice) / (1 - even * twice)
        return (wait + half) * fewer - half + polled * gate / (1 - gate)

    def decoding(self, output: Amount, rate: Amount, wait: Amount) -> Amount:
        """Return how long `output` tokens take a request that waits for its turn, others' prompts included. [s]"""
        busy = smaller(rate * self.times.extra, BUSIEST)
        return (output * self.steps.decode + busy * (wait + self.times.own)) / (1 - busy)


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
