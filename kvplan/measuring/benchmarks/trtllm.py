"""Results of `trtllm-bench throughput` and `latency` with --report_json."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    LATENCY,
    MS,
    PERCENTILES,
    Row,
    count,
    fill_percentile,
    fill_text,
    find,
    mean_time,
    positive,
)
from kvplan.measuring.benchmarks.stacks import fill_accepted, fill_cache, fill_count, format_of

#: a run without --streaming
NO_STREAM = "has no streaming_metrics; run trtllm-bench again with --streaming"


def read_trtllm(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """trtllm-bench: nested, times in ms; in flight is its own mean, the requests' times over the run's.

    Without --streaming only the time of a whole request is known.
    """
    row: Row = {"engine": "trtllm"}
    requests = document.get("request_info")
    row["requests"] = count(find(requests, "num_requests"), f"{origin}: request_info.num_requests")
    for column, key in (
        ("isl", "avg_input_length"),
        ("osl", "avg_output_length"),
        ("concurrency", "avg_num_concurrent_requests"),
    ):
        if (value := find(requests, key)) is not None:
            row[column] = positive(value, f"{origin}: {key}")
    row |= _server(document)
    whole_run = find(document, "performance", "total_latency_ms")
    if whole_run is not None:
        row["duration_s"] = positive(whole_run, f"{origin}: performance.total_latency_ms") * MS
    yield origin, row | _times(document, origin)


def _times(document: Mapping[str, Any], origin: str) -> Row:
    times = document.get("streaming_metrics")
    if not isinstance(times, dict):
        whole = find(document, "performance", "avg_request_latency_ms")
        if whole is None:
            raise SpecError(f"{origin}: {NO_STREAM}")
        return {LATENCY: positive(whole, f"{origin}: performance.avg_request_latency_ms")}
    row: Row = {}
    for name in ("ttft", "tpot"):
        row[f"{name}_ms"] = mean_time(times.get(f"avg_{name}_ms"), f"{origin}: streaming_metrics.avg_{name}_ms", name)
        for p in PERCENTILES:
            value = find(times, f"{name}_percentiles", f"p{p}")
            fill_percentile(row, name, p, value, f"{origin}: streaming_metrics.{name}_percentiles.p{p}")
    return row


def _server(document: Mapping[str, Any]) -> Row:
    row: Row = {}
    world, engine = document.get("world_info"), document.get("engine")
    for column, key in (
        ("tp", "tp_size"),
        ("pp", "pp_size"),
        ("moe_ep", "ep_size"),
        ("max_num_batched_tokens", "max_num_tokens"),
    ):
        fill_count(row, column, find(world, key))
    for key in ("model", "model_path"):
        named = find(engine, key)
        fill_text(row, "model", None if named == "None" else named)
    fill_text(row, "engine_version", find(engine, "version"))
    if method := find(engine, "quantization"):
        fill_text(row, "precision", format_of(method))
    fill_text(row, "precision", find(engine, "dtype"))
    fill_cache(row, find(engine, "kv_cache_dtype"))
    fill_text(row, "gpu", find(document, "machine", "name"))
    decoding = document.get("decoding_stats")
    if isinstance(decoding, dict):
        fill_text(row, "spec_decode", decoding.get("mode"))
        fill_accepted(row, find(decoding, "acceptance_length_percentiles", "average"))
    return {"spec_decode": "yes" if decoding else "none"} | row
