"""Matrix products."""

from dataclasses import dataclass
from math import ceil

from kvplan.perf.kernel_time.terms import Number, choice, coefficient, overlapped, settled, smaller

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
    ways = []
    for tile in c.tiles.split():
        rows, columns = map(int, tile.split("x"))
        for parts in map(int, c.split_k.split()):
            waves = ceil(ceil(m / rows) * ceil(n / columns) * parts / sms)
            ways.append(Tiling(waves, k / parts, rows * columns, rows + columns, columns, float(parts > 1)))
    return tuple(ways)


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
