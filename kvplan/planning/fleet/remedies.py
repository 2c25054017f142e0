"""What would make a fleet possible: more GPUs, a looser limit, other techniques or weights; the cheapest first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kvplan.planning.fleet.options import FleetWorkload, Looked, Option, groups, options
from kvplan.planning.fleet.program import Bucket, Solution, choose
from kvplan.planning.remedies import TIMES, Impasse, Remedy, remedies, rounded_up, written
from kvplan.planning.search import search

#: factors by which a limit is loosened where GPUs are short, and the probabilities that are tried instead
FACTORS, SURE = (1.5, 3.0), (0.75, 0.5)
#: what an option of the command says for all workloads; all else stands with a workload in the file
OPTIONS = ("confidence", "weights", "any_technique", "techniques")


@dataclass(frozen=True, kw_only=True)
class FleetRemedy:
    """A change under which there is a fleet, in the file's words or as parameters, and the cheapest such fleet."""

    change: str
    usd: float  #: [USD/s]
    gpus: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class FleetImpasse:
    """Workloads that no fleet serves, with their columns; the solver's `seconds` and `gap` hold for every try."""

    tasks: Sequence[FleetWorkload]
    stock: Mapping[str, int]
    buckets: int
    columns: Mapping[str, Sequence[Option]]
    asked: Sequence[Bucket]
    #: buckets that no column serves
    lacking: Sequence[Bucket]
    seconds: float
    gap: float
    looked: Looked = field(default_factory=Looked)  #: candidates of the groups

    def columns_of(self, t: FleetWorkload, buckets: int) -> list[Option]:
        """Return the columns of a workload cut into so many buckets."""
        return [c for group in groups(t, buckets) for c in options(group, self.looked)[0]]

    def anew(self, change: str, changed: Sequence[FleetWorkload]) -> FleetRemedy | None:
        """Return the cheapest fleet where workloads have other candidates, None where there is none of whole workloads.

        Every workload is looked at as a whole first: a fleet of its parts is looked for where one of wholes is found.
        """
        whole = [c for t in changed for c in self.columns_of(t, 1)]
        parts = [c for t in changed for c in whole_as_parts([c for c in whole if c.group.task is t], self.buckets)]
        others = [c for name, each in self.columns.items() if name not in {t.name for t in changed} for c in each]
        solution = choose([*others, *parts], self.asked, self.stock, seconds=self.seconds, gap=1.0)
        return None if solution.uses is None else self.fleet(change, changed)

    def fleet(
        self, change: str, changed: Iterable[FleetWorkload] = (), stock: Mapping[str, int] | None = None
    ) -> FleetRemedy | None:
        """Return the cheapest fleet where some workloads or the stock are others, None where there is none."""
        columns = dict(self.columns)
        for t in changed:
            columns[t.name] = self.columns_of(t, self.buckets)
        solution = self.choose(columns, stock or self.stock)
        if solution.uses is None:
            return None
        taken: dict[str, int] = {}
        for u in solution.uses:
            taken[u.option.site.gpu.name] = taken.get(u.option.site.gpu.name, 0) + u.gpus
        return FleetRemedy(change=change, usd=solution.usd, gpus=taken)

    def choose(self, columns: Mapping[str, Sequence[Option]], stock: Mapping[str, int], lend: str = "") -> Solution:
        """Return the cheapest replicas, or those that need the fewest GPUs of one type beyond the stock."""
        every = [c for each in columns.values() for c in each]
        return choose(every, self.asked, stock, seconds=self.seconds, gap=0.0 if lend else self.gap, lend=lend)

    def everywhere(self, **limits: object) -> list[FleetWorkload]:
        """Return all workloads under other limits."""
        return [t.under(**limits) for t in self.tasks]


def whole_as_parts(columns: Sequence[Option], buckets: int) -> list[Option]:
    """Return columns of a workload as a whole as those of all its buckets."""
    return [replace(c, group=replace(c.group, last=buckets - 1)) for c in columns]


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

    The least change of a limit may take more GPUs than there are: then with more of one type, and at looser limits.
    """
    for factor in (1.0, *FACTORS, 10.0):
        each = [(t, longer(remedy, factor)) for t, remedy in cures]
        words = " and ".join(dict.fromkeys(said(t, remedy) for t, remedy in each))
        changed: dict[str, FleetWorkload] = {}
        for t, remedy in each:
            changed |= {x.name: x for x in applied(i, t, remedy) if x.name == t.name or x.name not in changed}
        again = {t.name: i.columns_of(t, i.buckets) for t in changed.values()}
        after = replace(i, columns={**i.columns, **again})
        if fleet := after.fleet(words):
            yield fleet
            return
        if factor == 1.0:
            yield from lent(after, f"{words} and ")
        if not any(remedy.parameters & set(TIMES) for _, remedy in cures):
            return


def longer(remedy: Remedy, factor: float) -> Remedy:
    """Return a change of latency limits by a factor more, any other change as it is."""
    limits, names = remedy.demand.limits, [name for name in TIMES if name in remedy.parameters]
    if factor == 1.0 or not names:
        return remedy
    more = {name: rounded_up(factor * getattr(limits, name)) for name in names}
    words = " and ".join(f"{name}={written(seconds)}" for name, seconds in more.items())
    looser_limits = replace(limits, **more)  # type: ignore[arg-type]
    return replace(remedy, change=words, demand=replace(remedy.demand, limits=looser_limits))


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
        if below and (fleet := i.fleet(f"confidence={share:.0%}", [t.under(confidence=share) for t in below])):
            yield fleet
            break
    if any(not t.demand.limits.any_technique and t.barred for t in i.tasks):
        yield i.anew("any_technique=True", i.everywhere(any_technique=True))
    for form in dict.fromkeys(form for t in i.tasks for form in t.formats):
        yield i.anew(f"weights={form}", [t.asked(replace(t.demand, forms=(form,))) for t in i.tasks])
    for t in i.tasks:
        yield from looser(i, t)


def looser(i: FleetImpasse, t: FleetWorkload) -> Iterator[FleetRemedy]:
    """Yield the least of some factors by which each limit of a workload would have to be loosened."""
    for name in TIMES:
        limit = getattr(t.demand.limits, name)
        for factor in FACTORS if limit is not None else ():
            longer = rounded_up(factor * limit)
            if fleet := i.fleet(f"{name}: {written(longer)} for {t.name}", [t.under(**{name: longer})]):
                yield fleet
                break
