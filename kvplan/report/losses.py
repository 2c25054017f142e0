"""What a plan may cost in quality and in kept promises, in words."""

from kvplan.quality.results import Quality
from kvplan.units import show_percent

#: heading of the probability that a plan keeps all latency limits
CHANCE = "chance\nto keep\nlimits"
#: the same where there is none: that replicas keep up with what comes
KEEPING_UP = "chance\nto keep\nup"
#: an unknown loss whose range starts below this, and ends this close to all, is simply unknown
HARDLY = 0.01


def loss(q: Quality) -> str:
    """Return a quality loss with its range."""
    if q.drop is None:
        known = q.low >= HARDLY or q.high <= 1 - HARDLY
        return f"unknown, {show_percent(q.low, 0)} to {show_percent(q.high, 0)}" if known else "unknown"
    if q.drop == q.low == q.high == 0:
        return "none"
    return f"{show_percent(q.drop, 1)} ({show_percent(q.low, 1)} to {show_percent(q.high, 1)})"


def at_most(q: Quality) -> str:
    """Return a quality loss with the most it may be."""
    return loss(q) if q.drop is None or q.high == 0 else f"{show_percent(q.drop, 1)} (to {show_percent(q.high, 1)})"
