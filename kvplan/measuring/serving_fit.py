"""Fit the serving terms to end-to-end rows: hierarchical, robust, with physics for priors.

The logarithm of every term is its prior, plus a base deviation common to all, plus deviations of the GPU, the engine,
the two together and (few terms) the engine's version, each normal with a stated width: a maximum a posteriori estimate.
Residuals are logarithms of predicted over measured TPOT and TTFT under Student's t with two degrees of freedom, so that
rows taken in another way (speculative decoding, disaggregation) do not bend the physics of the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np

from kvplan.measuring.residuals import quantile
from kvplan.measuring.servers import Many, Server, stack
from kvplan.perf.serving import Served
from kvplan.specs.calibration import Range
from kvplan.specs.hardware import Engine
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import ALL, ELSEWHERE, LEVELS, NOWHERE, SEEN, SERVER, ServingProfile, value
from kvplan.specs.source import Source

Array = Any
#: told what is done, of how many, and what is next
Progress = Callable[[int, int, str], None]
#: scatter expected of logarithms: TPOT, TTFT
NOISE = (0.05, 0.15)
#: degrees of freedom of Student's t
FREEDOM = 2.0
#: step of numeric derivatives, in logarithms
STEP = 1e-4
ROUNDS, SETTLED = 40, 1e-4
#: a factor closer to 1 is not written down
PLAIN = 0.004
#: rows of one server that weigh as much as all others in its interval
SHRINK = 20
#: a version whose rows take less than this of what a fit of the others says ran speculative decoding, where the model
#: can: nine in ten rows below 1, and at least so many of them
FASTER, ENOUGH = 0.8, 8
#: what configs call the layers that predict several tokens
MTP = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", "mtp_num_layers")
#: what a load is told by, in a profile
LOADS = ("prompt", "output", "concurrency")
#: ways of leaving rows out: shapes; models of a GPU; GPU and engine; GPUs
WAYS = (SEEN, SERVER, ELSEWHERE, NOWHERE)


@dataclass(frozen=True)
class Level:
    """One kind of deviation: who each row belongs to, and how wide every term's is."""

    name: str
    members: tuple[str, ...]
    index: Array
    widths: Array


class Problem:
    """Rows, levels and the free deviations of one fit; on top of a `fixed` profile only servers and versions move.

    `known` says which of a row's TPOT and TTFT were measured.
    """

    def __init__(self, many: Many, speculative: Sequence[str] = (), fixed: ServingProfile | None = None):
        self.many, rows = many, many.rows
        self.fast = np.array([f"{r.engine} {r.version}" in speculative for r in rows])
        times = [[r.tpot, r.ttft] for r in rows]
        self.known = np.array([[time is not None for time in row] for row in times], float)
        self.measured = np.log(np.array([[time or 1.0 for time in row] for row in times]))
        own = np.array([term.own for term in ALL], float)
        labels = {
            "gpus": [r.gpu.name for r in rows],
            "engines": [r.engine for r in rows],
            "servers": [f"{r.gpu.name} {r.engine}" for r in rows],
            "releases": [f"{r.engine} {r.version}" for r in rows],
        }
        release = np.array([term.release for term in ALL])
        widths = {**{name: width * own for name, width in LEVELS.items()}, "releases": release}
        self.levels = [_level(name, labels[name], widths[name]) for name in labels]
        self.base = np.array([term.width for term in ALL])
        self.start = start_of(rows, fixed) if fixed else np.zeros((len(rows), len(ALL)))
        if fixed:
            self.base = np.zeros(len(ALL))
            self.levels = [level for level in self.levels if level.name in ("servers", "releases")]
        self.blocks = [self.base, *(np.tile(level.widths, len(level.members)) for level in self.levels)]
        self.free = np.flatnonzero(np.concatenate(self.blocks))
        self.size = sum(map(len, self.blocks))

    def moves(self, free: Array, rows: Array | slice = slice(None)) -> Array:
        """Return every row's deviations from the priors. [row, term]"""
        z = np.zeros(self.size)
        z[self.free] = free
        found = self.start[rows] + z[: len(ALL)] * self.base
        offset = len(ALL)
        for level in self.levels:
            block = z[offset : offset + len(level.members) * len(ALL)].reshape(-1, len(ALL))
            found = found + block[level.index[rows]] * level.widths
            offset += block.size
        return found

    def predict(self, moves: Array) -> Array:
        """Return logarithms of TPOT and TTFT. [row, 2]"""
        served = self.served(moves)
        return np.log(np.stack([served.tpot, served.ttft], 1))

    def served(self, moves: Array) -> Served:
        values = {term.name: value(term, moves[:, k], np.exp) for k, term in enumerate(ALL)}
        values["accepted"] = np.where(self.fast, values["accepted"], 1.0)
        return self.many.served(self.many.calibrated(values))

    def derivative(self, moves: Array, base: Array) -> Array:
        """Return derivatives of `predict` by each row's own terms. [row, 2, term]"""
        found = np.zeros((*base.shape, len(ALL)))
        for k in range(len(ALL)):
            shifted = moves.copy()
            shifted[:, k] += STEP
            found[:, :, k] = (self.predict(shifted) - base) / STEP
        return found

    def assemble(self, d: Array, weight: Array, residual: Array) -> tuple[Array, Array]:
        """Return the normal equations over the free deviations, one combination of levels at a time."""
        place = np.full(self.size, -1)
        place[self.free] = np.arange(len(self.free))
        matrix, vector = np.zeros((len(self.free),) * 2), np.zeros(len(self.free))
        keys = np.stack([level.index for level in self.levels], 1)
        who, inverse = np.unique(keys, axis=0, return_inverse=True)
        terms = np.arange(len(ALL))
        for j, members in enumerate(who):
            mine = inverse.ravel() == j
            each, w = d[mine].reshape(-1, len(ALL)), weight[mine].ravel()
            square, right = (each * w[:, None]).T @ each, (each * w[:, None]).T @ residual[mine].ravel()
            columns, scales, offset = [terms], [self.base], len(ALL)
            for level, member in zip(self.levels, members, strict=True):
                columns.append(offset + member * len(ALL) + terms)
                scales.append(level.widths)
                offset += len(level.members) * len(ALL)
            at, scale = place[np.concatenate(columns)], np.concatenate(scales)
            source = np.tile(terms, len(columns))
            kept = at >= 0
            at, scale, source = at[kept], scale[kept], source[kept]
            matrix[np.ix_(at, at)] += square[np.ix_(source, source)] * np.outer(scale, scale)
            vector[at] += right[source] * scale
        return matrix, vector


def _level(name: str, labels: Sequence[str], widths: Array) -> Level:
    members = tuple(sorted(set(labels)))
    places = {who: i for i, who in enumerate(members)}
    return Level(name, members, np.array([places[who] for who in labels], int), widths)


def start_of(rows: Sequence[Server], profile: ServingProfile) -> Array:
    """Return where another profile puts each row's terms: the prior of a fit on top of it."""
    each = [profile.moved(r.gpu.name, r.engine, r.version, r.gpu.architecture) for r in rows]
    return np.array([[moved[term.name] for term in ALL] for moved in each])


def solve(problem: Problem, rowweight: Array | None = None) -> Array:
    """Return the free deviations that fit best: Gauss-Newton with damping, weights of Student's t."""
    counted = problem.known if rowweight is None else problem.known * rowweight[:, None]
    noise = np.array(NOISE)

    def state(free: Array) -> tuple[Array, Array, Array, float]:
        moves = problem.moves(free)
        logs = problem.predict(moves)
        residual = (logs - problem.measured) / noise
        loss = (counted * FREEDOM * np.log1p(residual**2 / FREEDOM)).sum() + (free**2).sum()
        return moves, logs, residual, float(loss)

    free, damping = np.zeros(len(problem.free)), 1e-2
    moves, logs, residual, loss = state(free)
    for _ in range(ROUNDS):
        d = problem.derivative(moves, logs) / noise[:, None]
        weight = counted / (1 + residual**2 / FREEDOM)
        matrix, vector = problem.assemble(d, weight, residual)
        while True:
            step = np.linalg.solve(matrix + np.eye(len(free)) * (1 + damping), vector + free)
            tried = state(free - step)
            if tried[3] < loss or damping > 1e6:
                break
            damping *= 4
        gained = loss - tried[3]
        if gained <= 0:
            break
        free, damping = free - step, max(damping / 4, 1e-4)
        moves, logs, residual, loss = tried
        if gained < SETTLED * max(loss, 1.0):
            break
    return free


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
    """Rows predicted by fits that did not see them: which were left out together, and logarithms of the ratio.

    A ratio is nan where a row has no such time.
    """

    what: str
    rows: tuple[Server, ...]
    ratio: Array  # measured over predicted, as logarithms [row, 2]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How to fit: from scratch or on top of a profile; versions known to speculate; who is told how far it is."""

    scratch: bool = False
    speculative: Sequence[str] = ()
    progress: Progress | None = None


def fit(
    rows: Sequence[Server],
    engine: Engine,
    about: About,
    shipped: ServingProfile,
    how: Manner,
) -> tuple[ServingProfile, list[LeftOut]]:
    """Return a profile fitted to rows: on top of the shipped one, or from scratch.

    From scratch, engine versions that ran speculative decoding are found unless they are named, and every interval
    comes from rows left out; one that no rows left out can tell (a single GPU was measured, say) is the shipped one.
    On top, `intervals_of_own` says how. Beside the profile stand the rows left out that its intervals come from.
    """
    under = None if how.scratch else shipped
    many, _ = stack(rows, engine)
    speculative = speculative_of(many, shipped, how)
    out = list(left_out(rows, engine, speculative, WAYS if how.scratch else (SEEN,), how.progress, under))
    ranges = ranges_of(out, shipped) if how.scratch else {**shipped.ranges, **intervals_of_own(out, shipped)}
    problem = Problem(many, speculative, under)
    return profile_of(problem, solve(problem), ranges, speculative, about, under), out


def check(
    rows: Sequence[Server],
    engine: Engine,
    shipped: ServingProfile,
    how: Manner,
) -> tuple[list[LeftOut], dict[str, tuple[Range, Range]]]:
    """Return rows left out of such fits in all ways, and the intervals that follow from them."""
    many, _ = stack(rows, engine)
    speculative = speculative_of(many, shipped, how)
    out = list(left_out(rows, engine, speculative, WAYS, how.progress, None if how.scratch else shipped))
    return out, ranges_of(out, shipped)


def speculative_of(many: Many, shipped: ServingProfile, how: Manner) -> tuple[str, ...]:
    """Return the engine versions that ran speculative decoding: named, known, or found."""
    if not how.scratch:
        return tuple(dict.fromkeys((*shipped.speculative, *how.speculative)))
    return tuple(how.speculative) or speculating(many, how.progress)


def profile_of(
    problem: Problem,
    free: Array,
    ranges: Mapping[str, tuple[Range, Range]],
    speculative: Sequence[str],
    about: About,
    under: ServingProfile | None = None,
) -> ServingProfile:
    """Return a fit as a profile; deviations too small to matter are dropped."""
    z = np.zeros(problem.size)
    z[problem.free] = free
    moves: dict[str, Mapping[str, Mapping[str, float]]] = dict(under.moves) if under else {}
    if under is None:
        moves["base"] = {"": {t.name: float(z[k] * problem.base[k]) for k, t in enumerate(ALL)}}
    offset = len(ALL)
    for level in problem.levels:
        found = dict(moves.get(level.name, {}))
        for i, who in enumerate(level.members):
            block = z[offset + i * len(ALL) : offset + (i + 1) * len(ALL)] * level.widths
            old = found.get(who, {})
            new = {t.name: old.get(t.name, 0.0) + float(block[k]) for k, t in enumerate(ALL)}
            found[who] = {term: moved for term, moved in new.items() if abs(moved) > PLAIN}
        offset += len(level.members) * len(ALL)
        moves[level.name] = found
    measured: dict[tuple[str, str], set[str]] = {k: set(v) for k, v in under.measured.items()} if under else {}
    counts = dict(under.rows) if under else {}
    for r in problem.many.rows:
        pair = (r.gpu.name, r.engine)
        measured.setdefault(pair, set()).add(r.model.name)
        counts[pair] = counts.get(pair, 0) + 1
    return ServingProfile(
        name=about.name,
        title=about.title,
        tier=about.tier,
        source=about.source,
        moves=moves,
        measured={pair: tuple(sorted(models)) for pair, models in sorted(measured.items())},
        ranges=ranges,
        speculative=tuple(speculative),
        rows=counts,
        loads={
            what: _span([getattr(r, what) for r in problem.many.rows], under.loads.get(what, ()) if under else ())
            for what in LOADS
        },
        architectures=tuple(
            sorted({r.gpu.architecture for r in problem.many.rows} | set(under.architectures if under else ()))
        ),
    )


def _span(found: Sequence[float], known: Sequence[float]) -> tuple[float, float]:
    return float(min(*found, *known, found[0])), float(max(*found, *known, found[0]))


def document(profile: ServingProfile) -> dict[str, Any]:
    """Return a profile as its YAML document: base values, factors, intervals, and what was measured."""

    def factors(found: Mapping[str, float]) -> dict[str, float]:
        return {term: round(exp(moved), 4) for term, moved in found.items()}

    base, source = profile.moves["base"][""], profile.source
    return {
        "name": profile.name,
        "title": profile.title,
        "source": {"kind": source.kind, "ref": source.ref, "date": source.date},
        "tier": profile.tier,
        "kind": "serving",
        "terms": {t.name: float(f"{value(t, base.get(t.name, 0.0)):.4g}") for t in ALL},
        "factors": {
            level: {who: factors(found) for who, found in profile.moves.get(level, {}).items()}
            for level in ("gpus", "engines", "servers", "releases", "kernels")
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
    }


# -- what the fit misses --------------------------------------------------------------------------


def same_shape(r: Server) -> tuple[Any, ...]:
    """Return what tells configurations apart: two rows alike must be left out together."""
    return (r.gpu.name, r.engine, shape_of(r.model), r.form, r.prompt, r.output, r.concurrency, r.parallel)


def shape_of(model: ModelSpec) -> tuple[Any, ...]:
    """Return an architecture: releases that differ in weights only are one model to a server."""
    return (model.model_type, model.hidden, len(model.layers), model.vocab, model.parameters)


def folds_of(rows: Sequence[Server], what: str, parts: int = 5) -> list[Array]:
    """Return masks of rows to leave out together."""
    keys: dict[str, Callable[[Server], Any]] = {
        SEEN: same_shape,
        SERVER: lambda r: (shape_of(r.model), r.gpu.name),
        ELSEWHERE: lambda r: (r.gpu.name, r.engine),
        NOWHERE: lambda r: r.gpu.name,
    }
    found = [keys[what](r) for r in rows]
    names = sorted(set(found), key=str)
    if what == SEEN:
        order = np.random.default_rng(0).permutation(len(names))
        place = {name: order[i] % parts for i, name in enumerate(names)}
    else:
        place = {name: i for i, name in enumerate(names)}
    index = np.array([place[f] for f in found])
    return [index == i for i in sorted(set(index)) if not (index == i).all()]


def left_out(
    rows: Sequence[Server],
    engine: Engine,
    speculative: Sequence[str],
    what: Sequence[str],
    progress: Progress | None = None,
    under: ServingProfile | None = None,
) -> Iterator[LeftOut]:
    """Yield, for each way of leaving rows out, how far the fits of the others are off on them."""
    every, _ = stack(rows, engine)
    jobs = [(name, fold) for name in what for fold in folds_of(rows, name)]
    ratios = {name: np.full((len(rows), 2), np.nan) for name in what}
    whole = Problem(every, speculative, under)
    for done, (name, fold) in enumerate(jobs):
        if progress:
            progress(done, len(jobs), f"rows left out: {name}")
        free = solve(whole, (~fold).astype(float))
        missed = np.where(whole.known > 0, whole.measured - whole.predict(whole.moves(free)), np.nan)
        ratios[name][fold] = missed[fold]
    for name in what:
        told = ~np.isnan(ratios[name]).all(1)
        yield LeftOut(what=name, rows=tuple(r for r, t in zip(rows, told, strict=True) if t), ratio=ratios[name][told])


def drafts(model: ModelSpec) -> bool:
    """Return whether a checkpoint comes with layers that predict several tokens (MTP), so that it can speculate."""
    said = [*model.config.items()]
    for nested in model.config.values():
        said += nested.items() if isinstance(nested, dict) else ()
    return any(key in MTP and isinstance(count, int) and count > 0 for key, count in said)


def speculating(many: Many, progress: Progress | None = None) -> tuple[str, ...]:
    """Return engine versions that ran speculative decoding: rows do not say, but other versions' fits are too slow."""
    rows, problem = many.rows, Problem(many)
    names = [f"{r.engine} {r.version}" for r in rows]
    able = np.array([drafts(r.model) for r in rows])
    each = {name: np.array([n == name for n in names]) for name in sorted(set(names))}
    asked = {name: mine for name, mine in each.items() if able[mine].all() and ENOUGH <= mine.sum() < len(rows)}
    found = []
    for done, (name, mine) in enumerate(asked.items()):
        if progress:
            progress(done, len(asked), f"speculative decoding: {name}")
        free = solve(problem, (~mine).astype(float))
        ratio = np.exp(problem.measured - problem.predict(problem.moves(free)))[mine & (problem.known[:, 0] > 0), 0]
        if len(ratio) and np.median(ratio) < FASTER and np.quantile(ratio, 0.9) < 1.0:
            found.append(name)
    return tuple(found)


def ranges_of(found: Sequence[LeftOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return the middle 80 % of measured over predicted, by what was left out, and by server for rows like the seen.

    What no row tells is as the shipped profile has it.
    """
    ranges: dict[str, tuple[Range, Range]] = {}
    for out in found:
        told = shipped.ranges[out.what]
        overall = [middle(out.ratio[:, j]) or (log(told[j].low), log(told[j].high)) for j in range(2)]
        ranges[out.what] = (_range(overall[0]), _range(overall[1]))
        if out.what == SEEN:
            pairs = [f"{r.gpu.name} {r.engine}" for r in out.rows]
            for pair in sorted(set(pairs)):
                mine = np.array([p == pair for p in pairs])
                tpot, ttft = (_range(mixed(out.ratio[mine, j], overall[j])) for j in range(2))
                ranges[pair] = (tpot, ttft)
    return ranges


def intervals_of_own(found: Sequence[LeftOut], shipped: ServingProfile) -> dict[str, tuple[Range, Range]]:
    """Return intervals by server: own rows left out in turn, shrunk toward what the shipped profile says of them."""
    ranges: dict[str, tuple[Range, Range]] = {}
    for out in found:
        told = [
            shipped.interval(r.gpu.name, r.engine, (r.model.name, r.model.longer), r.gpu.architecture) for r in out.rows
        ]
        pairs = [f"{r.gpu.name} {r.engine}" for r in out.rows]
        for pair in sorted(set(pairs)):
            mine = [i for i, p in enumerate(pairs) if p == pair]
            general = [np.log([(told[i][j].low, told[i][j].high) for i in mine]).mean(0) for j in range(2)]
            tpot, ttft = (_range(mixed(out.ratio[mine, j], general[j])) for j in range(2))
            ranges[pair] = (tpot, ttft)
    return ranges


def middle(ratio: Array) -> tuple[float, float] | None:
    """Return the ends of the middle 80 %, None of nothing."""
    known = ratio[~np.isnan(ratio)].tolist()
    return (quantile(known, 0.1), quantile(known, 0.9)) if known else None


def mixed(ratio: Array, general: Sequence[float]) -> tuple[float, float]:
    """Return the middle 80 % of a server's rows, shrunk toward a general one when they are few. [logarithm]"""
    own, count = middle(ratio), int((~np.isnan(ratio)).sum())
    share = count / (count + SHRINK)
    low, high = (share * o + (1 - share) * g for o, g in zip(own or general, general, strict=True))
    return float(low), float(high)


def _range(found: Sequence[float]) -> Range:
    low, high = found
    return Range(low=min(exp(low), 1.0), high=max(exp(high), 1.0))
