"""Prefix caches inside the lanes' memory: items found by hash, the least recently used evicted when blocks run out."""

from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.state import ITEMS, NONE, Cache, Lanes, Requests, Shared

#: odd multipliers of the hash (splitmix64's, cut to 62 bits), bits that are kept and bits of the product that are used
SPREAD, LANES, BITS, HIGH = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B, (1 << 62) - 1, 20


@inner
def hashed(key: int, lane: int) -> int:
    """Return a well-mixed number of a content and a lane: the low 62 bits of a product, its lowest ones left out."""
    return (((key + 1) * SPREAD + (lane + 1) * LANES) & BITS) >> HIGH


@inner
def lookup(cache: Cache, key: int, lane: int) -> int:
    """Return the item of this content in a lane's cache, NONE if it is not there."""
    mask = len(cache.table) - 1
    i = hashed(key, lane) & mask
    while cache.table[i] != NONE:
        item = cache.table[i]
        if cache.key[item] == key and cache.lane[item] == lane:
            return item
        i = (i + 1) & mask
    return NONE


@inner
def unhashed(cache: Cache, item: int) -> None:
    """Take an item out of the hash table, and close the gap it leaves."""
    mask = len(cache.table) - 1
    i = hashed(cache.key[item], cache.lane[item]) & mask
    while cache.table[i] != item:
        i = (i + 1) & mask
    j = i
    while True:
        j = (j + 1) & mask
        other = cache.table[j]
        if other == NONE:
            break
        home = hashed(cache.key[other], cache.lane[other]) & mask
        if (j - home) & mask >= (j - i) & mask:
            cache.table[i] = other
            i = j
    cache.table[i] = NONE


@inner
def unlinked(lanes: Lanes, cache: Cache, item: int) -> None:
    """Take an item out of its lane's list of those nobody uses."""
    r, a, b = cache.lane[item], cache.colder[item], cache.warmer[item]
    if a == NONE:
        lanes.cold[r] = b
    else:
        cache.warmer[a] = b
    if b == NONE:
        lanes.warm[r] = a
    else:
        cache.colder[b] = a
    lanes.idle[r] -= cache.blocks[item]


@inner
def linked(lanes: Lanes, cache: Cache, item: int) -> None:
    """Put an item that nobody uses any more to the recently used end of its lane's list."""
    r = cache.lane[item]
    cache.colder[item], cache.warmer[item] = lanes.warm[r], NONE
    if lanes.warm[r] == NONE:
        lanes.cold[r] = item
    else:
        cache.warmer[lanes.warm[r]] = item
    lanes.warm[r] = item
    lanes.idle[r] += cache.blocks[item]


@inner
def evicted(lanes: Lanes, cache: Cache, fleet: Shared, r: int) -> None:
    """Drop the least recently used item of a lane, and free its blocks."""
    item = lanes.cold[r]
    unlinked(lanes, cache, item)
    unhashed(cache, item)
    lanes.free[r] += cache.blocks[item]
    cache.spare[fleet.count[ITEMS]] = item
    fleet.count[ITEMS] += 1


@inner
def placed(cache: Cache, fleet: Shared, key: int, r: int, blocks: int) -> int:
    """Return a free item that now stands for a content in a lane's cache; nobody uses it, and it is in no list yet."""
    fleet.count[ITEMS] -= 1
    item = cache.spare[fleet.count[ITEMS]]
    cache.key[item], cache.lane[item] = key, r
    cache.blocks[item], cache.users[item] = blocks, 0
    mask = len(cache.table) - 1
    i = hashed(key, r) & mask
    while cache.table[i] != NONE:
        i = (i + 1) & mask
    cache.table[i] = item
    return item


@hot
def made(lanes: Lanes, cache: Cache, fleet: Shared, r: int, blocks: int) -> None:
    """Have so many blocks of a lane free, evicting what it must."""
    while lanes.free[r] < blocks:
        evicted(lanes, cache, fleet, r)


@hot
def taken(lanes: Lanes, cache: Cache, fleet: Shared, r: int, blocks: int) -> None:
    """Take blocks of a lane, evicting what it must."""
    made(lanes, cache, fleet, r, blocks)
    lanes.free[r] -= blocks


@inner
def leading(requests: Requests, cache: Cache, q: int, r: int, width: int) -> int:
    """Return how many items at the start of a request's chain the lane's cache holds."""
    n = 0
    while n < requests.chain[q]:
        item = lookup(cache, requests.keys[q * width + n], r)
        if item == NONE:
            break
        requests.items[q * width + n] = item
        n += 1
    return n


@inner
def used(lanes: Lanes, requests: Requests, cache: Cache, q: int, n: int, width: int) -> None:
    """Begin to use the first n items of a request's chain, which `leading` has found."""
    for i in range(n):
        item = requests.items[q * width + i]
        if cache.users[item] == 0:
            unlinked(lanes, cache, item)
        cache.users[item] += 1
        requests.shared[q] += cache.blocks[item]
    requests.held[q] = n


@inner
def added(
    lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, q: int, r: int, width: int, unit: int, weight: int
) -> None:
    """Put what a request has read into the cache: its own blocks become shared; a second copy is dropped."""
    for i in range(requests.held[q], requests.chain[q]):
        at = q * width + i
        below = requests.tokens[at - 1] // unit if i else 0
        blocks = (requests.tokens[at] // unit - below) * weight
        item = lookup(cache, requests.keys[at], r)
        if item == NONE:
            if fleet.count[ITEMS] == 0:
                if lanes.cold[r] == NONE:
                    break
                evicted(lanes, cache, fleet, r)
            item = placed(cache, fleet, requests.keys[at], r, blocks)
        else:
            if cache.users[item] == 0:
                unlinked(lanes, cache, item)
            lanes.free[r] += blocks
        cache.users[item] += 1
        requests.items[at] = item
        requests.shared[q] += cache.blocks[item]
        requests.own[q] -= blocks
        requests.held[q] = i + 1


@inner
def released(lanes: Lanes, requests: Requests, cache: Cache, q: int, width: int) -> None:
    """Stop using a request's items, the end of the chain first: it is evicted before what it follows."""
    for i in range(requests.held[q] - 1, -1, -1):
        item = requests.items[q * width + i]
        cache.users[item] -= 1
        if cache.users[item] == 0:
            linked(lanes, cache, item)
    requests.held[q], requests.shared[q] = 0, 0
