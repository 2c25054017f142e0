"""A plan under the other terms of its GPU: rented, reserved, owned, or an API instead."""

from dataclasses import replace

from kvplan import catalog
from kvplan.api.prices import rank
from kvplan.api.sites import with_power
from kvplan.money.gpu_cost import GpuCost, rent
from kvplan.money.offers import caveat
from kvplan.planning.hosting import Tenure, tenures
from kvplan.planning.recommend import Recommendation
from kvplan.planning.site import Site
from kvplan.specs.hardware import Price


def terms_of(
    answer: Recommendation, listed: tuple[Price, ...], owned: str, profile: str, day: str
) -> tuple[Tenure, ...]:
    """Return what the plan costs at its price, on every other term its GPU is offered, owned, and what APIs charge."""
    if answer.plan is None or answer.site is None or answer.site.cost is None:
        return ()
    here, gpu = answer.site, answer.site.gpu
    used = here.price
    costs: dict[tuple[str, str], tuple[GpuCost, str]] = {}
    if used is not None:
        costs[used.term, used.provider] = rent(used), price_basis(here)
    terms = dict.fromkeys(p.term for p in (*listed, *catalog.prices()) if p.gpu == gpu.name)
    for term in sorted(terms, key=lambda t: (rank(t), t)):
        place = replace(here, owned=None, offers=catalog.offers(gpu.name, day, term, listed))
        if not term.startswith("owned") and place.price is not None and (used is None or term != used.term):
            costs[term, place.price.provider] = rent(place.price), price_basis(place)
    mine = here.owned or with_power(here, owned, profile).owned
    if mine is not None:
        costs["owned", ""] = mine, f"whole servers of {mine.unit} GPUs; price of a busy GPU-hour"
    return tenures(answer.demand, answer.plan, costs, answer.break_even, answer.bill)


def price_basis(place: Site) -> str:
    """Return what the price of a rented GPU rests on, in words."""
    price = place.price
    assert price is not None
    several = f"median of {len(place.offers)} offers" if len(place.offers) > 1 else "one offer"
    servers = f", in servers of {price.gpus} GPUs" if price.gpus > 1 else ""
    warning = caveat(price.term)
    return f"{'your price' if price.yours else several}{servers}{f'; {warning}' if warning else ''}"
