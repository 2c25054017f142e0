"""Decode attention over a cache of fp8, int8 or packed int4, as `decode_attention` otherwise.

Codes become numbers as code * scale + zero. A head of D elements is handled as two halves of D/2: with int4 the low
nibbles of a row are its first half and the high nibbles its second, so nothing is ever interleaved. A half has one
scale and one zero per token (64 elements share them at D 128; the two halves share theirs at D 64), so both fold into
S and P: s = sum over halves of (q.code) * scale + (sum of q) * zero, and the same for P.V. No element is scaled.

fp8 is e4m3 and computes in fp16, int8 and int4 compute in bf16: the conversions that are cheap on sm_90. Scales: KIVI
(arXiv 2402.02750) and quanto for groups; fp8 has one scale per tensor, or one per token and head. Limits: head_dim 64
or 128 with groups of 64, or any even head_dim up to 256 with one scale per token or per tensor.
"""

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
    group_of,
    inside,
    longest_sequence,
    online_softmax,
    page_base,
    pick_splits,
    query_heads,
    refuse_fp8,
    refuse_odd,
    slot_in_page,
    sm_count,
    split_range,
    store_halves,
    tile_for,
)
from .decode_attention import finish, split_buffers
from .tiles import Config, Shape, power_of_two

#: elements that share a scale and a zero point
GROUP = 64
KINDS = ("fp8", "int8", "int4")
#: how codes are stored
KINDS_STORED = {"fp8": FP8, "int8": (torch.int8,), "int4": (torch.uint8,)}


@triton.jit
def halves(at, seen, HALF: tl.constexpr, PACKED: tl.constexpr, CDT: tl.constexpr):
    """Load a row's two halves [BN, HALF] as numbers of the compute type; packed rows hold both in one byte."""
    if PACKED:
        both = tl.load(at, mask=seen, other=0)
        return (both & 15).to(tl.int8).to(CDT), (both >> 4).to(tl.int8).to(CDT)
    low = tl.load(at, mask=seen, other=0.0)
    high = tl.load(at + HALF, mask=seen, other=0.0)
    return low.to(CDT), high.to(CDT)


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
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    PAGE: tl.constexpr,
    PAGED: tl.constexpr,
    PACKED: tl.constexpr,
    GROUPS: tl.constexpr,
    ZERO: tl.constexpr,
    CDT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head, b, h, real = query_heads(G, BH)
    split = tl.program_id(1)
    d = tl.arange(0, BHALF)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    head = inside(real, d, HALF, BHALF)
    q_low = tl.load(at_q, mask=head, other=0.0).to(tl.float32)  # [BH, BHALF]
    q_high = tl.load(at_q + HALF, mask=head, other=0.0).to(tl.float32)
    sum_low, sum_high = tl.sum(q_low, 1), tl.sum(q_high, 1)  # [BH]
    q_low, q_high = q_low.to(CDT), q_high.to(CDT)
    K += kv_head * sk_h
    V += kv_head * sv_h
    sides = kv_head * ss_h
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc_low = tl.zeros([BH, BHALF], tl.float32)
    acc_high = tl.zeros([BH, BHALF], tl.float32)
    zero_low = tl.zeros([BH], tl.float32)
    zero_high = tl.zeros([BH], tl.float32)
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
        seen = inside(live, d, HALF, BHALF)
        k_low, k_high = halves(K + (page * sk_p + slot * sk_t)[:, None] + d[None, :], seen, HALF, PACKED, CDT)
        v_low, v_high = halves(V + (page * sv_p + slot * sv_t)[:, None] + d[None, :], seen, HALF, PACKED, CDT)
        s = dot_(q_low, tl.trans(k_low), UPCAST)  # [BH, BN]
        s_high = dot_(q_high, tl.trans(k_high), UPCAST)
        if GROUPS == 2:
            s = s * ks_low[None, :] + s_high * ks_high[None, :]
        elif GROUPS == 1:
            s = (s + s_high) * ks_low[None, :]
        else:
            s += s_high
        if ZERO:
            s += sum_low[:, None] * kz_low[None, :] + sum_high[:, None] * kz_high[None, :]
        s = tl.where(live[None, :], s * (scale * LOG2E), float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        p_low = p
        p_high = p
        if GROUPS > 0:
            p_low = p * vs_low[None, :]
            p_high = p * vs_high[None, :]
        if ZERO:
            zero_low = zero_low * alpha + tl.sum(p * vz_low[None, :], 1)
            zero_high = zero_high * alpha + tl.sum(p * vz_high[None, :], 1)
        acc_low = acc_low * alpha[:, None] + dot_(p_low, v_low, UPCAST)
        acc_high = acc_high * alpha[:, None] + dot_(p_high, v_high, UPCAST)
        n += BN
        side = sides + ahead * ss_p + slot_in_page(n, PAGED, PAGE)
        ks_low, ks_high = side_pair(KS, side, n < hi, ss_g, GROUPS, scaled)
        kz_low, kz_high = side_pair(KZ, side, n < hi, ss_g, GROUPS, ZERO)
        vs_low, vs_high = side_pair(VS, side, n < hi, ss_g, GROUPS, scaled)
        vz_low, vz_high = side_pair(VZ, side, n < hi, ss_g, GROUPS, ZERO)
        # both loaded, not handed on: the pipeliner gives up on a value that is two iterations old
        page = page_base(TABLE, b, st_b, n, hi, PAGED, PAGE)
        ahead = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
    acc_low += zero_low[:, None]
    acc_high += zero_high[:, None]
    rows = (b * q_heads + h) * splits + split
    store_halves(OUT, LSE, rows, acc_low, acc_high, m, z, v_scale, real, d, HALF, BHALF)


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
    group = group_of(q_heads, kv_heads)
    size = {"int4": 0.5}.get(kind, 1)
    config = config or tile_for(Shape("quantised fp8" if kind == "fp8" else "quantised", width, group, size), k)
    tensors, groups = refuse_sides(sizes, k, k_scale, v_scale, k_zero, v_zero)
    sides = [t for t in (k_scale, v_scale, k_zero, v_zero) if isinstance(t, torch.Tensor)]
    scale = width**-0.5 if scale is None else scale
    blocks = triton.cdiv(group, config.rows)
    longest = longest_sequence(k, block_table)
    splits = splits or pick_splits(batch, kv_heads * blocks, longest, config.tokens, sms or sm_count(q.device))
    partial, lses = split_buffers(batch, q_heads, splits, width, q.dtype, q.device)
    compute = tl.float32 if INTERPRETED else tl.float16 if kind == "fp8" else tl.bfloat16
    quantised_split_kernel[(kv_heads * blocks, splits, batch)](
        q,
        k,
        v,
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
        *k.stride()[:3],
        *v.stride()[:3],
        *(sides[0].stride()[:3] if sides else (0, 0, 0)),
        0 if block_table is None else block_table.stride(0),
        G=group,
        HALF=width // 2,
        BHALF=power_of_two(width // 2),
        BH=config.rows,
        BN=config.tokens,
        PAGE=k.shape[1] if block_table is not None else 1,
        PAGED=block_table is not None,
        PACKED=kind == "int4",
        GROUPS=groups,
        ZERO=k_zero is not None,
        CDT=compute,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return finish(partial, lses, q.dtype)
