"""The device of this machine that is measured: which one, who reduces beside it, and what a profile depends on."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvplan import __version__
from kvplan.measuring.device.course import Failed
from kvplan.measuring.device.cpu import cpu_device, plain_version
from kvplan.measuring.device.device import Device, DeviceError
from kvplan.measuring.device.ranks import Ranks, Together, all_reduce_probes

#: what is said where torch is missing
INSTALL = "`kvplan profile` needs torch; install it with: pip install 'kvplan[profile]'"


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


def versions() -> dict[str, str]:
    """Return what a profile depends on, by name; what is not installed is left out."""
    versions = {"kvplan": __version__, "python": platform.python_version()}
    for name in ("torch", "triton", "numpy", "scipy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
