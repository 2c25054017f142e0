"""Figures as people write them in claims, read and printed: '75 %', 'over 40 GB', '$0.15 -> $0.04'."""

import re
from dataclasses import dataclass
from math import inf

from kvplan.errors import SpecError, shown
from kvplan.units import MILLION, parse, parse_tokens, show_rate, show_time, show_tokens, show_usd

#: words before a figure -> (whether it bounds from below, whether the figure itself is in)
BOUNDS = {
    "at least": (True, True),
    "up to": (True, True),
    "over": (True, False),
    "more than": (True, False),
    "above": (True, False),
    "at most": (False, True),
    "under": (False, False),
    "less than": (False, False),
    "below": (False, False),
}
_BOUND = re.compile(rf"({'|'.join(BOUNDS)})\s+(.*)")
#: an example of a claimed figure in each unit
EXAMPLES = {
    "share": "75 %",
    "ratio": "1.2x",
    "B": "40 GB",
    "s": "5 s",
    "USD": "0.15 USD",
    "USD/token": "0.30 USD/Mtok",
    "token": "128k",
    "count": "1",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A claimed figure or range in base units, and the bounds within which an answer agrees with it."""

    low: float  #: as claimed
    high: float  #: as claimed, `low` again for a single figure
    least: float  #: of an answer that agrees
    most: float  #: of an answer that agrees
    strict: bool = False  #: whether the bounds themselves are out

    def agrees(self, value: float) -> bool:
        """Whether a figure is the one claimed, to within the tolerance."""
        return self.least < value < self.most if self.strict else self.least <= value <= self.most

    def meets(self, low: float, high: float) -> bool:
        """Whether a range holds a figure that was claimed."""
        return low <= self.high and high >= self.low

    def distance(self, value: float) -> float:
        """How far a figure is from the one claimed, 0 where it agrees."""
        return max(self.low - value, value - self.high, 0.0)


def read_figure(text: str, unit: str, place: str, tolerance: float) -> Figure:
    """Return what '75 %', '30 to 45 %', 'over 40 GB', 'at most 1 %' or '0.15 -> 0.04' claims; raise SpecError.

    A bound is meant as it stands; only a figure, a range and 'up to' are widened by the tolerance.
    """
    place = f"{place}: claimed"
    bound = _BOUND.fullmatch(text.strip())
    if bound:
        lower, included = BOUNDS[bound[1]]
        value = _amount(bound[2], unit, place)
        slack = _slack(value, unit, tolerance) if bound[1] == "up to" else 0.0
        low, high = (value, inf) if lower else (-inf, value)
        return Figure(low=low, high=high, least=low - slack, most=high + slack, strict=not included)
    low, high = _range(text.strip(), unit, place)
    least, most = low - _slack(low, unit, tolerance), high + _slack(high, unit, tolerance)
    return Figure(low=low, high=high, least=least, most=most)


def _slack(value: float, unit: str, tolerance: float) -> float:
    return tolerance if unit == "share" else abs(value) * tolerance


def _range(text: str, unit: str, place: str) -> tuple[float, float]:
    before, arrow, after = text.partition("->")
    if arrow:
        if unit != "share":
            raise SpecError(f"{place}: a change such as 0.15 -> 0.04 is a share saved; write {EXAMPLES[unit]} here")
        a, b = (parse(x.strip().lstrip("$"), "1", place) for x in (before, after))
        if not a:
            raise SpecError(f"{place}: a change from 0 has no share; write it as 75 %")
        return 1 - b / a, 1 - b / a
    first, to, last = text.partition(" to ")
    if not to:
        value = _amount(text, unit, place)
        return value, value
    suffix = re.sub(r"^[\s$]*[\d.,_]+", "", last)  # '30 to 45 %': the first figure has the last one's unit
    bare = re.fullmatch(r"[\d.,_]+", first.strip())
    low, high = _amount(first + suffix if bare else first, unit, place), _amount(last, unit, place)
    if low > high:
        raise SpecError(f"{place}: a range goes from the smaller to the greater, got {shown(text)}")
    return low, high


def _amount(text: str, unit: str, place: str) -> float:
    text = text.strip()
    if not text:
        raise SpecError(f"{place} is missing, as in claimed: {EXAMPLES[unit]}")
    if unit == "token":
        return float(parse_tokens(text, place))
    if unit == "share":
        if text.endswith("%"):
            return parse(text[:-1], "1", place) / 100
        raise SpecError(
            f"{place}: expected a share such as '75 %' or a change such as '0.15 -> 0.04', got {shown(text)}"
        )
    if unit in ("ratio", "count"):
        return parse(text.removesuffix("x"), "1", place)
    if unit.startswith("USD") and text.startswith("$"):
        amount, slash, per = text[1:].partition("/")
        text = f"{amount} USD{slash}{per}"
    return parse(text, unit, place)


def show(value: float, unit: str) -> str:
    """Return a figure in the words of its unit."""
    if value in (inf, -inf):
        return "none"
    if unit == "share":
        return f"{100 * value:.1f}".removesuffix(".0") + " %"
    if unit == "ratio":
        return f"{value:.2f}x" if abs(value) < 100 else f"{value:,.0f}x"
    if unit == "B":
        return show_rate(value, "B")
    if unit == "USD/token":
        return f"{show_usd(value * MILLION)}/Mtok"
    if unit == "token" and value >= 1:
        return show_tokens(round(value))
    if unit in ("count", "token"):
        return f"{value:,.6g}"
    return show_time(value) if unit == "s" else show_usd(value)


def show_span(low: float, high: float, unit: str) -> str:
    """Return a range in brackets, in the words of its unit."""
    return f"({show(low, unit)} to {show(high, unit)})"
