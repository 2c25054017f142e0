"""The GPUs a recommendation may use: those with a price, the others with a reason."""

from collections.abc import Mapping

from kvplan import catalog
from kvplan.api.sites import gpus_of, site, supported_gpus
from kvplan.errors import SpecError, meant, shown
from kvplan.planning.site import Site
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.model import ModelSpec


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
    others = " or ".join(each for each in known if each != term)
    if not names:
        return f"no {term} price on {day}; write term={others}, or give a price of yours with gpus= and price="
    return f"no {term} price of {which} on {day}; give one with price=2.49/h, or write term={others}, or another on="
