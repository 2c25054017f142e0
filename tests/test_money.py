"""Money: hand-checked bills, annuities, energy and break-even volumes; prices that say how old they are."""

import json
import math
import types
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan import catalog
from kvplan.catalog.costs import cloud
from kvplan.errors import SpecError, UnknownName
from kvplan.money.api import Tokens, api_cost, applicable, break_even
from kvplan.money.bill import SPANS, WORK, Fleet, Usage, fleet_bill
from kvplan.money.draw import Draw, measured_draw, query_energy, rated_draw
from kvplan.money.gpu_cost import annuity, own, rent
from kvplan.money.offers import caveat, commitment, median_offer, old, typical_spread, upper_end
from kvplan.report.recommend import break_even as break_even_document
from kvplan.specs.hardware import Price
from kvplan.specs.money import OWNERSHIP_FIELDS, OWNERSHIP_MEANING, ApiPrice, age, stale
from kvplan.specs.source import KINDS, Source
from kvplan.units import DAY, HOUR, KWH, MILLION, MONTH, YEAR, parse, show_energy

SOURCE = Source(kind="assumption", ref="made up for a test", date="2026-11-24")
PARTS = {"prefill": 20.0, "decode weights": 10.0, "decode KV": 8.0, "communication": 1.0, "overhead": 1.0}
FLEET = Fleet(peak=32, headroom=4, spares=8)
LOAD = Usage(parts=PARTS, queries_per_month=40_000 * MONTH / DAY, input_tokens=130_000, output_tokens=500)
H100 = catalog.gpu("h100")
#: everything about owning that a test does not look at is nothing
BARE = replace(
    catalog.ownership(), residual=0.0, interest=0.0, utilization=1.0, network=0.0, colocation=0.0, salary=0.0
)


def price(usd_per_hour: float = 3.99, term: str = "on-demand") -> Price:
    return Price(
        gpu="h100-sxm", provider="test", term=term, price=usd_per_hour / HOUR, start="2026-11-01", end=None, note="",
        source=SOURCE,
    )  # fmt: skip


def api(**fields: object) -> ApiPrice:
    given = {"input": 1e-6, "output": 4e-6, "cached": None, "above": 0, "end": None, "note": "", "serves": ""}
    return ApiPrice(**{"provider": "p", "model": "m", "start": "2026-01-01", "source": SOURCE, **given, **fields})  # type: ignore[arg-type]


# -- owning ---------------------------------------------------------------------------------------


def test_annuity_of_known_values() -> None:
    """Textbook: 1000 at 5 % over 10 years is 129.50 a year; 200,000 at 6 %/12 over 360 months is 1,199.10 a month."""
    assert annuity(1000, 0.05, 10) == pytest.approx(129.5046, abs=1e-4)
    assert annuity(200_000, 0.06 / 12, 360) == pytest.approx(1199.10, abs=0.005)
    assert annuity(1000, 0.0, 4) == 250 and annuity(1000, 0.0, 4, residual=200) == 200
    # a loan of which all remains pays its interest alone
    assert annuity(1000, 0.08, 4, residual=1000) == pytest.approx(80)


@given(rate=st.floats(0, 0.5), periods=st.integers(1, 30), left=st.floats(0, 1))
def test_an_annuity_repays_the_loan(rate: float, periods: int, left: float) -> None:
    payment, owed = annuity(1000, rate, periods, 1000 * left), 1000.0
    for _ in range(periods):
        owed = owed * (1 + rate) - payment
    assert owed == pytest.approx(1000 * left, abs=1e-6 * 1.5**periods)


def test_a_dgx_by_hand() -> None:
    """270,000 USD over 4 years and 8 GPUs is 0.963 USD an hour; 1.73 kW at 0.08 USD/kWh adds 0.138."""
    draw = Draw(busy=1730 / 1.25 - 575, idle=100, basis="", measured=True, source=SOURCE)
    cost = own(H100, BARE, draw)
    assert cost is not None
    assert [line.name for line in cost.fixed if line.amount] == ["capital"]
    assert cost.fixed[0].amount * HOUR == pytest.approx(270_000 / 8 / (4 * 8766)) == pytest.approx(0.963, abs=1e-3)
    # 10.2 kW / 8 - 700 W is 575 W of server beside each GPU; PUE 1.25
    assert cost.host == pytest.approx(575)
    assert cost.power("") * HOUR == pytest.approx(1.73 * 0.08) == pytest.approx(0.138, abs=1e-3)
    assert cost.power(None) * HOUR == pytest.approx((100 + 575) * 1.25 / 1000 * 0.08)
    assert "4 years" in cost.caveats[0]


def test_every_assumption_has_its_own_line() -> None:
    """8 % on 38,812.50 USD (network 15 %) over 4 years is 11,718.30 a year, of which 9,703.13 repays."""
    terms = catalog.ownership()
    cost = own(H100, terms)
    assert cost is not None
    yearly = {line.name: line.amount * YEAR * terms.utilization for line in cost.fixed}
    assert yearly["capital"] == pytest.approx(33_750 / 4) and yearly["network"] == pytest.approx(33_750 * 0.15 / 4)
    assert yearly["interest"] == pytest.approx(11_718.30 - 9_703.125, abs=0.01)
    assert yearly["colocation"] == pytest.approx(1.275 * 200 * 12) and yearly["staff"] == pytest.approx(200_000 / 256)
    assert cost.power("") * HOUR == pytest.approx((0.75 * 700 + 575) * 1.25 * 0.08 / 1000)
    assert all("assumption" in line.basis or "quote" in line.basis for line in cost.fixed)


def test_our_cost_of_owning_is_near_a_published_model() -> None:
    """SemiAnalysis has 1.30 (hyperscaler) and 1.69 (neocloud) USD an hour for an H100; we lie above, renting space."""
    cost = own(H100, catalog.ownership())
    assert cost is not None and 1.30 < cost.rate() * HOUR < 1.69 * 1.25


@pytest.mark.parametrize("field", ["electricity", "pue", "colocation", "salary", "interest", "network"])
def test_doubling_an_assumption_doubles_its_line_only(field: str) -> None:
    line = {"electricity": "power", "pue": "power", "salary": "staff"}.get(field, field)
    terms = catalog.ownership()
    one, two = (
        fleet_bill(FLEET, LOAD, own(H100, replace(terms, **{field: factor * getattr(terms, field)})))  # type: ignore[arg-type]
        for factor in (1, 2)
    )
    before, after = ({k.name: k.amount for k in bill.kinds} for bill in (one, two))
    # 8 % over 4 years takes 0.30192 a year, 16 % 0.35738; 0.25 of each repays. The network bears interest too
    factor = (0.35738 - 0.25) / (0.30192 - 0.25) if field == "interest" else 2
    assert after[line] == pytest.approx(factor * before[line], rel=0.01)
    others = {"interest"} if field == "network" else set()
    assert all(after[n] == pytest.approx(before[n]) for n in before if n not in {line, *others})


def test_what_is_not_known_is_none() -> None:
    terms = catalog.ownership()
    assert own(catalog.gpu("l40s"), terms) is None  # no price of a server with it
    assert own(replace(H100, power=None), terms) is None and rated_draw(replace(H100, power=None), terms) is None
    assert catalog.offers("rtx-4090", "2026-11-24") == ()
    assert api_cost(api(output=None), Tokens(input=10, output=10)) is None
    assert api_cost(api(output=None), Tokens(input=10, output=0)) == pytest.approx(1e-5)


# -- the bill -------------------------------------------------------------------------------------


def rented(usd_per_hour: float = 3.99, term: str = "on-demand"):
    return fleet_bill(FLEET, LOAD, rent(price(usd_per_hour, term)))


def owned():
    cost = own(H100, catalog.ownership())
    assert cost is not None
    return fleet_bill(FLEET, LOAD, cost)


def test_a_rented_fleet_by_hand() -> None:
    """40,000 queries a day of 40 GPU-s keep 18.5 of 32 GPUs at work; 44 GPUs at 3.99 are paid for."""
    bill = rented()
    assert bill.per("hour") == pytest.approx(44 * 3.99) and bill.gpus == 44
    assert bill.per("month") == pytest.approx(44 * 3.99 * 730.5)
    assert bill.per("query") == pytest.approx(44 * 3.99 * 24 / 40_000)
    hourly = {line.name: line.amount / 3.99 for line in bill.lines_per("hour") or ()}
    assert hourly["prefill"] == pytest.approx(40_000 * 20 / 86_400)
    assert hourly["idle"] == pytest.approx(32 - 40_000 * 40 / 86_400)
    assert hourly["headroom"] == pytest.approx(4) and hourly["spares"] == pytest.approx(8)
    assert [k.name for k in bill.kinds] == ["rent"]
    assert bill.per("million_input") == pytest.approx((bill.per("query") or 0) / 0.13)
    assert bill.per("million_output") == pytest.approx((bill.per("query") or 0) / 0.0005)
    assert bill.per("million_total") == pytest.approx((bill.per("query") or 0) / 0.1305)


@pytest.mark.parametrize("bill", [rented(), owned()], ids=["rented", "owned"])
def test_both_views_sum_to_the_total(bill) -> None:
    assert [line.name for line in bill.lines] == [*PARTS, "idle", "headroom", "spares", "unused"]
    assert sum(k.amount for k in bill.kinds) == pytest.approx(bill.total, rel=1e-12)
    for unit in (*SPANS, *WORK):
        for view in ("use", "kind"):
            lines = bill.lines_per(unit, view)
            assert lines and sum(line.amount for line in lines) == pytest.approx(bill.per(unit), rel=1e-12)
    assert bill.per("query") * LOAD.queries_per_month == pytest.approx(bill.per("month"), rel=1e-12)
    assert bill.per("month") * 12 == pytest.approx(bill.per("year"))


def test_an_owned_bill_splits_by_what_is_paid_for() -> None:
    bill = owned()
    assert {k.name for k in bill.kinds} == {"capital", "network", "interest", "colocation", "staff", "power"}
    # a waiting GPU costs less than a working one, by its electricity alone
    uses = {line.name: line.amount for line in bill.lines}
    assert uses["spares"] / 8 < uses["prefill"] / (LOAD.rate * 20)


@given(
    seconds=st.dictionaries(st.sampled_from(sorted(PARTS)), st.floats(0, 50), min_size=1),
    queries=st.floats(0, 1e6),
    extra=st.floats(0, 100),
    spares=st.floats(0, 16),
)
def test_lines_sum_to_the_total_whatever_the_load(
    seconds: dict[str, float], queries: float, extra: float, spares: float
) -> None:
    load = Usage(parts=seconds, queries_per_month=queries, input_tokens=1000, output_tokens=100)
    fleet = Fleet(peak=load.rate * load.gpu_seconds + extra + 0.01, spares=spares)
    cost = own(H100, catalog.ownership())
    assert cost is not None
    for each in (cost, rent(price())):
        bill = fleet_bill(fleet, load, each)
        assert sum(k.amount for k in bill.kinds) == pytest.approx(bill.total, rel=1e-9)
        assert min(c.amount for c in bill.cells) >= 0
        assert (bill.per("query") is None) == (load.rate == 0)


def test_doubling_a_price_doubles_every_line() -> None:
    for one, two in zip(rented(2.0).lines, rented(4.0).lines, strict=True):
        assert two.amount == pytest.approx(2 * one.amount)


def test_terms_say_what_they_hide() -> None:
    assert "interrupted" in caveat("spot") and "3 years" in caveat("reserved-3y") and caveat("on-demand") == ""
    assert (
        "1 year:" in caveat("reserved-1y")
        and "6 months" in caveat("reserved-6m")
        and "not an offer" in caveat("owned-neocloud")
    )
    assert (
        commitment("reserved-3y") == 3 * YEAR and commitment("reserved-6m") == 6 * MONTH and commitment("spot") is None
    )
    assert "interrupted" in rented(term="spot").caveats[0] and "interrupted" in rented(term="spot").kinds[0].basis
    assert "2026-11-01" in rented().kinds[0].basis and "made up" in rented().kinds[0].basis


def test_impossible_fleets_are_refused() -> None:
    with pytest.raises(SpecError, match=r"18.52 GPUs at work, but only 16 serve"):
        fleet_bill(Fleet(peak=16), LOAD, rent(price()))
    for wrong in (
        {"peak": 0},
        {"peak": -1},
        {"peak": 4, "spares": -1},
        {"peak": float("nan")},
    ):
        with pytest.raises(SpecError):
            Fleet(**wrong)
    with pytest.raises(SpecError, match="not negative"):
        replace(LOAD, queries_per_month=-1)
    with pytest.raises(SpecError, match="write one of second"):
        rented().per("fortnight")
    with pytest.raises(SpecError, match="more cached than sent"):
        Tokens(input=1, output=1, cached=2)


def test_lines_of_a_bill_sum_to_its_total_by_use_and_by_kind() -> None:
    bill = owned()
    for view in ("use", "kind"):
        lines = bill.lines_per("month", view)
        assert lines and sum(line.amount for line in lines) == pytest.approx(bill.per("month"))
    assert replace(bill, load=replace(LOAD, queries_per_month=0)).lines_per("query") is None


# -- energy ---------------------------------------------------------------------------------------


def test_energy_of_a_query() -> None:
    """30 s at 700 W are 21 kJ, 5.83 Wh."""
    draw = Draw(busy=700, idle=100, basis="", measured=True, source=SOURCE)
    lines = query_energy({"prefill": 10.0, "decode KV": 20.0}, {"idle": 5.0}, draw)
    assert [(line.name, line.amount) for line in lines] == [("prefill", 7000), ("decode KV", 14_000), ("idle", 500)]
    assert sum(line.amount for line in lines) == draw.query(30.0, 1 / 3, 5.0)
    assert show_energy(21_000) == "5.83 Wh" and show_energy(1.7 * KWH) == "1.70 kWh" and show_energy(3.6) == "1.00 mWh"


def test_a_measured_profile_says_what_each_part_draws() -> None:
    raw = {"idle": "70 W", "gemm": {"power": "690 W"}, "copy": {"power": "410 W", "joules_per_byte": "1e-10"}}
    draw = measured_draw(raw, SOURCE, "mine.yaml")
    assert draw.measured and (draw.at("prefill"), draw.at("decode KV"), draw.at(None)) == (690, 410, 70)
    assert draw.at("overhead") == 410 and draw.at("") == 550 and "690 W" in draw.basis
    with pytest.raises(SpecError, match=r"mine.yaml: energy: expected idle, gemm: power"):
        measured_draw({"idle": "70 W"}, SOURCE, "mine.yaml")
    with pytest.raises(SpecError, match="a power such as"):
        measured_draw({**raw, "idle": "70 V"}, SOURCE, "mine.yaml")


def test_without_a_profile_the_draw_is_marked_an_assumption() -> None:
    draw = rated_draw(H100, catalog.ownership())
    assert draw is not None and not draw.measured and draw.basis.startswith("assumption: 75 % of h100-sxm's 700 W")
    assert draw.source.kind == "assumption" and draw.at("prefill") == 525 and draw.at(None) == pytest.approx(105)


# -- APIs and break-even --------------------------------------------------------------------------


def test_what_an_api_charges() -> None:
    """130,000 in and 500 out at 1.25 / 5 per million are 16.5 cents; 2.50 / 10 above 128,000 doubles it."""
    both = [p for p in catalog.api_file("google") if p.model == "gemini-1.5-pro"]
    assert [api_cost(p, Tokens(input=100_000, output=500)) for p in both] == pytest.approx([0.1275, 0.255])
    chosen = {n: applicable(both, Tokens(input=n, output=500), "2026-11-24") for n in (100_000, 128_000, 130_000)}
    assert {n: [p.above for p in found] for n, found in chosen.items()} == {
        100_000: [0],
        128_000: [0],
        130_000: [128_000],
    }
    assert applicable(both, Tokens(input=10, output=1), "2024-01-01") == ()
    # cached tokens at their own price, else at the input's
    half = Tokens(input=1000, output=0, cached=500)
    assert api_cost(api(cached=1e-7), half) == pytest.approx(5.5e-4) and api_cost(api(), half) == pytest.approx(1e-3)


def test_the_cheapest_api_comes_first_and_an_unknown_price_last() -> None:
    found = applicable(
        [api(model="x", input=None), api(model="a"), api(model="b", input=5e-7)],
        Tokens(input=10, output=1),
        "2026-02-01",
    )
    assert [p.model for p in found] == ["b", "a", "x"]


#: 1,000 tokens in at 1 USD a million: a tenth of a cent a query, 30.4375 USD a month for 1,000 a day
ONE = Tokens(input=1000, output=0)


def test_break_even_of_one_fleet() -> None:
    """3,043.75 USD a month is what 100,000 queries a day cost at a tenth of a cent."""
    found = break_even([(500_000, 3043.75)], api(), ONE)
    assert found.queries_per_day == pytest.approx(100_000) == found.first and found.reason == ""
    assert found.api_per_query == pytest.approx(0.001)
    never = break_even([(50_000, 3043.75)], api(), ONE)
    assert never.queries_per_day is None and never.reason == "up to 50,000 queries a day the API is cheaper"


def staircase(serves: float, costs: float, *, spares: float = 0.0, most: int = 64) -> list[tuple[float, float]]:
    """Return the table of fleets of 1 to `most` replicas.

    One serves so many queries a day at its peak load and costs so many USD a month; `spares` replicas serve none.
    """
    return [(n * serves, (n + spares) * costs) for n in range(1, most + 1)]


def test_break_even_of_a_staircase() -> None:
    """Each replica serves 150,000 a day for 3,043.75 a month, and there is one spare.

    One replica and a spare cost as 200,000 queries do, more than the one serves; two and a spare as 300,000, all they
    serve; three and a spare as 400,000 of their 450,000; four and a spare as 500,000 of 600,000.
    """
    found = break_even(staircase(150_000, 3043.75, spares=1, most=4), api(), ONE)
    assert found.first == pytest.approx(400_000) and found.always == pytest.approx(500_000) and found.until == 600_000
    # without a spare hosting is cheaper from 100,000 to 150,000, where the second replica starts, and from 200,000 on
    steps = break_even(staircase(150_000, 3043.75, most=4), api(), ONE)
    assert steps.first == pytest.approx(100_000) and steps.always == pytest.approx(200_000)
    # a dear last step: cheaper once, but not for good
    lost = break_even([(150_000, 3043.75), (160_000, 30_000)], api(), ONE)
    assert lost.first == pytest.approx(100_000) and lost.always is None and "not at all volumes" in lost.reason
    # a fleet that is always cheaper
    assert break_even([(10.0, 0.0)], api(), ONE).always == 0


@given(
    cost=st.floats(10, 1e5), serves=st.floats(100, 1e6), spares=st.integers(0, 3), most=st.integers(1, 20),
    at=st.floats(0, 1),
)  # fmt: skip
def test_above_the_break_even_hosting_is_cheaper(cost: float, serves: float, spares: int, most: int, at: float) -> None:
    table = staircase(serves, cost, spares=spares, most=most)
    found = break_even(table, api(), ONE)

    def hosting(volume: float) -> float:
        return next(usd for most, usd in table if volume <= most)

    charge = 0.001 * MONTH / DAY
    if found.always is not None:
        volume = found.always + (found.until - found.always) * at
        assert hosting(min(volume * (1 + 1e-9) + 1e-9, found.until)) <= volume * charge * (1 + 1e-6) + 1e-6
    if found.first is not None:
        volume = found.first * at
        assert hosting(volume) >= volume * charge * (1 - 1e-9)


def test_break_even_with_an_api_of_no_charge_and_of_a_wrong_table() -> None:
    fleets = [(69_120.0, 4_000.0)]
    found = break_even(fleets, api(input=4e-6), ONE)
    assert break_even_document(found)["queries_per_day"] == found.always == pytest.approx(4_000 / 0.004 * DAY / MONTH)
    assert break_even(fleets, api(input=None), ONE).reason == "p m: no price known"
    assert break_even(fleets, api(input=None), ONE).always is None
    assert break_even(fleets, api(input=0.0, output=0.0), ONE).always is None
    assert break_even_document(break_even([(math.inf, 1.0)], api(), ONE))["until"] is None
    for wrong in ([], [(10.0, 5.0), (10.0, 6.0)], [(0.0, 1.0)]):
        with pytest.raises(SpecError, match="growing volumes"):
            break_even(wrong, api(), ONE)


# -- the files ------------------------------------------------------------------------------------


def test_every_figure_of_owning_has_a_meaning_and_a_source() -> None:
    terms = catalog.ownership()
    assert set(OWNERSHIP_MEANING) == set(OWNERSHIP_FIELDS) == set(terms.sources)
    assert all(s.kind in KINDS for s in terms.sources.values())
    assert {s.gpu for s in terms.servers} <= set(catalog.names("gpus"))


def test_a_file_of_the_users_own_is_completed_from_the_default(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        "name: ours\nsource: {kind: quote, ref: 'our supplier, offer 17', date: 2026-11-20}\n"
        "electricity: 0.21 USD/kWh\n"
        "life: {value: 5 year, source: {kind: quote, ref: 'our auditors', date: 2026-01-01}}\n"
        "servers:\n  - {gpu: h200, price: 320000 USD, gpus: 8}\n"
    )
    terms = catalog.ownership(str(path))
    assert terms.electricity * KWH == pytest.approx(0.21) and terms.life == 5 * YEAR and terms.pue == 1.25
    assert terms.sources["life"].ref == "our auditors" and terms.sources["electricity"].ref.startswith("our supplier")
    assert own(catalog.gpu("h200"), terms) is not None and own(H100, terms) is not None
    path.write_text(HEAD + "servers:\n  - {gpu: h100, price: 1000 USD, gpus: 8}\n")
    mine, known = catalog.ownership(str(path)).servers, catalog.ownership().servers
    assert {s.gpu for s in mine} == {s.gpu for s in known} and len(mine) == len(known) and mine[0].price == 1000


HEAD = "source: {kind: quote, ref: somebody said so, date: 2026-11-20}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pue: 1.2\n", "missing source"),
        (HEAD + "pue: 0.8\n", "pue: must be from 1 to 5"),
        (HEAD + "electricity: 0.08\n", "a price of electricity such as '0.08 USD/kWh'"),
        (HEAD + "colour: red\n", "no field named 'colour'; known: life"),
        (HEAD + "life: 4\n", "a time such as"),
        (HEAD + "pue: {value: 1.2}\n", "source must say kind, ref and date"),
        (HEAD + "servers: h200\n", "servers: expected a list"),
        (HEAD + "servers: [h200]\n", "server 1: expected fields"),
        (HEAD + "servers: [{gpu: h200, gpus: 8}]\n", "server 1: missing price"),
        (HEAD + "servers: [{gpu: h200, gpus: 8, price: free}]\n", "a sum such as '270,000 USD'"),
        (HEAD + "servers: [{gpu: h200, gpus: 2.5, price: 9 USD}]\n", "must be a whole number"),
        (HEAD + "servers: [{gpu: h2000, gpus: 8, price: 9 USD}]\n", "did you mean 'h200'"),
    ],
)
def test_a_wrong_ownership_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises((SpecError, UnknownName)) as refusal:
        catalog.ownership(str(path))
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: []\n", "missing source"),
        (HEAD, "missing prices"),
        (HEAD + "claims: []\n", "is a file of claims, which `kvplan audit` reads; expected a price list"),
        (HEAD + "prices: [{gpu: h100, price: 0 USD/h, from: 2026-11-01}]\n", "must be above zero"),
        (HEAD + "prices: [{gpu: h100, price: 2, from: 2026-11-01}]\n", "a price such as '2.49 USD/h'"),
        (HEAD + "prices: [{gpu: h100, price: 2 USD/h, from: soon}]\n", "a date such as 2026-11-23"),
        (HEAD + "prices: [{gpu: h100, price: 2 USD/h, from: 2026-11-01, term: cheap}]\n", "term: expected on-demand"),
    ],
)
def test_a_wrong_price_file_is_refused_in_one_line(run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    found = run("prices", "--prices", path)
    assert found.code == 1 and said in found.err and found.err.count("\n") == 1 and "ours.yaml" in found.err


def test_shipped_prices_are_read_as_strictly_as_a_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry without a term is on demand, one of another shape is refused by name."""
    from kvplan.catalog import fields
    from kvplan.catalog.costs import rental

    entry = {"gpu": "h200", "price": "3 USD/h", "from": "2026-01-01"}
    source = {"kind": "quote", "ref": "x", "date": "2026-01-01"}
    monkeypatch.setattr(rental, "names", lambda kind: ("lambda",))
    monkeypatch.setattr(fields, "document", lambda kind, name: {"source": source, "prices": [entry]})
    found = rental.prices.__wrapped__()
    assert [(p.provider, p.term, p.price * HOUR) for p in found] == [("lambda", "on-demand", pytest.approx(3))]
    del entry["price"]
    with pytest.raises(SpecError, match=r"lambda\.yaml: price 1: missing price"):
        rental.prices.__wrapped__()


def test_units_of_money() -> None:
    assert parse("270,000 USD", "USD") == 270_000 and parse("0.08 USD/kWh", "USD/J") * KWH == pytest.approx(0.08)
    assert parse("200 USD/kW/month", "USD/W/s") * 1000 * MONTH == pytest.approx(200)
    assert parse("0.88 USD/Mtok", "USD/token") * MILLION == pytest.approx(0.88)
    assert parse("730.5 USD/month", "USD/s") * HOUR == pytest.approx(1)


# -- kvplan prices --------------------------------------------------------------------------------

ON = ("--on", "2026-11-24")


def test_prices_show_date_source_and_age(run) -> None:
    rows = run("prices", "--gpu", "h100", "--json", *ON).json["prices"]
    by = {(r["provider"], r["term"]): r for r in rows}
    assert by["lambda", "on-demand"]["usd_per_hour"] == pytest.approx(3.99)
    assert by["lambda", "on-demand"]["age_days"] == 65 and not by["lambda", "on-demand"]["stale"]
    assert by["coreweave", "on-demand"]["age_days"] == 268 and by["coreweave", "on-demand"]["stale"]
    assert "interrupted" in by["nebius", "spot"]["caveat"]
    assert all(r["source"]["ref"] and r["from"] <= "2026-11-24" for r in rows)
    out = run("prices", "--gpu", "h100", *ON).out
    assert (
        "268 d old" in out
        and "last seen more than 120 days" in out
        and "Sources" in out
        and "commits for 3 years" in out
    )


def test_prices_of_a_day_are_those_that_held(run) -> None:
    def lambda_h100(day: str) -> list[float]:
        found = run("prices", "-g", "h100-pcie", "--provider", "lambda", "--json", "--on", day).json["prices"]
        return [r["usd_per_hour"] for r in found]

    assert lambda_h100("2024-01-01") == [pytest.approx(1.99)] and lambda_h100("2026-11-24") == [pytest.approx(3.29)]


def test_all_prices_are_shown(run) -> None:
    rows = run("prices", "--json", *ON).json["prices"]
    assert len(rows) == sum(p.current("2026-11-24") for p in catalog.prices())
    assert {r["term"] for r in rows} >= {"on-demand", "spot", "reserved-3y", "community", "owned-neocloud"}
    assert {r["term"] for r in run("prices", "--term", "spot", "--json", *ON).json["prices"]} == {"spot"}


def test_api_prices(run) -> None:
    rows = run("prices", "--apis", "--json", *ON).json["apis"]
    opus = next(r for r in rows if r["model"] == "claude-3-opus")
    assert (opus["usd_per_million_input"], opus["usd_per_million_output"]) == (15, 75)
    assert opus["usd_per_million_cached_input"] is None and opus["age_days"] == 111
    assert all(r["usd_per_million_input"] for r in rows) and all(r["source"]["ref"] for r in rows)
    out = run("prices", "--apis", *ON).out
    assert "> 128,000" in out and "$75.00" in out
    assert "old" in run("prices", "--apis", "--provider", "google", "--on", "2027-06-01").out


def test_an_api_of_the_users_own(run, tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(HEAD + "prices: [{model: big, output: 2 USD/Mtok, from: 2026-11-01}]\n")
    rows = run("prices", "--apis", "--prices", path, "--provider", "ours", "--json", *ON).json["apis"]
    assert [(r["usd_per_million_input"], r["usd_per_million_output"]) for r in rows] == [(None, 2)]
    path.write_text(HEAD + "prices: [{model: big, output: 2, from: 2026-11-01}]\n")
    refused = run("prices", "--apis", "--prices", path)
    assert refused.code == 1 and "ours.yaml: price 1: output: expected a price such as '0.88 USD/Mtok'" in refused.err


def test_api_names_and_what_they_serve() -> None:
    for p in catalog.apis():
        assert not p.serves or p.serves in catalog.names("models")
        assert date.fromisoformat(p.start) and (p.end is None or p.start < p.end)
        assert p.input and p.output and (p.cached is None or p.cached <= p.input) and p.output >= p.input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu", "h2000"), "did you mean 'h200'"),
        (("--term", "sopt"), "did you mean 'spot'"),
        (("--provider", "amazon"), "no provider named 'amazon'"),
        (("--provider", "theirs"), "no provider named 'theirs'; known:"),
        (("--apis", "--provider", "nobody"), "no API provider named 'nobody'"),
        (("--on", "tomorrow"), "--on: expected a date"),
        (("--gpu", "rtx-4090"), "no price for rtx-4090 is known on"),
        (("--gpu", "h100", "--on", "1999-01-01"), "is known on 1999-01-01; give your own with --prices FILE"),
        (("--apis", "--on", "1999-01-01"), "no API price is known on 1999-01-01"),
        (("--apis", "--gpu", "h100"), "leave them out"),
        (("--apis", "--refresh", "-o", "x.yaml"), "leave --own and --apis out"),
        (("--prices", "nothing.yaml"), "no such file"),
        (("--own", "--gpu", "l4"), "no price of a server with l4 is known"),
        (("--own", "./nothing.yaml"), "no such file"),
        (("--own", "--term", "spot"), "leave the others out"),
        (("--refresh",), "name the file to write with -o"),
        (("-o", "x.yaml"), "only --refresh writes a file"),
    ],
)
def test_prices_that_cannot_be_shown(run, arguments: tuple[str, ...], said: str) -> None:
    found = run("prices", *arguments)
    wrong_use = "out" in said or "leave" in said or "--refresh" in arguments or "-o" in arguments
    assert found.code == 1 + wrong_use and said in found.err and found.err.count("\n") == 1 and found.out == ""


def test_what_owning_takes_is_shown_with_sources(run, tmp_path: Path) -> None:
    found = run("prices", "--own", "--gpu", "h100", "--json", *ON).json
    hour = found["gpu_hours"]["h100-sxm"]
    assert sum(line["usd"] for line in hour["lines"]) == pytest.approx(hour["usd_at_work"])
    assert hour["usd_at_work"] > hour["usd_waiting"]
    assert all(f["source"]["ref"] and f["meaning"] for f in found["figures"].values())
    assert [(s["gpu"], s["stale"]) for s in found["servers"]] == [("h100-sxm", True)]
    out = run("prices", "--own", *ON).out
    assert (
        "last seen on 2023-05-31, 1,273 days ago" in out
        and "0.08 USD/kWh" in out
        and "An idle h100-sxm costs $1.94" in out
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text(HEAD + "electricity: 0.30 USD/kWh\n")
    mine.write_text(mine.read_text() + "servers: [{gpu: h200, price: 300000 USD, gpus: 8}]\n")
    assert "(2026-11-20); " not in run("prices", "--own", mine, "--gpu", "h200", *ON).out
    dearer = run("prices", "--own", mine, "--json", *ON).json
    assert dearer["gpu_hours"]["h100-sxm"]["usd_at_work"] > hour["usd_at_work"] and dearer["ownership"] == "mine"


def test_old_prices_say_so() -> None:
    assert old(price(), "2027-03-24", 120) == "" and "120 days" not in old(price(), "2026-12-24", 120)
    assert old(price(), "2027-03-25", 120).startswith(
        "the h100-sxm price of test was last seen on 2026-11-24, 121 days"
    )
    assert old(api(), "2027-06-01", 120).startswith("p's price of m") and old(BARE.servers[0], "2026-11-24", 120)


def test_no_price_is_still_a_document(run) -> None:
    found = run("prices", "--gpu", "rtx-4090", "--json", *ON)
    assert found.code == 1 and found.json["prices"] == [] and "rtx-4090" in found.err


@pytest.mark.parametrize(
    ("gpu", "day", "says"),
    [
        ("rtx-4090", "2026-11-24", "give one with --price 2.49/h\n"),
        ("gb300", "2026-11-24", "or write --term owned-hyperscaler or owned-neocloud or reserved-3y\n"),
        ("h100", "2020-01-01", "give one with --price 2.49/h, or write another --on\n"),
    ],
)
def test_only_terms_that_have_a_price_of_a_gpu_are_offered_for_it(run, gpu: str, day: str, says: str) -> None:
    found = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", gpu, "-t", "fp8", "--on", day)
    assert found.code == 1 and says in found.err and "spot" not in found.err


def test_age_counts_from_the_day_a_price_was_seen() -> None:
    assert age(price(), "2026-11-24") == 0 == age(price(), "2026-01-01") and age(price(), "2026-12-04") == 10


# -- offers ---------------------------------------------------------------------------------------


def test_the_median_of_an_even_number_of_offers_is_the_mean_of_the_middle_two() -> None:
    offers = [replace(price(usd), provider=f"p{usd:g}", gpus=8) for usd in (1.0, 2.0, 3.0, 9.0)]
    offers[2] = replace(offers[2], gpus=1, source=replace(SOURCE, ref="older", date="2026-01-02"), start="2026-11-03")
    found = median_offer(offers)
    assert found is not None and found.price * HOUR == pytest.approx(2.5)
    assert found.provider == "p2 and p3" and "mean of the middle two offers: p2 $2.00, p3 $3.00" in found.note
    assert found.source.date == "2026-01-02" and "older" in found.source.ref and "made up" in found.source.ref
    assert found.gpus == 1 and found.start == "2026-11-03"
    assert median_offer(offers[:3]) is offers[1] and median_offer(offers[:1]) is offers[0] and median_offer([]) is None


def test_a_typical_spread_is_that_of_gpus_with_several_offers() -> None:
    spread = typical_spread([[price(1.0), price(2.0), price(4.0)], [price(3.0), price(1.0)], [price(50.0)], []])
    assert spread == pytest.approx((0.5, 0.5, 1.0, 1.5, 2.0))
    assert upper_end(spread) == pytest.approx(1.8) and upper_end((0.2, 0.5)) == 1
    assert typical_spread([[price()]]) == (1.0,)


def test_servers_without_a_price_are_derived_from_published_costs_of_owning() -> None:
    """An hour of each costs what an H100's does times the ratio that a published model gives the two."""
    terms, published = catalog.ownership(), {p.gpu: p.price for p in catalog.prices() if p.term == "owned-neocloud"}
    base = own(H100, terms)
    for name in ("h200", "b200", "b300", "mi300x"):
        server, cost = terms.server(name), own(catalog.gpu(name), terms)
        assert server is not None and base is not None and cost is not None
        assert server.source.kind == "assumption" and server.gpus == cost.unit == 8
        assert cost.rate() / base.rate() == pytest.approx(published[name] / published["h100-sxm"], rel=2e-3)


def test_servers_are_paid_for_whole() -> None:
    cost = own(H100, catalog.ownership())
    assert cost is not None and [cost.whole(n) for n in (0, 1, 8, 9)] == [0, 8, 8, 16]
    rack = own(catalog.gpu("gb200"), catalog.ownership())
    assert rack is not None and rack.whole(4) == 72
    one, eight = rent(price()), rent(replace(price(), gpus=8))
    assert one.whole(3) == 3 and eight.whole(3) == 8 and "servers of 8 GPUs" in eight.caveats[0]
    by = {(p.provider, p.gpu): p.gpus for p in catalog.prices() if p.current("2026-11-24") and p.term == "on-demand"}
    assert by["aws", "h200"] == by["azure", "h100-sxm"] == 8 and by["nebius", "h200"] == by["aws", "t4"] == 1


def test_a_price_without_a_date_is_old() -> None:
    undated = replace(price(), source=replace(SOURCE, date=""))
    assert age(undated, "2026-11-24") is None and stale(undated, "2026-11-24", 10**6)
    assert not stale(price(), "2026-11-24", 120) and stale(price(), "2027-11-24", 120)
    assert old(undated, "2026-11-24", 120) == "the h100-sxm price of test has no date: check it"


# -- price lists of one's own ---------------------------------------------------------------------

CSV = """gpu,price,currency,rate,provider,term,from,gpus
h100,2.00,EUR,1.10,ours,on-demand,2026-11-01,8
b200,"5,000.5 USD/month",,,theirs,reserved-1y,,
"""


def test_a_price_list_is_a_table_or_a_document_in_any_currency(tmp_path: Path) -> None:
    table, document = tmp_path / "ours.csv", tmp_path / "ours.yaml"
    table.write_text(CSV)
    document.write_text(
        HEAD
        + "rates: {EUR: 1.10}\nprices:\n  - {gpu: h100, price: 2 EUR/h, from: 2026-11-01, gpus: 8, provider: ours}\n"
    )
    first, second = catalog.price_list([str(table)])
    (same,) = catalog.price_list([str(document)])
    assert first.price == same.price == pytest.approx(2.20 / HOUR) and first.gpus == same.gpus == 8
    assert (first.gpu, first.provider, first.term, first.start) == ("h100-sxm", "ours", "on-demand", "2026-11-01")
    assert second.price == pytest.approx(5000.5 / MONTH) and second.term == "reserved-1y"
    assert second.source.date == "" and second.start == "" and second.current("2020-01-01")
    assert first.yours and same.yours and first.source.ref == "ours.csv"
    table.write_text("gpu,price,rate\nh100,1461 EUR/month,1.10\n")
    (worded,) = catalog.price_list([str(table)])
    assert worded.price == pytest.approx(1461 * 1.10 / MONTH), "a currency in the price is the rate's"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu,price\nh100,2 EUR/h\n", "ours.csv: line 2: price: no rate of EUR is stated; write USD for one EUR"),
        ("gpu,price,currency\nh100,2,EUR\n", "no rate of EUR is stated"),
        ("gpu,price,currency,rate\nh100,2,EUR,dear\n", "ours.csv: line 2: rate: expected a plain number"),
        ("gpu,price\nh1000,2\n", "ours.csv: line 2: no GPU named 'h1000'"),
        ("gpu,price\nh100,\n", "ours.csv: line 2: missing price"),
        ("gpu,price\nh100,0\n", "must be above zero"),
        ("gpu,cost\nh100,2\n", "no field named 'cost'"),
        ("gpu\nh100\n", "ours.csv: missing price"),
        ("gpu,price,term\nh100,2,weekly\n", "term: expected on-demand"),
        ("gpu,price,from\nh100,2,soon\n", "a date such as 2026-11-23"),
        ("gpu,price,gpus\nh100,2,0\n", "gpus: must be"),
        ("gpu,price\n", "holds no rows"),
    ],
)
def test_a_wrong_table_of_prices_is_refused_in_one_line(run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(text)
    found = run("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100", "--prices", path)
    assert found.code == 1 and found.out == "" and said in found.err and found.err.count("\n") == 1, found.err


def test_your_prices_stand_in_every_plan(run, tmp_path: Path) -> None:
    """estimate, recommend, load and fleet cost what the list says, and what it leaves out stays as it was."""
    path, file, saved = tmp_path / "ours.csv", tmp_path / "fleet.yaml", tmp_path / "plan.json"
    path.write_text("gpu,price,from\nh100,1.00,2026-11-01\n")
    file.write_text("gpus: {h100: 16}\nworkloads: [{workload: chat, model: llama3.1-8b}]\nbuckets: 1\n")
    asked = {
        "estimate": ("estimate", "-m", "llama3.1-8b", "-c", "8k", "-g", "h100"),
        "recommend": ("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100"),
        "load": ("load", "-m", "llama3.1-8b", "-g", "h100", "--isl", "1000", "--osl", "100", "--concurrency", "8"),
        "fleet": ("fleet", file, "-t", "baseline"),
    }
    shelf = sorted(p.price * HOUR for p in catalog.offers("h100-sxm", "2026-11-24"))
    ratio = (shelf[2] + shelf[3]) / 2
    for name, words in asked.items():
        usual, mine = (run(*words, *ON, "--json", *more).json for more in ((), ("--prices", path)))
        costs = [cost_of(name, found) for found in (usual, mine)]
        assert costs[0] == pytest.approx(ratio * costs[1], rel=1e-6), name
    found = run(*asked["recommend"], *ON, "--prices", path, "--save", saved)
    assert "at your price of $1.00 per GPU-hour" in " ".join(found.out.split())
    kept = json.loads(saved.read_text())
    assert kept["question"]["values"]["prices"] == [str(path)]
    assert kept["recommended"]["price"]["usd_per_second"] == pytest.approx(1 / HOUR)
    assert kept["recommended"]["offers"][0]["source"]["ref"] == "ours.csv"
    both = run(*asked["recommend"], *ON, "--prices", path, "--price", "2/h")
    assert both.code == 2 and "--price, --prices: give one of them" in both.err
    other = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h200", *ON, "--json")
    again = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h200", *ON, "--json", "--prices", path)
    assert other.json["recommended"]["usd_per_query"] == again.json["recommended"]["usd_per_query"]


def cost_of(command: str, document: dict) -> float:
    """Return a cost that doubles where a GPU's price does."""
    if command == "estimate":
        return document["rows"][0]["usd_per_query"]
    if command == "recommend":
        return document["recommended"]["usd_per_query"]["p50"]
    if command == "load":
        return document["loads"][0]["usd_per_query"]
    return document["fleet"]["usd_per_month"] if "fleet" in document else document["usd_per_month"]


def test_an_undated_row_is_shown_as_old(run, tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text("gpu,price,provider\nh100,2.5,ours\n")
    row = run("prices", "--prices", path, "--provider", "ours", "--json", *ON).json["prices"][0]
    assert row["stale"] and row["age_days"] is None and row["source"]["date"] is None
    out = run("prices", "--prices", path, "--provider", "ours", *ON).out
    assert "no date" in out and "1 of 1 price" in out
    noted = run("recommend", "-w", "chat", "-m", "llama3.1-8b", "-g", "h100", "--prices", path, *ON).out
    assert "has no date: check it" in " ".join(noted.split())


# -- refreshing -----------------------------------------------------------------------------------


def offer(name: str, memory: float, instance: str, usd: float, count: int = 8, spot: bool = False) -> object:
    """Stand for gpuhunt's CatalogItem: the same fields."""
    return types.SimpleNamespace(
        provider="aws", instance_name=instance, location="us-east-1", price=usd, cpu=192, memory=2048.0,
        gpu_count=count, gpu_name=name, gpu_memory=memory, spot=spot, disk_size=None,
    )  # fmt: skip


OFFERS = [
    offer("H100", 80.0, "p5.48xlarge", 55.04), offer("H100", 80.0, "p5.48xlarge", 60.0),
    offer("H100", 80.0, "p5.48xlarge", 20.0, spot=True), offer("H100", 80.0, "gpu_1x_h100_pcie", 3.29, 1),
    offer("H100", 80.0, "mystery", 1.0, 1), offer("T1000", 8.0, "old", 0.1, 1), offer("H200", 141.0, "p5en", 0.0),
    offer("A100", 40.0, "gpu_1x_a100_pcie", 1.0, 1), offer("L4", 24.0, "g6.xlarge", 0.8, 1),
]  # fmt: skip


def fake(monkeypatch: pytest.MonkeyPatch, query: object) -> None:
    module = types.ModuleType("gpuhunt")
    module.query = query  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "gpuhunt", module)


def test_refreshed_prices_become_a_file_that_is_shown(run, monkeypatch, tmp_path: Path) -> None:
    asked = {}
    fake(monkeypatch, lambda **filters: asked.update(filters) or OFFERS)
    path = tmp_path / "today.yaml"
    found = run("prices", "--refresh", "-o", path, "--provider", "aws", "--gpu", "h100", "--gpu", "h100-pcie", "--json")
    assert found.code == 0 and asked == {"min_gpu_count": 1}
    assert "wrote 4 prices" in found.err and "4 offers of other or unclear GPUs" in found.err
    written = {(p.gpu, p.term): p for p in catalog.price_file(str(path))}
    assert set(written) == {
        ("h100-sxm", "on-demand"),
        ("h100-sxm", "spot"),
        ("h100-pcie", "on-demand"),
        ("l4", "on-demand"),
    }
    assert written["h100-sxm", "on-demand"].price * HOUR == pytest.approx(6.88)
    assert written["h100-sxm", "on-demand"].source.date == date.today().isoformat()
    assert "cheapest of 2: p5.48xlarge" in written["h100-sxm", "on-demand"].note
    assert [r["age_days"] for r in found.json["prices"]].count(0) == 3
    again = run("prices", "--prices", path, "--provider", "aws", "--gpu", "h100", "--json").json["prices"]
    assert 0 in [r["age_days"] for r in again]


def test_an_sxm_board_and_a_pcie_card_are_told_apart() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H100 PCIe": "h100-pcie", "Standard_ND96isr_H100_v5": "h100-sxm",
        "a3-highgpu-8g": "h100-sxm", "a3-megagpu-8g": "h100-sxm", "p5.48xlarge": "h100-sxm", "p4d.24xlarge": None,
        "somewhere": None,
    }  # fmt: skip
    for instance, ours in names.items():
        assert cloud.gpu_of(offer("H100", 80.0, instance, 1.0)) == ours  # type: ignore[arg-type]
    assert set(cloud.NAMES.values()) <= set(catalog.names("gpus"))
    assert {name for pair in cloud.FORMS.values() for name in pair} <= set(catalog.names("gpus"))


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("odd catalogue")])
def test_offline_is_one_line_and_writes_nothing(run, monkeypatch, tmp_path: Path, error: Exception) -> None:
    def query(**_: object) -> None:
        raise error

    fake(monkeypatch, query)
    found = run("prices", "--refresh", "-o", tmp_path / "x.yaml")
    assert found.code == 1 and "is this machine online?" in found.err and found.err.count("\n") == 1
    fake(monkeypatch, lambda **_: [])
    assert "nothing was written" in run("prices", "--refresh", "-o", tmp_path / "x.yaml").err
    assert not list(tmp_path.iterdir())


def test_without_gpuhunt_it_says_what_to_install(run, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gpuhunt", None)
    found = run("prices", "--refresh", "-o", tmp_path / "x.yaml")
    assert found.code == 1 and "pip install 'kvplan[prices]'" in found.err and found.err.count("\n") == 1
