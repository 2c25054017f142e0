"""How fast a device really is: effective rates, overheads, and how far off a prediction may be."""

from dataclasses import dataclass

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Effective rates of one device. `spread` bounds true over predicted time, by two factors; `doubt` says why.

    weights, attention: bytes per second; `attention` by bits of the cache's elements. rates: FLOP/s by bits of the
    operands. `grounded` says whether measurements of this very GPU stand behind them. link: bytes per second one way;
    link_start, layer_start, step_start: seconds per message, layer, step.
    """

    name: str
    tier: str
    weights: float
    attention: dict[float, float]
    rates: dict[float, float]
    attention_rate: float
    link: float
    link_start: float
    layer_start: float
    step_start: float
    spread: tuple[float, float]
    doubt: str
    sources: tuple[Source, ...]
    grounded: bool = True

    def cache_bandwidth(self, bits: float) -> float:
        """Return the rate at which attention reads a cache of so many bits an element. [B/s]"""
        return self.attention[min(self.attention, key=lambda b: abs(b - bits))]

    def rate(self, bits: float) -> float:
        """Return the rate of matrix products on operands of so many bits. [FLOP/s]"""
        return self.rates[min(self.rates, key=lambda b: abs(b - bits))]
