"""What the documentation shows is what happens."""

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path

import click
import pytest
from metric_pages import REQUESTS, SECONDS, served, vllm

import kvplan
from kvplan.api.profile import measure
from kvplan.cli import commands as named
from kvplan.cli import group, line_of

pytestmark = pytest.mark.usefixtures("ask_once")
#: for `ask_once`: the tests patch folders, clocks and what measures kernels
PATCHES_NO_PLAN = True

ROOT = Path(__file__).parent.parent
WORKLOADS = (ROOT / "docs" / "workloads.md").read_text("utf-8")
#: the whole workload that stands first on its page
MY_WORKLOAD = re.findall(r"```yaml\n(.*?)```", WORKLOADS, re.DOTALL)[0]
#: what no page may hold: paths and tools of a workplace
NAMES = re.compile(r"/work/(main|shared|\.)|/opt/pypi|farm-(bench|studio)|/\.library")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown_help(name: str) -> str:
    """Return a command's text of help, its examples a line each."""
    return group.get_command(click.Context(group), name).help


def commands() -> list[tuple[str, str]]:
    """Return (page, command) of all that runs kvplan: lines of code blocks, inline spans, examples of the help."""
    found = [
        ("help", line) for name in named() for line in re.findall(r"^ *(kvplan .*)$", shown_help(name), re.MULTILINE)
    ]
    found = [
        (page, line) for page, line in found if not re.search(r"\.(csv|json|yaml)\b|--refresh|kvplan profile", line)
    ]
    for page in (p for p in PAGES if p.name != "loop.md"):  # which test_loop runs in its order
        text = page.read_text("utf-8")
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
            found += [
                (page.name, line.split(" #")[0].strip()) for line in block.splitlines() if line.startswith("kvplan ")
            ]
        found += [(page.name, span) for span in re.findall(r"`(kvplan [^`]+)`", text)]
    first = {command: page for page, command in reversed(found)}
    return [(page, command) for command, page in reversed(first.items())]


def serving_files(folder: Path) -> None:
    """Write rows of servers, a benchmark's result and a profile of servers."""
    import json

    from serving_rows import entries, timed, write
    from test_servers import RESULT

    from kvplan import catalog

    places = (("llama3.1-8b", "h100", "vllm"), ("qwen3-32b", "h100", "sglang"), ("llama3.1-8b", "h200", "sglang"))
    rows = [row for place in places for row in entries(*place, loads=(1, 16, 64))]
    write(folder / "serving.csv", timed(rows, catalog.serving_profile()))
    for name in ("e2e_serving.csv", "e2e_more.csv"):  # stand for the published measurements
        (folder / name).write_text((folder / "serving.csv").read_text("utf-8"), "utf-8")
    (folder / "result.json").write_text(json.dumps(RESULT), "utf-8")
    shipped = ROOT / "profiles" / "serving" / "published.yaml"
    (folder / "myservers.yaml").write_text(shipped.read_text("utf-8"), "utf-8")


#: what takes long and is the same for several commands: a saved plan, the samples of this machine
ONCE: dict[str, str] = {}


def saved_plan(run) -> str:
    """Return a plan that `recommend` saved."""
    if "plan" not in ONCE:
        assert run("recommend", "-w", "chat", "-m", "llama3.1-8b", "--save", "once.json").code == 0
        ONCE["plan"] = Path("once.json").read_text("utf-8")
    return ONCE["plan"]


def measured_once(machine, begun: float, budget: float, rows: str, watch) -> None:
    """Write samples of this machine, which are measured the first time, for a few seconds once the device is open."""
    if "samples" in ONCE:
        Path(rows).write_text(ONCE["samples"], "utf-8")
        return
    measure(machine, time.monotonic(), min(budget, 5.0), rows, watch)
    ONCE["samples"] = Path(rows).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda v: v)
def test_commands_in_the_docs_run(run, tmp_path, monkeypatch, page: str, command: str) -> None:
    """./config.json, ./mine.yaml, ./gemm.csv, ./serving.csv, ./result.json, ... stand for the reader's own files."""
    import json

    import yaml

    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "models" / "qwen3-8b.yaml").read_text("utf-8"))["config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.yaml").write_text(
        (ROOT / "profiles" / "gpus" / "h200.yaml").read_text("utf-8").replace("name: h200", "name: mine")
    )
    own = re.search(r"```yaml\n(.*?)```", FILES, re.DOTALL)
    (tmp_path / "mygpu.yaml").write_text(own[1] if own else "", "utf-8")
    shapes = [(m, n) for m in (1, 64, 512, 2048, 8192) for n in (4096, 8192, 12288)]
    rows = [f"h100,mine-1,cublas,bfloat16,{m},{n},8192,{5 + max(m, 230) * n / 4.3e4:.2f}" for m, n in shapes]
    (tmp_path / "gemm.csv").write_text("\n".join(["gpu,engine,kernel,dtype,m,n,k,latency_us", *rows]))
    if "trace.csv" in command:
        (tmp_path / "trace.csv").write_bytes((ROOT / "tests" / "golden" / "files" / "trace.csv").read_bytes())
    if re.search(r"serving\.csv|more\.csv|result\.json|myservers\.yaml", command):
        serving_files(tmp_path)
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "audit.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "claims.yaml").write_text(example[1] if example else "", "utf-8")
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "fleet.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "fleet.yaml").write_text(example[1] if example else "", "utf-8")
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweep.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "study.yaml").write_text(example[1] if example else "", "utf-8")
    example = re.search(r"```yaml\n(name: mygpu.*?)```", (ROOT / "docs" / "files.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "mygpu.yaml").write_text(example[1] if example else "", "utf-8")
    (tmp_path / "myworkload.yaml").write_text(MY_WORKLOAD, "utf-8")
    if "my-model" in command:
        from compress_families import write_folder

        write_folder(tmp_path / "my-model")
    for name in re.findall(r"(?:plan|rented|owned)\.json", command) if " compare " in command else ():
        (tmp_path / name).write_text(saved_plan(run), "utf-8")
    if command.startswith("kvplan profile"):
        monkeypatch.setattr("kvplan.api.profile.measure", measured_once)
    with live(monkeypatch) if "localhost:8000" in command else nullcontext("") as address:
        assert run(*shlex.split(command.replace("localhost:8000", address))[1:]).code == 0, command


@contextmanager
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the metrics of a server that ends 120 requests from one look to the next, a minute later."""
    clock = count(0.0, SECONDS)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("kvplan.api.watch.time.sleep", lambda _: None)
    with served(*(vllm(REQUESTS * n) for n in range(9))) as address:
        yield address


def test_every_command_is_documented_and_has_help(run) -> None:
    listed = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert "<!-- report: kvplan --help -->" in listed  # which `pytest --update-golden` rewrites
    for name in named():
        assert re.search(rf"^  {name} +{re.escape(line_of(name)[:40])}", listed, re.MULTILINE)
        assert "Usage" in run(name, "--help").out


#: a command and what it prints, or its first lines: `pytest --update-golden` rewrites it
REPORT = re.compile(r"(<!-- report(?:, its first (\d+) lines)?: (.*?) -->\n```text\n)(.*?)(?=```)", re.DOTALL)


def test_the_reports_in_the_pages_are_what_the_commands_print(run, monkeypatch, request) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    count = 0
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in REPORT.finditer(text):
            count += 1
            out = run(*shlex.split(block[3])[1:]).out
            if block[2]:
                out = "".join(out.splitlines(keepends=True)[: int(block[2])])
            if request.config.getoption("--update-golden"):
                text = text.replace(block[0], block[1] + out)
                page.write_text(text, "utf-8")
            else:
                assert block[4] == out, f"{page.name}: run pytest tests/test_docs.py --update-golden"
    assert count >= 2


#: a picture and the command that draws it: `pytest --update-golden` draws it anew
PICTURE = re.compile(r"<!-- picture: (.*?) -->\n!\[.*?\]\((.*?\.svg)\)")


def test_the_pictures_in_the_pages_are_what_the_commands_draw(run, request) -> None:
    drawn = [(page, *found) for page in PAGES for found in PICTURE.findall(page.read_text("utf-8"))]
    assert drawn
    for page, command, name in drawn:
        file, picture = page.parent / name, run(*shlex.split(command)[1:]).out
        if request.config.getoption("--update-golden"):
            file.write_text(picture, "utf-8")
        words = [re.findall(r">([^<>]+)<", text) for text in (file.read_text("utf-8"), picture)]
        assert words[0] == words[1], f"{file.name}: run pytest tests/test_docs.py --update-golden"


def test_the_python_examples_run(capsys, tmp_path, monkeypatch) -> None:
    import json

    from kvplan.api.schema import schema

    monkeypatch.chdir(tmp_path)
    (tmp_path / "myworkload.yaml").write_text(MY_WORKLOAD, "utf-8")
    (tmp_path / "workload.schema.json").write_text(json.dumps(schema("workload").shape), "utf-8")
    examples = [
        code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert examples
    for code in examples:
        assert len(code.strip().splitlines()) <= 10
        exec(compile(code, "example", "exec"), {})
        assert capsys.readouterr().out.strip()


def test_contributing_names_the_rooms_in_order_and_files_that_exist() -> None:
    from test_architecture import ROOMS

    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text[text.index("## Rooms") :], re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == ROOMS
    for name in re.findall(r"`((?:kvplan|kernels|profiles|tests|benchmarks|docs|\.ci)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


def test_contributing_names_every_file_of_every_room_and_none_that_is_gone() -> None:
    """But for families, tools and answers, of which there is one file each, called like what it is about."""
    from test_architecture import ROOMS

    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    sections = re.split(
        r"^### `(\w+)`\n", text[text.index("## Rooms") : text.index("## How a report")], flags=re.MULTILINE
    )
    rooms = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert [*rooms] == [room for room in ROOMS if (ROOT / "kvplan" / room).is_dir()]
    alike = (
        "architectures/families/", "measuring/benchmarks/", "report/formats/", "planning/exporting/servers/",
        "planning/exporting/clients/",
    )  # fmt: skip
    for room, section in rooms.items():
        files = list((ROOT / "kvplan" / room).rglob("*.py"))
        there = {name for f in files for name in (f.stem, f.parent.name)}
        told = {*re.findall(r"`(\w+)/?`", section)}
        assert told - there - {*ROOMS} == set(), room
        called = {*named(), *kvplan.__all__, "listing"} if room in ("api", "cli", "report") else set()
        files = [f for f in files if not str(f.relative_to(ROOT / "kvplan")).startswith(alike)]
        names = {f.stem for f in files if f.stem != "__init__"}
        assert names - called - told == set(), room


def test_no_page_counts_what_the_catalogue_holds() -> None:
    """A model, GPU or architecture that is added must not make a page wrong."""
    for page in PAGES:
        text = page.read_text("utf-8")
        counts = re.findall(r"\b\d+ (?:models (?:are )?in|GPUs in the cat|architectures|price lists)", text)
        assert not counts, (page.name, counts)


def test_no_page_names_a_machine_or_a_workplace() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in listed:
        path = ROOT / name
        if path.suffix in (".md", ".py", ".toml", ".yaml", "") and path.is_file():
            text = path.read_text("utf-8")
            assert path.name == "test_docs.py" or not NAMES.search(text), name


# -- files of a reader's own ----------------------------------------------------------------------

FILES = (ROOT / "docs" / "files.md").read_text("utf-8")


def test_every_field_of_a_gpu_s_file_is_described_with_its_unit() -> None:
    from kvplan.specs.hardware import GPU_FIELDS

    table = FILES[FILES.index("| field |") : FILES.index("## Rows of kernels")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    units = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    words = {"": "text", "#": "number"}
    assert units == {"name": "text", "aliases": "list of texts"} | {n: words.get(u, u) for n, u in GPU_FIELDS.items()}


def test_the_gpu_of_the_page_is_one_and_what_is_required_is_said(tmp_path) -> None:
    from kvplan import catalog
    from kvplan.catalog.hardware.gpus import NEEDED

    example = re.search(r"```yaml\n(.*?)```", FILES, re.DOTALL)
    (tmp_path / "mygpu.yaml").write_text(example[1], "utf-8")
    found = catalog.gpu(str(tmp_path / "mygpu.yaml"))
    assert (found.name, found.memory, found.bandwidth, found.fp8) == ("mygpu", 80e9, 3.35e12, 1.979e15)
    for name in NEEDED:
        assert re.search(rf"^\| `{name}` .*required", FILES, re.MULTILINE), name


def test_every_column_of_rows_of_kernels_is_described() -> None:
    from kvplan.perf.kernel_profile import KINDS

    table = FILES[FILES.index("| kind |") : FILES.index("| column |")]
    told = {(names := re.findall(r"`(\w+)`", line))[0]: names[1:] for line in table.splitlines() if "`" in line}
    assert told == {kind.name: [*kind.texts, *kind.sizes] for kind in KINDS.values()}
    described = FILES[FILES.index("| column |") : FILES.index("```csv")]
    assert set(re.findall(r"`(\w+)`", described)) >= {column for columns in told.values() for column in columns}


def test_the_rows_of_the_page_are_read(tmp_path) -> None:
    import kvplan

    example = re.search(r"```csv\n(.*?)```", FILES, re.DOTALL)
    (tmp_path / "gemm.csv").write_text(example[1], "utf-8")
    assert kvplan.validate(str(tmp_path / "gemm.csv")).groups[-1].rows == len(example[1].splitlines()) - 1


def test_the_workload_of_the_page_is_one_and_what_is_required_is_said(tmp_path) -> None:
    from kvplan import catalog
    from kvplan.catalog.workloads import FIELDS, NEEDED

    (tmp_path / "myworkload.yaml").write_text(MY_WORKLOAD, "utf-8")
    found = catalog.workload(str(tmp_path / "myworkload.yaml"))
    assert (found.name, found.title, found.arrivals.queries_per_day) == ("myworkload", "Contract review", 30_000)
    assert found.input.mean == pytest.approx(400 + 30 * 500 * 1.33 + 40)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|(.*?)\|", WORKLOADS, re.MULTILINE)
    required = {name: mark.strip() for names, mark in rows for name in re.findall(r"`(\w+)`", names)}
    assert {name for name, mark in required.items() if mark == "required"} == {*NEEDED}
    assert {*FIELDS} <= {*required}
