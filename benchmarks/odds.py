"""How often servers held out of the fit keep limits that a plan says they keep: python benchmarks/odds.py ROWS.csv ...

Every row of end-to-end measurements is predicted by fits that did not see it (the cross-validation of `kvplan calibrate
--from-scratch --check`), with intervals from the rows of other servers (a GPU, an engine and a model): ten parts of the
servers in turn. Limits are set where the odds of a plan, `certainty`, are the stated ones: of TTFT alone, of TPOT
alone, and of both, each as likely. Then the measured times either keep them or do not. Servers weigh the same, however
many rows each has. Figures: benchmarks/NOTES.md.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
from scipy.stats import kendalltau

from kvplan import catalog
from kvplan.api.calibrate import of_kernels
from kvplan.api.server_rows import read_table, usable
from kvplan.measuring.serving.fit import FitOptions, check
from kvplan.measuring.serving.holdout import HeldOut
from kvplan.measuring.serving.intervals import ranges_of
from kvplan.planning.searching.certainty import TOGETHER, Z80, certainty, standard
from kvplan.specs.calibration import Range
from kvplan.specs.identity import family
from kvplan.specs.serving_profile import named_range

#: odds that are stated, and parts that servers are dealt into
STATED, PARTS = (0.5, 0.7, 0.8, 0.9, 0.95), 10
LIMITS = ("TTFT", "TPOT", "both")


@dataclass(frozen=True)
class Missed:
    """A row's errors in standard deviations of the odds that a plan states, TPOT and TTFT."""

    basis: str  #: what the prediction rests on
    server: tuple[str, str, str]  #: GPU, engine, model
    tpot: float
    ttft: float


def held_out(files: Sequence[str]) -> list[HeldOut]:
    """Return the rows of files with their errors under fits that did not see them."""
    rows, _ = usable([read_table(file, None, {}, measured=True) for file in files])
    rows = [r for r in rows if r.ttft and r.tpot]
    options = FitOptions(from_scratch=True, kernels=of_kernels())
    return check(rows, catalog.fitted_engine(), catalog.serving_profile(), options)[0]


def server_of(row) -> tuple[str, str, str]:
    """Return what counts as one server."""
    return row.gpu.name, row.engine, family(row.model)


def subset(part: HeldOut, keep: np.ndarray) -> HeldOut:
    """Return some rows of a part."""
    rows = tuple(row for row, kept in zip(part.rows, keep, strict=True) if kept)
    return HeldOut(basis=part.basis, rows=rows, log_ratio=part.log_ratio[keep])


def missed(parts: Sequence[HeldOut]) -> list[Missed]:
    """Return every row's errors, under intervals that other servers led to."""
    names = sorted({server_of(row) for part in parts for row in part.rows})
    deal = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % PARTS, strict=True))
    shipped, found = catalog.serving_profile(), []
    for k in range(PARTS):
        mine = [np.array([deal[server_of(row)] == k for row in part.rows]) for part in parts]
        ranges = ranges_of([subset(part, ~out) for part, out in zip(parts, mine, strict=True)], shipped)
        for part in parts:
            for row, (tpot, ttft) in zip(part.rows, part.log_ratio, strict=True):
                if deal[server_of(row)] != k:
                    continue
                each = named_range(ranges, part.basis, row.identity)
                zs = [float(standard(np.exp(x), r)) for x, r in zip((tpot, ttft), each, strict=True)]
                found.append(Missed(part.basis, server_of(row), *zs))
    return found


def limit(stated: float) -> float:
    """Return where limits of both stand, in standard deviations, for odds of both together as a plan states them."""
    one = Range(low=float(np.exp(-Z80)), high=float(np.exp(Z80)))
    low, high = -3.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        bound = float(np.exp(middle))
        workload = SimpleNamespace(output=SimpleNamespace(quantile=lambda _: 1.0))
        limits = SimpleNamespace(ttft=bound, tpot=bound, e2e=None, percentile=0.95)
        asked, times = SimpleNamespace(limits=limits, workload=workload), SimpleNamespace(tpot=one, ttft=one)
        sure = float(certainty(asked, times, np.array(1.0), np.array(1.0)))
        low, high = (low, middle) if sure >= stated else (middle, high)
    return high


def kept(rows: Sequence[Missed], stated: float, what: str) -> float:
    """Return the share of servers, rows of one averaged, that keep limits at stated odds."""
    alone, both = NormalDist().inv_cdf(stated), limit(stated)
    tests = {
        "TTFT": lambda m: m.ttft <= alone,
        "TPOT": lambda m: m.tpot <= alone,
        "both": lambda m: m.tpot <= both and m.ttft <= both,
    }
    servers = defaultdict(list)
    for m in rows:
        servers[m.server].append(tests[what](m))
    return float(np.mean([np.mean(each) for each in servers.values()]))


def together(rows: Sequence[Missed]) -> float:
    """Return the correlation of a normal copula with Kendall's rank correlation of the two errors."""
    return float(np.sin(np.pi / 2 * kendalltau([m.tpot for m in rows], [m.ttft for m in rows]).statistic))


def main() -> None:
    rows = missed(held_out(sys.argv[1:]))
    print(f"correlation counted on: {TOGETHER:g}")
    print(f"{'predictions rest on':18} {'rows':>5} {'servers':>7} {'corr.':>6} {'limits':6} ", end="")
    print(" ".join(f"{f'{s:.0%}':>6}" for s in STATED), flush=True)
    for basis in (*dict.fromkeys(m.basis for m in rows), ""):
        mine = [m for m in rows if basis in ("", m.basis)]
        for what in LIMITS:
            counts = f"{len(mine):5} {len({m.server for m in mine}):7} {together(mine):6.2f}"
            print(f"{basis or 'all':18} {counts} {what:6} ", end="")
            print(" ".join(f"{kept(mine, s, what):6.1%}" for s in STATED), flush=True)


if __name__ == "__main__":
    main()
