"""A live server's load and times from its metrics page, beside what kvplan predicts for that load."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvplan import catalog
from kvplan.api import values
from kvplan.api.server_rows import RowFile, profile_of
from kvplan.catalog.metrics import address, scrape
from kvplan.catalog.tables import write_csv
from kvplan.errors import SpecError
from kvplan.measuring.benchmarks.fields import SETTABLE
from kvplan.measuring.serving.metrics import Observed, observed, row_of
from kvplan.measuring.serving.reading import read_server

if TYPE_CHECKING:
    from kvplan.measuring.serving.predict import PredictedRow

#: time between two looks [s]
WINDOW = 30.0
#: what a page does not say, and a prediction needs
UNSAID = ("gpu", "tp")


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One window: what was observed, and what is predicted for it or why nothing is."""

    observed: Observed  #: the load and the times
    row: Mapping[str, str]  #: the same as an end-to-end row, with what the user said of the server
    predicted: "PredictedRow | None"  #: TTFT and TPOT with their 80 % intervals
    reason: str  #: why nothing is predicted, '' where something is
    profile: str  #: the profile of servers it rests on


def watch(
    url: str,
    *,
    window: float | str = WINDOW,
    count: int | None = None,
    settings: str | Iterable[str] | Mapping[str, object] = (),
    profiles: str | Iterable[str] = (),
    wait: Callable[[float], None] | None = None,
) -> Iterator[Watched]:
    """Yield a server's load and times in every window, beside the prediction; endless unless a `count` is given.

    `settings` say what the page does not: the GPU and tp, as in 'gpu=h100'. Raises KvplanError for an address that
    does not answer, a page of another kind, and a window in which too few requests ended.
    """
    place, length = address(values.word(url, "url")), values.seconds(window, "window")
    given, named = said(values.settings(settings)), values.several(profiles, "profiles")
    profile, done = profile_of(named), 0
    before = scrape(place)
    while count is None or done < count:
        (wait or time.sleep)(length)
        after = scrape(place)
        yield beside(observed(before, after), given, profile.name, named)
        before, done = after, done + 1


def said(given: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the user says of a server; raise SpecError for a column that cannot be said."""
    if unknown := [column for column in given if column not in SETTABLE]:
        raise SpecError(f"settings={unknown[0]}: no column to set; known: {', '.join(SETTABLE)}")
    return given


def beside(o: Observed, given: Mapping[str, str], name: str, profiles: Iterable[str]) -> Watched:
    """Return what was observed beside its prediction."""
    from kvplan.measuring.serving.predict import PredictedRow, predict

    row = {**row_of(o), **given}
    if missing := [column for column in UNSAID if column not in row]:
        reason = f"say what the page does not: settings={missing[0]}=..."
        return Watched(observed=o, row=row, predicted=None, reason=reason, profile=name)
    read = read_server(row, 1, catalog.model, catalog.gpu, True)
    (made,) = predict([read], profile_of(list(profiles)), catalog.fitted_engine())
    if isinstance(made, PredictedRow):
        return Watched(observed=o, row=row, predicted=made, reason="", profile=name)
    return Watched(observed=o, row=row, predicted=None, reason=made.reason, profile=name)


def looked(url: str, window: float | str, given: Mapping[str, str]) -> RowFile:
    """Return one window of a server as a table of one end-to-end row, for a fit."""
    (seen,) = watch(url, window=window, count=1, settings=given)
    read = read_server(seen.row, 1, catalog.model, catalog.gpu, True)
    return RowFile(name=address(url), columns=list(seen.row), raw=[dict(seen.row)], rows=[read], noun="load")


def saved(windows: Iterable[Watched], output: str) -> None:
    """Write windows as end-to-end rows, a file that predict, validate and calibrate read."""
    rows = [dict(w.row) for w in windows]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_csv(output, columns, rows)
