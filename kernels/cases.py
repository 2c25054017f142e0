"""Every kernel beside its twin: a table of cases that tests run in the interpreter and `gpu_day` on a GPU.

A case makes its inputs on a device, runs kernel and twin on them, and names the outputs to compare. Inputs lie between
guards of NaN (integers: of a value no kernel survives), so that a load past an edge shows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import reference
from .common import INTERPRETED, fp8_type

#: largest relative Frobenius error, per type of the inputs
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
GUARD = 256

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One shape of one kernel: `make(device)` builds the inputs, `run` and `twin` return outputs by name."""

    name: str
    dtype: torch.dtype
    make: Callable[[torch.device], dict[str, Any]]
    run: Callable[[dict[str, Any]], Outputs]
    twin: Callable[[dict[str, Any]], Outputs]
    tolerance: float

    def errors(self, device: torch.device) -> dict[str, float]:
        """Run both on equal inputs and return the relative error of each output; a written guard raises."""
        with guarded_outputs():
            results = self.run(self.make(device))
        wanted = self.twin(self.make(device))
        return {name: relative_error(results[name], wanted[name]) for name in wanted}


def relative_error(actual: Tensor, wanted: Tensor) -> float:
    """Return |found - wanted| / |wanted| (Frobenius) in fp64; infinities and NaN must be in the same places."""
    actual, wanted = actual.to(torch.float64).cpu(), wanted.to(torch.float64).cpu()
    if actual.shape != wanted.shape:
        raise AssertionError(f"shape {tuple(actual.shape)}, expected {tuple(wanted.shape)}")
    odd = ~torch.isfinite(wanted)
    if not torch.equal(torch.nan_to_num(actual[odd], nan=7e77), torch.nan_to_num(wanted[odd], nan=7e77)):
        return float("inf")
    actual, wanted = actual[~odd], wanted[~odd]
    if not torch.isfinite(actual).all():
        return float("nan")
    size = torch.linalg.vector_norm(wanted)
    return float(torch.linalg.vector_norm(actual - wanted) / (size if size > 0 else 1.0))


def poison(dtype: torch.dtype) -> float:
    """Return what guards hold: NaN, or a code no right answer contains."""
    return float("nan") if dtype.is_floating_point else {torch.uint8: 0xBB, torch.int8: 101}.get(dtype, -(2**28))


def guarded(tensor: Tensor) -> Tensor:
    """Return a copy of a contiguous tensor with guards before and after it."""
    size = tensor.numel()
    room = torch.full((size + 2 * GUARD,), 0, dtype=tensor.dtype, device=tensor.device)
    room[:GUARD] = room[GUARD + size :] = torch.tensor(poison(tensor.dtype)).to(tensor.dtype)
    room[GUARD : GUARD + size] = tensor.reshape(-1)
    return room[GUARD : GUARD + size].view(tensor.shape)


@contextmanager
def guarded_outputs() -> Iterator[None]:
    """Make torch.empty return memory full of NaN between guards; raise when a guard was written."""
    plain, rooms = torch.empty, []

    def empty(shape: Any, *, dtype: torch.dtype, device: Any) -> Tensor:
        size = 1
        for n in shape:
            size *= n
        room = torch.full((size + 2 * GUARD,), poison(dtype), dtype=dtype, device=device)
        rooms.append((room, size))
        return room[GUARD : GUARD + size].view(shape)

    torch.empty = empty
    try:
        yield
    finally:
        torch.empty = plain
    for room, size in rooms:
        edge = torch.cat([room[:GUARD], room[GUARD + size :]])
        kept = edge.isnan() if edge.dtype.is_floating_point else edge == poison(edge.dtype)
        if not kept.all():
            raise AssertionError("a kernel wrote outside its output")


class Maker:
    """Seeded inputs on a device; the same calls give the same numbers."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self.device = device
        self.source = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype, size: float = 1.0) -> Tensor:
        """Return guarded normal numbers of standard deviation `size`."""
        return guarded((torch.randn(shape, generator=self.source) * size).to(dtype).to(self.device))

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return guarded numbers in [0, 1)."""
        return guarded(torch.rand(shape, generator=self.source).to(dtype).to(self.device))

    def integers(self, values: Any, dtype: torch.dtype = torch.int32) -> Tensor:
        """Return the given integers, guarded."""
        return guarded(torch.as_tensor(values).to(dtype).to(self.device))

    def nans(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return guarded NaN, for outputs a caller hands in."""
        return guarded(torch.full(shape, float("nan"), dtype=dtype).to(self.device))

    def rotation(self, positions: int, width: int) -> dict[str, Tensor]:
        """Return the tables cos and sin [positions, width / 2] of rotary embeddings with base 10,000."""
        angles = torch.outer(torch.arange(positions), 1e4 ** -(torch.arange(0, width, 2) / width))
        return {"cos": guarded(angles.cos().to(self.device)), "sin": guarded(angles.sin().to(self.device))}

    def table(self, batch: int, pages: int) -> Tensor:
        """Return a block table [batch, pages] that uses pages 1, 2, ... in a shuffled order; page 0 is nobody's."""
        order = torch.randperm(batch * pages, generator=self.source) + 1
        return self.integers(order.view(batch, pages))

    def cache(self, lengths: list[int], tokens: int, page: int | None, *tail: int, dtype: torch.dtype) -> Tensor:
        """Return a cache for these lengths, [B, tokens, ...] or enough pages; whoever reads past a length meets NaN."""
        if page is not None:
            return self.normal(1 + len(lengths) * -(-tokens // page), page, *tail, dtype=dtype)
        cache = self.normal(len(lengths), tokens, *tail, dtype=dtype)
        for b, n in enumerate(lengths):
            cache[b, n:] = float("nan")
        return cache


CASES: list[Case] = []


def add(
    name: str,
    dtype: torch.dtype,
    make: Callable[[torch.device], dict[str, Any]],
    run: Callable[[dict[str, Any]], Outputs],
    twin: Callable[[dict[str, Any]], Outputs],
    tolerance: float | None = None,
) -> None:
    """Append a case to the table."""
    CASES.append(
        Case(f"{name}-{SHORT[dtype]}", dtype, make, run, twin, TOLERANCE[dtype] if tolerance is None else tolerance)
    )


def pair(out: tuple[Tensor, Tensor]) -> Outputs:
    """Name what an attention returns."""
    return {"out": out[0], "lse": out[1]}


# decode_attention


def add_decode(
    name: str,
    dtype: torch.dtype,
    q_heads: int,
    kv_heads: int,
    width: int,
    lengths: list[int],
    *,
    splits: int | None,
    page: int | None = None,
    logits: bool = False,
) -> None:
    """Add a decode case; `logits` also compares the stored logits."""
    from .decode_attention import decode_attention

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device)
        inputs = {
            "q": x.normal(len(lengths), q_heads, width, dtype=dtype),
            "k": x.cache(lengths, tokens, page, kv_heads, width, dtype=dtype),
            "v": x.cache(lengths, tokens, page, kv_heads, width, dtype=dtype),
            "lengths": x.integers(lengths),
            "block_table": None if page is None else x.table(len(lengths), -(-tokens // page)),
        }
        if logits:
            inputs["logits"] = x.nans(len(lengths), q_heads, tokens, dtype=torch.float16)
        return inputs

    def run(given: dict[str, Any]) -> Outputs:
        out = pair(decode_attention(**given, splits=splits))
        return out | ({"logits": given["logits"]} if logits else {})

    def twin(given: dict[str, Any]) -> Outputs:
        out = pair(reference.decode_attention(**given))
        return out | ({"logits": given["logits"]} if logits else {})

    add(f"decode-{name}", dtype, make, run, twin, max(TOLERANCE[dtype], 2e-3) if logits else None)


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
add_decode("mha-d64", FP32, 2, 2, 64, [13], splits=1)
add_decode("gqa-d128-ragged", BF16, 8, 2, 128, [63, 0], splits=2)
add_decode("gqa-d128-one-token", FP16, 8, 2, 128, [1, 131], splits=2)
add_decode("gqa-d80-paged-long", FP16, 6, 1, 80, [131, 17], splits=1, page=16)
add_decode("gqa-d128-paged-splits", BF16, 8, 1, 128, [191, 61], splits=3, page=16)
add_decode("mqa-d64-page-7", FP32, 20, 1, 64, [29, 0], splits=2, page=7)
add_decode("gqa-d256", FP16, 4, 1, 256, [37], splits=None)
add_decode("gqa-d192-g5", BF16, 5, 1, 192, [37, 1], splits=2)
add_decode("gqa-d112-g3", FP16, 6, 2, 112, [66, 3], splits=1)
add_decode("gqa-d96-page-1", FP16, 2, 1, 96, [9], splits=1, page=1)
add_decode("gqa-d128-logits", FP16, 8, 2, 128, [63, 5], splits=2, logits=True)


# quantised_decode and kv_write


def quantised_cache(
    x: Maker, kind: str, lengths: list[int], tokens: int, page: int | None, heads: int, width: int, groups: int
) -> dict[str, Any]:
    """Return a quantised key and value cache with its scales, by the launcher's argument names."""
    cache: dict[str, Any] = {}
    for name in "kv":
        rows = x.cache(lengths, tokens, page, heads, width, dtype=FP32).nan_to_num() + 0.3
        pages, size = rows.shape[:2]
        if kind == "fp8":
            per = (0.02 + 0.01 * x.uniform(pages, heads, groups, size)) if groups else 0.02
            spread = per.permute(0, 3, 1, 2).repeat_interleave(width // groups, -1) if groups else per
            most = torch.finfo(fp8_type(x.device)).max
            cache[name] = guarded((rows / spread).clamp(-most, most).to(fp8_type(x.device)))
            cache[f"{name}_scale"] = guarded(per) if groups else per
            continue
        codes, scale, zero = reference.quantise(rows.flatten(0, 1), kind, groups)
        cache[name] = guarded(codes.view(pages, size, heads, -1))
        for part, tensor in (("scale", scale), ("zero", zero)):
            cache[f"{name}_{part}"] = guarded(tensor.view(pages, size, heads, groups).permute(0, 2, 3, 1).contiguous())
    return cache


def add_quantised(
    name: str,
    dtype: torch.dtype,
    kind: str,
    q_heads: int,
    kv_heads: int,
    width: int,
    groups: int,
    lengths: list[int],
    *,
    splits: int | None,
    page: int | None = None,
) -> None:
    """Add a quantised decode case."""
    from .quantised_decode import quantised_decode

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 1)
        return {
            "q": x.normal(len(lengths), q_heads, width, dtype=dtype),
            **quantised_cache(x, kind, lengths, tokens, page, kv_heads, width, groups),
            "lengths": x.integers(lengths),
            "block_table": None if page is None else x.table(len(lengths), -(-tokens // page)),
        }

    def run(given: dict[str, Any]) -> Outputs:
        return pair(quantised_decode(**given, kind=kind, splits=splits))

    def twin(given: dict[str, Any]) -> Outputs:
        return pair(reference.quantised_decode(**given, kind=kind))

    # compiled, all kinds compute in fp16
    add(
        f"{kind}-decode-{name}", dtype, make, run, twin, None if INTERPRETED else max(TOLERANCE[dtype], TOLERANCE[FP16])
    )


add_quantised("d128-per-tensor", FP16, "fp8", 8, 2, 128, 0, [63], splits=2)
add_quantised("d128-per-token-paged", FP16, "fp8", 4, 2, 128, 1, [1, 37], splits=1, page=16)
add_quantised("d128-groups", BF16, "int8", 8, 2, 128, 2, [63, 0], splits=2)
add_quantised("d64-paged-long", FP32, "int8", 4, 1, 64, 1, [131, 17], splits=1, page=16)
add_quantised("d128-groups-paged", BF16, "int4", 8, 1, 128, 2, [127, 1], splits=2, page=16)
add_quantised("d64-long", FP32, "int4", 4, 2, 64, 1, [131], splits=1)
add_quantised("d128-groups-long", FP16, "int8", 8, 1, 128, 2, [131], splits=1)
add_quantised("d80-per-token-g3", FP16, "int8", 6, 2, 80, 1, [35, 1], splits=2)
add_quantised("d96-halves-paged", FP16, "int4", 2, 1, 96, 2, [21], splits=1, page=5)
add_quantised("d112-per-tensor", FP16, "fp8", 3, 1, 112, 0, [33], splits=1)
add_quantised("d256-per-token", FP16, "int8", 4, 1, 256, 1, [67], splits=1)


def add_write(name: str, dtype: torch.dtype, kind: str, width: int, groups: int) -> None:
    """Add a cache write case: what was written is compared after dequantising, the rest bit for bit as numbers."""
    from .kv_write import kv_write

    pages, page, heads = 3, 5, 2

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 2)
        stored = {"plain": dtype, "int8": torch.int8, "int4": torch.uint8}[kind]
        inputs = {
            "k_new": x.normal(4, heads, width, dtype=dtype),
            "v_new": x.normal(4, heads, width, dtype=dtype, size=3.0),
            "slots": x.integers([7, -1, 0, 14], torch.int64),
        }
        for name in "kv":
            columns = width // 2 if kind == "int4" else width
            inputs[name] = guarded(torch.zeros((pages, page, heads, columns), dtype=stored, device=device))
            if kind == "fp8":
                inputs[f"{name}_scale"] = 0.02
            elif groups:
                for part in ("scale", "zero"):
                    side = torch.zeros((pages, heads, groups, page), dtype=BF16, device=device)
                    inputs[f"{name}_{part}"] = guarded(side)
        return inputs

    def outputs(given: dict[str, Any]) -> Outputs:
        return {
            name: reference.dequantise(given[name], kind, given.get(f"{name}_scale", 1.0), given.get(f"{name}_zero"))
            for name in "kv"
        }

    def run(given: dict[str, Any]) -> Outputs:
        kv_write(**given, kind=kind)
        return outputs(given)

    def twin(given: dict[str, Any]) -> Outputs:
        reference.kv_write(**given, kind=kind)
        return outputs(given)

    add(f"write-{kind}-{name}", dtype, make, run, twin, 1e-3)


add_write("d64", BF16, "plain", 64, 0)
add_write("d128-groups", FP32, "int8", 128, 2)
add_write("d64", BF16, "int8", 64, 1)
add_write("d128-groups", FP32, "int4", 128, 2)
add_write("d64", FP16, "int4", 64, 1)
add_write("d80", BF16, "plain", 80, 0)
add_write("d80", FP32, "int8", 80, 1)
add_write("d96-halves", FP32, "int4", 96, 2)


# latent_decode


def add_absorbed(
    name: str,
    dtype: torch.dtype,
    heads: int,
    rank: int,
    rope: int,
    lengths: list[int],
    *,
    splits: int | None,
    page: int | None = None,
    logits: bool = False,
    fp8: bool = False,
) -> None:
    """Add an absorbed latent case; latent and rotary part are views of one row, as MLA caches have them."""
    from .latent_decode import absorbed_decode

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 3)
        row = x.cache(lengths, tokens, page, rank + rope, dtype=dtype)
        if fp8:
            most = torch.finfo(fp8_type(device)).max
            row = guarded((row.float() / 0.02).clamp(-most, most).to(fp8_type(device)))
        inputs = {
            "q": x.normal(len(lengths), heads, rank, dtype=dtype),
            "latent": row[..., :rank],
            "stored_scale": 0.02 if fp8 else 1.0,
            "lengths": x.integers(lengths),
            "block_table": None if page is None else x.table(len(lengths), -(-tokens // page)),
            "scale": (rank + rope) ** -0.5,
        }
        if rope:
            inputs |= {"q_rope": x.normal(len(lengths), heads, rope, dtype=dtype), "k_rope": row[..., rank:]}
        if logits:
            inputs["logits"] = x.nans(len(lengths), heads, tokens, dtype=torch.float16)
        return inputs

    def run(given: dict[str, Any]) -> Outputs:
        out = pair(absorbed_decode(**given, splits=splits))
        return out | ({"logits": given["logits"]} if logits else {})

    def twin(given: dict[str, Any]) -> Outputs:
        out = pair(reference.absorbed_decode(**given))
        return out | ({"logits": given["logits"]} if logits else {})

    add(f"absorbed-{name}", dtype, make, run, twin, max(TOLERANCE[dtype], 2e-3) if logits else None)


def add_rebuilt(
    name: str, dtype: torch.dtype, heads: int, kv_heads: int, width: int, rank: int, lengths: list[int], *, rope: bool
) -> None:
    """Add a fused and a reconstruct case over the same inputs."""
    from .latent_decode import fused_decode, reconstruct_decode

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 4)
        inputs = {
            "q": x.normal(len(lengths), heads, width, dtype=dtype),
            "k_latent": x.cache(lengths, tokens, None, rank, dtype=dtype),
            "v_latent": x.cache(lengths, tokens, None, rank, dtype=dtype),
            "k_up": x.normal(kv_heads, rank, width, dtype=dtype, size=rank**-0.5),
            "lengths": x.integers(lengths),
        }
        return inputs | (x.rotation(tokens, width) if rope else {})

    def with_values(device: torch.device) -> dict[str, Any]:
        return make(device) | {"v_up": Maker(device, 5).normal(kv_heads, rank, width, dtype=dtype, size=rank**-0.5)}

    add(
        f"fused-{name}",
        dtype,
        make,
        lambda given: pair(fused_decode(**given, splits=2)),
        lambda given: pair(reference.fused_decode(**given)),
    )
    add(
        f"reconstruct-{name}",
        dtype,
        with_values,
        lambda given: pair(reconstruct_decode(**given, splits=1)),
        lambda given: pair(reference.reconstruct_decode(**given)),
    )


add_absorbed("r64-h16", FP32, 16, 64, 0, [63, 0], splits=2)
add_absorbed("r128-h32-rope", BF16, 32, 128, 32, [61, 1], splits=2)
add_absorbed("r256-h20-paged", FP16, 20, 256, 0, [67], splits=1, page=16)
add_absorbed("mla-h64-paged", BF16, 64, 512, 64, [37], splits=1, page=16)
add_absorbed("fp8-r128-h16-rope", BF16, 16, 128, 64, [71, 0], splits=2, fp8=True)
add_absorbed("r128-h16-logits", FP16, 16, 128, 64, [71], splits=2, logits=True)
add_absorbed("r96-h5-rope-24", FP16, 5, 96, 24, [41, 0], splits=2)
add_absorbed("r512-h20-rope-paged", BF16, 20, 512, 64, [70, 1], splits=1, page=16)
add_absorbed("r400-h9-logits", FP16, 9, 400, 0, [67, 0], splits=2, logits=True)
add_absorbed("r192-h48-paged", BF16, 48, 192, 64, [35], splits=1, page=7)
add_rebuilt("r80-d96-g3", FP16, 6, 2, 96, 80, [37, 1], rope=True)
add_rebuilt("r64-d64-g20", FP32, 20, 1, 64, 64, [19], rope=True)
add_rebuilt("r64-d64", FP32, 4, 2, 64, 64, [45, 0], rope=True)
add_rebuilt("r128-d128", BF16, 8, 2, 128, 128, [63], rope=True)
add_rebuilt("r256-d128-no-rope", FP16, 8, 1, 128, 256, [61], rope=False)


# prefill_attention


def starts_of(x: Maker, lengths: list[int]) -> Tensor:
    """Return where prompts of these lengths begin when packed, and where the last ends."""
    return x.integers([sum(lengths[:i]) for i in range(len(lengths) + 1)])


def add_prefill(
    name: str,
    dtype: torch.dtype,
    q_heads: int,
    kv_heads: int,
    width: int,
    lengths: list[int],
    k_lengths: list[int] | None = None,
) -> None:
    """Add a prefill case; `k_lengths` when prompts have earlier tokens in the cache."""
    from .prefill_attention import prefill_attention

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 6)
        keys = sum(k_lengths or lengths)
        return {
            "q": x.normal(sum(lengths), q_heads, width, dtype=dtype),
            "k": x.normal(keys, kv_heads, width, dtype=dtype),
            "v": x.normal(keys, kv_heads, width, dtype=dtype),
            "starts": starts_of(x, lengths),
            "longest": max(lengths),
            "k_starts": starts_of(x, k_lengths) if k_lengths else None,
        }

    add(
        f"prefill-{name}",
        dtype,
        make,
        lambda given: pair(prefill_attention(**given)),
        lambda given: pair(reference.prefill_attention(**given)),
    )


add_prefill("mha-d64", FP32, 2, 2, 64, [63])
add_prefill("gqa-d128-ragged", BF16, 4, 2, 128, [61, 0, 1])
add_prefill("gqa-d80-two-tiles", FP16, 2, 1, 80, [131])
add_prefill("gqa-d192", FP16, 3, 1, 192, [34, 2])
add_prefill("gqa-d128-chunk", FP16, 2, 1, 128, [17, 5], [150, 5])


# h2o


def add_h2o_decode(name: str, dtype: torch.dtype, q_heads: int, kv_heads: int, width: int, lengths: list[int]) -> None:
    """Add a scoring decode case, and its oracle that reads the keys twice."""
    from .h2o import h2o_decode, h2o_rescore

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 7)
        return {
            "q": x.normal(len(lengths), q_heads, width, dtype=dtype),
            "k": x.cache(lengths, tokens, None, kv_heads, width, dtype=dtype),
            "v": x.cache(lengths, tokens, None, kv_heads, width, dtype=dtype),
            "lengths": x.integers(lengths),
            "scores": guarded(x.uniform(len(lengths), kv_heads, tokens) / 64),
        }

    def again(device: torch.device) -> dict[str, Any]:
        given = make(device)
        lse = reference.decode_attention(given["q"], given["k"], given.pop("v"), given["lengths"])[1]
        return given | {"lse": guarded(lse.float())}

    def scored(call: Callable[..., Any], given: dict[str, Any]) -> Outputs:
        out = call(**given)
        return (pair(out) if out is not None else {}) | {"scores": given["scores"]}

    add(
        f"h2o-decode-{name}",
        dtype,
        make,
        lambda given: scored(h2o_decode, given | {"splits": 3}),
        lambda given: scored(reference.h2o_decode, given),
    )
    add(
        f"h2o-rescore-{name}",
        dtype,
        again,
        lambda given: scored(h2o_rescore, given),
        lambda given: scored(reference.h2o_rescore, given),
    )


def add_h2o_latent(name: str, dtype: torch.dtype, heads: int, rank: int, rope: int, lengths: list[int]) -> None:
    """Add a case of MHC and H2O together."""
    from .h2o import h2o_latent_decode

    tokens = max(lengths) + 3

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 8)
        row = x.cache(lengths, tokens, None, rank + rope, dtype=dtype)
        return {
            "q": x.normal(len(lengths), heads, rank, dtype=dtype),
            "latent": row[..., :rank],
            "q_rope": x.normal(len(lengths), heads, rope, dtype=dtype),
            "k_rope": row[..., rank:],
            "lengths": x.integers(lengths),
            "scores": guarded(x.uniform(len(lengths), 1, tokens) / 64),
            "scale": (rank + rope) ** -0.5,
        }

    add(
        f"h2o-latent-{name}",
        dtype,
        make,
        lambda given: pair(h2o_latent_decode(**given, splits=2)) | {"scores": given["scores"]},
        lambda given: pair(reference.h2o_latent_decode(**given)) | {"scores": given["scores"]},
    )


def add_h2o_prefill(
    name: str, dtype: torch.dtype, q_heads: int, kv_heads: int, width: int, lengths: list[int], last: int | None
) -> None:
    """Add a case of prompt scores."""
    from .h2o import h2o_prefill_scores

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 9)
        q = x.normal(sum(lengths), q_heads, width, dtype=dtype)
        k = x.normal(sum(lengths), kv_heads, width, dtype=dtype)
        starts = starts_of(x, lengths)
        lse = guarded(reference.prefill_attention(q, k, k, starts, max(lengths))[1].float())
        return {"q": q, "k": k, "lse": lse, "starts": starts, "longest": max(lengths), "last": last}

    add(
        f"h2o-prompt-{name}",
        dtype,
        make,
        lambda given: {"scores": h2o_prefill_scores(**given)},
        lambda given: {"scores": reference.h2o_prefill_scores(**given)},
    )


def add_h2o_select(name: str, lengths: list[int], heavy: int, recent: int, ties: bool) -> None:
    """Add a case of selecting, then compacting what was selected."""
    from .h2o import h2o_compact, h2o_select

    tokens, heads, width = max(lengths) + 2, 2, 80

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 10)
        scores = x.uniform(len(lengths), heads, tokens) * 3
        return {
            "scores": guarded(torch.floor(scores) if ties else scores),
            "lengths": x.integers(lengths),
            "cache": x.cache(lengths, tokens, None, heads, width, dtype=FP32),
            "into": guarded(torch.zeros((len(lengths), heavy + recent, heads, width), device=device)),
        }

    def outputs(select: Callable[..., Tensor], compact: Callable[..., Tensor], given: dict[str, Any]) -> Outputs:
        kept = select(given["scores"], given["lengths"], heavy, recent)
        scores = compact(given["cache"], kept, given["into"], given["scores"])
        return {"kept": kept, "into": given["into"], "scores": scores}

    add(
        f"h2o-select-{name}",
        FP32,
        make,
        lambda given: outputs(h2o_select, h2o_compact, given),
        lambda given: outputs(reference.h2o_select, reference.h2o_compact, given),
        0.0,
    )


def add_h2o_evict(name: str, seen: list[int], budget: int, recent: int, latent: bool) -> None:
    """Add a case of one new token for each sequence, some with room, some without."""
    from .h2o import h2o_evict

    heads, width = (1, 96) if latent else (2, 64)

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 11)
        shape = (len(seen), budget, heads, width)
        held = [torch.randperm(budget, generator=x.source) + max(0, n - budget) for n in seen]
        return {
            "k_new": x.normal(len(seen), heads, width, dtype=FP32),
            "v_new": None if latent else x.normal(len(seen), heads, width, dtype=FP32),
            "k": x.normal(*shape, dtype=FP32),
            "v": None if latent else x.normal(*shape, dtype=FP32),
            "scores": guarded(torch.floor(x.uniform(len(seen), heads, budget) * 8)),
            "positions": x.integers(torch.stack(held)[:, None].expand(-1, heads, -1).contiguous()),
            "seen": x.integers(seen),
            "recent": recent,
        }

    def outputs(evict: Callable[..., None], given: dict[str, Any]) -> Outputs:
        evict(**given)
        return {name: given[name] for name in ("k", "v", "scores", "positions") if given[name] is not None}

    add(
        f"h2o-evict-{name}",
        FP32,
        make,
        lambda given: outputs(h2o_evict, given),
        lambda given: outputs(reference.h2o_evict, given),
        0.0,
    )


add_h2o_decode("gqa-d128", FP16, 8, 1, 128, [191, 0])
add_h2o_decode("gqa-d112-g5", FP16, 5, 1, 112, [33, 1])
add_h2o_decode("gqa-d80", BF16, 6, 2, 80, [61])
add_h2o_latent("r128-h20-rope", FP16, 20, 128, 32, [71, 1])
add_h2o_prefill("d64-ragged", FP32, 2, 1, 64, [37, 1], None)
add_h2o_prefill("d80-last-none", FP16, 3, 1, 80, [21, 4], 0)
add_h2o_prefill("d128-last-16", BF16, 4, 2, 128, [63], 16)
add_h2o_select("random", [63, 5, 0], 12, 4, ties=False)
add_h2o_select("ties", [61, 29], 20, 3, ties=True)
add_h2o_select("no-heavy", [63, 5, 1, 0], 0, 4, ties=False)
add_h2o_select("no-recent", [63, 5, 1, 0], 12, 0, ties=True)
add_h2o_select("nothing", [9, 0], 0, 0, ties=False)
add_h2o_select("all-heavy", [33, 32, 1], 40, 2, ties=True)
add_h2o_select("all-recent", [33, 7], 3, 50, ties=False)
add_h2o_evict("heads", [40, 9, 17], 17, 4, latent=False)
add_h2o_evict("one-slot", [0, 1, 7], 1, 1, latent=False)
add_h2o_evict("latent", [40], 33, 33, latent=True)


# streaming


def add_streaming(
    name: str,
    dtype: torch.dtype,
    mode: str,
    heads: int,
    kv_heads: int,
    width: int,
    sinks: int,
    ring: int,
    seen: list[int],
) -> None:
    """Add a case of appending one token and decoding, and one of decoding alone, from `seen` earlier tokens."""
    from .streaming import streaming_append, streaming_decode

    slots = sinks + ring

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 12)
        live = [min(n, slots) for n in seen]
        return {
            "q": x.normal(len(seen), heads, width, dtype=dtype),
            "k": x.cache(live, slots, None, kv_heads, width, dtype=dtype),
            "v": x.cache(live, slots, None, kv_heads, width, dtype=dtype),
            "k_new": x.normal(len(seen), kv_heads, width, dtype=dtype),
            "v_new": x.normal(len(seen), kv_heads, width, dtype=dtype),
            "seen": x.integers(seen),
            **x.rotation(max(*seen, slots) + 1 if mode == "absolute" else slots, width),
        }

    def outputs(
        append: Callable[..., None], decode: Callable[..., tuple[Tensor, Tensor]], given: dict[str, Any], **extra: int
    ) -> Outputs:
        both = {
            "k": given["k"],
            "v": given["v"],
            "cos": given["cos"],
            "sin": given["sin"],
            "sinks": sinks,
            "mode": mode,
        }
        before = pair(decode(given["q"], seen=given["seen"], **both, **extra))
        append(given["k_new"], given["v_new"], seen=given["seen"], **both)
        after = pair(decode(given["q"], seen=given["seen"] + 1, **both, **extra))
        kept = {part: given[part] for part in "kv"}
        return before | {f"{part}_after": value for part, value in after.items()} | kept

    add(
        f"streaming-{mode}-{name}",
        dtype,
        make,
        lambda given: outputs(streaming_append, streaming_decode, given, splits=2),
        lambda given: outputs(reference.streaming_append, reference.streaming_decode, given),
    )


add_streaming("d64-full-and-not", FP32, "absolute", 2, 1, 64, 4, 29, [97, 11])
add_streaming("d128", BF16, "absolute", 4, 2, 128, 4, 59, [63])
add_streaming("d64-full-and-not", FP32, "cache", 2, 1, 64, 4, 29, [97, 11])
add_streaming("d128", BF16, "cache", 4, 2, 128, 4, 59, [150])
add_streaming("d80-no-sinks", FP16, "cache", 3, 1, 80, 0, 33, [70, 0])
add_streaming("d96-no-sinks", FP16, "absolute", 2, 1, 96, 0, 17, [40])
add_streaming("d128-empty", FP16, "cache", 4, 1, 128, 1, 32, [0])


# bandwidth


def add_probes(elements: int) -> None:
    """Add the three probes over a length that fills no block."""
    from .bandwidth import copy_probe, read_probe, write_probe

    def make(device: torch.device) -> dict[str, Any]:
        x = Maker(device, 13)
        return {"x": x.uniform(elements), "y": x.nans(elements, dtype=FP32)}

    def changed(call: Callable[[], object], given: dict[str, Any]) -> Outputs:
        call()
        return {"y": given["y"]}

    add(
        "probe-read",
        FP32,
        make,
        lambda given: {"sum": read_probe(given["x"], sms=1).double().sum()},
        lambda given: {"sum": reference.read_probe(given["x"])},
    )
    add(
        "probe-copy",
        FP32,
        make,
        lambda given: changed(lambda: copy_probe(given["x"], given["y"], sms=1), given),
        lambda given: changed(lambda: reference.copy_probe(given["x"], given["y"]), given),
        0.0,
    )
    add(
        "probe-write",
        FP32,
        make,
        lambda given: changed(lambda: write_probe(given["y"], 1.5, sms=1), given),
        lambda given: changed(lambda: reference.write_probe(given["y"], 1.5), given),
        0.0,
    )


add_probes(4096 * 9 + 17)


# shapes of models, for a GPU: `tokens` is the longest sequence


def real_cases(tokens: int) -> list[Case]:
    """Return cases of 8B and MLA models' shapes, splits as the launchers pick them; they are in no other table."""
    kept = len(CASES)
    lengths = [tokens, 5 * tokens // 8 + 3, 1, min(tokens, 131)]
    short = [tokens // 4, min(tokens, 17)]
    for page in (None, 16):
        paged = "-paged" if page else ""
        add_decode(f"real{paged}", BF16, 32, 8, 128, lengths, splits=None, page=page)
        for kind, groups in (("int8", 2), ("int4", 2), ("fp8", 0)):
            add_quantised(f"real{paged}", BF16, kind, 32, 8, 128, groups, lengths, splits=None, page=page)
    for heads in (16, 32, 64, 128):
        add_absorbed(f"real-mla-h{heads}", BF16, heads, 512, 64, lengths, splits=None, page=16 if heads > 32 else None)
    for rank in (128, 256, 512):
        add_absorbed(f"real-mhc-r{rank}", BF16, 32, rank, 0, lengths, splits=None)
    add_absorbed("real-mhc-r256-fp8", BF16, 32, 256, 0, lengths, splits=None, fp8=True)
    for rank in (128, 256):
        add_rebuilt(f"real-r{rank}", BF16, 32, 8, 128, rank, short, rope=True)
    add_prefill("real", BF16, 32, 8, 128, short)
    add_prefill("real-mha", FP16, 8, 8, 128, short)
    add_h2o_decode("real", BF16, 32, 8, 128, lengths)
    add_h2o_prefill("real", BF16, 32, 8, 128, short, None)
    for mode in ("absolute", "cache"):
        add_streaming(f"real-{mode}", BF16, mode, 32, 8, 128, 4, tokens // 2, [tokens, 3 * tokens // 4])
    made = CASES[kept:]
    del CASES[kept:]
    return made
