"""The terms of the serving model, one row each, and what they come to on one GPU under one engine."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log
from typing import Any

from kvplan.specs.source import Source

#: a float, or an array of them (a fit looks at many servers at once)
Amount = Any

#: how sharply shares bend below 1: s = (1 + x^-k)^(-1/k) is x where it is small
SATURATION = 6.0
#: kinds of terms, by what sets them: silicon, launches and host time, the engine's scheduler, counts of kernels
HARDWARE, OVERHEAD, SCHEDULING, COUNT, FACTOR, COLD = "hardware", "overhead", "scheduling", "count", "factor", "cold"


@dataclass(frozen=True, kw_only=True)
class Term:
    """One number of the serving model: its prior value, and how far (in its logarithm) a fit may take it.

    `of` names the figure of the GPU's datasheet that a share is of; shares never pass 1. `kind` says which levels of a
    fit (GPU, engine, model, ...) differ in it, see `LEVELS` of levels.py.
    """

    name: str  #: as profiles and `Calibration` call it
    kind: str  #: what sets it: HARDWARE, OVERHEAD, SCHEDULING, COUNT or FACTOR
    prior: float  #: value before anything is measured [unit]
    width: float  #: standard deviation of its logarithm before anything is measured
    meaning: str  #: in words, as reports show it
    unit: str = ""  #: of its value, '' for a share or factor
    of: str = ""  #: figure of the GPU's datasheet that it is a share of, '' for none

    @property
    def share(self) -> bool:
        """Whether it is a share of a datasheet figure, which never passes 1."""
        return bool(self.of)

    def value(self, moved: Amount, power: Any = exp) -> Amount:
        """Return the term's value, its logarithm moved from the prior by `moved`; shares stay below 1."""
        if not self.share:
            return self.prior * power(moved)
        rest = self.prior**-SATURATION - 1
        return (1 + rest * power(-SATURATION * moved / self._slope)) ** (-1 / SATURATION)

    def move(self, reached: float) -> float:
        """Return how far a value is from the prior: the inverse of `value`."""
        if not self.share:
            return log(reached / self.prior)
        rest = self.prior**-SATURATION - 1
        return -self._slope / SATURATION * log((reached**-SATURATION - 1) / rest)

    @property
    def _slope(self) -> float:
        """How much the logarithm of a small share moves less than one at its prior does."""
        return float(1 - self.prior**SATURATION)


def _row(name: str, kind: str, prior: float, width: float, meaning: str, unit: str = "", of: str = "") -> Term:
    return Term(name=name, kind=kind, prior=prior, width=width, meaning=meaning, unit=unit, of=of)


TERMS = (
    _row("weights", HARDWARE, 0.8, 0.15, "of the memory bandwidth, reading weights", of="bandwidth"),
    _row("weights8", HARDWARE, 1.0, 0.15, "the same for 8-bit weights, relative to 16-bit ones"),
    _row("weights4", HARDWARE, 0.8, 0.2, "the same for 4-bit weights, relative to 16-bit ones"),
    _row("emulated", HARDWARE, 0.8, 0.3, "the same for formats the GPU cannot multiply in, which are unpacked"),
    _row("experts", HARDWARE, 0.8, 0.3, "bandwidth of routed experts, relative to other weights"),
    _row("experts_rate", HARDWARE, 0.4, 0.4, "rate of routed experts, relative to other products"),
    _row("cache", HARDWARE, 0.75, 0.2, "of the memory bandwidth, reading the KV cache", of="bandwidth"),
    _row("rate16", HARDWARE, 0.65, 0.2, "of the 16-bit matrix rate", of="wide"),
    _row("rate8", HARDWARE, 0.5, 0.25, "of the 8-bit matrix rate", of="fp8"),
    _row("rate4", HARDWARE, 0.4, 0.3, "of the 4-bit matrix rate", of="fp4"),
    # 303 measured kernels on prompts from 8,192 tokens (ai-dynamo/aiconfigurator@095f58a): medians of 0.46 to 0.61 on
    # A100, L40S, H100, H200 and B200 under three engines
    _row("prompt", HARDWARE, 0.52, 0.05, "of the 16-bit matrix rate, attention of prompts", of="wide"),
    _row("elements", HARDWARE, 0.5, 0.5, "of the memory bandwidth, norms and activations", of="bandwidth"),
    _row("link", HARDWARE, 0.5, 0.5, "of the link's one-way bandwidth, all-reduce", of="link"),
    # 457 measured collectives of the same source: two L40S, which no NVLink joins, reach 0.63 of it, and eight 0.18 of
    # the quarter that each has then
    _row("bridge", HARDWARE, 0.33, 0.6, "of PCIe's one-way bandwidth, all-reduce of two GPUs that share it", of="pcie"),
    _row("message", OVERHEAD, 8e-6, 0.5, "a message between GPUs", "s"),
    _row("kernel", OVERHEAD, 3.5e-6, 0.4, "a small kernel inside a decode step", "s"),
    _row("eager", OVERHEAD, 3e-6, 0.5, "the same in addition when a prompt is in the step", "s"),
    _row("step", OVERHEAD, 5e-4, 0.7, "an engine step, beside its kernels", "s"),
    _row("sequence", OVERHEAD, 2e-5, 0.8, "a sequence in a step: scheduling, sampling, output", "s"),
    # 131,072 and 32,768 tokens, all of them in a prefix cache, took 0.80 and 0.25 s to the first token on a desktop's
    # processor (LottoLottoLotto/4x3090-llm-benchmarks, vLLM 0.25): 5.6 us each; servers' are assumed twice as fast
    _row("token", OVERHEAD, 3e-6, 0.6, "a token of a prompt: received, tokenised, hashed before its first step", "s"),
    _row("request", SCHEDULING, 0.025, 0.5, "a request, before its first step", "s"),
    _row("cold", COLD, 0.3, 1.0, "kernels that the first wave of a server compiles that nobody warmed up", "s"),
    _row("poll", SCHEDULING, 2.0, 0.8, "wait of a request among others for the scheduler", "steps"),
    _row("wait", SCHEDULING, 1.0, 0.5, "queueing behind other prompts, relative to M/D/1"),
    _row("burst", SCHEDULING, 0.2, 0.7, "part of a common start that later waves keep"),
    # a request sent when another ends comes into the step that reads its predecessor's prompt, and is read in the next
    _row("met", SCHEDULING, 1.0, 0.5, "prompts of others that a request meets where lengths are alike"),
    _row("jitter", SCHEDULING, 0.7, 0.5, "spread of completions that dissolves it, relative to lengths'"),
    _row("accepted", FACTOR, 1.6, 0.2, "steps saved by speculative decoding, as a factor"),
    # below 1 where kernels overlap, which the sum of parts does not know
    _row("pace", FACTOR, 1.0, 0.1, "everything, as a factor"),
)

#: kernels a layer launches for a part, neighbours included (fused ones count as one); fitted for all servers together
KERNELS = {
    "projections": 4.0,
    "mlp": 3.0,
    "experts": 6.0,
    "shared experts": 2.0,
    "router": 2.0,
    "head": 30.0,
    "attention": 4.0,
    "latent": 6.0,
    "index": 12.0,
    "state": 7.0,
    "qk norm": 2.0,
    "quantise": 1.0,
}
KERNEL_WIDTH = 0.4
COUNTS = {part: f"kernels: {part}" for part in KERNELS}
ALL = (
    *TERMS,
    *(_row(COUNTS[part], COUNT, count, KERNEL_WIDTH, f"kernels a layer for {part}") for part, count in KERNELS.items()),
)
TERM = {term.name: term for term in ALL}

#: how much longer a message takes where GPUs cannot write into each other's memory, and NCCL passes it around a
#: ring: 8, 12 and 23 us on 2, 4 and 8 L40S, against 2.4 to 5 us of the engines' own kernels on H100 (the same source)
RING_MESSAGE = 3.0

#: narrow caches against 16-bit ones: bytes saved are not time saved in full. fp8 speeds decode attention up 1.05 to
#: 1.95 times, by engine (kernel rows of ai-dynamo/aiconfigurator): 0.85 makes it 1.7, an assumption, since end-to-end
#: rows do not say how their cache is stored; int4 is bound by dequantisation (0.40 / 0.70 of the bandwidth: assumption)
CACHE8, CACHE4 = 0.85, 0.57


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where true over predicted values lie, 8 times in 10: two factors."""

    low: float  #: 10th percentile of measured over predicted
    high: float  #: 90th percentile

    def wider(self, factor: float) -> "Range":
        """Return the interval with both ends moved out by a factor."""
        return Range(low=self.low / factor, high=self.high * factor)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a server on one GPU under one engine reaches: every term of `ALL` by name, also as an attribute.

    Shares stand multiplied by the datasheet's figure they are of: weights, cache, elements, link, bridge [B/s], rate16,
    rate8, rate4, prompt [FLOP/s]; the others as the table says. `unpacks8` and `unpacks4` are 1 where the GPU cannot
    multiply in such a format. `launch` is what the host takes to launch a kernel where no CUDA graph does it [s],
    `mixes` says whether prompts share steps with decoding, `chunk` how many of their tokens do. `basis` is what its
    intervals stand on, `evidence` the same in words.
    """

    name: str  #: the GPU's name
    engine: str  #: the engine's name in the catalogue
    tier: str  #: where its rates were measured, or that they are the datasheet's
    reached: Mapping[str, Amount]  #: term -> value in its unit; shares times the datasheet's figure [B/s or FLOP/s]
    unpacks8: Amount  #: 1 where the GPU cannot multiply 8-bit operands
    unpacks4: Amount  #: 1 where it cannot multiply 4-bit ones
    mixes: Amount  #: 1 where prompts share a step with decoding
    chunk: Amount  #: prompt tokens that one step takes [token]
    tpot: Range  #: 80 % interval of TPOT
    ttft: Range  #: 80 % interval of TTFT
    joined: Amount = inf  #: GPUs that a link of their own joins; messages among more cross PCIe, which they share
    processors: Amount = 100.0  #: the GPU's streaming multiprocessors, or compute units
    launch: Amount = 0.0  #: host time to launch a kernel without CUDA graphs [s]
    narrowed: bool = True  #: whether narrow caches read at a lower rate (CACHE8, CACHE4)
    basis: str = ""  #: what the intervals rest on, one of WAYS of serving_profile.py
    evidence: str = ""  #: the same in words
    grounded: bool = True  #: whether this GPU was measured
    sources: tuple[Source, ...] = ()  #: who measured it, and when

    def __post_init__(self) -> None:
        # a step's time reads terms ten thousands of times: as attributes, not through a look-up
        self.__dict__.update({name: value for name, value in self.reached.items() if name not in self.__dict__})

    def __getattr__(self, name: str) -> Amount:
        raise AttributeError(f"{type(self).__name__} has no term {name!r}")

    def moved(self, **terms: Amount) -> "Calibration":
        """Return the same with other values for some terms."""
        unknown = sorted(set(terms) - set(self.reached))
        if unknown:
            raise AttributeError(f"no term {unknown[0]!r}")
        return replace(self, reached={**self.reached, **terms})

    def launches(self, part: str) -> Amount:
        """Return the kernels a layer launches for a part."""
        return self.reached[COUNTS[part]]

    def rate(self, bits: Amount) -> Amount:
        """Return the rate of matrix products on operands of so many bits. [FLOP/s]"""
        return pick(bits, self.rate16, self.rate8, self.rate4)

    def read(self, bits: Amount) -> Amount:
        """Return the rate at which attention reads a cache of so many bits an element. [B/s]"""
        return self.cache * (pick(bits, 1.0, CACHE8, CACHE4) if self.narrowed else 1.0)

    def narrow(self, bits: Amount) -> Amount:
        """Return what narrow weights do to the bandwidth they are read at."""
        eight, four = (
            base * (1 - unpacks + unpacks * self.emulated)
            for base, unpacks in ((self.weights8, self.unpacks8), (self.weights4, self.unpacks4))
        )
        return pick(bits, 1.0, eight, four)


def pick(bits: Amount, wide: Amount, eight: Amount, four: Amount) -> Amount:
    """Return the value for elements of so many bits: over 8.5, over 4.5, or fewer; element by element."""
    return (bits > 8.5) * wide + (bits <= 8.5) * (bits > 4.5) * eight + (bits <= 4.5) * four
