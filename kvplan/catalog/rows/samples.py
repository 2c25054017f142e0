"""Samples on disk: a CSV file that grows by one whole line a sample and survives being cut off."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from errno import EISDIR
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryFile

from kvplan.catalog.files import MAX_TABLE, Document, called, path_of, read_bytes, read_text, read_yaml, reading
from kvplan.errors import SpecError, shown
from kvplan.units import parse

#: letters of a first line that can be the columns of samples
LONGEST_HEADING = 10_000
#: columns of samples that are words, that every sample fills, and that are whole
TEXTS = ("group", "kind", "gpu", "engine", "kernel", "dtype", "kv_dtype", "state", "reasons")
NEEDED = ("bytes", "flops", "round")
SIZED = (
    *("batch", "q_heads", "kv_heads", "head_dim", "kv_len", "isl", "m", "n", "k", "elements", "rank"),
    *("n_gpus", "message_size"),
)


class SampleLog:
    """Appends samples to a CSV file; every line is handed to the system before the next sample begins.

    `torn` counts the letters [byte] of a last line that was cut short, which is removed from the file.
    """

    def __init__(self, word: str, columns: Sequence[str]):
        self.path, self.columns = path_of(word), list(columns)
        try:
            whole, self.torn = _whole_lines(self.path, word) if self.path.exists() else (b"", 0)
            if self.torn:
                os.truncate(self.path, len(whole))
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise SpecError(f"{word}: cannot be written ({error.strerror or error})") from None
        if not whole:
            self._write(self.columns)

    def _write(self, values: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([" ".join(str(value).split()) for value in values])
        try:
            self._file.write(line.getvalue().encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise SpecError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def append(self, sample: Mapping[str, str]) -> None:
        """Write a sample as one line, '' for a column it lacks; raise SpecError."""
        self._write([sample.get(name, "") for name in self.columns])

    def close(self) -> None:
        """Close the file; every sample is in it already."""
        self._file.close()


def _whole_lines(path: Path, location: str) -> tuple[bytes, int]:
    """Return the lines of a file that end, and how many bytes of a last one do not."""
    content = read_bytes(path, location)
    end = content.rfind(b"\n") + 1
    return content[:end], len(content) - end


def read_samples(word: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the samples of a file, [] when there is none; a last line that was cut short is left out.

    Raises SpecError that names the line where a number is none.
    """
    path = path_of(word)
    if not path.exists():
        return []
    whole, _ = _whole_lines(path, called(path))
    try:
        reader = csv.reader(io.StringIO(whole.decode("utf-8-sig"), newline=""))
        if next(reader, list(columns)) != list(columns):
            raise SpecError(
                f"{called(path)}: line 1: these are no samples of this version's `kvplan profile`; name another file"
            )
        lines = list(reader)
    except UnicodeDecodeError:
        raise SpecError(f"{called(path)}: is not UTF-8 text") from None
    except csv.Error as error:
        raise SpecError(f"{called(path)}: {error}") from None
    if wrong := next((n for n, line in enumerate(lines, 2) if len(line) != len(columns)), None):
        raise SpecError(f"{called(path)}: line {wrong}: expected {len(columns)} values, as line 1 names")
    samples = [dict(zip(columns, line, strict=True)) for line in lines]
    for n, sample in enumerate(samples, 2):
        _check_numbers(sample, f"{called(path)}: line {n}")
    return samples


def _check_numbers(sample: Mapping[str, str], location: str) -> None:
    """Refuse a sample with a number that is none, or without one it needs."""
    for name, text in sample.items():
        if name in TEXTS or (not text and name not in NEEDED):
            continue
        number = parse(text, "1", f"{location}: {name}")
        if number < 0 or (name in SIZED and (number != int(number) or not number or not text.isdigit())):
            raise SpecError(
                f"{location}: {name}: expected {'a whole number' if name in SIZED else 'a number'} "
                f"above zero, got {shown(text)}"
            )
    if not sample["state"] and not (sample["latency_us"] and float(sample["latency_us"]) > 0):
        raise SpecError(f"{location}: latency_us: expected a time above zero, got {shown(sample['latency_us'])}")


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
    """Return whether a file's first line names the columns of samples; raise SpecError."""
    path = path_of(word)
    with reading(path, called(path), MAX_TABLE) as file:
        return file.readline(LONGEST_HEADING).strip().split(",") == list(columns)


def profile_beside(word: str) -> Document:
    """Return the profile that lies beside a file of samples, empty when there is none."""
    path = path_of(word).with_suffix(".yaml")
    return read_yaml(read_text(path, called(path)), called(path), typed=True) if path.exists() else {}


def measured_profile(word: str) -> tuple[Document, str] | None:
    """Return what `kvplan profile` wrote to a file, and where its samples are; None when it is another profile."""
    path = path_of(word)
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        return None
    profile = read_yaml(read_text(path, called(path)), called(path), typed=True)
    if not {"groups", "samples", "rows"} <= set(profile):
        return None
    return profile, str(path.parent / str(profile["rows"]))


def set_aside(word: str, columns: Sequence[str]) -> str | None:
    """Rename a file of samples that is in the way and return its new name, None when there is none.

    An earlier file set aside stays. Raises SpecError for what is not a file of samples: nothing else is moved.
    """
    path = path_of(word)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SpecError(f"{word}: is not a plain file; samples go to one that grows by a line each")
    if not path.exists():
        return None
    if path.stat().st_size and not holds_samples(word, columns):
        raise SpecError(f"{word}: is in the way and holds no samples of `kvplan profile`; write to another file")
    numbered = chain([""], (f".{number}" for number in count(2)))
    names = (path.with_name(f"{path.stem}.previous{more}{path.suffix}") for more in numbered)
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        path.rename(aside)
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
