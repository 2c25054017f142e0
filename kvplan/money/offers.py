"""Offers to rent: which of a day's stands for the GPU, what each term binds to, and what it may lose."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvplan.specs.hardware import Price
from kvplan.units import MONTH, YEAR

if TYPE_CHECKING:
    from kvplan.specs.money import ApiPrice, ServerPrice

_RESERVED = re.compile(r"reserved-(\d+)([ym])")


def median_offer(offers: Sequence[Price]) -> Price | None:
    """Return the median of offers, the cheapest first; of two the lower. The cheapest is seldom one a team can get."""
    return offers[(len(offers) - 1) // 2] if offers else None


def commitment(term: str) -> float | None:
    """Return how long a term commits to paying, None when it can end at any hour. [s]"""
    match = _RESERVED.fullmatch(term)
    return int(match[1]) * (YEAR if match[2] == "y" else MONTH) if match else None


def follows_load(term: str) -> bool:
    """Return whether GPUs under this term can be given back when the load falls."""
    return commitment(term) is None and not term.startswith("owned")


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
    if days <= limit:
        return ""
    return f"{_called(price)} was last seen on {price.source.date}, {days:,} days ago: check it"
