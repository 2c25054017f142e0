"""The command that starts a plan's servers, with the options that the engine's release knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, inf
from shlex import split
from typing import Any

from kvplan.architectures.formats import format_named
from kvplan.kv import spelling
from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.tiers import RESERVE, TIERS
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan
from kvplan.planning.searching.fitting import LONGEST
from kvplan.planning.site import Site
from kvplan.specs.hardware import Engine
from kvplan.specs.launch import LaunchOptions
from kvplan.specs.model import ModelSpec
from kvplan.units import GIB, show_percent

#: what offloading keeps prefixes in, and the unit of engines that are told a rank's part of it [B]
HOST, HOST_GB = TIERS["cpu"], 1e9
#: how a technique that uses it is written
OFFLOADED = f"offload:{HOST.name}"
#: where models' configs are read; what stands between it and the second mark is the checkpoint's name
HUB, BLOB = "https://huggingface.co/", "/blob/"
#: the options file, where an engine takes some of its options from one
FILE = "options.yaml"
#: what stands for a head that the reader has to choose
HEAD = "EAGLE3-HEAD"
#: tokens left for what a server adds to a prompt and no workload counts: one that begins it, and a chat template, which
#: may hold a system message of its own. An assumption: twice the some 60 of a template that dates its system message
MARGIN = 128


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a server must be told to be one replica of a plan, whatever the engine."""

    engine: str  #: that the plan was made for
    release: str  #: first release whose rules were used
    model: str  #: name of the checkpoint, or its path
    gpu: str  #: name of the GPU
    vendor: str  #: who makes it
    gpus_per_node: int  #: GPUs of a server
    technique: str  #: on the cache
    weights: str | None  #: format, None for the checkpoint's own
    tensor: int  #: GPUs that divide matrices
    pipeline: int  #: stages of layers
    data: int  #: ranks that attend to different sequences
    expert: int  #: GPUs that hold different experts, 1 without any
    tokens: int  #: longest request, MARGIN included [token]
    refuses: bool  #: whether the longest requests are longer
    sequences: int  #: most in a step
    chunk: int  #: most tokens in a step [token]
    share: float | None  #: of the GPU's memory, None for the engine's own
    prefixes: bool  #: whether prefixes are cached
    draft: str  #: what drafts: '', mtp, eagle3 or model
    draft_model: str  #: checkpoint that drafts, '' where none does
    drafted: int  #: tokens drafted a step [token]
    replicas: int  #: that are started, spares included
    latent: bool = False  #: whether the model's cache is a latent (MLA)
    converts: bool = True  #: whether the checkpoint has other weights than the format
    host_room: float = HOST.room  #: host memory that may keep prefixes, a GPU's part [B]
    host_stated: bool = False  #: whether that follows from the host memory that the GPU's price states

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tensor * self.pipeline * self.data

    @property
    def nodes(self) -> int:
        """Servers that the replica takes."""
        return ceil(self.gpus / self.gpus_per_node)

    @property
    def parts(self) -> list[str]:
        """The parts of the technique, none of the baseline."""
        return [] if self.technique == spelling.BASELINE else self.technique.split("+")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How one replica of a plan is started; `missing` says what the engine cannot be told, or must be given besides."""

    argv: tuple[str, ...]  #: the command and its options
    file: Mapping[str, Any]  #: what FILE holds, nothing where none is needed
    missing: tuple[str, ...]  #: in sentences without their full stop
    replicas: int  #: how many are started, spares included


def launch(engine: Engine, n: Needs) -> Launch | None:
    """Return how a plan's replicas are started, None where kvplan does not know the engine's options."""
    return None if engine.launch is None else command(usable(engine.launch, engine, n), engine.title, n)


def usable(known: LaunchOptions, engine: Engine, n: Needs) -> LaunchOptions:
    """Return the options of an engine without the cache formats that it refuses on the model's cache."""
    refused = spelling.refused_on_latents(n.technique, engine) if n.latent else ()
    return replace(known, techniques={part: line for part, line in known.techniques.items() if part not in refused})


def needs(demand: Demand, plan: Plan, site: Site) -> Needs:
    """Return what a plan asks of a server: a step takes as many tokens of prompts as the plan's times count with."""
    p, (sequences, _), drafts = plan.parallel, demand.engine.limits(site.gpu), plan.drafting
    chunk = int(site.calibration.chunk) * (p.data if demand.engine.divided_step else 1)
    length, refuses = longest(demand, plan, site)
    host = site.tier(HOST.name) or HOST
    experts = any(w.split == "expert" for _, w in demand.model.weights())
    return Needs(
        engine=demand.engine.name, release=demand.engine.release, model=checkpoint(demand.model),
        gpu=site.gpu.name, vendor=site.gpu.vendor, gpus_per_node=site.gpu.gpus_per_node,
        technique=plan.technique, weights=plan.form, tensor=p.tensor, pipeline=p.pipeline, data=p.data,
        expert=p.expert_ranks if experts else 1, tokens=length, refuses=refuses, sequences=sequences, chunk=chunk,
        share=demand.engine.utilization, prefixes=plan.cached_share > 0, replicas=plan.replicas,
        draft=drafts.draft.kind if drafts else "",
        draft_model=checkpoint(drafts.draft.model) if drafts and drafts.draft.kind == "model" else "",
        drafted=drafts.drafted if drafts else 0, latent=demand.base.latent, converts=converts(plan.form, demand.model),
        host_room=host.room, host_stated=host.stated,
    )  # fmt: skip


def converts(form: str | None, model: ModelSpec) -> bool:
    """Return whether a checkpoint has to be converted to have its weights in a format."""
    own = None if model.quantization else format_named(model.dtype)
    return form is not None and (own is None or own.name != form)


def command(known: LaunchOptions, title: str, n: Needs, **placed: object) -> Launch:
    """Return the command of one server; `placed` say where it listens, and where the other nodes are."""
    placeholders = {**places(n), **placed}
    lines = [line for each in options(known, n, placed) for line in each.split("; ") if line]
    argv = [word.format(**placeholders) for line in lines if line.startswith("-") for word in split(line)]
    file: dict[str, Any] = {}
    for line in (line for line in lines if not line.startswith("-")):
        written(file, line, placeholders)
    if file:
        argv += [*split(known.file), FILE]
    begun = [word.format(**placeholders) for word in split(known.command)]
    missing = tuple(absent(known, title, n))
    return Launch(argv=(*begun, *argv), file=file, missing=missing, replicas=n.replicas)


def options(known: LaunchOptions, n: Needs, placed: Mapping[str, object]) -> Iterator[str]:
    """Yield the templates of a plan's options."""
    yield known.data if n.data > 1 else known.tensor
    yield known.pipeline if n.pipeline > 1 else ""
    yield known.expert if n.expert > 1 else ""
    yield from (known.length, known.sequences, known.chunk)
    yield known.share if n.share is not None else ""
    yield from (known.weights.get(n.weights or "", ""), *(known.techniques.get(t, "") for t in n.parts))
    yield known.drafts.get(n.draft, "")
    yield known.prefixes if n.prefixes else known.no_prefixes
    yield known.always
    yield known.address if "port" in placed else ""
    yield known.nodes if "nodes" in placed else ""
    yield known.follower if placed.get("follows") else ""


def places(n: Needs) -> dict[str, object]:
    """Return what templates may name."""
    return {
        "model": n.model, "tensor": n.tensor, "pipeline": n.pipeline, "data": n.data, "ranks": n.tensor * n.data,
        "expert": n.expert, "tokens": n.tokens, "sequences": n.sequences, "chunk": n.chunk, "share": n.share,
        "host": int(n.host_room * n.gpus / GIB), "host_rank": int(n.host_room / HOST_GB),
        "host_bytes": int(n.host_room), "draft": n.draft_model or HEAD, "drafted": n.drafted, "verified": n.drafted + 1,
    }  # fmt: skip


def adapted(n: Needs, engine: Engine, limits: tuple[int, int]) -> Needs:
    """Return what a plan asks of a server of another engine or release, which takes steps of its own size."""
    sequences, chunk = limits
    return Needs(**{**vars(n), "sequences": sequences, "chunk": chunk, "share": engine.utilization})


def checkpoint(model: ModelSpec) -> str:
    """Return the name under which the model's config was read, its own where that was elsewhere."""
    ref = model.source.ref
    return ref.removeprefix(HUB).partition(BLOB)[0] if ref.startswith(HUB) and BLOB in ref else model.name


def longest(demand: Demand, plan: Plan, site: Site) -> tuple[int, bool]:
    """Return the longest request a replica is started for [token], and whether longer ones are refused.

    It is the workload's longest prompt and answer and MARGIN, within the model's context. An engine does not start when
    its cache cannot hold one request of that length: then it is the usual one, MARGIN left out where that is too much.
    """
    lengths = demand.workload.input, demand.workload.output
    most = demand.model.max_context or inf
    whole, bare = (int(sum(x.quantile(q) for x in lengths)) for q in (1.0, LONGEST))
    whole, usual = (max(n, int(min(n + MARGIN, most))) for n in (whole, bare))
    where = Deployment(
        engine=demand.engine, gpu=site.gpu, parallel=plan.parallel, weights=plan.form, compacts=True
    )  # fmt: skip
    layout = spelling.apply(plan.technique, demand.base).with_prompt(int(lengths[0].quantile(1.0)))
    able = int(min(whole, most))

    def held(length: int) -> bool:
        return memory_budget(demand.model, layout, where, length).sequences(length, 0.0) > 0

    if able < usual or not held(able):
        return (usual if held(usual) else bare), True
    return able, able < whole


def absent(known: LaunchOptions, title: str, n: Needs) -> Iterator[str]:
    """Yield what the engine cannot be told, or must be given besides."""
    for part in n.parts:
        if part not in known.techniques:
            where = " on a latent (MLA) cache" if n.latent else ""
            yield f"this release of {title} has no option for {part}{where}: it cannot be started with it as it is"
    if OFFLOADED in n.parts:
        size = f"{int(n.host_room * n.gpus / GIB):,} GiB"
        if n.host_stated:
            rests = f"{show_percent(1 - RESERVE)} of what the price of {n.gpu} states: the rest is the system's"
        else:
            rests = f"an assumption: offers of {n.gpu} do not say what they have, so ask for one with so much to spare"
        yield f"each replica keeps {size} of prefixes in host memory, {rests}"
    if n.weights and n.converts and n.weights not in known.weights:
        yield f"the command needs a checkpoint with {n.weights} weights in place of {n.model}"
    elif "/" not in n.model:
        yield f"the command needs the checkpoint's name on the hub, or its folder, in place of {n.model}"
    if n.draft and n.draft not in known.drafts:
        yield f"this release of {title} has no option for speculative decoding by {n.draft}: it decodes without"
    elif n.draft == "eagle3":
        yield f"the command needs the name of an EAGLE-3 head of {n.model} in place of {HEAD}"
    if n.refuses:
        yield f"requests of more than {n.tokens:,} tokens, at most one in a hundred, are refused"


def written(file: dict[str, Any], line: str, placeholders: Mapping[str, object]) -> None:
    """Add a line such as 'kv_cache_config.dtype: fp8' to the options file."""
    path, _, value = line.partition(": ")
    *outer, last = path.split(".")
    reduce(lambda inner, name: inner.setdefault(name, {}), outer, file)[last] = plain(value, placeholders)


def plain(value: str, placeholders: Mapping[str, object]) -> object:
    """Return a value as YAML has it: true and false, what a plan has where it is that alone, else the words."""
    alone = value.removeprefix("{").removesuffix("}")
    if alone in placeholders and value == f"{{{alone}}}":
        return placeholders[alone]
    return {"true": True, "false": False}.get(value, value.format(**placeholders))
