"""All that waits for a GPU, in ten minutes and one folder: python benchmarks/gpu_day.py --out DIR

Parts, in their order: kernels against their twins (correctness.csv), every kernel of the plan launched once, which
fills Triton's cache (compile.csv), bandwidth by size (bandwidth.csv), kernels beside torch's attention (kernels.csv),
`kvplan profile` (profile.yaml, profile.csv) and an NVML trace (nvml_trace.csv). Every row is written as it comes, and
summary.txt after every part. Whatever touches the GPU does so in a worker: a fault costs one row and its reason.

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
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from kvplan import __version__
from kvplan.errors import KvplanError
from kvplan.measuring.device.course import reason
from kvplan.measuring.device.worker import Lost, Worker

#: parts in their order, with the time each may take, and the time for all of them [s]
PARTS = {"correctness": 110, "compile": 80, "bandwidth": 40, "kernels": 120, "profile": 150, "trace": 60}
TOTAL = 570.0
PROFILE_BUDGET = {"cuda": "120s", "cpu": "10s"}
#: workers that compile side by side, and how many cases a dry run takes one of
SIDE_BY_SIDE, ONE_OF = 8, 12
#: phases of the trace and their length, dry and not [s]; time between readings [s]
PHASES, PHASE, DRY_PHASE, STEP = ("idle", "gemm", "copy", "decode"), 10.0, 0.2, 0.01
#: the yardstick's size: 1 GiB
YARDSTICK = 2**28
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


class Launcher:
    """The plan's kernels, launched once each over inputs that hold anything: for the compiler only."""

    def __init__(self, dry: bool):
        import torch

        from kvplan.measuring.device.cuda_calls import Builder, pool_of

        self.dry, self.torch = dry, torch
        device, size = ("cpu", 2**26) if dry else ("cuda", 2**30)
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

        case, begun = CASES[index], time.monotonic()
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

    def flash_attn() -> Any:
        from flash_attn import flash_attn_with_kvcache

        q, k, v = cut("bfloat16", b, 1, hq, d), cut("bfloat16", b, t, h, d), cut("bfloat16", b, t, h, d)
        lengths = timer.builder.full(b, t)
        return lambda: flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths)

    def flashinfer() -> Any:
        from flashinfer import single_decode_with_kv_cache

        q, k, v = cut("bfloat16", hq, d), cut("bfloat16", t, h, d), cut("bfloat16", t, h, d)
        return lambda: single_decode_with_kv_cache(q, k, v)

    found = {"torch sdpa": torch_decode}
    found |= {"flash-attn": flash_attn} if find_spec("flash_attn") else {}
    return found | ({"flashinfer": flashinfer} if b == 1 and find_spec("flashinfer") else {})


# -- parts, each in a process of its own, which asks workers -----------------------------------------


@contextmanager
def worker(make: Callable[..., Any], *arguments: Any) -> Iterator[Worker]:
    found = Worker(make, *arguments)
    try:
        yield found
    finally:
        found.close()


def side_by_side(make: Callable[..., Any], dry: bool, name: str, items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield (item, answer or error) as workers come up with them; each item costs at most one worker's process."""
    answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    workers: SimpleQueue[Worker] = SimpleQueue()
    count = min(SIDE_BY_SIDE if not dry else 1, os.cpu_count() or 1)
    every = [Worker(make, dry) for _ in range(count)]
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


def correctness(out: Path, dry: bool) -> None:
    """Compare every kernel, compiled, with its twin on the table of cases the tests use."""
    from kvplan.kernels.cases import CASES

    def rows() -> Iterator[Row]:
        indices = list(range(0, len(CASES), ONE_OF if dry else 1))
        for index, found in side_by_side(Checker, dry, "check", indices):
            case = CASES[index]
            yield found if isinstance(found, dict) else {
                "case": case.name, "passed": 0, "error": "nan", "tolerance": case.tolerance, "seconds": "",
                "said": reason(found),
            }  # fmt: skip

    write(out / "correctness.csv", rows())


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
        with worker(Bench, dry) as bench:
            for name in ("read", "copy"):
                probe = yardsticks[name]
                row = measured(partial(bench.ask, "seconds", "own", probe), name, shape_of(probe), probe.moved, 0.0)
                yard |= {name: float(str(row["bytes_per_s"]))} if row["bytes_per_s"] else {}
                yield row
            for probe in probes[1::ONE_OF] if dry else probes:
                named = f"{probe.kernel} {probe.kv_dtype or probe.dtype}"
                for key in ("own", *rivals(NAMES, probe)):
                    seconds = partial(bench.ask, "seconds", key, probe)
                    name = named if key == "own" else key
                    yield measured(seconds, name, shape_of(probe), probe.moved, probe.flops, yard)

    write(out / "kernels.csv", rows())


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
    launched = read(out / "compile.csv")
    failed = [row for row in launched if row["said"]]
    lines += [f"kernels launched: {len(launched) - len(failed)} of {len(launched)} shapes"] if launched else []
    lines += [f"  {count} x {said}" for said, count in Counter(f"{r['kernel']}: {r['said']}" for r in failed).items()]
    for title, name in (("bandwidth", "bandwidth.csv"), ("kernels", "kernels.csv")):
        rows = read(out / name)
        if rows:
            lines += ["", f"{title:34}{'time':>10}{'GB/s':>8}{'read':>6}{'copy':>6}{'TFLOP/s':>9}  shape"]
        for r in rows:
            lines.append(f"{r['operator'][:33]:34}{r['time_us'] or '-':>10}{scaled(r['bytes_per_s'], 1e9):>8}"
                         f"{percent(r['of_read']):>6}{percent(r['of_copy']):>6}{scaled(r['flops_per_s'], 1e12):>9}  "
                         f"{r['shape']} {r['said']}".rstrip())  # fmt: skip
    return lines


def scaled(text: str, unit: float) -> str:
    return f"{float(text) / unit:.0f}" if text and float(text) else "-"


def percent(text: str) -> str:
    return f"{100 * float(text):.0f}%" if text else "-"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dry", action="store_true", help="small shapes in Triton's interpreter; needs --device cpu")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
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
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"no part named {unknown[0]!r}; parts: {', '.join(PARTS)}")
    ends: list[str] = []
    begun, failed = time.monotonic(), False
    for name in parts:
        limit = min(PARTS[name], TOTAL - (time.monotonic() - begun))
        said, spent = run_part(command(name, given.out, given.device, given.dry), limit)
        failed = failed or said != "done"
        ends.append(f"{name:14}{spent:6.0f} s  {said}")
        print(ends[-1], flush=True)
        (given.out / "summary.txt").write_text("\n".join([*ends, "", *figures(given.out)]) + "\n", "utf-8")
    print("\n".join(["", *figures(given.out)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
