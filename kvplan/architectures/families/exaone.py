"""EXAONE 4."""

from collections.abc import Callable

from kvplan.architectures.attention import every, mixed
from kvplan.architectures.config import Config
from kvplan.architectures.decoders import plain
from kvplan.architectures.parts import Body
from kvplan.architectures.registry import family


@family("exaone4")
def exaone4(c: Config) -> Body:
    """Read EXAONE 4: sliding and full layers by its pattern, norms on q and k."""
    return plain(c, *mixed(c, exaone_rule(c)), qk_norm="head")


def exaone_rule(c: Config) -> Callable[[int], str]:
    """EXAONE 4: every sliding_window_pattern-th layer is full (4, or a string such as 'LLLG'); no window: all full."""
    if not c.optional("sliding_window"):
        return lambda i: "full"
    pattern = c.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern:
        return lambda i: "sliding" if pattern[i % len(pattern)] == "L" else "full"
    return every(c.whole("sliding_window_pattern", pattern, low=0), "sliding")
