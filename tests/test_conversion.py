"""What a technique's training costs, as a line of the bill."""

import pytest

import kvplan
from kvplan import catalog
from kvplan.kv import spelling
from kvplan.money.conversion import conversion, gpu_seconds
from kvplan.money.gpu_cost import rent
from kvplan.units import HOUR, MONTH

DAY = "2026-11-24"


def test_known_numbers() -> None:
    """70e9 parameters x 6e9 tokens x 6 = 2.52e21 FLOP, at 40 % of 1e15 FLOP/s 6.3e6 s = 1,750 GPU-hours."""
    assert gpu_seconds(70e9, 6e9, 1e15) == pytest.approx(6.3e6) == pytest.approx(1750 * HOUR)
    cost = rent(next(p for p in catalog.prices() if p.gpu == "h100-sxm" and p.term == "on-demand"))
    line = conversion(70e9, 6e9, 1e15, cost)
    assert line.amount * 12 * MONTH == pytest.approx(6.3e6 * cost.rate("")) and "1,750 GPU-hours" in line.basis


def test_which_techniques_are_trained_for() -> None:
    assert spelling.heals("mhc:4x+fp8") == 6e9 and spelling.heals("gqa:4") == 100e9
    assert spelling.heals("fp8") == spelling.heals("baseline") == spelling.heals("h2o:20%") == 0


def test_a_conversion_is_a_line_of_the_bill_and_of_the_cost() -> None:
    asked = {"gpus": "h100", "techniques": "mhc:4x", "any_technique": True, "on": DAY}
    month = {}
    for volume in (10_000, 80_000):
        found = kvplan.recommend("chat", "llama3.1-8b", queries_per_day=volume, **asked)
        assert found.plan is not None and found.bill is not None
        lines = {line.name: line.amount for line in found.bill.lines_per("query")}
        assert sum(lines.values()) == pytest.approx(found.plan.usd)
        month[volume] = lines["conversion"] * volume
    assert month[10_000] == pytest.approx(month[80_000], rel=1e-6), "the same a month, whatever the volume"
    plain = kvplan.recommend("chat", "llama3.1-8b", queries_per_day=10_000, **{**asked, "techniques": "baseline"})
    assert "conversion" not in {line.name for line in plain.bill.lines_per("query")}
