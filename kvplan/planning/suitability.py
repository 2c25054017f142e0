"""Whether a model can be asked at all: how long its context is, and what it reads besides text."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import ceil, log
from typing import TYPE_CHECKING

from kvplan.errors import SpecError
from kvplan.specs.hardware import Engine
from kvplan.specs.model import IMAGE, VIDEO, Attention, Compressed, Latent, ModelSpec

if TYPE_CHECKING:
    from kvplan.specs.workload import Workload

#: models that a refusal names
NAMED = 4


def beyond(model: ModelSpec, context: int) -> str:
    """Return what a context beyond the model's takes, '' where it is within it or the model's is not stated."""
    if not model.max_context or context <= model.max_context:
        return ""
    rotated = any(isinstance(m, (Latent, Compressed)) or (isinstance(m, Attention) and m.rope) for m in model.mixers)
    factor = ceil(100 * context / model.max_context) / 100
    return f"RoPE scaling (YaRN) by a factor of {factor:g}" if rotated else "training at that length"


def within(model: ModelSpec, context: int) -> str:
    """Return how long a model's context is, against the one asked for."""
    return f"{model.title} supports {model.max_context:,} tokens, not {context:,}"


def check_context(model: ModelSpec, context: int, allowed: bool, location: str) -> None:
    """Raise SpecError, which begins with `location`, for a context beyond the model's, unless it is allowed."""
    if (needs := beyond(model, context)) and not allowed:
        other = f", or ask {model.longer}, of the same shape and a longer context" if model.longer else ""
        raise SpecError(
            f"{location}: {within(model, context)}; write allow_long_context=True to plan with {needs}{other}"
        )


def lengthened(model: ModelSpec, engine: Engine) -> ModelSpec:
    """Return a model with the context that an engine derives from its file, and a note where YaRN's is longer."""
    stated, longest = model.stated_context, model.max_context
    if not engine.stated_length or stated is None or longest is None:
        return model
    note = (
        f"{engine.title} takes the {stated:,} tokens of max_position_embeddings; YaRN's factor makes {longest:,}, "
        "which the server has to be told"
    )
    return replace(model, max_context=stated, stated_context=None, notes=(*model.notes, note))


def read_by(model: ModelSpec, workload: "Workload", others: Callable[[], Iterable[ModelSpec]]) -> "Workload":
    """Return a workload as a model reads it; raise SpecError, which names some of the `others`, if it cannot."""
    missing = unread(model, workload)
    if not missing:
        return workload.read_by(model)
    able = [m for m in others() if not unread(m, workload)]
    able.sort(key=lambda m: abs(log(m.parameters / model.parameters)))
    instead = f"models that do: {', '.join(m.name for m in able[:NAMED])}" if able else "no model of the catalogue does"
    raise SpecError(f"model: {model.title} does not read the {' and '.join(missing)} of {workload.name}; {instead}")


def unread(model: ModelSpec, workload: "Workload") -> list[str]:
    """Return what a workload asks to be read that a model does not read; frames of a video are read as images."""
    return [kind for kind in workload.modalities if (IMAGE if kind == VIDEO else kind) not in model.modalities]
