"""From technique to money: what must hold of every row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel
from kvplan.perf.serving import receiving
from kvplan.planning.estimate import survey
from kvplan.planning.points import compared, usual_limits
from kvplan.planning.replica import at_load, case_of, evaluations
from kvplan.planning.site import Limits, Query, Site

DAY = "2026-11-23"


def site(name: str = "h200", **more: object) -> Site:
    gpu = catalog.gpu(name)
    made = Site(
        gpu=gpu,
        calibration=catalog.calibration(gpu),
        offers=catalog.offers(gpu.name, DAY),
        engine=catalog.engine(),
    )
    return replace(made, **more)


COMPARED = spelling.compared()


def rows(model: str, context: int, where: Site, wanted=COMPARED):
    return evaluations(catalog.model(model), wanted, Query(context=context, output=min(512, context // 2)), where)


def test_llama3_70b_at_128k_on_h100() -> None:
    found = {r.technique: r for r in rows("llama3-70b", 131072, site("h100-sxm"))}
    base = found["baseline"]
    assert base.stored == 40 * 2**30
    # 141 GB of weights need two GPUs, one sequence of 40 GiB beside them four
    assert base.fewest_gpus == 4
    assert found["mhc:4x"].reduction == 0.75 and found["fp8"].reduction == 0.5


def test_70b_weights_do_not_fit_one_a100_but_4_bit_ones_with_mhc_do() -> None:
    """Claim 4 of the audit: 16-bit weights never fit one A100 80 GB; 4-bit weights and 10 GiB of KV do."""
    one = site("a100-80gb-sxm", parallel=Parallel())
    sixteen = rows("llama3-70b", 131072, one, ["mhc:4x"])[1]
    assert not sixteen.feasible and "short by" in sixteen.reason
    four = rows("llama3-70b", 131072, replace(one, weights="int4"), ["mhc:4x"])[1]
    assert four.feasible and four.sequences >= 1


@given(st.sampled_from(catalog.names("models")), st.sampled_from(catalog.names("gpus")), st.integers(64, 400_000))
def test_every_row_is_whole_or_says_why(model: str, gpu: str, context: int) -> None:
    for row in rows(model, context, site(gpu), ["fp8", "mhc:4x+h2o:20%"]):
        if row.feasible:
            assert row.sequences >= 1 and row.gpus and row.ttft > 0 and row.tpot > 0 and row.tokens_per_second > 0
            assert sum(line.amount for line in row.budget.lines) == pytest.approx(row.budget.total)
            assert row.sequences / row.parallel.data * row.budget.paging.reserved(context) <= row.budget.kv_cache
            if row.cost:
                assert sum(line.amount for line in row.cost.lines) == row.cost.per_query > 0
        else:
            assert row.ttft is None and row.cost is None and len(row.reason) > 20


@pytest.mark.parametrize("technique", ["baseline", "mhc:8x", "h2o:20%"])
def test_doubling_the_price_doubles_the_bill(technique: str) -> None:
    here = site()
    twice = replace(here, offers=(replace(here.price, price=here.price.price * 2),))
    once, double = (rows("qwen3-32b", 32768, s, [technique])[-1].cost for s in (here, twice))
    for a, b in zip(once.lines, double.lines, strict=True):
        assert b.amount == pytest.approx(2 * a.amount)


def test_an_unknown_price_is_never_zero() -> None:
    row = rows("qwen3-32b", 32768, site("gb200", offers=()))[0]
    assert row.feasible and row.cost is None


def test_what_does_not_fit_says_how_much_and_what_would() -> None:
    row = rows("llama3.1-70b", 131072, site("h100-sxm", parallel=Parallel(tensor=2)))[0]
    assert not row.feasible
    assert (
        "does not fit 2x h100-sxm (tp2): short by" in row.reason
        and "the smallest change that fits is 4 GPUs (tp4)" in row.reason
    )


def test_a_shape_that_does_not_fit_is_told_one_of_as_many_gpus_that_does() -> None:
    """235 B parameters on 8 H100s: a rank of tp1dp8 caches all 4 KV heads, 23.5 GiB; one of tp8 a single head."""
    row = rows("qwen3-235b-a22b", 131072, site("h100-sxm", parallel=Parallel(data=8)))[0]
    assert "does not fit 8x h100-sxm (tp1dp8)" in row.reason
    assert row.reason.endswith("the smallest change that fits is tp8 on as many GPUs")


def test_the_replica_that_serves_a_query_cheapest_is_taken() -> None:
    """No fixed shape does better than the one chosen, and the fewest GPUs that fit are named."""
    chosen = rows("llama3.1-70b", 131072, site("h100-sxm"), ["fp8"])
    for row in chosen:
        fixed = [site("h100-sxm", parallel=Parallel(tensor=t)) for t in (1, 2, 4, 8)]
        others = [r for s in fixed for r in rows("llama3.1-70b", 131072, s, [row.technique])[-1:] if r.feasible]
        assert row.gpu_seconds == min(r.gpu_seconds for r in others)
        assert row.fewest_gpus == min(r.gpus for r in others)


@pytest.mark.parametrize(
    ("model", "gpu"), [("llama3.1-70b", "h100-sxm"), ("deepseek-v3", "h200"), ("qwen3-8b", "l40s")]
)
def test_times_and_throughput_obey_littles_law(model: str, gpu: str) -> None:
    """Sequences in flight = queries per second x seconds each keeps its place (all but the request's own overhead)."""
    here = site(gpu)
    for row in rows(model, 32768, here):
        if row.feasible:
            stay = row.ttft - receiving(here.calibration, 32768 - 512) + 512 * row.tpot
            assert stay / row.query_seconds == pytest.approx(row.batch)
            assert row.tokens_per_second == pytest.approx(512 / row.query_seconds)


def test_a_bill_is_the_time_a_query_takes_of_the_replica() -> None:
    """Prompt and decoding add up to the cycle over the batch, never less than nothing of either."""
    for row in rows("llama3.1-70b", 32768, site("h200")):
        assert row.cost.per_query == pytest.approx(site("h200").price.price * row.gpu_seconds)
        assert all(line.amount > 0 for line in row.cost.lines)


def test_a_longer_context_takes_longer_and_costs_more() -> None:
    for technique in ("baseline", "fp8", "streaming:4,4096"):
        fixed = site("h200", parallel=Parallel(tensor=4))
        found = [rows("llama3.1-70b", n, fixed, [technique])[-1] for n in (8192, 16384, 32768, 65536)]
        costs = [r.cost.per_query for r in found]
        assert costs == sorted(costs)


def test_times_say_what_they_rest_on() -> None:
    """Seen under other releases, on other GPUs, and neither: the interval widens, and TTFT's is not TPOT's."""
    spans = {}
    for name, model in (("b200", "llama3.1-70b"), ("b300", "llama3.1-70b"), ("l40", "gemma3-27b")):
        gpu = catalog.gpu(name)
        c = catalog.serving_profile().calibrate(gpu, "trtllm" if name == "b200" else "vllm", catalog.model(model))
        row = rows(model, 8192, site(name, calibration=c))[0]
        assert row.spread == (c.tpot.low, c.tpot.high) and row.ttft_spread == (c.ttft.low, c.ttft.high)
        assert row.ttft_spread[1] / row.ttft_spread[0] > row.spread[1] / row.spread[0] > 1
        assert row.grounded == (name != "l40")
        spans[name] = row.spread[1] / row.spread[0]
    assert max(spans["b200"], spans["b300"]) < spans["l40"]


def test_the_batch_is_the_engines_not_what_memory_holds() -> None:
    row = rows("qwen2.5-0.5b", 1024, site("b200", parallel=Parallel()))[0]
    assert row.sequences > row.batch == 1024


def test_without_a_gpu_the_cheapest_grounded_one_is_shown() -> None:
    every = [site(name) for name in catalog.names("gpus")]
    found = survey(
        catalog.model("llama3-70b"),
        Query(context=131072, output=512),
        every,
        spelling.compared(),
        Limits(),
        today=DAY,
        named=False,
    )
    assert len(found.by_gpu) == len(every)
    chosen = found.sites[0]
    assert chosen.calibration.grounded
    costs = [r.cost.per_query for r in found.by_gpu if r.grounded and r.cost]
    assert next(r for r in found.rows if r.technique == "baseline").cost.per_query == min(costs)
    assert "supports 8,192 tokens, not 131,072" in found.warnings[0] and "llama3.1-70b" in found.warnings[0]


def test_where_no_gpu_holds_the_model_the_largest_says_what_is_missing() -> None:
    one = [site(name, parallel=Parallel()) for name in ("l4", "b300", "h100-sxm")]
    ask = Query(context=131072, output=512)
    found = survey(catalog.model("llama3.1-405b"), ask, one, [], Limits(), today=DAY, named=False)
    assert [s.gpu.name for s in found.sites] == ["b300"] and "does not fit 1x b300" in found.rows[0].reason


def test_an_old_price_is_said_to_be_old() -> None:
    """By the day it was last seen, as `kvplan prices` says it, not by the day it began."""
    here = site("mi300x")
    seen = replace(here.price, source=replace(here.price.source, date="2026-11-01"))
    for price, old in ((here.price, True), (replace(seen, start="2020-01-01"), False)):
        where = [replace(here, offers=(price,))]
        ask = Query(context=4096, output=64)
        found = survey(catalog.model("qwen3-8b"), ask, where, ["fp8"], Limits(), today=DAY, named=True)
        assert any("check it" in w for w in found.warnings) == old


def test_attention_data_parallelism_holds_more_latents() -> None:
    tensor, data = (
        rows("deepseek-v3", 65536, site("h200", parallel=p), ["fp8"])[0]
        for p in (Parallel(tensor=8), Parallel(tensor=1, data=8))
    )
    assert tensor.feasible and data.feasible and tensor.gpus == data.gpus == 8
    assert data.sequences > 4 * tensor.sequences


def test_mhc_says_what_rotated_keys_allow() -> None:
    said = {
        t: " ".join(rows("llama3.1-8b", 8192, site(), [t])[1].needs)
        for t in ("mhc:4x", "mhc:4x:absorbed", "mhc:4x:reconstruct")
    }
    assert "rebuilt inside the kernel" in said["mhc:4x"]
    assert "64 decoupled elements" in said["mhc:4x:absorbed"]
    assert "slower than plain attention" in said["mhc:4x:reconstruct"]
    assert "RoPE" not in " ".join(rows("opt-6.7b", 2048, site(), ["mhc:4x"])[1].needs)


def test_a_shape_that_does_not_divide_the_heads_is_refused() -> None:
    row = rows("llama3.1-8b", 8192, site(parallel=Parallel(tensor=3)))[0]
    assert row.reason == "tensor parallelism 3 does not divide the model's 32 attention heads"


# -- points that can be compared ------------------------------------------------------------------


def pointed(model: str, context: int, where: Site, wanted, limits: Limits | None = None):
    """Return rows with their points, and the case and limits they stand for."""
    query = Query(context=context, output=min(512, context // 2))
    limits = limits or usual_limits(query)
    case = case_of(catalog.model(model), query, where)
    return case, limits, compared(case, evaluations(catalog.model(model), wanted, query, where), limits)


def slowly(case, row, limits):
    """Return the least GPU time of a query within limits: every load of every replica is tried."""
    most = [t.batch for t in row.full]
    tried = [
        at_load(case, row.layout, t.parallel, t.sequences, n)
        for t, all_of_it in zip(row.full, most, strict=True)
        for n in range(1, all_of_it + 1)
    ]
    return min((t.gpu_seconds for t in tried if t.keeps(limits)), default=None)


@pytest.mark.parametrize(
    ("model", "context", "gpu"),
    [
        ("llama3.1-70b", 131072, "h200"), ("llama3.1-70b", 32768, "h100-sxm"), ("qwen3-32b", 16384, "a100-80gb-sxm"),
        ("deepseek-v3", 65536, "b200"),
        ("llama3.1-8b", 32768, "l40s"),
    ],
)  # fmt: skip
def test_the_largest_load_within_the_limits_is_what_a_slow_search_finds(model: str, context: int, gpu: str) -> None:
    case, limits, found = pointed(model, context, site(gpu), ["fp8", "mhc:4x", "h2o:20%"])
    for row in (r for r in found if r.feasible):
        least = slowly(case, row, limits)
        if least is None:
            assert row.same_limits is None
            continue
        point = row.same_limits
        assert point.ttft <= limits.ttft and point.tpot <= limits.tpot
        # copies of a replica, which are not tried, may fill up a little better than one of them
        assert least <= point.gpu_seconds * (1 + 1e-9) and point.gpu_seconds <= least * 1.05
        assert point.usd == pytest.approx(case.site.price.price * point.gpu_seconds)


def test_points_of_all_techniques_share_their_gpus_and_load() -> None:
    """The baseline's replica within the limits, alone and as full as the baseline can be, whatever others fit."""
    _, _, found = pointed("llama3.1-70b", 65536, site("h200"), COMPARED)
    base = found[0]
    full = next(t for t in base.full if t.parallel == base.same_limits.parallel)
    for row in found:
        assert (row.lone.parallel, row.lone.batch) == (full.parallel, 1)
        assert (row.same_load.parallel, row.same_load.batch) == (full.parallel, full.batch)
    assert (base.same_load.ttft, base.same_load.tpot) == (full.served.ttft, full.served.tpot)
    assert base.same_load.gpu_seconds == pytest.approx(full.gpu_seconds)
    # alone and under one load nothing but the cache differs: what reads less of it is not slower to decode
    fp8 = next(r for r in found if r.technique == "fp8")
    assert fp8.lone.tpot < base.lone.tpot and fp8.same_load.tpot < base.same_load.tpot


@pytest.mark.parametrize(("model", "context", "gpu"), [
    ("deepseek-v3", 102_400, "mi300x"), ("llama3.1-70b", 8_300, "mi300x"), ("llama3.1-70b", 32_768, "h200"),
])  # fmt: skip
def test_a_lone_query_is_faster_than_one_of_several_on_the_same_gpus(model: str, context: int, gpu: str) -> None:
    """DeepSeek-V3's cheapest full replica is tp1dp8, on which a query alone takes 68 s; within the limits it is tp8."""
    _, _, (base, *_) = pointed(model, context, site(gpu), ["fp8"])
    assert base.lone.parallel == base.same_load.parallel == base.same_limits.parallel
    assert base.lone.ttft <= base.same_limits.ttft <= base.same_load.ttft
    assert base.lone.tpot <= base.same_limits.tpot <= base.same_load.tpot
    _, _, (base, *_) = pointed(model, context, site(gpu), ["fp8"], Limits(ttft=0.001))  # which nothing keeps
    assert base.same_limits is None and base.lone.parallel == base.parallel


def test_a_looser_limit_never_costs_more_and_none_is_the_full_replica() -> None:
    def usd(**limits: float) -> float | None:
        _, _, found = pointed("llama3.1-70b", 32768, site("h200"), ["fp8"], Limits(**limits))
        assert (found[1].same_limits is None) == (limits.get("ttft") == 0.1)
        return found[1].same_limits and found[1].same_limits.usd

    costs = [usd(ttft=t, tpot=0.05) for t in (0.1, 3.0, 6.0, 12.0, 60.0)]
    assert costs[0] is None and costs[1:] == sorted(costs[1:], reverse=True) and costs[1] > costs[-1]
    costs = [usd(ttft=20.0, tpot=t) for t in (0.03, 0.05, 0.1, 1.0)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]
    _, _, (_, row) = pointed("llama3.1-70b", 32768, site("h200"), ["fp8"], Limits())
    assert row.same_limits.usd == pytest.approx(row.cost.per_query)


def test_a_technique_that_holds_less_than_the_baseline_has_no_such_load() -> None:
    """A joint MHC latent stands whole on every tensor-parallel rank: at tp8 it holds fewer sequences."""
    _, _, (base, mhc) = pointed("llama3.1-70b", 65536, site("h200", parallel=Parallel(tensor=8)), ["mhc:512:joint"])
    assert mhc.feasible and mhc.sequences < base.batch and mhc.same_load is None and mhc.lone is not None


def test_the_usual_limits_grow_with_the_prompt() -> None:
    found = [usual_limits(Query(context=n, output=1)) for n in (2048, 8193, 65537, 131073)]
    assert [limits.ttft for limits in found] == [2.0, 3.0, 10.0, 18.0] and {x.tpot for x in found} == {0.05}
    half = [usual_limits(Query(context=n, output=1)).ttft for n in (12_288, 12_289)]
    assert half == [3.0, 4.0], "a second is added from the half of 8,192 tokens on"


def test_limits_are_those_asked_for(run) -> None:
    words = ("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100", "-t", "fp8", "--on", DAY, "--json")
    usual = run(*words).json
    assert usual["limits"] == {"ttft": 3.0, "tpot": 0.05, "usual": True}
    asked = run(*words, "--ttft", "500ms", "--tpot", "none").json
    assert asked["limits"] == {"ttft": 0.5, "tpot": None, "usual": False}
    for row in asked["rows"]:
        assert row["same_limits"]["ttft"] <= 0.5
        assert set(row["lone"]) == {"gpus", "ttft", "tpot", "usd_per_query"}
        assert set(row["same_load"]) == {"batch", "gpus", "ttft", "tpot"}
        ends = {"usd_per_query_low", "usd_per_query_high"}
        assert set(row["same_limits"]) == {"batch", "gpus", "ttft", "tpot", "usd_per_query", *ends}
    never = run(*words[:-1], "--ttft", "1ms")
    assert never.code == 0 and "No replica keeps a mean TTFT of 1.0 ms" in never.out and "--ttft 250ms" in never.out
