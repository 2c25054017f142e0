"""Names of commands: which there are, where each is, its line in the help, and the one that was meant."""

from functools import cache
from pkgutil import iter_modules  # importlib.resources takes six times as long to import

import click

from kvplan.errors import meant

#: commands in the order of the help; others follow by name
ORDER = (
    "estimate", "techniques", "memory", "list", "show", "prices", "load", "recommend", "export", "simulate", "compare",
    "fleet", "sweep", "audit", "predict", "validate", "calibrate", "watch", "profile", "evaluate", "compress", "schema",
    "tour", "doctor",
)  # fmt: skip
#: modules that are not called like their command (`list` is Python's own), and what is no command
MODULES = {"list": "listing"}
NONE = {
    "options", "format_options", "row_options", "server_options", "delivery", "flags", "help", "ending", "streams",
    "notebook", "completion", "pager", "waiting", "names", "choice",
}  # fmt: skip


def module_of(command: str) -> str:
    """Return the module a command is in."""
    return f"kvplan.cli.{MODULES.get(command, command)}"


@cache
def commands() -> tuple[str, ...]:
    """Return the names of the commands: one for every file of this folder."""
    from kvplan.cli import __path__ as folder

    called = {module: name for name, module in MODULES.items()}
    names = (called.get(entry.name, entry.name) for entry in iter_modules(folder) if entry.name not in NONE)
    return tuple(sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)))


def line_of(command: str) -> str:
    """Return a command's line in the help: what the first line of its module says. The file is read, not imported."""
    from importlib.resources import files

    first = files("kvplan.cli").joinpath(f"{MODULES.get(command, command)}.py").read_text("utf-8").partition("\n")[0]
    summary = first.strip('"').partition(": ")[2]
    return f"{summary[:1].upper()}{summary[1:]}"


def nearest(refusal: click.UsageError, typed: str) -> click.UsageError:
    """Return the refusal of a command that is none, with the nearest right one where there is one."""
    return click.UsageError(f"{refusal.message.rstrip('.')}{meant(typed, commands(), 1)}", refusal.ctx)
