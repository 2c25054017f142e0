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
        moves = {
            level: {
                str(who): {
                    str(name): log(_positive(factor, f"{location}: {level}: {who}: {name}"))
                    for name, factor in pair.items()
                }
                for who, pair in raw["factors"][level].items()
            }
            for level in raw["factors"]
        }
        base = {
            name: TERM[name].move(_positive(reached, f"{location}: terms: {name}"))
            for name, reached in raw["terms"].items()
        }
        loads = {str(what): _span(pair, f"{location}: loads: {what}") for what, pair in raw.get("loads", {}).items()}
        rows = {
            _pair(who, location): int(_positive(entry["rows"], f"{location}: measured: {who}: rows"))
            if "rows" in entry
            else 0
            for who, entry in raw["measured"].items()
        }
        cells = {
            (*_pair(who, location), str(model)): tuple(map(str, releases))
            for who, models in raw.get("cells", {}).items()
            for model, releases in models.items()
        }
        shapes = {str(which): str(who) for who, several in raw.get("shapes", {}).items() for which in several}
        ranges = {
            str(who): (_range(r["tpot"], location), _range(r["ttft"], location)) for who, r in raw["intervals"].items()
        }
        if missing := next((basis for basis in WAYS if basis not in ranges), None):
            raise SpecError(f"{location}: intervals: {missing} is missing; write such files with kvplan calibrate")
        measured = {_pair(who, location): tuple(map(str, entry["models"])) for who, entry in raw["measured"].items()}
    except KeyError as error:
        raise SpecError(f"{location}: missing or unknown {error}; write such files with kvplan calibrate") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SpecError(
            f"{location}: is no serving profile ({shown(str(error))}); write one with kvplan calibrate"
        ) from None
    return ServingProfile(
        name=str(raw.get("name", location)),
        tier=str(raw.get("tier", "measured elsewhere")),
        source=source,
        moves={**moves, "base": {"": base}},
        measured=measured,
        ranges=ranges,
        cells=cells,
        speculative=tuple(map(str, raw.get("speculative", ()))),
        title=str(raw.get("title", "")),
        rows=rows,
        loads=loads,
        architectures=tuple(map(str, raw.get("architectures", ()))),
        shapes=shapes,
    )


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
