"""Which of an engine's model runners serves a model: vLLM has two, with memory rules of their own."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

from kvplan.specs.hardware import Engine, Runner
from kvplan.specs.model import ModelSpec, Recurrent


@lru_cache(maxsize=1024)
def rules_for(engine: Engine, model: ModelSpec) -> Engine:
    """Return an engine's memory rules for a model: those of its second runner where that one serves it."""
    second = engine.second_runner
    if second is None or not _served(second, model):
        return engine
    rules: dict[str, Any] = {**second.rules}
    return replace(engine, **rules)


def _served(second: Runner, model: ModelSpec) -> bool:
    """Whether the second runner serves a model: one by name, a dense one without states, or any."""
    if second.serves == "all" or model.model_type in second.models:
        return True
    routed = any(w.split == "expert" for layer in model.distinct_layers for w in layer.weights)
    return second.serves == "dense" and not routed and not any(isinstance(m, Recurrent) for m in model.mixers())
