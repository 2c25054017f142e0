"""The folder of a study's results: small Parquet files, each written whole, and read one batch of rows after another.

A part holds points with their keys. It is on disk before it has its name, so a process that is killed leaves parts that
are whole and perhaps a draft, which the next run removes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import chdir
from pathlib import Path
from typing import Any

from kvplan.catalog.files import called, path_of, read_json, read_text, write_bytes, write_whole, writing_bytes
from kvplan.catalog.studies.marks import digest
from kvplan.errors import SpecError

#: parts of a study, what a compacted one is called, where rows go that the study asks no more, and what else is there;
#: readers of Parquet folders pass over names that begin with _ or a dot
PARTS, COMPACT, SUPERSEDED, ABOUT, LOCK = "part-*.parquet", "part-all", "_superseded", "_study.json", ".lock"
#: rows that are read at once, and rows of a group in a compacted file, which are held at once while it is written
ROWS, GROUP = 20_000, 50_000
#: kinds of columns
REAL, WHOLE, TEXT, FLAG = "real", "whole", "text", "flag"
#: what holds the parts of a study
Folder = Path
#: columns as (name, kind)
Columns = Sequence[tuple[str, str]]
#: column -> its values, all of one length
Rows = Mapping[str, Sequence[Any]]


def parquet() -> Any:
    """Return the module that reads and writes Parquet; raise SpecError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise SpecError("sweep: results are Parquet files; install pyarrow with: pip install 'kvplan[sweep]'") from None
    return pyarrow.parquet


def encoded(columns: Columns, rows: Rows) -> bytes:
    """Return rows as the content of a Parquet file."""
    import pyarrow

    written = parquet()
    kinds = {REAL: pyarrow.float64(), WHOLE: pyarrow.int64(), TEXT: pyarrow.string(), FLAG: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns])
    sink = pyarrow.BufferOutputStream()
    written.write_table(pyarrow.Table.from_pydict(dict(rows), schema=schema), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def here() -> str:
    """Return the folder that paths are relative to."""
    return str(Path.cwd())


def stand_in(folder: str) -> None:
    """Make paths relative to a folder; raise SpecError."""
    try:
        chdir(folder)
    except OSError as error:
        why = f"a worker cannot stand in {folder} ({error.strerror}), which paths of the study are relative to"
        raise SpecError(f"sweep: {why}; share that folder with it") from None


def results(word: str, *, make: bool) -> Path:
    """Return the folder of results, made where it is not there yet; raise SpecError."""
    path = path_of(word)
    try:
        if path.exists() and not path.is_dir():
            raise SpecError(f"{word}: is a file; results are written into a folder, as in output=./results")
        if make:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{word}: cannot be made ({error.strerror or error})") from None
    if not path.is_dir():
        raise SpecError(f"{word}: no such folder; no point of this study has been asked yet")
    return path


def about(folder: Path) -> dict[str, Any]:
    """Return what a folder of results says of itself, {} where it is new; raise SpecError."""
    path = folder / ABOUT
    return read_json(read_text(path, called(path)), called(path)) if path.is_file() else {}


def tell_about(folder: Path, document: Mapping[str, Any]) -> None:
    """Write what a folder of results says of itself."""
    write_whole(folder / ABOUT, json.dumps(dict(document), indent=1) + "\n")


def add(folder: Path, name: str, content: bytes) -> None:
    """Write a part: it is there whole or not at all."""
    write_bytes(folder / f"part-{name}.parquet", content)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from writing into a folder; raise SpecError where one does."""
    try:
        import fcntl
    except ImportError:  # a system without locks of files
        yield
        return
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpecError(f"{folder}: another kvplan sweep writes here; wait for it, or write elsewhere") from None
        yield


def parts(folder: Path) -> list[Path]:
    """Return the parts of a folder."""
    return sorted(folder.glob(PARTS))


def read(path: Path, columns: Sequence[str] | None = None) -> Iterator[Rows]:
    """Yield the rows of a part, a batch at a time; a column it does not have is None. Raises SpecError."""
    opened = parquet()
    try:
        with opened.ParquetFile(path) as file:
            there = file.schema_arrow.names
            wanted = there if columns is None else columns
            for batch in file.iter_batches(ROWS, columns=[name for name in wanted if name in there]):
                values = batch.to_pydict()
                yield {name: values.get(name) or [None] * batch.num_rows for name in wanted}
    except (OSError, ValueError) as error:  # pyarrow's own are among these
        why = str(error).partition("\n")[0]
        again = "remove it, and its points are asked again"
        raise SpecError(f"{called(path)}: cannot be read ({why}); {again}") from None


def rows(folder: Path, columns: Sequence[str]) -> Iterator[Rows]:
    """Yield the rows of all parts, a batch at a time."""
    for path in parts(folder):
        yield from read(path, columns)


def rows_in(folder: Path) -> int:
    """Return the number of rows in all parts."""
    return sum(parquet().read_metadata(path).num_rows for path in parts(folder))


# -- keeping the folder tidy ----------------------------------------------------------------------


def tidy(folder: Path, keep: Callable[[str], bool]) -> int:
    """Move the rows whose key is not to be kept to a folder of their own, and return how many there were.

    `keep` is asked once for every row, in the order of the parts.
    """
    moved = 0
    for path in parts(folder):
        table = _table(path)
        mask = [keep(key) for key in table["key"].to_pylist()]
        if all(mask):
            continue
        (folder / SUPERSEDED).mkdir(exist_ok=True)
        _save(folder / SUPERSEDED / path.name, table.filter([not kept for kept in mask]))
        if any(mask):
            kept = table.filter(mask)
            _save(folder / f"part-{digest(*(key.encode() for key in kept['key'].to_pylist()))}.parquet", kept)
        path.unlink()
        moved += mask.count(False)
    return moved


def compact(folder: Path) -> None:
    """Write all parts as one, sorted by point, and remove them; no more than a group of rows is held at once."""
    import pyarrow

    old = parts(folder)
    if len(old) < 2:
        return
    points = {path: _table(path, ["point"])["point"] for path in old}
    ends = {path: (held[0].as_py(), held[-1].as_py()) for path, column in points.items() if (held := column.sort())}
    ordered = pyarrow.chunked_array([c for column in points.values() for c in column.chunks]).sort()
    edges = sorted({ordered[n].as_py() for n in range(0, len(ordered), GROUP)})
    schema = pyarrow.unify_schemas([_schema(path) for path in old], promote_options="permissive")
    target = folder / f"{COMPACT}.parquet"
    with writing_bytes(target) as file, parquet().ParquetWriter(file, schema, compression="zstd") as out:
        for low, beyond in zip(edges, [*edges[1:], ordered[-1].as_py() + 1], strict=True):
            span = [("point", ">=", low), ("point", "<", beyond)]
            some = [_table(p, filters=span) for p, (first, last) in ends.items() if first < beyond and last >= low]
            table = pyarrow.concat_tables([*some, schema.empty_table()], promote_options="permissive")
            out.write_table(table.select(schema.names).sort_by("point"), row_group_size=GROUP)
    for path in old:
        if path.stem != COMPACT:
            path.unlink()


def _schema(path: Path) -> Any:
    return parquet().read_schema(path).remove_metadata()


def _table(path: Path, columns: Sequence[str] | None = None, filters: Any = None) -> Any:
    try:
        return parquet().read_table(path, columns=columns, filters=filters, use_threads=False)
    except (OSError, ValueError) as error:
        raise SpecError(f"{called(path)}: cannot be read ({str(error).partition(chr(10))[0]}); remove it") from None


def _save(path: Path, table: Any) -> None:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    parquet().write_table(table, sink, compression="zstd", row_group_size=GROUP)
    write_bytes(path, sink.getvalue().to_pybytes())
