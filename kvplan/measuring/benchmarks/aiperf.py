"""Results of AIPerf and GenAI-Perf, and of AIPerf's sweeps."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    MS,
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
    not_negative,
    only_model,
    positive,
    whole,
)

#: a metric and a statistic of it in one name
STATISTIC = re.compile(r"(.+)_(avg|p50|p90|p95|p99)$")


def read_perf(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """AIPerf and GenAI-Perf: one block a metric, each with its unit; the load under `input_config`."""
    if document.get("was_cancelled"):
        raise SpecError(f"{origin}: was_cancelled: the run was stopped; give one that ran to its end")
    counted = find(document, "request_count", "avg")
    if find(document, "time_to_first_token") is None and counted != 0:
        raise SpecError(f"{origin}: has no time_to_first_token; run it again with --streaming")
    completed = count(counted, f"{origin}: request_count.avg") if counted is not None else None
    check_failures(_failures(document, origin), completed or 0, origin)
    row: Row = {"requests": completed} if completed else {}
    row |= _measured(document, origin) | _duration(document, completed, origin)
    fill_text(row, "gpu", _telemetry_gpu(document))
    _stated(row, document.get("input_config"))
    yield origin, row | _load(document, row, origin)


def _failures(document: Mapping[str, Any], origin: str) -> int:
    """Return how many requests failed: as counted, a mean over trials rounded up, else as listed."""
    errors = find(document, "error_request_count", "avg")
    if errors is None and isinstance(document.get("error_summary"), list):
        errors = sum(whole(find(e, "count"), f"{origin}: error_summary.count") for e in document["error_summary"])
    return math.ceil(not_negative(errors or 0, f"{origin}: error_request_count.avg", "a number"))


def _measured(document: Mapping[str, Any], origin: str) -> Row:
    """Return the mean lengths [token], and the times with their percentiles [ms]."""
    row: Row = {}
    for column, name in (("isl", "input_sequence_length"), ("osl", "output_sequence_length")):
        value = find(document, name, "avg")
        if value is not None:
            row[column] = positive(value, f"{origin}: {name}.avg")
    for name, key in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency")):
        place = f"{origin}: {key}"
        mean = mean_time(find(document, key, "avg"), f"{place}.avg", name)
        scale = in_ms(find(document, key, "unit"), place)
        row[f"{name}_ms"] = positive(mean * scale, f"{place}.avg")
        for p in PERCENTILES:
            fill_percentile(row, name, p, find(document, key, f"p{p}"), f"{place}.p{p}", scale)
    return row


def _stated(row: Row, config: Any) -> None:
    """Fill the model and the engine that a run's configuration names."""
    for names in (find(config, "models", "items"), find(config, "models"), find(config, "endpoint", "model_names")):
        fill_text(row, "model", only_model(names))
    fill_text(row, "model", only_model(find(config, "model_names")) or only_model(find(config, "model")))
    for holder in (find(config, "endpoint"), config):
        kind = find(holder, "service_kind")
        backend = find(holder, "backend") if kind == "triton" else kind  # for other kinds it is a default, not said
        fill_text(row, "engine", engine_of(backend))


def _duration(document: Mapping[str, Any], completed: int | None, origin: str) -> Row:
    duration = find(document, "benchmark_duration", "avg")
    if duration is not None:
        place = f"{origin}: benchmark_duration"
        scale = in_ms(find(document, "benchmark_duration", "unit"), place) * MS
        return {"duration_s": positive(duration, f"{place}.avg") * scale}
    rate = find(document, "request_throughput", "avg")
    if rate is None or completed is None:
        return {}
    return {"duration_s": completed / positive(rate, f"{origin}: request_throughput.avg")}


def _load(document: Mapping[str, Any], row: Row, origin: str) -> Row:
    config = document.get("input_config")
    phase = _phase(find(config, "phases"), origin)
    if find(phase, "type") in ("fixed_schedule", "user_centric") or find(config, "input", "fixed_schedule") is True:
        raise SpecError(f"{origin}: input_config: a replayed schedule holds no one load; give a run at one rate")
    if find(phase, "rate_series") is not None:
        raise SpecError(f"{origin}: input_config: rate_series: the load changed during the run; give a run at one rate")
    holders = (phase, find(config, "loadgen"), find(config, "perf_analyzer", "stimulus"), config)
    rates = (find(h, key) for h in holders for key in ("request_rate", "rate"))
    rate = next((r for r in rates if r not in (None, "")), None)
    limits = (find(h, "concurrency") for h in holders)
    limit = next((c for c in limits if c not in (None, "")), None)
    slots = positive(limit, f"{origin}: input_config: concurrency") if limit is not None else math.inf
    if rate is None:
        return {"concurrency": min(slots, float(row.get("requests", slots)))} if limit is not None else {}
    load: Row = {"request_rate": positive(rate, f"{origin}: input_config: request_rate")}
    latency = find(document, "request_latency", "avg")
    if latency is not None:
        place = f"{origin}: request_latency"
        latency = positive(latency, f"{place}.avg") * in_ms(find(document, "request_latency", "unit"), place)
    return load | in_flight(row | load, latency, slots)


def _phase(phases: Any, origin: str) -> Any:
    """Return the measured phase of AIPerf's newer configurations, None in older ones."""
    if isinstance(phases, dict):
        return phases.get("profiling")
    if not isinstance(phases, list):
        return None
    measured = [p for p in phases if "profiling" in (find(p, "kind"), find(p, "name"))]
    if len(measured) > 1:
        raise SpecError(
            f"{origin}: input_config: phases: {len(measured)} loads share these averages; "
            "give phases/<name>/profile_export_aiperf.json, a file for each"
        )
    return measured[0] if measured else None


def _telemetry_gpu(document: Mapping[str, Any]) -> str | None:
    """Return the GPU that telemetry saw, None when it saw none or several kinds."""
    endpoints = find(document, "telemetry_data", "endpoints")
    if not isinstance(endpoints, dict):
        return None
    gpus = [g for e in endpoints.values() if isinstance(find(e, "gpus"), dict) for g in e["gpus"].values()]
    seen = {name for g in gpus if isinstance(name := find(g, "gpu_name"), str)}
    return seen.pop() if len(seen) == 1 else None


def read_aiperf_sweep(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """AIPerf's profile_export_aiperf_sweep.json: a combination of parameters each, means over its trials."""
    for n, entry in enumerate(document["per_combination_metrics"]):
        metrics, parameters = find(entry, "metrics"), find(entry, "parameters")
        blocks: dict[str, Any] = {}
        for name, block in metrics.items() if isinstance(metrics, dict) else ():
            mean, flat = find(block, "mean"), STATISTIC.match(name)
            if flat is not None:  # several trials: time_to_first_token_p95: {mean, unit}
                blocks.setdefault(flat[1], {"unit": find(block, "unit")})[flat[2]] = mean
            elif isinstance(block, dict):  # one trial: time_to_first_token: {mean, p95, unit}
                blocks[name] = {"avg": mean, **block}
        completed = find(blocks, "request_count", "avg")
        if isinstance(completed, float) and math.isfinite(completed):
            blocks["request_count"]["avg"] = round(completed)
        load = {}
        if isinstance(parameters, dict):
            load = {name.rsplit(".", 1)[-1]: value for name, value in parameters.items()}
        yield from read_perf({**blocks, "input_config": {"loadgen": load}}, f"{origin}: per_combination_metrics[{n}]")
