"""Rows held out of a fit of servers: which are held out together, and how far fits without them are off."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvplan.measuring.serving.problem import Array, Problem
from kvplan.measuring.serving.rows import ServerRow
from kvplan.measuring.serving.solve import Solved
from kvplan.specs.eras import release_of
from kvplan.specs.identity import family
from kvplan.specs.serving_profile import RELEASE, SEEN, WAYS, ServingProfile, stood_on
from kvplan.specs.source import Source

#: ways of holding rows out together, each making other kinds of support
FOLDS: tuple[Callable[[ServerRow], Any], ...] = (
    lambda r: (r.gpu.name, r.engine, family(r.model), release_of(r.version)),
    lambda r: (r.gpu.name, r.engine, family(r.model)),
    lambda r: (r.engine, family(r.model)),
    lambda r: family(r.model),
    lambda r: r.gpu.name,
    lambda r: r.engine,
)
#: parts that shapes are dealt into
PARTS = 5
#: a profile that knows nothing yet
EMPTY = ServingProfile(
    name="", tier="", source=Source(kind="measured", ref="", date=""), moves={}, measured={}, ranges={}
)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Rows predicted by fits that did not see them, where such predictions rest on one kind of support."""

    basis: str  #: what the predictions rest on, one of WAYS
    rows: tuple[ServerRow, ...]  #: the rows
    log_ratio: Array  #: measured over predicted TPOT and TTFT, nan where not measured [row, 2; logarithm]


def without(problem: Problem, solved: Solved, fold: Array) -> Array:
    """Return logarithms of TPOT and TTFT of the rows of a fold, by the fit of the others. [row of the fold, 2]

    The weights of the others solve their own part of the kernel, by a block of its inverse; predictions are exact for
    the deviations that follow. Source: Rasmussen and Williams, Gaussian Processes, 2006, 5.4.2.
    """
    out = np.flatnonzero(fold[solved.rows])
    weights = solved.weights.copy()
    if len(out):
        block = solved.inverse[np.ix_(out, out)]
        weights = weights - solved.inverse[:, out] @ np.linalg.solve(block, solved.weights[out])
        weights[out] = 0.0
    moves = problem.moves(problem.effects(solved.derivative, solved.rows, weights))
    return problem.predict(moves, guessed_speculative(problem, solved.point.speculative, fold))[fold]


def guessed_speculative(problem: Problem, speculative: Array, fold: Array) -> Array:
    """Return which rows would be taken for speculative if those of a fold had not been measured. [row]"""
    guessed = speculative.copy()
    kept = {run for run, out in zip(problem.runs, fold, strict=True) if not out}
    known = speculative_names(problem, speculative, ~fold)
    for i in np.flatnonzero(fold & problem.undecided):
        if problem.runs[i] not in kept:
            guessed[i] = problem.editions[i] in known
    return guessed


def speculative_names(problem: Problem, speculative: Array, counted: Array) -> tuple[str, ...]:
    """Return the runs that speculated, and the releases and models of which most runs did, among the rows counted."""
    places = np.flatnonzero(counted & problem.undecided)
    runs = {problem.runs[i]: (bool(speculative[i]), problem.editions[i]) for i in places}
    votes: dict[str, list[bool]] = {}
    for ran, edition in runs.values():
        votes.setdefault(edition, []).append(ran)
    editions = [edition for edition, each in votes.items() if edition and 2 * sum(each) > len(each)]
    return tuple(sorted({*(run for run, (ran, _) in runs.items() if ran), *editions}))


def same_shape(r: ServerRow) -> tuple[Any, ...]:
    """Return what tells configurations apart: two rows alike must be held out together."""
    model = family(r.model)
    return (r.gpu.name, r.engine, model, r.weight_format, r.prompt, r.output, r.concurrency, r.rate, r.parallel)


def folds_of(rows: Sequence[ServerRow]) -> list[tuple[Array, Array]]:
    """Return masks of rows to hold out together, and of those among them to judge. [(row, row)]

    One shape in five; a release of a server; a model on a server, under an engine, and wholly; a GPU; an engine; and a
    GPU and an engine both, of which the servers that have both are judged.
    """
    shapes = [same_shape(r) for r in rows]
    names = sorted(set(shapes), key=str)
    order = np.random.default_rng(0).permutation(len(names))
    place = {name: int(order[i]) % PARTS for i, name in enumerate(names)}
    keys: list[Sequence[Any]] = [[place[s] for s in shapes], *([key(r) for r in rows] for key in FOLDS)]
    folds = []
    for labels in keys:
        for label in dict.fromkeys(labels):
            mask = np.array([other == label for other in labels])
            folds.append((mask, mask))
    gpus, engines = np.array([r.gpu.name for r in rows]), np.array([r.engine for r in rows])
    for gpu, engine in sorted(set(zip(gpus.tolist(), engines.tolist(), strict=True))):
        folds.append(((gpus == gpu) | (engines == engine), (gpus == gpu) & (engines == engine)))
    return [(out, judged) for out, judged in folds if not out.all()]


def held_out_rows(problem: Problem, solved: Solved, under: ServingProfile | None) -> list[HeldOut]:
    """Return, by what such predictions rest on, how far fits without some rows are off on them; best support first."""
    rows = problem.arrays.rows
    by_basis: dict[str, list[tuple[ServerRow, Array]]] = {basis: [] for basis in WAYS}
    done: set[tuple[str, int]] = set()
    for out, judged in folds_of(rows):
        seen = seen_by([r for r, gone in zip(rows, out, strict=True) if not gone], under)
        logs = without(problem, solved, out)
        for i, predicted in zip(np.flatnonzero(out), logs, strict=True):
            basis = seen.basis(rows[i].identity)
            if judged[i] and (basis, i) not in done:
                done.add((basis, i))
                missed = np.where(problem.known[i], problem.measured[i] - predicted, np.nan)
                by_basis[basis].append((rows[i], missed))
    return [
        HeldOut(
            basis=basis,
            rows=tuple(row for row, _ in missed),
            log_ratio=np.array([ratio for _, ratio in missed]).reshape(-1, 2),
        )
        for basis, missed in by_basis.items()
    ]


def never_held_out(
    problem: Problem, solved: Solved, held_out: Sequence[HeldOut], under: ServingProfile
) -> list[HeldOut]:
    """Return the rows of one's own that no other row could stand in for, as all are of one load, by their basis.

    How far the fit is from each, times n / (n - 1) of its server's n rows: from the mean of the others. A single row
    of a server tells nothing of how far such rows scatter.
    """
    rows = problem.arrays.rows
    told = {id(row) for part in held_out if part.basis in (SEEN, RELEASE) for row in part.rows}
    rest = [i for i, row in enumerate(rows) if id(row) not in told]
    seen = seen_by(rows, under)
    missed = np.where(problem.known, problem.measured - solved.point.logs, np.nan)
    parts = []
    for basis in (SEEN, RELEASE):
        of_basis = [i for i in rest if seen.basis(rows[i].identity) == basis]
        many = Counter(stood_on(basis, rows[i].identity, own=True) for i in of_basis)
        counts = {i: many[stood_on(basis, rows[i].identity, own=True)] for i in of_basis}
        mine = [i for i in of_basis if counts[i] > 1]
        if mine:
            apart = np.array([[counts[i] / (counts[i] - 1)] for i in mine])
            parts.append(HeldOut(basis=basis, rows=tuple(rows[i] for i in mine), log_ratio=apart * missed[mine]))
    return parts


def seen_by(rows: Sequence[ServerRow], under: ServingProfile | None) -> ServingProfile:
    """Return what a fit to some rows would have seen: servers, releases by model, runs."""
    cells = {cell: set(releases) for cell, releases in under.cells.items()} if under else {}
    measured = dict(under.measured) if under else {}
    for r in rows:
        cells.setdefault((r.gpu.name, r.engine, family(r.model)), set()).add(release_of(r.version))
        measured.setdefault((r.gpu.name, r.engine), ())
    runs: dict[str, Mapping[str, float]] = {r.identity.members()["sweeps"]: {} for r in rows if r.sweep}
    seen = {cell: tuple(releases) for cell, releases in cells.items()}
    return replace(EMPTY, cells=seen, measured=measured, moves={"sweeps": runs})
