"""`kvplan techniques`: one table for a model and a workload, and the interval of its times."""

import pytest

import kvplan
from kvplan import catalog
from kvplan.api.sites import site
from kvplan.errors import KvplanError
from kvplan.kv.replica import Parallel
from kvplan.kv.speeds import UNMEASURED, interval
from kvplan.planning.choosing import choose
from kvplan.planning.ratios import FLOOR, step_ratio
from kvplan.planning.replica import Case, case_of
from kvplan.planning.site import Query
from kvplan.report.blocks import Text
from kvplan.report.techniques import advice, page

DAY = "2026-11-24"


def test_eviction_loses_retrieval_where_questions_come_later_and_kvzip_does_not() -> None:
    names = ["fp8", "h2o:20%", "snapkv:25%", "kvzip:25%"]
    rows = {r.row.technique: r for r in kvplan.techniques("llama3.1-8b", "doc-qa", techniques=names, on=DAY).rows}
    assert rows["h2o:20%"].quality.drop > 0.6 and rows["snapkv:25%"].quality.drop > 0.5
    assert 0.003 < rows["kvzip:25%"].quality.drop < 0.008 and rows["fp8"].quality.drop < 0.01
    seen = {r.row.technique: r for r in kvplan.techniques("llama3.1-8b", "rag", techniques=names, on=DAY).rows}
    assert seen["snapkv:25%"].quality.drop < rows["snapkv:25%"].quality.drop / 3
    assert rows["fp8"].here and not rows["kvzip:25%"].here and rows["fp8"].engines[0].startswith("vLLM from 0.3")


def test_no_evicting_technique_that_loses_retrieval_is_recommended_within_one_percent() -> None:
    """fp8 loses less than 1 % of such questions and is served; with NVFP4 on Blackwell more fits."""
    asked = {"max_quality_drop": "1%", "weights": "bf16", "ttft": "30s", "on": DAY}
    found = kvplan.recommend("doc-qa", "llama3.1-70b", gpus="b200", any_technique=True, **asked)
    usable = {p.technique for p in (found.plan, *found.alternatives) if p.quality.within(0.01)}
    assert found.plan.technique in usable and {"fp8", "nvfp4", "kvzip:25%"} <= usable
    assert not any(name in t for t in usable for name in ("h2o", "streaming", "snapkv", "window"))
    served = kvplan.recommend("doc-qa", "llama3.1-70b", gpus="b200", techniques=["fp8", "nvfp4"], **asked)
    assert served.plan is not None and served.plan.served_by_engine and served.plan.technique in ("fp8", "nvfp4")
    hopper = kvplan.recommend("doc-qa", "llama3.1-70b", gpus="h200", techniques=["fp8", "nvfp4"], **asked)
    assert hopper.plan is None or hopper.plan.technique == "fp8", "no Hopper has 4-bit floats"


def test_a_ratio_has_the_interval_of_its_cache_and_no_more_than_its_part_of_the_step() -> None:
    model = catalog.model("qwen3.5-27b")
    place = site(catalog.gpu("rtx-3090"), model, DAY, parallel=Parallel(tensor=4), weights="int4")
    case = case_of(model, Query(context=32_768 + 64, output=64), place)
    turbo, plain, fp8 = (step_ratio(case, t, Parallel(tensor=4), 1) for t in ("turboquant:4", "baseline", "fp8"))
    assert (plain.low, plain.middle, plain.high) == pytest.approx((1 - FLOOR, 1.0, 1 + FLOOR))
    assert turbo.low < 1.435 < turbo.high and turbo.middle > 1, "20.21 over 14.08 ms"
    assert fp8.low < 1 < fp8.high and turbo.measured
    assert interval("h2o:20%") == (UNMEASURED, "") and interval("fp8+h2o:20%")[0] == UNMEASURED != interval("fp8")[0]
    for name in ("int4:token", "kivi:2", "nvfp4", "mhc:4x", "turboquant:4+h2o:20%"):
        (low, high), measured = interval(name)
        assert low <= UNMEASURED[0] + 0.1 and high >= UNMEASURED[1] and not measured, "as wide as it is unknown"


def on(model: str, gpu: str, tensor: int, context: int, weights: str | None = None) -> tuple[Case, Parallel]:
    spec, parallel = catalog.model(model), Parallel(tensor=tensor)
    place = site(catalog.gpu(gpu), spec, DAY, parallel=parallel, weights=weights)
    return case_of(spec, Query(context=context + 64, output=64), place), parallel


def test_the_time_of_turboquant_is_the_measured_one() -> None:
    """Beyond the uncompressed step, which is the servers' fit's: 20.21 - 14.08 ms, and 5.231 - 3.446 on an H100."""
    for asked, extra in (
        (on("qwen3.5-27b", "rtx-3090", 4, 32_768, "int4"), 6.13e-3),
        (on("qwen3.5-27b", "rtx-3090", 4, 32_768, "fp8"), 6.36e-3),
        (on("qwen3-1.7b", "h100-pcie", 1, 40_832), 10.57e-3),
    ):
        found = step_ratio(*asked[:1], "turboquant:4", asked[1], 1)
        assert (found.middle - 1) * found.plain == pytest.approx(extra, rel=0.15)


@pytest.mark.parametrize(
    ("batch", "context", "plain", "milliseconds"),
    [
        (1, 32_640, 1.868, 8.174),
        (8, 16_384, 2.528, 7.712),
        (32, 4096, 2.885, 7.257),
        (32, 16_384, 6.074, 21.014),
        (32, 32_640, 10.399, 40.516),
    ],
)
def test_unpacking_is_bound_by_one_sequence_and_then_by_all_processors(
    batch: int, context: int, plain: float, milliseconds: float
) -> None:
    """TurboQuant at 4 bits, Qwen2.5-0.5B on an H100 PCIe: a step of 32 sequences takes 5 times that of one.

    Beyond the uncompressed step, which is the servers' fit's and measured as `plain`.
    """
    case, parallel = on("qwen2.5-0.5b", "h100-pcie", 1, context)
    found = step_ratio(case, "turboquant:4", parallel, batch)
    assert (found.middle - 1) * found.plain == pytest.approx((milliseconds - plain) * 1e-3, rel=0.35)


def test_what_drops_tokens_may_take_as_long_as_without_where_nobody_measured_it() -> None:
    """Half of the tokens evicted: 44.9 against 44.4 ms (Llama-3.1-8B, 8 x 8k on an A100)."""
    case, parallel = on("llama3.1-8b", "a100-80gb-sxm", 1, 8192)
    found = step_ratio(case, "snapkv:50%", parallel, 8)
    assert found.low < found.middle < 1 < 44.9 / 44.4 < found.high


def test_the_range_of_an_estimate_is_as_wide_as_what_was_measured_of_its_cache() -> None:
    found = kvplan.estimate("llama3.1-8b", "64k", gpus="h100", tp=1, techniques=["fp8", "kvzip:25%"], on=DAY)
    plain, fp8, kvzip = (row.spread[1] - row.spread[0] for row in found.rows)
    assert plain < fp8 and plain < kvzip, "their caches' speeds are less sure than that of 16 bits"
    middle = found.rows[1]
    assert middle.tpot_range == pytest.approx((middle.tpot * middle.spread[0], middle.tpot * middle.spread[1]))


def test_a_longer_context_is_slower_under_a_scale_per_token_as_measured() -> None:
    """Qwen3.6-27B on 4x RTX 3090: 1.05, 1.26 and 1.94 times the step at 8k, 32k and 128k tokens."""
    model = catalog.model("qwen3.5-27b")
    place = site(catalog.gpu("rtx-3090"), model, DAY, parallel=Parallel(tensor=4), weights="fp8")
    for context, measured in ((8192, 1.0495), (32_768, 1.2573), (131_072, 1.9356)):
        case = case_of(model, Query(context=context + 64, output=64), place)
        found = step_ratio(case, "int8:token", Parallel(tensor=4), 1)
        assert found.middle == pytest.approx(measured, rel=0.1) and found.low < measured < found.high


def test_the_list_takes_a_model_and_a_workload(run) -> None:
    listed = run("list", "techniques", "--for", "llama3.1-8b", "-w", "rag", "--json").json
    assert listed["command"] == "techniques" and listed["question_seen"]
    keys = {"kv_bytes_per_sequence", "kv_bytes_read_per_step", "kv_bytes_peak_prefill", "kv_bytes_shareable", "engines"}
    assert all(keys | {"lone", "load", "quality"} <= set(row) for row in listed["rows"])
    wrong = run("list", "techniques", "--for", "llama3.1-8b")
    assert wrong.code == 2 and "go together" in wrong.err
    with pytest.raises(KvplanError, match="no technique named"):
        kvplan.techniques("llama3.1-8b", "rag", techniques="nonesuch")


def test_the_table_says_what_to_choose_and_why_not_the_others() -> None:
    names = ["fp8", "int8:token", "turboquant:4", "kvzip:25%", "h2o:20%", "mhc:8x"]
    found = kvplan.techniques("llama3.1-70b", "doc-qa", techniques=names, on=DAY)
    choice = choose(found.rows[1:])
    each = {kind: [w.row.technique for w in getattr(choice, kind)] for kind in vars(choice)}
    assert each["good"] == ["fp8"] and each["slow"] == ["int8:token", "turboquant:4"], "served, but unpacked slowly"
    assert each["elsewhere"] == ["kvzip:25%"] and each["ruinous"] == ["h2o:20%"], "an unknown loss is in none"
    assert all(w.load.middle > 1.05 for w in choice.slow) and not each["lossy"]
    said = list(advice(found))
    assert said[0].startswith("fp8 is the first to try: vLLM serves it, it keeps 50 % of the bytes")
    assert any("before the question is known" in line for line in said)
    texts = [block.text for block in page(found).blocks if isinstance(block, Text)]
    assert texts[0] == said[0], "the answer comes first"
    none = kvplan.techniques("llama3.1-70b", "doc-qa", techniques=["h2o:20%"], on=DAY)
    assert next(advice(none)).startswith("vLLM serves nothing that is expected to lose 1 % or less")


@pytest.mark.parametrize("lone", [
    ("--trace", "t.csv"), ("--tp", "2"), ("--quality", "q.yaml"), ("--gpu", "wrong"), ("--technique", "fp8"),
    ("--engine", "sglang"), ("--profile", "mine.yaml"),
])  # fmt: skip
def test_options_of_a_model_and_a_workload_are_not_ignored_without_them(run, lone: tuple[str, str]) -> None:
    found = run("techniques", *lone)
    assert found.code == 2 and f"{lone[0]} is of a model and a workload" in found.err
