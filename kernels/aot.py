"""Compile kernels for a GPU that is not there, through their own launchers, and read what came out.

`python -m kvplan.kernels.aot CAPABILITY,... [FAMILY]...` prints what the kernels compile to for GPUs of these compute
capabilities (90 for an H100), one line of JSON a capability and family. `FAMILIES` calls each launcher on the shapes
that models and `kvplan profile` have, with memory that is reserved and never touched; each picks its tile as it would
there.

`capture()` stands in for the driver: inside it a launch compiles exactly what it would run (same types, same strides,
same specialisation) and runs nothing. Triton writes the same PTX for all GPUs of one `GENERATION`, but for the target's
name: it is made once a process and assembled for each. Needs TRITON_INTERPRET unset. Registers and stack are read from
the binary by cuobjdump, which ships in Triton's wheel, as the assemblers do.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend
from triton.runtime.cache import get_cache_manager
from triton.runtime.jit import JITFunction

from . import bandwidth, decode_attention, h2o, kv_write, latent_decode, prefill_attention, quantised_decode, streaming
from .common import TARGET, Target
from .tiles import SHARED, TABLE, Config, Row, Shape, nvidia, shared, tiles


@dataclass(frozen=True)
class Compiled:
    """What one launch compiled to.

    Registers per thread; `spills`: stack per thread, `shared` memory per program and what `tiles` `predicted` [bytes, 0
    where no tile was picked]; `tensor` memory [columns]; counts of PTX
    instructions: asynchronous loads, those of 16 bytes, matrix products of warp groups and of warps. `waited`: loads of
    tiles in loops that nothing was overlapped with. `serialised`: each product of a warp group is waited for before the
    next, which the assembler does where it finds no registers for several at once (warning C7510).
    """

    kernel: str
    variant: str
    capability: int
    warps: int
    stages: int
    registers: int
    spills: int
    shared: int
    predicted: int
    tensor: int
    async_loads: int
    wide_async_loads: int
    waited: int
    grouped: int
    mma: int
    serialised: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class NoDriver:
    """Answers what a launch asks of the driver: one device, numbered by its compute capability, and a stream."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """Return the target to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the device; a number of its own for each target, as compiled kernels are kept by device."""
        return int(self.target.arch)

    def get_current_stream(self, device: int) -> int:
        """Return the default stream."""
        return device


@dataclass(frozen=True)
class Assembled:
    """What is read of a compiled kernel, for one whose PTX was made for another target; fields as Triton has them."""

    metadata: Any
    asm: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Launched:
    """One launch: its kernel's name and constants, by name, as text; `kernel` if it was compiled."""

    name: str
    constants: dict[str, str]
    kernel: Any = None

    @property
    def shape(self) -> tuple[tuple[str, str], ...]:
        """Return what tells apart what compiles.

        Left out: G where all heads of a group fit one tile, in which it only masks rows, and how many splits are
        combined at once, of which `SPLITS` are most.
        """
        known = self.constants
        rows = min(int(known.get("G", 0)), int(known.get("BH", 0)))
        masks = {"G"} if rows == int(known.get("G", 0)) else set()
        return (("kernel", self.name), *sorted((k, v) for k, v in known.items() if k not in masks | {"BS", "CHUNK"}))


#: the GPUs that share PTX
GENERATION = (80, 86, 87, 89)
#: kernels compiled for one of these in this process, by function and Triton's key of a launch
MADE: dict[tuple[Any, str], Any] = {}


def assembled(made: Any, capability: int, options: Any) -> Assembled:
    """Return a kernel of this generation for another GPU of it; the binary is kept where Triton keeps its own."""
    ptx = re.sub(r"\.target sm_\d+", f".target sm_{capability}", made.asm["ptx"])
    digest = hashlib.sha256(ptx.encode()).hexdigest()
    kept = get_cache_manager(digest)
    path = kept.get_file("kernel.cubin")
    if path is None:
        backend = make_backend(GPUTarget("cuda", capability, 32))
        path = kept.put(backend.make_cubin(ptx, {}, options, capability), "kernel.cubin")
    return Assembled(made.metadata, {"ptx": ptx, "ttgir": made.asm["ttgir"], "cubin": Path(path).read_bytes()}, digest)


@contextmanager
def capture(capability: int = 90, compiling: bool = True, sharing: bool = True) -> Iterator[list[Launched]]:
    """List every launch made inside, and run none of them; each is compiled, unless not `compiling`.

    `sharing`: PTX that this process made for a GPU of the same generation is assembled, not made again.
    """
    launches: list[Launched] = []
    run, do_compile = JITFunction.run, JITFunction._do_compile
    token = TARGET.set(Target(capability))

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **keywords) if compiling else None
        launches.append(Launched(self.fn.__name__, {name: str(value) for name, value in keywords.items()}, kernel))
        return kernel

    def compile_once(self: JITFunction, key: str, *more: Any) -> Any:
        _, device, _, options, *_ = more
        if (self, key) in MADE:
            kernel = assembled(MADE[self, key], capability, options)
            self.device_caches[device][0][key] = kernel
        else:
            kernel = MADE[self, key] = do_compile(self, key, *more)
        return kernel

    triton.runtime.driver.set_active(NoDriver(capability))
    JITFunction.run = compile_only
    if sharing and capability in GENERATION:
        JITFunction._do_compile = compile_once
    try:
        yield launches
    finally:
        JITFunction.run, JITFunction._do_compile = run, do_compile
        TARGET.reset(token)
        triton.runtime.driver._active = None  # reset_active() would look for a real driver


def waited(ttgir: str) -> int:
    """Return how many tiles (two axes) loops load without having asked for them earlier."""
    inside: list[int] = []
    waits = 0
    for line in ttgir.splitlines():
        indent = len(line) - len(line.lstrip())
        while inside and indent <= inside[-1] and line.lstrip().startswith("}"):
            inside.pop()
        if " scf.for " in line:
            inside.append(indent)
        waits += bool(inside) and re.search(r"= tt\.load .*tensor<\d+x\d+x!tt\.ptr", line) is not None
    return waits


def inspect(kernel: Any, variant: str, capability: int, predicted: int) -> Compiled:
    """Return what a compiled kernel uses, under the name of its variant."""
    meta, ptx = kernel.metadata, kernel.asm["ptx"]
    grouped = len(re.findall(r"\b(?:wgmma\.mma_async|tcgen05\.mma)\.", ptx))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(kernel.asm["cubin"])
        cubin.flush()
        usage, sass = (
            subprocess.run(
                [triton.knobs.nvidia.cuobjdump.path, ask, cubin.name], capture_output=True, text=True, check=True
            ).stdout
            for ask in ("-res-usage", "-sass" if grouped else "-res-usage")
        )
    return Compiled(
        kernel=meta.name,
        variant=variant,
        capability=capability,
        warps=meta.num_warps,
        stages=meta.num_stages,
        registers=int(re.search(r"REG:(\d+)", usage)[1]),
        spills=int(re.search(r"STACK:(\d+)", usage)[1]) + int(re.search(r"LOCAL:(\d+)", usage)[1]),
        shared=meta.shared,
        predicted=predicted,
        tensor=getattr(meta, "tmem_size", 0) or 0,
        waited=waited(kernel.asm["ttgir"]),
        async_loads=len(re.findall(r"\bcp\.async\.c[ag]\.", ptx)),
        wide_async_loads=len(re.findall(r"\bcp\.async\.cg\.shared\.global .*?, (?:0x10|16),", ptx)),
        grouped=grouped,
        mma=len(re.findall(r"\bmma\.sync\.", ptx)),
        serialised=2 * sass.count("WARPGROUP.DEPBAR") > grouped,
    )


BF16, FP16, FP32, INT32, FP8 = torch.bfloat16, torch.float16, torch.float32, torch.int32, torch.float8_e4m3fn
#: sequences, tokens and tokens a page of every variant; what compiles depends on them only through divisibility
BATCH, TOKENS, PAGE = 8, 8192, 16
#: splits of a sequence: enough for the largest chunks (`combine_tiles`), and the same in all variants, so that kernels
#: that combine them compile once a width
SPLITS = 12

Launch = Callable[[], object]
Variants = Iterator[tuple[str, Launch]]


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


def decode(
    width: int, group: int, dtype: torch.dtype = BF16, paged: bool = False, config: Config | None = None
) -> Launch:
    """Return plain decode over two KV heads."""

    def launch() -> object:
        kv, table = cache(2, width, paged=paged, dtype=dtype)
        q = room(BATCH, 2 * group, width, dtype=dtype)
        return decode_attention.decode_attention(q, kv, kv, lengths(), block_table=table, splits=SPLITS, config=config)

    return launch


def decode_variants() -> Variants:
    """Yield plain decode by head dim and query heads per KV head, paged and, where it is measured, contiguous.

    Dims of 80 and 192 fill no tile; 96 and 112 differ from 80 in a mask's bound only. 4 bytes have one tile, which is
    fullest at 256.
    """
    for width, group in product((64, 128, 256), (4, 32)):
        yield f"D {width}, {group} heads a KV head, paged", decode(width, group, paged=True)
    for width in (80, 192):
        yield f"D {width}, 4 heads a KV head, paged", decode(width, 4, paged=True)
    yield "D 128, 4 heads a KV head", decode(128, 4)
    yield "D 256, 4 bytes, paged", decode(256, 4, FP32, paged=True)


def quantised(
    kind: str, width: int, groups: int, paged: bool = False, heads: int = 16, config: Config | None = None
) -> Launch:
    """Return quantised decode over two KV heads."""

    def launch() -> object:
        dtype = {"fp8": FP8, "int8": torch.int8, "int4": torch.uint8}[kind]
        kv, table = cache(2, width // 2 if kind == "int4" else width, paged=paged, dtype=dtype)
        side = room(kv.shape[0], 2, groups, kv.shape[1]) if groups else 1.0
        zero = None if kind == "fp8" else side
        return quantised_decode.quantised_decode(
            room(BATCH, heads, width), kv, kv, lengths(), kind=kind, block_table=table, config=config, splits=SPLITS,
            k_scale=side, v_scale=side, k_zero=zero, v_zero=zero,
        )  # fmt: skip

    return launch


def quantised_variants() -> Variants:
    """Yield quantised decode with the scales its kind has."""
    for kind, width in product(("int8", "int4"), (64, 128, 256)):
        groups = 2 if width == 128 else 1
        yield f"{kind}, D {width}, {groups} scales, paged", quantised(kind, width, groups, paged=True)
    for kind in ("int8", "int4"):
        yield f"{kind}, D 128, 2 scales", quantised(kind, 128, 2)
        yield f"{kind}, D 80, 1 scale", quantised(kind, 80, 1)


def fp8_variants() -> Variants:
    """Yield what reads or writes 8-bit floats, which GPUs before sm_89 do not have."""
    for width, groups in ((64, 0), (128, 0), (128, 1), (256, 0)):
        yield f"fp8, D {width}, {groups} scales, paged", quantised("fp8", width, groups, paged=True)
    yield "fp8, D 128", quantised("fp8", 128, 0)
    for rank, rope in product((128, 256), (0, 64)):
        yield f"fp8, R {rank} + {rope}", absorbed(rank, 32, rope, dtype=FP8)
    yield "write fp8", write("fp8", 128, 0)


def write(kind: str, width: int, groups: int) -> Launch:
    """Return a write to a paged cache of two KV heads."""

    def launch() -> object:
        dtype = {"plain": BF16, "fp8": FP8, "int8": torch.int8, "int4": torch.uint8}[kind]
        kv, _ = cache(2, width // 2 if kind == "int4" else width, paged=True, dtype=dtype)
        side = room(kv.shape[0], 2, groups, PAGE) if groups else 1.0
        zero = side if groups else None
        new, slots = room(BATCH, 2, width), room(BATCH, dtype=torch.int64)
        return kv_write.kv_write(
            new, new, kv, kv, slots, kind=kind, k_scale=side, v_scale=side, k_zero=zero, v_zero=zero
        )

    return launch


def absorbed(
    rank: int,
    heads: int,
    rope: int,
    paged: bool = False,
    logits: bool = False,
    dtype: torch.dtype = BF16,
    config: Config | None = None,
) -> Launch:
    """Return the absorbed form; latent and rotary part are one row."""

    def launch() -> object:
        row, table = cache(rank + rope, paged=paged, dtype=dtype)
        kind = BF16 if dtype == FP8 else dtype
        return latent_decode.absorbed_decode(
            room(BATCH, heads, rank, dtype=kind),
            row[..., :rank],
            lengths(),
            q_rope=room(BATCH, heads, rope, dtype=kind) if rope else None,
            k_rope=row[..., rank:] if rope else None,
            block_table=table,
            scale=0.1,
            logits=room(BATCH, heads, TOKENS, dtype=FP16) if logits else None,
            splits=SPLITS,
            config=config,
        )

    return launch


def absorbed_variants() -> Variants:
    """Yield the absorbed form by rank and heads: 32 with no rotary part (MHC), others with one (MLA).

    A rotary part takes registers and shared memory besides, so that what compiles with one does without. More than 64
    heads are more programs of the same kernel.
    """
    for rank, heads, rope in (
        *product((128, 256, 512), (32,), (0,)),
        *product((256, 512), (16, 32, 64), (64,)),
        (128, 16, 64),
        (128, 64, 64),
    ):
        yield f"R {rank} + {rope}, {heads} heads", absorbed(rank, heads, rope)
    yield "R 192 + 32, 32 heads, paged", absorbed(192, 32, 32, paged=True)
    yield "R 512 + 64, 128 heads, paged", absorbed(512, 128, 64, paged=True)
    yield "R 512 + 64, 128 heads, logits", absorbed(512, 128, 64, logits=True)
    yield "R 256 + 0, 4 bytes", absorbed(256, 16, 0, dtype=FP32)


def fused(
    rank: int, width: int = 128, dtype: torch.dtype = BF16, rotated: bool = True, group: int = 4,
    tables: torch.dtype | None = None,
) -> Launch:  # fmt: skip
    """Return the fused form with eight KV heads."""

    def launch() -> object:
        table = room(TOKENS, width // 2, dtype=tables or dtype) if rotated else None
        c = room(BATCH, TOKENS, rank, dtype=dtype)
        q, up = room(BATCH, 8 * group, width, dtype=dtype), room(8, rank, width, dtype=dtype)
        return latent_decode.fused_decode(q, c, c, up, lengths(), cos=table, sin=table, splits=SPLITS)

    return launch


def fused_variants() -> Variants:
    """Yield the fused form by rank; keys without rotation leave room for other tiles."""
    for rank in (128, 256):
        yield f"R {rank} each, D 128, not rotated", fused(rank, rotated=False)
    yield "R 128 each, D 128", fused(128)
    yield "R 128 each, D 128, 16 heads a KV head", fused(128, group=16)
    yield "R 256 each, D 128", fused(256)
    for rank in (128, 256):
        yield f"R {rank} each, D 128, fp32 tables", fused(rank, tables=FP32)
    yield "R 96 each, D 80", fused(96, 80)
    yield "R 64 each, D 64, 4 bytes", fused(64, 64, FP32)
    yield "R 512 each, D 128", fused(512)


def stream(mode: str, width: int, dtype: torch.dtype = BF16, config: Config | None = None) -> Launch:
    """Return streaming decode over two KV heads."""

    def launch() -> object:
        kv, q = room(BATCH, TOKENS, 2, width, dtype=dtype), room(BATCH, 8, width, dtype=dtype)
        turns = room(TOKENS, width // 2, dtype=dtype)
        return streaming.streaming_decode(
            q, kv, kv, lengths(), turns, turns, sinks=4, mode=mode, splits=SPLITS, config=config
        )

    return launch


def append(mode: str) -> None:
    """Launch an append to a ring once."""
    kv, new, table = room(BATCH, TOKENS, 2, 128), room(BATCH, 2, 128), room(TOKENS, 64, dtype=FP32)
    streaming.streaming_append(new, new, kv, kv, lengths(), table, table, sinks=4, mode=mode)


def streaming_variants() -> Variants:
    """Yield streaming decode in both modes, and appending; 64 has the tile of 128, and what rotates needs more."""
    for mode in streaming.MODES:
        for width in (128, 256, 80):
            yield f"{mode}, D {width}", stream(mode, width)
        yield f"append {mode}", partial(append, mode)
    yield "cache, D 256, 4 bytes", stream("cache", 256, FP32)


def prefill(width: int, dtype: torch.dtype = BF16, config: Config | None = None, kv_heads: int = 2) -> Launch:
    """Return prefill attention of eight query heads."""

    def launch() -> object:
        q, kv = room(TOKENS, 8, width, dtype=dtype), room(TOKENS, kv_heads, width, dtype=dtype)
        starts = room(9, dtype=INT32)
        return prefill_attention.prefill_attention(q, kv, kv, starts, TOKENS, config=config)

    return launch


def prompt(width: int, dtype: torch.dtype = BF16, config: Config | None = None) -> Launch:
    """Return prompt scores of eight query and two KV heads."""

    def launch() -> object:
        q, kv, starts = room(TOKENS, 8, width, dtype=dtype), room(TOKENS, 2, width, dtype=dtype), room(9, dtype=INT32)
        return h2o.h2o_prefill_scores(q, kv, room(8, TOKENS, dtype=FP32), starts, TOKENS, config=config)

    return launch


def prefill_variants() -> Variants:
    """Yield prefill attention and prompt scores by head dim."""
    for name, make in (("prefill", prefill), ("prompt scores", prompt)):
        for width in (64, 128, 256):
            yield f"{name}, D {width}", make(width)
        yield f"{name}, D 64, 4 bytes", make(64, FP32)
    yield "prefill, D 80", prefill(80)
    for kv_heads in (1, 8):
        yield f"prefill, D 128, {kv_heads} KV heads", prefill(128, kv_heads=kv_heads)


def small_variants() -> Variants:
    """Yield the rest of H2O at a usual shape, writes, and the bandwidth probes."""
    q, (kv, _) = room(BATCH, 32, 128), cache(8, 128)
    scores, kept = room(BATCH, 8, TOKENS, dtype=FP32), room(BATCH, 8, 1024, dtype=INT32)
    row, new = room(BATCH, TOKENS, 1, 576), room(BATCH, 8, 128)
    latent_scores, positions = room(BATCH, 1, TOKENS, dtype=FP32), room(BATCH, 8, TOKENS, dtype=INT32)
    x = room(1 << 24, dtype=FP32)
    for kind, width, groups in (("plain", 128, 0), ("int8", 128, 2), ("int8", 80, 1), ("int4", 128, 2)):
        yield f"write {kind}, D {width}", write(kind, width, groups)
    for group in (4, 8):
        queries = room(BATCH, 8 * group, 128)
        yield (
            f"h2o decode, {group} heads a KV head",
            partial(h2o.h2o_decode, queries, kv, kv, lengths(), scores, splits=SPLITS),
        )
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


def spare_variants() -> Variants:
    """Yield the tiles that only GPUs with less shared memory than any target here would take."""
    spare = {key: [one for one in rows if not chosen(key, one)] for key, rows in TABLE.items()}
    launches: dict[tuple[str, float], Callable[[int, Config], Launch]] = {
        ("decode", 2): lambda width, config: decode(width, 4, config=config),
        ("quantised", 1): lambda width, config: quantised("int8", width, 1, config=config),
        ("quantised fp8", 1): lambda width, config: quantised("fp8", width, 0, config=config),
        ("absorbed", 2): lambda width, config: absorbed(width, 64, 64, config=config),
        ("prefill", 2): lambda width, config: prefill(width, config=config),
    }
    for key, rows in spare.items():
        for one in rows:
            yield f"{key[0]}, up to {one.width}, {one.config}", launches[key](one.width, one.config)


def chosen(key: tuple[str, float], wanted: Row, capabilities: Iterable[int] = SHARED) -> bool:
    """Return whether any shape on any of these GPUs takes a row."""
    beside = {"absorbed": (0, 64), "fused": (128,)}.get(key[0], (0,))
    widths = {64, 128, 256, wanted.width}
    turned = (False, True) if key[0] in ("streaming", "fused") else (False,)
    for capability, width, heads, more, rotated in product(capabilities, widths, (16, 32, 64), beside, turned):
        shape = Shape(key[0], width, heads, key[1], more, rotated)
        try:
            if tiles(shape, nvidia(capability)) == wanted.config:
                return True
        except ValueError:
            continue
    return False


FAMILIES: dict[str, Callable[[], Variants]] = {
    "decode": decode_variants,
    "quantised": quantised_variants,
    "fp8": fp8_variants,
    "absorbed": absorbed_variants,
    "fused": fused_variants,
    "streaming": streaming_variants,
    "prefill": prefill_variants,
    "small": small_variants,
    "single": single_variants,
    "spare": spare_variants,
}
#: families compiled for some targets only. A constant in place of a 1 is a matter of types, found on any target; a GPU
#: with less shared memory than any here is an old one
ONLY = {"single": (90,), "spare": GENERATION}


#: rows of the table for 8-bit floats
EIGHT_BIT = (("quantised fp8", 1), ("absorbed", 1))

Asked = set[tuple[tuple[str, float], Config]]


def launches(capability: int) -> set[tuple[tuple[str, str], ...]]:
    """Return the shapes of all launches of all families, without compiling any."""
    variants: set[tuple[tuple[str, str], ...]] = set()
    with capture(capability, compiling=False) as made:
        for family in FAMILIES:
            for _, launch in FAMILIES[family]():
                with suppress(ValueError):
                    launch()
        variants |= {one.shape for one in made}
    return variants


def compile_family(family: str, capability: int = 90) -> tuple[list[Compiled], dict[str, str], Asked]:
    """Compile every variant of a family; return each kernel once, the variants refused, with the reason, and the tiles.

    A kernel stands under the variant that first needed it.
    """
    seen: set[str] = set()
    compiled, refused = [], {}
    tiled: Asked = set()
    with capture(capability) as launched:
        asked = TARGET.get().asked
        for name, launch in FAMILIES[family]() if capability in ONLY.get(family, (capability,)) else ():
            launched.clear()
            asked.clear()
            try:
                launch()
            except ValueError as error:
                refused[name] = str(error)
            tiled |= {((shape.family, shape.itemsize), config) for shape, config in asked}
            for one in launched:
                if one.kernel.hash not in seen:
                    seen.add(one.kernel.hash)
                    predicted = sum(shared(*each, capability) for each in asked) if one is launched[0] else 0
                    compiled.append(inspect(one.kernel, name, capability, predicted))
    return compiled, refused, tiled


if __name__ == "__main__":
    for target in map(int, sys.argv[1].split(",")):
        tiled: Asked = set()
        for family in sys.argv[2:] or FAMILIES:
            compiled, refused, more = compile_family(family, target)
            tiled |= more
            answer = {"capability": target, "family": family, "refused": refused}
            sys.stdout.write(json.dumps({**answer, "kernels": [one.as_dict() for one in compiled]}) + "\n")
            sys.stdout.flush()
        served = {key: rows for key, rows in TABLE.items() if key not in EIGHT_BIT or nvidia(target).fp8}
        missed = [
            f"{key} {one.config}" for key, rows in served.items() for one in rows
            if chosen(key, one, (target,)) and (key, one.config) not in tiled
        ]  # fmt: skip
        sys.stdout.write(json.dumps({"capability": target, "missed": missed}) + "\n")
