"""What a check is: a function from a case and the evidence to kvplan's figures, registered with the fields it reads.

The checks stand in `memory`, `speed`, `money` and `quality`. Adding one is one `@check(...)` function there; the YAML,
the JSON and the general tests follow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from kvplan.docstrings import summary
from kvplan.errors import KvplanError, SpecError, UnknownName
from kvplan.planning.site import Site
from kvplan.specs.claims import ClaimCase
from kvplan.specs.money import ApiPrice, Ownership
from kvplan.specs.quality import QualityTable
from kvplan.specs.source import Source

T = TypeVar("T")
#: how far people's rounding may be off by unit: a difference of shares, a share of any other figure
TOLERANCES = {"share": 0.02, "count": 0.0}
USUAL_TOLERANCE = 0.10


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What claims are checked with."""

    day: str  #: of the prices, YYYY-MM-DD
    sites: Mapping[str, Site]  #: by name, one for every GPU that a claim names
    table: QualityTable  #: published scores
    apis: tuple[ApiPrice, ...]  #: list prices of all days
    terms: Ownership  #: of an owner


@dataclass(frozen=True, kw_only=True)
class Answer:
    """kvplan's figure for a case, in base units of its check."""

    value: float | None  #: None where it is not known
    low: float  #: the least it may truly be
    high: float  #: the most it may truly be
    line: str  #: its arithmetic
    reason: str = ""  #: why it is not known
    extra: str = ""  #: what the case does not name: a row of a table
    remarks: tuple[str, ...] = ()  #: printed once for all cases
    sources: tuple[Source, ...] = ()  #: what the arithmetic rests on


def exact(value: float, line: str, *sources: Source) -> Answer:
    """Return a figure that is known exactly, with its arithmetic."""
    return Answer(value=value, low=value, high=value, line=line, sources=sources)


def unknown(reason: str, *sources: Source, low: float = -inf, high: float = inf) -> Answer:
    """Return a figure that is not known and why; `low` and `high` bound it."""
    return Answer(value=None, low=low, high=high, line="", reason=reason, sources=sources)


Function = Callable[[ClaimCase, Evidence], Sequence[Answer]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A quantity that claims are of."""

    name: str  #: as claims spell it
    unit: str  #: share, ratio, count, or a unit of `units`
    needs: tuple[str, ...]  #: fields a case must have
    may: tuple[str, ...]  #: fields a case may have besides
    tolerance: float  #: how far people's rounding may be off: a share of the figure, for shares a difference
    summary: str  #: what it is, in one line
    function: Function  #: from a case to its figures

    def answers(self, case: ClaimCase, evidence: Evidence) -> Sequence[Answer]:
        """Return the figures of a case; one that a technique or model rules out is not known, with the reason.

        Raises SpecError and UnknownName for a case that cannot be understood.
        """
        try:
            return self.function(case, evidence)
        except (SpecError, UnknownName):
            raise
        except KvplanError as refusal:
            return [unknown(str(refusal))]


def check(
    *, unit: str, needs: tuple[str, ...], may: tuple[str, ...] = (), tolerance: float | None = None
) -> Callable[[Function], Check]:
    """Return a decorator that makes a check of a function: its name, and the first line of its docstring."""

    def decorate(function: Function) -> Check:
        usual = TOLERANCES.get(unit, USUAL_TOLERANCE)
        return Check(
            name=function.__name__,
            unit=unit,
            needs=needs,
            may=may,
            tolerance=usual if tolerance is None else tolerance,
            summary=summary(function),
            function=function,
        )

    return decorate


def need(value: T | None) -> T:
    """Return a field that the check was registered to need."""
    assert value is not None
    return value
