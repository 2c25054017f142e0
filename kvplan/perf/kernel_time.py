"""How long one kernel takes: tiles, waves, bytes and rates, with few coefficients that each mean something.

Every kernel is written in two steps. `*_work` turns a shape and the library's discrete choices (tile, splits, blocks an
SM) into counted quantities; `*_algebra` turns these and the coefficients of a (GPU, engine, kernel, dtype) into a time.
The algebra uses only `+ - * / ** abs`, so that a fit may pass numpy arrays where a prediction passes floats.

Sources: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; NVIDIA, "Matrix Multiplication Background"
(tile and wave quantisation); Dao-AILab/flash-attention hopper/heuristics.h (splits); Thakur et al., IJHPCA 19(1), 2005
(rings).
"""

from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

#: a float, or while fitting a numpy array of them
Number = Any

#: keys and queries of one multi-head-latent head: 512 latent + 64 rope elements read, 512 written
LATENT_KEY, LATENT_VALUE = 576, 512
#: power and clock settle within about this time of full load [s]
SETTLING = 1e-3


def coefficient(
    unit: str, meaning: str, start: float, scale: str = "", optional: bool = False, most: float = inf
) -> Any:
    """Declare a fitted coefficient: its unit, meaning, first guess and bound (factors of the GPU's `scale` if named).

    An optional coefficient that rows cannot tell from its neutral value (no time, or an unlimited rate) is left out.
    """
    neutral = inf if unit.endswith("/s") else 0.0
    metadata = {"unit": unit, "meaning": meaning, "start": start, "scale": scale, "optional": optional, "most": most}
    return field(default=neutral, metadata=metadata) if optional else field(metadata=metadata)


def choice(meaning: str, default: Any) -> Any:
    """Declare a discrete choice of the library, found by cross-validation."""
    return field(default=default, metadata={"meaning": meaning, "choice": True})


def larger(a: Number, b: Number) -> Number:
    """Return the larger of two amounts, element by element."""
    return (a + b + abs(a - b)) / 2


def smaller(a: Number, b: Number) -> Number:
    """Return the smaller of two amounts, element by element."""
    return (a + b - abs(a - b)) / 2


def overlapped(a: Number, b: Number, power: float = 4.0) -> Number:
    """Return the time of two overlapping activities: the longer, and a little more when they are alike."""
    return (a**power + b**power) ** (1 / power)


def fastest(times: list[Number], power: float = 6.0) -> Number:
    """Return the time of the fastest of several algorithms, a little less where they tie."""
    total = times[0] ** -power
    for time in times[1:]:
        total = total + time**-power
    return total ** (-1 / power)


def settled(time: Number, slowdown: Number) -> Number:
    """Return a time at full power stretched by the share the clock loses under sustained load."""
    return time * (1 + slowdown * time / (time + SETTLING))


# -- splitting a decode over the GPU ---------------------------------------------------------------

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
    return next(i for i, found in enumerate(occupancy, 1) if found >= 0.85 * max(occupancy))


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


# -- decode attention ------------------------------------------------------------------------------


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


def decode_attention_time(
    *, batch: int, q_heads: int, kv_heads: int, head_dim: int, kv_len: int, bits: float, sms: int, c: DecodeCoefficients
) -> float:
    """Return the time of one layer's decode attention: the cache's bytes, or rounds of blocks, whichever binds. [s]"""
    work = decode_work(
        batch=batch, q_heads=q_heads, kv_heads=kv_heads, head_dim=head_dim, kv_len=kv_len, bits=bits, sms=sms, c=c
    )
    return float(decode_algebra(work, c))


# -- latent (MLA) decode ---------------------------------------------------------------------------

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


def latent_decode_time(*, batch: int, q_heads: int, kv_len: int, bits: float, sms: int, c: LatentCoefficients) -> float:
    """Return the time of one layer's latent decode: cache bytes against products of padded head tiles. [s]"""
    work = latent_work(batch=batch, q_heads=q_heads, kv_len=kv_len, bits=bits, sms=sms, c=c)
    return float(latent_algebra(work, c))


# -- prefill attention -----------------------------------------------------------------------------

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
    *, batch: int, q_heads: int, kv_heads: int, head_dim: int, length: int, bits: float, sms: int, l2: float
) -> PrefillWork:
    """Return the work of one layer over `batch` prompts of `length` tokens; tiles above the diagonal are skipped."""
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


def prefill_attention_time(
    *,
    batch: int,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    length: int,
    bits: float,
    sms: int,
    l2: float,
    c: PrefillCoefficients,
) -> float:
    """Return the time of one layer's causal attention over whole prompts. [s]"""
    work = prefill_work(
        batch=batch,
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        length=length,
        bits=bits,
        sms=sms,
        l2=l2,
    )
    return float(prefill_algebra(work, c))


# -- matrix products -------------------------------------------------------------------------------

#: sets of tiles (rows x columns of the product) a library chooses from
TILES = (
    "64x64 64x128 128x128 128x256 256x128",
    "16x64 32x64 64x64 64x128 128x128 128x256 256x128",
    "128x64 128x128 128x192 128x256 256x128 256x256",
)
#: weight-only kernels of at most this many rows multiply without tensor cores, as fast as weights arrive
VECTOR_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class GemmCoefficients:
    """One matrix product kernel on one GPU. Everything an engine does for the product counts: quantising, too."""

    start: float = coefficient("s", "launch, prologue and epilogue", 5e-6, optional=True)
    bandwidth: float = coefficient("B/s", "rate of reading weights and activations", 0.85, "bandwidth", most=1.0)
    rate: float = coefficient("FLOP/s", "rate of full waves of tiles", 0.75, "rate", most=1.0)
    block_start: float = coefficient("s", "start-up and write-out of a tile", 1e-6, optional=True)
    reduce: float = coefficient("s", "adding the parts of a split k", 2e-6, optional=True)
    operand_bandwidth: float = coefficient("B/s", "rate at which an SM is fed", 10.0, "sm_bandwidth", optional=True)
    slowdown: float = coefficient("1", "share of the rate lost under sustained load", 0.1, "", True, 1.0)
    quantise_bandwidth: float = coefficient("B/s", "rate of quantising activations", 1.0, "bandwidth", optional=True)
    output_bandwidth: float = coefficient("B/s", "rate of writing the product", 3.0, "bandwidth", optional=True)
    spill_bandwidth: float = coefficient("B/s", "rate for tensors beyond the L2", 3.0, "bandwidth", optional=True)
    unpack_bandwidth: float = coefficient("B/s", "rate at which an SM unpacks weights", 1e11, optional=True)
    tiles: str = choice("tiles the library chooses from", TILES[0])
    split_k: str = choice("parts k may be split into", "1")


@dataclass(frozen=True)
class Tiling:
    """One way to tile a product. waves: rounds of tiles; depth: k of one part; area, edge, width in elements."""

    waves: Number  #: rounds of tiles
    depth: Number  #: k of one part [element]
    area: Number  #: rows x columns of a tile [element]
    edge: Number  #: rows + columns of a tile [element]
    width: Number  #: columns of a tile [element]
    split: Number  #: 1 where k is split


@dataclass(frozen=True)
class GemmWork:
    """Counted work of one product."""

    bytes: Number  #: weights, activations and product [B]
    quantised: Number  #: activations read and written to quantise them [B]
    output: Number  #: product written [B]
    spilled: Number  #: activations and product beyond the L2 [B]
    operand: Number  #: width of an operand [B]
    packed: Number  #: width of a weight that is unpacked [B], 0 where none is
    vector: Number  #: 1 where no tensor core multiplies
    sms: Number  #: SMs of the GPU
    tilings: tuple[Tiling, ...]  #: ways the library may tile it


def tilings(m: int, n: int, k: int, sms: int, c: GemmCoefficients) -> tuple[Tiling, ...]:
    """Return every way the library may tile a product of [m, k] x [k, n]: a tile and a split of k each."""
    found = []
    for tile in c.tiles.split():
        rows, columns = map(int, tile.split("x"))
        for parts in map(int, c.split_k.split()):
            waves = ceil(ceil(m / rows) * ceil(n / columns) * parts / sms)
            found.append(Tiling(waves, k / parts, rows * columns, rows + columns, columns, float(parts > 1)))
    return tuple(found)


def gemm_work(
    *, m: int, n: int, k: int, weight_bits: float, bits: float, sms: int, l2: float, c: GemmCoefficients
) -> GemmWork:
    """Return the work of [m, k] x [k, n]: activations arrive at 16 bits, are quantised when `bits` is fewer."""
    packed = weight_bits < bits
    return GemmWork(
        bytes=weight_bits / 8 * n * k + bits / 8 * m * k + 2.0 * m * n,
        quantised=(2 + bits / 8) * m * k if bits < 16 else 0.0,
        output=2.0 * m * n,
        spilled=max(0.0, m * k * (2.0 + (bits < 16)) + 2.0 * m * n - l2),
        operand=bits / 8,
        packed=weight_bits / 8 if packed else 0.0,
        vector=float(packed and m <= VECTOR_ROWS),
        sms=sms,
        tilings=tilings(m, n, k, sms, c),
    )


def gemm_algebra(w: GemmWork, c: GemmCoefficients) -> Number:
    """Return the time of a product from its counted work, by its fastest tiling. [s]"""
    computing = None
    for t in w.tilings:
        products = 2 * t.area * w.sms / c.rate
        feeding = w.operand * t.edge / c.operand_bandwidth
        step = overlapped(products, feeding) + w.packed * t.width / c.unpack_bandwidth
        time = t.waves * (t.depth * step + c.block_start + c.reduce * t.split)
        computing = time if computing is None else smaller(computing, time)
    assert computing is not None
    computing = settled(computing * (1 - w.vector), c.slowdown)
    aside = w.quantised / c.quantise_bandwidth + w.output / c.output_bandwidth + w.spilled / c.spill_bandwidth
    return c.start + overlapped(w.bytes / c.bandwidth, computing) + aside


def gemm_time(
    m: int, n: int, k: int, *, weight_bits: float, bits: float, sms: int, l2: float, c: GemmCoefficients
) -> float:
    """Return the time of one [m, k] x [k, n] product: bytes, or waves of the best tile, whichever binds. [s]"""
    return float(gemm_algebra(gemm_work(m=m, n=n, k=k, weight_bits=weight_bits, bits=bits, sms=sms, l2=l2, c=c), c))


# -- all-reduce ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AllReduceCoefficients:
    """All-reduce inside one node: NCCL's three protocols, and an engine's own kernels where it has them.

    Bandwidths count a ring's traffic, 2 (n - 1) / n of the message; `one_shot` sends it whole to n - 1 others.
    """

    low_latency_start: float = coefficient("s", "NCCL's low-latency protocol: start", 5e-6)
    low_latency_peer: float = coefficient("s", "and for each further GPU", 1.5e-6, optional=True)
    low_latency_bandwidth: float = coefficient("B/s", "and its rate", 0.1, "link")
    middle_start: float = coefficient("s", "NCCL's middle protocol (LL128): start", 8e-6)
    middle_peer: float = coefficient("s", "and for each further GPU", 2e-6, optional=True)
    middle_bandwidth: float = coefficient("B/s", "and its rate", 0.3, "link")
    bulk_start: float = coefficient("s", "NCCL's bulk protocol: start", 2e-5)
    bulk_peer: float = coefficient("s", "and for each further GPU", 5e-6, optional=True)
    bulk_bandwidth_2: float = coefficient("B/s", "and its rate among 2 GPUs", 0.6, "link")
    bulk_bandwidth_4: float = coefficient("B/s", "among 4 (the switch adds up where it can)", 0.7, "link")
    bulk_bandwidth_8: float = coefficient("B/s", "among 8", 0.8, "link")
    one_shot_start: float = coefficient("s", "the engine's kernel, one shot: start", 4e-6, optional=True)
    one_shot_peer: float = coefficient("s", "and for each further GPU", 3e-7, optional=True)
    one_shot_bandwidth: float = coefficient("B/s", "and its rate", 0.5, "link", optional=True)
    two_shot_start: float = coefficient("s", "the engine's kernel, two shots: start", 8e-6, optional=True)
    two_shot_peer: float = coefficient("s", "and for each further GPU", 1e-6, optional=True)
    two_shot_bandwidth: float = coefficient("B/s", "and its rate", 0.5, "link", optional=True)
    own_up_to: float = choice("largest message for the engine's own kernels [B]; 0: it has none", 0.0)


@dataclass(frozen=True)
class AllReduceWork:
    """Counted work of one all-reduce among 1 + `peers` GPUs.

    own: 1 where the engine's kernels may be used; shared: 1 where they share a bus (PCIe): all protocols slow alike.
    """

    message: Number  #: message of each GPU [B]
    ring: Number  #: traffic of a ring: 2 (n - 1) / n of the message [B]
    peers: Number  #: GPUs beside the own
    of_2: Number  #: 1 among 2 GPUs
    of_4: Number  #: 1 among 3 or 4
    of_8: Number  #: 1 among more
    own: Number  #: 1 where the engine's own kernels may be used
    shared: Number  #: 1 where GPUs share a bus (PCIe)


def all_reduce_work(*, gpus: int, message: float, switched: bool, c: AllReduceCoefficients) -> AllReduceWork:
    """Return the work of an all-reduce of `message` bytes; without a switch (PCIe) the GPUs share a bus."""
    return AllReduceWork(
        message=message,
        ring=message * 2 * (gpus - 1) / gpus,
        peers=gpus - 1,
        of_2=float(gpus <= 2),
        of_4=float(2 < gpus <= 4),
        of_8=float(gpus > 4),
        own=float(message <= c.own_up_to),
        shared=float(not switched),
    )


def nccl_algebra(w: AllReduceWork, c: AllReduceCoefficients) -> list[Number]:
    """Return the times of NCCL's three protocols: low latency, middle, bulk. [s]"""
    bulk = w.of_2 / c.bulk_bandwidth_2 + w.of_4 / c.bulk_bandwidth_4 + w.of_8 / c.bulk_bandwidth_8
    slower = 1 + w.shared * (bulk * c.bulk_bandwidth_2 - 1)
    return [
        c.low_latency_start + c.low_latency_peer * w.peers + w.ring * slower / c.low_latency_bandwidth,
        c.middle_start + c.middle_peer * w.peers + w.ring * slower / c.middle_bandwidth,
        c.bulk_start + c.bulk_peer * w.peers + w.ring * bulk,
    ]


def all_reduce_algebra(w: AllReduceWork, c: AllReduceCoefficients) -> Number:
    """Return the time of an all-reduce by the fastest protocol or kernel that may be used. [s]"""
    nccl = nccl_algebra(w, c)
    if not c.own_up_to:
        return fastest(nccl)
    own = [
        c.one_shot_start + c.one_shot_peer * w.peers + w.message * w.peers / c.one_shot_bandwidth,
        c.two_shot_start + c.two_shot_peer * w.peers + w.ring / c.two_shot_bandwidth,
    ]
    return w.own * fastest([*own, *nccl]) + (1 - w.own) * fastest(nccl)


def all_reduce_time(*, gpus: int, message: float, switched: bool = True, c: AllReduceCoefficients) -> float:
    """Return the time of an all-reduce of `message` bytes among `gpus` GPUs of one node. [s]"""
    return float(all_reduce_algebra(all_reduce_work(gpus=gpus, message=message, switched=switched, c=c), c))
