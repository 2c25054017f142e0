"""Timing probes with torch: on a CPU by one thread's own time, on a GPU by CUDA events."""

import gc
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvplan import __version__
from kvplan.catalog.rows.samples import cpu_name
from kvplan.errors import KvplanError
from kvplan.measuring.device.course import PREEMPTED, Failed, Sample, Timer, TooLarge
from kvplan.measuring.device.probes import CPU_ANCHORS, Probe, cpu_probes
from kvplan.measuring.device.ranks import Ranks, Together, all_reduce_probes
from kvplan.measuring.samples import CPU

#: a sample repeats its probe for at least so long [s]
LEAST = 2e-3
MOST_REPEATS = 400
#: a buffer no cache holds, which inputs are cut from in turn [elements]
CPU_POOL = {"float32": 96 * 2**20, "bfloat16": 48 * 2**20}
INSTALL = "`kvplan profile` needs torch; install it with: pip install 'kvplan[profile]'"


class DeviceError(KvplanError):
    """A device or what drives it is missing or unusable."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device to measure: its timer, what it can be asked for, and what a profile says about it.

    reserve: time to keep for the fit [s]; close: to be called after the last sample; more: what else is measured then;
    energy: whether that is energy.
    """

    kind: str  #: "cuda" or "cpu"
    name: str  #: as the device calls itself
    timer: Timer  #: times its probes
    probes: list[Probe]  #: what it can be asked for
    anchors: tuple[Probe, ...]  #: probes repeated all along, which show drift
    facts: dict[str, str]  #: what a profile says about it: name -> text
    label: str  #: what is measured, in words
    remark: str = ""  #: for the user, in one line
    reserve: float = 2.0  #: time to keep for the fit [s]
    more: Callable[[], dict[str, Any]] = dict  #: what else is measured after the last sample, as fields of the profile
    energy: bool = False  #: whether that is energy, which the device counts
    close: Callable[[], None] = lambda: None  #: to be called at the end


def torch_module() -> Any:
    """Import torch; DeviceError, with how to install it, where there is none."""
    try:
        import torch
    except ImportError:
        raise DeviceError(INSTALL) from None
    return torch


def kind(wanted: str | None) -> str:
    """Return the kind of device that `find` will look for."""
    return wanted or ("cuda" if torch_module().cuda.is_available() else "cpu")


def find(wanted: str | None, processes: int | None = None) -> Device:
    """Return the device asked for; by default a GPU torch sees, else the CPU, and a remark that says so.

    processes: how many reduce together, one a GPU; default: all visible GPUs, none on a CPU.
    """
    torch = torch_module()
    seen = torch.cuda.is_available()
    if wanted == "cuda" and not seen:
        raise DeviceError(
            "device=cuda: torch sees no CUDA device; use device=cpu, or check the driver and torch's build"
        )
    if wanted == "cuda" or (wanted is None and seen):
        from kvplan.measuring.device.cuda import cuda_device

        count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if processes and processes > count:
            raise DeviceError(f"processes={processes}: torch sees {count} GPUs, and each process needs its own")
        if (processes or count) < 2:
            return cuda_device(frozenset(), visible)
        engine = nccl(torch)
        if engine is None:
            gpu = cuda_device(frozenset(), visible)
            return replace(gpu, remark="; ".join(filter(None, (gpu.remark, "no all-reduce: torch has no NCCL"))))
        peers = Ranks("nccl", processes or count)
        with closed_on_error(peers):
            return joined(cuda_device(frozenset([peers.first]), visible), peers, engine)
    remark = "" if wanted else "no CUDA device seen by torch: measuring the CPU; a CPU profile says nothing about a GPU"
    ranks = Ranks("gloo", processes) if processes and processes > 1 else None
    with closed_on_error(ranks):
        return joined(cpu_device(torch, remark), ranks, f"gloo-{plain_version(torch)}")


def nccl(torch: Any) -> str | None:
    """Return the version of NCCL (on ROCm: RCCL) as an engine is named, None where torch was built without it."""
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return None
    release = torch.cuda.nccl.version()
    return f"nccl-{'.'.join(map(str, release if isinstance(release, tuple) else (release,)))}"


@contextmanager
def closed_on_error(ranks: Ranks | None) -> Iterator[None]:
    """Close the ranks when the block raises, and let the error through."""
    try:
        yield
    except BaseException:
        if ranks:
            ranks.close(0.0)
        raise


def joined(device: Device, ranks: Ranks | None, engine: str) -> Device:
    """Return a device that also measures all-reduce; when its processes do not meet, one that says so."""
    if ranks is None:
        return device
    count = len(ranks.processes)
    try:
        ranks.meet()
    except Failed as error:
        return replace(device, remark="; ".join(filter(None, (device.remark, f"no all-reduce: {error}"))))
    timer = Together(device.timer, ranks)

    def close() -> None:
        timer.close()
        device.close()

    return replace(
        device,
        timer=timer,
        probes=[*device.probes, *all_reduce_probes(engine.split("-")[0], engine, count)],
        facts={**device.facts, "processes": str(count)},
        close=close,
    )


def plain_version(torch: Any) -> str:
    """Return torch's version without the build after the plus sign, as in '2.9.0'."""
    return str(torch.__version__).split("+")[0]


def versions() -> dict[str, str]:
    """Return what a profile depends on, by name; what is not installed is left out."""
    versions = {"kvplan": __version__, "python": platform.python_version()}
    for name in ("torch", "triton", "numpy", "scipy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def cpu_device(torch: Any, remark: str = "") -> Device:
    """Return this machine's CPU as a device to measure, torch being kept to one thread."""
    torch.set_num_threads(1)
    timer = CpuTimer(torch)
    facts = {"threads": "1", "cores": str(os.cpu_count()), "system": f"{platform.system()} {platform.machine()}"}
    return Device(
        kind="cpu", name=timer.gpu, timer=timer, probes=list(cpu_probes()), anchors=CPU_ANCHORS, facts=facts,
        label="torch operators on one CPU thread; says nothing about a GPU", remark=remark,
    )  # fmt: skip


class BufferPool:
    """Cuts inputs from one long buffer in turn, so that a sample never finds its inputs in a cache."""

    def __init__(self, buffers: dict[str, Any]):
        self.buffers = buffers
        self.at = dict.fromkeys(buffers, 0)

    def cut(self, dtype: str, *shape: int) -> Any:
        """Return the next [shape] elements; TooLarge when the whole buffer is smaller."""
        size = 1
        for extent in shape:
            size *= extent
        buffer = self.buffers[dtype]
        if size > buffer.numel():
            raise TooLarge(f"{size:,} elements of {dtype} are more than the pool holds")
        if self.at[dtype] + size > buffer.numel():
            self.at[dtype] = 0
        begin = self.at[dtype]
        self.at[dtype] = begin + -(-size // 64) * 64
        return buffer[begin : begin + size].view(shape)


def filled(torch: Any, elements: int, dtype: Any, device: str = "cpu") -> Any:
    """Return normal numbers; a block of them repeated, which no kernel can tell."""
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(device).to(dtype)
    return block.repeat(-(-elements // block.numel()))[:elements]


class CpuTimer:
    """Times torch operators by the calling thread's CPU time; inputs come from memory, not from a cache."""

    def __init__(self, torch: Any):
        self.torch = torch
        self.gpu = f"{CPU}{cpu_name() or platform.machine()}"
        self.engine = f"torch-{plain_version(torch)}"
        try:
            self.pool = BufferPool({name: filled(torch, n, getattr(torch, name)) for name, n in CPU_POOL.items()})
        except RuntimeError:
            raise DeviceError("a CPU profile needs 600 MB of free memory for inputs no cache holds") from None
        self.repeats: dict[tuple[str, ...], int] = {}
        self.inference = torch.inference_mode

    def sample(self, probe: Probe) -> Sample:
        """Return one timed sample of a probe; TooLarge when its tensors find no memory."""
        begun = time.perf_counter()
        try:
            with self.inference():
                timed = self._sample(probe)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "alloc" not in str(error):
                raise
            raise TooLarge(f"{probe.group}: {error}") from None
        spent, repeats, preempted = timed
        return Sample(
            time=spent / repeats,
            wall=time.perf_counter() - begun,
            repeats=repeats,
            state=PREEMPTED if preempted else "",
            sensors={"load": f"{os.getloadavg()[0]:.2f}"},
        )

    def _sample(self, probe: Probe) -> tuple[float, int, int]:
        """Return thread CPU time [s], repeats, involuntary context switches."""
        if probe.key not in self.repeats:
            self.repeats[probe.key] = 1
            single = max(self._sample(probe)[0], 1e-7)
            self.repeats[probe.key] = max(1, min(MOST_REPEATS, int(LEAST / single) + 1))
        repeats = self.repeats[probe.key]
        calls = [CPU_CALLS[probe.kind](self.torch, self.pool, probe) for _ in range(repeats)]
        gc.disable()
        try:
            switched = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            begun = time.thread_time()
            for operator, arguments, options in calls:
                operator(*arguments, **options)
            spent = time.thread_time() - begun
            switched = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - switched
        finally:
            gc.enable()
        return spent, repeats, switched


Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def cpu_copy(torch: Any, pool: BufferPool, probe: Probe) -> Call:
    """Return a copy of `elements` elements: (function, arguments, keywords)."""
    size = probe.sizes["elements"]
    return torch.Tensor.copy_, (pool.cut(probe.dtype, size), pool.cut(probe.dtype, size)), {}


def cpu_gemm(torch: Any, pool: BufferPool, probe: Probe) -> Call:
    """Return x [m, k] times a layer's weights [n, k], transposed, into an output that is there already."""
    m, n, k = (probe.sizes[name] for name in "mnk")
    x, w = pool.cut(probe.dtype, m, k), pool.cut(probe.dtype, n, k)
    return torch.mm, (x, w.t()), {"out": torch.empty(m, n, dtype=x.dtype)}


def cpu_decode(torch: Any, pool: BufferPool, probe: Probe) -> Call:
    """Return attention of q viewed as [B, Hkv, G, D]: several times faster than repeating heads."""
    s = probe.sizes
    b, h, d, t = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"]
    q = pool.cut(probe.dtype, b, h, s["q_heads"] // h, d)
    k = pool.cut(probe.dtype, b, h, t, d)
    v = k if probe.kind == "mla_decode_attention" else pool.cut(probe.dtype, b, h, t, d)
    return torch.nn.functional.scaled_dot_product_attention, (q, k, v), {}


def cpu_prefill(torch: Any, pool: BufferPool, probe: Probe) -> Call:
    """Return causal attention over [batch, q_heads, isl, head_dim]: (function, arguments, keywords)."""
    s = probe.sizes
    tensors = tuple(pool.cut(probe.dtype, s["batch"], s["q_heads"], s["isl"], s["head_dim"]) for _ in "qkv")
    return torch.nn.functional.scaled_dot_product_attention, tensors, {"is_causal": True}


CPU_CALLS: dict[str, Callable[[Any, BufferPool, Probe], Call]] = {
    "copy": cpu_copy,
    "gemm": cpu_gemm,
    "decode_attention": cpu_decode,
    "mla_decode_attention": cpu_decode,
    "prefill_attention": cpu_prefill,
}
