"""All that waits for a GPU, in ten minutes and one folder: python benchmarks/gpu_day.py --out DIR

Every part runs in a process of its own, so that none sees another's memory and a failure loses only that part: kernels
against their twins (correctness.csv), bandwidth by size (bandwidth.csv), kernels beside torch's attention
(kernels.csv), `kvplan profile` (profile.yaml, profile.csv) and an NVML trace (nvml_trace.csv). summary.txt is the
table.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from kvplan import __version__

#: parts in their order, with the time each may take [s]
PARTS = {"correctness": 170, "bandwidth": 50, "profile": 150, "kernels": 130, "trace": 70}
PROFILE_BUDGET = "120s"
#: phases of the trace and their length [s]; time between readings [s]
PHASES, PHASE, STEP = ("idle", "gemm", "copy", "decode"), 10.0, 0.01
#: the yardstick's size: 1 GiB
YARDSTICK = 2**28


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
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


# -- parts, each in a process of its own -------------------------------------------------------------


def timer() -> Any:
    import torch

    from kvplan.measuring.cuda import CudaTimer
    from kvplan.measuring.nvml import open_nvml

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device")
    return CudaTimer(torch, open_nvml(frozenset([os.getpid()])))


def correctness(out: Path) -> None:
    """Compare every kernel, compiled, with its twin on the table of cases the tests use."""
    import torch
    from kvplan.kernels.cases import CASES

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device")

    def rows() -> Iterable[dict[str, object]]:
        for case in CASES:
            begun = time.monotonic()
            try:
                errors, said = case.errors(torch.device("cuda")), ""
            except Exception as error:  # one kernel's failure is a result
                errors, said = {}, " ".join(f"{type(error).__name__}: {error}".split())[:300]
            worst = max(errors.values(), default=float("nan"))
            passed = bool(errors) and all(e <= case.tolerance for e in errors.values())
            yield {"case": case.name, "passed": int(passed), "error": f"{worst:.3g}", "tolerance": case.tolerance,
                   "seconds": f"{time.monotonic() - begun:.2f}", "said": said}  # fmt: skip

    write(out / "correctness.csv", rows())


def bandwidth(out: Path) -> None:
    """Measure read, write and copy by size, kvplan's probes and torch's copy."""
    clock = timer()
    torch, builder = clock.torch, clock.builder

    def torch_copy(elements: int) -> Callable[[], Any]:
        x, y = (builder.pool.cut("float32", elements) for _ in "xy")
        return lambda: y.copy_(x)

    from kvplan.measuring.cuda_probes import cuda_probes

    def rows() -> Iterable[dict[str, object]]:
        for probe in [p for p in cuda_probes(False) if p.group.startswith("bandwidth")]:
            makers = {probe.kind: partial(builder.call, probe)}
            if probe.kind == "copy":
                makers["torch copy"] = partial(torch_copy, probe.sizes["elements"])
            for name, make in makers.items():
                yield measured(clock, name, f"{4 * probe.sizes['elements'] / 2**20:g} MiB", make, probe.moved, 0.0)

    write(out / "bandwidth.csv", rows())
    torch.cuda.synchronize()


def measured(
    clock: Any,
    name: str,
    shape: str,
    make: Callable[[], Any],
    moved: float,
    flops: float,
    yard: Mapping[str, float] = {},
) -> dict[str, object]:
    """Return one measured row; an operator that fails says why."""
    row: dict[str, object] = {"operator": name, "shape": shape, "time_us": "", "bytes_per_s": "", "of_read": "",
                              "of_copy": "", "flops_per_s": "", "bytes": f"{moved:.6g}", "said": ""}  # fmt: skip
    try:
        seconds = clock.seconds(make, moved)
    except Exception as error:
        return row | {"said": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    rate = moved / seconds
    shares = {f"of_{n}": f"{rate / best:.4f}" for n, best in yard.items()}
    return (
        row
        | shares
        | {"time_us": f"{seconds * 1e6:.5g}", "bytes_per_s": f"{rate:.5g}", "flops_per_s": f"{flops / seconds:.5g}"}
    )


def rivals(clock: Any, probe: Any) -> dict[str, Callable[[], Any]]:
    """Return other implementations of a probe that this machine has: torch, flash-attn, flashinfer, our paged form."""
    torch, cut, s = clock.torch, clock.builder.pool.cut, probe.sizes
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
    lengths = clock.builder.full(b, t)

    def torch_decode() -> Any:
        q, k, v = cut("bfloat16", b, h, hq // h, d), cut("bfloat16", b, h, t, d), cut("bfloat16", b, h, t, d)
        return lambda: sdpa(q, k, v)

    def paged(page: int = 64) -> Any:
        from kvplan.kernels.decode_attention import decode_attention

        q, pages = cut("bfloat16", b, hq, d), b * (t // page)
        k, v = cut("bfloat16", pages, page, h, d), cut("bfloat16", pages, page, h, d)
        table = torch.randperm(pages, device="cuda").to(torch.int32).view(b, -1)
        return lambda: decode_attention(q, k, v, lengths, block_table=table)

    def flash_attn() -> Any:
        from flash_attn import flash_attn_with_kvcache

        q, k, v = cut("bfloat16", b, 1, hq, d), cut("bfloat16", b, t, h, d), cut("bfloat16", b, t, h, d)
        return lambda: flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths)

    def flashinfer() -> Any:
        from flashinfer import single_decode_with_kv_cache

        q, k, v = cut("bfloat16", hq, d), cut("bfloat16", t, h, d), cut("bfloat16", t, h, d)
        return lambda: single_decode_with_kv_cache(q, k, v)

    found = {"triton_decode paged": paged, "torch sdpa": torch_decode, "flash-attn": flash_attn}
    return found | ({"flashinfer": flashinfer} if b == 1 else {})


def chosen() -> list[Any]:
    """Return the shapes kernels are compared on: caches of about 0.1 to 2 GB, and prompts."""
    from kvplan.measuring.cuda_probes import ROPE, SIDE
    from kvplan.measuring.probes import decode, latent, prefill

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


def kernels(out: Path) -> None:
    """Time every kernel beside its rivals, as shares of the read and copy bandwidth of the same run."""
    from kvplan.measuring.cuda_probes import cuda_probes
    from kvplan.measuring.probes import product_of

    clock = timer()
    probes = {p.kind: p for p in cuda_probes(False) if p.sizes.get("elements") == YARDSTICK}
    yard = {name: probes[name].moved / clock.seconds(partial(clock.builder.call, probes[name]), probes[name].moved)
            for name in ("read", "copy")}  # fmt: skip
    techniques = [p for p in cuda_probes(True) if is_technique(p)]
    gemm = product_of(4096, 8192, 8192, "bfloat16")

    def rows() -> Iterable[dict[str, object]]:
        for probe in (gemm, *chosen(), *techniques):
            shape = " ".join(f"{name}={size}" for name, size in probe.sizes.items())
            named = f"{probe.kernel} {probe.kv_dtype or probe.dtype}"
            for name, make in {named: partial(clock.builder.call, probe), **rivals(clock, probe)}.items():
                yield measured(clock, name, shape, make, probe.moved, probe.flops, yard)

    write(out / "kernels.csv", rows())


def profile(out: Path) -> None:
    words = ["profile", "--device", "cuda", "--budget", PROFILE_BUDGET, "-o", str(out / "profile.yaml")]
    raise SystemExit(subprocess.run([sys.executable, "-m", "kvplan", *words], check=False).returncode)


def trace(out: Path) -> None:
    """Record what NVML says while the GPU idles, multiplies, copies and decodes."""
    from kvplan.measuring.cuda_probes import CUDA_ANCHORS
    from kvplan.measuring.nvml import NoMeter, trace_row
    from kvplan.measuring.probes import decode

    clock = timer()
    if isinstance(clock.meter, NoMeter):
        raise SystemExit(clock.meter.why)
    reading = decode(64, 32, 8, 128, 8192, group="", kernel="triton_decode", dtype="bfloat16")
    work = {"gemm": CUDA_ANCHORS[1], "copy": CUDA_ANCHORS[0], "decode": reading}
    heading = {"phase": "", "at": "", "date": date.today().isoformat(), "tool": f"kvplan-{__version__}"}

    def rows() -> Iterable[dict[str, object]]:
        first = time.monotonic()
        for phase in PHASES:
            probe = work.get(phase)
            graph = clock.capture(partial(clock.builder.call, probe), probe.moved)[0] if probe else None
            begun = time.monotonic()
            while time.monotonic() - begun < PHASE:
                step = time.monotonic()
                if graph:
                    graph.replay()
                yield dict(trace_row(phase, time.monotonic() - first, clock.meter, heading))
                clock.torch.cuda.synchronize()
                if not graph:
                    time.sleep(max(0.0, STEP - (time.monotonic() - step)))

    write(out / "nvml_trace.csv", rows())


# -- the whole ---------------------------------------------------------------------------------------


def run_part(command: list[str], limit: float) -> tuple[str, float]:
    """Run one part; return how it ended in one line, and how long it took [s]."""
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = "done" if done.returncode == 0 else f"failed: {lines[-1] if lines else done.returncode}"
    except subprocess.TimeoutExpired:
        said = f"stopped after {limit:.0f} s; what it had written is kept"
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.inside:
        globals()[given.inside](given.out)
        return 0
    parts = given.parts.split(",")
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"no part named {unknown[0]!r}; parts: {', '.join(PARTS)}")
    ends = {}
    for name in parts:
        command = [sys.executable, __file__, "--out", str(given.out), "--inside", name]
        ends[name] = run_part(command, PARTS[name])
        print(f"{name:14}{ends[name][1]:6.0f} s  {ends[name][0]}", flush=True)
    lines = [*(f"{name:14}{spent:6.0f} s  {said}" for name, (said, spent) in ends.items()), "", *figures(given.out)]
    (given.out / "summary.txt").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(["", *figures(given.out)]))
    return int(any(said != "done" for said, _ in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
