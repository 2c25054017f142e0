"""From a config.json (already parsed) to a ModelSpec."""

import re
from collections.abc import Mapping
from typing import Any

from kvplan.architectures import FAMILIES, TOWERS
from kvplan.architectures.config import (
    ARCHITECTURES,
    DECISIVE,
    LARGEST,
    NESTS,
    PLAIN,
    SPELLINGS,
    SYNONYMS,
    Config,
    Defaults,
)
from kvplan.architectures.parts import drafting
from kvplan.architectures.quantization import read_quantization
from kvplan.errors import SpecError, shown
from kvplan.specs.model import ModelSpec, Vision, Weight
from kvplan.specs.source import Source

#: bits of the dtypes a checkpoint can be in
DTYPE_BITS = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0, "float8_e4m3fn": 8.0, "float64": 64.0}
#: no config.json scales its context by more
MOST_SCALED = 1e4
_SHORT = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "half": "float16",
    "float": "float32",
    "auto": "bfloat16",
}


def read_model(
    raw: Mapping[str, Any],
    *,
    name: str,
    title: str = "",
    place: str,
    source: Source,
    classes: Defaults,
    as_family: str | None = None,
) -> ModelSpec:
    """Build a ModelSpec; raise SpecError naming the field, or UnknownName naming the architecture.

    `classes` are the defaults of transformers' config classes, which fill what the file leaves out; `as_family` is the
    architecture to read the file as, whatever it states.
    """
    config = text_config(raw, place, classes, as_family)
    assumed = assumptions(config, stated_type(from_params(raw)), as_family)
    body = FAMILIES[config.model_type](config)
    return ModelSpec(
        name=name,
        title=title or name,
        model_type=told_type(raw, config),
        hidden=config.size("hidden_size"),
        vocab=config.size("vocab_size"),
        max_context=max_context(config),
        stated_context=stated_context(config),
        dtype=dtype(config),
        layers=body.layers,
        outer=body.outer + towers(config),
        tied=not any(w.name == "lm_head" for w in body.outer),
        quantization=read_quantization(from_params(raw), place) or read_quantization(config.raw, place),
        notes=assumed + drafting(config) + body.notes + remarks(config) + (by_class(raw) if as_family is None else ()),
        assumed=assumed,
        vision=sight(config),
        source=source,
        config=dict(raw),
    )


def told_type(raw: Mapping[str, Any], config: Config) -> str:
    """Return what a model is called by type: the whole file's, or what one read as a plain decoder states."""
    if config.parent is not None:
        return config.parent.model_type
    return (stated_type(raw) if config.model_type == PLAIN else "") or config.model_type


def towers(c: Config) -> tuple[Weight, ...]:
    """Return the tensors of a multimodal file that are not its language model's."""
    if c.parent is None:
        return ()
    from kvplan.architectures.towers import beside

    return beside(c)


def sight(c: Config) -> Vision | None:
    """Return how the file's images become tokens, None where it reads none."""
    if c.parent is None:
        return None
    from kvplan.architectures import towers

    return towers.sight(c)


def remarks(c: Config) -> tuple[str, ...]:
    """Return what a user must know of how the file was read."""
    notes: tuple[str, ...] = ()
    if c.parent is not None and c.parent.model_type not in TOWERS:
        outer = c.parent.model_type
        notes += (
            f"{outer}: only its language model ({c.model_type}) is read; weights of its other parts are not counted",
        )
    if c.parent is not None and c.parent.model_type.endswith("_thinker"):
        notes += ("its thinker is read, which engines serve; weights of a talker are not counted",)
    if dtype(c) == "float32":
        notes += ("a 32-bit checkpoint: engines serve it in 16 bits, and so do the sizes here",)
    return notes


def text_config(raw: Mapping[str, Any], place: str, classes: Defaults, as_family: str | None = None) -> Config:
    """Return the Config the family reads: the file itself, or the language model nested in a multimodal file."""
    if not isinstance(raw, Mapping):
        return Config(raw, place, FAMILIES, classes=classes)
    raw = from_params(raw)
    thinker = raw.get("thinker_config")  # what engines serve of Qwen's Omni models; the talker stands beside it
    if isinstance(thinker, Mapping) and stated_type(thinker) in TOWERS:
        raw, place = thinker, f"{place}: thinker_config"
    stated = known_type(raw)
    if as_family is not None:
        from kvplan.architectures.assumed import forced

        return read_under(raw, place, classes, forced(raw, as_family, place, FAMILIES))
    inside = inner_model(raw, place)
    if raw.get("use_bidirectional_attention") in (True, "all"):  # EmbeddingGemma
        raise SpecError(
            f"{place}: use_bidirectional_attention makes it an encoder, which keeps no KV cache; there is nothing to "
            "plan, give the config of a model that generates text"
        )
    if stated in FAMILIES and (inside is None or any(raw.get(name) for name in SPELLINGS["num_hidden_layers"])):
        return Config({**raw, "model_type": stated}, place, FAMILIES, classes=classes)
    if stated in TOWERS:
        from kvplan.architectures.towers import language_model

        return language_model(raw, stated, place, classes)
    if inside is not None:
        inner, nested = inside
        outer = stated or "unnamed"
        holder = Config({**raw, "model_type": outer}, place, {outer: None}, classes=classes)
        return Config(inner, nested, FAMILIES, holder)
    from kvplan.architectures.assumed import decides, refuse_encoder

    if not stated and not decides(raw):
        return Config(raw, place, FAMILIES, classes=classes)  # which says what is missing
    refuse_encoder(raw, stated, place)
    return read_under(raw, place, classes, None)


#: what Mistral's params.json states and no config.json
PARAMS = {"dim", "n_layers", "n_heads", "n_kv_heads", "hidden_dim"}


def from_params(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a file in Mistral's or Meta's own format (params.json) as a config.json, any other as it is."""
    if raw.get("model_type") or raw.get("architectures") or "dim" not in raw:
        return raw
    from kvplan.architectures.params import META, llama, renamed

    if raw.keys() >= PARAMS:
        return renamed(raw)
    return llama(raw) if raw.keys() >= META else raw


def stated_type(raw: Mapping[str, Any]) -> str:
    """Return the architecture a file names, by its model_type or its class; '' where it names none."""
    named = raw.get("architectures")
    first = str(named[0]) if isinstance(named, (list, tuple)) and named else ""
    stated = DECISIVE.get(first) or raw.get("model_type")
    if isinstance(stated, str) and stated:
        return SYNONYMS.get(stated, stated)
    if "ssm_cfg" in raw and "d_model" in raw:
        return "mamba_ssm"
    return ARCHITECTURES.get(first, first)


#: endings of class names behind what is the model type
_ROLES = re.compile(r"(ForCausalLM|ForConditionalGeneration|LMHeadModel|LMModel|Model)$")


def known_type(raw: Mapping[str, Any]) -> str:
    """Return the architecture a file names; where that is unknown but its class is not, that of the class."""
    stated, named = stated_type(raw), raw.get("architectures")
    if not stated or stated in FAMILIES or stated in TOWERS or not isinstance(named, (list, tuple)):
        return stated
    classes = {_ROLES.sub("", str(name)).lower() for name in named}
    return next((t for t in (*FAMILIES, *TOWERS) if t != PLAIN and re.sub(r"[-_]", "", t) in classes), stated)


def by_class(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the remark that a file is read by the class it names, none where by its model_type."""
    stated, read = stated_type(from_params(raw)), known_type(from_params(raw))
    return () if stated == read else (f"{shown(stated)} is read as {read}, by the class the file names",)


def inner_model(raw: Mapping[str, Any], place: str, depth: int = 2) -> tuple[Mapping[str, Any], str] | None:
    """Return the nested language model of a known family, and where it stands; None without one."""
    for nest in NESTS:
        inner = raw.get(nest)
        if isinstance(inner, Mapping):
            nested = f"{place}: {nest}"
            if stated_type(inner) in FAMILIES:
                return inner, nested
            if depth and (decoder := inner_model(inner, nested, depth - 1)) is not None:
                return decoder
    return None


def read_under(raw: Mapping[str, Any], place: str, classes: Defaults, family: str | None) -> Config:
    """Return the Config of a file, or of the language model nested in it, read as `family`: the plain one for None."""
    inner, nested = raw, place
    while not any(inner.get(name) for name in SPELLINGS["num_hidden_layers"]):
        nest = next((n for n in NESTS if isinstance(inner.get(n), Mapping)), None)
        if nest is None:
            break
        inner, nested = inner[nest], f"{nested}: {nest}"
    outer, read = stated_type(raw) or "unnamed", family
    if read is None:
        from kvplan.architectures.assumed import read_as, refuse_halves

        refuse_halves(raw, outer, place)
        read = read_as(inner, stated_type(inner) or outer, nested, FAMILIES, classes)
    holder = None if inner is raw else Config({**raw, "model_type": outer}, place, {outer: None}, classes=classes)
    return Config({**inner, "model_type": read}, nested, FAMILIES, holder, classes)


def assumptions(c: Config, stated: str, as_family: str | None) -> tuple[str, ...]:
    """Return what is taken for granted of a file whose architecture kvplan does not know, or was told to overlook."""
    named = shown(stated) if stated else "no architecture"
    if as_family is not None:
        return (f"assumed: the file names {named} and is read as {c.model_type}, as asked",)
    if c.model_type != PLAIN or stated == PLAIN:
        return ()
    from kvplan.architectures.assumed import UNKNOWN, says_windows

    seen = "full and windowed attention as layer_types lists it" if says_windows(c.raw) else ""
    seen = seen or "attention over all tokens everywhere"
    what = f"{named} and reads it" if stated else "the architecture, which the file does not name, and reads it"
    assumed: tuple[str, ...] = (f"{UNKNOWN} {what} as a plain decoder: {seen}",)
    if not c.stated("num_key_value_heads"):
        assumed += ("assumed: as many key/value heads as query heads, since the file states none",)
    if not c.stated("head_dim"):
        assumed += ("assumed: a head is hidden_size / num_attention_heads wide",)
    return (*assumed, "assumed: a gated feed-forward of three matrices and RMS norms, which only the weights depend on")


def rope_scaling(c: Config) -> Mapping[str, Any]:
    """Return how a config scales rotary positions, {} where it does not."""
    scaling = c.get("rope_scaling", None) or c.get("rope_parameters", None)
    return scaling if isinstance(scaling, Mapping) else {}


def max_context(c: Config) -> int | None:
    """Return the longest context the config states, RoPE scaling included where the file needs it."""
    stated, scaling = c.optional("max_position_embeddings"), rope_scaling(c)
    if not stated or not scaling:
        return stated
    original, factor = _above_one(scaling.get("original_max_position_embeddings")), _above_one(scaling.get("factor"))
    if factor is None or factor > MOST_SCALED:
        return stated
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "yarn":  # its factor counts from the original
        return max(stated, int((original or stated) * factor))
    if kind in ("linear", "dynamic") and original is None and not c.model_type.startswith("gemma3"):
        return int(stated * factor)  # as vLLM derives max_model_len; Gemma 3 states the scaled length
    return int(original * factor) if original == stated else stated


def stated_context(c: Config) -> int | None:
    """Return the length a file states beside YaRN's original one where `max_context` is longer, None elsewhere."""
    scaling = rope_scaling(c)
    if scaling.get("rope_type", scaling.get("type")) != "yarn":
        return None
    stated, longest = c.optional("max_position_embeddings"), max_context(c)
    named = scaling.get("original_max_position_embeddings") is not None
    return stated if named and stated and longest and stated < longest else None


def _above_one(value: object) -> float | None:
    """Return a number above one that a config can hold, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 < value <= LARGEST:
        return None
    return value


def dtype(c: Config) -> str:
    """Return the checkpoint's dtype, bfloat16 when the file does not say."""
    stated = c.get("dtype", None) or (c.parent.get("dtype", None) if c.parent else None) or "bfloat16"
    named = _SHORT.get(str(stated).removeprefix("torch."), str(stated).removeprefix("torch."))
    if named not in DTYPE_BITS:
        raise SpecError(f"{c.place}: dtype must be one of {', '.join(DTYPE_BITS)}, got {shown(stated)}")
    return named
