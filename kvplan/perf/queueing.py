"""Waits and percentiles: prompts of several classes in front of one engine, first come, first served.

Everything works on floats and on arrays of one shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import e as EULER
from math import pi
from statistics import NormalDist

from kvplan.perf.operators import Amount, exponential, larger, smaller
from kvplan.perf.prompts import TINY, Mixture, PromptClass, PromptSteps, logarithm, mates_of, mixture, powers
from kvplan.perf.serving import BUSIEST, Load, PromptTimes, Served, company, receiving
from kvplan.specs.calibration import Calibration

#: halvings of a percentile's bisection; of that before a root is found on straight lines, and those lines
HALVINGS, FIRST, LINES = 17, 4, 6
#: share of the requests beyond the longest time a bisection starts from
FARTHEST = 0.0005
#: squared coefficient of variation, at least, of the delays of those that meet a prompt: answers differ in length
VARIED = 0.5
#: share of the requests whose waits move no percentile
RARE = 1e-6


def root(excess: Callable[[Amount], Amount], low: Amount, high: Amount) -> Amount:
    """Return where a growing function passes 0 between two amounts: halvings, then straight lines (Illinois)."""
    for _ in range(FIRST):
        middle = (low + high) / 2
        over = 1.0 * (excess(middle) > 0)
        low, high = over * low + (1 - over) * middle, over * middle + (1 - over) * high
    less, more, side = excess(low), excess(high), 0.0 * low
    for _ in range(LINES):
        at = low - less * (high - low) / larger(more - less, TINY)
        at = smaller(larger(at, low), high)
        value = excess(at)
        over = 1.0 * (value > 0)
        again = over * (side > 0) + (1 - over) * (side < 0)
        less, more = (
            over * less * (1 - again / 2) + (1 - over) * value,
            over * value + (1 - over) * more * (1 - again / 2),
        )
        low, high, side = over * low + (1 - over) * at, over * at + (1 - over) * high, 2 * over - 1
    return at


# -- open loops -----------------------------------------------------------------------------------


def serve_open(load: Load, s: PromptSteps, c: Calibration, m: Mixture) -> Served:
    """Return the means of an open loop in which `load.offered` requests run on average, waits for memory left out.

    While a request waits for its turn and is read, rate x that time others come, whose prompts are read between its
    tokens, and so are those that come while it decodes: D = output x step + rate x extra x (wait + own + D). Requests
    that run = rate x (own + D), solved for the rate.
    """
    times = m.times
    most = smaller(load.offered / (times.own + load.output * s.decode), BUSIEST / times.service)

    def excess(rate: Amount) -> Amount:
        return rate * (times.own + decoding(load, s, c, times, m, rate)) - load.offered

    return served_at(load, s, c, m, root(excess, 0.0 * most, most))


def served_at(load: Load, s: PromptSteps, c: Calibration, m: Mixture, rate: Amount) -> Served:
    """Return the means of an open loop at a rate, waits for memory left out.

    TPOT is the mean over requests: what came while a request waited and was read delays a short answer more a token.
    """
    times, others = m.times, company(load)
    own, extra = times.own, times.extra
    queue, decodes = turn(s, c, times, m, rate), decoding(load, s, c, times, m, rate)
    busy = smaller(rate * extra, BUSIEST)
    even = load.output * s.decode / (1 - busy)
    polled, arriving = c.poll * s.decode * others, others * s.decode / 2
    ttft = receiving(c, times.whole) + polled + arriving + own + queue
    return Served(
        ttft=ttft,
        tpot=(even + load.short * (decodes - even)) / load.output,
        cycle=own + decodes,
        queued=0.0 * ttft,
        wait=arriving + queue,
        own=own,
        busy=busy,
        prompt_seconds=extra,
        step=s.decode,
        arriving=arriving,
        queue=queue,
        polled=polled,
        median=ttft,
    )


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """A rank at a rate of requests: how many run, the load and the mixture they make, and their means."""

    running: Amount  #: requests that run on average
    mates: Amount  #: questions to the same prefix that run beside one
    load: Load  #: the same as a load
    mixture: Mixture  #: what the prompts of each class take [s]
    served: Served  #: means, waits for memory left out


def open_loop(
    steps_at: Callable[[Amount], PromptSteps], classes: Sequence[PromptClass], c: Calibration, *, rate: Amount,
    output: float, most: Amount, short: float = 1.0,
) -> OpenLoop:  # fmt: skip
    """Return the steady state of a rank at which requests come at a rate: as many run, `most` at most, as leave.

    A request runs beside as many others as run on average (Poisson arrivals see time averages), so its steps are those
    of one more, and of the questions to its own prefix.
    """
    beside_for = mates_of(classes)

    def beside(running: Amount) -> Amount:
        return beside_for(running / rate)

    def state(running: Amount) -> tuple[Load, PromptSteps, Mixture]:
        batch = larger(smaller(running + 1.0 + beside(running), most + 0.0 * rate), 1.0)
        load = Load(prompt=1.0, output=output, batch=batch, offered=running, open=1.0, short=short)
        s = steps_at(batch)
        return load, s, mixture(classes, s, c, load)

    def excess(running: Amount) -> Amount:
        load, s, m = state(running)
        times = m.times
        return running - rate * (times.own + decoding(load, s, c, times, m, rate))

    running = root(excess, 0.0 * rate, most + 0.0 * rate)
    load, s, m = state(running)
    return OpenLoop(running=running, mates=beside(running), load=load, mixture=m, served=served_at(load, s, c, m, rate))


def turn(s: PromptSteps, c: Calibration, times: PromptTimes, m: Mixture, rate: Amount) -> Amount:
    """Return the mean wait for a prompt's turn: M/G/1, and those behind it that are read in the rest of its last step.

    The calibration's `wait` is of closed loops, whose requests come in step with each other; Poisson arrivals do not.
    Source: Pollaczek and Khinchine. [s]
    """
    busy = smaller(rate * times.service, BUSIEST)
    ahead = busy * times.service * times.squared / (2 * (1 - busy))
    room = m.room(c.chunk)
    behind = rate * times.extra * (ahead + s.decode / 2)
    left = room * larger(s.mixed[-1] - s.decode, 0.0)
    return ahead + c.mixes * behind * left / larger(behind + left, TINY)


def decoding(load: Load, s: PromptSteps, c: Calibration, times: PromptTimes, m: Mixture, rate: Amount) -> Amount:
    """Return how long a request decodes, prompts of others that are read meanwhile included. [s]"""
    busy = smaller(rate * times.extra, BUSIEST)
    return (load.output * s.decode + busy * (turn(s, c, times, m, rate) + times.own)) / (1 - busy)


# -- waiting --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A wait: none with probability 1 - `chance`, else `least` and a Weibull-distributed time beyond it.

    `squared` is the squared coefficient of variation of what is beyond, 1 for an exponential time.
    """

    chance: Amount  #: probability of waiting at all
    mean: Amount  #: mean over all requests [s]
    least: Amount = 0.0  #: shortest wait of those that wait [s]
    squared: Amount = 1.0  #: squared coefficient of variation beyond `least`

    @cached_property
    def power(self) -> Amount:
        """Exponent of the Weibull distribution with this coefficient of variation, within 2 % from 0.3 to 2."""
        return self.squared**-0.543

    @cached_property
    def rest(self) -> Amount:
        """Mean of what is beyond `least` when there is a wait. [s]"""
        return larger(self.mean / larger(self.chance, TINY) - self.least, TINY)

    @property
    def variance(self) -> Amount:
        """Variance over all requests. [s^2]"""
        second = self.chance * (self.least**2 + 2 * self.least * self.rest + (1 + self.squared) * self.rest**2)
        return larger(second - self.mean**2, 0.0)

    def beyond(self, t: Amount) -> Amount:
        """Return the probability that it takes longer than `t`."""
        return self.longer(t) + (1.0 - self.chance) * (t < 0)

    def longer(self, t: Amount) -> Amount:
        """Return the probability of a wait that takes longer than `t`, of any wait where `t` is below zero."""
        left = larger(t - self.least, 0.0)
        if isinstance(self.squared, float) and self.squared == 1.0:
            return self.chance * exponential(-left / self.rest)
        return self.chance * exponential(-((left / self.scale) ** self.power))

    @cached_property
    def scale(self) -> Amount:
        """Time by which all but 1 / e of those that wait have left, beyond `least`. [s]"""
        return self.rest / gamma(1.0 / self.power)

    def over(self, t: Amount) -> Amount:
        """Return the mean of what it is longer than `t`, 0 where it is not: its tail taken as exponential. [s]"""
        return self.mean * exponential(-larger(t, 0.0) / self.rest) + larger(-t, 0.0)

    def at_most(self, share: Amount) -> Amount:
        """Return a time that no more than `share` of all requests wait beyond, 0 at least. [s]"""
        ratio = larger(larger(self.chance, TINY) / share, 1.0)
        return self.least + self.scale * logarithm(ratio) ** (1.0 / self.power)


def gamma(x: Amount) -> Amount:
    """Return the gamma function of 1 + x, by Stirling's series at 4 + x (to 1e-6), floats and arrays alike."""
    z = x + 4.0
    series = 1 + 1 / (12 * z) + 1 / (288 * z * z) - 139 / (51840 * z**3)
    return (2 * pi / z) ** 0.5 * (z / EULER) ** z * series / ((x + 1) * (x + 2) * (x + 3))


def prompt_wait(m: Mixture, served: Served, c: Calibration, load: Load, burstiness: float | None) -> Wait:
    """Return the wait behind other prompts.

    Open loop: M/G/1 (Pollaczek and Khinchine), mean and variance, times Allen and Cunneen's factor for the arrivals'
    variation. Closed loop: the mean of `serve`, of a finite population. The shape is that of the open loop in both.
    """
    first, second, third = m.moment(1), m.moment(2), m.moment(3)
    busy = smaller(served.busy * first / larger(served.prompt_seconds, TINY), BUSIEST)
    ahead = second / (2 * larger(first, TINY))
    queue = busy * ahead / (1 - busy)
    variance = queue * queue + busy * third / (3 * larger(first, TINY) * (1 - busy))
    given = queue / larger(busy, TINY)
    squared = (variance + queue * queue) / larger(busy, TINY) / larger(given * given, TINY**2) - 1
    squared = larger(smaller(squared, 2.0), 0.25)
    if burstiness is None:
        alone = company(load)
        return Wait(chance=smaller(larger(busy * alone, TINY), 1.0), mean=served.queue, squared=squared)
    longer = variation(m, burstiness)  # in part more requests that wait, in part longer waits
    chance = smaller(busy * larger(longer, 1.0) ** 0.5, 1.0)
    return Wait(chance=larger(chance, TINY), mean=served.queue * longer, squared=squared)


def variation(m: Mixture, burstiness: float) -> Amount:
    """Return waits over those under Poisson arrivals: (Ca^2 + Cs^2) / (1 + Cs^2).

    Source: Allen, Probability, Statistics and Queueing Theory, 1990 (Allen-Cunneen).
    """
    squared = larger(m.times.squared - 1, 0.0)
    return (burstiness**2 + squared) / (1 + squared)


def closed_memory(backlog: float, rate: float) -> Wait:
    """Return the wait for memory in a closed loop: the whole backlog leaves first, an Erlang time of as many stages.

    Least and exponential part have its mean and variance.
    """
    whole = backlog / rate
    return Wait(chance=1.0 if backlog else TINY, mean=whole, least=whole * (1 - 1 / max(backlog, 1.0) ** 0.5))


# -- percentiles ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FirstToken:
    """The distribution of TTFT: what all requests spend, the own prompt by class, and two waits."""

    fixed: Amount  #: what every request spends: its overhead, the scheduler, the step it arrives in [s]
    mixture: Mixture  #: its own prompt, by class
    queue: Wait  #: behind other prompts, of those that do not wait for memory
    memory: Wait  #: for memory, and behind the prompts of those that wait for it before
    behind: Amount = 0.0  #: mean wait behind other prompts besides, of those that wait for memory [s]
    together: bool = False  #: whether a prompt may come while the one is read whose prefix it finds: an open loop

    @property
    def mean(self) -> Amount:
        """Mean TTFT. [s]"""
        own = self.mixture.mean(self.mixture.own)
        q = self.memory.chance
        waits = (1.0 - q) * self.queue.mean + q * self.behind + self.memory.mean
        return self.fixed + own + waits + (1.0 - self.queue.chance) * self.followed

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
        q, left = self.memory.chance, t - self.fixed
        total: Amount = 0.0
        for weights, own, finds in self.kinds:
            rest = left - own
            late = self.queue.beyond(rest)
            if finds:
                late = 1.0 - (1.0 - late) * (1.0 - self.unread(rest))
            late = (1.0 - q) * late
            if self.crowded:
                late = late + self.memory.longer(rest - self.behind)
            total = total + (weights * late).sum(axis=0) if self.many else total + weights * late
        return total

    @cached_property
    def many(self) -> bool:
        """Whether the times of a class are an array: classes are then worked out below each other."""
        return any(hasattr(own, "shape") and own.shape for own in self.mixture.own)

    @cached_property
    def kinds(self) -> tuple[tuple[Amount, Amount, bool], ...]:
        """(weight, own prompt's time, whether it finds a prefix that may still be read) of every class. [s]

        Where they are arrays, of all classes that do and of all that do not, below each other.
        """
        every = [
            (k.weight, own, bool(k.between) and self.together)
            for k, own in zip(self.mixture.classes, self.mixture.own, strict=True)
        ]
        if not self.many:
            return tuple(every)
        from kvplan.perf.arrays import below

        sides = ([kind for kind in every if kind[2] is finds] for finds in (False, True))
        return tuple((below([k[0] for k in side]), below([k[1] for k in side]), side[0][2]) for side in sides if side)

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
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            over = 1.0 * (self.beyond(middle) > 1 - share)
            low, high = over * middle + (1 - over) * low, over * high + (1 - over) * middle
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


def deviations(share: Amount) -> Amount:
    """Return how many standard deviations a share of a normal distribution stays below, within 0.05 from 0.01 to 0.99.

    Source: Winitzki, A handy approximation for the error function and its inverse, 2008.
    """
    x, a = 2 * share - 1, 0.147
    less = -logarithm(1 / larger(1 - x * x, TINY))
    t = 2 / (pi * a) + less / 2
    return ((x > 0) * 1.0 - (x < 0) * 1.0) * (2 * larger((t * t - less / a) ** 0.5 - t, 0.0)) ** 0.5


def met(share: float, none: Amount, squared: Amount) -> Amount:
    """Return a percentile of delays of mean 1, of which a part is `none`, by their squared coefficient of variation.

    The others are a gamma distribution. Source: Wilson and Hilferty, PNAS 17, 1931.
    """
    none = smaller(none, larger(1 - (1 + VARIED) / (1 + squared), 0.0))
    some = 1 - none
    apart = larger((1 + squared) * some - 1, 0.0) / 9
    z = deviations(larger(share - none, 0.0) / some)
    return 1.0 * (share > none) * larger(1 - apart + z * apart**0.5, 0.0) ** 3 / some


def token_time(served: Served, m: Mixture, load: Load, z: float, longer: Amount, queue: Wait | None = None) -> Amount:
    """Return TPOT at z standard deviations from its mean. [s]

    The prompts of others that a request meets are a compound Poisson number of delays: none of the large ones, or else
    a gamma distribution, with their mean and variance together. In an open loop, where `queue` is the wait for a turn,
    those that came meanwhile are met too, and every delay lets others come; answers differ in length, taken as
    lognormal.
    `longer` is by how much a step is longer when as many requests run as at z standard deviations, which lasts a
    request's life.
    """
    delays, output = larger(served.tpot - served.step, 0.0), load.output
    extra = m.mean(m.extra)
    uneven = m.mean(powers(m.extra, 2)) / larger(extra * extra, TINY**2)
    total = larger(delays * output, TINY)
    squared = load.short * uneven * larger(extra, TINY) / larger(total, extra + TINY)
    left = 1.0
    if queue is not None:
        own, left = served.own, 1 - smaller(served.busy, BUSIEST)
        varied = m.mean(powers(m.own, 2)) - own * own + queue.variance
        before = (own + queue.mean) ** 2
        waits = (served.busy / total) ** 2 * ((varied + before) * load.short**3 - before * load.short**2)
        squared = (squared + waits) / left**2
    none = exponential(-total / larger(extra * uneven, TINY))
    middle, there = (met(NormalDist().cdf(at), none, squared) - 1 for at in (0.0, z))
    apart = ((delays * (there - middle)) ** 2 + (longer / left) ** 2) ** 0.5
    at_z = served.tpot + delays * middle + ((z > 0) - (z < 0)) * apart
    return larger(at_z, smaller(served.step, served.tpot))
