"""Shell completion: what a shell is told when it asks, as it asks."""

import os
import subprocess
import sys

import pytest

from kvplan import catalog
from kvplan.cli import commands


def offered(line: str, shell: str = "bash") -> list[tuple[str, str]]:
    """Return (kind, word) of what the last word of a line may go on as, asked as the script of a shell asks."""
    words = line.split(" ")
    asked = {"_KVPLAN_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    code = "from kvplan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    if shell == "zsh":
        lines = done.stdout.splitlines()
        return [(lines[n], lines[n + 1]) for n in range(0, len(lines), 3)]
    if shell == "fish" and "\n" in done.stdout and "," not in done.stdout.splitlines()[0]:
        lines = done.stdout.splitlines()
        return [(lines[n], lines[n + 1]) for n in range(0, len(lines), 3)]
    return [tuple(line.split("\t")[0].split(",", 1)) for line in done.stdout.splitlines() if line]


def words(line: str, shell: str = "bash") -> list[str]:
    return [word for _, word in offered(line, shell)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_told_the_models(shell: str) -> None:
    assert words("kvplan estimate --model qwen3-3", shell) == [
        name for name in catalog.names("models") if name.startswith("qwen3-3")
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str) -> None:
    asked = {**os.environ, "_KVPLAN_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-c", "from kvplan.cli import main; main()"], env=asked, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert f"{shell}_complete" in done.stdout and done.returncode == 0


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("kvplan recommend -w doc", ["doc-qa"]),
        ("kvplan estimate -g h200-", ["h200-nvl"]),
        ("kvplan techniques -t mhc", ["mhc:4x"]),
        ("kvplan memory --engine vl", ["vllm"]),
        ("kvplan list stu", ["studies"]),
        ("kvplan show wo", ["workload"]),
        ("kvplan show gpu h200-", ["h200-nvl"]),
        ("kvplan show technique fp", ["fp8"]),
        ("kvplan schema own", ["ownership"]),
        ("kvplan estimate --form", ["--format"]),
        ("kvplan mem", ["memory"]),
    ],
)
def test_names_of_the_catalogue_are_completed(line: str, found: list[str]) -> None:
    assert words(line) == found


def test_a_file_may_stand_for_a_name_and_a_technique_is_none() -> None:
    assert offered("kvplan estimate -m ./conf") == [("file", "./conf")]
    assert offered("kvplan estimate -t ./conf") == []


def test_all_commands_are_offered() -> None:
    assert words("kvplan ") == list(commands())
