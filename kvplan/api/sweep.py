"""Studies larger than one machine: a question at all points of a grid or a sample, kept as Parquet files."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from os import cpu_count

from kvplan import catalog
from kvplan.api import values
from kvplan.api.sweeping.batches import MOST, Batch, KeyedPoint, columns_of
from kvplan.api.sweeping.crews import Crew, pool
from kvplan.api.sweeping.dispatch import Dispatch, cut
from kvplan.api.sweeping.names import check, marks
from kvplan.api.sweeping.questions import QUESTIONS, askable, unavailable
from kvplan.api.sweeping.summary import Summary, summary
from kvplan.catalog.studies import parts
from kvplan.catalog.studies.keys import Ledger, key_of
from kvplan.catalog.studies.marks import foundation
from kvplan.errors import WrongUse
from kvplan.planning.design import points
from kvplan.specs.result import Result
from kvplan.specs.sweep import Choice, Study
from kvplan.units import show_count

#: who may answer
ENGINES = ("pool", "ray")
#: processes at most
MOST_WORKERS = 1024
#: batches each worker gets of a small study, so that all end at about the same time
SHARES = 8
#: is told (points answered, points in all, refused or failed ones) whenever more are on disk
Watch = Callable[[int, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Swept(Result, of="sweep"):
    """What became of a study: how many points have an answer, where, and what they say."""

    study: Study  #: as it was read, with the day of its prices
    folder: str  #: of the Parquet files
    day: str  #: of the prices, '' where the study varies it
    asked: int  #: points answered this time
    superseded: int  #: rows put aside because the study does not ask them any more
    lost: tuple[int, ...]  #: numbers of points that ended every worker that asked them
    seconds: float  #: this took [s]
    summary: Summary  #: what the answers say

    @property
    def lacking(self) -> str:
        """Why the table is not complete, '' where it is."""
        s = self.summary
        if not self.lost:
            barred = s.rows and s.rows == sum(s.statuses.get(name, 0) for name in ("refused", "failed"))
            return f"none of {show_count(s.rows, 'point')} could be asked: {s.reasons[0][0]}" if barred else ""
        some = ", ".join(f"{n:,}" for n in self.lost[:5])
        them = "it" if len(self.lost) == 1 else "them"
        ended = f"{show_count(len(self.lost), 'point')} ended every process that asked {them} (point {some})"
        return f"{ended}; ask again to try {them}"


def sweep(
    file: str,
    output: str | None = None,
    *,
    engine: str = "pool",
    address: str | None = None,
    workers: int | None = None,
    on: str | None = None,
    so_far: bool = False,
    compact: bool = False,
    progress: Watch | None = None,
) -> Swept:
    """Ask every point of a study (a YAML file, or the name of a shipped one) that has no answer yet.

    Answers go as Parquet files into the folder `output` (`NAME.sweep` beside you unless it is given) as they come:
    asked again after an interruption, a sweep goes on where it ended; a point is asked anew when its profile, prices or
    files, or kvplan itself, have changed. `engine` is 'pool', with `workers` processes (one for every core), or 'ray',
    on the cluster at `address`. `on` is the day of the prices: that of the folder, else today. With `so_far` nothing is
    asked; `compact` makes one file of all. `progress` is told (done, of how many, refused or failed). Raises
    KvplanError for a file, names and values that cannot be understood.

        >>> kvplan.sweep("study.yaml", "results", workers=1).summary.rows
        6
    """
    begun = time.monotonic()
    who = values.one_of(engine, "engine", ENGINES)
    many = values.given(values.count, workers, "workers", 1, MOST_WORKERS)
    quiet, whole = values.flag(so_far, "so_far"), values.flag(compact, "compact")
    where, told = values.given(values.word, address, "address"), values.given(values.called, progress, "progress")
    if quiet and whole:
        raise WrongUse("so_far, compact: a look writes nothing; leave one of them out")
    if where is not None and who != "ray":
        raise WrongUse("address: is that of a Ray cluster; say engine=ray with it")
    parts.parquet()
    if who == "ray" and not quiet:
        from kvplan.api.sweeping.cluster import library

        library()
    study = catalog.study(values.word(file, "file"), askable(), unavailable())
    check(study)
    name = values.word(output, "output") if output is not None else f"{study.file.rpartition('.')[0]}.sweep"
    folder = parts.results(name, make=not quiet)
    study, day = dated(study, on, parts.about(folder).get("day"))
    ledger = Ledger(point.key for point in keyed(study))
    asked = 0
    moved = 0
    lost: tuple[int, ...] = ()
    with nullcontext() if quiet else parts.alone(folder):
        if not quiet:
            parts.tell_about(folder, {"schema": 1, "command": "sweep", "study": study.name, "day": day})
            asked, lost = run(study, folder, ledger, Hands(who, where, many), told)
            moved = tidied(folder, ledger) if not lost else 0
            if whole:
                parts.compact(folder)
        result = summary(study, folder, ledger)
    return Swept(
        study=study, folder=str(folder), day=day, asked=asked, superseded=moved, lost=lost,
        seconds=time.monotonic() - begun, summary=result,
    )  # fmt: skip


def dated(study: Study, on: str | None, kept: object) -> tuple[Study, str]:
    """Return a study with the day of its prices: the one asked for, the file's, the folder's, else today."""
    varied = "on" in study.varied
    if varied and on is not None:
        raise WrongUse("on: the study varies the day; leave it out")
    if varied:
        return study, ""
    own = study.fixed["on"].value if "on" in study.fixed else kept
    day = values.day(on if on is not None else str(own) if own else None)
    return replace(study, fixed={**study.fixed, "on": Choice(value=day, line=0)}), day


def keyed(study: Study) -> Iterator[KeyedPoint]:
    """Yield the points of a study with their keys; those that share work follow one another."""
    standing = marks(study)
    base = foundation()
    for point in points(study, QUESTIONS[study.ask].gathered):
        named = (standing[pair] for pair in point.values.items() if pair in standing)
        key = key_of(study.ask, point.values, (base, *named))
        yield KeyedPoint(number=point.number, key=key, values=dict(point.values))


def unanswered(study: Study, ledger: Ledger) -> Iterator[KeyedPoint]:
    """Yield the points of a study that have no answer yet."""
    for n, point in enumerate(points(study, QUESTIONS[study.ask].gathered)):
        if not ledger.has(key := ledger[n]):
            yield KeyedPoint(number=point.number, key=key, values=dict(point.values))


@dataclass(frozen=True)
class Hands:
    """Who is to answer."""

    engine: str  #: one of ENGINES
    address: str | None  #: of a cluster
    workers: int | None  #: None for all there are

    def crew(self, points: int) -> AbstractContextManager[Crew]:
        """Return those who answer so many points."""
        if self.engine == "ray":
            from kvplan.api.sweeping.cluster import cluster

            return cluster(self.address, self.workers)
        return pool(min(self.workers or cpu_count() or 1, points))


def run(
    study: Study, folder: parts.Folder, ledger: Ledger, hands: Hands, told: Watch | None
) -> tuple[int, tuple[int, ...]]:  # fmt: skip
    """Ask the points that have no answer; return how many were answered, and the numbers of those that were lost."""
    for rows in parts.rows(folder, ("key",)):
        for key in rows["key"]:
            ledger.note(bytes.fromhex(key))
    total = len(ledger)
    done = ledger.answered
    wrong = 0
    before = done

    def returned(answered: int, amiss: int) -> None:
        nonlocal done, wrong
        done, wrong = done + answered, wrong + amiss
        if told is not None:
            told(done, total, wrong)

    if done == total:
        return 0, ()
    columns, parameters = columns_of(study)
    like = Batch(
        ask=study.ask,
        points=(),
        columns=tuple(columns),
        parameters=parameters,
        stands=foundation(),
        folder=parts.here(),
    )
    with hands.crew(total - done) as crew:
        shares = crew.size * SHARES if crew.size > 1 else 1
        size = min(MOST, ceil((total - done) / shares))
        batches = cut(unanswered(study, ledger), size, like)
        lost = Dispatch(batches, crew, lambda p: parts.add(folder, p.name, p.content), returned).run()
    return done - before, tuple(point.number for point in lost)


def tidied(folder: parts.Folder, ledger: Ledger) -> int:
    """Put the rows aside that the study does not ask any more; return how many there were."""
    if parts.rows_in(folder) == len(ledger):
        return 0
    ledger.forget()
    return parts.tidy(folder, lambda key: ledger.note(bytes.fromhex(key)))
