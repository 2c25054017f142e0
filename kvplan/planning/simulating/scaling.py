"""Replicas that come and go while a simulation runs: autoscaling with a start-up time, and failures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil

from kvplan.perf.simulate.run import Event, Simulation
from kvplan.perf.simulate.state import INSIDE

#: seconds between two looks at the load (the sync period of Kubernetes' HorizontalPodAutoscaler),
#: and how long the load must have been lower before replicas leave (its default stabilization window)
INTERVAL, STEADY = 15.0, 300.0


@dataclass(frozen=True, kw_only=True)
class Autoscale:
    """Replicas from `least` to `most`, so that each has `target` requests."""

    least: int  #: replicas that always stand
    most: int  #: replicas at most
    target: float  #: requests in flight for each
    startup: float  #: from the decision to the first request [s]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A replica that loses its requests and its memory, and comes back."""

    replica: int  #: which, from 0
    at: float  #: when [s]
    lasts: float  #: until it serves again [s]


def failures(failing: Iterable[Failure], ranks: int) -> Iterator[Event]:
    """Yield what failures do to lanes: a replica comes back when the last of those that overlap is over."""
    several = tuple(failing)
    for one in several:
        lanes, end = tuple(range(one.replica * ranks, (one.replica + 1) * ranks)), one.at + one.lasts
        yield Event(at=one.at, lanes=lanes, kind="fail")
        if not any(o.replica == one.replica and o.at <= end < o.at + o.lasts for o in several):
            yield Event(at=end, lanes=lanes, kind="open")


@dataclass
class Scaler:
    """Watches the requests inside and opens or shuts replicas; a replica that leaves first serves what it has."""

    rule: Autoscale  #: what it keeps to
    ranks: int  #: lanes of a replica
    start: int  #: replicas at the beginning
    interval: float = INTERVAL  #: seconds between two looks [s]
    wanted: list[tuple[float, int]] = field(default_factory=list)  #: (time [s], replicas that the load asked for)
    changes: list[tuple[float, int]] = field(default_factory=list)  #: (time [s], replicas paid for from then on)

    def __post_init__(self) -> None:
        self.start = min(max(self.start, self.rule.least), self.rule.most)
        self.changes.append((0.0, self.start))

    @property
    def now(self) -> int:
        """Replicas that are paid for now."""
        return self.changes[-1][1]

    @property
    def highest(self) -> int:
        """The most replicas at once."""
        return max(n for _, n in self.changes)

    def first(self) -> Iterator[Event]:
        """Yield what keeps the replicas beyond the first ones shut."""
        if self.start < self.rule.most:
            yield Event(at=-1.0, lanes=self.lanes(self.start, self.rule.most), kind="shut")

    def lanes(self, first: int, end: int) -> tuple[int, ...]:
        """Return the lanes of replicas from one to another."""
        return tuple(range(first * self.ranks, end * self.ranks))

    def __call__(self, run: Simulation, now: float) -> Iterator[Event]:
        """Yield what to do to lanes at a time."""
        inside = int(run.fleet.count[INSIDE])
        asked = min(max(ceil(inside / self.rule.target), self.rule.least), self.rule.most)
        self.wanted = [*(w for w in self.wanted if w[0] > now - STEADY), (now, asked)]
        want, have = max(n for _, n in self.wanted), self.now
        if want != have:
            self.changes.append((now, want))
        for replica in range(have, want):
            yield Event(at=now + self.rule.startup, lanes=self.lanes(replica, replica + 1), kind="start")
        for replica in range(want, have):
            lanes = self.lanes(replica, replica + 1)
            run.pending = [e for e in run.pending if e.lanes != lanes]  # it may not have started yet
            yield Event(at=now, lanes=lanes, kind="shut")

    def history(self) -> tuple[tuple[float, int], ...]:
        """Return when how many replicas began to be paid for."""
        return tuple(self.changes)

    def paid(self, since: float, until: float) -> float:
        """Return the time of replicas that is paid for from one time to another, their start-up included. [s]"""
        ends = [*(at for at, _ in self.changes[1:]), until]
        spans = ((max(at, since), min(end, until), n) for (at, n), end in zip(self.changes, ends, strict=True))
        return sum(max(end - at, 0.0) * n for at, end, n in spans)

    def serving(self, since: float, until: float) -> float:
        """Return the time of replicas that are up and may get requests from one time to another. [s]"""
        total = 0.0
        for replica in range(self.rule.most):
            opened: float | None = None
            for at, n in (*self.changes, (until, 0)):
                if n > replica and opened is None:
                    opened = at + self.rule.startup if at else at
                elif n <= replica and opened is not None:
                    total += max(min(at, until) - max(opened, since), 0.0)
                    opened = None
        return total
