"""From a study to its points: all of a grid, or a sample, one after another and never all at once.

Latin hypercubes cut every axis into as many strips as there are points and use each once (McKay, Beckman and Conover,
Technometrics 21, 1979, 239); Sobol's sequence fills a space evenly (Zh. Vych. Mat. Mat. Fiz. 7, 1967, 784), scrambled
as Owen does (Matousek, J. Complexity 14, 1998, 527), both as SciPy draws them.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from kvplan.specs.sweep import SOBOL, Axis, Sampling, Study, StudyPoint, Value

#: parameters that differ together, as one axis
_Option = Mapping[str, Value]


def count(study: Study) -> int:
    """Return the number of points of a study."""
    cases = max(len(study.cases), 1)
    return study.sample.points if study.sample else cases * prod(len(axis.choices) for axis in study.axes)


def points(study: Study, gathered: Collection[str] = ()) -> Iterator[StudyPoint]:
    """Yield every point; those of a grid that differ in `gathered` parameters alone follow one another.

    A point's number is its place in the file's order, in which the last axis changes first.
    """
    fixed = {name: choice.value for name, choice in study.fixed.items()}
    combinations = _sampled(study, study.sample) if study.sample else _grid(study, gathered)
    for number, values in combinations:
        yield StudyPoint(number=number, values={**fixed, **values})


def options(study: Study) -> list[list[_Option]]:
    """Return what each dimension of a grid may be: the cases, then every axis."""
    together: list[_Option] = [{name: choice.value for name, choice in case.items()} for case in study.cases]
    alone: list[list[_Option]] = [[{axis.name: choice.value} for choice in axis.choices] for axis in study.axes]
    return [together, *alone] if together else alone


def _grid(study: Study, gathered: Collection[str]) -> Iterator[tuple[int, _Option]]:
    dimensions = options(study)
    strides = [prod(len(later) for later in dimensions[n + 1 :]) for n in range(len(dimensions))]
    inner = [n for n, choices in enumerate(dimensions) if set(choices[0]) <= set(gathered)]
    order = [n for n in range(len(dimensions)) if n not in inner] + inner
    for places in product(*(range(len(dimensions[n])) for n in order)):
        number = 0
        values: dict[str, Value] = {}
        for n, place in zip(order, places, strict=True):
            number += strides[n] * place
            values.update(dimensions[n][place])
        yield number, values


def _sampled(study: Study, sample: Sampling) -> Iterator[tuple[int, _Option]]:
    first = [{name: choice.value for name, choice in case.items()} for case in study.cases]
    for number, shares in enumerate(drawn(sample, len(study.axes) + bool(first))):
        values: dict[str, Value] = dict(first[min(int(shares[0] * len(first)), len(first) - 1)]) if first else {}
        values |= _on(study.axes, shares[bool(first) :])
        yield number, values


def _on(axes: tuple[Axis, ...], shares: Any) -> dict[str, Value]:
    return {axis.name: axis.at(float(share)) for axis, share in zip(axes, shares, strict=True)}


def drawn(sample: Sampling, dimensions: int) -> Any:
    """Return points of the unit cube, one a row; the first of Sobol's where their number is no power of two."""
    from scipy.stats import qmc  # type: ignore[import-untyped,unused-ignore]

    if sample.method == SOBOL:
        power = max(sample.points - 1, 1).bit_length()
        return qmc.Sobol(dimensions, scramble=True, seed=sample.seed).random_base2(power)[: sample.points]
    return qmc.LatinHypercube(dimensions, seed=sample.seed).random(sample.points)
