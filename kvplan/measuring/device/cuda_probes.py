"""What a GPU is measured on: kvplan's kernels as each technique runs them, torch's products, and moving memory."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

from kvplan.measuring.device.probes import ANCHOR, WIDTH, Probe, copying, decode, latent, prefill, product_of

#: bytes of scale and zero point a token and head, by bits; groups of 64 elements
SIDE = {"bfloat16": 0.0, "fp8": 0.0, "int8": 8.0, "int4": 8.0}
RANK, ROPE = 512, 64
#: of the model that MHC compresses: KV heads and their dim
KV_HEADS, HEAD_DIM = 8, 128
#: tokens of a page; sinks of StreamingLLM; tokens whose keys and values are rebuilt in memory at once
PAGE, SINKS, MOST_REBUILT = 16, 4, 2**17
CUDA_ANCHORS = (copying(2**27, group=ANCHOR), product_of(2048, 4096, 4096, "bfloat16", ANCHOR))


def cuda_probes(fp8: bool) -> Iterator[Probe]:
    """Yield what a GPU is measured on; the pool decides what of it fits."""
    for name, p in product(("copy", "read", "write"), range(20, 30)):
        moved = {"copy": 8.0, "read": 4.0, "write": 4.0}[name] * 2**p
        yield Probe(
            group=f"bandwidth {name}", kind=name, kernel=f"triton_{name}", dtype="float32", sizes={"elements": 2**p},
            moved=moved, flops=0.0,
        )  # fmt: skip
    matrices = ((1024, 4096), (4096, 4096), (4096, 14336), (6144, 4096), (8192, 8192), (28672, 4096), (2048, 7168))
    for dtype in ("bfloat16", "fp8") if fp8 else ("bfloat16",):
        for m, (n, k) in product((1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192), matrices):
            if dtype != "fp8" or m >= 16:
                yield product_of(m, n, k, dtype)
    yield from decode_probes(fp8)
    for heads, batch, length in product((16, 32, 64, 128), (1, 4, 16, 64), (1024, 4096, 16384, 65536)):
        yield latent(batch, heads, RANK, ROPE, length, kernel="triton_absorbed", dtype="bfloat16")
    for batch, (q_heads, kv_heads), length in product(
        (1, 4), ((32, 8), (16, 2), (8, 8)), (512, 1024, 2048, 4096, 8192, 16384)
    ):
        yield prefill(batch, q_heads, kv_heads, 128, length, kernel="triton_prefill", dtype="bfloat16")


def decode_probes(fp8: bool) -> Iterator[Probe]:
    """Yield decode attention over plain and quantised caches, and as each technique runs it."""
    heads = ((32, 8), (8, 1), (16, 4))
    grid = list(product((1, 4, 16, 64, 256), heads, (512, 2048, 8192, 32768, 131072)))
    quantised = ("fp8", "int8", "int4") if fp8 else ("int8", "int4")
    for kept in ("bfloat16", *quantised):
        for batch, (q_heads, kv_heads), length in grid:
            yield decode(
                batch, q_heads, kv_heads, 128, length, group=f"decode {kept}", kernel="triton_decode",
                dtype="bfloat16", kv_dtype=kept, side=SIDE[kept],
            )  # fmt: skip
    for batch, (q_heads, kv_heads), length in grid:
        plain = partial(decode, batch, q_heads, kv_heads, 128, length, dtype="bfloat16")
        yield plain(group="decode paged", kernel="triton_paged")
        if length <= 32768:
            probe = plain(group="decode h2o", kernel="triton_h2o")
            logits, scores = 4.0 * batch * q_heads * length, 8.0 * batch * kv_heads * length
            weights = 2.0 * batch * q_heads * length
            yield replace(probe, moved=probe.moved + logits + scores, flops=probe.flops + weights)
        if length <= 8192:  # sinks and window
            yield plain(group="decode streaming absolute", kernel="triton_streaming_absolute")
            probe = plain(group="decode streaming cache", kernel="triton_streaming_cache")
            tables, rotation = 2.0 * length * 128, 3.0 * batch * kv_heads * length * 128
            yield replace(probe, moved=probe.moved + tables, flops=probe.flops + rotation)
    yield from latent_probes(fp8)


def latent_probes(fp8: bool) -> Iterator[Probe]:
    """Yield MHC decode of 8 KV heads of 128, 32 query heads: one latent (absorbed), or one for keys and one for values.

    A row's kv_heads and head_dim are what is stored: 2 x kv_heads x head_dim elements a token, as in every cache.
    """
    for batch, length in product((1, 4, 16, 64), (1024, 4096, 16384, 65536)):
        tokens, q = batch * length, 4.0 * batch * 32 * 128
        for rank, kept in product((128, 256, 512), ("bfloat16", "fp8") if fp8 else ("bfloat16",)):
            if kept == "bfloat16" or rank <= 256:  # wider fp8 latents are not written
                yield stored(
                    f"absorbed {kept}", "triton_absorbed_mhc", batch, length, (1, rank // 2), rank, kept,
                    WIDTH[kept] * tokens * rank + 4.0 * batch * 32 * rank, 4.0 * tokens * 32 * rank,
                )  # fmt: skip
        for rank in (128, 256):
            wide, full = (KV_HEADS, rank // KV_HEADS), 2.0 * tokens * KV_HEADS * HEAD_DIM
            small = q / 2 + 2.0 * rank * (KV_HEADS * HEAD_DIM + 32 * batch)
            rebuilt, attended = 2.0 * tokens * rank * KV_HEADS * HEAD_DIM, 2.0 * tokens * 32
            yield stored(
                "fused", "triton_fused", batch, length, wide, rank, "bfloat16",
                4.0 * tokens * rank + 2.0 * length * HEAD_DIM + small, rebuilt + attended * (128 + rank),
            )  # fmt: skip
            if tokens <= MOST_REBUILT:
                yield stored(
                    "reconstruct", "triton_reconstruct", batch, length, wide, rank, "bfloat16",
                    4.0 * tokens * rank + 6 * full + q, 2 * rebuilt + attended * 256,
                )  # fmt: skip


def stored(
    form: str, kernel: str, batch: int, length: int, heads: tuple[int, int], rank: int, kept: str, moved: float,
    flops: float,
) -> Probe:  # fmt: skip
    """Return decode over latents of `rank` elements; heads: (KV heads, stored width of each)."""
    sizes = {
        "batch": batch, "q_heads": 32, "kv_heads": heads[0], "head_dim": heads[1], "kv_len": length, "rank": rank,
    }  # fmt: skip
    return Probe(
        group=f"decode mhc {form}", kind="decode_attention", kernel=kernel, dtype="bfloat16", kv_dtype=kept,
        sizes=sizes, moved=moved, flops=flops,
    )  # fmt: skip
