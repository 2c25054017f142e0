"""Many end-to-end rows side by side, as the arrays that `perf` times at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvplan.measuring.serving.load import RankLoad, link_of, measured_load, mixes
from kvplan.measuring.serving.rows import OPEN, ServerRow
from kvplan.perf import stacks
from kvplan.perf.serving import Load, Passes, Served, Steps, serve, steps
from kvplan.specs.calibration import Calibration, Range
from kvplan.specs.eras import launch_of
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import calibration

#: a calibration of rows side by side states no interval
EXACT = Range(low=1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class GpuArrays:
    """The datasheet figures of many rows' GPUs; 0 stands for a format a GPU lacks."""

    bandwidth: Any  #: of memory [B/s, row]
    wide: Any  #: 16-bit matrix rate [FLOP/s, row]
    fp8: Any  #: 8-bit matrix rate [FLOP/s, row]
    fp4: Any  #: 4-bit matrix rate [FLOP/s, row]
    link: Any  #: one-way bandwidth between a replica's GPUs [B/s, row]
    joined: Any  #: GPUs that a link of their own joins [row]
    pcie: Any  #: one-way bandwidth between those that none joins [B/s, row]


@dataclass(frozen=True, kw_only=True)
class RowArrays:
    """Rows side by side, as arrays: what `perf` works on."""

    rows: tuple[ServerRow, ...]  #: the rows, in the arrays' order
    load: Load  #: the loads on a rank, every amount an array [row]
    passes: Passes  #: the operators of their steps, every amount an array [row]
    gpus: GpuArrays  #: datasheet figures of their GPUs
    mixes: Any  #: 1 where prompts share steps with decoding [row]
    launch: Any  #: host time to launch a kernel without CUDA graphs [s, row]
    medians: Any  #: whether a row states the median TTFT [row]
    host_work: Any  #: share left of the host's work for a sequence [row]
    late: Any  #: wait for a slot where more requests come than can leave [s, row]
    behind: Any  #: prompts that came before the mean one of an open loop's run [row]
    apart: Any  #: time between two of them, on one rank [s, row]
    chunk: Any  #: prompt tokens that one step takes [token, row]
    occupied: Any  #: share of a request's overhead for which the engine itself stands still [row]

    def calibrated(self, values: Mapping[str, Any]) -> Calibration:
        """Return effective rates and overheads of every row, from arrays of its terms' values. [row]"""
        exact = {"engine": "", "name": "", "tier": "", "tpot": EXACT, "ttft": EXACT, "launch": self.launch}
        return replace(calibration(values, gpu=self.gpus, mixes=self.mixes, **exact), chunk=self.chunk)

    def served(self, c: Calibration) -> Served:
        """Return every row's means under a calibration of arrays. [s, row]"""
        return serve(self.load, self.steps(c), c)

    def ttft(self, served: Served) -> Any:
        """Return TTFT as each row states it: the mean, or the median. [s, row]"""
        request = served.ttft - served.queued - served.wait - served.polled - served.own
        taken = served.prompt_seconds + self.occupied * request
        backlog = self.behind * np.maximum(taken - self.apart, 0.0)
        return np.where(self.medians, served.median, served.ttft) + np.maximum(self.late, backlog)

    def steps(self, c: Calibration) -> Steps:
        """Return the times of the five steps of every row. [s, row]"""
        return steps(self.passes, c, self.load.batch * self.host_work)


def stack(rows: Sequence[ServerRow], engine: Engine) -> tuple[RowArrays, list[RankLoad]]:
    """Return measured rows as arrays, and the load of each; an open loop has as many in flight as Little's law."""
    loads = [measured_load(row, engine) for row in rows]
    return side_by_side(rows, loads), loads


def side_by_side(rows: Sequence[ServerRow], loads: Sequence[RankLoad]) -> RowArrays:
    """Return rows with their loads as arrays."""

    def each(of: Callable[[ServerRow], Any]) -> Any:
        return np.array([of(row) for row in rows])

    load = {name: np.array([getattr(a.load, name) for a in loads], float) for name in Load.__dataclass_fields__}
    stacked = {name: stacks.stack([getattr(a.passes, name) for a in loads]) for name in Passes.__dataclass_fields__}
    figures = {
        name: np.array([getattr(r.gpu, name) or 0.0 for r in rows], float) for name in GpuArrays.__dataclass_fields__
    }
    figures["link"] = each(lambda r: link_of(r.gpu, r.parallel))
    return RowArrays(
        rows=tuple(rows),
        load=Load(**load),
        passes=Passes(**stacked),
        gpus=GpuArrays(**figures),
        mixes=each(lambda r: float(mixes(r))),
        launch=each(lambda r: launch_of(r.engine, r.version, r.gpu.architecture)),
        medians=each(lambda r: r.medians),
        host_work=each(lambda r: r.host_work),
        late=np.array([a.late for a in loads]),
        behind=each(behind),
        apart=each(lambda r: r.parallel.data / r.rate if r.rate else 0.0),
        chunk=each(lambda r: r.chunk),
        occupied=each(lambda r: r.occupied),
    )


def behind(row: ServerRow) -> float:
    """Return the prompts that came to a rank before the mean one of an open loop's run, 0 of other loads."""
    return row.requests / 2 / row.parallel.data if row.arrival == OPEN and row.rate else 0.0
