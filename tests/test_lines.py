"""A replica's steps at any load, fast: equal to those from operators worked out anew for each load."""

from dataclasses import fields, replace

import pytest

from kvplan import catalog
from kvplan.api.sites import site
from kvplan.errors import Incompatible
from kvplan.kv import spelling
from kvplan.kv.replica import Parallel, weights
from kvplan.perf.serving import Steps, passes, steps
from kvplan.planning.replica import case_of, lines_of
from kvplan.planning.site import Query

DAY = "2026-11-24"
NAMES = ["baseline", "fp8", "mhc:4x", "h2o:20%", "streaming:4,4096", "quest:4096", "int4+h2o:20%", "offload:cpu"]
SHAPES = [Parallel(), Parallel(tensor=4), Parallel(tensor=2, pipeline=2), Parallel(tensor=2, data=4)]


def slowly(case, layout, parallel, each: float) -> Steps:
    """Return the five steps from lists of operators."""
    query, c = case.query, case.site.calibration
    held = weights(case.model, case.site.weights)
    listed = passes(
        case.model, case.base, layout, held, parallel, batch=each, prompt=query.prompt, output=query.output,
        chunk=c.chunk,
    )  # fmt: skip
    return steps(listed, c, each)


@pytest.mark.parametrize("engine", ["vllm", "trtllm"])
@pytest.mark.parametrize(
    "model", ["llama3.1-8b", "deepseek-v3", "gpt-oss-120b", "gemma3-27b", "jamba-1.5-mini", "qwen3-30b-a3b"]
)
def test_steps_at_any_load_are_those_of_operators_worked_out_anew(model: str, engine: str) -> None:
    spec = catalog.model(model)
    tried = 0
    for gpu, context in (("h200", 3000), ("a100-80gb-sxm", 40_000)):
        case = case_of(spec, Query(context=context, output=200), site(catalog.gpu(gpu), spec, DAY, engine=engine))
        for name in NAMES:
            try:
                layout = spelling.apply(name, case.base)
            except Incompatible:
                continue
            for parallel in SHAPES:
                lines = lines_of(case, layout, parallel)
                for each in (1.0, 3.5, 64.0, 700.0):
                    fast, slow = lines.steps(each), slowly(case, layout, parallel, each)
                    for f in fields(Steps):
                        assert getattr(fast, f.name) == pytest.approx(getattr(slow, f.name), rel=1e-11), (name, f.name)
                    tried += 1
    assert tried > 100


def test_speculation_saves_the_same_share_of_a_step() -> None:
    spec = catalog.model("llama3.1-8b")
    place = site(catalog.gpu("h200"), spec, DAY)
    place = replace(place, calibration=place.calibration.moved(accepted=2.5))
    case = case_of(spec, Query(context=3000, output=200), place)
    fast = lines_of(case, case.base, Parallel()).steps(8.0)
    assert fast.decode == pytest.approx(slowly(case, case.base, Parallel(), 8.0).decode, rel=1e-11)
    assert fast.mixed == pytest.approx(slowly(case, case.base, Parallel(), 8.0).mixed, rel=1e-11)
