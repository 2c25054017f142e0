"""A normal distribution cut at both ends, as tools draw lengths: which one has a mean and a deviation after the cut."""

from math import sqrt
from statistics import NormalDist

#: steps in which the two figures are found, and how near is near enough
STEPS, NEAR = 500, 1e-6
#: the standard normal distribution
NORMAL = NormalDist()


def moments(mean: float, deviation: float, low: float, high: float) -> tuple[float, float]:
    """Return mean and standard deviation of a normal variable that is moved to `low` or `high` where it is beyond.

    With a, b the ends in standard units: E = low P(a) + high (1 - P(b)) + m (P(b) - P(a)) - s (p(b) - p(a)).
    """
    a, b = (low - mean) / deviation, (high - mean) / deviation
    under, over = NORMAL.cdf(a), 1 - NORMAL.cdf(b)
    within, drop = 1 - over - under, NORMAL.pdf(b) - NORMAL.pdf(a)
    first = low * under + high * over + mean * within - deviation * drop
    inner = within - (b * NORMAL.pdf(b) - a * NORMAL.pdf(a))  # of the squares, in standard units
    second = (
        low**2 * under + high**2 * over + mean**2 * within - 2 * mean * deviation * drop + deviation**2 * inner
    )  # fmt: skip
    return first, sqrt(max(second - first**2, 0.0))


def before_cut(mean: float, deviation: float, low: float, high: float) -> tuple[float, float]:
    """Return mean and deviation of the normal distribution that has the wanted ones after it is cut.

    Each step moves the two by what is left. The deviation comes out smaller where none is so wide.
    """
    center, width = mean, deviation
    for _ in range(STEPS):
        got, spread = moments(center, width, low, high)
        if abs(got - mean) < NEAR * mean and abs(spread - deviation) < NEAR * mean:
            break
        center += mean - got
        width = min(max(width * deviation / spread if spread else width, 1e-9), 10 * (high - low))
    return center, width
