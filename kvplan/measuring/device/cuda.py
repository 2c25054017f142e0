"""A CUDA GPU as a device to measure, in a process of its own."""

from multiprocessing import current_process
from typing import Any

from kvplan.errors import KvplanError
from kvplan.measuring.device.course import Failed
from kvplan.measuring.device.cuda_probes import CUDA_ANCHORS, cuda_probes
from kvplan.measuring.device.cuda_timer import ENGINE, CudaTimer
from kvplan.measuring.device.device import Device
from kvplan.measuring.device.nvml import NoMeter, open_nvml
from kvplan.measuring.device.worker import Remote, Worker
from kvplan.units import spell

#: time to keep for the fits and the energy windows; longest time for the latter [s]
RESERVE, ENERGY = 40.0, 60.0


def open_timer(own: frozenset[int], visible: str = "") -> CudaTimer:
    """Return the timer of the first CUDA device in this process, NVML beside it.

    own: other processes of ours, which are no strangers there; visible: CUDA_VISIBLE_DEVICES.
    """
    import torch

    if not torch.cuda.is_available():
        raise Failed("torch sees no CUDA device")
    if torch.version.hip:
        return CudaTimer(torch, NoMeter("no clocks, power or throttling: NVML reads NVIDIA GPUs, this is ROCm"))
    uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
    return CudaTimer(torch, open_nvml(own | {current_process().pid or 0}, uuid, visible))


def cuda_device(own: frozenset[int], visible: str = "") -> Device:
    """Return the first CUDA device, ready to be measured in a process of its own; arguments as `open_timer`'s."""
    worker = Worker(open_timer, own, visible)
    try:
        about = worker.ask("about")
    except BaseException:
        worker.close()
        raise
    probes = list(cuda_probes(about["fp8"]))
    kept = [p for p in probes if p.moved < about["room"]]
    facts, remarks = about["facts"], [about["remark"]]
    if len(kept) < len(probes):
        facts["left_out"] = f"{len(probes) - len(kept)} shapes larger than {spell(about['room'], 'B')} of free memory"
        remarks.append(f"left out: {facts['left_out']}")

    def more() -> dict[str, Any]:
        try:
            energy: dict[str, Any] = worker.ask("energy", limit=ENERGY)
        except KvplanError as error:
            return {"energy_note": f"no energy: {error}"}
        return energy

    return Device(
        kind="cuda", name=about["gpu"], timer=Remote(worker, about["gpu"], ENGINE), probes=kept,
        anchors=CUDA_ANCHORS, facts=facts, label="kvplan's kernels and torch's products",
        remark="; ".join(filter(None, remarks)), reserve=RESERVE, more=more, energy=about["energy"],
        close=worker.close,
    )  # fmt: skip
