"""What a user of a server feels: TTFT, TPOT and tokens per second in steady state, in closed form.

Continuous batching with chunked prefill. Five step times carry all the physics of the pass (`Steps`); the rest is
bookkeeping that conserves tokens and time. Everything works on floats and on arrays of one shape.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from kvplan.kv.budget import Parallel, Weights
from kvplan.kv.layout import KVLayout
from kvplan.perf.operators import Amount, Operator, attended_at, forward, larger, smaller
from kvplan.perf.step_time import step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec

#: share of time that prompts may fill: keeps the queue finite
BUSIEST = 0.97
#: lengths between 80 % and 100 % of the nominal ones: completions of a wave spread over this share of it
LENGTH_SPREAD = 0.2


@dataclass(frozen=True, kw_only=True)
class Passes:
    """The five steps that describe a load on one attention-data-parallel rank.

    decode: `batch` sequences; mixed: those and one prompt's chunk; alone: the chunk by itself; full, full_alone: the
    same with the whole token budget of prompts.
    """

    decode: list[Operator]
    mixed: list[Operator]
    alone: list[Operator]
    full: list[Operator]
    full_alone: list[Operator]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests in steady state on one rank: mean lengths [token], sequences that run at once, and how they arrive.

    `batch` run of the `offered` ones, the rest wait for memory. `prompt` tokens are those to compute. `waves` is how
    many requests each slot sends after all started together (0: long ago).
    """

    prompt: Amount
    output: Amount
    batch: Amount
    offered: Amount
    waves: Amount = 0.0
    chunks: Amount = 1.0


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Times of the five steps of `Passes`. [s]"""

    decode: Amount
    mixed: Amount
    alone: Amount
    full: Amount
    full_alone: Amount


@dataclass(frozen=True, kw_only=True)
class Served:
    """Means in steady state. `queued` waits for memory (in ttft too); `busy` is the share of time prompts take.

    `cycle` is what a request takes from its slot, `prompt_seconds` what its prompt takes from the others, `step` a
    decode step by itself. [s]
    """

    ttft: Amount
    tpot: Amount
    cycle: Amount
    queued: Amount
    wait: Amount
    own: Amount
    busy: Amount
    prompt_seconds: Amount
    step: Amount


def passes(
    model: ModelSpec,
    base: KVLayout,
    layout: KVLayout,
    held: Weights,
    parallel: Parallel,
    *,
    batch: Amount,
    prompt: int,
    output: float,
    chunk: float,
    cached: int = 0,
) -> Passes:
    """Return the steps of one rank and stage under a load; `cached` tokens of the prompt need no computing."""
    fresh = prompt - cached

    middle = int(prompt + output / 2)
    attended = attended_at(layout, base, parallel.tensor, middle, prompt, cached)

    def one(decode: Amount, prefill: float) -> list[Operator]:
        read: dict[str, Any] = {"prefill": prefill, "prompt": prompt, "cached": cached} if prefill else {}
        return forward(model, layout, held, parallel, decode=decode, length=middle, attended=attended, **read)

    share = fresh / ceil(fresh / chunk)
    return Passes(
        decode=one(batch, 0.0),
        mixed=one(batch, share),
        alone=one(0.0 * batch, share),
        full=one(batch, chunk),
        full_alone=one(0.0 * batch, chunk),
    )


def steps(p: Passes, c: Calibration, batch: Amount) -> Steps:
    """Return the times of the five steps; speculative decoding takes fewer steps a token."""
    none = 0.0 * batch
    decode = step_time(p.decode, c, batch)
    saved = decode - decode / c.accepted
    return Steps(
        decode=decode - saved,
        mixed=step_time(p.mixed, c, batch, True) - saved,
        alone=step_time(p.alone, c, none, True),
        full=step_time(p.full, c, batch, True) - saved,
        full_alone=step_time(p.full_alone, c, none, True),
    )


def serve(load: Load, s: Steps, c: Calibration) -> Served:
    """Return the means of a closed loop: as many requests in flight as `load.offered`.

    A request's cycle is its decode steps and the prompts of the `batch` requests served meanwhile (each delays all
    decoding by `extra`): nothing is lost, so TPOT is what the cycle leaves after TTFT, but at least a decode step; a
    cycle too short for that is longer. TTFT is the request's own chunks, the rest of a step it arrives in, `poll` steps
    of the scheduler, and waiting for other prompts: a queue of one server (M/D/1 with a finite population), and the
    clump that remains of a start together (`burst`), which a spread of completions (`jitter`) dissolves. In all:
    cycle = TTFT - the request's overhead - waiting for memory + output x TPOT.
    """
    batch, prompt = load.batch, load.prompt
    apart = 1.0 - c.mixes
    extra = (c.mixes * (s.mixed - s.decode) + apart * s.alone) * load.chunks
    budget = (c.mixes * larger(s.full - s.decode, 0.0) + apart * s.full_alone) * prompt / c.chunk
    fill = (batch * prompt / c.chunk) ** 4
    crowded = fill / (1.0 + fill)
    extra = crowded * smaller(extra, budget) + (1.0 - crowded) * extra
    own = (c.mixes * s.mixed + apart * s.alone) * load.chunks
    cycle = load.output * s.decode + batch * extra
    busy = smaller(batch * extra / cycle, BUSIEST)
    queue = c.wait * busy * extra / (2 * (1 - busy) + 2 / larger(batch, 1.0))
    together = batch * extra
    dissolved = LENGTH_SPREAD * load.output * s.decode * c.jitter
    clump = c.burst * (apart + 0.1 * c.mixes) * together**2 / (together + dissolved)
    arriving = own + s.decode / 2
    steady = arriving + queue + clump
    first = first_wave(load, s, own, c)
    begun = smaller((load.waves > 0) / (load.waves + (load.waves <= 0)), 1.0)
    request = c.request * c.pace + c.poll * s.decode
    ttft = request + begun * first + (1 - begun) * steady
    slot = ttft - c.request * c.pace
    tpot = larger((cycle - slot) / load.output, s.decode)
    cycle = slot + load.output * tpot
    queued = (load.offered / batch - 1) * cycle
    return Served(
        ttft=ttft + queued,
        tpot=tpot,
        cycle=cycle,
        queued=queued,
        wait=ttft - request - own,
        own=own,
        busy=busy,
        prompt_seconds=extra,
        step=s.decode,
    )


def first_wave(load: Load, s: Steps, own: Amount, c: Calibration) -> Amount:
    """Return the mean TTFT of requests that all start at once: prompts are read a token budget at a time. [s]"""
    each = smaller(s.alone * load.chunks, s.full_alone * load.prompt / c.chunk)
    rounds = larger(load.batch * load.prompt / c.chunk, 1.0)
    return larger(load.batch * each * (rounds + 1) / (2 * rounds), own)
