"""What would make a fleet possible: more GPUs, a looser limit, other techniques or weights; the cheapest first."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from kvplan.planning.fleet.options import FleetWorkload, Looked, Option, groups, options
from kvplan.planning.fleet.program import Bucket, Solution, choose
from kvplan.planning.remedies import TIMES, Impasse, Remedy, least_within, remedies, rounded_up, written
from kvplan.planning.searching.search import search
from kvplan.planning.site import Limits

#: factors by which a limit is loosened where GPUs are short, one after the other
FACTORS = (1.5, 3.0, 10.0, 100.0)
#: halvings between the last two of them, fewer than for one plan: each solves the whole fleet
HALVINGS = 5
#: latency limits by name [s]
Moved = dict[str, float]
#: the probabilities that are tried instead
SURE = (0.75, 0.5)
#: what an option of the command says for all workloads; all else stands with a workload in the file
OPTIONS = ("confidence", "weights", "any_technique", "techniques")


@dataclass(frozen=True, kw_only=True)
class FleetRemedy:
    """A change under which there is a fleet, in the file's words or as parameters, and the cheapest such fleet."""

    change: str  #: as parameters, or in the words of the file
    usd: float  #: cost of the fleet [USD/s]
    gpus: Mapping[str, int]  #: GPUs taken, by type


@dataclass(frozen=True, kw_only=True)
class FleetImpasse:
    """Workloads that no fleet serves."""

    tasks: Sequence[FleetWorkload]  #: what is to be served
    stock: Mapping[str, int]  #: GPUs that can be had, by type
    buckets: int  #: into how many requests of a workload are cut by length
    columns: Mapping[str, Sequence[Option]]  #: workload -> what may serve parts of it
    asked: Sequence[Bucket]  #: buckets that must be served
    lacking: Sequence[Bucket]  #: buckets that no column serves
    seconds: float  #: the solver's time for every try [s]
    gap: float  #: share by which a cheaper fleet may remain unfound
    looked: Looked = field(default_factory=Looked)  #: candidates of the groups

    def columns_of(self, t: FleetWorkload, buckets: int, looked: Looked) -> list[Option]:
        """Return the columns of a workload cut into so many buckets."""
        return [c for group in groups(t, buckets) for c in options(group, looked)[0]]

    def with_columns(self, others: Iterable[FleetWorkload], exactly: bool = True) -> dict[str, Sequence[Option]]:
        """Return the columns where some workloads are others.

        Not exactly: those of whole workloads alone, with the replicas that the limits asked about took.
        """
        columns = dict(self.columns)
        for t in others:
            wholes = [] if exactly else self.columns_of(t, 1, self.looked)
            columns[t.name] = self.columns_of(t, self.buckets, Looked()) if exactly else self.parts(wholes)
        return columns

    def anew(self, change: str, changed: Sequence[FleetWorkload]) -> FleetRemedy | None:
        """Return the cheapest fleet where workloads have other candidates, None where there is none of whole workloads.

        Every workload is looked at as a whole first: a fleet of its parts is looked for where one of wholes is found.
        """
        return self.fleet(change, changed) if self.fleet(change, changed, exactly=False) else None

    def fleet(
        self, change: str, changed: Iterable[FleetWorkload] = (), stock: Mapping[str, int] | None = None,
        exactly: bool = True,
    ) -> FleetRemedy | None:  # fmt: skip
        """Return the cheapest fleet where some workloads or the stock are others, None where there is none."""
        solution = self.choose(self.with_columns(changed, exactly), stock or self.stock)
        if solution.uses is None:
            return None
        taken: dict[str, int] = {}
        for u in solution.uses:
            taken[u.option.site.gpu.name] = taken.get(u.option.site.gpu.name, 0) + u.gpus
        return FleetRemedy(change=change, usd=solution.usd, gpus=taken)

    def parts(self, wholes: Sequence[Option]) -> list[Option]:
        """Return columns of a workload as a whole as those of all its buckets."""
        return [replace(c, group=replace(c.group, last=self.buckets - 1)) for c in wholes]

    def choose(self, columns: Mapping[str, Sequence[Option]], stock: Mapping[str, int], lend: str = "") -> Solution:
        """Return the cheapest replicas, or those that need the fewest GPUs of one type beyond the stock."""
        every = [c for each in columns.values() for c in each]
        return choose(every, self.asked, stock, seconds=self.seconds, gap=0.0 if lend else self.gap, lend=lend)

    def everywhere(self, **limits: object) -> list[FleetWorkload]:
        """Return all workloads under other limits."""
        return [t.under(**limits) for t in self.tasks]


def fleet_remedies(i: FleetImpasse) -> tuple[FleetRemedy, ...]:
    """Return the changes that make a fleet possible, the cheapest fleet first."""
    ways = [r for r in (cured(i) if i.lacking else short(i)) if r is not None]
    return tuple(sorted(ways, key=lambda r: r.usd))


# -- a workload that nothing serves ---------------------------------------------------------------


def cured(i: FleetImpasse) -> Iterator[FleetRemedy | None]:
    """Yield the changes that let every workload be served: each single one, the cheapest of each where several lack."""
    names = dict.fromkeys(name for name, _ in i.lacking)
    cures = [(t, remedies(impasse(t))) for t in i.tasks if t.name in names]
    if not all(cure for _, cure in cures):
        return
    if len(cures) > 1:
        yield from enough(i, [(t, cure[0]) for t, cure in cures])
        return
    for t, cure in cures:
        for remedy in cure:
            yield from enough(i, [(t, remedy)])


def impasse(t: FleetWorkload) -> Impasse:
    """Return a workload by itself, on any number of its GPUs, as `recommend` would be asked about it."""
    wanted, book = t.wanted, t.book
    tried = [(name, form) for name in wanted for form in t.demand.forms]
    candidates, refused = search(t.demand, wanted, t.sites)
    able = [pair for pair in tried if pair[0] not in refused]
    return Impasse(
        demand=t.demand, book=book, candidates=candidates, pairs=[p for p in able if p not in t.left_out],
        barred=[p for p in able if p in t.left_out], objective="cost", guesses=True, formats=t.formats,
        techniques=[name for name in t.others if name not in wanted],
    )  # fmt: skip


def said(t: FleetWorkload, remedy: Remedy) -> str:
    """Return a change in the words of who must make it: an option of the command, or a field of the file."""
    if remedy.parameters <= set(OPTIONS):
        return remedy.change
    return f"{remedy.change.replace('=', ': ')} for {t.name}"


def applied(i: FleetImpasse, t: FleetWorkload, remedy: Remedy) -> list[FleetWorkload]:
    """Return the workloads that a change is about: an option of the command holds for all of them."""
    asked, more = remedy.demand, [remedy.plan.technique]
    changed = [t.asked(asked, *more)]
    if remedy.parameters <= set(OPTIONS):
        for other in i.tasks:
            if other is not t:
                limits = replace(
                    other.demand.limits, confidence=asked.limits.confidence, any_technique=asked.limits.any_technique
                )
                forms = asked.forms if "weights" in remedy.parameters else other.demand.forms
                known = [name for name in more if name in other.book.qualities]
                changed.append(other.asked(replace(other.demand, limits=limits, forms=forms), *known))
    return changed


def enough(i: FleetImpasse, cures: Sequence[tuple[FleetWorkload, Remedy]]) -> Iterator[FleetRemedy]:
    """Yield the fleet after changes that let workloads be served.

    The least change of a limit may take more GPUs than there are: then with more of one type, and with one limit of
    time moved further.
    """
    words, after = changed(i, cures)
    if fleet := after.fleet(words):
        yield fleet
        return
    yield from lent(after, f"{words} and ")
    for t, remedy in cures:
        if remedy.parameters & set(TIMES):
            yield from further(i, cures, t, remedy)


def changed(
    i: FleetImpasse, cures: Sequence[tuple[FleetWorkload, Remedy]], exactly: bool = True
) -> tuple[str, FleetImpasse]:  # fmt: skip
    """Return changes in words, and the question with the columns of the workloads that they are about."""
    words = " and ".join(dict.fromkeys(said(t, remedy) for t, remedy in cures))
    anew: dict[str, FleetWorkload] = {}
    for t, remedy in cures:
        anew |= {x.name: x for x in applied(i, t, remedy) if x.name == t.name or x.name not in anew}
    return words, replace(i, columns=i.with_columns(anew.values(), exactly))


def further(
    i: FleetImpasse, cures: Sequence[tuple[FleetWorkload, Remedy]], t: FleetWorkload, remedy: Remedy
) -> Iterator[FleetRemedy]:
    """Yield, of each limit of time of a workload, the least to which it would have to move as well."""

    def moved(longer: Moved, exactly: bool) -> FleetRemedy | None:
        more = moved_by(remedy, longer)
        words, after = changed(i, [(other, more if other is t else same) for other, same in cures], exactly)
        return after.fleet(words)

    yield from least_moved(remedy.demand.limits, moved)


def moved_by(remedy: Remedy, longer: Moved) -> Remedy:
    """Return a change of latency limits that moves some of them as well, or further."""
    limits = replace(remedy.demand.limits, **longer)  # type: ignore[arg-type]
    names = [name for name in TIMES if name in longer or name in remedy.parameters]
    words = " and ".join(f"{name}={written(getattr(limits, name))}" for name in names)
    return replace(remedy, change=words, demand=replace(remedy.demand, limits=limits))


# -- limits of time, moved as far as is needed ----------------------------------------------------


def least_moved(limits: Limits, moved: Callable[[Moved, bool], FleetRemedy | None]) -> Iterator[FleetRemedy]:
    """Yield the fleets at the least to which each single limit of time would have to move, else the fewest at once.

    `moved` returns the fleet at other limits [s], exactly or with candidates that were worked out for the old ones.
    """
    known = {name: getattr(limits, name) for name in TIMES if getattr(limits, name) is not None}
    for size in range(1, len(known) + 1):
        ways = (least({name: known[name] for name in some}, moved) for some in combinations(known, size))
        found = [at for at in ways if at is not None]
        yield from filter(None, (moved(at, True) for at in found))
        if found:
            return


def least(old: Moved, moved: Callable[[Moved, bool], FleetRemedy | None]) -> Moved | None:
    """Return the least limits at which there is a fleet, to a few percent: a common factor, then each as it must."""

    def all_by(factor: float) -> Moved:
        return {name: rounded_up(factor * seconds) for name, seconds in old.items()}

    def able(at: Moved) -> bool:
        return moved(at, False) is not None

    if not able(all_by(FACTORS[-1])):
        return None
    high = next(factor for factor in FACTORS if factor == FACTORS[-1] or able(all_by(factor)))
    low = max((factor for factor in FACTORS if factor < high), default=1.0)
    at = all_by(least_within(lambda factor: able(all_by(factor)), low, high, HALVINGS))
    for name in old if len(old) > 1 else ():
        at = at | {name: shorter(name, old[name], at, able)}
    return {name: seconds for name, seconds in at.items() if seconds != old[name]}


def shorter(name: str, old: float, at: Moved, able: Callable[[Moved], bool]) -> float:
    """Return the least of one limit at which there is a fleet, the others as they are: the old one, or near enough."""

    def alone(seconds: float) -> bool:
        return able(at | {name: rounded_up(seconds)})

    return old if able(at | {name: old}) else rounded_up(least_within(alone, old, at[name], HALVINGS))


# -- too few GPUs ---------------------------------------------------------------------------------


def lent(i: FleetImpasse, before: str = "") -> Iterator[FleetRemedy]:
    """Yield how many GPUs of a type would be enough, for each type that could be."""
    for gpu in i.stock:
        solution = i.choose(i.columns, i.stock, lend=gpu)
        if solution.uses is None:
            continue
        count = i.stock[gpu] + solution.extra
        if cheapest := i.fleet(f"{before}{count:,} {gpu} instead of {i.stock[gpu]:,}", stock={**i.stock, gpu: count}):
            yield cheapest


def short(i: FleetImpasse) -> Iterator[FleetRemedy | None]:
    """Yield the changes under which the GPUs there are suffice, or more of one type."""
    yield from lent(i)
    for share in SURE:
        below = [t for t in i.tasks if t.demand.limits.confidence > share]
        less = [t.under(confidence=share) for t in below]
        if below and (fleet := i.fleet(f"confidence={share:.0%}", less)):
            yield fleet
            break
    if any(not t.demand.limits.any_technique and t.barred for t in i.tasks):
        yield i.anew("any_technique=True", i.everywhere(any_technique=True))
    for form in dict.fromkeys(form for t in i.tasks for form in t.formats):
        yield i.anew(f"weights={form}", [t.asked(replace(t.demand, forms=(form,))) for t in i.tasks])
    for t in i.tasks:
        yield from looser(i, t)


def looser(i: FleetImpasse, t: FleetWorkload) -> Iterator[FleetRemedy]:
    """Yield the least to which each limit of time of a workload would have to move."""

    def moved(longer: Moved, exactly: bool) -> FleetRemedy | None:
        words = " and ".join(f"{name}: {written(seconds)}" for name, seconds in longer.items())
        return i.fleet(f"{words} for {t.name}", [t.under(**longer)], exactly=exactly)

    yield from least_moved(t.demand.limits, moved)
