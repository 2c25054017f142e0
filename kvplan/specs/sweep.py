"""A study: a question asked at many points, of a grid or of a sample."""

from collections.abc import Mapping
from dataclasses import dataclass

#: what a parameter of a point may be
Value = str | int | float | bool | tuple[str, ...]
#: how a sample may be drawn
LATIN, SOBOL = "latin", "sobol"
METHODS = (LATIN, SOBOL)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A value of a parameter, and where it stands."""

    value: Value  #: in the unit the question takes it in
    line: int  #: of the file, from 1


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Numbers between two, evenly spaced on a plain or a logarithmic scale."""

    low: float  #: the least
    high: float  #: the greatest
    log: bool  #: whether ratios are even, not differences
    whole: bool  #: whether only whole numbers are meant

    def at(self, share: float) -> float | int:
        """Return the number at a share of the way, from 0 to 1."""
        ratio = self.high / self.low if self.log else 1.0
        number = self.low * ratio**share if self.log else self.low + (self.high - self.low) * share
        return round(number) if self.whole else float(f"{number:.12g}")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A parameter with the values it takes: listed, or, in a sample, anywhere on a span."""

    name: str  #: of the parameter
    choices: tuple[Choice, ...]  #: in the order of the file, () for a span
    span: Stretch | None  #: None where values are listed

    def at(self, share: float) -> Value:
        """Return the value at a share of the way, from 0 to below 1."""
        if self.span is not None:
            return self.span.at(share)
        return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)].value


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Points drawn from a space instead of all of a grid."""

    method: str  #: one of METHODS
    points: int  #: how many
    seed: int  #: the same seed draws the same points


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Two parameters against each other, and the figure of which the least is shown in every field."""

    x: str  #: parameter of the columns
    y: str  #: parameter of the rows
    figure: str  #: name of the figure


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, what is the same at all points, what differs, and what the report looks at."""

    file: str  #: name of the file, as messages say it
    name: str  #: as the file has it, else the file's own
    title: str  #: in a line, '' for none
    ask: str  #: the question: estimate, load ...
    fixed: Mapping[str, Choice]  #: parameter -> its value at all points
    cases: tuple[Mapping[str, Choice], ...]  #: parameters that differ together, () for none
    axes: tuple[Axis, ...]  #: parameters that differ alone; a grid is all their combinations
    sample: Sampling | None  #: None for a grid
    minimize: tuple[str, ...]  #: figures of the Pareto front, () for the question's own
    heat: HeatMap | None  #: None for the question's own

    @property
    def parameters(self) -> tuple[str, ...]:
        """Every parameter that a point of the study has, those that differ first."""
        differ = (*(name for case in self.cases for name in case), *(axis.name for axis in self.axes))
        return tuple(dict.fromkeys((*differ, *self.fixed)))

    @property
    def varied(self) -> tuple[str, ...]:
        """The parameters that differ from point to point."""
        return tuple(name for name in self.parameters if name not in self.fixed)


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """One point of a study."""

    number: int  #: in the order of the file, from 0
    values: Mapping[str, Value]  #: parameter -> its value


@dataclass(frozen=True, kw_only=True)
class Askable:
    """What a study may say about one question."""

    parameters: frozenset[str]  #: what a point may have
    needed: tuple[tuple[str, ...], ...]  #: of each group a point has at least one
    figures: frozenset[str]  #: what an answer tells
