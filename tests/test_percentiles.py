"""What stands beside a percentile of TTFT: jumps between kinds of requests, and replicas near the most they can do."""

from dataclasses import replace
from itertools import pairwise

import pytest

import kvplan
from kvplan import catalog
from kvplan.perf.prompts import PromptClass
from kvplan.perf.token_times import spreads
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


def test_times_of_a_class_spread_to_where_those_of_its_neighbours_begin() -> None:
    """Means of 1, 2 and 4 s; the first class ends a quarter of the way to the second, the second halfway."""
    kinds = [
        PromptClass(weight=0.5, total=1000, fresh=1000, longest=1250.0),
        PromptClass(weight=0.3, total=2000, fresh=2000, longest=3000.0),
        PromptClass(weight=0.2, total=4000, fresh=4000),
        PromptClass(weight=0.1, total=500, fresh=100, between=60.0),  # finds a prefix: no neighbour of the others
    ]
    first, second, last, alone = spreads(kinds, [1.0, 2.0, 4.0, 0.1])
    assert [(s.less, s.more) for s in (first, second, last)] == [(0.25, 0.25), (0.75, 1.0), (1.0, 1.0)]
    assert (alone.less, alone.more) == (0.0, 0.0) and alone.beyond(-1e-6) == 1 and alone.beyond(1e-6) == 0
    # of the second 1.75 in 0.75 + 1 lie so that the mean stays: 4 / 7 below it, of 0.75 s, and 3 / 7 above it, of 1 s
    assert second.beyond(-0.75) == pytest.approx(1) and second.beyond(1.0) == pytest.approx(0)
    assert second.beyond(0.0) == pytest.approx(3 / 7) and second.beyond(0.5) == pytest.approx(3 / 14)
    steps = [i / 1000 - 0.75 for i in range(1751)]
    assert sum(second.beyond(t) for t in steps) / 1000 - 0.75 == pytest.approx(0, abs=1e-3)  # the mean is kept


def test_percentiles_move_smoothly_with_volumes() -> None:
    """Two replicas of four H100 are 1 to 4 % full of agents: P95 moved by 23 % from 300 to 600 queries a day."""
    plans = [
        kvplan.recommend("agents", "llama3.1-70b", gpus="h100", on="2026-11-29", queries_per_day=n).plan
        for n in (300, 450, 600, 1000)
    ]
    found = [plan.ttft for plan in plans if plan is not None and str(plan.parallel) == "tp4" and plan.replicas == 2]
    assert len(found) == 4 and all(1 <= b / a < 1.03 for a, b in pairwise(found))


def test_replicas_near_saturation_are_told_in_plans() -> None:
    full = planned("code-review", "50%", weights="fp8", load="1.1")
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
