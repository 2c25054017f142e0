"""What a replica comes to, as values: one technique at one context on one GPU, full and at other loads."""

from dataclasses import dataclass

from kvplan.kv.budget import Budget
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel
from kvplan.money.cost import QueryCost
from kvplan.perf.lines import LoadLines
from kvplan.perf.operators import Operator
from kvplan.perf.serving import Served
from kvplan.planning.site import Limits
from kvplan.quality.results import Quality


def interval_of(figure: float | None, spread: tuple[float, float]) -> tuple[float, float] | None:
    """Return a figure times the ends of its interval, None where it is unknown."""
    return None if figure is None else (figure * spread[0], figure * spread[1])


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One technique on one GPU; unknown figures are None."""

    technique: str  #: in its one spelling
    gpu: str  #: name of the GPU
    context: int = 0  #: tokens of one sequence [token]
    layout: KVLayout | None = None  #: what each layer keeps, None where the technique cannot act on the model
    #: most bytes a sequence ever holds, its prompt read in the engine's chunks [B]
    peak: float | None = None
    #: share of the uncompressed cache that is saved
    reduction: float | None = None
    #: the replica with the lowest cost per query
    parallel: Parallel | None = None
    #: GPUs of the smallest replica that holds a sequence
    fewest_gpus: int | None = None
    sequences: int = 0  #: sequences that fit the replica
    batch: int = 0  #: of these the ones that the engine runs at once
    ttft: float | None = None  #: mean of a full replica [s]
    tpot: float | None = None  #: mean of a full replica [s/token]
    #: output of the replica [token/s]
    tokens_per_second: float | None = None
    #: time of the replica that a query takes [s]
    query_seconds: float = 0.0
    cost: QueryCost | None = None  #: of a query, by line [USD]
    budget: Budget | None = None  #: how a GPU's memory is divided
    served: Served | None = None  #: times of the replica in steady state
    decode: tuple[Operator, ...] = ()  #: operators of a decode step
    prefill: tuple[Operator, ...] = ()  #: operators of a chunk of a prompt
    chunks: int = 1  #: passes that prefill a prompt
    spread: tuple[float, float] = (1.0, 1.0)  #: 80 % interval of TPOT and cost, as factors
    ttft_spread: tuple[float, float] = (1.0, 1.0)  #: 80 % interval of TTFT, as factors
    grounded: bool = True  #: whether servers on this GPU were measured
    #: factor on the cost while GPUs are compared, above 1 where its price rests on one offer
    margin: float = 1.0
    quality: str = ""  #: published loss, in words
    loss: Quality | None = None  #: what it is expected to lose, None where nobody asked
    needs: tuple[str, ...] = ()  #: what serving it takes, as sentences
    reason: str = ""  #: why it is infeasible, '' where it is not
    short: bool = False  #: whether memory is what it lacks
    #: the replicas it was chosen among, each full
    full: "tuple[Timing, ...]" = ()
    #: where techniques are compared, each None where it does not fit or keeps no limit:
    lone: "OperatingPoint | None" = None  #: one query at a time, on the baseline's GPUs
    same_load: "OperatingPoint | None" = None  #: the baseline's load on the baseline's GPUs
    same_limits: "OperatingPoint | None" = None  #: the largest load within the limits, on the GPUs that cost least then

    @property
    def stored(self) -> float | None:
        """Cache bytes of one sequence, None when the technique cannot act on the model. [B]"""
        return self.layout.stored(self.context) if self.layout else None

    @property
    def feasible(self) -> bool:
        """Whether the technique can be served."""
        return not self.reason

    @property
    def gpu_seconds(self) -> float:
        """GPU time one query takes on a busy replica. [s]"""
        return (self.gpus or 0) * self.query_seconds

    @property
    def gpus(self) -> int | None:
        """GPUs of the replica, None where infeasible."""
        return self.parallel.gpus if self.parallel else None

    @property
    def ttft_range(self) -> tuple[float, float] | None:
        """80 % interval of TTFT, None where it is unknown. [s]"""
        return interval_of(self.ttft, self.ttft_spread)

    @property
    def tpot_range(self) -> tuple[float, float] | None:
        """80 % interval of TPOT, None where it is unknown. [s]"""
        return interval_of(self.tpot, self.spread)

    @property
    def usd_range(self) -> tuple[float, float] | None:
        """80 % interval of the cost of a query, None where it is unknown. [USD]"""
        return interval_of(self.cost.per_query if self.cost else None, self.spread)

    @property
    def limited_range(self) -> tuple[float, float] | None:
        """80 % interval of the cost of a query at the largest load within the limits, None where unknown. [USD]"""
        return interval_of(self.same_limits.usd if self.same_limits else None, self.spread)

    @property
    def each(self) -> float:
        """Sequences of one attention-data-parallel rank and pipeline stage."""
        return max(self.batch / (self.parallel.data * self.parallel.pipeline), 1.0) if self.parallel else 0.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A busy replica: the sequences that fit into it, those the engine runs at once, its passes and times."""

    parallel: Parallel  #: the ranks of the replica
    sequences: int  #: that fit in memory
    batch: int  #: sequences the engine runs at once
    lines: LoadLines  #: its steps at any load
    chunks: int  #: passes that prefill a prompt
    served: Served  #: its times in steady state

    @property
    def query_seconds(self) -> float:
        """Time of the whole replica one query takes. [s]"""
        return float(self.served.cycle) / self.batch

    @property
    def gpu_seconds(self) -> float:
        """GPU time one query takes. [s]"""
        return self.parallel.gpus * self.query_seconds

    def keeps(self, limits: Limits) -> bool:
        """Return whether the mean TTFT and TPOT are within limits."""
        pairs = ((self.served.ttft, limits.ttft), (self.served.tpot, limits.tpot))
        return all(limit is None or time <= limit for time, limit in pairs)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A replica under one load that techniques can be compared at."""

    parallel: Parallel  #: the ranks of the replica
    #: requests in flight
    batch: int
    #: mean times [s]
    ttft: float
    tpot: float  #: mean [s/token]
    #: GPU time one query takes [s]
    gpu_seconds: float
    #: cost of a query, None without a price [USD]
    usd: float | None

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.parallel.gpus
