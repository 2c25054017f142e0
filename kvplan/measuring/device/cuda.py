"""Timing probes on a CUDA GPU: kvplan's Triton kernels and torch's products, in CUDA graphs between events."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from math import inf
from multiprocessing import current_process
from statistics import median
from typing import Any

from kvplan import __version__
from kvplan.errors import KvplanError
from kvplan.measuring.device.course import Failed, Sample, TooLarge, reason
from kvplan.measuring.device.cuda_probes import CUDA_ANCHORS, HEAD_DIM, KV_HEADS, PAGE, RANK, SINKS, cuda_probes
from kvplan.measuring.device.machine import Device, Pool
from kvplan.measuring.device.nvml import Meter, NoMeter, Reading, columns, open_nvml, state, window
from kvplan.measuring.device.probes import Probe
from kvplan.measuring.device.worker import Remote, Worker
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
#: time to keep for the fits and the energy windows; longest time for the latter [s]
RESERVE, ENERGY = 40.0, 60.0
ENGINE = f"kvplan-{__version__}"

Call = Callable[[], Any]


def pool_of(torch: Any, device: str, size: int) -> Pool:
    """Return views of one long buffer of bf16 normal numbers by type; int4 lies packed in bytes, no fp8 is NaN."""
    block = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    codes = block.view(torch.uint8)
    codes[codes % 128 == 127] -= 1
    block = block.to(device)
    base = torch.empty(size // 2 // block.numel() * block.numel(), dtype=torch.bfloat16, device=device)
    base.view(-1, block.numel()).copy_(block)
    types = {
        "float32": torch.float32, "bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8,
        "int4": torch.uint8,
    }  # fmt: skip
    return Pool({name: base.view(kind) for name, kind in types.items()})


def launcher(module: str, name: str) -> Callable[..., Any]:
    """Return one of kvplan's kernels; importing them needs triton."""
    found: Callable[..., Any] = getattr(import_module(f"kvplan.kernels.{module}"), name)
    return found


class Builder:
    """Makes calls of probes over inputs from a pool, each with inputs of its own; outputs overwrite no input."""

    def __init__(self, torch: Any, pool: Pool, outputs: Pool, device: str):
        self.torch, self.pool, self.outputs, self.device = torch, pool, outputs, device
        self.lengths: dict[tuple[int, int], Any] = {}
        self.tables: dict[tuple[int, int], Any] = {}

    def full(self, batch: int, length: int) -> Any:
        """Return [batch] lengths, made once."""
        if (batch, length) not in self.lengths:
            made = self.torch.full((batch,), length, dtype=self.torch.int32, device=self.device)
            self.lengths[batch, length] = made
        return self.lengths[batch, length]

    def call(self, probe: Probe) -> Call:
        """Return a call of a probe's kernel; `_<kernel>` makes it."""
        name = probe.kernel.removeprefix("triton_").removeprefix("torch_")
        made: Call = getattr(self, f"_{name}")(probe, probe.sizes)
        return made

    def _copy(self, probe: Probe, s: Any) -> Call:
        copy_probe = launcher("bandwidth", "copy_probe")
        x, y = self.pool.cut("float32", s["elements"]), self.outputs.cut("float32", s["elements"])
        return lambda: copy_probe(x, y)

    def _read(self, probe: Probe, s: Any) -> Call:
        read_probe = launcher("bandwidth", "read_probe")
        x = self.pool.cut("float32", s["elements"])
        return lambda: read_probe(x)

    def _write(self, probe: Probe, s: Any) -> Call:
        write_probe = launcher("bandwidth", "write_probe")
        y = self.outputs.cut("float32", s["elements"])
        return lambda: write_probe(y, 1.5)

    def _matmul(self, probe: Probe, s: Any) -> Call:
        torch, m, n, k = self.torch, s["m"], s["n"], s["k"]
        x, w = self.pool.cut(probe.dtype, m, k), self.pool.cut(probe.dtype, n, k)
        out = self.outputs.cut("bfloat16", m, n)
        if probe.dtype != "fp8":
            return lambda: torch.mm(x, w.t(), out=out)
        one = torch.ones((), device=self.device)  # one scale a tensor, as inference has it; w.t() is column-major
        options = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": True}
        return lambda: torch._scaled_mm(x, w.t(), **options, out=out)

    def _decode(self, probe: Probe, s: Any) -> Call:
        decode_attention = launcher("decode_attention", "decode_attention")
        quantised_decode = launcher("quantised_decode", "quantised_decode")
        b, h, d, t, kept = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"], probe.kv_dtype
        q, lengths = self.pool.cut("bfloat16", b, s["q_heads"], d), self.full(b, t)
        k, v = (self.pool.cut(kept, b, t, h, d // 2 if kept == "int4" else d) for _ in "kv")
        if kept == "bfloat16":
            return lambda: decode_attention(q, k, v, lengths)
        if kept == "fp8":
            return lambda: quantised_decode(q, k, v, lengths, kind=kept)
        sides = [self.pool.cut("bfloat16", b, h, d // 64, t) for _ in range(4)]
        names = dict(zip(("k_scale", "k_zero", "v_scale", "v_zero"), sides, strict=True))
        return lambda: quantised_decode(q, k, v, lengths, kind=kept, **names)

    def _absorbed(self, probe: Probe, s: Any) -> Call:
        absorbed_decode = launcher("latent_decode", "absorbed_decode")
        b, t, width = s["batch"], s["kv_len"], s["head_dim"]
        cache, q = self.pool.cut("bfloat16", b, t, width), self.pool.cut("bfloat16", b, s["q_heads"], width)
        parts = {"q_rope": q[..., RANK:], "k_rope": cache[..., RANK:], "scale": 192**-0.5}
        lengths = self.full(b, t)
        return lambda: absorbed_decode(q[..., :RANK], cache[..., :RANK], lengths, **parts)

    def _paged(self, probe: Probe, s: Any) -> Call:
        decode_attention = launcher("decode_attention", "decode_attention")
        b, h, d, t = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"]
        pages = -(-t // PAGE)
        q, lengths = self.pool.cut("bfloat16", b, s["q_heads"], d), self.full(b, t)
        k, v = (self.pool.cut("bfloat16", b * pages, PAGE, h, d) for _ in "kv")
        if (b, pages) not in self.tables:
            order = self.torch.randperm(b * pages, dtype=self.torch.int32, device=self.device)
            self.tables[b, pages] = order.view(b, pages)
        order = self.tables[b, pages]
        return lambda: decode_attention(q, k, v, lengths, block_table=order)

    def _h2o(self, probe: Probe, s: Any) -> Call:
        h2o_decode = launcher("h2o", "h2o_decode")
        b, h, d, t = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"]
        q, lengths = self.pool.cut("bfloat16", b, s["q_heads"], d), self.full(b, t)
        k, v = (self.pool.cut("bfloat16", b, t, h, d) for _ in "kv")
        scores = self.outputs.cut("float32", b, h, t)
        return lambda: h2o_decode(q, k, v, lengths, scores)

    def _streaming_absolute(self, probe: Probe, s: Any) -> Call:
        return self._streaming(s, "absolute")

    def _streaming_cache(self, probe: Probe, s: Any) -> Call:
        return self._streaming(s, "cache")

    def _streaming(self, s: Any, mode: str) -> Call:
        """Return decode over sinks and a ring that went round once and a half."""
        streaming_decode = launcher("streaming", "streaming_decode")
        b, h, d, slots = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"]
        seen = slots + slots // 2
        q = self.pool.cut("bfloat16", b, s["q_heads"], d)
        k, v = (self.pool.cut("bfloat16", b, slots, h, d) for _ in "kv")
        cos, sin = (self.pool.cut("float32", seen + 1, d // 2) for _ in "cs")
        written = self.full(b, seen)
        return lambda: streaming_decode(q, k, v, written, cos, sin, sinks=SINKS, mode=mode)

    def _absorbed_mhc(self, probe: Probe, s: Any) -> Call:
        absorbed_decode = launcher("latent_decode", "absorbed_decode")
        b, t, rank = s["batch"], s["kv_len"], s["rank"]
        latent, q = self.pool.cut(probe.kv_dtype, b, t, rank), self.pool.cut("bfloat16", b, s["q_heads"], rank)
        lengths = self.full(b, t)
        return lambda: absorbed_decode(q, latent, lengths, scale=HEAD_DIM**-0.5)

    def _latents(self, s: Any) -> dict[str, Any]:
        """Return what the forms that rebuild keys need, by the names of their arguments."""
        b, t, rank = s["batch"], s["kv_len"], s["rank"]
        made = {"q": self.pool.cut("bfloat16", b, s["q_heads"], HEAD_DIM), "lengths": self.full(b, t)}
        made |= {name: self.pool.cut("bfloat16", b, t, rank) for name in ("k_latent", "v_latent")}
        made |= {name: self.pool.cut("float32", t, HEAD_DIM // 2) for name in ("cos", "sin")}
        return {**made, "k_up": self.pool.cut("bfloat16", KV_HEADS, rank, HEAD_DIM)}

    def _fused(self, probe: Probe, s: Any) -> Call:
        return partial(launcher("latent_decode", "fused_decode"), **self._latents(s))

    def _reconstruct(self, probe: Probe, s: Any) -> Call:
        v_up = self.pool.cut("bfloat16", KV_HEADS, s["rank"], HEAD_DIM)
        return partial(launcher("latent_decode", "reconstruct_decode"), v_up=v_up, **self._latents(s))

    def _prefill(self, probe: Probe, s: Any) -> Call:
        prefill_attention = launcher("prefill_attention", "prefill_attention")
        tokens, d, torch = s["batch"] * s["isl"], s["head_dim"], self.torch
        q = self.pool.cut("bfloat16", tokens, s["q_heads"], d)
        k, v = (self.pool.cut("bfloat16", tokens, s["kv_heads"], d) for _ in "kv")
        starts = torch.arange(s["batch"] + 1, dtype=torch.int32, device=self.device) * s["isl"]
        return lambda: prefill_attention(q, k, v, starts, s["isl"])


@dataclass
class Recording:
    """A graph of repeats of one operator; owns what the graph reads and writes until it is closed."""

    graph: Any
    calls: list[Call]

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
        self.swept = self.builder.pool.buffers["float32"][: swept // 4 // SUMS * SUMS].view(SUMS, -1)
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
        others = self.meter.read().others
        remarks = [self.meter.why, why_not and f"no fp8: {why_not}"]
        remarks += [f"{others} other process(es) compute on this GPU; their samples are rejected"] if others else []
        return {
            "gpu": self.gpu, "room": self.room, "fp8": not why_not, "facts": facts,
            "remark": "; ".join(filter(None, remarks)),
        }  # fmt: skip

    def sample(self, probe: Probe) -> Sample:
        """Return one timed sample of a probe; TooLarge when it finds no memory even after all other recordings go."""
        begun, said = time.perf_counter(), ""
        for _ in range(2):  # what other shapes keep may be all that is missing
            try:
                spent, repeats = self._sample(probe)
                break
            except self.torch.cuda.OutOfMemoryError as error:
                said = reason(error)
            self.release()
            if not self.fit():
                raise TooLarge(said)
        else:
            raise TooLarge(said)
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
        found: dict[str, Any] = {"idle": spell(idle.energy / idle.time, "W")}
        for name, probe in probes.items():
            with self.running():
                recording = self._recording(probe)
                seen = window(self.meter, time.monotonic, partial(replayed, torch, recording.graph))
            above = seen.energy - idle.energy / idle.time * seen.time if seen else 0.0
            if seen is None or above <= 0:
                raise Failed(f"no energy above idle was counted during {name}")
            done = seen.calls * recording.repeats * (probe.moved if name == "copy" else probe.flops)
            found[name] = {
                "joules_per_byte" if name == "copy" else "joules_per_flop": float(f"{above / done:.4g}"),
                "power": spell(seen.energy / seen.time, "W"),
            }
        return {"energy": found}


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
            found: dict[str, Any] = worker.ask("energy", limit=ENERGY)
        except KvplanError as error:
            return {"energy_note": f"no energy: {error}"}
        return found

    return Device(
        kind="cuda", name=about["gpu"], timer=Remote(worker, about["gpu"], ENGINE), probes=kept,
        anchors=CUDA_ANCHORS, facts=facts, label="kvplan's kernels and torch's products",
        remark="; ".join(filter(None, remarks)), reserve=RESERVE, more=more, close=worker.close,
    )  # fmt: skip
