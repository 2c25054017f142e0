"""Memory bandwidth probes: read, copy and write, the yardsticks decode kernels are held against.

Decode is almost pure reading, so `read_probe` is its ceiling; `copy_probe` is what other tools quote. Every thread
keeps eight 16-byte accesses in flight, and the grid is a few programs per multiprocessor that stride over the buffer.
Limits: fp32 buffers; use a buffer, or several in turn, well beyond the L2 (50 MB on an H100 or H200).
"""

import torch
import triton
import triton.language as tl

from .common import agree, sm_count

#: elements per program and step, warps, programs per multiprocessor
BLOCK, WARPS, PER_SM = 4096, 4, 8


@triton.jit
def read_kernel(X, OUT, size, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    step = tl.num_programs(0).to(tl.int64) * BLOCK
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(first, size, step):
        n = start + tl.arange(0, BLOCK)
        total += tl.load(X + n, mask=n < size, other=0.0)
    tl.store(OUT + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def copy_kernel(X, Y, size, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    step = tl.num_programs(0).to(tl.int64) * BLOCK
    for start in range(first, size, step):
        n = start + tl.arange(0, BLOCK)
        tl.store(Y + n, tl.load(X + n, mask=n < size, other=0.0), mask=n < size)


@triton.jit
def write_kernel(Y, value, size, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    step = tl.num_programs(0).to(tl.int64) * BLOCK
    for start in range(first, size, step):
        n = start + tl.arange(0, BLOCK)
        tl.store(Y + n, tl.zeros([BLOCK], tl.float32) + value, mask=n < size)


def traffic(probe: str, elements: int) -> tuple[float, float]:
    """Return (bytes moved, flops) of a probe (`read`, `copy` or `write`) over so many fp32 elements."""
    return {"read": 4.0, "copy": 8.0, "write": 4.0}[probe] * elements, float(elements) if probe == "read" else 0.0


def programs(elements: int, device: torch.device, sms: int | None) -> int:
    """Return the programs of a probe: eight per multiprocessor, or fewer for small buffers."""
    return max(1, min(PER_SM * (sms or sm_count(device)), triton.cdiv(elements, BLOCK)))


def refuse_buffers(**buffers: torch.Tensor) -> None:
    """Refuse buffers that are not [N] fp32 on one device."""
    agree(**{name: (buffer, "N", (torch.float32,)) for name, buffer in buffers.items()})


def read_probe(x: torch.Tensor, *, sms: int | None = None) -> torch.Tensor:
    """Read x [N] fp32 once; returns one partial sum per program, so that no load can be dropped."""
    refuse_buffers(x=x)
    count = programs(x.numel(), x.device, sms)
    sums = torch.empty((count,), dtype=torch.float32, device=x.device)
    read_kernel[(count,)](x, sums, x.numel(), BLOCK=BLOCK, num_warps=WARPS)
    return sums


def copy_probe(x: torch.Tensor, y: torch.Tensor, *, sms: int | None = None) -> None:
    """Copy x [N] fp32 into y [N]."""
    refuse_buffers(x=x, y=y)
    copy_kernel[(programs(x.numel(), x.device, sms),)](x, y, x.numel(), BLOCK=BLOCK, num_warps=WARPS)


def write_probe(y: torch.Tensor, value: float = 0.0, *, sms: int | None = None) -> None:
    """Fill y [N] fp32 with `value`."""
    refuse_buffers(y=y)
    write_kernel[(programs(y.numel(), y.device, sms),)](y, value, y.numel(), BLOCK=BLOCK, num_warps=WARPS)
