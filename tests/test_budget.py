"""A GPU's memory: lines that sum to the total, and the KV room vLLM logs."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from releases import every_release

import kvplan
from kvplan import catalog
from kvplan.catalog.shelves import document
from kvplan.errors import KvplanError
from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.profiling import activation_bytes, gathered_bytes
from kvplan.kv.replica import Parallel, replica_shapes, weights
from kvplan.report import estimate as estimate_report
from kvplan.report import load as load_report
from kvplan.report import memory as memory_report
from kvplan.specs.hardware import ENGINE_FIELDS

GIB = 2**30
H100, ENGINE = catalog.gpu("h100"), catalog.engine("vllm")


def budget(name: str, gpu=H100, parallel: Parallel | None = None, engine=ENGINE, bits: float = 16, **more: object):
    model = catalog.model(name)
    where = Deployment(engine=engine, gpu=gpu, parallel=parallel or Parallel(), **more)
    return memory_budget(model, kv_layout(model, bits), where, 8192)


# vLLM 0.11 start-up logs on H100s (79.18 GiB visible), utilisation 0.90, GiB:
# weights, activation peak, outside torch, KV left
LOGS = [
    ("llama3.1-8b", 1, 14.99, 4.76, 0.13, 51.38),
    ("qwen3-0.6b", 1, 1.12, 5.56, 0.13, 64.45),
    ("gpt-oss-20b", 1, 13.47, 7.38, 0.13, 50.28),
    ("qwen3-32b", 2, 30.59, 5.64, 0.54, 34.49),
]


@pytest.mark.parametrize(("name", "tensor", "weight", "activation", "runtime", "room"), LOGS)
def test_kv_room_of_vllm_logs(
    name: str, tensor: int, weight: float, activation: float, runtime: float, room: float
) -> None:
    found = budget(name, parallel=Parallel(tensor=tensor), engine=catalog.engine("vllm@0.11"))
    assert found.kv_cache / GIB == pytest.approx(room, rel=0.015)
    assert found.line("activations") / GIB == pytest.approx(activation, rel=0.005)
    assert found.line("runtime") / GIB == pytest.approx(runtime)
    assert found.line("weights") / GIB == pytest.approx(weight, rel=0.015)


# vLLM 0.19.0 start-up logs on H100s (79.19 GiB), utilisation 0.95, 1,024 sequences, 8,192 tokens, GiB:
# TP, weight format, weights, activation peak, outside torch, tokens of cache (llm-d-planner, accuracy/results/v0.19.0)
LOGS_19 = [
    ("llama3.1-8b", 1, None, 14.99, 1.89, 0.25, 476016),
    ("llama3.1-8b", 2, None, 7.51, 1.89, 2.07, 1044688),
    ("llama3.1-8b", 4, None, 3.77, 1.89, 2.13, 2209792),
    ("llama3.1-8b", 1, "fp8", 8.49, 1.89, 0.25, 529248),
    ("llama3.1-8b", 1, "int4", 5.38, 1.89, 0.25, 554704),
    ("llama3.3-70b", 2, "fp8", 33.88, 1.96, 2.10, 244304),
    ("llama3.3-70b", 4, "fp8", 16.96, 1.97, 2.21, 708992),
    ("qwen2.5-7b", 1, None, 14.25, 2.21, 0.24, 1096000),
    ("qwen2.5-7b", 2, None, 7.12, 2.21, 2.06, 2390592),
    ("qwen2.5-7b", 4, None, 3.55, 2.21, 2.13, 5043280),
    ("qwen2.5-72b", 2, None, 67.80, 2.29, 2.09, 19920),
    ("qwen2.5-72b", 4, None, 34.01, 2.29, 2.21, 481296),
    ("qwen3-8b", 1, None, 15.27, 2.21, 0.25, 418688),
    ("qwen3-30b-a3b", 1, None, 56.88, 2.68, 0.27, 168288),
    ("gemma2-2b", 1, None, 4.90, 3.62, 0.24, 670160),
    ("gemma2-9b", 1, None, 17.22, 3.65, 0.25, 168880),
    ("gemma2-27b", 1, None, 50.72, 3.66, 0.26, 58672),
    ("gemma3-4b", 1, None, 8.58, 3.89, 0.25, 468144),
    ("gemma3-12b", 1, None, 23.31, 3.94, 0.25, 130304),
    ("gemma3-27b", 1, None, 51.45, 3.99, 0.26, 36560),
    ("deepseek-v2-lite", 1, None, 29.43, 1.93, 0.26, 1505552),
    ("mixtral-8x7b", 2, None, 43.51, 1.21, 2.07, 465936),
    ("phi4-14b", 1, None, 27.39, 1.52, 0.25, 241568),
    ("granite3.3-8b", 1, None, 15.25, 0.85, 0.25, 384432),
    ("mistral-small-3.1-24b", 1, None, 44.76, 2.03, 0.25, 184752),
    ("RedHatAI/Mistral-Small-3.1-24B-Instruct-2503-quantized.w8a8", 2, None, 12.11, 2.03, 2.07, 773584),
    ("gpt-oss-20b", 1, None, 13.64, 2.87, 0.25, 1277184),
]


@pytest.mark.parametrize(("name", "tensor", "form", "weight", "activation", "runtime", "tokens"), LOGS_19)
def test_budget_of_vllm_019_logs(
    name: str, tensor: int, form: str | None, weight: float, activation: float, runtime: float, tokens: int
) -> None:
    at = {"engine": catalog.engine("vllm@0.19"), "parallel": Parallel(tensor=tensor), "weights": form}
    found = budget(name, utilization=0.95, **at)
    assert found.kv_tokens == pytest.approx(tokens, rel=0.03)
    assert found.line("activations") / GIB == pytest.approx(activation, rel=0.04)
    assert found.line("runtime") / GIB == pytest.approx(runtime, abs=0.05)
    assert found.line("weights") / GIB == pytest.approx(weight, rel=0.015)


@pytest.mark.parametrize(
    ("name", "tensor", "weight"),
    [("qwen2.5-72b", 2, 67.80), ("moonshotai/Kimi-Dev-72B", 4, 34.01), ("qwen2.5-7b", 1, 14.25), ("phi4-14b", 1, 27.39),
     ("gemma3-12b", 1, 23.31), ("gemma2-2b", 1, 4.90), ("llama3.1-8b", 1, 14.99)],
)  # fmt: skip
def test_the_allocator_rounds_large_tensors_up(name: str, tensor: int, weight: float) -> None:
    """Weights of vLLM 0.19 logs to the printed digit: without rounding Qwen2.5-72B would take 67.72 GiB."""
    found = budget(name, engine=catalog.engine("vllm@0.19"), parallel=Parallel(tensor=tensor))
    assert found.line("weights") / GIB == pytest.approx(weight, abs=0.01)


# Qwen3-14B on one H100, utilisation 0.95: peak, outside torch, KV left, tokens (llm-d-planner, version-sweep)
@pytest.mark.parametrize(
    ("release", "activation", "runtime", "room", "tokens"),
    [("0.15", 5.64, 0.13, 41.94, 274848), ("0.16", 5.64, 0.13, 41.94, 274848), ("0.17", 2.23, 0.13, 45.34, 297152),
     ("0.18.1", 2.23, 0.25, 45.23, 296400)],
)  # fmt: skip
def test_rules_by_release(release: str, activation: float, runtime: float, room: float, tokens: int) -> None:
    found = budget("qwen3-14b", engine=catalog.engine(f"vllm@{release}"), utilization=0.95)
    assert found.line("activations") / GIB == pytest.approx(activation, abs=0.01)
    assert found.line("runtime") / GIB == pytest.approx(runtime)
    assert found.kv_cache / GIB == pytest.approx(room, abs=0.02) and found.kv_tokens == pytest.approx(tokens, rel=1e-3)


@pytest.mark.parametrize(
    ("pipeline", "first", "room", "tokens"), [(2, 1.10, 66.54, 1075312), (4, 1.05, 69.80, 2257264)]
)
def test_early_pipeline_stages_have_no_sampler(pipeline: int, first: float, room: float, tokens: int) -> None:
    """Llama-3.1-8B under vLLM 0.19: the log's lines are the first stage's, its tokens the last's."""
    found = budget(
        "llama3.1-8b", engine=catalog.engine("vllm@0.19"), parallel=Parallel(pipeline=pipeline), utilization=0.95
    )
    early = found.stages[0]
    assert early.kv_cache / GIB == pytest.approx(room, rel=0.01)
    assert early.line("activations") / GIB == pytest.approx(first, rel=0.06)
    assert found.stage == pipeline - 1 and found.kv_tokens == pytest.approx(tokens, rel=0.005)
    assert found.line("runtime") / GIB == pytest.approx(0.07)


def test_cuda_graphs_are_set_aside_from_020_on() -> None:
    """Estimates of vLLM 0.19 logs, which print them without subtracting them: median error below 25 %."""
    printed = [("llama3.1-8b", 0.84), ("qwen2.5-7b", 0.61), ("gemma3-27b", 1.05), ("deepseek-v2-lite", 1.39),
               ("phi4-14b", 0.81), ("granite3.3-8b", 0.74), ("qwen3-30b-a3b", 1.24), ("gemma2-2b", 0.52)]  # fmt: skip
    errors = sorted(abs(budget(name).line("cuda_graphs") / GIB / gib - 1) for name, gib in printed)
    assert errors[len(errors) // 2] < 0.25
    assert "cuda_graphs" not in budget("llama3.1-8b", engine=catalog.engine("vllm@0.19")).amounts
    assert "cuda_graphs" in budget("llama3.1-8b", engine=catalog.engine("vllm@0.20")).amounts
    assert budget("llama3.1-8b", max_num_seqs=4).line("cuda_graphs") < 0.2 * budget("llama3.1-8b").line("cuda_graphs")


def test_data_parallel_ranks_of_experts_lose_much_to_the_estimate_of_graphs() -> None:
    """MiniMax-M2.5, DP2: 245,840 tokens instead of 769,888 (vllm-project/vllm#45178)."""
    parallel, asked = Parallel(data=2), {"bits": 8, "engine": catalog.engine("vllm@0.22")}
    found = budget("minimax-m2.5", catalog.gpu("b200"), parallel, weights="nvfp4", **asked)
    other = budget("minimax-m2.5", catalog.gpu("b200"), parallel, weights="fp8", **asked)
    assert other.line("cuda_graphs") < 2.5 * GIB
    assert found.line("cuda_graphs") == pytest.approx((769_888 - 245_840) * 62 * 2 * 8 * 128, rel=0.002)
    alone = budget("minimax-m2.5", catalog.gpu("b200"), Parallel(tensor=2), weights="nvfp4", **asked)
    assert alone.line("cuda_graphs") < 2.5 * GIB  # one rank alone
    assert found.kv_tokens == pytest.approx(245_840, rel=0.02)
    without = budget("minimax-m2.5", catalog.gpu("b200"), parallel, weights="nvfp4", graphs=False, **asked)
    assert without.kv_tokens == pytest.approx(769_888, rel=0.02)


@pytest.mark.parametrize(("name", "ranks"), [("deepseek-r1", 8), ("qwen3-235b-a22b", 4)])
def test_one_log_of_that_estimate_says_nothing_of_models_of_another_size(name: str, ranks: int) -> None:
    """Scaled by layers x hidden size it would take 140 and 124 GiB, and nothing would fit."""
    asked = {"weights": "nvfp4", "dp": ranks, "gpu": "b200"}
    held = kvplan.memory(name, "8k", kv_dtype="fp8", layout="engine", **asked)
    assert held.budget is not None and held.budget.line("cuda_graphs") < 3 * GIB and not held.reason
    for told in (
        held.warnings,
        kvplan.load(name, technique="fp8", isl="4k", osl="1k", concurrency=8, **asked).warnings,
    ):
        assert any("not counted here" in line and "ESTIMATE_CUDAGRAPHS=0" in line for line in told)
    assert not any("CUDA graphs" in line for line in kvplan.memory(name, "8k", without="graphs", **asked).warnings)


def test_memory_load_and_estimate_count_the_estimate_alike() -> None:
    asked = {"weights": "nvfp4", "dp": 2, "tp": 1}
    held = kvplan.memory("minimax-m2.5", "8k", kv_dtype="fp8", layout="engine", gpu="b200", **asked)
    rows = kvplan.estimate("minimax-m2.5", "8k", gpus="b200", techniques="fp8", **asked)
    row = next(r for r in rows.rows if r.technique == "fp8")
    assert row.budget.line("cuda_graphs") == held.budget.line("cuda_graphs") > 60 * GIB
    loaded = kvplan.load("minimax-m2.5", isl="7k", osl=1024, gpu="b200", technique="fp8", concurrency=4, **asked)
    free = kvplan.load(
        "minimax-m2.5", isl="7k", osl=1024, gpu="b200", technique="fp8", concurrency=4, without="graphs", **asked
    )
    assert free.server.room > 2.5 * loaded.server.room
    for lines in (memory_report.sources(held), estimate_report.source_lines(rows), load_report.sources(loaded.server)):
        assert any("issues/45178" in line for line in lines)
    for told in (held, rows, loaded):
        assert any("can be far too large" in line and "without=graphs" in line for line in told.warnings)


def test_sglang_takes_a_share_of_what_is_free_before_weights() -> None:
    """DeepSeek-R1 in fp8, TP8 on H200, mem_fraction_static 0.82: about 509,000 tokens (ai-dynamo/aisimulate#263)."""
    at = {"engine": catalog.engine("sglang"), "parallel": Parallel(tensor=8), "utilization": 0.82}
    found = budget("deepseek-r1", catalog.gpu("h200"), **at)
    assert found.kv_tokens == pytest.approx(509_000, rel=0.04)
    assert budget("deepseek-r1", catalog.gpu("h200"), max_num_seqs=4, **at).kv_tokens == found.kv_tokens


def test_sglang_leaves_free_what_its_steps_need() -> None:
    """Qwen3-32B on one H100 chose 0.828 (sgl-project/sglang#29092)."""
    assert Deployment(engine=catalog.engine("sglang"), gpu=H100).use == pytest.approx(0.828, abs=0.003)
    assert Deployment(engine=catalog.engine("sglang"), gpu=catalog.gpu("l4")).use > 0.8


def test_tensorrt_llm_takes_a_share_of_what_is_left() -> None:
    found = budget("llama3.1-8b", engine=catalog.engine("trtllm"))
    free = H100.visible_memory - sum(found.line(name) for name in ("weights", "activations", "runtime"))
    assert found.kv_cache == pytest.approx(0.9 * free)


@pytest.mark.parametrize(
    ("release", "chosen"),
    [
        ("0.6.3.post1", "0.6"),
        ("0.7.3", "0.6"),
        ("0.8.5", "0.8"),
        ("0.10.2", "0.9"),
        ("0.11", "0.11"),
        ("0.13.1", "0.11"),
        ("0.16.1", "0.14"),
        ("0.17", "0.17"),
        ("0.18.2", "0.18"),
        ("v0.19.0", "0.19"),
        ("0.20", "0.20"),
        ("0.20.2", "0.20.1"),
        ("0.21", "0.21"),
        ("0.24.1", "0.24"),
        ("0.28.1", "0.28"),
        ("0.99rc1", "0.33"),
    ],
)
def test_the_rules_of_a_release_hold_until_the_next_known(release: str, chosen: str) -> None:
    assert catalog.engine(f"vllm@{release}").release == chosen
    assert catalog.engine("vllm").release == "0.33"


@pytest.mark.parametrize(
    ("word", "said"), [("vllm@0.5", "write vllm@0.6"), ("vllm@new", "write vllm@0.33"), ("vlm", "did you mean 'vllm'")]
)
def test_unknown_releases_are_refused_with_what_to_write(word: str, said: str) -> None:
    with pytest.raises(KvplanError, match=said):
        catalog.engine(word)


@pytest.mark.parametrize("name", catalog.names("engines"))
def test_every_figure_of_an_engine_has_a_source(name: str) -> None:
    with every_release():
        engine = catalog.engine(name)
    unset = {f.name for f in fields(engine) if getattr(engine, f.name) == f.default}
    assert set(ENGINE_FIELDS) - unset - {"release", "version"} <= set(engine.sources)


@pytest.mark.parametrize("name", catalog.names("engines"))
def test_every_release_can_be_asked_for_and_the_newest_is_the_usual_one(name: str) -> None:
    with every_release():
        releases = [str(r) for r in document("engines", name)["releases"]]
        assert [catalog.engine(f"{name}@{r}").release for r in releases] == releases
        assert catalog.engine(name).version == f"{releases[-1]} and later", "files have the newest last"


@given(
    st.sampled_from(catalog.names("models")),
    st.sampled_from(catalog.names("gpus")),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(0.1, 1),
    st.sampled_from(catalog.names("engines")),
)
def test_lines_sum_to_the_total(name: str, gpu: str, tensor: int, use: float, engine: str) -> None:
    whose = catalog.engine(engine)
    found = budget(name, catalog.gpu(gpu), Parallel(tensor=tensor), whose, utilization=use)
    assert sum(line.amount for line in found.lines) == pytest.approx(found.total)
    visible = catalog.gpu(gpu).visible_memory
    if whose.pool != "free":
        assert found.total == pytest.approx(visible * (use if whose.pool == "profiled" else 1))
    assert found.total <= visible * (1 + 1e-9)


def test_tensor_parallel_parts_add_up_to_the_whole_and_replicas() -> None:
    """Llama-3.1-70B at TP8: everything divides but the norms."""
    held = weights(catalog.model("llama3.1-70b"))
    norms = (80 * 2 + 1) * 8192 * 2
    assert held.per_gpu(Parallel(tensor=8)) * 8 == pytest.approx(held.total + 7 * norms)
    # beyond 8 KV heads, k and v are replicated
    kv = 80 * 2 * 1024 * 8192 * 2
    assert held.per_gpu(Parallel(tensor=16)) * 16 == pytest.approx(held.total + 15 * norms + kv)


def test_pipeline_stages_hold_their_layers() -> None:
    held = weights(catalog.model("llama3.1-70b"))
    two = held.per_gpu(Parallel(pipeline=2))
    layers = sum(s.total for s in held.layers) / 2
    assert two == pytest.approx(layers + held.outer.total / 2)


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("llama3.1-70b", 70.554e9 * 2 / GIB),
        ("deepseek-v3", 627),  # fp8 matrices, 16-bit embeddings and head; 671 GB would be 625 GiB
        ("gpt-oss-120b", 60.8),  # the model card's checkpoint size, 60.8 GiB
        ("gpt-oss-20b", 12.8),  # the model card's, 12.8 GiB
        ("kimi-k2", 958),
    ],
)
def test_checkpoint_sizes(name: str, gib: float) -> None:
    assert weights(catalog.model(name)).total / GIB == pytest.approx(gib, rel=0.005)


def test_formats_shrink_matrices_only() -> None:
    model = catalog.model("llama3.1-8b")
    outside = 2 * 128256 * 4096 * 2 + (32 * 2 + 1) * 4096 * 2
    matrices = model.parameters * 2 - outside
    assert weights(model, "int4").total == pytest.approx(outside + matrices * (4 + 20 / 128) / 16)


def test_replica_shapes_divide_the_heads() -> None:
    def shapes(name: str) -> list[str]:
        model = catalog.model(name)
        return [str(p) for p in replica_shapes(model, kv_layout(model, 16), H100)]

    assert shapes("qwen2.5-0.5b") == ["tp1", "tp2"]  # 14 heads, 2 for keys and values
    assert shapes("llama3.1-405b")[:5] == ["tp1", "tp2", "tp4", "tp8", "tp8pp2"]
    latent = shapes("deepseek-v3")
    assert {"tp1dp8", "tp2dp4", "tp4dp2", "tp8"} <= set(latent)
    assert len(set(latent)) == len(latent), "no shape is tried twice"


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2-lite"])
def test_the_widest_layer_sets_the_activations(name: str) -> None:
    model, deployment = catalog.model(name), Deployment(engine=catalog.engine("vllm@0.11"), max_num_seqs=1)
    alone = {activation_bytes(replace(model, layers=(layer,)), deployment)[0] for layer in model.distinct_layers}
    assert len(alone) > 1 and activation_bytes(model, deployment)[0] == max(alone)
    # from 0.19 on the buffers of experts stay allocated beside the dense layers
    kept = replace(deployment, engine=catalog.engine("vllm@0.19"))
    alone = {activation_bytes(replace(model, layers=(layer,)), kept)[0] for layer in model.distinct_layers}
    assert max(alone) < activation_bytes(model, kept)[0] < sum(alone)


@pytest.mark.parametrize(
    ("name", "tensor", "gib"),
    [
        ("mixtral-8x7b", 2, 2 * (14_336 / 2 + 28_672 / 2) * 8192 * 2 / GIB),  # measured: 0.65 GiB
        ("qwen3-30b-a3b", 1, 8 * (2048 + 2048) * 8192 * 2 / GIB),  # measured: 0.50; down is wider than up, 2 x 768
        ("deepseek-v2-lite", 1, 6 * (2048 + 2816) * 8192 * 2 / GIB),  # measured: 0.43
    ],
)
def test_two_buffers_of_the_experts_products_stay_beside_the_peak(name: str, tensor: int, gib: float) -> None:
    """Gate and up, and down's output or input, of a token's experts; at 8,192 sequences the sampler sets the peak."""
    engine, model = catalog.engine("vllm@0.19"), catalog.model(name)
    where = Deployment(engine=engine, gpu=H100, parallel=Parallel(tensor=tensor), max_num_seqs=8192)
    freed = replace(where, engine=replace(engine, keeps_workspaces=False))
    kept = activation_bytes(model, where)[0] - activation_bytes(model, freed)[0]
    assert kept / GIB == pytest.approx(gib)


@pytest.mark.parametrize(
    ("name", "hidden", "wide"),
    [
        ("lfm2-1.2b", 2048, 3 * 8192),  # gate, up and their product, and not the short convolution's 2 x 6,144
        ("qwen3.5-27b", 5120, 3 * 17_408),
        ("qwen3.5-0.8b", 1024, 2 * 8192 + 32),  # what goes into the delta net, and not the 3 x 3,584 behind it
    ],
)
def test_the_widest_product_of_a_layer_sets_the_activations(name: str, hidden: int, wide: int) -> None:
    """Beside 4.2 times the hidden states, in 16 bits, for the 8,192 tokens of a step."""
    where = Deployment(engine=catalog.engine("vllm@0.11"), gpu=H100, max_num_seqs=1)
    assert activation_bytes(catalog.model(name), where)[0] == pytest.approx(8192 * 2 * (4.2 * hidden + wide))


@pytest.mark.parametrize(
    ("release", "length", "many"),
    [("0.11", 131_072, 0), ("0.24", 1_048_576, 40), ("0.32", 262_144, 40), ("0.33", 1_048_576, 16)],
)
def test_keys_of_an_indexer_are_gathered_into_a_buffer(release: str, length: int, many: int) -> None:
    """132 B a token of GLM-5.2: 5.16 GiB at 40 x 1,048,576 tokens (vLLM 0.24), 0 of a model that reads all."""
    rules = catalog.engine(f"vllm@{release}")
    assert gathered_bytes(catalog.model("glm-5.2"), rules, length) == many * length * 132
    assert gathered_bytes(catalog.model("deepseek-v4-flash"), rules, length) == many * length * 132 / 4
    assert gathered_bytes(catalog.model("deepseek-v3"), rules, length) == 0


def test_a_step_too_large_is_named_and_not_the_weights() -> None:
    """A million sequences sample 8,192 rows of logits a step: 15 GiB of weights are not what does not fit 79 GiB."""
    found = kvplan.memory("llama3.1-8b", context="8k", gpu="h100", max_num_seqs=1_000_000)
    assert found.reason.startswith("a step's activations do not fit 1x h100-sxm beside the weights: short by ")
    assert "a smaller max_num_seqs=N" in found.reason and "weights=fp8" not in found.reason
    assert found.rooms[-1].kv_cache == 0 < found.rooms[0].kv_cache
