"""What stands beside a percentile of TTFT: jumps between kinds of requests, and replicas near the most they can do."""

from dataclasses import replace

import pytest

import kvplan
from kvplan import catalog
from kvplan.planning.load import at_rate, survey
from kvplan.planning.percentiles import NEAR_FULL, jump, near_full, sides
from kvplan.planning.planned import PlannedReplica
from kvplan.planning.site import Limits

ON = "2026-11-24"
ASK = {"gpus": "h100", "techniques": "baseline", "weights": "bf16", "ttft": "20s", "on": ON}


def planned(workload: str, percentile: str, **more: str):
    return kvplan.recommend(workload, "llama3.1-8b", percentile=percentile, **{**ASK, **more})


@pytest.mark.parametrize("workload", ["doc-qa", "legal-contracts", "chat", "rag"])
def test_a_planned_replica_has_the_times_that_the_search_gave(workload: str) -> None:
    r = planned(workload, "95%")
    one = PlannedReplica(demand=r.demand, plan=r.plan, site=r.site)
    assert one.ttft(0.95) == pytest.approx(r.plan.ttft, rel=1e-9)
    below, above = sides(0.95)
    assert one.ttft(below) <= r.plan.ttft <= one.ttft(above) and one.ttft(below) < one.ttft(above)


def test_it_is_as_full_as_load_has_it() -> None:
    from test_queueing import made

    r = planned("chat", "95%")
    one = PlannedReplica(demand=r.demand, plan=r.plan, site=r.site)
    s = made("chat", "llama3.1-8b", "h100", r.plan.parallel.tensor)
    rate = float(one.crowd.rate(one.serving)[0])
    assert one.fullness == pytest.approx(rate / s.most_rate, rel=0.02)
    assert at_rate(s, rate, r.demand.waits_at[1]).ttft.p95 == pytest.approx(r.plan.ttft, rel=0.01)


def test_a_percentile_at_which_hits_end_names_both_kinds() -> None:
    """Of eight requests to a contract seven hit; P80 lies between them and those that wait until it is read."""
    misses, _ = catalog.workload("legal-contracts").prefix_classes
    assert misses[0] == pytest.approx(1 / 8)
    assert any(
        "TTFT jumps at P80: 78 % of the requests keep" in note for note in planned("legal-contracts", "80%").warnings
    )
    assert not any("jumps" in note for note in planned("legal-contracts", "95%").warnings)


def test_a_wait_that_only_grows_is_no_jump() -> None:
    assert not jump(0.95, 1.0, 1.9) and "95" in jump(0.95, 1.0, 2.1)
    assert sides(0.99) == pytest.approx((0.985, 0.995)) and sides(0.5) == pytest.approx((0.48, 0.52))
    assert not near_full(NEAR_FULL) and "81 %" in near_full(0.81)


def test_replicas_near_saturation_are_told_in_plans() -> None:
    full = planned("code-review", "50%", weights="fp8", load="1.05")
    notes = [note for note in full.warnings if "of the most this server can do" in note]
    one = PlannedReplica(demand=full.demand, plan=full.plan, site=full.site)
    assert bool(notes) == (one.fullness > NEAR_FULL)
    assert notes


def test_load_tells_of_a_jump_too() -> None:
    from test_queueing import made

    s = replace(made("legal-contracts", "llama3.1-8b", "h100", 1), percentile=0.8)
    found = survey(s, Limits(), concurrency=None, rate=0.1, burstiness=1.0, today=ON)
    assert any("TTFT jumps at P80" in note for note in found.warnings)
    (p,) = found.points
    low, high = p.beside(0.8)
    assert 2 * low <= high and low <= p.ttft.at_percentile <= high
