"""A fleet to plan: workloads with their volumes and limits, and the GPUs that can be had."""

from dataclasses import dataclass

from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec
from kvplan.specs.workload import Lengths, Workload


@dataclass(frozen=True, kw_only=True)
class Stock:
    """A GPU type and how many can be had."""

    gpu: Gpu  #: the type
    count: int  #: GPUs that can be had
    price: float | None = None  #: per GPU, None where the day's offers are to tell it [USD/s]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A workload asked of a model, at the volume and under the limits of the file."""

    name: str  #: of the job, as the file spells it
    workload: Workload  #: with the file's volume and limits
    model: ModelSpec  #: that serves it
    quality: float | None = None  #: greatest relative loss of score, of 1; None where any goes


@dataclass(frozen=True, kw_only=True)
class FleetFile:
    """What a fleet file says."""

    name: str  #: of the file
    stocks: tuple[Stock, ...]  #: GPUs that can be had
    jobs: tuple[Job, ...]  #: workloads to serve
    buckets: int  #: parts by input length that each job's requests are cut into


@dataclass(frozen=True)
class Slice(Lengths):
    """The requests from quantile `start` to quantile `end` of a distribution. [token]"""

    whole: Lengths  #: the distribution
    start: float  #: quantile, of 1
    end: float  #: quantile, of 1

    def _at(self, q: float) -> float:
        return self.start + min(max(q, 0.0), 1.0) * (self.end - self.start)

    def quantile(self, q: float) -> float:
        """Return the length that a share `q` of the slice does not exceed. [token]"""
        return self.whole.quantile(self._at(q))

    def between(self, a: float, b: float) -> float:
        """Return the mean length from quantile a to quantile b of the slice. [token]"""
        return self.whole.between(self._at(a), self._at(b))

    def times(self, factor: float) -> "Slice":
        """Return the slice with every length multiplied."""
        return Slice(self.whole.times(factor), self.start, self.end)


def cuts(lengths: Lengths, buckets: int) -> tuple[float, ...]:
    """Return the quantiles, 0 and 1 included, that cut requests into buckets of as many tokens each."""

    def at(tokens: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * lengths.between(0.0, middle) < tokens else (low, middle)
        return high

    total = lengths.between(0.0, 1.0)
    return (0.0, *(at(total * k / buckets) for k in range(1, buckets)), 1.0)
