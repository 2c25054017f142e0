"""Rental cost as lines that sum to the total."""

from dataclasses import dataclass

from kvplan.specs.hardware import Price
from kvplan.specs.line import Line
from kvplan.units import MILLION


@dataclass(frozen=True, kw_only=True)
class QueryCost:
    """What one query costs on a replica kept busy: its share of prefill and of decode time. [USD]"""

    lines: tuple[Line, ...]  #: by what the GPUs do [USD]
    input_tokens: int  #: of the query [token]
    output_tokens: int  #: of the query [token]

    @property
    def per_query(self) -> float:
        """USD of one query."""
        return sum(line.amount for line in self.lines)

    @property
    def per_million_tokens(self) -> float:
        """USD per million tokens, input and output together."""
        return self.per_query / (self.input_tokens + self.output_tokens) * MILLION

    @property
    def per_million_output_tokens(self) -> float:
        """USD per million output tokens, the whole query charged to them."""
        return self.per_query / self.output_tokens * MILLION


def query_cost(
    price: Price, gpus: int, *, prefill: float, decode: float, input_tokens: int, output_tokens: int
) -> QueryCost:
    """Return a query's cost from the seconds of the whole replica it takes for prefill and for decode. [USD]"""
    rate = price.price * gpus
    lines = (
        Line(name="prefill", amount=rate * prefill, basis=f"{prefill:.3g} s of {gpus} GPUs"),
        Line(name="decode", amount=rate * decode, basis=f"{decode:.3g} s of {gpus} GPUs, its share of the batch"),
    )
    return QueryCost(lines=lines, input_tokens=input_tokens, output_tokens=output_tokens)
