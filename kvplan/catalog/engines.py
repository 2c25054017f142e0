"""Engines: the memory rules of each, by name or YAML file."""

from functools import cache

from kvplan.catalog.fields import (
    POSITIVE,
    ValueRange,
    count,
    figures,
    listed,
    mapping,
    number,
    required,
    shelf_document,
)
from kvplan.errors import SpecError
from kvplan.specs.hardware import Engine

UNITS = {
    "title": "",
    "version": "",
    "utilization": "1",
    "block_size": "#",
    "latent_block_size": "#",
    "large_memory": "B",
    "sampler_bytes_per_logit": "B",
}
#: limits of a GPU below and above `large_memory`
LIMITS = ("max_num_seqs", "max_num_batched_tokens")
RUNTIME = "{1: 0.6 GB, 8: 2.1 GB}"
MOST_GPUS = 1e6


@cache
def engine(word: str = "vllm") -> Engine:
    """Return an engine's memory rules by name or YAML file; raise SpecError, UnknownName."""
    raw, name, where = shelf_document("engines", word, "engine")
    other = {"large_except", "small", "large", "runtime"}
    values, sources = figures({k: v for k, v in raw.items() if k not in other}, UNITS, where, "engine")
    if missing := next((field for field in (*UNITS, "runtime", "small", "large") if field not in raw), None):
        raise SpecError(f"{where}: missing {missing}; compare with the engine file kvplan ships")
    values["large_except"] = tuple(listed(raw.get("large_except", []), f"{where}: large_except", "[a100-80gb-sxm]"))
    values["runtime"] = {
        count(gpus, f"{where}: runtime", ValueRange(1, MOST_GPUS)): number(
            amount, f"{where}: runtime: {gpus}", ValueRange(0.0, POSITIVE.most), "B"
        )
        for gpus, amount in mapping(raw["runtime"], f"{where}: runtime", RUNTIME).items()
    }
    for size in ("small", "large"):
        found = required(raw[size], LIMITS, LIMITS, f"{where}: {size}")
        values[size] = tuple(count(found[k], f"{where}: {size}: {k}", ValueRange(1, 1e9)) for k in LIMITS)
    return Engine(name=name, sources=sources, **values)
