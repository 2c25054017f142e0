"""Fitting kernels: rows in, named coefficients out, with the error on rows left out and an interval from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from math import inf
from typing import Any

from kvplan.measuring.kernels.all_reduce import fit_all_reduce, fit_nccl
from kvplan.measuring.kernels.choices import choose
from kvplan.measuring.kernels.least_squares import group
from kvplan.measuring.kernels.results import enough, finish
from kvplan.measuring.kernels.rows import KernelRow
from kvplan.perf.kernel_profile import KINDS, Fitted, Kind, operand_bits, part_of
from kvplan.specs.hardware import Gpu
from kvplan.units import spell

#: a kernel on a server: GPU, engine, kind, kernel and dtypes
Place = tuple[str, str, str, str]
#: told what is done, of how many, and what is next
Progress = Callable[[int, int, str], None]


def places(rows: Sequence[KernelRow]) -> dict[Place, list[KernelRow]]:
    """Return the rows by (GPU, engine, kind, kernel and dtypes), sorted."""
    by_place: dict[Place, list[KernelRow]] = {}
    for row in rows:
        s = row.shape
        by_place.setdefault((s.gpu, s.engine, s.kind, s.key), []).append(row)
    return dict(sorted(by_place.items()))


def fit(
    rows: Sequence[KernelRow], gpus: Callable[[str], Gpu], progress: Progress | None = None
) -> Iterator[tuple[Place, str, dict[str, Fitted]]]:
    """Yield (place, engine version, parts) of every kernel in the rows that has enough of them."""
    by_place = places(rows)
    nccl: dict[str, Any] = {}
    for step, (place, mine) in enumerate(by_place.items()):
        if progress:
            progress(step, len(by_place), " ".join(place))
        gpu, kind = gpus(place[0]), KINDS[place[2]]
        if kind.name == "all_reduce":
            if place[0] not in nccl:
                alike = [row for other, its in by_place.items() if other[0::2] == place[0::2] for row in its]
                nccl[place[0]] = fit_nccl(kind, gpu, alike)
            parts = fit_all_reduce(kind, gpu, mine, nccl[place[0]])
        else:
            parts = fit_parts(kind, gpu, mine)
        if parts:
            versions = sorted({row.shape.version for row in mine})
            yield place, ", ".join(versions), parts


def fit_parts(kind: Kind, gpu: Gpu, rows: Sequence[KernelRow]) -> dict[str, Fitted]:
    """Return the fitted parts of one kernel; a part with too few rows is left out."""
    by_part: dict[str, list[KernelRow]] = {}
    for row in rows:
        by_part.setdefault(part_of(row.shape, gpu), []).append(row)
    fitted: dict[str, Fitted] = {}
    for name, mine in sorted(by_part.items()):
        part = group(kind, gpu, mine)
        if enough(part):
            fitted[name] = finish(part, choose(part, operand_bits(mine[0].shape)))
    return fitted


# -- writing ----------------------------------------------------------------------------------------


def entry(version: str, parts: Mapping[str, Fitted]) -> dict[str, Any]:
    """Return one kernel as a profile's document holds it: coefficients in units, never rows."""
    return {"version": version, **{name: _part(part) for name, part in parts.items()}}


def _part(part: Fitted) -> dict[str, Any]:
    c = part.coefficients
    values: dict[str, Any] = {}
    for f in fields(c):
        value = getattr(c, f.name)
        if "choice" in f.metadata:
            values[f.name] = spell(value, "B", 12) if f.name == "own_up_to" else value
        elif value not in (0.0, inf):
            text = spell(value, f.metadata["unit"])
            values[f.name] = float(text) if f.metadata["unit"] == "1" else text
    return {
        "coefficients": values,
        "residuals": dict(part.residuals),
        "interval": {name: list(pair) for name, pair in part.interval.items()},
        "range": {name: list(pair) for name, pair in part.range.items()},
        "not_identified": list(part.not_identified),
    }


def document(
    heading: Mapping[str, Any], made: Sequence[tuple[Place, str, Mapping[str, Fitted]]], tier: str
) -> dict[str, Any]:
    """Return a whole profile: heading, then GPU, engine, kind, 'kernel dtype'."""
    tree: dict[str, Any] = {}
    for (gpu, engine, kind, key), version, parts in made:
        tree.setdefault(gpu, {}).setdefault(engine, {}).setdefault(kind, {})[key] = entry(version, parts)
    return {**heading, "tier": tier, "kernels": tree}
