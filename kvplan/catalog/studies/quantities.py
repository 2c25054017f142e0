"""Values of a study's parameters as the questions take them: tokens, times, shares, counts, prices, names."""

import re
from collections.abc import Callable
from typing import Any

from kvplan.catalog.costs import rents
from kvplan.catalog.fields import ValueRange, share, yes
from kvplan.errors import SpecError, shown
from kvplan.specs.sweep import Value
from kvplan.units import HOUR, NUMBER, parse, parse_tokens, written

#: a plain number of a file
_NUMBER = re.compile(NUMBER, re.ASCII)
#: what lifts a limit
NO_LIMIT = "none"


def tokens(raw: object, location: str) -> int:
    """Return a token count such as '128k'."""
    return parse_tokens(raw, location)


def seconds(raw: object, location: str) -> float | str:
    """Return a time such as '5s', or 'none' for no limit. [s]"""
    text = written(raw).strip()
    if text == NO_LIMIT:
        return text
    return parse(text if text[-1:].isalpha() else f"{text} s", "s", location)


def part(raw: object, location: str) -> float | str:
    """Return a share such as '1%' or 0.01, or 'none' for no limit."""
    return NO_LIMIT if raw == NO_LIMIT else share(raw, location, ValueRange(0, 1))


def whole(raw: object, location: str) -> int:
    """Return a whole number."""
    value = parse(raw, "1", location)
    if value != int(value):
        raise SpecError(f"{location}: expected a whole number, got {shown(raw)}")
    return int(value)


def number(raw: object, location: str) -> float:
    """Return a plain number."""
    return parse(raw, "1", location)


def volume(raw: object, location: str) -> float:
    """Return a number of queries such as '40k', which may say that it is per second or per day."""
    return parse(written(raw).removesuffix("/s").removesuffix("/day"), "queries", location)


def users(raw: object, location: str) -> float:
    """Return a number of users such as '10k'."""
    return parse(raw, "users", location)


def rent(raw: object, location: str) -> float:
    """Return a price such as '2.49/h' in USD per GPU-hour, as the questions take it."""
    return float(f"{rents.rent(raw, location, hourly=True) * HOUR:.12g}")


def guessed(raw: object, location: str) -> Value:
    """Return a number or a yes or no as such, any other text as it is."""
    if not isinstance(raw, str):
        raise SpecError(f"{location}: expected a value, got {shown(raw)}")
    if raw.lower() in ("yes", "no", "true", "false"):
        return yes(raw, location)
    if not re.fullmatch(_NUMBER, raw):
        return raw
    value = parse(raw, "1", location)
    return int(value) if value == int(value) and "." not in raw else value


def name(raw: object, location: str) -> Value:
    """Return a name or a path, or several."""
    if isinstance(raw, list) and raw and all(isinstance(one, str) for one in raw):
        return tuple(raw)
    if not isinstance(raw, str) or not raw:
        raise SpecError(f"{location}: expected a name, got {shown(raw)}")
    return raw


#: parameter -> how its values are read; what stands in no row is guessed
READERS: dict[str, Callable[[object, str], Any]] = {
    **dict.fromkeys(("context", "isl", "osl", "output"), tokens),
    **dict.fromkeys(("ttft", "tpot", "e2e"), seconds),
    **dict.fromkeys(
        ("percentile", "confidence", "headroom", "max_quality_drop", "prefix_hit", "utilization", "draft_share"), part
    ),
    **dict.fromkeys(("tp", "pp", "dp", "concurrency", "max_gpus", "spares", "draft_tokens"), whole),
    **dict.fromkeys(("queries_per_day", "rate"), volume),
    "users": users,
    **dict.fromkeys(("load", "burstiness"), number),
    **dict.fromkeys(("any_technique", "prefix_cache", "allow_long_context"), yes),
    **dict.fromkeys(
        (
            "model", "gpu", "gpus", "technique", "techniques", "workload", "weights", "engine", "profile", "prices",
            "on", "term", "own", "objective", "quality", "as_family", "disaggregated", "trace",
        ),
        name,
    ),
    "price": rent,
}  # fmt: skip
#: parameters of which only whole numbers are drawn
WHOLE = frozenset(name for name, read in READERS.items() if read in (tokens, whole))


def read_value(parameter: str, raw: object, location: str) -> Value:
    """Return a value of a parameter; raise SpecError."""
    value: Value = READERS.get(parameter, guessed)(raw, location)
    return value
