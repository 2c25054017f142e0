"""How long operators take: the corners of the roofline, and everything that adds to it."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.api.sites import site
from kvplan.kv import spelling
from kvplan.kv.model_cache import kv_layout
from kvplan.perf.amounts import Amount
from kvplan.perf.operators import CACHE, ELEMENTS, EXPERTS, NETWORK, PROMPT, WEIGHTS, Operator, attended_at, attention
from kvplan.perf.stacks import FEW, FIELDS, stack
from kvplan.perf.step_time import (
    bound,
    device_time,
    host_time,
    message_time,
    operator_time,
    overhead,
    overlapped,
    reach,
    step_time,
)
from kvplan.specs.calibration import ALL, CACHE4, CACHE8, COUNTS, KERNELS, Calibration, Range
from kvplan.specs.identity import Identity
from kvplan.specs.serving_profile import calibration

TERA = 1e12
#: round numbers: 4 TB/s, 1000 TFLOP/s at 16 bits, nothing else takes time
BARE = Calibration(
    name="bare", engine="vllm", tier="datasheet", mixes=1.0, chunk=8192.0, unpacks8=0.0, unpacks4=0.0,
    tpot=Range(low=1.0, high=1.0), ttft=Range(low=1.0, high=1.0),
    reached={
        **{term.name: 0.0 if term.unit else 1.0 for term in ALL}, **{COUNTS[part]: n for part, n in KERNELS.items()},
        "weights": 4 * TERA, "cache": 3 * TERA, "rate16": 1000 * TERA, "rate8": 2000 * TERA, "rate4": 4000 * TERA,
        "prompt": 500 * TERA, "elements": 2 * TERA, "link": 0.4 * TERA,
    },
)  # fmt: skip


def product(size: float, work: float, **more: object) -> Operator:
    usual = Operator(name="mlp", limit=WEIGHTS, bytes=size, flops=work, kernels="mlp", launches=80.0)
    return usual._replace(**more)


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
        (EXPERTS, 16.0, 4e9 / (4e12 * 0.8)), (CACHE, 16.0, 4e9 / 3e12), (CACHE, 8.0, 4e9 / (3e12 * CACHE8)),
        (CACHE, 4.0, 4e9 / (3e12 * CACHE4)), (PROMPT, 16.0, 4e9 / 2e12), (ELEMENTS, 16.0, 4e9 / 2e12),
    ],
)  # fmt: skip
def test_each_limit_has_its_bandwidth(limit: str, bits: float, expected: float) -> None:
    c = BARE.moved(weights8=0.9, weights4=0.7, experts=0.8)
    assert operator_time(Operator(name="x", limit=limit, bytes=4e9, bits=bits), c) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limit", "bits", "expected"),
    [
        (WEIGHTS, 16.0, 1e-3), (WEIGHTS, 8.0, 5e-4), (WEIGHTS, 4.0, 2.5e-4), (EXPERTS, 8.0, 1e-3),
        (CACHE, 8.0, 2e-3), (PROMPT, 16.0, 2e-3), (ELEMENTS, 16.0, 0.0),
    ],
)  # fmt: skip
def test_each_limit_has_its_rate(limit: str, bits: float, expected: float) -> None:
    c = BARE.moved(experts_rate=0.5)
    assert operator_time(Operator(name="x", limit=limit, flops=1e12, bits=bits), c) == pytest.approx(expected)


def test_messages_cost_a_start_and_their_bytes() -> None:
    sent = Operator(name="all-reduce", limit=NETWORK, messages=160.0, message=4e8)
    c = BARE.moved(message=5e-6)
    assert operator_time(sent, c) == pytest.approx(160 * 5e-6 + 1e-3)
    assert bound(sent, c) == "network" and reach(sent, c) == pytest.approx(1e-3 / 1.8e-3)


def test_gpus_that_pcie_joins_share_it() -> None:
    """512 MiB on 8 L40S took 649 ms and on 2 of them 26.7 ms (NCCL 2.27): 0.175 and 0.63 of a part of 32 GB/s."""
    l40s = catalog.calibration(catalog.gpu("l40s")).moved(message=0.0, pace=1.0)
    for ranks, share, measured in ((8, 0.175, 0.649), (2, 0.63, 0.0267)):
        o = Operator(name="x", limit=NETWORK, message=2 * (ranks - 1) / ranks * 536.9e6, ranks=ranks)
        assert operator_time(o, l40s.moved(bridge=share * 32e9)) == pytest.approx(measured, rel=0.05)
    many = Operator(name="x", limit=NETWORK, message=1e9, ranks=8)
    assert operator_time(many, BARE) == operator_time(many._replace(ranks=2), BARE)


def test_messages_that_cross_pcie_take_longer_to_start_and_their_own_share() -> None:
    apart, joined = (catalog.calibration(catalog.gpu(name)) for name in ("l40s", "h100"))
    values = {"link": 0.5, "bridge": 0.2, "message": 4e-6, "pace": inf}  # a pace that bends no share
    assert (apart.joined, joined.joined) == (1, inf)
    known = {**catalog.serving_profile().values(Identity(gpu="", engine="vllm")), **values}
    common = {"engine": "vllm", "mixes": 1.0, "tpot": BARE.tpot, "ttft": BARE.ttft, "name": "", "tier": ""}
    pcie, nvlink = (calibration(known, gpu=catalog.gpu(name), **common) for name in ("l40s", "h100"))
    sent = Operator(name="all-reduce", limit=NETWORK, messages=160.0, message=4e8)
    assert pcie.link == pytest.approx(0.2 * 32e9)
    assert message_time(sent, pcie) == pytest.approx(160 * 12e-6 + 4e8 / (0.2 * 32e9))
    assert message_time(sent, nvlink) == pytest.approx(160 * 4e-6 + 4e8 / (0.5 * 450e9))


def test_messages_beyond_a_bridged_pair_cross_pcie_at_its_own_share() -> None:
    """Two H100 NVL have their bridge's 300 GB/s; four share PCIe 5.0's 64 GB/s, as PCIe cards share theirs."""
    nvl = catalog.calibration(catalog.gpu("h100-nvl")).moved(message=4e-6, link=150e9, bridge=0.2 * 64e9)
    sent = Operator(name="all-reduce", limit=NETWORK, messages=160.0, message=4e8)
    assert message_time(sent._replace(ranks=2), nvl) == pytest.approx(160 * 4e-6 + 4e8 / 150e9)
    assert message_time(sent._replace(ranks=4), nvl) == pytest.approx(160 * 12e-6 + 2 * 4e8 / (0.2 * 64e9))
    assert catalog.gpu("h100-nvl").pcie == 64e9 and catalog.gpu("l40s").pcie == 32e9
    assert catalog.gpu("h200-nvl").joined == 4 and catalog.gpu("h200").joined == inf


def test_launches_add_and_more_so_beside_prompts() -> None:
    c = BARE.moved(kernel=4e-6, eager=2e-6)
    small = product(0.0, 0.0)
    assert operator_time(small, c) == pytest.approx(80 * KERNELS["mlp"] * 4e-6)
    assert operator_time(small, c, prompts=True) == pytest.approx(80 * KERNELS["mlp"] * 6e-6)
    assert operator_time(small._replace(kernels=""), c) == pytest.approx(0.0, abs=1e-20)
    assert bound(small, c) == "overhead" and reach(product(4e9, 0.0), c) < 1


def test_the_engine_takes_its_part_once_and_by_sequence() -> None:
    c = BARE.moved(step=1e-3, sequence=1e-5)
    assert overhead(c, 64.0) == pytest.approx(1.64e-3)
    found = [product(4e9, 1e10), Operator(name="all-reduce", limit=NETWORK, messages=1.0, message=4e8)]
    assert step_time(found, c, 64.0) == pytest.approx(sum(operator_time(o, c) for o in found) + 1.64e-3)
    assert step_time([], c, 0.0) == pytest.approx(1e-3)


def test_a_format_the_gpu_lacks_is_unpacked() -> None:
    c = replace(BARE, unpacks4=1.0).moved(emulated=0.5)
    assert operator_time(product(4e9, 0.0, bits=4.0), c) == pytest.approx(2e-3)
    assert operator_time(product(4e9, 0.0, bits=8.0), c) == pytest.approx(1e-3)


def test_without_cuda_graphs_the_host_launches_kernel_by_kernel() -> None:
    """80 layers of three kernels and 160 messages at 10 us are 4 ms: a floor under 1 ms, nothing beside 40 ms."""
    sent = Operator(name="all-reduce", limit=NETWORK, messages=160.0, message=0.0)
    for work, expected in ((4e9, 4e-3), (160e9, 40e-3)):
        found, c = [product(work, 0.0), sent], replace(BARE, launch=10e-6)
        assert host_time(found, c) == pytest.approx(10e-6 * (80 * KERNELS["mlp"] + 160))
        assert step_time(found, c, 1.0) == pytest.approx(expected, rel=0.01)
        assert step_time(found, BARE, 1.0) == pytest.approx(work / 4e12)


def test_a_term_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no term 'speed'"):
        BARE.moved(speed=1.0)
    with pytest.raises(AttributeError, match="no term 'speed'"):
        _ = BARE.speed


def test_pace_scales_everything() -> None:
    c = BARE.moved(kernel=4e-6, step=1e-3, sequence=1e-5, message=5e-6)
    found = [product(4e9, 1e12), Operator(name="all-reduce", limit=NETWORK, messages=8.0, message=4e8)]
    once, twice = (step_time(found, c.moved(pace=p), 8.0) for p in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    assert reach(found[0], c.moved(pace=2.0)) == pytest.approx(reach(found[0], c))


AMOUNT = st.floats(0, 1e12)
FASTER = ("weights", "cache", "rate16", "rate8", "prompt", "elements", "link")
SLOWER = ("message", "kernel", "eager", "step", "sequence")


@given(AMOUNT, AMOUNT, st.sampled_from((WEIGHTS, EXPERTS, CACHE, PROMPT, ELEMENTS)), st.sampled_from(FASTER))
def test_a_faster_device_is_never_slower(size: float, work: float, limit: str, name: str) -> None:
    c = BARE.moved(kernel=4e-6, step=1e-3, message=5e-6)
    found = [
        product(size, work * 1e3, limit=limit),
        Operator(name="all-reduce", limit=NETWORK, messages=2.0, message=size),
    ]
    slow, fast = (step_time(found, d, 4.0) for d in (c, c.moved(**{name: 2 * getattr(c, name)})))
    assert fast <= slow * (1 + 1e-12)


@given(AMOUNT, AMOUNT, st.floats(1.0, 3.0), st.sampled_from(SLOWER))
def test_more_work_or_overhead_is_never_faster(size: float, work: float, more: float, name: str) -> None:
    c = BARE.moved(kernel=4e-6, eager=1e-6, step=1e-3, sequence=1e-5, message=5e-6)
    one, larger = ([product(size * k, work * k)] for k in (1.0, more))
    assert step_time(one, c, 4.0, True) <= step_time(larger, c, 4.0 * more, True) * (1 + 1e-12)
    dearer = c.moved(**{name: getattr(c, name) * more})
    assert step_time(one, c, 4.0, True) <= step_time(one, dearer, 4.0, True) * (1 + 1e-12)


def test_arrays_and_floats_agree() -> None:
    c = BARE.moved(kernel=4e-6, step=1e-3, sequence=1e-5, message=5e-6, weights8=0.9, weights4=0.7)
    sizes, works, bits = np.array([0.0, 4e9, 4e7]), np.array([1e12, 1e12, 0.0]), np.array([16.0, 8.0, 4.0])
    many = step_time([product(sizes, works, bits=bits)], c, np.array([1.0, 2.0, 3.0]), True)
    for i in range(3):
        one = step_time([product(float(sizes[i]), float(works[i]), bits=float(bits[i]))], c, i + 1.0, True)
        assert one == pytest.approx(many[i], rel=1e-12)


def test_operators_side_by_side_take_as_long_as_one_by_one() -> None:
    """Of every technique: what one of them unpacks, rebuilds or fetches is its own, wherever it stands in the list."""
    model = catalog.model("llama3.1-8b")
    base, c = kv_layout(model, 16.0), site(catalog.gpu("h100-sxm"), model, "2026-11-24").calibration
    lists = [
        attention(attended_at(spelling.apply(name, base), base, 1, 16_384, 0), 8.0, None)
        for name in ("baseline", "turboquant:4", "mhc:2x", "shadowkv", "fp8")
    ]
    for order in (lists, lists[::-1]):
        together = device_time(stack(order), c)
        assert together == pytest.approx([device_time(each, c) for each in order])
    assert {*FIELDS, *FEW} == {f for f, kind in Operator.__annotations__.items() if kind is Amount}
