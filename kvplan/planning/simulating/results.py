"""What a simulation is asked, and what it answers: percentiles, sums, and how it went over time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from kvplan.perf.simulate import buckets
from kvplan.perf.simulate.run import Piece
from kvplan.perf.simulate.state import Records, Ruleset
from kvplan.perf.simulate.streams import Extent
from kvplan.perf.simulate.tables import StepTable
from kvplan.planning.server import Server
from kvplan.planning.simulating.scaling import Autoscale, Failure
from kvplan.planning.simulating.server import LaneMemory
from kvplan.planning.site import Limits

#: percentiles that are told
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
#: shares of the requests at which charts have their times
SHARES_SHOWN = (0.001, *(i / 50 for i in range(1, 50)), 0.99, 0.995, 0.999)
#: seconds that no simulation lasts
FOREVER = 1e11

#: gives the stream of requests anew, for every simulation of it
Source = Callable[[], Iterable[Piece]]


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Percentiles of a time, each within the histogram's relative error. [s]"""

    p50: float  #: median [s]
    p90: float  #: 90th percentile [s]
    p95: float  #: 95th percentile [s]
    p99: float  #: 99th percentile [s]
    at_percentile: float  #: the percentile that limits are for [s]
    count: int  #: requests, or times between tokens, that were counted

    @classmethod
    def of(cls, histogram: Any, share: float) -> "Percentiles":
        """Return the percentiles of a histogram."""
        named = {name: buckets.quantile(histogram, at) for name, at in SHARES.items()}
        return cls(**named, at_percentile=buckets.quantile(histogram, share), count=int(sum(histogram)))


@dataclass(frozen=True, kw_only=True)
class OfPriority:
    """Times of the requests of one priority."""

    priority: int  #: the lowest is admitted first
    ttft: Percentiles  #: time to the first token [s]
    tpot: Percentiles  #: mean time of a token after the first [s]
    e2e: Percentiles  #: whole time of a request [s]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A minute, or a longer stretch of time, of a simulation."""

    start: float  #: from the first arrival on [s]
    seconds: float  #: its length [s]
    came: int  #: requests that came
    late: int  #: of these beyond a limit, or sent away
    ttft: float  #: mean TTFT of these [s]
    slowest: float  #: longest TTFT of these [s]
    queued: float  #: requests that waited, on average (Little's law)
    read: float  #: tokens of prompts computed [token]
    found: float  #: tokens of prompts found in prefix caches [token]
    occupancy: float  #: share of the cache's blocks in use
    busy: float  #: share of the lanes' time in steps
    serving: float  #: replicas that are up, on average, those that fail among them


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The requests that a server refuses for their length, and that are not simulated."""

    longest: int  #: the longest request that it takes [token]
    refused: int  #: requests that are longer, of those drawn


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be simulated."""

    server: Server  #: a replica, or prefill and decode replicas
    extent: Extent  #: of the requests
    source: Source  #: the requests
    limits: Limits  #: limits of time, and the percentile they are for
    title: str  #: the requests in words
    warm: float = 0.0  #: requests before this are served, but not counted [s]
    until: float = FOREVER  #: requests from this on likewise [s]
    cut: Cut | None = None  #: requests left out for their length, None where none are
    router: str = "least-loaded"  #: one of ROUTERS
    prefix_cache: bool = True  #: whether prefixes are cached, where requests tell what they share
    tiers: tuple[str, ...] = ()  #: tiers that keep prefixes besides, the nearest first
    concurrency: int = 0  #: requests of a closed loop, 0 for the arrivals as they are
    seed: int = 0  #: of the phases at which a closed loop's requests are parted
    autoscale: Autoscale | None = None  #: replicas that come and go with the load
    failures: tuple[Failure, ...] = ()  #: replicas that fail
    leaping: bool = True  #: whether equal steps are taken together
    watch: Callable[[Records, int], None] | None = None  #: sees the requests that leave
    told: Callable[[str], None] | None = None  #: hears of what takes long
    progress: Callable[[float, str], object] | None = None  #: hears the share that is over, in words too


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of the requests."""

    asked: Asked  #: what was simulated
    rules: Ruleset  #: the rules it ran by
    memory: LaneMemory  #: blocks of a lane
    steps: StepTable  #: times of steps
    parted: float  #: by how much a closed loop's first answers are shorter, at most [token]
    replicas: int  #: replicas, the most at once where they come and go
    requests: int  #: requests counted
    completed: int  #: of these that got all their tokens
    refused: int  #: of these that no replica's memory holds
    preemptions: int  #: times a request was sent back to the queue, of all requests
    ttft: Percentiles  #: time to the first token [s]
    ttft_hit: Percentiles  #: of requests that found half of what they may share in a cache, or more [s]
    ttft_miss: Percentiles  #: of the others [s]
    tpot: Percentiles  #: mean time of a token after the first [s]
    itl: Percentiles  #: times between two tokens, of all requests [s]
    e2e: Percentiles  #: whole time of a request [s]
    queued: Percentiles  #: time to admission [s]
    within: int  #: requests that kept all limits
    input_tokens: int  #: of requests counted [token]
    output_tokens: int  #: of requests counted [token]
    hit_rate: float  #: share of the prompts' tokens found in prefix caches, of all requests
    fetched: float  #: share of the prompts' tokens that came from tiers, of all requests
    peak: float  #: share of a lane's blocks in use, at most
    occupancy: float  #: the same on average over lanes and time
    busy_seconds: float  #: time of lanes in steps [s]
    seconds: float  #: simulated time that is counted [s]
    end: float  #: when the last request left [s]
    replica_seconds: float  #: time of replicas that is paid for [s]
    engine_steps: int  #: steps of engines
    events: int  #: steps or leaps simulated
    courses: dict[str, tuple[float, ...]]  #: times that SHARES_SHOWN of the requests do not exceed, by their name [s]
    classes: tuple[OfPriority, ...]  #: the same times by priority, none where all requests are alike
    bins: tuple[Bin, ...]  #: over time
    scaled: tuple[tuple[float, int], ...]  #: (time [s], replicas from then on) where they come and go

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.asked.server.parallel.gpus

    @property
    def gpu_seconds(self) -> float:
        """GPU time that is paid for. [s]"""
        return self.replica_seconds * self.asked.server.parallel.gpus

    @property
    def busy(self) -> float:
        """Share of the paid time in which replicas work."""
        lanes = self.replica_seconds * self.asked.server.ranks
        return min(self.busy_seconds / lanes, 1.0) if lanes else 0.0

    @property
    def usd(self) -> float | None:
        """Cost of the GPUs over the time counted, None without a price. [USD]"""
        price = self.asked.server.site.price
        return price.price * self.gpu_seconds if price else None

    @property
    def usd_per_query(self) -> float | None:
        """Cost of a request, None without a price. [USD]"""
        return None if self.usd is None or not self.completed else self.usd / self.completed

    @property
    def joules(self) -> float | None:
        """Energy of the GPUs, None where their power is unknown. [J]"""
        draw, s = self.asked.server.site.draw, self.asked.server
        if draw is None:
            return None
        busy = min(self.busy_seconds / s.ranks * s.parallel.gpus, self.gpu_seconds)
        return busy * draw.busy + (self.gpu_seconds - busy) * draw.idle

    @property
    def goodput(self) -> float:
        """Requests a second that kept all limits. [1/s]"""
        return self.within / self.seconds if self.seconds else 0.0

    @property
    def measured(self) -> tuple[tuple[str, float, float], ...]:
        """(name, time at the percentile of the limits, limit) of every limit of time. [s]"""
        limits = self.asked.limits
        named = (
            ("TTFT", self.ttft, limits.ttft),
            ("TPOT", self.tpot, limits.tpot),
            ("end to end", self.e2e, limits.e2e),
        )
        return tuple((name, times.at_percentile, limit) for name, times, limit in named if limit is not None)

    @property
    def margin(self) -> float:
        """Room below the limit that is nearest, as a share of it; below 0 where one is broken, infinite without any."""
        if self.refused:
            return -1.0
        return min((1 - time / limit for _, time, limit in self.measured), default=inf)

    @property
    def kept(self) -> bool:
        """Whether all limits are kept at their percentile, and no request was sent away."""
        return self.margin >= 0

    @property
    def binding(self) -> str:
        """The limit that is nearest to being broken, '' without limits."""
        if self.refused:
            return "memory"
        return max(self.measured, key=lambda m: m[1] / m[2], default=("", 0.0, 1.0))[0]

    @property
    def busiest(self) -> Bin | None:
        """The bin in which most requests came, None where none came."""
        return max((b for b in self.bins if b.came), key=lambda b: b.came, default=None)

    @property
    def coming(self) -> float:
        """Time from the first arrival to the last: a fleet that falls behind a trace is at work for longer. [s]"""
        span = 0.0 if self.asked.until < FOREVER or self.asked.concurrency else self.asked.extent.span
        return min(span, self.seconds) or self.seconds

    @property
    def surge(self) -> float:
        """Rate of the busiest bin over the mean rate, 0 where none came."""
        b = self.busiest
        return b.came / b.seconds / (self.requests / self.coming) if b and self.coming else 0.0

    @property
    def kept_in_busiest(self) -> bool:
        """Whether as many requests of the busiest bin as the limits' percentile keep them too."""
        b = self.busiest
        return self.kept and (b is None or b.late <= (1 - self.asked.limits.percentile) * b.came)

    @property
    def worst(self) -> Bin | None:
        """The bin in which most requests broke a limit; of equal ones that of the longest mean TTFT.

        None where no requests came. Where TPOT alone is broken, the longest TTFT may be that of a calm minute.
        """
        return max(
            (b for b in self.bins if b.came), key=lambda b: (b.late if self.measured else 0, b.ttft), default=None
        )
