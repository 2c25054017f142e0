"""From a workload to one plan: the cheapest candidate that keeps every limit, with reasons and a range.

`search` gives every candidate as arrays, `plans` the best of each technique and GPU; here one is chosen and the others
are told why they were not. `hosting` bills it, `sensitivity` moves it about, `reasons` explains it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvplan.money.api import BreakEven
from kvplan.money.bill import Bill
from kvplan.planning.confirm import Confirmation
from kvplan.planning.demand import Demand
from kvplan.planning.hosting import Tenure, bill_of, energy_of, volumes_of
from kvplan.planning.launch import Launch, Needs, launch, needs
from kvplan.planning.outcome import Rejected, SearchOutcome, search_all
from kvplan.planning.plan import TIE, Best, Book, Plan, front, rank, runners_up, surely
from kvplan.planning.promise import Promise, promise
from kvplan.planning.reasons import Decision, why
from kvplan.planning.remedies import Impasse, Remedy, no_room, remedies
from kvplan.planning.remedies import reason as reason_of
from kvplan.planning.searching.crowd import Crowd
from kvplan.planning.searching.search import Candidates, Progress
from kvplan.planning.sensitivity import CostRange, Swing
from kvplan.planning.site import Site
from kvplan.quality.results import Quality
from kvplan.specs.line import Line
from kvplan.specs.money import ApiPrice
from kvplan.specs.result import Result
from kvplan.units import MONTH, show_usd

#: why nothing can be planned
NONE_APPLIES = "no technique can be applied to this model"
#: changes that a message names
REMEDIES = 3


@dataclass(frozen=True, kw_only=True)
class Recommendation(Result, of="recommend"):
    """The answer and all that stands behind it.

    `front` is not beaten in all of cost, quality and latency. `warnings` are what the reader must know first,
    `remedies` the changes that make a plan possible where there is none, `smooth` is what a query would cost with
    Poisson arrivals [USD].
    """

    demand: Demand  #: what is to be served, and its limits
    objective: str  #: what plans are ranked by
    plan: Plan | None  #: the best, None where no plan keeps the limits
    site: Site | None  #: the plan's GPU with its rates and prices
    bill: Bill | None  #: what is paid for, None without a price
    #: cost of a query: P10, with every input at its middle as the bill has it, and P90 [USD]
    usd: tuple[float, float, float] | None
    alternatives: tuple[Plan, ...]  #: other plans, the best first
    rejected: tuple[Rejected, ...]  #: what cannot be used, and why
    why: tuple[str, ...]  #: the reasons for the plan, as sentences
    front: tuple[Plan, ...]  #: plans not beaten in all of cost, quality and latency
    swings: tuple[Swing, ...]  #: what moves the cost of a query, the most first
    break_even: tuple[tuple[ApiPrice, BreakEven], ...]  #: APIs, and the volumes at which they cost the same
    tried: int  #: candidates that were searched
    #: why there is no plan, '' where there is one
    cause: str = ""
    warnings: tuple[str, ...] = ()  #: what the reader must know first
    day: str = ""  #: day of the prices, as in 2026-11-24
    energy: tuple[Line, ...] = ()  #: energy of a query by line [J]
    #: what the same plan costs under other terms, and what APIs charge
    terms: tuple[Tenure, ...] = ()
    remedies: tuple[Remedy, ...] = ()  #: changes that make a plan possible or sure enough, the cheapest first
    #: the probability that was sought, where no plan reaches it and the surest is given
    sought: float | None = None
    #: the plan that is a step surer where this one is less sure than was sought, None where none is
    surer: Plan | None = None
    median: float | None = None  #: median of draws of the cost of a query, None without a price [USD]
    smooth: float | None = None  #: cost of a query with Poisson arrivals, None where unknown [USD]
    launch: Launch | None = None  #: how the plan's replicas are started, None where that is not known
    needs: Needs | None = None  #: what any engine must be told to serve the plan
    promise: Promise | None = None  #: the load of a replica for which the limits are kept
    #: GPUs that were asked about by name
    named: int = 0
    #: the same question asked of every engine that was tried, where several were
    engines: tuple["Recommendation", ...] = ()
    #: the same question with other values
    variations: tuple["Variation", ...] = ()
    #: what simulations say of the best plan and the runner-up, where they were asked for
    confirmed: tuple[Confirmation, ...] = ()

    @property
    def per_query(self) -> float | None:
        """What a query costs with the plan, None without one or without a price. [USD]"""
        return self.plan.usd if self.plan else None

    @property
    def lacking(self) -> str:
        """Why there is no plan and what to write instead, '' where there is one."""
        return "" if self.plan else lacking(self)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A question with other values of some parameters, and its answer."""

    changed: tuple[tuple[str, object], ...]  #: (parameter, its value), as they were varied
    answer: Recommendation  #: the recommendation under them


def best_of(answers: Sequence[Recommendation]) -> Recommendation:
    """Return the best of the answers for several engines, which then holds them all."""
    if len(answers) == 1:
        return answers[0]
    planned = {id(r.plan): r for r in answers if r.plan is not None}
    plan = best_plan(answers[0].objective, [r.plan for r in planned.values() if r.plan is not None])
    best = answers[0] if plan is None else planned[id(plan)]
    return replace(best, engines=tuple(answers), tried=sum(r.tried for r in answers))


def best_plan(objective: str, plans: Sequence[Plan]) -> Plan | None:
    """Return the best of the plans for several engines, None without one."""
    least = min((plan.weighed for plan in plans if plan.weighed is not None), default=0.0)
    near = [plan.slo_probability for plan in plans if (plan.weighed or 0.0) <= least * (1 + TIE)]
    return min(plans, key=rank(objective, Best(least=least, surest=max(near, default=1.0))), default=None)


def recommend(
    demand: Demand,
    wanted: Sequence[str],
    sites: Sequence[Site],
    qualities: Mapping[str, Quality],
    *,
    objective: str = "cost",
    apis: Iterable[ApiPrice] = (),
    day: str = "",
    guesses: bool = True,
    absent: Mapping[str, str] | None = None,
    losses: Mapping[str | None, Quality] | None = None,
    unsearched: Mapping[str, str] | None = None,
    others: Sequence[Site] = (),
    progress: Progress | None = None,
) -> Recommendation:
    """Return the best plan under the limits, and why.

    `qualities` hold the loss of every wanted technique and of those that might do instead, `losses` that of weight
    formats; `unsearched` says why other formats were not tried, `absent` why other GPUs were not, and `others` are GPUs
    to look at where nothing else helps. Without `guesses` a GPU nobody measured is only an alternative: it is never
    fallen back on, or a looser limit could raise the cost. `progress` hears (share searched, what is next).
    """
    book = Book(demand, qualities, losses or {})
    outcome = search_all(demand, wanted, sites, book, objective, guesses, progress)
    if progress is not None:
        progress(1.0, f"{demand.engine.title}: the plan and the reasons for it")
    rejected = (
        *outcome.rejected(sites, unsearched or {}),
        *(Rejected(technique="", gpu=name, reason=reason) for name, reason in (absent or {}).items()),
    )
    if outcome.chosen is None:
        return unanswered(
            outcome, rejected, day, formats=tuple(unsearched or ()),
            techniques=[name for name in qualities if name not in wanted], sites=tuple(others),
            asked=tuple(sites),
        )  # fmt: skip
    return answered(outcome, outcome.chosen, rejected, day, apis)


def ranked(
    demands: Sequence[Demand], wanted: Sequence[str], sites: Sequence[Site], qualities: Mapping[str, Quality], *,
    objective: str = "cost", guesses: bool = True, losses: Mapping[str | None, Quality] | None = None,
) -> Iterator[tuple[Plan, ...]]:  # fmt: skip
    """Yield the plans of `recommend`, the best that may be chosen first, without the reasons for them.

    The demands differ in their load alone, so that what configurations come to is worked out once. None where no plan
    keeps the limits.
    """
    first = search_all(demands[0], wanted, sites, Book(demands[0], qualities, losses or {}), objective, guesses)
    for outcome in (first, *(first.at_load(demand) for demand in demands[1:])):
        best = outcome.chosen
        others = () if best is None else runners_up(outcome.able, outcome.plans)
        yield () if best is None else (best, *(p for p in others if p is not best))


def unanswered(s: SearchOutcome, rejected: Sequence[Rejected], day: str, **others: Any) -> Recommendation:
    """Return the answer where no plan keeps the limits: why, and what would make one possible; `others` to try."""
    impasse = Impasse(
        demand=s.demand, book=s.book, candidates=s.candidates, pairs=s.pairs,
        barred=[pair for pair in s.shown if pair in s.barred], objective=s.objective, guesses=s.guesses, **others,
    )  # fmt: skip
    return Recommendation(
        demand=s.demand, objective=s.objective, plan=None, site=None, bill=None, usd=None,
        alternatives=runners_up(s.able, s.plans), rejected=tuple(rejected), why=(), front=front(s.allowed), swings=(),
        break_even=(), tried=s.count, day=day, remedies=remedies(impasse), cause=cause(impasse),
    )  # fmt: skip


def answered(
    s: SearchOutcome, plan: Plan, rejected: Sequence[Rejected], day: str, apis: Iterable[ApiPrice]
) -> Recommendation:
    """Return the answer with a plan: its bill, its range, and the reasons."""
    decision = Decision(outcome=s, plan=plan)
    demand, site = s.demand, decision.home.site
    bill, meant = bill_of(demand, plan, site), CostRange(demand, plan, site)
    searched = (s.rated, s.pairs) if s.objective == "cost" else None
    volumes = volumes_of(demand, plan, bill, ((plan.in_flight, cycle_of(plan)),), apis, day, searched)
    smooth = smooth_cost(decision)
    required = needs(demand, plan, site)
    return Recommendation(
        demand=demand, objective=s.objective, plan=plan, site=site, bill=bill, usd=meant.range(),
        median=meant.median(),
        alternatives=tuple(p for p in runners_up(s.able, s.plans) if p is not plan), rejected=tuple(rejected),
        why=tuple(why(decision, bill, volumes, smooth)), front=front(s.allowed), swings=meant.swings(),
        energy=energy_of(demand, plan, site), day=day, break_even=tuple(volumes), tried=s.count, smooth=smooth,
        launch=launch(demand.engine, required), needs=required, promise=promise(demand, plan, required.model),
    )  # fmt: skip


def cycle_of(plan: Plan) -> float:
    """Return what a request takes from its slot. [s]"""
    return plan.gpu_seconds * plan.in_flight / plan.parallel.gpus


def lacking(r: Recommendation) -> str:
    """Return why there is no plan, and the cheapest changes that make one possible."""
    if not r.remedies:
        way = "no change of one limit, technique, weight format, GPU or model of the series is enough"
        return f"no plan keeps every limit; {r.cause}; {way}"
    ways = [f"{remedy.change} ({cost_of(r.demand, remedy)})" for remedy in r.remedies[:REMEDIES]]
    return f"no plan keeps every limit; {r.cause}. The cheapest change that is enough: {', or '.join(ways)}"


def cause(i: Impasse) -> str:
    """Return what the GPU fails on that comes nearest to keeping the latency limits, of equals the fastest."""
    if not i.pairs:
        barred = i.book.barred(i.barred)
        return next((f"{name} may not be used: {why}" for (name, _), why in barred.items()), NONE_APPLIES)
    holding = [one for one in i.candidates if (one.fits & one.of(i.pairs)).any()]
    if not holding:
        return no_room([one.site.gpu for one in i.candidates], i.pairs)

    def far(one: Candidates) -> tuple[float, float]:
        mine = one.fits & one.of(i.pairs)
        return -float(surely(one.sure[mine].max())), float(one.e2e[mine].min())

    best = min(holding, key=far)
    return f"the nearest is on {best.site.gpu.name}, where {reason_of(best, i.demand, i.pairs, i.guesses)}"


def cost_of(demand: Demand, remedy: Remedy) -> str:
    """Return a remedy's plan and what it costs a month."""
    plan = remedy.plan
    month = "" if plan.usd is None else f", {show_usd(plan.usd * demand.mean * MONTH)} a month"
    return f"{plan.label}{month}"


def smooth_cost(d: Decision) -> float | None:
    """Return what a query would cost with Poisson arrivals, None where they are no burstier. [USD]"""
    if d.demand.workload.offline or d.demand.workload.arrivals.burstiness <= 1 or d.plan.usd is None:
        return None
    s, demand = d.outcome, d.demand.smooth
    crowds = [Crowd(demand=demand, gpu_grid=one.gpu_grid) for one in s.rated]
    best = replace(s.book, demand=demand).under_load(crowds, s.pairs, s.objective)
    return best.usd if best else None
