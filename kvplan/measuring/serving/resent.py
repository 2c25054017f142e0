"""Which prompts of an open loop an engine with a prefix cache has from before: collections that send them again."""

from collections.abc import Mapping
from typing import Any

from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, bits_of
from kvplan.specs.eras import era_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec

#: in the name of a collection: its rows were taken inside the engine's process, and send a suite's prompts thrice at
#: every rate (its script), but for the one suite whose prompts no memory holds
OWN_PROCESS, ONCE = "AccelMark", "suite_D"
#: in the notes of IOG-Foundation's rows: so many prompts are sent, at so many requests a second first, and the same
#: ones then at 16, 8, 4 and 1 to one server (its README and the dates of its results)
AGAIN, PROMPTS, FIRST_RATE = "200 prompts only", 200, 32.0
#: tokens of a prompt in the cache that are computed all the same: half a block of 16 on average, and one
RECOMPUTED = 9
#: the share of a GPU's memory that engines take
TAKEN = 0.9


def caches_prefixes(engine: str, version: str) -> bool:
    """Return whether an engine's release keeps prefixes unless told not to: SGLang, and vLLM from V1 on."""
    return engine == "sglang" or (engine == "vllm" and not era_of(engine, version))


def found_again(values: Mapping[str, Any], rate: float, prompt: float, holds: bool) -> float:
    """Return the share of an open loop's prompts that an engine with a prefix cache has from before, 0 where none.

    `holds`: the cache holds all requests that are sent again; suites are so short that it does.
    """
    group, note, source = (str(values.get(column) or "") for column in ("group", "note", "source"))
    suite = OWN_PROCESS in source and ONCE not in group
    sample = AGAIN in note and rate != FIRST_RATE and holds
    return max(0.0, 1.0 - RECOMPUTED / prompt) if suite or sample else 0.0


def holds_prompts(model: ModelSpec, gpu: Gpu, parallel: Parallel, form: str | None, length: float) -> bool:
    """Return whether the memory beside the weights holds all requests of which prompts are sent again.

    Each is of `length` tokens, prompt and answer. Of less, nothing is found: sent in the same order, each prompt is
    evicted as the longest unused just before it comes.
    """
    room = TAKEN * gpu.memory * parallel.gpus - model.parameters * bits_of(model, form) / 8
    return PROMPTS * kv_layout(model, 16.0).stored(int(length)) <= room
