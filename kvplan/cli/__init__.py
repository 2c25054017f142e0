"""The command line: one file a command, loaded when it is called."""

import gc
import os
import sys
from importlib import import_module

import click

from kvplan import __version__
from kvplan.errors import KvplanError

#: objects between two collections of garbage: Python's own 700 collect 50 times in an answer of a quarter second
COLLECT = 50_000
#: set to see where an unexpected error came from
TRACEBACK = "KVPLAN_TRACEBACK"

#: command -> its line in the help; the module of its name is imported only when the command is used
COMMANDS = {
    "estimate": "Compare techniques and GPUs: memory, speed, cost.",
    "memory": "KV cache by layer; a GPU's memory budget.",
    "list": "List what is in the catalogue.",
    "show": "Show one item, every value with its source.",
    "prices": "Show prices of GPUs and APIs with date, source and age.",
    "load": "Load a server: percentiles, cost, the largest load within limits.",
    "recommend": "One plan for a workload: technique, GPUs, cost per query.",
    "compare": "Two saved plans side by side: what changed, by how much.",
    "fleet": "A mixed fleet for several workloads, with the GPUs that can be had.",
    "audit": "Check published claims: what holds, and the arithmetic.",
    "predict": "Predict the times of every kernel call or server load in a file.",
    "validate": "Compare predictions with the measured times of a file.",
    "calibrate": "Fit kernels or servers to measured rows and write a profile.",
    "profile": "Measure this machine's device and write a profile of it.",
}
#: modules that are not called like their command
MODULES = {"list": "listing"}


def module_of(command: str) -> str:
    """Return the module a command is in."""
    return f"kvplan.cli.{MODULES.get(command, command)}"


class Lazy(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(module_of(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kvplan")
def group() -> None:
    """What an LLM workload costs, on which GPUs, with which KV-cache compression.

    Start with: kvplan estimate --model llama3-70b --context 128k
    """


def one_line(message: str) -> str:
    return " ".join(message.split())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exits 0 for an answer, 1 for a 'no' (one line on stderr), 2 for wrong usage."""
    gc.set_threshold(COLLECT)
    try:
        code = group.main(args=arguments, prog_name="kvplan", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as wrong:
        click.echo(wrong.format_message(), err=True)
        code = 2
    except click.UsageError as wrong:
        path = wrong.ctx.command_path if wrong.ctx else "kvplan"
        click.echo(one_line(f"{path}: {wrong.format_message()} (see {path} --help)"), err=True)
        code = 2
    except click.Abort:
        code = 130
    except (KvplanError, click.ClickException) as refusal:
        text = refusal.format_message() if isinstance(refusal, click.ClickException) else str(refusal)
        click.echo(one_line(f"kvplan: {text}"), err=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        code = 0
    except OSError as error:
        click.echo(
            one_line(f"kvplan: {error.filename or 'cannot write to stdout'}: {error.strerror or error}"), err=True
        )
        code = 1
    except Exception as bug:  # a user sees one line; a developer asks for the traceback
        if os.environ.get(TRACEBACK):
            raise
        click.echo(
            one_line(f"kvplan: unexpected {type(bug).__name__}: {bug}; this is a bug, {TRACEBACK}=1 shows where"),
            err=True,
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
