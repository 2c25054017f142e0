"""Engines: the memory rules of each by release, by name or YAML file."""

import re
from collections.abc import Mapping
from functools import cache
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
    shelf_document,
    source_of,
)
from kvplan.catalog.launching import launch_options
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.eras import numbers
from kvplan.specs.hardware import SERVES, Engine, Reserve, Runner, StepSize, TowerShare
from kvplan.specs.source import Source

UNITS = {
    "title": "",
    "pool": "",
    "utilization": "1",
    "block_size": "#",
    "latent_block_size": "#",
    "contiguous": "#",
    "sampler_bytes_per_logit": "B",
    "flashinfer_bytes_per_logit": "B",
    "kept_bytes_per_logit": "B",
    "compile_copies": "#",
    "steps_ahead": "#",
    "window_share": "1",
    "state_share": "1",
    "whole_prompts": "#",
    "live_hidden": "1",
    "activation_base": "B",
    "expert_chunk": "#",
    "keeps_workspaces": "#",
    "keeps_deepstack": "#",
    "stage_runtime": "B",
    "encoder_patches": "#",
    "encoder_live": "1",
    "encoder_copies": "1",
    "capacity": "",
    "host_growth": "B",
    "index_gather": "#",
    "long_index_gather": "#",
    "long_index_from": "#",
    "graph_bytes": "B",
    "expert_graph_bytes": "B",
    "attention_workspace": "B",
    "rank_graph_bytes": "B",
    "rank_graph_size": "#",
    "state_pages": "#",
    "hybrid_prefixes": "#",
    "needs_slots": "#",
    "draft_models": "#",
    "divided_step": "#",
    "stated_length": "#",
    "expert_padding": "#",
    "marlin_padding": "#",
    "marlin_width": "#",
    "expert_scale_bytes": "B",
    "block_scale_bytes": "B",
    "rope_table_bytes": "B",
    "image_positions": "#",
    "absorbed_bytes": "B",
    "allocation_step": "B",
}
#: figures every engine must have
NEEDED = ("title", "pool", "block_size", "latent_block_size", "sampler_bytes_per_logit", "live_hidden")
FLAGS = (
    "contiguous",
    "keeps_workspaces",
    "keeps_deepstack",
    "needs_slots",
    "draft_models",
    "hybrid_prefixes",
    "divided_step",
    "stated_length",
)
POOLS = ("profiled", "static", "free")
CAPACITIES = ("requests", "even", "bytes")
RUNTIME = "{1: 0.6 GB, 8: 2.1 GB}"
STEPS = "[{max_num_seqs: 256, max_num_batched_tokens: 2048}]"
RESERVE = dict.fromkeys(("constant", "token", "graph", "gpu", "latent", "least", "large"), "B")
VISION = ("share", "layers", "hidden", "slope", "least", "most")
SIZES = ("max_num_seqs", "max_num_batched_tokens")
MOST_GPUS = 1e6
#: a release: up to four numbers, none of more than nine digits, as in 0.19, v1.2.1
RELEASE = r"[a-z]?\d{1,9}(\.\d{1,9}){0,3}"
#: parts of model types that an engine starts a kind of draft for, fills the tower of, or keeps windows apart of
MODELS = ("eagle3_models", "mtp_models", "encoder_models", "encoder_counted", "window_models")
#: fields that are lists of words
LISTS = (
    *MODELS,
    "latent_formats",
    "vendors",
    "unserved_models",
    "host_counts",
    "checkpoint_states",
    "flash_checkpoint_states",
    "flash_architectures",
    "graph_vendors",
    "whole_kinds",
    "flashinfer_gpus",
    "flashinfer_narrow",
)
#: fields that are no single figures
OTHER = (
    "first_step",
    *LISTS,
    "steps",
    "runtime",
    "plain_runtime",
    "reserve",
    "vision",
    "second_runner",
    "releases",
    "launch",
)
RUNNER = "{serves: dense, sampler_bytes_per_logit: 6 B}"
#: what a second runner's profiling run may lack, and the figures that are none then
LACKS = {"graphs": ("graph_bytes", "expert_graph_bytes"), "images": ("encoder_patches",)}


def _number(release: str) -> tuple[int, ...]:
    """Return a release as numbers that compare: '0.21.1rc2' is (0, 21, 1)."""
    match = re.match(RELEASE, release, re.ASCII)
    return tuple(int(part) for part in re.findall(r"\d+", match[0], re.ASCII)) if match else ()


@cache
def engine(word: str = "vllm") -> Engine:
    """Return an engine's memory rules by name or YAML file, the newest known or those of a release, as in vllm@0.19.

    Raises SpecError for a release older than the oldest known or no release, and UnknownName.
    """
    name, at, wanted = word.rpartition("@")
    name, wanted = (name, wanted) if at and not wanted.endswith((".yaml", ".yml")) else (word, "")
    raw, name, location = shelf_document("engines", name, "engine")
    releases = mapping(raw.get("releases", {}), f"{location}: releases", "{0.19: {utilization: 0.92}}")
    known = _sorted(releases, location)
    chosen = _in_force(wanted, known, name) if wanted or word.endswith("@") else known[-1]
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    by_name = {str(r): part for r, part in releases.items()}
    parts = [raw, *(mapping(by_name[r] or {}, f"{location}: {r}") for r in known if _number(r) <= _number(chosen))]
    for index, part in enumerate(parts):
        place = location if index == 0 else f"{location}: {known[index - 1]}"
        part = {"source": raw.get("source"), **part}
        plain, options = figures({k: v for k, v in part.items() if k not in OTHER}, UNITS, place, "engine")
        tables = _tables(part, place)
        values |= plain | tables
        default = read_source(part["source"], place)
        sources |= options | {name: source_of(part[name], default, place) for name in tables}
        if "launch" in part:
            values["launch"] = launch_options(part["launch"], values.get("launch"), f"{place}: launch")
    if missing := next((f for f in (*NEEDED, "runtime", "steps") if f not in values), None):
        raise SpecError(f"{location}: missing {missing}; compare with the engine file kvplan ships")
    if values["pool"] not in POOLS:
        raise SpecError(f"{location}: pool: expected one of {', '.join(POOLS)}, got {values['pool']}")
    if values.get("capacity", CAPACITIES[0]) not in CAPACITIES:
        raise SpecError(f"{location}: capacity: expected one of {', '.join(CAPACITIES)}, got {values['capacity']}")
    if "utilization" not in values and "reserve" not in values:
        raise SpecError(f"{location}: missing utilization; compare with the engine file kvplan ships")
    after = next((r for r in known if _number(r) > _number(chosen)), None)
    version = f"{chosen} and later" if after is None else f"{chosen} to before {after}"
    newer = after is None and _newer(wanted, chosen)
    version = f"{wanted}, by the newest rules known: those of {version}" if newer else version
    values |= {flag: bool(values[flag]) for flag in FLAGS if flag in values}
    return Engine(name=name, release=chosen, version=version, sources=sources, **values)


def releases(name: str) -> tuple[str, ...]:
    """Return the releases of an engine on the shelf at which its rules change, the oldest first."""
    raw, _, location = shelf_document("engines", name, "engine")
    return tuple(_sorted(raw["releases"], location))


def described_releases(word: str) -> tuple[str, ...]:
    """Return an engine's releases whose rules and options are known, as engine@release, oldest first.

    None of a word that names a release, or is a file.
    """
    if word not in names("engines"):
        return ()
    raw, _, location = shelf_document("engines", word, "engine")
    parts = {str(r): part or {} for r, part in raw.get("releases", {}).items()}
    known = _sorted(parts, location)
    first = next((i for i, r in enumerate(known) if "launch" in raw or "launch" in parts[r]), len(known))
    return tuple(f"{word}@{r}" for r in known[first:])


@cache
def fitted_engine() -> Engine:
    """Return the memory rules that the shipped profile of servers was fitted under."""
    return engine("vllm@0.11")


@cache
def stated_engine(name: str, version: str) -> Engine | None:
    """Return the rules of an engine and release as measured rows name them, None for an engine not described.

    Releases before the oldest described have its rules; where none is stated, they are those that servers were fitted
    under, or the newest.
    """
    number, usual = ".".join(map(str, numbers(version))), fitted_engine()
    if name not in names("engines"):
        return None
    if not number:
        return usual if name == usual.name else engine(name)
    try:
        return engine(f"{name}@{number}")
    except UnknownName:  # not a release: more digits than one has
        return usual if name == usual.name else engine(name)
    except SpecError:
        raw, name, location = shelf_document("engines", name, "engine")
        return engine(f"{name}@{_sorted(raw['releases'], location)[0]}")


def described(word: str) -> Engine:
    """Return an engine as `engine` does; raise SpecError also for a release whose options are not known.

    Those are the releases newer than every one described, and the older ones of which only memory rules are.
    """
    name, _, wanted = word.partition("@")
    raw = shelf_document("engines", name, "engine")[0]
    releases = raw.get("releases", {})
    known = _sorted(releases, name)
    first = next(
        (r for r in known if "launch" in raw or "launch" in ({str(k): v for k, v in releases.items()}[r] or {})), ""
    )
    if _newer(wanted, known[-1]):
        told = [r for r in known if _number(r) >= _number(first)]
        raise SpecError(
            f"engine {name}: release {shown(wanted)} is newer than those whose options kvplan knows, "
            f"{', '.join(told)}; write {name}@{known[-1]}"
        )
    if first and re.fullmatch(RELEASE, wanted, re.ASCII) and _number(wanted) < _number(first):
        raise SpecError(
            f"engine {name}@{wanted}: kvplan knows the options of releases from {first} on; write {name}@{first}"
        )
    return engine(word)


def _sorted(releases: Mapping[str, object], location: str) -> list[str]:
    """Return the releases of a file, the oldest first."""
    known = [str(r) for r in releases]
    if not known or not all(re.fullmatch(RELEASE, r, re.ASCII) for r in known):
        raise SpecError(
            f"{location}: releases: expected entries such as '0.19', got {shown(', '.join(known)) if known else 'none'}"
        )
    return sorted(known, key=_number)


def _newer(wanted: str, newest: str) -> bool:
    """Return whether a release is newer than the newest described; a later patch of it is not."""
    return _number(wanted)[:2] > _number(newest)[:2]


def _in_force(wanted: str, known: list[str], name: str) -> str:
    """Return the release whose rules hold for the one wanted; raise UnknownName, SpecError."""
    if not re.fullmatch(rf"{RELEASE}(\.?[^\d.].*)?", wanted, re.ASCII):
        raise UnknownName("release", wanted, known, f"write {name}@{known[-1]}", f"engine {name}")
    older = [r for r in known if _number(r) <= _number(wanted)]
    if not older:
        raise SpecError(
            f"engine {name}@{wanted}: kvplan knows the memory rules of releases from {known[0]} on; "
            f"write {name}@{known[0]}"
        )
    return older[-1]


def _tables(part: Mapping[str, Any], location: str) -> dict[str, Any]:
    """Return the figures of a file that are tables."""
    values: dict[str, Any] = {}
    if "first_step" in part:
        values["first_step"] = tuple(listed(part["first_step"], f"{location}: first_step", "[a100-80gb-sxm]"))
    for name in (name for name in LISTS if name in part):
        raw = part[name]["value"] if isinstance(part[name], Mapping) and "value" in part[name] else part[name]
        values[name] = tuple(map(str, listed(raw, f"{location}: {name}", "[llama, qwen]")))
    if "steps" in part:
        values["steps"] = tuple(
            _step(s, f"{location}: steps") for s in listed(part["steps"], f"{location}: steps", STEPS, 1)
        )
    if "second_runner" in part:
        values["second_runner"] = _runner(part["second_runner"], f"{location}: second_runner")
    if "reserve" in part:
        raw = required(part["reserve"], RESERVE, RESERVE, f"{location}: reserve")
        values["reserve"] = Reserve(
            **{k: number(v, f"{location}: reserve: {k}", ValueRange(0.0, POSITIVE.most), "B") for k, v in raw.items()}
        )
    if "vision" in part:
        raw = required(part["vision"], (*VISION, "source"), VISION, f"{location}: vision")
        values["vision"] = TowerShare(
            **{k: number(raw[k], f"{location}: vision: {k}", ValueRange(0.0, POSITIVE.most)) for k in VISION}
        )
    for name in (name for name in ("runtime", "plain_runtime") if name in part):
        values[name] = {
            count(gpus, f"{location}: {name}", ValueRange(1, MOST_GPUS)): number(
                amount, f"{location}: {name}: {gpus}", ValueRange(0.0, POSITIVE.most), "B"
            )
            for gpus, amount in mapping(part[name], f"{location}: {name}", RUNTIME).items()
        }
    return values


def _runner(raw: object, location: str) -> Runner:
    """Return a release's second model runner; raise SpecError."""
    part = dict(mapping(raw, location, RUNNER))
    models, serves = part.pop("models", []), one_of(part.pop("serves", SERVES[0]), f"{location}: serves", SERVES)
    lacks = [one_of(name, f"{location}: lacks", LACKS) for name in listed(part.pop("lacks", []), location, "[graphs]")]
    rules, _ = figures(part, UNITS, location, "engine")
    rules |= {figure: 0 for name in lacks for figure in LACKS[name]}
    return Runner(models=tuple(map(str, listed(models, f"{location}: models", "[qwen3]"))), serves=serves, rules=rules)


def _step(raw: object, location: str) -> StepSize:
    figures = required(raw, ("memory", *SIZES, "graph", "wide_graph"), SIZES, location)
    sizes = {k: count(figures[k], f"{location}: {k}", ValueRange(1, 1e9)) for k in figures if k != "memory"}
    graph = sizes.get("graph", 512)
    return StepSize(
        memory=number(figures.get("memory", "0 B"), f"{location}: memory", ValueRange(0.0, POSITIVE.most), "B"),
        sequences=sizes["max_num_seqs"],
        tokens=sizes["max_num_batched_tokens"],
        graph=graph,
        wide_graph=sizes.get("wide_graph", graph),
    )
