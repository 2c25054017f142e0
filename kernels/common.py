"""What every kernel file shares: a dot product that is also right in Triton's interpreter, softmax steps, split rules.

Conventions of all kernels: addresses in int64, `other=0.0` on masked loads, `for` loops (what the compiler pipelines),
softmax in base 2 inside, natural logarithms outside. Inputs are contiguous in their last axis; every other stride is
free but should be a multiple of 16 elements, or the compiler falls back to narrow loads.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

#: true when kernels run in Triton's interpreter; decided when this module is imported, as the interpreter itself is
INTERPRETED = bool(triton.knobs.runtime.interpret)
#: multiprocessors assumed where there is no GPU to ask: an H100 or H200 SXM
ASSUMED_SMS = 132

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

TL_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@dataclass(frozen=True)
class Config:
    """How one kernel is cut up: rows (heads or queries) and tokens per tile, warps per program, pipeline stages."""

    rows: int
    tokens: int
    warps: int
    stages: int

    @property
    def launch(self) -> dict[str, int]:
        """Return the keywords a Triton launch takes."""
        return {"num_warps": self.warps, "num_stages": self.stages}


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
def store_split(OUT, LSE, rows, acc, m, z, real, d, D: tl.constexpr):
    """Write one split's normalised output [rows, D] and its LSE; an empty split writes 0 and -inf."""
    out = acc * store_lse(LSE, rows, m, z, real)[:, None]
    tl.store(OUT + rows[:, None] * D + d[None, :], out.to(OUT.dtype.element_ty), mask=real[:, None] & (d < D)[None, :])


@triton.jit
def store_halves(OUT, LSE, rows, low, high, m, z, factor, real, d, HALF: tl.constexpr):
    """As `store_split`, for an output in two halves [rows, HALF] that is still to be multiplied by `factor`."""
    inverse = store_lse(LSE, rows, m, z, real)[:, None] * factor
    into = OUT + rows[:, None] * (2 * HALF) + d[None, :]
    inside = real[:, None] & (d < HALF)[None, :]
    tl.store(into, (low * inverse).to(OUT.dtype.element_ty), mask=inside)
    tl.store(into + HALF, (high * inverse).to(OUT.dtype.element_ty), mask=inside)


def sm_count(device: torch.device) -> int:
    """Return the multiprocessors of a CUDA device, 132 where there is none."""
    if device.type != "cuda":
        return ASSUMED_SMS
    return torch.cuda.get_device_properties(device).multi_processor_count


def pick_splits(batch: int, programs: int, longest: int, tokens: int, sms: int) -> int:
    """Return how many ways to split a sequence so that two programs meet each multiprocessor.

    `programs` is programs per sequence before splitting, `longest` the longest sequence and `tokens` a tile, in
    tokens. A split never gets less than two tiles.
    """
    wanted = triton.cdiv(2 * sms, max(1, batch * programs))
    return max(1, min(wanted, triton.cdiv(longest, 2 * tokens)))


def rows_of_last_axis(**tensors: torch.Tensor | None) -> None:
    """Refuse tensors whose last axis is not contiguous."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.stride(-1) != 1:
            raise ValueError(f"{name}: last axis must be contiguous, its stride is {tensor.stride(-1)}")


def longest_sequence(cache: torch.Tensor, block_table: torch.Tensor | None) -> int:
    """Return the tokens a sequence can have: [B, T, ...] contiguous, or pages [P, page, ...] behind a block table."""
    return cache.shape[1] if block_table is None else block_table.shape[1] * cache.shape[1]
