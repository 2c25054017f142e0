"""Append new keys and values to a contiguous or paged cache, quantising them on the way.

One program a token and KV head. int8 and int4 are asymmetric with one bf16 scale and one bf16 zero (the number that
code 0 stands for) per group of 64 elements, fp8 (e4m3) has one fixed scale per tensor. Layouts are those
`quantised_decode` reads. Limits: a group is a head or half a head; head_dim
is even, up to 256.
Casting to fp8 is only right on a GPU (the interpreter loses carries).
"""

import torch
import triton
import triton.language as tl

from .common import FLOATS, agree, refuse_fp8, refuse_odd, round_bf16
from .quantised_decode import KINDS_STORED, refuse_sides
from .tiles import power_of_two

CODES = {"int8": (-128, 255), "int4": (0, 15)}
#: kind -> types a cache of it has
STORED = {"plain": FLOATS, **KINDS_STORED}
WIDEST = 256
WARPS = 1


@triton.jit
def encode(low, high, wide, GROUPS: tl.constexpr, FIRST: tl.constexpr, STEPS: tl.constexpr):
    """Return both halves [BHALF] as codes (fp32), and per half the scale and zero they were rounded with."""
    none: tl.constexpr = float("inf")
    least_low, most_low = tl.min(tl.where(wide, low, none), 0), tl.max(tl.where(wide, low, -none), 0)
    least_high, most_high = tl.min(tl.where(wide, high, none), 0), tl.max(tl.where(wide, high, -none), 0)
    if GROUPS == 1:
        least_low = tl.minimum(least_low, least_high)
        most_low = tl.maximum(most_low, most_high)
        least_high, most_high = least_low, most_low
    scale_low = tl.maximum(round_bf16(tl.div_rn(most_low - least_low, STEPS)), 1e-20)
    scale_high = tl.maximum(round_bf16(tl.div_rn(most_high - least_high, STEPS)), 1e-20)
    zero_low = round_bf16(least_low - FIRST * scale_low)
    zero_high = round_bf16(least_high - FIRST * scale_high)
    # divisions are rounded to nearest, as the twin's are: half a step up or down is another code
    low = tl.floor(tl.div_rn(low - zero_low, scale_low) + 0.5)
    high = tl.floor(tl.div_rn(high - zero_high, scale_high) + 0.5)
    low = tl.minimum(tl.maximum(low, FIRST), FIRST + STEPS)
    high = tl.minimum(tl.maximum(high, FIRST), FIRST + STEPS)
    return low, high, scale_low, scale_high, zero_low, zero_high


@triton.jit
def write_row(
    NEW,
    CACHE,
    SCALE,
    ZERO,
    side,
    ss_g,
    inverse,
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    MOST: tl.constexpr,
    KIND: tl.constexpr,
    GROUPS: tl.constexpr,
    FIRST: tl.constexpr,
    STEPS: tl.constexpr,
):
    d = tl.arange(0, BHALF)
    wide = d < HALF
    low = tl.load(NEW + d, mask=wide, other=0.0).to(tl.float32)  # [BHALF]
    high = tl.load(NEW + HALF + d, mask=wide, other=0.0).to(tl.float32)
    if KIND == "plain":
        tl.store(CACHE + d, low.to(CACHE.dtype.element_ty), mask=wide)
        tl.store(CACHE + HALF + d, high.to(CACHE.dtype.element_ty), mask=wide)
    elif KIND == "fp8":
        low = tl.minimum(tl.maximum(low * inverse, -MOST), MOST)
        high = tl.minimum(tl.maximum(high * inverse, -MOST), MOST)
        tl.store(CACHE + d, low.to(CACHE.dtype.element_ty), mask=wide)
        tl.store(CACHE + HALF + d, high.to(CACHE.dtype.element_ty), mask=wide)
    else:
        low, high, scale_low, scale_high, zero_low, zero_high = encode(low, high, wide, GROUPS, FIRST, STEPS)
        if KIND == "int4":
            both = low.to(tl.int32) | (high.to(tl.int32) << 4)
            tl.store(CACHE + d, both.to(tl.uint8), mask=wide)
        else:
            tl.store(CACHE + d, low.to(tl.int32).to(tl.int8), mask=wide)
            tl.store(CACHE + HALF + d, high.to(tl.int32).to(tl.int8), mask=wide)
        tl.store(SCALE + side, scale_low.to(SCALE.dtype.element_ty))
        tl.store(ZERO + side, zero_low.to(ZERO.dtype.element_ty))
        if GROUPS == 2:
            tl.store(SCALE + side + ss_g, scale_high.to(SCALE.dtype.element_ty))
            tl.store(ZERO + side + ss_g, zero_high.to(ZERO.dtype.element_ty))


@triton.jit
def kv_write_kernel(
    KNEW,
    VNEW,
    K,
    V,
    KS,
    KZ,
    VS,
    VZ,
    SLOTS,
    k_inverse,
    v_inverse,
    page_size,
    sk_n,
    sk_nh,
    sv_n,
    sv_nh,
    sk_p,
    sk_t,
    sk_h,
    sv_p,
    sv_t,
    sv_h,
    ss_p,
    ss_h,
    ss_g,
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    MOST: tl.constexpr,
    KIND: tl.constexpr,
    GROUPS: tl.constexpr,
    FIRST: tl.constexpr,
    STEPS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    slot = tl.load(SLOTS + token).to(tl.int64)
    if slot >= 0:
        page = slot // page_size
        inside = slot % page_size
        side = page * ss_p + head * ss_h + inside
        new = KNEW + token * sk_n + head * sk_nh
        into = K + page * sk_p + inside * sk_t + head * sk_h
        write_row(new, into, KS, KZ, side, ss_g, k_inverse, HALF, BHALF, MOST, KIND, GROUPS, FIRST, STEPS)
        new = VNEW + token * sv_n + head * sv_nh
        into = V + page * sv_p + inside * sv_t + head * sv_h
        write_row(new, into, VS, VZ, side, ss_g, v_inverse, HALF, BHALF, MOST, KIND, GROUPS, FIRST, STEPS)


def traffic(kind: str, tokens: int, kv_heads: int, head_dim: int, itemsize: int = 2) -> tuple[float, float]:
    """Return (bytes moved, flops) of appending `tokens` tokens; `itemsize` is that of the new keys and values."""
    elements = 2 * tokens * kv_heads * head_dim
    stored = {"plain": float(itemsize), "fp8": 1.0, "int8": 1.0 + 4 / 64, "int4": 0.5 + 4 / 64}[kind]
    return elements * (itemsize + stored), 0.0 if kind == "plain" else 6.0 * elements


def kv_write(
    k_new: torch.Tensor,
    v_new: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    slots: torch.Tensor,
    *,
    kind: str = "plain",
    k_scale: torch.Tensor | float = 1.0,
    v_scale: torch.Tensor | float = 1.0,
    k_zero: torch.Tensor | None = None,
    v_zero: torch.Tensor | None = None,
) -> None:
    """Write N new tokens in place.

    k_new, v_new [N, Hkv, D]; k, v [pages, page, Hkv, D] (a contiguous cache [B, T, Hkv, D] is one page a sequence), as
    `quantised_decode` describes; slots [N] int64, page * page_size + offset, negative to skip. `kind`: plain (the
    cache's own float type), fp8 (k_scale, v_scale floats: stored = new / scale), int8 or int4 (k_scale, k_zero,
    v_scale, v_zero are bf16 tensors [pages, Hkv, groups, page] to be written, all of the same strides).
    """
    if kind not in STORED:
        raise ValueError(f"kind {kind!r}: write {', '.join(STORED)}")
    row = "pages page Hkv D/2" if kind == "int4" else "pages page Hkv D"
    sizes = agree(
        k_new=(k_new, "N Hkv D", FLOATS),
        v_new=(v_new, "N Hkv D", (k_new.dtype,)),
        k=(k, row, STORED[kind]),
        v=(v, row, STORED[kind]),
        slots=(slots, "N", (torch.int64, torch.int32)),
    )
    refuse_fp8(k=k, v=v)
    tokens, heads, width = sizes["N"], sizes["Hkv"], sizes["D"]
    refuse_odd(width)
    if width > WIDEST:
        raise ValueError(f"head_dim {width}: a cache is written up to {WIDEST}")
    tensors = isinstance(k_scale, torch.Tensor)
    if tensors != (kind in CODES):
        raise ValueError(f"{kind}: scales must be {'tensors' if kind in CODES else 'floats'}")
    _, groups = refuse_sides(sizes, k, k_scale, v_scale, k_zero, v_zero)
    if tensors and k_zero is None:
        raise ValueError(f"{kind}: k_zero and v_zero are written too and must be given")
    first, steps = CODES.get(kind, (0, 1))
    kv_write_kernel[(tokens, heads)](
        k_new,
        v_new,
        k,
        v,
        k_scale if tensors else k,
        k_zero if tensors else k,
        v_scale if tensors else k,
        v_zero if tensors else k,
        slots,
        1.0 if tensors else 1.0 / k_scale,
        1.0 if tensors else 1.0 / v_scale,
        k.shape[1],
        *k_new.stride()[:2],
        *v_new.stride()[:2],
        *k.stride()[:3],
        *v.stride()[:3],
        *(k_scale.stride()[:3] if tensors else (0, 0, 0)),
        HALF=width // 2,
        BHALF=power_of_two(width // 2),
        MOST=torch.finfo(k.dtype).max if kind == "fp8" else 0.0,
        KIND=kind,
        GROUPS=groups,
        FIRST=first,
        STEPS=steps,
        num_warps=WARPS,
    )
