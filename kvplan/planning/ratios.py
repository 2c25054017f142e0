"""How much longer or shorter a decode step takes under a technique, with the error of what was measured of it."""

from dataclasses import dataclass

from kvplan.kv import spelling
from kvplan.kv.layout import KVLayout
from kvplan.kv.replica import Parallel, weights
from kvplan.kv.speeds import interval
from kvplan.perf.operators import CACHE
from kvplan.perf.serving import passes
from kvplan.perf.step_time import operator_time, step_time
from kvplan.planning.replica import Case, each_of

#: error of a ratio where the cache hardly counts: 1k tokens on RTX 3090 came out 0 to 4 % below the model
FLOOR = 0.02


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of a decode step over that of the same load uncompressed, with its 80 % interval."""

    middle: float  #: expected
    low: float  #: 10th percentile
    high: float  #: 90th percentile
    measured: str  #: where the speed of its cache was measured, '' where it was not
    plain: float = 0.0  #: the uncompressed step [s]


def step_ratio(case: Case, technique: str, parallel: Parallel, batch: int) -> Ratio:
    """Return a technique's decode step over the uncompressed one, `batch` requests on a replica."""
    return ratio_of(case, technique, spelling.apply(technique, case.base), parallel, batch)


def ratio_of(
    case: Case, technique: str, layout: KVLayout, parallel: Parallel, batch: int,
    known: tuple[float, float] | None = None,
) -> Ratio:  # fmt: skip
    """Return the same of a technique's layout; `known` is the interval of its cache's time, None: the technique's own.

    What drops tokens and was not measured may take as long as without: no engine reads such a cache by its bytes alone.
    """
    layout = layout.with_prompt(case.query.prompt)
    (mine, cache), (plain, before) = (step(case, one, parallel, batch) for one in (layout, case.base))
    (low, high), measured = interval(technique)
    low, high = known or (low, high)
    slowest = cache * high
    if not measured and spelling.evicts(technique):
        slowest = max(slowest, before)
    return Ratio(
        middle=mine / plain,
        low=(mine - cache * (1 - low)) / plain * (1 - FLOOR),
        high=(mine - cache + slowest) / plain * (1 + FLOOR),
        measured=measured,
        plain=plain,
    )


def step(case: Case, layout: KVLayout, parallel: Parallel, batch: int) -> tuple[float, float]:
    """Return the time of a decode step, and the part of it that reads the cache. [s]"""
    c, query = case.site.calibration, case.query
    each = each_of(parallel, batch)
    held = weights(case.model, case.site.weights)
    operators = passes(
        case.model, case.base, layout, held, parallel, batch=each, prompt=query.prompt, output=query.output,
        chunk=c.chunk,
    ).decode  # fmt: skip
    cache = sum(float(operator_time(o, c)) for o in operators if o.limit == CACHE)
    return float(step_time(operators, c, each)), cache
