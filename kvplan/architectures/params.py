"""Mistral's and Meta's own file formats, both called params.json, as a config.json."""

from collections.abc import Mapping
from typing import Any

#: its fields, and config.json's
FIELDS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
#: fields of its experts, and DeepSeek's
EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_shared_experts": "n_shared_experts",
    "expert_hidden_dim": "moe_intermediate_size",
}
#: what a file with latents must state
LATENT = {"kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"}


#: what Meta's params.json of Llama states where Mistral's states hidden_dim
META = {"dim", "n_layers", "n_heads", "multiple_of"}


def llama(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Meta's params.json as a config.json; its feed-forward width follows from the others (llama/model.py).

    Two thirds of four times the width, times ffn_dim_multiplier, rounded up to multiple_of.
    """
    text = {FIELDS.get(str(name), str(name)): value for name, value in raw.items() if name not in META_ONLY}
    sizes = [raw["dim"], raw["multiple_of"]]
    times = raw.get("ffn_dim_multiplier") or 1.0
    if all(isinstance(n, int) and n > 0 for n in sizes) and isinstance(times, (int, float)) and 0 < times < 100:
        width, step = int(times * (8 * sizes[0] // 3)), sizes[1]
        text["intermediate_size"] = -(-width // step) * step
    return {"tie_word_embeddings": False, "num_key_value_heads": raw["n_heads"], **text, "model_type": "llama"}


#: fields of Meta's file that only its feed-forward width and its rotary positions follow from
META_ONLY = {"multiple_of", "ffn_dim_multiplier", "use_scaled_rope", "max_batch_size"}


def renamed(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a params.json as a config.json: its language model, and Pixtral's eyes around it where it has them.

    Models with latents (Mistral Large 3) are DeepSeek-V3's shape.
    """
    beside = {"moe", "vision_encoder", "quantization"}
    plain = {FIELDS.get(str(name), str(name)): value for name, value in raw.items() if name not in beside}
    text = {"tie_word_embeddings": False, **plain, **kind(raw), **stored(raw.get("quantization"))}
    eyes = raw.get("vision_encoder")
    if not isinstance(eyes, Mapping):
        return text
    seen = {"model_type": "pixtral", **{name: value for name, value in eyes.items() if name != "mm_projector_id"}}
    whole = {"text_config": text, "vision_config": seen, "tie_word_embeddings": text["tie_word_embeddings"]}
    bias = eyes.get("adapter_bias", True)
    if eyes.get("mm_projector_id") == "patch_merge":
        merge = eyes.get("spatial_merge_size", 2)
        return {"model_type": "mistral3", "multimodal_projector_bias": bias, "spatial_merge_size": merge, **whole}
    return {"model_type": "llava", "multimodal_projector_bias": bias, **whole}


def stored(block: object) -> Mapping[str, Any]:
    """Return what its quantization says, as config.json has it: 8-bit floats as Mistral writes them, or as others do.

    `qformat_weight: fp8_e4m3` is one scale a tensor (vLLM: transformers_utils/configs/mistral.py).
    """
    if not isinstance(block, Mapping):
        return {} if block is None else {"quantization": block}
    if block.get("qformat_weight") == "fp8_e4m3" and "quant_method" not in block:
        return {"quantization_config": {"quant_method": "fp8", **block}}
    return {"quantization_config": block}


def kind(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model_type of its language model, and the fields that go with it."""
    experts = raw.get("moe")
    stated = dict(experts) if isinstance(experts, Mapping) else {}
    if any(raw.get(name) for name in ("q_lora_rank", "kv_lora_rank")):
        if not stated or not raw.keys() >= LATENT:
            return {"model_type": "params.json"}  # latents without experts, or without all their sizes, are not read
        return {**{EXPERTS.get(name, name): value for name, value in stated.items()}, "model_type": "deepseek_v3"}
    if stated:
        return {**stated, "model_type": "mixtral"}
    return {"sliding_window": raw.get("sliding_window"), "model_type": "mistral"}
