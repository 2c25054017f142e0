"""What short answers say, figure by figure: every figure differs, so that none can be swapped, scaled or dropped."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvplan import units
from kvplan.api.calibrate import FittedKernels, FittedServers
from kvplan.api.predict import Predicted
from kvplan.api.profile import Profiled
from kvplan.api.validate import KernelErrors, ServerErrors
from kvplan.measuring.residuals import Residuals
from kvplan.measuring.serving.check import Beside
from kvplan.quality.results import Quality
from kvplan.report import (
    calibrate,
    capacity,
    evaluate,
    fields,
    listing,
    load,
    losses,
    ownership,
    predict,
    prices,
    profile,
    validate,
)
from kvplan.report.blocks import Notes, Page, Table, Text
from kvplan.report.fields import Field
from kvplan.report.load import are_kept
from kvplan.specs.hardware import Price, StepSize
from kvplan.specs.money import ApiPrice
from kvplan.specs.source import Source

ERRORS = {"rows": 1234, "median": 0.031, "mean": 0.042, "p90": 0.153, "bias": -0.024, "coverage": 0.81}
CELLS = ("1,234", "3.1 %", "4.2 %", "15.3 %", "-2.4 %", "81 %")
ANSWER = (
    "{}: predictions are 3.1 % off the 1,234 measured times at the median, 15.3 % at P90, most too low; 81 % are "
    "inside their 80 % interval."
)
SOURCE = Source(kind="quote", ref="a list (copied)", date="2026-11-20")
OTHER = Source(kind="quote", ref="another", date="2026-06-01")


def tables(page: Page) -> list[Table]:
    return [block for block in page.blocks if isinstance(block, Table)]


def texts(page: Page) -> list[str]:
    return [block.text for block in page.blocks if isinstance(block, Text)]


def headed(table: Table, row: int) -> dict[str, object]:
    return dict(zip((h.text for h in table.headings), table.rows[row].cells, strict=True))


def test_errors_by_kernel() -> None:
    found = Residuals(group=("h200", "vllm", "a very long name of a kernel", "bfloat16"), **ERRORS)
    errors = KernelErrors(kind="gemm", groups=[found])
    (table,) = tables(validate.page(errors))
    assert table.title == "gemm: predicted against measured"
    assert texts(validate.page(errors)) == [ANSWER.format("gemm")]
    assert [h.text for h in table.headings[4:]] == ["rows", "median", "mean", "P90", "bias", "in 80 %"]
    assert table.rows[0].cells == ("h200", "vllm", "a very long name of a kernel", "bf16", *CELLS)
    (group,) = validate.document(errors)["groups"]
    assert group == {**ERRORS, "group": list(found.group)}


def test_errors_by_server_beside_a_roofline() -> None:
    found = Beside(group=("h200", "vllm", "m"), roofline=0.66, **ERRORS)
    left = [f"line {n}" for n in range(7)]
    errors = ServerErrors(profile="p", metrics={"TPOT": [found]}, left=left)
    page = validate.page(errors)
    assert texts(page) == [ANSWER.format("TPOT")]
    assert tables(page)[0].rows[0].cells == ("h200", "vllm", "m", *CELLS, "66 %")
    last = page.blocks[-1]
    assert isinstance(last, Notes) and last.heading.startswith("7 rows were not compared")
    assert last.lines == (*left[:5], "...")
    document = validate.document(errors)
    assert document["metrics"]["TPOT"][0]["roofline"] == 0.66 and document["left_out"] == left


def test_fits_of_kernels_and_servers() -> None:
    assert texts(calibrate.page(FittedKernels(kernels=3, rows=4567, output="x.yaml", parts=[]))) == [
        "3 kernels fitted to 4,567 rows and written to x.yaml. It is a profile for kvplan predict."
    ]
    groups = [Beside(group=g, roofline=0.66, **ERRORS) for g in (("models",), ("models", "h200", "vllm", "m"))]
    found = FittedServers(
        rows=4567, output="x.yaml", shipped="published", speculative=("v 1",), metrics={"TTFT": groups}, left=()
    )
    page = calibrate.page(found)
    assert texts(page) == [
        "Fitted to 4,567 rows, starting from profile published, and written to x.yaml. It is a profile for kvplan "
        "estimate, recommend and predict."
    ]
    assert [row.cells for row in tables(page)[0].rows] == [("models", *CELLS, "66 %")]
    document = calibrate.document(found)
    assert (document["rows"], document["output"], document["speculative"]) == (4567, "x.yaml", ["v 1"])
    assert [g["group"] for g in document["left_out"]["TTFT"]] == [list(g.group) for g in groups]


def test_predicted_rows() -> None:
    kernels = Predicted(kind="gemm", rows=1234, noted=56, stands={"measured here": 1200}, output="o.csv")
    assert texts(predict.page(kernels)) == [
        "1,234 gemm rows written to o.csv (1,200 measured here); 56 rows have a note."
    ]
    stands = {"seen": 1000, "none": 7}
    servers = Predicted(kind="e2e", rows=1234, noted=56, stands=stands, output="o.csv", profile="published")
    document = predict.document(servers)
    assert (document["refused"], document["noted"], document["rows"]) == (7, 56, 1234)
    assert document["basis"] == stands and document["profile"] == "published"


def test_a_measured_profile() -> None:
    group = {
        "held_out": {"mean": 0.012, "p90": 0.034, "rows": 17},
        "interval": [0.95, 1.07],
        "coefficients": {"start": "5 us", "bandwidth": "20 GB/s"},
        "not_identified": ["rate"],
        "residuals": {},
        "range": {},
        "rounds": 2,
    }
    samples = {"shapes": 91, "taken": 1930, "contended": True, "disturbed": 0.25}
    document = {"title": "A CPU", "samples": samples, "groups": {"copy": group}}
    page = profile.page(Profiled(document=document, output="o.yaml", rows="o.csv", seconds=61.0))
    assert texts(page)[:3] == [
        "A CPU: 91 shapes and 1,930 samples were measured in 61.0 s. The mean error on held-out shapes is 1.2 %.",
        "The profile was written to o.yaml, the samples to o.csv.",
        "The device was shared: other work disturbed 25 % of the samples.",
    ]
    cells = tables(page)[0].rows[0].cells
    assert cells[:5] == ("copy", "17", "1.2 %", "3.4 %", "0.95 to 1.07") and cells[7] == "?"
    assert str(cells[5]).startswith("5 us") and str(cells[6]).startswith("20 GB/s")


def test_prices_of_gpus_and_apis() -> None:
    def rent(gpu: str, usd: float, source: Source) -> Price:
        return Price(
            gpu=gpu, provider="p", term="spot", price=usd / 3600, start="2026-05-01", end=None, note="", source=source
        )

    given = [rent("h100-sxm", 2.5, SOURCE), rent("h100-sxm", 3.5, OTHER), rent("h200", 4.5, SOURCE)]
    page = prices.gpu_page(given, "2026-11-24", 120)
    rows = tables(page)[0].rows
    assert [r.cells for r in rows] == [
        ("h100-sxm", "spot", "p", "$2.50", "2026-05-01", "4 d", "[1]"),
        ("", "spot", "p", "$3.50", "2026-05-01", "176 d old", "[2]"),
        ("h200", "spot", "p", "$4.50", "2026-05-01", "4 d", "[1]"),
    ]
    assert [r.tone for r in rows] == ["plain", "quiet", "plain"]
    assert any(text.startswith("1 of 3 prices was last seen more than 120 days") for text in texts(page))

    def api(above: int) -> ApiPrice:
        return ApiPrice(
            provider="p", model="m", serves="", input=2e-6, cached=None, output=7e-6, above=above,
            start="2026-05-01", end=None, note="", source=SOURCE,
        )  # fmt: skip

    table = tables(prices.api_page([api(0), api(128_000)], "2026-11-24", 120))[0]
    assert [headed(table, n)["prompts"] for n in (0, 1)] == ["shorter", "> 128,000"]
    assert [headed(table, 0)[name] for name in ("input", "cached", "output")] == ["$2.00", "-", "$7.00"]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (85e9, "B", "79.2 GiB (85.0 GB)"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (989e12, "FLOP/s", "989 TFLOP/s"),
        (700.0, "W", "700 W"),
        (0.05, "s", "50.0 ms"),
        ((StepSize(memory=2**30, sequences=256, tokens=2048),), "steps", "256 sequences, 2,048 tokens from 1 GiB"),
        ({1: 2**20}, "B by tp", "tp1: 1.0 MiB"),
        ((0.5, 2.0), "hours", "0.5 2"),
        (True, "", "yes"),
        (12345, "", "12,345"),
        (("a", "b"), "", "a, b"),
        (38.3, "", "38.3"),
    ],
)
def test_values_are_written_with_their_unit(value: object, unit: str, said: str) -> None:
    (table,) = tables(fields.page("gpu", "x", [Field("f", value, "s", unit)]))
    assert table.rows[0].cells == ("f", said, "[1]")


def test_a_list_shows_in_its_table_what_json_holds() -> None:
    page = listing.page("profiles", [("published", "servers")], "2026-11-24")
    assert texts(page) == ["1 profiles"] and tables(page)[0].rows[0].cells == ("published", "servers")
    found = listing.document("profiles", [("published", "servers")], "2026-11-24")
    assert found["profiles"] == [{"name": "published", "of": "servers"}]


# -- figures that no golden report shows ----------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "amount", "written"),
    [
        ("s", 5 * units.YEAR, "5 years"), ("USD/J", 0.09 / units.KWH, "0.09 USD/kWh"),
        ("USD/W/s", 0.13 / units.MONTH, "130 USD/kW/month"), ("USD/s", 7_500 / units.YEAR, "7500 USD/year"),
        ("1", 1.25, "1.25"),
    ],
)  # fmt: skip
def test_figures_of_owning_are_written_per_year_month_and_kilowatt_hour(unit: str, amount: float, written: str) -> None:
    factor, word = ownership.SPELLING[unit]
    assert f"{amount * factor:,.6g} {word}".strip().replace(",", "") == written


def test_a_quality_loss_is_written_with_both_ends_of_its_range() -> None:
    quality = Quality(
        technique="h2o:20%", task="qa-single", drop=0.021, low=0.013, high=0.034, known=True, basis="a table"
    )
    assert losses.loss(quality) == "2.1 % (1.3 % to 3.4 %)"
    assert losses.at_most(quality) == "2.1 % (to 3.4 %)"
    unknown = Quality(technique="x", task="code", drop=None, low=0.2, high=1.0, known=False, basis="not measured")
    assert losses.loss(unknown) == "unknown, 20 % to 100 %"
    assert losses.loss(replace(unknown, low=0.0)) == "unknown"


def test_a_row_beside_its_prediction_begins_with_its_line_and_its_model() -> None:
    headings = [c.heading for c in validate.ROW if c.heading]
    assert (
        headings[:3] == ["row", "model", "tokens, load"]
        and [h[:4] for h in headings[3:]] == ["TTFT"] * 2 + ["TPOT"] * 2
    )


def test_the_largest_volume_is_said_with_its_times_and_what_binds() -> None:
    plan = SimpleNamespace(ttft=0.75, tpot=0.0213, slo_probability=0.96, label="fp8 on 2x l4", gpus=8, usd=0.02)
    demand = SimpleNamespace(
        workload=SimpleNamespace(title="Chat"), model=SimpleNamespace(title="A model"), peak=3.25, mean=1.5,
        limits=SimpleNamespace(percentile=0.95),
    )  # fmt: skip
    found = SimpleNamespace(
        demand=demand, plan=plan, gpus=12, site=SimpleNamespace(gpu=SimpleNamespace(title="A GPU")), users=2345.0,
        queries_per_day=123_456.0, sought=0.9, bound_by="TTFT", refusal="",
    )  # fmt: skip
    assert capacity.answer(cast(Any, found)) == (
        "Chat on A model, 12x A GPU: 123,456 queries a day at most (3.25/s in the busiest hour), 2,345 users at work "
        "in the busiest hour. More is bound by TTFT. The plan: fp8 on 2x l4, 8 GPUs at $0.0200 a query, $78,894 "
        "a month; TTFT 750.0 ms and TPOT 21.3 ms at P95, limits kept with 96 % probability. "
        "No volume keeps the latency limits with 90 % probability."
    )


def test_scores_come_before_where_needles_stand_and_then_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("headline", "how"):
        monkeypatch.setattr(evaluate, name, lambda _: "")
    monkeypatch.setattr(evaluate, "depths", lambda scores: evaluate.table("Needles", (), ()))
    monkeypatch.setattr(evaluate, "times", lambda memories: [evaluate.table("Times", (), ())])
    monkeypatch.setattr(evaluate, "differences", lambda memories: ())
    monkeypatch.setattr(evaluate, "chart", lambda scores, memories: None)
    monkeypatch.setattr(evaluate, "SCORE", ())
    monkeypatch.setattr(evaluate, "MEMORY", ())
    done = SimpleNamespace(stopped=False, scores=(1,), memories=(1,), left=(), refused=())
    page = evaluate.page(cast(Any, SimpleNamespace(outcome=done, output=None, unwritten="")))
    assert [t.title for t in tables(page)] == ["Scores", "Needles", "Cache after the text was read", "Times"]


def test_a_wait_in_the_queue_is_written_as_a_time() -> None:
    (column,) = [c for c in load.THROUGHPUT if c.key == "queued_seconds"]
    assert (column.show(0.25), column.show(3.2), column.show(0.0)) == ("250.0 ms", "3.2 s", "none")


def test_a_rent_is_listed_per_hour() -> None:
    rent = Price(
        gpu="l4", provider="a cloud", term="on-demand", price=1.25 / units.HOUR, start="2026-11-01", end=None, note="",
        source=SOURCE,
    )  # fmt: skip
    (column,) = [c for c in listing.prices("2026-11-20") if c.key == "usd_per_hour"]
    assert column.value(rent) == 1.25 and column.show(column.value(rent)) == "$1.25"


def test_a_row_of_equal_lengths_is_shown_with_equal_lengths() -> None:
    """0.9 of 1,024 are 921.6 tokens: the prompt's mean is cut to 921, the answer's is not."""
    row = SimpleNamespace(prompt=921, output=921.6, rate=0.0, concurrency=32.0)
    assert validate.load(cast(Any, SimpleNamespace(row=row))) == "921 + 921, 32"


def test_every_column_of_predicted_times_says_of_what() -> None:
    headings = [c.heading for name in ("TTFT", "TPOT") for c in validate.times(name, lambda p: (None, 1.0, (1.0, 1.0)))]
    assert headings[1] == "TTFT predicted (80 %)" and headings[5] == "TPOT predicted (80 %)"


def test_one_limit_is_kept_and_several_are() -> None:
    assert are_kept("TTFT <= 2.0 s") == "TTFT <= 2.0 s is kept"
    assert are_kept("TTFT <= 2.0 s and TPOT <= 50.0 ms") == "TTFT <= 2.0 s and TPOT <= 50.0 ms are kept"


def test_one_measured_row_is_not_spoken_of_as_of_many() -> None:
    """It was "33.9 % off the 1 measured time at the median, 33.9 % at P90; 0 % are inside their 80 % interval"."""
    one = ERRORS | {"rows": 1, "median": 0.339, "bias": -0.339, "coverage": 0.0}
    said = validate.answer("TPOT", Residuals(group=("all",), **one)).text
    assert said == "TPOT: the prediction is 33.9 % too low, the measured time outside its 80 % interval."
    near = ERRORS | {"rows": 1, "median": 0.02, "bias": 0.02, "coverage": 1.0}
    assert validate.answer("TTFT", Residuals(group=("all",), **near)).text.endswith(
        "2.0 % too high, the measured time inside its 80 % interval."
    )
