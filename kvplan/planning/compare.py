"""Two recommendations side by side, saved or just made: what changed, and by how much."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from kvplan.specs.result import Result
from kvplan.units import MILLION, MONTH, show_percent

if TYPE_CHECKING:
    from kvplan.planning.plan import Plan
    from kvplan.planning.recommend import Recommendation

Document = Mapping[str, Any]
Value = float | str | None


@dataclass(frozen=True)
class Quantity:
    """One figure that is compared, named by the field that a saved document has it in; a report calls it what it likes.

    `kind` is word, count, time [s], usd, share or energy [J].
    """

    field: str  #: where a saved document, or the plan in it, has the figure: keys joined by dots
    kind: str  #: its unit: word, count, time [s], usd [USD], share or energy [J]
    of: "Callable[[Recommendation], Value]"  #: how an answer has it, in base units


def planned(field: str, kind: str, of: "Callable[[Plan], Value]") -> Quantity:
    """Return a figure that the plan of an answer has."""
    return Quantity(field, kind, lambda r: None if r.plan is None else of(r.plan))


def per_million(r: "Recommendation") -> float | None:
    """Return the cost of a million tokens, read and generated. [USD]"""
    usd = r.plan.usd if r.plan else None
    return None if usd is None else usd / (r.demand.prompt + r.demand.output) * MILLION


def per_month(r: "Recommendation") -> float | None:
    """Return the cost of a month. [USD]"""
    usd = r.plan.usd if r.plan else None
    return None if usd is None else usd * r.demand.mean * MONTH


def term(r: "Recommendation") -> str | None:
    """Return how the GPUs of a plan are paid for: owned, or the term of their price."""
    if r.plan is None or r.plan.usd is None or r.site is None:
        return None
    price = r.site.price
    return OWNED if r.site.owned else None if price is None else price.term


#: what a plan pays for in place of a rent
OWNED = "owned"
#: the cost of a query and of a month, which a budget is about, and the term of the price
COST, MONTHLY, TERM = "usd_per_query.expected", "usd_per_month", "price.term"
#: what a gate is called -> the field it holds
GATED = {"query": COST, "month": MONTHLY}
#: figures that differ by less, relatively, differ by the rounding of sums alone
ROUNDING = 1e-9
#: most digits after the point of a share that tell it from another
DIGITS = 6
#: what is compared of two plans
PLAN = (
    planned("technique", "word", lambda p: p.technique),
    planned("weights", "word", lambda p: p.form),
    planned("gpu", "word", lambda p: p.gpu),
    Quantity(TERM, "word", term),
    planned("replicas", "count", lambda p: p.replicas),
    planned("tp", "count", lambda p: p.parallel.tensor),
    planned("dp", "count", lambda p: p.parallel.data),
    planned("gpus", "count", lambda p: p.gpus),
    planned("requests_in_flight", "count", lambda p: p.in_flight),
    planned("ttft", "time", lambda p: p.ttft),
    planned("tpot", "time", lambda p: p.tpot),
    planned("e2e", "time", lambda p: p.e2e),
    planned(COST, "usd", lambda p: p.usd),
    Quantity("usd_per_query.p10", "usd", lambda r: r.usd and r.usd[0]),
    Quantity("usd_per_query.p90", "usd", lambda r: r.usd and r.usd[2]),
    Quantity("usd_per_million_tokens", "usd", per_million),
    Quantity(MONTHLY, "usd", per_month),
    planned("slo_probability", "share", lambda p: p.slo_probability),
    planned("quality.drop", "share", lambda p: p.quality.drop),
    planned("joules_per_query", "energy", lambda p: p.joules),
)
#: and of two questions
QUESTION = (
    Quantity("model", "word", lambda r: r.demand.model.name),
    Quantity("workload.name", "word", lambda r: r.demand.workload.name),
    Quantity("objective", "word", lambda r: r.objective),
    Quantity("workload.queries_per_day", "count", lambda r: r.demand.workload.arrivals.queries_per_day),
    Quantity("workload.input_tokens", "count", lambda r: r.demand.prompt),
    Quantity("workload.output_tokens", "count", lambda r: r.demand.output),
    Quantity(
        "workload.prefix_share", "share", lambda r: r.demand.workload.prefix_share if r.demand.prefix_cache else 0.0
    ),
    Quantity("limits.ttft", "time", lambda r: r.demand.limits.ttft),
    Quantity("limits.tpot", "time", lambda r: r.demand.limits.tpot),
    Quantity("limits.e2e", "time", lambda r: r.demand.limits.e2e),
    Quantity("limits.percentile", "share", lambda r: r.demand.limits.percentile),
    Quantity("limits.max_quality_drop", "share", lambda r: r.demand.limits.quality),
    Quantity("limits.gpus", "count", lambda r: r.demand.limits.gpus),
    Quantity("limits.confidence", "share", lambda r: r.demand.limits.confidence),
    Quantity("day", "word", lambda r: r.day),
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two: figures by their fields, unknown ones None; the bill of a query [USD]; why there is no plan."""

    name: str  #: the file, or the day it is asked again for
    figures: Mapping[str, Value]  #: field -> its value in base units, None where unknown
    lines: Mapping[str, float]  #: line of the bill -> cost of a query [USD]
    reason: str  #: why there is no plan, '' where there is one


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of both: a number in base units or a word, None where it is unknown or there is none.

    `kind` is word, count, time [s], usd, share or energy [J].
    """

    field: str  #: where a saved document has it, or the name of a line of the bill
    kind: str  #: its unit: word, count, time [s], usd [USD], share or energy [J]
    before: Value  #: value of the first, None where unknown
    after: Value  #: value of the second, None where unknown

    @property
    def changed(self) -> bool:
        """Whether the figure differs by more than rounding."""
        if isinstance(self.before, float) and isinstance(self.after, float):
            return abs(self.after - self.before) > ROUNDING * max(abs(self.before), abs(self.after))
        return self.before != self.after

    @property
    def difference(self) -> float | None:
        """The figure after minus the figure before, None unless both are numbers."""
        if not isinstance(self.before, float) or not isinstance(self.after, float):
            return None
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        """Return the difference over what it was, None where it was nothing or is no amount."""
        difference = self.difference
        return None if difference is None or not self.before else difference / float(self.before)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A limit on the rise of a cost, and the rise: shares of the cost before."""

    figure: str  #: the cost that is held, as in GATED: query or month
    limit: float  #: the rise that is allowed, a share
    rise: float | None  #: relative change, below zero where the cost falls; None where it is unknown on either side

    @property
    def kept(self) -> bool:
        """Whether the cost is known and rises by no more than is allowed, rounding of the sums left aside."""
        return self.rise is not None and 1.0 + self.rise <= (1.0 + self.limit) * (1.0 + ROUNDING)

    @property
    def verdict(self) -> str:
        """Return how the cost moved and what was allowed, in words."""
        if self.rise is None:
            return f"the cost of a {self.figure} is not known on both sides"
        moved, allowed = apart(abs(self.rise), self.limit)
        if self.rise < 0:
            return f"the cost of a {self.figure} falls by {moved}; a rise by {allowed} is allowed"
        return f"the cost of a {self.figure} rises by {moved}, {'no more' if self.kept else 'more'} than {allowed}"


@dataclass(frozen=True, kw_only=True)
class Comparison(Result, of="compare"):
    """Two recommendations: what was asked differently, the plans, and where each dollar of a query goes."""

    names: tuple[str, str]  #: short names of the two
    question: tuple[Change, ...]  #: what was asked differently
    plan: tuple[Change, ...]  #: figures of the two plans
    lines: tuple[Change, ...]  #: cost of a query by line of the bill [USD]
    reasons: tuple[str, str]  #: why each has no plan, '' where it has one
    gates: tuple[Gate, ...] = ()  #: limits on the rise of costs, () where none were given

    @property
    def changed(self) -> bool:
        """Whether any figure differs."""
        return any(change.changed for change in (*self.question, *self.plan, *self.lines))

    @property
    def breach(self) -> str:
        """Why the second plan does not pass the gates, '' where it does or there are none."""
        if self.gates and self.reasons[1]:
            return f"{self.names[1]} has no plan: {self.reasons[1]}"
        return "; ".join(gate.verdict for gate in self.gates if not gate.kept)


def apart(one: float, other: float) -> tuple[str, str]:
    """Return two shares with one digit after the point, or as many as tell them apart."""
    pairs = ((show_percent(one, n), show_percent(other, n)) for n in range(1, DIGITS + 1))
    first = next(pairs)
    if abs(one - other) <= ROUNDING:
        return first
    return next((pair for pair in (first, *pairs) if pair[0] != pair[1]), first)


def gates(plan: Iterable[Change], limits: Mapping[str, float]) -> tuple[Gate, ...]:
    """Return limits on the rise of costs (query, month -> a share) beside the rise of each."""
    rises = {change.field: change.relative for change in plan}
    return tuple(Gate(figure=name, limit=limit, rise=rises.get(GATED[name])) for name, limit in limits.items())


def compare(before: Side, after: Side, limits: Mapping[str, float] | None = None) -> Comparison:
    """Return what differs between two recommendations; `limits` (query, month -> a share) gate the rise of costs."""
    plan = tuple(changes(before, after, PLAN))
    question = tuple(change for change in changes(before, after, QUESTION) if change.changed)
    lines = dict.fromkeys((*before.lines, *after.lines))
    return Comparison(
        names=(before.name, after.name),
        question=question,
        plan=plan,
        lines=tuple(
            Change(field=name, kind="usd", before=before.lines.get(name), after=after.lines.get(name)) for name in lines
        ),
        reasons=(before.reason, after.reason),
        gates=gates(plan, limits or {}),
    )


def changes(before: Side, after: Side, wanted: Iterable[Quantity]) -> Iterable[Change]:
    """Yield the figures that either side has."""
    for figure in wanted:
        values = before.figures[figure.field], after.figures[figure.field]
        if values != (None, None):
            yield Change(field=figure.field, kind=figure.kind, before=values[0], after=values[1])


def answered(r: "Recommendation", name: str) -> Side:
    """Return a recommendation as one side."""
    bill = (r.bill.lines_per("query") if r.bill else None) or ()
    return Side(
        name=name,
        figures={f.field: value(f.of(r), f.kind) for f in (*QUESTION, *PLAN)},
        lines={line.name: line.amount for line in bill},
        reason=r.lacking[:ASIDE],
    )


def saved(document: Document, name: str) -> Side:
    """Return the document of `kvplan recommend` as one side."""
    plan, reason = document.get("recommended"), document.get("reason")
    plan = plan if isinstance(plan, Mapping) else {}
    figures = {f.field: value(at(document, f.field), f.kind) for f in QUESTION}
    figures |= {f.field: value(at(plan, f.field), f.kind) for f in PLAN}
    if figures[COST] is not None and "price" in plan and plan["price"] is None:
        figures[TERM] = OWNED  # nothing is paid by the hour
    return Side(
        name=name,
        figures=figures,
        lines=dict(line_of(plan)),
        reason=reason[:ASIDE] if isinstance(reason, str) else "",
    )


def at(document: Document, path: str) -> object:
    """Return what stands at a dotted path, None where there is nothing."""
    node: object = document
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


#: letters of a technique, a GPU, a name in a saved plan
WORD = 200
#: letters of a reason
ASIDE = 2000


def value(raw: object, kind: str) -> Value:
    """Return a figure of a document that may not be ours: a word, a finite number, or None."""
    if kind == "word":
        return raw[:WORD] if isinstance(raw, str) else None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not isfinite(raw):
        return None
    return float(raw)


def line_of(plan: Document) -> Iterable[tuple[str, float]]:
    """Yield (name, cost per query) of each line of a plan's bill. [USD]"""
    lines = plan.get("lines")
    for line in lines if isinstance(lines, list) else []:
        name, amount = at(line, "name"), value(at(line, "usd_per_query"), "usd")
        if isinstance(name, str) and isinstance(amount, float):
            yield name[:WORD], amount
