"""The events of a simulation: a request comes, or a lane's step ends; routing, hand-over, and failures of lanes."""

from typing import Any

from kvplan.perf.simulate.compiled import hot, inner, outer
from kvplan.perf.simulate.heaps import push, remove
from kvplan.perf.simulate.lane import abandoned, begun, ended, growing, growth, queued, read
from kvplan.perf.simulate.looks import later, passed
from kvplan.perf.simulate.prefixes import taken
from kvplan.perf.simulate.routing import handed_over, loaded, renewed, routed, sent, stands
from kvplan.perf.simulate.state import (
    ACTIVE,
    FREE,
    LEAST_LOADED,
    NEVER,
    NEXT,
    NONE,
    RECORDS,
    REFUSED,
    SLOTS,
    TICKETS,
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
from kvplan.perf.simulate.steps import counted, planned
from kvplan.perf.simulate.tiers import forgotten

Array = Any
#: why `advance` returns: it wants more requests, slots or room for records; its time is up; all have left
MORE, SLOTS_FULL, RECORDS_FULL, UNTIL, DONE = range(5)


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
        records.hits[j], records.whole[j], records.lane[j], records.again[j] = 0, 0, NONE, 0
        records.rank[j] = stream.rank[i]
        fleet.count[RECORDS] += 1
        fleet.count[REFUSED] += 1
        if rules.closed:
            fleet.count[TICKETS] += 1
        return
    fleet.count[SLOTS] -= 1
    q = fleet.slots[fleet.count[SLOTS]]
    requests.name[q], requests.came[q], requests.asked[q], requests.wanted[q] = name, at, tokens, output
    requests.first[q], requests.admitted[q], requests.rank[q] = -1.0, -1.0, stream.rank[i]
    requests.hits[q], requests.again[q], requests.chain[q], requests.near[q] = 0, 0, 0, 0
    if rules.sharing or rules.router > LEAST_LOADED:
        n = min(stream.start[i + 1] - stream.start[i], rules.width)
        requests.chain[q] = n
        for j in range(n):
            requests.keys[q * rules.width + j] = stream.keys[stream.start[i] + j]
            requests.tokens[q * rules.width + j] = stream.tokens[stream.start[i] + j]
    renewed(requests, q)
    r = routed(rules, lanes, requests, cache, fleet, q, 0 if rules.readers else 1)
    ready = at + rules.overhead
    if rules.closed:
        ready = at + later(lanes, r, at, name)
        requests.came[q] = ready
    sent(rules, tables, lanes, requests, cache, fleet, r, q, ready)


@inner
def left(rules: Ruleset, lanes: Lanes, requests: Requests, fleet: Shared, records: Records, r: int, q: int) -> None:
    """Record a request that has its last token, and give its slot back.

    In a closed loop its overhead is on the way of its tokens: the next request does not wait for it, as in `serve`.
    """
    j, late = fleet.count[RECORDS], rules.overhead if rules.closed else 0.0
    records.name[j], records.came[j], records.admitted[j] = requests.name[q], requests.came[q], requests.admitted[q]
    records.first[j], records.end[j] = requests.first[q] + late, lanes.now[r] + late
    records.prompt[j], records.output[j], records.hits[j] = requests.asked[q], requests.wanted[q], requests.hits[q]
    records.lane[j], records.again[j], records.refused[j] = r, requests.again[q], 0
    records.rank[j] = requests.rank[q]
    n = requests.chain[q]
    records.whole[j] = requests.tokens[q * rules.width + n - 1] if n else 0
    fleet.count[RECORDS] += 1
    fleet.slots[fleet.count[SLOTS]] = q
    fleet.count[SLOTS] += 1
    requests.state[q] = FREE
    loaded(rules, lanes, fleet, r, -1)
    if rules.closed:
        fleet.count[TICKETS] += 1


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
    passed(rules, tables, lanes, r, k)
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
        read(rules, tables, lanes, requests, cache, fleet, r, q)
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
def emptied(rules: Ruleset, tables: Tables, lanes: Lanes, cache: Cache, fleet: Shared, r: int) -> None:
    """Drop what a lane's memory, and tiers of its own, keep of prefixes nobody uses."""
    forgotten(rules, tables, lanes, cache, fleet, r)


@outer
def failed(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, at: float
) -> None:
    """Lose a shut lane's requests and memory: they begin again elsewhere, from nothing."""
    lanes.now[r], fleet.clock[0] = at, at
    while lanes.last[r] != NONE:
        q = lanes.last[r]
        if requests.state[q] == WRITING:
            ended(rules, lanes, requests, cache, r, q)
        else:
            abandoned(rules, lanes, requests, cache, r, q)
        queued(rules, lanes, requests, r, q, True)
    forgotten(rules, tables, lanes, cache, fleet, r)
    lanes.link[r] = at
    q = lanes.head[r]
    lanes.head[r], lanes.tail[r], lanes.end[r], lanes.planned[r] = NONE, NONE, NEVER, 0
    lanes.stalled[r], lanes.paused[r], lanes.cut[r] = 0.0, 0, 0
    stands(lanes, fleet, r)
    while q != NONE:
        after = requests.following[q]
        loaded(rules, lanes, fleet, r, -1)
        renewed(requests, q)
        requests.first[q] = -1.0
        other = routed(rules, lanes, requests, cache, fleet, q, 0 if rules.readers else 1)
        sent(rules, tables, lanes, requests, cache, fleet, other, q, at)
        q = after
