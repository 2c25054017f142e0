"""A slow, obvious twin of the simulation: one replica, every step by itself, every request a plain object.

Nothing of the product's engine is used but the tables of step times, read anew.
"""

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil

from kvplan.perf.simulate.tables import CELL, StepTable


@dataclass
class One:
    """A request on its way."""

    at: float
    prompt: int
    output: int
    chain: list[tuple[int, int]] = field(default_factory=list)  # (hash, tokens up to the end)
    rank: int = 0
    ready: float = 0.0
    known: bool = False  # to the scheduler, from before a preemption
    to_read: int = 0
    read: int = 0
    told: int = 0  # tokens generated
    cached: int = 0  # tokens whose keys and values are held while it decodes
    first: float | None = None
    end: float | None = None
    hit: int | None = None
    again: int = 0
    uses: list[int] = field(default_factory=list)  # hashes it uses
    near: int = 0  # items of its chain in memory or a tier when it came


@dataclass
class Replica:
    """One replica, as vLLM's scheduler runs it."""

    steps: StepTable
    chunk: int
    most: int
    room: int
    unit: int = 16
    mixed: bool = True
    sharing: bool = False
    overhead: float = 0.0
    poll: float = 0.0
    reserving: bool = False
    occupied: float = 0.0
    interval: int = 1  # steps from one look for new requests to the next
    tiers: tuple[tuple[int, float], ...] = ()  # (blocks, seconds a token), the nearest first

    def attention(self, tokens: int) -> float:
        i, rest = divmod(tokens, CELL)
        a, b = self.steps.attention[i], self.steps.attention[i + 1]
        return a + (b - a) * rest / CELL

    def takes(self, contexts: list[int], tokens: int, attention: float) -> float:
        n, s = len(contexts), self.steps
        decode = s.base[n] + s.slope[n] * sum(contexts)
        if not tokens:
            return decode
        j = min(bisect_right(s.grid, tokens) - 1, len(s.grid) - 2)
        row = s.more[n * len(s.grid) : (n + 1) * len(s.grid)]
        part = (tokens - s.grid[j]) / (s.grid[j + 1] - s.grid[j])
        return decode + row[j] + (row[j + 1] - row[j]) * part + attention

    # -- memory: what each request pins, counted anew whenever it is asked for ------------------------

    def blocks(self, one: One, tokens: int) -> int:
        shared = sum(self.sizes[key] for key in one.uses)
        return ceil(tokens / self.unit) - shared

    def free(self) -> int:
        """Blocks that are free or can be freed by evicting."""
        lengths = ((o, o.cached if o.read == o.to_read else o.to_read) for o in self.running)
        if self.reserving:
            lengths = ((o, o.prompt + o.output - 1) for o in self.running)
        own = sum(self.blocks(o, length) for o, length in lengths)
        used = {key for o in self.running for key in o.uses}
        return self.room - own - sum(self.sizes[key] for key in used)

    def more(self, batch: list[One]) -> int:
        """Blocks that the next step takes."""
        return 0 if self.reserving else sum(o.cached % self.unit == 0 for o in batch)

    def evict(self) -> None:
        """Drop the least recently used prefixes until everything fits."""
        used = {key for o in self.running for key in o.uses}
        while self.free() - sum(self.sizes[k] for k in self.lru if k not in used) < 0:
            gone = next(k for k in self.lru if k not in used)
            del self.lru[gone]

    # -- the loop ------------------------------------------------------------------------------------

    def run(self, coming: list[One]) -> list[One]:
        """Serve all requests; return them in the order in which they end."""
        self.running: list[One] = []
        self.lru: OrderedDict[int, None] = OrderedDict()
        self.sizes: dict[int, int] = {}
        self.peak, self.preemptions = 0, 0
        self.kept: list[OrderedDict[int, int]] = [OrderedDict() for _ in self.tiers]  # hash to blocks
        self.link = 0.0
        waiting: list[One] = []
        done: list[One] = []
        now, coming = 0.0, list(coming)
        ends, ticks = [0.0], 0  # of steps, and how many there were
        decoding = lambda: [o for o in self.running if o.read == o.to_read]  # noqa: E731

        def sees(o: One) -> bool:
            """Whether a request was there `poll` steps ago."""
            if o.known or not (self.poll or self.interval > 1):
                return o.ready <= now
            whole, part = divmod(self.poll, 1)
            since = int(whole) + (ticks - int(whole)) % self.interval  # steps since the look that counts
            late, before = (ends[max(-1 - since - j, -len(ends))] for j in (0, 1))
            return o.ready <= late - part * (late - before)

        def arrive(until: float) -> None:
            """Take in what came while a step ran."""
            while coming and coming[0].at <= until:
                o = coming.pop(0)
                o.ready, o.to_read = o.at + self.overhead, o.prompt
                if seconds := self.fetching(o):
                    self.link = max(self.link, o.at) + seconds
                    o.ready = max(o.ready, self.link)
                at = len(waiting)
                if waiting and (waiting[-1].ready > o.ready or any(x.rank > o.rank for x in waiting)):
                    behind = (x.rank > o.rank or (x.rank == o.rank and x.ready > o.ready) for x in waiting)
                    at = next((i for i, is_behind in enumerate(behind) if is_behind), at)
                waiting.insert(at, o)

        while coming or waiting or self.running:
            if not self.running:
                arrive(now)
                if not waiting:
                    now = coming[0].at
                    arrive(now)
                while not waiting[0].ready <= now:  # others may come while the first is made ready
                    until = waiting[0].ready
                    if coming and coming[0].at <= until:
                        arrive(coming[0].at)
                        continue
                    now = until
                ends = [now]
            while self.more(decoding()) > self.free():
                low = max(o.rank for o in self.running)
                victim = [o for o in self.running if o.rank == low][-1]
                self.running.remove(victim)
                victim.to_read, victim.read, victim.again = victim.prompt + victim.told, 0, victim.again + 1
                self.release(victim)
                victim.ready, victim.known = now, True
                at = next((i for i, o in enumerate(waiting) if o.rank >= victim.rank), len(waiting))
                waiting.insert(at, victim)
                self.preemptions += 1
            batch = decoding()
            reserve = self.more(batch)
            budget = self.chunk - len(batch) * self.mixed
            parts: list[tuple[One, int]] = []
            busy = 0.0
            for o in self.running:
                if o.read < o.to_read:
                    part = min(budget, o.to_read - o.read)
                    parts.append((o, part))
                    budget -= part
                    self.found(o, part)
            while waiting and budget > 0 and len(self.running) < self.most and sees(waiting[0]):
                if not self.admit(waiting[0], reserve):
                    break
                o = waiting.pop(0)
                part = min(budget, o.to_read - o.read)
                parts.append((o, part))
                budget -= part
                self.found(o, part)
                busy += self.occupied * (o.again == 0)
            self.peak = max(self.peak, self.room - self.free())
            tokens = sum(part for _, part in parts)
            if not tokens and not batch:
                continue
            attention = busy + sum(self.attention(o.read + part) - self.attention(o.read) for o, part in parts)
            paused = tokens and not self.mixed
            contexts = [] if paused else [o.cached for o in batch]
            now += self.takes(contexts, tokens, attention)
            arrive_before(coming, now, lambda: arrive(coming[0].at))
            ends.append(now)
            ticks += 1
            if not paused:
                for o in batch:
                    o.cached, o.told = o.cached + 1, o.told + 1
                self.evict()
                self.peak = max(self.peak, self.room - self.free())
                for o in sorted(batch, key=lambda o: o.output - o.told):
                    if o.told == o.output:
                        self.leave(o, now, done)
            for o, part in parts:
                o.read += part
                if o.read == o.to_read:
                    if self.sharing:
                        self.write(o)
                    o.cached, o.told = o.to_read, o.told + 1
                    o.first = now if o.first is None else o.first
                    if o.told == o.output:
                        self.leave(o, now, done)
        return done

    def admit(self, o: One, reserve: int) -> bool:
        held = []
        if self.sharing:
            for key, _ in o.chain:
                if key not in self.lru:
                    break
                held.append(key)
        o.uses = held
        self.running.append(o)
        o.read, o.cached = 0, o.to_read
        if self.free() < reserve:
            self.running.pop()
            o.uses = []
            return False
        self.evict()
        known = max(len(held), o.near)
        tokens = o.chain[known - 1][1] // self.unit * self.unit if known else 0
        hit = min(tokens, o.to_read - 1)
        o.read = hit
        o.hit = hit if o.hit is None else o.hit
        return True

    def found(self, o: One, part: int) -> None:
        """Let others find a prompt that the step being planned reads to its end."""
        if self.sharing and o.read + part == o.to_read:
            self.share(o)

    def share(self, o: One) -> None:
        before = 0
        for i, (key, tokens) in enumerate(o.chain):
            self.sizes[key] = tokens // self.unit - before // self.unit
            before = tokens
            if i >= len(o.uses):
                o.uses.append(key)
                self.lru.setdefault(key)

    def write(self, o: One) -> None:
        """Put a prompt that was read into the tiers."""
        for (room, _), kept in zip(self.tiers, self.kept, strict=True):
            for key, _ in o.chain:
                if key in kept:
                    kept.move_to_end(key)
                    continue
                if self.sizes[key] > room:
                    break
                while sum(kept.values()) + self.sizes[key] > room:
                    kept.popitem(last=False)
                kept[key] = self.sizes[key]

    def fetching(self, o: One) -> float:
        """Time for what tiers have of its prompt beyond what memory has."""
        o.near, seconds, before, here = 0, 0.0, 0, bool(self.tiers)
        for i, (key, tokens) in enumerate(o.chain):
            here = here and key in self.lru
            tier = next((t for t, kept in enumerate(self.kept) if key in kept), None)
            if not here and tier is None:
                break
            seconds += 0.0 if here else (tokens - before) * self.tiers[tier][1]
            o.near, before = i + 1, tokens
        return seconds

    def release(self, o: One) -> None:
        others = {key for x in self.running for key in x.uses}
        for key in reversed(o.uses):
            if key not in others:
                self.lru.move_to_end(key)
        o.uses = []

    def leave(self, o: One, now: float, done: list[One]) -> None:
        o.end = now
        self.running.remove(o)
        self.release(o)
        done.append(o)


def arrive_before(coming: list[One], now: float, take) -> None:
    """Take in what comes up to a time, one after another."""
    while coming and coming[0].at <= now:
        take()
