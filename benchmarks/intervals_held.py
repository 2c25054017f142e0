"""How often 80 % intervals hold on rows held out of a fit: by support, and by collection, engine, and GPU and engine.

python benchmarks/intervals_held.py e2e_serving.csv e2e_more.csv

A slice of 30 rows or more in which they hold for less than 72 or more than 88 % is marked. Takes two minutes.
"""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kvplan import catalog
from kvplan.api.calibrate import of_kernels
from kvplan.api.server_rows import read_table, usable
from kvplan.measuring.serving.fit import FitOptions, check
from kvplan.measuring.serving.holdout import HeldOut
from kvplan.measuring.serving.rows import ServerRow
from kvplan.specs.calibration import Range
from kvplan.specs.serving_profile import named_range

#: rows from which a slice counts, and the share of them that an 80 % interval is to hold
LARGE, LEAST, MOST = 30, 0.72, 0.88
#: ways to slice rows: heading -> name of a row's slice
SLICES: Mapping[str, Callable[[ServerRow], str]] = {
    "all": lambda r: "",
    "rows": lambda r: "collected" if r.source else "first source",
    "source": lambda r: r.source,
    "engine": lambda r: r.engine,
    "GPU and engine": lambda r: f"{r.gpu.name} {r.engine}",
}


def holds(part: HeldOut, ranges: Mapping[str, tuple[Range, Range]]) -> np.ndarray:
    """Return whether each row's TPOT and TTFT lie in their intervals, nan where not measured. [row, 2]"""
    inside = np.full(part.log_ratio.shape, np.nan)
    for i, row in enumerate(part.rows):
        for j, interval in enumerate(named_range(ranges, part.basis, row.identity)):
            ratio = part.log_ratio[i, j]
            if not np.isnan(ratio):
                inside[i, j] = np.log(interval.low) <= ratio <= np.log(interval.high)
    return inside


def main(files: Sequence[str]) -> None:
    """Print how often intervals hold in every slice of LARGE rows or more, and how many lie outside."""
    rows, _ = usable([read_table(name, None, {}, measured=True) for name in files], steady=True)
    rows = [r for r in rows if r.ttft or r.tpot]
    options = FitOptions(from_scratch=True, kernels=of_kernels())
    held_out, ranges = check(rows, catalog.fitted_engine(), catalog.serving_profile(), options)
    report(held_out, ranges)


def report(held_out: Sequence[HeldOut], ranges: Mapping[str, tuple[Range, Range]]) -> None:
    """Print the slices of rows held out."""
    large = outside = 0
    for part in held_out:
        inside = holds(part, ranges) if part.rows else np.zeros((0, 2))
        for heading, name_of in SLICES.items():
            names = np.array([name_of(r) for r in part.rows])
            for name in sorted(set(names.tolist())):
                mine = inside[names == name]
                if heading != "all" and not name:
                    continue
                counts = (~np.isnan(mine)).sum(0)
                if counts.max() < LARGE:
                    continue
                words = []
                for j, time in enumerate(("TPOT", "TTFT")):
                    if counts[j] < LARGE:
                        continue
                    share = float(np.nanmean(mine[:, j]))
                    large += 1
                    wrong = not LEAST <= share <= MOST
                    outside += wrong
                    words.append(f"{time} {share:4.0%} of {counts[j]:5,}{' <' if wrong else '  '}")
                print(f"{part.basis:14} {heading:14} {name[:44]:44} {'  '.join(words)}")
    print(f"{outside} of {large} shares of {LARGE} rows or more lie outside {LEAST:.0%} to {MOST:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
