"""From samples to a profile: everything a profile says that follows from the rows alone, and their shape as kernels."""

from collections.abc import Iterable, Mapping, Sequence
from math import exp, hypot, log
from re import sub
from statistics import median
from typing import Any

from kvplan import catalog
from kvplan.errors import KvplanError
from kvplan.measuring.device.course import PREEMPTED, REJECTED, SHARED, SKIPPED, key_of
from kvplan.measuring.device.probes import ANCHOR, SIZES
from kvplan.measuring.kernels.rows import KernelRow, read_rows
from kvplan.perf.kernel_profile import KINDS
from kvplan.units import MILLION

#: what the name of a CPU begins with
CPU = "CPU "
#: the share of disturbed samples beyond which a profile is marked contended
CONTENDED = 0.2
#: the share of an anchor's spread within a run that runs differ by
DRIFT = 0.5

Sampled = Mapping[str, str]


def estimate_of(samples: Sequence[Sampled]) -> str:
    """Return how the samples of a shape become its time: on a CPU others only add to it, on a GPU it also jitters."""
    return "minimum" if samples and samples[0]["gpu"].startswith(CPU) else "median"


def refit(samples: Sequence[Sampled]) -> dict[str, Any]:
    """Return everything a profile says that follows from its samples; the same samples give the same."""
    estimate = estimate_of(samples)
    refitted = {"estimate": estimate, **fit(samples, estimate)}
    return refitted if samples and samples[0]["gpu"].startswith(CPU) else {**refitted, **kernels(samples)}


def reduce(samples: Iterable[Sampled], estimate: str) -> list[dict[str, Any]]:
    """Return one row a shape from the samples not rejected: its `time` [s] by the minimum or the median, `rounds`."""
    times: dict[tuple[str, ...], list[float]] = {}
    kept: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in samples:
        if row["state"] not in REJECTED:
            times.setdefault(key_of(row), []).append(float(row["latency_us"]) / MILLION)
            kept.setdefault(key_of(row), row)
    best = min if estimate == "minimum" else median
    return [{**kept[key], "time": best(rounds), "rounds": len(rounds)} for key, rounds in sorted(times.items())]


def quantities(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a fit sees of a row; `weights`: elements a product of several rows has to pack."""
    packs = row["kind"] == "gemm" and row["m"] != "1"
    weights = float(row["n"]) * float(row["k"]) if packs else 0.0
    return {"time": row["time"], "bytes": float(row["bytes"]), "flops": float(row["flops"]), "weights": weights}


def predicted(row: Mapping[str, Any], coefficients: Mapping[str, str]) -> float:
    """Return the time of a reduced row by the coefficients of its group, as a profile spells them. [s]"""
    return time_of(quantities(row), coefficients)


def time_of(has: Mapping[str, float], coefficients: Mapping[str, str]) -> float:
    """Return the time of an operator by what it moves and does, as `quantities` has it, and its group's fit. [s]"""
    from kvplan.measuring.linear import TERMS, number

    shares = [
        number(name, coefficients[name]) if of is None else has[of] / number(name, coefficients[name])
        for name, of in TERMS
        if name in coefficients
    ]
    return sum(shares)


def fit(samples: Sequence[Sampled], estimate: str) -> dict[str, Any]:
    """Return everything a profile says that follows from its samples: fitted groups, drift, share preempted."""
    from kvplan.measuring.linear import fit_group

    rows = reduce(samples, estimate)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["group"] != ANCHOR:
            groups.setdefault(row["group"], []).append(row)
    fitted, few, moved = {}, [], drift(samples)
    for name, mine in sorted(groups.items()):
        group = fit_group([quantities(row) for row in mine])
        if group is None:
            few.append(name)
            continue
        group["interval"] = widened(group["interval"], moved)
        fitted[name] = {**group, "range": extent(mine), "rounds": round(median(row["rounds"] for row in mine))}
    return {
        "samples": counts(samples), "failures": failures(samples), "drift": moved, "groups": fitted,
        "too_few_shapes": few,
    }  # fmt: skip


def failures(samples: Iterable[Sampled]) -> list[dict[str, Any]]:
    """Return what failed and was not measured since: how many shapes of which groups, by state and reason.

    Reasons that differ in numbers only are one, shown as it came first.
    """
    last = {key_of(row): row for row in samples}
    alike: dict[tuple[str, str], list[Sampled]] = {}
    for row in last.values():
        if row["state"] in SKIPPED:
            alike.setdefault((row["state"], sub(r"[0-9.]+", "0", row["reasons"])), []).append(row)
    return [
        {
            "shapes": len(rows), "state": state, "reason": rows[0]["reasons"],
            "groups": sorted({row["group"] for row in rows}),
        }
        for (state, _), rows in sorted(alike.items(), key=lambda entry: -len(entry[1]))
    ]  # fmt: skip


def widened(interval: Sequence[float], moved: Mapping[str, Sequence[float]]) -> list[float]:
    """Return an interval that also covers the device's drift from run to run, seen as half the anchors' spread."""
    low, high = (log(end) for end in interval)
    down = max((-log(ends[0]) for ends in moved.values()), default=0.0) * DRIFT
    up = max((log(ends[1]) for ends in moved.values()), default=0.0) * DRIFT
    drifting = (down + up) / 2
    return [round(exp(-hypot(low, drifting)), 4), round(exp(hypot(high, drifting)), 4)]


def extent(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the least and largest of every size in the rows."""
    present = [name for name in SIZES if rows[0][name]]
    return {name: [min(int(r[name]) for r in rows), max(int(r[name]) for r in rows)] for name in present}


def counts(samples: Sequence[Sampled]) -> dict[str, Any]:
    """Return how many samples there are, how many in which state, and whether the device was contended."""
    states: dict[str, int] = {}
    for row in samples:
        if row["state"]:
            states[row["state"]] = states.get(row["state"], 0) + 1
    taken = [row for row in samples if row["state"] not in SKIPPED]
    disturbed = sum(row["state"] in (PREEMPTED, SHARED) for row in taken) / len(taken) if taken else 0.0
    loads = [float(row["load"]) for row in samples if row["load"]]
    return {
        "taken": len(taken),
        "shapes": len({key_of(row) for row in taken if row["group"] != ANCHOR}),
        "states": dict(sorted(states.items())),
        "disturbed": round(disturbed, 4),
        "contended": disturbed > CONTENDED,
        "load_average": round(median(loads), 2) if loads else "unknown",
    }


def drift(samples: Iterable[Sampled]) -> dict[str, list[float]]:
    """Return the 10 % and 90 % points of each anchor's time by round, over its median."""
    times: dict[str, list[float]] = {}
    for row in samples:
        if row["group"] == ANCHOR and row["state"] not in REJECTED:
            times.setdefault(row["kind"], []).append(float(row["latency_us"]))
    ends = {}
    for name, mine in sorted(times.items()):
        mine = sorted(mine)
        middle, last = median(mine), len(mine) - 1
        ends[name] = [round(mine[round(last * q)] / middle, 4) for q in (0.1, 0.9)]
    return ends


# -- a GPU's samples as kernels


def kernel_rows(samples: Sequence[Sampled]) -> list[KernelRow]:
    """Return the rows that `kvplan calibrate` knows the kinds of, by the median of the samples not rejected."""
    rows: list[KernelRow] = []
    reduced = reduce(samples, estimate_of(samples))
    for kind in KINDS.values():
        raw = [
            {
                **row,
                "compute_dtype": row["dtype"],
                "op": row["kernel"],
                "latency_us": f"{row['time'] * MILLION:.7g}",
                "": i,
            }
            for i, row in enumerate(reduced, 2)
            if row["kind"] == kind.name and row["group"] != ANCHOR
        ]
        rows += read_rows(kind, raw, "samples", lambda name: catalog.gpu(name).name, "", True)
    return rows


def kernels(samples: Sequence[Sampled]) -> dict[str, Any]:
    """Return the fitted kernels by GPU and engine, as a profile of kernels; a GPU not in the catalogue has none."""
    from kvplan.measuring.kernels.fit import document, fit

    try:
        made = list(fit(kernel_rows(samples), catalog.gpu))
    except KvplanError as error:
        return {"kernels": {}, "kernels_note": f"not usable as a profile of kernels: {error}"}
    return {"kernels": document({}, made, "")["kernels"]}
