"""GGUF headers against the config.json of the same model: entries as llama.cpp's converters write them, made here."""

import struct
from pathlib import Path
from typing import Any

import pytest

from kvplan import catalog
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError
from kvplan.kv.model_cache import kv_layout
from kvplan.specs.model import ModelSpec

F16 = 1


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def value(v: Any) -> bytes:
    """Return a value of a header after its type."""
    if isinstance(v, list):
        kind, code = (7, "?") if v and isinstance(v[0], bool) else (5, "i")
        return struct.pack("<IIQ", 9, kind, len(v)) + b"".join(struct.pack(f"<{code}", x) for x in v)
    return struct.pack("<I", 8) + text(v) if isinstance(v, str) else struct.pack("<II", 4, v)


def header(said: dict[str, Any], tensors: list[str]) -> bytes:
    """Return the header of a GGUF file (version 3) with small tensors of these names."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(said))]
    parts += [text(key) + value(v) for key, v in said.items()]
    parts += [text(name) + struct.pack("<IQQIQ", 2, 32, 32, F16, 0) for name in tensors]
    return b"".join(parts)


def config_of(model: str) -> dict[str, Any]:
    config: dict[str, Any] = document("models", model)["config"]
    return {**config, **config.get("text_config", {})}


#: fields that every converter writes, by their keys
SHARED = {
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size",),
    "context_length": ("max_position_embeddings", "model_max_length"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "vocab_size": ("vocab_size",),
}


def gguf(model: str, architecture: str, own: dict[str, Any], tensors: list[str], folder: Path) -> ModelSpec:
    """Return the model that a GGUF header of a shelf's model says, with what its converter writes besides."""
    config = config_of(model)
    said = {key: next((config[f] for f in fields if config.get(f)), None) for key, fields in SHARED.items()}
    said = {**said, "attention.value_length": said["attention.key_length"], **own}
    entries = {f"{architecture}.{key}": v for key, v in said.items() if v is not None}
    names = ["token_embd.weight", *tensors]
    names += ["blk.0.attn_q.bias"] * bool(config.get("attention_bias"))
    names += ["output.weight"] * (not config.get("tie_word_embeddings"))
    path = folder / f"{model}.gguf"
    path.write_bytes(header({"general.architecture": architecture, **entries}, names))
    return catalog.model(str(path))


def groups(flags: list[bool], count: int) -> list[int]:
    return [count if flag else 0 for flag in flags]


def ssm(kernel: int, state: int, inner: int, heads: int, group: int | None = None) -> dict[str, int]:
    """A state space as converters write it."""
    said = {"conv_kernel": kernel, "state_size": state, "inner_size": inner, "time_step_rank": heads}
    said |= {"group_count": group} if group else {}
    return {f"ssm.{key}": v for key, v in said.items()}


def latent(key: int, v: int) -> dict[str, Any]:
    """Latent attention, whose cache stands in for one key and value head."""
    return {
        "attention.head_count_kv": 1, "attention.key_length": 576, "attention.value_length": 512,
        "attention.key_length_mla": key, "attention.value_length_mla": v, "rope.dimension_count": 64,
        "attention.kv_lora_rank": 512,
    }  # fmt: skip


def by_pattern(model: str, block: str, width: int) -> dict[str, Any]:
    pattern, kv = config_of(model)["hybrid_override_pattern"], config_of(model)["num_key_value_heads"]
    return {
        "attention.head_count_kv": groups([p == "*" for p in pattern], kv),
        "feed_forward_length": groups([p == block for p in pattern], width),
    }


def sliding(model: str) -> list[bool]:
    return [kind == "sliding_attention" for kind in config_of(model)["layer_types"]]


def gemma4(model: str) -> dict[str, Any]:
    c = config_of(model)
    return {
        "attention.sliding_window_pattern": sliding(model),
        "attention.key_length": c["global_head_dim"],
        "attention.key_length_swa": c["head_dim"],
        "attention.shared_kv_layers": c["num_kv_shared_layers"],
        "embedding_length_per_layer_input": c["hidden_size_per_layer_input"],
        "attention.head_count_kv": [
            c["num_key_value_heads"] if s else c["num_global_key_value_heads"] or c["num_key_value_heads"]
            for s in sliding(model)
        ],
    }


def puzzle(model: str) -> dict[str, Any]:
    """A block a layer: 64 heads in groups or none, and a width that is rounded up to a multiple of 256."""
    blocks = [(b["attention"]["n_heads_in_group"], b["ffn"]["ffn_mult"]) for b in config_of(model)["block_configs"]]
    return {
        "attention.head_count": groups([bool(group) for group, _ in blocks], 64),
        "attention.head_count_kv": [64 // group if group else 0 for group, _ in blocks],
        "feed_forward_length": [-(-int(2 * m * 8192 / 3) // 256) * 256 for _, m in blocks],
    }


def values(layers: int) -> list[str]:
    return [f"blk.{i}.attn_v.weight" for i in range(layers)]


def routed(first: int, count: int, step: int = 1) -> list[str]:
    return [f"blk.{i}.ffn_gate_inp.weight" for i in range(first, count, step)]


JAMBA = {"attention.head_count_kv": groups([i % 8 == 4 for i in range(32)], 8), **ssm(4, 16, 8192, 256)}
LFM2 = {"attention.head_count_kv": groups([i in (2, 5, 8, 10, 12, 14) for i in range(16)], 8), "shortconv.l_cache": 3}
KIMI = {"attention.head_count_kv": groups([i + 1 in (4, 8, 12, 16, 20, 24, 27) for i in range(27)], 1)}
KIMI = {**latent(192, 128), **KIMI, "kda.head_dim": 128, "ssm.conv_kernel": 4, "expert_shared_count": 1}
KIMI |= {"leading_dense_block_count": 1}
DEEPSEEK = {**latent(192, 128), "attention.q_lora_rank": 1536, "leading_dense_block_count": 3, "expert_shared_count": 1}
#: (model, architecture, what its converter writes besides, names of tensors that tell something)
CASES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("llama3.1-8b", "llama", {}, []),
    ("mixtral-8x7b", "llama", {}, []),
    ("qwen3-30b-a3b", "qwen3moe", {}, []),
    ("gemma3-27b", "gemma3", {"vocab_size": 262208}, []),
    ("gpt-oss-20b", "gpt-oss", {}, []),
    ("command-r7b", "cohere2", {}, []),
    ("olmo3-7b", "olmo2", {"attention.sliding_window_pattern": [i % 4 != 3 for i in range(32)]}, []),
    ("exaone4-32b", "exaone4", {"attention.sliding_window_pattern": 4}, []),
    ("deepseek-v3", "deepseek2", DEEPSEEK, []),
    ("glm-4.5", "glm4moe", {"block_count": 93, "nextn_predict_layers": 1, "leading_dense_block_count": 3,
                            "expert_shared_count": 1}, []),
    ("glm-4-9b", "chatglm", {"block_count": 40, "attention.head_count_kv": 2, "feed_forward_length": 13696,
                             "vocab_size": 151552, "attention.head_count": 32}, ["blk.0.attn_q.bias"]),
    ("ernie4.5-21b-a3b", "ernie4_5-moe", {"expert_count": 64, "expert_used_count": 6, "expert_shared_count": 2,
                                          "leading_dense_block_count": 1}, []),
    ("minimax-m2.5", "minimax-m2", {}, []),
    ("ling-mini-2.0", "bailingmoe2", {"expert_shared_count": 1, "leading_dense_block_count": 1},
     ["blk.0.attn_q_norm.weight"]),
    ("llama4-scout", "llama4", {"feed_forward_length": 16384, "expert_feed_forward_length": 8192,
                                "interleave_moe_layer_step": 1}, []),
    ("granite4-h-small", "granitehybrid", {**ssm(4, 128, 8192, 128, 1), "expert_shared_feed_forward_length": 1536,
     "attention.head_count_kv": groups([i in (5, 15, 25, 35) for i in range(40)], 8)}, []),
    ("falcon-h1-7b", "falcon-h1", ssm(4, 256, 3072, 24, 1), []),
    ("lfm2-1.2b", "lfm2", {**LFM2, "feed_forward_length": 8192}, []),
    ("jamba-mini", "jamba", JAMBA, routed(1, 32, 2)),
    ("nemotron-nano-9b-v2", "nemotron_h", {**by_pattern("nemotron-nano-9b-v2", "-", 15680),
     **ssm(4, 128, 10240, 128, 8)}, []),
    ("nemotron3-nano-30b", "nemotron_h_moe", {**by_pattern("nemotron3-nano-30b", "E", 1856), **ssm(4, 128, 4096, 64, 8),
     "expert_shared_feed_forward_length": 3712}, []),
    ("gemma4-e4b", "gemma4", gemma4("gemma4-e4b"), values(42)),
    ("gemma4-26b-a4b", "gemma4", gemma4("gemma4-26b-a4b"), []),
    ("gemma3n-e4b", "gemma3n", {"attention.sliding_window_pattern": sliding("gemma3n-e4b"),
     "attention.shared_kv_layers": 15, "embedding_length_per_layer_input": 256}, []),
    ("nemotron-super-49b", "deci", puzzle("nemotron-super-49b"), []),
    ("kimi-linear-48b", "kimi-linear", KIMI, []),
    ("mimo-v2-flash", "mimo2", {"block_count": 51, "nextn_predict_layers": 3, "attention.value_length": 128,
     "attention.head_count_kv": [*[8 if i % 6 != 5 and i else 4 for i in range(48)], 8, 8, 8],
     "attention.sliding_window_pattern": [*[int(i % 6 != 5 and i != 0) for i in range(48)], 1, 1, 1]}, routed(1, 48)),
    ("mamba-2.8b", "mamba", {"feed_forward_length": 0, "attention.head_count": 0, **ssm(4, 16, 5120, 160)}, []),
    ("mamba-codestral-7b", "mamba2", {"feed_forward_length": 0, "attention.head_count": 0,
     **ssm(4, 128, 8192, 128, 8)}, []),
    ("qwen3.5-27b", "qwen35", {**ssm(4, 128, 6144, 48, 16), "full_attention_interval": 4}, []),
    ("laguna-s-2.1", "laguna", {"attention.head_count": [72 if i % 4 else 48 for i in range(48)],
     "leading_dense_block_count": 1, "expert_shared_feed_forward_length": 1024}, []),
]  # fmt: skip
#: their files say nothing of the width of states, which llama.cpp keeps in 32 bits
WIDER = {"granite4-h-small", "falcon-h1-7b", "jamba-mini", "nemotron-nano-9b-v2", "mamba-2.8b", "mamba-codestral-7b"}


@pytest.mark.parametrize(("model", "architecture", "own", "tensors"), CASES, ids=[case[0] for case in CASES])
def test_a_header_says_what_the_config_of_its_model_does(
    model: str, architecture: str, own: dict[str, Any], tensors: list[str], tmp_path: Path
) -> None:
    read, known = gguf(model, architecture, own, tensors, tmp_path), catalog.model(model)
    for length in (1000, 20_000):
        mine, theirs = (kv_layout(spec, 16.0) for spec in (read, known))
        grown = [layout.stored(length) - layout.stored(length // 2) for layout in (mine, theirs)]
        assert grown[0] == grown[1]
        assert (mine.stored(length) > theirs.stored(length)) == (model in WIDER)
        assert model in WIDER or mine.stored(length) == theirs.stored(length)
    inside = sum(w.parameters for name, w in known.weights() if "tower" not in name and "projector" not in name)
    assert read.parameters == pytest.approx(inside, rel=0.002)
    assert not read.assumed


def test_window_layers_of_step_35_have_heads_of_their_own(tmp_path: Path) -> None:
    """Step-3.5: full, three windows; 4 layers here, one that drafts behind them."""
    pattern = [False, True, True, True, False]
    said = {
        "block_count": 5, "nextn_predict_layers": 1, "embedding_length": 512, "feed_forward_length": 1024,
        "context_length": 65536, "attention.head_count": [96 if s else 64 for s in pattern],
        "attention.head_count_kv": [4 if s else 8 for s in pattern], "attention.key_length": 128,
        "attention.sliding_window": 512, "attention.sliding_window_pattern": pattern, "expert_count": 8,
        "expert_used_count": 2, "expert_feed_forward_length": 128, "expert_shared_feed_forward_length": 128,
        "leading_dense_block_count": 3, "vocab_size": 1000, "swiglu_clamp_exp": [0, 0, 0, 7, 0],
    }  # fmt: skip
    path = tmp_path / "step.gguf"
    entries = {f"step35.{key}": v for key, v in said.items()}
    path.write_bytes(header({"general.architecture": "step35", **entries}, ["token_embd.weight", "output.weight"]))
    layout = kv_layout(catalog.model(str(path)), 16.0)
    assert layout.stored(4096) == (4096 * 8 + 3 * 512 * 4) * 2 * 128 * 2


def test_deepseek_v4_states_its_compression_layer_by_layer(tmp_path: Path) -> None:
    ratios = config_of("deepseek-v4-flash")["compress_ratios"]
    own = {
        "block_count": 44, "nextn_predict_layers": 1, "attention.compress_ratios": [*ratios[:43], 0],
        "attention.indexer.head_count": 64, "attention.indexer.key_length": 128, "attention.indexer.top_k": 512,
        "attention.output_lora_rank": 1024, "attention.output_group_count": 8, "hyper_connection.count": 4,
        "rope.dimension_count": 64, "attention.q_lora_rank": 1024, "expert_shared_count": 1,
    }  # fmt: skip
    read = gguf("deepseek-v4-flash", "deepseek4", own, [], tmp_path)
    known = catalog.model("deepseek-v4-flash")
    assert kv_layout(read, 16.0).stored(30_000) == kv_layout(known, 16.0).stored(30_000)


def test_an_empty_list_that_says_nothing_of_the_cache_is_left_aside(tmp_path: Path) -> None:
    assert gguf("llama3.1-8b", "llama", {"rope.dimension_sections": []}, [], tmp_path).layers


@pytest.mark.parametrize(
    ("architecture", "own", "message"),
    [
        ("llama", {"attention.head_count_kv": []}, "llama.attention.head_count_kv differs between layers"),
        (
            "llama",
            {"attention.head_count_kv": [8, 4, *[8] * 30]},
            "llama.attention.head_count_kv differs between layers",
        ),
        ("granitehybrid", {"attention.head_count_kv": [8, 0]}, "expected 32 whole numbers, a layer each"),
        ("granitehybrid", {"attention.head_count_kv": [8, 0] * 16}, "ssm.inner_size: expected a whole number"),
        ("falcon-h1", ssm(4, 128, 1000, 7, 1), "ssm.inner_size: 1000 is no multiple of 7"),
        ("jamba", {"attention.head_count_kv": [8, 8, 0, 8, *[0] * 28], **ssm(4, 16, 8192, 256)}, "at unlike distances"),
        ("gemma4", {"attention.sliding_window_pattern": [3, 4]}, "expected 32 whole numbers"),
    ],
)
def test_lists_that_make_no_sense_are_refused_in_one_line(
    architecture: str, own: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        gguf("llama3.1-8b", architecture, own, [], tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_cut_within_its_header_is_said_to_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (10).to_bytes(8, "little") + (5).to_bytes(8, "little"))
    with pytest.raises(SpecError, match="the GGUF header ends early: the file is cut"):
        catalog.model(str(path))


def part(number: int, tensors: list[str], kind: int = F16) -> bytes:
    """Return the header of one of three parts of a split file: the first says all of the model."""
    said = {"general.architecture": "llama", **{f"llama.{key}": v for key, v in WHOLE.items()}} if number == 1 else {}
    split = {"split.no": number - 1, "split.count": 3, "split.tensors.count": 4}
    return header({**said, **split}, tensors).replace(
        struct.pack("<QQI", 32, 32, F16), struct.pack("<QQI", 32, 32, kind)
    )


WHOLE = {
    "block_count": 2, "embedding_length": 64, "feed_forward_length": 128, "context_length": 4096,
    "attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": 320,
}  # fmt: skip
NVFP4 = 40


def test_a_split_file_is_read_by_its_first_part_and_the_others_beside_it(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3))
    first.write_bytes(part(1, ["token_embd.weight", "blk.0.attn_q.weight"], NVFP4))
    alone = catalog.model(str(first))
    assert not alone.tied and any("2 of 3 parts" in note for note in alone.notes)
    second.write_bytes(part(2, ["blk.1.attn_q.weight"], NVFP4))
    third.write_bytes(part(3, ["output.weight"]))
    whole = catalog.model(str(first))
    assert not whole.tied and not any("parts" in note for note in whole.notes)
    assert whole.quantization is not None and whole.quantization.bits == 4.5
    assert dict(whole.quantization.overrides) == {"embed_tokens": 4.5, "lm_head": 16}
    third.write_bytes(part(3, ["output_norm.weight"]))
    assert catalog.model(str(first)).tied
    with pytest.raises(SpecError, match="later part of a split file; give its first, m-00001-of-00003"):
        catalog.model(str(second))


@pytest.mark.parametrize(("kind", "bits"), [(39, 4.25), (40, 4.5), (41, 1.125), (42, 2.25)])
def test_the_bits_of_new_types(tmp_path: Path, kind: int, bits: float) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    path.write_bytes(part(1, ["token_embd.weight", "blk.0.attn_q.weight"], kind))
    how = catalog.model(str(path)).quantization
    assert how is not None and how.bits == bits
