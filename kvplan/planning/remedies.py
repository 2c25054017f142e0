"""What would make an infeasible plan feasible: each limit moved just far enough, other weights, techniques and GPUs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, floor, inf, log10

from kvplan.architectures.formats import format_named
from kvplan.kv import spelling
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Book, Plan
from kvplan.planning.searching.certainty import certainty
from kvplan.planning.searching.configurations import Pair
from kvplan.planning.searching.search import Candidates, Reach, limited, rated, reachable, search
from kvplan.planning.searching.sizing import MOST as REPLICAS
from kvplan.planning.site import EVEN, Limits, Site
from kvplan.specs.hardware import Gpu
from kvplan.units import show_apart, show_percent, show_percentile, show_time

#: latency limits and the names of their times
TIMES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "end-to-end time"}
#: halvings of a search for the least change, and the greatest factor of a limit that is tried
HALVINGS, MOST = 24, 1e6
#: digits a limit is rounded up to
DIGITS = 2
#: the least probability that may be asked for, and how finely it is told
LEAST_SURE, STEP = 0.05, 0.05


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change of what was asked, as parameters (`max_gpus=12`), what is asked then, and the best plan under it."""

    change: str  #: as parameters, joined by "and"
    plan: Plan  #: the best under the change
    demand: Demand  #: what is asked under the change

    @property
    def parameters(self) -> set[str]:
        """Names of what is changed."""
        return {part.split("=")[0] for part in self.change.split(" and ")}


def surest(options: Sequence[Remedy]) -> float | None:
    """Return the greatest probability at which there is a plan, None where it is less than even or GPUs are too few."""
    if any("max_gpus" in remedy.parameters for remedy in options):
        return None
    odds = (remedy.demand.limits.confidence for remedy in options if remedy.parameters == {"confidence"})
    return next((share for share in odds if share >= EVEN), None)


@dataclass(frozen=True, kw_only=True)
class Impasse:
    """A question without a plan: its candidates, the pairs that may be used, and what else could be looked at."""

    demand: Demand  #: what is to be served
    book: Book  #: what turns a candidate into a plan
    candidates: Sequence[Candidates]  #: of every GPU that was searched
    pairs: Sequence[Pair]  #: (technique, weight format) that may be used
    #: pairs that were searched but may not be used
    barred: Sequence[Pair]
    objective: str  #: what plans are ranked by
    #: whether GPUs on which no server was measured may be recommended
    guesses: bool
    #: weight formats, techniques and GPUs that were not searched
    formats: Sequence[str] = ()
    techniques: Sequence[str] = ()  #: others that could be tried
    sites: Sequence[Site] = ()  #: other GPUs that could be tried
    asked: Sequence[Site] = ()  #: GPUs that were asked about, some without a candidate

    @property
    def here(self) -> Sequence[Site]:
        """The GPUs that were asked about, whether or not they have candidates."""
        return self.asked or [one.site for one in self.candidates]

    def best(
        self, limits: Limits, pairs: Sequence[Pair] | None = None, guesses: bool | None = None, exactly: bool = False
    ) -> Plan | None:
        """Return the best plan under other limits; exactly: with just the replicas that they ask for."""
        demand = replace(self.demand, limits=limits)
        some = rated(self.candidates, self.guesses if guesses is None else guesses)
        return self.book.under(demand, some, self.pairs if pairs is None else pairs, self.objective, exactly)

    def able(self, limits: Limits) -> bool:
        """Return whether there is a plan under other limits."""
        demand = replace(self.demand, limits=limits)
        some = rated(self.candidates, self.guesses)
        return any(self.book.serves(one.under(demand), self.pairs, self.objective) for one in some)

    def resized(self, limits: Limits) -> "Impasse":
        """Return the question with as many replicas of each candidate as other limits ask for."""
        demand = replace(self.demand, limits=limits)
        return replace(self, candidates=[limited(demand, one.crowd) for one in self.candidates])

    def exact(self, limits: Limits, gpu: str) -> Plan | None:
        """Return the best plan on one GPU with just the replicas that other limits ask for."""
        demand = replace(self.demand, limits=limits)
        there = [limited(demand, one.crowd) for one in self.candidates if one.site.gpu.name == gpu]
        plans = replace(self.book, demand=demand).choices(there, self.pairs, self.objective)
        return plans[0] if plans else None

    def elsewhere(self, demand: Demand, sites: Sequence[Site], pairs: Sequence[Pair]) -> Plan | None:
        """Return the best plan on other GPUs, or with other weights."""
        names = list(dict.fromkeys(technique for technique, _ in pairs))
        places, _ = search(demand, names, sites)
        plans = self.book.choices(rated(places, self.guesses), pairs, self.objective)
        return plans[0] if plans else None


def remedies(i: Impasse) -> tuple[Remedy, ...]:
    """Return the single changes that make a plan possible, the cheapest plan first; where none does, pairs of them."""
    options = list(single(i)) or list(double(i))
    return tuple(sorted(options, key=lambda r: inf if r.plan.usd is None else r.plan.usd))


def single(i: Impasse) -> Iterator[Remedy]:
    """Yield the single changes: GPUs, limits, certainty, weights, techniques, GPU types."""
    limits = i.demand.limits
    if limits.gpus is not None and (plan := fewest(i, replace(limits, gpus=None))):
        yield Remedy(change=f"max_gpus={plan.gpus}", plan=plan, demand=under(i, replace(limits, gpus=plan.gpus)))
    for name in TIMES:
        if getattr(limits, name) is not None and (moved := loosened(i, limits, (name,))):
            yield moved
    if moved := less_sure(i, limits):
        yield moved
    yield from other_weights(i)
    yield from unbarred(i)
    yield from other_techniques(i)
    yield from other_gpus(i)


def other_weights(i: Impasse) -> Iterator[Remedy]:
    """Yield the weight formats that were not searched, each where it has a plan."""
    techniques = list(dict.fromkeys(technique for technique, _ in (*i.pairs, *i.barred)))
    for form in (*i.formats, *own_format(i.demand)):
        pairs = [(t, form) for t in techniques if not i.book.barred([(t, form)])]
        demand = replace(i.demand, forms=(form,))
        if pairs and (plan := i.elsewhere(demand, i.here, pairs)):
            yield Remedy(change=f"weights={form}", plan=plan, demand=demand)


def other_techniques(i: Impasse) -> Iterator[Remedy]:
    """Yield the best of the techniques that were not searched."""
    choices = [(name, form) for name in i.techniques for form in i.demand.forms]
    barred = i.book.barred(choices)
    free = [pair for pair in choices if pair not in barred]
    if free and (plan := i.elsewhere(i.demand, i.here, free)):
        yield Remedy(change=f"techniques={plan.technique}", plan=plan, demand=i.demand)


def other_gpus(i: Impasse) -> Iterator[Remedy]:
    """Yield the best GPU that was not to be recommended, since no server on it was measured, and one not searched."""
    if not i.guesses and (plan := i.best(i.demand.limits, guesses=True)):
        yield Remedy(change=f"gpus={plan.gpu}", plan=plan, demand=i.demand)
    if i.sites and i.pairs and (plan := i.elsewhere(i.demand, i.sites, i.pairs)):
        yield Remedy(change=f"gpus={plan.gpu}", plan=plan, demand=i.demand)


def own_format(demand: Demand) -> tuple[str, ...]:
    """Return the format that a checkpoint's weights already have, where other formats were named; () if quantized."""
    own = None if demand.model.quantization or None in demand.forms else format_named(demand.model.dtype)
    return (own.name,) if own and own.name not in demand.forms else ()


def unbarred(i: Impasse) -> Iterator[Remedy]:
    """Yield the changes that let a barred technique be used, in every weight format: it was searched in one."""
    limits = i.demand.limits
    choices = [(name, form) for name in dict.fromkeys(name for name, _ in i.barred) for form in i.demand.forms]
    barred = i.book.barred(choices)
    free = {
        "any_technique=True": replace(limits, any_technique=True),
        "max_quality_drop=": replace(limits, quality=None),
    }
    for change, looser in free.items():
        still = i.book.barred(choices, under(i, looser))
        pairs = [pair for pair in barred if pair not in still]
        if pairs and (plan := i.elsewhere(under(i, looser), i.here, pairs)):
            drop = plan.quality.drop
            share = "none" if drop is None else f"{ceil(1e3 * drop) / 10:g}%"
            if change.endswith("="):
                kept = None if drop is None else ceil(1e3 * drop) / 1e3
                yield Remedy(change=change + share, plan=plan, demand=under(i, replace(looser, quality=kept)))
            else:
                yield Remedy(change=change, plan=plan, demand=under(i, looser))


def double(i: Impasse) -> Iterator[Remedy]:
    """Yield several changes at once: GPUs and one other, else latency limits, else none of these and one other."""
    limits = i.demand.limits
    more = replace(i, demand=replace(i.demand, limits=replace(limits, gpus=None)))
    options = [] if limits.gpus is None else list(single(more))
    times = [name for name in TIMES if getattr(limits, name) is not None]
    for size in range(2, len(times) + 1):
        if not options:  # the fewest limits that are enough
            ways = (loosened(more, more.demand.limits, names) for names in combinations(times, size))
            options = [way for way in ways if way is not None]
    if not options and times:
        lifted = replace(more.demand.limits, ttft=None, tpot=None, e2e=None)
        without = [f"{name}=none" for name in times]
        options = [
            replace(remedy, change=" and ".join((remedy.change, *without)))
            for remedy in single(replace(more, demand=replace(i.demand, limits=lifted)))
        ]
    for remedy in options:
        few = limits.gpus is None or remedy.plan.gpus <= limits.gpus
        yield remedy if few else replace(remedy, change=f"{remedy.change} and max_gpus={remedy.plan.gpus}")


def under(i: Impasse, limits: Limits) -> Demand:
    """Return the demand under other limits."""
    return replace(i.demand, limits=limits)


def fewest(i: Impasse, limits: Limits) -> Plan | None:
    """Return the plan with the fewest GPUs."""
    return replace(i, objective="gpus").best(limits, exactly=True)


def least_within(able: Callable[[float], bool], low: float, high: float, halvings: int = HALVINGS) -> float:
    """Return the least number between two for which something is possible, as it is at `high`, by bisecting logs."""
    for _ in range(halvings):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if able(middle) else (middle, high)
    return high


def loosened(i: Impasse, limits: Limits, names: Sequence[str]) -> Remedy | None:
    """Return the least common factor of some latency limits under which there is a plan, None where none helps."""

    def times(factor: float) -> Limits:
        longer = {name: rounded_up(factor * getattr(limits, name)) for name in names}
        return replace(limits, **longer)  # type: ignore[arg-type]

    if not i.able(times(MOST)):  # other limits may ask for more replicas than requests fill
        i = i.resized(times(MOST))
        if not i.able(times(MOST)):
            return None
    loose = times(least_within(lambda factor: i.able(times(factor)), 1.0, MOST))
    plan = i.best(loose, exactly=True)
    if plan is None:
        return None
    tight = needed(i, plan, limits, loose)
    if tight != loose and (other := i.exact(tight, plan.gpu)):
        loose, plan = tight, other
    moved = [name for name in names if getattr(loose, name) != getattr(limits, name)]
    words = " and ".join(f"{name}={written(getattr(loose, name))}" for name in moved)
    return Remedy(change=words, plan=plan, demand=under(i, loose))


def needed(i: Impasse, plan: Plan, limits: Limits, loose: Limits) -> Limits:
    """Return the `loose` limits without what a plan does not need: those of `limits` it keeps, the others as short.

    It keeps them all with the confidence that is sought, rounded up to a few digits.
    """
    calibration = next(one.site.calibration for one in i.candidates if one.site.gpu.name == plan.gpu)

    def keeps(some: Limits) -> bool:
        pairs = ((getattr(plan, name), getattr(some, name)) for name in TIMES)
        sure = certainty(under(i, some), calibration, plan.ttft, plan.tpot)
        return all(limit is None or time <= limit for time, limit in pairs) and bool(sure >= some.confidence)

    def moved(some: Limits, name: str, seconds: float) -> Limits:
        return replace(some, **{name: seconds})  # type: ignore[arg-type]

    def shorter(some: Limits, name: str, old: float, new: float) -> Limits:
        short = rounded_up(least_within(lambda seconds: keeps(moved(some, name, seconds)), old, new))
        return moved(some, name, min(short, new))

    def changed(some: Limits) -> list[str]:
        return [name for name in TIMES if getattr(some, name) != getattr(limits, name)]

    for name in changed(loose):
        old, new = getattr(limits, name), getattr(loose, name)
        kept = moved(loose, name, old)
        loose = kept if changed(kept) and keeps(kept) else shorter(loose, name, old, new)
    return loose


def rounded_up(seconds: float) -> float:
    """Return a time rounded up to a few digits. [s]"""
    scale = 10 ** (floor(log10(seconds)) - DIGITS + 1)
    return float(ceil(round(seconds / scale, 6)) * scale)


def written(seconds: float) -> str:
    """Return a time as a limit is written: '2.4s', '52ms'."""
    return f"{seconds:.12g}s" if seconds >= 1 else f"{1e3 * seconds:.12g}ms"


def less_sure(i: Impasse, limits: Limits) -> Remedy | None:
    """Return the greatest probability at which there is a plan, None where there is none at all."""
    free = replace(limits, confidence=0.0)
    demand = replace(i.demand, limits=free)
    some = rated(i.candidates, i.guesses)
    judged = (one.under(demand) for one in some)
    able = [one.sure[one.feasible & one.of(i.pairs)] for one in judged]
    most = max((float(sure.max()) for sure in able if sure.size), default=0.0)
    share = round(floor(most / STEP + 1e-9) * STEP, 2)
    if share < EVEN < limits.confidence:  # more replicas than any load asks for may do with even odds
        even = replace(i, demand=under(i, replace(limits, confidence=EVEN)))
        places = [limited(even.demand, one.crowd) for one in some]
        if plans := replace(i.book, demand=even.demand).choices(places, i.pairs, i.objective):
            return Remedy(change=f"confidence={EVEN:.0%}", plan=plans[0], demand=even.demand)
    if not LEAST_SURE <= share < limits.confidence:
        return None
    lower = replace(limits, confidence=share)
    plan = i.best(lower, exactly=True)
    return Remedy(change=f"confidence={share:.0%}", plan=plan, demand=under(i, lower)) if plan else None


# -- the reason -----------------------------------------------------------------------------------

NO_REPLICA = "no replica within one node holds the model and the longest request"


def no_room(gpus: Iterable[Gpu], pairs: Sequence[Pair]) -> str:
    """Return why no replica holds a request: that no GPU runs any of the techniques, else that memory is too small."""
    lacking = dict.fromkeys(spelling.runs_on(technique, gpu) for gpu in gpus for technique, _ in pairs)
    return "; ".join(lacking) if lacking and all(lacking) else NO_REPLICA


def reason(one: Candidates, demand: Demand, pairs: Sequence[Pair], guesses: bool) -> str:
    """Return why no allowed technique can be served on a GPU, '' when one can."""
    if not pairs:
        return ""
    mine, limits = one.of(pairs), demand.limits
    if (one.feasible & mine).any():
        if guesses or one.site.rated:
            return ""
        return (
            f"no server on it was measured, so its times are extrapolated; use gpus={one.site.gpu.name} to plan with it"
        )
    fits = one.fits & mine
    if not fits.any():
        return no_room([one.site.gpu], pairs)
    reach = reachable(one, demand, fits)
    for name, what in TIMES.items():
        least_time, limit = float(getattr(reach, name).min()), getattr(limits, name)
        if limit is not None and least_time > limit:
            reached, allowed = show_apart(least_time, limit, show_time)
            return f"{what} is at least {reached} at {show_percentile(limits.percentile)}, over {allowed}"
    sure = float(reach.sure.max())
    if sure < limits.confidence:
        return f"even replicas with next to no load keep the limits with {too_little(sure, limits.confidence)}"
    if limits.gpus is not None:
        any_number = limited(replace(demand, limits=replace(limits, gpus=None)), one.crowd)
        able = any_number.feasible & mine
        if able.any():
            needed = f"{any_number.gpus[able].min():.0f} GPUs are needed"
            return f"{needed} to keep the other limits, more than max_gpus={limits.gpus}"
        if float(one.gpus[fits].min()) > limits.gpus:
            return f"at least {one.gpus[fits].min():.0f} GPUs are needed, more than max_gpus={limits.gpus}"
    return together(reach, limits)


def together(reach: Reach, limits: Limits) -> str:
    """Return which limits each can be kept alone, but not all at once, and how near the surest candidate comes."""
    keeping, before = reach.sure >= 0, list[str]()
    for name, what in TIMES.items():
        limit, times = getattr(limits, name), getattr(reach, name)
        if limit is None:
            continue
        able = keeping & (times <= limit)
        if not able.any():
            least_time, allowed = show_apart(float(times[keeping].min()), limit, show_time)
            kept = f"limit of {before[0]} is" if len(before) == 1 else f"limits of {' and '.join(before)} are"
            return f"where the {kept} kept, {what} is at least {least_time}, over {allowed}"
        keeping = able
        before.append(what)
    sure = float(reach.sure[keeping].max())
    if sure < limits.confidence:
        return f"where the limits are kept at the median, it is with {too_little(sure, limits.confidence)}"
    return f"only replicas with next to no load keep the limits: {REPLICAS:.0f} for each request in flight are too few"


def too_little(sure: float, sought: float) -> str:
    """Say that a probability is below the one that is sought."""
    reached, _ = show_apart(sure, sought, show_percent)
    return f"at most {reached} probability, less than confidence={sought:.0%}"
