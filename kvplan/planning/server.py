"""One server: a replica or several, its requests, and what its steps take when it runs so many of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from kvplan.errors import Incompatible
from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.mixture import Mixture, mixture
from kvplan.perf.operators import CACHE, forward
from kvplan.perf.prompts import (
    PromptClass,
    PromptSteps,
    alone_times,
    mates_of,
    mean,
    prompt_passes,
    prompt_steps,
    slim,
    slots_shared,
)
from kvplan.perf.queueing import serve_open
from kvplan.perf.serving import BUSIEST, LENGTH_SPREAD, Load, Served, serve
from kvplan.perf.step_time import step_time
from kvplan.planning.replica import LOADS, Case, default_kv_bits, evaluate
from kvplan.planning.site import Query, Site
from kvplan.planning.speculation import Speculation
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Lengths

#: halvings of a bisection
HALVINGS = 44
#: times that the questions to a prefix which run at once are worked out from how long they run, and that from them
MEETINGS = 3
#: more questions to a prefix than run at once
MANY = 1e6


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
    output: float  #: mean output [token]
    cached: int  #: prompt tokens found in the prefix cache, on average [token]
    room: int  #: requests that fit into a replica's memory
    slots: int  #: requests a replica runs at once, at most `room`
    fewest: int = 0  #: GPUs of the smallest replica that would hold a request, where nobody fixed it; 0 where one did
    speculation: Speculation | None = None  #: speculative decoding, None without
    split: tuple[int, int] | None = None  #: replicas that only prefill and that only decode, None where each does both
    percentile: float = 0.95  #: share of requests for which limits must hold
    mixed: tuple[PromptClass, ...] = ()  #: classes of prompts, where not all are alike
    answers: Lengths | None = None  #: lengths of the answers, None where all are about as long as `output`
    spread: float = LENGTH_SPREAD  #: then the width of their uniform distribution over `output`, 0: all are alike

    @property
    def uneven(self) -> float:
        """Squared coefficient of variation of the answers' lengths."""
        return self.answers.squared if self.answers else self.spread**2 / 12

    @cached_property
    def decode_steps(self) -> tuple[tuple[float, float], ...]:
        """(requests of one rank, time of a decode step [s]) up to as many as ever run, at the loads of a search."""
        most = max(self.shared_slots(MANY) / self.ranks, 1.0)
        known = sorted({max(n / self.ranks, 1.0) for n in LOADS})
        loads = [n for n in known if n < most]
        loads.append(next((n for n in known if n >= most), most))
        return tuple((n, float(timed(self, n * self.ranks * self.decoders).steps.decode)) for n in loads)

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

    @cached_property
    def classes(self) -> tuple[PromptClass, ...]:
        """Classes of its prompts."""
        return self.mixed or (PromptClass(weight=1.0, total=self.prompt, fresh=self.fresh),)

    def shared_slots(self, beside: float) -> float:
        """Return the requests a replica runs at once where as many questions to its prefix run beside each."""
        most = float(max(self.site.engine.limits(self.site.gpu)[0] * self.parallel.data, self.slots))
        return float(slots_shared(self.classes, self.output, beside, slots=float(self.slots), most=most))

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
    def full_rate(self) -> float:
        """Requests per second when it is full, of a closed loop, as `estimate` has it. [1/s]"""
        return rate_of(self, timed(self, self.most_running), self.most_running)

    @cached_property
    def most_rate(self) -> float:
        """Requests per second that an open loop may have: those of a full server, no more than of a closed loop."""
        return min(rate_of(self, timed(self, self.most_running, opened=True), self.most_running), self.full_rate)


def server(
    model: ModelSpec, site: Site, *, technique: str, prompt: int, output: float, hit: float = 0.0,
    speculation: Speculation | None = None, split: tuple[int, int] | None = None, percentile: float = 0.95,
    mixed: tuple[PromptClass, ...] = (), answers: Lengths | None = None, spread: float = LENGTH_SPREAD,
) -> Server:  # fmt: skip
    """Return a server, on the replica that serves a query cheapest where none is fixed; Incompatible if none fits.

    `hit` is the share of every prompt that the prefix cache holds, unless `mixed` gives classes of prompts.
    """
    case = Case(
        model=model,
        base=kv_layout(model, default_kv_bits(model)),
        query=Query(context=prompt + round(output), output=round(output)),
        site=site,
    )
    row = evaluate(case, technique)
    if row.reason or row.layout is None or row.parallel is None:
        raise Incompatible(f"{row.technique}: {row.reason}")
    fresh = round(mean(mixed, [float(k.fresh) for k in mixed])) if mixed else prompt - int(prompt * hit)
    cached = min(prompt - fresh, prompt - 1)
    if cached and not row.layout.shared(prompt):
        raise Incompatible(f"prefix_hit: {row.technique} leaves no cache that a shared prefix can be read from")
    return Server(
        model=model, base=case.base, layout=row.layout, technique=row.technique, site=site, parallel=row.parallel,
        prompt=prompt, output=output, cached=cached, room=row.sequences, slots=row.batch, speculation=speculation,
        fewest=0 if site.parallel else row.fewest_gpus or 0, split=split, percentile=percentile,
        mixed=mixed, answers=answers, spread=spread,
    )  # fmt: skip


def on_fewest(s: Server) -> Server | None:
    """Return the same server on the fewest GPUs that hold a request, None where that is it or somebody fixed it."""
    if s.split or not 0 < s.fewest < s.parallel.gpus:
        return None
    site, hit = replace(s.site, parallel=Parallel(tensor=s.fewest)), s.cached / s.prompt
    try:
        return server(
            s.model, site, technique=s.technique, prompt=s.prompt, output=s.output, hit=hit, speculation=s.speculation,
            percentile=s.percentile, mixed=s.mixed, answers=s.answers, spread=s.spread,
        )  # fmt: skip
    except Incompatible:  # it holds one by other means than tensor parallelism
        return None


# -- one rank -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RankTimes:
    """What a rank's steps take when it runs `each` requests, and what comes of them."""

    each: float  #: requests one rank runs, at least 1
    load: Load  #: the same as a load
    steps: PromptSteps  #: times of its steps [s]
    mixture: Mixture  #: what the prompts of each class take [s]
    served: Served  #: means of its requests
    mates: float  #: questions to the same prefix that run beside one


def timed(s: Server, running: float, opened: bool = False) -> RankTimes:
    """Return the steady state of one rank when a server runs so many requests, of an open loop or a closed one.

    In an open loop a request runs beside as many others as run on average and the questions to its own prefix, in a
    closed one beside one less than run.
    """
    alone = timed_beside(s, running, opened, 0.0)
    beside = 0.0
    for _ in range(MEETINGS if opened and not s.split and any(k.between for k in s.classes) else 0):
        beside = float(mates_of(s.classes)(alone.served.cycle))
        alone = timed_beside(s, running, opened, beside)
    return alone


def timed_beside(s: Server, running: float, opened: bool, beside: float) -> RankTimes:
    """Return the same where as many questions to a request's own prefix run beside it."""
    c = s.site.calibration
    present = running / (s.ranks * s.decoders)
    most = max(s.shared_slots(beside) / s.ranks, 1.0)
    each = max(min(present + 1.0 + beside, most), 1.0) if opened else max(present, 1.0)
    held = weights(s.model, s.site.weights)
    operators = prompt_passes(
        s.model, s.base, s.layout, held, s.parallel, batch=each, classes=s.classes, output=s.output, chunk=c.chunk
    )
    c = c.moved(accepted=gain(s, each, c)) if s.speculation else c
    steps = prompt_steps(operators, c, each)
    load = Load(prompt=s.fresh, output=s.output, batch=each, offered=present if opened else each,
                open=float(opened), short=s.answers.short if s.answers else 1.0, spread=s.spread)  # fmt: skip
    m = mixture(s.classes, steps, c, load)
    served = serve_open(load, steps, c, m) if opened else serve(load, slim(steps), c, m.times)
    return RankTimes(each=each, load=load, steps=steps, mixture=m, served=served, mates=beside)


def decode_step(s: Server, each: float) -> float:
    """Return the time of a decode step of a rank, on straight lines between the loads it was worked out for. [s]"""
    known = s.decode_steps
    if each <= known[0][0]:
        return known[0][1]
    (a, low), (b, high) = next((pair for pair in pairwise(known) if each <= pair[1][0]), (known[-1], known[-1]))
    return high if a == b else low + (high - low) * (each - a) / (b - a)


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


def read_alone(s: Server, t: RankTimes) -> Mixture:
    """Return what the prompts of each class take of a rank that only prefills. [s]"""
    own = alone_times(s.classes, t.steps, s.site.calibration.chunk)
    return Mixture(classes=s.classes, own=own, extra=own, service=own)


def reading(s: Server, t: RankTimes) -> float:
    """Return how long a rank that only prefills takes for a prompt, on average. [s]"""
    return float(mean(s.classes, read_alone(s, t).own))


def rate_of(s: Server, t: RankTimes, running: float) -> float:
    """Return the requests per second that leave a server that runs so many. [1/s]"""
    return float(running / (decoding(s, t) if s.split else t.served.cycle))


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest value for which something holds that holds at `low` and not at `high`."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
