"""Processes that tests start, and waiting for a state instead of a time, so that a busy machine fails no test."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

#: what a test waits for comes within this time, however busy the machine is [s]
PATIENCE = 180.0


@contextmanager
def python(*words: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start Python with these arguments; whatever becomes of the test, the process is gone afterwards."""
    with subprocess.Popen([sys.executable, *map(str, words)], text=True, **options) as started:
        try:
            yield started
        finally:
            started.kill()


def until(state: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Return whether a state comes about in time."""
    end = time.monotonic() + patience
    while not state():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def running(pid: int | str) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int] | list[str]) -> bool:
    """Return whether these processes end."""
    return until(lambda: not any(map(running, pids)))


@contextmanager
def bounded(seconds: float = PATIENCE) -> Iterator[None]:
    """Fail what would otherwise never end; says nothing about speed. [s]"""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def silent(*arguments: object) -> None:
    """Stand for a process that never answers."""
    time.sleep(10 * PATIENCE)
