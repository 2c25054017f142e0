"""Decode attention over a low-rank latent cache: MHC (latent KV), and MLA at its shapes.

Three forms, which differ in what is stored and what is rebuilt (facts on when each wins: docs/techniques.md):

absorbed     One latent [R] a token serves keys and values of all heads; the up-projections are folded into q and into
             the output projection, so attention runs on the latent itself. An optional decoupled rotary part [r] is
             added to the logits (DeepSeek-V2, arXiv 2405.04434). R 512 with r 64 is MLA.
fused        Separate latents for keys and values. Keys are rebuilt tile by tile inside the kernel and rotated there
             (Palu, arXiv 2407.21118, rebuilds keys for the same reason); values stay absorbed.
reconstruct  Both rebuilt in memory with a matrix product, then plain decode: the honest slow one.

Limits: ranks are powers of two from 16 to 512 (256 for a latent in fp8, absorbed only), the rotary part up to 64,
head_dim of rebuilt keys a power of two up to 128. The absorbed form re-reads the latent (through L2) once per 64 heads.
"""

import torch
import triton
import triton.language as tl

from .common import (
    INTERPRETED,
    LN2,
    LOG2E,
    TL_TYPES,
    Config,
    dot_,
    longest_sequence,
    online_softmax,
    page_base,
    pick_splits,
    rows_of_last_axis,
    slot_in_page,
    sm_count,
    split_range,
    store_split,
)
from .decode_attention import decode_attention, finish, split_buffers
from .decode_attention import traffic as decode_traffic

#: (rank up to, heads up to) -> tile of the absorbed form
ABSORBED = {
    (128, 16): Config(rows=16, tokens=64, warps=4, stages=3),
    (128, 64): Config(rows=64, tokens=64, warps=4, stages=3),
    (256, 16): Config(rows=16, tokens=64, warps=4, stages=3),
    (256, 32): Config(rows=32, tokens=64, warps=4, stages=3),
    (256, 64): Config(rows=64, tokens=64, warps=8, stages=3),
    (512, 16): Config(rows=16, tokens=32, warps=4, stages=2),
    (512, 32): Config(rows=32, tokens=32, warps=8, stages=3),
    (512, 64): Config(rows=64, tokens=32, warps=8, stages=2),
}
#: rank up to -> tile of the absorbed form over fp8; no tile tried at 512 both pipelines its loads and spills nothing
ABSORBED_FP8 = {
    128: Config(rows=64, tokens=64, warps=4, stages=3),
    256: Config(rows=64, tokens=64, warps=8, stages=3),
}
#: rank up to -> tile of the fused form
FUSED = {
    128: Config(rows=16, tokens=64, warps=4, stages=2),
    256: Config(rows=16, tokens=32, warps=8, stages=3),
    512: Config(rows=16, tokens=32, warps=8, stages=2),
}


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
    ROPE: tl.constexpr,
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
    r = tl.arange(0, R)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    q = tl.load(Q + b * sq_b + h[:, None] * sq_h + r[None, :], mask=real[:, None], other=0.0)  # [BH, R]
    if ROPE > 0:
        e = tl.arange(0, ROPE)
        qr = tl.load(QR + b * sr_b + h[:, None] * sr_h + e[None, :], mask=real[:, None], other=0.0)  # [BH, ROPE]
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BH, R], tl.float32)
    page = page_base(TABLE, b, st_b, lo + tl.arange(0, BN), hi, PAGED, PAGE)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        slot = slot_in_page(n, PAGED, PAGE)
        c = tl.load(C + (page * sc_p + slot * sc_t)[:, None] + r[None, :], mask=live[:, None], other=0.0)  # [BN, R]
        c = c.to(CDT)
        s = dot_(q, tl.trans(c), UPCAST)  # [BH, BN]
        if ROPE > 0:
            cr = tl.load(CR + (page * sp_p + slot * sp_t)[:, None] + e[None, :], mask=live[:, None], other=0.0)
            s += dot_(qr, tl.trans(cr.to(CDT)), UPCAST)
        page = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
        s *= scale * LOG2E
        if STORE_LOGITS:
            into = LOGITS + (b * heads + h)[:, None] * sl_h + n[None, :]
            tl.store(into, (s * LN2).to(LOGITS.dtype.element_ty), mask=real[:, None] & live[None, :])
        s = tl.where(live[None, :], s, float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        acc = acc * alpha[:, None] + dot_(p, c, UPCAST)
    store_split(OUT, LSE, (b * heads + h) * splits + split, acc * out_scale, m, z, real, r, R)


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
    RK: tl.constexpr,
    RV: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    ROTATE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    g = tl.arange(0, BH)
    real = g < G
    h = kv_head * G + g
    d = tl.arange(0, HALF)
    rk = tl.arange(0, RK)
    rv = tl.arange(0, RV)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    q_low = tl.load(at_q, mask=real[:, None], other=0.0)  # [BH, HALF]
    q_high = tl.load(at_q + HALF, mask=real[:, None], other=0.0)
    at_w = W + kv_head * sw_h + rk[:, None] * sw_r + d[None, :]
    w_low = tl.load(at_w)  # [RK, HALF]
    w_high = tl.load(at_w + HALF)
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BH, RV], tl.float32)
    for start in range(lo, hi, BN):
        n = (start + tl.arange(0, BN)).to(tl.int64)
        live = n < hi
        ck = tl.load(CK + b * sk_b + n[:, None] * sk_t + rk[None, :], mask=live[:, None], other=0.0)  # [BN, RK]
        k_low = dot_(ck, w_low, UPCAST)  # [BN, HALF]
        k_high = dot_(ck, w_high, UPCAST)
        if ROTATE:
            at_f = n[:, None] * sf_t + d[None, :]
            cos = tl.load(COS + at_f, mask=live[:, None], other=0.0).to(tl.float32)  # [BN, HALF]
            sin = tl.load(SIN + at_f, mask=live[:, None], other=0.0).to(tl.float32)
            turned = k_low * cos - k_high * sin
            k_high = k_high * cos + k_low * sin
            k_low = turned
        if not UPCAST:
            k_low = k_low.to(CK.dtype.element_ty)
            k_high = k_high.to(CK.dtype.element_ty)
        s = dot_(q_low, tl.trans(k_low), UPCAST) + dot_(q_high, tl.trans(k_high), UPCAST)  # [BH, BN]
        s = tl.where(live[None, :], s * (scale * LOG2E), float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        cv = tl.load(CV + b * sv_b + n[:, None] * sv_t + rv[None, :], mask=live[:, None], other=0.0)  # [BN, RV]
        acc = acc * alpha[:, None] + dot_(p, cv, UPCAST)
    store_split(OUT, LSE, (b * heads + h) * splits + split, acc, m, z, real, rv, RV)


def pick_absorbed(rank: int, heads: int, itemsize: int = 2) -> Config:
    """Return the absorbed form's tile for a rank, a number of query heads and the bytes of an element."""
    if itemsize > 2:
        return Config(rows=16, tokens=16, warps=4, stages=1)
    if itemsize < 2:
        for width, config in ABSORBED_FP8.items():
            if rank <= width:
                return config
        raise ValueError(f"rank {rank}: an fp8 latent is read in the absorbed form up to 256")
    for (width, rows), config in ABSORBED.items():
        if rank <= width and (heads <= rows or rows == 64):
            return config
    raise ValueError(f"rank {rank}: the absorbed form is written for at most 512")


def pick_fused(rank: int, itemsize: int = 2) -> Config:
    """Return the fused form's tile for the larger of its two ranks."""
    if itemsize > 2:
        return Config(rows=16, tokens=16, warps=4, stages=1)
    for width, config in FUSED.items():
        if rank <= width:
            return config
    raise ValueError(f"rank {rank}: the fused form is written for at most 512")


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
    """Return (bytes moved, flops) of one fused call: latents read once, fp32 tables once, keys rebuilt per KV head."""
    cache = batch * tokens * (k_rank + v_rank) * itemsize + 4 * tokens * head_dim
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
    rows_of_last_axis(q=q, latent=latent, q_rope=q_rope, k_rope=k_rope, logits=logits)
    batch, heads, rank = q.shape
    config = config or pick_absorbed(rank, heads, latent.element_size())
    blocks = triton.cdiv(heads, config.rows)
    compute = TL_TYPES[torch.float16 if latent.dtype == torch.float8_e4m3fn else latent.dtype]
    compute = tl.float32 if INTERPRETED and compute != tl.float32 else compute
    longest = longest_sequence(latent, block_table)
    splits = splits or pick_splits(batch, blocks, longest, config.tokens, sms or sm_count(q.device))
    partial, lses = split_buffers(batch, heads, splits, rank, dtype or q.dtype, q.device)
    absorbed_split_kernel[(blocks, splits, batch)](
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
        ROPE=0 if q_rope is None else q_rope.shape[-1],
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
    model's own, e.g. (128 + 64)**-0.5, not that of R. A cache of float8_e4m3fn computes in fp16; its numbers are
    what is stored times `stored_scale`. `logits` [B, H, T] fp16 as in `decode_attention`.

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
    cos, sin [T, D/2] fp32 (rotate-half convention, row t for slot t), or none for keys without rotation.

    Returns out [B, Hq, Rv] of q's type (still to be multiplied by the value up-projection) and lse [B, Hq] fp32.
    """
    rows_of_last_axis(q=q, k_latent=k_latent, v_latent=v_latent, k_up=k_up, cos=cos, sin=sin)
    (batch, heads, width), (kv_heads, k_rank, _) = q.shape, k_up.shape
    v_rank, group = v_latent.shape[-1], heads // kv_heads
    config = config or pick_fused(max(k_rank, v_rank), k_latent.element_size())
    if group > config.rows:
        raise ValueError(f"{group} query heads per KV head: the fused form takes at most {config.rows}")
    longest = k_latent.shape[1]
    splits = splits or pick_splits(batch, kv_heads, longest, config.tokens, sms or sm_count(q.device))
    partial, lses = split_buffers(batch, heads, splits, v_rank, q.dtype, q.device)
    fused_split_kernel[(kv_heads, splits, batch)](
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
        0 if cos is None else cos.stride(0),
        G=group,
        HALF=width // 2,
        RK=k_rank,
        RV=v_rank,
        BH=config.rows,
        BN=config.tokens,
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
    heads, _, width = k_up.shape
    tokens = k_latent.shape[:2]
    k = (k_latent @ k_up.transpose(0, 1).flatten(1)).view(*tokens, heads, width)
    v = (v_latent @ v_up.transpose(0, 1).flatten(1)).view(*tokens, heads, width)
    if cos is not None and sin is not None:
        k = rotate(k, cos[: tokens[1]], sin[: tokens[1]])
    return decode_attention(q, k, v, lengths, scale=scale, splits=splits, sms=sms)
