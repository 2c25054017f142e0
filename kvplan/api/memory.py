"""Bytes only: weights, cache by layer, and what a GPU's memory is divided into."""

from kvplan import catalog
from kvplan.api import values
from kvplan.kv import spelling
from kvplan.kv.budget import Deployment
from kvplan.kv.replica import Parallel
from kvplan.planning.memory import Ask, Memory, with_kv_dtype
from kvplan.planning.memory import memory as asked


def memory(
    model: str,
    context: int | str,
    *,
    batch: int = 1,
    kv_dtype: str | None = None,
    technique: str = spelling.BASELINE,
    layout: str = "architecture",
    encoder_tokens: int | str | None = None,
    gpu: str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    weights: str | None = None,
    utilization: float | str | None = None,
    max_model_len: int | str | None = None,
    block_size: int | None = None,
    max_num_seqs: int | None = None,
    max_num_batched_tokens: int | str | None = None,
) -> Memory:
    """Return what a model holds at one context and batch; with a GPU, also how its memory is divided.

    `layout` is architecture (what the model needs), engine (the pages an engine reserves) or transformers (what its
    cache holds after a prefill). Raises KvplanError for names and values that cannot be understood.

        >>> kvplan.memory("llama3.1-8b", "8k", technique="fp8").bytes_per_token
        65536.0
    """
    named, bits = with_kv_dtype(technique, kv_dtype)
    ask = Ask(
        context=values.tokens(context, "context"),
        batch=batch,
        technique=named,
        kv_bits=bits,
        reading=layout,
        encoder_tokens=values.optional_tokens(encoder_tokens, "encoder_tokens"),
        max_model_len=values.optional_tokens(max_model_len, "max_model_len"),
    )
    where = Deployment(
        engine=catalog.engine(),
        gpu=catalog.gpu(gpu) if gpu else None,
        parallel=values.parallel(tp, pp, dp) or Parallel(),
        weights=weights,
        utilization=values.utilization(utilization, "utilization"),
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=values.optional_tokens(max_num_batched_tokens, "max_num_batched_tokens"),
    )
    return asked(catalog.model(model), ask, where)
