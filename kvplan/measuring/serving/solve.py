"""Solving a fit of the serving terms in the space of observations: Gauss-Newton, weighted for Student's t.

A Gaussian process whose kernel the levels make gives the same answer as a fit over all deviations, of which there are
more than rows, and rows are left out of it in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped,unused-ignore]

from kvplan.measuring.serving.problem import FREEDOM, Array, Iterate, Problem
from kvplan.specs.calibration import ALL

#: told what is done, of how many, and what is next
Progress = Callable[[int, int, str], None]
#: rounds at most; a fit is at its optimum when so many rounds in a row gain less than this share of the loss: a round
#: may gain little just before one that gains much, where shares bend at what the datasheet leaves
ROUNDS, SETTLED, IN_A_ROW = 60, 1e-4, 2
#: rounds that the shipped rows take from scratch: how far a fit is, is told against them
USUAL = 30
#: rounds in which runs may change between with and without speculative decoding
DECIDING = 6
#: steps of a start at which all rows are believed
BELIEVING = 8
#: odds that a run that could speculate did, and the evidence (twice a logarithm) that changes a mind
ODDS, CERTAIN = 0.3, 2.0
#: the shortest step tried, as a share of Gauss-Newton's
SHORTEST = 1e-3


@dataclass(frozen=True)
class Solved:
    """A fit at its optimum, linear around it; an observation is a measured TPOT or TTFT of a row."""

    point: Iterate  #: where it stands
    rows: Array  #: each observation's row [observation]
    derivative: Array  #: of each observation's logarithm, by its row's terms [observation, term]
    inverse: Array  #: of the observations' covariance with noise [observation, observation]
    weights: Array  #: of the observations, which `Problem.effects` turns into deviations [observation]


@dataclass(frozen=True)
class LinearStep:
    """A step of the problem made linear at a point."""

    derivative: Array  #: of each observation's logarithm, by its row's terms [observation, term]
    factor: Any  #: Cholesky factor of the observations' covariance with noise
    weights: Array  #: of the observations that solve the step [observation]


def solve(problem: Problem, progress: Progress | None = None, deciding: bool = True) -> Solved:
    """Return the deviations that fit best: Gauss-Newton with weights of Student's t and a line search.

    In the first rounds each run's speculative decoding is decided, when rows are to say so themselves.
    """
    observed = np.flatnonzero(problem.known.ravel())
    zero = tuple(np.zeros((len(level.members), len(ALL))) for level in problem.levels)
    point = problem.at(zero, problem.speculative)
    if not deciding:
        point = better_start(problem, point, observed)
    turn = small = 0
    for turn in range(ROUNDS):
        if progress:
            progress(turn, max(USUAL, turn + 2), "fit")
        step = linear(problem, point, observed)
        if deciding and 0 < turn < DECIDING:
            speculative = decided(problem, point, step, observed)
            if (speculative != point.speculative).any():
                point = problem.at(point.effects, speculative)
                step = linear(problem, point, observed)
        before = point.loss
        point = line_search(problem, point, problem.effects(step.derivative, observed // 2, step.weights))
        small = small + 1 if before - point.loss < SETTLED * max(before, 1.0) else 0
        if small >= IN_A_ROW and turn >= (DECIDING if deciding else 0):
            break
    if progress:
        progress(turn, turn + 1, "fit")  # the last, whenever that comes
    step = linear(problem, point, observed)
    inverse = cho_solve(step.factor, np.eye(len(observed)), check_finite=False)
    return Solved(point, observed // 2, step.derivative, inverse, step.weights)


def better_start(problem: Problem, point: Iterate, observed: Array) -> Iterate:
    """Return where rows lead that are all believed, where their loss is less there than at the profile.

    A server far from its prediction looks like nothing but outliers from there, and would not be moved.
    """
    trial = point
    for _ in range(BELIEVING):
        step = linear(problem, trial, observed, believed=True)
        trial = problem.at(problem.effects(step.derivative, observed // 2, step.weights), point.speculative)
    return trial if trial.loss < point.loss else point


def linear(problem: Problem, point: Iterate, observed: Array, believed: bool = False) -> LinearStep:
    """Return the step that solves the problem made linear at a point: derivatives times deviations explain the rest.

    `observed` are places of measured times in the rows' [row, 2], flattened [observation]. Rows that are `believed`
    count alike however far they are; else Student's t takes weight from those that are far.
    """
    rows = observed // 2
    derivative = problem.derivative(point).reshape(-1, len(ALL))[observed]
    residual = point.residual.ravel()[observed]
    noise = problem.noise.ravel()[observed]
    covariance = problem.kernel(derivative, rows)
    covariance[np.diag_indices_from(covariance)] += noise**2 * (1.0 if believed else 1 + residual**2 / FREEDOM)
    target = ((point.moves - problem.start)[rows] * derivative).sum(1) - residual * noise
    factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    return LinearStep(derivative, factor, cho_solve(factor, target, check_finite=False))


def line_search(problem: Problem, point: Iterate, target: tuple[Array, ...]) -> Iterate:
    """Return the best of points ever nearer a step's start, each halfway back, until one is worse than a better one."""
    length, best = 1.0, point
    while length > SHORTEST:
        mixed = tuple(old + length * (new - old) for old, new in zip(point.effects, target, strict=True))
        trial = problem.at(mixed, point.speculative)
        if trial.loss < best.loss:
            best = trial
        elif best is not point:
            break
        length /= 2
    return best


def decided(problem: Problem, point: Iterate, step: LinearStep, observed: Array) -> Array:
    """Return which rows ran with speculative decoding, decided anew for each run. [row]

    A run changes where that raises the evidence of the whole fit: with y what is to be explained and v what a change of
    mind does to it, (y - v) A^-1 (y - v) against y A^-1 y, most telling run first.
    """
    speculative = point.speculative.copy()
    mine = candidates(problem)
    if not mine:
        return speculative
    without, with_it = (
        problem.predict(point.moves, np.where(problem.undecided, mode, speculative)) for mode in (False, True)
    )
    gains = (with_it - without).ravel()[observed]
    changes = {name: gains * rows[observed // 2] for name, rows in mine.items()}
    answers = {name: cho_solve(step.factor, change, check_finite=False) for name, change in changes.items()}
    weights, odds = step.weights, 2 * log(ODDS / (1 - ODDS))
    for _ in mine:
        evidence = {}
        for name, change in changes.items():
            modes = speculative[mine[name]]
            if modes.any() != modes.all():
                continue  # a release whose runs differ: they change one by one
            sign = -1.0 if modes.any() else 1.0
            evidence[name] = -2 * sign * (change @ weights) + change @ answers[name] - sign * odds
        best = min(evidence, key=lambda name: evidence[name])
        if evidence[best] > -CERTAIN:
            break
        sign = -1.0 if speculative[mine[best]].any() else 1.0
        weights = weights - sign * answers[best]
        speculative[mine[best]] = sign > 0
    return speculative


def candidates(problem: Problem) -> dict[str, Array]:
    """Return which rows may change their minds together: a run, or all runs of a model under a release. [name][row]"""
    mine: dict[str, Array] = {}
    for names in (problem.runs, problem.editions):
        each = np.array(names)
        for name in sorted({names[i] for i in np.flatnonzero(problem.undecided & problem.known[:, 0])} - {""}):
            rows = (each == name) & problem.undecided
            if not any((rows == other).all() for other in mine.values()):
                mine[name] = rows
    return mine
