"""A config.json made uniform: the text part found, class defaults filled in, every spelling accepted."""

from collections.abc import Mapping
from typing import Any

from kvplan.errors import SpecError, UnknownName, shown

#: where multimodal configs keep the language model
NESTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder", "decoder_config")

#: the same field under its other names, canonical name first
SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model", "dim", "hidden_dim", "model_dim"),
    "num_hidden_layers": (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "decoder_layers",
        "num_decoder_layers",
        "num_transformer_layers",
    ),
    "num_attention_heads": (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "attention_heads",
        "decoder_attention_heads",
    ),
    "num_key_value_heads": (
        "num_key_value_heads",
        "multi_query_group_num",
        "num_attention_groups",
        "num_kv_heads",
        "n_head_kv",
        "kv_n_heads",
        "n_kv_heads",
        "num_query_groups",
    ),
    "intermediate_size": (
        "intermediate_size",
        "ffn_hidden_size",
        "n_inner",
        "ffn_dim",
        "decoder_ffn_dim",
        "d_ff",
        "mlp_dim",
        "inner_hidden_size",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels", "d_kv"),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
        "model_max_length",
        "max_target_positions",
        "max_context_length",
    ),
    "num_experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "moe_topk",
        "moe_k",
        "moe_top_k",
        "top_k_experts",
    ),
    # LLaDA and Molmo's name, OpenELM's
    "tie_word_embeddings": ("tie_word_embeddings", "weight_tying", "share_input_output_layers"),
    "dtype": ("dtype", "torch_dtype"),
}

#: sizes that cannot be guessed: a top-level config must state them
ESSENTIAL = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

#: the family that a decoder of an unknown architecture is read as
PLAIN = "plain"

#: model types seen on the hub under other names than the class that runs them
SYNONYMS = {
    "kimi_k2": "deepseek_v3",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "phi-msft": "phi",
    "stablelm_epoch": "stablelm",
    "exaone4_5_text": "exaone4",
    "nemotron-nas": "nemotron_nas",
    "internlm2": "llama",  # no published file sets its bias
}
_MISSING = object()


#: model type -> defaults of transformers' config class, which are part of the file format
Defaults = Mapping[str, Mapping[str, Any]]


class Config:
    """Typed, forgiving access to one config.json; raises SpecError that names the field.

    `model_type` is that of the language model, `outer` the whole file, `place` the name used in messages; `classes` are
    the defaults of all types, those of the parent where none are given.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        place: str,
        known: Mapping[str, object],
        parent: "Config | None" = None,
        classes: Defaults | None = None,
    ):
        if not isinstance(raw, Mapping):
            raise SpecError(f"{place}: expected the object of a config.json, got {type(raw).__name__}")
        if len(raw) > MOST_FIELDS:
            raise SpecError(f"{place}: has {len(raw):,} fields, which no config.json has")
        self.place = place
        self.raw = raw
        self.parent = parent
        self.model_type = self._type(raw, known)
        self.classes: Defaults = parent.classes if classes is None and parent else classes or {}
        self.defaults = self.classes.get(self.model_type, {})

    def _type(self, raw: Mapping[str, Any], known: Mapping[str, object]) -> str:
        stated = raw.get("model_type")
        if not isinstance(stated, str) or not stated:
            architectures = raw.get("architectures") or [""]
            named = architectures[0] if isinstance(architectures, list) and architectures else ""
            stated = ARCHITECTURES.get(str(named), "")
            if not stated:
                raise SpecError(
                    f"{self.place}: missing model_type; a config.json names its architecture, as in 'llama'"
                )
        stated = SYNONYMS.get(stated, stated)
        if stated not in known:
            raise UnknownName(
                "architecture",
                stated,
                known,
                f"kvplan reads {len(known)}, see `kvplan list architectures`",
                self.place,
            )
        return stated

    def stated(self, name: str) -> bool:
        """Whether the file itself gives the field, null included."""
        return any(key in self.raw for key in SPELLINGS.get(name, (name,)))

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """Return a field under any of its spellings, else the class default, else `default`."""
        keys = SPELLINGS.get(name, (name,))
        for key in keys:
            if self.raw.get(key) is not None:
                return self.raw[key]
        if any(key in self.raw for key in keys):
            return None
        for key in keys:
            if key in self.defaults and not (name in ESSENTIAL and self.parent is None):
                return self.defaults[key]
        if default is _MISSING:
            raise SpecError(f"{self.place}: missing {keys[0]}; a {self.model_type} config must state it")
        return default

    def size(self, name: str, default: Any = _MISSING, low: int = 1) -> int:
        """Return a whole number of at least `low`; null counts as missing."""
        value = self.get(name, default)
        if value is None:
            value = None if default is _MISSING else default
            if value is None:
                raise SpecError(f"{self.place}: {name} is null; a {self.model_type} config must state it")
        return self.whole(name, value, low)

    def whole(self, name: str, value: object, low: int = 1) -> int:
        """Check that `value` of field `name` is a whole number from `low` to ten million."""
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value != value
            or value in (float("inf"), float("-inf"))
            or int(value) != value
        ):
            raise SpecError(f"{self.place}: {name} must be a whole number, got {shown(value)}")
        if not low <= value <= LARGEST:
            raise SpecError(f"{self.place}: {name} must be from {low} to {LARGEST:,}, got {shown(value)}")
        return int(value)

    def optional(self, name: str, default: int | None = None, low: int = 0) -> int | None:
        """Return a whole number, or None when absent, null or (as some files spell it) negative."""
        value = self.get(name, default)
        if value is None or value is False or value == -1:
            return None
        return self.whole(name, value, low)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a field that is true or false, `default` where it is absent or null; raise SpecError otherwise."""
        value = self.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise SpecError(f"{self.place}: {name} must be true or false, got {shown(value)}")
        return bool(value)

    def real(self, name: str, default: Any = _MISSING) -> float:
        """Return a field that is a number; raise SpecError that names it otherwise."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LARGEST < value < LARGEST:
            raise SpecError(f"{self.place}: {name} must be a number, got {shown(value)}")
        return float(value)

    def text(self, name: str, default: Any = _MISSING) -> str:
        """Return a field that is text; raise SpecError that names it otherwise."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise SpecError(f"{self.place}: {name} must be text, got {shown(value)}")
        return value

    def entries(self, name: str, default: Any = _MISSING) -> list[Any] | None:
        """Return a list field, or None when it is absent or null."""
        value = self.get(name, None if default is _MISSING else default)
        if value is not None and not isinstance(value, (list, tuple)):
            raise SpecError(f"{self.place}: {name} must be a list, got {shown(value)}")
        return None if value is None else list(value)

    def per_layer(self, name: str, count: int) -> list[Any] | None:
        """Return a list field with one entry a layer, or None; refuse any other length."""
        values = self.entries(name)
        if values is not None and len(values) != count:
            raise SpecError(f"{self.place}: {name} has {len(values)} entries for {count} layers")
        return values

    def nested(self, name: str, known: Mapping[str, object] | None = None, model_type: str = "") -> "Config":
        """Return a nested object as a Config of its own (class defaults of its own model_type)."""
        value = self.get(name, None)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise SpecError(f"{self.place}: {name} must be an object, got {shown(value)}")
        stated = dict(value)
        if not stated.get("model_type") or not isinstance(
            stated["model_type"], str
        ):  # transformers saves some parts with ''
            stated["model_type"] = model_type
        return Config(
            stated,
            f"{self.place}: {name}",
            known or {SYNONYMS.get(stated["model_type"], stated["model_type"]): None},
            self,
        )


#: no config.json states more fields at one level
MOST_FIELDS = 5000
#: the largest size any field of a config may have
LARGEST = 10**9

#: class names for configs that state no model_type
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "GptOssForCausalLM": "gpt_oss",
    "FalconForCausalLM": "falcon",
    "RWForCausalLM": "falcon",
    "GPTBigCodeForCausalLM": "gpt_bigcode",
    "Phi3ForCausalLM": "phi3",
    "DeciLMForCausalLM": "nemotron_nas",
    "GPT2LMHeadModel": "gpt2",
    "GPTNeoXForCausalLM": "gpt_neox",
}
#: class names that tell more than the model_type beside them, which other models have too
DECISIVE = {"Grok1ForCausalLM": "grok-1", "Grok1ModelForCausalLM": "grok-1"}
