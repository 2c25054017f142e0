"""Where a recommendation may look: GPUs, and what they cost under the terms asked for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.questions import Question
from kvplan.api.sites import (
    check_one_gpu,
    gpus_of,
    no_supported_gpu,
    price_list,
    priced_for_comparison,
    site,
    supported_gpus,
)
from kvplan.errors import SpecError, WrongUse, meant, shown
from kvplan.planning.plan import Plan
from kvplan.planning.recommend import Recommendation, ranked, recommend
from kvplan.planning.searching.search import Progress
from kvplan.planning.site import Site
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Market:
    """GPUs and their prices."""

    gpus: Mapping[str, Gpu]  #: by name
    named: bool  #: whether the caller named them
    price: float | None  #: the caller's own, of every one of them [USD/s]
    listed: tuple[Price, ...]  #: the caller's own price lists
    owned: str | None  #: file of what owning takes, None where GPUs are rented
    term: str  #: of the rents
    profile: str  #: of the servers whose rates count
    day: str  #: of the prices

    @property
    def paid(self) -> dict[str, Any]:
        """What is paid for a GPU, as parameters of `site`."""
        return {"price": self.price, "listed": self.listed, "term": self.term, "owned": self.owned}

    def served_by(self, engines: Sequence[str]) -> tuple[str, ...]:
        """Return the engines that run on some of the GPUs; raise Incompatible where none does."""
        if kept := tuple(word for word in engines if supported_gpus(self.gpus, word)):
            return kept
        raise no_supported_gpu(self.gpus, engines[0])

    def sites(self, question: Question, engine: str) -> tuple[list[Site], dict[str, str]]:
        """Return the GPUs to plan with, and why the others are left out."""
        rules = catalog.engine(engine)
        barred = {name: why for name, gpu in self.gpus.items() if (why := rules.bars(gpu))}
        places = {
            gpu.name: site(
                gpu, question.demand.model, self.day, power=True, engine=engine, profile=self.profile,
                length=question.demand.workload.context(1.0), **self.paid,
            )
            for gpu in self.gpus.values() if gpu.name not in barred
        }  # fmt: skip
        ranked = places if self.named else priced_for_comparison(places)
        priced, unpriced = priced_sites(ranked, question.objective, self.named, self.owned, self.term, self.day)
        return priced, {**barred, **unpriced}

    def elsewhere(self, question: Question, engine: str) -> tuple[Site, ...]:
        """Return the GPUs to name where none of those asked about will do."""
        if not self.named or self.price:
            return ()
        demand = question.demand
        return unasked_sites(
            demand.model,
            self.gpus,
            self.day,
            self.term,
            self.profile,
            engine,
            self.listed,
            self.owned,
            length=demand.workload.context(1.0),
        )

    def answered(
        self, question: Question, engine: str, confidence: float | None = None, progress: Progress | None = None
    ) -> Recommendation:
        """Return the best plan on an engine under limits kept so surely, as the question asks for where none is given.

        The GPUs that a caller named are planned with though no server on them was measured.
        """
        priced, unpriced = self.sites(question, engine)
        sure = question.demand.limits.confidence if confidence is None else confidence
        return recommend(
            question.on(engine, sure), question.techniques, priced, question.losses, objective=question.objective,
            apis=catalog.apis(), day=self.day, guesses=self.named, absent=unpriced, losses=question.formats.losses,
            unsearched=question.formats.left, others=self.elsewhere(question, engine),
            progress=progress,
        )  # fmt: skip

    def ranked(self, questions: Sequence[Question], engine: str, confidence: float) -> Iterator[tuple[Plan, ...]]:
        """Yield the plans of answers, the best first, to questions that differ in their load alone; without reasons."""
        question = questions[0]
        priced, _ = self.sites(question, engine)
        return ranked(
            [one.on(engine, confidence) for one in questions], question.techniques, priced, question.losses,
            objective=question.objective, guesses=self.named, losses=question.formats.losses,
        )  # fmt: skip


def market_of(
    gpus: str | Iterable[str], day: str, *, price: float | str | None, prices: str | Iterable[str], own: str | None,
    term: str, profile: str,
) -> Market:  # fmt: skip
    """Return the GPUs named, or all of them, at the caller's price, owned, or at the day's offers."""
    named = bool(values.several(gpus, "gpus"))
    mine = values.price(price)
    owned = values.given(values.word, own, "own")
    known = gpus_of(gpus)
    if mine and owned:
        raise WrongUse("price, own: give one of them; the price of an owned server stands in the file of own=")
    check_one_gpu(mine, known, named)
    return Market(
        gpus=known, named=named, price=mine, listed=price_list(price, prices), owned=owned,
        term=values.word(term, "term"), profile=values.word(profile, "profile"), day=day,
    )  # fmt: skip


def unasked_sites(
    model: ModelSpec, named: Mapping[str, Gpu], day: str, term: str, profile: str, engine: str,
    listed: tuple[Price, ...] = (), owned: str | None = None, length: float = 0.0,
) -> tuple[Site, ...]:  # fmt: skip
    """Return the GPUs with a price that were not asked about and may be recommended unasked.

    `listed` are the user's own prices, and `owned` is the file of what owning takes, as for the GPUs asked about.
    """
    rest = (gpu for name, gpu in supported_gpus(gpus_of(()), engine).items() if name not in named)
    places = (
        site(
            gpu,
            model,
            day,
            listed=listed,
            term=term,
            owned=owned,
            power=True,
            engine=engine,
            profile=profile,
            length=length,
        )
        for gpu in rest
    )
    return tuple(place for place in places if place.cost is not None and place.rated)


def priced_sites(
    places: Mapping[str, Site], objective: str, named: bool, owned: str | None, term: str, day: str
) -> tuple[list[Site], dict[str, str]]:
    """Return the GPUs to plan with, and why the others are left out: no price of them is known."""
    unpriced = [name for name, place in places.items() if place.cost is None]
    if len(unpriced) == len(places) and objective == "cost":
        raise SpecError(no_price(unpriced if named else [], owned, term, day))
    kept = [p for p in places.values() if p.cost is not None or (named and objective != "cost")]
    left = [name for name in unpriced if name not in {p.gpu.name for p in kept}]
    return kept, {name: no_price([], owned, term, day) for name in left}


def no_price(names: list[str], owned: str | None, term: str, day: str) -> str:
    """Return what is missing, and what to write, where GPUs have no price."""
    which = ", ".join(names) or "it"
    if owned is not None:
        missing = f"what a server with {which} costs, or its power, is unknown"
        return f"{missing}; write it under servers: in a file for own=FILE"
    known = catalog.terms()
    if term not in known and (near := meant(term, known)):
        return f"term: no {shown(term)} price on {day}{near}"
    if not names:
        others = " or ".join(each for each in known if each != term)
        return f"no {term} price on {day}; write term={others}, or give a price of yours with gpus= and price="
    listed = [price for price in catalog.prices() if price.gpu in names]
    others = " or ".join(sorted({price.term for price in listed if price.term != term and price.current(day)}))
    ways = [f"term={others}"] * bool(others) + ["another on="] * any(price.term == term for price in listed)
    return f"no {term} price of {which} on {day}; give one with price=2.49/h{''.join(f', or write {w}' for w in ways)}"
