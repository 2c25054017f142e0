"""The machine interface and the reports, as a user and a script see them."""

import json
import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(("technique", "held", "said"), [("h2o:20%", 3, True), ("streaming:4,4096", 108, False)])
def test_memory_says_why_evicted_tokens_leave_no_room(run, technique: str, held: int, said: bool) -> None:
    """34.2 GiB hold 3 sequences of 2.0 GiB a GPU: those that heads evict by themselves keep their blocks."""
    text = " ".join(
        run("memory", "-m", "llama3.1-70b", "-c", "128k", "-g", "h100", "--tp", "4", "-t", technique).out.split()
    )
    assert f": {held} sequences of 128k" in text and ("frees no block" in text) == said
