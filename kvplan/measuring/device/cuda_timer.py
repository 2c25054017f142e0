"""Timing probes on a CUDA GPU: their calls in CUDA graphs between events, over inputs that are cold."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from statistics import median
from typing import Any

from kvplan import __version__
from kvplan.measuring.device.course import Failed, Sample, TooLarge, reason
from kvplan.measuring.device.cuda_calls import Builder, Call, pool_of
from kvplan.measuring.device.cuda_probes import CUDA_ANCHORS
from kvplan.measuring.device.nvml import Meter, Reading, columns, state, window
from kvplan.measuring.device.probes import Probe
from kvplan.units import spell

#: a sample repeats its probe for at least so long [s]
LEAST = 2e-3
MOST_REPEATS = 200
#: the pools that inputs and outputs are cut from: at most so many bytes, and this share of the free memory
POOL, POOL_SHARE = 2**33, 0.5
OUTPUTS, OUTPUTS_SHARE, LEAST_OUTPUTS = 2**31, 0.15, 2**26
#: recordings are given up when less than this share of the memory is free
FLOOR = 0.1
#: bytes that go through the L2 before a sample, at least, and into how many sums
LEAST_SWEPT, SUMS = 2**27, 1024
#: NVML moves its figures about this often, and asking takes as long as a sample [s]
EVERY = 0.05
ENGINE = f"kvplan-{__version__}"


@dataclass
class Recording:
    """A graph of repeats of one operator; owns what the graph reads and writes until it is closed."""

    graph: Any  #: torch.cuda.CUDAGraph
    calls: list[Call]  #: the repeats, in order; each holds its own inputs

    @property
    def repeats(self) -> int:
        """How often one replay runs the operator."""
        return len(self.calls)

    def close(self) -> None:
        """Give the graph's memory back, and the tensors it reads."""
        self.graph.reset()
        self.calls = []


class CudaTimer:
    """Times probes by CUDA events around a graph of repeats over rotating inputs, and reads NVML while it runs.

    All graphs write what they return into one pool of memory, one after the other: nobody reads it. The pool is that of
    `root`, a graph kept for as long, since torch gives a pool back with its last graph.
    """

    engine = ENGINE

    def __init__(self, torch: Any, meter: Meter, device: str = "cuda"):
        self.torch, self.meter = torch, meter
        self.gpu = torch.cuda.get_device_name()
        properties = torch.cuda.get_device_properties(0)
        free = torch.cuda.mem_get_info()[0]
        self.floor = int(FLOOR * properties.total_memory)
        self.room = int(min(POOL, POOL_SHARE * free))
        outputs = int(min(OUTPUTS, OUTPUTS_SHARE * free))
        if outputs < LEAST_OUTPUTS:
            raise TooLarge(f"only {spell(free, 'B')} of the GPU's memory are free")
        self.builder = Builder(torch, pool_of(torch, device, self.room), pool_of(torch, device, outputs), device)
        swept = min(max(LEAST_SWEPT, 2 * int(properties.L2_cache_size)), self.room // 2)
        self.swept = torch.zeros(SUMS, swept // 4 // SUMS, device=device)  # no part of the pool: inputs are cold
        self.sums = torch.zeros(SUMS, device=device)
        self.stream = torch.cuda.Stream()
        self.root: Any = None
        self.recordings: dict[tuple[str, ...], Recording] = {}
        self.reading, self.read_at = Reading(), -inf
        with self.running():
            self.sums.add_(1.0)
            self.root = self._record([lambda: self.sums.add_(1.0)])

    def about(self) -> dict[str, Any]:
        """Return what the other side has to know of this GPU; plain values."""
        properties, hip = self.torch.cuda.get_device_properties(0), self.torch.version.hip
        why_not = no_fp8(properties, hip)
        facts = {
            "driver": self.meter.driver or "unknown",
            **({"hip": str(hip)} if hip else {"cuda": str(self.torch.version.cuda)}),
            "memory": spell(properties.total_memory, "B"), "multiprocessors": str(properties.multi_processor_count),
            "sensors": self.meter.source,
        }  # fmt: skip
        seen = self.meter.read()
        others = seen.others
        remarks = [self.meter.why, why_not and f"no fp8: {why_not}"]
        remarks += [f"{others} other process(es) compute on this GPU; their samples are rejected"] if others else []
        return {
            "gpu": self.gpu, "room": self.room, "fp8": not why_not, "facts": facts,
            "remark": "; ".join(filter(None, remarks)), "energy": seen.energy is not None,
        }  # fmt: skip

    def sample(self, probe: Probe) -> Sample:
        """Return one timed sample of a probe; TooLarge when it finds no memory even after all other recordings go."""
        begun, shortage = time.perf_counter(), ""
        for _ in range(2):  # what other shapes keep may be all that is missing
            try:
                spent, repeats = self._sample(probe)
                break
            except self.torch.cuda.OutOfMemoryError as error:
                shortage = reason(error)
            self.release()
            if not self.fit():
                raise TooLarge(shortage)
        else:
            raise TooLarge(shortage)
        wall, seen = time.perf_counter() - begun, self.reading
        return Sample(time=spent / repeats, wall=wall, repeats=repeats, state=state(seen), sensors=columns(seen))

    def _sample(self, probe: Probe) -> tuple[float, int]:
        """Return the time of all repeats [s], and how many they are."""
        with self.running():
            recording = self._recording(probe)
            return self._timed(recording.graph.replay), recording.repeats

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run on the stream that is captured from; wait for what ran before, and leave nothing running."""
        torch = self.torch
        torch.cuda.synchronize()
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            yield
        torch.cuda.synchronize()

    def _timed(self, work: Call) -> float:
        """Return the device's time for `work` [s]; NVML is read meanwhile, if its last reading is not of just now.

        Before, memory that nobody else reads goes through the L2: inputs are then cold, and the device has something to
        do until the host has queued the rest.
        """
        first, last = (self.torch.cuda.Event(enable_timing=True) for _ in "fl")
        self.torch.sum(self.swept, 1, out=self.sums)
        first.record()
        work()
        last.record()
        if time.monotonic() - self.read_at > EVERY:
            self.reading, self.read_at = self.meter.read(), time.monotonic()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3

    def seconds(self, make: Callable[[], Call], samples: int = 7) -> float:
        """Return the median time of one call [s] over inputs that `make` makes anew."""
        with self.running():
            recording = self.capture(make)
            try:
                return median(self._timed(recording.graph.replay) / recording.repeats for _ in range(samples))
            finally:
                recording.close()

    def _recording(self, probe: Probe) -> Recording:
        """Return a probe's recording, made now or kept from before; the oldest go when memory runs short."""
        if probe.key not in self.recordings:
            while self.recordings and self.torch.cuda.mem_get_info()[0] < self.floor:
                self.recordings.pop(next(iter(self.recordings))).close()
                self.torch.cuda.empty_cache()
            self.recordings[probe.key] = self.capture(partial(self.builder.call, probe))
        return self.recordings[probe.key]

    def capture(self, make: Callable[[], Call]) -> Recording:
        """Compile an operator, see how long it takes, and record its repeats as one graph."""
        once = make()
        once()
        self.torch.cuda.synchronize()
        single = max(self._timed(once), 1e-6)
        repeats = max(1, min(MOST_REPEATS, int(LEAST / single) + 1))
        calls = [make() for _ in range(repeats)]
        return Recording(self._record(calls), calls)

    def _record(self, calls: Sequence[Call]) -> Any:
        """Return a graph of these calls, which must have run before: capturing compiles and waits for nothing."""
        graph = self.torch.cuda.CUDAGraph()
        pool = self.root.pool() if self.root else None
        with self.torch.cuda.graph(graph, pool=pool, stream=self.stream):
            for call in calls:
                call()
        return graph

    def release(self) -> None:
        """Give back the memory of all recordings."""
        for recording in self.recordings.values():
            recording.close()
        self.recordings = {}
        self.torch.cuda.empty_cache()

    def fit(self) -> bool:
        """Return whether this process can go on after a failure: it computes, and it captures."""
        torch = self.torch
        try:
            with self.running():
                self.sums.fill_(1.0)
                graph = self._record([lambda: self.sums.add_(1.0)])
                graph.replay()
                torch.cuda.synchronize()
                right = float(self.sums.sum()) == 2.0 * SUMS
                graph.reset()
        except Exception:
            return False
        return right

    def energy(self) -> dict[str, Any]:
        """Return joules a byte and a FLOP above idle, from a steady window each.

        Raises Failed when the GPU does not count its energy, or an anchor does not run.
        """
        torch = self.torch
        probes = {"copy": CUDA_ANCHORS[0], "gemm": CUDA_ANCHORS[1]}
        torch.cuda.synchronize()
        idle = window(self.meter, time.monotonic, lambda: time.sleep(0.02))
        if idle is None:
            raise Failed(self.meter.why or "this GPU does not count its energy")
        energy: dict[str, Any] = {"idle": spell(idle.energy / idle.time, "W")}
        for name, probe in probes.items():
            with self.running():
                recording = self._recording(probe)
                seen = window(self.meter, time.monotonic, partial(replayed, torch, recording.graph))
            above = seen.energy - idle.energy / idle.time * seen.time if seen else 0.0
            if seen is None or above <= 0:
                raise Failed(f"no energy above idle was counted during {name}")
            done = seen.calls * recording.repeats * (probe.moved if name == "copy" else probe.flops)
            energy[name] = {
                "joules_per_byte" if name == "copy" else "joules_per_flop": float(f"{above / done:.4g}"),
                "power": spell(seen.energy / seen.time, "W"),
            }
        return {"energy": energy}


def replayed(torch: Any, graph: Any) -> None:
    """Run a graph once and wait until the device has finished."""
    graph.replay()
    torch.cuda.synchronize()


def no_fp8(properties: Any, hip: str | None) -> str:
    """Return why a GPU has no products and caches in e4m3fn, '' where it has them."""
    if hip:
        architecture = str(getattr(properties, "gcnArchName", "")).split(":")[0]
        known = architecture.startswith(("gfx95", "gfx12"))
        return "" if known else f"{architecture or 'this GPU'} has e4m3fnuz, and the kernels are written for e4m3fn"
    capability = properties.major, properties.minor
    return "" if capability >= (8, 9) else "it needs compute capability 8.9, this GPU has {}.{}".format(*capability)
