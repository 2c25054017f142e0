"""What every kernel file shares: a dot product that is also right in Triton's interpreter, softmax steps, split rules.

Conventions of all kernels: addresses in int64, `other=0.0` on masked loads, `for` loops (what the compiler pipelines),
softmax in base 2 inside, natural logarithms outside. Inputs are contiguous in their last axis; every other stride is
free but should be a multiple of 16 elements, or the compiler falls back to narrow loads.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache

import torch
import triton
import triton.language as tl

from .tiles import MOST_WAVES, PROGRAMS_PER_SM, START, TILES_PER_SPLIT, Config, Gpu, Shape, amd, nvidia, shared, tiles

#: true when kernels run in Triton's interpreter; decided when this module is imported, as the interpreter itself is
INTERPRETED = bool(triton.knobs.runtime.interpret)
#: multiprocessors assumed where there is no GPU to ask: an H100 or H200 SXM
ASSUMED_SMS = 132

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

TL_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@dataclass(frozen=True)
class Target:
    """A GPU that is not there, which launches compile for without running; `asked`: the tiles they took."""

    capability: int
    asked: list[tuple[Shape, Config]] = field(default_factory=list)


#: set by `aot`
TARGET: ContextVar[Target | None] = ContextVar("TARGET", default=None)


@dataclass(frozen=True)
class Tried:
    """What launches take in place of the table's tile while they are tuned, and how many times as many splits."""

    config: Config | None = None
    splits: float = 1.0


#: set by whoever tunes
TRIED: ContextVar[Tried | None] = ContextVar("TRIED", default=None)
#: sequences (programs along z) one launch takes
MOST_SEQUENCES = 65_535
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FP8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz)
INT32, HALVES = (torch.int32,), (torch.float16,)

Given = tuple[torch.Tensor | None, str, tuple[torch.dtype, ...]]


@triton.jit
def dot_(a, b, UPCAST: tl.constexpr):
    """Return a @ b in fp32, `a` rounded to the type of `b`; UPCAST (interpreter only) multiplies in fp32.

    The interpreter holds bf16 as bit patterns and multiplies those, so it must never see a bf16 product.
    """
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a.to(b.dtype), b, input_precision="ieee")


@triton.jit
def round_bf16(x):
    """Return fp32 `x` rounded to the nearest bf16, ties to even, as fp32: the interpreter's own cast truncates."""
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def online_softmax(s, m, z):
    """Join a tile of base-2 logits `s` [rows, tokens] to the running maximum m and sum z; return (p, alpha, m, z)."""
    m_new = tl.maximum(m, tl.max(s, 1))
    alpha = tl.exp2(m - m_new)
    p = tl.exp2(s - m_new[:, None])
    return p, alpha, m_new, z * alpha + tl.sum(p, 1)


@triton.jit
def query_heads(G: tl.constexpr, BH: tl.constexpr):
    """Return what a program of a split decode works on: KV head, sequence, query heads [BH], and which are real."""
    blocks: tl.constexpr = (G + BH - 1) // BH
    kv_head = (tl.program_id(0) // blocks).to(tl.int64)
    g = (tl.program_id(0) % blocks) * BH + tl.arange(0, BH)
    return kv_head, tl.program_id(2).to(tl.int64), kv_head * G + g, g < G


@triton.jit
def inside(live, d, D: tl.constexpr, BD: tl.constexpr):
    """Return the mask of a tile [rows, BD]: rows that are live and, where the tile is wider than D, columns below D."""
    return live[:, None] if D == BD else live[:, None] & (d < D)[None, :]


@triton.jit
def split_range(length, splits, split, BN: tl.constexpr):
    """Return the tokens [lo, hi) of one split: whole tiles of BN, the last cut at `length`; lo >= hi when empty."""
    chunk = tl.cdiv(tl.cdiv(length, splits), BN) * BN
    lo = split * chunk
    return lo, tl.minimum(lo + chunk, length)


@triton.jit
def page_base(TABLE, b, st_b, n, hi, PAGED: tl.constexpr, PAGE: tl.constexpr):
    """Return the page of each token in `n`; asked one tile ahead, so that no load waits for the block table."""
    if PAGED:
        return tl.load(TABLE + b * st_b + n // PAGE, mask=n < hi, other=0).to(tl.int64)
    return b + n.to(tl.int64) * 0


@triton.jit
def slot_in_page(n, PAGED: tl.constexpr, PAGE: tl.constexpr):
    """Return where in its page each token of `n` lies."""
    if PAGED:
        return (n % PAGE).to(tl.int64)
    return n.to(tl.int64)


@triton.jit
def store_lse(LSE, rows, m, z, real):
    """Write natural LSE [rows] from base-2 maximum m and sum z, -inf for an empty split; return 1 / z, 1 when empty."""
    full = z > 0
    safe = tl.where(full, z, 1.0)
    tl.store(LSE + rows, tl.where(full, (m + tl.log2(safe)) * LN2, float("-inf")), mask=real)
    return 1.0 / safe


@triton.jit
def store_split(OUT, LSE, rows, acc, m, z, real, d, D: tl.constexpr, BD: tl.constexpr):
    """Write one split's normalised output [rows, D] and its LSE; an empty split writes 0 and -inf."""
    out = acc * store_lse(LSE, rows, m, z, real)[:, None]
    tl.store(OUT + rows[:, None] * D + d[None, :], out.to(OUT.dtype.element_ty), mask=inside(real, d, D, BD))


@triton.jit
def store_halves(OUT, LSE, rows, low, high, m, z, factor, real, d, HALF: tl.constexpr, BHALF: tl.constexpr):
    """As `store_split`, for an output in two halves [rows, HALF] that is still to be multiplied by `factor`."""
    inverse = store_lse(LSE, rows, m, z, real)[:, None] * factor
    into = OUT + rows[:, None] * (2 * HALF) + d[None, :]
    there = inside(real, d, HALF, BHALF)
    tl.store(into, (low * inverse).to(OUT.dtype.element_ty), mask=there)
    tl.store(into + HALF, (high * inverse).to(OUT.dtype.element_ty), mask=there)


def sm_count(device: torch.device) -> int:
    """Return the multiprocessors of a CUDA device, 132 where there is none."""
    if device.type != "cuda":
        return ASSUMED_SMS
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def pick_splits(batch: int, programs: int, longest: int, tokens: int, sms: int, resident: int = PROGRAMS_PER_SM) -> int:
    """Return how many ways to split a sequence so that the last wave of programs is full, or nearly so.

    `programs` is programs per sequence before splitting, `longest` the longest sequence and `tokens` a tile, in
    tokens; `resident` programs run on a multiprocessor at once. A program takes as long as its tiles, and to start as
    long as `START` more. A split never gets less than two tiles.
    """
    whole, slots, tiles_ = max(1, batch * programs), resident * sms, triton.cdiv(longest, tokens)
    most = max(1, min(triton.cdiv(tiles_, TILES_PER_SPLIT), triton.cdiv(MOST_WAVES * slots, whole)))

    def cost(splits: int) -> int:
        return int(triton.cdiv(whole * splits, slots) * (triton.cdiv(tiles_, splits) + START))

    return min(range(1, most + 1), key=cost)


def splits_for(
    shape: Shape, config: Config, cache: torch.Tensor, batch: int, programs: int, longest: int, sms: int | None
) -> int:
    """Return how many ways to split the sequences of a cache; as `pick_splits`, `sms` the device's if none."""
    gpu = gpu_of(cache.device)
    resident = max(1, min(PROGRAMS_PER_SM, gpu.shared // shared(shape, config, gpu.capability)))
    splits = pick_splits(batch, programs, longest, config.tokens, sms or sm_count(cache.device), resident)
    tried = TRIED.get()
    return splits if tried is None else max(1, min(round(splits * tried.splits), triton.cdiv(longest, config.tokens)))


def gpu_of(device: torch.device) -> Gpu:
    """Return what tiles for a device depend on; a CPU, where kernels are interpreted, chooses as an H100 would."""
    target = TARGET.get()
    return present(device) if target is None else nvidia(target.capability)


@cache
def present(device: torch.device) -> Gpu:
    """Return what torch says of a device."""
    if device.type != "cuda":
        return Gpu(90, nvidia(90).shared, tuple(spelled(kind) for kind in FP8))
    facts = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return amd(facts.gcnArchName)
    return nvidia(10 * facts.major + facts.minor, getattr(facts, "shared_memory_per_block_optin", None))


def fp8_type(device: torch.device) -> torch.dtype:
    """Return the e4m3 type that a device computes with; ValueError when it has none."""
    gpu = gpu_of(device)
    if not gpu.fp8:
        raise ValueError(f"fp8: {gpu.name} has no such type, sm_89 and later do; use int8")
    kind: torch.dtype = getattr(torch, gpu.fp8[0])
    return kind


def refuse_fp8(**tensors: torch.Tensor | None) -> None:
    """Refuse 8-bit floats of a format that their device does not compute with."""
    for name, tensor in tensors.items():
        if tensor is None or tensor.dtype not in FP8:
            continue
        wanted = fp8_type(tensor.device)
        if spelled(tensor.dtype) not in gpu_of(tensor.device).fp8:
            raise ValueError(f"{name}: {spelled(tensor.dtype)}, this GPU computes with {spelled(wanted)}")


def spelled(dtype: torch.dtype) -> str:
    """Return a type's name without its module."""
    return str(dtype).removeprefix("torch.")


def agree(known: dict[str, int] | None = None, **given: Given) -> dict[str, int]:
    """Return the sizes of the axes; ValueError for a tensor whose shape, type, layout or device is not as it must be.

    `given`: argument name -> (tensor or none, its axes such as "B Hq D", the types it may have). Axes of one name have
    one size; "D/2" is half of D, "2" is 2, and an axis may be longer than needed when written with a plus: "T+".
    """
    sizes = dict(known or {})
    devices = {}
    for name, (tensor, axes, types) in given.items():
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name}: must be a tensor [{', '.join(axes.split())}], is {type(tensor).__name__}")
        if tensor.dtype not in types:
            raise ValueError(f"{name}: is {spelled(tensor.dtype)}, must be {' or '.join(map(spelled, types))}")
        bound = dict(sizes)
        names = axes.split()
        if tensor.ndim != len(names) or not all(fits(sizes, *pair) for pair in zip(names, tensor.shape, strict=True)):
            wanted = [f"{axis}={bound[axis]}" if axis in bound else axis for axis in names]
            raise ValueError(f"{name}: shape {list(tensor.shape)}, must be [{', '.join(wanted)}]")
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise ValueError(f"{name}: last axis must be contiguous, its stride is {tensor.stride(-1)}")
        devices[str(tensor.device)] = name
    if len(devices) > 1:
        raise ValueError("tensors on different devices: " + ", ".join(f"{v} on {k}" for k, v in devices.items()))
    if "cpu" in devices and not INTERPRETED and TARGET.get() is None:
        raise ValueError("tensors on the CPU: kernels run on a GPU, or interpreted with TRITON_INTERPRET=1")
    if sizes.get("B", 0) > MOST_SEQUENCES:
        raise ValueError(f"{sizes['B']:,} sequences: one call takes at most {MOST_SEQUENCES:,}")
    return sizes


def fits(sizes: dict[str, int], axis: str, size: int) -> bool:
    """Return whether an axis has the size its name says; a new name is written down in `sizes`."""
    if axis.isdecimal():
        return size == int(axis)
    if axis.endswith("+"):
        return size >= sizes.get(axis[:-1], 0)
    if "/" in axis:
        whole, parts = axis.split("/")
        return size * int(parts) == sizes[whole]
    return sizes.setdefault(axis, size) == size


def group_of(q_heads: int, kv_heads: int) -> int:
    """Return the query heads that share a KV head."""
    if kv_heads < 1 or q_heads % kv_heads or not q_heads:
        raise ValueError(f"{q_heads} query heads are not a multiple of {kv_heads} KV heads")
    return q_heads // kv_heads


def refuse_odd(width: int) -> None:
    """Refuse a head dim that has no two halves."""
    if width % 2 or width < 2:
        raise ValueError(f"head_dim {width}: must be even")


def refuse_tables(sizes: dict[str, int], positions: int, cos: torch.Tensor | None, sin: torch.Tensor | None) -> None:
    """Refuse tables of rotary embeddings [positions or more, D/2] that do not fit; both or none."""
    refuse_odd(sizes["D"])
    if (cos is None) != (sin is None):
        raise ValueError("cos and sin must both be given, or neither")
    known = sizes | {"positions": positions}
    agree(known, cos=(cos, "positions+ D/2", FLOATS), sin=(sin, "positions+ D/2", FLOATS))
    if cos is not None and sin is not None and cos.stride() != sin.stride():
        raise ValueError(f"cos and sin: must have the same strides, have {cos.stride()} and {sin.stride()}")


def tile_for(shape: Shape, tensor: torch.Tensor) -> Config:
    """Return the tile a shape runs with on the device of a tensor."""
    tried = TRIED.get()
    config = tiles(shape, gpu_of(tensor.device)) if tried is None or tried.config is None else tried.config
    if (target := TARGET.get()) is not None:
        target.asked.append((shape, config))
    return config


def longest_sequence(cache: torch.Tensor, block_table: torch.Tensor | None) -> int:
    """Return the tokens a sequence can have: [B, T, ...] contiguous, or pages [P, page, ...] behind a block table."""
    return cache.shape[1] if block_table is None else block_table.shape[1] * cache.shape[1]
