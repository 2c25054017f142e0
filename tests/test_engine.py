"""What a vLLM-like engine reserves, against figures from its logs and issue threads."""

import json
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan import catalog
from kvplan.errors import Incompatible, SpecError, WrongUse
from kvplan.kv.deployment import Deployment
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.paging import share
from kvplan.kv.replica import Parallel
from kvplan.kv.resident import Rules, resident
from kvplan.kv.spelling import apply
from kvplan.planning.memory import Ask, memory

GIB = 2**30
ENGINE = catalog.engine("vllm@0.25")  # the last whose windows hold the tokens of one step


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


@pytest.mark.parametrize(("tokens", "entries"), [(256, (64, 2)), (128, (32, 1)), (64, (16, 1))])
def test_a_page_of_compressed_tokens_holds_one_at_least(tokens: int, entries: tuple[int, int]) -> None:
    """DeepSeek-V4 keeps one entry for every 4 or 128 tokens; a page of 64 tokens still holds one of 128."""
    pages = Deployment(engine=ENGINE, block_size=tokens).pages(kv_layout(catalog.model("deepseek-v4-flash"), 16))
    blocks = {s.group.keep.every: s.block for s in pages.specs if s.group.keep.window is None}
    assert (blocks[4], blocks[128]) == entries


@pytest.mark.parametrize(("tensor", "width"), [(1, 3072), (2, 2 * 1536), (8, 8 * 512)])
def test_experts_in_mxfp4_are_padded_to_256_on_every_gpu(tensor: int, width: int) -> None:
    """gpt-oss-120b: 36 layers of 128 experts, three matrices of 2,880 x 2,880 at 4.25 bits; one 2,880 is padded."""
    model, kept = catalog.model("gpt-oss-120b"), Rules(padding=256, angle=0.0, absorbed=0.0)
    experts = 36 * 128 * 3 * 2880**2 * 4.25 / 8
    found = resident(model, None, Parallel(tensor=tensor), 0, kept)
    assert found == pytest.approx(experts * (width / 2880 - 1) / tensor)


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
    joint, grouped = (
        apply(t, kv_layout(catalog.model("llama3-70b"), 16)).groups[0] for t in ("mhc:4x:joint", "mhc:4x")
    )
    assert share(joint, 8) == 1 and share(grouped, 8) == 0.5, "one latent for all heads; one for each 4 of 8"


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


# -- what engines of 2026 do with recurrent states, and what they are run with ---------------------


def asked(name: str, context: int | str, **more: object):
    return kvplan.memory(name, context, layout="engine", **more)


def test_cached_prefixes_pin_two_pages_of_a_state() -> None:
    """Qwen3.5-27B, TP2, fp8 cache: 4.99 GiB are 2.31 requests of 131,072 tokens (a log of August 2026)."""
    with_cache = asked("qwen3.5-27b", 131_072, kv_dtype="fp8", tp=2)
    without = asked("qwen3.5-27b", 131_072, kv_dtype="fp8", tp=2, without="prefix-caching")
    older = asked("qwen3.5-27b", 131_072, kv_dtype="fp8", tp=2, engine="vllm@0.19")
    assert with_cache.total / 2 / GIB == pytest.approx(2.1534, abs=0.0005)
    assert without.total == older.total == pytest.approx(with_cache.total * 87 / 90)


@pytest.mark.parametrize(
    ("release", "gpu", "blocks", "asked_for"),
    [("0.24", "h100", 84 + 3, 84 + 6), ("0.27", "h100", 84 + 3, 84 + 6), ("0.28", "h100", 84 + 6, 84 + 6),
     ("0.32", "h100", 84 + 6, 84 + 6), ("0.33", "h100", 84 + 9, 84 + 9), ("0.33", "l40s", 84 + 6, 84 + 6)],
)  # fmt: skip
def test_vllm_caches_prefixes_of_hybrids_from_028_on(release: str, gpu: str, blocks: int, asked_for: int) -> None:
    """Qwen3.5-27B: from 0.33 on FlashInfer's kernels export a state within a prefill, for which a page is kept."""
    where = {"kv_dtype": "fp8", "tp": 2, "gpu": gpu, "engine": f"vllm@{release}", "kv_cache_memory_bytes": "20GiB"}
    pages = asked("qwen3.5-27b", 131_072, **where).budget.paging
    assert pages.blocks(131_072) == blocks
    with_cache = asked("qwen3.5-27b", 131_072, with_features="prefix-caching", **where).budget.paging
    assert with_cache.blocks(131_072) == asked_for
    assert asked("qwen3.5-27b", 131_072, without="prefix-caching", **where).budget.paging.blocks(131_072) == 84 + 3


def test_mamba_2_exports_states_on_every_gpu_and_states_alone_are_not_cached() -> None:
    def pages(name: str, **more: object) -> int:
        return asked(
            name, 8192, engine="vllm@0.32", gpu="l40s", kv_cache_memory_bytes="4GiB", **more
        ).budget.paging.state_pages

    assert (pages("nemotron-h-8b"), pages("nemotron-h-8b", without="prefix-caching"), pages("qwen3.5-9b")) == (3, 1, 2)
    assert (pages("falcon-mamba-7b"), pages("falcon-mamba-7b", with_features="prefix-caching")) == (1, 2)


def test_without_towers_only_the_text_is_loaded_and_profiled() -> None:
    """Gemma 4 E2B without 0.335 GB of its vision tower, 0.61 of its audio tower and what embeds both."""
    whole, text = (asked("gemma4-e2b", 8192, gpu="l4", without=left).budget.amounts for left in ((), "towers"))
    assert (whole["weights"] - text["weights"]) / 1e9 == pytest.approx(0.335 + 0.610 + 0.007, abs=0.002)
    plain, left = (asked("llama3.1-8b", 8192, gpu="l40s", without=out).budget.amounts for out in ((), "towers"))
    assert plain == left


def test_without_image_profiling_nothing_is_kept_free_for_an_image() -> None:
    """VLLM's skip_mm_profiling (vllm-project/vllm#22950): the peak is that of two sequences' text alone."""
    server = {"gpu": "rtx-5090", "tp": 2, "engine": "vllm@0.21", "max_num_seqs": 2, "without": "compile"}
    profiled = asked("Qwen/Qwen3.8-27B-FP8", 8192, **server)
    text = asked("Qwen/Qwen3.8-27B-FP8", 8192, **{**server, "without": ("compile", "image-profiling")})
    image = 65_536 * (1536 + 4 * 1152 + 4304) * 2 + 65_536 / 4 * 5120 * 2  # a layer of the tower, and the embeddings
    assert profiled.budget.amounts["activations"] == pytest.approx(image)
    feed = 2048 * (3 * 17_408 / 2 + 2 * 5120) * 2  # gate, up and product of half a layer, two hidden states: a step's
    assert feed < text.budget.amounts["activations"] < 1.4 * feed
    assert {k: v for k, v in text.budget.amounts.items() if k != "activations"} == {
        k: v for k, v in profiled.budget.amounts.items() if k != "activations"
    }
    assert "nothing is kept free for images: encoding the largest takes 1.4 GiB" in " ".join(text.warnings)
    assert not any("nothing is kept free" in line for line in profiled.warnings)
    deep, left = (
        asked("qwen3-vl-30b-a3b", 8192, gpu="h100-nvl", engine="vllm@0.13", without=out).budget.amounts["activations"]
        for out in ((), "image-profiling")
    )
    assert deep - left >= 4 * 16_384 * 2048 * 2  # the embeddings of the largest image, for four layers


def test_features_left_out_may_come_from_an_iterator() -> None:
    """Towers are read of it first; the other features are still left out."""
    words = ["towers", "graphs"]
    listed, once = (asked("gemma4-e2b", 8192, gpu="l4", without=left).budget.amounts for left in (words, iter(words)))
    assert "cuda_graphs" in asked("gemma4-e2b", 8192, gpu="l4", without="towers").budget.amounts
    assert "cuda_graphs" not in listed and once == listed


def test_a_feature_is_not_both_on_and_off() -> None:
    with pytest.raises(WrongUse, match="with_features, without: prefix-caching cannot be on and off"):
        asked("qwen3.5-27b", 8192, with_features="prefix-caching", without="prefix-caching")
    with pytest.raises(SpecError, match="with_features: expected prefix-caching or flashinfer, got 'towers'"):
        asked("qwen3.5-27b", 8192, with_features="towers")


def test_drafted_tokens_take_pages_of_states_and_columns_of_their_convolutions() -> None:
    """Qwen3.5-122B-A10B in NVFP4 with an fp8 cache on a GB10 (two vLLM logs of April 2026).

    21.43 GiB are 467,712 tokens and 11.79 requests of 131,072; with a drafted token 24.05 GiB are 6.42 of 262,144.
    """
    plain = asked("qwen3.5-122b", 131_072, kv_dtype="fp8")
    drafting = asked("qwen3.5-122b", 262_144, kv_dtype="fp8", speculative="mtp")
    assert plain.total == (32 + 3 * 2) * 12 * 4176 * 1024  # 4,176 tokens of 1,024 B hold a state
    assert drafting.total == (63 + 3 * 3) * 13 * 4192 * 1024
    assert plain.total / GIB == pytest.approx(21.43 / 11.79, rel=0.002)
    assert drafting.total / GIB == pytest.approx(24.05 / 6.42, rel=0.002)
    # 17.25 GiB are 1.953 requests of Qwen3.6-27B with a drafted token, 5.95 GiB 1.97 of Qwen3.5-2B with none
    one = asked("qwen3.6-27b", 131_072, speculative="mtp", without="prefix-caching")
    assert one.total == (164 + 3 * 2) * 17 * 800 * 4096 and one.total / GIB == pytest.approx(17.25 / 1.953, rel=0.003)
    small = asked("qwen3.5-2b", 262_144, without="prefix-caching")
    assert small.total / GIB == pytest.approx(5.95 / 1.97, rel=0.003)
    further = asked("qwen3.5-122b", 262_144, kv_dtype="fp8", speculative="mtp:3")
    assert further.total > drafting.total and further.deployment.draft.drafted == 3
    # Mamba-1 keeps its convolution as it is
    pages = [asked("jamba-mini", "32k", speculative=f"eagle3:{n}").total for n in (1, 2, 3)]
    assert pages[2] - pages[1] == pages[1] - pages[0] > 0


def test_more_sequences_than_state_pages_keep_the_engine_from_starting() -> None:
    """On one H100 vLLM 0.25.1 says: max_num_seqs (1024) exceeds available Mamba cache blocks (614)."""
    refused = asked("qwen3.5-27b", "32k", weights="fp8", gpu="h100")
    slots = refused.budget.paging.slots(refused.budget.kv_cache)
    assert "max_num_seqs=1024 exceeds the" in refused.reason and 600 < slots < 1024
    # fewer sequences need less for the sampler, which leaves more pages
    assert not asked("qwen3.5-27b", "32k", weights="fp8", gpu="h100", max_num_seqs=slots).reason
    assert not asked("qwen3.5-27b", "32k", weights="fp8", gpu="h100", engine="vllm@0.19").reason
    assert not asked("qwen3-32b", "32k", weights="fp8", gpu="h100").reason


def test_the_pages_that_refuse_sequences_are_those_of_the_engine() -> None:
    """Qwen3.6-27B-FP8 on one H100, utilisation 0.95: 856 blocks (vllm-project/recipes#551, June 2026)."""
    found = asked("qwen3.6-27b", "256k", weights="fp8", gpu="h100", utilization=0.95, engine="vllm@0.22")
    assert found.budget.paging.slots(found.budget.kv_cache) == pytest.approx(856, rel=0.02)


def test_uneven_stages_divide_the_cache_by_layers() -> None:
    """Qwen3-30B-A3B at 262,144 tokens: 24.0 GiB (vllm-project/vllm#34076), 8 and 16 on stages of 16 and 32 layers."""
    found = asked("qwen3-30b-a3b", 262_144, pp_layers="16,32", gpu="h200")
    assert [(layers, size / GIB) for layers, size in found.stages] == [(16, 8.0), (32, 16.0)]
    first, second = found.budget.stages
    assert found.budget.kv_tokens == second.kv_tokens < first.kv_tokens
    even = asked("qwen3-30b-a3b", 262_144, pp=2, gpu="h200")
    assert even.budget.kv_tokens > found.budget.kv_tokens and even.total == found.total


def test_decode_context_parallelism_beside_next_token_layers() -> None:
    """GLM-5.2, TP4 and DCP4 with its MTP layer and an fp8 cache of 1.81 GB: 132,096 tokens (a vLLM log of 2026)."""
    found = asked("glm-5.2", 131_072, kv_dtype="fp8", tp=4, dcp=4, speculative="mtp", weights="nvfp4", gpu="b200",
                  kv_cache_memory_bytes="1.81GB")  # fmt: skip
    assert found.budget.kv_tokens == 132_096


def test_decode_context_parallelism_divides_tokens_over_gpus_with_the_same_heads() -> None:
    whole, divided = asked("deepseek-v3", "64k", tp=8), asked("deepseek-v3", "64k", tp=8, dcp=8)
    assert divided.total == pytest.approx(whole.total / 8)
    assert divided.bytes_per_token == pytest.approx(whole.bytes_per_token / 8)
    with pytest.raises(Incompatible, match="write tp=16"):
        asked("llama3.1-8b", "8k", tp=8, dcp=2)


def test_a_fixed_cache_has_the_bytes_asked_for() -> None:
    found = asked("llama3.1-8b", "8k", gpu="h100", kv_cache_memory_bytes="20GiB")
    assert found.budget.kv_cache == 20 * GIB and found.budget.kv_tokens == 20 * 8192
    assert sum(line.amount for line in found.budget.lines) == pytest.approx(found.budget.total)
    assert found.reason == ""
    more = asked("llama3.1-8b", "8k", gpu="h100", kv_cache_memory_bytes="70GiB")
    assert more.budget.kv_cache < 63 * GIB
    assert more.reason.startswith("a cache of kv_cache_memory_bytes=70.0 GiB does not fit 1x h100-sxm: 61.")


def test_offloaded_weights_leave_room_for_the_cache() -> None:
    plain, less = (asked("llama3.1-8b", "8k", gpu="h100", cpu_offload=size) for size in (None, "4GiB"))
    assert less.budget.kv_cache - plain.budget.kv_cache == pytest.approx(4 * GIB)


def test_without_the_hybrid_manager_windows_free_nothing() -> None:
    """Gemma-3-27B at 131,072 tokens: 62 layers x 16 heads x 2 x 128 x 2 B."""
    assert asked("gemma3-27b", 131_072, without="hybrid").total == 62 * 131_072 * 16 * 2 * 128 * 2


def test_graphs_may_be_left_out_of_the_budget() -> None:
    plain, without = (asked("llama3.1-8b", "8k", gpu="h100", without=left) for left in ((), "graphs"))
    assert without.budget.kv_cache - plain.budget.kv_cache == pytest.approx(plain.budget.line("cuda_graphs"))


def test_releases_that_leave_another_room_are_listed() -> None:
    """gpt-oss-120b on an H100: 3.33 GiB of room under vLLM 0.11 (vllm-project/vllm#33155)."""
    where: dict[str, Any] = {"gpu": "h100", "utilization": 0.95, "block_size": 128}
    newest = asked("gpt-oss-120b", 16_000, **where)
    assert len(newest.rooms) > 2
    for room in newest.rooms:
        named = asked("gpt-oss-120b", 16_000, engine=f"vllm@{room.release}", **where)
        assert (room.kv_cache, room.kv_tokens) == (named.budget.kv_cache, named.budget.kv_tokens)
        assert named.rooms == ()
    assert newest.rooms[0].release == "0.11"
    assert newest.rooms[0].kv_cache == pytest.approx(3.33 * GIB, rel=0.15)
    assert asked("gpt-oss-120b", 16_000).rooms == asked("llama3.1-8b", "8k", gpu="h100", engine="sglang").rooms == ()


def test_engines_take_yarn_each_by_their_own_rule(tmp_path: Path) -> None:
    """VLLM multiplies the original length; SGLang and TensorRT-LLM take max_position_embeddings as it stands."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = {**catalog.model("qwen3-8b").config, "max_position_embeddings": 40960, "rope_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    found = {e: kvplan.memory(str(tmp_path), "8k", engine=e) for e in ("vllm", "sglang", "trtllm")}
    assert [m.model.max_context for m in found.values()] == [131072, 40960, 40960]
    assert "SGLang takes the 40,960 tokens of max_position_embeddings" in found["sglang"].remarks[-1]
    assert not found["sglang"].idle and not found["vllm"].model.notes
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 131072}), "utf-8")
    assert not kvplan.memory(str(tmp_path), "8k", engine="sglang").model.notes


def test_times_and_costs_take_yarn_by_the_rule_of_the_engine_too(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = {**catalog.model("qwen3-8b").config, "max_position_embeddings": 40960, "rope_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    model, load = str(tmp_path), {"isl": 60_000, "osl": 500, "concurrency": 1}
    assert kvplan.load(model, "h100", **load).points
    with pytest.raises(SpecError, match="supports 40,960 tokens, not 60,500"):
        kvplan.load(model, "h100", engine="sglang", **load)
    shown = {e: kvplan.estimate(model, "60k", gpus="h100", engine=e, techniques="fp8") for e in ("vllm", "sglang")}
    long = {e: [w for w in one.warnings if "supports 40,960 tokens" in w] for e, one in shown.items()}
    assert not long["vllm"] and len(long["sglang"]) == 1
    assert any("takes the 40,960 tokens of max_position_embeddings" in w for w in shown["sglang"].warnings)


# -- what drafts tokens ----------------------------------------------------------------------------


def test_a_next_token_layer_caches_as_the_model_does() -> None:
    """GLM-5.2 in fp8 on a server with MTP: 79 layers x 656 B and 22 indexers x 132 B."""
    assert asked("glm-5.2", "32k", kv_dtype="fp8", speculative="mtp").bytes_per_token == 79 * 656 + 22 * 132
    without = asked("glm-5.2", "32k", kv_dtype="fp8")
    assert without.bytes_per_token == 53_940
    said = "1 multi-token-prediction layer not counted: speculative decoding alone runs it"
    assert without.remarks[-1] == f"{said}; with speculative=mtp one more token adds 54,728 B"
    plain, draft = (kvplan.memory("glm-4.5", "8k", speculative=s) for s in (None, "mtp"))
    assert plain.remarks[-1].endswith(f"adds {draft.bytes_per_token:,.0f} B") and not draft.remarks


def test_a_layer_that_the_file_does_not_count_drafts_too() -> None:
    """Qwen3-Next: 12 of 48 layers attend; its checkpoint holds mtp.layers.0, which attends as well."""
    plain, drafting = asked("qwen3-next-80b", "8k"), asked("qwen3-next-80b", "8k", speculative="mtp")
    assert "1 multi-token-prediction layer not counted: speculative decoding alone runs it" in plain.model.notes
    assert drafting.bytes_per_token / plain.bytes_per_token == pytest.approx(13 / 12)


def test_the_next_token_layer_of_deepseek_weighs_what_its_paper_says() -> None:
    """DeepSeek-V3: 14 B parameters, 11.5 B of them not shared with the model (its README)."""
    plain, drafting = asked("deepseek-v3", "8k"), asked("deepseek-v3", "8k", speculative="mtp")
    assert drafting.weight_bytes - plain.weight_bytes == pytest.approx(11.5e9, rel=0.02)
    assert drafting.bytes_per_token / plain.bytes_per_token == pytest.approx(62 / 61)


@pytest.mark.parametrize(
    ("name", "weights", "each"),
    [
        ("deepseek-r1", None, 1.0),
        ("deepseek-r1", "nvfp4", 2.0),
        ("nvidia/DeepSeek-R1-0528-NVFP4", None, 2.0),
        ("amd/DeepSeek-R1-0528-MXFP4", None, 2.0),
        ("glm-4.5", None, 2.0),
        ("zai-org/GLM-4.5-FP8", None, 1.0),
    ],
)
def test_next_token_layers_are_not_in_four_bits(name: str, weights: str | None, each: float) -> None:
    """NVIDIA's DeepSeek-R1 in NVFP4 has its next-token layer's experts in bf16 (sgl-project/sglang#15353)."""
    plain, drafting = (asked(name, "8k", weights=weights, speculative=s) for s in (None, "mtp"))
    assert drafting.deployment.draft is not None
    layer = drafting.deployment.draft.model.parameters
    assert drafting.weight_bytes - plain.weight_bytes == pytest.approx(layer * each, rel=0.01)


def test_a_draft_model_brings_its_weights_and_its_cache() -> None:
    plain, small = asked("llama3.1-70b", "8k"), asked("llama3.2-1b", "8k")
    both = asked("llama3.1-70b", "8k", speculative="llama3.2-1b")
    assert both.bytes_per_token == plain.bytes_per_token + small.bytes_per_token
    assert both.weight_bytes == pytest.approx(plain.weight_bytes + small.weight_bytes)
    room = [asked("llama3.1-70b", "8k", gpu="h200", tp=2, speculative=s).budget.kv_cache for s in (None, "llama3.2-1b")]
    assert room[0] - room[1] == pytest.approx(small.weight_bytes / 2, rel=0.01)


def test_an_eagle3_head_is_one_layer() -> None:
    """Published heads of Llama-3.1-8B: 0.85 GB in 16 bits."""
    plain, drafting = asked("llama3.1-8b", "8k"), asked("llama3.1-8b", "8k", speculative="eagle3")
    assert drafting.weight_bytes - plain.weight_bytes == pytest.approx(0.85e9, rel=0.03)
    assert drafting.bytes_per_token / plain.bytes_per_token == pytest.approx(33 / 32)


def test_a_draft_stands_on_the_last_stage() -> None:
    plain, drafting = (asked("deepseek-v3", "8k", gpu="h200", tp=8, pp=2, speculative=s) for s in (None, "mtp"))
    first, last = (drafting.budget.stages[i].line("weights") - plain.budget.stages[i].line("weights") for i in (0, -1))
    assert first == 0 and last > 1e9
    assert drafting.budget.stages[-1].paging.block_bytes > plain.budget.stages[-1].paging.block_bytes


def test_a_model_without_next_token_layers_is_told_what_to_write() -> None:
    with pytest.raises(Incompatible, match="write speculative=eagle3 or name a draft model"):
        asked("llama3.1-8b", "8k", speculative="mtp")


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


# llama.cpp's own start-up lines: model, tokens of a slot, slots, tokens of a micro-batch, MiB by kind of layer.
# gpt-oss-120b: ollama/ollama#16480; Gemma 4 E4B: qualcomm/GenieX#1346; Qwen3.5 9B: JamePeng/llama-cpp-python#78;
# Qwen3.5 27B and Qwen3-Next: "RS buffer size", 149.62 and 75.4 MiB a slot.
@pytest.mark.parametrize(
    ("name", "length", "slots", "step", "sizes"),
    [
        ("gpt-oss-120b", 131_072, 2, 1024, {"full": 9216, "sliding": 90}),
        ("gemma4-e4b", 4096, 1, 1024, {"full": 64, "sliding": 60}),
        ("qwen3.5-9b", 4096, 1, 512, {"full": 128, "state": 50.25}),
        ("qwen3.5-27b", 131_072, 1, 1024, {"full": 8192, "state": 149.625}),
        ("qwen3-next", 131_072, 4, 512, {"full": 4 * 3072, "state": 301.5}),
        ("llama3.1-8b", 4000, 1, 512, {"full": 512}),  # 4,096 cells
    ],
)
def test_llama_cpp_holds_rows_of_cells(name: str, length: int, slots: int, step: int, sizes: dict[str, float]) -> None:
    found = kvplan.memory(name, length, batch=slots, layout="engine", engine="llamacpp", max_num_batched_tokens=step)
    assert {kind: found.sum(kind) / 2**20 for kind in sizes} == pytest.approx(sizes)
    assert found.padding == 0 and found.total == pytest.approx(sum(sizes.values()) * 2**20)


@pytest.mark.parametrize(
    ("name", "tp", "gpu", "share", "held"),
    [
        ("Qwen/Qwen3-235B-A22B-FP8", 4, "h100", 0.93, 367_404),  # vllm-project/vllm#21348
        ("deepseek-r1", 8, "h200", 0.82, 509_000),  # ai-dynamo/aisimulate#263
    ],
)
def test_sglang_holds_what_its_logs_say(name: str, tp: int, gpu: str, share: float, held: int) -> None:
    found = asked(name, 32_768, tp=tp, gpu=gpu, engine="sglang", utilization=share)
    assert found.budget is not None
    assert found.budget.kv_tokens == pytest.approx(held, rel=0.01)


@pytest.mark.parametrize(("release", "held"), [("0.20", 55_000), ("0.21", 525_000)])
def test_gemma_4_before_its_windows_freed_anything(release: str, held: int) -> None:
    """Gemma 4 31B in AWQ on an A100 of 80 GB at 0.9: some 55,000 and 525,000 tokens (vllm-project/vllm#43308)."""
    found = asked("cyankiwi/gemma-4-31B-it-AWQ-4bit", 131_072, gpu="a100-80gb-sxm", engine=f"vllm@{release}",
                  utilization=0.9)  # fmt: skip
    assert found.budget is not None
    assert found.budget.kv_tokens == pytest.approx(held, rel=0.15)


def test_windows_beside_wider_whole_layers_share_their_pages() -> None:
    """Gemma 4 E2B: 0.93 GiB hold 3.25 requests of 32,768 tokens (a vLLM log of September 2026)."""
    assert asked("gemma4-e2b", 32_768, engine="vllm@0.25").total / GIB == pytest.approx(0.93 / 3.25, rel=0.01)


def test_windows_hold_the_tokens_of_two_steps_from_026_on() -> None:
    """Gemma 4 E2B on one MI300X, 16,384 tokens a step: 275.45 requests of 32,768 in 155.04 GiB (September 2026)."""
    one = asked("gemma4-e2b", 32_768, gpu="mi300x", utilization=0.9, engine="vllm@0.29")
    assert one.total / GIB == pytest.approx(155.04 / 275.45, rel=0.001)
    before = asked("gemma4-e2b", 32_768, gpu="mi300x", engine="vllm@0.25", max_num_batched_tokens=16_384)
    assert before.total < 0.7 * one.total


@pytest.mark.parametrize(
    ("name", "factor"),
    [("gemma3-27b", 0.95 * (1.1 - 0.1 * 27 * 1152**2 / (24 * 1024**2))), ("kimi-k2.5", 0.95), ("qwen3-32b", 1.0)],
)
def test_sglang_takes_less_beside_a_vision_tower(name: str, factor: float) -> None:
    """Kimi's config names its tower's sizes otherwise, so ViT-L's are taken; a latent's graphs have 1.5 GiB."""
    latent = 1072 * 2**20 if name == "kimi-k2.5" else 0
    found = asked(name, 8192, engine="sglang", gpu="mi355x", tp=8).budget.deployment
    free = (976 + 1.5 * 16_384 + 2 * 512 + 128 * 8) * 2**20 + latent
    assert found.use == pytest.approx(round(1 - free / found.gpu.visible_memory, 3) * factor)
    assert asked(name, 8192, engine="sglang", gpu="mi355x", tp=8, utilization=0.9).budget.deployment.use == 0.9
