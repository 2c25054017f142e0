"""A fit of servers as a profile, and a profile as the document its file holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from types import MappingProxyType
from typing import Any

import numpy as np

from kvplan.measuring.serving.holdout import speculative_names
from kvplan.measuring.serving.problem import Problem
from kvplan.measuring.serving.rows import ServerRow
from kvplan.measuring.serving.solve import Solved
from kvplan.specs.calibration import ALL, Range
from kvplan.specs.eras import release_of
from kvplan.specs.identity import family, shape
from kvplan.specs.levels import LEVELS, OWN
from kvplan.specs.serving_profile import ServingProfile
from kvplan.specs.source import Source

#: deviations smaller than this are not written down [logarithm]
NEGLIGIBLE = 0.004
#: attributes of rows whose extremes a profile states
LOADS = ("prompt", "output", "concurrency")


@dataclass(frozen=True, kw_only=True)
class ProfileHeading:
    """What a profile says of itself."""

    name: str  #: as questions and reports call it
    title: str  #: one line that says what it is
    tier: str  #: where its rows were measured
    source: Source  #: who measured them, and when


def profile_of(
    problem: Problem,
    solved: Solved,
    ranges: Mapping[str, tuple[Range, Range]],
    heading: ProfileHeading,
    under: ServingProfile | None = None,
    kernels: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> ServingProfile:
    """Return a fit as a profile, on top of the one `under` it; deviations too small to matter are dropped."""
    rows = problem.arrays.rows
    everything = np.ones(len(rows), bool)
    return ServingProfile(
        name=heading.name,
        title=heading.title,
        tier=heading.tier,
        source=heading.source,
        moves=added_moves(problem, solved, under.moves if under else {"kernels": kernels}),
        ranges=ranges,
        speculative=under.speculative if under else speculative_names(problem, solved.point.speculative, everything),
        loads={name: _span([getattr(r, name) for r in rows], under.loads.get(name, ()) if under else ())
               for name in LOADS},
        architectures=tuple(sorted({r.gpu.architecture for r in rows} | set(under.architectures if under else ()))),
        **added_rows(rows, under),
    )  # fmt: skip


def added_moves(
    problem: Problem, solved: Solved, moves: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Return deviations with those of a fit added. [level][member][term; logarithm]"""
    added = dict(moves)
    for level, effect in zip(problem.levels, solved.point.effects, strict=True):
        if level.name == "base":
            added["base"] = {"": {t.name: float(moved) for t, moved in zip(ALL, effect[0], strict=True)}}
            continue
        members = dict(added.get(level.name, {}))
        for member, moved in zip(level.members, effect, strict=True):
            old = members.get(member, {})
            new = {t.name: old.get(t.name, 0.0) + float(m) for t, m in zip(ALL, moved, strict=True)}
            members[member] = {term: m for term, m in new.items() if abs(m) > NEGLIGIBLE}
        added[level.name] = members
    return added


def added_rows(rows: Sequence[ServerRow], under: ServingProfile | None) -> dict[str, Any]:
    """Return what a profile counts of its rows (its models, releases and rows by server), with more rows added."""
    measured: dict[tuple[str, str], set[str]] = {k: set(v) for k, v in under.measured.items()} if under else {}
    cells: dict[tuple[str, str, str], set[str]] = {k: set(v) for k, v in under.cells.items()} if under else {}
    counts = dict(under.rows) if under else {}
    for r in rows:
        server = (r.gpu.name, r.engine)
        measured.setdefault(server, set()).add(r.model.name)
        cells.setdefault((*server, family(r.model)), set()).add(release_of(r.version))
        counts[server] = counts.get(server, 0) + 1
    return {
        "measured": {server: tuple(sorted(models)) for server, models in sorted(measured.items())},
        "cells": {cell: tuple(sorted(releases)) for cell, releases in sorted(cells.items())},
        "shapes": {**(under.shapes if under else {}), **{shape(r.model): family(r.model) for r in rows}},
        "rows": counts,
    }


def _span(amounts: Sequence[float], known: Sequence[float]) -> tuple[float, float]:
    positive = [amount for amount in (*amounts, *known) if amount > 0] or [1.0]
    return float(min(positive)), float(max(positive))


def document(profile: ServingProfile) -> dict[str, Any]:
    """Return a profile as its YAML document: base values, factors, intervals, and what was measured."""
    base, source = profile.moves["base"][""], profile.source
    levels = list(dict.fromkeys(("kernels", *(level.name for level in (*LEVELS, *OWN)))))
    cells: dict[str, dict[str, list[str]]] = {}
    for (gpu, engine, model), releases in profile.cells.items():
        cells.setdefault(f"{gpu} {engine}", {})[model] = list(releases)
    return {
        "name": profile.name,
        "title": profile.title,
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
        "tier": profile.tier,
        "kind": "serving",
        "terms": {t.name: float(f"{t.value(base.get(t.name, 0.0)):.4g}") for t in ALL},
        "factors": {
            level: {member: _factors(moves) for member, moves in profile.moves[level].items()}
            for level in levels
            if profile.moves.get(level)
        },
        "speculative": list(profile.speculative),
        "intervals": {
            basis: {"tpot": [round(t.low, 3), round(t.high, 3)], "ttft": [round(f.low, 3), round(f.high, 3)]}
            for basis, (t, f) in profile.ranges.items()
        },
        "loads": {name: [float(f"{end:.6g}") for end in ends] for name, ends in profile.loads.items()},
        "architectures": list(profile.architectures),
        "measured": {
            f"{gpu} {engine}": {"rows": profile.rows.get((gpu, engine), 0), "models": list(models)}
            for (gpu, engine), models in profile.measured.items()
        },
        "cells": cells,
        "shapes": {who: sorted(s for s, f in profile.shapes.items() if f == who) for who in profile.shapes.values()},
    }


def _factors(moves: Mapping[str, float]) -> dict[str, float]:
    return {term: round(exp(moved), 4) for term, moved in moves.items()}
