"""Studies: what is read and refused, which points there are, and that no answer is lost, doubled or stale."""

import json
import random
import signal
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import processes
import pytest
from click.testing import CliRunner

pytest.importorskip("pyarrow")

import pyarrow as arrow
import pyarrow.parquet as parquet

import kvplan
from kvplan import catalog
from kvplan.api.sweep import keyed
from kvplan.api.sweeping import batches, dispatch
from kvplan.api.sweeping.batches import Batch, KeyedPoint, Portion
from kvplan.api.sweeping.crews import LoneCrew
from kvplan.api.sweeping.questions import COLUMNS, QUESTIONS, askable, parameters, unavailable
from kvplan.api.sweeping.summary import Front
from kvplan.catalog.studies.keys import Ledger
from kvplan.cli import group
from kvplan.errors import KvplanError, SpecError
from kvplan.planning import design
from kvplan.report.sweep import where
from kvplan.specs.sweep import Sampling

ON = "2026-11-24"
LOADS = """
name: loads
ask: load
fixed: {model: llama3.1-8b, isl: 2k, osl: 200, on: 2026-11-24}
vary:
  gpu: [h100, h200]
  technique: [baseline, fp8]
  concurrency: [1, 8, 64]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "study.yaml") -> str:
    Path(name).write_text(text, "utf-8")
    return name


def study_of(text: str) -> Any:
    return catalog.study(write(text), askable(), unavailable())


def table(folder: str) -> list[dict[str, Any]]:
    """Return all rows of a folder, sorted by point."""
    parts = [parquet.read_table(path) for path in Path(folder).glob("part-*.parquet")]
    rows = arrow.concat_tables(parts).to_pylist() if parts else []
    return sorted(rows, key=lambda row: row["point"])


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vary:", "vry:", "line 5: no field named 'vry'; did you mean 'vary'?"),
        ("concurrency:", "concurency:", "line 8: vary: no parameter named 'concurency'; did you mean 'concurrency'?"),
        ("ask: load", "ask: laod", "line 3: ask: no question named 'laod'; did you mean 'load'?"),
        ("ask: load", "ask: compare", "line 3: ask: it is a question of one answer"),
        ("8, 64", "8, many", "line 8: vary: concurrency: expected a plain number, got 'many'"),
        ("8, 64", "8, 1.5", "line 8: vary: concurrency: expected a whole number, got '1.5'"),
        ("8, 64", "8, 8", "line 8: vary: concurrency: '8' stands twice; write it once"),
        ("isl: 2k", "isl: 2kk", "line 4: fixed: isl: expected a number of tokens such as '128k'"),
        ("h200", "h2000", "line 6: gpu: no GPU named 'h2000'; did you mean"),
        ("llama3.1-8b", "lama3.1-8b", "line 4: model: no model named 'lama3.1-8b'; did you mean 'llama3.1-8b'"),
        ("fp8", "fp9", "line 7: technique: no technique named 'fp9'"),
        ("[1, 8, 64]", "{from: 1, to: 64}", "line 8: vary: concurrency: missing steps, as in steps: 10"),
        ("[1, 8, 64]", "{from: 64, to: 1, steps: 3}", "vary: concurrency: expected numbers, the smaller one first"),
        ("[1, 8, 64]", "{from: 1, to: 9, step: 3}", "line 8: vary: concurrency: no field named 'step'; did you mean"),
        ("[1, 8, 64]", "{from: 1, to: 9, steps: 3, scale: lgo}", "scale: no scale named 'lgo'; did you mean 'log'"),
        ("fixed: {model: llama3.1-8b, ", "fixed: {", "line 4: fixed: missing model, as in fixed: {model: "),
        ("isl: 2k", "gpu: h100, isl: 2k", "line 5: vary: gpu stands in two of fixed, cases and vary"),
        ("[baseline, fp8]", "[baseline, fp8", "line 8: expected , or ]: the list that begins in line 7 is not closed"),
        ("  technique", "\ttechnique", "line 7: a tab; indent with spaces"),
        ("name: loads", "name: @loads", "line 2: @ cannot begin a value; put the value in quotes"),
        ("name: loads", "name: a: b", "put texts with : in quotes"),
        ("name: loads", "name: 'loads", "the quote that begins in line 2 is not closed"),
        ("name: loads", "name: loads\nminimize: usd_per_qery", "line 3: minimize: no figure named 'usd_per_qery'"),
        ("name: loads", "name: loads\nheat: {x: gpu, y: isl, figure: p95_ttft}", "heat: y: no varied parameter"),
        ("name: loads", "name: loads\nsample: {method: sobl, points: 8}", "sample: method: no method named 'sobl'"),
        ("name: loads", "name: loads\nsample: {points: 0}", "line 3: sample: points: expected from 1 to 10,000,000"),
        ("name: loads", "name: loads\ncases: [{tp: 1}, {tp: 2, pp: 1}]", "line 3: cases: pp stands not in the first"),
        ("vary:", "vary: {}\nname2:", "no field named 'name2'"),
    ],
)  # fmt: skip
def test_a_broken_study_says_the_line_the_key_and_the_right_spelling(
    place: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(KvplanError) as refusal:
        kvplan.sweep(write(LOADS.replace(old, new, 1)), "results", workers=1)
    assert str(refusal.value).startswith("study.yaml: line ") and said in str(refusal.value)
    assert not Path("results").exists()


def test_a_question_that_kvplan_lacks_is_refused_until_it_is_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvplan, "__all__", [name for name in kvplan.__all__ if name != "simulate"])
    with pytest.raises(SpecError, match="line 3: ask: this release of kvplan does not offer it; known: estimate"):
        study_of(LOADS.replace("ask: load", "ask: simulate"))


def test_values_are_read_in_the_units_of_the_questions(place: Path) -> None:
    study = study_of(
        "ask: recommend\nfixed: {workload: chat, model: llama3.1-8b, ttft: none, percentile: 95%, any-technique: yes}\n"
        "vary: {price: [2.49/h, $3 / hour, 3.5], tpot: [50ms], rate: [2/s], gpu: [[h100, h200]]}\n"
    )
    values = next(iter(design.points(study))).values
    assert values == {
        "workload": "chat", "model": "llama3.1-8b", "ttft": "none", "percentile": 0.95, "any_technique": True,
        "price": 2.49, "tpot": 0.05, "rate": 2.0, "gpus": ("h100", "h200"),
    }  # fmt: skip
    assert [choice.value for choice in study.axes[0].choices] == [2.49, 3.0, 3.5]


@pytest.mark.parametrize("name", catalog.names("studies"))
def test_a_shipped_study_is_one(place: Path, name: str) -> None:
    from kvplan.api.sweeping.names import check

    study = catalog.study(name, askable(), unavailable())
    check(study)
    assert study.title and study.heat and study.minimize and 20 <= design.count(study) <= 500
    assert f"`{name}`" in (Path(__file__).parent.parent / "docs" / "sweep.md").read_text("utf-8")


def test_there_are_ten_studies() -> None:
    assert len(catalog.names("studies")) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names("studies"))
def test_a_point_of_a_shipped_study_has_an_answer(place: Path, name: str) -> None:
    study = catalog.study(name, askable(), unavailable())
    columns, named = batches.columns_of(study)
    first = next(keyed(study))
    batch = Batch(ask=study.ask, points=(first,), columns=tuple(columns), parameters=named, stands="", folder=".")
    (row,) = batches.asked_together(QUESTIONS[study.ask], [first], batch)
    assert row["status"] == "answered", row["reason"]
    assert row[study.heat.figure] is not None


# -- points ---------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_once_in_the_order_of_the_file(place: Path) -> None:
    study = study_of(LOADS)
    wanted = list(product(["h100", "h200"], ["baseline", "fp8"], [1, 8, 64]))
    found = sorted(design.points(study, gathered={"technique"}), key=lambda point: point.number)
    assert [(p.values["gpu"], p.values["technique"], p.values["concurrency"]) for p in found] == wanted
    assert [p.number for p in found] == list(range(12)) and design.count(study) == 12


def test_points_that_share_work_follow_one_another(place: Path) -> None:
    order = [p.values for p in design.points(study_of(LOADS), gathered={"technique"})]
    for n in range(0, 12, 2):
        assert {order[n]["technique"], order[n + 1]["technique"]} == {"baseline", "fp8"}
        assert order[n]["concurrency"] == order[n + 1]["concurrency"] and order[n]["gpu"] == order[n + 1]["gpu"]


def test_cases_differ_together(place: Path) -> None:
    study = study_of(
        "ask: load\nfixed: {isl: 2k, osl: 200, gpu: h100}\n"
        "cases: [{model: llama3.1-8b, tp: 1}, {model: llama3.1-70b, tp: 4}]\nvary: {concurrency: [1, 8]}\n"
    )
    found = [(p.values["model"], p.values["tp"], p.values["concurrency"]) for p in design.points(study)]
    pairs = (("llama3.1-8b", 1), ("llama3.1-70b", 4))
    assert found == [(*pair, load) for pair in pairs for load in (1, 8)]


def test_a_range_has_its_ends_and_even_steps(place: Path) -> None:
    even = study_of(LOADS.replace("[1, 8, 64]", "{from: 10, to: 50, steps: 5}"))
    log = study_of(LOADS.replace("[1, 8, 64]", "{from: 1, to: 64, steps: 4, scale: log}"))
    assert [c.value for c in even.axes[-1].choices] == [10, 20, 30, 40, 50]
    assert [c.value for c in log.axes[-1].choices] == [1, 4, 16, 64]


def test_a_latin_hypercube_has_one_point_in_every_strip_of_every_axis() -> None:
    drawn = design.drawn(Sampling(method="latin", points=20, seed=3), 3)
    for column in drawn.T:
        assert sorted(int(share * 20) for share in column) == list(range(20))


def test_sobol_s_points_halve_every_axis_and_begin_a_longer_sequence() -> None:
    many, few = (design.drawn(Sampling(method="sobol", points=n, seed=3), 2) for n in (64, 50))
    assert (many[:50] == few).all()
    for column in many.T:
        assert sum(share < 0.5 for share in column) == 32


def test_a_sample_draws_the_same_points_from_the_same_seed(place: Path) -> None:
    text = LOADS.replace("[1, 8, 64]", "{from: 1, to: 64, scale: log}") + "sample: {points: 16, seed: SEED}\n"
    first, again, other = (list(design.points(study_of(text.replace("SEED", n)))) for n in "112")
    assert first == again != other and len(first) == 16
    assert all(1 <= p.values["concurrency"] <= 64 and p.values["gpu"] in ("h100", "h200") for p in first)


# -- answers --------------------------------------------------------------------------------------


def test_points_asked_together_have_the_answers_they_have_alone() -> None:
    """The slow twin: one call of the question for each point."""
    same: dict[str, Any] = {"model": "llama3.1-8b", "on": ON}
    names = ("baseline", "fp8", "int4", "mhc:4x", "h2o:20%", "nonesuch")
    calls = [{**same, "gpus": "h100", "context": 8192, "techniques": name} for name in names]
    check_twin(QUESTIONS["estimate"], calls)
    lengths: dict[str, Any] = {**same, "gpu": "h100", "isl": 2048, "osl": 200}
    each = ({"concurrency": 4}, {"concurrency": 64}, {"rate": 2.0}, {"rate": 1e6}, {"ttft": 1.0}, {"concurrency": 0})
    check_twin(QUESTIONS["load"], [{**lengths, **one} for one in each])


def check_twin(question: Any, calls: list[dict[str, Any]]) -> None:
    together, alone = question.ask(calls), [question.ask([call])[0] for call in calls]
    told = [batches.told(question, found) for found in together]
    assert told == [batches.told(question, found) for found in alone]
    assert {row["status"] for row in told} == {"answered", "refused"}


def test_figures_are_those_of_the_question() -> None:
    survey = kvplan.load("llama3.1-8b", "h100", 2048, 200, concurrency=16, on=ON)
    row = QUESTIONS["load"].row(survey)
    assert (row["p95_ttft"], row["usd_per_query"]) == (survey.points[0].ttft.p95, survey.points[0].usd_per_query)
    answer = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="baseline", on=ON)
    row = QUESTIONS["recommend"].row(answer)
    assert answer.plan is not None and row["gpu_count"] == answer.plan.gpus and row["chosen_gpu"] == "h100-sxm"
    assert row["cost_over_api"] == pytest.approx(row["usd_per_month"] / row["usd_per_month_api"])


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name in kvplan.__all__])
def test_no_figure_is_called_like_a_parameter(name: str) -> None:
    known = {COLUMNS.get(parameter, parameter) for parameter in parameters(name)}
    assert not known & set(QUESTIONS[name].figures)
    assert set(QUESTIONS[name].minimize) <= set(askable()[name].figures)
    assert set(QUESTIONS[name].shown) <= set(QUESTIONS[name].figures)


def test_a_point_that_fails_is_kept_with_its_reason_and_spoils_no_other(place: Path, monkeypatch) -> None:
    def broken(server: Any, concurrency: int, **call: Any) -> Any:
        if concurrency == 8:
            raise ZeroDivisionError("by zero")
        return under_load(server, concurrency=concurrency, **call)

    under_load = kvplan.api.sweeping.questions.under_load
    monkeypatch.setattr(kvplan.api.sweeping.questions, "under_load", broken)
    study = LOADS.replace("[1, 8, 64]", "[1, 8, 64, 2000000]")
    swept = kvplan.sweep(write(study), "results", workers=1)
    assert swept.summary.statuses == {"answered": 8, "failed": 4, "refused": 4}
    reasons = {(row["status"], row["concurrency"]): row["reason"] for row in table("results")}
    assert reasons["failed", 8] == "unexpected ZeroDivisionError: by zero"
    assert reasons["refused", 2000000].startswith("concurrency: expected from 1 to 1,000,000")
    assert reasons["answered", 1] == ""


def test_a_no_is_told_from_an_answer(place: Path) -> None:
    swept = kvplan.sweep(
        write(LOADS.replace("[baseline, fp8]", "[fp8]").replace("osl: 200", "osl: 200, ttft: 150ms")), "out", workers=1
    )
    rows = {(row["gpu"], row["concurrency"]): row for row in table("out")}
    assert rows["h100", 1]["status"] == "answered" and rows["h100", 64]["status"] == "infeasible"
    assert "breaks the limit of TTFT" in rows["h100", 64]["reason"]
    assert all(row["status"] == "answered" for row in swept.summary.front)


# -- going on -------------------------------------------------------------------------------------


def test_a_sweep_asks_nothing_twice_and_only_what_was_added(place: Path) -> None:
    file = write(LOADS)
    first = kvplan.sweep(file, "results", workers=1)
    rows = table("results")
    again = kvplan.sweep(file, "results", workers=1)
    more = kvplan.sweep(write(LOADS.replace("8, 64", "8, 32, 64")), "results", workers=1)
    assert (first.asked, again.asked, more.asked) == (12, 0, 4)
    known = {row["key"]: {**row, "point": 0} for row in table("results")}
    assert len(known) == 16 and all(known[row["key"]] == {**row, "point": 0} for row in rows)


def test_rows_that_are_asked_no_more_are_put_aside(place: Path) -> None:
    kvplan.sweep(write(LOADS), "results", workers=1)
    fewer = kvplan.sweep(write(LOADS.replace("8, 64", "8")), "results", workers=1)
    assert (fewer.asked, fewer.superseded, fewer.summary.rows) == (0, 4, 8)
    assert "4 rows of points that the study no longer asks went to results/_superseded." in where(fewer)
    assert len(table("results")) == 8 and len(list(Path("results/_superseded").glob("*.parquet"))) == 1


def test_a_changed_file_recomputes_its_points_alone(place: Path) -> None:
    shipped = (catalog.shelf("gpus") / "h200.yaml").read_text("utf-8")
    write(shipped.replace("name: h200", "name: mine"), "mine.yaml")
    study = LOADS.replace("h200", "./mine.yaml").replace("gpu:", "price: [2]\n  gpu:")
    assert kvplan.sweep(write(study), "results", workers=1).asked == 12
    write(shipped.replace("name: h200", "name: mine").replace("4.8 TB/s", "4.0 TB/s"), "mine.yaml")
    again = kvplan.sweep("study.yaml", "results", workers=1)
    assert (again.asked, again.superseded) == (6, 6)
    assert len({row["key"] for row in table("results")}) == 12


def test_another_kvplan_recomputes_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kvplan.sweep(write(LOADS), "results", workers=1)
    batches.ready.cache_clear()
    for module in (kvplan.api.sweep, batches):
        monkeypatch.setattr(sys.modules[module.__name__], "foundation", lambda: "another")
    report = sys.modules["kvplan.api.sweep"].sweep("study.yaml", "results", so_far=True)
    assert (report.summary.rows, report.summary.strangers) == (0, 12)
    assert sys.modules["kvplan.api.sweep"].sweep("study.yaml", "results", workers=1).asked == 12


def test_the_foundation_is_made_of_code_and_shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvplan.catalog.studies import marks

    for folder, name, text in (
        ("code", "a.py", "one"),
        ("data/profiles/prices", "p.yaml", "1"),
        ("data", "m.yaml", ""),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    monkeypatch.setattr(marks, "CODE", tmp_path / "code")
    monkeypatch.setattr(marks, "DATA", tmp_path / "data")
    fresh = marks.foundation.__wrapped__
    first = fresh()
    (tmp_path / "data" / "m.yaml").write_text("changed")
    assert fresh() == first
    (tmp_path / "data/profiles/prices/p.yaml").write_text("2")
    second = fresh()
    (tmp_path / "code/a.py").write_text("two")
    assert len({first, second, fresh()}) == 3


def test_the_day_is_that_of_the_folder_until_another_is_named(place: Path) -> None:
    file = write(LOADS.replace(", on: 2026-11-24", ""))
    assert kvplan.sweep(file, "results", workers=1, on=ON).day == ON
    assert (kvplan.sweep(file, "results", workers=1).day, kvplan.sweep(file, "results", workers=1).asked) == (ON, 0)
    later = kvplan.sweep(file, "results", workers=1, on="2026-11-25")
    assert (later.day, later.asked) == ("2026-11-25", 12)


@pytest.mark.parametrize("group", [1, 5, 50_000])
def test_compacting_keeps_every_row_in_one_file(place: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(sys.modules["kvplan.api.sweep"], "MOST", 2)
    monkeypatch.setattr(sys.modules["kvplan.catalog.studies.parts"], "GROUP", group)
    kvplan.sweep(write(LOADS), "results", workers=1)
    rows = table("results")
    assert len(list(Path("results").glob("part-*.parquet"))) == 6
    swept = kvplan.sweep("study.yaml", "results", workers=1, compact=True)
    (path,) = Path("results").glob("part-*.parquet")
    assert parquet.read_table(path).to_pylist() == rows and swept.asked == 0
    assert parquet.ParquetFile(path).num_row_groups == -(-len(rows) // group)
    assert kvplan.sweep("study.yaml", "results", workers=1).asked == 0
    more = write(LOADS.replace("8, 64", "2, 8, 64"))
    kvplan.sweep(more, "results", workers=1, compact=True)  # one file again, of the old one and of what is new
    assert len(list(Path("results").glob("part-*.parquet"))) == 1
    assert [row["point"] for row in table("results")] == sorted(row["point"] for row in table("results"))
    assert kvplan.sweep(more, "results", workers=1).summary.rows == len(table("results"))


def test_the_folder_is_read_as_one_table(place: Path) -> None:
    kvplan.sweep(write(LOADS), "results", workers=1)
    kvplan.sweep(write(LOADS.replace("8, 64", "8")), "results", workers=1)
    assert parquet.read_table("results").num_rows == 8  # as pandas.read_parquet("results/") does


def test_a_damaged_part_is_named(place: Path) -> None:
    kvplan.sweep(write(LOADS), "results", workers=1)
    (path,) = Path("results").glob("part-*.parquet")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SpecError, match=rf"{path.name}: cannot be read .*remove it, and its points are asked again"):
        kvplan.sweep("study.yaml", "results", workers=1)
    path.unlink()
    assert kvplan.sweep("study.yaml", "results", workers=1).asked == 12


def test_one_process_writes_into_a_folder(place: Path) -> None:
    from kvplan.catalog.studies import parts

    kvplan.sweep(write(LOADS), "results", workers=1)
    with parts.alone(Path("results")), pytest.raises(SpecError, match="another kvplan sweep writes here"):
        kvplan.sweep("study.yaml", "results", workers=1)
    assert kvplan.sweep("study.yaml", "results", so_far=True).summary.rows == 12


def test_so_far_asks_nothing(place: Path) -> None:
    with pytest.raises(SpecError, match="results: no such folder; no point of this study has been asked yet"):
        kvplan.sweep(write(LOADS), "results", so_far=True)
    assert not Path("results").exists()
    Path("results").mkdir()
    said = CliRunner().invoke(group, ["sweep", write(LOADS), "-o", "results", "--so-far"]).stdout
    assert "There are no points in results yet: the same without --so-far asks them." in said and "duckdb" not in said


# -- the ledger, the front ------------------------------------------------------------------------


def test_a_ledger_is_a_set_of_keys() -> None:
    draw = random.Random(1)
    keys = [draw.randbytes(16) for _ in range(500)]
    ledger, seen = Ledger(keys), set()
    for key in draw.choices([*keys, *(draw.randbytes(16) for _ in range(200))], k=2000):
        assert ledger.note(key) == (key in keys and key not in seen)
        seen |= {key} & set(keys)
    assert ledger.answered == len(seen) and all(ledger.has(key) == (key in seen) for key in keys)
    assert [ledger[n] for n in range(len(ledger))] == keys


def test_a_front_is_what_no_other_point_beats() -> None:
    draw = random.Random(2)
    rows = [{"point": n, "a": draw.randrange(12), "b": draw.randrange(12), "c": draw.randrange(4)} for n in range(300)]
    for names in (("a", "b"), ("a", "b", "c")):
        front = Front(names)
        for row in rows:
            front.take(row)
        values = [tuple(row[name] for name in names) for row in rows]
        beaten = [any(o != v and all(x <= y for x, y in zip(o, v, strict=True)) for o in values) for v in values]
        wanted = {v for v, lost in zip(values, beaten, strict=True) if not lost}
        found = [tuple(row[name] for name in names) for row in front.sorted()]
        assert len(found) == len(wanted) and set(found) == wanted and found == sorted(found)
        firsts = {v: n for n, v in reversed(list(enumerate(values)))}
        assert [row["point"] for row in front.sorted()] == [firsts[v] for v in found]


# -- workers that die -----------------------------------------------------------------------------


class MortalCrew(LoneCrew):
    """A crew of several whose workers die now and then, all at once, and always at some points."""

    size = 3

    def __init__(self, deadly: set[int], seed: int):
        super().__init__()
        self.deadly, self.draw = deadly, random.Random(seed)

    def hand_over(self) -> list[tuple[Batch, Any]]:
        waiting, self.waiting = list(self.waiting), type(self.waiting)()
        fatal = any(point.number in self.deadly for batch in waiting for point in batch.points)
        if fatal or (len(waiting) > 1 and self.draw.random() < 0.3):
            return [(batch, None) for batch in waiting]
        done = self.draw.randrange(1, len(waiting) + 1)
        self.waiting.extend(waiting[done:])
        return [(batch, self.portion(batch)) for batch in waiting[:done]]

    def portion(self, batch: Batch) -> Portion:
        some = self.draw.randrange(1, len(batch.points) + 1)
        return Portion(content=b"", name=str(batch.points[0].number), points=some, wrong=0)


@pytest.mark.parametrize("seed", range(20))
def test_no_point_is_lost_or_done_twice_when_workers_die(seed: int) -> None:
    draw = random.Random(seed)
    total = draw.randrange(1, 120)
    deadly = set(draw.sample(range(total), min(total, seed % 3)))
    points = [KeyedPoint(number=n, key=bytes(16), values={}) for n in range(total)]
    like = Batch(ask="load", points=(), columns=(), parameters=(), stands="", folder="")
    crew, done = MortalCrew(deadly, seed), list[int]()
    course = dispatch.Dispatch(
        dispatch.cut(iter(points), draw.randrange(1, 30), like), crew, lambda p: None, lambda n, w: None
    )

    def returned(batch: Batch, portion: Portion, alone: bool) -> None:
        done.extend(point.number for point in batch.points[: portion.points])
        dispatch.Dispatch.returned(course, batch, portion, alone)

    course.returned = returned  # type: ignore[method-assign]
    lost = {point.number for point in course.run()}
    assert sorted(done) == [n for n in range(total) if n not in lost] and lost == deadly


def test_workers_that_never_answer_are_not_waited_for() -> None:
    points = [KeyedPoint(number=n, key=bytes(16), values={}) for n in range(9)]
    like = Batch(ask="load", points=(), columns=(), parameters=(), stands="", folder="")
    course = dispatch.Dispatch(
        dispatch.cut(iter(points), 2, like), MortalCrew(set(range(9)), 1), lambda p: None, lambda n, w: None
    )
    with pytest.raises(SpecError, match="every process ends before it answers; ask with workers=1"):
        course.run()


def test_a_worker_of_another_kvplan_does_not_answer(place: Path) -> None:
    study = study_of(LOADS)
    columns, named = batches.columns_of(study)
    batch = Batch(
        ask="load", points=tuple(keyed(study)), columns=tuple(columns), parameters=named, stands="other", folder="."
    )
    refusal = batches.answered(batch)
    assert isinstance(refusal, SpecError) and "this worker has another kvplan" in str(refusal)


def test_a_slow_batch_comes_back_in_portions(place: Path) -> None:
    from kvplan.catalog.studies.marks import foundation

    study = study_of(LOADS)
    columns, named = batches.columns_of(study)
    batch = Batch(
        ask="load", points=tuple(keyed(study)), columns=tuple(columns), parameters=named, stands=foundation(),
        folder=str(place),
    )  # fmt: skip
    portion = batches.answer(batch, patience=0.0)
    assert portion.points == 3  # one group: the loads of one server
    Path("part-1.parquet").write_bytes(portion.content)
    assert [row["concurrency"] for row in table(".")] == [1, 8, 64]


# -- processes ------------------------------------------------------------------------------------

MANY = """
name: many
ask: load
fixed: {model: llama3.1-8b, isl: 2k, osl: 200, on: 2026-11-24}
vary:
  gpu: [h100, h200]
  technique: [baseline, fp8]
  concurrency: {from: 1, to: 200, steps: 120}
"""


@pytest.mark.slow
def test_processes_killed_at_any_moment_leave_the_same_table(place: Path) -> None:
    """The pool equals one process; kill -9 of the sweep or of a worker loses no point and doubles none."""
    write(MANY)
    assert kvplan.sweep("study.yaml", "alone", workers=1).asked == 480
    words = ("-m", "kvplan", "sweep", "study.yaml", "-o", "killed", "--workers", "2", "--json")
    draw, quiet = random.Random(4), {"stdout": -3, "stderr": -3}
    for round_ in range(2):
        with processes.python(*words, **quiet) as sweep:
            grown = len(list(Path("killed").glob("part-*")))
            processes.until(lambda grown=grown: len(list(Path("killed").glob("part-*"))) > grown or gone_already(sweep))
            time.sleep(draw.uniform(0, 0.2))
            workers = below(sweep.pid)
            if round_ == 1 and workers:
                kill(max(workers))  # one worker alone: the sweep goes on and ends
                assert sweep.wait(processes.PATIENCE) == 0
            else:
                sweep.send_signal(signal.SIGKILL)
                sweep.wait()
        assert processes.gone(workers), "a worker outlived its sweep"
        rows = table("killed")
        assert len({row["key"] for row in rows}) == len(rows)
    assert kvplan.sweep("study.yaml", "killed", workers=1).summary.rows == 480
    assert table("killed") == table("alone")


@pytest.mark.slow
def test_processes_use_the_kvplan_that_asks_and_not_one_they_stand_beside(place: Path) -> None:
    Path("kvplan").mkdir()
    Path("kvplan/__init__.py").write_text("__version__ = 'another'\n")
    script = f"import sys; sys.path.insert(0, {str(Path(kvplan.__file__).parent.parent)!r}); import kvplan\n"
    script += "if __name__ == '__main__': print(kvplan.sweep('study.yaml', 'results', workers=2).asked)"
    write(script, "script.py")
    write(LOADS)
    with processes.python("script.py", stdout=-1) as asked:
        assert asked.communicate(timeout=processes.PATIENCE)[0] == "12\n"


def gone_already(process: Any) -> bool:
    return process.poll() is not None


def kill(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGKILL)


def below(pid: int) -> list[int]:
    """Return the processes under a process."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


# -- the command ----------------------------------------------------------------------------------


def test_the_command_says_what_it_found_and_json_is_one_document(run, place: Path) -> None:
    write(LOADS)
    said = run("sweep", "study.yaml", "-o", "results", "--workers", "1", "--json")
    assert said.code == 0 and said.err == ""
    found = said.json
    assert (found["points"], found["answered"], found["complete"], found["asked_now"]) == (12, 12, True, 12)
    assert found["best"][0]["usd_per_query"] == min(row["usd_per_query"] for row in table("results"))
    assert found["map"]["least"][0][0] is not None and found["varied"] == ["gpu", "technique", "concurrency"]
    text = run("sweep", "study.yaml", "-o", "results", "--report", "--workers", "1").out
    assert "12 points of kvplan load at the prices of 2026-11-24: 12 answered." in text
    assert "Pareto front of usd_per_query and p95_ttft" in text and "Least usd_per_query by technique and gpu" in text


def test_a_lost_point_is_named_and_is_a_no(run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(LOADS)
    whole = kvplan.sweep("study.yaml", "results", workers=1)
    lost = replace(whole, lost=(7,))
    monkeypatch.setattr("kvplan.cli.sweep.sweep", lambda **_: lost)
    said = run("sweep", "study.yaml", "-o", "results", "--json")
    assert said.code == 1 and "1 point ended every process that asked it (point 7)" in said.err
    assert json.loads(said.out)["lost"] == [7]


def test_an_interruption_says_how_to_go_on(run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvplan.cli.sweep.sweep", interrupted)
    said = run("sweep", write(LOADS), "-o", "results")
    assert said.code == 130 and "the same command goes on: kvplan sweep study.yaml -o results" in said.err


def test_what_goes_only_with_ray_is_refused_without(place: Path) -> None:
    with pytest.raises(SpecError, match="address: is that of a Ray cluster; say engine=ray with it"):
        kvplan.sweep(write(LOADS), "results", address="auto")


def test_without_pyarrow_it_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SpecError, match=r"install pyarrow with: pip install 'kvplan\[sweep\]'"):
        kvplan.sweep(write(LOADS), "results", workers=1)
    assert not Path("results").exists()


def test_without_ray_it_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        SpecError, match=r"engine: needs Ray 2.60 or newer; install it with: pip install 'kvplan\[ray\]'"
    ):
        kvplan.sweep(write(LOADS), "results", engine="ray")
    assert not Path("results").exists()


@pytest.mark.slow
def test_a_cluster_gives_the_table_of_one_process(place: Path) -> None:
    """Two workers of a cluster of this machine, one of which is killed. Set KVPLAN_TEST_RAY=1; takes minutes."""
    import os

    if not os.environ.get("KVPLAN_TEST_RAY"):
        pytest.skip("starts a Ray cluster: ask for it with KVPLAN_TEST_RAY=1")
    ray = pytest.importorskip("ray", minversion="2.60")
    write(MANY)
    kvplan.sweep("study.yaml", "alone", workers=1)
    killed: list[int] = []

    def told(done: int, total: int, wrong: int) -> None:
        if not killed:
            names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in below(os.getpid())}
            killed.extend([pid for pid, name in names.items() if name.startswith(("ray::answered", "ray::IDLE"))][:1])
            for pid in killed:
                kill(pid)

    with processes.bounded(600):
        swept = kvplan.sweep("study.yaml", "many", engine="ray", address="local", workers=2, progress=told)
    assert killed and swept.asked == 480 and not ray.is_initialized()
    assert table("many") == table("alone")


def test_a_study_of_which_no_point_can_be_asked_fails_and_a_look_writes_nothing(run, tmp_path) -> None:
    text = (
        "ask: load\nfixed: {model: llama3.1-8b, gpu: h100, isl: 1000, osl: 100, rate: 2, concurrency: 4}\n"
        "vary: {technique: [baseline, fp8]}\n"
    )
    file = tmp_path / "both.yaml"
    file.write_text(text, "utf-8")
    found = run("sweep", str(file), "-o", str(tmp_path / "out"), "--workers", "1")
    assert found.code == 1 and "none of 2 points could be asked" in found.err
    wrong = run("sweep", str(file), "-o", str(tmp_path / "out"), "--so-far", "--compact")
    assert wrong.code == 2 and "--so-far, --compact: a look writes nothing" in wrong.err
