"""What was fitted of servers: how far GPUs, engines, models and their pairs are from the priors of the terms.

The logarithm of a term is its prior, plus what all servers have in common (base), plus what was found of this GPU, this
engine, the two together, the engine's release, the model, the model under this engine and under this release, its
number format there, and the benchmark run. Each part is shrunk toward none by a width of its own, so a server with few
rows, or none, takes what its parts are known for.
Shares (of a datasheet figure) combine on the logistic scale: none passes 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvplan.specs.calibration import ALL, TERM, Amount, Calibration, Range
from kvplan.specs.eras import era_moves, era_of, launch_of, release_of, same_release
from kvplan.specs.hardware import Gpu
from kvplan.specs.identity import Identity, family, mixture, number_format, shape, stored_bits
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

#: engines whose prompts do not share a step with decoding
APART = ("sglang",)


def mixes(engine: str, version: str) -> bool:
    """Return whether prompts share steps with decoding: not under SGLang, nor before vLLM's V1 engine."""
    return engine not in APART and not (engine == "vllm" and bool(era_of(engine, version)))


#: tokens of prompts that an engine takes into one step where its file (profiles/engines) says nothing of it
CHUNK = 8192.0
#: how sharply shares bend at what `pace` leaves of the datasheet, see `least`
BENDS = 16
#: streaming multiprocessors of a GPU whose file states none: as many as an A100 has, rounded
PROCESSORS = 100

#: what a prediction rests on, best first, by what was measured
SEEN, RELEASE, SIBLING, SERVER, PART, NOWHERE = "seen", "other release", "other GPU", "new model", "one half", "neither"
WAYS = (SEEN, RELEASE, SIBLING, SERVER, PART, NOWHERE)

#: the same in words, as reports count them
SUPPORT = {
    SEEN: "the same model, GPU and release of the engine",
    RELEASE: "the same model and GPU, other releases",
    SIBLING: "the same model, on other GPUs",
    SERVER: "the same GPU and engine, other models",
    PART: "the GPU or the engine, not both together",
    NOWHERE: "neither the GPU nor the engine",
}


def calibration(
    values: Mapping[str, Amount],
    *,
    gpu: Gpu | Any,
    engine: str,
    mixes: Amount,
    tpot: Range,
    ttft: Range,
    chunk: Amount = CHUNK,
    **note: Any,
) -> Calibration:
    """Return effective rates: shares times the GPU's datasheet. A width the GPU cannot multiply runs at 16 bits.

    Of cards that PCIe alone joins, `link` is the share of it that `bridge` says. Times are `pace` of what shares make
    them, so that a share is at most `pace`: nothing moves or multiplies faster than the datasheet says, narrow weights
    neither.
    """
    pace = values["pace"]
    shares = {t.name: least(values[t.name], pace) for t in ALL if t.of}
    reached = {t.name: shares[t.name] * figure(gpu, t.of) if t.of else values[t.name] for t in ALL}
    lacks8, lacks4 = (0.0 + (figure(gpu, of) == 0.0) for of in ("fp8", "fp4"))
    for name, lacks in (("weights8", lacks8), ("weights4", lacks4)):
        unpacked = 1 - lacks + lacks * values["emulated"]
        reached[name] = least(values[name] * unpacked, pace / shares["weights"]) / unpacked
    reached["rate8"] = reached["rate8"] + lacks8 * reached["rate16"]
    reached["rate4"] = reached["rate4"] + lacks4 * reached["rate16"]
    alone = 1.0 * (gpu.joined < 2)
    reached["link"] = (1 - alone) * reached["link"] + alone * reached["bridge"]
    return Calibration(
        engine=engine, reached=reached, unpacks8=lacks8, unpacks4=lacks4, mixes=mixes, chunk=chunk, tpot=tpot,
        ttft=ttft, joined=gpu.joined, processors=getattr(gpu, "sms", None) or PROCESSORS, **note,
    )  # fmt: skip


def least(a: Amount, b: Amount) -> Amount:
    """Return the lesser of two amounts, smoothly: 4 % less where both are alike, 1 % where one is a tenth more."""
    return a * (1 + (a / b) ** BENDS) ** (-1 / BENDS)


def figure(gpu: Gpu | Any, name: str) -> Amount:
    """Return a figure of a GPU's datasheet, 0 where it has none (in arrays as well)."""
    value = getattr(gpu, name)
    return 0.0 if value is None else value


# -- profiles -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServingProfile:
    """What was fitted of servers. `moves[level][who][term]` are logarithms of factors; base ones under ("base", "").

    `cells[gpu, engine, family]` names the releases behind a model on a pair ('' for one not stated); `measured` the
    models behind a pair, and `rows` how many were fitted. `ranges[basis]` are 10th and 90th percentiles of measured
    over predicted (tpot, ttft) by what a prediction rests on; "seen" ones also by pair. `speculative` are the runs and
    releases taken with speculative decoding. `loads` are the smallest and largest mean prompt, output [token] and
    concurrency. moves["kernels"] are from measured kernels, by architecture, alone and with the number format.
    """

    name: str  #: as questions and reports call it
    tier: str  #: where its rows were measured
    source: Source  #: who measured them, and when
    moves: Mapping[str, Mapping[str, Mapping[str, float]]]  #: level -> member -> term -> deviation [logarithm]
    measured: Mapping[tuple[str, str], tuple[str, ...]]  #: (GPU, engine) -> names of the models measured
    ranges: Mapping[str, tuple[Range, Range]]  #: what a prediction rests on -> 80 % intervals of TPOT and TTFT
    #: (GPU, engine, family) -> releases measured, '' for one not stated
    cells: Mapping[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)
    speculative: tuple[str, ...] = ()  #: runs and releases taken with speculative decoding
    title: str = ""  #: one line that says what it is
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)  #: (GPU, engine) -> rows fitted
    #: prompt, output [token], concurrency -> smallest and largest mean
    loads: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()  #: GPU architectures measured
    shapes: Mapping[str, str] = field(default_factory=dict)  #: shape of a measured model -> its family

    def known_as(self, model: ModelSpec) -> str:
        """Return the family that a model is looked up as: that of its shape, else the one its file names.

        Another shape of the same class and size was not measured.
        """
        own = family(model)
        alike = self.shapes.get(shape(model))
        return alike or (f"{own}, another shape" if own in self.shapes.values() else own)

    def moved(self, who: Identity) -> dict[str, float]:
        """Return how far every term of a server is from its prior. [logarithm]"""
        names = {"base": "", **who.members()}
        parts = [self.moves.get(level, {}).get(name, {}) for level, name in names.items()]
        parts += [self.moves.get("kernels", {}).get(name, {}) for name in who.kernels]
        parts.append(era_moves(who.engine, who.version))
        offsets = dict.fromkeys(TERM, 0.0)
        for part in parts:
            for name in offsets.keys() & part.keys():
                offsets[name] += part[name]
        return offsets

    def values(self, who: Identity, speculative: bool = False) -> dict[str, float]:
        """Return every term's value for a server."""
        moved = self.moved(who)
        coefficients = {term.name: term.value(moved[term.name]) for term in ALL}
        if not speculative:
            coefficients["accepted"] = 1.0
        return coefficients

    def speculates(self, who: Identity) -> bool:
        """Return whether rows of this run, or else of this engine's release and model, had speculative decoding."""
        names = who.members()
        run = names["sweeps"]
        if run in self.moves.get("sweeps", {}):
            return run in self.speculative
        return names["editions"] in self.speculative

    def basis(self, who: Identity) -> str:
        """Return what a prediction rests on."""
        gpu, engine, model = who.gpu, who.engine, who.model
        if (gpu, engine, model) in self.cells:
            known = who.version and release_of(who.version) in self.cells[gpu, engine, model]
            return SEEN if known or who.members()["sweeps"] in self.moves.get("sweeps", {}) else RELEASE
        # a model on other GPUs says how long a step takes only where this GPU's rates, or its architecture's, are known
        if any(e == engine and m == model for _, e, m in self.cells) and (
            self.knows(gpu) or who.architecture in self.architectures
        ):
            return SIBLING
        if (gpu, engine) in self.measured:
            return SERVER
        return PART if any(gpu == g or engine == e for g, e in self.measured) else NOWHERE

    def interval(self, who: Identity) -> tuple[Range, Range]:
        """Return the ranges of measured over predicted TPOT and TTFT."""
        basis = self.basis(who)
        return named_range(self.ranges, basis, who)

    def planned_interval(self, who: Identity, shipped: "ServingProfile") -> tuple[Range, Range]:
        """Return the ranges of a server that is planned, which is none of those that somebody else measured.

        Rows left out of servers seen had others of their run beside them; a server of the same release that was set up
        anew has none, and is known no better than one whose release was left out.
        """
        own = self.interval(who)
        if self.basis(who) != SEEN or own != shipped.interval(who):  # rows of one's own are of one's own server
            return own
        other = named_range(self.ranges, RELEASE, who)
        tpot, ttft = (Range(low=min(a.low, b.low), high=max(a.high, b.high)) for a, b in zip(own, other, strict=True))
        return tpot, ttft

    def calibrate(
        self, gpu: Gpu, engine: str, about: ModelSpec | None = None, version: str = "", bits: float | None = None,
        shipped: "ServingProfile | None" = None,
    ) -> Calibration:  # fmt: skip
        """Return what a server of this GPU and engine reaches, with a model of which it is known how it fares.

        `shipped` is the profile that this one may have rows of one's own on top of, None for this one. `bits` is the
        width of its weights, None for the checkpoint's own. Nothing is drafted, whatever the rows of the release did:
        plans count drafts themselves.
        """
        who = Identity(
            gpu=gpu.name, engine=engine, version=version, model=self.known_as(about) if about else "",
            architecture=gpu.architecture,
            vendor=gpu.vendor,
            number_format=number_format(gpu, bits or stored_bits(about)) if about else "",
            mixture=about is not None and mixture(about),
        )  # fmt: skip
        basis = self.basis(who)
        tpot, ttft = self.planned_interval(who, shipped or self)
        return calibration(
            self.values(who),
            gpu=gpu,
            engine=engine,
            mixes=float(mixes(engine, version)),
            name=gpu.name,
            tier="datasheet" if basis in (PART, NOWHERE) and not self.knows(gpu.name) else self.tier,
            tpot=tpot,
            ttft=ttft,
            launch=launch_of(engine, version, gpu.architecture),
            basis=basis,
            evidence=self.evidence(basis, who),
            grounded=self.knows(gpu.name),
            sources=(self.source,),
        )

    def release(self, gpu: Gpu, engine: str, about: ModelSpec | None, named: str, usual: str) -> str:
        """Return the release to plan for, as measured rows spell it; '' where that is not known.

        It is the one `named`; where none is, the `usual` one if this model was measured with it on this server.
        """
        here = self.cells.get((gpu.name, engine, self.known_as(about)), ()) if about else ()
        if not named:
            return next((r for r in here if usual and same_release(r, usual)), "")
        elsewhere = [r for (_, of, _), releases in self.cells.items() if of == engine for r in releases]
        known = (r for releases in (here, elsewhere) for r in sorted(releases, key=named.__ne__))
        return next((r for r in known if same_release(r, named)), named)

    def evidence(self, basis: str, who: Identity) -> str:
        """Return what a prediction rests on, in words; where one half was measured, which."""
        known = self.knows(who.gpu)
        if basis == PART:
            elsewhere = any(who.engine == e for _, e in self.measured)
            return BOTH_APART if known and elsewhere else GPU_ALONE if known else ENGINE_ALONE
        return EVIDENCE[basis] + ("" if known or basis == NOWHERE else UNKNOWN)

    def knows(self, gpu: str) -> bool:
        """Return whether any server on this GPU was measured."""
        return any(gpu == g for g, _ in self.measured)


def stood_on(basis: str, who: Identity, own: bool = False, engine: bool = False) -> str:
    """Return what an interval is called: by support, apart for rows collected from many places; of a pair, an engine.

    A pair has two: for releases that were measured on it, and for others or where none is stated.
    """
    name = f"{who.gpu} {who.engine}" if own else f"{basis}, {who.engine}" if engine else basis
    name = f"{name}, {RELEASE}" if own and basis == RELEASE else name
    return f"{name}, collected" if who.source else name


def named_range(ranges: Mapping[str, tuple[Range, Range]], basis: str, who: Identity) -> tuple[Range, Range]:
    """Return the most telling interval there is of what a prediction rests on: of the pair, the engine, or all."""
    own = (stood_on(basis, who, own=True),) if basis in (SEEN, RELEASE) else ()
    names = (*own, stood_on(basis, who, engine=True), stood_on(basis, who), basis)
    return next(ranges[name] for name in names if name in ranges)


def wider(interval: Range) -> Range:
    """Return a range squared, as factors: for what lies outside all that was measured."""
    return Range(low=interval.low**2, high=interval.high**2)


#: added where nothing on the GPU was measured
UNKNOWN = "; no server on this GPU was measured"
#: which half was measured where GPU and engine were not together
BOTH_APART = "this engine was measured on other GPUs, and this GPU with other engines, but not both together"
GPU_ALONE = "this GPU was measured with other engines; no server of this engine was"
ENGINE_ALONE = "this engine was measured on other GPUs; no server on this GPU was"
EVIDENCE = {
    SEEN: "this model was measured on this GPU with this release of the engine",
    RELEASE: "this model was measured on this GPU and engine, with other releases",
    SIBLING: "this model was measured with this engine on other GPUs",
    SERVER: "this GPU and engine were measured with other models",
    NOWHERE: "neither this GPU nor this engine was measured, so datasheet rates are scaled as on measured GPUs",
}
