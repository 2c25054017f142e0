"""Slow, obvious twins of every kernel, by the same names, in plain torch and fp64: loops and the letters of the maths.

Each takes what its launcher takes (tuning arguments aside) and returns what it returns, in fp64 unless stated.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

F64 = torch.float64


def cached(cache: Tensor, b: int, t: int, block_table: Tensor | None) -> Tensor:
    """Return what a cache [B, T, ...], or pages [P, page, ...] behind a table, holds for token t of sequence b."""
    if block_table is None:
        return cache[b, t]
    page = cache.shape[1]
    return cache[int(block_table[b, t // page]), t % page]


def tokens_of(cache: Tensor, b: int, length: int, block_table: Tensor | None = None) -> Tensor:
    """Return the tokens of sequence b, stacked [length, ...], in fp64."""
    rows = [cached(cache, b, t, block_table).to(F64) for t in range(length)]
    return torch.stack(rows) if rows else cache.new_zeros((0, *cache.shape[2:]), dtype=F64)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """One query over one head: q [D], k [T, D], v [T, Dv] -> out [Dv], lse (), logits [T]."""
    s = (k @ q.to(F64)) * scale
    if len(s) == 0:
        return v.new_zeros(v.shape[1]), torch.tensor(-math.inf, dtype=F64, device=v.device), s
    lse = torch.logsumexp(s, 0)
    return torch.exp(s - lse) @ v, lse, s


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    *,
    block_table: Tensor | None = None,
    scale: float | None = None,
    logits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T * scale) v for every sequence and head."""
    (batch, heads, width), group = q.shape, q.shape[1] // k.shape[2]
    scale = width**-0.5 if scale is None else scale
    out = torch.zeros((batch, heads, v.shape[-1]), dtype=F64, device=q.device)
    lse = torch.zeros((batch, heads), dtype=F64, device=q.device)
    for b in range(batch):
        n = int(lengths[b])
        keys, values = tokens_of(k, b, n, block_table), tokens_of(v, b, n, block_table)  # [n, Hkv, D]
        for h in range(heads):
            out[b, h], lse[b, h], s = attend(q[b, h], keys[:, h // group], values[:, h // group], scale)
            if logits is not None:
                logits[b, h, :n] = s
    return out, lse


def unpack(codes: Tensor, kind: str) -> Tensor:
    """Return codes [..., D] in fp64; int4 codes [..., D/2] hold element j low and element j + D/2 high in byte j."""
    if kind != "int4":
        return codes.to(F64)
    return torch.cat([(codes & 15).to(F64), (codes >> 4).to(F64)], -1)


def dequantise(codes: Tensor, kind: str, scale: Tensor | float, zero: Tensor | None) -> Tensor:
    """Return code * scale + zero [P, page, Hkv, D]; scales and zeros are [P, Hkv, groups, page] or one float."""
    x = unpack(codes, kind)
    if not isinstance(scale, Tensor):
        return x * scale
    width = x.shape[-1] // scale.shape[2]
    per = scale.to(F64).permute(0, 3, 1, 2).repeat_interleave(width, -1)  # [P, page, Hkv, D]
    if zero is None:
        return x * per
    return x * per + zero.to(F64).permute(0, 3, 1, 2).repeat_interleave(width, -1)


def quantised_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    *,
    kind: str,
    k_scale: Tensor | float = 1.0,
    v_scale: Tensor | float = 1.0,
    k_zero: Tensor | None = None,
    v_zero: Tensor | None = None,
    block_table: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Dequantise everything, then attend."""
    keys, values = dequantise(k, kind, k_scale, k_zero), dequantise(v, kind, v_scale, v_zero)
    return decode_attention(q, keys, values, lengths, block_table=block_table, scale=scale)


def quantise(x: Tensor, kind: str, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise x [N, H, D] per group: codes [N, H, D] (int4: [N, H, D/2]), scale and zero [N, H, groups] bf16.

    scale = (max - min) / steps and zero = min - first * scale, both rounded to bf16 before the codes are.
    """
    first, steps = {"int8": (-128, 255), "int4": (0, 15)}[kind]
    g = x.float().unflatten(-1, (groups, -1))  # [N, H, groups, width]
    least, most = g.amin(-1), g.amax(-1)
    scale = ((most - least) / steps).bfloat16().clamp_min(1e-20)
    zero = (least - first * scale.float()).bfloat16()
    codes = torch.floor((g - zero.float()[..., None]) / scale.float()[..., None] + 0.5).clamp(first, first + steps)
    codes = codes.flatten(-2)
    if kind == "int8":
        return codes.to(torch.int8), scale, zero
    low, high = codes.to(torch.uint8).chunk(2, -1)
    return low | (high << 4), scale, zero


def kv_write(
    k_new: Tensor,
    v_new: Tensor,
    k: Tensor,
    v: Tensor,
    slots: Tensor,
    *,
    kind: str = "plain",
    k_scale: Tensor | float = 1.0,
    v_scale: Tensor | float = 1.0,
    k_zero: Tensor | None = None,
    v_zero: Tensor | None = None,
) -> None:
    """Write every new token into its slot, in place."""
    for new, cache, scale, zero in ((k_new, k, k_scale, k_zero), (v_new, v, v_scale, v_zero)):
        for i, slot in enumerate(slots.tolist()):
            if slot < 0:
                continue
            page, offset = divmod(slot, cache.shape[1])
            if kind == "plain":
                cache[page, offset] = new[i].to(cache.dtype)
            elif kind == "fp8":
                most = torch.finfo(cache.dtype).max
                cache[page, offset] = (new[i].float() / scale).clamp(-most, most).to(cache.dtype)
            else:
                codes, s, z = quantise(new[i : i + 1], kind, scale.shape[2])
                cache[page, offset] = codes[0]
                scale[page, :, :, offset] = s[0].to(scale.dtype)
                zero[page, :, :, offset] = z[0].to(zero.dtype)


def absorbed_decode(
    q: Tensor,
    latent: Tensor,
    lengths: Tensor,
    *,
    q_rope: Tensor | None = None,
    k_rope: Tensor | None = None,
    block_table: Tensor | None = None,
    scale: float,
    stored_scale: float = 1.0,
    logits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax((q c^T + q_rope k_rope^T) * scale) c."""
    batch, heads, rank = q.shape
    out = torch.zeros((batch, heads, rank), dtype=F64, device=q.device)
    lse = torch.zeros((batch, heads), dtype=F64, device=q.device)
    for b in range(batch):
        n = int(lengths[b])
        c = keys = tokens_of(latent, b, n, block_table) * stored_scale  # [n, R]
        if k_rope is not None:
            keys = torch.cat([c, tokens_of(k_rope, b, n, block_table) * stored_scale], -1)  # [n, R + r]
        for h in range(heads):
            query = q[b, h] if q_rope is None else torch.cat([q[b, h], q_rope[b, h]])
            out[b, h], lse[b, h], s = attend(query, keys, c, scale)
            if logits is not None:
                logits[b, h, :n] = s
    return out, lse


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [..., D] by the angles of one position, cos and sin [D/2]: the pairs are (x[j], x[j + D/2])."""
    turned, half = x.to(F64).clone(), x.shape[-1] // 2
    for j in range(half):
        turned[..., j] = x[..., j] * cos[j].to(F64) - x[..., j + half] * sin[j].to(F64)
        turned[..., j + half] = x[..., j + half] * cos[j].to(F64) + x[..., j] * sin[j].to(F64)
    return turned


def rebuilt_keys(latent: Tensor, up: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """Return keys [n, Hkv, D] from latents [n, R] and up-projections [Hkv, R, D], rotated by their slot."""
    keys = torch.einsum("nr,hrd->nhd", latent.to(F64), up.to(F64))
    if cos is not None and sin is not None:
        for t in range(len(keys)):
            keys[t] = rotate(keys[t], cos[t], sin[t])
    return keys


def fused_decode(
    q: Tensor,
    k_latent: Tensor,
    v_latent: Tensor,
    k_up: Tensor,
    lengths: Tensor,
    *,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Rebuild and rotate the keys, attend, and weigh the value latents."""
    (batch, heads, width), group = q.shape, q.shape[1] // k_up.shape[0]
    out = torch.zeros((batch, heads, v_latent.shape[-1]), dtype=F64, device=q.device)
    lse = torch.zeros((batch, heads), dtype=F64, device=q.device)
    for b in range(batch):
        n = int(lengths[b])
        keys = rebuilt_keys(k_latent[b, :n], k_up, cos, sin)  # [n, Hkv, D]
        for h in range(heads):
            values = v_latent[b, :n].to(F64)  # [n, Rv]
            out[b, h], lse[b, h], _ = attend(
                q[b, h], keys[:, h // group], values, width**-0.5 if scale is None else scale
            )
    return out, lse


def reconstruct_decode(
    q: Tensor,
    k_latent: Tensor,
    v_latent: Tensor,
    k_up: Tensor,
    v_up: Tensor,
    lengths: Tensor,
    *,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend as `fused_decode`, then bring each head's value latent up."""
    out, lse = fused_decode(q, k_latent, v_latent, k_up, lengths, cos=cos, sin=sin, scale=scale)
    group = q.shape[1] // k_up.shape[0]
    heads = [out[:, h] @ v_up[h // group].to(F64) for h in range(q.shape[1])]  # [B, D] each
    return torch.stack(heads, 1), lse


def prefill_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    longest: int,
    *,
    k_starts: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One query after another attends to the keys up to its own place."""
    (tokens, heads, width), group = q.shape, q.shape[1] // k.shape[1]
    out = torch.zeros((tokens, heads, width), dtype=F64, device=q.device)
    lse = torch.zeros((heads, tokens), dtype=F64, device=q.device)
    queries = pairwise(starts.tolist())
    keys_of = pairwise((starts if k_starts is None else k_starts).tolist())
    for (begin, end), (k_begin, k_end) in zip(queries, keys_of, strict=True):
        for i in range(begin, end):
            seen = k_end - (end - 1 - i)
            for h in range(heads):
                keys, values = k[k_begin:seen, h // group].to(F64), v[k_begin:seen, h // group].to(F64)
                out[i, h], lse[h, i], _ = attend(q[i, h], keys, values, width**-0.5 if scale is None else scale)
    return out, lse


def h2o_rescore(
    q: Tensor, k: Tensor, lse: Tensor, lengths: Tensor, scores: Tensor, *, scale: float | None = None
) -> None:
    """Add exp(q.k * scale - lse) of every head of the group to the token's score, in place."""
    (batch, heads, width), group = q.shape, q.shape[1] // k.shape[2]
    for b in range(batch):
        n = int(lengths[b])
        for h in range(heads):
            s = (k[b, :n, h // group].to(F64) @ q[b, h].to(F64)) * (width**-0.5 if scale is None else scale)
            scores[b, h // group, :n] += torch.exp(s - lse[b, h]).to(scores.dtype)


def h2o_decode(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, scores: Tensor, *, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attend, then look at the keys again to score them."""
    out, lse = decode_attention(q, k, v, lengths, scale=scale)
    h2o_rescore(q, k, lse, lengths, scores, scale=scale)
    return out, lse


def h2o_latent_decode(
    q: Tensor,
    latent: Tensor,
    lengths: Tensor,
    scores: Tensor,
    *,
    q_rope: Tensor | None = None,
    k_rope: Tensor | None = None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attend to the latent, then score it with all heads."""
    out, lse = absorbed_decode(q, latent, lengths, q_rope=q_rope, k_rope=k_rope, scale=scale)
    whole_q = q if q_rope is None else torch.cat([q, q_rope], -1)
    whole_k = latent if k_rope is None else torch.cat([latent, k_rope], -1)
    h2o_rescore(whole_q, whole_k[:, :, None], lse, lengths, scores, scale=scale)
    return out, lse


def h2o_prefill_scores(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    starts: Tensor,
    longest: int,
    *,
    last: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Sum the columns of the causal attention matrix over the last queries and the heads of each group."""
    group, width = q.shape[1] // k.shape[1], q.shape[-1]
    bounds = starts.tolist()
    scores = torch.zeros((len(bounds) - 1, k.shape[1], longest), dtype=F64, device=q.device)
    for b, (begin, end) in enumerate(pairwise(bounds)):
        for i in range(max(begin, end - (longest if last is None else last)), end):
            for h in range(q.shape[1]):
                s = (k[begin : i + 1, h // group].to(F64) @ q[i, h].to(F64)) * (width**-0.5 if scale is None else scale)
                scores[b, h // group, : i + 1 - begin] += torch.exp(s - lse[h, i].to(F64))
    return scores


def h2o_select(scores: Tensor, lengths: Tensor, heavy: int, recent: int) -> Tensor:
    """Sort what is not recent by (score, position), keep the last `heavy`, add the recent ones."""
    batch, heads, _ = scores.shape
    kept = torch.full((batch, heads, heavy + recent), -1, dtype=torch.int32, device=scores.device)
    for b in range(batch):
        n = int(lengths[b])
        limit = max(0, n - recent)
        for h in range(heads):
            order = sorted(range(limit), key=lambda t: (float(scores[b, h, t]), t))
            chosen = sorted(order[max(0, limit - heavy) :]) + list(range(limit, n))
            kept[b, h, : len(chosen)] = torch.tensor(chosen, dtype=torch.int32)
    return kept


def h2o_compact(cache: Tensor, kept: Tensor, into: Tensor, scores: Tensor | None = None) -> Tensor | None:
    """Copy token by token."""
    kept_scores = None if scores is None else torch.zeros(kept.shape, dtype=F64, device=cache.device)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in kept.shape)).tolist():
        token = int(kept[b, h, i])
        if token < 0:
            continue
        into[b, i, h] = cache[b, token, h]
        if kept_scores is not None and scores is not None:
            kept_scores[b, h, i] = scores[b, h, token]
    return kept_scores


def h2o_evict(
    k_new: Tensor,
    v_new: Tensor | None,
    k: Tensor,
    v: Tensor | None,
    scores: Tensor,
    positions: Tensor,
    seen: Tensor,
    recent: int,
) -> None:
    """Find the (score, position) that is least among what is not recent, and write the new token over it."""
    batch, budget, heads, _ = k.shape
    for b in range(batch):
        now = int(seen[b])
        for h in range(heads):
            old = [i for i in range(min(now, budget)) if int(positions[b, h, i]) <= now - recent]
            order = sorted(old, key=lambda i, b=b, h=h: (float(scores[b, h, i]), int(positions[b, h, i])))
            slot = now if now < budget else order[0]
            k[b, slot, h] = k_new[b, h]
            if v is not None and v_new is not None:
                v[b, slot, h] = v_new[b, h]
            scores[b, h, slot], positions[b, h, slot] = 0.0, now


def ring_slot(p: int, sinks: int, slots: int) -> int:
    """Return the slot of the token at position p of the text."""
    return p if p < sinks else sinks + (p - sinks) % (slots - sinks)


def streaming_append(
    k_new: Tensor,
    v_new: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    sinks: int,
    mode: str,
) -> None:
    """Write each new token into its slot, rotated by its position in the text in mode `absolute`."""
    for b, p in enumerate(seen.tolist()):
        slot = ring_slot(p, sinks, k.shape[1])
        k[b, slot] = (rotate(k_new[b], cos[p], sin[p]) if mode == "absolute" else k_new[b]).to(k.dtype)
        v[b, slot] = v_new[b]


def streaming_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    sinks: int,
    mode: str,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Put what is left in order of age, rotate keys in mode `cache`, and attend from the newest one's place."""
    (batch, heads, width), slots, group = q.shape, k.shape[1], q.shape[1] // k.shape[2]
    out = torch.zeros((batch, heads, width), dtype=F64, device=q.device)
    lse = torch.full((batch, heads), -math.inf, dtype=F64, device=q.device)
    for b, n in enumerate(seen.tolist()):
        left = [p for p in range(n) if p < sinks or p >= n - (slots - sinks)]
        if not left:
            continue
        rows = [ring_slot(p, sinks, slots) for p in left]
        keys, values = k[b, rows].to(F64), v[b, rows].to(F64)  # [n, Hkv, D]
        if mode == "cache":
            keys = torch.stack([rotate(key, cos[place], sin[place]) for place, key in enumerate(keys)])
        place = n - 1 if mode == "absolute" else len(left) - 1
        for h in range(heads):
            query = rotate(q[b, h], cos[place], sin[place])
            out[b, h], lse[b, h], _ = attend(
                query, keys[:, h // group], values[:, h // group], width**-0.5 if scale is None else scale
            )
    return out, lse


def read_probe(x: Tensor) -> Tensor:
    """Sum everything."""
    return x.to(F64).sum()


def copy_probe(x: Tensor, y: Tensor) -> None:
    """Copy element by element."""
    for i in range(len(x)):
        y[i] = x[i]


def write_probe(y: Tensor, value: float = 0.0) -> None:
    """Fill element by element."""
    for i in range(len(y)):
        y[i] = value
