"""kvplan against Hugging Face: bytes of the cache after a prefill, and parameters, of tiny models of every family.

A reader is right when it equals the class built from the same file, to the byte and to the parameter. The files are
read as users have them: as published (original spellings), spelt out by the class, and as save_pretrained writes them
(a nested value equal to its class default is left out).
"""

import copy
import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from kvplan.architectures import FAMILIES, TOWERS
from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.kv.model_cache import kv_layout
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

torch = pytest.importorskip("torch")
# the oldest release that pyproject.toml admits: 4.57 kept expanded MLA heads and recurrent states in the model's dtype
transformers = pytest.importorskip("transformers", minversion="5.20")

pytestmark = pytest.mark.filterwarnings("ignore")

BATCH = 2
LENGTHS = (5, 20)  # below and above the windows of 8
SOURCE = Source(kind="config", ref="a config class of transformers", date="2026-11-23")

#: families that cannot be compared, and why
UNTESTED = {
    "aquila": "transformers has no class (read as llama)",
    "yi": "transformers has no class (read as llama)",
    "nemotron_nas": "transformers has no class",
    "kimi_k3": "transformers has no class",
    "rwkv5": "transformers has no class",
    "rwkv6": "transformers has no class",
    "rwkv7": "transformers has no class",
    "plamo": "transformers has no class",
    "plamo2": "transformers has no class",
    "jais": "transformers has no class",
    "llada": "transformers has no class",
    "Dream": "transformers has no class",
    "sdar": "transformers has no class",
    "phi3_v": "transformers has no class",
    "phi4flash": "transformers has no class",
    "step3": "transformers has no class",
    "step3_text": "transformers has no class",
    "internvl_chat": "transformers has no class (InternVL's own files; internvl is compared)",
    "kimi_vl": "transformers has no class (its tower is kimi_k25's)",
    "ernie4_5_moe_vl": "transformers has no class (Baidu's own files; ernie4_5_vl_moe_text is compared)",
    "plain": "what an architecture without a reader is read as",
    "deepseek": "transformers has no class",
    "minimax_m3": "transformers has no class (its text part alone; minimax_m3_vl_text is compared)",
    "bailing_moe": "transformers has no class",
    "bailing_moe_v2": "transformers has no class",
    "bailing_moe_linear": "transformers has no class",
    "chatglm": "transformers has no class",
    "mimo": "transformers has no class",
    "mimo_v2": "transformers has no class; its language model is read as mimo_v2_flash's",
    "solar": "transformers has no class",
    "grok-1": "transformers has no class",
    "hunyuan": "transformers has no class",
    "mamba_ssm": "transformers has no class (the format of mamba's own package)",
    "minicpmv": "transformers has no class",
    "minicpmo": "transformers has no class",
    "phi4mm": "transformers has no class",
    "phi4_multimodal": "its towers have 870 M parameters at their smallest; its language model is phi3",
    "baichuan": "transformers has no class",
    "internlm": "transformers has no class",
    "xverse": "transformers has no class (read as llama)",
    "orion": "transformers has no class",
    "telechat": "transformers has no class",
    "openelm": "transformers has no class",
    "deci": "transformers has no class",
    "ouro": "transformers has no class",
    "arctic": "transformers has no class",
    "phi3small": "transformers has no class",
    "minicpm": "transformers has no class",
    "qwen": "transformers has no class",
    "voxtral_realtime_text": "its class is built with towers of 971 M parameters at their smallest; it is mistral",
    "hy_v4_vl_text": "its class is built with a tower only; it is hy_v4",
    "glm5_next_text": "its class is built with a tower only; test_glm5_next compares its language model",
    "muse_glimmer_text": "its class is built with a tower only; see test_language_models_inside_a_tower",
    "muse_spark_text": "its class is built with a tower only; see test_language_models_inside_a_tower",
    "molmo2_text": "its class is built with a tower only; see test_language_models_inside_a_tower",
    "unlimited_ocr_text": "its class is built with a tower only; see test_language_models_inside_a_tower",
    "qwen2_5_omni_text": "its class is built with towers and a talker only; it is qwen2",
    "qwen3_asr_thinker": "transformers has no class; it is qwen3_asr one level further in",
    "diffusion_gemma_text": "its class is built with a tower only; diffusion_gemma is compared",
    "qwen3_omni_moe_text": "its class is built with towers and a talker only; it is qwen3_moe",
    "gemma3n": "its vision tower needs timm, and has 294 M parameters at its smallest; gemma3n_text is compared",
}

#: families that came after the oldest release of transformers admitted, and the release that brought their class
SINCE = {
    "internlm3": "5.23",
    "exaone": "5.24",
    "bailing_hybrid": "5.24",
    "deepseek_v4": "5.24",
    "jais2": "5.24",
    "iquestcoder": "5.24",
    "hyperclovax": "5.24",
    "sarvam_moe": "5.24",
    "sarvam_mla": "5.24",
    "lara_mini": "5.24",
    "lfm3": "5.23",
    "beam": "5.21",
    "flint": "5.21",
    "dots3_note_text": "5.24",
    "dory": "5.24",
    "mistral_large4": "5.24",
    "inkling_text": "5.24",
    "apertus1p5_text": "5.24",
    "inkling2_text": "5.24",
    "inkling2_loop_text": "5.24",
    "qwen4_exp_text": "5.24",
    "cohere_compass_text": "5.24",
    "diffusion_gemma": "5.24",
    "lfm2_vl": "5.24",
    "nemotron_h_omni": "5.24",
    "qwen3_asr": "5.24",
}

# fmt: off
#: fields given to every config class that has them
COMMON: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4, "max_position_embeddings": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 20, "sliding_window": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
    "kv_lora_rank": 12, "q_lora_rank": 20, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6, "v_head_dim": 10,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}
TIED, BIAS = {"tie_word_embeddings": True}, {"attention_bias": True}
SF = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
MLA = {"head_dim": 8, "num_key_value_heads": 4}
CSA, HCA = "compressed_sparse_attention", "heavily_compressed_attention"
V4 = {"num_key_value_heads": 1, "head_dim": 24, "partial_rotary_factor": 0.25, "o_groups": 2, "o_lora_rank": 10,
    "index_head_dim": 12, "index_n_heads": 2, "index_topk": 4, "hc_mult": 2, "compress_rates": {CSA: 4, HCA: 16}}
LARGE = {"num_key_value_heads": 4, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 6, "mamba_n_groups": 2, "mamba_d_conv": 4,
    "mamba_chunk_size": 8}
LOOPED = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 12, "sliding_window_size": 8,
    "unpadded_vocab_size": 90, "d_rel": 6, "rel_extent": 11, "n_layers_per_attn_res_block": 2}
QSA = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 20, "indexer_budget": 8,
    "indexer_compress_ratio": 4, "hc_count": 3, "hc_lowrank": 7, "shared_expert_intermediate_size": 30,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 3, 3]}}
KINDS8 = {kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    for kind in ("full_attention", "sliding_attention")}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10}

CONFIGS: dict[str, tuple[dict[str, Any], ...]] = {
    "axk1": (MLA, {**MLA, "n_shared_experts": 2, **BIAS}),
    "axk2": (
        {**MLA, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2},
        {**MLA, "index_topk": 40, "index_head_dim": 10, "index_n_heads": 3, "gated_norm_rank": 5,
         "n_shared_experts": 2},
    ),
    "beam": ({}, {"layer_types": SF, "num_hidden_layers": 4, **BIAS}, {"num_hidden_layers": 7, **TIED}),
    "ernie4_5_vl_moe": (
        {"text_config": ("ernie4_5_vl_moe_text", {
            "hidden_size": 512, "moe_intermediate_size": [24, 20], "rope_parameters": {"rope_type": "default"}}),
         "vision_config": ("ernie4_5_vl_moe_vision", {
             "depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 14, "intermediate_size": 40})},
        {"text_config": ("ernie4_5_vl_moe_text", {
            "hidden_size": 512, "moe_intermediate_size": [24, 28], "moe_num_shared_experts": 1,
            "mlp_layer_types": ["dense", "dense", "sparse", "sparse"], "use_bias": True}),
         "vision_config": ("ernie4_5_vl_moe_vision", {
             "depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 14, "intermediate_size": 40,
             "temporal_merge_size": 3}), "tie_word_embeddings": False},
    ),
    "flint": (
        {"shared_expert_intermediate_size": 20},
        {"num_hidden_layers": 7, "mlp_only_layers": [2], "shared_expert_intermediate_size": 28, **BIAS, **TIED},
    ),
    "gemma4_unified_text": (
        {"num_hidden_layers": 6}, {"layer_types": SF, **BIAS, "num_kv_shared_layers": 2, "use_double_wide_mlp": True},
    ),
    "hy_v4": (
        {"index_topk": 4, "index_head_dim": 12, "index_n_heads": 2},
        {"index_topk": 40, "index_head_dim": 10, "index_n_heads": 3, "num_hidden_layers": 6, "hc_mult": 2,
         "indexer_types": ["full", "shared"] * 3, "n_shared_experts": 2},
    ),
    "kolibri1": (
        {"shared_expert_intermediate_size": 20},
        {"shared_expert_intermediate_size": 28, "num_hidden_layers": 6, "layer_types": [*SF, *SF[:2]], **TIED},
    ),
    "lara_mini": (
        {**DELTA, "shared_expert_intermediate_size": 20},
        {**DELTA, "num_hidden_layers": 6, "shared_expert_intermediate_size": 28, **BIAS, "tie_word_embeddings": False},
    ),
    "lfm3": (
        {"layer_types": ["conv", "sliding_attention", "conv", "full_attention"]},
        {"layer_types": ["conv", *SF], "num_hidden_layers": 5, "conv_bias": True, "conv_L_cache": 3,
         "use_attention_gate": False, "use_sandwich_norm": False, **BIAS},
    ),
    "mellum": ({}, {"layer_types": SF, "mlp_layer_types": ["dense", "sparse"] * 2, **BIAS, **TIED}),
    "minimax_m3_vl": (
        {"text_config": ("minimax_m3_vl_text", {
            "layer_types": ["full_attention", "minimax_m3_sparse"] * 2, "index_n_heads": 2, "index_head_dim": 12,
            "dense_intermediate_size": 72, "shared_intermediate_size": 28, "rotary_dim": 8,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}),
         "vision_config": ("minimax_m3_vl_vision", {"image_size": 28}), "projector_hidden_size": 40},
        {"text_config": ("minimax_m3_vl_text", {
            "index_n_heads": 2, "index_head_dim": 12, "dense_intermediate_size": 72, "shared_intermediate_size": 28,
            "rotary_dim": 8, "moe_layer_freq": [0, 1, 0, 1],
            "sparse_attention_config": {"sparse_attention_freq": [0, 1, 1, 1], "sparse_index_dim": 10,
                                        "sparse_num_index_heads": 2}}),
         "vision_config": ("minimax_m3_vl_vision", {"image_size": 28}), "projector_hidden_size": 40},
    ),
    "modernbert-decoder": (
        {"local_attention": 16},
        {"local_attention": 12, "norm_bias": True, "mlp_bias": True, "decoder_bias": False, **BIAS, "layer_types": SF,
         "tie_word_embeddings": False},
    ),
    "rwkv": ({}, {"intermediate_size": 48, "num_hidden_layers": 3, "tie_word_embeddings": True}),
    "sarvam_mla": ({**MLA, "first_k_dense_replace": 1}, {**MLA, "first_k_dense_replace": 2, "q_lora_rank": None}),
    "step3p7": (
        {"text_config": ("step3p5", {"share_expert_dim": 28, "num_sliding_attention_heads": 6, "layer_types": SF}),
         "vision_config": ("step3p5_vision", {"image_size": 28})},
        {"text_config": ("step3p5", {
            "share_expert_dim": 20, "layer_types": [*SF, "sliding_attention"], "moe_layers_enum": "1,3", **BIAS,
            "num_nextn_predict_layers": 1, "attention_other_setting": {"num_attention_heads": 8}}),
         "vision_config": ("step3p5_vision", {"image_size": 28})},
    ),
    "xlstm": (
        {"hidden_size": 128, "num_blocks": 4, "num_heads": 2},
        {"hidden_size": 256, "num_blocks": 2, "num_hidden_layers": 2, "num_heads": 4, "qk_dim_factor": 0.25,
         "use_bias": True, "add_out_norm": False, "tie_word_embeddings": True},
    ),
    "zamba": (
        {"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 2, "mamba_d_state": 6, "mamba_dt_rank": 5,
         "attention_head_dim": None, "head_dim": None, "num_key_value_heads": 4},
        {"num_hidden_layers": 5, "attn_layer_period": 4, "attn_layer_offset": 1, "mamba_d_state": 5, "mamba_d_conv": 3,
         "n_mamba_heads": 4, "mamba_conv_bias": False, "mamba_proj_bias": True, "attention_head_dim": None,
         "head_dim": None},
    ),
    "zaya": (
        {"num_experts_per_tok": 1, "router_hidden_size": 12},
        {"num_experts_per_tok": 1, "router_hidden_size": 10, "layer_types": ["hybrid", "hybrid_sliding"] * 2,
         "lm_head_bias": True, **BIAS, "tie_word_embeddings": False, "cca_time0": 3},
    ),
    "afmoe": (
        {"num_dense_layers": 1, "num_shared_experts": 2},
        {"num_dense_layers": 3, "num_shared_experts": 1, "global_attn_every_n_layers": 2, "tie_word_embeddings": True},
        {"num_dense_layers": 0, "layer_types": SF, "attention_bias": True},
    ),
    "apertus": ({}, {**BIAS, **TIED, "num_key_value_heads": 1}),
    "arcee": ({}, {**BIAS, "mlp_bias": True, "head_dim": None}, TIED),
    "bailing_hybrid": (
        {**MLA, "layer_group_size": 2, "num_experts": 4, "first_k_dense_replace": 1, "q_lora_rank": None,
         "head_dim": 16},
        {**MLA, "layer_group_size": 3, "num_experts": 4, "first_k_dense_replace": 0, "num_hidden_layers": 6,
         "head_dim": 12, "short_conv_kernel_size": 3, "n_shared_experts": 2, **TIED},
    ),
    "bamba": (
        {**MAMBA2, "attn_layer_indices": [1, 3]},
        {**MAMBA2, "attn_layer_indices": [3], "mamba_n_groups": 1, "mamba_proj_bias": True, "mlp_bias": True},
        {**MAMBA2, "attn_layer_indices": [0], "mamba_conv_bias": False, "attention_bias": True, "mamba_d_conv": 3,
         "mamba_d_head": "auto"},
    ),
    "bitnet": ({}, {**TIED, "num_key_value_heads": 1}),
    "ctrl": ({"dff": 72}, {"dff": 40, "num_attention_heads": 2}),
    "diffllama": ({}, {**BIAS, **TIED}),
    "doge": (
        {}, {"sliding_window": None, "num_key_value_heads": 4, "tie_word_embeddings": True},
        {"attention_bias": True, "is_moe": True, "num_experts": 9, "num_experts_per_tok": 4, "num_hidden_layers": 3},
    ),
    "hyperclovax": ({}, {"use_post_norm": False, **BIAS, "mlp_bias": True, **TIED}),
    "iquestcoder": ({}, {**BIAS, **TIED}),
    "jais2": ({}, {"attention_bias": False, "mlp_bias": False}),
    "sarvam_moe": ({"first_k_dense_replace": 1, **BIAS}, {"first_k_dense_replace": 0, "tie_word_embeddings": True}),
    "xglm": ({"d_model": 64, "ffn_dim": 72, "num_layers": 2, "attention_heads": 4},),
    "biogpt": ({}, {"num_attention_heads": 2}),
    "bloom": ({}, {"num_attention_heads": 2, "num_hidden_layers": 3}),
    "codegen": ({"rotary_dim": 8}, {"rotary_dim": 8, "n_inner": 72, "num_hidden_layers": 2}),
    "cohere": ({}, {"use_qk_norm": True, "attention_bias": True}, {"tie_word_embeddings": False}),
    "cohere2": (
        {},
        {"layer_types": SF, "attention_bias": True, "tie_word_embeddings": False},
        {"sliding_window_pattern": 2, "num_hidden_layers": 5},
    ),
    "cohere2_moe": (
        {"first_k_dense_replace": 1, "prefix_dense_intermediate_size": 72},
        {"first_k_dense_replace": 2, "prefix_dense_sliding_window_pattern": 2, "num_shared_experts": 2,
         "num_hidden_layers": 6},
        {"layer_types": SF, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "cwm": ({"num_hidden_layers": 6}, {"layer_types": SF, "mlp_bias": True}),
    "dbrx": (
        {"d_model": 64, "n_heads": 4, "n_layers": 2,
         "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
         "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64}},
        {"d_model": 64, "n_heads": 4, "n_layers": 3,
         "attn_config": {"kv_n_heads": 1, "clip_qkv": 4.0, "rope_theta": 10000.0},
         "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 2, "moe_top_k": 1, "hidden_size": 64}},
    ),
    "deepseek_v2": (
        {**MLA, "first_k_dense_replace": 1, "n_group": None, "topk_group": None},
        {**MLA, "q_lora_rank": None, "n_shared_experts": 2, "attention_bias": True},
        {**MLA, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "deepseek_v3": (
        {**MLA, "first_k_dense_replace": 1},
        {**MLA, "first_k_dense_replace": 3, "q_lora_rank": None, "n_shared_experts": 2},
        {**MLA, "first_k_dense_replace": 0, "attention_bias": True},
    ),
    "deepseek_v32": (
        {**MLA, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2, "first_k_dense_replace": 1},
        {**MLA, "index_topk": 40, "index_head_dim": 10, "index_n_heads": 3, "first_k_dense_replace": 2,
         "attention_bias": True},
    ),
    "deepseek_v4": (
        {**V4, "layer_types": ["sliding_attention", CSA, HCA, CSA]},
        {**V4, "layer_types": [HCA, HCA, CSA, HCA], "compress_rates": {CSA: 3, HCA: 7}, "head_dim": 16,
         "n_shared_experts": 2, "hc_mult": 3, "tie_word_embeddings": True},
    ),
    "dots1": (
        {"num_key_value_heads": 2, "first_k_dense_replace": 1, "max_window_layers": 2, "n_shared_experts": 2},
        {"first_k_dense_replace": 0, "max_window_layers": 4, "attention_bias": True},
        {"layer_types": SF, "first_k_dense_replace": 4, "tie_word_embeddings": True},
    ),
    "ernie4_5": ({}, {"use_bias": True, "tie_word_embeddings": False}),
    "ernie4_5_moe": (
        {"moe_num_shared_experts": 2, "moe_k": 2},
        {"moe_k": 2, "moe_layer_start_index": 2, "moe_layer_interval": 2, "use_bias": True, "num_hidden_layers": 5},
        {"moe_k": 1, "moe_layer_start_index": 0, "moe_layer_end_index": 1, "moe_num_shared_experts": 0,
         "tie_word_embeddings": False},
    ),
    "exaone4": (
        {},
        {"sliding_window_pattern": "LLG", "num_hidden_layers": 6,
         "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},
        {"sliding_window": None, "layer_types": ["full_attention"] * 4, "tie_word_embeddings": True},
        {"layer_types": SF},
    ),
    "exaone": ({"head_dim": 16}, {**TIED, "head_dim": 16, "num_key_value_heads": 1}),
    "exaone_moe": (
        {"num_shared_experts": 1},
        {"num_shared_experts": 2, "first_k_dense_replace": 2, "sliding_window_pattern": 2},
        {"layer_types": SF, "mlp_layer_types": ["sparse", "dense", "sparse", "sparse"], "sliding_window": 6},
    ),
    "falcon": (
        {"num_kv_heads": 2, "new_decoder_architecture": True},
        {"multi_query": True, "parallel_attn": True},
        {"multi_query": False, "alibi": True, "bias": True, "parallel_attn": False},
        {"num_kv_heads": 1, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 72},
    ),
    "falcon_h1": (
        {**MAMBA2, "mamba_d_ssm": 128},
        {**MAMBA2, "mamba_d_ssm": 96, "mamba_n_heads": 6, "mamba_n_groups": 1, "mamba_rms_norm": True,
         "projectors_bias": True, "attention_bias": True, "mlp_bias": True},
        {**MAMBA2, "mamba_d_ssm": 128, "mamba_proj_bias": True, "mamba_conv_bias": False, "mamba_d_conv": 3},
    ),
    "falcon_mamba": (
        {"state_size": 6},
        {"state_size": 5, "conv_kernel": 3, "expand": 3, "intermediate_size": 192, "use_bias": True,
         "use_conv_bias": False, "time_step_rank": 7},
    ),
    "flex_olmo": ({}, {**BIAS, **TIED, "num_experts": 3}),
    "gemma": ({}, {**BIAS, "num_key_value_heads": 1}),
    "gemma2": (
        {},
        {"layer_types": ["sliding_attention"] * 3 + ["full_attention"], "attention_bias": True},
        {"num_hidden_layers": 3, "tie_word_embeddings": False},
    ),
    "gemma3_text": (
        {"num_hidden_layers": 7},
        {"layer_types": SF, "attention_bias": True},
        {"sliding_window_pattern": 2, "sliding_window": 4, "tie_word_embeddings": False},
    ),
    "gemma3n_text": (
        {"num_hidden_layers": 6, "num_kv_shared_layers": 1,
         "layer_types": ["sliding_attention", "full_attention"] * 3, "vocab_size_per_layer_input": 90,
         "hidden_size_per_layer_input": 6, "laurel_rank": 5, "activation_sparsity_pattern": [0.0] * 6},
        {"num_hidden_layers": 10, "num_kv_shared_layers": 4, "vocab_size_per_layer_input": 90,
         "hidden_size_per_layer_input": 6, "altup_num_inputs": 3, "intermediate_size": [64] * 5 + [80] * 5,
         "activation_sparsity_pattern": [0.0] * 10, "attention_bias": True},
        {"num_hidden_layers": 5, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 70,
         "hidden_size_per_layer_input": 4, "activation_sparsity_pattern": [0.0] * 5},
    ),
    "gemma4_text": (
        {"num_hidden_layers": 6, "global_head_dim": 28, "hidden_size_per_layer_input": 0},
        {"num_hidden_layers": 6, "num_kv_shared_layers": 3,
         "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2, "global_head_dim": 24,
         "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 97, "use_double_wide_mlp": True},
        {"num_hidden_layers": 4, "layer_types": SF, "global_head_dim": 24, "num_global_key_value_heads": 1,
         "attention_k_eq_v": True, "enable_moe_block": True, "top_k_experts": 2, "hidden_size_per_layer_input": 0,
         "attention_bias": True},
    ),
    "glm": ({}, {"attention_bias": False, "tie_word_embeddings": True, "num_key_value_heads": 1}),
    "glm4": ({}, {"attention_bias": False, "tie_word_embeddings": True}),
    "glm4_moe": (
        {"use_qk_norm": True},
        {"use_qk_norm": False, "first_k_dense_replace": 3, "n_shared_experts": 2, "attention_bias": True},
    ),
    "glm4_moe_lite": (
        {**MLA},
        {**MLA, "mlp_layer_types": ["dense", "dense", "sparse", "sparse"], "q_lora_rank": None, "n_shared_experts": 3},
    ),
    "glm_moe_dsa": (
        {**MLA, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2, "first_k_dense_replace": 1},
        {**MLA, "index_topk": 40, "index_head_dim": 10, "index_n_heads": 3, "num_hidden_layers": 6,
         "mlp_layer_types": ["dense", "sparse"] * 3,
         "indexer_types": ["full", "shared", "full", "shared", "shared", "full"]},
        {**MLA, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2, "num_hidden_layers": 3,
         "mlp_layer_types": ["dense", "sparse", "sparse"], "attention_bias": True, "index_topk_pattern": "FSF"},
        {**MLA, "index_topk": 4, "index_head_dim": 12, "index_n_heads": 2, "num_hidden_layers": 7,
         "index_topk_freq": 3, "index_skip_topk_offset": 1},
    ),
    "gpt2": ({}, {"n_inner": 72, "tie_word_embeddings": False, "n_layer": 3}),
    "gpt_bigcode": ({}, {"multi_query": False}, {"n_inner": 72, "tie_word_embeddings": False}),
    "gpt_neo": (
        {"attention_types": [[["global", "local"], 2]], "window_size": 8},
        {"attention_types": [[["global"], 1], [["local", "local"], 2]], "num_layers": 5, "window_size": 8,
         "intermediate_size": 72},
    ),
    "gpt_neox": ({}, {"attention_bias": False, "use_parallel_residual": False, "tie_word_embeddings": True}),
    "gpt_neox_japanese": ({}, {"intermediate_multiple_size": 3, "tie_word_embeddings": False}),
    "gpt_oss": (
        {},
        {"attention_bias": False, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
        {"tie_word_embeddings": True, "sliding_window": 3},
    ),
    "gptj": ({"rotary_dim": 8}, {"rotary_dim": 8, "n_inner": 72}),
    "granite": ({}, {**BIAS, **TIED, "mlp_bias": True}),
    "granite_swa": (
        {},
        {"num_hidden_layers": 6, "attention_bias": True, "mlp_bias": True},
        {"layer_types": SF, "tie_word_embeddings": False},
    ),
    "granitemoe": ({}, {**BIAS, **TIED, "num_local_experts": 3}),
    "granitemoe_swa": (
        {},
        {"shared_intermediate_size": 20, "attention_bias": True},
        {"layer_types": SF, "tie_word_embeddings": True},
    ),
    "granitemoehybrid": (
        {**MAMBA2, "layer_types": ["mamba", "attention", "mamba", "attention"], "shared_intermediate_size": 32},
        {**MAMBA2, "layer_types": ["attention"] * 4, "num_local_experts": 0, "shared_intermediate_size": 40,
         "position_embedding_type": "rope"},
        {**MAMBA2, "layer_types": ["mamba"] * 3 + ["attention"], "num_local_experts": 3, "mamba_n_groups": 1,
         "mamba_d_conv": 3, "attention_bias": True, "mamba_proj_bias": True, "tie_word_embeddings": True},
    ),
    "granitemoeshared": ({"shared_intermediate_size": 20}, {**BIAS, "shared_intermediate_size": 0}),
    "helium": ({"head_dim": 16}, {**BIAS, "head_dim": 16, "mlp_bias": True, "tie_word_embeddings": True}),
    "hunyuan_v1_dense": (ROPE, {**ROPE, **BIAS, **TIED, "head_dim": 16}),
    "hunyuan_v1_moe": ({**ROPE, "moe_topk": 2}, {**ROPE, **BIAS, "num_experts": 3, "moe_topk": 1}),
    "hy_v3": (
        {},
        {"num_shared_experts": 2, "mlp_layer_types": ["dense", "dense", "sparse", "sparse"], "mlp_bias": True,
         "tie_word_embeddings": True},
    ),
    "internlm3": ({}, {"bias": True, "qkv_bias": True, "tie_word_embeddings": True}),
    "jamba": (
        {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 6, "mamba_dt_rank": 5},
        {"attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 3, "expert_layer_offset": 0,
         "num_hidden_layers": 6, "mamba_proj_bias": True, "mamba_conv_bias": False, "mamba_d_conv": 3,
         "mamba_expand": 3},
        {"attn_layer_period": 4, "attn_layer_offset": 3, "num_experts": 1, "num_experts_per_tok": 1,
         "tie_word_embeddings": True},
    ),
    "jetmoe": (
        {"kv_channels": 12},
        {"kv_channels": 20, "num_key_value_heads": 3, "num_local_experts": 5, "tie_word_embeddings": False},
    ),
    "kimi_linear": (
        {**MLA, "num_hidden_layers": 6, "linear_head_dim": 8, "linear_num_heads": 3, "q_lora_rank": None},
        {**MLA, "linear_head_dim": 10, "linear_num_heads": 2, "linear_conv_kernel_dim": 3,
         "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
         "mlp_layer_types": ["dense", "dense", "sparse", "sparse"], "n_shared_experts": 2},
        {**MLA, "q_lora_rank": None, "first_k_dense_replace": 2,
         "linear_attn_config": {"full_attn_layers": [2, 4], "kda_layers": [1, 3], "head_dim": 8, "num_heads": 3,
         "short_conv_kernel_size": 4}},
    ),
    "lfm2": (
        {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
        {"layer_types": ["conv", "conv", "full_attention", "conv"], "conv_L_cache": 4, "conv_bias": True,
         "block_auto_adjust_ff_dim": False},
        {"full_attn_idxs": [1, 2], "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.5,
         "tie_word_embeddings": False},
    ),
    "laguna": (
        {"shared_expert_intermediate_size": 12},
        {"layer_types": SF, "num_attention_heads_per_layer": [6, 4, 6, 4], "gating": "per-head",
         "mlp_layer_types": ["dense", "sparse", "dense", "sparse"], "shared_expert_intermediate_size": 20},
        {"layer_types": SF, "gating": "per-element", "shared_expert_intermediate_size": 12, **BIAS, **TIED},
    ),
    "lfm2_moe": (
        {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_dense_layers": 1},
        {"layer_types": ["full_attention", "conv", "conv", "conv"], "conv_L_cache": 5, "conv_bias": True,
         "num_dense_layers": 2},
    ),
    "llama": (
        {},
        {**BIAS, "mlp_bias": True, "head_dim": None},
        {**TIED, "num_key_value_heads": None},
        {"num_key_value_heads": 1, "head_dim": 6},
    ),
    "llama4_text": (
        {"attention_chunk_size": 8, "intermediate_size_mlp": 72},
        {"attention_chunk_size": 8, "no_rope_layers": [1, 0, 0, 1], "interleave_moe_layer_step": 2,
         "intermediate_size_mlp": 48, "attention_bias": True},
        {"attention_chunk_size": 6, "moe_layers": [0, 3], "intermediate_size_mlp": 48, "num_hidden_layers": 5,
         "tie_word_embeddings": True},
    ),
    "longcat_flash": (
        {**MLA, "num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 24, "moe_topk": 2,
         "zero_expert_num": 2},
        {**MLA, "num_layers": 3, "ffn_hidden_size": 40, "expert_ffn_hidden_size": 20, "moe_topk": 2,
         "zero_expert_num": 1, "attention_bias": True},
    ),
    "mamba": (
        {"state_size": 6},
        {"state_size": 5, "conv_kernel": 3, "expand": 3, "intermediate_size": 192, "use_bias": True,
         "use_conv_bias": False, "time_step_rank": 7},
    ),
    "mamba2": (
        {"num_heads": 8, "head_dim": 16, "state_size": 6, "n_groups": 2, "chunk_size": 8},
        {"num_heads": 4, "head_dim": 32, "state_size": 5, "n_groups": 1, "conv_kernel": 3, "use_bias": True,
         "use_conv_bias": False, "chunk_size": 8, "tie_word_embeddings": True},
    ),
    "mimo_v2_flash": (
        {"v_head_dim": 12, "head_dim": 20, "num_hidden_layers": 7},
        {"v_head_dim": 12, "head_dim": 20, "layer_types": SF,
         "mlp_layer_types": ["dense", "sparse", "dense", "sparse"], "n_shared_experts": 0},
        {"v_head_dim": 12, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 20,
         "swa_v_head_dim": 12, "sliding_window_size": 8, "hybrid_layer_pattern": [0, 1, 1, 1],
         "moe_layer_freq": [0, 1, 1, 1], "n_shared_experts": None, "add_swa_attention_sink_bias": True},
    ),
    "minicpm3": (
        {**MLA, "v_head_dim": 10},
        {**MLA, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    ),
    "minimax": (
        {"block_size": 8},
        {"block_size": 8,
         "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
         "tie_word_embeddings": True, "head_dim": None},
    ),
    "minimax_m2": ({}, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "ministral": ({}, {"layer_types": SF}, {"sliding_window": 3, "head_dim": 6, "tie_word_embeddings": True}),
    "ministral3": ({"sliding_window": None}, {}, {"head_dim": 6, "tie_word_embeddings": True}),
    "mistral": ({}, {"sliding_window": None, "head_dim": None}, {"sliding_window": 1}),
    "inkling_text": (
        {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 12, "sliding_window_size": 8,
         "num_hidden_layers": 7},
        {"swa_num_attention_heads": 2, "swa_num_key_value_heads": 1, "swa_head_dim": 24, "sliding_window_size": 5,
         "layer_types": ["hybrid_sliding", "hybrid", "hybrid", "hybrid_sliding"], "conv_kernel_size": 3, "d_rel": 6,
         "rel_extent": 11, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], **TIED},
    ),
    "inkling2_text": (
        {**LOOPED, "num_hidden_layers": 7},
        {**LOOPED, "swa_num_key_value_heads": 1, "conv_kernel_size": 3, "num_hidden_layers": 5, "n_routed_experts": 3,
         "layer_types": ["hybrid", "hybrid", "hybrid_sliding", "hybrid_sliding", "hybrid"]},
    ),
    "inkling2_loop_text": (
        {**LOOPED, "num_hidden_layers": 8, "loop_layer_index_start": 2, "loop_layer_index_end": 6,
         "loop_num_passes": 3, "loop_gate_rank": 5,
         "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding", "hybrid"] * 2},
        {**LOOPED, "num_hidden_layers": 6, "loop_layer_index_start": 2, "loop_layer_index_end": 4,
         "loop_num_passes": 1, "loop_gate_rank": 5, "layer_types": ["hybrid_sliding", "hybrid"] * 3},
    ),
    "cohere_compass_text": (
        {"rope_parameters": KINDS8},
        {"rope_parameters": KINDS8, "layer_types": SF, **BIAS, "tie_word_embeddings": False},
    ),
    "qwen4_exp_text": (
        {**DELTA, **QSA, "ple_layer_ids": [2], "ple_embed_dim": 16, "ple_conv_kernel_size": 3, "heads_per_ngram": 2,
         "ngram_vocab_size_base": 50, "make_ngram_vocab_size_divisible_by": 8, "split_ngram_parts": 2},
        {**DELTA, **QSA, "num_hidden_layers": 6, "linear_conv_kernel_dim": 3, **BIAS, **TIED, "ngram_size": 2,
         "ple_layer_ids": [1, 5], "ple_embed_dim": 12, "heads_per_ngram": 3, "ngram_vocab_size_base": 20,
         "make_ngram_vocab_size_divisible_by": 16, "split_ngram_parts": 2,
         "layer_types": ["linear_attention", "full_attention", *["linear_attention", "indexed_attention"] * 2]},
    ),
    "dory": (
        {"num_hidden_layers": 6, "n_input_layers": 2, "n_output_layers": 2},
        {"num_hidden_layers": 6, "n_input_layers": 1, "n_output_layers": 2, "n_recurrent_layers": 3,
         "n_recurrent_loops": 3, "layer_types": ["full_attention", *SF, "full_attention"], **BIAS, **TIED},
    ),
    "dots3_note_text": (
        {**MLA, "index_topk": 8, "index_head_dim": 12, "index_n_heads": 2, "sliding_window": 8, "num_hidden_layers": 6,
         "swa_num_attention_heads": 2, "swa_num_key_value_heads": 2, "swa_q_lora_rank": 14, "swa_kv_lora_rank": 20,
         "swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 10, "n_routed_experts": 4,
         "moe_shared_expert_intermediate_size": 22, "first_k_dense_replace": 2},
        {**MLA, **BIAS, "index_topk": 8, "index_head_dim": 12, "index_n_heads": 2, "sliding_window_size": 8,
         "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 14, "swa_kv_lora_rank": 20,
         "swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 10, "n_routed_experts": 4, "use_dsa": False,
         "layer_types": SF, "n_shared_experts": 2},
    ),
    "mistral4": (
        {"num_key_value_heads": 4, "qk_nope_head_dim": 8, "first_k_dense_replace": 1},
        {"num_key_value_heads": 4, "qk_nope_head_dim": 8, "q_lora_rank": None, "first_k_dense_replace": 0,
         "attention_bias": True},
    ),
    "mixtral": (
        {"sliding_window": None},
        {"sliding_window": 8, "head_dim": None},
        {"num_local_experts": 3, "tie_word_embeddings": True},
    ),
    "mpt": ({}, {"n_heads": 2, "n_layers": 3}),
    "nanochat": ({}, {**BIAS, **TIED}),
    "nemotron": ({}, {**BIAS, "mlp_bias": True, "head_dim": None, "tie_word_embeddings": True}),
    "nemotron_h": (
        {"layers_block_type": ["mamba", "moe", "attention", "mlp", "mamba", "attention"], "mamba_num_heads": 8,
         "mamba_head_dim": 16, "ssm_state_size": 6, "n_groups": 2, "chunk_size": 8,
         "moe_shared_expert_intermediate_size": 30},
        {"hybrid_override_pattern": "M*-ME", "mamba_num_heads": 4, "mamba_head_dim": 12, "ssm_state_size": 5,
         "n_groups": 1, "chunk_size": 8, "conv_kernel": 3, "use_bias": True, "mlp_bias": True, "attention_bias": True,
         "moe_shared_expert_intermediate_size": 30, "moe_latent_size": 16},
        {"hybrid_override_pattern": "MM-*", "mamba_num_heads": 4, "mamba_head_dim": 12, "ssm_state_size": 5,
         "n_groups": 1, "chunk_size": 8, "use_conv_bias": False},
    ),
    "olmo": ({}, {**BIAS, **TIED, "clip_qkv": 4.0}),
    "olmo2": ({}, {**BIAS, **TIED}),
    "olmo3": ({}, {"layer_types": SF, "attention_bias": True}, {"num_hidden_layers": 5, "tie_word_embeddings": True}),
    "olmo_hybrid": (
        DELTA,
        {**DELTA, "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
         "linear_conv_kernel_dim": 3, "attention_bias": True},
        {"num_hidden_layers": 5},
    ),
    "olmoe": ({}, {**BIAS, **TIED, "num_experts": 3}),
    "opt": (
        {"word_embed_proj_dim": 64},
        {"word_embed_proj_dim": 32, "do_layer_norm_before": False, "enable_bias": False},
        {"word_embed_proj_dim": 64, "tie_word_embeddings": False, "layer_norm_elementwise_affine": False},
    ),
    "persimmon": ({}, {"qk_layernorm": False, "tie_word_embeddings": True}),
    "phi": ({}, {"qk_layernorm": True}),
    "phi3": ({}, {"sliding_window": None, "num_key_value_heads": 4}, {"tie_word_embeddings": True}),
    "phimoe": (
        {"sliding_window": None},
        {"attention_bias": True, "lm_head_bias": True},
        {"num_local_experts": 3, "tie_word_embeddings": True},
    ),
    "qwen2": (
        {"use_sliding_window": True, "max_window_layers": 2},
        {"use_sliding_window": False},
        {"layer_types": SF, "use_sliding_window": True, "tie_word_embeddings": True},
    ),
    "qwen2_moe": (
        {"use_sliding_window": True, "max_window_layers": 2, "shared_expert_intermediate_size": 30},
        {"mlp_only_layers": [1], "decoder_sparse_step": 2, "qkv_bias": False, "shared_expert_intermediate_size": 20},
    ),
    "qwen3": (
        {"use_sliding_window": True, "max_window_layers": 1},
        {**BIAS, **TIED},
        {"head_dim": 6, "num_key_value_heads": 4},
    ),
    "qwen3_5_moe_text": (
        {**DELTA, "shared_expert_intermediate_size": 30},
        {**DELTA, "layer_types": ["linear_attention", "full_attention"] * 2, "attention_bias": True,
         "linear_conv_kernel_dim": 3, "tie_word_embeddings": True, "shared_expert_intermediate_size": 20},
    ),
    "qwen3_5_text": (
        DELTA,
        {**DELTA, "layer_types": ["linear_attention", "full_attention"] * 2, "attention_bias": True,
         "linear_conv_kernel_dim": 3, "tie_word_embeddings": True},
    ),
    "qwen3_moe": (
        {},
        {"mlp_only_layers": [0, 3], "attention_bias": True},
        {"decoder_sparse_step": 2, "use_sliding_window": True, "tie_word_embeddings": True},
    ),
    "qwen3_next": (
        {**DELTA, "shared_expert_intermediate_size": 30},
        {**DELTA, "layer_types": ["full_attention", "linear_attention"] * 2, "mlp_only_layers": [2],
         "attention_bias": True, "linear_conv_kernel_dim": 3, "shared_expert_intermediate_size": 30},
    ),
    "recurrent_gemma": (
        {"attention_window_size": 8, "num_hidden_layers": 6},
        {"attention_window_size": 8, "lru_width": 48, "conv1d_width": 3, "block_types": ["recurrent", "attention"],
         "attention_bias": True},
    ),
    "seed_oss": (
        {},
        {"attention_bias": False, "attention_out_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "smollm3": (
        {},
        {"use_sliding_window": True, "no_rope_layer_interval": 2, "attention_bias": True},
        {"no_rope_layers": [1, 0, 1, 0], "mlp_bias": True, "tie_word_embeddings": False},
    ),
    "solar_open": ({}, {"n_shared_experts": 2, "attention_bias": True}),
    "stablelm": (
        {},
        {"use_qkv_bias": True, "qk_layernorm": True},
        {"use_parallel_residual": True, "tie_word_embeddings": True},
    ),
    "starcoder2": ({}, {"use_bias": False, "sliding_window": None}, {"tie_word_embeddings": False}),
    "vaultgemma": ({}, {"attention_bias": True, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}),
    "youtu": ({**MLA}, {**MLA, "q_lora_rank": None, "attention_bias": True, "tie_word_embeddings": False}),
    "zamba2": (
        {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 6, "n_mamba_heads": 8,
         "mamba_ngroups": 2, "chunk_size": 8, "adapter_rank": 6, "num_mem_blocks": 2},
        {"layers_block_type": ["mamba", "mamba", "hybrid", "mamba", "hybrid", "hybrid"], "num_hidden_layers": 6,
         "mamba_d_state": 5, "n_mamba_heads": 4, "chunk_size": 8, "adapter_rank": 6,
         "use_shared_attention_adapter": True, "num_key_value_heads": 4, "add_bias_linear": True,
         "use_mem_rope": True, "num_mem_blocks": 1, "use_conv_bias": False},
    ),
}

# -- a language model beside a tower, and encoder-decoders: (model_type, fields) stands for a nested tiny config

EYES = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14}
CLIP, SIGLIP, PIXTRAL = (("clip_vision_model", EYES), ("siglip_vision_model", EYES), ("pixtral", EYES))
QWEN_EYES = {"depth": 2, "num_heads": 2, "patch_size": 4, "hidden_size": 32, "intermediate_size": 40,
    "out_hidden_size": 64, "num_position_embeddings": 16}
EARS = {"d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 56, "num_mel_bins": 20,
    "output_dim": 64, "max_source_positions": 30}
RADIO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_img_size": 64,
    "video_temporal_patch_size": 2}
NEMOTRON = {"layers_block_type": ["mamba", "moe", "attention", "mlp"], "mamba_num_heads": 8, "mamba_head_dim": 16,
    "ssm_state_size": 6, "n_groups": 2, "chunk_size": 8, "moe_shared_expert_intermediate_size": 30}
GLM_EYES = {"depth": 2, "num_heads": 2, "hidden_size": 32, "intermediate_size": 40, "out_hidden_size": 64,
    "image_size": 28}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 3, 3]}}
MROPE8 = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}}
MROPE4 = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
    "partial_rotary_factor": 0.5}}
T5 = {"d_kv": 10, "d_ff": 72, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4, "n_positions": 12,
    "relative_attention_num_buckets": 6}
BART = {"d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 72, "max_position_embeddings": 24}
TILES = {"num_global_layers": 1, "attention_heads": 2, "vision_output_dim": 64, "max_num_tiles": 2,
    "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [1, 2]]}
GEMMA_PAIR = {"encoder": ("t5_gemma_module", {"num_hidden_layers": 2, "hidden_size": 32,
    "max_position_embeddings": 24}), "decoder": ("t5_gemma_module", {})}

CONFIGS |= {
    "gemma3": (
        {"text_config": ("gemma3_text", {"num_hidden_layers": 7}), "vision_config": SIGLIP},
        {"text_config": ("gemma3_text", {"layer_types": SF}), "vision_config": SIGLIP, "tie_word_embeddings": False},
    ),
    "paligemma": (
        {"text_config": ("gemma", {}), "vision_config": SIGLIP, "projection_dim": 64},
        {"text_config": ("gemma2", {}), "vision_config": SIGLIP, "projection_dim": 64},
    ),
    "llava": (
        {"text_config": ("llama", {}), "vision_config": CLIP},
        {"text_config": ("mistral", {}), "vision_config": CLIP, "multimodal_projector_bias": False,
         "vision_feature_layer": [-1, -2]},
    ),
    "llava_next": (
        {"text_config": ("llama", {}), "vision_config": CLIP},
        {"text_config": ("mistral", {}), "vision_config": SIGLIP},
    ),
    "llava_onevision": (
        {"text_config": ("qwen2", {}), "vision_config": SIGLIP},
        {"text_config": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}), "vision_config": SIGLIP,
         "tie_word_embeddings": True},
    ),
    "mistral_large4": (
        {"text_config": ("mistral_large4_text", LARGE), "vision_config": PIXTRAL},
        {"text_config": ("mistral_large4_text", {**LARGE, "num_hidden_layers": 6,
            "kv_source_layers": [0, 0, 2, 2, 2, 5], "no_rope_layers": [1, 1, 0, 0, 0, 1], "attention_bias": True,
            "indexer_types": ["full", "shared", "full", "full", "shared", "full"]}), "vision_config": PIXTRAL},
        {"text_config": ("mistral_large4_text", {**LARGE, "first_k_dense_replace": 2, "n_shared_experts": 2}),
         "vision_config": PIXTRAL, "multimodal_projector_bias": True},
    ),
    "mistral3": (
        {"text_config": ("mistral", {}), "vision_config": PIXTRAL},
        {"text_config": ("ministral3", {"sliding_window": None}), "vision_config": PIXTRAL,
         "multimodal_projector_bias": True, "tie_word_embeddings": False},
    ),
    "internvl": (
        {"text_config": ("qwen2", {}), "vision_config": ("internvl_vision", EYES)},
        {"text_config": ("qwen3", {}),
         "vision_config": ("internvl_vision", {**EYES, "use_qk_norm": True, "attention_bias": True,
             "norm_type": "rms_norm"}),
         "tie_word_embeddings": False},
    ),
    "idefics3": (
        {"text_config": ("llama", {}), "vision_config": ("idefics3_vision", EYES)},
        {"text_config": ("llama", {}), "vision_config": ("idefics3_vision", EYES), "scale_factor": 1,
         "tie_word_embeddings": True},
    ),
    "smolvlm": ({"text_config": ("llama", {}), "vision_config": ("smolvlm_vision", EYES)},),
    "aya_vision": (
        {"text_config": ("cohere2", {}), "vision_config": SIGLIP},
        {"text_config": ("cohere2", {"layer_types": SF}), "vision_config": SIGLIP, "tie_word_embeddings": False},
    ),
    "cohere2_vision": ({"text_config": ("cohere2", {}), "vision_config": SIGLIP, "alignment_intermediate_size": 48},),
    "llama4": (
        {"text_config": ("llama4_text", {"attention_chunk_size": 8}),
         "vision_config": ("llama4_vision_model", {**EYES, "vision_output_dim": 24, "projector_input_dim": 24,
         "projector_output_dim": 24, "intermediate_size": 128})},
    ),
    "mllama": (
        {"text_config": ("mllama_text_model", {"cross_attention_layers": [1, 3], "num_hidden_layers": 5}),
         "vision_config": ("mllama_vision_model", {**EYES, **TILES})},
    ),
    "qwen2_vl": (
        {"text_config": ("qwen2_vl_text", MROPE8),
         "vision_config": ("qwen2_vl_vision", {**QWEN_EYES, "embed_dim": 32, "hidden_size": 64})},
        {"text_config": ("qwen2_vl_text", {**MROPE8, "use_sliding_window": True, "max_window_layers": 2}),
         "vision_config": ("qwen2_vl_vision", {**QWEN_EYES, "embed_dim": 32, "hidden_size": 64}),
         "tie_word_embeddings": True},
    ),
    "qwen2_5_omni_thinker": (
        {"text_config": ("qwen2_5_omni_text", MROPE8),
         "audio_config": ("qwen2_5_omni_audio_encoder", EARS),
         "vision_config": ("qwen2_5_omni_vision_encoder", QWEN_EYES)},
    ),
    "qwen3_omni_moe_thinker": (
        {"text_config": ("qwen3_omni_moe_text", MROPE),
         "audio_config": ("qwen3_omni_moe_audio_encoder", {**EARS, "downsample_hidden_size": 12}),
         "vision_config": ("qwen3_omni_moe_vision_encoder", {**QWEN_EYES, "deepstack_visual_indexes": [0, 1]})},
    ),
    "qwen2_5_vl": ({"text_config": ("qwen2_5_vl_text", MROPE8), "vision_config": ("qwen2_5_vl_vision", QWEN_EYES)},),
    "qwen3_vl": (
        {"text_config": ("qwen3_vl_text", MROPE),
         "vision_config": ("qwen3_vl_vision", {**QWEN_EYES, "deepstack_visual_indexes": [0, 1]})},
    ),
    "qwen3_vl_moe": (
        {"text_config": ("qwen3_vl_moe_text", MROPE),
         "vision_config": ("qwen3_vl_moe_vision", {**QWEN_EYES, "deepstack_visual_indexes": [1]})},
        {"text_config": ("qwen3_vl_moe_text", {**MROPE, "mlp_only_layers": [0, 3], "attention_bias": True}),
         "vision_config": ("qwen3_vl_moe_vision", QWEN_EYES), "tie_word_embeddings": True},
    ),
    "qwen3_5": ({"text_config": ("qwen3_5_text", DELTA), "vision_config": ("qwen3_5_vision", QWEN_EYES)},),
    "qwen3_5_moe": (
        {"text_config": ("qwen3_5_moe_text", {**DELTA, "shared_expert_intermediate_size": 30}),
         "vision_config": ("qwen3_5_moe_vision", QWEN_EYES)},
    ),
    "glm4v": ({"text_config": ("glm4v_text", MROPE4), "vision_config": ("glm4v_vision", GLM_EYES)},),
    "glm46v": ({"text_config": ("glm4v_text", MROPE4), "vision_config": ("glm4v_vision", GLM_EYES)},),
    "glm4v_moe": ({"text_config": ("glm4v_moe_text", MROPE4), "vision_config": ("glm4v_moe_vision", GLM_EYES)},),
    "kimi_k25": (
        {"text_config": ("deepseek_v3", {**MLA, "first_k_dense_replace": 1}),
         "vision_config": ("kimi_k25_vision", {**EYES, "pos_emb_height": 4, "pos_emb_width": 4}),
         "projection_hidden_size": 32},
    ),
    "gemma4": (
        {"text_config": ("gemma4_text", {"num_hidden_layers": 6, "global_head_dim": 28,
         "hidden_size_per_layer_input": 0}),
         "vision_config": None, "audio_config": None},
        {"text_config": ("gemma4_text", {"layer_types": SF, "global_head_dim": 24, "num_global_key_value_heads": 1,
         "attention_k_eq_v": True, "hidden_size_per_layer_input": 0}),
         "vision_config": ("gemma4_vision", {**EYES, "num_key_value_heads": 2, "head_dim": 16,
             "position_embedding_size": 8}),
         "audio_config": ("gemma4_audio", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "subsampling_conv_channels": [8, 4], "output_proj_dims": 24})},
    ),
    "diffusion_gemma": (
        {"text_config": ("diffusion_gemma_text", {"num_hidden_layers": 6, "global_head_dim": 24, "num_experts": 4,
         "num_global_key_value_heads": 1, "top_k_experts": 2, "moe_intermediate_size": 24}),
         "vision_config": ("gemma4_vision", {**EYES, "num_key_value_heads": 2, "head_dim": 16,
             "position_embedding_size": 8})},
    ),
    "qwen3_asr": (
        {"text_config": ("qwen3", {}), "audio_config": ("qwen3_asr_encoder", {**EARS, "downsample_hidden_size": 12})},
    ),
    "nemotron_h_omni": (
        {"text_config": ("nemotron_h", NEMOTRON), "vision_config": ("radio", RADIO), "audio_config": None,
         "vision_hidden_size": 32, "projector_hidden_size": 24},
        {"text_config": ("nemotron_h", NEMOTRON), "vision_config": ("radio", {**RADIO, "patch_size": 8}),
         "vision_hidden_size": 32, "projector_hidden_size": 24,
         "audio_config": ("parakeet_encoder", {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
             "num_attention_heads": 2, "subsampling_conv_channels": 8, "num_mel_bins": 16, "attention_bias": False,
             "convolution_bias": False, "projection_hidden_size": 20, "projection_bias": False})},
    ),
    "lfm2_vl": (
        {"text_config": ("lfm2", {"layer_types": ["conv", "full_attention", "conv", "conv"], **TIED}),
         "vision_config": ("siglip2_vision_model", {**EYES, "num_patches": 9, "vision_use_head": False}),
         "projector_hidden_size": 24},
        {"text_config": ("lfm2", {"layer_types": ["conv", "full_attention", "conv", "conv"]}),
         "vision_config": ("siglip2_vision_model", {**EYES, "num_patches": 9, "vision_use_head": True}),
         "projector_hidden_size": 24, "projector_use_layernorm": False, "projector_bias": False,
         "downsample_factor": 1},
    ),
    "hrm_text": ({"H_cycles": 1, "L_cycles": 2}, {"attention_bias": True}),
    "aria_text": ({"moe_num_shared_experts": 1}, {"attention_bias": True, "mlp_bias": True}),
    "apertus1p5_text": ({}, TIED),
    "t5": (T5, {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": (T5, {**T5, "num_decoder_layers": None}),
    "umt5": (T5,),
    "longt5": (
        {**T5, "local_radius": 4},
        {**T5, "local_radius": 4, "encoder_attention_type": "transient-global", "global_block_size": 4},
    ),
    "bart": (BART, {**BART, "tie_word_embeddings": False}),
    "mbart": (BART,),
    "pegasus": (BART,),
    "bigbird_pegasus": ({**BART, "attention_type": "original_full"}, {**BART, "use_bias": True}),
    "pegasus_x": ({**BART, "num_global_tokens": 3, "block_size": 8},),
    "led": ({**BART, "attention_window": 4, "max_encoder_position_embeddings": 16,
        "max_decoder_position_embeddings": 32},),
    "nllb-moe": ({**BART, "encoder_sparse_step": 2, "decoder_sparse_step": 1}, {**BART, "decoder_sparse_step": 0}),
    "switch_transformers": ({**T5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 2},),
    "m2m_100": (BART,),
    "blenderbot": (BART,),
    "blenderbot-small": (BART,),
    "mvp": (BART,),
    "plbart": (BART,),
    "marian": (
        {**BART, "decoder_start_token_id": 0},
        {**BART, "decoder_start_token_id": 0, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 80,
         "tie_word_embeddings": False},
    ),
    "whisper": (
        {**BART, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 30,
         "decoder_start_token_id": 0},
    ),
    "moonshine": (
        {"encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 3, "encoder_num_attention_heads": 4,
         "decoder_num_attention_heads": 4, "decoder_num_key_value_heads": 4},
        {"encoder_num_hidden_layers": 3, "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 2,
         "decoder_num_attention_heads": 2,
         "pad_head_dim_to_multiple_of": 10, **BIAS},
    ),
    "t5gemma": (
        GEMMA_PAIR,
        {"encoder": ("t5_gemma_module", {"layer_types": SF, "attention_bias": True, "max_position_embeddings": 5}),
         "decoder": ("t5_gemma_module", {"layer_types": SF, "hidden_size": 64, "attention_bias": True})},
    ),
}
# fmt: on

CASES = [
    pytest.param(
        family,
        index,
        id=f"{family}-{index}",
        marks=pytest.mark.skipif(
            Version(transformers.__version__) < Version(SINCE.get(family, "0")),
            reason=f"transformers has {family} from {SINCE.get(family)} on",
        ),
    )
    for family, variants in CONFIGS.items()
    for index in range(len(variants))
]


def written(model_type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a tiny config.json as a person writes it: the common fields the class has, then its own."""
    cls = config_class(model_type)
    known = {field.name for field in dataclasses.fields(cls)}
    common, own = (
        {key if key in known else cls.attribute_map.get(key, key): value for key, value in part.items()}
        for part in (COMMON, fields)
    )
    own = {key: written(*value) if isinstance(value, tuple) else value for key, value in own.items()}
    return {
        "model_type": model_type,
        **{key: value for key, value in common.items() if key in known and key not in own},
        **own,
    }


def build_config(model_type: str, fields: dict[str, Any], **more: Any) -> Any:
    stated = written(model_type, fields)
    del stated["model_type"]
    return config_class(model_type)(**copy.deepcopy(stated), **more)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and those of two pytest workers wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def config_class(model_type: str) -> Any:
    """Return the config class of a model type; some exist only inside another (T5Gemma's halves)."""
    known = transformers.CONFIG_MAPPING
    if model_type in known:
        return known[model_type]
    inner = [sub for outer in TOWERS if outer in known for sub in known[outer].sub_configs.values()]
    return next(sub for sub in inner if getattr(sub, "model_type", None) == model_type)


def build_model(config: Any, dtype: Any) -> Any:
    """Return the model with a language head that transformers builds from the config."""
    # a multimodal type builds its text part alone as a causal model, so that comes after the models with a tower
    heads = {
        transformers.AutoModelForImageTextToText: transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        transformers.AutoModelForSeq2SeqLM: transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        transformers.AutoModelForSpeechSeq2Seq: transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
        transformers.AutoModelForCausalLM: transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    }
    auto = next(auto for auto, built in heads.items() if type(config) in built)
    return auto.from_config(config, dtype=dtype).eval()


def readings(family: str, index: int, dtype: str, folder: Path) -> list[ModelSpec]:
    """Return the specs read from a file as published, as the class spells it out, and as save_pretrained writes it."""
    config = build_config(family, CONFIGS[family][index], dtype=dtype)
    config.save_pretrained(folder)
    raws = (
        written(family, CONFIGS[family][index]) | {"dtype": dtype},
        config.to_dict(),
        json.loads((folder / "config.json").read_text("utf-8")),
    )
    return [
        read_model(json.loads(json.dumps(raw)), name=family, place=family, source=SOURCE, classes=class_defaults())
        for raw in raws
    ]


def prefill(model: Any, length: int) -> Any:
    """Return the cache after a prefill of `length` tokens."""
    config, tokens = model.config, some_tokens(length)
    runs = model
    if config.model_type == "whisper":
        given = {
            "input_features": torch.randn(
                BATCH, config.num_mel_bins, 2 * config.max_source_positions, dtype=model.dtype
            ),
            "decoder_input_ids": tokens,
        }
    elif config.model_type == "moonshine":  # 30 s of speech
        given = {"input_values": torch.randn(BATCH, 480_000, dtype=model.dtype), "decoder_input_ids": tokens}
    elif config.is_encoder_decoder:
        encoder = config.encoder if config.model_type == "t5gemma" else config
        lengths = ("n_positions", "max_encoder_position_embeddings", "max_position_embeddings")
        given = {
            "input_ids": some_tokens(next((n for key in lengths if (n := getattr(encoder, key, 0))), 512)),
            "decoder_input_ids": tokens,
        }
    elif config.model_type == "mllama":
        tiles, side = config.vision_config.max_num_tiles, config.vision_config.image_size
        given = {
            "input_ids": tokens,
            "pixel_values": torch.randn(BATCH, 1, tiles, 3, side, side, dtype=model.dtype),
            "aspect_ratio_ids": torch.ones(BATCH, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(BATCH, 1, tiles, dtype=torch.long),
            "cross_attention_mask": torch.ones(BATCH, length, 1, tiles, dtype=torch.long),
        }
    elif config.model_type == "diffusion_gemma":  # its decoder only reads the cache that its encoder fills
        runs, given = model.model.encoder, {"input_ids": tokens}
    else:  # text alone fills the decoder's cache; what wraps the decoder can break from one release to the next
        # ModernBERT's names its output head so
        runs = model.model if config.model_type == "modernbert-decoder" else model.get_decoder()
        given = {"input_ids": tokens}
    if config.model_type == "recurrent_gemma":  # it returns no cache, but fills one it is given
        name = next(n for n in inspect.signature(runs.forward).parameters if n in ("cache", "past_key_values"))
        given[name] = transformers.DynamicCache(config=config)
    if config.model_type != "switch_transformers":  # hands it to its encoder too, which refuses it; on by default
        given["use_cache"] = True
    with torch.no_grad():
        made = runs(**given)
    if config.model_type in ("rwkv", "xlstm"):  # classes of their own that hold tensors by layer
        return made["state"] if "state" in made else next(v for v in made.values() if hasattr(v, "rnn_state")).rnn_state
    return next(value for value in (*given.values(), *made.values()) if isinstance(value, transformers.Cache))


def some_tokens(length: int) -> Any:
    """Return random tokens that every vocabulary of the tiny models has, those of per-layer embeddings too. [token]"""
    return torch.randint(3, 70, (BATCH, length))


def held(cache: object) -> int:
    """Return the bytes of every tensor of numbers a cache holds, under whatever name; its counters are integers. [B]

    A view counts as what it shows, not what it keeps alive.
    """
    found: dict[int, Any] = {}
    reached: dict[int, object] = {}  # by identity, and kept alive so that no identity is used twice
    waiting = [cache]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            if value.is_floating_point():
                found[id(value)] = value
        elif id(value) not in reached:
            reached[id(value)] = value
            if isinstance(value, Mapping):
                waiting += value.values()
            elif isinstance(value, (list, tuple)):
                waiting += value
            elif type(value).__module__.startswith("transformers."):
                waiting += vars(value).values()
    return sum(tensor.element_size() * tensor.numel() for tensor in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(("family", "index"), CASES)
def test_cache_holds_as_many_bytes(family: str, index: int, tmp_path: Path) -> None:
    for dtype, bits in (("float32", 32), ("bfloat16", 16)):
        model = build_model(build_config(family, CONFIGS[family][index], dtype=dtype), getattr(torch, dtype))
        layouts = [kv_layout(spec, bits, reading="transformers") for spec in readings(family, index, dtype, tmp_path)]
        for length in LENGTHS:
            expected = held(prefill(model, length))
            assert expected > 0
            assert [layout.stored(length) * BATCH for layout in layouts] == [expected] * 3, f"{dtype}, {length} tokens"


@pytest.mark.parametrize(("family", "index"), CASES)
def test_parameters_equal_the_class(family: str, index: int, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = build_model(build_config(family, CONFIGS[family][index]), torch.bfloat16)
    expected = sum(p.numel() for p in model.parameters())
    if family == "longcat_flash":  # the class allocates a projection of experts that do nothing, and no file holds it
        c = model.config
        expected -= c.num_layers * c.zero_expert_num * 2 * c.expert_ffn_hidden_size * c.hidden_size
    assert [spec.parameters for spec in readings(family, index, "bfloat16", tmp_path)] == [expected] * 3


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.24"), reason="transformers has glm5_next from 5.24 on"
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"layer_types": ["linear_attention", "indexed_attention", "full_attention"] * 2, "num_hidden_layers": 6,
         "n_shared_experts": 2, "indexer_types": ["full", "full", "shared"] * 2, 
         "linear_attn_config": {"head_dim": 6, "num_heads": 5, "short_conv_kernel_size": 3}},
    ],
)  # fmt: skip
def test_glm5_next(more: dict[str, Any]) -> None:
    """GLM-5.3 has no class of its language model with a head, so its body is compared, and the head added."""
    from transformers.models.glm5_next.modeling_glm5_next import Glm5NextTextModel

    fields = {**MLA, "qk_rope_head_dim": 0, "index_topk": 8, "index_head_dim": 12, "index_n_heads": 2,
              "linear_head_dim": 8, "linear_num_heads": 3, "hc_mult": 3, "index_kpool": 4, **more}  # fmt: skip
    for dtype, bits in (("float32", 32), ("bfloat16", 16)):
        config = build_config("glm5_next_text", fields, dtype=dtype)
        raw = written("glm5_next_text", fields) | {"dtype": dtype}
        spec = read_model(raw, name="glm", place="glm", source=SOURCE, classes=class_defaults())
        model = Glm5NextTextModel(config).to(getattr(torch, dtype)).eval()
        head = config.vocab_size * config.hidden_size
        assert spec.parameters == sum(p.numel() for p in model.parameters()) + head
        for length in LENGTHS:
            cache = transformers.DynamicCache(config=config)
            with torch.no_grad():
                model(input_ids=some_tokens(length), use_cache=True, cache=cache)
            assert kv_layout(spec, bits, reading="transformers").stored(length) * BATCH == held(cache)


MUSE = {"num_key_value_heads": 2, "head_dim": 12, "sliding_window": 8, "num_hidden_layers": 6}
POOLED = {**MUSE, "moe_hidden_size": 32, "moe_intermediate_size": 24, "num_local_experts": 3}
GLIMMER, SPARK = "muse_glimmer.modeling_muse_glimmer.MuseGlimmer", "muse_spark.modeling_muse_spark.MuseSpark"
MOLMO = "molmo2.modeling_molmo2.Molmo2"
INSIDE = [  # (model type, body, fields)
    ("muse_glimmer_text", GLIMMER, MUSE),
    ("muse_glimmer_text", GLIMMER, {**MUSE, **BIAS, "num_hidden_layers": 4, "layer_types": SF}),
    ("muse_spark_text", SPARK, POOLED),
    ("muse_spark_text", SPARK, {**POOLED, **BIAS, "mlp_layer_types": ["dense", "sparse"] * 3}),
    ("molmo2_text", MOLMO, {**BIAS, "additional_vocab_size": 5}),
    ("molmo2_text", MOLMO, {"qk_norm_type": "olmo", "head_dim": 12}),
]


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.24"), reason="transformers has them from 5.24 on")
@pytest.mark.parametrize(("family", "body", "fields"), INSIDE)
def test_language_models_inside_a_tower(family: str, body: str, fields: dict[str, Any]) -> None:
    """Models without a class of their language model with a head: their bodies are compared, and the head added."""
    module, name = body.rsplit(".", 1)
    for dtype, bits in (("float32", 32), ("bfloat16", 16)):
        config = build_config(family, fields, dtype=dtype)
        raws = (written(family, fields) | {"dtype": dtype}, json.loads(config.to_json_string(use_diff=False)))
        specs = [read_model(raw, name="it", place="it", source=SOURCE, classes=class_defaults()) for raw in raws]
        model = getattr(importlib.import_module(f"transformers.models.{module}"), f"{name}TextModel")(config)
        model = model.to(getattr(torch, dtype)).eval()
        head = config.vocab_size * config.hidden_size
        assert [s.parameters for s in specs] == [sum(p.numel() for p in model.parameters()) + head] * 2
        for length in LENGTHS:
            cache = transformers.DynamicCache(config=config)
            with torch.no_grad():
                model(input_ids=some_tokens(length), use_cache=True, cache=cache)
            stored = [kv_layout(s, bits, reading="transformers").stored(length) * BATCH for s in specs]
            assert stored == [held(cache)] * 2


def test_published_counts_of_whole_classes() -> None:
    """LongCat-Flash: 560 B of which 18.6 to 31.3 B are active (arXiv 2509.01322). dots 3 Note: layers written '02'."""
    for model_type, cls, billions in (
        ("longcat_flash", "LongcatFlashForCausalLM", 560.7), ("dots3_note_text", "Dots3NoteForCausalLM", 279.55),
    ):  # fmt: skip
        if Version(transformers.__version__) < Version(SINCE.get(model_type, "0")):
            continue
        raw = json.loads(config_class(model_type)().to_json_string(use_diff=False)) | {"architectures": [cls]}
        spec = read_model(raw, name="it", place="it", source=SOURCE, classes=class_defaults())
        assert spec.parameters / 1e9 == pytest.approx(billions, abs=0.05)


def test_every_family_is_compared_or_listed() -> None:
    """A new reader needs a tiny config here, or a reason."""
    fields = [value for variants in CONFIGS.values() for variant in variants for value in variant.values()]
    inside = {value[0] for value in fields if isinstance(value, tuple)}
    assert set(FAMILIES) | set(TOWERS) <= set(CONFIGS) | set(UNTESTED) | inside
    assert not set(CONFIGS) & set(UNTESTED)
