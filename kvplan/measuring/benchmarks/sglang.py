"""Lines of SGLang's bench_serving, whose `server_info` is what the server says of itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import MS, Row, count, fill_text, find, positive
from kvplan.measuring.benchmarks.stacks import (
    fill_accepted,
    fill_cache,
    fill_cached,
    fill_count,
    first_of,
    format_of,
)
from kvplan.measuring.benchmarks.vllm import read_vllm


def read_sglang(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """SGLang's bench_serving: as `vllm bench serve`, and the server's arguments, release and accepted drafts."""
    report = document.get("cache_report")
    for here, row in read_vllm(document, origin):
        stated = _server(document["server_info"], origin) | row
        fill_cached(stated, find(report, "total_cached_tokens"), find(report, "total_prompt_tokens"))
        yield here, stated


def read_one_batch(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """SGLang's bench_one_batch and bench_one_batch_server: one batch whose requests start and end together."""
    size, output = (count(document.get(key), f"{origin}: {key}") for key in ("batch_size", "output_len"))
    row: Row = {
        "engine": "sglang", "requests": size, "concurrency": size, "osl": output,
        "isl": count(document.get("input_len"), f"{origin}: input_len"),
    }  # fmt: skip
    first = next((key for key in ("last_ttft", "ttft", "prefill_latency") if document.get(key) is not None), "ttft")
    ttft = positive(document.get(first), f"{origin}: {first}")
    row["ttft_ms"] = ttft / MS
    if document.get("median_decode_latency") is not None:
        row["tpot_ms"] = positive(document["median_decode_latency"], f"{origin}: median_decode_latency") / MS
    elif output > 1:
        rest = positive(document.get("latency"), f"{origin}: latency") - ttft
        row["tpot_ms"] = positive(rest, f"{origin}: latency less {first}") / (output - 1) / MS
    yield origin, row


def _server(info: Mapping[str, Any], origin: str) -> Row:
    """Return what a server's own description fills."""
    if ("prefill" in info and "decode" in info) or info.get("disaggregation_mode") in ("prefill", "decode"):
        raise SpecError(
            f"{origin}: server_info: prefill and decode ran on servers of their own; give a run of one that does both"
        )
    row: Row = {}
    if info.get("tp_size") is None:  # another engine's, under the same name
        return row
    row["engine"] = "sglang"
    fill_text(row, "model", info.get("model_path"))
    fill_text(row, "engine_version", info.get("version"))
    row["precision"] = format_of(info.get("quantization"))
    fill_cache(row, info.get("kv_cache_dtype"))
    row |= _parallel(info, origin)
    for column, key in (
        ("max_num_batched_tokens", "chunked_prefill_size"),
        ("scheduler_recv_interval", "scheduler_recv_interval"),
    ):
        fill_count(row, column, info.get(key))
    method = info.get("speculative_algorithm")
    fill_text(row, "spec_decode", method or "none")
    if method:
        fill_accepted(row, find(first_of(info, "internal_states"), "avg_spec_accept_length"))
    return row


def _parallel(info: Mapping[str, Any], origin: str) -> Row:
    """Return the degrees of parallelism: under data-parallel attention `dp_size` groups share the `tp_size` GPUs."""
    degrees: Row = {}
    for column, key in (("tp", "tp_size"), ("pp", "pp_size"), ("attention_dp", "dp_size"), ("moe_ep", "ep_size")):
        fill_count(degrees, column, info.get(key))
    copies, gpus = int(degrees.get("attention_dp", 1)), int(degrees.get("tp", 1))
    if copies > 1 and not info.get("enable_dp_attention"):
        raise SpecError(f"{origin}: server_info: dp_size: {copies} copies shared the load; give a run of one server")
    if gpus % copies:
        raise SpecError(f"{origin}: server_info: dp_size {copies} does not divide tp_size {gpus}")
    return {**degrees, "tp": gpus // copies}
