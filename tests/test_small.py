"""What a user writes and reads in passing: prices, counts, volumes, profiles of a CPU, streams, hints."""

import json
import os
import re
import subprocess
import sys

import pytest

from kvplan.api import values
from kvplan.errors import SpecError
from kvplan.units import DAY, HOUR, parse_tokens, show_tokens

DAY_OF_PRICES = ("--on", "2026-11-24")
ESTIMATE = ("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100", "-t", "fp8", *DAY_OF_PRICES)


@pytest.mark.parametrize("text", ["1.99 EUR/h", "€2/h", "EUR 2", "2.49 GBP", "£1", "dear", "nan/h"])
def test_a_price_of_another_currency_is_refused_as_it_was_written(run, text: str) -> None:
    found = run(*ESTIMATE, "--price", text)
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    assert f"--price: expected USD per GPU-hour, as in 2.49/h, got '{text}'; convert" in found.err


@pytest.mark.parametrize(
    "text", ["2.49/h", "$2.49/h", "2.49 USD/h", "USD 2.49/hr", "2.49", 2.49, "2.49/hour", "2.00 EUR/h at 1.245"]
)
def test_a_price_in_dollars_is_one_however_it_is_written(text: str | float) -> None:
    assert values.price(text) == pytest.approx(2.49 / HOUR)


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [(128_000, "128,000"), (131_072, "128k"), (4096, "4k"), (4000, "4,000"), (1_000_000, "1,000,000"), (1 << 20, "1M")],
)
def test_a_count_of_tokens_is_echoed_as_it_was_meant(run, tokens: int, shown: str) -> None:
    assert show_tokens(tokens) == shown and parse_tokens(shown) == tokens
    if tokens == 128_000:
        assert "one sequence of 128,000 tokens" in run("memory", "-m", "llama3.1-8b", "-c", "128000").out


@pytest.mark.parametrize(
    ("text", "says"),
    [("1e12", "no service gets 1e+12"), ("1e300", "no service gets 1e+12"), ("1e-12", "1e-09 is the least")],
)
def test_a_volume_that_cannot_be_is_refused_for_that_reason(run, text: str, says: str) -> None:
    found = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "--queries-per-day", text, *DAY_OF_PRICES)
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert f"--queries-per-day: {says}; write a number as in 40000" in found.err
    assert values.per_day("2.5e11", None) == 2.5e11 and values.per_day(None, "2/s") == 2 * DAY


CPU = "name: cpu\nsource: {kind: measured, ref: here, date: 2026-11-24}\ndevice: {kind: cpu, name: CPU}\nkernels: {}\n"


@pytest.mark.parametrize(
    "command",
    [ESTIMATE, ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", *DAY_OF_PRICES),
     ("load", "-m", "llama3.1-8b", "-g", "h100", "--isl", "1k", "--osl", "100", *DAY_OF_PRICES)],
)  # fmt: skip
def test_a_profile_of_a_cpu_is_refused_with_what_to_do(run, tmp_path, command: tuple[str, ...]) -> None:
    (tmp_path / "cpu.yaml").write_text(CPU, "utf-8")
    found = run(*command, "--profile", tmp_path / "cpu.yaml")
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
    assert f"--profile: {tmp_path / 'cpu.yaml'} is of a CPU and says nothing of a GPU; leave it out" in found.err


GEMM = "gpu,engine,kernel,dtype,m,n,k\nh100,vllm-0.24.0,cublas,bfloat16,64,4096,8192\n"


def test_predicted_rows_go_to_stdout_and_the_report_beside_them(tmp_path) -> None:
    (tmp_path / "gemm.csv").write_text(GEMM, "utf-8")
    words = [sys.executable, "-m", "kvplan", "predict", "gemm.csv", "-o", "-"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and "latency_us" in lines[0] and float(lines[1].split(",")[7]) > 0
    assert "1 gemm row written to stdout" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["gemm.csv"]


def test_a_default_result_of_vllm_bench_says_what_to_add(run, tmp_path) -> None:
    """Its backend is 'openai', which is a protocol: neither the engine nor the machine is known."""
    result = {
        "backend": "openai", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 100, "completed": 100,
        "max_concurrency": 8, "total_input_tokens": 100_000, "total_output_tokens": 20_000, "duration": 30.0,
        "mean_ttft_ms": 110.0, "median_ttft_ms": 100.0, "mean_tpot_ms": 10.5, "median_tpot_ms": 10.0,
        "request_rate": "inf",
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(result), "utf-8")
    refused = run("predict", tmp_path / "bench.json", "-o", tmp_path / "out.csv")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    hint = re.search(r"add ((?:--set \w+=\w+ ?)+)", refused.err)
    assert hint and set(re.findall(r"--set (\w+)=", hint[1])) == {"gpu", "engine", "precision", "tp"}
    # what it says to add is enough
    found = run("predict", tmp_path / "bench.json", "-o", tmp_path / "out.csv", *hint[1].split())
    assert found.code == 0 and (tmp_path / "out.csv").read_text("utf-8").count("\n") == 2


def test_list_without_a_kind_names_the_kinds_and_has_help(run) -> None:
    found = run("list")
    assert found.code == 2 and "name what to list: models, gpus, workloads" in found.err
    assert "kvplan list models" in run("list", "--help").out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_profile_says_what_it_does_from_the_first_second_on_a_terminal(tmp_path) -> None:
    """Loading torch takes seconds; the folder of the output is missing here, so that nothing is measured."""
    leader, follower = os.openpty()
    words = [sys.executable, "-m", "kvplan", "profile", "--device", "cpu", "-o", str(tmp_path / "no" / "x.yaml")]
    subprocess.run(words, stderr=follower, stdout=subprocess.DEVNULL, check=False)
    os.close(follower)
    said = os.read(leader, 4096).decode()
    os.close(leader)
    assert said.startswith("kvplan: opens the device") and "cannot be written" in said


#: what no report says: riddles that readers stumbled over
RIDDLES = re.compile(r"\b1 hold \d|othing fits: does not fit|: cannot be read$|next to nothing|\b1 sequences hold\b")


def test_no_report_speaks_in_riddles() -> None:
    from reports import GOLDEN

    for path in sorted((GOLDEN / "reports").glob("*.txt")):
        found = RIDDLES.search(" ".join(path.read_text("utf-8").split()))
        assert not found, (path.name, found[0])


def test_help_stands_beside_its_options_where_that_is_shorter() -> None:
    import click

    from kvplan.cli.help import Compact

    rows = [("--short", "A line."), ("--a-very-long-option-indeed N", "Word " * 14 + "  [default: 1; 1<=x<=1000]")]
    compact, plain = Compact(width=60), click.HelpFormatter(width=60)
    compact.write_dl(rows)
    plain.write_dl([(name, text.replace("; 1<=x<=1000", "")) for name, text in rows])
    assert compact.getvalue().split() == plain.getvalue().split()
    assert compact.getvalue().count("\n") < plain.getvalue().count("\n")


def test_a_share_is_refused_in_one_unit() -> None:
    from kvplan.api.values import bounded_share

    with pytest.raises(SpecError, match=re.escape("expected a share from 50% to 99.99%, as in 80%; got '10%'")):
        bounded_share("10%", "percentile", 0.5, 0.9999)
    with pytest.raises(SpecError, match=re.escape("expected a share from 50% to 99.99%, as in 80%; got '110%'")):
        bounded_share("110%", "percentile", 0.5, 0.9999)
    with pytest.raises(SpecError, match=re.escape("expected a share below 1, write 95% if that is meant; got '95'")):
        bounded_share("95", "percentile", 0.5, 0.9999)


@pytest.mark.parametrize(("times", "said"), [(1.004, "as many as on average"), (2.34, "2.3 times the average")])
def test_a_busy_minute_is_compared_in_words(times: float, said: str) -> None:
    from kvplan.report.simulate import often

    assert often(times) == said


def test_techniques_that_no_gpu_holds_are_a_no(run) -> None:
    asked = run("techniques", "-m", "llama3.1-405b", "-w", "doc-qa", "-g", "t4", "--tp", "1", "-t", "fp8", "--json")
    assert asked.code == 1 and asked.json["rows"][0]["technique"] == "baseline"
    assert asked.err.startswith("kvplan: no technique can be served: ")


def test_lists_and_scores_begin_with_what_tells_their_rows_apart() -> None:
    """Tables that no golden holds: their columns in the order in which people read them."""
    from kvplan.report.evaluate import SCORE
    from kvplan.report.listing import prices

    shown = [[c.heading for c in columns if c.heading] for columns in (SCORE, prices("2026-11-29"))]
    assert shown[0] == ["technique", "task", "question", "tokens", "score", "95 % interval", "uncompressed"]
    assert shown[1] == ["GPU", "provider", "term", "$ / hour", "from", "to", "current"]


def test_notes_keep_their_heading_in_markdown() -> None:
    from kvplan.report.blocks import Notes, Page
    from kvplan.report.formats.md import marked

    assert marked(Page.of(Notes("Why", ("one", "- two")))) == "### Why\n\n- one\n- two"


def test_tried_loads_are_powers_of_two_and_those_between() -> None:
    from kvplan.planning.searching.grid import LOADS

    assert (1, *(n for m in range(1, 10) for n in (2**m, 3 * 2 ** (m - 1))), 1024) == LOADS
