"""H2O: decode that also scores its cache, and what keeps the heavy hitters (arXiv 2306.14048).

A token's score is the attention it has received: summed over the steps seen, and over the query heads that share its KV
head. Of equal scores the older token leaves first. Decoding never reads the keys twice: each split stores its scaled
logits as fp16, and the combining kernel, which knows the final LSE, turns them into probabilities and adds them up.
`h2o_rescore` does the same with a second pass over the keys: slow, and its oracle. The prompt is scored by a second
q.k pass with known LSE. Selecting happens once, after the prompt; from then on every step overwrites one slot in place.

Limits: scores are not negative and at most 128 query heads share a KV head; a cache under H2O is contiguous (each head
keeps tokens of its own, so no page would ever be free). MHC and H2O together score the latent with all heads.
"""

import torch
import triton
import triton.language as tl

from .common import FLOATS, FP8, INT32, INTERPRETED, LOG2E, agree, dot_, group_of, inside, tile_for
from .decode_attention import combine_row, combine_tiles, decode_splits
from .decode_attention import traffic as decode_traffic
from .latent_decode import absorbed_splits
from .prefill_attention import refuse_longest
from .tiles import Config, Shape, power_of_two

#: query heads that share a KV head, and head dim
MOST_HEADS, WIDEST = 128, 256
RESCORE = Config(rows=16, tokens=64, warps=4, stages=1)
#: tokens per program of the element-wise kernels
SELECT_TOKENS, EVICT_TOKENS, COMPACT_TOKENS = 1024, 1024, 32


@triton.jit
def combine_scores_kernel(
    PARTIAL,
    LSES,
    LOGITS,
    LENGTHS,
    OUT,
    LSE,
    SCORES,
    splits,
    q_heads,
    sl_h,
    ss_b,
    ss_h,
    G: tl.constexpr,
    BG: tl.constexpr,
    BT: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    part = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    first = b * q_heads + kv_head * G
    g = tl.arange(0, BG)
    every = tl.arange(0, BS)
    there = (g < G)[:, None] & (every < splits)[None, :]
    lses = tl.load(LSES + (first + g)[:, None] * splits + every[None, :], mask=there, other=float("-inf"))  # [BG, BS]
    top = tl.max(lses, 1)
    top = tl.where(top > float("-inf"), top, 0.0)
    total = tl.sum(tl.exp2((lses - top[:, None]) * LOG2E), 1)  # [BG]
    inverse = 1.0 / tl.where(total > 0, total, 1.0)

    n = part * BT + tl.arange(0, BT)
    live = n < tl.load(LENGTHS + b)
    seen = (g < G)[:, None] & live[None, :]
    logits = tl.load(LOGITS + (first + g)[:, None] * sl_h + n[None, :], mask=seen, other=float("-inf"))
    p = tl.exp2((logits.to(tl.float32) - top[:, None]) * LOG2E) * inverse[:, None]  # [BG, BT]
    at = SCORES + b * ss_b + kv_head * ss_h + n
    tl.store(at, tl.load(at, mask=live, other=0.0) + tl.sum(p, 0), mask=live)
    if part < G:
        combine_row(PARTIAL, LSES, OUT, LSE, first + part, splits, D, BD, BS, CHUNK)


@triton.jit
def rescore_kernel(
    Q,
    K,
    LSE,
    LENGTHS,
    SCORES,
    scale,
    q_heads,
    sq_b,
    sq_h,
    sk_b,
    sk_t,
    sk_h,
    ss_b,
    ss_h,
    G: tl.constexpr,
    BG: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BN: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    n = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    live = n < tl.load(LENGTHS + b)
    g = tl.arange(0, BG)
    h = kv_head * G + g
    real = g < G
    d = tl.arange(0, BD)
    at_q = Q + b * sq_b + h[:, None] * sq_h + d[None, :]
    q = tl.load(at_q, mask=inside(real, d, D, BD), other=0.0)  # [BG, BD]
    at_k = K + b * sk_b + n[:, None] * sk_t + kv_head * sk_h + d[None, :]
    k = tl.load(at_k, mask=inside(live, d, D, BD), other=0.0)  # [BN, BD]
    lse = tl.load(LSE + b * q_heads + h, mask=real, other=0.0)  # [BG]
    p = tl.exp2((dot_(q, tl.trans(k), UPCAST) * scale - lse[:, None]) * LOG2E)  # [BG, BN]
    p = tl.where(real[:, None], p, 0.0)
    at = SCORES + b * ss_b + kv_head * ss_h + n
    tl.store(at, tl.load(at, mask=live, other=0.0) + tl.sum(p, 0), mask=live)


@triton.jit
def prefill_scores_kernel(
    Q,
    K,
    LSE,
    STARTS,
    SCORES,
    scale,
    last,
    sq_n,
    sq_h,
    sk_n,
    sk_h,
    se_h,
    ss_b,
    ss_h,
    G: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    UPCAST: tl.constexpr,
):
    kv_head = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    begin = tl.load(STARTS + b).to(tl.int64)
    length = (tl.load(STARTS + b + 1) - begin).to(tl.int32)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    live = n < length
    d = tl.arange(0, BD)
    at_k = K + (begin + n)[:, None] * sk_n + kv_head * sk_h + d[None, :]
    k = tl.load(at_k, mask=inside(live, d, D, BD), other=0.0)  # [BN, BD]
    oldest = tl.maximum(length - last, 0)
    lo = tl.maximum(tl.program_id(0) * BN, oldest)
    total = tl.zeros([BN], tl.float32)
    for g in range(G):
        h = kv_head * G + g
        for start in range(lo, length, BM):
            i = start + tl.arange(0, BM)
            asks = i < length
            at_q = Q + (begin + i)[:, None] * sq_n + h * sq_h + d[None, :]
            q = tl.load(at_q, mask=inside(asks, d, D, BD), other=0.0)  # [BM, BD]
            lse = tl.load(LSE + h * se_h + begin + i, mask=asks, other=0.0)  # [BM]
            p = tl.exp2((dot_(q, tl.trans(k), UPCAST) * scale - lse[:, None]) * LOG2E)  # [BM, BN]
            p = tl.where(asks[:, None] & (n[None, :] <= i[:, None]), p, 0.0)
            total += tl.sum(p, 0)
    tl.store(SCORES + b * ss_b + kv_head * ss_h + n, total, mask=live)


@triton.jit
def select_kernel(SCORES, LENGTHS, KEPT, heavy, recent, budget, ss_b, ss_h, BT: tl.constexpr):
    kv_head = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1).to(tl.int64)
    length = tl.load(LENGTHS + b)
    limit = tl.maximum(length - recent, 0)
    SCORES += b * ss_b + kv_head * ss_h
    KEPT += (b * tl.num_programs(0) + kv_head) * budget
    digits = tl.arange(0, 256)
    # the smallest kept score, eight bits at a time from the top: the bits of floats >= 0 sort like the floats
    need = heavy
    least = 0
    equal = 0
    for level in tl.static_range(4):
        shift = 24 - 8 * level
        counts = tl.zeros([256], tl.int32)
        for start in range(0, limit, BT):
            n = start + tl.arange(0, BT)
            bits = tl.load(SCORES + n, mask=n < limit, other=0.0).to(tl.int32, bitcast=True)
            same = (n < limit) & (((bits >> shift) >> 8) == least)
            counts += tl.histogram((bits >> shift) & 255, 256, mask=same)
        at_least = tl.cumsum(counts, 0, reverse=True)
        digit = tl.max(tl.where(at_least >= need, digits, 0), 0)
        need -= tl.sum(tl.where(digits > digit, counts, 0), 0)
        equal = tl.sum(tl.where(digits == digit, counts, 0), 0)
        least = (least << 8) | digit
    kept = 0
    ties = 0
    for start in range(0, length, BT):
        n = start + tl.arange(0, BT)
        bits = tl.load(SCORES + n, mask=n < limit, other=0.0).to(tl.int32, bitcast=True)
        tie = (n < limit) & (bits == least)
        rank = ties + tl.cumsum(tie.to(tl.int32), 0) - 1
        old = (n < limit) & (bits > least) | tie & (rank >= equal - need)
        keep = old & (heavy > 0) | (n >= limit) & (n < length)
        into = kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(KEPT + into, n, mask=keep)
        kept += tl.sum(keep.to(tl.int32), 0)
        ties += tl.sum(tie.to(tl.int32), 0)
    for start in range(kept, budget, BT):
        n = start + tl.arange(0, BT)
        tl.store(KEPT + n, tl.full([BT], -1, tl.int32), mask=n < budget)


@triton.jit
def compact_kernel(
    KEPT,
    CACHE,
    SCORES,
    INTO,
    KEPT_SCORES,
    budget,
    sc_b,
    sc_t,
    sc_h,
    si_b,
    si_t,
    si_h,
    ss_b,
    ss_h,
    D: tl.constexpr,
    BD: tl.constexpr,
    BN: tl.constexpr,
    WITH_SCORES: tl.constexpr,
):
    kv_head = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    slot = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    row = (b * tl.num_programs(1) + kv_head) * budget + slot
    token = tl.load(KEPT + row, mask=slot < budget, other=-1).to(tl.int64)
    d = tl.arange(0, BD)
    there = (token >= 0)[:, None] & (d < D)[None, :]
    at = CACHE + b * sc_b + token[:, None] * sc_t + kv_head * sc_h + d[None, :]
    into = INTO + b * si_b + slot[:, None] * si_t + kv_head * si_h + d[None, :]
    tl.store(into, tl.load(at, mask=there, other=0.0), mask=there)
    if WITH_SCORES:
        score = tl.load(SCORES + b * ss_b + kv_head * ss_h + token, mask=token >= 0, other=0.0)
        tl.store(KEPT_SCORES + row, score, mask=slot < budget)


@triton.jit
def evict_kernel(
    KNEW,
    VNEW,
    K,
    V,
    SCORES,
    POSITIONS,
    SEEN,
    budget,
    recent,
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
    DK: tl.constexpr,
    DV: tl.constexpr,
    BDK: tl.constexpr,
    BDV: tl.constexpr,
    BT: tl.constexpr,
):
    kv_head = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1).to(tl.int64)
    now = tl.load(SEEN + b)
    row = (b * tl.num_programs(0) + kv_head) * budget
    none: tl.constexpr = 0x7FFFFFFFFFFFFFFF
    best = tl.full([BT], none, tl.int64)
    where = tl.zeros([BT], tl.int32)
    for start in range(0, budget, BT):
        n = start + tl.arange(0, BT)
        score = tl.load(SCORES + row + n, mask=n < budget, other=0.0)
        position = tl.load(POSITIONS + row + n, mask=n < budget, other=0)
        # score first, then age: both are >= 0, so one integer orders them
        key = (score.to(tl.int32, bitcast=True).to(tl.int64) << 32) | position.to(tl.int64)
        key = tl.where((n < budget) & (position <= now - recent), key, none)
        where = tl.where(key < best, n, where)
        best = tl.minimum(best, key)
    least = tl.min(best, 0)
    slot = tl.max(tl.where(best == least, where, -1), 0)
    slot = tl.where(now < budget, now, slot).to(tl.int64)
    tl.store(SCORES + row + slot, 0.0)
    tl.store(POSITIONS + row + slot, now)
    d = tl.arange(0, BDK)
    new = tl.load(KNEW + b * sn_b + kv_head * sn_h + d, mask=d < DK, other=0.0)
    tl.store(K + b * sk_b + slot * sk_t + kv_head * sk_h + d, new, mask=d < DK)
    if DV > 0:
        d = tl.arange(0, BDV)
        new = tl.load(VNEW + b * sm_b + kv_head * sm_h + d, mask=d < DV, other=0.0)
        tl.store(V + b * sv_b + slot * sv_t + kv_head * sv_h + d, new, mask=d < DV)


def traffic(
    batch: int, q_heads: int, kv_heads: int, head_dim: int, tokens: int, itemsize: int = 2
) -> tuple[float, float]:
    """Return (bytes, flops) of one `h2o_decode`: decode, fp16 logits written and read, fp32 scores read and written."""
    moved, flops = decode_traffic(batch, q_heads, kv_heads, head_dim, tokens, itemsize, logits=True)
    return moved + batch * tokens * (2 * q_heads + 8 * kv_heads), flops + 2.0 * batch * q_heads * tokens


def refuse_group(group: int) -> None:
    """Refuse more query heads per KV head than one program scores."""
    if group > MOST_HEADS:
        raise ValueError(f"{group} query heads share a KV head: scores are written for at most {MOST_HEADS}")


def refuse_negative(**counts: int) -> None:
    """Refuse a number of tokens below 0."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} {count}: must be 0 or more")


def combine_scores(
    partial: torch.Tensor,
    lses: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor,
    scores: torch.Tensor,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the splits and add each token's probabilities, summed over the heads of its group, to its score.

    partial [B, Hq, S, D] fp32, lses [B, Hq, S] fp32, logits [B, Hq, T] fp16, scores [B, Hkv, T] fp32, changed in place.
    Returns out [B, Hq, D] of `dtype` and lse [B, Hq].
    """
    batch, q_heads, splits, width = partial.shape
    kv_heads, tokens = scores.shape[1:]
    group = q_heads // kv_heads
    rows = triton.next_power_of_2(group)
    at_once = max(32, min(1024, 4096 // rows))
    out = torch.empty((batch, q_heads, width), dtype=dtype, device=partial.device)
    lse = torch.empty((batch, q_heads), dtype=torch.float32, device=partial.device)
    combine_scores_kernel[(max(group, triton.cdiv(tokens, at_once)), kv_heads, batch)](
        partial,
        lses,
        logits,
        lengths,
        out,
        lse,
        scores,
        splits,
        q_heads,
        logits.stride(1),
        *scores.stride()[:2],
        G=group,
        BG=rows,
        BT=at_once,
        **combine_tiles(width, splits),
        num_warps=4,
        num_stages=2,
    )
    return out, lse


def h2o_decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor,
    scores: torch.Tensor,
    *,
    scale: float | None = None,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode, and add the attention every token received to its score.

    q [B, Hq, D]; k, v [B, T, Hkv, D]; lengths [B] int32, live slots; scores [B, Hkv, T] fp32, changed in place.
    `logits` [B, Hq, T] fp16 is scratch, made when not given. Returns out [B, Hq, D] of q's type, lse [B, Hq] fp32.
    """
    sizes = agree(q=(q, "B Hq D", FLOATS), k=(k, "B T Hkv D", (q.dtype,)), scores=(scores, "B Hkv T", (torch.float32,)))
    refuse_group(group_of(sizes["Hq"], sizes["Hkv"]))
    if logits is None:
        logits = torch.empty((*q.shape[:2], k.shape[1]), dtype=torch.float16, device=q.device)
    partial, lses = decode_splits(
        q, k, v, lengths, scale=scale, splits=splits, sms=sms, logits=logits, config=config, dtype=torch.float32
    )
    return combine_scores(partial, lses, logits, lengths, scores, q.dtype)


def h2o_latent_decode(
    q: torch.Tensor,
    latent: torch.Tensor,
    lengths: torch.Tensor,
    scores: torch.Tensor,
    *,
    q_rope: torch.Tensor | None = None,
    k_rope: torch.Tensor | None = None,
    scale: float,
    splits: int | None = None,
    sms: int | None = None,
    logits: torch.Tensor | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode an absorbed latent cache, and add the attention of all heads to each token's score.

    q [B, H, R], latent [B, T, R], q_rope [B, H, r], k_rope [B, T, r] as in `absorbed_decode`; scores [B, 1, T] fp32,
    changed in place. Returns out [B, H, R] of q's type and lse [B, H] fp32.
    """
    sizes = agree(
        q=(q, "B H R", FLOATS), latent=(latent, "B T R", (q.dtype, *FP8)), scores=(scores, "B 1 T", (torch.float32,))
    )
    refuse_group(sizes["H"])
    if logits is None:
        logits = torch.empty((*q.shape[:2], latent.shape[1]), dtype=torch.float16, device=q.device)
    partial, lses = absorbed_splits(
        q,
        latent,
        lengths,
        q_rope=q_rope,
        k_rope=k_rope,
        scale=scale,
        splits=splits,
        sms=sms,
        logits=logits,
        config=config,
        dtype=torch.float32,
    )
    return combine_scores(partial, lses, logits, lengths, scores, q.dtype)


def h2o_rescore(
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    lengths: torch.Tensor,
    scores: torch.Tensor,
    *,
    scale: float | None = None,
) -> None:
    """Add the scores of one decode step by reading the keys again: the oracle of `h2o_decode`.

    q [B, Hq, D]; k [B, T, Hkv, D]; lse [B, Hq] fp32 from a decode; scores [B, Hkv, T] fp32, changed in place.
    """
    sizes = agree(
        q=(q, "B Hq D", FLOATS),
        k=(k, "B T Hkv D", (q.dtype,)),
        lse=(lse, "B Hq", (torch.float32,)),
        lengths=(lengths, "B", INT32),
        scores=(scores, "B Hkv T", (torch.float32,)),
    )
    batch, q_heads, kv_heads, width, tokens = (sizes[axis] for axis in ("B", "Hq", "Hkv", "D", "T"))
    group = group_of(q_heads, kv_heads)
    refuse_group(group)
    if width > WIDEST:
        raise ValueError(f"head_dim {width}: scores are written for at most {WIDEST}")
    if not lse.is_contiguous():
        raise ValueError("lse must be contiguous")
    rescore_kernel[(triton.cdiv(tokens, RESCORE.tokens), kv_heads, batch)](
        q,
        k,
        lse,
        lengths,
        scores,
        width**-0.5 if scale is None else scale,
        q_heads,
        *q.stride()[:2],
        *k.stride()[:3],
        *scores.stride()[:2],
        G=group,
        BG=power_of_two(group),
        D=width,
        BD=power_of_two(width),
        BN=RESCORE.tokens,
        UPCAST=INTERPRETED,
        **RESCORE.launch,
    )


def h2o_prefill_scores(
    q: torch.Tensor,
    k: torch.Tensor,
    lse: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    *,
    last: int | None = None,
    scale: float | None = None,
    config: Config | None = None,
) -> torch.Tensor:
    """Return the scores [B, Hkv, longest] fp32 of prompts: the column sums of causal attention, 0 past a prompt's end.

    q [N, Hq, D], k [N, Hkv, D], prompts one after another; lse [Hq, N] fp32 from `prefill_attention`; starts [B + 1]
    int32, where each begins; longest, in tokens. `last`: only so many last queries ask (64 in SnapKV), default all.
    """
    sizes = agree(
        q=(q, "N Hq D", FLOATS),
        k=(k, "N Hkv D", (q.dtype,)),
        lse=(lse, "Hq N", (torch.float32,)),
        starts=(starts, "ends", INT32),
    )
    q_heads, kv_heads, width = (sizes[axis] for axis in ("Hq", "Hkv", "D"))
    group = group_of(q_heads, kv_heads)
    refuse_longest(longest, sizes)
    refuse_negative(last=0 if last is None else last)
    batch = sizes["ends"] - 1
    config = config or tile_for(Shape("prompt scores", width, group, q.element_size()), q)
    scores = torch.zeros((batch, kv_heads, longest), dtype=torch.float32, device=q.device)
    prefill_scores_kernel[(triton.cdiv(longest, config.tokens), kv_heads, batch)](
        q,
        k,
        lse,
        starts,
        scores,
        width**-0.5 if scale is None else scale,
        longest if last is None else last,
        *q.stride()[:2],
        *k.stride()[:2],
        lse.stride(0),
        *scores.stride()[:2],
        G=group,
        D=width,
        BD=power_of_two(width),
        BM=config.rows,
        BN=config.tokens,
        UPCAST=INTERPRETED,
        **config.launch,
    )
    return scores


def h2o_select(scores: torch.Tensor, lengths: torch.Tensor, heavy: int, recent: int) -> torch.Tensor:
    """Return the tokens each head keeps: its `recent` last, and of the others the `heavy` with the highest score.

    scores [B, Hkv, T] fp32, not negative; lengths [B] int32. Returns kept [B, Hkv, heavy + recent] int32, positions in
    ascending order, then -1. Of equal scores the later token is kept.
    """
    sizes = agree(scores=(scores, "B Hkv T", (torch.float32,)), lengths=(lengths, "B", INT32))
    batch, heads, tokens = (sizes[axis] for axis in ("B", "Hkv", "T"))
    refuse_negative(heavy=heavy, recent=recent)
    kept = torch.empty((batch, heads, heavy + recent), dtype=torch.int32, device=scores.device)
    at_once = min(SELECT_TOKENS, max(32, triton.next_power_of_2(tokens)))
    select_kernel[(heads, batch)](
        scores, lengths, kept, heavy, recent, heavy + recent, *scores.stride()[:2], BT=at_once, num_warps=8
    )
    return kept


def h2o_compact(
    cache: torch.Tensor, kept: torch.Tensor, into: torch.Tensor, scores: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Copy the kept tokens of every head to the front of a smaller cache.

    cache [B, T, Hkv, D]; kept [B, Hkv, N] int32 from `h2o_select`; into [B, N, Hkv, D], written where kept is not -1;
    scores [B, Hkv, T] fp32. Returns the kept tokens' scores [B, Hkv, N], 0 where nothing is kept, or none without them.
    """
    sizes = agree(
        cache=(cache, "B T Hkv D", (*FLOATS, *FP8, torch.int8, torch.uint8)),
        kept=(kept, "B Hkv N", INT32),
        into=(into, "B N Hkv D", (cache.dtype,)),
        scores=(scores, "B Hkv T", (torch.float32,)),
    )
    batch, heads, budget, width = (sizes[axis] for axis in ("B", "Hkv", "N", "D"))
    if not kept.is_contiguous():
        raise ValueError("kept must be contiguous")
    kept_scores = (
        None if scores is None else torch.empty((batch, heads, budget), dtype=torch.float32, device=cache.device)
    )
    compact_kernel[(triton.cdiv(budget, COMPACT_TOKENS), heads, batch)](
        kept,
        cache,
        kept if scores is None else scores,
        into,
        kept if kept_scores is None else kept_scores,
        budget,
        *cache.stride()[:3],
        *into.stride()[:3],
        *((0, 0) if scores is None else scores.stride()[:2]),
        D=width,
        BD=triton.next_power_of_2(width),
        BN=COMPACT_TOKENS,
        WITH_SCORES=scores is not None,
        num_warps=4,
    )
    return kept_scores


def h2o_evict(
    k_new: torch.Tensor,
    v_new: torch.Tensor | None,
    k: torch.Tensor,
    v: torch.Tensor | None,
    scores: torch.Tensor,
    positions: torch.Tensor,
    seen: torch.Tensor,
    recent: int,
) -> None:
    """Make room for one new token per sequence and write it: the least scored token that is not recent is overwritten.

    k_new, v_new [B, Hkv, D]; k, v [B, N, Hkv, D] (no v: a latent cache, Hkv 1); scores [B, Hkv, N] fp32 and positions
    [B, Hkv, N] int32, contiguous; seen [B] int32, tokens before the new one, which is its position. While seen < N the
    new token takes slot `seen`. `recent` tokens, the new one included, never leave. All changed in place.
    """
    sizes = agree(
        k_new=(k_new, "B Hkv D", (*FLOATS, *FP8)),
        k=(k, "B N Hkv D", (k_new.dtype,)),
        v_new=(v_new, "B Hkv Dv", (k_new.dtype,)),
        v=(v, "B N Hkv Dv", (k_new.dtype,)),
        scores=(scores, "B Hkv N", (torch.float32,)),
        positions=(positions, "B Hkv N", INT32),
        seen=(seen, "B", INT32),
    )
    if (v is None) != (v_new is None):
        raise ValueError("v_new and v must both be given, or neither")
    if not (scores.is_contiguous() and positions.is_contiguous()):
        raise ValueError("scores and positions must be contiguous")
    batch, budget, heads, width = (sizes[axis] for axis in ("B", "N", "Hkv", "D"))
    if not 1 <= recent <= budget:
        raise ValueError(f"recent {recent}: must be from 1 to the budget of {budget} tokens")
    v_width = 0 if v is None else v.shape[-1]
    evict_kernel[(heads, batch)](
        k_new,
        k_new if v_new is None else v_new,
        k,
        k if v is None else v,
        scores,
        positions,
        seen,
        budget,
        recent,
        *k_new.stride()[:2],
        *((0, 0) if v_new is None else v_new.stride()[:2]),
        *k.stride()[:3],
        *((0, 0, 0) if v is None else v.stride()[:3]),
        DK=width,
        DV=v_width,
        BDK=triton.next_power_of_2(width),
        BDV=max(1, triton.next_power_of_2(v_width)),
        BT=min(EVICT_TOKENS, max(32, triton.next_power_of_2(budget))),
        num_warps=4,
    )
