"""Two recommendations side by side, and the same as JSON."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from kvplan.planning.compare import COST, MONTHLY, TERM, Change, Comparison, Gate, Value
from kvplan.report.blocks import Bars, Column, Json, Measure, Page, Table, Text, notes, records, schema, table
from kvplan.units import priced_by, said_per_query, show_energy, show_percent, show_time, show_usd, show_usd_each

#: how a figure of each kind is printed
SHOWN = {
    "count": lambda v: f"{v:,.0f}",
    "time": show_time,
    "usd": show_usd,
    "share": lambda v: show_percent(v, 1),
    "energy": show_energy,
}
#: field -> what a table calls it; what stands in no row, as a line of a bill, is called by its field
LABELS = {
    "gpu": "GPU",
    TERM: "term of the price",
    "tp": "TP",
    "dp": "DP",
    "gpus": "GPUs",
    "requests_in_flight": "requests in flight each",
    "ttft": "TTFT",
    "tpot": "TPOT",
    "e2e": "end to end",
    COST: "a query",
    "usd_per_query.p10": "low end (P10)",
    "usd_per_query.p90": "high end (P90)",
    "usd_per_million_tokens": "a million tokens",
    MONTHLY: "a month",
    "slo_probability": "chance to keep the limits",
    "quality.drop": "quality loss",
    "joules_per_query": "energy of a query",
    "workload.name": "workload",
    "workload.queries_per_day": "queries a day",
    "workload.input_tokens": "tokens in",
    "workload.output_tokens": "tokens out",
    "workload.prefix_share": "input shared with earlier requests",
    "limits.ttft": "TTFT limit",
    "limits.tpot": "TPOT limit",
    "limits.e2e": "end-to-end limit",
    "limits.percentile": "percentile",
    "limits.max_quality_drop": "quality limit",
    "limits.gpus": "GPUs limit",
    "limits.confidence": "confidence",
    "day": "prices of",
}
#: the cost of a query, and its range
OF_QUERY = (COST, "usd_per_query.p10", "usd_per_query.p90")


#: how an unknown figure of a field reads
UNKNOWN = {"limits": "none", "weights": "checkpoint"}


def label(x: Change, like: float | None = None) -> str:
    """Return what a figure is called, costs as those of a million queries where one like this is said so. [USD]"""
    name = LABELS.get(x.field, x.field)
    return said_per_query(name, like) if x.field in OF_QUERY else name


def page(c: Comparison) -> Page:
    """Return the report of `kvplan compare`."""
    lines = at_scale([line for line in c.lines if line.before or line.after], c, {line.field for line in c.lines})
    title = said_per_query("Where each dollar of a query goes", per_query(c))
    refusals = (f"{name}: {reason}" for name, reason in zip(c.names, c.reasons, strict=True) if reason)
    return Page.of(
        Text(answer(c), "answer"),
        notes("Budget gate", map(held, c.gates)),
        side_by_side(c, "What the two questions differ in", c.question) if c.question else None,
        side_by_side(c, "The plans", at_scale(c.plan, c, OF_QUERY)) if c.plan else None,
        side_by_side(c, title, lines) if any(line.changed for line in lines) else None,
        sides(c),
        notes("No plan", refusals),
    )


def per_query(c: Comparison) -> float | None:
    """Return what a query costs after the change, None where that is unknown. [USD]"""
    return next((x.after for x in c.plan if x.field == COST and isinstance(x.after, float)), None)


def at_scale(changes: Sequence[Change], c: Comparison, costs: Container[str]) -> tuple[Change, ...]:
    """Return figures with the named ones, costs of a query, as those of a million where the report says them so."""
    like = per_query(c)
    many = priced_by(like or 0.0)[0]

    def grown(value: Value) -> Value:
        return many * value if isinstance(value, float) else value

    return tuple(replace(x, before=grown(x.before), after=grown(x.after)) if x.field in costs else x for x in changes)


def sides(c: Comparison) -> Bars:
    """Return what a query costs with either plan, nothing where one is unknown."""
    money = next(iter(at_scale([x for x in c.plan if x.field == COST], c, {COST})), None)
    values = (money.before, money.after) if money else ()
    both = [(name, v) for name, v in zip(c.names, values, strict=False) if isinstance(v, int | float)]
    title = said_per_query("Cost of a query", per_query(c))
    return Bars(title, "USD", tuple(Measure(name, v, show_usd(v)) for name, v in both))


def answer(c: Comparison) -> str:
    """Return what changed, in a line."""
    before, after = c.names
    missing = [name for name, reason in zip(c.names, c.reasons, strict=True) if reason]
    if missing:
        return f"{' and '.join(missing)}: no plan keeps every limit."
    if not c.changed:
        return f"The plan {'' if after.startswith('on ') else 'of '}{after} is that of {before}: nothing changed."
    figures = {x.field: x for x in c.plan}
    moved = [
        f"{in_sentence(x, x.after)} instead of {in_sentence(x, x.before)}"
        for field in ("technique", "gpu", TERM, "gpus")
        if (x := figures.get(field)) is not None and x.changed
    ]
    return f"{after} against {before}: {'; '.join([*cost(figures), *moved]) or 'other figures'}."


def in_sentence(x: Change, value: Value) -> str:
    """Return a figure as a sentence says it."""
    if x.field == TERM:
        return {"as given": "GPUs at your price", "None": "GPUs without a price"}.get(str(value), f"{value} GPUs")
    return f"{text(x, value)}{' GPUs' * (x.field == 'gpus')}"


def held(gate: Gate) -> str:
    """Return whether a limit on a cost is kept, in a sentence."""
    return f"{'Passed' if gate.kept else 'Failed'}: {gate.verdict}."


def cost(figures: Mapping[str, Change]) -> list[str]:
    """Return how the cost of a query and the monthly bill moved, nothing where one is unknown."""
    money, month = figures.get(COST), figures.get(MONTHLY)
    if money is None or money.relative is None:
        return []
    before, after = float(money.before or 0.0), float(money.after or 0.0)
    if not money.changed:
        return [f"the same cost, {show_usd_each(after)}"]
    monthly = f", {signed(month)} a month" if month is not None and month.difference else ""
    was = f"{show_usd_each(after)} instead of {show_usd(priced_by(after)[0] * before)}"
    return [f"{was} ({show_percent(money.relative, 1, True)}{monthly})"]


def side_by_side(c: Comparison, title: str, changes: tuple[Change, ...]) -> Table:
    """Return figures of both in columns."""
    before, after = c.names
    columns = (
        Column[Change](heading="", value=lambda x: label(x, per_query(c)), align="left"),
        Column[Change](heading=before, value=lambda x: x.before, cell=lambda x: text(x, x.before)),
        Column[Change](heading=after, value=lambda x: x.after, cell=lambda x: text(x, x.after)),
        Column[Change](heading="change", value=lambda x: x.difference, cell=change),
    )
    return table(title, columns, changes, tone=lambda x: "plain" if x.changed else "quiet")


def text(x: Change, value: Value) -> str:
    """Return a figure as it is printed."""
    if value is None:
        return UNKNOWN.get(x.field.partition(".")[0], "-")
    return value if isinstance(value, str) else SHOWN[x.kind](value) if value or x.kind != "usd" else "$0"


def change(x: Change) -> str:
    """Return by how much a figure changed: shares in points, amounts in percent and as they are."""
    if not x.changed:
        return ""
    if x.difference is None:
        return "changed"
    if x.kind == "share":
        return f"{100 * x.difference:+.1f} points"
    return signed(x) if x.relative is None else f"{signed(x)} ({show_percent(x.relative, 1, True)})"


def signed(x: Change) -> str:
    """Return a difference with its sign."""
    amount = x.difference or 0.0
    return f"{'+' if amount > 0 else '-'}{SHOWN[x.kind](abs(amount))}"


CHANGE = (
    Column[Change](key="field", value=lambda x: x.field),
    Column[Change](key="name", value=label),
    Column[Change](key="before", value=lambda x: x.before),
    Column[Change](key="after", value=lambda x: x.after),
    Column[Change](key="difference", value=lambda x: x.difference),
    Column[Change](key="relative", value=lambda x: x.relative),
    Column[Change](key="changed", value=lambda x: x.changed),
)


GATE = (
    Column[Gate](key="gate", value=lambda g: g.figure),
    Column[Gate](key="limit", value=lambda g: g.limit),
    Column[Gate](key="rise", value=lambda g: g.rise),
    Column[Gate](key="kept", value=lambda g: g.kept),
)


def document(c: Comparison) -> Json:
    """Return the document of `kvplan compare`."""
    return schema(
        "compare",
        before=c.names[0],
        after=c.names[1],
        changed=c.changed,
        question=records(CHANGE, c.question),
        plan=records(CHANGE, c.plan),
        lines=records(CHANGE, c.lines),
        reasons=list(c.reasons),
        gates=records(GATE, c.gates),
    )
