"""`kvplan watch` and `calibrate --metrics`: pages of vLLM and SGLang from a local server, and what they say."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner
from metric_pages import ISL, MODEL, OSL, REQUESTS, SECONDS, TPOT, TTFT, served, sglang, vllm

import kvplan
from kvplan.api.watch import saved, watch
from kvplan.catalog.servers.metrics import address, parsed, scrape
from kvplan.cli import group
from kvplan.errors import KvplanError, SpecError
from kvplan.measuring.metrics import Spent, observed, percentile
from kvplan.report import watch as report
from kvplan.report.blocks import Table
from kvplan.specs.metrics import Scrape

SERVER = ("gpu=h100", "tp=1")


@pytest.fixture
def serve() -> Iterator:
    """Give a function that serves texts one after another on this machine and returns the address."""
    with ExitStack() as stack:
        yield lambda *pages, **how: stack.enter_context(served(*pages, **how))


def looks(first: str, second: str) -> tuple[Scrape, Scrape]:
    return Scrape(0.0, parsed(first, "text/plain", "x")), Scrape(SECONDS, parsed(second, "text/plain", "x"))


# -- what two looks say ---------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "engine"), [(vllm, "vllm"), (sglang, "sglang")])
def test_two_looks_give_the_load_and_the_times_between_them(page, engine: str) -> None:
    o = observed(*looks(page(300), page(300 + REQUESTS)))
    assert (o.engine, o.model, o.requests, o.rate) == (engine, MODEL, REQUESTS, 2.0)
    assert (o.prompt, o.output) == (ISL, OSL)
    assert o.ttft.mean == pytest.approx(TTFT) and o.tpot == pytest.approx(TPOT)
    assert o.in_flight == pytest.approx(2.0 * (TTFT + 200 * TPOT))  # Little's law
    assert (o.running, o.waiting, o.usage, o.prefix_hit, o.drafted) == (4.0, 1.0, 0.25, 0.0, False)
    assert o.ttft.p50 == pytest.approx(0.1 + 0.15 * 0.5) and o.gap is not None
    assert o.gap.mean == pytest.approx(TPOT) and o.gap.p50 is None  # beyond the last finite bound


def test_percentiles_are_straight_within_a_bucket() -> None:
    counts = {1.0: 50.0, 2.0: 90.0, float("inf"): 100.0}
    assert percentile(counts, 0.5) == 1.0 and percentile(counts, 0.7) == 1.5 and percentile(counts, 0.95) is None
    assert percentile({}, 0.5) is None and percentile({1.0: 0.0}, 0.5) is None


def test_replicas_of_one_server_are_summed() -> None:
    two = [page + page.replace('engine="0"', 'engine="1"').replace("# ", "# _ ") for page in (vllm(10), vllm(70))]
    o = observed(*looks(*two))
    assert o.requests == 120 and o.ttft.mean == pytest.approx(TTFT) and o.running == 8.0


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (vllm(300), vllm(302), "2 requests ended within 60 s"),
        (vllm(300), vllm(4), "4 requests ended within 60 s after the server was started anew"),
        ("up 1\n", "up 1\n", "neither vLLM's nor SGLang's metrics"),
        (
            vllm(0),
            vllm(9) + vllm(9).replace("Llama", "Lama"),
            r"is about 2 models \('meta-llama/Lama-3.1-8B-Instruct', .*select=model_name=NAME",
        ),
    ],
)
def test_looks_that_say_too_little_are_refused(first: str, second: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        observed(*looks(first, second))


def born(page: str, at: float) -> str:
    """Return a page that also says when its process was started, as Python's own client does."""
    return f"{page}# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {at}\n"


def test_counters_that_began_anew_are_counted_from_there_as_prometheus_does() -> None:
    """increase() over a reset is the last value: 120 requests after the restart, whatever there was before."""
    o = observed(*looks(vllm(300, ttft=9.0), vllm(REQUESTS)))
    assert o.restarted and (o.requests, o.prompt, o.output, o.rate) == (REQUESTS, ISL, OSL, REQUESTS / SECONDS)
    assert o.ttft.mean == pytest.approx(TTFT) and o.tpot == pytest.approx(TPOT) and o.preemptions == 2.0
    assert o.ttft.p50 == pytest.approx(0.1 + 0.15 * 0.5)
    assert not observed(*looks(vllm(300), vllm(420))).restarted


def test_a_counter_past_what_it_was_before_the_restart_is_of_the_restarted_server_too() -> None:
    """Fewer requests, but longer ones: sums of times are higher than before, and all of them are new."""
    o = observed(*looks(vllm(121), vllm(REQUESTS, ttft=2.0)))
    assert o.restarted and o.ttft.mean == pytest.approx(2.0) and o.in_flight == pytest.approx(2.0 * (2.0 + 200 * TPOT))


def test_one_replica_of_two_that_was_started_anew_leaves_the_other_as_it_is() -> None:
    def two(first: int, second: int) -> str:
        return vllm(first) + vllm(second).replace('engine="0"', 'engine="1"').replace("# ", "# _ ")

    o = observed(*looks(two(300, 300), two(20, 400)))
    assert o.restarted and o.requests == 120 and o.prompt == ISL


def test_the_load_after_a_restart_is_over_the_time_the_server_ran() -> None:
    """Started 30 s before the second look, in a window of 60 s."""
    first, second = looks(born(vllm(300), 1000.0), born(vllm(REQUESTS), 5000.0))
    o = observed(first, replace(second, wall=5030.0))
    assert (o.seconds, o.rate) == (30.0, 4.0) and o.in_flight == pytest.approx(4.0 * (TTFT + 200 * TPOT))
    for wall in (None, 4000.0, 9999.0):  # nobody says when, clocks that differ, a process older than the window
        assert observed(first, replace(second, wall=wall)).seconds == SECONDS


# -- pages over HTTP ------------------------------------------------------------------------------


def test_addresses() -> None:
    assert address("localhost:8000") == "http://localhost:8000/metrics"
    assert address("https://host/own/page?x=1") == "https://host/own/page?x=1"
    for wrong in ("file:///etc/passwd", "ftp://host/metrics", "http:///metrics"):
        with pytest.raises(SpecError, match="is no address"):
            address(wrong)


def test_both_formats_are_read_by_their_content_type(serve) -> None:
    plain = scrape(serve(vllm(7)))
    openly = vllm(7).replace("_total counter", " counter") + "# EOF\n"
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {(s.name, s.value) for s in scrape(serve(openly, kind=kind)).samples} == {
        (s.name, s.value) for s in plain.samples
    }


@pytest.mark.parametrize(
    ("page", "how", "reason"),
    [
        ("<html>", {"kind": "text/html"}, "is not a metrics page"),
        ("x", {"status": 404}, "answers 404"),
        ("x", {"status": 302}, "answers 302"),
        ("no end", {"kind": "application/openmetrics-text"}, "is not a metrics page"),
    ],
)
def test_what_is_no_page_is_said_in_one_line(serve, page: str, how: dict, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        scrape(serve(page, **how))


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    done = CliRunner().invoke(group, ["watch", "127.0.0.1:9", "--count", "1"])
    assert done.exit_code == 1 and isinstance(done.exception, KvplanError)
    assert "http://127.0.0.1:9/metrics does not answer" in str(done.exception)


# -- beside predictions ---------------------------------------------------------------------------


def at_once(url: str, **options: object) -> list:
    return list(watch(url, window=SECONDS, wait=lambda _: None, **options))  # type: ignore[arg-type]


def test_a_window_stands_beside_its_prediction(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, SECONDS)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    (seen,) = at_once(serve(vllm(300), vllm(420)), count=1, settings=SERVER)
    assert seen.observed.rate == 2.0 and seen.reason == "" and seen.predicted is not None
    rows = tmp_path / "rows.csv"
    saved([seen], str(rows))
    (told,) = kvplan.validate(str(rows)).few
    assert (seen.predicted.tpot, seen.predicted.ttft) == pytest.approx((told.tpot, told.ttft), rel=1e-4)
    assert told.row.tpot == pytest.approx(TPOT, rel=1e-4)
    (unknown,) = at_once(serve(vllm(300), vllm(420)), count=1)
    assert unknown.predicted is None and "settings=gpu" in unknown.reason


def test_a_page_has_the_load_first_then_times_then_power(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, SECONDS)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    (seen,) = at_once(serve(vllm(300), vllm(420)), count=1, settings=SERVER)
    powered = replace(seen, spent=Spent(gpus=1, power=612.0, energy=0.31))
    titles = [
        [b.title.partition(":")[0] for b in report.page([w]).blocks if isinstance(b, Table)] for w in (seen, powered)
    ]
    assert titles == [["Load", "Times"], ["Load", "Times", "Power of this machine's GPUs"]]


def test_prompts_from_the_prefix_cache_tell_no_ttft(serve) -> None:
    (seen,) = at_once(serve(vllm(300, kept=0.5), vllm(420, kept=0.5)), count=1)
    assert seen.row["ttft_ms"] == "" and seen.observed.prefix_hit == pytest.approx(0.5)


def test_plan_measure_calibrate_closes(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server slower than predicted moves its own prediction to within 5 % of what it measures."""
    clock = count(0.0, SECONDS)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("kvplan.api.watch.time.sleep", lambda _: None)
    pages = [serve(vllm(0, tpot=t), vllm(REQUESTS, tpot=t)) for t in (0.012, 0.0121, 0.0119)]
    rows = tmp_path / "rows.csv"
    profile = tmp_path / "mine.yaml"
    for n, page in enumerate(pages):
        words = ["watch", page, "--count", "1", "-o", str(tmp_path / f"{n}.csv"), "--json"]
        done = CliRunner().invoke(group, [*words, *(w for s in SERVER for w in ("--set", s))])
        assert done.exit_code == 0, done.output
    lines = [(tmp_path / f"{n}.csv").read_text().splitlines() for n in range(3)]
    rows.write_text("\n".join([lines[0][0], *(each[1] for each in lines)]) + "\n", "utf-8")
    kvplan.calibrate(str(rows), str(profile))
    server = serve(vllm(0, tpot=0.012), vllm(REQUESTS, tpot=0.012))
    (seen,) = watch(server, count=1, settings=SERVER, profiles=str(profile))
    assert seen.predicted is not None and seen.predicted.tpot == pytest.approx(0.012, rel=0.05)
    alone = kvplan.calibrate(
        metrics=serve(vllm(0, tpot=0.012), vllm(REQUESTS, tpot=0.012)), output=str(tmp_path / "one.yaml"),
        settings=SERVER,
    )  # fmt: skip
    assert alone.rows == 1


def test_the_command_prints_a_report_and_one_document(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, SECONDS)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("kvplan.api.watch.time.sleep", lambda _: None)
    words = ["watch", "--count", "2", *(w for s in SERVER for w in ("--set", s))]
    pages = (vllm(0), vllm(120), vllm(240))
    done = CliRunner().invoke(group, [*words, serve(*pages), "--json"])
    document = json.loads(done.stdout)
    assert [w["requests_per_second"] for w in document["windows"]] == [2.0, 2.0]
    first = document["windows"][0]
    assert first["ttft"]["mean"] == pytest.approx(TTFT) and first["tpot"]["mean"] == pytest.approx(TPOT)
    low, high = first["tpot"]["predicted_range"]
    assert low < first["tpot"]["predicted"] < high and first["kv_usage"] == 0.25 and first["preemptions"] == 2.0
    text = CliRunner().invoke(group, [*words, serve(*pages)]).stdout
    for shown in ("2 requests/s", "10.0 ms", "200.0 ms", "25 %", "1,000", "4.4"):
        assert shown in text
