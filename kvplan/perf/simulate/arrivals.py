"""Requests from a workload: when they come, how long they are, what they share; and traces made larger or faster.

Random numbers are numpy's PCG64, in plain Python and under numba alike: one seed gives one stream.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from kvplan.perf.simulate.run import Piece
from kvplan.specs.workload import Lengths, Quantiles, Workload
from kvplan.units import MINUTE

Array = Any
#: requests of a piece; shares at which a smooth distribution of lengths is tabulated
SIZE, SHARES = 1 << 16, 4097
#: what is added to a session's number to make a hash of it
OWN = 1 << 40


@dataclass(frozen=True, kw_only=True)
class RateCourse:
    """How the rate goes over time: one value after the other, each for `step` seconds."""

    step: float  #: seconds of one value [s]
    rates: tuple[float, ...]  #: sessions or requests a second [1/s]

    @property
    def duration(self) -> float:
        """Length of all. [s]"""
        return self.step * len(self.rates)

    @property
    def requests(self) -> float:
        """Arrivals expected in all."""
        return self.step * sum(self.rates)

    def times(self, units: Array) -> Array:
        """Return when so many arrivals are expected: the inverse of the rate's integral. [s]"""
        sums = np.concatenate(([0.0], np.cumsum(self.rates) * self.step))
        return np.interp(units, sums, np.arange(len(sums)) * self.step)


def steady(rates: Iterable[float], step: float, before: float = 0.0) -> RateCourse:
    """Return a course of rates of so many seconds each, the first of them for `before` seconds more."""
    rows = np.repeat(np.asarray(list(rates)), max(round(step / MINUTE), 1))
    return RateCourse(step=MINUTE, rates=tuple(float(x) for x in np.concatenate((lead(rows, before), rows))))


def lead(rows: Array, before: float) -> Array:
    """Return the minutes before the first one, at its rate."""
    return np.full(round(before / MINUTE), rows[0] if len(rows) else 0.0)


def sampler(lengths: Lengths) -> Callable[[Array], Array]:
    """Return the function from shares in [0, 1) to whole lengths of a distribution, 1 at least. [token]"""
    shares: Array = np.linspace(0.0, 1.0, SHARES)
    if isinstance(lengths, Quantiles):
        shares = np.array([q for q, _ in lengths.known])
    values = np.array([lengths.quantile(float(q)) for q in shares])
    return lambda u: np.maximum(np.rint(np.interp(u, shares, values)), 1).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Times between arrivals, of mean 1: exponential, gamma-distributed, or interrupted.

    Interrupted, they come at `peak` times the mean rate or not at all, an interrupted Poisson process: the two figures
    that a log's busiest minute and the variation of its gaps give. Its gaps vary by 1 + 2 T (1 - p) / p, T being how
    long it remembers its state and p = 1 / `peak` the share of the time in which requests come. Source: Kuczura, Bell
    System Technical Journal 52(3), 1973.
    """

    variation: float = 1.0  #: their coefficient of variation
    peak: float | None = None  #: rate of a burst over the mean, None where they are not interrupted

    def drawn(self, rng: Any, n: int) -> Array:
        """Return so many."""
        if self.peak is not None:
            on = 1 / self.peak
            memory = (self.variation**2 - 1) / 2 * on / (1 - on)
            ends, begins = (1 - on) / memory, on / memory
            breaks = rng.geometric(self.peak / (self.peak + ends), n) - 1.0
            return rng.gamma(breaks + 1.0) / (self.peak + ends) + rng.gamma(breaks) / begins
        if self.variation == 1.0:
            return -np.log1p(-rng.random(n))
        if self.variation == 0.0:
            return np.ones(n)
        return rng.gamma(1 / self.variation**2, self.variation**2, n)


#: of requests that come at random
POISSON = Gaps()


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What requests share: parts of a prompt by how many requests in a row begin with them."""

    each: int  #: requests of a session
    always: float  #: share of a prompt that all requests begin with
    session: float  #: share that those of a session begin with, the former included
    between: float  #: mean time from a request of a session to the next [s]
    mean: float  #: mean prompt [token]


def sharing(workload: Workload) -> Sharing | None:
    """Return what a workload's requests share, None where its parts do not tell who shares with whom."""
    many, held = workload.session
    if many > 1:
        return Sharing(
            each=many, always=0.0, session=held, between=workload.between_questions, mean=workload.input.mean
        )
    if workload.reused is not None or not workload.parts:
        return None
    whole, leading, always, session, each = sum(p.tokens for p in workload.parts), inf, 0.0, 0.0, 1.0
    for part in workload.parts:  # a prefix ends where a part is new
        leading = min(leading, part.requests)
        if leading == inf:
            always += part.tokens / whole
        elif leading > 1:
            each = max(each, leading)
            session += part.tokens / whole
    return Sharing(
        each=round(each), always=always, session=always + session, between=workload.between_questions,
        mean=workload.input.mean,
    )  # fmt: skip


def drawn(
    workload: Workload, course: RateCourse, *, gaps: Gaps, seed: int, most: float = inf, size: int = SIZE
) -> Iterator[Piece]:
    """Yield a workload's requests over a course of rates, `most` at most.

    Sessions come at the course's rate over their length; their requests follow at exponential intervals of think time.
    """
    rng, shared = np.random.default_rng(seed), sharing(workload)
    each = shared.each if shared else 1
    read, write = sampler(workload.input), sampler(workload.output)
    units, session, given = 0.0, 0, 0
    later: Columns = Columns.none()
    while given < most:
        sums = units + np.cumsum(gaps.drawn(rng, max(size // each, 1)))
        units = float(sums[-1])
        starts = course.times(sums[sums < course.requests / each] * each)
        fresh = follow(rng, starts, session, shared, read, write)
        session += len(starts)
        over = units >= course.requests / each
        until = course.duration if over else float(course.times(units * each))
        columns = later.joined(fresh).sorted()
        now, later = columns.cut(until)
        n = int(min(len(now.at), most - given))
        if n:
            yield now.piece(n, shared)
        given += n
        if over:
            return


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Requests as arrays."""

    at: Array  #: arrival [s]
    prompt: Array  #: tokens to read [token]
    output: Array  #: tokens to generate [token]
    session: Array  #: number of its session

    @classmethod
    def none(cls) -> "Columns":
        """Return no requests."""
        whole = np.empty(0, dtype=np.int64)
        return cls(at=np.empty(0), prompt=whole, output=whole, session=whole)

    def taken(self, which: Array) -> "Columns":
        """Return some of them."""
        return Columns(
            at=self.at[which], prompt=self.prompt[which], output=self.output[which], session=self.session[which]
        )

    def joined(self, other: "Columns") -> "Columns":
        """Return these and others."""
        names = ("at", "prompt", "output", "session")
        return Columns(**{n: np.concatenate((getattr(self, n), getattr(other, n))) for n in names})

    def sorted(self) -> "Columns":
        """Return them in the order of arrival."""
        return self.taken(np.argsort(self.at, kind="stable"))

    def cut(self, until: float) -> tuple["Columns", "Columns"]:
        """Return those before a time, and the others."""
        n = int(np.searchsorted(self.at, until, side="left"))
        return self.taken(slice(0, n)), self.taken(slice(n, None))

    def piece(self, n: int, shared: Sharing | None) -> Piece:
        """Return the first n as a piece, with chains of what all share and what their session shares."""
        one = self.taken(slice(0, n))
        if shared is None or shared.session <= 0:
            return Piece(at=one.at, prompt=one.prompt, output=one.output)
        common = np.minimum(round(shared.always * shared.mean), one.prompt - 1)
        own = np.maximum((one.prompt * shared.session).astype(np.int64), common)
        columns, keys = [], []
        if shared.always > 0:
            columns, keys = [common], [np.ones(n, dtype=np.int64)]
        if shared.session > shared.always:
            columns, keys = [*columns, own], [*keys, one.session + OWN]
        k = len(columns)
        return Piece(
            at=one.at, prompt=one.prompt, output=one.output, start=np.arange(n + 1) * k,
            keys=np.stack(keys, axis=1).reshape(-1), tokens=np.stack(columns, axis=1).reshape(-1),
        )  # fmt: skip


def follow(
    rng: Any, starts: Array, first: int, shared: Sharing | None, read: Callable[[Array], Array],
    write: Callable[[Array], Array],
) -> Columns:  # fmt: skip
    """Return the requests of sessions that start at these times; those of one session have prompts of one length."""
    n, each = len(starts), shared.each if shared else 1
    thinks = np.zeros((n, each))
    if shared and each > 1:
        thinks[:, 1:] = np.cumsum(POISSON.drawn(rng, n * (each - 1)).reshape(n, each - 1), axis=1) * shared.between
    prompts = np.repeat(read(rng.random(n)), each)
    return Columns(
        at=(starts[:, None] + thinks).reshape(-1), prompt=prompts, output=write(rng.random(n * each)),
        session=np.repeat(np.arange(first, first + n), each),
    )  # fmt: skip
