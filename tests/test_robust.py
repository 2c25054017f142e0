"""A thousand broken inputs: exit 0, 1 or 2, at most one line on stderr, never a traceback."""

import copy
import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvplan import catalog

ROOT = Path(__file__).parent.parent
MODELS = sorted(catalog.names("models"))


@cache
def config_of(name: str) -> dict:
    """Return the config.json of a model of the catalogue."""
    return yaml.safe_load((ROOT / "models" / f"{name}.yaml").read_text("utf-8"))["config"]


STRANGE = st.sampled_from(
    [
        None,
        0,
        -1,
        1,
        2,
        3.5,
        1e300,
        float("nan"),
        float("inf"),
        10**40,
        "",
        "x",
        "4096",
        True,
        False,
        [],
        [1],
        [None],
        {},
        {"a": 1},
        [[1, 2]],
        "full_attention",
    ]
)


@st.composite
def broken_config(draw: st.DrawFn) -> dict:
    """Return a real config with a few fields changed, removed or swapped, nested ones too."""
    config = copy.deepcopy(config_of(draw(st.sampled_from(MODELS))))
    for _ in range(draw(st.integers(1, 4))):
        place = config
        nests = [v for v in config.values() if isinstance(v, dict) and v]
        if nests and draw(st.booleans()):
            place = draw(st.sampled_from(nests))
        if not place:
            continue
        key = draw(st.sampled_from(sorted(place)))
        action = draw(st.sampled_from(["replace", "remove", "scale", "swap"]))
        if action == "remove":
            del place[key]
        elif action == "scale" and isinstance(place[key], int):
            place[key] = place[key] * draw(st.integers(-3, 7))
        elif action == "swap":
            place[key] = copy.deepcopy(place[draw(st.sampled_from(sorted(place)))])
        else:
            place[key] = copy.deepcopy(draw(STRANGE))
    return config


LOOSE = settings(
    max_examples=350, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(found) -> None:
    assert found.code in (0, 1, 2)
    assert found.err.count("\n") <= 1 and "Traceback" not in found.err
    if found.code == 0:
        assert found.err == ""
        json.loads(found.out, parse_constant=pytest.fail)
    else:
        assert found.err


@pytest.mark.slow
@LOOSE
@given(
    broken_config(),
    st.sampled_from(["architecture", "engine", "transformers"]),
    st.sampled_from(["baseline", "fp8", "int4", "mhc:4x", "h2o:20%", "mqa", "streaming:4,64"]),
)
def test_configs(run, tmp_path, config: dict, layout: str, technique: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    check(
        run(
            "memory",
            "--model",
            str(path),
            "--context",
            "8k",
            "--layout",
            layout,
            "--technique",
            technique,
            "--gpu",
            "h200",
            "--json",
        )
    )
    check(run("estimate", "--model", str(path), "--context", "8k", "--gpu", "h200", "--json"))


@pytest.mark.slow
@LOOSE
@given(st.data())
def test_yaml_files(run, tmp_path, data: st.DataObject) -> None:
    """A GPU file with lines cut, doubled, replaced or filled with noise."""
    lines = (
        (ROOT / "profiles" / "gpus" / f"{data.draw(st.sampled_from(catalog.names('gpus')))}.yaml")
        .read_text("utf-8")
        .splitlines()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        noise = data.draw(
            st.one_of(
                st.text(max_size=20),
                st.sampled_from(
                    [
                        "memory: -1 GB",
                        "memory: 80",
                        "a: [",
                        "!!python/object:os.system {}",
                        "&a [*a]",
                        "bandwidth: 1e99 TB/s",
                        "sms: 1.5",
                        "\t",
                        "source: none",
                    ]
                ),
            )
        )
        lines[index : index + data.draw(st.integers(0, 1))] = [noise]
    path = tmp_path / "gpu.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    check(run("estimate", "--model", "qwen3-8b", "--context", "8k", "--gpu", str(path), "--json"))


WORDS = st.one_of(
    st.sampled_from(
        [
            "128k",
            "-1",
            "0",
            "1e9",
            "nan",
            "llama3-70b",
            "h200",
            "fp8",
            "mhc:4x",
            "./",
            "/",
            "~",
            "..",
            "\x00",
            "é",
            "🦙",
            "a" * 5000,
            "--",
            "-",
            "llama3-70b.yaml",
            "models/llama3-70b.yaml",
        ]
    ),
    st.text(max_size=12),
)
FLAGS = st.sampled_from(
    [
        "--model",
        "--context",
        "--gpu",
        "--technique",
        "--tp",
        "--pp",
        "--price",
        "--on",
        "--output",
        "--weights",
        "--gpu-memory-utilization",
        "--batch",
        "--kv-dtype",
        "--layout",
        "--block-size",
        "--max-model-len",
        "--encoder-tokens",
    ]
)


@LOOSE
@given(
    st.sampled_from(["estimate", "memory", "list", "show"]),
    st.lists(st.tuples(FLAGS, WORDS), max_size=5),
    st.lists(WORDS, max_size=2),
)
def test_flags(run, command: str, flags: list[tuple[str, str]], words: list[str]) -> None:
    given_flags = (
        dict([("--model", "qwen3-8b"), ("--context", "8k"), *flags]) if command in ("estimate", "memory") else {}
    )
    arguments = [part for pair in given_flags.items() for part in pair] + (words if command in ("list", "show") else [])
    if not {"--help", "-h"} & set(arguments):
        check(run(command, "--json", *arguments))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"model_type": 5}',
        '{"architectures": "LlamaForCausalLM"}',
        "\ufeff{}",
        "[" * 10**5,
        '{"a":' * 10**4,
        "\x00",
    ],
)
def test_broken_json(run, tmp_path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, "utf-8")
    check(run("memory", "--model", str(path), "--context", "1k", "--json"))
    assert run("memory", "--model", str(path), "--context", "1k", "--json").code == 1


def test_unreadable_files(run, tmp_path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in run("memory", "--model", str(tmp_path), "--context", "1k").err
    (tmp_path / "dir.json").mkdir()
    assert run("memory", "--model", str(tmp_path / "dir.json"), "--context", "1k").code == 1
