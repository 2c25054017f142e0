"""Tiers of prefix caches: their sizes and times by hand, and what they change in a plan."""

import pytest

import kvplan
from kvplan.kv.tiers import C2C, TIERS, bandwidth
from kvplan.planning.prompts import kept_prefixes
from kvplan.units import MONTH

DAY = "2026-11-24"


def test_a_hit_is_a_transfer_and_a_miss_a_prefill() -> None:
    """80 % of 66,840 tokens of Llama-3.1-8B are 53,512 x 131,072 B = 7.01 GB, at 51 GB/s 0.1375 s."""
    found = kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, on=DAY)
    gpu, cpu, ssd, remote = found.tiers
    share = found.workload.prefix_share
    prefix = round(found.estimate.query.prompt * share) * 131_072
    assert cpu.transfer == pytest.approx(prefix / 51e9) and ssd.transfer == pytest.approx(prefix / 6e9)
    lone = found.rows[0].row.lone.ttft
    assert cpu.miss == lone and cpu.hit == pytest.approx(cpu.transfer + lone * (1 - share)) and gpu.transfer is None
    assert [t.room for t in (cpu, ssd, remote)] == pytest.approx([gpu.room + x for x in (200e9, 3.2e12, 23.2e12)])
    assert gpu.found <= cpu.found <= ssd.found <= remote.found <= 1 and cpu.hit < cpu.miss
    # what computing the prefix costs, over what its bytes cost a second
    price = found.estimate.sites[0].price.price
    assert cpu.worth == pytest.approx(lone * share * price / (prefix / 1e9 * TIERS["cpu"].usd / MONTH))
    assert cpu.month == pytest.approx(200 * 0.17)


def test_prefixes_are_found_by_che_s_approximation() -> None:
    found = kvplan.techniques("llama3.1-8b", "doc-qa", techniques="fp8", tp=1, on=DAY)
    row = found.rows[0].row
    for tier in found.tiers:
        requests = tier.room / row.layout.stored(row.context)
        rate = 1 / row.query_seconds
        assert tier.found == pytest.approx(float(kept_prefixes(found.workload, room=requests, rate=rate)))


def test_no_tiers_without_shared_prefixes_and_superchips_read_faster() -> None:
    assert kvplan.techniques("llama3.1-8b", "chat", techniques="fp8", on=DAY).tiers == ()
    assert bandwidth(TIERS["cpu"], "gb200") == C2C > bandwidth(TIERS["cpu"], "h100-sxm") == 51e9
    assert bandwidth(TIERS["ssd"], "gb200") == TIERS["ssd"].bandwidth


def test_offloading_finds_more_prefixes_and_each_waits_for_its_transfer() -> None:
    asked = {"gpus": "h100", "ttft": "30s", "weights": "bf16", "on": DAY}
    plain, beside = (
        kvplan.recommend("doc-qa", "llama3.1-70b", techniques=name, **asked).plan
        for name in ("baseline", "offload:cpu")
    )
    assert plain is not None and beside is not None
    assert beside.cached_share >= plain.cached_share and beside.usd <= plain.usd * 1.001
    assert beside.quality.drop == 0 and beside.served_by_engine
