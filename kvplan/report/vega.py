"""Charts as Vega-Lite specifications: plain dicts, from which a page, an SVG file and a notebook are drawn."""

from collections.abc import Iterable
from typing import Any

from kvplan.errors import visible
from kvplan.report.blocks import Bars, Chart, Json, Readout, WhatIf

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: Okabe and Ito's colours, which people who are colour-blind tell apart (https://jfly.uni-koeln.de/color/), the two
#: palest left out: on white they have too little contrast
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a34f86", "#7a6a00", "#4d4d4d")
#: colour of a bar by how it is meant; what has no entry is coloured as the first
TONES = {"best": "#00775a", "total": "#4d4d4d", "bad": "#b23a00", "quiet": "#767676"}
#: height of a chart of points, and of one bar [px]
HEIGHT, BAR = 300, 26
#: how a number at an axis is written: large ones whole, small ones in four digits
NUMBER = "abs(datum.value) < 1000 ? format(datum.value, '.4~g') : format(datum.value, ',.0f')"
#: a value beside its bar, as wide as there is room
BESIDE: Json = {"type": "text", "align": "left", "dx": 6, "fontSize": 12, "limit": 200}
#: what would end or escape a string of an expression, and what stands for it
TAME = str.maketrans({'"': "'", "\\": "/"})
#: letters of the longest label
LONGEST = 80
CONFIG: Json = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "mark": {"color": COLOURS[0]},
    "padding": {"left": 5, "top": 5, "bottom": 5, "right": 80},  # the value behind the longest bar
    "autosize": {"type": "fit-x", "contains": "padding"},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 260},
    "axisX": {"titleLimit": 600},
    "axisY": {"titleLimit": HEIGHT - 20},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "orient": "bottom",
        "columns": 3,
        "labelLimit": 300,
        "columnPadding": 30,
    },
    "range": {"category": list(COLOURS)},
}


def drawn(block: Chart | Bars) -> Json:
    """Return the specification of a chart or of bars; what a logarithmic axis has no place for is left out."""
    return charted(block.drawable()) if isinstance(block, Chart) else barred(block)


def safe(value: Any) -> Any:
    """Return a JSON value whose texts hold nothing that could steer a reader."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [safe(item) for item in value]
    return {key: safe(item) for key, item in value.items()} if isinstance(value, dict) else value


def short(text: str, most: int = LONGEST) -> str:
    """Return words on one line and of a bounded length."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def label(text: str) -> str:
    """Return the title of a field: Vega-Lite puts it into strings of expressions, in which none may end or escape."""
    return short(text).translate(TAME)


def from_zero(values: Iterable[float]) -> Json:
    """Return a linear scale from zero; one of zeros alone has a length too."""
    return {"zero": True} if any(values) else {"domain": [0, 1]}


def framed(title: str, **fields: Any) -> Json:
    """Return a specification with what all have in common; its description is what a screen reader says."""
    return {"$schema": SCHEMA, "description": title, "width": "container", "config": CONFIG, **fields}


def charted(chart: Chart) -> Json:
    """Return series over two axes."""
    values: list[Json] = [
        {"x": x, "y": y, "series": s.label, "name": name}
        for s in chart.series
        for x, y, name in zip(s.x, s.y, s.names or (s.label,) * len(s.x), strict=True)
    ]
    labels = [s.label for s in chart.series]
    colour = {"field": "series", "type": "nominal", "title": None, "scale": {"domain": labels}}
    if len(labels) == 1:
        colour["legend"] = None
    marks = [
        {
            "transform": [
                {"filter": {"field": "series", "oneOf": [s.label for s in chart.series if s.joined == joined]}}
            ],
            "mark": {"type": "line", "point": True} if joined else {"type": "point", "size": 70, "filled": True},
            "encoding": {"shape": colour} if not joined else {},
        }
        for joined in dict.fromkeys(s.joined for s in chart.series)
    ]
    return framed(
        chart.title,
        height=HEIGHT,
        data={"values": values},
        encoding={
            "x": axis("x", chart.x_label, chart.log, (v["x"] for v in values)),
            "y": axis("y", chart.y_label, chart.log, (v["y"] for v in values)),
            "color": colour,
            "tooltip": [
                {"field": "name", "title": " "},
                {"field": "x", "type": "quantitative", "title": label(chart.x_label), "format": ",.4~r"},
                {"field": "y", "type": "quantitative", "title": label(chart.y_label), "format": ",.4~r"},
            ],
        },
        layer=marks,
    )  # fmt: skip


def axis(field: str, title: str, log: bool, values: Iterable[float]) -> Json:
    """Return a quantitative axis; a logarithmic one does not begin at zero."""
    scale = {"type": "log", "nice": False} if log else from_zero(values)
    return {
        "field": field,
        "type": "quantitative",
        "title": label(title),
        "scale": scale,
        "axis": {"labelExpr": NUMBER, "labelSeparation": 8},
    }


def barred(block: Bars) -> Json:
    """Return horizontal bars in their order, each with its value in words and a line for its range."""
    values = [
        {"name": b.name, "value": b.value, "text": b.text, "low": b.low, "high": b.high,
         "colour": TONES.get(b.tone, COLOURS[0])}
        for b in block.bars
    ]  # fmt: skip
    name = {"field": "name", "type": "nominal", "sort": None, "title": None}
    reach = [max(b.value, b.high or b.value, 0.0) for b in block.bars]
    layers: list[Json] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {
                "x": bar_axis(block.label, reach),
                "color": {"field": "colour", "type": "nominal", "scale": None},
            },
        }
    ]
    if any(b.low is not None for b in block.bars):
        ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
        layers.append({"mark": {"type": "rule", "strokeWidth": 2}, "encoding": ends})
    for value, high in zip(values, reach, strict=True):
        value["end"] = high
    ends = {"x": {"field": "end", "type": "quantitative"}, "text": {"field": "text"}}
    layers.append({"mark": BESIDE, "encoding": ends})
    tip = [{"field": "name", "title": " "}, {"field": "text", "title": label(block.label)}]
    return framed(
        block.title,
        height=BAR * len(block.bars),
        data={"values": values},
        encoding={"y": name, "tooltip": tip},
        layer=layers,
    )


def bar_axis(title: str, values: Iterable[float] = (1.0,)) -> Json:
    """Return the axis of bars, which begins at zero."""
    return {
        "field": "value", "type": "quantitative", "title": label(title), "scale": from_zero(values),
        "axis": {"labelExpr": NUMBER, "labelSeparation": 8, "tickCount": 5},
    }  # fmt: skip


# -- what a reader may change ---------------------------------------------------------------------


def operated(block: WhatIf) -> list[Json]:
    """Return a specification for each quantity; all follow the same sliders, which the page binds by their keys."""
    return [followed(block, q) for q in block.quantities]


def followed(block: WhatIf, quantity: Readout) -> Json:
    """Return one quantity's bars at what the sliders stand at."""
    chosen = [s for s in block.sliders if s.options]
    rows = [
        {"name": row[block.name], "base": row[quantity.key], **{s.key: row[s.key] for s in chosen}}
        for row in block.rows
    ]
    value = "*".join(("datum.base", *quantity.times)) + "".join(f"/{key}" for key in quantity.over)
    return framed(
        f"{block.title}: {quantity.label}",
        height=BAR * len({row["name"] for row in rows}),
        data={"values": rows},
        params=[{"name": s.key, "value": s.start} for s in block.sliders],
        transform=[
            *({"filter": f"datum.{s.key} === {s.key}"} for s in chosen),
            {"filter": "isValid(datum.base)"},
            {"calculate": value, "as": "value"},
        ],
        encoding={
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None,
                  "scale": {"domain": list(dict.fromkeys(row["name"] for row in rows))}},
            "tooltip": [
                {"field": "name", "title": " "},
                {"field": "value", "type": "quantitative", "title": quantity.label, "format": ",.3~r"},
            ],
        },
        layer=[
            {"mark": {"type": "bar", "height": {"band": 0.7}}, "encoding": {"x": bar_axis(quantity.label)}},
            {
                "mark": BESIDE,
                "encoding": {
                    "x": bar_axis(quantity.label),
                    "text": {"field": "value", "type": "quantitative", "format": ",.3~r"},
                },
            },
        ],
    )  # fmt: skip
