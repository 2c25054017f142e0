"""Why this plan: what limits it, where its time goes, and what would change the answer, in sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kvplan.kv import spelling
from kvplan.money.api import BreakEven
from kvplan.money.bill import Bill
from kvplan.planning.demand import Demand
from kvplan.planning.outcome import SearchOutcome
from kvplan.planning.plan import Plan, row_of
from kvplan.planning.searching.search import CERTAINTY, Candidates, search
from kvplan.planning.site import CONFIDENCE, EVEN
from kvplan.specs.money import ApiPrice
from kvplan.units import show_odds, show_percent, show_time, show_usd_each

#: shares of the cost below which a difference is not worth a sentence
SMALL = 0.03
#: and below which two costs are the same
SAME = 0.005
#: share of a bill from which spare replicas are worth a sentence
MUCH = 1 / 3
#: the bill's line of them
SPARES = "spares"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A plan and what it was chosen from."""

    outcome: SearchOutcome  #: every candidate of the question
    plan: Plan  #: the plan that was chosen

    @property
    def demand(self) -> Demand:
        """What is to be served."""
        return self.outcome.demand

    @cached_property
    def home(self) -> Candidates:
        """The candidates on the plan's own GPU."""
        return next(one for one in self.outcome.candidates if one.site.gpu.name == self.plan.gpu)

    def cheapest(self, demand: Demand) -> Plan | None:
        """Return the best plan under other limits, everything else alike."""
        s = self.outcome
        best = s.book.under(demand, s.rated, s.pairs, s.objective, exactly=True)
        return best if best is not None and best.usd is not None else None


def why(
    d: Decision, bill: Bill | None, volumes: Sequence[tuple[ApiPrice, BreakEven]], smooth: float | None = None
) -> Iterable[str]:
    """Yield the reasons for a plan, one sentence a line."""
    yield binding(d)
    yield prefill(d.plan)
    yield from compression(d)
    yield from bursts(d, smooth)
    yield from unmeasured(d)
    yield from caching(d)
    yield from speculation(d)
    yield from looser_limits(d)
    yield from idle(d, bill)
    yield from spares(d, bill)
    yield from apis(d, volumes)


def binding(d: Decision) -> str:
    """Return what keeps a replica from running more requests at once."""
    plan, home, limits = d.plan, d.home, d.demand.limits
    i = row_of(home, plan)
    row = list(home.gpu_grid.requests[i])
    at = next(k for k, n in enumerate(row) if n >= plan.in_flight)
    most = d.demand.engine.limits(home.site.gpu)[0] * plan.parallel.data  # what the launch command states of each rank
    started = f" (its server accepts up to {most:,})" if most > plan.in_flight else ""
    head = f"Each replica runs {requests(plan.in_flight)} at once{started}"
    if at + 1 >= len(row):
        return f"{head}, the largest number that is searched."
    if row[at + 1] > home.room[i, 0]:
        return f"{head}. Memory limits it: {requests(int(home.room[i, 0]))} of mean length fit."
    if not home.fits[i, at + 1]:
        return f"{head}. The engine's limit of concurrent sequences allows no more."
    broken = [name for name, met in home.meets.items() if not met[i, at + 1]]
    if not broken:
        return f"{head}. The load needs no more."
    name, more = broken[0], int(row[at + 1])
    times = {"TTFT": (home.ttft, limits.ttft), "TPOT": (home.tpot, limits.tpot), "end-to-end": (home.e2e, limits.e2e)}
    if name in times:
        values, limit = times[name]
        reached = show_time(float(values[i, at + 1]))
        return f"{head}. {limit_name(name)} limits it: {more} would reach {reached}, over {show_time(limit or 0.0)}."
    if name == CERTAINTY:
        sure = show_percent(float(home.sure[i, at + 1]))
        return f"{head}. With {more} the probability of keeping the limits would be only {sure}."
    return f"{head}. The number of GPUs limits it."


def limit_name(name: str) -> str:
    """Return the name of a latency limit at the head of a sentence."""
    return "End-to-end time" if name == "end-to-end" else name


def requests(count: int) -> str:
    """Return a number of requests: '1 request', '8 requests'."""
    return f"{count:,} request{'s' * (count != 1)}"


def prefill(plan: Plan) -> str:
    """Return the share of busy GPU time that goes to prompts, where a smaller KV cache saves nothing."""
    share = show_percent(plan.prompt_share)
    rest = show_percent(1 - round(plan.prompt_share, 2))
    return f"Prefill takes {share} of busy GPU time; KV compression can speed up only the other {rest}."


def compression(d: Decision) -> Iterable[str]:
    """Yield what compressing the cache and converting the weights are worth here, served by the engine or not."""
    if d.plan.usd is None:
        return
    alike = [p for p in d.outcome.plans if p.usd is not None and p.grounded >= d.plan.grounded]
    usable = [p for p in alike if p.pair in d.outcome.pairs]
    yield from compressed_cache(d, usable)
    yield from lighter_weights(d, usable)
    yield from unserved(d, alike)


def compressed_cache(d: Decision, usable: Sequence[Plan]) -> Iterable[str]:
    """Yield what the technique is worth, where the search could have done without."""
    technique = d.plan.technique
    if technique == spelling.BASELINE or all(name != spelling.BASELINE for name, _ in d.outcome.pairs):
        return
    best = min((p for p in usable if p.technique == spelling.BASELINE), key=usd, default=None)
    alone = "the best plan that keeps prefixes on its GPUs alone"
    plainest = alone if spelling.keeps_all(technique) else "the best uncompressed plan"
    yield from against(d.plan, spelling.in_words(technique), best, plainest)


def lighter_weights(d: Decision, usable: Sequence[Plan]) -> Iterable[str]:
    """Yield what the weight format is worth, where the search could have kept the checkpoint's own."""
    if d.plan.form is None or all(form is not None for _, form in d.outcome.pairs):
        return
    best = min((p for p in usable if p.form is None), key=usd, default=None)
    yield from against(d.plan, f"{d.plan.form} weights", best, "the best plan with the checkpoint's weights")


def unserved(d: Decision, alike: Sequence[Plan]) -> Iterable[str]:
    """Yield what a technique would save that the engine does not serve."""
    best = min((p for p in alike if not p.served_by_engine), key=usd, default=None)
    if best is None or usd(best) >= (1 - SMALL) * usd(d.plan):
        return
    drop, change = best.quality.drop, usd(best) / usd(d.plan) - 1
    loss = f"{show_percent(drop, 1)} quality loss" if drop is not None else "unknown quality loss"
    name, engine = spelling.in_words(best.technique), d.demand.engine.title
    yield f"{name} would cost {compared(change)} ({best.label}; {loss}), but {engine} does not serve it."


def against(plan: Plan, what: str, other: Plan | None, which: str) -> Iterable[str]:
    """Yield what a plan saves against the best without what it does to the model."""
    verb = "cost" if what.endswith("weights") else "costs"
    if other is None:
        yield f"Without {what} no plan keeps the limits."
        return
    change = usd(plan) / usd(other) - 1
    if abs(change) < SAME:
        less, more = show_odds(other.slo_probability), show_odds(plan.slo_probability)
        sure = f", which keeps the limits with {less} probability, not {more}" if less != more else ""
        yield f"{what} {verb} the same as {which} to within {show_percent(SAME, 1)} ({other.label}){sure}."
    else:
        yield f"{what} {verb} {compared(change)} than {which} ({other.label})."


def bursts(d: Decision, smooth: float | None) -> Iterable[str]:
    """Yield what planning for bursts costs, and what the bursts are."""
    plan, arrivals = d.plan, d.demand.workload.arrivals
    if smooth is None or plan.usd is None or smooth >= (1 - SMALL) * plan.usd:
        return
    source = d.demand.workload.sources.get("arrivals")
    seen = " (measured in a log)" if source and source.kind == "measured" else ""
    yield (
        f"Bursts are {show_percent(1 - smooth / plan.usd)} of the cost: the time between requests varies "
        f"{arrivals.burstiness:g}x its mean, and the busiest minute brings {arrivals.busiest_minute:g}x the requests "
        f"of a mean one{seen}. With smooth (Poisson) arrivals the cost would be {show_usd_each(smooth, plan.usd)}; "
        "simulate=True also says how many replicas are enough behind a router that knows their load."
    )


def compared(change: float) -> str:
    """Return a relative difference in words: '25 % less', '100 % more'."""
    return f"{show_percent(abs(change))} {'less' if change < 0 else 'more'}"


def usd(plan: Plan) -> float:
    """Return what a query costs, 0 where unknown. [USD]"""
    return plan.usd or 0.0


def unmeasured(d: Decision) -> Iterable[str]:
    """Yield the cheaper GPU on which no server was measured."""
    others = [p for p in d.outcome.plans if not p.rated and p.pair in d.outcome.pairs and p.usd is not None]
    if not d.plan.rated or not others or d.plan.usd is None:
        return
    best = min(others, key=usd)
    if usd(best) < d.plan.usd:
        yield (
            f"{best.gpu} would cost {show_usd_each(usd(best), d.plan.usd)}, but no server was measured on it; "
            f"use gpus={best.gpu} to plan with it."
        )


def caching(d: Decision) -> Iterable[str]:
    """Yield what the prefix cache is worth."""
    demand, plan = d.demand, d.plan
    share = demand.workload.prefix_share
    if not share or not demand.prefix_cache or plan.usd is None:
        return
    without = replace(demand, prefix_cache=False)
    again, _ = search(replace(without, forms=(plan.form,)), [plan.technique], [d.home.site])
    book = replace(d.outcome.book, demand=without)
    best = book.best(again[0], plan.pair, d.outcome.objective) if again else None
    head = f"Prefix caching ({show_percent(share)} of input tokens)"
    if best is None or best.usd is None:
        yield f"{head} is needed: without it no plan on {plan.gpu} keeps the limits."
    elif plan.usd < (1 - SAME) * best.usd:
        yield f"{head} lowers the cost by {show_percent(1 - plan.usd / best.usd)}."


def speculation(d: Decision) -> Iterable[str]:
    """Yield what speculative decoding is worth where it was tried."""
    if not d.demand.drafting or d.plan.usd is None:
        return
    plan, label = d.plan, d.demand.drafting[0].label
    if plan.drafting is None:
        yield f"Speculative decoding ({label}) was tried and does not lower the cost."
        return
    s, plain = d.outcome, [one.undrafted() for one in d.outcome.rated]
    without = next((p for p in s.book.choices(plain, s.pairs, s.objective) if p.usd is not None), None)
    if without is None:
        yield f"Speculative decoding ({label}) is needed: without it no plan keeps the limits."
    else:
        change = compared(usd(plan) / usd(without) - 1)
        yield f"With speculative decoding ({label}) a query costs {change} than without it ({without.label})."


def looser_limits(d: Decision) -> Iterable[str]:
    """Yield what a limit twice as long, or more certainty, would do to the cost."""
    plan, limits = d.plan, d.demand.limits
    if plan.usd is None or d.outcome.objective != "cost":
        return
    for name, field in (("TTFT", "ttft"), ("TPOT", "tpot"), ("end-to-end", "e2e")):
        limit = getattr(limits, field)
        if limit is None:
            continue
        best = d.cheapest(replace(d.demand, limits=replace(limits, **{field: 2 * limit})))
        if best is not None and usd(best) < (1 - SMALL) * plan.usd:
            article = "An" if name == "end-to-end" else "A"
            change = compared(usd(best) / plan.usd - 1)
            head = f"{article} {name} limit of {show_time(2 * limit)} instead of {show_time(limit)}"
            yield f"{head} would cost {change} ({best.label})."
    yield from odds(d)


def odds(d: Decision) -> Iterable[str]:
    """Yield what more certainty would cost, or less of it would save."""
    limits, plan = d.demand.limits, d.plan
    if not limits.times:
        return
    if limits.confidence >= CONFIDENCE:
        best = d.cheapest(replace(d.demand, limits=replace(limits, confidence=EVEN)))
        if best is not None and usd(best) < (1 - SMALL) * usd(plan):
            yield (
                f"Even odds of keeping the limits (confidence={EVEN:.0%}) would cost "
                f"{compared(usd(best) / usd(plan) - 1)} ({best.label})."
            )
    elif plan.slo_probability < CONFIDENCE:
        head = f"Keeping the limits with {show_percent(CONFIDENCE)} probability (confidence={CONFIDENCE:.0%})"
        best = d.cheapest(replace(d.demand, limits=replace(limits, confidence=CONFIDENCE)))
        if best is None:
            ways = "measurements of your own server (kvplan calibrate) would narrow the range"
            yield f"{head} is not possible; {ways}."
            return
        change = usd(best) / usd(plan) - 1
        yield f"{head} {f'would cost {compared(change)}' if change >= SAME else 'costs no more'} ({best.label})."


def idle(d: Decision, bill: Bill | None) -> Iterable[str]:
    """Yield the share of the bill that pays for idle GPUs, and why they are idle."""
    if bill is None:
        return
    amount = sum(line.amount for line in bill.lines if line.name == "idle")
    if amount > 0.05 * bill.total:
        demand = d.demand
        causes = [f"the busiest hour has {demand.peak / demand.mean:.1f}x the mean load"] * (demand.peak > demand.mean)
        causes += ["requests arrive unevenly"] * (not demand.workload.offline)
        causes += [f"{show_percent(demand.headroom)} headroom is kept"] if demand.headroom else []
        causes += ["replicas cannot be divided"]
        listed = f"{', '.join(causes[:-1])} and {causes[-1]}" if len(causes) > 1 else causes[0]
        yield f"Idle GPUs are {show_percent(amount / bill.total)} of the bill, because {listed}."


def spares(d: Decision, bill: Bill | None) -> Iterable[str]:
    """Yield what spare replicas are, where they are a good part of the bill."""
    amount = sum(line.amount for line in bill.lines if line.name == SPARES) if bill else 0.0
    if bill is None or amount < MUCH * bill.total:
        return
    many = d.demand.spares
    stand = "1 replica that stands" if many == 1 else f"{many} replicas that stand"
    yield (
        f"Spares are {show_percent(amount / bill.total)} of the bill: {stand} in when another fails. Without "
        f"{'it' if many == 1 else 'them'} (spares=0) a failure leaves fewer replicas than the load is planned for."
    )


def apis(d: Decision, volumes: Sequence[tuple[ApiPrice, BreakEven]]) -> Iterable[str]:
    """Yield up to which volume each API is cheaper."""
    for price, even in volumes:
        other = "" if price.serves == d.demand.model.name else " (another model)"
        name = f"{price.model} from {price.provider}{other}"
        charge = show_usd_each(even.api_per_query or 0.0, d.plan.usd)
        if even.always is None:
            if even.reason:
                yield f"{name} charges {charge}: {even.reason}."
            continue
        first = even.first or even.always
        if first < (1 - SMALL) * even.always:
            yield (
                f"{name} charges {charge}: it is cheaper below {first:,.0f} queries a day, hosting is cheaper "
                f"above {even.always:,.0f}; in between it depends on how full the last replica is."
            )
        else:
            yield f"{name} charges {charge}: it is cheaper below {even.always:,.0f} queries a day."
