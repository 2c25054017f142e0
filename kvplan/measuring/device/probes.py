"""What `kvplan profile` measures: operators on shapes, the bytes they move and the work they do, most telling first."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import log

#: sizes of a row, in the order of its columns
SIZES = (
    *("batch", "q_heads", "kv_heads", "head_dim", "kv_len", "isl", "m", "n", "k", "elements", "rank"),
    *("n_gpus", "message_size"),
)
#: bytes of an element
WIDTH = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
#: the group of the two operators repeated every round to see the device drift
ANCHOR = "anchor"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One operator on one shape. `group`: what is fitted together; `moved` [B] and `flops` of one call.

    `engine`: whose kernel it is, where not the timer's.
    """

    group: str  #: what is fitted together
    kind: str  #: kind of kernel
    kernel: str  #: name of the kernel
    dtype: str  #: of the operands
    kv_dtype: str = ""  #: of the cache, '' where there is none
    engine: str = ""  #: whose kernel it is, '' for the timer's
    sizes: Mapping[str, int] = field(hash=False)  #: size -> value, those of SIZES it has
    moved: float  #: bytes one call moves [B]
    flops: float  #: of one call [FLOP]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this probe from others in a file of rows."""
        return (self.group, self.kernel, self.dtype, self.kv_dtype, *(str(self.sizes.get(s, "")) for s in SIZES))


def copying(elements: int, dtype: str = "float32", group: str = "copy") -> Probe:
    """Return a copy of `elements` elements: each is read and written once."""
    width = WIDTH[dtype]
    moved = 2 * width * elements
    return Probe(
        group=group, kind="copy", kernel="copy", dtype=dtype, sizes={"elements": elements}, moved=moved, flops=0.0
    )


def product_of(m: int, n: int, k: int, dtype: str, group: str = "") -> Probe:
    """Return a matrix product [m, k] x [k, n]; a single row is a class of its own."""
    return Probe(
        group=group or f"{'gemv' if m == 1 else 'gemm'} {dtype}",
        kind="gemm",
        kernel="torch_matmul",
        dtype=dtype,
        sizes={"m": m, "n": n, "k": k},
        moved=WIDTH[dtype] * (m * k + k * n) + (WIDTH[dtype] if dtype != "fp8" else 2.0) * m * n,
        flops=2.0 * m * n * k,
    )


def decode(
    batch: int,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    kv_len: int,
    *,
    group: str,
    kernel: str,
    dtype: str,
    kv_dtype: str = "",
    side: float = 0.0,
) -> Probe:
    """Return decode attention over keys and values; `side` is bytes of scales a token and KV head."""
    kept = kv_dtype or dtype
    cache = 2 * batch * kv_heads * kv_len * (head_dim * WIDTH[kept] + side)
    return Probe(
        group=group,
        kind="decode_attention",
        kernel=kernel,
        dtype=dtype,
        kv_dtype=kept,
        sizes={"batch": batch, "q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim, "kv_len": kv_len},
        moved=cache + 2 * WIDTH[dtype] * batch * q_heads * head_dim,
        flops=4.0 * batch * q_heads * head_dim * kv_len,
    )


def latent(batch: int, q_heads: int, rank: int, rope: int, kv_len: int, *, kernel: str, dtype: str) -> Probe:
    """Return absorbed decode over one latent of `rank` elements and `rope` rotated ones a token."""
    width = WIDTH[dtype]
    return Probe(
        group=f"decode latent {dtype}",
        kind="mla_decode_attention",
        kernel=kernel,
        dtype=dtype,
        kv_dtype=dtype,
        sizes={"batch": batch, "q_heads": q_heads, "kv_heads": 1, "head_dim": rank + rope, "kv_len": kv_len},
        moved=width * batch * (kv_len * (rank + rope) + q_heads * (2 * rank + rope)),
        flops=2.0 * batch * q_heads * kv_len * (2 * rank + rope),
    )


def prefill(batch: int, q_heads: int, kv_heads: int, head_dim: int, isl: int, *, kernel: str, dtype: str) -> Probe:
    """Return causal attention of whole prompts."""
    return Probe(
        group=f"prefill {dtype}",
        kind="prefill_attention",
        kernel=kernel,
        dtype=dtype,
        kv_dtype=dtype,
        sizes={"batch": batch, "q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim, "isl": isl},
        moved=2 * WIDTH[dtype] * batch * isl * head_dim * (q_heads + kv_heads),
        flops=2.0 * batch * q_heads * head_dim * isl * (isl + 1),
    )


def spread(probes: Iterable[Probe]) -> list[Probe]:
    """Return probes in an order in which every next one is farthest, in log sizes, from those before it."""
    left = sorted(probes, key=lambda p: (p.moved + p.flops, p.key))
    if not left:
        return []
    places = {p.key: [log(v) for v in (*p.sizes.values(), p.moved)] for p in left}

    def apart(one: Probe, other: Probe) -> float:
        return sum((a - b) ** 2 for a, b in zip(places[one.key], places[other.key], strict=True))

    chosen = [left.pop(0)]
    nearest = {p.key: apart(p, chosen[0]) for p in left}
    while left:
        farthest = max(left, key=lambda p: nearest[p.key])
        left.remove(farthest)
        chosen.append(farthest)
        for p in left:
            nearest[p.key] = min(nearest[p.key], apart(p, farthest))
    return chosen


def plan(probes: Iterable[Probe]) -> list[Probe]:
    """Return a plan: groups take turns with their most telling shape not in it yet; any start of it is a grid."""
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(probe.group, []).append(probe)
    ordered = [spread(mine) for mine in groups.values()]
    longest = max(map(len, ordered), default=0)
    return [mine[rank] for rank in range(longest) for mine in ordered if rank < len(mine)]


# what a CPU is asked for

CPU_ANCHORS = (copying(2**20, group=ANCHOR), product_of(32, 1024, 1024, "float32", ANCHOR))
MATRICES = ((512, 512), (1024, 512), (512, 2048), (1024, 1024), (2048, 1024), (1024, 3072), (2048, 2048))
#: weights of single rows only
WIDE_MATRICES = ((256, 512), (768, 768), (3072, 1024), (4096, 1024), (3072, 2048), (4096, 2048), (3072, 4096))
#: no product longer than this many operations: one thread needs tens of milliseconds
MOST_FLOPS = {"float32": 1.1e9, "bfloat16": 1.5e8}


def cpu_probes() -> Iterator[Probe]:
    """Yield what one CPU thread is measured on: copy, products, and attention in fp32."""
    yield from (copying(2**p * q // 4) for p in range(14, 25) for q in (4, 6) if 2**p * q <= 2**26)
    for dtype in MOST_FLOPS:
        for m, (n, k) in product((1, 2, 4, 8, 16, 32, 64, 128, 256), MATRICES):
            if 2.0 * m * n * k <= MOST_FLOPS[dtype]:
                yield product_of(m, n, k, dtype)
        yield from (product_of(1, n, k, dtype) for n, k in WIDE_MATRICES)
    for heads, q_per_kv in ((2, 4), (4, 4), (8, 1)):
        name = "mha" if q_per_kv == 1 else f"gqa {heads}x{q_per_kv}x64"
        for batch, length in product((1, 2, 4, 8), (64, 128, 256, 512, 1024, 2048)):
            yield decode(
                batch, heads * q_per_kv, heads, 64, length, group=f"decode {name} float32", kernel="torch_sdpa",
                dtype="float32",
            )  # fmt: skip
    for rank, batch, length in product((64, 128), (1, 2, 4, 8), (64, 128, 256, 512, 1024, 2048)):
        yield latent(batch, 16, rank, 0, length, kernel="torch_sdpa", dtype="float32")
    for batch, heads, length in product((1, 2), (4, 8), (64, 96, 128, 192, 256, 384, 512)):
        yield prefill(batch, heads, heads, 64, length, kernel="torch_sdpa", dtype="float32")
