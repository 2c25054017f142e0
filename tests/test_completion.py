"""Shell completion: what a shell is told when it asks, as it asks."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import click
import pytest
from printing import settings

from kvplan import catalog
from kvplan.cli import commands, group, main
from kvplan.cli.choice import OneOf
from kvplan.errors import meant


def in_a_process(asked: dict[str, str]) -> str:
    """Return what a process of its own prints, as a shell starts one."""
    code = "from kvplan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def in_this_process(asked: dict[str, str]) -> str:
    """Return the same without the time that a process takes to start."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with settings(asked), redirect_stdout(out), pytest.raises(SystemExit) as left:
        main([])
    assert not left.value.code
    return out.buffer.getvalue().decode()


def offered(
    line: str, shell: str = "bash", ask: Callable[[dict[str, str]], str] = in_this_process
) -> list[tuple[str, str]]:
    """Return (kind, word) of what the last word of a line may go on as, asked as the script of a shell asks."""
    words = line.split(" ")
    asked = {"_KVPLAN_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    out = ask(asked)
    if shell == "zsh":
        lines = out.splitlines()
        return [(lines[n], lines[n + 1]) for n in range(0, len(lines), 3)]
    if shell == "fish" and "\n" in out and "," not in out.splitlines()[0]:
        lines = out.splitlines()
        return [(lines[n], lines[n + 1]) for n in range(0, len(lines), 3)]
    return [tuple(line.split("\t")[0].split(",", 1)) for line in out.splitlines() if line]


def words(*asked: Any) -> list[str]:
    return [word for _, word in offered(*asked)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_told_the_models(shell: str) -> None:
    assert words("kvplan estimate --model qwen3-3", shell, in_a_process) == [
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
        ("kvplan memory --as llama", ["llama", "llama4_text"]),
        ("kvplan simulate --router r", ["round-robin", "random"]),
        ("kvplan simulate --tiers cpu,s", ["cpu,ssd"]),
        ("kvplan estimate -t mhc:4x+fp", ["mhc:4x+fp8"]),
        ("kvplan evaluate --tasks needle,mu", ["needle,multihop"]),
        ("kvplan sweep when", ["when-an-api-wins"]),
        ("kvplan export gui", ["guidellm"]),
        ("kvplan export vllm plan.json --as lead", ["leaderworkerset"]),
        ("kvplan recommend --term on", ["on-demand"]),
        ("kvplan recommend --objective c", ["cost"]),
        ("kvplan estimate --format js", ["json"]),
        ("kvplan memory --kv-dtype fp8_", ["fp8_e4m3", "fp8_e5m2"]),
        ("kvplan predict --kind m", ["mla_decode_attention"]),
    ],
)
def test_names_of_the_catalogue_are_completed(line: str, found: list[str]) -> None:
    assert words(line) == found


def test_a_file_may_stand_for_a_name_and_a_technique_is_none() -> None:
    assert offered("kvplan estimate -m ./conf") == [("file", "./conf")]
    assert offered("kvplan estimate -t ./conf") == []


def test_every_table_of_words_is_where_it_is_looked_up() -> None:
    """Modules are named in strings here, which neither types nor the house rules read."""
    from kvplan.cli.completion import KINDS, WORDS

    context = click.Context(click.Command("any"))
    for words in (*(words for words, _ in WORDS.values()), *KINDS.values()):
        assert [*words(context)]


def test_all_commands_are_offered() -> None:
    assert words("kvplan ") == list(commands())


def every_choice() -> list[tuple[str, str, str]]:
    """Return (command, option, word) for every word of every option that takes one of a few."""
    found = []
    for name in commands():
        for option in group.get_command(click.Context(group), name).params:
            if isinstance(option.type, click.Choice):
                assert isinstance(option.type, OneOf), f"{name} {option.opts}"
                found += [(name, max(option.opts, key=len), word) for word in option.type.choices]
    return found


@pytest.mark.parametrize(("name", "option", "word"), every_choice())
def test_a_wrong_choice_gets_the_nearest_right_one(run, name: str, option: str, word: str) -> None:
    """Two letters swapped, one too many, and capitals."""
    for wrong in (f"{word[0]}{word[2:3]}{word[1]}{word[3:]}", f"{word}x", word.upper()):
        if wrong == word:
            continue
        done = run(name, option, wrong)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert f"{word!r}" in done.err.partition("; did you mean ")[2], done.err


@pytest.mark.parametrize(
    ("line", "code", "near"),
    [
        ("simulate -w chat -m llama3.1-8b -g h100 --router least-loadd", 1, "least-loaded"),
        ("simulate -w chat -m llama3.1-8b -g h100 --tiers cpo", 1, "cpu"),
        ("simulate -w chat -m llama3.1-8b -g h100 --engine vlm", 1, "vllm"),
        ("memory -m llama3.1-8b -c 4k --as lama", 1, "llama"),
        ("memory -m llama3.1-8b -c 4k --without grphs", 1, "graphs"),
        ("memory -m llama3.1-8b -c 4k --speculative eagel3", 1, "eagle3"),
        ("recommend -w chat -m llama3.1-8b --speculative mpt", 1, "mtp"),
        ("recommend -w chat -m llama3.1-8b --term on-demnd", 1, "on-demand"),
        ("recommend -w chat -m llama3.1-8b --vary gpuu=h100", 1, "gpus"),
        ("estimate -m llama3.1-8b -c 4k --profile publishd", 1, "published"),
        ("sweep price-of-a-limt", 1, "price-of-a-limit"),
        ("prices --term spt", 1, "spot"),
        ("prices --provider lamda", 1, "lambda"),
        ("audit aricle", 1, "article"),
        ("recomend", 2, "recommend"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(run, line: str, code: int, near: str) -> None:
    done = run(*line.split())
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert f"did you mean {near!r}" in done.err, done.err


def test_a_word_like_no_choice_is_told_what_there_is_and_no_guess_is_made(run) -> None:
    done = run("recommend", "--objective", "zzz")
    assert "'zzz' is not one of cost, energy, gpus, latency" in done.err and "did you mean" not in done.err
    assert meant("mea", ["measured here", "cost"]) == "; did you mean 'measured here'?"  # what it begins
    assert meant("", ["cost"]) == meant(None, ["cost"]) == ""
