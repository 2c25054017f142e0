"""The terms of a serving model, what they mean, and how a profile's deviations make them one GPU's and engine's.

A term's value is its base value, times what was found of this GPU, of this engine, of the two together, and (for a few)
of this engine version. A server with few rows, or none, so takes what its GPU and its engine are known for. There is
never a term per model. Shares (of a datasheet figure) combine on the logistic scale: none passes 1.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.specs.calibration import Amount, Calibration, Range
from kvplan.specs.hardware import Gpu
from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class Term:
    """One fitted number: its prior value and how far (in its logarithm) a fit may take it.

    `own` says whether GPUs and engines differ in it, `release` how much versions of an engine do.
    """

    name: str
    prior: float
    width: float
    meaning: str
    unit: str = ""
    share: bool = False
    own: bool = True
    release: float = 0.0


TERMS = (
    Term(name="weights", prior=0.8, width=0.3, share=True, meaning="of the memory bandwidth, reading weights"),
    Term(name="weights8", prior=1.0, width=0.2, meaning="the same for 8-bit weights, relative to 16-bit ones"),
    Term(name="weights4", prior=0.8, width=0.2, meaning="the same for 4-bit weights, relative to 16-bit ones"),
    Term(name="experts", prior=1.0, width=0.4, meaning="bandwidth of routed experts, relative to other weights"),
    Term(name="experts_rate", prior=0.4, width=0.4, meaning="rate of routed experts, relative to other products"),
    Term(name="cache", prior=0.7, width=0.3, share=True, meaning="of the memory bandwidth, reading the KV cache"),
    Term(name="rate16", prior=0.65, width=0.3, share=True, meaning="of the 16-bit matrix rate"),
    Term(name="rate8", prior=0.5, width=0.3, share=True, meaning="of the 8-bit matrix rate"),
    Term(name="rate4", prior=0.4, width=0.3, share=True, meaning="of the 4-bit matrix rate"),
    Term(name="prompt", prior=0.45, width=0.4, share=True, meaning="of the 16-bit matrix rate, attention of prompts"),
    Term(name="elements", prior=0.5, width=0.5, share=True, meaning="of the memory bandwidth, norms and activations"),
    Term(name="link", prior=0.5, width=0.5, share=True, meaning="of the link's one-way bandwidth, all-reduce"),
    Term(name="message", prior=8e-6, width=0.5, unit="s", meaning="a message between GPUs"),
    Term(name="kernel", prior=3.5e-6, width=0.4, unit="s", meaning="a small kernel inside a decode step"),
    Term(name="eager", prior=3e-6, width=0.5, unit="s", meaning="the same in addition when a prompt is in the step"),
    Term(name="step", prior=5e-4, width=0.7, unit="s", meaning="an engine step, beside its kernels"),
    Term(
        name="sequence", prior=2e-5, width=0.8, unit="s", meaning="a sequence in a step: scheduling, sampling, output"
    ),
    Term(name="request", prior=0.025, width=0.5, unit="s", release=0.4, meaning="a request, before its first step"),
    Term(name="poll", prior=2.0, width=0.8, unit="steps", release=0.4, meaning="wait of a request for the scheduler"),
    Term(name="wait", prior=1.0, width=0.5, meaning="queueing behind other prompts, relative to M/D/1"),
    Term(name="burst", prior=0.1, width=0.7, release=0.4, meaning="part of a common start that later waves keep"),
    Term(name="jitter", prior=0.7, width=0.5, meaning="spread of completions that dissolves it, relative to lengths'"),
    Term(name="accepted", prior=1.6, width=0.2, own=False, meaning="steps saved by speculative decoding, as a factor"),
    Term(name="pace", prior=1.0, width=0.02, own=False, release=0.05, meaning="everything, as a factor"),
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
KERNEL_TERMS = tuple(
    Term(name=f"kernels: {part}", prior=count, width=KERNEL_WIDTH, own=False, meaning=f"kernels a layer for {part}")
    for part, count in KERNELS.items()
)
ALL = (*TERMS, *KERNEL_TERMS)
NAMES = tuple(term.name for term in ALL)

#: how far GPUs, engines and their pairs deviate, as standard deviations of logarithms
LEVELS = {"gpus": 0.15, "engines": 0.15, "servers": 0.15}

#: narrow caches against 16-bit ones: bytes saved are not time saved in full. fp8 speeds decode attention up 1.05 to
#: 1.95 times, by engine (kernel rows of ai-dynamo/aiconfigurator): 0.85 makes it 1.7, an assumption, since end-to-end
#: rows do not say how their cache is stored; int4 is bound by dequantisation (0.40 / 0.70 of the bandwidth: assumption)
CACHE8, CACHE4 = 0.85, 0.57

#: engines whose prompts do not share a step with decoding
APART = ("sglang",)
#: tokens of prompts an engine takes into one step: vLLM's max_num_batched_tokens on large GPUs, taken for all engines
CHUNK = 8192.0

#: what an interval rests on, best first: rows of this model on this server, of the server, of GPU or engine, of neither
SEEN, SERVER, ELSEWHERE, NOWHERE = "seen", "new model", "new server", "new GPU"


def value(term: Term, moved: Amount, power: Any = exp) -> Amount:
    """Return a term's value, its logarithm moved from the prior by `moved`; shares stay below 1."""
    if not term.share:
        return term.prior * power(moved)
    odds = (1 - term.prior) / term.prior
    return 1 / (1 + odds * power(-moved / (1 - term.prior)))


def move(term: Term, reached: float) -> float:
    """Return how far a value is from the prior: the inverse of `value`."""
    if not term.share:
        return log(reached / term.prior)
    return -(1 - term.prior) * log((1 / reached - 1) * term.prior / (1 - term.prior))


def calibration(
    values: Mapping[str, Amount], *, gpu: Gpu | Any, engine: str, mixes: Amount, tpot: Range, ttft: Range, **said: Any
) -> Calibration:
    """Return effective rates: shares times the GPU's datasheet. A width the GPU cannot multiply runs at 16 bits."""
    rate16 = values["rate16"] * gpu.wide
    return Calibration(
        engine=engine,
        weights=values["weights"] * gpu.bandwidth,
        weights8=values["weights8"],
        weights4=values["weights4"],
        experts=values["experts"],
        experts_rate=values["experts_rate"],
        cache16=values["cache"] * gpu.bandwidth,
        cache8=values["cache"] * gpu.bandwidth * CACHE8,
        cache4=values["cache"] * gpu.bandwidth * CACHE4,
        rate16=rate16,
        rate8=native(values["rate8"], gpu.fp8, rate16),
        rate4=native(values["rate4"], gpu.fp4, rate16),
        prompt=values["prompt"] * gpu.wide,
        elements=values["elements"] * gpu.bandwidth,
        link=values["link"] * gpu.link,
        kernels={part: values[f"kernels: {part}"] for part in KERNELS},
        **{
            name: values[name]
            for name in (
                "message", "kernel", "eager", "step", "sequence", "request", "poll", "wait", "burst", "jitter",
                "accepted", "pace",
            )
        },
        mixes=mixes,
        chunk=CHUNK,
        tpot=tpot,
        ttft=ttft,
        **said,
    )  # fmt: skip


def native(share: Amount, rate: Amount, wide: Amount) -> Amount:
    """Return the rate of a format, the 16-bit one where the GPU lacks it (None, or 0 in an array)."""
    rate = 0.0 if rate is None else rate
    return share * rate + (rate == 0.0) * wide


# -- profiles -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServingProfile:
    """What was fitted of servers. `moves[level][who][term]` are logarithms of factors; base ones under ("base", "").

    `measured[gpu, engine]` names the models behind a pair; `ranges[who]` are 10th and 90th percentiles of measured
    over predicted (tpot, ttft) by what an interval rests on, and by pair; `rows[pair]` were fitted.
    `loads` are the smallest and largest mean prompt, output [token] and concurrency among them, `architectures` their
    GPUs'. moves["kernels"] are by architecture, from measured kernels of GPUs without measured servers.
    """

    name: str
    tier: str
    source: Source
    moves: Mapping[str, Mapping[str, Mapping[str, float]]]
    measured: Mapping[tuple[str, str], tuple[str, ...]]
    ranges: Mapping[str, tuple[Range, Range]]
    speculative: tuple[str, ...] = ()
    title: str = ""
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    loads: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()

    def moved(self, gpu: str, engine: str, version: str = "", architecture: str = "") -> dict[str, float]:
        """Return how far every term of a server is from its prior. [logarithm]

        A GPU without measured servers takes what the kernels of its architecture are known for.
        """
        who = {
            "base": "",
            "gpus": gpu,
            "engines": engine,
            "servers": f"{gpu} {engine}",
            "releases": f"{engine} {version}",
        }
        if gpu not in self.moves.get("gpus", {}):
            who["kernels"] = architecture
        parts = [part for level, name in who.items() if (part := self.moves.get(level, {}).get(name))]
        return {term: sum(part.get(term, 0.0) for part in parts) for term in NAMES}

    def values(
        self, gpu: str, engine: str, version: str = "", speculative: bool = False, architecture: str = ""
    ) -> dict[str, float]:
        """Return every term's value for a server."""
        moved = self.moved(gpu, engine, version, architecture)
        found = {term.name: value(term, moved[term.name]) for term in ALL}
        if not speculative:
            found["accepted"] = 1.0
        return found

    def speculates(self, engine: str, version: str) -> bool:
        """Return whether rows of this engine version were taken with speculative decoding."""
        return f"{engine} {version}" in self.speculative

    def basis(self, gpu: str, engine: str, models: Collection[str]) -> str:
        """Return what a prediction for a model, known under these names, rests on."""
        if (gpu, engine) in self.measured:
            return SEEN if set(models) & set(self.measured[gpu, engine]) else SERVER
        return ELSEWHERE if any(gpu == g for g, _ in self.measured) else NOWHERE

    def interval(self, gpu: str, engine: str, models: Collection[str], architecture: str = "") -> tuple[Range, Range]:
        """Return the ranges of measured over predicted TPOT and TTFT.

        They are squared for a GPU or an engine with no relative among the measured ones: those left out of the fit in
        turn had one (H100 and H200, B200 and B300).
        """
        basis = self.basis(gpu, engine, models)
        if basis == SEEN and f"{gpu} {engine}" in self.ranges:
            return self.ranges[f"{gpu} {engine}"]
        found = self.ranges[basis]
        known = architecture in self.architectures if basis == NOWHERE else any(engine == e for _, e in self.measured)
        return found if known else (wider(found[0]), wider(found[1]))

    def calibrate(self, gpu: Gpu, engine: str, models: Collection[str] = (), version: str = "") -> Calibration:
        """Return what a server of this GPU and engine reaches."""
        basis = self.basis(gpu.name, engine, models)
        tpot, ttft = self.interval(gpu.name, engine, models, gpu.architecture)
        return calibration(
            self.values(gpu.name, engine, version, self.speculates(engine, version), gpu.architecture),
            gpu=gpu,
            engine=engine,
            mixes=float(engine not in APART),
            name=gpu.name,
            tier="datasheet" if basis == NOWHERE else self.tier,
            tpot=tpot,
            ttft=ttft,
            doubt=DOUBTS[basis],
            grounded=basis != NOWHERE,
            sources=(self.source,),
        )


def wider(found: Range) -> Range:
    """Return a range squared, as factors: for what lies outside all that was measured."""
    return Range(low=found.low**2, high=found.high**2)


DOUBTS = {
    SEEN: "this model was measured on this GPU and engine; the range is that of rows left out of the fit",
    SERVER: "this GPU and engine were measured with other models; the range is that of models left out of the fit",
    ELSEWHERE: "this GPU was measured under other engines; the range is that of servers left out of the fit",
    NOWHERE: "no server on this GPU was measured: its datasheet times what measured GPUs reach of theirs; the range is "
    "that of GPUs left out of the fit, squared where none of its architecture was measured",
}


def read_serving_profile(raw: Mapping[str, Any], source: Source, where: str) -> ServingProfile:
    """Return a serving profile from its document."""
    try:
        moves = {
            level: {
                str(who): {
                    str(name): log(_positive(factor, f"{where}: {level}: {who}: {name}"))
                    for name, factor in found.items()
                }
                for who, found in raw["factors"][level].items()
            }
            for level in raw["factors"]
        }
        base = {
            name: move(TERM[name], _positive(reached, f"{where}: terms: {name}"))
            for name, reached in raw["terms"].items()
        }
        loads = {str(what): _span(found, f"{where}: loads: {what}") for what, found in raw.get("loads", {}).items()}
        rows = {
            _pair(who, where): int(_positive(entry["rows"], f"{where}: measured: {who}: rows"))
            if "rows" in entry
            else 0
            for who, entry in raw["measured"].items()
        }
        ranges = {str(who): (_range(r["tpot"], where), _range(r["ttft"], where)) for who, r in raw["intervals"].items()}
        if missing := next((basis for basis in (SEEN, SERVER, ELSEWHERE, NOWHERE) if basis not in ranges), None):
            raise SpecError(f"{where}: intervals: {missing} is missing; write such files with kvplan calibrate")
        measured = {_pair(who, where): tuple(map(str, entry["models"])) for who, entry in raw["measured"].items()}
    except KeyError as error:
        raise SpecError(f"{where}: missing or unknown {error}; write such files with kvplan calibrate") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SpecError(
            f"{where}: is no serving profile ({shown(str(error))}); write one with kvplan calibrate"
        ) from None
    return ServingProfile(
        name=str(raw.get("name", where)),
        tier=str(raw.get("tier", "measured elsewhere")),
        source=source,
        moves={**moves, "base": {"": base}},
        measured=measured,
        ranges=ranges,
        speculative=tuple(map(str, raw.get("speculative", ()))),
        title=str(raw.get("title", "")),
        rows=rows,
        loads=loads,
        architectures=tuple(map(str, raw.get("architectures", ()))),
    )


TERM = {term.name: term for term in ALL}


def _positive(found: object, where: str) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < 1e30:
        raise SpecError(f"{where}: expected a number above zero, got {shown(found)}")
    return float(found)


def _range(found: Any, where: str) -> Range:
    low, high = _span(found, f"{where}: intervals")
    return Range(low=low, high=high)


def _span(found: Any, where: str) -> tuple[float, float]:
    """Read two numbers above zero, the smaller first."""
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise SpecError(f"{where}: expected two numbers, as in [0.9, 1.1], got {shown(found)}")
    low, high = (_positive(end, where) for end in found)
    if low > high:
        raise SpecError(f"{where}: {low:g} is above {high:g}")
    return low, high


def _pair(who: str, where: str) -> tuple[str, str]:
    """Read a server's name: its GPU and its engine."""
    gpu, gap, engine = who.partition(" ")
    if not gap:
        raise SpecError(f"{where}: measured: expected a GPU and an engine, as in 'h200 vllm', got {shown(who)}")
    return gpu, engine
