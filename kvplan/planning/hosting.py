"""What a plan's hosting costs: its bill, and the volumes from which it is cheaper than an API."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kvplan.kv.replica import weights
from kvplan.kv.tiers import TIERS
from kvplan.money.api import BreakEven, Tokens, api_cost, applicable, break_even
from kvplan.money.bill import Bill, Cell, Fleet, Usage, fleet_bill
from kvplan.money.conversion import CONVERSION
from kvplan.money.draw import query_energy
from kvplan.money.gpu_cost import GpuCost
from kvplan.perf.operators import CACHE, EXPERTS, NETWORK, WEIGHTS
from kvplan.perf.serving import passes
from kvplan.perf.step_time import operator_time, step_time
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.searching.configurations import Pair
from kvplan.planning.searching.converting import besides
from kvplan.planning.searching.search import Candidates, usd_per_query
from kvplan.planning.site import Site
from kvplan.planning.volumes import even_volumes
from kvplan.specs.line import Line
from kvplan.specs.model import TEXT
from kvplan.specs.money import ApiPrice
from kvplan.units import DAY, HOUR, MILLION, MONTH

#: candidates on every GPU that may be planned with, and the techniques and weight formats that may be used
Searched = tuple[Sequence[Candidates], Collection[Pair]]
#: (requests in flight, seconds each takes) at which a replica keeps the limits
Loads = Sequence[tuple[int, float]]
#: replicas up to which a break-even volume is looked for
MOST_REPLICAS = 256
#: lines of a bill, by what limits an operator of a decode step; named as a draw's parts are
PARTS = {
    WEIGHTS: "decode weights", EXPERTS: "decode weights", CACHE: "decode KV", NETWORK: "communication",
}  # fmt: skip


def seconds_by_part(demand: Demand, plan: Plan, site: Site) -> dict[str, float]:
    """Return the GPU seconds of one query: its prompt, and its share of decode steps by what they wait for."""
    c, parallel = site.calibration, plan.parallel
    shape = configuration_of(demand, plan)
    batch = max(plan.in_flight / parallel.data, 1.0)
    totals = passes(
        demand.model, demand.base, shape.layout, weights(demand.model, plan.form), parallel, batch=batch,
        prompt=demand.prompt, output=demand.output, chunk=c.chunk, cached=cached_by(demand, plan),
    )  # fmt: skip
    whole = step_time(totals.decode, c, batch)
    shares = dict.fromkeys(PARTS.values(), 0.0)
    for o in totals.decode:
        if o.limit in PARTS:
            shares[PARTS[o.limit]] += operator_time(o, c) / whole
    decode = plan.gpu_seconds * (1 - plan.prompt_share)
    parts = {"prefill": plan.gpu_seconds * plan.prompt_share, **{k: decode * v for k, v in shares.items()}}
    return {**parts, "overhead": decode * (1 - sum(shares.values()))}


def cached_by(demand: Demand, plan: Plan) -> int:
    """Return the tokens of a mean prompt that the plan's prefix cache still holds, evicted ones left out. [token]"""
    return min(int(demand.prompt * plan.cached_share), demand.prompt - 1)


def bill_of(demand: Demand, plan: Plan, site: Site) -> Bill | None:
    """Return the plan's bill, None without a price."""
    if site.cost is None:
        return None
    serving = (plan.replicas - demand.spares) * plan.parallel.gpus
    load = Usage(
        parts=seconds_by_part(demand, plan, site),
        queries_per_month=demand.mean * MONTH,
        input_tokens=demand.prompt,
        output_tokens=demand.output,
    )
    fleet = Fleet(
        peak=serving, spares=demand.spares * plan.parallel.gpus, unused=site.cost.whole(plan.gpus) - plan.gpus
    )
    bill = fleet_bill(fleet, load, site.cost)
    cells = (
        Cell(use=line.name, kind=line.name, amount=line.amount, use_basis=line.basis, kind_basis=line.basis)
        for line in besides(demand, plan.technique, plan.gpus, site)
    )
    return replace(bill, cells=(*bill.cells, *cells))


def energy_of(demand: Demand, plan: Plan, site: Site) -> tuple[Line, ...]:
    """Return the energy of a query by what its GPUs do and why others wait, () where it is unknown. [J]

    The lines sum to the plan's energy of a query.
    """
    if site.draw is None or plan.joules is None:
        return ()
    parts, rate = seconds_by_part(demand, plan, site), demand.mean
    serving = (plan.replicas - demand.spares) * plan.parallel.gpus
    paid = site.cost.whole(plan.gpus) if site.cost else plan.gpus
    waiting = {
        "idle": max(serving / rate - plan.gpu_seconds, 0.0),
        "spares": (plan.gpus - serving) / rate,
        "unused": (paid - plan.gpus) / rate,
    }
    return query_energy(parts, {name: seconds for name, seconds in waiting.items() if seconds}, site.draw)


def per_million(demand: Demand, plan: Plan) -> tuple[float | None, float | None]:
    """Return the cost of a million input tokens and of a million output tokens: by the busy time each takes. [USD]"""
    if plan.usd is None:
        return None, None
    prompts = plan.usd * plan.prompt_share
    return prompts / demand.prompt * MILLION, (plan.usd - prompts) / demand.output * MILLION


@dataclass(frozen=True, kw_only=True)
class Tenure:
    """What a workload costs when its GPUs are had under certain terms, or an API serves it."""

    term: str  #: on-demand, reserved-3y, owned, API ...
    provider: str  #: who lets or serves it
    usd: float | None  #: of a query, None where no price is known [USD]
    per_month: float | None  #: of all queries [USD]
    gpu_hour: float | None  #: of one GPU, None of an API [USD]
    gpus: int  #: paid for, 0 of an API
    basis: str  #: what it rests on


def tenures(
    demand: Demand,
    plan: Plan,
    costs: Mapping[tuple[str, str], tuple[GpuCost, str]],
    apis: Iterable[tuple[ApiPrice, BreakEven]],
    bill: Bill | None = None,
) -> tuple[Tenure, ...]:
    """Return what a plan costs under each of the terms its GPUs can be had, and what APIs charge for the same queries.

    `costs`: (term, provider) -> what a GPU costs, and in words what that rests on. A plan whose GPUs are those of
    another term may not be the cheapest under this one. A conversion, and prefixes kept beside the GPUs, cost what they
    do on the plan's own bill.
    """
    rows = []
    others = {CONVERSION, *(tier.title for tier in TIERS.values())}
    once = sum(line.amount for line in (bill.lines_per("query") if bill else None) or () if line.name in others)
    for (term, provider), (cost, basis) in costs.items():
        usd = float(usd_per_query(demand, cost, plan.gpus, plan.gpu_seconds)) + once
        rows.append(
            Tenure(
                term=term,
                provider=provider,
                usd=usd,
                per_month=usd * demand.mean * MONTH,
                gpu_hour=cost.rate("") * HOUR,
                gpus=int(cost.whole(plan.gpus)),
                basis=basis,
            )
        )
    for price, even in apis:
        usd_each = even.api_per_query
        rows.append(
            Tenure(
                term="API",
                provider=price.provider,
                usd=usd_each,
                per_month=None if usd_each is None else usd_each * demand.mean * MONTH,
                gpu_hour=None,
                gpus=0,
                basis=price.model if price.serves == demand.model.name else f"{price.model}, another model",
            )
        )
    return tuple(rows)


def volumes_of(
    demand: Demand, plan: Plan, bill: Bill | None, loads: Loads, apis: Iterable[ApiPrice], day: str,
    searched: Searched | None = None,
) -> list[tuple[ApiPrice, BreakEven]]:  # fmt: skip
    """Return the volumes above which hosting is cheaper than each API that serves this model, else the cheapest one.

    None of another model stands for a workload of images, frames or sound: lists do not say which models read them, nor
    how many tokens of theirs one is. Of what a search of the cheapest would answer at any volume; without its
    candidates, of the plan's own replicas at `loads`.
    """
    if bill is None or plan.usd is None:
        return []
    tokens = Tokens(input=demand.prompt, output=demand.output, cached=float(cached_by(demand, plan)))
    known = [p for p in applicable(apis, tokens, day) if api_cost(p, tokens) is not None]
    same = [p for p in known if p.serves == demand.model.name]
    charged = same or (known[:1] if demand.workload.modalities == (TEXT,) else [])
    if searched is None:
        return [(price, break_even(staircase_of(demand, plan, bill, loads), price, tokens)) for price in charged]
    return list(zip(charged, even_volumes(demand, *searched, charged, tokens), strict=True))


def staircase_of(demand: Demand, plan: Plan, bill: Bill, loads: Loads) -> list[tuple[float, float]]:
    """Return (queries a day served within the limits, USD a month) of fleets of growing size, each at its best load."""
    each, whole = plan.parallel.gpus, -(-plan.gpus // bill.unit)
    monthly = bill.total * MONTH / whole  # of one server
    peak_factor = demand.peak / demand.mean
    table = []
    for n in range(1, MOST_REPLICAS + 1):
        rate = (
            max(float(demand.sustained(n * held)) / cycle for held, cycle in loads)
            / (1 + demand.headroom)
            / peak_factor
        )
        table.append((rate * DAY, -(-(n + demand.spares) * each // bill.unit) * monthly))
    return table
