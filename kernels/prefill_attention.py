"""Causal attention over whole prompts, tile by tile (FlashAttention-2, arXiv 2307.08691), prompts packed end to end.

GQA, ragged lengths, more keys than queries (a chunk of a longer prompt), fp32, fp16, bf16; also returns the LSE that
`h2o_prefill_scores` needs. Compute-bound. Limits: head_dim up to 256, and no prompt with fewer keys than queries.
"""

import torch
import triton
import triton.language as tl

from .common import FLOATS, INT32, INTERPRETED, LN2, LOG2E, agree, dot_, group_of, inside, tile_for
from .tiles import Config, Shape, power_of_two


@triton.jit
def attend_tiles(
    q,
    acc,
    m,
    z,
    K,
    V,
    at,
    lo,
    hi,
    keys,
    scale,
    sk_n,
    sv_n,
    D: tl.constexpr,
    BD: tl.constexpr,
    BN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Add keys [lo, hi) to the running softmax; DIAGONAL tiles mask what lies ahead of each query's place `at` [BM]."""
    d = tl.arange(0, BD)
    for start in range(lo, hi, BN):
        n = start + tl.arange(0, BN)
        at_k = K + n.to(tl.int64)[:, None] * sk_n + d[None, :]
        at_v = V + n.to(tl.int64)[:, None] * sv_n + d[None, :]
        if DIAGONAL:
            seen = inside(n < keys, d, D, BD)
            k = tl.load(at_k, mask=seen, other=0.0)  # [BN, BD]
            v = tl.load(at_v, mask=seen, other=0.0)  # [BN, BD]
        elif D != BD:
            k = tl.load(at_k, mask=(d < D)[None, :], other=0.0)
            v = tl.load(at_v, mask=(d < D)[None, :], other=0.0)
        else:  # whole tiles that all queries see
            k = tl.load(at_k)
            v = tl.load(at_v)
        s = dot_(q, tl.trans(k), UPCAST)  # [BM, BN]
        if DIAGONAL:
            s = tl.where((n[None, :] <= at[:, None]) & (n < keys)[None, :], s, float("-inf"))
        # `online_softmax`, with the scale (above 0) in the multiply-add that takes the maximum off
        m_new = tl.maximum(m, tl.max(s, 1) * (scale * LOG2E))
        alpha = tl.exp2(m - m_new)
        p = tl.exp2(s * (scale * LOG2E) - m_new[:, None])
        m = m_new
        z = z * alpha + tl.sum(p, 1)
        acc = acc * alpha[:, None] + dot_(p, v, UPCAST)
    return acc, m, z


@triton.jit
def prefill_kernel(
    Q,
    K,
    V,
    Q_STARTS,
    K_STARTS,
    OUT,
    LSE,
    scale,
    sq_n,
    sq_h,
    sk_n,
    sk_h,
    sv_n,
    sv_h,
    so_n,
    so_h,
    se_h,
    G: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    UPCAST: tl.constexpr,
):
    # the last rows see the most keys: they start first
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * BM
    h = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2)
    q_begin = tl.load(Q_STARTS + b).to(tl.int64)
    k_begin = tl.load(K_STARTS + b).to(tl.int64)
    queries = (tl.load(Q_STARTS + b + 1) - q_begin).to(tl.int32)
    keys = (tl.load(K_STARTS + b + 1) - k_begin).to(tl.int32)
    if first < queries:
        i = first + tl.arange(0, BM)
        at = i + keys - queries
        d = tl.arange(0, BD)
        there = inside(i < queries, d, D, BD)
        q = tl.load(Q + (q_begin + i)[:, None] * sq_n + h * sq_h + d[None, :], mask=there, other=0.0)  # [BM, BD]
        K += k_begin * sk_n + (h // G) * sk_h
        V += k_begin * sv_n + (h // G) * sv_h
        m = tl.full([BM], float("-inf"), tl.float32)
        z = tl.zeros([BM], tl.float32)
        acc = tl.zeros([BM, BD], tl.float32)
        reach = first + keys - queries
        whole = (reach + 1) // BN * BN
        acc, m, z = attend_tiles(q, acc, m, z, K, V, at, 0, whole, keys, scale, sk_n, sv_n, D, BD, BN, False, UPCAST)
        end = tl.minimum(reach + BM, keys)
        acc, m, z = attend_tiles(q, acc, m, z, K, V, at, whole, end, keys, scale, sk_n, sv_n, D, BD, BN, True, UPCAST)
        out = (acc / z[:, None]).to(OUT.dtype.element_ty)
        tl.store(OUT + (q_begin + i)[:, None] * so_n + h * so_h + d[None, :], out, mask=there)
        tl.store(LSE + h * se_h + q_begin + i, (m + tl.log2(z)) * LN2, mask=i < queries)


def traffic(
    batch: int, q_heads: int, kv_heads: int, head_dim: int, tokens: int, itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes moved, flops) for prompts of `tokens` tokens: each tensor once, half of all scores."""
    moved = batch * tokens * head_dim * itemsize * (2 * q_heads + 2 * kv_heads) + 4 * batch * q_heads * tokens
    return float(moved), 4.0 * batch * q_heads * head_dim * tokens * (tokens + 1) / 2


def refuse_longest(longest: int, sizes: dict[str, int]) -> None:
    """Refuse a longest prompt that is longer than all prompts together, and starts that begin nothing."""
    if sizes["ends"] < 1:
        raise ValueError("starts: must hold where each prompt begins, and where the last ends")
    if not 0 <= longest <= sizes["N"]:
        raise ValueError(f"longest {longest}: must be from 0 to the {sizes['N']} tokens there are")


def prefill_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    *,
    k_starts: torch.Tensor | None = None,
    scale: float | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend causally within each prompt.

    q [N, Hq, D]; k, v [M, Hkv, D], prompts one after another; starts [B + 1] int32, where each prompt begins in q;
    longest, in queries; k_starts [B + 1] the same for k and v when they hold earlier tokens too (the last query then
    sees the last key). Returns out [N, Hq, D] of q's type and lse [Hq, N] fp32, natural.
    """
    sizes = agree(
        q=(q, "N Hq D", FLOATS),
        k=(k, "N Hkv D" if k_starts is None else "M Hkv D", (q.dtype,)),
        v=(v, "N Hkv D" if k_starts is None else "M Hkv D", (q.dtype,)),
        starts=(starts, "ends", INT32),
        k_starts=(k_starts, "ends", INT32),
    )
    tokens, q_heads, kv_heads, width = (sizes[axis] for axis in ("N", "Hq", "Hkv", "D"))
    group = group_of(q_heads, kv_heads)
    refuse_longest(longest, sizes)
    if scale is not None and scale <= 0:
        raise ValueError(f"scale {scale}: must be more than 0")
    config = config or tile_for(Shape("prefill", width, group, q.element_size()), q)
    out = torch.empty((tokens, q_heads, width), dtype=q.dtype, device=q.device)
    lse = torch.empty((q_heads, tokens), dtype=torch.float32, device=q.device)
    prefill_kernel[(triton.cdiv(longest, config.rows), q_heads, starts.shape[0] - 1)](
        q,
        k,
        v,
        starts,
        starts if k_starts is None else k_starts,
        out,
        lse,
        width**-0.5 if scale is None else scale,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *out.stride()[:2],
        lse.stride(0),
        G=group,
        D=width,
        BD=power_of_two(width),
        BM=config.rows,
        BN=config.tokens,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return out, lse
