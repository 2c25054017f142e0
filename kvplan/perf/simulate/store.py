"""Room for a simulation's state: lists in plain Python, arrays under numba."""

from collections.abc import Sequence
from typing import Any

from kvplan.perf.simulate.state import (
    ACTIVE,
    COUNTS,
    ITEMS,
    NEVER,
    NONE,
    SLOTS,
    Cache,
    Lanes,
    Records,
    Requests,
    Ruleset,
    Shared,
)

Array = Any
#: fields that hold times, not whole numbers
FLOATS = {
    "now", "end", "each", "stalled", "busy", "past", "came", "ready", "admitted", "first", "clock", "used", "worked",
    "base", "slope", "more", "attention", "fetch", "link", "at",
}  # fmt: skip


def filled(fast: bool, name: str, size: int, value: float = 0) -> Array:
    """Return a list or an array of one value."""
    if not fast:
        return [float(value) if name in FLOATS else int(value)] * size
    import numpy as np

    return np.full(size, value, dtype=np.float64 if name in FLOATS else np.int64)


def column(fast: bool, name: str, values: Any) -> Array:
    """Return values as a list or an array."""
    if not fast:
        return values.tolist() if hasattr(values, "tolist") else list(values)
    import numpy as np

    return np.ascontiguousarray(values, dtype=np.float64 if name in FLOATS else np.int64)


def lanes(r: Ruleset, fast: bool, rooms: Sequence[int] = ()) -> Lanes:
    """Return idle lanes with empty memory, and empty tiers of so many blocks."""
    sizes = {
        "residues": r.lanes * r.unit,
        "prompts": r.lanes * (r.most + 1),
        "ends": r.lanes * (r.most + 1),
        "past": r.lanes * r.looks,
    }
    sizes |= dict.fromkeys(("free", "idle", "cold", "warm"), r.lanes * (r.tiers + 1))
    values = {"end": NEVER, "head": NONE, "tail": NONE, "last": NONE, "cold": NONE, "warm": NONE, "active": 1,
              "free": r.room}  # fmt: skip
    made = {f: filled(fast, f, sizes.get(f, r.lanes), values.get(f, 0)) for f in Lanes._fields}
    for t, room in enumerate(rooms):
        made["free"][r.lanes * (t + 1) : r.lanes * (t + 2)] = filled(fast, "free", r.lanes, room)
    return Lanes(**{**made, "order": column(fast, "order", range(r.lanes))})


def requests(r: Ruleset, fast: bool, size: int) -> Requests:
    """Return free slots."""
    wide = {"keys", "tokens", "items"}
    return Requests(**{f: filled(fast, f, size * (r.width if f in wide else 1)) for f in Requests._fields})


def grown(old: Requests, r: Ruleset, fast: bool, fleet: Shared) -> tuple[Requests, Shared]:
    """Return twice as many slots, the first of them as they were; all old ones are in use."""
    size = len(old.name)
    more = requests(r, fast, size)
    if fast:
        import numpy as np

        both = Requests(*(np.concatenate(pair) for pair in zip(old, more, strict=True)))
    else:
        both = Requests(*(a + b for a, b in zip(old, more, strict=True)))
    slots = filled(fast, "slots", 2 * size)
    slots[:size] = column(fast, "slots", range(2 * size - 1, size - 1, -1))
    fleet.count[SLOTS] += size
    return both, fleet._replace(slots=slots)


def cache(fast: bool, items: int, seen: int) -> Cache:
    """Return an empty prefix cache for so many items; the router remembers `seen` contents."""
    table = 4
    while table < 2 * items:
        table *= 2
    sizes = {"table": table, "seen_key": seen, "seen_lane": seen}
    made = {f: filled(fast, f, sizes.get(f, items), NONE) for f in Cache._fields}
    made["spare"] = column(fast, "spare", range(items - 1, -1, -1))
    return Cache(**made)


def fleet(r: Ruleset, fast: bool, slots: int, items: int, buckets: int) -> Shared:
    """Return what is of all lanes together, at time 0."""
    made = {
        "count": filled(fast, "count", COUNTS), "clock": filled(fast, "clock", 1),
        "lanes": column(fast, "lanes", range(r.lanes)), "place": column(fast, "place", range(r.lanes)),
        "loads": column(fast, "loads", range(r.lanes)),
        "stand": column(fast, "stand", [*range(r.readers), *range(r.lanes - r.readers)]),
        "slots": column(fast, "slots", range(slots - 1, -1, -1)), "gaps": filled(fast, "gaps", buckets),
        "used": filled(fast, "used", r.bins), "worked": filled(fast, "worked", r.bins),
    }  # fmt: skip
    one = Shared(**made)
    one.count[SLOTS], one.count[ITEMS] = slots, items
    one.count[ACTIVE], one.count[ACTIVE + 1] = r.readers, r.lanes - r.readers
    return one


def records(fast: bool, size: int) -> Records:
    """Return room for so many requests that have left."""
    return Records(**{f: filled(fast, f, size) for f in Records._fields})
