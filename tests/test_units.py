"""Quantities: what people write, what they read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import units
from kvplan.errors import SpecError
from kvplan.report.blocks import Column, records, table


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("80 GB", "B", 80e9),
        ("79.18 GiB", "B", 79.18 * 2**30),
        ("4.8 TB/s", "B/s", 4.8e12),
        ("989 TFLOP/s", "FLOP/s", 989e12),
        ("1,979 TOP/s", "FLOP/s", 1979e12),
        ("700 W", "W", 700.0),
        ("50ms", "s", 0.05),
        ("36 USD/h", "USD/s", 0.01),
        ("30k", "queries", 30e3),
        ("30 K", "queries", 30e3),
        ("1.2M", "queries", 1.2e6),
        ("40,000", "queries", 40e3),
        ("$36/h", "USD/s", None),
    ],
)
def test_parse(text: str, dimension: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(SpecError, match="USD/h"):
            units.parse(text, dimension)
    else:
        assert units.parse(text, dimension) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["80", "80 GB/s", "80 gb", "GB", "", "nan GB", "inf GB", "1e999 GB", "80 GB GB", "8٠ GB"]
)
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(SpecError, match="expected a size such as"):
        units.parse(text, "B", "h200.yaml: memory")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("128k", 131072),
        ("128K", 131072),
        ("1M", 1048576),
        ("4096", 4096),
        ("4,096", 4096),
        ("1.5k", 1536),
        ("32ki", 32768),
    ],
)
def test_tokens(text: str, tokens: int) -> None:
    assert units.parse_tokens(text) == tokens


@pytest.mark.parametrize(
    "text", ["-1", "0", "", "1.3", "1.0001k", "lots", "1e5", "128kk", "9" * 30, "٣k", "1,5k", "12,34"]
)
def test_refuses_what_is_no_token_count(text: str) -> None:
    with pytest.raises(SpecError, match="context: expected"):
        units.parse_tokens(text)


@pytest.mark.parametrize(
    ("text", "unit"), [("2,49 USD/h", "USD/s"), ("0,5s", "s"), ("1,00,000", "queries"), ("1,", "1")]
)
def test_a_comma_only_parts_thousands(text: str, unit: str) -> None:
    """2,49 would otherwise be 249: a price a hundred times as high, without a word."""
    with pytest.raises(SpecError, match="a comma parts thousands, a point decimals"):
        units.parse(text, unit, "price")


@given(st.floats(1e-9, 1e18))
def test_what_is_shown_reads_back(value: float) -> None:
    shown = units.show_bytes(value)
    assert units.parse(shown, "B") == pytest.approx(value, rel=0.06, abs=0.6)


def test_shown_tokens_read_back() -> None:
    for tokens in (1, 999, 1024, 131072, 1048576, 131073, 10**6):
        assert units.parse_tokens(units.show_tokens(tokens)) == tokens


def test_time_and_money_read_well() -> None:
    assert [units.show_time(t) for t in (0.00005, 0.034, 2.1, 84, 600)] == [
        "50.0 us",
        "34.0 ms",
        "2.1 s",
        "84.0 s",
        "10.0 min",
    ]
    assert [units.show_usd(u) for u in (0, 0.00001, 0.0000216, -0.0000216, 0.0276, 0.5, 2.5, 1234.5)] == [
        "$0.00",
        "$0.000010",
        "$0.000022",
        "$-0.000022",
        "$0.0276",
        "$0.500",
        "$2.50",
        "$1,235",
    ]


def test_small_costs_are_those_of_a_million_queries() -> None:
    """One rule for sentences and tables: from a tenth of a cent on a query, below it a million of them."""
    assert [units.show_usd_each(u) for u in (0.172, 0.001, 0.000999, 0.00001, 0.000178, 0.0)] == [
        "$0.172 a query", "$0.00100 a query", "$999 per million queries", "$10.00 per million queries",
        "$178 per million queries", "$0.00 a query",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("costs", "heading", "cells"),
    [
        ((0.00001, 0.000178, None), "$ / 1M\nqueries", ("$10.00", "$178", "no price")),
        ((0.00001, 0.172, None), "$ / query", ("$0.000010", "$0.172", "no price")),
        ((None,), "$ / query", ("no price",)),
    ],
)
def test_a_column_of_costs_has_one_scale(costs, heading: str, cells: tuple[str, ...]) -> None:
    column = Column(
        heading="$ / query", value=lambda usd: usd, show=units.show_usd, absent="no price", per_query=True, key="usd"
    )
    made = table("", (column,), costs)
    assert made.headings[0].text == heading and tuple(row.cells[0] for row in made.rows) == cells
    assert records((column,), costs) == [{"usd": usd} for usd in costs]  # documents keep base units


def test_costs_beside_another_are_written_at_its_scale() -> None:
    column = Column(heading="$ / query", value=lambda usd: usd, show=units.show_usd, per_query=True)
    made = table("", (column,), (0.0005, 0.002), like=0.0004)
    assert made.headings[0].text == "$ / 1M\nqueries" and [row.cells[0] for row in made.rows] == ["$500", "$2,000"]
    assert table("", (column,), (0.0005,), like=0.002).headings[0].text == "$ / query"
    assert units.show_usd_each(0.002, 0.0004) == "$2,000 per million queries"
    assert units.show_usd_each(0.0004, 0.002) == "$0.000400 a query"
    assert units.said_per_query("Cost of a query [USD]", 0.0004) == "Cost of a million queries [USD]"
    assert units.said_per_query("Cost of a query [USD]", None) == "Cost of a query [USD]"


def test_odds_are_never_certain() -> None:
    assert [units.show_odds(p) for p in (0.92, 0.996, 1.0, 0.001)] == ["92 %", "over 99 %", "over 99 %", "under 1 %"]
    assert [units.short_odds(p) for p in (0.92, 1.0, 0.001)] == ["92 %", ">99 %", "<1 %"]


def test_two_numbers_are_told_apart_by_as_many_digits_as_it_takes() -> None:
    assert units.show_apart(5.3, 5.0, units.show_time) == ("5.3 s", "5.0 s")
    assert units.show_apart(5.004, 5.0, units.show_time) == ("5.004 s", "5.000 s")
    assert units.show_apart(0.8996, 0.9, units.show_percent) == ("89.96 %", "90.00 %")
    assert units.show_apart(2.0, 2.0, units.show_time) == ("2.0 s", "2.0 s")
    assert units.show_apart(0.1146, 0.1153, units.show_usd) == ("$0.1146", "$0.1153")
    assert units.show_apart(123.4, 123.1, units.show_usd) == ("$123.4", "$123.1")


def test_numbers_of_any_size_read_without_powers_of_ten() -> None:
    seen = {0.0123: "0.0123", 1.234: "1.23", 99.96: "100", 123.4: "123", 1020.4: "1,020", 1234567.8: "1,234,568"}
    assert {value: units.show_number(value) for value in seen} == seen
    assert [units.show_number(x, 2) for x in (0.123, 1.25, 9.96, 99.7, 120.0)] == ["0.12", "1.3", "10", "100", "120"]


def test_ties_round_as_a_page_s_scripts_round_them() -> None:
    """JavaScript writes (11.25).toFixed(1) as 11.3, where Python's half to even is 11.2."""
    assert [units.show_time(t) for t in (11.25, 0.01225, 11.249)] == ["11.3 s", "12.3 ms", "11.2 s"]
    assert [units.show_percent(x, 1) for x in (0.00125, -0.00125)] == ["0.1 %", "-0.1 %"]
    assert [units.show_percent(x) for x in (0.125, -0.125, 0.025)] == ["13 %", "-13 %", "3 %"]
    assert [units.show_usd(x) for x in (0.03125, 2.125, 100.5)] == ["$0.0313", "$2.13", "$101"]
    assert units.show_bytes(11.25 * 2**30) == "11.3 GiB" and units.show_number(12.25) == "12.3"
