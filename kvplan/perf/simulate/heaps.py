"""Heaps that know where each item is, so that any of them can leave or move; several lie in one array.

`heap[base + i]` holds items, `place[item]` its i, `key[item]` what it is ordered by (then by the item itself).
"""

from typing import Any

from kvplan.perf.simulate.compiled import hot, inner

Array = Any


@hot
def before(key: Array, a: int, b: int) -> bool:
    """Return whether item a leaves before item b."""
    return bool(key[a] < key[b] or (key[a] == key[b] and a < b))


@hot
def rise(heap: Array, place: Array, key: Array, base: int, i: int) -> None:
    """Move the item at i towards the top until its parent leaves before it."""
    item = heap[base + i]
    while i > 0:
        up = (i - 1) >> 1
        other = heap[base + up]
        if not before(key, item, other):
            break
        heap[base + i] = other
        place[other] = i
        i = up
    heap[base + i] = item
    place[item] = i


@hot
def sink(heap: Array, place: Array, key: Array, base: int, i: int, n: int) -> None:
    """Move the item at i away from the top of n until it leaves before its children."""
    item = heap[base + i]
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and before(key, heap[base + child + 1], heap[base + child]):
            child += 1
        other = heap[base + child]
        if before(key, item, other):
            break
        heap[base + i] = other
        place[other] = i
        i = child
    heap[base + i] = item
    place[item] = i


@inner
def push(heap: Array, place: Array, key: Array, base: int, n: int, item: int) -> None:
    """Add an item to a heap of n."""
    heap[base + n] = item
    rise(heap, place, key, base, n)


@inner
def remove(heap: Array, place: Array, key: Array, base: int, n: int, item: int) -> None:
    """Take an item out of a heap of n."""
    i = place[item]
    last = heap[base + n - 1]
    if last != item:
        heap[base + i] = last
        place[last] = i
        moved(heap, place, key, base, n - 1, last)
    place[item] = -1


@hot
def moved(heap: Array, place: Array, key: Array, base: int, n: int, item: int) -> None:
    """Find the place of an item whose key has changed."""
    rise(heap, place, key, base, place[item])
    sink(heap, place, key, base, place[item], n)
