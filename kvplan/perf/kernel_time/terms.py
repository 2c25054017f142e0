"""What the kernels' times are written in: coefficients, choices, and the time of activities that overlap."""

from dataclasses import field
from math import inf
from typing import Any

#: a float, or while fitting a numpy array of them
Number = Any

#: power and clock settle within about this time of full load [s]
SETTLING = 1e-3


def coefficient(
    unit: str, meaning: str, start: float, scale: str = "", optional: bool = False, most: float = inf
) -> Any:
    """Declare a fitted coefficient: its unit, meaning, first guess and bound (factors of the GPU's `scale` if named).

    An optional coefficient that rows cannot tell from its neutral value (no time, or an unlimited rate) is left out.
    """
    neutral = inf if unit.endswith("/s") else 0.0
    metadata = {"unit": unit, "meaning": meaning, "start": start, "scale": scale, "optional": optional, "most": most}
    return field(default=neutral, metadata=metadata) if optional else field(metadata=metadata)


def choice(meaning: str, default: Any) -> Any:
    """Declare a discrete choice of the library, found by cross-validation."""
    return field(default=default, metadata={"meaning": meaning, "choice": True})


def smaller(a: Number, b: Number) -> Number:
    """Return the smaller of two amounts, element by element."""
    return (a + b - abs(a - b)) / 2


def overlapped(a: Number, b: Number, power: float = 4.0) -> Number:
    """Return the time of two overlapping activities: the longer, and a little more when they are alike."""
    return (a**power + b**power) ** (1 / power)


def fastest(times: list[Number], power: float = 6.0) -> Number:
    """Return the time of the fastest of several algorithms, a little less where they tie."""
    total = times[0] ** -power
    for time in times[1:]:
        total = total + time**-power
    return total ** (-1 / power)


def settled(time: Number, slowdown: Number) -> Number:
    """Return a time at full power stretched by the share the clock loses under sustained load."""
    return time * (1 + slowdown * time / (time + SETTLING))
