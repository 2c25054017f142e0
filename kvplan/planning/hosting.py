"""What a plan's hosting costs: its bill, and the volumes from which it is cheaper than an API."""

from collections.abc import Iterable, Sequence

from kvplan.kv.replica import weights
from kvplan.money.api import BreakEven, Tokens, api_cost, applicable, break_even
from kvplan.money.bill import Bill, Fleet, Usage, fleet_bill
from kvplan.perf.operators import CACHE, EXPERTS, NETWORK, WEIGHTS
from kvplan.perf.serving import passes
from kvplan.perf.step_time import operator_time, step_time
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Plan, configuration_of
from kvplan.planning.site import Site
from kvplan.specs.money import ApiPrice
from kvplan.units import DAY, MONTH

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
    found = passes(
        demand.model, demand.base, shape.layout, weights(demand.model, plan.form), parallel, batch=batch,
        prompt=demand.prompt, output=demand.output, chunk=c.chunk, cached=shape.cached,
    )  # fmt: skip
    whole = step_time(found.decode, c, batch)
    shares = dict.fromkeys(PARTS.values(), 0.0)
    for o in found.decode:
        if o.limit in PARTS:
            shares[PARTS[o.limit]] += operator_time(o, c) / whole
    decode = plan.gpu_seconds * (1 - plan.prompt_share)
    parts = {"prefill": plan.gpu_seconds * plan.prompt_share, **{k: decode * v for k, v in shares.items()}}
    return {**parts, "overhead": decode * (1 - sum(shares.values()))}


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
    return fleet_bill(Fleet(peak=serving, spares=demand.spares * plan.parallel.gpus), load, site.cost)


def volumes_of(
    demand: Demand, plan: Plan, bill: Bill | None, loads: Loads, apis: Iterable[ApiPrice], day: str
) -> list[tuple[ApiPrice, BreakEven]]:
    """Return the volumes above which hosting is cheaper than each API that serves this model, else the cheapest one."""
    if bill is None or plan.usd is None:
        return []
    shape = configuration_of(demand, plan)
    tokens = Tokens(input=demand.prompt, output=demand.output, cached=float(shape.cached))
    known = [p for p in applicable(apis, tokens, day) if api_cost(p, tokens) is not None]
    same = [p for p in known if p.serves == demand.model.name]
    return [
        (price, break_even(staircase_of(demand, plan, bill, loads), price, tokens)) for price in (same or known[:1])
    ]


def staircase_of(demand: Demand, plan: Plan, bill: Bill, loads: Loads) -> list[tuple[float, float]]:
    """Return (queries a day served within the limits, USD a month) of fleets of growing size, each at its best load."""
    monthly = bill.total * MONTH / plan.replicas
    peak_factor = demand.peak / demand.mean
    table = []
    for n in range(1, MOST_REPLICAS + 1):
        rate = max(demand.sustained(n * held) / cycle for held, cycle in loads) / (1 + demand.headroom) / peak_factor
        table.append((rate * DAY, (n + demand.spares) * monthly))
    return table
