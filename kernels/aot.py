"""Compile kernels for a GPU that is not there, through their own launchers, and read what came out.

`python -m kvplan.kernels.aot [FAMILY]...` prints, as JSON, what every shipped configuration compiles to for sm_90:
`FAMILIES` calls each launcher once per row of its table, with memory that is reserved and never touched.

`capture()` stands in for the driver: inside it a launch compiles for sm_90 exactly what it would run (same types, same
strides, same specialisation) and runs nothing. Needs TRITON_INTERPRET unset. Registers and spills come from ptxas, the
instruction counts from the disassembler; both ship in Triton's wheel.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from . import bandwidth, decode_attention, h2o, kv_write, latent_decode, prefill_attention, quantised_decode, streaming
from .common import Config


@dataclass(frozen=True)
class Compiled:
    """What one launch compiled to: registers per thread, spilled bytes, shared memory in bytes, instruction counts."""

    kernel: str
    variant: str
    warps: int
    stages: int
    registers: int
    spills: int
    shared: int
    async_loads: int
    wide_async_loads: int
    wide_loads: int
    wgmma: int
    mma: int
    slow_converts: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class NoDriver:
    """Answers what a launch asks of the driver: one sm_90 device, its only stream."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """Return the target to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the only device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return the default stream."""
        return device


@contextmanager
def capture(capability: int = 90) -> Iterator[list[Any]]:
    """Compile every launch made inside, run none of them, and list the compiled kernels."""
    found: list[Any] = []
    original = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
        kernel = original(self, *args, grid=grid, warmup=True, **keywords)
        found.append(kernel)
        return kernel

    triton.runtime.driver.set_active(NoDriver(capability))
    JITFunction.run = compile_only
    try:
        yield found
    finally:
        JITFunction.run = original
        triton.runtime.driver._active = None  # reset_active() would look for a real driver


def inspect(kernel: Any, variant: str) -> Compiled:
    """Return what a compiled kernel uses, under the name of its variant."""
    meta = kernel.metadata
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        sass = tool(triton.knobs.nvidia.nvdisasm.path, "-c", cubin)
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(kernel.asm["ptx"], "utf-8")
        arch = re.search(r"\.target (sm_\w+)", kernel.asm["ptx"])[1]
        report = tool(triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={arch}", ptx, "-o", Path(folder) / "again")
    return Compiled(
        kernel=meta.name,
        variant=variant,
        warps=meta.num_warps,
        stages=meta.num_stages,
        registers=int(re.search(r"Used (\d+) registers", report)[1]),
        spills=sum(int(n) for n in re.findall(r"(\d+) bytes spill", report)),
        shared=meta.shared,
        async_loads=len(re.findall(r"\bLDGSTS\.", sass)),
        wide_async_loads=len(re.findall(r"\bLDGSTS(?:\.\w+)*\.128\b", sass)),
        wide_loads=len(re.findall(r"\bLDG(?:\.\w+)*\.128\b", sass)),
        wgmma=len(re.findall(r"\bHGMMA\.", sass)),
        mma=len(re.findall(r"\bHMMA\.", sass)),
        slow_converts=len(re.findall(r"\b(?:I2F|F2F)\.", sass)),
    )


def tool(path: str, *arguments: str | Path) -> str:
    """Return what one of CUDA's tools prints."""
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


BF16, FP16, FP32, INT32 = torch.bfloat16, torch.float16, torch.float32, torch.int32
#: sequences, tokens and tokens a page of every variant; what compiles depends on them only through divisibility
BATCH, TOKENS, PAGE = 8, 8192, 16
FLOATS = {2: BF16, 4: FP32}

Variants = Iterator[tuple[str, Callable[[], object]]]


def room(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    """Return memory nobody reads."""
    return torch.empty(shape, dtype=dtype)


def cache(*tail: int, paged: bool = False, dtype: torch.dtype = BF16) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a cache of BATCH sequences and its block table."""
    if not paged:
        return room(BATCH, TOKENS, *tail, dtype=dtype), None
    return room(BATCH * TOKENS // PAGE, PAGE, *tail, dtype=dtype), room(BATCH, TOKENS // PAGE, dtype=INT32)


def lengths() -> torch.Tensor:
    """Return lengths of BATCH sequences."""
    return room(BATCH, dtype=INT32)


def decode_variants() -> Variants:
    """Yield every tile of plain decode, contiguous and paged, and decode that stores logits."""
    for (size, width, rows), config in decode_attention.CONFIGS.items():
        for paged in (False, True):
            name = f"{size} bytes, D {width}, {rows} heads a KV head{', paged' if paged else ''}"
            kv, table = cache(2, width, paged=paged, dtype=FLOATS[size])
            q = room(BATCH, 2 * rows, width, dtype=FLOATS[size])
            yield (
                name,
                lambda q=q, kv=kv, table=table, config=config: decode_attention.decode_attention(
                    q, kv, kv, lengths(), block_table=table, config=config
                ),
            )


def quantised_variants() -> Variants:
    """Yield every tile of quantised decode with the scales its kind has, paged, and one contiguous of each kind."""
    stored = {"fp8": torch.float8_e4m3fn, "int8": torch.int8, "int4": torch.uint8}
    for (kind, half, _), config in quantised_decode.CONFIGS.items():
        groups = {"fp8": (0, 1)}.get(kind, (2,) if half == 64 else (1,))
        for count, paged in [(n, True) for n in groups] + [(groups[0], False)] * (half == 64):
            name = f"{kind}, D {2 * half}, {count} scales{', paged' if paged else ''}"
            kv, table = cache(2, half if kind == "int4" else 2 * half, paged=paged, dtype=stored[kind])
            side = room(kv.shape[0], 2, count, kv.shape[1]) if count else 1.0
            zero = side if kind != "fp8" else None
            sides = {"k_scale": side, "v_scale": side, "k_zero": zero, "v_zero": zero}
            q = room(BATCH, 16, 2 * half)
            yield (
                name,
                lambda q=q, kv=kv, table=table, config=config, kind=kind, sides=sides: (
                    quantised_decode.quantised_decode(
                        q, kv, kv, lengths(), kind=kind, block_table=table, config=config, **sides
                    )
                ),
            )
    for kind, width, count in (("plain", 128, 0), ("fp8", 128, 0), ("int8", 128, 2), ("int8", 64, 1), ("int4", 128, 2)):
        kv, _ = cache(2, width // 2 if kind == "int4" else width, paged=True, dtype=stored.get(kind, BF16))
        side = room(kv.shape[0], 2, count, PAGE) if count else 1.0
        sides = {"k_scale": side, "v_scale": side} | ({"k_zero": side, "v_zero": side} if count else {})
        new, slots = room(BATCH, 2, width), room(BATCH, dtype=torch.int64)
        yield (
            f"write {kind}, D {width}",
            lambda new=new, kv=kv, slots=slots, kind=kind, sides=sides: kv_write.kv_write(
                new, new, kv, kv, slots, kind=kind, **sides
            ),
        )


def absorbed(
    rank: int,
    heads: int,
    rope: int,
    config: Config | None,
    paged: bool = False,
    logits: bool = False,
    dtype: torch.dtype = BF16,
) -> None:
    """Launch the absorbed form once."""
    row, table = cache(rank + rope, paged=paged, dtype=dtype)
    latent_decode.absorbed_decode(
        room(BATCH, heads, rank),
        row[..., :rank],
        lengths(),
        q_rope=room(BATCH, heads, rope) if rope else None,
        k_rope=row[..., rank:] if rope else None,
        block_table=table,
        scale=0.1,
        logits=room(BATCH, heads, TOKENS, dtype=FP16) if logits else None,
        config=config,
    )


def absorbed_variants() -> Variants:
    """Yield every tile of the absorbed form, with and without a rotary part, and paged or scoring ones."""
    for (rank, heads), config in latent_decode.ABSORBED.items():
        for rope in (0, 64):
            name = f"R {rank} + {rope}, {heads} heads"
            yield name, lambda rank=rank, heads=heads, rope=rope, config=config: absorbed(rank, heads, rope, config)
    for rank, config in latent_decode.ABSORBED_FP8.items():
        for rope in (0, 64):
            name = f"fp8, R {rank} + {rope}"
            yield (
                name,
                lambda rank=rank, rope=rope, config=config: absorbed(rank, 64, rope, config, dtype=torch.float8_e4m3fn),
            )
    yield "R 256 + 0, 32 heads, paged", lambda: absorbed(256, 32, 0, None, paged=True)
    yield "R 512 + 64, 128 heads, paged", lambda: absorbed(512, 128, 64, None, paged=True)
    yield "R 512 + 64, 128 heads, logits", lambda: absorbed(512, 128, 64, None, logits=True)


def fused_variants() -> Variants:
    """Yield every tile of the fused form, and the tiles of streaming decode in both modes."""
    table = room(TOKENS, 64, dtype=FP32)
    for rank, config in latent_decode.FUSED.items():
        c, up = room(BATCH, TOKENS, rank), room(8, rank, 128)
        yield (
            f"R {rank} each, D 128",
            lambda c=c, up=up, config=config: latent_decode.fused_decode(
                room(BATCH, 32, 128), c, c, up, lengths(), cos=table, sin=table, config=config
            ),
        )
    for (size, half), config in streaming.CONFIGS.items():
        for mode in streaming.MODES:
            kv, q = room(BATCH, TOKENS, 2, 2 * half, dtype=FLOATS[size]), room(BATCH, 8, 2 * half, dtype=FLOATS[size])
            turns = room(TOKENS, half, dtype=FP32)
            yield (
                f"streaming {mode}, {size} bytes, D {2 * half}",
                lambda q=q, kv=kv, t=turns, mode=mode, config=config: streaming.streaming_decode(
                    q, kv, kv, lengths(), t, t, sinks=4, mode=mode, config=config
                ),
            )
    for mode in streaming.MODES:
        kv, new = room(BATCH, TOKENS, 2, 128), room(BATCH, 2, 128)
        yield (
            f"streaming append {mode}",
            lambda kv=kv, new=new, mode=mode: streaming.streaming_append(
                new, new, kv, kv, lengths(), table, table, sinks=4, mode=mode
            ),
        )


def prefill_variants() -> Variants:
    """Yield every tile of prefill attention and of prompt scores."""
    starts = room(BATCH + 1, dtype=INT32)
    for width, config in prefill_attention.CONFIGS.items():
        q, kv = room(TOKENS, 8, width), room(TOKENS, 2, width)
        yield (
            f"prefill D {width}",
            lambda q=q, kv=kv, config=config: prefill_attention.prefill_attention(
                q, kv, kv, starts, TOKENS, config=config
            ),
        )
    for width, config in h2o.PREFILL.items():
        q, kv, lse = room(TOKENS, 8, width), room(TOKENS, 2, width), room(8, TOKENS, dtype=FP32)
        yield (
            f"prompt scores D {width}",
            lambda q=q, kv=kv, lse=lse, config=config: h2o.h2o_prefill_scores(
                q, kv, lse, starts, TOKENS, config=config
            ),
        )


def small_variants() -> Variants:
    """Yield the rest of H2O at a usual shape, and the bandwidth probes."""
    q, (kv, _) = room(BATCH, 32, 128), cache(8, 128)
    scores, kept = room(BATCH, 8, TOKENS, dtype=FP32), room(BATCH, 8, 1024, dtype=INT32)
    row, new = room(BATCH, TOKENS, 1, 576), room(BATCH, 8, 128)
    latent_scores, positions = room(BATCH, 1, TOKENS, dtype=FP32), room(BATCH, 8, TOKENS, dtype=INT32)
    x = room(1 << 24, dtype=FP32)
    yield "h2o decode, 4 heads a KV head", lambda: h2o.h2o_decode(q, kv, kv, lengths(), scores)
    yield (
        "h2o latent, 32 heads",
        lambda: h2o.h2o_latent_decode(room(BATCH, 32, 512), row[:, :, 0, :512], lengths(), latent_scores, scale=0.1),
    )
    yield "rescore", lambda: h2o.h2o_rescore(q, kv, room(BATCH, 32, dtype=FP32), lengths(), scores)
    yield "select", lambda: h2o.h2o_select(scores, lengths(), 1000, 24)
    yield "compact", lambda: h2o.h2o_compact(kv, kept, room(BATCH, 1024, 8, 128), scores)
    yield "evict", lambda: h2o.h2o_evict(new, new, kv, kv, scores, positions, lengths(), 64)
    yield (
        "evict latent",
        lambda: h2o.h2o_evict(
            room(BATCH, 1, 576), None, row, None, latent_scores, positions[:, :1].contiguous(), lengths(), 64
        ),
    )
    yield "read", lambda: bandwidth.read_probe(x)
    yield "copy", lambda: bandwidth.copy_probe(x, room(1 << 24, dtype=FP32))
    yield "write", lambda: bandwidth.write_probe(x)


def single_variants() -> Variants:
    """Yield calls whose integers are 1: the compiler makes constants of those, the interpreter does not."""
    q, kv, one = room(1, 1, 128), room(1, TOKENS, 1, 128), lengths()[:1]
    codes, side = room(1, TOKENS, 1, 128, dtype=torch.int8), room(1, 1, 2, TOKENS)
    table, latent = room(TOKENS, 64, dtype=FP32), room(1, TOKENS, 256)
    scores = room(1, 1, TOKENS, dtype=FP32)
    yield "one split", lambda: decode_attention.decode_attention(q, kv, kv, one, splits=1)
    yield (
        "one split, int8",
        lambda: quantised_decode.quantised_decode(
            q, codes, codes, one, kind="int8", k_scale=side, v_scale=side, k_zero=side, v_zero=side, splits=1
        ),
    )
    yield (
        "one split, absorbed",
        lambda: latent_decode.absorbed_decode(room(1, 1, 256), latent, one, scale=1.0, splits=1),
    )
    yield (
        "one split, fused",
        lambda: latent_decode.fused_decode(q, latent, latent, room(1, 256, 128), one, cos=table, sin=table, splits=1),
    )
    yield (
        "one split, one sink",
        lambda: streaming.streaming_decode(q, kv, kv, one, table, table, sinks=1, mode="cache", splits=1),
    )
    yield "one split, h2o", lambda: h2o.h2o_decode(q, kv, kv, one, scores, splits=1)
    yield "one heavy, one recent", lambda: h2o.h2o_select(scores, one, 1, 1)
    yield "one recent", lambda: h2o.h2o_evict(q, q, kv, kv, scores, scores.int(), one, 1)
    yield (
        "one last query",
        lambda: h2o.h2o_prefill_scores(
            room(64, 1, 128), room(64, 1, 128), room(1, 64, dtype=FP32), room(2, dtype=INT32), 64, last=1
        ),
    )


FAMILIES: dict[str, Callable[[], Variants]] = {
    "decode": decode_variants,
    "quantised": quantised_variants,
    "absorbed": absorbed_variants,
    "fused": fused_variants,
    "prefill": prefill_variants,
    "small": small_variants,
    "single": single_variants,
}


def compile_family(family: str) -> list[Compiled]:
    """Compile every variant of a family; each kernel is listed once, under the variant that first needed it."""
    seen: set[str] = set()
    found = []
    for name, launch in FAMILIES[family]():
        with capture() as kernels:
            launch()
        for kernel in kernels:
            if kernel.hash not in seen:
                seen.add(kernel.hash)
                found.append(inspect(kernel, name))
    return found


if __name__ == "__main__":
    rows = [one.as_dict() for family in sys.argv[1:] or FAMILIES for one in compile_family(family)]
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")
