"""Samples on disk: a CSV file that grows by one whole line a sample and survives being cut off."""

import csv
import io
from collections.abc import Mapping, Sequence
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryFile

from kvplan.errors import SpecError
from kvplan.specs.catalog import Document, read_text, read_yaml


class SampleLog:
    """Appends samples to a CSV file; every line is on its way to the disk before the next sample begins."""

    def __init__(self, word: str, columns: Sequence[str]):
        self.path, self.columns = Path(word).expanduser(), list(columns)
        try:
            self._file = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise SpecError(f"{word}: cannot be written ({error.strerror or error})") from None
        if self._file.tell() == 0:
            self._write(self.columns)

    def _write(self, values: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue())
        self._file.flush()

    def append(self, sample: Mapping[str, str]) -> None:
        self._write([sample.get(name, "") for name in self.columns])

    def close(self) -> None:
        self._file.close()


def read_samples(word: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the samples of a file, [] when there is none; a last line cut short is removed from the file."""
    path = Path(word).expanduser()
    if not path.exists():
        return []
    text = read_text(path, path.name)
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    lines = list(csv.reader(io.StringIO(whole)))
    if not lines:
        return []
    if lines[0] != list(columns):
        raise SpecError(
            f"{path.name}: line 1: these are no samples of this version's `kvplan profile`; name another file"
        )
    if wrong := next((n for n, line in enumerate(lines, 1) if len(line) != len(columns)), None):
        raise SpecError(f"{path.name}: line {wrong}: expected {len(columns)} values, as line 1 names")
    return [dict(zip(columns, line, strict=True)) for line in lines[1:]]


def must_be_writable(word: str) -> None:
    """Raise SpecError unless a file of this name could be written now; nothing is left behind."""
    path = Path(word).expanduser()
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        if path.is_file() or not path.exists():
            TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise SpecError(f"{word}: cannot be written ({error.strerror or error})") from None


def holds_samples(word: str, columns: Sequence[str]) -> bool:
    """Return whether a file's first line names the columns of samples."""
    path = Path(word).expanduser()
    return read_text(path, path.name).split("\n", 1)[0].strip().split(",") == list(columns)


def profile_beside(word: str) -> Document:
    """Return the profile that lies beside a file of samples, empty when there is none."""
    path = Path(word).expanduser().with_suffix(".yaml")
    return read_yaml(read_text(path, path.name), path.name, typed=True) if path.exists() else {}


def measured_profile(word: str) -> tuple[Document, str] | None:
    """Return what `kvplan profile` wrote to a file, and where its samples are; None when it is another profile."""
    path = Path(word).expanduser()
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        return None
    found = read_yaml(read_text(path, path.name), path.name, typed=True)
    if not {"groups", "samples", "rows"} <= set(found):
        return None
    return found, str(path.parent / str(found["rows"]))


def set_aside(word: str) -> str | None:
    """Rename a file that is in the way and return its new name, None when there is none."""
    path = Path(word).expanduser()
    if not path.exists():
        return None
    aside = path.with_name(f"{path.stem}.previous{path.suffix}")
    try:
        path.replace(aside)
    except OSError as error:
        raise SpecError(f"{word}: cannot be set aside ({error.strerror or error})") from None
    return aside.name


def swapped(word: str, suffix: str) -> str:
    """Return a file's name with another ending."""
    return str(Path(word).with_suffix(suffix))


def cpu_name() -> str:
    """Return what the kernel calls this machine's processor, '' where it does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
