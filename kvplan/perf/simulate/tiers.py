"""Tiers beside the GPUs' memory that keep prefixes: what a lane reads goes there too, and comes back over a link.

A tier is a shelf of the prefix caches, as a lane is, whose items nobody uses: `lanes.free`, `idle`, `cold` and `warm`
have an entry for it. Vocabulary of the engines: vLLM's native offloading, SGLang's HiCache, both written through.
"""

from typing import Any

from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.prefixes import evicted, linked, lookup, placed, unlinked
from kvplan.perf.simulate.state import ITEMS, NONE, Cache, Lanes, Requests, Ruleset, Shared, Tables

Array = Any


@inner
def shelf(rules: Ruleset, tables: Tables, t: int, r: int) -> int:
    """Return the shelf of a lane's t-th tier; one that all lanes share is the first lane's."""
    return rules.lanes * (t + 1) + r * tables.own[t]


@inner
def nearest(rules: Ruleset, tables: Tables, cache: Cache, key: int, r: int) -> int:
    """Return the first tier that holds a content, the number of tiers if none does."""
    t = 0
    while t < rules.tiers and lookup(cache, key, shelf(rules, tables, t, r)) == NONE:
        t += 1
    return t


@inner
def looked_up(
    rules: Ruleset, tables: Tables, requests: Requests, cache: Cache, q: int, r: int, n: int
) -> float:  # fmt: skip
    """Note how many items of a chain the lane's tiers add to the first n; return what they take to come. [s]"""
    at, seconds = q * rules.width, 0.0
    requests.near[q] = n
    for i in range(n, requests.chain[q]):
        t = nearest(rules, tables, cache, requests.keys[at + i], r)
        if t == rules.tiers:
            break
        before = requests.tokens[at + i - 1] if i else 0
        seconds += (requests.tokens[at + i] - before) * tables.fetch[t]
        requests.near[q] = i + 1
    return seconds


@hot
def written(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, q: int, r: int
) -> None:
    """Write the prefixes that a request has read to every tier, which drops those unused for longest."""
    for t in range(rules.tiers):
        s = shelf(rules, tables, t, r)
        for i in range(requests.chain[q]):
            at = q * rules.width + i
            item = lookup(cache, requests.keys[at], s)
            if item != NONE:
                unlinked(lanes, cache, item)
                linked(lanes, cache, item)
                continue
            below = requests.tokens[at - 1] // rules.unit if i else 0
            blocks = (requests.tokens[at] // rules.unit - below) * rules.weight
            if blocks > lanes.free[s] + lanes.idle[s]:
                break
            while lanes.free[s] < blocks or (fleet.count[ITEMS] == 0 and lanes.cold[s] != NONE):
                evicted(lanes, cache, fleet, s)
            if fleet.count[ITEMS] == 0:
                break
            lanes.free[s] -= blocks
            linked(lanes, cache, placed(cache, fleet, requests.keys[at], s, blocks))


@inner
def forgotten(rules: Ruleset, tables: Tables, lanes: Lanes, cache: Cache, fleet: Shared, r: int) -> None:
    """Drop every prefix nobody uses from a lane's memory, and from the tiers that it has to itself."""
    for t in range(rules.tiers + 1):
        s = shelf(rules, tables, t - 1, r) if t else r
        while lanes.cold[s] != NONE and (t == 0 or tables.own[t - 1]):
            evicted(lanes, cache, fleet, s)
