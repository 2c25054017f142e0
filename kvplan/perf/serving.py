"""What a user of a server feels: TTFT, TPOT and tokens per second in steady state, in closed form.

Continuous batching with chunked prefill. Five step times carry all the physics of the pass (`Steps`); the rest is
bookkeeping that conserves tokens and time. Everything works on floats and on arrays of one shape.
"""

from dataclasses import dataclass, replace
from math import ceil
from math import e as EULER
from typing import Any

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, Weights
from kvplan.perf.amounts import Amount, larger, logarithm_to_2, smaller
from kvplan.perf.operators import TINY, Attended, Operator, attended_at, forward
from kvplan.perf.step_time import step_time
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec

#: share of time that prompts may fill: keeps the queue finite
BUSIEST = 0.97
#: lengths between 80 % and 100 % of the nominal ones: completions of a wave spread over this share of it
LENGTH_SPREAD = 0.2
#: part of `burst` where prompts share steps with decoding: they pass one after the other, and so do their ends
MIXED_BURST = 0.1


@dataclass(frozen=True, kw_only=True)
class Passes:
    """The five steps that describe a load on one attention-data-parallel rank.

    decode: `batch` sequences; mixed: those and one prompt's chunk; alone: the chunk by itself; full, full_alone: the
    same with the whole token budget of prompts.
    """

    decode: list[Operator]  #: operators of a decode step of the whole batch
    mixed: list[Operator]  #: of the batch and one prompt's chunk
    alone: list[Operator]  #: of the chunk by itself
    full: list[Operator]  #: of the batch and a whole token budget of prompts
    full_alone: list[Operator]  #: of the whole token budget by itself


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests on one rank: mean lengths [token], sequences that run at once, and how they arrive.

    `batch` (1 or more) run of the `offered`, the rest wait for memory. `prompt` tokens are those to compute. `waves` is
    how many requests each slot sends after all started together (0: long ago). `spread` is how far output lengths
    differ, as the width of a uniform distribution over the mean (0: they are all alike). Flags, 0 or 1: `static`, a
    batch that starts and is read whole; `offline`, all requests come at once; `open`, they come at a rate of their own.
    """

    prompt: Amount  #: mean prompt tokens to compute [token]
    output: Amount  #: mean output [token]
    batch: Amount  #: requests that run at once on the rank, from 1
    offered: Amount  #: requests in flight on the rank, those that wait for memory included
    waves: Amount = 0.0  #: requests each slot sends after a common start (0: that was long ago)
    chunks: Amount = 1.0  #: steps over which a prompt is computed
    spread: Amount = LENGTH_SPREAD  #: width of the output lengths' uniform distribution over their mean
    static: Amount = 0.0  #: 1: one batch that starts together and is read whole
    offline: Amount = 0.0  #: 1: all requests come at once
    open: Amount = 0.0  #: 1: requests come at a rate of their own
    short: Amount = 1.0  #: mean of 1 / output times the mean output: what short answers make of a delay all share
    recv_interval: Amount = 1.0  #: decode steps from one look of the scheduler for new requests to the next
    cached: Amount = 0.0  #: further tokens of the mean prompt that a prefix cache holds [token]
    hold: Amount = 0.0  #: decode steps for which a prompt is held for others to be read with it
    cold: Amount = 0.0  #: 1: nobody warmed the server up before the common start


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Times of the five steps of `Passes`. [s]"""

    decode: Amount  #: a decode step of the whole batch [s]
    mixed: Amount  #: the batch and one prompt's chunk [s]
    alone: Amount  #: the chunk by itself [s]
    full: Amount  #: the batch and a whole token budget of prompts [s]
    full_alone: Amount  #: the whole token budget by itself [s]


@dataclass(frozen=True, kw_only=True)
class Served:
    """Means in steady state. `queued` waits for memory (in ttft too); `busy` is the share of time prompts take.

    `cycle` is what a request takes from its slot, `prompt_seconds` what its prompt takes from the others, `step` a
    decode step by itself. `wait` is for a step's end, the scheduler excepted: `arriving` steps, `queue` behind other
    prompts; `polled` is for the scheduler. `median` is the TTFT that half of the requests keep. [s]
    """

    ttft: Amount  #: mean time to the first token, waiting for memory included [s]
    tpot: Amount  #: mean time per further token [s]
    cycle: Amount  #: mean time a request holds its slot [s]
    queued: Amount  #: mean wait for memory [s]
    wait: Amount  #: mean wait within TTFT, that for the scheduler and for memory left out [s]
    own: Amount  #: time of the request's own prompt [s]
    busy: Amount  #: share of time that prompts take
    prompt_seconds: Amount  #: time one prompt takes from all others [s]
    step: Amount  #: a decode step by itself [s]
    arriving: Amount  #: rest of the step a request arrives in [s]
    queue: Amount  #: wait behind other prompts [s]
    polled: Amount  #: wait for the scheduler [s]
    median: Amount  #: median of TTFT [s]


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
    verified: float = 1.0,
    known: Passes | None = None,
) -> Passes:
    """Return the steps of one rank and stage under a load; `cached` tokens of the prompt need no computing.

    A step multiplies for `verified` tokens of every sequence, more than one where others were drafted, and reads each
    cache once. `known` are those of another batch, whose prompts alone are the same.
    """
    fresh = prompt - cached

    middle = int(prompt + output / 2)
    attended = verifying(attended_at(layout, base, parallel.tensor, middle, prompt, cached), verified)

    def one(decode: Amount, prefill: float) -> list[Operator]:
        read: dict[str, Any] = {"prefill": prefill, "prompt": prompt, "cached": cached} if prefill else {}
        tokens = decode * verified
        return forward(model, layout, held, parallel, decode=tokens, length=middle, attended=attended, **read)

    share = fresh / ceil(fresh / chunk)
    return Passes(
        decode=one(batch, 0.0),
        mixed=one(batch, share),
        alone=known.alone if known else one(0.0 * batch, share),
        full=one(batch, chunk),
        full_alone=known.full_alone if known else one(0.0 * batch, chunk),
    )


def verifying(attended: Attended, tokens: float) -> Attended:
    """Return the attention of one of `tokens` tokens of a sequence that one step verifies: they share its cache."""
    if tokens == 1.0:
        return attended
    decode = tuple(
        o._replace(bytes=o.bytes / tokens, fetched=o.fetched / tokens, unpacks=o.unpacks / tokens)
        for o in attended.decode
    )
    return replace(attended, decode=decode)


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


@dataclass(frozen=True, kw_only=True)
class PromptTimes:
    """Means over prompts that differ; `squared` is the second moment of `service` over its squared mean."""

    own: Amount  #: time of the request's own prompt [s]
    extra: Amount  #: time one prompt takes from all others [s]
    service: Amount  #: time for which a prompt keeps others waiting [s]
    squared: Amount  #: second moment of `service` over its squared mean, 1 where all are alike
    whole: Amount  #: mean prompt as it is sent, with what a cache holds of it [token]


def uniform_prompts(load: Load, s: Steps, c: Calibration) -> PromptTimes:
    """Return the times of prompts that are all as long as the mean; many short ones share a step."""
    separate = 1.0 - c.mixes
    extra = (c.mixes * (s.mixed - s.decode) + separate * s.alone) * load.chunks
    budget = (c.mixes * larger(s.full - s.decode, 0.0) + separate * s.full_alone) * load.prompt / c.chunk
    fill = (load.batch * load.prompt / c.chunk) ** 4
    crowded = fill / (1.0 + fill)
    extra = crowded * smaller(extra, budget) + (1.0 - crowded) * extra
    shared = c.mixes * company(load)
    own = (shared * s.mixed + (1.0 - shared) * s.alone) * load.chunks
    return PromptTimes(own=own, extra=extra, service=extra, squared=1.0, whole=load.prompt + load.cached)


def serve(load: Load, s: Steps, c: Calibration, prompts: PromptTimes | None = None) -> Served:
    """Return the means of a load: a closed loop with as many requests in flight as `load.offered`, unless it says.

    A request's cycle is its decode steps and the prompts of the `batch` requests served meanwhile (each delays all
    decoding by `extra`): nothing is lost, so TPOT is what the cycle leaves after TTFT, but at least a decode step; a
    cycle too short for that is longer. TTFT is the request's own chunks and, where others run, the rest of a step it
    arrives in, `poll` steps of the scheduler (mean ones: some read a prompt), and waiting for other prompts: a queue of
    one server (M/D/1, with a finite population in a closed loop), and what remains of a start together (`burst`), which
    a spread of lengths dissolves (`jitter`): lengths all alike stay in lock-step, or pass one by one (`met`) where
    prompts share steps with decoding. In all: cycle = TTFT - the request's overhead - waiting for memory + output x
    TPOT. `prompts` are the means of prompts that differ; without it all are as long as the mean. What the first wave of
    a server that nobody warmed up waits for (`cold`) delays no decoding.
    """
    batch = load.batch
    known = prompts or uniform_prompts(load, s, c)
    own, extra, others = known.own, known.extra, company(load)
    cycle = load.output * s.decode + batch * extra
    present = load.open * smaller(load.offered, batch) + (1.0 - load.open) * batch
    busy = smaller(present * extra / cycle, BUSIEST)
    behind = busy * (others * (1.0 - load.open) + load.open)
    ahead = known.service * known.squared
    queue = c.wait * behind * ahead / (2 * (1 - busy) + 2 * (1.0 - load.open) / larger(batch, 1.0))
    clump = burst_wait(load, s, own, extra, c) * (1.0 - load.open)
    step = s.decode * c.accepted + smaller(present * c.accepted / load.output, 1.0) * extra
    looks = (c.poll + (load.recv_interval - 1.0) / 2 + held(load)) * step * others
    polled = looks + passing_prompts(load, extra, c) * others * (1.0 - load.open)
    rest = others * step / 2
    arriving = own + rest
    first = first_wave(load, s, own, c)
    whole = load.static
    begun = smaller((load.waves > 0) / (load.waves + (load.waves <= 0)), 1.0) * (1.0 - whole)
    steady = arriving + polled + queue + clump
    request = receiving(c, known.whole)
    batched = larger(batch * batched_prompt(load, s, c), own)
    ttft = request + whole * batched + begun * (first + looks) + (1 - begun - whole) * steady
    slot = ttft - request
    tpot = larger((cycle - slot) / load.output, s.decode)
    cycle = slot + load.output * tpot
    beyond = larger(load.offered - batch, 0.0)
    queued = cycle * beyond / batch * (1.0 - load.offline + load.offline * beyond / (2 * larger(load.offered, TINY)))
    late = smaller(larger(2 * behind, 1.0), 2 * BUSIEST)
    middle = request + arriving + polled + clump + queue * larger(logarithm_to_2(late), 0.0) / larger(behind, TINY)
    usual = (1.0 - load.offline) * (1.0 - whole)
    waits = load.offline * larger(load.offered / 2 - batch, 0.0) / batch * cycle + (1.0 - load.offline) * queued
    return Served(
        ttft=ttft + queued + begun * load.cold * c.cold,
        tpot=tpot,
        cycle=cycle,
        queued=queued,
        wait=ttft - request - polled * (1.0 - whole) - own,
        own=own,
        busy=busy,
        prompt_seconds=extra,
        step=s.decode,
        arriving=rest,
        queue=queue + clump,
        polled=polled * (1.0 - whole),
        median=usual * middle + (1.0 - usual) * ttft + waits,
    )


def receiving(c: Calibration, prompt: Amount) -> Amount:
    """Return what a request takes beside its steps: once, and for every token of its prompt, cached or not. [s]"""
    return (c.request + c.token * prompt) * c.pace


def company(load: Load) -> Amount:
    """Return the chance that another request runs when one arrives: none when it is alone in a closed loop."""
    alone = 1.0 / larger(load.batch, 1.0)
    return (1.0 - alone) * (1.0 - load.open) + load.open * (1.0 - EULER ** (-load.offered))


def burst_wait(load: Load, s: Steps, own: Amount, extra: Amount, c: Calibration) -> Amount:
    """Return the mean wait that remains of a common start, little once lengths differ. [s]

    All of it remains for lengths alike: their prompts come together and are read a token budget at a time. None does
    where prompts share steps with decoding: see `passing_prompts`.
    """
    loose = looseness(load)
    alike = (1.0 - c.mixes) * (loose <= 0) * (first_wave(load, s, own, c) - own)
    kept = (1.0 - c.mixes) * c.burst**loose + c.mixes * MIXED_BURST * c.burst * loose
    every = load.batch * extra
    dissolved = load.spread * load.output * s.decode * c.jitter
    return alike + (loose > 0) * company(load) * kept * every / 2 * every / (every + dissolved + TINY)


def looseness(load: Load) -> Amount:
    """Return how far lengths differ: 0 where all are alike, 1 where they do as in published benchmarks, or more."""
    return smaller(load.spread / LENGTH_SPREAD, 1.0)


def passing_prompts(load: Load, extra: Amount, c: Calibration) -> Amount:
    """Return what others' prompts add to the steps for which a request waits, where lengths are all alike. [s]

    Where prompts share steps with decoding, requests that started together end one step after the other, as their
    prompts were read: each new one arrives amid those of the others, and meets `met` of them before its own.
    """
    met = smaller(c.met, larger(load.batch - 1.0, 0.0))
    return c.mixes * (1.0 - looseness(load)) * met * extra / load.chunks


def held(load: Load) -> Amount:
    """Return the mean steps a prompt is held: the first `hold` of them, those that come meanwhile the rest."""
    joining = load.hold * load.batch / load.output
    return load.hold * (1.0 + joining / 2) / (1.0 + joining)


def batched_prompt(load: Load, s: Steps, c: Calibration) -> Amount:
    """Return a prompt's time where many are read at once: alone, or its part of a token budget, if that is less. [s]"""
    return smaller(s.alone * load.chunks, s.full_alone * load.prompt / c.chunk)


def first_wave(load: Load, s: Steps, own: Amount, c: Calibration) -> Amount:
    """Return the mean TTFT of requests that all start at once: prompts are read a token budget at a time. [s]"""
    rounds = larger(load.batch * load.prompt / c.chunk, 1.0)
    return larger(load.batch * batched_prompt(load, s, c) * (rounds + 1) / (2 * rounds), own)
