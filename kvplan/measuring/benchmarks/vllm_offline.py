"""Results of `vllm bench latency` and `vllm bench throughput`: their own files, and PyTorch's record of either."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.measuring.benchmarks.fields import LATENCY, MS, TOKENS, Row, count, fill_text, find, labels, positive
from kvplan.measuring.benchmarks.stacks import fill_count, fill_options

#: what `vllm bench` calls the lengths and the load of a run, and their columns
ARGUMENTS = {"input_len": "isl", "output_len": "osl", "batch_size": "concurrency", "max_num_seqs": "concurrency"}
#: the metric of a record that holds the run; the others say it again
METRICS = ("latency", "requests_per_second")


def read_vllm_latency(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """`vllm bench latency`: the time of a whole batch, without its lengths or size."""
    mean = positive(document.get("avg_latency"), f"{origin}: avg_latency")
    yield origin, {"engine": "vllm", "arrival": "static", "lengths": "exact", LATENCY: mean / MS, **labels(document)}


def read_vllm_throughput(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """`vllm bench throughput`: how long all requests took, and their tokens in sum; not how many ran at once."""
    requests = count(document.get("num_requests"), f"{origin}: num_requests")
    row: Row = {
        "engine": "vllm",
        "requests": requests,
        "duration_s": positive(document.get("elapsed_time"), f"{origin}: elapsed_time"),
        TOKENS: positive(document.get("total_num_tokens"), f"{origin}: total_num_tokens") / requests,
    }
    yield origin, row | labels(document)


def read_vllm_record(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """One record of PyTorch's benchmark format (*.pytorch.json): a metric, and the arguments of the whole run."""
    if find(document, "metric", "name") not in METRICS:
        return
    inner = find(document, "metric", "extra_info") or {}
    arguments = find(document, "benchmark", "extra_info", "args")
    read = read_vllm_latency if "avg_latency" in inner else read_vllm_throughput
    for here, row in read(inner, origin):
        for name, column in ARGUMENTS.items():
            fill_count(row, column, find(arguments, name))
        fill_text(row, "model", find(document, "model", "name"))
        fill_options(row, arguments)
        fill_text(row, "precision", None if find(arguments, "dtype") == "auto" else find(arguments, "dtype"))
        yield here, row
