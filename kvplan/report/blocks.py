"""What a report says, as plain values, which the files in `formats/` render.

A new report is a list of blocks, a new format one file. A `Column` says once what a figure is called, where it comes
from and how it is written: tables and JSON records are both made from it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from kvplan.units import priced_by

Json = dict[str, Any]
#: how a text or a row is meant; a format chooses its looks
Tone = Literal["plain", "answer", "warning", "quiet", "best", "bad", "total"]
T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str  #: one or several sentences
    tone: Tone = "plain"  #: how it is coloured


@dataclass(frozen=True)
class Notes:
    """Short lines under a heading."""

    heading: str  #: over the lines
    lines: tuple[str, ...]  #: one a note


@dataclass(frozen=True)
class Code:
    """Lines to copy, kept as they are, and what is said of them below."""

    heading: str  #: over the lines
    lines: tuple[str, ...]  #: as a shell or a file takes them
    remarks: tuple[str, ...] = ()  #: sentences below the lines
    language: Literal["sh", "yaml"] = "sh"  #: what the lines are written in


@dataclass(frozen=True)
class Bar:
    """A share of a whole, drawn beside the figure that says it."""

    share: float  #: from 0 to 1


@dataclass(frozen=True)
class Span:
    """A range around a point, drawn on the scale from `least` to `most`, all in one unit."""

    low: float  #: the lower end
    point: float  #: the value between
    high: float  #: the upper end
    least: float  #: start of the scale
    most: float  #: end of the scale


Cell = str | Bar | Span


@dataclass(frozen=True)
class Heading:
    """A column as it is read: `wraps` folds at words; `picture` only repeats other columns and goes first."""

    text: str  #: with its unit, '' for none
    align: Literal["left", "right"] = "left"  #: side the cells are aligned to
    wraps: bool = False  #: whether long cells fold at words
    picture: bool = False  #: whether it only repeats other columns, and so goes first


@dataclass(frozen=True)
class Row:
    """Cells under the headings of a table."""

    cells: tuple[Cell, ...]  #: one a heading
    tone: Tone = "plain"  #: how it is coloured


@dataclass(frozen=True)
class Table:
    """Rows under headings. The first `keys` columns name a row: a format too narrow repeats them in a second table."""

    title: str  #: over the headings
    headings: tuple[Heading, ...]  #: of the columns
    rows: tuple[Row, ...]  #: each as long as the headings
    keys: int = 1  #: first columns that name a row


@dataclass(frozen=True)
class Series:
    """Points of a chart, joined by lines or not."""

    label: str  #: in the legend
    x: tuple[float, ...]  #: in the unit of the axis
    y: tuple[float, ...]  #: in the unit of the axis
    joined: bool = True  #: whether lines join the points
    names: tuple[str, ...] = ()  #: what each point is, where the label does not say it; told when pointed at

    def positive(self) -> "Series":
        """Return the points that a logarithmic axis has a place for."""
        kept = [n for n, (x, y) in enumerate(zip(self.x, self.y, strict=True)) if x > 0 and y > 0]
        names = tuple(self.names[n] for n in kept) if self.names else ()
        return replace(self, x=tuple(self.x[n] for n in kept), y=tuple(self.y[n] for n in kept), names=names)


@dataclass(frozen=True)
class Chart:
    """Series over labelled axes (labels with units in brackets), logarithmic unless said otherwise."""

    title: str  #: over the chart
    x_label: str  #: with its unit in brackets
    y_label: str  #: with its unit in brackets
    series: tuple[Series, ...]  #: drawn over each other
    log: bool = True  #: whether both axes are logarithmic
    picture: bool = False  #: whether it only repeats a table beside it, which is enough where one reads text

    def drawable(self) -> "Chart":
        """Return what can be drawn: logarithmic axes have no place for 0; with nothing above it, they are linear."""
        if not self.log:
            return self
        kept = tuple(s for s in (series.positive() for series in self.series) if s.x)
        return replace(self, series=kept) if kept else replace(self, log=False)


@dataclass(frozen=True)
class Measure:
    """One bar: its name, its value, and the range of the value where there is one."""

    name: str  #: at the bar
    value: float  #: in the unit of the axis
    text: str  #: the value as it is written in tables, with its unit
    low: float | None = None  #: lower end of its range
    high: float | None = None  #: upper end of its range
    tone: Tone = "plain"  #: how it is coloured


@dataclass(frozen=True)
class Bars:
    """Values side by side, from zero; it only repeats a table beside it, which is enough where one reads text."""

    title: str  #: over the bars
    label: str  #: of the axis, with its unit in brackets
    bars: tuple[Measure, ...]  #: in the order of the table


@dataclass(frozen=True)
class Slider:
    """A quantity one may change on a page: a choice among values or a number between two."""

    key: str  #: name of the column of `WhatIf.rows`, or of the factor in its formulas
    label: str  #: with its unit
    options: tuple[Any, ...] = ()  #: the values there are rows for; () for a number
    labels: tuple[str, ...] = ()  #: how the options are written
    low: float = 0.0  #: least number
    high: float = 0.0  #: largest number
    step: float = 0.0  #: between two numbers
    start: Any = None  #: what it stands at first


@dataclass(frozen=True)
class Readout:
    """A figure that follows the sliders: a column of the rows, times and over the numbers one may set."""

    key: str  #: column of the rows
    label: str  #: of its axis, with its unit in brackets
    times: tuple[str, ...] = ()  #: sliders it is proportional to
    over: tuple[str, ...] = ()  #: sliders it is inversely proportional to


@dataclass(frozen=True)
class WhatIf:
    """Figures of a grid computed beforehand, of which sliders choose rows; for pages that can be operated."""

    title: str  #: over the sliders
    note: str  #: what is held fixed
    sliders: tuple[Slider, ...]  #: choices first
    quantities: tuple[Readout, ...]  #: one chart each
    name: str  #: column that names a bar
    rows: tuple[Json, ...]  #: one of each bar and each combination of choices


Block = Text | Notes | Code | Table | Chart | Bars | WhatIf


@dataclass(frozen=True)
class Page:
    """A whole report: what is read first stands first."""

    blocks: tuple[Block, ...]  #: what is read first stands first

    @classmethod
    def of(cls, *parts: Block | Iterable[Block] | None) -> "Page":
        """Return a page of blocks and groups of blocks; what is None or says nothing is left out."""
        blocks: list[Block] = []
        for part in parts:
            blocks += [part] if isinstance(part, Block) else part or ()
        return cls(tuple(b for b in blocks if says(b)))

    def worded(self, say: Callable[[str], str]) -> "Page":
        """Return the page with every text put through a function."""
        return Page(tuple(worded(block, say) for block in self.blocks))


def worded(block: Block, say: Callable[[str], str]) -> Block:
    """Return a block with every text put through a function."""
    if isinstance(block, Text):
        return replace(block, text=say(block.text))
    if isinstance(block, Notes):
        return replace(block, heading=say(block.heading), lines=tuple(map(say, block.lines)))
    if isinstance(block, Code):
        return replace(block, heading=say(block.heading), remarks=tuple(map(say, block.remarks)))
    if isinstance(block, Table):
        rows = (replace(r, cells=tuple(say(c) if isinstance(c, str) else c for c in r.cells)) for r in block.rows)
        return replace(block, rows=tuple(rows))
    return block


def says(block: Block) -> bool:
    """Return whether a block has something to say."""
    if isinstance(block, Bars | WhatIf):
        return bool(block.bars if isinstance(block, Bars) else block.rows)
    return bool(block.lines if isinstance(block, Notes) else block.text if isinstance(block, Text) else True)


def read(page: Page) -> tuple[Block, ...]:
    """Return the blocks of a page that a format of text alone writes: those that only repeat a table are left out."""
    return tuple(b for b in page.blocks if not (isinstance(b, Bars | WhatIf) or (isinstance(b, Chart) and b.picture)))


@dataclass(frozen=True, kw_only=True)
class Column(Generic[T]):
    """One figure of a row: its JSON name, its heading, how it is got and how it is written.

    `key` is the name in JSON, dotted where it nests; '' for tables alone. `heading` is None for JSON alone. `value`
    returns base units or None where unknown, which reads as `absent`; `show` writes it, `cell` writes the row where the
    text says more.
    """

    value: Callable[[T], Any]  #: figure of a row in base units, None where unknown
    key: str = ""  #: name in JSON, dotted where it nests; '' for tables alone
    heading: str | None = None  #: name in tables, None for JSON alone
    show: Callable[[Any], str] = str  #: how a figure is written with its unit
    cell: Callable[[T], Cell] | None = None  #: how a row is written where the text says more
    absent: str = "-"  #: what an unknown figure reads as
    align: Literal["left", "right"] = "right"  #: side the cells are aligned to
    wraps: bool = False  #: whether long cells fold at words
    picture: bool = False  #: whether it only repeats other columns
    per_query: bool = False  #: whether it is the cost of a query, which is said of a million where all are small

    def of(self, rows: Sequence[T], like: float | None = None) -> "Column[T]":
        """Return the column as it is written of these rows: small costs of a query as those of a million.

        What is small is said by the cost that the report is about, `like`, or by the largest of the rows. [USD]
        """
        if not self.per_query:
            return self
        amounts = [abs(v) for row in rows if isinstance(v := self.value(row), float)]
        many = priced_by(like or max(amounts, default=0.0))[0]
        if many == 1:
            return self

        def cell(row: T) -> Cell:
            value = self.value(row)
            return self.write(row) if value is None else self.show(value * many)

        return replace(self, heading=(self.heading or "").replace("query", "1M\nqueries"), cell=cell)

    def write(self, row: T) -> Cell:
        """Return the row's cell."""
        if self.cell is not None:
            return self.cell(row)
        value = self.value(row)
        return self.absent if value is None else self.show(value)


def table(
    title: str,
    columns: Sequence[Column[T]],
    rows: Iterable[T],
    *,
    tone: Callable[[T], Tone] = lambda _: "plain",
    keys: int = 1,
    total: Sequence[Cell] | None = None,
    like: float | None = None,
) -> Table:
    """Return the columns that have a heading as a table; `total` is a last row under the same headings.

    Costs of a query are written at the scale of one `like` this, so that a report has one scale. [USD]
    """
    rows = list(rows)
    shown = [c.of(rows, like) for c in columns if c.heading is not None]
    cells = [Row(tuple(c.write(row) for c in shown), tone(row)) for row in rows]
    if total is not None:
        cells.append(Row(tuple(total), "total"))
    headings = tuple(Heading(c.heading or "", c.align, c.wraps, c.picture) for c in shown)
    return Table(title, headings, tuple(cells), keys)


def record(columns: Sequence[Column[T]], row: T) -> Json:
    """Return the columns that have a key as a JSON object; dots nest."""
    document: Json = {}
    for column in columns:
        if column.key:
            *outer, last = column.key.split(".")
            place = document
            for name in outer:
                place = place.setdefault(name, {})
            place[last] = column.value(row)
    return document


def records(columns: Sequence[Column[T]], rows: Iterable[T]) -> list[Json]:
    """Return a JSON object for each row."""
    return [record(columns, row) for row in rows]


def grid(title: str, headings: Sequence[Heading | str], rows: Iterable[Sequence[Cell]], keys: int = 1) -> Table:
    """Return a table of cells that are texts already, where there is no figure to put into JSON."""
    named = tuple(Heading(h) if isinstance(h, str) else h for h in headings)
    return Table(title, named, tuple(Row(tuple(row)) for row in rows), keys)


def notes(heading: str, lines: Iterable[str]) -> Notes:
    """Return the lines that say something, under a heading."""
    return Notes(heading, tuple(line for line in lines if line))


def sentence(text: str) -> str:
    """Return a text as a whole sentence, with a capital and a full stop; '' for none."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""


def warned(warnings: Iterable[str]) -> list[Text]:
    """Return what must be known before the figures are used, a paragraph each."""
    return [Text(f"Note: {sentence(warning)}", "warning") for warning in warnings]


def merged(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return each reason once, behind the names it stands against: 'mqa, gqa:8: the model has ...'."""
    subjects: dict[str, list[str]] = {}
    for name, reason in reasons:
        subjects.setdefault(reason, []).append(name)
    return [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in subjects.items()]


def schema(command: str, **fields: Any) -> Json:
    """Return a JSON document of a command: schema 1, base units (bytes, seconds, USD, tokens), unknown figures null."""
    return {"schema": 1, "command": command, **fields}
