"""Results of `trtllm-bench throughput` and `latency`, with --report_json and --streaming."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
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


def read_trtllm(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """trtllm-bench: nested, times in ms; in flight is its own mean, the requests' times over the run's."""
    times = document.get("streaming_metrics")
    if not isinstance(times, dict):
        raise SpecError(f"{origin}: has no streaming_metrics; run trtllm-bench again with --streaming")
    row: Row = {"engine": "trtllm"}
    requests, world, engine = (document.get(key) for key in ("request_info", "world_info", "engine"))
    row["requests"] = count(find(requests, "num_requests"), f"{origin}: request_info.num_requests")
    for column, holder, key in (
        ("isl", requests, "avg_input_length"),
        ("osl", requests, "avg_output_length"),
        ("concurrency", requests, "avg_num_concurrent_requests"),
    ):
        if (value := find(holder, key)) is not None:
            row[column] = positive(value, f"{origin}: {key}")
    for column, key in (("tp", "tp_size"), ("pp", "pp_size"), ("moe_ep", "ep_size")):
        value = find(world, key)
        if isinstance(value, int) and value > 0:  # an unset degree is written as -1
            row[column] = value
    fill_text(row, "model", find(engine, "model"))
    fill_text(row, "engine_version", find(engine, "version"))
    fill_text(row, "precision", find(engine, "quantization"))
    fill_text(row, "precision", find(engine, "dtype"))
    fill_text(row, "gpu", find(document, "machine", "name"))
    for name in ("ttft", "tpot"):
        row[f"{name}_ms"] = mean_time(times.get(f"avg_{name}_ms"), f"{origin}: streaming_metrics.avg_{name}_ms", name)
        for p in PERCENTILES:
            value = find(times, f"{name}_percentiles", f"p{p}")
            fill_percentile(row, name, p, value, f"{origin}: streaming_metrics.{name}_percentiles.p{p}")
    whole_run = find(document, "performance", "total_latency_ms")
    if whole_run is not None:
        row["duration_s"] = positive(whole_run, f"{origin}: performance.total_latency_ms") * MS
    yield origin, row
