"""Time of a search against its number of candidates, beside a plain loop over some of them: python benchmarks/search.py

One thread: numpy's element-wise arithmetic uses no other core; seconds are of processor time, which other work on the
machine moves least. The loop works out each candidate by itself, with the same functions on floats; a sample stands
for all of them. Figures: benchmarks/NOTES.md.
"""

import itertools
import random
import statistics
import time

from kvplan import catalog
from kvplan.kv import spelling
from kvplan.kv.replica import weights
from kvplan.perf.serving import Load, passes, serve, steps
from kvplan.planning.demand import Demand
from kvplan.planning.searching.configurations import Configuration
from kvplan.planning.searching.fitting import rooms
from kvplan.planning.searching.grid import LOADS
from kvplan.planning.searching.search import Candidates, search
from kvplan.planning.site import Limits, Site

DAY = "2026-11-24"
GPUS = (
    "h100",
    "h200",
    "b200",
    "b300",
    "gb200",
    "a100",
    "a100-40gb-sxm",
    "h100-nvl",
    "h100-pcie",
    "l40s",
    "mi300x",
    "mi325x",
)
FORMS = ("bf16", "fp8", "int4")
KEPT = ("h2o:50%", "h2o:33%", "h2o:20%", "h2o:10%", "streaming:4,4096", "streaming:4,8192", "window:4096")
WIDTHS = ("mhc:2x", "mhc:4x", "mhc:8x")
BITS = ("fp8", "int8", "int4")
#: techniques and compositions of them
TECHNIQUES = list(
    dict.fromkeys(
        [spelling.BASELINE, *BITS, *WIDTHS, *KEPT]
        + [
            "+".join(pair)
            for a, b in itertools.combinations((KEPT, WIDTHS, BITS), 2)
            for pair in itertools.product(a, b)
        ]
    )
)[:52]
ROUNDS, SAMPLE = 5, 400


def demand() -> Demand:
    w = catalog.workload("doc-qa")
    limits = Limits(ttft=w.slo.ttft, tpot=w.slo.tpot, percentile=w.slo.percentile)
    return Demand(
        model=catalog.model("llama3.1-70b"), workload=w, peak=w.arrivals.peak_rate, mean=w.arrivals.mean_rate,
        limits=limits, engine=catalog.engine(), forms=FORMS,
    )  # fmt: skip


def sites() -> list[Site]:
    found = []
    for gpu in map(catalog.gpu, GPUS):
        offers = catalog.offers(gpu.name, DAY)[:1]
        found.append(Site(gpu=gpu, calibration=catalog.calibration(gpu), engine=catalog.engine(), offers=offers))
    return found


def one_by_one(asked: Demand, sample: list[tuple[Configuration, Site, int]]) -> float:
    """Return the seconds a plain loop takes a candidate."""
    start = time.process_time()
    for shape, site, n in sample:
        c = site.calibration
        batch = max(n / shape.parallel.data, 1.0)
        p = passes(
            asked.model, asked.base, shape.layout, weights(asked.model, shape.form), shape.parallel, batch=batch,
            prompt=asked.prompt, output=asked.output, chunk=c.chunk, cached=shape.cached,
        )  # fmt: skip
        fresh = float(asked.prompt - shape.cached)
        served = serve(Load(prompt=fresh, output=asked.output, batch=batch, offered=batch), steps(p, c, batch), c)
        asked.in_flight(served.cycle)
        rooms(asked, [shape], [site.gpu])
    return (time.process_time() - start) / len(sample)


def main() -> None:
    asked, places = demand(), sites()
    search(asked, TECHNIQUES[:1], places)  # warm: catalogue files are read, weights added up
    print(f"{len(TECHNIQUES)} techniques, {len(places)} GPUs, {len(FORMS)} weight formats; best of {ROUNDS}")
    print("candidates   seconds   us each   loop us each   ratio")
    points = []
    for stride in (8, 4, 2, 1):  # the same mixture of techniques at every size
        wanted = TECHNIQUES[::stride]
        times = []
        found: list[Candidates] = []
        for _ in range(ROUNDS):
            start = time.process_time()
            found, _ = search(asked, wanted, places)
            times.append(time.process_time() - start)
        count = sum(int(one.grid.usable.sum()) for one in found)
        everything = [
            (shape, one.site, n)
            for one in found
            for shape in one.grid.configurations
            for n in LOADS
            if n >= shape.parallel.data
        ]
        sample = random.Random(stride).sample(everything, SAMPLE)
        loop, ours = one_by_one(asked, sample), min(times) / count
        points.append((count, min(times)))
        print(f"{count:10,} {min(times):9.2f} {ours * 1e6:9.1f} {loop * 1e6:14.0f} {loop / ours:7.0f}")
    slope, base = statistics.linear_regression(*zip(*points, strict=True))
    worst = max(abs(base + slope * n - t) / t for n, t in points)
    print(f"a line through these: {base:.2f} s + {slope * 1e6:.1f} us a candidate, off by {worst:.0%} at most")


if __name__ == "__main__":
    main()
