"""The sentences a recommendation begins with: the plan, its cost, its odds, and what was asked."""

from kvplan.kv.spelling import BASELINE, clause, kept_in
from kvplan.money.bill import Bill
from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation
from kvplan.planning.remedies import STEP
from kvplan.planning.site import Site
from kvplan.report.blocks import Text
from kvplan.report.confirm import confirmed_line
from kvplan.report.losses import loss
from kvplan.report.sources import standing
from kvplan.specs.workload import Workload
from kvplan.units import (
    HOUR,
    MONTH,
    priced_by,
    show_odds,
    show_percent,
    show_percentile,
    show_time,
    show_usd,
    show_usd_each,
)

#: an API so many times cheaper than the plan is named with the plan
FAR = 2.0
#: and bursts, where they are this share of the cost
DRIVES = 0.1


def answer(r: Recommendation) -> str:
    """Return the lines to take away: the plan, its cost, its odds, what it loses, and what would be far cheaper."""
    p, demand = r.plan, r.demand
    head = f"{demand.workload.title} on {demand.model.title}"
    if p is None or r.site is None:
        return f"{head}: {r.lacking}."
    engine = f" on {demand.engine.title}" if r.engines else ""
    more = (certainty(r, p), quality_line(p), api_line(r), burst_line(r), confirmed_line(r.confirmed, demand))
    served = f"{replicas(p, r.site, r.bill)} {how(p)}{engine}{money(r, p)}"
    return f"{head}: {served}. {' '.join(line for line in more if line)}"


def replicas(p: Plan, site: Site, bill: Bill | None) -> str:
    """Return the GPUs of a plan, and how many are paid for where servers have more."""
    said = f"{p.gpus}x {site.gpu.title} ({p.replicas} replica{'s' * (p.replicas > 1)} of {p.parallel})"
    paid = f", {bill.gpus:g} GPUs paid for in servers of {bill.unit}," if bill and bill.gpus > p.gpus else ""
    return f"{said}{paid}"


def how(p: Plan) -> str:
    """Return the technique, weights, drafts and tiers of a plan."""
    said = f"{'uncompressed' if p.technique == BASELINE else ''}{clause(p.technique, p.form)}".strip()
    drafts = f" and {p.drafting.words} a step" if p.drafting else ""
    tiers = f", prefixes kept in {place} too" if (place := kept_in(p.technique)) else ""
    return f"{said}{drafts}{tiers}"


def money(r: Recommendation, p: Plan) -> str:
    """Return what a query and a month cost, and what the price rests on, '' without a price."""
    if p.usd is None:
        return ""
    many = priced_by(p.usd)[0]
    interval = f" (80 % interval {show_usd(many * r.usd[0])} to {show_usd(many * r.usd[2])})" if r.usd else ""
    said = f", at {show_usd_each(p.usd)}{interval} and {show_usd(p.usd * r.demand.mean * MONTH)} a month"
    return f"{said}{priced(r)}{item_cost(p.usd, r.demand.workload)}"


def certainty(r: Recommendation, p: Plan) -> str:
    """Return how surely the latency limits are kept."""
    if not r.demand.limits.times:
        at = show_percentile(r.demand.limits.percentile)
        return f"No latency limit is set: TTFT {show_time(p.ttft)}, TPOT {show_time(p.tpot)} at {at}."
    kept = show_odds(p.slo_probability)
    if r.sought is None:
        return f"The latency limits are kept with {kept} probability."
    return (
        f"No plan keeps the latency limits with {show_percent(r.sought)} probability; this one keeps them with {kept}, "
        f"and {step_above(r)}."
    )


def step_above(r: Recommendation) -> str:
    """Return what it takes to keep the limits a step more surely than a plan that is less sure than was sought."""
    share = show_percent(r.demand.limits.confidence + STEP)
    if r.surer is None:
        return f"no plan reaches {share}"
    money = "" if r.surer.usd is None else f" at {show_usd(r.surer.usd * r.demand.mean * MONTH)} a month"
    return f"{share} takes {r.surer.gpus} GPUs{money}"


def quality_line(p: Plan) -> str:
    """Return the quality a plan is expected to lose, '' where it loses none."""
    if p.quality.drop == p.quality.high == 0:
        return ""
    if p.quality.drop is None:
        return "What it loses in quality is not known."
    return f"Expected quality loss: {loss(p.quality)}."


def api_line(r: Recommendation) -> str:
    """Return that an API is far cheaper, '' where none is: of this very model, or of another where no API serves it."""
    assert r.plan is not None
    charged = [(price, e) for price, e in r.break_even if e.api_per_query]
    if not charged or r.plan.usd is None:
        return ""
    price, even = min(charged, key=lambda pair: pair[1].api_per_query or 0.0)
    times = r.plan.usd / (even.api_per_query or 1.0)
    if times < FAR:
        return ""
    charge = show_usd((even.api_per_query or 0.0) * r.demand.mean * MONTH)
    other = "" if price.serves == r.demand.model.name else " of another model"
    name = f"{price.model} from {price.provider}"
    share = f"{100 / times:.2g}" if times < 1000 else "less than 0.1"
    return f"An API{other} costs {share} % as much: {name} would charge {charge} a month."


def burst_line(r: Recommendation) -> str:
    """Return what drives the cost where bursts do, '' elsewhere."""
    assert r.plan is not None
    if r.smooth is None or r.plan.usd is None or r.smooth > (1 - DRIVES) * r.plan.usd:
        return ""
    smooth = show_usd(r.smooth * r.demand.mean * MONTH)
    settled = "" if r.confirmed else "; simulate=True says how many replicas these bursts take"
    return f"Bursts drive the cost: with smooth arrivals it would be {smooth} a month{settled}."


def priced(r: Recommendation) -> str:
    """Return what the price of a rented GPU rests on, '' for an owned one."""
    if r.site is None or r.site.price is None:
        return ""
    count = len(r.site.offers)
    hourly = f"{show_usd(r.site.price.price * HOUR)} per GPU-hour"
    if r.site.price.yours:
        return f", at your price of {hourly}"
    return f", at {hourly}, {f'the median of {count} offers' if count > 1 else 'which rests on one offer'}"


def item_cost(usd: float, w: Workload) -> str:
    """Return a sentence with what one item costs, '' where an item is one request."""
    if w.requests_per_item <= 1:
        return ""
    return f". One {w.item} takes {w.requests_per_item:g} queries: {show_usd(usd * w.requests_per_item)} a {w.item}"


def asked(r: Recommendation) -> str:
    """Return what was asked, in a line, and beside each limit of time what the plan is expected to take."""
    demand, limits, p = r.demand, r.demand.limits, r.plan
    w = demand.workload
    expected = {"TTFT": p.ttft, "TPOT": p.tpot, "end to end": p.e2e} if p else {}
    times = [
        f"{name} {show_time(limit)}{f' ({show_time(expected[name])} expected)' if p else ''}"
        for name, limit in limits.times
    ]
    kept = f"{', '.join(times)} at {show_percentile(limits.percentile)}" if times else "no latency limit"
    share = w.prefix_share if demand.prefix_cache else 0.0
    reuse = f", {show_percent(share)} of the input shared with earlier requests" if share else ""
    quality = f", quality loss at most {show_percent(limits.quality, 1)}" if limits.quality is not None else ""
    volume = f"{w.arrivals.queries_per_day:,.0f} queries a day (peak {demand.peak / demand.mean:.1f}x)"
    tokens = f"{demand.prompt:,} input and {demand.output:,.0f} output tokens on average"
    return f"{volume}, {tokens}{reuse}. Limits: {kept}{quality}. {r.tried:,} candidates were searched."


def rests_on(r: Recommendation) -> Text | None:
    """Return what the plan's times stand on, None without a plan."""
    if r.site is None or r.plan is None:
        return None
    c = r.site.calibration
    return Text(standing(c), "quiet" if c.grounded else "warning")
