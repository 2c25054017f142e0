"""Kernel times: known numbers worked out by hand, and what must hold for any shape."""

from dataclasses import fields, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.perf import kernel_time as kt
from kvplan.perf.kernel_profile import KINDS

TB = 1e12
US = 1e-6


def decode_time(c: kt.DecodeCoefficients, **shape: float) -> float:
    return float(kt.decode_algebra(kt.decode_work(**shape, c=c), c))  # type: ignore[arg-type]


def latent_time(c: kt.LatentCoefficients, **shape: float) -> float:
    return float(kt.latent_algebra(kt.latent_work(**shape, c=c), c))  # type: ignore[arg-type]


def gemm_time(c: kt.GemmCoefficients, **shape: float) -> float:
    return float(kt.gemm_algebra(kt.gemm_work(**shape, c=c), c))  # type: ignore[arg-type]


def all_reduce_time(c: kt.AllReduceCoefficients, gpus: int, message: float) -> float:
    return float(kt.all_reduce_algebra(kt.all_reduce_work(gpus=gpus, message=message, switched=True, c=c), c))


def test_decode_reads_its_cache_once() -> None:
    """8 sequences x 4096 tokens x 8 heads x 2 x 128 x 2 B = 134.2 MB, queries 131 kB; at 1 TB/s after 10 us."""
    c = kt.DecodeCoefficients(start=10 * US, bandwidth=TB)
    time = decode_time(c, batch=8, q_heads=32, kv_heads=8, head_dim=128, kv_len=4096, bits=16, sms=132)
    assert time == pytest.approx(10 * US + (8 * 4096 * 8 * 2 * 128 * 2 + 4 * 8 * 32 * 128) / TB, rel=1e-9)


def test_decode_pays_for_a_last_wave() -> None:
    """160 blocks on 132 SMs take two rounds, as 264 do; each reads 2048 x 512 B at 10 GB/s."""
    c = kt.DecodeCoefficients(start=0.0, bandwidth=inf, block_bandwidth=1e10, split="never")
    times = [
        decode_time(c, batch=b, q_heads=8, kv_heads=8, head_dim=128, kv_len=2048, bits=16, sms=132)
        for b in (16, 17, 20, 33)
    ]
    one = 2048 * 512 / 1e10
    assert times == pytest.approx([one, 2 * one, 2 * one, 2 * one])


@pytest.mark.parametrize(
    ("blocks", "tiles", "parts"),
    [(132, 64, 1), (106, 64, 1), (64, 64, 2), (32, 64, 4), (8, 64, 15), (1, 4, 1), (1, 1024, 109)],
)
def test_flash_attention_splits(blocks: int, tiles: int, parts: int) -> None:
    """The fewest parts that reach 85 % of the best occupancy: 64 blocks fill 128 of 132 SMs in two."""
    assert kt.flash_attention_parts(blocks, 132, tiles) == parts


def test_latent_heads_are_padded_to_the_tile() -> None:
    c = kt.LatentCoefficients(start=0.0, bandwidth=1e18, rate=1e14, head_tile="64", split="balanced")

    def time(heads: int) -> float:
        return latent_time(c, batch=132, q_heads=heads, kv_len=1024, bits=16, sms=132)

    assert time(1) == time(64) == pytest.approx(132 * 1024 * 64 * 2 * 1088 / 1e14, rel=1e-6)
    assert time(65) == pytest.approx(2 * time(64))


def test_latent_time_never_falls_below_the_floor() -> None:
    c = kt.LatentCoefficients(start=US, bandwidth=TB, floor=100 * US)
    assert latent_time(c, batch=1, q_heads=1, kv_len=128, bits=16, sms=132) == pytest.approx(100 * US)


@pytest.mark.parametrize(("length", "tiles"), [(1, 1), (128, 1), (129, 3), (256, 3), (257, 6), (1024, 36)])
def test_causal_tiles(length: int, tiles: int) -> None:
    assert kt.causal_tiles(length) == tiles


def test_prefill_counts_the_tiles_it_computes() -> None:
    """1024 tokens: 36 tiles of 128 x 128 x 4 x 128 FLOP a head; 32 heads at 100 TFLOP/s: 96.6 us."""
    c = kt.PrefillCoefficients(start=0.0, rate=1e14)
    work = kt.prefill_work(batch=1, q_heads=32, kv_heads=8, head_dim=128, length=1024, sms=132, l2=5e7)
    assert kt.prefill_algebra(work, c) == pytest.approx(32 * 36 * 128 * 128 * 4 * 128 / 1e14)


def test_gemm_waves() -> None:
    """128x128 tiles on 132 SMs: 132 of them take one wave, 133 two. 2 x 128 x 128 x 4096 x 132 FLOP at 700 TFLOP/s."""
    c = kt.GemmCoefficients(start=0.0, bandwidth=1e18, rate=7e14, tiles="128x128")

    def time(tiles: int) -> float:
        return gemm_time(c, m=128, n=128 * tiles, k=4096, weight_bits=16, bits=16, sms=132, l2=5e7)

    wave = 2 * 128 * 128 * 4096 * 132 / 7e14
    assert time(1) == pytest.approx(wave) and time(132) == pytest.approx(wave)
    assert time(133) == pytest.approx(2 * wave)


def test_gemm_takes_the_fastest_tile() -> None:
    c = kt.GemmCoefficients(start=0.0, bandwidth=1e18, rate=7e14, tiles="64x64 128x128")
    small = gemm_time(c, m=64, n=64 * 132, k=4096, weight_bits=16, bits=16, sms=132, l2=5e7)
    assert small == pytest.approx(2 * 64 * 64 * 4096 * 132 / 7e14)


@pytest.mark.parametrize(("parts", "depth", "reductions"), [("1", 4096, 0), ("4", 1024, 1), ("1 4", 1024, 1)])
def test_gemm_adds_up_parts_only_where_it_cuts_k(parts: str, depth: int, reductions: int) -> None:
    c = kt.GemmCoefficients(start=0.0, bandwidth=1e18, rate=7e14, tiles="128x128", split_k=parts, reduce=1e-7)
    time = gemm_time(c, m=128, n=128 * 33, k=4096, weight_bits=16, bits=16, sms=132, l2=5e7)
    assert time == pytest.approx(2 * 128 * 128 * depth * 132 / 7e14 + reductions * 1e-7)


def test_gemm_of_few_rows_is_bound_by_its_weights() -> None:
    c = kt.GemmCoefficients(start=0.0, bandwidth=3 * TB, rate=7e14)
    time = gemm_time(c, m=1, n=8192, k=8192, weight_bits=16, bits=16, sms=132, l2=5e7)
    assert time == pytest.approx((2 * 8192 * 8192 + 4 * 8192) / (3 * TB), rel=0.02)


def test_weight_only_products_of_few_rows_need_no_tensor_cores() -> None:
    c = kt.GemmCoefficients(start=0.0, bandwidth=TB, rate=1e12)
    few, more = (gemm_time(c, m=m, n=4096, k=4096, weight_bits=4, bits=16, sms=108, l2=4e7) for m in (16, 17))
    assert few == pytest.approx((4096 * 4096 / 2 + 4 * 16 * 4096) / TB) and more > 10 * few


NCCL = kt.AllReduceCoefficients(
    low_latency_start=1.0,
    low_latency_bandwidth=1.0,
    middle_start=1.0,
    middle_bandwidth=1.0,
    bulk_start=1e-5,
    bulk_bandwidth_2=3e11,
    bulk_bandwidth_4=3e11,
    bulk_bandwidth_8=4e11,
)


def test_all_reduce_sends_what_a_ring_sends() -> None:
    """1 GB among 8 GPUs: 2 x 7 / 8 GB at 400 GB/s."""
    assert all_reduce_time(NCCL, gpus=8, message=1e9) == pytest.approx(1e-5 + 1.75e9 / 4e11)


def test_an_engines_own_all_reduce_stops_at_its_limit() -> None:
    c = replace(
        NCCL, own_up_to=1e6, one_shot_start=2e-6, one_shot_bandwidth=1e11, two_shot_start=1.0, two_shot_bandwidth=1e11
    )
    assert all_reduce_time(c, gpus=2, message=1e6) == pytest.approx(1e-5, rel=0.25)
    assert all_reduce_time(c, gpus=2, message=1e3) == pytest.approx(2.01e-6, rel=1e-3)
    assert all_reduce_time(c, gpus=2, message=1.1e6) == all_reduce_time(NCCL, gpus=2, message=1.1e6)


@given(
    m=st.integers(1, 40_000),
    n=st.integers(1, 70_000),
    k=st.integers(1, 20_000),
    bits=st.sampled_from([(16.0, 16.0), (8.0, 8.0), (4.5, 4.5), (4.0, 16.0)]),
)
def test_any_product_takes_a_finite_time_and_more_depth_takes_longer(
    m: int, n: int, k: int, bits: tuple[float, float]
) -> None:
    c = kt.GemmCoefficients(
        start=3 * US, bandwidth=3 * TB, rate=7e14, block_start=US, tiles=kt.TILES[1], split_k="1 2 4"
    )

    def time(depth: int) -> float:
        return gemm_time(c, m=m, n=n, k=depth, weight_bits=bits[0], bits=bits[1], sms=132, l2=5e7)

    assert 3 * US < time(k) < 1e3
    assert time(2 * k) >= time(k)


@given(
    batch=st.integers(1, 4096),
    heads=st.sampled_from([(4, 1), (32, 8), (40, 40), (7, 7), (64, 8)]),
    length=st.integers(1, 10**6),
    split=st.sampled_from(kt.SPLITS),
    resident=st.sampled_from([1, 2, 4]),
)
def test_any_decode_takes_at_least_as_long_as_its_bytes(
    batch: int, heads: tuple[int, int], length: int, split: str, resident: int
) -> None:
    c = kt.DecodeCoefficients(
        start=US, bandwidth=TB, block_bandwidth=2e10, block_start=US, split=split, blocks_per_sm=resident
    )
    time = decode_time(
        c, batch=batch, q_heads=heads[0], kv_heads=heads[1], head_dim=128, kv_len=length, bits=16, sms=132
    )
    assert time >= batch * heads[1] * length * 512 / TB


@pytest.mark.parametrize(
    "kind",
    [
        kt.DecodeCoefficients,
        kt.LatentCoefficients,
        kt.PrefillCoefficients,
        kt.GemmCoefficients,
        kt.AllReduceCoefficients,
    ],
)
def test_every_coefficient_says_what_it_is(kind: type) -> None:
    for f in fields(kind):
        assert len(f.metadata["meaning"]) > 10 or f.metadata["meaning"] in ("and its rate", "among 8")
        assert "choice" in f.metadata or f.metadata["unit"] in ("s", "B/s", "FLOP/s", "1")


def test_a_message_of_64_kib_still_counts_as_small() -> None:
    regime = KINDS["all_reduce"].regime
    assert [regime({"message_size": size}) for size in (65535, 65536, 65537)] == ["small", "small", "large"]


@pytest.mark.parametrize(("bits", "more"), [(16, 0), (8, 1)])
def test_operands_of_16_bits_are_not_quantised_and_do_not_spill_twice(bits: int, more: int) -> None:
    c = kt.GemmCoefficients(bandwidth=1 * TB, rate=100 * TB)
    work = kt.gemm_work(m=1000, n=3000, k=2000, weight_bits=bits, bits=bits, sms=100, l2=0.0, c=c)
    assert work.spilled == 1000 * 2000 * (2 + more) + 2 * 1000 * 3000
    assert work.quantised == (3 * 1000 * 2000 if more else 0)
