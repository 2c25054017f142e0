"""A fleet's bill: one list of lines that sum to the total, by what the GPUs do and by what is paid for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import fsum, isfinite

from kvplan.errors import SpecError, shown
from kvplan.money.gpu_cost import POWER, GpuCost
from kvplan.specs.line import Line
from kvplan.units import DAY, HOUR, MILLION, MONTH, YEAR, show_number

#: spans a bill can be expressed for [s]
SPANS = {"second": 1.0, "hour": HOUR, "day": DAY, "month": MONTH, "year": YEAR}
#: and amounts of work
WORK = ("query", "million_input", "million_output", "million_total")
#: rounding that work on all GPUs may exceed them by
SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """GPUs that are paid for; raises SpecError where their counts contradict each other."""

    peak: float  #: serve the busiest hour
    headroom: float = 0.0  #: beyond the peak, 0 where the peak already holds it
    spares: float = 0.0  #: for when others fail (N+1)
    unused: float = 0.0  #: of servers that are paid for whole

    def __post_init__(self) -> None:
        sizes = (self.peak, self.headroom, self.spares, self.unused)
        if not all(isfinite(n) and n >= 0 for n in sizes) or not self.peak:
            raise SpecError(f"a fleet needs GPUs for its peak, and none of its counts may be negative: {self}")

    @property
    def gpus(self) -> float:
        """All GPUs that are paid for."""
        return self.peak + self.headroom + self.spares + self.unused


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What queries ask of the GPUs; raises SpecError where a figure is negative or not finite."""

    parts: Mapping[str, float]  #: GPU time of one query by what it is for [s]
    queries_per_month: float  #: volume [1/month]
    input_tokens: float  #: of one query [token]
    output_tokens: float  #: of one query [token]

    def __post_init__(self) -> None:
        amounts = (*self.parts.values(), self.queries_per_month, self.input_tokens, self.output_tokens)
        if not all(isfinite(n) and n >= 0 for n in amounts):
            raise SpecError("a load's seconds, queries and tokens must be finite and not negative")

    @property
    def rate(self) -> float:
        """Mean queries per second."""
        return self.queries_per_month / MONTH

    @property
    def gpu_seconds(self) -> float:
        """GPU time of one query. [s]"""
        return fsum(self.parts.values())

    def work(self, name: str) -> float:
        """Return how much of a kind of WORK comes in a second."""
        tokens = {"input": self.input_tokens, "output": self.output_tokens}
        if name == "query":
            return self.rate
        kind = name.removeprefix("million_")
        return self.rate * (fsum(tokens.values()) if kind == "total" else tokens[kind]) / MILLION


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of cost for GPUs of one use."""

    use: str  #: prefill, decode, idle, headroom, ...
    kind: str  #: rent, capital, power, ...
    amount: float  #: [USD/s]
    use_basis: str  #: how the GPUs are counted, in words
    kind_basis: str  #: how the cost is made up, in words


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a fleet costs. `lines` (by use) and `kinds` (by what is paid for) sum to the same total."""

    cells: tuple[Cell, ...]  #: every use by every kind
    load: Usage  #: what is asked of the GPUs
    gpus: float  #: paid for
    caveats: tuple[str, ...]  #: of the price
    unit: int = 1  #: GPUs that are paid for together

    @property
    def lines(self) -> tuple[Line, ...]:
        """Where each dollar goes: the parts of a query, idle, headroom, spares. [USD/s]"""
        return self._grouped(lambda c: (c.use, c.use_basis))

    @property
    def kinds(self) -> tuple[Line, ...]:
        """What is paid for: rent; or capital, network, interest, colocation, staff and power. [USD/s]"""
        return self._grouped(lambda c: (c.kind, c.kind_basis))

    @property
    def total(self) -> float:
        """USD per second."""
        return fsum(line.amount for line in self.lines)

    def per(self, unit: str) -> float | None:
        """Return the total per unit of SPANS or WORK; None per something that never comes. [USD]"""
        scale = self._scale(unit)
        return None if scale is None else self.total * scale

    def lines_per(self, unit: str, view: str = "use") -> tuple[Line, ...] | None:
        """Return the lines of a view ('use' or 'kind') per unit, None per something that never comes. [USD]"""
        scale = self._scale(unit)
        lines = self.lines if view == "use" else self.kinds
        if scale is None:
            return None
        return tuple(Line(name=line.name, amount=line.amount * scale, basis=line.basis) for line in lines)

    def _scale(self, unit: str) -> float | None:
        if unit in SPANS:
            return SPANS[unit]
        if unit not in WORK:
            raise SpecError(f"a bill per {shown(unit)}: write one of {', '.join((*SPANS, *WORK))}")
        amount = self.load.work(unit)
        return 1 / amount if amount else None

    def _grouped(self, key: Callable[[Cell], tuple[str, str]]) -> tuple[Line, ...]:
        amounts: dict[tuple[str, str], list[float]] = {}
        for cell in self.cells:
            amounts.setdefault(key(cell), []).append(cell.amount)
        return tuple(Line(name=name, amount=fsum(parts), basis=basis) for (name, basis), parts in amounts.items())


def fleet_bill(fleet: Fleet, load: Usage, cost: GpuCost) -> Bill:
    """Return the bill of a fleet under a load; raise SpecError when the work needs more GPUs than serve."""
    at_work = load.rate * load.gpu_seconds
    if at_work > fleet.peak * (1 + SLACK):
        raise SpecError(f"the queries keep {at_work:.4g} GPUs at work, but only {fleet.peak:.4g} serve")
    n = show_number
    shares: list[tuple[str, float, str | None, str]] = [
        (part, load.rate * seconds, part, f"{n(seconds)} GPU-s a query: {n(load.rate * seconds)} GPUs on average")
        for part, seconds in load.parts.items()
    ]
    waiting = max(fleet.peak - at_work, 0.0)
    shares += [
        ("idle", waiting, None, f"{n(waiting)} of {n(fleet.peak)} GPUs: the load is below what they could serve"),
        ("headroom", fleet.headroom, None, f"{counted(fleet.headroom)} beyond the peak"),
        ("spares", fleet.spares, None, f"{counted(fleet.spares)} to stand in when others fail"),
        ("unused", fleet.unused, None, f"{counted(fleet.unused)} of servers of {cost.unit}, which are paid for whole"),
    ]
    cells = [
        Cell(use=use, kind=kind.name, amount=gpus * kind.amount, use_basis=basis, kind_basis=kind.basis)
        for use, gpus, part, basis in shares
        for kind in kinds_of(cost, part)
    ]
    return Bill(cells=tuple(cells), load=load, gpus=fleet.gpus, caveats=cost.caveats, unit=cost.unit)


def counted(gpus: float) -> str:
    """Return a number of GPUs: '1 GPU', '2.5 GPUs'."""
    return f"{gpus:g} GPU{'s' * (gpus != 1)}"


def kinds_of(cost: GpuCost, part: str | None) -> tuple[Line, ...]:
    """Return the lines of one GPU running a part of a query, or waiting. [USD/s]"""
    if cost.draw is None:
        return cost.fixed
    return (*cost.fixed, Line(name=POWER, amount=cost.power(part), basis=cost.power_basis))
