"""How fast a device and an engine really are: effective rates, overheads, and how far off a prediction may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.specs.source import Source

#: a float, or an array of them (a fit looks at many servers at once)
Amount = Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where true over predicted values lie, 8 times in 10: two factors."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a server on one GPU under one engine reaches.

    weights, elements [B/s]; `experts` and `experts_rate` are factors on bandwidth and rate of routed experts;
    `weights8` and `weights4` on the bandwidth of narrow weights. cache, rate: by bits of an element [B/s], of an
    operand [FLOP/s]; prompt: attention of prompts [FLOP/s]. link [B/s], message [s]. kernel: launch of one of
    `kernels` a layer [s]; eager: the same when prompts are in the step, step, sequence, request [s], poll [steps].
    `wait`, `burst` and `jitter` shape queueing, see perf/serving.py. `accepted` tokens a step under speculative
    decoding, `pace` scales everything. `mixes` says whether prompts share steps with decoding, `chunk` how many of
    their tokens do.
    """

    name: str
    engine: str
    tier: str
    weights: Amount
    weights8: Amount
    weights4: Amount
    experts: Amount
    experts_rate: Amount
    cache16: Amount
    cache8: Amount
    cache4: Amount
    rate16: Amount
    rate8: Amount
    rate4: Amount
    prompt: Amount
    elements: Amount
    link: Amount
    message: Amount
    kernel: Amount
    kernels: Mapping[str, Amount]
    eager: Amount
    step: Amount
    sequence: Amount
    request: Amount
    poll: Amount
    wait: Amount
    burst: Amount
    jitter: Amount
    accepted: Amount
    pace: Amount
    mixes: Amount
    chunk: float
    tpot: Range
    ttft: Range
    doubt: str = ""
    grounded: bool = True
    sources: tuple[Source, ...] = ()

    def rate(self, bits: Amount) -> Amount:
        """Return the rate of matrix products on operands of so many bits. [FLOP/s]"""
        return pick(bits, self.rate16, self.rate8, self.rate4)

    def cache(self, bits: Amount) -> Amount:
        """Return the rate at which attention reads a cache of so many bits an element. [B/s]"""
        return pick(bits, self.cache16, self.cache8, self.cache4)

    def narrow(self, bits: Amount) -> Amount:
        """Return what narrow weights do to the bandwidth they are read at."""
        return pick(bits, 1.0, self.weights8, self.weights4)


def pick(bits: Amount, wide: Amount, eight: Amount, four: Amount) -> Amount:
    """Return the value for elements of so many bits: over 8.5, over 4.5, or fewer; element by element."""
    return (bits > 8.5) * wide + (bits <= 8.5) * (bits > 4.5) * eight + (bits <= 4.5) * four
