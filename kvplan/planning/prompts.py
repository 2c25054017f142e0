"""The prompts of a workload as classes: hits and misses of the prefix cache, short and long."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from kvplan.perf.amounts import TINY, Amount, exponential, larger, root
from kvplan.perf.prompts import PromptClass
from kvplan.specs.workload import Lengths, Workload

#: lengths by which the variation within a class is worked out
PARTS = 40
#: part of what the longest compute below which the lengths of others do not matter
RARELY = 0.1
#: shares of the prompts, shortest first, at which lengths are cut into classes: finer where most is to compute
#: and around the percentiles that limits are for
FINE, COARSE = (0.0, 0.25, 0.5, 0.63, 0.75, 0.88, 0.93, 0.96, 0.98, 1.0), (0.0, 1.0)


def prompt_classes(workload: Workload, shared: bool, kept: Amount = 1.0) -> tuple[PromptClass, ...]:
    """Return the classes of a workload's prompts; without a `shared` prefix cache every prompt is computed whole.

    Of the prefixes that some requests share `kept` are still in memory when they are asked for again; what is evicted
    is a miss. Lengths and hits are counted as independent; within a class all prompts are as long as its mean.
    """
    hits = workload.prefix_classes if shared else ((1.0, 0.0),)
    least = min(share for _, share in hits)
    classes: list[PromptClass] = []
    lost = sum(weight for weight, share in hits if share > least) * (1.0 - kept)
    for whole, share in hits:
        weight = whole + lost if share == least else whole * kept
        edges = COARSE if 1 - share < RARELY * (1 - least) else FINE
        between = None if share == least else workload.between_questions
        classes += cut(workload.input, weight, share, edges, between)
    return tuple(classes)


def cut(
    lengths: Lengths, weight: Amount, share: float, edges: Sequence[float], between: float | None
) -> list[PromptClass]:  # fmt: skip
    """Return the classes of prompts of which the cache holds this share, found by questions so far apart."""
    classes = []
    for low, high in pairwise(edges):
        total = max(1, round(lengths.between(low, high)))
        fresh = max(1, total - int(total * share))
        classes.append(
            PromptClass(
                weight=weight * (high - low), total=total, fresh=fresh, between=between, longest=lengths.quantile(high),
                varied=variation(lengths, low, high),
            )
        )  # fmt: skip
    return classes


@cache
def variation(lengths: Lengths, low: float, high: float) -> float:
    """Return the squared coefficient of variation of the lengths from one quantile to another."""
    each = [lengths.quantile(low + (high - low) * (k + 0.5) / PARTS) for k in range(PARTS)]
    return sum(x * x for x in each) * PARTS / sum(each) ** 2 - 1


def kept_prefixes(workload: Workload, *, room: Amount, rate: Amount) -> Amount:
    """Return the share of shared prefixes that are still in memory when they are asked for again.

    `rate` requests a second come to a replica on which `room` mean requests fit beside those that run; all questions
    to a prefix go to one replica (prefix-aware routing). The least recently used one leaves first: it is kept for a
    time t after every use, and t is such that those kept fill the room. Questions to a prefix follow each other at
    exponential intervals. Source: Che, Tung and Wang, IEEE JSAC 20(7), 2002.
    """
    classes, between = workload.prefix_classes, workload.between_questions
    (new, least), most = classes[0], max(share for _, share in classes)
    if most <= least:
        return 1.0 + 0.0 * room
    prefixes = room * (workload.input.mean + workload.output.mean) / ((most - least) * workload.input.mean)
    longest = prefixes / larger(rate * new, TINY)

    def excess(t: Amount) -> Amount:
        return rate * ((1 - new) * between * (1 - exponential(-t / between)) + new * t) - prefixes

    return 1 - exponential(-root(excess, 0.0 * longest, longest) / between)
