"""Calls of kvplan's Triton kernels and of torch's products that probes time, over inputs cut from one pool."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from kvplan.measuring.device.cuda_probes import HEAD_DIM, KV_HEADS, PAGE, RANK, SINKS
from kvplan.measuring.device.inputs import BufferPool
from kvplan.measuring.device.probes import Probe

#: runs a kernel once over its inputs, without waiting for it
Call = Callable[[], Any]


def pool_of(torch: Any, device: str, size: int) -> BufferPool:
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
    return BufferPool({name: base.view(kind) for name, kind in types.items()})


def launcher(module: str, name: str) -> Callable[..., Any]:
    """Return one of kvplan's kernels; importing them needs triton."""
    kernel: Callable[..., Any] = getattr(import_module(f"kvplan.kernels.{module}"), name)
    return kernel


class Builder:
    """Makes calls of probes over inputs from a pool, each with inputs of its own; outputs overwrite no input."""

    def __init__(self, torch: Any, pool: BufferPool, outputs: BufferPool, device: str):
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
        cos, sin = (self.pool.cut("bfloat16", seen + 1, d // 2) for _ in "cs")
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
        made |= {name: self.pool.cut("bfloat16", t, HEAD_DIM // 2) for name in ("cos", "sin")}
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
