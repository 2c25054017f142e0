"""From a workload to one plan: the cheapest candidate that keeps every limit, with reasons, a range and what else there is.

`search` gives every candidate as arrays; here the best of each technique and GPU is picked, the others are told why
they were not, and the chosen one is billed, doubted and moved about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvplan.errors import SpecError
from kvplan.kv import techniques
from kvplan.kv.budget import Parallel, weights
from kvplan.money.api import BreakEven, Tokens, api_cost, applicable, break_even
from kvplan.money.bill import Bill, Fleet, fleet_bill
from kvplan.money.bill import Load as Asked
from kvplan.money.draw import Draw
from kvplan.perf.operators import CACHE, EXPERTS, NETWORK, WEIGHTS
from kvplan.perf.serving import passes
from kvplan.perf.step_time import operator_time, step_time
from kvplan.planning.quality import Quality
from kvplan.planning.search import (
    CERTAINTY,
    MOST_CACHED,
    Candidates,
    Demand,
    Shape,
    Site,
    candidates,
    grid_of,
    lognormal,
    search,
)  # fmt: skip
from kvplan.specs.calibration import Range
from kvplan.specs.money import ApiPrice
from kvplan.units import DAY, MONTH, show_time, show_usd

Array = Any
OBJECTIVES = ("cost", "energy", "gpus", "latency")
#: draws of the Monte-Carlo range, and its seed
DRAWS, SEED = 4000, 0
#: 80 % ranges of what no calibration tells, as factors: an assumption, said in the report
LOAD_RANGE, LENGTH_RANGE = (0.8, 1.25), (0.85, 1.15)
#: certainty a careful team asks for
SURE = 0.8
#: replicas up to which a break-even volume is looked for
MOST_REPLICAS = 256


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to serve the workload. Times at the workload's percentile [s], `usd` per query; `in_flight` per replica."""

    technique: str
    gpu: str
    form: str | None
    parallel: Parallel
    in_flight: int
    replicas: int
    gpus: int
    ttft: float
    tpot: float
    e2e: float
    mean_ttft: float
    mean_tpot: float
    usd: float | None
    gpu_seconds: float
    joules: float | None
    prompt_share: float
    quality: Quality
    slo_probability: float
    served_by_engine: bool
    grounded: bool = True

    @property
    def label(self) -> str:
        weights = f", {self.form} weights" if self.form else ""
        return f"{self.technique} on {self.replicas} x {self.parallel} {self.gpu}{weights}"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A technique or a GPU that cannot be, and the limit it fails on. `gpu` or `technique` is '' for all of them."""

    technique: str
    gpu: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Swing:
    """What moving one thing between two values does to the cost of a query. [USD]"""

    name: str
    low: float
    high: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer and all that stands behind it. `usd` are P10, P50, P90 per query; `front` is not beaten in all of cost,
    quality and latency."""

    demand: Demand
    objective: str
    plan: Plan | None
    site: Site | None
    bill: Bill | None
    usd: tuple[float, float, float] | None
    alternatives: tuple[Plan, ...]
    rejected: tuple[Rejected, ...]
    why: tuple[str, ...]
    front: tuple[Plan, ...]
    swings: tuple[Swing, ...]
    break_even: tuple[tuple[ApiPrice, BreakEven], ...]
    tried: int


# -- choosing -------------------------------------------------------------------------------------


def recommend(
    demand: Demand,
    wanted: Sequence[str],
    sites: Sequence[Site],
    qualities: Mapping[str, Quality],
    *,
    objective: str = "cost",
    draws: Mapping[str, Draw | None] | None = None,
    prices: Mapping[str, Sequence[float]] | None = None,
    apis: Iterable[ApiPrice] = (),
    day: str = "",
    guesses: bool = True,
) -> Recommendation:
    """Return the best plan under the limits, and why.

    `qualities` hold every wanted technique's loss, `draws` (power) and `prices` (offers over the
    one used) are by GPU. Without `guesses` a GPU nobody measured is only an alternative.
    """
    found, refused = search(demand, wanted, sites)
    names = [name for name in wanted if name not in refused]
    barred = {name: reason for name in names if (reason := bar(demand, qualities[name]))}
    draws, book = draws or {}, Book(demand, qualities, draws or {})
    plans = [plan for one in found for name in names if (plan := book.best(one, name, objective)) is not None]
    able = [p for p in plans if p.technique not in barred]
    allowed = able if guesses else [p for p in able if p.grounded] or able
    order = rank(objective)
    chosen = min(allowed, key=order, default=None)
    rejected = [Rejected(technique=name, gpu="", reason=reason) for name, reason in (refused | barred).items()]
    rejected += [
        Rejected(technique="", gpu=one.site.gpu.name, reason=reason)
        for one in found
        if (reason := unreachable(one, demand, [n for n in names if n not in barred]))
    ]
    tried = sum(int(one.grid.usable.sum()) for one in found)
    nothing: dict[str, Any] = {"site": None, "bill": None, "usd": None, "swings": (), "break_even": ()}
    if chosen is None:
        known: dict[str, Any] = {"why": (), "alternatives": tuple(sorted(plans, key=order)), "front": front(plans)}
        return Recommendation(
            demand=demand, objective=objective, plan=None, rejected=tuple(rejected), tried=tried, **nothing, **known
        )
    home = next(one for one in found if one.site.gpu.name == chosen.gpu)
    others = sorted((p for p in plans if p is not chosen), key=order)
    bill = bill_of(demand, chosen, home.site)
    meant = Doubt(demand, chosen, home.site, (prices or {}).get(chosen.gpu, (1.0,)))
    volumes = volumes_of(demand, chosen, bill, apis, day)
    return Recommendation(
        demand=demand,
        objective=objective,
        plan=chosen,
        site=home.site,
        bill=bill,
        usd=meant.range(),
        alternatives=tuple(runners_up(others)),
        rejected=tuple(rejected),
        why=tuple(why(demand, chosen, home, found, plans, barred, bill, volumes, book, objective)),
        front=front(able),
        swings=meant.swings(),
        break_even=tuple(volumes),
        tried=tried,
    )


def bar(demand: Demand, quality: Quality) -> str:
    """Return why a technique may not be used, '' when it may: its quality, or an engine that does not serve it."""
    limit, name = demand.limits.quality, quality.technique
    if limit is not None and not quality.within(limit):
        if quality.drop is None:
            return f"quality unknown ({quality.basis}), which counts against it under --max-quality-drop"
        return f"loses {quality.drop:.1%} on {quality.task}, more than {limit:.1%}"
    if not demand.limits.any_technique and not techniques.served_by(name, demand.engine.name):
        return f"{demand.engine.title} does not serve it (--any-technique plans with it all the same)"
    return ""


def rank(objective: str) -> Any:
    """Return the order of plans under an objective: cheaper, then fewer GPUs, then faster."""
    keys: dict[str, Any] = {
        "cost": lambda p: (p.usd is None, p.usd or 0.0),
        "energy": lambda p: (p.joules is None, p.joules or 0.0),
        "gpus": lambda p: (p.gpus, p.usd or 0.0),
        "latency": lambda p: (p.e2e, p.usd or 0.0),
    }
    if objective not in keys:
        raise SpecError(f"--objective: write one of {', '.join(OBJECTIVES)}, got {objective!r}")
    first: Any = keys[objective]
    return lambda p: (*first(p), p.gpus, p.ttft, p.technique, p.gpu)


@dataclass(frozen=True)
class Book:
    """What turns a candidate into a plan."""

    demand: Demand
    qualities: Mapping[str, Quality]
    draws: Mapping[str, Draw | None]

    def score(self, one: Candidates, objective: str) -> Array:
        """Return what an objective makes small, for every candidate."""
        if objective == "energy":
            return self.joules(one)
        return {"cost": one.usd, "gpus": one.gpus + 0.0, "latency": one.e2e}[objective]

    def joules(self, one: Candidates) -> Array:
        """Return the energy of the GPUs for a query, waiting ones included. [J]"""
        draw = self.draws.get(one.site.gpu.name)
        if draw is None:
            return np.full(one.usd.shape, np.inf)
        waiting = one.gpus / self.demand.mean - one.gpu_seconds
        return one.gpu_seconds * draw.busy + np.maximum(waiting, 0.0) * draw.idle

    def best(self, one: Candidates, technique: str, objective: str) -> Plan | None:
        """Return the best feasible plan of a technique on a GPU, None without one."""
        mine = np.array([s.technique == technique for s in one.grid.shapes])
        mask = one.feasible & mine[:, None]
        if objective == "cost" and one.site.cost is None:
            return None
        if not mask.any():
            return None
        score = np.where(mask, self.score(one, objective), np.inf)
        if not np.isfinite(score.min()):
            return None
        ties = np.where(score <= score.min() * (1 + 1e-9), one.gpus + 1.0 - one.sure, np.inf)
        i, j = np.unravel_index(np.argmin(ties), ties.shape)
        return self.plan(one, int(i), int(j))

    def plan(self, one: Candidates, i: int, j: int) -> Plan:
        shape: Shape = one.grid.shapes[i]
        served = one.served
        ttft, tpot = float(one.ttft[i, j]), float(one.tpot[i, j])
        joules = float(self.joules(one)[i, j])
        return Plan(
            technique=shape.technique,
            gpu=one.site.gpu.name,
            form=shape.form,
            parallel=shape.parallel,
            in_flight=int(one.requests[i, j]),
            replicas=int(one.replicas[i, j]) + self.demand.spares,
            gpus=int(one.gpus[i, j]),
            ttft=ttft,
            tpot=tpot,
            e2e=float(one.e2e[i, j]),
            mean_ttft=float(served.ttft[i, j]),
            mean_tpot=float(served.tpot[i, j]),
            usd=float(one.usd[i, j]) if np.isfinite(one.usd[i, j]) else None,
            gpu_seconds=float(one.gpu_seconds[i, j]),
            joules=joules if np.isfinite(joules) else None,
            prompt_share=float(served.busy[i, j]),
            quality=self.qualities[shape.technique],
            slo_probability=float(one.sure[i, j]),
            grounded=one.site.calibration.grounded,
            served_by_engine=techniques.served_by(shape.technique, self.demand.engine.name),
        )


def runners_up(plans: Sequence[Plan]) -> list[Plan]:
    """Return the best other plan of every technique and of every GPU, in order."""
    kept, techniques_seen, gpus_seen = [], set(), set()
    for p in plans:
        if p.technique not in techniques_seen or p.gpu not in gpus_seen:
            kept.append(p)
        techniques_seen.add(p.technique)
        gpus_seen.add(p.gpu)
    return kept


def front(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return the plans no other is at least as good as in cost, quality and latency, and better in one."""

    def marks(p: Plan) -> tuple[float, float, float]:
        return (p.usd or float("inf"), p.quality.high if p.quality.drop is None else p.quality.drop, p.e2e)

    def beaten(p: Plan) -> bool:
        mine = marks(p)
        return any(all(a <= b for a, b in zip(marks(o), mine, strict=True)) and marks(o) != mine for o in plans)

    return tuple(sorted((p for p in plans if not beaten(p)), key=marks))


def unreachable(one: Candidates, demand: Demand, allowed: Sequence[str]) -> str:
    """Return why no allowed technique can be served on a GPU, '' when one can."""
    mine = np.array([s.technique in allowed for s in one.grid.shapes])[:, None]
    if not allowed or (one.feasible & mine).any():
        return "" if one.site.cost is not None or not allowed else "no price known; give one with --price"
    fits = one.fits & mine
    if not fits.any():
        return "no replica of one node holds the model and the longest request"
    limits = demand.limits
    for name, times, limit in (("TTFT", one.ttft, limits.ttft), ("TPOT", one.tpot, limits.tpot), ("end-to-end", one.e2e, limits.e2e)):  # fmt: skip
        least = float(times[fits].min())
        if limit is not None and least > limit:
            return f"{name} of at least {show_time(least)} at P{100 * limits.percentile:g}, over {show_time(limit)}"
    if limits.gpus is not None and float(one.gpus[fits].min()) > limits.gpus:
        return f"needs at least {one.gpus[fits].min():.0f} GPUs, over {limits.gpus}"
    return "no replica keeps all limits at once"


# -- the chosen plan ------------------------------------------------------------------------------


def seconds_by_part(demand: Demand, plan: Plan, site: Site) -> dict[str, float]:
    """Return the GPU seconds of one query: its prompt, and its share of decode steps by what they wait for."""
    c, parallel = site.calibration, plan.parallel
    shape = shape_of(demand, plan)
    batch = max(plan.in_flight / parallel.data, 1.0)
    found = passes(
        demand.model, demand.base, shape.layout, weights(demand.model, plan.form), parallel, batch=batch,
        prompt=demand.prompt, output=demand.output, chunk=c.chunk, cached=shape.cached,
    )  # fmt: skip
    whole = step_time(found.decode, c, batch)
    limits = {
        WEIGHTS: "decode: weights",
        EXPERTS: "decode: weights",
        CACHE: "decode: KV cache",
        NETWORK: "communication",
    }
    shares = dict.fromkeys(("decode: weights", "decode: KV cache", "communication"), 0.0)
    for o in found.decode:
        if o.limit in limits:
            shares[limits[o.limit]] += operator_time(o, c) / whole
    decode = plan.gpu_seconds * (1 - plan.prompt_share)
    parts = {"prefill": plan.gpu_seconds * plan.prompt_share, **{k: decode * v for k, v in shares.items()}}
    return {**parts, "overhead": decode * (1 - sum(shares.values()))}


def shape_of(demand: Demand, plan: Plan) -> Shape:
    layout = techniques.apply(plan.technique, demand.base)
    reuse = demand.workload.prefix_share if demand.prefix_cache and layout.shared(demand.prompt) else 0.0
    cached = int(demand.prompt * min(reuse, MOST_CACHED))
    return Shape(technique=plan.technique, form=plan.form, parallel=plan.parallel, layout=layout, cached=cached)


def bill_of(demand: Demand, plan: Plan, site: Site) -> Bill | None:
    """Return the plan's bill, None without a price."""
    if site.cost is None:
        return None
    serving = (plan.replicas - demand.spares) * plan.parallel.gpus
    load = Asked(
        parts=seconds_by_part(demand, plan, site),
        queries_per_month=demand.mean * MONTH,
        input_tokens=demand.prompt,
        output_tokens=demand.output,
    )
    return fleet_bill(Fleet(peak=serving, spares=demand.spares * plan.parallel.gpus), load, site.cost)


class Doubt:
    """How the cost of a query moves when the model's error, the price, the load or the lengths do.

    Replicas follow: a server slower than predicted needs more of them.
    """

    def __init__(self, demand: Demand, plan: Plan, site: Site, prices: Sequence[float]):
        self.demand, self.plan, self.site, self.prices = demand, plan, site, prices
        self.cycles = [self._cycle(f) for f in (LENGTH_RANGE[0], 1.0, LENGTH_RANGE[1])]

    def _cycle(self, factor: float) -> float:
        workload = self.demand.workload
        moved = replace(workload, input=workload.input.times(factor), output=workload.output.times(factor))
        demand = replace(self.demand, workload=moved)
        grid = grid_of(demand, [shape_of(demand, self.plan)], self.site.calibration.chunk, self.plan.in_flight)
        one = candidates(demand, grid, self.site)
        at = (
            int(np.argmax(one.requests[0] >= self.plan.in_flight))
            if (one.requests[0] >= self.plan.in_flight).any()
            else -1
        )
        return float(one.served.cycle[0, at])

    def cost(self, pace: Array = 1.0, price: Array = 1.0, load: Array = 1.0, length: Array = 1.0) -> Array:
        """Return what a query costs when these are multiplied. [USD]"""
        demand, plan = self.demand, self.plan
        cycle = np.interp(length, (LENGTH_RANGE[0], 1.0, LENGTH_RANGE[1]), self.cycles) * pace
        peak = demand.peak * (1 + demand.headroom) * load
        mean = peak * cycle
        z = (
            0.0
            if demand.workload.offline
            else (demand.in_flight(1.0) - demand.peak * (1 + demand.headroom))
            / np.sqrt(max(demand.peak * (1 + demand.headroom), 1e-12))
        )
        replicas = np.maximum(np.ceil((mean + z * np.sqrt(mean)) / plan.in_flight - 1e-9), 1.0) + demand.spares
        assert self.site.cost is not None
        waiting, working = self.site.cost.rate(None), self.site.cost.rate("")
        busy = plan.gpu_seconds * cycle / self.cycles[1] * (working - waiting)
        return (replicas * plan.parallel.gpus * waiting / (demand.mean * load) + busy) * price

    def range(self) -> tuple[float, float, float] | None:
        """Return P10, P50 and P90 of the cost of a query. [USD]"""
        if self.site.cost is None:
            return None
        rng = np.random.default_rng(SEED)
        pace = _draw(rng, self.site.calibration.tpot.low, self.site.calibration.tpot.high)
        price = rng.choice(np.array(self.prices), DRAWS)
        costs = self.cost(pace, price, _draw(rng, *LOAD_RANGE), np.clip(_draw(rng, *LENGTH_RANGE), 0.7, 1.4))
        low, middle, high = np.quantile(costs, (0.1, 0.5, 0.9))
        return float(low), float(middle), float(high)

    def swings(self) -> tuple[Swing, ...]:
        """Return what each of them does alone, the widest first."""
        if self.site.cost is None:
            return ()
        pace = self.site.calibration.tpot
        moved = {
            "kvplan's error in time": (("pace", (pace.low, pace.high)), "80 % range of its calibration"),
            "rent": (
                ("price", tuple(np.quantile(self.prices, (0.1, 0.9)))),
                "offers on the day, 10th to 90th percentile",
            ),
            "load": (("load", LOAD_RANGE), "assumption"),
            "lengths": (("length", LENGTH_RANGE), "assumption"),
        }
        found = []
        for name, ((what, (low, high)), basis) in moved.items():
            costs = [float(self.cost(**{what: f})) for f in (low, high)]
            if costs[0] != costs[1]:
                found.append(Swing(name=f"{name} x{low:.2f} to x{high:.2f}", low=costs[0], high=costs[1], basis=basis))
        return tuple(sorted(found, key=lambda s: -abs(s.high - s.low)))


def _draw(rng: Any, low: float, high: float) -> Array:
    """Return draws of a lognormal with this 80 % range."""
    middle, width = lognormal(Range(low=low, high=high))
    return np.exp(rng.normal(middle, width, DRAWS))


def volumes_of(
    demand: Demand, plan: Plan, bill: Bill | None, apis: Iterable[ApiPrice], day: str
) -> list[tuple[ApiPrice, BreakEven]]:
    """Return the volumes above which hosting is cheaper than each API that serves this model, else the cheapest one."""
    if bill is None or plan.usd is None:
        return []
    shape = shape_of(demand, plan)
    tokens = Tokens(input=demand.prompt, output=demand.output, cached=float(shape.cached))
    known = [p for p in applicable(apis, tokens, day) if api_cost(p, tokens) is not None]
    same = [p for p in known if p.serves == demand.model.name]
    return [(price, break_even(staircase_of(demand, plan, bill), price, tokens)) for price in (same or known[:1])]


def staircase_of(demand: Demand, plan: Plan, bill: Bill) -> list[tuple[float, float]]:
    """Return (queries a day served within the limits, USD a month) of fleets of growing size."""
    serving = plan.replicas - demand.spares
    monthly = bill.total * MONTH / plan.replicas
    peak_factor = demand.peak / demand.mean
    z = demand.in_flight(1.0) - demand.peak * (1 + demand.headroom)
    spread = z / np.sqrt(demand.peak * (1 + demand.headroom)) if demand.peak else 0.0
    cycle = plan.gpu_seconds * plan.in_flight / plan.parallel.gpus
    table = []
    for n in sorted({*range(1, 17), *(2**k for k in range(4, 9)), serving}):
        if n > MOST_REPLICAS:
            break
        held = n * plan.in_flight  # mean m with m + spread sqrt(m) = held
        root = (-spread + np.sqrt(spread**2 + 4 * held)) / 2
        rate = root**2 / (cycle * (1 + demand.headroom)) / peak_factor
        table.append((float(rate * DAY), float((n + demand.spares) * monthly)))
    return table


# -- reasons --------------------------------------------------------------------------------------


def why(demand: Demand, plan: Plan, home: Candidates, found: Sequence[Candidates], plans: Sequence[Plan],
        barred: Mapping[str, str], bill: Bill | None, volumes: Sequence[tuple[ApiPrice, BreakEven]], book: Book,
        objective: str) -> Iterable[str]:  # fmt: skip
    """Yield why this plan: what binds it, where its time goes, and what would change the answer."""
    yield binding(demand, plan, home)
    share = plan.prompt_share
    kind = "prefill" if share > 0.6 else "decode" if share < 0.4 else "neither prefill nor decode alone"
    yield f"{share:.0%} of the GPUs' busy time reads prompts: {kind} decides, and a smaller KV cache only helps the rest"
    yield from compression(plan, plans, demand)
    yield from guessed(plan, plans, barred)
    yield from caching(demand, plan, found, book, objective)
    yield from relaxed(demand, plan, found, book, barred, objective)
    if bill is not None:
        idle = sum(line.amount for line in bill.lines if line.name == "idle")
        if idle > 0.05 * bill.total:
            yield f"{idle / bill.total:.0%} of the bill is GPUs waiting for the peak, {demand.peak / demand.mean:.1f}x the mean load"
    for price, even in volumes:
        name = f"{price.provider} {price.model}"
        other = "" if price.serves == demand.model.name else " (another model)"
        volume = even.queries_per_day
        if volume is not None:
            yield f"below {volume:,.0f} queries a day {name}{other} is cheaper, at {show_usd(even.api_per_query or 0)} a query"
        elif even.reason:
            yield f"{name}{other} charges {show_usd(even.api_per_query or 0)} a query: {even.reason}"


def binding(demand: Demand, plan: Plan, home: Candidates) -> str:
    """Say what keeps a replica from carrying more."""
    i = next(
        k for k, s in enumerate(home.grid.shapes)
        if (s.technique, s.form, s.parallel) == (plan.technique, plan.form, plan.parallel)
    )  # fmt: skip
    row = list(home.requests[i])
    at = row.index(plan.in_flight)
    said = f"a replica carries {plan.in_flight} requests at once"
    if at + 1 >= len(row):
        return f"{said}, the engine's limit"
    if not home.fits[i, at + 1]:
        return f"{said}: memory binds, {home.room[i, 0]:.0f} mean requests fit"
    names = [name for name, met in home.meets.items() if not met[i, at + 1]]
    if names:
        limit = {"TTFT": demand.limits.ttft, "TPOT": demand.limits.tpot, "end-to-end": demand.limits.e2e}
        times = {"TTFT": home.ttft, "TPOT": home.tpot, "end-to-end": home.e2e}
        name = names[0]
        if name in times:
            reached = show_time(float(times[name][i, at + 1]))
            return f"{said}: {name} binds, {int(row[at + 1])} would reach {reached} of {show_time(limit[name] or 0)}"
        return f"{said}: the number of GPUs binds"
    return f"{said}: the load needs no more"


def compression(plan: Plan, plans: Sequence[Plan], demand: Demand) -> Iterable[str]:
    """Say what compressing the cache is worth here, by techniques the engine serves and by all."""
    plain = [p for p in plans if p.technique == techniques.BASELINE and p.usd]
    if not plain or plan.usd is None:
        return
    base = min(plain, key=lambda p: p.usd or 0.0)
    if plan.technique != techniques.BASELINE:
        yield f"{plan.technique} costs {plan.usd / (base.usd or 1) - 1:+.0%} against the best uncompressed plan ({base.label})"
    others = [p for p in plans if not p.served_by_engine and p.usd and p.grounded >= plan.grounded]
    if others:
        best = min(others, key=lambda p: p.usd or 0.0)
        change = (best.usd or 0.0) / plan.usd - 1
        if change < -0.02:
            loss = (
                f"{best.quality.drop:.1%} quality loss" if best.quality.drop is not None else "its quality loss unknown"
            )
            yield f"{best.technique} would cost {change:+.0%} ({best.label}; {loss}), but {demand.engine.title} does not serve it"


def guessed(plan: Plan, plans: Sequence[Plan], barred: Mapping[str, str]) -> Iterable[str]:
    """Say what a GPU nobody measured would cost."""
    others = [p for p in plans if not p.grounded and p.technique not in barred and p.usd]
    if not plan.grounded or not others or plan.usd is None:
        return
    best = min(others, key=lambda p: p.usd or 0.0)
    if (best.usd or 0.0) < plan.usd:
        yield f"{best.gpu} would be {show_usd(best.usd or 0.0)} a query, but no server on it was measured; --gpu {best.gpu} plans with it"


def caching(demand: Demand, plan: Plan, found: Sequence[Candidates], book: Book, objective: str) -> Iterable[str]:
    """Say what the prefix cache is worth."""
    share = demand.workload.prefix_share
    if not share or not demand.prefix_cache or plan.usd is None:
        return
    without = replace(demand, prefix_cache=False)
    again, _ = search(without, [plan.technique], [one.site for one in found if one.site.gpu.name == plan.gpu])
    best = Book(without, book.qualities, book.draws).best(again[0], plan.technique, objective) if again else None
    if best is None or best.usd is None:
        yield f"prefix caching ({share:.0%} of input tokens) is needed: without it no plan on {plan.gpu} keeps the limits"
    else:
        yield f"prefix caching ({share:.0%} of input tokens) cuts the cost by {1 - plan.usd / best.usd:.0%}"


def relaxed(demand: Demand, plan: Plan, found: Sequence[Candidates], book: Book, barred: Mapping[str, str],
            objective: str) -> Iterable[str]:  # fmt: skip
    """Say what a looser limit, or more certainty, would do to the cost."""
    if plan.usd is None:
        return
    names = [n for n in book.qualities if n not in barred]
    for name, field in (("TTFT", "ttft"), ("TPOT", "tpot")):
        limit = getattr(demand.limits, field)
        if limit is None:
            continue
        looser = [replace(one, meets={**one.meets, name: getattr(one, field) <= 2 * limit}) for one in found]
        usd = cheapest(looser, names, book, objective)
        if usd is not None and usd < 0.97 * plan.usd:
            yield f"a {name} limit of {show_time(2 * limit)} instead of {show_time(limit)} would cost {usd / plan.usd - 1:+.0%}"
    if demand.limits.confidence < SURE and plan.slo_probability < SURE:
        sure = [replace(one, meets={**one.meets, CERTAINTY: one.sure >= SURE}) for one in found]
        usd = cheapest(sure, names, book, objective)
        if usd is None:
            yield f"no plan keeps both limits with {SURE:.0%} certainty: rows of your own server (kvplan calibrate) narrow it"
        else:
            yield f"keeping the limits with {SURE:.0%} certainty (--confidence {SURE:.0%}) would cost {usd / plan.usd - 1:+.0%}"


def cheapest(found: Sequence[Candidates], names: Sequence[str], book: Book, objective: str) -> float | None:
    """Return the least cost of a query among these candidates. [USD]"""
    plans = [p for one in found for n in names if (p := book.best(one, n, objective)) is not None and p.usd is not None]
    return min((p.usd for p in plans if p.usd is not None), default=None)
