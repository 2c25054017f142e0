"""The command line: one file a command, loaded when it is called."""

import gc
import os
import re
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pkgutil import iter_modules  # importlib.resources takes six times as long to import
from typing import Any

import click

from kvplan import __version__
from kvplan.errors import KvplanError, one_line

#: columns of names in the help, at the least
NARROW = 12
#: what click says of a range of numbers, alone or behind a default
RANGE = re.compile(r"  \[(?:\d+<=)?x[<>]=\d+\]$|; (?:\d+<=)?x[<>]=\d+(?=\]$)")
#: objects between two collections of garbage: Python's own 700 collect 50 times in an answer of a quarter second
COLLECT = 50_000
#: set to see where an unexpected error came from
TRACEBACK = "KVPLAN_TRACEBACK"

#: commands in the order of the help; others follow by name
ORDER = (
    "estimate", "memory", "list", "show", "prices", "load", "recommend", "compare", "fleet", "sweep", "audit",
    "predict", "validate", "calibrate", "profile", "doctor",
)  # fmt: skip
#: modules that are not called like their command (`list` is Python's own), and what is no command
MODULES, NONE = {"list": "listing"}, {"options"}


def module_of(command: str) -> str:
    """Return the module a command is in."""
    return f"kvplan.cli.{MODULES.get(command, command)}"


@cache
def commands() -> tuple[str, ...]:
    """Return the names of the commands: one for every file of this folder."""
    called = {module: name for name, module in MODULES.items()}
    names = (called.get(entry.name, entry.name) for entry in iter_modules(__path__) if entry.name not in NONE)
    return tuple(sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)))


def line_of(command: str) -> str:
    """Return a command's line in the help, which is what the first line of its module says behind its name.

    The file is read, not imported: no command starts for the sake of another's line.
    """
    from importlib.resources import files

    first = files(__name__).joinpath(f"{MODULES.get(command, command)}.py").read_text("utf-8").partition("\n")[0]
    summary = first.strip('"').partition(": ")[2]
    return f"{summary[:1].upper()}{summary[1:]}"


class Compact(click.HelpFormatter):
    """Help in as few lines as there can be: options stand beside their text where that is shorter."""

    def write_dl(self, rows: Iterable[tuple[str, str | None]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and their text in the width of the first column that takes the fewest lines.

        Ranges of numbers are left out: whoever is out of one is told it.
        """
        short = [(name, RANGE.sub("", text or "")) for name, text in rows]
        tried = []
        for column in range(col_max, NARROW - 1, -1):
            whole = click.HelpFormatter(width=self.width)
            whole.current_indent = self.current_indent
            whole.write_dl(short, column, col_spacing)
            tried.append(whole.getvalue())
        self.write(min(tried, key=lambda text: text.count("\n")))


class Spoken(click.Context):
    """A context whose help is compact."""

    formatter_class = Compact


class Lazy(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words that were typed: a page repeats them."""
        ctx.meta["kvplan.words"] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return [*commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command, None for a name that is not one."""
        if cmd_name not in commands():
            return None
        command: click.Command = import_module(module_of(cmd_name)).command
        command.context_class = Spoken
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their lines into the help without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line_of(name)) for name in commands()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its refusals name parameters, which are said as flags."""
        try:
            return super().invoke(ctx)
        except KvplanError as refusal:
            from kvplan.cli.options import refused

            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            raise KvplanError(refused(str(refusal), command) if command else str(refusal)) from None


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="What an LLM workload costs, on which GPUs, with which KV-cache compression.\n\n"
    "Start with: kvplan estimate --model llama3.1-70b --context 128k",
)
@click.version_option(__version__, prog_name="kvplan")
def group() -> None:
    """Hold the commands."""


def steady_streams() -> None:
    """Make output never fail for a character its encoding lacks, and give a stream that was closed a place to go.

    A file opened later would otherwise become the standard output, and be written into.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            os.dup2(nowhere := os.open(os.devnull, os.O_RDWR), number)
            if nowhere != number:
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def drop_output() -> None:
    """Send what is still to be written nowhere: its reader has gone, or there is no room for it."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def tell(message: str) -> None:
    """Say why on stderr, on one line."""
    with suppress(OSError):
        click.echo(one_line(message), file=sys.stderr)


def terminated(number: int, _frame: object) -> None:
    """End as an error would: what was begun is cleaned up, drafts of files too."""
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exits 0 for an answer, 1 for a 'no' (one line on stderr), 2 for wrong usage."""
    if arguments is None:  # a process of its own
        signal.signal(signal.SIGTERM, terminated)
    steady_streams()
    gc.set_threshold(COLLECT)
    try:
        code = group.main(args=arguments, prog_name="kvplan", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as wrong:
        click.echo(wrong.format_message(), err=True)
        code = 2
    except click.UsageError as wrong:
        path = wrong.ctx.command_path if wrong.ctx else "kvplan"
        tell(f"{path}: {wrong.format_message()} (see {path} --help)")
        code = 2
    except click.Abort:
        code = 130
    except (KvplanError, click.ClickException) as refusal:
        tell(f"kvplan: {refusal.format_message() if isinstance(refusal, click.ClickException) else refusal}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        drop_output()
        code = 0
    except OSError as error:
        drop_output()
        tell(f"kvplan: {error.filename or 'cannot write to stdout'}: {error.strerror or error}")
        code = 1
    except MemoryError:
        tell("kvplan: there is too little memory for this")
        code = 1
    except Exception as bug:  # a user sees one line; a developer asks for the traceback
        if os.environ.get(TRACEBACK):
            raise
        tell(f"kvplan: unexpected {type(bug).__name__}: {bug}; this is a bug, {TRACEBACK}=1 shows where")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
