"""One server under load: closed loops, open loops, percentiles, and the largest load that keeps latency limits.

Little's law ties everything: requests in flight = requests per second x seconds in flight. A closed loop gives the
first, an open loop the second; `running` requests, those that hold memory, decide how fast both go.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, hypot, sqrt
from statistics import NormalDist

from kvplan.errors import Incompatible, SpecError
from kvplan.kv.layout import KVLayout, kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.operators import CACHE, forward
from kvplan.perf.serving import BUSIEST, Load, Served, Steps, passes, serve, steps
from kvplan.perf.step_time import step_time
from kvplan.planning.estimate import warnings
from kvplan.planning.replica import Case, default_kv_bits, evaluate
from kvplan.planning.site import Limits, Query, Site
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec
from kvplan.units import MILLION

#: share of drafted tokens that a usual draft gets right, one by one; says how many are drafted for a gain
ACCEPTANCE = 0.8
#: halvings of a bisection
HALVINGS = 44
#: slices of a uniform wait that a percentile is averaged over
SLICES = 16
#: the least load of an open loop that is tried [requests in flight]
LEAST = 1e-4
#: an open loop is asked for at most this share of what a server can do: beyond it waits have no end
FULL = 0.9999


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Speculative decoding: `accepted` tokens a step of which `drafted` were guessed, at `draft` of a step's time."""

    accepted: float  #: tokens a step yields, the verifying model's own included [token/step]
    draft: float = 0.0  #: time of drafting over that of the step that verifies
    drafted: int = 0  #: tokens drafted for each step [token]


def speculation(accepted: float, draft: float, drafted: int | None) -> Speculation:
    """Return what was asked for; unless said, as many tokens are drafted as ACCEPTANCE takes for the gain.

    k drafted tokens give (1 - a^(k+1)) / (1 - a) a step. Source: Leviathan, Kalman and Matias, arXiv:2211.17192, eq. 1.
    """
    if accepted < 1:
        raise SpecError(f"speculative: tokens accepted a step, at least 1 (as in 1.6), got {accepted:g}")
    if drafted is None:
        if accepted * (1 - ACCEPTANCE) >= 1:
            raise SpecError(
                f"speculative: {accepted:g} tokens a step take more than {ACCEPTANCE:.0%} of the drafted ones; "
                "say how many are drafted, as in draft_tokens=8"
            )
        drafted = 0
        while (1 - ACCEPTANCE ** (drafted + 1)) / (1 - ACCEPTANCE) < accepted - 1e-12:
            drafted += 1
    if accepted > drafted + 1:
        raise SpecError(f"speculative: {drafted} drafted tokens give at most {drafted + 1} a step, not {accepted:g}")
    return Speculation(accepted=accepted, draft=draft, drafted=drafted)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A replica and the requests it gets, `prompt` tokens in (`cached` of them in its prefix cache), `output` out.

    `room` requests fit into memory, `slots` of them run at once. `split` are replicas that only prefill and that only
    decode; without it one replica does both. `percentile` is the one that limits are kept at.
    """

    model: ModelSpec  #: the model served
    base: KVLayout  #: its uncompressed cache, to which prompts attend
    layout: KVLayout  #: its cache under the technique
    technique: str  #: spelling of the technique, as in 'mhc:4x'
    site: Site  #: GPU, engine, price and calibration
    parallel: Parallel  #: how one replica is spread over GPUs
    prompt: int  #: mean prompt [token]
    output: int  #: mean output [token]
    cached: int  #: prompt tokens found in the prefix cache [token]
    room: int  #: requests that fit into a replica's memory
    slots: int  #: requests a replica runs at once, at most `room`
    speculation: Speculation | None = None  #: speculative decoding, None without
    split: tuple[int, int] | None = None  #: replicas that only prefill and that only decode, None where each does both
    percentile: float = 0.95  #: share of requests for which limits must hold

    @property
    def ranks(self) -> int:
        """Attention-data-parallel ranks and pipeline stages: each has requests of its own."""
        return self.parallel.pipeline * self.parallel.data

    @property
    def decoders(self) -> int:
        """Replicas that decode: those of the split, else the one that does both."""
        return self.split[1] if self.split else 1

    @property
    def gpus(self) -> int:
        """GPUs of all its replicas."""
        return self.parallel.gpus * (sum(self.split) if self.split else 1)

    @property
    def fresh(self) -> int:
        """Prompt tokens to compute, those in the prefix cache left out. [token]"""
        return self.prompt - self.cached

    @property
    def chunks(self) -> int:
        """Engine steps over which a prompt is computed."""
        return ceil(self.fresh / self.site.calibration.chunk)

    @property
    def transfer(self) -> float:
        """Seconds the cache of a prompt takes from a replica to another, every GPU its part over its own link. [s]"""
        share = self.layout.stored(self.prompt) / (self.parallel.tensor * self.parallel.pipeline)
        return float(share / self.site.calibration.link)

    @cached_property
    def most_running(self) -> float:
        """The most requests that decode at once: what memory and engine allow, and prefill replicas keep busy."""
        slots = float(self.slots * self.decoders)
        if self.split is None:
            return slots

        def fed(running: float) -> bool:
            rank = timed(self, running)
            return running / decoding(self, rank) * reading(self, rank) < BUSIEST * self.split[0] * self.ranks  # type: ignore[index]

        return slots if fed(slots) else bisect(fed, 0.0, slots)

    @cached_property
    def most_rate(self) -> float:
        """Requests per second when it is full."""
        return at(self, self.most_running, None).rate


@dataclass(frozen=True, kw_only=True)
class Times:
    """Mean and percentiles of a time; `at_percentile` is the one the limits are for. [s]"""

    mean: float  #: mean [s]
    p50: float  #: median [s]
    p95: float  #: 95th percentile [s]
    p99: float  #: 99th percentile [s]
    at_percentile: float  #: the percentile that limits are for [s]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A server under one load: `in_flight` = `rate` x `cycle`, `running` of them hold memory.

    `cycle` is from a request's start to its last token, waiting for prompts and for memory (`queued`) included. [s]
    `occupancy` is the share of the cache's memory in use. Money is None where no price is known.
    """

    in_flight: float  #: requests in flight, waiting ones included
    running: float  #: requests that hold memory
    rate: float  #: requests finished a second [1/s]
    cycle: float  #: mean time from a request's start to its last token [s]
    queued: float  #: mean wait for memory [s]
    ttft: Times  #: time to the first token [s]
    tpot: Times  #: time per further token [s]
    tokens_per_second: float  #: generated tokens a second [token/s]
    occupancy: float  #: share of the cache's memory in use
    usd_per_query: float | None  #: cost of a request [USD], None without a price
    usd_per_million_tokens: float | None  #: cost of a million tokens, input and output [USD], None without a price


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest load that keeps the limits, and what a larger one would break; `point` is None if none keeps them."""

    point: Point | None  #: the server under that load, None where no load keeps the limits
    binding: str  #: what a larger load breaks: TTFT, TPOT, or what the server is out of


def server(
    model: ModelSpec, site: Site, *, technique: str, prompt: int, output: int, hit: float = 0.0,
    speculation: Speculation | None = None, split: tuple[int, int] | None = None, percentile: float = 0.95,
) -> Server:  # fmt: skip
    """Return a server, on the replica that serves a query cheapest where none is fixed; Incompatible if none fits."""
    case = Case(
        model=model,
        base=kv_layout(model, default_kv_bits(model)),
        query=Query(context=prompt + output, output=output),
        site=site,
    )
    row = evaluate(case, technique)
    if row.reason or row.layout is None or row.parallel is None:
        raise Incompatible(f"{row.technique}: {row.reason}")
    cached = min(int(prompt * hit), prompt - 1)
    if cached and not row.layout.shared(prompt):
        raise Incompatible(f"prefix_hit: {row.technique} leaves no cache that a shared prefix can be read from")
    return Server(
        model=model, base=case.base, layout=row.layout, technique=row.technique, site=site, parallel=row.parallel,
        prompt=prompt, output=output, cached=cached, room=row.sequences, slots=row.batch, speculation=speculation,
        split=split, percentile=percentile,
    )  # fmt: skip


# -- one load -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RankTimes:
    """What a rank's steps take when it runs `each` requests, and what comes of them."""

    each: float  #: requests one rank runs, at least 1
    steps: Steps  #: times of its steps [s]
    served: Served  #: means of its requests


def timed(s: Server, running: float, opened: bool = False) -> RankTimes:
    """Return the steady state of one rank when a server runs so many requests, of an open loop or a closed one."""
    c = s.site.calibration
    present = running / (s.ranks * s.decoders)
    each = max(present, 1.0)
    held = weights(s.model, s.site.weights)
    operators = passes(
        s.model, s.base, s.layout, held, s.parallel, batch=each, prompt=s.prompt, output=s.output, chunk=c.chunk,
        cached=s.cached,
    )  # fmt: skip
    c = c.moved(accepted=gain(s, each, c)) if s.speculation else c
    times = steps(operators, c, each)
    load = Load(
        prompt=s.fresh, output=s.output, batch=each, offered=present if opened else each, chunks=s.chunks,
        open=float(opened),
    )  # fmt: skip
    return RankTimes(each=each, steps=times, served=serve(load, times, c))


def gain(s: Server, each: float, c: Calibration) -> float:
    """Return how many times faster speculation decodes: accepted x plain step / ((1 + draft) x verifying step).

    A verifying step multiplies for 1 + drafted tokens of every request and reads each cache once.
    """
    assert s.speculation is not None
    many = 1 + s.speculation.drafted
    held, length = weights(s.model, s.site.weights), int(s.prompt + s.output / 2)

    plain = forward(s.model, s.layout, held, s.parallel, base=s.base, decode=each, length=length)
    wide = forward(s.model, s.layout, held, s.parallel, base=s.base, decode=each * many, length=length)
    verifying = [o for o in wide if o.limit != CACHE]
    verifying += [o._replace(flops=o.flops * many) for o in plain if o.limit == CACHE]
    slower = (1 + s.speculation.draft) * step_time(verifying, c, each) / step_time(plain, c, each)
    return float(s.speculation.accepted / slower)


def decoding(s: Server, t: RankTimes) -> float:
    """Return how long the tokens of a request take where nothing but decoding is done. [s]"""
    return float(s.output * t.steps.decode)


def reading(s: Server, t: RankTimes) -> float:
    """Return how long a rank that only prefills takes for a prompt. [s]"""
    return float(min(t.steps.alone * s.chunks, t.steps.full_alone * s.fresh / s.site.calibration.chunk))


def at(s: Server, running: float, burstiness: float | None, backlog: float = 0.0) -> Point:
    """Return the point at which a server runs so many requests.

    `burstiness` is the coefficient of variation of the times between arrivals, None in a closed loop, where `backlog`
    more requests wait for memory.
    """
    t = timed(s, running, burstiness is not None)
    return (
        disaggregated(s, t, running, burstiness, backlog) if s.split else aggregated(s, t, running, burstiness, backlog)
    )


def aggregated(s: Server, t: RankTimes, running: float, burstiness: float | None, backlog: float) -> Point:
    """Return the point of replicas that prefill and decode."""
    served = t.served
    rate = running / served.cycle
    extra = served.prompt_seconds
    busy = min(rate / s.ranks * extra, BUSIEST)
    wait = served.queue * (1.0 if burstiness is None else waiting_factor(burstiness))
    change = wait - served.queue
    queue = memory_queue(s, running, rate, burstiness, backlog)
    ttft = served.ttft + change + queue.mean
    polling = served.polled + served.arriving
    delays = max(served.tpot - served.step, 0.0)
    met = max(delays * s.output / max(extra, 1e-12), 1.0)

    def tpot(z: float) -> float:
        crowd = crowded(s, running, z, burstiness, lambda other: other.served.tpot) - served.tpot
        return float(served.tpot + sign(z) * hypot(z * delays / sqrt(met), crowd))

    wait_for = Wait(chance=max(busy, 1e-9), mean=wait)
    cycle = served.cycle + change + queue.mean
    return point(s, running, rate, cycle, ttft, (wait_for, queue), polling, tpot)


def disaggregated(s: Server, t: RankTimes, running: float, burstiness: float | None, backlog: float) -> Point:
    """Return the point of replicas that only prefill and others that only decode; a prompt's cache moves between."""
    assert s.split is not None
    c, rate, each = s.site.calibration, running / decoding(s, t), reading(s, t)
    ranks = s.split[0] * s.ranks
    busy = min(rate * each / ranks, BUSIEST)
    chance = busy ** (sqrt(2 * (ranks + 1)) - 1)
    scale = 1.0 if burstiness is None else waiting_factor(burstiness)
    wait = Wait(chance=max(chance, 1e-9), mean=c.wait * each * chance / (2 * ranks * (1 - busy)) * scale)
    queue = memory_queue(s, running, rate, burstiness, backlog)
    step, alone = float(t.steps.decode), float(t.steps.alone)
    request = c.request * c.pace
    ttft = request + (c.poll + 0.5) * step + wait.mean + alone * s.chunks + s.transfer + queue.mean

    def tpot(z: float) -> float:
        return crowded(s, running, z, burstiness, lambda other: other.steps.decode)

    cycle = ttft - request + s.output * step
    return point(s, running, rate, cycle, ttft, (wait, queue), (c.poll + 0.5) * step, tpot)


def waiting_factor(burstiness: float) -> float:
    """Return how much longer waits are than under Poisson arrivals: (1 + CV^2) / 2.

    Source: Allen, Probability, Statistics and Queueing Theory, 1990 (Allen-Cunneen), service counted as exponential.
    """
    return (1 + burstiness**2) / 2


def sign(z: float) -> float:
    """Return -1, 0 or 1, as the number is."""
    return (z > 0) - (z < 0)


def crowded(s: Server, running: float, z: float, burstiness: float | None, of: Callable[[RankTimes], float]) -> float:
    """Return a time when as many requests run as at z standard deviations; in an open loop their number varies."""
    if burstiness is None:
        return float(of(timed(s, running)))
    swing = z * sqrt(running * waiting_factor(burstiness))
    return float(of(timed(s, min(max(running + swing, LEAST), s.most_running))))


def point(
    s: Server, running: float, rate: float, cycle: float, ttft: float, waits: "tuple[Wait, Wait]", polling: float,
    tpot: Callable[[float], float],
) -> Point:  # fmt: skip
    """Return a point from its means, its waits, and TPOT by standard deviations from the mean."""
    fixed = ttft - polling - waits[0].mean - waits[1].mean
    price = s.site.price
    usd = price.price * s.gpus / rate if price else None

    def first(share: float) -> float:
        return fixed + quantile(share, waits, 2 * polling)

    normal, share = NormalDist(), s.percentile
    z50, z95, z99, z = (normal.inv_cdf(q) for q in (0.5, 0.95, 0.99, share))
    return Point(
        in_flight=rate * cycle,
        running=running,
        rate=rate,
        cycle=cycle,
        queued=waits[1].mean,
        ttft=Times(mean=ttft, p50=first(0.5), p95=first(0.95), p99=first(0.99), at_percentile=first(share)),
        tpot=Times(mean=tpot(0.0), p50=tpot(z50), p95=tpot(z95), p99=tpot(z99), at_percentile=tpot(z)),
        tokens_per_second=rate * s.output,
        occupancy=min(running / (s.room * s.decoders), 1.0),
        usd_per_query=usd,
        usd_per_million_tokens=usd / (s.prompt + s.output) * MILLION if usd is not None else None,
    )


# -- waiting --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A wait: none with probability 1 - `chance`, else `least` and exponential beyond it. [s]"""

    chance: float  #: probability of waiting at all
    mean: float  #: mean over all requests [s]
    least: float = 0.0  #: shortest wait of those that wait [s]

    @property
    def rest(self) -> float:
        """Mean of the exponential part when there is a wait. [s]"""
        return max(self.mean / self.chance - self.least, 1e-12)


def memory_queue(s: Server, running: float, rate: float, burstiness: float | None, backlog: float) -> Wait:
    """Return the wait for memory.

    Closed loop: the whole backlog leaves first, an Erlang wait of as many stages (least + exponential has its mean and
    variance). Open loop: all slots taken with a probability as of M/M/c, then one slot after the other becomes free.
    Source: Sakasegawa, Annals of the Institute of Statistical Mathematics 29, 1977.
    """
    if burstiness is None:
        mean = backlog / rate
        return Wait(chance=1.0, mean=mean, least=mean * (1 - 1 / sqrt(max(backlog, 1.0))))
    slots = s.most_running
    load = min(running / slots, FULL)
    chance = max(load ** (sqrt(2 * (slots + 1)) - 1), 1e-30)
    return Wait(chance=chance, mean=chance * waiting_factor(burstiness) / max(s.most_rate - rate, 1e-9 * s.most_rate))


def beyond(t: float, waits: tuple[Wait, Wait]) -> float:
    """Return the probability that two waits take longer than `t` together."""
    first, second = waits
    t -= second.least
    if t < 0:
        return 1.0
    p, q, m, n = first.chance, second.chance, first.rest, second.rest
    alike = abs(m - n) < 1e-6 * m
    both = (1 + t / m) * exp(-t / m) if alike else (m * exp(-t / m) - n * exp(-t / n)) / (m - n)
    return p * (1 - q) * exp(-t / m) + q * (1 - p) * exp(-t / n) + p * q * both


def quantile(share: float, waits: tuple[Wait, Wait], width: float) -> float:
    """Return what a share of requests wait at most: two waits, and a uniform one up to `width`. [s]"""

    def longer(t: float) -> bool:
        slices = (width * (k + 0.5) / SLICES for k in range(SLICES))
        return sum(beyond(t - u, waits) for u in slices) / SLICES > 1 - share

    high = width + sum(w.least + w.rest for w in waits)
    while longer(high):
        high *= 2
    return bisect(longer, 0.0, high)


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest value for which something holds that holds at `low` and not at `high`."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# -- loads ----------------------------------------------------------------------------------------


def at_concurrency(s: Server, concurrency: float) -> Point:
    """Return a closed loop: as many requests in flight at any time; those beyond memory wait."""
    most = s.most_running
    if s.split is None:
        running = min(concurrency, most)
        return at(s, running, None, concurrency - running)
    full = at(s, most, None)
    if full.in_flight <= concurrency:
        return at(s, most, None, concurrency - full.in_flight)
    return at(s, bisect(lambda n: at(s, n, None).in_flight <= concurrency, 0.0, most), None)


def at_rate(s: Server, rate: float, burstiness: float = 1.0) -> Point:
    """Return an open loop: the requests that run are those at which as many leave as come; refused if none are."""
    if rate > FULL * s.most_rate:
        raise SpecError(f"rate: {rate:g}/s is too much for {s.gpus} GPUs ({s.parallel}), at most {s.most_rate:.3g}/s")

    def keeps_up(running: float) -> bool:
        rank = timed(s, running, opened=True)
        return running / (decoding(s, rank) if s.split else rank.served.cycle) <= rate

    return at(s, bisect(keeps_up, 0.0, s.most_running), burstiness)


def ladder(s: Server) -> list[int]:
    """Return the loads of a table: 1, 2, 4, ... and what memory holds and the engine runs."""
    most = int(at(s, s.most_running, None).in_flight) if s.split else s.slots
    return [*(n for n in (2**i for i in range(32)) if n < most), max(most, 1)]


def broken(p: Point, limits: Limits) -> str:
    """Return the limit that a load breaks, '' if it keeps both."""
    if limits.ttft is not None and p.ttft.at_percentile > limits.ttft:
        return "TTFT"
    return "TPOT" if limits.tpot is not None and p.tpot.at_percentile > limits.tpot else ""


def largest_concurrency(s: Server, limits: Limits) -> Largest:
    """Return the most requests in flight that keep the limits, up to what memory holds and the engine runs."""
    low, high = 1, ladder(s)[-1]
    wrong = broken(at_concurrency(s, low), limits)
    if wrong:
        return Largest(point=None, binding=wrong)
    if not broken(at_concurrency(s, high), limits):
        return Largest(point=at_concurrency(s, high), binding=full_because(s))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if broken(at_concurrency(s, middle), limits) else (middle, high)
    return Largest(point=at_concurrency(s, low), binding=broken(at_concurrency(s, high), limits))


def full_because(s: Server) -> str:
    """Return what ends the loads that are tried."""
    if s.split and s.most_running < s.slots * s.decoders:
        return "prefill replicas"
    return "memory" if s.slots == s.room else "the engine's limit"


def largest_rate(s: Server, limits: Limits, burstiness: float = 1.0) -> Largest:
    """Return the most requests per second that keep the limits."""
    most = FULL * s.most_running
    wrong = broken(at(s, LEAST, burstiness), limits)
    if wrong:
        return Largest(point=None, binding=wrong)
    if not broken(at(s, most, burstiness), limits):
        return Largest(point=at(s, most, burstiness), binding=full_because(s))
    running = bisect(lambda n: not broken(at(s, n, burstiness), limits), LEAST, most)
    return Largest(point=at(s, running, burstiness), binding=broken(at(s, running * 1.0001, burstiness), limits))


# -- the whole answer -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What `kvplan load` found: one load that was asked for, or a table of loads and the largest within limits."""

    server: Server  #: the server under load
    limits: Limits  #: greatest TTFT and TPOT [s]
    burstiness: float  #: coefficient of variation of the times between arrivals (1: Poisson)
    opened: bool  #: whether the load is an open loop at a rate
    points: tuple[Point, ...]  #: the loads, smallest first
    concurrency: Largest | None  #: largest closed loop within the limits, None without limits or for one load
    rate: Largest | None  #: largest open loop within the limits, None as above
    warnings: tuple[str, ...]  #: what to know of the model, price and calibration

    @property
    def bounded(self) -> bool:
        """Whether a limit is given for TTFT or TPOT."""
        return self.limits.ttft is not None or self.limits.tpot is not None

    @property
    def refusal(self) -> str:
        """Why the answer is a 'no', '' when it is none."""
        share = f"at P{self.server.percentile * 100:g}"
        if self.concurrency is not None:
            wrong = self.concurrency.binding if self.concurrency.point is None else ""
            return f"no load keeps the limits: one request alone breaks that of {wrong} {share}" if wrong else ""
        wrong = broken(self.points[0], self.limits)
        return f"this load breaks the limit of {wrong} {share}" if wrong else ""


def survey(
    s: Server, limits: Limits, *, concurrency: int | None, rate: float | None, burstiness: float, today: str
) -> Survey:
    """Return one point, or the table with the largest loads where limits are given."""
    bounded = limits.ttft is not None or limits.tpot is not None
    table = concurrency is None and rate is None
    if rate is not None:
        points = [at_rate(s, rate, burstiness)]
    else:
        points = [at_concurrency(s, n) for n in ([concurrency] if concurrency is not None else ladder(s))]
    return Survey(
        server=s,
        limits=limits,
        burstiness=burstiness,
        opened=rate is not None,
        points=tuple(points),
        concurrency=largest_concurrency(s, limits) if table and bounded else None,
        rate=largest_rate(s, limits, burstiness) if table and bounded else None,
        warnings=warnings(s.model, s.prompt + s.output, [s.site], today),
    )
