"""What a vLLM-like engine reserves, against figures from its logs and issue threads."""

import pytest

from kvplan import catalog
from kvplan.errors import Incompatible
from kvplan.kv.budget import Deployment
from kvplan.kv.layout import kv_layout
from kvplan.kv.paging import share
from kvplan.kv.replica import Parallel
from kvplan.kv.spelling import apply
from kvplan.planning.memory import Ask, memory

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


def test_a_compressed_latent_is_stored_whole_on_every_rank() -> None:
    group = apply("mhc:4x", kv_layout(catalog.model("llama3-70b"), 16)).groups[0]
    assert share(group, 8) == 1


@pytest.mark.parametrize(("name", "tensor"), [("phi4-14b", 4), ("llama3.2-3b", 3), ("qwen2.5-0.5b", 7)])
def test_heads_that_do_not_divide_are_refused(name: str, tensor: int) -> None:
    with pytest.raises(Incompatible, match="do not divide each other"):
        reserved(name, 4096, parallel=Parallel(tensor=tensor))


def test_head_by_head_eviction_frees_no_page_of_a_stock_engine() -> None:
    layout = apply("h2o:20%", kv_layout(catalog.model("llama3.1-8b"), 16))
    stock, compacting = (Deployment(engine=ENGINE, compacts=c).pages(layout).reserved(65536) for c in (False, True))
    assert stock > 64 * 1024 * 131_072 and compacting < stock * 0.21


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gemma3-27b", "llama3.1-8b", "phi3-mini-128k", "mimo-v2-flash"])
@pytest.mark.parametrize("length", [2048, 32_768, 131_072])
def test_h2o_never_takes_more_pages_than_it_replaces_by_more_than_its_scores(name: str, length: int) -> None:
    """Stock engines free no page of evicted tokens: their pages grow by the scores; a compacting cache shrinks."""
    plain = kv_layout(catalog.model(name), 16)
    for spelled in ("h2o:20%", "h2o:99.9%", "h2o:100%", "h2o:64k"):
        evicting = apply(spelled, plain).settled(length)
        side = max((g.side / g.token_bytes for g in evicting.groups if g.token_bytes), default=0.0)
        for compacts in (False, True):
            asked = Deployment(engine=ENGINE, compacts=compacts)
            before, after = asked.pages(plain).reserved(length), asked.pages(evicting).reserved(length)
            assert after <= before * (1 + 1.01 * side / (1 - side) + 1e-9), (spelled, compacts)
            if spelled == "h2o:100%" or (spelled == "h2o:64k" and length <= 65_536):
                assert after == before and not side, (spelled, compacts)
    if any(g.keep.window is None for g in plain.groups) and length == 131_072:
        compacting = Deployment(engine=ENGINE, compacts=True)
        fewer = compacting.pages(apply("h2o:20%", plain).settled(length)).reserved(length)
        assert fewer < 0.6 * compacting.pages(plain).reserved(length)


def test_growth_of_hybrids_is_that_of_their_attention_layers() -> None:
    for name, per_token in (("qwen3.5-27b", 65_536), ("nemotron3-nano-30b", 6_144), ("gpt-oss-120b", 36_864)):
        found = memory(catalog.model(name), Ask(context=70_000, reading="engine"), Deployment(engine=ENGINE))
        assert found.bytes_per_token == pytest.approx(per_token, rel=0.03)


def test_int8_on_sparse_mla_is_not_its_fp8_format() -> None:
    pages = Deployment(engine=ENGINE).pages(apply("int8", kv_layout(catalog.model("deepseek-v3.2"), 16)))
    assert next(page for g, page in pages.pages if g.kind == "latent") / 64 == 576 + 9 * 4


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
