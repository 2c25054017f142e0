"""What callers may write for a quantity: a number in base units, or text such as '128k', '5s', '1%', '2.49/h'.

A message names the parameter first, `ttft: must be above zero ...`; the command line writes its flag there.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from math import inf

from kvplan.errors import SpecError, shown
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.units import DAY, HOUR, TERA, parse, parse_tokens

#: more queries a day than anyone has
MOST = TERA
#: fewer queries a day, and requests a second, than anyone asks about
FEWEST = 1e-9
#: names of the parameter `n` of tensor, pipeline and data parallelism
MOST_GPUS = 1024


def tokens(value: int | str, name: str) -> int:
    """Return a token count such as '128k' or 4096."""
    return parse_tokens(value, name)


def optional_tokens(value: int | str | None, name: str) -> int | None:
    """Return a token count, None where none was given."""
    return None if value is None else tokens(value, name)


def seconds(value: float | str, name: str) -> float:
    """Return a time above zero such as '5s', '50ms' or 0.05; 'none' lifts a limit. [s]"""
    text = str(value).strip()
    if text in ("none", "inf"):
        return inf
    found = parse(text if text[-1:].isalpha() else f"{text} s", "s", name)
    if found <= 0:
        raise SpecError(f"{name}: must be above zero, as in 5s or 50ms, or none for no limit; got {shown(text)}")
    return found


def limit(value: float | str | None, usual: float | None, name: str) -> float | None:
    """Return a limit that was given, else the usual one; None where there is none. [s]"""
    found = usual if value is None else seconds(value, name)
    return None if found == inf else found


def share(value: float | str, name: str) -> float:
    """Return a share such as '1%' or 0.01, from 0 to below 1."""
    text = str(value).strip()
    found = parse(text.rstrip("%"), "1", name) / (100 if text.endswith("%") else 1)
    if not 0 <= found < 1:
        meant = f"write {text}% if that is meant" if 1 <= found < 100 and "%" not in text else "as in 1% or 0.01"
        raise SpecError(f"{name}: expected a share below 1, {meant}; got {shown(text)}")
    return found


def bounded_share(value: float | str, name: str, least: float, most: float) -> float:
    """Return a share between two others."""
    found = share(value, name)
    if not least <= found <= most:
        raise SpecError(f"{name}: expected a share from {least:.0%} to {most:.4g}, as in 80%; got {shown(value)}")
    return found


def utilization(value: float | str | None, name: str) -> float | None:
    """Return the share of a GPU's memory an engine takes, above 0 and up to 1; None where none was given."""
    if value is None:
        return None
    found = parse(value, "1", name)
    if not 0 < found <= 1:
        raise SpecError(f"{name}: must be above 0 and at most 1, got {shown(value)}")
    return found


def number(value: float | str | None, name: str, least: float, most: float) -> float | None:
    """Return a plain number within bounds, None where none was given."""
    if value is None:
        return None
    found = parse(value, "1", name)
    if not least <= found <= most:
        raise SpecError(f"{name}: must be from {least:g} to {most:g}, got {shown(value)}")
    return found


def per_day(queries_per_day: float | str | None, rate: float | str | None) -> float | None:
    """Return queries a day, given as such ('40,000') or per second ('2.5/s'); None where neither was given."""
    if queries_per_day is not None and rate is not None:
        raise SpecError("queries_per_day, rate: give one of them, not both")
    if rate is not None:
        return per_second(rate) * DAY
    return None if queries_per_day is None else _volume(queries_per_day, "queries_per_day", "/day", "40000")


def per_second(rate: float | str, name: str = "rate") -> float:
    """Return requests a second, as in 2.5 or '2.5/s'."""
    return _volume(rate, name, "/s", "2.5")


def _volume(value: float | str, name: str, unit: str, example: str) -> float:
    text = str(value).strip()
    found = parse(text.removesuffix(unit), "1", name)
    if not FEWEST <= found < MOST:
        raise SpecError(f"{name}: must be from {FEWEST:g} to below {MOST:g}, as in {example}; got {shown(text)}")
    return found


def price(value: float | str | None, name: str = "price") -> float | None:
    """Return a price per GPU-hour, '2.49/h', '2.49 USD/h' or 2.49, in USD/s; None where none was given."""
    if value is None:
        return None
    text = str(value)
    number, _, per = text.strip().lstrip("$").partition("/")
    unit = {"hr": "h", "hour": "h", "": "h"}.get(per.strip(), per.strip())
    found = parse(f"{number.replace('USD', '').strip()} USD/{unit}", "USD/s", name)
    if not 0 < found < MOST / HOUR:
        raise SpecError(f"{name}: must be above zero, as in 2.49/h, got {shown(text)}")
    return found


def day(value: str | None, name: str = "on") -> str:
    """Return a date as YYYY-MM-DD, today where none was given."""
    if value is None:
        return date.today().isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise SpecError(f"{name}: expected a date such as 2026-11-23, got {shown(value)}") from None


def several(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def settings(value: str | Iterable[str] | Mapping[str, object], name: str = "settings") -> dict[str, str]:
    """Return what is said of rows, column -> value: a mapping, or texts such as 'gpu=h100'."""
    if isinstance(value, Mapping):
        return {str(column): str(said) for column, said in value.items()}
    found = {}
    for word in several(value):
        column, sign, said = word.partition("=")
        if not sign or not column.strip():
            raise SpecError(f"{name}: expected COLUMN=VALUE, as in 'gpu=h100', got {shown(word)}")
        found[column.strip()] = said.strip()
    return found


def technique_names(value: str | Iterable[str], usual: Iterable[str]) -> tuple[str, ...]:
    """Return techniques in their one spelling, each once; the usual ones where none was given."""
    found = tuple(dict.fromkeys(spelling.canonical(name) for name in several(value) or usual))
    for name in found:
        spelling.parts(name)
    return found


def parallel(tp: int | None, pp: int | None, dp: int | None) -> Parallel | None:
    """Return the replica shape that was fixed, None where none was."""
    for name, value in (("tp", tp), ("pp", pp), ("dp", dp)):
        if value is not None and not 1 <= value <= MOST_GPUS:
            raise SpecError(f"{name}: expected from 1 to {MOST_GPUS} GPUs, got {shown(value)}")
    if tp is None and pp is None and dp is None:
        return None
    return Parallel(tensor=tp or 1, pipeline=pp or 1, data=dp or 1)
