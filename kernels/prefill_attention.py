"""Causal attention over whole prompts, tile by tile (FlashAttention-2, arXiv 2307.08691), prompts packed end to end.

GQA, ragged lengths, more keys than queries (a chunk of a longer prompt), fp32, fp16, bf16; also returns the LSE that
`h2o_prefill_scores` needs. Compute-bound. Limits: head_dim up to 256, and no prompt with fewer keys than queries.
"""

import torch
import triton
import triton.language as tl

from .common import INTERPRETED, LN2, LOG2E, Config, dot_, online_softmax, rows_of_last_axis

#: head_dim up to -> tile; rows are queries
CONFIGS = {
    64: Config(rows=128, tokens=64, warps=4, stages=3),
    128: Config(rows=128, tokens=128, warps=8, stages=2),
    256: Config(rows=128, tokens=32, warps=8, stages=2),
}


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
        n = (start + tl.arange(0, BN)).to(tl.int64)
        seen = (n < keys)[:, None] & (d < D)[None, :]
        k = tl.load(K + n[:, None] * sk_n + d[None, :], mask=seen, other=0.0)  # [BN, BD]
        v = tl.load(V + n[:, None] * sv_n + d[None, :], mask=seen, other=0.0)  # [BN, BD]
        s = dot_(q, tl.trans(k), UPCAST) * (scale * LOG2E)  # [BM, BN]
        if DIAGONAL:
            s = tl.where((n[None, :] <= at[:, None]) & (n < keys)[None, :], s, float("-inf"))
        p, alpha, m, z = online_softmax(s, m, z)
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
        inside = (i < queries)[:, None] & (d < D)[None, :]
        q = tl.load(Q + (q_begin + i)[:, None] * sq_n + h * sq_h + d[None, :], mask=inside, other=0.0)  # [BM, BD]
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
        tl.store(OUT + (q_begin + i)[:, None] * so_n + h * so_h + d[None, :], out, mask=inside)
        tl.store(LSE + h * se_h + q_begin + i, (m + tl.log2(z)) * LN2, mask=i < queries)


def pick(head_dim: int, itemsize: int = 2) -> Config:
    """Return the tile for a head dim and the bytes of an element."""
    if itemsize > 2:
        return Config(rows=32, tokens=32, warps=4, stages=1)
    for width, config in CONFIGS.items():
        if head_dim <= width:
            return config
    raise ValueError(f"head_dim {head_dim}: prefill attention is written for at most 256")


def traffic(
    batch: int, q_heads: int, kv_heads: int, head_dim: int, tokens: int, itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes moved, flops) for prompts of `tokens` tokens: each tensor once, half of all scores."""
    moved = batch * tokens * head_dim * itemsize * (2 * q_heads + 2 * kv_heads) + 4 * batch * q_heads * tokens
    return float(moved), 4.0 * batch * q_heads * head_dim * tokens * (tokens + 1) / 2


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
    rows_of_last_axis(q=q, k=k, v=v)
    (tokens, q_heads, width), kv_heads = q.shape, k.shape[1]
    config = config or pick(width, q.element_size())
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
        G=q_heads // kv_heads,
        D=width,
        BD=max(16, triton.next_power_of_2(width)),
        BM=config.rows,
        BN=config.tokens,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return out, lse
