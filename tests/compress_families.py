"""Tiny random models of every family that techniques run on. No test stands here."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.models import class_defaults
from kvplan.compress import texts as texts_of
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

COMMON: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
MLA = {
    "kv_lora_rank": 12, "q_lora_rank": 20, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6, "v_head_dim": 10,
    "num_key_value_heads": 4, "head_dim": 8, "first_k_dense_replace": 1,
}  # fmt: skip
MOE = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}
#: name -> (model type, fields)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-sliding": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3-moe": ("qwen3_moe", MOE),
    "gemma2": ("gemma2", SLIDING),
    "gemma3": ("gemma3_text", SLIDING),
    "phi": ("phi", {"partial_rotary_factor": 0.5}),
    "phi3": ("phi3", {}),
    "gpt-neox": ("gpt_neox", {}),
    "falcon": ("falcon", {"multi_query": True, "parallel_attn": True}),
    "gpt-oss": ("gpt_oss", {**MOE, **SLIDING, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "deepseek-v3": ("deepseek_v3", {**MLA, **MOE}),
}
HERE = Source(kind="config", ref="a test's own", date="2026-11-28")


@cache
def tiny(name: str) -> tuple[transformers.PreTrainedModel, ModelSpec]:
    """Return a model of a family with random weights, and the planner's reading of it."""
    kind, fields = FAMILIES[name]
    common = {k: v for k, v in COMMON.items() if kind != "falcon" or k not in ("head_dim", "num_key_value_heads")}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**common, **fields})).eval()
    for weight in model.parameters():  # random weights of the usual size give nearly equal logits
        weight.requires_grad_(False)
        if weight.ndim > 1:
            weight.mul_(3)
    spec = read_model(model.config.to_dict(), name=name, place=name, source=HERE, classes=class_defaults())
    return model, spec


def texts(*padding: int, length: int = 40, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random token ids and their mask, a row for each number of padded tokens on its left."""
    ids = torch.randint(3, 97, (len(padding), length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    for row, pads in enumerate(padding):
        mask[row, :pads] = ids[row, :pads] = 0
    return ids, mask


def write_folder(folder: Path) -> None:
    """Write a user's model: a tiny Llama with weights, and a tokenizer of words and digits."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted(
        {w for kind in (texts_of._WHO, texts_of._DID, texts_of._WHAT, texts_of._WHEN) for s in kind for w in s.split()}
    )
    said = ["The", "secret", "number", "of", "is", "has", "same", "as", "Question", ":", "what", "?", "."]
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", *dict.fromkeys([*words, *said, *texts_of._NAMES, *"0123456789"])]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), digits])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    shape = {**COMMON, "vocab_size": len(vocabulary), "max_position_embeddings": 32768}
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    fast.save_pretrained(folder)
