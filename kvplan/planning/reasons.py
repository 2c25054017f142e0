"""Why this plan: what binds it, where its time goes, and what would change the answer, in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kvplan.kv import spelling
from kvplan.money.api import BreakEven
from kvplan.money.bill import Bill
from kvplan.planning.plan import Book, Plan, rank, row_of
from kvplan.planning.search import CERTAINTY, Candidates, Demand, search
from kvplan.specs.money import ApiPrice
from kvplan.units import show_time, show_usd

#: certainty a careful team asks for
SURE = 0.8
#: shares of the cost below which a difference is not worth a sentence
SMALL = 0.03


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A plan among what it was chosen from: all candidates (`home`: on its GPU), the best of each kind, the bars."""

    demand: Demand
    plan: Plan
    home: Candidates
    found: Sequence[Candidates]
    plans: Sequence[Plan]
    barred: Mapping[str, str]
    book: Book
    objective: str
    guesses: bool

    def cheapest(self, demand: Demand) -> Plan | None:
        """Return the cheapest plan under other limits, everything else alike."""
        names = [n for n in self.book.qualities if n not in self.barred]
        sites = [one for one in self.found if self.guesses or one.site.calibration.grounded]
        judged = [one.under(demand) for one in sites]
        best = [p for one in judged for n in names if (p := self.book.best(one, n, self.objective)) is not None]
        return min((p for p in best if p.usd is not None), key=rank("cost"), default=None)


def why(choice: Choice, bill: Bill | None, volumes: Sequence[tuple[ApiPrice, BreakEven]]) -> Iterable[str]:
    """Yield why this plan, one sentence a line."""
    plan = choice.plan
    yield binding(choice)
    share = plan.prompt_share
    kind = "prefill" if share > 0.6 else "decode" if share < 0.4 else "neither prefill nor decode alone"
    said = f"{share:.0%} of the GPUs' busy time reads prompts: {kind} decides"
    yield f"{said}, and a smaller KV cache only helps the rest"
    yield from compression(choice)
    yield from guessed(choice)
    yield from caching(choice)
    yield from relaxed(choice)
    yield from waiting(choice, bill)
    yield from bought(choice, volumes)


def binding(c: Choice) -> str:
    """Say what keeps a replica from carrying more."""
    plan, home, limits = c.plan, c.home, c.demand.limits
    i = row_of(home, plan)
    row = list(home.requests[i])
    at = row.index(plan.in_flight)
    said = f"a replica carries {requests(plan.in_flight)} at once"
    if at + 1 >= len(row):
        return f"{said}, the most that is tried"
    if row[at + 1] > home.room[i, 0]:
        return f"{said}: memory binds, {requests(int(home.room[i, 0]))} of mean length fit"
    if not home.fits[i, at + 1]:
        return f"{said}: the engine's limit of sequences binds"
    names = [name for name, met in home.meets.items() if not met[i, at + 1]]
    if not names:
        return f"{said}: the load needs no more"
    name, more = names[0], int(row[at + 1])
    times = {"TTFT": (home.ttft, limits.ttft), "TPOT": (home.tpot, limits.tpot), "end-to-end": (home.e2e, limits.e2e)}
    if name in times:
        found, limit = times[name]
        reached = show_time(float(found[i, at + 1]))
        return f"{said}: {name} binds, {more} would reach {reached}, over {show_time(limit or 0.0)}"
    if name == CERTAINTY:
        return f"{said}: {more} would keep the limits with {home.sure[i, at + 1]:.0%} probability only"
    return f"{said}: the number of GPUs binds"


def requests(count: int) -> str:
    return f"{count:,} request{'s' * (count != 1)}"


def compression(c: Choice) -> Iterable[str]:
    """Say what compressing the cache is worth here, by techniques the engine serves and by all."""
    plan, engine = c.plan, c.demand.engine.title
    if plan.usd is None:
        return
    alike = [p for p in c.plans if p.usd is not None and p.grounded >= plan.grounded]
    plain = min((p for p in alike if p.technique == spelling.BASELINE), key=usd, default=None)
    if plan.technique != spelling.BASELINE and plain is not None:
        change = plan.usd / usd(plain) - 1
        if abs(change) < 0.005:
            yield f"{plan.technique} saves less than 0.5%: {plain.label} costs as much and loses no quality"
        else:
            yield f"{plan.technique} costs {change:+.0%} against the best uncompressed plan ({plain.label})"
    best = min((p for p in alike if not p.served_by_engine), key=usd, default=None)
    if best is not None and usd(best) < (1 - SMALL) * plan.usd:
        drop = best.quality.drop
        loss = f"{drop:.1%} quality loss" if drop is not None else "its quality loss unknown"
        change = usd(best) / plan.usd - 1
        yield f"{best.technique} would cost {change:+.0%} ({best.label}; {loss}), but {engine} does not serve it"


def usd(plan: Plan) -> float:
    return plan.usd or 0.0


def guessed(c: Choice) -> Iterable[str]:
    """Say what a GPU nobody measured would cost."""
    others = [p for p in c.plans if not p.grounded and p.technique not in c.barred and p.usd is not None]
    if not c.plan.grounded or not others or c.plan.usd is None:
        return
    best = min(others, key=usd)
    if usd(best) < c.plan.usd:
        said = f"{best.gpu} would be {show_usd(usd(best))} a query, but no server on it was measured"
        yield f"{said}; gpus={best.gpu} plans with it"


def caching(c: Choice) -> Iterable[str]:
    """Say what the prefix cache is worth."""
    demand, plan = c.demand, c.plan
    share = demand.workload.prefix_share
    if not share or not demand.prefix_cache or plan.usd is None:
        return
    without = replace(demand, prefix_cache=False)
    again, _ = search(without, [plan.technique], [c.home.site])
    book = replace(c.book, demand=without)
    best = book.best(again[0], plan.technique, c.objective) if again else None
    if best is None or best.usd is None:
        said = f"without it no plan on {plan.gpu} keeps the limits"
        yield f"prefix caching ({share:.0%} of input tokens) is needed: {said}"
    elif plan.usd < (1 - 0.005) * best.usd:
        yield f"prefix caching ({share:.0%} of input tokens) cuts the cost by {1 - plan.usd / best.usd:.0%}"


def relaxed(c: Choice) -> Iterable[str]:
    """Say what a looser limit, or more certainty, would do to the cost."""
    plan, limits = c.plan, c.demand.limits
    if plan.usd is None or c.objective != "cost":
        return
    for name, field in (("TTFT", "ttft"), ("TPOT", "tpot"), ("end-to-end", "e2e")):
        limit = getattr(limits, field)
        if limit is None:
            continue
        found = c.cheapest(replace(c.demand, limits=replace(limits, **{field: 2 * limit})))
        if found is not None and usd(found) < (1 - SMALL) * plan.usd:
            said = f"a {name} limit of {show_time(2 * limit)} instead of {show_time(limit)}"
            yield f"{said} would cost {usd(found) / plan.usd - 1:+.0%} ({found.label})"
    if limits.confidence < SURE and plan.slo_probability < SURE:
        found = c.cheapest(replace(c.demand, limits=replace(limits, confidence=SURE)))
        said = f"with {SURE:.0%} certainty"
        if found is None:
            yield f"no plan keeps the limits {said}; rows of your own server (kvplan calibrate) narrow the doubt"
        else:
            change = usd(found) / plan.usd - 1
            worth = f"would cost {change:+.0%}" if change >= 0.005 else "costs no more"
            yield f"keeping the limits {said} (confidence={SURE:.0%}) {worth} ({found.label})"


def waiting(c: Choice, bill: Bill | None) -> Iterable[str]:
    """Say why GPUs wait."""
    if bill is None:
        return
    idle = sum(line.amount for line in bill.lines if line.name == "idle")
    if idle > 0.05 * bill.total:
        demand = c.demand
        because = (
            [f"the busiest hour is {demand.peak / demand.mean:.1f}x the mean"] if demand.peak > demand.mean else []
        )
        because += ["requests do not come evenly"] if demand.fluctuation else []
        because += [f"{demand.headroom:.0%} headroom"] if demand.headroom else []
        because += ["replicas come whole"]
        yield f"{idle / bill.total:.0%} of the bill is GPUs waiting: {', '.join(because)}"


def bought(c: Choice, volumes: Sequence[tuple[ApiPrice, BreakEven]]) -> Iterable[str]:
    """Say up to which volume an API is cheaper."""
    for price, even in volumes:
        name = f"{price.provider}'s {price.model}{'' if price.serves == c.demand.model.name else ' (another model)'}"
        charge = show_usd(even.api_per_query or 0.0)
        if even.always is None:
            if even.reason:
                yield f"{name} charges {charge} a query: {even.reason}"
            continue
        first = even.first or even.always
        if first < (1 - SMALL) * even.always:
            yield (
                f"below {first:,.0f} queries a day {name} is cheaper at {charge} a query, above {even.always:,.0f} "
                "hosting is; between them it depends on how full the last replica is"
            )
        else:
            yield f"below {even.always:,.0f} queries a day {name} is cheaper, at {charge} a query"
