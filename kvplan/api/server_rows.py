"""What predict, validate and calibrate share for end-to-end rows: reading files, and the profile they stand on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kvplan import catalog
from kvplan.catalog.rows.results import holds_results
from kvplan.catalog.rows.tables import LINE, base, csv_blocks
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.measuring.benchmarks.fields import SETTABLE
from kvplan.measuring.benchmarks.files import load_results
from kvplan.measuring.benchmarks.stated import check_spread, check_stated
from kvplan.measuring.serving.predict import roofline, with_load
from kvplan.measuring.serving.reading import NEEDED, TIMES, median_of, read_server
from kvplan.measuring.serving.rows import Refused, ServerRow, overrun
from kvplan.specs.serving_profile import ServingProfile

Spec = TypeVar("Spec")
#: a token's time below this part of a roofline's is none of that server: drafts that no row marks save less
IMPOSSIBLE = 0.2


@dataclass(frozen=True, kw_only=True)
class RowFile:
    """A file of end-to-end rows, or a block of it."""

    name: str  #: the file's, without its folder
    columns: list[str]  #: names of its columns, in their order
    raw: list[dict[str, object]]  #: its rows as they stand: column -> text or number
    rows: list[ServerRow | Refused]  #: each row as it was understood
    noun: str  #: what a row's `line` counts: "line" or "load"


def read_table(word: str, kind: str | None, settings: Mapping[str, str], measured: bool) -> RowFile:
    """Return a CSV or result file of end-to-end rows; arguments as those of `tables`."""
    return next(tables(word, kind, settings, measured, None))


def tables(
    word: str, kind: str | None, settings: Mapping[str, str], measured: bool, size: int | None
) -> Iterator[RowFile]:
    """Yield a CSV file of end-to-end rows as tables of at most `size` rows (None: all), a result file as one.

    `kind` is what the user calls the rows, `settings` are columns that hold for all rows; times are read where they are
    `measured`. A file that lacks a column is refused before any row is read.
    """
    model, gpu = remembered(catalog.model), remembered(catalog.gpu)

    def understood(entries: Sequence[Mapping[str, object]]) -> list[ServerRow | Refused]:
        rows = [
            read_server(entry, int(str(entry[LINE])), model, gpu, measured, catalog.stated_engine) for entry in entries
        ]
        check_spread(settings, rows)
        return rows

    check_stated(settings)
    name = base(word)
    if holds_results(word):
        if kind not in (None, "e2e"):
            raise SpecError(f"{name}: result files hold e2e rows, not {kind}; leave out kind={kind}")
        points = load_results(word, settings)
        columns = list(dict.fromkeys(column for point in points for column in point))
        raw: list[dict[str, object]] = [{column: point.get(column, "") for column in columns} for point in points]
        entries = [{**entry, "mean_lengths": "yes", LINE: n} for n, entry in enumerate(raw, 1)]
        yield RowFile(name=name, columns=columns, raw=raw, rows=understood(entries), noun="load")
        return
    needed = (*NEEDED, *TIMES.values()) if measured else NEEDED

    def check(columns: list[str]) -> None:
        given = {*columns, *settings}
        if missing := [column for column in needed if not {column, median_of(column)} & given]:
            hint = f"; add it, or settings={missing[0]}=..." if missing[0] in SETTABLE else ", the measured time"
            raise SpecError(f"{name}: line 1: missing column {shown(missing[0])}, which e2e rows need{hint}")

    for own, block in csv_blocks(word, size, check):
        columns = [*own, *(column for column in settings if column not in own)]
        raw = [{**entry, **settings} for entry in block]
        yield RowFile(name=name, columns=columns, raw=raw, rows=understood(raw), noun="line")


def remembered(read: Callable[[str], Spec]) -> Callable[[str], Spec]:
    """Return a reader of names that reads each once, and knows those it could not read."""
    known: dict[str, Spec] = {}
    refused: dict[str, KvplanError] = {}

    def look(word: str) -> Spec:
        if word in refused:
            raise refused[word].with_traceback(None)
        if word not in known:
            try:
                known[word] = read(word)
            except KvplanError as error:
                refused[word] = error
                raise
        return known[word]

    return look


def usable(tables: Sequence[RowFile], steady: bool = False) -> tuple[list[ServerRow], list[str]]:
    """Return the rows of files that can be compared with measurements, and why others cannot; raise if none can.

    For a fit those alone that tell a `steady` state.
    """
    engine = catalog.fitted_engine()
    rows = []
    reasons = []
    for table in tables:
        known = [with_load(row, engine) for row in table.rows]
        loaded = [pair[0] for pair in known if not isinstance(pair, Refused)]
        least = iter(roofline(loaded, engine) if loaded else ())
        for row, pair in zip(table.rows, known, strict=True):
            if isinstance(pair, Refused):
                reason = pair.reason
            else:
                reason = impossible(pair[0], next(least)[1]) or (overrun(pair[0]) if steady else "")
            if isinstance(pair, Refused) or reason:
                reasons.append(f"{table.name}: {table.noun} {row.line}: {reason}")
            else:
                rows.append(pair[0])
    if not rows:
        raise SpecError(f"no row can be used; {reasons[0]}")
    return rows, reasons


def impossible(row: ServerRow, least: float) -> str:
    """Return why a measured TPOT is none of its server, '' where it may be; `least`: what a roofline takes [s]."""
    drafts = max(row.speculation_gain or 1.0, 1.0)
    if row.tpot is None or row.tpot * drafts >= IMPOSSIBLE * least:
        return ""
    return (
        f"tpot_ms: {row.tpot * 1e3:.3g} ms is less than a fifth of the {least / drafts * 1e3:.3g} ms that it takes at "
        "the datasheet's rates; is it in milliseconds, and of this model, GPU and tp?"
    )


def profile_of(words: Sequence[str]) -> ServingProfile:
    """Return the serving profile of a name or path, the shipped one without; raise SpecError for several."""
    if len(words) > 1:
        raise SpecError(f"profiles: end-to-end rows stand on one profile, got {len(words)}")
    return catalog.serving_profile(*words)
