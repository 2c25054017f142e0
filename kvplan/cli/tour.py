"""`kvplan tour`: three minutes, five commands on what kvplan ships, explained."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any

import click

import kvplan
from kvplan.cli.delivery import HTML, deliver
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.notebook import report
from kvplan.cli.options import examples
from kvplan.cli.pager import NO_PAGER
from kvplan.report import tour as words
from kvplan.report.formats import Report
from kvplan.specs.result import Result


@dataclass(frozen=True)
class Stop:
    """A command of the tour."""

    title: str  #: what one wants to know
    why: str  #: what the command does about it
    line: str  #: what one types
    then: str  #: how the answer is read on


STOPS = (
    Stop(
        "How large is the KV cache?",
        "kvplan reads a model's config.json and counts the cache of every layer to the byte. This model keeps all "
        "tokens in half of its layers, and a window of 128 tokens in the others.",
        "memory -m gpt-oss-120b -c 128k -g h100 --tp 2",
        "Behind this table the command divides the GPU's memory, line by line, as the engine does. The path of any "
        "config.json may stand for the name.",
    ),
    Stop(
        "Which compression helps?",
        "Every technique is compared at the same points: a lone query, and the largest load within latency limits.",
        "estimate -m llama3.1-70b -c 32k -g h200 -t fp8 -t mhc:4x -t h2o:20%",
        "Fewer bytes are not always fewer dollars. Every time and cost has an 80 % interval, and the last column says "
        "what quality is lost, with the most it may be.",
    ),
    Stop(
        "What do they lose on my task?",
        "Losses are published scores of the workload's own task. They depend on whether the question is known when the "
        "cache is compressed; here it is not, because several questions share one document.",
        "techniques -m llama3.1-70b -w doc-qa -t fp8 -t kvzip:25% -t quest:2048",
        "A question mark means that nobody published a score: kvplan makes none up. Alone and at load are times of a "
        "decode step over the uncompressed one.",
    ),
    Stop(
        "Which GPUs, how many, at what price?",
        "One plan for a day's load, which keeps the latency limits of the workload with 90 % probability.",
        "recommend -w chat -m llama3.1-8b --queries-per-day 100000 -g h100 -t fp8",
        "The bill is the sum of its lines. The 80 % interval says how sure the cost is, and behind this table stand "
        "the reasons, other terms, other plans and the command that starts the server.",
    ),
    Stop(
        "Is a figure that somebody claims true?",
        "kvplan computes it and shows the arithmetic. These are the claims of the article that it started from.",
        "audit",
        "Write a vendor's claims into a YAML file of your own and name it: kvplan audit claims.yaml.",
    ),
)


@click.command("tour")
@format_option
@examples("kvplan tour", "kvplan tour --plain")
def command(form: str) -> None:
    """Three minutes with kvplan: five commands on models, GPUs and prices that it ships, each explained.

    On a terminal it waits for a key between two of them; otherwise it asks nothing.
    """
    whole = bool(click.get_current_context().meta.get(HTML))  # a page holds all of them
    step_by_step = form == TEXT and not whole and sys.stdout.isatty() and sys.stdin.isatty()
    if not step_by_step:
        deliver(Report.of(words, list(stops())), form)
        return
    click.get_current_context().meta[NO_PAGER] = True  # a pager would take the keys that ask for the next one
    for number, stop in enumerate(stops()):
        if number:
            click.pause("\n-- any key for the next one --")
            click.echo()
        deliver(Report(lambda stop=stop: words.page([stop]), dict), form)  # type: ignore[misc]
    click.echo()
    deliver(Report(lambda: words.page([]), dict), form)


def stops() -> Iterator[words.Seen]:
    """Yield every command with its answer, as it is asked."""
    for number, stop in enumerate(STOPS, 1):
        result = asked(stop.line)
        shown = report(result)
        yield words.Seen(number, len(STOPS), stop.title, stop.why, f"kvplan {stop.line}", stop.then, shown)


def asked(line: str) -> Result:
    """Return the answer to a command line: its options are the parameters of the question of its name."""
    from kvplan.cli import group

    name, *rest = line.split()
    chosen = group.get_command(click.Context(group), name)
    assert chosen is not None
    given = chosen.make_context(name, rest).params
    question: Any = getattr(kvplan, name)
    result: Result = question(**{key: value for key, value in given.items() if key in signature(question).parameters})
    return result
