"""One file a format: its `render(report, screen)` returns the text to write. A format is called like its file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules  # importlib.resources takes six times as long to import
from typing import Any

from kvplan.errors import UnknownName
from kvplan.report.blocks import Block, Json, Page


@dataclass(frozen=True)
class Report:
    """An answer that can be read: a page for people, a document for scripts, each made when it is asked for."""

    page: Callable[[], Page]  #: made for people when asked for
    document: Callable[[], Json]  #: made for scripts when asked for
    #: what a page that can be operated shows besides, made when asked for
    studies: Callable[[], Iterable[Block]] = tuple
    first: Callable[[], Page] | None = None  #: what a terminal shows in place of the page, None for all of it
    rows: Callable[[], list[Json]] | None = None  #: the main rows, all of one shape, None for those of the document

    @classmethod
    def of(cls, words: Any, answer: Any, **how: Any) -> "Report":
        """Return the report of an answer that `words` puts into words, a module of this room; `how` is of its page."""
        return cls(lambda: words.page(answer, **how), lambda: words.document(answer))


@dataclass(frozen=True)
class Screen:
    """Where a report is read: columns of text, and whether they may be coloured."""

    width: int = 100  #: columns of text
    colour: bool = False  #: whether text may be coloured
    command: str = ""  #: command that was asked, as in 'estimate'
    asked: str = ""  #: whole command line, to be typed again
    plain: bool = False  #: whether text has neither rules nor charts: for screen readers, logs and diffs


def names() -> list[str]:
    """Return the formats there are."""
    return sorted(module.name for module in iter_modules(__path__))


def render(report: Report, name: str, screen: Screen) -> str:
    """Return a report in the format of this name; raise UnknownName."""
    if name not in names():
        raise UnknownName("format", name, names())
    text: str = import_module(f"{__name__}.{name}").render(report, screen)
    return text
