"""One simulation from beginning to end: requests stream in and those that left stream out, in pieces."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kvplan.perf.simulate import buckets, compiled, state, store
from kvplan.perf.simulate.engine import DONE, MORE, SLOTS_FULL, UNTIL
from kvplan.perf.simulate.state import NEVER, NEXT, RECORDS, TICKETS, Records, Ruleset, Stream
from kvplan.perf.simulate.tables import Shelf, StepTable

#: slots and records at the start, items of prefix caches in all, contents a router remembers
SLOTS, ROOM, MOST_ITEMS, SEEN = 1024, 4096, 1 << 20, 1 << 16


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some requests in the order of their arrival, as plain columns."""

    at: Any  #: arrival [s]
    prompt: Any  #: tokens to read [token]
    output: Any  #: tokens to generate [token]
    rank: Any = ()  #: priority, the lowest first; (): all alike
    start: Any = ()  #: [i] first item of its chain of prefix blocks, one entry more than requests; (): no chains
    keys: Any = ()  #: hash of an item's content and all before it
    tokens: Any = ()  #: tokens of the prompt up to the item's end [token]
    failed: int = 0  #: requests of the log among these that got no answer, and are left out

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.at)

    def stream(self, fast: bool) -> Stream:
        """Return the columns as a simulation reads them."""
        n = len(self)
        rank = self.rank if len(self.rank) else [0] * n
        start = self.start if len(self.start) else [0] * (n + 1)
        named = {"at": self.at, "prompt": self.prompt, "output": self.output, "rank": rank, "start": start,
                 "keys": self.keys, "tokens": self.tokens}  # fmt: skip
        return Stream(**{name: store.column(fast, name, values) for name, values in named.items()})


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something done to lanes at a time: the router stops or begins to send to them, or they fail."""

    at: float  #: when [s]
    lanes: tuple[int, ...]  #: which
    kind: str  #: open, start (with an empty memory), shut or fail


@dataclass(kw_only=True)
class Simulation:
    """A simulation under way; `finished` yields the requests that leave."""

    rules: Ruleset  #: what does not change
    steps: StepTable  #: times of steps
    fast: bool = False  #: whether compiled code runs
    events: tuple[Event, ...] = ()  #: what is done to lanes, in the order of time
    concurrency: int = 0  #: requests of a closed loop
    tiers: tuple[Shelf, ...] = ()  #: where prefixes are kept besides, the nearest first
    control: "Callable[[Simulation, float], Iterable[Event]] | None" = None  #: asked at intervals what to do to lanes
    interval: float = NEVER  #: between two questions [s]
    calls: dict[str, Callable[..., Any]] = field(init=False)  #: functions of the engine
    lanes: state.Lanes = field(init=False)  #: lanes
    fleet: state.Shared = field(init=False)  #: what is of all lanes
    cache: state.Cache = field(init=False)  #: prefix caches
    requests: state.Requests = field(init=False)  #: requests inside
    records: Records = field(init=False)  #: requests that have left

    def __post_init__(self) -> None:
        r, fast = self.rules, self.fast
        self.calls = compiled.fast() if fast else compiled.plain()
        self.tables = self.steps.tables(r.chunk, fast, self.tiers)
        blocks = r.lanes * sum((max(r.room, 1), *(t.room for t in self.tiers)))
        items = min(MOST_ITEMS, blocks) if r.sharing else 1
        self.lanes = store.lanes(r, fast, [t.room for t in self.tiers])
        self.fleet = store.fleet(r, fast, SLOTS, items, buckets.BUCKETS)
        self.cache = store.cache(fast, items, SEEN if r.router == state.PREFIX_AWARE else 1)
        self.requests = store.requests(r, fast, SLOTS)
        self.records = store.records(fast, ROOM + r.most)
        self.fleet.count[TICKETS] = self.concurrency
        self.pending = sorted(self.events, key=lambda e: e.at)
        self.asked = self.interval

    def finished(self, pieces: Iterable[Piece]) -> Iterator[tuple[Records, int]]:
        """Yield records and how many of them hold requests, which the next turn overwrites."""
        source, named = (piece for piece in pieces if len(piece)), 0
        piece = next(source, None)
        while piece is not None:
            following = next(source, None)
            stream = piece.stream(self.fast)
            self.fleet.count[NEXT] = 0
            yield from self.through(stream, len(piece), named, following is None)
            named += len(piece)
            piece = following

    def through(self, stream: Stream, n: int, named: int, last: bool) -> Iterator[tuple[Records, int]]:
        """Run until a piece of the stream is used up, or all have left where it is the last."""
        count = self.fleet.count
        while True:
            until = min(self.pending[0].at if self.pending else NEVER, self.asked)
            why = self.calls["advance"](
                self.rules, self.tables, self.lanes, self.requests, self.cache, self.fleet, stream, self.records, n,
                named, until, last,
            )  # fmt: skip
            if count[RECORDS] and why != UNTIL:
                yield self.records, int(count[RECORDS])
                count[RECORDS] = 0
            if why in (MORE, DONE):
                return
            if why == SLOTS_FULL:
                self.requests, self.fleet = store.grown(self.requests, self.rules, self.fast, self.fleet)
            if why == UNTIL:
                self.act(until)

    def act(self, now: float) -> None:
        """Do what is due to lanes."""
        if now >= self.asked and self.control is not None:
            self.pending = sorted((*self.pending, *self.control(self, now)), key=lambda e: e.at)
            self.asked += self.interval
        while self.pending and self.pending[0].at <= now:
            event = self.pending.pop(0)
            for r in event.lanes:
                self.done(event, r)

    def done(self, event: Event, r: int) -> None:
        """Do one thing to one lane."""
        if event.kind == "start":
            self.calls["emptied"](self.rules, self.tables, self.lanes, self.cache, self.fleet, r)
        if event.kind in ("open", "start"):
            self.calls["opened"](self.lanes, self.fleet, self.rules.readers, r)
            return
        self.calls["shut"](self.lanes, self.fleet, self.rules.readers, r)
        if event.kind == "fail":
            self.calls["failed"](
                self.rules, self.tables, self.lanes, self.requests, self.cache, self.fleet, r, event.at
            )
