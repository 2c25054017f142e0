"""What is to be served: a workload, its rates, and the limits it must keep."""

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.kv.layout import KVLayout
from kvplan.kv.model_cache import kv_layout
from kvplan.perf.encoder import with_images
from kvplan.planning.replica import default_kv_bits
from kvplan.planning.site import Limits
from kvplan.planning.speculation import Drafting
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Workload

Array = Any


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A workload to be served with a model, and the limits it must keep."""

    model: ModelSpec  #: the model served
    workload: Workload  #: its requests: lengths, arrivals, images
    #: queries in the busiest hour and on average [1/s]
    peak: float
    mean: float  #: mean rate of requests [1/s]
    limits: Limits  #: what a plan must keep
    engine: Engine  #: the engine that serves it, with its memory rules
    #: weight formats that may be used; None is the checkpoint's own
    forms: tuple[str | None, ...] = (None,)
    #: whether each GPU tries only those of the formats that it runs natively
    native: bool = False
    #: share of load kept free beyond the peak
    headroom: float = 0.0
    #: replicas that stand in when others fail
    spares: int = 0
    prefix_cache: bool = True  #: whether prompts share a cached prefix
    drafting: tuple[Drafting, ...] = ()  #: ways of speculative decoding to try beside decoding without

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

    def in_flight(self, seconds: Array) -> Array:
        """Return the requests in flight that are exceeded in no more than the allowed share of the time."""
        return self.crowd(self.peak * (1 + self.headroom) * seconds)

    def crowd(self, mean: Array) -> Array:
        """Return the requests in flight that are planned for where `mean` are on average; an offline load waits.

        The variance of a renewal stream, but no more than a Poisson stream at the rate of the busiest minute: a stream
        whose gaps vary more comes at that rate or not at all.
        """
        if self.workload.offline:
            return mean
        return np.min([surge * mean + spread * np.sqrt(mean) for surge, spread in self.streams], axis=0)

    def sustained(self, flight: Array) -> Array:
        """Return the mean requests in flight for which so many are planned: `crowd` read backwards."""
        if self.workload.offline:
            return flight
        roots = [(np.sqrt(spread**2 + 4 * surge * flight) - spread) / (2 * surge) for surge, spread in self.streams]
        return np.max(roots, axis=0) ** 2

    @property
    def streams(self) -> tuple[tuple[float, float], ...]:
        """(share of the mean rate, deviation over the root of the mean) of the streams that bound the fluctuation."""
        z, minute = NormalDist().inv_cdf(self.limits.percentile), self.workload.arrivals.busiest_minute
        renewal = (1.0, float(z * np.sqrt(self.peakedness)))
        return (renewal, (minute, float(z * np.sqrt(minute)))) if minute > 1 else (renewal,)

    @property
    def waits_at(self) -> tuple[float, float]:
        """(rate over that of the busiest hour, coefficient of variation of the arrivals) for which waits are planned.

        Of the `streams` the one that varies less: the renewal stream, or a Poisson stream at the busiest minute's rate.
        """
        minute, burstiness = self.workload.arrivals.busiest_minute, self.workload.arrivals.burstiness
        return (minute, 1.0) if self.peakedness > minute > 1 else (1.0, burstiness)

    @property
    def smooth(self) -> "Demand":
        """The same load with Poisson arrivals."""
        arrivals = replace(self.workload.arrivals, burstiness=1.0)
        return replace(self, workload=replace(self.workload, arrivals=arrivals))
