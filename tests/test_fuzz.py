"""Three hundred damaged files and a few killed writers; benchmarks/fuzz.py runs thousands."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVPLAN_TRACEBACK", raising=False)


def test_every_seed_is_answered(fuzz: ModuleType, tmp_path: Path) -> None:
    """What is damaged was right before: each valid file gives an answer, so that damage reaches deep."""
    for seed in fuzz.seeds(tmp_path):
        path = tmp_path / f"x.{seed.name}"
        path.write_text(seed.text, "utf-8")
        words = {"FILE": str(path), "OUT": str(tmp_path / "out.csv")}
        for command in seed.commands:
            code, _, err, _ = fuzz.call(*(words.get(word, word) for word in command))
            assert code == 0, (command, err)


@pytest.mark.slow
def test_damaged_files_are_refused_in_one_line(fuzz: ModuleType, tmp_path: Path) -> None:
    found = list(fuzz.cases(300, 2026, tmp_path))
    assert not [case for case in found if case.wrong]
    assert {case.code for case in found} >= {0, 1}


def test_killed_writers_leave_whole_files(fuzz: ModuleType, tmp_path: Path) -> None:
    assert list(fuzz.kills(6, 2026, tmp_path)) == [""] * 6
