"""The best plan and the runner-up of a recommendation, simulated on the workload's own arrivals."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import Any

from kvplan import catalog
from kvplan.api.simulate import tier_names
from kvplan.api.sites import site
from kvplan.api.streams import LONGEST, RequestStream, at_peak, peak_or_mean_rate
from kvplan.perf.simulate.run import Piece
from kvplan.perf.simulate.streams import extent, up_to
from kvplan.planning.confirm import Confirmation, confirm
from kvplan.planning.launch import longest
from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation
from kvplan.planning.server import server
from kvplan.planning.simulating.results import Asked, Cut
from kvplan.planning.simulating.server import holding
from kvplan.units import DAY, HOUR, MINUTE, show_percentile

#: requests that are enough for a percentile, and the shortest time that is simulated [s]
ENOUGH, SHORTEST = 20_000, 10 * MINUTE
#: requests beyond the percentile without which a simulation says too little of it: of 200, luck moves one in 14
BEYOND = 200


def confirmations(answer: Recommendation, day: str, profile: str, **paid: Any) -> tuple[Confirmation, ...]:
    """Return what simulations say of the best plan and the runner-up; nothing where there is no plan, or too little
    comes to it (`why_not_simulated`); `paid` are the terms of GPUs that `site` takes."""
    if answer.plan is None or too_few(answer):
        return ()
    return tuple(
        simulated_plan(answer, plan, day, profile, **paid) for plan in rivals(answer.plan, answer.alternatives)
    )


def too_few(answer: Recommendation) -> bool:
    """Return whether the longest time that is simulated has too few requests for the limits' percentile."""
    return duration(answer) > LONGEST


def why_not_simulated(answer: Recommendation) -> str:
    """Return why an answer with a plan is not simulated, '' where it is."""
    if answer.plan is None or not too_few(answer):
        return ""
    w = answer.demand.workload
    at = show_percentile(answer.demand.limits.percentile)
    return (
        f"the plan was not simulated: {at} needs {requests_needed(answer):,} requests, and the longest simulation, "
        f"{LONGEST / DAY:.0f} days, has about {peak_or_mean_rate(w) * LONGEST:,.0f} of {w.name}"
    )


def requests_needed(answer: Recommendation) -> int:
    """Return the requests of which BEYOND are slower than those of the limits' percentile."""
    return round(BEYOND / (1 - answer.demand.limits.percentile))


def duration(answer: Recommendation) -> float:
    """Return how long to simulate: the busiest hour, enough of it, or until it has the `requests_needed`. [s]"""
    rate = peak_or_mean_rate(answer.demand.workload)
    enough = min(max(ENOUGH / rate, SHORTEST), HOUR)
    return max(enough, MINUTE * ceil(requests_needed(answer) / rate / MINUTE))


def rivals(best: Plan, others: Iterable[Plan]) -> list[Plan]:
    """Return the best plan, and the first of the others that a simulation can tell from it: other times or GPUs."""
    shape = (best.gpu, best.replicas, best.parallel, best.form, best.ttft, best.tpot)
    apart = (p for p in others if (p.gpu, p.replicas, p.parallel, p.form, p.ttft, p.tpot) != shape)
    return [best, *islice(apart, 1)]


def simulated_plan(answer: Recommendation, plan: Plan, day: str, profile: str, **paid: Any) -> Confirmation:
    """Return what a simulation at the rate of its busiest hour says of a plan."""
    return confirm(answer.demand, plan, simulation_of(answer, plan, day, profile, **paid))


def simulation_of(
    answer: Recommendation, plan: Plan, day: str, profile: str, seed: int = 0, stream: RequestStream | None = None,
    **paid: Any,
) -> Asked:  # fmt: skip
    """Return the simulation of a plan at its busiest hour's rate, under a router that knows the replicas.

    Of another `stream` where one is given; requests longer than the plan's replicas are started for are left out.
    """
    demand = answer.demand
    stream = stream or at_peak(demand.workload, min(duration(answer), LONGEST), seed=seed)
    place = site(
        catalog.gpu(plan.gpu), demand.model, day, engine=demand.engine.asked, profile=profile, parallel=plan.parallel,
        weights=plan.form, length=demand.workload.context(1.0), **paid,
    )  # fmt: skip
    one = server(
        demand.model, place, technique=plan.technique, prompt=demand.prompt, output=demand.output,
        percentile=demand.limits.percentile,
    )  # fmt: skip
    stream, cut = taken(stream, *longest(demand, plan, place))
    x = stream.extent
    return Asked(
        server=holding(one, x), extent=x, source=stream.source, limits=demand.limits, title=stream.title,
        warm=stream.warm, until=stream.until, cut=cut, prefix_cache=demand.prefix_cache, tiers=tier_names(None, one),
        router="prefix-aware" if x.chain and demand.prefix_cache else "least-loaded",
    )  # fmt: skip


def taken(stream: RequestStream, most: int, refuses: bool) -> tuple[RequestStream, Cut | None]:
    """Return a stream as servers take it that refuse requests of more than `most` tokens, and what they refuse."""
    known = stream.extent
    if not refuses or known.longest <= most:
        return stream, None

    def served() -> Iterable[Piece]:
        return up_to(stream.source(), most)

    rest = extent(served())
    return replace(stream, source=served, extent=rest), Cut(longest=most, refused=known.requests - rest.requests)
