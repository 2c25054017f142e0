"""Timing torch's operators on a CPU by one thread's own time, over inputs that come from memory."""

import gc
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

from kvplan.catalog.rows.samples import cpu_name
from kvplan.measuring.device.course import PREEMPTED, Sample, TooLarge
from kvplan.measuring.device.device import Device, DeviceError
from kvplan.measuring.device.inputs import BufferPool
from kvplan.measuring.device.probes import CPU_ANCHORS, Probe, cpu_probes
from kvplan.measuring.samples import CPU

#: a sample repeats its probe for at least so long [s]
LEAST = 2e-3
MOST_REPEATS = 400
#: a buffer no cache holds, which inputs are cut from in turn [elements]
CPU_POOL = {"float32": 96 * 2**20, "bfloat16": 48 * 2**20}


def cpu_device(torch: Any, remark: str = "") -> Device:
    """Return this machine's CPU as a device to measure, torch being kept to one thread."""
    torch.set_num_threads(1)
    timer = CpuTimer(torch)
    facts = {"threads": "1", "cores": str(os.cpu_count()), "system": f"{platform.system()} {platform.machine()}"}
    return Device(
        kind="cpu", name=timer.gpu, timer=timer, probes=list(cpu_probes()), anchors=CPU_ANCHORS, facts=facts,
        label="torch operators on one CPU thread; says nothing about a GPU", remark=remark,
    )  # fmt: skip


def plain_version(torch: Any) -> str:
    """Return torch's version without the build after the plus sign, as in '2.9.0'."""
    return str(torch.__version__).split("+")[0]


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
