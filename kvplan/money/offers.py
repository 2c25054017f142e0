"""Offers to rent: which of a day's stands for the GPU, what each term binds to, and what it may lose."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kvplan.specs.hardware import Price
from kvplan.units import HOUR, MONTH, YEAR, show_usd

if TYPE_CHECKING:
    from kvplan.specs.money import ApiPrice, ServerPrice

_RESERVED = re.compile(r"reserved-(\d+)([ym])")


def median_offer(offers: Sequence[Price]) -> Price | None:
    """Return the median of offers, the cheapest first: of an even number the mean of the middle two.

    The cheapest is seldom one a team can get. A mean is as old as the older of the two, and can be had in the smaller
    of their numbers of GPUs; of their host memories, where they say, the smaller counts.
    """
    if not offers:
        return None
    low, high = offers[(len(offers) - 1) // 2], offers[len(offers) // 2]
    if low is high:
        return low
    older = low.source if (low.source.date or "") <= (high.source.date or "") else high.source
    each = ", ".join(f"{p.provider} {show_usd(p.price * HOUR)}" for p in (low, high))
    return replace(
        low,
        provider=f"{low.provider} and {high.provider}",
        price=(low.price + high.price) / 2,
        start=max(low.start, high.start),
        note=f"mean of the middle two offers: {each}",
        source=replace(older, ref=" and ".join(dict.fromkeys((low.source.ref, high.source.ref)))),
        gpus=min(low.gpus, high.gpus),
        host_memory=min((p.host_memory for p in (low, high) if p.host_memory), default=None),
    )


def typical_spread(offers: Iterable[Sequence[Price]]) -> tuple[float, ...]:
    """Return what offers cost over the median of their GPU, of all GPUs with several, in order; (1,) without any.

    It stands for the spread of a GPU of which one offer is known.
    """
    several = [sorted(some, key=lambda p: p.price) for some in offers if len(some) > 1]
    return tuple(sorted(p.price / quantile([o.price for o in some], 0.5) for some in several for p in some)) or (1.0,)


def upper_end(factors: Sequence[float]) -> float:
    """Return the 90th percentile of a spread, at least 1, by which a lone offer is raised in comparisons."""
    return max(quantile(factors, 0.9), 1.0)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of values in order, on straight lines between them."""
    at = share * (len(values) - 1)
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def commitment(term: str) -> float | None:
    """Return how long a term commits to paying, None when it can end at any hour. [s]"""
    match = _RESERVED.fullmatch(term)
    return int(match[1]) * (YEAR if match[2] == "y" else MONTH) if match else None


def caveat(term: str) -> str:
    """Return what a price under this term hides, '' for on-demand."""
    bound = commitment(term)
    if bound is not None:
        years = bound / YEAR
        span = f"{years:g} year{'s' * (years != 1)}" if years >= 1 else f"{bound / MONTH:g} months"
        return f"commits for {span}: paid whether used or not"
    if term.startswith("owned"):
        return "another owner's cost by its author's model, not an offer"
    return {
        "spot": "may be interrupted at any time; keep spares on other terms",
        "community": "hosts of third parties, who may withdraw them",
    }.get(term, "")


def _called(price: "Price | ApiPrice | ServerPrice") -> str:
    if isinstance(price, Price):
        return f"the {price.gpu} price of {price.provider}"
    from kvplan.specs.money import ApiPrice

    if isinstance(price, ApiPrice):
        return f"{price.provider}'s price of {price.model}"
    return f"the price of a server with {price.gpu}"


def old(price: "Price | ApiPrice | ServerPrice", day: str, limit: int) -> str:
    """Return a warning of a price last seen more than `limit` days before a day, '' while it is fresh."""
    days = price.source.age(day)
    if days is None:
        return f"{_called(price)} has no date: check it"
    if days <= limit:
        return ""
    return f"{_called(price)} was last seen on {price.source.date}, {days:,} days ago: check it"
