"""Traces: requests with their arrival, lengths and shared prefixes, read piece by piece from logs and results.

Every format is read by `trace_rows.py`; here stand the files, and the order of arrival.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from kvplan.catalog.files import MAX_TABLE, called, path_of, read_json, read_text, reading, writing
from kvplan.catalog.rows.tables import LINE, csv_blocks
from kvplan.catalog.rows.trace_rows import (
    Arrival,
    Read,
    Row,
    aiperf,
    azure,
    burstgpt,
    generic,
    guidellm,
    mooncake,
    mooncake_csv,
    vllm,
)
from kvplan.errors import SpecError, alike, shown
from kvplan.perf.simulate.run import Piece
from kvplan.perf.simulate.state import Records

#: rows that are read at once; characters of a line of JSON; seconds that no trace lasts
ROWS, LONGEST, MOST_SECONDS = 16_384, 4_000_000, 1e10

#: a request, and where it stands in its file, for messages
Placed = tuple[str, Arrival]

#: columns that tell a CSV format, whose it is, and what reads its rows; the first whose columns are all there
TABLES: tuple[tuple[tuple[str, ...], str, Read], ...] = (
    (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), "Azure's", azure),
    (("timestamp_ms", "input_length", "output_length"), "Mooncake's", mooncake_csv),
    (("Timestamp", "Request tokens", "Response tokens"), "BurstGPT's", burstgpt),
    (("arrival", "input", "output"), "your own, in seconds and tokens", generic),
)
#: keys that every line of Mooncake's JSON has, where AIPerf's has `metrics`
KEYS = ("timestamp", "input_length", "output_length")


def _csv(word: str) -> Iterator[Placed]:
    location = called(path_of(word))

    def check(columns: list[str]) -> None:
        if not any(set(names) <= set(columns) for names, _, _ in TABLES):
            raise SpecError(f"{location}: line 1: no trace that kvplan reads; {instead(columns)}")

    for columns, rows in csv_blocks(word, ROWS, check):
        read = next(read for names, _, read in TABLES if set(names) <= set(columns))
        for row in rows:
            place = f"{location}: line {row[LINE]}"
            yield place, read(row, place)


def instead(columns: list[str]) -> str:
    """Return what columns a CSV file should have: those of the format that it is nearest to, else of each."""
    if len(columns) == 1 and (mark := next((m for m in ";\t|" if m in columns[0]), "")):
        return f"its columns are separated by {shown(mark)}, and commas are expected"
    meant = {names: matched(names, columns) for names, _, _ in TABLES}
    names, whose, _ = max(TABLES, key=lambda table: sum(found != "" for found in meant[table[0]]))
    pairs = list(zip(names, meant[names], strict=True))
    if sum(found != "" for _, found in pairs) < len(names) - 1:
        known = "; ".join(f"{', '.join(names)} ({whose})" for names, whose, _ in reversed(TABLES))
        return f"name the columns {known}; got {shown(', '.join(columns))}"
    renamed = [f"rename {shown(found)} to {name}" for name, found in pairs if found not in ("", name)]
    lacking = [f"add {name}" for name, found in pairs if not found]
    return f"for a trace like {whose} ({', '.join(names)}): {', '.join((*renamed, *lacking))}"


def matched(names: tuple[str, ...], columns: list[str]) -> list[str]:
    """Return the column that each name is, or is most like, '' where none is left."""
    left = {column.strip().lower(): column for column in columns if column not in names}
    found = []
    for name in names:
        near = [] if name in columns else alike(name, left, 1)
        found.append(name if name in columns else left.pop(near[0]) if near else "")
    return found


def _json_lines(word: str) -> Iterator[Placed]:
    """Yield the requests of JSON lines; AIPerf writes each when it has ended, so they are put in order of arrival."""
    rows = _objects(word)
    for row, place in rows:
        if "metrics" in row:
            several = [(place, aiperf(row, place)), *((place, aiperf(row, place)) for row, place in rows)]
            yield from sorted(several, key=lambda one: one[1].at)
            return
        yield place, mooncake(row, place)


def _objects(word: str) -> Iterator[tuple[Row, str]]:
    location = called(path_of(word))
    with _opened(word) as file:
        number = 0
        while line := _line(file, location, number + 1):
            number += 1
            if not line.strip():
                continue
            place = f"{location}: line {number}"
            row = read_json(line, place, lines=False) if line.endswith("\n") else _last(line, place)
            if "metrics" not in row and not any(key in row for key in KEYS):
                raise SpecError(
                    f"{place}: no request that kvplan reads; expected {', '.join(KEYS)} (Mooncake's) or metrics "
                    f"(AIPerf's), got {shown(', '.join(row))}"
                )
            yield row, place


def _last(line: str, place: str) -> Row:
    """Return the last line of a file, which may end in the middle."""
    try:
        row = json.loads(line)
    except ValueError:
        raise SpecError(f"{place}: ends in the middle; the file was cut off, get it again") from None
    if not isinstance(row, dict):
        raise SpecError(f"{place}: expected an object, got {shown(row)}")
    return row


@contextmanager
def _opened(word: str) -> Iterator[TextIO]:
    """Give a text file, unzipped where its name ends in .gz."""
    path = path_of(word)
    if path.suffix != ".gz":
        with reading(path, called(path), MAX_TABLE) as file:
            yield file
        return
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
            yield io.TextIOWrapper(io.BufferedReader(unzipped), "utf-8-sig", newline="")
    except OSError as error:
        raise SpecError(f"{called(path)}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise SpecError(f"{called(path)}: is not UTF-8 text") from None


def _line(file: TextIO, location: str, number: int) -> str:
    try:
        line = file.readline(LONGEST)
    except EOFError:
        raise SpecError(f"{location}: line {number}: the compressed file ends in the middle; get it again") from None
    if len(line) == LONGEST:
        raise SpecError(f"{location}: line {number}: longer than {LONGEST:,} characters; expected a request a line")
    return line


def _json(word: str) -> Iterator[Placed]:
    path = path_of(word)
    document = read_json(read_text(path, called(path)), called(path))
    if isinstance(document.get("benchmarks"), list):
        rows = guidellm(document, called(path))
    elif "input_lens" in document:
        rows = vllm(document, called(path))
    else:
        raise SpecError(
            f"{called(path)}: no trace that kvplan reads; give a CSV, Mooncake's or AIPerf's JSON lines, or a result "
            "of vLLM (--save-detailed) or GuideLLM"
        )
    yield from ((called(path), one) for one in sorted(rows, key=lambda one: one.at))


# -- the whole ------------------------------------------------------------------------------------


def arrivals(word: str) -> Iterator[Arrival]:
    """Yield the requests of a trace, the first at 0, in the order of arrival; raise SpecError.

    A file below is wrong only when it is reached: read it once before it is used.
    """
    name = Path(word).name
    kind = _csv if name.endswith(".csv") else _json if name.endswith(".json") else _json_lines
    if not name.endswith((".csv", ".json", ".jsonl", ".jsonl.gz")):
        found = "is a folder; a trace is a file whose name" if Path(word).is_dir() else "expected a name that"
        raise SpecError(f"{called(path_of(word))}: {found} ends in .csv, .json, .jsonl or .jsonl.gz")
    start, before, number = None, 0.0, 0
    for place, one in kind(word):
        number += 1
        start = one.at if start is None else start
        at = one.at - start
        if at < before:
            raise SpecError(
                f"{place}: request {number:,} comes {before - at:g} s before the one above; sort by arrival"
            )
        if at > MOST_SECONDS:
            raise SpecError(f"{place}: request {number:,} comes {at:.3g} s after the first; give arrivals in seconds")
        before = at
        yield one._replace(at=at)
    if not number:
        raise SpecError(f"{called(path_of(word))}: holds no requests")


def pieces(word: str, size: int = ROWS) -> Iterator[Piece]:
    """Yield the requests of a trace in pieces of so many; those that got no answer are only counted."""
    rows = arrivals(word)
    while whole := list(islice(rows, size)):
        block = [one for one in whole if one.output]
        ends, keys, tokens = [0], [], []
        for one in block:
            keys += [key for key, _ in one.chain]
            tokens += [end for _, end in one.chain]
            ends.append(len(keys))
        yield Piece(
            at=[one.at for one in block], prompt=[one.input for one in block], output=[one.output for one in block],
            rank=[one.rank for one in block], start=ends if keys else (), keys=keys, tokens=tokens,
            failed=len(whole) - len(block),
        )  # fmt: skip


#: columns of a trace of one's own that say what prompts share, and what columns meant so are called
PREFIX, LIKE = ("prefix", "prefix_tokens"), re.compile("prefix|reus|cache|hash|session|conversation", re.IGNORECASE)


def unread_prefixes(word: str) -> tuple[str, ...]:
    """Return a CSV trace's columns that sound like shared prefixes and are not read as such."""
    if not word.endswith(".csv") or not path_of(word).is_file():
        return ()
    columns, _ = next(csv_blocks(word, 1, lambda _: None))
    read = next((read for names, _, read in TABLES if set(names) <= set(columns)), None)
    known = PREFIX if read is generic and PREFIX[0] in columns else ()
    return tuple(column for column in columns if LIKE.search(column) and column not in known)


# -- what became of them --------------------------------------------------------------------------

#: columns of a file of every request: times in seconds from the first arrival on, lengths in tokens
COLUMNS = (
    "request", "arrival", "admitted", "first_token", "last_token", "input", "output", "prefix_hit", "lane",
    "preemptions", "refused", "priority",
)  # fmt: skip


@contextmanager
def requests_file(word: str) -> Iterator[Callable[[Records, int], None]]:
    """Give a function that writes requests which have left to a CSV file; it is there when the block ends well."""
    with writing(path_of(word)) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)

        def write(r: Records, n: int) -> None:
            times = zip(r.came[:n], r.admitted[:n], r.first[:n], r.end[:n], strict=True)
            rest = zip(r.prompt[:n], r.output[:n], r.hits[:n], r.lane[:n], r.again[:n], r.refused[:n], r.rank[:n],
                       strict=True)  # fmt: skip
            for name, moments, others in zip(r.name[:n], times, rest, strict=True):
                moments_text = ("" if t < 0 else f"{t:.9g}" for t in moments)
                rows.writerow((int(name), *moments_text, *(int(x) for x in others)))

        yield write
