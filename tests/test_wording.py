"""Words that must not be taken for other ones: caches and weights, marks in tables, and what a reader did not write."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan import catalog
from kvplan.kv.spelling import clause, in_words, together
from kvplan.report import estimate as of_estimate
from kvplan.report import items, launch, plans
from kvplan.report import load as of_load
from kvplan.report import recommend as of_recommend
from kvplan.report import simulate as of_simulate
from kvplan.report.blocks import Bars, Page, Table, Text
from kvplan.report.losses import CHANCE, KEEPING_UP
from kvplan.specs.identity import Identity
from kvplan.specs.serving_profile import PART, WAYS
from kvplan.units import show_percent, show_time

DAY = "2026-11-24"
SMALL = {"model": "llama3.1-8b", "gpu": "h100", "on": DAY}


def said(page: Page) -> str:
    """Return the paragraphs of a page."""
    return " ".join(b.text for b in page.blocks if isinstance(b, Text))


@cache
def chat() -> Any:
    """Return a recommendation whose plan has fp8 weights, asked with few techniques."""
    return kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques=("baseline", "fp8"), on=DAY)


@pytest.mark.parametrize(
    ("technique", "weights", "words", "label", "after"),
    [
        ("baseline", None, "uncompressed", "uncompressed", ""),
        ("fp8", None, "fp8 cache", "fp8 cache", " with fp8 cache"),
        ("fp8", "fp8", "fp8 cache", "fp8 cache, fp8 weights", " with fp8 cache and fp8 weights"),
        ("baseline", "int4", "uncompressed", "uncompressed, int4 weights", " with int4 weights"),
        ("mhc:4x+fp8", None, "mhc:4x+fp8 cache", "mhc:4x+fp8 cache", " with mhc:4x+fp8 cache"),
        ("h2o:20%", None, "h2o:20%", "h2o:20%", " with h2o:20%"),
    ],
)
def test_a_name_of_cache_and_weights_says_which(technique, weights, words, label, after) -> None:
    assert in_words(technique) == words
    assert together(technique, weights) == label
    assert clause(technique, weights) == after


@pytest.mark.parametrize("weights", [None, "fp8"])
def test_answers_name_the_format_of_the_weights(weights) -> None:
    asked = {**SMALL, "weights": weights}
    e = kvplan.estimate(context="8k", gpus="h100", techniques="fp8", model="llama3.1-8b", weights=weights, on=DAY)
    served = kvplan.load(isl=1000, osl=100, technique="fp8", **asked)
    stream = kvplan.simulate(workload="chat", rate=1, duration="2min", **asked)
    for words in (of_estimate.answer(e), of_load.answer(served)[0], of_simulate.answer(stream)[0]):
        assert ("fp8 weights" in words) is (weights is not None)
    document = of_estimate.document(e)
    assert {document["weights"], *(r["weights"] for r in document["rows"])} == {weights}
    assert of_load.document(served)["server"]["weights"] == weights
    assert of_simulate.document(stream)["weights"] == weights


def test_pictures_and_labels_of_plans_tell_caches_from_weights() -> None:
    r = chat()
    bars = next(b for b in of_recommend.page(r).blocks if isinstance(b, Bars) and "technique" in b.title)
    assert {"uncompressed, fp8 weights on h100-sxm", "fp8 cache, fp8 weights on h100-sxm"} <= {
        b.name for b in bars.bars
    }
    label = replace(r.plan, form="fp8").label
    assert label.startswith("uncompressed on ") and label.endswith("h100-sxm, fp8 weights")


def test_only_the_recommended_plan_is_marked_as_the_best() -> None:
    r = chat()
    r = replace(r, plan=r.front[1])
    tables = [b for b in of_recommend.page(r).blocks if isinstance(b, Table)]
    front = next(b for b in tables if b.title == plans.FRONT)
    best = [row.cells for row in front.rows if row.tone == "best"]
    assert r.front[0] != r.plan, "a front that begins with another plan, or this test cannot fail"
    assert best == [plans.plans_table(plans.FRONT, [r.plan], r.demand.limits, r.plan).rows[0].cells]
    assert plans.off_front(r.plan, r.front, r.objective) is None


@pytest.mark.parametrize(
    ("objective", "change", "reason"),
    [
        ("cost", {"slo_probability": 0.5}, "keeps the limits with"),
        ("cost", {"margin": 1.5}, "rests on one offer"),
        ("cost", {}, "within 1 % of the least count as equal"),
        ("energy", {}, "ranked by energy"),
    ],
)
def test_a_plan_off_the_front_says_why_it_is_taken(objective, change, reason) -> None:
    plan = chat().plan
    better = replace(plan, usd=0.995 * plan.usd, **change)
    text = plans.off_front(plan, (better,), objective)
    assert text is not None
    assert reason in text.text


def cells(page: Page, title: str, column: str) -> list[str]:
    """Return a column of the table whose title begins so."""
    found = next(b for b in page.blocks if isinstance(b, Table) and title in b.title)
    at = [heading.text for heading in found.headings].index(column)
    return [str(row.cells[at]) for row in found.rows]


@pytest.mark.parametrize(
    ("model", "gpu", "limits", "technique", "cell"),
    [
        ("deepseek-v2-lite", "h100", {}, "mhc:4x", "not applicable"),
        ("deepseek-v2-lite", "h100", {}, "nvfp4", "cannot run"),
        ("llama3.1-8b", "h100", {"ttft": "1ms"}, "fp8", "too slow"),
        ("llama3.1-405b", "l4", {"tp": 1}, "fp8", "does not fit"),
    ],
)
def test_a_row_without_gpus_says_why(model, gpu, limits, technique, cell) -> None:
    e = kvplan.estimate(model, context="8k", gpus=gpu, techniques=technique, on=DAY, **limits)
    assert cells(of_estimate.page(e), "within the limits", "GPUs")[1] == cell
    meaning = of_estimate.MARKS.get(cell, "")
    assert not e.feasible or meaning in " ".join(of_estimate.legend(e))


def test_a_missing_price_is_called_so_in_every_table() -> None:
    e = kvplan.estimate("llama3.1-8b", context="8k", gpus="rtx-4090", techniques="fp8", on=DAY)
    assert set(cells(of_estimate.page(e), "within the limits", "$ / query")) == {"no price"}
    assert set(cells(of_estimate.page(e), "lone query", "batch 1\n$ / query")) == {"no price"}


def test_a_table_of_full_replicas_says_so_and_explains_its_brackets() -> None:
    page = of_estimate.page(kvplan.estimate("llama3.1-70b", context="8k", techniques="fp8", on=DAY))
    assert ("In brackets: the fewest GPUs" in said(page)) is any("(" in c for c in cells(page, "by GPU", "GPUs"))
    assert "their times may be over the limits above" in said(page)


@pytest.mark.parametrize(
    ("gpu", "engine", "words"),
    [
        ("no-such-gpu", "vllm", "this engine was measured on other GPUs; no server on this GPU was"),
        ("h200", "no-such-engine", "this GPU was measured with other engines; no server of this engine was"),
        ("mi300x", "trtllm", "and this GPU with other engines, but not both together"),
    ],
)
def test_where_one_half_was_measured_it_is_named(gpu, engine, words) -> None:
    who = Identity(gpu=gpu, engine=engine)
    profile = catalog.serving_profile()
    assert profile.basis(who) == PART
    assert words in profile.evidence(PART, who)


def test_every_basis_is_said_in_words() -> None:
    who = Identity(gpu="h100-sxm", engine="vllm")
    assert all(catalog.serving_profile().evidence(basis, who) for basis in WAYS)


def test_a_limit_that_is_kept_says_by_how_much_in_a_sentence() -> None:
    asked = {**SMALL, "workload": "chat", "rate": 1, "duration": "2min", "ttft": "10s"}
    one = kvplan.simulate(**asked, tpot="none")
    time = one.outcome.ttft.at_percentile
    below = f"P95 of TTFT is {show_time(time)}, {show_percent(1 - time / 10)} below its limit."
    assert of_simulate.answer(one)[2].endswith(below)
    both = of_simulate.answer(kvplan.simulate(**asked, tpot="20ms", find_replicas=True))
    assert "P95 of TPOT, the nearest to its limit, is" in both[2]
    assert "spare" not in " ".join(both)


def test_spares_that_are_much_of_the_bill_are_explained() -> None:
    lines = [line for line in chat().why if line.startswith("Spares are 50 % of the bill: 1 replica that stands in")]
    assert len(lines) == 1
    assert "(spares=0)" in lines[0]
    without = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="baseline", spares=0, on=DAY)
    assert not any("Spares" in line for line in without.why)


@pytest.mark.parametrize(("workload", "off"), [("chat", True), ("doc-qa", False)])
def test_a_command_without_prefix_caching_says_why(workload, off) -> None:
    r = kvplan.recommend(workload, "llama3.1-8b", gpus="h100", techniques="baseline", on=DAY)
    assert r.launch is not None
    assert ("--no-enable-prefix-caching" in r.launch.argv) is off
    assert any("share no prefix" in line for line in launch.started(r).remarks) is off


#: a workload that says no more than it must
MINE = """
task: qa-multi
source: {kind: quote, ref: my own log, date: 2026-11-01}
input: {quantiles: {0: 100, 50: 1000, 100: 4000}}
output: {quantiles: {0: 10, 50: 100, 100: 400}}
arrivals: {queries_per_day: 40000, burstiness: 1}
slo: {ttft: 5s}
"""


def test_what_a_file_does_not_state_is_not_said_to_be_its_own(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    sources = {f.name: f.source for f in items.workload(catalog.workload(str(file)))}
    assert {n for n, s in sources.items() if s == "default"} == {
        "title", "offline", "hours", "busiest_minute", "percentile",
    }  # fmt: skip
    assert all("my own log" in sources[n] for n in ("task", "queries_per_day", "burstiness", "ttft", "output_mean"))
    r = kvplan.recommend(str(file), "llama3.1-8b", gpus="h100", techniques="baseline", on=DAY)
    assert any("no hours given: the load is taken as flat over the day" in w for w in r.warnings)


def test_a_file_that_states_its_hours_is_not_remarked_upon() -> None:
    assert not any("hours" in w for w in chat().warnings)
    assert {f.source for f in items.workload(catalog.workload("chat"))}.isdisjoint({"default"})


def test_beside_each_limit_stands_what_the_plan_is_expected_to_take() -> None:
    """A reader could not tell from the first screen whether 99 % odds came of a P95 of 180 ms or of 480."""
    found = chat()
    limits, p = found.demand.limits, found.plan
    line = of_recommend.asked(found)
    assert f"TTFT {show_time(limits.ttft)} ({show_time(p.ttft)} expected)" in line
    assert f"TPOT {show_time(limits.tpot)} ({show_time(p.tpot)} expected) at P95" in line
    assert "expected" not in of_recommend.asked(replace(found, plan=None))


def test_a_technique_that_no_engine_serves_is_answered_where_it_alone_was_asked_about() -> None:
    """Whoever asked for mhc:4x read that no technique vLLM serves is cheaper; it was 17 % cheaper in the table."""
    found = kvplan.estimate("qwen3-32b", "32k", gpus="h100", techniques="mhc:4x", on=DAY)
    base, other = (row.same_limits for row in found.rows)
    share = show_percent(1 - other.usd / base.usd, 0)
    assert other.usd < base.usd and not found.serves("mhc:4x")
    said = of_estimate.answer(found)
    assert f"mhc:4x would cost {share} less, " in said and "but vLLM does not serve it." in said
    both = kvplan.estimate("qwen3-32b", "32k", gpus="h100", techniques=("mhc:4x", "fp8"), on=DAY)
    assert "does not serve" not in of_estimate.answer(both)
    alone = kvplan.estimate("qwen3-32b", "32k", gpus="h100", techniques="baseline", on=DAY)
    assert "No compression was asked about." in of_estimate.answer(alone)


def test_limits_that_nothing_keeps_are_answered_with_limits_that_would_do() -> None:
    """A query of a million tokens takes 550 s to its first token; 60 s were proposed."""
    ask = {"gpus": "mi300x", "techniques": "baseline", "on": DAY}
    found = kvplan.estimate("llama3.1-70b", "1M", **ask)
    said = of_estimate.answer(found)
    assert found.overall is None and "Give other limits, as in ttft=" in said and "tpot=" not in said
    limit = said.rpartition("ttft=")[2].rstrip(".")
    again = kvplan.estimate("llama3.1-70b", "1M", ttft=limit, **ask)
    assert again.overall is not None and again.limits.tpot == found.limits.tpot


def test_a_trace_that_says_nothing_of_prefixes_is_told_so(tmp_path: Any) -> None:
    """The same log with and without its hashes had a TTFT of 15 and of 89 s, and no word said why."""
    rows = [f"{n},500,20" for n in range(20)]
    plain, shared = tmp_path / "plain.csv", tmp_path / "shared.csv"
    plain.write_text("\n".join(["arrival,input,output", *rows]), "utf-8")
    shared.write_text("\n".join(["arrival,input,output,prefix", *(f"{row},terms" for row in rows)]), "utf-8")
    told = {file.stem: said(of_simulate.page(kvplan.simulate(**SMALL, trace=str(file)))) for file in (plain, shared)}
    words = "No request says what it shares with another: every prompt is computed whole."
    assert words in told["plain"] and words not in told["shared"]
    off = kvplan.simulate(**SMALL, trace=str(plain), prefix_cache=False)
    assert words not in said(of_simulate.page(off))


def test_without_a_limit_of_time_the_chance_is_that_of_keeping_up() -> None:
    """A plan under no limit had a 'chance to keep limits' of 96 %."""
    ask = {"isl": 1000, "osl": 100, "rate": 2, "gpus": ("h100", "h200"), "techniques": "baseline", "on": DAY}
    for more, heading in (({}, KEEPING_UP), ({"ttft": "5s"}, CHANCE)):
        found = kvplan.recommend(None, "llama3.1-8b", vary="load=1,2", **ask, **more)
        page = of_recommend.page(found)
        headed = [h.text for b in page.blocks if isinstance(b, Table) for h in b.headings if "chance" in h.text]
        assert len(headed) > 1 and set(headed) == {heading}
        assert ("no latency limit is set" in said(page).partition("The chance")[2]) == (not more)


def test_a_profile_of_ones_own_is_named_where_times_rest_on_it(tmp_path: Any) -> None:
    """A plan under a calibrated profile said that its times were measured elsewhere, as without it."""
    shipped = (Path(__file__).parent.parent / "profiles" / "serving" / "published.yaml").read_text("utf-8")
    own = tmp_path / "mine.yaml"
    own.write_text(shipped.replace("name: published", "name: mine", 1), "utf-8")
    for profile, ends in (("published", "releases"), (str(own), "releases; under the profile mine")):
        found = kvplan.estimate("llama3.1-8b", "2k", gpus="h100", techniques="fp8", profile=profile, on=DAY)
        assert found.sites[0].calibration.evidence.endswith(ends)
        assert f"{ends}. 80 % interval" in " ".join(of_estimate.rests_on(found))
