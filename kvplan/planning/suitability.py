"""Whether a model can be asked at all: how long its context is, and what it reads besides text."""

from kvplan.errors import SpecError
from kvplan.specs.model import Attention, Latent, ModelSpec


def beyond(model: ModelSpec, context: int) -> str:
    """Return what a context beyond the model's takes, '' where it is within it or the model's is not stated."""
    if not model.max_context or context <= model.max_context:
        return ""
    rotated = any(isinstance(m, Latent) or (isinstance(m, Attention) and m.rope) for m in model.mixers())
    return f"RoPE scaling (YaRN) by a factor of {context / model.max_context:.3g}" if rotated else "training for it"


def within(model: ModelSpec, context: int) -> str:
    """Return how long a model's context is, against the one asked for."""
    return f"{model.title} supports {model.max_context:,} tokens, not {context:,}"


def check_context(model: ModelSpec, context: int, allowed: bool, where: str) -> None:
    """Raise SpecError, which begins with `where`, for a context beyond the model's, unless it is allowed."""
    if (needs := beyond(model, context)) and not allowed:
        other = f", or ask {model.longer}, of the same shape and a longer context" if model.longer else ""
        raise SpecError(
            f"{where}: {within(model, context)}; write allow_long_context=True to plan for what takes {needs}{other}"
        )
