"""Options of an engine that change how it uses memory, as callers write them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvplan.api import values
from kvplan.errors import WrongUse
from kvplan.kv.deployment import Running
from kvplan.kv.replica import Parallel
from kvplan.specs.model import ModelSpec

#: what an engine can be run without
FEATURES = ("prefix-caching", "hybrid", "graphs", "compile", "towers", "image-profiling")
#: what an engine can be run with where it would not by itself
ADDED = ("prefix-caching", "flashinfer")


def running(
    dcp: int,
    kv_cache_memory_bytes: float | str | None,
    cpu_offload: float | str | None,
    without: str | Iterable[str],
    with_features: str | Iterable[str] = (),
) -> Running:
    """Return the options: `dcp` GPUs divide a request's tokens, sizes are of one GPU, and features left out or added.

    The features are prefix-caching, hybrid (the manager that frees what windows no longer see), graphs (the memory
    set aside for CUDA graphs), compile (what compiling takes at a start without a compile cache), image-profiling (what
    is kept free for an image: vLLM's skip_mm_profiling) and towers, which `served` leaves out. What can be added:
    prefix-caching, which vLLM before 0.28 does without for hybrid models, and flashinfer, which samples with less
    memory in vLLM 0.9 to 0.16.
    """
    left = {values.one_of(word, "without", FEATURES) for word in values.several(without, "without")}
    added = {values.one_of(word, "with_features", ADDED) for word in values.several(with_features, "with_features")}
    if both := sorted(left & added):
        raise WrongUse(f"with_features, without: {', '.join(both)} cannot be on and off; leave one out")
    return Running(
        graphs="graphs" not in left,
        compiles="compile" not in left,
        profiles_images="image-profiling" not in left,
        flashinfer="flashinfer" in added,
        prefix_caching=True if "prefix-caching" in added else False if "prefix-caching" in left else None,
        hybrid="hybrid" not in left,
        context_ranks=values.count(dcp, "dcp", 1, values.MOST_GPUS),
        kv_bytes=values.given(values.size, kv_cache_memory_bytes, "kv_cache_memory_bytes"),
        offloaded=values.given(values.size, cpu_offload, "cpu_offload") or 0.0,
    )


def served(model: ModelSpec, without: str | Iterable[str]) -> ModelSpec:
    """Return what an engine loads of a model: without towers its text alone (vLLM's language_model_only)."""
    return model.text_only if "towers" in values.several(without, "without") else model


def spread(tp: int | None, pp: int | None, dp: int | None, stages: str | Sequence[int]) -> Parallel | None:
    """Return how a replica is spread, its stages of so many layers where they are given; None where nothing is."""
    layers = values.layer_counts(stages, "pp_layers")
    if not layers:
        return values.parallel(tp, pp, dp)
    if pp not in (None, len(layers)):
        raise WrongUse(f"pp, pp_layers: {pp} stages cannot have the layers of {len(layers)}; leave pp out")
    whole = values.parallel(tp, len(layers), dp)
    return replace(whole, split=layers) if whole else None
