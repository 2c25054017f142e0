"""Causal prefill attention."""

from dataclasses import dataclass
from math import ceil

from kvplan.perf.kernel_time.terms import Number, coefficient, settled

#: rows and columns of the score matrix one block computes at a time
QUERY_TILE = KEY_TILE = 128

#: the share of the L2 that the tensors of one layer can use before they push each other out
L2_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class PrefillCoefficients:
    """One causal prefill attention kernel on one GPU, with writing the new keys and values."""

    start: float = coefficient("s", "launch and prologue", 8e-6, optional=True)
    rate: float = coefficient("FLOP/s", "rate of the tiles on or below the diagonal", 0.6, "rate", most=1.0)
    query_bandwidth: float = coefficient("B/s", "rate of queries in and outputs out", 1.0, "bandwidth", optional=True)
    cache_bandwidth: float = coefficient("B/s", "rate of keys and values in", 1.0, "bandwidth", optional=True)
    block_start: float = coefficient("s", "start-up of a block of 128 queries", 5e-7, optional=True)
    tail: float = coefficient("1", "share of the longest block that nothing overlaps", 0.3, optional=True)
    slowdown: float = coefficient("1", "share of the rate lost under sustained load", 0.1, "", True, 1.0)
    spill: float = coefficient("1", "extra time of tensors that leave the L2", 1.0, optional=True)


@dataclass(frozen=True)
class PrefillWork:
    """Counted work of one prefill attention. rounds: blocks an SM; longest: FLOPs of the last block on every SM."""

    flops: Number  #: of all tiles on or below the diagonal [FLOP]
    longest: Number  #: of the last block, on every SM [FLOP]
    rounds: Number  #: blocks an SM
    queries: Number  #: queries in and outputs out [B]
    cache: Number  #: keys and values in [B]
    spilled: Number  #: 0 to 1: how far the tensors exceed their share of the L2


def causal_tiles(length: int) -> int:
    """Return the tiles on or below the diagonal of one head's score matrix."""
    rows = ceil(length / QUERY_TILE)
    return rows * (rows + 1) // 2


def prefill_work(
    *, batch: int, q_heads: int, kv_heads: int, head_dim: int, length: int, sms: int, l2: float
) -> PrefillWork:
    """Return the work of one layer over `batch` prompts of `length` tokens; tiles above the diagonal are skipped.

    Queries, outputs and the new keys and values move in 16 bits.
    """
    tile = 4.0 * head_dim * QUERY_TILE * KEY_TILE
    rows = ceil(length / QUERY_TILE)
    queries = 4.0 * batch * q_heads * length * head_dim
    cache = 4.0 * batch * kv_heads * length * head_dim
    return PrefillWork(
        flops=batch * q_heads * causal_tiles(length) * tile,
        longest=rows * tile * sms,
        rounds=batch * q_heads * rows / sms,
        queries=queries,
        cache=cache,
        spilled=min(1.0, max(0.0, (queries + cache) / (L2_SHARE * l2) - 1)),
    )


def prefill_algebra(w: PrefillWork, c: PrefillCoefficients) -> Number:
    """Return the time of prefill attention from its counted work. [s]"""
    computing = settled(w.flops / c.rate + w.rounds * c.block_start, c.slowdown)
    moving = w.queries / c.query_bandwidth + w.cache / c.cache_bandwidth
    return c.start + computing + c.tail * w.longest / c.rate + moving * (1 + c.spill * w.spilled)
