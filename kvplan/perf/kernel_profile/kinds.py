"""Kinds of kernel: the columns of their rows, how a call becomes work and time, and which calls are fitted apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.perf import kernel_time as kt
from kvplan.specs.hardware import Gpu

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
    coefficients: type  #: dataclass of its coefficients
    work: Callable[[KernelCall, Gpu, Any], Any]  #: a call's counted work on a GPU, under coefficients
    algebra: Callable[[Any, Any], Any]  #: time of counted work under coefficients [s]
    regime: Callable[[Mapping[str, int]], str]  #: name of the interval a call has
    #: name of the part a call is fitted with: (sizes, bits of an element, bytes of the L2)
    part: Callable[[Mapping[str, int], float, float], str] = lambda sizes, bits, cache: "all"
    kernel: str = "kernel"  #: column that names the kernel
    dtypes: tuple[str, ...] = ("compute_dtype", "kv_dtype")  #: columns of dtypes, by default of an attention kernel

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns of names."""
        return ("gpu", "engine", self.kernel, *self.dtypes)


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
    element_bits(shape.dtypes[0])  # refuses an unknown dtype: tensors move in 16 bits, whatever is computed in
    return kt.prefill_work(
        batch=s["batch"],
        q_heads=s["q_heads"],
        kv_heads=s["kv_heads"],
        head_dim=s["head_dim"],
        length=s["isl"],
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
    location = "l2" if cache <= RESIDENT * nearby else "memory"
    return f"multi_head_{location}" if sizes["q_heads"] == sizes["kv_heads"] > 1 else location


def _latent_part(sizes: Mapping[str, int], bits: float, nearby: float) -> str:
    return "l2" if sizes["batch"] * sizes["kv_len"] * kt.LATENT_KEY * bits / 8 <= RESIDENT * nearby else "memory"


#: every kind of kernel, by its name
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="decode_attention",
            sizes=("batch", "q_heads", "kv_heads", "head_dim", "kv_len"),
            coefficients=kt.DecodeCoefficients,
            work=_decode_work,
            algebra=kt.decode_algebra,
            part=_decode_part,
            regime=lambda s: "short" if s["kv_len"] <= 1024 else "long",
        ),
        Kind(
            name="mla_decode_attention",
            sizes=("batch", "q_heads", "kv_len"),
            coefficients=kt.LatentCoefficients,
            work=_latent_work,
            algebra=kt.latent_algebra,
            part=_latent_part,
            regime=lambda s: "few" if s["batch"] <= 32 else "many",
        ),
        Kind(
            name="prefill_attention",
            sizes=("batch", "q_heads", "kv_heads", "head_dim", "isl"),
            coefficients=kt.PrefillCoefficients,
            work=_prefill_work,
            algebra=kt.prefill_algebra,
            regime=lambda s: "short" if s["isl"] <= 1024 else "long",
        ),
        Kind(
            name="gemm",
            sizes=("m", "n", "k"),
            coefficients=kt.GemmCoefficients,
            work=_gemm_work,
            algebra=kt.gemm_algebra,
            regime=lambda s: "few" if s["m"] <= 64 else "many",
            dtypes=("dtype",),
        ),
        Kind(
            name="all_reduce",
            sizes=("n_gpus", "message_size"),
            coefficients=kt.AllReduceCoefficients,
            work=_all_reduce_work,
            algebra=kt.all_reduce_algebra,
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


def operand_bits(shape: KernelCall) -> float:
    """Return the width of the operands the tensor cores see, without scales."""
    bits = product_bits(shape.dtypes[0])[1] if shape.kind == "gemm" else element_bits(shape.dtypes[0])
    return float(int(bits))
