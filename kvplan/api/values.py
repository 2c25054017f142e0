"""What callers may write for a quantity: a number in base units, or text such as '128k', '5s', '1%', '2.49/h'.

A message names the parameter first, `ttft: must be above zero ...`; the command line writes its flag there.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import inf
from time import time
from typing import Any, TypeVar

from kvplan.architectures.formats import FORMATS, format_named
from kvplan.catalog.costs.rents import rent
from kvplan.catalog.lookup import named, resolve
from kvplan.errors import SpecError, WrongUse, meant, shown
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.units import DAY, TERA, parse, parse_tokens, written

T = TypeVar("T")
#: more queries a day than anyone has
MOST = TERA
#: fewer queries a day, and requests a second, than anyone asks about
FEWEST = 1e-9
#: more GPUs along one kind of parallelism, and more replicas of one kind, than a server has
MOST_GPUS = 1024
#: more sequences, requests in flight or GPUs than anyone has
MOST_REQUESTS = 1_000_000


def given(read: Callable[..., T], value: object, *how: Any) -> T | None:
    """Return a value as `read` understands it, None where none was given."""
    return None if value is None else read(value, *how)


def word(value: object, name: str) -> str:
    """Return a name, a path or a text."""
    if not isinstance(value, str):
        raise SpecError(f"{name}: expected text, got {shown(value)}")
    return value


def flag(value: object, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise SpecError(f"{name}: expected True or False, got {shown(value)}")
    return value


def called(value: T, name: str) -> T:
    """Return a function."""
    if not callable(value):
        raise SpecError(f"{name}: expected a function, got {shown(value)}")
    return value


def count(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number within bounds."""
    number = None if isinstance(value, bool) or not hasattr(value, "__index__") else int(value.__index__())
    if number is None or not least <= number <= most:
        raise SpecError(f"{name}: expected from {least:,} to {most:,}, got {shown(value)}")
    return number


def one_of(value: object, name: str, choices: Collection[str]) -> str:
    """Return one of several names."""
    if not isinstance(value, str) or value not in choices:
        *others, last = choices
        known = f"{', '.join(others)} or {last}" if others else last
        raise SpecError(f"{name}: expected {known}, got {shown(value)}{meant(value, choices)}")
    return value


def engine(value: object, name: str, choices: Collection[str]) -> str:
    """Return an engine of several, with the release where one is named, as in vllm@0.19."""
    word = value if isinstance(value, str) else ""
    asked, at, release = word.partition("@")
    known = resolve("engines", asked, "engine") if asked not in choices and named("engines", asked) else asked
    if known not in choices and named("engines", known):
        *others, last = choices
        measured = f"{', '.join(others)} or {last}"
        raise SpecError(
            f"{name}: no servers of {shown(word)} were measured, so it has no times; give {name}={measured}, or ask "
            "for its memory alone with kvplan memory"
        )
    one_of(known or value, name, choices)
    if at and not named("engines", known):
        raise SpecError(f"{name}: {known} has no releases; name one engine, as in vllm@0.19, got {shown(word)}")
    return f"{known}{at}{release.strip()}"


def weight_format(value: object, name: str = "weights") -> str:
    """Return the name of a weight format, which may be called as checkpoints call it: awq and gptq are int4."""
    known = format_named(value) if isinstance(value, str) else None
    return known.name if known else one_of(value, name, sorted(FORMATS))


def halves(value: object, name: str, what: str = "prefill:decode") -> tuple[int, int]:
    """Return how many replicas prefill and how many decode, of '1:2' or (1, 2), or another pair of counts."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,4}):(\d{1,4})\s*", value, re.ASCII)
        sizes: tuple[object, ...] = (int(match[1]), int(match[2])) if match else ()
    else:
        sizes = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(sizes) != 2:
        raise SpecError(f"{name}: write {what} replicas, as in 1:2, got {shown(value)}")
    try:
        first, second = (count(size, name, 1, MOST_GPUS) for size in sizes)
    except SpecError:
        raise SpecError(
            f"{name}: write {what} replicas from 1 to {MOST_GPUS:,}, as in 1:2, got {shown(value)}"
        ) from None
    return first, second


def plain(value: object, name: str) -> str:
    """Return a quantity as it was written."""
    if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__float__")):
        raise SpecError(f"{name}: expected a number or text, got {shown(value)}")
    return (written(value) if isinstance(value, int) else str(value)).strip()


def tokens(value: int | str, name: str) -> int:
    """Return a token count such as '128k' or 4096."""
    return parse_tokens(value, name)


def seconds(value: float | str, name: str) -> float:
    """Return a time above zero such as '5s', '50ms' or 0.05; 'none' lifts a limit. [s]"""
    text = plain(value, name)
    if text in ("none", "inf"):
        return inf
    duration = parse(text if text[-1:].isalpha() else f"{text} s", "s", name)
    if duration <= 0:
        raise SpecError(f"{name}: must be above zero, as in 5s or 50ms, or none for no limit; got {shown(text)}")
    return duration


def moment(value: float | str, name: str) -> float:
    """Return a time after the start such as '0s' or '10min'. [s]"""
    text = plain(value, name)
    after = parse(text if text[-1:].isalpha() else f"{text} s", "s", name)
    if not 0 <= after < inf:
        raise SpecError(f"{name}: must be a time after the start, as in 0s or 10min; got {shown(text)}")
    return after


def limit(value: float | str | None, usual: float | None, name: str) -> float | None:
    """Return a limit that was given, else the usual one; None where there is none. [s]"""
    bound = usual if value is None else seconds(value, name)
    return None if bound == inf else bound


def share(value: float | str, name: str, most: float = 1.0, example: str = "1%") -> float:
    """Return a share such as '1%' or 0.01, from 0 to below `most`; above 1 it has to be in %."""
    text = plain(value, name)
    fraction = _fraction(text, name)
    if not 0 <= fraction < (most if text.endswith("%") else 1):
        bare = 1 <= fraction < 100 and "%" not in text
        whole = f"from 0% to below {100 * most:g}%, as in {example}"
        instead = f"below 1, write {text}% if that is meant" if bare else whole
        raise SpecError(f"{name}: expected a share {instead}; got {shown(text)}")
    return fraction


def _fraction(text: str, name: str) -> float:
    return parse(text.removesuffix("%"), "share", name) / (100 if text.endswith("%") else 1)


def loss(value: float | str | None, name: str) -> float | None:
    """Return the greatest loss of quality that is allowed, None where any is: 'none', 100% or no value."""
    if value is None or (isinstance(value, str) and value.strip() in ("none", "100%")):
        return None
    try:
        return share(value, name)
    except SpecError as refusal:
        raise SpecError(f"{refusal}; none allows any loss") from None


def bounded_share(value: float | str, name: str, least: float, most: float) -> float:
    """Return a share between two others."""
    text = plain(value, name)
    fraction = _fraction(text, name) if text.endswith("%") else share(value, name)
    if not least <= fraction <= most:
        raise SpecError(
            f"{name}: expected a share from {100 * least:g}% to {100 * most:g}%, as in 80%; got {shown(value)}"
        )
    return fraction


def utilization(value: float | str | None, name: str) -> float | None:
    """Return the share of a GPU's memory an engine takes, above 0 and up to 1; None where none was given."""
    if value is None:
        return None
    fraction = _fraction(plain(value, name), name)
    if not 0 < fraction <= 1:
        raise SpecError(f"{name}: must be above 0 and at most 1, as in 0.9 or 90%, got {shown(value)}")
    return fraction


def number(value: float | str, name: str, least: float, most: float) -> float:
    """Return a plain number within bounds."""
    figure = parse(value, "1", name)
    if not least <= figure <= most:
        raise SpecError(f"{name}: must be from {least:g} to {most:g}, got {shown(value)}")
    return figure


def per_day(queries_per_day: float | str | None, rate: float | str | None) -> float | None:
    """Return queries a day, given as such ('40,000', '40k') or per second ('2.5/s'); None where neither was given."""
    if queries_per_day is not None and rate is not None:
        raise WrongUse("queries_per_day, rate: give one of them, not both")
    if rate is not None:
        return per_second(rate) * DAY
    return None if queries_per_day is None else _volume(queries_per_day, "queries_per_day", "/day", "40000")


def per_second(rate: float | str, name: str = "rate") -> float:
    """Return requests a second, as in 2.5 or '2.5/s'."""
    return _volume(rate, name, "/s", "2.5")


def users(value: float | str, name: str = "users") -> float:
    """Return a number of users, as in 2000, '2,000' or '10k'."""
    return _volume(value, name, "", "2000", "users")


def _volume(value: float | str, name: str, unit: str, example: str, of: str = "queries") -> float:
    text = plain(value, name)
    volume = parse(text, f"{of}{unit}", name)
    if volume <= 0:
        raise SpecError(f"{name}: must be above zero, as in {example}{unit}, got {shown(text)}")
    if not FEWEST <= volume < MOST:
        beyond = f"no service gets {MOST:g}" if volume >= MOST else f"{FEWEST:g} is the least"
        raise SpecError(f"{name}: {beyond}; write a number as in {example}, got {shown(text)}")
    return volume


def price(value: float | str | None, name: str = "price") -> float | None:
    """Return a price per GPU-hour, '2.49/h', '2.30 EUR/h at 1.08' or 2.49, in USD/s; None where none was given."""
    if value is None:
        return None
    return rent(plain(value, name), name, hourly=True)


def day(value: str | None, name: str = "on") -> str:
    """Return a date as YYYY-MM-DD, today where none was given."""
    if value is None:
        return date.today().isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise SpecError(f"{name}: expected a date such as 2026-11-23, got {shown(value)}") from None


def instant(value: str | None, name: str) -> float:
    """Return a moment in seconds since 1970: 'now', 'now-2h', or a date with or without a time (UTC unless said)."""
    text = value if isinstance(value, str) else "now"
    if text == "now":
        return time()
    if text.startswith("now-"):
        return time() - seconds(text.removeprefix("now-"), name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(
            f"{name}: expected now, now-2h or a time such as 2026-11-29T10:00, got {shown(value)}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def several(value: str | Iterable[str], name: str) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    if isinstance(value, str):
        return (value,)
    items = tuple(value) if isinstance(value, Iterable) else (value,)
    if wrong := [one for one in items if not isinstance(one, str)]:
        raise SpecError(f"{name}: expected text or several texts, got {shown(wrong[0])}")
    return items


def settings(value: str | Iterable[str] | Mapping[str, object], name: str = "settings") -> dict[str, str]:
    """Return what holds for all rows, column -> value: a mapping, or texts such as 'gpu=h100'."""
    if isinstance(value, Mapping):
        return {str(column): str(entry) for column, entry in value.items()}
    columns = {}
    for setting in several(value, name):
        column, sign, entry = setting.partition("=")
        if not sign or not column.strip():
            raise SpecError(f"{name}: expected COLUMN=VALUE, as in 'gpu=h100', got {shown(setting)}")
        columns[column.strip()] = entry.strip()
    return columns


def technique_names(value: str | Iterable[str], usual: Iterable[str], name: str = "techniques") -> tuple[str, ...]:
    """Return techniques in their one spelling, each once; the usual ones where none was given."""
    return tuple(dict.fromkeys(spelling.canonical(one) for one in several(value, name) or usual))


def size(value: float | str, name: str) -> float:
    """Return a size such as '20 GiB', or a number of bytes, above zero. [B]"""
    text = plain(value, name)
    amount = parse(text if text[-1:].isalpha() else f"{text} B", "B", name)
    if amount <= 0:
        raise SpecError(f"{name}: must be above zero, as in 20GiB, got {shown(text)}")
    return amount


def layer_counts(value: str | Sequence[int], name: str) -> tuple[int, ...]:
    """Return the layers of each pipeline stage, as in '16,32' or [16, 32]; () where none were given."""
    if isinstance(value, (list, tuple)):
        return tuple(count(one, name, 1, MOST_GPUS) for one in value)
    if not isinstance(value, str) or (value and not re.fullmatch(r"\d+(,\d+)*", value)):
        raise SpecError(f"{name}: expected the layers of each stage, as in 16,32, got {shown(value)}")
    return tuple(count(int(one), name, 1, MOST_GPUS) for one in value.split(",") if one)


def parallel(tp: int | None, pp: int | None, dp: int | None) -> Parallel | None:
    """Return the replica shape that was fixed, None where none was."""
    for name, value in (("tp", tp), ("pp", pp), ("dp", dp)):
        given(count, value, name, 1, MOST_GPUS)
    if tp is None and pp is None and dp is None:
        return None
    return Parallel(tensor=tp or 1, pipeline=pp or 1, data=dp or 1)
