"""Decode attention over a low-rank latent cache: MHC (latent KV), and MLA at its shapes.

Three forms, which differ in what is stored and what is rebuilt (facts on when each wins: docs/techniques.md):

absorbed     One latent [R] a token serves keys and values of all heads; the up-projections are folded into q and into
             the output projection, so attention runs on the latent itself. An optional decoupled rotary part [r] is
             added to the logits (DeepSeek-V2, arXiv 2405.04434). R 512 with r 64 is MLA.
fused        Separate latents for keys and values. Keys are rebuilt tile by tile inside the kernel and rotated there
             (Palu, arXiv 2407.21118, rebuilds keys for the same reason); values stay absorbed.
reconstruct  Both rebuilt in memory with a matrix product, then plain decode: the honest slow one.

Limits: ranks up to 512 (256 for a latent in fp8, absorbed only) in tiles of the next power of two. The fused form keeps
a whole projection beside its tiles, so wide ranks fit large GPUs only (`tiles`). The absorbed form re-reads the latent
(through L2) once per tile of heads.
"""

import math

import torch
import triton
import triton.language as tl

from .common import (
    FLOATS,
    FP8,
    HALVES,
    INT32,
    INTERPRETED,
    LN2,
    LOG2E,
    TL_TYPES,
    agree,
    dot_,
    group_of,
    inside,
    longest_sequence,
    online_softmax,
    page_base,
    query_heads,
    refuse_fp8,
    refuse_tables,
    slot_in_page,
    split_range,
    splits_for,
    store_lse,
    store_split,
    tile_for,
)
from .decode_attention import decode_attention, finish, split_buffers
from .decode_attention import traffic as decode_traffic
from .tiles import Config, Shape, power_of_two

#: widest rotary part
ROPE_MOST = 64


@triton.jit
def absorbed_split_kernel(
    Q,
    QR,
    C,
    CR,
    TABLE,
    LENGTHS,
    OUT,
    LSE,
    LOGITS,
    scale,
    out_scale,
    heads,
    splits,
    sq_b,
    sq_h,
    sr_b,
    sr_h,
    sc_p,
    sc_t,
    sp_p,
    sp_t,
    st_b,
    sl_h,
    R: tl.constexpr,
    BR: tl.constexpr,
    ROPE: tl.constexpr,
    BROPE: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    PAGE: tl.constexpr,
    PAGED: tl.constexpr,
    STORE_LOGITS: tl.constexpr,
    CDT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    h = tl.program_id(0).to(tl.int64) * BH + tl.arange(0, BH)  # [BH]
    split = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    real = h < heads
    r = tl.arange(0, BR)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    q = tl.load(Q + b * sq_b + h[:, None] * sq_h + r[None, :], mask=inside(real, r, R, BR), other=0.0)  # [BH, BR]
    if ROPE > 0:
        e = tl.arange(0, BROPE)
        at_q = QR + b * sr_b + h[:, None] * sr_h + e[None, :]
        qr = tl.load(at_q, mask=inside(real, e, ROPE, BROPE), other=0.0)  # [BH, BROPE]
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BH, BR], tl.float32)
    page = page_base(TABLE, b, st_b, lo + tl.arange(0, BN), hi, PAGED, PAGE)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        slot = slot_in_page(n, PAGED, PAGE)
        at_c = C + (page * sc_p + slot * sc_t)[:, None] + r[None, :]
        c = tl.load(at_c, mask=inside(live, r, R, BR), other=0.0)  # [BN, BR]
        if c.dtype != CDT:
            # masked once more: the compiler moves a bare conversion behind both products' changes of layout, and then
            # cannot load ahead (Triton 3.6 before sm_90)
            c = tl.where(live[:, None], c.to(CDT), 0.0)
        s = dot_(q, tl.trans(c), UPCAST)  # [BH, BN]
        if ROPE > 0:
            at_c = CR + (page * sp_p + slot * sp_t)[:, None] + e[None, :]
            cr = tl.load(at_c, mask=inside(live, e, ROPE, BROPE), other=0.0)
            s += dot_(qr, tl.trans(cr.to(CDT)), UPCAST)
        page = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
        s *= scale * LOG2E
        if STORE_LOGITS:
            into = LOGITS + (b * heads + h)[:, None] * sl_h + n[None, :]
            tl.store(into, (s * LN2).to(LOGITS.dtype.element_ty), mask=real[:, None] & live[None, :])
        s = tl.where(live[None, :], s, float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        acc = acc * alpha[:, None] + dot_(p, c, UPCAST)
    store_split(OUT, LSE, (b * heads + h) * splits + split, acc * out_scale, m, z, real, r, R, BR)


@triton.jit
def turned_split_kernel(
    Q,
    QR,
    C,
    CR,
    TABLE,
    LENGTHS,
    OUT,
    LSE,
    LOGITS,
    scale,
    out_scale,
    heads,
    splits,
    sq_b,
    sq_h,
    sr_b,
    sr_h,
    sc_p,
    sc_t,
    sp_p,
    sp_t,
    st_b,
    sl_h,
    R: tl.constexpr,
    BR: tl.constexpr,
    ROPE: tl.constexpr,
    BROPE: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    PAGE: tl.constexpr,
    PAGED: tl.constexpr,
    STORE_LOGITS: tl.constexpr,
    CDT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """As `absorbed_split_kernel`, tokens and ranks in the rows of the products, heads in the columns.

    Fewer than 64 heads fill no product of warp groups as rows; as columns they do, and then the latent is multiplied
    from shared memory and no warp loads the whole query again for every tile.
    """
    h = tl.program_id(0).to(tl.int64) * BH + tl.arange(0, BH)  # [BH]
    split = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    real = h < heads
    r = tl.arange(0, BR)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    q = tl.load(Q + b * sq_b + h[:, None] * sq_h + r[None, :], mask=inside(real, r, R, BR), other=0.0)  # [BH, BR]
    if ROPE > 0:
        e = tl.arange(0, BROPE)
        at_q = QR + b * sr_b + h[:, None] * sr_h + e[None, :]
        qr = tl.load(at_q, mask=inside(real, e, ROPE, BROPE), other=0.0)  # [BH, BROPE]
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BR, BH], tl.float32)
    page = page_base(TABLE, b, st_b, lo + tl.arange(0, BN), hi, PAGED, PAGE)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        slot = slot_in_page(n, PAGED, PAGE)
        at_c = C + (page * sc_p + slot * sc_t)[:, None] + r[None, :]
        c = tl.load(at_c, mask=inside(live, r, R, BR), other=0.0)  # [BN, BR]
        s = dot_(c, tl.trans(q), UPCAST)  # [BN, BH]
        if ROPE > 0:
            at_c = CR + (page * sp_p + slot * sp_t)[:, None] + e[None, :]
            cr = tl.load(at_c, mask=inside(live, e, ROPE, BROPE), other=0.0)
            s += dot_(cr, tl.trans(qr), UPCAST)
        page = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
        s *= scale * LOG2E
        if STORE_LOGITS:
            into = LOGITS + (b * heads + h)[None, :] * sl_h + n[:, None]
            tl.store(into, (s * LN2).to(LOGITS.dtype.element_ty), mask=live[:, None] & real[None, :])
        s = tl.where(live[:, None], s, float("-inf"))
        m_new = tl.maximum(m, tl.max(s, 0))
        alpha = tl.exp2(m - m_new)
        p = tl.exp2(s - m_new[None, :])
        z = z * alpha + tl.sum(p, 0)
        m = m_new
        if not UPCAST:
            p = p.to(CDT)
        acc = acc * alpha[None, :] + dot_(tl.trans(c), p, UPCAST)
    rows = (b * heads + h) * splits + split
    out = acc * (store_lse(LSE, rows, m, z, real) * out_scale)[None, :]
    there = (r < R)[:, None] & real[None, :]
    tl.store(OUT + rows[None, :] * R + r[:, None], out.to(OUT.dtype.element_ty), mask=there)


@triton.jit
def columns(at, d, D: tl.constexpr, BD: tl.constexpr):
    """Load a tile [rows, BD], columns below D of it where it is wider."""
    if D == BD:
        return tl.load(at)
    return tl.load(at, mask=(d < D)[None, :], other=0.0)


@triton.jit
def repeated(x, TIMES: tl.constexpr):
    """Return x [rows, columns] several times side by side."""
    wide = tl.broadcast_to(x[:, None, :], [x.shape[0], TIMES, x.shape[1]])
    return tl.reshape(wide, [x.shape[0], TIMES * x.shape[1]])


@triton.jit
def fused_split_kernel(
    Q,
    CK,
    CV,
    W,
    COS,
    SIN,
    LENGTHS,
    OUT,
    LSE,
    scale,
    heads,
    splits,
    sq_b,
    sq_h,
    sk_b,
    sk_t,
    sv_b,
    sv_t,
    sw_h,
    sw_r,
    sf_t,
    G: tl.constexpr,
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    RK: tl.constexpr,
    BRK: tl.constexpr,
    RV: tl.constexpr,
    BRV: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    UNIT: tl.constexpr,
    TOGETHER: tl.constexpr,
    ALIKE: tl.constexpr,
    ROTATE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    split = tl.program_id(1)
    d = tl.arange(0, TOGETHER * BHALF)
    if TOGETHER == 1:
        kv_head, b, h, real = query_heads(G, BH)
        head = inside(real, d, HALF, BHALF)
        there = inside(tl.arange(0, BRK) < RK, d, HALF, BHALF)
        of_head = kv_head
    else:
        # keys of several heads side by side: a row of queries is 0 but for its own head's
        b = tl.program_id(2).to(tl.int64)
        kv_head = (tl.program_id(0) * TOGETHER).to(tl.int64)
        g = tl.arange(0, BH)
        h, real = kv_head * G + g, g < TOGETHER * G
        head = real[:, None] & ((g // G)[:, None] == (d // BHALF)[None, :]) & (d % BHALF < HALF)[None, :]
        there = (tl.arange(0, BRK) < RK)[:, None] & (d % BHALF < HALF)[None, :]
        of_head = (kv_head + d // BHALF)[None, :]
        d %= BHALF
    e = tl.arange(0, BHALF)
    rk = tl.arange(0, BRK)
    rv = tl.arange(0, BRV)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    q_low = tl.load(at_q, mask=head, other=0.0)  # [BH, TOGETHER * BHALF]
    q_high = tl.load(at_q + HALF, mask=head, other=0.0)
    at_w = W + of_head * sw_h + rk[:, None] * sw_r + d[None, :]
    w_low = tl.load(at_w, mask=there, other=0.0)  # [BRK, TOGETHER * BHALF]
    w_high = tl.load(at_w + HALF, mask=there, other=0.0)
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BH, BRV], tl.float32)
    CK += b * sk_b
    CV += b * sv_b
    for start in range(lo, hi, BN):
        # past the end the last token is read again, and weighs nothing: no load needs a mask of rows
        n = tl.minimum(start + tl.arange(0, BN), hi - 1).to(tl.int64)
        at_c = n[:, None] * sk_t + rk[None, :]
        ck = columns(CK + at_c, rk, RK, BRK)  # [BN, BRK]
        k_low = dot_(ck, w_low, UPCAST)  # [BN, TOGETHER * BHALF]
        k_high = dot_(ck, w_high, UPCAST)
        if ROTATE:
            at_f = n[:, None] * sf_t * UNIT + e[None, :]
            cos = columns(COS + at_f, e, HALF, BHALF).to(tl.float32)  # [BN, BHALF]
            sin = columns(SIN + at_f, e, HALF, BHALF).to(tl.float32)
            if TOGETHER > 1:
                cos, sin = repeated(cos, TOGETHER), repeated(sin, TOGETHER)
            turned = k_low * cos - k_high * sin
            k_high = k_high * cos + k_low * sin
            k_low = turned
        if not UPCAST:
            k_low = k_low.to(CK.dtype.element_ty)
            k_high = k_high.to(CK.dtype.element_ty)
        s = dot_(q_low, tl.trans(k_low), UPCAST)  # [BH, BN]
        s += dot_(q_high, tl.trans(k_high), UPCAST)
        live = start + tl.arange(0, BN) < hi
        s = tl.where(live[None, :], s * (scale * LOG2E), float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        if not ALIKE:
            at_c = n[:, None] * sv_t + rv[None, :]
        cv = columns(CV + at_c, rv, RV, BRV)  # [BN, BRV]
        acc = acc * alpha[:, None] + dot_(p, cv, UPCAST)
    store_split(OUT, LSE, (b * heads + h) * splits + split, acc, m, z, real, rv, RV, BRV)


def absorbed_traffic(
    batch: int, heads: int, rank: int, tokens: int, rope: int = 0, itemsize: int = 2, logits: bool = False
) -> tuple[float, float]:
    """Return (bytes moved, flops) of one absorbed call; `tokens` is the mean length, `itemsize` in bytes."""
    cache = batch * tokens * (rank + rope) * itemsize
    small = batch * heads * (2 * rank + rope) * itemsize
    written = 2 * batch * heads * tokens if logits else 0
    return float(cache + small + written), 2.0 * batch * heads * tokens * (2 * rank + rope)


def fused_traffic(
    batch: int, heads: int, kv_heads: int, head_dim: int, k_rank: int, v_rank: int, tokens: int, itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes moved, flops) of one fused call: latents and 16-bit tables read once, keys rebuilt per KV head."""
    cache = (batch * tokens * (k_rank + v_rank) + tokens * head_dim) * itemsize
    small = (batch * heads * (head_dim + v_rank) + kv_heads * k_rank * head_dim) * itemsize
    rebuild = 2.0 * batch * tokens * k_rank * kv_heads * head_dim
    return float(cache + small), rebuild + 2.0 * batch * heads * tokens * (head_dim + v_rank)


def reconstruct_traffic(
    batch: int, heads: int, kv_heads: int, head_dim: int, k_rank: int, v_rank: int, tokens: int, itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes moved, flops): latents read, keys and values written (keys once more to rotate them), then read."""
    full = batch * tokens * kv_heads * head_dim * itemsize
    moved, flops = decode_traffic(batch, heads, kv_heads, head_dim, tokens, itemsize)
    latents = batch * tokens * (k_rank + v_rank) * itemsize
    return moved + latents + 4 * full, flops + 2.0 * batch * tokens * (k_rank + v_rank) * kv_heads * head_dim


def traffic(
    form: str,
    batch: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rank: int,
    tokens: int,
    rope: int = 0,
    itemsize: int = 2,
) -> tuple[float, float]:
    """Return (bytes moved, flops) of a form; `rank` is what a token stores, unless absorbed half of it for keys."""
    if form == "absorbed":
        return absorbed_traffic(batch, heads, rank, tokens, rope, itemsize)
    of = {"fused": fused_traffic, "reconstruct": reconstruct_traffic}[form]
    return of(batch, heads, kv_heads, head_dim, rank // 2, rank - rank // 2, tokens, itemsize)


def absorbed_splits(
    q: torch.Tensor,
    latent: torch.Tensor,
    lengths: torch.Tensor,
    *,
    q_rope: torch.Tensor | None = None,
    k_rope: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    scale: float,
    stored_scale: float = 1.0,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `absorbed_decode` does before combining; `dtype` is that of the output of a single split."""
    paged = block_table is not None
    stored = (q.dtype, *FP8)
    sizes = agree(
        q=(q, "B H R", FLOATS),
        latent=(latent, "P page R" if paged else "B T R", stored),
        lengths=(lengths, "B", INT32),
        q_rope=(q_rope, "B H r", (q.dtype,)),
        k_rope=(k_rope, "P page r" if paged else "B T r", (latent.dtype,)),
        block_table=(block_table, "B pages", INT32),
        logits=(logits, "B H T+", HALVES),
    )
    refuse_fp8(latent=latent)
    if (q_rope is None) != (k_rope is None):
        raise ValueError("q_rope and k_rope must both be given, or neither")
    batch, heads, rank, rope = sizes["B"], sizes["H"], sizes["R"], sizes.get("r", 0)
    if rope > ROPE_MOST:
        raise ValueError(f"rotary part of {rope}: the absorbed form takes at most {ROPE_MOST}")
    shape = Shape("absorbed", rank, heads, latent.element_size(), rope, logits=logits is not None)
    config = config or tile_for(shape, latent)
    blocks = triton.cdiv(heads, config.rows)
    compute = TL_TYPES[torch.float16 if latent.dtype in FP8 else latent.dtype]
    compute = tl.float32 if INTERPRETED and compute != tl.float32 else compute
    longest = longest_sequence(latent, block_table)
    splits = splits or splits_for(shape, config, latent, batch, blocks, longest, sms)
    partial, lses = split_buffers(batch, heads, splits, rank, dtype or q.dtype, q.device)
    kernel = turned_split_kernel if config.turned else absorbed_split_kernel
    kernel[(blocks, splits, batch)](
        q,
        q if q_rope is None else q_rope,
        latent,
        latent if k_rope is None else k_rope,
        lengths if block_table is None else block_table,
        lengths,
        partial,
        lses,
        lses if logits is None else logits,
        scale * stored_scale,
        stored_scale,
        heads,
        splits,
        *q.stride()[:2],
        *((0, 0) if q_rope is None else q_rope.stride()[:2]),
        *latent.stride()[:2],
        *((0, 0) if k_rope is None else k_rope.stride()[:2]),
        0 if block_table is None else block_table.stride(0),
        0 if logits is None else logits.stride(1),
        R=rank,
        BR=power_of_two(rank),
        ROPE=rope,
        BROPE=power_of_two(rope) if rope else 0,
        BH=config.rows,
        BN=config.tokens,
        PAGE=latent.shape[1] if block_table is not None else 1,
        PAGED=block_table is not None,
        STORE_LOGITS=logits is not None,
        CDT=compute,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return partial, lses


def absorbed_decode(
    q: torch.Tensor,
    latent: torch.Tensor,
    lengths: torch.Tensor,
    *,
    q_rope: torch.Tensor | None = None,
    k_rope: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    scale: float,
    stored_scale: float = 1.0,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend one query token per sequence to a latent cache, without leaving the latent.

    q [B, H, R], the query with the key up-projection folded in; latent [B, T, R] (or pages [P, page, R] with
    block_table [B, pages] int32); q_rope [B, H, r] and k_rope [B, T, r] (or pages), rotated already; both may be
    views of one tensor [..., R + r]. lengths [B] int32, in tokens. `scale` multiplies (q.latent + q_rope.k_rope): the
    model's own, e.g. (128 + 64)**-0.5, not that of R. A cache of e4m3 (`common.fp8_type`) computes in fp16; its numbers
    are what is stored times `stored_scale`. `logits` [B, H, T] fp16 as in `decode_attention`.

    Returns out [B, H, R] of q's type (still to be multiplied by the value up-projection) and lse [B, H] fp32.
    """
    partial, lses = absorbed_splits(
        q,
        latent,
        lengths,
        q_rope=q_rope,
        k_rope=k_rope,
        block_table=block_table,
        scale=scale,
        stored_scale=stored_scale,
        splits=splits,
        sms=sms,
        logits=logits,
        config=config,
    )
    return finish(partial, lses, q.dtype)


def fused_decode(
    q: torch.Tensor,
    k_latent: torch.Tensor,
    v_latent: torch.Tensor,
    k_up: torch.Tensor,
    lengths: torch.Tensor,
    *,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend with keys rebuilt and rotated inside the kernel and values absorbed.

    q [B, Hq, D], rotated; k_latent [B, T, Rk], v_latent [B, T, Rv]; k_up [Hkv, Rk, D]; lengths [B] int32, in tokens;
    cos, sin [T, D/2] (rotate-half convention, row t for slot t), or none for keys without rotation; fp32 tables take
    twice the room and way of 16-bit ones, which models rotate by.

    Returns out [B, Hq, Rv] of q's type (still to be multiplied by the value up-projection) and lse [B, Hq] fp32.
    """
    sizes = agree(
        q=(q, "B Hq D", FLOATS),
        k_latent=(k_latent, "B T Rk", (q.dtype,)),
        v_latent=(v_latent, "B T Rv", (q.dtype,)),
        k_up=(k_up, "Hkv Rk D", (q.dtype,)),
        lengths=(lengths, "B", INT32),
    )
    refuse_tables(sizes, sizes["T"], cos, sin)
    batch, heads, kv_heads, width = (sizes[axis] for axis in ("B", "Hq", "Hkv", "D"))
    k_rank, v_rank = sizes["Rk"], sizes["Rv"]
    group = group_of(heads, kv_heads)
    widest = max(k_rank, v_rank)
    turn = 4 if cos is None else cos.element_size()
    unit = 1 if cos is None else math.gcd(8, cos.stride(0))  # the compiler sees multiples of 16 only
    shape = Shape("fused", widest, group, k_latent.element_size(), width, cos is not None, turn=turn)
    config = config or tile_for(shape, k_latent)
    together = config.together if kv_heads % config.together == 0 and config.together * group <= config.rows else 1
    programs = kv_heads // together * triton.cdiv(group, config.rows)
    longest = k_latent.shape[1]
    splits = splits or splits_for(shape, config, k_latent, batch, programs, longest, sms)
    partial, lses = split_buffers(batch, heads, splits, v_rank, q.dtype, q.device)
    fused_split_kernel[(programs, splits, batch)](
        q,
        k_latent,
        v_latent,
        k_up,
        lses if cos is None else cos,
        lses if sin is None else sin,
        lengths,
        partial,
        lses,
        width**-0.5 if scale is None else scale,
        heads,
        splits,
        *q.stride()[:2],
        *k_latent.stride()[:2],
        *v_latent.stride()[:2],
        *k_up.stride()[:2],
        0 if cos is None else cos.stride(0) // unit,
        G=group,
        HALF=width // 2,
        BHALF=power_of_two(width // 2),
        RK=k_rank,
        BRK=power_of_two(k_rank),
        RV=v_rank,
        BRV=power_of_two(v_rank),
        BH=config.rows,
        BN=config.tokens,
        UNIT=unit,
        TOGETHER=together,
        ALIKE=k_rank == v_rank and k_latent.stride(1) == v_latent.stride(1),
        ROTATE=cos is not None,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return finish(partial, lses, q.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x [..., T, H, D] by the tables cos, sin [T, D/2] in the rotate-half convention."""
    low, high = x.chunk(2, -1)
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def reconstruct_decode(
    q: torch.Tensor,
    k_latent: torch.Tensor,
    v_latent: torch.Tensor,
    k_up: torch.Tensor,
    v_up: torch.Tensor,
    lengths: torch.Tensor,
    *,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rebuild keys and values [B, T, Hkv, D] in memory with torch's matrix product, then `decode_attention`.

    q [B, Hq, D], rotated; k_latent [B, T, Rk], v_latent [B, T, Rv]; k_up [Hkv, Rk, D], v_up [Hkv, Rv, D]; the rest as
    in `fused_decode`. Returns out [B, Hq, D] of q's type and lse [B, Hq] fp32.
    """
    sizes = agree(
        q=(q, "B Hq D", FLOATS),
        k_latent=(k_latent, "B T Rk", (q.dtype,)),
        v_latent=(v_latent, "B T Rv", (q.dtype,)),
        k_up=(k_up, "Hkv Rk D", (q.dtype,)),
        v_up=(v_up, "Hkv Rv D", (q.dtype,)),
    )
    refuse_tables(sizes, sizes["T"], cos, sin)
    heads, width = sizes["Hkv"], sizes["D"]
    tokens = k_latent.shape[:2]
    k = (k_latent @ k_up.transpose(0, 1).flatten(1)).view(*tokens, heads, width)
    v = (v_latent @ v_up.transpose(0, 1).flatten(1)).view(*tokens, heads, width)
    if cos is not None and sin is not None:
        k = rotate(k, cos[: tokens[1]], sin[: tokens[1]])
    return decode_attention(q, k, v, lengths, scale=scale, splits=splits, sms=sms)
