"""Sweeps under kill -9, their cost per point, and what workers that die lose.

    python benchmarks/sweep.py --kills 50 --workers-killed 5      # the same final table, each point once
    python benchmarks/sweep.py --cost                             # CPU time of a point of every question
    python benchmarks/sweep.py --points 100000 --ask estimate     # how long so many closed-form points take
    python benchmarks/sweep.py --points 1000000 --compact         # and the memory of one file of all of them

Figures: benchmarks/NOTES.md.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from os import getloadavg, kill, wait4
from pathlib import Path

import pyarrow.dataset
import pyarrow.parquet

STUDY = """name: loads
ask: load
fixed: {on: 2026-11-24}
vary:
  model: [llama3.1-8b, llama3.1-70b, qwen3-32b, qwen3-8b, mistral-small-24b]
  gpu: [h100, h200, b200, mi300x, a100-80gb-sxm]
  technique: [baseline, fp8]
  isl: {from: 500, to: 16000, steps: STEPS, scale: log}
  osl: [128, 256, 512, 1024]
  concurrency: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 256]
"""
#: points of a step of `isl`
PER_STEP = 5 * 5 * 2 * 4 * 25
ESTIMATE = """name: estimates
ask: estimate
fixed: {on: 2026-11-24}
vary:
  model: [llama3.1-8b, llama3.1-70b, qwen3-32b]
  gpu: [h100, h200, b200]
  context: {from: 1000, to: 32000, steps: STEPS, scale: log}
  technique: [baseline, fp8, int4, "mhc:4x", "h2o:20%", "streaming:4,4096"]
"""
RECOMMEND = """name: recommendations
ask: recommend
fixed: {workload: chat, model: llama3.1-8b, gpu: h100, technique: baseline, on: 2026-11-24}
vary: {load: [0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}
"""


#: question -> its study, and the points of a step of its range
STUDIES = {"load": (STUDY, PER_STEP), "estimate": (ESTIMATE, 3 * 3 * 6)}


def study(folder: Path, points: int, ask: str = "load") -> Path:
    """Write a study of about so many points."""
    path, (text, each) = folder / f"{ask}s.yaml", STUDIES[ask]
    path.write_text(text.replace("STEPS", str(max(round(points / each), 2))))
    return path


def started(path: Path, folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a sweep in a process of its own."""
    line = [sys.executable, "-m", "kvplan", "sweep", str(path), "-o", str(folder), "--json", *words]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def table(folder: Path) -> list[dict[str, object]]:
    """Return all rows, sorted by point."""
    files = sorted(map(str, folder.glob("part-*.parquet")))
    return sorted(pyarrow.dataset.dataset(files).to_table().to_pylist(), key=lambda row: row["point"])


def children(pid: int) -> list[int]:
    """Return the processes under a process, those of its fork server among them."""
    found, new = [], [pid]
    while new:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", ",".join(map(str, new))], capture_output=True, text=True)
        new = [int(word) for word in listed.stdout.split()]
        found += [p for p in new if p not in found]
    return found


def killed(place: Path, kills: int, workers: int, points: int, seed: int) -> None:
    """Kill sweeps at random points, go on, and compare the table with that of one that was left alone."""
    draw, path = random.Random(seed), study(place, points)
    begun = time.monotonic()
    assert started(path, place / "whole").wait() == 0
    whole, took = table(place / "whole"), time.monotonic() - begun
    print(f"{len(whole):,} points in {took:.1f} s")
    again, done, ends, died = place / "again", 0, 0, 0
    while done < kills:
        process = started(path, again)
        time.sleep(draw.uniform(0, 0.8 * took))
        below = children(process.pid)
        if died < workers and below:
            kill(below[-1], signal.SIGKILL)
            died += 1
            time.sleep(draw.uniform(0, 1))
        ends += process.poll() is not None
        process.kill()
        process.communicate()
        done += 1
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{p}").exists() for p in below) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{p}").exists() for p in below), "a worker outlived its sweep"
        held = table(again) if list(again.glob("part-*")) else []
        assert len({row["key"] for row in held}) == len(held), "a point stands twice"
        if len(held) == len(whole):  # a new round: it was complete
            assert held == whole
            for part in again.glob("part-*"):
                part.unlink()
    assert started(path, again).wait() == 0
    assert table(again) == whole, "the tables differ"
    print(f"{done} sweeps killed ({ends} had ended), {died} workers: the same table, each point once")


def cost(place: Path) -> None:
    """Print the CPU time of a point of every question, asked in batches by one process."""
    from kvplan import catalog
    from kvplan.api.sweep import dated, foundation, keyed
    from kvplan.api.sweeping.batches import Batch, answer, columns_of
    from kvplan.api.sweeping.questions import askable

    for text, wanted in ((STUDY.replace("STEPS", "10"), 4000), (ESTIMATE.replace("STEPS", "40"), 600), (RECOMMEND, 12)):
        path = place / "study.yaml"
        path.write_text(text)
        asked, _ = dated(catalog.study(str(path), askable(), {}), None, None)
        before = time.process_time()
        points = tuple(islice(keyed(asked), wanted))
        keys = (time.process_time() - before) / len(points)
        columns, parameters = columns_of(asked)
        batch = Batch(
            ask=asked.ask, points=points, columns=tuple(columns), parameters=parameters, stands=foundation(),
            folder=str(Path.cwd()),
        )  # fmt: skip
        before = time.process_time()
        portion = answer(batch, 1e9)
        each = (time.process_time() - before) / len(points)
        size = len(portion.content) / len(points)
        print(f"{asked.ask}: {each * 1e3:.3f} ms a point, {keys * 1e6:.0f} us for its key, {size:.0f} bytes on disk")


def large(place: Path, points: int, ask: str, compact: bool) -> None:
    """Print how long a study of so many points takes on this machine, and the memory of the process that asks."""
    path, begun, load = study(place, points, ask), time.monotonic(), getloadavg()[0]
    process = started(path, place / "large")
    assert process.wait() == 0
    took = time.monotonic() - begun
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = sum(pyarrow.parquet.read_metadata(part).num_rows for part in (place / "large").glob("part-*"))
    cpu = below.ru_utime + below.ru_stime
    print(f"{rows:,} points of {ask} in {took:.1f} s (load average {load:.1f} before, {getloadavg()[0]:.1f} after); "
          f"{cpu:.1f} s of CPU in the asking process; at most {below.ru_maxrss:,} KiB")  # fmt: skip
    if compact:
        begun = time.monotonic()
        process = started(path, place / "large", "--compact")
        _, status, used = wait4(process.pid, 0)
        assert status == 0
        print(f"--compact: {time.monotonic() - begun:.1f} s, at most {used.ru_maxrss:,} KiB")


def main() -> None:
    """Run what is asked for."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--kills", type=int, default=0)
    words.add_argument("--workers-killed", type=int, default=0)
    words.add_argument("--points", type=int, default=0)
    words.add_argument("--ask", choices=STUDIES, default="load")
    words.add_argument("--compact", action="store_true")
    words.add_argument("--cost", action="store_true")
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if given.cost:
            cost(Path(place))
        if given.kills:
            killed(Path(place), given.kills, given.workers_killed, given.points or 20_000, given.seed)
        elif given.points:
            large(Path(place), given.points, given.ask, given.compact)


if __name__ == "__main__":
    main()
