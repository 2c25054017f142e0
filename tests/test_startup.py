"""What a command does before it answers: files read, modules imported, documents parsed, as counts."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from kvplan import catalog
from kvplan.architectures import FAMILIES, TOWERS
from kvplan.catalog import shelves

ONE_GPU = ["estimate", "-m", "llama3.1-70b", "-c", "128k", "-g", "h200", "--json"]
ALL_GPUS = ["estimate", "-m", "llama3.1-70b", "-c", "128k", "--json"]
#: a run of kvplan that prints what it opened, parsed and imported, as one line of JSON after its answer
WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
from kvplan.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code
data = [name for name in opened if "/models/" in name or "/profiles/" in name]
print(json.dumps({"data": [name for name in data if name.endswith((".yaml", ".json"))], "modules": list(sys.modules)}))
"""


def watched(arguments: list[str]) -> tuple[dict, dict]:
    """Return a command's answer, and what it opened and imported."""
    done = subprocess.run([sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, check=True)
    answer, work = done.stdout.splitlines()
    return json.loads(answer), json.loads(work)


def kinds(work: dict) -> dict[str, list[str]]:
    """Return the names of the data files that were opened, by their folder."""
    found: dict[str, list[str]] = {}
    for path in map(Path, work["data"]):
        found.setdefault(path.parent.name, []).append(path.name)
    return found


def test_an_estimate_of_one_gpu_reads_its_own_files() -> None:
    _, work = watched(ONE_GPU)
    read = kinds(work)
    assert read["models"] == ["llama3.1-70b.yaml"] and read["gpus"] == ["h200.yaml"]
    assert set(read) == {"models", "gpus", "engines", "serving", "prices", "quality"}
    assert len(work["data"]) == 4 + len(shelves.names("prices")) + len(shelves.names("quality"))


def test_an_alias_is_found_without_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(shelves, "parsed", lambda *asked: parsed.append(asked))
    from kvplan.catalog.lookup import resolve

    assert resolve("models", "meta-llama/Meta-Llama-3-70B", "model") == "llama3-70b"
    assert resolve("gpus", "H100-SXM-80GB", "GPU") == "h100-sxm"
    assert parsed == []


def test_no_file_is_opened_twice() -> None:
    _, work = watched(ALL_GPUS)
    assert len(work["data"]) == len(set(work["data"]))
    day = date.today().isoformat()
    priced = {p.gpu for p in catalog.prices() if p.term == "on-demand" and p.current(day)}
    assert set(kinds(work)["gpus"]) == {f"{name}.yaml" for name in priced}  # no others: they cannot be compared


@pytest.mark.parametrize("arguments", [ONE_GPU, ALL_GPUS, ["memory", "-m", "llama3-70b", "-c", "8k", "--json"]])
def test_what_an_answer_has_no_use_for_is_not_imported(arguments: list[str]) -> None:
    _, work = watched(arguments)
    unused = {"rich", "numpy", "scipy", "plotext", "kvplan.specs.money", "kvplan.report.formats.text"}
    assert unused & set(work["modules"]) == set()
    families = {name.rsplit(".", 1)[-1] for name in work["modules"] if ".architectures." in name}
    shared = {"attention", "config", "decoders", "feed_forward", "formats", "parts", "quantization", "reader"}
    shared |= {"quantization_methods", "tensor_formats"}  # which quantization reads blocks with
    assert families == {"families", "llama", "registry", *shared}


def test_the_list_of_commands_imports_none() -> None:
    code = (
        "import sys; from kvplan.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    parts = ("ending", "help", "names", "streams")
    own = {"kvplan", "kvplan.cli", "kvplan.errors", *(f"kvplan.cli.{part}" for part in parts)}
    assert {name for name in loaded if name.startswith("kvplan")} == own
    assert "rich" not in loaded and "yaml" not in loaded


def test_every_architecture_is_found_whichever_module_reads_it() -> None:
    code = "import sys; from kvplan.architectures import {0}; sys.exit('{1}' not in {0})"
    for table, one_each in (("FAMILIES", ("llama", "mixtral", "deepseek_v3", "mamba", "t5")), ("TOWERS", ("t5gemma",))):
        for model_type in one_each:
            assert subprocess.run([sys.executable, "-c", code.format(table, model_type)], check=False).returncode == 0
    assert "none" not in FAMILIES and not set(FAMILIES) & set(TOWERS)


# -- data kept parsed -----------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the shelf of engines a copy with parsed data, as an installed wheel has it."""
    folder = tmp_path / "profiles" / "engines"
    folder.mkdir(parents=True)
    (folder / "vllm.yaml").write_text(shelves.shipped("engines", "vllm"), "utf-8")
    shelves.keep(folder, "engines")
    monkeypatch.setattr(shelves, "DATA", tmp_path)
    for memory in (shelves.names, shelves._kept):
        memory.cache_clear()
    yield folder
    monkeypatch.undo()
    for memory in (shelves.names, shelves._kept):
        memory.cache_clear()


def test_data_kept_parsed_is_what_the_files_say(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = yaml.load((copy / "vllm.yaml").read_text("utf-8"), yaml.BaseLoader)
    monkeypatch.setattr(shelves, "parsed", None)
    assert shelves.document("engines", "vllm") == wanted


def test_a_file_changed_or_added_after_the_build_is_read_as_it_is_now(copy: Path) -> None:
    path = copy / "vllm.yaml"
    path.write_text(path.read_text("utf-8").replace("title: vLLM", "title: Another"), "utf-8")
    (copy / "mine.yaml").write_text("title: mine\n", "utf-8")
    assert shelves.document("engines", "vllm")["title"].startswith("Another")
    assert shelves.document("engines", "mine") == {"title": "mine"}
