"""KV bytes against numbers worked by hand or published (the arithmetic stands in the test)."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.kv.layout import Keep, equation
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.spelling import apply

GIB = 2**30


def layout(name: str, bits: float = 16.0):
    return kv_layout(catalog.model(name), bits)


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama3.1-8b", 2 * 8 * 128 * 2 * 32),  # 131,072
        ("llama3.1-70b", 2 * 8 * 128 * 2 * 80),  # 327,680
        ("llama3.1-405b", 2 * 8 * 128 * 2 * 126),  # 516,096, DeepSeek-V3 insights paper
        ("qwen2.5-72b", 2 * 8 * 128 * 2 * 80),  # 327,680, the same paper
        ("deepseek-v3", (512 + 64) * 2 * 61),  # 70,272, the same paper
        ("llama2-7b", 2 * 32 * 128 * 2 * 32),  # 524,288
        ("qwen3-32b", 2 * 8 * 128 * 2 * 64),  # head_dim 128, not 5120 / 64 = 80
        ("qwen3-30b-a3b", 2 * 4 * 128 * 2 * 48),
        ("falcon-7b", 2 * 1 * 64 * 2 * 32),  # multi_query
        ("falcon-40b", 2 * 8 * 64 * 2 * 60),  # groups, not 128 heads
        ("nemotron3-nano-30b", 2 * 2 * 128 * 2 * 6),  # 6,144: 6 attention layers of 52
        ("qwen3.5-397b", 2 * 2 * 256 * 2 * 15),  # 30,720: 15 of 60
        ("gpt-oss-120b", 2 * 8 * 64 * 2 * 18),  # 36,864 beyond the window
        ("minimax-text-01", 2 * 8 * 128 * 2 * 10),  # softmax attention every eighth layer
        ("nemotron-super-49b", 200_704),  # 49 of 80 layers attend, 8 heads each
    ],
)
def test_bytes_per_token_beyond_windows(name: str, per_token: int) -> None:
    assert layout(name).growth(1_000_000) == per_token


@pytest.mark.parametrize(
    ("name", "length", "gib"),
    [
        ("llama3-70b", 131072, 40.0),
        ("llama2-7b", 131072, 64.0),
        ("qwen3-30b-a3b", 262144, 24.0),  # Qwen3-Coder-30B has this shape; vLLM logs 24.0 GiB
        ("deepseek-v3", 163840, 10.7226),
        ("deepseek-v3", 1048576, 68.625),
        ("gemma3-27b", 131072, (10 * 131072 + 52 * 1024) * 16 * 128 * 2 * 2 / GIB),
        ("mistral-7b", 131072, 32 * 4096 * 2 * 8 * 128 * 2 / GIB),  # window 4,096 in every layer
        ("gemma2-9b", 8192, (21 * 8192 + 21 * 4096) * 2 * 8 * 256 * 2 / GIB),
    ],
)
def test_stored_bytes(name: str, length: int, gib: float) -> None:
    assert layout(name).stored(length) / GIB == pytest.approx(gib, rel=1e-5)


def test_below_its_window_gpt_oss_grows_in_every_layer() -> None:
    assert layout("gpt-oss-120b").growth(100) == 73_728


def test_glm5_indexer_is_counted() -> None:
    glm = layout("glm-5")
    assert glm.part("latent").growth(1) == 89_856
    assert glm.part("index").growth(1) == 19_968


def test_recurrent_state_is_constant() -> None:
    nano = layout("nemotron3-nano-30b").part("state")
    # 23 Mamba-2 layers: 64 heads x 64 x 128 state in fp32 (the config asks for it),
    # convolution (4096 + 2 x 8 x 128) x 3 in bf16
    assert nano.stored(1) == nano.stored(10**6) == 23 * (64 * 64 * 128 * 4 + (4096 + 2 * 8 * 128) * 3 * 2)
    assert nano.growth(5) == 0


def test_gemma3n_shares_caches_of_its_last_layers() -> None:
    gemma = layout("gemma3n-e4b")
    assert sum(g.count for g in gemma.groups if g.kind == "shared") == 15
    assert sum(g.count for g in gemma.groups if g.kind in ("full", "sliding")) == 20


def test_transformers_reading_differs_where_measured() -> None:
    mistral = kv_layout(catalog.model("mistral-7b"), 16, reading="transformers")
    assert mistral.stored(10_000) == 32 * 4095 * 2 * 8 * 128 * 2
    falcon = kv_layout(catalog.model("falcon-40b"), 16, reading="transformers")
    assert falcon.growth(1) == 1_966_080


def test_sparse_attention_reads_only_its_top_tokens() -> None:
    v32 = layout("deepseek-v3.2")
    assert v32.part("latent").read(100_000) == 61 * 2048 * 576 * 2
    assert v32.part("index").read(100_000) == 61 * 100_000 * 128 * 2


NAMES = st.sampled_from(catalog.names("models"))


@given(NAMES, st.integers(1, 2_000_000), st.integers(1, 100_000))
def test_more_tokens_never_take_fewer_bytes(name: str, length: int, more: int) -> None:
    found = layout(name)
    for count in (found.stored, found.read, found.peak, found.shared, found.prefill):
        assert count(length + more) >= count(length)


@given(NAMES, st.integers(1, 500_000))
def test_layers_sum_to_the_total(name: str, length: int) -> None:
    found = layout(name)
    assert sum(size for *_, size in found.per_layer(length)) == pytest.approx(found.stored(length))
    assert found.read(length) <= found.stored(length) + 2 * found.part("state").stored(1) + 1
    assert found.shared(length) <= found.stored(length)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_pairs_of_a_causal_prefill(length: int, window: int) -> None:
    """The closed form equals the sum over queries."""
    assert Keep().pairs(length) == length * (length + 1) / 2
    counted = sum(min(i + 1, window) for i in range(length))
    assert Keep(window=window).pairs(length) == counted


def test_equation_shows_the_numbers_and_the_sum() -> None:
    lines = list(equation(apply("fp8", layout("llama3.1-70b")), 131072))
    assert lines[0].startswith("full     80 layers x 131,072 tokens x (8 x 256 x 8 bit / 8) = 21,474,836,480 B")
    assert lines[-1] == "total    21,474,836,480 B"


def test_a_share_of_the_prompt_and_all_that_is_generated() -> None:
    quarter = Keep(prompt_share=Fraction(1, 4), prompt=8192)
    assert [quarter.tokens(n) for n in (4096, 8192, 8192 + 512)] == [1024, 2048, 2048 + 512]
    assert [quarter.growth(n) for n in (8000, 8192 + 1)] == [0.25, 1.0]


def test_a_window_bounds_what_is_selected_and_generated_together() -> None:
    windowed = Keep(window=1024, prompt_budget=256, prompt=8192)
    assert [windowed.tokens(n) for n in (8192, 8192 + 512, 8192 + 900)] == [256, 256 + 512, 1024]
    assert [windowed.growth(n) for n in (8192 + 512, 8192 + 768, 8192 + 900)] == [1.0, 0.0, 0.0]
    assert windowed.unevicted == Keep(window=1024)
