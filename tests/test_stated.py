"""What a caller states of a run with --set: a slip in it is refused before a row is read or a profile written."""

from pathlib import Path

import pytest

from kvplan.errors import KvplanError
from kvplan.measuring.benchmarks.stated import check_stated

SERVING = Path(__file__).parent / "golden" / "files" / "serving.csv"

SLIPS = (
    ("engine=vlm", "--set engine: no engine named 'vlm'; did you mean 'vllm'?"),
    ("engine=vllm@0.19", "got 'vllm@0.19'; write --set engine=vllm --set engine_version=0.19"),
    ("engine_version=0.99x", "--set engine_version: expected a release, as in 0.11.2 or 1.2.0rc5, got '0.99x'"),
    ("spec_decode=yess", "got 'yess'; did you mean 'yes'?"),
    ("spec_decode=eagel", "got 'eagel'; did you mean 'eagle'?"),
    ("gppu=h100", "--set gppu: no column to set; known: model, gpu,"),
    ("gppu=h100", "; did you mean 'gpu' or "),
    ("tp=3", "--set tp=3: "),
    ("tp=3", "tensor parallelism 3 "),
    ("ttft_ms=3", "measured times come from the file alone"),
)


@pytest.mark.parametrize(("slip", "said"), SLIPS)
def test_a_slip_is_refused_and_no_profile_is_written(run, tmp_path, monkeypatch, slip: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (("validate",), ("calibrate", "-o", "out.yaml"), ("predict", "-o", "out.csv")):
        found = run(command[0], str(SERVING), *command[1:], "--set", slip)
        assert (found.code, found.out) == (1, "") and said in found.err and found.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_watched_is_stated_as_carefully(run) -> None:
    for slip, said in SLIPS:
        settings = ("--set", slip, "--set", "model=llama3.1-8b") if slip.startswith("tp") else ("--set", slip)
        found = run("watch", "http://localhost:1/metrics", *settings, "--count", "1")
        assert found.code == 1 and said in found.err and found.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("engine", ("vllm", "SGLang", "trtllm", "TensorRT-LLM", "llamacpp", "")),
        ("spec_decode", ("no", "None", "off", "yes", "mtp3", "EAGLE accept 2.46", "mtp2, accept length 2.37",
                         "yes: --speculative-config {\"method\":\"mtp\"}", "")),
        ("engine_version", (
            "0.11.0", "v0.10.2", "1.0.0rc3", "1.2.0rc6.post2", "0.5.1.post1", "v0.20.0rc1.dev",
            "0.19.1rc1.dev339+gedc364896", "0.20.1+transformers-5.8.1", "0.5.12-rocm70", "nightly-dev", "vllm 0.23.0",
            "lmsysorg/sglang:v0.5.12-rocm70", "2025-09 (V1)", "20260502_b200_tp2_main_5737770", "0.6.3.post1", "",
        )),
    ],
)  # fmt: skip
def test_what_servers_are_called_is_taken(name: str, values: tuple[str, ...]) -> None:
    for value in values:
        check_stated({name: value})
    with pytest.raises(KvplanError):
        check_stated({name: f"{values[0]}x"})
