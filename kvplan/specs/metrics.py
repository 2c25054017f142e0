"""What an engine says of itself at one moment: the samples of its metrics page."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSample:
    """One figure of a metrics page."""

    name: str  #: as the page has it, with _sum, _count, _bucket or _total
    labels: Mapping[str, str]  #: what tells it from others of its name
    value: float  #: in the unit its name ends in


@dataclass(frozen=True)
class Scrape:
    """All figures of a page at one moment."""

    at: float  #: on a clock that only goes forward [s]
    samples: tuple[MetricSample, ...]  #: in the order of the page
    wall: float | None = None  #: the same moment since 1970 [s], None where nobody says
