"""Choosing replicas for a fleet: a mixed-integer linear program over columns, solved by HiGHS (`scipy.optimize.milp`).

Integers are replicas of each column, continuous the share of its group's load sent there. What n replicas carry is
convex in n (`Option.carried`), so each column is cut into ranges of n: exact for one or two values, below the curve
elsewhere, exact at `full`. Each range has a 0/1 variable that says whether it is used, which also pays for the spares
of its pool. GPUs that are let or bought in servers are paid for in whole servers, an integer of each type.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvplan.planning.fleet.options import Option
from kvplan.planning.site import Site
from kvplan.units import HOUR

Array = Any
#: shares below which nothing is sent, the solver's tolerance
TRACE = 1e-6
#: costs that are the same but for rounding, as a share
SAME = 1e-9
#: share of the solver's time for what comes after: the simplest fleet at that cost, and the fleets it is compared with
ASIDE = 0.25
#: a bucket of a workload: (workload, number)
Bucket = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class ReplicaRange:
    """Replicas `low` to `high` of a column carry `slope` x replicas + `base` of its group."""

    option: Option  #: the column
    low: int  #: fewest replicas
    high: int  #: most replicas
    slope: float  #: share of the group's load for each replica
    base: float  #: share of it besides


@dataclass(frozen=True, kw_only=True)
class Use:
    """A pool: so many replicas of a column, spares left out, and the share of its group's load they serve."""

    option: Option  #: the column
    replicas: int  #: that serve, spares left out
    share: float  #: of its group's load

    @property
    def all_replicas(self) -> int:
        """Replicas that are paid for, spares included."""
        return self.replicas + self.option.spares

    @property
    def gpus(self) -> int:
        """GPUs of all its replicas, spares included."""
        return self.all_replicas * self.option.gpus

    @property
    def usd(self) -> float:
        """What they cost, apart from GPUs of their servers that nothing uses. [USD/s]"""
        return self.all_replicas * self.option.usd + self.share * self.option.work


@dataclass(frozen=True, kw_only=True)
class Unused:
    """GPUs of a type that come with the servers of the others."""

    site: Site  #: the type, with its price
    gpus: int  #: how many

    @property
    def usd(self) -> float:
        """What they cost. [USD/s]"""
        assert self.site.cost is not None
        return self.gpus * self.site.cost.rate(None)


def unused(uses: Iterable[Use]) -> tuple[Unused, ...]:
    """Return the GPUs of whole servers that no pool takes, by type."""
    taken: dict[str, tuple[Site, int]] = {}
    for u in uses:
        site = u.option.site
        taken[site.gpu.name] = site, taken.get(site.gpu.name, (site, 0))[1] + u.gpus
    left = (Unused(site=site, gpus=int(site.cost.whole(n)) - n) for site, n in taken.values() if site.cost)
    return tuple(x for x in left if x.gpus)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What the solver found."""

    uses: tuple[Use, ...] | None  #: pools, None where there are none: proven so, or not found in time
    bound: float  #: no solution costs less [USD/s]
    stopped: bool  #: whether its time ran out
    extra: int = 0  #: GPUs used beyond those there are

    @property
    def usd(self) -> float:
        """What the replicas and the servers they are in cost. [USD/s]"""
        return sum(u.usd for u in self.uses or ()) + sum(x.usd for x in unused(self.uses or ()))


def ranges(column: Option, most: int) -> list[ReplicaRange]:
    """Return a column's ranges of replicas: 1, 2 to 3, 4 to 7 ..., `full`, none above `most`."""
    low, spans = 1, []
    while low <= min(most, column.full - 1):
        high = min(2 * low - 1, most, column.full - 1)
        middle = (low + high) // 2
        here, there = (float(x) for x in column.carried(np.array([middle, middle + 1])))
        slope = there - here if high > low else 0.0
        spans.append(ReplicaRange(option=column, low=low, high=high, slope=slope, base=here - slope * middle))
        low = high + 1
    if column.full <= most:
        spans.append(ReplicaRange(option=column, low=column.full, high=column.full, slope=0.0, base=1.0))
    return spans


def choose(
    columns: Sequence[Option],
    buckets: Sequence[Bucket],
    stock: Mapping[str, int],
    *,
    seconds: float,
    gap: float,
    at_once: bool = False,
    lend: str = "",
    servers: bool = True,
) -> Solution:
    """Return the cheapest replicas that serve every bucket with the GPUs there are (no entry in `stock`: any number).

    `at_once` serves each group in one place. With `lend` GPUs of that type may be had beyond its stock: as few as
    possible, whatever the cost. Without `servers` the choice is made as if GPUs were paid for one by one.
    """
    ranged = [r for r in within(columns, stock, lend) if not at_once or r.low == r.option.full]
    program = Program(ranged, stock, lend, servers)
    if not program.write(buckets):
        return Solution(uses=None, bound=np.inf, stopped=False)
    goal = program.lent if lend else program.cost
    solution = program.solve(goal, seconds, gap)
    bound = (
        solution.mip_dual_bound if solution.mip_dual_bound is not None and np.isfinite(solution.mip_dual_bound) else 0.0
    )
    stopped, bound = solution.status == 1, np.inf if solution.status == 2 else float(bound) / HOUR
    if solution.x is None:
        return Solution(uses=None, bound=bound, stopped=stopped)
    x = solution.x
    if not lend and not at_once:
        again = program.simplest(x, seconds * ASIDE)
        x = again.x if again.x is not None else x
    uses = read(program.parts, x[program.number], x[program.sent])
    return Solution(uses=uses, bound=0.0 if lend else bound, stopped=stopped, extra=round(float(x[-1])))


def within(columns: Sequence[Option], stock: Mapping[str, int], lend: str) -> Iterator[ReplicaRange]:
    """Yield the ranges of every column that the GPUs there are allow."""
    for c in columns:
        name = c.site.gpu.name
        held = c.full if name == lend or name not in stock else stock[name] // c.gpus - c.spares
        yield from ranges(c, min(c.full, held))


def covered(column: Option) -> list[Bucket]:
    """Return the buckets a column serves."""
    group = column.group
    return [(group.task.name, b) for b in range(group.first, group.last + 1)]


class Program:
    """The program over ranges: of each whether it is `on`, the `number` of its replicas and the share `sent` there.

    Then come the servers of each type that comes in servers; the last variable is the number of GPUs lent. Costs are in
    USD per hour, near 1.
    """

    def __init__(self, parts: Sequence[ReplicaRange], stock: Mapping[str, int], lend: str, servers: bool = True):
        k = len(parts)
        costs = {r.option.site.gpu.name: r.option.site.cost for r in parts if servers}
        self.units = {gpu: cost for gpu, cost in costs.items() if cost and cost.unit > 1}
        self.parts, self.stock, self.lend, self.size = parts, stock, lend, 3 * k + len(self.units) + 1
        self.on, self.number, self.sent = np.arange(k), k + np.arange(k), 2 * k + np.arange(k)
        self.servers = dict(zip(self.units, range(3 * k, self.size - 1), strict=True))
        high = np.array([r.high for r in parts], float)
        many = np.full(len(self.units), np.inf)
        self.upper = np.concatenate([np.ones(k), high, np.ones(k), many, [np.inf if lend else 0.0]])
        self.whole = np.concatenate([np.ones(2 * k), np.zeros(k), np.ones(len(self.units) + 1)])
        self.cost, self.lent = np.zeros(self.size), np.zeros(self.size)
        one_by_one = np.array([r.option.site.gpu.name not in self.units for r in parts], float)
        each = HOUR * one_by_one * np.array([r.option.usd for r in parts])
        self.cost[self.number] = each
        self.cost[self.on] = each * [r.option.spares for r in parts]
        self.cost[self.sent] = [HOUR * r.option.work for r in parts]
        self.cost[list(self.servers.values())] = [HOUR * c.unit * c.rate(None) for c in self.units.values()]
        self.lent[-1] = 1.0
        self.rows: list[dict[int, float]] = []
        self.bounds: list[tuple[float, float]] = []

    def row(self, coefficients: Mapping[Any, float], low: float, high: float) -> None:
        """Add: low <= coefficients x variables <= high."""
        self.rows.append({int(i): float(v) for i, v in coefficients.items() if v})
        self.bounds.append((low, high))

    def write(self, buckets: Sequence[Bucket]) -> bool:
        """Write the constraints; return False when no range serves some bucket."""
        serving: dict[Bucket, list[int]] = {b: [] for b in buckets}
        for i, r in enumerate(self.parts):
            for b in covered(r.option):
                serving[b].append(i)
        for those in serving.values():
            self.row({self.sent[i]: 1.0 for i in those}, 1.0, 1.0)
        for r, on, number, sent in zip(self.parts, self.on, self.number, self.sent, strict=True):
            self.row({number: 1.0, on: -r.high}, -np.inf, 0.0)
            self.row({number: 1.0, on: -r.low}, 0.0, np.inf)
            self.row({sent: 1.0, number: -r.slope, on: -r.base}, -np.inf, 0.0)
            if r.low < r.option.full:
                self.row({sent: 1.0, number: -1 / r.option.full}, -np.inf, 0.0)
        for gpu, count in self.stock.items():
            self.row({**self.taken(gpu), self.size - 1: -1.0 if gpu == self.lend else 0.0}, -np.inf, count)
        for gpu, cost in self.units.items():
            self.row({**self.taken(gpu), self.servers[gpu]: -cost.unit}, -np.inf, 0.0)
        return all(serving.values())

    def taken(self, gpu: str) -> dict[int, float]:
        """Return what each variable takes of a type, spares included. [GPU]"""
        mine = [(i, r.option) for i, r in enumerate(self.parts) if r.option.site.gpu.name == gpu]
        replicas = {int(self.number[i]): float(c.gpus) for i, c in mine}
        return replicas | {int(self.on[i]): float(c.gpus * c.spares) for i, c in mine}

    def solve(self, goal: Array, seconds: float, gap: float) -> Any:
        """Return what makes a goal small, as scipy's OptimizeResult."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped,unused-ignore]
        from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]

        lines = [n for n, row in enumerate(self.rows) for _ in row]
        values = [v for row in self.rows for v in row.values()]
        at = (lines, [i for row in self.rows for i in row])
        matrix = coo_array((values, at), shape=(len(self.rows), self.size)).tocsr()
        low, high = zip(*self.bounds, strict=True)
        with quiet():
            return milp(
                goal,
                integrality=self.whole,
                bounds=Bounds(np.zeros(self.size), self.upper),
                constraints=LinearConstraint(matrix, low, high),
                options={"time_limit": seconds, "mip_rel_gap": gap},
            )

    def simplest(self, x: Array, seconds: float) -> Any:
        """Return, of the fleets at the cost of `x`, one of fewest pools, by the techniques named first."""
        most = float(self.cost @ np.where(self.whole > 0, np.round(x), x)) * (1 + SAME)
        self.row(dict(enumerate(self.cost)), -np.inf, most)
        goal = np.zeros(self.size)
        goal[self.on] = [1 + 0.01 * r.option.group.task.techniques.index(r.option.plan.technique) for r in self.parts]
        return self.solve(goal, seconds, 0.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Send what the solver's C++ writes to the process's stdout (a remark on repairs, told or not) to nowhere."""
    try:
        kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # no stdout to protect
        yield
        return
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def read(parts: Sequence[ReplicaRange], replicas: Array, sent: Array) -> tuple[Use, ...]:
    """Return what was chosen: ranges of one column in one pool, and no more replicas than its load needs."""
    pools: dict[int, tuple[Option, int, float]] = {}
    for r, n, share in zip(parts, replicas, sent, strict=True):
        if share > TRACE:
            _, others, load = pools.get(id(r.option), (r.option, 0, 0.0))
            pools[id(r.option)] = r.option, others + round(float(n)), load + float(share)
    return tuple(
        Use(option=c, replicas=min(n, c.needed(share - TRACE)), share=1.0 if share > 1 - TRACE else share)
        for c, n, share in pools.values()
    )
