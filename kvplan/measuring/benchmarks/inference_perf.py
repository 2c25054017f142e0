"""Results of inference-perf: summary_lifecycle_metrics.json and stage_N_lifecycle_metrics.json."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.measuring.benchmarks.fields import (
    MS,
    PERCENTILES,
    Row,
    check_failures,
    count,
    fill_percentile,
    find,
    in_flight,
    mean_time,
    positive,
    whole,
)
from kvplan.measuring.benchmarks.stacks import fill_cached

TIMES = (("ttft", "time_to_first_token"), ("tpot", "time_per_output_token"))


def read_inference_perf(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """inference-perf: what succeeded, and the load that was asked for; times in s.

    A summary of several stages states no load: give the file of a stage.
    """
    done = document["successes"]
    completed = count(find(done, "count"), f"{origin}: successes.count")
    check_failures(whole(find(document, "failures", "count") or 0, f"{origin}: failures.count"), completed, origin)
    row: Row = {"requests": completed}
    for column, names in (("isl", ("prompt_len", "prompt_tokens")), ("osl", ("output_len", "output_tokens"))):
        for name in names:
            if (mean := find(done, name, "mean")) is not None:
                row.setdefault(column, positive(mean, f"{origin}: successes.{name}.mean"))
    for name, key in TIMES:
        block, place = find(done, "latency", key), f"{origin}: successes.latency.{key}"
        row[f"{name}_ms"] = mean_time(find(block, "mean"), f"{place}.mean", name) / MS
        for p in PERCENTILES:
            fill_percentile(row, name, p, find(block, "median" if p == 50 else f"p{p}"), f"{place}.p{p}", 1 / MS)
    prompts = done.get("prompt_tokens")
    fill_cached(row, find(prompts, "cached"), find(prompts, "total"))
    if (rate := find(done, "throughput", "requests_per_sec")) is not None:
        row["duration_s"] = completed / positive(rate, f"{origin}: successes.throughput.requests_per_sec")
    yield origin, row | _load(document["load_summary"], done, row, origin)


def _load(stated: Any, done: Any, row: Row, origin: str) -> Row:
    limit, rate = find(stated, "concurrency"), find(stated, "requested_rate")
    slots = count(limit, f"{origin}: load_summary.concurrency") if limit is not None else math.inf
    if limit is not None:  # a closed loop: its rate is how fast the slots were filled
        return {"concurrency": min(slots, int(row["requests"]))}
    if rate is None:
        return {}
    load: Row = {"request_rate": positive(rate, f"{origin}: load_summary.requested_rate")}
    latency = find(done, "latency", "request_latency", "mean")
    known = positive(latency, f"{origin}: request_latency.mean") / MS if latency is not None else None
    return load | in_flight(row | load, known, slots)
