"""A price by time as people write it, in any currency whose rate is stated: the one place that reads it."""

import re
from collections.abc import Mapping

from kvplan.catalog.fields import RENT, ValueRange, mapping, number
from kvplan.errors import SpecError, shown
from kvplan.units import DIMENSIONS, NUMBER, comma_hint, parse, written

#: the currency everything is counted in, and signs that mean one currency alone
USD = "USD"
SIGNS = {"$": USD, "€": "EUR", "£": "GBP"}
#: other names of an hour
HOURS = {"": "h", "hr": "h", "hour": "h"}
#: what one unit of a currency may be worth [USD]
RATE = ValueRange(open=True, most=1e6)
#: what to do with a price in another currency
_CONVERT = "; convert other currencies by their rate, as in 2.30 EUR/h at 1.08"
CURRENCY = r"[$€£]|[A-Z]{3}"


def pattern(time: str) -> str:
    """Return how a price is written, as in 2.49 USD/h, $2.49/h, 2.49/h or 2.30 EUR/h at 1.08; `time` is its divisor."""
    return rf"\s*({CURRENCY})?\s*({NUMBER})\s*({CURRENCY})?\s*{time}(?:\s+at\s+({NUMBER}))?\s*"


#: a price without a time is read for the currency in it
_PRICE = re.compile(pattern(r"(?:/\s*([a-z]+))?"), re.ASCII)


def rent(raw: object, location: str, stated: Mapping[str, float] | None = None, hourly: bool = False) -> float:
    """Return a price above zero such as 2.49 USD/h, $2.49/h, 2.49/h or 2.30 EUR/h at 1.08. [USD/s]

    `stated` are what units of currencies are worth [USD], None where nothing but the price can state it. A price
    without a time is one per hour where `hourly`, else it is refused. Raises SpecError.
    """
    found = _PRICE.fullmatch(written(raw))
    expected = "USD per GPU-hour, as in 2.49/h" if hourly else DIMENSIONS["USD/s"]
    if found is None or not (found[4] or hourly) or len(named := _currencies(found)) > 1:
        raise SpecError(f"{location}: expected {expected}, got {shown(raw)}{comma_hint(raw) or _CONVERT * hourly}")
    (currency,) = named or {USD}
    if currency != USD and stated is None and found[5] is None:
        raise SpecError(f"{location}: expected {expected}, got {shown(raw)}{_CONVERT}")
    per = (found[4] or "").strip()
    price = parse(f"{found[2]} {USD}/{HOURS.get(per, per)}", "USD/s", location) * _worth(
        currency, found[5], stated or {}, location
    )
    if price not in RENT:
        raise SpecError(
            f"{location}: must be above zero, as in 2.49 USD/h; leave out what is unknown, got {shown(raw)}"
        )
    return price


def rates(raw: object, location: str) -> dict[str, float]:
    """Return what one unit of each currency is worth, as a file states it. [USD]"""
    given = mapping(raw, location, "{EUR: 1.08}")
    return {str(unit).upper(): number(worth, f"{location}: {unit}", RATE) for unit, worth in given.items()}


def currency_of(raw: str) -> str:
    """Return the currency that a price names, USD where it names none."""
    found = _PRICE.fullmatch(raw)
    return next(iter(_currencies(found) if found else ()), USD)


def _currencies(found: re.Match[str]) -> set[str]:
    """Return the currencies that a price names before and after its amount."""
    return {SIGNS.get(word, word) for word in (found[1], found[3]) if word}


def _worth(currency: str, at: str | None, stated: Mapping[str, float], location: str) -> float:
    """Return what a unit of a price's currency is worth, as the price says or its file does. [USD]"""
    if at is not None:
        return number(at, f"{location}: rate", RATE)
    if currency != USD and currency not in stated:
        raise SpecError(
            f"{location}: no rate of {currency} is stated; write USD for one {currency}, as in rates: "
            f"{{{currency}: 1.08}} of a YAML file, in the column rate of a CSV file or as in 2.30 {currency}/h at 1.08"
        )
    return stated.get(currency, 1.0)
