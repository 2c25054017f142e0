"""What of an engine's rules depends on the model: which of two runners serves it, and whether prefixes are cached."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kvplan.specs.hardware import Engine, Gpu, Runner
from kvplan.specs.model import Compressed, Latent, ModelSpec, Recurrent


@lru_cache(maxsize=1024)
def rules_for(engine: Engine, model: ModelSpec, caching: bool, flash: bool) -> Engine:
    """Return an engine's memory rules for a model: those of its second runner where that one serves it.

    `caching` says whether prefixes are cached, `flash` whether the GPU's kernels export states of a prefill. What these
    rules say of states holds as it is: applied to them, nothing changes.
    """
    rules: dict[str, Any] = {"state_pages": 1, "checkpoint_states": (), "flash_checkpoint_states": ()}
    if caching:
        able = {*engine.checkpoint_states, *(engine.flash_checkpoint_states if flash else ())}
        kinds = {m.name for m in model.mixers if isinstance(m, Recurrent)}
        rules["state_pages"] = engine.state_pages + bool(kinds and kinds <= able)
    second = engine.second_runner
    if second is not None and _served(second, model):
        rules |= second.rules
    return replace(engine, **rules)


def caches(engine: Engine, model: ModelSpec, asked: bool | None) -> bool:
    """Return whether an engine caches a model's prefixes: as `asked`, None for its own choice.

    vLLM's depends on the release for hybrids, and is not to for models of recurrent states alone.
    """
    if asked is not None:
        return asked
    kinds = {isinstance(m, Recurrent) for m in model.mixers}
    return kinds == {False} or (engine.hybrid_prefixes and kinds == {False, True})


def own_share(engine: Engine, model: ModelSpec, gpu: Gpu, tensor: int, pipeline: int) -> float:
    """Return the share of a GPU that an engine takes for a model where nobody says which, of 1.

    Beside a vision tower it is less, the larger the tower the less, as the engine's own figures say.
    """
    latent = any(isinstance(m, Latent | Compressed) for m in model.mixers)
    share = engine.share(gpu, tensor, pipeline, latent)
    tower = model.config.get("vision_config")
    cut = engine.vision
    if not isinstance(tower, Mapping) or not model.sees or cut is None:
        return share
    return share * cut.factor(tower.get("num_hidden_layers", cut.layers), tower.get("hidden_size", cut.hidden))


def flashes(engine: Engine, gpu: Gpu | None) -> bool:
    """Return whether an engine's prefill kernels export states of a gated delta net on a GPU."""
    return gpu is not None and gpu.architecture in engine.flash_architectures


def _served(second: Runner, model: ModelSpec) -> bool:
    """Whether the second runner serves a model: one by name, a dense one without states, or any."""
    if second.serves == "all" or model.model_type in second.models:
        return True
    routed = any(w.split == "expert" for layer in model.distinct_layers for w in layer.weights)
    return second.serves == "dense" and not routed and not any(isinstance(m, Recurrent) for m in model.mixers)
