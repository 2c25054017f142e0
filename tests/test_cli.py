"""The machine interface and the reports, as a user and a script see them."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from kvplan.cli import commands, module_of
from kvplan.report.dictionary import meaning

ON = ("--on", "2026-11-23")
ROW = {"technique", "kv_bytes_per_token", "kv_bytes_per_sequence", "reduction", "gpus", "max_sequences", "ttft", "tpot",
       "tokens_per_second", "usd_per_query", "usd_per_million_tokens", "quality", "feasible", "reason"}  # fmt: skip


def test_estimate_json(run) -> None:
    found = run(
        "estimate",
        "--model",
        "llama3.1-70b",
        "--context",
        "128k",
        "--gpu",
        "h200",
        "--technique",
        "mhc:4x+h2o:20%",
        "--json",
        *ON,
    )
    assert found.code == 0 and found.err == ""
    assert found.json["schema"] == 1
    base, both = found.json["rows"]
    assert set(base) >= ROW
    assert base["kv_bytes_per_sequence"] == 42_949_672_960 and base["kv_bytes_per_token"] == 327_680
    assert both["technique"] == "mhc:4x+h2o:20%" and both["reduction"] > 0.94
    assert base["usd_per_query"] == pytest.approx(sum(line["usd"] for line in base["usd_lines"]))
    assert base["ttft_low"] < base["ttft"] < base["ttft_high"]


def test_memory_json(run) -> None:
    found = run(
        "memory", "--model", "qwen3-32b", "--context", "32k", "--batch", 4, "--gpu", "h100", "--tp", 2, "--json"
    ).json
    assert found["weights"]["parameters"] == 32_762_123_264
    assert found["kv"]["attention_bytes"] == 4 * 32768 * 262_144 == sum(c["bytes"] for c in found["kv"]["per_layer"])
    assert found["kv"]["bytes_per_token"] == 262_144
    budget = found["budget"]
    assert sum(budget[k] for k in ("weights", "activations", "runtime", "kv_cache")) == pytest.approx(budget["total"])
    assert budget["kv_tokens"] == pytest.approx(budget["kv_cache"] / 131_072, rel=0.01)
    assert found["kv_tokens"] == budget["kv_tokens"]
    lines = {line["name"]: line for line in budget["lines"]}
    assert sum(line["bytes"] for line in lines.values()) == pytest.approx(budget["total"])
    assert budget["cuda_graphs"] == lines["cuda_graphs"]["bytes"] > 0
    assert budget["runtime"] == lines["runtime"]["bytes"] + budget["cuda_graphs"]
    assert lines["runtime"]["basis"].endswith("; CUDA graphs have a line of their own")
    assert "CUDA graphs included" in meaning("runtime") and "part of runtime" in meaning("cuda_graphs")


def test_three_readings_of_one_cache(run) -> None:
    sizes = {}
    for layout in ("architecture", "engine", "transformers"):
        sizes[layout] = run("memory", "-m", "gpt-oss-120b", "-c", "128k", "--layout", layout, "--json").json["kv"][
            "total_bytes"
        ]
    token = 8 * 64 * 2 * 2
    assert sizes["architecture"] == 18 * (131072 + 128) * token
    assert sizes["transformers"] == 18 * (131072 + 127) * token
    assert sizes["engine"] > sizes["architecture"]


def test_kv_dtypes_and_techniques(run) -> None:
    def attention(*flags: str) -> float:
        return run("memory", "-m", "llama3.1-8b", "-c", "1k", "--json", *flags).json["kv"]["attention_bytes"]

    assert attention("--kv-dtype", "fp8") == attention() / 2 == attention("--technique", "fp8")
    assert attention("--kv-dtype", "int4") == attention() * 4.5 / 16
    assert attention("--kv-dtype", "fp32") == attention() * 2
    assert run("memory", "-m", "llama3.1-8b", "-c", "1k", "--kv-dtype", "fp8", "-t", "int4").code == 1


@pytest.mark.parametrize("kind", ["models", "gpus", "prices", "techniques", "architectures", "engines", "profiles"])
def test_list(run, kind: str) -> None:
    found = run("list", kind, "--json")
    assert found.code == 0 and found.json[kind]
    assert run("list", kind).out.count("\n") >= len(found.json[kind])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "deepseek-v3"),
        ("gpu", "H200-SXM-141GB"),
        ("technique", "mhc:4x+fp8"),
        ("engine", "vllm"),
        ("price", "h200"),
        ("price", "aws"),
    ],
)
def test_show_gives_every_value_a_source(run, kind: str, name: str) -> None:
    found = run("show", kind, name, "--json").json["fields"]
    assert found and all(f["source"] for f in found)
    assert "Sources" in run("show", kind, name).out


REFUSED = [
    (("estimate", "--model", "llama3-70b", "--context", "-5"), "--context: expected a number of tokens"),
    (("estimate", "--model", "lama3-70b", "--context", "8k"), "did you mean 'llama3-70b'"),
    (("estimate", "--model", "llama3-70b", "--context", "8k", "-t", "h20:20%"), "did you mean 'h2o:20%'"),
    (
        ("estimate", "--model", "llama3-70b", "--context", "8k", "-t", "streaming:4,64+h2o:20%"),
        "both act on the tokens",
    ),
    (("estimate", "--model", "llama3-70b", "--context", "8k", "-g", "h2000"), "did you mean 'h200'"),
    (("estimate", "--model", "llama3-70b", "--context", "8k", "-g", "h100", "--price", "0"), "above zero"),
    (("estimate", "--model", "llama3-70b", "--context", "8k", "--on", "tomorrow"), "2026-11-23"),
    (("estimate", "--model", "llama3-70b", "--context", "8k", "--output", "8k"), "leave no prompt"),
    (("estimate", "--model", "./nothing.json", "--context", "8k"), "no such file"),
    (
        ("estimate", "--model", "llama3.1-405b", "--context", "128k", "-g", "l4", "--tp", "1"),
        "no technique can be served",
    ),
    (("memory", "--model", "llama3.1-8b", "--context", "8k", "--tp", "3"), "does not divide"),
    (("memory", "--model", "llama3.1-70b", "--context", "8k", "-g", "h100"), "do not fit"),
    (("memory", "--model", "llama3.1-8b", "--context", "128k", "-b", "64", "-g", "h100"), "which holds 3"),
    (
        ("memory", "--model", "llama3.1-8b", "--context", "128k", "--max-model-len", "4k", "-g", "h100"),
        "longer than --max-model-len",
    ),
    (("estimate", "--model", "qwen3-8b", "--context", "8k", "--price", "2/h"), "name the one GPU"),
    (("estimate", "--model", "qwen3-8b", "--context", "8k", "-t", "mhc"), "mhc needs a size"),
    (("memory", "--model", "llama3.1-8b", "--context", "8k", "--gpu-memory-utilization", "1.5"), "at most 1"),
    (("show", "gpu", "h2000"), "did you mean"),
    (("list", "dreams"), "no list named"),
    (("show", "planet", "mars"), "no kind named"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_a_no_is_one_line_on_stderr(run, arguments: tuple[str, ...], said: str) -> None:
    found = run(*arguments)
    assert found.code == 1
    assert said in found.err and found.err.count("\n") == 1 and found.err.startswith("kvplan: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("estimate",),
        ("estimate", "--modle", "x"),
        ("fly",),
        ("memory", "-m", "qwen3-8b", "-c", "8k", "--tp", "0"),
    ],
)
def test_wrong_usage_is_one_line_and_2(run, arguments: tuple[str, ...]) -> None:
    found = run(*arguments)
    assert found.code == 2 and found.out == "" and found.err.count("\n") == 1


def test_an_infeasible_answer_is_still_a_document(run) -> None:
    found = run("estimate", "--model", "llama3.1-405b", "--context", "128k", "-g", "l4", "--tp", "1", "--json")
    assert found.code == 1 and found.err.count("\n") == 1
    assert not any(row["feasible"] for row in found.json["rows"])


def test_gpu_and_price_from_the_user(run, tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\nsource: {kind: assumption, ref: my own card, date: 2026-11-23}\n"
        "memory: 96 GB\nbandwidth: 2 TB/s\nfp16: 400 TFLOP/s\n"
        "link: 50 GB/s\npower: 400 W\nsms: 100\nl2: 64 MB\n"
    )
    row = run("estimate", "-m", "qwen3-32b", "-c", "16k", "-g", str(mine), "--price", "1.80/h", "--json").json["rows"][
        0
    ]
    assert row["gpu"] == "mine" and row["feasible"] and row["usd_per_query"] > 0
    mine.write_text(mine.read_text().replace("96 GB", "96 GB/s"))
    assert "mine.yaml: memory: expected a size" in run("estimate", "-m", "qwen3-32b", "-c", "16k", "-g", str(mine)).err


def test_colour_is_off_when_piped() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "kvplan", "list", "gpus"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    assert "\x1b[" not in out.stdout


def test_a_closed_pipe_is_no_error() -> None:
    out = subprocess.run(
        f"{sys.executable} -m kvplan list models | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert out.stderr == "" and "models" in out.stdout


def test_json_has_no_nan(run) -> None:
    text = run("estimate", "-m", "mamba2-none", "-c", "4k", "--json")
    assert text.code == 1
    json.loads(run("estimate", "-m", "gpt2", "-c", "1k", "--json", *ON).out, parse_constant=pytest.fail)


def test_a_profile_is_shown_with_meanings_and_two_are_compared(run, tmp_path) -> None:
    one = run("show", "profile", "l40s", "--kernels", "gemm")
    assert one.code == 0 and "rate of full waves of tiles" in one.out and "median error" in one.out
    assert "Roofline" in one.out and max(map(len, one.out.splitlines())) <= 100
    both = run("show", "profile", "h100-sxm", "h200", "--kernels", "decode_attention", "--json").json
    assert [p["name"] for p in both["profiles"]] == ["h100-sxm", "h200"]
    kernel = both["profiles"][0]["kernels"][0]
    assert (
        kernel["kind"] == "decode_attention"
        and kernel["coefficients"]["bandwidth"]["meaning"]
        and kernel["interval_80"]
    )
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "gpu,engine,kernel,dtype,m,n,k,latency_us\nL40S,vllm-0.24.0,vllm_default,bfloat16,64,4096,4096,60.0\n"
    )
    drawn = run("show", "profile", "l40s", "--kernels", "gemm", "--rows", str(rows))
    assert drawn.code == 0 and "gemm: rows.csv against l40s" in drawn.out
    assert run("show", "profile", "h100-sxm", "h200", "l40s").code == 1
    assert "did you mean" in run("show", "profile", "h100-sxn").err


#: what every command needs besides the option that is tried; files that do not exist are read later than any value
NEEDED = {
    "estimate": "-m llama3.1-8b -c 4k", "memory": "-m llama3.1-8b -c 4k", "list": "gpus", "show": "gpu h100",
    "load": "-m llama3.1-8b -g h100 --isl 1k --osl 100", "recommend": "-w chat -m llama3.1-8b -g h100",
    "export": "vllm none.json", "simulate": "-w chat -m llama3.1-8b -g h100", "compare": "none.json",
    "evaluate": "-m recall", "compress": "-m recall -t mhc:4x -o none",
}  # fmt: skip
#: options whose values are files, addresses, terms of contracts or free text: any text is one
FREE = {
    "--html", "--save", "--prices", "--profile", "--own", "--term", "--quality", "--trace", "--per-request",
    "--latents", "--checkpoint", "--image", "--url", "--rows", "--text", "--output",
}  # fmt: skip


#: options that say nothing without another, or contradict what every command is asked with here: wrong use at once
PAIRED = {
    ("list", "--for"), ("list", "--workload"), ("load", "--workload"), ("load", "--confidence"), ("load", "--e2e"),
}  # fmt: skip


def typed_values() -> list[tuple[str, str]]:
    """Return every option of a command that takes a value of its own kind; weights of a model are a folder's."""
    found = []
    for name in NEEDED:
        for option in import_module(module_of(name)).command.params:
            flag = max(option.opts, key=len)
            free = flag in FREE or (name in ("evaluate", "compress") and flag == "--model")
            if isinstance(option, click.Option) and not option.is_flag and not free:
                found.append((name, flag))
    return found


@pytest.mark.parametrize(("command", "flag"), typed_values())
def test_a_value_that_is_none_is_one_line_in_every_command(run, command: str, flag: str) -> None:
    """Before anything is asked: 2 for an option whose help names the numbers or words it takes, 1 for any other."""
    option = next(o for o in import_module(module_of(command)).command.params if flag in o.opts)
    kinds = (
        click.Choice,
        click.IntRange,
        click.FloatRange,
        type(click.INT),
        type(click.FLOAT),
        click.types.FuncParamType,
    )
    wrong_use = isinstance(option.type, kinds) or (command, flag) in PAIRED
    found = run(command, *NEEDED[command].split(), flag, "%wrong")
    assert (found.code, found.out, found.err.count("\n")) == (2 if wrong_use else 1, "", 1), found
    assert found.err.startswith("kvplan")


@pytest.mark.parametrize("command", commands())
def test_an_option_or_a_format_that_is_none_is_wrong_usage_in_every_command(run, command: str) -> None:
    needed = NEEDED.get(command, "").split()
    for words in (("--nonesuch",), ("--format", "jsn")):
        found = run(command, *needed, *words)
        assert (found.code, found.out, found.err.count("\n")) == (2, "", 1), found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("recommend -w chat -m llama3.1-8b -g h100,h200", "no GPU named 'h100,h200'; write -g h100 -g h200"),
        ("recommend -w chat -m llama3.1-8b --gpu=h100,h200", "; write --gpu h100 --gpu h200"),
        ("recommend -w chat -m llama3.1-8b -t fp8,int4", "no technique named 'fp8,int4'; write -t fp8 -t int4"),
        ("recommend -w chat -m llama3.1-8b --weights fp8,int4", "; write --weights fp8 --weights int4 (see"),
        ("recommend -w chat -m llama3.1-8b --engine vllm,sglang", "; --engine takes one, as in --engine vllm"),
        ("load -m llama3.1-8b -g h100,h200 --isl 1k --osl 100", "'h100,h200'; -g takes one, as in -g h100"),
        ("show profile h100,h200", "; write h100 h200"),
    ],
)
def test_names_joined_by_commas_are_told_how_to_write_several(run, words: str, said: str) -> None:
    found = run(*words.split())
    code = 2 if "is not one of" in found.err else 1  # a word that click itself reads is wrong use
    assert (found.code, found.out, found.err.count("\n")) == (code, "", 1) and said in found.err, found.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("load … --rate -4/s", "--rate: must be above zero, as in 2.5/s, got '-4/s'"),
        ("load … --rate four", "--rate: expected a number of requests a second such"),
        ("recommend … --queries-per-day many", "expected a number of queries such as '40,000'"),
        ("recommend … --confidence high", "--confidence: expected a share such as '5%' or '0.05'"),
        ("memory … --gpu-memory-utilization most", "expected a share such as '5%' or '0.05', got 'most'"),
        ("export vllm none.json --port http", "is not a whole number"),
        ("simulate -w chat -m llama3.1-8b -g h100 --replicas two", "'two' is not a whole number. (see"),
        ("schema plam", "did you mean 'plan'? a plan is the document of recommend, --answer recommend"),
        ("schema recomend", "did you mean 'recommend'? it is the document of recommend, --answer recommend"),
        ("schema plan", "'plan'; a plan is the document of recommend, --answer recommend"),
        ("schema fleat", "did you mean 'fleet'?"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_what_to_write(run, words: str, said: str) -> None:
    command, *more = words.split()
    needed = NEEDED[command].split() if more[0] == "…" else []
    found = run(command, *needed, *(word for word in more if word != "…"))
    code = 2 if "whole number" in said else 1  # what click itself reads is wrong usage
    assert (found.code, found.out, found.err.count("\n")) == (code, "", 1) and said in found.err, found.err


def test_a_path_in_a_folder_one_may_not_enter_cannot_be_read(run, monkeypatch) -> None:
    """The tests may run as root, who may enter every folder."""

    def closed(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    for words in ("estimate -m /closed/config.json -c 8k", "fleet /closed/fleet.yaml"):
        found = run(*words.split())
        path = words.split()[2 if words[0] == "e" else 1]
        assert (found.code, found.err) == (1, f"kvplan: {path}: cannot be read (Permission denied)\n")


def test_arguments_are_named_as_the_help_names_them(run) -> None:
    found = run("watch")
    assert found.code == 2 and found.err.startswith("kvplan: URL, --prometheus: give one of them")


@pytest.mark.parametrize("words", ["export vllm fleet.yaml", "compare fleet.yaml fleet.yaml"])
def test_another_file_is_no_plan_and_is_told_what_writes_one(run, tmp_path: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.yaml").write_text("workloads: []\n")
    found = run(*words.split())
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "fleet.yaml: is no saved recommendation, which kvplan recommend --save plan.json writes" in found.err
    assert "gpus: expected fields, as in {h100: 32, h200: 8}, got nothing" in run("fleet", "fleet.yaml").err


@pytest.mark.parametrize(
    "ask",
    [
        "recommend -w chat -m llama3.1-8b --isl 100",
        "recommend -w chat -m llama3.1-8b --queries-per-day 100 --rate 2/s",
        "load -w chat -m llama3.1-8b -g h100 --gpus 8 --concurrency 3",
        "load -m llama3.1-8b -g h100 --isl 100",
        "simulate -w chat --trace x.csv -m llama3.1-8b -g h100",
        "simulate -w chat -m llama3.1-8b -g h100 --replicas 2 --find-replicas --ttft 2s",
        "simulate -w chat -m llama3.1-8b -g h100 --disaggregated 2:2 --fail 0@10min+5min",
        "prices --own --apis",
        "compare a.json b.json --on 2026-01-01",
        "watch",
        "techniques -m llama3.1-8b",
        "calibrate x.csv",
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage_everywhere(run, ask: str) -> None:
    found = run(*ask.split())
    assert (found.code, found.out) == (2, "") and found.err.count("\n") == 1
    assert "there is no replica" not in found.err


def test_a_release_newer_than_any_known_is_said_to_get_the_newest_rules(run) -> None:
    words = ("memory", "-m", "llama3.1-8b", "-c", "4k", "-g", "h100")
    newest = run("show", "engine", "vllm", "--json").json
    for release in ("vllm@9.9", "vllm@0.99"):
        text = run(*words, "--engine", release).out
        assert f"{release.removeprefix('vllm@')}, by the newest rules known" in " ".join(text.split())
    assert "by the newest" not in run(*words, "--engine", "vllm@0.25.1").out and newest["kind"] == "engine"
    exact, known = (run(*words, "--engine", r, "--json").json["budget"] for r in ("vllm@9.9", "vllm"))
    assert exact == known


def test_a_mistyped_command_is_told_the_nearest_right_one(run) -> None:
    for typed, meant in (("recomend", "recommend"), ("estimat", "estimate"), ("simulte", "simulate")):
        found = run(typed)
        assert found.code == 2 and f"did you mean '{meant}'?" in found.err and found.err.count("\n") == 1
    assert "did you mean" not in run("zzzzzz").err


@pytest.mark.parametrize("command", ["predict", "validate", "calibrate", "watch"])
def test_a_column_that_was_typed_as_an_option_is_told_how_to_say_it(run, command: str) -> None:
    """What a file or a page does not say of a server is said with --set."""
    for typed, said in (("--gpu", "--set gpu="), ("--tp", "--set tp="), ("--model", "--set model=")):
        if command == "calibrate" and typed == "--gpu":  # which has one of its own
            continue
        found = run(command, "x.csv", typed, "1")
        assert (found.code, found.out, found.err.count("\n")) == (2, "", 1) and f"write {said}..." in found.err
    assert "write --set" not in run(command, "x.csv", "--nonesuch").err
    assert "write --set" not in run("memory", "--isl", "1").err


def test_an_argument_that_is_missing_is_named(run) -> None:
    for words, said in (
        (("predict", "x.csv"), "--output"),
        (("validate",), "ROWS"),
        (("estimate", "-c", "4k"), "--model"),
    ):
        found = run(*words)
        assert found.code == 2 and "Missing" in found.err and said in found.err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "rec.html",
            "<!doctype html>\n<p>hello, world\n",
            "rec.html: line 1: missing columns of measured rows; give a CSV",
        ),
        ("note.txt", "hello world\n", "or the result file (.json) of a benchmark tool"),
        (
            "plan.json",
            '{"schema": 1, "command": "recommend"}',
            "plan.json: is an answer of kvplan recommend, no",
        ),
        ("some.json", '{"a": 1}', "give what vllm bench serve"),
        ("rows.csv", "gpu,engine,kernel,dtype,m,n,latency_us\n", "rows.csv: line 1: missing column"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "predict -o o.csv", "calibrate -o o.yaml"])
def test_a_file_that_holds_no_measurement_is_told_what_to_hand_in(
    run, tmp_path, monkeypatch, command: str, name: str, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    found = run(*command.split(), name)
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1) and said in found.err, found.err


def test_ctrl_c_is_one_line(monkeypatch, run) -> None:
    """Click itself would print an empty line before it."""
    import kvplan.api.simulate

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kvplan.api.simulate, "simulate", stopped)
    found = run("simulate", *NEEDED["simulate"].split(), "--find-replicas", "--ttft", "1s")
    assert (found.code, found.out, found.err) == (130, "", "kvplan: ended by Ctrl-C\n")


@pytest.mark.parametrize(("technique", "held", "said"), [("h2o:20%", 3, True), ("streaming:4,4096", 108, False)])
def test_memory_says_why_evicted_tokens_leave_no_room(run, technique: str, held: int, said: bool) -> None:
    """34.2 GiB hold 3 sequences of 2.0 GiB a GPU: those that heads evict by themselves keep their blocks."""
    text = " ".join(
        run(*f"memory -m llama3.1-70b -c 128k -g h100 --tp 4 -t {technique} --engine vllm@0.21".split()).out.split()
    )
    assert f": {held} sequences of 128k" in text and ("frees no block" in text) == said


def test_estimate_takes_the_length_of_answers_by_the_name_that_other_commands_use(run) -> None:
    ask = ("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100", "-t", "fp8", "--json")
    assert run(*ask, "--osl", "1k").json["rows"] == run(*ask, "--output", "1k").json["rows"]
    assert "or both --isl and --osl" in run("recommend", "-m", "llama3.1-8b", "--rate", "1", "--isl", "100").err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("recommend -w chat -m llama3.1-8b --csv", "write --format csv ("),
        ("doctor --markdown", "write --format md ("),
        ("simulate --users 500", "write --queries-per-day: users times the questions"),
        ("load --users 500", "write --workload and --gpus: the answer says how many users they serve"),
        ("validate rows.csv --gpu h100", "write --set gpu="),
        ("compare plan.json --users 5", "No such option '--users'"),
    ],
)
def test_an_option_that_is_none_is_answered_with_what_says_it(run, words: str, says: str) -> None:
    found = run(*words.split())
    assert found.code == 2 and says in found.err and found.err.count("write") == says.count("write")
