"""A lane's steps: what the next one holds and takes, how far equal ones reach, and what is done when it ends."""

from kvplan.perf.simulate.buckets import bucket
from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.lane import admitted, growth, preempted
from kvplan.perf.simulate.looks import lasting, seeing, seen
from kvplan.perf.simulate.prefixes import added
from kvplan.perf.simulate.state import (
    LEAPS,
    NEVER,
    NONE,
    STEPS,
    TURNS,
    Cache,
    Lanes,
    Requests,
    Ruleset,
    Shared,
    Tables,
)


@inner
def attended(rules: Ruleset, tables: Tables, tokens: int) -> float:
    """Return the time of the attention of a prompt of so many tokens. [s]"""
    i = tokens // rules.cell
    low = tables.attention[i]
    return low + (tables.attention[i + 1] - low) * ((tokens - i * rules.cell) / rules.cell)


@inner
def added_by(rules: Ruleset, tables: Tables, n: int, tokens: int) -> float:
    """Return what so many tokens of prompts add to a step in which n sequences decode. [s]"""
    j = tables.cells[tokens]
    low, first = tables.grid[j], n * rules.sizes + j
    share = (tokens - low) / (tables.grid[j + 1] - low)
    return tables.more[first] + (tables.more[first + 1] - tables.more[first]) * share


@inner
def chunk_of(rules: Ruleset, tables: Tables, requests: Requests, q: int, budget: int) -> float:
    """Give a prompt its part of the step's tokens and return the time of its attention. [s]"""
    done = requests.done[q]
    requests.part[q] = min(budget, requests.prompt[q] - done)
    return attended(rules, tables, done + requests.part[q]) - attended(rules, tables, done)


@inner
def ending(rules: Ruleset, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int, q: int) -> None:
    """Let others find a prompt that the step being planned reads to its end.

    vLLM hashes a prompt's blocks when it schedules the tokens, not when they are computed: what the same step still
    admits reads them (https://docs.vllm.ai/en/latest/design/prefix_caching.html, 2026-11).
    """
    if rules.sharing and requests.done[q] + requests.part[q] >= requests.prompt[q]:
        added(lanes, requests, cache, fleet, q, r, rules.width, rules.unit, rules.weight)


@inner
def fitting(rules: Ruleset, lanes: Lanes, r: int, k: int) -> int:
    """Return how many of the lane's next k decode steps its memory holds."""
    room = lanes.free[r] + lanes.idle[r]
    if rules.weight == 0 or rules.reserving or growth(rules, lanes, r, k) <= room:
        return k
    left = room // rules.weight
    whole = left // lanes.writing[r]
    left -= whole * lanes.writing[r]
    fit = whole * rules.unit
    while True:
        need = lanes.residues[r * rules.unit + (-(lanes.steps[r] + fit)) % rules.unit]
        if need > left:
            return fit
        left -= need
        fit += 1


@hot
def planned(
    rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, cache: Cache, fleet: Shared, r: int
) -> None:
    """Plan the lane's next step, or the leap of equal steps until something changes."""
    lanes.cut[r], lanes.paused[r] = 0, 0
    while growth(rules, lanes, r, 1) > lanes.free[r] + lanes.idle[r]:
        preempted(rules, lanes, requests, cache, fleet, r)
    n, now, first = lanes.writing[r], lanes.now[r], r * (rules.most + 1)
    budget = rules.chunk - n * rules.mixed
    tokens, extra, reserve = 0, 0.0, growth(rules, lanes, r, 1)
    for j in range(lanes.reading[r]):
        q = lanes.prompts[first + j]
        extra += chunk_of(rules, tables, requests, q, budget)
        budget -= requests.part[q]
        tokens += requests.part[q]
        ending(rules, lanes, requests, cache, fleet, r, q)
    while lanes.head[r] != NONE and budget > 0 and lanes.running[r] < rules.most:
        q = lanes.head[r]
        if not seen(rules, lanes, requests, r, q) or not admitted(rules, lanes, requests, cache, fleet, r, reserve):
            break
        if requests.moved[q]:
            n = lanes.writing[r]
            budget -= rules.mixed
            reserve = growth(rules, lanes, r, 1)
            continue
        extra += chunk_of(rules, tables, requests, q, budget) + (rules.occupied if requests.again[q] == 0 else 0.0)
        budget -= requests.part[q]
        tokens += requests.part[q]
        ending(rules, lanes, requests, cache, fleet, r, q)
    lanes.peak[r] = max(lanes.peak[r], rules.room - lanes.free[r] - lanes.idle[r])
    if n == 0 and tokens == 0:
        head = lanes.head[r]
        lanes.planned[r] = 0
        lanes.end[r] = NEVER if head == NONE else max(requests.ready[head], now)
        return
    lanes.each[r] = tables.base[n] + tables.slope[n] * lanes.context[r]
    lanes.planned[r] = 1
    if tokens > 0:
        if rules.mixed == 0 and n > 0:
            lanes.paused[r] = 1
            lanes.end[r] = now + tables.base[0] + added_by(rules, tables, 0, tokens) + extra
        else:
            lanes.end[r] = now + lanes.each[r] + added_by(rules, tables, n, tokens) + extra
        return
    if rules.leaping:
        leap(rules, tables, lanes, requests, r)
    lanes.end[r] = now + lasting(lanes, tables, r, lanes.planned[r])


@hot
def leap(rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, r: int) -> None:
    """Plan decode steps until the first sequence ends, memory is full, or the head of the queue is ready."""
    k = requests.last[lanes.ends[r * (rules.most + 1)]] // TURNS - lanes.steps[r]
    k = max(fitting(rules, lanes, r, k), 1)
    head, open_slot = lanes.head[r], lanes.running[r] < rules.most
    if head != NONE and open_slot and not seen(rules, lanes, requests, r, head):
        k = min(k, seeing(rules, tables, lanes, requests, r, head))
    lanes.planned[r] = k
    lanes.cut[r] = 1 if open_slot else 0


@inner
def shortened(rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, r: int, q: int) -> bool:
    """End the lane's leap with the first step after which it has seen a request; return whether it changed."""
    if lanes.cut[r] == 0 or lanes.planned[r] <= 1 or requests.ready[q] >= lanes.end[r]:
        return False
    k = seeing(rules, tables, lanes, requests, r, q)
    if k >= lanes.planned[r]:
        return False
    lanes.planned[r] = k
    lanes.end[r] = lanes.now[r] + lasting(lanes, tables, r, k)
    return True


@hot
def spread(rules: Ruleset, fleet: Shared, start: float, end: float, held: int, blocks: int) -> None:
    """Count a step or leap in every bin that it passes: its time, and blocks, which grow evenly from those held."""
    first, last = min(int(start / rules.bin), rules.bins - 1), min(int(end / rules.bin), rules.bins - 1)
    if first == last:
        fleet.used[first] += (end - start) * (held + 0.5 * blocks)
        fleet.worked[first] += end - start
        return
    for at in range(first, last + 1):
        since, until = max(start, at * rules.bin), end if at == last else (at + 1) * rules.bin
        grown = blocks * (0.5 * (since + until) - start) / (end - start)
        fleet.used[at] += (until - since) * (held + grown)
        fleet.worked[at] += until - since


@hot
def counted(rules: Ruleset, lanes: Lanes, fleet: Shared, r: int, blocks: int) -> None:
    """Count the lane's step or leap: its time, blocks in use and gaps between tokens."""
    k, span = lanes.planned[r], lanes.end[r] - lanes.now[r]
    spread(rules, fleet, lanes.now[r], lanes.end[r], rules.room - lanes.free[r] - lanes.idle[r], blocks)
    lanes.busy[r] += span
    fleet.count[STEPS] += k
    fleet.count[LEAPS] += 1
    if lanes.paused[r]:
        lanes.stalled[r] += span
    elif lanes.writing[r] > 0:
        fleet.gaps[bucket(span / k)] += (k - 1) * lanes.writing[r]
        fleet.gaps[bucket(span / k + lanes.stalled[r])] += lanes.writing[r]
        lanes.stalled[r] = 0.0
