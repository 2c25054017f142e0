"""One forward pass of Llama-3.1-70B, worked by hand."""

import pytest

from kvplan.kv.budget import Parallel, weights
from kvplan.kv.layout import kv_layout
from kvplan.perf.operators import decode_step, prefill, total_time, touched
from kvplan.specs import catalog

MODEL = catalog.model("llama3.1-70b")
LAYOUT = kv_layout(MODEL, 16)
HELD = weights(MODEL)
EMBEDDING = 128256 * 8192


def parts(operators):
    return {o.name: o for o in operators}


def test_decode_reads_every_weight_once_and_every_cache_byte() -> None:
    step = parts(decode_step(MODEL, LAYOUT, HELD, Parallel(), batch=8, length=4096))
    layers = MODEL.parameters - 2 * EMBEDDING - 8192
    assert step["dense weights"].bytes == 2 * layers
    assert step["output head"].bytes == 2 * EMBEDDING
    assert step["attention"].bytes == 8 * 4096 * 327_680
    assert step["attention"].flops == 8 * 4096 * 80 * 4 * 64 * 128  # 4 FLOP per query head, width and cached token
    assert step["dense weights"].flops == 2 * 8 * layers


def test_tensor_parallel_halves_bytes_and_sends_two_messages_a_layer() -> None:
    one = parts(decode_step(MODEL, LAYOUT, HELD, Parallel(), batch=8, length=4096))
    two = parts(decode_step(MODEL, LAYOUT, HELD, Parallel(tensor=2), batch=8, length=4096))
    assert two["attention"].bytes == one["attention"].bytes / 2
    assert two["all-reduce"].messages == 160
    assert two["all-reduce"].message == 8 * 8192 * 2  # 2 (n - 1) / n of it, n = 2
    assert "all-reduce" not in one


def test_prefill_flops() -> None:
    pre = parts(prefill(MODEL, LAYOUT, LAYOUT, HELD, Parallel(), tokens=8192, chunk=8192))
    assert pre["dense weights"].flops == pytest.approx(2 * 8192 * (MODEL.parameters - 2 * EMBEDDING - 8192))
    assert pre["attention (prefill)"].flops == 80 * 4 * 64 * 128 * 8192 * 8193 / 2


@pytest.mark.parametrize(
    ("experts", "used", "tokens", "expected"),
    [(8, 2, 1, 2.0), (256, 8, 1, 8.0), (128, 4, 10**6, 128.0), (4, 2, 2, 3.0)],
)
def test_distinct_experts(experts: int, used: int, tokens: int, expected: float) -> None:
    assert touched(experts, used, tokens) == pytest.approx(expected)


def test_bigger_batches_share_the_weights() -> None:
    c = catalog.datasheet_calibration(catalog.gpu("h200"))
    times = [
        total_time(decode_step(MODEL, LAYOUT, HELD, Parallel(tensor=4), batch=b, length=4096), c) for b in (1, 8, 64)
    ]
    assert times == sorted(times) and times[1] < 2 * times[0]


def test_a_slower_gpu_is_slower() -> None:
    times = {}
    for name in ("h200", "h100-sxm", "a100-80gb-sxm", "l4"):
        c = catalog.datasheet_calibration(catalog.gpu(name))
        times[name] = total_time(decode_step(MODEL, LAYOUT, HELD, Parallel(tensor=8), batch=4, length=8192), c)
    assert list(times) == sorted(times, key=times.__getitem__)


def test_attention_data_parallel_ranks_share_experts_only() -> None:
    """DeepSeek-V3 on 8 GPUs: dp8 keeps one latent a rank where tp8 keeps eight copies; experts divide either way."""
    model = catalog.model("deepseek-v3")
    held, layout = weights(model), kv_layout(model, 16)
    tensor, data = Parallel(tensor=8), Parallel(data=8)
    experts = sum(s.routed for s in held.layers)
    assert held.per_gpu(data) == pytest.approx(held.total - experts + experts / 8)
    assert held.per_gpu(tensor) < held.per_gpu(data)
    steps = {p: parts(decode_step(model, layout, held, p, batch=64, length=8192)) for p in (tensor, data)}
    assert steps[data]["attention"].bytes == steps[tensor]["attention"].bytes / 8
    assert steps[data]["experts"].bytes == pytest.approx(steps[tensor]["experts"].bytes)
    assert steps[data]["all-to-all"].messages == 2 * 58 and "all-reduce" not in steps[data]
