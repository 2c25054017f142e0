"""The wheel, installed bare: no torch, no numpy, another folder; and the releases that the tests run with."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from zlib import crc32

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kvplan.catalog.shelves import KEPT, parsed

ROOT = Path(__file__).parent.parent
#: what the planner may need beside itself
DEPENDENCIES = ("click", "rich", "plotext", "yaml", "_yaml", "pygments", "markdown_it", "mdurl")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the source, without the network."""
    source = tmp_path_factory.mktemp("source") / "kvplan"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "__pycache__", ".*_cache")
    )
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "kvplan").rglob("*.py")} | {
        "kvplan/py.typed",
        "kvplan/architectures/class_defaults.json",
    }
    for folder in ("schemas", "report/formats/html"):
        wanted |= {str(p.relative_to(ROOT)) for p in (ROOT / "kvplan" / folder).rglob("*.*") if p.suffix != ".pyc"}
    for folder in ("kernels", "models", "profiles"):
        wanted |= {
            f"kvplan/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yaml", ".csv")
        }
    assert wanted - held == set()
    assert not any(name.startswith(("tests/", "benchmarks/", "models/", "kernels/")) for name in held)


def test_the_wheel_keeps_its_data_parsed(wheel: Path) -> None:
    """Every file of every shelf that is read by name, as a checkout parses it; dates as text."""
    read = re.compile(r'\b(?:shelf_document|shelf_rows|document)\("(\w+)"')
    modules = (path.read_text("utf-8") for path in (ROOT / "kvplan").rglob("*.py"))
    assert {kind for text in modules for kind in read.findall(text)} == {*KEPT}
    held = zipfile.ZipFile(wheel)
    for kind in KEPT:
        folder = "models" if kind == "models" else f"profiles/{kind}"
        kept = json.loads(held.read(f"kvplan/{folder}/parsed.json"))
        assert sorted(kept) == sorted(p.stem for p in (ROOT / folder).glob("*.yaml"))
        for name, (checksum, found) in kept.items():
            text = (ROOT / folder / f"{name}.yaml").read_text("utf-8")
            assert checksum == crc32(text.encode())
            assert found == json.loads(json.dumps(parsed(kind, name, text), default=str)), name


def test_the_wheel_answers_as_a_checkout_does_without_parsing(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    asked = ["estimate", "-m", "gemma3-27b", "-c", "32k", "--on", "2026-11-23", "--json"]
    code = """
import sys
sys.path[:0] = sys.argv[1:2]
from kvplan.cli import main
try:
    main(sys.argv[2:])
except SystemExit as left:
    sys.exit(left.code or ('yaml' in sys.modules and sys.argv[1] != '') * 3)
"""
    answers = []
    for place in ("", str(tmp_path)):
        command = [sys.executable, "-c", code, place, *asked]
        done = subprocess.run(command, cwd=ROOT if not place else tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert answers[0] == answers[1]


def test_the_wheel_runs_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "bare"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    import click

    here = Path(click.__file__).parent.parent
    for name in DEPENDENCIES:
        if (here / name).is_dir():
            shutil.copytree(here / name, site / name, dirs_exist_ok=True)
    python = home / "bin" / "python"
    for arguments in (
        ["list", "gpus"],
        ["estimate", "--model", "llama3.1-70b", "--context", "128k"],
        ["show", "model", "qwen3-8b"],
    ):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [python, "-m", "kvplan", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 200


def locked() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_lock_pins_one_release_of_every_requirement_within_its_range(python: str) -> None:
    """The build of torch is the reader's choice, and pyproject.toml itself pins triton."""
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    pins: dict[str, str] = {}
    for line in locked():
        assert re.fullmatch(r"==[0-9][0-9.a-z]*", str(line.specifier)), f"{line}: not one release, or one build of it"
        if line.marker is None or line.marker.evaluate(here):
            assert line.name not in pins, f"two releases of {line.name} for Python {python}"
            pins[canonicalize_name(line.name)] = str(line.specifier).removeprefix("==")
    wanted = [one for one in required() if one.name not in ("torch", "triton")]
    assert {canonicalize_name(one.name) for one in wanted} <= set(pins)
    assert [str(one) for one in wanted if not one.specifier.contains(pins[canonicalize_name(one.name)])] == []


def test_the_lock_leaves_the_build_of_torch_to_the_reader() -> None:
    """A hash, an address or a CUDA package would refuse the other builds of torch."""
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert not re.search(r"://|--|@|sha256", text)
    names = {line.name for line in locked()}
    assert not [n for n in names if re.match(r"torch|triton|cuda-|nvidia-", n) and n != "nvidia-ml-py"]


def test_the_commands_in_the_readme_install_what_is_locked() -> None:
    lines = [
        line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("python3 -m venv")
    ]
    assert len(lines) == 2
    installs = [part for line in lines for part in line.split(" && ") if " install " in part]
    torch, ours = (
        [part for part in installs if "torch==" in part],
        [part for part in installs if "torch==" not in part],
    )
    assert [part.split(" install -q ")[1] for part in ours] == [
        "-c constraints.txt .",
        "-c constraints.txt -e '.[dev]'",
    ]
    assert len(torch) == 1


# -- the release ----------------------------------------------------------------------------------


def test_the_version_stands_in_one_place_and_the_others_follow() -> None:
    import kvplan

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kvplan.__version__"}
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## (\d[\d.]*) - (\d{4}-\d{2}-\d{2})$", changes, re.MULTILINE)
    assert released[0][0] == kvplan.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (citation["version"], citation["date-released"]) == released[0]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_an_issue_asks_what_is_installed(path: Path) -> None:
    template = yaml.safe_load(path.read_text("utf-8"))
    if path.stem != "config":
        labels = [part["attributes"]["label"] for part in template["body"]]
        assert {"name", "description", "body"} <= set(template) and any("kvplan doctor --json" in t for t in labels)
        assert len({part["id"] for part in template["body"]}) == len(labels)


def test_every_page_of_the_docs_stands_in_the_site_and_every_link_leads_somewhere() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))

    def pages(entries: list[dict[str, object]]) -> set[str]:
        found: set[str] = set()
        for entry in entries:
            for below in entry.values():
                found |= pages(below) if isinstance(below, list) else {str(below)}
        return found

    held = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages(site["nav"]) == held
    for path in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#\s]+)(?:#[\w-]+)?\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
