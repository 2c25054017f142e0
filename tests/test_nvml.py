"""Readings of a GPU: replayed on a virtual clock, and through the real nvidia-ml-py over ctypes callbacks."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from kvplan.measuring.device import nvml
from kvplan.measuring.device.course import CAPPED, REJECTED, SHARED, THROTTLED
from kvplan.measuring.device.nvml import NoMeter, Nvml, Reading, Replay, open_nvml, state, window

UINT, ULONG, POINTER = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_void_p


class Stub:
    """A driver: attributes are C callbacks that write a number where they are told, as libnvidia-ml.so does."""

    def __init__(
        self, values: dict[str, tuple[Any, int]], pids: tuple[int, ...] = (), several: bool = False, mig: bool = False
    ) -> None:
        self.asked: list[int] = []
        self.nvmlInitWithFlags = ctypes.CFUNCTYPE(ctypes.c_int, UINT)(lambda flags: 0)
        self.nvmlInit_v2 = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
        self.nvmlDeviceGetName = self._text(b"NVIDIA Stub", device=True)
        self.nvmlSystemGetDriverVersion = self._text(b"600.1", device=False)
        self.gpus = {1: "GPU-aaaa-1", 2: "GPU-bbbb-2"} if several else {1: "GPU-aaaa-1"}
        self.parts = {11: "MIG-cccc-11", 12: "MIG-dddd-12"} if mig else {}
        self.nvmlDeviceGetHandleByIndex_v2 = ctypes.CFUNCTYPE(ctypes.c_int, UINT, POINTER)(
            lambda index, target: self._handle(target, [*self.gpus], index)
        )
        self.nvmlDeviceGetMigDeviceHandleByIndex = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, UINT, POINTER)(
            lambda gpu, index, target: self._handle(target, [*self.parts], index)
        )
        self.nvmlDeviceGetCount_v2 = self._fixed(len(self.gpus))
        self.nvmlDeviceGetMigMode = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER, POINTER)(self._mig_mode)
        self.nvmlDeviceGetMaxMigDeviceCount = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER)(
            lambda gpu, target: self._handle(target, [7], 0, UINT)
        )
        self.nvmlDeviceGetUUID = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER, UINT)(self._uuid)
        for name, (kind, value) in values.items():
            setattr(self, name, self._number(kind, value, name))
        self.nvmlDeviceGetMemoryInfo = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER)(self._memory)
        self.pids = pids
        self.nvmlDeviceGetComputeRunningProcesses_v3 = ctypes.CFUNCTYPE(
            ctypes.c_int, POINTER, ctypes.POINTER(UINT), POINTER
        )(self._processes)

    @staticmethod
    def _handle(target: int, known: list[int], index: int, kind: Any = ctypes.c_size_t) -> int:
        if index >= len(known):
            return 6  # not found
        ctypes.cast(target, ctypes.POINTER(kind))[0] = known[index]
        return 0

    @staticmethod
    def _fixed(value: int) -> Any:
        def write(target: int) -> int:
            ctypes.cast(target, ctypes.POINTER(UINT))[0] = value
            return 0

        return ctypes.CFUNCTYPE(ctypes.c_int, POINTER)(write)

    def _mig_mode(self, gpu: int, current: int, pending: int) -> int:
        if not self.parts:
            return 3  # not supported
        ctypes.cast(current, ctypes.POINTER(UINT))[0] = 1
        return 0

    def _uuid(self, handle: int, target: int, size: int) -> int:
        text = {**self.gpus, **self.parts}[handle].encode()
        ctypes.memmove(target, text + b"\0", len(text) + 1)
        return 0

    @staticmethod
    def _text(text: bytes, device: bool) -> Any:
        def write(*arguments: Any) -> int:
            ctypes.memmove(arguments[-2], text + b"\0", len(text) + 1)
            return 0

        return ctypes.CFUNCTYPE(ctypes.c_int, *([POINTER] if device else []), POINTER, UINT)(write)

    @staticmethod
    def _number(kind: Any, value: int, name: str) -> Any:
        def write(*arguments: Any) -> int:
            if value < 0:
                return -value
            ctypes.cast(arguments[-1], ctypes.POINTER(kind))[0] = value
            return 0

        middle = [ctypes.c_uint] if name in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature") else []
        return ctypes.CFUNCTYPE(ctypes.c_int, POINTER, *middle, POINTER)(write)

    @staticmethod
    def _memory(handle: int, target: int) -> int:
        found = ctypes.cast(target, ctypes.POINTER(ULONG))
        found[0], found[1], found[2] = 1000, 400, 600
        return 0

    def _processes(self, handle: int, count: Any, target: int) -> int:
        import pynvml

        if not target:
            count[0] = len(self.pids)
            return 7 if self.pids else 0
        kind = pynvml.c_nvmlProcessInfo_v3_t
        for i, pid in enumerate(self.pids):
            kind.from_address(target + i * ctypes.sizeof(kind)).pid = pid
        count[0] = len(self.pids)
        return 0


VALUES = {
    "nvmlDeviceGetClockInfo": (UINT, 1980),
    "nvmlDeviceGetPowerUsage": (UINT, 612_345),
    "nvmlDeviceGetTotalEnergyConsumption": (ULONG, 5_000_000_123),
    "nvmlDeviceGetTemperature": (UINT, 61),
    "nvmlDeviceGetCurrentClocksEventReasons": (ULONG, 0x04),
}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield pynvml
    pynvml.nvmlLib = None


def opened(pynvml: Any, values: dict[str, tuple[Any, int]] | None = None, pids: tuple[int, ...] = ()) -> Nvml:
    pynvml.nvmlLib = Stub(VALUES if values is None else values, pids)
    meter = open_nvml(frozenset([42]), library=pynvml)
    assert isinstance(meter, Nvml)
    return meter


@pytest.mark.parametrize(
    ("uuid", "visible", "handle"),
    [
        ("bbbb-2", "1", 2),  # torch's own spelling; the index of CUDA says nothing
        ("bbbb-2", "", 2),
        ("", "GPU-bb", 2),
        ("", "GPU-bbbb-2,GPU-aaaa-1", 2),
        ("", "1", None),
        ("cccc", "", None),
    ],
)
def test_the_gpu_is_found_by_uuid_and_never_by_cudas_index(library: Any, uuid, visible, handle) -> None:
    library.nvmlLib = Stub(VALUES, several=True)
    meter = open_nvml(frozenset(), uuid, visible, library)
    if handle is None:
        assert isinstance(meter, NoMeter)
        assert "no clocks, power or throttling: NVML sees" in meter.why
    else:
        assert ctypes.cast(meter.handle, POINTER).value == handle
        assert meter.read().power == pytest.approx(612.345)


@pytest.mark.parametrize(
    ("uuid", "visible", "handle"),
    [("aaaa-1", "MIG-dddd-12", 12), ("aaaa-1", "MIG-dd", 12), ("cccc-11", "0", 11), ("aaaa-1", "0", None)],
)
def test_a_mig_instance_has_no_power_of_its_own(library: Any, uuid, visible, handle) -> None:
    library.nvmlLib = Stub(VALUES, mig=True)
    meter = open_nvml(frozenset(), uuid, visible, library)
    assert isinstance(meter, Nvml)
    assert (ctypes.cast(meter.handle, POINTER).value if meter.handle else None) == handle
    assert "a MIG instance has none of its own" in meter.why
    found = meter.read()
    assert (found.power, found.energy) == (None, None)
    assert found.sm_clock == 1.98e9
    assert found.memory_used == (None if handle is None else 600.0)


@pytest.mark.parametrize("code", [9, 18, 4, 15, 999])  # no driver, mismatch, no permission, lost, unknown
def test_a_driver_that_refuses_leaves_the_profile_without_a_meter(library: Any, code: int) -> None:
    stub = Stub(VALUES)
    stub.nvmlInitWithFlags = ctypes.CFUNCTYPE(ctypes.c_int, UINT)(lambda flags: code)
    stub.nvmlInit_v2 = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: code)
    library.nvmlLib = stub
    meter = open_nvml(frozenset(), "aaaa-1", library=library)
    assert isinstance(meter, NoMeter)
    assert meter.why.startswith("no clocks, power or throttling: NVML says ")
    assert "\n" not in meter.why


def test_an_older_package_lacks_functions_and_permissions_may_be_missing(library: Any, monkeypatch) -> None:
    monkeypatch.delattr(library, "nvmlDeviceGetCurrentClocksEventReasons")
    values = {**VALUES, "nvmlDeviceGetTotalEnergyConsumption": (ULONG, -4),
              "nvmlDeviceGetCurrentClocksThrottleReasons": (ULONG, 0x20)}  # fmt: skip
    found = opened(library, values).read()
    assert found.reasons == ("software thermal slowdown",)
    assert (found.energy, found.sm_clock) == (None, 1.98e9)


def test_the_real_library_gives_base_units(library: Any) -> None:
    meter = opened(library, pids=(42,))
    assert (meter.device, meter.driver, meter.source) == ("NVIDIA Stub", "600.1", "nvml")
    assert meter.read() == Reading(
        sm_clock=1.98e9,
        memory_clock=1.98e9,
        power=pytest.approx(612.345),
        energy=pytest.approx(5_000_000.123),
        temperature=61.0,
        memory_used=600.0,
        others=0,
        reasons=("power cap",),
    )


def test_what_is_not_supported_reads_none_and_is_not_asked_again(library: Any) -> None:
    meter = opened(library, {**VALUES, "nvmlDeviceGetPowerUsage": (UINT, -3)})
    assert meter.read().power is None
    assert "nvmlDeviceGetPowerUsage" in meter.missing
    assert meter.read().sm_clock == 1.98e9


def test_an_older_driver_lacks_functions(library: Any) -> None:
    meter = opened(library, {"nvmlDeviceGetCurrentClocksThrottleReasons": (ULONG, 0x40)})
    found = meter.read()
    assert found.reasons == ("hardware thermal slowdown",)
    assert (found.power, found.energy, found.sm_clock) == (None, None, None)


@pytest.mark.parametrize(("pids", "others"), [((), 0), ((42,), 0), ((42, 7), 1), ((7,), 0), ((7, 8), 1)])
def test_another_process_is_noticed_even_where_a_container_hides_ours(library: Any, pids, others) -> None:
    assert opened(library, pids=pids).read().others == others


def test_without_a_driver_there_is_one_clear_line(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(library, "CDLL", missing)
    library.nvmlLib = None
    meter = open_nvml(frozenset([42]), library=library)
    assert isinstance(meter, NoMeter)
    assert "NVML Shared Library Not Found" in meter.why
    assert "\n" not in meter.why
    assert state(meter.read()) == ""


def test_without_the_package_or_with_another_of_its_name_there_is_one_clear_line(monkeypatch) -> None:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in open_nvml(frozenset()).why
    assert "remove it" in open_nvml(frozenset(), library=SimpleNamespace()).why


def test_states_of_samples() -> None:
    assert state(Reading()) == ""
    assert state(Reading(reasons=("power cap",))) == CAPPED
    assert state(Reading(reasons=("power cap", "hardware thermal slowdown"))) == THROTTLED
    assert state(Reading(reasons=("hardware slowdown",), others=1)) == THROTTLED
    assert state(Reading(others=2)) == SHARED
    assert CAPPED not in REJECTED


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trace(power: float) -> list[dict[str, str]]:
    """Return a trace whose energy counter moves every 0.1 s."""
    blank = dict.fromkeys(nvml.TRACE, "")
    return [
        {**blank, "at": f"{i / 10:.1f}", "energy_j": f"{1e6 + power * i / 10:.6f}", "power_w": f"{power}",
         "reasons": "power cap" if i > 20 else "", "device": "NVIDIA H200", "driver": "600.1"}
        for i in range(200)
    ]  # fmt: skip


def test_a_replay_names_itself_and_follows_the_clock() -> None:
    clock = Clock()
    meter = Replay(trace(500), clock)
    assert (meter.device, meter.source) == ("NVIDIA H200 (replayed)", "replay")
    assert state(meter.read()) == ""
    clock.now = 3.0
    assert state(meter.read()) == CAPPED
    assert meter.read().energy == pytest.approx(1e6 + 1500)


@pytest.mark.parametrize("call", [0.003, 0.017])
def test_an_energy_window_between_steps_of_the_counter_is_right(call: float) -> None:
    clock = Clock()

    def work() -> None:
        clock.now += call

    found = window(Replay(trace(500), clock), clock, work, length=2.0)
    assert found is not None
    assert found.energy / found.time == pytest.approx(500, rel=0.015)
    assert found.calls == round(found.time / call)
    assert window(NoMeter("none"), clock, work) is None
