"""StreamingLLM (arXiv 2309.17453): the first tokens (sinks) stay, the others pass through a ring; nothing is moved.

A cache has S + W slots; token p lies in slot p while p < S + W, after that in slot S + (p - S) % W. Two methods differ
in the positions that rotary embeddings see:

absolute  keys are stored rotated by their position in the text, as engines with a sliding window store them. The query
          is at its position in the text, so distances to the sinks grow without bound.
cache     keys are stored un-rotated and rotated when read, by their place inside the cache in order of age: sinks 0 to
          S - 1, then the ring from its oldest token on. The query is at the newest token's place. This is the paper's.

Rotate-half convention, angles from tables cos and sin [positions, D/2]. Limits: an even head_dim
up to 256.
"""

import math

import torch
import triton
import triton.language as tl

from .common import (
    FLOATS,
    INT32,
    INTERPRETED,
    LOG2E,
    agree,
    dot_,
    group_of,
    inside,
    online_softmax,
    query_heads,
    refuse_tables,
    split_range,
    splits_for,
    store_halves,
    tile_for,
)
from .decode_attention import finish, split_buffers
from .tiles import Config, Shape, power_of_two

MODES = ("absolute", "cache")


@triton.jit
def append_kernel(
    KNEW,
    VNEW,
    K,
    V,
    COS,
    SIN,
    SEEN,
    sinks,
    ring,
    sn_b,
    sn_h,
    sm_b,
    sm_h,
    sk_b,
    sk_t,
    sk_h,
    sv_b,
    sv_t,
    sv_h,
    sf_t,
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    ROTATE: tl.constexpr,
):
    kv_head = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1).to(tl.int64)
    p = tl.load(SEEN + b).to(tl.int64)
    slot = tl.where(p < sinks, p, sinks + (p - sinks) % ring)
    d = tl.arange(0, BHALF)
    wide = d < HALF
    at = KNEW + b * sn_b + kv_head * sn_h + d
    low = tl.load(at, mask=wide, other=0.0).to(tl.float32)  # [BHALF]
    high = tl.load(at + HALF, mask=wide, other=0.0).to(tl.float32)
    if ROTATE:
        cos = tl.load(COS + p * sf_t + d, mask=wide, other=0.0).to(tl.float32)
        sin = tl.load(SIN + p * sf_t + d, mask=wide, other=0.0).to(tl.float32)
        turned = low * cos - high * sin
        high = high * cos + low * sin
        low = turned
    into = K + b * sk_b + slot * sk_t + kv_head * sk_h + d
    tl.store(into, low.to(K.dtype.element_ty), mask=wide)
    tl.store(into + HALF, high.to(K.dtype.element_ty), mask=wide)
    at = VNEW + b * sm_b + kv_head * sm_h + d
    into = V + b * sv_b + slot * sv_t + kv_head * sv_h + d
    tl.store(into, tl.load(at, mask=wide, other=0.0), mask=wide)
    tl.store(into + HALF, tl.load(at + HALF, mask=wide, other=0.0), mask=wide)


@triton.jit
def streaming_split_kernel(
    Q,
    K,
    V,
    COS,
    SIN,
    SEEN,
    OUT,
    LSE,
    scale,
    q_heads,
    splits,
    sinks,
    ring,
    sq_b,
    sq_h,
    sk_b,
    sk_t,
    sk_h,
    sv_b,
    sv_t,
    sv_h,
    sf_t,
    G: tl.constexpr,
    HALF: tl.constexpr,
    BHALF: tl.constexpr,
    BH: tl.constexpr,
    BN: tl.constexpr,
    UNIT: tl.constexpr,
    IN_CACHE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head, b, h, real = query_heads(G, BH)
    split = tl.program_id(1)
    d = tl.arange(0, BHALF)
    seen = tl.load(SEEN + b)
    slots = tl.minimum(seen, sinks + ring)
    lo, hi = split_range(slots, splits, split, BN)

    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    head = inside(real, d, HALF, BHALF)
    low = tl.load(at_q, mask=head, other=0.0).to(tl.float32)  # [BH, BHALF]
    high = tl.load(at_q + HALF, mask=head, other=0.0).to(tl.float32)
    place = tl.maximum(slots if IN_CACHE else seen, 1).to(tl.int64) - 1
    cos = tl.load(COS + place * sf_t * UNIT + d, mask=d < HALF, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(SIN + place * sf_t * UNIT + d, mask=d < HALF, other=0.0).to(tl.float32)[None, :]
    q_low = low * cos - high * sin
    q_high = high * cos + low * sin
    if not UPCAST:
        q_low = q_low.to(Q.dtype.element_ty)
        q_high = q_high.to(Q.dtype.element_ty)
    oldest = tl.where(seen > sinks + ring, (seen - sinks) % ring, 0)

    K += b * sk_b + kv_head * sk_h
    V += b * sv_b + kv_head * sv_h
    m = tl.full([BH], float("-inf"), tl.float32)
    z = tl.zeros([BH], tl.float32)
    acc_low = tl.zeros([BH, BHALF], tl.float32)
    acc_high = tl.zeros([BH, BHALF], tl.float32)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        live = n < hi
        there = inside(live, d, HALF, BHALF)
        at_k = K + n.to(tl.int64)[:, None] * sk_t + d[None, :]
        k_low = tl.load(at_k, mask=there, other=0.0)  # [BN, BHALF]
        k_high = tl.load(at_k + HALF, mask=there, other=0.0)
        at_v = V + n.to(tl.int64)[:, None] * sv_t + d[None, :]
        v_low = tl.load(at_v, mask=there, other=0.0)
        v_high = tl.load(at_v + HALF, mask=there, other=0.0)
        if IN_CACHE:
            age = n - sinks - oldest
            k_place = tl.where(n < sinks, n, sinks + tl.where(age < 0, age + ring, age)).to(tl.int64)
            at_f = k_place[:, None] * sf_t * UNIT + d[None, :]
            k_cos = tl.load(COS + at_f, mask=there, other=0.0).to(tl.float32)  # [BN, BHALF]
            k_sin = tl.load(SIN + at_f, mask=there, other=0.0).to(tl.float32)
            stored_low = k_low.to(tl.float32)
            stored_high = k_high.to(tl.float32)
            k_low = stored_low * k_cos - stored_high * k_sin
            k_high = stored_high * k_cos + stored_low * k_sin
            if not UPCAST:
                k_low = k_low.to(K.dtype.element_ty)
                k_high = k_high.to(K.dtype.element_ty)
        s = dot_(q_low, tl.trans(k_low), UPCAST) + dot_(q_high, tl.trans(k_high), UPCAST)  # [BH, BN]
        s = tl.where(live[None, :], s * (scale * LOG2E), float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
        acc_low = acc_low * alpha[:, None] + dot_(p, v_low, UPCAST)
        acc_high = acc_high * alpha[:, None] + dot_(p, v_high, UPCAST)
    rows = (b * q_heads + h) * splits + split
    store_halves(OUT, LSE, rows, acc_low, acc_high, m, z, 1.0, real, d, HALF, BHALF)


def traffic(
    batch: int, q_heads: int, kv_heads: int, head_dim: int, slots: int, mode: str = "absolute", itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes moved, flops) of one decode over `slots` live slots; rotating on read adds its tables once."""
    cache = 2 * batch * slots * kv_heads * head_dim * itemsize + 2 * batch * q_heads * head_dim * itemsize
    flops = 4.0 * batch * q_heads * head_dim * slots
    if mode == "absolute":
        return float(cache), flops
    return float(cache + itemsize * slots * head_dim), flops + 3.0 * batch * slots * kv_heads * head_dim


def refuse_mode(mode: str) -> None:
    """Raise for a mode that does not exist."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: write absolute or cache")


def refuse_ring(sinks: int, slots: int) -> None:
    """Refuse a number of sinks that leaves no slot for the ring."""
    if not 0 <= sinks < slots:
        raise ValueError(f"sinks {sinks}: must be from 0 to {slots - 1}, one less than the {slots} slots of the cache")


def streaming_append(
    k_new: torch.Tensor,
    v_new: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    seen: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    sinks: int,
    mode: str,
) -> None:
    """Write one new token per sequence into its slot, over the oldest that is no sink once the cache is full.

    k_new, v_new [B, Hkv, D], not rotated; k, v [B, S + W, Hkv, D], changed in place; seen [B] int32, tokens before the
    new one; cos, sin [positions, D/2] fp32 (used in mode `absolute` only, which needs a row for every position).
    """
    refuse_mode(mode)
    sizes = agree(
        k_new=(k_new, "B Hkv D", FLOATS),
        v_new=(v_new, "B Hkv D", (k_new.dtype,)),
        k=(k, "B slots Hkv D", (k_new.dtype,)),
        v=(v, "B slots Hkv D", (k_new.dtype,)),
        seen=(seen, "B", INT32),
    )
    batch, heads, width = sizes["B"], sizes["Hkv"], sizes["D"]
    refuse_ring(sinks, sizes["slots"])
    refuse_tables(sizes, 1, cos, sin)
    append_kernel[(heads, batch)](
        k_new,
        v_new,
        k,
        v,
        cos,
        sin,
        seen,
        sinks,
        k.shape[1] - sinks,
        *k_new.stride()[:2],
        *v_new.stride()[:2],
        *k.stride()[:3],
        *v.stride()[:3],
        cos.stride(0),
        HALF=width // 2,
        BHALF=power_of_two(width // 2),
        ROTATE=mode == "absolute",
        num_warps=1,
    )


def streaming_decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    seen: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    sinks: int,
    mode: str,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend one query token per sequence to sinks and ring; its own key and value are in the cache already.

    q [B, Hq, D], not rotated; k, v [B, S + W, Hkv, D] as `streaming_append` fills them; seen [B] int32, tokens written
    so far; cos, sin [positions, D/2], a row for every position in the text (`absolute`) or S + W rows (`cache`).

    Returns out [B, Hq, D] of q's type and lse [B, Hq] fp32, natural.
    """
    refuse_mode(mode)
    sizes = agree(
        q=(q, "B Hq D", FLOATS),
        k=(k, "B slots Hkv D", (q.dtype,)),
        v=(v, "B slots Hkv D", (q.dtype,)),
        seen=(seen, "B", INT32),
    )
    batch, q_heads, kv_heads, width, slots = (sizes[axis] for axis in ("B", "Hq", "Hkv", "D", "slots"))
    refuse_ring(sinks, slots)
    refuse_tables(sizes, slots if mode == "cache" else 1, cos, sin)
    group = group_of(q_heads, kv_heads)
    shape = Shape("streaming", width, group, k.element_size(), rotated=mode == "cache", turn=cos.element_size())
    config = config or tile_for(shape, k)
    blocks = triton.cdiv(group, config.rows)
    unit = math.gcd(8, cos.stride(0))  # the compiler sees multiples of 16 only
    splits = splits or splits_for(shape, config, k, batch, kv_heads * blocks, slots, sms)
    partial, lses = split_buffers(batch, q_heads, splits, width, q.dtype, q.device)
    streaming_split_kernel[(kv_heads * blocks, splits, batch)](
        q,
        k,
        v,
        cos,
        sin,
        seen,
        partial,
        lses,
        width**-0.5 if scale is None else scale,
        q_heads,
        splits,
        sinks,
        slots - sinks,
        *q.stride()[:2],
        *k.stride()[:3],
        *v.stride()[:3],
        cos.stride(0) // unit,
        G=group,
        HALF=width // 2,
        BHALF=power_of_two(width // 2),
        BH=config.rows,
        BN=config.tokens,
        UNIT=unit,
        IN_CACHE=mode == "cache",
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return finish(partial, lses, q.dtype)
