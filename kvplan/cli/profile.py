"""`kvplan profile`: measure this machine's device and write a profile of it."""

import shlex
import sys
from typing import Any

import click

from kvplan.api.profile import BUDGET, DEVICES, MOST_PROCESSES, Stopped, Watch, profile, seconds
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver, say
from kvplan.cli.format_options import TEXT, format_option
from kvplan.cli.options import examples, path
from kvplan.report.formats import Report


@click.command("profile")
@click.option("--device", type=OneOf(DEVICES), help="Default: a GPU if torch sees one, else the CPU.")
@click.option(
    "--budget",
    default=f"{BUDGET:g}s",
    show_default=True,
    type=seconds,
    metavar="TIME",
    help="At most this for all of it.",
)
@click.option("--output", "-o", type=path, help="Where the profile goes. Default: profile-<device>.yaml.")
@click.option("--rows", type=path, help="Where every sample goes. Default: beside the profile.")
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    help="How many all-reduce together. Default: the visible GPUs; CPU: 1.",
)
@click.option("--resume", is_flag=True, help="Go on from the samples of an earlier run.")
@format_option
@examples("kvplan profile --device cpu --budget 60s", "kvplan profile -o mine.yaml --resume")
def command(form: str, **options: Any) -> None:
    """Measure this machine's device and write a profile of it.

    Every finished sample is on disk at once: Ctrl-C loses none. Clocks, power limits and modes are left as they are.
    """
    from kvplan.report import profile as words
    from kvplan.report.progress import bar

    again = resumed(form, **options)
    if sys.stderr.isatty():
        say("opens the device; torch takes some seconds to load")
    try:
        result = profile(watch=Watch(bar, say, again), **options)
    except Stopped as stopped:
        so_far = f"{stopped.taken:,} samples are in {stopped.rows}; go on with"
        say(f"stopped; {so_far if stopped.taken else 'nothing is measured yet; start with'}: {again}")
        raise click.exceptions.Exit(130) from None
    deliver(Report.of(words, result), form)


def resumed(
    form: str,
    *,
    device: str | None,
    budget: float,
    output: str | None,
    rows: str | None,
    processes: int | None,
    resume: bool,
) -> str:
    """Return the command that goes on where this one ends: the user's own options and --resume."""
    given = {
        "--device": device, "--budget": None if budget == BUDGET else f"{budget:g}s", "--processes": processes,
        "-o": output, "--rows": rows,
    }  # fmt: skip
    words = [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    flags = {TEXT: [], "json": ["--json"]}.get(form, ["--format", form])
    return shlex.join(["kvplan", "profile", *words, "--resume", *flags])
