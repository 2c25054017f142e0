"""Times of steps in tables, from the product's own step time: straight in the context, and between batch sizes."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.operators import Attended, attended_at, forward
from kvplan.perf.operators import attention as attention_of
from kvplan.perf.simulate.state import Tables
from kvplan.perf.simulate.store import column
from kvplan.perf.step_time import operator_time, step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec

#: batches between which a step's time is a straight line; prompt tokens likewise; tokens between lengths of prompts
BATCHES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TOKENS = (0, 1, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)
CELL = 256
#: shares of the way from the shortest to the longest context at which a step is worked out
PLACES = (0.0, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A tier beside the memory of a lane, or of all."""

    name: str  #: as options spell it
    room: int  #: what prefixes may take [block]
    seconds: float  #: time in which a token comes from it to a lane [s/token]
    common: bool  #: whether all lanes share it


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """Times of one lane's steps, and how far the straight lines are from the product's own step time."""

    base: tuple[float, ...]  #: [sequences] decode step less what its contexts take [s]
    slope: tuple[float, ...]  #: [sequences] what a cached token takes [s/token]
    more: tuple[float, ...]  #: [sequences * sizes + j] what prompts add [s]
    grid: tuple[int, ...]  #: [j] tokens of prompts [token]
    attention: tuple[float, ...]  #: [length / CELL] attention of a whole prompt [s]
    error: float  #: greatest relative error of a decode step over the contexts it was worked out at

    def tables(self, chunk: int, fast: bool, tiers: Sequence["Shelf"] = ()) -> Tables:
        """Return the tables as a simulation reads them."""
        cells = [max(bisect_right(self.grid, n) - 1, 0) for n in range(chunk + 1)]
        last = len(self.grid) - 2
        return Tables(
            base=column(fast, "base", self.base), slope=column(fast, "slope", self.slope),
            more=column(fast, "more", self.more), grid=column(fast, "grid", self.grid),
            cells=column(fast, "cells", [min(j, last) for j in cells]),
            attention=column(fast, "attention", self.attention),
            fetch=column(fast, "fetch", [t.seconds for t in tiers]),
            own=column(fast, "own", [int(not t.common) for t in tiers]),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one lane's steps depend on."""

    model: ModelSpec  #: the model served
    base: KVLayout  #: its uncompressed cache, to which prompts attend
    layout: KVLayout  #: its cache under the technique
    held: Weights  #: its weights
    parallel: Parallel  #: how a replica is spread
    calibration: Calibration  #: what the GPU and the engine reach
    gain: tuple[float, ...] = ()  #: [place in BATCHES] tokens a step of speculative decoding is worth; (): 1

    def step(self, batch: int, tokens: int, length: int) -> float:
        """Return the time of a step without the attention of its prompts. [s]"""
        each = attended_at(self.layout, self.base, self.parallel.tensor, length, 0)
        passed = forward(
            self.model, self.layout, self.held, self.parallel, decode=float(batch), length=length,
            prefill=float(tokens), attended=Attended(decode=each.decode, prompt=()),
        )  # fmt: skip
        return float(step_time(passed, self.calibration, float(batch), tokens > 0))

    def prompt(self, tokens: int) -> float:
        """Return the time of the attention of a whole prompt. [s]"""
        if not tokens:
            return 0.0
        each = attended_at(self.layout, self.base, self.parallel.tensor, tokens, tokens)
        whole = attention_of(Attended(decode=(), prompt=each.prompt), 0.0, 1.0)
        return sum(float(operator_time(o, self.calibration)) for o in whole)


def steps(machine: Machine, most: int, chunk: int, shortest: int, longest: int) -> StepTable:
    """Return the times of steps of up to `most` sequences and `chunk` prompt tokens, contexts from one to another.

    Per batch size a straight line in the sum of the contexts, through least squares at PLACES.
    """
    batches = [*(n for n in BATCHES if n < most), most]
    grid = (*(n for n in TOKENS if n < chunk), chunk)
    lengths = sorted({round(shortest + (longest - shortest) * p) for p in PLACES})
    middle = lengths[len(lengths) // 2]
    base, slope, more, worst = [], [], [], 0.0
    for n in batches:
        times = [machine.step(n, 0, length) for length in lengths]
        a, b = line([float(n * length) for length in lengths], times)
        wrong = (abs(a + b * n * length - t) / t for length, t in zip(lengths, times, strict=True))
        worst = max(worst, *wrong) if n else worst
        gain = gain_at(machine.gain, n)
        base.append(a / gain)
        slope.append(b / gain)
        alone = machine.step(n, 0, middle)
        more += [[machine.step(n, tokens, middle) - alone if tokens else 0.0 for tokens in grid]]
    cells = longest // CELL + 3
    return StepTable(
        base=between(batches, base, most), slope=between(batches, slope, most),
        more=tuple(x for row in zip(*(between(batches, [m[j] for m in more], most) for j in range(len(grid))),
                                    strict=True) for x in row),
        grid=grid, attention=tuple(machine.prompt(CELL * i) for i in range(cells)), error=worst,
    )  # fmt: skip


def gain_at(gain: Sequence[float], batch: int) -> float:
    """Return what a step of speculative decoding is worth at a batch: that of the next batch worked out. [token]"""
    if not gain:
        return 1.0
    return gain[min(bisect_right(BATCHES, max(batch - 1, 0)), len(gain) - 1)]


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return (value at 0, slope) of the line of least squares; flat where all x are one."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mx) ** 2 for a in x)
    b = sum((a - mx) * (c - my) for a, c in zip(x, y, strict=True)) / spread if spread else 0.0
    return my - b * mx, b


def between(batches: Sequence[int], values: Sequence[float], most: int) -> tuple[float, ...]:
    """Return values at every number up to `most`, straight lines between those known."""
    filled = [values[0]]
    for (a, b), (low, high) in zip(pairwise(batches), pairwise(values), strict=True):
        filled += [low + (high - low) * (n - a) / (b - a) for n in range(a + 1, b + 1)]
    return tuple(filled[: most + 1])
