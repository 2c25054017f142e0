"""Which techniques a table speaks for: what the engine serves at little loss, what is slower, what loses most."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.planning.techniques import Weighed

#: expected loss that is little, and one that no workload bears, of 1
LITTLE, MUCH = 0.01, 0.1
#: a step this much longer than the uncompressed one is slower: servers measured were within it of the model
SLOWER = 1.05


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Techniques by what speaks for or against them, each the best first."""

    good: tuple[Weighed, ...]  #: served here, with little loss, no slower, and fewer bytes: fewest first
    slow: tuple[Weighed, ...]  #: served here, with fewer bytes, but with longer steps at load: slowest last
    lossy: tuple[Weighed, ...]  #: served here and no slower, but with more than little loss
    elsewhere: tuple[Weighed, ...]  #: with little loss and the fewest bytes, but not served here
    ruinous: tuple[Weighed, ...]  #: expected to lose much


def choose(rows: Sequence[Weighed]) -> Chosen:
    """Return what a table of techniques speaks for; compositions of unknown loss are left out."""
    known = sorted(filter(saving, rows), key=stored)
    here, elsewhere = [w for w in known if w.here], [w for w in known if not w.here]
    fast = [w for w in here if not slower(w)]
    good = tuple(filter(little, fast))
    fewest = min(map(stored, good), default=1.0)
    return Chosen(
        good=good,
        slow=tuple(sorted(filter(slower, here), key=longer)),
        lossy=tuple(w for w in fast if not little(w)),
        elsewhere=tuple(w for w in elsewhere if little(w) and not slower(w) and stored(w) < fewest),
        ruinous=tuple(w for w in known if (w.quality.drop or 0.0) > MUCH),
    )


def saving(w: Weighed) -> bool:
    """Whether a technique saves bytes, and its time at load and its loss are known."""
    return w.row.feasible and w.load is not None and w.quality.drop is not None and stored(w) < 1


def stored(w: Weighed) -> float:
    """Return the bytes of a sequence over the uncompressed ones, 1 where they are unknown or none."""
    return w.stored or 1.0


def longer(w: Weighed) -> float:
    """Return how much longer a step takes at load than an uncompressed one, 1 where that is unknown."""
    return w.load.middle if w.load else 1.0


def little(w: Weighed) -> bool:
    """Whether a technique is expected to lose little."""
    return w.quality.within(LITTLE)


def slower(w: Weighed) -> bool:
    """Whether its steps are expected to take longer than uncompressed ones at load."""
    return longer(w) > SLOWER
