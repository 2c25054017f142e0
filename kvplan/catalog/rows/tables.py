"""Reading and writing tables of measurements (CSV) and fitted profiles (YAML): the catalogue's other half."""

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TextIO

import yaml

from kvplan.catalog.fields import read_source
from kvplan.catalog.files import (
    MAX_FILE,
    MAX_TABLE,
    Document,
    called,
    path_of,
    read_text,
    read_yaml,
    reading,
    write_whole,
    writing,
)
from kvplan.catalog.lookup import resolve
from kvplan.catalog.shelves import names, shelf
from kvplan.errors import SpecError, visible
from kvplan.specs.source import Source

#: the column under which a row carries its line in the file
LINE = ""
#: characters of a line no table has
LONGEST = 1_000_000
#: the name of a file that stands for stdout
STDOUT = "-"


def csv_columns(word: str) -> list[str]:
    """Return the columns of a CSV file, which its first line names; raise SpecError."""
    path = path_of(word)
    with reading(path, called(path), MAX_TABLE) as file:
        return _columns(csv.DictReader(_lines(file, called(path))), called(path))


def csv_blocks(
    word: str, size: int | None, check: Callable[[list[str]], None]
) -> Iterator[tuple[list[str], list[Document]]]:
    """Yield the columns of a CSV file with `size` of its rows after another (None: all, of a file of MAX_FILE at most).

    Every value is text; a row carries its line under LINE. Only a block is in memory. `check` sees the columns before
    any row is read, and raises for those it cannot use. Raises SpecError, for a line below only when it is reached.
    """
    path = path_of(word)
    with reading(path, called(path), MAX_FILE if size is None else MAX_TABLE) as file:
        reader = csv.DictReader(_lines(file, called(path)))
        columns = _columns(reader, called(path))
        check(columns)
        if size is None:
            _check_size(path)
        rows = _rows(reader, called(path), len(columns))
        block = list(islice(rows, size))
        if not block:
            raise SpecError(f"{called(path)}: holds no rows below its header")
        while block:
            yield columns, block
            block = list(islice(rows, size))


def _check_size(path: Path) -> None:
    """Refuse a plain file whose size alone says that it is too large to be read whole."""
    if path.is_file() and path.stat().st_size > MAX_FILE:
        raise SpecError(f"{called(path)}: larger than {MAX_FILE:,} bytes; no file that kvplan reads here is")


def _lines(file: TextIO, location: str) -> Iterator[str]:
    """Yield the lines of a file, refusing one that no table has."""
    count = 0
    while line := file.readline(LONGEST):
        count += 1
        if len(line) == LONGEST:
            raise SpecError(f"{location}: line {count}: longer than {LONGEST:,} characters; expected a table of rows")
        yield line


def _columns(reader: "csv.DictReader[str]", location: str) -> list[str]:
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
    except csv.Error as error:
        raise SpecError(f"{location}: line {reader.line_num}: {error}") from None
    if not columns or len(set(columns)) < len(columns) or "" in columns:
        raise SpecError(f"{location}: line 1: expected the names of columns, each of them once")
    reader.fieldnames = columns
    return columns


def _rows(reader: "csv.DictReader[str]", location: str, width: int) -> Iterator[Document]:
    try:
        for row in reader:
            if None in row or None in row.values():
                raise SpecError(f"{location}: line {reader.line_num}: expected {width} values, as line 1 names")
            yield {**row, LINE: reader.line_num}
    except csv.Error as error:
        raise SpecError(f"{location}: line {reader.line_num}: {error}") from None


def is_stdout(word: str) -> bool:
    """Return whether a name means this process's standard output: '-', /dev/stdout, or the file it goes to."""
    if word == STDOUT:
        return True
    try:
        return os.path.samestat(path_of(word).stat(), os.fstat(1))
    except OSError:
        return False


class _ShownRows:
    """A terminal that text from outside cannot steer; pipes and files get it as it is."""

    def __init__(self, file: TextIO):
        self.file = file

    def write(self, text: str) -> int:
        """Write text with its control characters written out; return how much that was."""
        return self.file.write(visible(text))


def write_csv(word: str, columns: list[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as they come to a CSV file, whole or not at all; '-' is stdout, which cannot be taken back."""
    with nullcontext(sys.stdout) if word == STDOUT else writing(path_of(word)) as file:
        writer = csv.DictWriter(
            _ShownRows(file) if file.isatty() else file, columns, extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


class _Plain(yaml.SafeDumper):
    """YAML for people: lists and short mappings on one line, everything else a line each; no references."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True: every value is written out where it stands."""
        return True


def _list(dumper: _Plain, data: list[object]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _dict(dumper: _Plain, data: Document) -> yaml.Node:
    short = bool(data) and all(isinstance(value, int | float | list) for value in data.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=short)


_Plain.add_representer(list, _list)
_Plain.add_representer(dict, _dict)


def profile_text(document: Document, comment: str) -> str:
    """Return a profile as YAML in its own order."""
    text = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=400)
    return f"# {comment}\n{text}"


def write_profile(word: str, document: Document, comment: str) -> None:
    """Write a profile whole or not at all, `comment` above it; raise SpecError."""
    write_whole(path_of(word), profile_text(document, comment))


def base(word: str) -> str:
    """Return a file's name without its folder."""
    return word.rsplit("/", 1)[-1]


def stem(word: str) -> str:
    """Return a file's name without folder and ending."""
    return Path(word).stem


def kernel_document(word: str) -> tuple[Document, Source, str]:
    """Return a fitted profile's document, its source, and its name for messages; a shipped name or a path."""
    path = path_of(word)
    if path.suffix in (".yaml", ".yml"):
        location, text = called(path), read_text(path, called(path))
    else:
        name = resolve("calibrations", word, "profile", others=names("serving"))
        location, text = f"{name}.yaml", shelf("calibrations").joinpath(f"{name}.yaml").read_text("utf-8")
    raw = read_yaml(text, location, typed=False)
    return raw, read_source(raw.get("source"), location), location


def kernel_documents() -> list[tuple[Document, Source, str]]:
    """Return every fitted profile kvplan ships."""
    return [kernel_document(name) for name in names("calibrations")]
