"""What a GPU says about itself while it is measured: clocks, power, energy, throttling, memory, other processes.

NVML counts in mW, mJ, MHz and bit masks; all of it becomes base units here, where NVML is called, and nowhere else. It
is only ever read: nothing in this module sets a clock, a limit or a mode.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kvplan.measuring.profiling import CAPPED, SHARED, THROTTLED

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
#: columns of a trace
TRACE = (
    *("phase", "at", "sm_clock_hz", "memory_clock_hz", "power_w", "energy_j", "temperature_c", "memory_used_b"),
    *("others", "reasons", "device", "driver", "date", "tool"),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at a GPU; None where it does not say. Clocks in Hz, power in W, energy since driver load in J."""

    sm_clock: float | None = None
    memory_clock: float | None = None
    power: float | None = None
    energy: float | None = None
    temperature: float | None = None
    memory_used: float | None = None
    others: int | None = None
    reasons: tuple[str, ...] = ()


class Meter(Protocol):
    """Looks at one GPU. `source`: 'nvml', 'replay' or 'none'."""

    source: str
    device: str
    driver: str

    def read(self) -> Reading: ...


class NoMeter:
    """No NVML: every reading is empty, and `why` says what to do about it."""

    source, device, driver = "none", "", ""

    def __init__(self, why: str):
        self.why = why

    def read(self) -> Reading:
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
    found = {
        "sm_clock_hz": reading.sm_clock,
        "memory_clock_hz": reading.memory_clock,
        "power_w": reading.power,
        "temperature_c": reading.temperature,
    }
    text = {name: "" if value is None else f"{value:.9g}" for name, value in found.items()}
    return {**text, "reasons": "; ".join(reading.reasons)}


class Nvml:
    """The meter of one GPU through nvidia-ml-py; what this GPU or guest does not support reads None from then on."""

    source = "nvml"

    def __init__(self, library: Any, handle: Any, own: frozenset[int]):
        self.calls, self.handle, self.own = library, handle, own
        self.missing: set[str] = set()
        self.device = str(self._ask("nvmlDeviceGetName") or "")
        self.driver = str(self._call("nvmlSystemGetDriverVersion") or "")

    def _call(self, name: str, *arguments: Any) -> Any:
        if name in self.missing:
            return None
        try:
            return getattr(self.calls, name)(*arguments)
        except self.calls.NVMLError as error:
            if error.value in (
                self.calls.NVML_ERROR_NOT_SUPPORTED,
                self.calls.NVML_ERROR_FUNCTION_NOT_FOUND,
                self.calls.NVML_ERROR_NO_PERMISSION,
            ):
                self.missing.add(name)
            return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        return self._call(name, self.handle, *arguments)

    def _scaled(self, factor: float, name: str, *arguments: Any) -> float | None:
        found = self._ask(name, *arguments)
        return None if found is None else found * factor

    def read(self) -> Reading:
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # drivers before 535 know only the older name
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return Reading(
            sm_clock=self._scaled(MEGA, "nvmlDeviceGetClockInfo", self.calls.NVML_CLOCK_SM),
            memory_clock=self._scaled(MEGA, "nvmlDeviceGetClockInfo", self.calls.NVML_CLOCK_MEM),
            power=self._scaled(1 / KILO, "nvmlDeviceGetPowerUsage"),
            energy=self._scaled(1 / KILO, "nvmlDeviceGetTotalEnergyConsumption"),
            temperature=self._scaled(1.0, "nvmlDeviceGetTemperature", self.calls.NVML_TEMPERATURE_GPU),
            memory_used=None if memory is None else float(memory.used),
            others=self._others(),
            reasons=tuple(name for bit, name in REASONS.items() if (mask or 0) & bit),
        )

    def _others(self) -> int | None:
        """Return how many processes besides ours compute on this GPU; a container may hide which are ours."""
        found = self._ask("nvmlDeviceGetComputeRunningProcesses")
        if found is None:
            return None
        strangers = [process for process in found if process.pid not in self.own]
        return len(strangers) if len(strangers) < len(found) else max(len(found) - len(self.own), 0)


def open_nvml(own: frozenset[int], uuid: str = "", library: Any = None) -> Meter:
    """Return the meter of the GPU with this UUID (default: the first), or a NoMeter that says in one line why not."""
    if library is None:
        try:
            import pynvml as library  # type: ignore[import-untyped,import-not-found,unused-ignore,no-redef]
        except ImportError:
            return NoMeter("no clocks, power or throttling: pip install nvidia-ml-py")
    if not hasattr(library, "_nvmlGetFunctionPointer"):
        return NoMeter("no clocks, power or throttling: another package than nvidia-ml-py answers to pynvml; remove it")
    try:
        library.nvmlInit()
        by_uuid = uuid and library.nvmlDeviceGetHandleByUUID(uuid)
        return Nvml(library, by_uuid or library.nvmlDeviceGetHandleByIndex(0), own)
    except library.NVMLError as error:
        return NoMeter(f"no clocks, power or throttling: NVML says {str(error) or type(error).__name__!r}")


class Replay:
    """A recorded trace on a virtual clock. It names itself a replay, and nothing measured with it may be saved."""

    source = "replay"

    def __init__(self, trace: Sequence[Mapping[str, str]], clock: Callable[[], float]):
        self.trace, self.clock, self.begun = trace, clock, clock()
        self.device, self.driver = f"{trace[0]['device']} (replayed)", trace[0]["driver"]

    def read(self) -> Reading:
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

    energy: float
    time: float
    calls: int
    uncertainty: float


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
