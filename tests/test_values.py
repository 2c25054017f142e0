"""What callers may write for a parameter: every wrong value is refused in a line that names the parameter."""

import inspect
import shlex
import shutil
from collections.abc import Callable, Iterator
from filecmp import cmp
from pathlib import Path
from typing import Any

import pytest
from reports import FILES

import kvplan
from kvplan.api import values
from kvplan.api.listing import listed
from kvplan.api.prices import prices
from kvplan.api.show import show
from kvplan.errors import KvplanError

MODEL = {"model": "llama3.1-8b"}
#: every question, with the least that is asked of it
ASKED: dict[Callable[..., Any], dict[str, Any]] = {
    kvplan.audit: {}, kvplan.calibrate: {"rows": "gemm.csv"},
    kvplan.capacity: {**MODEL, "workload": "chat", "gpu": "h100", "gpus": 4},
    kvplan.compare: {"before": "before.json", "after": "after.json"}, kvplan.estimate: {**MODEL, "context": 8192},
    kvplan.fleet: {"file": "one.yaml"}, kvplan.load: {**MODEL, "gpu": "h100", "isl": 2000, "osl": 200},
    kvplan.memory: {**MODEL, "context": 8192}, kvplan.predict: {"rows": "gemm.csv", "output": "out.csv"},
    kvplan.profile: {"device": "cpu"}, kvplan.recommend: {**MODEL, "workload": "chat", "gpus": "h100"},
    kvplan.evaluate: {"model": "recall", "samples": 2, "questions": 2},
    kvplan.simulate: {**MODEL, "gpu": "h100", "workload": "chat"}, kvplan.sweep: {"file": "study.yaml"},
    kvplan.techniques: {**MODEL, "workload": "chat"}, kvplan.validate: {"rows": "gemm.csv"},
    prices: {}, show: {"kind": "gpu", "names": "h100"}, listed: {"kind": "gpus"},
}  # fmt: skip
#: values that no parameter takes, and what only a flag, a pair and text take
NEVER: tuple[Any, ...] = (object(), [None], [1], {1: 2}, (1, 2, 3), 10**5000)
TRUTHS = {
    "allow_long_context", "any_technique", "apis", "compact", "find_replicas", "from_scratch", "prefix_cache", "resume",
    "simulate", "so_far",
}  # fmt: skip
WORDS = {"model", "gpu", "technique", "profile", "term", "output", "rows", "name", "title", "ref", "tier"}
#: numbers that a quantity or a count does not take
BOUNDS: dict[str, tuple[Any, ...]] = {
    "batch": (0, -3, 1.5, 10**7), "block_size": (0, -16, 65_537), "max_num_seqs": (0, -1), "max_gpus": (0, -1),
    "spares": (-5, 65), "concurrency": (0, -1, 2.0), "disaggregated": ((0, 1), (1,), "1:0", "x", (1, 1025), (1.0, 2)),
    "draft_tokens": (-1, 65), "tp": (0, -1, 1025), "pp": (0,), "dp": (0,), "processes": (0, 65), "seconds": (0, 1e9),
    "objective": ("speed",), "kv_dtype": ("foo",), "layout": ("foo",), "engine": ("foo",), "weights": ("foo",),
    "kind": ("foo",), "kernels": ("foo",), "device": ("tpu",), "tier": ("guessed",), "percentile": (0.2, 1.5),
    "speculative": (0.5, 99), "burstiness": (-1, 101), "utilization": (0, 1.5), "headroom": (-1, 1),
    "confidence": (0, 1), "price": (0, -1), "rate": (0, -1), "queries_per_day": (0, -1), "ttft": (0, -1),
    "tpot": (0, -1), "e2e": (0, -1), "context": (0, -1, 1.5), "isl": (0, -1), "osl": (0, -1), "budget": (0, -1),
    "prefix_hit": (-1, 1), "draft_share": (-1, 1), "max_quality_drop": (-1, 1), "max_model_len": (0, -1),
    "max_num_batched_tokens": (0, -1), "encoder_tokens": (0, -1), "on": ("soon", 20261124),
}  # fmt: skip
#: texts of several meanings: names of files and things elsewhere
ELSEWHERE = {(kvplan.calibrate, "speculative"), (show, "kind"), (listed, "kind")}


def cases() -> list[Any]:
    """Return (question, parameter, value it does not take) of every parameter of every question."""
    found = []
    for question, least in ASKED.items():
        for name, parameter in inspect.signature(question).parameters.items():
            wrong = [*NEVER, *(() if (question, name) in ELSEWHERE else BOUNDS.get(name, ()))]
            wrong += [] if parameter.default is None else [None]
            wrong += [1, "yes"] if name in TRUTHS else [True]
            if name in WORDS and (question, name) not in ((kvplan.calibrate, "rows"), (kvplan.estimate, "output")):
                wrong += [["a"], 1]
            if name == "pp_layers":  # layers of stages, which a model refuses
                wrong = [value for value in wrong if value not in ([1], (1, 2, 3))]
            found += [
                pytest.param(question, least, name, value, id=f"{question.__name__}-{name}-{n}")
                for n, value in enumerate(wrong)
            ]
    return found


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the files: one for all questions."""
    return Path(shutil.copytree(FILES, tmp_path_factory.mktemp("values"), dirs_exist_ok=True))


@pytest.fixture
def files(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Go to the folder, and take away what a question leaves there: `sweep` makes that of its answers first.

    A file that a question wrote over, or took away, is put back: the next one finds what it would alone.
    """
    monkeypatch.chdir(copied)
    yield copied
    for path in set(copied.iterdir()) - {copied / one.name for one in FILES.iterdir()}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for one in FILES.rglob("*"):
        there = copied / one.relative_to(FILES)
        if one.is_file() and not (there.is_file() and cmp(one, there)):
            shutil.copy2(one, there)


def test_every_question_is_in_the_table() -> None:
    assert {getattr(kvplan, name) for name in kvplan.__all__} <= set(ASKED)


@pytest.mark.parametrize(("question", "least", "name", "value"), cases())
def test_a_wrong_value_is_refused_by_its_parameter(
    files: Path, question: Callable[..., Any], least: dict[str, Any], name: str, value: Any
) -> None:
    more = (
        {"speculative": 2} if name in ("draft_share", "draft_tokens") else {"rate": 1} if name == "burstiness" else {}
    )
    if question is kvplan.compare and name == "on":
        least = {"before": "call.json"}
    with pytest.raises(KvplanError, match=rf"^{name}\b") as refusal:
        question(**{**least, **more, name: value})
    assert "\n" not in str(refusal.value) and "object at" not in str(refusal.value).split(", got ")[0]
    assert not (files / "out.csv").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: kvplan.memory(**MODEL, context=8192, batch=-3), "batch: expected from 1 to 1,000,000, got -3"),
        (lambda: kvplan.recommend("chat", **MODEL, objective="speed"),
         "objective: expected cost, energy, gpus or latency, got 'speed'"),
        (lambda: kvplan.calibrate([]), "rows: name at least one file of measured rows, or the metrics of a server"),
        (lambda: show("gpu", []), "names: name the gpu to show, as kvplan list gpus has them"),
        (lambda: kvplan.load(**MODEL, gpu="h100", isl=2000, osl=200, disaggregated="0:1"),
         "disaggregated: write prefill:decode replicas from 1 to 1,024, as in 1:2, got '0:1'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_taken(asked: Callable[[], Any], said: str) -> None:
    with pytest.raises(KvplanError) as refusal:
        asked()
    assert str(refusal.value) == said


def test_counts_and_quantities_of_other_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert values.count(numpy.int64(3), "batch", 1, 8) == 3
    assert values.share(numpy.float64(0.25), "headroom") == 0.25
    assert values.halves("1:2", "disaggregated") == values.halves((1, 2), "disaggregated") == (1, 2)
    with pytest.raises(KvplanError, match="batch: "):
        values.count(numpy.bool_(True), "batch", 0, 8)


def test_arrivals_without_any_spread_are_not_poisson() -> None:
    def ttft(**more: float) -> float:
        return kvplan.load(**MODEL, gpu="h100", isl=2000, osl=200, rate=8, **more).points[0].ttft.p95

    assert ttft(burstiness=0) != ttft() == ttft(burstiness=1)


def test_show_reads_a_price_file_of_ones_own(tmp_path: Path) -> None:
    written = tmp_path / "mine.yaml"
    written.write_text(
        "name: mine\ntitle: Mine\nsource: {kind: quote, ref: a letter, date: 2026-11-01}\n"
        "prices: [{gpu: h100, price: 2.49 USD/h, from: 2026-11-01}]\n"
    )
    (price,) = show("price", str(written)).thing
    assert (price.gpu, price.provider, price.start) == ("h100-sxm", "mine", "2026-11-01")
    with pytest.raises(KvplanError, match="no such file"):
        show("price", "./none.yaml")


@pytest.mark.parametrize(
    ("value", "limit"),
    [("1%", 0.01), (0.2, 0.2), ("0%", 0.0), ("99%", 0.99), ("none", None), (None, None), ("100%", None)],
)
def test_a_loss_of_all_that_there_is_is_no_limit(value: object, limit: float | None) -> None:
    assert values.loss(value, "max_quality_drop") == limit  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ("recommend -w chat -m llama3.1-8b --max-quality-drop 150%", "a share from 0% to below 100%, as in 1%"),
        ("recommend -w chat -m llama3.1-8b --max-quality-drop 150%", "none allows any loss"),
        ("recommend -w chat -m llama3.1-8b --max-quality-drop -1%", "a share from 0% to below 100%"),
        ("recommend -w chat -m llama3.1-8b --max-quality-drop 2", "below 1, write 2% if that is meant; got '2'"),
        ("recommend -w chat -m llama3.1-8b --headroom 2000%", "from 0% to below 1000%"),
        ("recommend -w chat -m llama3.1-8b --headroom 2", "write 2% if that is meant"),
        ("compare plan.json --fail-above=-5%", "from 0% to below 10000%"),
        ("compress -m recall -t mhc -o latents --energy 0%", "--energy: expected the share of the variance"),
        ("compress -m recall -t mhc -o latents --energy 100%", "--energy: expected a share from 0% to below 100%"),
        ("compress -m recall -t mhc -o latents --energy 101%", "below 100%"),
    ],
)
def test_shares_that_cannot_be_are_refused_in_one_line(run, ask: str, said: str) -> None:
    done = run(*ask.split())
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and said in done.err, done.err


def test_more_than_all_can_be_kept_free_or_cost_more(run) -> None:
    """Servers for twice the peak; a gate at three times the cost. Without % such a figure is a slip."""
    assert values.share("150%", "headroom", 10.0) == 1.5
    ask = shlex.split("recommend -w chat -m llama3.1-8b -g h100 -t baseline --on 2026-11-24 --json")
    some, more = (run(*ask, *extra).json["recommended"]["promise"] for extra in ((), ("--headroom", "100%")))
    assert more["rate"] * more["serving"] == pytest.approx(2 * some["rate"] * some["serving"])
