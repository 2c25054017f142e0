"""Every kernel against its slow twin, in Triton's interpreter."""

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")

from kvplan.kernels import (  # noqa: E402
    bandwidth,
    common,
    decode_attention,
    h2o,
    kv_write,
    latent_decode,
    prefill_attention,
    quantised_decode,
    reference,
    streaming,
)
from kvplan.kernels.cases import CASES, Case, guarded_outputs, relative_error  # noqa: E402
from kvplan.kernels.common import INTERPRETED  # noqa: E402
from kvplan.kernels.tiles import amd, nvidia  # noqa: E402

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
    table, up, c, out = zeros(96, 64), zeros(2, 256, 128), zeros(2, 96, 256), zeros(2, 8, 256)
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
    ("batch", "programs", "longest", "resident", "splits"),
    [
        (1, 8, 131072, 2, 33),  # 264 programs, all there is room for
        (32, 8, 8192, 2, 1),  # 256
        (64, 8, 8192, 2, 1),  # 512 in two waves
        (34, 8, 8192, 2, 4),  # 272 would take two waves, the second nearly empty; 1,088 take four full ones
        (64, 1, 16384, 1, 2),  # 128
        (1, 1, 200, 2, 2),  # no split of less than two tiles
        (1, 1, 1, 1, 1),
    ],
)
def test_splits_fill_the_last_wave_of_programs(
    batch: int, programs: int, longest: int, resident: int, splits: int
) -> None:
    assert common.pick_splits(batch, programs, longest, 64, 132, resident) == splits


def test_a_kernel_that_writes_outside_its_output_is_caught() -> None:
    with pytest.raises(AssertionError, match="outside"), guarded_outputs():
        out = torch.empty((4,), dtype=torch.float32, device=CPU)
        torch.as_strided(out, (1,), (1,), out.storage_offset() + 4).fill_(1.0)


#: elements from one token to the next: the eighteenth lies past what 32 bits count; what nobody touches costs no memory
APART, MANY = 2**27, 18


def far(*tail: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """Return a cache [1, MANY, *tail] of zeros whose tokens lie APART elements from each other."""
    room = torch.empty((MANY - 1) * APART + tail[0] * tail[1], dtype=dtype)
    return room.as_strided((1, MANY, *tail), (MANY * APART, APART, tail[1], 1)).zero_()


@pytest.mark.slow
def test_caches_beyond_two_to_the_31_elements_are_read() -> None:
    draw = torch.Generator().manual_seed(6)
    q, up = torch.randn(1, 2, 64, generator=draw).half(), torch.randn(1, 64, 64, generator=draw).half()
    near, length = torch.randn(1, MANY, 1, 64, generator=draw).half(), torch.tensor([MANY], dtype=torch.int32)
    tables = {name: torch.randn(MANY, 32, generator=draw) for name in ("cos", "sin")}
    table = torch.arange(MANY, dtype=torch.int32)[None]
    calls: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
        "decode": lambda kv: decode_attention.decode_attention(q, kv, kv, length, splits=1),
        "pages": lambda kv: decode_attention.decode_attention(
            q, *[kv.transpose(0, 1)] * 2, length, block_table=table, splits=1
        ),
        "absorbed": lambda kv: latent_decode.absorbed_decode(q, kv[:, :, 0], length, scale=0.1, splits=1),
        "fused": lambda kv: latent_decode.fused_decode(q, *[kv[:, :, 0]] * 2, up, length, splits=1, **tables),
        "streaming": lambda kv: streaming.streaming_decode(
            q, kv, kv, length, sinks=2, mode="cache", splits=1, **tables
        ),
    }
    apart = far(1, 64).copy_(near)
    for name, call in calls.items():
        for found, wanted in zip(call(apart), call(near), strict=True):
            assert torch.equal(found, wanted), name
    codes = (near * 20).to(torch.int8)
    apart = far(1, 64, dtype=torch.int8).copy_(codes)
    both = [quantised_decode.quantised_decode(q, kv, kv, length, kind="int8", splits=1)[0] for kv in (apart, codes)]
    assert torch.equal(*both)


def test_caches_beyond_two_to_the_31_elements_are_written() -> None:
    cache, new, seen = far(1, 16), torch.arange(16.0).half().view(1, 1, 16), torch.tensor([MANY - 1]).int()
    kv_write.kv_write(new, new, cache, cache, torch.tensor([MANY - 1]))
    assert torch.equal(cache[:, MANY - 1], new)
    h2o.h2o_evict(2 * new, None, cache, None, torch.zeros(1, 1, MANY), torch.zeros(1, 1, MANY).int(), seen, 1)
    assert torch.equal(cache[:, MANY - 1], 2 * new)
    into = torch.zeros(1, 1, 1, 16).half()
    h2o.h2o_compact(cache, torch.tensor([[[MANY - 1]]]).int(), into)
    assert torch.equal(into[:, 0], 2 * new)
    tables = {name: torch.ones(8, 8) for name in ("cos", "sin")}
    streaming.streaming_append(3 * new, 3 * new, cache, cache, seen, sinks=1, mode="cache", **tables)
    assert torch.equal(cache[:, MANY - 1], 3 * new)


@pytest.mark.parametrize(("group", "width"), [(1, 64), (5, 80), (7, 96), (12, 112), (71, 128), (16, 192), (3, 256)])
def test_group_sizes_and_head_dims_of_real_models(group: int, width: int) -> None:
    draw = torch.Generator().manual_seed(width)
    q, kv = torch.randn(1, group, width, generator=draw), torch.randn(1, 18, 1, width, generator=draw)
    lengths = torch.tensor([17], dtype=torch.int32)
    found, lse = decode_attention.decode_attention(q, kv, kv, lengths, splits=1)
    wanted, wanted_lse = reference.decode_attention(q, kv, kv, lengths)
    assert relative_error(found, wanted) < 1e-5
    assert relative_error(lse, wanted_lse) < 1e-5


LENGTHS = torch.ones(1, dtype=torch.int32)
Q, KV, TURNS = zeros(1, 8, 128), zeros(1, 16, 2, 128), zeros(16, 64, dtype=torch.float32)
E4M3 = torch.float8_e4m3fn
SCORES = zeros(1, 2, 16, dtype=torch.float32)
CODES = zeros(1, 16, 2, 128, dtype=torch.int8)
SIDE = zeros(1, 2, 2, 16)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "groups": (lambda: decode_attention.decode_attention(Q, *[zeros(1, 16, 3, 128)] * 2, LENGTHS), "multiple of 3"),
    "layout": (lambda: decode_attention.decode_attention(Q, *[zeros(1, 16, 128, 2).mT] * 2, LENGTHS), "contiguous"),
    "too wide": (
        lambda: decode_attention.decode_attention(zeros(1, 8, 512), *[zeros(1, 16, 2, 512)] * 2, LENGTHS),
        "head_dim 512: decode attention takes at most 256",
    ),
    "mixed types": (lambda: decode_attention.decode_attention(Q, KV.float(), KV, LENGTHS), "k: is float32, must be bf"),
    "integers": (lambda: decode_attention.decode_attention(Q.int(), KV, KV, LENGTHS), "q: is int32, must be"),
    "long lengths": (lambda: decode_attention.decode_attention(Q, KV, KV, LENGTHS.long()), "lengths: is int64"),
    "batch": (lambda: decode_attention.decode_attention(Q, zeros(2, 16, 2, 128), KV, LENGTHS), r"k: .*\[B=1, T, Hkv"),
    "values": (lambda: decode_attention.decode_attention(Q, KV, KV[:, :9], LENGTHS), r"v: shape \[1, 9"),
    "no tensor": (lambda: decode_attention.decode_attention(Q, KV, None, 3), "lengths: must be a tensor"),
    "meta": (lambda: decode_attention.decode_attention(Q, KV.to("meta"), KV, LENGTHS), "different devices"),
    "short logits": (
        lambda: decode_attention.decode_attention(Q, KV, KV, LENGTHS, logits=zeros(1, 8, 9, dtype=torch.float16)),
        "logits: shape",
    ),
    "sequences": (
        lambda: decode_attention.decode_attention(
            Q.expand(70000, 8, 128), *[KV.expand(70000, 16, 2, 128)] * 2, LENGTHS.repeat(70000)
        ),
        "at most 65,535",
    ),
    "kind": (lambda: quantised_decode.quantised_decode(Q, KV, KV, LENGTHS, kind="int2"), "write fp8, int8 or int4"),
    "codes": (lambda: quantised_decode.quantised_decode(Q, KV, KV, LENGTHS, kind="int8"), "k: is bfloat16, must be"),
    "one scale": (
        lambda: quantised_decode.quantised_decode(Q, CODES, CODES, LENGTHS, kind="int8", k_scale=SIDE), "must both be"
    ),
    "zeros alone": (
        lambda: quantised_decode.quantised_decode(Q, CODES, CODES, LENGTHS, kind="int8", k_zero=SIDE, v_zero=SIDE),
        "beside scales",
    ),
    "scales": (
        lambda: quantised_decode.quantised_decode(
            Q, CODES, CODES, LENGTHS, kind="int8", k_scale=SIDE[..., :9], v_scale=SIDE[..., :9]
        ),
        "k_scale: shape",
    ),
    "odd halves": (
        lambda: quantised_decode.quantised_decode(
            zeros(1, 8, 65), *[zeros(1, 16, 2, 65, dtype=torch.int8)] * 2, LENGTHS, kind="int8"
        ),
        "head_dim 65: must be even",
    ),
    "write": (lambda: kv_write.kv_write(Q, Q, KV, KV, LENGTHS, kind="bf16"), "kind 'bf16': write plain"),
    "write scales": (
        lambda: kv_write.kv_write(zeros(1, 2, 128), zeros(1, 2, 128), CODES, CODES, LENGTHS, kind="int8"), "be tensors"
    ),
    "write heads": (lambda: kv_write.kv_write(Q, Q, KV, KV, LENGTHS), "k: shape"),
    "rank": (
        lambda: latent_decode.absorbed_decode(zeros(1, 8, 1024), zeros(1, 16, 1024), LENGTHS, scale=1.0),
        "rank 1024: absorbed attention takes at most 512",
    ),
    "fp8 rank": (
        lambda: latent_decode.absorbed_decode(zeros(1, 8, 512), zeros(1, 16, 512, dtype=E4M3), LENGTHS, scale=1.0),
        "rank 512: absorbed attention takes at most 256",
    ),
    "rope": (
        lambda: latent_decode.absorbed_decode(
            zeros(1, 8, 64), zeros(1, 16, 64), LENGTHS, q_rope=zeros(1, 8, 128), k_rope=zeros(1, 16, 128), scale=1.0
        ),
        "rotary part of 128",
    ),
    "half a rope": (
        lambda: latent_decode.absorbed_decode(Q, zeros(1, 16, 128), LENGTHS, q_rope=Q, scale=1.0), "must both be given"
    ),
    "fused room": (
        lambda: latent_decode.fused_decode(zeros(1, 8, 256), *[zeros(1, 16, 512)] * 2, zeros(2, 512, 256), LENGTHS),
        "rank 512: fused attention needs [0-9,]+ bytes of shared memory",
    ),
    "tables": (
        lambda: latent_decode.fused_decode(
            Q, *[zeros(1, 16, 64)] * 2, zeros(2, 64, 128), LENGTHS, cos=TURNS[:9], sin=TURNS[:9]
        ),
        "cos: shape",
    ),
    "reconstruct": (
        lambda: latent_decode.reconstruct_decode(
            Q, *[zeros(1, 16, 64)] * 2, zeros(2, 64, 128), zeros(2, 32, 128), LENGTHS
        ),
        "v_up: shape",
    ),
    "mode": (
        lambda: streaming.streaming_decode(Q, KV, KV, LENGTHS, TURNS, TURNS, sinks=1, mode="ring"), "absolute or cache"
    ),
    "all sinks": (
        lambda: streaming.streaming_decode(Q, KV, KV, LENGTHS, TURNS, TURNS, sinks=16, mode="cache"), "sinks 16: must"
    ),
    "append": (
        lambda: streaming.streaming_append(Q, Q, KV, KV, LENGTHS, TURNS, TURNS, sinks=1, mode="cache"), "k: shape"
    ),
    "prefill": (
        lambda: prefill_attention.prefill_attention(Q, KV[0], KV[0], LENGTHS.repeat(2), 1), "k: shape"
    ),
    "longest": (
        lambda: prefill_attention.prefill_attention(KV[0], KV[0], KV[0], LENGTHS.repeat(2), 17), "longest 17: must be"
    ),
    "negative": (lambda: h2o.h2o_select(SCORES, LENGTHS, -1, 2), "heavy -1: must be 0 or more"),
    "scores": (lambda: h2o.h2o_decode(Q, KV, KV, LENGTHS, SCORES[..., :9]), "scores: shape"),
    "scored heads": (
        lambda: h2o.h2o_latent_decode(
            zeros(1, 256, 64), zeros(1, 16, 64), LENGTHS, zeros(1, 1, 16, dtype=torch.float32), scale=1.0
        ),
        "at most 128",
    ),
    "recent": (
        lambda: h2o.h2o_evict(KV[:, 0], KV[:, 0], KV, KV, SCORES, SCORES.int(), LENGTHS, 0), "recent 0: must be from 1"
    ),
    "compact": (lambda: h2o.h2o_compact(KV, SCORES.int(), KV[:, :3], SCORES), "into: shape"),
    "buffers": (lambda: bandwidth.copy_probe(TURNS.view(-1), TURNS.view(-1)[:9]), "y: shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_launchers_refuse_what_they_cannot_do_in_one_line(name: str) -> None:
    call, why = REFUSED[name]
    with pytest.raises(ValueError, match=why) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1


def test_a_platform_decides_which_fp8_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MI300X counts its exponents another way: it reads its own format and refuses the other."""
    q, other = zeros(1, 2, 64, dtype=torch.float16), torch.float8_e4m3fnuz
    codes = zeros(1, 16, 1, 64, dtype=other)
    monkeypatch.setattr(common, "present", lambda device: amd("gfx942"))
    assert common.fp8_type(CPU) == other
    common.refuse_fp8(k=codes)
    with pytest.raises(ValueError, match="k: float8_e4m3fn, this GPU computes with float8_e4m3fnuz"):
        quantised_decode.quantised_decode(q, codes.to(E4M3), codes.to(E4M3), LENGTHS, kind="fp8")
    monkeypatch.setattr(common, "present", lambda device: nvidia(80))
    with pytest.raises(ValueError, match="fp8: sm_80 has no such type"):
        quantised_decode.quantised_decode(q, codes.to(E4M3), codes.to(E4M3), LENGTHS, kind="fp8")
    with pytest.raises(ValueError, match="fp8: sm_80"):
        kv_write.kv_write(q[:, :1], q[:, :1], codes.to(E4M3), codes.to(E4M3), LENGTHS, kind="fp8")
