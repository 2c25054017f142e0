"""Options of a running engine that change its memory, for the commands that count it."""

from collections.abc import Callable

import click

from kvplan.cli.options import COUNT, Command, stacked


def running_options(hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds the options of an engine that change its memory."""
    return stacked(
        click.option(
            "--pp-layers", default="", metavar="N,N", hidden=hidden, help="Layers of each pipeline stage: 16,32."
        ),
        click.option(
            "--dcp", type=COUNT, default=1, metavar="N", hidden=hidden, help="Decode-context-parallel GPUs, of tp."
        ),
        click.option(
            "--kv-cache-memory-bytes", metavar="SIZE", hidden=hidden, help="Of the cache on a GPU, as in 20GiB."
        ),
        click.option("--cpu-offload", metavar="SIZE", hidden=hidden, help="Weights a GPU leaves on the host."),
        click.option(
            "--without", multiple=True, metavar="NAME", hidden=hidden,
            help="prefix-caching, hybrid or graphs; repeatable.",
        ),
    )  # fmt: skip
