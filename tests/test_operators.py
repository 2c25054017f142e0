"""One forward pass: Llama-3.1-70B worked by hand, and what must hold of every model in the catalogue."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.kv import spelling
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, check_parallel, weights
from kvplan.perf.amounts import larger, smaller
from kvplan.perf.matrices import parts
from kvplan.perf.operators import (
    CACHE,
    ELEMENTS,
    EXPERTS,
    NETWORK,
    PROMPT,
    WEIGHTS,
    Operator,
    attended_at,
    busiest,
    forward,
    touched,
)

MODEL = catalog.model("llama3.1-70b")
LAYOUT = kv_layout(MODEL, 16)
HELD = weights(MODEL)
#: per layer: queries and output 8192 x 8192, keys and values 8192 x 1024, three of 8192 x 28672; two norms of 8192
PROJECTIONS = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024)
FEED_FORWARD = 80 * 3 * 8192 * 28672
NORMS = 80 * 2 * 8192
EMBEDDING = 128256 * 8192
ALONE = Parallel()
AMOUNTS = ("bytes", "flops", "launches", "messages", "message")

DEEPSEEK = catalog.model("deepseek-v3")


def by_name(found: list[Operator]) -> dict[str, Operator]:
    assert len({o.name for o in found}) == len(found)
    return {o.name: o for o in found}


def step(parallel: Parallel = ALONE, **load: object) -> dict[str, Operator]:
    return by_name(forward(MODEL, LAYOUT, HELD, parallel, **{"decode": 8.0, "length": 4096, **load}))


# -- Llama-3.1-70B by hand --------------------------------------------------------------------------


def test_a_decode_step_reads_every_weight_once_and_every_cache_byte() -> None:
    found = step()
    assert found["projections"].bytes + found["mlp"].bytes == 2 * (PROJECTIONS + FEED_FORWARD + NORMS)
    assert found["output head"].bytes == 2 * EMBEDDING
    assert 2 * (PROJECTIONS + FEED_FORWARD + NORMS + 2 * EMBEDDING + 8192) == HELD.total == 141_107_412_992
    assert found["attention (full)"].bytes == 8 * 4096 * 327_680  # 80 layers x 2 x 8 heads x 128 x 2 B
    assert found["norms, residuals"].bytes == 8 * 80 * 8192 * 2 * 8


def test_flops_of_a_decode_step() -> None:
    """2 FLOP a parameter and token; 4 FLOP a query head, width and cached token."""
    found = step()
    assert found["projections"].flops == 8 * 2 * PROJECTIONS
    assert found["mlp"].flops == 8 * 2 * FEED_FORWARD
    assert found["output head"].flops == 8 * 2 * EMBEDDING
    assert found["attention (full)"].flops == 8 * 4096 * 80 * 4 * 64 * 128
    one = step(decode=1.0, length=1)
    assert sum(o.flops for o in one.values()) == pytest.approx(2 * 69.5e9, rel=0.001)  # embeddings multiply nothing


def test_layers_that_keep_other_widths_are_read_at_the_rate_of_the_widest() -> None:
    """Attention over some layers in 16 bits and some in 8 is one operator, whose elements count as 16 bits wide."""
    layout = kv_layout(MODEL, 16.0)
    (group,) = layout.groups
    halves = (replace(group, layers=group.layers[:40], bits=8.0), replace(group, layers=group.layers[40:]))
    each = attended_at(replace(layout, groups=halves), layout, 1, 1000, 0)
    (o,) = each.decode
    assert o.bits == 16.0
    assert o.bytes == pytest.approx(0.75 * layout.read(1000))


def test_launches_count_layers() -> None:
    found = step()
    assert {o.launches for o in found.values() if o.kernels in ("projections", "mlp", "attention")} == {80}
    assert found["output head"].launches == 1
    assert found["norms of queries, keys"].launches == 0 and found["quantise"].launches == 0  # Llama has neither
    qwen = catalog.model("qwen3-32b")
    normed = by_name(forward(qwen, kv_layout(qwen, 16), weights(qwen, "fp8"), Parallel(), decode=1.0, length=64))
    assert normed["norms of queries, keys"].launches == 64  # one a layer
    assert normed["quantise"].launches == 2 * 2 * 64  # two a layer for projections, two for the feed-forward


@pytest.mark.parametrize("ways", [2, 4, 8])
def test_tensor_parallelism_divides_bytes_and_sends_two_messages_a_layer(ways: int) -> None:
    one, many = step(), step(Parallel(tensor=ways))
    for name in ("output head", "attention (full)"):
        assert many[name].bytes == one[name].bytes / ways and many[name].flops == one[name].flops / ways
    assert many["mlp"].bytes == 2 * FEED_FORWARD / ways + 2 * NORMS  # every GPU has all norms
    assert many["mlp"].flops == one["mlp"].flops / ways
    assert many["projections"].flops == one["projections"].flops / ways
    assert many["all-reduce"].messages == 2 * 80
    assert many["all-reduce"].message == 2 * 80 * 2 * (ways - 1) / ways * 8 * 8192 * 2
    assert "all-reduce" not in one and not any(o.limit == NETWORK for o in one.values())


def test_keys_and_values_of_few_heads_are_copied_not_divided() -> None:
    """Qwen2.5-0.5B has two key/value heads: over four ranks each is stored twice."""
    model = catalog.model("qwen2.5-0.5b")
    layout, held = kv_layout(model, 16), weights(model)
    assert held.kv_heads == 2
    shapes = [by_name(forward(model, layout, held, Parallel(tensor=t), decode=1.0, length=512)) for t in (1, 2, 4)]
    one, two, four = (found["attention (full)"].bytes for found in shapes)
    assert one / 2 == two == four


def test_a_prompt_by_hand() -> None:
    """8,192 tokens meet 8,192 x 8,193 / 2 visible ones; one row of logits; half the tokens, half of everything."""
    whole = step(decode=0.0, prefill=8192.0, prompt=8192)
    assert whole["projections"].flops == 8192 * 2 * PROJECTIONS
    assert whole["prompt attention (full)"].flops == 80 * 4 * 64 * 128 * 8192 * 8193 / 2
    assert whole["output head"].flops == 2 * EMBEDDING
    assert whole["attention (full)"].bytes == 0 == whole["attention (full)"].flops
    half = step(decode=0.0, prefill=4096.0, prompt=8192)
    for name in ("prompt attention (full)", "mlp", "output head"):
        assert half[name].flops == whole[name].flops / 2
    assert half["mlp"].bytes == whole["mlp"].bytes  # a chunk reads all weights again


def test_a_cached_prefix_is_met_but_not_computed() -> None:
    rest = step(decode=0.0, prefill=2048.0, prompt=8192, cached=6144)
    pairs = 8192 * 8193 / 2 - 6144 * 6145 / 2
    assert rest["prompt attention (full)"].flops == 80 * 4 * 64 * 128 * pairs
    assert rest["mlp"].flops == 2048 * 2 * FEED_FORWARD
    assert rest["output head"].flops == 2 * EMBEDDING


def test_decode_and_prompts_share_one_reading_of_the_weights() -> None:
    alone, prompt, both = (
        step(),
        step(decode=0.0, prefill=512.0, prompt=512),
        step(prefill=512.0, prompt=512),
    )
    assert both["mlp"].bytes == alone["mlp"].bytes == prompt["mlp"].bytes
    for name in ("mlp", "projections", "output head"):
        assert both[name].flops == alone[name].flops + prompt[name].flops


def test_pipeline_stages_hand_over_hidden_states() -> None:
    found = step(Parallel(tensor=2, pipeline=4))
    assert found["stage hand-over"].messages == 3
    assert found["stage hand-over"].message == 3 * 8 * 8192 * 2


# -- experts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experts", "used", "tokens", "expected"),
    [(8, 2, 1, 2.0), (256, 8, 1, 8.0), (128, 4, 10**6, 128.0), (4, 2, 2, 8 / 3), (8, 2, 0, 0.0), (8, 8, 0, 0.0),
     (8, 8, 5, 8.0), (256, 8, 32, 130.03)],
)  # fmt: skip
def test_distinct_experts(experts: int, used: int, tokens: int, expected: float) -> None:
    assert touched(experts, used, tokens) == pytest.approx(expected, rel=1e-4)


def test_distinct_experts_are_those_of_streams_of_uneven_popularity() -> None:
    """100,000 experts, of which a token picks one in 32, their rates drawn from an exponential distribution."""
    rates = np.random.default_rng(1).exponential(1 / 31, 100_000)
    for tokens in (1, 16, 256):
        found = touched(100_000, 100_000 / 32, tokens)
        assert found == pytest.approx(sum(1 - np.exp(-tokens * rates)), rel=0.01), tokens


@given(st.integers(1, 512), st.floats(0.01, 1.0), st.floats(0, 1e5), st.floats(0, 1e5))
def test_more_tokens_never_touch_fewer_experts(experts: int, share: float, a: float, b: float) -> None:
    low, high = (touched(experts, share * experts, t) for t in sorted((a, b)))
    assert 0 <= low <= high <= experts
    assert high <= max(a, b) * share * experts * (1 + 1e-9) or max(a, b) < 1


def test_the_busiest_of_like_ranks() -> None:
    assert busiest(10.0, 4.0, 1) == 10.0
    assert busiest(10.0, 4.0, 8) == pytest.approx(10 + 2 * sqrt(2 * log(8)))
    assert busiest(10.0, -1e-12, 8) == 10.0  # rounding must not take a root of less than nothing


def test_deepseek_reads_the_experts_its_tokens_pick() -> None:
    """58 layers of 256 experts, 8 used, of 3 x 7168 x 2048 in fp8 (a scale of 4 B for each block of 128 x 128)."""
    held, layout = weights(DEEPSEEK), kv_layout(DEEPSEEK, 16)
    stored = sum(m.bytes for m in parts(held).matrices if m.part == "experts")
    assert stored == pytest.approx(58 * 256 * 3 * 7168 * 2048 * (1 + 4 / 128**2), rel=1e-9)
    one = by_name(forward(DEEPSEEK, layout, held, Parallel(), decode=1.0, length=64))
    assert one["experts"].bytes == pytest.approx(stored * 8 / 256)
    assert one["experts"].flops == pytest.approx(2 * 58 * 8 * 3 * 7168 * 2048)
    many = by_name(forward(DEEPSEEK, layout, held, Parallel(), decode=1e5, length=64))
    assert many["experts"].bytes == pytest.approx(stored, rel=1e-3)
    assert one["experts"].limit == EXPERTS and one["experts"].bits == 8


def test_deepseek_by_data_and_by_tensor() -> None:
    """On 8 GPUs: dp8 keeps one latent a rank where tp8 keeps eight copies; experts are divided either way."""
    held, layout = weights(DEEPSEEK), kv_layout(DEEPSEEK, 16)
    tensor, data = Parallel(tensor=8), Parallel(data=8)
    experts = sum(s.routed for s in held.layers)
    assert held.per_gpu(data) == pytest.approx(held.total - experts + experts / 8)
    assert held.per_gpu(tensor) < held.per_gpu(data)
    of_tensor = by_name(forward(DEEPSEEK, layout, held, tensor, decode=64.0, length=8192))
    of_data = by_name(forward(DEEPSEEK, layout, held, data, decode=8.0, length=8192))  # each rank its eighth of them
    assert of_data["attention (latent)"].bytes == of_tensor["attention (latent)"].bytes / 8
    assert of_data["attention (latent)"].flops == of_tensor["attention (latent)"].flops
    # whole experts on ranks: the busiest of them has more to do than an even slice of every expert
    assert 1.0 < of_data["experts"].bytes / of_tensor["experts"].bytes < 1.5
    assert 1.0 < of_data["experts"].flops / of_tensor["experts"].flops < 2.0
    assert of_data["projections"].bytes > 5 * of_tensor["projections"].bytes  # down-projections are on every GPU anyway
    assert of_data["all-to-all"].messages == 2 * 58
    assert of_data["all-to-all"].message == 2 * 58 * 8 * 7 / 8 * 8 * 7168 * 2  # 8 used, 7 of 8 of them elsewhere
    assert "all-reduce" not in of_data and "all-to-all" not in of_tensor


def test_expert_parallelism_is_as_even_as_slices_once_all_are_busy() -> None:
    held, layout = weights(DEEPSEEK), kv_layout(DEEPSEEK, 16)
    sliced, whole = (
        by_name(forward(DEEPSEEK, layout, held, Parallel(tensor=8, expert=e), decode=1e6, length=64))["experts"]
        for e in (0, 8)
    )
    assert whole.bytes == pytest.approx(sliced.bytes, rel=1e-3) and whole.flops == pytest.approx(sliced.flops, rel=0.01)
    few = by_name(forward(DEEPSEEK, layout, held, Parallel(tensor=8, expert=8), decode=4.0, length=64))["experts"]
    assert few.bytes <= held.total / 8


# -- techniques -------------------------------------------------------------------------------------


def under(technique: str, **load: object) -> dict[str, Operator]:
    made = spelling.apply(technique, LAYOUT)
    return by_name(forward(MODEL, made, HELD, Parallel(), base=LAYOUT, **{"decode": 8.0, "length": 4096, **load}))


def test_the_projections_of_mhc_are_read_and_multiplied_by() -> None:
    made = spelling.apply("mhc:4x", LAYOUT)
    found, plain = under("mhc:4x"), step()
    assert "technique's projections" not in plain
    assert found["technique's projections"].bytes == 2 * made.parameters > 0
    assert found["technique's projections"].flops == 8 * 2 * made.parameters
    assert found["attention (full)"].bytes == plain["attention (full)"].bytes / 4
    halves = forward(MODEL, made, HELD, Parallel(tensor=2), base=LAYOUT, decode=8.0, length=4096)
    assert by_name(halves)["technique's projections"].bytes == made.parameters


def test_h2o_rereads_its_scores() -> None:
    """20 % of the tokens are read, with the scores beside them, written back as well."""
    made = spelling.apply("h2o:20%", LAYOUT)
    group = made.groups[0]
    assert group.rereads > 0
    kept = int(4096 * 0.2)
    expected = 8 * 80 * kept * (2 * 8 * 128 * 2 + group.side + group.rereads)
    assert under("h2o:20%")["attention (full)"].bytes == pytest.approx(expected)


def test_prompts_meet_the_cache_as_it_was_before_compression() -> None:
    plain = step(decode=0.0, prefill=4096.0, prompt=4096)["prompt attention (full)"].flops
    assert under("streaming:4,256", decode=0.0, prefill=4096.0, prompt=4096)["prompt attention (full)"].flops == plain
    made = spelling.apply("h2o:20%", LAYOUT)
    scored = under("h2o:20%", decode=0.0, prefill=4096.0, prompt=4096)["prompt attention (full)"].flops
    assert scored == made.prefill_flops * plain > plain


@pytest.mark.parametrize(("technique", "bits"), [("fp8", 8.0), ("int8", 8.0), ("int4", 4.0)])
def test_narrow_caches_say_their_width(technique: str, bits: float) -> None:
    assert under(technique)["attention (full)"].bits == bits


# -- every model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalog.names("models"))
def test_every_model_runs(name: str) -> None:
    """Amounts are finite and not negative, layers' bytes sum to the model's, floats and arrays agree."""
    model = catalog.model(name)
    held, layout = weights(model), kv_layout(model, 16)
    known = parts(held)
    assert sum(m.bytes for m in known.matrices) == pytest.approx(sum(s.total for s in held.layers), rel=1e-12)
    load = {"length": 3000, "prompt": 1500}
    many = np.array([0.0, 1.0, 300.0])
    for parallel in (Parallel(), Parallel(tensor=2), Parallel(data=4), Parallel(tensor=2, pipeline=2)):
        if check_parallel(model, parallel):
            continue
        arrays = by_name(forward(model, layout, held, parallel, decode=many, prefill=100.0 * many, **load))
        for i, decode in enumerate(many.tolist()):
            found = by_name(forward(model, layout, held, parallel, decode=decode, prefill=100 * decode, **load))
            assert list(found) == list(arrays)
            for o in found.values():
                assert o.limit in (WEIGHTS, EXPERTS, CACHE, PROMPT, NETWORK, ELEMENTS)
                for amount in AMOUNTS:
                    one = getattr(o, amount)
                    several = np.broadcast_to(getattr(arrays[o.name], amount), many.shape)[i]
                    assert one == pytest.approx(several, rel=1e-9, abs=1e-3), (o.name, amount)
                    assert 0 <= one < 1e18, (o.name, amount)


def test_formats_are_told_apart() -> None:
    """Bytes, width of operands and quantising kernels follow the format the weights are held in."""
    found = {
        form: by_name(forward(MODEL, LAYOUT, weights(MODEL, form), Parallel(), decode=1.0, length=64))
        for form in ("bf16", "fp8", "int4")
    }
    assert found["fp8"]["mlp"].bytes == pytest.approx(found["bf16"]["mlp"].bytes / 2, rel=0.01)
    assert 0.25 <= found["int4"]["mlp"].bytes / found["bf16"]["mlp"].bytes < 0.3
    assert [found[f]["mlp"].bits for f in found] == [16, 8, 16]  # 4-bit weights are widened before they multiply
    assert [found[f]["quantise"].launches > 0 for f in found] == [False, True, True]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_larger_and_smaller_are_max_and_min(a: float, b: float) -> None:
    assert larger(a, b) == pytest.approx(max(a, b), abs=1e-9)
    assert smaller(a, b) == pytest.approx(min(a, b), abs=1e-9)


def test_an_operator_is_nothing_unless_said() -> None:
    empty = Operator(name="x", limit=ELEMENTS)
    assert {getattr(empty, name) for name in AMOUNTS} == {0.0}
    assert empty._replace(bytes=2.0).bytes == 2.0
