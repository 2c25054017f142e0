"""End-to-end rows: reading them, predicting them all at once, and predict and validate as a user types them."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import processes
import pytest
import test_benchmark_files as files
from serving_rows import entries, moved, read, servers, timed, write

from kvplan import catalog
from kvplan.api.server_rows import RowFile, usable
from kvplan.measuring.serving.arrays import stack
from kvplan.measuring.serving.load import in_a_run, link_of, load_of, measured_load, room_of
from kvplan.measuring.serving.predict import PredictedRow, predict, roofline
from kvplan.measuring.serving.reading import read_server
from kvplan.measuring.serving.rows import OPEN, Refused, ServerRow
from kvplan.perf.serving import receiving, serve, steps
from kvplan.specs.eras import era_of, launch_of, release_of
from kvplan.specs.identity import Identity

ROW = {
    "model": "llama3.1-8b", "gpu": "h100", "engine": "vllm", "isl": "1000", "osl": "500", "concurrency": "16",
    "tp": "1",
}  # fmt: skip
RESULT = {
    "backend": "vllm", "model_id": "meta-llama/Llama-3.1-70B-Instruct", "num_prompts": 80, "request_rate": "inf",
    "max_concurrency": 16, "duration": 40.0, "completed": 80, "failed": 0, "total_input_tokens": 80_000,
    "total_output_tokens": 16_000, "mean_ttft_ms": 210.5, "mean_tpot_ms": 24.0,
}  # fmt: skip


def one(**changes: str) -> ServerRow | Refused:
    return read_server({**ROW, **changes}, 2, catalog.model, catalog.gpu, False)


def good(**changes: str) -> ServerRow:
    found = one(**changes)
    assert isinstance(found, ServerRow), found
    return found


# -- reading --------------------------------------------------------------------------------------


def test_nominal_lengths_are_benchmarks_measured_ones_are_means() -> None:
    row = good()
    assert (row.prompt, row.output, row.waves) == (900, 450.0, 10.0)
    row = good(requests="80")
    assert (row.prompt, row.output, row.waves) == (1000, 500.0, 5.0)
    row = good(mean_lengths="yes")
    assert (row.prompt, row.output, row.waves) == (1000, 500.0, 10.0)
    row = good(requests="80", request_rate="2")
    assert row.arrival == OPEN and "open loop" in row.notes[0]


def test_names_formats_and_engines_are_found_by_their_spellings() -> None:
    row = good(gpu="h200_sxm", engine="TensorRT-LLM", model="Qwen/Qwen3-32B", precision="fp8_block")
    assert (row.gpu.name, row.engine, row.model.name, row.weight_format) == ("h200", "trtllm", "qwen3-32b", "fp8")
    assert good(model="deepseek-r1", precision="fp8").weight_format is None, "the checkpoint is fp8"
    assert good(precision="BF16").weight_format == "bf16"


def test_a_format_in_a_models_name_does_not_hide_the_model() -> None:
    for word in (
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a16",
        "llama3.1-8b-GPTQ-8bit",
        "llama3.1-8b [mine]",
        "llama3.1-8b-INT4-INT8-Mixed-GPTQ",
    ):
        assert good(model=word).model.name == "llama3.1-8b"
    found = one(model="nonesuch-GPTQ-4bit")
    assert isinstance(found, Refused) and "no model named" in found.reason


def test_the_interval_of_a_scheduler_is_stated_or_that_of_published_scripts() -> None:
    """As the scripts of a known benchmark set it; rows that say where they are from keep the engine's default."""
    known = {"model": "deepseek-r1", "gpu": "b200", "engine": "sglang", "tp": "8"}
    few, many = good(**known, concurrency="8"), good(**known, concurrency="16")
    assert (few.recv_interval, many.recv_interval) == (10, 30) and "taken as 30" in many.notes[-1]
    assert good(**known, scheduler_recv_interval="4").recv_interval == 4
    for change in ({"source": "a page"}, {"lengths": "exact"}, {"gpu": "h200"}, {"engine": "vllm"}, {"model": "glm-5"}):
        assert good(**{**known, **change}).recv_interval == 1, change


def test_ranks_that_read_prompts_together_wait_for_each_other_in_published_scripts() -> None:
    """TensorRT-LLM's attention data parallelism, balanced: up to 60 steps. One rank has nobody to wait for."""
    known = {"model": "deepseek-r1", "gpu": "b200", "engine": "trtllm"}
    assert good(**known, tp="1", attention_dp="8", moe_ep="8").recv_interval == 60
    assert good(**known, tp="8").recv_interval == 1
    assert good(**known, tp="1", attention_dp="8", moe_ep="8", source="a page").recv_interval == 1
    assert good(**known, tp="1", attention_dp="8", moe_ep="8", source="a/InferenceX-app@1").recv_interval == 60


def test_prompts_are_read_in_the_budgets_that_published_scripts_set() -> None:
    cases: list[tuple[dict[str, str], float]] = [
        ({"model": "minimax-m2.5", "gpu": "b200", "engine": "vllm", "tp": "4", "isl": "1024"}, 2048),
        ({"model": "minimax-m2.5", "gpu": "h200", "engine": "vllm", "tp": "4", "isl": "1024"}, 8192),  # left out there
        ({"model": "deepseek-r1", "gpu": "mi300x", "engine": "sglang", "tp": "8"}, 131072),
        ({"model": "gpt-oss-120b", "gpu": "b200", "engine": "trtllm"}, 20000),
        ({"model": "qwen3.5-397b-a17b", "gpu": "b200", "engine": "sglang", "tp": "8", "gemm_quant": "fp8"}, 16384),
        ({"model": "glm-5", "gpu": "b200", "engine": "sglang", "tp": "8"}, 32768),
        ({"model": "qwen3-32b", "gpu": "h100", "engine": "sglang"}, 8192),
    ]
    for known, tokens in cases:
        assert good(**known).chunk == tokens, known
        assert good(**known, source="a page").chunk == 8192, known
        assert good(**known, max_num_batched_tokens="4096").chunk == 4096, known
    taken = next(known for known, tokens in cases if tokens == 20000)
    assert any("max_num_batched_tokens taken as 20,000" in note for note in good(**taken).notes)


def test_published_scripts_are_those_of_the_row_s_day_and_weights() -> None:
    """As InferenceX has them in its history: columns, day, steps between looks, tokens of a step, steps of holding."""
    qwen = {"model": "qwen3.5-397b-a17b", "gpu": "b200", "engine": "sglang", "tp": "8", "gemm_quant": "fp8"}
    deepseek = {"model": "deepseek-r1", "gpu": "b200", "engine": "sglang", "tp": "8"}
    trtllm = {**deepseek, "engine": "trtllm", "isl": "1024", "osl": "1024", "concurrency": "64"}
    cases: list[tuple[dict[str, str], str, float, float, float]] = [
        ({**qwen, "concurrency": "8"}, "2026-03-20", 10, 32768, 0),
        ({**qwen, "concurrency": "8"}, "2026-05-20", 30, 16384, 0),
        ({**qwen, "concurrency": "64", "gpu": "b300"}, "2026-04-17", 10, 16384, 0),
        ({**qwen, "concurrency": "64", "gpu": "b300", "gemm_quant": "nvfp4"}, "2026-04-18", 30, 32768, 0),
        ({**deepseek, "concurrency": "64"}, "2026-03-25", 30, 32768, 0),
        ({**deepseek, "concurrency": "64", "gemm_quant": "nvfp4"}, "2026-03-25", 30, 16384, 0),
        ({**deepseek, "concurrency": "64", "tp": "4"}, "2026-03-25", 10, 8192, 0),
        ({**trtllm, "gemm_quant": "nvfp4"}, "2025-11-02", 1, 1024 + 64 + 96, 0),
        ({**trtllm, "gemm_quant": "nvfp4"}, "2026-02-03", 1, 8192, 0),
        (trtllm, "2026-02-05", 1, 8192, 40),
        ({**trtllm, "concurrency": "32"}, "2026-02-05", 1, 8192, 0),
        ({**trtllm, "gpu": "h200"}, "2026-02-05", 1, 8192, 0),
    ]
    for known, day, looks, tokens, hold in cases:
        row = good(**known, date=day)
        assert (row.recv_interval, row.chunk, row.hold) == (looks, tokens, hold), (known, day)
    assert good(**deepseek, date="2025-11-10").waves == 50 and good(**deepseek, date="2026-03-25").waves == 10
    assert good(**qwen, source="a/InferenceX-app@1", note="date 2026-03-20; run 1", concurrency="8").chunk == 32768


def test_published_runs_before_a_day_found_servers_that_nobody_had_warmed_up() -> None:
    """Warm-up requests came with InferenceX's commit d053ae24 of 2026-01-21."""
    assert good(date="2026-01-20").cold == 1 and "warm the server up" in " ".join(good(date="2026-01-20").notes)
    assert good(source="a/InferenceX-app@1", note="date 2025-12-10; run 1").cold == 1
    for change in ({}, {"date": "2026-01-21"}, {"date": "2025-12-10", "source": "a page"}):
        assert good(**change).cold == 0, change


def test_one_s_own_server_keeps_the_cache_that_its_engine_does_unless_told() -> None:
    awq = good(model="Qwen/Qwen2.5-72B-Instruct-AWQ", tp="2")
    assert (awq.own, awq.kv_bits, awq.weight_bits < 5) == (True, 16, True)  # vLLM's auto: that of the model's dtype
    assert [good(model="gpt-oss-120b", engine=engine).kv_bits for engine in ("vllm", "sglang", "trtllm")] == [16] * 3
    assert good(precision="fp8", requests="320").kv_bits == good(engine="llamacpp", precision="q4_k_m").kv_bits == 16
    assert good(model="nvidia/Llama-3.3-70B-Instruct-FP8", tp="2").kv_bits == 8  # as hf_quant_config.json says
    assert good(precision="fp8", kv_dtype="fp8").kv_bits == 8
    published = good(precision="fp8", date="2025-10-29", sweep="2025-10-29#1")
    assert (published.own, published.kv_bits) == (False, 8)
    assert good(precision="fp8", source="vngcloud/InferenceX-app@1").kv_bits == 8


def test_days_are_read_however_they_are_written() -> None:
    """20260110 sorts behind 2026-01-21, and 12/31/2026 before every day, as texts."""
    for day in ("20260110", "2026/01/10", "2026-01-10T12:30:00", "2026-01"):
        assert good(date=day).cold == 1, day
    for day in ("2026-01-25T12:30:00", "20260220", "12/31/2026", "20 Feb 2026", "yesterday", "0000-00-00"):
        assert good(date=day).cold == 0, day
    known = {"model": "deepseek-r1", "gpu": "b200", "engine": "sglang", "tp": "8"}
    assert good(**known, date="yesterday").chunk == good(**known).chunk == 32768, "a day that is none is not stated"


def test_no_run_is_a_published_one_from_before_there_were_any() -> None:
    """The scripts began on 2025-08-12: no engine of 2024 held prompts as they set it, none of 2023 was left cold."""
    known = {"model": "llama3.1-8b", "gpu": "h100", "engine": "trtllm", "isl": "1024", "osl": "1024"}
    assert good(**known, engine_version="1.1.0").hold == 20
    changes = ({"date": "2025-08-11"}, {"engine_version": "2024-05"}, {"engine_version": "0.9.0"})
    for change in (*changes, {"arrival": "poisson", "rate": "1"}, {"arrival": "static"}):
        assert good(**known, **change).hold == 0, change
    assert good(engine_version="2023-11").cold == good(engine_version="0.2.1", date="2025-12-01").cold == 0


def test_no_step_of_holding_may_be_stated() -> None:
    known = {"model": "llama3.1-8b", "gpu": "h100", "engine": "trtllm", "isl": "1024", "osl": "1024"}
    assert good(**known, batch_wait_timeout_iters="0").hold == 0


def test_runs_of_those_who_collected_rows_are_no_published_ones() -> None:
    known = {"model": "llama3.1-8b", "gpu": "h100", "engine": "trtllm", "tp": "4", "isl": "1024", "osl": "1024"}
    assert good(**known, date="2025-10-29", sweep="2026-04-06").hold == 20
    assert good(**known, date="", sweep="meta-llama_Llama-3.1-8B-Instruct").hold == 0


def test_prompts_are_read_in_the_budget_of_the_engine_s_release_on_that_gpu() -> None:
    """vLLM: 8,192 from 70 GiB on, not on an A100; before V1 whole prompts. SGLang divides them over its ranks."""
    cases: list[tuple[dict[str, str], float]] = [
        ({"gpu": "h100", "engine_version": "0.19.0"}, 8192),
        ({"gpu": "a100", "engine_version": "0.19.0"}, 2048),
        ({"gpu": "l40s", "engine_version": "v0.27.1"}, 2048),
        ({"gpu": "b200", "engine_version": "0.19.0"}, 8192),
        ({"gpu": "b200", "engine_version": "0.28.0"}, 16384),
        ({"gpu": "b200"}, 8192),  # no release: the rules that servers were fitted under
        ({"gpu": "h100", "engine_version": "0.7.3", "isl": "28000", "requests": "9"}, 28500),  # with its answer
        ({"model": "llama3-8b", "gpu": "h100", "engine_version": "0.7.3"}, 8192),  # all of its context
        ({"model": "mixtral-8x7b", "gpu": "h100", "engine_version": "0.7.3"}, 32768),
        ({"gpu": "h100", "engine_version": "0.2.5"}, 2048),  # older than the oldest that is described
        ({"gpu": "h100", "engine_version": "0.19.0", "max_num_batched_tokens": "4096"}, 4096),
        ({"gpu": "h100", "engine": "sglang", "tp": "8"}, 8192),
        ({"gpu": "b200", "engine": "sglang", "tp": "8", "source": "a page"}, 16384),
        ({"gpu": "h100", "engine": "sglang", "tp": "1", "attention_dp": "8", "moe_ep": "8"}, 1024),
        (
            {"gpu": "h100", "engine": "sglang", "attention_dp": "8", "moe_ep": "8", "max_num_batched_tokens": "32768"},
            4096,
        ),
        ({"gpu": "h100", "engine": "mindie"}, 8192),  # an engine that no file describes
    ]
    for known, tokens in cases:
        row = read_server({**ROW, **known}, 2, catalog.model, catalog.gpu, False, catalog.stated_engine)
        assert isinstance(row, ServerRow) and row.chunk == tokens, known


def test_prompts_are_held_for_a_batch_as_published_scripts_set_it() -> None:
    """TensorRT-LLM serving a Llama with 1,024 tokens in and out on fewer than eight GPUs: 20 steps."""
    known = {"model": "llama3.3-70b", "gpu": "b200", "engine": "trtllm", "tp": "4", "isl": "1024", "osl": "1024"}
    assert good(**known).hold == 20 and "batch_wait_timeout_iters taken as 20" in good(**known).notes[-1]
    assert good(**known, batch_wait_timeout_iters="5").hold == 5
    for change in ({"source": "a page"}, {"tp": "8"}, {"osl": "8192"}, {"engine": "vllm"}, {"model": "qwen3-32b"}):
        assert good(**{**known, **change}).hold == 0, change


def test_runs_called_by_their_model_have_exact_lengths() -> None:
    known = {"isl": "1000", "osl": "100", "date": "", "sweep": "Qwen_Qwen3-32B"}
    for engine in ("sglang", "vllm"):
        exact = good(**known, engine=engine)
        assert (exact.prompt, exact.output, exact.spread) == (1000, 100.0, 0.0)
    for change in ({"date": "2026-01-01"}, {"sweep": "2026-01-01#7"}, {"sweep": ""}):
        assert good(**{**known, **change}).prompt == 900, change


def test_a_run_of_so_many_requests_has_no_more_in_flight_and_no_steady_queue() -> None:
    """300 requests at 25/s on 256 slots: the last 44 wait for a slot, half of all do not."""
    assert in_a_run(1e6, 300.0) == 300 and in_a_run(10.0, 0.0) == 10
    assert in_a_run(10.0, 300.0) == pytest.approx(10 / (1 + 10 / 600))
    known = {"arrival": "poisson", "concurrency": "", "requests": "300", "engine_version": "0.7.3", "lengths": "data",
             "isl": "236", "osl": "355", "ttft_ms": "260", "tpot_ms": "72"}  # fmt: skip
    half, mean, free = (
        measured_load(row, catalog.engine())
        for row in servers(
            {**ROW, **known, "rate": rate, "ttft_meaning": word}
            for rate, word in (("25", "p50"), ("25", "mean"), ("5", "mean"))
        )
    )
    assert half.load.batch == half.load.offered == 256 and half.late == 0
    assert mean.late == pytest.approx(44 / 300 * (355 * 0.072 - 256 / 25))
    assert free.load.batch < 256 and free.late == 0


def test_a_note_says_what_no_column_does_and_a_column_counts_before_it() -> None:
    row = good(note="8 replicas of one L4 each behind a balancer", concurrency="1600", requests="8000", rate="4")
    assert (row.concurrency, row.requests, row.rate) == (200, 1000, 0.5) and "one of 8 replicas" in row.notes[0]
    assert good(note="8 replicas of one L4 each", replicas="2").concurrency == 8
    row = good(note="ctx limit 262144; prefix hit rate 0.900; TTFT is a prefix-cache hit", lengths="exact")
    assert (row.prompt, row.cached) == (1000, 900)
    assert good(prefix_hit="1", lengths="exact").cached == 999
    assert good(note="max_num_seqs 8").max_num_seqs == good(max_num_seqs="8").max_num_seqs == 8
    assert good(note="vllm serve x --max-num-batched-tokens 2048").chunk == 2048
    assert good(note="trtllm-serve x --max_num_tokens=16384").chunk == 16384
    assert good(note="max_num_seqs None, max_num_batched_tokens None").max_num_seqs == good().max_num_seqs


def test_what_a_server_logged_of_its_memory_and_its_batch_counts_before_what_is_worked_out() -> None:
    engine = catalog.engine()
    logged = good(note="(Available KV cache memory in each GPU: 2.00 GiB)", concurrency="300", lengths="exact")
    page, held = 128 * 1024 * 16, 1000 + 500 / 2  # 32 layers of 8 heads of 128, keys and values, 16 bits
    assert room_of(logged, engine)[0] == 2 * 1024**3 // (np.ceil(held / 16) * page)
    ran = load_of(good(note="running batch 14.0; waiting 281", concurrency="295"), engine).load
    assert (ran.batch, ran.offered) == (14, 295)


def test_only_what_no_cache_holds_of_a_prompt_is_read() -> None:
    whole, hit = (load_of(good(prefix_hit=share, lengths="exact"), catalog.engine()) for share in ("", "0.9"))
    assert (whole.load.prompt, hit.load.prompt) == (1000, 100)
    work = [sum(o.flops for o in part.passes.alone if o.limit == "weights") for part in (whole, hit)]
    assert work[1] == pytest.approx(work[0] / 10, rel=0.1)


def test_a_row_whose_hits_nobody_counted_tells_nothing_of_prompts() -> None:
    note = "prompts repeat between runs, so prefix hits (40-50 % reported) lower TTFT"
    known = {**ROW, "note": note, "ttft_ms": "90", "tpot_ms": "20"}

    def read_times(**changes: str) -> ServerRow | Refused:
        return read_server({**known, **changes}, 2, catalog.model, catalog.gpu, True)

    row = read_times(osl="2000")
    assert isinstance(row, ServerRow) and (row.ttft, row.tpot) == (None, 0.02)
    refused = read_times()
    assert isinstance(refused, Refused) and "partly in a prefix cache" in refused.reason
    counted = read_times(prefix_hit="0.45")
    assert isinstance(counted, ServerRow) and counted.ttft == 0.09


def test_ranks_inside_a_tensor_parallel_group_are_not_counted_twice() -> None:
    command = "python3 -m sglang.launch_server --tp-size 8 --dp-size 8 --enable-dp-attention"
    known = {"model": "deepseek-v3", "engine": "sglang", "tp": "8", "attention_dp": "8", "gpu": "h200"}
    assert good(**known).parallel.gpus == 64
    inside = good(**known, note=command).parallel
    assert (inside.gpus, inside.tensor, inside.data) == (8, 1, 8)
    assert good(**{**known, "attention_dp": "1"}, note=command).parallel.tensor == 8


def test_a_row_of_one_of_two_servers_or_of_another_model_than_its_file_tells_nothing() -> None:
    def reason(**changes: str) -> str:
        known = {**ROW, "ttft_ms": "90", "tpot_ms": "20", **changes}
        found = read_server(known, 2, catalog.model, catalog.gpu, True)
        return found.reason if isinstance(found, Refused) else ""

    assert "baseline on another engine" in reason(note="section: Other Benchmark Cases; cmd: vllm serve x")
    path = "someone/benchmarks@0123:docs/{}/h100.md"
    assert "a file about qwen3-8b, and the row is of llama3.1-8b" in reason(source=path.format("qwen3-8b"))
    assert not reason(source=path.format("llama3.1-8b")) and not reason(source=path.format("results"))
    predicted = read_server({**ROW, "source": path.format("qwen3-8b")}, 2, catalog.model, catalog.gpu, False)
    assert isinstance(predicted, ServerRow)


def test_prompts_that_come_faster_than_they_are_read_pile_up() -> None:
    """The k-th of them waits k times what reading one takes longer than the next takes to come: 150 on average."""
    known = {"arrival": "poisson", "concurrency": "", "requests": "300", "lengths": "data", "isl": "2000", "osl": "20",
             "ttft_ms": "500", "tpot_ms": "20"}  # fmt: skip
    rows = servers({**ROW, **known, "rate": rate} for rate in ("1000", "1"))
    many, _ = stack(rows, catalog.engine())
    values = {name: np.full(2, value) for name, value in catalog.serving_profile().values(rows[0].identity).items()}
    served = many.served(many.calibrated(values))
    waited = many.ttft(served) - served.ttft
    assert waited == pytest.approx([150 * (served.prompt_seconds[0] - 1 / 1000), 0.0])


AGAIN = {"arrival": "poisson", "rate": "8", "concurrency": "", "requests": "200", "lengths": "data", "isl": "209",
         "osl": "200", "engine_version": "0.8.5", "note": "200 prompts only"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "cached"),
    [
        ({}, 200),
        ({"rate": "32"}, 0),  # they come for the first time
        ({"note": ""}, 0),
        ({"engine": "sglang"}, 200),
        ({"engine_version": "0.7.3"}, 0),  # keeps no prefixes unless told to
        ({"engine": "trtllm"}, 0),
        ({"prefix_hit": "0.1"}, 20),  # what a row says counts
        ({"arrival": "closed", "rate": "", "concurrency": "8"}, 0),
        ({"gpu": "rtx4090"}, 0),  # 24 GB x 0.9 less 16.1 GB of weights: 55,000 tokens of 131,072 B, of 81,800
        ({"gpu": "rtx4090", "tp": "2"}, 200),
        ({"note": "", "source": "of/AccelMark@1", "group": "accelmark-suite_A"}, 200),
        ({"note": "", "source": "of/AccelMark@1", "group": "accelmark-suite_D"}, 0),
    ],
)
def test_prompts_that_were_sent_before_are_found(changes, cached) -> None:
    """All but half a block of 16 tokens and one: 209 - 9, where the cache holds 200 requests of 409 tokens."""
    row = good(**{**AGAIN, **changes})
    assert row.cached == cached
    assert any("sent before" in note for note in row.notes) == (cached == 200)


@pytest.mark.parametrize(
    ("changes", "requests"),
    [
        ({}, 100.0),
        ({"group": "accelmark-suite_A"}, 200.0),
        ({"rate": "", "arrival": "closed", "concurrency": "4"}, 200.0),
    ],
)
def test_requests_of_runs_that_were_counted_together_are_those_of_one(changes, requests) -> None:
    """With 200 in a run, H20s would end open loops at 0.5/s in 3.9 s a request, and in 3.1 at 2/s; with 100, in 5.7."""
    loop = {"arrival": "poisson", "rate": "0.5", "concurrency": "", "requests": "200", "group": "accelmark-suite_D",
            "note": "verified; 3 runs pooled (2 for suite D); NVIDIA H20"}  # fmt: skip
    assert good(**{**loop, **changes}).requests == requests


def test_an_engine_that_stands_still_for_each_request_piles_them_up_too() -> None:
    """Of 300 prompts 150 came before the mean one; each takes 0.4 of its overhead from the engine's own process."""
    known = {"arrival": "poisson", "requests": "300", "engine_version": "0.7.3", "rate": "1000", "concurrency": "",
             "ttft_ms": "500", "tpot_ms": "20"}  # fmt: skip
    rows = servers({**ROW, **known, "source": source} for source in ("a page", "of/AccelMark@1"))
    many, _ = stack(rows, catalog.engine())
    values = {name: np.full(2, value) for name, value in catalog.serving_profile().values(rows[0].identity).items()}
    c = many.calibrated(values)
    served = many.served(c)
    elsewhere, inside = many.ttft(served)
    assert inside - elsewhere == pytest.approx(150 * 0.4 * receiving(c, rows[0].prompt)[0])
    assert good(engine_version="0.20.1", source="of/AccelMark@1").occupied == 0.0


def test_a_request_waits_half_the_interval_on_average() -> None:
    """Others' decode steps pass while it waits: of 30 steps 14.5 more than under the default, times 15 in 16."""
    rows = [good(concurrency="16", engine="sglang", scheduler_recv_interval=n) for n in ("1", "30")]
    found = predict(rows, catalog.serving_profile(), catalog.engine())
    once, seldom = (p for p in found if isinstance(p, PredictedRow))
    many, _ = stack(rows, catalog.engine())
    values = {name: np.full(2, value) for name, value in catalog.serving_profile().values(rows[0].identity).items()}
    step = many.steps(many.calibrated(values)).decode[0]
    # the first of ten waves waits as the others do; prompts are in one of some sixty steps
    assert 14.5 * step * 15 / 16 < seldom.ttft - once.ttft < 1.2 * 14.5 * step * 15 / 16
    assert seldom.tpot < once.tpot, "the cycle is as long; less of it is left for decoding"


def test_a_row_is_of_a_number_format_that_its_gpu_has_or_unpacks() -> None:
    def of(**change: str) -> str:
        return good(**change).identity.number_format

    assert of() == of(precision="bf16") == "16 bits"
    assert (of(precision="fp8"), of(precision="fp8", gpu="a100")) == ("8 bits", "8 bits, unpacked")
    assert (of(precision="nvfp4", gpu="b200"), of(precision="int4")) == ("4 bits", "4 bits, unpacked")
    assert of(model="gpt-oss-120b") == "4 bits, unpacked" and of(model="gpt-oss-120b", gpu="b200") == "4 bits"


def test_experts_counted_twice_are_put_right() -> None:
    row = good(model="deepseek-r1", gpu="b200", tp="1", attention_dp="64", moe_tp="8", moe_ep="8")
    assert row.parallel.gpus == 8 and "read as 8" in row.notes[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "llama9"}, "no model named 'llama9'"),
        ({"model": " "}, "model: is empty"),
        ({"gpu": "h9000"}, "no GPU named"),
        ({"engine": ""}, "engine: is empty"),
        ({"concurrency": "0"}, "concurrency: expected a number above zero"),
        ({"concurrency": "-4"}, "concurrency: expected a number above zero"),
        ({"concurrency": "nan"}, "concurrency: expected a plain number"),
        ({"isl": "1e30"}, "isl: expected a number above zero and up to 1,000,000,000"),
        ({"isl": "many"}, "isl: expected a plain number, got 'many'"),
        ({"tp": "1.5"}, "tp: expected a whole number"),
        ({"tp": ""}, "tp: is empty"),
        ({"pp": "99"}, "pp: 99 pipeline stages"),
        ({"precision": "fp3"}, "'fp3' is not known"),
        ({"tp": "2", "moe_ep": "3"}, "moe_ep: 3 expert ranks do not divide"),
    ],
)
def test_a_row_that_says_nothing_of_use_is_refused_with_a_reason(change, complaint) -> None:
    found = one(**change)
    assert isinstance(found, Refused) and complaint in found.reason and "\n" not in found.reason


def test_times_are_read_when_they_are_asked_for() -> None:
    def read_times(ttft: str, tpot: str) -> ServerRow | Refused:
        return read_server({**ROW, "ttft_ms": ttft, "tpot_ms": tpot}, 2, catalog.model, catalog.gpu, True)

    both = read_times("100", "10")
    assert isinstance(both, ServerRow) and (both.ttft, both.tpot) == (0.1, 0.01)
    single = read_times("", "10")
    assert isinstance(single, ServerRow) and (single.ttft, single.tpot) == (None, 0.01)
    for ttft, tpot in (("", ""), ("fast", "10"), ("0", "10"), ("100", "-1"), ("100", "inf")):
        assert isinstance(read_times(ttft, tpot), Refused)


# -- predicting -----------------------------------------------------------------------------------


def test_rows_side_by_side_are_timed_as_one_plan_is() -> None:
    rows = servers(
        [
            *entries("llama3.1-70b", "h100", "vllm", (4, 8)),
            *entries("deepseek-r1", "b200", "sglang", (8,), moe_ep="8"),
            *entries("gpt-oss-120b", "h200", "trtllm", (2,)),
        ],
        measured=False,
    )
    engine, profile = catalog.engine(), catalog.serving_profile()
    many = predict(rows, profile, engine)
    for row, found in zip(rows, many, strict=True):
        assert isinstance(found, PredictedRow)
        c, a = profile.calibrate(row.gpu, row.engine, row.model, row.version), load_of(row, engine)
        c = replace(c, chunk=row.chunk)
        single = serve(a.load, steps(a.passes, c, a.load.batch), c)
        assert found.tpot == pytest.approx(single.tpot) and found.ttft == pytest.approx(single.ttft)


def test_a_roofline_is_faster_than_any_prediction() -> None:
    rows = servers(entries("llama3.1-70b", "h100", "vllm", (8,)), measured=False)
    engine = catalog.engine()
    made = predict(rows, catalog.serving_profile(), engine)
    for found, (ttft, tpot) in zip(made, roofline(rows, engine), strict=True):
        assert isinstance(found, PredictedRow) and 0 < tpot < found.tpot and 0 < ttft < found.ttft


def test_messages_of_a_roofline_cross_pcie_beyond_a_bridged_pair() -> None:
    """Llama 3.1 70B, 160 all-reduces of 16 KiB a token: four H100 NVL send 2 x 3/4 of each at 64 GB/s."""
    engine = catalog.engine("vllm@0.11")
    kept = {"model": "llama3.1-70b", "gpu": "h100-nvl", "isl": "1000", "osl": "1000", "concurrency": "1"}
    rows = [good(**kept, tp=tp) for tp in ("2", "4")]
    moved = 160 * 8192 * 2
    found = [tpot for _, tpot in roofline(rows, engine)]
    on_bridge = [replace(r, gpu=replace(r.gpu, gpus_per_node=8)) for r in rows]
    bridged = [tpot for _, tpot in roofline(on_bridge, engine)]
    assert found[0] == pytest.approx(bridged[0]), "a pair has its bridge"
    assert found[1] - bridged[1] == pytest.approx(moved * 1.5 * (1 / 64e9 - 1 / rows[1].gpu.link), rel=0.01)


def test_a_roofline_reads_every_weight_once_a_step_and_nothing_else() -> None:
    """One sequence of 70.6e9 - 1.05e9 (embeddings) parameters in bf16 on 8 x 3.35 TB/s; the cache adds 1 %."""
    row = servers([{**ROW, "model": "llama3.1-70b", "tp": "8", "concurrency": "1"}], measured=False)
    (_, tpot), *_ = roofline(row, catalog.engine())
    assert tpot == pytest.approx(2 * (70.55e9 - 1.05e9) / (8 * 3.35e12), rel=0.03)


def test_what_a_prediction_rests_on_is_said_and_widens_the_interval() -> None:
    cases: dict[str, dict[str, str]] = {
        "": {},
        "qwen3-32b was measured on h100-sxm under other releases of vllm": {"engine_version": ""},
        "qwen3-32b was not measured on b200 under vllm, but on other GPUs": {"gpu": "b200"},
        "gemma3-27b was not measured under vllm; other models were, on h100-sxm": {"model": "gemma3-27b"},
        "qwen3-32b was not measured under lmdeploy, nor lmdeploy on h100-sxm": {"engine": "lmdeploy"},
        "no server on l40 and none under lmdeploy was measured": {"engine": "lmdeploy", "gpu": "l40"},
    }
    seen = {**ROW, "model": "qwen3-32b", "tp": "2", "engine_version": "0.12.0"}
    cases = {note: {**seen, **changes} for note, changes in cases.items()}
    found = predict(servers(cases.values(), measured=False), catalog.serving_profile(), catalog.engine())
    widths = []
    for note, p in zip(cases, found, strict=True):
        assert isinstance(p, PredictedRow) and (note in p.notes[0] if note else p.notes == ())
        assert p.tpot_range[0] < p.tpot < p.tpot_range[1] and p.ttft_range[0] < p.ttft < p.ttft_range[1]
        widths.append(p.tpot_range[1] / p.tpot_range[0])
    assert all(widths[0] < other for other in widths[1:]) and widths[3] < widths[5]


@pytest.mark.parametrize("word", ["unknown", "N/A", "-", "latest", "nightly"])
def test_a_word_for_no_release_is_none(word: str) -> None:
    assert good(engine_version=word) == good(engine_version="") and good(engine_version="nightly-dev").version


def test_a_median_is_compared_with_a_median_and_no_tail_with_a_mean() -> None:
    known = {**ROW, "ttft_ms": "900", "tpot_ms": "9", "ttft_p50_ms": "80", "tpot_p50_ms": "8"}

    def times(**changes: str) -> tuple[float | None, float | None, bool]:
        (row,) = servers([{**known, **changes}])
        return row.ttft, row.tpot, row.medians

    assert times() == (0.9, 0.009, False)
    assert times(ttft_meaning="p99") == (0.08, 0.009, True), "the median stands beside it"
    assert times(ttft_ms="", tpot_ms="") == (0.08, 0.008, True)
    assert times(ttft_meaning="p99", ttft_p50_ms="") == (None, 0.009, False)
    assert times(tpot_meaning="P90 of requests", tpot_p50_ms="") == (0.9, None, False)
    both = {"ttft_meaning": "max", "tpot_meaning": "p95", "ttft_p50_ms": "", "tpot_p50_ms": ""}
    refused = read_server({**known, **both}, 2, catalog.model, catalog.gpu, True)
    assert isinstance(refused, Refused) and "expected means or medians" in refused.reason


def test_a_time_that_no_server_reaches_is_left_out(run, tmp_path) -> None:
    """Llama 3.1 8B reads 15 GB a step, 4.5 ms at 3.35 TB/s; a draft of which nobody says may save some of it."""
    made = [{**ROW, "concurrency": "1", "ttft_ms": "60", "tpot_ms": ms} for ms in ("7.5", "0.0075", "2", "0.8")]
    path = str(write(tmp_path / "rows.csv", made))
    for key, *command in (
        ("left_out", "validate", path),
        ("not_used", "calibrate", path, "-o", str(tmp_path / "m.yaml")),
    ):
        left = json.loads(run(*command, "--json").out)[key]
        assert [line.split(": ")[1] for line in left] == ["line 3", "line 5"]
        assert "0.0075 ms is less than a fifth of the 4.5" in left[0]


def test_a_file_of_medians_is_validated(run, tmp_path) -> None:
    row = timed([{**ROW, "ttft_meaning": "p50"}], catalog.serving_profile())[0]
    row = {**ROW, "ttft_p50_ms": row["ttft_ms"], "tpot_p50_ms": row["tpot_ms"]}
    (found,) = json.loads(run("validate", str(write(tmp_path / "rows.csv", [row])), "--json").out)["rows"]
    for name in ("ttft", "tpot"):
        assert found[name]["predicted"] == pytest.approx(found[name]["measured"], rel=1e-4), name


def test_an_unknown_release_is_not_a_measured_one() -> None:
    """Nothing is taken from any release's level, and the interval is wider."""
    seen = {**ROW, "model": "qwen3-32b", "tp": "2", "engine_version": "0.12.0"}
    listed, silent = predict(
        servers([seen, {**seen, "engine_version": ""}], measured=False), catalog.serving_profile(), catalog.engine()
    )
    assert isinstance(listed, PredictedRow) and isinstance(silent, PredictedRow)
    assert silent.row.identity.members()["releases"] == "" != listed.row.identity.members()["releases"]
    assert silent.tpot_range[1] / silent.tpot_range[0] > 1.2 * listed.tpot_range[1] / listed.tpot_range[0]


def test_a_load_beyond_the_measured_ones_is_noted() -> None:
    rows = servers([ROW, {**ROW, "isl": "400000"}, {**ROW, "concurrency": "5000"}], measured=False)
    found = [p.notes for p in predict(rows, catalog.serving_profile(), catalog.engine()) if isinstance(p, PredictedRow)]
    said = ["; ".join(notes) for notes in found]
    assert "outside the measured" not in said[0] and "prompt 360,000 is outside the measured" in said[1]
    assert "concurrency 5,000 is outside the measured 1 to 1,024" in said[2]
    (half,) = predict(
        servers([{**ROW, "concurrency": "0.5"}], measured=False), catalog.serving_profile(), catalog.engine()
    )
    assert isinstance(half, PredictedRow) and "concurrency 0.5 is outside" in "; ".join(half.notes)


def test_requests_that_memory_cannot_hold_wait() -> None:
    rows = servers([{**ROW, "isl": "32768", "concurrency": c} for c in ("8", "512")], measured=False)
    few, many = predict(rows, catalog.serving_profile(), catalog.engine())
    assert isinstance(few, PredictedRow) and isinstance(many, PredictedRow)
    assert any("the others wait" in note for note in many.notes) and not any("wait" in n for n in few.notes)
    assert many.ttft > 20 * few.ttft


def test_stack_gives_a_row_without_an_operator_zeros() -> None:
    rows = servers([ROW, {**ROW, "model": "gpt-oss-120b"}], measured=False)
    many, each = stack(rows, catalog.engine())
    experts = next(o for o in many.passes.decode if o.name == "experts")
    assert experts.bytes[0] == 0.0 and experts.bytes[1] > 0 and len(each) == 2


# -- as a user types it ---------------------------------------------------------------------------


def test_predict_keeps_rows_and_columns_and_never_stops_at_a_bad_row(run, tmp_path) -> None:
    rows = [{"tag": str(n), **ROW, "ttft_ms": "1", "tpot_ms": "junk"} for n in range(3)]
    rows[1]["model"] = "nonesuch-9b"
    out = tmp_path / "out.csv"
    ran = run("predict", str(write(tmp_path / "rows.csv", rows)), "-o", str(out), "--json")
    assert ran.code == 0 and ran.json["rows"] == 3 and ran.json["refused"] == 1 and ran.json["kind"] == "e2e"
    found = read(out)
    added = [f"{t}_ms{end}" for t in ("ttft", "tpot") for end in ("", "_low", "_high")]
    assert list(found[0]) == ["tag", *ROW, *added, "note"]
    assert [row["tag"] for row in found] == ["0", "1", "2"] and found[0] == {**found[2], "tag": "0"}
    assert all(found[1][name] == "" for name in added) and "no model named 'nonesuch-9b'" in found[1]["note"]
    for t in ("ttft", "tpot"):
        low, middle, high = (float(found[0][f"{t}_ms{end}"]) for end in ("_low", "", "_high"))
        assert 0 < low < middle < high


def test_predict_keeps_a_rows_own_note_and_adds_to_it_once(run, tmp_path) -> None:
    rows = write(tmp_path / "rows.csv", [{**ROW, "model": "nonesuch-9b", "note": "running batch 14.0"}])
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    assert run("predict", str(rows), "-o", str(once)).code == 0
    assert run("predict", str(once), "-o", str(twice)).code == 0
    note = read(once)[0]["note"]
    assert note.startswith("running batch 14.0; ") and "no model named 'nonesuch-9b'" in note
    assert read(twice)[0]["note"] == note


def test_many_rows_are_predicted_together_as_each_alone(run, tmp_path) -> None:
    rows = entries("deepseek-r1", "b200", "sglang", (8,), loads=range(1, 601), moe_ep="8")
    source, out = write(tmp_path / "rows.csv", rows), tmp_path / "out.csv"
    assert run("predict", str(source), "-o", str(out)).code == 0
    found = read(out)
    assert len(found) == 1800 and all(float(row["tpot_ms"]) > 0 for row in found)
    assert run("predict", str(write(tmp_path / "rows.csv", rows[1234:1235])), "-o", str(out)).code == 0
    assert read(out) == found[1234:1235]


@pytest.mark.parametrize(
    ("text", "arguments", "complaint"),
    [
        ("model,gpu,isl,osl,concurrency,tp\nx,h100,1,1,1,1\n", (), "missing column 'engine', which e2e rows need"),
        ("a,b\n1,2\n", ("--kind", "e2e"), "missing column 'model'"),
        ("model,gpu,engine,isl,osl,concurrency,tp\n", (), "holds no rows"),
        (f"{','.join(ROW)}\n{','.join(ROW.values())}\n", ("--set", "color=red"), "--set color: no column to set"),
        (f"{','.join(ROW)}\n{','.join(ROW.values())}\n", ("--kind", "gemm"), "missing column 'dtype'"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_line(run, tmp_path, text, arguments, complaint) -> None:
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    ran = run("predict", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "o.csv"), *arguments)
    assert ran.code == 1 and complaint in ran.err and ran.err.count("\n") == 1 and not (tmp_path / "o.csv").exists()


def test_a_terminated_command_leaves_no_draft(tmp_path) -> None:
    source = write(tmp_path / "rows.csv", [ROW] * 50_000)
    with processes.python("-m", "kvplan", "predict", source, "-o", tmp_path / "out.csv") as started:
        assert processes.until(lambda: any(tmp_path.glob(".kvplan-*.part")))
        started.terminate()
        assert started.wait(processes.PATIENCE) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("command", ["validate", "calibrate"])
@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("model,gpu,engine,isl,osl,concurrency,tpx", "line 1: missing column 'tp', which e2e rows need"),
        ("model,gpu,engine,isl,osl,concurrency,tp", "line 1: missing column 'ttft_ms', which e2e rows need"),
        ("gpu,engine,kernel,dtype,m,n,k", "line 1: missing column 'latency_us', the measured time"),
        ("gpu,engine,kernel,dtype,m,n,kx,latency_us", "line 1: missing column 'k'; taken for gemm rows"),
    ],
)
def test_a_wrong_header_is_refused_before_any_row_is_read(run, tmp_path, command, header, complaint) -> None:
    """The row below is malformed and the file is longer than any that is read whole: neither is looked at."""
    source = tmp_path / "rows.csv"
    source.write_text(f"{header}\n1\n", "utf-8")
    os.truncate(source, 1_000_000_000)
    ran = run(command, str(source), *(("-o", str(tmp_path / "mine.yaml")) if command == "calibrate" else ()))
    assert ran.code == 1 and complaint in ran.err and ran.err.count("\n") == 1


def test_a_file_too_large_to_read_whole_is_refused_by_its_size(run, tmp_path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(f"{','.join(ROW)},ttft_ms,tpot_ms\n", "utf-8")
    os.truncate(source, 1_000_000_000)
    ran = run("validate", str(source))
    assert ran.code == 1 and "rows.csv: larger than 20,000,000 bytes" in ran.err and ran.err.count("\n") == 1


def test_settings_fill_and_replace_columns(run, tmp_path) -> None:
    rows = [{k: v for k, v in ROW.items() if k != "tp"}]
    source, out = write(tmp_path / "rows.csv", rows), tmp_path / "out.csv"
    assert run("predict", str(source), "-o", str(out)).code == 1
    assert run("predict", str(source), "-o", str(out), "--set", "tp=2", "--set", "gpu=h200").code == 0
    assert read(out)[0]["tp"] == "2" and read(out)[0]["gpu"] == "h200"
    assert run("predict", str(source), "-o", str(out), "--set", "tp").code == 2


def test_a_benchmarks_result_is_predicted_validated_and_calibrated(run, tmp_path) -> None:
    source, out, mine = tmp_path / "result.json", tmp_path / "out.csv", tmp_path / "mine.yaml"
    source.write_text(json.dumps(RESULT), "utf-8")
    said = ("--set", "gpu=h100", "--set", "tp=4", "--set", "precision=bf16")
    ran = run("predict", str(source), "-o", str(out))
    assert ran.code == 1 and "--set gpu=h100" in ran.err
    assert run("predict", str(source), "-o", str(out), *said).code == 0
    row = read(out)[0]
    assert (row["isl"], row["osl"], row["concurrency"], row["requests"]) == ("1000", "200", "16", "80")
    assert 10 < float(row["tpot_ms"]) < 40
    ran = run("validate", str(source), *said, "--json")
    assert ran.code == 0 and ran.json["metrics"]["TPOT"][-1]["rows"] == 1
    assert run("calibrate", str(source), "-o", str(mine), *said).code == 0
    assert run("predict", str(source), "-o", str(out), *said, "--profile", str(mine)).code == 0
    ran = run("predict", str(source), "-o", str(out), *said, "--kind", "gemm")
    assert ran.code == 1 and "result files hold e2e rows" in ran.err


@pytest.mark.parametrize(
    "document",
    [
        files.vllm(),
        files.vllm(request_rate=2.0, max_concurrency=None),
        files.guidellm({"type_": "concurrent", "streams": 8}, {"type_": "poisson", "rate": 2.0}),
        files.aiperf(concurrency=16),
        files.genai(concurrency=16),
    ],
    ids=["vllm", "vllm at a rate", "guidellm", "aiperf", "genai-perf"],
)
def test_every_tools_results_are_predicted(run, tmp_path, document) -> None:
    source, out = tmp_path / "result.json", tmp_path / "out.csv"
    source.write_text(json.dumps(document), "utf-8")
    said = [part for name, value in files.SERVER.items() for part in ("--set", f"{name}={value}")]
    ran = run("predict", str(source), "-o", str(out), "--json", *said)
    assert ran.code == 0 and ran.json["refused"] == 0
    for row in read(out):
        assert float(row["tpot_ms_low"]) < float(row["tpot_ms"]) < float(row["tpot_ms_high"])
        assert ("open loop" in row["note"]) == bool(row.get("request_rate"))


def test_validate_reports_errors_by_server_beside_a_roofline(run, tmp_path) -> None:
    profile = moved("servers", "h100-sxm vllm", weights=0.5)
    rows = timed([*entries("llama3.1-70b", "h100", "vllm", (4,)), *entries("qwen3-32b", "h200", "vllm", (2,))], profile)
    rows.append({**rows[0], "tpot_ms": "junk"})
    source = write(tmp_path / "rows.csv", rows)
    ran = run("validate", str(source), "--json")
    assert ran.code == 0 and len(ran.json["left_out"]) == 1 and "line 26: tpot_ms" in ran.json["left_out"][0]
    groups = ran.json["metrics"]["TPOT"]
    assert [g["group"] for g in groups] == [
        ["h100-sxm", "vllm", "llama3.1-70b"],
        ["h200", "vllm", "qwen3-32b"],
        ["all", "", ""],
    ]
    assert groups[0]["bias"] < -0.05 and groups[1]["median"] < 1e-4 < groups[0]["median"] < groups[0]["roofline"]
    assert groups[1]["coverage"] == 1.0 and [g["rows"] for g in groups] == [12, 12, 24]
    text = run("validate", str(source)).out
    assert "TPOT: predicted against measured" in text and "TTFT" in text and "1 row was not compared" in text


def test_validate_needs_measured_columns(run, tmp_path) -> None:
    ran = run("validate", str(write(tmp_path / "rows.csv", [ROW])))
    assert ran.code == 1 and "missing column 'ttft_ms', which e2e rows need, the measured time" in ran.err
    ran = run("validate", str(write(tmp_path / "rows.csv", [{**ROW, "ttft_ms": "", "tpot_ms": "", "tag": "x"}])))
    assert ran.code == 1 and "no row can be used; rows.csv: line 2: tpot_ms: is empty" in ran.err


@pytest.mark.parametrize("word", ["h100-sxm", "nonesuch"])
def test_a_profile_of_kernels_is_none_of_servers(run, tmp_path, word) -> None:
    source = write(tmp_path / "rows.csv", [ROW])
    ran = run("predict", str(source), "-o", str(tmp_path / "o.csv"), "--profile", word)
    assert ran.code == 1 and f"no serving profile named '{word}'" in ran.err


def test_a_plan_names_the_profiles_there_are(run) -> None:
    ran = run("estimate", "-m", "llama3-8b", "-c", "8k", "--profile", "nonesuch")
    assert ran.code == 1 and "kvplan list profiles" in ran.err


def test_profiles_of_servers_are_listed_and_shown(run) -> None:
    assert {"name": "published", "of": "servers"} in run("list", "profiles", "--json").json["profiles"]
    text = run("show", "profile", "published").out
    assert "of the memory bandwidth, reading weights" in text and "h200 vllm" in text and "other GPU" in text
    (shown,) = run("show", "profile", "published", "--json").json["profiles"]
    first = shown["servers"][0]
    values = catalog.serving_profile().values(Identity(gpu=first["gpu"], engine=first["engine"]))
    assert first["values"] == pytest.approx(values) and first["rows"] > 0 and first["models"]
    ran = run("show", "profile", "published", "h200")
    assert ran.code == 1 and "takes neither" in ran.err


def test_few_rows_are_shown_one_by_one(run, tmp_path) -> None:
    rows = timed(entries("qwen3-32b", "h200", "vllm", (2,)), catalog.serving_profile())
    few, many = write(tmp_path / "few.csv", rows[:3]), write(tmp_path / "many.csv", rows * 2)
    found = run("validate", str(few), "--json").json["rows"]
    assert [row["line"] for row in found] == [2, 3, 4] and run("validate", str(many), "--json").json["rows"] == []
    for row, given in zip(found, rows, strict=False):
        for name in ("ttft", "tpot"):
            time = row[name]
            assert time["measured"] == pytest.approx(float(given[f"{name}_ms"]) / 1e3)
            assert time["predicted"] == pytest.approx(time["measured"], rel=1e-4)
            assert time["low"] < time["predicted"] < time["high"]
    assert "measured and predicted" in run("validate", str(few)).out
    assert "measured and predicted" not in run("validate", str(many)).out


# -- what other files say -----------------------------------------------------------------------------


def test_arrivals_lengths_and_caches_are_read_where_a_file_has_them() -> None:
    plain = good()
    assert (plain.arrival, plain.spread, plain.speculation_gain, plain.stated_kv_bits, plain.medians) == (
        "closed",
        0.2,
        None,
        None,
        False,
    )
    exact = good(lengths="exact (random)", requests="80")
    assert (exact.prompt, exact.output, exact.spread, exact.waves) == (1000, 500.0, 0.0, 5.0)
    assert good(lengths="uniform 0.8-1.0", requests="80").prompt == 900
    fixed, wide = good(lengths="fixed"), good(lengths="uniform 0.5-1.0")
    assert (fixed.prompt, fixed.output, fixed.spread) == (1000, 500.0, 0.0) and good(lengths="constant") == fixed
    assert (wide.prompt, wide.output, wide.spread) == (750, 375.0, pytest.approx(2 / 3))
    assert good(lengths="uniform 0.9 to 1.1").spread == pytest.approx(0.2)
    assert good(lengths="sharegpt (means given)").spread == 1.0 and good(lengths="uniform +-15 %").spread == 0.3
    assert good(arrival="burst (all requests at t=0)", rate="inf").arrival == "offline"
    assert good(arrival="static").arrival == "static" and good(ttft_meaning="p50").medians
    opened = good(arrival="poisson", rate="4", concurrency="")
    assert (opened.arrival, opened.rate, opened.concurrency) == ("poisson", 4.0, 0.0)
    caches = [good(kv_dtype=word).kv_bits for word in ("auto", "fp8_e4m3", "bf16", "int4")]
    assert caches == [16.0, 8.0, 16.0, 4.0]
    published = {"precision": "fp8", "date": "2025-10-29"}
    assert good(**published).kv_bits == 8.0 and good(**published, kv_dtype="auto").kv_bits == 16.0
    forms = [
        good(precision=word).weight_format for word in ("gptq-int4", "w8a8-int8", "compressed-tensors-w4a16-g32", "fp4")
    ]
    assert forms == ["int4", "int8", "int4", "nvfp4"]


@pytest.mark.parametrize(
    ("word", "gain", "verified"),
    [
        ("", 1.0, 1),
        ("no", 1.0, 1),
        ("0", 1.0, 1),
        ("N/A", 1.0, 1),
        ("disabled", 1.0, 1),
        ("1", 0.0, 1),
        ("acceptance length: 2.46", 2.46 / 1.1, 3),
        ("mtp3, acceptance rate 50 %", 2.5 / 1.15, 4),
        ("acceptance rate 50%", 0.0, 1),
        ("mtp", 0.0, 1),
        ("EAGLE accept 2.46", 2.46 / 1.1, 3),
        ("mtp2, accept length 2", 2 / 1.1, 3),
        ('{"method": "dflash", "k": 7, "acceptance": 0.2, "accepted_tokens_per_round": 1.4}', 2.4 / 1.1, 8),
        ('{"method": "mtp", "k": 3, "acceptance": 0.5}', 2.5 / 1.15, 4),
    ],
)
def test_speculation_is_what_a_row_says(word: str, gain: float, verified: int) -> None:
    """Tokens a step, its own included, over what drafting adds: 5 % a token, 10 % where all are written at once."""
    found = good(spec_decode=word)
    assert (found.speculation_gain, found.verified) == (pytest.approx(gain), verified)


def test_a_step_multiplies_for_drafted_tokens_and_reads_each_cache_once() -> None:
    """Of 128 experts, 8 a token, 4 tokens pick 8 x 4 / (1 + 3 x 8 / 128) = 26.9; attention computes for each."""
    plain, drafting = (good(model="qwen3-235b-a22b", tp="8", concurrency="1", spec_decode=word)
                       for word in ("", "mtp3, accept length 2"))  # fmt: skip
    one, four = ({o.name: o for o in load_of(row, catalog.engine()).passes.decode} for row in (plain, drafting))
    assert four["experts"].bytes / one["experts"].bytes == pytest.approx(4 / (1 + 3 * 8 / 128), rel=1e-3)
    assert four["experts"].flops == pytest.approx(4 * one["experts"].flops, rel=1e-3)
    attention = next(name for name in one if name.startswith("attention"))
    assert four[attention].bytes == pytest.approx(one[attention].bytes)
    assert four[attention].flops == pytest.approx(4 * one[attention].flops)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"arrival": "sometimes"}, "arrival: expected one of closed, poisson, offline, static, got 'sometimes'"),
        ({"arrival": "poisson", "concurrency": ""}, "rate: a load of Poisson arrivals needs requests per second"),
        ({"arrival": "static", "concurrency": ""}, "concurrency: is empty"),
        ({"kv_dtype": "thin"}, "kv_dtype: expected auto, fp8, bf16, q8_0 or the like, got 'thin'"),
        ({"prefix_hit": "45"}, "prefix_hit: expected the share of a prompt that is cached, 0 to 1, got 45"),
    ],
)
def test_what_a_file_says_wrong_is_refused(change, complaint) -> None:
    found = one(**change)
    assert isinstance(found, Refused) and complaint in found.reason


def test_an_open_loop_that_its_server_could_not_follow_is_not_fitted_to() -> None:
    """100 requests at 2 a second are sent within 50 s: a fit leaves out those that wait 26 s, but not 24 s."""
    said = {**ROW, "arrival": "poisson", "concurrency": "", "rate": "2", "requests": "100", "tpot_ms": "20"}
    rows = servers([{**said, "ttft_ms": ttft} for ttft in ("24000", "26000")])
    table = RowFile(name="x.csv", columns=[], raw=[], rows=rows, noun="line")
    kept, left = usable([table], steady=True)
    assert kept == rows[:1] and left == [
        "x.csv: line 3: its requests waited 26 s, all sent within 50 s: no steady state"
    ]
    assert usable([table]) == (rows, [])


def test_an_open_loop_finds_its_own_concurrency_and_queues_beyond_what_leaves() -> None:
    said = {"arrival": "poisson", "concurrency": "", "lengths": "exact", "requests": "2000"}
    rows = servers([{**ROW, **said, "rate": rate} for rate in ("0.002", "1", "8", "200")], measured=False)
    found = predict(rows, catalog.serving_profile(), catalog.engine())
    lone = predict(servers([{**ROW, "lengths": "exact", "concurrency": "1"}], measured=False),
                   catalog.serving_profile(), catalog.engine())[0]  # fmt: skip
    assert all(isinstance(p, PredictedRow) for p in found) and isinstance(lone, PredictedRow)
    tpots, ttfts = (
        [p.tpot for p in found if isinstance(p, PredictedRow)],
        [p.ttft for p in found if isinstance(p, PredictedRow)],
    )
    assert tpots == sorted(tpots) and ttfts == sorted(ttfts)
    assert tpots[0] == pytest.approx(lone.tpot, rel=0.02) and ttfts[0] == pytest.approx(lone.ttft, rel=0.05)
    assert ttfts[3] > 10 * ttfts[2], "2,000 requests queue for half of their run"


def test_an_open_loop_whose_requests_in_flight_were_counted_has_as_many() -> None:
    """Its rate alone says nothing before its times are known: it is no idle server."""
    said = {**ROW, "lengths": "exact", "concurrency": "64"}
    rows = servers([{**said, "arrival": "poisson", "rate": "20"}, said], measured=False)
    opened, closed = (p for p in predict(rows, catalog.serving_profile(), catalog.engine()))
    assert isinstance(opened, PredictedRow) and isinstance(closed, PredictedRow)
    assert opened.tpot == pytest.approx(closed.tpot, rel=0.05)
    (_, idle), (_, full) = roofline([replace(rows[0], concurrency=1.0), rows[0]], catalog.engine())
    assert full > 1.1 * idle


def test_an_open_loop_runs_what_fits_however_few() -> None:
    """An RTX 5090 has 14 GB beside the weights: three prompts of 28,650 tokens, not 256 of them."""
    said = {**ROW, "gpu": "rtx-5090", "isl": "28650", "osl": "256", "lengths": "exact"}
    opened = {**said, "arrival": "poisson", "rate": "2", "requests": "100", "concurrency": ""}
    rows = servers([opened, {**said, "concurrency": "3"}], measured=False)
    found = [p for p in predict(rows, catalog.serving_profile(), catalog.engine()) if isinstance(p, PredictedRow)]
    assert found[0].tpot < 2 * found[1].tpot and "memory rules" not in " ".join(found[0].notes)
    (none,) = predict(servers([{**opened, "gpu": "v100-16gb"}], measured=False), catalog.serving_profile(),
                      catalog.engine())  # fmt: skip
    assert isinstance(none, PredictedRow) and "no request fits" in " ".join(none.notes)


def test_requests_that_come_faster_than_they_can_leave_are_noted() -> None:
    said = {**ROW, "arrival": "poisson", "concurrency": "", "rate": "1000"}
    rows = servers([said, {**said, "requests": "2000"}, {**said, "rate": "1"}], measured=False)
    endless, run, steady = (
        "; ".join(p.notes)
        for p in predict(rows, catalog.serving_profile(), catalog.engine())
        if isinstance(p, PredictedRow)
    )
    assert "1000 requests a second come and" in endless and "no wait is counted" in endless
    assert "those beyond wait" in run and "can leave" not in steady


def test_engines_admit_at_the_present_length() -> None:
    """Where answers are long, more run than memory holds at their ends; TensorRT-LLM reserves these ends."""
    long = {**ROW, "isl": "100", "osl": "8000", "concurrency": "2000", "requests": "20000"}
    present, final = (room_of(good(**{**long, "engine": e}), catalog.engine())[0] for e in ("vllm", "trtllm"))
    assert present == pytest.approx(final * 8100 / 4100, rel=0.02)


def test_nvlink_ends_with_the_node() -> None:
    nvl, whole = catalog.gpu("h100-nvl"), catalog.gpu("h100")
    assert link_of(nvl, good(tp="2").parallel) == nvl.link and nvl.joined == 2 and nvl.pcie == 64e9
    profile, whole_model = catalog.serving_profile(), {"model": "llama3.1-70b", "isl": "8000"}
    found = predict([good(gpu="h100-nvl", tp=n, **whole_model) for n in ("2", "4")], profile, catalog.engine())
    pair, four = [p.ttft for p in found if isinstance(p, PredictedRow)]
    assert four > 1.2 * pair, "a prompt's messages take longer over PCIe than two more GPUs save"
    assert link_of(whole, good(tp="8").parallel) == whole.link


def test_releases_are_told_from_names_of_images_and_days() -> None:
    assert release_of("lmsysorg/sglang:v0.5.12-rocm700") == "0.5.12" and release_of("nightly-dev") == "nightly-dev"
    assert era_of("vllm", "0.7.3") == era_of("vllm", "2024-06") == "vllm V0"
    assert era_of("vllm", "0.8") == era_of("trtllm", "1.0") == "" and era_of("vllm", "0.7") == "vllm V0"
    assert era_of("vllm", "0.11.0") == era_of("vllm", "") == era_of("vllm", "2025-09 (V1)") == ""
    new, old = launch_of("vllm", "0.2.1", "hopper"), launch_of("vllm", "2023-11", "ampere")
    assert 0 < new == pytest.approx(old / 1.5)
    assert launch_of("vllm", "0.5.0", "hopper") == 0 and launch_of("sglang", "0.2.1", "hopper") == 0


def test_late_2023_vllm_takes_a_floor_of_time_whatever_its_tensor_parallelism() -> None:
    """Published: 28 ms a step for a Llama 2 70B on H100s."""
    rows = [
        {**ROW, "model": "llama2-70b", "tp": tp, "concurrency": "1", "engine_version": "0.2.1"} for tp in ("4", "8")
    ]
    found = predict(servers(rows, measured=False), catalog.serving_profile(), catalog.engine())
    assert [p.tpot for p in found if isinstance(p, PredictedRow)] == pytest.approx([0.030, 0.028], rel=0.12)
