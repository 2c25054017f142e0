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
    """Return over how many steps of a cycle a lane's requests come to be spread; 0: only as their lengths part them.

    A request waits `poll` + 1/2 steps. Of all steps as many hold a prompt as `slots` prompts take of a cycle; the ones
    that it waits hold `met` more in all. So its neighbours are that dense: one prompt a step at most, where `met` is
    large, and over the whole cycle where it is 0. `spread` is the width of the answers' uniform distribution over their
    mean: what parts them otherwise. [step]
    """
    if slots <= 1 or not c.mixes:
        return 0.0
    reading = slots * ceil(prompt / float(c.chunk))
    met = min(float(c.met), slots - 1)
    dense = min(reading / output + met / (poll + 0.5), 1.0)
    return min(reading / dense, output) * max(1.0 - spread / LENGTH_SPREAD, 0.0)


def parted(pieces: Iterable[Piece], window: float, *, many: int, lanes: int, seed: int) -> Iterator[Piece]:
    """Yield the requests of a closed loop of `many` in flight, the first answers up to `window` tokens shorter.

    All start together; the next ones then come at as many phases, one at random in each equal part of the window, and
    keep them, since they are alike. On each of the `lanes` likewise, if requests go round them.
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
