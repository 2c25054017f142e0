"""What one can call: a few names, each with an example that runs, the same answers as on the command line."""

import ast
import doctest
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
from printing import spoken_by
from reports import FILES, REPORTS

import kvplan
from kvplan.api import values
from kvplan.cli import commands
from kvplan.cli.notebook import report as report_of
from kvplan.errors import KvplanError
from kvplan.report import fragments
from kvplan.report.blocks import Bar, Heading, Notes, Page, Row, Table, Text
from kvplan.specs.result import Result

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kvplan"
ON = "2026-11-24"
#: lines of the file of few shapes
FEW = 19


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a user's files, and one with so few shapes that no choice between tiles is fitted."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    rows = (FILES / "gemm.csv").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "few.csv").write_text("".join(rows[:FEW]), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_named_is_what_is_offered() -> None:
    assert kvplan.__all__ == sorted(kvplan.__all__) == [name for name in dir(kvplan) if name != "__version__"]
    for name in kvplan.__all__:
        assert getattr(kvplan, name).__name__ == name
        assert getattr(kvplan, name).__module__ == f"kvplan.api.{name}"
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        _ = kvplan.guess
    with pytest.raises(AttributeError, match="no attribute 'recomend'; did you mean 'recommend'\\?"):
        _ = kvplan.recomend
    assert not hasattr(kvplan, "__wrapped__")


def test_type_checkers_see_every_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = [(n.module, alias.name) for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names]
    assert seen == [(f"kvplan.api.{name}", name) for name in kvplan.__all__]
    assert (PACKAGE / "py.typed").is_file()


def test_callers_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    caller = tmp_path / "caller.py"
    caller.write_text(
        f"from kvplan import {', '.join(kvplan.__all__)}\n"
        'reveal_type(estimate("llama3.1-70b", "128k"))\n'
        'reveal_type(predict("rows.csv", "out.csv").rows)\n'
        'recommend("chat")\n'
    )
    words = ["-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(caller)]
    said = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert 'Revealed type is "kvplan.planning.estimate.Estimate"' in said
    assert 'Revealed type is "builtins.int"' in said or 'Revealed type is "int"' in said
    assert 'Missing positional argument "model"' in said and "Found 1 error" in said


def test_importing_kvplan_imports_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import kvplan; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in loaded if name.startswith("kvplan")] == ["kvplan"]
    assert len(loaded) < 40


@pytest.mark.parametrize("name", kvplan.__all__)
def test_an_example_of_every_name_runs(name: str, files: Path) -> None:
    function = getattr(kvplan, name)
    (found,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={"kvplan": kvplan})
    assert found.examples and all(f"kvplan.{name}(" in found.docstring for _ in found.examples)
    out: list[str] = []
    assert doctest.DocTestRunner().run(found, out=out.append).failed == 0, "".join(out)


@pytest.mark.parametrize("name", kvplan.__all__)
def test_a_docstring_says_units_and_errors_and_types_are_complete(name: str) -> None:
    function = getattr(kvplan, name)
    said = inspect.getdoc(function) or ""
    assert "Raises KvplanError" in " ".join(said.split())
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_five_lines_are_enough(files: Path) -> None:
    predicted = kvplan.predict("gemm.csv", "out.csv")
    assert (predicted.kind, predicted.rows) == ("gemm", len(Path("out.csv").read_text().splitlines()) - 1)
    errors = kvplan.validate("gemm.csv")
    assert errors.groups[-1].rows == predicted.rows
    fitted = kvplan.calibrate(["gemm.csv"], "mine.yaml", on=ON)
    assert fitted.parts and Path("mine.yaml").read_text().startswith("# Fitted by")
    checked = kvplan.calibrate("gemm.csv")
    assert checked.checks and all(errors.rows for _, groups in checked.checks for errors in groups)
    served = kvplan.predict("serving.csv", "out.csv", kind="e2e")
    assert served.profile == "published" and sum(served.stands.values()) == served.rows


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: kvplan.predict("gemm.csv", "o.csv", settings={"tp": 2}), "settings=tp: only end-to-end rows"),
        (lambda: kvplan.predict("serving.csv", "o.csv", settings="tp"), "settings: expected COLUMN=VALUE"),
        (lambda: kvplan.validate("serving.csv", profiles=("a", "b")), "profiles: end-to-end rows stand on one"),
        (lambda: kvplan.calibrate("gemm.csv", "o.yaml", from_scratch=True), "from_scratch, speculative: are for"),
        (lambda: kvplan.calibrate("gemm.csv", "o.yaml", on="soon"), "on: expected a date"),
        (
            lambda: kvplan.calibrate("gemm.csv", "o.yaml", tier="guessed"),
            "tier: expected measured here or measured elsewhere",
        ),
        (lambda: kvplan.calibrate("mine.csv"), "samples of `kvplan profile` are fitted alone"),
        (lambda: kvplan.profile("tpu"), "device: expected cuda or cpu, got 'tpu'"),
        (lambda: kvplan.profile("cpu", budget="soon"), "budget: "),
        (lambda: kvplan.profile("cpu", output="x.csv"), "the profile is YAML"),
    ],
)
def test_refusals_name_parameters(files: Path, asked: Callable[[], Any], said: str) -> None:
    with pytest.raises(KvplanError, match=re.escape(said)) as refusal:
        asked()
    assert not re.search(r"--[a-z]", str(refusal.value))
    assert not list(files.glob("o.*"))


def test_settings_are_a_mapping_or_texts() -> None:
    assert values.settings({"tp": 2}) == values.settings("tp=2") == values.settings([" tp = 2"]) == {"tp": "2"}


#: the same question as a command and as a call, and where the words of its answer are
SAME = {
    "estimate -m llama3.1-70b -c 32k -g h200 -t fp8": (
        "estimate", lambda: kvplan.estimate("llama3.1-70b", "32k", gpus="h200", techniques="fp8", on=ON)
    ),
    "memory -m qwen3-32b -c 32k -b 8 -g h100 --tp 2": (
        "memory", lambda: kvplan.memory("qwen3-32b", 32768, batch=8, gpu="h100", tp=2)
    ),
    "load -m llama3.1-8b -g h100 --isl 2k --osl 200 --rate 2/s --tpot 50ms": (
        "load", lambda: kvplan.load("llama3.1-8b", "h100", 2048, 200, rate=2, tpot=0.05, on=ON)
    ),
    "compare before.json after.json": ("compare", lambda: kvplan.compare("before.json", "after.json")),
    "audit claims.yaml": ("audit", lambda: kvplan.audit("claims.yaml", on=ON)),
    "validate gemm.csv": ("validate", lambda: kvplan.validate("gemm.csv")),
    "predict serving.csv -o out.csv": ("predict", lambda: kvplan.predict("serving.csv", "out.csv")),
    "calibrate few.csv -o out.yaml": ("calibrate", lambda: kvplan.calibrate("few.csv", "out.yaml", on=ON)),
}  # fmt: skip


@pytest.mark.parametrize("line", SAME)
def test_a_call_gives_the_document_of_the_command(run, files: Path, line: str) -> None:
    name, call = SAME[line]
    day = () if name in ("compare", "memory", "validate", "predict") else ("--on", ON)
    shown = run(*shlex.split(line), *day, "--json")
    assert shown.code == 0
    result = call()
    assert json.loads(json.dumps(spoken_by(name, result))) == result.to_dict() == shown.json


# -- results --------------------------------------------------------------------------------------


def results_of(name: str) -> list[type]:
    """Return the classes that a name may return."""
    returned = inspect.signature(getattr(kvplan, name)).return_annotation
    return list(get_args(returned)) or [returned]


@pytest.mark.parametrize("name", kvplan.__all__)
def test_what_a_name_returns_shows_itself(name: str) -> None:
    for kind in results_of(name):
        assert issubclass(kind, Result)
        assert name == kind.answers or (name, kind.answers) == ("calibrate", "profile")
    assert {"page", "document"} <= set(dir(import_module(f"kvplan.report.{name}")))


@pytest.mark.parametrize("method", ["to_dict", "to_pandas"])
def test_the_examples_of_results_run(method: str) -> None:
    (found,) = doctest.DocTestFinder().find(getattr(Result, method), method, globs={"kvplan": kvplan})
    out: list[str] = []
    assert found.examples and doctest.DocTestRunner().run(found, out=out.append).failed == 0, "".join(out)


def test_a_table_of_pandas_is_the_csv_of_the_command_without_its_lists(run, files: Path) -> None:
    import pandas

    table = kvplan.estimate("llama3.1-8b", "8k", gpus="h100", techniques=["fp8", "h2o:20%"], on=ON).to_pandas()
    words = shlex.split(f"estimate -m llama3.1-8b -c 8k -g h100 -t fp8 -t h2o:20% --on {ON} --format csv")
    written = pandas.read_csv(StringIO(run(*words).out))
    lists = [name for name in written if written[name].astype(str).str.startswith("[").any()]
    assert lists and list(table.columns) == [name for name in written if name not in lists]
    assert table["kv_bytes_per_token"].tolist() == pytest.approx(written["kv_bytes_per_token"].tolist())
    assert table["technique"].tolist() == written["technique"].tolist() == ["baseline", "fp8", "h2o:20%"]


def test_a_table_of_plans_has_a_row_a_plan_the_recommended_one_first() -> None:
    found = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques=["baseline", "fp8"], on=ON)
    table = found.to_pandas()
    assert found.plan is not None and len(table) == 1 + len(found.alternatives) > 2 and len(table.columns) <= 24
    assert table["recommended"].tolist() == [True] + [False] * len(found.alternatives)
    assert not any(isinstance(value, list | dict | tuple) or str(value)[:1] in "[{" for value in table.to_numpy().flat)
    first, plan = table.iloc[0], found.plan
    assert (first["tp"], first["gpus"]) == (plan.parallel.tensor, plan.gpus)
    assert first["weights"] == plan.weights or (plan.weights is None and first["weights"] != first["weights"])
    assert first["usd_per_query"] == plan.usd and first["quality.drop"] == plan.quality.drop
    nothing = kvplan.recommend("chat", "llama3.1-70b", gpus="h100", techniques="baseline", max_gpus=1, on=ON)
    assert nothing.plan is None and not any(nothing.to_pandas().get("recommended", ()))


def test_a_result_is_printed_on_one_line_that_tells_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kvplan.memory("llama3.1-8b", "8k")
    assert repr(found).startswith("<Memory: Llama 3.1 8B needs 1.0 GiB of KV cache for one sequence of 8k tokens")
    plan = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on=ON)
    assert all(x in repr(plan) for x in ("<Recommendation: Real-time chat on Llama 3.1 8B: ", "H100", "a month"))
    assert all(len(repr(x)) < 250 and "\n" not in repr(x) for x in (found, plan))
    monkeypatch.delattr("kvplan.cli.notebook.line")  # whatever goes wrong: who debugs it prints it too
    assert repr(found) == "<Memory>"


def test_without_pandas_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(KvplanError, match=re.escape("to_pandas needs pandas: pip install 'kvplan[pandas]'")):
        kvplan.memory("llama3.1-8b", "8k").to_pandas()


class Reading(HTMLParser):
    """Reads a fragment: its texts, and whether its tags close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe") and {name for name, _ in attrs} <= {"style", "scope"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_notebook_shows_every_word_of_the_report() -> None:
    result = kvplan.estimate("llama3.1-70b", "32k", gpus="h200", techniques=["fp8", "h2o:20%"], on=ON)
    fragment = Reading(result._repr_html_())
    assert not fragment.open
    shown = " ".join(" ".join(fragment.texts).split())
    for block in report_of(result).page().blocks:
        cells = [cell for row in block.rows for cell in row.cells] if isinstance(block, Table) else []
        lines = [line.removeprefix("- ") for line in block.lines] if isinstance(block, Notes) else []
        said = [block.text] if isinstance(block, Text) else [*cells, *lines]
        assert all(" ".join(text.split()) in shown for text in said if isinstance(text, str))


def test_a_fragment_obeys_nothing_that_a_file_says() -> None:
    rows = (Row(("<b>&", Bar(0.5))),)
    blocks = (Text("<script>alert(1)</script>\x1b[31m"), Table("<i>", (Heading('"'), Heading("", picture=True)), rows))
    text = fragments.fragment(Page.of(*blocks, Notes("", ("- <u>",))))
    assert not Reading(text).open and "\x1b" not in text
    assert "&lt;script&gt;" in text and '<td style="text-align:left">&lt;b&gt;&amp;</td></tr>' in text


def test_importing_kvplan_takes_a_tenth_of_a_second_at_most() -> None:
    code = "import time; t = time.perf_counter(); import kvplan; print(time.perf_counter() - t)"
    took = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in "123"]
    assert min(took) < 0.1


# -- formats --------------------------------------------------------------------------------------

FORMAT = '''"""Names of blocks and of fields."""

from kvplan.report.formats import Report, Screen


def render(report: Report, screen: Screen) -> str:
    """Return what a report is made of."""
    kinds = [type(block).__name__ for block in report.page().blocks]
    return f"MINE {report.document()['command']} {'/'.join(kinds)}"
'''
#: runs commands one after another and prints what each wrote
SEVERAL = """
import contextlib, io, json, sys
from kvplan.cli import main
for words in json.loads(sys.argv[1]):
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            main(words)
        except SystemExit as left:
            code = left.code
    print(json.dumps([words[0], code, out.getvalue()]))
"""
#: a question for every command: the first of its reports; and what `list`, which has none, and other kinds answer
QUESTIONS = [
    "recommend -w chat -m llama3.1-8b -g h100 -t fp8 --save plan.json", "export vllm plan.json",
    "list engines", "doctor", "schema gpu", "tour", "show profile mine.yaml", "prices --apis",
    "calibrate mine.csv -o out.yaml",
    "evaluate -m recall -t mhc:2x --samples 2 --questions 1 --lengths 96", "compress -m recall -t mhc:2x -o latents",
    *({line.split()[0]: line for line in reversed(REPORTS.values())} | {"calibrate": "calibrate few.csv -o out.yaml"})
    .values(),
]  # fmt: skip


def test_a_format_is_one_file_and_every_command_answers_in_it(files: Path) -> None:
    copy = files / "copy"
    shutil.copytree(PACKAGE, copy / "kvplan")  # compiled as it is: that takes longer than the commands
    for name in ("kernels", "models", "profiles"):
        (copy / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "kvplan" / "report" / "formats" / "mine.py").write_text(FORMAT)
    asked = [[*shlex.split(line), "--format", "mine"] for line in QUESTIONS]
    assert {words[0] for words in asked} | {"profile", "watch"} == set(commands())
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(copy)!r})\n{SEVERAL}", json.dumps(asked)],
        cwd=files, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = list(map(json.loads, done.stdout.splitlines()))
    assert len(answers) == len(asked)
    for words, (command, code, out) in zip(asked, answers, strict=True):
        expected = "profile" if "mine.csv" in words else command  # samples make a profile of a device
        assert code == 0 and re.fullmatch(rf"MINE {expected} \w+(/\w+)*\n", out), (words, code, out, done.stderr)


def test_json_is_the_short_form_of_a_format(run) -> None:
    words = ("memory", "-m", "llama3.1-8b", "-c", "8k")
    spellings = (("--json",), ("--format", "json"), ("--json", "--format=json"), ("--format=json", "--json"))
    assert len({run(*words, *spelling).out for spelling in spellings}) == 1
    assert run(*words, "--format", "text").out == run(*words).out
    both = run(*words, "--json", "--format", "text")
    assert both.code == 2 and "--json and --format text: give one of them" in both.err
    assert run(*words, "--format", "stone").code == 2


def test_a_saved_question_does_not_say_how_it_was_written(run, files: Path) -> None:
    words = ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "fp8", "--on", ON)
    for written in (("--json",), ("--format", "json"), ("--format=json",), ()):
        assert run(*words, "--save", "plan.json", *written).code == 0
        asked = {"workload": "chat", "model": "llama3.1-8b", "gpus": ["h100"], "techniques": ["fp8"], "on": ON}
        assert json.loads(Path("plan.json").read_text())["question"] == {"function": "recommend", "values": asked}


def test_a_recommendation_takes_two_screens_and_all_of_it_is_behind_full(run) -> None:
    words = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "h200", "-g", "b200", "-t", "fp8", "--on", ON)
    short, full = run(*words), run(*words, "--full")
    assert len(short.out.splitlines()) <= 66 < len(full.out.splitlines())
    for heading in ("Where each dollar goes", "Why", "Best plan on each GPU", "Start each"):
        assert f"\n{heading}" in short.out and f"\n{heading}" in full.out
    assert "--full prints the whole report" in short.out and "Pareto" in full.out and "\nPareto" not in short.out
    assert run(*words, "--format", "md").out == run(*words, "--full", "--format", "md").out


# -- help and flags -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_fits_a_screen_and_has_two_examples(run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*command.split(), "--help").out.splitlines()
    assert len(lines) <= 40
    assert [line for line in lines if len(line) > 80] == []
    asked = f"  kvplan {command}".rstrip()
    assert sum(line.startswith(f"{asked} ") or line == asked for line in lines) >= 2


#: another tool's flags, where files say which run they are of, and another command's that writes a missing file
OTHERS = {
    "catalog/plans/saved": ("--save",),
    "measuring/benchmarks/files": ("--save-result", "--output-len"), "measuring/benchmarks/aiperf": ("--streaming",),
    "measuring/benchmarks/vllm": ("--request-rate", "--metadata", "--save-result"),
    "measuring/benchmarks/trtllm": ("--streaming", "--report"), "measuring/metrics": ("--enable-metrics",),
    "catalog/servers/launching": ("--tp", "--kv-cache-dtype"), "catalog/rows/trace_rows": ("--save-detailed",),
    "catalog/rows/traces": ("--save-detailed",),
    "planning/exporting/clients/guidellm": (
        "--help", "--backend", "--profile", "--constraint", "--data", "--seed", "--label", "--output", "--override",
    ),
    "planning/exporting/clients/aiperf": (
        "--help", "--model", "--url", "--endpoint-type", "--streaming", "--request-rate", "--arrival-pattern",
        "--arrival-smoothness", "--concurrency", "--request-count", "--isl", "--osl", "--sequence-distribution",
        "--num-prefix-prompts", "--prefix-prompt-length", "--extra-inputs", "--random-seed", "--goodput",
        "--artifact-dir", "--ui", "--set",
    ),
}  # fmt: skip


def test_only_the_command_line_names_flags() -> None:
    found = {
        place: [flag for flag in re.findall(r"--[a-z][a-z-]*", path.read_text("utf-8")) if flag not in theirs]
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (place := str(path.relative_to(PACKAGE).with_suffix(""))).startswith("cli/")
        for theirs in [OTHERS.get(place, ())]
    }
    assert len(found) > 400
    assert {place: flags for place, flags in found.items() if flags} == {}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.stem)
def test_a_command_is_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 120
