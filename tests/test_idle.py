"""Options that change nothing say so and why, models that an engine does not serve, and words that stand alone."""

from pathlib import Path

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.show import show
from kvplan.errors import KvplanError, WrongUse

GOLDEN = Path(__file__).parent / "golden"


def idle(**asked: object) -> tuple[str, ...]:
    return kvplan.memory(**{"model": "llama3.1-8b", "context": "4k", **asked}).idle  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"block_size": 32}, "block_size=32: what the architecture needs is the same; give gpu=NAME or layout=engine"),
        ({"without": "hybrid", "gpu": "h100"}, "hybrid: Llama 3.1 8B has no windows, chunks or recurrent states"),
        ({"without": "towers", "gpu": "h100"}, "without=towers: no vision or audio tower of Llama 3.1 8B is counted"),
        ({"without": "towers"}, "without=towers: no vision or audio tower of Llama 3.1 8B is counted"),
        ({"without": "image-profiling", "gpu": "h100"}, "no vision or audio tower of Llama 3.1 8B is counted"),
        ({"without": "prefix-caching", "gpu": "h100"}, "what recurrent states take, and Llama 3.1 8B has none"),
        ({"without": "graphs", "gpu": "h100", "engine": "sglang"}, "sets nothing aside for CUDA graphs"),
        ({"without": "compile", "gpu": "h100", "engine": "vllm@0.11"}, "that compiles takes no more"),
        ({"with_features": "prefix-caching", "gpu": "h100"}, "caches prefixes of Llama 3.1 8B by itself"),
        ({"with_features": "flashinfer", "gpu": "h100"}, "samples in as little without it, or another part is larger"),
        ({"encoder_tokens": 100}, "encoder_tokens=100: Llama 3.1 8B has no cross-attention"),
        ({"engine": "sglang"}, "engine=sglang: what the architecture needs is the same; give gpu=NAME"),
        ({"cpu_offload": "2 GiB"}, "cpu_offload=2 GiB: what the architecture needs is the same; give gpu=NAME"),
        ({"without": "graphs", "gpu": "h100", "kv_cache_memory_bytes": "9 GiB"}, "has its kv_cache_memory_bytes"),
        ({"max_num_batched_tokens": "4k", "gpu": "h100", "max_num_seqs": 64}, "another part of a step is larger"),
        ({"dp": 2}, "dp=2: what the architecture needs is the same"),
        ({"tp": 2, "model": "qwen3.5-27b", "layout": "engine"}, "pages of the cache are the same; give gpu=NAME"),
    ],
)  # fmt: skip
def test_an_option_that_changes_nothing_says_why(asked: dict[str, object], said: str) -> None:
    (note,) = idle(**asked)
    assert said in note.replace(" changes nothing: ", ": ") and " changes nothing: " in note


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"gpu": "h100", "block_size": 16, "tp": 1, "engine": "vllm"},  # as it is anyhow
        {"gpu": "h100", "engine": "vLLM"},
        {"gpu": "h100", "max_num_seqs": 64, "max_num_batched_tokens": 4096, "utilization": 0.8, "tp": 2},
        {"gpu": "h100", "without": "graphs", "cpu_offload": "2 GiB"},
        {"layout": "engine", "context": 1000, "block_size": 48},
        {"model": "gpt-oss-20b", "layout": "engine", "context": "32k", "without": "hybrid"},
        {"model": "gemma3-12b", "without": "towers"},
        {"speculative": "eagle3"},
        {"pp": 2},  # what each stage keeps is said
        {"pp_layers": "12,20"},
    ],
)  # fmt: skip
def test_an_option_that_changes_something_says_nothing(asked: dict[str, object]) -> None:
    notes = list(idle(**asked))
    assert notes == []


def test_a_feature_is_judged_beside_the_others(run) -> None:
    ran = run(
        "memory", "-m", "llama3.1-8b", "-c", "4k", "-g", "h100", "--without", "graphs", "--without", "hybrid", "--json"
    )
    said = [line for line in ran.json["warnings"] if " changes nothing: " in line]
    assert len(said) == 1 and said[0].startswith("the option --without hybrid changes nothing: ")
    ran = run("load", "-m", "llama3.1-8b", "-g", "h100", "--isl", "500", "--osl", "50", "--concurrency", "2",
              "--without", "towers", "--json")  # fmt: skip
    assert sum("--without towers changes nothing" in line for line in ran.json["warnings"]) == 1


#: a question of each kind that one option is added to
ASKED: dict[str, dict[str, object]] = {
    "estimate": {"model": "llama3.1-8b", "context": "8k", "gpus": "h100", "techniques": "fp8"},
    "load": {"model": "llama3.1-8b", "gpu": "h100", "isl": 500, "osl": 50, "concurrency": 2},
    "recommend": {"workload": "chat", "model": "llama3.1-8b", "gpus": "h100", "techniques": "fp8"},
    "simulate": {"workload": "chat", "model": "llama3.1-8b", "gpu": "h100", "rate": 2, "duration": "2min"},
    "fleet": {"file": str(GOLDEN / "files" / "one.yaml"), "techniques": "fp8"},
}


def warned(question: str, **asked: object) -> list[str]:
    ask = getattr(kvplan, question)
    return [w for w in ask(**{**ASKED[question], "on": "2026-11-24", **asked}).warnings if " changes nothing: " in w]


@pytest.mark.parametrize(
    ("question", "asked", "said"),
    [
        ("estimate", {"without": "hybrid"}, "without=hybrid: Llama 3.1 8B has no windows, chunks or recurrent states"),
        ("estimate", {"without": "towers", "gpus": ()}, "towers: no vision or audio tower of Llama 3.1 8B is counted"),
        ("estimate", {"utilization": 0.8, "kv_cache_memory_bytes": "9 GiB"}, "the cache has its kv_cache_memory_bytes"),
        ("estimate", {"with_features": "prefix-caching"}, "caches prefixes of Llama 3.1 8B by itself"),
        ("load", {"utilization": 0.8, "kv_cache_memory_bytes": "9 GiB"}, "the cache has its kv_cache_memory_bytes"),
        ("recommend", {"prefix_cache": False}, "prefix_cache=False: no request shares a prefix with another"),
        ("recommend", {"any_technique": True}, "any_technique=True: every technique that is tried is served anyhow"),
        ("simulate", {"prefix_cache": False}, "prefix_cache=False: no request shares a prefix with another"),
        ("simulate", {"tiers": "cpu"}, "tiers=cpu: no request shares a prefix with another"),
        ("simulate", {"workload": "agents", "tiers": "cpu", "technique": "offload:cpu"}, "offload:cpu keeps prefixes"),
        ("simulate", {"workload": "agents", "prefix_cache": False, "technique": "h2o:20%"}, "h2o:20% leaves no cache"),
        ("simulate", {"router": "least-loaded"}, "router=least-loaded: there is one replica, to which all requests go"),
        ("simulate", {"router": "random", "disaggregated": (1, 1)}, "there is one replica"),
        ("fleet", {"any_technique": True}, "any_technique=True: every technique that is tried is served anyhow"),
    ],
)  # fmt: skip
def test_every_question_says_it_of_its_own_options(question: str, asked: dict[str, object], said: str) -> None:
    (note,) = warned(question, **asked)
    assert said in note.replace(" changes nothing: ", ": ")


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("estimate", {}),
        ("estimate", {"utilization": 0.8, "cpu_offload": "2 GiB", "without": "graphs"}),
        ("estimate", {"model": "gpt-oss-20b", "context": "64k", "without": "hybrid"}),
        ("load", {"utilization": 0.8}),
        ("recommend", {}),
        ("recommend", {"workload": "rag", "prefix_cache": False}),
        ("recommend", {"techniques": ("fp8", "h2o:20%"), "any_technique": True}),
        ("simulate", {}),
        ("simulate", {"workload": "agents", "prefix_cache": False}),
        ("simulate", {"workload": "agents", "tiers": "cpu"}),
        ("simulate", {"router": "random", "replicas": 2}),
        ("simulate", {"router": "random", "dp": 2}),
        ("simulate", {"router": "random", "autoscale": "1:2@4"}),
        ("simulate", {"router": "random", "find_replicas": True, "ttft": "2s"}),
        ("fleet", {"techniques": ("fp8", "h2o:20%"), "any_technique": True}),
    ],
)  # fmt: skip
def test_and_nothing_of_options_that_change_something(question: str, asked: dict[str, object]) -> None:
    assert warned(question, **asked) == []


def test_what_is_said_to_change_nothing_of_a_simulation_changes_nothing_of_it() -> None:
    def times(**asked: object) -> tuple[object, ...]:
        o = kvplan.simulate(**{**ASKED["simulate"], "on": "2026-11-24", **asked}).outcome  # type: ignore[arg-type]
        return o.ttft, o.tpot, o.e2e, o.hit_rate, o.occupancy, o.busy_seconds, o.end

    for option in ({"router": "random"}, {"prefix_cache": False}, {"tiers": "cpu,ssd"}):
        assert times(**option) == times(), option
        assert warned("simulate", **option)
    split = {"disaggregated": (1, 1)}
    assert times(**split, router="random") == times(**split, router="round-robin")


def test_it_is_said_once_in_words_and_in_json_as_the_command_line_has_it(run) -> None:
    for line, flag in (
        ("estimate -m llama3.1-8b -c 8k -g h100 -t fp8 --without hybrid", "--without hybrid"),
        ("recommend -w chat -m llama3.1-8b -g h100 -t fp8 --any-technique", "--any-technique"),
        ("recommend -w chat -m llama3.1-8b -g h100 -t fp8 --full --no-prefix-cache", "--no-prefix-cache"),
        ("simulate -w chat -m llama3.1-8b -g h100 --rate 2 --duration 2min --router random", "--router random"),
    ):
        said = f"he option {flag} changes nothing: "
        assert " ".join(run(*line.split()).out.split()).count(said) == 1, line
        assert sum(said in warning for warning in run(*line.split(), "--json").json["warnings"]) == 1, line


def test_another_option_that_decides_is_named_as_it_is_typed(run) -> None:
    line = "load -m llama3.1-8b -g h100 --isl 500 --osl 50 --kv-cache-memory-bytes 9GiB --without graphs"
    (note,) = (w for w in run(*line.split(), "--json").json["warnings"] if " changes nothing: " in w)
    assert note.endswith("the cache has its --kv-cache-memory-bytes, whatever else is taken")


def test_models_that_an_engine_does_not_serve_say_so() -> None:
    said = "models of type t5 are not served by SGLang 0.5.22 and later: the figures are arithmetic"
    assert any(said in line for line in kvplan.memory("t5-base", 512, gpu="h100", engine="sglang").warnings)
    assert not any("not served" in line for line in kvplan.memory("t5-base", 512, engine="sglang").warnings)
    assert catalog.engine("vllm").refuses("whisper") == "" == catalog.engine("llamacpp").refuses("t5")
    found = kvplan.load("flan-t5-xl", "h100", 100, 20, concurrency=1, engine="sglang", price=2)
    assert any(said in line for line in found.warnings)


def test_words_that_stand_alone_say_what_to_write(run) -> None:
    for word, said in (
        ("qwen3-32b", "'qwen3-32b' is a model; write its kind first, as in kvplan show model qwen3-32b"),
        ("vllm", "'vllm' is an engine; write its kind first"),
        ("gpu", "name the gpu to show, as kvplan list gpus has them"),
        ("zzz", "the kinds are model, gpu, technique, workload, engine, price and profile"),
    ):
        with pytest.raises(WrongUse, match=said):
            show(word, ())
        assert run("show", word).code == 2
    listed = {row["name"]: row["releases"] for row in run("list", "engines", "--json").json["engines"]}
    assert listed["sglang"] == list(catalog.releases("sglang")) and "0.19" in listed["vllm"]


def test_engines_without_measured_servers_say_what_can_be_asked() -> None:
    with pytest.raises(
        KvplanError, match="no servers of 'llamacpp' were measured, so it has no times; give engine=vllm"
    ):
        kvplan.load("llama3.1-8b", "h100", 100, 20, engine="llamacpp")
    with pytest.raises(KvplanError, match="expected vllm, trtllm or sglang, got 'vlm'; did you mean 'vllm'"):
        kvplan.load("llama3.1-8b", "h100", 100, 20, engine="vlm")


def test_a_refused_tag_is_shown_as_it_was_typed() -> None:
    for tag in ("llama3.1:8b-instruct-q9_0", "someone/Qwen3-8B-GGUF:Q9_K"):
        with pytest.raises(KvplanError, match=f"^'{tag}': Q9"):
            catalog.model(tag)
