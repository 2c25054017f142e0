"""`kvplan memory`: KV cache by layer; a GPU's memory budget."""

from typing import Any

import click

from kvplan.api.memory import MOST_BLOCK, memory
from kvplan.api.values import MOST_REQUESTS
from kvplan.cli.choice import OneOf
from kvplan.cli.delivery import deliver
from kvplan.cli.format_options import format_option
from kvplan.cli.options import as_option, context_option, examples, model_option, replica_options
from kvplan.cli.server_options import running_options
from kvplan.kv import spelling
from kvplan.planning.memory import KV_DTYPES, LAYOUTS
from kvplan.report.formats import Report


@click.command("memory")
@model_option
@as_option
@context_option
@click.option(
    "--batch", "-b", type=click.IntRange(1, MOST_REQUESTS), default=1, show_default=True, metavar="N", help="Sequences."
)
@click.option(
    "--kv-dtype",
    type=OneOf(KV_DTYPES),
    metavar="DTYPE",
    help="Of the cache: bf16, fp16, fp32, fp8, int8, int4.",
)
@click.option("--technique", "-t", default=spelling.BASELINE, help="As in mhc:4x+fp8.")
@click.option(
    "--layout",
    type=OneOf(LAYOUTS),
    metavar="READING",
    default="architecture",
    help="architecture (default), engine or transformers.",
)
@click.option(
    "--encoder-tokens",
    metavar="TOKENS",
    help="What cross-attention reads. Default: the most.",
)
@click.option("--gpu", "-g", help="Also divide this GPU's memory.")
@replica_options
@click.option("--max-model-len", metavar="TOKENS", help="Longest sequence. Default: the context.")
@click.option("--block-size", type=click.IntRange(1, MOST_BLOCK), metavar="N", help="Tokens per page.")
@click.option("--max-num-seqs", type=click.IntRange(1, MOST_REQUESTS), metavar="N", help="Sequences per step.")
@click.option("--max-num-batched-tokens", metavar="TOKENS", help="Prefill tokens per step.")
@click.option(
    "--engine",
    default="vllm",
    metavar="NAME",
    help="vllm, sglang, trtllm or llamacpp, as in vllm@0.19.",
)
@click.option("--speculative", metavar="DRAFT", help="mtp, eagle3 or a draft model; mtp:3.")
@running_options()
@click.option("--explain", is_flag=True, help="Print the equation with the numbers in it.")
@format_option
@examples(
    "kvplan memory --model qwen3-32b --context 32k --batch 8",
    "kvplan memory -m gpt-oss-120b -c 128k --layout engine -g h100 --tp 2",
)
def command(explain: bool, form: str, **options: Any) -> None:
    """Weights, KV cache by layer, and what a GPU's memory is divided into."""
    from kvplan.report import memory as words

    result = memory(**options)
    deliver(Report.of(words, result, explained=explain), form, result.reason)
