"""A GPU's memory: lines that sum to the total, and the KV room vLLM logs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.kv.budget import Deployment, activation_bytes, memory_budget
from kvplan.kv.layout import kv_layout
from kvplan.kv.replica import Parallel, replica_shapes, weights

GIB = 2**30
H100, ENGINE = catalog.gpu("h100"), catalog.engine("vllm")


def budget(name: str, gpu=H100, parallel: Parallel | None = None, **more: object):
    model = catalog.model(name)
    where = Deployment(engine=ENGINE, gpu=gpu, parallel=parallel or Parallel(), **more)
    return memory_budget(model, kv_layout(model, 16), where, 4096)


# vLLM start-up logs on one H100 (79.18 GiB visible), utilisation 0.90, GiB:
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
    found = budget(name, parallel=Parallel(tensor=tensor))
    assert found.kv_cache / GIB == pytest.approx(room, rel=0.015)
    assert found.line("activations") / GIB == pytest.approx(activation, rel=0.005)
    assert found.line("runtime") / GIB == pytest.approx(runtime)
    # the log's weights include buffers and padding of quantised experts (gpt-oss)
    assert found.line("weights") / GIB == pytest.approx(weight, rel=0.05)


@given(
    st.sampled_from(catalog.names("models")),
    st.sampled_from(catalog.names("gpus")),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(0.1, 1),
)
def test_lines_sum_to_the_total(name: str, gpu: str, tensor: int, use: float) -> None:
    found = budget(name, catalog.gpu(gpu), Parallel(tensor=tensor), utilization=use)
    assert sum(line.amount for line in found.lines) == pytest.approx(found.total)
    assert found.total == pytest.approx(catalog.gpu(gpu).visible_memory * use)


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
    assert {"tp1dp8", "tp2dp4", "tp4dp2", "tp8"} <= set(shapes("deepseek-v3"))


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2-lite"])
def test_the_widest_layer_sets_the_activations(name: str) -> None:
    model, deployment = catalog.model(name), Deployment(engine=catalog.engine("vllm"), max_num_seqs=1)
    alone = {activation_bytes(replace(model, layers=(layer,)), deployment)[0] for layer in model.distinct_layers}
    assert len(alone) > 1 and activation_bytes(model, deployment)[0] == max(alone)
