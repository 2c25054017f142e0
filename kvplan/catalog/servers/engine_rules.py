"""The memory rules that an engine's file states of one release: figures and tables in base units, and who says so."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from kvplan.catalog.fields import (
    POSITIVE,
    ValueRange,
    count,
    figures,
    listed,
    mapping,
    number,
    one_of,
    read_source,
    required,
    source_of,
)
from kvplan.catalog.servers.launching import launch_options
from kvplan.errors import SpecError
from kvplan.specs.hardware import SERVES, Engine, Reserve, Runner, StepSize, TowerShare
from kvplan.specs.launch import LaunchOptions
from kvplan.specs.source import Source

#: unit of every single figure ('' is text, '#' a whole number)
UNITS = {
    "title": "", "pool": "", "utilization": "1", "block_size": "#", "latent_block_size": "#", "contiguous": "#",
    "sampler_bytes_per_logit": "B", "flashinfer_bytes_per_logit": "B", "kept_bytes_per_logit": "B",
    "compile_copies": "#", "steps_ahead": "#", "window_share": "1", "state_share": "1", "whole_prompts": "#",
    "live_hidden": "1", "activation_base": "B", "expert_chunk": "#", "keeps_workspaces": "#", "keeps_deepstack": "#",
    "stage_runtime": "B", "encoder_patches": "#", "encoder_live": "1", "encoder_copies": "1", "capacity": "",
    "host_growth": "B", "index_gather": "#", "long_index_gather": "#", "long_index_from": "#", "graph_bytes": "B",
    "expert_graph_bytes": "B", "attention_workspace": "B", "rank_graph_bytes": "B", "rank_graph_size": "#",
    "state_pages": "#",
    "hybrid_prefixes": "#", "needs_slots": "#", "draft_models": "#", "divided_step": "#", "stated_length": "#",
    "expert_padding": "#", "marlin_padding": "#", "marlin_width": "#", "expert_scale_bytes": "B",
    "block_scale_bytes": "B", "rope_table_bytes": "B", "image_positions": "#", "absorbed_bytes": "B",
    "allocation_step": "B",
}  # fmt: skip
#: figures every engine must have
NEEDED = ("title", "pool", "block_size", "latent_block_size", "sampler_bytes_per_logit", "live_hidden")
#: fields that are yes or no, which files write as 1
FLAGS = tuple(f.name for f in fields(Engine) if f.type is bool)
POOLS = ("profiled", "static", "free")
CAPACITIES = ("requests", "even", "bytes")
RUNTIME = "{1: 0.6 GB, 8: 2.1 GB}"
STEPS = "[{max_num_seqs: 256, max_num_batched_tokens: 2048}]"
RESERVE = dict.fromkeys(("constant", "token", "graph", "gpu", "latent", "least", "large"), "B")
VISION = ("share", "layers", "hidden", "slope", "least", "most")
SIZES = ("max_num_seqs", "max_num_batched_tokens")
MOST_GPUS = 1e6
NOT_NEGATIVE = ValueRange(0.0, POSITIVE.most)
#: fields that are lists of words
LISTS = (
    "eagle3_models", "mtp_models", "encoder_models", "encoder_counted", "window_models", "latent_formats", "vendors",
    "unserved_models",
    "host_counts", "checkpoint_states", "flash_checkpoint_states", "flash_architectures", "graph_vendors",
    "whole_kinds", "flashinfer_gpus", "flashinfer_narrow",
)  # fmt: skip
RUNNER = "{serves: dense, sampler_bytes_per_logit: 6 B}"
#: what a second runner's profiling run may lack, and the figures that are none then
LACKS = {"graphs": ("graph_bytes", "expert_graph_bytes"), "images": ("encoder_patches",)}


def stated_rules(
    part: Mapping[str, Any], location: str, before: LaunchOptions | None
) -> tuple[dict[str, Any], dict[str, Source]]:
    """Return what a part of an engine's file states, as fields of an Engine, and the source of each figure.

    `before` are the options of the releases before it. Raises SpecError and UnknownName.
    """
    figures_only = {k: v for k, v in part.items() if k not in (*TABLES, "releases", "launch")}
    plain, sources = figures(figures_only, UNITS, location, "engine")
    tables = {name: read(part[name], f"{location}: {name}") for name, read in TABLES.items() if name in part}
    default = read_source(part["source"], location)
    sources |= {name: source_of(part[name], default, location) for name in tables}
    values = {name: bool(value) if name in FLAGS else value for name, value in (plain | tables).items()}
    if "launch" in part:
        values["launch"] = launch_options(part["launch"], before, f"{location}: launch")
    return values, sources


def check_rules(values: Mapping[str, Any], location: str) -> None:
    """Raise SpecError where rules lack what every engine has, or choose what no engine does."""
    if missing := next((f for f in (*NEEDED, "runtime", "steps") if f not in values), None):
        raise SpecError(f"{location}: missing {missing}; compare with the engine file kvplan ships")
    for field, known in (("pool", POOLS), ("capacity", CAPACITIES)):
        if values.get(field, known[0]) not in known:
            raise SpecError(f"{location}: {field}: expected one of {', '.join(known)}, got {values[field]}")
    if "utilization" not in values and "reserve" not in values:
        raise SpecError(f"{location}: missing utilization; compare with the engine file kvplan ships")


def _words(raw: object, location: str) -> tuple[str, ...]:
    """Return a list of words, which may stand as a value beside its source."""
    stated = raw["value"] if isinstance(raw, Mapping) and "value" in raw else raw
    return tuple(map(str, listed(stated, location, "[llama, qwen]")))


def _steps(raw: object, location: str) -> tuple[StepSize, ...]:
    return tuple(_step(step, location) for step in listed(raw, location, STEPS, 1))


def _step(raw: object, location: str) -> StepSize:
    figures = required(raw, ("memory", *SIZES, "graph", "wide_graph"), SIZES, location)
    sizes = {k: count(figures[k], f"{location}: {k}", ValueRange(1, 1e9)) for k in figures if k != "memory"}
    graph = sizes.get("graph", 512)
    return StepSize(
        memory=number(figures.get("memory", "0 B"), f"{location}: memory", NOT_NEGATIVE, "B"),
        sequences=sizes["max_num_seqs"],
        tokens=sizes["max_num_batched_tokens"],
        graph=graph,
        wide_graph=sizes.get("wide_graph", graph),
    )


def _runner(raw: object, location: str) -> Runner:
    """Return a release's second model runner; raise SpecError."""
    part = dict(mapping(raw, location, RUNNER))
    models, serves = part.pop("models", []), one_of(part.pop("serves", SERVES[0]), f"{location}: serves", SERVES)
    lacks = [one_of(name, f"{location}: lacks", LACKS) for name in listed(part.pop("lacks", []), location, "[graphs]")]
    rules, _ = figures(part, UNITS, location, "engine")
    rules |= {figure: 0 for name in lacks for figure in LACKS[name]}
    return Runner(models=tuple(map(str, listed(models, f"{location}: models", "[qwen3]"))), serves=serves, rules=rules)


def _reserve(raw: object, location: str) -> Reserve:
    parts = required(raw, RESERVE, RESERVE, location)
    return Reserve(**{k: number(v, f"{location}: {k}", NOT_NEGATIVE, "B") for k, v in parts.items()})


def _vision(raw: object, location: str) -> TowerShare:
    parts = required(raw, (*VISION, "source"), VISION, location)
    return TowerShare(**{k: number(parts[k], f"{location}: {k}", NOT_NEGATIVE) for k in VISION})


def _runtime(raw: object, location: str) -> dict[int, float]:
    """Return the memory outside the allocator by the number of GPUs that work together. [B]"""
    return {
        count(gpus, location, ValueRange(1, MOST_GPUS)): number(amount, f"{location}: {gpus}", NOT_NEGATIVE, "B")
        for gpus, amount in mapping(raw, location, RUNTIME).items()
    }


#: fields that are tables, and their readers
TABLES: Mapping[str, Callable[[object, str], Any]] = {
    "first_step": _words,
    **dict.fromkeys(LISTS, _words),
    "steps": _steps,
    "second_runner": _runner,
    "reserve": _reserve,
    "vision": _vision,
    "runtime": _runtime,
    "plain_runtime": _runtime,
}
