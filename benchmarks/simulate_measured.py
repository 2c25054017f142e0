"""Replay measured open loops (and closed ones) in the simulation, and compare its percentiles with theirs.

python benchmarks/simulate_measured.py e2e_more.csv                    Poisson rows with P50/P90/P99
python benchmarks/simulate_measured.py e2e_serving.csv --closed 120    so many closed loops beside the closed form
"""

import argparse
import csv
import random
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np

from kvplan import catalog
from kvplan.kv.budget import Deployment, memory_budget
from kvplan.kv.replica import weights
from kvplan.measuring.serving.arrays import EXACT
from kvplan.measuring.serving.load import RESERVING, layout_of, mixes
from kvplan.measuring.serving.predict import predict, values_of
from kvplan.measuring.serving.reading import read_server
from kvplan.measuring.serving.rows import OPEN, Refused
from kvplan.perf.simulate.run import Piece, Simulation
from kvplan.perf.simulate.state import Ruleset
from kvplan.perf.simulate.tables import CELL, Machine, steps
from kvplan.specs.eras import launch_of
from kvplan.specs.serving_profile import CHUNK, calibration

#: output lengths beyond which answers are cut, by the words of `lengths`
CAPS = {"max 512 out": 512, "max 256 out": 256, "max 1024 out": 1024}
#: a server whose TTFT is longer does not keep up with what comes [ms]
CALM = 1000.0
#: requests of a replay, at least: short runs are replayed several times
LEAST = 600


def lengths(row, words: str, n: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts and answers of a run; answers that may end early lie between a shortest one and the cap."""
    cap = next((most for text, most in CAPS.items() if text in words), None)
    if "sharegpt" in words:
        return (np.maximum(rng.exponential(x, n), 2).astype(int) for x in (row.prompt, row.output))
    if cap is not None:
        low = max(2 * row.output - cap, 1.0)
        high = min(cap, 2 * row.output - low)
        return np.maximum(row.prompt * rng.uniform(0.6, 1.4, n), 2).astype(int), rng.uniform(low, high, n).astype(int)
    spread = row.spread / 2
    return tuple(
        np.maximum(x * rng.uniform(1 - spread, 1 + spread, n), 2).astype(int) for x in (row.prompt, row.output)
    )


def simulated(row, words: str, profile, engine, seed: int = 0):
    """Return arrays of TTFT and TPOT of a replay of a row's run. [s]"""
    c = calibration(
        values_of(row, profile), gpu=row.gpu, engine=row.engine, mixes=float(mixes(row)), tpot=EXACT, ttft=EXACT,
        launch=launch_of(row.engine, row.version, row.gpu.architecture), name="", tier="",
    )  # fmt: skip
    layout, parallel = layout_of(row.model, row.kv_bits), row.parallel
    where = Deployment(engine=engine, gpu=row.gpu, parallel=replace(parallel, expert=0), weights=row.weight_format,
                       max_num_seqs=256, max_num_batched_tokens=int(CHUNK))  # fmt: skip
    ranks = parallel.data * parallel.pipeline
    budget = memory_budget(row.model, layout, where, int(row.prompt + row.output))
    paging = budget.paging
    per = paging.blocks(4096 * 16) / (4096 * 16) if paging.blocks(4096 * 16) else 1 / 16
    room = int(paging.slots(budget.kv_cache) / per / 16) // parallel.pipeline
    rng = np.random.default_rng(seed)
    run = int(row.requests) or 10 * max(int(row.concurrency), 1)
    n = run * max(-(-LEAST // run), 1) if row.arrival == OPEN else run
    prompts, outputs = lengths(row, words, n, rng)
    told = re.search(r"max_num_seqs (\d+)", words)
    most = min(int(told[1]) if told else row.max_num_seqs, 1024)
    if room < 4 * (row.prompt + row.output) / 16:
        room = 10**7
    machine = Machine(model=row.model, base=layout, layout=layout, held=weights(row.model, row.weight_format),
                      parallel=parallel, calibration=c, gain=(float(c.accepted),))  # fmt: skip
    table = steps(machine, most, int(CHUNK), int(prompts.min()), int((prompts + outputs).max()) + 1)
    rules = Ruleset(
        lanes=ranks, readers=0, chunk=int(CHUNK), most=most, mixed=int(mixes(row)), leaping=1,
        closed=int(row.arrival != OPEN), router=1, room=room, unit=16, weight=1, fixed=0, share=1.0, cap=1 << 40,
        hold_unit=16, hold_weight=1, reserving=int(row.engine in RESERVING), sharing=0, width=1, priorities=0,
        overhead=float(c.request * c.pace),
        poll=float(c.poll) + (row.recv_interval - 1) / 2, transfer=0.0, cell=CELL, sizes=len(table.grid), bin=60.0,
        bins=1,
    )  # fmt: skip
    first, each = [], []
    for start in range(0, n, run):  # every run begins and ends empty
        at = np.cumsum(-np.log1p(-rng.random(run))) / row.rate if row.arrival == OPEN else np.zeros(run)
        part = Piece(at=at, prompt=prompts[start : start + run], output=outputs[start : start + run])
        sim = Simulation(rules=rules, steps=table, concurrency=max(round(row.concurrency), 1))
        for r, many in sim.finished([part]):
            for i in range(many):
                if r.refused[i]:
                    continue
                first.append(r.first[i] - r.came[i])
                if r.output[i] > 1:
                    each.append((r.end[i] - r.first[i]) / (r.output[i] - 1))
    return np.array(first), np.array(each)


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
        row = read_server(r, line, catalog.model, catalog.gpu, True)
        if not isinstance(row, Refused):
            kept.append((row, r))
    closed = {p.row.line: p for p in predict([row for row, _ in kept], profile, engine) if not isinstance(p, Refused)}
    sums: dict[str, list[tuple[float, float]]] = {}
    inside: list[bool] = []
    for row, r in kept:
        if row.line not in closed:
            continue
        ttft, tpot = simulated(row, f"{r.get('lengths', '')}; {r.get('note', '')}", profile, engine)
        p = closed[row.line]
        told = {}
        for name, times in (("ttft", ttft), ("tpot", tpot)):
            mean = float(r[f"{name}_ms"]) / 1e3 if r.get(f"{name}_ms") else None
            meaning = (r.get(f"{name}_meaning") or "mean")[:3]
            if mean:
                mine = float(np.median(times) if meaning == "p50" else times.mean())
                calm = not (r.get("ttft_ms") and float(r["ttft_ms"]) > CALM)
                sums.setdefault(f"{name} {meaning} simulated", []).append((mine, mean))
                sums.setdefault(f"{name} {meaning} closed form", []).append((getattr(p, name), mean))
                low, high = getattr(p, f"{name}_range")
                ratio = mine / getattr(p, name)
                inside.append(low * ratio <= mean <= high * ratio)
                told[name] = (mine, getattr(p, name), mean)
            for q in (50, 90, 99):
                if value := r.get(f"{name}_p{q}_ms"):
                    told[f"{name}{q}"] = (float(np.percentile(times, q)), float(value) / 1e3)
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
