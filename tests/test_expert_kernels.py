"""Kernels of experts beside servers: shares of the datasheet as kvplan counts bytes and FLOPs."""

import sys
from pathlib import Path

import pytest

from kvplan import catalog

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from expert_kernels import beside, reached, served

SHAPE = {"engine": "vllm", "hidden": "4096", "inter": "1536", "topk": "8", "experts": "128", "tp": "1", "ep": "1"}
#: an expert's three matrices
PARAMETERS = 3 * 4096 * 1536


def kernel(gpu: str, tokens: int, seconds: float, form: str = "8 bits") -> dict[str, str]:
    return {**SHAPE, "gpu": gpu, "tokens": str(tokens), "format": form, "latency": str(1e3 * seconds)}


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_one_token_reads_the_experts_it_picks(share: float) -> None:
    h200 = catalog.gpu("h200")
    seconds = 8 * PARAMETERS / h200.bandwidth / share
    assert reached(kernel("h200", 1, seconds), h200).bandwidth == pytest.approx(share, rel=1e-6)


def test_many_tokens_multiply_with_as_many_experts_each_at_the_rate_of_the_format() -> None:
    h200 = catalog.gpu("h200")
    seconds = 2 * 8 * 8192 * PARAMETERS / (h200.fp8 or 1.0) / 0.3
    assert reached(kernel("h200", 8192, seconds), h200).rate == pytest.approx(0.3, rel=1e-6)
    wide = 2 * 8 * 8192 * PARAMETERS / h200.wide / 0.3
    unpacked = reached(kernel("h200", 8192, wide, "4 bits"), h200)
    assert unpacked.rate == pytest.approx(0.3, rel=1e-6) and unpacked.who == ("hopper", "vllm", "4 bits, unpacked")


def test_ranks_share_experts_and_their_tokens() -> None:
    h200 = catalog.gpu("h200")
    whole = reached(kernel("h200", 8192, 0.01), h200)
    halves = reached({**kernel("h200", 8192, 0.01), "tp": "2"}, h200)
    assert halves.bandwidth == pytest.approx(whole.bandwidth / 2) and halves.rate == pytest.approx(whole.rate / 2)


def test_medians_stand_beside_what_the_profile_has_for_a_server_there() -> None:
    profile, h200 = catalog.serving_profile(), catalog.gpu("h200")
    seconds = 8 * PARAMETERS / h200.bandwidth
    rows = [kernel("h200", 1, seconds / share) for share in (0.2, 0.5, 0.6)] + [kernel("b200", 8192, 1e-3)]
    b200, hopper = beside(rows, profile)
    assert hopper.kernels == 3 and hopper.bandwidth == pytest.approx(0.5) and hopper.rate is None
    assert b200.bandwidth is None and b200.rate
    assert (hopper.served_bandwidth, hopper.served_rate) == served(profile, h200, hopper.who)
    assert 0.3 < hopper.served_bandwidth < 1 and 0 < hopper.served_rate < 0.6
