"""The standard streams of a process: that output never fails for its encoding, a closed stream or a gone reader."""

import os
import sys
from contextlib import suppress

import click

from kvplan.errors import one_line


def steady_streams() -> None:
    """Make output never fail for a character its encoding lacks, and give a stream that was closed a place to go.

    A file opened later would otherwise become the standard output, and be written into. An answer that nobody can get
    is an error, as of a full disk: writing to a standard output that was closed fails.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            os.dup2(nowhere := os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR), number)
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
