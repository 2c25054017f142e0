"""Fitting servers to end-to-end rows, from scratch or on top of a profile: hierarchical, robust, physics for priors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kvplan.measuring.serving.arrays import stack
from kvplan.measuring.serving.holdout import HeldOut, held_out_rows, never_held_out, seen_by
from kvplan.measuring.serving.intervals import intervals_of_own, ranges_of, told_before
from kvplan.measuring.serving.problem import Problem
from kvplan.measuring.serving.profiles import ProfileHeading, profile_of
from kvplan.measuring.serving.rows import ServerRow
from kvplan.measuring.serving.solve import Progress, Solved, solve
from kvplan.specs.calibration import Range
from kvplan.specs.hardware import Engine
from kvplan.specs.serving_profile import ServingProfile


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to fit."""

    from_scratch: bool = False  #: whether to start from the priors, not from the shipped profile
    #: what measured kernels say of GPU architectures: architecture -> term -> deviation [logarithm]
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    progress: Progress | None = None  #: who is told how far the fit is


def fit(
    rows: Sequence[ServerRow],
    engine: Engine,
    heading: ProfileHeading,
    shipped: ServingProfile,
    options: FitOptions,
) -> tuple[ServingProfile, list[HeldOut]]:
    """Return a profile fitted to rows: on top of the shipped one, or from scratch.

    From scratch every interval comes from rows held out; one that no rows held out can tell (a single GPU was measured,
    say) is the shipped one. On top, `intervals_of_own` says how. Beside the profile stand the rows held out that its
    intervals come from.
    """
    under = None if options.from_scratch else shipped
    problem, solved = solved_for(rows, engine, under, options)
    held_out = held_out_rows(problem, solved, under)
    if under:
        own = intervals_of_own([*never_held_out(problem, solved, held_out, under), *held_out], under)
        ranges = {**under.ranges, **told_before(rows, seen_by(rows, under), under), **own}
    else:
        ranges = ranges_of(held_out, shipped)
    return profile_of(problem, solved, ranges, heading, under, options.kernels), held_out


def check(
    rows: Sequence[ServerRow], engine: Engine, shipped: ServingProfile, options: FitOptions
) -> tuple[list[HeldOut], dict[str, tuple[Range, Range]]]:
    """Return rows held out of such fits in all ways, and the intervals that follow from them."""
    under = None if options.from_scratch else shipped
    problem, solved = solved_for(rows, engine, under, options)
    held_out = held_out_rows(problem, solved, under)
    return held_out, ranges_of(held_out, shipped)


def solved_for(
    rows: Sequence[ServerRow], engine: Engine, under: ServingProfile | None, options: FitOptions
) -> tuple[Problem, Solved]:
    """Return the rows' problem and its optimum, on top of the profile `under` it, if any."""
    problem = Problem(stack(rows, engine)[0], under, options.kernels)
    return problem, solve(problem, options.progress, deciding=options.from_scratch)
