"""What result files say of the server that was measured: engine, release, parallelism, formats, drafts, cached prompts.

Samples are made here as the tools write them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import kvplan
from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.files import load_results, read_result
from kvplan.measuring.benchmarks.stacks import format_of, release_of
from kvplan.measuring.serving.reading import known_model
from kvplan.measuring.serving.row_formats import kv_bits_of, with_weights
from tests.test_benchmark_files import (
    SERVER,
    inference_perf,
    inferencex,
    llama_bench,
    llmd,
    llmd_older,
    llmperf,
    one,
    quantiles,
    refused,
    sglang,
    trtllm_bench,
    vllm,
)


@pytest.mark.parametrize(
    ("image", "engine", "release"),
    [
        ("vllm/vllm-openai:v0.25.0", "vllm", "0.25.0"),
        ("docker.io/vllm/vllm-openai:v0.20.1-ubuntu2404", "vllm", "0.20.1"),
        ("vllm/vllm-openai-rocm:v0.22.0", "vllm", "0.22.0"),
        ("vllm/vllm-openai:nightly-dev-arm64-cu13.0.1-426e59f", "vllm", None),
        ("vllm/vllm-openai:kimi-k3", "vllm", None),
        ("vllm/vllm-openai", "vllm", None),
        ("lmsysorg/sglang:v0.5.12.post1-rocm720-mi35x-20260529", "sglang", "0.5.12.post1"),
        ("lmsysorg/sglang:v0.5.14-cu130@sha256:5027e95bf6ec", "sglang", "0.5.14"),
        ("rocm/sgl-dev:sglang-0.5.9-rocm720-mi35x-mori-0227-2", "sglang", "0.5.9"),
        ("nvcr.io#nvidia/tensorrt-llm/release:1.3.0rc18", "trtllm", "1.3.0rc18"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc22.post1", "trtllm", "1.3.0rc22.post1"),
        ("nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:0.8.1.post2", "trtllm", None),
        ("ghcr.io/llm-d/llm-d-cuda:0.3.1", "vllm", None),
        ("localhost:5000/mine/vllm", "vllm", None),
        ("rocm/atom-dev:nightly_202607011530", None, None),
        (None, None, None),
    ],
)
def test_a_release_is_read_from_the_tag_of_an_image(image: object, engine: str | None, release: str | None) -> None:
    assert release_of(image) == (engine, release)


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("FP8", "fp8"),
        ("NVFP4", "nvfp4"),
        ("FP8_BLOCK_SCALES", "fp8"),
        ("modelopt_fp4", "nvfp4"),
        ("w8a8_fp8", "fp8"),
        ("W4A16_AWQ", "int4"),
        ("awq_marlin", "int4"),
        ("W4A8_MXFP4_FP8", "mxfp4"),
        ("compressed-tensors", "checkpoint"),
        ("MIXED_PRECISION", "checkpoint"),
        (None, "checkpoint"),
    ],
)
def test_methods_of_engines_name_formats(method: object, form: str) -> None:
    assert format_of(method) == form


INFO = {
    "model_path": "Qwen/Qwen3-32B",
    "version": "0.5.9",
    "tp_size": 4,
    "pp_size": 1,
    "dp_size": 1,
    "ep_size": 1,
    "enable_dp_attention": False,
    "kv_cache_dtype": "fp8_e4m3",
    "quantization": "fp8",
    "chunked_prefill_size": 8192,
    "scheduler_recv_interval": 1,
    "speculative_algorithm": None,
    "disaggregation_mode": "null",
    "max_total_num_tokens": 640_000,
    "internal_states": [{"avg_spec_accept_length": 2.9}],
}


def described(info: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
    """A line of SGLang's bench_serving from 0.5.5 on, which holds what /server_info says."""
    line = {k: v for k, v in sglang().items() if k != "model"}
    return {**line, "tag": None, "server_info": {**INFO, **(info or {})}, **changes}


def test_sglang_lines_describe_their_server(tmp_path: Path) -> None:
    path = tmp_path / "sglang_0901.jsonl"
    path.write_text("\n".join(json.dumps(described(max_concurrency=c)) for c in (8, 16)), "utf-8")
    rows = load_results(str(path), {"gpu": "h200"})
    assert [row["concurrency"] for row in rows] == [8, 16]
    row = rows[0]
    assert (row["model"], row["engine"], row["engine_version"], row["tp"]) == ("Qwen/Qwen3-32B", "sglang", "0.5.9", 4)
    assert (row["precision"], row["kv_dtype"], row["spec_decode"]) == ("fp8", "fp8_e4m3", "none")
    assert (row["max_num_batched_tokens"], row["scheduler_recv_interval"]) == (8192, 1)
    found = kvplan.validate(str(path), settings={"gpu": "h200"})
    assert [p.row.stated_kv_bits for p in found.few] == [8.0, 8.0]
    assert found.few[0].row.weight_format == "fp8"


def test_sglang_servers_under_data_parallel_attention_drafts_and_a_prefix_cache() -> None:
    spread = {"tp_size": 8, "dp_size": 8, "ep_size": 8, "enable_dp_attention": True, "quantization": None}
    (row,) = read_result(described({**spread, "speculative_algorithm": "EAGLE"}), "r", {"gpu": "h200"})
    assert (row["tp"], row["attention_dp"], row["moe_ep"], row["moe_tp"]) == (1, 8, 8, 1)
    assert (row["precision"], row["spec_decode"]) == ("checkpoint", "accepted 2.9")
    report = {"total_prompt_tokens": 80_000, "total_cached_tokens": 20_000, "cache_hit_rate_pct": 25.0}
    (row,) = read_result(described(cache_report=report), "r", {"gpu": "h200"})
    assert row["prefix_hit"] == 0.25
    assert "ttft_ms" not in row, "prompts that came from a cache tell no prefill's time"
    assert "tpot_ms" in row
    assert "2 copies shared the load" in refused(described({"dp_size": 2}), {"gpu": "h200"})
    assert "prefill and decode ran on servers of their own" in refused(described({"disaggregation_mode": "decode"}))
    assert "prefill and decode ran" in refused(described({"prefill": [{}], "decode": [{}]}))
    assert "dp_size 3 does not divide tp_size 4" in refused(described({"dp_size": 3, "enable_dp_attention": True}))
    assert "a replayed trace holds no one load" in refused(described(request_rate="trace"))


def test_the_server_info_of_another_engine_fills_nothing() -> None:
    other = {"vllm_config": "VllmConfig(...)", "tp_size": None}
    row = one(described(other, backend="vllm"), model="llama3.1-70b")
    assert (row["engine"], row["tp"], row["precision"]) == ("vllm", 4, "bf16")


def test_vllm_states_how_many_drafts_a_step_accepted() -> None:
    assert one(vllm(spec_decode_acceptance_length=2.4))["spec_decode"] == "accepted 2.4"


def test_trtllm_bench_states_cache_drafts_and_budget() -> None:
    engine = {"model": "llama3.1-70b", "version": "1.2.0", "quantization": "NVFP4", "kv_cache_dtype": "FP8"}
    world = {"tp_size": 4, "pp_size": 1, "ep_size": 1, "max_num_tokens": 8192}
    decoding = {"mode": "Eagle3", "acceptance_length_percentiles": {"average": 2.25, "p50": 2.0}}
    (row,) = read_result(trtllm_bench(engine=engine, world_info=world, decoding_stats=decoding), "r", {})
    assert (row["precision"], row["kv_dtype"], row["spec_decode"]) == ("nvfp4", "fp8", "accepted 2.25")
    assert row["max_num_batched_tokens"] == 8192
    (row,) = read_result(trtllm_bench(), "r", {})
    assert row["spec_decode"] == "none"
    assert "kv_dtype" not in row
    (row,) = read_result(trtllm_bench(decoding_stats={"mode": "MTP", "acceptance_length_percentiles": None}), "r", {})
    assert row["spec_decode"] == "MTP"
    path = trtllm_bench(engine={"model": None, "model_path": "/models/Llama-3.1-70B", "quantization": "FP8"})
    assert read_result(path, "r", {})[0]["model"] == "/models/Llama-3.1-70B"


def test_requests_that_were_not_streamed_tell_their_whole_time() -> None:
    plain = {k: v for k, v in trtllm_bench().items() if k != "streaming_metrics"}
    (row,) = read_result(plain, "r", {})
    assert row["latency_ms"] == 2600.0
    assert not {"ttft_ms", "tpot_ms"} & set(row)
    report = llmd()
    latency = report["results"]["request_performance"]["aggregate"]["latency"]
    del latency["time_to_first_token"], latency["time_per_output_token"]
    assert one(report)["latency_ms"] == 4000.0


def test_inferencex_states_the_release_in_its_image() -> None:
    (row,) = read_result(inferencex(image="vllm/vllm-openai:v0.22.0", pp=2), "agg.json", {})
    assert (row["engine"], row["engine_version"], row["pp"]) == ("vllm", "0.22.0", 2)
    trt = inferencex(framework="trt", image="nvcr.io#nvidia/tensorrt-llm/release:1.3.0rc18")
    (row,) = read_result(trt, "agg.json", {})
    assert (row["engine"], row["engine_version"]) == ("trtllm", "1.3.0rc18")
    (row,) = read_result(inferencex(image="vllm/vllm-openai:nightly-5e35a6f4f9bb"), "agg.json", {})
    assert row["engine_version"] == ""
    assert "contexts were split over GPUs" in refused(inferencex(dcp_size=2))


def test_inference_perf_counts_prompts_served_from_a_cache() -> None:
    document = inference_perf()
    document["successes"]["prompt_tokens"] = {"total": 614_400.0, "cached": 307_200.0, **quantiles(1024.0)}
    row = one(document, model="llama3.1-70b")
    assert row["prefix_hit"] == 0.5
    assert "ttft_ms" not in row
    document["successes"]["prompt_tokens"]["cached"] = 0.0
    assert "prefix_hit" not in one(document, model="llama3.1-70b")
    del document["successes"]["prompt_len"]
    assert one(document, model="llama3.1-70b")["isl"] == 1024


def test_llmperf_metadata_stands_beside_its_results() -> None:
    (row,) = read_result(llmperf(gpu="h100", engine="vllm", precision="bf16", tensor_parallel_size=4), "r", {})
    assert (row["gpu"], row["engine"], row["tp"]) == ("h100", "vllm", 4)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("qwen2 7B Q4_K - Medium", "q4_k_m"),
        ("llama 8B Q5_K - Small", "q5_k_s"),
        ("llama 8B Q2_K - Medium", "q2_k"),
        ("llama 8B Q6_K", "q6_k"),
        ("llama 8B IQ4_XS - 4.25 bpw", "iq4_xs"),
        ("llama 8B Q4_K - Medium (guessed)", "q4_k_m"),
        ("gpt-oss 20B MXFP4 MoE", "mxfp4"),
        ("llama 8B BF16", "bf16"),
        ("llama 8B all F32", "fp32"),
        ("llama 8B IQ2_XXS - 2.0625 bpw", "iq2_xxs"),
        ("llama 8B TQ1_0 - 1.69 bpw ternary", "2.31 bpw"),
    ],
)
def test_llama_bench_names_the_format_of_its_file(kind: str, precision: str) -> None:
    sizes = {"model_size": 2_310_000_000, "model_n_params": 8_000_000_000}
    (row,) = read_result(llama_bench(model_type=kind, **sizes), "bench.json", {})
    assert row["precision"] == precision


def test_llama_bench_on_several_gpus_a_cpu_or_with_a_smaller_cache() -> None:
    two = {"gpu_info": "NVIDIA L4, NVIDIA A100-SXM4-80GB"}
    (row,) = read_result(llama_bench(**two, split_mode="none", main_gpu=1), "b", {})
    assert row["gpu"] == "NVIDIA A100-SXM4-80GB"
    assert "names 2 GPUs" in refused(llama_bench(**two, split_mode="layer", main_gpu=1), {})
    assert "weights stayed on the CPU" in refused(llama_bench(n_gpu_layers=0), {})
    assert "experts stayed on the CPU" in refused(llama_bench(n_cpu_moe="12"), {})
    assert "the cache stayed on the CPU" in refused(llama_bench(no_kv_offload=True), {})
    (row,) = read_result(llama_bench(type_k="q8_0", type_v="q8_0"), "b", {})
    assert row["kv_dtype"] == "q8_0"
    (row,) = read_result(llama_bench(type_k="q8_0", type_v="q4_0"), "b", {})
    assert row["kv_dtype"] == "q8_0/q4_0"
    named = llama_bench(
        model_filename="/m/Qwen3-8B-UD-Q4_K_XL-00001-of-00002.gguf", model_type="qwen3 8B Q4_K - Medium"
    )
    assert read_result(named, "b", {})[0]["model"] == "Qwen3-8B"


def test_widths_of_llama_cpp_are_those_of_its_blocks() -> None:
    model = kvplan.catalog.model("qwen2.5-7b")
    assert kv_bits_of("q8_0", model, "llama.cpp") == 8.5  # 34 B per 32
    assert kv_bits_of("q8_0/q4_0", model, "llama.cpp") == (8.5 + 4.5) / 2
    assert kv_bits_of("f16", model, "llama.cpp") == 16
    spec, form = with_weights(model, "Q4_K_M")
    assert form is None
    assert spec.quantization is not None
    # 4.89 over all of a Llama 3.1 8B, whose embedding and head of 4.5 and 6.6 bits count apart
    assert (spec.quantization.bits, spec.quantization.head) == (pytest.approx(4.79, abs=0.01), True)
    assert with_weights(model, "3.17 bpw")[0].quantization.bits == 3.17
    assert with_weights(model, "fp8") == (model, "fp8")
    with pytest.raises(SpecError, match="expected from 1 bpw"):
        with_weights(model, "0.2 bpw")


def test_lines_of_llama_bench_are_compared_with_predictions(tmp_path: Path) -> None:
    path = tmp_path / "bench.txt"
    runs = [llama_bench(model_type="qwen2 7B Q4_K - Medium"), llama_bench(0, 128, model_type="qwen2 7B Q4_K - Medium")]
    path.write_text("\n".join(json.dumps(run) for run in runs), "utf-8")
    found = kvplan.validate(str(path), settings={})
    assert sorted(found.metrics) == ["TPOT", "TTFT"]
    assert [p.row.weight_bits for p in found.few] == [pytest.approx(4.79, abs=0.01)] * 2


# -- vLLM without a server ------------------------------------------------------------------------


def record(name: str, inner: dict[str, Any], **arguments: object) -> dict[str, Any]:
    """A record of *.pytorch.json: one metric and all arguments."""
    said = {"model": "meta-llama/Llama-3.1-8B", "dtype": "auto", "tensor_parallel_size": 2, "quantization": None}
    return {
        "benchmark": {"name": "vLLM benchmark", "extra_info": {"args": {**said, **arguments}}},
        "model": {"name": "meta-llama/Llama-3.1-8B"},
        "metric": {"name": name, "benchmark_values": [1.0], "extra_info": inner},
    }


THROUGHPUT = {"elapsed_time": 20.0, "num_requests": 1000, "total_num_tokens": 1_152_000}


def test_vllm_bench_throughput_tells_the_mean_request_by_littles_law() -> None:
    given = {"model": "llama3.1-8b", "concurrency": "250"}
    row = one(THROUGHPUT, **given, isl="1024")
    assert (row["isl"], row["osl"], row["requests"]) == (1024, 128, 1000)
    assert row["latency_ms"] == pytest.approx(250 * 20_000 / 1000)
    assert row["concurrency"] == 250
    assert one(THROUGHPUT, **{**given, "concurrency": "4000"}, isl="1024")["concurrency"] == 1000
    assert "isl + osl = 1,536, but its requests have 1,152 tokens each" in refused(
        THROUGHPUT, {**SERVER, **given, "isl": "1024", "osl": "512"}
    )
    assert "isl = 2,048, but its requests have 1,152" in refused(THROUGHPUT, {**SERVER, **given, "isl": "2048"})
    message = refused(THROUGHPUT, {**SERVER, "model": "llama3.1-8b"})
    assert "says nothing of the input length, the output length and the load" in message


def test_records_of_pytorchs_benchmarks_hold_all_arguments(tmp_path: Path) -> None:
    path = tmp_path / "latency.pytorch.json"
    inner = {"avg_latency": 1.5, "std_latency": 0.0, "percentiles": {"50": 1.5}}
    lengths = {"input_len": 512, "output_len": 128, "batch_size": 8, "kv_cache_dtype": "fp8", "quantization": "fp8"}
    path.write_text(json.dumps([record("latency", inner, **lengths)]), "utf-8")
    (row,) = load_results(str(path), {"gpu": "h100"})
    assert (row["model"], row["engine"], row["tp"], row["precision"]) == ("meta-llama/Llama-3.1-8B", "vllm", 2, "fp8")
    assert (row["isl"], row["osl"], row["concurrency"], row["latency_ms"]) == (512, 128, 8, 1500.0)
    assert (row["kv_dtype"], row["arrival"]) == ("fp8", "static")
    lengths = {"input_len": 1024, "output_len": 128, "max_num_seqs": 200, "dtype": "bfloat16"}
    both = [record(name, THROUGHPUT, **lengths) for name in ("requests_per_second", "tokens_per_second")]
    path.write_text(json.dumps(both), "utf-8")
    (row,) = load_results(str(path), {"gpu": "h100"})
    assert (row["precision"], row["concurrency"], row["latency_ms"]) == ("bfloat16", 200, pytest.approx(4000.0))


# -- llm-d ----------------------------------------------------------------------------------------


def engine_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return the engine in a report's stack."""
    part: dict[str, Any] = report["scenario"]["stack"][0]
    return part


def test_llmd_reports_name_the_engine_by_its_image_and_options() -> None:
    report = llmd()
    part = engine_of(report)
    part["standardized"] |= {"tool": "vllm", "tool_version": "docker.io/vllm/vllm-openai:v0.19.0"}
    part["native"] = {"args": {"--kv-cache-dtype": "fp8", "max-num-batched-tokens": "16384", "quantization": "fp8"}}
    (row,) = read_result(report, "report.yaml", {})
    assert (row["engine"], row["engine_version"], row["precision"]) == ("vllm", "0.19.0", "fp8")
    assert (row["kv_dtype"], row["max_num_batched_tokens"], row["tp"]) == ("fp8", 16384, 8)
    older = llmd_older()
    older["scenario"]["platform"]["engine"] = [{"name": "docker.io/vllm/vllm-openai:v0.11.0", "args": {"--dtype": "x"}}]
    assert one(older)["engine_version"] == "0.11.0"


def test_llmd_reports_of_schema_021_drafts_and_running_endpoints() -> None:
    newest = {**llmd(), "version": "0.2.1"}
    assert one(newest)["tpot_ms"] == 12.5
    draft = llmd()
    draft["scenario"]["stack"][0]["metadata"]["kind"] = "inference_engine"
    del engine_of(draft)["standardized"]["kind"]
    assert one(draft)["model"] == "Qwen/Qwen3-32B"
    endpoint = llmd()
    engine_of(endpoint)["standardized"] |= {"tool": "", "tool_version": ""}
    engine_of(endpoint)["standardized"]["accelerator"] |= {"count": 0, "parallelism": {"tp": 1, "dp": 1}}
    assert "says nothing of the engine, the precision and the tensor parallelism" in refused(endpoint, {})
    several = llmd()
    engine_of(several)["standardized"]["replicas"] = 3
    assert "3 servers shared the load" in refused(several)


def test_llmd_loads_without_a_limit_and_of_stages() -> None:
    everything = one(llmd(rate_qps="inf", concurrency=None))
    assert (everything["concurrency"], "request_rate" in everything) == (500, False)
    assert one(llmd(rate_qps=float("inf"), concurrency=32))["concurrency"] == 32
    staged = llmd_older()
    stages = [{"rate": 2.0, "duration": 50}, {"rate": 10.0, "duration": 50}, {"concurrency_level": 16}]
    staged["scenario"]["load"] = {"name": "inference-perf", "args": {"load": {"stages": stages}}}
    found = []
    for stage in range(3):
        staged["scenario"]["load"]["metadata"] = {"stage": stage}
        row = one(staged)
        found.append((row.get("request_rate"), row["concurrency"]))
    assert found == [(2.0, pytest.approx(40.0)), (10.0, pytest.approx(40.0)), (None, 16)]
    at_once = llmd_older()
    at_once["scenario"]["load"]["args"] = {"num_prompts": 300, "request_rate": "inf", "max_concurrency": None}
    assert one(at_once)["concurrency"] == 300


def test_llmd_prompts_that_share_a_prefix_tell_no_ttft(tmp_path: Path) -> None:
    shared = llmd(concurrency=32, prefix={"prefix_len": {"distribution": "fixed", "value": 1024}, "num_prefixes": 1})
    row = one(shared)
    assert row["prefix_hit"] == 0.5
    assert "ttft_ms" not in row
    engine_of(shared)["native"]["args"] = {"--no-enable-prefix-caching": None}
    assert one(shared)["ttft_ms"] == 150.0
    counted = llmd()
    rate = {"components": [{"statistics": {"units": "percent", "mean": 65.0}}]}
    counted["results"]["observability"] = {"metrics": {"vllm_prefix_cache_hit_rate": rate}}
    path = tmp_path / "report.txt"
    path.write_text(yaml.safe_dump(counted), "utf-8")
    assert load_results(str(path), SERVER)[0]["prefix_hit"] == 0.65


@pytest.mark.parametrize(
    ("word", "name", "method"),
    [
        ("/data/models/Qwen3-32B", "qwen3-32b", None),
        ("/models/meta-llama/Llama-3.1-70B-Instruct/", "llama3.1-70b", None),
        ("~/nowhere/Llama-3.1-8B-Instruct-AWQ", "llama3.1-8b", "int4"),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-32B-FP8/snapshots/9216db57", "qwen3-32b", "fp8"),
        (r"C:\models\Qwen3-8B-Q4_K_M", "qwen3-8b", "q4-k-m"),
        ("Qwen2.5-7B-Instruct-int4-int8-mixed-gptq", "qwen2.5-7b", None),
    ],
)
def test_the_path_of_a_model_on_another_machine_names_it(word: str, name: str, method: str | None) -> None:
    model = known_model(word, kvplan.catalog.model)
    assert (model.name, model.quantization.method if model.quantization else None) == (name, method)


def test_a_path_that_names_no_model_says_so_in_its_own_words() -> None:
    with pytest.raises(SpecError, match="/srv/mine: no such file or folder"):
        known_model("/srv/mine", kvplan.catalog.model)
