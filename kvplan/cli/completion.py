"""How a shell's completion goes on: names of the catalogue, and the kinds that commands take.

click speaks with the shells; this says which words there are. Loaded only when a shell asks.
"""

from collections.abc import Callable, Iterable
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from kvplan import catalog

#: words that may stand at a place of a command line
Words = Callable[[click.Context], Iterable[str]]


class Known(click.types.StringParamType):
    """A text of which some are known: nothing is refused, and files may stand for names."""

    def __init__(self, words: Words, files: bool, joined: str = ""):
        self.words, self.files, self.joined = words, files, joined

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the words that begin so, behind others they are joined to; files where nothing else fits."""
        before, sign, begun = incomplete.rpartition(self.joined) if self.joined else ("", "", incomplete)
        items = [CompletionItem(f"{before}{sign}{word}") for word in self.words(ctx) if word.startswith(begun)]
        return items or ([CompletionItem(incomplete, type="file")] if self.files else [])


def shelf(kind: str) -> Words:
    """Return what reads the names of a shelf."""
    return lambda _: catalog.names(kind)


def techniques(_ctx: click.Context) -> list[str]:
    """Return an example of every technique."""
    from kvplan.kv import spelling

    return [spelling.BASELINE, *(kind.example for kind in spelling.plainest_first())]


def profiles(_ctx: click.Context) -> list[str]:
    """Return the profiles of kernels and of servers."""
    return [*catalog.names("calibrations"), *catalog.names("serving")]


def imported(module: str, name: str) -> Words:
    """Return what reads a table's or a function's words, imported when they are asked for."""

    def read(_: click.Context) -> Iterable[str]:
        found = getattr(import_module(f"kvplan.{module}"), name)
        words: Iterable[str] = found() if callable(found) else found
        return words

    return read


#: parameter -> its words, and whether a file may stand for one
WORDS: dict[str, tuple[Words, bool]] = {
    "model": (shelf("models"), True),
    "gpu": (shelf("gpus"), True),
    "gpus": (shelf("gpus"), True),
    "workload": (shelf("workloads"), True),
    "technique": (techniques, False),
    "techniques": (techniques, False),
    "profile": (profiles, True),
    "profiles": (profiles, True),
    "engine": (shelf("engines"), True),
    "as_family": (imported("architectures.registry", "FAMILIES"), False),
    "as_form": (imported("planning.exporting", "forms"), False),
    "target": (imported("api.export", "targets"), False),
    "router": (imported("planning.simulated_server", "ROUTERS"), False),
    "tiers": (imported("kv.tiers", "TIERS"), False),
    "tasks": (imported("compress.tasks", "TASKS"), False),
    "without": (imported("api.engine_options", "FEATURES"), False),
    "with_features": (imported("api.engine_options", "ADDED"), False),
    "term": (imported("catalog.costs.rental", "terms"), False),
    "terms": (imported("catalog.costs.rental", "terms"), False),
    "claims": (shelf("claims"), True),
}
#: parameter -> what joins several words
JOINED = {"technique": "+", "techniques": "+", "tiers": ",", "tasks": ","}
#: command -> what its argument `kind` is
KINDS = {
    "list": imported("api.listing", "KINDS"), "show": imported("api.show", "KINDS"),
    "schema": imported("catalog.schemas", "KINDS"),
}  # fmt: skip
#: kind that `show` shows -> its names
NAMES = {
    "model": "models", "gpu": "gpus", "workload": "workloads", "engine": "engines", "price": "prices",
    "profile": "calibrations",
}  # fmt: skip


def named(ctx: click.Context) -> Iterable[str]:
    """Return the names of the kind that stands before, as in `kvplan show gpu`."""
    kind = str(ctx.params.get("kind") or "").removesuffix("s")
    return techniques(ctx) if kind == "technique" else catalog.names(NAMES[kind]) if kind in NAMES else ()


def completing(command: click.Command) -> None:
    """Let the parameters of a command know their words; paths and other texts stay as they are."""
    for parameter in command.params:
        if parameter.name in WORDS and isinstance(parameter.type, click.types.StringParamType):
            parameter.type = Known(*WORDS[parameter.name], JOINED.get(parameter.name, ""))
        elif parameter.name == "file" and command.name == "sweep":
            parameter.type = Known(shelf("studies"), files=True)
        elif parameter.name == "kind" and command.name in KINDS:
            parameter.type = Known(KINDS[command.name], files=False)
        elif parameter.name in ("name", "names") and command.name == "show":
            parameter.type = Known(named, files=True)
