"""A server as a simulation runs it: lanes, blocks of memory, rules of the scheduler, and times of steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.errors import Incompatible
from kvplan.kv.layout import Keep
from kvplan.kv.replica import weights
from kvplan.kv.tiers import TIERS, Tier, bandwidth
from kvplan.perf.serving import receiving
from kvplan.perf.simulate.looks import among, remembered
from kvplan.perf.simulate.phases import parting
from kvplan.perf.simulate.state import LEAST_LOADED, PREFIX_AWARE, RANDOM, ROUND_ROBIN, Ruleset
from kvplan.perf.simulate.streams import Extent
from kvplan.perf.simulate.tables import BATCHES, CELL, Machine, Shelf, StepTable
from kvplan.perf.simulate.tables import steps as step_table
from kvplan.planning.replica import Case, evaluate
from kvplan.planning.server import Server, gain
from kvplan.planning.site import Query

#: routers as callers name them
ROUTERS = {"round-robin": ROUND_ROBIN, "least-loaded": LEAST_LOADED, "prefix-aware": PREFIX_AWARE, "random": RANDOM}
#: of these, routers that do not look at loads: with more replicas waits may be longer by chance
BLIND = ("round-robin", "random")
#: engines that reserve a request's last length when they admit it (TensorRT-LLM: GUARANTEED_NO_EVICT)
RESERVING = ("trtllm",)
#: engines that keep what a preempted request has on a replica that only decodes in the host's memory
RELOADING = ("sglang",)
#: more tokens than a prompt has
ENDLESS = 1 << 40


@dataclass(frozen=True, kw_only=True)
class LaneMemory:
    """The blocks of one lane, and how many a sequence takes."""

    room: int  #: blocks of the lane [block]
    unit: int  #: tokens after which a sequence takes `weight` more [token]
    weight: int  #: blocks [block]
    fixed: int  #: blocks whatever the length [block]
    hold_unit: int  #: the same while a prompt is read [token]
    hold_weight: int  #: blocks [block]
    share: float = 1.0  #: of a prompt's tokens that are kept once it is read
    cap: int = ENDLESS  #: the most of them [token]
    evicts: bool = False  #: whether layers drop tokens they could still see

    @property
    def plain(self) -> bool:
        """Whether a prompt keeps all it reads, so that others can share it."""
        return not self.evicts and self.share == 1.0 and self.cap == ENDLESS and (self.unit, self.weight) == (
            self.hold_unit, self.hold_weight,
        )  # fmt: skip

    def blocks(self, prompt: int, length: int) -> int:
        """Return the blocks of a sequence of `length` tokens that began with a prompt. [block]"""
        kept = min(max(int(prompt * self.share), 1), self.cap) + length - prompt
        return -(-kept // self.unit) * self.weight + self.fixed


def memory_of(s: Server) -> LaneMemory:
    """Return the memory of a lane: of a data-parallel rank, and of a pipeline's turn its part."""
    case = Case(model=s.model, base=s.base, query=Query(context=s.prompt + round(s.output), output=round(s.output)),
                site=s.site)  # fmt: skip
    budget = case.budget(s.layout, s.parallel)
    paging, length = budget.paging, case.query.context
    grows: list[tuple[int, float]] = []
    holds: list[tuple[int, float]] = []
    fixed, share, cap = 0, 1.0, ENDLESS
    for count, spec in zip(paging.stacks, paging.specs, strict=True):
        keep, block = paging.pinned(spec), float(spec.block * paging.ranks * spec.group.keep.every)
        if spec.constant or keep.fixed is not None or keep.rest is not None or bounded(keep):
            fixed += count * paging.spec_blocks(spec, length)  # at the end of a usual request
            if keep.by_score:
                holds.append((count, block))
            continue
        holds.append((count, block))
        grows.append((count, block / float(keep.share) if keep.share else block))
        share = min(share, float(keep.prompt_share) if keep.prompt_share else 1.0)
        cap = min(cap, keep.prompt_budget or ENDLESS)
    (weight, unit), (hold_weight, hold_unit) = together(grows), together(holds)
    held = -(-s.prompt // hold_unit) * hold_weight + fixed
    beyond = max(case.peak(s.layout, s.parallel) - (held * budget.paging.block_bytes - paging.reserved(s.prompt)), 0.0)
    room = paging.slots(budget.kv_cache - beyond) // s.parallel.pipeline
    return LaneMemory(room=room, unit=unit, weight=weight, fixed=fixed, hold_unit=hold_unit, hold_weight=hold_weight,
                  share=share, cap=cap, evicts=any(x.group.keep.evicts for x in paging.specs))  # fmt: skip


def bounded(keep: Keep) -> bool:
    """Whether a sequence, however long, keeps no more than a number of tokens."""
    return keep.window is not None or keep.budget is not None


def together(parts: Sequence[tuple[int, float]]) -> tuple[int, int]:
    """Return (blocks, tokens after which a sequence takes them) of stacks of layers that take theirs side by side."""
    blocks = sum(count for count, _ in parts)
    rate = sum(count / tokens for count, tokens in parts)
    return (blocks, max(round(blocks / rate), 1)) if rate else (0, 1)


def steps_of(s: Server, extent: Extent) -> StepTable:
    """Return the times of one lane's steps over the contexts of the requests that come."""
    c = s.site.calibration
    most = sequences_of(s)
    machine = Machine(
        model=s.model, base=s.base, layout=s.layout, held=weights(s.model, s.site.weights), parallel=s.parallel,
        calibration=c, gain=tuple(gain(s, max(float(n), 1.0), c) for n in BATCHES) if s.speculation else (c.accepted,),
    )  # fmt: skip
    return step_table(machine, most, int(c.chunk), extent.shortest, max(extent.longest, extent.shortest + 1))


def sequences_of(s: Server) -> int:
    """Return how many sequences one lane runs at once."""
    most, _ = s.site.engine.limits(s.site.gpu)
    return max(most // s.parallel.pipeline, 1)


def lanes_of(s: Server, replicas: int) -> int:
    """Return the lanes of so many replicas, or of the server's prefill and decode replicas."""
    return (sum(s.split) if s.split else replicas) * s.ranks


def shelves_of(s: Server, memory: LaneMemory, names: Sequence[str], lanes: int) -> tuple[Shelf, ...]:
    """Return tiers as a lane sees them: its part of their room, and its GPUs' links to them side by side."""
    gpus = s.parallel.tensor * s.parallel.pipeline
    token = s.layout.stored(s.prompt) / s.prompt

    def shelf(tier: Tier) -> Shelf:
        tokens = tier.room * s.parallel.gpus / s.ranks / token * (lanes if tier.common else 1)
        seconds = token / (bandwidth(tier, s.site.gpu.name) * gpus)
        return Shelf(name=tier.name, room=int(tokens / memory.unit * memory.weight), seconds=seconds,
                     common=tier.common)  # fmt: skip

    return tuple(shelf(tier) for name in names if (tier := s.site.tier(name)))


def shares_of(s: Server, extent: Extent, memory: LaneMemory, prefix_cache: bool) -> bool:
    """Return whether requests find prefixes of others."""
    return prefix_cache and extent.chain > 0 and memory.plain and s.layout.shared(s.prompt) > 0


def reload_of(s: Server) -> float:
    """Return how long a token of a preempted request takes back to a replica that only decodes; 0: read anew. [s/token]

    SGLang copies the cache of requests that a decode server retracts to the host, and back
    (https://github.com/sgl-project/sglang/pull/34801, 2026-08); vLLM V1 recomputes (https://docs.vllm.ai, Preemption).
    """
    if not s.split or s.site.engine.name not in RELOADING:
        return 0.0
    each = s.layout.stored(s.prompt) / s.prompt / (s.parallel.tensor * s.parallel.pipeline)
    return each / bandwidth(TIERS["cpu"], s.site.gpu.name)


def rules_of(
    s: Server, extent: Extent, memory: LaneMemory, steps: StepTable, *, replicas: int, router: str, bin: float,
    bins: int, tiers: int = 0, concurrency: int = 0, prefix_cache: bool = True, leaping: bool = True,
) -> Ruleset:  # fmt: skip
    """Return the rules of a simulation of so many replicas, or of the server's prefill and decode replicas.

    `concurrency` is how many requests of a closed loop are in flight, 0 for arrivals as they are.
    """
    c = s.site.calibration
    lanes, poll = lanes_of(s, replicas), float(c.poll)
    if concurrency:
        poll = among(poll, slots_of(s, memory, lanes, concurrency))
    sharing = shares_of(s, extent, memory, prefix_cache)
    whole = s.layout.stored(s.prompt) / s.prompt / (s.parallel.tensor * s.parallel.pipeline)
    return Ruleset(
        lanes=lanes, readers=s.split[0] * s.ranks if s.split else 0, chunk=int(c.chunk),
        most=sequences_of(s), mixed=int(bool(c.mixes)), leaping=int(leaping), closed=int(concurrency > 0),
        router=ROUTERS[router], room=memory.room, unit=memory.unit, weight=memory.weight, fixed=memory.fixed,
        share=memory.share, cap=memory.cap, hold_unit=memory.hold_unit, hold_weight=memory.hold_weight,
        reserving=int(s.site.engine.name in RESERVING), sharing=int(sharing),
        width=max(extent.chain, 1), priorities=int(extent.ranked),
        overhead=float(receiving(c, s.prompt)), occupied=0.0, poll=poll, interval=1,
        looks=remembered(poll),
        transfer=float(whole / c.link), tiers=tiers * sharing, reload=reload_of(s), cell=CELL,
        sizes=len(steps.grid), bin=bin, bins=bins,
    )  # fmt: skip


def slots_of(s: Server, memory: LaneMemory, lanes: int, concurrency: int) -> float:
    """Return the requests of a closed loop that run on one lane at a time: a lane's part, or as many as it holds."""
    held = memory.blocks(s.prompt, s.prompt + round(s.output))
    return max(min(concurrency / lanes, sequences_of(s), memory.room // max(held, 1)), 1.0)


def parting_of(s: Server, extent: Extent, memory: LaneMemory, r: Ruleset, concurrency: int) -> float:
    """Return by how much the first answers of a closed loop are shorter at most; 0: of no other requests. [token]"""
    if not concurrency or r.readers or extent.requests <= concurrency:  # no others come later
        return 0.0
    c, slots = s.site.calibration, slots_of(s, memory, r.lanes, concurrency)
    return parting(c, slots=slots, prompt=extent.prompt, output=extent.output, spread=extent.uneven,
                   poll=float(c.poll))  # fmt: skip


def closed_span(
    s: Server, extent: Extent, memory: LaneMemory, steps: StepTable, lanes: int, concurrency: int
) -> float:  # fmt: skip
    """Return about how long the requests of a closed loop take, whose times nobody knows before. [s]

    In a cycle each of a lane's requests decodes its answer, and the prompts of all are read.
    """
    slots = min(slots_of(s, memory, lanes, concurrency), max(extent.requests / lanes, 1.0))
    n, sizes = int(slots), len(steps.grid)
    step = steps.base[n] + steps.slope[n] * n * (extent.prompt + extent.output / 2)
    prompt = steps.more[(n + 1) * sizes - 1] * extent.prompt / steps.grid[-1]
    return (extent.output * step + slots * prompt) * max(extent.requests / min(slots * lanes, concurrency), 1.0)


def holding(s: Server, extent: Extent) -> Server:
    """Return the server on a replica that holds the longest request; Incompatible where none does."""
    output = max(round(s.output), 1)
    case = Case(
        model=s.model,
        base=s.base,
        site=s.site,
        query=Query(context=extent.longest, output=min(output, extent.longest - 1)),
    )
    if case.sequences(s.layout, s.parallel):
        return s
    row = evaluate(case, s.technique)
    if row.parallel is None or row.reason:
        raise Incompatible(f"the longest request has {extent.longest:,} tokens: {row.reason}")
    return replace(s, parallel=row.parallel, room=row.sequences, slots=row.batch)
