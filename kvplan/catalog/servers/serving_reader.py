"""A profile of servers as its file has it: every number is checked."""

from collections.abc import Mapping
from math import log
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.specs.calibration import TERM, Range
from kvplan.specs.serving_profile import WAYS, ServingProfile
from kvplan.specs.source import Source


def read_serving_profile(raw: Mapping[str, Any], source: Source, location: str) -> ServingProfile:
    """Return a serving profile from its document."""
    try:
        return ServingProfile(
            name=str(raw.get("name", location)),
            tier=str(raw.get("tier", "measured elsewhere")),
            source=source,
            moves={**_moves(raw["factors"], location), "base": {"": _base(raw["terms"], location)}},
            measured={_pair(who, location): tuple(map(str, entry["models"])) for who, entry in raw["measured"].items()},
            ranges=_ranges(raw["intervals"], location),
            cells=_cells(raw.get("cells", {}), location),
            speculative=tuple(map(str, raw.get("speculative", ()))),
            title=str(raw.get("title", "")),
            rows=_rows(raw["measured"], location),
            loads={str(what): _span(pair, f"{location}: loads: {what}") for what, pair in raw.get("loads", {}).items()},
            architectures=tuple(map(str, raw.get("architectures", ()))),
            shapes={str(which): str(who) for who, several in raw.get("shapes", {}).items() for which in several},
        )
    except KeyError as error:
        raise SpecError(f"{location}: missing or unknown {error}; write such files with kvplan calibrate") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SpecError(
            f"{location}: is no serving profile ({shown(str(error))}); write one with kvplan calibrate"
        ) from None


def _moves(factors: Any, location: str) -> dict[str, dict[str, dict[str, float]]]:
    """Read the factors of every level's members. [level][member][term; logarithm]"""
    return {
        level: {
            str(who): {
                str(name): log(_positive(factor, f"{location}: {level}: {who}: {name}"))
                for name, factor in pair.items()
            }
            for who, pair in members.items()
        }
        for level, members in factors.items()
    }


def _base(terms: Any, location: str) -> dict[str, float]:
    """Read the terms' values of all servers together, as deviations from their priors. [term; logarithm]"""
    return {name: TERM[name].move(_positive(reached, f"{location}: terms: {name}")) for name, reached in terms.items()}


def _ranges(intervals: Any, location: str) -> dict[str, tuple[Range, Range]]:
    """Read the intervals of TPOT and TTFT by what a prediction rests on, every way among them."""
    ranges = {str(who): (_range(r["tpot"], location), _range(r["ttft"], location)) for who, r in intervals.items()}
    if missing := next((basis for basis in WAYS if basis not in ranges), None):
        raise SpecError(f"{location}: intervals: {missing} is missing; write such files with kvplan calibrate")
    return ranges


def _cells(cells: Any, location: str) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Read the releases behind each model of a server."""
    return {
        (*_pair(who, location), str(model)): tuple(map(str, releases))
        for who, models in cells.items()
        for model, releases in models.items()
    }


def _rows(measured: Any, location: str) -> dict[tuple[str, str], int]:
    """Read how many rows of each server were fitted, 0 where it is not said."""
    return {
        _pair(who, location): int(_positive(entry["rows"], f"{location}: measured: {who}: rows"))
        if "rows" in entry
        else 0
        for who, entry in measured.items()
    }


def _positive(raw: object, location: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw < 1e30:
        raise SpecError(f"{location}: expected a number above zero, got {shown(raw)}")
    return float(raw)


def _range(raw: Any, location: str) -> Range:
    low, high = _span(raw, f"{location}: intervals")
    return Range(low=low, high=high)


def _span(raw: Any, location: str) -> tuple[float, float]:
    """Read two numbers above zero, the smaller first."""
    if not isinstance(raw, (list, tuple)) or len(raw) != 2:
        raise SpecError(f"{location}: expected two numbers, as in [0.9, 1.1], got {shown(raw)}")
    low, high = (_positive(end, location) for end in raw)
    if low > high:
        raise SpecError(f"{location}: {low:g} is above {high:g}")
    return low, high


def _pair(who: str, location: str) -> tuple[str, str]:
    """Read a server's name: its GPU and its engine."""
    gpu, gap, engine = who.partition(" ")
    if not gap:
        raise SpecError(f"{location}: measured: expected a GPU and an engine, as in 'h200 vllm', got {shown(who)}")
    return gpu, engine
