"""Options of a running engine: those that change its memory, and those of a server under load."""

from collections.abc import Callable

import click

from kvplan.api.values import MOST_REQUESTS
from kvplan.cli.options import COUNT, Command, stacked
from kvplan.kv import spelling


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
            help="prefix-caching, hybrid, graphs, compile, towers ...",
        ),
        click.option(
            "--with", "with_features", multiple=True, metavar="NAME", hidden=hidden,
            help="prefix-caching where it is off; flashinfer.",
        ),
    )  # fmt: skip


# -- a server under load: `load` and `simulate` -----------------------------------------------------

technique_option = click.option(
    "--technique", "-t", default=spelling.BASELINE, help="A KV-cache technique, as in fp8 or mhc:4x."
)
split_option = click.option("--disaggregated", metavar="P:D", help="P replicas only prefill, D only decode.")
limit_options = stacked(
    click.option("--ttft", metavar="TIME", help="Limit of the first token, as in 2s."),
    click.option("--tpot", metavar="TIME", help="Limit of the time per token, as in 50ms."),
)


def closed_option(text: str, hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds the requests in flight of a closed loop."""
    many = click.IntRange(1, MOST_REQUESTS)
    return click.option("--concurrency", type=many, metavar="C", help=text, hidden=hidden)


def drafting_options(hidden: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds speculative decoding: what it gains, and, hidden or not, what it takes."""
    from kvplan.api.load import MOST_DRAFTED

    return stacked(
        click.option("--speculative", metavar="N", help="Tokens accepted a step, as in 1.6."),
        click.option(
            "--draft-share", metavar="P", help="Time of the draft over a step's. [default: 0]", hidden=hidden
        ),
        click.option(
            "--draft-tokens", type=click.IntRange(0, MOST_DRAFTED), metavar="K", help="Tokens drafted a step.",
            hidden=hidden,
        ),
    )  # fmt: skip
