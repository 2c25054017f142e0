"""What a candidate comes to as a plan, and which of several is better."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from operator import itemgetter
from typing import Any

import numpy as np

from kvplan.errors import SpecError, meant, shown
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.planning.demand import Demand
from kvplan.planning.searching.configurations import Configuration, Pair, cached_tokens
from kvplan.planning.searching.crowd import Crowd
from kvplan.planning.searching.search import Candidates, least_usd, limited
from kvplan.planning.site import OBJECTIVES
from kvplan.planning.speculation import Drafting
from kvplan.quality.results import Quality
from kvplan.quality.weights import with_weights
from kvplan.specs.quality import TASKS
from kvplan.units import show_percent

Array = Any
#: costs this share apart count as equal: prices and times are not known better
TIE = 0.01
#: odds this far apart count as equal: they are compared in whole percent, and a point may be what rounding leaves
RESOLVED = 0.01
#: replicas from which on there are numbers between those of two loads
BETWEEN = 3
#: of other objectives, what rounding leaves
SAME = 1e-9


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to serve the workload."""

    technique: str  #: in its one spelling
    gpu: str  #: name of the GPU
    #: weight format, None for the checkpoint's own
    form: str | None
    parallel: Parallel  #: the ranks of one replica
    #: requests that one replica runs at once under its part of the load
    in_flight: int
    replicas: int  #: replicas that serve, spares included
    #: GPUs of all replicas
    gpus: int
    #: times at the percentile of the limits [s]
    ttft: float
    tpot: float  #: [s/token]
    e2e: float  #: from arrival to the last token [s]
    #: mean times [s]
    mean_ttft: float
    mean_tpot: float  #: [s/token]
    #: cost of a query, None without a price [USD]
    usd: float | None
    #: time of a GPU at work that a query takes [s]
    gpu_seconds: float
    #: energy of a query, idle GPUs included, None where unknown [J]
    joules: float | None
    #: share of busy time that prefill takes
    prompt_share: float
    quality: Quality  #: expected loss, weights and cache together
    #: share of the input tokens found in the prefix cache, evicted prefixes left out
    cached_share: float
    #: probability that the latency limits are kept
    slo_probability: float
    #: the engine that serves it, and whether it serves the technique
    engine: str
    served_by_engine: bool  #: whether the engine serves the technique
    #: whether servers on this GPU were measured
    grounded: bool = True
    rated: bool = True  #: whether it may be recommended unasked
    #: factor on the cost while GPUs are compared, above 1 where its price rests on one offer
    margin: float = 1.0
    drafting: Drafting | None = None  #: how it decodes speculatively, None where it does not

    @property
    def weighed(self) -> float | None:
        """Cost of a query as plans are compared by it, None without a price. [USD]"""
        return None if self.usd is None else self.usd * self.margin

    @property
    def weights(self) -> str | None:
        """Its weight format, None for the checkpoint's own: `form` under the name that it is asked for by."""
        return self.form

    @property
    def pair(self) -> Pair:
        """Its technique and its weight format."""
        return self.technique, self.form

    def answered(self, output: float) -> float:
        """Return the mean time until a whole answer of so many tokens is there. [s]"""
        return self.mean_ttft + self.mean_tpot * output

    @property
    def label(self) -> str:
        """The plan in a few words: 'fp8 cache on 2 x tp4 b200'."""
        weights = f", {self.form} weights" if self.form else ""
        drafts = f", {self.drafting.words}" if self.drafting else ""
        return f"{spelling.in_words(self.technique)} on {self.replicas} x {self.parallel} {self.gpu}{weights}{drafts}"


@dataclass(frozen=True, kw_only=True)
class Best:
    """What plans are equal to: those within TIE of the least cost and, of them, those within RESOLVED of the surest."""

    least: float = 0.0  #: the least of the objective
    surest: float = 1 + RESOLVED  #: the best odds of keeping the limits at that cost: of one alone, all are apart

    def sure(self, probability: Array) -> Array:
        """Return odds as plans are compared by them: what is less than RESOLVED below the surest is as sure."""
        return np.minimum(np.round(probability, 2), round(self.surest - RESOLVED, 2))


def rank(objective: str, best: Best = Best()) -> Any:
    """Return the order of plans under an objective; costs within TIE of the least one count as equal.

    Of equals those whose loss of quality is known come first, then the surer, where odds can tell, then the simpler:
    uncompressed, with the checkpoint's weights, on fewer GPUs, with less loss.
    """
    tied = best.least * (1 + TIE)
    keys: dict[str, Any] = {
        "cost": lambda p: (p.usd is None, p.weighed if p.weighed and p.weighed > tied else 0.0),
        "energy": lambda p: (p.joules is None, p.joules or 0.0),
        "gpus": lambda p: (p.gpus, inf if p.usd is None else p.usd),
        "latency": lambda p: (p.e2e, inf if p.usd is None else p.usd),
    }
    if objective not in keys:
        instead = meant(objective, OBJECTIVES)
        raise SpecError(f"objective: write one of {', '.join(OBJECTIVES)}, got {shown(objective)}{instead}")
    first: Any = keys[objective]

    def key(p: Plan) -> Any:
        simple = (p.technique != spelling.BASELINE, p.form is not None, p.drafting is not None, p.gpus, lost(p))
        rest = (p.usd or 0.0, -p.slo_probability, p.ttft, p.technique, p.form or "", p.gpu)
        return (*first(p), p.quality.drop is None, -float(best.sure(p.slo_probability)), *simple, *rest)

    return key


def surely(probability: Array) -> Array:
    """Return a probability in whole percent."""
    return np.round(probability, 2)


def lost(p: Plan) -> float:
    """Return the quality a plan loses, infinite where that is unknown."""
    return inf if p.quality.drop is None else p.quality.drop


def admits(demand: Demand, technique: str) -> bool:
    """Return whether a technique may be planned with: the engine serves it on this cache, or any is asked for."""
    return demand.limits.any_technique or spelling.served_by(technique, demand.engine, demand.base)


def bar(demand: Demand, quality: Quality, technique: str) -> str:
    """Return why a plan may not be used, '' when it may: its quality, or an engine that does not serve it."""
    limit = demand.limits.quality
    if limit is not None and not quality.within(limit):
        if quality.drop is None:
            return f"its quality loss is unknown ({quality.basis}), so no quality limit can be kept"
        task = TASKS[quality.task].title
        return f"it loses {show_percent(quality.drop, 1)} on {task}, more than {show_percent(limit, 1)}"
    engine = demand.engine
    if not admits(demand, technique):
        where = " on latent (MLA) caches" if spelling.served_by(technique, engine) else ""
        return f"{engine.title} does not serve it{where}; use any_technique=True to plan with it"
    return ""


@dataclass(frozen=True)
class Book:
    """What turns a candidate into a plan: what techniques and weight formats lose (a format not named: nothing)."""

    demand: Demand  #: what is to be served
    qualities: Mapping[str, Quality]  #: technique -> its loss
    formats: Mapping[str | None, Quality] = field(default_factory=dict)  #: weight format -> its loss

    def quality(self, pair: Pair) -> Quality:
        """Return what a technique and a weight format lose together."""
        technique, form = pair
        kept = self.qualities[technique]
        return with_weights(kept, self.formats[form]) if form in self.formats else kept

    def barred(self, pairs: Iterable[Pair], demand: Demand | None = None) -> dict[Pair, str]:
        """Return the pairs that may not be used under the demand's limits, and why."""
        wanted = demand or self.demand
        return {pair: why for pair in pairs if (why := bar(wanted, self.quality(pair), pair[0]))}

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

    def least(self, candidates: Iterable[Candidates], pairs: Collection[Pair], objective: str) -> float:
        """Return the least of an objective over all feasible candidates of some pairs, infinite without one."""
        scores = (np.where(one.feasible & one.of(pairs), self.score(one, objective), np.inf) for one in candidates)
        return min((float(s.min()) for s in scores if s.size), default=inf)

    def standard(self, candidates: Sequence[Candidates], pairs: Collection[Pair], objective: str) -> Best:
        """Return what plans are equal to under an objective: the best of feasible candidates of some pairs."""
        least = self.least(candidates, pairs, objective)
        if objective != "cost" or not np.isfinite(least):
            return Best(least=least)
        known = [pair for pair in pairs if self.quality(pair).drop is not None]
        for some in (known, pairs):
            odds = [
                float(one.sure[at].max())
                for one in candidates
                if (at := one.feasible & one.of(some) & (self.score(one, objective) <= least * (1 + TIE))).any()
            ]
            if odds:
                return Best(least=least, surest=max(odds))
        return Best(least=least)

    def choices(
        self, candidates: Sequence[Candidates], pairs: Iterable[Pair], objective: str, best: Best | None = None
    ) -> list[Plan]:
        """Return the best plan of each pair on each GPU, the best first."""
        tried = list(pairs)
        standard = best or self.standard(candidates, tried, objective)
        plans = [
            p for one in candidates for pair in tried if (p := self.best(one, pair, objective, standard)) is not None
        ]
        return sorted(plans, key=rank(objective, standard))

    def under(
        self, demand: Demand, candidates: Sequence[Candidates], pairs: Iterable[Pair], objective: str,
        exactly: bool = False,
    ) -> Plan | None:  # fmt: skip
        """Return the best plan under other limits, of candidates that were worked out for these of the book.

        Exactly: with the replicas that those limits ask for, on the GPU where it is best with those of the candidates.
        """
        tried = list(pairs)
        plans = self.choices([one.under(demand) for one in candidates], tried, objective)
        if not plans or not exactly or plans[0].replicas - demand.spares < BETWEEN:
            return plans[0] if plans else None
        there = [limited(demand, one.crowd) for one in candidates if one.site.gpu.name == plans[0].gpu]
        again = replace(self, demand=demand).choices(there, tried, objective)
        return min((*again[:1], plans[0]), key=rank(objective))

    def under_load(self, crowds: Iterable[Crowd], pairs: Iterable[Pair], objective: str) -> Plan | None:
        """Return the best plan where another load comes to GPUs, None without one.

        The times of a GPU are left out where not even the replicas that its requests fill cost as little as a plan that
        was found.
        """
        tried, found, least = list(pairs), list[Candidates](), inf
        bounds = [(least_usd(self.demand, one, tried) if objective == "cost" else 0.0, one) for one in crowds]
        for bound, crowd in sorted(bounds, key=itemgetter(0)):
            if bound < inf and bound <= least * (1 + TIE):
                found.append(limited(self.demand, crowd))
                least = min(least, self.least(found[-1:], tried, objective))
        plans = self.choices(found, tried, objective)
        return plans[0] if plans else None

    def serves(self, one: Candidates, pairs: Collection[Pair], objective: str) -> bool:
        """Return whether any of some pairs has a plan on a GPU."""
        able = one.feasible & one.of(pairs)
        if not able.any() or (objective == "cost" and one.site.cost is None):
            return False
        return bool(np.isfinite(self.score(one, objective)[able]).any())

    def best(self, one: Candidates, pair: Pair, objective: str, standard: Best = Best()) -> Plan | None:
        """Return the best feasible plan of a pair on a GPU, None without one; what equals the `standard` is alike."""
        if objective == "cost" and one.site.cost is None:
            return None
        i, j = np.nonzero(one.feasible & one.of((pair,)))
        if not len(i):
            return None
        score = self.score(one, objective)[i, j]
        lowest = float(score.min())
        if not np.isfinite(lowest):
            return None
        near = TIE if objective == "cost" else SAME
        if not standard.least <= lowest <= standard.least * (1 + near):
            standard = Best(least=lowest, surest=float(one.sure[i, j][score <= lowest * (1 + near)].max()))
        k = np.flatnonzero(score <= standard.least * (1 + near))
        gpus, sure = one.gpus[i, j][k], one.sure[i, j][k]
        drafts = one.grid.drafting[i[k]]
        order = np.lexsort((-sure, score[k], gpus, drafts, -standard.sure(sure) if objective == "cost" else gpus))
        return self.plan(one, int(i[k[order[0]]]), int(j[k[order[0]]]))

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
            in_flight=int(one.running[i, j]),
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
            quality=self.quality(shape.pair),
            cached_share=float(one.cached[i, j]),
            slo_probability=float(one.sure[i, j]),
            grounded=one.site.calibration.grounded,
            rated=one.site.rated,
            margin=one.site.margin,
            drafting=shape.drafting,
            engine=self.demand.engine.name,
            served_by_engine=spelling.served_by(shape.technique, self.demand.engine, self.demand.base),
        )


def configuration_of(demand: Demand, plan: Plan) -> Configuration:
    """Return the shape a plan was made of."""
    layout = spelling.apply(plan.technique, demand.base)
    cached = cached_tokens(demand, layout)
    return Configuration(
        technique=plan.technique, form=plan.form, parallel=plan.parallel, layout=layout, cached=cached,
        drafting=plan.drafting,
    )  # fmt: skip


def row_of(one: Candidates, plan: Plan) -> int:
    """Return which row of the candidates on its GPU a plan is from."""
    mine = (plan.technique, plan.form, plan.parallel, plan.drafting)
    shapes = ((s.technique, s.form, s.parallel, s.drafting) for s in one.grid.configurations)
    return next(k for k, shape in enumerate(shapes) if shape == mine)


def first_of(plans: Iterable[Plan], what: Callable[[Plan], Hashable]) -> tuple[Plan, ...]:
    """Return the first plan of each kind, in order."""
    kept: dict[Hashable, Plan] = {}
    for p in plans:
        kept.setdefault(what(p), p)
    return tuple(kept.values())


def runners_up(able: Sequence[Plan], plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return, of plans in order, the best that may be used on every GPU, and of every technique and weight format."""
    kept = {*first_of(able, lambda p: p.gpu), *first_of(plans, lambda p: p.pair)}
    return tuple(p for p in plans if p in kept)


def marks(p: Plan) -> tuple[float, float, float]:
    """Return what makes a plan good, each the better the smaller: cost [USD], loss of quality, latency [s]."""
    return (inf if p.usd is None else p.usd, lost(p), p.e2e)


def beats(o: Plan, p: Plan) -> bool:
    """Return whether a plan is at least as good as another in cost, quality and latency, and better in one."""
    return marks(o) != marks(p) and all(a <= b for a, b in zip(marks(o), marks(p), strict=True))


def front(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return the plans that no other one beats."""
    return tuple(sorted((p for p in plans if not any(beats(o, p) for o in plans)), key=marks))
