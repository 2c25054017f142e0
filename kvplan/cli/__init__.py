"""The command line: one file a command, loaded when it is called."""

import gc
import signal
import sys
from importlib import import_module
from typing import Any

import click

from kvplan import __version__
from kvplan.cli.ending import Interrupted, ended, terminated
from kvplan.cli.help import Spoken
from kvplan.cli.names import commands as commands
from kvplan.cli.names import instead, nearest
from kvplan.cli.names import line_of as line_of
from kvplan.cli.names import module_of as module_of
from kvplan.cli.streams import steady_streams
from kvplan.errors import KvplanError

#: objects between two collections of garbage: Python's own 700 collect 50 times in an answer of a quarter second
COLLECT = 50_000


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
        if ctx.resilient_parsing:  # a shell asks how a word goes on
            from kvplan.cli.completion import completing

            completing(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; refuse another word with the nearest right one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as refusal:
            raise nearest(refusal, args[0]) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their lines into the help without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line_of(name)) for name in commands()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; its refusals name parameters, which are said as flags."""
        words = ctx.meta["kvplan.words"]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line
            raise Interrupted from None
        except KvplanError as refusal:
            from kvplan.cli.flags import reworded

            raise reworded(refusal, self.get_command(ctx, ctx.invoked_subcommand or ""), words) from None
        except click.NoSuchOption as refusal:
            from kvplan.cli.row_options import settable

            raise instead(settable(refusal)) from None
        except click.BadParameter as refusal:
            from kvplan.cli.flags import apart

            said = apart(refusal.message, words, refusal.ctx.command if refusal.ctx else None)
            if said == refusal.message:
                raise
            raise click.BadParameter(said, refusal.ctx, refusal.param, refusal.param_hint) from None


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="What an LLM workload costs, on which GPUs, with which KV-cache compression.\n\n"
    "\b\nkvplan estimate --model llama3.1-70b --context 128k\n"
    "kvplan recommend -w doc-qa -m llama3.1-70b --queries-per-day 40000 --ttft 10s",
)
@click.version_option(__version__, prog_name="kvplan")
def group() -> None:
    """Hold the commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exits 0 for an answer, 1 for a 'no' (one line on stderr), 2 for wrong usage."""
    if arguments is None:  # a process of its own
        signal.signal(signal.SIGTERM, terminated)
    steady_streams()
    gc.set_threshold(COLLECT)
    try:
        code = group.main(args=arguments, prog_name="kvplan", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        code = ended(error)
    sys.exit(code if isinstance(code, int) else 0)
