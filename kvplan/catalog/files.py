"""Files: reading those from outside within bounds, and writing them whole or not at all."""

import errno
import io
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from kvplan.errors import SpecError, shown

Document = dict[str, Any]
#: no description of a model, GPU, price ... and no saved plan is larger [byte]
MAX_FILE = 20_000_000
#: no table of rows is larger: a hundred million of them, read block by block [byte]
MAX_TABLE = 20_000_000_000
#: digits that no process's number has
DIGITS = 10
#: how long a pipe or a device may stay silent, and a named pipe without a reader [s]
PATIENCE = 3.0
#: what one value and one list or object of a JSON document take in memory, and what a document may [byte]
VALUE, HOLDER, MOST_MEMORY = 40, 100, 600_000_000


#: letters of a path that a message repeats
LONGEST_PATH = 200


def path_of(word: str) -> Path:
    """Return the path a word means, `~` expanded; raise SpecError where no file can be called so."""
    if not word:
        raise SpecError("an empty name is no path; name a file")
    try:
        if "\0" in word:
            raise ValueError
        return Path(word).expanduser()
    except (ValueError, RuntimeError):
        raise SpecError(f"{shown(word)} is no path") from None


def called(path: Path) -> str:
    """Return what messages call a file: its path as it was given, of a very long one the last part alone."""
    return str(path) if len(str(path)) <= LONGEST_PATH else path.name


def distinct(inputs: Sequence[str], output: str | None) -> None:
    """Raise SpecError where a file is read twice, or where the output would take the place of an input."""
    seen: dict[str, str] = {}
    for word in inputs:
        place = os.path.realpath(path_of(word))
        if not Path(place).is_file():  # a terminal can be read and written at once
            continue
        if place in seen:
            twice = word if word == seen[place] else f"{seen[place]} and {word}"
            raise SpecError(f"{twice}: is one file given twice, and its rows would count twice; name it once")
        seen[place] = word
    if output is not None and os.path.realpath(path_of(output)) in seen:
        raise SpecError(f"{output}: is read and would be replaced; write to another file")


def _flags(*names: str) -> int:
    """Return the flags of os.open among these that this system has."""
    return sum(getattr(os, name, 0) for name in names)


# -- reading --------------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """The bytes of a file, a pipe or a device, at most `largest` of them."""

    def __init__(self, path: Path, location: str, largest: int):
        self.location, self.left, self.largest = location, largest, largest
        self.descriptor = os.open(path, os.O_RDONLY | _flags("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
        mode = os.fstat(self.descriptor).st_mode
        self.pipe = stat.S_ISFIFO(mode)
        if stat.S_ISDIR(mode):
            self.close()  # not the descriptor alone: this object would close whatever gets its number once more
            raise IsADirectoryError(0, "is a folder")

    def readable(self) -> bool:
        """Return True, as io asks of what is read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the bytes read; raise SpecError beyond the bound and where nothing comes."""
        count = self._read(buffer)
        self.left -= count
        if self.left < 0:
            raise SpecError(f"{self.location}: larger than {self.largest:,} bytes; no file that kvplan reads here is")
        return count

    def _read(self, buffer: Any) -> int:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(BlockingIOError):
                count = os.read(self.descriptor, len(buffer))
                unopened = self.pipe and self.left == self.largest  # a pipe without a writer reads as an empty file
                if count or not unopened:
                    buffer[: len(count)] = count
                    return len(count)
            if time.monotonic() > deadline:
                raise SpecError(f"{self.location}: sends nothing for {PATIENCE:g} s; give a file")
            time.sleep(0.01)

    def close(self) -> None:
        """Close the descriptor once."""
        if not self.closed:
            os.close(self.descriptor)
        super().close()


@contextmanager
def reading(path: Path, location: str, largest: int = MAX_FILE) -> Iterator[TextIO]:
    """Give a text file (UTF-8) of at most `largest` [byte], its ends of lines as they are; raise SpecError."""
    location = location or str(path)
    with _worded(location), _Bounded(path, location, largest) as raw:
        yield io.TextIOWrapper(io.BufferedReader(raw, 1 << 16), "utf-8-sig", newline="")


@contextmanager
def _worded(location: str) -> Iterator[None]:
    """Turn what can go wrong while a file is read into one line."""
    try:
        yield
    except OSError as error:
        raise SpecError(f"{location}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise SpecError(f"{location}: is not UTF-8 text") from None


def read_text(path: Path, location: str, largest: int = MAX_FILE) -> str:
    """Return a file's text; raise SpecError when it has more than `largest` [byte] or cannot be read."""
    with reading(path, location, largest) as file:
        content = file.read()
    if "\0" in content:
        raise SpecError(f"{location or path}: is no text: it holds a zero byte")
    return content


def read_bytes(path: Path, location: str, largest: int = MAX_FILE) -> bytes:
    """Return a file's bytes; raise SpecError when there are more than `largest` or it cannot be read."""
    location = location or str(path)
    with _worded(location), _Bounded(path, location, largest) as file:
        return file.read()


def read_yaml(text: str, location: str, *, typed: bool) -> Document:
    """Parse one YAML mapping; `typed` gives numbers and booleans, else everything stays text.

    The parser is imported by the first file that needs it: an installed kvplan ships its own files parsed.
    """
    from kvplan.catalog import safe_yaml

    return safe_yaml.read_yaml(text, location, typed=typed)


def read_json(text: str, location: str, *, lines: bool = True) -> Document:
    """Return the one object a JSON text holds; raise SpecError, with the line unless the location names it."""
    check_size(text, location)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        what = "file" if lines else "line"
        more = f"the {what} ends too early: was it saved whole?" if cut else f"expected JSON ({error.msg})"
        where = f"{location}: line {error.lineno}" if lines else location
        raise SpecError(f"{where}: {more}") from None
    except (ValueError, RecursionError):
        raise SpecError(f"{location}: nested too deeply, or a number too large") from None
    if not isinstance(document, dict):
        raise SpecError(f"{location}: expected an object, got {type(document).__name__}")
    return document


def check_size(text: str, location: str) -> None:
    """Refuse (SpecError) a JSON text whose values would take more memory than any file that kvplan reads."""
    if HOLDER * (text.count("[") + text.count("{")) + VALUE * text.count(",") > MOST_MEMORY:
        raise SpecError(f"{location}: holds more values than any file that kvplan reads; save fewer details")


# -- writing --------------------------------------------------------------------------------------


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device, a pipe or the process's own output is written to directly.

    Raises SpecError.
    """
    with writing(path) as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of bytes whole or not at all; raise SpecError."""
    with writing(path) as file:
        file.buffer.write(content)


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Give a text file that takes the place of `path` when the block ends without an error, and else vanishes.

    It is a draft under a name of its own in the same folder, on disk before it is renamed: whoever reads sees the old
    file or the new one, and of two writers one wins. Links are followed and stay; mode and owner of a file are kept.
    Drafts that killed processes of this machine left in the folder are removed. Raises SpecError.
    """
    try:
        target = Path(os.path.realpath(path))
        try:
            before: os.stat_result | None = path.stat()
        except FileNotFoundError:
            before = None
        place = None if before is None else _directly(path, before)
        with _stream(place) if place is not None else _draft(target, before) as file:
            yield file
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextmanager
def writing_bytes(path: Path) -> Iterator[BinaryIO]:
    """Give a binary file that takes the place of `path` as `writing` does."""
    with writing(path) as file:
        yield file.buffer
        file.buffer.flush()


def _directly(path: Path, before: os.stat_result) -> int | None:
    """Return a descriptor to write to what cannot be replaced: this process's output, a device, a pipe; else None."""
    for own in (1, 2):
        with suppress(OSError):
            if os.path.samestat(before, os.fstat(own)):
                return os.dup(own)
    if stat.S_ISREG(before.st_mode):
        if not os.access(path, os.W_OK):
            raise PermissionError(0, "is read-only")
        return None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(0, "is a folder")
    if stat.S_ISBLK(before.st_mode):
        raise OSError(0, "is a disk")
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | _flags("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
        except OSError:
            if not stat.S_ISFIFO(before.st_mode) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


@contextmanager
def _stream(descriptor: int) -> Iterator[TextIO]:
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


@contextmanager
def _draft(target: Path, before: os.stat_result | None) -> Iterator[TextIO]:
    _tidy(target.parent)
    draft = target.with_name(f".kvplan-{_machine()}-{os.getpid()}-{os.urandom(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flags("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
    descriptor = os.open(draft, flags, 0o666)
    try:
        with _stream(descriptor) as file:
            if before is not None and hasattr(os, "fchown"):
                with suppress(OSError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            yield file
            file.flush()
            _settle(descriptor)
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    with suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            _settle(folder)
        finally:
            os.close(folder)


def _machine() -> str:
    """Return this machine's name as drafts carry it: a process elsewhere may write to the same folder."""
    import platform  # which compiles patterns that few answers need

    return "".join(letter for letter in platform.node() if letter.isalnum())[:32] or "here"


def _tidy(folder: Path) -> None:
    """Remove the drafts of this machine's processes that are no more: a process that was killed cannot."""
    if os.name != "posix":  # elsewhere, asking whether a process lives would end it
        return
    for draft in folder.glob(f".kvplan-{_machine()}-*-*.part"):
        number = draft.name.split("-")[2]
        with suppress(OSError):
            if number.isdecimal() and len(number) < DIGITS and not _lives(int(number)):
                draft.unlink()


def _lives(process: int) -> bool:
    """Return whether a process of this number is running, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _settle(descriptor: int) -> None:
    """Wait until what was written is on disk, where the file system can tell."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
