"""What a Prometheus server kept, what GPUs took while a server was watched, and what is checked before any waiting."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from metric_pages import REQUESTS, TPOT, TTFT, served, vllm
from test_nvml import VALUES, Stub

import kvplan
from kvplan.api import values
from kvplan.api.watch import saved, watch
from kvplan.catalog.servers.metrics import parsed
from kvplan.catalog.servers.metrics_range import endpoint, history, matrix, selector
from kvplan.errors import KvplanError, SpecError, WrongUse
from kvplan.measuring.device.nvml import Reading, every
from kvplan.measuring.metrics import joules, observed, samples_of, spent
from kvplan.specs.metrics import Scrape

SERVER = ("gpu=h100", "tp=1")
#: 2026-11-29T10:00 UTC, and five minutes [s]
START, STEP = 1_795_946_400.0, 300.0
RANGE: dict[str, Any] = {"since": "2026-11-29T10:00", "until": "2026-11-29T10:10", "window": "5m", "settings": SERVER}


def kept(*servers: tuple[str, Callable[[int], str]], looks: int = 3) -> str:
    """Return an answer to a range query: pages of servers at each look, as series."""
    series: dict[str, dict] = {}
    for instance, page in servers:
        for n in range(looks):
            for s in parsed(page(n), "text/plain", "x"):
                metric = {"__name__": s.name, "instance": instance, "job": "vllm", **s.labels}
                one = series.setdefault(json.dumps(metric), {"metric": metric, "values": []})
                one["values"].append([START + n * STEP, str(s.value)])
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series.values())}})


def growing(n: int) -> str:
    return vllm(n * REQUESTS)


def test_a_range_gives_the_windows_of_every_server_by_itself() -> None:
    """Two servers behind one load balancer are two servers: their requests in flight do not add up."""
    with served(kept(("a:8000", growing), ("b:8000", lambda n: vllm(n * REQUESTS * 2)))) as url:
        seen = list(watch(prometheus=url.removesuffix("/metrics"), **RANGE))
    assert [(w.server, w.ended) for w in seen] == [
        (s, START + n * STEP) for s in ("a:8000", "b:8000") for n in (1, 2)
    ]  # fmt: skip
    for w in seen:
        assert w.observed.ttft.mean == pytest.approx(TTFT) and w.observed.tpot == pytest.approx(TPOT)
        assert w.predicted is not None and w.spent is None
    assert seen[0].observed.rate == REQUESTS / STEP and seen[2].observed.rate == 2 * REQUESTS / STEP


def test_windows_that_say_too_little_are_left_out_and_none_is_refused() -> None:
    """The server was started anew before the second look; nothing ended after it."""
    heard: list[str] = []
    with served(kept(("a", lambda n: vllm((900, 0, REQUESTS)[n])))) as url:
        (seen,) = watch(prometheus=url, told=heard.append, **RANGE)
    said = "0 requests ended within 300 s after the server was started anew, at least 5 are needed"
    assert heard == [f"left out: a until 2026-11-29T10:05:00: {said}"] and not seen.observed.restarted
    with (
        served(kept(("a", lambda n: vllm(5.0)))) as url,
        pytest.raises(SpecError, match="0 requests ended within 300 s"),
    ):
        list(watch(prometheus=url, **RANGE))
    with served(kept()) as url, pytest.raises(SpecError, match="no vLLM or SGLang server's metrics are kept there"):
        list(watch(prometheus=url, **RANGE))
    with served(kept(("a", growing), looks=1)) as url, pytest.raises(SpecError, match="one look at a server"):
        list(watch(prometheus=url, **RANGE))


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("job=vlm", "select: no series has job=vlm; did you mean 'vllm'?; there are job=vllm"),
        ("instance=c:1", "there are instance=a:8000, instance=b:8000"),
        ("jobb=vllm", "series there have the labels engine, instance, job, le, model_name; did you mean 'job'?"),
        ("job=vllm", "no series has all of job=vllm at once"),
    ],
)
def test_a_selection_of_nothing_is_told_what_there_is(run, select: str, said: str) -> None:
    """The first answer is of the selection, the second of all series of running requests."""
    span = ["--from", RANGE["since"], "--to", RANGE["until"], "--window", "5m", "--select", select]
    with served(kept(), kept(("a:8000", growing), ("b:8000", growing))) as url:
        done = run("watch", "--prometheus", url, *span)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and said in done.err, done.err


def test_several_servers_are_told_apart_and_how_to_read_one(run) -> None:
    span = ["--from", RANGE["since"], "--to", RANGE["until"], "--window", "5m"]
    with served(kept(("a:8000", growing), ("b:8000", growing))) as url:
        done = run("watch", "--prometheus", url, *span)
    assert (
        "--set gpu=..." in done.err
        and "2 servers, each by itself: a:8000, b:8000; --select instance=a:8000 reads one alone" in done.err
    ), done.err


def test_a_restart_within_a_window_is_said_and_the_rest_of_the_window_used(run, tmp_path: Path) -> None:
    words = ["--from", RANGE["since"], "--to", RANGE["until"], "--window", "5m", "--set", "gpu=h100", "--set", "tp=1"]
    pages = kept(("a:8000", lambda n: vllm((900, 1020, REQUESTS)[n])))
    with served(pages) as url:
        done = run("watch", "--prometheus", url, *words)
        windows = run("watch", "--prometheus", url, *words, "--json").json["windows"]
        fitted = run("calibrate", "--prometheus", url, *words, "-o", tmp_path / "mine.yaml", "--json")
    assert [w["restarted"] for w in windows] == [False, True] and [w["requests"] for w in windows] == [REQUESTS] * 2
    assert "a:8000 until 2026-11-29T10:10:00: the server was started anew within the window" in done.err
    assert "started anew within 1 window of 2 (a:8000 until 2026-11-29T10:10:00)" in " ".join(done.out.split())
    assert fitted.json["rows"] == 2 and "started anew" in fitted.err


def test_many_windows_that_are_left_out_are_told_in_a_few_lines() -> None:
    heard: list[str] = []
    with served(kept(("a", lambda n: vllm(5.0 + 200 * (n == 11))), looks=12)) as url:
        assert len(list(watch(prometheus=url, told=heard.append, **RANGE))) == 1
    assert len(heard) == 6 and heard[-1] == "left out: 5 more such windows"


def test_what_is_asked_of_a_prometheus_server() -> None:
    place = "http://localhost:9090"
    assert endpoint("localhost:9090") == endpoint(f"{place}/") == f"{place}/api/v1/query_range"
    assert endpoint("https://h/prom") == "https://h/prom/api/v1/query_range"
    for wrong in ("http://[::1", "localhost:99999", "ftp://h"):
        with pytest.raises(SpecError, match=r"prometheus: .* is no address"):
            endpoint(wrong)
    assert selector({"b", "a"}, {"job": 'x"y'}) == '{__name__=~"a|b",job="x\\"y"}'
    names = samples_of()
    assert "vllm:time_to_first_token_seconds_bucket" in names and "sglang:num_running_reqs" in names
    assert "vllm:time_to_first_token_seconds" not in names and "process_start_time_seconds" in names
    asked: list[str] = []

    def fetched(url: str, *_: str) -> tuple[str, str]:
        asked.append(url)
        return kept(), "application/json"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvplan.catalog.servers.metrics_range.fetched", fetched)
        assert history(place, {"a"}, {}, START, START + STEP, 60.0) == {}
    query = parse_qs(urlsplit(asked[0]).query)
    assert (query["start"], query["end"], query["step"]) == ([f"{START:.3f}"], [f"{START + STEP:.3f}"], ["60"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>", "no matrix of series"), ('{"status": "error", "error": "bad_data"}', "bad_data"),
        ('{"status": "success", "data": {"resultType": "vector", "result": []}}', "no matrix"), ("[1]", "no matrix"),
    ],
)  # fmt: skip
def test_what_is_no_range_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        matrix(text, "x")


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        ("2026-11-29T10:00", START),
        ("2026-11-29T11:00+01:00", START),
        ("2026-11-29", START - 36_000),
        ("2026-11-29T10:00Z", START),
    ],
)
def test_moments_are_utc_unless_they_say_so(word: str, moment: float) -> None:
    assert values.instant(word, "since") == moment
    assert values.instant("now", "until") - values.instant("now-2h", "since") == pytest.approx(7200, abs=5)
    with pytest.raises(SpecError, match="since: expected now"):
        values.instant("yesterday", "since")


def test_the_command_prints_a_range_and_calibrate_fits_it(run, tmp_path: Path) -> None:
    words = [w for s in SERVER for w in ("--set", s)]
    span = ["--from", RANGE["since"], "--to", RANGE["until"], "--window", "5m", *words]
    with served(kept(("a:8000", growing))) as url:
        done = run("watch", "--prometheus", url, *span, "-o", tmp_path / "rows.csv")
        document = run("watch", "--prometheus", url, *span, "--json").json
        fitted = run("calibrate", "--prometheus", url, *span, "-o", tmp_path / "mine.yaml", "--json").json
    assert "2026-11-29T10:05:00" in done.out and "a:8000" in done.out
    assert [w["server"] for w in document["windows"]] == ["a:8000"] * 2
    assert document["windows"][0]["ended"] == "2026-11-29T10:05:00" and document["windows"][0]["power"]["watts"] is None
    assert fitted["rows"] == 2 and len((tmp_path / "rows.csv").read_text("utf-8").splitlines()) == 3
    kvplan.validate(str(tmp_path / "rows.csv"), profiles=str(tmp_path / "mine.yaml"))


# -- power ----------------------------------------------------------------------------------------


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the real binding over a stub of the driver's library, with two GPUs."""
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    pynvml.nvmlLib = Stub(VALUES, several=True)
    yield pynvml
    pynvml.nvmlLib = None


def at_rest(joule: float | None, watt: float | None = 600.0) -> Reading:
    return Reading(energy=joule, power=watt)


def window_of(requests: int = REQUESTS, seconds: float = 60.0) -> Any:
    first, second = (Scrape(t, parsed(vllm(n), "text/plain", "x")) for t, n in ((0.0, 0), (seconds, requests)))
    return observed(first, second)


def test_energy_of_a_token_is_what_all_gpus_took_over_the_tokens_of_the_window() -> None:
    """Two GPUs of 30 and 18 kJ in 60 s: 800 W, over 120 x 201 tokens."""
    before, after = [at_rest(1000.0), at_rest(2000.0)], [at_rest(31_000.0), at_rest(20_000.0)]
    found = spent(window_of(), before, after)
    assert found is not None and (found.gpus, found.power) == (2, 800.0)
    assert found.energy == pytest.approx(48_000 / (REQUESTS * 201))
    assert joules(at_rest(None, 500.0), at_rest(None, 700.0), 60.0) == 36_000.0  # no counter: the mean power
    assert joules(at_rest(None, None), at_rest(None, None), 60.0) is None
    assert spent(window_of(), [at_rest(None, None), at_rest(0.0)], [at_rest(None, None), at_rest(9.0)]) is None
    assert spent(window_of(), [], []) is None


def test_the_gpus_of_this_machine_are_read_through_nvml(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = every(driver)
    assert len(meters) == 2 and meters[0].read().power == pytest.approx(612.345)
    clock = iter((0.0, 60.0))
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    with served(vllm(0), vllm(REQUESTS)) as url:
        (seen,) = watch(url, window="60s", count=1, settings=SERVER, wait=lambda _: None)
    assert seen.spent is not None and seen.spent.gpus == 2  # the counter stands still: by the power
    assert seen.spent.power == pytest.approx(2 * 612.345)


def test_the_report_shows_power_where_there_is_a_gpu(run, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 60.0) * 2)
    monkeypatch.setattr("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("kvplan.api.watch.time.sleep", lambda _: None)
    words = ["--count", "1", *(w for s in SERVER for w in ("--set", s))]
    with served(vllm(0), vllm(REQUESTS), vllm(0), vllm(REQUESTS)) as url:
        text, document = run("watch", url, *words).out, run("watch", url, *words, "--json").json
    assert "1,225 W" in text and "3.05 J" in text
    assert document["windows"][0]["power"]["joules_per_output_token"] == pytest.approx(
        2 * 612.345 * 60 / (REQUESTS * 201)
    )


def test_a_machine_without_a_gpu_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        NVMLError = OSError

        def nvmlInit(self) -> None:
            raise OSError

    assert every(Broken()) == []


# -- before any waiting ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settings": ("gpu=h10000",)}, "settings: no GPU named 'h10000'"),
        ({"settings": ("gpus=h100",)}, "no column to set"),
        ({"settings": ("tp=two",)}, "settings: tp"),
        ({"output": "no/such/folder/rows.csv"}, "cannot be written"),
        ({"output": "."}, "it is a folder"),
        ({"profiles": "nobody.yaml"}, "nobody.yaml"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_the_server_is_asked(options: dict[str, Any], said: str) -> None:
    """Nothing answers at this address: a message about it would mean that it was asked first."""
    with pytest.raises(KvplanError, match=said):
        watch("127.0.0.1:9", count=1, **options)


def test_calibrate_checks_its_output_before_it_waits(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be written"):
        kvplan.calibrate(metrics="127.0.0.1:9", output=str(tmp_path / "no" / "mine.yaml"), settings=SERVER)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give one of them"), ({"url": "x:1", "prometheus": "x:2"}, "give one of them"),
        ({"url": "x:1", "since": "now-2h"}, "of a Prometheus server"),
        ({"prometheus": "x:2", "count": 3}, "leave count out"),
    ],
)  # fmt: skip
def test_options_of_a_page_and_of_a_range_exclude_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongUse, match=said):
        watch(**options)


def test_a_range_needs_a_beginning_and_a_window(tmp_path: Path) -> None:
    for wrong in ({}, {"since": "now-1min", "window": "5m"}):
        with pytest.raises(SpecError, match="since"):
            watch(prometheus="x:1", **wrong)
    with pytest.raises(SpecError, match="10,000"):
        history("x:1", {"a"}, {}, 0.0, 1e6, 1.0)
    saved([], str(tmp_path / "none.csv"))
