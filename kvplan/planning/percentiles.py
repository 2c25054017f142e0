"""How far a percentile of TTFT can be trusted: what lies beside it, and how near a server is to its limit."""

from kvplan.units import show_percent, show_time

#: how far beside a percentile is looked, and the ratio of the times there that is a jump
BESIDE, JUMP = 0.02, 2.0
#: a share of what a server can do from which waits swing from hour to hour (benchmarks/NOTES.md)
NEAR_FULL = 0.8


def sides(share: float) -> tuple[float, float]:
    """Return the percentiles beside one: 0.93 and 0.97 of 0.95, nearer together at the end of the tail."""
    away = min(BESIDE, (1 - share) / 2)
    return share - away, share + away


def jump(share: float, low: float, high: float) -> str:
    """Say that TTFT jumps at a percentile between the times beside it, '' where it does not. [s]"""
    if high < JUMP * low:
        return ""
    (less, more), at = sides(share), f"P{100 * share:g}"
    return (
        f"TTFT jumps at {at}: {show_percent(less)} of the requests keep {show_time(low)}, {show_percent(more)} "
        f"{show_time(high)}; a small change of load or hits moves {at} from one to the other"
    )


def near_full(share: float) -> str:
    """Say that a server is near the most it can do, '' where it is not."""
    if share <= NEAR_FULL:
        return ""
    swings = "waits are long and swing: in simulations the P95 of 10,000 requests lay between two thirds and twice this"
    return f"at {show_percent(share)} of the most this server can do, {swings}"
