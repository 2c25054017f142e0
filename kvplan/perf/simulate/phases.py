"""Phases of a closed loop whose answers are all of one length: how far requests that started together are parted.

Alike in everything, they would end, come and be read together for ever. Those of real servers do not, and the fit says
how far they are apart: `met` is how many prompts of others a request meets beyond those that chance brings
(`serving.passing_prompts`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil

import numpy as np

from kvplan.perf.serving import LENGTH_SPREAD
from kvplan.perf.simulate.run import Piece
from kvplan.specs.calibration import Calibration


def parting(c: Calibration, *, slots: float, prompt: float, output: float, spread: float, poll: float) -> float:
    """Return the steps of a cycle over which the starts of a lane's requests are spread; 0: as lengths part them.

    Of the `poll` + 1/2 steps for which a request waits, a share holds prompts of others: that of all steps, and `met`
    more in all. In as dense a convoy `slots` prompts take that many steps: one by one where `met` is large, a whole
    cycle where it is 0. `spread` is the width of the answers' uniform distribution over their mean. [step]
    """
    if slots <= 1 or not c.mixes:
        return 0.0
    reading = slots * ceil(prompt / float(c.chunk))
    met = min(float(c.met), slots - 1)
    dense = min(reading / output + met / (poll + 0.5), 1.0)
    return min(reading / dense, output) * max(1.0 - spread / LENGTH_SPREAD, 0.0)


def parted(pieces: Iterable[Piece], window: float, *, many: int, lanes: int, seed: int) -> Iterator[Piece]:
    """Yield the requests of a closed loop of `many` in flight, the first answer of each slot up to `window` shorter.

    So the later ones, all alike, start at as many phases: one in each of equal parts of the window, at random in it,
    on every lane. Only the first answers tell how long a slot is taken: their number is one of each cycle. [token]
    """
    rng = np.random.default_rng(seed)
    each = -(-many // lanes)
    phases = np.array([rng.permutation(each) + rng.random(each) for _ in range(lanes)]) / each
    early, at = (phases.T.ravel()[:many] * window).astype(int), 0
    for p in pieces:
        output, now = np.array(p.output), early[at : at + len(p)]
        output[: len(now)] = np.maximum(output[: len(now)] - now, 1)
        at += len(p)
        yield replace(p, output=output)
