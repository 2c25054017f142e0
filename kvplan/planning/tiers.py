"""Tiers for a workload's prefixes: what they hold, how often a prefix is found there, and what it costs to keep it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.kv.tiers import TIERS, Tier, bandwidth
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.prompts import kept_prefixes
from kvplan.planning.replica import Case
from kvplan.planning.reuse import Chain, found_again
from kvplan.specs.workload import Workload
from kvplan.units import MONTH

GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A tier on one replica, under the workload's busiest hour at the replica's load."""

    name: str  #: gpu, cpu, ssd or remote
    title: str  #: as reports print it
    room: float  #: bytes that prefixes may take there or before it, where what a tier holds is held there too [B]
    found: float  #: share of the shared prefixes that are still there when they are asked for, of 1
    transfer: float | None  #: of one prefix to the GPUs, None where it is there [s]
    hit: float  #: TTFT of a question to a prefix that is found, alone [s]
    miss: float  #: TTFT of one that is computed again, alone [s]
    month: float | None  #: of the tier's room, None where it is the GPU's own, 0 where its price includes it [USD]
    #: time for which keeping a prefix costs less than computing it again, None where one has no price [s]
    worth: float | None
    engines: str  #: that serve it
    basis: str  #: what the figures of the tier rest on
    by: str = "Che"  #: what says how often a prefix is found: Che's approximation, or a trace


def tiers(case: Case, workload: Workload, row: Evaluation, trace: Sequence[Chain] | None = None) -> tuple[Waiting, ...]:
    """Return the tiers of a row's replica, each with those before it; () where no prefix is shared.

    What is read is written to every tier (`offloaded`): the largest up to one is the room, not their sum.

    A prefix is found by Che's approximation (`kept_prefixes`), at as many questions as the replica answers when full;
    or as often as the prefixes of a `trace` are, all of whose requests come to the replica.
    """
    share = workload.prefix_share
    if not share or row.parallel is None or row.layout is None or row.lone is None or row.budget is None:
        return ()
    prefix = round(case.query.prompt * share)
    size = row.layout.shared(prefix)
    if not size:
        return ()
    traffic = _PrefixTraffic(
        case=case,
        workload=workload,
        gpus=row.parallel.gpus,
        rate=1 / row.query_seconds,
        sequence=row.layout.stored(row.context),
        size=size,
        miss=row.lone.ttft,
    )
    room = max(row.sequences - row.batch, 0) * traffic.sequence
    levels = [_waiting(None, room, traffic)]
    for tier in filter(None, map(case.site.tier, TIERS)):
        room = max(room, tier.room * traffic.gpus)
        levels.append(_waiting(tier, room, traffic))
    if trace is None:
        return tuple(levels)
    token = size / prefix
    shares, _ = found_again(trace, [w.room / token for w in levels])
    return tuple(replace(w, found=each, by="trace") for w, each in zip(levels, shares, strict=True))


@dataclass(frozen=True, kw_only=True)
class _PrefixTraffic:
    """What a full replica asks of its tiers: the questions that come to it, and the prefixes they share."""

    case: Case  #: the model, query and site
    workload: Workload  #: whose prefixes they are
    gpus: int  #: of the replica
    rate: float  #: questions answered a second [1/s]
    sequence: float  #: cache of a whole sequence [B]
    size: float  #: cache of a shared prefix [B]
    miss: float  #: TTFT of a question whose prefix is computed again, alone [s]

    @property
    def computing(self) -> float:
        """What computing a prefix again costs, 0 where the GPU has no price. [USD]"""
        price = self.case.site.price
        return self.miss * self.workload.prefix_share * self.gpus * (price.price if price else 0.0)


def _waiting(tier: Tier | None, room: float, t: _PrefixTraffic) -> Waiting:
    """Return a tier that has, with those before it, `room` bytes for prefixes; the GPU's own for None."""
    speed = bandwidth(tier, t.case.site.gpu.name) * t.gpus if tier else 0.0
    transfer = t.size / speed if speed else None
    usd = tier.usd if tier else 0.0
    return Waiting(
        name=tier.name if tier else "gpu",
        title=tier.title if tier else "GPU memory",
        room=room,
        found=float(kept_prefixes(t.workload, room=room / t.sequence, rate=t.rate)),
        transfer=transfer,
        hit=(transfer or 0.0) + t.miss * (1 - t.workload.prefix_share),
        miss=t.miss,
        month=tier.room * t.gpus / GB * usd if tier else None,
        worth=t.computing / (t.size / GB * usd / MONTH) if tier and t.computing and usd else None,
        engines=tier.engines if tier else "all",
        basis=str(tier.source) if tier else "what the running requests leave of the engine's pool",
    )
