"""Capacity: `recommend` read backwards. At the volume named as many GPUs are needed, at one percent more others."""

import json
from dataclasses import replace
from inspect import signature
from itertools import pairwise

import pytest

import kvplan
from kvplan.api.capacity import capacity
from kvplan.cli.load import ASKED
from kvplan.errors import SpecError
from kvplan.planning.capacity import greatest, rounded_down
from kvplan.planning.remedies import TIMES
from kvplan.report.capacity import basis, whole_users
from kvplan.units import DAY, MONTH, show_time, show_usd, show_usd_each

pytestmark = pytest.mark.usefixtures("ask_once")
ON = "2026-11-24"
QUESTIONS = [
    ("doc-qa", "llama3.1-70b", "h200", 24, {"ttft": "20s", "technique": "fp8"}),
    ("chat", "llama3.1-8b", "h100", 4, {}),
    ("rag", "llama3.1-70b", "b200", 8, {"spares": 0}),
    ("batch-summaries", "llama3.1-8b", "h100", 2, {}),
]


def planned(found, question, volume: float):
    workload, model, gpu, _, more = question
    asked = {k: v for k, v in more.items() if k != "technique"}
    return kvplan.recommend(
        workload, model, gpus=gpu, techniques=more.get("technique", "baseline"), queries_per_day=volume,
        objective="gpus", confidence=0.9, on=ON, **asked,
    ).plan  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q[0])
def test_recommend_needs_as_many_gpus_and_more_for_one_percent_more(question) -> None:
    workload, model, gpu, gpus, more = question
    found = kvplan.capacity(workload, model, gpu, gpus, on=ON, **more)
    assert found.plan is not None and found.plan.gpus <= gpus
    plan = planned(found, question, found.queries_per_day)
    assert plan is not None and plan.gpus == found.plan.gpus
    more_needed = planned(found, question, 1.01 * found.queries_per_day)
    assert more_needed is None or more_needed.gpus > gpus


def test_users_are_the_peak_rate_times_what_lies_between_their_questions() -> None:
    found = kvplan.capacity("chat", "llama3.1-8b", "h100", 4, on=ON)
    assert found.users == pytest.approx(found.demand.peak * 60)
    busy = replace(found, demand=replace(found.demand, workload=replace(found.demand.workload, between_questions=0.1)))
    assert busy.users == pytest.approx(
        found.demand.peak * (found.plan.mean_ttft + found.plan.mean_tpot * found.demand.output)
    )
    assert "users = rate x that time." in basis(found)[1]
    assert f"not before the answer is there, which takes {show_time(busy.answered)} on average" in basis(busy)[1]
    assert basis(busy)[1].endswith("users = rate x that longer time.")
    assert kvplan.capacity("batch-summaries", "llama3.1-8b", "h100", 2, on=ON).users is None


@pytest.mark.parametrize(("users", "said"), [(0.06, "less than one user"), (1.4, "1 user"), (1234.5, "1,234 users")])
def test_there_is_no_service_without_users(users: float, said: str) -> None:
    assert whole_users(users) == said


def test_more_gpus_serve_more_and_tighter_limits_less() -> None:
    few, many = (kvplan.capacity("chat", "llama3.1-8b", "h100", n, on=ON).queries_per_day for n in (2, 8))
    tight = kvplan.capacity("chat", "llama3.1-8b", "h100", 8, ttft="300ms", on=ON).queries_per_day
    assert 2 * few < many and tight <= many


@pytest.mark.slow
def test_twice_the_gpus_serve_at_least_twice_as_much() -> None:
    """Replicas of the same load keep the same limits: nothing is lost between the loads that a search tries."""
    served = [kvplan.capacity("rag", "llama3.1-8b", "h100", n, on=ON, spares=0).queries_per_day for n in (2, 4, 8, 16)]
    assert all(2 * few <= many * 1.001 for few, many in pairwise(served)), served


def test_what_fits_nowhere_says_so() -> None:
    found = kvplan.capacity("doc-qa", "llama3.1-70b", "h100", 1, on=ON)
    assert found.plan is None and found.queries_per_day == 0 and found.bound_by == "memory" and found.refusal


def test_a_volume_is_found_to_four_digits() -> None:
    assert greatest(lambda v: v <= 123_456.0, 7.0) == 123_400.0
    assert greatest(lambda v: v <= 0.5, 1e6) == pytest.approx(0.5, rel=1e-3)
    assert rounded_down(44_729.0) == 44_720.0 and rounded_down(1000.0) == 1000.0


def test_the_command_gives_the_same_answer(run) -> None:
    words = ["load", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "--gpus", "4", "--on", ON]
    shown = json.loads(run(*words, "--json").out)
    found = kvplan.capacity("chat", "llama3.1-8b", "h100", 4, on=ON)
    assert (shown["queries_per_day"], shown["users"]) == (found.queries_per_day, found.users)
    assert shown["bound_by"] == found.bound_by
    refused = run(*words, "--isl", "100")
    assert refused.code and "isl" in refused.err
    assert "--isl" in run("load", "-m", "llama3.1-8b", "-g", "h100").err


def test_a_workload_that_a_model_cannot_read_is_refused() -> None:
    with pytest.raises(SpecError, match="does not read"):
        kvplan.capacity("video-qa", "llama3.1-8b", "h100", 8, on=ON)


@pytest.mark.slow
def test_where_no_volume_is_sure_enough_the_surest_is_told(run) -> None:
    ask = ("load", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "b200", "--gpus", "16", "--ttft", "3.8s", "--on", ON)
    found, strict = run(*ask, "--json"), run(*ask, "--confidence", "90%", "--json")
    assert (found.code, strict.code) == (0, 1) and strict.json["queries_per_day"] == 0
    limits = found.json["limits"]
    assert limits["confidence_sought"] == 0.9 > found.json["plan"]["slo_probability"] >= limits["confidence"] >= 0.5
    assert "No volume keeps the latency limits with 90 % probability" in " ".join(run(*ask).out.split())
    assert run(*ask, "--confidence", f"{limits['confidence'] + 0.05:.0%}").code == 1


def test_where_volumes_are_less_sure_than_sought_that_of_a_step_less_is_told_and_what_it_costs(run) -> None:
    """104 H100 serve less than 38,000 questions a day as surely as they can, and more than 40,000 with a step less."""
    ask = ("load", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "h100", "--gpus", "104", "--weights", "fp8", "--on", ON)
    found = run(*ask, "--json").json
    below = f"{found['limits']['confidence'] - 0.05:.0%}"
    more = run(*ask, "--confidence", below, "--json").json["queries_per_day"]
    said = " ".join(run(*ask).out.split())
    assert found["queries_per_day"] < 38_000 and more > 40_000
    assert f"The same GPUs serve {more:,.0f} queries a day with --confidence {below}." in said
    month = found["plan"]["usd_per_query"] * found["queries_per_day"] * MONTH / DAY
    assert f"104 GPUs at {show_usd_each(found['plan']['usd_per_query'])}, {show_usd(month)} a month" in said
    refused = run("load", "-m", "llama3.1-8b", "-g", "h100", "--isl", "100", "--osl", "10", "--confidence", "90%")
    assert refused.code == 2 and "is for a workload" in refused.err


def test_a_lone_gpu_is_the_spare_and_that_is_the_reason(run) -> None:
    """One H100 kept no volume of chat "by the engine's limit of sequences": it was the spare replica."""
    found = kvplan.capacity("chat", "llama3.1-8b", "h100", 1, on=ON)
    assert found.plan is None and found.bound_by == "the spare replica"
    assert "1 GPU keeps the limits at no volume" in found.refusal and "spares=0" in found.refusal
    ask = ("load", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "--gpus", "1", "--on", ON)
    assert "--spares 0" in run(*ask).err and run(*ask, "--spares", "0").code == 0
    assert run("load", "-m", "llama3.1-8b", "-g", "h100", "--isl", "9", "--osl", "9", "--spares", "0").code == 2


def test_an_offline_load_is_worked_off_as_surely_as_is_asked() -> None:
    """Replicas that are full by predicted times fall behind where steps take longer: at even odds, not at 90 %.

    The 90th percentile of the error stands in the calibration: the volume of even odds is so many times as large.
    """
    asked = {"technique": "baseline", "weights": "bf16", "on": ON}
    even, sure = (
        kvplan.capacity("batch-summaries", "llama3.1-8b", "h100", 1, confidence=c, **asked) for c in ("50%", "90%")
    )
    error = even.site.calibration.tpot.high
    assert even.queries_per_day / sure.queries_per_day == pytest.approx(error, rel=0.01) and error > 1.05
    assert sure.bound_by == "throughput"
    full = {"techniques": "baseline", "weights": "bf16", "gpus": "h100", "on": ON, "max_gpus": 1}
    volume = 0.98 * even.queries_per_day
    loose, strict = (
        kvplan.recommend("batch-summaries", "llama3.1-8b", queries_per_day=volume, confidence=c, **full)
        for c in ("50%", "90%")
    )
    assert 0.5 <= loose.plan.slo_probability < 0.65 and strict.plan is None
    assert "2 GPUs are needed" in strict.cause and "confidence=55%" in [r.change for r in strict.remedies]


def test_the_most_of_an_uncompressed_cache_says_what_fp8_serves() -> None:
    """`recommend` carries 80,000 summaries a day on 7 L4 with an fp8 cache, with 90 % odds; uncompressed fewer."""
    found, packed = (
        kvplan.capacity("batch-summaries", "llama3.1-8b", "l4", 7, technique=name, on=ON)
        for name in ("baseline", "fp8")
    )
    assert packed.queries_per_day > 80_000 > found.queries_per_day
    (said,) = [w for w in found.warnings if "technique=fp8" in w]
    assert f"{packed.queries_per_day:,.0f} queries a day" in said
    assert not any("technique=" in w for w in packed.warnings)


def test_every_limit_that_a_change_may_name_can_be_asked_for(run) -> None:
    """Medical summaries on 8 L40S were told to move the limit of the whole request, which the command did not take."""
    assert {*TIMES} <= {*signature(kvplan.capacity).parameters} & {*ASKED}
    ask = ("load", "-m", "llama3.1-8b", "-g", "h100", "--on", ON)
    some, more = (run(*ask, "-w", "chat", "--gpus", "4", "--e2e", limit, "--json") for limit in ("3s", "30s"))
    assert some.json["queries_per_day"] < more.json["queries_per_day"] and "end-to-end" in some.json["bound_by"]
    assert run(*ask, "--isl", "9", "--osl", "9", "--e2e", "20s").code == 2


def test_less_load_is_never_harder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every volume below the greatest one is served, of questions to documents whose prefixes are kept, too."""
    seen = []

    def spied(served, start: float) -> float:
        best = greatest(served, start)
        seen.append([served(best * share) for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)])
        return best

    monkeypatch.setattr("kvplan.planning.capacity.greatest", spied)
    for workload, gpus in (("code-review", 16), ("doc-qa", 9)):
        capacity(workload, "llama3.1-8b", "h100", gpus=gpus, confidence="60%", on=ON)
    assert len(seen) >= 2 and all(all(one) for one in seen)
