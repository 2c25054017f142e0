"""Broken input for every command that reads a file, and writers killed at any moment. Figures: benchmarks/NOTES.md.

python benchmarks/fuzz.py --cases 5000 --kills 200 --seed 1

A case is a valid file, damaged in its bytes, in its words or in its values, given to a command that reads such files.
It must end within 5 s with exit status 0, 1 or 2 and at most one line on stderr that calls nothing a bug; what it
prints holds no control character, and JSON no number that JSON lacks. A killed writer leaves the old file or the new.
"""

import argparse
import contextlib
import copy
import csv
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kvplan.cli import main
from kvplan.measuring.device.course import COLUMNS

ROOT = Path(__file__).parent.parent
#: longest a case may take [s], and the most memory all of them may [byte]
SLOW, LARGE = 5.0, 1e9
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: what a word or a value becomes
WORDS = (
    "",
    "-1",
    "0",
    "1e309",
    "nan",
    "inf",
    "-inf",
    "1e-320",
    "9" * 400,
    "0x10",
    "1_0",
    "[]",
    "{}",
    "[[]]",
    "null",
    "~",
    "yes",
    "*a",
    "&a x",
    "!!python/object:os.system x",
    "<<",
    "soon",
    "2026-13-45",
    "[/red]",
    "[link=http://x]y[/link]",
    "\x1b[31m",
    "\x9b31m",
    "\u202etxt",
    ":smile:",
    "é",
    "x" * 5000,
    "a: b: c",
    "'",
    '"',
    "#",
    "h100",
    "80 GB",
    "-3 TB/s",
    "../x",
)
VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3.5,
    1e300,
    -1e300,
    float("nan"),
    float("inf"),
    10**40,
    10**5000,
    "",
    "x",
    "4096",
    "nan",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    [[1, 2]],
    [[]] * 5,
    "[/red]",
    "\x1b]8;;http://x\x07",
    "\ud800",
    "2026-01-01",
    "80 GB",
    "1e999",
    "-5 USD/h",
    "x" * 3000,
    list(range(2000)),
)


@dataclass(frozen=True)
class Seed:
    """A valid file and the commands that read it; FILE stands for it, OUT for a file to write."""

    name: str
    text: str
    commands: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Case:
    """A damaged file as it was given to a command, what came of it, and what is wrong with that ('': nothing)."""

    seed: str
    arguments: tuple[str, ...]
    seconds: float
    code: int
    wrong: str


# -- running --------------------------------------------------------------------------------------


class Late(BaseException):
    """A case took too long."""


@contextlib.contextmanager
def bounded(seconds: int) -> Iterator[None]:
    def late(_number: int, _frame: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(*arguments: str, limit: int = 120) -> tuple[int, str, str, float]:
    """Run a command in this process; return exit status, stdout, stderr and the processor time it took [s]."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    begun, code = time.process_time(), -1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with bounded(limit):
                main(list(arguments))
        except SystemExit as left:
            code = int(left.code or 0)
        except Late:
            code = -2
    spent = time.process_time() - begun
    out.flush()
    err.flush()
    return code, *(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)), spent  # type: ignore[attr-defined]


def fault(arguments: tuple[str, ...], code: int, out: str, err: str, spent: float) -> str:
    """Return what is wrong with how a command ended, '' when nothing is."""
    if code not in (0, 1, 2):
        return "took more than 120 s" if code == -2 else f"exit status {code}"
    if spent > SLOW:
        return f"took {spent:.1f} s of a processor"
    if "this is a bug" in err or "Traceback" in err:
        return err.strip()
    if code and not err:
        return "a no without a reason"
    if len(err.splitlines()) > 1:
        return f"{len(err.splitlines())} lines on stderr: {err[:200]!r}"
    if len(err) > 1200:
        return f"a line of {len(err)} letters"
    if found := CONTROL.search(out + err):
        return f"prints {found[0]!r}"
    if "--json" in arguments and out:
        try:
            json.loads(out, parse_constant=lambda name: {}[name])
        except (ValueError, KeyError) as error:
            return f"is no JSON: {error}"
    return ""


# -- damage ---------------------------------------------------------------------------------------


def damaged(seed: Seed, draw: random.Random) -> bytes:
    """Return a seed's file with one to three things wrong in it."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [bytewise, wordwise, linewise]
    found = seed.text.encode("utf-8")
    if not seed.name.endswith(".csv") and draw.random() < 0.6:
        return valuewise(seed, draw)
    for _ in range(draw.randint(1, 3)):
        found = draw.choice(ways)(found, draw)
    return found


def bytewise(data: bytes, draw: random.Random) -> bytes:
    if not data:
        return b"\xff"
    at = draw.randrange(len(data))
    return draw.choice(
        (
            data[:at],
            data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :],
            data[:at] + data[at + draw.randint(1, 40) :],
            data[:at] + data[at : at + 200] + data[at:],
            data[:at] + draw.choice((b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"')) + data[at:],
        )
    )


def wordwise(data: bytes, draw: random.Random) -> bytes:
    words = list(re.finditer(rb"[^\s,:{}\[\]\"']+", data))
    if not words:
        return data
    word = draw.choice(words)
    return data[: word.start()] + draw.choice(WORDS).encode("utf-8") + data[word.end() :]


def linewise(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at = draw.randrange(len(lines))
    return b"".join(
        draw.choice((lines[:at], lines[:at] + lines[at + 1 :], [*lines, lines[at]], lines[: at + 1] + lines[at:]))
    )


def valuewise(seed: Seed, draw: random.Random) -> bytes:
    """Replace, remove, move or double values of a document."""
    holds_json = seed.name.endswith(".json")
    document = json.loads(seed.text) if holds_json else yaml.load(seed.text, Loader=yaml.BaseLoader)
    document = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        places = list(within(document))
        if not places:
            break
        holder, key = draw.choice(places)
        action = draw.randrange(4)
        if action == 0:
            del holder[key]
        elif action == 1:
            other, from_key = draw.choice(places)
            with contextlib.suppress(KeyError, IndexError):
                holder[key] = copy.deepcopy(other[from_key])
        else:
            holder[key] = copy.deepcopy(
                draw.choice(VALUES) if holds_json or draw.random() < 0.5 else draw.choice(WORDS)
            )
    sys.set_int_max_str_digits(0)
    try:
        text = json.dumps(document) if holds_json else yaml.dump(document, allow_unicode=False, sort_keys=False)
    finally:
        sys.set_int_max_str_digits(4300)
    return text.encode("utf-8", "surrogatepass")


def within(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of every value in a document."""
    for key in (
        list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    ):
        yield document, key
        yield from within(document[key])


# -- seeds ----------------------------------------------------------------------------------------

TRACE = "arrival,input,output,prefix,prefix_tokens,priority\n" + "".join(
    f"{i / 3:.3f},{100 + 37 * i},{1 + 7 * i % 50},terms {i % 3},{60 + i},{i % 2}\n" for i in range(30)
)
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{i:02}.6805900,{374 + i},{44 - i}\n" for i in range(20)
)
BLOCKS = {"timestamp": 0, "input_length": 1100, "output_length": 3, "hash_ids": [0, 7, 9]}
VLLM = {
    "backend": "vllm",
    "model_id": "llama3.1-8b",
    "num_prompts": 100,
    "request_rate": "inf",
    "max_concurrency": 16,
    "completed": 100,
    "failed": 0,
    "duration": 20.5,
    "total_input_tokens": 102400,
    "total_output_tokens": 51200,
    "mean_ttft_ms": 62.1,
    "median_ttft_ms": 60.0,
    "p99_ttft_ms": 95.5,
    "mean_tpot_ms": 8.4,
    "median_tpot_ms": 8.3,
    "p99_tpot_ms": 9.9,
    "gpu": "h100",
    "tp": 1,
    "errors": ["", ""],
    "itls": [[0.01, 0.02]],
}
#: what a result file does not say of its run
SAID = tuple(
    word
    for column in ("model=llama3.1-8b", "precision=bf16", "gpu=h100", "tp=1", "engine=vllm")
    for word in ("--set", column)
)
GUIDELLM = {
    "config": {"metadata": {"labels": {"gpu": "h100", "tp": 1}}},
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "concurrent", "streams": 8}, "backend": {"model": "llama3.1-8b"}},
            "duration": 30.0,
            "metrics": {
                "request_totals": {"successful": 64, "errored": 0},
                "prompt_token_count": {"successful": {"mean": 1024}},
                "output_token_count": {"successful": {"mean": 128}},
                "time_to_first_token_ms": {"successful": {"mean": 40.0, "median": 39, "percentiles": {"p95": 60}}},
                "inter_token_latency_ms": {"successful": {"mean": 7.0, "median": 7, "percentiles": {"p99": 9}}},
            },
        }
    ],
}
_METRICS = {
    "request_count": {"avg": 50, "mean": 50, "unit": "requests"},
    "input_sequence_length": {"avg": 512, "mean": 512},
    "output_sequence_length": {"avg": 128, "mean": 128},
    "time_to_first_token": {"avg": 30.0, "mean": 30.0, "p95": 44, "unit": "ms"},
    "inter_token_latency": {"avg": 6.0, "mean": 6.0, "p95": 8, "unit": "ms"},
    "request_throughput": {"avg": 5.0, "unit": "requests/sec"},
}
AIPERF = {**_METRICS, "input_config": {"endpoint": {"model_names": ["llama3.1-8b"]}, "loadgen": {"concurrency": 8}}}
SWEEP = {
    "per_combination_metrics": [
        {"parameters": {"phases.profiling.concurrency": c}, "metrics": _METRICS} for c in (4, 8)
    ]
}
FLEET = """name: mine
gpus: {h200: {count: 8, price: 3.80 USD/h}, l40s: 4}
workloads:
  - {name: one, workload: chat, model: llama3.1-8b, queries_per_day: 100000, ttft: 1s, percentile: 95}
buckets: 1
"""
OWN_PRICES = """name: mine
title: prices of ours
source: {kind: quote, ref: a mail, date: 2026-11-01}
prices:
  - {gpu: h100-sxm, provider: us, term: on-demand, price: 2.10 USD/h, from: 2026-01-01, to: 2027-01-01, note: cheap}
  - {gpu: h200, price: 3 USD/h, from: 2026-02-01}
"""
OWN_QUALITY = """name: mine
source: {kind: measured, ref: ours, date: 2026-11-01}
models: {llama3.1-8b: {parameters: 8e9, attention: gqa, context: 8k}}
rows:
  - {technique: h2o:20%, task: chat, retained: {llama3.1-8b: 0.98}, spread: 0.01}
  - {technique: fp8, task: chat, scores: [67, 66], context: 8k}
base: {llama3.1-8b: {claimed: 128k, scores: {4096: 95.5, 131072: 77.0}}}
sizes: [{what: 4-bit keys, accuracy: {1e9: 0.34, 8e9: 0.75}}]
"""
OWN_CLAIMS = """name: mine
title: claims
source: {kind: paper, ref: x, date: 2026-01-01}
claims:
  - {id: size, claim: 40 GB each, check: kv_bytes, claimed: 40 GB, cases: {model: llama3-70b, context: [8k, 128k]}}
  - {id: sum, claim: ten, check: arithmetic, claimed: "240", product: [{value: 10, of: s}, {value: 24, of: Hz}]}
"""


def seeds(folder: Path) -> list[Seed]:
    """Return a valid file of every kind that a command reads."""

    def shipped(path: str) -> str:
        return (ROOT / path).read_text("utf-8")

    def made(*arguments: str) -> None:
        code, _, err, _ = call(*arguments)
        assert code == 0, err

    samples = sample_rows()
    (folder / "s.csv").write_text(samples)
    made("calibrate", str(folder / "s.csv"), "-o", str(folder / "measured.yaml"))
    gemm = "gpu,engine,kernel,dtype,m,n,k,latency_us\n" + "".join(
        f"h100-sxm,vllm,torch_matmul,bfloat16,{m},4096,4096,{20 + m / 16:.3f}\n"
        for m in (1, 16, 64, 256, 1024, 4096) * 3
    )
    servers = "model,gpu,engine,engine_version,isl,osl,concurrency,tp,ttft_ms,tpot_ms\n" + "".join(
        f"llama3.1-8b,h100-sxm,vllm,0.10,{i},128,{c},1,{20 + i / 50 + c},{7 + c / 20}\n"
        for i in (512, 2048)
        for c in (1, 8, 64)
    )
    plan = folder / "plan.json"
    made("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h200", "-t", "baseline", "--save", str(plan))
    config = json.dumps(yaml.safe_load(shipped("models/gpt-oss-20b.yaml"))["config"])
    h200 = ("-m", "llama3.1-8b", "-c", "8k", "-g", "h200")
    listed = ("prices", "--prices", "FILE")
    rows = (("validate", "FILE"), ("predict", "FILE", "-o", "OUT", "--json"), ("validate", "FILE", "--json"))
    commands = {
        "model": (
            ("memory", "-m", "FILE", "-c", "8k", "--gpu", "h200", "--tp", "2", "--json"),
            ("estimate", "-m", "FILE", "-c", "8k", "-g", "h200"),
            ("show", "model", "FILE"),
            ("show", "model", "FILE", "--json"),
        ),
        "gpu": (("show", "gpu", "FILE"), ("estimate", "-m", "qwen3-8b", "-c", "8k", "-g", "FILE")),
        "workload": (
            ("show", "workload", "FILE"),
            ("recommend", "-w", "FILE", "-m", "qwen3-8b", "-g", "h200", "-t", "fp8"),
        ),
        "prices": (listed, (*listed, "--json")),
        "apis": ((*listed, "--apis"), (*listed, "--apis", "--json")),
        "own": (("prices", "--own", "FILE"), ("prices", "--own", "FILE", "--json")),
        "engine": (("show", "engine", "FILE"),),
        "quality": (("recommend", "-w", "chat", *h200[:2], "-g", "h200", "-t", "fp8", "--quality", "FILE"),),
        "claims": (("audit", "FILE"), ("audit", "FILE", "--json")),
        "fleet": (("fleet", "FILE"),),
        "servers": (("show", "profile", "FILE"), ("estimate", *h200, "--profile", "FILE")),
        "kernels": (
            ("show", "profile", "FILE"),
            ("show", "profile", "FILE", "--json"),
            ("predict", str(folder / "gemm.csv"), "-o", "OUT", "--profile", "FILE"),
            ("estimate", *h200, "--profile", "FILE"),
        ),
        "measured": (("show", "profile", "FILE"), ("show", "profile", "FILE", "--json")),
        "samples": (("calibrate", "FILE", "-o", "OUT"),),
        "rows": rows,
        "results": (("validate", "FILE", *SAID, "--json"), ("predict", "FILE", *SAID, "-o", "OUT")),
        "trace": (
            ("simulate", "--trace", "FILE", "-m", "llama3.1-8b", "-g", "h200", "--json"),
            ("simulate", "--trace", "FILE", "-m", "llama3.1-8b", "-g", "h200", "--find-replicas", "--ttft", "1s"),
        ),
        "plan": (("compare", "FILE", str(plan)), ("compare", "FILE", "FILE", "--json"), ("compare", "FILE")),
    }
    (folder / "gemm.csv").write_text(gemm)
    files = (
        ("gpu.yaml", shipped("profiles/gpus/h200.yaml"), "gpu"),
        ("model.yaml", shipped("models/qwen3-next-80b.yaml"), "model"),
        ("config.json", config, "model"),
        ("workload.yaml", shipped("profiles/workloads/chat.yaml"), "workload"),
        ("prices.yaml", OWN_PRICES, "prices"),
        ("apis.yaml", shipped("profiles/apis/deepseek.yaml"), "apis"),
        ("own.yaml", shipped("profiles/ownership/default.yaml"), "own"),
        ("engine.yaml", shipped("profiles/engines/vllm.yaml"), "engine"),
        ("quality.yaml", OWN_QUALITY, "quality"),
        ("claims.yaml", OWN_CLAIMS, "claims"),
        ("fleet.yaml", FLEET, "fleet"),
        ("serving.yaml", shipped("profiles/serving/published.yaml"), "servers"),
        ("kernels.yaml", shipped("profiles/calibrations/a100-80gb-sxm.yaml"), "kernels"),
        ("measured.yaml", (folder / "measured.yaml").read_text("utf-8"), "measured"),
        ("samples.csv", samples, "samples"),
        ("gemm.csv", gemm, "rows"),
        ("servers.csv", servers, "rows"),
        ("vllm.json", json.dumps(VLLM), "results"),
        ("guidellm.json", json.dumps(GUIDELLM), "results"),
        ("aiperf.json", json.dumps(AIPERF), "results"),
        ("sweep.json", json.dumps(SWEEP), "results"),
        ("plan.json", plan.read_text("utf-8"), "plan"),
        ("trace.csv", TRACE, "trace"),
        ("azure.csv", AZURE, "trace"),
        ("trace.jsonl", json.dumps(BLOCKS), "trace"),
        (
            "detailed.json",
            json.dumps({"start_times": [1.0, 2.5], "input_lens": [9, 90], "output_lens": [7, 8]}),
            "trace",
        ),
    )
    return [Seed(name, text, commands[kind]) for name, text, kind in files]


def sample_rows() -> str:
    """Return samples as `kvplan profile` takes them, of a made-up CPU."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for power in range(13, 25):
        for turn in range(3):
            size, moved = 2**power, 2**power * 8
            writer.writerow(
                {
                    "group": "copy",
                    "kind": "copy",
                    "gpu": "CPU of nobody",
                    "engine": "torch-0",
                    "kernel": "copy",
                    "dtype": "float32",
                    "elements": size,
                    "bytes": moved,
                    "flops": 0,
                    "round": turn,
                    "latency_us": f"{1 + moved / 2e4 + turn / 100:.4f}",
                    "wall_us": 10,
                    "repeats": 3,
                    "load": 0.1,
                }
            )
    return out.getvalue()


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Run `count` cases, one after another; the same seed gives the same."""
    known = seeds(folder)
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        chosen = known[number % len(known)]
        path, out = folder / f"x.{chosen.name}", folder / "out.csv"
        path.write_bytes(damaged(chosen, draw))
        words = {"FILE": str(path), "OUT": str(out)}
        arguments = tuple(words.get(word, word) for word in draw.choice(chosen.commands))
        code, printed, err, spent = call(*arguments)
        wrong = fault(arguments, code, printed, err, spent)
        if wrong and (kept := os.environ.get("KEEP")):
            Path(kept, f"{seed}-{number}.{chosen.name}").write_bytes(path.read_bytes())
        yield Case(chosen.name, arguments, spent, code, wrong)


# -- killed writers -------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from kvplan.catalog.files import write_whole
path, text = Path(sys.argv[1]), sys.argv[2] * 2_000_000
print("ready", flush=True)
while True:
    write_whole(path, text)
"""
SAMPLER = """
import sys
from kvplan.measuring.device.course import COLUMNS
from kvplan.catalog.rows.samples import SampleLog
log = SampleLog(sys.argv[1], COLUMNS)
print("ready", flush=True)
sample = {name: "1" for name in COLUMNS}
while True:
    log.append(sample)
"""


def killed(code: str, words: tuple[tuple[str, ...], ...], after: float) -> None:
    """Start writers, and kill them without a warning `after` all of them began [s]."""
    started = [subprocess.Popen([sys.executable, "-c", code, *each], stdout=subprocess.PIPE) for each in words]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(after)
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def kills(count: int, seed: int, folder: Path) -> Iterator[str]:
    """Yield what was wrong after each kill, '' where nothing was: single writers, two at once, and growing samples."""
    from kvplan.catalog.files import write_whole
    from kvplan.catalog.rows.samples import SampleLog, read_samples

    draw = random.Random(seed)
    whole, samples = folder / "whole.txt", folder / "grown.csv"
    known = {letter * 2_000_000 for letter in "oab"}
    whole.write_text("o" * 2_000_000)
    for number in range(count):
        after = draw.random() * 0.05
        if number % 3 == 2:
            if samples.exists() and samples.stat().st_size > 100_000:
                samples.unlink()
            killed(SAMPLER, ((str(samples),),), after)
            with samples.open("r+b") as file:  # a kill may also cut the last line anywhere
                end = file.seek(0, 2)
                file.truncate(max(0, end - draw.randrange(30)))
            log = SampleLog(str(samples), COLUMNS)
            log.close()
            rows = read_samples(str(samples), COLUMNS)
            good = all(row == dict.fromkeys(COLUMNS, "1") for row in rows)
            yield "" if good else f"samples of {len(rows)} rows are not whole"
            continue
        killed(WRITER, tuple((str(whole), letter) for letter in ("a" if number % 3 else "ab")), after)
        left = whole.read_text()
        write_whole(whole, left)  # removes what the killed process could not
        stayed = next(folder.glob(".kvplan-*.part"), None)
        yield f"{stayed} stayed" if stayed else "" if left in known else "a file is neither old nor new"


def peak() -> float:
    """Return the most memory this process has held. [byte]"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.pop("KVPLAN_TRACEBACK", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun, wrong, times = time.perf_counter(), 0, []
        codes: dict[int, int] = {}
        for case in cases(given.cases, given.seed, folder):
            times.append(case.seconds)
            codes[case.code] = codes.get(case.code, 0) + 1
            if case.wrong:
                wrong += 1
                print(f"{case.seed}: {' '.join(case.arguments)}: {case.wrong[:300]}", flush=True)
        if times:
            times.sort()
            print(
                f"{len(times):,} damaged files in {time.perf_counter() - begun:.0f} s: {wrong} wrong; a case took "
                f"{times[len(times) // 2] * 1e3:.0f} ms (median), {times[-1]:.2f} s (longest); "
                f"peak memory {peak() / 1e6:.0f} MB; exit status {dict(sorted(codes.items()))}"
            )
        found = list(kills(given.kills, given.seed, folder))
        torn = [said for said in found if said]
        print(f"{len(found)} kills: {len(torn)} left a file that is neither old nor new", *torn[:5])
    return bool(wrong or torn or peak() > LARGE)


if __name__ == "__main__":
    sys.exit(run())
