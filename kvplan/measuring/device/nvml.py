"""What a GPU says about itself while it is measured: clocks, power, energy, throttling, memory, other processes.

NVML counts in mW, mJ, MHz and bit masks; all of it becomes base units here, where NVML is called, and nowhere else. It
is only ever read: nothing in this module sets a clock, a limit or a mode.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from kvplan.measuring.device.course import CAPPED, SHARED, THROTTLED, reason

#: what slows a GPU down, by NVML's bit: names of hardware, of heat, of the power limit, and the harmless ones
REASONS = {
    0x01: "idle",
    0x02: "application clocks",
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
#: reasons that spoil a sample
SPOILING = {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake"}
KILO, MEGA = 1e3, 1e6
#: the energy counter moves about ten times a second; a window shorter than this means little [s]
WINDOW = 3.0
#: a window waits this long for the counter to move before it does without an aligned start [s]
EDGE = 0.5
NOTHING = "no clocks, power or throttling"
SLICE = "no power or energy: a MIG instance has none of its own; clocks and throttling are the whole GPU's"
#: columns of a trace
TRACE = (
    *("phase", "at", "sm_clock_hz", "memory_clock_hz", "power_w", "energy_j", "temperature_c", "memory_used_b"),
    *("others", "reasons", "device", "driver", "date", "tool"),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at a GPU; None where it does not say. Clocks in Hz, power in W, energy since driver load in J."""

    sm_clock: float | None = None  #: of the multiprocessors [Hz]
    memory_clock: float | None = None  #: of the memory [Hz]
    power: float | None = None  #: drawn now [W]
    energy: float | None = None  #: since the driver was loaded [J]
    temperature: float | None = None  #: of the chip [degrees C]
    memory_used: float | None = None  #: of all processes [B]
    others: int | None = None  #: processes of others that compute on it
    reasons: tuple[str, ...] = ()  #: why the clocks are throttled


class Meter(Protocol):
    """Looks at one GPU. `source`: 'nvml', 'replay' or 'none'; `why`: what it does not say, and the reason."""

    source: str
    device: str
    driver: str
    why: str

    def read(self) -> Reading:
        """Return what the sensors show now; a sensor that is missing reads None."""


class NoMeter:
    """No NVML: every reading is empty, and `why` says what to do about it."""

    source, device, driver = "none", "", ""

    def __init__(self, why: str):
        self.why = why

    def read(self) -> Reading:
        """Return a reading in which every sensor is missing."""
        return Reading()


def state(reading: Reading) -> str:
    """Return what a reading makes of a sample: throttled and shared ones are rejected, a power cap is a label."""
    if SPOILING & set(reading.reasons):
        return THROTTLED
    if reading.others:
        return SHARED
    return CAPPED if "power cap" in reading.reasons else ""


def columns(reading: Reading) -> dict[str, str]:
    """Return a reading as columns of a sample; empty where the GPU did not say."""
    figures = {
        "sm_clock_hz": reading.sm_clock,
        "memory_clock_hz": reading.memory_clock,
        "power_w": reading.power,
        "temperature_c": reading.temperature,
    }
    text = {name: "" if value is None else f"{value:.9g}" for name, value in figures.items()}
    return {**text, "reasons": "; ".join(reading.reasons)}


class Nvml:
    """The meter of one GPU through nvidia-ml-py; what this GPU or guest does not support reads None from then on.

    handle: what is measured; whole: the GPU it is a part of, itself where it is no MIG instance.
    """

    source = "nvml"

    def __init__(self, library: Any, handle: Any, own: frozenset[int], whole: Any = None):
        self.calls, self.own = library, own
        self.handle, self.whole = handle, handle if whole is None else whole
        self.shared = whole is not None
        self.why = SLICE if self.shared else ""
        self.missing: set[str] = set()
        self.device = str(self._call("nvmlDeviceGetName", self.whole) or "")
        self.driver = str(self._call("nvmlSystemGetDriverVersion") or "")

    def _call(self, name: str, *arguments: Any) -> Any:
        if name in self.missing:
            return None
        try:
            return getattr(self.calls, name)(*arguments)
        except AttributeError:  # an older nvidia-ml-py
            self.missing.add(name)
            return None
        except self.calls.NVMLError as error:
            if error.value in (
                self.calls.NVML_ERROR_NOT_SUPPORTED,
                self.calls.NVML_ERROR_FUNCTION_NOT_FOUND,
                self.calls.NVML_ERROR_NO_PERMISSION,
            ):
                self.missing.add(name)
            return None

    def _own(self, name: str, *arguments: Any) -> Any:
        """Ask about what is measured alone."""
        return None if self.handle is None else self._call(name, self.handle, *arguments)

    def _scaled(self, factor: float, name: str, *arguments: Any) -> float | None:
        """Ask about the whole GPU, in base units."""
        amount = self._call(name, self.whole, *arguments)
        return None if amount is None else amount * factor

    def read(self) -> Reading:
        """Return the device's clocks [Hz], power [W], energy [J], temperature [°C] and memory [B] as they are now."""
        memory = self._own("nvmlDeviceGetMemoryInfo")
        mask = self._call("nvmlDeviceGetCurrentClocksEventReasons", self.whole)
        if mask is None:  # drivers before 535 know only the older name
            mask = self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self.whole)
        return Reading(
            sm_clock=self._scaled(MEGA, "nvmlDeviceGetClockInfo", self.calls.NVML_CLOCK_SM),
            memory_clock=self._scaled(MEGA, "nvmlDeviceGetClockInfo", self.calls.NVML_CLOCK_MEM),
            power=None if self.shared else self._scaled(1 / KILO, "nvmlDeviceGetPowerUsage"),
            energy=None if self.shared else self._scaled(1 / KILO, "nvmlDeviceGetTotalEnergyConsumption"),
            temperature=self._scaled(1.0, "nvmlDeviceGetTemperature", self.calls.NVML_TEMPERATURE_GPU),
            memory_used=None if memory is None else float(memory.used),
            others=self._others(),
            reasons=tuple(name for bit, name in REASONS.items() if (mask or 0) & bit),
        )

    def _others(self) -> int | None:
        """Return how many processes besides ours compute on this GPU; a container may hide which are ours."""
        processes = self._own("nvmlDeviceGetComputeRunningProcesses")
        if processes is None:
            return None
        strangers = [process for process in processes if process.pid not in self.own]
        return len(strangers) if len(strangers) < len(processes) else max(len(processes) - len(self.own), 0)


def devices(library: Any) -> list[tuple[str, Any, Any]]:
    """Return (UUID, handle, the GPU it is a part of) of every MIG instance, and of every GPU with None."""
    devices: list[tuple[str, Any, Any]] = []
    for index in range(library.nvmlDeviceGetCount()):
        with suppress(library.NVMLError):  # a GPU that this guest may not see
            gpu = library.nvmlDeviceGetHandleByIndex(index)
            devices.append((library.nvmlDeviceGetUUID(gpu), gpu, None))
            if mig(library, gpu):
                for slot in range(library.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                    with suppress(library.NVMLError):  # an empty slot
                        part = library.nvmlDeviceGetMigDeviceHandleByIndex(gpu, slot)
                        devices.append((library.nvmlDeviceGetUUID(part), part, gpu))
    return devices


def mig(library: Any, gpu: Any) -> bool:
    """Return whether a GPU is cut into MIG instances."""
    try:
        return bool(library.nvmlDeviceGetMigMode(gpu)[0])
    except (library.NVMLError, AttributeError):
        return False


def named(word: str, uuid: str) -> bool:
    """Return whether a word, with or without GPU- or MIG- and perhaps cut short, is the beginning of a UUID."""
    return bool(word) and (uuid.startswith(word) or uuid.split("-", 1)[-1].startswith(word))


def chosen(library: Any, own: frozenset[int], uuid: str, visible: str) -> Meter:
    """Return the meter of the device torch uses: by the MIG instance that is visible, else by torch's UUID of it.

    CUDA counts only visible devices, and may order them by speed: its index says nothing to NVML.
    """
    known, first = devices(library), visible.split(",")[0].strip()
    words = [first] if first.startswith("MIG-") else [uuid or ("" if first.isdigit() else first)]
    matching = [entry for entry in known if named(words[0], entry[0])]
    gpus = [entry for entry in known if entry[2] is None]
    if not matching and len(gpus) == 1 and not mig(library, gpus[0][1]):
        matching = gpus
    if len(matching) != 1:
        what = f"no device {words[0]}" if words[0] and not matching else f"{len(known)} devices, which one is not known"
        return NoMeter(f"{NOTHING}: NVML sees {what}")
    _, handle, whole = matching[0]
    if whole is None and mig(library, handle):
        return Nvml(library, None, own, handle)
    return Nvml(library, handle, own, whole)


def open_nvml(own: frozenset[int], uuid: str = "", visible: str = "", library: Any = None) -> Meter:
    """Return the meter of a GPU, or a NoMeter that says in one line why there is none.

    uuid: as torch spells it, where it does; visible: CUDA_VISIBLE_DEVICES.
    """
    if library is None:
        try:
            import pynvml as library  # type: ignore[import-untyped,import-not-found,unused-ignore,no-redef]
        except ImportError:
            return NoMeter(f"{NOTHING}: pip install nvidia-ml-py")
    if not hasattr(library, "_nvmlGetFunctionPointer"):
        return NoMeter(f"{NOTHING}: another package than nvidia-ml-py answers to pynvml; remove it")
    try:
        library.nvmlInit()
        return chosen(library, own, uuid, visible)
    except library.NVMLError as error:
        return NoMeter(f"{NOTHING}: NVML says {str(error) or type(error).__name__!r}")
    except (AttributeError, OSError, TypeError, ValueError) as error:  # a library that does not fit its driver
        return NoMeter(f"{NOTHING}: NVML cannot be used ({reason(error)})")


def every(library: Any = None) -> list[Meter]:
    """Return a meter of each whole GPU of this machine, none where NVML says nothing."""
    if library is None:
        try:
            import pynvml as library  # type: ignore[import-untyped,import-not-found,unused-ignore,no-redef]
        except ImportError:
            return []
    try:
        library.nvmlInit()
        return [Nvml(library, handle, frozenset()) for _, handle, whole in devices(library) if whole is None]
    except (library.NVMLError, AttributeError, OSError, ValueError):
        return []


class Replay:
    """A recorded trace on a virtual clock. It names itself a replay, and nothing measured with it may be saved."""

    source, why = "replay", ""

    def __init__(self, trace: Sequence[Mapping[str, str]], clock: Callable[[], float]):
        self.trace, self.clock, self.begun = trace, clock, clock()
        self.device, self.driver = f"{trace[0]['device']} (replayed)", trace[0]["driver"]

    def read(self) -> Reading:
        """Return the last recorded row that is not later than the time passed since the start."""
        passed = self.clock() - self.begun
        first = float(self.trace[0]["at"])
        row = max((r for r in self.trace if float(r["at"]) - first <= passed), key=lambda r: float(r["at"]))
        value = {name: float(row[name]) if row[name] else None for name in TRACE[2:9]}
        return Reading(
            sm_clock=value["sm_clock_hz"],
            memory_clock=value["memory_clock_hz"],
            power=value["power_w"],
            energy=value["energy_j"],
            temperature=value["temperature_c"],
            memory_used=value["memory_used_b"],
            others=None if value["others"] is None else int(value["others"]),
            reasons=tuple(filter(None, row["reasons"].split("; "))),
        )


def trace_row(phase: str, at: float, meter: Meter, heading: Mapping[str, str]) -> dict[str, str]:
    """Return one line of a trace: a reading, when it was taken [s], and what was read by what."""
    r = meter.read()
    used, energy, others = ("" if v is None else f"{v:.12g}" for v in (r.memory_used, r.energy, r.others))
    return {
        **heading, **columns(r), "phase": phase, "at": f"{at:.6f}", "energy_j": energy, "memory_used_b": used,
        "others": others, "device": meter.device, "driver": meter.driver,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Window:
    """Energy [J] and time [s] of a steady window, how often the work ran in it, and how far the energy may be off."""

    energy: float  #: counted in it [J]
    time: float  #: its length [s]
    calls: int  #: how often the work ran
    uncertainty: float  #: how far the energy may be off, of 1


def window(meter: Meter, clock: Callable[[], float], work: Callable[[], None], length: float = WINDOW) -> Window | None:
    """Run `work` (which waits for the device) over and over and return its energy; None where there is no counter.

    Both ends are moved to a step of the energy counter, so that only the length of one call remains uncertain.
    """
    _edge(meter, clock, work)
    first, begun = meter.read().energy, clock()
    if first is None:
        return None
    calls = 0
    while clock() - begun < length:
        work()
        calls += 1
    calls += _edge(meter, clock, work)
    last, spent = meter.read().energy, clock() - begun
    if last is None or last <= first:
        return None
    return Window(energy=last - first, time=spent, calls=calls, uncertainty=min(1.0, 2 / calls))


def _edge(meter: Meter, clock: Callable[[], float], work: Callable[[], None]) -> int:
    """Run `work` until the energy counter moves; return how often it ran."""
    before, begun, calls = meter.read().energy, clock(), 0
    while meter.read().energy == before and clock() - begun < EDGE:
        work()
        calls += 1
    return calls
