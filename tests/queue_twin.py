"""A slow, obvious twin of the queueing formulas: one replica, step by step, request by request.

First come, first served, and continuous batching: every step gives each decoding request a token and reads up to a
token budget of prompts in the order of their arrival. A step takes what the product says it takes. Requests of one
session hold the prefix that they share once.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.operators import attended_at, attention, forward
from kvplan.perf.serving import receiving
from kvplan.perf.step_time import operator_time, step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec

#: batches and prompt tokens between which a step's time is a straight line
BATCHES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (0, 1, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)
#: tokens of a prompt between which its attention is a straight line: the curve is off by a PART's own attention / 4
PART = 512


@dataclass
class Request:
    """A request on its way: `total` prompt tokens, of which the first `read` are done, and `output` to write."""

    arrived: float
    total: int
    read: int
    output: int
    session: int = 0
    first: float = math.nan
    last: float = math.nan


@dataclass
class Machine:
    """What the steps of one replica take, by batch and prompt tokens in a table."""

    model: ModelSpec
    base: KVLayout
    layout: KVLayout
    parallel: Parallel
    calibration: Calibration
    length: int
    form: str | None = None
    times: dict[tuple[int, int], float] = field(default_factory=dict)
    between: dict[tuple[int, int], float] = field(default_factory=dict)
    pairs: dict[int, float] = field(default_factory=dict)
    read: dict[int, float] = field(default_factory=dict)

    def corner(self, batch: int, tokens: int) -> float:
        """Return the time of a step without the prompts' attention. [s]"""
        if (batch, tokens) not in self.times:
            held = weights(self.model, self.form)
            passed = forward(
                self.model, self.layout, held, self.parallel, base=self.base, decode=float(batch), length=self.length,
                prefill=float(tokens), prompt=0,
            )  # fmt: skip
            self.times[batch, tokens] = float(step_time(passed, self.calibration, float(batch), tokens > 0))
        return self.times[batch, tokens]

    def step(self, batch: int, tokens: int) -> float:
        """Return the same between the corners of the table. [s]"""
        if (batch, tokens) not in self.between:
            self.between[batch, tokens] = self.interpolated(batch, tokens)
        return self.between[batch, tokens]

    def interpolated(self, batch: int, tokens: int) -> float:
        """Return the same, worked out. [s]"""
        i = min(bisect_right(BATCHES, batch), len(BATCHES) - 1)
        a, b = BATCHES[i - 1], BATCHES[i]
        u = (batch - a) / (b - a)
        if not tokens:
            return (1 - u) * self.corner(a, 0) + u * self.corner(b, 0)
        j = min(bisect_right(TOKENS, tokens), len(TOKENS) - 1)
        low, high = TOKENS[j - 1], TOKENS[j]
        v = (tokens - low) / (high - low)
        at = [(1 - v) * self.corner(n, low) + v * self.corner(n, high) for n in (a, b)]
        return (1 - u) * at[0] + u * at[1]

    def attention(self, tokens: int) -> float:
        """Return the time that the attention of a whole prompt takes, on straight lines between whole PARTs. [s]"""
        if tokens not in self.read:
            whole, rest = divmod(tokens, PART)
            low = self.whole(whole)
            self.read[tokens] = low + (self.whole(whole + 1) - low) * rest / PART if rest else low
        return self.read[tokens]

    def whole(self, parts: int) -> float:
        """Return the same of a prompt of so many PARTs, exactly. [s]"""
        if parts not in self.pairs:
            tokens = parts * PART
            each = attended_at(self.layout, self.base, self.parallel.tensor, self.length, tokens, 0)
            prompts = [o for o in attention(each, 0.0, 1.0) if o.limit == "prompt"]
            self.pairs[parts] = sum(float(operator_time(o, self.calibration)) for o in prompts)
        return self.pairs[parts]


def simulate(
    machine: Machine, draw: Callable[[random.Random], list[tuple[float, int, int, int]]], *, rate: float, requests: int,
    slots: int, shared: float = 0.0, seed: int = 0,
) -> list[Request]:  # fmt: skip
    """Return served requests of sessions that come at random; `draw` gives one session's requests.

    Of each: seconds after the first one, prompt, cached and output tokens. Each takes a slot, of which those of one
    session that run at once hold `shared` together.

    A request spends its overhead before it reaches the engine and, where others run, the scheduler's poll: it is
    seen so many steps after it came, whatever they hold.
    """
    rng, c = random.Random(seed), machine.calibration
    chunk, polls = int(c.chunk), float(c.poll)
    coming: list[tuple[float, int, Request]] = []
    at, drawn, sessions = 0.0, [], 0
    while not drawn or len(drawn) < 1.02 * requests:
        session = draw(rng)
        at += rng.expovariate(rate / len(session))
        drawn += [(at + later, *rest, sessions) for later, *rest in session]
        sessions += 1
    overhead = float(receiving(c, sum(total for _, total, *_ in drawn) / len(drawn)))  # as a mean prompt has it
    for k, (at, total, cached, output, number) in enumerate(sorted(drawn)[:requests]):
        one = Request(arrived=at, total=total, read=cached, output=output, session=number)
        heapq.heappush(coming, (at + overhead, k, one))
    running: Counter[int] = Counter()  # requests that hold memory, by their session
    held = 0.0  # slots
    waiting: deque[Request] = deque()
    decoding: list[tuple[int, int, Request]] = []  # (step of its last token, order, request)
    done: list[Request] = []
    now, step, order = 0.0, 0, 0
    whole, rest = int(polls), polls % 1  # of the polls
    ends = deque([0.0], maxlen=whole + 2)  # of the last steps

    def admit() -> None:
        """Take in who came before the polls: so many steps ago, a part of one as if it were even."""
        at = len(ends) - 1 - whole
        late, before = ends[max(at, 0)], ends[max(at - 1, 0)]
        seen = late - rest * (late - before)
        while coming and coming[0][0] <= seen:
            waiting.append(heapq.heappop(coming)[2])

    def until_seen(when: float, each: float) -> int:
        """Return after how many decode steps a request that came then is seen."""
        if when >= now:
            return max(math.ceil((when - now) / each + polls), 1)
        return 1  # one step after the other, until it is

    def leave(one: Request) -> None:
        nonlocal held
        running[one.session] -= 1
        held -= 1 - shared * (running[one.session] > 0)
        if not running[one.session]:
            del running[one.session]
        done.append(one)

    while len(done) < requests:
        admit()
        batch = len(decoding)
        if not waiting and not decoding:
            now = max(coming[0][0], now)
            ends.extend([now] * (whole + 2))
            continue
        budget, took, ended = chunk, 0.0, []
        for one in waiting:
            takes = 1 - shared * (running[one.session] > 0)
            if not budget or held + takes > slots + 1e-6:
                break
            part = min(one.total - one.read, budget)
            took += machine.attention(one.read + part) - machine.attention(one.read)
            one.read, budget = one.read + part, budget - part
            if one.read == one.total:
                ended.append(one)
                held += takes
                running[one.session] += 1
        if budget == chunk:  # nothing but decoding: on to the next arrival or the next end
            each = machine.step(batch, 0)
            steps = decoding[0][0] - step
            if coming:
                steps = min(steps, until_seen(coming[0][0], each))
            ends.extend(now + each * i for i in range(max(steps - whole - 2, 0) + 1, steps))
            now, step = now + steps * each, step + steps
        else:
            now, step = now + machine.step(batch, chunk - budget) + took, step + 1
        ends.append(now)
        while decoding and decoding[0][0] <= step:
            one = heapq.heappop(decoding)[2]
            one.last = now
            leave(one)
        for one in ended:
            waiting.popleft()
            one.first = now
            order += 1
            if one.output <= 1:
                one.last = now
                leave(one)
            else:
                heapq.heappush(decoding, (step + one.output - 1, order, one))
    return done


def percentile(values: list[float], share: float) -> float:
    """Return the value a share of them do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
