"""The events of a simulation: a request comes, or a lane's step ends; routing, hand-over, and failures of lanes."""

from typing import Any

from kvplan.perf.simulate.compiled import hot, inner, outer
from kvplan.perf.simulate.heaps import moved, push, remove
from kvplan.perf.simulate.lane import abandoned, begun, ended, growing, growth, queued, read
from kvplan.perf.simulate.prefixes import evicted, hashed, taken
from kvplan.perf.simulate.state import (
    ACTIVE,
    FREE,
    INSIDE,
    LEAST_LOADED,
    NEVER,
    NEXT,
    NONE,
    RECORDS,
    REFUSED,
    ROUND,
    ROUND_ROBIN,
    SLOTS,
    SPAN,
    TICKETS,
    TURN,
    TURNS,
    WRITING,
    Cache,
    Lanes,
    Records,
    Requests,
    Ruleset,
    Shared,
    Stream,
    Tables,
)
from kvplan.perf.simulate.steps import counted, planned, reaching, shortened

Array = Any
#: why `advance` returns: it wants more requests, slots or room for records; its time is up; all have left
MORE, SLOTS_FULL, RECORDS_FULL, UNTIL, DONE = range(5)
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
    if rules.router == ROUND_ROBIN:
        many = rules.readers if kind == 0 else rules.lanes - rules.readers
        while True:
            turn = fleet.count[ROUND]
            fleet.count[ROUND] += 1
            r = first + turn % many
            if lanes.active[r]:
                return r
    least = fleet.loads[first]
    if rules.router == LEAST_LOADED or requests.chain[q] == 0 or kind * rules.readers:  # decode lanes share nothing
        return least
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
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, fleet: Shared, r: int, q: int, ready: float
) -> None:
    """Put a request into a lane's queue; a lane at rest wakes, a leap ends early where it can begin."""
    if rules.poll > 0.0 and lanes.writing[r] > 0:
        n, done = lanes.writing[r], 0
        if lanes.planned[r] > 1:
            done = reaching(lanes, tables, r, fleet.clock[0] - lanes.now[r]) - 1
        ready += rules.poll * (tables.base[n] + tables.slope[n] * (lanes.context[r] + done * n))
    ready = max(ready, lanes.known[r])
    lanes.known[r], requests.ready[q] = ready, ready
    queued(rules, lanes, requests, r, q, False)
    loaded(rules, lanes, fleet, r, 1)
    if lanes.end[r] >= NEVER:
        lanes.planned[r], lanes.end[r] = 0, ready
        stands(lanes, fleet, r)
    elif lanes.head[r] == q and shortened(tables, lanes, r, ready):
        stands(lanes, fleet, r)


@inner
def came(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, stream: Stream,
    records: Records, i: int, at: float, name: int,
) -> None:  # fmt: skip
    """Take the i-th request of the stream in; one that no lane can hold is sent away."""
    tokens, output = stream.prompt[i], stream.output[i]
    whole = max((tokens + rules.hold_unit - 1) // rules.hold_unit * rules.hold_weight, growing(rules, tokens, output))
    if whole + rules.fixed > rules.room:
        j = fleet.count[RECORDS]
        records.name[j], records.came[j], records.prompt[j], records.output[j] = name, at, tokens, output
        records.admitted[j], records.first[j], records.end[j], records.refused[j] = -1.0, -1.0, at, 1
        records.hits[j], records.lane[j], records.again[j] = 0, NONE, 0
        fleet.count[RECORDS] += 1
        fleet.count[REFUSED] += 1
        if rules.closed:
            fleet.count[TICKETS] += 1
        return
    fleet.count[SLOTS] -= 1
    q = fleet.slots[fleet.count[SLOTS]]
    requests.name[q], requests.came[q], requests.asked[q], requests.wanted[q] = name, at, tokens, output
    requests.first[q], requests.admitted[q], requests.rank[q] = -1.0, -1.0, stream.rank[i]
    requests.hits[q], requests.again[q], requests.chain[q] = 0, 0, 0
    if rules.sharing or rules.router > LEAST_LOADED:
        n = min(stream.start[i + 1] - stream.start[i], rules.width)
        requests.chain[q] = n
        for j in range(n):
            requests.keys[q * rules.width + j] = stream.keys[stream.start[i] + j]
            requests.tokens[q * rules.width + j] = stream.tokens[stream.start[i] + j]
    renewed(requests, q)
    r = routed(rules, lanes, requests, cache, fleet, q, 0 if rules.readers else 1)
    sent(rules, tables, lanes, requests, fleet, r, q, at + rules.overhead)


@inner
def renewed(requests: Requests, q: int) -> None:
    """Let a request begin from nothing."""
    requests.prompt[q], requests.left[q], requests.done[q] = requests.asked[q], requests.wanted[q], 0
    requests.held[q], requests.shared[q], requests.moved[q] = 0, 0, 0


@inner
def left(rules: Ruleset, lanes: Lanes, requests: Requests, fleet: Shared, records: Records, r: int, q: int) -> None:
    """Record a request that has its last token, and give its slot back."""
    j = fleet.count[RECORDS]
    records.name[j], records.came[j], records.admitted[j] = requests.name[q], requests.came[q], requests.admitted[q]
    records.first[j], records.end[j] = requests.first[q], lanes.now[r]
    records.prompt[j], records.output[j], records.hits[j] = requests.asked[q], requests.wanted[q], requests.hits[q]
    records.lane[j], records.again[j], records.refused[j] = r, requests.again[q], 0
    fleet.count[RECORDS] += 1
    fleet.slots[fleet.count[SLOTS]] = q
    fleet.count[SLOTS] += 1
    requests.state[q] = FREE
    loaded(rules, lanes, fleet, r, -1)
    if rules.closed:
        fleet.count[TICKETS] += 1


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
    sent(rules, tables, lanes, requests, fleet, other, q, arrives)


@hot
def applied(
    rules: Ruleset,
    tables: Tables,
    lanes: Lanes,
    requests: Requests,
    cache: Cache,
    fleet: Shared,
    records: Records,
    r: int,
) -> None:
    """Do what the lane's step or leap did: tokens, blocks, requests that end, prompts that are read."""
    k, first = lanes.planned[r], r * (rules.most + 1)
    if k > 0:
        blocks = 0
        if lanes.writing[r] > 0 and not lanes.paused[r]:
            blocks = growth(rules, lanes, r, k)
        counted(rules, lanes, fleet, r, blocks)
        if not lanes.paused[r]:
            taken(lanes, cache, fleet, r, blocks)
            lanes.context[r] += k * lanes.writing[r]
            lanes.steps[r] += k
    lanes.now[r] = lanes.end[r]
    if k == 0:
        return
    lanes.peak[r] = max(lanes.peak[r], rules.room - lanes.free[r] - lanes.idle[r])
    while lanes.writing[r] > 0 and requests.last[lanes.ends[first]] // TURNS <= lanes.steps[r]:
        q = lanes.ends[first]
        ended(rules, lanes, requests, cache, r, q)
        left(rules, lanes, requests, fleet, records, r, q)
    many, stay = lanes.reading[r], 0
    for j in range(many):
        q = lanes.prompts[first + j]
        requests.done[q] += requests.part[q]
        if requests.done[q] < requests.prompt[q]:
            lanes.prompts[first + stay] = q
            stay += 1
            continue
        lanes.reading[r] = stay
        read(rules, lanes, requests, cache, fleet, r, q)
        begun(rules, lanes, requests, r, q)
        if requests.left[q] <= 0 or r < rules.readers:
            ended(rules, lanes, requests, cache, r, q)
            if requests.left[q] <= 0:
                left(rules, lanes, requests, fleet, records, r, q)
            else:
                handed_over(rules, tables, lanes, requests, cache, fleet, r, q)
    lanes.reading[r] = stay


@outer
def advance(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, stream: Stream,
    records: Records, n: int, named: int, until: float, last: bool,
) -> int:  # fmt: skip
    """Handle events in the order of time up to `until`; return why it stops.

    `n` requests of the stream are known, the first of them of number `named`, and no more follow where it is the
    `last` of it.
    """
    count, size = fleet.count, len(records.name) - rules.most - 2
    while True:
        r = fleet.lanes[0]
        t, ta = lanes.end[r], NEVER
        i = count[NEXT]
        if i < n:
            if rules.closed == 0:
                ta = stream.at[i]
            elif count[TICKETS] > 0:
                ta = fleet.clock[0]
        elif not last:
            return MORE
        if t >= NEVER and ta >= NEVER:
            return DONE
        if count[RECORDS] >= size:
            return RECORDS_FULL
        if min(t, ta) > until:
            return UNTIL
        if ta <= t:
            if count[SLOTS] == 0:
                return SLOTS_FULL
            fleet.clock[0] = ta
            count[NEXT] = i + 1
            if rules.closed:
                count[TICKETS] -= 1
            came(rules, tables, lanes, requests, cache, fleet, stream, records, i, ta, named + i)
            continue
        fleet.clock[0] = t
        applied(rules, tables, lanes, requests, cache, fleet, records, r)
        planned(rules, tables, lanes, requests, cache, fleet, r)
        stands(lanes, fleet, r)


@outer
def opened(lanes: Lanes, fleet: Shared, readers: int, r: int) -> None:
    """Let the router send requests to a lane."""
    if not lanes.active[r]:
        lanes.active[r] = 1
        kind = 0 if r < readers else 1
        n = fleet.count[ACTIVE + kind]
        push(fleet.loads, fleet.stand, lanes.order, kind * readers, n, r)
        fleet.count[ACTIVE + kind] = n + 1


@outer
def shut(lanes: Lanes, fleet: Shared, readers: int, r: int) -> None:
    """Keep the router from a lane; the requests it has stay."""
    if lanes.active[r]:
        kind = 0 if r < readers else 1
        n = fleet.count[ACTIVE + kind]
        remove(fleet.loads, fleet.stand, lanes.order, kind * readers, n, r)
        lanes.active[r] = 0
        fleet.count[ACTIVE + kind] = n - 1


@outer
def failed(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, at: float
) -> None:
    """Lose a shut lane's requests and memory: they begin again elsewhere, from nothing."""
    lanes.now[r] = at
    while lanes.last[r] != NONE:
        q = lanes.last[r]
        if requests.state[q] == WRITING:
            ended(rules, lanes, requests, cache, r, q)
        else:
            abandoned(rules, lanes, requests, cache, r, q)
        queued(rules, lanes, requests, r, q, True)
    while lanes.cold[r] != NONE:
        evicted(lanes, cache, fleet, r)
    q = lanes.head[r]
    lanes.head[r], lanes.tail[r], lanes.end[r], lanes.planned[r] = NONE, NONE, NEVER, 0
    lanes.stalled[r], lanes.paused[r], lanes.cut[r], lanes.known[r] = 0.0, 0, 0, at
    stands(lanes, fleet, r)
    while q != NONE:
        after = requests.following[q]
        loaded(rules, lanes, fleet, r, -1)
        renewed(requests, q)
        requests.first[q] = -1.0
        other = routed(rules, lanes, requests, cache, fleet, q, 0 if rules.readers else 1)
        sent(rules, tables, lanes, requests, fleet, other, q, at)
        q = after
