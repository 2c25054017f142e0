"""Result files of benchmark tools, made here in their documented formats, as end-to-end rows."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.catalog import files
from kvplan.catalog.rows import results
from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import COLUMNS, TIMES
from kvplan.measuring.benchmarks.files import load_results, read_result

SERVER = {"gpu": "h100", "engine": "vllm", "precision": "bf16", "tp": "4"}


def blocks(metrics: dict[str, tuple[str, float]]) -> dict[str, Any]:
    """Return metrics as AIPerf and GenAI-Perf write them: a unit, a mean, percentiles in the same unit."""
    return {
        name: {
            "unit": unit,
            "avg": mean,
            "p50": 0.9 * mean,
            "p95": 2 * mean,
            "p99": 3 * mean,
            "min": 0,
            "max": 9 * mean,
        }
        for name, (unit, mean) in metrics.items()
    }


def vllm(**changes: object) -> dict[str, Any]:
    """`vllm bench serve --save-result --max-concurrency 16`: 80 requests of 1,000 + 200 tokens in 40 s."""
    return {
        "date": "20260901-120000",
        "endpoint_type": "vllm",
        "backend": "vllm",
        "label": None,
        "model_id": "meta-llama/Llama-3.1-70B-Instruct",
        "tokenizer_id": "meta-llama/Llama-3.1-70B-Instruct",
        "num_prompts": 80,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 16,
        "duration": 40.0,
        "completed": 80,
        "failed": 0,
        "total_input_tokens": 80_000,
        "total_output_tokens": 16_000,
        "request_throughput": 2.0,
        "request_goodput": None,
        "output_throughput": 400.0,
        "total_token_throughput": 2400.0,
        "mean_ttft_ms": 210.5,
        "median_ttft_ms": 200.0,
        "std_ttft_ms": 20.0,
        "p99_ttft_ms": 300.0,
        "mean_tpot_ms": 20.25,
        "median_tpot_ms": 20.0,
        "std_tpot_ms": 1.0,
        "p99_tpot_ms": 25.0,
        "mean_itl_ms": 20.0,
        **changes,
    }


def predecessor(**changes: object) -> dict[str, Any]:
    """benchmark_serving.py of 2024: no `failed`, no concurrency limit."""
    newer = ("endpoint_type", "label", "failed", "max_concurrency", "burstiness", "request_goodput")
    return {**{k: v for k, v in vllm().items() if k not in newer}, **changes}


def detailed(**changes: object) -> dict[str, Any]:
    """--save-detailed: lists with an entry per request [s]."""
    lists = {"input_lens": [1000] * 80, "output_lens": [200] * 80, "ttfts": [0.21] * 80, "itls": [[0.02] * 199] * 80}
    return vllm(**lists, generated_texts=["word " * 200] * 80, **{"errors": [""] * 80, **changes})


def spread(mean: float, count: int = 500) -> dict[str, Any]:
    """Return a GuideLLM distribution, the same for every status."""
    one = {"mean": mean, "median": 0.9 * mean, "mode": mean, "variance": 1.0, "std_dev": 1.0, "min": 0.0}
    one |= {"max": 9 * mean, "count": count, "total_sum": mean * count}
    one["percentiles"] = {"p25": mean, "p75": mean, "p90": 1.5 * mean, "p95": 2 * mean, "p99": 3 * mean}
    return dict.fromkeys(("successful", "incomplete", "errored", "total"), one)


def guidellm_point(strategy: dict[str, Any], errored: int = 0) -> dict[str, Any]:
    """Return one benchmark of GuideLLM 0.4 and later: latency of requests in s, of tokens in ms."""
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy, "backend": {"target": "http://host", "model": "openai/gpt-oss-120b"}},
        "duration": 60.0,
        "metrics": {
            "request_totals": {"successful": 500, "incomplete": 7, "errored": errored, "total": 507 + errored},
            "requests_per_second": spread(8.0),
            "request_concurrency": spread(33.5),
            "request_latency": spread(4.0),
            "prompt_token_count": spread(1024.5),
            "output_token_count": spread(256.0),
            "time_to_first_token_ms": spread(120.0),
            "time_per_output_token_ms": spread(16.0),
            "inter_token_latency_ms": spread(15.2),
        },
        "requests": {"successful": [{"request_id": "a"}], "incomplete": [], "errored": []},
    }


def guidellm(*strategies: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"version": 2, "guidellm_version": "0.7.3"},
        "config": {"backend": {"kind": "openai_http", "model": ""}},
        "benchmarks": [guidellm_point(s) for s in strategies or ({"type_": "concurrent", "streams": 32},)],
    }


def guidellm_older(strategy: dict[str, Any]) -> dict[str, Any]:
    """GuideLLM 0.2 and 0.3: the strategy under args, the model under worker, the totals beside the metrics."""
    point = guidellm_point(strategy)
    del point["config"]
    point |= {"args": {"profile": {"type_": "sweep"}, "strategy": strategy}, "start_time": 0.0, "end_time": 60.0}
    point |= {"worker": {"backend_type": "openai_http", "backend_model": "qwen3-32b"}}
    point["request_totals"] = point["metrics"].pop("request_totals")
    return {"benchmarks": [point]}


METRICS = {
    "time_to_first_token": ("ms", 150.0),
    "inter_token_latency": ("ms", 12.0),
    "request_latency": ("ms", 3000.0),
    "output_sequence_length": ("tokens", 238.5),
    "input_sequence_length": ("tokens", 550.0),
}
COUNTS = {
    "request_throughput": {"unit": "requests/sec", "avg": 5.0},
    "request_count": {"unit": "requests", "avg": 100.0},
}


def aiperf(**load: object) -> dict[str, Any]:
    """AIPerf 0.2 and later: metrics at the top, the command's options under input_config."""
    endpoint = {"model_names": ["Qwen/Qwen3-32B-FP8"], "type": "chat", "streaming": True}
    return {
        **blocks(METRICS),
        **COUNTS,
        "benchmark_duration": {"unit": "sec", "avg": 20.0},
        "input_config": {"endpoint": endpoint, "loadgen": load or {"concurrency": 24, "request_count": 100}},
        "was_cancelled": False,
        "error_summary": [],
        "start_time": "2026-09-01T12:00:00",
    }


def aiperf_newest(**phase: object) -> dict[str, Any]:
    """AIPerf with schema_version: models and phases under input_config, GPUs under telemetry_data."""
    load = {"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": 24, "requests": 100}
    warm = {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 3}
    gpus = {f"gpu_{i}": {"gpu_index": i, "gpu_name": "NVIDIA H200"} for i in range(2)}
    return aiperf() | {
        "schema_version": "1.5",
        "aiperf_version": "0.13.0",
        "input_config": {"models": {"items": [{"name": "Qwen/Qwen3-32B-FP8"}]}, "phases": [warm, {**load, **phase}]},
        "telemetry_data": {"endpoints": {"localhost:9400": {"gpus": gpus}}},
        "error_request_count": {"unit": "requests", "avg": 0},
    }


def aiperf_first() -> dict[str, Any]:
    """AIPerf 0.1: metrics under records, times still in ns."""
    document = aiperf()
    times = {name: ("ns", 1e6 * mean) if unit == "ms" else (unit, mean) for name, (unit, mean) in METRICS.items()}
    rest = {name: document[name] for name in ("input_config", "was_cancelled", "error_summary")}
    return {"records": {**blocks(times), "request_count": COUNTS["request_count"]}, **rest}


def aiperf_sweep(flat: bool = True) -> dict[str, Any]:
    """profile_export_aiperf_sweep.json, of several trials (flat names, means over them) or of one."""
    every = (
        blocks(METRICS) | {"request_count": {"unit": "requests", "avg": 100.5}} | {"goodput": COUNTS["request_count"]}
    )
    several = {
        f"{name}_{stat}": {"mean": value, "std": 0.1, "cv": 0.0, "unit": block["unit"]}
        for name, block in every.items()
        for stat, value in block.items()
        if stat != "unit"
    }
    single = {name: {"mean": block["avg"], "std": 0.0, **block} for name, block in every.items()}
    return {
        "aggregation_type": "sweep",
        "num_profile_runs": 6,
        "metadata": {"sweep_parameters": [{"name": "concurrency", "values": [10, 20]}], "num_combinations": 2},
        "per_combination_metrics": [
            {"parameters": {"concurrency": 10}, "metrics": several if flat else single},
            {"parameters": {"phases.profiling.concurrency": 20}, "metrics": several if flat else single},
        ],
        "best_configurations": {},
        "pareto_optimal": [],
    }


def genai(**stimulus: object) -> dict[str, Any]:
    """GenAI-Perf 0.0.13 and later: a stimulus, options left out as ''."""
    config = {
        "model_names": ["qwen3-32b"],
        "endpoint": {"service_kind": "triton", "backend": "tensorrtllm", "type": "kserve"},
        "perf_analyzer": {"stimulus": stimulus or {"concurrency": 24}, "warmup_request_count": 0},
        "input": {"goodput": ""},
    }
    return {**blocks(METRICS), **COUNTS, "input_config": config}


def genai_older() -> dict[str, Any]:
    """GenAI-Perf of 2024: the command's arguments flat; no request count."""
    arguments = {"model": ["qwen3-32b"], "service_kind": "openai", "backend": "tensorrtllm", "endpoint_type": "chat"}
    arguments |= {"concurrency": 24, "request_rate": None, "streaming": True}
    return {**blocks(METRICS), "request_throughput": COUNTS["request_throughput"], "input_config": arguments}


def quantiles(mean: float) -> dict[str, float]:
    """Return an inference-perf distribution."""
    return {"mean": mean, "min": mean / 2, "max": 3 * mean, "median": 0.9 * mean, "p90": 1.5 * mean, "p99": 2 * mean}


def inference_perf(**load: object) -> dict[str, Any]:
    """inference-perf's summary_lifecycle_metrics.json: 600 requests, times in s."""
    times = {"request_latency": 8.0, "time_per_output_token": 0.03, "time_to_first_token": 0.45}
    stated = load or {"requested_rate": 4.0, "achieved_rate": 3.98, "send_duration": 150.0}
    return {
        "load_summary": {"count": 600, "schedule_delay": quantiles(0.001), **stated},
        "successes": {
            "count": 600,
            "latency": {name: quantiles(mean) for name, mean in times.items()},
            "throughput": {"requests_per_sec": 3.98, "output_tokens_per_sec": 1000.0},
            "prompt_len": quantiles(1024.0),
            "output_len": quantiles(251.0),
        },
        "failures": {"count": 0, "request_latency": None},
    }


def llmperf(**changes: object) -> dict[str, Any]:
    """token_benchmark_ray.py's summary.json; its inter-token latency counts the first token too."""
    means = {"ttft_s": 0.3, "end_to_end_latency_s": 6.25, "inter_token_latency_s": 0.03125}
    means |= {"number_input_tokens": 550, "number_output_tokens": 200}
    flat = {f"results_{name}_{stat}": f * mean for name, mean in means.items() for stat, f in (("mean", 1), ("min", 0))}
    spread = {f"results_ttft_s_quantiles_p{p}": 0.3 * p / 75 for p in (25, 50, 75, 90, 95, 99)}
    return {
        "version": "2023-08-31",
        "model": "meta-llama/Llama-3.1-70B-Instruct",
        "num_concurrent_requests": 10,
        "mean_input_tokens": 550,
        **flat,
        **spread,
        "results_number_errors": 0,
        "results_error_code_frequency": "{}",
        "results_num_completed_requests": 100,
        **changes,
    }


def trtllm_bench(**changes: object) -> dict[str, Any]:
    """trtllm-bench --streaming --report_json."""
    stats = {f"{name}_percentiles": {"p50": 0.9 * m, "p90": m, "p95": 2 * m, "p99": 3 * m, "average": m} for name, m in
             (("ttft", 150.0), ("tpot", 12.5))}  # fmt: skip
    return {
        "engine": {"model": "meta-llama/Llama-3.1-70B", "version": "1.2.0", "dtype": "bfloat16", "quantization": "FP8"},
        "machine": {"name": "NVIDIA H200", "memory.total": 139.8},
        "world_info": {"tp_size": 4, "pp_size": 1, "ep_size": -1, "world_size": 4, "max_batch_size": 2048},
        "request_info": {
            "num_requests": 400,
            "avg_num_concurrent_requests": 31.5,
            "avg_input_length": 1000.0,
            "avg_output_length": 200.0,
        },
        "performance": {"total_latency_ms": 33_000.0, "avg_request_latency_ms": 2600.0},
        "streaming_metrics": {"avg_ttft_ms": 150.0, "avg_tpot_ms": 12.5, **stats},
        **changes,
    }


def inferencex(**changes: object) -> dict[str, Any]:
    """InferenceX's agg_*.json: nominal lengths, times in s."""
    return {
        "hw": "h200-nb_1",
        "conc": 64,
        "model": "openai/gpt-oss-120b",
        "framework": "vllm",
        "precision": "fp4",
        "spec_decoding": "none",
        "disagg": False,
        "is_multinode": False,
        "isl": 1024,
        "osl": 8192,
        "tp": 4,
        "ep": 1,
        "dp_attention": "false",
        "mean_ttft": 0.2,
        "median_ttft": 0.18,
        "p99_ttft": 0.6,
        "mean_tpot": 0.0125,
        "median_tpot": 0.012,
        "mean_intvty": 80.0,
        **changes,
    }


def llama_bench(prompt: int = 512, output: int = 0, depth: int = 0, **changes: object) -> dict[str, Any]:
    """One test of `llama-bench -o json`."""
    spent = prompt * 140_000 + output * 8_400_000
    return {
        "build_commit": "8cf427ff",
        "build_number": 5163,
        "gpu_info": "NVIDIA GeForce RTX 4090",
        "backends": "CUDA",
        "model_filename": "models/Qwen2.5-7B-Instruct-Q8_0.gguf",
        "model_type": "qwen2 7B Q8_0",
        "n_gpu_layers": 99,
        "n_prompt": prompt,
        "n_gen": output,
        "n_depth": depth,
        "avg_ns": spent,
        "avg_ts": 1e9 * (prompt + output) / spent,
        "samples_ns": [spent] * 5,
        **changes,
    }


def in_units(mean: float, units: str) -> dict[str, Any]:
    """Return one of llm-d's figures."""
    return {"units": units, "mean": mean, "p50": 0.9 * mean, "p90": 1.5 * mean, "p95": 2 * mean, "p99": 3 * mean}


def llmd(**load: object) -> dict[str, Any]:
    """A benchmark report of llm-d, schema 0.2."""
    engine = {
        "kind": "inference_engine",
        "tool": "llm-d",
        "tool_version": "ghcr.io/llm-d/llm-d-cuda:0.3.1",
        "role": "replica",
        "replicas": 1,
        "model": {"name": "Qwen/Qwen3-32B"},
        "accelerator": {
            "model": "NVIDIA-H100-80GB-HBM3",
            "count": 8,
            "parallelism": {"dp": 1, "ep": 1, "pp": 1, "tp": 8},
        },
    }
    aggregate = {
        "requests": {
            "total": 500,
            "failures": 0,
            "input_length": in_units(2048.0, "count"),
            "output_length": in_units(256.0, "count"),
        },
        "latency": {
            "time_to_first_token": in_units(0.15, "s"),
            "time_per_output_token": in_units(0.0125, "s/token"),
            "request_latency": in_units(4.0, "s"),
        },
        "throughput": {"request_rate": in_units(10.0, "queries/s")},
    }
    return {
        "version": "0.2",
        "run": {"uid": "38b1"},
        "scenario": {
            "stack": [
                {"metadata": {"label": "vllm-0"}, "standardized": engine, "native": {"args": {}}},
                {"metadata": {"label": "epp-0"}, "standardized": {"kind": "generic", "tool": "router"}},
            ],
            "load": {"standardized": {"tool": "inference-perf", **(load or {"concurrency": 32})}},
        },
        "results": {"request_performance": {"aggregate": aggregate}},
    }


def llmd_older() -> dict[str, Any]:
    """A benchmark report of llm-d, schema 0.1."""
    new = llmd()
    aggregate = new["results"]["request_performance"]["aggregate"]
    return {
        "version": "0.1",
        "scenario": {
            "host": {
                "accelerator": [{"model": "NVIDIA-H100-80GB-HBM3", "count": 4, "parallelism": {"tp": 4}}],
                "type": ["replica"],
            },
            "platform": {"engine": [{"name": "vllm", "version": "0.11.0"}]},
            "model": {"name": "Qwen/Qwen3-32B"},
            "load": {"name": "vllm-benchmark", "args": {"max_concurrency": 32}},
        },
        "metrics": {**aggregate, "throughput": {"requests_per_sec": 10.0}},
    }


def sglang(**changes: object) -> dict[str, Any]:
    """A line of SGLang's bench_serving --output-file."""
    ours = {k: v for k, v in vllm().items() if k not in ("model_id", "failed", "num_prompts", "endpoint_type")}
    return {**ours, "backend": "sglang", "model": "llama3.1-70b", "accept_length": None, "concurrency": 15.4, **changes}


EVERY = {
    "vllm": vllm,
    "predecessor": predecessor,
    "detailed": detailed,
    "guidellm": guidellm,
    "guidellm_older": lambda: guidellm_older({"type_": "concurrent", "streams": 32}),
    "aiperf": aiperf,
    "aiperf_newest": aiperf_newest,
    "aiperf_first": aiperf_first,
    "genai": genai,
    "genai_older": genai_older,
    "inference_perf": inference_perf,
    "trtllm_bench": trtllm_bench,
    "inferencex": inferencex,
    "llmd": llmd,
    "llmd_older": llmd_older,
    "sglang": sglang,
}
#: the same without the file that is slow to copy, with one of several load points
MUTABLE = {**{name: make for name, make in EVERY.items() if name != "detailed"}}
MUTABLE |= {"aiperf_sweep": aiperf_sweep, "llmperf": llmperf, "llama_bench": llama_bench}


def one(document: dict[str, Any], **more: str) -> dict[str, Any]:
    (row,) = read_result(document, "result.json", {**SERVER, **more})
    return row


def refused_in(where: str, document: dict[str, Any], overrides: dict[str, Any] = SERVER) -> str:
    with pytest.raises(SpecError) as caught:
        read_result(document, where, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(document: dict[str, Any], overrides: dict[str, Any] = SERVER) -> str:
    return refused_in("result.json", document, overrides)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_every_format_gives_a_whole_row(make) -> None:
    row = one(make(), model="llama3.1-70b", gpu="h100", tp="4")
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    assert all(isinstance(value, str | int | float) for value in row.values())
    assert (row["gpu"], row["tp"], row["pp"], row["attention_dp"], row["moe_tp"], row["moe_ep"]) == (
        "h100",
        4,
        1,
        1,
        4,
        1,
    )
    assert row["ttft_p50_ms"] < row["ttft_ms"] < row["ttft_p99_ms"]


# -- vllm bench serve -----------------------------------------------------------------------------


def test_vllm_closed_loop() -> None:
    row = one(vllm())
    assert (row["model"], row["engine"], row["precision"]) == ("meta-llama/Llama-3.1-70B-Instruct", "vllm", "bf16")
    assert (row["isl"], row["osl"], row["concurrency"]) == (1000, 200, 16)
    assert (row["ttft_ms"], row["tpot_ms"], row["ttft_p99_ms"], row["tpot_p50_ms"]) == (210.5, 20.25, 300.0, 20.0)
    assert (row["requests"], row["duration_s"]) == (80, 40.0)
    assert "request_rate" not in row
    assert "ttft_p95_ms" not in row
    assert one(vllm(p95_ttft_ms=280.0, p50_ttft_ms=199.0))["ttft_p95_ms"] == 280.0
    assert one(detailed()) == row


def test_vllm_never_has_more_in_flight_than_requests() -> None:
    assert one(vllm(max_concurrency=512))["concurrency"] == 80
    assert one(predecessor())["concurrency"] == 80, "all at once"


def test_vllm_open_loop_follows_littles_law() -> None:
    row = one(vllm(request_rate=2.5, max_concurrency=None))
    assert row["request_rate"] == 2.5
    assert row["concurrency"] == pytest.approx(80 / 40 * (0.2105 + 199 * 0.02025))
    assert one(vllm(request_rate=2.5, max_concurrency=None, mean_e2el_ms=5000.0))["concurrency"] == pytest.approx(10.0)
    assert one(vllm(request_rate=2.5, max_concurrency=4, mean_e2el_ms=5000.0))["concurrency"] == 4


def test_vllm_metadata_fills_what_the_tool_does_not_know() -> None:
    said = {"gpu": "h200", "tensor_parallel_size": "2", "version": "0.11.0", "precision": "fp8", "note": "x"}
    (row,) = read_result(vllm(**said), "r.json", {})
    assert (row["gpu"], row["tp"], row["engine_version"], row["precision"]) == ("h200", 2, "0.11.0", "fp8")
    (row,) = read_result(vllm(**said), "r.json", {"gpu": "h100"})
    assert row["gpu"] == "h100", "what the caller says wins"


def test_the_engine_is_not_guessed_from_a_protocol_all_speak() -> None:
    alone = {name: value for name, value in SERVER.items() if name != "engine"}
    assert (
        "says nothing of the engine (backend 'openai-chat' is a protocol that many engines speak); add "
        "settings=engine=vllm"
    ) in refused(vllm(backend="openai-chat"), alone)
    assert "protocol" not in one(vllm(backend="openai"))
    (row,) = read_result(vllm(backend="tensorrt-llm"), "r.json", alone)
    assert row["engine"] == "trtllm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"failed": 3}, "3 of 83 requests failed"),
        ({"completed": 0}, "completed: nothing was completed"),
        ({"completed": None}, "completed: expected a whole number, got None"),
        ({"mean_ttft_ms": 0.0}, "says nothing of the first token"),
        ({"mean_tpot_ms": None}, "says nothing of later tokens"),
        ({"mean_tpot_ms": float("nan")}, "mean_tpot_ms: expected a number above zero, got nan"),
        ({"mean_ttft_ms": -1.0}, "mean_ttft_ms: expected a number above zero, got -1.0"),
        ({"mean_ttft_ms": True}, "mean_ttft_ms: expected a number above zero, got True"),
        ({"p99_ttft_ms": "300"}, "p99_ttft_ms: expected a time, got '300'"),
        ({"max_concurrency": 0}, "max_concurrency: expected a number above zero, got 0"),
        ({"request_rate": "fast"}, "request_rate: expected a number above zero, got 'fast'"),
        ({"total_output_tokens": None}, "says nothing of the output length; add settings=osl=1024"),
        ({"ramp_up_strategy": "linear"}, "the load changed during the run"),
        ({"model_id": None}, "says nothing of the model; add settings=model=llama3.1-70b"),
        ({"duration": 10**400}, "duration: expected a number above zero"),
        ({"tp": ["4"]}, "tp: expected a whole number"),
    ],
)
def test_what_a_vllm_file_must_not_say(change: dict[str, Any], message: str) -> None:
    overrides = {k: v for k, v in SERVER.items() if k not in change}
    assert message in refused(vllm(**change), overrides)


def test_failures_are_seen_without_a_count_of_them() -> None:
    assert "5 of 80 requests failed" in refused(predecessor(completed=75))
    without = {k: v for k, v in detailed(completed=79, errors=["timeout"] + [""] * 79).items() if k != "failed"}
    assert "1 of 80 requests failed" in refused(without)


# -- GuideLLM -------------------------------------------------------------------------------------


def test_guidellm_gives_a_row_a_benchmark() -> None:
    sweep = guidellm(
        {"type_": "synchronous"},
        {"type_": "throughput", "max_concurrency": 512},
        {"type_": "constant", "rate": 6.5},
        {"type_": "poisson", "rate": 7.5},
        {"type_": "concurrent", "streams": 32},
    )
    rows = read_result(sweep, "benchmarks.json", SERVER)
    assert [row["concurrency"] for row in rows] == [1, 33.5, 33.5, 33.5, 32]
    assert [row.get("request_rate") for row in rows] == [None, None, 6.5, 7.5, None]
    row = rows[0]
    assert (row["model"], row["isl"], row["osl"]) == ("openai/gpt-oss-120b", 1024.5, 256)
    assert (row["ttft_ms"], row["tpot_ms"], row["tpot_p95_ms"]) == (120.0, 15.2, 30.4)
    assert (row["requests"], row["duration_s"]) == (500, 60.0)


def test_guidellm_labels_and_arguments_fill_what_a_point_does_not_say() -> None:
    document = guidellm()
    del document["benchmarks"][0]["config"]["backend"]
    document["config"] |= {"metadata": {"labels": {"gpu": "h200", "tp": "8", "team": "x"}}}
    document["config"]["spec"] = {"backend": {"model": "llama3.1-70b"}}
    (row,) = read_result(document, "b.json", {"engine": "vllm", "precision": "fp8"})
    assert (row["model"], row["gpu"], row["tp"]) == ("llama3.1-70b", "h200", 8)
    document["args"] = document.pop("config") | {"backend_kwargs": {"model": "qwen3-32b"}}
    assert one(document)["model"] == "qwen3-32b"


def test_guidellm_before_0_4() -> None:
    row = one(guidellm_older({"type_": "poisson", "rate": 6.5}))
    assert (row["model"], row["request_rate"], row["requests"]) == ("qwen3-32b", 6.5, 500)


def test_guidellm_without_measured_concurrency_follows_littles_law() -> None:
    document = guidellm({"type_": "constant", "rate": 6.5})
    del document["benchmarks"][0]["metrics"]["request_concurrency"]
    assert one(document)["concurrency"] == pytest.approx(500 / 60 * 4.0), "the latency of requests is in s"


def test_what_a_guidellm_file_must_not_say() -> None:
    document = guidellm({"type_": "synchronous"}, {"type_": "concurrent", "streams": 8})
    document["benchmarks"][1] = guidellm_point({"type_": "concurrent", "streams": 8}, errored=2)
    assert "result.json: benchmarks[1]: 2 of 502 requests failed" in refused(document)
    assert "strategy.type_: expected synchronous" in refused(guidellm({"type_": "trace", "time_scale": 1.0}))
    assert "benchmarks: is empty" in refused({"benchmarks": []})
    assert "GuideLLM 0.2 or later" in refused({"benchmarks": [{"mode": "sweep", "results": []}]})
    unknown = guidellm()
    unknown["benchmarks"][0]["config"]["backend"]["model"] = None
    assert "says nothing of the model" in refused(unknown)


# -- AIPerf and GenAI-Perf ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [aiperf, aiperf_newest, aiperf_first, genai, genai_older])
def test_perf_units_and_load(make) -> None:
    row = one(make())
    assert (row["isl"], row["osl"], row["concurrency"]) == (550, 238.5, 24)
    assert row["ttft_ms"] == pytest.approx(150.0)
    assert row["tpot_ms"] == pytest.approx(12.0)
    assert row["tpot_p95_ms"] == pytest.approx(24.0)


def test_aiperf_says_more_than_its_predecessor() -> None:
    (row,) = read_result(aiperf_newest(), "r.json", {"engine": "vllm", "tp": 2})
    assert (row["model"], row["precision"], row["gpu"]) == ("Qwen/Qwen3-32B-FP8", "fp8", "NVIDIA H200")
    assert (row["requests"], row["duration_s"]) == (100, 20.0)
    (row,) = read_result(genai(), "r.json", {"gpu": "h100", "tp": 2, "precision": "fp8"})
    assert (row["engine"], row["duration_s"]) == ("trtllm", 20.0)
    alone = {name: value for name, value in SERVER.items() if name != "engine"}
    assert "says nothing of the engine" in refused(genai_older(), alone), "its backend is a default there"


@pytest.mark.parametrize(
    "document",
    [aiperf(request_rate=5.5), aiperf_newest(type="poisson", rate=5.5, concurrency=None), genai(request_rate=5.5)],
)
def test_perf_open_loop_follows_littles_law(document: dict[str, Any]) -> None:
    row = one(document)
    assert row["request_rate"] == 5.5
    assert row["concurrency"] == pytest.approx(100 / 20 * 3.0)


@pytest.mark.parametrize("flat", [True, False])
def test_an_aiperf_sweep_gives_a_row_a_combination(flat: bool) -> None:
    rows = read_result(aiperf_sweep(flat), "sweep.json", {**SERVER, "model": "qwen3-32b"})
    assert [row["concurrency"] for row in rows] == [10, 20]
    assert (rows[1]["ttft_ms"], rows[1]["tpot_p95_ms"], rows[1]["isl"]) == (150.0, 24.0, 550)
    assert "sweep.json: per_combination_metrics[0]: says nothing of the model" in refused_in(
        "sweep.json", aiperf_sweep(flat)
    )
    unsaid = aiperf_sweep(flat)
    for entry in unsaid["per_combination_metrics"]:
        entry["parameters"] = {"isl": 550}
    rows = read_result(unsaid, "sweep.json", {**SERVER, "model": "qwen3-32b", "concurrency": "8"})
    assert [row["concurrency"] for row in rows] == [8, 8]


def test_what_a_perf_file_must_not_say() -> None:
    failed = aiperf_newest()
    failed["error_request_count"]["avg"] = 4
    assert "4 of 104 requests failed" in refused(failed)
    assert "3 of 103" in refused(aiperf() | {"error_summary": [{"error_details": {"message": "x"}, "count": 3}]})
    assert "was_cancelled" in refused(aiperf() | {"was_cancelled": True})
    assert "--streaming" in refused({k: v for k, v in aiperf().items() if k != "time_to_first_token"})
    assert "later tokens" in refused({k: v for k, v in aiperf().items() if k != "inter_token_latency"})
    assert "unit: expected ns, us, ms or sec, got 'h'" in refused(
        aiperf() | blocks({"time_to_first_token": ("h", 1.0)})
    )
    assert "replayed schedule" in refused(aiperf_newest(type="fixed_schedule"))
    assert "says nothing of the load; add settings=concurrency=64" in refused(aiperf(request_count=10))
    two = aiperf_newest()
    two["input_config"]["phases"].append({"name": "second", "kind": "profiling", "concurrency": 2})
    assert "2 loads share these averages" in refused(two)


# -- inference-perf, LLMPerf, trtllm-bench, InferenceX, llama-bench, llm-d, SGLang -----------------


def test_inference_perf_open_loop_follows_littles_law() -> None:
    row = one(inference_perf(), model="llama3.1-70b")
    assert (row["isl"], row["osl"], row["request_rate"]) == (1024, 251, 4.0)
    assert (row["ttft_ms"], row["tpot_ms"]) == (450.0, 30.0)
    assert row["concurrency"] == pytest.approx(3.98 * 8.0)
    closed = one(inference_perf(concurrency=24, requested_rate=100.0), model="llama3.1-70b")
    assert closed["concurrency"] == 24
    assert "request_rate" not in closed
    tokens = inference_perf()
    tokens["successes"] |= {"prompt_tokens": {"total": 9, **quantiles(900.0)}}
    del tokens["successes"]["prompt_len"]
    assert one(tokens, model="llama3.1-70b")["isl"] == 900


def test_a_summary_of_several_stages_states_no_load() -> None:
    document = inference_perf()
    document["load_summary"] = {"count": 600, "schedule_delay": None}
    assert "says nothing of the model and the load" in refused(document)
    document = inference_perf()
    document["failures"]["count"] = 3
    assert "3 of 603 requests failed" in refused(document)


def test_llmperf_counts_the_first_token_in_its_inter_token_latency() -> None:
    row = one(llmperf())
    assert (row["isl"], row["osl"], row["concurrency"], row["requests"]) == (550, 200, 10, 100)
    assert row["ttft_ms"] == pytest.approx(300.0)
    assert row["tpot_ms"] == pytest.approx((6250 - 300) / 199)
    assert "tpot_ms" not in one(llmperf(results_number_output_tokens_mean=1))
    assert "7 of 107 requests failed" in refused(llmperf(results_number_errors=7))
    assert "expected more than results_ttft_s_mean" in refused(llmperf(results_end_to_end_latency_s_mean=0.3))


def test_trtllm_bench_says_all_but_nothing_without_streaming() -> None:
    (row,) = read_result(trtllm_bench(), "report.json", {})
    assert (row["model"], row["gpu"], row["engine"]) == ("meta-llama/Llama-3.1-70B", "NVIDIA H200", "trtllm")
    assert (row["engine_version"], row["precision"], row["tp"], row["moe_ep"]) == ("1.2.0", "fp8", 4, 1)
    assert (row["isl"], row["osl"], row["concurrency"], row["ttft_ms"], row["tpot_p99_ms"]) == (
        1000, 200, 31.5, 150.0, 37.5,
    )  # fmt: skip
    still = {k: v for k, v in trtllm_bench(performance={}).items() if k != "streaming_metrics"}
    assert "--streaming" in refused(still)
    plain = trtllm_bench(engine={"model": "llama3.1-70b", "dtype": "bfloat16", "quantization": None})
    assert read_result(plain, "report.json", {})[0]["precision"] == "bfloat16"


def test_inferencex_states_nominal_lengths_and_the_server() -> None:
    (row,) = read_result(inferencex(), "agg.json", {})
    assert (row["model"], row["gpu"], row["engine"], row["precision"]) == ("openai/gpt-oss-120b", "h200", "vllm", "fp4")
    assert (row["isl"], row["osl"], row["concurrency"], row["lengths"]) == (1024, 8192, 64, "uniform 0.8-1")
    assert (row["ttft_ms"], row["tpot_ms"], row["ttft_p50_ms"]) == (200.0, 12.5, 180.0)
    assert row["spec_decode"] == "none"
    (spread,) = read_result(inferencex(dp_attention="true", tp=8, ep=8), "agg.json", {})
    assert (spread["tp"], spread["attention_dp"], spread["moe_ep"], spread["moe_tp"]) == (1, 8, 8, 1)
    assert "GPUs of their own" in refused(inferencex(disagg=True))


def test_points_of_vllms_own_nightly_runs_name_the_device() -> None:
    point = {k: v for k, v in inferencex(device="mi300x", disagg="false", is_multinode="false").items() if k != "hw"}
    assert read_result(point, "point.json", {})[0]["gpu"] == "mi300x"
    assert "GPUs of their own" in refused(point | {"disagg": "true"})


def test_inferencex_points_of_medians_alone_are_compared_as_medians() -> None:
    """Points compared across accelerators state medians and P99 only."""
    medians = {k: v for k, v in inferencex().items() if not k.startswith("mean_")}
    (row,) = read_result(medians, "agg.json", {})
    assert (row["ttft_ms"], row["ttft_meaning"], row["ttft_p50_ms"]) == (180.0, "median", 180.0)
    assert row["tpot_ms"] == row["tpot_p50_ms"]
    assert "ttft_meaning" not in read_result(inferencex(), "agg.json", {})[0]
    assert "mean_tpot" in refused({k: v for k, v in medians.items() if k != "median_tpot"})


PRINTED = """ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes
| model                  |       size |     params | backend | ngl |           test |               t/s |
| ---------------------- | ---------: | ---------: | ------- | --: | -------------: | ----------------: |
| llama 8B Q4_K - Medium |   4.58 GiB |     8.03 B | CUDA    |  99 |          pp512 |  10240.00 ± 55.40 |
| llama 8B Q4_K - Medium |   4.58 GiB |     8.03 B | CUDA    |  99 | tg128 @ d4096  |     128.00 ± 0.32 |
| llama 8B Q4_K - Medium |   4.58 GiB |     8.03 B | CUDA    |  99 |    pp512+tg128 |     600.00 ± 0.32 |

build: 5e7e53ba (5943)
"""


@pytest.mark.parametrize("copied", [PRINTED, PRINTED.replace("±", "+/-").replace(" pp512 |", "pp 512 |")])
def test_the_table_that_llama_bench_prints(copied: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.md"
    path.write_text(copied, "utf-8")
    assert results.holds_results(str(path))
    prompt, answer = load_results(str(path), {"model": "llama3.1-8b"})
    said = {"gpu": "NVIDIA GeForce RTX 4090", "engine": "llama.cpp", "engine_version": "b5943", "precision": "q4_k_m"}
    assert said.items() <= prompt.items() and said.items() <= answer.items()
    assert (prompt["isl"], prompt["osl"], prompt["ttft_ms"]) == (512, 1, pytest.approx(50.0))
    assert (answer["isl"], answer["osl"], answer["tpot_ms"]) == (4096, 128, pytest.approx(1000 / 128))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("pp512 |", "pp |", "test: expected one such as pp512, tg128 or tg128 @ d4096, got 'pp'"),
        ("10240.00", "fast", "t/s: expected a number above zero"),
        ("4.58 GiB", "large", "size: expected a size such as"),
        ("|  99 |          pp512", "|          pp512", "line 5: expected 7 cells, as the table's head has"),
        ("|  99 |", "|   0 |", "weights stayed on the CPU"),
    ],
)
def test_a_printed_table_that_cannot_be_used_says_why(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = tmp_path / "bench.txt"
    path.write_text(PRINTED.replace(before, after), "utf-8")
    with pytest.raises(SpecError, match=re.escape(said)):
        load_results(str(path), {"model": "llama3.1-8b"})


def test_llama_bench_tells_ttft_of_prompts_and_tpot_of_answers(tmp_path: Path) -> None:
    (prompt,) = read_result(llama_bench(), "bench.json", {})
    assert (prompt["model"], prompt["gpu"], prompt["engine"]) == (
        "Qwen2.5-7B-Instruct", "NVIDIA GeForce RTX 4090", "llama.cpp",
    )  # fmt: skip
    assert (prompt["precision"], prompt["tp"], prompt["engine_version"]) == ("q8_0", 1, "b5163")
    assert (prompt["isl"], prompt["osl"], prompt["concurrency"]) == (512, 1, 1)
    assert prompt["ttft_ms"] == pytest.approx(512 * 0.14)
    assert "tpot_ms" not in prompt
    (answer,) = read_result(llama_bench(0, 128, 512), "bench.json", {})
    assert (answer["isl"], answer["osl"]) == (512, 128)
    assert answer["tpot_ms"] == pytest.approx(8.4)
    assert "ttft_ms" not in answer
    tests = [llama_bench(), llama_bench(512, 128), llama_bench(512, 0, 512), llama_bench(0, 128)]
    path = tmp_path / "bench"
    path.write_text(json.dumps(tests), "utf-8")
    rows = load_results(str(path), {})
    assert [("ttft_ms" in row, row["isl"]) for row in rows] == [(True, 512), (False, 1)]
    columns = [name for name in tests[0] if name != "samples_ns"]
    lines = [",".join(columns), *(",".join(f'"{test[name]}"' for name in columns) for test in tests)]
    path.write_text("\n".join(lines), "utf-8")
    assert load_results(str(path), {}) == rows
    assert "names 2 GPUs" in refused(llama_bench(gpu_info="NVIDIA L4, NVIDIA L4"))
    assert "says nothing of the GPU and the precision" in refused(
        llama_bench(gpu_info="", model_type="qwen2 7B TQ1_0 - 1.69 bpw ternary"), {}
    )
    path.write_text(json.dumps(tests[1]), "utf-8")
    with pytest.raises(SpecError, match="holds no load that tells TTFT or TPOT"):
        load_results(str(path), {})


@pytest.mark.parametrize(("make", "tp", "version"), [(llmd, 8, ""), (llmd_older, 4, "0.11.0")])
def test_llmd_reports_state_the_server(make, tp: int, version: str) -> None:
    (row,) = read_result(make(), "report.json", {"precision": "bf16"})
    assert (row["model"], row["gpu"], row["engine"], row["tp"], row["engine_version"]) == (
        "Qwen/Qwen3-32B", "NVIDIA H100 80GB HBM3", "vllm", tp, version,
    )  # fmt: skip
    assert (row["isl"], row["osl"], row["concurrency"], row["requests"]) == (2048, 256, 32, 500)
    assert (row["ttft_ms"], row["tpot_ms"], row["tpot_p95_ms"]) == pytest.approx((150.0, 12.5, 25.0))


def test_llmd_open_loop_roles_and_failures() -> None:
    row = one(llmd(rate_qps=10.0, concurrency=float("inf")))
    assert (row["request_rate"], row["concurrency"]) == (10.0, 40.0)
    apart = llmd()
    apart["scenario"]["stack"][0]["standardized"]["role"] = "prefill"
    assert "the roles prefill" in refused(apart)
    two = llmd()
    two["scenario"]["stack"] *= 2
    assert "2 servers shared the load" in refused(two)
    failed = llmd()
    failed["results"]["request_performance"]["aggregate"]["requests"]["failures"] = 5
    assert "5 of 500 requests failed" in refused(failed)
    unit = llmd()
    unit["results"]["request_performance"]["aggregate"]["latency"]["time_per_output_token"]["units"] = "h/token"
    assert "expected ns, us, ms or sec" in refused(unit)


def test_llmd_reports_that_state_no_load_have_that_of_littles_law() -> None:
    for document in (llmd_older(), llmd(tool="vllm")):
        holder = document["scenario"]["load"]
        holder.pop("args", None)
        row = one(document)
        assert row["concurrency"] == pytest.approx(10.0 * 4.0)
        assert "request_rate" not in row
    silent = llmd(tool="vllm")
    del silent["results"]["request_performance"]["aggregate"]["throughput"]
    assert "says nothing of the load" in refused(silent)


def test_llmd_reports_are_yaml_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "benchmark_report"
    path.write_text("# a report\n" + yaml.safe_dump(llmd()), "utf-8")
    assert load_results(str(path), SERVER) == [one(llmd())]
    path.write_text(json.dumps(llmd()), "utf-8")
    assert load_results(str(path), SERVER) == [one(llmd())], "its requests are figures, not lists of requests"


def test_sglang_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("\n".join(json.dumps(sglang(max_concurrency=c)) for c in (8, 16)) + "\n", "utf-8")
    rows = load_results(str(path), {"gpu": "h100", "precision": "bf16", "tp": "4", "model": "llama3.1-70b"})
    assert [(row["engine"], row["concurrency"]) for row in rows] == [("sglang", 8), ("sglang", 16)]
    assert "spec_decode" not in rows[0]
    drafted = sglang(accept_length=2.7, mean_e2e_latency_ms=5000.0, request_rate=2.5, max_concurrency=None)
    row = one(drafted, engine="sglang", model="llama3.1-70b")
    assert (row["spec_decode"], row["concurrency"]) == ("accepted 2.7", pytest.approx(10.0))


def test_offline_benchmarks_of_vllm_tell_a_ttft_or_why_they_do_not() -> None:
    latency = {"avg_latency": 0.21, "std_latency": 0.0, "latencies": [0.21], "percentiles": {"50": 0.21}}
    load = {"model": "llama3.1-70b", "isl": "1024", "concurrency": "8"}
    row = one(latency, **load, osl="1")
    assert (row["ttft_ms"], row["engine"], row["arrival"]) == (pytest.approx(210.0), "vllm", "static")
    assert not {"tpot_ms", "latency_ms"} & set(row)
    row = one(latency, **load, osl="128")
    assert row["latency_ms"] == pytest.approx(210.0)
    assert not {"ttft_ms", "tpot_ms"} & set(row)
    assert "says nothing of the input length, the output length and the load" in refused(
        latency, {**SERVER, "model": "llama3.1-70b"}
    )


def test_lines_of_results_are_compared_whatever_the_file_is_called(tmp_path: Path) -> None:
    given = {"gpu": "h100", "precision": "bf16", "tp": "4", "model": "llama3.1-70b"}
    path = tmp_path / "out.jsonl"
    path.write_text("\n".join(json.dumps(sglang(max_concurrency=c)) for c in (8, 16)), "utf-8")
    found = kvplan.validate(str(path), settings=given)
    assert [p.row.concurrency for p in found.few] == [8, 16]
    assert kvplan.predict(str(path), str(tmp_path / "out.csv"), settings=given).rows == 2
    path.write_text(json.dumps(llama_bench()), "utf-8")
    found = kvplan.validate(str(path), settings={"model": "qwen2.5-7b", "gpu": "rtx-4090"})
    assert list(found.metrics) == ["TTFT"]
    with pytest.raises(SpecError, match="result files hold e2e rows, not gemm"):
        kvplan.validate(str(path), kind="gemm")


def test_a_whole_batch_is_compared_with_prompts_and_answers_together(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    said = {"gpu": "h100", "tp": "4", "precision": "bf16", "model": "llama3.1-70b", "isl": "32", "osl": "128"}
    said |= {"concurrency": "8"}
    path.write_text(json.dumps({"avg_latency": 3.0, "latencies": [3.0], "percentiles": {"50": 3.0}}), "utf-8")
    found = kvplan.validate(str(path), settings=said)
    (p,) = found.few
    assert list(found.metrics) == ["E2E"]
    (group, every) = found.metrics["E2E"]
    assert group.median == every.median == pytest.approx(abs((p.ttft + 127 * p.tpot) / 3.0 - 1))
    assert p.latency_range[0] < p.latency < p.latency_range[1]
    with pytest.raises(SpecError, match="no row tells TTFT or TPOT"):
        kvplan.calibrate(str(path), str(tmp_path / "out.yaml"), settings=said)
    single = {**said, "osl": "1"}
    assert list(kvplan.validate(str(path), settings=single).metrics) == ["TTFT"]


@pytest.mark.parametrize("suffix", ["", ".txt", ".json", ".jsonl", ".csv", ".yaml"])
def test_a_file_is_read_by_what_it_holds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"result{suffix}"
    path.write_text(f"\n  {json.dumps(vllm())}\n", "utf-8")
    assert results.holds_results(str(path))
    assert load_results(str(path), SERVER) == [one(vllm())]
    rows = tmp_path / "rows.csv"
    rows.write_text("model,gpu,engine,isl,osl,concurrency,tp,ttft_ms,tpot_ms\n", "utf-8")
    assert not results.holds_results(str(rows))


# -- what the caller says -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv", ".txt"])
def test_csv_and_yaml_are_told_by_their_first_line(tmp_path: Path, suffix: str) -> None:
    entry = {name: value for name, value in llama_bench().items() if name != "samples_ns"}
    table, report = tmp_path / f"table{suffix}", tmp_path / f"report{suffix}"
    table.write_text(",".join(entry) + "\n" + ",".join(f'"{value}"' for value in entry.values()), "utf-8")
    report.write_text("---\n" + yaml.safe_dump(llmd()), "utf-8")
    assert results.holds_results(str(table)) and results.holds_results(str(report))
    assert load_results(str(table), {}) == read_result(llama_bench(), "bench", {})
    assert load_results(str(report), SERVER) == [one(llmd())]


def test_all_that_is_missing_is_asked_for_at_once() -> None:
    assert refused(vllm(backend="openai"), {}) == (
        "result.json: says nothing of the GPU, the engine, the precision and the tensor parallelism "
        "(backend 'openai' is a protocol that many engines speak); "
        "add settings=gpu=h100 settings=engine=vllm settings=precision=bf16 settings=tp=1"
    )


def test_experts_are_divided_over_the_same_gpus() -> None:
    row = one(vllm(), attention_dp="2", moe_ep="8")
    assert (row["tp"], row["attention_dp"], row["moe_tp"], row["moe_ep"]) == (4, 2, 1, 8)
    assert one(vllm(), moe_tp="2")["moe_ep"] == 2
    assert "must be tp x attention_dp" in refused(vllm(), {**SERVER, "moe_ep": "3"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gpus", "8", "settings=gpus: no column to set; known: model, gpu"),
        ("ttft_ms", "8", "measured times come from the file alone"),
        ("tp", "0", "tp: expected a whole number from 1, got '0'"),
        ("tp", "1.5", "tp: expected a whole number, got"),
        ("tp", "four", "tp: expected a plain number"),
        ("isl", "-3", "isl: expected a number above zero"),
        ("model", "a\nb", "model: expected a name"),
    ],
)
def test_what_a_caller_must_not_say(name: str, value: str, message: str) -> None:
    assert message in refused(vllm(), {**SERVER, name: value})


# -- files ----------------------------------------------------------------------------------------


def test_a_file_may_hold_several_results(tmp_path: Path) -> None:
    several = tmp_path / "r.json"
    several.write_text("\n".join(json.dumps(vllm(max_concurrency=c)) for c in (4, 8)), "utf-8")
    assert [row["concurrency"] for row in load_results(str(several), SERVER)] == [4, 8]
    with pytest.raises(SpecError, match="2 loads; leave out settings=concurrency"):
        load_results(str(several), {**SERVER, "concurrency": "4"})
    several.write_text(json.dumps([vllm(), vllm(completed=0)]), "utf-8")
    with pytest.raises(SpecError, match=r"r\.json: result 2: completed: nothing was completed"):
        load_results(str(several), SERVER)


def test_lists_of_requests_are_left_out_and_may_be_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detailed.json"
    path.write_text(json.dumps(detailed()), "utf-8")
    monkeypatch.setattr(files, "MAX_FILE", 100)
    _, (document,) = results.read_results(str(path))
    assert not {"itls", "ttfts", "generated_texts"} & set(document)
    assert load_results(str(path), SERVER) == [one(vllm())]
    monkeypatch.setattr(results, "MAX_RESULT", 100)
    with pytest.raises(SpecError, match="larger than 100 bytes"):
        load_results(str(path), SERVER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(vllm())[:-40], "the file ends too early"),
        (json.dumps(vllm())[:37], "the file ends too early"),
        ("", "is empty"),
        ("[]", "is empty"),
        ("3", "expected an object, got int"),
        ("{}", "is no result file known here"),
        ("[" * 100_000, "nested too deeply"),
        ("not json", "line 1: Expecting value"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, "utf-8")
    with pytest.raises(SpecError, match=message) as caught:
        load_results(str(path), SERVER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["missing.json", "~nobody-of-that-name/r.json", "a\0b.json", "."])
def test_paths_that_are_no_files(word: str) -> None:
    with pytest.raises(SpecError):
        load_results(word, SERVER)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] * bool(here) + [path for key, entry in inside for path in places(entry, (*here, key))]


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


@pytest.mark.slow
@given(name=st.sampled_from(list(MUTABLE)), data=st.data())
def test_a_mutated_file_gives_rows_or_one_line(name: str, data: st.DataObject) -> None:
    document = copy.deepcopy(MUTABLE[name]())
    for _ in range(data.draw(st.integers(1, 3))):
        *holders, last = data.draw(st.sampled_from(places(document)))
        holder: Any = document
        try:
            for key in holders:
                holder = holder[key]
            if data.draw(st.booleans()):
                del holder[last]
            else:
                holder[last] = data.draw(WRONG)
        except (KeyError, IndexError, TypeError):
            continue
        if not document:
            break
    overrides = data.draw(st.sampled_from([{}, SERVER, {**SERVER, "model": "qwen3-32b"}]))
    try:
        rows = read_result(document, "r.json", overrides)
    except SpecError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        return
    for row in rows:
        assert all(0 < row[name] <= 1e15 for name in ("isl", "osl", "concurrency", "tp"))
        assert all(0 < row[name] <= 1e15 for name in TIMES if name in row)
        assert any(name in row for name in TIMES)


@given(name=st.sampled_from(list(EVERY)), at=st.floats(0, 1), put=st.binary(max_size=3))
def test_a_file_with_wrong_bytes_gives_rows_or_one_line(tmp_path_factory, name: str, at: float, put: bytes) -> None:
    raw = json.dumps(EVERY[name]()).encode()[:3000]
    cut = int(at * len(raw))
    path = tmp_path_factory.mktemp("files") / "r.json"
    path.write_bytes(raw[:cut] + put + raw[cut + len(put) :])
    try:
        load_results(str(path), SERVER)
    except SpecError as error:
        assert "\n" not in str(error)


SUMMARY = """INFO 06-10 10:10:10 [api_server.py] started
============ Serving Benchmark Result ============
Successful requests:                     200
Maximum request concurrency:             16
Benchmark duration (s):                  90.10
Total input tokens:                      204800
Total generated tokens:                  51200
---------------Time to First Token----------------
Mean TTFT (ms):                          310.20
Median TTFT (ms):                        300.10
P99 TTFT (ms):                           800.00
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          27.00
==================================================
"""


def test_the_summary_that_serving_benchmarks_print_is_read(tmp_path: Path) -> None:
    stated = {"model": "llama3.1-8b", "gpu": "h100", "engine": "vllm", "precision": "bf16", "tp": 1}
    path = tmp_path / "log.txt"
    sglang = SUMMARY.replace("Successful", "Backend:       sglang\nMax request concurrency:   64\nSuccessful", 1)
    sglang = sglang.replace("Maximum request concurrency:             16\n", "")
    path.write_text(SUMMARY + sglang, "utf-8")
    rows = load_results(str(path), stated)
    assert [(r["isl"], r["osl"], r["concurrency"], r["ttft_ms"], r["tpot_ms"]) for r in rows] == [
        (1024, 256, 16, 310.2, 27.0),
        (1024, 256, 64, 310.2, 27.0),
    ]
    path.write_text(SUMMARY.replace("Maximum request concurrency:             16\n", ""), "utf-8")
    with pytest.raises(SpecError, match="says nothing of the load"):  # older releases print no load
        load_results(str(path), stated)


def test_sglangs_single_batches_are_read(tmp_path: Path) -> None:
    stated = {"model": "llama3.1-8b", "gpu": "h100", "precision": "bf16", "tp": 1}
    lines = (
        {"run_name": "default", "batch_size": 16, "input_len": 1024, "output_len": 128, "latency": 3.1, "ttft": 0.42,
         "overall_throughput": 5945.0, "last_ttft": 0.56},
        {"run_name": "default", "batch_size": 1, "input_len": 256, "output_len": 8, "prefill_latency": 0.03,
         "median_decode_latency": 0.0071, "total_latency": 0.08, "overall_throughput": 3300.0},
    )  # fmt: skip
    path = tmp_path / "result.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    rows = load_results(str(path), stated)
    assert [(r["engine"], r["concurrency"], r["isl"], r["osl"]) for r in rows] == [
        ("sglang", 16, 1024, 128), ("sglang", 1, 256, 8)
    ]  # fmt: skip
    assert [r["ttft_ms"] for r in rows] == pytest.approx([560, 30])
    assert [r["tpot_ms"] for r in rows] == pytest.approx([(3100 - 560) / 127, 7.1])
