"""The load for which a plan's limits are kept, as one replica sees it: what a measurement has to repeat."""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan
from kvplan.specs.workload import Lengths

#: equally likely groups of requests by length
GROUPS = 5
#: techniques that only narrow the elements of a cache, as rows of measurements name them
NARROW = ("fp8", "nvfp4", "int8", "int4", "turboquant")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution of lengths in a few figures. [token]"""

    mean: float  #: of all requests [token]
    deviation: float  #: standard deviation [token]
    low: float  #: shortest [token]
    high: float  #: longest [token]
    #: (mean, standard deviation) of GROUPS equally likely groups, the shortest first [token]
    groups: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What one replica of a plan is to be measured with, and what the plan says of it."""

    model: str  #: checkpoint
    gpu: str  #: name of the GPU
    engine: str  #: that serves it
    tensor: int  #: GPUs that divide matrices
    pipeline: int  #: stages of layers
    data: int  #: ranks that attend to different sequences
    weights: str | None  #: format, None for the checkpoint's own
    kv_dtype: str  #: of the cache's elements, '' for the engine's own
    drafts: bool  #: whether it decodes speculatively
    serving: int  #: replicas that share the load, spares left out
    rate: float | None  #: requests to one replica [1/s], None in a closed loop
    burstiness: float  #: coefficient of variation of the time between requests
    concurrency: int  #: requests in flight on one replica
    input: Spread  #: whole prompts [token]
    new: Spread  #: what follows the shared prefix of a prompt [token]
    output: Spread  #: answers [token]
    prefix: float  #: tokens that requests share, 0 for none [token]
    sharing: float | None  #: requests that begin with one prefix, None for all
    hit: float  #: share of the input found in the prefix cache
    percentile: float  #: share of the requests that keep the limits
    ttft_limit: float | None  #: [s]
    tpot_limit: float | None  #: [s/token]
    e2e_limit: float | None  #: [s]
    ttft: float  #: expected at the percentile [s]
    tpot: float  #: expected at the percentile [s/token]


def promise(demand: Demand, plan: Plan, model: str) -> Promise:
    """Return what a plan promises of one replica: the load of the busiest hour, or of its busiest minute."""
    w, limits, p = demand.workload, demand.limits, plan.parallel
    surge, burstiness = demand.waits_at
    serving = max(plan.replicas - demand.spares, 1)
    classes = w.prefix_classes if plan.cached_share else ((1.0, 0.0),)
    share = max(held for _, held in classes)
    narrow = [t for t in plan.technique.split("+") if t.partition(":")[0] in NARROW]
    return Promise(
        model=model, gpu=plan.gpu, engine=plan.engine, tensor=p.tensor, pipeline=p.pipeline, data=p.data,
        weights=plan.form, kv_dtype=narrow[0].replace(":", "_") if narrow else "", drafts=plan.drafting is not None,
        serving=serving, rate=None if w.offline else surge * demand.peak * (1 + demand.headroom) / serving,
        burstiness=burstiness, concurrency=plan.in_flight,
        input=spread(w.input), new=spread(w.input.times(1 - share)), output=spread(w.output),
        prefix=share * w.input.mean, sharing=together(share, w.prefix_share if share else 0.0),
        hit=plan.cached_share, percentile=limits.percentile,
        ttft_limit=limits.ttft, tpot_limit=limits.tpot, e2e_limit=limits.e2e, ttft=plan.ttft, tpot=plan.tpot,
    )  # fmt: skip


def spread(lengths: Lengths) -> Spread:
    """Return the figures of a distribution; its groups have its mean."""
    each = len(lengths.even) // GROUPS
    parts = [lengths.even[n * each : (n + 1) * each] for n in range(GROUPS)]
    means = [lengths.between(a / GROUPS, b / GROUPS) for a, b in pairwise(range(GROUPS + 1))]
    return Spread(
        mean=lengths.mean, deviation=lengths.mean * sqrt(max(lengths.squared, 0.0)),
        low=lengths.quantile(0.0), high=lengths.quantile(1.0),
        groups=tuple(zip(means, map(deviation, parts), strict=True)),
    )  # fmt: skip


def deviation(values: tuple[float, ...]) -> float:
    """Return the standard deviation of equally likely values."""
    mean = sum(values) / len(values)
    return sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def together(held: float, seen: float) -> float | None:
    """Return how many requests share a prefix of which a share `held` of the input is, and a share `seen` is found.

    The first request to a prefix finds nothing: seen = held x (1 - 1 / requests). None where all requests share one.
    """
    alone = 1 - seen / held if held else 0.0
    return 1 / alone if alone > 0 else None
