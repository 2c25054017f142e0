"""From a workload to one plan: the cheapest candidate that keeps every limit, with reasons and a range.

`search` gives every candidate as arrays, `plans` the best of each technique and GPU; here one is chosen and the others
are told why they were not. `hosting` bills it, `sensitivity` moves it about, `reasons` explains it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.kv import spelling
from kvplan.kv.budget import Line
from kvplan.money.api import BreakEven
from kvplan.money.bill import Bill
from kvplan.planning.demand import Demand
from kvplan.planning.hosting import Tenure, bill_of, energy_of, volumes_of
from kvplan.planning.plan import Book, Plan, front, loads_of, rank, runners_up
from kvplan.planning.reasons import Decision, why
from kvplan.planning.search import Candidates, search
from kvplan.planning.sensitivity import CostRange, Swing
from kvplan.planning.site import Site
from kvplan.quality.loss import Quality
from kvplan.specs.money import ApiPrice
from kvplan.units import show_percent, show_time

#: why nothing can be planned
NO_REPLICA = "no replica within one node holds the model and the longest request"
NO_REPLICA_KEEPS = "no replica keeps all limits at once"
NONE_APPLIES = "no technique can be applied to this model"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A technique or a GPU that cannot be, and the limit it fails on. `gpu` or `technique` is '' for all of them."""

    technique: str
    gpu: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer and all that stands behind it.

    `usd` are P10, P50, P90 of a query; `front` is not beaten in all of cost, quality and latency. `lacking` says what
    to write when there is no plan, `warnings` what the reader must know first.
    """

    demand: Demand
    objective: str
    plan: Plan | None
    site: Site | None
    bill: Bill | None
    usd: tuple[float, float, float] | None
    alternatives: tuple[Plan, ...]
    rejected: tuple[Rejected, ...]
    why: tuple[str, ...]
    front: tuple[Plan, ...]
    swings: tuple[Swing, ...]
    break_even: tuple[tuple[ApiPrice, BreakEven], ...]
    tried: int
    lacking: str = ""
    warnings: tuple[str, ...] = ()
    day: str = ""
    energy: tuple[Line, ...] = ()
    #: what the same plan costs under other terms, and what APIs charge
    terms: tuple[Tenure, ...] = ()


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
) -> Recommendation:
    """Return the best plan under the limits, and why.

    `qualities` hold every wanted technique's loss, `absent` says why other GPUs were not looked at. Without `guesses` a
    GPU nobody measured is only an alternative: it is never fallen back on, or a looser limit could raise the cost.
    """
    found, refused = search(demand, wanted, sites)
    names = [name for name in wanted if name not in refused]
    barred = {name: reason for name in names if (reason := bar(demand, qualities[name]))}
    book = Book(demand, qualities)
    plans = [plan for one in found for name in names if (plan := book.best(one, name, objective)) is not None]
    able = [p for p in plans if p.technique not in barred]
    order = rank(objective)
    allowed = [p for p in able if guesses or p.grounded]
    chosen = min(allowed, key=order, default=None)
    rejected = [Rejected(technique=name, gpu="", reason=reason) for name, reason in (refused | barred).items()]
    rejected += [
        Rejected(technique=name, gpu="", reason="no GPU keeps every limit with this technique")
        for name in names
        if name not in barred and not any(p.technique == name for p in plans)
    ]
    rejected += [
        Rejected(technique="", gpu=one.site.gpu.name, reason=reason)
        for one in found
        if (reason := unreachable(one, demand, [n for n in names if n not in barred], guesses))
    ]
    rejected += [Rejected(technique="", gpu=name, reason=reason) for name, reason in (absent or {}).items()]
    tried = sum(int(one.grid.usable.sum()) for one in found)
    if chosen is None:
        return Recommendation(
            demand=demand, objective=objective, plan=None, site=None, bill=None, usd=None,
            alternatives=tuple(runners_up(sorted(plans, key=order))), rejected=tuple(rejected), why=(),
            front=front(allowed), swings=(), break_even=(), tried=tried,
            day=day, lacking=lacking(able, plans, barred, order) or nearest(found, demand, names, barred),
        )  # fmt: skip
    home = next(one for one in found if one.site.gpu.name == chosen.gpu)
    others = sorted((p for p in plans if p is not chosen), key=order)
    bill = bill_of(demand, chosen, home.site)
    loads = loads_of(home, chosen) if objective == "cost" else ((chosen.in_flight, cycle_of(chosen)),)
    meant = CostRange(demand, chosen, home.site)
    decision = Decision(
        demand=demand, plan=chosen, home=home, candidates=found, plans=plans, barred=barred, book=book,
        objective=objective, guesses=guesses,
    )  # fmt: skip
    volumes = volumes_of(demand, chosen, bill, loads, apis, day)
    return Recommendation(
        demand=demand,
        objective=objective,
        plan=chosen,
        site=home.site,
        bill=bill,
        usd=meant.range(),
        alternatives=tuple(runners_up(others)),
        rejected=tuple(rejected),
        why=tuple(why(decision, bill, volumes)),
        front=front(allowed),
        swings=meant.swings(),
        energy=energy_of(demand, chosen, home.site),
        day=day,
        break_even=tuple(volumes),
        tried=tried,
    )


def cycle_of(plan: Plan) -> float:
    """Return what a request takes from its slot. [s]"""
    return plan.gpu_seconds * plan.in_flight / plan.parallel.gpus


def bar(demand: Demand, quality: Quality) -> str:
    """Return why a technique may not be used, '' when it may: its quality, or an engine that does not serve it."""
    limit, name = demand.limits.quality, quality.technique
    if limit is not None and not quality.within(limit):
        if quality.drop is None:
            return f"its quality loss is unknown ({quality.basis}), so no quality limit can be kept"
        return f"it loses {show_percent(quality.drop, 1)} on {quality.task}, more than {show_percent(limit, 1)}"
    if not demand.limits.any_technique and not spelling.served_by(name, demand.engine.name):
        return f"{demand.engine.title} does not serve it; use any_technique=True to plan with it"
    return ""


def lacking(able: Sequence[Plan], plans: Sequence[Plan], barred: Mapping[str, str], order: Any) -> str:
    """Return what to write when there is no plan."""
    if able:
        best = min(able, key=order)
        return f"no plan on a measured GPU keeps every limit; use gpus={best.gpu} to plan with an unmeasured one"
    if plans:
        best = min(plans, key=order)
        return f"no plan keeps every limit; {best.label} would, but {barred[best.technique]}"
    return ""


def nearest(found: Sequence[Candidates], demand: Demand, names: Sequence[str], barred: Mapping[str, str]) -> str:
    """Return what the fastest GPU that holds the model fails on, where nothing keeps the limits."""
    free = [name for name in names if name not in barred]
    holding = [one for one in found if (one.fits & one.of(free)).any()]
    if not free:
        cause = next((f"{name} may not be used: {why}" for name, why in barred.items()), NONE_APPLIES)
        return f"no plan keeps every limit; {cause}"
    if not holding:
        return f"no plan keeps every limit; {NO_REPLICA}"
    best = min(holding, key=lambda one: float(one.e2e[one.fits & one.of(free)].min()))
    reason = unreachable(best, demand, free, True)
    return f"no plan keeps every limit; the nearest is on {best.site.gpu.name}, where {reason}"


def unreachable(one: Candidates, demand: Demand, allowed: Sequence[str], guesses: bool) -> str:
    """Return why no allowed technique can be served on a GPU, '' when one can."""
    mine, limits = one.of(allowed), demand.limits
    if not allowed:
        return ""
    if (one.feasible & mine).any():
        if guesses or one.site.calibration.grounded:
            return ""
        return (
            f"no server on it was measured, so its times are extrapolated; use gpus={one.site.gpu.name} to plan with it"
        )
    fits = one.fits & mine
    if not fits.any():
        return NO_REPLICA
    times = (("TTFT", one.ttft, limits.ttft), ("TPOT", one.tpot, limits.tpot), ("end-to-end time", one.e2e, limits.e2e))
    for what, found, limit in times:
        least = float(found[fits].min())
        if limit is not None and least > limit:
            return f"{what} is at least {show_time(least)} at P{100 * limits.percentile:g}, over {show_time(limit)}"
    if limits.gpus is not None and float(one.gpus[fits].min()) > limits.gpus:
        return f"at least {one.gpus[fits].min():.0f} GPUs are needed, more than max_gpus={limits.gpus}"
    sure = float(one.sure[fits].max())
    if sure < limits.confidence:
        kept = f"the limits are kept with at most {show_percent(sure)} probability"
        return f"{kept}, less than confidence={limits.confidence:.0%}"
    return NO_REPLICA_KEEPS
