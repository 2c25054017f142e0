"""Compile kernels for a GPU that is not there, through their own launchers, and read what came out.

`capture()` stands in for the driver: inside it a launch compiles for sm_90 exactly what it would run (same types, same
strides, same specialisation) and runs nothing. Needs TRITON_INTERPRET unset. Registers and spills come from ptxas, the
instruction counts from the disassembler; both ship in Triton's wheel.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

#: shared memory one program may use on an H100 or H200 [bytes]
SHARED_LIMIT = 227 * 1024


@dataclass(frozen=True)
class Compiled:
    """What one launch compiled to: registers per thread, spilled bytes, shared memory in bytes, instruction counts."""

    kernel: str
    warps: int
    stages: int
    registers: int
    spills: int
    shared: int
    wide_async_loads: int
    wide_loads: int
    tensor_core: int
    slow_converts: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class NoDriver:
    """Answers what a launch asks of the driver: one sm_90 device, its only stream."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """Return the target to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the only device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return the default stream."""
        return device


@contextmanager
def capture(capability: int = 90) -> Iterator[list[Compiled]]:
    """Compile every launch made inside, run none of them, and list what each compiled to."""
    found: list[Compiled] = []
    original = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
        kernel = original(self, *args, grid=grid, warmup=True, **keywords)
        found.append(inspect(kernel))
        return kernel

    triton.runtime.driver.set_active(NoDriver(capability))
    JITFunction.run = compile_only
    try:
        yield found
    finally:
        JITFunction.run = original
        triton.runtime.driver._active = None  # reset_active() would look for a real driver


def inspect(kernel: Any) -> Compiled:
    """Return what a compiled kernel uses."""
    meta = kernel.metadata
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        sass = tool(triton.knobs.nvidia.nvdisasm.path, "-c", cubin)
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(kernel.asm["ptx"], "utf-8")
        arch = re.search(r"\.target (sm_\w+)", kernel.asm["ptx"])[1]
        report = tool(triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={arch}", ptx, "-o", Path(folder) / "again")
    return Compiled(
        kernel=meta.name,
        warps=meta.num_warps,
        stages=meta.num_stages,
        registers=int(re.search(r"Used (\d+) registers", report)[1]),
        spills=sum(int(n) for n in re.findall(r"(\d+) bytes spill", report)),
        shared=meta.shared,
        wide_async_loads=len(re.findall(r"LDGSTS\.\S*128", sass)),
        wide_loads=len(re.findall(r"LDG\.\S*128", sass)),
        tensor_core=len(re.findall(r"\b(?:HMMA|HGMMA)\.", sass)),
        slow_converts=len(re.findall(r"\b(?:I2F|F2F)\.", sass)),
    )


def tool(path: str, *arguments: str | Path) -> str:
    """Return what one of CUDA's tools prints."""
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
