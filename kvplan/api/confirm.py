"""The best plan and the runner-up of a recommendation, simulated on the workload's own arrivals."""

from collections.abc import Iterable
from itertools import islice

from kvplan import catalog
from kvplan.api.simulate import tiered
from kvplan.api.sites import site
from kvplan.api.streams import of_workload
from kvplan.planning.confirm import Confirmation, confirm
from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation
from kvplan.planning.server import server
from kvplan.planning.simulated import Asked
from kvplan.planning.simulated_server import holding
from kvplan.units import HOUR, MINUTE

#: requests that are enough for a percentile, and the shortest time that is simulated [s]
ENOUGH, SHORTEST = 20_000, 10 * MINUTE


def confirmed(answer: Recommendation, day: str, profile: str) -> tuple[Confirmation, ...]:
    """Return what simulations say of the best plan and the runner-up; nothing where there is no plan."""
    if answer.plan is None:
        return ()
    return tuple(each(answer, plan, day, profile) for plan in rivals(answer.plan, answer.alternatives))


def rivals(best: Plan, others: Iterable[Plan]) -> list[Plan]:
    """Return the best plan, and the first of the others that a simulation can tell from it: other times or GPUs."""
    shape = (best.gpu, best.replicas, best.parallel, best.form, best.ttft, best.tpot)
    apart = (p for p in others if (p.gpu, p.replicas, p.parallel, p.form, p.ttft, p.tpot) != shape)
    return [best, *islice(apart, 1)]


def each(answer: Recommendation, plan: Plan, day: str, profile: str) -> Confirmation:
    """Return what a simulation of its busiest hour, or of enough of it, says of a plan."""
    return confirm(answer.demand, plan, asked_of(answer, plan, day, profile))


def asked_of(answer: Recommendation, plan: Plan, day: str, profile: str, seed: int = 0) -> Asked:
    """Return the simulation of a plan's busiest hour, or of enough of it, under a router that knows the replicas."""
    demand = answer.demand
    w = demand.workload
    rate = w.arrivals.mean_rate if w.offline else w.arrivals.peak_rate
    stream = of_workload(w, min(max(ENOUGH / rate, SHORTEST), HOUR), seed=seed)
    place = site(
        catalog.gpu(plan.gpu), demand.model, day, engine=plan.engine, profile=profile, parallel=plan.parallel,
        weights=plan.form,
    )  # fmt: skip
    one = server(
        demand.model, place, technique=plan.technique, prompt=demand.prompt, output=demand.output,
        percentile=demand.limits.percentile,
    )  # fmt: skip
    x = stream.extent
    return Asked(
        server=holding(one, x), extent=x, source=stream.source, limits=demand.limits, title=stream.title,
        warm=stream.warm, until=stream.until, prefix_cache=demand.prefix_cache, tiers=tiered(None, one),
        router="prefix-aware" if x.chain and demand.prefix_cache else "least-loaded",
    )  # fmt: skip
