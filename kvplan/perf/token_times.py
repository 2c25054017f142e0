"""The distributions of TTFT and TPOT over the requests of one engine, from their means and waits.

Everything works on floats and on arrays of one shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import NormalDist

from kvplan.perf.amounts import TINY, Amount, below_deviations, chosen, deviations, exponential, larger, root, smaller
from kvplan.perf.mixture import Mixture, powers
from kvplan.perf.prompts import PromptClass
from kvplan.perf.queueing import Wait, prompt_wait
from kvplan.perf.serving import BUSIEST, Load, Served, receiving
from kvplan.specs.calibration import Calibration

#: halvings of a percentile's bisection
HALVINGS = 17
#: share of the requests beyond the longest time a bisection starts from
FARTHEST = 0.0005
#: squared coefficient of variation, at least, of the delays of those that meet a prompt: answers differ in length
VARIED = 0.5
#: correlation of the prompts that a request meets with the requests that run beside it: those that come while it runs
#: for a time T are of both, at u beside it for 1 - u / T of it, so (T / 2) / sqrt(T x 2 T / 3)
MET_AND_RUN = 0.375**0.5
#: (length [token], share of the answers that are as long)
Answers = Sequence[tuple[Amount, Amount]]
#: share of the requests whose waits move no percentile
RARE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """The prefixes that come from a tier beside the GPUs before their prompt is read."""

    share: Amount  #: of those that are found
    seconds: Amount  #: until one is there [s]


@dataclass(frozen=True, kw_only=True)
class ClassSpread:
    """How far the times of a class of prompts lie about their mean: evenly over what is below it, and over what above.

    Of either so many that the mean stays.
    """

    less: Amount  #: from the shortest to the mean [s]
    more: Amount  #: from the mean to the longest [s]

    def beyond(self, t: Amount) -> Amount:
        """Return the share of the class that takes more than `t` longer than its mean."""
        less, more = self.less + TINY, self.more + TINY
        above = smaller(larger(1.0 - t / more, 0.0), 1.0)
        below = smaller(larger(-t / less, 0.0), 1.0)
        return (less * above + more * below) / (less + more)


def spreads(classes: Sequence[PromptClass], times: Sequence[Amount]) -> list[ClassSpread]:
    """Return how far the times of each class spread: to where those of the next shorter and longer prompts begin. [s]

    Prompts of which a cache holds as much follow each other by length; the outermost spread as far to both sides. So
    no percentile jumps from the mean of one class to that of the next.
    """
    up: list[Amount] = []
    down: list[Amount] = [None]
    for (k, time), (longer, more) in pairwise(zip(classes, times, strict=True)):
        follows = k.between == longer.between and k.total < longer.total
        part = min(max((k.longest - k.total) / (longer.total - k.total), 0.0), 1.0) if follows and k.longest else 0.5
        apart = larger(more - time, 0.0) if follows else None
        up.append(apart if apart is None else part * apart)
        down.append(apart if apart is None else (1 - part) * apart)
    up.append(None)
    both = [[side for side in sides if side is not None] or [0.0] for sides in zip(down, up, strict=True)]
    return [ClassSpread(less=sides[0], more=sides[-1]) for sides in both]


@dataclass(frozen=True, kw_only=True)
class FirstToken:
    """The distribution of TTFT: what all requests spend, the own prompt by class, and two waits."""

    fixed: Amount  #: what every request spends: its overhead, the scheduler, the step it arrives in [s]
    mixture: Mixture  #: its own prompt, by class
    queue: Wait  #: behind other prompts, of those that do not wait for memory
    memory: Wait  #: for memory, and behind the prompts of those that wait for it before
    behind: Amount = 0.0  #: mean wait behind other prompts besides, of those that wait for memory [s]
    together: bool = False  #: whether a prompt may come while the one is read whose prefix it finds: an open loop
    fetch: Fetch | None = None  #: what comes from a tier, None where nothing does

    @property
    def mean(self) -> Amount:
        """Mean TTFT. [s]"""
        own = self.mixture.mean(self.mixture.own)
        q = self.memory.chance
        waits = (1.0 - q) * self.queue.mean + q * self.behind + self.memory.mean
        fetch = self.found * self.fetch.share * self.fetch.seconds if self.fetch else 0.0
        return self.fixed + own + waits + (1.0 - self.queue.chance) * self.followed + fetch

    @cached_property
    def found(self) -> Amount:
        """Share of the requests that find a prefix which another one brought, 0 where none come meanwhile."""
        return sum(k.weight for k in self.mixture.classes if k.between) if self.together else 0.0

    @cached_property
    def brought(self) -> tuple[tuple[Amount, Amount], ...]:
        """(weight over the time between questions [1/s], time to the first token without a wait [s]) of the others."""
        classes = list(zip(self.mixture.classes, self.mixture.own, strict=True))
        between = next((k.between for k, _ in classes if k.between), None)
        if not self.together or between is None:
            return ()
        return tuple((k.weight / between, self.fixed + own) for k, own in classes if not k.between)

    @property
    def followed(self) -> Amount:
        """Mean wait of a request for the prefix that it finds, over all requests, where nothing else waits. [s]

        Those that come while a prompt is read, so far apart, wait half that time on average.
        """
        spread = self.queue.variance + self.queue.mean * self.queue.mean
        total: Amount = 0.0
        for often, alone in self.brought:
            total = total + often * (alone * (alone + 2 * self.queue.mean) + spread) / 2
        return total

    def unread(self, t: Amount) -> Amount:
        """Return the share of the requests that find a prefix which is read only `t` after they came, or later.

        Questions to a prefix come at random from the one on that brings it: while its first token takes S seconds,
        (S - t) / between of them come more than t before that.
        """
        total: Amount = 0.0
        for often, alone in self.brought:
            total = total + often * self.queue.over(t - alone)
        return smaller(total / larger(self.found, TINY), 1.0)

    def beyond(self, t: Amount) -> Amount:
        """Return the share of requests whose first token takes longer than `t`."""
        total: Amount = 0.0
        for weights, own, spread, finds in self.kinds:
            rest = t - self.fixed - own
            late = self.late(rest, spread, finds)
            if finds and self.fetch:
                share, seconds = self.fetch.share, self.fetch.seconds
                read = self.late(rest - seconds, spread, False)  # long ago, if it is there
                late = (1.0 - share) * late + share * read
            total = total + (weights * late).sum(axis=0) if self.many else total + weights * late
        return total

    def late(self, t: Amount, spread: "ClassSpread", finds: bool) -> Amount:
        """Return the share of the requests of a kind that wait longer than `t`; it may find a prefix still read."""
        q, late = self.memory.chance, self.queue.longer(t) + (1.0 - self.queue.chance) * spread.beyond(t)
        if finds:
            late = 1.0 - (1.0 - late) * (1.0 - self.unread(t))
        late = (1.0 - q) * late
        return late + self.memory.longer(t - self.behind) if self.crowded else late

    @cached_property
    def many(self) -> bool:
        """Whether the times of a class are an array: classes are then worked out below each other."""
        return any(hasattr(own, "shape") and own.shape for own in self.mixture.own)

    @cached_property
    def kinds(self) -> tuple[tuple[Amount, Amount, "ClassSpread", bool], ...]:
        """(weight, own prompt's time, spread about it, whether it finds a prefix still read) of every class. [s]

        Where they are arrays, of all classes that do and of all that do not, below each other.
        """
        classes, times = self.mixture.classes, list(self.mixture.own)
        every = [
            (k.weight, own, spread, bool(k.between) and self.together)
            for k, own, spread in zip(classes, times, spreads(classes, times), strict=True)
        ]
        if not self.many:
            return tuple(every)
        from kvplan.perf.arrays import below

        def column(amounts: list[Amount]) -> Amount:
            return below([amount + 0.0 * times[0] for amount in amounts])

        sides = ([kind for kind in every if kind[3] is finds] for finds in (False, True))
        return tuple(
            (
                below([k[0] for k in side]),
                below([k[1] for k in side]),
                ClassSpread(less=column([k[2].less for k in side]), more=column([k[2].more for k in side])),
                side[0][3],
            )
            for side in sides
            if side
        )

    @cached_property
    def crowded(self) -> bool:
        """Whether any request waits for memory."""
        some = self.memory.chance > RARE
        return bool(some.any()) if hasattr(some, "any") else bool(some)

    def quantile(self, share: float) -> Amount:
        """Return the TTFT that a share of the requests keep. [s]"""
        low = self.fixed + 0.0 * self.mixture.own[0]
        longest = self.mixture.own[0]
        for own in self.mixture.own[1:]:
            longest = larger(longest, own)
        tail = min((1 - share) / 2, FARTHEST)  # one bound for all percentiles: they come out in order
        high = low + longest + self.queue.at_most(tail) + self.memory.at_most(tail) + self.behind
        if self.brought:
            high = high + low + longest
        if self.fetch:
            high = high + self.fetch.seconds
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            over = self.beyond(middle) > 1 - share
            low, high = chosen(over, middle, low), chosen(over, high, middle)
        return high


def first_token(
    m: Mixture, served: Served, c: Calibration, load: Load, memory: Wait, burstiness: float | None
) -> FirstToken:
    """Return the distribution of TTFT at a load; a closed loop has no `burstiness`.

    In an open loop prompts stop being read once all slots are taken: the queue before those that find one free is as
    much shorter as that is often.
    """
    queue = prompt_wait(m, served, c, load, burstiness)
    fixed = receiving(c, m.times.whole) + served.polled + served.arriving
    if burstiness is None:
        return FirstToken(fixed=fixed, mixture=m, queue=queue, memory=memory, behind=queue.mean)
    shorter = replace(queue, mean=queue.mean * (1.0 - memory.chance))
    return FirstToken(fixed=fixed, mixture=m, queue=shorter, memory=memory, together=True)


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Delays of mean 1, of which a part is none and the others are gamma distributed.

    Source: Wilson and Hilferty, PNAS 17, 1931.
    """

    none: Amount  #: share of the requests that have none
    apart: Amount  #: a ninth of the squared coefficient of variation of the others'

    def at(self, share: float) -> Amount:
        """Return the delay that a share of the requests do not exceed."""
        some = 1 - self.none
        z = deviations(larger(share - self.none, 0.0) / some)
        return 1.0 * (share > self.none) * larger(1 - self.apart + z * self.apart**0.5, 0.0) ** 3 / some

    def beyond(self, delay: Amount) -> Amount:
        """Return the share of the requests that have a longer one."""
        some = 1 - self.none
        z = ((larger(delay, 0.0) * some) ** (1 / 3) - 1 + self.apart) / self.width
        return some * below_deviations(-z)

    @cached_property
    def width(self) -> Amount:
        """How far the others' delays are apart, as a divisor."""
        return larger(self.apart, TINY) ** 0.5


def delays_of(none: Amount, squared: Amount) -> Delays:
    """Return delays of which a part is `none`, or less, by their squared coefficient of variation."""
    none = smaller(none, larger(1 - (1 + VARIED) / (1 + squared), 0.0))
    return Delays(none=none, apart=larger((1 + squared) * (1 - none) - 1, 0.0) / 9)


def token_time(
    served: Served, m: Mixture, load: Load, z: float, longer: Amount, queue: Wait | None = None,
    answers: Answers = (),
) -> Amount:  # fmt: skip
    """Return TPOT at z standard deviations from its mean. [s]

    The prompts of others that a request meets are a compound Poisson number of delays: none of the large ones, or else
    a gamma distribution, with their mean and variance together. In an open loop, where `queue` is the wait for a turn,
    those that came meanwhile are met too, every delay lets others come, and a token of a short answer bears more of
    them: `answers` are (length [token], weight).
    `longer` is by how much a step is longer when as many requests run as at z standard deviations, which lasts a
    request's life.
    """
    left = 1.0 if queue is None else 1 - smaller(served.busy, BUSIEST)
    met = met_in_turn(served, m, load) if queue is None else met_at_random(served, m, load, queue, answers)
    middle, there = (met(NormalDist().cdf(at)) for at in (0.0, z))
    one, other = abs(there - middle), longer / left
    apart = (one * one + other * other + 2 * MET_AND_RUN * one * other) ** 0.5
    at_z = smaller(served.step, served.tpot) + middle + ((z > 0) - (z < 0)) * apart
    return larger(at_z, smaller(served.step, served.tpot))


def met_in_turn(served: Served, m: Mixture, load: Load) -> Callable[[float], Amount]:
    """Return what gives a percentile of what others' prompts add to a token in a closed loop. [s]"""
    delays = larger(served.tpot - served.step, 0.0)
    first, second = m.mean(m.extra), m.mean(powers(m.extra, 2))
    uneven = second / larger(first * first, TINY**2)
    total = larger(delays * load.output, TINY)
    squared = load.short * uneven * larger(first, TINY) / larger(total, first + TINY)
    each = delays_of(exponential(-total / larger(first * uneven, TINY)), squared)
    return lambda share: delays * each.at(share)


def met_at_random(
    served: Served, m: Mixture, load: Load, queue: Wait, answers: Answers
) -> Callable[[float], Amount]:  # fmt: skip
    """Return what gives a percentile of what others' prompts add to a token in an open loop. [s]

    While n tokens are decoded, and while their request waited and was read before, others come at random: their prompts
    delay it, and let others come (busy periods, as in `surge`).
    """
    left, output = 1 - smaller(served.busy, BUSIEST), load.output
    first, second = m.mean(m.extra), m.mean(powers(m.extra, 2))
    large = second / larger(first, TINY)  # a prompt, as a request meets it [s]
    own = served.own
    before = (served.busy / left) ** 2 * (m.mean(powers(m.own, 2)) - own * own + queue.variance)
    came = larger(output * (served.tpot - served.step / left), 0.0) / load.short
    lengths = answers or ((output, 1.0),)
    kinds: Answers = lengths
    many = getattr(served.step, "ndim", 0) > 0
    if many:  # all lengths at once: many small arrays take longer than one
        from kvplan.perf.arrays import below

        kinds = [(below([tokens for tokens, _ in lengths]), below([weight for _, weight in lengths]))]
    found = []
    for tokens, weight in kinds:
        mean = larger(tokens * served.step * (1 / left - 1) + came, TINY)
        squared = (mean * large / left**2 + before) / mean**2
        found.append((weight, tokens / mean, delays_of(exponential(-mean * left / larger(large, TINY)), squared)))

    def beyond(delay: Amount) -> Amount:
        total: Amount = 0.0
        for weight, over, each in found:
            late = weight * each.beyond(delay * over)
            total = total + (late.sum(axis=0) if many else late)
        return total

    def at(share: float) -> Amount:
        ends = [each.at(share) / over for _, over, each in found]
        low, high = (ends[0].min(axis=0), ends[0].max(axis=0)) if many else (min(ends), max(ends))
        return root(lambda delay: 1 - share - beyond(delay), low, high)

    return at
