"""Any config.json: every spelling accepted, what is missing named, what is unknown refused."""

import json
from typing import Any

import pytest

from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.errors import SpecError, UnknownName
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import weights
from kvplan.specs.source import Source

HERE = Source(kind="config", ref="test", date="2026-11-23")
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 1000, "tie_word_embeddings": False,
}  # fmt: skip


def read(raw: dict, **changes: object):
    merged = {**raw, **changes}
    return read_model(
        {k: v for k, v in merged.items() if v is not ...},
        name="test",
        place="config.json",
        source=HERE,
        classes=class_defaults(),
    )


def per_token(raw: dict, **changes: object) -> float:
    return kv_layout(read(raw, **changes), 16).growth(10**6)


def test_parameters_by_hand() -> None:
    attention = 2 * 512 * 512 + 2 * 128 * 512
    assert read(LLAMA).parameters == 2 * 1000 * 512 + 4 * (attention + 3 * 1024 * 512 + 2 * 512) + 512
    assert read(LLAMA, tie_word_embeddings=True).parameters == read(LLAMA).parameters - 1000 * 512


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_size_is_named(field: str) -> None:
    with pytest.raises(SpecError, match=f"config.json: missing {field}"):
        read(LLAMA, **{field: ...})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": "512"}, "hidden_size"),
        ({"hidden_size": -512}, "hidden_size"),
        ({"hidden_size": 512.5}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"head_dim": [64]}, "head_dim"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"torch_dtype": "float3"}, "dtype"),
        ({"quantization_config": 4}, "quantization_config"),
    ],
)
def test_a_wrong_value_is_named(change: dict, named: str) -> None:
    with pytest.raises(SpecError, match=named):
        read(LLAMA, **change)


def test_an_unknown_architecture_is_named_or_refused() -> None:
    assert "kvplan does not know 'lama'" in read(LLAMA, model_type="lama").assumed[0]
    with pytest.raises(UnknownName, match="no architecture named 'lama'; its field 'sliding_window'"):
        read(LLAMA, model_type="lama", sliding_window=64)
    assert "which the file does not name" in read(LLAMA, model_type=...).assumed[0]
    with pytest.raises(UnknownName, match="its field 'sliding_window'"):
        read(LLAMA, model_type=..., sliding_window=64)
    assert read(LLAMA, model_type=..., architectures=["LlamaForCausalLM"]).parameters == read(LLAMA).parameters


def test_spellings_of_kv_heads() -> None:
    four_layers = 4 * 64 * 2 * 2
    assert per_token(LLAMA) == 2 * four_layers
    assert per_token(LLAMA, num_key_value_heads=None) == 8 * four_layers
    assert per_token(LLAMA, num_key_value_heads=...) == 8 * four_layers
    falcon = {"model_type": "falcon", "hidden_size": 512, "n_layer": 4, "n_head": 8, "vocab_size": 1000}
    assert per_token(falcon) == four_layers  # multi_query is the class default
    assert per_token(falcon, multi_query=False) == 8 * four_layers
    assert per_token(falcon, new_decoder_architecture=True, n_head_kv=2) == 2 * four_layers
    assert per_token(falcon, new_decoder_architecture=True, num_kv_heads=4) == 4 * four_layers
    bigcode = {
        "model_type": "gpt_bigcode",
        "n_embd": 512,
        "n_layer": 4,
        "n_head": 8,
        "vocab_size": 1000,
        "n_positions": 64,
    }
    assert per_token(bigcode, multi_query=True) == four_layers
    assert per_token(bigcode, multi_query=False) == 8 * four_layers
    dbrx = {
        "model_type": "dbrx",
        "d_model": 512,
        "n_layers": 4,
        "n_heads": 8,
        "vocab_size": 1000,
        "attn_config": {"kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 64},
    }
    assert per_token(dbrx) == 2 * four_layers


def test_head_dim_explicit_null_and_by_class() -> None:
    assert per_token(LLAMA, head_dim=80) == 4 * 2 * 80 * 2 * 2
    assert per_token(LLAMA, head_dim=None) == 4 * 2 * 64 * 2 * 2
    assert per_token(LLAMA, model_type="qwen3") == 4 * 2 * 128 * 2 * 2
    assert per_token(LLAMA, model_type="gemma") == 4 * 2 * 256 * 2 * 2


@pytest.mark.parametrize(
    ("model_type", "change", "windows"),
    [
        ("mistral", {}, 4),  # absent: the class default of 4,096 in every layer
        ("mistral", {"sliding_window": None}, 0),
        ("qwen2", {"sliding_window": 128}, 0),  # use_sliding_window is false
        (
            "qwen2",
            {"sliding_window": 128, "use_sliding_window": True, "max_window_layers": 3},
            1,
        ),  # the first three are full
        ("gemma2", {"sliding_window": 128}, 2),
        ("gemma3_text", {"sliding_window": 128, "sliding_window_pattern": 2}, 2),
        ("gemma3_text", {"sliding_window": 128, "layer_types": ["full_attention"] + ["sliding_attention"] * 3}, 3),
        ("cohere2", {"sliding_window": 128}, 3),
        ("exaone4", {"sliding_window": 128, "sliding_window_pattern": "LLLG"}, 3),
        ("olmo3", {"sliding_window": 128}, 3),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}, 0),
    ],
)
def test_windows(model_type: str, change: dict, windows: int) -> None:
    layout = kv_layout(read(LLAMA, model_type=model_type, **change), 16)
    assert sum(g.count for g in layout.groups if g.kind == "sliding") == windows


def test_a_list_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(SpecError, match="layer_types has 3 entries for 4 layers"):
        read(LLAMA, model_type="gemma3_text", layer_types=["full_attention"] * 3)
    with pytest.raises(SpecError, match="no layer kind kvplan knows"):
        read(LLAMA, model_type="gemma3_text", layer_types=["dense"] * 4)


def test_hybrid_patterns() -> None:
    base = {
        **LLAMA,
        "model_type": "nemotron_h",
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 2,
        "conv_kernel": 4,
    }
    layout = kv_layout(read(base, hybrid_override_pattern="M-M*"), 16)
    assert {g.kind: g.layers for g in layout.groups} == {"state": (0, 2), "full": (3,)}
    with pytest.raises(SpecError, match="'X'; known: M"):
        read(base, hybrid_override_pattern="MX")
    with pytest.raises(SpecError, match="missing hybrid_override_pattern"):
        read(base)


def test_kimi_linear_counts_layers_from_one() -> None:
    base = {
        **LLAMA, "model_type": "kimi_linear", "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
        "v_head_dim": 16, "q_lora_rank": None,
        "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_token": 2,
        "linear_attn_config": {"full_attn_layers": [4], "num_heads": 4, "head_dim": 16, "short_conv_kernel_size": 4},
    }  # fmt: skip
    assert next(g.layers for g in kv_layout(read(base), 16).groups if g.kind == "latent") == (3,)


@pytest.mark.parametrize(
    ("block", "bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "symmetric": True}}},
            },
            4.5,
        ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, 8.25),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4_AWQ"}}, 4.5),
        ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, 4.25),
        ({"quant_method": "higgs", "bits": 4, "group_size": 256}, 4 + 16 / 256),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, 8),
    ],
)
def test_quantised_checkpoints(block: dict, bits: float) -> None:
    how = read(LLAMA, quantization_config=block).quantization
    assert how is not None and how.bits == pytest.approx(bits)
    assert how.kv_bits == (8 if "kv_cache_quant_algo" in block else None)


def test_autoround_lists_modules_of_other_widths() -> None:
    block = {"quant_method": "auto-round", "bits": 4, "group_size": 128}
    listed = {"model.layers.0.mlp.down_proj": {"bits": 8}, "model.layers.1.mlp.down_proj": {"bits": 16}}
    plain, mixed = (read(LLAMA, quantization_config=b) for b in (block, {**block, "extra_config": listed}))
    one = next(w.parameters for _, w in plain.weights() if w.name == "mlp.down_proj")
    width = 4 + 20 / 128
    more = weights(mixed, None).total - weights(plain, None).total
    assert more == pytest.approx(one * ((8 + 24 / 128 - width) + (16 - width)) / 8)


def test_a_config_file_may_hold_a_bare_infinity(tmp_path, run) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]}))
    assert run("memory", "--model", str(path), "--context", "1k", "--json").json["kv"]["attention_bytes"] == 1024 * 2048


@pytest.mark.parametrize(
    ("change", "per_token"),
    [
        ({"n_head_kv": 8}, 122_880),  # the first Falcon-40B file: nothing but n_head_kv
        ({"n_head_kv": 8, "new_decoder_architecture": True}, 122_880),
        ({}, 15_360),  # RefinedWebModel without it is multi-query
    ],
)
def test_legacy_falcon_files(change: dict, per_token: int) -> None:
    legacy = {
        "model_type": "RefinedWeb",
        "hidden_size": 8192,
        "n_head": 128,
        "n_layer": 60,
        "vocab_size": 65024,
        "alibi": False,
        "bias": False,
        "parallel_attn": True,
    }
    layout = kv_layout(read(legacy, **change), 16)
    assert layout.growth(1) == per_token


def test_layer_types_beat_everything() -> None:
    types = ["full_attention", "sliding_attention"] * 2
    for model_type in ("mistral", "mixtral", "phi3", "starcoder2", "llama", "olmo"):
        more = {"num_local_experts": 4, "num_experts_per_tok": 2} if model_type == "mixtral" else {}
        layout = kv_layout(read(LLAMA, model_type=model_type, sliding_window=128, layer_types=types, **more), 16)
        assert {g.kind: g.count for g in layout.groups} == {"full": 2, "sliding": 2}, model_type
    with pytest.raises(SpecError, match="without a sliding_window"):
        read(LLAMA, model_type="mistral", sliding_window=None, layer_types=types)


def test_transformers_trims_to_a_window_the_model_does_not_use() -> None:
    model = read(LLAMA, sliding_window=128)
    assert kv_layout(model, 16).stored(1000) == 1000 * 2048
    assert kv_layout(model, 16, reading="transformers").stored(1000) == 127 * 2048


@pytest.mark.parametrize(
    ("nest", "outer"),
    [
        ("llm_config", "ovis"),
        ("language_config", "deepseek_vl_v2"),
        ("thinker_config", "qwen2_5_omni"),
        ("text_config", "aria"),
        ("text_config", None),
    ],
)
def test_the_language_model_of_a_remote_code_file_is_read_and_the_rest_said_to_be_missing(
    nest: str, outer: str | None
) -> None:
    model = read({nest: LLAMA, **({"model_type": outer} if outer else {})})
    assert model.parameters == read(LLAMA).parameters
    assert "only its language model (llama) is read" in model.notes[0]


def test_a_state_is_as_wide_as_the_file_says() -> None:
    base = {
        **LLAMA,
        "model_type": "nemotron_h",
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 2,
        "conv_kernel": 4,
        "hybrid_override_pattern": "M*M-",
    }
    state = {
        d: kv_layout(read(base, mamba_ssm_cache_dtype=d), 16).part("state").stored(1)
        for d in (..., "float32", "bfloat16")
    }
    assert state[...] == state["bfloat16"] and state["float32"] - state[...] == 2 * 8 * 16 * 16 * 2


MPT = {"model_type": "mpt", "d_model": 3072, "n_heads": 24, "n_layers": 32, "vocab_size": 32768, "max_seq_len": 4096}


@pytest.mark.parametrize(
    ("stated", "groups"),
    [
        ({"attn_type": "grouped_query_attention", "kv_n_heads": 8}, 8),  # replit-code-v1_5-3b
        ({"attn_type": "multiquery_attention"}, 1),
        ({"attn_type": "multihead_attention"}, 24),
        ({}, 24),
    ],
)
def test_an_mpt_keeps_the_heads_that_its_attn_config_says(stated: dict[str, object], groups: int) -> None:
    model = read({**MPT, "attn_config": stated})
    assert kv_layout(model, 16).stored(4096) == 32 * 2 * groups * 128 * 2 * 4096
    qkv, out, mlp = 3072 * (3072 + 2 * groups * 128), 3072**2, 8 * 3072**2
    assert model.parameters == 32 * (qkv + out + mlp + 2 * 3072) + 32768 * 3072 + 3072


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"attn_config": {"kv_n_heads": 2}}, "grouped_query_attention"),
        ({"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 7}}, "divide 24"),
        ({"attn_config": {"attn_type": "linear"}}, "'linear'"),
        ({"attn_config": {"sliding_window_size": 512}}, "sliding_window_size 512"),
        ({"ffn_config": {"ffn_type": "mptglu"}}, "'mptglu'"),
    ],
)
def test_an_mpt_of_another_kind_is_refused(stated: dict[str, object], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        read({**MPT, **stated})


def test_plamo_shares_key_value_heads_whatever_its_file_says() -> None:
    model = read(
        {
            "model_type": "plamo",
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
            "n_shared_head": 8,
            "vocab_size": 50432,
            "tie_word_embeddings": False,
        }
    )
    assert kv_layout(model, 16).stored(4096) == 40 * 2 * 5 * 128 * 2 * 4096
    layer = 5120 * (5120 + 2 * 640 + 5120) + 3 * 5120 * 13824 + 5120
    assert model.parameters == 40 * layer + 2 * 50432 * 5120 + 5120


AQLM = {"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "nbits_per_codebook": 16, "num_codebooks": 1}


@pytest.mark.parametrize(
    ("changed", "gigabytes"),
    [({}, 4.084), ({"num_codebooks": 2}, 6.064), ({"nbits_per_codebook": 8, "num_codebooks": 2}, 3.851)],
)
def test_aqlm_keeps_a_codebook_and_scales_beside_each_matrix(changed: dict[str, object], gigabytes: float) -> None:
    """The card of Llama 3 8B in 2 bits says 4.1 GB (ISTA-DASLab/Meta-Llama-3-8B-Instruct-AQLM-2Bit-1x16)."""
    model = read(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "tie_word_embeddings": False,
            "dtype": "float16",
            "quantization_config": {**AQLM, **changed, "linear_weights_not_to_quantize": ["lm_head.weight"]},
        }
    )
    indices = 6979321856 * changed.get("num_codebooks", 1) * changed.get("nbits_per_codebook", 16) / 8 / 8
    books = 224 * changed.get("num_codebooks", 1) * 2 ** changed.get("nbits_per_codebook", 16) * 8 * 2
    scales, rest = 32 * 43008 * 2, 2 * (2 * 128256 * 4096 + 65 * 4096)
    assert weights(model).total == pytest.approx(indices + books + scales + rest)
    assert weights(model).total / 1e9 == pytest.approx(gigabytes, abs=0.001)


@pytest.mark.parametrize(
    ("block", "narrow"),
    [
        ({"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}, 8),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["Linear"], "weights": {
            "num_bits": 4, "type": "float", "group_size": 16}}}}, 4.5),
    ],
)  # fmt: skip
def test_a_params_json_says_how_its_weights_are_stored(block: dict[str, object], narrow: float) -> None:
    sizes = {"dim": 512, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 128, "hidden_dim": 1024}
    model = read({**sizes, "vocab_size": 1000, "norm_eps": 1e-5, "quantization": block})
    linear = 2 * (2 * 512 * 512 + 2 * 512 * 256 + 3 * 512 * 1024)
    assert weights(model).total == linear * narrow / 8 + 2 * (2 * 1000 * 512 + 5 * 512)


UNQUANTISED = 2 * 1000 * 512 * 2 + (4 * 2 + 1) * 512 * 2  # embeddings, head and norms in 16 bits
ATTENTION, MLP = 4 * (2 * 512 * 512 + 2 * 128 * 512), 4 * 3 * 1024 * 512


@pytest.mark.parametrize(
    ("block", "attention", "mlp"),
    [
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": {"targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float"}},
                    "b": {"targets": ["re:.*mlp.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}},
                },
            },
            8,
            4.5,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8}}},
                "ignore": ["re:.*(q|k|v|o)_proj$"],
            },
            16,
            8,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8}}, 16, 16),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", "self_attn"]},
            16,
            4.5,
        ),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1, "dynamic": {"-:.*self_attn.*": {}}}, 16, 4),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1, "dynamic": {"+:.*self_attn.*": {"bits": 8}}}, 8, 4),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, 4.5, 4.5),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, 8, 8),
    ],
)
def test_which_tensor_is_stored_how(block: dict, attention: float, mlp: float) -> None:
    held = weights(read(LLAMA, quantization_config=block))
    assert held.total == pytest.approx(UNQUANTISED + ATTENTION * attention / 8 + MLP * mlp / 8)


def test_a_quantised_head_is_counted_and_an_unknown_method_asks_for_the_format() -> None:
    head = weights(
        read(LLAMA, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": -1, "lm_head": True})
    )
    assert head.total == pytest.approx(UNQUANTISED - 1000 * 512 * 1.5 + (ATTENTION + MLP) / 2)
    mystery = read(LLAMA, quantization_config={"quant_method": "mystery"})
    assert kv_layout(mystery, 16).growth(1) == 2048
    with pytest.raises(
        SpecError, match="'mystery', which kvplan cannot size; say how weights are stored with weights=fp8"
    ):
        weights(mystery)
    assert weights(mystery, "fp8").total < weights(read(LLAMA)).total
    with pytest.raises(SpecError, match="no regular expression"):
        read(LLAMA, quantization_config={"quant_method": "fp8", "ignore": ["re:("]})


DIFFUSION = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 12288, "vocab_size": 151936, "max_position_embeddings": 32768,
}  # fmt: skip
LLADA = {
    "model_type": "llada", "d_model": 4096, "n_heads": 32, "n_kv_heads": 32, "n_layers": 32, "mlp_hidden_size": 12288,
    "vocab_size": 126464, "embedding_size": 126464, "max_sequence_length": 4096, "rope": True, "block_type": "llama",
    "weight_tying": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "vectors", "said"),
    [  # LLaDA 8B has 8.02 B parameters
        (LLADA, 32 * 32 * 128 * 2, True),
        ({**DIFFUSION, "model_type": "Dream"}, 32 * 8 * 128 * 2, True),
        ({**DIFFUSION, "model_type": "sdar", "block_size": 4}, 32 * 8 * 128 * 2, False),
    ],
)
def test_models_that_write_by_diffusion_say_what_is_counted(raw: dict[str, Any], vectors: int, said: bool) -> None:
    model = read(raw)
    assert kv_layout(model, 16).stored(1000) == 1000 * vectors * 2
    assert any("by diffusion and its own code keeps no KV cache" in note for note in model.notes) == said
    assert raw is not LLADA or model.parameters == pytest.approx(8.02e9, rel=0.001)


def test_bidirectional_attention_makes_an_encoder() -> None:
    with pytest.raises(SpecError, match="makes it an encoder, which keeps no KV cache"):
        read({**DIFFUSION, "model_type": "gemma3_text", "use_bidirectional_attention": True})
