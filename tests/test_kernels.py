"""Every kernel against its slow twin, in Triton's interpreter."""

import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported and again at every decoration

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from kvplan.kernels import (  # noqa: E402
    common,
    decode_attention,
    h2o,
    kv_write,
    latent_decode,
    quantised_decode,
    reference,
    streaming,
)
from kvplan.kernels.cases import CASES, Case, guarded_outputs, relative_error  # noqa: E402
from kvplan.kernels.common import INTERPRETED  # noqa: E402

CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.skipif(not INTERPRETED, reason="triton was imported before TRITON_INTERPRET was set"),
    # the interpreter of triton 3.6 turns loop bounds into numbers the way numpy 2.4 forbids
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_equals_its_twin(case: Case) -> None:
    errors = case.errors(CPU)
    assert all(error <= case.tolerance for error in errors.values()), errors


def bytes_of(*tensors: torch.Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def test_traffic_of_decode_is_its_tensors() -> None:
    q, kv, out = zeros(2, 8, 128), zeros(2, 96, 2, 128), zeros(2, 8, 128)
    moved, flops = decode_attention.traffic(2, 8, 2, 128, 96)
    assert moved == bytes_of(q, kv, kv, out)
    assert flops == 2 * 2 * 8 * 96 * (128 + 128)


@pytest.mark.parametrize(("kind", "columns"), [("fp8", 128), ("int8", 128), ("int4", 64)])
def test_traffic_of_quantised_decode_is_its_tensors(kind: str, columns: int) -> None:
    q, kv = zeros(2, 8, 128), zeros(2, 96, 2, columns, dtype=torch.uint8)
    sides = [] if kind == "fp8" else [zeros(2, 2, 2, 96)] * 4
    assert quantised_decode.traffic(kind, 2, 8, 2, 128, 96)[0] == bytes_of(q, kv, kv, *sides, q)


def test_traffic_of_latent_decode_is_its_tensors() -> None:
    q, q_rope, row = zeros(2, 16, 512), zeros(2, 16, 64), zeros(2, 96, 576)
    moved, flops = latent_decode.absorbed_traffic(2, 16, 512, 96, rope=64)
    assert moved == bytes_of(q, q_rope, row, q)
    assert flops == 2 * 2 * 16 * 96 * (576 + 512)
    table, up, c, out = zeros(96, 64, dtype=torch.float32), zeros(2, 256, 128), zeros(2, 96, 256), zeros(2, 8, 256)
    moved, _ = latent_decode.fused_traffic(2, 8, 2, 128, 256, 256, 96)
    assert moved == bytes_of(zeros(2, 8, 128), c, c, up, table, table, out)


def test_h2o_moves_its_logits_twice_and_its_scores_twice() -> None:
    plain = decode_attention.traffic(2, 8, 2, 128, 96)[0]
    logits, scores = zeros(2, 8, 96, dtype=torch.float16), zeros(2, 2, 96, dtype=torch.float32)
    assert h2o.traffic(2, 8, 2, 128, 96)[0] == plain + 2 * bytes_of(logits) + 2 * bytes_of(scores)


@pytest.mark.parametrize(("kind", "least", "most"), [("int8", 0.001, 0.01), ("int4", 0.02, 0.15)])
def test_a_written_cache_reads_back(kind: str, least: float, most: float) -> None:
    """Append, quantised, to a paged cache, then decode: off by what the bits lose, no more and no less."""
    new = torch.randn(2, 64, 2, 128, generator=torch.Generator().manual_seed(3))
    shape, dtype = ((8, 16, 2, 128), torch.int8) if kind == "int8" else ((8, 16, 2, 64), torch.uint8)
    codes = [zeros(*shape, dtype=dtype) for _ in "kv"]
    sides = {name: zeros(8, 2, 2, 16) for name in ("k_scale", "k_zero", "v_scale", "v_zero")}
    table = torch.randperm(8, generator=torch.Generator().manual_seed(4)).view(2, 4).int()
    slots = (table.long()[..., None] * 16 + torch.arange(16)).reshape(-1)
    tokens = new.transpose(0, 1).contiguous()  # [64, 2, Hkv, D] as [tokens, sequence, ...]
    for b in range(2):
        kv_write.kv_write(tokens[:9, b], tokens[:9, b], *codes, slots.view(2, 64)[b, :9], kind=kind, **sides)
    q = torch.randn(2, 4, 128, generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([9, 9], dtype=torch.int32)
    found, _ = quantised_decode.quantised_decode(q, *codes, lengths, kind=kind, block_table=table, splits=1, **sides)
    wanted, _ = reference.decode_attention(q, new[:, :9], new[:, :9], lengths)
    assert least < relative_error(found, wanted) < most


@pytest.mark.parametrize(
    ("batch", "programs", "longest", "splits"), [(1, 8, 131072, 33), (32, 8, 8192, 2), (64, 8, 8192, 1), (1, 1, 200, 2)]
)
def test_splits_give_every_multiprocessor_two_programs(batch: int, programs: int, longest: int, splits: int) -> None:
    assert common.pick_splits(batch, programs, longest, 64, 132) == splits


def test_a_kernel_that_writes_outside_its_output_is_caught() -> None:
    with pytest.raises(AssertionError, match="outside"), guarded_outputs():
        out = torch.empty((4,), dtype=torch.float32, device=CPU)
        torch.as_strided(out, (1,), (1,), out.storage_offset() + 4).fill_(1.0)


def test_launchers_refuse_what_they_cannot_do() -> None:
    q, kv, lengths = zeros(1, 8, 128), zeros(1, 16, 3, 128), torch.ones(1, dtype=torch.int32)
    with pytest.raises(ValueError, match="multiple"):
        decode_attention.decode_attention(q, kv, kv, lengths)
    with pytest.raises(ValueError, match="contiguous"):
        decode_attention.decode_attention(q, kv.transpose(2, 3), kv, lengths)
    with pytest.raises(ValueError, match="at most 256"):
        decode_attention.decode_attention(zeros(1, 8, 512), zeros(1, 16, 2, 512), zeros(1, 16, 2, 512), lengths)
    with pytest.raises(ValueError, match="fp8"):
        latent_decode.absorbed_decode(zeros(1, 8, 512), zeros(1, 16, 512, dtype=torch.float8_e4m3fn), lengths, scale=1.0)
    with pytest.raises(ValueError, match="absolute or cache"):
        streaming.streaming_decode(q, kv, kv, lengths, kv, kv, sinks=1, mode="ring")
