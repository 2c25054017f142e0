"""Splitting a decode over the GPU."""

from dataclasses import dataclass
from math import ceil

from kvplan.perf.kernel_time.terms import Number

#: who decides into how many parts a sequence is split
SPLITS = ("balanced", "never", "fill", "flash-attention", "4 parts", "from 512 tokens", "from 1024 tokens")

#: keys and values are cut into tiles of this many tokens
TOKEN_TILE = 128


@dataclass(frozen=True)
class Grid:
    """How a decode fills the GPU: parts a sequence, rounds of blocks, tokens a block reads."""

    split: Number  #: 1 where sequences are split, else 0
    waves: Number  #: rounds of blocks
    tokens: Number  #: tokens one block reads [token]


def flash_attention_parts(blocks: int, sms: int, tiles: int) -> int:
    """Return flash-attention's number of splits: the fewest that reach 85 % of the best occupancy.

    Source: num_splits_heuristic, Dao-AILab/flash-attention hopper/heuristics.h.
    """
    if blocks >= 0.8 * sms or tiles <= 4:
        return 1
    occupancy = [blocks * parts / sms / ceil(blocks * parts / sms) for parts in range(1, min(128, sms, tiles) + 1)]
    return next(i for i, share in enumerate(occupancy, 1) if share >= 0.85 * max(occupancy))


def decode_grid(blocks: int, tokens: int, slots: int, rule: str) -> Grid:
    """Return how `blocks` independent blocks of `tokens` tokens are split over `slots` places for blocks."""
    tiles = ceil(tokens / TOKEN_TILE)
    if rule.startswith("from") and tokens >= int(rule.split()[1]):
        return Grid(split=1.0, waves=blocks / slots, tokens=float(tiles * TOKEN_TILE))
    parts = 1
    if rule == "fill":
        parts = max(1, min(slots // blocks, tiles))
    elif rule == "flash-attention":
        parts = flash_attention_parts(blocks, slots, tiles)
    elif rule == "4 parts":
        parts = min(4, tiles)
    waves = blocks / slots if rule == "balanced" else float(ceil(blocks * parts / slots))
    return Grid(split=float(parts > 1), waves=waves, tokens=float(ceil(tiles / parts) * TOKEN_TILE))
