"""How fast simulations are: python benchmarks/simulate.py [TRACE.csv] [--millions 10] [--plain]

A trace (Azure's conversations) in plain Python and, where numba is installed, compiled; requests on 1 to 200 replicas,
by their number: it must be linear. Figures: benchmarks/NOTES.md.
"""

import argparse
import resource
import time

import kvplan
from kvplan import catalog
from kvplan.perf.simulate import compiled
from kvplan.perf.simulate.run import Simulation
from kvplan.planning.simulating.simulate import simulate

#: requests a second of one replica, which keeps up with them
EACH = 14.0


def clocked(outcome_of) -> tuple[object, float, float]:
    """Return what a function gives, its wall and its CPU time. [s]"""
    wall, cpu = time.perf_counter(), time.process_time()
    found = outcome_of()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def told(name: str, requests: int, wall: float, cpu: float) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    speed = f"{requests / cpu:12,.0f} requests/s {memory:6,.0f} MB"
    print(f"{name:44} {wall:7.2f} s wall {cpu:7.2f} s CPU {speed}", flush=True)


def replay(asked, replicas: int, fast: bool) -> None:
    """Time the events alone: what is read and tabulated before is left out."""
    from kvplan.planning.simulating.server import memory_of, rules_of, steps_of

    s, x = asked.server, asked.extent
    steps = steps_of(s, x)
    rules = rules_of(s, x, memory_of(s), steps, replicas=replicas, router=asked.router, bin=60.0, bins=200)
    pieces = list(asked.source())
    for _ in range(2):  # compiled code is loaded by the first
        run = Simulation(rules=rules, steps=steps, fast=fast)
        done, wall, cpu = clocked(lambda run=run: sum(n for _, n in run.finished(pieces)))
    told(f"  events alone, {'compiled' if fast else 'plain Python'}", done, wall, cpu)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("trace", nargs="?")
    asked.add_argument("--millions", type=float, default=1.0)
    asked.add_argument("--plain", action="store_true")
    options = asked.parse_args()
    fast = compiled.available() and not options.plain
    if options.trace:
        found, wall, cpu = clocked(lambda: kvplan.simulate("llama3.1-8b", "h100", trace=options.trace))
        told("the whole command, trace read", found.outcome.requests, wall, cpu)
        replay(found.outcome.asked, 1, False)
        if fast:
            _, wall, _ = clocked(lambda: replay(found.outcome.asked, 1, True))
            print(f"  with the compiler's start: {wall:.1f} s wall")
    for replicas, many in ((1, 3e4), (1, 6e4), (20, 3e5), (200, options.millions * 1e6)):
        busy = EACH * replicas
        rate = (
            busy / catalog.workload("chat").arrivals.peak_factor
        )  # a volume is the day's mean, its busiest hour comes
        seconds = max(many / busy - 600.0, 600.0)  # ten minutes more warm up
        found, wall, cpu = clocked(
            lambda replicas=replicas, rate=rate, seconds=seconds: kvplan.simulate(
                "llama3.1-8b", "h100", workload="chat", rate=rate, duration=seconds, replicas=replicas
            )
        )
        o = found.outcome
        told(f"{o.asked.extent.requests:,} requests on {replicas} replicas", o.asked.extent.requests, wall, cpu)
        if replicas == 1 and fast:
            plain, wall, cpu = clocked(lambda o=o, replicas=replicas: simulate(o.asked, replicas, fast=False))
            told("  plain Python", plain.asked.extent.requests, wall, cpu)
            same = (plain.ttft, plain.tpot, plain.e2e, plain.bins) == (o.ttft, o.tpot, o.e2e, o.bins)
            print(f"  compiled and plain are {'equal' if same else 'NOT equal'}")


if __name__ == "__main__":
    main()
