"""Results of GuideLLM from 0.2."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.measuring.benchmarks.fields import (
    MS,
    PERCENTILES,
    Row,
    check_failures,
    count,
    fill_percentile,
    fill_text,
    find,
    in_flight,
    labels,
    mean_time,
    positive,
    whole,
)


def read_guidellm(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """GuideLLM from 0.2: one benchmark a load; times of tokens in ms, of requests in s, split by how requests ended."""
    if not document["benchmarks"]:
        raise SpecError(f"{origin}: benchmarks: is empty; the run ended before its first benchmark did")
    for n, run in enumerate(document["benchmarks"]):
        here = f"{origin}: benchmarks[{n}]"
        row = labels(find(document, "config", "metadata", "labels")) | _point(run, here)
        for holder in (
            find(run, "config", "backend"),
            find(run, "worker"),
            find(document, "config", "spec", "backend"),
            find(document, "args", "backend_kwargs"),
            find(document, "args"),
        ):
            fill_text(row, "model", find(holder, "model") or find(holder, "backend_model"))
        yield here, row | _load(run, row, here)


def _point(run: Any, here: str) -> Row:
    metrics = find(run, "metrics")
    if find(metrics, "time_to_first_token_ms") is None:
        raise SpecError(f"{here}: has no metrics.time_to_first_token_ms; run it again with GuideLLM 0.2 or later")
    totals = find(metrics, "request_totals") or find(run, "request_totals")
    completed = count(find(totals, "successful"), f"{here}: request_totals.successful")
    check_failures(whole(find(totals, "errored") or 0, f"{here}: request_totals.errored"), completed, here)
    row: Row = {"requests": completed}
    for column, key in (("isl", "prompt_token_count"), ("osl", "output_token_count")):
        value = find(metrics, key, "successful", "mean")
        if value is not None:
            row[column] = positive(value, f"{here}: {key}.successful.mean")
    for name, key in (("ttft", "time_to_first_token_ms"), ("tpot", "inter_token_latency_ms")):
        block, place = find(metrics, key, "successful"), f"{here}: {key}.successful"
        row[f"{name}_ms"] = mean_time(find(block, "mean"), f"{place}.mean", name)
        fill_percentile(row, name, 50, find(block, "median"), f"{place}.median")
        for p in PERCENTILES[1:]:
            fill_percentile(row, name, p, find(block, "percentiles", f"p{p}"), f"{place}.percentiles.p{p}")
    if (duration := find(run, "duration")) is not None:
        row["duration_s"] = positive(duration, f"{here}: duration")
    return row


def _load(run: Any, row: Row, here: str) -> Row:
    strategy = find(run, "config", "strategy") or find(run, "args", "strategy")
    kind, metrics = find(strategy, "type_"), find(run, "metrics")
    completed = int(row["requests"])
    if kind == "synchronous":
        return {"concurrency": 1}
    if kind == "concurrent":
        return {"concurrency": min(count(find(strategy, "streams"), f"{here}: strategy.streams"), completed)}
    if kind not in ("throughput", "constant", "poisson"):
        raise SpecError(
            f"{here}: strategy.type_: expected synchronous, concurrent, throughput, constant or poisson, "
            f"got {shown(kind)}; only those hold one load"
        )
    load: Row = {}
    limit = find(strategy, "max_concurrency")
    slots = positive(limit, f"{here}: strategy.max_concurrency") if limit is not None else math.inf
    if kind != "throughput":
        load["request_rate"] = positive(find(strategy, "rate"), f"{here}: strategy.rate")
    for status in ("total", "successful"):
        value = find(metrics, "request_concurrency", status, "mean")
        if value:
            return load | {"concurrency": positive(value, f"{here}: request_concurrency.{status}.mean")}
    if kind == "throughput":
        return {"concurrency": min(slots, completed)}
    latency = find(metrics, "request_latency", "successful", "mean")  # [s], unlike the times of tokens
    known = positive(latency, f"{here}: request_latency.successful.mean") / MS if latency is not None else None
    return load | in_flight(row | load, known, slots)
