"""Finding what stands nearest to a kernel call, and predicting its time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import inf, log
from typing import Any

from kvplan.errors import SpecError
from kvplan.perf.kernel_profile.kinds import KINDS, KernelCall, operand_bits, part_of, sms
from kvplan.perf.kernel_profile.profile import Fitted, Kernel, KernelProfile
from kvplan.specs.hardware import Gpu

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
        self._nearby: dict[tuple[Any, ...], tuple[Kernel, float, list[str], str]] = {}
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
        location = part.removeprefix("multi_head_")
        for tried in (location, f"multi_head_{location}", *kernel.parts):
            if tried in kernel.parts:
                return kernel.parts[tried], f"no row like this ({part.replace('_', ' ')}) was fitted"
        raise SpecError("a kernel of the profile has no part; compare with one kvplan ships")

    def _nearest(self, shape: KernelCall, gpu: Gpu) -> tuple[Kernel, float, list[str], str]:
        key = (shape.kind, gpu.name, shape.engine, shape.kernel, shape.dtypes)
        if key not in self._nearby:
            self._nearby[key] = self._look_up(shape, gpu)
        return self._nearby[key]

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
        kernels = []
        for engine in [e for kind, gpu, e in self.kernels if (kind, gpu) == (shape.kind, home)]:
            rank = STAND_INS.index(engine) if engine in STAND_INS else len(STAND_INS)
            for key in self.kernels[shape.kind, home, engine]:
                name, *dtypes = key.rsplit(" ", len(shape.dtypes))
                other = alike(dtypes) != alike(shape.dtypes), engine != shape.engine
                kernels.append((*other, rank, name != shape.kernel, engine, key))
        return kernels


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
