"""What GGUF headers say layer by layer, and of states, in the words of each family's config.json.

Lists hold a value a layer: no key and value heads, no feed-forward width, where a layer has none. Source of the keys:
the converters of llama.cpp (its conversion folder, 2026-08).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.errors import SpecError, shown

GROUPS, HEADS, WIDE = "attention.head_count_kv", "attention.head_count", "feed_forward_length"
WINDOWS = "attention.sliding_window_pattern"


@dataclass(frozen=True, kw_only=True)
class Said:
    """A header's entries of one architecture."""

    own: Mapping[str, Any]  #: its entries without the architecture, lists of layers cut to those that are not drafts
    count: int  #: layers
    tensors: Collection[str]  #: names of all tensors
    location: str  #: the file's name, for messages

    def size(self, key: str, default: int | None = None) -> int:
        """Return a whole number that the header must state; raise SpecError."""
        value = self.own.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SpecError(f"{self.location}: {key}: expected a whole number, got {shown(value)}")
        return value

    def each(self, key: str) -> list[int]:
        """Return a number for every layer, whether the header has a list or one for all; raise SpecError."""
        value = self.own.get(key)
        layers = value if isinstance(value, list) else [value] * self.count
        numbers = [int(v) for v in layers if isinstance(v, int) and v >= 0]
        if len(layers) != self.count or len(numbers) != self.count:
            raise SpecError(f"{self.location}: {key}: expected {self.count} whole numbers, a layer each")
        return numbers

    def layers(self, tensor: str) -> list[int]:
        """Return the layers that hold a tensor of this name."""
        return [i for i in range(self.count) if f"blk.{i}.{tensor}" in self.tensors]


#: reads a family's entries into fields of its config.json
Fields = Callable[[Said], dict[str, Any]]
#: architecture -> (its reader, the lists that it understands)
LAYERED: dict[str, tuple[Fields, Collection[str]]] = {}


def layered(*architectures: str, lists: Collection[str] = ()) -> Callable[[Fields], Fields]:
    """Register the reader of some architectures, and the lists with unlike values that it understands."""

    def register(read: Fields) -> Fields:
        LAYERED.update(dict.fromkeys(architectures, (read, lists)))
        return read

    return register


def kinds(flags: Sequence[object], on: str, off: str) -> list[str]:
    """Return a name for every layer."""
    return [on if flag else off for flag in flags]


def windows(said: Said) -> list[str]:
    """Return the kinds of layers of a model with windows."""
    return kinds(said.each(WINDOWS), "sliding_attention", "full_attention")


def ratio(said: Said, whole: str, part: int) -> int:
    """Return how often a part goes into a size; raise SpecError where it does not."""
    total = said.size(whole)
    if not part or total % part:
        raise SpecError(f"{said.location}: {whole}: {total} is no multiple of {part}")
    return total // part


def mamba2(said: Said) -> dict[str, Any]:
    """Return a Mamba-2 mixer as Granite 4, Bamba and Falcon-H1 spell it."""
    heads = said.size("ssm.time_step_rank")
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": ratio(said, "ssm.inner_size", heads),
        "mamba_d_state": said.size("ssm.state_size"),
        "mamba_d_conv": said.size("ssm.conv_kernel"),
        "mamba_n_groups": said.size("ssm.group_count"),
    }


@layered("granitehybrid", lists=(GROUPS,))
def granite_hybrid(said: Said) -> dict[str, Any]:
    """Granite 4 H."""
    groups, hidden = said.each(GROUPS), said.size("embedding_length")
    return {
        "model_type": "granitemoehybrid",
        "layer_types": kinds(groups, "attention", "mamba"),
        "num_key_value_heads": max(groups),
        "mamba_expand": ratio(said, "ssm.inner_size", hidden),
        "num_local_experts": said.size("expert_count", 0),
        "shared_intermediate_size": said.size("expert_shared_feed_forward_length", max(said.each(WIDE))),
        **mamba2(said),
    }


@layered("falcon-h1")
def falcon_h1(said: Said) -> dict[str, Any]:
    """Falcon-H1."""
    return {"model_type": "falcon_h1", "mamba_d_ssm": said.size("ssm.inner_size"), **mamba2(said)}


@layered("lfm2", "lfm2moe", lists=(GROUPS,))
def lfm2(said: Said) -> dict[str, Any]:
    """LFM2, whose stated feed-forward width is the one in use."""
    groups = said.each(GROUPS)
    experts = said.size("expert_count", 0)
    return {
        "model_type": "lfm2_moe" if experts else "lfm2",
        "full_attn_idxs": [i for i, count in enumerate(groups) if count],
        "num_key_value_heads": max(groups),
        "conv_L_cache": said.size("shortconv.l_cache"),
        "conv_bias": False,
        "block_auto_adjust_ff_dim": False,
        "num_dense_layers": said.size("leading_dense_block_count", 0),
    }


@layered("jamba", lists=(GROUPS,))
def jamba(said: Said) -> dict[str, Any]:
    """Jamba, whose attention and experts come by period."""
    groups, hidden = said.each(GROUPS), said.size("embedding_length")
    routed = said.layers("ffn_gate_inp.weight")
    fields = {
        "model_type": "jamba",
        "layer_types": kinds(groups, "attention", "mamba"),
        "num_key_value_heads": max(groups),
        "num_experts": max(said.size("expert_count", 0), 1),
        "mamba_d_conv": said.size("ssm.conv_kernel"),
        "mamba_d_state": said.size("ssm.state_size"),
        "mamba_dt_rank": said.size("ssm.time_step_rank"),
        "mamba_expand": ratio(said, "ssm.inner_size", hidden),
    }
    for name, places in (("attn_layer", [i for i, count in enumerate(groups) if count]), ("expert_layer", routed)):
        offset, period = _period(places, said)
        fields |= {f"{name}_offset": offset, f"{name}_period": period}
    return fields


def _period(places: list[int], said: Said) -> tuple[int, int]:
    """Return (offset, period) of layers that come at one distance; raise SpecError for others."""
    if not places:
        return said.count, said.count + 1
    period = places[1] - places[0] if len(places) > 1 else said.count
    if places != list(range(places[0], said.count, period)):
        raise SpecError(f"{said.location}: layers of one kind come at unlike distances: {places[:8]}")
    return places[0], period


@layered("nemotron_h", "nemotron_h_moe", lists=(GROUPS, WIDE))
def nemotron_h(said: Said) -> dict[str, Any]:
    """Nemotron-H and Nemotron 3: one block a layer."""
    groups, wide, experts = said.each(GROUPS), said.each(WIDE), said.size("expert_count", 0)
    block = "E" if experts else "-"
    heads = said.size("ssm.time_step_rank")
    fields = {
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "".join(
            "*" if group else block if width else "M" for group, width in zip(groups, wide, strict=True)
        ),
        "num_key_value_heads": max(groups),
        "intermediate_size": max(wide),
        "mamba_num_heads": heads,
        "mamba_head_dim": ratio(said, "ssm.inner_size", heads),
        "n_groups": said.size("ssm.group_count"),
        "ssm_state_size": said.size("ssm.state_size"),
        "conv_kernel": said.size("ssm.conv_kernel"),
    }
    if experts:
        fields |= {
            "n_routed_experts": experts,
            "moe_shared_expert_intermediate_size": said.size("expert_shared_feed_forward_length"),
            "moe_latent_size": said.own.get("moe_latent_size"),
        }
    return fields


@layered("gemma4", lists=(GROUPS, WIDE, WINDOWS))
def gemma4(said: Said) -> dict[str, Any]:
    """Gemma 4: widths and heads of its own on full layers; the last layers read others' caches."""
    types, groups, wide = windows(said), said.each(GROUPS), said.each(WIDE)
    small, large = said.size("attention.key_length_swa"), said.size("attention.key_length")
    own = {
        str(i): {"head_dim": large if kind == "full_attention" else small, "num_key_value_heads": groups[i]}
        for i, kind in enumerate(types)
    }
    full = types.index("full_attention") if "full_attention" in types else 0
    return {
        "model_type": "gemma4_text",
        "layer_types": types,
        "head_dim": small,
        "num_key_value_heads": groups[0],
        "per_layer_config": own,
        "attention_k_eq_v": f"blk.{full}.attn_v.weight" not in said.tensors,
        "num_kv_shared_layers": said.size("attention.shared_kv_layers", 0),
        "hidden_size_per_layer_input": said.size("embedding_length_per_layer_input", 0),
        "intermediate_size": min(wide),
        "use_double_wide_mlp": min(wide) != max(wide),
        "enable_moe_block": bool(said.size("expert_count", 0)),
    }


@layered("gemma3n", lists=(WIDE, WINDOWS))
def gemma3n(said: Said) -> dict[str, Any]:
    """Gemma 3n: the last layers read others' caches."""
    return {
        "model_type": "gemma3n_text",
        "layer_types": windows(said),
        "intermediate_size": said.each(WIDE),
        "num_kv_shared_layers": said.size("attention.shared_kv_layers", 0),
        "hidden_size_per_layer_input": said.size("embedding_length_per_layer_input", 0),
    }


@layered("step35", lists=(HEADS, GROUPS, WINDOWS))
def step35(said: Said) -> dict[str, Any]:
    """Step 3.5: window layers have heads of their own number."""
    types = windows(said)
    full, narrow = (
        {"num_attention_heads": said.each(HEADS)[i], "num_key_value_heads": said.each(GROUPS)[i]}
        for i in _firsts(types)
    )
    first = said.size("leading_dense_block_count", 0)
    return {
        "model_type": "step3p5",
        "layer_types": types,
        **full,
        "attention_other_setting": narrow,
        "share_expert_dim": said.size("expert_shared_feed_forward_length"),
        "moe_layers_enum": list(range(first, said.count)),
    }


def _firsts(types: list[str]) -> tuple[int, int]:
    """Return the first full layer and the first window layer, one for the other where there is none."""
    firsts = [types.index(kind) if kind in types else None for kind in ("full_attention", "sliding_attention")]
    full, narrow = (firsts[0] if firsts[0] is not None else 0), firsts[1]
    return full, narrow if narrow is not None else full


@layered("mimo2", lists=(GROUPS, WINDOWS))
def mimo2(said: Said) -> dict[str, Any]:
    """MiMo-V2: window layers have key and value heads of their own number; keys and values differ in width."""
    types, groups = windows(said), said.each(GROUPS)
    full, narrow = _firsts(types)
    return {
        "model_type": "mimo_v2_flash",
        "hybrid_layer_pattern": said.each(WINDOWS),
        "sliding_window_size": said.size("attention.sliding_window"),
        "num_key_value_heads": groups[full],
        "swa_num_key_value_heads": groups[narrow],
        "v_head_dim": said.size("attention.value_length"),
        "moe_layer_freq": [int(i in said.layers("ffn_gate_inp.weight")) for i in range(said.count)],
    }


@layered("deci", lists=(HEADS, GROUPS, WIDE))
def deci(said: Said) -> dict[str, Any]:
    """Nemotron-NAS (Puzzle): heads and widths of their own, or none, in every layer."""
    heads, groups, wide = said.each(HEADS), said.each(GROUPS), said.each(WIDE)
    hidden = said.size("embedding_length")
    blocks = []
    for own, group, width in zip(heads, groups, wide, strict=True):
        shared = own // group if group else None
        attention = {"no_op": not own, "replace_with_linear": bool(own and not group), "n_heads_in_group": shared}
        blocks.append({"attention": attention, "ffn": {"no_op": not width, "ffn_mult": 3 * width / (2 * hidden)}})
    return {"model_type": "nemotron-nas", "num_attention_heads": max(heads), "block_configs": blocks}


@layered("kimi-linear", lists=(GROUPS,))
def kimi_linear(said: Said) -> dict[str, Any]:
    """Kimi Linear: latent attention among delta nets."""
    groups, heads = said.each(GROUPS), said.size(HEADS)
    linear = {
        "full_attn_layers": [i + 1 for i, group in enumerate(groups) if group],
        "kda_layers": [i + 1 for i, group in enumerate(groups) if not group],
        "head_dim": said.size("kda.head_dim"),
        "num_heads": heads,
        "short_conv_kernel_size": said.size("ssm.conv_kernel"),
    }
    return {
        "model_type": "kimi_linear",
        "linear_attn_config": linear,
        "num_key_value_heads": heads,
        "num_shared_experts": said.size("expert_shared_count", 0),
    }


@layered("qwen3next", "qwen35", "qwen35moe", lists=(GROUPS,))
def qwen_hybrid(said: Said) -> dict[str, Any]:
    """Qwen3-Next and Qwen3.5: gated delta nets, one attention an interval."""
    heads, groups = said.size("ssm.time_step_rank"), said.each(GROUPS)
    fields: dict[str, Any] = {
        "num_key_value_heads": max(groups),
        "linear_conv_kernel_dim": said.size("ssm.conv_kernel"),
        "linear_key_head_dim": said.size("ssm.state_size"),
        "linear_num_key_heads": said.size("ssm.group_count"),
        "linear_num_value_heads": heads,
        "linear_value_head_dim": ratio(said, "ssm.inner_size", heads),
    }
    if min(groups) == 0:
        fields["layer_types"] = kinds(groups, "full_attention", "linear_attention")
    return fields


@layered("mamba", "mamba2")
def mamba(said: Said) -> dict[str, Any]:
    """Mamba and Mamba-2: no attention at all."""
    heads, inner = said.size("ssm.time_step_rank"), said.size("ssm.inner_size")
    fields = {"state_size": said.size("ssm.state_size"), "conv_kernel": said.size("ssm.conv_kernel")}
    fields |= {"expand": ratio(said, "ssm.inner_size", said.size("embedding_length"))}
    if "ssm.group_count" not in said.own:
        return {**fields, "model_type": "mamba", "intermediate_size": inner, "time_step_rank": heads}
    own = {"num_heads": heads, "head_dim": ratio(said, "ssm.inner_size", heads)}
    return {**fields, **own, "model_type": "mamba2", "n_groups": said.size("ssm.group_count")}


@layered("llama4")
def llama4(said: Said) -> dict[str, Any]:
    """Llama 4: the width of dense layers and that of experts, chunks instead of windows."""
    return {
        "model_type": "llama4_text",
        "intermediate_size": said.size("expert_feed_forward_length"),
        "intermediate_size_mlp": said.size(WIDE),
        "interleave_moe_layer_step": said.size("interleave_moe_layer_step", 1),
    }


@layered("deepseek32", "glm-dsa")
def indexed(said: Said) -> dict[str, Any]:
    """DeepSeek-V3.2 and GLM-5: latent attention with an indexer that caches keys of its own."""
    return {
        "index_n_heads": said.size("attention.indexer.head_count"),
        "index_head_dim": said.size("attention.indexer.key_length"),
        "index_topk": said.size("attention.indexer.top_k"),
    }


@layered("laguna", lists=(HEADS,))
def laguna(said: Said) -> dict[str, Any]:
    """Laguna: heads by layer; every fourth layer from the first on is full, as llama.cpp has it (models/laguna.cpp)."""
    heads, first = said.each(HEADS), said.size("leading_dense_block_count", 0)
    every = said.size(WINDOWS, 4) if said.size("attention.sliding_window", 0) else 1
    return {
        "model_type": "laguna",
        "layer_types": ["full_attention" if i % every == 0 else "sliding_attention" for i in range(said.count)],
        "num_attention_heads": heads[0],
        "num_attention_heads_per_layer": heads,
        "mlp_layer_types": ["sparse" if i >= first else "dense" for i in range(said.count)],
    }


@layered("ernie4_5-moe")
def ernie_moe(said: Said) -> dict[str, Any]:
    """ERNIE 4.5 with experts."""
    return {
        "model_type": "ernie4_5_moe",
        "moe_num_shared_experts": said.size("expert_shared_count", 0),
        "moe_layer_start_index": said.size("leading_dense_block_count", 0),
        "moe_layer_interval": said.size("interleave_moe_layer_step", 1),
    }


@layered("bailingmoe", "bailingmoe2")
def bailing(said: Said) -> dict[str, Any]:
    """Ling and Ring up to 2.0."""
    later = any(name.endswith("attn_q_norm.weight") for name in said.tensors)
    return {
        "model_type": "bailing_moe_v2" if later else "bailing_moe",
        "num_shared_experts": said.size("expert_shared_count", 0),
    }


@layered("deepseek4", lists=("attention.compress_ratios",))
def deepseek4(said: Said) -> dict[str, Any]:
    """DeepSeek-V4: caches of windows and of compressed tokens, an indexer where it compresses by 4."""
    return {
        **indexed(said),
        "model_type": "deepseek_v4",
        "compress_ratios": said.each("attention.compress_ratios"),
        "o_lora_rank": said.size("attention.output_lora_rank"),
        "o_groups": said.size("attention.output_group_count"),
        "hc_mult": said.size("hyper_connection.count"),
        "qk_rope_head_dim": said.size("rope.dimension_count"),
        "n_shared_experts": said.size("expert_shared_count", 0),
    }
