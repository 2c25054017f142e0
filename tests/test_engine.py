"""What a vLLM-like engine reserves, against figures from its logs and issue threads."""

import pytest

from kvplan.kv.budget import Deployment, Parallel
from kvplan.kv.engine import share
from kvplan.kv.layout import kv_layout
from kvplan.kv.techniques import apply
from kvplan.planning.memory import Ask, memory
from kvplan.specs import catalog

GIB = 2**30
ENGINE = catalog.engine("vllm")


def reserved(name: str, length: int, **more: object) -> float:
    return (
        memory(catalog.model(name), Ask(context=length, reading="engine"), Deployment(engine=ENGINE, **more)).total
        / GIB
    )


@pytest.mark.parametrize(
    ("name", "length", "options", "gib"),
    [
        ("gpt-oss-120b", 131072, {"max_num_batched_tokens": 1024}, 4.5401),  # vLLM log, 4.54 GiB
        ("qwen3-30b-a3b", 262144, {}, 24.0),
        ("llama3.1-8b", 1952 * 16, {}, 3.8125),  # 1,952 blocks of 2 MiB
        ("llama3.1-8b", 1478 * 16, {}, 2.88671875),
        ("llama3.1-8b", 1, {}, 2 / 1024),  # one token pins one block
    ],
)
def test_known_reservations(name: str, length: int, options: dict, gib: float) -> None:
    assert reserved(name, length, **options) == pytest.approx(gib, abs=5e-5)


def test_gemma3_layers_are_stacked_in_seven_groups_with_padding() -> None:
    pages = Deployment(engine=ENGINE).pages(kv_layout(catalog.model("gemma3-27b"), 16))
    assert sorted(pages.stacks) == [1, 6]
    assert 10 * sum(pages.stacks) - 62 == 8  # padding layers


@pytest.mark.parametrize(("name", "block"), [("qwen3.5-27b", 16), ("nemotron3-nano-30b", 16)])
def test_attention_blocks_grow_to_hold_a_recurrent_state(name: str, block: int) -> None:
    pages = Deployment(engine=ENGINE).pages(kv_layout(catalog.model(name), 16))
    sizes = {page for _, page in pages.pages}
    assert len(sizes) == 1
    state = next(s for s in pages.specs if s.constant)
    attention = next(s for s in pages.specs if s.per_token)
    assert attention.block % block == 0 and attention.block > block
    assert state.constant <= attention.block * attention.per_token < state.constant + block * attention.per_token


def test_heads_are_replicated_and_latents_never_divided() -> None:
    assert reserved("llama3.1-70b", 4096, parallel=Parallel(tensor=8)) == pytest.approx(reserved("llama3.1-70b", 4096))
    assert reserved("llama3.1-70b", 4096, parallel=Parallel(tensor=16)) == pytest.approx(
        2 * reserved("llama3.1-70b", 4096)
    )
    assert reserved("deepseek-v3", 4096, parallel=Parallel(tensor=8)) == pytest.approx(
        8 * reserved("deepseek-v3", 4096)
    )


def test_a_compressed_latent_divides_by_head_groups() -> None:
    group = apply("mhc:4x", kv_layout(catalog.model("llama3-70b"), 16)).groups[0]
    assert share(group, 8) == 1 / 8


def test_sparse_mla_in_fp8_is_656_bytes_and_the_indexer_132() -> None:
    pages = Deployment(engine=ENGINE).pages(kv_layout(catalog.model("deepseek-v3.2"), 8))
    assert {g.kind: page / 64 for g, page in pages.pages} == {"latent": 656, "index": 132}


@pytest.mark.parametrize("name", catalog.names("models"))
def test_reserves_at_least_what_the_architecture_needs(name: str) -> None:
    model = catalog.model(name)
    for length in (1, 100, 5000, 70_000):
        layout = kv_layout(model, 16)
        if not any(g.kind == "index" for g in layout.groups):
            found = memory(model, Ask(context=length, reading="engine", kv_bits=16.0), Deployment(engine=ENGINE))
            assert found.total >= layout.stored(length) * 0.999
            assert sum(c.bytes for c in found.per_layer) + found.padding == pytest.approx(found.total)
