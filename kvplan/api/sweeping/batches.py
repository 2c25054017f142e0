"""A batch of points: asked by whoever takes it, and handed back as the content of a Parquet file."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from kvplan.api.sweeping.questions import QUESTIONS, TEXT, StudyQuestion, attempted, column
from kvplan.catalog.studies.marks import digest, foundation
from kvplan.catalog.studies.parts import Columns, encoded, stand_in
from kvplan.errors import KvplanError, SpecError, one_line
from kvplan.specs.sweep import Study, Value

#: how a point may have ended
ANSWERED, INFEASIBLE, REFUSED, FAILED = "answered", "infeasible", "refused", "failed"
STATUS = (ANSWERED, INFEASIBLE, REFUSED, FAILED)
#: points of a batch at most, and after how long one is handed back as far as it is [s]
MOST, PATIENCE = 2000, 4.0


@dataclass(frozen=True, kw_only=True)
class KeyedPoint:
    """A point with its key."""

    number: int  #: in the order of the file
    key: bytes  #: digest of the point and of what its answer stands on
    values: dict[str, Value]  #: parameter -> its value


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Points for one worker, and all that it has to know."""

    ask: str  #: the question
    points: tuple[KeyedPoint, ...]  #: neighbours share work
    columns: tuple[tuple[str, str], ...]  #: (name, kind) of the columns of the table
    parameters: tuple[tuple[str, str], ...]  #: (parameter, its column)
    stands: str  #: digest of the kvplan that is to answer
    folder: str  #: that paths are relative to


@dataclass(frozen=True, kw_only=True)
class Portion:
    """The first points of a batch, answered."""

    content: bytes  #: of a Parquet file
    name: str  #: digest of the keys
    points: int  #: how many
    wrong: int  #: of these that were refused or failed


def columns_of(study: Study) -> tuple[Columns, tuple[tuple[str, str], ...]]:
    """Return the columns of a study's table as (name, kind), and its parameters as (parameter, column)."""
    parameters = tuple((name, column(name)) for name in study.parameters)
    kinds = [(shown, kind_of(study, name)) for name, shown in parameters]
    figures = [(name, figure.kind) for name, figure in QUESTIONS[study.ask].figures.items()]
    head = [("key", TEXT), ("point", "whole"), *kinds, ("status", TEXT), ("reason", TEXT)]
    return (*head, *figures), parameters


def kind_of(study: Study, parameter: str) -> str:
    """Return the kind of a parameter's column: numbers where all its values are."""
    choices = [c.value for c in (study.fixed[parameter],)] if parameter in study.fixed else []
    choices += [case[parameter].value for case in study.cases if parameter in case]
    for axis in study.axes:
        if axis.name == parameter:
            choices += [choice.value for choice in axis.choices]
            choices += [axis.span.at(0.5)] if axis.span else []
    if all(isinstance(value, bool) for value in choices):
        return "flag"
    if any(isinstance(value, (bool, str, tuple)) for value in choices):
        return TEXT
    return "whole" if all(isinstance(value, int) for value in choices) else "real"


def answer(batch: Batch, patience: float = PATIENCE) -> Portion:
    """Ask the points of a batch, at least one, until `patience` [s] is over; raise SpecError on another kvplan."""
    ready(batch.stands, batch.folder)
    question = QUESTIONS[batch.ask]
    end = time.monotonic() + patience
    rows = []
    asked = 0
    for group in groups(question, batch.points):
        rows += [*asked_together(question, group, batch)]
        asked += len(group)
        if time.monotonic() > end:
            break
    content = encoded(batch.columns, {name: [row.get(name) for row in rows] for name, _ in batch.columns})
    wrong = sum(row["status"] in (REFUSED, FAILED) for row in rows)
    return Portion(
        content=content, points=asked, wrong=wrong, name=digest(*(point.key for point in batch.points[:asked]))
    )


@cache
def ready(stands: str, folder: str) -> None:
    """Stand where paths are relative to; refuse to answer for a kvplan that is another."""
    if foundation() != stands:
        raise SpecError(
            "sweep: this worker has another kvplan, or other profiles and prices, than the one that asks; install the "
            "same on every machine, and change no file while a sweep runs"
        )
    stand_in(folder)


def groups(question: StudyQuestion, points: Sequence[KeyedPoint]) -> Iterator[list[KeyedPoint]]:
    """Yield points that differ in gathered parameters alone, one after another."""

    def shared(point: KeyedPoint) -> list[tuple[str, Value]]:
        return sorted((name, value) for name, value in point.values.items() if name not in question.gathered)

    for _, group in groupby(points, shared):
        yield list(group)


def asked_together(question: StudyQuestion, group: Sequence[KeyedPoint], batch: Batch) -> Iterator[dict[str, Any]]:
    """Yield the row of each point of a group; one that fails does not take the others with it."""
    try:
        answers = question.ask([point.values for point in group])
    except Exception as error:
        if len(group) > 1:
            for point in group:
                yield from asked_together(question, [point], batch)
            return
        answers = [error]
    for point, one in zip(group, answers, strict=True):
        yield {**named(point, batch), **told(question, one)}


def named(point: KeyedPoint, batch: Batch) -> dict[str, Any]:
    """Return the columns that name a point."""
    row: dict[str, Any] = {"key": point.key.hex(), "point": point.number}
    kinds = dict(batch.columns)
    for parameter, shown in batch.parameters:
        value = point.values[parameter]
        row[shown] = as_text(value) if kinds[shown] == TEXT else float(value) if kinds[shown] == "real" else value  # type: ignore[arg-type]
    return row


def as_text(value: Value) -> str:
    """Return a value as a column of texts has it."""
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def told(question: StudyQuestion, answer: Any) -> dict[str, Any]:
    """Return the status and the figures of an answer, or why there is none."""
    if isinstance(answer, KvplanError):
        return {"status": REFUSED, "reason": str(answer)}
    if isinstance(answer, Exception):
        return {"status": FAILED, "reason": one_line(f"unexpected {type(answer).__name__}: {answer}")}
    no = question.refusal(answer)
    return {"status": INFEASIBLE if no else ANSWERED, "reason": no, **question.row(answer)}


def answered(batch: Batch) -> Portion | KvplanError:
    """Return an answer, or why the worker gives none; what cannot cross between processes does not."""
    return attempted(lambda: answer(batch))
