"""Recommended plans against simulations of their own queue: python benchmarks/plan_against_simulation.py [WORKLOAD...]

Every workload, model and GPU below at `recommend`'s defaults: the workload's own limits or, where no plan keeps those,
the looser TTFT of the table and no limit of TPOT. Beside the closed form's P95 TTFT and TPOT stand those of the
simulator of `--simulate`, spares left out: under the router that plans mean ("random"), and under the one that knows
prefixes or load. Each stream has the rate of the busiest hour throughout, for so long that REQUESTS come. Figures:
benchmarks/NOTES.md.
"""

import sys
from dataclasses import replace

from kvplan import recommend
from kvplan.api import values
from kvplan.api.confirm import simulation_of
from kvplan.api.sites import PUBLISHED
from kvplan.api.streams import of_workload
from kvplan.planning.confirm import ROUTER
from kvplan.planning.simulating.simulate import simulate
from kvplan.units import DAY as SECONDS
from kvplan.units import HOUR

#: workload -> a TTFT that is looser than its own
JOBS = {
    "doc-qa": "20s", "legal-contracts": "15s", "code-review": "30s", "medical-summaries": "15s", "chat": "1s",
    "rag": "2s", "agents": "10s",
}  # fmt: skip
GPUS = ("h100", "h200", "b200", "mi300x")
MODELS = ("llama3.1-70b", "llama3.1-8b")
DAY = "2026-11-29"
REQUESTS = 20_000


def planned(workload: str, model: str, gpu: str):
    """Return the limits and the answer: the workload's own limits, else looser ones; None without a plan."""
    for title, limits in (("own", {}), (JOBS[workload], {"ttft": JOBS[workload], "tpot": "none"})):
        answer = recommend(workload, model, gpus=gpu, on=DAY, **limits)
        if answer.plan is not None:
            return title, answer
    return "none", None


def replayed(answer, router: str) -> tuple[float, float]:
    """Return P95 TTFT and TPOT of a simulation at the rate of the busiest hour, '' for a router that knows more. [s]"""
    plan, w = answer.plan, answer.demand.workload
    rate = w.arrivals.peak_rate
    flat = replace(w, arrivals=replace(w.arrivals, queries_per_day=rate * SECONDS, hours=(1.0,) * 24))
    stream = of_workload(flat, HOUR * max(round(REQUESTS / rate / HOUR), 1), seed=0)
    asked = simulation_of(answer, plan, values.day(DAY), PUBLISHED, stream=stream)
    asked = replace(asked, router=router or asked.router)
    o = simulate(asked, max(plan.replicas - answer.demand.spares, 1))
    return o.ttft.at_percentile, o.tpot.at_percentile


def main() -> None:
    jobs = sys.argv[1:] or list(JOBS)
    print("| workload | model | GPU | limits | plan | P95 TTFT [s]: plan | simulated | off | P95 TPOT [ms]: plan |"
          " simulated | off | router that knows: TTFT | TPOT |")  # fmt: skip
    print("|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    worst = worst_tpot = 0.0
    for workload in jobs:
        for model in MODELS:
            for gpu in GPUS:
                limits, answer = planned(workload, model, gpu)
                if answer is None:
                    print(f"| {workload} | {model} | {gpu} | {limits} | no plan |")
                    continue
                p = answer.plan
                ttft, tpot = replayed(answer, ROUTER)
                knows, knows_tpot = replayed(answer, "")
                off, off_tpot = p.ttft / ttft - 1, p.tpot / tpot - 1
                worst, worst_tpot = max(worst, abs(off)), max(worst_tpot, abs(off_tpot))
                print(f"| {workload} | {model} | {gpu} | {limits} | {p.label}, {p.slo_probability:.0%} | {p.ttft:.3f} |"
                      f" {ttft:.3f} | {off:+.1%} | {p.tpot * 1e3:.1f} | {tpot * 1e3:.1f} |"
                      f" {off_tpot:+.1%} | {knows:.3f} | {knows_tpot * 1e3:.1f} |", flush=True)  # fmt: skip
    print(f"P95 TTFT off by {worst:.1%} at most, P95 TPOT by {worst_tpot:.1%}")


if __name__ == "__main__":
    main()
