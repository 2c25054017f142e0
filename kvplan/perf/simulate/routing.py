"""Where requests go: routers, queues of lanes, and the hand-over from prefill to decode."""

from typing import Any

from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.heaps import moved
from kvplan.perf.simulate.lane import growth, queued
from kvplan.perf.simulate.looks import reaching
from kvplan.perf.simulate.prefixes import hashed, leading, made
from kvplan.perf.simulate.state import (
    ACTIVE,
    INSIDE,
    LEAST_LOADED,
    NEVER,
    NONE,
    RANDOM,
    ROUND,
    ROUND_ROBIN,
    SPAN,
    TURN,
    Cache,
    Lanes,
    Requests,
    Ruleset,
    Shared,
    Tables,
)
from kvplan.perf.simulate.steps import shortened
from kvplan.perf.simulate.tiers import looked_up

Array = Any
#: a lane whose cache holds this share of a prompt gets it, unless it has this many requests more than the least loaded,
#: and this many times as many (SGLang's cache-aware router: cache_threshold, balance_abs_threshold and
#: balance_rel_threshold, the second one smaller: lanes are single GPUs' here)
MATCH, MORE_LOADED, TIMES_LOADED = 0.3, 8, 1.5


@hot
def stands(lanes: Lanes, fleet: Shared, r: int) -> None:
    """Find the lane's place among all by the end of its step."""
    moved(fleet.lanes, fleet.place, lanes.end, 0, len(lanes.end), r)


@inner
def loaded(rules: Ruleset, lanes: Lanes, fleet: Shared, r: int, more: int) -> None:
    """Count a request that came to a lane or left it."""
    lanes.load[r] += more
    fleet.count[INSIDE] += more
    lanes.order[r] += more * SPAN
    if more > 0:
        fleet.count[TURN] += 1
        lanes.order[r] = lanes.load[r] * SPAN + fleet.count[TURN]
    if rules.router != ROUND_ROBIN and lanes.active[r]:
        kind = 0 if r < rules.readers else 1
        moved(fleet.loads, fleet.stand, lanes.order, kind * rules.readers, fleet.count[ACTIVE + kind], r)


@inner
def routed(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, q: int, kind: int) -> int:
    """Return the lane that a request goes to: of those that only prefill (kind 0), or of the others (1)."""
    first = kind * rules.readers
    many = rules.readers if kind == 0 else rules.lanes - rules.readers
    if rules.router == ROUND_ROBIN:
        return next_in_turn(lanes, fleet, first, many)
    if rules.router == RANDOM:
        return drawn(rules, lanes, requests, q, kind, many)
    least = fleet.loads[first]
    if rules.router == LEAST_LOADED or requests.chain[q] == 0 or kind * rules.readers:  # decode lanes share nothing
        return least
    return with_its_prefix(rules, lanes, requests, cache, q, least)


@inner
def next_in_turn(lanes: Lanes, fleet: Shared, first: int, many: int) -> int:
    """Return the next active lane of so many."""
    while True:
        turn = fleet.count[ROUND]
        fleet.count[ROUND] += 1
        r = first + turn % many
        if lanes.active[r]:
            return r


@inner
def drawn(rules: Ruleset, lanes: Lanes, requests: Requests, q: int, kind: int, many: int) -> int:
    """Return an active lane at random; requests that share most of their prompts go to one, drawn once for them."""
    number, n = requests.name[q], requests.chain[q]
    if n and requests.tokens[q * rules.width + n - 1] >= MATCH * requests.prompt[q]:
        number = requests.keys[q * rules.width + n - 1]
    while True:
        number = hashed(number, kind)
        number = hashed(number ^ (number >> 21), kind)
        number ^= number >> 19
        r = kind * rules.readers + number % many
        if lanes.active[r]:
            return r


@inner
def with_its_prefix(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, q: int, least: int) -> int:
    """Return the lane that got most of a request's prompt last, the `least` loaded one if that has too much to do."""
    mask, r = len(cache.seen_key) - 1, NONE
    for i in range(requests.chain[q] - 1, -1, -1):
        key = requests.keys[q * rules.width + i]
        if requests.tokens[q * rules.width + i] < MATCH * requests.prompt[q]:
            break
        at = hashed(key, 0) & mask
        if cache.seen_key[at] == key and lanes.active[cache.seen_lane[at]]:
            r = cache.seen_lane[at]
            break
    if r == NONE or lanes.load[r] > max(lanes.load[least] + MORE_LOADED, int(lanes.load[least] * TIMES_LOADED)):
        r = least
    for i in range(requests.chain[q]):
        key = requests.keys[q * rules.width + i]
        at = hashed(key, 0) & mask
        cache.seen_key[at], cache.seen_lane[at] = key, r
    return r


@inner
def sent(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, q: int,
    ready: float,
) -> None:  # fmt: skip
    """Put a request into a lane's queue; a lane at rest wakes, a leap ends early where it can begin.

    What a tier has of its prompt comes first, one prefix after the other over the lane's link; others may pass it. What
    the steps of a leap up to now have evicted is looked for there.
    """
    n, done = lanes.writing[r], 0
    if n > 0 and lanes.planned[r] > 1 and rules.tiers:
        done = reaching(lanes, tables, r, fleet.clock[0] - lanes.now[r]) - 1
    requests.ready[q] = ready
    if rules.tiers and requests.moved[q] == 0:
        made(lanes, cache, fleet, r, growth(rules, lanes, r, done))
        n = leading(requests, cache, q, r, rules.width)
        seconds = looked_up(rules, tables, requests, cache, q, r, n)
        if seconds > 0.0:
            lanes.link[r] = max(lanes.link[r], fleet.clock[0]) + seconds
            requests.ready[q] = max(ready, lanes.link[r])
    ready = requests.ready[q]
    queued(rules, lanes, requests, r, q, False)
    loaded(rules, lanes, fleet, r, 1)
    if lanes.end[r] >= NEVER or (lanes.planned[r] == 0 and ready < lanes.end[r]):
        lanes.planned[r], lanes.end[r] = 0, ready
        stands(lanes, fleet, r)
    elif lanes.head[r] == q and shortened(rules, tables, lanes, requests, r, q):
        stands(lanes, fleet, r)


@inner
def renewed(requests: Requests, q: int) -> None:
    """Let a request begin from nothing."""
    requests.prompt[q], requests.left[q], requests.done[q] = requests.asked[q], requests.wanted[q], 0
    requests.held[q], requests.shared[q], requests.moved[q] = 0, 0, 0


@inner
def handed_over(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, q: int
) -> None:
    """Send a prompt's cache from a lane that only prefills to one that decodes; its first token comes after that."""
    loaded(rules, lanes, fleet, r, -1)
    requests.moved[q] = 1
    requests.held[q], requests.shared[q] = 0, 0
    arrives = lanes.now[r] + rules.transfer * requests.prompt[q]
    requests.first[q] = arrives
    other = routed(rules, lanes, requests, cache, fleet, q, 1)
    sent(rules, tables, lanes, requests, cache, fleet, other, q, arrives)
