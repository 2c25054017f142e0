"""Reading and writing tables of measurements (CSV) and fitted profiles (YAML): the catalogue's other half."""

import csv
import io
from pathlib import Path

import yaml

from kvplan.errors import SpecError
from kvplan.specs.catalog import names, read_source, resolve, shelf
from kvplan.specs.catalog_files import Document, path_of, read_text, write_whole
from kvplan.specs.catalog_yaml import read_yaml
from kvplan.specs.source import Source

#: the column under which a row carries its line in the file
LINE = ""


def read_csv(word: str) -> tuple[list[str], list[Document]]:
    """Return the columns of a CSV file and its rows, every value text; a row carries its line under LINE."""
    path = path_of(word)
    reader = csv.DictReader(io.StringIO(read_text(path, path.name)))
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        if not columns or len(set(columns)) < len(columns) or "" in columns:
            raise SpecError(f"{path.name}: line 1: expected the names of columns, as in 'gpu,engine,kernel,...'")
        reader.fieldnames = columns
        rows: list[Document] = []
        for row in reader:
            if None in row or None in row.values():
                raise SpecError(f"{path.name}: line {reader.line_num}: expected {len(columns)} values, as line 1 names")
            rows.append({**row, LINE: reader.line_num})
    except csv.Error as error:
        raise SpecError(f"{path.name}: line {reader.line_num}: {error}") from None
    if not rows:
        raise SpecError(f"{path.name}: holds no rows below its header")
    return columns, rows


def write_csv(word: str, columns: list[str], rows: list[Document]) -> None:
    """Write a CSV file whole or not at all."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path_of(word), out.getvalue())


class _Plain(yaml.SafeDumper):
    """YAML for people: lists and short mappings on one line, everything else a line each; no references."""

    def ignore_aliases(self, data: object) -> bool:
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
    """Write a profile whole or not at all."""
    write_whole(path_of(word), profile_text(document, comment))


def stem(word: str) -> str:
    """Return a file's name without folder and ending."""
    return Path(word).stem


def kernel_document(word: str) -> tuple[Document, Source, str]:
    """Return a fitted profile's document, its source, and its name for messages; a shipped name or a path."""
    path = path_of(word)
    if path.suffix in (".yaml", ".yml"):
        where, text = path.name, read_text(path, path.name)
    else:
        name = resolve("calibrations", word, "profile")
        where, text = f"{name}.yaml", shelf("calibrations").joinpath(f"{name}.yaml").read_text("utf-8")
    raw = read_yaml(text, where, typed=False)
    return raw, read_source(raw.get("source"), where), where


def kernel_documents() -> list[tuple[Document, Source, str]]:
    """Return every fitted profile kvplan ships."""
    return [kernel_document(name) for name in names("calibrations")]
