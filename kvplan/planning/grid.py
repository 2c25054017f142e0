"""Configurations side by side as arrays of (configuration, load): their operators, worked out once for all GPUs.

What a pass takes is a sum over operators, most of which do not depend on the technique: the rest of a pass is worked
out once for each weight format and replica shape, the attention once for each technique and replica shape, and every
configuration adds up its two parts.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import weights
from kvplan.perf.arrays import stack
from kvplan.perf.operators import Operator
from kvplan.perf.prompts import (
    PromptClass,
    PromptPasses,
    PromptSteps,
    attention_time,
    decode_attention,
    prompt_attention,
    prompt_passes,
)
from kvplan.perf.step_time import device_time, hosting, whole_step
from kvplan.planning.configurations import Configuration
from kvplan.planning.demand import Demand
from kvplan.planning.prompts import prompt_classes
from kvplan.planning.site import Site
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine

Array = Any
#: requests in flight on one replica that are tried: 1, 2, 3, 4, 6, 8 ... up to the engine's limit
LOADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, kw_only=True)
class SharedParts:
    """What several configurations share: operators of each different part, and which part each configuration has."""

    row: Array  #: of each configuration, the row of its part in the operators

    def spread(self, times: Any) -> Any:
        """Return times of the parts as times of the configurations."""
        return times[self.row] if np.ndim(times) else times


@dataclass(frozen=True, kw_only=True)
class EngineParts(SharedParts):
    """Passes without the attention: one for each weight format, replica shape and technique's projections."""

    passes: PromptPasses  #: operators, [part, load or 1]


@dataclass(frozen=True, kw_only=True)
class AttentionParts(SharedParts):
    """Attention of a decode step: one for each technique and replica shape."""

    decode: list[Operator]  #: of all requests that decode, [part, load]
    idle: list[Operator]  #: of none: what a step of prompts alone launches, [part, 1]


@dataclass(frozen=True, kw_only=True)
class PromptParts(SharedParts):
    """Attention of a whole prompt of each class: one for each share of it that techniques leave, and tensor size."""

    classes: tuple[list[Operator], ...]  #: operators by class, [part, 1]


@dataclass(frozen=True, kw_only=True)
class AlikePrompts:
    """Configurations to which the prompts fall into the same classes: their rows in the grid, and operators."""

    rows: Array  #: of the grid
    classes: tuple[PromptClass, ...]  #: prompts of like length, and their shares
    #: whether they share prefixes
    shared: bool
    engine: EngineParts  #: all but attention
    attention: AttentionParts  #: of sequences that decode
    prompt: PromptParts  #: of prompts

    def steps(self, c: Calibration, batch: Array) -> PromptSteps:
        """Return the times of the configurations' steps on a GPU, as `prompt_steps` has them of one. [s]"""
        engine, own, p = self.engine, self.attention, self.engine.passes

        def step(shared: list[Operator], attending: list[Operator], sequences: Any, prompts: bool) -> Array:
            device = engine.spread(device_time(shared, c, prompts)) + own.spread(device_time(attending, c, prompts))
            host = engine.spread(hosting(shared, c)) + own.spread(hosting(attending, c))
            return whole_step(device, host, c, sequences)

        decode = step(p.decode, own.decode, batch, False)
        saved = decode - decode / c.accepted
        return PromptSteps(
            sizes=p.sizes,
            decode=decode - saved,
            mixed=tuple(step(o, own.decode, batch, True) - saved for o in p.mixed),
            alone=tuple(step(o, own.idle, 0.0, True) for o in p.alone),
            attention=tuple(self.prompt.spread(attention_time(each, c)) for each in self.prompt.classes),
        )


@dataclass(frozen=True, kw_only=True)
class SearchGrid:
    """Configurations side by side: their operators and loads, as arrays of (configuration, load)."""

    configurations: tuple[Configuration, ...]  #: one a row
    groups: tuple[AlikePrompts, ...]  #: rows by the classes of their prompts
    requests: Array  #: in flight on one replica
    #: requests of one attention-data-parallel rank, at least 1
    batch: Array
    usable: Array  #: whether every rank has a request

    @cached_property
    def ranks(self) -> Array:
        """Attention-data-parallel ranks of a replica, as a column."""
        return np.array([s.parallel.data for s in self.configurations], float)[:, None]

    @cached_property
    def each(self) -> Array:
        """GPUs of a replica, as a column."""
        return np.array([s.parallel.gpus for s in self.configurations], float)[:, None]


def grid_of(demand: Demand, shapes: Sequence[Configuration], chunk: float, most: int) -> SearchGrid:
    """Return configurations as arrays over the loads one replica may carry, `most` on a rank."""
    ranks = np.array([s.parallel.data for s in shapes], float)[:, None]
    requests = np.array([[n for n in LOADS if n <= most * ranks.max()] for _ in shapes], float)
    batch = np.maximum(requests / ranks, 1.0)
    held = np.array([s.cached > 0 for s in shapes])
    rows = ((shared, np.flatnonzero(held == shared)) for shared in (True, False))
    return SearchGrid(
        configurations=tuple(shapes), requests=requests, batch=batch, usable=requests >= ranks,
        groups=tuple(alike(demand, shapes, batch, chunk, some, shared) for shared, some in rows if some.size),
    )  # fmt: skip


def alike(
    demand: Demand, shapes: Sequence[Configuration], batch: Array, chunk: float, rows: Array, shared: bool
) -> AlikePrompts:
    """Return the rows of configurations whose prompts share a prefix, or of those whose prompts do not."""
    classes = prompt_classes(demand.workload, shared)
    some, loads, base = [(shapes[i], batch[i]) for i in rows], batch.shape[1], demand.base

    def engine(shape: Configuration, batch: Array) -> PromptPasses:
        bare = KVLayout(groups=(), parameters=shape.layout.parameters)
        return prompt_passes(
            demand.model, base, bare, weights(demand.model, shape.form), shape.parallel, batch=batch, classes=classes,
            output=demand.output, chunk=chunk, attention=tuple([] for _ in classes),
        )  # fmt: skip

    def attention(shape: Configuration, batch: Array) -> tuple[list[Operator], list[Operator]]:
        at = (base, shape.layout, shape.parallel.tensor, classes, demand.output)
        return decode_attention(*at, batch), decode_attention(*at, 0.0)

    def prompt(shape: Configuration, _: Array) -> tuple[list[Operator], ...]:
        return prompt_attention(base, shape.layout, shape.parallel.tensor, classes)

    engine_row, passes = parts(some, lambda s: (s.form, s.parallel, s.layout.parameters), engine)
    own_row, attended = parts(some, lambda s: (s.technique, s.parallel), attention)
    prompt_row, whole = parts(some, lambda s: (s.layout.prefill_flops, s.parallel.tensor), prompt)

    def side_by_side(lists: Sequence[Sequence[list[Operator]]]) -> tuple[list[Operator], ...]:
        return tuple(stack(each, loads) for each in zip(*lists, strict=True))

    joined = PromptPasses(
        sizes=passes[0].sizes, decode=stack([p.decode for p in passes], loads),
        mixed=side_by_side([p.mixed for p in passes]), alone=side_by_side([p.alone for p in passes]), attention=(),
    )  # fmt: skip
    decode, idle = side_by_side(attended)
    return AlikePrompts(
        rows=rows, classes=classes, shared=shared, engine=EngineParts(row=engine_row, passes=joined),
        attention=AttentionParts(row=own_row, decode=decode, idle=idle),
        prompt=PromptParts(row=prompt_row, classes=side_by_side(whole)),
    )  # fmt: skip


def parts(
    shapes: Sequence[tuple[Configuration, Array]], key: Callable[[Configuration], Hashable],
    make: Callable[[Configuration, Array], Any],
) -> tuple[Array, list[Any]]:  # fmt: skip
    """Return which different part each configuration has, and what is made of each of them once."""
    known: dict[Hashable, int] = {}
    made: list[Any] = []
    row = []
    for shape, batch in shapes:
        at = known.setdefault(key(shape), len(made))
        if at == len(made):
            made.append(make(shape, batch))
        row.append(at)
    return np.array(row), made


def most_requests(engine: Engine, sites: Sequence[Site]) -> int:
    """Return the most requests an engine runs at once on any of the GPUs."""
    return max((engine.limits(site.gpu)[0] for site in sites), default=1)


@dataclass(frozen=True, kw_only=True)
class Between:
    """Steps at any batch, on straight lines between those of the grid's loads."""

    steps: PromptSteps  #: those of the grid's loads
    #: of each candidate, its row in `steps` and the batches that row knows
    row: Array
    batches: Array  #: the loads they stand at

    @cached_property
    def known(self) -> Array:
        """The batches of each candidate's row."""
        return self.batches[self.row]

    @cached_property
    def fixed(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """What no batch changes: prompts by themselves, and their attention. [s]"""
        return tuple(map(self.lone, self.steps.alone)), tuple(map(self.lone, self.steps.attention))

    def lone(self, times: Array) -> Array:
        """Return times of one column, or of none, for each candidate."""
        return times[self.row, 0] if np.ndim(times) else times

    def at(self, batch: Array) -> PromptSteps:
        """Return the steps at a batch of each candidate."""
        last = self.batches.shape[1] - 1
        upper = np.clip((self.known < batch[:, None]).sum(axis=1), 1, last) if last else np.zeros(len(batch), int)
        lower = np.maximum(upper - 1, 0)
        one = np.arange(len(batch))
        low, high = self.known[one, lower], self.known[one, upper]
        part = (batch - low) / np.where(high > low, high - low, 1.0)

        def mid(times: Array) -> Array:
            if np.ndim(times) == 0 or times.shape[1] == 1:
                return self.lone(times)
            return (1 - part) * times[self.row, lower] + part * times[self.row, upper]

        alone, attention = self.fixed
        s = self.steps
        return PromptSteps(
            sizes=s.sizes, decode=mid(s.decode), mixed=tuple(map(mid, s.mixed)), alone=alone, attention=attention
        )
