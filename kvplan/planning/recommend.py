"""From a workload to one plan: the cheapest candidate that keeps every limit, with reasons and a range.

`search` gives every candidate as arrays, `plans` the best of each technique and GPU; here one is chosen and the others
are told why they were not. `hosting` bills it, `sensitivity` moves it about, `reasons` explains it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kvplan.architectures.formats import FORMATS
from kvplan.kv import spelling
from kvplan.kv.budget import Line
from kvplan.money.api import BreakEven
from kvplan.money.bill import Bill
from kvplan.planning.confirm import Confirmation
from kvplan.planning.demand import Demand
from kvplan.planning.hosting import Tenure, bill_of, energy_of, volumes_of
from kvplan.planning.plan import Book, Plan, front, loads_of, rank, runners_up
from kvplan.planning.reasons import Decision, why
from kvplan.planning.remedies import NO_REPLICA, Impasse, Remedy, remedies
from kvplan.planning.remedies import reason as reason_of
from kvplan.planning.search import search
from kvplan.planning.sensitivity import CostRange, Swing
from kvplan.planning.site import Site
from kvplan.quality.loss import Quality
from kvplan.specs.money import ApiPrice
from kvplan.units import MONTH, show_usd

#: why nothing can be planned
NONE_APPLIES = "no technique can be applied to this model"
#: changes that a message names
REMEDIES = 3


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A technique, a weight format or a GPU that cannot be, and why; '' stands for all of them."""

    technique: str  #: '' for all
    gpu: str  #: '' for all
    reason: str  #: in words
    #: weight format, '' for the checkpoint's own
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer and all that stands behind it.

    `usd` are P10, P50, P90 of a query; `front` is not beaten in all of cost, quality and latency. `warnings` are what
    the reader must know first, `remedies` the changes that make a plan possible where there is none, `smooth` is what
    a query would cost with Poisson arrivals [USD].
    """

    demand: Demand  #: what is to be served, and its limits
    objective: str  #: what plans are ranked by
    plan: Plan | None  #: the best, None where no plan keeps the limits
    site: Site | None  #: the plan's GPU with its rates and prices
    bill: Bill | None  #: what is paid for, None without a price
    usd: tuple[float, float, float] | None  #: P10, P50 and P90 of the cost of a query [USD]
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
    smooth: float | None = None  #: cost of a query with Poisson arrivals, None where unknown [USD]
    #: GPUs that were asked about by name
    named: int = 0
    #: the same question asked of every engine that was tried, where several were
    engines: tuple["Recommendation", ...] = ()
    #: the same question with other values
    variations: tuple["Variation", ...] = ()
    #: what simulations say of the best plan and the runner-up, where they were asked for
    confirmed: tuple[Confirmation, ...] = ()

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
    planned = [(r.plan, r) for r in answers if r.plan is not None]
    least = min((plan.weighed for plan, _ in planned if plan.weighed is not None), default=0.0)
    order = rank(answers[0].objective, least)
    best = min(planned, key=lambda pair: order(pair[0]), default=(None, answers[0]))[1]
    return replace(best, engines=tuple(answers), tried=sum(r.tried for r in answers))


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
) -> Recommendation:
    """Return the best plan under the limits, and why.

    `qualities` hold the loss of every wanted technique and of those that might do instead, `losses` that of weight
    formats; `unsearched` says why other formats were not tried, `absent` why other GPUs were not, and `others` are GPUs
    to look at where nothing else helps. Without `guesses` a GPU nobody measured is only an alternative: it is never
    fallen back on, or a looser limit could raise the cost.
    """
    book = Book(demand, qualities, losses or {})
    tried = [(name, form) for name in wanted for form in demand.forms]
    barred = book.barred(tried)
    # of a technique that may not be used the first weight format is enough to tell what it would cost
    left_out = [pair for pair in barred if pair[1] != demand.forms[0]]
    candidates, refused = search(demand, wanted, sites, left_out)
    pairs = [pair for pair in tried if pair[0] not in refused and pair not in barred]
    shown = [pair for pair in tried if pair[0] not in refused and pair not in left_out]
    rated = [one for one in candidates if guesses or one.site.calibration.grounded]
    least = book.least(rated, pairs, objective)
    plans = book.choices(candidates, shown, objective, least)
    able = [p for p in plans if p.pair in pairs]
    allowed = [p for p in able if guesses or p.grounded]
    chosen = allowed[0] if allowed else None
    rejected = [Rejected(technique=name, gpu="", reason=reason) for name, reason in refused.items()]
    rejected += [
        Rejected(technique=name, weights=form or "", gpu="", reason=reason)
        for (name, form), reason in barred.items()
        if name not in refused and (form == demand.forms[0] or (name, demand.forms[0]) not in barred)
    ]
    rejected += [
        Rejected(technique=name, weights=form or "", gpu="", reason=unkept(demand, sites, form))
        for name, form in pairs
        if not any(p.pair == (name, form) for p in plans)
    ]
    rejected += [
        Rejected(technique=spelling.BASELINE, weights=form, gpu="", reason=reason)
        for form, reason in (unsearched or {}).items()
    ]
    rejected += [
        Rejected(technique="", gpu=one.site.gpu.name, reason=reason)
        for one in candidates
        if (reason := reason_of(one, demand, pairs, guesses))
    ]
    rejected += [Rejected(technique="", gpu=name, reason=reason) for name, reason in (absent or {}).items()]
    count = sum(int((one.grid.usable & (one.room > 0)).sum()) for one in candidates)
    if chosen is None:
        impasse = Impasse(
            demand=demand, book=book, candidates=candidates, pairs=pairs, barred=[p for p in shown if p in barred],
            objective=objective, guesses=guesses, formats=tuple(unsearched or ()),
            techniques=[name for name in qualities if name not in wanted], sites=tuple(others),
        )  # fmt: skip
        cures = remedies(impasse)
        return Recommendation(
            demand=demand, objective=objective, plan=None, site=None, bill=None, usd=None,
            alternatives=runners_up(able, plans), rejected=tuple(rejected), why=(), front=front(allowed), swings=(),
            break_even=(), tried=count, day=day, remedies=cures, cause=cause(impasse),
        )  # fmt: skip
    home = next(one for one in candidates if one.site.gpu.name == chosen.gpu)
    bill = bill_of(demand, chosen, home.site)
    loads = loads_of(home, chosen) if objective == "cost" else ((chosen.in_flight, cycle_of(chosen)),)
    meant = CostRange(demand, chosen, home.site)
    decision = Decision(
        demand=demand, plan=chosen, home=home, candidates=candidates, plans=plans, pairs=pairs, book=book,
        objective=objective, guesses=guesses,
    )  # fmt: skip
    volumes, smooth = volumes_of(demand, chosen, bill, loads, apis, day), smooth_cost(decision)
    return Recommendation(
        demand=demand,
        objective=objective,
        plan=chosen,
        site=home.site,
        bill=bill,
        usd=meant.range(),
        alternatives=tuple(p for p in runners_up(able, plans) if p is not chosen),
        rejected=tuple(rejected),
        why=tuple(why(decision, bill, volumes, smooth)),
        front=front(allowed),
        swings=meant.swings(),
        energy=energy_of(demand, chosen, home.site),
        day=day,
        break_even=tuple(volumes),
        tried=count,
        smooth=smooth,
    )


def cycle_of(plan: Plan) -> float:
    """Return what a request takes from its slot. [s]"""
    return plan.gpu_seconds * plan.in_flight / plan.parallel.gpus


def unkept(demand: Demand, sites: Sequence[Site], form: str | None) -> str:
    """Return why no GPU serves a technique with some weights."""
    if form and demand.native and not any(FORMATS[form].native(place.gpu) for place in sites):
        return f"no GPU asked about runs {form} weights natively"
    return "no GPU keeps every limit with it"


def lacking(r: Recommendation) -> str:
    """Return why there is no plan, and the cheapest changes that make one possible."""
    if not r.remedies:
        way = "no change of one limit, technique, weight format, GPU or model of the series is enough"
        return f"no plan keeps every limit; {r.cause}; {way}"
    ways = [f"{remedy.change} ({cost_of(r.demand, remedy)})" for remedy in r.remedies[:REMEDIES]]
    return f"no plan keeps every limit; {r.cause}. The cheapest change that is enough: {', or '.join(ways)}"


def cause(i: Impasse) -> str:
    """Return what the fastest GPU that holds the model fails on, where nothing keeps the limits."""
    if not i.pairs:
        barred = i.book.barred(i.barred)
        return next((f"{name} may not be used: {why}" for (name, _), why in barred.items()), NONE_APPLIES)
    holding = [one for one in i.candidates if (one.fits & one.of(i.pairs)).any()]
    if not holding:
        return NO_REPLICA
    best = min(holding, key=lambda one: float(one.e2e[one.fits & one.of(i.pairs)].min()))
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
    demand = d.demand.smooth
    used = dict.fromkeys(technique for technique, _ in d.pairs)
    left_out = [(t, form) for t in used for form in demand.forms if (t, form) not in d.pairs]
    candidates, _ = search(demand, list(used), [one.site for one in d.candidates], left_out)
    plans = replace(d.book, demand=demand).choices(
        [one for one in candidates if d.guesses or one.site.calibration.grounded], d.pairs, d.objective
    )
    return plans[0].usd if plans else None
