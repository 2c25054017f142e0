"""How a command ends: its exit status, and one line on stderr of why there is no answer."""

import os
import re

import click

from kvplan.cli.streams import drop_output, tell
from kvplan.errors import KvplanError, WrongUse

#: set to see where an unexpected error came from
TRACEBACK = "KVPLAN_TRACEBACK"
#: exit statuses: a 'no', wrong usage, and interrupted by the user
NO, USAGE, INTERRUPTED = 1, 2, 130


class Interrupted(Exception):
    """Ctrl-C while a command ran."""


def ended(error: BaseException) -> int:
    """Return the exit status of a command that raised, and say why; raise what is not for a user to read."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return USAGE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "kvplan"
            tell(f"{path}: {plainly(error.format_message())} (see {path} --help)")
            return USAGE
        case Interrupted() | click.Abort() | KeyboardInterrupt():
            tell("kvplan: ended by Ctrl-C")
            return INTERRUPTED
        case click.ClickException():
            tell(f"kvplan: {error.format_message()}")
        case WrongUse():
            tell(f"kvplan: {error}")
            return USAGE
        case KvplanError():
            tell(f"kvplan: {error}")
        case BrokenPipeError():  # the reader of our output (head, less) has gone
            drop_output()
            return 0
        case OSError():
            drop_output()
            tell(f"kvplan: {error.filename or 'cannot write to stdout'}: {error.strerror or error}")
        case MemoryError():
            tell("kvplan: there is too little memory for this")
        case Exception():
            return unexpected(error)
        case _:
            raise error
    return NO


def plainly(message: str) -> str:
    """Return what click says of a number in the words of the other errors."""
    return re.sub("a valid integer( range)?", "a whole number", message).replace("a valid float", "a number")


def unexpected(bug: Exception) -> int:
    """Say what went wrong in one line, as a user wants it; a developer asks for the traceback."""
    if os.environ.get(TRACEBACK):
        raise bug
    tell(f"kvplan: unexpected {type(bug).__name__}: {bug}; this is a bug, {TRACEBACK}=1 shows where")
    return NO


def terminated(number: int, _frame: object) -> None:
    """End as an error would: what was begun is cleaned up, drafts of files too."""
    raise SystemExit(128 + number)
