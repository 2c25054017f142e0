"""What a search found: the plans that may be used, the best of them, and why the others may not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kvplan.architectures.formats import FORMATS
from kvplan.kv import spelling
from kvplan.planning.demand import Demand
from kvplan.planning.plan import Book, Plan
from kvplan.planning.remedies import reason as reason_of
from kvplan.planning.searching.configurations import Pair
from kvplan.planning.searching.search import Candidates, Progress, rated, search
from kvplan.planning.searching.search import candidates as candidates_of
from kvplan.planning.site import Site


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A technique, a weight format or a GPU that cannot be, and why; '' stands for all of them."""

    technique: str  #: '' for all
    gpu: str  #: '' for all
    reason: str  #: in words
    #: weight format, '' for the checkpoint's own
    weights: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """Every candidate of a question, and what may not be used."""

    demand: Demand  #: what is to be served, and its limits
    book: Book  #: what turns a candidate into a plan
    candidates: Sequence[Candidates]  #: of every GPU
    refused: Mapping[str, str]  #: technique -> why the model cannot have it
    barred: Mapping[Pair, str]  #: techniques and weight formats that may not be used, and why
    shown: Sequence[Pair]  #: those that were searched, barred ones included
    pairs: Sequence[Pair]  #: those that may be used
    objective: str  #: what plans are ranked by
    #: whether GPUs on which no server was measured may be recommended
    guesses: bool

    @cached_property
    def rated(self) -> list[Candidates]:
        """The candidates on GPUs that may be recommended."""
        return rated(self.candidates, self.guesses)

    @cached_property
    def plans(self) -> list[Plan]:
        """The best plan of every pair on every GPU, barred ones included, the best first."""
        standard = self.book.standard(self.rated, self.pairs, self.objective)
        return self.book.choices(self.candidates, self.shown, self.objective, standard)

    def at_load(self, demand: Demand) -> "SearchOutcome":
        """Return the same search under a demand that differs in its load alone: what configurations hold stays."""
        homes = (one.gpu_grid.under(demand, one.site) for one in self.candidates)
        found = [candidates_of(demand, home) for home in homes]
        return replace(self, demand=demand, book=replace(self.book, demand=demand), candidates=found)

    @cached_property
    def able(self) -> list[Plan]:
        """Those of the pairs that may be used."""
        return [p for p in self.plans if p.pair in self.pairs]

    @cached_property
    def allowed(self) -> list[Plan]:
        """Those of them on GPUs that may be recommended."""
        return [p for p in self.able if self.guesses or p.rated]

    @property
    def chosen(self) -> Plan | None:
        """The best of them, None where there is none."""
        return self.allowed[0] if self.allowed else None

    @property
    def count(self) -> int:
        """Candidates on replicas that hold a request."""
        return sum(int((one.grid.usable & (one.room > 0)).sum()) for one in self.candidates)

    def rejected(self, sites: Sequence[Site], unsearched: Mapping[str, str]) -> Iterator[Rejected]:
        """Yield what cannot be used and why; `unsearched` formats were not tried."""
        for name, reason in self.refused.items():
            yield Rejected(technique=name, gpu="", reason=reason)
        first = self.demand.forms[0]
        for (name, form), reason in self.barred.items():
            if name not in self.refused and (form == first or (name, first) not in self.barred):
                yield Rejected(technique=name, weights=form or "", gpu="", reason=reason)
        planned = {p.pair for p in self.plans}
        for name, form in self.pairs:
            if (name, form) not in planned:
                yield Rejected(technique=name, weights=form or "", gpu="", reason=unkept(self.demand, sites, form))
        for form, reason in unsearched.items():
            yield Rejected(technique=spelling.BASELINE, weights=form, gpu="", reason=reason)
        for one in self.candidates:
            if reason := reason_of(one, self.demand, self.pairs, self.guesses):
                yield Rejected(technique="", gpu=one.site.gpu.name, reason=reason)


def search_all(
    demand: Demand, wanted: Sequence[str], sites: Sequence[Site], book: Book, objective: str, guesses: bool,
    progress: Progress | None = None,
) -> SearchOutcome:  # fmt: skip
    """Search every technique that is wanted in every weight format, those that may not be used in one of them.

    Of a technique that may not be used the first weight format is enough to tell what it would cost.
    """
    tried = [(name, form) for name in wanted for form in demand.forms]
    barred = book.barred(tried)
    left_out = [pair for pair in barred if pair[1] != demand.forms[0]]
    candidates, refused = search(demand, wanted, sites, left_out, progress)
    return SearchOutcome(
        demand=demand, book=book, candidates=candidates, refused=refused, barred=barred, objective=objective,
        shown=[pair for pair in tried if pair[0] not in refused and pair not in left_out],
        pairs=[pair for pair in tried if pair[0] not in refused and pair not in barred], guesses=guesses,
    )  # fmt: skip


def unkept(demand: Demand, sites: Sequence[Site], form: str | None) -> str:
    """Return why no GPU serves a technique with some weights."""
    if form and demand.native and not any(FORMATS[form].native(place.gpu) for place in sites):
        return f"no GPU asked about runs {form} weights natively"
    return "no GPU keeps every limit with it"
