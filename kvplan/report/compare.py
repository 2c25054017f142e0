"""Two recommendations side by side, in words and as a JSON document."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvplan.planning.compare import Change, Comparison, Value
from kvplan.report.tables import grid, notes
from kvplan.units import show_energy, show_time, show_usd

SCHEMA = 1
#: how a figure of each kind is printed
SHOWN = {
    "count": lambda v: f"{v:,.0f}",
    "time": show_time,
    "usd": show_usd,
    "share": lambda v: f"{v:.1%}",
    "energy": show_energy,
}


def report(c: Comparison) -> list[RenderableType]:
    """Return the report of `kvplan compare`."""
    parts: list[RenderableType] = [Text(answer(c), style="bold"), Text()]
    if c.question:
        parts += [table(c, "Asked differently", c.question), Text()]
    parts += [table(c, "The plans", c.plan), Text()] if c.plan else []
    lines = tuple(line for line in c.lines if line.before or line.after)
    if any(line.changed for line in lines):
        parts += [table(c, "Where each dollar of a query goes", lines), Text()]
    said = (f"{name}: {reason}" for name, reason in zip(c.names, c.reasons, strict=True) if reason)
    return [*parts, *notes(said, "No plan")]


def answer(c: Comparison) -> str:
    """Return what changed, in a line."""
    before, after = c.names
    missing = [name for name, reason in zip(c.names, c.reasons, strict=True) if reason]
    if missing:
        return f"{' and '.join(missing)}: no plan keeps every limit."
    if not c.changed:
        return f"{after} is the same as {before}."
    figures = {x.name: x for x in c.plan}
    moved = [
        f"{text(x, x.after)} instead of {text(x, x.before)}{' GPUs' * (x.kind == 'count')}"
        for name in ("technique", "GPU", "GPUs")
        if (x := figures.get(name)) is not None and x.changed
    ]
    return f"{after} against {before}: {'; '.join([*cost(figures), *moved]) or 'other figures'}."


def cost(figures: Mapping[str, Change]) -> list[str]:
    """Return how the cost of a query and the monthly bill moved, nothing where one is unknown."""
    money, month = figures.get("a query"), figures.get("a month")
    if money is None or money.relative is None:
        return []
    if not money.changed:
        return [f"the same cost, {text(money, money.after)} a query"]
    monthly = f", {signed(month)} a month" if month is not None and month.difference else ""
    was = f"{text(money, money.after)} a query instead of {text(money, money.before)}"
    return [f"{was} ({money.relative:+.1%}{monthly})"]


def table(c: Comparison, title: str, changes: tuple[Change, ...]) -> Table:
    """Return figures of both in columns."""
    found = grid(("", "left"), (c.names[0], "right"), (c.names[1], "right"), ("change", "right"), title=title)
    for x in changes:
        found.add_row(x.name, text(x, x.before), text(x, x.after), change(x), style="" if x.changed else "dim")
    return found


def text(x: Change, value: Value) -> str:
    if value is None:
        return "none" if x.name.endswith("limit") else "checkpoint" if x.name == "weights" else "-"
    return value if isinstance(value, str) else SHOWN[x.kind](value) if value or x.kind != "usd" else "$0"


def change(x: Change) -> str:
    """Return by how much a figure changed: shares in points, amounts in percent and as they are."""
    if not x.changed:
        return ""
    if x.difference is None:
        return "changed"
    if x.kind == "share":
        return f"{100 * x.difference:+.1f} points"
    return signed(x) if x.relative is None else f"{signed(x)} ({x.relative:+.1%})"


def signed(x: Change) -> str:
    amount = x.difference or 0.0
    return f"{'+' if amount > 0 else '-'}{SHOWN[x.kind](abs(amount))}"


def document(c: Comparison) -> dict[str, Any]:
    """Return the document of `kvplan compare`."""

    def each(changes: tuple[Change, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": x.name,
                "before": x.before,
                "after": x.after,
                "difference": x.difference,
                "relative": x.relative,
                "changed": x.changed,
            }
            for x in changes
        ]

    return {
        "schema": SCHEMA,
        "command": "compare",
        "before": c.names[0],
        "after": c.names[1],
        "changed": c.changed,
        "question": each(c.question),
        "plan": each(c.plan),
        "lines": each(c.lines),
        "reasons": list(c.reasons),
    }
