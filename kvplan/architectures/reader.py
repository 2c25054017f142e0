"""From a config.json (already parsed) to a ModelSpec."""

from collections.abc import Mapping
from typing import Any

from kvplan.architectures import FAMILIES, TOWERS
from kvplan.architectures.config import NESTS, SYNONYMS, Config, Defaults
from kvplan.architectures.quantization import read_quantization
from kvplan.errors import SpecError, UnknownName, shown
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
    raw: Mapping[str, Any], *, name: str, title: str = "", where: str, source: Source, classes: Defaults
) -> ModelSpec:
    """Build a ModelSpec; raise SpecError naming the field, or UnknownName naming the architecture.

    `classes` are the defaults of transformers' config classes, which fill what the file leaves out.
    """
    config = text_config(raw, where, classes)
    body = FAMILIES[config.model_type](config)
    holder = config if config.parent is None else config.parent
    return ModelSpec(
        name=name,
        title=title or name,
        model_type=holder.model_type if config.parent else config.model_type,
        hidden=config.size("hidden_size"),
        vocab=config.size("vocab_size"),
        max_context=max_context(config),
        dtype=dtype(config),
        layers=body.layers,
        outer=body.outer + towers(config),
        tied=not any(w.name == "lm_head" for w in body.outer),
        quantization=read_quantization(raw, where) or read_quantization(config.raw, where),
        notes=body.notes + remarks(config),
        vision=sight(config),
        source=source,
        config=dict(raw),
    )


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
    if dtype(c) == "float32":
        notes += ("a 32-bit checkpoint: engines serve it in 16 bits, and so do the sizes here",)
    return notes


def text_config(raw: Mapping[str, Any], where: str, classes: Defaults) -> Config:
    """Return the Config the family reads: the file itself, or the language model nested in a multimodal file."""
    stated = raw.get("model_type") if isinstance(raw, Mapping) else None
    stated = SYNONYMS.get(stated, stated) if isinstance(stated, str) else stated
    if isinstance(stated, str) and stated not in FAMILIES and stated in TOWERS:
        from kvplan.architectures.towers import language_model

        return language_model(raw, stated, where, classes)
    if isinstance(raw, Mapping) and (not isinstance(stated, str) or stated not in FAMILIES):
        for nest in NESTS:
            inner = raw.get(nest)
            named = inner.get("model_type") if isinstance(inner, Mapping) else None
            if isinstance(named, str) and SYNONYMS.get(named, named) in FAMILIES:
                outer = stated if isinstance(stated, str) and stated else "unnamed"
                holder = Config({**raw, "model_type": outer}, where, {outer: None}, classes=classes)
                return Config(raw[nest], f"{where}: {nest}", FAMILIES, holder)
    if isinstance(stated, str) and stated not in FAMILIES:
        raise UnknownName("architecture", stated, [*FAMILIES, *TOWERS], "see `kvplan list architectures`", where)
    return Config(raw, where, FAMILIES, classes=classes)


def max_context(c: Config) -> int | None:
    """Return the longest context the config states, RoPE scaling included where the file needs it."""
    stated = (
        c.optional("max_position_embeddings")
        if "max_position_embeddings" in c.raw or c.parent
        else c.optional("max_position_embeddings", None)
    )
    scaling = c.get("rope_scaling", None) or c.get("rope_parameters", None)
    if not stated or not isinstance(scaling, Mapping):
        return stated
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not 1 < factor <= MOST_SCALED:
        return stated
    if scaling.get("rope_type", scaling.get("type")) == "yarn":  # its factor counts from the original
        start = original if isinstance(original, (int, float)) and not isinstance(original, bool) else stated
        return max(stated, int(start * factor))
    return int(original * factor) if original == stated else stated


def dtype(c: Config) -> str:
    """Return the checkpoint's dtype, bfloat16 when the file does not say."""
    stated = c.get("dtype", None) or (c.parent.get("dtype", None) if c.parent else None) or "bfloat16"
    named = _SHORT.get(str(stated).removeprefix("torch."), str(stated).removeprefix("torch."))
    if named not in DTYPE_BITS:
        raise SpecError(f"{c.where}: dtype must be one of {', '.join(DTYPE_BITS)}, got {shown(stated)}")
    return named
