"""How sure a cost is: what the model's error, prices, load and lengths do to it, together and one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvplan.planning.certainty import lognormal
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.search import candidates, grid_of
from kvplan.planning.site import Site
from kvplan.specs.calibration import Range

Array = Any
#: draws of the Monte-Carlo range, and its seed
DRAWS, SEED = 4000, 0
#: 80 % ranges of what no calibration tells, as factors: an assumption, said in the report
LOAD_RANGE, LENGTH_RANGE = (0.8, 1.25), (0.85, 1.15)
#: lengths for which the time of a request is computed; others lie on straight lines between
LENGTHS = (0.7, 0.85, 1.0, 1.15, 1.4)


@dataclass(frozen=True, kw_only=True)
class Swing:
    """What moving one thing between two values does to the cost of a query. [USD]"""

    name: str
    low: float
    high: float
    basis: str


class CostRange:
    """How the cost of a query moves when the model's error, the price, the load or the lengths do.

    Replicas follow: a server slower than predicted needs more of them, each at whichever of `loads` (requests in
    flight; the plan's own, when none are given) serves cheapest.
    """

    def __init__(self, demand: Demand, plan: Plan, site: Site, loads: Sequence[int] = ()):
        self.demand, self.plan, self.site, self.prices = demand, plan, site, site.price_factors
        self.loads = tuple(loads) or (plan.in_flight,)
        self.cycles = np.array([self._cycles(f) for f in LENGTHS])

    def _cycles(self, factor: float) -> list[float]:
        """Return what a request takes from its slot at every load, all lengths multiplied. [s]"""
        workload = self.demand.workload
        moved = replace(workload, input=workload.input.times(factor), output=workload.output.times(factor))
        demand = replace(self.demand, workload=moved)
        grid = grid_of(demand, [configuration_of(demand, self.plan)], self.site.calibration.chunk, max(self.loads))
        cycles = candidates(demand, grid, self.site).served.cycle[0]
        return [float(cycles[list(grid.requests[0]).index(n)]) for n in self.loads]

    def cost(self, pace: Array = 1.0, price: Array = 1.0, load: Array = 1.0, length: Array = 1.0) -> Array:
        """Return what a query costs when these are multiplied; with none of them the plan's own cost. [USD]"""
        return np.min([self._cost(k, pace, load, length) for k in range(len(self.loads))], axis=0) * price

    def _cost(self, k: int, pace: Array, load: Array, length: Array) -> Array:
        """Return the same at one of the loads."""
        demand, gpus, cost, held = self.demand, self.plan.parallel.gpus, self.site.cost, self.loads[k]
        assert cost is not None
        cycle = np.interp(length, LENGTHS, self.cycles[:, k]) * pace
        mean = demand.peak * (1 + demand.headroom) * load * cycle
        flight = demand.crowd(mean)
        replicas = np.maximum(np.ceil(flight / held - 1e-9), 1.0) + demand.spares
        waiting, working = cost.rate(None), cost.rate("")
        return replicas * gpus * waiting / (demand.mean * load) + cycle / held * gpus * (working - waiting)

    def range(self) -> tuple[float, float, float] | None:
        """Return P10, P50 and P90 of the cost of a query. [USD]"""
        if self.site.cost is None:
            return None
        rng = np.random.default_rng(SEED)
        pace = _draw(rng, self.site.calibration.tpot.low, self.site.calibration.tpot.high)
        price = rng.choice(np.array(self.prices), DRAWS)
        costs = self.cost(
            pace, price, _draw(rng, *LOAD_RANGE), np.clip(_draw(rng, *LENGTH_RANGE), LENGTHS[0], LENGTHS[-1])
        )
        low, middle, high = np.quantile(costs, (0.1, 0.5, 0.9))
        return float(low), float(middle), float(high)

    def swings(self) -> tuple[Swing, ...]:
        """Return what each of them does alone, the widest first."""
        if self.site.cost is None:
            return ()
        pace, rents = self.site.calibration.tpot, tuple(map(float, np.quantile(self.prices, (0.1, 0.9))))
        moved: dict[str, tuple[str, tuple[float, ...], str]] = {
            "kvplan's error in time": ("pace", (pace.low, pace.high), "80 % range of its calibration"),
            "rent": ("price", rents, "offers on the day, 10th to 90th percentile"),
            "load": ("load", LOAD_RANGE, "assumption"),
            "lengths": ("length", LENGTH_RANGE, "assumption"),
        }
        found = []
        for name, (what, (low, high), basis) in moved.items():
            costs = [float(self.cost(**{what: f})) for f in (low, high)]
            if costs[0] != costs[1]:
                found.append(Swing(name=f"{name} x{low:.2f} to x{high:.2f}", low=costs[0], high=costs[1], basis=basis))
        return tuple(sorted(found, key=lambda s: -abs(s.high - s.low)))


def _draw(rng: Any, low: float, high: float) -> Array:
    """Return draws of a lognormal with this 80 % range."""
    middle, width = lognormal(Range(low=low, high=high))
    return np.exp(rng.normal(middle, width, DRAWS))
