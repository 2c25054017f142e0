"""Results of `vllm bench serve`, of benchmark_serving.py before it, and of SGLang's, which grew out of it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import (
    PERCENTILES,
    PROTOCOL,
    Row,
    check_failures,
    count,
    engine_of,
    fill_percentile,
    fill_text,
    in_flight,
    labels,
    mean_time,
    positive,
    whole,
)


def read_vllm(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """`vllm bench serve` and benchmark_serving.py before it: flat, times in ms, `--metadata` beside the results."""
    completed = count(document.get("completed"), f"{origin}: completed")
    check_failures(_failures(document, completed, origin), completed, origin)
    if document.get("ramp_up_strategy") is not None:
        raise SpecError(
            f"{origin}: ramp_up_strategy: the load changed during the run; give a run at one --request-rate"
        )
    row: Row = {"requests": completed, **labels(document)}
    fill_text(row, "model", document.get("model_id"))
    backend = document.get("backend")
    fill_text(row, "engine", engine_of(backend))
    fill_text(row, PROTOCOL, backend)
    for column, total in (("isl", "total_input_tokens"), ("osl", "total_output_tokens")):
        if document.get(total) is not None:
            row[column] = positive(document[total], f"{origin}: {total}") / completed
    for name in ("ttft", "tpot"):
        row[f"{name}_ms"] = mean_time(document.get(f"mean_{name}_ms"), f"{origin}: mean_{name}_ms", name)
        for p in PERCENTILES:
            key = f"median_{name}_ms" if p == 50 and f"p50_{name}_ms" not in document else f"p{p}_{name}_ms"
            fill_percentile(row, name, p, document.get(key), f"{origin}: {key}")
    if document.get("duration") is not None:
        row["duration_s"] = positive(document["duration"], f"{origin}: duration")
    rate, limit = document.get("request_rate"), document.get("max_concurrency")
    if rate == "trace":  # SGLang
        raise SpecError(f"{origin}: request_rate: a replayed trace holds no one load; give a run at one --request-rate")
    rate = None if rate in ("inf", math.inf) else rate
    slots = positive(limit, f"{origin}: max_concurrency") if limit is not None else math.inf
    if rate is None:
        row["concurrency"] = min(slots, completed)
    else:
        row["request_rate"] = positive(rate, f"{origin}: request_rate")
        latency = document.get("mean_e2el_ms", document.get("mean_e2e_latency_ms"))
        latency = positive(latency, f"{origin}: mean_e2el_ms") if latency is not None else None
        row |= in_flight(row, latency, slots)
    for key in ("accept_length", "spec_decode_acceptance_length"):  # SGLang's, vLLM's: tokens a step yields
        if document.get(key) is not None:
            row["spec_decode"] = f"accepted {positive(document[key], f'{origin}: {key}'):g}"
    yield origin, row


def read_summary(document: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Row]]:
    """Return what `vllm bench serve` and SGLang's bench_serving print: their JSON but for the model.

    Older releases print neither a rate nor a concurrency, and the load is then unknown.
    """
    unsaid = document.keys().isdisjoint(("request_rate", "max_concurrency"))
    for here, row in read_vllm({key: value for key, value in document.items() if key != "printed"}, origin):
        yield here, {key: value for key, value in row.items() if not (unsaid and key == "concurrency")}


def _failures(document: Mapping[str, Any], completed: int, origin: str) -> int:
    """Return how many requests failed: as counted, else as listed, else those asked for and not completed."""
    if document.get("failed") is not None:
        return whole(document["failed"], f"{origin}: failed")
    if isinstance(document.get("errors"), list):
        return sum(1 for error in document["errors"] if error)
    prompts = document.get("num_prompts")
    return max(0, whole(prompts, f"{origin}: num_prompts") - completed) if prompts is not None else 0
