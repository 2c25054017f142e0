"""What a lane's scheduler has seen when it plans a step: requests that came some steps before.

A fitted server takes up a request `Ruleset.poll` steps after the one in which it came, whatever they hold: prompts that
are read meanwhile make the wait longer. So the ends of as many steps are remembered. One that looks for requests once
in several steps (`Ruleset.interval`; SGLang's scheduler_recv_interval) takes up together what came between two looks.
"""

from math import ceil, sqrt

from kvplan.perf.simulate.compiled import hot, inner
from kvplan.perf.simulate.prefixes import hashed
from kvplan.perf.simulate.state import Lanes, Requests, Ruleset, Tables

#: moments of a step that a closed loop's request may come at
FINE = 1 << 20


def remembered(poll: float, interval: int = 1) -> int:
    """Return the ends of steps that a lane remembers."""
    return int(poll) + interval + 1 if poll > 0.0 or interval > 1 else 0


def among(poll: float, slots: float) -> float:
    """Return the steps a request of a closed loop waits for the scheduler, where `slots` run on a lane at a time.

    The fit counts `poll` as often as another runs when one arrives, 1 - 1 / slots (`serving.company`): fitted without
    that, loops of 4 in flight are 8.5 instead of 7.8 % off (benchmarks/NOTES.md).
    """
    return poll * (1.0 - 1.0 / max(slots, 1.0))


@hot
def lasting(lanes: Lanes, tables: Tables, r: int, k: int) -> float:
    """Return how long the lane's next k decode steps take: each is longer than the one before by its new tokens. [s]"""
    n = lanes.writing[r]
    return k * lanes.each[r] + tables.slope[n] * n * (0.5 * k * (k - 1))


@inner
def reaching(lanes: Lanes, tables: Tables, r: int, seconds: float) -> int:
    """Return the fewest decode steps, 1 at least, that take so long."""
    n = lanes.writing[r]
    g = tables.slope[n] * n
    if g > 0.0:
        b = lanes.each[r] - g / 2
        k = ceil((sqrt(b * b + 2 * g * max(seconds, 0.0)) - b) / g)
    else:
        k = ceil(seconds / lanes.each[r])
    k = max(k, 1)
    while k > 1 and lasting(lanes, tables, r, k - 1) >= seconds:
        k -= 1
    while lasting(lanes, tables, r, k) < seconds:
        k += 1
    return k


@inner
def passed(rules: Ruleset, tables: Tables, lanes: Lanes, r: int, k: int) -> None:
    """Remember when the lane's k steps ended, steps of prompts alone too; of a lane at rest (0 steps) all have."""
    looks = rules.looks
    if looks == 0:
        return
    lanes.ticks[r] += k
    for j in range(min(k, looks) if k > 0 else looks):
        ended = lanes.end[r] if j == 0 or k == 0 else lanes.now[r] + lasting(lanes, tables, r, k - j)
        lanes.past[r * looks + (lanes.ticks[r] - j) % looks] = ended


@inner
def seen(rules: Ruleset, lanes: Lanes, requests: Requests, r: int, q: int) -> bool:
    """Return whether the lane, between two steps, has seen a request; one that was preempted is known already."""
    looks = rules.looks
    if looks == 0 or requests.again[q] > 0:
        return requests.ready[q] <= lanes.now[r]
    whole = int(rules.poll)
    look = (lanes.ticks[r] - whole) // rules.interval * rules.interval
    late = lanes.past[r * looks + look % looks]
    before = lanes.past[r * looks + (look - 1) % looks]
    return requests.ready[q] <= late - (rules.poll - whole) * (late - before)


@inner
def seeing(rules: Ruleset, tables: Tables, lanes: Lanes, requests: Requests, r: int, q: int) -> int:
    """Return the decode steps after which a lane that does nothing else has seen a request."""
    looks, ready, now = rules.looks, requests.ready[q], lanes.now[r]
    if looks == 0 or requests.again[q] > 0:
        return reaching(lanes, tables, r, ready - now)
    k, ago = 1, 0
    late, before = now + lasting(lanes, tables, r, 1), now
    if ready > now:
        k = reaching(lanes, tables, r, ready - now)
        late, before = now + lasting(lanes, tables, r, k), now + lasting(lanes, tables, r, k - 1)
    while ready < before and ago < looks - 1:
        ago += 1
        late, before = before, lanes.past[r * looks + (lanes.ticks[r] - ago) % looks]
    rest = (late - ready) / (late - before) if late > before else 0.0
    whole, since = int(rules.poll), lanes.ticks[r] % rules.interval
    look = ceil((k - ago - rest + rules.poll - whole + since) / rules.interval) * rules.interval - since
    return max(look + whole, 1)


@inner
def later(lanes: Lanes, r: int, at: float, name: int) -> float:
    """Return how long after a step's end a closed loop's next request comes: at any moment of the lane's next step.

    What passes on the way there and back has nothing to do with steps. A lane at rest, or amid a step, has none. [s]
    """
    if lanes.planned[r] == 0 or lanes.now[r] < at:
        return 0.0
    step = lanes.end[r] - lanes.now[r] if lanes.planned[r] == 1 else lanes.each[r]
    return (hashed(name, 0) % FINE) / FINE * step
