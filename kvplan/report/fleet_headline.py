"""The sentences a fleet begins with: its GPUs, its cost and range, spares, odds, and what was asked."""

from collections.abc import Mapping

from kvplan.planning.demand import Demand
from kvplan.planning.fleet.plan import FleetPlan
from kvplan.units import HOUR, MONTH, show_odds, show_percent, show_percentile, show_time, show_usd


def taken(gpus: Mapping[str, int]) -> str:
    """Return numbers of GPUs in words: '3 h100-sxm, 2 h200 and 1 mi300x'."""
    each = [f"{n:,} {gpu}" for gpu, n in gpus.items() if n]
    return f"{', '.join(each[:-1])} and {each[-1]}" if len(each) > 1 else "".join(each)


def answer(p: FleetPlan) -> str:
    """Return the answer in a few sentences: the GPUs, their cost and its range, and what is simpler."""
    if p.usd is None or p.bill is None:
        return f"No fleet serves this: {p.lacking}."
    low, middle, high = (x * MONTH for x in p.bill.usd)
    whole = f"the {len(p.tasks)} workloads" if len(p.tasks) > 1 else p.tasks[0].name
    verb = "serves" if sum(p.gpus.values()) == 1 else "serve"
    spread = f"{show_usd(middle)} a month (80 % interval {show_usd(low)} to {show_usd(high)})"
    text = f"{taken(p.gpus)} {verb} {whole} at {show_usd(p.usd * HOUR)} an hour, {spread}"
    best, saving = p.best_single, p.saving
    if best is None or saving is None:
        text += ". No GPU type alone is enough with the GPUs that are available."
    elif saving < 0.0005:
        text += f". No mix of GPU types is cheaper than {best.gpu} alone."
    else:
        text += f", {show_percent(saving, 1)} less than with {best.gpu} alone."
    return f"{text}{servers(p)}{spares(p)}{odds(p)}"


def servers(p: FleetPlan) -> str:
    """Return which GPUs are paid for beside those that are used, '' where none are."""
    assert p.bill is not None
    more = {gpu: n for gpu, n in p.bill.paid.items() if n > p.gpus[gpu]}
    return f" In whole servers, {taken(more)} are paid for." if more else ""


def spares(p: FleetPlan) -> str:
    """Return how many of the GPUs are spare, '' where none are."""
    count = sum(u.option.spares * u.option.gpus for u in p.uses)
    verb = "is" if count == 1 else "are"
    return f" {count:,} of the GPUs {verb} spare, to stand in when others fail." if count else ""


def asked(p: FleetPlan) -> str:
    """Return what was asked."""
    there = ", ".join(f"{n:,} {gpu}" for gpu, n in p.stock.items())
    return f"Available: {there}. {' '.join(demand(t.name, t.demand) for t in p.tasks)}"


def demand(name: str, d: Demand) -> str:
    """Return what a workload demands, in a sentence."""
    limits = d.limits
    times = [f"{n} {show_time(limit)}" for n, limit in limits.times]
    kept = f", {', '.join(times)} at {show_percentile(limits.percentile)}" if times else ""
    quality = f", quality loss at most {show_percent(limits.quality, 1)}" if limits.quality is not None else ""
    return f"{name}: {d.model.title}, {d.workload.arrivals.queries_per_day:,.0f} queries a day{kept}{quality}."


def odds(p: FleetPlan) -> str:
    """Return which workloads are served less surely than was sought, '' where none is."""
    if p.sought is None or p.bill is None:
        return ""
    sure = {w.task.name: w.sure for w in p.bill.workloads}
    if len(p.unsure) == 1:
        each = f"them with {show_odds(sure[p.unsure[0].name])} probability"
    else:
        each = " and ".join(f"those of {t.name} with {show_odds(sure[t.name])}" for t in p.unsure)
    return (
        f" No replica keeps the latency limits of {' and '.join(t.name for t in p.unsure)} with "
        f"{show_percent(p.sought)} probability: this fleet keeps {each}."
    )
