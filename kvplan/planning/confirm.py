"""A plan confirmed by a simulation of the workload's own arrivals: its times, its odds, and the replicas it needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan
from kvplan.planning.planned import PlannedReplica
from kvplan.planning.searching.certainty import certainty, chance
from kvplan.planning.searching.offloading import kept_by
from kvplan.planning.searching.search import usd_per_query
from kvplan.planning.simulating.results import Asked, Replayed
from kvplan.planning.simulating.simulate import fewest

#: a time that is as good as none [s]
LEAST = 1e-9
#: the router that plans mean: what comes to a replica is a Poisson stream of its own, as where requests are sent at
#: random (the questions to one document to one replica)
ROUTER = "random"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What a simulation says of a plan; spare replicas serve nothing in it."""

    plan: Plan  #: as the closed form has it
    spares: int  #: of its replicas, those that stand in for others
    served: Replayed  #: the workload on the plan's replicas, spares left out
    fewest: Replayed | None  #: the same on the fewest replicas that are sure enough of the limits, None where none are
    watched: Replayed  #: the workload on the plan's replicas under a router that knows their load or prefixes
    fewer: Replayed | None  #: the same on the fewest replicas
    odds: float  #: probability that the plan keeps the limits, from the simulated times, at most that it keeps up
    usd: float | None  #: cost of a query on `replicas`, None without a price, or where none are enough [USD]
    watchful_usd: float | None  #: the same on those of `watchful` [USD]

    @property
    def replicas(self) -> int | None:
        """Replicas that the simulation asks for, spares included; None where no number is sure enough."""
        return self.fewest.replicas + self.spares if self.fewest else None

    @property
    def watchful(self) -> int | None:
        """The same under a router that knows the replicas' load or prefixes."""
        return self.fewer.replicas + self.spares if self.fewer else None


def confirm(demand: Demand, plan: Plan, asked: Asked) -> Confirmation:
    """Return what a simulation says of a plan, whose server and limits are asked about.

    `asked.router` is the one that knows more; the plan is confirmed under its own, ROUTER.
    """
    serving, odds = max(plan.replicas - demand.spares, 1), odds_with(demand, plan, asked)

    def sure(o: Replayed) -> bool:
        return odds(o) >= demand.limits.confidence

    search = fewest(replace(asked, router=ROUTER), start=serving, keeps=sure)
    served, watched = search.seen[serving], fewest(asked, start=serving, keeps=sure)
    usd, watchful = (usd_with(demand, plan, o) for o in (search.smallest, watched.smallest))
    return Confirmation(
        plan=plan, spares=demand.spares, served=served, fewest=search.smallest, odds=odds(served),
        watched=watched.seen[serving], fewer=watched.smallest, usd=usd, watchful_usd=watchful,
    )  # fmt: skip


def odds_with(demand: Demand, plan: Plan, asked: Asked) -> Callable[[Replayed], float]:
    """Return what gives the probability that the limits are kept by a simulation of so many replicas of a plan.

    As of a plan: the errors of simulated times are those of all times, and steps that take longer than predicted by
    what replicas have left of the load of the simulated hour let them fall behind.
    """
    site = asked.server.site
    most = float(PlannedReplica(demand=demand, plan=plan, site=site).crowd.most_rate[0, 0])

    def odds(o: Replayed) -> float:
        if o.refused:
            return 0.0
        times = (max(t.at_percentile, LEAST) for t in (o.ttft, o.tpot))
        filled = demand.peak / (o.replicas * most)
        return min(
            float(certainty(demand, site.calibration, *times)), float(chance(filled, 1.0, site.calibration.tpot))
        )

    return odds


def usd_with(demand: Demand, plan: Plan, o: Replayed | None) -> float | None:
    """Return what a query costs on the replicas of a simulation and the plan's spares, None without any. [USD]"""
    if o is None or plan.usd is None:
        return None
    site, gpus = o.asked.server.site, (o.replicas + demand.spares) * plan.parallel.gpus

    def each(gpus: int) -> float:
        tier = kept_by(plan.technique, gpus, site)
        paid = float(usd_per_query(demand, site.cost, gpus, plan.gpu_seconds))
        return paid + (tier.amount / demand.mean if tier else 0.0)

    return plan.usd + each(gpus) - each(plan.gpus)
