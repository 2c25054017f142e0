"""Benchmark reports of llm-d, schemas 0.1, 0.2 and 0.2.1 (YAML or JSON)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    LATENCY,
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
from kvplan.measuring.benchmarks.stacks import fill_cached, fill_count, fill_options, first_of, release_of

DEGREES = {"tp": "tp", "pp": "pp", "dp": "attention_dp", "ep": "moe_ep"}
#: (column, names of its block) of the times
TIMES = (("ttft", ("time_to_first_token",)), ("tpot", ("time_per_output_token", "inter_token_latency")))
#: how schemas call the requests that left a second
RATES = (("requests_per_sec",), ("request_rate", "mean"), ("requests_rate", "mean"))
#: how tools write that nothing limited the load
UNLIMITED = (None, math.inf, "inf", ".inf", "Infinity")


def read_llmd(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """llm-d's benchmark report: figures with their unit, the stack and the load under `scenario`; one load."""
    scenario, old = document["scenario"], document.get("metrics")
    place = "metrics" if old is not None else "results.request_performance.aggregate"
    metrics = old if old is not None else find(document, *place.split("."))
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
    row |= _times(latency, here)
    rate = next((r for keys in RATES if (r := find(metrics, "throughput", *keys)) is not None), None)
    if rate is not None:
        row["duration_s"] = total / positive(rate, f"{here}.throughput")
    row |= _stack_01(scenario, origin) if old is not None else _stack_02(scenario, origin)
    load = find(scenario, "load")
    stated = _load_01(load) if old is not None else find(load, "standardized") or {}
    _prefix(row, find(load, "standardized"), document)
    yield origin, row | _load(stated, latency, row, here)


def _times(latency: Any, here: str) -> Row:
    """Return the times of tokens, or of whole requests where answers were not streamed."""
    row: Row = {}
    if find(latency, "time_to_first_token") is None and (known := _request_ms(latency, here)) is not None:
        return {LATENCY: known}
    for name, keys in TIMES:
        key = next((k for k in keys if find(latency, k) is not None), keys[0])
        block, spot = find(latency, key), f"{here}.latency.{key}"
        mean = mean_time(find(block, "mean"), f"{spot}.mean", name)
        scale = _in_ms(find(block, "units"), spot)
        row[f"{name}_ms"] = mean * scale
        for p in PERCENTILES:
            fill_percentile(row, name, p, find(block, f"p{p}"), f"{spot}.p{p}", scale)
    return row


def _in_ms(units: Any, place: str) -> float:
    return in_ms(units.removesuffix("/token") if isinstance(units, str) else units, place)


def _request_ms(latency: Any, here: str) -> float | None:
    """Return the mean time of a request, None where the report leaves it out. [ms]"""
    block, spot = find(latency, "request_latency"), f"{here}.latency.request_latency"
    if find(block, "mean") is None:
        return None
    return positive(find(block, "mean"), f"{spot}.mean") * _in_ms(find(block, "units"), spot)


def _load_01(load: Any) -> Mapping[str, Any]:
    """Return the load of schema 0.1, which holds the tool's own options, in the words of 0.2."""
    arguments, stage = find(load, "args"), find(load, "metadata", "stage")
    stages = find(arguments, "load", "stages")  # inference-perf
    if isinstance(stages, list) and isinstance(stage, int) and 0 <= stage < len(stages):
        one = stages[stage]
        return {"rate_qps": find(one, "rate"), "concurrency": find(one, "concurrency_level")}
    limit = find(arguments, "max_concurrency") or find(arguments, "concurrency")
    limit = limit or find(arguments, "loadgen", "concurrency")  # AIPerf
    rate = find(arguments, "request_rate") or find(arguments, "rate_qps")
    prompts = find(arguments, "num_prompts")
    at_once = rate in UNLIMITED and limit is None and isinstance(prompts, int)
    return {"rate_qps": rate, "concurrency": prompts if at_once else limit}


def _load(stated: Mapping[str, Any], latency: Any, row: Row, here: str) -> Row:
    """Return the load as the report states it; by Little's law, of what left a second, where it states none."""
    limit, rate = find(stated, "concurrency"), find(stated, "rate_qps")
    slots = math.inf if limit in UNLIMITED else positive(limit, f"{here}: load: concurrency")
    if rate in UNLIMITED:
        everything = rate is not None and limit in UNLIMITED  # all at once
        if slots < math.inf or everything:
            return {"concurrency": min(slots, int(row["requests"]))}
        return in_flight(row, _request_ms(latency, here), slots) if "duration_s" in row and "ttft_ms" in row else {}
    load: Row = {"request_rate": positive(rate, f"{here}: load: rate_qps")}
    return load | in_flight(row | load, _request_ms(latency, here), slots)


def _prefix(row: Row, load: Any, document: Mapping[str, Any]) -> None:
    """Fill the share of prompts found in a prefix cache: as the engine counted, else the prefix that prompts share."""
    if row.pop("prefix_caching", None) == "off":
        return
    counted = find(document, "results", "observability", "metrics", "vllm_prefix_cache_hit_rate")
    seen = find(counted, "aggregated", "mean") or find(first_of(counted, "components"), "statistics", "mean")
    fill_cached(row, seen, 100)
    fill_cached(row, find(load, "prefix", "prefix_len", "value"), row.get("isl"))


def _stack_01(scenario: Any, origin: str) -> Row:
    accelerators, engines = find(scenario, "host", "accelerator"), find(scenario, "platform", "engine")
    row: Row = {}
    model = find(scenario, "model", "name")
    fill_text(row, "model", None if model == "unknown" else model)
    fill_text(row, "precision", find(scenario, "model", "quantization"))
    if isinstance(accelerators, list) and accelerators:
        roles = find(scenario, "host", "type")
        _one_server(len(accelerators), roles if isinstance(roles, list) else (), origin)
        _accelerator(row, accelerators[0])
    if isinstance(engines, list) and engines:
        _engine(row, find(engines[0], "name"), find(engines[0], "version"))
        fill_options(row, find(engines[0], "args"))
    return row


def _stack_02(scenario: Any, origin: str) -> Row:
    stack = find(scenario, "stack")
    parts = [p for p in stack if _is_engine(p)] if isinstance(stack, list) else []
    row: Row = {}
    if parts:
        each = [find(p, "standardized") for p in parts]
        copies = [find(e, "replicas") for e in each]
        servers = sum(n if isinstance(n, int) and n > 0 else 1 for n in copies)
        _one_server(servers, [find(e, "role") for e in each], origin)
        fill_text(row, "model", find(each[0], "model", "name"))
        _accelerator(row, find(each[0], "accelerator"))
        _engine(row, find(each[0], "tool"), find(each[0], "tool_version"))
        options = find(parts[0], "native", "args")
        fill_options(row, options)
        if isinstance(options, dict) and any("no-enable-prefix-caching" in str(option) for option in options):
            row["prefix_caching"] = "off"
    return row


def _is_engine(part: Any) -> bool:
    """Whether a part of the stack is an engine; drafts of the schema said so beside its description."""
    return "inference_engine" in (find(part, "standardized", "kind"), find(part, "metadata", "kind"))


def _one_server(servers: int, roles: Sequence[Any], origin: str) -> None:
    """Refuse prefill and decode apart, and a load that several servers shared."""
    if apart := {role for role in roles if role in ("prefill", "decode")}:
        raise SpecError(f"{origin}: scenario: the roles {', '.join(sorted(apart))}: give a run of servers that do both")
    if servers > 1:
        raise SpecError(f"{origin}: scenario: {servers} servers shared the load; give a run of one server")


def _accelerator(row: Row, accelerator: Any) -> None:
    """Fill the GPU and its parallelism; a report made of a running endpoint counts no GPUs, and states no degrees."""
    name = find(accelerator, "model")  # as a node's label has it: NVIDIA-H100-80GB-HBM3
    fill_text(row, "gpu", name.replace("-", " ") if isinstance(name, str) and name.startswith("NVIDIA-") else name)
    if find(accelerator, "count") == 0:
        return
    for key, column in DEGREES.items():
        fill_count(row, column, find(accelerator, "parallelism", key))


def _engine(row: Row, name: Any, version: Any) -> None:
    """Fill the engine and its release: from their names, else from the image; llm-d's own images run vLLM."""
    said = str(name or "").lower()
    known = engine_of(said) or next((e for e in ("vllm", "sglang") if e in said), "vllm" if "llm-d" in said else None)
    imaged = next((found for image in (version, name) if (found := release_of(image))[0]), (None, None))
    fill_text(row, "engine", known or imaged[0])
    plain = isinstance(version, str) and "/" not in version and version[:1].lstrip("v").isdecimal()
    fill_text(row, "engine_version", version if plain else imaged[1])
