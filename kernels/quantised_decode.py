"""Decode attention over a cache of fp8, int8 or packed int4, as `decode_attention` otherwise.

Codes become numbers as code * scale + zero. With int4 the low nibbles of a row are the first half of a head and the
high nibbles its second. A half has one scale and one zero per token (64 elements share them at D 128; the two halves
share theirs at D 64), so both fold into S and P: s = sum over halves of (q.code) * scale + (sum of q) * zero, and the
same for P.V. No element is scaled.

Rows are read as 16-bit pairs, which matrix loads of keys and (transposed) of values bring into registers; there the
first and the second elements of all pairs become one operand each, and each meets its own half of the products. Bytes
would be gathered one by one. On NVIDIA GPUs all kinds compute in fp16, to which PTX of our own converts. Scales: KIVI
(arXiv 2402.02750) and quanto for groups; fp8 (e4m3) has one scale per tensor, or one per token and head. Limits:
head_dim a multiple of 4 up to 256, with groups of 64 or one scale per token or per tensor.
"""

import math

import torch
import triton
import triton.language as tl

from .common import (
    FLOATS,
    FP8,
    INT32,
    INTERPRETED,
    LOG2E,
    agree,
    dot_,
    gpu_of,
    group_of,
    inside,
    longest_sequence,
    online_softmax,
    page_base,
    query_heads,
    refuse_fp8,
    refuse_odd,
    slot_in_page,
    split_range,
    splits_for,
    store_lse,
    tile_for,
)
from .decode_attention import finish, split_buffers
from .tiles import Config, Shape, power_of_two

#: elements that share a scale and a zero point
GROUP = 64
#: e4m3 as Triton names it
TL_FP8 = dict(zip(FP8, (tl.float8e4nv, tl.float8e4b8), strict=True))
KINDS = ("fp8", "int8", "int4")
#: how codes are stored
KINDS_STORED = {"fp8": FP8, "int8": (torch.int8,), "int4": (torch.uint8,)}
#: scales of values are some hundredths: so many times as much keeps weights times scales out of fp16's subnormals
LIFT = tl.constexpr(64.0)


def codes_as_fp16(shift: int, mask: str, magic: str, after: str) -> str:
    """Return PTX: two codes of $1 as fp16. Shifted and masked they become the mantissa of 1024 + code.

    `magic` is flipped in: the exponent, and for signed bytes the bit that moves them up by 128; `after` takes it off.
    """
    taken = f"shr.u32 t, $1, {shift}; mov.b32 m, {mask}; mov.b32 c, {magic}; lop3.b32 t, t, m, c, 0x6A; "
    return "{.reg .b32 t, m, c, f, g; " + taken + after + "}"


def fp8_as_fp16(choice: str) -> str:
    """Return PTX: two e4m3 bytes of $1 (`choice` of them) as fp16."""
    return (
        "{.reg .b32 t; .reg .b16 u, w; prmt.b32 t, $1, 0, "
        + choice
        + "; mov.b32 {u, w}, t; cvt.rn.f16x2.e4m3x2 $0, u;}"
    )


#: of two pairs of bytes (one 32-bit register): the first byte of each, and the second
INT8 = ("0x00FF00FF", "0x64806480", "mov.b32 f, 0x64806480; sub.f16x2 $0, t, f;")
LOW = ("0x000F000F", "0x64006400", "mov.b32 f, 0x64006400; sub.f16x2 $0, t, f;")
#: 1024 + 16 n, times 1/16, less 64
HIGH = ("0x00F000F0", "0x64006400", "mov.b32 f, 0x2C002C00; mov.b32 g, 0xD400D400; fma.rn.f16x2 $0, t, f, g;")
INT8_FIRST, INT8_SECOND = tl.constexpr(codes_as_fp16(0, *INT8)), tl.constexpr(codes_as_fp16(8, *INT8))
FP8_FIRST, FP8_SECOND = tl.constexpr(fp8_as_fp16("0x4420")), tl.constexpr(fp8_as_fp16("0x4431"))
LOW_FIRST, LOW_SECOND = tl.constexpr(codes_as_fp16(0, *LOW)), tl.constexpr(codes_as_fp16(8, *LOW))
HIGH_FIRST, HIGH_SECOND = tl.constexpr(codes_as_fp16(0, *HIGH)), tl.constexpr(codes_as_fp16(8, *HIGH))


@triton.jit
def by_ptx(x, PTX: tl.constexpr):
    """Apply PTX to 16-bit pairs, two at a time."""
    return tl.inline_asm_elementwise(PTX, "=r,r", [x], dtype=tl.float16, is_pure=True, pack=2)


@triton.jit
def number(x, PART: tl.constexpr, KIND: tl.constexpr, FDT: tl.constexpr, CDT: tl.constexpr, FAST: tl.constexpr):
    """Return one element of each pair of codes as a number of the compute type.

    PART: 0 the first, 1 the second; of int4, 2 and 3 are the first and second of the other half of the head. FAST:
    NVIDIA and fp16, where the compiler's own conversions take several times the instructions.
    """
    if FAST:
        if KIND == "int8":
            return by_ptx(x, INT8_FIRST if PART == 0 else INT8_SECOND)
        if KIND == "fp8":
            return by_ptx(x, FP8_FIRST if PART == 0 else FP8_SECOND)
        if PART < 2:
            return by_ptx(x, LOW_FIRST if PART == 0 else LOW_SECOND)
        return by_ptx(x, HIGH_FIRST if PART == 2 else HIGH_SECOND)
    wide = x.to(tl.int32)
    if KIND == "int4":
        return ((wide >> (8 * (PART % 2) + 4 * (PART // 2))) & 15).to(CDT)
    if KIND == "fp8":
        return ((wide >> (8 * PART)) & 255).to(tl.uint8).to(FDT, bitcast=True).to(CDT)
    return ((wide << (24 - 8 * PART)) >> 24).to(CDT)


@triton.jit
def query_pairs(at, head):
    """Load first and second elements of pairs of query elements [BH, BPAIRS], and the sum of both [BH]."""
    first = tl.load(at, mask=head, other=0.0).to(tl.float32)
    second = tl.load(at + 1, mask=head, other=0.0).to(tl.float32)
    return first, second, tl.sum(first, 1) + tl.sum(second, 1)


@triton.jit
def side_pair(SIDE, at, live, ss_g, GROUPS: tl.constexpr, THERE: tl.constexpr):
    """Load what both halves of each token share, scales or zeros: two [BN] of fp32, equal when there is one group."""
    low = tl.zeros(live.shape, tl.float32)
    high = low
    if THERE:
        low = tl.load(SIDE + at, mask=live, other=0.0).to(tl.float32)
        high = low
        if GROUPS == 2:
            high = tl.load(SIDE + at + ss_g, mask=live, other=0.0).to(tl.float32)
    return low, high


@triton.jit
def quantised_split_kernel(
    Q,
    K,
    V,
    KS,
    KZ,
    VS,
    VZ,
    TABLE,
    LENGTHS,
    OUT,
    LSE,
    scale,
    v_scale,
    q_heads,
    splits,
    sq_b,
    sq_h,
    sk_p,
    sk_t,
    sk_h,
    sv_p,
    sv_t,
    sv_h,
    ss_p,
    ss_h,
    ss_g,
    st_b,
    G: tl.constexpr,
    PAIRS: tl.constexpr,
    BPAIRS: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    PAGE: tl.constexpr,
    PAGED: tl.constexpr,
    KIND: tl.constexpr,
    HALVES: tl.constexpr,
    UNIT: tl.constexpr,
    GROUPS: tl.constexpr,
    ZERO: tl.constexpr,
    FDT: tl.constexpr,
    CDT: tl.constexpr,
    FAST: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head, b, h, real = query_heads(G, BH)
    split = tl.program_id(1)
    d = tl.arange(0, BPAIRS)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)
    apart: tl.constexpr = HALVES == 2 and KIND != "int4"  # the second half lies behind the first, not above it
    part: tl.constexpr = 2 if KIND == "int4" else 0

    at_q = Q + b * sq_b + h[:, None] * sq_h + 2 * d[None, :]
    head = inside(real, d, PAIRS, BPAIRS)
    q_first, q_second, sum_low = query_pairs(at_q, head)  # [BH, BPAIRS]
    q_first, q_second = q_first.to(CDT), q_second.to(CDT)
    if HALVES == 2:
        r_first, r_second, sum_high = query_pairs(at_q + 2 * PAIRS, head)
        r_first, r_second = r_first.to(CDT), r_second.to(CDT)
    K += kv_head * sk_h * UNIT
    V += kv_head * sv_h * UNIT
    sides = kv_head * ss_h
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    low_first = tl.zeros([BH, BPAIRS], tl.float32)
    low_second = tl.zeros([BH, BPAIRS], tl.float32)
    high_first = tl.zeros([BH, BPAIRS], tl.float32)
    high_second = tl.zeros([BH, BPAIRS], tl.float32)
    # what zeros add to the output, a sum over tokens that is taken at the end
    zero_low = tl.zeros([BH, BN], tl.float32)
    zero_high = tl.zeros([BH, BN], tl.float32)
    scaled: tl.constexpr = GROUPS > 0
    # pages two tiles ahead, scales and zeros one: neither is an async copy, so neither may be waited for
    n = lo + tl.arange(0, BN)
    page = page_base(TABLE, b, st_b, n, hi, PAGED, PAGE)
    ahead = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
    side = sides + page * ss_p + slot_in_page(n, PAGED, PAGE)
    ks_low, ks_high = side_pair(KS, side, n < hi, ss_g, GROUPS, scaled)
    kz_low, kz_high = side_pair(KZ, side, n < hi, ss_g, GROUPS, ZERO)
    vs_low, vs_high = side_pair(VS, side, n < hi, ss_g, GROUPS, scaled)
    vz_low, vz_high = side_pair(VZ, side, n < hi, ss_g, GROUPS, ZERO)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        slot = slot_in_page(n, PAGED, PAGE)
        seen = inside(live, d, PAIRS, BPAIRS)
        at_k = K + (page * sk_p * UNIT + slot * sk_t * UNIT)[:, None] + d[None, :]
        at_v = V + (page * sv_p * UNIT + slot * sv_t * UNIT)[:, None] + d[None, :]
        k = tl.load(at_k, mask=seen, other=0)  # [BN, BPAIRS]
        v = tl.load(at_v, mask=seen, other=0)
        s = dot_(q_first, tl.trans(number(k, 0, KIND, FDT, CDT, FAST)), UPCAST)  # [BH, BN]
        s += dot_(q_second, tl.trans(number(k, 1, KIND, FDT, CDT, FAST)), UPCAST)
        if HALVES == 2:
            if apart:
                k = tl.load(at_k + PAIRS, mask=seen, other=0)
            s_high = dot_(r_first, tl.trans(number(k, part, KIND, FDT, CDT, FAST)), UPCAST)
            s_high += dot_(r_second, tl.trans(number(k, part + 1, KIND, FDT, CDT, FAST)), UPCAST)
            if GROUPS == 2:
                s = s * ks_low[None, :] + s_high * ks_high[None, :]
            else:
                s += s_high
        if GROUPS == 1:
            s *= ks_low[None, :]
        if ZERO:
            if GROUPS == 2:
                s += sum_low[:, None] * kz_low[None, :] + sum_high[:, None] * kz_high[None, :]
            elif HALVES == 2:
                s += (sum_low + sum_high)[:, None] * kz_low[None, :]
            else:
                s += sum_low[:, None] * kz_low[None, :]
        s = tl.where(live[None, :], s * (scale * LOG2E), float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        p_low = p
        p_high = p
        if GROUPS > 0:
            p_low = p * (vs_low * LIFT)[None, :]
            p_high = p_low
            if GROUPS == 2:
                p_high = p * (vs_high * LIFT)[None, :]
        if ZERO:
            zero_low = zero_low * alpha[:, None] + p * vz_low[None, :]
            if GROUPS == 2:
                zero_high = zero_high * alpha[:, None] + p * vz_high[None, :]
        low_first = low_first * alpha[:, None] + dot_(p_low, number(v, 0, KIND, FDT, CDT, FAST), UPCAST)
        low_second = low_second * alpha[:, None] + dot_(p_low, number(v, 1, KIND, FDT, CDT, FAST), UPCAST)
        if HALVES == 2:
            if apart:
                v = tl.load(at_v + PAIRS, mask=seen, other=0)
            high_first = high_first * alpha[:, None] + dot_(p_high, number(v, part, KIND, FDT, CDT, FAST), UPCAST)
            high_second = high_second * alpha[:, None] + dot_(p_high, number(v, part + 1, KIND, FDT, CDT, FAST), UPCAST)
        n += BN
        side = sides + ahead * ss_p + slot_in_page(n, PAGED, PAGE)
        ks_low, ks_high = side_pair(KS, side, n < hi, ss_g, GROUPS, scaled)
        kz_low, kz_high = side_pair(KZ, side, n < hi, ss_g, GROUPS, ZERO)
        vs_low, vs_high = side_pair(VS, side, n < hi, ss_g, GROUPS, scaled)
        vz_low, vz_high = side_pair(VZ, side, n < hi, ss_g, GROUPS, ZERO)
        # both loaded, not handed on: the pipeliner gives up on a value that is two iterations old
        page = page_base(TABLE, b, st_b, n, hi, PAGED, PAGE)
        ahead = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
    rows = (b * q_heads + h) * splits + split
    inverse = (store_lse(LSE, rows, m, z, real) * v_scale)[:, None]
    into = OUT + rows[:, None] * (2 * HALVES * PAIRS) + 2 * d[None, :]
    shift = tl.sum(zero_low, 1)[:, None]
    if scaled:
        low_first *= 1 / LIFT
        low_second *= 1 / LIFT
    tl.store(into, ((low_first + shift) * inverse).to(OUT.dtype.element_ty), mask=head)
    tl.store(into + 1, ((low_second + shift) * inverse).to(OUT.dtype.element_ty), mask=head)
    if HALVES == 2:
        if GROUPS == 2:
            shift = tl.sum(zero_high, 1)[:, None]
        if scaled:
            high_first *= 1 / LIFT
            high_second *= 1 / LIFT
        into += 2 * PAIRS
        tl.store(into, ((high_first + shift) * inverse).to(OUT.dtype.element_ty), mask=head)
        tl.store(into + 1, ((high_second + shift) * inverse).to(OUT.dtype.element_ty), mask=head)


def traffic(
    kind: str, batch: int, q_heads: int, kv_heads: int, head_dim: int, tokens: int, groups: int | None = None
) -> tuple[float, float]:
    """Return (bytes moved, flops) of one call.

    `tokens` is the mean length; `groups` scales per token and head, by default one per 64 elements for int8 and int4
    (2 bytes of scale, 2 of zero point) and none for fp8.
    """
    elements = 2 * batch * tokens * kv_heads * head_dim
    groups = (0 if kind == "fp8" else max(1, head_dim // GROUP)) if groups is None else groups
    side = 2 * batch * tokens * kv_heads * groups * (2 if kind == "fp8" else 4)
    small = 2 * batch * q_heads * head_dim * 2
    return elements * (0.5 if kind == "int4" else 1.0) + side + small, 4.0 * batch * q_heads * head_dim * tokens


def in_pairs(**caches: torch.Tensor) -> list[torch.Tensor]:
    """Return caches of one byte an element as 16-bit pairs; ValueError where rows begin at odd bytes."""
    for name, cache in caches.items():
        if any(step % 2 for step in cache.stride()[:-1]) or cache.storage_offset() % 2:
            raise ValueError(f"{name}: rows must begin at even bytes, its strides are {cache.stride()}")
    return [cache.view(torch.int16) for cache in caches.values()]


def refuse_sides(
    sizes: dict[str, int],
    k: torch.Tensor,
    k_scale: torch.Tensor | float,
    v_scale: torch.Tensor | float,
    k_zero: torch.Tensor | None,
    v_zero: torch.Tensor | None,
) -> tuple[bool, int]:
    """Return whether scales are tensors, and how many a head has; ValueError when they do not fit the cache k."""
    given = {"k_scale": k_scale, "v_scale": v_scale, "k_zero": k_zero, "v_zero": v_zero}
    sides = {name: side for name, side in given.items() if isinstance(side, torch.Tensor)}
    if isinstance(k_scale, torch.Tensor) != isinstance(v_scale, torch.Tensor):
        raise ValueError("k_scale and v_scale must both be tensors or both be floats")
    if (k_zero is None) != (v_zero is None) or (k_zero is not None and "k_scale" not in sides):
        raise ValueError("k_zero and v_zero must both be given or neither, and beside scales that are tensors")
    if not sides:
        return False, 0
    known = sizes | {"pages": k.shape[0], "tokens": k.shape[1]}
    given_sides = {name: (side, "pages Hkv groups tokens", FLOATS) for name, side in sides.items()}
    known = agree(known, k=(k, "pages tokens Hkv stored", (k.dtype,)), **given_sides)
    strides = {side.stride() for side in sides.values()}
    if len(strides) > 1:
        raise ValueError("scales and zeros must have the same strides, tokens contiguous")
    groups = known["groups"]
    if groups not in (1, 2):
        raise ValueError(f"{groups} scales per head: must be 1, or 2 (one per half of a head)")
    return True, groups


def quantised_decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor,
    *,
    kind: str,
    k_scale: torch.Tensor | float = 1.0,
    v_scale: torch.Tensor | float = 1.0,
    k_zero: torch.Tensor | None = None,
    v_zero: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend one query token per sequence to a quantised cache.

    q [B, Hq, D]; k, v [B, T, Hkv, D] (or pages [P, page, Hkv, D] with block_table [B, pages]) of float8_e4m3fn for
    `fp8`, int8 for `int8`; for `int4` uint8 with D/2 columns, element j in the low nibble of byte j and element
    j + D/2 in its high nibble. Scales and zeros: one float for all, or tensors [B or P, Hkv, groups, T or page] of
    bf16 or fp32, groups 1 or 2, all four of the same strides; zeros only beside tensors. lengths [B] int32, in tokens.

    Returns out [B, Hq, D] of q's type and lse [B, Hq] fp32, natural; a sequence of length 0 gets 0 and -inf.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: write {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    pages = "B T" if block_table is None else "P page"
    row = f"{pages} Hkv D/2" if kind == "int4" else f"{pages} Hkv D"
    known = agree(q=(q, "B Hq D", FLOATS), lengths=(lengths, "B", INT32), block_table=(block_table, "B pages", INT32))
    sizes = agree(known, q=(q, "B Hq D", FLOATS), k=(k, row, KINDS_STORED[kind]), v=(v, row, KINDS_STORED[kind]))
    refuse_fp8(k=k, v=v)
    batch, q_heads, kv_heads, width = (sizes[axis] for axis in ("B", "Hq", "Hkv", "D"))
    refuse_odd(width)
    if width % 4:
        raise ValueError(f"head_dim {width}: codes are read in pairs, so that it must be a multiple of 4")
    group = group_of(q_heads, kv_heads)
    size = {"int4": 0.5}.get(kind, 1)
    shape = Shape("quantised fp8" if kind == "fp8" else "quantised", width, group, size)
    config = config or tile_for(shape, k)
    tensors, groups = refuse_sides(sizes, k, k_scale, v_scale, k_zero, v_zero)
    sides = [t for t in (k_scale, v_scale, k_zero, v_zero) if isinstance(t, torch.Tensor)]
    scale = width**-0.5 if scale is None else scale
    blocks = triton.cdiv(group, config.rows)
    longest = longest_sequence(k, block_table)
    splits = splits or splits_for(shape, config, k, batch, kv_heads * blocks, longest, sms)
    partial, lses = split_buffers(batch, q_heads, splits, width, q.dtype, q.device)
    fast = not INTERPRETED and gpu_of(q.device).capability >= 80
    compute = tl.float32 if INTERPRETED else tl.float16 if fast or kind == "fp8" else tl.bfloat16
    halves = 2 if kind == "int4" or groups == 2 else 1
    pairs = width // 2 // halves
    k_pairs, v_pairs = in_pairs(k=k, v=v)
    strides = *k_pairs.stride()[:3], *v_pairs.stride()[:3]
    unit = math.gcd(8, *strides)  # 8 pairs are the 16 bytes of one load; the compiler sees multiples of 16 only
    quantised_split_kernel[(kv_heads * blocks, splits, batch)](
        q,
        k_pairs,
        v_pairs,
        k_scale if tensors else lses,
        lses if k_zero is None else k_zero,
        v_scale if tensors else lses,
        lses if v_zero is None else v_zero,
        lengths if block_table is None else block_table,
        lengths,
        partial,
        lses,
        scale if tensors else scale * k_scale,
        1.0 if tensors else v_scale,
        q_heads,
        splits,
        *q.stride()[:2],
        *(step // unit for step in strides),
        *(sides[0].stride()[:3] if sides else (0, 0, 0)),
        0 if block_table is None else block_table.stride(0),
        G=group,
        PAIRS=pairs,
        BPAIRS=power_of_two(pairs),
        BH=config.rows,
        BN=config.tokens,
        PAGE=k.shape[1] if block_table is not None else 1,
        PAGED=block_table is not None,
        KIND=kind,
        HALVES=halves,
        UNIT=unit,
        GROUPS=groups,
        ZERO=k_zero is not None,
        FDT=TL_FP8.get(k.dtype, tl.float8e4nv),
        CDT=compute,
        FAST=fast,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return finish(partial, lses, q.dtype)
