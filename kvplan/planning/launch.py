"""The command that starts a plan's servers, with the options that the engine's release knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from shlex import split
from typing import Any

from kvplan.kv import spelling
from kvplan.kv.budget import Deployment, memory_budget
from kvplan.kv.tiers import TIERS
from kvplan.planning.demand import Demand
from kvplan.planning.fitting import LONGEST
from kvplan.planning.plan import Plan
from kvplan.planning.site import Site
from kvplan.specs.launch import LaunchOptions
from kvplan.specs.model import ModelSpec
from kvplan.units import GIB

#: what offloading keeps prefixes in, and the unit of engines that are told a rank's part of it [B]
HOST, HOST_GB = TIERS["cpu"], 1e9
#: where models' configs are read; what stands between it and the second mark is the checkpoint's name
HUB, BLOB = "https://huggingface.co/", "/blob/"
#: the options file, where an engine takes some of its options from one
FILE = "options.yaml"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How one replica of a plan is started; `missing` says what the engine cannot be told, or must be given besides."""

    argv: tuple[str, ...]  #: the command and its options
    file: Mapping[str, Any]  #: what FILE holds, nothing where none is needed
    missing: tuple[str, ...]  #: in sentences without their full stop
    replicas: int  #: how many are started, spares included


def launch(demand: Demand, plan: Plan, site: Site) -> Launch | None:
    """Return how a plan's replicas are started, None where kvplan does not know the engine's options."""
    known = demand.engine.launch
    if known is None:
        return None
    length, cut = longest(demand, plan, site)
    told = places(demand, plan, site, length)
    lines = [line.format(**told) for each in options(known, demand, plan) for line in each.split("; ") if line]
    argv = [word for line in lines if line.startswith("-") for word in split(line)]
    file: dict[str, Any] = {}
    for line in (line for line in lines if not line.startswith("-")):
        written(file, line)
    if file:
        argv += [*split(known.file), FILE]
    command = split(known.command.format(model=checkpoint(demand.model)))
    return Launch(
        argv=(*command, *argv), file=file, missing=(*absent(known, demand, plan), *cut), replicas=plan.replicas
    )  # fmt: skip


def options(known: LaunchOptions, demand: Demand, plan: Plan) -> Iterator[str]:
    """Yield the templates of a plan's options."""
    p = plan.parallel
    yield known.data if p.data > 1 else known.tensor
    yield known.pipeline if p.pipeline > 1 else ""
    yield known.expert if p.expert_ranks > 1 and any(w.split == "expert" for _, w in demand.model.weights()) else ""
    yield from (known.length, known.sequences, known.chunk)
    yield known.share if demand.engine.utilization is not None else ""
    yield from (known.weights.get(plan.form or "", ""), *(known.techniques.get(t, "") for t in parts(plan)))
    yield known.prefixes if plan.cached_share else known.no_prefixes
    yield known.always


def parts(plan: Plan) -> list[str]:
    """Return the parts of a plan's technique, none of the baseline."""
    return [] if plan.technique == spelling.BASELINE else plan.technique.split("+")


def places(demand: Demand, plan: Plan, site: Site, length: int) -> dict[str, object]:
    """Return what templates may name."""
    p, (sequences, chunk) = plan.parallel, demand.engine.limits(site.gpu)
    return {
        "tensor": p.tensor, "pipeline": p.pipeline, "data": p.data, "ranks": p.tensor * p.data,
        "expert": p.expert_ranks, "tokens": length, "sequences": sequences, "chunk": chunk,
        "share": demand.engine.utilization,
        "host": int(HOST.room * p.gpus / GIB), "host_rank": int(HOST.room / HOST_GB),
    }  # fmt: skip


def checkpoint(model: ModelSpec) -> str:
    """Return the name under which the model's config was read, its own where that was elsewhere."""
    ref = model.source.ref
    return ref.removeprefix(HUB).partition(BLOB)[0] if ref.startswith(HUB) and BLOB in ref else model.name


def longest(demand: Demand, plan: Plan, site: Site) -> tuple[int, list[str]]:
    """Return the longest request a replica is started for [token], and what is refused where memory holds no longer.

    An engine does not start when its cache cannot hold one request of that length.
    """
    lengths = demand.workload.input, demand.workload.output
    whole, usual = (int(sum(x.quantile(q) for x in lengths)) for q in (1.0, LONGEST))
    where = Deployment(
        engine=demand.engine, gpu=site.gpu, parallel=plan.parallel, weights=plan.form, compacts=True
    )  # fmt: skip
    layout = spelling.apply(plan.technique, demand.base).with_prompt(int(lengths[0].quantile(1.0)))
    limit = demand.model.max_context
    within = limit is None or whole <= limit
    if within and memory_budget(demand.model, layout, where, whole).sequences(whole, 0.0):
        return whole, []
    return usual, [f"requests of more than {usual:,} tokens, one in a hundred, are refused"]


def absent(known: LaunchOptions, demand: Demand, plan: Plan) -> Iterator[str]:
    """Yield what the engine cannot be told, or must be given besides."""
    title = demand.engine.title
    for part in parts(plan):
        if part not in known.techniques:
            yield f"{title} has no option for {part}: it cannot be started with it as it is"
    if plan.form and plan.form not in known.weights:
        yield f"the command needs a checkpoint with {plan.form} weights in place of {checkpoint(demand.model)}"


def written(file: dict[str, Any], line: str) -> None:
    """Add a line such as 'kv_cache_config.dtype: fp8' to the options file."""
    path, _, value = line.partition(": ")
    *outer, last = path.split(".")
    reduce(lambda inner, name: inner.setdefault(name, {}), outer, file)[last] = plain(value)


def plain(value: str) -> object:
    """Return a value as YAML has it: true and false, else the word."""
    return {"true": True, "false": False}.get(value, value)
