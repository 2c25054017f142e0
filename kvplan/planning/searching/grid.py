"""Configurations side by side as arrays of (configuration, load): their operators, worked out once for all GPUs.

What a pass takes is a sum over operators, most of which do not depend on the technique: the rest of a pass is worked
out once for each weight format and replica shape, the attention once for each technique and replica shape, and every
configuration adds up its two parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import weights
from kvplan.perf.amounts import Amount
from kvplan.perf.arrays import alike_rows
from kvplan.perf.operators import Operator
from kvplan.perf.prompts import (
    PromptClass,
    PromptPasses,
    PromptSteps,
    decode_attention,
    halfway,
    over_lengths,
    prompt_attention,
    prompt_passes,
)
from kvplan.perf.stacks import SharedOperators, stack
from kvplan.perf.step_time import whole_step
from kvplan.planning.demand import Demand
from kvplan.planning.prompts import prompt_classes
from kvplan.planning.replica import LOADS
from kvplan.planning.searching.configurations import Configuration, Pair
from kvplan.planning.searching.drafting import GridRow, SpeculativeSteps, speculative_steps
from kvplan.planning.site import Site
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine

Array = Any


@dataclass(frozen=True, kw_only=True)
class AlikePrompts:
    """Configurations to which the prompts fall into the same classes: their rows in the grid, and operators.

    The passes of an engine leave out the attention: they are shared by all techniques of a format and a replica shape.
    """

    rows: Array  #: of the grid
    classes: tuple[PromptClass, ...]  #: prompts of like length, and their shares
    #: whether they share prefixes
    shared: bool
    sizes: tuple[float, ...]  #: tokens of prompts in a step, as `PromptSteps` has them [token]
    decode: SharedOperators  #: a step without prompts
    mixed: tuple[SharedOperators, ...]  #: by size, beside the requests that decode
    alone: tuple[SharedOperators, ...]  #: by size, by themselves
    attention: SharedOperators  #: of the requests that decode
    idle: SharedOperators  #: of none: what the attention of a step of prompts alone launches
    prompts: tuple[SharedOperators, ...]  #: attention of a whole prompt, by class
    drafting: tuple[SpeculativeSteps, ...] = ()  #: steps of the rows that decode speculatively

    def steps(self, c: Calibration, batch: Array) -> PromptSteps:
        """Return the times of the configurations' steps on a GPU, as `prompt_steps` has them of one. [s]"""

        def step(engine: SharedOperators, attention: SharedOperators, sequences: Any, prompts: bool) -> Array:
            device = engine.device(c, prompts) + attention.device(c, prompts)
            return whole_step(device, engine.host(c) + attention.host(c), c, sequences)

        decode = step(self.decode, self.attention, batch, False)
        saved = decode - decode / self.accepted(c, batch, decode)
        attention, bent = over_lengths(self.classes, [part.device(c, True) for part in self.prompts])
        return PromptSteps(
            sizes=self.sizes,
            decode=decode - saved,
            mixed=tuple(step(part, self.attention, batch, True) - saved for part in self.mixed),
            alone=tuple(step(part, self.idle, 0.0, True) for part in self.alone),
            attention=attention,
            squares=bent,
        )

    def accepted(self, c: Calibration, batch: Array, decode: Array) -> Amount:
        """Return the steps that speculative decoding saves, as a factor; `decode` are steps without it [s]."""
        if not self.drafting:
            return c.accepted
        factors = np.full(decode.shape, float(c.accepted))
        for part in self.drafting:
            factors[part.rows] = part.gain(c, batch[part.rows], decode[part.rows])
        return factors


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
    def of_pair(self) -> dict[Pair, Array]:
        """Which configurations, as a column, are of each technique and weight format."""
        pairs = [s.pair for s in self.configurations]
        return {pair: np.array([one == pair for one in pairs])[:, None] for pair in set(pairs)}

    @cached_property
    def drafting(self) -> Array:
        """Which configurations decode speculatively."""
        return np.array([s.drafts for s in self.configurations])

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
    some, base = [GridRow(shapes[i], batch[i]) for i in rows], demand.base

    def engine(r: GridRow) -> PromptPasses:
        bare = KVLayout(groups=(), parameters=r.shape.layout.parameters)
        return prompt_passes(
            demand.model, base, bare, weights(demand.model, r.shape.form), r.shape.parallel, batch=r.batch,
            classes=classes, output=demand.output, chunk=chunk, attention=tuple([] for _ in classes),
        )  # fmt: skip

    def attention(r: GridRow) -> tuple[list[Operator], list[Operator]]:
        at = (base, r.shape.layout, r.shape.parallel.tensor, classes, demand.output)
        return decode_attention(*at, r.batch), decode_attention(*at, 0.0)

    def prompt(r: GridRow) -> tuple[list[Operator], ...]:
        return prompt_attention(base, r.shape.layout, r.shape.parallel.tensor, classes)

    def side_by_side(row: Array, lists: Sequence[Sequence[list[Operator]]]) -> tuple[SharedOperators, ...]:
        loads = batch.shape[1]
        return tuple(SharedOperators(row=row, operators=stack(each, loads)) for each in zip(*lists, strict=True))

    at, passes = alike_rows(some, lambda r: (r.shape.form, r.shape.parallel, r.shape.layout.parameters), engine)
    own = side_by_side(*alike_rows(some, lambda r: (r.shape.technique, r.shape.parallel), attention))
    whole = alike_rows(some, lambda r: (r.shape.layout.prefill_flops, r.shape.parallel.tensor), prompt)
    return AlikePrompts(
        rows=rows, classes=classes, shared=shared, sizes=passes[0].sizes,
        decode=side_by_side(at, [[p.decode] for p in passes])[0], mixed=side_by_side(at, [p.mixed for p in passes]),
        alone=side_by_side(at, [p.alone for p in passes]), attention=own[0], idle=own[1],
        prompts=side_by_side(*whole), drafting=speculative_steps(demand, some, halfway(classes, demand.output)),
    )  # fmt: skip


def most_requests(engine: Engine, sites: Sequence[Site]) -> int:
    """Return the most requests an engine runs at once on any of the GPUs."""
    return max((engine.limits(site.gpu)[0] for site in sites), default=1)


@dataclass(frozen=True, kw_only=True)
class Between:
    """Steps at any batch, on straight lines between those of the grid's loads."""

    steps: PromptSteps  #: those of the grid's loads
    row: Array  #: of each candidate, its row in `steps`
    loads: Array  #: requests in flight on one replica, as the columns of `steps`
    ranks: Array  #: of each candidate, the attention-data-parallel ranks that share them

    @cached_property
    def start(self) -> Array:
        """Where each candidate's row begins in the flattened steps."""
        return self.row * len(self.loads)

    @cached_property
    def fixed(self) -> tuple[tuple[Array, ...], ...]:
        """What no batch changes: prompts by themselves, their attention, and what of it grows as the square. [s]"""
        s = self.steps
        return tuple(tuple(map(self.lone, times)) for times in (s.alone, s.attention, s.squares))

    def lone(self, times: Array) -> Array:
        """Return times of one column, or of none, for each candidate."""
        return times[self.row, 0] if np.ndim(times) else times

    def taken(self, which: Array) -> "Between":
        """Return the steps of some candidates."""
        return replace(self, row=self.row[which], ranks=self.ranks[which])

    def mid(self, batch: Array) -> Callable[[Array], Array]:
        """Return what takes a time at a batch of each candidate from those of all loads."""
        last = len(self.loads) - 1
        if not last:
            return self.lone
        lower = np.minimum(np.maximum(np.searchsorted(self.loads, batch * self.ranks), 1), last) - 1
        low, high = (np.maximum(self.loads[k] / self.ranks, 1.0) for k in (lower, lower + 1))
        part, first = (batch - low) / np.where(high > low, high - low, 1.0), self.start + lower

        def mid(times: Array) -> Array:
            if np.ndim(times) == 0 or times.shape[1] == 1:
                return self.lone(times)
            flat = times.ravel()
            return (1 - part) * flat[first] + part * flat[first + 1]

        return mid

    def decode(self, batch: Array, which: Array | None = None) -> Array:
        """Return the time of a decode step at a batch of each candidate, or of which of them. [s]"""
        some = self if which is None else self.taken(which)
        return some.mid(np.maximum(batch, 1.0))(self.steps.decode)

    def at(self, batch: Array) -> PromptSteps:
        """Return the steps at a batch of each candidate."""
        mid = self.mid(batch)
        alone, attention, bent = self.fixed
        s = self.steps
        return PromptSteps(
            sizes=s.sizes, decode=mid(s.decode), mixed=tuple(map(mid, s.mixed)), alone=alone, attention=attention,
            squares=bent,
        )  # fmt: skip
