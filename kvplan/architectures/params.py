"""Mistral's own file format, params.json, as a config.json."""

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


def renamed(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a params.json as a config.json: its language model, and Pixtral's eyes around it where it has them.

    Models with latents (Mistral Large 3) are DeepSeek-V3's shape.
    """
    beside = {"moe", "vision_encoder"}
    plain = {FIELDS.get(str(name), str(name)): value for name, value in raw.items() if name not in beside}
    text = {"tie_word_embeddings": False, **plain, **kind(raw)}
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
