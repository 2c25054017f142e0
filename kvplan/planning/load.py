"""One server under load: closed loops, open loops, percentiles, and the largest load that keeps latency limits.

Little's law ties everything: requests in flight = requests per second x seconds in flight. A closed loop gives the
first, an open loop the second; `running` requests, those that hold memory, decide how fast both go.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, sqrt
from statistics import NormalDist

from kvplan.errors import SpecError
from kvplan.kv.profiling import graph_warnings, image_warnings
from kvplan.perf.amounts import TINY
from kvplan.perf.crowding import HeldSlots, crowd_longer, held, open_memory, steps_beside, surge
from kvplan.perf.queueing import Wait, closed_memory, variation
from kvplan.perf.serving import BUSIEST, receiving
from kvplan.perf.token_times import FirstToken, first_token, token_time
from kvplan.planning.estimate import warnings
from kvplan.planning.percentiles import jump, near_full, sides
from kvplan.planning.server import RankTimes, Server, bisect, decode_step, on_fewest, rate_of, read_alone, timed
from kvplan.planning.site import Limits
from kvplan.specs.result import Result
from kvplan.units import MILLION, short_below, show_count, show_percentile, show_time, written_above

#: the least load of an open loop that is tried [requests in flight]
LEAST = 1e-4
#: percentiles that are shown
SHOWN = (0.5, 0.95, 0.99)
#: an open loop is asked for at most this share of what a server can do: beyond it waits have no end
FULL = 0.9999


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
    first: FirstToken  #: the distribution of TTFT

    def beside(self, share: float) -> tuple[float, float]:
        """Return the TTFT a little to either side of a percentile. [s]"""
        less, more = sides(share)
        return float(self.first.quantile(less)), float(self.first.quantile(more))


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest load that keeps the limits, and what a larger one would break; `point` is None if none keeps them."""

    point: Point | None  #: the server under that load, None where no load keeps the limits
    binding: str  #: what a larger load breaks: TTFT, TPOT, or what the server is out of


# -- one load -------------------------------------------------------------------------------------


def at(s: Server, running: float, burstiness: float | None, backlog: float = 0.0) -> Point:
    """Return the point at which a server runs so many requests.

    `burstiness` is the coefficient of variation of the times between arrivals, None in a closed loop, where `backlog`
    more requests wait for memory.
    """
    t = timed(s, running, burstiness is not None)
    rate = rate_of(s, t, running)
    if burstiness is None:
        memory, longer = closed_memory(backlog, rate), none_longer
    else:
        full = full_slots(s, t, rate, burstiness)
        memory = full.wait
        beside = steps_beside(lambda each: decode_step(s, float(each)), t.each, t.mates)
        longer = partial(longer_step, s, t, rate, burstiness=burstiness)  # of the means that slots do not bound
        t = t if s.split else replace(t, served=held(t.served, t.load, full, rate, beside))
    first = disaggregated(s, t, rate, burstiness, memory) if s.split else first_token(
        t.mixture, t.served, s.site.calibration, t.load, memory, burstiness
    )  # fmt: skip
    return point(s, t, running, rate, first, burstiness, longer)


def full_slots(s: Server, t: RankTimes, rate: float, burstiness: float) -> HeldSlots:
    """Return what its slots make of an open loop; replicas that only decode stop for no prompts."""
    none = replace(t.mixture, extra=tuple(0.0 for _ in s.classes))
    slots = s.most_running if s.split else s.shared_slots(t.mates)
    return open_memory(
        none if s.split else t.mixture, rate=rate, slots=slots, ranks=float(s.ranks * s.decoders),
        decode=lambda each: decode_step(s, each), output=s.output, squared=s.uneven, burstiness=burstiness,
        beside=t.mates,
    )  # fmt: skip


def disaggregated(s: Server, t: RankTimes, rate: float, burstiness: float | None, memory: Wait) -> FirstToken:
    """Return TTFT where replicas that only prefill hand a prompt's cache to others that only decode.

    They are servers side by side in front of one queue. Source: Sakasegawa, Annals of the Institute of Statistical
    Mathematics 29, 1977.
    """
    assert s.split is not None
    c, m, ranks = s.site.calibration, read_alone(s, t), s.split[0] * s.ranks
    each = m.times.service
    busy = min(rate * each / ranks, BUSIEST)
    chance = max(busy ** (sqrt(2 * (ranks + 1)) - 1), TINY)
    scale = 1.0 if burstiness is None else variation(m, burstiness)
    waits = c.wait * each * m.times.squared * chance / (2 * ranks * (1 - busy)) * scale
    fixed = receiving(c, m.times.whole) + (c.poll + 0.5) * t.steps.decode + s.transfer
    return FirstToken(fixed=fixed, mixture=m, queue=Wait(chance=chance, mean=waits), memory=memory, behind=waits)


def tpot_of(s: Server, t: RankTimes) -> float:
    """Return the mean time of a token. [s]"""
    return float(t.steps.decode if s.split else t.served.tpot)


def none_longer(z: float) -> float:
    """Return by how much a step of a closed loop is longer at z standard deviations: its requests do not swing. [s]"""
    return 0.0


def longer_step(s: Server, t: RankTimes, rate: float, z: float, burstiness: float) -> float:
    """Return by how much a step is longer when as many requests run as at z standard deviations of an open loop. [s]"""
    if not z:
        return 0.0
    each = surge(rate / (s.ranks * s.decoders), t.mixture, burstiness, beside=t.mates)
    longer = crowd_longer(
        lambda each: decode_step(s, float(each)), t.load, t.served, each, most=s.shared_slots(t.mates) / s.ranks,
        mates=t.mates, classes=s.classes, z=z,
    )  # fmt: skip
    return float(longer)


def point(
    s: Server, t: RankTimes, running: float, rate: float, first: FirstToken, burstiness: float | None,
    longer: Callable[[float], float],
) -> Point:  # fmt: skip
    """Return a point from its rate, the distribution of TTFT, and what makes steps `longer` at z deviations [s]."""
    price = s.site.price
    usd = price.price * s.gpus / rate if price else None
    average, queue = tpot_of(s, t), None if burstiness is None else first.queue
    ttft, before = float(first.mean), receiving(s.site.calibration, float(t.mixture.times.whole))

    def tpot(share: float) -> float:
        z = NormalDist().inv_cdf(share)
        if s.split:
            return average + longer(z)
        answers = s.answers.points if s.answers else ()
        return float(token_time(t.served, t.mixture, t.load, z, longer(z), queue, answers))

    writing = s.output * average if burstiness is None or s.split else float(t.served.cycle - t.served.own)
    cycle = ttft - before + writing
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "at_percentile": s.percentile}
    return Point(
        in_flight=rate * cycle,
        running=running,
        rate=rate,
        cycle=cycle,
        queued=float(first.memory.mean),
        ttft=Times(mean=ttft, **{name: float(first.quantile(share)) for name, share in named.items()}),
        tpot=Times(mean=average, **{name: tpot(share) for name, share in named.items()}),
        tokens_per_second=rate * s.output,
        occupancy=min(running / (s.room * s.decoders), 1.0),
        usd_per_query=usd,
        usd_per_million_tokens=usd / (s.prompt + s.output) * MILLION if usd is not None else None,
        first=first,
    )


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
        most, alike = short_below(FULL * s.most_rate), ceil(rate / (FULL * s.most_rate))
        raise SpecError(
            f"rate: {rate:g}/s is too much for {show_count(s.gpus, 'GPU')} ({s.parallel}), at most {most:g}/s; write "
            f"rate={most:g}/s or less, or share it among {alike:,} servers like this one"
        )

    def keeps_up(running: float) -> bool:
        return rate_of(s, timed(s, running, opened=True), running) <= rate

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
class Survey(Result, of="load"):
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
    def per_query(self) -> float | None:
        """What a query costs at the largest load within the limits, None where none is sought or known. [USD]"""
        found = next((x.point for x in (self.concurrency, self.rate) if x and x.point), None)
        return found.usd_per_query if found else None

    @property
    def bounded(self) -> bool:
        """Whether a limit is given for TTFT or TPOT."""
        return self.limits.ttft is not None or self.limits.tpot is not None

    @property
    def refusal(self) -> str:
        """Why the answer is a 'no', '' when it is none."""
        share = f"at {show_percentile(self.server.percentile)}"
        if self.concurrency is not None:
            wrong = self.concurrency.binding if self.concurrency.point is None else ""
            alone = f"no load keeps the limits: one request alone breaks that of {wrong} {share}"
            return f"{alone}; {self.floors(self.points[0], self.points[0])}" if wrong else ""
        wrong = broken(self.points[0], self.limits)
        if not wrong:
            return ""
        lone = at_concurrency(self.server, 1)
        return f"this load breaks the limit of {wrong} {share}; {self.floors(self.points[0], lone)}"

    def floors(self, p: Point, lone: Point) -> str:
        """Return the times of a load that breaks limits, and limits that it keeps; `lone` is one request alone."""
        said, write, less = [], [], True
        for name, limit in (("ttft", self.limits.ttft), ("tpot", self.limits.tpot)):
            time, least = (getattr(x, name).at_percentile for x in (p, lone))
            if limit is not None and time > limit:
                alone = "" if p is lone else f", of one request alone {show_time(least)}"
                said.append(f"{name.upper()} is {show_time(time)}{alone}")
                write.append(f"{name}={written_above(time)}")
                less = less and least <= limit
        other = "a smaller load" if less else "GPUs or weights that take less time"
        return f"{' and '.join(said)}: write {' and '.join(write)} or more, or {other}"


def notes(s: Server, points: Sequence[Point], opened: Sequence[Point], concurrency: int | None = None) -> Iterator[str]:
    """Yield what to know of the replica chosen, of percentiles of TTFT, and of open loops near saturation."""
    if 0 < s.fewest < s.parallel.gpus:
        small = on_fewest(s) if concurrency else None
        there = at_concurrency(small, concurrency) if small and concurrency else None
        beside = f", a TPOT of {show_time(there.tpot.mean)} at this load" if there else ""
        yield (
            f"a replica of {s.parallel.gpus} GPUs ({s.parallel}) is taken, which serves a query in the fewest "
            f"GPU-seconds when full; one on {show_count(s.fewest, 'GPU')} holds a request, too: tp={s.fewest} gives "
            f"its times{beside}"
        )
    jumps = (jump(share, *p.beside(share)) for p in points for share in dict.fromkeys((*SHOWN, s.percentile)))
    yield from dict.fromkeys(filter(None, jumps))
    most = max((p.rate / s.most_rate for p in opened), default=0.0)
    if s.split is None and (note := near_full(most)):
        yield note


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
    largest = largest_rate(s, limits, burstiness) if table and bounded else None
    opened = (*(points if rate is not None else ()), *([largest.point] if largest and largest.point else ()))
    return Survey(
        server=s,
        limits=limits,
        burstiness=burstiness,
        opened=rate is not None,
        points=tuple(points),
        concurrency=largest_concurrency(s, limits) if table and bounded else None,
        rate=largest,
        warnings=(
            *graph_warnings(s.model, s.site.deployment(s.parallel)),
            *image_warnings(s.model, s.site.deployment(s.parallel)),
            *warnings(s.model, s.prompt + round(s.output), [s.site], today),
            *notes(s, points if len(points) == 1 else (), opened, concurrency),
        ),
    )
