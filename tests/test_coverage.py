"""Configs people have: families with code of their own, architectures unknown to kvplan, and how they are read."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.memory import memory
from kvplan.architectures import FAMILIES
from kvplan.architectures.assumed import PLAIN_ERROR
from kvplan.architectures.reader import read_model
from kvplan.architectures.tensor_formats import tensor_bits
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.catalog.shelves import document
from kvplan.errors import KvplanError, SpecError, UnknownName
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import weights
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
        config, name="test", place="config.json", source=HERE, classes=class_defaults(), as_family=as_family
    )


def per_token(model: ModelSpec) -> float:
    return kv_layout(model, 16).growth(1000)


# -- families whose code stands beside the checkpoint ------------------------------------------------------------------


def test_mimo_is_qwen2_and_its_drafting_layers_are_said() -> None:
    model = read({**SIZES, "model_type": "mimo", "head_dim": 64, "num_nextn_predict_layers": 1})
    assert per_token(model) == 6 * 2 * 2 * 64 * 2
    assert model.notes == ("1 multi-token-prediction layer not counted: speculative decoding alone runs it",)


RING = {
    "architectures": ["BailingMoeLinearV2ForCausalLM"], "model_type": "bailing_moe_linear", "hidden_size": 2048,
    "intermediate_size": 5120, "num_hidden_layers": 20, "num_attention_heads": 16, "num_key_value_heads": 4,
    "head_dim": 128, "first_k_dense_replace": 1, "num_experts": 256, "num_experts_per_tok": 8,
    "num_shared_experts": 1, "moe_intermediate_size": 512, "layer_group_size": 5, "use_qk_norm": True,
    "vocab_size": 157184, "max_position_embeddings": 131072,
}  # fmt: skip


def test_ring_linear_has_attention_in_every_fifth_layer() -> None:
    """Ring-mini-linear-2.0: 16 B parameters, 957 M of them active beside the embeddings (arXiv 2510.19338)."""
    ring = read(RING)
    assert per_token(ring) == 4 * 2 * 4 * 128 * 2
    assert ring.parameters == pytest.approx(16.4e9, rel=0.005)
    assert ring.active_parameters - 2 * 157184 * 2048 == pytest.approx(957e6, rel=0.05)
    assert kv_layout(ring, 16).per_layer(4096)[0][3] == 16 * 128 * 128 * 2
    odd = read({**RING, "num_hidden_layers": 22})  # layers beyond whole groups attend, too
    assert per_token(odd) == 6 * 2 * 4 * 128 * 2


def test_ring_2_5_has_latents_beside_lightning_attention() -> None:
    latents = {
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    }
    named = {"model_type": "bailing_hybrid", "architectures": ["BailingMoeV2_5ForCausalLM"]}
    assert per_token(read({**RING, **latents, **named})) == 4 * (512 + 64) * 2


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
    gates = {**kimi["linear_attn_config"], "use_full_rank_gate": True}
    gated = read({**kimi, "linear_attn_config": gates, "mla_use_output_gate": True})
    low_rank, inner = 32 * 512 + 256 * 32, 8 * 32
    assert gated.parameters - wide.parameters == 4 * (inner * 512 - low_rank) + 2 * inner * 512
    normed = read({**kimi, "routed_expert_hidden_size": 128, "latent_moe_use_norm": True})
    assert normed.parameters - narrow.parameters == 5 * 128


def test_sambay_stores_one_cache_of_all_tokens_for_its_upper_half() -> None:
    """Phi-4-mini-flash: 3.85 B parameters published; 8 windows, 9 state spaces, one full cache, 14 layers without."""
    flash = {
        "model_type": "phi4flash",
        "hidden_size": 2560,
        "num_attention_heads": 40,
        "num_key_value_heads": 20,
        "num_hidden_layers": 32,
        "intermediate_size": 10240,
        "mb_per_layer": 2,
        "sliding_window": 512,
        "vocab_size": 200064,
        "tie_word_embeddings": True,
    }
    model = read(flash)
    layout = kv_layout(model, 16)
    assert per_token(model) == 2 * 20 * 64 * 2
    assert round(model.parameters / 1e9, 2) == 3.85
    window, space = 8 * 512 * 2 * 20 * 64 * 2, 9 * 5120 * (16 + 3) * 2
    assert layout.stored(100_000) == pytest.approx(100_000 * 5120 + window + space, rel=1e-3)


def test_step_3_shares_one_key_and_value() -> None:
    """Step 3's language model: 316 B parameters published, 61 layers of one key and one value 256 wide."""
    step = {
        "model_type": "step3_text",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "num_attention_heads": 64,
        "num_attention_groups": 1,
        "num_hidden_layers": 61,
        "vocab_size": 128815,
        "moe_intermediate_size": 5120,
        "moe_num_experts": 48,
        "moe_top_k": 3,
        "share_q_dim": 2048,
        "share_expert_dim": 5120,
        "head_dim": 256,
        "moe_layers_enum": list(range(4, 60)),
    }
    assert per_token(read(step)) == 61 * 2 * 256 * 2
    assert round(read(step).parameters / 1e9) == 316
    with pytest.raises(SpecError, match="moe_layers_enum must be a whole number"):
        read({**step, "moe_layers_enum": "4,five"})


def test_step_35_as_its_file_is_written() -> None:
    """Step-3.5-Flash: 196 B parameters published; lists go on for the three layers that draft tokens."""
    flash = {
        "model_type": "step3p5",
        "hidden_size": 4096,
        "intermediate_size": 11264,
        "num_hidden_layers": 45,
        "num_attention_heads": 64,
        "num_attention_groups": 8,
        "head_dim": 128,
        "vocab_size": 128896,
        "sliding_window": 512,
        "layer_types": ["full_attention", *["sliding_attention"] * 3] * 12,
        "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8},
        "moe_layers_enum": ",".join(map(str, range(3, 45))),
        "moe_num_experts": 288,
        "moe_top_k": 8,
        "moe_intermediate_size": 1280,
        "share_expert_dim": 1280,
        "num_nextn_predict_layers": 3,
    }
    model = read(flash)
    assert per_token(model) == 12 * 2 * 8 * 128 * 2
    assert round(model.parameters / 1e9) == 197
    assert model.notes == ("3 multi-token-prediction layers not counted: speculative decoding alone runs them",)


def test_rwkv_7_keeps_a_matrix_a_head() -> None:
    """RWKV-7 1.5B (1.53 B parameters published): 32 heads of 64 x 64 numbers in 32 bits, two tokens in 16."""
    goose = {
        "model_type": "rwkv7",
        "hidden_size": 2048,
        "head_dim": 64,
        "num_hidden_layers": 24,
        "decay_low_rank_dim": 96,
        "gate_low_rank_dim": 256,
        "a_low_rank_dim": 96,
        "v_low_rank_dim": 64,
        "vocab_size": 65536,
    }
    model = read(goose)
    assert kv_layout(model, 16).stored(5000) == 24 * (32 * 64 * 64 * 4 + 2 * 2048 * 2)
    assert round(model.parameters / 1e9, 2) == 1.53


def test_rwkv_6_keeps_a_matrix_a_head() -> None:
    """RWKV-6 World 1.6B and RWKV-5 World 3B by their names: heads of 64 x 64 numbers in 32 bits, two tokens in 16."""
    finch = {"model_type": "rwkv6", "hidden_size": 2048, "head_size": 64, "num_hidden_layers": 24, "vocab_size": 65536}
    eagle = {**finch, "model_type": "rwkv5", "hidden_size": 2560, "num_hidden_layers": 32}
    model = read(finch)
    assert kv_layout(model, 16).stored(5000) == 24 * (32 * 64 * 64 * 4 + 2 * 2048 * 2)
    assert (round(model.parameters / 1e9, 2), round(read(eagle).parameters / 1e9, 2)) == (1.6, 3.06)


def test_plamo_2_attends_in_every_other_layer() -> None:
    """PLaMo 2 8B (9.1 B parameters published): 16 of 32 layers cache 4 heads of 128, within a window but for one."""
    plamo = {
        "model_type": "plamo2", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 4, "hidden_size_per_head": 128, "mamba_num_heads": 64,
        "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_step": 2, "attention_window_size": 2048,
        "full_attention_idx": [31], "vocab_size": 100000, "max_position_embeddings": 10485760,
        "tie_word_embeddings": True,
    }  # fmt: skip
    model = read(plamo)
    assert round(model.parameters / 1e9, 1) == 9.1
    state = 16 * (8192 * 3 + 8192 * 64) * 2
    assert kv_layout(model, 16).stored(10_000) == state + (15 * 2048 + 10_000) * 2 * 4 * 128 * 2


def test_jais_is_gpt_2_with_a_gate() -> None:
    jais = {
        "model_type": "jais",
        "n_embd": 5120,
        "n_head": 40,
        "n_layer": 40,
        "n_inner": 13653,
        "n_positions": 2048,
        "position_embedding_type": "alibi",
        "activation_function": "swiglu",
        "vocab_size": 84992,
    }
    model = read(jais)
    assert per_token(model) == 40 * 2 * 5120 * 2
    layer = 4 * 5120 * 5121 + 2 * 13653 * 5121 + 5120 * 13654 + 4 * 5120
    assert model.parameters == 40 * layer + 84992 * 5120 + 2 * 5120
    assert read({**jais, "position_embedding_type": "learned"}).parameters == model.parameters + 2048 * 5120


def test_own_files_of_mistral() -> None:
    """Published: Pixtral 12B has 12.7 B parameters with its eyes, Mistral Large 3 has 675 B."""
    eyes = {"hidden_size": 1024, "image_size": 1024, "patch_size": 16, "intermediate_size": 4096}
    pixtral = {
        "dim": 5120,
        "n_layers": 40,
        "head_dim": 128,
        "hidden_dim": 14336,
        "n_heads": 32,
        "n_kv_heads": 8,
        "vocab_size": 131072,
        "vision_encoder": {**eyes, "num_hidden_layers": 24, "num_attention_heads": 16},
    }
    model = read(pixtral)
    assert (model.model_type, per_token(model), round(model.parameters / 1e9, 1)) == ("llava", 163840, 12.7)
    large = {
        **pixtral,
        "dim": 7168,
        "n_layers": 61,
        "hidden_dim": 16384,
        "n_heads": 128,
        "n_kv_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "moe": {"num_experts": 128, "num_experts_per_tok": 4, "expert_hidden_dim": 4096, "num_shared_experts": 1,
                "first_k_dense_replace": 3},
        "vision_encoder": {"hidden_size": 1664, "image_size": 1540, "patch_size": 14, "intermediate_size": 8192,
                           "num_hidden_layers": 48, "num_attention_heads": 16, "mm_projector_id": "patch_merge",
                           "spatial_merge_size": 2, "adapter_bias": False},
    }  # fmt: skip
    model = read(large)
    assert (model.model_type, round(model.parameters / 1e9)) == ("mistral3", 676)
    assert per_token(model) == 61 * (512 + 64) * 2


def test_a_thinker_is_read_with_its_towers() -> None:
    """Qwen2.5-Omni 7B: its thinker has 8.93 B parameters."""
    thinker = {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": {
            "model_type": "qwen2_5_omni_text", "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
        },
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
    }  # fmt: skip
    model = read({"model_type": "qwen2_5_omni", "thinker_config": thinker, "talker_config": {}})
    assert round(model.parameters / 1e9, 2) == 8.93
    assert set(model.modalities) == {"text", "image", "audio"}
    assert "talker are not counted" in model.notes[0]


def test_internvl_under_its_own_names() -> None:
    """InternViT-300M beside Qwen2.5 7B: 304 M parameters, and a projector of 27.5 M."""
    llm = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
           "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 151674}  # fmt: skip
    eyes = {"model_type": "intern_vit_6b", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "image_size": 448, "patch_size": 14}  # fmt: skip
    whole = read({"model_type": "internvl_chat", "llm_config": llm, "vision_config": eyes})
    tower = sum(w.parameters for w in whole.outer if w.name.startswith("vision_tower"))
    beside = sum(w.parameters for w in whole.outer if w.name.startswith("multi_modal_projector"))
    assert (round(tower / 1e6), round(beside / 1e6, 1)) == (304, 27.5)
    assert per_token(whole) == 28 * 2 * 4 * 128 * 2


def test_the_first_chatglm_has_a_key_a_head() -> None:
    """ChatGLM 6B: 6.17 B parameters published, with the image tokens of its first vocabulary; biases and no gate."""
    glm = {
        "model_type": "chatglm", "hidden_size": 4096, "inner_hidden_size": 16384, "num_attention_heads": 32,
        "num_layers": 28, "vocab_size": 130528, "max_sequence_length": 2048, "position_encoding_2d": True,
    }  # fmt: skip
    model = read(glm)
    assert (per_token(model), model.max_context) == (28 * 2 * 4096 * 2, 2048)
    layer = 4 * 4096 * 4097 + 2 * 4096 * 16384 + 16384 + 4096 + 4 * 4096
    assert model.parameters == 28 * layer + 2 * 130528 * 4096 + 2 * 4096


def test_telechat_has_biases_behind_its_blocks() -> None:
    chat = {"model_type": "telechat", "hidden_size": 512, "n_head": 8, "n_layer": 6, "num_key_value_heads": 4,
            "ffn_hidden_size": 1280, "vocab_size": 5000, "seq_length": 8192, "logn": True}  # fmt: skip
    model = read(chat)
    assert (per_token(model), model.max_context) == (6 * 2 * 4 * 64 * 2, 8192)
    layer = 3 * 512 * 512 + 512 + 3 * 512 * 1280 + 512 + 2 * 512
    assert model.parameters == 6 * layer + 2 * 5000 * 512 + 512
    assert per_token(read({k: v for k, v in chat.items() if k != "num_key_value_heads"})) == 6 * 2 * 512 * 2


@pytest.mark.parametrize(("family", "norm"), [("xverse", 1), ("orion", 2)])
def test_llama_under_other_names(family: str, norm: int) -> None:
    model = read({**SIZES, "model_type": family, "max_sequence_length": 4096, "max_tokenizer_truncation": 6144})
    layer = 2 * 512 * 512 + 2 * 512 * 128 + 3 * 512 * 1280
    assert model.parameters == 6 * (layer + 2 * norm * 512) + 2 * 5000 * 512 + norm * 512
    assert per_token(model) == 6 * 2 * 2 * 64 * 2


def test_openelm_widens_with_depth() -> None:
    """OpenELM 270M: 271.5 M parameters published (arXiv 2404.14619)."""
    elm = {
        "model_type": "openelm", "model_dim": 1280, "num_transformer_layers": 16, "head_dim": 64,
        "num_query_heads": [12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20],
        "num_kv_heads": [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5],
        "ffn_multipliers": [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0],
        "ffn_dim_divisor": 256, "ffn_with_glu": True, "normalize_qk_projections": True, "vocab_size": 32000,
        "share_input_output_layers": True, "max_context_length": 2048,
    }  # fmt: skip
    model = read(elm)
    assert round(model.parameters / 1e6, 1) == 271.5
    assert (per_token(model), model.max_context) == (63 * 2 * 64 * 2, 2048)
    assert read({**elm, "share_input_output_layers": False}).parameters == model.parameters + 32000 * 1280
    for change, message in (
        ({"num_kv_heads": [5, *elm["num_kv_heads"][1:]]}, "num_kv_heads 5 must divide num_query_heads 12"),
        ({"ffn_multipliers": [0.5]}, "ffn_multipliers has 1 entries for 16 layers"),
        ({"ffn_multipliers": ["x", *elm["ffn_multipliers"][1:]]}, "ffn_multipliers must be positive numbers"),
        ({"num_kv_heads": None}, "missing num_kv_heads"),
    ):
        with pytest.raises(SpecError, match=message):
            read({**elm, **change})


def test_deci_has_a_number_of_key_heads_a_layer() -> None:
    """DeciLM 7B: 7.04 B parameters published, 67 key/value heads in 32 layers."""
    keys = [4, 4, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 4, 4, 4, 4, 2, 2]
    deci = {**SIZES, "model_type": "deci", "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32000,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads_per_layer": keys}  # fmt: skip
    model = read(deci)
    assert round(model.parameters / 1e9, 2) == 7.04
    assert per_token(model) == sum(keys) * 2 * 128 * 2
    with pytest.raises(SpecError, match="num_key_value_heads_per_layer 3 must divide num_attention_heads 32"):
        read({**deci, "num_key_value_heads_per_layer": [3, *keys[1:]]})


def test_ouro_caches_every_run_of_its_layers() -> None:
    """Ouro 1.4B: 1.43 B parameters published; 24 layers run four times a token, each with a cache of its own."""
    ouro = {**SIZES, "model_type": "ouro", "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16,
            "num_key_value_heads": 16, "num_hidden_layers": 24, "vocab_size": 49152, "total_ut_steps": 4}  # fmt: skip
    model = read(ouro)
    assert round(model.parameters / 1e9, 2) == 1.43
    assert per_token(model) == 4 * 24 * 2 * 2048 * 2
    assert model.notes == ("its layers run 4 times a token; times count their matrices once",)


def test_arctic_has_experts_beside_a_dense_feed_forward() -> None:
    """Snowflake Arctic: 480 B parameters published, 17 B of them active."""
    arctic = {
        "model_type": "arctic", "hidden_size": 7168, "intermediate_size": 4864, "num_hidden_layers": 35,
        "num_attention_heads": 56, "num_key_value_heads": 8, "num_local_experts": 128, "num_experts_per_tok": 2,
        "moe_layer_frequency": 1, "parallel_attn_mlp_res": True, "use_residual": True, "vocab_size": 32000,
    }  # fmt: skip
    model = read(arctic)
    assert (round(model.parameters / 1e9), round(model.active_parameters / 1e9)) == (479, 17)
    assert per_token(model) == 35 * 2 * 8 * 128 * 2


def test_phi_3_small_keeps_what_its_blocks_skip() -> None:
    """Phi-3-small: 7.39 B parameters published; its block-sparse layers keep the keys and values of all tokens."""
    small = {
        "model_type": "phi3small", "hidden_size": 4096, "ff_intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 100352, "max_position_embeddings": 8192,
        "dense_attention_every_n_layers": 2, "blocksparse_block_size": 64,
    }  # fmt: skip
    model = read(small)
    assert round(model.parameters / 1e9, 2) == 7.39
    assert per_token(model) == 32 * 2 * 8 * 128 * 2


def test_old_spellings_of_known_families() -> None:
    bloom = {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880}
    assert per_token(read(bloom)) == 24 * 2 * 1024 * 2
    assert round(read(bloom).parameters / 1e6) == 559
    epoch = {**SIZES, "model_type": "stablelm_epoch", "rope_pct": 0.25, "norm_eps": 1e-5, "rotary_scaling_factor": 1.0}
    assert read(epoch).parameters == read({**SIZES, "model_type": "stablelm"}).parameters


def test_mambas_own_format_with_attention() -> None:
    """mamba2attn-2.7b: 2.7 B parameters, of 64 layers six attend; a short convolution mixes their q, k and v."""
    hybrid: dict[str, Any] = {
        "d_model": 2560, "d_intermediate": 0, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"},
        "attn_layer_idx": [9, 18, 27, 36, 45, 56], "pad_vocab_size_multiple": 16,
        "attn_cfg": {"causal": True, "d_conv": 4, "head_dim": 128, "num_heads": 30, "out_proj_bias": False,
                     "qkv_proj_bias": False, "rotary_emb_dim": 64},
    }  # fmt: skip
    model = read(hybrid)
    assert round(model.parameters / 1e9, 1) == 2.7
    assert per_token(model) == 6 * 2 * 30 * 128 * 2
    tails = [s for _, kind, _, s in kv_layout(model, 16).per_layer(4096) if kind == "state"]
    assert min(tails) == 3 * 30 * 128 * 3 * 2  # three tokens of q, k and v
    wider = read({**hybrid, "d_intermediate": 1000})
    assert wider.parameters - model.parameters == 64 * (3 * 2560 * 1024 + 2560)
    with pytest.raises(SpecError, match="num_heads_kv 7 must divide num_heads 30"):
        read({**hybrid, "attn_cfg": {**hybrid["attn_cfg"], "num_heads_kv": 7}})


def test_a_file_that_names_nothing_is_read_where_it_states_all() -> None:
    model = read(SIZES)
    assert per_token(model) == 6 * 2 * 2 * 64 * 2
    assert model.assumed[0].startswith("assumed: kvplan does not know the architecture, which the file does not name")
    with pytest.raises(UnknownName, match="kv_compress_dim"):
        read({**SIZES, "kv_compress_dim": 64})
    with pytest.raises(SpecError, match="missing model_type"):
        read({k: v for k, v in SIZES.items() if k != "vocab_size"})


# -- architectures kvplan does not know --------------------------------------------------------------------------------


def test_times_of_an_unknown_decoder_are_less_sure(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "model_type": "brandnew"}), "utf-8")
    known, unknown = (
        kvplan.estimate(str(tmp_path), "4k", as_family=family, gpus="h100", techniques="fp8", on="2026-11-24").rows[0]
        for family in ("llama", None)
    )
    assert known.feasible and unknown.spread[1] == pytest.approx(1.28 * known.spread[1])
    assert unknown.spread[0] == pytest.approx(known.spread[0] / 1.28)


@pytest.mark.parametrize("name", ["dbrx", "nemotron-super-49b"])
def test_nested_fields_that_change_layers_are_not_overlooked(name: str) -> None:
    """Read as plain decoders, these would have 6 and 13 times their cache."""
    config = {k: v for k, v in catalog.model(name).config.items() if k != "architectures"}
    with pytest.raises(UnknownName, match=r"attn_config|block_configs"):
        read({**config, "model_type": "brandnew"})


def test_shapes_of_the_catalogue_read_as_plain_have_their_own_cache() -> None:
    """Where such a file is answered at all, its cache is right, and 8 in 10 have parameters within PLAIN_ERROR."""
    ratios = []
    for name in catalog.names("models"):
        own = catalog.model(name)
        config = {k: v for k, v in own.config.items() if k != "architectures"}
        try:
            plain = read({**config, "model_type": "brandnew"})
        except KvplanError:
            continue
        if "text_config" not in config:
            assert kv_layout(plain, 16).stored(32_768) == kv_layout(own, 16).stored(32_768), name
            ratios.append(plain.parameters / own.parameters)
    within = sum(1 / PLAIN_ERROR <= ratio <= PLAIN_ERROR for ratio in ratios)
    assert len(ratios) > 60 and within >= 0.8 * len(ratios)


def test_windows_of_an_unknown_decoder_are_read_where_every_layer_states_its_kind() -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    listed = {**SIZES, "model_type": "brandnew", "layer_types": kinds, "sliding_window": 512}
    model = read(listed)
    assert per_token(model) == 3 * 2 * 2 * 64 * 2
    assert kv_layout(model, 16).stored(8000) == (3 * 8000 + 3 * 512) * 2 * 2 * 64 * 2
    assert "as layer_types lists it" in model.assumed[0]
    for odd in ({"layer_types": kinds[:5]}, {"sliding_window": None}, {"layer_types": ["odd_attention"] * 6}):
        with pytest.raises(UnknownName, match=r"sliding_window|layer_types"):
            read({**listed, **odd})


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
    ("field", "value"),
    [
        ("attn_pattern", "LLLG"),
        ("local_layers", [0, 1, 2]),
        ("global_every", 4),
        ("attention_span", 2048),
        ("sparse_topk", 2048),
        ("linear_layers_ratio", 7),
        ("token_mixer", "gdn"),
        ("self_decoder_layers", 12),
        ("hyena_order", 2),
        ("keep_last_n", 1024),
        ("recent_tokens", 1024),
        ("lookback", 512),
        ("max_span", 512),
        ("segment_length", 512),
        ("dilation", 2),
        ("kv_cache_dtype", "fp8"),
        ("add_swa_attention_sink_bias", True),
        ("add_cross_attention", True),
        ("recurrent_depth", 4),
        ("H_cycles", 2),
        ("mixers", [{"kind": "gdn"}]),
    ],
)
def test_a_field_that_kvplan_does_not_know_is_named_and_not_overlooked(field: str, value: object) -> None:
    unknown = {**SIZES, "model_type": "brandnew", field: value}
    with pytest.raises(UnknownName, match=f"its field '{field}' may mean a cache.*as_family=NAME"):
        read(unknown)
    assert per_token(read(unknown, as_family="llama")) == 6 * 2 * 2 * 64 * 2


@pytest.mark.parametrize("name", ["glm-4.5-air", "glm-4.5", "glm-5.2", "deepseek-r1", "exaone4.5-33b"])
def test_next_token_layers_that_are_not_counted_are_said(name: str) -> None:
    assert "1 multi-token-prediction layer not counted: speculative decoding alone runs it" in catalog.model(name).notes


@pytest.mark.parametrize(
    ("field", "layers"),
    [("mtp_num_hidden_layers", 1), ("num_mtp_modules", 3), ("num_mtp_layers", 2), ("mtp_num_layers", 1)],
)
def test_next_token_layers_are_said_whatever_the_file_calls_them(field: str, layers: int) -> None:
    many, them = ("s", "them") if layers > 1 else ("", "it")
    said = f"{layers} multi-token-prediction layer{many} not counted: speculative decoding alone runs {them}"
    assert said in read({**SIZES, "model_type": "qwen3", field: layers}).notes
    assert said in read({"model_type": "qwen3_5", "text_config": {**SIZES, field: layers}}).notes
    assert not any("multi-token" in n for n in read({**SIZES, "model_type": "qwen3", field: 0}).notes)


def test_several_such_fields_are_named_together() -> None:
    odd = {f"odd_{letter}": 1 for letter in "abcdef"}
    with pytest.raises(UnknownName, match="its fields 'odd_a', 'odd_b', 'odd_c', 'odd_d' and 2 more may mean"):
        read({**SIZES, "model_type": "brandnew", **odd})
    with pytest.raises(UnknownName, match="its fields 'odd_a' and 'odd_b' may mean"):
        read({**SIZES, "model_type": "brandnew", "odd_a": 1, "odd_b": 2})


def test_ordinary_fields_of_a_decoder_are_no_wall() -> None:
    """What transformers' classes of plain decoders write beside their sizes, and what older files hold."""
    usual = {
        "architectures": ["BrandNewForCausalLM"], "attention_bias": False, "attention_dropout": 0.1,
        "auto_map": {"a": "b.C"}, "bos_token_id": 1, "eos_token_id": [2, 3], "decoder_start_token_id": 1,
        "hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-6, "layer_norm_epsilon": 1e-5,
        "rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}, "partial_rotary_factor": 0.5,
        "tie_word_embeddings": True, "use_cache": True, "transformers_version": "5.24.0", "max_length": 20, "top_k": 50,
        "router_aux_loss_coef": 0.01, "output_router_logits": True, "id2label": {"0": "L"}, "pretraining_tp": 1,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "scale_emb": 12,
        "qkv_bias": True, "resid_pdrop": 0.1, "num_nextn_predict_layers": 1, "logits_scaling": 8.0,
    }  # fmt: skip
    assert per_token(read({**SIZES, "model_type": "brandnew", **usual})) == 6 * 2 * 2 * 64 * 2


def test_most_plain_decoders_of_transformers_are_read_under_an_unknown_name() -> None:
    """All of those that are answered have their own cache."""
    pytest.importorskip("transformers", minversion="5.20")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    answered = []
    for stated in sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(FAMILIES)):
        try:
            config = CONFIG_MAPPING[stated]().to_dict()
            own = read(config)
            plain = read({**config, "model_type": "brandnew", "architectures": None})
        except (KvplanError, ValueError, TypeError):
            continue
        answered.append(stated)
        assert kv_layout(plain, 16).stored(32_768) == kv_layout(own, 16).stored(32_768), stated
    assert len(answered) >= 60  # 72 with transformers 5.24


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
    with pytest.raises(UnknownName, match=r"nearest by its fields: deepseek_v3, "):
        read({**SIZES, **latents, **experts, "model_type": "lama", "first_k_dense_replace": 1})
    with pytest.raises(UnknownName, match=r"nearest by its fields: llama, "):
        read({**SIZES, "model_type": "brandnew", "kv_store_limit": 4})
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


# -- how checkpoints are stored ----------------------------------------------------------------------------------------

LLAMA = {**SIZES, "model_type": "llama", "tie_word_embeddings": False}
#: elements of one layer's matrices, of the embedding (as many as the head), and of all norms
ATTENTION, MLP, TABLE, NORMS = 2 * 512 * 512 + 2 * 128 * 512, 3 * 1280 * 512, 5000 * 512, 13 * 512


def held(block: dict[str, Any], key: str = "quantization_config") -> float:
    return weights(read({**LLAMA, key: block})).total


def stored(attention: float, mlp: float, *, embedding: float = 16, head: float = 16) -> float:
    """Return the bytes of LLAMA at these bits per element. [B]"""
    return (6 * (ATTENTION * attention + MLP * mlp) + TABLE * (embedding + head) + NORMS * 16) / 8


def test_mlx_quantises_the_embedding_and_the_head_too() -> None:
    affine = {"group_size": 64, "bits": 4}
    assert held(affine, "quantization") == held(affine) == stored(4.5, 4.5, embedding=4.5, head=4.5)
    own = {**affine, "lm_head": {"group_size": 64, "bits": 8}, "model.embed_tokens": False}
    assert held(own) == stored(4.5, 4.5, embedding=16, head=8.5)
    assert held({"group_size": 32, "bits": 4, "mode": "mxfp4"}) == stored(4.25, 4.25, embedding=4.25, head=4.25)
    layers = {f"model.layers.{i}.mlp.{n}_proj": {"group_size": 64, "bits": 6} for i in range(6) for n in ("up", "down")}
    assert held({**affine, **layers}) == stored(4.5, (4.5 + 2 * 6.5) / 3, embedding=4.5, head=4.5)


FP8 = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}
MXFP4 = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}


def test_quark_per_tensor_and_in_groups() -> None:
    fp8 = {
        "quant_method": "quark",
        "global_quant_config": {"weight": FP8, "input_tensors": FP8},
        "exclude": ["lm_head"],
    }
    assert held(fp8) == stored(8, 8)
    how = read({**LLAMA, "quantization_config": fp8}).quantization
    assert how is not None and (how.compute, how.kv_bits) == (8, None)
    cached = {**fp8, "layer_quant_config": {"*k_proj": {"weight": FP8, "output_tensors": FP8}}}
    how = read({**LLAMA, "quantization_config": cached}).quantization
    assert how is not None and how.kv_bits == 8
    mxfp4 = {**fp8, "global_quant_config": {"weight": MXFP4, "input_tensors": MXFP4}}
    assert held(mxfp4) == stored(4.25, 4.25)
    mixed = {**mxfp4, "layer_quant_config": {"*self_attn*": {"weight": FP8}}}
    assert held(mixed) == stored(8, 4.25)
    assert held({**mxfp4, "exclude": ["re:.*self_attn.*"]}) == stored(16, 4.25)


def test_modelopt_mixed_by_layer() -> None:
    def entry(algorithm: str) -> dict[str, Any]:
        return {"quant_algo": algorithm, "group_size": 16}

    listed = {f"model.layers.{i}.self_attn.{n}_proj": entry("FP8") for i in range(3) for n in "qkvo"}
    listed |= {f"model.layers.{i}.mlp.{n}_proj": entry("NVFP4") for i in range(6) for n in ("gate", "up", "down")}
    block = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    assert held(block) == stored((3 * 8 + 3 * 16) / 6, 4.5)
    nested = {name.replace("model.", "model.language_model.", 1): how for name, how in listed.items()}
    assert held({**block, "quantized_layers": nested}) == held(block)


def test_experts_listed_one_by_one_are_read_at_once() -> None:
    experts = {"num_experts": 64, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    listed = {
        f"model.layers.{i}.mlp.experts.{e}.{n}_proj": {"quant_algo": "NVFP4"}
        for i in range(6)
        for e in range(64)
        for n in ("gate", "up", "down")
    }
    block = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    moe = {**LLAMA, **experts, "model_type": "qwen3_moe", "head_dim": 64, "decoder_sparse_step": 1}
    plain, mixed = read(moe), read({**moe, "quantization_config": block})
    routed = 6 * 64 * 3 * 32 * 512
    assert weights(plain).total - weights(mixed).total == routed * (16 - 4.5) / 8
    assert mixed.quantization is not None and len(mixed.quantization.overrides) == 1


@pytest.mark.parametrize(
    ("block", "bits", "head"),
    [
        ({"quant_method": "exl2", "bits": 4.25, "head_bits": 6}, 4.25, 6),
        ({"quant_method": "exl3", "bits": 3.0, "head_bits": 8}, 3, 8),
        ({"quant_method": "marlin", "group_size": 128}, 4.125, 16),
        ({"quant_method": "auto-round", "packing_format": "mlx", "bits": 4, "group_size": 64}, 4.5, 16),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, 4 + 20 / 128, 16),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}}, 8, 16),
    ],
)
def test_other_formats(block: dict[str, Any], bits: float, head: float) -> None:
    assert held(block) == pytest.approx(stored(bits, bits, head=head))


#: Q4_K_M is 4.89 bits over Llama 3.1 8B, with an embedding of 4.5 and a head of 6.5625: what its layers hold
LAYERS_Q4_K_M = (4.89 * 8.0303 - (4.5 + 6.5625) * 0.5253) / (8.0303 - 2 * 0.5253)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [  # cards of ISTA-DASLab: 4.1 GB of Llama 3 8B, 2.4 and 2.2 of Llama 2 7B with one codebook and two
        ("ISTA-DASLab/Meta-Llama-3.1-8B-Instruct-AQLM-PV-2Bit-1x16-hf", 4.1),
        ("ISTA-DASLab/Llama-2-7b-AQLM-2Bit-1x16-hf", 2.4),
        ("ISTA-DASLab/Llama-2-7b-AQLM-2Bit-2x8-hf", 2.2),
    ],
)
def test_names_of_aqlm_say_its_codebooks(name: str, gigabytes: float) -> None:
    assert weights(catalog.model(name), None).total / 1e9 == pytest.approx(gigabytes, abs=0.06)


def test_mxfp4_in_gguf_is_of_experts_alone() -> None:
    """gpt-oss-20b: 11,536.18 MiB (lmstudio-bug-tracker#900), of which biases are kept in 32 bits, not 16."""
    for name in ("ggml-org/gpt-oss-20b-GGUF:MXFP4", "noctrex/gpt-oss-20b-MXFP4_MOE-GGUF"):
        model = catalog.model(name)
        assert weights(model, None).total / 2**20 == pytest.approx(11_536.18, rel=0.004)
        assert model.name == "gpt-oss-20b" and "add one as in" not in " ".join(model.notes)


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("llama3.1:70b-instruct-q4_0", 37.22),  # as llama.cpp prints it (ollama/ollama#6279)
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M", 4.58),  # 4.92 GB on its card
    ],
)
def test_a_mixture_counts_embedding_and_head_apart(name: str, gib: float) -> None:
    assert weights(catalog.model(name), None).total / 2**30 == pytest.approx(gib, rel=0.007)


# -- names people type -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base", "method", "bits"),
    [
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama3.1-8b", "fp8", 8 + 32 / 128**2),
        ("neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8", "llama3.1-70b", "fp8", 8 + 32 / 128**2),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w4a16", "qwen2.5-7b", "int4", 4 + 20 / 128),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8", "qwen2.5-7b", "w8a8", 8 + 32 / 8192),
        ("someone/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama3.1-8b", "bnb-4bit", 4.5),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama3.1-8b", "bnb-4bit", 4.127),
        ("unsloth/Llama-3.1-8B-Instruct-unsloth-bnb-4bit", "llama3.1-8b", "bnb-4bit", 4.5),
        ("TheBloke/Llama-2-70B-Chat-AWQ", "llama2-70b", "int4", 4 + 20 / 128),
        ("Qwen/Qwen3-235B-A22B-GPTQ-Int4", "qwen3-235b-a22b", "int4", 4 + 20 / 128),
        ("Qwen3.6-27B-GPTQ-8bit", "qwen3.5-27b", "int8", 8.125),
        ("mlx-community/Qwen3-8B-4bit", "qwen3-8b", "mlx", 4.5),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-Q4_K_M-GGUF", "llama3.1-8b", "q4-k-m", LAYERS_Q4_K_M),
        ("Qwen3.6-35B-A3B [QuantTrio-AWQ]", "qwen3.5-35b-a3b", "int4", 4 + 20 / 128),
        ("Laguna-S-2.1 [poolside/Laguna-S-2.1-INT4]", "laguna-s-2.1", "int4", 4 + 20 / 128),
    ],
)
def test_uploads_have_the_shape_of_the_model_and_the_format_of_the_ending(
    name: str, base: str, method: str, bits: float
) -> None:
    model, shape = catalog.model(name), catalog.model(base)
    assert (model.name, model.layers) == (base, shape.layers)
    assert model.quantization is not None
    assert (model.quantization.method, model.quantization.bits) == (method, pytest.approx(bits))
    assert f"the shape of {base}, with {method} weights" in model.notes[0] and not model.assumed


@pytest.mark.parametrize(
    ("name", "base", "weights"),
    [
        ("NousResearch/Hermes-4-70B", "llama3.1-70b", "16 bits (bfloat16)"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3.1-24b", "16 bits (bfloat16)"),
        ("lmsys/vicuna-13b-v1.5", "llama2-13b", "16 bits (float16)"),
        ("Qwen3.6-27B", "qwen3.5-27b", "16 bits (bfloat16)"),
        ("openai/gpt-oss-safeguard-20b", "gpt-oss-20b", "4.25 bits (mxfp4)"),
        ("Qwen/QwQ-32B", "qwen2.5-32b", "16 bits (bfloat16)"),
        ("nvidia/OpenReasoning-Nemotron-14B", "qwen2.5-14b", "16 bits (bfloat16)"),
        ("tngtech/DeepSeek-TNG-R1T2-Chimera", "deepseek-r1", "8.002 bits (fp8)"),
    ],
)
def test_a_model_made_from_another_says_whose_shape_and_weights_are_counted(name: str, base: str, weights: str) -> None:
    model = catalog.model(name)
    assert model.name == base
    assert model.notes[0].startswith("'") and f"is read as {base}" in model.notes[0]
    assert model.notes[0].endswith(f"its weights are counted in {weights}")
    assert not any("is read as" in note for note in catalog.model(base).notes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acme/Dolphin3.0-Llama3.1-8B", "the shape of llama3.1-8b, with weights of 16 bits (bfloat16)"),
        ("acme/Tuned-gpt-oss-20b", "the shape of gpt-oss-20b, with weights of 4.25 bits (mxfp4)"),
        ("unsloth/gpt-oss-20b-BF16", "the shape of gpt-oss-20b, with weights of 16 bits (bfloat16)"),
    ],
)
def test_a_name_that_ends_with_no_format_says_what_is_counted(name: str, said: str) -> None:
    assert said in catalog.model(name).notes[0]


@pytest.mark.parametrize(
    ("name", "gib", "cache"),
    [
        ("nvidia/Gemma-4-31B-IT-NVFP4", 30.4, 8.0),
        ("nvidia/Qwen3.6-27B-NVFP4", 19.6, 8.0),
        ("nvidia/MiniMax-M3-NVFP4", 232.8, None),
        ("nvidia/Qwen3-235B-A22B-NVFP4", 124.9, 8.0),
        ("nvidia/Kimi-K2.6-NVFP4", 554.3, 8.0),
        ("nvidia/DeepSeek-V3.1-NVFP4", 359.8, 8.0),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", 67.7, 8.0),
        ("nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4", 17.6, 8.0),
    ],
)
def test_an_upload_whose_config_was_read_has_its_own_widths_and_cache(
    name: str, gib: float, cache: float | None
) -> None:
    """GiB as kvplan reads the whole config.json or hf_quant_config.json of the upload."""
    model = catalog.model(name)
    assert weights(model).total / 2**30 == pytest.approx(gib, abs=0.06)
    assert model.quantization is not None and model.quantization.kv_bits == cache
    assert "with its own quantization_config" in model.notes[0] and not model.assumed


@pytest.mark.parametrize(
    ("name", "gib"),
    [("Inferact/Qwen3.8-27B-NVFP4", 2 * 12.02), ("RedHatAI/gemma-4-26B-A4B-it-NVFP4", 15.77)],
)
def test_uploads_leave_what_their_makers_leave_in_16_bits(name: str, gib: float) -> None:
    """Weights that logs print: both leave gated delta nets; Red Hat stores attention beside experts in 4 bits."""
    assert weights(catalog.model(name), None).total / 2**30 == pytest.approx(gib, rel=0.035)


def test_uploads_by_nvidia_fix_a_cache_of_eight_bits_and_others_do_not() -> None:
    theirs, other = (catalog.model(f"{who}/Llama-3.3-70B-Instruct-NVFP4") for who in ("nvidia", "acme"))
    assert theirs.quantization is not None and theirs.quantization.kv_bits == 8
    assert "and an 8-bit cache" in theirs.notes[0]
    assert other.quantization is not None and other.quantization.kv_bits is None
    alike = catalog.model("acme/Qwen3-235B-A22B-NVFP4")  # not NVIDIA's
    assert alike.quantization is not None and alike.quantization.kv_bits is None
    for form in ("FP8", "NVFP4", "INT4"):  # Poolside's own
        coder = catalog.model(f"poolside/Laguna-XS.2-{form}").quantization
        assert coder is not None and coder.kv_bits == 8


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("mistralai/Ministral-3-3B-Instruct-2512", 4.36),  # its embeddings and its tower in 16 bits
        ("mistralai/Ministral-3-8B-Instruct-2512", 9.73),
        ("mistralai/Ministral-3-14B-Instruct-2512", 14.65),
        ("mistralai/Mistral-Small-4-119B-2603", 111.80),
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", 629.0),
    ],
)
def test_checkpoints_that_come_in_eight_bits_are_counted_in_them(name: str, gib: float) -> None:
    """As their cards and vllm-project/recipes@8959cf6 say of them; base, reasoning and -BF16 ones are in 16 bits."""
    model = catalog.model(name)
    assert model.quantization is not None and model.quantization.method == "fp8"
    assert weights(model).total / 2**30 == pytest.approx(gib, rel=0.01)
    full = catalog.model(f"{name}-BF16")
    assert full.quantization is None and weights(full).total > 1.6 * weights(model).total


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("thinkingmachines/Inkling", 1_048_576),
        ("inclusionAI/Ring-1T-FP8", 65_536),
        ("inclusionAI/Ling-1T-FP8", 32_768),
        ("zai-org/glm-4-9b-hf", 8_192),
        ("zai-org/GLM-4.6V-FP8", 131_072),
        ("zai-org/GLM-4.5V-FP8", 65_536),
        ("Qwen/Qwen3Guard-Gen-8B", 32_768),
        ("tencent/Hy3-FP8", 262_144),
    ],
)
def test_releases_of_a_shape_have_the_context_of_their_own_config(name: str, context: int) -> None:
    assert catalog.model(name).max_context == context


def test_a_mixture_of_widths_in_a_name_is_refused_and_a_spelling_is_said_as_it_was_written() -> None:
    with pytest.raises(SpecError, match="weights of several widths"):
        catalog.model("QuantTrio/GLM-4.6-GPTQ-Int4-Int8Mix")
    for kind in ("Instruct", "Base"):
        assert (
            f"'LiquidAI/LFM2.5-1.2B-{kind}' is read as lfm2-1.2b"
            in catalog.model(f"LiquidAI/LFM2.5-1.2B-{kind}").notes[0]
        )


MODULES = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}


@pytest.mark.parametrize(
    ("model", "spelled", "ours"),
    [
        ("minimax-m2.5", "model.layers.1.block_sparse_moe.experts.3.w1", "model.layers.1.mlp.experts.gate_up_proj"),
        (
            "minimax-m3",
            "language_model.model.layers.4.self_attn.index_q_proj",
            "model.layers.4.self_attn.indexer.q_proj",
        ),
        (
            "qwen3.5-27b",
            "model.language_model.layers.0.linear_attn.in_proj_z",
            "model.layers.0.linear_attn.in_proj_qkv_z",
        ),
        (
            "qwen3.5-27b",
            "model.language_model.layers.0.linear_attn.in_proj_a",
            "model.layers.0.linear_attn.in_proj_b_a",
        ),
        ("qwen3.5-35b-a3b", "model.layers.0.mlp.shared_expert.up_proj", "model.layers.0.mlp.shared_experts.up_proj"),
        ("deepseek-v4-flash", "layers.2.ffn.experts", "model.layers.2.mlp.experts.down_proj"),
        ("qwen3-8b", "lm_head", "lm_head"),
    ],
)
def test_modules_are_found_as_checkpoints_spell_them(model: str, spelled: str, ours: str) -> None:
    block = {**MODULES, "quantized_layers": {spelled: {"quant_algo": "NVFP4"}}}
    config = {
        k: v for k, v in document("models", model)["config"].items() if k not in ("quantization_config", "expert_dtype")
    }
    how = read({**config, "quantization_config": block}).quantization
    held = dict(catalog.model(model).weights())
    assert tensor_bits(ours, held[ours], 16.0, how) == 4.5


def test_what_an_ending_says_of_the_cache_and_of_every_tensor() -> None:
    cached = catalog.model("amd/Meta-Llama-3.1-70B-Instruct-FP8-KV").quantization
    assert cached is not None and cached.kv_bits == 8
    gguf = catalog.model("Llama-3.1-8B-Instruct-Q8_0-GGUF")
    assert weights(gguf).total == pytest.approx(gguf.parameters * 8.5 / 8, rel=0.001)
    several = catalog.model("TheBloke/Llama-2-13B-chat-GGUF")
    assert several.quantization is None and "several widths" in several.notes[0]


@pytest.mark.parametrize(
    ("dim", "layers", "heads", "cached", "vocabulary", "multiple", "times", "shape"),
    [
        (8192, 80, 64, 8, 32000, 4096, 1.3, "llama2-70b"),
        (4096, 32, 32, None, 32000, 256, None, "llama2-7b"),
        (4096, 32, 32, 8, 128256, 1024, 1.3, "llama3.1-8b"),
    ],
)
def test_meta_params_are_the_published_shape(
    dim: int,
    layers: int,
    heads: int,
    cached: int | None,
    vocabulary: int,
    multiple: int,
    times: float | None,
    shape: str,
) -> None:
    """The params.json of Llama as Meta ships it: llama2's, and 3.1's in llama-models' sku_list.py."""
    stated = {"dim": dim, "n_layers": layers, "n_heads": heads, "vocab_size": vocabulary, "multiple_of": multiple}
    stated |= {name: value for name, value in (("n_kv_heads", cached), ("ffn_dim_multiplier", times)) if value}
    ours, known = read(stated), catalog.model(shape)
    assert (ours.parameters, per_token(ours)) == (known.parameters, per_token(known))


@pytest.mark.parametrize(
    ("name", "base", "context"),
    [
        ("Qwen/Qwen3-4B", "qwen3-4b", 40_960),
        ("Qwen/Qwen3-4B-Base", "qwen3-4b", 32_768),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3-4b", 262_144),
        ("mlx-community/Qwen3-4B-Instruct-2507-4bit", "qwen3-4b", 262_144),
        ("RedHatAI/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b", 262_144),
        ("zai-org/GLM-4.6-FP8", "glm-4.5", 202_752),
        ("RedHatAI/DeepSeek-R1-Distill-Qwen-32B-quantized.w4a16", "qwen2.5-32b", 131_072),
        ("acme/Tuned-Qwen3-4B-Thinking-2507-GPTQ", "qwen3-4b", 262_144),
        ("01-ai/Yi-34B-200K", "yi-34b", 200_000),
        ("Qwen/QwQ-32B-AWQ", "qwen2.5-32b", 40_960),
        ("TheBloke/vicuna-13B-v1.5-16K-GPTQ", "llama2-13b", 16_384),
    ],
)
def test_a_release_has_a_context_of_its_own(name: str, base: str, context: int) -> None:
    model = catalog.model(name)
    assert (model.name, model.max_context) == (base, context)


def test_what_a_name_says_last_of_a_format_counts() -> None:
    assert catalog.model("google/gemma-3-27b-it-qat-q4_0-unquantized").quantization is None
    mixed = catalog.model("amd/gpt-oss-120b-w-mxfp4-a-fp8").quantization
    assert mixed is not None and mixed.method == "mxfp4"


def test_a_release_is_read_with_what_its_own_file_changes() -> None:
    """DeepSeek-R1-Distill-Qwen-1.5B keeps a head of its own (1.78 B), Whisper's turbo 4 of 32 layers (809 M)."""
    distilled = catalog.model("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
    assert round(distilled.parameters / 1e9, 2) == 1.78 and "tie_word_embeddings" in distilled.notes[0]
    assert round(catalog.model("openai/whisper-large-v3-turbo").parameters / 1e6) == 809
    unwindowed, windowed = (catalog.model(f"mistralai/Mistral-7B-Instruct-v0.{n}") for n in (2, 1))
    assert kv_layout(unwindowed, 16).stored(20_000) > 4 * kv_layout(windowed, 16).stored(20_000)
    thinking, instruct = (weights(catalog.model(f"moonshotai/Kimi-K2-{n}")).total for n in ("Thinking", "Instruct"))
    assert thinking < 0.62 * instruct


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("mistralai/Ministral-3-14B-Instruct-2512", False),
        ("mistralai/Mistral-Small-4-119B-2603", False),
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", False),
        ("poolside/Laguna-XS-2.1", False),
        ("moonshotai/Kimi-K2-Thinking", True),
    ],
)
def test_a_release_says_whether_its_own_config_was_read(name: str, seen: bool) -> None:
    note = catalog.model(name).notes[0]
    assert ("as its own config.json says" in note) is seen and ("was not seen" in note) is not seen


@pytest.mark.parametrize(
    ("name", "billions", "cached"),  # of bytes a token, beyond all windows
    [
        ("meta-models/Muse-Glimmer-30B", 27.85, 13 * 2 * 2 * 128 * 2),
        ("meta-models/Muse-Spark-Open-816B-A42B", 819.99, 16 * 2 * 16 * 64 * 2),
        ("allenai/Molmo2-8B", 8.19, 36 * 2 * 8 * 128 * 2),
        ("dots-studio/dots3-note-prev", 279.55, 13 * (512 + 64 + 128) * 2),
        ("meituan-longcat/LongCat-Flash-Chat-FP8", 560.66, 28 * 2 * 576 * 2),
    ],
)
def test_models_of_late_2026_have_the_cache_of_their_layers(name: str, billions: float, cached: int) -> None:
    model = catalog.model(name)
    assert model.parameters / 1e9 == pytest.approx(billions, abs=0.006)
    assert kv_layout(model, 16).growth(30_000) == cached


def test_sizes_read_from_public_copies_of_configs() -> None:
    """Laguna XS.2 reads 131,072 tokens (32 times 4,096), of which each fourth layer keeps all; Hy3 drafts."""
    laguna = catalog.model("poolside/Laguna-XS.2")
    assert (laguna.max_context, per_token(laguna)) == (131_072, 10 * 2 * 8 * 128 * 2)
    assert kv_layout(laguna, 16).per_layer(4096)[0][1] != kv_layout(laguna, 16).per_layer(4096)[1][1]
    assert catalog.model("poolside/Laguna-XS-2.1").max_context == 262_144
    assert (
        "1 multi-token-prediction layer not counted: speculative decoding alone runs it"
        in catalog.model("tencent/Hy3").notes
    )


def test_an_upload_that_keeps_the_mtp_layer_is_the_whole_model() -> None:
    assert catalog.model("sakamakismile/Qwen3.8-27B-MTP-NVFP4").name == "qwen3.5-27b"
    assert catalog.model("unsloth/Qwen3.6-27B-MTP-GGUF:Q4_K_M").name == "qwen3.5-27b"
    with pytest.raises(UnknownName, match="'mtp' in its name"):
        catalog.model("acme/Qwen3.6-27B-MTP")


@pytest.mark.parametrize(
    ("name", "gigabytes", "within"),  # of the files on the hub
    [
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_L", 5.31, 0.003),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q5_K_L", 6.06, 0.003),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-Q2_K_L.gguf", 3.69, 0.004),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:IQ2_M", 2.95, 0.005),
        ("unsloth/DeepSeek-R1-GGUF:UD-IQ1_S", 140.2, 0.002),
        ("unsloth/DeepSeek-V3-0324-GGUF:UD-Q4_K_XL", 405.0, 0.01),
        ("unsloth/Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL", 17.69, 0.04),
    ],
)
def test_a_width_of_gguf_makes_a_file_of_its_size(name: str, gigabytes: float, within: float) -> None:
    found = kvplan.memory(name.removesuffix(".gguf"), 8192)
    assert found.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=within)
    assert bool(found.model.assumed) is ("UD-" in name)


@pytest.mark.parametrize(
    ("name", "bits", "head"),
    [
        ("LoneStriker/Mixtral-8x7B-Instruct-v0.1-6.0bpw-h8-exl2", 6.0, 8.0),
        ("turboderp/Qwen3-32B-exl3:4.25bpw", 4.25, 6.0),
        ("Qwen3-32B-EXL3-3.50bpw", 3.5, 6.0),
    ],
)
def test_bits_of_exl_uploads_are_those_of_the_name(name: str, bits: float, head: float) -> None:
    how = catalog.model(name).quantization
    assert how is not None and (how.bits, how.head, how.overrides) == (bits, True, (("lm_head", head),))


@pytest.mark.parametrize(
    ("name", "each", "billions"),
    [
        ("sarvamai/sarvam-105b", 36_864, 106.0),  # its report: 36 KiB a token
        ("XiaomiMiMo/MiMo-V2.5-Pro", 51_200, 1_020),
        ("Qwen/Qwen3.8-2.4T-A95B", 94_208, 2_420),
        ("LiquidAI/LFM2-24B-A2B", 20_480, 23.84),
        ("google/gemma-4-12b-it", 16_384, 11.9),
        ("OpenGVLab/InternVL3-8B", 57_344, 7.94),
    ],
)
def test_models_added_by_name_hold_what_is_published(name: str, each: int, billions: float) -> None:
    found = kvplan.memory(name, 1024)
    assert found.bytes_per_token == each and found.model.parameters == pytest.approx(billions * 1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Qwen/Qwen3-VL-14B-Instruct", "'vl' in its name says another shape than qwen3-14b"),
        ("Qwen/Qwen3-Embedding-14B", "'embedding' in its name says another shape than qwen3-14b"),
        ("nvidia/Llama-3.1-Minitron-4B-Depth-Base", "'minitron' in its name says another shape"),
        ("meta-llama/Llama-3.1-8B-Instruct-evals", "'evals' in its name says another shape than llama3.1-8b"),
        ("turboderp/Llama-3.1-8B-Instruct-exl2", "each width on a branch"),
        ("unsloth/Qwen3-8B-GGUF:UD-Q1_K_XL", "no width of GGUF whose bits kvplan knows"),
        ("bartowski/Qwen3-8B-Q8_K_L-GGUF", "Q8_K_L is no width of GGUF whose bits kvplan knows"),
        ("AIDC-AI/Ovis2.5-9B", "its published config is not one that kvplan ships"),
    ],
)
def test_a_name_that_is_refused_says_why(name: str, why: str) -> None:
    with pytest.raises(KvplanError, match=why):
        catalog.model(name)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama3.1-8b"),
        ("acme/Reasoner-0528-Qwen3-8B", "qwen3-8b"),
        ("Llama-3.1-8B-Lexi-Uncensored-V2-GPTQ", "llama3.1-8b"),
        ("Qwen3.5-122B-A10B-GPTQ-4bit_phase0_baseline", "qwen3.5-122b"),
    ],
)
def test_a_tune_that_holds_its_base_is_assumed_to_have_its_shape(name: str, base: str) -> None:
    model = catalog.model(name)
    assert model.name == base and len(model.assumed) == 1 and model.assumed[0] == model.notes[0]
    assert f"the shape of {base}" in model.assumed[0] and "was not seen" in model.assumed[0]


@pytest.mark.parametrize(
    "name",
    [
        "THUDM/GLM-4.1V-12B-Thinking",
        "Qwen3-32B-Eagle3",
        "Qwen3-32B-LoRA",
        "Llama-3.1-8B-Pruned-6B",
        "Llama-3.1-Minitron-4B",
        "mistralai/Mistral-7B-Instruct-v0.9",
        "Qwen3-Reranker-8B",
        "somebody/unheard-of-13b-AWQ",
    ],
)
def test_a_name_of_another_shape_is_no_upload(name: str) -> None:
    with pytest.raises(UnknownName):
        catalog.model(name)


def test_devstral_small_2_is_read_by_its_own_config() -> None:
    """23.57 B parameters beside a tower, 24.9 GB in fp8, 393K tokens by YaRN (the card of a text-only copy)."""
    found = kvplan.memory("mistralai/Devstral-Small-2-24B-Instruct-2512", 300_000)
    assert found.model.max_context == 393_216 and not found.warnings
    tower = sum(w.parameters for w in found.model.outer if w.name.startswith(("vision", "multi_modal")))
    assert found.model.parameters - tower == pytest.approx(23.57e9, rel=0.001)
    assert found.weight_bytes - 2 * tower == pytest.approx(24.9e9, rel=0.005)


def test_a_mixture_of_widths_is_not_guessed() -> None:
    with pytest.raises(SpecError, match="several widths"):
        catalog.model("Devstral-Small-2-24B-Instruct-INT4-INT8-Mixed-GPTQ")


# -- compressed attention ----------------------------------------------------------------------------------------------


def test_deepseek_v4_is_as_its_loader_and_its_engine_say() -> None:
    """284.3 B parameters; vLLM 0.22 names 6.66 GiB a GPU for a request of 30,000 tokens, 5.44 GiB for 13,528."""
    asked = {"layout": "engine", "kv_dtype": "fp8", "tp": 2, "block_size": 256, "max_num_batched_tokens": 16384}
    asked["engine"] = "vllm@0.22"
    for tokens, gib in ((30_000, 6.66), (13_528, 5.44)):
        found = memory("deepseek-ai/DeepSeek-V4-Flash", tokens, **asked)
        assert found.total / 2 / 2**30 == pytest.approx(gib, abs=0.005)
        assert found.model.parameters == pytest.approx(284.3e9, rel=0.001)
        assert not any("prefill step" in word for word in found.warnings)
    untold = memory("deepseek-ai/DeepSeek-V4-Flash", 30_000, **{**asked, "max_num_batched_tokens": 8192})
    guessed = memory("deepseek-ai/DeepSeek-V4-Flash", 30_000, **{**asked, "max_num_batched_tokens": None}, gpu="h200")
    assert guessed.total == untold.total
    assert (
        "with twice as many a request reserves 2.0 times as much: state max_num_batched_tokens" in guessed.warnings[0]
    )
    assert not memory("llama3.1-8b", 30_000, layout="engine", gpu="h200").warnings


def test_compressed_vectors_by_hand() -> None:
    layout = kv_layout(catalog.model("deepseek-v4-flash"), 16)
    assert layout.part("sliding").stored(4096) == 43 * 128 * 512 * 2
    assert layout.part("latent").stored(4096) == (21 * 4096 // 4 + 20 * 4096 // 128) * 512 * 2
    assert layout.part("index").stored(4096) == 21 * 4096 // 4 * 128 * 2
    assert layout.growth(4096) == (21 * (512 + 128) / 4 + 20 * 512 / 128) * 2
    state = (
        21 * 8 * 2 * 2 * (512 + 128) * 4 + 20 * 128 * 2 * 512 * 4
    )  # projections and gates, two runs of 4 or one of 128
    assert layout.part("state").stored(4096) == state
    assert sum(layout.part(kind).stored(4096) for kind in ("sliding", "latent", "index", "state")) == layout.stored(
        4096
    )


def test_ratios_kvplan_does_not_know_are_refused() -> None:
    config = dict(catalog.model("deepseek-v4-flash").config)
    with pytest.raises(SpecError, match="compress_ratios has 64; kvplan knows 0, 4 and 128"):
        read({**config, "compress_ratios": [64] * 43})
    with pytest.raises(SpecError, match=r"one of sliding_attention, .* for each of 43 layers"):
        read({**config, "compress_ratios": [4] * 40})


@pytest.mark.parametrize(
    ("config", "token", "parameters"),
    [
        (  # every query head its own key and value, and half of intermediate_size in each of gate and up
            {"model_type": "qwen", "kv_channels": 64, "seq_length": 8192},
            6 * 2 * 8 * 64 * 2,
            2 * 5000 * 512 + 512 + 6 * (4 * 512 * 512 + 3 * 512 + 3 * 640 * 512 + 2 * 512),
        ),
        (
            {"model_type": "baichuan", "model_max_length": 4096},
            6 * 2 * 8 * 64 * 2,
            2 * 5000 * 512 + 512 + 6 * (4 * 512 * 512 + 3 * 1280 * 512 + 2 * 512),
        ),
        (
            {"model_type": "internlm", "bias": True, "num_key_value_heads": None},
            6 * 2 * 8 * 64 * 2,
            2 * 5000 * 512 + 512 + 6 * (4 * 512 * 512 + 4 * 512 + 3 * 1280 * 512 + 2 * 512),
        ),
        (
            {"model_type": "minicpm", "tie_word_embeddings": True},
            6 * 2 * 2 * 64 * 2,
            5000 * 512 + 512 + 6 * (2 * 512 * 512 + 2 * 128 * 512 + 3 * 1280 * 512 + 2 * 512),
        ),
    ],
)
def test_older_models_with_code_of_their_own(config: dict[str, Any], token: int, parameters: int) -> None:
    model = read({**SIZES, **config})
    assert (per_token(model), model.parameters) == (token, parameters)


# -- GGUF files --------------------------------------------------------------------------------------------------------


def gguf(said: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int]]) -> bytes:
    """Return the header of a GGUF file (version 3)."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    def value(v: Any) -> bytes:
        if isinstance(v, str):
            return struct.pack("<I", 8) + text(v)
        if isinstance(v, list):
            return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(text(x) for x in v)
        return struct.pack("<II", 4, v)

    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(said))]
    parts += [text(key) + value(v) for key, v in said.items()]
    for name, (shape, kind) in tensors.items():
        parts.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0))
    return b"".join(parts)


SAID = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 512,
    "llama.feed_forward_length": 1280,
    "llama.context_length": 8192,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": [str(i) for i in range(5000)],
}
Q4_K, Q6_K, F32 = 12, 14, 0
TENSORS = {
    "token_embd.weight": ((512, 5000), Q4_K),
    "output.weight": ((512, 5000), Q6_K),
    **{f"blk.{i}.attn_{n}.weight": ((512, 512), Q4_K) for i in range(2) for n in ("q", "output")},
    **{f"blk.{i}.attn_{n}.weight": ((512, 128), Q4_K) for i in range(2) for n in "kv"},
    **{f"blk.{i}.ffn_{n}.weight": ((512, 1280), Q4_K) for i in range(2) for n in ("gate", "up", "down")},
    **{f"blk.{i}.{n}_norm.weight": ((512,), F32) for i in range(2) for n in ("attn", "ffn")},
}


def test_a_gguf_header_says_shape_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "tiny-Q4_K_M.gguf"
    path.write_bytes(gguf(SAID, TENSORS) + b"tensors that nobody reads")
    model = catalog.model(str(path))
    assert (per_token(model), model.max_context, model.vocab) == (2 * 2 * 2 * 64 * 2, 8192, 5000)
    matrices = 2 * (ATTENTION + MLP) * 4.5 + TABLE * (4.5 + 6.5625)
    assert weights(model).total == pytest.approx((matrices + 5 * 512 * 16) / 8)
    path.write_bytes(gguf({**SAID, "general.architecture": "brandnew"}, TENSORS))
    with pytest.raises(UnknownName, match="states no hidden_size"):
        catalog.model(str(path))
    renamed = {k.replace("llama.", "brandnew."): v for k, v in SAID.items()}
    path.write_bytes(gguf({**renamed, "general.architecture": "brandnew"}, TENSORS))
    assert "does not know 'brandnew'" in catalog.model(str(path)).assumed[0]
    path.write_bytes(gguf({**renamed, "general.architecture": "brandnew", "brandnew.ssm.state_size": 16}, TENSORS))
    with pytest.raises(UnknownName, match="'ssm_state_size'"):
        catalog.model(str(path))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "ends early"),
        (b"GGML", "does not begin with 'GGUF'"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "tensors, more than any real one"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "entries, more than any real one"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**50), "letters in a text"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 2**50), "elements in a list"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77), "a value of type 77"),
        (gguf(SAID, TENSORS)[:200], "ends early"),
        (gguf({"general.name": "x"}, {}), "no general.architecture"),
        (gguf(SAID, {**TENSORS, "blk.0.x.weight": ((4, 4), 99)}), "of ggml type 99"),
    ],
)
def test_a_hostile_gguf_header_is_refused_in_one_line(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=complaint):
        catalog.model(str(path))


def test_what_the_files_of_a_folder_hold_stands_beside_the_formula(tmp_path: Path, run: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert run("memory", "-m", str(tmp_path), "-c", "4k", "--json").json["weights"]["file_bytes"] is None
    header = json.dumps({"x": {"dtype": "BF16", "shape": [500], "data_offsets": [0, 1000]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(1000))
    found = run("memory", "-m", str(tmp_path), "-c", "4k", "--json").json["weights"]
    assert (found["file_bytes"], found["bytes"]) == (1000, stored(16, 16))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 2**31}}))
    assert "the folder's files hold 2.0 GiB" in run("memory", "-m", str(tmp_path), "-c", "4k").out


def test_published_parameters_of_models_with_code_of_their_own() -> None:
    """Grok-1 has 314 B parameters, Grok 2 270 B, Hunyuan-Large 389 B, Mamba-2.8B 2.77 B; their configs in short."""
    grok = {"vocab_size": 131072, "num_hidden_layers": 64, "num_key_value_heads": 8, "num_local_experts": 8}
    grok |= {"num_experts_per_tok": 2, "intermediate_size": 32768, "architectures": ["Grok1ForCausalLM"]}
    one = {**grok, "model_type": "grok-1", "hidden_size": 6144, "num_attention_heads": 48}
    assert read(one).parameters == pytest.approx(314e9, rel=0.01)
    two = {**grok, "model_type": "git", "hidden_size": 8192, "num_attention_heads": 64, "residual_moe": True}
    two |= {"moe_intermediate_size": 16384, "head_dim": 128, "tie_word_embeddings": False}
    assert read(two).parameters == pytest.approx(270e9, rel=0.01)
    large = {"model_type": "hunyuan", "vocab_size": 128512, "hidden_size": 6400, "num_hidden_layers": 64}
    large |= {"num_attention_heads": 80, "num_key_value_heads": 8, "attention_head_dim": 128, "num_experts": 16}
    large |= {"intermediate_size": 18304, "moe_topk": [1] * 64, "num_shared_expert": [1] * 64, "use_cla": True}
    large |= {"use_mixed_mlp_moe": True, "cla_share_factor": 2, "tie_word_embeddings": True}
    assert read(large).parameters == pytest.approx(389e9, rel=0.01)
    assert per_token(read(large)) == 32 * 2 * 8 * 128 * 2  # every other layer reads its neighbour's
    mamba = read({"d_model": 2560, "n_layer": 64, "vocab_size": 50280, "ssm_cfg": {}})
    assert mamba.parameters == pytest.approx(2.77e9, rel=0.01) and per_token(mamba) == 0


def test_mistrals_own_format() -> None:
    params = {"dim": 512, "n_layers": 6, "head_dim": 64, "hidden_dim": 1280, "n_heads": 8, "n_kv_heads": 2}
    params |= {"vocab_size": 5000, "rope_theta": 1e6, "norm_eps": 1e-5}
    model = read(params)
    assert model.parameters == read(LLAMA).parameters and per_token(model) == 6 * 2 * 2 * 64 * 2
    experts = read({**params, "moe": {"num_experts": 4, "num_experts_per_tok": 2}})
    assert sum(w.parameters for name, w in experts.weights() if ".experts." in name) == 6 * 4 * 3 * 1280 * 512
    with pytest.raises(UnknownName, match="kv_lora_rank"):
        read({**params, "kv_lora_rank": 64})


@pytest.mark.parametrize("model_type", ["phi4mm", "minicpmv"])
def test_language_models_at_the_top_of_multimodal_files(model_type: str) -> None:
    model = read({**SIZES, "model_type": model_type, "vision_config": {"hidden_size": 64}})
    assert per_token(model) == 6 * 2 * 2 * 64 * 2 and "only its language model is read" in model.notes[0]


def test_a_16_bit_upload_of_a_model_in_four_bits_is_16_bits_wide() -> None:
    wide, own = (weights(catalog.model(name), None).total for name in ("unsloth/gpt-oss-120b-BF16", "gpt-oss-120b"))
    assert wide == pytest.approx(2 * 116_829_156_672) and own < 0.3 * wide


# -- files that say the same in another way ----------------------------------------------------------------------------


def plain_config(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 97, "head_dim": 16}
    return {**sizes, "num_key_value_heads": 2, "max_position_embeddings": 64, "intermediate_size": 80, **changes}


def test_experts_of_an_unknown_decoder_may_work_in_a_latent() -> None:
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    model, wide = (
        read(plain_config(model_type="unheard", **experts, **latent)) for latent in ({"moe_hidden_size": 16}, {})
    )
    assert wide.parameters - model.parameters == 4 * (3 * 8 * 24 * (64 - 16) - 2 * 16 * 64)


def test_an_unknown_type_is_read_by_the_class_it_names() -> None:
    model = read(plain_config(model_type="deepseek_ref", architectures=["Qwen3ForCausalLM"]))
    assert model.model_type == "qwen3" and not model.assumed
    assert "'deepseek_ref' is read as qwen3, by the class the file names" in model.notes


def test_a_multimodal_type_may_state_its_language_model_at_the_top() -> None:
    """Step-3.7-Flash in a public file without a text_config: its own sizes, not those of the class."""
    stated = {"model_type": "step3p7", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    model = read(plain_config(**stated, share_expert_dim=24, max_position_embeddings=65536))
    assert (len(model.layers), model.max_context, model.hidden) == (4, 65536, 64)
    assert {w.copies for _, w in model.weights() if w.split == "expert"} == {8}


def test_a_text_type_may_nest_its_language_model() -> None:
    model = read({"model_type": "ministral3", "text_config": plain_config(model_type="ministral3")})
    assert len(model.layers) == 4


def test_halves_of_an_unknown_encoder_and_decoder_are_refused() -> None:
    halves = {"encoder": plain_config(model_type="bert"), "decoder": plain_config(model_type="unheard")}
    with pytest.raises(UnknownName, match="an encoder and a decoder"):
        read({"model_type": "pair", **halves})


@pytest.mark.parametrize(
    ("name", "base", "context"),
    [
        ("VAGOsolutions/Llama-3.1-SauerkrautLM-70b-Instruct", "llama3.1-70b", 131072),
        ("nvidia/Llama-3.1-Nemotron-Nano-8B-v1", "llama3.1-8b", 131072),
        ("Sao10K/L3.3-70B-Euryale-v2.3", "llama3.3-70b", 131072),
        ("acme/Qwen2.5-14B-Writer-Instruct-1M", "qwen2.5-14b", 2**20),
    ],
)
def test_a_tune_may_stand_between_a_name_and_its_size(name: str, base: str, context: int) -> None:
    model = catalog.model(name)
    assert (model.name, model.max_context) == (base, context) and f"the shape of {base}" in model.assumed[0]


@pytest.mark.parametrize(
    "name",
    ["Snowflake/Llama-3.1-SwiftKV-8B-Instruct", "Qwen/Qwen3-Big-Omni-8B", "Llama-3.1-2-8B", "a/Llama-2-Mamba-7B"],
)
def test_words_of_another_shape_keep_a_name_apart(name: str) -> None:
    with pytest.raises(UnknownName):
        catalog.model(name)


def test_a_format_stands_in_for_the_16_bits_of_a_name() -> None:
    model = catalog.model("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4")
    assert (model.name, model.assumed) == ("nemotron3-ultra-550b", ())


@pytest.mark.parametrize(
    ("name", "gib", "within"),  # safetensors in GiB as public tables of headers say (2026-09), the MTP layer with them
    [
        ("cyankiwi/Qwen3-30B-A3B-Instruct-2507-AWQ-4bit", 16.85, 0.001),
        ("Qwen/Qwen3-30B-A3B-GPTQ-Int4", 15.77, 0.01),
        ("Qwen/Qwen3.5-27B-GPTQ-Int4", 28.16, 0.03),
        ("cyankiwi/Qwen3.6-35B-A3B-AWQ-4bit", 23.25, 0.045),
        ("cyankiwi/gemma-4-26B-A4B-it-qat-AWQ-INT4", 15.56, 0.02),
        ("SergiioB/Qwen3.8-27B-GPTQ-Int4-sym-G128-MTP-BF16", 17.8, 0.03),
        ("Qwen/Qwen3.8-Flash-Next-FP8", 172.78, 0.04),
        ("RadixArk/Qwen3.8-Flash-Next-NVFP4", 119.2, 0.03),
        ("zai-org/GLM-5.3-Flash", 305.79, 0.045),
        ("RedHatAI/DeepSeek-V4-Flash-NVFP4-FP8", 145.7 + 4.3 + 2.4, 0.01),  # experts, attention, what is in 16 bits
        ("poolside/Laguna-S-2.1-FP8", 113.23, 0.001),  # its config.json itself
        ("zai-org/GLM-5.3-Flash-BF16", 598.53, 0.03),
    ],
)
def test_quantised_uploads_take_what_their_files_do(name: str, gib: float, within: float) -> None:
    assert weights(catalog.model(name)).total / 2**30 == pytest.approx(gib, rel=within)


@pytest.mark.parametrize(
    ("name", "method", "bits"),
    [
        ("QuantTrio/Qwen3-32B-AWQ-6Bit", "int6", 6 + 22 / 128),
        ("TheBloke/Llama-2-13B-chat-GPTQ:gptq-3bit-128g-actorder_True", "int3", 3 + 19 / 128),
        ("TheBloke/Mistral-7B-v0.1-GPTQ:gptq-4bit-32g-actorder_True", "int4", 4 + 20 / 32),
        ("acme/Qwen3-32B-W4A16-G32", "int4", 4 + 16 / 32),
        ("google/gemma-4-12B-it-qat-w4a16-ct", "int4", 4 + 16 / 32),
        ("Minachist/Qwen3.6-27B-INT8-AutoRound", "int8", 8.125),
        ("Intel/DeepSeek-V4-Flash-W4A16-AutoRound", "int4", 4 + 20 / 128),
        ("Intel/Qwen3.8-Flash-Next-W4A16-RTN-AutoRound", "int4", 4 + 20 / 128),
        ("acme/Llama-3.3-70B-Instruct-NVFP4-FP8-KV", "nvfp4", 4.5),
    ],
)
def test_widths_and_groups_in_names_count(name: str, method: str, bits: float) -> None:
    how = catalog.model(name).quantization
    assert how is not None and (how.method, how.bits) == (method, pytest.approx(bits))


@pytest.mark.parametrize(
    ("name", "base", "context"),
    [
        ("TheBloke/leo-hessianai-7B-AWQ", "llama2-7b", 8192),
        ("nvidia/OpenMath-Nemotron-7B-AWQ", "qwen2.5-7b", 131072),
        ("ibm-granite/granite-3.0-3b-a800m-instruct", "granite3.1-3b-a800m", 4096),
        ("nvidia/Llama-4-Scout-Instruct-FP8", "llama4-scout", 10485760),
        ("deepseek-coder-v2:16b-lite", "deepseek-v2-lite", 163840),
        ("lukealonso/GLM-5.1-NVFP4-MTP", "glm-5", 202752),
    ],
)
def test_tunes_and_tags_have_the_shape_and_context_that_is_published(name: str, base: str, context: int) -> None:
    model = catalog.model(name)
    assert (model.name, model.max_context) == (base, context)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA RTX 4090", "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation 48GB", "rtx-6000-ada"),
        ("RTX 5000 Ada 32GB", "rtx-5000-ada"),
        ("RTX3060 12GB", "rtx-3060"),
        ("Jetson AGX Orin 64GB", "jetson-agx-orin"),
        ("AMD Instinct MI300X 192GB HBM3", "mi300x"),
        ("RTX 4060 Ti 16GB", "rtx-4060-ti-16gb"),
        ("RTX 4060 Ti 8GB", "rtx-4060-ti-8gb"),
        ("RTX 4060 Ti", "rtx-4060-ti-16gb"),
        ("Intel(R) Arc(TM) Pro B70 Graphics", "arc-pro-b70"),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", "rtx-5090-laptop"),
        ("NVIDIA RTX A5500", "rtx-a5500"),
        ("Radeon RX 7900 GRE", "rx-7900-gre"),
    ],
)
def test_cards_are_known_with_their_maker_and_their_memory(name: str, card: str) -> None:
    assert catalog.gpu(name).name == card


@pytest.mark.parametrize("name", ["RTX 2080 Ti 22GB", "RTX 4070 Ti 8GB", "RTX 4090 48GB", "NVIDIA GeForce RTX 5050"])
def test_a_card_of_another_memory_is_another_card(name: str) -> None:
    with pytest.raises(UnknownName, match="no GPU named"):
        catalog.gpu(name)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cyankiwi/Qwen3.8-27B-AWQ-BF16-INT4", "weights of several widths"),
        ("RedHatAI/Qwen3.8-2.4T-A95B-NVFP4-FP8", "weights of several widths"),
        ("Pilcothink/Qwen3.8-27B-MixedInt4-AutoRound", "weights of several widths"),
        ("rdtand/Qwen3.6-27B-PrismaQuant-5.5bit-vllm", "weights of 5.5 bits"),
        ("mobiuslabsgmbh/Llama-3.1-8b-instruct_4bitgs64_hqq_calib", "weights of 4 bits"),
    ],
)
def test_a_width_that_a_name_does_not_settle_is_refused(name: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        catalog.model(name)


def test_a_narrow_upload_of_a_model_with_linear_attention_is_assumed() -> None:
    model = catalog.model("QuantTrio/Qwen3.6-27B-AWQ")
    assert model.assumed and "linear attention" in model.notes[0]
    assert not catalog.model("Qwen/Qwen3.6-27B-FP8").assumed


@pytest.mark.parametrize(
    ("name", "bits"), [("unsloth/MiniMax-M2.5-GGUF", "8.002"), ("bartowski/Llama-3.3-70B-Instruct-GGUF", "16")]
)
def test_a_name_of_gguf_files_without_a_width_says_what_is_counted(name: str, bits: str) -> None:
    assert f"several widths and the {bits} bits it was published in are counted" in catalog.model(name).notes[0]


@pytest.mark.parametrize(
    ("name", "base", "method", "bits"),
    [
        ("RedHatAI/Mistral-Small-3.2-24B-Instruct-2506-NVFP4", "mistral-small-3.1-24b", "nvfp4", 4.5),
        ("RedHatAI/Qwen3-235B-A22B-Instruct-2507-NVFP4", "qwen3-235b-a22b", "nvfp4", 4.5),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8", "nemotron-super-49b", "fp8", 8.0),
        ("unsloth/Qwen3-Coder-Next-GGUF:Q4_K_M", "qwen3-next-80b", "q4-k-m", LAYERS_Q4_K_M),
        ("cyankiwi/Devstral-Small-2-24B-Instruct-2512-AWQ-4bit", "devstral-small-2-24b", "int4", 4.5),
        ("QuantTrio/GLM-4.6-AWQ", "glm-4.5", "int4", 4.16),
        ("01-ai/Yi-34B-Chat-4bits", "yi-34b", "int4", 4.16),
        ("01-ai/Yi-34B-Chat-8bits", "yi-34b", "int8", 8.125),
        ("lmstudio-community/Qwen3-30B-A3B-Instruct-2507-MLX-4bit", "qwen3-30b-a3b", "mlx", 4.5),
        ("mlx-community/Qwen3-235B-A22B-4bit-DWQ", "qwen3-235b-a22b", "mlx", 4.5),
        ("Intel/Qwen3-30B-A3B-Instruct-2507-int4-AutoRound", "qwen3-30b-a3b", "int4", 4.16),
        ("amd/DeepSeek-R1-0528-MXFP4", "deepseek-r1", "mxfp4", 4.25),
        ("jakiAJK/DeepSeek-R1-Distill-Llama-8B_AWQ", "llama3.1-8b", "int4", 4.16),
        ("ISTA-DASLab/gemma-3-27b-it-GPTQ-4b-128g", "gemma3-27b", "int4", 4.16),
    ],
)
def test_uploads_of_the_year_have_the_shape_and_format_of_their_names(
    name: str, base: str, method: str, bits: float
) -> None:
    model = catalog.model(name)
    assert model.quantization is not None
    assert (model.name, model.quantization.method) == (base, method)
    assert model.quantization.bits == pytest.approx(bits, abs=0.01)
