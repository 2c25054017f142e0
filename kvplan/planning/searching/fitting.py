"""What fits: how many requests a replica of each configuration holds on each GPU, and which GPU may run its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kvplan.architectures.formats import FORMATS
from kvplan.kv import spelling
from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment, Draft
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel
from kvplan.planning.demand import Demand
from kvplan.planning.replica import NODE
from kvplan.planning.searching.configurations import Configuration
from kvplan.specs.hardware import Gpu

Array = Any
#: a quantile of prompts that a single sequence must fit at
LONGEST = 0.99


@dataclass(frozen=True, kw_only=True)
class RequestPages:
    """What one request takes of a GPU's cache."""

    blocks: int  #: block ids it pins
    block_bytes: float  #: of one of them [B]
    peak: float  #: to keep free beside for the prompt being read [B]


def rooms(demand: Demand, shapes: Sequence[Configuration], gpus: Sequence[Gpu]) -> list[Array]:
    """Return, for each GPU, the mean requests a replica of each shape holds, as a column; 0 where long ones do not fit.

    Room for caches depends on weights, parallelism and GPU, what a request pins on technique, tensor parallelism and
    the engine's chunk: each is worked out once for all shapes that share it.
    """
    layouts = {(s.technique, s.drafts): s.held.with_prompt(demand.prompt) for s in shapes}
    drafting = next(iter(demand.drafting), None)  # all draft with the same: they differ in how far ahead
    mean = max(2, int(demand.prompt + demand.output))
    prompt, output = demand.workload.input.quantile(LONGEST), demand.workload.output.quantile(LONGEST)

    @cache
    def free(form: str | None, parallel: Parallel, parameters: float, drafts: bool, gpu: Gpu) -> float:
        draft = drafting.written_in(form) if drafting and drafts else None
        deployment = Deployment(engine=demand.engine, gpu=gpu, parallel=parallel, weights=form, draft=draft)
        return memory_budget(demand.model, KVLayout(groups=(), parameters=parameters), deployment, mean).kv_cache

    @cache
    def pages(
        kept: tuple[str, bool],
        tensor: int,
        limits: tuple[int, int],
        draft: Draft | None,
        longest: bool,
        gpu: Gpu | None,
    ) -> RequestPages:
        layout = layouts[kept].with_prompt(int(prompt)) if longest else layouts[kept]
        return pages_of(demand, layout, tensor, limits, int(prompt + output) if longest else mean, draft, gpu)

    stateful = {kept for kept, layout in layouts.items() if any(g.constant for g in layout.groups)}

    def ahead(s: Configuration) -> Draft | None:
        """Return what drafts where it matters to the pages: each drafted token takes pages of recurrent states."""
        return s.drafting.draft if s.drafting and (s.technique, s.drafts) in stateful else None

    def room(gpu: Gpu) -> Array:
        limits = demand.engine.limits(gpu)
        small = [shape.parallel.gpus <= min(gpu.gpus_per_node, NODE) for shape in shapes]
        bytes_free = np.array([free(s.form, s.parallel, s.layout.parameters, s.drafts, gpu) for s in shapes], float)
        ranks = np.array([s.parallel.data for s in shapes], float)
        longest, usual = (
            sequences(
                bytes_free,
                [
                    pages(
                        (s.technique, s.drafts),
                        s.parallel.tensor,
                        limits,
                        ahead(s),
                        long,
                        gpu if (s.technique, s.drafts) in stateful else None,  # it matters to the pages of states alone
                    )
                    for s in shapes
                ],
            )
            for long in (True, False)
        )
        return np.where(np.array(small, bool) & (longest > 0), usual * ranks, 0.0)[:, None]

    return [room(gpu) for gpu in gpus]


def pages_of(
    demand: Demand,
    layout: KVLayout,
    tensor: int,
    limits: tuple[int, int],
    length: int,
    draft: Draft | None = None,
    gpu: Gpu | None = None,
) -> RequestPages:
    """Return what a request of `length` tokens pins on a GPU; `limits` are sequences and tokens of an engine step."""
    most, chunk = limits[0], demand.engine.uncut(limits[1], length)
    deployment = Deployment(
        engine=demand.engine, gpu=gpu, parallel=Parallel(tensor=tensor), compacts=True, max_num_seqs=most,
        max_num_batched_tokens=chunk, draft=draft, prefix_caching=demand.prefix_cache or None,
    )  # fmt: skip
    pages = deployment.serving(demand.model, length).pages(layout.settled(length))
    peak = (layout.peak(length, chunk) - layout.stored(length)) / tensor
    return RequestPages(blocks=pages.blocks(length), block_bytes=pages.block_bytes, peak=peak)


def sequences(free: Array, each: Sequence[RequestPages]) -> Array:
    """Return how many requests each row's free bytes hold, as `Paging.sequences` counts them."""
    blocks, block_bytes, peak = (
        np.array([getattr(p, f) for p in each], float) for f in ("blocks", "block_bytes", "peak")
    )
    takes = (blocks > 0) & (block_bytes > 0)
    ids = np.maximum(free - peak, 0.0) // np.where(takes, block_bytes, 1.0)
    return np.where(takes, ids // np.where(takes, blocks, 1.0), 0.0)


def run_by(demand: Demand, shapes: Sequence[Configuration], gpu: Gpu) -> Array:
    """Return which shapes, as a column, have weights and a cache that a GPU may be planned with."""
    able = {s.technique: not spelling.runs_on(s.technique, gpu) for s in shapes}
    weights_run = (not (demand.native and s.form) or FORMATS[s.form].native(gpu) for s in shapes)
    return np.array([runs and able[s.technique] for runs, s in zip(weights_run, shapes, strict=True)], bool)[:, None]
