"""What became of the requests: histograms of their times, and sums by the minute in which they came."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kvplan.perf.simulate.buckets import BUCKETS, bucket
from kvplan.perf.simulate.compiled import inner, outer
from kvplan.perf.simulate.state import Records
from kvplan.perf.simulate.store import column, filled

Array = Any

#: places in `sums`
COUNTED, WITHIN, READ, WRITTEN, REFUSED, SUMS = range(6)


class Tally(NamedTuple):
    """Counts of requests that came in the window that is looked at."""

    miss: Array  #: histogram of TTFT of the others
    hit: Array  #: histogram of TTFT of those that found half of what they may share, or more, in a prefix cache
    tpot: Array  #: histogram of the mean time of a token after the first
    e2e: Array  #: histogram of the whole time
    queued: Array  #: histogram of the time to the first admission
    came: Array  #: [bin] requests
    late: Array  #: [bin] of these beyond a limit
    first: Array  #: [bin] sum of TTFT [s]
    slowest: Array  #: [bin] longest TTFT [s]
    waited: Array  #: [bin] time for which requests waited for their first admission in it [s]
    read: Array  #: [bin] tokens of prompts that were computed [token]
    found: Array  #: [bin] tokens of prompts found in a prefix cache [token]
    sums: Array  #: totals, see COUNTED ...
    ranks: Array  #: [class] priorities that are told apart, none where all are alike
    ttft_of: Array  #: [class * BUCKETS + bucket] histogram of TTFT of those of a priority
    tpot_of: Array  #: [class * BUCKETS + bucket] the same of the mean time of a token after the first
    e2e_of: Array  #: [class * BUCKETS + bucket] the same of the whole time


def tally(fast: bool, bins: int, ranks: Sequence[int] = ()) -> Tally:
    """Return counts of nothing; requests of these priorities are told apart."""
    histograms = {"miss", "hit", "tpot", "e2e", "queued"}
    times = {"first", "slowest", "waited"}

    def zeros(name: str) -> Array:
        size = BUCKETS if name in histograms else SUMS if name == "sums" else bins
        size = BUCKETS * max(len(ranks), 1) if name.endswith("_of") else size
        return filled(fast, "at" if name in times else "count", size)

    counts = {name: zeros(name) for name in Tally._fields}
    return Tally(**{**counts, "ranks": column(fast, "rank", ranks)})


@inner
def classed(t: Tally, rank: int, first: float, each: float, whole: float) -> None:
    """Count the times of a request of a priority; one without a second token has no time between tokens (-1)."""
    for at in range(len(t.ranks)):
        if t.ranks[at] == rank:
            t.ttft_of[at * BUCKETS + bucket(first)] += 1
            t.e2e_of[at * BUCKETS + bucket(whole)] += 1
            if each >= 0.0:
                t.tpot_of[at * BUCKETS + bucket(each)] += 1


@inner
def waited(t: Tally, width: float, came: float, until: float) -> None:
    """Count a wait in every bin that it passes, so that a bin's mean is of those that wait in it."""
    at, end = int(came / width), min(until, len(t.came) * width)
    while at * width < end:
        t.waited[at] += min(end, (at + 1) * width) - max(came, at * width)
        at += 1


@outer
def counted(
    t: Tally, records: Records, n: int, since: float, until: float, width: float, ttft: float, tpot: float, e2e: float
) -> None:
    """Count requests that came from one time to another; the limits of time are infinite where there is none."""
    for i in range(n):
        came = records.came[i]
        if came < since or came >= until:
            continue
        at = min(int((came - since) / width), len(t.came) - 1)
        t.sums[COUNTED] += 1
        t.came[at] += 1
        if records.refused[i]:
            t.sums[REFUSED] += 1
            t.late[at] += 1
            continue
        first, whole = records.first[i] - came, records.end[i] - came
        each = 0.0
        if records.output[i] > 1:
            each = (records.end[i] - records.first[i]) / (records.output[i] - 1)
            t.tpot[bucket(each)] += 1
        (t.hit if 0 < records.whole[i] <= 2 * records.hits[i] else t.miss)[bucket(first)] += 1
        t.e2e[bucket(whole)] += 1
        if len(t.ranks) > 0:
            classed(t, records.rank[i], first, each if records.output[i] > 1 else -1.0, whole)
        t.queued[bucket(records.admitted[i] - came)] += 1
        if first <= ttft and each <= tpot and whole <= e2e:
            t.sums[WITHIN] += 1
        else:
            t.late[at] += 1
        t.first[at] += first
        t.slowest[at] = max(t.slowest[at], first)
        waited(t, width, came - since, records.admitted[i] - since)
        t.read[at] += records.prompt[i] - records.hits[i]
        t.found[at] += records.hits[i]
        t.sums[READ] += records.prompt[i]
        t.sums[WRITTEN] += records.output[i]
