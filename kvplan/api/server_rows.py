"""What predict, validate and calibrate share for end-to-end rows: reading files, and the profile they stand on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kvplan import catalog
from kvplan.catalog.tables import LINE, csv_blocks
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.measuring.benchmark_files import SETTABLE, load_results
from kvplan.measuring.serving.predict import with_load
from kvplan.measuring.serving.reading import NEEDED, TIMES, read_server
from kvplan.measuring.serving.rows import Refused, ServerRow
from kvplan.specs.serving_profile import ServingProfile

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class RowFile:
    """A file of end-to-end rows as it stands, and each row as it was understood. `noun` is what `line` counts."""

    where: str
    columns: list[str]
    raw: list[dict[str, object]]
    rows: list[ServerRow | Refused]
    noun: str


def read_table(word: str, asked: str | None, given: Mapping[str, str], measured: bool) -> RowFile:
    """Return a CSV or result file (JSON) of end-to-end rows."""
    return next(tables(word, asked, given, measured, None))


def tables(
    word: str, asked: str | None, given: Mapping[str, str], measured: bool, size: int | None
) -> Iterator[RowFile]:
    """Yield a CSV file of end-to-end rows as tables of at most `size` rows (None: all), a result file (JSON) as one."""
    model, gpu = remembered(catalog.model), remembered(catalog.gpu)

    def understood(entries: Sequence[Mapping[str, object]]) -> list[ServerRow | Refused]:
        return [read_server(entry, int(str(entry[LINE])), model, gpu, measured) for entry in entries]

    where = word.rsplit("/", 1)[-1]
    if word.lower().endswith(".json"):
        if asked not in (None, "e2e"):
            raise SpecError(f"{where}: result files hold e2e rows, not {asked}; leave out kind={asked}")
        points = load_results(word, given)
        columns = list(dict.fromkeys(name for point in points for name in point))
        raw: list[dict[str, object]] = [{name: point.get(name, "") for name in columns} for point in points]
        entries = [{**entry, "mean_lengths": "yes", LINE: n} for n, entry in enumerate(raw, 1)]
        yield RowFile(where=where, columns=columns, raw=raw, rows=understood(entries), noun="load")
        return
    if unknown := [name for name in given if name not in SETTABLE]:
        raise SpecError(f"settings={unknown[0]}: no column to set; known: {', '.join(SETTABLE)}")
    wanted = (*NEEDED, *TIMES.values()) if measured else NEEDED
    for named, block in csv_blocks(word, size):
        columns = [*named, *(name for name in given if name not in named)]
        if missing := [name for name in wanted if name not in columns]:
            hint = f"; add it, or settings={missing[0]}=..." if missing[0] in SETTABLE else ", the measured time"
            raise SpecError(f"{where}: line 1: missing column {shown(missing[0])}, which e2e rows need{hint}")
        raw = [{**entry, **given} for entry in block]
        yield RowFile(where=where, columns=columns, raw=raw, rows=understood(raw), noun="line")


def remembered(read: Callable[[str], Found]) -> Callable[[str], Found]:
    """Return a reader of names that reads each once, and knows those it could not read."""
    known: dict[str, Found] = {}
    refused: dict[str, KvplanError] = {}

    def look(word: str) -> Found:
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


def usable(tables: Sequence[RowFile]) -> tuple[list[ServerRow], list[str]]:
    """Return the rows of files that can be compared with measurements, and why others cannot; raise if none can."""
    engine = catalog.engine()
    rows, left = [], []
    for table in tables:
        for row in table.rows:
            found = with_load(row, engine)
            if isinstance(found, Refused):
                left.append(f"{table.where}: {table.noun} {found.line}: {found.reason}")
            else:
                rows.append(found[0])
    if not rows:
        raise SpecError(f"no row can be used; {left[0]}")
    return rows, left


def profile_of(words: Sequence[str]) -> ServingProfile:
    """Return the serving profile asked for, else the shipped one."""
    if len(words) > 1:
        raise SpecError(f"profiles: end-to-end rows stand on one profile, got {len(words)}")
    return catalog.serving_profile(*words)
