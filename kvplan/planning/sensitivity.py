"""How sure a cost is: what the model's error, prices, load and lengths do to it, together and one by one."""

from dataclasses import dataclass, replace
from math import exp, fsum, log, sqrt
from typing import Any

import numpy as np

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.search import candidates, grid_of
from kvplan.planning.site import Site

Array = Any
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

    The point (the plan's own cost) is the middle: replicas follow the requests in flight in fractions, so that the room
    that rounding left in the plan stays the same. Counted whole, a draw would fall on either side of a step as luck has
    it, and a plan chosen for the step it just keeps would lie below its own median.
    """

    def __init__(self, demand: Demand, plan: Plan, site: Site):
        self.demand, self.plan, self.site = demand, plan, site
        self.cycles = [self._cycle(f) for f in LENGTHS]
        self.pace = site.calibration.tpot

    def _cycle(self, factor: float) -> float:
        """Return what a request takes from its slot, all lengths multiplied. [s]"""
        workload = self.demand.workload
        moved = replace(workload, input=workload.input.times(factor), output=workload.output.times(factor))
        demand, held = replace(self.demand, workload=moved), self.plan.in_flight
        grid = grid_of(demand, [configuration_of(demand, self.plan)], self.site.calibration.chunk, held)
        return float(candidates(demand, grid, self.site).served.cycle[0][list(grid.requests[0]).index(held)])

    def cost(self, pace: Array = 1.0, price: Array = 1.0, load: Array = 1.0, length: Array = 1.0) -> Array:
        """Return what a query costs when these are multiplied; with none of them the plan's own cost. [USD]"""
        demand, plan, cost, each = self.demand, self.plan, self.site.cost, self.plan.parallel.gpus
        assert cost is not None
        cycle = np.interp(length, LENGTHS, self.cycles) * pace
        point = float(np.interp(1.0, LENGTHS, self.cycles))
        more = (demand.in_flight(load * cycle) - demand.in_flight(point)) / plan.in_flight
        serving = np.maximum(plan.replicas - demand.spares + more, 1.0)
        gpus = (serving + demand.spares - plan.replicas) * each + cost.whole(plan.gpus)
        waiting, working = cost.rate(None), cost.rate("")
        paid = np.maximum(gpus, cost.unit) * waiting / (demand.mean * load)
        return (paid + cycle / plan.in_flight * each * (working - waiting)) * price

    def range(self) -> tuple[float, float, float] | None:
        """Return P10, P50 and P90 of the cost of a query; P50 is the point. [USD]

        What each quantity does alone is combined as independent errors of either side are: the root of the sum of
        squares, of logarithms. Offers lie further above their median than below it, and so does the range.
        """
        if self.site.cost is None:
            return None
        point, ends = float(self.cost()), [(s.low, s.high) for s in self.swings()]
        down, up = (sqrt(fsum(log(side(*pair, point) / point) ** 2 for pair in ends)) for side in (min, max))
        return point * exp(-down), point, point * exp(up)

    def swings(self) -> tuple[Swing, ...]:
        """Return what each of them does alone, the widest first."""
        if self.site.cost is None:
            return ()
        pace, factors = self.pace, self.site.price_factors
        rents = tuple(map(float, np.quantile(factors, (0.1, 0.9))))
        spread = (
            "one offer is known; spread of the offers of other GPUs" if self.site.lone_offer else "offers on the day"
        )
        moved: dict[str, tuple[str, tuple[float, ...], str]] = {
            "kvplan's error in time": ("pace", (pace.low, pace.high), "80 % range of its calibration"),
            "rent": ("price", rents, f"{spread}, 10th to 90th percentile"),
            "load": ("load", LOAD_RANGE, "assumption"),
            "lengths": ("length", LENGTH_RANGE, "assumption"),
        }
        found = []
        for name, (what, (low, high), basis) in moved.items():
            costs = [float(self.cost(**{what: f})) for f in (low, high)]
            if costs[0] != costs[1]:
                found.append(Swing(name=f"{name} x{low:.2f} to x{high:.2f}", low=costs[0], high=costs[1], basis=basis))
        return tuple(sorted(found, key=lambda s: -abs(s.high - s.low)))
