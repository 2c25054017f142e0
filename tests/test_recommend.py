"""The recommendation: a slow twin, limits that only help when loosened, bills that add up, calibrated chances."""

import itertools
import json
import math
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan import catalog
from kvplan.api import values
from kvplan.api.questions import draftings_of
from kvplan.api.recommend import at_loads
from kvplan.api.vary import axes_of
from kvplan.kv import spelling
from kvplan.kv.budget import memory_budget
from kvplan.kv.deployment import Deployment
from kvplan.kv.model_cache import kv_layout
from kvplan.kv.replica import Parallel, check_parallel, weights
from kvplan.money.gpu_cost import own
from kvplan.perf.crowding import gamma_at, held, open_memory, surge, swing
from kvplan.perf.mixture import mixture
from kvplan.perf.operators import forward
from kvplan.perf.prompts import halfway, longer_prompt, prompt_passes, prompt_steps, slim, slots_shared
from kvplan.perf.queueing import open_loop, serve_open
from kvplan.perf.serving import Load, serve
from kvplan.perf.step_time import device_time, host_time, overlapped, step_time
from kvplan.perf.token_times import first_token, token_time
from kvplan.planning.demand import Demand
from kvplan.planning.hosting import PARTS, bill_of, cached_by, seconds_by_part, staircase_of, volumes_of
from kvplan.planning.outcome import search_all
from kvplan.planning.plan import RESOLVED, TIE, Best, Book, Plan, rank, row_of
from kvplan.planning.planned import PlannedReplica
from kvplan.planning.prompts import kept_prefixes, prompt_classes
from kvplan.planning.recommend import recommend
from kvplan.planning.replica import default_kv_bits
from kvplan.planning.searching.certainty import TOGETHER, certainty, chance, normal
from kvplan.planning.searching.configurations import MOST_CACHED
from kvplan.planning.searching.crowd import Crowd
from kvplan.planning.searching.fitting import LONGEST
from kvplan.planning.searching.gpu_grid import INSTALLED
from kvplan.planning.searching.grid import LOADS
from kvplan.planning.searching.search import GPUS, Candidates, candidates, search
from kvplan.planning.searching.sizing import MOST, bracket
from kvplan.planning.sensitivity import LENGTH_RANGE, LOAD_RANGE, CostRange
from kvplan.planning.server import Server, gain
from kvplan.planning.site import Limits, Site
from kvplan.planning.speculation import Speculation
from kvplan.quality.loss import quality
from kvplan.quality.weights import weight_loss
from kvplan.report import headline
from kvplan.report.plans import preferred, remedies_words
from kvplan.report.recommend import document
from kvplan.specs.calibration import Range
from kvplan.units import DAY, MONTH, show_time

pytestmark = pytest.mark.usefixtures("ask_once")
ON = "2026-11-24"
Z80 = NormalDist().inv_cdf(0.9)

SHAPES = [Parallel(tensor=t, data=d) for t in (1, 2, 4, 8) for d in (1, 2, 4, 8) if t * d <= 8]


def site(name: str, *, owned: bool = False, factor: float = 1.0, model: str = "llama3.1-70b") -> Site:
    gpu = catalog.gpu(name)
    offers = catalog.offers(gpu.name, ON)
    return Site(
        gpu=gpu,
        calibration=catalog.calibration(gpu, about=catalog.model(model)),
        engine=catalog.engine(),
        offers=tuple(replace(offer, price=factor * offer.price) for offer in offers),
        owned=own(gpu, catalog.ownership("default")) if owned else None,
    )


def asked(
    workload: str = "doc-qa",
    model: str = "llama3.1-70b",
    *,
    per_day: float = 0.0,
    forms=(None,),
    native=False,
    **limits,
):
    """Return the demand the command line makes of a workload."""
    w = catalog.workload(workload)
    if per_day:
        w = replace(w, arrivals=replace(w.arrivals, queries_per_day=per_day))
    more = {k: limits.pop(k) for k in ("headroom", "spares", "prefix_cache") if k in limits}
    # one document in five is new, and reading it takes longer than doc-qa's own 5 s on most GPUs
    found = {
        "ttft": 20.0 if workload == "doc-qa" else w.slo.ttft,
        "tpot": w.slo.tpot,
        "e2e": w.slo.e2e,
        "percentile": w.slo.percentile,
        **limits,
    }
    peak = w.arrivals.mean_rate if w.offline else w.arrivals.peak_rate
    return Demand(
        model=catalog.model(model), workload=w, peak=peak, mean=w.arrivals.mean_rate, limits=Limits(**found),
        engine=catalog.engine(), forms=forms, native=native, **more,
    )  # fmt: skip


def drafting(word: str, workload: str, model: str, **more) -> Demand:
    """Return a demand that may be met with speculative decoding as well."""
    demand = asked(workload, model, **more)
    return replace(demand, drafting=draftings_of(word, demand.model))


def losses(demand: Demand, names):
    """Return what techniques and the demand's weight formats lose."""
    table = catalog.quality_table()
    about = demand.model, demand.workload.task, int(demand.workload.context(demand.limits.percentile)), table
    return {n: quality(n, *about) for n in names}, {form: weight_loss(form, *about) for form in demand.forms}


def answer(demand: Demand, names, sites, **more):
    qualities, formats = losses(demand, names)
    return recommend(demand, names, sites, qualities, losses=formats, **more)


def cheapest(demand: Demand, names, sites, guesses: bool = True):
    """Return the plan that `recommend` gives, without its reasons, range and remedies."""
    book = Book(demand, *losses(demand, names))
    return search_all(demand, names, sites, book, "cost", guesses).chosen


# -- the slow twin --------------------------------------------------------------------------------


class Replica:
    """One configuration on floats: its steps are worked out load by load, and lie on straight lines between loads."""

    def __init__(self, demand, layout, form, parallel, site, slots, shared, drafting=None):
        self.demand, self.layout, self.form, self.parallel, self.site = demand, layout, form, parallel, site
        self.drafting = drafting
        self.slots, self.shared, self.kept = slots, shared, 1.0
        self.ideal = self.classes = prompt_classes(demand.workload, shared)
        self.known, self.chances, self.filled = {}, {}, {}
        most = max(demand.engine.limits(site.gpu)[0], 1)
        self.batches = sorted({max(n / parallel.data, 1.0) for n in LOADS if n <= most * 8})

    def exactly(self, batch: float):
        d, c = self.demand, self.site.calibration
        if batch not in self.known:
            p = prompt_passes(
                d.model, d.base, self.layout, weights(d.model, self.form), self.parallel, batch=batch,
                classes=self.ideal, output=d.output, chunk=c.chunk,
            )  # fmt: skip
            c = c.moved(accepted=self.gain(batch)) if self.drafting else c
            self.known[batch] = prompt_steps(p, c, batch)
        return self.known[batch]

    def gain(self, batch: float) -> float:
        """Return how many plain steps a speculative one stands for, as `load` has it, the draft's share worked out."""
        d, c, used = self.demand, self.site.calibration, self.drafting
        length, draft = halfway(self.ideal, d.output), used.written_in(self.form)
        endpoint = Server(
            model=d.model, base=d.base, layout=self.layout, technique="", site=replace(self.site, weights=self.form),
            parallel=self.parallel, prompt=length - int(d.output / 2), output=d.output, cached=0, room=1, slots=1,
            speculation=Speculation(accepted=used.accepted, drafted=used.drafted),
        )  # fmt: skip
        ahead = forward(
            draft.model, used.layout(self.technique), weights(draft.model, draft.form), self.parallel, decode=batch,
            length=length,
        )  # fmt: skip
        plain = step_time(
            forward(d.model, self.layout, weights(d.model, self.form), self.parallel, base=d.base, decode=batch,
                    length=length), c, batch,
        )  # fmt: skip
        passes = used.drafted * overlapped(device_time(ahead, c), host_time(ahead, c))
        without = gain(endpoint, batch, c)
        return without / (1 + without * passes / (used.accepted * plain))

    def beside(self, batch: float):
        """Return the steps of the loads below and above one, and how far it is from the one to the other."""
        upper = next((b for b in self.batches[1:] if b >= batch), self.batches[-1])
        lower = self.batches[self.batches.index(upper) - 1]
        return self.exactly(lower), self.exactly(upper), (batch - lower) / (upper - lower)

    def decode(self, batch: float) -> float:
        low, high, part = self.beside(max(batch, 1.0))
        return (1 - part) * low.decode + part * high.decode

    def steps(self, batch: float):
        low, high, part = self.beside(batch)
        return replace(
            low, decode=(1 - part) * low.decode + part * high.decode,
            mixed=tuple((1 - part) * a + part * b for a, b in zip(low.mixed, high.mixed, strict=True)),
        )  # fmt: skip

    def served(self, steps, running: float, opened: bool):
        load = Load(prompt=1.0, output=self.demand.output, batch=max(running, 1.0), offered=running, open=float(opened),
                    short=self.demand.workload.output.short)  # fmt: skip
        m = mixture(self.classes, steps, self.site.calibration, load)
        if opened:
            return serve_open(load, steps, self.site.calibration, m)
        return serve(load, slim(steps), self.site.calibration, m.times)

    def keeping(self, kept: float):
        """Evict what does not stay in memory."""
        self.kept = kept
        self.classes = prompt_classes(self.demand.workload, True, kept) if self.shared else self.ideal

    def full(self, n: int):
        if (n, self.kept) not in self.filled:
            batch = max(n / self.parallel.data, 1.0)
            steps = self.exactly(batch) if n in LOADS else self.steps(batch)
            self.filled[n, self.kept] = self.served(steps, batch, not self.demand.workload.offline)
        return self.filled[n, self.kept]

    def flight(self, cycle: float) -> float:
        """Return the requests in flight that all replicas have room for."""
        d, w = self.demand, self.demand.workload
        z, mean = NormalDist().inv_cdf(d.limits.percentile), d.peak * (1 + d.headroom) * cycle
        minute = mean * w.arrivals.busiest_minute
        flight = mean + z * math.sqrt(mean * (1 + w.arrivals.burstiness**2) / 2)
        return mean if w.offline else min(flight, minute + z * math.sqrt(minute))

    def replicas(self, n: int) -> int:
        return max(math.ceil(self.flight(self.full(n).cycle) / n - 1e-9), 1)

    def memory(self, n: int, s, replicas: int) -> float:
        """Return the share of the prefixes that stays beside those that run."""
        each = self.demand.waits_at[0] * self.demand.peak * (1 + self.demand.headroom) / replicas
        return float(kept_prefixes(self.demand.workload, room=max(self.holds - min(each * s.cycle, n), 0.0), rate=each))

    def loaded(self, n: int):
        """Return a load, as if nothing were evicted, then with what stays beside those that run."""
        self.keeping(1.0)
        self.keeping(self.memory(n, self.full(n), self.replicas(n)))
        s, replicas = self.full(n), self.replicas(n)
        self.keeping(self.memory(n, s, replicas))
        times = (s.ttft, s.tpot) if self.demand.workload.offline else self.at(n, replicas)
        return replicas, s, self.at_work(n, s, replicas), times

    def at_work(self, n: int, s, replicas: int) -> float:
        """Return the GPU seconds of a request where as many run as the load asks for, n at most. [s]"""
        if self.demand.workload.offline:
            return s.cycle / n * self.parallel.gpus
        held = max(math.ceil(self.flight(s.cycle) / replicas - 1e-9), self.parallel.data, 1)
        below, kept = max((x for x in LOADS if x < n), default=n), self.kept
        part = min(max((held - below) / (n - below), 0.0), 1.0) if n > below else 1.0
        self.keeping(1.0)
        self.keeping(self.memory(below, self.full(below), self.replicas(below)))
        cycle = (1 - part) * self.full(below).cycle + part * s.cycle
        self.keeping(kept)
        return cycle / held * self.parallel.gpus

    def crowded(self, n: int, s, replicas: int) -> tuple[float, float]:
        """Return TTFT and TPOT where so many replicas serve."""
        self.keeping(self.memory(n, s, replicas))
        return self.at(n, replicas)

    def at(self, n: int, replicas: int) -> tuple[float, float]:
        return self.times(self.demand.peak * (1 + self.demand.headroom) / replicas, min(n, self.parallel.data))

    def sure(self, ttft: float, tpot: float, replicas: int) -> float:
        if (ttft, tpot) not in self.chances:
            found = certainty(self.demand, self.site.calibration, np.array(ttft), np.array(tpot))
            self.chances[ttft, tpot] = float(found)
        surge = 1.0 if self.demand.workload.offline else self.demand.waits_at[0]
        full = surge * self.demand.peak * (1 + self.demand.headroom) / (replicas * self.most_rate)
        return min(self.chances[ttft, tpot], float(chance(full, 1.0, self.site.calibration.tpot)))

    def keeps(self, ttft: float, tpot: float, replicas: int) -> bool:
        """Return whether all limits but that of GPUs are kept."""
        limits, e2e = (
            self.demand.limits,
            ttft + tpot * self.demand.workload.output.quantile(self.demand.limits.percentile),
        )
        times = ((ttft, limits.ttft), (tpot, limits.tpot), (e2e, limits.e2e))
        return all(limit is None or value <= limit for value, limit in times) and (
            self.sure(ttft, tpot, replicas) >= limits.confidence
        )

    def times(self, rate: float, ranks: int) -> tuple[float, float]:
        d, c = self.demand, self.site.calibration
        burst, share = d.workload.arrivals.burstiness, d.limits.percentile
        minute, z = d.workload.arrivals.busiest_minute, NormalDist().inv_cdf(share)
        if (1 + burst**2) / 2 > minute > 1:
            rate, burst = rate * minute, 1.0
        answers, most = d.workload.output, self.slots / ranks
        state = open_loop(
            self.steps, self.classes, c, rate=rate / ranks, output=d.output, most=most, short=answers.short
        )

        decode = self.decode
        limit = d.engine.limits(self.site.gpu)[0] * self.parallel.data
        shared = slots_shared(self.classes, d.output, state.mates, slots=float(self.slots), most=float(limit))
        memory = open_memory(
            state.mixture, rate=rate, slots=shared, decode=decode, output=d.output,
            squared=answers.squared, burstiness=burst, ranks=float(ranks), beside=state.mates,
        )  # fmt: skip
        batch = state.load.batch
        together = (decode(batch) - decode(batch - state.mates)) * decode(batch) / decode(1.0)
        served = held(state.served, state.load, memory, rate, together)
        first = first_token(state.mixture, served, c, state.load, memory.wait, burst)
        away = swing(
            state.load, state.served, surge(rate / ranks, state.mixture, burst, beside=state.mates), decode(1.0),
            state.mates,
        )  # fmt: skip
        there = min(max(gamma_at(batch, away, z), 1.0), max(shared / ranks, 1.0))
        own = (decode(batch) - decode(batch - state.mates - 1)) * longer_prompt(self.classes, z)
        longer = math.hypot(decode(there) - decode(batch), own)
        tpot = token_time(served, state.mixture, state.load, z, longer, first.queue, answers.points)
        return first.quantile(share), tpot


def twin(demand: Demand, names, sites, qualities, formats):
    """Yield (usd, gpus, technique, gpu, ttft, tpot, probability, form, drafting) of all that keeps limits, singly."""
    model, limits, w = demand.model, demand.limits, demand.workload
    base = kv_layout(model, default_kv_bits(model))
    prompt, output = round(w.input.mean), w.output.mean
    for name, used in itertools.product(names, (None, *demand.drafting)):
        if not limits.any_technique and not spelling.served_by(name, demand.engine.name):
            continue
        layout = spelling.apply(name, base)
        held = layout if used is None else layout.beside(used.layout(name), len(model.layers))
        latent = any(g.split == 1 and g.vectors for g in layout.groups)
        hit = w.prefix_share if demand.prefix_cache and layout.shared(prompt) else 0.0
        cached = int(prompt * min(hit, MOST_CACHED))
        for form in demand.forms:
            drops = qualities[name].drop, formats[form].drop
            lost = None if None in drops else 1 - (1 - drops[0]) * (1 - drops[1])
            if limits.quality is not None and (lost is None or lost > limits.quality):
                continue
            for parallel in SHAPES:
                if check_parallel(model, parallel) or (parallel.data > 1 and not latent):
                    continue
                for one in sites:
                    if parallel.gpus > one.gpu.gpus_per_node:
                        continue
                    rates = {"fp8": one.gpu.fp8, "nvfp4": one.gpu.vendor == "nvidia" and one.gpu.fp4}
                    if demand.native and not rates.get(form, True):
                        continue
                    most, chunk = demand.engine.limits(one.gpu)
                    where = Deployment(
                        engine=demand.engine, gpu=one.gpu, parallel=parallel, weights=form, compacts=True,
                        draft=used and used.written_in(form),
                    )  # fmt: skip

                    def room(length: int, where=where, layout=held, tensor=parallel.tensor, chunk=chunk) -> int:
                        peak = (layout.peak(length, chunk) - layout.stored(length)) / tensor
                        return memory_budget(model, layout, where, length).sequences(length, peak)

                    if not room(int(w.input.quantile(LONGEST) + w.output.quantile(LONGEST))):
                        continue
                    holds = room(int(prompt + output))
                    server = Replica(
                        demand, layout, form, parallel, one, min(holds, most * parallel.data), cached > 0, used
                    )
                    server.technique, server.holds = name, holds
                    for replicas, at_work, (ttft, tpot) in singly(server, holds):
                        gpus = (replicas + demand.spares) * parallel.gpus
                        sure = server.sure(ttft, tpot, replicas)
                        if not server.keeps(ttft, tpot, replicas) or (limits.gpus is not None and gpus > limits.gpus):
                            continue
                        waits, works = one.cost.rate(None), one.cost.rate("")
                        paid = math.ceil(gpus / one.cost.unit) * one.cost.unit
                        usd = paid * waits / demand.mean + at_work * (works - waits)
                        yield usd, gpus, name, one.gpu.name, ttft, tpot, sure, form, used


def singly(server: Replica, holds: int):
    """Yield (replicas, GPU seconds of a request at work, times) load by load.

    Then with one replica after the other more than those of the first load that is too much for the limits.
    """
    d, ranks, most = server.demand, server.parallel.data, server.demand.engine.limits(server.site.gpu)[0]
    slots = min(holds, most * ranks)
    loads = [n for n in LOADS if ranks <= n <= slots]
    loads += [slots] if loads and slots < LOADS[-1] and slots not in loads else []
    rows = [server.loaded(n) for n in loads]
    server.most_rate = max((n / row[1].cycle for n, row in zip(loads, rows, strict=True)), default=0.0)
    yield from ((replicas, at_work, times) for replicas, _, at_work, times in rows)
    able = {k: row[0] for k, row in enumerate(rows) if server.keeps(*row[3], row[0])}
    least = min(able.values(), default=math.inf)
    last = max((k for k, n in able.items() if n == least), default=-1)
    after = [k for k, row in enumerate(rows) if k > last and k not in able and row[0] < least]
    if d.workload.offline or not after:
        return
    place = after[0]
    n, (few, s, _, _) = loads[place], rows[place]
    many = least if able else int(MOST * few)
    if not able and not server.keeps(*server.crowded(n, s, many), many):
        return
    for replicas in range(few + 1, many):
        times = server.crowded(n, s, replicas)
        if server.keeps(*times, replicas):
            yield replicas, server.at_work(n, s, replicas), times
            return


SPACES = [
    (asked(ttft=5.0, tpot=0.05), ("baseline", "fp8", "mhc:4x"), ("h200", "b200"), False),
    (
        asked(ttft=6.0, tpot=0.06, any_technique=True, quality=0.02),
        ("baseline", "int8", "h2o:50%"),
        ("h200", "b300"),
        False,
    ),
    (asked("chat", "qwen3-32b", any_technique=True), ("baseline", "fp8", "mhc:4x+h2o:20%"), ("h100", "l40s"), False),
    (asked("rag", "llama3.1-8b", confidence=0.8, forms=("bf16", "fp8")), ("baseline", "fp8"), ("h100", "a100"), False),
    (
        asked("rag", confidence=0.9, forms=(None, "fp8", "int4", "nvfp4"), native=True, quality=0.02),
        ("baseline", "fp8"),
        ("a100", "mi300x", "b200"),
        False,
    ),
    (asked("code-assistant", forms=(None, "fp8"), native=True), ("baseline", "fp8"), ("h100", "mi300x"), False),
    (asked("code-review", gpus=24, spares=1), ("baseline", "fp8", "int4"), ("h200", "b200"), False),
    (asked("agents", prefix_cache=False, headroom=0.2), ("baseline", "fp8"), ("b200", "b300"), False),
    (asked("batch-summaries"), ("baseline", "fp8"), ("h200", "b300"), False),
    (asked("rag", per_day=1.2e6, forms=("fp8",), confidence=0.9), ("baseline", "fp8"), ("mi300x",), False),
    (asked("doc-qa", per_day=6e4, ttft=5.0, forms=("fp8",), confidence=0.5), ("baseline", "fp8"), ("mi300x",), False),
    (asked("legal-contracts", "deepseek-v3", ttft=20.0, tpot=0.2), ("baseline", "fp8"), ("h200", "b300"), False),
    (asked("doc-qa", "llama3.1-8b", any_technique=True), ("baseline", "fp8", "streaming:4,4096"), ("h100",), True),
    (drafting("eagle3:3", "chat", "llama3.1-8b", forms=(None, "fp8")), ("baseline", "fp8"), ("h100",), False),
    (drafting("mtp", "chat", "deepseek-v3", forms=(None,)), ("baseline",), ("h200", "b200"), False),
]


@pytest.mark.parametrize(("demand", "names", "gpus", "owned"), SPACES, ids=lambda v: getattr(v, "workload", v) and None)
def test_an_exhaustive_slow_search_agrees(demand: Demand, names, gpus, owned: bool) -> None:
    sites = [site(name, owned=owned, model=demand.model.name) for name in gpus]
    qualities, formats = losses(demand, names)
    found = recommend(demand, names, sites, qualities, losses=formats)
    slow = list(twin(demand, names, sites, qualities, formats))
    assert found.plan == cheapest(demand, names, sites)
    assert (found.plan is None) == (not slow)
    assert slow, "a space without a plan tests nothing"
    plan, least = found.plan, min(row[0] for row in slow)
    near = [row for row in slow if row[0] <= least * (1 + TIE)]
    assert plan.usd <= least * (1 + TIE + 1e-9)
    mine = (plan.technique, plan.gpu, plan.form, plan.drafting)
    same = [r for r in near if (r[2], r[3], r[7], r[8]) == mine and r[0] == pytest.approx(plan.usd, rel=1e-9)]
    assert any(plan.ttft == pytest.approx(r[4]) and plan.tpot == pytest.approx(r[5]) for r in same)
    if demand.limits.e2e is None:
        assert any(plan.slo_probability == pytest.approx(r[6], abs=1e-5) for r in same)
        surest = max(r[6] for r in near)
        assert round(plan.slo_probability, 2) >= round(round(surest, 2) - RESOLVED, 2)
        sure = [r for r in near if round(r[6], 2) >= round(round(surest, 2) - RESOLVED, 2)]
        simple = min((r[2] != "baseline", r[7] is not None, r[8] is not None, r[1]) for r in sure)
        assert (plan.technique != "baseline", plan.form is not None, plan.drafting is not None, plan.gpus) <= simple
    least_gpus = recommend(demand, names, sites, qualities, losses=formats, objective="gpus").plan
    assert least_gpus.gpus == min(row[1] for row in slow)


@pytest.mark.parametrize(("workload", "objective"), [("code-assistant", "cost"), ("chat", "cost"), ("chat", "latency")])
def test_leaving_out_gpus_that_cannot_be_cheapest_changes_no_plan(workload: str, objective: str) -> None:
    demand, names = asked(workload, "llama3.1-8b", forms=(None, "fp8")), ("baseline", "fp8")
    found, _ = search(demand, names, [site(name, model="llama3.1-8b") for name in ("h100", "l40s", "b200", "mi300x")])
    book, pairs = Book(demand.smooth, *losses(demand, names)), [(n, form) for n in names for form in demand.forms]
    crowds = [Crowd(demand=demand.smooth, gpu_grid=one.gpu_grid) for one in found]
    every = book.choices([candidates(demand.smooth, one.gpu_grid) for one in found], pairs, objective)
    assert book.under_load(crowds, pairs, objective) == every[0]
    worked_out = ["times" in vars(one) for one in crowds]
    assert any(worked_out) and all(worked_out) == (objective != "cost")


def test_replicas_of_one_number_run_the_same_however_they_were_found() -> None:
    demand = asked("rag", per_day=1.4e6, forms=("fp8",), confidence=0.9)
    (one,), _ = search(demand, ("baseline", "fp8"), [site("mi300x")])
    moved = one.replicas != one.crowd.steady[1]
    assert moved.any(), "no number of replicas lies between those of two loads"
    rows, columns = np.nonzero(one.fits)
    seen = {}
    for i, j in zip(rows, columns, strict=True):
        here = one.running[i, j], one.gpu_seconds[i, j], one.served.busy[i, j]
        assert seen.setdefault((i, one.replicas[i, j]), here) == pytest.approx(here)
        assert one.running[i, j] <= one.gpu_grid.requests[i, j]
        cycle = one.gpu_seconds[i, j] * one.running[i, j] / one.grid.each[i, 0]
        assert demand.in_flight(cycle) <= one.running[i, j] * one.replicas[i, j] * (1 + 1e-9)  # Little
    assert len(seen) < len(rows), "no two loads ask for the same replicas"


# -- limits ---------------------------------------------------------------------------------------

NAMES = ("baseline", "fp8", "int4", "mhc:2x", "h2o:50%")
PLACES = ("h100", "h200", "b200", "mi300x")


def cost(demand: Demand, guesses: bool = False) -> float:
    found = cheapest(demand, NAMES, [site(g, model="qwen3-32b") for g in PLACES], guesses)
    return math.inf if found is None else found.usd


#: around what the cheapest plan without limits has (4.7 s, 42 ms, 27 s, 0.8 %, 16 GPUs, 94 %): so these bind often
TIGHT = {
    "ttft": st.floats(1.5, 6.0),
    "tpot": st.floats(0.018, 0.05),
    "e2e": st.floats(11.0, 30.0),
    "quality": st.floats(0.0, 0.012),
    "gpus": st.integers(8, 24),
    "confidence": st.floats(0.3, 0.97),
}


def test_what_is_installed_answers_other_limits_loads_and_prices_as_if_it_were_new() -> None:
    """What does not depend on them is worked out once; another model, workload or option is worked out anew."""
    usual: dict[str, object] = {"workload": "rag", "model": "llama3.1-8b", "ttft": 2.0}
    same = (
        {},
        {"ttft": 0.4},
        {"ttft": 0.9, "percentile": 0.99},
        {"per_day": 3e5, "headroom": 0.3, "spares": 2},
        {"dearer": 1.3},
    )
    other = ({"prefix_cache": False}, {"model": "qwen3-32b"}, {"forms": ("fp8",)})
    found, sizes = [], []
    for fresh in (False, True):
        INSTALLED.clear()
        for change in (*same, *other):
            asks = {**usual, **change}
            place = site("h100", factor=asks.pop("dearer", 1.0), model=asks["model"])
            found.append(cheapest(asked(**asks), ("baseline", "fp8"), [place]))
            sizes.append(len(INSTALLED))
            if fresh:
                INSTALLED.clear()
    assert sizes == [1, 1, 1, 1, 1, 2, 3, 4, *[1] * 8]
    assert found[:8] == found[8:] and None not in found and len({(plan.usd, plan.ttft) for plan in found}) == 8


@st.composite
def limits_and_one(draw):
    """Return limits, and the name of one that is among them: loosening one that is not there asks the same again."""
    which = draw(st.sampled_from(sorted(TIGHT)))
    limits = {name: draw(values if name == which else st.none() | values) for name, values in TIGHT.items()}
    return {**limits, "confidence": limits["confidence"] or 0.5}, which


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(asks=limits_and_one(), factor=st.floats(1.0, 4.0), guesses=st.booleans())
def test_loosening_a_limit_never_raises_the_cost(asks, factor: float, guesses: bool) -> None:
    limits, which = asks
    before = cost(asked("doc-qa", "qwen3-32b", **limits), guesses)
    if math.isinf(before):  # no plan: nothing costs more
        return
    looser = limits[which] / factor if which == "confidence" else limits[which] * factor
    most = before * (1 + TIE + 1e-9)  # costs so near count as equal, and the surer of them is taken
    assert cost(asked("doc-qa", "qwen3-32b", **{**limits, which: looser}), guesses) <= most
    if which != "confidence":
        assert cost(asked("doc-qa", "qwen3-32b", **{**limits, which: None}), guesses) <= most


def subsets(*names):
    return st.sets(st.sampled_from(names), min_size=1).map(lambda some: tuple(n for n in names if n in some))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    names=subsets("baseline", "fp8", "int4"), gpus=subsets("h100", "a100", "b200", "mi300x"),
    forms=subsets(None, "fp8", "int4", "nvfp4"), workload=st.sampled_from(["rag", "doc-qa", "chat"]),
    limit=st.none() | st.sampled_from([0.005, 0.02, 0.2]), native=st.booleans(),
    more=st.tuples(st.sampled_from(["baseline", "fp8"]), st.sampled_from(["h200", "l40s"]),
                   st.sampled_from(["fp8", None])),
)  # fmt: skip
def test_a_further_gpu_format_or_technique_never_raises_the_cost(
    names, gpus, forms, workload, limit, native, more
) -> None:
    @cache  # one that is already among them changes nothing
    def least(names, gpus, forms) -> float:
        demand = asked(workload, forms=forms, native=native, quality=limit, any_technique=True, confidence=0.9)
        found = cheapest(demand, names, [site(gpu) for gpu in gpus])
        return math.inf if found is None else found.usd

    before = least(names, gpus, forms) * (1 + TIE + 1e-9)
    name, gpu, form = more
    assert least(tuple(dict.fromkeys((*names, name))), gpus, forms) <= before
    assert least(names, tuple(dict.fromkeys((*gpus, gpu))), forms) <= before
    assert least(names, gpus, tuple(dict.fromkeys((*forms, form)))) <= before


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["doc-qa", "rag", "code-assistant", "batch-summaries"])
@pytest.mark.parametrize("gpu", ["h200", "mi300x"])
def test_twice_the_load_never_needs_fewer_gpus_nor_more_than_twice_as_many(workload: str, gpu: str) -> None:
    def needed(per_day: float) -> int:
        demand = asked(workload, per_day=per_day, forms=(None, "fp8"), confidence=0.9)
        return cheapest(demand, ("baseline", "fp8"), [site(gpu)]).gpus

    counts = [needed(1e3 * 2**k) for k in range(12)]
    assert all(a * (1 - TIE) <= b <= 2 * a * (1 + TIE) for a, b in pairwise(counts)), counts


def test_replicas_between_those_of_two_loads_and_of_less_than_a_request_are_found() -> None:
    """Rag's 16-fold load took 55 replicas, the next load's 36 were too few; doc-qa's fourfold one had none."""
    for workload, more, limits in (("rag", 16, {"confidence": 0.9}), ("doc-qa", 4, {"ttft": 5.0, "confidence": 0.5})):
        day = catalog.workload(workload).arrivals.queries_per_day
        few, many = (
            cheapest(asked(workload, per_day=n * day, forms=("fp8",), **limits), ("fp8",), [site("mi300x")])
            for n in (more / 2, more)
        )
        assert few.gpus < many.gpus <= 2 * few.gpus and few.parallel.gpus > 1, workload


# -- bursts ---------------------------------------------------------------------------------------


def test_a_burst_is_as_deep_as_a_log_shows() -> None:
    """Requests in flight that public logs stay under for 95 % of the time, were each in flight for so many seconds.

    From the arrivals of AzureLLMInferenceTrace_code (2.567 a second) and _conv (5.530 a second).
    """
    code, chat = asked("code-assistant"), asked("chat")
    for seconds, measured in ((1.0, 14), (2.0, 26), (5.0, 63), (10.0, 122)):
        assert float(code.crowd(2.567 * seconds)) == pytest.approx(measured, rel=0.2)
    for seconds, measured in ((1.0, 11), (2.0, 19), (5.0, 43), (10.0, 82)):
        assert float(chat.crowd(5.530 * seconds)) == pytest.approx(measured, rel=0.2)


@given(mean=st.floats(1e-3, 1e5), workload=st.sampled_from(["doc-qa", "code-assistant", "agents", "batch-summaries"]))
def test_what_is_sustained_is_the_crowd_read_backwards(mean: float, workload: str) -> None:
    demand = asked(workload)
    assert demand.sustained(float(demand.crowd(mean))) == pytest.approx(mean, rel=1e-9)
    assert demand.crowd(1.01 * mean) > demand.crowd(mean) >= mean


def test_bursts_have_a_price_and_the_answer_names_it(run) -> None:
    words = ("recommend", "-w", "code-assistant", "-m", "llama3.1-70b", "-g", "b300", "--on", ON)
    first = " ".join(run(*words).out.split("\n\n")[0].split())
    assert "An API costs " in first and " % as much: " in first and "Bursts drive the cost" in first
    cost = run(*words, "--json").json["recommended"]["usd_per_query"]
    assert cost["smooth_arrivals"] < 0.9 * cost["expected"]
    calm = run(*ASK, "-g", "b200", "--json").json["recommended"]["usd_per_query"]
    assert calm["smooth_arrivals"] is None


# -- no plan --------------------------------------------------------------------------------------

IMPASSES = [
    ("doc-qa", {"gpus": "b200", "max_gpus": 8}),
    ("rag", {"gpus": "h100", "max_gpus": 12}),
    ("rag", {"gpus": "h100", "max_quality_drop": "0.1%", "max_gpus": 8, "techniques": "fp8"}),
    ("doc-qa", {"gpus": "h100", "techniques": "h2o:20%"}),
    ("doc-qa", {"gpus": ("h100", "b200"), "ttft": "1s", "max_gpus": 4}),
    ("chat", {"gpus": ("l40s",), "tpot": "1ms"}),
    ("rag", {"gpus": "h100", "techniques": "mhc:8x", "max_quality_drop": "1%", "any_technique": True}),
    ("rag", {"gpus": "rtx-4090", "price": "0.5/h", "max_gpus": 2}),
    ("doc-qa", {"gpus": "v100-16gb", "price": "0.4/h"}),  # a smaller model
]


@pytest.mark.slow
@pytest.mark.parametrize(("workload", "limits"), IMPASSES)
def test_every_remedy_makes_a_plan_possible(workload: str, limits) -> None:
    from kvplan.api.recommend import recommend as question

    asked = {"workload": workload, "model": "llama3.1-70b", "on": ON, **limits}
    found = question(**asked)
    assert found.plan is None and found.remedies and "at once" not in found.lacking
    assert all(remedy.change in found.lacking for remedy in found.remedies[:3])
    costs = [remedy.plan.usd for remedy in found.remedies]
    assert costs == sorted(costs)
    typed = {"max_gpus": int, "any_technique": bool}
    for remedy in found.remedies:
        changes = (change.split("=", 1) for change in remedy.change.split(" and "))
        again = question(**{**asked, **{name: typed.get(name, str)(value) for name, value in changes}}).plan
        assert again is not None, remedy.change
        assert again.usd <= remedy.plan.usd * (1 + TIE + 1e-9)
        if remedy.change.startswith(("any_technique=", "max_quality_drop=")) and " and " not in remedy.change:
            assert again.usd == pytest.approx(remedy.plan.usd, rel=TIE), "what it costs is what was said"


def test_a_technique_that_may_not_be_used_is_offered_with_the_weights_it_would_be_planned_with() -> None:
    """any_technique=True was offered at $89,325 a month with the checkpoint's weights; asked so, it was $67,081."""
    ask = {"gpus": "h100", "techniques": "mhc:4x", "queries_per_day": 50_000, "ttft": "15s", "on": ON}
    found = kvplan.recommend("doc-qa", "llama3.1-70b", **ask)
    (offered,) = (r for r in found.remedies if r.change == "any_technique=True")
    asked_so = kvplan.recommend("doc-qa", "llama3.1-70b", any_technique=True, **ask)
    assert found.plan is None and offered.plan.usd == pytest.approx(asked_so.plan.usd, rel=TIE)
    assert (offered.plan.pair, offered.plan.gpus) == (asked_so.plan.pair, asked_so.plan.gpus)
    assert offered.plan.form == "fp8"


def test_what_a_time_is_at_least_holds_with_any_number_of_replicas(run) -> None:
    """TPOT was "at least 75.4 ms" under the load of full replicas, where 921 of them keep 40 ms."""
    ask = ("recommend", "-w", "code-assistant", "-m", "deepseek-v3", "-g", "mi300x", "--queries-per-day", "10000000")
    refused = run(*ask, "--tpot", "3ms", "--on", ON)
    said = re.search(r"TPOT is at least ([\d.]+) ms", refused.err)
    assert refused.code == 1 and said and float(said[1]) < 40
    doc = run(*ask, "--tpot", "40ms", "--on", ON, "--json").json
    assert float(said[1]) / 1e3 < doc["recommended"]["tpot"] <= 0.04
    changed = [x["change"] for x in run(*ask, "--tpot", "3ms", "--on", ON, "--json").json["remedies"]]
    assert changed and all("ttft" not in change for change in changed), "a limit that the plan keeps is not moved"


def test_a_remedy_moves_only_the_limits_that_its_plan_needs() -> None:
    from kvplan.api.recommend import recommend as question

    asked = {
        "workload": "rag", "model": "deepseek-v3", "gpus": ("h200", "a100"), "queries_per_day": 10_000_000,
        "percentile": "90%", "tpot": "5ms", "e2e": "4s", "on": ON,
    }  # fmt: skip
    found = question(**asked, max_gpus=2)
    assert found.plan is None and found.remedies
    for remedy in found.remedies:
        assert remedy.parameters == {"tpot", "e2e", "max_gpus"}, "TTFT stays at the workload's"
        changes = dict(change.split("=") for change in remedy.change.split(" and "))
        again = question(**{**asked, **changes, "max_gpus": int(changes["max_gpus"])})
        assert again.plan is not None and again.plan.usd <= remedy.plan.usd * (1 + TIE)


def test_the_gpus_that_are_needed_are_those_of_the_change(run) -> None:
    """The reason said 40 GPUs where the change beside it was --max-gpus 32."""
    ask = ("recommend", "-w", "code-assistant", "-m", "deepseek-v3", "-g", "b200", "--queries-per-day", "40000")
    refused = run(*ask, "--percentile", "99%", "--max-gpus", "9", "--on", ON)
    needed = re.search(r"(\d+) GPUs are needed to keep the other limits", refused.err)
    assert refused.code == 1 and needed and f"--max-gpus {needed[1]} (" in refused.err
    ask = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "h100", "--ttft", "10s", "-t", "fp8", "--on", ON)
    refused = run(*ask, "--max-gpus", "8")
    needed = re.search(r"where (\d+) GPUs are needed to keep the other limits", refused.err)
    assert needed and f"--max-gpus {needed[1]} (" in refused.err, "it said at least 18, which keep no limit of time"


def test_the_checkpoints_own_weights_are_offered_where_a_named_format_loses_too_much(run) -> None:
    ask = ("recommend", "-w", "rag", "-m", "llama3.1-70b", "-g", "h100", "--weights", "int4", "--on", ON)
    refused = run(*ask, "--max-quality-drop", "0%")
    assert refused.code == 1 and "--weights bf16 (uncompressed" in refused.err


def test_of_equal_costs_a_known_loss_comes_before_an_unknown_one() -> None:
    demand = asked("rag", "llama3.1-70b")
    found = answer(demand, ("baseline",), [site("h100")])
    surer = replace(found.plan, slo_probability=1.0, technique="fp8", quality=replace(found.plan.quality, drop=None))
    known = replace(found.plan, slo_probability=0.93)
    assert sorted([surer, known], key=rank("cost", Best(least=known.weighed, surest=0.93))) == [known, surer]


def test_of_equal_costs_odds_that_cannot_be_told_apart_leave_the_simpler_plan() -> None:
    """One point of odds, which may be what rounding leaves of none, picked an fp8 cache that may lose 13 %."""
    found = answer(asked("rag", "llama3.1-70b"), ("baseline",), [site("h100")]).plan
    plain = replace(found, slo_probability=0.95, quality=replace(found.quality, drop=0.0))
    packed = replace(plain, slo_probability=0.96, technique="fp8")
    best = Best(least=found.weighed, surest=0.96)
    assert sorted([packed, plain], key=rank("cost", best)) == [plain, packed]
    less = replace(plain, slo_probability=0.94)
    assert sorted([less, packed], key=rank("cost", best)) == [packed, less], "2 points are surer"
    lossy = replace(packed, quality=replace(found.quality, drop=0.008))
    assert sorted([lossy, packed], key=rank("cost", best)) == [packed, lossy], "of equals the one that loses less"
    assert preferred(plain, packed, "cost").startswith("costs within 1 % of the least count as equal, and so do odds")


def test_no_api_of_another_model_stands_for_one_that_sees() -> None:
    """Questions on a video were 11.8 times cheaper at an API of a model that reads text."""
    ask = {"gpus": "h100", "techniques": "baseline", "weights": "bf16", "on": ON}
    seen, read = (kvplan.recommend(w, "qwen2.5-vl-7b", **ask) for w in ("video-qa", "chat"))
    assert seen.plan is not None and not seen.break_even and read.break_even
    assert [t.term for t in read.terms if t.term == "API"] and not [t.term for t in seen.terms if t.term == "API"]


def test_a_plan_less_sure_than_sought_says_what_a_step_more_takes() -> None:
    """It said that no plan reached 5 points more than 57 %, where one on 96 GPUs kept the limits with 60 %."""
    ask = {"gpus": "h100", "techniques": ("baseline", "fp8"), "weights": "fp8", "tpot": 0.01, "on": ON}
    found = kvplan.recommend("code-assistant", "llama3.1-70b", **ask)
    share = found.demand.limits.confidence + 0.05
    above = kvplan.recommend("code-assistant", "llama3.1-70b", confidence=share, **ask).plan
    assert found.sought == 0.9 and above is not None and found.surer == above
    assert f"and {share:.0%} takes {above.gpus} GPUs at $".replace("%", " %") in headline.answer(found)
    none = replace(found, surer=None)
    assert f"and no plan reaches {share:.0%}.".replace("%", " %") in headline.answer(none)


def test_the_reason_is_the_limit_that_binds(run) -> None:
    ask = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "b200", "-t", "baseline", "-t", "fp8")
    found = run(*ask, "--spares", "0", "--max-gpus", "8", "--confidence", "85%", "--tpot", "80ms")
    assert found.code == 1 and "GPUs are needed to keep the other limits, more than --max-gpus 8" in found.err
    assert "The cheapest change that is enough: --" in found.err and "--max-gpus" in found.out


def test_other_gpus_are_looked_at_at_the_prices_of_your_own(run, tmp_path) -> None:
    (tmp_path / "ours.csv").write_text("gpu,price,currency\nh200,0.90,USD\n", "utf-8")
    ask = (*ASK, "--prices", str(tmp_path / "ours.csv"), "-t", "baseline", "--json")
    (other,) = [r for r in run(*ask, "-g", "l4").json["remedies"] if r["change"].startswith("--gpu")]
    assert other["change"] == "--gpu h200"
    found = run(*ask, "-g", "h200").json["recommended"]
    assert other["plan"]["gpus"] == found["gpus"]
    assert other["plan"]["usd_per_query"] == pytest.approx(found["usd_per_query"]["p50"])


def test_an_api_is_asked_for_what_the_plan_s_cache_does_not_hold() -> None:
    d, place = asked("code-review", "llama3.1-8b"), site("b200")
    found = answer(d, ["baseline"], [place]).plan
    assert 0 < found.cached_share < d.workload.prefix_share  # some prefixes are evicted
    assert cached_by(d, found) == int(found.cached_share * d.prompt)
    price = next(p for p in catalog.apis() if p.cached is not None)
    price, bill = replace(price, serves=d.model.name), bill_of(d, found, place)

    def charged(plan) -> float:
        ((_, even),) = volumes_of(d, plan, bill, [(1, 1.0)], [price], ON)
        return even.api_per_query

    less = charged(replace(found, cached_share=found.cached_share / 2)) - charged(found)
    assert less == pytest.approx((price.input - price.cached) * cached_by(d, found) / 2, rel=1e-3)


def test_a_gpu_in_a_price_list_of_ones_own_counts_as_named(tmp_path) -> None:
    """An L4, on which no server was measured, at $0.05: 7 carry what one MI300X does at five times the cost."""
    (tmp_path / "own.csv").write_text("gpu,provider,term,price\nl4,me,on-demand,0.05\n")
    asked = {"workload": "batch-summaries", "model": "llama3.1-8b", "prices": str(tmp_path / "own.csv"), "on": ON}
    found, named = kvplan.recommend(**asked), kvplan.recommend(**asked, gpus="l4")
    assert found.plan.gpu == "l4" and not found.plan.grounded
    assert found.plan.usd == pytest.approx(named.plan.usd) and found.plan.gpus == named.plan.gpus
    assert not any("no server was measured on it" in line for line in found.why)
    assert all(p.rated for p in (found.plan, *found.alternatives) if p.gpu == "l4")


def test_where_no_plan_is_sure_enough_the_surest_is_given_and_said(run) -> None:
    """Unasked, 90 % is what is sought; asked for, it is a limit like any other."""
    ask = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b", "-g", "b200", "--ttft", "3.87s", "--on", ON)
    doc, text = run(*ask, "--json").json, run(*ask).out
    plan = doc["recommended"]
    assert plan["confidence_sought"] == 0.9 > plan["slo_probability"] >= plan["confidence"] >= 0.5
    assert " ".join(text.split()).startswith(
        "Document Q&A"
    ) and "No plan keeps the latency limits with 90 %" in " ".join(text.split())
    assert any(x["change"].startswith("ttft=") or x["change"].startswith("--ttft") for x in doc["remedies"])
    assert not any("confidence" in x["change"] for x in doc["remedies"])
    more = f"{100 * plan['confidence'] + 5:.0f}%"
    assert run(*ask, "--confidence", "90%").code == run(*ask, "--confidence", more).code == 1
    assert run(*ask, "--confidence", f"{plan['confidence']:.0%}", "--json").json["recommended"]["gpus"] == plan["gpus"]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--max-gpus", "8"), ("--tpot", "12ms"), ("--confidence", "99%")])
def test_a_gpu_that_is_named_is_in_the_answer(run, flags) -> None:
    named = ["l4", "t4", "h100-sxm", "b200", "mi325x", "mi300x", "h200"]
    words = (*ASK, *(word for gpu in named for word in ("-g", gpu)), *flags)
    doc, text = run(*words, "--json").json, run(*words).out
    seen = {p["gpu"] for p in (doc["recommended"], *doc["alternatives"]) if p and p["served_by_engine"]}
    assert seen | {x["gpu"] for x in doc["rejected"] if x["reason"]} >= set(named)
    assert all(gpu in text for gpu in named)


def test_other_plans_are_of_other_gpus_and_other_techniques(run) -> None:
    """Not a table of one technique on eleven GPUs: each GPU once, each technique and weight format once."""
    doc = run(*ASK, "--json").json
    plans = [doc["recommended"], *doc["alternatives"]]
    kinds = [(p["technique"], p["weights"]) for p in plans]
    assert len(plans) <= len({p["gpu"] for p in plans}) + len(set(kinds))
    assert len(set(kinds)) > 3 and len({p["gpu"] for p in plans}) > 3


# -- weights --------------------------------------------------------------------------------------


def test_weight_formats_are_searched_unasked(run) -> None:
    ask = ("recommend", "-w", "rag", "-m", "llama3.1-70b", "-g", "h100", "--on", ON)
    doc = run(*ask, "--json").json
    plan = doc["recommended"]
    assert plan["weights"] == "fp8" and plan["quality"]["drop"] > 0 and plan["quality"]["known"]
    kept = run(*ask, "--weights", "bf16", "--json").json["recommended"]
    assert kept["weights"] == "bf16" and kept["usd_per_query"]["expected"] > 1.2 * plan["usd_per_query"]["expected"]
    left = {x["weights"]: x["reason"] for x in doc["rejected"] if x["weights"] and x["technique"] == "baseline"}
    assert "natively" in left["nvfp4"] and "--weights mxfp4" in left["mxfp4"]
    first = " ".join(run(*ask).out.split("\n\n")[0].split())
    assert "fp8 weights" in first and "Expected quality loss" in first


def test_a_format_is_tried_on_gpus_that_run_it_natively() -> None:
    demand = asked("rag", forms=(None, "fp8", "nvfp4"), native=True)
    for name, runs in (("a100", {None}), ("h100", {None, "fp8"}), ("mi355x", {None, "fp8"}),
                       ("b200", {None, "fp8", "nvfp4"})):  # fmt: skip
        one = search(demand, ["baseline"], [site(name)])[0][0]
        fitting = {s.form for s, fits in zip(one.grid.configurations, one.fits.any(axis=1), strict=True) if fits}
        assert fitting == runs
    named = search(asked("rag", forms=("nvfp4",)), ["baseline"], [site("h100")])[0][0]
    assert named.fits.any(), "a format that was asked for is planned with where it is unpacked too"


def test_a_gpu_nobody_measured_is_never_fallen_back_on() -> None:
    demand = asked("doc-qa", "qwen3-32b", any_technique=True)
    found = answer(demand, ("baseline",), [site("mi325x")], guesses=False)
    assert found.plan is None and "gpus=mi325x" in found.lacking
    assert answer(demand, ("baseline",), [site("mi325x")]).plan is not None


@pytest.mark.slow
def test_more_queries_never_lower_the_monthly_bill() -> None:
    monthly = 0.0
    for per_day in (10, 1e3, 5e3, 2e4, 4e4, 6e4, 1e5, 1e6, 1e7):
        plan = answer(asked(per_day=per_day), ("baseline", "fp8"), [site("h200"), site("b200")]).plan
        month = plan.usd * per_day / DAY * MONTH
        assert month >= monthly * (1 - 1e-9)
        monthly = month


def test_candidates_do_not_depend_on_what_else_is_searched() -> None:
    """An engine runs fewer sequences on small GPUs, also when a large one is in the same search."""
    demand = asked("chat", "llama3.1-8b")
    alone, _ = search(demand, ["baseline"], [site("l4", model="llama3.1-8b")])
    beside, _ = search(demand, ["baseline"], [site("l4", model="llama3.1-8b"), site("h200", model="llama3.1-8b")])
    most = demand.engine.limits(catalog.gpu("l4"))[0]
    for one in (alone[0], beside[0]):
        assert one.requests[one.fits].max() <= most
    assert int(alone[0].feasible.sum()) == int(beside[0].feasible.sum())


@pytest.mark.parametrize("technique", ["baseline", "int8:token", "turboquant:4", "mhc:4x:reconstruct", "mhc:4x+fp8"])
def test_a_technique_takes_as_long_beside_others_as_alone(technique: str) -> None:
    """Unpacking, rebuilding and fetching are amounts that the uncompressed cache beside it does not have."""
    demand, place = asked("doc-qa", forms=("fp8",), any_technique=True), site("h100")
    (alone,), _ = search(demand, [technique], [place])
    others = dict.fromkeys(("baseline", technique, "int4"))
    (beside,), _ = search(demand, list(others), [place])
    rows = [
        i for i, s in enumerate(beside.grid.configurations) if s.technique == alone.grid.configurations[0].technique
    ]
    assert len(rows) == len(alone.grid.configurations)
    for name in ("ttft", "tpot", "usd", "sure"):
        assert np.allclose(getattr(beside, name)[rows], getattr(alone, name), rtol=1e-9, atol=0), name


# -- money ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("workload", ["doc-qa", "chat", "batch-summaries"])
def test_the_bill_is_the_plan_and_its_lines_sum(workload: str, owned: bool) -> None:
    demand = asked(workload, "llama3.1-70b", spares=1, ttft=20.0)
    found = answer(demand, ("baseline", "fp8"), [site("h100", owned=owned)])
    lines, kinds = found.bill.lines_per("query"), found.bill.lines_per("query", "kind")
    assert sum(x.amount for x in lines) == pytest.approx(found.plan.usd, rel=1e-6)
    assert sum(x.amount for x in kinds) == pytest.approx(found.plan.usd, rel=1e-6)
    assert {x.name for x in lines} >= {"prefill", "decode weights", "decode KV", "idle", "spares"}
    assert ("power" in {x.name for x in kinds}) == owned
    month = sum(x.amount for x in found.bill.lines_per("month"))
    assert month == pytest.approx(found.plan.usd * demand.mean * MONTH, rel=1e-6)
    assert all(x.amount >= 0 for x in lines)
    home = site("h100", owned=owned)
    assert sum(seconds_by_part(demand, found.plan, home).values()) == pytest.approx(found.plan.gpu_seconds)


def test_the_parts_of_a_query_are_those_a_measured_draw_knows() -> None:
    from kvplan.money.draw import PROBES

    assert set(PARTS.values()) | {"prefill", "overhead"} == set(PROBES)


def test_doubling_a_price_doubles_its_lines() -> None:
    demand = asked()
    once = answer(demand, ("baseline",), [site("b200")])
    twice = bill_of(demand, once.plan, site("b200", factor=2.0))
    for a, b in zip(once.bill.lines, twice.lines, strict=True):
        assert b.amount == pytest.approx(2 * a.amount)
    assert answer(demand, ("baseline",), [site("b200", factor=2.0)]).plan.usd == pytest.approx(2 * once.plan.usd)


def drawn_costs(doubt: CostRange) -> np.ndarray:
    """Return draws of a cost: lognormal errors, loads and lengths, and any price between the offers."""
    rng, n = np.random.default_rng(7), 4000

    def drawn(low: float, high: float) -> np.ndarray:
        return errors(Range(low=low, high=high), rng.normal(size=n))

    price = np.quantile(doubt.site.price_factors, rng.random(n))
    return doubt.cost(drawn(doubt.pace.low, doubt.pace.high), price, drawn(*LOAD_RANGE), drawn(*LENGTH_RANGE))


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("workload", ["doc-qa", "batch-summaries", "chat"])
def test_the_point_is_the_middle_of_its_range(workload: str, owned: bool) -> None:
    """The middle is the plan's own cost; of draws of everything at once 72 to 92 % lie between P10 and P90."""
    for name in ("h100", "h200", "b200"):
        demand, here = asked(workload, headroom=0.1, spares=1), site(name, owned=owned)
        plan = answer(demand, ("baseline", "fp8"), [here]).plan
        doubt = CostRange(demand, plan, here)
        assert float(doubt.cost()) == pytest.approx(plan.usd, rel=1e-9)
        assert float(doubt.cost(price=2.0)) == pytest.approx(2 * plan.usd)
        low, middle, high = doubt.range()
        assert 0 < low <= middle <= high and middle == pytest.approx(plan.usd, rel=1e-9)
        drawn = drawn_costs(doubt)
        assert doubt.median() == pytest.approx(np.median(drawn), rel=0.03) and doubt.median() == doubt.median()
        assert 0.72 <= np.mean((drawn >= low) & (drawn <= high)) <= 0.92
        # offers far above the median, and a fleet that cannot shrink below a server, pull the middle of draws upwards
        assert 0.95 <= np.median(drawn) / middle <= 1.2
        paces = [float(doubt.cost(pace=p)) for p in (0.5, 1.0, 1.5, 3.0)]
        assert paces == sorted(paces) and paces[-1] > paces[0]
        widths = [abs(s.high - s.low) for s in doubt.swings()]
        assert widths == sorted(widths, reverse=True)


#: questions that a search for broken rules found: a converted model is in the bill, and was not in the range
CONVERTED = [
    {"workload": "legal-contracts", "model": "qwen3-30b-a3b", "gpus": "mi300x", "techniques": ("baseline", "mhc:4x"),
     "queries_per_day": 189_170, "ttft": 27.15, "tpot": 0.0376, "max_quality_drop": 0.03, "confidence": 0.5,
     "allow_long_context": True},
    {"workload": "medical-summaries", "model": "llama3.1-8b", "gpus": "h200", "techniques": "mhc:4x",
     "queries_per_day": 212_571, "ttft": 5, "tpot": 0.0327, "weights": "int4", "confidence": 0.5},
]  # fmt: skip


@pytest.mark.parametrize("question", CONVERTED, ids=lambda q: q["workload"])
def test_what_a_conversion_costs_is_in_the_bill_and_in_the_range(question) -> None:
    from kvplan.api.recommend import recommend as question_of

    r = question_of(**question, any_technique=True, on=ON)
    assert r.plan.technique == "mhc:4x" and "conversion" in " ".join(x.name for x in r.bill.lines)
    low, middle, high = r.usd
    assert low <= middle <= high and middle == pytest.approx(r.plan.usd, rel=1e-9)
    assert sum(x.amount for x in r.bill.lines) / r.demand.mean == pytest.approx(middle, rel=1e-9)
    assert sum(x.amount for x in r.energy) == pytest.approx(r.plan.joules, rel=1e-6)


def test_one_offer_is_as_uncertain_as_those_of_other_gpus() -> None:
    """Its range is that of a typical spread, not nothing; a price of one's own is certain."""
    several = site("b200")
    lone = replace(several, offers=several.offers[1:2], typical=(0.8, 1.0, 1.2, 2.0))
    mine = replace(lone, offers=(replace(several.offers[1], yours=True),))
    plan = answer(asked(), ("baseline",), [lone]).plan
    widths = [(found := CostRange(asked(), plan, each).range())[2] / found[0] for each in (mine, lone)]
    assert lone.lone_offer and not mine.lone_offer and not several.lone_offer
    assert widths[1] > 1.2 * widths[0]
    assert {s.basis for s in CostRange(asked(), plan, lone).swings()} >= {
        "one offer is known; spread of the offers of other GPUs, 10th to 90th percentile"
    }


def test_one_offer_wins_only_where_it_would_at_the_upper_end_of_a_spread() -> None:
    """A lone offer counts at the 90th percentile of a typical spread; what the plan costs stays the offer's."""
    several = site("h200")
    offer = replace(several.offers[0], price=several.price.price)
    spread = (0.7, 1.0, 1.0, 1.0, 1.5, 1.5)
    for share, wins in ((0.9, False), (0.6, True)):
        gpu = replace(several.gpu, name="h200-nvl")
        lone = replace(several, gpu=gpu, offers=(replace(offer, gpu="h200-nvl", price=share * offer.price),))
        lone = replace(lone, typical=spread).compared()
        assert lone.margin == pytest.approx(1.5)
        found = answer(asked(), ("baseline",), [several, lone])
        assert (found.plan.gpu == "h200-nvl") == wins
        both = {p.gpu: p for p in (found.plan, *found.alternatives)}
        assert both["h200-nvl"].usd == pytest.approx(share * both["h200"].usd, rel=1e-9)
    assert several.compared() is several


def test_the_default_comparison_raises_lone_offers_and_a_named_gpu_does_not(run) -> None:
    def margins(*flags: str) -> dict[str, float]:
        doc = run(*ASK, "--json", *flags).json
        return {p["gpu"]: p["price_margin"] for p in (doc["recommended"], *doc["alternatives"], *doc["front"])}

    default = margins()
    assert default["b300"] > 1.2 and default["b200"] == default["h100-sxm"] == default["h200"] == 1
    assert margins("--gpu", "b300") == {"b300": 1.0}
    said = run(*ASK, "--gpu", "b300").out
    assert "which rests on one offer" in " ".join(said.split())
    assert "the median of 3 offers" in " ".join(run(*ASK, "--gpu", "b200").out.split())


@pytest.mark.parametrize("workload", ["doc-qa", "legal-contracts", "chat", "batch-summaries"])
def test_every_figure_of_the_cost_is_the_same_figure(run, workload: str) -> None:
    """The bill's total, the month, the million tokens and an item agree; the range holds the point."""
    more = ("--ttft", "20s") if workload == "doc-qa" else ()
    doc = run("recommend", "-w", workload, "-m", "llama3.1-70b", "--on", ON, "--json", *more).json
    plan, asked_for = doc["recommended"], doc["workload"]
    cost = plan["usd_per_query"]
    assert cost["p10"] <= cost["p50"] <= cost["p90"] and cost["expected"] == pytest.approx(cost["p50"], rel=1e-9)
    for lines in ("lines", "kinds"):
        assert sum(x["usd_per_query"] for x in plan[lines]) == pytest.approx(cost["p50"], rel=1e-9)
    assert plan["usd_per_month"] == pytest.approx(cost["p50"] * asked_for["queries_per_day"] / DAY * MONTH)
    tokens = asked_for["input_tokens"] + asked_for["output_tokens"]
    assert plan["usd_per_million_tokens"] == pytest.approx(cost["p50"] / tokens * 1e6)
    paid = plan["terms"][0]
    assert paid["usd_per_month"] == pytest.approx(plan["usd_per_month"])
    assert paid["usd_per_gpu_hour"] * paid["gpus"] * MONTH / 3600 == pytest.approx(plan["usd_per_month"])
    items = {"doc-qa": ("document", 5), "legal-contracts": ("contract", 8), "batch-summaries": ("report", 1)}
    if workload in items:
        assert (plan["item"], plan["requests_per_item"]) == items[workload]
        assert plan["usd_per_item"] == pytest.approx(cost["p50"] * items[workload][1])
    else:
        assert "usd_per_item" not in plan


def test_the_price_of_an_item_stands_beside_that_of_a_query(run) -> None:
    said = " ".join(run("recommend", "-w", "legal-contracts", "-m", "llama3.1-70b", "--on", ON).out.split())
    assert "One contract takes 8 queries: $" in said and "a contract" in said and "a query (80 % interval $" in said
    assert "queries: $" not in run("recommend", "-w", "chat", "-m", "llama3.1-8b", "--on", ON).out


def test_energy_by_part_sums_with_the_gpus_that_wait() -> None:
    from kvplan.money.draw import measured_draw, rated_draw

    raw = {"idle": "70 W", "gemm": {"power": "690 W"}, "copy": {"power": "410 W"}}
    where = site("h100")
    rated = rated_draw(where.gpu, catalog.ownership())
    for draw in (rated, measured_draw(raw, rated.source, "mine.yaml")):
        for owned in (False, True):
            here = replace(site("h100", owned=owned), draw=draw)
            for objective in ("cost", "energy"):
                found = answer(asked(spares=1), ("baseline", "fp8"), [here], objective=objective)
                lines = {line.name: line.amount for line in found.energy}
                assert sum(lines.values()) == pytest.approx(found.plan.joules, rel=1e-9)
                assert lines["idle"] > 0 and lines["spares"] > 0 and min(lines.values()) >= 0
                assert ("unused" in lines) == bool(here.cost.whole(found.plan.gpus) - found.plan.gpus)


# -- whole servers and spares ---------------------------------------------------------------------


def test_owned_gpus_are_bought_by_the_server() -> None:
    """A plan of a few GPUs pays for all of its server; a line of the bill says so."""
    demand = asked("chat", "llama3.1-8b", per_day=2000)
    here = site("h100", owned=True, model="llama3.1-8b")
    found = answer(demand, ("baseline",), [here])
    assert found.plan.gpus < 8 and found.bill.gpus == 8
    lines = {x.name: x.amount for x in found.bill.lines_per("query")}
    assert lines["unused"] == pytest.approx((8 - found.plan.gpus) * here.cost.rate(None) / demand.mean)
    assert sum(lines.values()) == pytest.approx(found.plan.usd, rel=1e-9)
    table = staircase_of(demand, found.plan, found.bill, ((found.plan.in_flight, 1.0),))
    per_server = 8 // found.plan.parallel.gpus
    assert all(usd == table[0][1] for _, usd in table[:per_server])
    assert table[per_server][1] == pytest.approx(2 * table[0][1])


def test_offers_of_whole_servers_are_paid_for_whole() -> None:
    demand, here = asked("chat", "llama3.1-8b", per_day=2000), site("h100", model="llama3.1-8b")
    each = [replace(here, offers=(replace(here.offers[0], gpus=n),)) for n in (1, 8)]
    one, eight = (answer(demand, ("baseline",), [place]) for place in each)
    assert one.bill.gpus == one.plan.gpus < 8 == eight.bill.gpus
    assert eight.plan.usd == pytest.approx(8 / one.plan.gpus * one.plan.usd)


def test_a_spare_replica_is_planned_unless_nobody_waits(run) -> None:
    def spares(workload: str, *flags: str) -> tuple[int, float]:
        doc = run("recommend", "-w", workload, "-m", "llama3.1-8b", "-g", "h100", "--on", ON, "--json", *flags).json
        lines = {x["name"]: x["usd_per_query"] for x in doc["recommended"]["lines"]}
        return doc["recommended"]["spares"], lines["spares"]

    assert spares("batch-summaries") == (0, 0.0)
    one, two = spares("chat"), spares("chat", "--spares", "2")
    assert one[0] == 1 and one[1] > 0 and two == (2, pytest.approx(2 * one[1]))
    assert spares("chat", "--spares", "0") == (0, 0.0)


def test_one_table_has_rent_reserved_owned_and_api(run) -> None:
    doc = run(*ASK, "--gpu", "h100", "--json").json
    rows = doc["recommended"]["terms"]
    assert [r["term"] for r in rows] == ["on-demand", "reserved-1y", "reserved-3y", "spot", "community", "owned", "API"]
    volume = doc["workload"]["mean_rate"]
    for row in rows:
        assert row["usd_per_month"] == pytest.approx(row["usd_per_query"] * volume * MONTH)
    assert all(r["usd_per_gpu_hour"] > 0 for r in rows[:-1]) and rows[-1]["usd_per_gpu_hour"] is None
    assert rows[-1]["usd_per_query"] == doc["break_even"][0]["api_usd_per_query"]
    assert "The same load under other terms" in run(*ASK, "--gpu", "h100").out


def test_no_table_of_the_first_screens_goes_on_in_a_second_one_at_80_columns(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run(*ASK, "--gpu", "h100", "-t", "baseline").out
    assert "The same load under other terms" in said and "semianalysis-3yr-rental, one" in said
    assert "(continued)" not in said


def loads_of(one: Candidates, plan: Plan) -> tuple[tuple[int, float], ...]:
    """Return (requests in flight, seconds each takes) where a plan's replica keeps the latency limits."""
    i = row_of(one, plan)
    keeps = one.fits[i].copy()
    for name, met in one.meets.items():
        keeps &= met[i] | (name == GPUS)
    return tuple((int(n), float(s)) for n, s, ok in zip(one.requests[i], one.served.cycle[i], keeps, strict=True) if ok)


def test_a_growing_fleet_serves_what_its_plan_says() -> None:
    demand = asked()
    here = site("b200")
    found = answer(demand, ("baseline",), [here])
    one = search(demand, ["baseline"], [here])[0][0]
    table = staircase_of(demand, found.plan, found.bill, loads_of(one, found.plan))
    volumes = [volume for volume, _ in table]
    assert volumes == sorted(volumes)
    per_day = demand.mean * DAY
    n = found.plan.replicas
    assert volumes[n - 1] >= per_day * (1 - 1e-6)
    assert n == 1 or volumes[n - 2] < per_day
    assert table[n - 1][1] == pytest.approx(found.plan.usd * demand.mean * MONTH)


# -- probability ----------------------------------------------------------------------------------


def test_the_normal_table_is_close() -> None:
    z = np.linspace(-9, 9, 1801)
    assert np.max(np.abs(normal(z) - [NormalDist().cdf(float(x)) for x in z])) < 1e-6


def errors(found: Range, z):
    """Return true over predicted times, z standard deviations from their median on either side."""
    return np.exp(z * np.where(z < 0, -math.log(found.low), math.log(found.high)) / Z80)


def test_a_stated_chance_is_calibrated() -> None:
    """Of limits said to be kept with 80 %, 72 to 88 % are: the truth has the range's 10th and 90th percentiles."""
    rng = np.random.default_rng(3)
    for found in (Range(low=0.7, high=1.3), Range(low=0.4, high=2.5), Range(low=0.95, high=1.1)):
        predicted = rng.uniform(0.01, 10.0, 40_000)
        truth = predicted * errors(found, rng.normal(size=40_000))
        assert np.mean((truth >= found.low * predicted) & (truth <= found.high * predicted)) == pytest.approx(
            0.8, abs=0.01
        )
        limits = predicted * errors(found, rng.normal(0.0, 2.0, 40_000))
        stated = chance(predicted, limits, found)
        for level in (0.2, 0.5, 0.8, 0.95):
            near = np.abs(stated - level) < 0.05
            assert near.sum() > 100
            assert np.mean(truth[near] <= limits[near]) == pytest.approx(level, abs=0.08)
        assert chance(predicted, found.high * predicted, found) == pytest.approx(0.9, abs=1e-5)
        assert chance(predicted, predicted, found) == pytest.approx(0.5, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    ttft=st.floats(0.05, 20.0), tpot=st.floats(0.002, 0.3), tight=st.floats(0.2, 1.0),
    limits=st.fixed_dictionaries({"ttft": st.none() | st.floats(0.1, 20.0), "tpot": st.none() | st.floats(0.005, 0.3),
                                  "e2e": st.none() | st.floats(1.0, 200.0)}),
)  # fmt: skip
def test_probability_is_one_and_falls_as_a_limit_tightens(ttft, tpot, tight, limits) -> None:
    here = site("h200", model="qwen3-32b").calibration

    def sure(**found) -> float:
        demand = asked("doc-qa", "qwen3-32b", **found)
        return float(certainty(demand, here, np.array([[ttft]]), np.array([[tpot]]))[0, 0])

    whole = sure(**limits)
    assert 0 <= whole <= 1
    for name, limit in limits.items():
        tighter = (limit or {"ttft": 20.0, "tpot": 0.3, "e2e": 200.0}[name]) * tight
        assert sure(**{**limits, name: tighter}) <= whole + 1e-9
    if all(limit is None for limit in limits.values()):
        assert whole == 1


@pytest.mark.parametrize("e2e", [None, 60.0])
def test_all_limits_together_against_draws(e2e: float | None) -> None:
    """The chance of keeping TTFT, TPOT and their sum at once is that of two lognormal errors that go together."""
    c = site("h200").calibration
    demand = asked("medical-summaries", ttft=5.0, tpot=0.04, e2e=e2e)
    output = demand.workload.output.quantile(demand.limits.percentile)
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(2, 200_000))
    both = TOGETHER * one + math.sqrt(1 - TOGETHER**2) * other
    for ttft, tpot in ((4.0, 0.03), (3.0, 0.041), (6.0, 0.02), (1.0, 60.0 / output)):
        t, p = ttft * errors(c.ttft, both), tpot * errors(c.tpot, one)
        kept = np.mean((t <= 5.0) & (p <= 0.04) & (t + output * p <= (e2e or np.inf)))
        stated = float(certainty(demand, c, np.array([[ttft]]), np.array([[tpot]]))[0, 0])
        assert stated == pytest.approx(kept, abs=0.02)


def test_errors_that_go_together_keep_two_limits_more_often() -> None:
    c, demand = site("h200").calibration, asked(ttft=5.0, tpot=0.05)
    stated = float(certainty(demand, c, np.array([[5.0]]), np.array([[0.05]]))[0, 0])
    assert stated == pytest.approx(0.25 + math.asin(TOGETHER) / (2 * math.pi), abs=2e-3)  # Sheppard, 1899


def test_a_limit_on_the_whole_answer_alone_against_a_fine_sum() -> None:
    """Slices of TPOT's errors stand at their middles: thousands of them give the same to a thousandth."""
    c = site("h200").calibration
    demand = asked("medical-summaries", ttft=None, tpot=None, e2e=60.0)
    output = demand.workload.output.quantile(demand.limits.percentile)
    z = np.array([NormalDist().inv_cdf((k + 0.5) / 4000) for k in range(4000)])
    ttft, tpot = 10.0, 48.0 / output
    left = np.maximum(60.0 - output * tpot * errors(c.tpot, z), 1e-12)
    own = np.log(left / ttft) / np.where(left < ttft, -math.log(c.ttft.low), math.log(c.ttft.high)) * Z80
    exact = float(np.mean(normal((own - TOGETHER * z) / math.sqrt(1 - TOGETHER**2))))
    stated = float(certainty(demand, c, np.array([[ttft]]), np.array([[tpot]]))[0, 0])
    assert 0.2 < exact < 0.9 and stated == pytest.approx(exact, abs=1e-3)


# -- quality --------------------------------------------------------------------------------------


def test_unknown_quality_is_barred_only_when_a_limit_is_asked() -> None:
    sites = [site("h200"), site("b200")]
    free = answer(asked(any_technique=True), ("mhc:8x",), sites)
    assert free.plan is not None and free.plan.quality.drop is None
    barred = answer(asked(any_technique=True, quality=0.5), ("mhc:8x",), sites)
    assert barred.plan is None and "quality loss is unknown" in barred.rejected[0].reason
    assert barred.alternatives, "what would do without the bar is shown"


# -- the command ----------------------------------------------------------------------------------

ASK = ("recommend", "--workload", "doc-qa", "--model", "llama3.1-70b", "--ttft", "20s", "--on", ON)
PLAN = {"technique", "gpu", "tp", "replicas", "gpus", "ttft", "tpot", "usd_per_query", "usd_per_million_tokens",
        "usd_per_month", "slo_probability"}  # fmt: skip


def test_json(run) -> None:
    found = run(
        *ASK, "--queries-per-day", 40000, "--ttft", "20s", "--tpot", "50ms", "--max-quality-drop", "1%", "--json"
    )
    assert found.code == 0 and found.err == "" and found.json["schema"] == 1
    doc = found.json
    assert set(doc["recommended"]) >= PLAN | {"lines"}
    cost = doc["recommended"]["usd_per_query"]
    assert cost["p10"] <= cost["p50"] <= cost["p90"]
    assert sum(x["usd_per_query"] for x in doc["recommended"]["lines"]) == pytest.approx(cost["expected"], rel=1e-6)
    assert doc["recommended"]["ttft"] <= 20 and doc["recommended"]["tpot"] <= 0.05
    assert doc["recommended"]["gpus"] == doc["recommended"]["replicas"] * doc["recommended"]["tp"]
    assert all(set(p) >= PLAN for p in doc["alternatives"]) and doc["alternatives"]
    assert all(x["reason"] and (x["gpu"] or x["technique"]) for x in doc["rejected"]) and doc["rejected"]
    assert all(isinstance(line, str) for line in doc["why"]) and len(doc["why"]) >= 4
    assert doc["workload"]["queries_per_day"] == 40000


@pytest.mark.slow
def test_nothing_feasible_is_a_no_with_a_document(run) -> None:
    found = run(*ASK, "--ttft", "1ms", "--json")
    assert found.code == 1 and found.err.count("\n") == 1 and "TTFT is at least" in found.err
    assert found.json["recommended"] is None and found.json["why"] == []
    assert found.json["rejected"] and found.json["reason"] in found.err
    assert "no plan keeps every limit" in run(*ASK, "--ttft", "1ms").out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "model"),
    [
        (name, model)
        for name in catalog.names("workloads")
        for model in (("qwen2.5-vl-7b", "gemma3-27b") if name == "video-qa" else ("llama3.1-8b", "qwen3-coder-480b"))
    ],
)
def test_every_workload_gets_an_answer(run, workload: str, model: str) -> None:
    words = ("recommend", "-w", workload, "-m", model, "--allow-long-context", "--on", ON)
    found = run(*words, "--json")
    assert found.code == 0, found.err
    plan = found.json["recommended"]
    assert plan["confidence"] <= plan["slo_probability"] <= 1 and plan["confidence"] >= 0.5
    assert plan["confidence_sought"] == 0.9
    assert run(*words).out.startswith(found_title(workload))


def found_title(workload: str) -> str:
    return catalog.workload(workload).title


def test_a_cross_attention_model_keeps_pictures_out_of_its_prompt(run) -> None:
    tokens = {
        model: run("recommend", "-w", "video-qa", "-m", model, "-g", "h200", "--on", ON, "--json").json["workload"][
            "input_tokens"
        ]
        for model in ("llama3.2-11b-vision", "gemma3-27b")
    }
    assert tokens["llama3.2-11b-vision"] < tokens["gemma3-27b"] / 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--ttft", "-1s"), "--ttft: must be above zero, as in 5s"),
        (("--tpot", "fast"), "--tpot: expected a time such as '5s'"),
        (("--max-quality-drop", "5"), "write 5% if that is meant"),
        (("--max-quality-drop", "-1%"), "--max-quality-drop: expected a share"),
        (("--price", "3/h"), "--price: name the one GPU it is for with --gpu"),
        (("--price", "3/h", "--gpu", "h100", "--own"), "--price, --own: give one of them"),
        (("--own", "--gpu", "l40s"), "write it under servers"),
        (("--gpu", "h100", "--term", "lunar"), "no lunar price of h100-sxm"),
        (("--term", "lunar"), "no lunar price on"),
        (("--term", "lunar"), "; write --term community or on-demand or owned-hyperscaler or"),
        (("--percentile", "101%"), "as in 95%"),
        (("--speculative", "medusa"), "or write mtp or eagle3"),
        (("--queries-per-day", "0"), "as in 40000"),
        (("--queries-per-day", "many"), "--queries-per-day: expected a number of queries"),
        (("--rate", "1/s", "--queries-per-day", "5"), "give one of them, not both"),
        (("--percentile", "30%"), "from 50% to below 100%"),
        (("--confidence", "100%"), "--confidence: expected a share"),
        (("--technique", "fpp8"), "did you mean 'fp8'"),
        (("--gpu", "h1000"), "no GPU named 'h1000'"),
        (("--save", "plan.txt"), "ends with .json"),
        (("--save", "nowhere/plan.json"), "cannot be written"),
        (("--quality", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, flags, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*ASK, *flags)
    contradicts = "give one of them" in says  # wrong usage, as everywhere
    assert found.code == (2 if contradicts else 1) and found.out == "", found.out[:200]
    assert found.err.count("\n") == 1 and says in found.err
    assert not list(tmp_path.iterdir())


def test_an_unknown_workload_suggests_the_nearest(run) -> None:
    found = run("recommend", "-w", "docqa", "-m", "llama3.1-70b")
    assert found.code == 1 and "did you mean 'doc-qa'" in found.err


def test_limits_can_be_lifted_and_volumes_written_in_words(run) -> None:
    free = run(*ASK, "--ttft", "none", "--tpot", "none", "--json").json
    assert free["limits"]["ttft"] is None and 0.9 <= free["recommended"]["slo_probability"] <= 1
    assert run(*ASK, "--queries-per-day", "40,000", "--json").json["workload"]["queries_per_day"] == 40000
    assert run(*ASK, "--rate", "0.5/s", "--json").json["workload"]["mean_rate"] == pytest.approx(0.5)


def test_what_the_reader_must_know_comes_first(run) -> None:
    flags = ("recommend", "-w", "doc-qa", "-m", "llama3-70b", "--allow-long-context")
    assert "llama3.1-70b has the same shape" in run(*flags, "--on", ON, "--json").json["warnings"][0]
    assert "Note: Llama 3 70B supports 8,192 tokens" in run(*flags, "--on", ON).out
    late = run(*ASK[:-1], "2028-01-01", "--json").json["warnings"]
    assert any("was last seen on" in warning for warning in late)


def test_owned_gpus_without_a_server_price_are_rejected_with_a_reason(run) -> None:
    doc = run(*ASK, "--own", "-g", "h100", "-g", "l40s", "--ttft", "20s", "--json").json
    assert doc["recommended"]["gpu"] == "h100-sxm"
    assert any(x["gpu"] == "l40s" and "servers:" in x["reason"] for x in doc["rejected"])
    assert {x["name"] for x in doc["recommended"]["kinds"]} >= {"capital", "power", "staff"}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tables_keep_their_figures_on_narrow_terminals(width: int) -> None:
    from kvplan.report import recommend as wording
    from kvplan.report.formats import Report, Screen, render
    from kvplan.units import show_time, show_usd

    found = answer(asked(any_technique=True, tpot=0.1), NAMES[:2], [site(g) for g in PLACES], guesses=False)
    report = Report(lambda: wording.page(found), lambda: wording.document(found))
    text = render(report, "text", Screen(width=width))
    assert max(map(len, text.splitlines())) <= width
    for title, kind in (
        ("Best plan on each GPU", "gpu"),
        ("Best plan with each technique and weight format", "technique"),
    ):
        table = text[text.index(title) :].partition("\n\n\n")[0]
        plans = {getattr(p, kind): p for p in reversed((found.plan, *found.alternatives)) if p.served_by_engine}
        assert len(plans) > 1
        for plan in plans.values():
            row = [str(plan.parallel), show_time(plan.ttft), show_time(plan.tpot), show_usd(plan.usd)]
            named = [x for x in table.splitlines() if x.startswith(plan.technique) and plan.gpu in x]
            assert all(any(cell in line for line in named) for cell in row), row
        assert "P95 TTFT" in table and "P95 TPOT" in table


def test_a_gpu_of_small_nodes_leaves_the_others_their_tensor_parallelism(run) -> None:
    """H100 NVLs are bridged in pairs; beside them an H200 still splits over up to eight."""
    base = ("recommend", "-w", "doc-qa", "-m", "llama3.1-70b", "-t", "baseline", "--queries-per-day", "4000")
    base = (*base, "--ttft", "20s", "--json")
    alone, beside = (
        json.loads(run(*base, *(word for gpu in gpus for word in ("-g", gpu))).out)["recommended"]
        for gpus in (("h200",), ("h200", "h100-nvl"))
    )
    assert alone["tp"] > 2 and alone["gpu"] == beside["gpu"] == "h200"
    assert {name: alone[name] for name in ("tp", "pp", "gpus")} == {name: beside[name] for name in ("tp", "pp", "gpus")}


# -- other ways to ask ----------------------------------------------------------------------------


def test_requests_all_alike_need_no_workload(run) -> None:
    words = f"recommend -m llama3.1-70b --isl 4000 --osl 500 --ttft 2s -g h200 --on {ON}".split()
    doc = run(*words, "--rate", "2/s", "--json").json
    assert (doc["workload"]["input_tokens"], doc["workload"]["output_tokens"]) == (4000, 500)
    assert doc["workload"]["peak_rate"] == doc["workload"]["mean_rate"] == pytest.approx(2.0)
    plan = doc["recommended"]
    cost = 4000 * plan["usd_per_million_input_tokens"] + 500 * plan["usd_per_million_output_tokens"]
    assert cost / 1e6 == pytest.approx(plan["usd_per_query"]["expected"])
    for flags, says in (
        ((), "--rate, --queries-per-day: give one of them"),
        (("--rate", "2/s", "-w", "rag"), "--workload, --isl, --osl: give either"),
    ):
        found = run(*words, *flags)
        assert found.code == 2 and says in found.err  # wrong usage
    assert "--workload: name one, or give --isl and --osl" in run("recommend", "-m", "llama3.1-8b").err


def test_what_if_is_the_same_question_asked_again(run) -> None:
    ask = ("recommend", "-w", "rag", "-m", "llama3.1-70b", "-g", "h100", "-t", "baseline", "--on", ON)
    rows = run(*ask, "--vary", "load=1,10", "--vary", "price=1.99,3.98", "--json").json["variations"]
    assert [row["changed"] for row in rows] == [
        {"load": load, "price": price} for load in (1, 10) for price in (1.99, 3.98)
    ]
    one, dearer, ten, _ = (row["recommended"] for row in rows)
    assert dearer["usd_per_query"] == pytest.approx(2 * one["usd_per_query"]) and ten["gpus"] > one["gpus"]
    alone = run(*ask, "--price", "1.99", "--json").json["recommended"]
    assert alone["usd_per_query"]["expected"] == pytest.approx(one["usd_per_query"])
    text = run(*ask, "--vary", "max-gpus=4,24").out
    assert "What if" in text and "no plan keeps every limit" in text


@pytest.mark.parametrize(
    ("said", "says"),
    [("any@0.19", "any has no releases; name one engine, as in vllm@0.19"), ("VLLM@0.5", "write vllm@0.6"),
     ("TensorRT-LLM@0", "write trtllm@1.0"), ("Llama.cpp", "no servers of 'Llama.cpp' were measured")],
)  # fmt: skip
def test_an_engine_has_its_names_in_any_case(run, said: str, says: str) -> None:
    found = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "baseline", "--engine", said)
    assert found.code == 1 and found.err.count("\n") == 1 and says in found.err
    assert values.engine(" SGLang@0.5.16", "engine", ("vllm", "sglang")) == "sglang@0.5.16"


def test_a_plan_that_no_command_starts_says_why(run) -> None:
    ask = ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "fp8", "--on", ON)
    old = " ".join(run(*ask, "--engine", "vllm@0.7").out.split())
    first = catalog.described_releases("vllm")[0]
    assert f"are not known, so no command starts this plan; they are from --engine {first} on" in old
    assert "vllm serve" not in old and "no command starts" not in run(*ask, "--engine", first).out


@pytest.mark.parametrize(
    ("name", "said", "given", "asked"),
    [
        ("price", "-20%", "2.50/h", "2/h"), ("price", "+10%", 3, 3.3), ("ttft", "+10 %", "500 ms", "550 ms"),
        ("queries_per_day", "-50%", "40,000", 20_000), ("load", "+200%", 1.0, 3), ("price", "-50%", "$3/h", "$1.5/h"),
        ("max_quality_drop", "-20%", "1%", "0.8%"), ("max_quality_drop", "1%", "2%", "1%"), ("load", 2, 1.0, 2),
        ("isl", "-20%", "4k", 3277), ("osl", "+50%", 4097, 6146), ("price", "+10%", "€2/h at 1.1", "€2.2/h at 1.1"),
        ("price", "-50%", "EUR 2.50/h at 1.1", "EUR 1.25/h at 1.1"), ("max_quality_drop", "-100%", "1%", "0%"),
    ],
)  # fmt: skip
def test_a_change_by_a_share_is_of_what_was_given(name: str, said: object, given: object, asked: object) -> None:
    assert axes_of({name: [said]}, {name: given}) == [{name: asked}]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("load", "write name=a,b"), ("speed=1", "cannot be varied"), ("own=1", "cannot be varied"),
        ("load=" + ",".join(map(str, range(1, 99))), "more than 64"),
        ("max-gpus=x", "--vary max_gpus: expected from 1"),
        ("price=-20%", "--vary: price: '-20%' is a change of a price that is not given; give it too"),
        ("load=-120%", "--vary: load: '-120%' is below nothing"),
        ("gpu=+10%", "--vary: gpus: '+10%' changes gpus by a share, and it is no amount; write values"),
        ("on=+10% --on 2026-11-24", "changes on by a share, and it is no amount; write values"),
        ("headroom=+20%", "'+20%' changes headroom by a share, and it is '0'; write values"),
        ("price=-100% --price 2.49/h", "--vary price: must be above zero"),
        ("load=1 --vary load=3", "--vary: load stands twice; write its values once, as in load=1,3,10"),
        ("progress=1", "'progress' cannot be varied"),
        ("load=1,0", "kvplan: --vary load: must be from"), ("technique=fp9", "--vary: no technique named 'fp9'"),
    ],
)  # fmt: skip
def test_a_wrong_what_if_is_one_line(run, said: str, says: str) -> None:
    found = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "baseline", "--vary", *said.split())
    assert found.code == 1 and found.err.count("\n") == 1 and says in found.err


def test_any_engine_is_the_best_of_all(run) -> None:
    ask = ("recommend", "-w", "rag", "-m", "qwen3-32b", "-g", "h100", "-t", "baseline", "-t", "fp8", "--on", ON)
    doc = run(*ask, "--engine", "any", "--json").json
    each = {name: run(*ask, "--engine", name, "--json").json["recommended"] for name in ("vllm", "trtllm", "sglang")}
    assert {x["engine"] for x in doc["engines"]} == set(each)
    least = min(plan["usd_per_query"]["expected"] for plan in each.values() if plan)
    assert doc["recommended"]["usd_per_query"]["expected"] <= least * (1 + TIE + 1e-9)
    assert doc["recommended"]["engine"] == doc["engine"]
    assert all(x["calibration"]["doubt"] for x in doc["engines"] if x["recommended"])


def test_of_equal_costs_the_surer_plan_is_taken(run) -> None:
    """Ninety percent unless one says otherwise, and at the same price never a plan less sure by more than a point."""
    ask = ("recommend", "-w", "rag", "-m", "llama3.1-70b", "-g", "h100", "--on", ON)
    doc = run(*ask, "--json").json
    plan, others = doc["recommended"], [p for p in doc["alternatives"] if p["served_by_engine"]]
    assert doc["limits"]["confidence"] == 0.9 and plan["slo_probability"] >= 0.9
    cost = plan["usd_per_query"]["expected"]
    near = [p for p in others if p["usd_per_query"] <= cost * (1 + TIE)]
    sure = round(plan["slo_probability"], 2) + RESOLVED  # what plans are told apart by; of equals the simpler
    assert near and all(sure >= round(p["slo_probability"], 2) - 1e-9 for p in near)
    surest = max(p["slo_probability"] for p in (plan, *near))
    equal = [p for p in near if round(p["slo_probability"], 2) >= round(surest - RESOLVED, 2)]
    assert plan["technique"] == "baseline" or all(p["technique"] != "baseline" for p in equal)
    even = run(*ask, "--confidence", "50%", "--json").json["recommended"]["usd_per_query"]["expected"]
    assert even <= cost * (1 + TIE)
    assert "Even odds of keeping the limits (--confidence 50%)" in run(*ask).out


def test_a_technique_that_no_gpu_runs_is_the_reason_not_the_memory(run) -> None:
    found = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "-t", "nvfp4", "--on", "2026-11-24")
    assert found.code == 1 and "NVIDIA H100 SXM 80 GB is none" in found.err
    assert "no replica within one node" not in found.out + found.err
    large = run("recommend", "-w", "chat", "-m", "llama3.1-405b", "-g", "l4", "-t", "baseline", "--weights", "bf16")
    assert "no replica within one node holds the model" in large.err


def test_a_simulation_that_contradicts_a_plan_is_told_first() -> None:
    from kvplan.api.recommend import ODDS_MARGIN, contradictions

    plan = SimpleNamespace(slo_probability=0.92)
    told = list(contradictions([SimpleNamespace(odds=0.06, plan=plan, replicas=14)]))
    assert told == [
        "a simulation of the busiest hour keeps the limits with 6 % probability, not 92 %: "
        "it takes 14 replicas to be as sure as was asked"
    ]
    none = SimpleNamespace(odds=0.0, plan=plan, replicas=None)
    assert "takes no number of replicas" in next(contradictions([none]))
    assert list(contradictions([SimpleNamespace(odds=0.92 - 0.9 * ODDS_MARGIN, plan=plan, replicas=8)])) == []
    assert list(contradictions([])) == []


@pytest.mark.parametrize(
    "asked", [("recommend", "-w", "chat"), ("estimate", "-c", "8k"), ("load", "--isl", "99", "--osl", "9")]
)
def test_an_engine_is_planned_only_where_it_runs(run, asked) -> None:
    """TensorRT-LLM runs on NVIDIA's GPUs alone: refused where no other is named."""
    refused = run(*asked, "-m", "llama3.1-8b", "-g", "mi300x", "--engine", "trtllm")
    assert refused.code == 1 and "TensorRT-LLM runs on GPUs of NVIDIA alone, not on mi300x" in refused.err


def test_a_gpu_on_which_an_engine_does_not_run_is_left_out(run) -> None:
    ask = ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "mi300x", "--on", ON)
    doc = run(*ask, "-g", "h100", "--engine", "trtllm", "--json").json
    assert {p["gpu"] for p in (doc["recommended"], *doc["alternatives"])} == {"h100-sxm"}
    assert ("mi300x", "TensorRT-LLM runs on GPUs of NVIDIA alone") in [(x["gpu"], x["reason"]) for x in doc["rejected"]]
    assert run(*ask, "--engine", "any", "--json").json["recommended"]["engine"] != "trtllm"


def test_formats_that_alone_were_asked_about_are_compared_with_none(run) -> None:
    """Nothing is said of the checkpoint's format or of no technique where neither was searched."""
    ask = f"recommend -m llama3.1-8b --isl 500 --osl 30 --rate 40/s --ttft 1s -g h100 --on {ON}".split()
    for only in (("--weights", "bf16"), ("--weights", "fp8"), ("-t", "fp8")):
        ran = run(*ask, *only)
        assert ran.code == 0 and "no plan keeps the limits" not in ran.out
        assert ("needs a checkpoint" in ran.out) is False
    assert "needs a checkpoint with nvfp4" in " ".join(run(*ask, "-g", "b200", "--weights", "nvfp4").out.split())


def test_a_technique_that_cannot_act_on_a_model_is_left_out_before_the_model_is_changed(run) -> None:
    """MLA has no heads to merge: another technique on the same model and GPUs is enough."""
    ask = ("recommend", "-w", "chat", "-m", "deepseek-v2-lite", "-g", "h200", "--on", "2026-11-24", "--json")
    found = run(*ask, "-t", "mhc:4x")
    assert found.code == 1 and "no technique can be applied to this model" in found.err
    first, *more = found.json["remedies"]
    assert first["change"].startswith("--technique ") and "--model" not in first["change"]
    technique = first["change"].removeprefix("--technique ")
    done = run(*ask, "-t", technique).json["recommended"]
    assert first["plan"]["usd_per_month"] == pytest.approx(done["usd_per_month"])
    assert not [one for one in more if "--model" in one["change"]]


def test_fewer_replicas_are_sought_on_the_gpus_that_are_left_beside_the_spares() -> None:
    """4 replicas of 2 GPUs break the limits, 10 keep them: the next, 5 and a spare, take 12 GPUs."""
    grid = SimpleNamespace(each=np.array([[2.0, 2.0]]))
    crowd = SimpleNamespace(
        gpu_grid=SimpleNamespace(fits=np.array([[True, True]]), grid=grid),
        steady=(None, np.array([[10.0, 4.0]]), None), demand=SimpleNamespace(spares=1),
    )  # fmt: skip
    keeps = np.array([[True, False]])
    assert bracket(crowd, keeps, np.array([12.0])).rows.size == 0
    found = bracket(crowd, keeps, np.array([13.0]))
    assert (found.low.tolist(), found.high.tolist(), found.columns.tolist()) == ([4.0], [10.0], [1])


def test_across_confidences_a_looser_question_never_costs_more_and_a_surer_plan_says_so() -> None:
    """Unasked, a TTFT of 78 ms gets the surest plan there is; 89 ms reach 90 % and cost more, and why is said."""
    ask = {"model": "llama3.1-8b", "gpus": "h100", "techniques": "baseline", "weights": "fp8", "on": ON}
    unasked = kvplan.recommend("chat", ttft=0.078, **ask)
    share, usd = unasked.demand.limits.confidence, unasked.plan.usd
    assert unasked.sought == 0.9 > share and unasked.remedies[0].plan.usd > usd
    (tight, loose), (sure_tight, sure_loose) = (
        [kvplan.recommend("chat", confidence=c, ttft=ttft, **ask).plan for ttft in (0.078, 0.089)] for c in (share, 0.9)
    )
    assert tight.usd == usd and loose.usd <= usd * (1 + TIE), "a looser limit at one confidence"
    assert sure_tight is None and loose.usd <= sure_loose.usd * (1 + TIE), "a lower confidence under one limit"
    assert f"with confidence={share:.0%} a looser limit never costs more" in remedies_words(unasked).text


def test_twice_an_offline_load_takes_at_most_twice_the_gpus() -> None:
    """11 GPUs did for half of it and 23 for all, since only numbers that some batch just fills were tried."""
    ask = {"gpus": "h100", "techniques": "fp8", "weights": "fp8", "on": ON}
    plans = [kvplan.recommend("batch-summaries", "llama3.1-8b", queries_per_day=q, **ask).plan for q in (1.6e6, 3.2e6)]
    assert plans[0].gpus == 10 and plans[1].gpus <= 20
    assert all(plan.slo_probability >= 0.9 for plan in plans)
    fewer = kvplan.recommend("batch-summaries", "llama3.1-8b", queries_per_day=3.2e6, max_gpus=plans[1].gpus - 1, **ask)
    assert fewer.plan is None


def test_odds_are_at_most_those_of_keeping_up() -> None:
    """Replicas of chat that are 85 % full were stated to keep the limits with 98 %; one in twenty would fall behind."""
    ask = {"queries_per_day": 13.1e6, "gpus": "h100", "techniques": "fp8", "weights": "fp8", "on": ON}
    full = kvplan.recommend("chat", "llama3.1-8b", **ask)
    fullness = PlannedReplica(demand=full.demand, plan=full.plan, site=full.site).fullness
    keeping_up = float(chance(fullness, 1.0, full.site.calibration.tpot))
    assert 0.8 < fullness < 0.85 and 0.9 < full.plan.slo_probability <= keeping_up + 1e-3 < 0.97


def test_where_waits_have_no_limit_replicas_keep_up_as_surely_as_is_asked() -> None:
    """12 replicas were recommended for 500 requests a second at 96 % of what they can do: TTFT of 30 minutes at P95.

    Where steps take as long as in one of ten cases, replicas at 1 over that factor are just full.
    """
    ask = {"isl": 1000, "osl": 100, "rate": 500, "gpus": "h100", "techniques": "fp8", "weights": "fp8", "on": ON}
    sure, even = (kvplan.recommend(None, "llama3.1-8b", confidence=c, **ask) for c in (None, "50%"))
    high = sure.site.calibration.tpot.high
    full, fuller = (PlannedReplica(demand=a.demand, plan=a.plan, site=a.site).fullness for a in (sure, even))
    assert full <= 1.001 / high < fuller <= 1 and even.plan.slo_probability < 0.9 <= sure.plan.slo_probability
    assert sure.plan.ttft < 1 and "No latency limit is set: TTFT " in headline.answer(sure)


def test_what_runs_at_once_is_told_apart_from_what_the_server_is_started_to_take() -> None:
    found = kvplan.recommend("chat", "llama3.1-8b", gpus="h100", techniques="fp8", on=ON)
    argv = document(found)["recommended"]["launch"]["argv"]
    most = int(argv[argv.index("--max-num-seqs") + 1])
    runs = f"Each replica runs {found.plan.in_flight} requests at once (its server accepts up to {most:,})."
    assert found.plan.in_flight < most and found.why[0].startswith(runs)


def test_what_may_not_be_used_is_marked_as_priced_with_one_weight_format(run) -> None:
    """24 GPUs stood in the table, and 14 in the remedy, which tries every weight format."""
    ask = ("recommend", "-w", "rag", "-m", "llama3.1-70b", "-g", "h200", "-t", "mhc:4x", "--on", ON)
    said = "What may not be used is priced with the checkpoint's own weights alone; with others it may cost less."
    for more in ((), ("--full",)):
        assert " ".join(run(*ask, *more).out.split()).count(said) == 1
        assert said not in " ".join(run(*ask, *more, "--weights", "fp8").out.split()), "nothing else is tried"
    assert said not in " ".join(run(*ask, "--any-technique").out.split())


def test_users_are_counted_as_load_counts_them(run) -> None:
    """What GPUs serve at most comes from so many users (Little's law); as many ask for so many queries a day."""
    ask = {"gpus": "h100", "techniques": "fp8", "weights": "bf16", "on": ON}
    most = kvplan.capacity("chat", "llama3.1-8b", "h100", 2, technique="fp8", weights="bf16", on=ON)
    assert most.users is not None and most.answered < most.demand.workload.between_questions == 60.0
    found = kvplan.recommend("chat", "llama3.1-8b", users=most.users, **ask)
    assert found.demand.workload.arrivals.queries_per_day == pytest.approx(most.queries_per_day)
    assert found.demand.peak * 60.0 == pytest.approx(most.users)
    assert any("users at work in the busiest hour: each asks every 60.0 s" in note for note in found.warnings)
    flat = kvplan.recommend(None, "llama3.1-8b", isl=500, osl=30, users="6k", **ask)
    assert flat.demand.mean == flat.demand.peak == pytest.approx(100.0)
    usual = kvplan.recommend("chat", "llama3.1-8b", vary="users=600", **ask)
    assert any(line.startswith("users are those at work in the busiest hour: each asks") for line in usual.warnings)
    varied = kvplan.recommend("chat", "llama3.1-8b", users=600, vary="users=+100%", **ask).variations[0].answer
    assert varied.demand.peak == pytest.approx(20.0)


def test_users_do_not_ask_again_before_their_answer_is_there() -> None:
    """As load counts them: in the busiest hour as many wait or read as were asked for (Little's law)."""
    ask = {"gpus": "h200", "techniques": "fp8", "weights": "bf16", "on": ON}
    lone = kvplan.recommend(None, "llama3.1-8b", isl=500, osl=20_000, users=1.5, **ask)
    most = kvplan.capacity("legal-contracts", "llama3.1-70b", "h200", 32, technique="fp8", weights="bf16", on=ON)
    assert most.users is not None
    seen: list[float] = []
    asked = {"users": most.users, "progress": lambda share, _: seen.append(share)}
    clerks = kvplan.recommend("legal-contracts", "llama3.1-70b", **asked, **ask)
    assert any(later < share for share, later in itertools.pairwise(seen)), "each volume that is tried is told"
    for found, users, between in ((lone, 1.5, 60.0), (clerks, most.users, 5.0)):
        assert found.plan is not None
        answered = found.plan.answered(found.demand.output)
        assert answered > between and 0.98 * users <= found.demand.peak * answered <= 1.05 * users
        (note,) = (line for line in found.warnings if "at work" in line)
        assert note.startswith(f"{users:.3g} users at work") and f"which takes {show_time(answered)}" in note
    assert clerks.plan is not None and clerks.plan.gpus <= most.gpus + 8, "88 for a question every five seconds"
    few = kvplan.recommend("legal-contracts", "llama3.1-70b", users=most.users / 2, max_gpus=40, **ask)
    assert few.plan is not None, "its limit is kept at their pace, and not at a question every five seconds"
    none = kvplan.recommend("legal-contracts", "llama3.1-70b", users=most.users / 2, max_gpus=8, **ask)
    (more,) = (remedy for remedy in none.remedies if remedy.parameters == {"max_gpus"})
    enough = {**ask, "max_gpus": more.plan.gpus}
    assert (
        none.plan is None and kvplan.recommend("legal-contracts", "llama3.1-70b", users=24, **enough).plan is not None
    )
    one = kvplan.recommend("chat", "llama3.1-8b", users=1, **ask)
    assert any(line.startswith("1 user at work") and "not before" not in line for line in one.warnings)


def test_a_page_asks_about_loads_of_the_volume_that_was_planned_for() -> None:
    ask = {"users": 20, "gpus": ["h200"], "techniques": "fp8", "weights": "bf16", "on": ON}
    found = kvplan.recommend("legal-contracts", "llama3.1-70b", **ask)
    loads = dict(at_loads({"workload": "legal-contracts", "model": "llama3.1-70b", **ask}, found))
    assert found.plan is not None and loads[1.0][0].gpus == found.plan.gpus


@pytest.mark.parametrize(
    ("said", "code", "says"),
    [
        ("-w chat --users 9 --rate 3/s", 2, "--users, --queries-per-day, --rate: give one of them"),
        ("-w chat --users many", 1, "--users: expected a number of users such as '2,000' or '10k', got 'many'"),
        ("-w chat --users 0", 1, "--users: must be above zero"),
        ("-w batch-summaries --users 9", 1, "--users: nobody waits for an offline workload"),
    ],
)
def test_users_that_say_no_volume_are_one_line(run, said: str, code: int, says: str) -> None:
    found = run("recommend", "-m", "llama3.1-8b", "-g", "h100", "-t", "baseline", *said.split())
    assert found.code == code and found.err.count("\n") == 1 and says in found.err
