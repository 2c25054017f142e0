"""The volumes at which an API costs what hosting does, against the answers at those volumes."""

import pytest

import kvplan
from kvplan.money.api import Tokens, between_bounds
from kvplan.specs.money import ApiPrice
from kvplan.specs.source import Source
from kvplan.units import DAY

ON = "2026-11-24"
FEW = {"techniques": ["baseline", "fp8"], "on": ON}
#: what each question asks with: online, owned, with shared prefixes, a load that waits, several GPUs
ASKED = [
    ("chat", "llama3.1-70b", {"gpus": "b200"}),
    ("chat", "llama3.1-70b", {"gpus": "h100", "own": "default"}),
    ("doc-qa", "llama3.1-8b", {"gpus": "mi300x"}),
    ("batch-summaries", "llama3.1-8b", {"gpus": ["h100", "mi300x"]}),
]


def paid(workload: str, model: str, volume: float, **rest) -> float:
    plan = kvplan.recommend(workload, model, queries_per_day=volume, **FEW, **rest).plan
    assert plan is not None and plan.usd is not None
    return plan.usd


@pytest.mark.parametrize(("workload", "model", "rest"), ASKED, ids=lambda x: x if isinstance(x, str) else "")
def test_at_the_stated_volumes_the_answer_is_what_they_say(workload: str, model: str, rest: dict) -> None:
    _, even = kvplan.recommend(workload, model, **FEW, **rest).break_even[0]
    assert even.first is not None and even.always is not None and 0 < even.first <= even.always
    charge = even.api_per_query
    for volume in (0.3 * even.first, 0.7 * even.first, 0.99 * even.first):
        assert paid(workload, model, volume, **rest) > charge, volume
    for volume in (1.001 * even.always, 1.4 * even.always, 2 * even.always, 9 * even.always):
        assert paid(workload, model, volume, **rest) < charge, volume


def test_where_no_volume_makes_hosting_cheaper_that_is_said() -> None:
    """Here the saturated replicas of a small load once promised it from 348,755 queries a day."""
    asked = {"gpus": ["h100", "h200"], **FEW}
    found = kvplan.recommend("rag", "llama3.1-70b", queries_per_day=20_000, **asked)
    _, even = found.break_even[0]
    assert even.first is None and even.always is None
    assert "at every volume up to 1,000,000,000 queries a day it is cheaper" in " ".join(found.why)
    for volume in (350_000, 20_000_000):
        assert paid("rag", "llama3.1-70b", volume, gpus=["h100", "h200"]) > even.api_per_query


def test_the_volume_stated_does_not_rest_on_the_volume_asked_about() -> None:
    found = [
        kvplan.recommend("chat", "llama3.1-70b", gpus="b200", queries_per_day=volume, **FEW).break_even[0][1]
        for volume in (2_000, 2_000_000)
    ]
    assert found[0].first == pytest.approx(found[1].first, rel=0.02)
    assert found[0].always == pytest.approx(found[1].always, rel=0.02)


def test_bounds_of_a_staircase_are_met_where_it_meets_the_api() -> None:
    """One server of 100 USD a day serves 1,000 queries; the API takes 0.15 USD of each."""
    source = Source(kind="quote", ref="here", date=ON)
    api = ApiPrice(
        provider="p", model="m", serves="m", input=0.15, cached=None, output=0.0, above=0, start=ON, end=None,
        note="", source=source,
    )  # fmt: skip

    def staircase(per_day):
        return [-(-volume // 1000) * 100 / DAY for volume in per_day]

    found = between_bounds(staircase, staircase, 1e9, api, Tokens(input=1, output=0))
    assert found.first == pytest.approx(100 / 0.15, rel=1e-5)
    # at 1,000 a second server is added, and is paid off at 1,333; a third costs no more than the API at 2,000
    assert found.always == pytest.approx(200 / 0.15, rel=1e-5)
    dear = between_bounds(staircase, lambda v: [2 * x for x in staircase(v)], 1e9, api, Tokens(input=1, output=0))
    assert dear.first == found.first and dear.always is None and "depends on how full" in dear.reason


def test_the_sensitivity_to_the_load_says_that_the_plan_is_not_made_anew() -> None:
    swings = kvplan.recommend("chat", "llama3.1-70b", gpus="b200", **FEW).swings
    (load,) = [s for s in swings if s.name.startswith("load x")]
    assert load.basis == "assumption; replicas in fractions, not planned anew"


def test_a_far_cheaper_api_of_another_model_is_said_first(run) -> None:
    ask = ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-t", "baseline", "-g", "h100", "--on", ON)
    first = " ".join(run(*ask, "--queries-per-day", "1").out.split("Note:")[0].split())
    assert "An API of another model costs less than 0.1 % as much: " in first
