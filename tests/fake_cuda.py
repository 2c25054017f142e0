"""A CUDA device that is none: torch with a `cuda` that keeps the rules of graphs, counts time, and fails as it is told.

Tensors lie in the CPU's memory and nothing is computed; an operator takes 4 us and its tensors' bytes at 2 TB/s.
"""

import ast
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch as real

from kvplan.measuring.device import cuda_calls, cuda_timer
from kvplan.measuring.device.course import Failed
from kvplan.measuring.device.nvml import NoMeter, Reading

NAME = "NVIDIA H100 80GB HBM3"
ILLEGAL = (
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported at "
    "some other API call, so the stacktrace below might be incorrect.\nFor debugging consider passing "
    "CUDA_LAUNCH_BLOCKING=1\n"
)
CAPTURING = "CUDA error: operation not permitted when stream is capturing"


def triton_error(kind: str) -> Exception:
    """Return an error as triton raises it; none of them is a RuntimeError."""
    from triton.compiler import CompilationError
    from triton.runtime.errors import OutOfResources, PTXASError

    if kind == "resources":
        return OutOfResources(180224, 101376, "shared memory")
    if kind == "ptxas":
        return PTXASError("Internal Triton PTX codegen error\n`ptxas` stderr:\nptxas fatal : bad [/red] \x1b[31mthing")
    node = ast.parse("a = 1").body[0]
    return CompilationError("a = 1\nb = 2", node, "shape mismatch")


class Device:
    """The state of the device and of its one stream.

    faults: what goes wrong, by operator; folder: where the one shape is remembered for which it does, None: for all.
    """

    def __init__(self, faults: dict[str, str], free: int, folder: Path | None = None):
        self.faults, self.free, self.folder = faults, free, folder
        self.now, self.dead, self.ops = 0.0, "", 0
        self.graph: Any = None
        self.broken = False
        self.warm: set[Any] = set()
        self.pools: dict[int, int] = {}
        self.replays: list[int] = []

    def check(self) -> None:
        if self.dead:
            raise real.AcceleratorError(self.dead)

    def run(self, name: str, *tensors: Any) -> None:
        """Run one operator, or note it in the graph that is being captured."""
        self.check()
        shapes = (name, *(tuple(t.shape) for t in tensors))
        if name in self.faults and self.unlucky(name, repr(shapes)):
            self.fail(self.faults[name])
        if self.graph is None:
            self.warm.add(shapes)
        elif shapes not in self.warm:
            self.broken = True
            raise RuntimeError(CAPTURING)
        took = 4e-6 + sum(t.numel() * t.element_size() for t in tensors) / 2e12
        if self.graph is None:
            self.now += took
        else:
            self.graph.took += took

    def unlucky(self, name: str, shapes: str) -> bool:
        """Return whether these shapes are the ones that fail: the second that were ever asked for."""
        if self.folder is None:
            return True
        known = self.folder / name
        seen = known.read_text().splitlines() if known.exists() else []
        if shapes not in seen and len(seen) < 2:
            seen.append(shapes)
            known.write_text("\n".join(seen))
        return seen[1:] == [shapes]

    def fail(self, kind: str) -> None:
        if kind == "sticky":
            self.dead = ILLEGAL
        elif kind == "hang":
            time.sleep(1000)
        elif kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif kind == "memory":
            raise real.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        elif kind == "launch":
            raise RuntimeError("CUDA error: invalid configuration argument")
        elif kind == "capture":
            if self.graph is not None:
                self.broken = True
                raise RuntimeError(CAPTURING)
        else:
            raise triton_error(kind)


class Graph:
    """A CUDA graph: its pool lives as long as one of its graphs, and a pool that is gone is not taken again."""

    def __init__(self, device: Device):
        self.device, self.took, self.mine = device, 0.0, 0

    def pool(self) -> int:
        if not self.mine:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture")
        return self.mine

    def replay(self) -> None:
        self.device.check()
        if not self.mine:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture")
        self.device.now += self.took

    def reset(self) -> None:
        if self.mine:
            self.device.pools[self.mine] -= 1
        self.mine = 0

    def __del__(self) -> None:
        self.reset()


class Event:
    def __init__(self, device: Device):
        self.device, self.at = device, 0.0

    def record(self) -> None:
        self.device.check()
        self.at = self.device.now

    def synchronize(self) -> None:
        self.device.check()

    def elapsed_time(self, other: "Event") -> float:
        return (other.at - self.at) * 1e3


class Cuda:
    """What `torch.cuda` is asked for."""

    OutOfMemoryError = real.OutOfMemoryError

    def __init__(self, device: Device, **properties: Any):
        self.device = device
        self.properties = SimpleNamespace(
            **{"major": 9, "minor": 0, "L2_cache_size": 50 * 2**20, "total_memory": 80 * 2**30,
               "multi_processor_count": 132, "uuid": "0-1", **properties}
        )  # fmt: skip
        self.nccl = SimpleNamespace(version=lambda: (2, 27, 3))

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def get_device_name(self) -> str:
        return NAME

    def get_device_properties(self, index: int) -> Any:
        return self.properties

    def mem_get_info(self) -> tuple[int, int]:
        return self.device.free, 80 * 2**30

    def Stream(self) -> str:
        return "a stream"

    def stream(self, stream: str) -> Any:
        return contextlib.nullcontext()

    def Event(self, enable_timing: bool) -> Event:
        return Event(self.device)

    def CUDAGraph(self) -> Graph:
        return Graph(self.device)

    def empty_cache(self) -> None:
        self.device.check()

    def synchronize(self) -> None:
        self.device.check()
        if self.device.graph is not None:
            self.device.broken = True
            raise RuntimeError(CAPTURING)

    @contextlib.contextmanager
    def graph(self, graph: Graph, pool: int | None, stream: str) -> Iterator[None]:
        self.synchronize()
        if self.device.broken:
            raise RuntimeError("CUDA error: stream capture is not possible any more")
        if pool is not None and not self.device.pools[pool]:
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
        self.device.graph = graph
        try:
            yield
        finally:
            self.device.graph = None
            if self.device.broken:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
            graph.mine = pool or len(self.device.pools) + 1
            self.device.pools[graph.mine] = self.device.pools.get(graph.mine, 0) + 1


class Torch:
    """torch, with a CUDA device of ours; only the operators that a timer calls itself are replaced."""

    def __init__(self, device: Device, hip: str | None = None, **properties: Any):
        self.cuda = Cuda(device, **properties)
        self.version = SimpleNamespace(cuda=None if hip else "12.8", hip=hip)
        self.distributed = SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: False)
        self.device_ = device

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def mm(self, x: Any, w: Any, out: Any) -> None:
        self.device_.run("mm", x, w, out)

    def _scaled_mm(self, x: Any, w: Any, *, scale_a: Any, scale_b: Any, out_dtype: Any, use_fast_accum: bool, out: Any) -> None:  # fmt: skip  # noqa: E501
        assert x.is_contiguous()
        assert w.t().is_contiguous()
        assert x.shape[1] % 16 == 0 == w.shape[1] % 16
        self.device_.run("_scaled_mm", x, w, out)

    def sum(self, x: Any, axis: int, out: Any) -> None:
        self.device_.run("sum", x, out)


def launcher(device: Device) -> Callable[[str, str], Callable[..., Any]]:
    """Return what stands for `cuda_calls.launcher`: kernels that return new tensors, as ours do."""

    def found(module: str, name: str) -> Callable[..., Any]:
        def kernel(*given: Any, **named: Any) -> Any:
            tensors = [t for t in (*given, *named.values()) if isinstance(t, real.Tensor)]
            device.run(name, *tensors)
            return real.empty(16)

        return kernel

    return found


class Counter(NoMeter):
    """A meter of a GPU that draws 100 W idle and 500 W more while it computes; its counter always moves."""

    def __init__(self, device: Device):
        super().__init__("")
        self.device = device

    def read(self) -> Reading:
        return Reading(power=600.0, energy=100 * time.monotonic() + 500 * self.device.now)


def open_timer(
    own: frozenset[int], visible: str = "", faults: dict[str, str] | None = None, free: int = 600 * 2**20,
    folder: Path | None = None, counts: bool = False, **more: Any,
) -> cuda_timer.CudaTimer:  # fmt: skip
    """Return the timer of a made-up device, in a worker's process."""
    device = Device(faults or {}, free, folder)
    cuda_calls.launcher = launcher(device)  # type: ignore[assignment]
    meter = Counter(device) if counts else NoMeter("no clocks: this device is made up")
    return cuda_timer.CudaTimer(Torch(device, **more), meter, "cpu")


def broken() -> None:
    raise Failed("no device today")
