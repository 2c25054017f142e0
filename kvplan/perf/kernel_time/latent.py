"""Decode attention over a latent (MLA)."""

from dataclasses import dataclass
from math import ceil

from kvplan.perf.kernel_time.grid import Grid, decode_grid
from kvplan.perf.kernel_time.terms import Number, choice, coefficient, overlapped

#: keys and queries of one multi-head-latent head: 512 latent + 64 rope elements read, 512 written
LATENT_KEY, LATENT_VALUE = 576, 512

#: heads one block computes: a fixed tile, or 16 up to 32 heads and 128 beyond (TensorRT-LLM on Blackwell)
HEAD_TILES = ("16", "64", "128", "16 or 128")


@dataclass(frozen=True, kw_only=True)
class LatentCoefficients:
    """One multi-head-latent decode kernel on one GPU."""

    start: float = coefficient("s", "launch, prologue and last reduction", 1.5e-5, optional=True)
    bandwidth: float = coefficient("B/s", "rate of reading the latent cache", 0.9, "bandwidth", most=1.0)
    rate: float = coefficient("FLOP/s", "rate of the products, heads padded to the tile", 0.5, "rate", True, 1.0)
    narrow_rate: float = coefficient("FLOP/s", "the same of a kernel for few heads", 0.3, "rate", optional=True)
    block_start: float = coefficient("s", "start-up of a block", 2e-6, optional=True)
    combine: float = coefficient("s", "joining the parts of a split sequence", 3e-6, optional=True)
    query_bandwidth: float = coefficient("B/s", "rate of queries in and outputs out", 0.6, "bandwidth", optional=True)
    split_penalty: float = coefficient("1", "share of reading time added when sequences are split", 0.05, "", True, 3.0)
    single_head: float = coefficient("1", "share of computing time added with one head", 0.05, optional=True)
    floor: float = coefficient("s", "least time: the host launches no faster", 1e-4, optional=True)
    head_tile: str = choice("heads one block computes", "64")
    split: str = choice("who splits a sequence", "balanced")
    blocks_per_sm: int = choice("blocks resident on one SM", 1)


@dataclass(frozen=True)
class LatentWork:
    """Counted work of one latent decode. flops: those of one round of blocks on every SM."""

    cache: Number  #: latents read [B]
    queries: Number  #: queries in and outputs out [B]
    flops: Number  #: of one round of blocks on every SM [FLOP]
    narrow: Number  #: 1 where the kernel for few heads runs
    single: Number  #: 1 for a single head
    grid: Grid  #: how it fills the GPU


def head_tile(heads: int, tile: str) -> int:
    """Return how many heads a block computes, for a choice of HEAD_TILES."""
    return (16 if heads <= 32 else 128) if tile == "16 or 128" else int(tile)


def latent_work(*, batch: int, q_heads: int, kv_len: int, bits: float, sms: int, c: LatentCoefficients) -> LatentWork:
    """Return the work of one layer: the latent read once, every tile of heads a block of its own."""
    tile = head_tile(q_heads, c.head_tile)
    slots = sms * c.blocks_per_sm
    grid = decode_grid(batch * ceil(q_heads / tile), kv_len, slots, c.split)
    return LatentWork(
        cache=batch * kv_len * LATENT_KEY * bits / 8,
        queries=2.0 * batch * q_heads * (LATENT_KEY + LATENT_VALUE),
        flops=grid.tokens * tile * 2 * (LATENT_KEY + LATENT_VALUE) * slots,
        narrow=float(tile == 16 and " or " in c.head_tile),
        single=float(q_heads == 1),
        grid=grid,
    )


def latent_algebra(w: LatentWork, c: LatentCoefficients) -> Number:
    """Return the time of latent decode from its counted work, at least the floor. [s]"""
    pace = w.narrow / c.narrow_rate + (1 - w.narrow) / c.rate
    reading = w.cache / c.bandwidth * (1 + c.split_penalty * w.grid.split)
    computing = w.grid.waves * (w.flops * pace * (1 + c.single_head * w.single) + c.block_start)
    time = c.start + overlapped(reading, computing) + c.combine * w.grid.split + w.queries / c.query_bandwidth
    return overlapped(time, c.floor, 8.0)
