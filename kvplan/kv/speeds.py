"""How sure the speed of reading a compressed cache is: as sure as what was measured of its format."""

from kvplan.kv import spelling

#: 80 % interval of measured over predicted time of a cache nobody measured: as wide as the widest measured
UNMEASURED = (0.6, 1.4)
#: the same of 16 bits, whose error both steps of a ratio share
PLAIN = (1.0, 1.0)


def interval(technique: str) -> tuple[tuple[float, float], str]:
    """Return the 80 % interval of a technique's cache time, measured over predicted, and where it was measured."""
    parts = [part for part in spelling.parts(technique) if part[0].factor != "tier"]
    if not parts:
        return PLAIN, "16 bits"
    known = spelling.speeds(technique)
    if len(parts) == len(known):
        measured = "; ".join(s.measured for s in known) if all(s.measured for s in known) else ""
        return (min(s.low for s in known), max(s.high for s in known)), measured
    lows, highs = (s.low for s in known), (s.high for s in known)
    return (min((UNMEASURED[0], *lows)), max((UNMEASURED[1], *highs))), ""
