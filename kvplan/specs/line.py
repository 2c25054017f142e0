"""A line of a sum: of a GPU's memory, of a bill, of the energy of a query."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a budget or a bill; a total is the sum of its lines."""

    name: str  #: what it is for, as documents spell it
    amount: float  #: in the unit of the list it stands in [B], [USD], [USD/s] or [J]
    basis: str  #: where it comes from, in words
