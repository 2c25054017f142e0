"""Options that change nothing say so and why, models that an engine does not serve, and words that stand alone."""

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.show import show
from kvplan.errors import KvplanError, WrongUse


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
