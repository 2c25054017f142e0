"""Options that several commands share. They pass on what was typed; the questions in `api` understand it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kvplan.api import values
from kvplan.architectures.formats import FORMATS
from kvplan.catalog.checkpoints.hub_files import online
from kvplan.catalog.files import path_of
from kvplan.cli.choice import OneOf
from kvplan.docstrings import docstring

#: the function of a command, before click makes a command of it
Command = TypeVar("Command", bound=Callable[..., object])
COUNT = click.IntRange(1, values.MOST_GPUS)


def stacked(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options, the first one first in help."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


online_option = click.option(
    "--online", is_flag=True, is_eager=True, expose_value=False, hidden=True,
    callback=lambda ctx, _, asked: ctx.with_resource(online()) if asked else None,
    help="Fetch the config of a model that is neither known nor in the hub's cache.",
)  # fmt: skip
model_option = stacked(
    click.option("--model", "-m", required=True, help="A name, hub id (--online), config.json."), online_option
)
as_option = click.option("--as", "as_family", metavar="FAMILY", help="Read the config as of this architecture.")
context_option = click.option("--context", "-c", required=True, metavar="TOKENS", help="Prompt and answer: 128k, 4096.")
gpus_option = click.option(
    "--gpu", "-g", "gpus", multiple=True, metavar="GPU", help="A name or YAML file; repeatable. Default: all."
)
techniques_option = click.option(
    "--technique", "-t", "techniques", multiple=True, metavar="NAME",
    help="mhc:4x, h2o:20%, fp8, ..., joined with +.",
)  # fmt: skip
profile_option = click.option(
    "--profile", default="published", metavar="FILE", help="What kvplan calibrate or kvplan profile wrote.",
)  # fmt: skip
day_option = click.option("--on", metavar="DATE", help="Day of the prices (YYYY-MM-DD). Default: today.")
price_option = click.option("--price", metavar="PRICE", help="USD per GPU-hour: 2.49/h. Default: the median offer.")
prices_option = click.option("--prices", multiple=True, metavar="FILE", help="Your own prices, YAML or CSV; they win.")
term_option = click.option("--term", default="on-demand", metavar="TERM", help="on-demand, reserved-3y, spot ...")
long_context_option = click.option(
    "--allow-long-context", is_flag=True, help="Beyond the model's context, by RoPE scaling."
)
any_technique_option = click.option(
    "--any-technique", is_flag=True, help="Also techniques that no stock engine serves."
)

#: formats of weights, under the names that checkpoints have for them too: awq and gptq are int4
WEIGHTS = OneOf(sorted(FORMATS), {alias: form.name for form in FORMATS.values() for alias in form.aliases})
weights_option = click.option(
    "--weights",
    multiple=True,
    type=WEIGHTS,
    metavar="FORMAT",
    help="Only bf16, fp8, int4 ... weights; repeatable.",
)
confidence_option = click.option("--confidence", metavar="P", help="How sure the limits must be kept. Default: 90%.")
spares_option = click.option(
    "--spares", type=click.IntRange(0, 64), metavar="N", help="Spare replicas; 1 unless offline."
)
own_option = click.option(
    "--own", is_flag=False, flag_value="default", metavar="[FILE]", help="Owned instead of rented."
)


def path(text: str) -> str:
    """Read a path as it was written; refuse one that no file can have."""
    path_of(text)
    return text


replica_options = stacked(
    click.option("--tp", type=COUNT, metavar="N", help="Tensor-parallel GPUs per replica."),
    click.option("--pp", type=COUNT, metavar="N", help="Pipeline stages per replica."),
    click.option("--dp", type=COUNT, metavar="N", help="Attention-data-parallel ranks per replica."),
    click.option(
        "--weights", type=WEIGHTS, metavar="FORMAT",
        help="As in bf16, fp8, int4. Default: the checkpoint's.",
    ),
    click.option(
        "--gpu-memory-utilization", "utilization", metavar="SHARE",
        help="Of a GPU's memory. Default: the engine's own share.",
    ),
)  # fmt: skip


engine_option = click.option(
    "--engine", default="vllm", metavar="NAME", help="vllm (the default), sglang or trtllm; vllm@0.19."
)  # fmt: skip
profiles_option = click.option(
    "--profile", "profiles", multiple=True, metavar="FILE", help="A profile of your own; wins over the shipped ones."
)


def examples(*lines: str) -> Callable[[Command], Command]:
    r"""Return a decorator that ends a command's help with lines to be printed as they are (click's \b)."""

    def add(function: Command) -> Command:
        function.__doc__ = "\n".join((f"{docstring(function)}\n", "\b", *lines))
        return function

    return add
