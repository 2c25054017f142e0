"""What commands share: options, parameter types, and handing over a result."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from kvplan.docstrings import docstring
from kvplan.errors import KvplanError, SpecError, one_line, shown
from kvplan.kv.budget import Parallel
from kvplan.specs.catalog_files import path_of
from kvplan.specs.quantization import FORMATS
from kvplan.units import parse, parse_tokens

#: the function of a command, before click makes a command of it
Command = TypeVar("Command", bound=Callable[..., object])


def tokens(flag: str) -> Callable[[str], int]:
    """Return a reader of token counts such as 128k or 4096; messages name `flag`."""

    def count(text: str) -> int:
        return parse_tokens(text, flag)

    return count


def share(text: str) -> float:
    """Read a share above 0 and up to 1."""
    number = parse(text, "1", "--gpu-memory-utilization")
    if not 0 < number <= 1:
        raise SpecError(f"--gpu-memory-utilization: must be above 0 and at most 1, got {text}")
    return number


def price(text: str) -> float:
    """Read a price per GPU-hour: 2.49/h, '2.49 USD/h' or 2.49. [USD/s]"""
    number, _, per = text.strip().lstrip("$").partition("/")
    unit = {"hr": "h", "hour": "h", "": "h"}.get(per.strip(), per.strip())
    found = parse(f"{number.replace('USD', '').strip()} USD/{unit}", "USD/s", "--price")
    if not 0 < found < 1e6:
        raise SpecError(f"--price: must be above zero, as in 2.49/h, got {shown(text)}")
    return found


COUNT = click.IntRange(1, 1024)


def path(text: str) -> str:
    """Read a path as it was written; refuse one that no file can have."""
    path_of(text)
    return text


def replica_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags that shape a replica and its weights."""
    options = (
        click.option("--tp", type=COUNT, metavar="N", help="Tensor-parallel GPUs per replica."),
        click.option("--pp", type=COUNT, metavar="N", help="Pipeline stages per replica."),
        click.option(
            "--dp",
            type=COUNT,
            metavar="N",
            help="Attention-data-parallel ranks; experts are divided over tp x dp GPUs.",
        ),
        click.option(
            "--weights", "form", type=click.Choice(sorted(FORMATS)), help="Weight format. Default: the checkpoint's."
        ),
        click.option(
            "--gpu-memory-utilization",
            "utilization",
            type=share,
            metavar="SHARE",
            help="Share of the GPU's memory the engine takes. Default: the engine's.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout: schema 1, base units.")
model_option = click.option(
    "--model", "-m", required=True, help="A name, a hub id, a config.json, or a folder with one."
)
context_option = click.option(
    "--context",
    "-c",
    required=True,
    type=tokens("--context"),
    metavar="TOKENS",
    help="Tokens per sequence, prompt and answer: 128k, 4096.",
)


def examples(*lines: str) -> Callable[[Command], Command]:
    r"""Return a decorator that ends a command's help with lines to be printed as they are (click's \b)."""

    def add(function: Command) -> Command:
        function.__doc__ = "\n".join((f"{docstring(function)}\n", "\b", *lines))
        return function

    return add


def parallel(tensor: int | None, pipeline: int | None, data: int | None) -> Parallel | None:
    """Return the replica shape the user fixed, None when no flag was given."""
    if tensor is None and pipeline is None and data is None:
        return None
    return Parallel(tensor=tensor or 1, pipeline=pipeline or 1, data=data or 1)


def deliver(
    as_json: bool, document: Callable[[], dict[str, Any]], report: Callable[[], list[Any]], refusal: str = ""
) -> None:
    """Print the JSON document or the report; then leave with a 'no' if there is one."""
    if as_json:
        click.echo(json.dumps(document(), allow_nan=False), file=sys.stdout)
    else:
        from kvplan.report.tables import console

        show(console(), report())
    if refusal:
        raise KvplanError(refusal)


def say(message: str, who: str = "kvplan") -> None:
    """Tell the user something on stderr, on one line."""
    click.echo(one_line(f"{who}: {message}"), file=sys.stderr)


def show(out: Any, parts: list[Any]) -> None:
    """Print a report; off a terminal without the padding that tables end their lines with."""
    if out.is_terminal:
        for part in parts:
            out.print(part)
        return
    with out.capture() as captured:
        for part in parts:
            out.print(part)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), file=sys.stdout)
