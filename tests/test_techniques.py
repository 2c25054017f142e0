"""What every technique must satisfy, and what each one says in numbers."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan import catalog
from kvplan.api.sites import site
from kvplan.errors import Incompatible, KvplanError, UnknownName
from kvplan.kv import spelling, techniques
from kvplan.kv.deployment import Deployment
from kvplan.kv.layout import KVLayout, Unpacking
from kvplan.kv.model_cache import kv_layout
from kvplan.perf.operators import attended_at
from kvplan.perf.step_time import operator_time
from kvplan.planning.demand import Demand
from kvplan.planning.searching.configurations import configurations
from kvplan.planning.site import Limits
from kvplan.report.evaluations import part

EXAMPLES = [kind.example for kind in techniques.TECHNIQUES.values()]
NAMES = st.sampled_from(catalog.names("models"))


def layout(name: str = "llama2-7b") -> KVLayout:
    """Return a model's layout, nine tenths of whose prompts are images: only what prunes those looks at it."""
    return replace(kv_layout(catalog.model(name), 16.0), visual=0.9)


@pytest.mark.parametrize("text", EXAMPLES)
def test_never_stores_more_than_the_baseline(text: str) -> None:
    base = layout()
    most = max(g.keep.prompt_budget or 0 for g in spelling.apply(text, base).groups)
    changed = spelling.apply(text, base).with_prompt(max(64, 2 * most))  # a prompt of which something is dropped
    reads = [kind for kind, _ in spelling.parts(text) if kind.factor in ("reads", "tier")]
    for length in (5000, 8192, 131072):
        if reads:  # its index is stored besides; a tier changes nothing on the GPU
            assert changed.read(length) <= base.read(length) and changed.stored(length) < 1.2 * base.stored(length)
            continue
        assert changed.stored(length) < base.stored(length)
        assert changed.peak(length) >= changed.stored(length)
        assert changed.shared(length) <= changed.stored(length)
        assert changed.growth(length) <= base.growth(length)


def by_layer(one: KVLayout, length: int) -> dict[int, float]:
    held: dict[int, float] = {}
    for layer, _, _, amount in one.per_layer(length):
        held[layer] = held.get(layer, 0.0) + amount
    return held


@given(NAMES, st.sampled_from(EXAMPLES), st.integers(64, 300_000))
def test_applies_or_says_why_on_every_model(name: str, text: str, length: int) -> None:
    base = layout(name)
    try:
        changed = spelling.apply(text, base)
    except Incompatible as refusal:
        assert text.split(":")[0] in str(refusal) and "\n" not in str(refusal)
        return
    if text.split(":")[0] in ("quest", "dsa"):
        return  # what they read is fewer, what they store is not
    mine, replaced = (by_layer(one, length) for one in (changed, base))
    assert all(mine.get(layer, 0.0) <= replaced[layer] + 1e-6 for layer in replaced)
    assert changed.growth(length) <= base.growth(length)
    assert changed.flops(length) >= 0 and changed.read(length) > 0


@cache
def windowed() -> list[str]:
    """Return the models of which some layers keep a window alone."""
    return [name for name in catalog.names("models") if any(g.keep.window for g in layout(name).groups)]


@pytest.mark.parametrize(
    ("text", "without"),
    [
        *((text, "baseline") for text in ("h2o:20%", "h2o:90%", "h2o:100%", "h2o:4096")),
        ("h2o:20%+int4", "int4"),
        ("mhc:4x+h2o:50%", "mhc:4x"),
    ],
)
def test_windows_too_short_to_evict_from_are_left_alone(text: str, without: str) -> None:
    assert len(windowed()) > 10
    for name in windowed():
        if "mhc" in text and layout(name).part("latent").groups:
            continue  # refused: a latent goes no narrower
        evicted, plain = (spelling.apply(spelled, layout(name)) for spelled in (text, without))
        for length in (512, 4096, 20_000, 131_072):
            assert evicted.stored(length) <= plain.stored(length)


@given(st.permutations(["mhc:4x", "h2o:20%", "fp8"]))
def test_order_of_writing_does_not_matter(parts: list[str]) -> None:
    text = "+".join(parts)
    assert spelling.canonical(text) == "mhc:4x+h2o:20%+fp8"
    assert spelling.apply(text, layout()).stored(9999) == spelling.apply("mhc:4x+h2o:20%+fp8", layout()).stored(9999)


@pytest.mark.parametrize("first", EXAMPLES)
@pytest.mark.parametrize("second", EXAMPLES)
def test_two_techniques_compose_exactly_when_they_act_on_different_factors(first: str, second: str) -> None:
    kinds = techniques.TECHNIQUES
    one, two = (kinds[text.split(":")[0]] for text in (first, second))
    if one.factor == two.factor:
        with pytest.raises(Incompatible, match="both act on"):
            spelling.parts(f"{first}+{second}")
    else:
        assert len(spelling.parts(f"{first}+{second}")) == 2


def test_a_document_names_the_techniques_that_do_not_compose_with_one() -> None:
    kinds = techniques.TECHNIQUES.values()
    for kind in kinds:
        assert part(kind)["excludes"] == [k.name for k in kinds if k.factor == kind.factor]
    assert (
        {"h2o", "streaming"} <= set(part(techniques.TECHNIQUES["h2o"])["excludes"]) <= {k.name for k in kinds} - {"fp8"}
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("h20:20%", "h2o:20%"),
        ("mhc", "as in mhc:4x"),
        ("mhc:4", "mhc:4x"),
        ("h2o:20", "h2o:20%"),
        ("baseline+fp8", None),
        ("mhc:0x", "mhc"),
        ("h2o:0%", "h2o:20%"),
        ("h2o:101%", "h2o:20%"),
        ("streaming:4", "streaming:4,4096"),
        ("fp8:2", "fp8"),
        ("int5", "int8"),
        ("gqa", "gqa:8"),
        ("gqa:x", "gqa:8"),
        ("window:0", "window:4096"),
        ("strEAMing:4,4096", None),
        ("nonesuch", "known"),
        ("mhc:4x:folded", "mhc:4x:fused"),
    ],
)
def test_refuses_with_the_nearest_right_spelling(wrong: str, right: str | None) -> None:
    if right is None:
        spelling.apply(wrong, layout())
        return
    with pytest.raises((UnknownName, Incompatible)) as refusal:
        spelling.apply(wrong, layout())
    assert right in str(refusal.value)


@pytest.mark.parametrize(("wrong", "right"), [("int5", "int8"), ("fp9", "fp8"), ("h20:20%", "h2o:20%")])
def test_one_technique_is_suggested(wrong: str, right: str) -> None:
    with pytest.raises(UnknownName) as refusal:
        spelling.apply(wrong, layout())
    assert str(refusal.value) == f"no technique named '{wrong}'; did you mean '{right}'?"


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spelling.apply(text, layout())
    except KvplanError as refusal:
        assert str(refusal)


def test_llama3_70b_at_128k() -> None:
    """40 GiB before, 10 GiB with MHC 4x, a fifth plus scores with H2O 20 %, 4.5 of 16 bits with int4."""
    gib, length, base = 2**30, 131072, layout("llama3-70b")
    stored = {
        t: spelling.apply(t, base).stored(length) / gib for t in ("fp8", "int4", "mhc:4x", "mhc:8x", "mqa", "gqa:4")
    }
    assert stored == {"fp8": 20.0, "int4": 40 * 4.5 / 16, "mhc:4x": 10.0, "mhc:8x": 5.0, "mqa": 5.0, "gqa:4": 20.0}
    kept = int(131072 * 0.2)
    scores = kept * 8 * 4 * 80
    assert spelling.apply("h2o:20%", base).stored(length) == kept * 327_680 + scores
    assert spelling.apply("streaming:4,4096", base).stored(length) == 4100 * 327_680
    assert spelling.apply("mhc:4x+fp8", base).stored(length) / gib == 5.0


@pytest.mark.parametrize("chunk", [None, 131072])
def test_h2o_holds_one_whole_layer_while_a_prompt_is_read_in_one_pass(chunk: int | None) -> None:
    base = layout("llama3-70b")
    h2o, length = spelling.apply("h2o:20%", base), 131072
    whole, kept = length * (4096 + 32), int(length * 0.2) * (4096 + 32)
    assert h2o.peak(length, chunk) - h2o.stored(length) == whole - kept
    assert h2o.prefill_flops == 1.5
    assert h2o.shared(length) == 0


def test_h2o_holds_the_whole_prompt_in_every_layer_while_it_is_read_in_chunks() -> None:
    """Llama-3-70B at 131,072 tokens: 80 layers x 131,072 x (4,096 B + 8 scores of 4 B) = 40 GiB and 320 MiB."""
    h2o, length, gib = spelling.apply("h2o:1%", layout("llama3-70b")), 131072, 2**30
    assert h2o.stored(length) / gib == pytest.approx(0.403, abs=0.001)
    assert h2o.peak(length, 8192) / gib == 40 + 320 / 1024
    assert h2o.peak(length, length - 1) == h2o.peak(length, 8192)
    assert h2o.peak(8192, 8192) == h2o.peak(8192), "one chunk is one pass"


def test_eviction_by_place_needs_room_for_a_chunk_not_for_the_prompt() -> None:
    """Llama-3-70B, streaming:4,4096 in chunks of 8,192: 80 layers x (4,100 + 8,192) tokens x 4,096 B."""
    streaming, length = spelling.apply("streaming:4,4096", layout("llama3-70b")), 131072
    assert streaming.peak(length, 8192) == 80 * (4100 + 8192) * 4096
    assert streaming.peak(length) == 80 * 4100 * 4096 + (length - 4100) * 4096


def test_a_latent_is_narrowed_as_it_is_read() -> None:
    """Llama-3-70B, MHC 4x: a quarter of 40 GiB, and one layer's keys and values of 512 MiB in place of its 128 MiB."""
    mhc, length, mib = spelling.apply("mhc:4x", layout("llama3-70b")), 131072, 2**20
    assert mhc.peak(length, 8192) == mhc.peak(length) == (10 * 1024 + 512 - 128) * mib
    both = spelling.apply("mhc:4x+h2o:1%", layout("llama3-70b"))
    assert both.peak(length, 8192) < mhc.peak(length), "scores of a chunked prompt are beside latents, not full keys"


def test_forms_of_mhc_cost_what_the_arithmetic_says() -> None:
    """Llama-3.1-8B layer: 32 query heads, 8 of 128 for keys and values.

    Plain attention is 16,384 FLOP and 4,096 B a token.
    """
    base = layout("llama3.1-8b")
    flops = {f: spelling.apply(f"mhc:4x:joint:{f}", base).groups[0] for f in techniques.FORMS}
    assert base.groups[0].flops == 16_384
    assert flops["absorbed"].flops == 4 * 32 * 512 + 2 * 32 * 64  # 66 k, and the rotary part RoPE needs
    assert (flops["fused"].rebuilds, flops["fused"].flops) == (2 * 256 * 8 * 128, 2 * 32 * 128 + 2 * 32 * 256)  # 0.55 M
    assert (flops["reconstruct"].rebuilds, flops["reconstruct"].flops) == (2 * 2 * 256 * 1024, 16_384)  # 1.05 M
    assert flops["reconstruct"].read(1) == 1024 + 2 * 4096  # 9,216 B
    assert flops["fused"].read(1) == 1024
    assert flops["absorbed"].read(1) == 1024 + 64 * 2
    # up-projections: one latent for keys and values (2.1 MB in bf16), or half of it for each
    added = {f: spelling.apply(f"mhc:4x:joint:{f}", base).parameters / 32 for f in techniques.FORMS}
    assert added == {"absorbed": 512 * 2048, "fused": 256 * 2048, "reconstruct": 256 * 2048}


def test_a_latent_per_four_heads_is_the_default_and_divided() -> None:
    """Llama-3.1-8B layer at 4x: 2 latents of 256 for 4 heads each, in the place of 2,048 elements; 8 at a head each."""
    base = layout("llama3.1-8b")
    grouped, head, joint = (spelling.apply(f"mhc:4x{g}", base).groups[0] for g in ("", ":g1", ":joint"))
    assert (grouped.vectors, grouped.width, grouped.split) == (2, 256, 2)
    assert (head.vectors, head.width, joint.vectors, joint.width) == (8, 64, 1, 512)
    assert {g.token_bytes for g in (grouped, head, joint)} == {1024}
    # keys of 4 heads from their own 128: 2 x 128 x 512 for each of 2 latents; scores, and values in latents of 128
    assert grouped.rebuilds == 2 * 2 * 128 * 4 * 128 and grouped.flops == 2 * 32 * 128 + 2 * 32 * 128
    assert (head.rebuilds, joint.rebuilds) == (grouped.rebuilds / 4, grouped.rebuilds * 2)
    extra = [spelling.apply(f"mhc:4x{g}", base).parameters / 32 for g in ("", ":g1", ":joint")]
    assert extra == [2 * 128 * 4 * 256, 8 * 32 * 256, 256 * 2048]
    assert spelling.canonical("mhc:4x:g4+fp8") == "mhc:4x+fp8" and spelling.canonical("mhc:4x:g8") == "mhc:4x:g8"
    assert spelling.apply("mhc:4x:g3", base).groups[0].vectors == 4, "3 does not divide 8 heads, 2 does"


def test_grouped_latents_are_no_slower_where_grouped_ones_were_measured_to_be_faster() -> None:
    """Latents of 4 heads at a half of the cache (Palu): 1.7 times faster; a joint one rebuilds 8 times as much."""
    model = catalog.model("llama2-7b")
    base, server = layout("llama2-7b"), site(catalog.gpu("h100-sxm"), model, "2026-11-23").calibration
    times = {}
    for text in ("baseline", "mhc:2x", "mhc:2x:joint"):
        decode = attended_at(spelling.apply(text, base), base, 1, 65_536, 0).decode
        times[text] = sum(operator_time(o, server) for o in decode)
    assert times["mhc:2x"] < times["baseline"] / 1.3 and times["mhc:2x:joint"] > 2 * times["baseline"]


def test_absorbed_is_the_default_where_keys_are_not_rotated() -> None:
    bare = spelling.apply("mhc:4x", layout("opt-6.7b")).groups[0]
    assert bare.vectors * bare.width == layout("opt-6.7b").groups[0].width * 32 / 4
    assert bare.flops == spelling.apply("mhc:4x:absorbed", layout("opt-6.7b")).groups[0].flops


def test_mhc_and_mla() -> None:
    with pytest.raises(Incompatible, match="already caches a latent"):
        spelling.apply("mhc:4x", layout("deepseek-v3"))
    assert spelling.apply("fp8", layout("deepseek-v3")).growth(1) == 35_136


def test_sharing_heads_beyond_what_the_model_has_is_refused() -> None:
    with pytest.raises(Incompatible, match="already shares"):
        spelling.apply("gqa:8", layout("llama3-70b"))
    with pytest.raises(Incompatible, match="write gqa:2"):
        spelling.apply("gqa:3", layout("llama3-70b"))


def test_group_scales_are_counted_in_full_groups() -> None:
    """head_dim 80: 4 bits x 80 and two groups of 32 bits of scale and zero point, for the key and for the value."""
    model = layout("stablelm2-1.6b")
    group = spelling.apply("int4", model).groups[0]
    width = model.groups[0].key_width
    assert group.token_bytes == 2 * group.vectors * (width * 4 / 8 + -(-width // 64) * 4)


def test_windows_stay_the_smaller_of_two() -> None:
    gemma = spelling.apply("window:512", layout("gemma3-27b"))
    assert {g.keep.tokens(100_000) for g in gemma.groups} == {512}
    assert spelling.apply("streaming:4,4096", layout("gemma3-27b")).part("sliding").stored(10**5) == layout(
        "gemma3-27b"
    ).part("sliding").stored(10**5)


def test_which_engine_serves_what() -> None:
    assert spelling.served_by("baseline", "vllm") and spelling.served_by("fp8", "vllm")
    assert not spelling.served_by("int4", "vllm") and not spelling.served_by("fp8+h2o:20%", "vllm")
    vllm, sglang, trtllm = ("nvfp4", "int4:token", "turboquant:4"), ("nvfp4", "fp8"), ("fp8", "nvfp4")
    for engine, names in (("vllm", vllm), ("sglang", sglang), ("trtllm", trtllm), ("lmdeploy", ("int4", "int8"))):
        assert all(spelling.served_by(name, engine) for name in names), engine
    assert not spelling.served_by("turboquant:4", "sglang") and not spelling.served_by("int4", "vllm")


def test_a_release_serves_what_had_come_and_had_not_gone() -> None:
    assert not spelling.served_by("turboquant:4", catalog.engine("vllm@0.19")), "came with 0.20"
    assert spelling.served_by("turboquant:4", catalog.engine("vllm"))
    assert spelling.served_by("fp8", catalog.engine("vllm@0.11"))
    assert spelling.supporting(techniques.TECHNIQUES["streaming"], "4,4096", "trtllm") is None, "gone with its backend"
    assert "TensorRT-LLM from 0.8 (~2024-02-29), gone from 1.2" in spelling.needs("streaming:4,4096")[0]


def test_a_format_the_gpu_lacks_is_not_planned_on_it() -> None:
    assert spelling.runs_on("nvfp4", catalog.gpu("b200")) == "" == spelling.runs_on("fp8", catalog.gpu("a100-80gb-sxm"))
    assert "Blackwell" in spelling.runs_on("fp8", catalog.gpu("h200")) + spelling.runs_on("nvfp4", catalog.gpu("h200"))


# -- bytes computed by hand ------------------------------------------------------------------------

#: Llama-3.1-8B: 32 layers of 8 heads, keys and values of 128, 4,096 B a token and layer
EIGHT, LAYERS, TOKEN = "llama3.1-8b", 32, 4096


@pytest.mark.parametrize(
    ("text", "each"),
    [
        ("nvfp4", 8 * 2 * (128 / 2 + 128 / 16)),  # 576
        ("int8:token", 8 * 2 * (128 + 4)),
        ("int4:token", 8 * 2 * (64 + 4)),
        ("int8", 8 * 2 * (128 + 2 * 4)),
    ],
)
def test_bytes_of_rounded_caches(text: str, each: float) -> None:
    changed = spelling.apply(text, layout(EIGHT))
    assert changed.stored(1000) == changed.shared(1000) == changed.peak(1000) == LAYERS * 1000 * each
    assert changed.read(1000) == LAYERS * 1000 * each and changed.growth(1000) == LAYERS * each


def test_bytes_of_kivi_leave_the_last_tokens_whole() -> None:
    """2 bits and 32 bits of scale and zero per 32 elements are 3: 768 B a token, but 4,096 B of the last 128.

    Keys are rounded 32 tokens at a time: of 872 tokens 8 wait, whose keys take 2,048 B in place of 384.
    """
    kivi = spelling.apply("kivi:2", layout(EIGHT))
    assert kivi.stored(1000) == kivi.read(1000) == LAYERS * (872 * 768 + 128 * TOKEN + 8 * (2048 - 384))
    assert kivi.stored(992) == LAYERS * (864 * 768 + 128 * TOKEN)
    assert kivi.stored(100) == layout(EIGHT).stored(100)
    assert (kivi.growth(100), kivi.growth(1000)) == (LAYERS * TOKEN, LAYERS * 768)
    assert spelling.apply("kivi:4", layout(EIGHT)).growth(1000) == LAYERS * 5 / 16 * TOKEN


def test_bytes_of_turboquant_leave_the_first_and_last_layers_whole() -> None:
    """A head's key of 128 in 3 bits and a norm is 50 B, its value with scale and zero 52: 816 B in 28 of 32 layers.

    vLLM's pull request 38479 holds 3.43 times as many tokens of Qwen3-4B (36 layers of the same heads).
    """
    turbo = spelling.apply("turboquant:3", layout(EIGHT))
    assert turbo.stored(1000) == 1000 * (28 * 8 * (50 + 52) + 4 * TOKEN)
    assert spelling.apply("turboquant:4", layout(EIGHT)).stored(1) == 28 * 8 * (66 + 68) + 4 * TOKEN
    qwen = layout("qwen3-4b")
    assert qwen.stored(1) / spelling.apply("turboquant:3", qwen).stored(1) == pytest.approx(3.4285, rel=0.02)
    hybrid = layout("qwen3.5-27b")
    rounded = spelling.apply("turboquant:3", hybrid)
    assert all(g.bits == 3 for g in rounded.groups if g.vectors), "of hybrid models all layers are rounded"


@pytest.mark.parametrize("name", ["snapkv:25%", "pyramidkv:25%", "adakv:25%", "chunkkv:25%", "kvzip:25%"])
def test_bytes_of_what_is_chosen_of_the_prompt(name: str) -> None:
    """A quarter of 8,000 tokens and 500 generated; all of the prompt in one layer while it is read in one pass."""
    changed = spelling.apply(name, layout(EIGHT)).with_prompt(8000)
    assert changed.stored(8500) == changed.read(8500) == LAYERS * 2500 * TOKEN
    assert changed.peak(8500) == max(LAYERS * 2500, 31 * 2000 + 8000) * TOKEN
    assert changed.peak(8500, 2048) == LAYERS * 8000 * TOKEN
    assert changed.shared(8000) == (LAYERS * 2000 * TOKEN if name.startswith("kvzip") else 0)
    assert changed.prefill_flops == (3 if name.startswith("kvzip") else 1)


def test_bytes_of_a_number_of_tokens_of_the_prompt() -> None:
    assert spelling.apply("snapkv:2048", layout(EIGHT)).with_prompt(8000).stored(8500) == LAYERS * 2548 * TOKEN


def test_bytes_of_heads_that_keep_all_and_heads_that_stream() -> None:
    """Half of the heads hold 10,000 tokens, the others 64 and 256."""
    duo = spelling.apply("duo:50%", layout(EIGHT))
    assert duo.stored(10_000) == LAYERS * (10_000 + 320) / 2 * TOKEN == duo.shared(10_000)
    assert duo.stored(300) == LAYERS * 300 * TOKEN and duo.growth(10_000) == LAYERS * TOKEN / 2


def test_bytes_of_an_answer_that_is_evicted_as_it_grows() -> None:
    """2,000 of the prompt, 4,096 of the answer and 128 until the next eviction."""
    rkv = spelling.apply("r1kv:4096", layout(EIGHT)).with_prompt(2000)
    assert rkv.stored(2000 + 30_000) == LAYERS * (2000 + 4096 + 128) * TOKEN
    assert rkv.stored(5000) == LAYERS * 5000 * TOKEN and rkv.growth(32_000) == 0 < rkv.growth(3000)


def test_bytes_stored_and_read_by_sparse_attention() -> None:
    """Quest: bounds of 128 channels per 16 tokens and head. DSA: 128 fp8 elements and a scale, read of every token."""
    length = 100_000
    quest = spelling.apply("quest:2048", layout(EIGHT))
    bounds = 8 * 2 * 128 / 16 * 2
    assert quest.stored(length) == LAYERS * length * (TOKEN + bounds)
    assert quest.read(length) == LAYERS * (2048 * TOKEN + length * bounds)
    dsa = spelling.apply("dsa:2048", layout(EIGHT))
    assert dsa.stored(length) == LAYERS * length * (TOKEN + 132)
    assert dsa.read(length) == LAYERS * (2048 * TOKEN + length * 132)
    assert dsa.read(1000) == LAYERS * 1000 * (TOKEN + 132), "short sequences are read whole"
    with pytest.raises(Incompatible, match="already reads few"):
        spelling.apply("dsa:2048", layout("deepseek-v3.2"))


def test_bytes_of_shadowkv_on_the_gpu_and_the_host() -> None:
    """Rank 160 of the keys and a landmark per 8 tokens and head; 2,048 B of values a token and layer on the host."""
    shadow, length = spelling.apply("shadowkv", layout(EIGHT)), 100_000
    landmarks = 8 * 128 / 8 * 2
    assert shadow.stored(length) == LAYERS * length * (160 * 2 + landmarks)
    assert shadow.hosted(length) == LAYERS * length * 8 * 128 * 2
    assert shadow.read(length) == LAYERS * (2048 * 320 + length * landmarks)
    assert shadow.groups[0].fetched(length) == 2048 * 8 * 128 * 2


def test_bytes_of_layers_that_share() -> None:
    """CLA-2: 16 layers store for 32, all of which read. YOCO: 16 windows of 1,024 and one cache for the other 16."""
    cla, length = spelling.apply("cla:2", layout(EIGHT)), 10_000
    assert cla.stored(length) == 16 * length * TOKEN and cla.read(length) == LAYERS * length * TOKEN
    assert spelling.apply("cla:3", layout(EIGHT)).stored(length) == 11 * length * TOKEN
    yoco = spelling.apply("yoco", layout(EIGHT))
    assert yoco.stored(length) == (16 * 1024 + length) * TOKEN
    assert yoco.read(length) == 16 * (1024 + length) * TOKEN
    assert sorted(i for g in yoco.groups for i in g.layers) == list(range(32))


def test_what_unpacking_takes_is_time_and_no_bytes() -> None:
    """VLLM unpacks int8 once for a group's heads, TurboQuant for each of 32 query heads, which every rank divides."""
    names = ("fp8", "int8:token", "turboquant:4")
    plain, packed, turbo = (spelling.apply(text, layout(EIGHT)).groups[0] for text in names)
    assert plain.unpacks == Unpacking() and packed.unpacks.work == pytest.approx(8 * 256 * 6e-11)
    assert turbo.unpacks.work == pytest.approx(32 * 256 * 1.1e-10) and turbo.unpacks.by_query
    base = layout(EIGHT)
    one, eight, sixteen = (
        attended_at(spelling.apply("turboquant:4", base), base, ranks, 1000, 0).decode[0] for ranks in (1, 8, 16)
    )
    assert one.unpacks == pytest.approx(28 * 1000 * 32 * 256 * 1.1e-10), "28 layers inside"
    assert one.unpacks == pytest.approx(8 * eight.unpacks) and eight.unpacks == pytest.approx(2 * sixteen.unpacks)
    assert one.lags == eight.lags == pytest.approx(28 * 1000 * 12.8e-9), "however many heads"


# -- one place to add a technique -----------------------------------------------------------------


@pytest.fixture
def selecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A technique like SnapKV, of one function: N tokens of the prompt and every token generated."""
    monkeypatch.setitem(techniques.TECHNIQUES, "promptkv", techniques.TECHNIQUES["window"])  # taken out again after

    @techniques.technique(
        "promptkv",
        spelling="promptkv:N",
        title="PromptKV",
        factor="tokens",
        example="promptkv:1024",
        granularity="token per KV head",
        needs="a kernel that returns scores of the prompt's last queries",
        quality="not measured",
        risk="drops tokens of the prompt",
        engines=(techniques.served("vllm", "0.1", "2024-01-01"),),
        compared=("promptkv:1024",),
        source=techniques.paper("SnapKV, arXiv 2404.14469", "2024-04-22"),
    )
    def promptkv(layout: KVLayout, argument: str) -> KVLayout:
        """Keep N tokens of the prompt, selected when it ends, and every token generated."""
        return techniques.evicting(
            layout,
            lambda keep: replace(keep, prompt_budget=int(argument), per_head=True),
            f"promptkv:{argument}",
            scores=False,
            shareable=False,
        )

    yield
    spelling.parts.cache_clear()


@pytest.mark.usefixtures("selecting")
def test_what_is_selected_of_the_prompt_keeps_all_that_is_generated() -> None:
    """Llama-3-8B, 8,192 + 512 tokens: 32 layers of 8 heads x (128 + 128) x 2 B = 4,096 B a token and layer."""
    chosen = spelling.apply("promptkv:1024", layout("llama3-8b")).with_prompt(8192)
    assert chosen.stored(8192) == 32 * 1024 * 4096
    assert chosen.stored(8192 + 512) == chosen.read(8192 + 512) == 32 * (1024 + 512) * 4096
    # one layer's whole prompt beside 31 selected ones is less than all of them hold in the end, and more than early on
    assert chosen.peak(8192) == chosen.peak(8192 + 16) == 8192 * 4096 + 31 * 1024 * 4096
    assert chosen.peak(8192 + 512) == 32 * (1024 + 512) * 4096
    # in chunks no layer knows what to select before the last one
    assert chosen.peak(8192, 2048) == chosen.peak(8192 + 512, 2048) == 32 * 8192 * 4096
    assert (chosen.growth(8191), chosen.growth(8192 + 1)) == (0, 32 * 4096)
    assert chosen.stored(512) == 32 * 512 * 4096, "a sequence that is still within its prompt"

    both = spelling.apply("h2o:1024", layout("llama3-8b")).with_prompt(8192)  # 8 heads' fp32 scores beside a token
    assert both.stored(8192) == both.stored(8192 + 512) == 32 * 1024 * (4096 + 8 * 4)


@pytest.mark.usefixtures("selecting")
def test_a_selected_prompt_frees_pages_only_of_an_engine_that_compacts() -> None:
    model, vllm = catalog.model("llama3-8b"), catalog.engine("vllm")
    chosen = spelling.apply("promptkv:1024", layout("llama3-8b")).with_prompt(8192)
    plain, compact = (Deployment(engine=vllm, compacts=compacts).pages(chosen) for compacts in (False, True))
    assert plain.reserved(8192 + 512) == (8192 + 512) * 131_072 and len(model.layers) == 32
    assert compact.reserved(8192 + 512) == (1024 + 512) * 131_072


@pytest.mark.parametrize("text", ["baseline", *EXAMPLES])
def test_only_techniques_that_select_of_the_prompt_ask_where_it_ends(text: str) -> None:
    base = spelling.apply(text, layout())
    selects = any(group.keep.selects_prompt for group in base.groups)
    assert (base.with_prompt(8192) is base) is not selects


@pytest.mark.usefixtures("selecting")
def test_a_technique_is_added_in_one_place(run) -> None:
    assert any(row["name"] == "promptkv" for row in run("list", "techniques", "--json").json["techniques"])
    assert "promptkv:N" in run("show", "technique", "promptkv:1024").out
    with pytest.raises(UnknownName, match="promptkv:1024"):
        spelling.parts("promtkv:1024")

    estimated = run("estimate", "-m", "llama3.1-8b", "-c", "8704", "--gpu", "h100-sxm", "--json", "--on", "2026-11-23")
    row = next(r for r in estimated.json["rows"] if r["technique"] == "promptkv:1024")
    assert row["kv_bytes_per_sequence"] == 32 * (1024 + 512) * 4096

    recommended = run("recommend", "-w", "doc-qa", "-m", "llama3.1-8b", "--json", "--on", "2026-11-23")
    assert "promptkv:1024" in recommended.out


@pytest.mark.usefixtures("selecting")
def test_the_search_knows_where_a_workload_s_prompt_ends() -> None:
    work, model = catalog.workload("doc-qa"), catalog.model("llama3.1-8b")
    demand = Demand(model=model, workload=work, peak=1.0, mean=1.0, limits=Limits(), engine=catalog.engine())
    shapes, refused = configurations(demand, ["promptkv:1024"], 8)
    assert not refused and shapes
    for shape in shapes:
        assert shape.layout.stored(demand.prompt + 100) == 32 * (1024 + 100) * 4096


def test_bytes_of_pruned_images_and_of_images_beside_the_prompt() -> None:
    """Qwen2.5-VL reads video-qa's 30,720 visual tokens of 31k; a third of them stays, and every token of text.

    Llama 3.2 11B Vision holds 8 layers x 30,720 tokens x 8 heads x 2 x 128 x 2 B beside its prompt, for 3 questions.
    """
    found = kvplan.techniques("qwen2.5-vl-7b", "video-qa", techniques=["visual:25%"], tp=1, on="2026-11-24")
    prompt, (plain, pruned) = found.estimate.query.prompt, found.rows
    parts = found.workload.parts
    share = sum(p.tokens for p in parts if p.visual) / sum(p.tokens for p in parts)
    kept = int(prompt * (1 - Fraction(share).limit_denominator(10_000) * Fraction(3, 4)))
    each = plain.row.stored / found.estimate.query.context
    assert pruned.row.stored == pytest.approx((kept + found.estimate.query.output) * each)
    assert plain.row.layout.visual == pytest.approx(share) and pruned.row.layout.shared(prompt) == kept * each
    assert pruned.quality.known and 0.015 < pruned.quality.drop < 0.05 and not pruned.engines
    with pytest.raises(Incompatible, match="name a workload that has some"):
        spelling.apply("visual:25%", kv_layout(catalog.model(EIGHT), 16.0))
    vision = kvplan.techniques("llama3.2-11b-vision", "video-qa", techniques=["fp8"], tp=1, on="2026-11-24")
    visual = round(vision.workload.visual_tokens)
    assert vision.beside.bytes == 8 * visual * 8 * 2 * 128 * 2 and vision.beside.questions == 3
    assert vision.beside.each == vision.beside.bytes / 3
    assert kvplan.techniques("llama3.1-8b", "rag", techniques=["fp8"], on="2026-11-24").beside is None


@pytest.mark.parametrize("length", [1000, 4096, 16_383])
@pytest.mark.parametrize("percent", [10, 25, 50, 75])
def test_tokens_kept_are_those_of_kvpress_rules(length: int, percent: int) -> None:
    """Rules of kvpress's presses, read at 82cc93e (score), f865ecd (pyramid), 5c6d1c5 (chunks), 4b0ca7a (heads)."""
    share, layers = Fraction(percent, 100), 32

    def kept(text: str) -> float:
        return spelling.apply(text, layout(EIGHT)).stored(length) / (layers * 4096)

    by_score = max(1, int(length * share))
    assert kept(f"snapkv:{percent}%") == kept(f"kvzip:{percent}%") == kept(f"adakv:{percent}%") == by_score
    # a pyramid falls in equal steps around the mean: layers round theirs
    least = length * float(share) / 20
    most = min(2 * length * float(share) - least, length - 64)
    least = 2 * length * float(share) - most if most == length - 64 else least
    steps = [round(most - i * (most - least) / (layers - 1)) for i in range(layers)]
    usual = [round(length * float(share))] * layers
    pyramid = steps if length >= most >= least >= 64 else usual
    assert kept(f"pyramidkv:{percent}%") == pytest.approx(sum(pyramid) / layers, abs=1.0)
    chunks = max(1, int(-(-length // 10) * share)) * 10
    assert abs(kept(f"chunkkv:{percent}%") - chunks) <= 10
    # all tokens in the heads that retrieve, sinks and recent ones in the others
    assert kept(f"duo:{percent}%") == pytest.approx(length * (1 - (1 - float(share)) * (1 - 320 / length)), abs=1.0)
