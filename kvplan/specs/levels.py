"""Ways in which servers differ, and how far each lets a term of the serving model deviate from its prior."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvplan.specs.calibration import HARDWARE, OVERHEAD, SCHEDULING, Term


@dataclass(frozen=True, kw_only=True)
class Level:
    """One way in which servers differ: widths of deviations (standard deviations of logarithms) by kind of term.

    `named` are widths of single terms, before those of their kind.
    """

    name: str  #: as profiles call it
    kinds: Mapping[str, float] = field(default_factory=dict)  #: kind of term -> width [logarithm]
    named: Mapping[str, float] = field(default_factory=dict)  #: term -> width, in place of its kind's [logarithm]

    def width(self, term: Term) -> float:
        """Return how far this level lets a term deviate [logarithm], 0 where not at all."""
        return self.named.get(term.name, self.kinds.get(term.kind, 0.0))


def _kinds(hardware: float, overhead: float, scheduling: float) -> dict[str, float]:
    return {HARDWARE: hardware, OVERHEAD: overhead, SCHEDULING: scheduling}


#: A datasheet is the prior of a GPU, and kernels measured on a dozen of them reach alike shares of it: narrow, and so
#: is attention of prompts, which kernels tell. Engines differ by kernels and most by schedulers; kernels are
#: written for one architecture (a platform), so that B200 tells B300 what H100 cannot; releases fuse kernels and make
#: hosts faster. Models differ by what the physics leaves out (shapes of their products, balance of their experts),
#: engines by how well they were tuned for one, from release to release and on all GPUs (editions), and by their kernels
#: for a number format; mixtures of experts have kernels of their own on each GPU, so that what slows them is not held
#: against its dense models (mixtures). A server keeps its launch script from release to release. What one collection
#: measured on a GPU ran on one machine's processor and operating system, which tells nobody else (hosts). A run differs
#: by what its record leaves out: narrow, so that what runs share stays with their release, model and GPU. Widths of
#: overheads and scheduling are those of the largest evidence.
LEVELS = (
    Level(name="vendors", kinds=_kinds(0.25, 0.45, 0.20), named={"prompt": 0.1}),
    Level(name="architectures", kinds=_kinds(0.10, 0.10, 0.05), named={"prompt": 0.05}),
    Level(name="gpus", kinds=_kinds(0.03, 0.05, 0.18), named={"pace": 0.03}),
    Level(name="mixtures", named={"pace": 0.15, "experts": 0.1, "experts_rate": 0.1}),
    Level(name="engines", kinds=_kinds(0.10, 0.17, 0.40), named={"prompt": 0.05, "cold": 1.0}),
    Level(name="platforms", kinds=_kinds(0.12, 0.30, 0.0), named={"prompt": 0.05}),
    Level(name="servers", kinds=_kinds(0.03, 0.05, 0.14)),
    Level(name="eras", kinds={OVERHEAD: 0.8, SCHEDULING: 0.3}),
    Level(name="releases", kinds={OVERHEAD: 0.23}, named={"request": 0.2, "poll": 0.28, "burst": 0.2, "pace": 0.07}),
    Level(name="models", kinds=_kinds(0.12, 0.23, 0.57), named={"prompt": 0.05}),
    Level(name="ports", kinds=_kinds(0.10, 0.08, 0.10), named={"prompt": 0.05, "cold": 1.0}),
    Level(name="editions", named={"request": 0.3, "poll": 0.6, "burst": 0.32, "pace": 0.07}),
    Level(name="builds", named={"experts": 0.15, "experts_rate": 0.15, "weights": 0.05, "kernel": 0.05}),
    Level(name="own", named={"poll": 0.2, "request": 0.12, "burst": 0.15}),
    Level(name="origins", named={"pace": 0.5, "step": 0.5, "sequence": 0.7, "poll": 0.5, "request": 0.5}),
    Level(
        name="sources",
        named={"pace": 0.15, "step": 0.4, "sequence": 0.65, "bridge": 0.6}
        | {"poll": 1.0, "request": 0.9, "burst": 0.7, "met": 1.0},
    ),
    Level(
        name="hosts",
        named={"pace": 0.2, "step": 0.5, "sequence": 0.33, "request": 0.37, "kernel": 0.3, "eager": 0.3},
    ),
    Level(name="sites", named={"pace": 0.25, "step": 0.25, "sequence": 0.4, "bridge": 0.27}),
    Level(name="sweeps", named={"pace": 0.055, "poll": 0.47, "request": 0.2, "burst": 0.27, "cold": 1.0}),
)

#: on top of a profile, rows of one's own move their server (GPU, engine and model) by what they need
OWN = (
    Level(name="own", kinds=_kinds(0.08, 0.08, 0.3), named={"pace": 0.08}),
    Level(name="servers", kinds=_kinds(0.2, 0.25, 0.5), named={"pace": 0.05}),
    Level(name="releases", named={"request": 0.4, "poll": 0.4, "burst": 0.4, "pace": 0.1}),
)
