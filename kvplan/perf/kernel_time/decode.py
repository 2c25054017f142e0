"""Decode attention."""

from dataclasses import dataclass

from kvplan.perf.kernel_time.grid import Grid, decode_grid
from kvplan.perf.kernel_time.terms import Number, choice, coefficient, overlapped


@dataclass(frozen=True, kw_only=True)
class DecodeCoefficients:
    """One decode attention kernel on one GPU."""

    start: float = coefficient("s", "launch, prologue and last reduction", 1e-5, optional=True)
    bandwidth: float = coefficient("B/s", "rate of reading the cache with all SMs busy", 0.9, "bandwidth", most=1.0)
    block_bandwidth: float = coefficient("B/s", "rate at which one block can read", 1.0, "sm_bandwidth", optional=True)
    block_start: float = coefficient("s", "start-up of a block: one sequence, KV head and split", 1e-6, optional=True)
    combine: float = coefficient("s", "joining the parts of a split sequence", 3e-6, optional=True)
    interleaving: float = coefficient("1", "share of time added when KV heads lie interleaved", 0.01, "", True, 1.0)
    split: str = choice("who splits a sequence", "balanced")
    blocks_per_sm: int = choice("blocks resident on one SM", 1)


@dataclass(frozen=True)
class DecodeWork:
    """Counted work of one decode attention."""

    cache: Number  #: keys and values read [B]
    queries: Number  #: queries in and outputs out [B]
    spread: Number  #: 1 - 1 / KV heads: how far a head's tokens lie apart
    token: Number  #: keys and values of a token and head [B]
    grid: Grid  #: how it fills the GPU


def decode_work(
    *, batch: int, q_heads: int, kv_heads: int, head_dim: int, kv_len: int, bits: float, sms: int, c: DecodeCoefficients
) -> DecodeWork:
    """Return the work of one layer: K and V read once, queries in and outputs out at 16 bits."""
    token = 2 * head_dim * bits / 8
    return DecodeWork(
        cache=batch * kv_heads * kv_len * token,
        queries=4.0 * batch * q_heads * head_dim,
        spread=1 - 1 / kv_heads,
        token=token,
        grid=decode_grid(batch * kv_heads, kv_len, sms * c.blocks_per_sm, c.split),
    )


def decode_algebra(w: DecodeWork, c: DecodeCoefficients) -> Number:
    """Return the time of decode attention from its counted work. [s]"""
    reading = (w.cache * (1 + c.interleaving * w.spread) + w.queries) / c.bandwidth
    blocks = w.grid.waves * (w.grid.tokens * w.token / c.block_bandwidth + c.block_start)
    return c.start + overlapped(reading, blocks) + c.combine * w.grid.split
