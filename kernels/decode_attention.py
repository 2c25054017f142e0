"""Decode attention over an uncompressed cache: one query token per sequence, split over the sequence and combined.

Split-K decoding as in Flash-Decoding (Dao et al., 2023), the number of splits set by the multiprocessor count. MHA, GQA
and MQA, contiguous or paged, ragged lengths (0 and 1 included), fp32, fp16, bf16. Memory-bound: one program reads each
key and value of its split once for all query heads of a KV head. Limits: head_dim up to 256; more than 64 query heads
per KV head re-read the cache (through L2).
"""

import torch
import triton
import triton.language as tl

from .common import (
    FLOATS,
    HALVES,
    INT32,
    INTERPRETED,
    LN2,
    LOG2E,
    agree,
    dot_,
    group_of,
    inside,
    longest_sequence,
    online_softmax,
    page_base,
    query_heads,
    slot_in_page,
    split_range,
    splits_for,
    store_split,
    tile_for,
)
from .tiles import Config, Shape, power_of_two


@triton.jit
def decode_split_kernel(
    Q,
    K,
    V,
    TABLE,
    LENGTHS,
    OUT,
    LSE,
    LOGITS,
    scale,
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
    st_b,
    sl_h,
    G: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    PAGE: tl.constexpr,
    PAGED: tl.constexpr,
    STORE_LOGITS: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head, b, h, real = query_heads(G, BH)
    split = tl.program_id(1)
    d = tl.arange(0, BD)
    lo, hi = split_range(tl.load(LENGTHS + b), splits, split, BN)

    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    q = tl.load(at_q, mask=inside(real, d, D, BD), other=0.0)  # [BH, BD]
    K += kv_head * sk_h
    V += kv_head * sv_h
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc = tl.zeros([BH, BD], tl.float32)
    page = page_base(TABLE, b, st_b, lo + tl.arange(0, BN), hi, PAGED, PAGE)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        slot = slot_in_page(n, PAGED, PAGE)
        seen = inside(live, d, D, BD)
        k = tl.load(K + (page * sk_p + slot * sk_t)[:, None] + d[None, :], mask=seen, other=0.0)  # [BN, BD]
        v = tl.load(V + (page * sv_p + slot * sv_t)[:, None] + d[None, :], mask=seen, other=0.0)  # [BN, BD]
        page = page_base(TABLE, b, st_b, n + BN, hi, PAGED, PAGE)
        s = dot_(q, tl.trans(k), UPCAST) * (scale * LOG2E)  # [BH, BN]
        if STORE_LOGITS:
            into = LOGITS + (b * q_heads + h)[:, None] * sl_h + n[None, :]
            tl.store(into, (s * LN2).to(LOGITS.dtype.element_ty), mask=real[:, None] & live[None, :])
        s = tl.where(live[None, :], s, float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        acc = acc * alpha[:, None] + dot_(p, v, UPCAST)
    store_split(OUT, LSE, (b * q_heads + h) * splits + split, acc, m, z, real, d, D, BD)


@triton.jit
def combine_row(
    PARTIAL, LSES, OUT, LSE, row, splits, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, CHUNK: tl.constexpr
):
    """Merge the splits of one query head: the weighted mean of PARTIAL [S, D] into OUT [D], their LSE into LSE."""
    d = tl.arange(0, BD)
    every = tl.arange(0, BS)
    lses = tl.load(LSES + row * splits + every, mask=every < splits, other=float("-inf"))  # [BS]
    top = tl.max(lses, 0)
    some = top > float("-inf")
    top = tl.where(some, top, 0.0)
    total = tl.sum(tl.exp2((lses - top) * LOG2E), 0)
    acc = tl.zeros([BD], tl.float32)
    for first in range(0, splits, CHUNK):
        s = first + tl.arange(0, CHUNK)
        weight = tl.load(LSES + row * splits + s, mask=s < splits, other=float("-inf"))
        weight = tl.exp2((weight - top) * LOG2E)  # [CHUNK]
        there = inside(s < splits, d, D, BD)
        part = tl.load(PARTIAL + (row * splits + s)[:, None] * D + d[None, :], mask=there, other=0.0)  # [CHUNK, BD]
        acc += tl.sum(part * weight[:, None], 0)
    safe = tl.where(some, total, 1.0)
    tl.store(OUT + row * D + d, (acc / safe).to(OUT.dtype.element_ty), mask=d < D)
    tl.store(LSE + row, tl.where(some, top + tl.log2(safe) * LN2, float("-inf")))


@triton.jit
def combine_kernel(
    PARTIAL, LSES, OUT, LSE, splits, D: tl.constexpr, BD: tl.constexpr, BS: tl.constexpr, CHUNK: tl.constexpr
):
    combine_row(PARTIAL, LSES, OUT, LSE, tl.program_id(0).to(tl.int64), splits, D, BD, BS, CHUNK)


def traffic(
    batch: int, q_heads: int, kv_heads: int, head_dim: int, tokens: int, itemsize: int = 2, logits: bool = False
) -> tuple[float, float]:
    """Return (bytes moved, flops) of one call; `tokens` is the mean length, `logits` written as fp16."""
    cache = 2 * batch * tokens * kv_heads * head_dim * itemsize
    small = 2 * batch * q_heads * head_dim * itemsize
    written = 2 * batch * q_heads * tokens if logits else 0
    return float(cache + small + written), 4.0 * batch * q_heads * head_dim * tokens


def combine_tiles(width: int, splits: int) -> dict[str, int]:
    """Return the tile sizes of `combine_row` for an output width and a number of splits."""
    wide, every = triton.next_power_of_2(width), triton.next_power_of_2(splits)
    return {"D": width, "BD": wide, "BS": every, "CHUNK": max(2, min(16, 4096 // wide, every))}


def combine(partial: torch.Tensor, lses: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the splits: partial [B, Hq, S, D] fp32, lses [B, Hq, S] fp32 -> out [B, Hq, D] of `dtype`, lse [B, Hq]."""
    batch, heads, splits, width = partial.shape
    out = torch.empty((batch, heads, width), dtype=dtype, device=partial.device)
    lse = torch.empty((batch, heads), dtype=torch.float32, device=partial.device)
    tiles = combine_tiles(width, splits)
    combine_kernel[(batch * heads,)](partial, lses, out, lse, splits, **tiles, num_warps=4, num_stages=2)
    return out, lse


def split_buffers(
    batch: int, heads: int, splits: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the splits write: out [B, Hq, S, D] (fp32, or `dtype` when S is 1) and lse [B, Hq, S]."""
    kind = dtype if splits == 1 else torch.float32
    out = torch.empty((batch, heads, splits, width), dtype=kind, device=device)
    return out, torch.empty((batch, heads, splits), dtype=torch.float32, device=device)


def finish(partial: torch.Tensor, lses: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (out [B, Hq, D], lse [B, Hq]) from what the splits wrote."""
    if partial.shape[2] == 1:
        return partial[:, :, 0], lses[:, :, 0]
    return combine(partial, lses, dtype)


def decode_splits(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor,
    *,
    block_table: torch.Tensor | None = None,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `decode_attention` does before combining; `dtype` is that of the output of a single split."""
    sizes = agree(
        q=(q, "B Hq D", FLOATS),
        k=(k, "B T Hkv D" if block_table is None else "P page Hkv D", (q.dtype,)),
        v=(v, "B T Hkv D" if block_table is None else "P page Hkv D", (q.dtype,)),
        lengths=(lengths, "B", INT32),
        block_table=(block_table, "B pages", INT32),
        logits=(logits, "B Hq T+", HALVES),
    )
    batch, q_heads, kv_heads, width = (sizes[axis] for axis in ("B", "Hq", "Hkv", "D"))
    group = group_of(q_heads, kv_heads)
    shape = Shape("decode", width, group, k.element_size())
    config = config or tile_for(shape, k)
    blocks = triton.cdiv(group, config.rows)
    longest = longest_sequence(k, block_table)
    splits = splits or splits_for(shape, config, k, batch, kv_heads * blocks, longest, sms)
    partial, lses = split_buffers(batch, q_heads, splits, width, dtype or q.dtype, q.device)
    decode_split_kernel[(kv_heads * blocks, splits, batch)](
        q,
        k,
        v,
        lengths if block_table is None else block_table,
        lengths,
        partial,
        lses,
        lses if logits is None else logits,
        width**-0.5 if scale is None else scale,
        q_heads,
        splits,
        *q.stride()[:2],
        *k.stride()[:3],
        *v.stride()[:3],
        0 if block_table is None else block_table.stride(0),
        0 if logits is None else logits.stride(1),
        G=group,
        D=width,
        BD=power_of_two(width),
        BH=config.rows,
        BN=config.tokens,
        PAGE=k.shape[1] if block_table is not None else 1,
        PAGED=block_table is not None,
        STORE_LOGITS=logits is not None,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return partial, lses


def decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor,
    *,
    block_table: torch.Tensor | None = None,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend one query token per sequence to its cache.

    q [B, Hq, D]; k, v [B, T, Hkv, D], or pages [P, page, Hkv, D] with block_table [B, pages] int32; lengths [B] int32,
    in tokens; scale defaults to D**-0.5. `sms` (default: the device's) decides `splits`. `logits` [B, Hq, T] fp16, when
    given, receives the scaled logits q.k * scale of every live token (what H2O needs); dead slots stay untouched.

    Returns out [B, Hq, D] of q's type and lse [B, Hq] fp32, natural; a sequence of length 0 gets 0 and -inf.
    """
    partial, lses = decode_splits(
        q, k, v, lengths, block_table=block_table, scale=scale, splits=splits, sms=sms, logits=logits, config=config
    )
    return finish(partial, lses, q.dtype)
