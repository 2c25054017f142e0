"""Waits and percentiles of mixed prompts, against a replica that is simulated step by step."""

import heapq
import math
import random
from collections import OrderedDict, deque
from dataclasses import replace
from functools import cache
from statistics import NormalDist, fmean
from types import SimpleNamespace

import numpy as np
import pytest
from queue_twin import Machine, percentile, simulate

from kvplan import catalog
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel
from kvplan.perf.amounts import gamma, root
from kvplan.perf.crowding import Surge, crowded, estimated, gamma_at, steps_beside, surge, together
from kvplan.perf.mixture import Mixture
from kvplan.perf.prompt_queue import PromptQueue
from kvplan.perf.prompts import PromptClass, longer_prompt, mean, slots_shared
from kvplan.perf.queueing import Wait, closed_memory, prompt_wait
from kvplan.perf.token_times import below_deviations, delays_of, deviations, token_time
from kvplan.planning.demand import Demand
from kvplan.planning.load import at_rate
from kvplan.planning.prompts import kept_prefixes, prompt_classes
from kvplan.planning.replica import default_kv_bits
from kvplan.planning.searching.search import search
from kvplan.planning.server import Server, server
from kvplan.planning.site import Limits, Site

ON = "2026-11-24"
#: times of steps of replicas that were simulated before
machines: dict[tuple[object, ...], Machine] = {}


@cache
def site(model: str, gpu: str, tensor: int | None = None) -> Site:
    device, engine = catalog.gpu(gpu), catalog.engine()
    reached = catalog.calibration(device, "vllm", about=catalog.model(model))
    return Site(
        gpu=device, calibration=replace(reached, chunk=float(engine.prompt_tokens(device))),
        offers=catalog.offers(device.name, ON), engine=engine,
        parallel=Parallel(tensor=tensor) if tensor else None,
    )  # fmt: skip


@cache
def made(workload: str, model: str, gpu: str, tensor: int, kept: float = 1.0, sessions: bool = True) -> Server:
    """Return one replica under a workload's mixture of prompts, which come in sessions or each by itself."""
    w = catalog.workload(workload)
    classes = prompt_classes(w, True, kept)
    return server(
        catalog.model(model), site(model, gpu, tensor), technique="baseline", prompt=round(w.input.mean),
        output=w.output.mean, answers=w.output,
        mixed=classes if sessions else tuple(replace(k, between=None) for k in classes),
    )  # fmt: skip


def draws(workload: str, kept: float = 1.0, sessions: bool = True):
    """Return what draws one session: when its requests come, their lengths, what of them is cached, their outputs.

    Its first request brings what the others share, and they follow at exponential intervals, with prompts as long.
    Without `sessions` each comes by itself, a hit as often as in one.
    Of the prefixes that they share only some were `kept`; the others are those of a miss.
    """
    w = catalog.workload(workload)
    classes = w.prefix_classes
    weight, least = classes[0]
    ends = [sum(x for x, _ in classes[: i + 1]) for i in range(len(classes))]
    each = round(1 / weight)

    def draw(rng: random.Random) -> list[tuple[float, int, int, int]]:
        session, later, total = [], 0.0, max(2, int(w.input.quantile(rng.random())))
        for k in range(each) if sessions else [rng.randrange(each)]:
            share = next(s for (_, s), end in zip(classes, ends, strict=True) if (k + 0.5) / each < end)
            share = least if rng.random() >= kept else share
            output = max(1, int(w.output.quantile(rng.random())))
            session.append((later, total, min(int(total * share), total - 1), output))
            later += rng.expovariate(1 / w.between_questions)
        return session

    return draw


def simulated(
    workload: str, s: Server, rate: float, requests: int, kept: float = 1.0, seed: int = 0, sessions: bool = True
) -> tuple[list[float], list[float]]:
    """Return TTFT and TPOT of a simulation of the same replica, without its start. [s]"""
    w = catalog.workload(workload)
    machine = machines.setdefault((workload, s.model.name, s.site.gpu.name, s.parallel), Machine(
        model=s.model, base=kv_layout(s.model, default_kv_bits(s.model)), layout=s.layout, parallel=s.parallel,
        calibration=s.site.calibration, length=int(w.input.mean + w.output.mean / 2),
    ))  # fmt: skip
    together = w.prefix_classes[-1][1] * w.input.mean / (w.input.mean + w.output.mean)
    done = simulate(machine, draws(workload, kept, sessions), rate=rate, requests=requests, slots=s.slots,
                    shared=together if sessions else 0.0, seed=seed)[requests // 20 :]  # fmt: skip
    return [r.first - r.arrived for r in done], [(r.last - r.first) / (r.output - 1) for r in done if r.output > 1]


#: workloads on replicas that hold them
REPLICAS = [
    ("doc-qa", "llama3.1-70b", "h200", 4), ("doc-qa", "llama3.1-8b", "h100", 1), ("doc-qa", "llama3.1-70b", "b200", 8),
    ("legal-contracts", "llama3.1-70b", "h200", 4), ("legal-contracts", "llama3.1-8b", "b200", 1),
    ("code-review", "llama3.1-70b", "mi300x", 8), ("code-review", "llama3.1-8b", "h100", 1),
    ("medical-summaries", "llama3.1-70b", "mi300x", 4), ("medical-summaries", "llama3.1-8b", "h100", 1),
    ("chat", "llama3.1-70b", "h100", 4), ("chat", "llama3.1-8b", "mi300x", 1),
    ("rag", "llama3.1-70b", "h200", 4), ("rag", "llama3.1-8b", "h100", 1),
]  # fmt: skip


#: shares of the largest rate at which replicas are simulated, and in how many runs, whose waits swing near saturation
SHARES = {0.3: 1, 0.5: 1, 0.7: 3, 0.85: 8}


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("replica", REPLICAS, ids=lambda r: f"{r[0]}-{r[2]}")
def test_times_of_a_mixture_are_those_of_a_simulation(replica, share: float) -> None:
    """Waits swing from run to run near saturation: there those of several are averaged."""
    s = made(*replica, sessions=False)
    rate = share * s.most_rate
    p = at_rate(s, rate)
    runs = [simulated(replica[0], s, rate, 10_000, seed=k, sessions=False) for k in range(SHARES[share])]
    tpot = [x for _, run in runs for x in run]
    assert p.ttft.p95 == pytest.approx(fmean(percentile(ttft, 0.95) for ttft, _ in runs), rel=0.15)
    assert p.ttft.mean == pytest.approx(fmean(fmean(ttft) for ttft, _ in runs), rel=0.15)
    assert p.tpot.mean == pytest.approx(sum(tpot) / len(tpot), rel=0.2)
    assert p.tpot.p95 == pytest.approx(percentile(tpot, 0.95), rel=0.4)


@pytest.mark.parametrize("replica", [REPLICAS[0], REPLICAS[3], REPLICAS[11]], ids=lambda r: r[0])
def test_half_a_load_against_a_simulation(replica) -> None:
    s = made(*replica, sessions=False)
    p = at_rate(s, 0.5 * s.most_rate)
    ttft, tpot = simulated(replica[0], s, p.rate, 10_000, sessions=False)
    assert p.ttft.p95 == pytest.approx(percentile(ttft, 0.95), rel=0.15)
    assert p.ttft.mean == pytest.approx(sum(ttft) / len(ttft), rel=0.15)
    assert p.tpot.mean == pytest.approx(sum(tpot) / len(tpot), rel=0.05)


@pytest.mark.parametrize("replica", [REPLICAS[3], REPLICAS[4]], ids=lambda r: f"{r[0]}-{r[2]}")
@pytest.mark.parametrize("share", [0.15, 0.3])
def test_questions_to_a_prefix_wait_for_it_and_run_beside_each_other(replica, share: float) -> None:
    s = made(*replica)
    p, apart = at_rate(s, share * s.most_rate), at_rate(made(*replica, sessions=False), share * s.most_rate)
    ttft, tpot = simulated(replica[0], s, p.rate, 6_000)
    assert p.ttft.p95 == pytest.approx(percentile(ttft, 0.95), rel=0.15)
    assert p.tpot.mean == pytest.approx(sum(tpot) / len(tpot), rel=0.05)
    assert p.tpot.p95 == pytest.approx(percentile(tpot, 0.95), rel=0.15)
    assert p.ttft.mean > apart.ttft.mean and p.tpot.mean > apart.tpot.mean


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.95])
def test_deviations_of_a_share(share: float) -> None:
    assert deviations(share) == pytest.approx(NormalDist().inv_cdf(share), abs=0.05)
    assert below_deviations(NormalDist().inv_cdf(share)) == pytest.approx(share, abs=0.0005)
    exponential, some = delays_of(0.0, 1.0), delays_of(0.3, 4.0)
    assert exponential.at(share) == pytest.approx(-math.log(1 - share), rel=0.1, abs=0.03)
    assert exponential.beyond(-math.log(1 - share)) == pytest.approx(1 - share, abs=0.02)
    assert some.at(0.2) == 0.0 and some.beyond(some.at(0.8)) == pytest.approx(0.2, abs=0.005)


def test_tokens_are_delayed_by_the_prompts_that_come_meanwhile_and_by_those_that_these_let_come() -> None:
    """TPOT against requests drawn one by one: answers of four lengths, prompts of 0.1 and of 2 to 6 s."""
    rng, many, rate, step = np.random.default_rng(0), 40_000, 0.1, 0.01
    takes, shares = np.array([0.1, 2.0, 3.0, 4.0, 5.0, 6.0]), [0.8, *[0.04] * 5]
    answers = tuple((n, 0.25) for n in (200.0, 400.0, 600.0, 800.0))
    classes = [PromptClass(weight=w, total=1000, fresh=1000) for w in shares]
    m = Mixture(classes=tuple(classes), own=tuple(takes), extra=tuple(takes), service=tuple(takes))
    busy, own, queue = rate * 0.88, 0.88, Wait(chance=0.1, mean=0.05)
    tokens = rng.choice([n for n, _ in answers], many)
    begun = rng.choice(takes, many, p=shares) + (rng.random(many) < 0.1) * rng.exponential(0.5, many)
    delay, coming = np.zeros(many), tokens * step + begun
    while coming.any():
        met = rng.poisson(rate * coming)
        which = np.repeat(np.arange(many), met)
        coming = np.bincount(which, rng.choice(takes, len(which), p=shares), minlength=many)
        delay += coming
    drawn = step + delay / tokens
    short, whole = 500 * fmean(1 / n for n, _ in answers), 500 * step / (1 - busy)
    tpot = (whole + short * busy * (own + 0.05) / (1 - busy)) / 500
    assert tpot == pytest.approx(drawn.mean(), rel=0.02)
    served = SimpleNamespace(tpot=tpot, step=step, busy=busy, own=own)
    load = SimpleNamespace(output=500.0, short=short)
    for share in (0.8, 0.9, 0.95, 0.99):
        found = token_time(served, m, load, NormalDist().inv_cdf(share), 0.0, queue, answers)
        assert found == pytest.approx(float(np.quantile(drawn, share)), rel=0.06), share
    longer = token_time(served, m, load, NormalDist().inv_cdf(0.95), 0.005, queue, answers)
    alone = token_time(served, m, load, NormalDist().inv_cdf(0.95), 0.0, queue, answers)
    assert longer - alone > 0.005 * 0.61, "requests that meet prompts run beside more others"


#: the jobs of which a recommended plan is simulated, with limits that a plan keeps
JOBS = [
    ("doc-qa", 20.0), ("legal-contracts", 15.0), ("code-review", 30.0), ("medical-summaries", 15.0), ("chat", 1.0),
    ("rag", 2.0),
]  # fmt: skip


def searched(workload: str, model: str, gpu: str, ttft: float | None):
    """Return the demand, the candidates on one GPU and the cheapest that keeps the limits, None without one.

    The limits are the workload's own, or a TTFT and a TPOT that is loose.
    """
    w = catalog.workload(workload)
    limits = Limits(ttft=w.slo.ttft, tpot=w.slo.tpot, e2e=w.slo.e2e) if ttft is None else Limits(ttft=ttft, tpot=0.3)
    demand = Demand(
        model=catalog.model(model), workload=w, peak=w.arrivals.peak_rate, mean=w.arrivals.mean_rate,
        limits=limits, engine=catalog.engine(),
    )  # fmt: skip
    (one,), _ = search(demand, ["baseline"], [site(model, gpu)])
    able = [tuple(map(int, at)) for at in zip(*one.feasible.nonzero(), strict=True)]
    return demand, one, min(able, key=lambda at: (one.gpus[at], one.ttft[at], one.requests[at]), default=None)


@pytest.mark.parametrize("gpu", ["h200", "mi300x", "mi325x", "b200"])
@pytest.mark.parametrize(("workload", "ttft"), JOBS)
def test_load_and_search_give_the_same_times(workload: str, ttft: float, gpu: str) -> None:
    demand, one, at = searched(workload, "llama3.1-70b", gpu, ttft)
    shape = one.grid.configurations[at[0]]
    s = made(workload, "llama3.1-70b", gpu, shape.parallel.tensor, float(one.kept[at]))
    surge, burstiness = demand.waits_at
    p = at_rate(s, surge * demand.peak / one.replicas[at], burstiness)
    assert s.parallel == shape.parallel
    assert p.ttft.p95 == pytest.approx(float(one.ttft[at]), rel=0.002)
    assert p.tpot.p95 == pytest.approx(float(one.tpot[at]), rel=0.002)
    assert p.ttft.mean == pytest.approx(float(one.served.ttft[at]), rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["h100", "h200", "b200", "mi300x"])
@pytest.mark.parametrize(("workload", "ttft"), JOBS)
def test_a_planned_replica_keeps_what_the_plan_says(workload: str, ttft: float, gpu: str) -> None:
    """P95 TTFT of the plan and of a simulation of its replicas, each with its part of a Poisson stream."""
    demand, one, at = searched(workload, "llama3.1-70b", gpu, ttft)
    s = made(workload, "llama3.1-70b", gpu, one.grid.configurations[at[0]].parallel.tensor)
    rate = demand.waits_at[0] * demand.peak / one.replicas[at]
    found, _ = simulated(workload, s, rate, 10_000, float(one.kept[at]))
    assert float(one.ttft[at]) == pytest.approx(percentile(found, 0.95), rel=0.15)


# -- pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", [w for w in catalog.names("workloads") if catalog.workload(w).parts])
def test_classes_hold_what_the_parts_share(workload: str) -> None:
    w = catalog.workload(workload)
    assert sum(weight for weight, _ in w.prefix_classes) == pytest.approx(1)
    assert sum(weight * share for weight, share in w.prefix_classes) == pytest.approx(w.prefix_share)
    classes = prompt_classes(w, True)
    total, fresh = (mean(classes, [float(getattr(k, of)) for k in classes]) for of in ("total", "fresh"))
    assert total == pytest.approx(w.input.mean, rel=1e-3) and 1 - fresh / total == pytest.approx(
        w.prefix_share, abs=1e-3
    )
    assert {k.fresh for k in prompt_classes(w, False)} == {k.total for k in prompt_classes(w, False)}


def test_one_question_in_five_brings_a_new_document() -> None:
    misses, hits = catalog.workload("doc-qa").prefix_classes
    assert misses == (pytest.approx(0.2), pytest.approx(300 / 66_839.9))
    assert hits == (pytest.approx(0.8), pytest.approx(66_800 / 66_839.9))


@pytest.mark.parametrize("squared", [0.35, 0.6, 1.0, 1.5])
def test_a_wait_has_the_mean_and_variance_it_was_given(squared: float) -> None:
    wait = Wait(chance=0.4, mean=2.0, squared=squared)
    slices = [k / 100 for k in range(20_000)]
    area = sum(wait.beyond(t + 0.005) for t in slices) / 100
    second = sum(2 * (t + 0.005) * wait.beyond(t + 0.005) for t in slices) / 100
    assert area == pytest.approx(2.0, rel=5e-3)
    assert second - area**2 == pytest.approx(wait.variance, rel=0.08)
    assert wait.beyond(0.0) == pytest.approx(0.4) and wait.beyond(-1.0) == pytest.approx(1.0)
    assert wait.beyond(wait.at_most(0.05)) <= 0.05 + 1e-3


def test_a_backlog_waits_as_long_as_it_takes_to_leave() -> None:
    wait = closed_memory(16.0, 2.0)
    assert wait.mean == 8.0 and wait.variance == pytest.approx(4.0)  # Erlang of 16 stages of half a second
    assert closed_memory(0.0, 2.0).mean == 0.0


def every_step(s: Surge, slots: int, leaving, beyond: int = 4000) -> tuple[float, float, float]:
    """Return (chance, ahead, running) of `crowded`, level by level far beyond the slots."""
    p, behind = [1.0], 0.0
    for n in range(slots + beyond):
        p.append(s.rate * (p[n] + s.more * behind) / leaving(min(n + 1, slots)))
        behind = s.again * behind + p[n]
    full, whole = p[slots + 1 :], sum(p)
    running = sum(min(n, slots) * x for n, x in enumerate(p)) / whole
    share = sum(full) / whole * leaving(slots) / (s.rate * s.mean)
    return share, sum((k + 1) * x for k, x in enumerate(full)) / sum(full), running


@pytest.mark.parametrize("busy", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("slots", [1, 4, 27, 100])
def test_slots_fill_up_as_level_crossings_have_it(slots: int, busy: float) -> None:
    m = Mixture(classes=(PromptClass(weight=1.0, total=1, fresh=1),), own=(1.0,), extra=(1.0,), service=(1.0,))
    s, rate = surge(busy, m, 1.0), 0.6 * slots / (1 + slots / 50)

    def leaving(n: float, which: object = None) -> float:
        return n / (1 + n / 50) / rate * busy / (1 - busy) if busy else n / (1 + n / 50) / rate

    s = s if busy else replace(s, rate=1.0)
    found = crowded(s, float(slots), leaving)
    for scale in (1.0, 0.8):
        slower = replace(s, rate=scale * s.rate)
        found = crowded(slower, float(slots), leaving)
        expected = every_step(slower, slots, leaving)
        assert (found.chance, found.ahead, found.running) == pytest.approx(expected, rel=0.01, abs=1e-11)
        many = crowded(slower, np.array([float(slots), 3.0]), leaving)
        assert many.chance[0] == pytest.approx(found.chance) and many.running[0] == pytest.approx(found.running)


def test_slots_far_too_few_overflow_nothing() -> None:
    """A burst of 1e5 a second on 1,024 slots wrote a warning of numpy's under the plan of code-assistant."""
    figures = {"more": 0.5, "again": 0.5, "mean": 2.0, "squared": 6.0}
    s = Surge(rate=np.array([1e5]), **{name: np.array([x]) for name, x in figures.items()})
    with np.errstate(all="raise", under="ignore"):
        total, top, *_ = estimated(s, np.array([1024.0]), lambda n: n)
    assert total[0] == pytest.approx(7.6111, rel=1e-4) and top[0] == 1.0


def test_slots_without_prompts_are_a_queue_of_many_servers() -> None:
    """Erlang's C formula: 5 servers at a load of 4 wait with a chance of 0.5541."""
    m = Mixture(classes=(PromptClass(weight=1.0, total=1, fresh=1),), own=(0.0,), extra=(0.0,), service=(0.0,))
    found = crowded(surge(4.0, m, 1.0), 5.0, lambda n: n)
    assert found.chance == pytest.approx(0.5541, abs=1e-4)
    assert found.running == pytest.approx(4.0, rel=1e-3)
    assert found.ahead == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize("busy", [0.2, 0.8])
def test_surges_are_the_customers_of_a_busy_period(busy: float) -> None:
    m = Mixture(classes=(PromptClass(weight=1.0, total=1, fresh=1),), own=(1.0,), extra=(1.0,), service=(1.0,))
    s = surge(busy, m, 1.0)
    mean_beyond, square = s.more / (1 - s.again), s.more * (1 + s.again) / (1 - s.again) ** 2
    assert 1 + mean_beyond == pytest.approx(1 / (1 - busy)) == pytest.approx(s.mean)
    assert square - mean_beyond**2 == pytest.approx(busy / (1 - busy) ** 3)  # Borel's distribution


@pytest.mark.parametrize("squared", [0.1, 0.27, 1.0])
def test_requests_that_came_together_stay_until_the_shorter_answer_ends(squared: float) -> None:
    """Twice the mean of the shorter of two answers over the mean of one: 1 of exponential ones, 2 of equal ones."""
    rng, sigma = np.random.default_rng(3), np.log(1 + squared) ** 0.5
    a, b = (rng.lognormal(-(sigma**2) / 2, sigma, 200_000) for _ in range(2))
    assert together(squared) == pytest.approx(2 * np.minimum(a, b).mean(), rel=0.01)
    assert together(0.0) == 2.0 == together(-1e-17)


@pytest.mark.parametrize("alike", [1.0, 1.6])
def test_the_number_that_runs_varies_as_with_arrivals_in_groups(alike: float) -> None:
    """Infinitely many slots, a surge X: the variance over the mean is 1 + alike (E[X (X - 1)] / E[X]) / 2."""
    m = Mixture(classes=(PromptClass(weight=1.0, total=1, fresh=1),), own=(1.0,), extra=(1.0,), service=(1.0,))
    s, plain = surge(0.6, m, 1.0, alike), surge(0.6, m, 1.0)
    p, behind = [1.0], 0.0
    for n in range(600):
        p.append(s.rate * (p[n] + s.more * behind) / (0.06 * (n + 1)))
        behind = s.again * behind + p[n]
    mean_of = sum(n * x for n, x in enumerate(p)) / sum(p)
    variance = sum(n * n * x for n, x in enumerate(p)) / sum(p) - mean_of**2
    pairs = plain.squared / plain.mean - 1
    assert mean_of == pytest.approx(s.rate * s.mean / 0.06, rel=1e-6)
    assert variance / mean_of == pytest.approx(1 + alike * pairs / 2, rel=1e-3)


def test_questions_to_one_prefix_share_its_memory() -> None:
    """Four of five tokens are of the prefix, two run at once: together they take 1.2 requests' memory, not 2."""
    brought = PromptClass(weight=0.2, total=900, fresh=900)
    found = PromptClass(weight=0.8, total=900, fresh=100, between=10.0)
    assert slots_shared((brought, found), 100.0, 1.0, slots=12.0, most=256.0) == pytest.approx(20.0)
    assert slots_shared((brought, found), 100.0, 1.0, slots=12.0, most=16.0) == 16.0
    assert slots_shared((brought, found), 100.0, 0.0, slots=12.0, most=256.0) == 12.0
    assert slots_shared((brought,), 100.0, 1.0, slots=12.0, most=256.0) == 12.0


def test_a_crowd_is_gamma_distributed_and_prompts_are_lognormal() -> None:
    assert gamma_at(1.0, 1.0, 1.6449) == pytest.approx(-math.log(0.05), rel=0.01)  # an exponential number
    assert gamma_at(100.0, 1.0, 1.6449) == pytest.approx(101.6449, rel=1e-3)
    short, long = (PromptClass(weight=0.5, total=n, fresh=n) for n in (50, 150))  # squared coefficient of variation 1/4
    sigma = math.log(1.25) ** 0.5
    assert longer_prompt((short, long), 1.6449) == pytest.approx(math.exp(1.6449 * sigma - sigma**2 / 2) - 1, rel=0.01)
    assert longer_prompt((short,), 1.6449) == pytest.approx(0.0)


def test_a_step_is_longer_for_questions_to_the_same_prefix_and_for_what_that_lets_others_run() -> None:
    """A step of 1 s and 0.1 s a request, ten that run, two of them about one prefix besides: 0.2 s x 2.0 / 1.1."""
    assert steps_beside(lambda n: 1 + 0.1 * n, 10.0, 2.0) == pytest.approx(0.2 * 2.0 / 1.1)
    assert steps_beside(lambda n: 1 + 0.1 * n, 10.0, 0.0) == 0.0


def test_gamma_and_roots() -> None:
    for x, value in ((0.0, 1.0), (0.5, 0.886227), (1.0, 1.0), (2.5, 3.323351)):
        assert gamma(x) == pytest.approx(value, rel=1e-5)
    assert root(lambda x: x**3 - 2.0, 0.0, 50.0) == pytest.approx(2 ** (1 / 3), rel=0.02)


def test_more_misses_wait_longer_at_the_same_work() -> None:
    """Rare large prompts hold up all others more than many small ones that take as long together."""
    s = made("doc-qa", "llama3.1-8b", "h100", 1)
    even = replace(s, mixed=(PromptClass(weight=1.0, total=s.prompt, fresh=s.fresh),))
    assert at_rate(s, 0.1).ttft.p95 > 2 * at_rate(even, 0.1).ttft.p95


# -- prefixes in memory ---------------------------------------------------------------------------


def recently_used(slots: int, rate: float, new: float, between: float, requests: int) -> float:
    """Return the share of repeated questions whose document an LRU cache of so many documents still holds."""
    rng, cache, hits, repeats = random.Random(7), OrderedDict[int, None](), 0, 0
    coming: list[tuple[float, int, bool]] = []
    at = 0.0
    for born in range(requests):  # documents come at random, each question is followed by another unless it is the last
        at += rng.expovariate(rate * new)
        heapq.heappush(coming, (at, born, True))
    while coming:
        at, document, first = heapq.heappop(coming)
        if not first:
            repeats += 1
            hits += document in cache
        cache[document] = None
        cache.move_to_end(document)
        if len(cache) > slots:
            cache.popitem(last=False)
        if rng.random() >= new:
            heapq.heappush(coming, (at + rng.expovariate(1 / between), document, False))
    return hits / repeats


@pytest.mark.parametrize("slots", [5, 15, 30, 60])
@pytest.mark.parametrize("workload", ["doc-qa", "legal-contracts", "code-review"])
def test_prefixes_are_kept_as_the_least_recently_used_leave(workload: str, slots: int) -> None:
    w, live = catalog.workload(workload), 30
    (new, least), most = w.prefix_classes[0], w.prefix_classes[-1][1]
    rate = live / w.between_questions
    room = slots * (most - least) * w.input.mean / (w.input.mean + w.output.mean)
    ours = kept_prefixes(w, room=room, rate=rate)
    assert ours == pytest.approx(recently_used(slots, rate, new, w.between_questions, 4000), abs=0.05)


def test_a_prefix_that_all_share_stays_and_one_without_room_does_not() -> None:
    assert kept_prefixes(catalog.workload("rag"), room=0.0, rate=1.0) == 1.0
    assert kept_prefixes(catalog.workload("doc-qa"), room=0.0, rate=1.0) == pytest.approx(0.0, abs=1e-9)
    assert kept_prefixes(catalog.workload("doc-qa"), room=1e4, rate=1.0) == pytest.approx(1.0, abs=1e-6)


def test_what_is_evicted_is_a_miss() -> None:
    w = catalog.workload("doc-qa")
    half = prompt_classes(w, True, 0.5)
    assert sum(k.weight for k in half) == pytest.approx(1)
    assert sum(k.weight for k in half if k.fresh < k.total / 2) == pytest.approx(0.4)  # half of four in five
    assert prompt_classes(w, True, 1.0) == prompt_classes(w, True)


def test_a_wait_behind_prompts_has_the_variance_of_its_third_moment() -> None:
    """M/G/1, half of the prompts of 1 s, half of 3 s, a quarter of one a second: E[S^2] = 5, E[S^3] = 14, rho = 0.5.

    E[W] = 0.25 x 5 / (2 x 0.5) = 1.25, E[W^2] = 2 E[W]^2 + 0.25 x 14 / (3 x 0.5) = 5.458 (Takacs).
    """
    two = tuple(PromptClass(weight=0.5, total=n, fresh=n) for n in (1, 3))
    m = Mixture(classes=two, own=(1.0, 3.0), extra=(1.0, 3.0), service=(1.0, 3.0))
    assert [m.moment(n) for n in (1, 2, 3)] == [2.0, 5.0, 14.0]
    served = SimpleNamespace(busy=0.5, prompt_seconds=2.0, queue=1.25, step=0.0)
    wait = prompt_wait(m, served, c=SimpleNamespace(poll=1.0), load=None, burstiness=1.0)
    assert (wait.chance, wait.mean) == (0.5, 1.25)
    assert wait.variance + wait.mean**2 == pytest.approx(2 * 1.25**2 + 0.25 * 14 / (3 * 0.5))


@pytest.mark.parametrize("rate", [2.0, 8.0, 12.0])
def test_prompts_that_decoding_pauses_for_are_read_together(rate: float) -> None:
    """What came by the end of a pass or a decode step of 10 ms is read at once, in 50 ms a prompt.

    Slow twin of `turn`: every step, every arrival; a prompt's wait is over when all that are read with it are.
    """
    step, each, rng = 0.01, 0.05, random.Random(1)
    coming, now, waits = [rng.expovariate(rate)], 0.0, []
    while len(waits) < 20_000:
        while coming[-1] <= now:
            coming.append(coming[-1] + rng.expovariate(rate))
        ended = now + each * (len(coming) - 1)
        waits += [ended - came - each for came in coming[:-1]]
        now = ended if len(coming) > 1 else now + step
        coming = coming[-1:]
    one = PromptClass(weight=1.0, total=1, fresh=1)
    m = Mixture(classes=(one,), own=(each,), extra=(each,), service=(each,))
    c, steps = SimpleNamespace(mixes=0.0, chunk=1e9, poll=0.0), SimpleNamespace(decode=step, mixed=(1e9,))
    prompts = PromptQueue(mixture=m, steps=steps, calibration=c)
    assert prompts.turn(rate) + step / 2 == pytest.approx(fmean(waits), rel=0.04)


def gated(rate: float, step: float, sizes: list[float], polls: float, room: float, requests: int) -> float:
    """Return the mean wait of prompts that share steps with decoding, step by step: their own steps left out. [s]

    A request is seen `polls` steps after the one it comes in, a part of one as if those that come in it were spread
    over two. A step reads up to `room` seconds of prompts, in their order.
    """
    rng, queue, waits = random.Random(3), deque(), []
    at, ends, now = rng.expovariate(rate), deque([0.0] * 4, maxlen=4), 0.0
    while len(waits) < requests:
        late, before = ends[-1 - int(polls)], ends[-2 - int(polls)]
        while at <= late - polls % 1 * (late - before):
            size = rng.choice(sizes)
            queue.append([at, size, size])
            at += rng.expovariate(rate)
        left, done = room, []
        while queue and left > 1e-12:
            part = min(queue[0][1], left)
            queue[0][1] -= part
            left -= part
            if queue[0][1] > 1e-12:
                break
            done.append(queue.popleft())
        now += step + room - left
        ends.append(now)
        waits += [now - came - size - step * math.ceil(size / room - 1e-9) for came, _, size in done]
    return fmean(waits)


@pytest.mark.parametrize("polls", [0.0, 0.86, 1.0, 1.18, 2.0])
@pytest.mark.parametrize(
    ("rate", "sizes", "room"),
    [(4.85, (0.02, 0.04, 0.08, 0.157), 1.2), (2.475, (0.1, 0.195, 0.29), 0.4), (0.25, (0.4, 1.0, 1.9, 2.9), 0.6)],
)
def test_a_prompt_waits_for_gates_as_of_a_queue_that_is_taken_step_by_step(
    rate: float, sizes: tuple[float, ...], room: float, polls: float
) -> None:
    """Prompts of a tenth of a step, of half a step, and of several steps; a request waits `polls` steps to be seen."""
    step, tokens = 0.02, 10_000
    classes = tuple(
        PromptClass(weight=1 / len(sizes), total=round(x / room * tokens), fresh=round(x / room * tokens))
        for x in sizes
    )
    share = [x / room for x in sizes]
    m = Mixture(classes=classes, own=sizes, extra=sizes,
                service=tuple(x + n * step for x, n in zip(sizes, share, strict=True)))  # fmt: skip
    c, steps = SimpleNamespace(mixes=1.0, chunk=tokens, poll=polls), SimpleNamespace(decode=step, mixed=(step + room,))
    prompts = PromptQueue(mixture=m, steps=steps, calibration=c)
    found = prompts.seen_later(rate, prompts.turn(rate), polls * step)
    simulated = gated(rate, step, list(sizes), polls, room, 25_000)
    assert found == pytest.approx(simulated - (polls + 0.5) * step, rel=0.08)


def test_prompts_in_front_of_another_engine_wait_as_long_as_its_steps_make_them() -> None:
    """One mixture asked twice: nothing of the first engine's steps and calibration is left in the second answer."""
    one = PromptClass(weight=1.0, total=10, fresh=10)

    def wait(m: Mixture, step: float, chunk: float) -> float:
        c, steps = SimpleNamespace(mixes=1.0, chunk=chunk, poll=0.0), SimpleNamespace(decode=step, mixed=(step + 1.0,))
        return float(PromptQueue(mixture=m, steps=steps, calibration=c).turn(1.0))

    both, alone = (Mixture(classes=(one,), own=(0.2,), extra=(0.2,), service=(0.2,)) for _ in range(2))
    first = wait(both, 0.01, 4.0)
    assert wait(both, 0.05, 40.0) == wait(alone, 0.05, 40.0) != first
