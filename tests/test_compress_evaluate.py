"""kvplan evaluate and kvplan compress: scores against slow twins, reports, files, and one line for what is wrong."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", minversion="5.20")

from compress_families import write_folder  # noqa: E402

import kvplan  # noqa: E402
from kvplan.catalog.scores import quality_file  # noqa: E402
from kvplan.compress import evaluation, recall  # noqa: E402
from kvplan.compress.evaluation import EvaluationPlan, TaskScore  # noqa: E402
from kvplan.compress.models import load  # noqa: E402
from kvplan.compress.scoring import interval, overlap  # noqa: E402
from kvplan.errors import KvplanError  # noqa: E402
from kvplan.quality.loss import checked  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
torch.set_num_threads(1)


def measured(model: str, *techniques: str, **asked) -> dict[tuple[str, str, str], TaskScore]:
    plan = EvaluationPlan(
        **{"techniques": ("baseline", *techniques), "tasks": ("multihop",), "lengths": (480,), "protocols": ("unseen",),
           "samples": 8, "questions": 8, "batch": 8, **asked}
    )  # fmt: skip
    found = evaluation.evaluate(load(model), plan)
    assert not found.refused and not found.stopped
    return {(s.technique, s.task, s.protocol): s for s in found.scores}


# -- the shipped model ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["recall", "recall:1", "recall:2"])
def test_heavy_hitters_beat_chance_beyond_their_intervals_on_every_seed(model: str) -> None:
    found = {k[0]: s.value for k, s in measured(model, "h2o:20%", "random:20%").items()}
    assert found["baseline"].mean > 0.9
    assert found["h2o:20%"].low > found["random:20%"].high


@pytest.mark.slow
def test_quality_falls_with_the_ratio_within_noise() -> None:
    found = measured("recall", "h2o:50%", "h2o:20%", "h2o:10%", "mhc:2x", "mhc:4x", "mhc:8x", "streaming:4,90")
    value = {k[0]: s.value for k, s in found.items()}
    for series in (("baseline", "h2o:50%", "h2o:20%", "h2o:10%"), ("baseline", "mhc:2x", "mhc:4x", "mhc:8x")):
        for milder, harsher in pairwise(series):
            assert value[harsher].low <= value[milder].high
    assert value["h2o:10%"].high < value["baseline"].low and value["mhc:8x"].mean < 0.1
    assert value["streaming:4,90"].mean == 0.0  # what left the window is gone


def test_texts_of_the_model_say_what_is_asked() -> None:
    written = recall.episodes(3, 200, 4, torch.Generator().manual_seed(1))
    for body, chains in zip(written.body.tolist(), written.chains.tolist(), strict=True):
        facts = {body[i + 1]: body[i + 2] for i, token in enumerate(body) if token == recall.SET}
        for first, *others in chains:
            for name in others:
                assert facts[first] == name
                first = name
    asked, labels = written.asked, written.labels
    for row in range(3):
        for i in (labels[row] >= 0).nonzero()[:, 0].tolist():
            assert asked[row, i + 1] == labels[row, i]
    assert int((labels >= 0).sum()) == 3 * 4 * 3


def test_the_recipe_learns_its_first_step() -> None:
    """A few steps from the start: the same seed gives the same loss, and it falls."""
    lost = []
    for _ in range(2):
        model, generator = recall.fresh(0), torch.Generator().manual_seed(0)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        each = []
        for _ in range(12):
            loss, _share = recall.answered(model, *recall.lesson(32, generator))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            each.append(float(loss))
        lost.append(each)
    assert lost[0] == lost[1] and sum(lost[0][-3:]) < sum(lost[0][:3])


# -- figures --------------------------------------------------------------------------------------


def test_answers_are_those_of_plain_generate() -> None:
    """Right by teacher forcing is right by greedy text: a chain counts where generate() says all of it."""
    loaded = load("recall")
    passages = loaded.language.passages("multihop", 160, 4, 3, 5)
    found = measured("recall", samples=4, questions=3, lengths=(160,), seed=5, batch=2)
    right = []
    for passage in passages:
        said = []
        for q in passage.questions:
            ids = torch.cat([passage.text, q.asked])[None]
            out = loaded.model.generate(ids, max_new_tokens=len(q.answer), do_sample=False, pad_token_id=recall.PAD)
            said.append(float(out[0, ids.shape[1] :].tolist() == q.answer.tolist()))
        right.append(sum(said) / len(said))
    assert found["baseline", "multihop", "unseen"].value.mean == pytest.approx(sum(right) / len(right))


def test_seen_and_unseen_differ_only_under_techniques_and_batches_change_nothing() -> None:
    asked = {"protocols": ("unseen", "seen"), "samples": 4, "questions": 4, "lengths": (240,)}
    techniques = ("h2o:20%", "quest:48", "kvzip:40%", "streaming:4,40", "snapkv:40%", "mhc:2x+h2o:40%")
    both, one = measured("recall", *techniques, **asked), measured("recall", *techniques, **asked, batch=1)
    assert {k: s.value for k, s in both.items()} == {k: s.value for k, s in one.items()}
    assert both["baseline", "multihop", "unseen"].value == both["baseline", "multihop", "seen"].value
    assert both["h2o:20%", "multihop", "seen"].value.mean >= both["h2o:20%", "multihop", "unseen"].value.mean


def test_distances_of_the_model_to_itself_are_none() -> None:
    found = measured(
        "recall", "int8", tasks=("agreement", "divergence", "perplexity", "copy"), samples=2, lengths=(96,)
    )
    assert found["baseline", "agreement", "unseen"].value.mean == 1
    assert found["baseline", "divergence", "unseen"].value.mean == 0
    assert found["baseline", "copy", "unseen"].value.mean == 1
    assert found["baseline", "perplexity", "unseen"].value.mean >= 1
    assert 0 < found["int8", "divergence", "unseen"].value.mean < 0.1


def test_intervals_hold_the_mean_and_narrow_with_texts() -> None:
    few, many = interval([0.0, 1.0] * 4, 0), interval([0.0, 1.0] * 100, 0)
    assert few.low <= few.mean == 0.5 <= few.high
    assert many.high - many.low < few.high - few.low
    assert interval([1.0] * 5, 0).low == interval([1.0] * 5, 0).high == 1
    # of 200 fair coins the mean lies within 0.5 +- 1.96 x sqrt(0.25 / 200)
    assert many.high - 0.5 == pytest.approx(1.96 * (0.25 / 200) ** 0.5, rel=0.15)


def test_overlap_is_the_longest_common_subsequence() -> None:
    assert overlap([1, 2, 3, 4], [1, 3, 4, 9]) == 2 * 3 / 8
    assert overlap([1, 2], [1, 2]) == 1 and overlap([], [1]) == 0


@pytest.mark.parametrize("technique", ["streaming:4,40", "quest:64", "fp8", "h2o:30%", "kvzip:50%"])
def test_drafts_on_a_compressed_cache_leave_the_text_as_it_is(technique: str) -> None:
    from kvplan.compress.caches import running
    from kvplan.compress.speculation import speculated

    loaded = load("recall")
    for passage in loaded.language.passages("multihop", 160, 2, 1, 3):
        prompt = torch.cat([passage.text, passage.questions[0].asked])
        asked = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": recall.PAD}
        plain = loaded.model.generate(prompt[None], **asked)[0, len(prompt) :].tolist()
        with running(loaded.model, loaded.spec, technique) as under:
            drafted = speculated(under, prompt, 20)
        assert list(drafted.tokens) == plain
        assert drafted.passes < 19 and 0 < drafted.acceptance <= 1
        assert technique in ("fp8", "kvzip:50%") or drafted.accepted < drafted.proposed  # some are taken back
        assert drafted.passes + drafted.accepted >= 19


@pytest.mark.parametrize("family", ["gemma3", "deepseek-v3", "gpt-neox", "falcon", "gpt-oss"])
def test_drafts_leave_the_text_as_it_is_where_layers_slide_or_cache_a_latent(family: str) -> None:
    from compress_families import texts, tiny

    from kvplan.compress.caches import running
    from kvplan.compress.speculation import speculated

    model, spec = tiny(family)
    ids, _ = texts(0, length=30)
    plain = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)[0, 30:].tolist()
    with running(model, spec, "streaming:2,12") as under:
        drafted = speculated(under, ids[0], 12, ahead=3)
    assert list(drafted.tokens) == plain


# -- a folder of one's own ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "my-model"
    write_folder(path)
    return path


def test_a_folder_is_measured_and_recommend_reads_its_scores(folder: Path, run, tmp_path: Path) -> None:
    out = tmp_path / "quality.yaml"
    ran = run("evaluate", "-m", folder, "-t", "h2o:50%", "-t", "mhc:2x", "--samples", "2", "--questions", "2",
              "--lengths", "192", "--tasks", "needle,multihop,copy", "-o", out, "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert {m["technique"] for m in ran.json["memory"]} == {"baseline", "h2o:50%", "mhc:2x"}
    assert all(m["bytes"] == m["planned_bytes"] for m in ran.json["memory"])
    assert {(s["task"], s["question"]) for s in ran.json["scores"]} == {
        ("needle", "unseen"), ("multihop", "unseen"), ("copy", "unseen")
    }  # fmt: skip
    table = checked(quality_file(str(out)))
    assert table.own and {s.technique for s in table.scores} == {"h2o:50%", "mhc:2x"}
    assert {s.model for s in table.scores} == {"my-model"} and "summarisation" in {s.task for s in table.scores}
    asked = ("recommend", "-w", "rag", "-m", folder, "-g", "l4", "-t", "h2o:50%", "-t", "baseline", "--any-technique",
             "--quality", out, "--json", "--queries-per-day", "1000", "--on", "2026-11-24")  # fmt: skip
    planned = run(*asked)
    assert planned.code == 0, planned.err


def test_perplexity_of_a_text_file_and_one_that_is_too_short(folder: Path, run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The old captain looked at the river before lunch. " * 40)
    asked = ("evaluate", "-m", folder, "-t", "int4", "--tasks", "perplexity", "--samples", "2", "--lengths", "64")
    ran = run(*asked, "--text", text, "--json")
    assert ran.code == 0 and [s["task"] for s in ran.json["scores"]] == ["perplexity"] * 2
    text.write_text("The old captain.")
    ran = run(*asked, "--text", text)
    assert ran.code == 1 and ran.err.count("\n") == 1 and "--text: has 4 tokens of this model, fewer than" in ran.err


def test_latents_are_written_once_and_used_again(folder: Path, run, tmp_path: Path) -> None:
    where = tmp_path / "latents"
    ran = run("compress", "-m", folder, "-t", "mhc:2x", "-o", where, "--json")
    assert ran.code == 0, ran.err
    assert [layer["layer"] for layer in ran.json["layers"]] == [0, 1, 2]
    assert Path(ran.json["output"]).stat().st_size == ran.json["bytes"]
    asked = ("evaluate", "-m", folder, "-t", "mhc:2x", "--samples", "2", "--lengths", "192", "--tasks", "divergence")
    fresh, again = run(*asked, "--json").json, run(*asked, "--latents", where, "--json").json
    assert fresh["scores"] == again["scores"]
    by_weights = run("compress", "-m", folder, "-t", "mhc:2x", "-o", where, "--from", "weights", "--json")
    assert by_weights.code == 0 and by_weights.json["learned_from"] == "weights"
    assert run(*asked, "--latents", where, "--json").json["scores"] != again["scores"]
    Path(where, "latents.safetensors").write_bytes(b"no")
    ran = run(*asked, "--latents", where)
    assert ran.code == 1 and "is no file of latents" in ran.err


@pytest.mark.slow
def test_a_short_healing_brings_back_most_of_what_latents_lost(tmp_path: Path) -> None:
    from kvplan.api.compress import compress

    found = {}
    for steps in (0, 120):
        written = compress("recall", "mhc:4x", str(tmp_path), heal=steps)
        assert written.healed == steps
        done = kvplan.evaluate(
            "recall", "mhc:4x", latents=str(tmp_path), tasks="multihop", samples=8, questions=8, batch=8, seed=5
        )
        found[steps] = done.outcome.scores[-1].value
        assert done.outcome.memories[-1].stored == done.outcome.memories[-1].planned
    assert found[120].low > found[0].high


# -- what is wrong, in one line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "recall", "--tasks", "chess"), "--tasks: expected needle, multihop"),
        (("-m", "recall", "--lengths", "20"), "--lengths: 20 tokens are too short for this model's texts"),
        (("-m", "recall:9"), "no model named 'recall:9'"),
        (("-m", "llama3.1-8b"), "its weights are needed here"),
        (("-m", "./nowhere"), "nowhere"),
        (("-m", "recall", "-t", "h3o:20%"), "no technique named"),
        (("-m", "recall", "-t", "mhc:4x:absorbed"), "retrained"),
        (("-m", "recall", "--text", "nothing.txt", "--tasks", "perplexity"), "nothing.txt"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments: tuple[str, ...], said: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", *arguments)
    assert ran.code == 1 and ran.err.count("\n") == 1 and said in ran.err, ran.err


@pytest.mark.parametrize("broken", ["no weights", "no config", "damaged weights", "no tokenizer"])
def test_a_broken_folder_is_one_line(run, folder: Path, broken: str, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    if broken == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (copy / name).unlink()
    elif broken == "damaged weights":
        (copy / "model.safetensors").write_bytes(b"\x10" * 100)
    else:
        (copy / ("config.json" if broken == "no config" else "model.safetensors")).unlink()
    ran = run("evaluate", "-m", copy, "-t", "fp8")
    assert ran.code == 1 and ran.err.count("\n") == 1 and "model" in ran.err, ran.err


def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch) -> None:
    import sys

    for name in [n for n in sys.modules if n.startswith("kvplan.compress")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(kvplan, "compress", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for words in (("evaluate", "-m", "recall"), ("compress", "-m", "recall", "-t", "mhc:2x", "-o", "x")):
        ran = run(*words)
        assert ran.code == 1 and ran.err.count("\n") == 1 and "pip install 'kvplan[hf]'" in ran.err


def test_an_interruption_keeps_what_is_done(monkeypatch) -> None:
    def stop(share: float, what: str) -> None:
        if what.startswith("int8"):
            raise KeyboardInterrupt

    done = kvplan.evaluate("recall", ["fp8", "int8"], samples=2, questions=1, lengths=96, progress=stop)
    assert done.outcome.stopped
    assert {s.technique for s in done.outcome.scores} == {"baseline", "fp8"}
    from kvplan.report.evaluate import document, page

    assert document(done)["stopped"] and any("Stopped before" in getattr(b, "text", "") for b in page(done).blocks)
    json.dumps(document(done))


def test_a_report_says_why_bytes_differ_and_what_was_not_run() -> None:
    done = kvplan.evaluate("recall", ["h2o:400", "mhc:3x", "gqa:2"], samples=2, questions=1, lengths=96)
    from kvplan.report.evaluate import page

    told = str(page(done))
    assert "scores of 4 B a token" in told and "ranks are whole numbers here" in told
    assert [name for name, _ in done.outcome.refused] == ["gqa:2"] and "already shares" in told
    with pytest.raises(KvplanError, match="already shares"):
        kvplan.evaluate("recall", "gqa:2")


def test_texts_longer_than_the_context_are_refused() -> None:
    with pytest.raises(KvplanError, match="lengths: 100,000 tokens are more than the 4,096 of recall"):
        kvplan.evaluate("recall", "h2o:20%", lengths="480,100000")


def test_scores_that_say_nothing_are_not_written(folder: Path, run, tmp_path: Path) -> None:
    """Random weights find nothing: a file without rows would be refused by recommend."""
    out = tmp_path / "quality.yaml"
    ran = run(
        "evaluate", "-m", folder, "-t", "h2o:50%", "--samples", "2", "--questions", "1", "--lengths", "96", "-o", out
    )
    assert ran.code == 0 and not out.exists()
    assert "No quality file was written: the uncompressed model itself finds none of needle and multihop" in ran.out


OPERATORS = {
    "gemv float32": {"coefficients": {"start": "1 us", "bandwidth": "10 GB/s"}},
    "gemm float32": {"coefficients": {"rate": "100 GFLOP/s", "packing": "1e9 elements/s"}},
    "decode gqa 2x4x64 float32": {"coefficients": {"start": "5 us", "bandwidth": "10 GB/s"}},
    "decode gqa 4x4x64 float32": {"coefficients": {"start": "7 us", "bandwidth": "10 GB/s"}},
    "prefill float32": {"coefficients": {"rate": "50 GFLOP/s"}},
}


def test_a_pass_takes_what_its_operators_take_by_hand() -> None:
    """Three layers of q 64x64, k and v 64x32, o 64x64, three of 64x80; 97 words; four heads ask two of 16 elements."""
    from compress_families import tiny

    from kvplan.kv.model_cache import kv_layout
    from kvplan.measuring.passes import ModelPass, pass_time

    _, spec = tiny("llama")
    layout = kv_layout(spec, 32.0)
    shapes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 80), (64, 80), (64, 80)] * 3 + [(64, 97)]
    products = sum(1e-6 + 4 * (k + n + k * n) / 10e9 for k, n in shapes)
    attention = 3 * (5e-6 + 100 * 2 * 32 * 4 / 10e9)
    step = ModelPass(batch=1, tokens=1, length=100)
    assert pass_time(OPERATORS, spec, layout, "float32", step) == pytest.approx(products + attention, rel=1e-9)
    tokens = 50
    whole = (
        sum(2 * tokens * k * n / 100e9 + k * n / 1e9 for k, n in shapes[:-1]) + 1e-6 + 4 * (64 + 97 + 64 * 97) / 10e9
    )
    whole += 3 * 4 * 4 * 16 * tokens * (tokens + 1) / 2 / 50e9
    prompt = ModelPass(batch=1, tokens=tokens, length=tokens)
    assert pass_time(OPERATORS, spec, layout, "float32", prompt) == pytest.approx(whole, rel=1e-9)
    assert pass_time({}, spec, layout, "float32", step) is None


def test_times_stand_beside_those_of_a_profile_of_this_cpu(run, tmp_path: Path) -> None:
    text = yaml.safe_dump({"device": {"kind": "cpu"}, "groups": OPERATORS, "samples": {}, "rows": "cpu.csv"})
    (tmp_path / "cpu.yaml").write_text(text)
    words = ("evaluate", "-m", "recall", "-t", "h2o:20%", "--samples", "2", "--questions", "1", "--lengths", "96")
    ran = run(*words, "--profile", tmp_path / "cpu.yaml", "--json")
    whole, few = ran.json["memory"]
    assert 0 < few["step_seconds_by_profile"] < whole["step_seconds_by_profile"] < 1e-3
    assert whole["prefill_seconds_by_profile"] == few["prefill_seconds_by_profile"] < 0.1
    (tmp_path / "gpu.yaml").write_text(text.replace("cpu", "cuda"))
    refused = run(*words, "--profile", tmp_path / "gpu.yaml")
    assert refused.code == 1 and "is no profile of a CPU; kvplan profile with device=cpu writes one" in refused.err


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is() -> None:
    from kvplan.report.progress import OFTEN, bar

    now, said = [0.0], []
    with bar(lambda: now[0], 1e6, said.append) as progress:
        for step in range(4):
            now[0] = step * OFTEN
            progress(step / 4, "fp8, 480 tokens")
    assert said == [
        "25 % done, 30.0 s left: fp8, 480 tokens", "50 % done, 20.0 s left: fp8, 480 tokens",
        "75 % done, 10.0 s left: fp8, 480 tokens",
    ]  # fmt: skip
