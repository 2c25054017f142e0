"""What a candidate comes to as a plan, and which of several is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from kvplan.errors import SpecError, shown
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.planning.demand import Demand
from kvplan.planning.search import GPUS, Candidates, Configuration, cached_tokens
from kvplan.planning.site import OBJECTIVES
from kvplan.quality.loss import Quality

Array = Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to serve the workload."""

    technique: str
    gpu: str
    #: weight format, None for the checkpoint's own
    form: str | None
    parallel: Parallel
    #: requests in flight on one replica
    in_flight: int
    replicas: int
    #: GPUs of all replicas
    gpus: int
    #: times at the percentile of the limits [s]
    ttft: float
    tpot: float
    e2e: float
    #: mean times [s]
    mean_ttft: float
    mean_tpot: float
    #: cost of a query, None without a price [USD]
    usd: float | None
    #: time of a GPU at work that a query takes [s]
    gpu_seconds: float
    #: energy of a query, idle GPUs included, None where unknown [J]
    joules: float | None
    #: share of busy time that prefill takes
    prompt_share: float
    quality: Quality
    #: probability that the latency limits are kept
    slo_probability: float
    #: whether the engine serves the technique
    served_by_engine: bool
    #: whether servers on this GPU were measured
    grounded: bool = True
    #: factor on the cost while GPUs are compared, above 1 where its price rests on one offer
    margin: float = 1.0

    @property
    def weighed(self) -> float | None:
        """Cost of a query as plans are compared by it, None without a price. [USD]"""
        return None if self.usd is None else self.usd * self.margin

    @property
    def label(self) -> str:
        """The plan in a few words: 'fp8 on 2 x tp4 b200'."""
        weights = f", {self.form} weights" if self.form else ""
        return f"{self.technique} on {self.replicas} x {self.parallel} {self.gpu}{weights}"


def rank(objective: str) -> Any:
    """Return the order of plans under an objective; of equals fewer GPUs, less quality lost, surer, then faster."""
    keys: dict[str, Any] = {
        "cost": lambda p: (p.usd is None, p.weighed or 0.0),
        "energy": lambda p: (p.joules is None, p.joules or 0.0),
        "gpus": lambda p: (p.gpus, inf if p.usd is None else p.usd),
        "latency": lambda p: (p.e2e, inf if p.usd is None else p.usd),
    }
    if objective not in keys:
        raise SpecError(f"objective: write one of {', '.join(OBJECTIVES)}, got {shown(objective)}")
    first: Any = keys[objective]
    return lambda p: (*first(p), p.gpus, lost(p), -p.slo_probability, p.ttft, p.technique, p.gpu)


def lost(p: Plan) -> float:
    """Return the quality a plan loses, infinite where that is unknown."""
    return inf if p.quality.drop is None else p.quality.drop


@dataclass(frozen=True)
class Book:
    """What turns a candidate into a plan."""

    demand: Demand
    qualities: Mapping[str, Quality]

    def score(self, one: Candidates, objective: str) -> Array:
        """Return what an objective makes small, for every candidate."""
        if objective == "energy":
            return self.joules(one)
        return {"cost": one.usd * one.site.margin, "gpus": one.gpus + 0.0, "latency": one.e2e}[objective]

    def joules(self, one: Candidates) -> Array:
        """Return the energy of the GPUs for a query, waiting ones included. [J]"""
        draw = one.site.draw
        if draw is None:
            return np.full(one.usd.shape, np.inf)
        paid = one.site.cost.whole(one.gpus) if one.site.cost else one.gpus
        waiting = np.maximum(paid / self.demand.mean - one.gpu_seconds, 0.0)
        return draw.query(one.gpu_seconds, one.served.busy, waiting)

    def best(self, one: Candidates, technique: str, objective: str) -> Plan | None:
        """Return the best feasible plan of a technique on a GPU, None without one."""
        mask = one.feasible & one.of((technique,))
        if objective == "cost" and one.site.cost is None:
            return None
        if not mask.any():
            return None
        score = np.where(mask, self.score(one, objective), np.inf)
        if not np.isfinite(score.min()):
            return None
        ties = np.where(score <= score.min() * (1 + 1e-9), one.gpus + 1.0 - one.sure, np.inf)
        i, j = np.unravel_index(np.argmin(ties), ties.shape)
        return self.plan(one, int(i), int(j))

    def plan(self, one: Candidates, i: int, j: int) -> Plan:
        """Return the candidate at (configuration, load) as a plan."""
        shape: Configuration = one.grid.configurations[i]
        served = one.served
        ttft, tpot = float(one.ttft[i, j]), float(one.tpot[i, j])
        joules = float(self.joules(one)[i, j])
        return Plan(
            technique=shape.technique,
            gpu=one.site.gpu.name,
            form=shape.form,
            parallel=shape.parallel,
            in_flight=int(one.requests[i, j]),
            replicas=int(one.replicas[i, j]) + self.demand.spares,
            gpus=int(one.gpus[i, j]),
            ttft=ttft,
            tpot=tpot,
            e2e=float(one.e2e[i, j]),
            mean_ttft=float(served.ttft[i, j]),
            mean_tpot=float(served.tpot[i, j]),
            usd=float(one.usd[i, j]) if np.isfinite(one.usd[i, j]) else None,
            gpu_seconds=float(one.gpu_seconds[i, j]),
            joules=joules if np.isfinite(joules) else None,
            prompt_share=float(served.busy[i, j]),
            quality=self.qualities[shape.technique],
            slo_probability=float(one.sure[i, j]),
            grounded=one.site.calibration.grounded,
            margin=one.site.margin,
            served_by_engine=spelling.served_by(shape.technique, self.demand.engine.name),
        )


def configuration_of(demand: Demand, plan: Plan) -> Configuration:
    """Return the shape a plan was made of."""
    layout = spelling.apply(plan.technique, demand.base)
    cached = cached_tokens(demand, layout)
    return Configuration(technique=plan.technique, form=plan.form, parallel=plan.parallel, layout=layout, cached=cached)


def row_of(one: Candidates, plan: Plan) -> int:
    """Return which row of the candidates on its GPU a plan is from."""
    mine = (plan.technique, plan.form, plan.parallel)
    return next(k for k, s in enumerate(one.grid.configurations) if (s.technique, s.form, s.parallel) == mine)


def loads_of(one: Candidates, plan: Plan) -> tuple[tuple[int, float], ...]:
    """Return (requests in flight, seconds each takes) where a plan's replica keeps the latency limits."""
    i = row_of(one, plan)
    keeps = one.fits[i].copy()
    for name, met in one.meets.items():
        keeps &= met[i] | (name == GPUS)
    return tuple((int(n), float(s)) for n, s, ok in zip(one.requests[i], one.served.cycle[i], keeps, strict=True) if ok)


def runners_up(plans: Sequence[Plan]) -> list[Plan]:
    """Return the best other plan of every technique and of every GPU, in order."""
    kept, techniques_seen, gpus_seen = [], set(), set()
    for p in plans:
        if p.technique not in techniques_seen or p.gpu not in gpus_seen:
            kept.append(p)
        techniques_seen.add(p.technique)
        gpus_seen.add(p.gpu)
    return kept


def front(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return the plans no other is at least as good as in cost, quality and latency, and better in one."""

    def marks(p: Plan) -> tuple[float, float, float]:
        return (inf if p.usd is None else p.usd, lost(p), p.e2e)

    def beaten(p: Plan) -> bool:
        mine = marks(p)
        return any(all(a <= b for a, b in zip(marks(o), mine, strict=True)) and marks(o) != mine for o in plans)

    return tuple(sorted((p for p in plans if not beaten(p)), key=marks))
