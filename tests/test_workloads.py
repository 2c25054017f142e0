"""Workloads: derived tokens, distributions that integrate exactly, prefix reuse, and files that cannot be read."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.catalog.workloads import all_workloads, workload
from kvplan.errors import KvplanError
from kvplan.specs.quality import TASKS
from kvplan.specs.workload import WIDEST, Lengths, Lognormal, Quantiles

ROOT = Path(__file__).parent.parent
NAMES = catalog.names("workloads")
WANTED = "doc-qa code-review legal-contracts medical-summaries code-assistant chat rag batch-summaries video-qa agents"

lognormals = st.builds(
    lambda mean, ratio, low, high: Lognormal(mean, mean * ratio, max(mean * low, 1.0), mean * high),
    st.floats(10, 1e6),
    st.floats(1.01, WIDEST),
    st.floats(0.001, 0.9),
    st.floats(1.1, 50),
)
measured = st.lists(st.floats(1, 1e6), min_size=2, max_size=12).map(
    lambda found: Quantiles(tuple((i / (len(found) - 1), length) for i, length in enumerate(sorted(found))))
)


def test_the_shelf_holds_the_named_workloads() -> None:
    assert set(WANTED.split()) <= set(NAMES)
    assert [w.name for w in all_workloads()] == list(NAMES)


# -- known numbers --------------------------------------------------------------------------------


def test_a_hundred_pages_are_66500_tokens() -> None:
    """100 pages x 500 words x 1.33 tokens = 66,500; with 300 of instructions and 30 words of question 66,839.9."""
    w = workload("doc-qa")
    document = next(p for p in w.parts if p.name == "document")
    assert str(document) == "100 pages x 500 words x 1.33 tokens = 66,500 tokens"
    assert document.tokens == pytest.approx(100 * 500 * 1.33)
    assert w.input.mean == pytest.approx(300 + 66_500 + 30 * 1.33)
    assert {f.source.kind for f in document.factors} == {"assumption", "quote"}


def test_ten_thousand_lines_and_a_minute_of_video() -> None:
    assert next(p for p in workload("code-review").parts if p.name == "code").tokens == 100_000
    assert workload("video-qa").visual_tokens == 60 * 2 * 256 == 30_720


def test_five_questions_to_a_document_reuse_four_fifths_of_it() -> None:
    """Instructions always hit, the document 4 times of 5, the question never."""
    w = workload("doc-qa")
    assert w.prefix_share == pytest.approx((300 + 66_500 * 4 / 5) / (300 + 66_500 + 39.9))


def test_a_prefix_ends_at_the_first_part_that_is_new() -> None:
    """Passages of RAG differ, so only the 500 tokens of instructions before them are reused."""
    w = workload("rag")
    assert w.prefix_share == pytest.approx(500 / w.input.mean)


@pytest.mark.parametrize(
    ("name", "side", "mean", "p50", "p95"),
    [
        ("chat", "input", 1154.7, 1020, 4083),
        ("chat", "output", 211.1, 129, 451),
        ("code-assistant", "input", 2047.8, 1469, 7303),
        ("code-assistant", "output", 27.88, 13, 90),
        ("agents", "input", 12035.1, 6909, 39550),
        ("agents", "output", 342.6, 350, 698),
    ],
)
def test_logged_lengths_are_those_of_the_traces(name: str, side: str, mean: float, p50: float, p95: float) -> None:
    """Azure 2023 conversation and code, Mooncake conversation; means of the whole logs, within what quantiles lose."""
    lengths: Lengths = getattr(workload(name), side)
    assert lengths.mean == pytest.approx(mean, rel=0.04)
    assert (lengths.quantile(0.5), lengths.quantile(0.95)) == (p50, p95)


def test_reuse_and_burstiness_of_the_logs() -> None:
    assert workload("agents").prefix_share == 0.3736
    assert workload("agents").prefix_classes == ((0.5, 0.0), (0.5, pytest.approx(0.7472)))
    assert [workload(n).arrivals.burstiness for n in ("chat", "code-assistant", "agents")] == [1.09, 13.2, 1.55]


def test_a_cross_attention_model_reads_the_text_alone() -> None:
    w = workload("video-qa")
    text = w.cross_attended()
    assert text.input.mean == pytest.approx(200 + 30 * 1.33)
    assert text.visual_tokens == w.visual_tokens == 30_720 and not any(p.visual for p in text.parts)
    assert text.prefix_share == pytest.approx(200 / text.input.mean)
    assert workload("chat").cross_attended() is workload("chat")


def test_rates_of_a_day() -> None:
    a = workload("doc-qa").arrivals
    assert a.mean_rate == pytest.approx(40_000 / 86_400)
    assert a.peak_factor == pytest.approx(18 * 24 / sum(a.hours))
    assert a.peak_rate == pytest.approx(max(a.rate(hour) for hour in range(24)))
    assert sum(a.rate(hour) * 3600 for hour in range(24)) == pytest.approx(40_000)


# -- properties -----------------------------------------------------------------------------------


def agrees(lengths: Lengths, mean: float | None = None) -> None:
    found = [lengths.quantile(q / 40) for q in range(41)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(found))
    assert sum(weight for _, weight in lengths.points) == pytest.approx(1, abs=1e-12)
    assert sum(length * weight for length, weight in lengths.points) == pytest.approx(lengths.mean)
    assert lengths.between(0, 1) == pytest.approx(lengths.mean, rel=1e-6)
    assert found[0] * (1 - 1e-9) <= lengths.mean <= found[-1] * (1 + 1e-9)
    assert all(a <= b * (1 + 1e-6) + 1e-6 for (a, _), (b, _) in pairwise(lengths.points))
    if mean is not None:
        assert lengths.mean == pytest.approx(mean, rel=1e-6)
    assert lengths.times(3).mean == pytest.approx(3 * lengths.mean, rel=1e-6)


@given(lognormals)
def test_a_lognormal_keeps_its_mean_within_its_bounds(lengths: Lognormal) -> None:
    agrees(lengths, lengths.average)


@given(measured)
def test_quantiles_integrate_exactly(lengths: Quantiles) -> None:
    agrees(lengths)


def test_a_lognormal_barely_cut_has_the_p95_it_was_given() -> None:
    lengths = Lognormal(1000, 2000, 1, 1e6)
    assert lengths.quantile(0.95) == pytest.approx(2000, rel=1e-3)
    assert lengths.quantile(0.5) == pytest.approx(1000 * 2.718281828 ** (-(lengths.sigma**2) / 2), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_workload_holds_together(name: str) -> None:
    w = workload(name)
    agrees(w.input, sum(p.tokens for p in w.parts) if w.parts else None)
    agrees(w.output, sum(p.tokens for p in w.answer) if w.answer else None)
    assert w.task in TASKS and 0 <= w.prefix_share < 1 and w.arrivals.peak_factor >= 1
    assert w.offline == (w.slo.ttft is None)
    assert 0 < w.slo.percentile < 1 and set(w.sources) - {"item", "between_questions"} == {
        "input",
        "output",
        "arrivals",
        "slo",
    }
    assert w.context(1.0) <= 131_072


# -- command line and files -----------------------------------------------------------------------


def test_list_and_show(run) -> None:
    listed = run("list", "workloads", "--json").json["workloads"]
    assert [w["name"] for w in listed] == list(NAMES)
    assert "100 pages x 500 words x 1.33 tokens = 66,500 tokens" in run("show", "workload", "doc-qa").out
    fields = {f["field"]: f for f in run("show", "workload", "document-qa", "--json").json["fields"]}
    assert fields["input_mean"]["value"] == 66_840 and fields["ttft"]["value"] == 5.0
    assert "75 English words" in fields["input document: tokens"]["source"]
    assert "did you mean 'doc-qa'" in run("show", "workload", "doc-qu").err


def test_a_workload_of_ones_own_by_path(tmp_path: Path) -> None:
    text = (ROOT / "profiles" / "workloads" / "doc-qa.yaml").read_text("utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: doc-qa", "name: mine").replace("value: 100,", "value: 50,"))
    assert workload(str(path)).name == "mine" and workload(str(path)).parts[1].tokens == pytest.approx(33_250)


#: a workload's fields but for its input
HEAD = (
    "source: {kind: assumption, ref: x, date: 2026-11-29}\ntask: chat\noutput: {quantiles: {0: 1, 100: 9}}\n"
    "arrivals: {queries_per_day: 9}\nslo: {ttft: 5s}\n"
)
BROKEN = {
    ("task: qa-single", "task: qa-sinlge"): "no task family named 'qa-sinlge'; did you mean 'qa-single'",
    ("task: qa-single", ""): "missing task, as in task: chat",
    ("p95: 1.4", ""): "input: missing p95, as in p95: 1.5 (times the mean)",
    ("value: 100,", "value: -100,"): "input: document: factors: pages: must be above zero",
    ("value: 100,", "value: many,"): "expected a plain number, got 'many'",
    ("value: 100,", "value: 1000,"): "come to 665,340 tokens, which must lie between low 8,000 and high 126,000",
    ("p95: 1.4", "p95: 0.9"): "p95 is a multiple of the mean above 1",
    ("p95: 1.4", "p95: 9"): "p95 is a multiple of the mean above 1",
    ("percentile: 95", "percentile: 0"): "slo: percentile: must be above zero and below 100, as in 95, got '0'",
    ("percentile: 95", "percentile: 100"): "slo: percentile: must be above zero and below 100",
    ("ttft: 5s", "ttft: 0s"): "ttft: must be above zero",
    ("ttft: 5s", "ttft: 5 apples"): "slo: ttft: expected a time such as '5s'",
    ("slo: {ttft: 5s, tpot: 50ms,", "slo: {"): "name at least one of ttft, tpot and e2e",
    ("slo: {ttft: 5s", "slo: {tfft: 5s"): "no field named 'tfft'; did you mean 'ttft'",
    ("hours: [1, 1,", "hours: [1,"): "hours: expected 24 weights",
    ("queries_per_day: 40,000", "queries_per_day: 0"): "queries_per_day: must be above zero",
    ("requests: 5", "requests: 0"): "document: requests: must be from 1 to ",
    ("offline: no", "offline: perhaps"): "offline: must be yes or no",
    ("input:", "input: [1]\ninputs:"): "no field named 'inputs'; did you mean 'input'",
    ("  parts:", "  quantiles: {0: 1, 100: 5}\n  parts:"): "write either parts (a derivation) or quantiles",
    ("source: {kind: assumption", "source: {kind: rumour"): "source: kind: must be one of",
    ("name: doc-qa", "name: [doc-qa"): "doc-qa.yaml: line",
}


@pytest.mark.parametrize(("change", "said"), BROKEN.items(), ids=lambda v: v[1] if isinstance(v, tuple) else "")
def test_a_broken_file_is_refused_on_one_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = (ROOT / "profiles" / "workloads" / "doc-qa.yaml").read_text("utf-8")
    assert change[0] in text
    path = tmp_path / "doc-qa.yaml"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(KvplanError) as refused:
        workload(str(path))
    assert said in str(refused.value) and "doc-qa.yaml" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("written", "count"), [("30k", 30_000), ("1.2M", 1_200_000), ("30,000", 30_000)])
def test_queries_count_in_thousands_wherever_they_are_read(tmp_path: Path, written: str, count: int) -> None:
    from kvplan.api import values
    from kvplan.catalog.fleets import fleet
    from kvplan.catalog.studies.quantities import read_value

    (tmp_path / "mine.yaml").write_text(
        f"{HEAD}input: {{quantiles: {{0: 1, 100: 9}}}}\n".replace("day: 9", f"day: '{written}'")
    )
    assert workload(str(tmp_path / "mine.yaml")).arrivals.queries_per_day == count
    job = f"{{workload: chat, model: qwen3-8b, queries_per_day: '{written}'}}"
    (tmp_path / "fleet.yaml").write_text(f"gpus: {{h100: 8}}\nworkloads: [{job}]\n")
    assert fleet(str(tmp_path / "fleet.yaml")).jobs[0].workload.arrivals.queries_per_day == count
    assert values.per_day(f"{written}/day", None) == values.per_second(f"{written}/s") == count
    assert read_value("queries_per_day", written, "vary") == read_value("rate", f"{written}/s", "vary") == count
    assert read_value("users", written, "vary") == values.users(written) == count
    with pytest.raises(KvplanError, match=r"expected a number of queries such as '40,000', '40k' or '1\.2M', got '3x'"):
        values.per_day("3x", None)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("title: Mine\n", "missing source, task, input, output, arrivals and slo, as in source: {kind: "),
        (
            f"{HEAD}input: {{parts: []}}\n",
            "input: missing p95, low and high, as in p95: 1.5 (times the mean), low: 100, high: 8000",
        ),
        (f"{HEAD}input: {{parts: [], low: 1}}\n", "input: missing p95 and high, as in p95: 1.5"),
        (
            f"{HEAD}input: {{parts: [{{name: a, factors: [{{}}]}}], p95: 2, low: 1, high: 9}}\n",
            "a: factors: missing value and of, as in value: 100, of: pages",
        ),
    ],
)
def test_all_that_is_missing_of_a_level_is_named_at_once(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    with pytest.raises(KvplanError) as refused:
        workload(str(tmp_path / "mine.yaml"))
    assert said in str(refused.value) and "mine.yaml: " in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("quantiles", "said"),
    [
        ("{5: 10, 100: 20}", "must go from 0 (shortest) to 100 (longest)"),
        ("{0: 10, 50: 5, 100: 20}", "50 must not be shorter than a lower one (5 < 10 tokens)"),
        ("{0: -3, 100: 20}", "must be above zero"),
        ("[1, 2]", "expected fields, as in {0: 10"),
    ],
)
def test_broken_quantiles_are_refused(tmp_path: Path, quantiles: str, said: str) -> None:
    text = (ROOT / "profiles" / "workloads" / "chat.yaml").read_text("utf-8")
    start = text.index("  quantiles: ")
    path = tmp_path / "chat.yaml"
    path.write_text(text[:start] + f"  quantiles: {quantiles}\n" + text[text.index("\n", start) + 1 :])
    with pytest.raises(KvplanError) as refused:
        workload(str(path))
    assert said in str(refused.value) and "\n" not in str(refused.value)


# -- a model in its place, and it in a model's ------------------------------------------------------

SWAPPED = {
    "-w llama3.1-8b -m chat": "'chat' is a workload, not a model; give it as --workload chat and a model as --model",
    "-w chat -m mine.yaml": "'mine.yaml' is a workload, not a model; give it as --workload mine.yaml and a model as",
    "-w meta-llama/Llama-3.1-8B -m llama3.1-8b": "is a model, not a workload; give it as --model meta-llama/Llama",
    "-w model.yaml -m llama3.1-8b": "'model.yaml' is a model, not a workload; give it as --model model.yaml and",
    "-w ./config.json -m llama3.1-8b": "'./config.json' is a model, not a workload; give it as --model ./config.json",
}


@pytest.mark.parametrize("words", SWAPPED)
def test_a_model_and_a_workload_that_were_swapped_are_told_in_one_line(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(catalog.shipped("workloads", "rag"), "utf-8")
    Path("model.yaml").write_text(catalog.shipped("models", "llama3.1-8b"), "utf-8")
    Path("config.json").write_text('{"model_type": "llama", "hidden_size": 4096}', "utf-8")
    refused = run("recommend", *words.split())
    assert refused.code == 1 and SWAPPED[words] in refused.err and refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("reused", "each", "held"),
    [(0.0, 1, 0.0), (0.2, 2, 0.4), (0.375, 2, 0.75), (0.376, 3, 0.564), (0.6, 4, 0.8), (0.9, 19, 0.95)],
)
def test_a_measured_share_is_that_of_sessions(reused: float, each: int, held: float) -> None:
    one = replace(workload("agents"), reused=reused)
    assert one.session == (each, pytest.approx(held))
    assert sum(weight * share for weight, share in one.prefix_classes) == pytest.approx(reused)


@pytest.mark.parametrize(("kind", "word", "name"), [("workload", "doc-qa", "doc-qa"), ("gpu", "H100", "h100-sxm")])
def test_a_shipped_file_is_printed_as_it_stands_and_read_again(run, tmp_path, kind, word, name) -> None:
    printed = run("show", kind, word, "--yaml")
    assert printed.code == 0 and printed.out == catalog.shipped(f"{kind}s", name)
    mine = tmp_path / "mine.yaml"
    mine.write_text(printed.out.replace("queries_per_day: 40,000", "queries_per_day: 123"), "utf-8")
    shown = run("show", kind, str(mine))
    assert shown.code == 0 and "--yaml" not in shown.out
    if kind == "workload":
        assert "save the file that --yaml prints" in " ".join(run("show", kind, word).out.split())
        assert catalog.workload(str(mine)).arrivals.queries_per_day == 123


def test_what_is_no_file_to_copy_is_not_printed(run, tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(catalog.shipped("workloads", "chat"), "utf-8")
    for words, code in (("model llama3.1-8b", 1), ("workload chatt", 1), ("gpu h100 h200", 1), (f"workload {mine}", 1)):
        assert run("show", *words.split(), "--yaml").code == code
    for other in ("--json", "--kernels=gemm", "--html=x.html"):
        assert run("show", "workload", "chat", "--yaml", other).code == 2
