"""What was fitted of which GPU, engine and kernel; finding what stands nearest to a shape, and predicting it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import inf, log
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.perf import kernel_time as kt
from kvplan.specs.hardware import Gpu
from kvplan.specs.source import Source
from kvplan.units import parse

#: bits of an element as kernels store it, scales included; (weights, activations) of a product
BITS = {"bfloat16": 16.0, "float16": 16.0, "half": 16.0, "float32": 32.0, "fp8": 8.0, "int8": 8.0}
CACHE_BITS = {**BITS, "int4": 4.5}
PRODUCT_BITS = {
    **{name: (bits, bits) for name, bits in BITS.items()},
    "nvfp4": (4.5, 4.5),
    "int8_wo": (8.0, 16.0),
    "int4_wo": (4.0, 16.0),
}

#: a cache under this many times the L2 is read partly from it when a benchmark repeats
RESIDENT = 2.0


@dataclass(frozen=True, kw_only=True)
class KernelCall:
    """One kernel call: on what, by what, and how large. `dtypes` are (operands,) or (computing, cache)."""

    kind: str  #: name of its kind in KINDS
    gpu: str  #: the GPU's name in the catalogue
    engine: str  #: whose kernel it is: vllm, trtllm, sglang, nccl, ...
    version: str  #: engine with its release, as rows state it
    kernel: str  #: the kernel's own name
    dtypes: tuple[str, ...]  #: (operands,) or (computing, cache)
    sizes: Mapping[str, int]  #: size -> value, by the names of the kind's columns

    @property
    def key(self) -> str:
        """Kernel and dtypes in one text, as a profile's entry is called."""
        return " ".join((self.kernel, *self.dtypes))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of kernel: columns of its rows, how a shape becomes work and time, and which shapes are fitted apart."""

    name: str  #: as tables and commands call it
    sizes: tuple[str, ...]  #: columns of sizes
    texts: tuple[str, ...]  #: columns of names
    kernel: str  #: column that names the kernel
    dtypes: tuple[str, ...]  #: columns of dtypes
    coefficients: type  #: dataclass of its coefficients
    work: Callable[[KernelCall, Gpu, Any], Any]  #: a call's counted work on a GPU, under coefficients
    algebra: Callable[[Any, Any], Any]  #: time of counted work under coefficients [s]
    #: name of the part a call is fitted with: (sizes, bits of an element, bytes of the L2)
    part: Callable[[Mapping[str, int], float, float], str]
    regime: Callable[[Mapping[str, int]], str]  #: name of the interval a call has


def sms(gpu: Gpu) -> int:
    """Return a GPU's SM count; where its file has none, an H100's."""
    return gpu.sms or 132


def l2(gpu: Gpu) -> float:
    """Return the size of a GPU's L2; where its file has none, an H100's. [B]"""
    return gpu.l2 or 5e7


def element_bits(dtype: str) -> float:
    """Return the width of a cache's or message's elements, scales included [bit]; SpecError for an unknown dtype."""
    if dtype not in CACHE_BITS:
        raise SpecError(f"dtype {shown(dtype)} is unknown; known: {', '.join(CACHE_BITS)}")
    return CACHE_BITS[dtype]


def product_bits(dtype: str) -> tuple[float, float]:
    """Return the widths of a product's weights and activations [bit]; SpecError for an unknown dtype."""
    if dtype not in PRODUCT_BITS:
        raise SpecError(f"dtype {shown(dtype)} is unknown; known: {', '.join(PRODUCT_BITS)}")
    return PRODUCT_BITS[dtype]


def _decode_work(shape: KernelCall, gpu: Gpu, c: kt.DecodeCoefficients) -> kt.DecodeWork:
    s = shape.sizes
    return kt.decode_work(
        batch=s["batch"],
        q_heads=s["q_heads"],
        kv_heads=s["kv_heads"],
        head_dim=s["head_dim"],
        kv_len=s["kv_len"],
        bits=element_bits(shape.dtypes[-1]),
        sms=sms(gpu),
        c=c,
    )


def _latent_work(shape: KernelCall, gpu: Gpu, c: kt.LatentCoefficients) -> kt.LatentWork:
    s = shape.sizes
    bits = element_bits(shape.dtypes[-1])
    return kt.latent_work(batch=s["batch"], q_heads=s["q_heads"], kv_len=s["kv_len"], bits=bits, sms=sms(gpu), c=c)


def _prefill_work(shape: KernelCall, gpu: Gpu, c: kt.PrefillCoefficients) -> kt.PrefillWork:
    s = shape.sizes
    return kt.prefill_work(
        batch=s["batch"],
        q_heads=s["q_heads"],
        kv_heads=s["kv_heads"],
        head_dim=s["head_dim"],
        length=s["isl"],
        bits=element_bits(shape.dtypes[0]),
        sms=sms(gpu),
        l2=l2(gpu),
    )


def _gemm_work(shape: KernelCall, gpu: Gpu, c: kt.GemmCoefficients) -> kt.GemmWork:
    s = shape.sizes
    weights, operands = product_bits(shape.dtypes[0])
    return kt.gemm_work(m=s["m"], n=s["n"], k=s["k"], weight_bits=weights, bits=operands, sms=sms(gpu), l2=l2(gpu), c=c)


def _all_reduce_work(shape: KernelCall, gpu: Gpu, c: kt.AllReduceCoefficients) -> kt.AllReduceWork:
    message = shape.sizes["message_size"] * element_bits(shape.dtypes[0]) / 8
    switched = gpu.link_kind != "PCIe"
    return kt.all_reduce_work(gpus=shape.sizes["n_gpus"], message=message, switched=switched, c=c)


def _decode_part(sizes: Mapping[str, int], bits: float, nearby: float) -> str:
    cache = 2 * sizes["batch"] * sizes["kv_heads"] * sizes["head_dim"] * sizes["kv_len"] * bits / 8
    where = "l2" if cache <= RESIDENT * nearby else "memory"
    return f"multi_head_{where}" if sizes["q_heads"] == sizes["kv_heads"] > 1 else where


def _latent_part(sizes: Mapping[str, int], bits: float, nearby: float) -> str:
    return "l2" if sizes["batch"] * sizes["kv_len"] * kt.LATENT_KEY * bits / 8 <= RESIDENT * nearby else "memory"


#: every kind of kernel, by its name
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="decode_attention",
            sizes=("batch", "q_heads", "kv_heads", "head_dim", "kv_len"),
            texts=("gpu", "engine", "kernel", "compute_dtype", "kv_dtype"),
            coefficients=kt.DecodeCoefficients,
            work=_decode_work,
            algebra=kt.decode_algebra,
            part=_decode_part,
            regime=lambda s: "short" if s["kv_len"] <= 1024 else "long",
            kernel="kernel",
            dtypes=("compute_dtype", "kv_dtype"),
        ),
        Kind(
            name="mla_decode_attention",
            sizes=("batch", "q_heads", "kv_len"),
            texts=("gpu", "engine", "kernel", "compute_dtype", "kv_dtype"),
            coefficients=kt.LatentCoefficients,
            work=_latent_work,
            algebra=kt.latent_algebra,
            part=_latent_part,
            regime=lambda s: "few" if s["batch"] <= 32 else "many",
            kernel="kernel",
            dtypes=("compute_dtype", "kv_dtype"),
        ),
        Kind(
            name="prefill_attention",
            sizes=("batch", "q_heads", "kv_heads", "head_dim", "isl"),
            texts=("gpu", "engine", "kernel", "compute_dtype", "kv_dtype"),
            coefficients=kt.PrefillCoefficients,
            work=_prefill_work,
            algebra=kt.prefill_algebra,
            part=lambda s, bits, cache: "all",
            regime=lambda s: "short" if s["isl"] <= 1024 else "long",
            kernel="kernel",
            dtypes=("compute_dtype", "kv_dtype"),
        ),
        Kind(
            name="gemm",
            sizes=("m", "n", "k"),
            texts=("gpu", "engine", "kernel", "dtype"),
            coefficients=kt.GemmCoefficients,
            work=_gemm_work,
            algebra=kt.gemm_algebra,
            part=lambda s, bits, cache: "all",
            regime=lambda s: "few" if s["m"] <= 64 else "many",
            kernel="kernel",
            dtypes=("dtype",),
        ),
        Kind(
            name="all_reduce",
            sizes=("n_gpus", "message_size"),
            texts=("gpu", "engine", "op", "dtype"),
            coefficients=kt.AllReduceCoefficients,
            work=_all_reduce_work,
            algebra=kt.all_reduce_algebra,
            part=lambda s, bits, cache: "all",
            regime=lambda s: "small" if s["message_size"] <= 65536 else "large",
            kernel="op",
            dtypes=("dtype",),
        ),
    )
}


def part_of(shape: KernelCall, gpu: Gpu) -> str:
    """Return which of a kernel's separately fitted parts a shape belongs to."""
    bits = 16.0 if shape.kind == "gemm" else element_bits(shape.dtypes[-1])
    return KINDS[shape.kind].part(shape.sizes, bits, l2(gpu))


# -- profiles --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Coefficients of one part of a kernel, how far off they were on rows left out, and the range they stand on.

    interval: 80 % interval of measured over predicted, two factors for each regime.
    """

    coefficients: Any  #: instance of the kind's coefficients
    interval: Mapping[str, tuple[float, float]]  #: regime -> 80 % interval of measured over predicted, two factors
    range: Mapping[str, tuple[int, int]]  #: size -> smallest and largest fitted value
    residuals: Mapping[str, float]  #: RESIDUALS -> value: errors on rows left out
    not_identified: tuple[str, ...] = ()  #: coefficients the rows could not tell from having no effect


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One measured kernel: the engine's version and its parts."""

    version: str  #: engine with its release
    parts: Mapping[str, Fitted]  #: part -> its fit


@dataclass(frozen=True, kw_only=True)
class KernelProfile:
    """Fitted kernels by GPU, engine, kind and 'kernel dtype'."""

    name: str  #: as questions and reports call it
    title: str  #: one line that says what it is
    tier: str  #: where its rows were measured
    source: Source  #: who measured them, and when
    #: GPU -> engine -> kind -> 'kernel dtype' -> fit
    kernels: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Kernel]]]]


def read_profile(raw: Mapping[str, Any], source: Source, where: str) -> KernelProfile:
    """Return the profile in a parsed YAML document (all values text)."""
    tree: dict[str, dict[str, dict[str, dict[str, Kernel]]]] = {}
    try:
        for gpu, engines in raw["kernels"].items():
            for engine, kinds in engines.items():
                for kind, kernels in kinds.items():
                    if kind not in KINDS:
                        raise SpecError(f"{where}: kind {shown(kind)} is unknown; known: {', '.join(KINDS)}")
                    place = tree.setdefault(gpu, {}).setdefault(engine, {}).setdefault(kind, {})
                    for key, entry in kernels.items():
                        parts = {
                            part: _fitted(KINDS[kind], found, f"{where}: {engine} {key}")
                            for part, found in entry.items()
                            if part != "version"
                        }
                        if not parts:
                            raise SpecError(
                                f"{where}: {engine} {key}: has no coefficients; compare with one kvplan ships"
                            )
                        place[key] = Kernel(version=str(entry["version"]), parts=parts)
        words = {key: str(raw[key]) for key in ("name", "title", "tier")}
        return KernelProfile(**words, source=source, kernels=tree)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        said = shown(error.args[0]) if error.args else ""
        raise SpecError(
            f"{where}: not a kernel profile ({type(error).__name__} {said}); compare with one kvplan ships"
        ) from None


def _fitted(kind: Kind, raw: Mapping[str, Any], where: str) -> Fitted:
    values: dict[str, Any] = {}
    for f in fields(kind.coefficients):
        if f.name not in raw["coefficients"]:
            continue
        text = raw["coefficients"][f.name]
        if "choice" in f.metadata:
            values[f.name] = _choice(f.name, f.default, text, f"{where}: {f.name}")
        else:
            values[f.name] = _coefficient(text, f.metadata["unit"], f"{where}: {f.name}")
    spans = {n: _span(v, f"{where}: interval: {n}", 1e-9) for n, v in raw["interval"].items()}
    ranges = {n: _span(v, f"{where}: range: {n}", 0.0) for n, v in raw["range"].items()}
    if not spans:
        raise SpecError(f"{where}: interval: expected two factors, as in {{few: [0.9, 1.1], many: [0.9, 1.1]}}")
    if strange := next((n for n in ranges if n not in kind.sizes), None):
        raise SpecError(f"{where}: range: {shown(strange)} is no size of {kind.name}; known: {', '.join(kind.sizes)}")
    return Fitted(
        coefficients=kind.coefficients(**values),
        interval=spans,
        range={n: (int(low), int(high)) for n, (low, high) in ranges.items()},
        residuals={n: parse(raw["residuals"][n], "1", f"{where}: residuals: {n}") for n in RESIDUALS},
        not_identified=tuple(map(str, raw.get("not_identified", ()))),
    )


#: what a fit says of rows left out of it
RESIDUALS = ("rows", "parameters", "median", "mean", "p90", "bias")


def _coefficient(text: object, unit: str, where: str) -> float:
    """Read a coefficient: rates are above zero, anything else is not below."""
    found = parse(text, unit, where)
    if found < 0 or (found == 0 and unit.endswith("/s")) or found > LARGEST:
        raise SpecError(f"{where}: must be above zero, got {shown(text)}")
    return found


def _span(raw: Any, where: str, least: float) -> tuple[float, float]:
    """Read two numbers, the smaller first."""
    if not isinstance(raw, list) or len(raw) != 2:
        raise SpecError(f"{where}: expected two numbers, as in [0.9, 1.1], got {shown(raw)}")
    low, high = (parse(end, "1", where) for end in raw)
    if not least <= low <= high <= LARGEST:
        raise SpecError(f"{where}: expected two numbers from {least:g}, the smaller first, got {shown(raw)}")
    return low, high


#: beyond any rate [FLOP/s], time or size
LARGEST = 1e18


#: how the choices of a library are spelled
CHOICES = {
    "tiles": r"[1-9]\d{0,3}x[1-9]\d{0,3}( [1-9]\d{0,3}x[1-9]\d{0,3}){0,20}",
    "split_k": r"[1-9]\d{0,2}( [1-9]\d{0,2}){0,20}",
    "head_tile": r"[1-9]\d{0,2}|16 or 128",
    "split": r"balanced|never|fill|flash-attention|from [1-9]\d{0,6} tokens|[1-9]\d{0,3} parts",
    "blocks_per_sm": r"[1-9]\d?",
}


def _choice(name: str, default: object, text: object, where: str) -> object:
    """Read a discrete choice of the library; one of bytes is a quantity."""
    if name not in CHOICES:
        return _coefficient(text, "B", where)
    if not isinstance(text, str) or not re.fullmatch(CHOICES[name], text, re.ASCII):
        raise SpecError(f"{where}: expected a choice such as {default}, got {shown(text)}")
    return int(text) if isinstance(default, int) else text


# -- predicting ------------------------------------------------------------------------------------

#: how much wider an interval grows (as a power) when something else stands in for what was asked
OUTSIDE, OTHER_KERNEL, OTHER_ENGINE, OTHER_DTYPE, OTHER_GPU = 2.0, 1.5, 2.0, 3.0, 2.0
#: the widest an interval grows so, however much is missing
WIDEST = 4.0
#: dtypes of one width that kernels treat alike
ALIKE = {"half": "bfloat16", "float16": "bfloat16"}
#: engines in the order in which they stand in for one that was not measured
STAND_INS = ("vllm", "trtllm", "sglang", "nccl")
#: architectures in the order in which they stand in for one that was not measured
KIN = {
    "hopper": ("hopper", "blackwell", "ampere", "ada"),
    "blackwell": ("blackwell", "hopper", "ampere", "ada"),
    "ada": ("ada", "ampere", "hopper", "blackwell"),
    "ampere": ("ampere", "hopper", "ada", "blackwell"),
    "turing": ("ampere", "ada", "hopper", "blackwell"),
    "volta": ("ampere", "ada", "hopper", "blackwell"),
}
#: the least interval, before it grows, of a figure from another kernel or engine, and of one from another GPU
STAND_IN_INTERVAL, SCALED_INTERVAL = (0.92, 1.12), (0.8, 1.3)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A time and its 80 % interval [s], and what to know about it."""

    time: float  #: predicted time [s]
    low: float  #: lower end of its 80 % interval [s]
    high: float  #: upper end [s]
    note: str  #: what stands in for what was not measured, '' for nothing
    tier: str  #: where the rows behind it were measured


class Predictor:
    """Predicts kernel times from profiles; later profiles win. `gpus` looks a GPU up by name."""

    def __init__(self, profiles: list[KernelProfile], gpus: Callable[[str], Gpu]):
        self.gpus = gpus
        self.tiers: dict[str, str] = {}
        self.kernels: dict[tuple[str, str, str], dict[str, Kernel]] = {}
        self._seen: dict[tuple[Any, ...], tuple[Kernel, float, list[str], str]] = {}
        for profile in profiles:
            for gpu, engines in profile.kernels.items():
                self.tiers[gpu] = profile.tier
                for engine, kinds in engines.items():
                    for kind, kernels in kinds.items():
                        self.kernels.setdefault((kind, gpu, engine), {}).update(kernels)

    def predict(self, shape: KernelCall) -> Prediction:
        """Return the time of one call; SpecError when no profile knows this kind of kernel."""
        gpu = self.gpus(shape.gpu)
        kernel, power, notes, home = self._nearest(shape, gpu)
        part = part_of(shape, gpu)
        fitted, stand_in = self._part(kernel, part)
        coefficients, tier = fitted.coefficients, self.tiers[home]
        if home != gpu.name:
            coefficients, tier = scaled(coefficients, self.gpus(home), gpu, shape), "datasheet"
        kind = KINDS[shape.kind]
        time = float(kind.algebra(kind.work(shape, gpu, coefficients), coefficients))
        low, high = fitted.interval.get(kind.regime(shape.sizes)) or next(iter(fitted.interval.values()))
        if notes:
            least = SCALED_INTERVAL if home != gpu.name else STAND_IN_INTERVAL
            low, high = min(low, least[0]), max(high, least[1])
        outside = outside_of(shape.sizes, fitted.range)
        if outside:
            notes, power = [*notes, f"outside the fitted range ({outside})"], power * OUTSIDE
        if stand_in:
            notes, power = [*notes, stand_in], power * OTHER_KERNEL
        power = min(power, WIDEST)
        return Prediction(time=time, low=time * low**power, high=time * high**power, note="; ".join(notes), tier=tier)

    def _part(self, kernel: Kernel, part: str) -> tuple[Fitted, str]:
        if part in kernel.parts:
            return kernel.parts[part], ""
        where = part.removeprefix("multi_head_")
        for tried in (where, f"multi_head_{where}", *kernel.parts):
            if tried in kernel.parts:
                return kernel.parts[tried], f"no row like this ({part.replace('_', ' ')}) was fitted"
        raise SpecError("a kernel of the profile has no part; compare with one kvplan ships")

    def _nearest(self, shape: KernelCall, gpu: Gpu) -> tuple[Kernel, float, list[str], str]:
        asked = (shape.kind, gpu.name, shape.engine, shape.kernel, shape.dtypes)
        if asked not in self._seen:
            self._seen[asked] = self._look_up(shape, gpu)
        return self._seen[asked]

    def _look_up(self, shape: KernelCall, gpu: Gpu) -> tuple[Kernel, float, list[str], str]:
        """Return the kernel that stands nearest, how much wider that makes the interval, why, and its GPU."""
        home, notes, power = self._home(shape.kind, gpu)
        other_dtype, other_engine, _, other_kernel, engine, key = min(self._ranked(shape, home))
        if other_engine:
            notes, power = [*notes, f"{shape.engine} was not measured here; {engine} stands in"], power * OTHER_ENGINE
        elif other_kernel:
            notes, power = [*notes, f"kernel {shape.kernel} was not measured; {key} stands in"], power * OTHER_KERNEL
        if other_dtype:
            notes, power = [*notes, f"no {'/'.join(shape.dtypes)}; {key} stands in"], power * OTHER_DTYPE
        return self.kernels[shape.kind, home, engine][key], power, notes, home

    def _home(self, kind: str, gpu: Gpu) -> tuple[str, list[str], float]:
        """Return the GPU itself if it was measured, else the nearest that was, with a note and a wider interval."""
        homes = sorted({home for known, home, _ in self.kernels if known == kind})
        if not homes:
            raise SpecError(f"no profile has {kind} kernels; fit some with `kvplan calibrate`")
        if gpu.name in homes:
            return gpu.name, [], 1.0
        nearest = min(homes, key=lambda home: distance(self.gpus(home), gpu))
        return nearest, [f"{gpu.name} was not measured; scaled from {nearest}"], OTHER_GPU

    def _ranked(self, shape: KernelCall, home: str) -> list[tuple[bool, bool, int, bool, str, str]]:
        """Return the kernels of a GPU with what sets them apart from the shape's, the gravest first."""
        found = []
        for engine in [e for kind, gpu, e in self.kernels if (kind, gpu) == (shape.kind, home)]:
            rank = STAND_INS.index(engine) if engine in STAND_INS else len(STAND_INS)
            for key in self.kernels[shape.kind, home, engine]:
                name, *dtypes = key.rsplit(" ", len(shape.dtypes))
                other = alike(dtypes) != alike(shape.dtypes), engine != shape.engine
                found.append((*other, rank, name != shape.kernel, engine, key))
        return found


def alike(dtypes: Iterable[str]) -> tuple[str, ...]:
    """Return dtypes with those of equal width and speed written alike."""
    return tuple(ALIKE.get(dtype, dtype) for dtype in dtypes)


def outside_of(sizes: Mapping[str, int], fitted: Mapping[str, tuple[int, int]]) -> str:
    """Return the first size outside the fitted range, '' when all are inside."""
    for name, (low, high) in fitted.items():
        if not low <= sizes[name] <= high:
            return f"{name} {sizes[name]}, fitted {low} to {high}"
    return ""


def distance(measured: Gpu, wanted: Gpu) -> tuple[int, float]:
    """Return how far a measured GPU is from another: its architecture first, then its bandwidth."""
    kin = KIN.get(wanted.architecture, ("hopper", "ampere", "blackwell", "ada"))
    rank = kin.index(measured.architecture) if measured.architecture in kin else len(kin)
    return rank, abs(log(measured.bandwidth / wanted.bandwidth))


def scale_of(name: str, gpu: Gpu, bits: float) -> float:
    """Return the datasheet figure that a coefficient follows from GPU to GPU."""
    return {
        "": 1.0,
        "bandwidth": gpu.bandwidth,
        "sm_bandwidth": gpu.bandwidth / sms(gpu),
        "rate": gpu.rate(bits),
        "link": gpu.link,
    }[name]


def operand_bits(shape: KernelCall) -> float:
    """Return the width of the operands the tensor cores see, without scales."""
    bits = product_bits(shape.dtypes[0])[1] if shape.kind == "gemm" else element_bits(shape.dtypes[0])
    return float(int(bits))


def scaled(coefficients: Any, measured: Gpu, wanted: Gpu, shape: KernelCall) -> Any:
    """Return coefficients carried from a measured GPU to another by bandwidth, rate, SM count and link."""
    bits = operand_bits(shape)
    changed = {}
    for f in fields(coefficients):
        value = getattr(coefficients, f.name)
        scale = f.metadata.get("scale", "")
        if scale and value not in (0.0, inf):
            changed[f.name] = value * scale_of(scale, wanted, bits) / scale_of(scale, measured, bits)
    return replace(coefficients, **changed)
