"""The wheel, installed bare: no torch, no numpy, another folder."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

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
        "kvplan/specs/class_defaults.json",
    }
    for folder in ("kernels", "models", "profiles"):
        wanted |= {
            f"kvplan/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yaml", ".csv")
        }
    assert wanted - held == set()
    assert not any(name.startswith(("tests/", "benchmarks/", "models/", "kernels/")) for name in held)


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
        ["estimate", "--model", "llama3-70b", "--context", "128k"],
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
