"""A live server's load and times from its metrics page, beside what kvplan predicts for that load."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from kvplan import catalog
from kvplan.api import values
from kvplan.api.server_rows import RowFile, profile_of
from kvplan.catalog.rows.samples import must_be_writable
from kvplan.catalog.rows.tables import write_csv
from kvplan.catalog.servers.metrics import address, is_here, scrape
from kvplan.catalog.servers.metrics_range import endpoint, history, labelled
from kvplan.errors import SpecError, WrongUse, meant
from kvplan.measuring.benchmarks.stated import check_spread, check_stated
from kvplan.measuring.device.nvml import Meter, every
from kvplan.measuring.metrics import Observed, Spent, gauges_of, observed, row_of, samples_of, spent
from kvplan.measuring.serving.reading import read_server
from kvplan.measuring.serving.rows import Refused

if TYPE_CHECKING:
    from kvplan.measuring.serving.predict import PredictedRow

#: time between two looks [s]
WINDOW = 30.0
#: what is told of a window with a restart
ANEW = "the server was started anew within the window: it is counted from there"
#: windows left out that are told one by one
MOST_TOLD = 5
#: what a page does not say, and a prediction needs
UNSAID = ("gpu", "tp")
#: a load with which it is tried whether what a user says of a server can be read
TRIED = {"model": "llama3.1-8b", "engine": "vllm", "gpu": "h100", "isl": "1", "osl": "2", "concurrency": "1", "tp": "1"}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One window: what was observed, and what is predicted for it or why nothing is."""

    observed: Observed  #: the load and the times
    row: Mapping[str, str]  #: the same as an end-to-end row, with what the user said of the server
    predicted: "PredictedRow | None"  #: TTFT and TPOT with their 80 % intervals
    reason: str  #: why nothing is predicted, '' where something is
    profile: str  #: the profile of servers it rests on
    server: str = ""  #: instance of a Prometheus server's target, '' for the server that was asked
    ended: float | None = None  #: end of the window, seconds since 1970; None for now
    spent: Spent | None = None  #: power and energy of this machine's GPUs, None where nobody says


@dataclass(frozen=True, kw_only=True)
class StatedServer:
    """What a user says of a server, and what its predictions rest on."""

    settings: Mapping[str, str]  #: columns of an end-to-end row that no page has: the GPU, tp ...
    profiles: tuple[str, ...]  #: profiles of servers that were named, none for the shipped one
    profile: str  #: name of the profile that is used


@dataclass(frozen=True, kw_only=True)
class KeptRange:
    """What is asked of a Prometheus server: windows from one moment to another, of servers under some labels."""

    place: str  #: address of the Prometheus server
    labels: Mapping[str, str]  #: label -> value that a server's series have
    begin: float  #: seconds since 1970 [s]
    end: float  #: seconds since 1970 [s]
    length: float  #: of a window [s]


def watch(
    url: str | None = None,
    *,
    window: float | str = WINDOW,
    count: int | None = None,
    settings: str | Iterable[str] | Mapping[str, object] = (),
    profiles: str | Iterable[str] = (),
    output: str | None = None,
    prometheus: str | None = None,
    since: str | None = None,
    until: str | None = None,
    select: str | Iterable[str] = (),
    wait: Callable[[float], None] | None = None,
    meters: Sequence[Meter] | None = None,
    told: Callable[[str], None] | None = None,
) -> Iterator[Watched]:
    """Yield a server's load and times in every window, beside the prediction; endless unless a `count` is given.

    `settings` say what the page does not: the GPU and tp, as in 'gpu=h100'. With the address of a `prometheus` server
    in place of a `url` the windows are those it kept from `since` to `until` (now, now-2h, 2026-11-29T10:00), of every
    server under the labels that `select` names (job=vllm); `told` hears of those that say too little, and of restarts.
    All but the server is checked before the first look, also whether `output` can be written. Raises KvplanError for an
    address that does not answer, a page of another kind, and a window in which too few requests ended.
    """
    length = values.seconds(window, "window")
    given = checked(values.settings(settings))
    named = values.several(profiles, "profiles")
    stated = StatedServer(settings=given, profiles=named, profile=profile_of(named).name)
    tell = told or silent
    if output is not None:
        must_be_writable(output)
    if (url is None) == (prometheus is None):
        raise WrongUse("url, prometheus: give one of them: a server's own address, or a Prometheus server's")
    if prometheus is not None:
        if count is not None:
            raise WrongUse("count, prometheus: a range has as many windows as it holds; leave count out")
        kept = KeptRange(
            labels=values.settings(select, "select"),
            place=endpoint(prometheus),
            begin=values.instant(since, "since"),
            end=values.instant(until, "until"),
            length=length,
        )
        if since is None or kept.end - kept.begin < length:
            raise SpecError("since, until: name a range of at least one window, as in since=now-2h")
        return kept_windows(kept, stated, tell)
    if since or until or select:
        raise WrongUse("since, until, select: are of a Prometheus server; give prometheus=http://localhost:9090")
    place = address(values.word(url, "url"))
    if meters is None:
        meters = every() if is_here(place) else []
    return windows(place, length, count, stated, wait or time.sleep, meters, tell)


def silent(_: str) -> None:
    """Tell nobody."""


def windows(
    place: str,
    length: float,
    count: int | None,
    stated: StatedServer,
    wait: Callable[[float], None],
    meters: Sequence[Meter],
    told: Callable[[str], None],
) -> Iterator[Watched]:
    """Yield window after window of a live server."""
    done = 0
    before = scrape(place)
    read = [m.read() for m in meters]
    while count is None or done < count:
        wait(length)
        after = scrape(place)
        now = [m.read() for m in meters]
        o = observed(before, after)
        if o.restarted:
            told(ANEW)
        yield beside(o, stated, spent=None if o.restarted else spent(o, read, now))
        before = after
        read = now
        done += 1


def kept_windows(asked: KeptRange, stated: StatedServer, told: Callable[[str], None]) -> Iterator[Watched]:
    """Yield the windows that a Prometheus server kept; one in which too few requests ended is left out, and told.

    Raises SpecError where it kept none that says anything.
    """
    left: list[str] = []
    count = 0
    why = ""
    place = asked.place
    kept = history(place, samples_of(), asked.labels, asked.begin, asked.end, asked.length)
    if not kept:
        there = labelled(place, gauges_of(), asked.begin, asked.end)
        raise SpecError(f"prometheus: {place}: {why_none(asked.labels, there)}")
    if len(kept) > 1:
        told(f"{len(kept)} servers, each by itself: {listed(kept)}; select=instance={next(iter(kept))} reads one alone")
    for server, looks in kept.items():
        for before, after in pairwise(looks):
            try:
                o = observed(before, after)
            except SpecError as lacking:
                why = str(lacking).removeprefix("metrics: ")
                left.append(f"{server or 'the server'} until {moment(after.at)}: {why.partition(';')[0]}")
                continue
            count += 1
            if o.restarted:
                told(f"{server or 'the server'} until {moment(after.at)}: {ANEW}")
            yield beside(o, stated, server=server, ended=after.at)
    if not count:
        raise SpecError(f"prometheus: {place}: {why or 'one look at a server is no window; name a longer range'}")
    for line in left[:MOST_TOLD]:
        told(f"left out: {line}")
    if len(left) > MOST_TOLD:
        told(f"left out: {len(left) - MOST_TOLD} more such windows")


def why_none(labels: Mapping[str, str], there: Sequence[Mapping[str, str]]) -> str:
    """Return why no series were found under some labels, and what there is in their place."""
    if not there:
        return "no vLLM or SGLang server's metrics are kept there in this range; name another range with since="
    for name, value in labels.items():
        values_there = sorted({series[name] for series in there if name in series})
        if value not in values_there:
            held = sorted({label for series in there for label in series})
            some = f"there are {listed([f'{name}={v}' for v in values_there])}" if values_there else (
                f"series there have the labels {listed(held)}{meant(name, held)}"
            )  # fmt: skip
            return f"select: no series has {name}={value}{meant(value, values_there)}; {some}"
    return f"select: no series has all of {', '.join(f'{n}={v}' for n, v in labels.items())} at once; name fewer labels"


def listed(names: Iterable[str]) -> str:
    """Return names, the first few of many."""
    known = list(names)
    more = f" and {len(known) - MOST_TOLD} more" if len(known) > MOST_TOLD else ""
    return f"{', '.join(known[:MOST_TOLD])}{more}"


def moment(at: float) -> str:
    """Return a moment since 1970 as people read it: 2026-11-29T10:05:00, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def checked(given: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the user says of a server; raise SpecError for what cannot be said, or not be read."""
    check_stated(given)
    tried = read_server({**TRIED, **given}, 1, catalog.model, catalog.gpu, False, catalog.stated_engine)
    if isinstance(tried, Refused):
        raise SpecError(f"settings: {tried.reason}")
    check_spread(given if "model" in given else {}, [tried])
    return given


def beside(
    o: Observed, stated: StatedServer, *, server: str = "", ended: float | None = None, spent: Spent | None = None
) -> Watched:
    """Return what was observed beside its prediction."""
    row = {**row_of(o), **stated.settings}
    made, reason = prediction(row, stated.profiles)
    return Watched(
        observed=o,
        row=row,
        predicted=made,
        reason=reason,
        profile=stated.profile,
        server=server,
        ended=ended,
        spent=spent,
    )


def prediction(row: Mapping[str, str], profiles: Iterable[str]) -> "tuple[PredictedRow | None, str]":
    """Return what is predicted for an end-to-end row, or why nothing is."""
    from kvplan.measuring.serving.predict import PredictedRow, predict

    if missing := [column for column in UNSAID if column not in row]:
        return None, f"say what the page does not: settings={missing[0]}=..."
    read = read_server(row, 1, catalog.model, catalog.gpu, True, catalog.stated_engine)
    (made,) = predict([read], profile_of(list(profiles)), catalog.fitted_engine())
    return (made, "") if isinstance(made, PredictedRow) else (None, made.reason)


def rows_seen(seen: Sequence[Watched], name: str) -> RowFile:
    """Return windows of servers as a table of end-to-end rows, for a fit."""
    raw = [dict(w.row) for w in seen]
    rows = [
        read_server(row, n, catalog.model, catalog.gpu, True, catalog.stated_engine) for n, row in enumerate(raw, 1)
    ]
    columns = list(dict.fromkeys(column for row in raw for column in row))
    return RowFile(name=name, columns=columns, raw=[dict(row) for row in raw], rows=rows, noun="load")


def saved(windows: Iterable[Watched], output: str) -> None:
    """Write windows as end-to-end rows, a file that predict, validate and calibrate read."""
    rows = [dict(w.row) for w in windows]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_csv(output, columns, rows)
