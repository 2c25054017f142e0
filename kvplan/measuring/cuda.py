"""Timing probes on a CUDA GPU: kvplan's Triton kernels and torch's products, in CUDA graphs between events."""

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

from kvplan import __version__
from kvplan.measuring.cuda_probes import CUDA_ANCHORS, HEAD_DIM, KV_HEADS, PAGE, RANK, SINKS, cuda_probes
from kvplan.measuring.device import Device, Pool
from kvplan.measuring.nvml import Meter, NoMeter, columns, open_nvml, state, window
from kvplan.measuring.probes import Probe
from kvplan.measuring.profiling import Failed, Sample, TooLarge
from kvplan.units import spell

#: a sample repeats its probe for at least so long [s], and moves at least so many times the L2
LEAST, L2_TIMES = 2e-3, 3.0
MOST_REPEATS = 200
#: the pool inputs are cut from: at most this many bytes, and this share of the free memory
POOL, POOL_SHARE = 8 * 2**30, 0.5
#: time to keep for the fits and the energy windows [s]
RESERVE = 40.0
ENGINE = f"kvplan-{__version__}"

Call = Callable[[], Any]


def pool_of(torch: Any, device: str, size: int) -> Pool:
    """Return views of one long buffer of bf16 normal numbers by type; int4 lies packed in bytes."""
    block = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).to(device)
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
    """Makes calls of probes over inputs from a pool; each call has inputs of its own."""

    def __init__(self, torch: Any, pool: Pool, device: str):
        self.torch, self.pool, self.device = torch, pool, device
        self.lengths: dict[tuple[int, int], Any] = {}

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
        x, y = (self.pool.cut("float32", s["elements"]) for _ in "xy")
        return lambda: copy_probe(x, y)

    def _read(self, probe: Probe, s: Any) -> Call:
        read_probe = launcher("bandwidth", "read_probe")
        x = self.pool.cut("float32", s["elements"])
        return lambda: read_probe(x)

    def _write(self, probe: Probe, s: Any) -> Call:
        write_probe = launcher("bandwidth", "write_probe")
        y = self.pool.cut("float32", s["elements"])
        return lambda: write_probe(y, 1.5)

    def _matmul(self, probe: Probe, s: Any) -> Call:
        torch, m, n, k = self.torch, s["m"], s["n"], s["k"]
        x, w = self.pool.cut(probe.dtype, m, k), self.pool.cut(probe.dtype, n, k)
        out = torch.empty((m, n), dtype=torch.bfloat16, device=self.device)
        if probe.dtype != "fp8":
            return lambda: torch.mm(x, w.t(), out=out)
        one = torch.ones((), device=self.device)
        return lambda: torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

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
        order = self.torch.randperm(b * pages, dtype=self.torch.int32, device=self.device).view(b, pages)
        return lambda: decode_attention(q, k, v, lengths, block_table=order)

    def _h2o(self, probe: Probe, s: Any) -> Call:
        h2o_decode = launcher("h2o", "h2o_decode")
        b, h, d, t = s["batch"], s["kv_heads"], s["head_dim"], s["kv_len"]
        q, lengths = self.pool.cut("bfloat16", b, s["q_heads"], d), self.full(b, t)
        k, v = (self.pool.cut("bfloat16", b, t, h, d) for _ in "kv")
        scores = self.torch.zeros((b, h, t), device=self.device)
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


class CudaTimer:
    """Times probes by CUDA events around a graph of repeats over rotating inputs, and reads NVML while it runs."""

    engine = ENGINE

    def __init__(self, torch: Any, meter: Meter):
        self.torch, self.meter = torch, meter
        self.gpu = torch.cuda.get_device_name()
        self.l2 = float(torch.cuda.get_device_properties(0).L2_cache_size)
        free = torch.cuda.mem_get_info()[0]
        self.room = int(min(POOL, POOL_SHARE * free))
        self.builder = Builder(torch, pool_of(torch, "cuda", self.room), "cuda")
        self.graphs: dict[tuple[str, ...], tuple[Any, int, list[Call]]] = {}
        self.memory: Any = None

    def sample(self, probe: Probe) -> Sample:
        begun = time.perf_counter()
        torch = self.torch
        try:
            with torch.inference_mode():
                if probe.key not in self.graphs:
                    self.graphs[probe.key] = self.capture(partial(self.builder.call, probe), probe.moved)
                graph, repeats, _ = self.graphs[probe.key]
                spent, reading = self._timed(graph.replay)
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise TooLarge(f"{probe.group}: {error}") from None
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise Failed(f"{probe.group}: {error}") from None
        wall = time.perf_counter() - begun
        return Sample(time=spent / repeats, wall=wall, repeats=repeats, state=state(reading), sensors=columns(reading))

    def _timed(self, work: Call) -> tuple[float, Any]:
        """Return the device's time for `work` [s] and a reading taken while it ran."""
        first, last = (self.torch.cuda.Event(enable_timing=True) for _ in "fl")
        first.record()
        work()
        last.record()
        reading = self.meter.read()
        last.synchronize()
        return first.elapsed_time(last) / 1e3, reading

    def seconds(self, make: Callable[[], Call], moved: float, samples: int = 7) -> float:
        """Return the median time of one call [s] over inputs that `make` makes anew."""
        with self.torch.inference_mode():
            graph, repeats, _ = self.capture(make, moved)
            return median(self._timed(graph.replay)[0] / repeats for _ in range(samples))

    def capture(self, make: Callable[[], Call], moved: float) -> tuple[Any, int, list[Call]]:
        """Compile an operator, see how long it takes, and record its repeats as one graph."""
        torch = self.torch
        once = make()
        once()
        torch.cuda.synchronize()
        single = max(self._timed(once)[0], 1e-6)
        wanted = max(LEAST / single, L2_TIMES * self.l2 / max(moved, 1.0))
        repeats = max(1, min(MOST_REPEATS, int(wanted) + 1, int(0.25 / single) + 1))
        calls = [make() for _ in range(repeats)]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.memory):
            for call in calls:
                call()
        self.memory = self.memory or graph.pool()
        return graph, repeats, calls


def cuda_device(torch: Any, own: frozenset[int]) -> Device:
    """Return the first CUDA device, ready to be measured; NVML beside it, to which processes `own` are no strangers."""
    properties = torch.cuda.get_device_properties(0)
    meter = open_nvml(own, f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else "")
    timer = CudaTimer(torch, meter)
    facts = {
        "driver": meter.driver or "unknown", "cuda": str(torch.version.cuda),
        "memory": spell(properties.total_memory, "B"), "multiprocessors": str(properties.multi_processor_count),
        "sensors": meter.source,
    }  # fmt: skip
    fp8 = (properties.major, properties.minor) >= (8, 9)
    others = meter.read().others
    remarks = [meter.why] if isinstance(meter, NoMeter) else []
    remarks += [f"{others} other process(es) compute on this GPU; their samples are rejected"] if others else []
    return Device(
        kind="cuda", name=timer.gpu, timer=timer, probes=[p for p in cuda_probes(fp8) if p.moved < timer.room],
        anchors=CUDA_ANCHORS, facts=facts, label="kvplan's kernels and torch's products", remark="; ".join(remarks),
        reserve=RESERVE, more=partial(energy, timer),
    )  # fmt: skip


# -- what else a GPU's profile says ------------------------------------------------------------------


def replayed(torch: Any, graph: Any) -> None:
    graph.replay()
    torch.cuda.synchronize()


def energy(timer: CudaTimer) -> dict[str, Any]:
    """Return joules a byte and a FLOP above idle, from a steady window each; empty without an energy counter."""
    torch = timer.torch
    probes = {"copy": CUDA_ANCHORS[0], "gemm": CUDA_ANCHORS[1]}
    torch.cuda.synchronize()
    idle = window(timer.meter, time.monotonic, lambda: time.sleep(0.02))
    if idle is None:
        return {}
    found: dict[str, Any] = {"idle": spell(idle.energy / idle.time, "W")}
    for name, probe in probes.items():
        graph, repeats, _ = timer.graphs.get(probe.key) or timer.capture(
            partial(timer.builder.call, probe), probe.moved
        )
        seen = window(timer.meter, time.monotonic, partial(replayed, torch, graph))
        if seen is None:
            return {}
        above = seen.energy - idle.energy / idle.time * seen.time
        done = seen.calls * repeats * (probe.moved if name == "copy" else probe.flops)
        found[name] = {
            "joules_per_byte" if name == "copy" else "joules_per_flop": float(f"{above / done:.4g}"),
            "power": spell(seen.energy / seen.time, "W"),
        }
    return {"energy": found}
