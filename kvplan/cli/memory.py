"""`kvplan memory`: bytes only, in three readings."""

import click

from kvplan.cli.common import (
    context_option,
    deliver,
    examples,
    json_option,
    model_option,
    parallel,
    replica_options,
    tokens,
)
from kvplan.kv import techniques
from kvplan.kv.budget import Deployment, Parallel
from kvplan.planning.memory import KV_DTYPES, LAYOUTS, Ask, memory, with_kv_dtype
from kvplan.specs import catalog


@click.command("memory")
@model_option
@context_option
@click.option("--batch", "-b", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Sequences.")
@click.option(
    "--kv-dtype",
    type=click.Choice(list(KV_DTYPES)),
    metavar="DTYPE",
    help="Elements of the cache: bf16, fp16, fp32, fp8, int8, int4. Default: the checkpoint's.",
)
@click.option("--technique", "-t", default=techniques.BASELINE, help="A technique or a composition, as in mhc:4x+fp8.")
@click.option(
    "--layout",
    "reading",
    type=click.Choice(LAYOUTS),
    default="architecture",
    show_default=True,
    help="architecture: what the model needs; engine: the pages a vLLM-like engine reserves; "
    "transformers: what its cache holds after a prefill.",
)
@click.option(
    "--encoder-tokens",
    type=tokens("--encoder-tokens"),
    metavar="TOKENS",
    help="Tokens a cross-attention layer attends to. Default: the model's maximum.",
)
@click.option("--gpu", "-g", help="Also divide this GPU's memory.")
@replica_options
@click.option(
    "--max-model-len",
    type=tokens("--max-model-len"),
    metavar="TOKENS",
    help="Longest sequence the engine admits. Default: the context.",
)
@click.option("--block-size", type=click.IntRange(1, 65536), help="Tokens per page.")
@click.option("--max-num-seqs", type=click.IntRange(1, 1_000_000), help="Sequences per step, for the activation peak.")
@click.option(
    "--max-num-batched-tokens",
    type=tokens("--max-num-batched-tokens"),
    metavar="TOKENS",
    help="Prefill tokens per step.",
)
@click.option("--explain", is_flag=True, help="Print the equation with the numbers in it.")
@json_option
@examples(
    "kvplan memory --model qwen3-32b --context 32k --batch 8",
    "kvplan memory --model gpt-oss-120b --context 128k --layout engine --gpu h100 --tp 2",
)
def command(
    model: str,
    context: int,
    batch: int,
    kv_dtype: str | None,
    technique: str,
    reading: str,
    encoder_tokens: int | None,
    gpu: str | None,
    tp: int | None,
    pp: int | None,
    dp: int | None,
    form: str | None,
    utilization: float | None,
    max_model_len: int | None,
    block_size: int | None,
    max_num_seqs: int | None,
    max_num_batched_tokens: int | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Weights, KV cache by layer, and what a GPU's memory is divided into."""
    spec = catalog.model(model)
    named, bits = with_kv_dtype(technique, kv_dtype)
    ask = Ask(
        context=context,
        batch=batch,
        technique=named,
        kv_bits=bits,
        reading=reading,
        encoder_tokens=encoder_tokens,
        max_model_len=max_model_len,
    )
    where = Deployment(
        engine=catalog.engine(),
        gpu=catalog.gpu(gpu) if gpu else None,
        parallel=parallel(tp, pp, dp) or Parallel(),
        weights=form,
        utilization=utilization,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    found = memory(spec, ask, where)

    def document() -> dict[str, object]:
        from kvplan.report import document as doc

        return doc.memory(spec, found)

    def report() -> list[object]:
        from kvplan.report import tables

        return list(tables.memory(spec, found, explain))

    deliver(as_json, document, report, found.reason)
