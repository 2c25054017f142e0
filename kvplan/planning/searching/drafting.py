"""Steps of a search's configurations that decode speculatively: how many plain steps each of them stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import weights
from kvplan.perf.arrays import alike_rows
from kvplan.perf.operators import Operator, attended_at, attention, forward
from kvplan.perf.stacks import SharedOperators, stack
from kvplan.perf.step_time import overlapped, whole_step
from kvplan.planning.demand import Demand
from kvplan.planning.searching.configurations import Configuration
from kvplan.planning.speculation import Drafting
from kvplan.specs.calibration import Calibration

Array = Any


class GridRow(NamedTuple):
    """A configuration and the requests of a rank at which it is worked out."""

    shape: Configuration  #: technique, weights, replica shape, drafts
    batch: Array  #: of one rank, [load]


@dataclass(frozen=True, kw_only=True)
class SpeculativeSteps:
    """Configurations that draft alike: a step verifies the drafted tokens of every request, and others draft them."""

    drafting: Drafting  #: what drafts, how many tokens, and how many a step yields
    rows: Array  #: of these configurations, among those of their prompts
    engine: SharedOperators  #: a verifying step without attention
    attention: SharedOperators  #: its attention: each cache is read once for all tokens
    draft: SharedOperators  #: one token drafted for every request

    def gain(self, c: Calibration, batch: Array, decode: Array) -> Array:
        """Return tokens a step yields, over how much longer than a plain step of `decode` seconds it takes.

        As `server.gain`, where the drafts' time is worked out: one pass after the other, none of which takes the
        engine's own time for a step.
        """
        device, host = self.engine.device(c) + self.attention.device(c), self.engine.host(c) + self.attention.host(c)
        verify = whole_step(device, host, c, batch)
        drafts = self.drafting.drafted * overlapped(self.draft.device(c), self.draft.host(c))
        return self.drafting.accepted * decode / (verify + drafts)


def speculative_steps(demand: Demand, rows: Sequence[GridRow], length: int) -> tuple[SpeculativeSteps, ...]:
    """Return the speculative steps of rows at a length of sequences; () where none drafts."""
    return tuple(
        steps_with(demand, drafting, [(i, r) for i, r in enumerate(rows) if r.shape.drafting is drafting], length)
        for drafting in demand.drafting
        if any(r.shape.drafting is drafting for r in rows)
    )


def steps_with(
    demand: Demand, drafting: Drafting, placed: Sequence[tuple[int, GridRow]], length: int
) -> SpeculativeSteps:
    """Return the speculative steps of rows that all draft in one way, each with its place among all."""
    rows, many, loads = [r for _, r in placed], 1 + drafting.drafted, placed[0][1].batch.shape[0]

    def engine(r: GridRow) -> list[Operator]:
        bare = KVLayout(groups=(), parameters=r.shape.layout.parameters)
        held = weights(demand.model, r.shape.form)
        return forward(demand.model, bare, held, r.shape.parallel, decode=many * r.batch, length=length)

    def attending(r: GridRow) -> list[Operator]:
        each = attended_at(r.shape.layout, demand.base, r.shape.parallel.tensor, length, 0)
        return [o._replace(flops=many * o.flops) for o in attention(each, r.batch, None)]

    def draft(r: GridRow) -> list[Operator]:
        model = drafting.draft.model
        held = weights(model, drafting.written_in(r.shape.form).form)
        return forward(model, drafting.layout(r.shape.technique), held, r.shape.parallel, decode=r.batch, length=length)

    def shared(at: Array, lists: list[list[Operator]]) -> SharedOperators:
        return SharedOperators(row=at, operators=stack(lists, loads))

    return SpeculativeSteps(
        drafting=drafting, rows=np.array([i for i, _ in placed]),
        engine=shared(*alike_rows(rows, lambda r: (r.shape.form, r.shape.parallel, r.shape.layout.parameters), engine)),
        attention=shared(*alike_rows(rows, lambda r: (r.shape.technique, r.shape.parallel), attending)),
        draft=shared(*alike_rows(rows, lambda r: (r.shape.technique, r.shape.form, r.shape.parallel), draft)),
    )  # fmt: skip
