"""P95 TTFT of recommended plans against a queue simulated step by step: python benchmarks/waits.py

Every workload, model and GPU below at the workload's own limits, or, where no plan keeps those, at looser ones. The
simulation is that of the tests: one replica of the plan, first come, first served, its part of a Poisson stream at the
rate waits are planned for. Figures: benchmarks/NOTES.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from queue_twin import percentile
from test_queueing import JOBS, made, searched, simulated

GPUS = ("h100", "h200", "b200", "mi300x")
MODELS = ("llama3.1-70b", "llama3.1-8b")
REQUESTS = 10_000
SHARE = 0.95


def main() -> None:
    print(f"{'workload':18} {'model':13} {'GPU':7} {'limits':7} {'plan':10} {'kept':>5} plan P95  queue P95      off")
    worst = 0.0
    for name, looser in JOBS:
        for model in MODELS:
            for gpu in GPUS:
                limits = "own"
                demand, one, at = searched(name, model, gpu, None)
                if at is None:
                    limits = f"{looser:g} s"
                    demand, one, at = searched(name, model, gpu, looser)
                if at is None:
                    print(f"{name:18} {model:13} {gpu:7} {limits:7} no plan")
                    continue
                shape, replicas = one.grid.configurations[at[0]], int(one.replicas[at])
                surge, _ = demand.waits_at
                rate = surge * demand.peak / replicas
                kept, server = float(one.kept[at]), made(name, model, gpu, shape.parallel.tensor)
                found, _ = simulated(name, server, rate, REQUESTS, kept)
                ours, theirs = float(one.ttft[at]), percentile(found, SHARE)
                worst = max(worst, abs(ours / theirs - 1))
                plan = f"{replicas} x {shape.parallel}"
                print(
                    f"{name:18} {model:13} {gpu:7} {limits:7} {plan:10} {kept:5.0%} {ours:8.3f} s {theirs:8.3f} s"
                    f" {ours / theirs - 1:+8.1%}",
                    flush=True,
                )
    print(f"off by {worst:.1%} at most")


if __name__ == "__main__":
    main()
