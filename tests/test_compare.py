"""Saved plans side by side."""

import json
from dataclasses import replace

import pytest

import kvplan
from kvplan import catalog
from kvplan.cli.flags import flagged
from kvplan.cli.recommend import command
from kvplan.errors import KvplanError
from kvplan.planning.compare import PLAN, QUESTION, Change, Comparison, answered, compare, gates
from kvplan.planning.compare import saved as side
from kvplan.report.blocks import Table
from kvplan.report.compare import page

pytestmark = pytest.mark.usefixtures("ask_once")
ASK = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b")
#: for `ask_once`: the tests change folders alone; and the answers it remembers
PATCHES_NO_PLAN = True
ANSWERS: dict[str, object] = {}


#: files that were saved before, by their flags and day: many tests start from the same plan
files: dict[tuple[str, ...], bytes] = {}


@pytest.fixture
def saved(run, tmp_path, monkeypatch):
    """Return a function that saves a plan and returns its document."""
    monkeypatch.chdir(tmp_path)

    def save(name: str, *flags: str, day: str = "2026-11-24") -> dict:
        if (day, *flags) not in files:
            assert run(*ASK, "--on", day, "--save", name, *flags).code in (0, 1)
            files[day, *flags] = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(files[day, *flags])
        return json.loads(files[day, *flags])

    return save


def test_what_is_saved_is_what_json_prints(run, saved) -> None:
    document = saved("plan.json", "--ttft", "6s")
    assert document == run(*ASK, "--on", "2026-11-24", "--ttft", "6s", "--json").json
    values = {"workload": "doc-qa", "model": "llama3.1-70b", "on": "2026-11-24", "ttft": "6s"}
    assert document["question"] == {"function": "recommend", "values": values}


def test_the_same_question_on_the_same_day_changes_nothing(run, saved) -> None:
    saved("plan.json", "--max-quality-drop", "1%")
    ANSWERS.clear()  # worked out anew: nothing but the question decides the answer
    found = run("compare", "plan.json", "--on", "2026-11-24")
    assert found.code == 0 and "that of plan.json: nothing changed" in " ".join(found.out.split())
    assert not run("compare", "plan.json", "--on", "2026-11-24", "--json").json["changed"]


def test_a_plan_with_what_ifs_keeps_them_as_typed_and_is_asked_again_without(run, saved, monkeypatch) -> None:
    flags = ("-g", "h200", "-t", "fp8", "--users", "300", "--price", "3/h", "--vary", "users=-50%", "--vary", "price=2")
    document = saved("plan.json", *flags)
    assert document["question"]["values"]["vary"] == ["users=-50%", "price=2"]
    assert document == run(*ASK, "--on", "2026-11-24", *flags, "--json").json
    asked = []
    monkeypatch.setattr("kvplan.api.vary.with_changes", lambda *a: asked.append(a))
    found = run("compare", "plan.json", "--on", "2026-11-24", "--json")
    assert found.code == 0 and not found.json["changed"] and not asked


def test_a_price_that_moved_moves_every_line(run, saved) -> None:
    document = saved("plan.json", "-g", "b200", "--price", "5/h")
    other = saved("other.json", "-g", "b200", "--price", "10/h")
    found = run("compare", "plan.json", "other.json", "--json").json
    assert found["changed"] and found["question"] == []
    assert all(x["relative"] == pytest.approx(1.0) for x in found["lines"] if x["before"])
    plan = {x["field"]: x for x in found["plan"]}
    assert plan["usd_per_query.expected"]["before"] == document["recommended"]["usd_per_query"]["expected"]
    assert plan["usd_per_query.expected"]["after"] == other["recommended"]["usd_per_query"]["expected"]
    assert plan["technique"]["before"] == plan["technique"]["after"] == document["recommended"]["technique"]
    assert "+100.0 %" in run("compare", "plan.json", "other.json").out


def test_asking_again_uses_other_prices_and_the_same_limits(run, saved) -> None:
    saved("plan.json", "--tpot", "80ms", day="2026-11-01")
    found = run("compare", "plan.json", "--on", "2026-11-24", "--json").json
    assert [(x["field"], x["name"]) for x in found["question"]] == [("day", "prices of")]


def test_small_costs_are_those_of_a_million_queries_in_every_table() -> None:
    usd = "usd_per_query"
    figures = (
        (f"{usd}.expected", 0.0008, 0.0004),
        (f"{usd}.p10", 0.0006, 0.0003),
        (f"{usd[:4]}per_million_tokens", 0.8, 0.4),
    )
    plan = tuple(Change(field=name, kind="usd", before=a, after=b) for name, a, b in figures)
    line = Change(field="idle", kind="usd", before=0.0007, after=0.0002)
    found = page(Comparison(names=("a", "b"), question=(), plan=plan, lines=(line,), reasons=("", "")))
    plans, bill = (block for block in found.blocks if isinstance(block, Table))
    assert [row.cells[:3] for row in plans.rows] == [
        ("a million queries", "$800", "$400"), ("low end (P10)", "$600", "$300"),
        ("a million tokens", "$0.800", "$0.400"),
    ]  # fmt: skip
    assert bill.title == "Where each dollar of a million queries goes" and bill.rows[0].cells[1:3] == ("$700", "$200")
    assert "$400 per million queries instead of $800 (-50.0 %)" in found.blocks[0].text


def test_no_plan_on_one_side_is_said(run, saved) -> None:
    saved("plan.json")
    assert saved("none.json", "--ttft", "1ms")["recommended"] is None
    found = run("compare", "plan.json", "none.json")
    assert found.code == 0 and "none.json: no plan keeps every limit" in found.out
    assert "TTFT is at least" in found.out


def test_a_rented_and_an_owned_plan_are_told_apart(run, saved) -> None:
    flags = ("-g", "b200", "-t", "baseline", "--weights", "fp8")
    saved("rented.json", *flags), saved("owned.json", *flags, "--own"), saved("mine.json", *flags, "--price", "5/h")
    found = run("compare", "rented.json", "owned.json", "--json").json
    (term,) = [x for x in found["plan"] if x["field"] == "price.term"]
    assert (term["before"], term["after"], term["changed"]) == ("on-demand", "owned", True)
    first = " ".join(run("compare", "rented.json", "owned.json").out.split("\n\n")[0].split())
    assert "; owned GPUs instead of on-demand GPUs." in first
    again = run("compare", "owned.json", "--on", "2026-11-24", "--json").json
    assert not again["changed"] and {x["before"] for x in again["plan"] if x["field"] == "price.term"} == {"owned"}
    assert "owned GPUs instead of GPUs at your price" in " ".join(run("compare", "mine.json", "owned.json").out.split())


def test_lines_that_only_one_plan_has_are_kept(saved) -> None:
    rented, owned = saved("a.json"), saved("b.json", "--own")
    owned["recommended"]["lines"].append({"name": "extra", "usd_per_query": 0.5, "basis": ""})
    found = compare(side(rented, "a"), side(owned, "b"))
    extra = next(x for x in found.lines if x.field == "extra")
    assert extra.before is None and extra.after == 0.5 and extra.changed and extra.relative is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "expected an object"),
        ("{", "line 1"),
        ('{"schema": 2, "command": "recommend"}', "is no saved recommendation"),
        ('{"schema": 1, "command": "estimate"}', "is no saved recommendation"),
        ('{"schema": 1, "command": "recommend", "question": "x"}', "question: expected the call"),
        ('{"schema": 1, "command": "recommend", "question": {"function": "load"}}', "question: expected the call"),
        ('{"schema": 1, "command": "recommend", "question": []}', "model: is missing"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_a_line(run, tmp_path, monkeypatch, text: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").write_text(text, "utf-8")
    found = run("compare", "plan.json")
    assert found.code == 1 and found.out == "" and found.err.count("\n") == 1
    assert says in found.err and "plan.json" in found.err


@pytest.mark.parametrize(
    ("words", "says"), [(["--help"], "asks for help"), (["--bad"], "No such option"), ([], "Miss")]
)
def test_words_of_an_older_plan_that_cannot_be_asked_again(run, saved, tmp_path, words, says: str) -> None:
    document = {**saved("plan.json"), "question": words}
    (tmp_path / "plan.json").write_text(json.dumps(document), "utf-8")
    found = run("compare", "plan.json")
    assert found.code == 1 and found.err.count("\n") == 1 and says in found.err and found.out == ""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"workload": "chat"}, "question: model is missing; save the plan again"),
        ({"workload": "chat", "model": "llama3.1-8b", "colour": "red"}, "recommend has no parameter 'colour'"),
        ({"workload": "chat", "model": "llama3.1-8b", "ttft": "soon"}, "ttft: "),
        ({"workload": ["chat"], "model": "llama3.1-8b"}, "workload: expected text"),
    ],
)
def test_a_call_that_cannot_be_made_again(run, saved, tmp_path, values, says: str) -> None:
    document = {**saved("plan.json"), "question": {"function": "recommend", "values": values}}
    (tmp_path / "plan.json").write_text(json.dumps(document), "utf-8")
    found = run("compare", "plan.json")
    assert found.code == 1 and found.err.count("\n") == 1 and says in found.err and found.out == ""


def test_an_older_plan_answers_as_the_same_question_saved_as_a_call(run, saved, tmp_path) -> None:
    flags = ("-g", "b200", "-g", "h200", "--no-prefix-cache", "--confidence", "60%", "--ttft", "90s", "--tpot", "1s")
    document = saved("call.json", *flags, day="2026-11-01")
    assert document["question"]["values"]["gpus"] == ["b200", "h200"]
    assert document["question"]["values"]["prefix_cache"] is False
    words = {**document, "question": [*ASK[1:], "--on", "2026-11-01", *flags]}
    (tmp_path / "words.json").write_text(json.dumps(words), "utf-8")
    asked = [run("compare", name, "--on", "2026-11-24", "--json") for name in ("call.json", "words.json")]
    found, older = (x.json | {"before": ""} for x in asked)
    assert found == older and found["changed"]
    with pytest.raises(KvplanError, match="words of a command line"):
        kvplan.compare("words.json")


def test_a_result_and_the_document_of_it_are_the_same_side(saved) -> None:
    """What `recommend` returned and what was saved of it have every figure, line and reason in common."""
    for flags, asked in (((), {}), (("--ttft", "1ms"), {"ttft": "1ms"}), (("--own",), {"own": "default"})):
        saved("plan.json", *flags)
        made = kvplan.recommend("doc-qa", "llama3.1-70b", on="2026-11-24", **asked)
        one, other = answered(made, ""), side(catalog.saved_plan("plan.json"), "")
        assert replace(one, reason=flagged(one.reason, command)) == other
        assert not kvplan.compare("plan.json", made).changed
    full = answered(kvplan.recommend("doc-qa", "llama3.1-70b", on="2026-11-24", ttft="9s"), "").figures
    unknown = {name for name, value in full.items() if value is None}
    assert unknown <= {"weights", "limits.e2e", "limits.max_quality_drop", "limits.gpus"}
    assert set(full) == {f.field for f in (*PLAN, *QUESTION)}


#: what is written over a plan, and the field its refusal names
IMPOSSIBLE = [
    ({"ttft": "soon"}, "ttft: expected a number"), ({"tpot": -1}, "tpot: expected a number from 0 to 1e+18, got -1"),
    ({"e2e": True}, "e2e: expected"), ({"gpu": ["x"]}, "gpu: expected text"), ({"gpus": -2}, "gpus: expected"),
    ({"gpus": 1e18}, "gpus: expected"),
    ({"usd_per_query": 3}, "usd_per_query.expected: expected a figure"),
    ({"usd_per_million_tokens": -1}, "usd_per_million_tokens: expected"), ({"usd_per_month": 1e300}, "usd_per_month: "),
    ({"slo_probability": 1.5}, "slo_probability: expected a number from 0 to 1, got 1.5"),
    ({"quality": {"drop": 2}}, "quality.drop: expected a number from -1 to 1"),
    ({"quality": [1]}, "quality.drop: expected a figure"), ({"lines": 3}, "lines: expected a list"),
    ({"lines": [1]}, "lines: line 1: expected a name"), ({"lines": [{"name": 2}]}, "lines: line 1: expected a name"),
    ({"lines": [{"name": "idle", "usd_per_query": -1}]}, "lines: line 1: usd_per_query: expected a number from 0"),
    ({"lines": [{"name": "idle", "usd_per_query": 1}]}, "lines: come to 1 USD a query, but usd_per_query.expected is"),
    ({"kinds": [{"name": "rent", "usd_per_query": 1}]}, "kinds: come to 1 USD a query"),
]  # fmt: skip


def test_figures_that_cannot_be_are_refused_by_their_field(run, saved, tmp_path) -> None:
    document = saved("plan.json")
    for wrong, says in IMPOSSIBLE:
        (tmp_path / "odd.json").write_text(
            json.dumps(document | {"recommended": document["recommended"] | wrong}), "utf-8"
        )
        for words in (("odd.json", "plan.json"), ("plan.json", "odd.json"), ("odd.json", "--on", "2026-11-24")):
            found = run("compare", *words)
            assert (found.code, found.out, found.err.count("\n")) == (1, "", 1), wrong
            assert f"odd.json: recommended.{says}" in found.err


def test_limits_that_cannot_be_are_refused_by_their_field(run, saved, tmp_path) -> None:
    document = saved("plan.json")
    document["limits"]["percentile"] = 95
    (tmp_path / "odd.json").write_text(json.dumps(document), "utf-8")
    found = run("compare", "odd.json")
    assert found.code == 1 and "odd.json: limits.percentile: expected a number from 0 to 1, got 95" in found.err


def test_nothing_is_written_where_it_cannot_be(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").mkdir()
    found = run(*ASK, "--save", "plan.json")
    assert found.code == 1 and "cannot be written" in found.err
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_budget_gate_fails_where_a_query_costs_more(run, saved) -> None:
    saved("plan.json", "-g", "b200", "--price", "5/h", "-t", "baseline")
    saved("other.json", "-g", "b200", "--price", "5.3/h", "-t", "baseline")
    told = run("compare", "plan.json", "other.json", "--fail-above", "5%", "--format", "md")
    assert told.code == 1 and "rises by 6.0 %, more than 5.0 %" in told.err and "| technique |" in told.out
    assert "Failed: the cost of a query rises by 6.0 %, more than 5.0 %." in told.out
    assert "Failed: the cost of a month rises by 6.0 %, more than 5.0 %." in told.out
    assert run("compare", "plan.json", "other.json", "--fail-above", "7%").code == 0
    assert run("compare", "other.json", "plan.json", "--fail-above", "0").code == 0
    wrong = run("compare", "plan.json", "other.json", "--fail-above", "5")
    assert wrong.code == 1 and "--fail-above: expected a share below 1, write 5% if that is meant" in wrong.err
    saved("none.json", "-g", "b200", "--ttft", "1ms", "-t", "baseline")
    assert "none.json has no plan" in run("compare", "plan.json", "none.json", "--fail-above", "5%").err
    unknown = (Change(field="usd_per_query.expected", kind="usd", before=1.0, after=None),)
    assert (
        "not known on both sides"
        in Comparison(
            names=("a", "b"),
            question=(),
            plan=unknown,
            lines=(),
            reasons=("", ""),
            gates=gates(unknown, {"query": 0.05}),
        ).breach
    )


def test_a_gate_holds_a_month_or_a_query(run, saved) -> None:
    """Twice the queries make the month dearer, and a query cheaper, which shares what stands idle."""
    flags = ("-g", "b200", "--price", "5/h", "-t", "baseline")
    saved("few.json", *flags, "--queries-per-day", "20k")
    saved("many.json", *flags, "--queries-per-day", "40k")

    def gated(before: str, after: str, *limits: str):
        return run("compare", before, after, *(word for limit in limits for word in ("--fail-above", limit)), "--json")

    assert gated("few.json", "many.json", "query=5%").code == 0
    grown = gated("few.json", "many.json", "month=5%")
    (gate,) = grown.json["gates"]
    bills = next(x for x in grown.json["plan"] if x["field"] == "usd_per_month")
    assert grown.code == 1 and grown.err.startswith("kvplan: the cost of a month rises by ")
    rise = pytest.approx(bills["after"] / bills["before"] - 1)
    assert gate == {"gate": "month", "limit": 0.05, "rise": rise, "kept": False}
    both = gated("few.json", "many.json", "5%")
    assert both.code == 1 and [g["kept"] for g in both.json["gates"]] == [True, False]
    assert gated("few.json", "many.json", "5%", "month=100%").code == 0  # what is said later and of one alone, holds
    shrunk = gated("many.json", "few.json", "5%")
    assert shrunk.code == 1 and "a query rises by " in shrunk.err and "month" not in shrunk.err
    assert "Passed: the cost of a month falls by " in run("compare", "many.json", "few.json", "--fail-above", "5%").out
    assert gated("few.json", "many.json").json["gates"] == []


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("five", "--fail-above: expected a share such as '5%' or '0.05', got 'five'"),
        ("month=five", "--fail-above: expected a share such as '5%' or '0.05', got 'five'"),
        ("moth=5%", "--fail-above: expected query or month, got 'moth'; did you mean 'month'?"),
        ("5 percent", "--fail-above: expected a share such as '5%' or '0.05', got '5 percent'"),
    ],
)
def test_a_limit_that_is_none_is_told_what_to_write(run, limit: str, said: str) -> None:
    found = run("compare", "a.json", "b.json", "--fail-above", limit)
    assert (found.code, found.out, found.err) == (1, "", f"kvplan: {said}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"a": "b', "line 1: the file ends too early"), ("a,b", r"line 1: expected JSON \(Expecting value\)")],
)
def test_a_plan_that_was_cut_or_is_no_json_is_named(text: str, said: str, tmp_path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(KvplanError, match=said):
        kvplan.compare(str(tmp_path / "plan.json"))


def test_a_rise_that_is_just_allowed_passes(run, saved) -> None:
    """5 to 6.25 USD an hour is a quarter more of every cost, which no sum of floats hits exactly."""
    saved("plan.json", "-g", "b200", "--price", "5/h", "-t", "baseline")
    saved("other.json", "-g", "b200", "--price", "6.25/h", "-t", "baseline")
    assert run("compare", "plan.json", "other.json", "--fail-above", "25%").code == 0
    strict = run("compare", "plan.json", "other.json", "--fail-above", "24.9999%")
    assert strict.code == 1 and "rises by 25.0000 %, more than 24.9999 %" in strict.err


@pytest.mark.parametrize("limit", [0.0, 0.05, 0.1, 0.25, 0.3, 1.0, 7.0])
def test_gates_leave_the_rounding_of_sums_aside(limit: float) -> None:
    for rise, kept in ((limit, True), (limit + 1e-12, True), (limit + 1e-6, False)):
        (gate,) = gates(
            (Change(field="usd_per_query.expected", kind="usd", before=0.3, after=0.3 * (1 + rise)),), {"query": limit}
        )
        assert gate.kept is kept
        shown = gate.verdict.split("rises by ")[1].split(", ")
        assert (shown[0] == shown[1].split("than ")[1]) is kept
