"""The prompts of a workload as classes: hits and misses of the prefix cache, short and long."""

from collections.abc import Sequence
from itertools import pairwise

from kvplan.perf.prompts import PromptClass
from kvplan.specs.workload import Lengths, Workload

#: shares of the prompts, shortest first, at which lengths are cut into classes: finer where most is to compute
#: and around the percentiles that limits are for
FINE, COARSE = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.94, 0.96, 1.0), (0.0, 1.0)


def prompt_classes(workload: Workload, shared: bool) -> tuple[PromptClass, ...]:
    """Return the classes of a workload's prompts; without a `shared` prefix cache every prompt is computed whole.

    Lengths and hits are counted as independent; within a class all prompts are as long as its mean.
    """
    hits = workload.prefix_classes if shared else ((1.0, 0.0),)
    least = min(share for _, share in hits)
    found: list[PromptClass] = []
    for weight, share in hits:
        found += cut(workload.input, weight, share, FINE if share == least else COARSE)
    return tuple(found)


def cut(lengths: Lengths, weight: float, share: float, edges: Sequence[float]) -> list[PromptClass]:
    """Return the classes of prompts of which the cache holds this share."""
    found = []
    for low, high in pairwise(edges):
        total = max(1, round(lengths.between(low, high)))
        fresh = max(1, total - int(total * share))
        found.append(PromptClass(weight=weight * (high - low), total=total, fresh=fresh))
    return found
