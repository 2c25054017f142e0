"""What a lane does: admit from its queue, read prompts in chunks, decode, preempt when memory runs out."""

from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.heaps import push, remove
from kvplan.perf.simulate.prefixes import leading, released, taken, used
from kvplan.perf.simulate.state import (
    ADMITTED,
    ASKED,
    FETCHED,
    FOUND,
    NONE,
    PREEMPTED,
    READING,
    TURNS,
    WAITING,
    WRITING,
    Cache,
    Lanes,
    Requests,
    Ruleset,
    Shared,
    Tables,
)
from kvplan.perf.simulate.tiers import written


@inner
def above(tokens: int, unit: int) -> int:
    """Return the blocks that hold so many tokens."""
    return (tokens + unit - 1) // unit


@inner
def kept(rules: Ruleset, prompt: int) -> int:
    """Return how many tokens of a prompt are kept once it is read. [token]"""
    if rules.share >= 1.0:
        return min(prompt, rules.cap)
    return min(max(int(prompt * rules.share), 1), rules.cap)


@inner
def growing(rules: Ruleset, tokens: int, output: int) -> int:
    """Return the blocks that a request takes at its last token. [block]"""
    return above(kept(rules, tokens) + output - 1, rules.unit) * rules.weight


@hot
def growth(rules: Ruleset, lanes: Lanes, r: int, k: int) -> int:
    """Return the blocks that the lane's decoding sequences take for k more steps. [block]"""
    if rules.weight == 0 or rules.reserving:
        return 0
    whole = k // rules.unit
    need = whole * lanes.writing[r]
    for j in range(k - whole * rules.unit):
        need += lanes.residues[r * rules.unit + (-(lanes.steps[r] + j)) % rules.unit]
    return need * rules.weight


@inner
def queued(rules: Ruleset, lanes: Lanes, requests: Requests, r: int, q: int, front: bool) -> None:
    """Put a request into the lane's queue: last, or first, of those of its priority that are ready before it."""
    before, after = lanes.tail[r], NONE
    if rules.priorities or front or (before != NONE and requests.ready[before] > requests.ready[q]):
        before, after = NONE, lanes.head[r]
        while after != NONE and (
            requests.rank[after] < requests.rank[q]
            or (not front and requests.rank[after] == requests.rank[q] and requests.ready[after] <= requests.ready[q])
        ):
            before, after = after, requests.following[after]
    requests.following[q] = after
    if before == NONE:
        lanes.head[r] = q
    else:
        requests.following[before] = q
    if after == NONE:
        lanes.tail[r] = q
    requests.state[q], requests.lane[q] = WAITING, r


@inner
def unqueued(lanes: Lanes, requests: Requests, r: int) -> None:
    """Take the first request out of the lane's queue, to the end of those that run."""
    q = lanes.head[r]
    lanes.head[r] = requests.following[q]
    if lanes.head[r] == NONE:
        lanes.tail[r] = NONE
    requests.previous[q], requests.following[q] = lanes.last[r], NONE
    if lanes.last[r] != NONE:
        requests.following[lanes.last[r]] = q
    lanes.last[r] = q
    lanes.running[r] += 1


@inner
def stopped(lanes: Lanes, requests: Requests, r: int, q: int) -> None:
    """Take a request out of those that run."""
    a, b = requests.previous[q], requests.following[q]
    if lanes.last[r] == q:
        lanes.last[r] = a
    else:
        requests.previous[b] = a
    if a != NONE:
        requests.following[a] = b
    lanes.running[r] -= 1


@inner
def begun(rules: Ruleset, lanes: Lanes, requests: Requests, r: int, q: int) -> None:
    """Let a request whose prompt is read decode; its blocks beyond the prefix cache's are those it keeps."""
    steps, tokens = lanes.steps[r], kept(rules, requests.prompt[q])
    if not rules.reserving:
        now = above(tokens, rules.unit) * rules.weight + rules.fixed - requests.shared[q]
        lanes.free[r] += requests.own[q] - now
    requests.state[q] = WRITING
    requests.context[q], requests.grown[q] = requests.prompt[q] - steps, tokens - steps
    requests.last[q] = (steps + requests.left[q]) * TURNS + requests.turn[q]
    lanes.context[r] += requests.prompt[q]
    lanes.residues[r * rules.unit + requests.grown[q] % rules.unit] += 1
    push(lanes.ends, requests.place, requests.last, r * (rules.most + 1), lanes.writing[r], q)
    lanes.writing[r] += 1


@inner
def ended(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, r: int, q: int) -> None:
    """Take a decoding request out and give its blocks back."""
    steps = lanes.steps[r]
    if rules.reserving:
        lanes.free[r] += requests.own[q]
    else:
        tokens = requests.grown[q] + steps
        lanes.free[r] += above(tokens, rules.unit) * rules.weight + rules.fixed - requests.shared[q]
    lanes.context[r] -= requests.context[q] + steps
    lanes.residues[r * rules.unit + requests.grown[q] % rules.unit] -= 1
    remove(lanes.ends, requests.place, requests.last, r * (rules.most + 1), lanes.writing[r], q)
    lanes.writing[r] -= 1
    released(lanes, requests, cache, q, rules.width)
    stopped(lanes, requests, r, q)


@inner
def abandoned(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, r: int, q: int) -> None:
    """Take a request out in the middle of its prompt and give its blocks back."""
    lanes.free[r] += requests.own[q]
    released(lanes, requests, cache, q, rules.width)
    n, first = lanes.reading[r], r * (rules.most + 1)
    j = n - 1
    while lanes.prompts[first + j] != q:
        j -= 1
    for i in range(j, n - 1):
        lanes.prompts[first + i] = lanes.prompts[first + i + 1]
    lanes.reading[r] = n - 1
    stopped(lanes, requests, r, q)


@inner
def victim(rules: Ruleset, lanes: Lanes, requests: Requests, r: int) -> int:
    """Return the request that memory is taken from: the last admitted of the lowest priority."""
    q = lanes.last[r]
    if rules.priorities:
        other = requests.previous[q]
        while other != NONE:
            if requests.rank[other] > requests.rank[q]:
                q = other
            other = requests.previous[other]
    return q


@inner
def preempted(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int) -> None:
    """Send a request back to the queue: its prompt and what it has generated are read again.

    On a lane that decodes only, they may come back from the host's memory instead (SGLang; docs/simulate.md).
    """
    q = victim(rules, lanes, requests, r)
    requests.done[q], requests.moved[q], requests.ready[q] = 0, 0, lanes.now[r]
    if requests.state[q] == WRITING:
        requests.left[q] = requests.last[q] // TURNS - lanes.steps[r]
        requests.prompt[q] = requests.context[q] + lanes.steps[r] + 1
        if rules.reload > 0.0 and r >= rules.readers:
            requests.prompt[q] -= 1
            requests.moved[q], requests.ready[q] = 1, lanes.now[r] + rules.reload * requests.prompt[q]
        ended(rules, lanes, requests, cache, r, q)
    else:
        abandoned(rules, lanes, requests, cache, r, q)
    requests.again[q] += 1
    fleet.count[PREEMPTED] += 1
    queued(rules, lanes, requests, r, q, True)


@inner
def admitted(
    rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, reserve: int
) -> bool:
    """Admit the first of the queue if its blocks are free beside `reserve`; return whether it was."""
    q, width, prompt = lanes.head[r], rules.width, requests.prompt[lanes.head[r]]
    n, hit, shared, idle = 0, 0, 0, 0
    if rules.sharing and not requests.moved[q]:
        n = leading(requests, cache, q, r, width)
    for i in range(n):
        item = requests.items[q * width + i]
        shared += cache.blocks[item]
        if cache.users[item] == 0:
            idle += cache.blocks[item]
    known = max(n, requests.near[q]) if rules.sharing and not requests.moved[q] else n
    if known:
        hit = min(requests.tokens[q * width + known - 1] // rules.unit * rules.unit, prompt - 1)
    if requests.moved[q]:
        need = above(kept(rules, prompt) + 1, rules.unit) * rules.weight + rules.fixed  # and the next token's block
    else:
        need = above(prompt, rules.hold_unit) * rules.hold_weight + rules.fixed - shared
    if rules.reserving:
        need = max(need, growing(rules, prompt, requests.left[q]) + rules.fixed - shared)
    if need > lanes.free[r] + lanes.idle[r] - idle - reserve:
        return False
    unqueued(lanes, requests, r)
    requests.shared[q] = 0
    used(lanes, requests, cache, q, n, width)
    taken(lanes, cache, fleet, r, need)
    requests.own[q] = need
    if requests.admitted[q] < 0.0:
        requests.admitted[q] = lanes.now[r]
        requests.hits[q] = hit
        fleet.count[FOUND] += hit
        fleet.count[FETCHED] += hit - (min(requests.tokens[q * width + n - 1], hit) if n else 0)
        fleet.count[ASKED] += prompt
    requests.turn[q] = fleet.count[ADMITTED] % TURNS
    fleet.count[ADMITTED] += 1
    if requests.moved[q]:
        begun(rules, lanes, requests, r, q)
    else:
        requests.done[q], requests.state[q] = hit, READING
        lanes.prompts[r * (rules.most + 1) + lanes.reading[r]] = q
        lanes.reading[r] += 1
    return True


@inner
def read(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, q: int
) -> None:
    """Note that a prompt is read: its first token is there, and tiers hold it too."""
    if rules.sharing and rules.tiers:
        written(rules, tables, lanes, requests, cache, fleet, q, r)
    if requests.first[q] < 0.0:
        requests.first[q] = lanes.now[r]
    requests.left[q] -= 1
