"""A progress bar with the time left, on stderr; where that is no terminal a line now and then, or nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from kvplan.report.console import Plain
from kvplan.units import show_count, show_percent, show_time

#: how often it is told how far a sweep is, where no bar can be drawn [s]
EVERY = 30.0
#: how often it is told how far a measurement is, where no bar can be drawn [s]
OFTEN = 10.0


def quiet(share: float, text: str) -> None:
    """Show nothing."""


@contextmanager
def bar(
    clock: Callable[[], float], deadline: float, say: Callable[[str], object] | None = None
) -> Iterator[Callable[[float, str], None]]:
    """Give a function of (share done, what is going on); `deadline` on `clock` bounds the time left [s].

    Where no bar can be drawn `say` gets a line every OFTEN seconds; without it nothing is shown.
    """
    console = Plain(stderr=True)
    if not console.is_terminal:
        yield quiet if say is None else _lines(clock, say)
        return
    columns = (
        TextColumn("{task.fields[left]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
    )
    begun = clock()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=1.0, left="")

        def report(share: float, text: str) -> None:
            spent = clock() - begun
            most = max(deadline - clock(), 0.0)
            left = min(most, spent * (1 - share) / share) if share > 0 else most
            shown.update(task, completed=share, description=Text(text).plain, left=f"{show_time(left)} left")

        yield report


def _lines(clock: Callable[[], float], say: Callable[[str], object]) -> Callable[[float, str], None]:
    """Return a function that says how far it is now and then."""
    begun = printed = clock()

    def report(share: float, text: str) -> None:
        nonlocal printed
        now = clock()
        if now - printed >= OFTEN:
            printed = now
            left = f", {show_time((now - begun) * (1 - share) / share)} left" if share > 0 else ""
            say(f"{show_percent(share)} done{left}: {text}")

    return report


@contextmanager
def shares(say: Callable[[str], object] | None = None) -> Iterator[Callable[[float, str], None]]:
    """Give a function of (share done, what is going on) for work whose length nobody knows: a bar without a time left.

    Where no bar can be drawn `say` gets a line every EVERY seconds; without it nothing is shown.
    """
    console = Plain(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield quiet if say is None else _now_and_then(say)
        return
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=1.0)
        yield lambda share, text: shown.update(task, completed=share, description=Text(text).plain)


def _now_and_then(say: Callable[[str], object]) -> Callable[[float, str], None]:
    """Return a function that says what is going on every EVERY seconds."""
    printed = time.monotonic()

    def report(share: float, text: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= EVERY:
            printed = time.monotonic()
            say(text)

    return report


@contextmanager
def counted(say: Callable[[str], object]) -> Iterator[Callable[[int, int, int], None]]:
    """Give a function of (points done, of how many, how many of them went wrong): a bar, or a line now and then.

    The time left is that of the points left at the pace of those that were done since the start.
    """
    console = Plain(stderr=True)
    begun = time.monotonic()
    first = -1
    printed = time.monotonic()

    def line(done: int, total: int, wrong: int) -> str:
        nonlocal first
        first = done if first < 0 else first
        spent, since = time.monotonic() - begun, done - first
        left = f", {show_time(spent * (total - done) / since)} left" if since else ""
        amiss = f", {show_count(wrong, 'point')} without an answer" if wrong else ""
        return f"{done:,} of {total:,} points{amiss}{left}"

    if not console.is_terminal or console.is_dumb_terminal:

        def plain(done: int, total: int, wrong: int) -> None:
            nonlocal printed
            text = line(done, total, wrong)
            now = time.monotonic()
            if now - printed >= EVERY:
                printed = now
                say(text)

        yield plain
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("starts", total=1.0)
        yield lambda done, total, wrong: shown.update(
            task, completed=done / total, description=Text(line(done, total, wrong)).plain
        )
