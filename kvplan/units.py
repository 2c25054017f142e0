"""Quantities: parsing what people write, printing what people read.

Inside kvplan every number is in base units: byte, second, FLOP, watt, USD, token.
This module holds the only scale factors. GB is 10^9 bytes, GiB is 2^30, always; `128k` tokens are 131,072.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import ceil, copysign, floor, inf, log10, nextafter

from kvplan.errors import SpecError, shown

KIB = 1024.0
GIB = 1024.0**3
DAY = 86400.0
HOUR = 3600.0
MINUTE = 60.0
#: a mean year and a twelfth of it, 730.5 hours
YEAR = 365.25 * DAY
MONTH = YEAR / 12
KWH = 1e3 * HOUR
MILLION = 1e6
TERA = 1e12

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": KIB, "Mi": 1024.0**2, "Gi": GIB, "Ti": 1024.0**4}
_TIME = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": HOUR,
    "d": DAY,
    "month": MONTH,
    "year": YEAR,
}
_MONEY = {
    "USD": {"USD": 1.0},
    "USD/J": {"USD/kWh": 1 / KWH, "USD/MWh": 1e-3 / KWH, "USD/J": 1.0},
    "USD/W/s": {"USD/kW/month": 1e-3 / MONTH, "USD/kW/year": 1e-3 / YEAR},
    "USD/token": {"USD/Mtok": 1e-6, "USD/ktok": 1e-3, "USD/tok": 1.0},
}
#: numbers of queries count in thousands, unlike tokens: 30k a day are 30,000
_QUERIES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
#: digits before a point, as a regular expression: a comma only parts thousands, so that 2,49 is not read as 249
WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"
#: a number as people write it, as a regular expression
NUMBER = rf"[+-]?(?:{WHOLE}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"\s*({NUMBER})\s*([A-Za-z$%/]*)\s*$", re.ASCII)

#: what each dimension is called in messages, with an example to copy
DIMENSIONS = {
    "B": "a size such as '80 GB' or '79.2 GiB'",
    "B/s": "a bandwidth such as '4.8 TB/s'",
    "FLOP/s": "a rate such as '989 TFLOP/s'",
    "W": "a power such as '700 W'",
    "s": "a time such as '5s' or '50ms'",
    "USD/s": "a price such as '2.49 USD/h'",
    "USD": "a sum such as '270,000 USD'",
    "USD/J": "a price of electricity such as '0.08 USD/kWh'",
    "USD/W/s": "a price of power such as '200 USD/kW/month'",
    "USD/token": "a price such as '0.88 USD/Mtok' (per million tokens)",
    "queries": "a number of queries such as '40,000', '40k' or '1.2M'",
    "users": "a number of users such as '2,000' or '10k'",
    "queries/s": "a number of requests a second such as '2.5/s'",
    "queries/day": "a number of queries such as '40,000', '40k' or '1.2M'",
    "share": "a share such as '5%' or '0.05'",
    "1": "a plain number",
}


@cache
def _scales(dimension: str) -> dict[str, float]:
    prefixed = {**_DECIMAL, **_BINARY}
    if dimension == "B":
        return {f"{p}B": f for p, f in prefixed.items()}
    if dimension == "B/s":
        return {f"{p}B/s": f for p, f in prefixed.items()}
    if dimension == "FLOP/s":
        return {f"{p}{op}/s": f for p, f in _DECIMAL.items() for op in ("FLOP", "OP")}
    if dimension == "W":
        return {f"{p}W": f for p, f in _DECIMAL.items()}
    if dimension == "s":
        return _TIME
    if dimension == "USD/s":
        return {f"{money}/{unit}": 1 / f for money in ("USD", "$") for unit, f in _TIME.items()}
    if dimension in _MONEY:
        return _MONEY[dimension]
    if dimension in ("queries", "users"):
        return _QUERIES
    if dimension in ("queries/s", "queries/day"):
        per = dimension.removeprefix("queries")
        return {f"{p}{unit}": f for p, f in _QUERIES.items() for unit in ("", per)}
    return {"": 1.0}


def spellings(dimension: str) -> tuple[str, ...]:
    """Return how the units of a dimension are spelled, '' where a bare number is one."""
    return tuple(_scales(dimension))


def parse(text: object, dimension: str, location: str = "") -> float:
    """Return `text` ('4.8 TB/s') in base units of `dimension` ('B/s'); raise SpecError otherwise."""
    match = _QUANTITY.match(written(text))
    scale = _scales(dimension).get(match[2]) if match else None
    if match is None or scale is None:
        place = f"{location}: " if location else ""
        raise SpecError(f"{place}expected {DIMENSIONS[dimension]}, got {shown(text)}{comma_hint(text)}")
    value = float(match[1].replace(",", "").replace("_", "")) * scale
    if value != value or value in (float("inf"), float("-inf")):
        raise SpecError(f"{location}: expected {DIMENSIONS[dimension]}, got {shown(text)}")
    return value


def comma_hint(text: object) -> str:
    """Return what a comma means, for a text with one."""
    return "; a comma parts thousands, a point decimals" if "," in written(text) else ""


def written(text: object) -> str:
    """Return a value as it was written, '' where it is no text or number, or longer than any quantity."""
    quantity = str(text) if isinstance(text, (str, float)) or (isinstance(text, int) and abs(text) < LARGEST) else ""
    return quantity if len(quantity) <= LONGEST else ""


#: letters of a quantity, and a whole number that is still one
LONGEST, LARGEST = 100, 10**90


def spell(value: float, dimension: str, digits: int = 5) -> str:
    """Return a value in base units as data files write it, '3.912 TB/s' or '12.4 us'; `parse` reads it back."""
    names = ("s", "ms", "us", "ns") if dimension == "s" else tuple(f"{p}{dimension}" for p in ("T", "G", "M", "k", ""))
    if dimension == "1":
        return f"{value:.{digits}g}"
    scales = _scales(dimension)
    unit = next((name for name in names if scales[name] <= abs(value)), names[-1])
    return f"{float(f'{value / scales[unit]:.{digits}g}'):.12g} {unit}"


def parse_tokens(text: object, location: str = "context") -> int:
    """Return a token count: '128k' is 131,072, '1M' is 1,048,576, '4096' and '4,096' are themselves."""
    match = re.fullmatch(rf"\s*({WHOLE}(?:\.\d+)?)\s*([kKmM]?)i?\s*(?:tokens?)?\s*", written(text), re.ASCII)
    if match is None:
        raise SpecError(
            f"{location}: expected a number of tokens such as '128k' or '4096', got {shown(text)}{comma_hint(text)}"
        )
    factor = {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]
    tokens = Fraction(match[1].replace(",", "").replace("_", "")) * factor
    if tokens.denominator != 1 or not 1 <= tokens <= MAX_TOKENS:
        raise SpecError(f"{location}: expected a whole number of tokens from 1 to {MAX_TOKENS:,}, got {shown(text)}")
    return int(tokens)


#: a bound that keeps every product finite and every message readable
MAX_TOKENS = 1024**4


def up(value: float) -> float:
    """Return a value that is written with ties away from zero, as scripts of a page round: 11.25 as 11.3, not 11.2."""
    return nextafter(value, copysign(inf, value)) if value else value


def scaled(value: float, units: tuple[tuple[float, str], ...], digits: int = 1) -> str:
    """Return `value` in the largest of `units` ((factor, name), largest first) not above it."""
    for factor, name in units:
        if abs(value) >= factor:
            return f"{up(value / factor):,.{digits}f} {name}"
    factor, name = units[-1]
    return f"{up(value / factor):,.{digits}f} {name}"


def show_bytes(value: float) -> str:
    """Return bytes in binary units: '40.0 GiB'."""
    if abs(value) < KIB:
        return f"{up(value):,.0f} B"
    return scaled(value, ((1024.0**4, "TiB"), (GIB, "GiB"), (1024.0**2, "MiB"), (KIB, "KiB")))


def written_above(seconds: float) -> str:
    """Return a time as an option takes it, in two digits, none of them less than it is: '1.2s', '540ms'."""
    step = 10.0 ** (floor(log10(seconds)) - 1)
    whole = ceil(seconds / step * (1 - 1e-12)) * step
    return f"{whole:.6g}s" if whole >= 1 else f"{whole * 1e3:.6g}ms"


def short_below(amount: float) -> float:
    """Return an amount in three digits, none of them more than it is."""
    step = 10.0 ** (floor(log10(amount)) - 2)
    return float(f"{floor(amount / step * (1 + 1e-12)) * step:.6g}")


def show_time(value: float, more: int = 0) -> str:
    """Return seconds as people say them: '24.0 h', '14.0 min', '2.1 s', '34.0 ms', '80.0 us'; `more` are digits."""
    if value >= 2 * HOUR:
        return f"{up(value / HOUR):.{1 + more}f} h"
    if value >= 600:
        return f"{up(value / 60):.{1 + more}f} min"
    if value >= 1:
        return f"{up(value):.{1 + more}f} s"
    return f"{up(value * 1e3):.{1 + more}f} ms" if value >= 1e-3 else f"{up(value * 1e6):.{1 + more}f} us"


def show_percent(share: float, digits: int = 0, signed: bool = False) -> str:
    """Return a share in percent: '59 %', '0.8 %' with one digit, '+3 %' with its sign."""
    return f"{up(100 * share):{'+' if signed else ''}.{digits}f} %"


def show_percentile(share: float) -> str:
    """Return a percentile as reports name it: 'P95', 'P99.9'."""
    return f"P{100 * share:g}"


def show_odds(share: float) -> str:
    """Return a probability in whole percent, 'over 99 %' and 'under 1 %' at the ends: no model's tail is certain."""
    if share >= 0.995:
        return "over 99 %"
    return "under 1 %" if share < 0.005 else show_percent(share)


def short_odds(share: float) -> str:
    """Return a probability as a table has room for it: '92 %', '>99 %', '<1 %'."""
    return show_odds(share).replace("over ", ">").replace("under ", "<")


def show_count(count: int, noun: str) -> str:
    """Return a number of things with its noun: '1 row', '1,024 rows'."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def show_number(value: float, digits: int = 3) -> str:
    """Return a number in so many digits, whole where it has more before the point: '0.0123', '12.3', '1,020'."""
    return f"{up(value):,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{up(value):.{digits}g}"


def show_rate(value: float, unit: str) -> str:
    """Return a rate with a decimal prefix: '4.8 TB/s', '989 TFLOP/s'."""
    return scaled(value, ((1e12, f"T{unit}"), (1e9, f"G{unit}"), (1e6, f"M{unit}"), (1.0, unit)), 2).replace(
        ".00 ", " "
    )


def show_energy(value: float) -> str:
    """Return joules as electricity is bought, in three digits: '451 mWh', '3.20 Wh', '1.70 kWh'."""
    units = ((1e3 * KWH, "MWh"), (KWH, "kWh"), (HOUR, "Wh"), (1e-3 * HOUR, "mWh"))
    amount = abs(value) / next((factor for factor, _ in units if abs(value) >= factor), units[-1][0])
    return scaled(value, units, 0 if amount >= 100 else 1 if amount >= 10 else 2)


def show_usd(value: float, more: int = 0) -> str:
    """Return money with cents above a dollar, three significant digits below and two below a hundredth of a cent.

    `more` are digits beyond these.
    """
    if value >= 100:
        return f"${up(value):,.{more}f}"
    if value >= 1:
        return f"${up(value):,.{2 + more}f}"
    if abs(value) >= 1e-4 or not value:
        return f"${up(value):#.{3 + more}g}"
    return f"${up(value):.{1 + more - floor(log10(abs(value)))}f}" if abs(value) >= LEAST_USD else f"${up(value):.1g}"


#: below it money is written with an exponent [USD]
LEAST_USD = 1e-8


#: what costs less is said per million of them [USD]
SMALL_USD = 1e-3


def priced_by(usd: float) -> tuple[float, str, str]:
    """Return in what number of queries a cost is read: the number, and a cost's end and beginning in a sentence.

    (1, 'a query', 'a query costs') from a tenth of a cent on, else (1e6, 'per million queries', 'a million queries
    cost'): $0.000178 a query is $178 per million queries.
    """
    if not 0 < abs(usd) < SMALL_USD:
        return 1.0, "a query", "a query costs"
    return MILLION, "per million queries", "a million queries cost"


def show_usd_each(usd: float, like: float | None = None) -> str:
    """Return the cost of a query, at the scale of another one it stands beside: '$0.172 a query', '$178 per million
    queries'."""
    many, end, _ = priced_by(usd if like is None else like)
    return f"{show_usd(usd * many)} {end}"


def said_per_query(words: str, like: float | None) -> str:
    """Return words on the cost of a query, of a million where a cost like this one is said so."""
    return words if priced_by(like or 0.0)[0] == 1 else words.replace("a query", "a million queries")


def show_apart(value: float, bound: float, show: Callable[[float, int], str]) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to tell them apart, few where a few do."""
    if value == bound:
        return show(value, 0), show(bound, 0)
    digits = next((n for n in range(7) if show(value, n) != show(bound, n)), 7)
    return show(value, digits), show(bound, digits)


def show_tokens(value: int) -> str:
    """Return a token count the way people write it: 131,072 is '128k', and 128,000 is as it was written."""
    if value % 1000 == 0:
        return f"{value:,}"
    if value >= 1024**2 and value % 1024**2 == 0:
        return f"{value // 1024**2}M"
    return f"{value // 1024}k" if value >= 1024 and value % 1024 == 0 else f"{value:,}"
