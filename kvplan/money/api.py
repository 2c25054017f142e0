"""An API's charge for a query, and the volume from which hosting is cheaper."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from kvplan.errors import SpecError
from kvplan.specs.money import ApiPrice
from kvplan.units import DAY, MILLION, MONTH

#: (queries a day it can serve, USD a month), one row a fleet size
Table = Sequence[tuple[float, float]]
#: queries a day that are looked at
FEWEST, MOST = 1.0, 1e9
#: steps towards a volume, and the share of it within which two are the same
STEPS, CLOSE = 200, 1e-6
#: volumes at which a bound of the cost of hosting is compared with the API first
STEPS_UP = 1000
#: a bound of what hosting costs at some volumes [1/day]: [USD/s] of each
Curve = Callable[[Sequence[float]], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of a mean query; raises SpecError where they are negative or more cached than sent."""

    input: float  #: sent, cached ones included [token]
    output: float  #: answered [token]
    cached: float = 0.0  #: of the input, in the provider's cache [token]

    def __post_init__(self) -> None:
        if not all(isfinite(n) and n >= 0 for n in (self.input, self.output, self.cached)) or self.cached > self.input:
            raise SpecError(f"tokens of a query must not be negative, nor more cached than sent: {self}")


def api_cost(price: ApiPrice, tokens: Tokens) -> float | None:
    """Return what an API charges for one query, None when a price it needs is unknown. [USD]

    A cached token without a price of its own is charged as any other.
    """
    cached = price.input if price.cached is None else price.cached
    amounts = (tokens.input - tokens.cached, price.input), (tokens.cached, cached), (tokens.output, price.output)
    total = 0.0
    for count, each in amounts:
        if count and each is None:
            return None
        total += count * (each or 0.0)
    return total


def applicable(prices: Iterable[ApiPrice], tokens: Tokens, day: str) -> tuple[ApiPrice, ...]:
    """Return the price of each model that holds on a day for a prompt of this length, the cheapest query first."""
    longest: dict[tuple[str, str], ApiPrice] = {}
    for price in prices:
        key = price.provider, price.model
        if (
            price.current(day)
            and price.above < tokens.input
            and (key not in longest or price.above > longest[key].above)
        ):
            longest[key] = price
    charged = ((price, api_cost(price, tokens)) for price in longest.values())
    return tuple(price for price, _ in sorted(charged, key=lambda pair: (pair[1] is None, pair[1] or 0.0)))


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Volumes at which hosting costs what an API charges, None where there is none.

    Between `first` and `always` it depends on the fleet's steps.
    """

    first: float | None  #: up to it the API is always cheaper [1/day]
    always: float | None  #: above it hosting is always cheaper [1/day]
    until: float  #: greatest volume looked at [1/day]
    api_per_query: float | None  #: the API's charge, None when a price is unknown [USD]
    reason: str = ""  #: why there is no answer, '' when there is one

    @property
    def queries_per_day(self) -> float | None:
        """The volume above which hosting is always cheaper, None where there is none. [1/day]"""
        return self.always


def uncharged(api: ApiPrice, charge: float | None) -> BreakEven:
    """Return the answer for an API without a known charge, or that charges nothing."""
    reason = f"{api.provider} {api.model}: no price known" if charge is None else "the API charges nothing"
    return BreakEven(first=None, always=None, until=0.0, api_per_query=charge, reason=reason)


def break_even(fleets: Table, api: ApiPrice, tokens: Tokens) -> BreakEven:
    """Return the queries a day above which hosting is cheaper than an API; each fleet is good up to its volume.

    Raises SpecError where the volumes of the table do not grow.
    """
    if not fleets or any(not a[0] < b[0] for a, b in pairwise(fleets)) or fleets[0][0] <= 0:
        raise SpecError("a table of fleets needs rows (queries a day, USD a month) with growing volumes")
    charge = api_cost(api, tokens)
    if charge is None or charge <= 0:
        return uncharged(api, charge)
    first, always = _steps(fleets, charge * MONTH / DAY)
    until, reason = fleets[-1][0], ""
    if always is None:
        reason = f"up to {until:,.0f} queries a day the API is cheaper"
        if first is not None:
            reason = f"hosting is cheaper from {first:,.0f} queries a day, but not at all volumes up to {until:,.0f}"
    return BreakEven(first=first, always=always, until=until, api_per_query=charge, reason=reason)


def between_bounds(least: Curve, most: Curve, until: float, api: ApiPrice, tokens: Tokens) -> BreakEven:
    """Return the volume up to which an API is surely cheaper, and that above which hosting surely is.

    `least` and `most` bound what hosting costs at volumes [USD/s], infinite where nothing serves them; neither falls
    where the volume grows. Each volume is a step of the last: where hosting costs more than the API it does so until
    the API has come to cost as much, and where it costs less it has since the API did.
    """
    charge = api_cost(api, tokens)
    if charge is None or charge <= 0:
        return uncharged(api, charge)
    daily = charge / DAY  # USD/s of one query a day
    first = lowest_volume(least, daily, until)
    always, served = _always(most, daily, until) if first is not None else (None, until)
    reason = ""
    if first is None:
        reason = f"at every volume up to {until:,.0f} queries a day it is cheaper"
    elif always is None:
        reason = f"it is cheaper below {first:,.0f} queries a day; above, it depends on how full the last replica is"
    return BreakEven(first=first, always=always, until=served, api_per_query=charge, reason=reason)


def lowest_volume(least: Curve, daily: float, until: float) -> float | None:
    """Return the volume up to which an API is cheaper, None where that is all of them. [1/day]

    `least` is a bound of the cost of hosting, `daily` the API's charge for one query a day [USD/s].
    """
    volume = FEWEST
    for _ in range(STEPS):
        meets = least([volume])[0] / daily
        if meets > until:
            return None
        if meets <= volume * (1 + CLOSE):
            break
        volume = meets
    return volume


def _always(most: Curve, daily: float, until: float) -> tuple[float | None, float]:
    """Return the volume above which hosting is cheaper, None without one, and the greatest it serves. [1/day]"""
    tried = [FEWEST * (until / FEWEST) ** (k / STEPS_UP) for k in range(STEPS_UP + 1)]
    served = [(volume, usd) for volume, usd in zip(tried, most(tried), strict=True) if isfinite(usd)]
    if not served:
        return None, 0.0
    greatest = served[-1][0]
    volume = greatest
    for (below, _), (_, usd) in reversed(list(pairwise(served))):
        if usd > below * daily:  # the cost at the end of a step bounds it all along the step
            break
        volume = below
    if volume == greatest:
        return None, greatest
    for _ in range(STEPS):
        meets = most([volume])[0] / daily
        if meets >= volume * (1 - CLOSE):
            break
        volume = meets
    return volume, greatest


def _steps(table: Table, monthly: float) -> tuple[float | None, float | None]:
    """Return the first volume at which a step meets the API's line, and the last above which every step stays below.

    `monthly` is the API's charge for one query a day. [USD/month]
    """
    first, always, below = None, None, 0.0
    spans = []
    for volume, cost in table:
        meets = max(cost / monthly, below)
        spans.append((below, meets, volume))
        if first is None and meets < volume:
            first = meets
        below = volume
    for start, meets, volume in reversed(spans):
        if meets >= volume:
            break
        always = meets
        if meets > start:
            break
    return first, always


def per_million(price: float | None) -> float | None:
    """Return USD per million tokens, as lists print it."""
    return None if price is None else price * MILLION
