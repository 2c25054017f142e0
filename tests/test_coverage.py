"""Configs people have: families with code of their own, architectures unknown to kvplan, and how they are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.architectures.reader import read_model
from kvplan.catalog.models import class_defaults
from kvplan.errors import KvplanError, SpecError, UnknownName
from kvplan.kv.layout import kv_layout
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

HERE = Source(kind="config", ref="written for this test", date="2026-11-28")
#: what most decoders state, under the names most use
SIZES: dict[str, Any] = {
    "num_hidden_layers": 6,
    "hidden_size": 512,
    "intermediate_size": 1280,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 5000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def read(config: dict[str, Any], as_family: str | None = None) -> ModelSpec:
    return read_model(
        config, name="test", where="config.json", source=HERE, classes=class_defaults(), as_family=as_family
    )


def per_token(model: ModelSpec) -> float:
    return kv_layout(model, 16).growth(1000)


# -- families whose code stands beside the checkpoint ------------------------------------------------------------------


def test_mimo_is_qwen2_and_its_drafting_layers_are_said() -> None:
    model = read({**SIZES, "model_type": "mimo", "head_dim": 64, "num_nextn_predict_layers": 1})
    assert per_token(model) == 6 * 2 * 2 * 64 * 2
    assert model.notes == ("1 multi-token-prediction layer not counted",)


def test_ling_has_wide_shared_experts_and_normed_heads() -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "num_shared_experts": 1}
    ling = {**SIZES, **experts, "model_type": "bailing_moe_v2", "head_dim": 96, "first_k_dense_replace": 1}
    assert per_token(read(ling)) == 6 * 2 * 2 * 96 * 2
    assert sum("qk_norm" in name for name, _ in read(ling).weights()) == 6
    wider = read({**ling, "moe_shared_expert_intermediate_size": 192})
    assert wider.parameters - read(ling).parameters == 5 * 3 * 512 * (192 - 96)


def test_chatglm_under_its_own_keys() -> None:
    glm = {
        "model_type": "chatglm",
        "num_layers": 14,
        "hidden_size": 2048,
        "ffn_hidden_size": 5504,
        "kv_channels": 128,
        "num_attention_heads": 16,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "padded_vocab_size": 30016,
        "seq_length": 16384,
    }
    model = read(glm)
    assert (per_token(model), model.max_context) == (14 * 2 * 2 * 128 * 2, 16384)
    attention = (2048 + 2 * 256) * (2048 + 1) + 2048 * 2048
    assert model.parameters == 2 * 30016 * 2048 + 2048 + 14 * (attention + 3 * 2048 * 5504 + 2 * 2048)
    assert per_token(read({**glm, "multi_query_attention": False})) == 14 * 2 * 16 * 128 * 2


def test_the_text_of_an_omni_model_stands_two_levels_down() -> None:
    text = {**SIZES, "model_type": "qwen2_5_omni_text"}
    model = read({"model_type": "qwen2_5_omni", "thinker_config": {"model_type": "thinker", "text_config": text}})
    assert per_token(model) == 6 * 2 * 2 * 64 * 2
    assert "only its language model (qwen2_5_omni_text) is read" in model.notes[0]


def test_ordinary_attention_in_a_file_of_latents() -> None:
    ocr = {
        **SIZES,
        "model_type": "deepseek_v2",
        "use_mla": False,
        "num_key_value_heads": 8,
        "kv_lora_rank": None,
        "qk_rope_head_dim": 0,
        "qk_nope_head_dim": 0,
        "v_head_dim": 0,
        "n_routed_experts": 16,
        "num_experts_per_tok": 4,
        "n_shared_experts": 2,
        "moe_intermediate_size": 96,
        "first_k_dense_replace": 1,
    }
    assert per_token(read(ocr)) == 6 * 2 * 8 * 64 * 2
    with pytest.raises(SpecError, match="kv_lora_rank is null"):
        read({**ocr, "use_mla": True})


def test_experts_narrower_than_the_model() -> None:
    kimi = {
        **SIZES,
        "model_type": "kimi_linear",
        "num_key_value_heads": 8,
        "moe_intermediate_size": 96,
        "num_experts": 32,
        "num_experts_per_token": 4,
        "num_shared_experts": 1,
        "kv_lora_rank": 64,
        "q_lora_rank": None,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "linear_attn_config": {"full_attn_layers": [3, 6], "head_dim": 32, "num_heads": 8, "short_conv_kernel_size": 4},
    }
    wide, narrow = read(kimi), read({**kimi, "routed_expert_hidden_size": 128})
    assert wide.parameters - narrow.parameters == 5 * (32 * 3 * 96 * (512 - 128) - 2 * 512 * 128)


# -- architectures kvplan does not know --------------------------------------------------------------------------------


def test_an_unknown_decoder_is_read_as_a_plain_one_and_that_is_said() -> None:
    known, unknown = read({**SIZES, "model_type": "llama"}), read({**SIZES, "model_type": "brandnew"})
    assert per_token(unknown) == per_token(known) and unknown.model_type == "brandnew"
    assert not known.assumed and "does not know 'brandnew'" in unknown.assumed[0]
    assert set(unknown.assumed) <= set(unknown.notes)
    alone = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    assert any("as many key/value heads" in line for line in read({**alone, "model_type": "brandnew"}).assumed)
    by_class = read({**SIZES, "architectures": ["BrandNewForCausalLM"]})
    assert "BrandNewForCausalLM" in by_class.assumed[0]


def test_an_unknown_decoder_with_experts_and_one_nested() -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    model = read({**SIZES, **experts, "model_type": "brandnew"})
    assert sum(w.parameters for name, w in model.weights() if ".experts." in name) == 6 * 8 * 3 * 64 * 512
    inside = read({"model_type": "newvl", "text_config": {**SIZES, "model_type": "brandnew"}})
    assert per_token(inside) == per_token(model) and inside.assumed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sliding_window", 4096),
        ("kv_lora_rank", 64),
        ("layer_types", ["full_attention", "linear_attention"] * 3),
        ("ssm_state_size", 16),
        ("cla_share_factor", 2),
        ("num_key_value_groups", 4),
        ("compress_ratios", [4] * 6),
        ("index_topk", 512),
        ("linear_attn_config", {"head_dim": 64}),
    ],
)
def test_an_unknown_decoder_that_hints_at_another_cache_is_refused(field: str, value: object) -> None:
    with pytest.raises(UnknownName, match=f"no architecture named 'brandnew'; its field '{field}'.*as_family=NAME"):
        read({**SIZES, "model_type": "brandnew", field: value})


@pytest.mark.parametrize(
    "harmless",
    [
        {"sliding_window": None},
        {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28},
        {"layer_types": ["full_attention"] * 6},
        {"n_group": 8, "topk_group": 4},
        {"attn_logit_softcapping": 50.0, "use_cache": True, "output_hidden_states": True},
    ],
)
def test_what_is_switched_off_hints_at_nothing(harmless: dict[str, Any]) -> None:
    assert per_token(read({**SIZES, **harmless, "model_type": "brandnew"})) == 6 * 2 * 2 * 64 * 2


def test_the_nearest_families_are_alike_in_fields_not_in_spelling() -> None:
    latents = {"kv_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32, "q_lora_rank": 96}
    experts = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_shared_experts": 1}
    with pytest.raises(UnknownName, match=r"nearest by its fields: .*deepseek_v3"):
        read({**SIZES, **latents, **experts, "model_type": "lama", "first_k_dense_replace": 1})
    with pytest.raises(UnknownName, match="states no vocab_size"):
        read({**SIZES, "model_type": "brandnew", "vocab_size": None})


def test_a_family_can_be_forced() -> None:
    windows = {**SIZES, "model_type": "brandnew", "sliding_window": 128}
    model = read(windows, as_family="mistral")
    assert per_token(model) == 0 and model.assumed == (
        "assumed: the file names 'brandnew' and is read as mistral, as asked",
    )
    assert per_token(read(windows, as_family="llama")) == 6 * 2 * 2 * 64 * 2
    inside = {"model_type": "newvl", "text_config": windows}
    assert per_token(read(inside, as_family="llama")) == 6 * 2 * 2 * 64 * 2
    with pytest.raises(KvplanError, match="as_family: no architecture named 'lama'; did you mean 'llama'"):
        read(windows, as_family="lama")


def test_the_option_and_the_document_say_what_was_assumed(tmp_path: Path, run: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "model_type": "brandnew", "sliding_window": 128}))
    refused = run("memory", "-m", str(tmp_path), "-c", "4096")
    assert refused.code == 1 and "--as NAME reads it as one of them" in refused.err
    found = run("memory", "-m", str(tmp_path), "-c", "4096", "--as", "llama", "--json")
    assert found.json["model"]["assumed"] == ["assumed: the file names 'brandnew' and is read as llama, as asked"]
    assert found.json["model"]["assumed"][0] in found.json["warnings"]


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "modernbert"])
def test_an_encoder_has_no_cache(model_type: str) -> None:
    with pytest.raises(SpecError, match=f"'{model_type}' is an encoder.*no KV cache"):
        read({**SIZES, "model_type": model_type})


# -- how long a context is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "linear", "factor": 4.0}, 4 * 40960),
        ({"rope_type": "dynamic", "factor": 2.0}, 2 * 40960),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 40960),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": float("nan")}, 4 * 40960),
    ],
)
def test_engines_scale_the_context(scaling: dict[str, Any], longest: int) -> None:
    qwen = {**SIZES, "model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling": scaling}
    assert read(qwen).max_context == longest
