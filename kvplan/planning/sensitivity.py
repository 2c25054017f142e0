"""How sure a cost is: what the model's error, prices, load and lengths do to it, together and one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import exp, fsum, log, sqrt
from typing import Any

import numpy as np

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.searching.certainty import NORMAL, NORMAL_AT, Z80
from kvplan.planning.searching.converting import besides
from kvplan.planning.searching.crowd import Crowd
from kvplan.planning.searching.gpu_grid import gpu_grids
from kvplan.planning.searching.grid import most_requests
from kvplan.planning.site import Site

Array = Any
#: 80 % ranges of what no calibration tells, as factors: an assumption, said in the report
LOAD_RANGE, LENGTH_RANGE = (0.8, 1.25), (0.85, 1.15)
#: what the range of the load rests on: a plan made anew for another load has whole replicas
FRACTIONS = "assumption; replicas in fractions, not planned anew"
#: draws of a cost, for its median
DRAWS = 2048
#: lengths for which the time of a request is computed; others lie on straight lines between
LENGTHS = (0.7, 0.85, 1.0, 1.15, 1.4)


@dataclass(frozen=True, kw_only=True)
class Swing:
    """What moving one thing between two values does to the cost of a query. [USD]"""

    name: str  #: the quantity and its two values, in words
    low: float  #: cost of a query at the first value [USD]
    high: float  #: at the second [USD]
    basis: str  #: what the two values rest on


@dataclass(frozen=True, kw_only=True)
class Move:
    """A quantity that moves the cost: its name, the factors of its 80 % range, and what they rest on."""

    name: str  #: the quantity, in words
    low: float  #: factor at P10
    high: float  #: factor at P90
    basis: str  #: what the factors rest on


def combined(point: float, ends: Iterable[tuple[float, float]]) -> tuple[float, float, float]:
    """Return P10, the point and P90 of a cost around it, from what each quantity makes of it alone.

    Combined as independent errors of either side are: the root of the sum of squares, of logarithms.
    """
    pairs = list(ends)
    down, up = (sqrt(fsum(log(side(*pair, point) / point) ** 2 for pair in pairs)) for side in (min, max))
    return point * exp(-down), point, point * exp(up)


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
        demand, most = replace(self.demand, workload=moved), most_requests(self.demand.engine, [self.site])
        home = gpu_grids(demand, [configuration_of(demand, self.plan)], [self.site], most)[0]
        served, _, _ = Crowd(demand=demand, gpu_grid=home).steady
        return float(np.interp(self.plan.in_flight, home.requests[0], served.cycle[0]))

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
        others = sum(line.amount for line in besides(demand, plan.technique, plan.gpus, self.site))
        return (paid + cycle / plan.in_flight * each * (working - waiting)) * price + others / (demand.mean * load)

    def range(self) -> tuple[float, float, float] | None:
        """Return P10, the point and P90 of the cost of a query, the point that of every input at its middle. [USD]

        Offers lie further above their median than below it, and so does the range.
        """
        if self.site.cost is None:
            return None
        return combined(float(self.cost()), ((s.low, s.high) for s in self.swings()))

    def median(self) -> float | None:
        """Return the median of draws of everything at once. [USD]

        Offers that lie far above their median, and a fleet that cannot shrink below a server, pull it above the point.
        Latin hypercube draws (McKay, Beckman and Conover, Technometrics 21(2), 1979): each quantity at DRAWS even
        quantiles, errors, load and lengths lognormal to either side of 1, the price any between the offers.
        """
        if self.site.cost is None:
            return None
        even, rng = (np.arange(DRAWS) + 0.5) / DRAWS, np.random.default_rng(0)
        z = np.interp(even, NORMAL, NORMAL_AT) / Z80

        def drawn(low: float, high: float) -> Array:
            return rng.permutation(np.exp(np.where(z < 0, -log(low), log(high)) * z))

        offers = rng.permutation(np.quantile(self.site.price_factors, even))
        draws = self.cost(drawn(self.pace.low, self.pace.high), offers, drawn(*LOAD_RANGE), drawn(*LENGTH_RANGE))
        return float(np.median(draws))

    def moves(self) -> dict[str, Move]:
        """Return what moves the cost, by the parameter of `cost` that it is."""
        rents = tuple(map(float, np.quantile(self.site.price_factors, (0.1, 0.9))))
        spread = (
            "one offer is known; spread of the offers of other GPUs" if self.site.lone_offer else "offers on the day"
        )
        quantities: dict[str, tuple[str, tuple[float, ...], str]] = {
            "pace": ("kvplan's error in time", (self.pace.low, self.pace.high), "80 % range of its calibration"),
            "price": ("rent", rents, f"{spread}, 10th to 90th percentile"),
            "load": ("load", LOAD_RANGE, FRACTIONS),
            "length": ("lengths", LENGTH_RANGE, "assumption"),
        }
        return {
            what: Move(name=name, low=low, high=high, basis=basis)
            for what, (name, (low, high), basis) in quantities.items()
        }

    def swings(self) -> tuple[Swing, ...]:
        """Return what each of them does alone, the widest first."""
        if self.site.cost is None:
            return ()
        swings = []
        for what, m in self.moves().items():
            low, high = (float(self.cost(**{what: factor})) for factor in (m.low, m.high))
            if low != high:
                swings.append(Swing(name=f"{m.name} x{m.low:.2f} to x{m.high:.2f}", low=low, high=high, basis=m.basis))
        return tuple(sorted(swings, key=lambda s: -abs(s.high - s.low)))
