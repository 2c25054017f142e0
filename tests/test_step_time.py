"""How long operators take: the corners of the roofline, and everything that adds to it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.perf.operators import CACHE, ELEMENTS, EXPERTS, NETWORK, PROMPT, WEIGHTS, Operator
from kvplan.perf.step_time import bound, operator_time, overhead, overlapped, reach, step_time
from kvplan.specs.calibration import Calibration, Range
from kvplan.specs.serving_profile import KERNELS

TERA = 1e12
#: round numbers: 4 TB/s, 1000 TFLOP/s at 16 bits, nothing else takes time
BARE = Calibration(
    name="bare", engine="vllm", tier="datasheet", weights=4 * TERA, weights8=1.0, weights4=1.0, experts=1.0,
    experts_rate=1.0, cache16=3 * TERA, cache8=2 * TERA, cache4=1 * TERA, rate16=1000 * TERA, rate8=2000 * TERA,
    rate4=4000 * TERA, prompt=500 * TERA, elements=2 * TERA, link=0.4 * TERA, message=0.0, kernel=0.0,
    kernels=KERNELS, eager=0.0, step=0.0, sequence=0.0, request=0.0, poll=0.0, wait=1.0, burst=0.0, jitter=1.0,
    accepted=1.0, pace=1.0, mixes=1.0, chunk=8192.0, tpot=Range(low=1.0, high=1.0), ttft=Range(low=1.0, high=1.0),
)  # fmt: skip


def product(size: float, work: float, **more: object) -> Operator:
    return replace(Operator(name="mlp", limit=WEIGHTS, bytes=size, flops=work, kernels="mlp", launches=80.0), **more)


def test_far_from_the_corner_one_limit_rules() -> None:
    """Bytes over bandwidth, FLOPs over rate; a tenth as much of the other adds 0.03 %."""
    assert operator_time(product(4e9, 1e10), BARE) == pytest.approx(1e-3, rel=1e-3)
    assert operator_time(product(4e9, 1e11), BARE) == pytest.approx(1e-3, rel=4e-4)
    assert operator_time(product(4e7, 1e12), BARE) == pytest.approx(1e-3, rel=1e-3)
    assert bound(product(4e9, 1e11), BARE) == "memory" and bound(product(4e7, 1e12), BARE) == "compute"
    assert reach(product(4e9, 1e11), BARE) == pytest.approx(1.0, abs=1e-3)


def test_at_the_corner_a_quarter_is_lost() -> None:
    corner = product(4e9, 1e12)
    assert operator_time(corner, BARE) == pytest.approx(1e-3 * 2 ** (1 / 3))
    assert reach(corner, BARE) == pytest.approx(2 ** (-1 / 3))


@given(*[st.just(0.0) | st.floats(1e-12, 1e3)] * 2)
def test_overlap_lies_between_the_longer_and_the_sum(a: float, b: float) -> None:
    both = overlapped(a, b)
    assert max(a, b) * (1 - 1e-12) <= both <= max((a + b) * (1 + 1e-12), 1e-29)
    assert both <= max(a, b) * 2 ** (1 / 3) * (1 + 1e-12) + 1e-29


@pytest.mark.parametrize(
    ("limit", "bits", "expected"),
    [
        (WEIGHTS, 16.0, 4e9 / 4e12), (WEIGHTS, 8.0, 4e9 / (4e12 * 0.9)), (WEIGHTS, 4.0, 4e9 / (4e12 * 0.7)),
        (EXPERTS, 16.0, 4e9 / (4e12 * 0.8)), (CACHE, 16.0, 4e9 / 3e12), (CACHE, 8.0, 4e9 / 2e12),
        (CACHE, 4.0, 4e9 / 1e12), (PROMPT, 16.0, 4e9 / 2e12), (ELEMENTS, 16.0, 4e9 / 2e12),
    ],
)  # fmt: skip
def test_each_limit_has_its_bandwidth(limit: str, bits: float, expected: float) -> None:
    c = replace(BARE, weights8=0.9, weights4=0.7, experts=0.8)
    assert operator_time(Operator(name="x", limit=limit, bytes=4e9, bits=bits), c) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limit", "bits", "expected"),
    [
        (WEIGHTS, 16.0, 1e-3), (WEIGHTS, 8.0, 5e-4), (WEIGHTS, 4.0, 2.5e-4), (EXPERTS, 8.0, 1e-3),
        (CACHE, 8.0, 2e-3), (PROMPT, 16.0, 2e-3), (ELEMENTS, 16.0, 0.0),
    ],
)  # fmt: skip
def test_each_limit_has_its_rate(limit: str, bits: float, expected: float) -> None:
    c = replace(BARE, experts_rate=0.5)
    assert operator_time(Operator(name="x", limit=limit, flops=1e12, bits=bits), c) == pytest.approx(expected)


def test_messages_cost_a_start_and_their_bytes() -> None:
    sent = Operator(name="all-reduce", limit=NETWORK, messages=160.0, message=4e8)
    c = replace(BARE, message=5e-6)
    assert operator_time(sent, c) == pytest.approx(160 * 5e-6 + 1e-3)
    assert bound(sent, c) == "network" and reach(sent, c) == pytest.approx(1e-3 / 1.8e-3)


def test_launches_add_and_more_so_beside_prompts() -> None:
    c = replace(BARE, kernel=4e-6, eager=2e-6)
    small = product(0.0, 0.0)
    assert operator_time(small, c) == pytest.approx(80 * KERNELS["mlp"] * 4e-6)
    assert operator_time(small, c, prompts=True) == pytest.approx(80 * KERNELS["mlp"] * 6e-6)
    assert operator_time(replace(small, kernels=""), c) == pytest.approx(0.0, abs=1e-20)
    assert bound(small, c) == "overhead" and reach(product(4e9, 0.0), c) < 1


def test_the_engine_takes_its_part_once_and_by_sequence() -> None:
    c = replace(BARE, step=1e-3, sequence=1e-5)
    assert overhead(c, 64.0) == pytest.approx(1.64e-3)
    found = [product(4e9, 1e10), Operator(name="all-reduce", limit=NETWORK, messages=1.0, message=4e8)]
    assert step_time(found, c, 64.0) == pytest.approx(sum(operator_time(o, c) for o in found) + 1.64e-3)
    assert step_time([], c, 0.0) == pytest.approx(1e-3)


def test_pace_scales_everything() -> None:
    c = replace(BARE, kernel=4e-6, step=1e-3, sequence=1e-5, message=5e-6)
    found = [product(4e9, 1e12), Operator(name="all-reduce", limit=NETWORK, messages=8.0, message=4e8)]
    once, twice = (step_time(found, replace(c, pace=p), 8.0) for p in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    assert reach(found[0], replace(c, pace=2.0)) == pytest.approx(reach(found[0], c))


AMOUNT = st.floats(0, 1e12)
FASTER = ("weights", "cache16", "cache8", "rate16", "rate8", "prompt", "elements", "link")
SLOWER = ("message", "kernel", "eager", "step", "sequence")


@given(AMOUNT, AMOUNT, st.sampled_from((WEIGHTS, EXPERTS, CACHE, PROMPT, ELEMENTS)), st.sampled_from(FASTER))
def test_a_faster_device_is_never_slower(size: float, work: float, limit: str, name: str) -> None:
    c = replace(BARE, kernel=4e-6, step=1e-3, message=5e-6)
    found = [
        product(size, work * 1e3, limit=limit),
        Operator(name="all-reduce", limit=NETWORK, messages=2.0, message=size),
    ]
    slow, fast = (step_time(found, d, 4.0) for d in (c, replace(c, **{name: 2 * getattr(c, name)})))
    assert fast <= slow * (1 + 1e-12)


@given(AMOUNT, AMOUNT, st.floats(1.0, 3.0), st.sampled_from(SLOWER))
def test_more_work_or_overhead_is_never_faster(size: float, work: float, more: float, name: str) -> None:
    c = replace(BARE, kernel=4e-6, eager=1e-6, step=1e-3, sequence=1e-5, message=5e-6)
    one, larger = ([product(size * k, work * k)] for k in (1.0, more))
    assert step_time(one, c, 4.0, True) <= step_time(larger, c, 4.0 * more, True) * (1 + 1e-12)
    dearer = replace(c, **{name: getattr(c, name) * more})
    assert step_time(one, c, 4.0, True) <= step_time(one, dearer, 4.0, True) * (1 + 1e-12)


def test_arrays_and_floats_agree() -> None:
    c = replace(BARE, kernel=4e-6, step=1e-3, sequence=1e-5, message=5e-6, weights8=0.9, weights4=0.7)
    sizes, works, bits = np.array([0.0, 4e9, 4e7]), np.array([1e12, 1e12, 0.0]), np.array([16.0, 8.0, 4.0])
    many = step_time([product(sizes, works, bits=bits)], c, np.array([1.0, 2.0, 3.0]), True)
    for i in range(3):
        one = step_time([product(float(sizes[i]), float(works[i]), bits=float(bits[i]))], c, i + 1.0, True)
        assert one == pytest.approx(many[i], rel=1e-12)
