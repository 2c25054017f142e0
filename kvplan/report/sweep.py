"""A study in words, tables, a Pareto front and a heat map, and the same as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kvplan.api.sweep import Swept
from kvplan.api.sweeping.batches import ANSWERED, STATUS
from kvplan.api.sweeping.questions import column
from kvplan.api.sweeping.summary import AxisValue, Field2D, Row
from kvplan.report.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    Heading,
    Json,
    Notes,
    Page,
    Series,
    Table,
    Text,
    grid,
    notes,
    schema,
    sentence,
    table,
)  # fmt: skip
from kvplan.units import (
    show_bytes,
    show_count,
    show_energy,
    show_percent,
    show_time,
    show_tokens,
    show_usd,
)  # fmt: skip

#: rows of a front, and reasons, that a page lists; a document lists all
FRONT, REASONS = 20, 10
#: rows of the best that a page lists where it is not the whole report
FEW = 3
#: parameters that vary in a study whose points are named in a cell
WIDEST = 4
#: numbers from here on are written without decimals
MANY = 1e4
#: fields of a map from the least to the greatest figure
SHADES = "█▓▒░"
#: how a figure of a unit is written
UNITS: dict[str, Callable[[Any], str]] = {
    "s": show_time,
    "USD": show_usd,
    "B": show_bytes,
    "J": show_energy,
    "share": lambda value: show_percent(value, 1),
    "": lambda value: f"{value:,.4g}",
}
#: how the values of a parameter are written
PARAMETERS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("context", "isl", "osl", "output"), show_tokens),
    **dict.fromkeys(("ttft", "tpot", "e2e"), lambda value: value if isinstance(value, str) else show_time(value)),
    **dict.fromkeys(
        ("percentile", "confidence", "headroom", "max_quality_drop", "prefix_hit", "draft_share"),
        lambda value: value if isinstance(value, str) else show_percent(value, 1),
    ),
}


def page(swept: Swept, whole: bool = True) -> Page:
    """Return the report of `kvplan sweep`; the best points alone where it is not to be `whole`."""
    s = swept.summary
    best = s.best if whole else s.best[:FEW]
    return Page.of(
        Text(answer(swept), "answer"),
        Text(f"Note: {sentence(swept.lacking)}" if swept.lacking else "", "warning"),
        Text(where(swept), "quiet"),
        rows_table(f"Least {s.minimize[0]}", swept, best) if best else None,
        *(detail(swept) if whole else ()),
        reasons(s.reasons),
        Text("" if whole or not s.rows else "All tables: add report= to this command.", "quiet"),
    )


def answer(swept: Swept) -> str:
    """Return what was asked and what became of it."""
    s, study = swept.summary, swept.study
    head = f"{study.title or study.name}: {show_count(s.points, 'point')} of kvplan {study.ask}"
    counted = ", ".join(f"{s.statuses[name]:,} {name}" for name in STATUS if s.statuses.get(name))
    missing = f", {s.points - s.rows:,} not asked yet" if s.rows < s.points else ""
    day = f" at the prices of {swept.day}" if swept.day else ""
    return f"{head}{day}: {counted or 'none asked'}{missing}."


def where(swept: Swept) -> str:
    """Return where the table is, how it is read, and what was done this time."""
    if not swept.summary.rows and not swept.summary.strangers:
        return f"There are no points in {swept.folder} yet: the same without so_far= asks them."
    new = f"{show_count(swept.asked, 'point')} asked now, in {show_time(swept.seconds)}."
    took = new if swept.asked else "Nothing was asked now."
    rows = show_count(swept.superseded, "row")
    gone = f" {rows} of points that the study no longer asks went to {swept.folder}/_superseded."
    aside = gone if swept.superseded else ""
    if swept.summary.strangers:
        rows = show_count(swept.summary.strangers, "row")
        aside = f" {rows} of the folder answer other points, or stand on another kvplan, profile or price."
    sql = f"duckdb -c \"from '{swept.folder}/*.parquet'\""
    return f"{took}{aside} The table, a row a point: {sql}"


def detail(swept: Swept) -> Iterator[Block]:
    """Yield what a whole report says besides: every parameter, the front, the map."""
    s = swept.summary
    for name, levels in s.levels.items():
        yield levels_table(swept, name, levels)
    if len(s.minimize) > 1 and s.front:
        total = len(s.front)
        more = f", {FRONT} of {total:,}" if total > FRONT else ""
        yield rows_table(f"Pareto front of {' and '.join(s.minimize)}{more}", swept, thinned(s.front))
        yield front_chart(swept)
    if s.field is not None and s.field.least:
        yield map_table(swept, s.field)
        yield Text(f"{SHADES}: from the least to the greatest; each field has the least of its points.", "quiet")


def thinned(front: Sequence[Row]) -> list[Row]:
    """Return at most FRONT rows of a front, evenly spaced, the ends among them."""
    if len(front) <= FRONT:
        return list(front)
    return [front[round(n * (len(front) - 1) / (FRONT - 1))] for n in range(FRONT)]


def rows_table(title: str, swept: Swept, rows: Sequence[Row]) -> Table:
    """Return points side by side: what varies, then their figures."""
    s = swept.summary
    varied = [column(name) for name in swept.study.varied]
    figures = list(dict.fromkeys((*s.minimize, *s.shown)))
    columns = [parameter_column(name) for name in varied] + [figure_column(name, s.units) for name in figures]
    return table(title, columns, rows, keys=min(len(varied), 3))


def parameter_column(name: str) -> Column[Row]:
    """Return the column of a parameter."""
    return Column[Row](
        heading=name, value=lambda row: row[name], show=PARAMETERS.get(name, plain), align="left", key=name
    )  # fmt: skip


def figure_column(name: str, units: Mapping[str, str]) -> Column[Row]:
    """Return the column of a figure."""
    unit = units.get(name)
    if unit is None:
        return Column[Row](heading=name, value=lambda row: row[name], align="left", key=name)
    return Column[Row](heading=name, value=lambda row: row[name], show=UNITS[unit], key=name)


def plain(value: Any) -> str:
    """Return a value as a table has it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= MANY else f"{value:.4g}"


def levels_table(swept: Swept, name: str, levels: Sequence[AxisValue]) -> Table:
    """Return the values of one parameter: how many points were answered, and the best of them."""
    own = column(name)
    figure = swept.summary.minimize[0]
    named = "at" if len(swept.study.varied) <= WIDEST else None
    columns = (
        Column[AxisValue](heading=own, value=lambda level: label(own, level.label), align="left"),
        Column[AxisValue](heading="answered", value=lambda level: level.answered, show=lambda n: f"{n:,}"),
        Column[AxisValue](heading="other", value=lambda level: level.others, show=lambda n: f"{n:,}" if n else "-"),
        Column[AxisValue](
            heading=f"least {figure}",
            value=lambda level: level.best and level.best[figure],
            show=UNITS[swept.summary.units[figure]],
        ),
        Column[AxisValue](
            heading=named,
            value=lambda level: level.best and place(swept, level.best, own),
            align="left",
            wraps=True,
        ),
    )
    return table(f"By {own}", columns, levels)


def label(name: str, text: str) -> str:
    """Return the label of a value as people write it."""
    return PARAMETERS[name](int(text)) if PARAMETERS.get(name) is show_tokens and text.isdecimal() else text


def place(swept: Swept, row: Row, without: str) -> str:
    """Return the other parameters of a point that vary."""
    names = (column(name) for name in swept.study.varied)
    return ", ".join(
        f"{name} {PARAMETERS.get(name, plain)(row[name])}"
        for name in names
        if name != without and row[name] is not None
    )


def front_chart(swept: Swept) -> Chart:
    """Return the front of the first two figures."""
    s = swept.summary
    x, y = s.minimize[:2]
    points = sorted((float(row[x]), float(row[y])) for row in s.front)
    series = Series("front", tuple(a for a, _ in points), tuple(b for _, b in points), joined=False)
    log = all(a > 0 and b > 0 for a, b in points)
    return Chart("Pareto front", axis(x, s.units), axis(y, s.units), (series,), log=log, picture=True)


def axis(name: str, units: Mapping[str, str]) -> str:
    """Return the label of an axis with its unit in brackets."""
    return f"{name} [{units[name]}]" if units[name] else name


def map_table(swept: Swept, field: Field2D) -> Table:
    """Return the map as a table: a value of y a row, a value of x a column, shaded by rank."""
    shown = field.shown
    x = column(field.shown.x)
    y = column(field.shown.y)
    write = UNITS[swept.summary.units[shown.figure]]
    ranked = sorted(field.least.values())
    bounds = [ranked[len(ranked) * n // len(SHADES)] for n in range(1, len(SHADES))]

    def cell(at: tuple[str, str]) -> Cell:
        value = field.least.get(at)
        return "-" if value is None else f"{SHADES[sum(value > bound for bound in bounds)]} {write(value)}"

    rows = [(label(y, one), *(cell((other, one)) for other in field.xs)) for one in field.ys]
    headings = [Heading(f"{y} \\ {x}"), *(Heading(label(x, one), "right") for one in field.xs)]
    return grid(f"Least {shown.figure} by {y} and {x}", headings, rows)


def reasons(counts: Sequence[tuple[str, int]]) -> Notes:
    """Return why points have no answer, the most frequent first."""
    lines = [f"{show_count(count, 'point')}: {reason}" for reason, count in counts[:REASONS]]
    more = len(counts) - REASONS
    return notes("Why there is no answer", [*lines, f"and {show_count(more, 'other reason')}" if more > 0 else ""])


# -- JSON -----------------------------------------------------------------------------------------


def document(swept: Swept) -> Json:
    """Return the document of `kvplan sweep`."""
    s, study = swept.summary, swept.study
    field = s.field
    return schema(
        "sweep",
        study=study.name,
        title=study.title,
        ask=study.ask,
        day=swept.day or None,
        output=swept.folder,
        points=s.points,
        answered=s.statuses.get(ANSWERED, 0),
        statuses={name: s.statuses.get(name, 0) for name in STATUS},
        not_asked=s.points - s.rows,
        asked_now=swept.asked,
        superseded=swept.superseded,
        strangers=s.strangers,
        lost=list(swept.lost),
        seconds=swept.seconds,
        varied=[column(name) for name in study.varied],
        minimize=list(s.minimize),
        best=[row_of(row) for row in s.best],
        front=[row_of(row) for row in s.front],
        levels={column(name): [level_of(level) for level in levels] for name, levels in s.levels.items()},
        map=None if field is None else {
            "x": column(field.shown.x), "y": column(field.shown.y), "figure": field.shown.figure,
            "xs": list(field.xs), "ys": list(field.ys),
            "least": [[field.least.get((x, y)) for x in field.xs] for y in field.ys],
        },
        reasons=[{"reason": reason, "points": count} for reason, count in s.reasons],
        complete=s.rows == s.points,
    )  # fmt: skip


def row_of(row: Row) -> Json:
    """Return a row as a JSON object: all but its key, which other releases of kvplan give another."""
    return {name: value for name, value in row.items() if name != "key"}


def level_of(level: AxisValue) -> Json:
    """Return a value of a parameter as a JSON object."""
    best = level.best
    return {"value": level.label, "answered": level.answered, "others": level.others,
            "best_point": None if best is None else best["point"]}  # fmt: skip
