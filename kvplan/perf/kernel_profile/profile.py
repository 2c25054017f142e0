"""What was fitted of which GPU, engine and kernel, and reading it from a file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.perf.kernel_profile.kinds import KINDS, Kind
from kvplan.specs.source import Source
from kvplan.units import parse


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Coefficients of one part of a kernel, how far off they were on rows left out, and the range they stand on.

    interval: 80 % interval of measured over predicted, two factors for each regime.
    """

    coefficients: Any  #: instance of the kind's coefficients
    interval: Mapping[str, tuple[float, float]]  #: regime -> 80 % interval of measured over predicted, two factors
    range: Mapping[str, tuple[int, int]]  #: size -> smallest and largest fitted value
    residuals: Mapping[str, float]  #: RESIDUALS -> value: errors on rows left out
    not_identified: tuple[str, ...] = ()  #: coefficients the rows could not tell from having no effect


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One measured kernel: the engine's version and its parts."""

    version: str  #: engine with its release
    parts: Mapping[str, Fitted]  #: part -> its fit


@dataclass(frozen=True, kw_only=True)
class KernelProfile:
    """Fitted kernels by GPU, engine, kind and 'kernel dtype'."""

    name: str  #: as questions and reports call it
    title: str  #: one line that says what it is
    tier: str  #: where its rows were measured
    source: Source  #: who measured them, and when
    #: GPU -> engine -> kind -> 'kernel dtype' -> fit
    kernels: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Kernel]]]]


def read_profile(raw: Mapping[str, Any], source: Source, location: str) -> KernelProfile:
    """Return the profile in a parsed YAML document (all values text)."""
    tree: dict[str, dict[str, dict[str, dict[str, Kernel]]]] = {}
    try:
        for gpu, engines in raw["kernels"].items():
            for engine, kinds in engines.items():
                for kind, kernels in kinds.items():
                    if kind not in KINDS:
                        raise SpecError(f"{location}: kind {shown(kind)} is unknown; known: {', '.join(KINDS)}")
                    place = tree.setdefault(gpu, {}).setdefault(engine, {}).setdefault(kind, {})
                    for key, entry in kernels.items():
                        parts = {
                            part: _fitted(KINDS[kind], raw_part, f"{location}: {engine} {key}")
                            for part, raw_part in entry.items()
                            if part != "version"
                        }
                        if not parts:
                            raise SpecError(
                                f"{location}: {engine} {key}: has no coefficients; compare with one kvplan ships"
                            )
                        place[key] = Kernel(version=str(entry["version"]), parts=parts)
        words = {key: str(raw[key]) for key in ("name", "title", "tier")}
        return KernelProfile(**words, source=source, kernels=tree)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        detail = shown(error.args[0]) if error.args else ""
        raise SpecError(
            f"{location}: not a kernel profile ({type(error).__name__} {detail}); compare with one kvplan ships"
        ) from None


def _fitted(kind: Kind, raw: Mapping[str, Any], location: str) -> Fitted:
    values: dict[str, Any] = {}
    for f in fields(kind.coefficients):
        if f.name not in raw["coefficients"]:
            continue
        text = raw["coefficients"][f.name]
        if "choice" in f.metadata:
            values[f.name] = _choice(f.name, f.default, text, f"{location}: {f.name}")
        else:
            values[f.name] = _coefficient(text, f.metadata["unit"], f"{location}: {f.name}")
    spans = {n: _span(v, f"{location}: interval: {n}", 1e-9) for n, v in raw["interval"].items()}
    ranges = {n: _span(v, f"{location}: range: {n}", 0.0) for n, v in raw["range"].items()}
    if not spans:
        raise SpecError(f"{location}: interval: expected two factors, as in {{few: [0.9, 1.1], many: [0.9, 1.1]}}")
    if strange := next((n for n in ranges if n not in kind.sizes), None):
        raise SpecError(
            f"{location}: range: {shown(strange)} is no size of {kind.name}; known: {', '.join(kind.sizes)}"
        )
    return Fitted(
        coefficients=kind.coefficients(**values),
        interval=spans,
        range={n: (int(low), int(high)) for n, (low, high) in ranges.items()},
        residuals={n: parse(raw["residuals"][n], "1", f"{location}: residuals: {n}") for n in RESIDUALS},
        not_identified=tuple(map(str, raw.get("not_identified", ()))),
    )


#: what a fit says of rows left out of it
RESIDUALS = ("rows", "parameters", "median", "mean", "p90", "bias")


def _coefficient(text: object, unit: str, location: str) -> float:
    """Read a coefficient: rates are above zero, anything else is not below."""
    value = parse(text, unit, location)
    if value < 0 or (value == 0 and unit.endswith("/s")) or value > LARGEST:
        raise SpecError(f"{location}: must be above zero, got {shown(text)}")
    return value


def _span(raw: Any, location: str, least: float) -> tuple[float, float]:
    """Read two numbers, the smaller first."""
    if not isinstance(raw, list) or len(raw) != 2:
        raise SpecError(f"{location}: expected two numbers, as in [0.9, 1.1], got {shown(raw)}")
    low, high = (parse(end, "1", location) for end in raw)
    if not least <= low <= high <= LARGEST:
        raise SpecError(f"{location}: expected two numbers from {least:g}, the smaller first, got {shown(raw)}")
    return low, high


#: beyond any rate [FLOP/s], time or size
LARGEST = 1e18

#: how the choices of a library are spelled
CHOICES = {
    "tiles": r"[1-9]\d{0,3}x[1-9]\d{0,3}( [1-9]\d{0,3}x[1-9]\d{0,3}){0,20}",
    "split_k": r"[1-9]\d{0,2}( [1-9]\d{0,2}){0,20}",
    "head_tile": r"[1-9]\d{0,2}|16 or 128",
    "split": r"balanced|never|fill|flash-attention|from [1-9]\d{0,6} tokens|[1-9]\d{0,3} parts",
    "blocks_per_sm": r"[1-9]\d?",
}


def _choice(name: str, default: object, text: object, location: str) -> object:
    """Read a discrete choice of the library; one of bytes is a quantity."""
    if name not in CHOICES:
        return _coefficient(text, "B", location)
    if not isinstance(text, str) or not re.fullmatch(CHOICES[name], text, re.ASCII):
        raise SpecError(f"{location}: expected a choice such as {default}, got {shown(text)}")
    return int(text) if isinstance(default, int) else text
