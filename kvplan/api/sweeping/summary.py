"""What the answers of a study say: counts, the best points, a Pareto front, a map; read once, a batch at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import pairwise
from math import inf
from typing import Any, Protocol

from kvplan.api.sweeping.batches import ANSWERED, as_text
from kvplan.api.sweeping.questions import QUESTIONS, TEXT, column
from kvplan.catalog.studies import parts
from kvplan.catalog.studies.keys import Ledger
from kvplan.specs.sweep import HeatMap, Study

#: a row of the table
Row = Mapping[str, Any]
#: best points that are kept, reasons that are told apart, and values of a parameter that are
BEST, REASONS, VALUES = 10, 1000, 24
#: points of a front that are kept: the first figure's least
FRONT = 2000
#: fields a span is cut into
CUTS = 8


@dataclass(frozen=True, kw_only=True)
class AxisValue:
    """A value of a parameter, and the points that have it."""

    label: str  #: as the study has it, or the ends of a part of a span
    answered: int  #: points with an answer
    others: int  #: points without one: infeasible, refused or failed
    best: Row | None  #: the point with the least of the first figure, None where there is none


@dataclass(frozen=True, kw_only=True)
class Field2D:
    """A map: the least of a figure for every pair of values of two parameters."""

    shown: HeatMap  #: its parameters and its figure
    xs: tuple[str, ...]  #: values of the columns
    ys: tuple[str, ...]  #: values of the rows
    least: Mapping[tuple[str, str], float]  #: (x, y) -> least figure, in base units; missing where there is none


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the answers of a study say; all rows are those the study asks now, each point once."""

    points: int  #: of the study
    rows: int  #: of these that were asked
    strangers: int  #: other rows of the folder: of other points, or of another kvplan, profile or price
    statuses: Mapping[str, int]  #: how many ended how
    reasons: tuple[tuple[str, int], ...]  #: why there was no answer, the most frequent first
    minimize: tuple[str, ...]  #: figures of the front; the best points have the least of the first
    shown: tuple[str, ...]  #: what a row of a report says besides: columns of the table
    units: Mapping[str, str]  #: figure -> its unit
    best: tuple[Row, ...]  #: the best points
    front: tuple[Row, ...]  #: points that no other beats in one figure without losing in another
    levels: Mapping[str, tuple[AxisValue, ...]]  #: parameter that varies -> its values
    field: Field2D | None  #: the map, None where fewer than two parameters vary


def ends(edge: float) -> str:
    """Return an end of a part of a span."""
    return f"{edge:,.0f}" if edge >= 100 else f"{edge:.3g}"


class Labels:
    """How the values of a parameter are told apart: one by one, or by the part of a span they lie in."""

    def __init__(self, study: Study, parameter: str):
        self.column = column(parameter)
        axis = next((axis for axis in study.axes if axis.name == parameter), None)
        self.edges: list[float] = []
        self.all: list[str] = []
        if axis is not None and axis.span is not None:
            self.edges = [float(axis.span.at(n / CUTS)) for n in range(CUTS + 1)]
            self.all = [f"{ends(low)} to {ends(high)}" for low, high in pairwise(self.edges)]
        else:
            listed = axis.choices if axis else [case[parameter] for case in study.cases]
            self.all = list(dict.fromkeys(self.said(choice.value) for choice in listed))

    @staticmethod
    def said(value: Any) -> str:
        """Return a value as the table of results spells it."""
        return f"{value:g}" if isinstance(value, float) else as_text(value)

    def of(self, row: Row) -> str:
        """Return the label of a row."""
        value: Any = row[self.column]
        if not self.edges:
            return self.said(value)
        return str(self.all[min(sum(value >= edge for edge in self.edges[1:-1]), CUTS - 1)])


def summary(study: Study, folder: parts.Folder, ledger: Ledger) -> Summary:
    """Return what the rows of a folder say that a study asks for, each point once."""
    question = QUESTIONS[study.ask]
    minimize = study.minimize or question.minimize
    labels = {name: Labels(study, name) for name in study.varied}
    levels = {name: _Levels(minimize[0], told) for name, told in labels.items() if 1 < len(told.all) <= VALUES}
    shown = study.heat or usual_map(study, minimize[0], labels)
    least = _Least(shown, labels) if shown else None
    counts, front, best = _Counts(), Front(minimize), _Best(minimize[0])
    of_all: list[Kept] = [counts, *levels.values()]
    of_answered: list[Kept] = [front, best, *([least] if least else [])]
    for row in asked(study, folder, ledger):
        for kept in of_all + of_answered if row["status"] == ANSWERED else of_all:
            kept.take(row)
    return Summary(
        points=len(ledger),
        rows=counts.statuses.total(),
        strangers=parts.rows_in(folder) - counts.statuses.total(),
        statuses=dict(counts.statuses),
        reasons=tuple(counts.reasons.most_common()),
        minimize=minimize,
        shown=tuple(name for name in question.shown if name.removeprefix("chosen_") not in map(column, study.varied)),
        units={name: figure.unit for name, figure in question.figures.items() if figure.kind != TEXT},
        best=best.sorted(),
        front=front.sorted(),
        levels={name: level.all for name, level in levels.items()},
        field=least.field if least else None,
    )  # fmt: skip


def asked(study: Study, folder: parts.Folder, ledger: Ledger) -> Iterator[Row]:
    """Yield the rows of a folder that a study asks for, each point once."""
    ledger.forget()
    parameters = [column(name) for name in study.parameters]
    wanted = list(dict.fromkeys(("key", "point", *parameters, "status", "reason", *QUESTIONS[study.ask].figures)))
    for rows in parts.rows(folder, wanted):
        for values in zip(*rows.values(), strict=True):
            row = dict(zip(wanted, values, strict=True))
            if ledger.note(bytes.fromhex(row["key"])):
                yield row


def usual_map(study: Study, figure: str, labels: Mapping[str, Labels]) -> HeatMap | None:
    """Return the map of the first two parameters that vary over few values."""
    fit = [name for name in study.varied if 1 < len(labels[name].all) <= VALUES]
    return HeatMap(x=fit[0], y=fit[1], figure=figure) if len(fit) > 1 else None


class Kept(Protocol):
    """What is kept of the rows of a study as they come."""

    def take(self, row: Row) -> None:
        """Keep what there is to keep of a row."""


class _Counts:
    """How points ended, and why those without an answer have none, as they come."""

    def __init__(self) -> None:
        self.statuses, self.reasons = Counter[str](), Counter[str]()

    def take(self, row: Row) -> None:
        """Count a row; reasons beyond REASONS are not told apart any more."""
        self.statuses[row["status"]] += 1
        reason = row["reason"]
        if reason and (len(self.reasons) < REASONS or reason in self.reasons):
            self.reasons[reason] += 1


class _Levels:
    """The points of every value of a parameter, as they come."""

    def __init__(self, figure: str, labels: Labels):
        self.figure, self.labels = figure, labels
        self.counts: Counter[tuple[str, bool]] = Counter()
        self.best: dict[str, Row] = {}

    def take(self, row: Row) -> None:
        """Count a row."""
        label = self.labels.of(row)
        self.counts[label, row["status"] == ANSWERED] += 1
        value = row[self.figure]
        best = self.best.get(label)
        if value is not None and (best is None or (value, row["point"]) < (best[self.figure], best["point"])):
            self.best[label] = row

    @property
    def all(self) -> tuple[AxisValue, ...]:
        """Every value in the order of the study."""
        return tuple(
            AxisValue(
                label=one, answered=self.counts[one, True], others=self.counts[one, False], best=self.best.get(one)
            )
            for one in self.labels.all
        )


class _Best:
    """The points with the least of a figure, as they come."""

    def __init__(self, figure: str):
        self.figure = figure
        self.kept: list[Row] = []

    def take(self, row: Row) -> None:
        """Keep a row that has the figure; now and then all but the best are dropped."""
        if row[self.figure] is not None:
            self.kept.append(row)
            if len(self.kept) > 100 * BEST:
                self.kept = [*self.sorted()]

    def sorted(self) -> tuple[Row, ...]:
        """Return the best rows, the best first."""
        return tuple(nsmallest(BEST, self.kept, key=lambda row: (row[self.figure], row["point"])))


class _Least:
    """The least of a figure for every pair of values of two parameters, as the points come."""

    def __init__(self, shown: HeatMap, labels: Mapping[str, Labels]):
        self.shown, self.x, self.y = shown, labels[shown.x], labels[shown.y]
        self.least: dict[tuple[str, str], float] = {}

    def take(self, row: Row) -> None:
        """Note the figure of a row where it is the least yet."""
        value = row[self.shown.figure]
        if value is not None:
            place = self.x.of(row), self.y.of(row)
            self.least[place] = min(value, self.least.get(place, inf))

    @property
    def field(self) -> Field2D:
        """The map."""
        return Field2D(shown=self.shown, xs=tuple(self.x.all), ys=tuple(self.y.all), least=self.least)


class Front:
    """Points that no other beats: at least as good in every figure and better in one. Less is better.

    What beat the last point is tried first against the next, since it is likely to beat that too.
    """

    def __init__(self, figures: Sequence[str]):
        self.figures = figures
        self.kept: list[tuple[tuple[float, ...], Row]] = []

    def take(self, row: Row) -> None:
        """Keep a row unless it is beaten; drop those it beats. Of equal rows the first stays."""
        values = [row[name] for name in self.figures]
        if any(value is None for value in values):
            return
        mine = tuple(float(value) for value in values)
        for n, (theirs, other) in enumerate(self.kept):
            if all(a <= b for a, b in zip(theirs, mine, strict=True)):
                if theirs != mine or other["point"] < row["point"]:
                    self.kept.insert(0, self.kept.pop(n))
                    return
                break
        self.kept = [(t, r) for t, r in self.kept if not all(a <= b for a, b in zip(mine, t, strict=True))]
        self.kept.append((mine, row))
        if len(self.kept) > 2 * FRONT:
            self.kept = nsmallest(FRONT, self.kept, key=_order)

    def sorted(self) -> tuple[Row, ...]:
        """Return the rows, those with the least of the first figure first."""
        return tuple(row for _, row in sorted(self.kept, key=_order)[:FRONT])


def _order(pair: tuple[tuple[float, ...], Row]) -> tuple[tuple[float, ...], int]:
    return pair[0], pair[1]["point"]
