"""All that waits for a GPU, in ten minutes a run and one folder: python benchmarks/gpu_day.py --out DIR

First run, parts in their order: kernels against their twins (correctness.csv), every kernel of the plan launched once,
which fills Triton's cache (compile.csv), bandwidth by size (bandwidth.csv), kernels beside torch's attention
(kernels.csv), `kvplan profile` (profile.yaml, profile.csv) and an NVML trace (nvml_trace.csv). Every row is written as
it comes, and summary.txt after every part, with the bars that kernels.csv meets and misses. Whatever touches the GPU
does so in a worker: a fault costs one row and its reason.

Second run, `--parts real,tune,server`: kernels against their twins at real shapes (real.csv), a plain table of tiles
and splits, each timed (tune.csv), and a model of 8B with random weights served in static batches under techniques, next
to what kvplan predicts (server.csv; needs transformers).

`--device cpu --dry` runs all of it on small shapes in Triton's interpreter: its figures mean nothing.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

#: a checkout runs as it is, without being installed; spawned processes are told too
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH", ""))))

from kvplan import __version__  # noqa: E402
from kvplan.errors import KvplanError  # noqa: E402
from kvplan.measuring.device.course import reason  # noqa: E402
from kvplan.measuring.device.machine import versions  # noqa: E402
from kvplan.measuring.device.worker import Lost, Worker  # noqa: E402

#: parts of the first run in their order, with the time each may take, those of the second, and the time for a run [s]
PARTS = {"correctness": 110, "compile": 80, "bandwidth": 40, "kernels": 125, "profile": 145, "trace": 65}
MORE = {"real": 120, "tune": 240, "server": 200}
LIMITS = {**PARTS, **MORE}
TOTAL = 570.0
PROFILE_BUDGET = {"cuda": "120s", "cpu": "10s"}
#: workers that compile side by side, and how many cases a dry run takes one of
SIDE_BY_SIDE, ONE_OF = 8, 12
#: phases of the trace and their length, dry and not [s]; time between readings [s]
PHASES, PHASE, DRY_PHASE, STEP = ("idle", "gemm", "copy", "decode"), 10.0, 0.2, 0.01
#: what a dry run says of itself
DRY = "a dry run, in an interpreter: no time, and no bar that it meets or misses, means anything"
#: the yardstick's size: 1 GiB
YARDSTICK = 2**28
#: tokens of the longest sequence of a real case, and of a dry one; memory of a worker that compiles for the tuner
REAL_TOKENS, DRY_TOKENS, ROOM = 8192, 40, 2**32
#: what is served: sequences, tokens of a prompt and of an answer; layers, sequences and tokens of a dry run
SERVED, PROMPT, ANSWER = (1, 16), 4096, 48
#: sizes of a dry run
SMALL = {"batch": 2, "kv_len": 64, "isl": 48, "m": 16, "n": 64, "k": 64, "elements": 5000}
Row = Mapping[str, object]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as they come, so that what was measured before a failure stays."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n", extrasaction="ignore")
                writer.writeheader()
            writer.writerow(row)
            file.flush()


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- in a worker -------------------------------------------------------------------------------------


class Dry:
    """What stands for a CUDA timer where there is no GPU: one call on the wall clock, and readings of nothing."""

    gpu = "dry run"

    def __init__(self) -> None:
        import torch

        from kvplan.measuring.device.cuda_calls import Builder, pool_of
        from kvplan.measuring.device.nvml import Reading

        self.torch = torch
        self.builder = Builder(torch, pool_of(torch, "cpu", 2**26), pool_of(torch, "cpu", 2**26), "cpu")
        begun = time.monotonic()
        self.meter = SimpleNamespace(
            source="dry", device=self.gpu, driver="0", why="",
            read=lambda: Reading(power=100.0, energy=100 * (time.monotonic() - begun), sm_clock=1e9, others=0),
        )  # fmt: skip

    def running(self) -> Any:
        return nullcontext()

    def capture(self, make: Callable[[], Any]) -> Any:
        return SimpleNamespace(graph=SimpleNamespace(replay=make()), repeats=1, close=lambda: None)

    def seconds(self, make: Callable[[], Any]) -> float:
        call, begun = make(), time.perf_counter()
        call()
        return time.perf_counter() - begun

    def fit(self) -> bool:
        return True


def clock(dry: bool) -> Any:
    """Return a timer of the GPU, or what stands for it."""
    if dry:
        return Dry()
    from kvplan.measuring.device.cuda import open_timer

    return open_timer(frozenset(), os.environ.get("CUDA_VISIBLE_DEVICES", ""))


class Bench:
    """Operators on a device, one after the other."""

    def __init__(self, dry: bool):
        self.dry, self.clock = dry, clock(dry)
        self.fit = self.clock.fit

    def seconds(self, operator: str, probe: Any) -> float:
        """Return the time of one call of an operator: the probe's own, or a rival of that name. [s]"""
        if self.dry:
            probe = replace(probe, sizes={name: min(size, SMALL.get(name, size)) for name, size in probe.sizes.items()})
        make = partial(self.clock.builder.call, probe) if operator == "own" else rivals(self.clock, probe)[operator]
        found: float = self.clock.seconds(make)
        return found

    def tuned(self, probe: Any, tried: Any) -> float:
        """Return the time of one call of a probe's kernel with a tile, or splits, of a tuner's. [s]"""
        with trying(tried):
            return self.seconds("own", probe)


@contextmanager
def trying(tried: Any) -> Iterator[None]:
    """Launch with what a tuner tries, None: what the table says."""
    from kvplan.kernels.common import TRIED

    token = TRIED.set(tried)
    try:
        yield
    finally:
        TRIED.reset(token)


class Launcher:
    """The plan's kernels, launched once each over inputs that hold anything: for the compiler only."""

    def __init__(self, dry: bool, room: int = 2**30):
        import torch

        from kvplan.measuring.device.cuda_calls import Builder, pool_of

        self.dry, self.torch = dry, torch
        device, size = ("cpu", 2**26) if dry else ("cuda", room)
        self.builder = Builder(torch, pool_of(torch, device, size), pool_of(torch, device, size // 2), device)

    def launch(self, probe: Any) -> float:
        """Compile and run one call; return how long both took. [s]"""
        begun = time.monotonic()
        if self.dry:
            probe = replace(probe, sizes={name: min(size, SMALL.get(name, size)) for name, size in probe.sizes.items()})
        with self.torch.inference_mode():
            self.builder.call(probe)()
            if not self.dry:
                self.torch.cuda.synchronize()
        return time.monotonic() - begun

    def launch_tuned(self, item: tuple[Any, Any]) -> float:
        """Compile and run one call of a probe with what a tuner tries; return how long both took. [s]"""
        with trying(item[1]):
            return self.launch(item[0])

    def fit(self) -> bool:
        return alive(self.torch, self.dry)


class Checker:
    """Kernels against their twins."""

    def __init__(self, dry: bool):
        import torch

        if not dry and not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device")
        self.dry, self.torch = dry, torch
        self.device = torch.device("cpu" if dry else "cuda")

    def check(self, index: int) -> Row:
        """Return the errors of one case."""
        from kvplan.kernels.cases import CASES

        return self._checked(CASES[index])

    def check_real(self, index: int) -> Row:
        """Return the errors of one case of a real shape."""
        from kvplan.kernels.cases import real_cases

        return self._checked(real_cases(REAL_TOKENS if not self.dry else DRY_TOKENS)[index])

    def _checked(self, case: Any) -> Row:
        begun = time.monotonic()
        errors = case.errors(self.device)
        worst = max(errors.values(), key=lambda e: float("inf") if e != e else e)
        return {
            "case": case.name, "passed": int(all(e <= case.tolerance for e in errors.values())),
            "error": f"{worst:.3g}", "tolerance": case.tolerance, "seconds": f"{time.monotonic() - begun:.2f}",
            "said": "",
        }  # fmt: skip

    def fit(self) -> bool:
        return alive(self.torch, self.dry)


def alive(torch: Any, dry: bool) -> bool:
    """Return whether this process can still compute on its GPU."""
    try:
        return dry or float((torch.ones(8, device="cuda") + 1).sum()) == 16.0
    except Exception:
        return False


def rivals(timer: Any, probe: Any) -> dict[str, Callable[[], Any]]:
    """Return other implementations of a probe that this machine has: torch, flash-attn, flashinfer."""
    torch, cut, s = timer.torch, timer.builder.pool.cut, probe.sizes
    if probe.kind in ("copy", "read"):
        return moving(timer, probe)
    if probe.kernel == "triton_fused":
        return {"grouped": partial(grouped, timer, s)} if s["rank"] == GROUPED else {}
    sdpa = torch.nn.functional.scaled_dot_product_attention
    if probe.kind == "prefill_attention":

        def prompt() -> Any:
            q, k, v = (
                cut("bfloat16", s["batch"], s[h], s["isl"], s["head_dim"]) for h in ("q_heads", "kv_heads", "kv_heads")
            )
            return lambda: sdpa(q, k, v, is_causal=True, enable_gqa=s["q_heads"] != s["kv_heads"])

        return {"torch sdpa": prompt}
    if probe.kernel != "triton_decode" or probe.kv_dtype != "bfloat16":
        return {}
    b, hq, h, d, t = (s[name] for name in ("batch", "q_heads", "kv_heads", "head_dim", "kv_len"))

    def torch_decode() -> Any:
        q, k, v = cut("bfloat16", b, h, hq // h, d), cut("bfloat16", b, h, t, d), cut("bfloat16", b, h, t, d)
        return lambda: sdpa(q, k, v)

    def flash_attn(module: str) -> Any:
        call = import_module(module).flash_attn_with_kvcache
        q, k, v = cut("bfloat16", b, 1, hq, d), cut("bfloat16", b, t, h, d), cut("bfloat16", b, t, h, d)
        lengths = timer.builder.full(b, t)
        return lambda: call(q, k, v, cache_seqlens=lengths)

    def flashinfer() -> Any:
        """Return its paged decode, planned once: page p of sequence b is page b * pages + p."""
        from flashinfer import BatchDecodeWithPagedKVCacheWrapper

        pages = -(-t // PAGE)
        q, cache = cut("bfloat16", b, hq, d), [cut("bfloat16", b * pages, PAGE, h, d) for _ in "kv"]
        starts = torch.arange(b + 1, dtype=torch.int32, device="cuda") * pages
        places = torch.arange(b * pages, dtype=torch.int32, device="cuda")
        last = torch.full((b,), t - (pages - 1) * PAGE, dtype=torch.int32, device="cuda")
        if "flashinfer" not in SPACE:
            SPACE["flashinfer"] = torch.empty(2**27, dtype=torch.uint8, device="cuda")
        # as its users do under a graph: the buffers that `run` reads are its own and stay where they are
        decode = BatchDecodeWithPagedKVCacheWrapper(
            SPACE["flashinfer"], "NHD", use_cuda_graph=True, use_tensor_cores=True, paged_kv_indptr_buffer=starts,
            paged_kv_indices_buffer=places, paged_kv_last_page_len_buffer=last,
        )  # fmt: skip
        decode.plan(starts, places, last, hq, h, d, PAGE, q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16)
        return lambda: decode.run(q, tuple(cache))

    found = {"torch sdpa": torch_decode}
    found |= {"flash-attn 2": partial(flash_attn, "flash_attn")} if find_spec("flash_attn") else {}
    found |= {"flash-attn 3": partial(flash_attn, "flash_attn_interface")} if find_spec("flash_attn_interface") else {}
    return found | ({"flashinfer": flashinfer} if find_spec("flashinfer") else {})


#: tokens of a page; elements a token stores for keys, and for values, in each group of four KV heads
PAGE, GROUPED = 16, 128
#: memory that calls of others share, by their name
SPACE: dict[str, Any] = {}


def moving(timer: Any, probe: Any) -> dict[str, Callable[[], Any]]:
    """Return how torch copies or reads as much: a yardstick that is too slow would flatter every kernel."""
    torch, builder, n = timer.torch, timer.builder, probe.sizes["elements"]

    def copying() -> Any:
        x, y = builder.pool.cut("float32", n), builder.outputs.cut("float32", n)
        return lambda: y.copy_(x)

    def reading() -> Any:
        x = builder.pool.cut("float32", n)
        return lambda: torch.sum(x)

    return {"torch copy": copying} if probe.kind == "copy" else {"torch sum": reading}


def grouped(timer: Any, s: Mapping[str, int]) -> Any:
    """Return fused decode of two groups of four KV heads, a latent each for keys and values: a quarter of 8 x 128."""
    from kvplan.kernels.latent_decode import fused_decode

    cut, b, t, d = timer.builder.pool.cut, s["batch"], s["kv_len"], 128
    latents = [cut("bfloat16", 2, b, t, GROUPED) for _ in "kv"]
    q, up = cut("bfloat16", 2, b, 16, d), cut("bfloat16", 2, 4, GROUPED, d)
    cos, sin = (cut("bfloat16", t, d // 2) for _ in "cs")
    lengths = timer.builder.full(b, t)

    def call() -> Any:
        for group in range(2):
            fused_decode(q[group], latents[0][group], latents[1][group], up[group], lengths, cos=cos, sin=sin)

    return call


# -- parts, each in a process of its own, which asks workers -----------------------------------------


@contextmanager
def worker(make: Callable[..., Any], *arguments: Any) -> Iterator[Worker]:
    found = Worker(make, *arguments)
    try:
        yield found
    finally:
        found.close()


def side_by_side(
    make: Callable[..., Any], dry: bool, name: str, items: list[Any], *more: Any
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, answer or error) as workers come up with them; each item costs at most one worker's process."""
    answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    workers: SimpleQueue[Worker] = SimpleQueue()
    count = min(SIDE_BY_SIDE if not dry else 1, os.cpu_count() or 1)
    every = [Worker(make, dry, *more) for _ in range(count)]
    for one in every:
        workers.put(one)

    gone: list[Lost] = []

    def ask(item: Any) -> None:
        mine = workers.get()
        try:
            answers.put((item, gone[0] if gone else mine.ask(name, item)))
        except Lost as error:
            gone.append(error)
            answers.put((item, error))
        except Exception as error:  # one item's failure is a result
            answers.put((item, error))
        finally:
            workers.put(mine)

    try:
        with ThreadPoolExecutor(count) as pool:
            for item in items:
                pool.submit(ask, item)
            for _ in items:
                item, answer = answers.get()
                if gone:
                    raise gone[0]
                yield item, answer
    finally:
        for one in every:
            one.close()


def checked(name: str, cases: list[Any], dry: bool) -> Iterator[Row]:
    """Yield a row a case, by a method of `Checker` that takes its place in the list."""
    indices = list(range(0, len(cases), ONE_OF if dry else 1))
    for index, found in side_by_side(Checker, dry, name, indices):
        case = cases[index]
        yield found if isinstance(found, dict) else {
            "case": case.name, "passed": 0, "error": "nan", "tolerance": case.tolerance, "seconds": "",
            "said": reason(found),
        }  # fmt: skip


def correctness(out: Path, dry: bool) -> None:
    """Compare every kernel, compiled, with its twin on the table of cases the tests use."""
    from kvplan.kernels.cases import CASES

    write(out / "correctness.csv", checked("check", CASES, dry))


def real(out: Path, dry: bool) -> None:
    """Compare kernels with their twins at the shapes of models, splits as they pick them."""
    from kvplan.kernels.cases import real_cases

    write(out / "real.csv", checked("check_real", real_cases(DRY_TOKENS if dry else REAL_TOKENS), dry))


def compile(out: Path, dry: bool) -> None:
    """Launch every kernel of the plan once."""
    from kvplan.measuring.device.cuda_probes import cuda_probes

    probes = sorted((p for p in cuda_probes(True) if p.moved < 2**30), key=lambda p: p.moved)
    if dry:
        probes = list({p.group: p for p in probes}.values())[::ONE_OF]

    def rows() -> Iterator[Row]:
        for probe, found in side_by_side(Launcher, dry, "launch", probes):
            failed = isinstance(found, Exception)
            yield {
                "group": probe.group, "kernel": probe.kernel, "shape": shape_of(probe),
                "seconds": "" if failed else f"{found:.3f}", "said": reason(found) if failed else "",
            }  # fmt: skip

    write(out / "compile.csv", rows())


def shape_of(probe: Any) -> str:
    return " ".join(f"{name}={size}" for name, size in probe.sizes.items())


def measured(
    seconds: Callable[[], float], name: str, shape: str, moved: float, flops: float, yard: Mapping[str, float] = {}
) -> dict[str, object]:
    """Return one measured row; an operator that fails says why."""
    row: dict[str, object] = {"operator": name, "shape": shape, "time_us": "", "bytes_per_s": "", "of_read": "",
                              "of_copy": "", "flops_per_s": "", "bytes": f"{moved:.6g}", "said": ""}  # fmt: skip
    try:
        taken = seconds()
    except Lost:
        raise
    except Exception as error:
        return row | {"said": reason(error)}
    rate = moved / taken
    shares = {f"of_{n}": f"{rate / best:.4f}" for n, best in yard.items()}
    return (
        row
        | shares
        | {"time_us": f"{taken * 1e6:.5g}", "bytes_per_s": f"{rate:.5g}", "flops_per_s": f"{flops / taken:.5g}"}
    )


def bandwidth(out: Path, dry: bool) -> None:
    """Measure read, write and copy by size."""
    from kvplan.measuring.device.cuda_probes import cuda_probes

    def rows() -> Iterator[Row]:
        with worker(Bench, dry) as bench:
            for probe in [p for p in cuda_probes(False) if p.group.startswith("bandwidth")][:: ONE_OF if dry else 1]:
                size = f"{4 * probe.sizes['elements'] / 2**20:g} MiB"
                yield measured(partial(bench.ask, "seconds", "own", probe), probe.kind, size, probe.moved, 0.0)

    write(out / "bandwidth.csv", rows())


def chosen() -> list[Any]:
    """Return the shapes kernels are compared on: caches of about 0.1 to 2 GB, and prompts."""
    from kvplan.measuring.device.cuda_probes import ROPE, SIDE
    from kvplan.measuring.device.probes import decode, latent, prefill

    found = []
    for batch, length in ((1, 131072), (16, 8192), (64, 8192), (256, 1024)):
        for kept, side in SIDE.items():
            found.append(decode(batch, 32, 8, 128, length, group=kept, kernel="triton_decode", dtype="bfloat16",
                                kv_dtype=kept, side=side))  # fmt: skip
    found.append(decode(64, 32, 8, 128, 16384, group="bfloat16", kernel="triton_decode", dtype="bfloat16"))
    found += [latent(64, h, 512, ROPE, 16384, kernel="triton_absorbed", dtype="bfloat16") for h in (16, 32, 64, 128)]
    found += [prefill(1, 32, 8, 128, n, kernel="triton_prefill", dtype="bfloat16") for n in (2048, 8192, 16384)]
    return found


def is_technique(probe: Any) -> bool:
    """Return whether a probe is one of the shapes that techniques' kernels are compared on."""
    if probe.kind != "decode_attention" or probe.kernel == "triton_decode" or probe.sizes["q_heads"] != 32:
        return False
    place = probe.sizes["batch"], probe.sizes["kv_len"]
    return place in (((16, 4096),) if probe.kernel == "triton_reconstruct" else ((16, 8192), (64, 16384)))


def kernels(out: Path, dry: bool) -> None:
    """Time every kernel beside its rivals, as shares of the read and copy bandwidth of the same run."""
    from kvplan.measuring.device.cuda_probes import cuda_probes
    from kvplan.measuring.device.probes import product_of

    yardsticks = {p.kind: p for p in cuda_probes(False) if p.sizes.get("elements") == YARDSTICK}
    techniques = [p for p in cuda_probes(True) if is_technique(p)]
    probes = [product_of(4096, 8192, 8192, "bfloat16"), *chosen(), *techniques]

    def rows() -> Iterator[Row]:
        yard: dict[str, float] = {}
        broken: set[str] = set()
        with worker(Bench, dry) as bench:
            for name in ("read", "copy"):
                probe = yardsticks[name]
                for key in ("own", *rivals(NAMES, probe)):
                    seconds = partial(bench.ask, "seconds", key, probe)
                    row = measured(seconds, name if key == "own" else key, shape_of(probe), probe.moved, 0.0)
                    if row["bytes_per_s"]:  # the faster of both
                        yard[name] = max(yard.get(name, 0.0), float(str(row["bytes_per_s"])))
                    yield row
            for probe in probes[1::ONE_OF] if dry else probes:
                named = f"{probe.kernel} {probe.kv_dtype or probe.dtype}"
                for key in ("own", *rivals(NAMES, probe)):
                    if key in broken:  # what compiles for minutes, or takes the process along, does so once
                        continue
                    seconds = partial(bench.ask, "seconds", key, probe)
                    name = named if key == "own" else f"{probe.kernel} grouped" if key == "grouped" else key
                    twice = 2 if key == "grouped" else 1
                    row = measured(seconds, name, shape_of(probe), twice * probe.moved, probe.flops, yard)
                    if row["said"] and key not in ("own", "torch sdpa"):
                        broken.add(key)
                    yield row

    write(out / "kernels.csv", rows())


def tunings() -> list[tuple[Any, list[Any]]]:
    """Return (probe, what is tried): tiles, the table's own first, then splits of its own; most valuable first."""
    from kvplan.kernels.common import Tried
    from kvplan.kernels.tiles import Config

    from kvplan.measuring.device.cuda_probes import ROPE, SIDE, cuda_probes
    from kvplan.measuring.device.probes import decode, latent, prefill

    plan = {(p.kernel, p.kv_dtype, p.sizes.get("rank"), p.sizes["batch"], p.sizes["kv_len"]): p
            for p in cuda_probes(True) if p.kind == "decode_attention" and p.sizes["q_heads"] == 32}  # fmt: skip

    def cached(kind: str) -> Any:
        return decode(16, 32, 8, 128, 8192, group=kind, kernel="triton_decode", dtype="bfloat16", kv_dtype=kind,
                      side=SIDE[kind])  # fmt: skip

    def mla(heads: int) -> Any:
        return latent(64, heads, 512, ROPE, 16384, kernel="triton_absorbed", dtype="bfloat16")

    wide = [(16, 64, 4, 3), (16, 64, 4, 2), (16, 64, 4, 4), (16, 64, 4, 6), (16, 128, 4, 3), (16, 128, 8, 3)]
    codes = [(16, 128, 4, 3), (16, 128, 8, 3), (16, 128, 4, 2), (16, 64, 4, 4), (16, 64, 4, 3), (16, 64, 8, 4)]
    few = [(32, 64, 4, 2, True), (32, 64, 8, 2, True), (32, 32, 8, 3), (16, 64, 4, 2, True)]
    table: list[tuple[Any, list[tuple[Any, ...]]]] = [
        (cached("bfloat16"), wide),
        (cached("int8"), codes),
        (cached("fp8"), [codes[3], *codes[:3], *codes[4:]]),
        (cached("int4"), [*codes, (16, 256, 8, 3)]),
        (plan["triton_paged", "bfloat16", None, 16, 8192], wide),
        (mla(32), few),
        (mla(64), [(64, 64, 8, 2), (64, 32, 8, 2), (64, 32, 8, 3), (32, 64, 4, 2, True)]),
        (mla(128), [(64, 64, 8, 2), (64, 32, 8, 2), (64, 32, 8, 3), (32, 64, 4, 2, True)]),
        (mla(16), [(16, 64, 4, 2, True), (16, 64, 8, 2, True), (16, 32, 4, 2), (16, 32, 4, 3)]),
        (prefill(1, 32, 8, 128, 8192, kernel="triton_prefill", dtype="bfloat16"),
         [(128, 128, 8, 2), (64, 64, 4, 2), (128, 64, 8, 3), (64, 64, 4, 3), (128, 64, 4, 3), (128, 64, 4, 2)]),
        (plan["triton_fused", "bfloat16", 128, 64, 16384],
         [(16, 64, 4, 2, False, 2), (16, 64, 4, 2), (16, 64, 8, 2, False, 2), (16, 32, 4, 2), (16, 64, 4, 3)]),
        (plan["triton_h2o", "bfloat16", None, 16, 8192], [wide[0], wide[4], wide[5]]),
        (plan["triton_absorbed_mhc", "bfloat16", 512, 64, 16384], few),
        (plan["triton_absorbed_mhc", "bfloat16", 256, 64, 16384],
         [(32, 64, 4, 3), (64, 64, 8, 3), (32, 64, 8, 2, True)]),
        (plan["triton_streaming_cache", "bfloat16", None, 16, 8192], [(16, 64, 4, 3), (16, 64, 4, 2), (16, 32, 4, 3)]),
    ]  # fmt: skip
    splits = [Tried(splits=times) for times in (0.5, 2.0, 4.0)]
    return [
        (probe, [*(Tried(Config(*one)) for one in tried), *(splits if probe.kind != "prefill_attention" else ())])
        for probe, tried in table
    ]


def tune(out: Path, dry: bool) -> None:
    """Time every tile and split of the table, one after the other, once all of them are compiled."""
    from kvplan.measuring.device.cuda_probes import cuda_probes

    items = [(probe, tried) for probe, every in tunings() for tried in every][:: ONE_OF if dry else 1]
    broken: dict[int, str] = {}
    for item, found in side_by_side(Launcher, dry, "launch_tuned", items, ROOM):
        if isinstance(found, Exception):
            broken[id(item)] = reason(found)
    copy = next(p for p in cuda_probes(False) if p.kind == "copy" and p.sizes["elements"] == YARDSTICK)

    def rows() -> Iterator[Row]:
        yard: dict[str, float] = {}
        with worker(Bench, dry) as bench:
            for key in ("own", *rivals(NAMES, copy)):
                row = measured(partial(bench.ask, "seconds", key, copy), "copy", shape_of(copy), copy.moved, 0.0)
                yard["copy"] = max(yard.get("copy", 0.0), float(str(row["bytes_per_s"] or 0.0)))
                yield row | {"tried": key}
            for item in items:
                probe, tried = item
                seconds = partial(bench.ask, "tuned", probe, tried)
                name = f"{probe.kernel} {probe.kv_dtype or probe.dtype}"
                said = broken.get(id(item), "")
                row = measured(seconds if not said else partial(fails, said), name, shape_of(probe), probe.moved,
                               probe.flops, {n: rate for n, rate in yard.items() if rate})  # fmt: skip
                yield row | {"tried": spelled(tried)}

    write(out / "tune.csv", rows())


def fails(said: str) -> float:
    raise KvplanError(said)


def spelled(tried: Any) -> str:
    """Return what a tuner tried in a few words."""
    if tried.config is None:
        return f"table's tile, {tried.splits:g} x splits"
    one = tried.config
    more = f"{', turned' if one.turned else ''}{f', {one.together} KV heads' if one.together > 1 else ''}"
    return f"{one.rows} x {one.tokens}, {one.warps} warps, {one.stages} stages{more}"


class Server:
    """A model of random weights and real shape, for prompts and answers in static batches."""

    def __init__(self, dry: bool):
        import torch
        import transformers

        from kvplan import catalog

        self.dry, self.torch = dry, torch
        self.device = "cpu" if dry else "cuda"
        self.spec = catalog.model("llama3.1-8b")
        config = transformers.LlamaConfig(
            hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, vocab_size=128256, max_position_embeddings=131072, rope_theta=5e5,
        )  # fmt: skip
        if dry:
            config.num_hidden_layers, config.vocab_size, config.intermediate_size = 2, 512, 64
            config.hidden_size, config.num_attention_heads, config.num_key_value_heads = 64, 4, 2
            config.head_dim = 16
        with torch.device(self.device):
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32 if dry else torch.bfloat16
            )
        self.model = model.eval()

    def now(self) -> float:
        if not self.dry:
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def served(self, technique: str, batch: int) -> tuple[float, float]:
        """Return (TTFT, TPOT) of a batch, its cache as the `compress` room keeps it under a technique. [s]"""
        from kvplan.compress.caches import running
        from kvplan.compress.models import described

        torch, tokens = self.torch, 32 if self.dry else PROMPT
        with torch.inference_mode(), running(self.model, described(self.model, "served"), technique) as under:
            for length in (64, tokens):  # the first one warms up
                ids, cache = torch.randint(0, 512, (batch, min(length, tokens)), device=self.device), under.cache()
                begun = self.now()
                last = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.argmax(-1)
                under.finish(ids, cache)
                first = self.now()
                steps = ANSWER if not self.dry else 2
                for _ in range(steps):
                    last = self.model(last, past_key_values=cache, use_cache=True).logits.argmax(-1)
                done = self.now()
        return first - begun, (done - first) / steps

    def recorded(self, batch: int) -> tuple[float, float]:
        """Return (TTFT, TPOT) of a batch over a static cache, each step one CUDA graph: what the device needs. [s]"""
        from transformers import StaticCache

        torch, tokens = self.torch, 32 if self.dry else PROMPT
        steps = ANSWER if not self.dry else 2
        ids = torch.randint(0, 512, (batch, tokens), device=self.device)
        cache = StaticCache(config=self.model.config, max_cache_len=tokens + steps + 8)
        last = torch.zeros((batch, 1), dtype=torch.long, device=self.device)
        place = torch.full((1,), tokens, dtype=torch.long, device=self.device)

        def step() -> None:
            at = place.expand(batch, 1)
            found = self.model(last, past_key_values=cache, cache_position=place, position_ids=at, use_cache=True)
            last.copy_(found.logits.argmax(-1))
            place.add_(1)

        with torch.inference_mode():
            begun = self.now()
            last.copy_(self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.argmax(-1))
            first = self.now()
            replay = step
            if not self.dry:
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    step()
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream):
                    step()
                replay = graph.replay
            second = self.now()
            for _ in range(steps):
                replay()
            done = self.now()
        return first - begun, (done - second) / steps

    def fit(self) -> bool:
        return alive(self.torch, self.dry)


def server(out: Path, dry: bool) -> None:
    """Serve static batches under techniques, and set beside them what kvplan predicts of vLLM on an H200."""
    import kvplan

    def predicted(technique: str) -> tuple[str, str]:
        try:
            rows = kvplan.estimate(
                "llama3.1-8b", PROMPT + ANSWER, output=ANSWER, gpus="h200", techniques=technique
            ).rows
            lone = next(row for row in rows if row.technique == technique).lone
            return f"{lone.ttft:.5g}", f"{lone.tpot:.5g}"
        except (KvplanError, StopIteration, AttributeError):
            return "", ""

    def rows() -> Iterator[Row]:
        with worker(Server, dry) as one:
            for batch in SERVED:
                for technique in ("recorded", "baseline", "fp8", "int8", "streaming:4,1020", "h2o:20%"):
                    known = predicted("baseline" if technique == "recorded" else technique) if batch == 1 else ("", "")
                    row = {
                        "technique": technique, "batch": batch, "prompt": PROMPT, "answer": ANSWER, "ttft_s": "",
                        "tpot_s": "", "predicted_ttft_s": known[0], "predicted_tpot_s": known[1], "said": "",
                    }  # fmt: skip
                    try:
                        asked = ("recorded", batch) if technique == "recorded" else ("served", technique, batch)
                        ttft, tpot = one.ask(*asked)
                        yield row | {"ttft_s": f"{ttft:.5g}", "tpot_s": f"{tpot:.5g}"}
                    except Lost:
                        raise
                    except Exception as error:
                        yield row | {"said": reason(error)}

    write(out / "server.csv", rows())


class _Nothing:
    """Stands for torch where only the names of rivals are wanted."""

    def __getattr__(self, name: str) -> Any:
        return self


NAMES = _Nothing()


def trace(out: Path, dry: bool) -> None:
    """Record what NVML says while the GPU idles, multiplies, copies and decodes."""
    from kvplan.measuring.device.cuda_probes import CUDA_ANCHORS
    from kvplan.measuring.device.nvml import TRACE, NoMeter, trace_row
    from kvplan.measuring.device.probes import copying, decode, product_of

    timer = clock(dry)
    if isinstance(timer.meter, NoMeter):
        raise SystemExit(timer.meter.why)
    work = {
        "gemm": CUDA_ANCHORS[1], "copy": CUDA_ANCHORS[0],
        "decode": decode(64, 32, 8, 128, 8192, group="", kernel="triton_decode", dtype="bfloat16"),
    }  # fmt: skip
    if dry:
        work = {
            "gemm": product_of(16, 64, 64, "bfloat16"), "copy": copying(5000),
            "decode": decode(1, 8, 2, 64, 64, group="", kernel="triton_decode", dtype="bfloat16"),
        }  # fmt: skip
    heading = {**dict.fromkeys(TRACE, ""), "date": date.today().isoformat(), "tool": f"kvplan-{__version__}"}

    def phase(name: str, first: float) -> Iterator[Row]:
        recording = None
        if probe := work.get(name):
            with timer.running():
                recording = timer.capture(partial(timer.builder.call, probe))
        begun = time.monotonic()
        while time.monotonic() - begun < (DRY_PHASE if dry else PHASE):
            step = time.monotonic()
            if recording:
                recording.graph.replay()
            yield dict(trace_row(name, time.monotonic() - first, timer.meter, heading))
            if recording and not dry:
                timer.torch.cuda.synchronize()
            if not recording:
                time.sleep(max(0.0, STEP - (time.monotonic() - step)))
        if recording:
            recording.close()

    def rows() -> Iterator[Row]:
        first = time.monotonic()
        for name in PHASES:
            yield from phase(name, first)

    write(out / "nvml_trace.csv", rows())


# -- the whole ---------------------------------------------------------------------------------------


def command(name: str, out: Path, device: str, dry: bool) -> list[str]:
    """Return the command of one part."""
    if name == "profile":
        words = ["--device", device, "--budget", PROFILE_BUDGET[device], "-o", str(out / "profile.yaml")]
        return [sys.executable, "-m", "kvplan", "profile", *words]
    words = ["--device", device, *(["--dry"] if dry else [])]
    return [sys.executable, __file__, "--out", str(out), "--inside", name, *words]


def run_part(words: list[str], limit: float, patience: float = 5.0) -> tuple[str, float]:
    """Run one part; return how it ended in one line, and how long it took [s].

    Out of time it is interrupted, as by Ctrl-C; then it and all it has started is killed.
    """
    begun = time.monotonic()
    started = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    try:
        told, complained = started.communicate(timeout=max(limit, 0.1))
        lines = (complained.strip() or told.strip()).splitlines()
        said = "done" if started.returncode == 0 else f"failed: {lines[-1] if lines else started.returncode}"
    except subprocess.TimeoutExpired:
        said = f"stopped after {limit:.0f} s; what it had written is kept"
        os.kill(started.pid, signal.SIGINT)
        try:
            started.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.communicate()
    return said, time.monotonic() - begun


def figures(out: Path) -> list[str]:
    """Return the lines of the summary that the files in the folder give."""
    cases = read(out / "correctness.csv")
    lines = [f"kernels right: {sum(r['passed'] == '1' for r in cases)} of {len(cases)} cases"] if cases else []
    lines += [
        f"  wrong: {r['case']}: error {r['error']}, tolerance {r['tolerance']} {r['said']}"
        for r in cases
        if r["passed"] != "1"
    ]
    cases = read(out / "real.csv")
    lines += [f"right at real shapes: {sum(r['passed'] == '1' for r in cases)} of {len(cases)} cases"] if cases else []
    lines += [
        f"  wrong: {r['case']}: error {r['error']}, tolerance {r['tolerance']} {r['said']}"
        for r in cases
        if r["passed"] != "1"
    ]
    launched = read(out / "compile.csv")
    failed = [row for row in launched if row["said"]]
    lines += [f"kernels launched: {len(launched) - len(failed)} of {len(launched)} shapes"] if launched else []
    lines += [f"  {count} x {said}" for said, count in Counter(f"{r['kernel']}: {r['said']}" for r in failed).items()]
    for title, name in (("bandwidth", "bandwidth.csv"), ("kernels", "kernels.csv"), ("tuned", "tune.csv")):
        rows = read(out / name)
        if rows:
            lines += ["", f"{title:34}{'time':>10}{'GB/s':>8}{'read':>6}{'copy':>6}{'TFLOP/s':>9}  shape"]
        for r in rows:
            lines.append(f"{r['operator'][:33]:34}{r['time_us'] or '-':>10}{scaled(r['bytes_per_s'], 1e9):>8}"
                         f"{percent(r['of_read']):>6}{percent(r['of_copy']):>6}{scaled(r['flops_per_s'], 1e12):>9}  "
                         f"{r['shape']} {r.get('tried', '')} {r['said']}".rstrip())  # fmt: skip
    best = fastest(read(out / "tune.csv"))
    lines += ["", "fastest of those tried", *best] if best else []
    served = read(out / "server.csv")
    if served:
        lines += ["", f"{'served':20}{'batch':>6}{'TTFT [s]':>10}{'predicted':>10}{'TPOT [s]':>10}{'predicted':>10}"]
    lines += [
        f"{r['technique']:20}{r['batch']:>6}{r['ttft_s'] or '-':>10}{r['predicted_ttft_s'] or '-':>10}"
        f"{r['tpot_s'] or '-':>10}{r['predicted_tpot_s'] or '-':>10}  {r['said']}".rstrip()
        for r in served
    ]
    bars = judged(read(out / "kernels.csv"))
    return [*lines, *(["", "bars", *bars] if bars else [])]


def fastest(rows: list[dict[str, str]]) -> list[str]:
    """Return for each kernel the fastest of what was tried, and by how much it beats the table's own tile."""
    by_kernel: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        if row["operator"] != "copy" and row["time_us"]:
            by_kernel.setdefault((row["operator"], row["shape"]), []).append(row)
    lines = []
    for (name, shape), tried in by_kernel.items():
        best, own = min(tried, key=lambda row: float(row["time_us"])), tried[0]
        gain = float(own["time_us"]) / float(best["time_us"]) - 1
        lines.append(f"{name[:33]:34}{best['tried']} ({100 * gain:.1f} % faster than {own['tried']})  {shape}")
    return lines


#: bytes of a cache from which shares of the copy bandwidth are asked for
FULL = 0.5e9


def judged(rows: list[dict[str, str]]) -> list[str]:
    """Return a line for each bar: what was asked, the least that was measured, and whether it is met."""
    taken = [row for row in rows if row["time_us"]]
    times = {(row["operator"], row["shape"]): float(row["time_us"]) for row in taken}
    full = [row for row in taken if float(row["bytes"]) >= FULL and row["of_copy"]]
    gemm = max((float(row["flops_per_s"]) for row in taken if row["operator"].startswith("torch_matmul")), default=0.0)
    copy = max((float(row["bytes_per_s"]) for row in taken if "copy" in row["operator"]), default=0.0)
    plain = {row["shape"]: float(row["bytes_per_s"]) for row in taken if row["operator"] == "triton_decode bfloat16"}

    def named(operator: str) -> list[dict[str, str]]:
        return [row for row in taken if row["operator"] == operator]

    def size(row: dict[str, str], name: str) -> int:
        return int(dict(part.split("=") for part in row["shape"].split())[name])

    def at(name: str, row: dict[str, str]) -> float:
        """Return the time of an operator at a row's batch and length, 0 where it was not measured."""
        place = size(row, "batch"), size(row, "kv_len")
        for other in named(name):
            if (size(other, "batch"), size(other, "kv_len"), size(other, "q_heads")) == (*place, 32):
                return float(other["time_us"])
        return 0.0

    def shares(bar: float, name: str) -> list[tuple[float, float]]:
        return [(float(row["of_copy"]), bar) for row in full if row["operator"] == name]

    def rooflines(least: int, most: int, bar: float) -> list[tuple[float, float]]:
        asked = [row for row in named("triton_absorbed bfloat16") if least <= size(row, "q_heads") <= most]
        return [
            (max(float(row["bytes_per_s"]) / copy, float(row["flops_per_s"]) / gemm), bar)
            for row in asked if copy and gemm
        ]  # fmt: skip

    def against(names: tuple[str, ...], bar: float) -> list[tuple[float, float]]:
        return [(float(row["bytes_per_s"]) / plain[row["shape"]], bar)
                for name in names for row in named(name) if row["shape"] in plain]  # fmt: skip

    def before(name: str, other: str, bar: float) -> list[tuple[float, float]]:
        return [(at(other, row) / float(row["time_us"]), bar) for row in named(name) if at(other, row)]

    own = "triton_decode bfloat16"
    bars = {
        "GQA bf16, of copy, contiguous": shares(0.9, own),
        "GQA bf16, of copy, paged": shares(0.85, "triton_paged bfloat16"),
        "GQA bf16, speed against torch SDPA": [
            (times["torch sdpa", shape] / time, 1.0)
            for (name, shape), time in times.items() if name == own and ("torch sdpa", shape) in times
        ],
        "int8 and fp8, of bf16's bytes/s": against(("triton_decode int8", "triton_decode fp8"), 0.75),
        "int4, of bf16's bytes/s": against(("triton_decode int4",), 0.5),
        "absorbed latent, of its roofline, to 32 heads": rooflines(1, 32, 0.7),
        "absorbed latent, of its roofline, from 64 heads": rooflines(64, 1024, 0.55),
        "fused grouped MHC at 4x, speed against GQA": before("triton_fused grouped", own, 1.0),
        "H2O, speed against plain decode": before("triton_h2o bfloat16", own, 1 / 1.1),
        "prefill, of the measured GEMM rate": [
            (float(row["flops_per_s"]) / gemm, 0.6) for row in named("triton_prefill bfloat16") if gemm
        ],
    }  # fmt: skip
    lines = []
    for name, found in bars.items():
        if found:
            worst, bar = min(found)
            best = max(found)[0]
            verdict = "met" if worst >= bar else "met by some" if best >= bar else "MISSED"
            lines.append(
                f"{name:50}{percent(str(worst)):>6} to {percent(str(best)):>5}, asked {percent(str(bar)):>5}: {verdict}"
            )
    return lines


def scaled(text: str, unit: float) -> str:
    return f"{float(text) / unit:.0f}" if text and float(text) else "-"


def percent(text: str) -> str:
    return f"{100 * float(text):.0f}%" if text else "-"


#: what the first run needs, and what more is used where it is there
NEEDED, USED = ("torch", "triton", "numpy", "scipy", "yaml"), ("pynvml", "transformers", "flash_attn", "flashinfer")


def present() -> str:
    """Return in a line what this machine has of what is needed and used."""
    releases = [f"{name} {release}" for name, release in versions().items()]
    missing = [name for name in (*NEEDED, *USED) if find_spec(name) is None]
    return ", ".join(releases) + (f"; missing: {', '.join(missing)}" if missing else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(LIMITS)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dry", action="store_true", help="small shapes in Triton's interpreter; needs --device cpu")
    parser.add_argument("--inside", choices=LIMITS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.dry != (given.device == "cpu"):
        parser.error("--device cpu and --dry go together")
    if given.dry:
        os.environ["TRITON_INTERPRET"] = "1"
    given.out.mkdir(parents=True, exist_ok=True)
    if given.inside:
        try:
            globals()[given.inside](given.out, given.dry)
        except KvplanError as error:
            raise SystemExit(str(error)) from None
        return 0
    parts = given.parts.split(",")
    if unknown := [name for name in parts if name not in LIMITS]:
        parser.error(f"no part named {unknown[0]!r}; parts: {', '.join(LIMITS)}")
    ends = [present(), *([DRY] if given.dry else []), ""]
    print("\n".join(ends[:-1]), flush=True)
    begun, failed = time.monotonic(), False
    for name in parts:
        limit = min(LIMITS[name], TOTAL - (time.monotonic() - begun))
        said, spent = run_part(command(name, given.out, given.device, given.dry), limit)
        failed = failed or said != "done"
        ends.append(f"{name:14}{spent:6.0f} s  {said}")
        print(ends[-1], flush=True)
        (given.out / "summary.txt").write_text("\n".join([*ends, "", *figures(given.out)]) + "\n", "utf-8")
    print("\n".join(["", *figures(given.out)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
