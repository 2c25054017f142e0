"""Names of commands: which there are, where each is, its line in the help; what was meant by a wrong one or option."""

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
#: options people try that are none, each with an option that a command must have and what to write there instead
INSTEAD = (
    *((word, "--format", f"--format {form}")
      for word, form in (("csv", "csv"), ("md", "md"), ("markdown", "md"), ("svg", "svg"), ("text", "text"))),
    ("users", "--queries-per-day", "--queries-per-day: users times the questions that each asks a day"),
    ("users", "--gpus", "--workload and --gpus: the answer says how many users they serve"),
)  # fmt: skip


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


def instead(refusal: click.NoSuchOption) -> click.NoSuchOption:
    """Return the refusal of an option that is none, with what to write where another says it."""
    command = refusal.ctx.command if refusal.ctx else None
    has = {flag for p in command.params for flag in p.opts} if command else set()
    for word, option, words in INSTEAD:
        if word == refusal.option_name.lstrip("-") and option in has:
            said = f"No such option {refusal.option_name!r}; write {words}"
            return click.NoSuchOption(refusal.option_name, said, (), refusal.ctx)
    return refusal
