"""Fit the serving terms to end-to-end rows: hierarchical, robust, with physics for priors.

The logarithm of every term is its prior plus a deviation of every level a row belongs to (all servers, its GPU, its
engine, the two, the era and release of the engine, the model, the model under this engine, the benchmark run), each
normal with a stated width: a maximum a posteriori estimate. Residuals are logarithms of predicted over measured TPOT
and TTFT under Student's t with two degrees of freedom, so that rows taken in another way do not bend the physics of
the others. It is solved in the space of observations (a Gaussian process whose kernel the levels make): the same answer
as over all deviations, of which there are more than rows, and rows are left out of it in closed form.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped,unused-ignore]

from kvplan.measuring.servers import OFFLINE, Many, ServerRow, stack
from kvplan.specs.calibration import ALL, Range
from kvplan.specs.eras import era_moves, release_of
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import LEVELS, OWN, SEEN, WAYS, Level, ServingProfile, family, shape, stood_on
from kvplan.specs.source import Source

Array = Any
#: told what is done, of how many, and what is next
Progress = Callable[[int, int, str], None]
#: scatter expected of logarithms: TPOT, TTFT
NOISE = (0.05, 0.15)
#: the same, as factors, for rows collected from many places, and for those that measure the way in and out of a crowd
COLLECTED, CROWDED = 1.5, 1.5
#: degrees of freedom of Student's t
FREEDOM = 2.0
#: step of numeric derivatives, in logarithms
STEP = 1e-4
ROUNDS, SETTLED = 30, 1e-3
#: rounds in which runs may change between with and without speculative decoding
DECIDING = 6
#: odds that a run that could speculate did, and the evidence (twice a logarithm) that changes a mind
ODDS, CERTAIN = 0.3, 2.0
#: a factor closer to 1 is not written down
PLAIN = 0.004
#: rows of one server that weigh as much as all others in its interval
SHRINK = 20
#: what configs call the layers that predict several tokens
MTP = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", "mtp_num_layers")
#: what a load is told by, in a profile
LOADS = ("prompt", "output", "concurrency")


@dataclass(frozen=True)
class LevelMembers:
    """One level in a fit: its members, which of them each row is (-1: none), and how wide each term may deviate."""

    name: str
    members: tuple[str, ...]
    index: Array
    widths: Array


@dataclass(frozen=True)
class Iterate:
    """Where a fit stands: deviations by level [member, term], the rows' terms, predictions, and what is left."""

    effects: tuple[Array, ...]
    moves: Array
    logs: Array
    residual: Array
    loss: float


@dataclass(frozen=True)
class Solved:
    """A fit at its optimum, linear around it: derivatives, the inverse of its kernel, weights of the observations."""

    point: Iterate
    rows: Array
    derivative: Array
    inverse: Array
    weights: Array


class Problem:
    """Rows, levels and the deviations of one fit; on top of a `fixed` profile only the rows' own servers move.

    `known` says which of a row's TPOT and TTFT were measured, `fast` which rows ran with speculative decoding.
    """

    def __init__(
        self,
        many: Many,
        fixed: ServingProfile | None = None,
        kernels: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ):
        self.many, rows = many, many.rows
        times = [[r.tpot, r.ttft] for r in rows]
        self.known = np.array([[time is not None for time in row] for row in times])
        self.measured = np.log(np.array([[time or 1.0 for time in row] for row in times]))
        self.noise = np.array(NOISE) * np.array([[rough(r)] for r in rows])
        self.sped = np.array([r.sped or 0.0 for r in rows])
        self.fast = np.array([r.sped == 0.0 for r in rows])
        if fixed:
            self.fast |= np.array([r.sped is None and fixed.speculates(r.who) for r in rows])
        self.able = np.array([r.sped is None and drafts(r.model) for r in rows])
        self.runs, self.ports = [run_of(r) for r in rows], [port_of(r) for r in rows]
        self.start = np.array([start_of(r, fixed, kernels) for r in rows])
        base = Level(name="base", named={term.name: term.width for term in ALL})
        self.groups = [group(level, rows) for level in (OWN if fixed else (base, *LEVELS))]

    def moves(self, effects: Sequence[Array]) -> Array:
        """Return every row's deviations from the priors. [row, term]"""
        found = self.start.copy()
        for g, effect in zip(self.groups, effects, strict=True):
            found += np.vstack([effect, np.zeros(len(ALL))])[g.index]
        return found

    def predict(self, moves: Array) -> Array:
        """Return logarithms of TPOT and TTFT as the rows state them. [row, 2]"""
        values = {term.name: term.value(moves[:, k], np.exp) for k, term in enumerate(ALL)}
        values["accepted"] = np.where(self.sped > 0, self.sped, np.where(self.fast, values["accepted"], 1.0))
        served = self.many.served(self.many.calibrated(values))
        return np.log(np.stack([served.tpot, self.many.first(served)], 1))

    def at(self, effects: tuple[Array, ...], counted: Array) -> Iterate:
        """Return where deviations lead: predictions, residuals, loss; `counted` is 1 for those measured. [row, 2]"""
        moves = self.moves(effects)
        logs = self.predict(moves)
        residual = (logs - self.measured) / self.noise
        loss = (counted * FREEDOM * np.log1p(residual**2 / FREEDOM)).sum()
        for g, effect in zip(self.groups, effects, strict=True):
            on = g.widths > 0
            loss += ((effect[:, on] / g.widths[on]) ** 2).sum()
        return Iterate(effects, moves, logs, residual, float(loss))

    def derivative(self, point: Iterate) -> Array:
        """Return derivatives of `predict` by each row's own terms. [row, 2, term]"""
        found = np.zeros((*point.logs.shape, len(ALL)))
        for k in range(len(ALL)):
            shifted = point.moves.copy()
            shifted[:, k] += STEP
            found[:, :, k] = (self.predict(shifted) - point.logs) / STEP
        return found

    def kernel(self, d: Array, rows: Array) -> Array:
        """Return how observations move together: derivatives times the widths of what they share. [obs, obs]"""
        found = np.zeros((len(d), len(d)))
        for g in self.groups:
            scaled = d * g.widths
            for mine in members_of(g.index[rows], len(g.members)):
                found[np.ix_(mine, mine)] += scaled[mine] @ scaled[mine].T
        return found

    def effects(self, d: Array, rows: Array, weights: Array) -> tuple[Array, ...]:
        """Return the deviations that weights of observations stand for, by level. [member, term]"""
        found = []
        pulled = d * weights[:, None]
        for g in self.groups:
            effect = np.zeros((len(g.members), len(ALL)))
            for member, mine in enumerate(members_of(g.index[rows], len(g.members))):
                effect[member] = pulled[mine].sum(0) * g.widths**2
            found.append(effect)
        return tuple(found)


def members_of(index: Array, count: int) -> list[Array]:
    """Return the places of every member."""
    order = np.argsort(index, kind="stable")
    edges = np.searchsorted(index[order], np.arange(count + 1))
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def group(level: Level, rows: Sequence[ServerRow]) -> LevelMembers:
    """Return one level of a fit over these rows; a row that names no member of it has index -1."""
    labels = ["all" if level.name == "base" else r.who.members()[level.name] for r in rows]
    members = tuple(sorted(set(labels) - {""}))
    places = {who: i for i, who in enumerate(members)} | {"": -1}
    widths = np.array([level.width(term) for term in ALL])
    return LevelMembers(level.name, members, np.array([places[who] for who in labels], int), widths)


def rough(row: ServerRow) -> float:
    """Return how much more a row scatters than one of a long loop in steady state, taken by a known script."""
    return (COLLECTED if row.source else 1.0) * (CROWDED if row.arrival == OFFLINE else 1.0)


def start_of(row: ServerRow, fixed: ServingProfile | None, kernels: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Return where a row's terms are before its fit: another profile, or the priors of its era and architecture."""
    if fixed:
        moved = fixed.moved(row.who)
    else:
        eras, silicon = era_moves(row.engine, row.version), kernels.get(row.gpu.architecture, {})
        moved = {name: eras.get(name, 0.0) + silicon.get(name, 0.0) for name in {*eras, *silicon}}
    return [moved.get(term.name, 0.0) for term in ALL]


@dataclass(frozen=True)
class LinearStep:
    """A linear step: the factor of the kernel with noise, and the weights of observations that solve it."""

    factor: Any
    weights: Array


def solve(problem: Problem, progress: Progress | None = None, deciding: bool = True) -> Solved:
    """Return the deviations that fit best: Gauss-Newton with weights of Student's t and a line search.

    In the first rounds each run's speculative decoding is decided, when rows are to say so themselves.
    """
    counted = problem.known.astype(float)
    at = np.flatnonzero(problem.known.ravel())
    rows = at // 2
    zero = tuple(np.zeros((len(g.members), len(ALL))) for g in problem.groups)
    point = problem.at(zero, counted)
    for turn in range(ROUNDS):
        if progress:
            progress(turn, ROUNDS, "fit")
        d = problem.derivative(point).reshape(-1, len(ALL))[at]
        step = linear(problem, point, d, at)
        if deciding and 0 < turn < DECIDING and decide(problem, point, step, at):
            point = problem.at(point.effects, counted)
            d = problem.derivative(point).reshape(-1, len(ALL))[at]
            step = linear(problem, point, d, at)
        aim = problem.effects(d, rows, step.weights)
        length, tried = 1.0, point
        while length > 1e-3:
            mixed = tuple(old + length * (new - old) for old, new in zip(point.effects, aim, strict=True))
            tried = problem.at(mixed, counted)
            if tried.loss < point.loss:
                break
            length /= 3
        gained = point.loss - tried.loss
        if gained > 0:
            point = tried
        if gained < SETTLED * max(point.loss, 1.0) and turn >= (DECIDING if deciding else 0):
            break
    d = problem.derivative(point).reshape(-1, len(ALL))[at]
    step = linear(problem, point, d, at)
    inverse = cho_solve(step.factor, np.eye(len(d)), check_finite=False)
    return Solved(point, rows, d, inverse, step.weights)


def linear(problem: Problem, point: Iterate, d: Array, at: Array) -> LinearStep:
    """Return the step that solves the problem made linear at a point: derivatives times deviations explain the rest."""
    residual = point.residual.ravel()[at]
    noise = problem.noise.ravel()[at]
    matrix = problem.kernel(d, at // 2)
    matrix[np.diag_indices_from(matrix)] += noise**2 * (1 + residual**2 / FREEDOM)
    aim = ((point.moves - problem.start)[at // 2] * d).sum(1) - residual * noise
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return LinearStep(factor, cho_solve(factor, aim, check_finite=False))


def decide(problem: Problem, point: Iterate, step: LinearStep, at: Array) -> bool:
    """Decide for each run whether it had speculative decoding; say whether any changed its mind.

    A run changes where that raises the evidence of the whole fit: with y what is to be explained and v what a change of
    mind does to it, (y - v) A^-1 (y - v) against y A^-1 y, most telling run first.
    """
    names = sorted({problem.runs[i] for i in np.flatnonzero(problem.able & problem.known[:, 0])})
    if not names:
        return False
    runs, before = np.array(problem.runs), problem.fast.copy()
    logs = []
    for mode in (False, True):
        problem.fast = np.where(problem.able, mode, before)
        logs.append(problem.predict(point.moves))
    problem.fast = before.copy()
    gains = (logs[1] - logs[0]).ravel()[at]
    mine = {name: (runs == name) & problem.able for name in names}
    changes = {name: gains * mine[name][at // 2] for name in names}
    answers = {name: cho_solve(step.factor, change, check_finite=False) for name, change in changes.items()}
    weights, odds = step.weights, 2 * log(ODDS / (1 - ODDS))
    for _ in names:
        told = {}
        for name, change in changes.items():
            sign = -1.0 if problem.fast[mine[name]].any() else 1.0
            told[name] = -2 * sign * (change @ weights) + change @ answers[name] - sign * odds
        best = min(told, key=lambda name: told[name])
        if told[best] > -CERTAIN:
            break
        sign = -1.0 if problem.fast[mine[best]].any() else 1.0
        weights = weights - sign * answers[best]
        problem.fast[mine[best]] = sign > 0
    return bool((problem.fast != before).any())


def run_of(row: ServerRow) -> str:
    """Return what rows were run together, or at least under one release with one model."""
    names = row.who.members()
    return names["sweeps"] or f"{names['releases'] or names['servers']} {row.who.model}"


def port_of(row: ServerRow) -> str:
    """Return a model under a release of an engine, '' where no release is stated."""
    release = row.who.members()["releases"]
    return f"{release} {row.who.model}" if release else ""


def drafts(model: ModelSpec) -> bool:
    """Return whether a checkpoint comes with layers that predict several tokens (MTP), so that it can speculate."""
    said = [*model.config.items()]
    for nested in model.config.values():
        said += nested.items() if isinstance(nested, dict) else ()
    return any(key in MTP and isinstance(count, int) and count > 0 for key, count in said)


# -- profiles -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class About:
    """What a profile says of itself."""

    name: str
    title: str
    tier: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows predicted by fits that did not see them, by what such predictions rest on: logarithms of the ratio.

    A ratio is nan where a row has no such time.
    """

    what: str
    rows: tuple[ServerRow, ...]
    ratio: Array  # measured over predicted, as logarithms [row, 2]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How to fit: from scratch or on top of a profile; what kernels say of architectures; who is told how far it is."""

    scratch: bool = False
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    progress: Progress | None = None


def fit(
    rows: Sequence[ServerRow],
    engine: Engine,
    about: About,
    shipped: ServingProfile,
    how: Manner,
) -> tuple[ServingProfile, list[LeftOut]]:
    """Return a profile fitted to rows: on top of the shipped one, or from scratch.

    From scratch every interval comes from rows left out; one that no rows left out can tell (a single GPU was measured,
    say) is the shipped one. On top, `intervals_of_own` says how. Beside the profile stand the rows left out that its
    intervals come from.
    """
    problem, solved = solved_for(rows, engine, shipped, how)
    out = left_out(problem, solved, None if how.scratch else shipped)
    ranges = ranges_of(out, shipped) if how.scratch else {**shipped.ranges, **intervals_of_own(out, shipped)}
    return profile_of(problem, solved, ranges, about, None if how.scratch else shipped, how.kernels), out


def check(
    rows: Sequence[ServerRow], engine: Engine, shipped: ServingProfile, how: Manner
) -> tuple[list[LeftOut], dict[str, tuple[Range, Range]]]:
    """Return rows left out of such fits in all ways, and the intervals that follow from them."""
    problem, solved = solved_for(rows, engine, shipped, how)
    out = left_out(problem, solved, None if how.scratch else shipped)
    return out, ranges_of(out, shipped)


def solved_for(
    rows: Sequence[ServerRow], engine: Engine, shipped: ServingProfile, how: Manner
) -> tuple[Problem, Solved]:
    """Return the rows' problem and its optimum, on top of the shipped profile unless from scratch."""
    problem = Problem(stack(rows, engine)[0], None if how.scratch else shipped, how.kernels)
    return problem, solve(problem, how.progress, deciding=how.scratch)


def profile_of(
    problem: Problem,
    solved: Solved,
    ranges: Mapping[str, tuple[Range, Range]],
    about: About,
    under: ServingProfile | None = None,
    kernels: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> ServingProfile:
    """Return a fit as a profile; deviations too small to matter are dropped."""
    moves: dict[str, Mapping[str, Mapping[str, float]]] = dict(under.moves) if under else {"kernels": kernels}
    for g, effect in zip(problem.groups, solved.point.effects, strict=True):
        if g.name == "base":
            moves["base"] = {"": {t.name: float(moved) for t, moved in zip(ALL, effect[0], strict=True)}}
            continue
        found = dict(moves.get(g.name, {}))
        for who, moved in zip(g.members, effect, strict=True):
            old = found.get(who, {})
            new = {t.name: old.get(t.name, 0.0) + float(m) for t, m in zip(ALL, moved, strict=True)}
            found[who] = {term: m for term, m in new.items() if abs(m) > PLAIN}
        moves[g.name] = found
    measured: dict[tuple[str, str], set[str]] = {k: set(v) for k, v in under.measured.items()} if under else {}
    cells: dict[tuple[str, str, str], set[str]] = {k: set(v) for k, v in under.cells.items()} if under else {}
    counts = dict(under.rows) if under else {}
    for r in problem.many.rows:
        pair = (r.gpu.name, r.engine)
        measured.setdefault(pair, set()).add(r.model.name)
        cells.setdefault((*pair, family(r.model)), set()).add(release_of(r.version))
        counts[pair] = counts.get(pair, 0) + 1
    fast = speculative_of(problem, np.ones(len(problem.many.rows), bool)) if under is None else under.speculative
    return ServingProfile(
        name=about.name,
        title=about.title,
        tier=about.tier,
        source=about.source,
        moves=moves,
        measured={pair: tuple(sorted(models)) for pair, models in sorted(measured.items())},
        cells={cell: tuple(sorted(releases)) for cell, releases in sorted(cells.items())},
        ranges=ranges,
        speculative=fast,
        rows=counts,
        loads={
            what: _span([getattr(r, what) for r in problem.many.rows], under.loads.get(what, ()) if under else ())
            for what in LOADS
        },
        architectures=tuple(
            sorted({r.gpu.architecture for r in problem.many.rows} | set(under.architectures if under else ()))
        ),
        shapes={**(under.shapes if under else {}), **{shape(r.model): family(r.model) for r in problem.many.rows}},
    )


def _span(found: Sequence[float], known: Sequence[float]) -> tuple[float, float]:
    told = [amount for amount in (*found, *known) if amount > 0] or [1.0]
    return float(min(told)), float(max(told))


def document(profile: ServingProfile) -> dict[str, Any]:
    """Return a profile as its YAML document: base values, factors, intervals, and what was measured."""

    def factors(found: Mapping[str, float]) -> dict[str, float]:
        return {term: round(exp(moved), 4) for term, moved in found.items()}

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
            level: {who: factors(found) for who, found in profile.moves[level].items()}
            for level in levels
            if profile.moves.get(level)
        },
        "speculative": list(profile.speculative),
        "intervals": {
            who: {"tpot": [round(t.low, 3), round(t.high, 3)], "ttft": [round(f.low, 3), round(f.high, 3)]}
            for who, (t, f) in profile.ranges.items()
        },
        "loads": {what: [float(f"{end:.6g}") for end in ends] for what, ends in profile.loads.items()},
        "architectures": list(profile.architectures),
        "measured": {
            f"{gpu} {engine}": {"rows": profile.rows.get((gpu, engine), 0), "models": list(models)}
            for (gpu, engine), models in profile.measured.items()
        },
        "cells": cells,
        "shapes": {who: sorted(s for s, f in profile.shapes.items() if f == who) for who in profile.shapes.values()},
    }


# -- leaving rows out ------------------------------------------------------------------------------


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
    effects = problem.effects(solved.derivative, solved.rows, weights)
    moves = problem.moves(effects)
    fast, problem.fast = problem.fast, guessed(problem, fold)
    logs = problem.predict(moves)
    problem.fast = fast
    return logs[fold]


def guessed(problem: Problem, fold: Array) -> Array:
    """Return which rows would be taken for speculative if those of a fold had not been measured."""
    found = problem.fast.copy()
    kept = {run for run, out in zip(problem.runs, fold, strict=True) if not out}
    known = speculative_of(problem, ~fold)
    for i in np.flatnonzero(fold & problem.able):
        if problem.runs[i] not in kept:
            found[i] = problem.ports[i] in known
    return found


def speculative_of(problem: Problem, counted: Array) -> tuple[str, ...]:
    """Return the runs that speculated, and the releases and models of which most runs did."""
    runs = {problem.runs[i]: (bool(problem.fast[i]), problem.ports[i]) for i in np.flatnonzero(counted & problem.able)}
    votes: dict[str, list[bool]] = {}
    for fast, name in runs.values():
        votes.setdefault(name, []).append(fast)
    named = [name for name, each in votes.items() if name and 2 * sum(each) > len(each)]
    return tuple(sorted({*(run for run, (fast, _) in runs.items() if fast), *named}))


def same_shape(r: ServerRow) -> tuple[Any, ...]:
    """Return what tells configurations apart: two rows alike must be left out together."""
    return (r.gpu.name, r.engine, family(r.model), r.form, r.prompt, r.output, r.concurrency, r.rate, r.parallel)


#: ways of leaving rows out together, each making other kinds of support
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


def folds_of(rows: Sequence[ServerRow]) -> list[tuple[Array, Array]]:
    """Return masks of rows to leave out together, and of those among them to judge.

    One shape in five; a release of a server; a model on a server, under an engine, and wholly; a GPU; an engine; and a
    GPU and an engine both, of which the servers that have both are judged.
    """
    shapes = [same_shape(r) for r in rows]
    names = sorted(set(shapes), key=str)
    order = np.random.default_rng(0).permutation(len(names))
    place = {name: int(order[i]) % PARTS for i, name in enumerate(names)}
    keys: list[Sequence[Any]] = [[place[s] for s in shapes], *([key(r) for r in rows] for key in FOLDS)]
    found = []
    for labels in keys:
        for label in dict.fromkeys(labels):
            mask = np.array([other == label for other in labels])
            found.append((mask, mask))
    gpus, engines = np.array([r.gpu.name for r in rows]), np.array([r.engine for r in rows])
    for gpu, engine in sorted(set(zip(gpus.tolist(), engines.tolist(), strict=True))):
        found.append(((gpus == gpu) | (engines == engine), (gpus == gpu) & (engines == engine)))
    return [(out, judged) for out, judged in found if not out.all()]


def left_out(problem: Problem, solved: Solved, under: ServingProfile | None) -> list[LeftOut]:
    """Return, by what such predictions rest on, how far fits without some rows are off on them; best support first."""
    rows = problem.many.rows
    made: dict[str, list[tuple[ServerRow, Array]]] = {what: [] for what in WAYS}
    done: set[tuple[str, int]] = set()
    for out, judged in folds_of(rows):
        told = seen_by([r for r, gone in zip(rows, out, strict=True) if not gone], under)
        logs = without(problem, solved, out)
        for i, predicted in zip(np.flatnonzero(out), logs, strict=True):
            basis = told.basis(rows[i].who)
            if judged[i] and (basis, i) not in done:
                done.add((basis, i))
                missed = np.where(problem.known[i], problem.measured[i] - predicted, np.nan)
                made[basis].append((rows[i], missed))
    return [
        LeftOut(what=what, rows=tuple(r for r, _ in found), ratio=np.array([m for _, m in found]).reshape(-1, 2))
        for what, found in made.items()
    ]


def seen_by(rows: Sequence[ServerRow], under: ServingProfile | None) -> ServingProfile:
    """Return what a fit to some rows would have seen: servers, releases by model, runs."""
    cells = {cell: set(releases) for cell, releases in under.cells.items()} if under else {}
    measured = dict(under.measured) if under else {}
    for r in rows:
        cells.setdefault((r.gpu.name, r.engine, family(r.model)), set()).add(release_of(r.version))
        measured.setdefault((r.gpu.name, r.engine), ())
    runs: dict[str, Mapping[str, float]] = {r.who.members()["sweeps"]: {} for r in rows if r.sweep}
    seen = {cell: tuple(releases) for cell, releases in cells.items()}
    return replace(EMPTY, cells=seen, measured=measured, moves={"sweeps": runs})


#: a profile that knows nothing yet
EMPTY = ServingProfile(
    name="", tier="", source=Source(kind="measured", ref="", date=""), moves={}, measured={}, ranges={}
)


def cell_weights(rows: Sequence[ServerRow]) -> Array:
    """Return weights of rows under which a server's model counts by the root of its rows: many do not drown few."""
    cells = [(r.gpu.name, r.engine, family(r.model)) for r in rows]
    counts = {cell: cells.count(cell) for cell in set(cells)}
    return np.array([counts[cell] ** -0.5 for cell in cells])


def ranges_of(found: Sequence[LeftOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return the middle 80 % of measured over predicted, by what predictions rest on, and by server for the best.

    What no row tells is as the shipped profile has it. Less support never gives a narrower interval.
    """
    ranges: dict[str, tuple[Range, Range]] = {}
    for out in found:
        told = shipped.ranges.get(out.what, ANY)
        every = told_by(out, np.ones(len(out.rows), bool), np.log([(r.low, r.high) for r in told]), 0)
        ranges[out.what] = as_ranges(every)
        names = np.array([stood_on(out.what, r.who) for r in out.rows])
        owned = np.array([stood_on(out.what, r.who, own=True) for r in out.rows])
        for name in sorted(set(names.tolist())):
            mine = names == name
            general = told_by(out, mine, every, SHRINK)
            ranges[name] = as_ranges(general)
            for pair in sorted(set(owned[mine].tolist())) if out.what == SEEN else ():
                ranges[pair] = as_ranges(told_by(out, mine & (owned == pair), general, SHRINK, alike=True))
    return ranges


def told_by(out: LeftOut, mine: Array, general: Array, shrink: int, alike: bool = False) -> Array:
    """Return the middle 80 % of TPOT and TTFT of some rows, shrunk toward general ones when few. [time, end]"""
    weights = np.ones(len(out.rows)) if alike else cell_weights(out.rows)
    return np.array([mixed(out.ratio[mine, j], general[j], shrink, weights[mine]) for j in range(2)])


def as_ranges(ends: Array) -> tuple[Range, Range]:
    """Return the ranges of TPOT and TTFT from factors [2 times, 2 ends]."""
    tpot, ttft = (_range(pair) for pair in ends.tolist())
    return tpot, ttft


#: an interval where nothing at all was measured
ANY = (Range(low=0.5, high=2.0), Range(low=0.33, high=3.0))


def intervals_of_own(found: Sequence[LeftOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return intervals by server: own rows left out in turn, shrunk toward what the shipped profile says of them."""
    ranges: dict[str, tuple[Range, Range]] = {}
    for out in found[:2]:
        told = np.array([[np.log((r.low, r.high)) for r in shipped.interval(row.who)] for row in out.rows])
        pairs = np.array([stood_on(out.what, r.who, own=True) for r in out.rows])
        for pair in sorted(set(pairs.tolist())):
            mine = pairs == pair
            ranges[pair] = as_ranges(told_by(out, mine, told[mine].mean(0), SHRINK, alike=True))
    return ranges


def middle(ratio: Array, weights: Array) -> tuple[float, float] | None:
    """Return the ends of the middle 80 % of weighted values, None of nothing."""
    told = ~np.isnan(ratio)
    if not told.any():
        return None
    order = np.argsort(ratio[told])
    values, heavy = ratio[told][order], weights[told][order]
    share = (np.cumsum(heavy) - heavy / 2) / heavy.sum()
    return float(np.interp(0.1, share, values)), float(np.interp(0.9, share, values))


def mixed(ratio: Array, general: Sequence[float], shrink: int, weights: Array) -> tuple[float, float]:
    """Return the middle 80 % of some rows, shrunk toward a general one when they are few. [logarithm]"""
    own, count = middle(ratio, weights), int((~np.isnan(ratio)).sum())
    share = count / (count + shrink) if count else 0.0
    low, high = (share * o + (1 - share) * g for o, g in zip(own or general, general, strict=True))
    return float(low), float(high)


def _range(found: Sequence[float]) -> Range:
    low, high = found
    return Range(low=min(exp(low), 1.0), high=max(exp(high), 1.0))
