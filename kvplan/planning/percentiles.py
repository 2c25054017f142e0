"""From a server's mean times to those at a percentile of its requests: all of the search's percentile arithmetic."""

from statistics import NormalDist
from typing import Any

import numpy as np

from kvplan.perf.serving import Served

Array = Any
#: times and loads below which nothing is divided
TINY = 1e-12


def percentiles(served: Served, *, percentile: float, longer: float, output: float) -> tuple[Array, Array]:
    """Return TTFT and TPOT that a share `percentile` of the requests stay under. [s]

    `longer` is the prompt at that percentile over the mean prompt, `output` the mean length of an answer [token].
    Waiting is exponential beyond its probability; what other prompts add to the tokens of a request is a Poisson number
    of them. All of it is elementwise: `served` holds numbers or arrays.
    """
    z = NormalDist().inv_cdf(percentile)
    busy, queue = np.maximum(served.busy, 1e-9), np.maximum(served.wait, 0.0)
    waiting = queue / busy * np.maximum(np.log(busy / (1 - percentile)), 0.0)
    spread = np.hypot((longer - 1) * served.own, np.maximum(waiting - queue, 0.0))
    decode = np.minimum(served.step, served.tpot)
    delays = np.maximum(served.tpot - decode, 0.0)
    count = np.maximum(delays * output / np.maximum(served.prompt_seconds, TINY), 1.0)
    return served.ttft + spread, served.tpot + z * delays / np.sqrt(count)
