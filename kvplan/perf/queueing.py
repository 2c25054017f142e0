"""Open loops and waits: prompts of several classes in front of one engine, first come, first served.

Everything works on floats and on arrays of one shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from kvplan.perf.amounts import TINY, Amount, exponential, gamma, larger, logarithm, root, smaller
from kvplan.perf.mixture import Mixture, mixture
from kvplan.perf.prompt_queue import PromptQueue
from kvplan.perf.prompts import PromptClass, PromptSteps, mates_of
from kvplan.perf.serving import BUSIEST, Load, Served, company, looseness, receiving
from kvplan.specs.calibration import Calibration

#: halvings before the root of rates without their poles is found on straight lines, and those lines: off by 0.2 % at
#: most, by 0.01 % on average over a search
SMOOTH = 2, 5


# -- open loops -----------------------------------------------------------------------------------


def serve_open(load: Load, s: PromptSteps, c: Calibration, m: Mixture) -> Served:
    """Return the means of an open loop in which `load.offered` requests run on average, waits for memory left out.

    While a request waits for its turn and is read, rate x that time others come, whose prompts are read between its
    tokens, and so are those that come while it decodes: D = output x step + rate x extra x (wait + own + D). Requests
    that run = rate x (own + D), solved for the rate, times what takes the poles of D and of the wait away.
    """
    prompts = PromptQueue(mixture=m, steps=s, calibration=c)
    times = prompts.times
    most = smaller(load.offered / (times.own + load.output * s.decode), BUSIEST / times.service)

    def excess(rate: Amount) -> Amount:
        left = (1 - smaller(rate * times.service, BUSIEST)) * (1 - smaller(rate * times.extra, BUSIEST))
        decodes = prompts.decoding(load.output, rate, prompts.turn(rate))
        return left * (rate * (times.own + decodes) - load.offered)

    return served_at(load, prompts, root(excess, 0.0 * most, most, *SMOOTH, less=-load.offered))


def served_at(load: Load, prompts: PromptQueue, rate: Amount) -> Served:
    """Return the means of an open loop at a rate, waits for memory left out.

    As in `serve`, `poll` steps of the scheduler are mean ones: what prompts add to them is a wait for those.
    TPOT is the mean over requests: what came while a request waited and was read delays a short answer more a token.
    """
    s, c, times, others = prompts.steps, prompts.calibration, prompts.times, company(load)
    own, extra = times.own, times.extra
    queue = prompts.turn(rate)
    decodes = prompts.decoding(load.output, rate, queue)
    busy = smaller(rate * extra, BUSIEST)
    even = load.output * s.decode / (1 - busy)
    polled, arriving = c.poll * s.decode * others, others * s.decode / 2
    queue = prompts.seen_later(rate, queue, polled)
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

    def state(running: Amount) -> tuple[Load, PromptQueue]:
        batch = larger(smaller(running + 1.0 + beside(running), most + 0.0 * rate), 1.0)
        load = Load(prompt=1.0, output=output, batch=batch, offered=running, open=1.0, short=short)
        s = steps_at(batch)
        return load, PromptQueue(mixture=mixture(classes, s, c, load), steps=s, calibration=c)

    def excess(running: Amount) -> Amount:
        load, prompts = state(running)
        return running - rate * (prompts.times.own + prompts.decoding(load.output, rate, prompts.turn(rate)))

    running = root(excess, 0.0 * rate, most + 0.0 * rate)
    load, prompts = state(running)
    return OpenLoop(
        running=running, mates=beside(running), load=load, mixture=prompts.mixture,
        served=served_at(load, prompts, rate),
    )  # fmt: skip


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


@dataclass(frozen=True, kw_only=True)
class EvenWait(Wait):
    """A wait of all requests that lies evenly about its mean, from `least` to as much above it."""

    @property
    def variance(self) -> Amount:
        """Variance over all requests. [s^2]"""
        return (self.mean - self.least) ** 2 / 3

    def longer(self, t: Amount) -> Amount:
        """Return the probability of a wait that takes longer than `t`, of any wait where `t` is below zero."""
        beyond = (2 * self.mean - self.least - t) / larger(2 * (self.mean - self.least), TINY)
        return smaller(larger(beyond, 0.0), 1.0)

    def at_most(self, share: Amount) -> Amount:
        """Return a time that no more than `share` of all requests wait beyond, 0 at least. [s]"""
        return 2 * self.mean - self.least


def prompt_wait(m: Mixture, served: Served, c: Calibration, load: Load, burstiness: float | None) -> Wait:
    """Return the wait behind other prompts.

    Open loop: M/G/1 (Pollaczek and Khinchine), mean and variance, times Allen and Cunneen's factor for the arrivals'
    variation. Closed loop: the mean of `serve`, of a finite population. The shape is that of the open loop in both, but
    for lengths all alike whose prompts have steps of their own: they stay in the order in which they started together.
    """
    if burstiness is None and not c.mixes and not looseness(load):
        rounds = larger(load.batch * load.prompt / c.chunk, 1.0)  # of a token budget each; the first ends after
        first = 2 * (served.queue + served.own) / (rounds + 1)
        return EvenWait(chance=1.0, mean=served.queue, least=smaller(larger(first - served.own, 0.0), served.queue))
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
    steps = (1.0 + c.poll) * served.step / (1 - busy)  # in which a prompt that comes is read before or with its own
    waits = 1.0 - (1.0 - busy) * exponential(-busy / larger(first, TINY) * steps)
    chance = smaller(waits * larger(longer, 1.0) ** 0.5, 1.0)
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
