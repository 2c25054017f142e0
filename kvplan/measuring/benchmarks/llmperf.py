"""Results of LLMPerf: the summary.json of token_benchmark_ray.py."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    MS,
    PERCENTILES,
    Row,
    check_failures,
    count,
    fill_percentile,
    fill_text,
    labels,
    mean_time,
    positive,
    whole,
)


def read_llmperf(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """LLMPerf: flat, times in s, a closed loop.

    Its inter-token latency is the whole request over its tokens, the first one included: time per output token is what
    the mean request took after its first token, over the others.
    """
    completed = count(document.get("results_num_completed_requests"), f"{origin}: results_num_completed_requests")
    failed = whole(document.get("results_number_errors") or 0, f"{origin}: results_number_errors")
    check_failures(failed, completed, origin)
    row: Row = {"requests": completed, **labels(document)}  # metadata stands beside the results
    for column, key in (("isl", "results_number_input_tokens_mean"), ("osl", "results_number_output_tokens_mean")):
        if document.get(key) is not None:
            row[column] = positive(document[key], f"{origin}: {key}")
    fill_text(row, "model", document.get("model"))
    place = f"{origin}: results_ttft_s"
    first = mean_time(document.get("results_ttft_s_mean"), f"{place}_mean", "ttft")
    whole_request = positive(
        document.get("results_end_to_end_latency_s_mean"), f"{origin}: results_end_to_end_latency_s_mean"
    )
    row["ttft_ms"] = first / MS
    for p in PERCENTILES:
        fill_percentile(
            row, "ttft", p, document.get(f"results_ttft_s_quantiles_p{p}"), f"{place}_quantiles_p{p}", 1 / MS
        )
    further = float(row.get("osl", 0)) - 1
    if further > 0:
        if whole_request <= first:
            raise SpecError(
                f"{origin}: results_end_to_end_latency_s_mean: expected more than results_ttft_s_mean, {first:g}, got "
                f"{whole_request:g}; measure streamed answers of at least 2 tokens"
            )
        row["tpot_ms"] = (whole_request - first) / further / MS
    if document.get("num_concurrent_requests") is not None:
        slots = count(document["num_concurrent_requests"], f"{origin}: num_concurrent_requests")
        row["concurrency"] = min(slots, completed)
    yield origin, row
