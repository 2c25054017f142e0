"""A progress bar with the time left, on stderr, and only when that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from kvplan.report.plain import Plain
from kvplan.units import show_time


def quiet(share: float, text: str) -> None:
    """Show nothing."""


@contextmanager
def bar(clock: Callable[[], float], deadline: float) -> Iterator[Callable[[float, str], None]]:
    """Give a function of (share done, what is going on); `deadline` on `clock` bounds the time left [s]."""
    console = Plain(stderr=True)
    if not console.is_terminal:
        yield quiet
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
            spent, most = clock() - begun, max(deadline - clock(), 0.0)
            left = min(most, spent * (1 - share) / share) if share > 0 else most
            shown.update(task, completed=share, description=Text(text).plain, left=f"{show_time(left)} left")

        yield report
