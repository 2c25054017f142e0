"""A language model with a vision (or audio) tower: the text part is read by its own family, the tower is counted.

Tower tensors are named vision_tower, audio_tower or multi_modal_projector and are no `matmul`: weight quantisation
leaves them alone. There is one Weight per kind of tensor, its first dimension the layers; a bias is counted as one more
column.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.architectures.config import SPELLINGS, Config, Defaults
from kvplan.architectures.registry import FAMILIES, TOWERS
from kvplan.errors import SpecError, shown
from kvplan.specs.model import Vision, Weight

Counter = Callable[[Config, Config], tuple[Weight, ...]]
Sight = Callable[[Config], Vision | None]


@dataclass(frozen=True)
class Tower:
    """Where a multimodal config keeps its language model, and what stands beside it."""

    text: str  #: model_type of the language model
    weights: Counter  #: from the whole config and its text part to the tensors beside the language model
    nest: str = "text_config"  #: field that holds the language model
    fixed: bool = True  #: whether the class reads its text part as `text`, whatever model_type it states
    flat: bool = False  #: whether files may state the text fields at the top
    tied: str = "outer"  #: whose tie_word_embeddings counts: outer, either or text
    sees: Sight | None = None  #: from the whole config to how images become tokens, None where it reads none


def tower(
    text: str,
    *model_types: str,
    sees: Sight | None = None,
    fixed: bool = True,
    flat: bool = False,
    tied: str = "outer",
    nest: str = "text_config",
) -> Callable[[Counter], Counter]:
    """Register what stands beside the language model of these model types."""

    def register(weights: Counter) -> Counter:
        for model_type in model_types:
            TOWERS.known[model_type] = Tower(
                text=text, weights=weights, fixed=fixed, flat=flat, tied=tied, sees=sees, nest=nest
            )
        return weights

    return register


def language_model(raw: Mapping[str, Any], model_type: str, place: str, classes: Defaults) -> Config:
    """Return the text part's Config; its parent is the whole file, which then says whether the head is tied."""
    kind: Tower = TOWERS[model_type]
    outer = Config(
        {**{k: v for k, v in raw.items() if v is not None}, "model_type": model_type},
        place,
        {model_type: None},
        classes=classes,
    )
    flat = kind.nest not in outer.raw and (kind.flat or states_decoder(outer.raw))
    stated = dict(raw) if flat else outer.nested(kind.nest, model_type=kind.text).raw
    inner = Config(
        {**stated, "model_type": kind.text} if kind.fixed or flat else stated,
        place if flat else f"{place}: {kind.nest}",
        FAMILIES,
        outer,
    )
    outer.raw = {**outer.raw, "tie_word_embeddings": _tied(outer, inner, kind)}
    return inner


def _tied(outer: Config, inner: Config, kind: Tower) -> bool:
    """Return whether a language model's head is its embedding, as the whole file says, its text part, or either."""
    whole = outer.flag("tie_word_embeddings")
    if text_only(outer):
        return inner.flag("tie_word_embeddings", whole)
    own = inner.flag("tie_word_embeddings")
    return {"outer": whole, "either": whole or own, "text": own}[kind.tied]


def states_decoder(raw: Mapping[str, Any]) -> bool:
    """Whether a file states the sizes of a decoder at its top."""
    return all(any(raw.get(s) for s in SPELLINGS[name]) for name in ("hidden_size", "num_hidden_layers"))


def text_only(outer: Config) -> bool:
    """Whether `architectures` names the language model alone: Gemma3ForCausalLM in a gemma3 file."""
    named = outer.get("architectures", None)
    return (
        isinstance(named, (list, tuple))
        and bool(named)
        and all(isinstance(n, str) and n.endswith("ForCausalLM") for n in named)
    )


def sight(text: Config) -> Vision | None:
    """Return how the file's images become tokens, None where it reads none."""
    if text.parent is None or text.parent.model_type not in TOWERS or text_only(text.parent):
        return None
    kind: Tower = TOWERS[text.parent.model_type]
    return kind.sees(text.parent) if kind.sees else None


def beside(text: Config) -> tuple[Weight, ...]:
    """Return the tensors of the file that are not the language model's."""
    if text.parent is None or text.parent.model_type not in TOWERS or text_only(text.parent):
        return ()
    kind: Tower = TOWERS[text.parent.model_type]
    return kind.weights(text.parent, text)


def tensors(prefix: str, layers: int = 1, **shapes: tuple[int, ...]) -> tuple[Weight, ...]:
    """Return one Weight per named shape, of `layers` layers."""
    return tuple(
        Weight(name=f"{prefix}.{name}", shape=(layers, *shape), matmul=False)
        for name, shape in shapes.items()
        if 0 not in (layers, *shape)
    )


def part(outer: Config, name: str, model_type: str) -> Config:
    """Return a nested object read as `model_type` whatever it states (some old files repeat the outer one)."""
    stated = outer.nested(name, model_type=model_type)
    return Config({**stated.raw, "model_type": model_type}, stated.place, {model_type: None}, outer)


def pair(c: Config, name: str) -> tuple[int, int]:
    """Return a size given as one number or as two."""
    value = c.get(name)
    if not isinstance(value, (list, tuple)):
        return c.size(name), c.size(name)
    if len(value) != 2:
        raise SpecError(f"{c.place}: {name} must be one number or two, got {shown(value)}")
    return c.whole(name, value[0]), c.whole(name, value[1])


def patches(c: Config) -> int:
    """Return how many patches an image is cut into."""
    (height, width), (rows, cols) = pair(c, "image_size"), pair(c, "patch_size")
    if height < rows or width < cols:
        raise SpecError(f"{c.place}: patch_size {c.get('patch_size')} is larger than image_size {c.get('image_size')}")
    return (height // rows) * (width // cols)


def pixels(c: Config, channels: str = "num_channels") -> int:
    """Return the numbers in one patch: channels x height x width, x frames where the config has temporal_patch_size."""
    rows, cols = pair(c, "patch_size")
    return (
        c.size(channels, 3)
        * rows
        * cols
        * (pair(c, "temporal_patch_size")[0] if c.get("temporal_patch_size", None) is not None else 1)
    )


def features(outer: Config) -> int:
    """Return how many layers of the tower the projector reads side by side."""
    listed = outer.get("vision_feature_layer", -1)
    return max(len(listed), 1) if isinstance(listed, (list, tuple)) else 1


def transformer(prefix: str, d: int, inner: int, layers: int) -> tuple[Weight, ...]:
    """Return the usual ViT layers: biases everywhere, two LayerNorms, plain MLP."""
    return tensors(prefix, layers, attention=(4 * d, d + 1), norms=(4, d), fc1=(inner, d + 1), fc2=(d, inner + 1))
