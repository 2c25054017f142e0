"""What a fit of the serving terms minimises: rows, the levels of their deviations, and the physics that times them.

The logarithm of every term is its prior plus a deviation of every level a row belongs to (all servers, its GPU, its
engine, the two, the era and release of the engine, the model, the model under this engine and under this release, its
number format there, the benchmark run), each normal with a stated width: a maximum a posteriori estimate. Residuals are
logarithms of predicted over measured TPOT and TTFT under Student's t with two degrees of freedom, so that rows taken in
another way do not bend the physics of the others.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from kvplan.architectures.parts import MTP_KEYS
from kvplan.measuring.serving.arrays import RowArrays
from kvplan.measuring.serving.rows import OFFLINE, ServerRow
from kvplan.specs.calibration import ALL
from kvplan.specs.eras import era_moves
from kvplan.specs.levels import LEVELS, OWN, Level
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import ServingProfile

Array = Any
#: scatter expected of logarithms: TPOT, TTFT
NOISE = (0.05, 0.15)
#: how much more rows collected from many places scatter, as factors: held out, with their server seen, their median
#: errors are 2.2 and 1.4 times those of the first source's
COLLECTED = (2.2, 1.5)
#: the same for rows that measure the way in and out of a crowd
CROWDED = 1.5
#: degrees of freedom of Student's t
FREEDOM = 2.0
#: step of numeric derivatives, in logarithms
STEP = 1e-4


@dataclass(frozen=True)
class LevelMembers:
    """One level in a fit: its members, which of them each row is, and how wide each term may deviate."""

    name: str  #: as profiles call it; "base" for all servers together
    members: tuple[str, ...]  #: names of its members among the rows, sorted
    index: Array  #: each row's place among `members`, -1 where it names none [row]
    widths: Array  #: standard deviation of every term, 0 for one that does not deviate [term; logarithm]


@dataclass(frozen=True)
class Iterate:
    """Where a fit stands: deviations, what they predict, and how far that is from measured."""

    effects: tuple[Array, ...]  #: deviations of each level's members [level][member, term; logarithm]
    speculative: Array  #: which rows are taken to have run with speculative decoding [row]
    moves: Array  #: deviations of each row's terms from their priors [row, term; logarithm]
    logs: Array  #: logarithms of predicted TPOT and TTFT [row, 2]
    residual: Array  #: predicted over measured as logarithms, over the scatter expected [row, 2]
    loss: float  #: twice the negative logarithm of the posterior


class Problem:
    """Rows, levels and the deviations of one fit; on top of a `fixed` profile only the rows' own servers move.

    `kernels` are deviations of terms that measured kernels tell of GPUs, by `Identity.kernels`. [name][term; logarithm]
    """

    def __init__(
        self,
        arrays: RowArrays,
        fixed: ServingProfile | None = None,
        kernels: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ):
        self.arrays, rows = arrays, arrays.rows
        times = np.array([[r.tpot or np.nan, r.ttft or np.nan] for r in rows])
        #: which of TPOT and TTFT were measured [row, 2]
        self.known = ~np.isnan(times)
        #: logarithms of measured TPOT and TTFT, 0 where not measured [row, 2]
        self.measured = np.log(np.where(self.known, times, 1.0))
        #: scatter expected of them [row, 2; logarithm]
        self.noise = np.array(NOISE) * np.array([scatter(r) for r in rows])
        #: what rows say speculative decoding gains, 0 where they do not say [row]
        self.gains = np.array([r.speculation_gain or 0.0 for r in rows])
        #: which rows ran with speculative decoding, before the fit decides [row]
        self.speculative = np.array([speculated(r, fixed) for r in rows])
        #: which rows may have run with it and do not say [row]
        self.undecided = np.array([r.speculation_gain is None and has_mtp_layers(r.model) for r in rows])
        self.runs, self.editions = [run_of(r) for r in rows], [edition_of(r) for r in rows]
        #: each row's terms before the fit, as deviations from their priors [row, term; logarithm]
        self.start = np.array([start_of(r, fixed, kernels) for r in rows])
        base = Level(name="base", named={term.name: term.width for term in ALL})
        self.levels = [level_members(level, rows) for level in (OWN if fixed else (base, *LEVELS))]

    def moves(self, effects: Sequence[Array]) -> Array:
        """Return every row's deviations from the priors. [row, term]"""
        moves = self.start.copy()
        for level, effect in zip(self.levels, effects, strict=True):
            moves += np.vstack([effect, np.zeros(len(ALL))])[level.index]
        return moves

    def predict(self, moves: Array, speculative: Array) -> Array:
        """Return logarithms of TPOT and TTFT as the rows state them. [row, 2]"""
        values = {term.name: term.value(moves[:, k], np.exp) for k, term in enumerate(ALL)}
        values["accepted"] = np.where(self.gains > 0, self.gains, np.where(speculative, values["accepted"], 1.0))
        served = self.arrays.served(self.arrays.calibrated(values))
        return np.log(np.stack([served.tpot, self.arrays.ttft(served)], 1))

    def at(self, effects: tuple[Array, ...], speculative: Array) -> Iterate:
        """Return where deviations lead: predictions, residuals, loss."""
        moves = self.moves(effects)
        logs = self.predict(moves, speculative)
        residual = (logs - self.measured) / self.noise
        loss = (self.known * FREEDOM * np.log1p(residual**2 / FREEDOM)).sum()
        for level, effect in zip(self.levels, effects, strict=True):
            free = level.widths > 0
            loss += ((effect[:, free] / level.widths[free]) ** 2).sum()
        return Iterate(effects, speculative, moves, logs, residual, float(loss))

    def derivative(self, point: Iterate) -> Array:
        """Return derivatives of `predict` by each row's own terms. [row, 2, term]"""
        derivative = np.zeros((*point.logs.shape, len(ALL)))
        for k in range(len(ALL)):
            shifted = point.moves.copy()
            shifted[:, k] += STEP
            derivative[:, :, k] = (self.predict(shifted, point.speculative) - point.logs) / STEP
        return derivative

    def kernel(self, derivative: Array, rows: Array) -> Array:
        """Return the prior covariance of observations. [observation, observation]

        Derivatives [observation, term] times the widths of what they share; `rows` are the observations' rows.
        """
        covariance = np.zeros((len(derivative), len(derivative)))
        for level in self.levels:
            scaled = derivative * level.widths
            for mine in places_by_member(level.index[rows], len(level.members)):
                covariance[np.ix_(mine, mine)] += scaled[mine] @ scaled[mine].T
        return covariance

    def effects(self, derivative: Array, rows: Array, weights: Array) -> tuple[Array, ...]:
        """Return the deviations that weights of observations stand for. [level][member, term]"""
        effects = []
        pulled = derivative * weights[:, None]
        for level in self.levels:
            effect = np.zeros((len(level.members), len(ALL)))
            for member, mine in enumerate(places_by_member(level.index[rows], len(level.members))):
                effect[member] = pulled[mine].sum(0) * level.widths**2
            effects.append(effect)
        return tuple(effects)


def places_by_member(index: Array, count: int) -> list[Array]:
    """Return where each of `count` members stands in an index. [member][place]"""
    order = np.argsort(index, kind="stable")
    edges = np.searchsorted(index[order], np.arange(count + 1))
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def level_members(level: Level, rows: Sequence[ServerRow]) -> LevelMembers:
    """Return one level of a fit over these rows; a row that names no member of it has index -1."""
    labels = ["all" if level.name == "base" else r.identity.members()[level.name] for r in rows]
    members = tuple(sorted(set(labels) - {""}))
    places = {name: i for i, name in enumerate(members)} | {"": -1}
    widths = np.array([level.width(term) for term in ALL])
    return LevelMembers(level.name, members, np.array([places[label] for label in labels], int), widths)


def scatter(row: ServerRow) -> tuple[float, float]:
    """Return how much more a row's TPOT and TTFT scatter than those of a long, steady loop by a known script."""
    tpot, ttft = COLLECTED if row.source else (1.0, 1.0)
    crowd = CROWDED if row.arrival == OFFLINE else 1.0
    return tpot * crowd, ttft * crowd


def start_of(row: ServerRow, fixed: ServingProfile | None, kernels: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Return where a row's terms are before its fit: another profile, or the priors of its era and architecture.

    As deviations from the priors of terms. [term; logarithm]
    """
    if fixed:
        moved = fixed.moved(row.identity)
    else:
        parts = [era_moves(row.engine, row.version), *(kernels.get(name, {}) for name in row.identity.kernels)]
        moved = {name: sum(part.get(name, 0.0) for part in parts) for name in {*itertools.chain(*parts)}}
    return [moved.get(term.name, 0.0) for term in ALL]


def speculated(row: ServerRow, fixed: ServingProfile | None) -> bool:
    """Return whether a row ran with speculative decoding: as it says, else as a profile knows of its run."""
    if row.speculation_gain is None:
        return fixed is not None and fixed.speculates(row.identity)
    return row.speculation_gain == 0.0


def run_of(row: ServerRow) -> str:
    """Return what rows were run together, or at least under one release with one model."""
    names = row.identity.members()
    return names["sweeps"] or f"{names['releases'] or names['servers']} {row.identity.model}"


def edition_of(row: ServerRow) -> str:
    """Return a model under a release of an engine, '' where no release is stated."""
    return row.identity.members()["editions"]


def has_mtp_layers(model: ModelSpec) -> bool:
    """Return whether a checkpoint comes with layers that predict several tokens (MTP), so that it can speculate."""
    fields = [*model.config.items()]
    for nested in model.config.values():
        fields += nested.items() if isinstance(nested, dict) else ()
    return any(key in MTP_KEYS and isinstance(count, int) and count > 0 for key, count in fields)
