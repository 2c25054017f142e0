"""Replay measured open loops (and closed ones) in the simulation, and compare its percentiles with theirs.

python benchmarks/simulate_measured.py e2e_more.csv                    Poisson rows with P50/P90/P99
python benchmarks/simulate_measured.py e2e_serving.csv --closed 120    so many closed loops beside the closed form
"""

import argparse
import csv
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np

from kvplan import catalog
from kvplan.catalog.servers.collected import collections
from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.replica import weights
from kvplan.measuring.serving.arrays import EXACT
from kvplan.measuring.serving.load import RESERVING, layout_of, mixes
from kvplan.measuring.serving.predict import predict, values_of
from kvplan.measuring.serving.reading import OCCUPIED, read_server
from kvplan.measuring.serving.resent import caches_prefixes
from kvplan.measuring.serving.rows import OPEN, Refused
from kvplan.perf.serving import receiving
from kvplan.perf.simulate.looks import among, remembered
from kvplan.perf.simulate.phases import parted, parting
from kvplan.perf.simulate.run import Piece, Simulation
from kvplan.perf.simulate.state import Ruleset
from kvplan.perf.simulate.tables import CELL, Machine, steps
from kvplan.specs.eras import launch_of
from kvplan.specs.serving_profile import calibration

#: output lengths beyond which answers are cut, by the words of `lengths`
CAPS = {"max 512 out": 512, "max 256 out": 256, "max 1024 out": 1024}
#: the longest prompt that vLLM's benchmark keeps of ShareGPT [token]
LONGEST = 1024
#: what the lengths of prompts are drawn from in the collection of IOG-Foundation
SAMPLED = "sharegpt"
#: how two collections send prompts again
KNOWN = {one.name: one for one in collections()}
ONCE, SAMPLE = KNOWN["AccelMark"].once, KNOWN["IOG-Foundation"]
#: AccelMark's prompts of suite D (ONCE) are cut to a length: P99 over P50 is 1.045 (suites/README.md of the collection)
CUT_SPREAD = 0.04
#: tokens of AccelMark's prompts of suites A, B, C and G at these shares of all 500 (input_tokens of
#: datasets/sharegpt_standard_v1 at 5797fc4): none is longer than 2.5 means
STANDARD = ("suite_A", "suite_B", "suite_C", "suite_G")
SHARES, TOKENS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0), (47.0, 78.0, 106.0, 198.0, 355.0, 456.0, 578.0, 592.0)
#: AccelMark runs the engine in its own process, and does not hand on the max_num_seqs that its notes state: vLLM's
#: default for that is 128 from V1 on (SchedulerConfig.DEFAULT_MAX_NUM_SEQS), 256 before
OWN_PROCESS, OWN_SEQUENCES = "suite_", 128
#: time from one run to the next, by which all have left [s]
APART_BY = 1e6
#: a server whose TTFT is longer does not keep up with what comes [ms]
CALM = 1000.0
#: requests of a replay, at least: short runs are replayed several times
LEAST = 600
#: seeds of a row's replays, of whose figures the median counts: with one seed, which all rows share, the median error
#: of P50 TTFT was between 19 and 29 %
SEEDS = range(5)


def lengths(row, words: str, n: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts and answers of a run.

    Prompts of a data set are as uneven as exponential ones, where their own counts are not published; answers that may
    end early too, cut at the cap: one parameter, which the stated mean gives.
    """
    cap = next((most for text, most in CAPS.items() if text in words), None)
    if cap is not None:
        spread = CUT_SPREAD if ONCE in words else 0.0
        drawn = standard if any(f"{suite} dataset" in words for suite in STANDARD) else uneven
        prompts = row.prompt * (rng.uniform(1 - spread, 1 + spread, n) if spread else drawn(n, rng))
        outputs = np.minimum(uncut(row.output, cap) * uneven(n, rng), cap)
    elif SAMPLED in words:
        prompts = np.minimum(uncut(row.prompt, LONGEST) * uneven(n, rng), LONGEST)
        outputs = row.output * uneven(n, rng)
    else:
        spread = row.spread / 2
        prompts, outputs = (x * even(spread, n, rng) for x in (row.prompt, row.output))
    return np.maximum(prompts, 2).astype(int), np.maximum(outputs, 2).astype(int)


def uneven(n: int, rng) -> np.ndarray:
    """Return exponential lengths in random order whose mean is 1 as nearly as n of them can.

    A row states the mean of its own requests: that of some hundred drawn at random is 5 to 7 % off, and so is then the
    rate of a server that does not keep up.
    """
    return rng.permutation(-np.log1p(-(np.arange(n) + 0.5) / n))


def standard(n: int, rng) -> np.ndarray:
    """Return lengths of prompts as AccelMark counted its own, over their mean, in random order."""
    drawn = np.interp(rng.permutation((np.arange(n) + 0.5) / n), SHARES, TOKENS)
    return drawn / drawn.mean()


def even(spread: float, n: int, rng) -> np.ndarray:
    """Return uniform lengths, as evenly as n of them can lie from 1 - spread to 1 + spread, in random order."""
    return rng.permutation(1 - spread + 2 * spread * (np.arange(n) + 0.5) / n)


def uncut(mean: float, cap: float) -> float:
    """Return the mean of an exponential length that has a mean once it is cut at a cap; endless where that is it."""
    low, high = mean, 1e3 * cap
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if middle * -np.expm1(-cap / middle) < mean else (low, middle)
    return high


def again(row, words: str) -> bool:
    """Return whether a run's prompts were sent before, to an engine that keeps prefixes."""
    repeated = OWN_PROCESS in words or (SAMPLE.marks["note"] in words and SAMPLE.finds("", row.rate, holds=True))
    return row.arrival == OPEN and caches(row) and repeated


def caches(row) -> bool:
    """Return whether the engine of a row keeps prefixes unless told not to."""
    return caches_prefixes(row.engine, row.version)


def holding(row) -> float:
    """Return the mean decode steps for which a prompt is held for others to be read with it (`serving.held`)."""
    joining = row.hold * max(row.concurrency, 1.0) / row.output
    return row.hold * (1 + joining / 2) / (1 + joining)


def sequences(row, words: str) -> int:
    """Return how many requests the engine ran at once."""
    if OWN_PROCESS in words and row.engine == "vllm":
        return min(row.max_num_seqs, OWN_SEQUENCES) if caches(row) else row.max_num_seqs
    told = re.search(r"max_num_seqs (\d+)", words)
    return int(told[1]) if told else row.max_num_seqs


def simulated(row, words: str, profile, engine, seed: int = 0):
    """Return arrays of TTFT and TPOT of a replay of a row's run. [s]"""
    c = calibration(
        values_of(row, profile), gpu=row.gpu, engine=row.engine, mixes=float(mixes(row)), tpot=EXACT, ttft=EXACT,
        launch=launch_of(row.engine, row.version, row.gpu.architecture), name="", tier="",
    )  # fmt: skip
    layout, parallel = layout_of(row.model, row.kv_bits), row.parallel
    where = Deployment(engine=engine, gpu=row.gpu, parallel=replace(parallel, expert=0), weights=row.weight_format,
                       max_num_seqs=256, max_num_batched_tokens=int(row.chunk))  # fmt: skip
    ranks = parallel.data * parallel.pipeline
    budget = memory_budget(row.model, layout, where, int(row.prompt + row.output))
    paging = budget.paging
    per = paging.blocks(4096 * 16) / (4096 * 16) if paging.blocks(4096 * 16) else 1 / 16
    room = int(paging.slots(budget.kv_cache) / per / 16) // parallel.pipeline
    rng = np.random.default_rng(seed)
    run = int(row.requests) or 10 * max(int(row.concurrency), 1)
    runs = max(-(-LEAST // run), 1) if row.arrival == OPEN else 1
    known = room >= 1.1 * (row.prompt + row.output) / 16  # else it did not run with our memory rules: taken to hold all
    kept = known and again(row, words)
    prompts, outputs = lengths(row, words, run if kept else run * runs, rng)
    most = min(sequences(row, words), 1024)
    if not known:
        room = 10**7
    own = OCCUPIED if OWN_PROCESS in words and row.engine == "vllm" and not caches(row) else 0.0
    machine = Machine(model=row.model, base=layout, layout=layout, held=weights(row.model, row.weight_format),
                      parallel=parallel, calibration=c, gain=(float(c.accepted),))  # fmt: skip
    table = steps(machine, most, int(row.chunk), int(prompts.min()), int((prompts + outputs).max()) + 1)
    full, interval = float(c.poll) + holding(row), int(row.recv_interval)
    poll = full if row.arrival == OPEN else among(full, row.concurrency / ranks)
    rules = Ruleset(
        lanes=ranks, readers=0, chunk=int(row.chunk), most=most, mixed=int(mixes(row)), leaping=1,
        closed=int(row.arrival != OPEN), router=1, room=room, unit=16, weight=1, fixed=0, share=1.0, cap=1 << 40,
        hold_unit=16, hold_weight=1, reserving=int(row.engine in RESERVING), sharing=int(kept), width=1, priorities=0,
        overhead=float(receiving(c, row.prompt)) * (1 - own), occupied=float(receiving(c, row.prompt)) * own,
        poll=poll, interval=interval, looks=remembered(poll, interval), transfer=0.0, tiers=0, reload=0.0, cell=CELL,
        sizes=len(table.grid), bin=60.0, bins=1,
    )  # fmt: skip
    first, each = [], []
    sim = Simulation(rules=rules, steps=table, concurrency=max(round(row.concurrency), 1))
    pieces: Iterable[Piece] = sent(row, prompts, outputs, run, runs, kept, rng)
    if rules.closed:
        window = parting(c, slots=row.concurrency / ranks, prompt=row.prompt, output=row.output, spread=row.spread,
                         poll=full + (interval - 1) / 2)  # fmt: skip
        pieces = parted(pieces, window, many=sim.concurrency, lanes=ranks, seed=seed)
    for records, many in sim.finished(list(pieces)):
        for i in range(many):
            if records.refused[i] or (kept and records.name[i] < run):
                continue
            first.append(records.first[i] - records.came[i])
            if records.output[i] > 1:
                each.append((records.end[i] - records.first[i]) / (records.output[i] - 1))
    return np.array(first), np.array(each)


def sent(row, prompts, outputs, run: int, runs: int, kept: bool, rng):
    """Yield the runs, each of which begins and ends empty.

    AccelMark sends the same prompts at every rate, three times each (loadgen/loadgen.py), and so do others (`again`):
    what an engine with a prefix cache still has of them is found. A run before, uncounted, leaves them there.
    """
    for k in range(runs + kept):
        at = np.cumsum(-np.log1p(-rng.random(run))) / row.rate if row.arrival == OPEN else np.zeros(run)
        part = slice(0, run) if kept else slice(k * run, (k + 1) * run)
        chains = {"start": np.arange(run + 1), "keys": np.arange(run), "tokens": prompts[part]} if kept else {}
        yield Piece(at=at + k * APART_BY, prompt=prompts[part], output=outputs[part], **chains)


def middle(replays, figure) -> float:
    """Return the median over replays of a figure of each."""
    return float(median(float(figure(times)) for times in replays))


def error(pairs: list[tuple[float, float]]) -> str:
    """Return the median and mean relative error, and the median ratio, of (predicted, measured)."""
    off = [abs(p / m - 1) for p, m in pairs]
    return (
        f"median {median(off):6.1%}  mean {fmean(off):6.1%}  ratio {median(p / m for p, m in pairs):.2f}  n {len(off)}"
    )


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("file")
    asked.add_argument("--closed", type=int, default=0)
    asked.add_argument("--rows", action="store_true")
    options = asked.parse_args()
    profile, engine = catalog.serving_profile(), catalog.engine()
    with Path(options.file).open() as file:
        raw = list(enumerate(csv.DictReader(file), 2))
    kind = "closed" if options.closed else "poisson"
    raw = [(line, r) for line, r in raw if (r.get("arrival") or "closed") == kind]
    if options.closed:
        random.Random(0).shuffle(raw)
        raw = raw[: options.closed]
    kept = []
    for line, r in raw:
        row = read_server(r, line, catalog.model, catalog.gpu, True, catalog.stated_engine)
        if not isinstance(row, Refused):
            kept.append((row, r))
    closed = {p.row.line: p for p in predict([row for row, _ in kept], profile, engine) if not isinstance(p, Refused)}
    sums: dict[str, list[tuple[float, float]]] = {}
    inside: list[bool] = []
    for row, r in kept:
        if row.line not in closed:
            continue
        words = f"{r.get('lengths', '')}; {r.get('note', '')}"
        ttfts, tpots = zip(*(simulated(row, words, profile, engine, seed) for seed in SEEDS), strict=True)
        p = closed[row.line]
        told = {}
        for name, times in (("ttft", ttfts), ("tpot", tpots)):
            mean = float(r[f"{name}_ms"]) / 1e3 if r.get(f"{name}_ms") else None
            meaning = (r.get(f"{name}_meaning") or "mean")[:3]
            if mean:
                mine = middle(times, np.median if meaning == "p50" else np.mean)
                calm = not (r.get("ttft_ms") and float(r["ttft_ms"]) > CALM)
                sums.setdefault(f"{name} {meaning} simulated", []).append((mine, mean))
                sums.setdefault(f"{name} {meaning} closed form", []).append((getattr(p, name), mean))
                low, high = getattr(p, f"{name}_range")
                ratio = mine / getattr(p, name)
                inside.append(low * ratio <= mean <= high * ratio)
                told[name] = (mine, getattr(p, name), mean)
            for q in (50, 90, 99):
                if value := r.get(f"{name}_p{q}_ms"):
                    told[f"{name}{q}"] = (middle(times, lambda x, q=q: np.percentile(x, q)), float(value) / 1e3)
                    sums.setdefault(f"{name} P{q} simulated", []).append(told[f"{name}{q}"])
                    if calm:
                        sums.setdefault(f"{name} P{q} simulated, keeping up", []).append(told[f"{name}{q}"])
        if options.rows:
            figures = {k: tuple(round(x, 4) for x in v) for k, v in told.items()}
            load = row.rate or f"c{row.concurrency:g} tp{row.parallel}"
            print(row.model.name, row.gpu.name, row.engine, row.version, load, row.prompt, row.output, figures)
    for name in sorted(sums):
        print(f"{name:32}", error(sums[name]))
    print(f"80 % intervals hold {fmean(inside):.1%} of {len(inside)} times")


if __name__ == "__main__":
    main()
