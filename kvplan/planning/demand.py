"""What is to be served: a workload, its rates, and the limits it must keep."""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.kv.layout import KVLayout, kv_layout
from kvplan.perf.encoder import with_images
from kvplan.planning.replica import default_kv_bits
from kvplan.planning.site import Limits
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload

Array = Any


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A workload to be served with a model, and the limits it must keep."""

    model: ModelSpec
    workload: Workload
    #: queries in the busiest hour and on average [1/s]
    peak: float
    mean: float
    limits: Limits
    engine: Engine
    #: weight formats that may be used; None is the checkpoint's own
    forms: tuple[str | None, ...] = (None,)
    #: share of load kept free beyond the peak
    headroom: float = 0.0
    #: replicas that stand in when others fail
    spares: int = 0
    prefix_cache: bool = True

    @cached_property
    def prompt(self) -> int:
        """Mean length of a prompt. [token]"""
        return max(1, round(self.workload.input.mean))

    @cached_property
    def output(self) -> float:
        """Mean length of an answer. [token]"""
        return max(1.0, self.workload.output.mean)

    @property
    def peakedness(self) -> float:
        """Variance over mean of the requests in flight: (1 + CV^2) / 2 for long service (Eckberg, ITC 10, 1983)."""
        return (1 + self.workload.arrivals.burstiness**2) / 2

    @cached_property
    def base(self) -> KVLayout:
        """KV layout without compression, in the engine's default width, and what the workload's images take."""
        return with_images(kv_layout(self.model, default_kv_bits(self.model)), self.model, self.workload)

    @property
    def fluctuation(self) -> float:
        """Requests in flight beyond the mean that are planned for, over its root; an offline load waits instead."""
        if self.workload.offline:
            return 0.0
        return float(NormalDist().inv_cdf(self.limits.percentile) * np.sqrt(self.peakedness))

    def in_flight(self, seconds: Array) -> Array:
        """Return the requests in flight that are exceeded in no more than the allowed share of the time."""
        mean = self.peak * (1 + self.headroom) * seconds
        return mean + self.fluctuation * np.sqrt(mean)
