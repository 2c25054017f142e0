"""Benchmark reports of llm-d, schemas 0.1 and 0.2 (JSON or YAML)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    PERCENTILES,
    Row,
    check_failures,
    count,
    engine_of,
    fill_percentile,
    fill_text,
    find,
    in_flight,
    in_ms,
    mean_time,
    positive,
    whole,
)

DEGREES = {"tp": "tp", "pp": "pp", "dp": "attention_dp", "ep": "moe_ep"}
#: (column, name of its block) of the times
TIMES = (("ttft", ("time_to_first_token",)), ("tpot", ("time_per_output_token", "inter_token_latency")))


def read_llmd(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """llm-d's benchmark report: figures with their unit, the stack and the load under `scenario`; one load."""
    scenario = document["scenario"]
    old = document.get("metrics")
    metrics = old if old is not None else find(document, "results", "request_performance", "aggregate")
    place = "metrics" if old is not None else "results.request_performance.aggregate"
    here = f"{origin}: {place}"
    requests = find(metrics, "requests")
    total = count(find(requests, "total"), f"{here}.requests.total")
    failed = sum(whole(find(requests, k) or 0, f"{here}.requests.{k}") for k in ("failures", "incomplete"))
    check_failures(failed, max(total - failed, 0), origin)
    row: Row = {"requests": total}
    for column, key in (("isl", "input_length"), ("osl", "output_length")):
        if (mean := find(requests, key, "mean")) is not None:
            row[column] = positive(mean, f"{here}.requests.{key}.mean")
    latency = find(metrics, "latency")
    for name, keys in TIMES:
        key = next((k for k in keys if find(latency, k) is not None), keys[0])
        block, spot = find(latency, key), f"{here}.latency.{key}"
        mean = mean_time(find(block, "mean"), f"{spot}.mean", name)
        scale = _in_ms(find(block, "units"), spot)
        row[f"{name}_ms"] = mean * scale
        for p in PERCENTILES:
            fill_percentile(row, name, p, find(block, f"p{p}"), f"{spot}.p{p}", scale)
    rate = find(metrics, "throughput", "requests_per_sec") or find(metrics, "throughput", "requests_rate", "mean")
    if rate is not None:
        row["duration_s"] = total / positive(rate, f"{here}.throughput")
    row |= _stack_01(scenario, origin) if old is not None else _stack_02(scenario, origin)
    yield origin, row | _load(scenario, latency, row, here)


def _in_ms(units: Any, place: str) -> float:
    return in_ms(units.removesuffix("/token") if isinstance(units, str) else units, place)


def _load(scenario: Any, latency: Any, row: Row, here: str) -> Row:
    """Return the load as the report states it; nothing where it leaves it to the tool's own options."""
    stated = find(scenario, "load", "standardized") or find(scenario, "load", "args") or {}
    limit = find(stated, "concurrency") or find(stated, "max_concurrency")
    rate = find(stated, "rate_qps")
    slots = math.inf if limit in (None, math.inf) else positive(limit, f"{here}: load: concurrency")
    if rate is None:
        return {"concurrency": min(slots, int(row["requests"]))} if slots < math.inf else {}
    load: Row = {"request_rate": positive(rate, f"{here}: load: rate_qps")}
    block = find(latency, "request_latency")
    known = None
    if find(block, "mean") is not None:
        spot = f"{here}.latency.request_latency"
        known = positive(block["mean"], f"{spot}.mean") * _in_ms(find(block, "units"), spot)
    return load | in_flight(row | load, known, slots)


def _stack_01(scenario: Any, origin: str) -> Row:
    accelerators, engines = find(scenario, "host", "accelerator"), find(scenario, "platform", "engine")
    row: Row = {}
    fill_text(row, "model", find(scenario, "model", "name"))
    fill_text(row, "precision", find(scenario, "model", "quantization"))
    if isinstance(accelerators, list) and accelerators:
        roles = find(scenario, "host", "type")
        _one_server(len(accelerators), set(roles if isinstance(roles, list) else ()), origin)
        _accelerator(row, accelerators[0], origin)
    if isinstance(engines, list) and engines:
        _engine(row, find(engines[0], "name"), find(engines[0], "version"))
    return row


def _stack_02(scenario: Any, origin: str) -> Row:
    stack = find(scenario, "stack")
    parts = [p for p in stack if find(p, "metadata", "kind") == "inference_engine"] if isinstance(stack, list) else []
    row: Row = {}
    if parts:
        each = [find(p, "standardized") for p in parts]
        _one_server(len(each), {find(e, "role") for e in each if isinstance(find(e, "role"), str)}, origin)
        fill_text(row, "model", find(each[0], "model", "name"))
        _accelerator(row, find(each[0], "accelerator"), origin)
        _engine(row, find(each[0], "tool"), find(each[0], "tool_version"))
    return row


def _one_server(servers: int, roles: set[Any], origin: str) -> None:
    """Refuse prefill and decode apart, and a load that several servers shared."""
    if apart := {role for role in roles if role in ("prefill", "decode")}:
        raise SpecError(f"{origin}: scenario: the roles {', '.join(sorted(apart))}: give a run of servers that do both")
    if servers > 1:
        raise SpecError(f"{origin}: scenario: {servers} servers shared the load; give a run of one server")


def _accelerator(row: Row, accelerator: Any, origin: str) -> None:
    name = find(accelerator, "model")  # as a node's label has it: NVIDIA-H100-80GB-HBM3
    fill_text(row, "gpu", name.replace("-", " ") if isinstance(name, str) and name.startswith("NVIDIA-") else name)
    degrees = find(accelerator, "parallelism")
    for key, column in DEGREES.items():
        if (value := find(degrees, key)) is not None:
            row[column] = count(value, f"{origin}: scenario: parallelism: {key}")


def _engine(row: Row, name: Any, version: Any) -> None:
    """Fill the engine; llm-d's own images run vLLM."""
    said = str(name or "").lower()
    known = engine_of(said) or next((e for e in ("vllm", "sglang") if e in said), "vllm" if "llm-d" in said else None)
    fill_text(row, "engine", known)
    fill_text(row, "engine_version", version if isinstance(version, str) and "/" not in version else None)
