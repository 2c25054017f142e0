"""`kvplan tour`: what is asked and why, the beginning of each answer, and where to read on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvplan.report.blocks import Block, Json, Notes, Page, Table, Text, schema
from kvplan.report.formats import Report

#: what stands before the first stop, and behind the last
BEFORE = "Five commands, and how to read their answers. Nothing is fetched, and no GPU is needed."
AFTER = (
    "That was the tour. With your own model, ./config.json stands for its name; with your own GPU, kvplan profile "
    "measures it; kvplan COMMAND --help has two examples of each, and kvplan doctor says what is installed."
)


@dataclass(frozen=True)
class Seen:
    """A stop of the tour: a command with its answer."""

    number: int  #: from 1
    of: int  #: stops there are
    title: str  #: what one wants to know
    why: str  #: what the command does about it
    line: str  #: the command
    then: str  #: how the answer is read
    answer: Report  #: its report


def page(seen: Sequence[Seen]) -> Page:
    """Return the stops, each with the beginning of its answer; what ends the tour, where none is left."""
    first, last = (not seen or seen[0].number == 1), (not seen or seen[-1].number == seen[-1].of)
    return Page.of(
        Text(BEFORE) if first and seen else None,
        (block for stop in seen for block in told(stop)),
        Text(AFTER) if last and (not seen or len(seen) > 1) else None,
    )


def told(stop: Seen) -> Iterable[Block]:
    """Yield a stop: the question, the command, its answer up to the first table, what to make of it."""
    yield Notes(f"{stop.number} of {stop.of}. {stop.title}", (stop.why, f"$ {stop.line}"))
    yield from beginning(stop.answer.page())
    yield Text(stop.then)


def beginning(page: Page) -> Iterable[Block]:
    """Yield an answer up to its first table, answers and warnings alone."""
    for block in page.blocks:
        if isinstance(block, Text) and block.tone in ("answer", "warning"):
            yield block
        if isinstance(block, Table):
            yield block
            return


def document(seen: Sequence[Seen]) -> Json:
    """Return the document: every command with its own."""
    return schema(
        "tour", stops=[{"command": stop.line, "why": stop.why, "answer": stop.answer.document()} for stop in seen]
    )
