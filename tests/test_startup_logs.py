"""Start-up logs of engines that stand in public threads: the room for the cache, and the tokens logged for it."""

import csv
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.cli import main
from kvplan.planning.memory import Memory
from kvplan.units import show_bytes

HERE, GIB = Path(__file__).parent, 2**30
#: of the room that a log prints
NEAR = 0.03
#: a GPU that every cache of the logs fits on
ROOMY = "mi355x"
#: columns that are no arguments of the same name
OTHER = {"sequences": "max_num_seqs", "step": "max_num_batched_tokens"}
OUT = ("source", "kv_gib", "kv_tokens")


def rows(name: str) -> list[Any]:
    with (HERE / name).open(encoding="utf-8") as file:
        return [
            pytest.param(row, id=row["source"].partition("com/")[2] or row["source"]) for row in csv.DictReader(file)
        ]


def asked(row: dict[str, str], **more: Any) -> Memory:
    arguments: dict[str, Any] = {OTHER.get(k, k): v for k, v in row.items() if v and k not in OUT}
    for name in ("tp", "max_num_seqs", "max_num_batched_tokens"):
        arguments |= {name: int(arguments[name])} if name in arguments else {}
    if ";" in row.get("without", ""):
        arguments["without"] = tuple(row["without"].split(";"))
    return kvplan.memory(**arguments, layout="engine", **more)


@pytest.mark.parametrize("row", rows("startup_logs.csv"))
def test_the_room_for_the_cache_is_within_three_percent(row: dict[str, str]) -> None:
    found = asked(row).budget
    assert found is not None
    if row["kv_gib"]:
        assert found.kv_cache / GIB == pytest.approx(float(row["kv_gib"]), rel=NEAR)
    if row["kv_tokens"]:
        assert found.kv_tokens == pytest.approx(int(row["kv_tokens"]), rel=NEAR)


@pytest.mark.parametrize("row", rows("paged_logs.csv"))
def test_a_room_holds_the_tokens_that_the_engine_logs(row: dict[str, str]) -> None:
    """The room is printed to a hundredth of a GiB, and a hybrid's blocks are large."""
    found = asked(row, gpu=ROOMY, kv_cache_memory_bytes=f"{row['kv_gib']}GiB").budget
    assert found.kv_tokens == pytest.approx(int(row["kv_tokens"]), rel=0.003)


@pytest.mark.parametrize(
    ("source", "gpu", "gib"),
    [
        ("https://github.com/SemiAnalysisAI/InferenceX/issues/2128", "h200", 125.65),
        ("a start-up log of 2026-08-13 on eight B300", "b300", 104.24),
    ],
)
def test_fp4_experts_keep_their_scales_twice_on_gpus_without_fp4_units(source: str, gpu: str, gib: float) -> None:
    """DeepSeek-V4-Pro, TP8, in SGLang: 4 + 1 + 0.25 bits an element of an expert on Hopper."""
    found = kvplan.memory("deepseek-v4-pro", 8192, layout="engine", engine="sglang", gpu=gpu, tp=8, utilization=0.95)
    assert found.budget is not None and found.budget.amounts["weights"] / GIB == pytest.approx(gib, rel=NEAR), source


@pytest.mark.parametrize(
    ("release", "model", "graphs"),
    [("0.21", "qwen3-8b", True), ("0.22", "qwen3-8b", False), ("0.22", "llama3.1-8b", True),
     ("0.24", "llama3.1-8b", False), ("0.24", "gemma3-27b", True), ("0.25", "gemma3-27b", False),
     ("0.28", "qwen3-30b-a3b", True), ("0.28", "qwen3.5-27b", True), ("0.29", "qwen3-8b", True)],
)  # fmt: skip
def test_the_second_runner_sets_nothing_aside_for_graphs_before_029(release: str, model: str, graphs: bool) -> None:
    found = kvplan.memory(model, 8192, layout="engine", engine=f"vllm@{release}", gpu="b200").budget
    assert found is not None and ("cuda_graphs" in found.amounts) == graphs


def test_the_second_runner_keeps_counts_of_every_vocabulary_from_027_on() -> None:
    """4 bytes and a bit for each of 256 sequences x 128,256 words: 0.126 GiB of Llama 3.1 8B on an A100."""
    older, newer = (
        kvplan.memory("llama3.1-8b", 8192, layout="engine", engine=f"vllm@{release}", gpu="a100-80gb-sxm").budget
        for release in ("0.26", "0.27")
    )
    assert older is not None and newer is not None
    assert newer.amounts["activations"] - older.amounts["activations"] == pytest.approx(256 * 128_256 * 4.125)


def test_a_start_that_compiles_holds_a_second_embedding() -> None:
    """151,936 x 4,096 x 2 B: 89,040 tokens of Qwen3-8B on an RTX 5090, 95,936 at the next start (two logs of 0.24)."""
    first, next_ = (
        kvplan.memory(
            "qwen3-8b", 32_768, layout="engine", engine="vllm@0.24", gpu="rtx-5090", utilization=0.92, without=without
        ).budget
        for without in ((), "compile")
    )
    assert first is not None and next_ is not None
    assert first.amounts["activations"] == 151_936 * 4096 * 2
    assert "embedding" in first.binding and "restarted from a compile cache" in first.binding
    assert next_.kv_tokens - first.kv_tokens == pytest.approx(95_936 - 89_040, rel=0.08)


def test_what_is_compiled_of_a_model_with_towers_has_no_embedding() -> None:
    """Qwen3.5-27B on one GPU: its embedding has 2.37 GiB, a compiled start peaks at the tower's 1.43 and 0.16."""
    found = kvplan.memory("qwen3.5-27b", 8192, layout="engine", engine="vllm@0.26", gpu="l40s", max_num_seqs=16).budget
    assert found is not None
    assert found.amounts["activations"] == pytest.approx(2 * (65_536 * 10.2 * 1152 + 16_384 * 5120), rel=1e-6)


def test_a_gpu_that_shares_the_hosts_memory_is_told_that_the_host_counts() -> None:
    def told(gpu: str, **more: Any) -> bool:
        return any("shares the host's memory" in w for w in kvplan.memory("qwen3-8b", 8192, gpu=gpu, **more).warnings)

    assert told("gb10") and not told("l40s") and told("gb10", kv_cache_memory_bytes="20GiB")
    assert not told("gb10", engine="sglang")


def test_weights_that_do_not_fit_are_short_by_what_the_budget_says() -> None:
    """Weights in fp8 are not told to be in fp8, and no cache is counted in what is missing before any cache."""
    for model, remedy in (("qwen3-next-80b", "add GPUs or use weights=fp8"), ("deepseek-r1", "add GPUs")):
        found = kvplan.memory(model, "32k", gpu="h100", engine="vllm@0.33")
        assert found.budget is not None
        missing = show_bytes(-found.budget.kv_cache)
        assert found.reason.endswith(f"short by {missing} per GPU before any KV cache; {remedy}")


def test_a_shared_memory_names_the_option_that_fixes_the_cache(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["memory", "-m", "qwen3-8b", "-c", "8k", "-g", "gb10"])
    assert not ended.value.code
    shown = " ".join(capsys.readouterr().out.split())
    assert "This GPU (gb10) shares the host's memory" in shown
    assert "--kv-cache-memory-bytes SIZE fixes the cache" in shown


def test_what_the_host_grows_by_counts_as_taken_of_its_gpu() -> None:
    """5.5 GiB, the median of seven logs of DGX Sparks; a fixed cache is what was asked for."""
    spark, card = (
        kvplan.memory("qwen3-8b", 8192, layout="engine", gpu=gpu, engine="vllm@0.27").budget for gpu in ("gb10", "b200")
    )
    assert spark is not None and card is not None
    assert spark.amounts["runtime"] - card.amounts["runtime"] == 5.5 * GIB
    fixed = kvplan.memory("qwen3-8b", 8192, layout="engine", gpu="gb10", kv_cache_memory_bytes="20GiB").budget
    assert fixed is not None and fixed.kv_cache == pytest.approx(20 * GIB)


@pytest.mark.parametrize(
    ("release", "gpu", "counted"),
    [("0.19", "h100", False), ("0.20", "h100", True), ("0.25", "mi300x", False), ("0.26", "mi300x", True)],
)
def test_graphs_are_estimated_on_amd_from_026_on(release: str, gpu: str, counted: bool) -> None:
    found = kvplan.memory("qwen3-30b-a3b", 8192, layout="engine", engine=f"vllm@{release}", gpu=gpu).budget
    assert found is not None and ("cuda_graphs" in found.amounts) == counted


@pytest.mark.parametrize(("gpu", "gib"), [("a100-80gb-sxm", 65.97), ("h100", 64.38)])
def test_marlin_pads_both_widths_of_mxfp4_experts(gpu: str, gib: float) -> None:
    """gpt-oss-120b: 65.97 GiB through Marlin and 64.38 through Triton (vllm-project/vllm#23278 and #33155)."""
    found = kvplan.memory("gpt-oss-120b", 8192, layout="engine", engine="vllm@0.14", gpu=gpu).budget
    assert found is not None and found.amounts["weights"] / GIB == pytest.approx(gib, rel=0.004)


@pytest.mark.parametrize(("gpu", "gib"), [("a100-40gb-sxm", 0.13), ("rtx-3090", 0.13), ("h100", 0.25), ("b200", 0.25)])
def test_one_gpu_without_nvlink_sharp_keeps_half_as_much_outside_torch(gpu: str, gib: float) -> None:
    found = kvplan.memory("llama3.1-8b", 8192, layout="engine", engine="vllm@0.19", gpu=gpu).budget
    assert found is not None and found.amounts["runtime"] / GIB == pytest.approx(gib)


@pytest.mark.parametrize(("length", "tokens"), [(1024, 2048), (16_384, 16_384), (32_768, 32_768), (131_072, 2048)])
def test_v0_takes_prompts_whole_up_to_32768_tokens(length: int, tokens: int) -> None:
    found = kvplan.memory("qwen2.5-1.5b", length, layout="engine", engine="vllm@0.7.3", gpu="l40s").budget
    assert found is not None and found.deployment.limits == (256, tokens)


def test_sglang_divides_its_pool_among_windows_states_and_the_rest() -> None:
    """gpt-oss-20b: 12 layers of each kind, windows hold 0.8 of the tokens; Gemma 3's windows keep all of them."""
    pages = {
        name: kvplan.memory(name, 8192, layout="engine", engine="sglang", gpu="h200").budget.paging
        for name in ("gpt-oss-20b", "gemma3-27b", "qwen3.5-9b", "llama3.1-8b")
    }
    assert pages["gpt-oss-20b"].cell == pytest.approx(12 * 2048 * 1.8)
    assert pages["gemma3-27b"].cell == 62 * 16 * 128 * 2 * 2
    assert pages["qwen3.5-9b"].cell == pytest.approx(8 * 4 * 256 * 2 * 2 * 1.9)
    assert pages["llama3.1-8b"].cell == 131_072


@pytest.mark.parametrize(
    ("engine", "tokens", "gib"),
    [
        ("vllm@0.9", 10485760, 240.0),
        ("vllm@0.9", 3861424, 88.38),
        ("vllm@0.8", 1048576, 24.0),
        ("vllm@0.14", 1048576, 6.28),
    ],
)
def test_a_request_takes_what_the_engine_says_where_layers_attend_within_chunks(
    engine: str, tokens: int, gib: float
) -> None:
    """'(240.00 GiB KV cache is needed': whole requests up to 0.13, then of chunks what they can reach."""
    scout = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
    found = kvplan.memory(scout, context=tokens, engine=engine, tp=8, layout="engine")
    assert found.total / 8 / GIB == pytest.approx(gib, abs=0.005)


def test_flashinfer_samples_with_less_before_017() -> None:
    """Logits in 16 and 32 bits and probabilities: 10 B each, not 38.3; from 0.17 on the same as without it."""
    for release, logit in (("0.11", 10.0), ("0.16", 10.0), ("0.17", 14.5), ("0.21", 14.5)):
        found = kvplan.memory("qwen2-7b", 8192, engine=f"vllm@{release}", gpu="h100", with_features="flashinfer")
        assert found.budget is not None and found.budget.deployment.engine.sampler_bytes_per_logit == logit


@pytest.mark.parametrize(("gpu", "gib"), [("a100-80gb-sxm", 0.2), ("l40s", 0.2), ("h100", 0.54)])
def test_two_gpus_without_nvlink_sharp_keep_less_outside_torch_before_018_too(gpu: str, gib: float) -> None:
    found = kvplan.memory("llama3.1-8b", 8192, layout="engine", engine="vllm@0.16", gpu=gpu, tp=2).budget
    assert found is not None and found.amounts["runtime"] / GIB == pytest.approx(gib)


def test_deepstack_has_embeddings_of_an_image_for_three_layers_more() -> None:
    """Qwen3-VL-30B-A3B: 3 x 8,192 and 4 x 16,384 rows of 2,048 elements, beside what the sampler of 1,024 takes."""
    seen, blind = (
        kvplan.memory(
            "qwen3-vl-30b-a3b", 8192, layout="engine", engine="vllm@0.13", gpu="h100-nvl", without=without
        ).budget
        for without in ((), "towers")
    )
    assert seen is not None and blind is not None
    more = (3 * 8192 + 4 * 16_384) * 2048 * 2
    assert seen.amounts["activations"] - blind.amounts["activations"] == pytest.approx(more)


def test_deepseek_v4_logs_its_cache_by_bytes_up_to_026() -> None:
    """37.93 GiB, eight GPUs, steps of 8,192 (0.22.1): by blocks they would hold 2,276,718 tokens."""
    tokens = {
        release: kvplan.memory(
            "deepseek-v4-flash", 256_000, layout="engine", engine=f"vllm@{release}", gpu=ROOMY, tp=8, kv_dtype="fp8",
            max_num_batched_tokens=step, kv_cache_memory_bytes="37.93GiB",
        ).budget.kv_tokens
        for release, step in (("0.22", 8192), ("0.26", 4096), ("0.27", 4096))
    }  # fmt: skip
    assert tokens["0.22"] == pytest.approx(2_497_693, rel=1e-4)
    assert tokens["0.26"] == pytest.approx(tokens["0.22"], rel=1e-4) and tokens["0.27"] == pytest.approx(
        2_276_718, rel=1e-3
    )


@pytest.mark.parametrize(("gpu", "gib"), [("a100-80gb-pcie", 34.71), ("h100-sxm", 34.21)])
def test_fp8_experts_have_a_scale_of_every_row_on_gpus_without_fp8_units(gpu: str, gib: float) -> None:
    told = kvplan.memory(model="Qwen/Qwen3.5-35B-A3B-FP8", gpu=gpu, engine="vllm@0.19", context="2048", layout="engine")
    assert told.budget.amounts["weights"] / 2**30 == pytest.approx(gib, rel=0.002)


@pytest.mark.parametrize(("release", "sequences"), [("0.13", 256), ("0.27", 256), ("0.33", 256)])
def test_gb10_takes_the_first_step_as_nvml_says_no_memory_of_it(release: str, sequences: int) -> None:
    told = kvplan.memory(
        model="Qwen/Qwen3-30B-A3B-FP8", gpu="gb10", engine=f"vllm@{release}", context="32768", layout="engine"
    )
    assert f"{sequences} sequences" in told.budget.binding or "2,048 tokens" in told.budget.binding


@pytest.mark.parametrize(
    ("gpu", "sequences", "draft", "gib"),
    [("rtx-5090", 1, None, 0.39), ("gb10", 1, None, 0.43), ("rtx-5090", 1, "mtp:3", 0.09)],
)
def test_the_first_whole_graph_allocates_the_workspace_of_flashinfer(
    gpu: str, sequences: int, draft: str | None, gib: float
) -> None:
    """Estimates of CUDA graphs that vLLM 0.20.0 logs of Qwen3.6-35B-A3B and, with drafts, of 27B, in NVFP4."""
    name = "sakamakismile/Qwen3.6-27B-Text-NVFP4-MTP" if draft else "RedHatAI/Qwen3.6-35B-A3B-NVFP4"
    asked = {"layout": "engine", "engine": "vllm@0.20.0", "gpu": gpu, "max_num_seqs": sequences, "kv_dtype": "fp8"}
    found = kvplan.memory(name, 65_536, speculative=draft, **asked).budget
    assert found is not None and found.amounts["cuda_graphs"] / GIB == pytest.approx(gib, abs=0.06)


@pytest.mark.parametrize(
    ("gpu", "kv_dtype", "least"),
    [("h100", "fp8", False), ("l40s", "", False), ("l40s", "fp8", True), ("b200", "", True), ("t4", "fp8", False)],
)
def test_who_gets_flashinfers_attention(gpu: str, kv_dtype: str, least: bool) -> None:
    asked = {"layout": "engine", "engine": "vllm@0.20", "gpu": gpu, "max_num_seqs": 1}
    found = kvplan.memory("qwen3-4b", 8192, kv_dtype=kv_dtype or None, **asked).budget
    assert found is not None and (found.amounts["cuda_graphs"] > 394 * 2**20) == least


@pytest.mark.parametrize(("tp", "live"), [(1, 1536 + 4 * 1152 + 2 * 4304), (2, 1536 + 4 * 1152 + 4304)])
def test_a_layer_of_qwens_tower_holds_what_its_code_does(tp: int, live: int) -> None:
    """Pixels and four widths of every patch, and two inner widths, or one on each of two GPUs."""
    found = kvplan.memory(
        "qwen3.5-35b-a3b", 8192, layout="engine", engine="vllm@0.19", gpu="a100-80gb-sxm", tp=tp, max_num_seqs=16
    ).budget
    assert found is not None
    assert found.amounts["activations"] == pytest.approx(2 * (65_536 * live + 16_384 * 2048))


@pytest.mark.parametrize(("gpu", "gib"), [("h100-nvl", 0.13), ("h200-nvl", 0.13), ("h200", 0.25), ("gb200", 0.25)])
def test_bridged_cards_have_no_multicast(gpu: str, gib: float) -> None:
    found = kvplan.memory("llama3.1-8b", 8192, layout="engine", engine="vllm@0.19", gpu=gpu).budget
    assert found is not None and found.amounts["runtime"] / GIB == pytest.approx(gib)


def test_aeon_leaves_linear_attention_in_16_bits() -> None:
    """6.89 GiB on each of four RTX 5060 Ti (a start-up log of vLLM 0.20.2)."""
    name = "AEON-7/Qwen3.6-27B-AEON-Ultimate-Uncensored-Multimodal-NVFP4-MTP"
    asked = {"layout": "engine", "engine": "vllm@0.20.2", "gpu": "rtx-5060-ti-16gb", "tp": 4, "kv_dtype": "fp8"}
    found = kvplan.memory(name, 196_608, speculative="mtp:3", **asked).budget
    assert found is not None and found.amounts["weights"] / GIB == pytest.approx(6.89, rel=0.003)


@pytest.mark.parametrize(
    ("model", "engine", "gpu", "tp", "gib"),
    [("Zyphra/Zamba2-2.7B", "vllm@0.12", "rtx-5060-ti-16gb", 1, 5.0655)],
)
def test_weights_that_a_log_prints(model: str, engine: str, gpu: str, tp: int, gib: float) -> None:
    found = kvplan.memory(model, 2048, layout="engine", engine=engine, gpu=gpu, tp=tp).budget
    assert found is not None and found.amounts["weights"] / GIB == pytest.approx(gib, rel=0.002)


def test_a_length_shorter_than_a_hybrids_block_is_what_a_group_counts() -> None:
    """Falcon-H1-3B, 2,048 tokens a request and blocks of 2,080: 83,968 are 41 x 2,048 (a start-up log of vLLM 0.12)."""
    found = kvplan.memory(
        "tiiuae/Falcon-H1-3B-Base",
        2048,
        layout="engine",
        engine="vllm@0.12",
        gpu=ROOMY,
        kv_cache_memory_bytes="5.28GiB",
    ).budget
    assert found is not None and found.kv_tokens == 83_968
