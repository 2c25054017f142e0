"""Which prompts of an open loop an engine with a prefix cache has from before: collections that send them again."""

from kvplan.catalog.servers.collected import collection_of
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, bits_of
from kvplan.measuring.serving.raw_row import RawRow
from kvplan.specs.eras import era_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec

#: tokens of a prompt in the cache that are computed all the same: half a block of 16 on average, and one
RECOMPUTED = 9
#: the share of a GPU's memory that engines take
TAKEN = 0.9


def caches_prefixes(engine: str, version: str) -> bool:
    """Return whether an engine's release keeps prefixes unless told not to: SGLang, and vLLM from V1 on."""
    return engine == "sglang" or (engine == "vllm" and not era_of(engine, version))


def found_before(entry: RawRow, model: ModelSpec, gpu: Gpu, engine: str, parallel: Parallel, form: str | None) -> float:
    """Return the share of an open loop's prompts that an engine with a prefix cache has from before, 0 where none."""
    made = collection_of(entry.values) if caches_prefixes(engine, entry.text("engine_version")) else None
    if made is None:
        return 0.0
    prompt = entry.size("isl")
    holds = holds_prompts(made.prompts, model, gpu, parallel, form, prompt + entry.size("osl"))
    found = made.finds(str(entry.values.get("group") or ""), entry.loosely("rate"), holds)
    return max(0.0, 1.0 - RECOMPUTED / prompt) if found else 0.0


def holds_prompts(
    prompts: int, model: ModelSpec, gpu: Gpu, parallel: Parallel, form: str | None, length: float
) -> bool:
    """Return whether the memory beside the weights holds so many requests that a collection sends again.

    Each is of `length` tokens, prompt and answer. Of less, nothing is found: sent in the same order, each prompt is
    evicted as the longest unused just before it comes.
    """
    room = TAKEN * gpu.memory * parallel.gpus - model.parameters * bits_of(model, form) / 8
    return prompts * kv_layout(model, 16.0).stored(int(length)) <= room
