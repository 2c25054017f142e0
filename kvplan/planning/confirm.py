"""A plan confirmed by a simulation of the workload's own arrivals: its times, its odds, and the replicas it needs."""

from dataclasses import dataclass, replace

from kvplan.planning.certainty import certainty
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan
from kvplan.planning.simulate import fewest
from kvplan.planning.simulated import Asked, Replayed

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
    odds: float  #: probability that the plan keeps the limits, from the simulated times

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
    serving = max(plan.replicas - demand.spares, 1)

    def sure(o: Replayed) -> bool:
        return odds_of(demand, o) >= demand.limits.confidence

    search = fewest(replace(asked, router=ROUTER), start=serving, keeps=sure)
    served, watched = search.seen[serving], fewest(asked, start=serving, keeps=sure)
    return Confirmation(
        plan=plan, spares=demand.spares, served=served, fewest=search.smallest, odds=odds_of(demand, served),
        watched=watched.seen[serving], fewer=watched.smallest,
    )  # fmt: skip


def odds_of(demand: Demand, o: Replayed) -> float:
    """Return the probability that the limits are kept, if the errors of the simulated times are those of all times."""
    if o.refused:
        return 0.0
    times = (max(t.at_percentile, LEAST) for t in (o.ttft, o.tpot))
    return float(certainty(demand, o.asked.server.site.calibration, *times))
